//! Root, and no user namespace: what engines that run as root ask for. `scripts/test` runs these as root in a
//! mount namespace of their own, here and in the guest.

mod host_root;
mod idmapped;
mod scheduling;
mod watched;

use std::fs;
use std::path::Path;

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::lab::{Bundle, Call, Lab, NONE, PATIENCE, bryo_only, eventually, field};

/// A bundle without a user namespace. Started by anybody but root, a test of this module fails.
fn rootful(lab: &Lab) -> Bundle<'_> {
    assert!(geteuid().is_root(), "this test needs root; fix: scripts/test as root");
    lab.bundle().without_namespace("user").with(|c| {
        c["linux"]["uidMappings"] = Value::Null;
        c["linux"]["gidMappings"] = Value::Null;
    })
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn the_ids_inside_are_those_of_the_host() {
    let lab = Lab::new();
    let host = fs::read_to_string("/proc/self/uid_map").unwrap();
    rootful(&lab).args(["cat", "/proc/self/uid_map"]).run().prints(&host);
    // Of a user that root has not mapped, since there is nothing to map.
    let container = rootful(&lab)
        .with(|c| c["process"]["user"] = json!({ "uid": 54321, "gid": 12345 }))
        .sleeps()
        .detach();
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
    assert_eq!(field(&status, "Uid"), "54321\t54321\t54321\t54321");
    assert_eq!(field(&status, "Gid"), "12345\t12345\t12345\t12345");
    container.remove();
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn who_waits_for_start_holds_no_file_of_the_host() {
    bryo_only!("runc waits at a file in its state directory");
    let lab = Lab::new();
    let container = rootful(&lab).sleeps().create();
    let open = fs::read_dir(format!("/proc/{}/fd", container.pid())).unwrap();
    let held: Vec<_> = open
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_str().unwrap().parse::<u32>().unwrap() > 2)
        .map(|entry| fs::read_link(entry.path()).unwrap().display().to_string())
        .collect();
    // The channels, the one of `start` among them, the signals, and the container's own /proc.
    let fine = |name: &&String| {
        !(name.starts_with("socket:[")
            || name.starts_with("anon_inode:[")
            || *name == "/"
            || *name == "/proc")
    };
    assert_eq!(held.iter().filter(fine).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(container.status(), "created");
    container.start().ok();
    assert_eq!(container.status(), "running");
    container.remove();
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_container_goes_through_its_whole_life() {
    let lab = Lab::new();
    let container = rootful(&lab).waits().create();
    assert_eq!(container.status(), "created");
    container.start().ok();
    container.wait_for_output("ready");
    assert_eq!(container.status(), "running");
    container.exec(["cat", "/proc/1/comm", "/proc/self/comm"]).prints(
        "sh
cat
",
    );
    container.kill("TERM").ok();
    container.wait_until_stopped();
    container.delete().ok();
    assert!(lab.state_entries().is_empty());
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_device_is_made_with_its_number_mode_and_owner() {
    let lab = Lab::new();
    rootful(&lab)
        .with(|c| {
            c["linux"]["devices"] = json!([
                { "path": "/dev/moss", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8 },
            ]);
        })
        .with(|c| c["process"]["user"] = json!({ "uid": 7, "gid": 8, "umask": 0o077 }))
        .sh("stat -c '%F %t:%T %a %u:%g' /dev/moss; head -c 3 /dev/moss | od -A n -t x1")
        .run()
        .prints("character special file 1:5 640 7:8\n 00 00 00\n");
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn the_default_devices_are_nodes_and_not_binds_of_the_hosts() {
    let lab = Lab::new();
    let names = "/dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty";
    // The fifth field of a line is where it is mounted; a masked file shows a /dev/null as its fourth.
    let script = format!(
        "stat -c '%n %t:%T %a' {names}; for dev in {names}; do awk -v dev=$dev '$5 == dev' /proc/self/mountinfo; done"
    );
    let nodes = "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n\
                 /dev/urandom 1:9 666\n/dev/tty 5:0 666\n";
    rootful(&lab).sh(&script).run().prints(nodes);
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn nothing_that_is_mounted_inside_is_seen_outside() {
    let lab = Lab::new();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let container = rootful(&lab)
        .with(|c| {
            let caps = json!(["CAP_SYS_ADMIN"]);
            c["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
        })
        .sh("mount -t tmpfs inside /mnt && echo mounted && exec sleep 1000")
        .detach();
    container.wait_for_output("mounted");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    container.remove();
}

/// As the remount by mount(2) has it, but for the access time.
#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_bind_mount_keeps_the_flags_of_its_source_until_an_option_names_one() {
    let lab = Lab::new();
    let source = lab.dir.join("source");
    fs::create_dir(&source).unwrap();
    let flags = |options: &[&str]| {
        let volume = json!({ "destination": "/mnt", "type": "bind", "source": source, "options": options });
        let bundle = rootful(&lab).add_mount(volume).sh("grep ' /mnt ' /proc/self/mountinfo");
        let script =
            format!("mount -t tmpfs -o nosuid,nodev,noexec,noatime none {}; exec \"$@\"", source.display());
        let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", &script, "sh"];
        let shown = bundle.call("run", NONE).under(unshare).done().ok().stdout;
        shown.split(' ').nth(5).unwrap().to_owned()
    };
    assert_eq!(flags(&["bind"]), "rw,nosuid,nodev,noexec,noatime");
    assert_eq!(flags(&["rbind", "rprivate"]), "rw,nosuid,nodev,noexec,noatime");
    assert_eq!(flags(&["bind", "ro"]), "ro,noatime");
    assert_eq!(flags(&["bind", "rw", "nosuid"]), "rw,nosuid,noatime");
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn what_the_capabilities_leave_out_root_cannot_do() {
    let lab = Lab::new();
    let ran = rootful(&lab)
        .sh("grep CapEff /proc/self/status; mknod /dev/moss c 1 3; chown 1 /dev/shm; mount -t tmpfs x /mnt")
        .run();
    assert_ne!(ran.code(), 0);
    let refused = ran.stderr.to_lowercase();
    assert_eq!(
        refused.matches("operation not permitted").count() + refused.matches("permission denied").count(),
        3,
        "{ran:?}"
    );
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn the_state_of_root_is_in_run() {
    bryo_only!("every runtime has a directory of its own name");
    let lab = Lab::new();
    let bundle = rootful(&lab).sleeps();
    let id = lab.id();
    bundle.save();
    lab.bare_call(["run", "--detach", "--bundle"]).args([&bundle.dir]).args([&id]).done().ok();
    let entry = Path::new("/run/bryo").join(&id);
    assert!(entry.is_dir(), "{}", entry.display());
    // Root may have others.
    let listed = lab.bare_call(["list", "-q"]).done().ok().stdout;
    assert!(listed.lines().any(|line| line == id), "{listed}");
    lab.bare_call(["delete", "--force", &id]).done().ok();
    assert!(!entry.exists());
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_source_that_only_the_caller_reaches_is_shown_to_a_container_with_its_own_ids() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    // As Podman's directory of a container, when the container's root is not Podman's.
    let private = lab.dir.join("private");
    fs::create_dir(&private).unwrap();
    fs::write(private.join("hosts"), "of the host\n").unwrap();
    fs::set_permissions(private.join("hosts"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let bundle = lab.bundle().own_rootfs().with(|c| {
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
    });
    let bundle = bundle.add_mount(json!({ "destination": "/etc/passwd", "type": "bind",
        "source": private.join("hosts"), "options": ["bind", "ro"] }));
    fs::set_permissions(&lab.dir, fs::Permissions::from_mode(0o755)).unwrap();
    let ran = bundle.sh("cat /etc/passwd; id -u; echo x >> /etc/passwd").run();
    assert_eq!(ran.stdout, "of the host\n0\n", "{ran:?}");
    assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");
}

/// A bundle of its own root file system, to be written to.
fn rootful_layers(lab: &Lab) -> Bundle<'_> {
    let caps = json!(["CAP_DAC_OVERRIDE"]);
    rootful(lab).own_rootfs().with(|c| {
        c["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps })
    })
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn layers_of_root_are_those_of_the_machines_root() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let script =
        "echo moss > /moss; rm -r /etc; mkdir /etc; ls /etc; grep -c ' / / .*userxattr' /proc/self/mountinfo";
    let bundle = rootful_layers(&lab).sh(script);
    let ran = bundle.call("run", ["--ephemeral"]).done();
    assert_eq!(ran.stdout, "0\n", "{ran:?}");
    let kept = lab.dir.join("kept");
    bundle.call("run", ["--overlay", kept.to_str().unwrap()]).done().exits(1);
    assert!(kept.join("upper/moss").exists() && !bundle.rootfs().join("moss").exists());
    assert!(bundle.rootfs().join("etc/passwd").exists());
}

/// An overlay hides what is mounted beneath its layers, and nobody has asked for that.
#[test]
#[ignore = "needs root; scripts/test runs it"]
fn what_is_mounted_in_a_layer_is_shown_read_only_and_said() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let bundle = rootful_layers(&lab).sh("cat /srv/file; touch /srv/new");
    let srv = bundle.rootfs().join("srv");
    fs::create_dir(&srv).unwrap();
    let script = format!("mount -t tmpfs x {0} && echo mounted > {0}/file && exec \"$@\"", srv.display());
    let call = bundle.call("run", ["--ephemeral"]);
    let ran =
        call.under(["unshare", "--mount", "--propagation", "private", "sh", "-ec", &script, "sh"]).done();
    assert_eq!(ran.stdout, "mounted\n", "{ran:?}");
    assert!(ran.stderr.contains("FS-LOWER") && ran.stderr.contains("Read-only file system"), "{ran:?}");
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_directory_for_changes_belongs_to_the_root_of_the_container() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    fs::set_permissions(&lab.dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let bundle = lab.bundle().own_rootfs().sh("echo moss > /moss; cat /moss").with(|c| {
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
    });
    let kept = lab.dir.join("kept");
    let ran = bundle.call("run", ["--overlay", kept.to_str().unwrap()]).done();
    assert_eq!(ran.stdout, "moss\n", "{ran:?}");
    use std::os::unix::fs::MetadataExt;
    for path in ["", "upper", "upper/moss"] {
        assert_eq!(kept.join(path).metadata().unwrap().uid(), 100_000, "{path}");
    }
}

/// Its mounts are shared with the host as it has asked for, but for the one of its root.
#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_container_with_shared_mounts_leaves_none_on_the_host() {
    bryo_only!("runc's root is a shared mount of the host's as well, but hidden: it is private there");
    let lab = Lab::new();
    for options in [&[][..], &["--ephemeral"]] {
        let bundle = rootful_layers(&lab).with(|c| c["linux"]["rootfsPropagation"] = "rshared".into());
        let rootfs = bundle.rootfs();
        let script = format!(
            "mount --make-rshared / && \"$@\" && ! grep -F {} /proc/self/mountinfo",
            rootfs.parent().unwrap().display()
        );
        let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", &script, "sh"];
        bundle.call("run", options).under(unshare).done().ok();
    }
}

/// Layers that are two overlays deep already, and the device for who is not the machine's root.
fn with_fuse<'lab>(lab: &Lab, call: Call<'lab>) -> Call<'lab> {
    let dir = lab.dir.join("deep");
    fs::create_dir_all(&dir).unwrap();
    let script = format!(
        "mount -t tmpfs x {dir} && chmod 755 {dir} && cd {dir} && mkdir one two empty && \
         mount -t overlay o -o lowerdir={busybox}:empty one && mount -t overlay o -o lowerdir=one:empty two && \
         mknod fuse c 10 229 && chmod 666 fuse && touch /dev/fuse && mount --bind fuse /dev/fuse && cd / && exec \"$@\"",
        dir = dir.display(),
        busybox = crate::lab::busybox().display()
    );
    call.under(["unshare", "--mount", "--propagation", "private", "sh", "-ec", &script, "sh"])
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn fuse_overlayfs_serves_where_the_kernel_has_no_overlay_and_ends_with_the_container() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    fs::set_permissions(&lab.dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let user = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    for mapped in [false, true] {
        let bundle = if mapped {
            lab.bundle().with(|c| {
                c["linux"]["uidMappings"] = user.clone();
                c["linux"]["gidMappings"] = user.clone();
            })
        } else {
            rootful_layers(&lab)
        };
        let root = json!({ "path": lab.dir.join("deep/two"), "readonly": false });
        let bundle =
            bundle.with(|c| c["root"] = root).sh("echo moss > /moss; rm /bin/ls; cat /moss; sleep 1000");
        let id = format!("mapped-{mapped}-{}", lab.id());
        with_fuse(&lab, bundle.named_call("create", &id).args(["--ephemeral"])).done().ok();
        let state = lab.call(["state", &id]).done().ok().json();
        let degraded = state["degraded"].to_string();
        assert!(degraded.contains("fuse-overlayfs"), "{state}");
        let serving =
            || lab.processes().into_iter().filter(|(_, line)| line.starts_with("fuse-overlayfs[")).count();
        assert_eq!(serving(), 1, "{:?}", lab.processes());
        lab.call(["start", &id]).done().ok();
        let seen = || lab.call(["exec", &id, "cat", "/moss"]).done().stdout;
        assert!(eventually(PATIENCE, || seen() == "moss\n"));
        // Nobody inside sees who serves it.
        let inside = lab.call(["exec", &id, "ps"]).done().ok().stdout;
        assert!(!inside.contains("fuse-overlayfs"), "{inside}");
        lab.call(["kill", &id, "KILL"]).done().ok();
        assert!(eventually(PATIENCE, || serving() == 0), "{:?}", lab.processes());
        // The server may go as soon as nobody is left in the mount namespace, which is before init is dead.
        assert!(eventually(PATIENCE, || lab.call(["state", &id]).done().ok().json()["status"] == "stopped"));
        lab.call(["delete", &id]).done().ok();
    }
}

/// One that nobody looks after any more, and one that is ended under the container.
#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_delete_ends_what_still_serves_and_a_container_without_its_server_can_be_deleted() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let root = json!({ "path": lab.dir.join("deep/two"), "readonly": false });
    let bundle = rootful_layers(&lab).with(|c| c["root"] = root).sleeps();
    let id = lab.id();
    with_fuse(&lab, bundle.named_call("run", &id).args(["--ephemeral", "--detach"])).done().ok();
    let server = lab.processes().into_iter().find(|(_, line)| line.starts_with("fuse-overlayfs["));
    let (server, _) = server.unwrap_or_else(|| panic!("{:?}", lab.processes()));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server), nix::sys::signal::Signal::SIGKILL).unwrap();
    lab.call(["exec", &id, "ls"]).done().exits(255);
    lab.call(["delete", "--force", &id]).done().ok();
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn files_that_nobody_inside_owns_are_roots_by_fuse_overlayfs() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    fs::set_permissions(&lab.dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let user = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    let script =
        "stat -c %u /etc/passwd; rm -r /etc/passwd /usr; mkdir /usr; echo moss > /etc/moss; ls /etc /usr";
    let bundle = lab.bundle().own_rootfs().sh(script).with(|c| {
        c["linux"]["uidMappings"] = user.clone();
        c["linux"]["gidMappings"] = user;
    });
    let before = fs::metadata(bundle.rootfs().join("etc")).unwrap().modified().unwrap();
    let ran = with_fuse(&lab, bundle.call("run", ["--ephemeral"])).done();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("0\n/etc:\ngroup\nmoss\n\n/usr:\n", ""));
    assert_eq!(fs::metadata(bundle.rootfs().join("etc")).unwrap().modified().unwrap(), before);
}
