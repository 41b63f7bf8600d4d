//! Hooks: six kinds, where and when they run, what they are told, and what happens when they fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{Lab, NONE, PATIENCE, alive, bryo_only, eventually, push};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook of this lab that writes what it is told to `FILE`, by way of a script on the host.
fn recorder(lab: &Lab, kind: &str) -> Value {
    let out = lab.dir.join(format!("{kind}.json"));
    let script =
        lab.script(&format!("{kind}.sh"), &format!("cat > {0}.new && mv {0}.new {0}", out.display()));
    json!({ "path": script, "args": ["hook", kind] })
}

fn recorded(lab: &Lab, kind: &str) -> Value {
    let path = lab.dir.join(format!("{kind}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{kind} did not run: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{kind}: {e} in its state: {text}"))
}

fn ran(lab: &Lab, kind: &str) -> bool {
    lab.dir.join(format!("{kind}.json")).exists()
}

#[test]
fn hooks_run_each_at_its_time_and_are_told_the_state() {
    let lab = Lab::new();
    let mut bundle = lab.bundle().waits();
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        bundle = bundle.hook(kind, recorder(&lab, kind));
    }
    let c = bundle.create();
    assert!(ran(&lab, "prestart") && ran(&lab, "createRuntime"));
    // runc 1.1 runs the poststart hooks here already, and tells them "created".
    assert!(!ran(&lab, "poststart") || crate::lab::is_peer());
    assert!(!ran(&lab, "poststop"));
    let pid = c.pid();
    for kind in ["prestart", "createRuntime"] {
        let state = recorded(&lab, kind);
        assert_eq!(state["id"], c.id, "{kind}");
        assert_eq!(state["pid"], pid, "{kind}");
        assert_eq!(state["bundle"], c.bundle.to_str().unwrap(), "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        assert!(["creating", "created"].contains(&state["status"].as_str().unwrap()), "{kind}: {state}");
    }

    c.start().ok();
    // poststart has run when start returns.
    let state = recorded(&lab, "poststart");
    assert_eq!(state["pid"], pid);
    if !crate::lab::is_peer() {
        assert_eq!(state["status"], "running");
    }
    assert!(!ran(&lab, "poststop"));

    c.kill("KILL").ok();
    c.wait_until_stopped();
    c.delete().ok();
    let state = recorded(&lab, "poststop");
    assert_eq!(state["id"], c.id);
    assert_eq!(state["status"], "stopped");
}

#[test]
fn the_state_of_a_hook_carries_the_annotations() {
    let lab = Lab::new();
    let bundle = lab.bundle().hook("prestart", recorder(&lab, "prestart"));
    bundle.with(|c| c["annotations"] = json!({ "moss": "green" })).run().ok();
    assert_eq!(recorded(&lab, "prestart")["annotations"]["moss"], "green");
}

#[test]
fn hooks_of_a_foreground_run_have_all_run_at_its_end() {
    let lab = Lab::new();
    let log = lab.dir.join("log");
    let mut bundle = lab.bundle().sh("echo process");
    for kind in KINDS.iter().filter(|k| !["createContainer", "startContainer"].contains(k)) {
        let script = lab.script(kind, &format!("cat > /dev/null; echo {kind} >> {}", log.display()));
        bundle = bundle.hook(kind, json!({ "path": script }));
    }
    bundle.run().prints("process\n");
    assert_eq!(fs::read_to_string(log).unwrap(), "prestart\ncreateRuntime\npoststart\npoststop\n");
}

#[test]
fn hooks_of_one_kind_run_in_their_order() {
    let lab = Lab::new();
    let log = lab.dir.join("log");
    let mut bundle = lab.bundle();
    for n in 1..=4 {
        let script =
            lab.script(&format!("hook{n}"), &format!("cat > /dev/null; echo {n} >> {}", log.display()));
        bundle = bundle.hook("createRuntime", json!({ "path": script }));
    }
    bundle.run().ok();
    assert_eq!(fs::read_to_string(log).unwrap(), "1\n2\n3\n4\n");
}

#[test]
fn a_hook_gets_its_arguments_and_its_environment_and_nothing_else() {
    let lab = Lab::new();
    let log = lab.dir.join("log");
    let script =
        lab.script("hook", &format!("cat > /dev/null; echo \"$0|$*\" > {0}; env >> {0}", log.display()));
    let hook = json!({
        "path": script, "args": ["zero", "one", "two words"], "env": ["MOSS=green", "EMPTY="],
    });
    let bundle = lab.bundle().hook("prestart", hook);
    bundle.call("run", NONE).env("SECRET", "1").env("LD_PRELOAD", "/not/there.so").done().ok();
    let text = fs::read_to_string(log).unwrap();
    let (first, env) = text.split_once('\n').unwrap();
    assert!(first.ends_with("|one two words"), "{first}");
    let mut names: Vec<_> = env.lines().map(|l| l.split('=').next().unwrap()).collect();
    names.sort_unstable();
    // A shell sets PWD, and bash SHLVL and _, by itself.
    names.retain(|n| !["PWD", "SHLVL", "_"].contains(n));
    assert_eq!(names, ["EMPTY", "MOSS"], "{env}");
}

#[test]
fn a_hook_without_an_environment_has_none() {
    bryo_only!("runc 1.1 hands its own on where the hook names none");
    let lab = Lab::new();
    let log = lab.dir.join("log");
    let script = lab.script("hook", &format!("cat > /dev/null; env > {}", log.display()));
    let bundle = lab.bundle().hook("prestart", json!({ "path": script }));
    bundle.call("run", NONE).env("SECRET", "1").done().ok();
    let env = fs::read_to_string(log).unwrap();
    assert!(!env.contains("SECRET") && !env.contains("HOME"), "{env}");
}

#[test]
fn create_runtime_hooks_run_outside_and_create_container_hooks_in_the_namespaces() {
    let lab = Lab::new();
    let log = |name: &str| lab.dir.join(name);
    let mut bundle = lab.bundle();
    for kind in ["createRuntime", "createContainer"] {
        let body = format!(
            "cat > /dev/null; readlink /proc/self/ns/mnt /proc/self/ns/uts > {0}",
            log(kind).display()
        );
        let script = lab.script(&format!("{kind}.sh"), &body);
        bundle = bundle.hook(kind, json!({ "path": script, "env": ["PATH=/usr/bin:/bin"] }));
    }
    bundle.run().ok();
    let own = ["mnt", "uts"].map(|ns| fs::read_link(format!("/proc/self/ns/{ns}")).unwrap());
    let outside = fs::read_to_string(log("createRuntime")).unwrap();
    let inside = fs::read_to_string(log("createContainer")).unwrap();
    for ns in own {
        let ns = ns.to_str().unwrap();
        assert!(outside.contains(ns), "{outside}");
        assert!(!inside.contains(ns), "{inside}");
    }
}

#[test]
fn start_container_hooks_run_in_the_root_of_the_container_before_the_process() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs().hook(
        "startContainer",
        json!({ "path": "/bin/sh", "args": ["sh", "-c", "cat > /state; echo hook >> /log"], "env": ["PATH=/bin"] }),
    );
    let rootfs = bundle.rootfs();
    let c = bundle.sh("echo process >> /log").create();
    assert!(!rootfs.join("state").exists());
    c.start().ok();
    c.wait_until_stopped();
    assert_eq!(fs::read_to_string(rootfs.join("log")).unwrap(), "hook\nprocess\n");
    let state: Value = serde_json::from_str(&fs::read_to_string(rootfs.join("state")).unwrap()).unwrap();
    assert_eq!(state["id"], c.id);
    c.delete().ok();
}

#[test]
fn a_start_container_hook_without_an_environment_has_that_of_the_process() {
    let lab = Lab::new();
    let hook = |extra: Value| {
        let mut hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", "echo \"${MOSS-none}\" > /said"] });
        hook.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        hook
    };
    for (extra, wanted) in [(json!({}), "green\n"), (json!({ "env": ["PATH=/bin"] }), "none\n")] {
        let bundle = lab.bundle().own_rootfs().hook("startContainer", hook(extra));
        bundle
            .with(|c| push(&mut c["process"]["env"], json!("MOSS=green")))
            .sh("cat /said")
            .run()
            .prints(wanted);
    }
}

#[test]
fn a_start_container_hook_runs_behind_the_filter() {
    let lab = Lab::new();
    let rules = json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]);
    let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
    let hook =
        json!({ "path": "/bin/sh", "args": ["sh", "-c", "mkdir /dev/shm/moss"], "env": ["PATH=/bin"] });
    for no_new_privileges in [true, false] {
        let bundle = lab.bundle().hook("startContainer", hook.clone()).with(|c| {
            c["linux"]["seccomp"] = filter.clone();
            c["process"]["noNewPrivileges"] = no_new_privileges.into();
        });
        let ran = bundle.sh("echo never").run().refuses(1, &["Operation not permitted"]);
        assert!(ran.in_bryos_words(&["startContainer"]).stdout.is_empty());
    }
}

#[test]
fn a_create_container_hook_begins_in_the_root_file_system() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs();
    let script = lab.script("hook", "cat > /dev/null; echo here > ./made");
    bundle.hook("createContainer", json!({ "path": script })).sh("cat /made").run().prints("here\n");
}

#[test]
fn a_create_container_hook_may_prepare_the_root_file_system() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs();
    let rootfs = bundle.rootfs();
    let script = lab.script("hook", &format!("cat > /dev/null; echo prepared > {}/made", rootfs.display()));
    bundle.hook("createContainer", json!({ "path": script })).sh("cat /made").run().prints("prepared\n");
}

#[test]
fn a_failing_hook_before_the_start_fails_the_create_and_leaves_nothing() {
    let lab = Lab::new();
    let script = lab.script("failing", "cat > /dev/null; echo the reason >&2; exit 17");
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = lab.bundle().sh("echo never").hook(kind, json!({ "path": script }));
        let ran = bundle.run().refuses(1, &["hook", "17"]).in_bryos_words(&[kind, "the reason"]);
        assert_eq!(ran.stdout, "");
        assert!(lab.state_entries().is_empty(), "{kind}");
        bundle.call("create", NONE).done().refuses(1, &["hook"]);
        assert!(lab.state_entries().is_empty(), "{kind}");
    }
}

#[test]
fn hooks_after_one_that_failed_do_not_run() {
    let lab = Lab::new();
    let failing = lab.script("failing", "exit 1");
    let bundle = lab
        .bundle()
        .hook("prestart", json!({ "path": failing }))
        .hook("prestart", recorder(&lab, "prestart"))
        .hook("poststart", recorder(&lab, "poststart"));
    bundle.run().refuses(1, &[]);
    assert!(!ran(&lab, "prestart") && !ran(&lab, "poststart"));
}

#[test]
fn a_failing_start_container_hook_fails_the_start() {
    let lab = Lab::new();
    let hook = json!({ "path": "/bin/false" });
    let ran = lab.bundle().sh("echo never").hook("startContainer", hook).run();
    assert_eq!(ran.refuses(1, &["hook"]).stdout, "");
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_failing_poststart_hook_fails_the_start_and_stops_the_container() {
    bryo_only!("runc 1.1 runs these hooks in create");
    let lab = Lab::new();
    let script = lab.script("failing", "cat > /dev/null; exit 1");
    let bundle = lab.bundle().sleeps().hook("poststart", json!({ "path": script }));
    let c = bundle.create();
    let pid = c.pid();
    c.start().refuses(1, &["hook"]);
    assert!(eventually(PATIENCE, || !alive(pid)));
    c.call("delete", ["--force"]).done().ok();
}

#[test]
fn a_failing_poststop_hook_is_a_warning() {
    let lab = Lab::new();
    let failing = lab.script("failing", "exit 1");
    let bundle = lab
        .bundle()
        .hook("poststop", json!({ "path": failing }))
        .hook("poststop", recorder(&lab, "poststop"));
    let c = bundle.create();
    c.start().ok();
    c.wait_until_stopped();
    let ran_delete = c.delete().ok();
    assert!(ran_delete.stderr.contains("hook"), "{}", ran_delete.stderr);
    assert!(lab.state_entries().is_empty());
    if !crate::lab::is_peer() {
        assert!(ran(&lab, "poststop"), "the hooks after it run all the same");
    }
}

#[test]
fn a_hook_that_takes_too_long_is_killed() {
    let lab = Lab::new();
    let pid_file = lab.dir.join("pid");
    let script = lab.script("hanging", &format!("echo $$ > {}; exec sleep 1000", pid_file.display()));
    let bundle = lab.bundle().hook("prestart", json!({ "path": script, "timeout": 1 }));
    let begin = Instant::now();
    bundle.run().refuses(1, &["hook"]).in_bryos_words(&["1 s"]);
    assert!(begin.elapsed() < Duration::from_secs(30));
    let pid: i32 = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    assert!(!alive(pid));
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_hook_that_does_not_read_its_state_is_fine() {
    let lab = Lab::new();
    let script = lab.script("deaf", "exec < /dev/null; exit 0");
    let mut bundle = lab.bundle().sh("echo ran");
    // More than a pipe holds.
    bundle = bundle.with(|c| c["annotations"] = json!({ "long": "x".repeat(100_000) }));
    bundle.hook("prestart", json!({ "path": script })).run().prints("ran\n");
}

#[test]
fn a_hook_that_is_not_there_is_refused_by_name() {
    let lab = Lab::new();
    let missing = lab.dir.join("missing");
    let bundle = lab.bundle().hook("prestart", json!({ "path": missing }));
    bundle.run().refuses(1, &["missing", "no such file or directory"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_hook_with_a_relative_path_or_a_senseless_timeout_is_refused() {
    bryo_only!("runc 1.1 checks neither");
    let lab = Lab::new();
    for hook in [
        json!({ "path": "true" }),
        json!({ "path": "/bin/true", "timeout": 0 }),
        json!({ "path": "/bin/true", "timeout": -1 }),
    ] {
        lab.bundle().hook("prestart", hook).run().refuses(1, &["hook"]);
        assert!(lab.state_entries().is_empty());
    }
}

#[test]
fn poststop_hooks_run_where_the_program_turns_out_to_be_none() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs().hook("poststop", recorder(&lab, "poststop")).args(["/none"]);
    fs::write(bundle.rootfs().join("none"), "neither a script nor a program").unwrap();
    fs::set_permissions(bundle.rootfs().join("none"), fs::Permissions::from_mode(0o755)).unwrap();
    bundle.run().refuses(1, &["exec format error"]);
    assert!(ran(&lab, "poststop"));
    assert!(lab.state_entries().is_empty());
}

#[test]
fn poststop_hooks_run_for_a_container_that_was_never_started() {
    let lab = Lab::new();
    let c = lab.bundle().hook("poststop", recorder(&lab, "poststop")).create();
    c.delete().ok();
    assert!(ran(&lab, "poststop"));
}

#[test]
fn a_hook_sees_no_descriptor_of_the_runtime() {
    let lab = Lab::new();
    let log = lab.dir.join("log");
    let body = format!(
        "cat > /dev/null; exec > {}; for n in $(seq 3 63); do readlink /proc/$$/fd/$n; done; true",
        log.display()
    );
    let script = lab.script("hook", &body);
    lab.bundle().hook("prestart", json!({ "path": script, "env": ["PATH=/usr/bin:/bin"] })).run().ok();
    // The shell holds its own script open.
    let fds = fs::read_to_string(log).unwrap();
    let strange: Vec<_> = fds.lines().filter(|l| *l != script.to_str().unwrap()).collect();
    assert!(strange.is_empty(), "{fds}");
}

/// As crun does.
#[test]
fn annotations_lead_what_hooks_write_to_files() {
    bryo_only!("runc knows no annotations of crun's");
    let lab = Lab::new();
    let (out, err) = (lab.file("said", "before\n"), lab.dir.join("complained"));
    let mut bundle = lab.bundle().own_rootfs().with(|c| {
        c["annotations"]["run.oci.hooks.stdout"] = out.to_str().unwrap().into();
        c["annotations"]["run.oci.hooks.stderr"] = err.to_str().unwrap().into();
    });
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    for kind in kinds {
        let script = format!("cat > /dev/null; echo {kind}; echo {kind}s error >&2");
        let env = ["PATH=/usr/bin:/bin"];
        bundle = bundle.hook(kind, json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": env }));
    }
    bundle.sh("ls /proc/self/fd").run().ok();
    let lines = |suffix: &str| kinds.map(|kind| format!("{kind}{suffix}\n")).concat();
    assert_eq!(fs::read_to_string(&out).unwrap(), format!("before\n{}", lines("")));
    assert_eq!(fs::read_to_string(&err).unwrap(), lines("s error"));
    // One that cannot be written to is named.
    let bundle = lab.bundle().hook("prestart", json!({ "path": "/bin/true" })).with(|c| {
        c["annotations"]["run.oci.hooks.stdout"] = "/moss/green".into();
    });
    bundle.run().refuses(1, &["HOOK", "/moss/green", "no such file or directory"]);
}
