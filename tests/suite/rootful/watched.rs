//! CAP_SYS_PTRACE without a user namespace: who has it may look into every process that he sees, ours among them while
//! they are on their way in, dumpable or not (ptrace(2)).

use std::fs;

use serde_json::{Value, json};

use super::rootful;
use crate::lab::{Bundle, Call, Container, Lab, bryo_only};

/// Writes what it finds of all processes that it sees, for ever.
fn watching(script: &str) -> String {
    format!("echo ready; while :; do for p in /proc/[0-9]*; do {script}; done; sleep 0.01; done 2>/dev/null")
}

const BINARIES: &str = "echo $(cat $p/comm) is $(readlink $p/exe)";

fn tracer(config: &mut Value) {
    let caps = json!(["CAP_SYS_PTRACE", "CAP_KILL"]);
    config["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
}

/// The child of the runtime stops for a while on its way.
fn slowly(call: Call<'_>) -> Call<'_> {
    call.under(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=setsid:delay_enter=1500000"])
}

/// Who watched has seen us, but not our binary.
fn assert_only_a_copy(seen: &str) {
    // By then it may be what it was to become.
    let ours: Vec<_> = seen.lines().filter_map(|line| line.strip_prefix("bryo:init is ")).collect();
    assert!(ours.iter().any(|exe| exe.starts_with("/memfd:")), "nobody was seen: {seen}");
    assert!(!ours.iter().any(|exe| exe.ends_with("/bryo")), "{ours:?}");
}

fn watcher<'lab>(bundle: Bundle<'lab>, script: &str) -> Container<'lab> {
    let container = bundle.with(tracer).sh(&watching(script)).detach();
    container.wait_for_output("ready");
    container
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn an_exec_shows_a_copy_of_our_binary() {
    bryo_only!("runc is another program");
    let lab = Lab::new();
    let container = watcher(rootful(&lab), BINARIES);
    slowly(container.exec_call(&[], ["true"])).done().ok();
    assert_only_a_copy(&container.stdout());
    container.remove();
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn so_does_an_exec_after_one_that_got_the_right() {
    bryo_only!("runc is another program");
    let lab = Lab::new();
    let container = rootful(&lab).sleeps().detach();
    let watcher =
        container.exec_call(&["--cap", "CAP_SYS_PTRACE"], ["sh", "-c", &watching(BINARIES)]).spawn();
    watcher.wait_for_output("ready");
    slowly(container.exec_call(&[], ["true"])).done().ok();
    assert_only_a_copy(&watcher.stdout());
    container.remove();
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn so_does_a_container_that_joins_the_pid_namespace_of_another() {
    bryo_only!("runc is another program");
    let lab = Lab::new();
    let container = watcher(rootful(&lab), BINARIES);
    let pids = format!("/proc/{}/ns/pid", container.pid());
    let other = rootful(&lab).without_namespace("pid").namespace("pid", Some(&pids)).args(["true"]);
    slowly(other.call("run", crate::lab::NONE)).done().ok();
    assert_only_a_copy(&container.stdout());
    container.remove();
}

/// Without a mount namespace it is chroot(2) alone that keeps an exec from the host's root.
#[test]
#[ignore = "needs root; scripts/test runs it"]
fn an_exec_without_a_mount_namespace_never_has_the_root_of_the_host() {
    bryo_only!("the exec of runc stays in the root of the host");
    let lab = Lab::new();
    let mark = lab.file("mark", "");
    let script = format!("[ -e $p/root{} ] && echo $(cat $p/comm) leaks; {BINARIES}", mark.display());
    let container = watcher(super::host_root::on_host(&lab), &script);
    slowly(container.exec_call(&[], ["true"])).done().ok();
    assert_only_a_copy(&container.stdout());
    assert!(!container.stdout().contains("leaks"), "{}", container.stdout());
    assert!(fs::metadata(mark).is_ok());
    container.remove();
}
