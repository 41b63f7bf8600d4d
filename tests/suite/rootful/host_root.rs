//! Containers without a mount namespace of their own: they have the caller's, and only their root is another.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::rootful;
use crate::lab::{Bundle, Lab, NONE, PATIENCE, bryo_only, eventually, is_peer};

/// A bundle that asks for it, with a root file system that nobody else mounts anything on.
pub fn on_host(lab: &Lab) -> Bundle<'_> {
    rootful(lab).own_rootfs().without_namespace("mount").with(|c| {
        c["linux"]["maskedPaths"] = Value::Null;
        c["linux"]["readonlyPaths"] = Value::Null;
    })
}

/// Where something is mounted below a directory, and the optional fields of each line, which name its peers.
fn mounts_below(dir: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let fields = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let below = fields.filter(|fields| Path::new(fields[4]).starts_with(dir));
    below
        .map(|fields| {
            let peers = fields[6..].iter().take_while(|field| **field != "-");
            (fields[4].to_owned(), peers.copied().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

fn mount(args: &[&str], dir: &Path) {
    assert!(Command::new("mount").args(args).arg(dir).status().unwrap().success());
}

/// What runc leaves, as its own tests unmount it.
fn unmount_what_a_peer_leaves(rootfs: &Path) {
    if is_peer() {
        assert!(Command::new("umount").args(["-R", "-l"]).arg(rootfs).status().unwrap().success());
    }
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn it_has_the_callers_mount_namespace_and_a_root_of_its_own() {
    let lab = Lab::new();
    let bundle = on_host(&lab).sh("cat /moss; ls /moss; exec sleep 1000");
    let rootfs = bundle.rootfs();
    fs::write(rootfs.join("moss"), "green\n").unwrap();
    let container = bundle.create();
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(namespace(&container.pid().to_string()), namespace("self"));
    // Before and after its start. The exec of a peer finds itself in the root of the host.
    if !is_peer() {
        container.exec(["cat", "/moss"]).prints("green\n");
    }
    container.start().ok();
    container.wait_for_output("green\n/moss\n");
    if !is_peer() {
        let script = "pwd; cat /moss; readlink /proc/1/cwd";
        container.exec_call(&["--cwd", "/tmp"], ["sh", "-c", script]).done().prints("/tmp\ngreen\n/\n");
    }
    // What it mounts is seen from outside.
    let proc = rootfs.join("proc").display().to_string();
    assert!(mounts_below(&lab.dir).iter().any(|(at, _)| *at == proc));
    container.kill("KILL").ok();
    container.wait_until_stopped();
    container.delete().ok();
    unmount_what_a_peer_leaves(&rootfs);
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn its_mounts_go_with_it_and_reach_no_other_namespace() {
    bryo_only!("runc leaves its mounts, and makes those of the host slaves");
    let lab = Lab::new();
    // As on a host with systemd, where all mounts are shared.
    mount(&["--bind", lab.dir.to_str().unwrap()], &lab.dir);
    mount(&["--make-private"], &lab.dir);
    mount(&["--make-shared"], &lab.dir);
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = mounts_below(&lab.dir);
    assert!(ours.iter().all(|(_, peers)| peers.starts_with("shared:")), "{ours:?}");
    let bundle = on_host(&lab);
    let rootfs = bundle.rootfs();
    // A mount in it, and somebody in another mount namespace that hears of all this.
    fs::create_dir(rootfs.join("within")).unwrap();
    mount(&["-t", "tmpfs", "tmpfs"], &rootfs.join("within"));
    let ours = mounts_below(&lab.dir);
    let mut peer = Command::new("unshare")
        .args(["--mount", "--propagation", "unchanged", "sleep", "1000"])
        .spawn()
        .unwrap();
    let table = format!("/proc/{}/mountinfo", peer.id());
    let of_peer = || {
        let text = fs::read_to_string(&table).unwrap();
        text.lines().filter(|line| line.contains(lab.dir.to_str().unwrap())).count()
    };
    let named = || fs::read_link(format!("/proc/{}/ns/mnt", peer.id())).unwrap();
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert!(eventually(PATIENCE, || named() != own));
    let heard = of_peer();
    let others = |lab: &Lab| {
        let mut all = mounts_below(&lab.dir);
        all.retain(|mount| !ours.contains(mount));
        all
    };

    let container = bundle.sleeps().detach();
    let made = others(&lab);
    assert!(
        made.len() > 3
            && made
                .iter()
                .all(|(at, peers)| Path::new(at).starts_with(&rootfs) && !peers.contains("shared:")),
        "{made:?}"
    );
    // Those of its own making as well.
    fs::create_dir(rootfs.join("more")).unwrap();
    mount(&["-t", "tmpfs", "tmpfs"], &rootfs.join("more"));
    container.remove();
    assert_eq!(others(&lab), []);

    on_host(&lab).args(["true"]).run().ok();
    assert_eq!(others(&lab), []);
    on_host(&lab).args(["/no/such/program"]).run().refuses(1, &["no such file"]);
    assert_eq!(others(&lab), []);
    let hook = json!({ "path": "/bin/false" });
    on_host(&lab).hook("createRuntime", hook).run().refuses(1, &["hook"]);
    assert_eq!(others(&lab), []);
    assert_eq!(of_peer(), heard);
    peer.kill().unwrap();
    peer.wait().unwrap();
    assert!(Command::new("umount").arg(rootfs.join("within")).status().unwrap().success());
    let here = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.contains(lab.dir.to_str().unwrap())).map(String::from).collect()
    };
    assert_eq!(here(&fs::read_to_string("/proc/self/mountinfo").unwrap()), here(&before));
    assert!(Command::new("umount").arg(&lab.dir).status().unwrap().success());
}

/// A mount that is shared takes part in what happens to its peers, and be it that they are unmounted.
#[test]
#[ignore = "needs root; scripts/test runs it"]
fn what_it_shows_of_the_host_stays_there() {
    bryo_only!("runc makes the mounts of the host slaves, and leaves its own");
    let lab = Lab::new();
    let volume = lab.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    mount(&["-t", "tmpfs", "tmpfs"], &volume);
    mount(&["--make-shared"], &volume);
    for name in ["within", "free"] {
        fs::create_dir(volume.join(name)).unwrap();
    }
    mount(&["-t", "tmpfs", "tmpfs"], &volume.join("within"));
    let before = mounts_below(&volume);
    assert!(before.len() == 2 && before.iter().all(|(_, peers)| peers.starts_with("shared:")), "{before:?}");
    for options in [&["rbind"][..], &["rbind", "rshared"], &["rbind", "rprivate"], &["bind", "ro"]] {
        let bundle = on_host(&lab);
        fs::create_dir_all(bundle.rootfs().join("srv")).unwrap();
        let bundle = bundle
            .add_mount(json!({ "destination": "/mnt", "source": volume, "options": options }))
            .with(|c| {
                let all = json!(["CAP_SYS_ADMIN", "CAP_MKNOD"]);
                c["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
            })
            .sh("mount -t tmpfs tmpfs /mnt/free && echo mounted && exec sleep 1000");
        let rootfs = bundle.rootfs();
        let container = bundle.detach();
        container.wait_for_output("mounted");
        // As a hook may do it.
        mount(&["--rbind", volume.to_str().unwrap()], &rootfs.join("srv"));
        assert_eq!(mounts_below(&volume), before, "{options:?}");
        container.remove();
        assert_eq!(mounts_below(&volume), before, "{options:?}");
    }
    assert!(Command::new("umount").args(["-R"]).arg(&volume).status().unwrap().success());
    assert_eq!(mounts_below(&lab.dir), []);
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_create_that_is_killed_leaves_mounts_that_delete_removes() {
    bryo_only!("runc leaves its mounts");
    let lab = Lab::new();
    for by_delete in [true, false] {
        let kills = lab.script("kills", "kill -KILL $PPID; sleep 0.2");
        let bundle = on_host(&lab).sleeps().named(&format!("killed{by_delete}"));
        let bundle = bundle.hook("createRuntime", json!({ "path": kills }));
        let ran = bundle.call("create", NONE).done();
        assert_eq!(ran.status.code(), None, "{}", ran.stderr);
        assert!(!mounts_below(&lab.dir).is_empty());
        if by_delete {
            lab.call(["delete", "--force", bundle.id()]).done().ok();
        } else {
            // Who takes the id next removes what is there.
            let other = rootful(&lab).sleeps().named(bundle.id()).create();
            other.remove();
        }
        assert_eq!(mounts_below(&lab.dir), []);
    }
    lab.forget_ids();
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn what_somebody_else_has_mounted_over_it_stays() {
    bryo_only!("runc leaves its mounts");
    let lab = Lab::new();
    let bundle = on_host(&lab).sleeps();
    let rootfs = bundle.rootfs();
    let container = bundle.detach();
    mount(&["-t", "tmpfs", "tmpfs"], &rootfs);
    let refused = container.call("delete", ["--force"]).done();
    refused.refuses(1, &["MNT-BUSY", "something else is mounted over it", "; fix: ", "umount "]);
    assert!(Command::new("umount").arg(&rootfs).status().unwrap().success());
    container.remove();
    assert_eq!(mounts_below(&lab.dir), []);

    // Where the bundle is by then makes no difference.
    let bundle = on_host(&lab).sleeps();
    let (dir, moved) = (bundle.rootfs().parent().unwrap().to_owned(), lab.dir.join("moved"));
    let container = bundle.detach();
    fs::rename(&dir, &moved).unwrap();
    fs::create_dir_all(dir.join("rootfs")).unwrap();
    mount(&["-t", "tmpfs", "tmpfs"], &dir.join("rootfs"));
    container.remove();
    let left: Vec<_> = mounts_below(&lab.dir).into_iter().map(|(at, _)| at).collect();
    assert_eq!(left, [dir.join("rootfs").display().to_string()]);
    assert!(Command::new("umount").arg(dir.join("rootfs")).status().unwrap().success());

    // Who has unmounted it has done our work.
    let bundle = on_host(&lab).sleeps();
    let rootfs = bundle.rootfs();
    let container = bundle.detach();
    assert!(Command::new("umount").args(["-R", "-l"]).arg(&rootfs).status().unwrap().success());
    mount(&["-t", "tmpfs", "tmpfs"], &rootfs);
    container.remove();
    assert_eq!(mounts_below(&lab.dir).len(), 1);
    assert!(Command::new("umount").arg(&rootfs).status().unwrap().success());
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn what_a_killed_create_has_left_stays_known_until_it_is_removed() {
    bryo_only!("runc leaves its mounts");
    let lab = Lab::new();
    let kills = lab.script("kills", "kill -KILL $PPID; sleep 0.2");
    let bundle = on_host(&lab).sleeps().named("killed");
    let bundle = bundle.hook("createRuntime", json!({ "path": kills }));
    assert_eq!(bundle.call("create", NONE).done().status.code(), None);
    // Covered, it cannot be removed.
    mount(&["-t", "tmpfs", "tmpfs"], &bundle.rootfs());
    bundle.call("create", NONE).done().refuses(1, &["MNT-BUSY"]);
    assert!(Command::new("umount").arg(bundle.rootfs()).status().unwrap().success());
    lab.call(["delete", "--force", "killed"]).done().ok();
    assert_eq!(mounts_below(&lab.dir), []);
    lab.forget_ids();
}

/// The kernel gives a new mount the lowest number that is free: that of one which somebody has unmounted by hand.
#[test]
#[ignore = "needs root; scripts/test runs it"]
fn the_root_of_another_container_of_the_same_bundle_stays() {
    bryo_only!("runc leaves its mounts");
    let lab = Lab::new();
    let file = |id: &str| lab.root().join(id).join("state.json");
    let read = |id: &str| -> Value { serde_json::from_slice(&fs::read(file(id)).unwrap()).unwrap() };
    for kernel_has_unique_numbers in [true, false] {
        let bundle = on_host(&lab).sleeps();
        let rootfs = bundle.rootfs();
        bundle.named_call("run", "first").args(["--detach"]).done().ok();
        lab.call(["kill", "first", "KILL"]).done().ok();
        assert!(
            eventually(PATIENCE, || lab.call(["state", "first"]).done().ok().json()["status"] == "stopped")
        );
        assert!(Command::new("umount").args(["-R", "-l"]).arg(&rootfs).status().unwrap().success());
        assert_eq!(mounts_below(&lab.dir), []);
        bundle.named_call("run", "second").args(["--detach"]).done().ok();
        // Other tests mount things meanwhile, so it is told here which numbers were used again.
        let (mut first, mut second) = (read("first"), read("second"));
        let numbers = first["hostRoot"]["mounts"].as_array_mut().unwrap().iter_mut();
        for (old, new) in numbers.zip(second["hostRoot"]["mounts"].as_array_mut().unwrap()) {
            assert_eq!((&old["device"], &old["inode"]), (&new["device"], &new["inode"]));
            old["number"] = new["number"].clone();
            if !kernel_has_unique_numbers {
                (old["unique"], new["unique"]) = (0.into(), 0.into());
            }
        }
        fs::write(file("first"), first.to_string()).unwrap();
        fs::write(file("second"), second.to_string()).unwrap();
        lab.call(["delete", "first"]).done().ok();
        lab.call(["exec", "second", "cat", "/proc/1/comm"]).done().prints("sleep\n");
        lab.call(["delete", "--force", "second"]).done().ok();
        assert_eq!(mounts_below(&lab.dir), []);
    }
    lab.forget_ids();
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn from_another_mount_namespace_it_is_not_deleted() {
    bryo_only!("runc leaves its mounts");
    let lab = Lab::new();
    let container = on_host(&lab).sleeps().detach();
    let elsewhere = container.call("delete", ["--force"]).under(["unshare", "--mount"]).done();
    elsewhere.refuses(1, &["in the mount namespace of process", "; fix: ", "nsenter"]);
    assert!(!mounts_below(&lab.dir).is_empty());
    container.remove();
    assert_eq!(mounts_below(&lab.dir), []);

    // One that is gone has taken them along.
    let bundle = on_host(&lab).sleeps().named("alone");
    bundle.call("create", NONE).under(["unshare", "--mount"]).done().ok();
    lab.call(["kill", "alone", "KILL"]).done().ok();
    assert!(eventually(PATIENCE, || lab.call(["delete", "alone"]).done().status.success()));
    lab.forget_ids();
}

/// Nobody else's processes are taken for the container's.
#[test]
#[ignore = "needs root; scripts/test runs it"]
fn without_a_pid_namespace_only_what_is_known_to_be_its_own_is_killed() {
    bryo_only!("runc asks the cgroup alone");
    let lab = Lab::new();
    let bundle = on_host(&lab).without_namespace("pid").sleeps();
    let bundle = bundle.with_globals(["--cgroup-manager", "disabled"]);
    let container = bundle.detach();
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let pids = container.call("ps", ["--format", "json"]).done().ok();
    assert_eq!(pids.json(), json!([container.pid()]));
    // From another mount namespace, too, where that of the container is not the caller's.
    let kill = container.call("kill", ["--all"]).args(["KILL"]).under(["unshare", "--mount"]).done();
    kill.ok();
    container.wait_until_stopped();
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    container.remove();
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn what_would_not_hold_there_is_refused() {
    let lab = Lab::new();
    let masked = on_host(&lab).with(|c| c["linux"]["maskedPaths"] = json!(["/proc/kcore"]));
    masked.run().refuses(1, &["unable to restrict sys entries without a private MNT namespace"]);
    let read_only = on_host(&lab).with(|c| c["linux"]["readonlyPaths"] = json!(["/proc/sys"]));
    read_only.run().refuses(1, &["unable to restrict sys entries without a private MNT namespace"]);
    if !is_peer() {
        let overlay = on_host(&lab).call("run", ["--ephemeral"]).done();
        overlay.refuses(1, &["a root of layers", "; fix: "]);
    }
    assert!(lab.state_entries().is_empty());
    assert_eq!(mounts_below(&lab.dir), []);
}

/// `--no-pivot` would have it move its root over that of the host.
#[test]
#[ignore = "needs root; scripts/test runs it"]
fn without_pivot_the_root_of_the_host_stays_where_it_is() {
    bryo_only!("runc 1.1 moves its root over the host's");
    let lab = Lab::new();
    let root = fs::read_link("/proc/self/root").unwrap();
    let bundle = on_host(&lab).args(["ls", "/moss"]);
    fs::write(bundle.rootfs().join("moss"), "").unwrap();
    bundle.call("run", ["--no-pivot"]).done().prints("/moss\n");
    assert_eq!(fs::read_link("/proc/self/root").unwrap(), root);
    assert!(eventually(PATIENCE, || lab.dir.exists() && mounts_below(&lab.dir).is_empty()));
}
