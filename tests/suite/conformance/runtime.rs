//! What runtime.md wants of a runtime.

use std::fs;

use serde_json::{Value, json};

use crate::lab::{Container, Lab, NONE};

/// The properties that the state has to have, of the types of state-schema.json.
fn assert_form(c: &Container, status: &str) {
    let state = c.state();
    assert_eq!(state["status"], status);
    assert_eq!(state["id"], c.id);
    assert_eq!(state["bundle"], c.bundle.to_str().unwrap());
    let version = state["ociVersion"].as_str().unwrap();
    let numbers: Vec<_> = version.split(['-', '+']).next().unwrap().split('.').collect();
    assert!(numbers.len() == 3 && numbers.iter().all(|n| n.parse::<u32>().is_ok()), "{version}");
    let pid = state["pid"].as_i64().unwrap();
    assert!(if status == "stopped" { pid >= 0 } else { pid > 0 }, "{state}");
    let annotations = state["annotations"].as_object().unwrap();
    assert!(annotations.values().all(Value::is_string), "{state}");
}

/// runtime.md#state, runtime.md#query-state
#[test]
fn the_state_has_the_form_of_its_schema_at_every_status() {
    let lab = Lab::new();
    let c = lab.bundle().with(|c| c["annotations"] = json!({ "moss": "green" })).waits().create();
    assert_form(&c, "created");
    c.start().ok();
    c.wait_for_output("ready");
    assert_form(&c, "running");
    c.kill("KILL").ok();
    c.wait_until_stopped();
    assert_form(&c, "stopped");
    c.delete().ok();
}

/// runtime.md#lifecycle, step 2
#[test]
fn a_change_of_the_configuration_after_create_changes_nothing() {
    let lab = Lab::new();
    let log = lab.dir.join("log");
    let hook = |word: &str| {
        let script = lab.script(word, &format!("cat > /dev/null; echo {word} >> {}", log.display()));
        json!([{ "path": script }])
    };
    let (before, after) = (hook("before"), hook("after"));
    let bundle = lab.bundle().sh("echo before; hostname; sleep 1000").with(|c| {
        c["hooks"] = json!({ "poststart": before, "poststop": before });
        c["annotations"] = json!({ "moss": "before" });
    });
    let mut changed = bundle.config.clone();
    changed["process"]["args"] = json!(["echo", "after"]);
    changed["hostname"] = "after".into();
    changed["annotations"]["moss"] = "after".into();
    changed["hooks"] =
        json!({ "startContainer": [{ "path": "/bin/false" }], "poststart": after, "poststop": after });
    let c = bundle.create();
    fs::write(c.bundle.join("config.json"), changed.to_string()).unwrap();
    c.start().ok();
    c.wait_for_output("moss");
    assert_eq!(c.stdout(), "before\nmoss\n");
    assert_eq!(c.state()["annotations"]["moss"], "before");
    // Not even where there is nothing left of it.
    fs::remove_file(c.bundle.join("config.json")).unwrap();
    c.kill("KILL").ok();
    c.wait_until_stopped();
    c.delete().ok();
    assert_eq!(fs::read_to_string(log).unwrap(), "before\nbefore\n");
}

/// runtime.md#lifecycle, steps 3 to 7: the lifecycle goes on at step 12, and so the hooks of step 13 run
#[test]
fn a_container_whose_hook_fails_is_destroyed_and_its_poststop_hooks_run() {
    let lab = Lab::new();
    let log = lab.dir.join("log");
    let poststop = lab.script("poststop", &format!("cat > /dev/null; echo poststop >> {}", log.display()));
    let failing = lab.script("failing", "cat > /dev/null; exit 1");
    let failing = |kind: &str| match kind {
        "startContainer" => json!({ "path": "/bin/false" }),
        _ => json!({ "path": failing }),
    };
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let bundle = lab.bundle().hook(kind, failing(kind)).hook("poststop", json!({ "path": poststop }));
        let ran = bundle.sh("echo never").run().refuses(1, &["hook"]);
        assert_eq!(ran.stdout, "", "{kind}");
        assert!(lab.state_entries().is_empty(), "{kind}");
        assert_eq!(fs::read_to_string(&log).unwrap(), "poststop\n", "{kind}");
        fs::remove_file(&log).unwrap();
    }
}

/// runtime.md#operations: each of them needs the container's id
#[test]
fn an_operation_without_a_container_is_an_error() {
    let lab = Lab::new();
    let c = lab.bundle().waits().detach();
    c.wait_for_output("ready");
    for verb in ["state", "start", "kill", "delete", "create"] {
        let ran = lab.call([verb]).cwd(&c.bundle).done();
        assert_ne!(ran.code(), 0, "{verb}: {ran:?}");
        assert!(!ran.stderr.is_empty(), "{verb}");
    }
    assert_eq!(c.status(), "running");
    assert_eq!(lab.state_entries(), std::slice::from_ref(&c.id));
    c.remove();
}

/// runtime.md#create: all but the process is applied by create, and the program by nothing but start
#[test]
fn create_makes_the_environment_and_start_runs_the_program() {
    let lab = Lab::new();
    let bundle =
        lab.bundle().own_rootfs().with(|c| c["linux"]["sysctl"] = json!({ "kernel.msgmax": "4321" }));
    let mark = bundle.rootfs().join("mark");
    let c = bundle.sh("cat /proc/sys/kernel/msgmax > /mark; hostname >> /mark").create();
    // Who joins finds it all there.
    c.exec(["cat", "/proc/sys/kernel/msgmax", "/proc/sys/kernel/hostname"]).prints("4321\nmoss\n");
    assert_eq!(c.status(), "created");
    assert!(!mark.exists());
    c.start().ok();
    c.wait_until_stopped();
    assert_eq!(fs::read_to_string(mark).unwrap(), "4321\nmoss\n");
    c.delete().ok();
}

/// runtime.md#start
#[test]
fn a_container_without_a_process_is_never_running() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| c["process"] = Value::Null);
    // By the specification, start refuses it; what create refuses already is never started.
    bundle.run().refuses(1, &["process"]);
    assert!(lab.state_entries().is_empty());
}

/// runtime.md#kill
#[test]
fn kill_sends_the_very_signal_that_it_was_asked_for() {
    let lab = Lab::new();
    let signals = ["HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "CONT", "WINCH"];
    let traps: String = signals.iter().map(|s| format!("trap 'echo got {s}' {s}; ")).collect();
    let c = lab.bundle().sh(&format!("{traps} echo ready; while :; do sleep 1000 & wait; done")).detach();
    c.wait_for_output("ready");
    for signal in signals {
        c.kill(signal).ok();
        c.wait_for_output(&format!("got {signal}\n"));
    }
    // Each of them once, and none that was not asked for.
    assert_eq!(c.stdout().lines().count(), 1 + signals.len(), "{}", c.stdout());
    assert_eq!(c.status(), "running");
    c.remove();
}

/// runtime.md#kill
#[test]
fn a_signal_to_a_stopped_container_changes_nothing() {
    let lab = Lab::new();
    let c = lab.bundle().create();
    c.start().ok();
    c.wait_until_stopped();
    let before = c.state();
    for signal in ["TERM", "KILL"] {
        c.kill(signal).refuses(1, &["not running"]);
    }
    assert_eq!(c.state(), before);
    c.delete().ok();
}

/// runtime.md#delete
#[test]
fn delete_leaves_what_the_container_did_not_make() {
    let lab = Lab::new();
    let neighbour = lab.bundle().sleeps().detach();
    let volume = lab.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    let path = |link: &str| format!("/proc/{}/ns/{link}", neighbour.pid());
    let bundle = lab.bundle().own_rootfs().add_mount(json!({
        "destination": "/mnt", "type": "none", "source": volume, "options": ["bind"],
    }));
    let bundle = bundle.namespace("user", Some(&path("user"))).namespace("ipc", Some(&path("ipc")));
    let c = bundle.sh("echo kept > /mnt/file; echo kept > /file").create();
    let (config, rootfs) = (c.bundle.join("config.json"), c.bundle.join("rootfs"));
    c.start().ok();
    c.wait_until_stopped();
    c.delete().ok();
    assert_eq!(neighbour.status(), "running");
    neighbour.exec(["true"]).ok();
    for file in [volume.join("file"), rootfs.join("file")] {
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept\n");
    }
    assert!(config.exists());
    neighbour.remove();
}

/// runtime.md#delete
#[test]
fn an_id_is_free_again_once_its_container_is_deleted() {
    let lab = Lab::new();
    let id = lab.id();
    for round in ["first", "second", "third"] {
        let c = lab.bundle().named(&id).sh(&format!("echo {round}")).create();
        c.call("start", NONE).done().ok();
        c.wait_until_stopped();
        assert_eq!(c.stdout(), format!("{round}\n"));
        c.delete().ok();
        c.call("state", NONE).done().refuses(1, &["container does not exist"]);
    }
}
