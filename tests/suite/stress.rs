//! Many containers: one after the other, at once, and alive at once. Slow, so they run by `--ignored` only.

use std::collections::VecDeque;

use crate::lab::{Lab, NONE, Running};

#[test]
#[ignore = "slow; scripts/test runs it"]
fn two_thousand_runs_in_a_row_leave_nothing() {
    let lab = Lab::new();
    let bundle = lab.bundle();
    for n in 0..2_000 {
        let ran = bundle.call("run", NONE).done().ok();
        assert_eq!(
            (ran.stdout.as_str(), ran.stderr.as_str()),
            ("", ""),
            "run {n}"
        );
        lab.forget_ids();
    }
    assert!(lab.state_entries().is_empty());
    assert!(lab.processes().is_empty());
}

#[test]
#[ignore = "slow; scripts/test runs it"]
fn three_hundred_runs_at_once_leave_nothing() {
    let lab = Lab::new();
    let bundle = lab.bundle();
    let at_once = 8 * std::thread::available_parallelism().unwrap().get();
    let mut running: VecDeque<Running> = VecDeque::new();
    for _ in 0..300 {
        if running.len() == at_once {
            running.pop_front().unwrap().wait().ok();
        }
        running.push_back(bundle.call("run", NONE).spawn());
    }
    for running in running {
        running.wait().ok();
    }
    assert!(lab.state_entries().is_empty());
}

#[test]
#[ignore = "slow; scripts/test runs it"]
fn five_hundred_containers_live_at_once_for_one_plain_user() {
    let lab = Lab::new();
    let mut all = Vec::new();
    for _ in 0..500 {
        all.push(lab.bundle().sleeps().detach());
    }
    let listed = lab.call(["list", "--format", "json"]).done().ok().json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 500);
    assert!(listed.iter().all(|c| c["status"] == "running"));
    let mut pids: Vec<_> = listed.iter().map(|c| c["pid"].as_i64().unwrap()).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 500);
    // The first, the middle and the last can be worked with as the only one can.
    for n in [0, 250, 499] {
        all[n].exec(["hostname"]).prints("moss\n");
    }
    for c in all {
        c.remove();
    }
}
