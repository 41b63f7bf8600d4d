//! The descriptor of a process for who asks for it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

use crate::lab::{Lab, PATIENCE, bryo_only};
use crate::pty::ConsoleSocket;

/// The pid behind a pidfd (proc_pid_fdinfo(5)).
fn pid_of(pidfd: &OwnedFd) -> String {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    pid.unwrap_or_else(|| panic!("no pidfd: {info}")).trim().to_owned()
}

#[track_caller]
fn ends(pidfd: &OwnedFd) {
    let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut ended, PollTimeout::try_from(PATIENCE).unwrap()).unwrap(), 1);
}

#[test]
fn create_sends_the_pidfd_of_the_first_process() {
    bryo_only!("runc 1.1 has no --pidfd-socket");
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let c = lab.bundle().sleeps().launch("create", &["--pidfd-socket", socket.path()]);
    let (mut fds, word) = socket.receive_all();
    assert_eq!(word, "standard");
    let pidfd = fds.remove(0);
    assert_eq!(pid_of(&pidfd), c.pid().to_string());
    c.start().ok();
    c.kill("KILL").ok();
    ends(&pidfd);
    c.wait_until_stopped();
    c.delete().ok();
}

#[test]
fn an_annotation_asks_for_the_same() {
    bryo_only!("the annotation is crun's");
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let path = socket.path().to_owned();
    let bundle = lab.bundle().sleeps().with(|c| c["annotations"] = json!({ "run.oci.pidfd_receiver": path }));
    let c = bundle.detach();
    assert_eq!(pid_of(&socket.receive_fd()), c.pid().to_string());
    c.remove();
}

#[test]
fn exec_sends_the_pidfd_of_the_process_that_joins() {
    bryo_only!("runc 1.1 has no --pidfd-socket");
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let c = lab.bundle().sleeps().detach();
    let file = lab.dir.join("pid");
    let options = ["--detach", "--pidfd-socket", socket.path(), "--pid-file", file.to_str().unwrap()];
    c.exec_call(&options, ["sleep", "1000"]).done().ok();
    let (mut fds, word) = socket.receive_all();
    assert_eq!(word, "setns");
    let pidfd = fds.remove(0);
    assert_eq!(pid_of(&pidfd), std::fs::read_to_string(&file).unwrap());
    c.remove();
    ends(&pidfd);
}

#[test]
fn a_pidfd_socket_that_nobody_listens_on_fails_the_create() {
    bryo_only!("runc 1.1 has no --pidfd-socket");
    let lab = Lab::new();
    let bundle = lab.bundle().sleeps();
    let options = ["--pidfd-socket", "/nowhere/pidfd.sock"];
    bundle.call("create", options).done().refuses(1, &["pidfd socket", "/nowhere/pidfd.sock"]);
    assert!(lab.state_entries().is_empty());
}
