//! Bad input: each is one clear line and exit code 1, and leaves nothing behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::lab::{Lab, bryo_only};

#[test]
fn a_bundle_that_is_not_there_is_refused() {
    let lab = Lab::new();
    let missing = lab.dir.join("missing");
    for verb in ["create", "run"] {
        let ran = lab.call([verb, "--bundle"]).args([&missing]).args(["x"]).done();
        ran.refuses(1, &["no such file or directory"]).in_bryos_words(&[missing.to_str().unwrap()]);
    }
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_bundle_without_a_config_is_refused() {
    let lab = Lab::new();
    for verb in ["create", "run"] {
        let ran = lab.call([verb, "--bundle"]).args([&lab.dir]).args(["x"]).done();
        ran.refuses(1, &["config.json"]);
    }
    assert!(lab.state_entries().is_empty());
}

/// Run this text as config.json.
#[track_caller]
fn refused(lab: &Lab, text: &[u8]) -> crate::lab::Ran {
    fs::write(lab.dir.join("config.json"), text).unwrap();
    let ran = lab.call(["run", "--bundle"]).args([&lab.dir]).args([lab.id()]).done();
    assert_eq!(ran.stdout, "");
    let ran = ran.refuses(1, &[]);
    assert!(lab.state_entries().is_empty(), "{:?}", lab.state_entries());
    ran
}

#[test]
fn a_config_that_is_no_json_is_refused() {
    let lab = Lab::new();
    for text in [&b""[..], b" ", b"\0", b"moss", b"{", b"}", b"\xff\xfe", b"{\"ociVersion\": }"] {
        refused(&lab, text).in_bryos_words(&["config.json"]);
    }
}

#[test]
fn a_config_that_is_another_json_is_refused() {
    bryo_only!("runc 1.1 dies of a nil pointer for some of these");
    let lab = Lab::new();
    for text in ["null", "[]", "{}", "1", "\"moss\"", "{\"ociVersion\": \"1.0.2\"}", "{\"ociVersion\": 1}"] {
        refused(&lab, text.as_bytes()).in_bryos_words(&["config.json"]);
    }
}

#[test]
fn a_config_that_is_a_directory_or_unreadable_is_refused() {
    let lab = Lab::new();
    let path = lab.dir.join("config.json");
    fs::create_dir(&path).unwrap();
    lab.call(["run", "--bundle"]).args([&lab.dir]).args(["x"]).done().refuses(1, &["directory"]);
    fs::remove_dir(&path).unwrap();
    if !nix::unistd::geteuid().is_root() {
        fs::write(&path, "{}").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        lab.call(["run", "--bundle"]).args([&lab.dir]).args(["x"]).done().refuses(1, &["permission denied"]);
    }
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_config_that_is_cut_anywhere_is_refused() {
    let lab = Lab::new();
    let bundle = lab.bundle().subids().hook("poststop", json!({ "path": "/bin/true" }));
    let whole = serde_json::to_vec(&bundle.config).unwrap();
    assert!(whole.len() > 1500);
    for length in (0..whole.len()).step_by(50) {
        refused(&lab, &whole[..length]);
    }
}

/// Config.json with this value at that place.
fn broken(lab: &Lab, pointer: &str, value: &Value) -> Vec<u8> {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut config = lab.bundle().config;
    match config.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.insert(key.to_owned(), value.clone())),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value.clone(),
        other => panic!("{parent} is {other}"),
    }
    serde_json::to_vec(&config).unwrap()
}

#[test]
fn a_value_of_a_wrong_type_is_refused() {
    let lab = Lab::new();
    for (pointer, value) in [
        ("/process", json!(1)),
        ("/process/args", json!("true")),
        ("/process/args", json!([1])),
        ("/process/args/0", json!({})),
        ("/process/env", json!({})),
        ("/process/cwd", json!(["/"])),
        ("/process/user", json!("root")),
        ("/process/user/uid", json!("0")),
        ("/process/user/uid", json!(-1)),
        ("/process/user/uid", json!(4_294_967_296_u64)),
        ("/process/user/uid", json!(1.5)),
        ("/process/terminal", json!("yes")),
        ("/process/capabilities", json!([])),
        ("/process/capabilities/bounding", json!("CAP_KILL")),
        ("/process/rlimits", json!({})),
        ("/process/rlimits/0/soft", json!("many")),
        ("/process/rlimits/0/soft", json!(-1)),
        ("/process/noNewPrivileges", json!(1)),
        ("/root", json!("rootfs")),
        ("/root/path", json!(1)),
        ("/root/readonly", json!("no")),
        ("/hostname", json!(5)),
        ("/mounts", json!({})),
        ("/mounts/0", json!("/proc")),
        ("/mounts/0/destination", json!(1)),
        ("/mounts/1/options", json!("nosuid")),
        ("/linux", json!([])),
        ("/linux/namespaces", json!("pid")),
        ("/linux/namespaces/0", json!("pid")),
        ("/linux/namespaces/0/type", json!(1)),
        ("/linux/uidMappings", json!({})),
        ("/linux/uidMappings/0/size", json!("1")),
        ("/linux/uidMappings/0/hostID", json!(-1)),
        ("/linux/maskedPaths", json!("/proc/kcore")),
        ("/linux/sysctl", json!([])),
        ("/linux/sysctl", json!({ "kernel.msgmax": 1 })),
        ("/linux/seccomp", json!("none")),
        ("/hooks", json!([])),
        ("/hooks", json!({ "prestart": {} })),
        ("/hooks", json!({ "prestart": ["/bin/true"] })),
        ("/annotations", json!(["a"])),
        ("/annotations", json!({ "a": 1 })),
    ] {
        fs::write(lab.dir.join("config.json"), broken(&lab, pointer, &value)).unwrap();
        let ran = lab.call(["run", "--bundle"]).args([&lab.dir]).args([lab.id()]).done();
        assert_eq!(ran.code(), 1, "{pointer} = {value}: {ran:?}");
        let ran = ran.refuses(1, &[]);
        assert_eq!(ran.stdout, "", "{pointer} = {value}");
        assert!(lab.state_entries().is_empty(), "{pointer} = {value}");
    }
}

#[test]
fn a_root_file_system_that_is_not_there_is_refused() {
    let lab = Lab::new();
    let missing = lab.dir.join("missing");
    let bundle = lab.bundle().with(|c| c["root"]["path"] = missing.to_str().unwrap().into());
    bundle.run().refuses(1, &[missing.to_str().unwrap()]).in_bryos_words(&["no such file or directory"]);
    assert!(lab.state_entries().is_empty());
    assert!(!missing.exists());
}

#[test]
fn a_root_file_system_that_is_a_file_is_refused() {
    let lab = Lab::new();
    let file = lab.file("file", "");
    let bundle = lab.bundle().with(|c| c["root"]["path"] = file.to_str().unwrap().into());
    bundle.run().refuses(1, &["not a directory"]).in_bryos_words(&[file.to_str().unwrap()]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_root_file_system_that_is_a_symlink_is_refused() {
    let lab = Lab::new();
    let bundle = lab.bundle();
    symlink(crate::lab::busybox(), bundle.dir.join("link")).unwrap();
    let bundle = bundle.with(|c| c["root"]["path"] = "link".into());
    bundle.run().refuses(1, &["link"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn an_empty_root_file_system_has_no_command() {
    let lab = Lab::new();
    let bundle = lab.bundle();
    fs::create_dir(bundle.dir.join("empty")).unwrap();
    let bundle = bundle.with(|c| c["root"] = json!({ "path": "empty" }));
    bundle.run().refuses(1, &["executable file not found in $PATH"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn an_id_with_a_strange_character_is_refused() {
    let lab = Lab::new();
    let bundle = lab.bundle();
    bundle.save();
    let outside = lab.dir.join("x");
    for id in ["../x", "a/b", "/x", ".", "..", "", "a b", "a!", "ä", "a\n", "a:b", "a%b", "*"] {
        let ran = lab.call(["run", "--bundle"]).args([&bundle.dir]).args([id]).done().refuses(1, &[]);
        assert!(ran.stderr.contains("id") || ran.stderr.contains("ID"), "{id}: {}", ran.stderr);
        assert!(lab.state_entries().is_empty(), "{id}");
    }
    assert!(!outside.exists());
    for verb in ["state", "start", "delete", "kill"] {
        for id in ["../state", "a/b", ".", ".."] {
            lab.call([verb, id]).done().refuses(1, &[]);
        }
    }
}

#[test]
fn an_id_may_hold_every_character_that_is_allowed() {
    let lab = Lab::new();
    for id in ["a", "0", "A_b-c.d+e", "...", &"x".repeat(200)] {
        lab.bundle().named(id).args(["echo", "ok"]).run().prints("ok\n");
    }
}

#[test]
fn an_oci_version_of_the_future_is_taken_within_1() {
    let lab = Lab::new();
    for version in ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.1", "1.3.0"] {
        let bundle = lab.bundle().with(|c| c["ociVersion"] = version.into());
        bundle.args(["echo", version]).run().prints(&format!("{version}\n"));
    }
}

#[test]
fn an_oci_version_beyond_1_is_refused() {
    bryo_only!("runc does not look");
    let lab = Lab::new();
    for version in ["2.0.0", "0.9.0", "moss", ""] {
        lab.bundle().with(|c| c["ociVersion"] = version.into()).run().refuses(1, &["ociVersion"]);
        assert!(lab.state_entries().is_empty());
    }
}

#[test]
fn unknown_fields_are_passed_over() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c["moss"] = json!({ "green": true });
        c["process"]["moss"] = 1.into();
        c["linux"]["moss"] = json!([]);
    });
    bundle.args(["echo", "fine"]).run().prints("fine\n");
}

#[test]
fn what_engines_write_and_nobody_means_is_fine() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c["linux"]["resources"] = json!({
            "devices": [{ "allow": false, "access": "rwm" }],
            "blockIO": {}, "memory": {}, "cpu": {}, "pids": {}, "hugepageLimits": [],
        });
        c["linux"]["seccomp"] = Value::Null;
        c["hooks"] = json!({});
        c["annotations"] = json!({});
        c["process"]["apparmorProfile"] = "".into();
        c["process"]["selinuxLabel"] = "".into();
    });
    bundle.args(["echo", "fine"]).run().prints("fine\n");
}

#[test]
fn errors_of_bryo_have_the_form_of_the_house() {
    bryo_only!("the form is bryo's");
    let lab = Lab::new();
    let ran = lab.bundle().args(["/missing"]).run().exits(1);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.starts_with("bryo: cannot "), "{}", ran.stderr);
    assert!(!ran.stderr.trim_end().ends_with('.'), "{}", ran.stderr);
}

#[test]
fn the_case_of_a_key_says_nothing() {
    let lab = Lab::new();
    let bundle =
        lab.bundle().sh("ulimit -n; hostname; mkdir /tmp/x 2>&1; grep -c ^Seccomp:.2 /proc/self/status");
    let ran = bundle
        .namespace("uts", None)
        .with(|c| {
            let config = c.as_object_mut().unwrap();
            let mut process = config.remove("process").unwrap();
            process["RLIMITS"] = json!([{ "Type": "RLIMIT_NOFILE", "Soft": 77, "HARD": 77 }]);
            process.as_object_mut().unwrap().remove("rlimits");
            config.insert("Process".into(), process);
            config.remove("hostname");
            config.insert("hostName".into(), "fern".into());
            c["linux"]["Seccomp"] = json!({ "DefaultAction": "SCMP_ACT_ALLOW", "SYSCALLS": [
                { "Names": ["mkdir", "mkdirat"], "Action": "SCMP_ACT_ERRNO", "ErrnoRet": 28 },
            ]});
        })
        .run()
        .ok();
    assert_eq!(ran.stdout, "77\nfern\nmkdir: can't create directory '/tmp/x': No space left on device\n1\n");
}

#[test]
fn a_key_that_stands_in_several_cases_is_refused() {
    bryo_only!("runc takes the later one");
    let lab = Lab::new();
    let config = lab.bundle().with(|c| c["linux"]["Namespaces"] = json!([])).config;
    refused(&lab, config.to_string().as_bytes()).in_bryos_words(&["namespaces", "several cases"]);
}
