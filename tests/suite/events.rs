//! events: the words for every wrong turn, and what there is to tell of a container without a cgroup. What is told
//! of one that has a cgroup is tested where there are cgroups.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, PATIENCE, bryo_only, eventually, runtime};

#[test]
fn an_interval_is_a_duration_that_is_more_than_nothing() {
    let lab = Lab::new();
    let container = lab.bundle().sleeps().detach();
    for interval in ["0s", "-1s", "-1h30m", "0"] {
        for options in [&["--interval", interval][..], &["--interval", interval, "--stats"]] {
            let ran = container.call("events", options).done();
            ran.refuses(1, &["duration interval must be greater than 0"]);
        }
    }
    for interval in ["5", "5x", "s", "", "1s 1s", "99999999999h"] {
        container.call("events", ["--interval", interval]).done().refuses(1, &["parse error"]);
    }
    container.remove();
}

#[test]
fn only_a_container_that_lives_has_events() {
    let lab = Lab::new();
    lab.call(["events", "nobody"]).done().refuses(1, &["container does not exist"]);
    let container = lab.bundle().create();
    container.start().ok();
    container.wait_until_stopped();
    for options in [&[][..], &["--stats"]] {
        container.call("events", options).done().refuses(1, &["is not running"]);
    }
    container.delete().ok();
}

/// The id of a container that has no cgroup, whatever this host has.
fn without_cgroup(lab: &Lab) -> String {
    let (bundle, id) = (lab.bundle().sleeps(), lab.id());
    let manager = ["--cgroup-manager", "disabled", "run", "--detach", "--bundle"];
    lab.call(manager).args([bundle.save()]).args([&id]).done().ok();
    id
}

/// What every stats event says of it.
fn assert_nothing_is_known(line: &str, id: &str) {
    let event: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&event["type"], &event["id"]), (&"stats".into(), &id.into()));
    let data = event["data"].as_object().unwrap();
    for (key, value) in data {
        assert_eq!(value, if key == "available" { &Value::Bool(false) } else { &Value::Null }, "{line}");
    }
    for section in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"]
    {
        assert!(data.contains_key(section), "{line}");
    }
}

#[test]
fn without_a_cgroup_nothing_is_known_and_that_is_said() {
    bryo_only!("runc has no such manager, and prints zeros");
    let lab = Lab::new();
    let id = without_cgroup(&lab);
    let told = lab.call(["events", "--stats", &id]).done().ok().stdout;
    assert_eq!(told.lines().count(), 1, "{told}");
    assert_nothing_is_known(&told, &id);
    lab.call(["delete", "--force", &id]).done().ok();
}

#[test]
fn without_a_cgroup_events_come_at_the_interval_and_end_with_the_container() {
    bryo_only!("runc has no such manager");
    let lab = Lab::new();
    let id = without_cgroup(&lab);
    let began = Instant::now();
    // Both watch by the time that the one has told three times.
    let slow = lab.call(["events", "--interval", "1h", &id]).spawn();
    let events = lab.call(["events", "--interval", "200ms", &id]).spawn();
    assert!(eventually(PATIENCE, || events.stdout().lines().count() >= 3));
    assert!(began.elapsed() >= Duration::from_millis(600), "the first after one interval");
    lab.call(["kill", &id, "KILL"]).done().ok();
    let told = events.wait().ok().stdout;
    told.lines().for_each(|line| assert_nothing_is_known(line, &id));
    slow.wait().prints("");
    lab.call(["delete", &id]).done().ok();
}

#[test]
fn a_reader_that_leaves_ends_it() {
    bryo_only!("runc notices only when it writes");
    let lab = Lab::new();
    let container = lab.bundle().sleeps().detach();
    for (interval, lines) in [("50ms", 1), ("1h", 0)] {
        let mut events = std::process::Command::new(runtime())
            .args(["--root".as_ref(), lab.root().as_os_str()])
            .args(["events", "--interval", interval, &container.id])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(events.stdout.take().unwrap());
        for _ in 0..lines {
            reader.read_line(&mut String::new()).unwrap();
        }
        drop(reader);
        assert!(eventually(PATIENCE, || events.try_wait().unwrap().is_some()), "with {interval}");
        let ran = events.wait_with_output().unwrap();
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
    }
    container.remove();
}
