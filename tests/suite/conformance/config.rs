//! What config.md wants of a runtime.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::lab::{Lab, NONE, bryo_only, field};

/// config.md#specification-version
#[test]
fn a_version_that_is_not_semantic_is_refused() {
    bryo_only!("runc 1.1 does not look");
    let lab = Lab::new();
    for version in [json!("1.0"), json!("1.0.0.0"), json!("v1.0.0"), json!("one"), json!(""), Value::Null] {
        lab.bundle().with(|c| c["ociVersion"] = version).run().refuses(1, &["ociVersion"]);
        assert!(lab.state_entries().is_empty());
    }
}

/// config.md#mounts
#[test]
fn a_relative_destination_is_relative_to_the_root() {
    let lab = Lab::new();
    let mount = json!({ "destination": "mnt", "type": "tmpfs", "source": "moss", "options": ["size=4k"] });
    // Whatever directory the process starts in.
    let bundle = lab.bundle().add_mount(mount).with(|c| c["process"]["cwd"] = "/bin".into());
    bundle.sh("grep '^moss ' /proc/mounts | cut -d ' ' -f 2").run().prints("/mnt\n");
}

/// config.md#process
#[test]
fn a_console_size_without_a_terminal_is_ignored() {
    let lab = Lab::new();
    for terminal in [json!(false), Value::Null] {
        let bundle = lab.bundle().with(|c| {
            c["process"]["terminal"] = terminal;
            c["process"]["consoleSize"] = json!({ "height": 7, "width": 70 });
        });
        bundle.sh("tty; test -e /dev/console || echo none").run().prints("not a tty\nnone\n");
    }
}

/// The limits of getrlimit(2), and what /proc calls them.
const LIMITS: [(&str, &str); 16] = [
    ("RLIMIT_AS", "Max address space"),
    ("RLIMIT_CORE", "Max core file size"),
    ("RLIMIT_CPU", "Max cpu time"),
    ("RLIMIT_DATA", "Max data size"),
    ("RLIMIT_FSIZE", "Max file size"),
    ("RLIMIT_LOCKS", "Max file locks"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
    ("RLIMIT_NICE", "Max nice priority"),
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_RSS", "Max resident set"),
    ("RLIMIT_RTPRIO", "Max realtime priority"),
    ("RLIMIT_RTTIME", "Max realtime timeout"),
    ("RLIMIT_SIGPENDING", "Max pending signals"),
    ("RLIMIT_STACK", "Max stack size"),
];

/// The soft and the hard limit that /proc/PID/limits tells under this name.
fn limit(limits: &str, name: &str) -> (String, String) {
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    let mut words =
        line.unwrap_or_else(|| panic!("no {name}: {limits}")).split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

/// config.md#posix-process
#[test]
fn every_limit_of_the_kernel_is_set_as_it_was_asked_for() {
    let lab = Lab::new();
    let own = fs::read_to_string("/proc/self/limits").unwrap();
    // Nobody but root may have more than the caller, so that this asks for less.
    let wanted = LIMITS.map(|(kind, name)| {
        let hard = limit(&own, name).1.parse().unwrap_or(1_u64 << 40);
        (kind, name, hard / 2, hard)
    });
    let asked: Vec<Value> = wanted
        .iter()
        .map(|(kind, _, soft, hard)| json!({ "type": kind, "soft": soft, "hard": hard }))
        .collect();
    let bundle = lab.bundle().with(|c| c["process"]["rlimits"] = asked.into());
    let found = bundle.args(["cat", "/proc/self/limits"]).run().ok().stdout;
    for (kind, name, soft, hard) in wanted {
        assert_eq!(limit(&found, name), (soft.to_string(), hard.to_string()), "{kind}");
    }
}

/// config.md#linux-process
#[test]
fn a_capability_that_cannot_be_granted_is_a_warning() {
    bryo_only!("runc 1.1 fails");
    let lab = Lab::new();
    let bundle = lab.bundle().without_namespace("user").with(|c| {
        for map in ["uidMappings", "gidMappings"] {
            c["linux"][map] = Value::Null;
        }
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set] = json!(["CAP_KILL", "CAP_SYS_TIME"]);
        }
        c["process"]["capabilities"]["ambient"] = json!([]);
    });
    // Root of a user namespace, as under Podman, who has been denied one capability.
    let call = bundle.args(["cat", "/proc/self/status"]).call("run", NONE).under([
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--",
        "setpriv",
        "--bounding-set=-sys_time",
        "--inh-caps=-sys_time",
        "--",
    ]);
    let ran = call.done().ok();
    assert_eq!(field(&ran.stdout, "CapEff"), "0000000000000020", "{ran:?}");
    let warned = ran.stderr.to_lowercase();
    assert!(warned.contains("warn") && warned.contains("sys_time"), "{warned}");
}

/// config.md#linux-process
#[test]
fn without_an_oom_score_the_callers_stays() {
    let lab = Lab::new();
    let call = lab.bundle().args(["cat", "/proc/self/oom_score_adj"]).call("run", NONE);
    call.after_shell("echo 321 > /proc/self/oom_score_adj").done().prints("321\n");
}

/// config.md#posix-platform-hooks
#[test]
fn hooks_of_create_run_in_the_order_of_their_kinds() {
    let lab = Lab::new();
    let log = lab.dir.join("log");
    let mut bundle = lab.bundle().sh("true");
    // Not in the order in which they run.
    for kind in ["createContainer", "createRuntime", "prestart"] {
        let script = lab.script(kind, &format!("cat > /dev/null; echo {kind} >> {}", log.display()));
        bundle = bundle.hook(kind, json!({ "path": script }));
    }
    let c = bundle.create();
    assert_eq!(fs::read_to_string(&log).unwrap(), "prestart\ncreateRuntime\ncreateContainer\n");
    c.start().ok();
    c.wait_until_stopped();
    c.delete().ok();
    // Each of them once.
    assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 3);
}

/// config.md#posix-platform-hooks
#[test]
fn hooks_of_the_runtime_are_found_and_run_in_its_namespaces() {
    let lab = Lab::new();
    let kinds = ["prestart", "createRuntime", "poststart", "poststop"];
    let log = |kind: &str| lab.dir.join(kind);
    let mut bundle = lab.bundle().namespace("network", None).namespace("cgroup", None);
    for kind in kinds {
        // The script is nowhere in the container.
        let body = format!("cat > /dev/null; readlink /proc/self/ns/* > {}", log(kind).display());
        let script = lab.script(&format!("{kind}.sh"), &body);
        bundle = bundle.hook(kind, json!({ "path": script, "env": ["PATH=/usr/bin:/bin"] }));
    }
    bundle.run().ok();
    for kind in kinds {
        let seen = fs::read_to_string(log(kind)).unwrap_or_else(|e| panic!("{kind} did not run: {e}"));
        for ns in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
            let own = fs::read_link(format!("/proc/self/ns/{ns}")).unwrap();
            assert!(seen.lines().any(|line| line == own.to_str().unwrap()), "{kind}: {ns}: {seen}");
        }
    }
}

/// config.md#startcontainer-hooks
#[test]
fn hooks_of_the_container_are_found_in_its_root() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs().hook("startContainer", json!({ "path": "/moss-hook" }));
    let hook = bundle.rootfs().join("moss-hook");
    fs::write(&hook, "#!/bin/sh\necho ran in $(hostname) > /said\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    bundle.sh("cat /said").run().prints("ran in moss\n");
}

/// config.md#posix-platform-hooks, and runtime.md#state on the pid that they are told
#[test]
fn every_hook_is_told_the_state_and_the_pid_as_it_sees_it() {
    let lab = Lab::new();
    let mut bundle = lab.bundle().own_rootfs();
    let rootfs = bundle.rootfs();
    let outside = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    for kind in outside {
        let script = lab.script(kind, &format!("cat > {}/{kind}.json", lab.dir.display()));
        bundle = bundle.hook(kind, json!({ "path": script }));
    }
    let inside = json!({ "path": "/bin/sh", "args": ["sh", "-c", "cat > /said.json"] });
    let c = bundle.hook("startContainer", inside).create();
    let pid = c.pid();
    c.start().ok();
    c.wait_until_stopped();
    c.delete().ok();
    let told = |kind: &str| -> Value {
        let path = match kind {
            "startContainer" => rootfs.join("said.json"),
            kind => lab.dir.join(format!("{kind}.json")),
        };
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{kind} did not run: {e}"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{kind}: {e} in its state: {text}"))
    };
    for kind in outside.into_iter().chain(["startContainer"]) {
        let state = told(kind);
        assert_eq!(state["id"], c.id, "{kind}");
        assert_eq!(state["bundle"], c.bundle.to_str().unwrap(), "{kind}");
        assert!(state["ociVersion"].is_string() && state["status"].is_string(), "{kind}: {state}");
        match kind {
            "prestart" | "createRuntime" | "poststart" => assert_eq!(state["pid"], pid, "{kind}"),
            "createContainer" | "startContainer" => assert_eq!(state["pid"], 1, "{kind}"),
            // There is none any more.
            _ => assert_ne!(state["pid"], pid, "{kind}"),
        }
    }
}

/// config.md#poststop
#[test]
fn poststop_hooks_run_once_the_container_is_deleted() {
    let lab = Lab::new();
    let (log, id) = (lab.dir.join("log"), lab.id());
    let (runtime, root) = (lab.runtime.display().to_string(), lab.root());
    let body = format!(
        "cat > /dev/null; {runtime} --root {} state {id} > {1} 2>&1; echo $? >> {1}",
        root.display(),
        log.display()
    );
    let hook = json!({ "path": lab.script("hook", &body), "env": ["PATH=/usr/sbin:/usr/bin:/bin"] });
    for foreground in [false, true] {
        let bundle = lab.bundle().named(&id).hook("poststop", hook.clone());
        if foreground {
            bundle.run().ok();
        } else {
            bundle.create().delete().ok();
        }
        let said = fs::read_to_string(&log).unwrap();
        assert!(said.contains("container does not exist") && said.ends_with("\n1\n"), "{said}");
        fs::remove_file(&log).unwrap();
    }
}

/// config.md#annotations
#[test]
fn annotations_are_strings_of_any_name_and_may_be_empty() {
    let lab = Lab::new();
    let annotations = json!({ "org.opencontainers.moss": "reserved", "com.example.empty": "", "moss": "ü" });
    let c = lab.bundle().with(|c| c["annotations"] = annotations.clone()).create();
    assert_eq!(c.state()["annotations"], annotations);
    c.remove();
    for value in [json!(1), json!(true), json!(["moss"]), json!({ "moss": "green" })] {
        let bundle = lab.bundle().with(|c| c["annotations"] = json!({ "moss": value }));
        bundle.run().refuses(1, &[]);
        assert!(lab.state_entries().is_empty());
    }
}

/// config.md#extensibility
#[test]
fn unknown_properties_are_ignored_wherever_they_are() {
    let lab = Lab::new();
    let places = ["", "/process", "/process/user", "/process/capabilities", "/process/rlimits/0", "/root"];
    let more = ["/mounts/0", "/linux", "/linux/namespaces/0", "/linux/uidMappings/0"];
    let bundle = lab.bundle().sh("echo ran").with(|c| {
        for place in places.iter().chain(&more) {
            c.pointer_mut(place).unwrap()["moss"] = json!({ "green": [1, null, "x"] });
        }
    });
    bundle.run().prints("ran\n");
}

/// config.md#valid-values
#[test]
fn values_that_no_kernel_has_are_refused() {
    let lab = Lab::new();
    for (pointer, value) in [
        ("/process/rlimits", json!([{ "type": "moss", "soft": 1, "hard": 1 }])),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "type": "user" }, { "type": "moss" }])),
        ("/linux/devices", json!([{ "type": "x", "path": "/dev/moss", "major": 1, "minor": 3 }])),
        ("/linux/rootfsPropagation", json!("moss")),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_MOSS" })),
        ("/linux/sysctl", json!({ "moss.green": "1" })),
        ("/mounts", json!([{ "destination": "/mnt", "type": "moss", "source": "moss" }])),
        ("/hooks", json!({ "prestart": [{ "path": "/moss/green" }] })),
    ] {
        let bundle = lab.bundle().with(|c| {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            c.pointer_mut(parent).unwrap()[key] = value;
        });
        let ran = bundle.run().refuses(1, &[]);
        assert_eq!(ran.stdout, "", "{pointer}");
        assert!(lab.state_entries().is_empty(), "{pointer}");
    }
}

/// config.md#valid-values
#[test]
fn values_that_no_kernel_has_are_refused_also_where_the_specification_is_young() {
    bryo_only!("runc 1.1 does not know these and ignores them");
    let lab = Lab::new();
    for (pointer, value) in [
        ("/process/scheduler", json!({ "policy": "SCHED_MOSS" })),
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_MOSS", "priority": 1 })),
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 })),
        ("/process/execCPUAffinity", json!({ "initial": "moss" })),
        ("/linux/personality", json!({ "domain": "MOSS" })),
        ("/linux/memoryPolicy", json!({ "mode": "MPOL_MOSS", "nodes": "0" })),
        ("/linux/maskedPaths", json!(["proc/kcore"])),
        ("/linux/readonlyPaths", json!(["proc/sys"])),
    ] {
        let bundle = lab.bundle().with(|c| {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            c.pointer_mut(parent).unwrap()[key] = value;
        });
        bundle.run().refuses(1, &[]);
        assert!(lab.state_entries().is_empty(), "{pointer}");
    }
}

/// Run with this value put at a pointer into config.json. It is refused, and leaves nothing.
#[track_caller]
fn refused_with(pointer: &str, value: Value) {
    let lab = Lab::new();
    let told = format!("{pointer}: {value}");
    let bundle = lab.bundle().sh("echo ran").with(|c| {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        c.pointer_mut(parent).unwrap()[key] = value;
    });
    assert_eq!(bundle.run().refuses(1, &[]).stdout, "", "{told}");
    assert!(lab.state_entries().is_empty(), "{told}");
}

/// config.md#valid-values
#[test]
fn what_lacks_a_required_property_is_refused() {
    let rule = json!({ "names": ["acct"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 0, "value": 1 }] });
    for (pointer, value) in [
        ("/root", json!({ "readonly": true })),
        ("/process", json!({ "args": ["echo", "ran"] })),
        ("/process", json!({ "cwd": "/" })),
        ("/process/rlimits", json!([{ "soft": 0, "hard": 0 }])),
        ("/hooks", json!({ "prestart": [{ "args": ["true"] }] })),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "path": "/proc/self/ns/pid" }])),
        ("/linux/devices", json!([{ "path": "/dev/moss", "major": 1, "minor": 3 }])),
        ("/linux/seccomp", json!({ "syscalls": [{ "names": ["acct"], "action": "SCMP_ACT_ERRNO" }] })),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["acct"] }] })),
        ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })),
    ] {
        refused_with(pointer, value);
    }
}

/// config.md#valid-values
#[test]
fn what_lacks_a_required_property_is_refused_also_where_the_specification_is_young() {
    bryo_only!("runc 1.1 does not know these and ignores them, or makes up a zero");
    for (pointer, value) in [
        ("/ociVersion", json!("")),
        ("/process/scheduler", json!({ "nice": 1 })),
        ("/process/ioPriority", json!({ "priority": 1 })),
        ("/linux/personality", json!({ "flags": [] })),
        ("/linux/memoryPolicy", json!({ "nodes": "0" })),
        ("/linux/devices", json!([{ "type": "c", "major": 1, "minor": 3 }])),
        (
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "action": "SCMP_ACT_ERRNO" }] }),
        ),
    ] {
        refused_with(pointer, value);
    }
}
