//! Hosts without cgroup v2, or without a part of it that is ours. Whatever this host has, a test hides it in
//! a mount namespace of its own, or asks for no cgroup, so that these run everywhere.

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::lab::{
    Bundle, Call, Container, Lab, NONE, PATIENCE, Ran, all_pids, bryo_only, eventually, plain_user_only,
    warns,
};

/// Start it as root of a user namespace in which these commands have been run.
fn after(call: Call<'_>, commands: &str) -> Ran {
    let script = format!("{commands} && exec \"$@\"");
    let namespaces = ["unshare", "--user", "--map-root-user", "--mount", "--cgroup", "--"];
    call.under(["sh", "-c", &script, "sh"]).under(namespaces).done()
}

/// A bundle for root of a user namespace that maps one id.
fn limited(lab: &Lab, resources: Value) -> Bundle<'_> {
    lab.bundle().sh("echo alive").with(|c| {
        for key in ["uidMappings", "gidMappings"] {
            c["linux"][key] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        }
        c["linux"]["resources"] = resources;
    })
}

/// What there is to say about a host that cannot limit anything, by this code.
#[track_caller]
fn no_limits_here(commands: &str, code: &str) {
    let lab = Lab::new();
    let limits = json!({ "memory": { "limit": 67_108_864 }, "pids": { "limit": 42 } });
    after(limited(&lab, json!({})).call("run", NONE), commands).prints("alive\n");
    let refused = after(limited(&lab, limits.clone()).call("run", NONE), commands);
    refused.refuses(1, &[code, "fix: "]);
    assert!(lab.state_entries().is_empty());
    let degraded = limited(&lab, limits).with_globals(["--degrade=limits"]);
    warns(after(degraded.call("run", NONE), commands), "alive\n", code);
}

#[test]
fn a_host_without_cgroup_v2_is_told_by_its_name() {
    bryo_only!("runc has no words for it");
    no_limits_here("mount -t tmpfs none /sys/fs/cgroup", "CG-V1");
    // The first version has a directory for each hierarchy there.
    let hierarchies = "mkdir /sys/fs/cgroup/memory /sys/fs/cgroup/pids";
    no_limits_here(&format!("mount -t tmpfs none /sys/fs/cgroup && {hierarchies}"), "CG-V1");
}

#[test]
fn a_host_that_delegates_nothing_is_told_by_its_name() {
    bryo_only!("runc has no words for it");
    plain_user_only!("to root everything is delegated");
    // Nor is there anybody who could be asked to.
    no_limits_here("mount -t tmpfs none /run && mount -t cgroup2 none /sys/fs/cgroup", "CG-NO");
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
