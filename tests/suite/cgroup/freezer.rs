//! Pausing freezes whatever is in the cgroup, and what is frozen is left alone.

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::cgroup::{Cgroup, Ground, both_managers, reachable_for_runc, wait_for};
use crate::lab::{Container, NONE, field};

both_managers!(
    pause_freezes_a_tree_of_fifty_processes_and_resume_continues_it,
    only_what_runs_is_paused_and_only_what_is_paused_resumed,
    what_is_not_started_yet_can_be_paused,
    exec_into_what_is_paused_is_refused,
    exec_into_what_is_paused_waits_where_it_is_told_to,
    a_paused_container_can_be_killed,
    a_paused_container_can_be_deleted_by_force,
);

#[track_caller]
fn pause(container: &Container) {
    container.call("pause", NONE).done().ok();
    assert_eq!(container.status(), "paused");
}

#[track_caller]
fn resume(container: &Container) {
    container.call("resume", NONE).done().ok();
}

/// How often each process has gone to sleep by itself.
fn sleeps(pids: &[i32]) -> BTreeMap<i32, u64> {
    let of = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        field(&status, "voluntary_ctxt_switches").parse::<u64>().unwrap()
    };
    pids.iter().map(|&pid| (pid, of(pid))).collect()
}

fn pause_freezes_a_tree_of_fifty_processes_and_resume_continues_it(ground: &Ground) {
    // Each starts the next, and then waits for what never comes, over and over.
    let script = "mkfifo /dev/shm/nothing; exec 3<> /dev/shm/nothing; \
                  tree() { [ $1 -eq 0 ] || tree $(($1 - 1)) & while :; do read -t 0.1 x <&3; done; }; tree 49";
    let container = ground.bundle().sh(script).detach();
    let cgroup = Cgroup::of_container(&container);
    wait_for("fifty processes", || cgroup.processes().len() == 50);
    let pids = cgroup.processes();
    let all_go_on = || {
        let before = sleeps(&pids);
        wait_for("all to go on", || sleeps(&pids).iter().all(|(pid, now)| *now > before[pid]));
    };
    all_go_on();
    pause(&container);
    assert_eq!(cgroup.number("cgroup.events", "frozen"), 1);
    let (before, usage) = (sleeps(&pids), cgroup.number("cpu.stat", "usage_usec"));
    sleep(Duration::from_millis(500));
    assert_eq!(sleeps(&pids), before);
    assert_eq!(cgroup.number("cpu.stat", "usage_usec"), usage);
    assert_eq!(cgroup.processes(), pids);
    resume(&container);
    assert_eq!(container.status(), "running");
    assert_eq!(cgroup.number("cgroup.events", "frozen"), 0);
    all_go_on();
    container.remove();
}

fn only_what_runs_is_paused_and_only_what_is_paused_resumed(ground: &Ground) {
    let container = ground.bundle().detach();
    container.call("resume", NONE).done().refuses(1, &["not paused"]);
    pause(&container);
    container.call("pause", NONE).done().refuses(1, &[]);
    resume(&container);
    container.kill("KILL").ok();
    container.wait_until_stopped();
    container.call("pause", NONE).done().refuses(1, &["not running"]);
    container.remove();
}

fn what_is_not_started_yet_can_be_paused(ground: &Ground) {
    let container = ground.bundle().create();
    pause(&container);
    resume(&container);
    assert_eq!(container.status(), "created");
    container.start().ok();
    assert_eq!(container.status(), "running");
    container.remove();
}

fn exec_into_what_is_paused_is_refused(ground: &Ground) {
    let container = ground.bundle().detach();
    pause(&container);
    container.exec(["echo", "in"]).refuses(255, &["paused"]);
    // Nothing is left over of what did not wait.
    let cgroup = Cgroup::of_container(&container);
    assert_eq!(cgroup.processes(), [container.pid()]);
    resume(&container);
    container.exec(["echo", "in"]).prints("in\n");
    container.remove();
}

fn exec_into_what_is_paused_waits_where_it_is_told_to(ground: &Ground) {
    reachable_for_runc!(ground);
    let container = ground.bundle().detach();
    pause(&container);
    let waiting = container.exec_call(&["--ignore-paused"], ["echo", "in"]).spawn();
    sleep(Duration::from_secs(1));
    assert_eq!(waiting.stdout(), "");
    resume(&container);
    waiting.wait().prints("in\n");
    container.remove();
}

fn a_paused_container_can_be_killed(ground: &Ground) {
    let container = ground.bundle().detach();
    pause(&container);
    container.kill("KILL").ok();
    container.wait_until_stopped();
    container.delete().ok();
}

fn a_paused_container_can_be_deleted_by_force(ground: &Ground) {
    let container = ground.bundle().detach();
    let cgroup = Cgroup::of_container(&container);
    pause(&container);
    container.remove();
    assert!(!cgroup.exists());
}
