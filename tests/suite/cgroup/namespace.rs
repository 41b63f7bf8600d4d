//! What the container sees of cgroups, and what of it is its own.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::geteuid;
use serde_json::json;

use crate::cgroup::{Cgroup, Ground, Manager, both_managers, with_own_cgroup_mount};
use crate::lab::{bryo_only, plain_user_only};

both_managers!(
    the_cgroup_namespace_begins_at_the_cgroup_of_the_container,
    a_cgroup_mount_in_a_namespace_shows_the_containers_own,
    a_cgroup_mount_that_may_be_written_can_be_divided,
    a_cgroup_mount_that_is_read_only_cannot_be_written,
    without_a_namespace_a_plain_users_cgroup_mount_is_read_only,
    the_delegated_files_belong_to_the_process_and_the_others_do_not,
    without_a_writable_mount_no_file_changes_hands,
);

fn the_cgroup_namespace_begins_at_the_cgroup_of_the_container(ground: &Ground) {
    let bundle = ground.bundle().namespace("cgroup", None).args(["cat", "/proc/self/cgroup"]);
    bundle.run().prints("0::/\n");
    let container = ground.bundle().namespace("cgroup", None).detach();
    let ours = fs::read_link("/proc/self/ns/cgroup").unwrap();
    assert_ne!(fs::read_link(format!("/proc/{}/ns/cgroup", container.pid())).unwrap(), ours);
    container.remove();
}

fn a_cgroup_mount_in_a_namespace_shows_the_containers_own(ground: &Ground) {
    let bundle = with_own_cgroup_mount(ground.bundle(), "ro");
    let bundle = bundle.with(|c| c["linux"]["resources"] = json!({ "pids": { "limit": 42 } }));
    bundle.sh("cat /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/pids.max | head -n 1; cat /sys/fs/cgroup/pids.max")
        .run()
        .prints("1\n42\n");
}

fn a_cgroup_mount_that_may_be_written_can_be_divided(ground: &Ground) {
    let script = "cd /sys/fs/cgroup && mkdir leaf && echo $$ > leaf/cgroup.procs && cat /proc/self/cgroup && \
                  echo +pids > cgroup.subtree_control && echo 5 > leaf/pids.max && cat leaf/pids.max";
    with_own_cgroup_mount(ground.bundle(), "rw").sh(script).run().prints("0::/leaf\n5\n");
    // One that has done so is taken away with all that is below.
    let container = with_own_cgroup_mount(ground.bundle(), "rw")
        .sh("mkdir -p /sys/fs/cgroup/a/b/c /sys/fs/cgroup/d && echo ready && exec sleep 1000")
        .detach();
    container.wait_for_output("ready");
    let cgroup = Cgroup::of_container(&container);
    container.remove();
    assert!(!cgroup.exists());
}

fn a_cgroup_mount_that_is_read_only_cannot_be_written(ground: &Ground) {
    let ran =
        with_own_cgroup_mount(ground.bundle(), "ro").args(["mkdir", "/sys/fs/cgroup/moss"]).run().exits(1);
    assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");
}

/// CVE-2023-25809: what could be written there is the user's own part of the host's tree.
fn without_a_namespace_a_plain_users_cgroup_mount_is_read_only(ground: &Ground) {
    plain_user_only!("what root mounts without a namespace is what it asks for");
    let script = "own=$(cut -d : -f 3 /proc/self/cgroup); \
                  for dir in /sys/fs/cgroup /sys/fs/cgroup$own; do ! mkdir $dir/moss || echo made $dir/moss; done";
    let nothing_made = |mode: &str| {
        let bundle = with_own_cgroup_mount(ground.bundle(), mode).without_namespace("cgroup");
        let ran = bundle.sh(script).run().prints("");
        assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");
    };
    nothing_made("ro");
    bryo_only!("runc leaves a mount writable that was asked for so");
    nothing_made("rw");
}

fn the_delegated_files_belong_to_the_process_and_the_others_do_not(ground: &Ground) {
    let bundle = with_own_cgroup_mount(ground.bundle(), "rw").namespace("user", None).subids();
    if !geteuid().is_root() || ground.manager == Manager::Cgroupfs {
        bryo_only!("runc hands the files over only as root, and only of systemd's scopes");
    }
    let bundle = bundle.with(|c| c["process"]["user"] = json!({ "uid": 7, "gid": 7 }));
    let owner = bundle.config["linux"]["uidMappings"][1]["hostID"].as_u64().unwrap() as u32 + 6;
    let container = bundle.detach();
    let dir = Cgroup::of_container(&container).dir();
    assert_eq!(fs::metadata(&dir).unwrap().uid(), owner);
    let delegated = fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap();
    for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let wanted = if delegated.lines().any(|d| d == name) { owner } else { geteuid().as_raw() };
        assert_eq!(entry.metadata().unwrap().uid(), wanted, "{name}");
    }
    container.exec(["mkdir", "/sys/fs/cgroup/moss"]).ok();
    container.remove();
}

fn without_a_writable_mount_no_file_changes_hands(ground: &Ground) {
    let bundle = with_own_cgroup_mount(ground.bundle(), "ro").namespace("user", None).subids();
    let bundle = bundle.with(|c| c["process"]["user"] = json!({ "uid": 7, "gid": 7 }));
    let container = bundle.detach();
    let dir = Cgroup::of_container(&container).dir();
    assert_eq!(fs::metadata(&dir).unwrap().uid(), geteuid().as_raw());
    assert_eq!(fs::metadata(dir.join("cgroup.procs")).unwrap().uid(), geteuid().as_raw());
    container.remove();
}
