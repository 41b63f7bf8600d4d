//! Terminals in their three forms: in the foreground, by a console socket, and none.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::sys::termios::LocalFlags;
use serde_json::json;

use crate::lab::{Bundle, Lab, NONE, PATIENCE, bryo_only, eventually};
use crate::pty::{ConsoleSocket, terminal};

trait Tty {
    fn tty(self) -> Self;
}

impl Tty for Bundle<'_> {
    fn tty(self) -> Self {
        self.with(|c| c["process"]["terminal"] = true.into())
    }
}

#[test]
fn a_foreground_container_talks_through_the_callers_terminal() {
    let lab = Lab::new();
    let (mut master, slave) = terminal(24, 80);
    let bundle = lab.bundle().tty().sh("tty; read line; echo got $line; exit 3");
    let running = bundle.call("run", NONE).on_terminal(&slave).spawn();
    master.wait_for("/dev/pts/0");
    master.type_in("moss\n");
    running.wait().exits(3);
    assert!(master.seen().contains("got moss"), "{:?}", master.seen());
}

#[test]
fn the_standard_streams_of_a_terminal_are_its_slave() {
    let lab = Lab::new();
    let (mut master, slave) = terminal(24, 80);
    let script =
        "for n in 0 1 2; do readlink /proc/self/fd/$n; done; test -t 0 && test -t 1 && test -t 2 && echo all";
    let running = lab.bundle().tty().sh(script).call("run", NONE).on_terminal(&slave).spawn();
    running.wait().ok();
    let seen = master.seen().replace('\r', "");
    assert_eq!(seen, "/dev/pts/0\n/dev/pts/0\n/dev/pts/0\nall\n");
}

#[test]
fn a_terminal_controls_the_session_of_the_first_process() {
    let lab = Lab::new();
    let (mut master, slave) = terminal(24, 80);
    // Opening /dev/tty works only for who has a controlling terminal; ^C comes to its foreground group.
    let script =
        "echo via tty > /dev/tty; trap 'echo interrupted; exit 5' INT; echo ready; sleep 1000 & wait";
    let running = lab.bundle().tty().sh(script).call("run", NONE).on_terminal(&slave).spawn();
    master.wait_for("ready");
    assert!(master.seen().contains("via tty"));
    master.type_in("\x03");
    master.wait_for("interrupted");
    running.wait().exits(5);
}

#[test]
fn dev_console_is_the_terminal() {
    let lab = Lab::new();
    let (mut master, slave) = terminal(24, 80);
    let script = "echo hello > /dev/console; stat -c %t:%T /dev/console /dev/pts/0";
    let running = lab.bundle().tty().sh(script).call("run", NONE).on_terminal(&slave).spawn();
    running.wait().ok();
    assert_eq!(master.seen().replace('\r', ""), "hello\n88:0\n88:0\n");
}

#[test]
fn without_a_terminal_there_is_no_console() {
    let lab = Lab::new();
    lab.bundle().sh("test -e /dev/console; echo $?").run().prints("1\n");
}

#[test]
fn the_terminal_has_the_size_of_the_callers() {
    let lab = Lab::new();
    let (mut master, slave) = terminal(33, 99);
    // runc starts the process first and sets the size then.
    let script = if crate::lab::is_peer() { "sleep 0.3; stty size" } else { "stty size" };
    let running = lab.bundle().tty().sh(script).call("run", NONE).on_terminal(&slave).spawn();
    running.wait().ok();
    assert!(master.seen().contains("33 99"), "{:?}", master.seen());
}

#[test]
fn a_changed_size_reaches_the_container() {
    let lab = Lab::new();
    let (mut master, slave) = terminal(24, 80);
    // stty changes rows and columns one after the other: two signals may come, and the first size is none.
    let script = "trap 'stty size' WINCH; echo ready; \
                  until [ \"$(stty size)\" = '41 123' ]; do sleep 0.05; done; stty size";
    let running = lab.bundle().tty().sh(script).call("run", NONE).on_terminal(&slave).spawn();
    master.wait_for("ready");
    let stty = Command::new("stty").args(["rows", "41", "cols", "123"]).stdin(slave).status().unwrap();
    assert!(stty.success());
    master.wait_for("41 123");
    running.wait().ok();
}

#[test]
fn console_size_is_the_size_of_the_terminal() {
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let bundle = lab.bundle().tty().args(["stty", "size"]).with(|c| {
        c["process"]["consoleSize"] = json!({ "height": 11, "width": 77 });
    });
    let c = bundle.launch("run", &["--detach", "--console-socket", socket.path()]);
    let mut master = socket.receive();
    master.wait_for("11 77");
    c.wait_until_stopped();
    c.delete().ok();
}

#[test]
fn a_console_size_of_zero_means_none() {
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let bundle = lab.bundle().tty().sh("echo hello").with(|c| {
        c["process"]["consoleSize"] = json!({ "height": 0, "width": 0 });
    });
    let c = bundle.launch("run", &["--detach", "--console-socket", socket.path()]);
    socket.receive().wait_for("hello");
    c.wait_until_stopped();
    c.delete().ok();
}

#[test]
fn the_callers_terminal_is_raw_while_the_container_runs_and_restored_after() {
    let lab = Lab::new();
    for (word, code) in [("exit\n", 0), ("kill\n", 137)] {
        let (mut master, slave) = terminal(24, 80);
        let before = master.modes();
        assert!(before.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO));
        let script = "echo ready; read line; [ $line = kill ] && exec sleep 1000; exit 0";
        let bundle = lab.bundle().named("raw").tty().sh(script);
        let running = bundle.call("run", NONE).on_terminal(&slave).spawn();
        master.wait_for("ready");
        assert!(!master.modes().local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO));
        master.type_in(word);
        if code != 0 {
            lab.call(["kill", "raw", "KILL"]).done().ok();
        }
        running.wait().exits(code);
        assert_eq!(master.modes(), before, "after {word}");
    }
}

#[test]
fn the_callers_terminal_is_restored_when_the_command_is_missing() {
    let lab = Lab::new();
    let (master, slave) = terminal(24, 80);
    let before = master.modes();
    let running = lab.bundle().tty().args(["/missing"]).call("run", NONE).on_terminal(&slave).spawn();
    running.wait().exits(1);
    assert_eq!(master.modes(), before);
}

#[test]
fn the_callers_terminal_is_restored_when_the_runtime_is_told_to_end() {
    let lab = Lab::new();
    let (mut master, slave) = terminal(24, 80);
    let before = master.modes();
    let bundle = lab.bundle().tty().sh("trap 'exit 7' TERM; echo ready; sleep 1000 & wait");
    let running = bundle.call("run", NONE).on_terminal(&slave).spawn();
    master.wait_for("ready");
    running.signal(Signal::SIGTERM);
    running.wait().exits(7);
    assert_eq!(master.modes(), before);
}

#[test]
fn the_containers_terminal_leaves_line_ends_to_the_callers() {
    let lab = Lab::new();
    let (mut master, slave) = terminal(24, 80);
    // As with the size, runc does this when the process may have run for a while.
    let wait = if crate::lab::is_peer() { "sleep 0.3; " } else { "" };
    let script = format!("{wait}stty -a | grep -o -- '.onlcr'");
    let running = lab.bundle().tty().sh(&script).call("run", NONE).on_terminal(&slave).spawn();
    running.wait().ok();
    // The one carriage return comes from the caller's terminal.
    assert_eq!(master.seen(), "-onlcr\r\n");
}

#[test]
fn create_sends_the_terminal_through_the_console_socket() {
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let bundle = lab.bundle().tty().sh("read line; echo got $line");
    let c = bundle.launch("create", &["--console-socket", socket.path()]);
    let mut master = socket.receive();
    c.start().ok();
    master.type_in("moss\n");
    master.wait_for("got moss");
    c.wait_until_stopped();
    c.delete().ok();
}

/// A client whose own terminal translates nothing counts on it.
#[test]
fn a_terminal_that_goes_through_a_socket_ends_its_lines_itself() {
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let options = ["--console-socket", socket.path()];
    // It stays: what nobody has read is gone with the other end.
    let bundle = || lab.bundle().named(&lab.id()).tty().sh("echo moss; exec sleep 1000");
    let created = bundle().launch("create", &options);
    let mut master = socket.receive();
    created.start().ok();
    master.wait_for("moss\r\n");
    let detached = bundle().launch("run", &["--detach", options[0], options[1]]);
    socket.receive().wait_for("moss\r\n");
    let exec = ["-d", "-t", options[0], options[1]];
    created.exec_call(&exec, ["sh", "-c", "echo fern; exec sleep 1000"]).done().ok();
    socket.receive().wait_for("fern\r\n");
    created.remove();
    detached.remove();
}

#[test]
fn a_detached_terminal_without_a_console_socket_is_refused_with_the_known_words() {
    let lab = Lab::new();
    let words = "cannot allocate tty if runc will detach without setting console socket";
    let words = if crate::lab::is_peer() { words } else { "cannot allocate tty if" };
    lab.bundle().tty().call("create", NONE).done().refuses(1, &[words, "console socket"]);
    lab.bundle().tty().call("run", ["--detach"]).done().refuses(1, &[words, "console socket"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_console_socket_without_a_terminal_is_refused() {
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let call = lab.bundle().call("create", ["--console-socket", socket.path()]);
    call.done().refuses(1, &["cannot use console socket if"]);
    let call = lab.bundle().tty().call("run", ["--console-socket", socket.path()]);
    call.done().refuses(1, &["cannot use console socket if"]);
    assert!(!socket.is_called());
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_console_socket_that_nobody_listens_on_fails_the_create() {
    let lab = Lab::new();
    let missing = lab.dir.join("missing.sock");
    let call = lab.bundle().tty().call("create", ["--console-socket", missing.to_str().unwrap()]);
    call.done().refuses(1, &["missing.sock"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_terminal_in_the_foreground_needs_none_of_the_caller() {
    bryo_only!("runc refuses a terminal when its own stdin is none");
    let lab = Lab::new();
    lab.bundle().tty().sh("tty; echo out").run().prints("/dev/pts/0\nout\n");
}

#[test]
fn exec_with_a_terminal_talks_through_the_callers() {
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    for flag in ["-t", "--tty"] {
        let (mut master, slave) = terminal(31, 97);
        let before = master.modes();
        let script = "sleep 0.3; stty size; tty; read line; echo got $line; exit 4";
        let running = c.exec_call(&[flag], ["sh", "-c", script]).on_terminal(&slave).spawn();
        master.wait_for("/dev/pts/0");
        assert!(master.seen().contains("31 97"), "{:?}", master.seen());
        master.type_in("moss\n");
        running.wait().exits(4);
        assert!(master.seen().contains("got moss"));
        assert_eq!(master.modes(), before);
    }
    c.remove();
}

#[test]
fn exec_without_t_has_no_terminal_even_if_the_config_has_one() {
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let c = lab.bundle().tty().sleeps().launch("run", &["-d", "--console-socket", socket.path()]);
    let _master = socket.receive();
    c.exec(["sh", "-c", "test -t 1; echo $?"]).prints("1\n");
    c.remove();
}

#[test]
fn exec_detached_sends_the_terminal_through_the_console_socket() {
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    let socket = ConsoleSocket::new(&lab.dir);
    let options = ["-d", "-t", "--console-socket", socket.path()];
    c.exec_call(&options, ["sh", "-c", "read line; echo got $line"]).done().ok();
    let mut master = socket.receive();
    master.type_in("moss\n");
    master.wait_for("got moss");
    c.remove();
}

#[test]
fn exec_detached_with_a_terminal_needs_a_console_socket() {
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    c.exec_call(&["-d", "-t"], ["true"]).done().refuses(255, &["console socket"]);
    c.remove();
}

#[test]
fn the_terminal_closes_with_the_container() {
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let c = lab.bundle().tty().sleeps().launch("run", &["-d", "--console-socket", socket.path()]);
    let master = socket.receive();
    c.kill("KILL").ok();
    assert_eq!(master.read_to_end(), "");
    c.wait_until_stopped();
    c.delete().ok();
}

#[test]
fn much_output_arrives_whole() {
    let lab = Lab::new();
    let (master, slave) = terminal(24, 80);
    let bundle = lab.bundle().tty().sh("seq 1 20000; echo end");
    let running = bundle.call("run", NONE).on_terminal(&slave).spawn();
    drop(slave);
    let seen = master.read_to_end();
    running.wait().ok();
    let numbers: Vec<_> = seen.split_whitespace().collect();
    assert_eq!(numbers.len(), 20001);
    assert_eq!(numbers[19999..], ["20000", "end"]);
}

#[test]
fn the_runtime_leaves_a_callers_job_control_alone() {
    // A container without a terminal shares the caller's session, and is not its leader.
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    let stat = fs::read_to_string(format!("/proc/{}/stat", c.pid())).unwrap();
    let tty: i32 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(4).unwrap().parse().unwrap();
    assert_eq!(tty, 0);
    assert!(eventually(PATIENCE, || c.status() == "running"));
    c.remove();
}

#[test]
fn an_exec_on_a_terminal_ends_although_what_it_left_goes_on_writing() {
    bryo_only!("runc needs a terminal of its own for -t");
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    let call = c.exec_call(&["-t"], ["sh", "-c", "trap '' HUP; yes & exit 3"]);
    call.done().exits(3);
    c.remove();
}
