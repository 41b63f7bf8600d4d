//! spec: the config.json that the first steps begin with. The expectations were recorded from runc's.

use std::fs;

use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};

use crate::lab::{Lab, bryo_only, busybox};
use crate::pty::terminal;

/// The config.json that spec writes in a new directory.
fn written(lab: &Lab, options: &[&str]) -> Value {
    let dir = lab.dir.join(format!("spec{}", options.concat()));
    fs::create_dir(&dir).unwrap();
    lab.bare_call(["spec"])
        .args(options)
        .cwd(&dir)
        .done()
        .prints("");
    serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap()
}

fn mounts() -> Value {
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
          "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
          "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
        { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
          "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
          "options": ["nosuid", "noexec", "nodev"] },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs",
          "options": ["nosuid", "noexec", "nodev", "ro"] },
        { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
          "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] },
    ])
}

fn namespaces(config: &Value) -> Vec<&str> {
    let list = config["linux"]["namespaces"].as_array().unwrap();
    // Whether there is a cgroup namespace depends on the host's cgroups.
    list.iter()
        .map(|n| n["type"].as_str().unwrap())
        .filter(|n| *n != "cgroup")
        .collect()
}

#[track_caller]
fn assert_common(config: &Value) {
    assert!(config["ociVersion"].as_str().unwrap().starts_with("1."));
    let process = &config["process"];
    assert_eq!(process["terminal"], true);
    assert_eq!(process["user"]["uid"], 0);
    assert_eq!(process["user"]["gid"], 0);
    assert_eq!(process["args"], json!(["sh"]));
    assert_eq!(
        process["env"],
        json!([
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=xterm"
        ])
    );
    assert_eq!(process["cwd"], "/");
    assert_eq!(process["noNewPrivileges"], true);
    assert_eq!(
        process["rlimits"],
        json!([{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }])
    );
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    for set in ["bounding", "effective", "permitted"] {
        assert_eq!(process["capabilities"][set], capabilities, "{set}");
    }
    assert!(
        process["capabilities"]["inheritable"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
    assert_eq!(
        config["root"],
        json!({ "path": "rootfs", "readonly": true })
    );
    assert!(config["hostname"].is_string());
    let listed = |key: &str, path: &str| {
        let list = config["linux"][key].as_array().unwrap();
        assert!(list.iter().any(|p| p == path), "{path} is not in {key}");
    };
    for path in [
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/sys/firmware",
        "/proc/scsi",
    ] {
        listed("maskedPaths", path);
    }
    for path in [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ] {
        listed("readonlyPaths", path);
    }
}

#[test]
fn spec_writes_what_runc_writes() {
    let lab = Lab::new();
    let config = written(&lab, &[]);
    assert_common(&config);
    assert_eq!(config["mounts"], mounts());
    assert_eq!(
        namespaces(&config),
        ["pid", "network", "ipc", "uts", "mount"]
    );
    assert_eq!(
        config["linux"]["resources"]["devices"],
        json!([{ "allow": false, "access": "rwm" }])
    );
    assert!(config["linux"]["uidMappings"].is_null());
}

#[test]
fn spec_rootless_writes_what_runc_writes() {
    let lab = Lab::new();
    let config = written(&lab, &["--rootless"]);
    assert_common(&config);
    let mut expected = mounts();
    expected[2]["options"] = json!([
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620"
    ]);
    expected[5] = json!({
        "destination": "/sys", "type": "none", "source": "/sys",
        "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
    });
    assert_eq!(config["mounts"], expected);
    assert_eq!(namespaces(&config), ["pid", "ipc", "uts", "mount", "user"]);
    let id = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 1 }]);
    assert_eq!(config["linux"]["uidMappings"], id(geteuid().as_raw()));
    assert_eq!(config["linux"]["gidMappings"], id(getegid().as_raw()));
    assert!(config["linux"]["resources"].is_null());
}

#[test]
fn spec_rootless_subids_writes_the_whole_range() {
    bryo_only!("runc has no such option");
    let lab = Lab::new();
    let config = written(&lab, &["--rootless", "--subids"]);
    assert_common(&config);
    let expected = lab.bundle().subids().config;
    for key in ["uidMappings", "gidMappings"] {
        assert_eq!(config["linux"][key], expected["linux"][key], "{key}");
    }
}

#[test]
fn spec_takes_a_bundle() {
    let lab = Lab::new();
    for flag in ["-b", "--bundle"] {
        let dir = lab.dir.join(format!("bundle{flag}"));
        fs::create_dir(&dir).unwrap();
        lab.bare_call(["spec", flag]).args([&dir]).done().ok();
        assert!(dir.join("config.json").exists());
    }
    let missing = lab.dir.join("missing");
    lab.bare_call(["spec", "--bundle"])
        .args([&missing])
        .done()
        .refuses(1, &["no such file or directory"]);
    assert!(!missing.exists());
}

#[test]
fn spec_leaves_a_config_that_is_there() {
    let lab = Lab::new();
    let file = lab.file("config.json", "mine");
    lab.bare_call(["spec"])
        .cwd(&lab.dir)
        .done()
        .refuses(1, &["config.json exists"]);
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
}

#[test]
fn what_spec_rootless_writes_runs() {
    let lab = Lab::new();
    let mut config = written(&lab, &["--rootless"]);
    config["process"]["terminal"] = false.into();
    config["process"]["args"] =
        json!(["sh", "-c", "id -u; cat /proc/self/status | grep NoNewPrivs"]);
    config["root"]["path"] = busybox().to_str().unwrap().into();
    let bundle = lab.bundle().with(|c| *c = config);
    bundle.run().prints("0\nNoNewPrivs:\t1\n");
}

#[test]
fn the_first_steps_of_every_tutorial_work() {
    let lab = Lab::new();
    let dir = lab.dir.join("tutorial");
    fs::create_dir(&dir).unwrap();
    // mkdir rootfs, a tar unpacked into it, spec, run: a shell on the terminal.
    let rootfs = lab.bundle().own_rootfs().rootfs();
    let script = format!(
        "mkdir rootfs && tar -C {} -cf - . | tar -C rootfs -xf -",
        rootfs.display()
    );
    lab.program("sh")
        .args(["-c", &script])
        .cwd(&dir)
        .done()
        .ok();
    lab.bare_call(["spec", "--rootless"]).cwd(&dir).done().ok();
    let (mut master, slave) = terminal(24, 80);
    let running = lab
        .call(["run", "mycontainer"])
        .cwd(&dir)
        .on_terminal(&slave)
        .spawn();
    master.wait_for("/ # ");
    master.type_in("echo $((40 + 2)) > /dev/tty; exit\n");
    master.wait_for("42");
    running.wait().ok();

    // "terminal": false and a process that stays; create, list, start, list, delete.
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["sleep", "5"]);
    fs::write(&path, config.to_string()).unwrap();
    lab.call(["create", "mycontainer"]).cwd(&dir).done().ok();
    let listed = |status: &str| {
        let table = lab.call(["list"]).done().ok().stdout;
        assert!(
            table
                .lines()
                .any(|l| l.starts_with("mycontainer") && l.contains(status)),
            "{table}"
        );
    };
    listed("created");
    lab.call(["start", "mycontainer"]).done().ok();
    listed("running");
    lab.call(["kill", "mycontainer", "KILL"]).done().ok();
    let stopped = crate::lab::eventually(crate::lab::PATIENCE, || {
        lab.call(["state", "mycontainer"]).done().ok().json()["status"] == "stopped"
    });
    assert!(stopped);
    listed("stopped");
    lab.call(["delete", "mycontainer"]).done().ok();
}
