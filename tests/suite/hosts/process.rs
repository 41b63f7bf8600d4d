//! What a process asks for and its host does not give: groups, limits, labels, devices, keys.

use std::fs;

use nix::libc;
use nix::unistd::geteuid;
use serde_json::json;

use super::{Fails, Host, as_it_is, below_a_filter, map_to_root, may_go, refused, root_after, weakens};
use crate::lab::{Call, Lab, NONE, bryo_only, plain_user_only};

#[test]
fn a_program_on_a_mount_without_exec_is_told_from_one_without_the_right() {
    bryo_only!("runc has no words for it");
    let lab = Lab::new();
    let rooted = lab.bundle().own_rootfs().with(map_to_root);
    let root = rooted.rootfs();
    let root = root.display();
    let host = root_after(&format!("mount --bind {root} {root}; mount -o remount,bind,noexec {root}"));
    for args in [&["true"][..], &["/bin/sh", "-c", "true"]] {
        let bundle =
            lab.bundle().args(args).with(map_to_root).with(|c| c["root"] = rooted.config["root"].clone());
        let bundle = bundle.with(|c| c["root"]["path"] = root.to_string().into());
        refused(&lab, host(bundle.call("run", NONE)).done(), "FS-NOEXEC", &["noexec: permission denied"]);
    }
    // What is no program where everything may be executed has another name, and so has one that is not there.
    let denied = lab.bundle().args(["/etc/passwd"]);
    refused(&lab, denied.run(), "EXEC-DENIED", &["permission denied"]);
    let missing =
        lab.bundle().args(["moss"]).with(map_to_root).with(|c| c["root"]["path"] = root.to_string().into());
    refused(
        &lab,
        host(missing.call("run", NONE)).done(),
        "EXEC-NOTFOUND",
        &["executable file not found in $PATH"],
    );
}

/// Whatever this machine has, SELinux and AppArmor are hidden.
fn without_modules<'lab>() -> impl Host<'lab> {
    root_after(
        "for module in /sys/fs/selinux /sys/module/apparmor; do
             test ! -d $module || mount -t tmpfs none $module
         done",
    )
}

#[test]
fn a_label_without_selinux_is_weaker_and_a_profile_without_apparmor_may_go_by_name() {
    bryo_only!("runc says nothing of the one, and has no words for the other");
    let lab = Lab::new();
    let label = "system_u:system_r:container_t:s0:c1,c2";
    let labelled = lab.bundle().sh("echo alive").with(|c| c["process"]["selinuxLabel"] = label.into());
    weakens(&labelled.with(map_to_root), without_modules(), "alive\n", "LSM-SELINUX");
    let confined = lab.bundle().sh("echo alive").with(|c| c["process"]["apparmorProfile"] = "moss".into());
    may_go(&confined.with(map_to_root), without_modules(), "apparmor", "alive\n", "LSM-APPARMOR");
}

#[test]
fn groups_may_go_by_name_and_the_callers_are_kept_by_an_annotation() {
    bryo_only!("runc refuses in its own words, and crun drops them");
    plain_user_only!("root may set groups");
    let lab = Lab::new();
    let grouped = lab.bundle().sh("id -G").with(|c| c["process"]["user"]["additionalGids"] = json!([100]));
    // Those of the caller stay, as nobody's.
    let nobodys = lab.bundle().sh("id -G").run().ok().stdout;
    may_go(&grouped, as_it_is, "groups", &nobodys, "GRP-DENY");
    let keeping = lab.bundle().sh("id -G; sleep 1000");
    let keeping = keeping.with(|c| c["annotations"]["run.oci.keep_original_groups"] = "1".into());
    let container = keeping.detach();
    container.wait_for_output(&nobodys);
    container.exec(["id", "-G"]).prints(&nobodys);
    // An exec that asks for groups is refused likewise, and may go without them likewise.
    let process = json!({
        "user": { "uid": 0, "gid": 0, "additionalGids": [100] }, "args": ["id", "-G"], "cwd": "/",
        "env": ["PATH=/bin"],
    });
    let other = lab.bundle().sleeps().detach();
    let file = lab.file("process.json", process.to_string());
    let exec = || other.call("exec", ["--process", file.to_str().unwrap()]);
    let _ = exec().done().refuses(255, &["GRP-DENY", "; fix: ", "--degrade=groups"]);
    let ran = exec().env("BRYO_DEGRADE", "groups").done().prints(&nobodys);
    assert_eq!(ran.stderr.matches("GRP-DENY").count(), 1, "{}", ran.stderr);
    container.remove();
    other.remove();
}

#[test]
fn a_limit_above_the_callers_is_the_callers() {
    bryo_only!("runc fails with the number of the limit");
    plain_user_only!("root may raise the limit");
    let lab = Lab::new();
    let bundle = lab.bundle().sh("ulimit -Sn; ulimit -Hn").with(|c| {
        c["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 4000, "hard": 5000 }]);
    });
    fn host(call: Call<'_>) -> Call<'_> {
        call.after_shell("ulimit -n 3000")
    }
    weakens(&bundle, host, "3000\n3000\n", "RLIM");
}

#[test]
fn a_score_below_the_callers_is_the_callers() {
    bryo_only!("runc fails");
    plain_user_only!("root may lower the score");
    let lab = Lab::new();
    let lowest = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let bundle = lab.bundle().args(["cat", "/proc/self/oom_score_adj"]);
    let bundle = bundle.with(|c| c["process"]["oomScoreAdj"] = (-900).into());
    weakens(&bundle, as_it_is, &lowest, "OOM");
}

#[test]
fn a_device_of_every_container_is_skipped_where_the_host_lacks_it() {
    bryo_only!("runc fails");
    let lab = Lab::new();
    let bundle = lab.bundle().with(map_to_root);
    let bundle = bundle.sh("ls -d /dev/null /dev/tty; test ! -e /dev/full");
    let dev = lab.dir.join("dev");
    fs::create_dir(&dev).unwrap();
    let dev = dev.display();
    let host = root_after(&format!(
        "mount -t tmpfs none {dev}
         for name in null zero random urandom tty; do
             touch {dev}/$name
             mount --bind /dev/$name {dev}/$name
         done
         mount --rbind {dev} /dev"
    ));
    weakens(&bundle, host, "/dev/null\n/dev/tty\n", "DEV");
}

#[test]
fn a_listed_device_that_the_host_lacks_may_go_by_name() {
    bryo_only!("runc has no words for it");
    let lab = Lab::new();
    let listed = |path: &str, minor: u32| {
        lab.bundle().sh("ls /dev | grep -c moss || true").with(|c| {
            c["linux"]["devices"] = json!([{ "path": path, "type": "c", "major": 250, "minor": minor }]);
        })
    };
    if geteuid().is_root() {
        // Root makes the node, and it leads nowhere.
        return;
    }
    may_go(&listed("/dev/moss", 7), as_it_is, "devices", "0\n", "DEV");
    // One of this name that is another device is none.
    let other = listed("/dev/null", 7).sh("echo alive");
    may_go(&other, as_it_is, "devices", "alive\n", "DEV");
}

#[test]
fn without_a_key_the_callers_keyring_is_kept() {
    bryo_only!("runc fails");
    // A user's quota of keys is used up for all who run as it: a filter says the same.
    below_a_filter(&[Fails("keyctl", 0, libc::EDQUOT)], || {
        let lab = Lab::new();
        weakens(&lab.bundle().sh("echo alive"), as_it_is, "alive\n", "KEYRING");
    });
    below_a_filter(&[Fails("keyctl", 0, libc::ENOSYS)], || {
        let lab = Lab::new();
        weakens(&lab.bundle().sh("echo alive"), as_it_is, "alive\n", "KEYRING");
    });
}
