//! Mounts that are refused or not quite as asked for. Root file systems of layers have their own: `roots`.

use std::path::PathBuf;

use nix::libc;
use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::{Fails, as_it_is, below_a_filter, differs, map_to_root, refused, root_after, weakens};
use crate::lab::{Bundle, Lab, NONE, bryo_only};

/// A directory of the lab.
fn directory(lab: &Lab, name: &str) -> PathBuf {
    let dir = lab.dir.join(name);
    std::fs::create_dir(&dir).unwrap();
    dir
}

/// Change the mount of this type or at this place.
fn with_mount<'lab>(bundle: Bundle<'lab>, at: &str, change: impl FnOnce(&mut Value)) -> Bundle<'lab> {
    bundle.with(|c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        change(mounts.iter_mut().find(|mount| mount["destination"] == at).unwrap());
    })
}

/// What a run says to whom the filter around it forbids to mount.
#[track_caller]
fn denied() {
    let lab = Lab::new();
    let words = ["operation not permitted", "docker, podman --security-opt seccomp=unconfined", "Kubernetes"];
    refused(&lab, lab.bundle().run(), "MNT-DENIED", &words);
}

#[test]
fn the_old_mount_call_forbidden_by_a_filter_is_told_by_its_cause() {
    bryo_only!("runc has no words for it");
    below_a_filter(&[Fails("mount", 0, libc::EPERM)], denied);
}

#[test]
fn each_of_the_new_mount_calls_forbidden_by_a_filter_is_told_by_its_cause() {
    bryo_only!("runc makes the old ones");
    below_a_filter(&[Fails("open_tree", 0, libc::EPERM)], denied);
    below_a_filter(&[Fails("fsopen", 0, libc::EPERM)], denied);
    below_a_filter(&[Fails("move_mount", 0, libc::EPERM)], denied);
    below_a_filter(&[Fails("pivot_root", 0, libc::EPERM)], denied);
}

#[test]
fn mount_calls_that_are_not_there_are_told_from_those_that_are_forbidden() {
    bryo_only!("runc makes the old ones");
    below_a_filter(&[Fails("open_tree", 0, libc::ENOSYS)], || {
        let lab = Lab::new();
        refused(&lab, lab.bundle().run(), "MNT-API", &["function not implemented", "Linux 5.12"]);
    });
}

#[test]
fn a_security_module_that_forbids_mounts_is_not_taken_for_a_missing_permission() {
    bryo_only!("runc has no words for it");
    // As AppArmor's profile for Docker does: another errno.
    below_a_filter(&[Fails("mount", 0, libc::EACCES)], || {
        let lab = Lab::new();
        refused(
            &lab,
            lab.bundle().run(),
            "MNT-DENIED",
            &["set the propagation of / in", "permission denied"],
        );
    });
}

#[test]
fn a_hostname_that_a_filter_forbids_is_refused_with_both_ways_out() {
    bryo_only!("runc has no words for it");
    // Podman's filter does, for who lacks CAP_SYS_ADMIN outside.
    below_a_filter(&[Fails("sethostname", 0, libc::EPERM)], || {
        let lab = Lab::new();
        let words = ["set hostname moss", "operation not permitted", "remove hostname", "seccomp=unconfined"];
        refused(&lab, lab.bundle().run(), "UTS-DENIED", &words);
        let mut nameless = lab.bundle().sh("echo alive");
        nameless.config.as_object_mut().unwrap().remove("hostname");
        nameless.run().prints("alive\n");
    });
}

/// The flags that the next user namespace locks, and the words that clear them.
const LOCKED: [(&str, &str); 5] =
    [("ro", "rw"), ("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec"), ("noatime", "strictatime")];

#[test]
fn flags_that_are_locked_are_kept_where_nobody_clears_them() {
    bryo_only!("runc 1.1 keeps some of them, and fails by the others");
    let lab = Lab::new();
    let source = directory(&lab, "source");
    let host =
        root_after(&format!("mount -t tmpfs -o ro,nosuid,nodev,noexec,noatime none {}", source.display()));
    for options in [json!(["rbind"]), json!(["bind", "ro"]), json!(["bind", "nosuid", "nodev", "noexec"])] {
        let volume = json!({ "destination": "/mnt", "type": "bind", "source": source, "options": options });
        let bundle =
            lab.bundle().with(map_to_root).add_mount(volume).sh("grep ' /mnt ' /proc/self/mountinfo");
        let ran = host(bundle.call("run", NONE)).done().ok();
        assert!(!ran.stderr.contains("MNT-LOCKED"), "{}", ran.stderr);
        let flags = ran.stdout.split(' ').nth(5).unwrap().to_owned();
        for (flag, _) in LOCKED {
            assert!(flags.split(',').any(|f| f == flag), "{options}: {flags}");
        }
    }
}

#[test]
fn a_locked_flag_that_was_to_be_cleared_stays_and_the_others_are_as_asked_for() {
    bryo_only!("runc fails, or clears what it can");
    let lab = Lab::new();
    let source = directory(&lab, "source");
    for (flag, word) in LOCKED {
        let host = root_after(&format!("mount -t tmpfs -o {flag} none {}", source.display()));
        let options = json!(["rbind", word, "nosymfollow"]);
        let volume = json!({ "destination": "/mnt", "type": "bind", "source": source, "options": options });
        let script = format!(
            "grep ' /mnt ' /proc/self/mountinfo | cut -d' ' -f6 | tr , '\\n' | grep -cE '^({flag}|nosymfollow)$'"
        );
        let bundle = lab.bundle().with(map_to_root).add_mount(volume).sh(&script);
        weakens(&bundle, host, "2\n", "MNT-LOCKED");
    }
}

#[test]
fn a_remount_that_clears_a_locked_flag_leaves_it() {
    bryo_only!("runc fails");
    let lab = Lab::new();
    let source = directory(&lab, "source");
    let volume = |kind: &str, options: &[&str]| json!({ "destination": "/mnt", "type": kind, "source": source, "options": options });
    let bundle = lab
        .bundle()
        .with(map_to_root)
        .add_mount(volume("bind", &["bind"]))
        .add_mount(volume("none", &["remount", "rw"]))
        .sh("touch /mnt/moss 2>/dev/null || echo read-only");
    let host = root_after(&format!("mount -t tmpfs -o ro none {}", source.display()));
    weakens(&bundle, host, "read-only\n", "MNT-LOCKED");
}

#[test]
fn a_flag_that_is_not_locked_is_cleared_without_a_word() {
    let lab = Lab::new();
    let source = directory(&lab, "source");
    let options = json!(["bind", "rw", "exec"]);
    let volume = json!({ "destination": "/mnt", "type": "bind", "source": source, "options": options });
    let ran = lab.bundle().add_mount(volume).sh("touch /mnt/moss && echo written").run().prints("written\n");
    assert!(!ran.stderr.contains("MNT-LOCKED"), "{}", ran.stderr);
}

#[test]
fn a_root_file_system_of_somebody_elses_is_used_and_its_owner_named() {
    bryo_only!("runc says nothing");
    let lab = Lab::new();
    // The subordinate ids alone, without the caller who owns the tree.
    let bundle = lab.bundle().subids().with(|c| {
        for key in ["uidMappings", "gidMappings"] {
            let start = c["linux"][key][1]["hostID"].clone();
            c["linux"][key] = json!([{ "containerID": 0, "hostID": start, "size": 1000 }]);
        }
    });
    let bundle = bundle.sh("stat -c %u /bin/busybox; touch /moss 2>/dev/null || echo read-only");
    weakens(&bundle, as_it_is, "65534\nread-only\n", "FS-OWNER");
    let said = bundle.run().ok().stderr;
    assert!(said.contains(&format!("uid {}", geteuid())), "{said}");
}

#[test]
fn a_sysfs_of_a_network_that_is_not_ours_is_the_hosts() {
    bryo_only!("runc fails");
    let lab = Lab::new();
    let bundle = with_mount(lab.bundle(), "/sys", |sys| {
        *sys = json!({
            "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        });
    });
    let bundle = bundle.sh("test -d /sys/kernel && ! touch /sys/kernel/moss 2>/dev/null && echo read-only");
    differs(&bundle, as_it_is, "read-only\n", "MNT-SYSFS");
}

/// A host whose /dev has the null device and what these commands make in `$dev`.
fn dev_of<'lab>(lab: &'lab Lab, commands: &str) -> impl super::Host<'lab> + use<'lab> {
    let dev = directory(lab, "dev");
    root_after(&format!(
        "dev={}; mount -t tmpfs none $dev; touch $dev/null; mount --bind /dev/null $dev/null; {commands}; \
         mount --rbind $dev /dev",
        dev.display()
    ))
}

#[test]
fn message_queues_of_an_ipc_namespace_that_is_not_ours_are_the_hosts() {
    bryo_only!("runc fails");
    let lab = Lab::new();
    let host = dev_of(&lab, "mkdir $dev/mqueue; touch $dev/mqueue/the-hosts");
    let bundle = lab.bundle().with(map_to_root).without_namespace("ipc").sh("ls /dev/mqueue");
    differs(&bundle, host, "the-hosts\n", "MNT-MQUEUE");
}

#[test]
fn without_message_queues_on_the_host_there_is_an_empty_directory() {
    bryo_only!("runc fails");
    let lab = Lab::new();
    let host = dev_of(&lab, "true");
    let bundle = lab.bundle().with(map_to_root).without_namespace("ipc").sh("ls -a /dev/mqueue");
    weakens(&bundle, host, ".\n..\n", "MNT-MQUEUE");
}

#[test]
fn terminals_of_a_group_that_is_not_mapped_are_the_openers() {
    bryo_only!("runc fails");
    let lab = Lab::new();
    let bundle = with_mount(lab.bundle(), "/dev/pts", |pts| {
        pts["options"].as_array_mut().unwrap().push("gid=5".into());
    });
    differs(&bundle.sh("ls /dev/pts"), as_it_is, "ptmx\n", "MNT-DEVPTS");
}

#[test]
fn a_mount_with_other_ids_of_what_is_not_ours_is_refused() {
    bryo_only!("runc has other words");
    crate::lab::plain_user_only!("root may");
    let lab = Lab::new();
    let source = directory(&lab, "source");
    let bundle = lab.bundle().subids().add_mount(json!({
        "destination": "/mnt", "type": "bind", "source": source, "options": ["bind"],
        "uidMappings": [{ "containerID": 0, "hostID": 0, "size": 1 }],
        "gidMappings": [{ "containerID": 0, "hostID": 0, "size": 1 }],
    }));
    refused(&lab, bundle.run(), "MNT-IDMAP", &["/mnt", "operation not permitted", "remove idmap"]);
}

#[test]
fn a_range_of_gids_for_ping_is_cut_to_those_that_are_mapped() {
    bryo_only!("runc fails");
    let lab = Lab::new();
    let bundle = lab.bundle().namespace("network", None).with(|c| {
        c["linux"]["sysctl"] = json!({ "net.ipv4.ping_group_range": "0 2147483647" });
    });
    let bundle = bundle.sh("tr -s '\\t ' ' ' < /proc/sys/net/ipv4/ping_group_range");
    differs(&bundle, as_it_is, "0 0\n", "NET-PING");
}
