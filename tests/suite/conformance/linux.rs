//! What config-linux.md wants of a runtime.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::lab::{Bundle, Lab, PATIENCE, bryo_only};
use crate::pty::ConsoleSocket;

/// The names of namespaces in config.json, and in /proc/PID/ns.
const NAMESPACES: [(&str, &str); 7] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mount", "mnt"),
    ("network", "net"),
    ("pid", "pid"),
    ("user", "user"),
    ("uts", "uts"),
];

/// config-linux.md#namespaces
#[test]
fn a_path_that_leads_to_a_namespace_of_another_type_is_refused_for_every_type() {
    let lab = Lab::new();
    let other = lab.bundle().sleeps().detach();
    for (kind, _) in NAMESPACES {
        for (_, link) in NAMESPACES.iter().filter(|(other, _)| *other != kind) {
            let path = format!("/proc/{}/ns/{link}", other.pid());
            lab.bundle().namespace(kind, Some(&path)).run().refuses(1, &[]);
        }
    }
    assert_eq!(lab.state_entries(), std::slice::from_ref(&other.id));
    other.remove();
}

/// config-linux.md#namespaces
#[test]
fn a_relative_path_of_a_namespace_is_refused() {
    let lab = Lab::new();
    let bundle = lab.bundle();
    // It would lead to one from where the runtime is called.
    let bundle = bundle.namespace("uts", Some("self/ns/uts"));
    bundle.call("run", [] as [&str; 0]).cwd("/proc").done().refuses(1, &["uts"]);
    assert!(lab.state_entries().is_empty());
}

/// config-linux.md#namespaces
#[test]
fn a_container_of_a_user_does_not_get_the_mounts_of_the_host() {
    bryo_only!("runc says which of its steps the kernel did not let it take");
    let lab = Lab::new();
    lab.bundle().without_namespace("mount").run().refuses(1, &["mount namespace", "; fix: "]);
    assert!(lab.state_entries().is_empty());
}

fn with_device(lab: &Lab, device: Value) -> Bundle<'_> {
    lab.bundle().own_rootfs().with(|c| c["linux"]["devices"] = json!([device]))
}

/// config-linux.md#devices
#[test]
fn a_device_whose_place_is_taken_by_another_file_is_refused() {
    bryo_only!("runc 1.1 shows the device or leaves the file, by whether it may make devices");
    let lab = Lab::new();
    let bundle = with_device(&lab, json!({ "path": "/moss", "type": "c", "major": 1, "minor": 3 }));
    let place = bundle.rootfs().join("moss");
    fs::write(&place, "of the image\n").unwrap();
    bundle.run().refuses(1, &["DEV", "/moss", "file exists; fix: "]);
    assert!(lab.state_entries().is_empty());
    assert_eq!(fs::read_to_string(&place).unwrap(), "of the image\n");
    // What a device leaves that was shown before is no other file.
    fs::write(&place, "").unwrap();
    for _ in 0..2 {
        bundle.run().ok();
    }
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    bundle.run().refuses(1, &["DEV", "/moss"]);
}

/// config-linux.md#devices
#[test]
fn a_device_may_be_anywhere_in_the_root_file_system() {
    bryo_only!("runc 1.1 looks for the device at the same path of the host, unless it may make it");
    let lab = Lab::new();
    let bundle = with_device(&lab, json!({ "path": "/deep/down/moss", "type": "c", "major": 1, "minor": 5 }));
    let script = "stat -c %t:%T /deep/down/moss; head -c 2 /deep/down/moss | od -An -tx1";
    bundle.sh(script).run().prints("1:5\n 00 00\n");
}

/// config-linux.md#devices
#[test]
fn a_pipe_is_made_and_needs_no_numbers() {
    bryo_only!("runc 1.1 looks for it on the host, unless it may make devices");
    let lab = Lab::new();
    let bundle = with_device(&lab, json!({ "path": "/moss", "type": "p", "fileMode": 0o640 }));
    let place = bundle.rootfs().join("moss");
    bundle.sh("stat -c %F:%a /moss; echo through > /moss & cat /moss").run().prints("fifo:640\nthrough\n");
    assert!(fs::symlink_metadata(&place).unwrap().file_type().is_fifo());
    // Of the lab, nothing but files stays.
    fs::remove_file(place).unwrap();
}

/// config-linux.md#intelrdt
#[test]
fn resource_director_technology_without_resctrl_is_refused() {
    bryo_only!("runc 1.1 goes on without where the processor has none");
    let lab = Lab::new();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.lines().any(|line| line.split(' ').nth(2) == Some("resctrl")), "{mounts}");
    for asked in [json!({ "closID": "moss" }), json!({ "l3CacheSchema": "L3:0=f" }), json!({})] {
        let bundle = lab.bundle().with(|c| c["linux"]["intelRdt"] = asked);
        bundle.run().refuses(1, &["intelRdt"]);
        assert!(lab.state_entries().is_empty());
    }
}

fn filtered(lab: &Lab, seccomp: Value) -> Bundle<'_> {
    lab.bundle().own_rootfs().with(|c| c["linux"]["seccomp"] = seccomp)
}

/// config-linux.md#seccomp
#[test]
fn an_errno_for_an_action_that_returns_none_is_refused() {
    bryo_only!("runc 1.1 ignores it");
    let lab = Lab::new();
    for action in ["KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ALLOW", "LOG"] {
        let action = format!("SCMP_ACT_{action}");
        let default = json!({ "defaultAction": action, "defaultErrnoRet": 5 });
        let rule = json!({ "names": ["mkdir"], "action": action, "errnoRet": 5 });
        let rule = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
        filtered(&lab, default).run().refuses(1, &["defaultErrnoRet", &action]);
        filtered(&lab, rule).run().refuses(1, &["errnoRet", &action]);
        assert!(lab.state_entries().is_empty());
    }
}

/// config-linux.md#seccomp
#[test]
fn a_rule_without_names_and_metadata_without_a_reader_are_refused() {
    bryo_only!("runc 1.1 ignores both");
    let lab = Lab::new();
    let rule = json!({ "names": [], "action": "SCMP_ACT_ERRNO" });
    let nameless = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    filtered(&lab, nameless).run().refuses(1, &["no names"]);
    let unread = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "moss" });
    filtered(&lab, unread).run().refuses(1, &["listenerMetadata"]);
}

/// Every mkdir is put to the agent behind this socket.
fn asks(socket: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "listenerPath": socket,
        "listenerMetadata": "moss=green",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    })
}

/// config-linux.md#containerprocessstate
#[test]
fn an_agent_gets_one_state_with_its_descriptor_on_a_connection_of_its_own() {
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let bundle = filtered(&lab, asks(socket.path())).sh("mkdir /x; echo over");
    let c = bundle.with(|c| c["annotations"] = json!({ "moss": "green" })).create();
    let pid = c.pid();
    c.start().ok();
    let (mut fds, text) = socket.receive_all();
    let told: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(told["fds"], json!(["seccompFd"]));
    assert_eq!(told["pid"], pid);
    assert_eq!(told["metadata"], "moss=green");
    assert!(told["ociVersion"].is_string(), "{told}");
    let state = &told["state"];
    assert_eq!(state["id"], c.id);
    assert_eq!(state["pid"], pid);
    assert_eq!(state["bundle"], c.bundle.to_str().unwrap());
    assert_eq!(state["annotations"]["moss"], "green");
    assert!(state["ociVersion"].is_string() && state["status"].is_string(), "{state}");

    // It is the descriptor on which the kernel asks.
    assert_eq!(fds.len(), 1);
    let fd = fds.remove(0);
    let mut asked = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut asked, PollTimeout::try_from(PATIENCE).unwrap()).unwrap(), 1);
    // Nobody answers any more, and the call fails.
    drop(fd);
    c.wait_for_output("over");
    c.wait_until_stopped();
    assert!(!socket.is_called());
    c.delete().ok();
}

/// config-linux.md#seccomp
#[test]
fn the_connection_to_an_agent_is_closed_also_where_the_runtime_stays() {
    bryo_only!("runc 1.1 keeps its end for as long as it waits for the container");
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let run = filtered(&lab, asks(socket.path())).sh("mkdir /x; echo over").spawn();
    drop(socket.receive_all());
    run.wait().prints("over\n");

    // What joins has a filter, and so a connection and a state, of its own.
    let c = filtered(&lab, asks(socket.path())).sleeps().detach();
    let first = socket.receive_all();
    let exec = c.exec_call(&[], ["sh", "-c", "mkdir /x; echo over"]).spawn();
    let (fds, text) = socket.receive_all();
    let told: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_ne!(told["pid"], c.pid());
    assert_eq!(told["state"]["pid"], c.pid());
    assert_eq!(fds.len(), 1);
    drop(fds);
    exec.wait().prints("over\n");
    drop(first);
    c.remove();
}

/// config-linux.md#seccomp
#[test]
fn an_agent_that_cannot_be_reached_fails_the_container() {
    let lab = Lab::new();
    // Nothing, a file, and a socket that nobody listens on any more.
    let gone = lab.dir.join("gone.sock");
    drop(std::os::unix::net::UnixListener::bind(&gone).unwrap());
    for path in [lab.dir.join("missing"), lab.file("file", ""), gone.clone()] {
        let ran = filtered(&lab, asks(path.to_str().unwrap())).sh("echo never").run().refuses(1, &[]);
        assert_eq!(ran.stdout, "");
    }
    fs::remove_file(gone).unwrap();
}
