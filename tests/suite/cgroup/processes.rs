//! The cgroup knows all processes of a container, those too that have lost their parent: `ps` shows them, and
//! none of them survives.

use crate::cgroup::{Cgroup, Ground, both_managers, wait_for};
use crate::lab::{Bundle, NONE, alive, bryo_only};

both_managers!(
    ps_lists_all_that_are_in_the_cgroup,
    kill_all_leaves_nothing_of_a_container_in_the_pid_namespace_of_the_host,
    delete_by_force_leaves_nothing_of_a_container_in_the_pid_namespace_of_the_host,
    what_outlives_the_first_process_can_be_killed,
    what_outlives_the_first_process_is_deleted_by_force,
);

/// Three processes, two of which get another parent at once, in the pid namespace of the host.
fn scattered<'lab>(ground: &'lab Ground, then: &str) -> Bundle<'lab> {
    let script = format!("for n in 1 2; do setsid sh -c 'sleep 1000 & ' & done; wait; {then}");
    ground.bundle().without_namespace("pid").without_proc().sh(&script)
}

fn ps_lists_all_that_are_in_the_cgroup(ground: &Ground) {
    let container = ground.bundle().sh("sleep 1000 & sleep 1000 & exec sleep 1000").detach();
    let cgroup = Cgroup::of_container(&container);
    wait_for("three processes", || cgroup.processes().len() == 3);
    let all = cgroup.processes();
    let mut listed: Vec<i32> =
        serde_json::from_value(container.call("ps", ["--format", "json"]).done().ok().json()).unwrap();
    listed.sort_unstable();
    assert_eq!(listed, all);
    let table = container.call("ps", NONE).done().ok().stdout;
    let mut lines = table.lines();
    let heading: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    let column = heading.iter().position(|h| *h == "PID").unwrap();
    let mut shown: Vec<i32> =
        lines.map(|line| line.split_whitespace().nth(column).unwrap().parse().unwrap()).collect();
    shown.sort_unstable();
    assert_eq!(shown, all, "{table}");
    // With the words of ps.
    let own = container.call("ps", NONE).args(["-o", "pid,comm"]).done().ok().stdout;
    assert_eq!(own.lines().count(), 4, "{own}");
    assert!(own.lines().skip(1).all(|l| l.ends_with("sleep")), "{own}");
    container.remove();
}

fn kill_all_leaves_nothing_of_a_container_in_the_pid_namespace_of_the_host(ground: &Ground) {
    let container = scattered(ground, "exec sleep 1000").detach();
    let cgroup = Cgroup::of_container(&container);
    wait_for("three processes", || cgroup.processes().len() == 3);
    let pids = cgroup.processes();
    container.call("kill", ["--all"]).args(["KILL"]).done().ok();
    wait_for("their end", || !pids.iter().any(|&pid| alive(pid)));
    container.wait_until_stopped();
    container.delete().ok();
}

fn delete_by_force_leaves_nothing_of_a_container_in_the_pid_namespace_of_the_host(ground: &Ground) {
    bryo_only!("runc now and then gives up on the cgroup before the processes are gone from it");
    let container = scattered(ground, "exec sleep 1000").detach();
    let cgroup = Cgroup::of_container(&container);
    wait_for("three processes", || cgroup.processes().len() == 3);
    let pids = cgroup.processes();
    container.remove();
    assert!(!cgroup.exists());
    assert!(!pids.iter().any(|&pid| alive(pid)));
}

fn what_outlives_the_first_process_can_be_killed(ground: &Ground) {
    let container = scattered(ground, "exit 0").create();
    let cgroup = Cgroup::of_container(&container);
    container.start().ok();
    container.wait_until_stopped();
    wait_for("two processes", || cgroup.processes().len() == 2);
    let pids = cgroup.processes();
    container.call("kill", ["--all"]).args(["KILL"]).done().ok();
    wait_for("their end", || !pids.iter().any(|&pid| alive(pid)));
    container.delete().ok();
}

fn what_outlives_the_first_process_is_deleted_by_force(ground: &Ground) {
    bryo_only!("runc now and then gives up on the cgroup before the processes are gone from it");
    let container = scattered(ground, "exit 0").create();
    let cgroup = Cgroup::of_container(&container);
    container.start().ok();
    container.wait_until_stopped();
    wait_for("two processes", || cgroup.processes().len() == 2);
    let pids = cgroup.processes();
    container.remove();
    assert!(!cgroup.exists());
    assert!(!pids.iter().any(|&pid| alive(pid)));
}
