//! run: exit codes, standard streams, --detach, --keep, --pid-file, signals.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::lab::{Lab, NONE, PATIENCE, alive, eventually};

#[test]
fn run_passes_the_standard_streams_through() {
    let lab = Lab::new();
    let bundle = lab.bundle().sh("cat; echo to stderr >&2");
    let ran = bundle.call("run", NONE).stdin("moss\n").done().prints("moss\n");
    assert!(ran.stderr.contains("to stderr"), "{}", ran.stderr);
}

#[test]
fn run_ends_with_the_code_of_the_process() {
    let lab = Lab::new();
    for code in [0, 1, 7, 126, 255] {
        let ran = lab.bundle().sh(&format!("exit {code}")).run().exits(code);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    }
}

#[test]
fn run_ends_with_128_and_the_signal_that_killed_the_process() {
    let lab = Lab::new();
    let running = lab.bundle().named("killed").sh("echo ready; exec sleep 1000").spawn();
    running.wait_for_output("ready");
    lab.call(["kill", "killed", "KILL"]).done().ok();
    running.wait().exits(137);

    // The first process of a pid namespace is immune to its own signals; without one it is not.
    for (signal, code) in [("TERM", 143), ("USR1", 138)] {
        let script = format!("kill -{signal} $$");
        lab.bundle().without_namespace("pid").without_proc().sh(&script).run().exits(code);
    }
}

#[test]
fn run_leaves_no_state() {
    let lab = Lab::new();
    lab.bundle().run().ok();
    assert!(lab.state_entries().is_empty());
}

#[test]
fn run_keep_leaves_a_stopped_container() {
    let lab = Lab::new();
    let c = lab.bundle().launch("run", &["--keep"]);
    assert_eq!(c.status(), "stopped");
    c.delete().ok();
}

#[test]
fn run_detach_returns_while_the_container_runs() {
    let lab = Lab::new();
    for flag in ["-d", "--detach"] {
        let c = lab.bundle().waits().launch("run", &[flag]);
        assert_eq!(c.status(), "running");
        c.wait_for_output("ready");
        c.kill("TERM").ok();
        c.wait_until_stopped();
        // A detached container stays until it is deleted.
        c.delete().ok();
    }
}

#[test]
fn the_pid_file_holds_the_pid_and_no_newline() {
    let lab = Lab::new();
    for verb in ["create", "run"] {
        let file = lab.dir.join(format!("{verb}.pid"));
        let mut options = vec!["--pid-file", file.to_str().unwrap()];
        if verb == "run" {
            options.push("--detach");
        }
        let c = lab.bundle().sleeps().launch(verb, &options);
        assert_eq!(fs::read_to_string(&file).unwrap(), c.pid().to_string());
        c.remove();
    }
}

#[test]
fn a_relative_pid_file_is_relative_to_the_caller() {
    let lab = Lab::new();
    let bundle = lab.bundle().sleeps().named("elsewhere");
    let elsewhere = lab.dir.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    bundle.call("run", ["-d", "--pid-file", "my.pid"]).cwd(&elsewhere).done().ok();
    assert!(elsewhere.join("my.pid").exists());
    lab.call(["delete", "-f", "elsewhere"]).done().ok();
}

#[test]
fn the_bundle_is_the_current_directory_unless_given() {
    let lab = Lab::new();
    let bundle = lab.bundle().sh("echo here");
    bundle.save();
    lab.call(["run", &lab.id()]).cwd(&bundle.dir).done().prints("here\n");
}

#[test]
fn a_relative_rootfs_is_relative_to_the_bundle() {
    let lab = Lab::new();
    lab.bundle().own_rootfs().sh("echo > /written; ls /written").run().prints("/written\n");
}

#[test]
fn signals_to_a_foreground_run_reach_the_container() {
    let lab = Lab::new();
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGUSR1, "USR1"), (Signal::SIGHUP, "HUP")] {
        let script = format!("trap 'echo got; exit 9' {name}; echo ready; sleep 1000 & wait");
        let running = lab.bundle().sh(&script).spawn();
        running.wait_for_output("ready");
        running.signal(signal);
        let ran = running.wait().exits(9);
        assert_eq!(ran.stdout, "ready\ngot\n");
    }
}

#[test]
fn orphans_of_the_container_are_reaped() {
    let lab = Lab::new();
    // An orphan in a container without a pid namespace comes to the runtime, the nearest subreaper.
    let script = "sh -c 'sleep 0.05 & echo $! >&3' 3>&1; echo ready; read line";
    let running = lab.bundle().without_namespace("pid").without_proc().sh(script);
    let mut running = running.call("run", NONE).stdin_pipe().spawn();
    running.wait_for_output("ready");
    let orphan: i32 = running.stdout().lines().next().unwrap().parse().unwrap();
    let reaped = eventually(PATIENCE, || !std::path::Path::new(&format!("/proc/{orphan}")).exists());
    assert!(reaped, "{orphan} is a zombie");
    drop(running.child.stdin.take());
    running.wait().exits(1);
}

#[test]
fn killing_a_foreground_run_is_not_fatal_for_what_comes_after() {
    let lab = Lab::new();
    let running = lab.bundle().named("bereft").sh("echo ready; exec sleep 1000").spawn();
    running.wait_for_output("ready");
    let pid = lab.call(["state", "bereft"]).done().ok().json()["pid"].as_i64().unwrap() as i32;
    running.signal(Signal::SIGKILL);
    drop(running);
    lab.call(["delete", "--force", "bereft"]).done().ok();
    assert!(!alive(pid));
    lab.bundle().named("bereft").run().ok();
}

#[test]
fn the_environment_of_the_caller_stays_outside() {
    let lab = Lab::new();
    let bundle = lab.bundle().args(["env"]).with(|c| push_env(c, "MOSS=green"));
    let ran = bundle.call("run", NONE).env("SECRET", "1").done().ok();
    let mut names: Vec<_> = ran.stdout.lines().map(|l| l.split('=').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["BRYO_SUITE", "HOME", "MOSS", "PATH", "TERM"], "{}", ran.stdout);
    assert!(ran.stdout.contains("\nMOSS=green\n"));
}

fn push_env(config: &mut serde_json::Value, entry: &str) {
    crate::lab::push(&mut config["process"]["env"], json!(entry));
}
