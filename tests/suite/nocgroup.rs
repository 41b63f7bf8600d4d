//! Containers without a cgroup, and what can be done with them all the same. They ask for none, so that these run
//! everywhere; hosts that have none to give are made in [`crate::hosts`].

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::lab::{Bundle, Container, Lab, NONE, PATIENCE, alive, all_pids, bryo_only, eventually, warns};

/// A bundle for root of a user namespace that maps one id.
fn limited(lab: &Lab, resources: Value) -> Bundle<'_> {
    lab.bundle().sh("echo alive").with(|c| {
        for key in ["uidMappings", "gidMappings"] {
            c["linux"][key] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        }
        c["linux"]["resources"] = resources;
    })
}

/// A container of bryo's without a cgroup.
fn without_cgroup(bundle: Bundle<'_>) -> Container<'_> {
    bundle.with_globals(["--cgroup-manager", "disabled"]).detach()
}

#[test]
fn without_a_cgroup_there_is_no_pause() {
    bryo_only!("runc has no such manager");
    let lab = Lab::new();
    let container = without_cgroup(lab.bundle().sleeps());
    container.call("pause", NONE).done().refuses(1, &["CG-FREEZE", "fix: "]);
    assert_eq!(container.status(), "running");
    container.remove();
}

#[test]
fn without_a_cgroup_statistics_are_not_zeros() {
    bryo_only!("runc prints zeros");
    let lab = Lab::new();
    let container = without_cgroup(lab.bundle().sleeps());
    let event = container.call("events", ["--stats"]).done().ok().json();
    assert_eq!(event["type"], "stats");
    assert_eq!(event["data"]["available"], json!(false), "{event}");
    assert_eq!(event["data"]["memory"]["usage"]["usage"], Value::Null, "{event}");
    container.remove();
}

#[test]
fn without_a_cgroup_there_is_nothing_to_update() {
    bryo_only!("runc has no such manager");
    let lab = Lab::new();
    let container = without_cgroup(lab.bundle().sleeps());
    container.call("update", ["--pids-limit", "42"]).done().refuses(1, &["CG-", "fix: "]);
    container.remove();
}

#[test]
fn without_a_cgroup_ps_goes_by_the_pid_namespace() {
    bryo_only!("runc has no such manager");
    let lab = Lab::new();
    let container = without_cgroup(lab.bundle().sh("sleep 1000 & setsid sleep 1000 & exec sleep 1000"));
    let namespace = std::fs::read_link(format!("/proc/{}/ns/pid", container.pid())).unwrap();
    let mut pids = Vec::new();
    let three = eventually(PATIENCE, || {
        pids = all_pids();
        pids.retain(|pid| std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|ns| ns == namespace));
        pids.len() == 3
    });
    assert!(three, "{pids:?}");
    let mut listed: Vec<i32> =
        serde_json::from_value(container.call("ps", ["--format", "json"]).done().ok().json()).unwrap();
    listed.sort_unstable();
    pids.sort_unstable();
    assert_eq!(listed, pids);
    container.remove();
}

#[test]
fn without_a_cgroup_a_kill_of_all_reaches_who_shares_the_mounts() {
    bryo_only!("runc has no such manager");
    let lab = Lab::new();
    let shared = || lab.bundle().without_namespace("pid").without_proc();
    let script = "sleep 1000 & setsid sleep 1000 & echo ready; exec sleep 1000";
    for end in [&["kill", "--all", "ID", "KILL"][..], &["kill", "ID", "KILL"], &["delete", "--force", "ID"]] {
        let container = without_cgroup(shared().sh(script));
        container.wait_for_output("ready");
        let mut pids: Vec<i32> = Vec::new();
        let three = eventually(PATIENCE, || {
            let listed = container.call("ps", ["--format", "json"]).done().ok().json();
            pids = serde_json::from_value(listed).unwrap();
            pids.len() == 3
        });
        assert!(three, "{pids:?}");
        lab.call(end.iter().map(|word| if *word == "ID" { &container.id } else { *word })).done().ok();
        assert!(eventually(PATIENCE, || pids.iter().all(|pid| !alive(*pid))), "{end:?}: {pids:?}");
        container.remove();
    }
}

#[test]
fn without_a_cgroup_exec_is_told_to_go_nowhere() {
    bryo_only!("runc has no such manager");
    let lab = Lab::new();
    let container = without_cgroup(lab.bundle().sleeps());
    container.exec_call(&["--cgroup", "web"], ["true"]).done().refuses(255, &["web"]);
    container.exec(["echo", "in"]).prints("in\n");
    container.remove();
}

#[test]
fn a_disabled_manager_says_that_limits_are_not_set() {
    bryo_only!("runc has no such manager");
    let lab = Lab::new();
    let uid = geteuid().as_raw();
    let bundle = || {
        limited(&lab, json!({ "pids": { "limit": 42 } })).with(|c| {
            for key in ["uidMappings", "gidMappings"] {
                c["linux"][key][0]["hostID"] = uid.into();
            }
        })
    };
    let disabled = ["--cgroup-manager", "disabled"];
    bundle().with_globals(disabled).call("run", NONE).done().refuses(1, &["CG-", "fix: "]);
    let degraded = bundle().with_globals(["--cgroup-manager", "disabled", "--degrade=limits"]);
    warns(degraded.call("run", NONE).done(), "alive\n", "CG-");
}
