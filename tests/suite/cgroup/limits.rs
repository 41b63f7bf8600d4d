//! Limits are set, changed, kept to by the kernel, and told by `events`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cgroup::{Cgroup, Ground, Manager, both_managers, wait_for};
use crate::lab::{NONE, bryo_only};

both_managers!(
    limits_are_set_before_the_process_runs,
    limits_are_changed_by_flags,
    limits_are_changed_by_a_file_of_resources,
    shares_become_the_weight_of_equal_standing,
    a_limit_that_the_kernel_refuses_refuses_the_container,
    memory_in_use_is_not_taken_away_where_that_is_asked_for,
    a_container_over_its_memory_limit_is_killed,
    events_tells_of_a_kill_for_lack_of_memory,
    events_gives_what_the_cgroup_counts,
    a_fork_bomb_stops_at_the_limit_of_processes,
    a_quota_of_a_fifth_gets_a_fifth,
);

const MIB: i64 = 1 << 20;

fn limits_are_set_before_the_process_runs(ground: &Ground) {
    let container = ground
        .limited(json!({
            "memory": { "limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB },
            "cpu": { "quota": 20_000, "period": 100_000 },
            "pids": { "limit": 42 },
        }))
        .create();
    assert_eq!(container.status(), "created");
    Cgroup::of_container(&container).holds(&[
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("cpu.max", "20000 100000"),
        ("pids.max", "42"),
    ]);
    if ground.manager == Manager::Systemd {
        // Or the next daemon-reload would take them back.
        assert_eq!(ground.property(&container, "MemoryMax"), "67108864");
        assert_eq!(ground.property(&container, "MemoryLow"), "33554432");
        assert_eq!(ground.property(&container, "CPUQuotaPerSecUSec"), "200ms");
        assert_eq!(ground.property(&container, "TasksMax"), "42");
    }
    container.remove();
}

fn limits_are_changed_by_flags(ground: &Ground) {
    let container =
        ground.limited(json!({ "memory": { "limit": 64 * MIB }, "pids": { "limit": 42 } })).detach();
    let cgroup = Cgroup::of_container(&container);
    let update = |flags: &[&str]| container.call("update", flags).done().ok();
    update(&["--memory", "80M", "--memory-swap", "100M", "--memory-reservation", "16M"]);
    cgroup.holds(&[
        ("memory.max", "83886080"),
        ("memory.swap.max", "20971520"),
        ("memory.low", "16777216"),
        ("pids.max", "42"),
    ]);
    // A quota keeps the period, and a period the quota.
    update(&["--cpu-quota", "25000"]);
    cgroup.holds(&[("cpu.max", "25000 100000")]);
    update(&["--cpu-period", "50000"]);
    cgroup.holds(&[("cpu.max", "25000 50000"), ("memory.max", "83886080")]);
    update(&["--pids-limit", "17"]);
    cgroup.holds(&[("pids.max", "17"), ("cpu.max", "25000 50000")]);
    if ground.manager == Manager::Systemd {
        assert_eq!(ground.property(&container, "MemoryMax"), "83886080");
        assert_eq!(ground.property(&container, "CPUQuotaPerSecUSec"), "500ms");
        assert_eq!(ground.property(&container, "TasksMax"), "17");
    }
    container.remove();
}

fn limits_are_changed_by_a_file_of_resources(ground: &Ground) {
    let container = ground.limited(json!({ "cpu": { "quota": 50_000 }, "pids": { "limit": 42 } })).detach();
    let cgroup = Cgroup::of_container(&container);
    let file = ground.lab.file("resources.json", json!({ "memory": { "limit": 64 * MIB } }).to_string());
    container.call("update", ["-r", file.to_str().unwrap()]).done().ok();
    // What is not named stays.
    cgroup.holds(&[("memory.max", "67108864"), ("cpu.max", "50000 100000"), ("pids.max", "42")]);
    let podmans = json!({ "pids": { "limit": -1 }, "cpu": { "quota": -1, "period": 100_000 } });
    container.call("update", ["--resources", "-"]).stdin(podmans.to_string()).done().ok();
    cgroup.holds(&[("memory.max", "67108864"), ("cpu.max", "max 100000"), ("pids.max", "max")]);
    container.remove();
}

fn shares_become_the_weight_of_equal_standing(ground: &Ground) {
    bryo_only!(
        "before 1.3 runc's conversion was a line, by which the default of shares became a weight of 39"
    );
    // The ends of the one scale are those of the other, and so are the defaults.
    for (shares, weight) in [(2, "1"), (1024, "100"), (262_144, "10000")] {
        let container = ground.limited(json!({ "cpu": { "shares": shares } })).create();
        Cgroup::of_container(&container).holds(&[("cpu.weight", weight)]);
        container.remove();
    }
    let container = ground.bundle().detach();
    container.call("update", ["--cpu-share", "2"]).done().ok();
    Cgroup::of_container(&container).holds(&[("cpu.weight", "1")]);
    // An idle one has no weight, and gets its own back.
    container.call("update", ["--cpu-idle", "1"]).done().ok();
    Cgroup::of_container(&container).holds(&[("cpu.idle", "1")]);
    container.call("update", ["--cpu-idle", "0", "--cpu-share", "1024"]).done().ok();
    Cgroup::of_container(&container).holds(&[("cpu.idle", "0"), ("cpu.weight", "100")]);
    container.remove();
}

fn a_limit_that_the_kernel_refuses_refuses_the_container(ground: &Ground) {
    // A period longer than a second.
    let refused =
        ground.limited(json!({ "cpu": { "quota": 500_000, "period": 2_000_000 } })).call("create", NONE);
    refused.done().refuses(1, &["invalid argument"]).in_bryos_words(&["cpu.max"]);
    assert!(ground.lab.state_entries().is_empty());
}

fn memory_in_use_is_not_taken_away_where_that_is_asked_for(ground: &Ground) {
    bryo_only!("the update of runc 1.1 does not look at checkBeforeUpdate");
    let container = ground
        .limited(json!({ "memory": { "limit": 128 * MIB } }))
        .sh("head -c 50000000 /dev/zero > /dev/shm/used; echo used; exec sleep 1000")
        .detach();
    container.wait_for_output("used");
    let cgroup = Cgroup::of_container(&container);
    assert!(cgroup.read("memory.current").parse::<u64>().unwrap() > 50_000_000);
    let less = json!({ "memory": { "limit": 32 * MIB, "checkBeforeUpdate": true } });
    container.call("update", ["-r", "-"]).stdin(less.to_string()).done().refuses(1, &[]);
    cgroup.holds(&[("memory.max", "134217728")]);
    assert_eq!(container.status(), "running");
    container.remove();
}

/// Memory that grows until somebody intervenes: a line that never ends.
const EATER: &str = "tail /dev/zero";

fn a_container_over_its_memory_limit_is_killed(ground: &Ground) {
    let bundle = ground.limited(json!({ "memory": { "limit": 32 * MIB, "swap": 32 * MIB } }));
    let began = Instant::now();
    bundle.args(EATER.split(' ')).run().exits(137);
    assert!(began.elapsed() < Duration::from_secs(30));
}

fn events_tells_of_a_kill_for_lack_of_memory(ground: &Ground) {
    let container = ground
        .limited(json!({ "memory": { "limit": 32 * MIB, "swap": 32 * MIB } }))
        .sh(&format!("until [ -e /dev/shm/go ]; do sleep 0.1; done; {EATER}; echo eaten; exec sleep 1000"))
        .detach();
    let events = container.call("events", ["--interval", "1s"]).spawn();
    events.wait_for_output("\"stats\"");
    assert!(!events.stdout().contains("\"oom\""), "{}", events.stdout());
    container.exec(["touch", "/dev/shm/go"]).ok();
    container.wait_for_output("eaten");
    events.wait_for_output("\"oom\"");
    let told = events.stdout();
    let oom = told.lines().find(|l| l.contains("\"oom\"")).unwrap();
    let oom: serde_json::Value = serde_json::from_str(oom).unwrap();
    assert_eq!((oom["type"].as_str(), oom["id"].as_str()), (Some("oom"), Some(container.id.as_str())));
    assert!(Cgroup::of_container(&container).number("memory.events", "oom_kill") >= 1);
    // With the container, what there is to tell ends.
    container.remove();
    events.wait().ok();
}

fn events_gives_what_the_cgroup_counts(ground: &Ground) {
    let container = ground
        .limited(json!({ "memory": { "limit": 64 * MIB }, "pids": { "limit": 42 } }))
        .sh("i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; echo counted; sleep 1000 & exec sleep 1000")
        .detach();
    container.wait_for_output("counted");
    let cgroup = Cgroup::of_container(&container);
    wait_for("two processes", || cgroup.processes().len() == 2);
    let event = container.call("events", ["--stats"]).done().ok().json();
    assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(container.id.as_str())));
    let data = &event["data"];
    assert_eq!(data["memory"]["usage"]["limit"], 64 * MIB);
    let current: u64 = cgroup.read("memory.current").parse().unwrap();
    let told = data["memory"]["usage"]["usage"].as_u64().unwrap();
    assert!(told > 0 && told.abs_diff(current) < 8 << 20, "{told}, and there are {current}");
    assert_eq!((&data["pids"]["current"], &data["pids"]["limit"]), (&json!(2), &json!(42)));
    // Nanoseconds, and here both sleep.
    let told = data["cpu"]["usage"]["total"].as_u64().unwrap();
    let counted = cgroup.number("cpu.stat", "usage_usec") * 1000;
    assert!(told > 0 && told <= counted && told > counted / 2, "{told}, and there are {counted}");
    // Without --stats it goes on.
    let events = container.call("events", ["--interval", "100ms"]).spawn();
    wait_for("three lines", || events.stdout().lines().count() >= 3);
    drop(events);
    container.remove();
}

fn a_fork_bomb_stops_at_the_limit_of_processes(ground: &Ground) {
    let bomb = "bomb() { bomb & bomb & wait; }; bomb & exec sleep 1000";
    let container = ground.limited(json!({ "pids": { "limit": 20 } })).sh(bomb).create();
    let cgroup = Cgroup::of_container(&container);
    container.start().ok();
    wait_for("a fork that fails", || cgroup.number("pids.events", "max") > 0);
    let most: u32 = cgroup.read("pids.peak").parse().unwrap();
    assert!(most <= 20, "{most} processes");
    container.remove();
    assert!(!cgroup.exists());
}

fn a_quota_of_a_fifth_gets_a_fifth(ground: &Ground) {
    let container = ground
        .limited(json!({ "cpu": { "quota": 20_000, "period": 100_000 } }))
        .sh("echo ready; exec yes > /dev/null")
        .detach();
    container.wait_for_output("ready");
    let cgroup = Cgroup::of_container(&container);
    let used = || cgroup.number("cpu.stat", "usage_usec") as f64;
    wait_for("the first throttling", || cgroup.number("cpu.stat", "nr_throttled") > 0);
    let (before, began) = (used(), Instant::now());
    sleep(Duration::from_secs(5));
    let share = (used() - before) / began.elapsed().as_micros() as f64;
    assert!((0.17..=0.23).contains(&share), "{:.1} % of a processor", share * 100.0);
    container.remove();
}
