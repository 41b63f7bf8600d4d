//! What of scheduling takes root of the machine, with and without a user namespace of the container's.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::rootful;
use crate::lab::{Lab, Ran, bryo_only};

/// The nice value, the real-time priority and the policy of whatever reads it (proc_pid_stat(5)), and its I/O priority.
const SCHEDULING: &str = "cut -d ' ' -f 19,40,41 /proc/self/stat; ionice";

/// Runs with and without a user namespace, and by exec.
fn everywhere(lab: &Lab, scheduler: &Value, check: impl Fn(Ran)) {
    fs::set_permissions(&lab.dir, fs::Permissions::from_mode(0o755)).unwrap();
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    // A cgroup of its own might not have real time.
    let bundle = rootful(lab).sh(SCHEDULING).with_globals(["--cgroup-manager", "disabled"]).with(|c| {
        c["process"]["scheduler"] = scheduler.clone();
        c["process"]["ioPriority"] = json!({ "class": "IOPRIO_CLASS_RT", "priority": 1 });
    });
    check(bundle.run());
    let bundle = bundle.namespace("user", None).with(|c| {
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    check(bundle.run());
    if let Ok(container) = bundle.sleeps().try_launch("run", &["--detach"]) {
        check(container.exec(["sh", "-c", SCHEDULING]));
        container.remove();
    }
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn root_of_the_machine_may_set_what_root_inside_may_not() {
    bryo_only!("runc 1.1 knows no scheduler and ignores it");
    let lab = Lab::new();
    let scheduler = json!({ "policy": "SCHED_BATCH", "nice": -7 });
    everywhere(&lab, &scheduler, |ran| drop(ran.prints("-7 0 3\nrealtime: prio 1\n")));
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn real_time_is_granted_where_the_kernel_has_it_for_this_cgroup() {
    bryo_only!("runc 1.1 knows no scheduler and ignores it");
    let lab = Lab::new();
    // With CONFIG_RT_GROUP_SCHED, only some cgroups have it.
    let here = lab.program("chrt").args(["--rr", "7", "true"]).done().status.success();
    let scheduler = json!({ "policy": "SCHED_RR", "priority": 7 });
    everywhere(&lab, &scheduler, |ran| {
        if here {
            let ran = ran.ok();
            assert!(ran.stdout.ends_with(" 7 2\nrealtime: prio 1\n"), "{ran:?}");
        } else {
            ran.refuses(1, &["SCHED", "operation not permitted; fix: ", "a cgroup that may have it"]);
        }
    });
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_deadline_does_not_keep_hooks_from_running() {
    bryo_only!("runc 1.1 knows no scheduler and ignores it");
    let lab = Lab::new();
    // Whoever has a deadline may not fork, unless its children have none.
    let scheduler = json!({ "policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000,
        "period": 10_000_000, "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
    let bundle = rootful(&lab).with(|c| c["process"]["scheduler"] = scheduler);
    let bundle = bundle.hook("startContainer", json!({ "path": "/bin/true" }));
    bundle.args(["cut", "-d", " ", "-f", "41", "/proc/self/stat"]).run().prints("6\n");
}
