//! create, start, state, list, kill, delete: from nothing to nothing, and the words for every wrong turn.

use std::fs;

use crate::lab::{Lab, NONE, PATIENCE, alive, bryo_only, eventually};

#[test]
fn a_container_goes_from_created_to_running_to_stopped() {
    let lab = Lab::new();
    let c = lab.bundle().waits().create();
    assert_eq!(c.status(), "created");
    assert!(c.pid() > 0);
    assert_eq!(c.stdout(), "");

    c.start().ok();
    c.wait_for_output("ready");
    assert_eq!(c.status(), "running");

    c.kill("TERM").ok();
    c.wait_until_stopped();
    c.delete().ok();
    c.call("state", NONE).done().refuses(1, &["container does not exist"]);
}

#[test]
fn the_process_of_created_is_the_process_of_running() {
    let lab = Lab::new();
    let c = lab.bundle().waits().create();
    let pid = c.pid();
    c.start().ok();
    assert_eq!(c.pid(), pid);
    c.remove();
    assert!(!alive(pid));
}

#[test]
fn state_has_the_fields_of_the_runtime_spec() {
    let lab = Lab::new();
    let bundle = lab.bundle().waits().with(|c| c["annotations"] = serde_json::json!({ "green": "yes" }));
    let dir = fs::canonicalize(&bundle.dir).unwrap();
    let c = bundle.create();
    let state = c.state();
    assert_eq!(state["id"], c.id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], dir.to_str().unwrap());
    assert_eq!(state["rootfs"], crate::lab::busybox().to_str().unwrap());
    assert_eq!(state["annotations"]["green"], "yes");
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    assert!(state["pid"].as_i64().unwrap() > 1);
    // `list` names the owner, `state` does not; runc has the key with nothing in it.
    assert_eq!(state.get("owner").map_or("", |o| o.as_str().unwrap()), "");
    c.remove();
}

#[test]
fn state_of_a_stopped_container_has_pid_zero() {
    let lab = Lab::new();
    let c = lab.bundle().create();
    c.start().ok();
    c.wait_until_stopped();
    assert_eq!(c.state()["pid"], 0);
    c.delete().ok();
}

#[test]
fn state_of_an_unknown_id_says_that_it_does_not_exist() {
    let lab = Lab::new();
    for verb in ["state", "start", "delete", "kill"] {
        lab.call([verb, "nobody"]).done().refuses(1, &["container does not exist"]);
    }
}

#[test]
fn create_with_a_taken_id_fails_and_leaves_the_first_alone() {
    let lab = Lab::new();
    let first = lab.bundle().waits().create();
    first.start().ok();
    let pid = first.pid();
    for verb in ["create", "run"] {
        let second = lab.bundle().named(&first.id);
        second.call(verb, NONE).done().refuses(1, &["container with given ID already exists"]);
    }
    assert_eq!(first.status(), "running");
    assert_eq!(first.pid(), pid);
    first.remove();
}

#[test]
fn start_of_a_running_container_fails_and_leaves_it_running() {
    let lab = Lab::new();
    let c = lab.bundle().waits().create();
    c.start().ok();
    c.start().refuses(1, &["running"]);
    assert_eq!(c.status(), "running");
    c.remove();
}

#[test]
fn start_of_a_stopped_container_fails() {
    let lab = Lab::new();
    let c = lab.bundle().create();
    c.start().ok();
    c.wait_until_stopped();
    c.start().refuses(1, &["stopped"]);
    c.delete().ok();
}

#[test]
fn kill_takes_names_short_names_and_numbers() {
    let lab = Lab::new();
    for word in ["KILL", "SIGKILL", "9", "sigkill"] {
        let c = lab.bundle().sleeps().detach();
        c.kill(word).ok();
        c.wait_until_stopped();
        c.delete().ok();
    }
}

#[test]
fn kill_sends_sigterm_unless_told_otherwise() {
    let lab = Lab::new();
    let c = lab.bundle().sh("trap 'echo term; exit' TERM; echo ready; sleep 1000 & wait").detach();
    c.wait_for_output("ready");
    c.call("kill", NONE).done().ok();
    c.wait_until_stopped();
    assert_eq!(c.stdout(), "ready\nterm\n");
    c.delete().ok();
}

#[test]
fn kill_of_an_unknown_signal_is_refused() {
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    for word in ["NOPE", "SIGNOPE", "TERMINATE"] {
        c.kill(word).refuses(1, &["signal"]);
    }
    assert_eq!(c.status(), "running");
    c.remove();
}

#[test]
fn kill_with_signal_0_asks_whether_there_is_somebody() {
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    lab.call(["kill", &c.id, "0"]).done().ok();
    assert_eq!(c.status(), "running");
    lab.call(["kill", &c.id, "KILL"]).done().ok();
    c.wait_until_stopped();
    lab.call(["kill", &c.id, "0"]).done().refuses(1, &["container not running"]);
    c.delete().ok();
}

#[test]
fn a_container_that_has_not_started_ends_when_it_is_asked_to() {
    let lab = Lab::new();
    // As soon as create is back, which is when init may not have come to wait yet: so more than once.
    for signal in ["TERM", "INT"].into_iter().cycle().take(20) {
        let c = lab.bundle().sleeps().create();
        lab.call(["kill", &c.id, signal]).done().ok();
        c.wait_until_stopped();
        c.delete().ok();
    }
}

#[test]
fn kill_of_a_number_that_is_no_signal_is_refused() {
    bryo_only!("runc 1.1 hands others to the kernel");
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    for word in ["65", "4294967305", "-9", ""] {
        lab.call(["kill", "--", &c.id, word]).done().refuses(1, &["signal"]);
    }
    assert_eq!(c.status(), "running");
    c.remove();
}

#[test]
fn kill_of_a_stopped_container_says_that_it_is_not_running() {
    let lab = Lab::new();
    let c = lab.bundle().create();
    c.start().ok();
    c.wait_until_stopped();
    c.kill("KILL").refuses(1, &["container not running"]);
    c.delete().ok();
}

#[test]
fn kill_of_a_created_container_works() {
    let lab = Lab::new();
    let c = lab.bundle().sleeps().create();
    c.kill("KILL").ok();
    c.wait_until_stopped();
    c.delete().ok();
}

#[test]
fn kill_all_of_a_stopped_container_succeeds() {
    bryo_only!("runc 1.1 has other rules for --all, which later versions dropped");
    let lab = Lab::new();
    let c = lab.bundle().create();
    c.start().ok();
    c.wait_until_stopped();
    for flag in ["-a", "--all"] {
        c.call("kill", [flag]).args(["KILL"]).done().ok();
    }
    c.delete().ok();
}

#[test]
fn delete_of_a_running_container_fails_and_leaves_it_running() {
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    c.delete().refuses(1, &["running"]);
    assert_eq!(c.status(), "running");
    c.remove();
}

#[test]
fn delete_of_a_created_container_kills_it_first() {
    let lab = Lab::new();
    let c = lab.bundle().create();
    let pid = c.pid();
    c.delete().ok();
    assert!(!alive(pid));
    assert!(lab.state_entries().is_empty());
}

#[test]
fn delete_force_kills_a_running_container() {
    let lab = Lab::new();
    for flag in ["-f", "--force"] {
        let c = lab.bundle().sleeps().detach();
        let pid = c.pid();
        c.call("delete", [flag]).done().ok();
        assert!(!alive(pid));
        assert!(lab.state_entries().is_empty());
    }
}

#[test]
fn delete_force_of_an_unknown_id_succeeds() {
    let lab = Lab::new();
    lab.call(["delete", "--force", "nobody"]).done().ok();
    lab.call(["delete", "-f", "nobody"]).done().ok();
}

#[test]
fn the_whole_pid_namespace_ends_with_its_first_process() {
    let lab = Lab::new();
    let c = lab.bundle().sh("sleep 1000 & sleep 1000 & echo ready; sleep 1000").detach();
    c.wait_for_output("ready");
    // A process has no environment to know it by while it is in the middle of its exec.
    let all = eventually(PATIENCE, || lab.processes().len() >= 3);
    assert!(all, "{:?}", lab.processes());
    c.kill("KILL").ok();
    c.wait_until_stopped();
    let gone = eventually(PATIENCE, || lab.processes().is_empty());
    assert!(gone, "{:?}", lab.processes());
    c.delete().ok();
}

#[test]
fn options_of_a_verb_may_stand_behind_the_id() {
    bryo_only!("crun and youki take options there, runc does not");
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    lab.call(["delete", &c.id, "--force"]).done().ok();
}

#[test]
fn many_containers_live_side_by_side() {
    let lab = Lab::new();
    let all: Vec<_> = (0..5).map(|_| lab.bundle().sleeps().detach()).collect();
    let mut pids: Vec<_> = all.iter().map(|c| c.pid()).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 5);
    for c in all {
        c.remove();
    }
}

#[test]
fn a_container_in_the_foreground_can_be_deleted_from_elsewhere() {
    bryo_only!("runc's run warns that its container is gone, or not, by the timing");
    let lab = Lab::new();
    let log = lab.dir.join("poststop");
    let hook = lab.script("hook", &format!("echo once >> {}", log.display()));
    let bundle = lab.bundle().waits().hook("poststop", serde_json::json!({ "path": hook }));
    let run = bundle.named_call("run", "front").spawn();
    run.wait_for_output("ready");
    lab.call(["delete", "--force", "front"]).done().ok();
    run.wait().exits(137);
    assert_eq!(fs::read_to_string(log).unwrap(), "once\n");
}
