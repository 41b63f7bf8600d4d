//! The command line as engines read it: list, ps, the logs, versions, and wrong usage.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};

use crate::lab::{Lab, NONE, PATIENCE, bryo_only, eventually, is_peer, only, plain_user_only, runtime};

#[test]
fn list_shows_every_container_in_a_table() {
    let lab = Lab::new();
    let a = lab.bundle().sleeps().detach();
    let b = lab.bundle().create();
    let table = lab.call(["list"]).done().ok().stdout;
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(lines.len(), 3, "{table}");
    for (c, status) in [(&a, "running"), (&b, "created")] {
        let line = lines.iter().find(|l| l[0] == c.id).unwrap_or_else(|| panic!("{table}"));
        assert_eq!(line[1], c.pid().to_string());
        assert_eq!(line[2], status);
        assert_eq!(line[3], c.bundle.to_str().unwrap());
    }
    a.remove();
    b.remove();
}

#[test]
fn list_of_nothing_is_a_header_or_null() {
    let lab = Lab::new();
    fs::create_dir(lab.root()).unwrap();
    let table = lab.call(["list"]).done().ok().stdout;
    assert_eq!(table.split_whitespace().collect::<Vec<_>>().join(" "), "ID PID STATUS BUNDLE CREATED OWNER");
    lab.call(["list", "-q"]).done().prints("");
    let json = lab.call(["list", "--format", "json"]).done().ok().json();
    assert!(json.is_null() || json == json!([]), "{json}");
}

#[test]
fn list_quiet_shows_the_ids_alone() {
    let lab = Lab::new();
    let a = lab.bundle().named("alpha").create();
    let b = lab.bundle().named("beta").create();
    for flag in ["-q", "--quiet"] {
        lab.call(["list", flag]).done().prints("alpha\nbeta\n");
    }
    a.remove();
    b.remove();
}

#[test]
fn list_shows_more_containers_than_it_may_open_files() {
    let lab = Lab::new();
    let containers: Vec<_> = (0..12).map(|_| lab.bundle().create()).collect();
    let table = lab.call(["list"]).after_shell("ulimit -n 12").done().ok();
    assert_eq!(table.stdout.lines().count(), 1 + containers.len(), "{}{}", table.stdout, table.stderr);
    for container in containers {
        container.remove();
    }
}

/// Whether this is a time that Go's RFC3339Nano parser takes.
fn is_rfc3339_nano(text: &str) -> bool {
    let (seconds, rest) = text.split_at_checked("2006-01-02T15:04:05".len()).unwrap_or_default();
    let shape: String = seconds.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let fraction = rest.trim_end_matches('Z');
    shape == "0000-00-00T00:00:00"
        && rest.ends_with('Z')
        && (fraction.is_empty()
            || fraction
                .strip_prefix('.')
                .is_some_and(|f| (1..=9).contains(&f.len()) && f.bytes().all(|b| b.is_ascii_digit())))
}

#[test]
fn list_json_has_the_fields_that_engines_read() {
    let lab = Lab::new();
    let c = lab.bundle().with(|c| c["annotations"] = json!({ "a": "b" })).create();
    for arguments in [["list", "-f", "json"], ["list", "--format", "json"]] {
        let entry = only(lab.call(arguments).done().ok().json().as_array().unwrap().clone());
        assert_eq!(entry["id"], c.id);
        assert_eq!(entry["pid"], c.pid());
        assert_eq!(entry["status"], "created");
        assert_eq!(entry["bundle"], c.bundle.to_str().unwrap());
        assert_eq!(entry["rootfs"], crate::lab::busybox().to_str().unwrap());
        assert_eq!(entry["annotations"], json!({ "a": "b" }));
        assert!(entry["ociVersion"].is_string());
        assert!(is_rfc3339_nano(entry["created"].as_str().unwrap()), "{entry}");
        let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
        assert_eq!(entry["owner"], me.name);
    }
    assert!(is_rfc3339_nano(c.state()["created"].as_str().unwrap()));
    c.remove();
}

#[test]
fn created_is_the_time_of_the_creation() {
    let lab = Lab::new();
    let now = || lab.program("date").args(["-u", "+%Y-%m-%dT%H:%M:%S"]).done().ok().stdout.trim().to_owned();
    let before = now();
    let c = lab.bundle().create();
    let after = now();
    let created = c.state()["created"].as_str().unwrap().to_owned();
    let second = created[..before.len()].to_owned();
    assert!(before <= second && second <= after, "{before} {created} {after}");
    c.start().ok();
    c.wait_until_stopped();
    assert_eq!(c.state()["created"], created);
    c.delete().ok();
}

#[test]
fn list_of_an_unknown_format_is_refused() {
    let lab = Lab::new();
    let c = lab.bundle().create();
    lab.call(["list", "--format", "moss"]).done().refuses(1, &["format"]);
    c.remove();
}

#[test]
fn list_passes_over_what_is_no_container() {
    let lab = Lab::new();
    let c = lab.bundle().create();
    fs::write(lab.root().join("file"), "").unwrap();
    fs::create_dir(lab.root().join("empty")).unwrap();
    let ran = lab.call(["list", "-q"]).done().ok();
    assert!(ran.stdout.lines().any(|l| l == c.id), "{ran:?}");
    fs::remove_file(lab.root().join("file")).unwrap();
    fs::remove_dir(lab.root().join("empty")).unwrap();
    c.remove();
}

#[test]
fn ps_lists_the_processes_of_the_container() {
    bryo_only!("runc needs a cgroup of the container's own for it");
    let lab = Lab::new();
    let c = lab.bundle().sh("sleep 991 & sleep 992 & echo ready; wait").detach();
    c.wait_for_output("ready");
    let pids = || -> Vec<i64> {
        let json = c.call("ps", ["-f", "json"]).done().ok().json();
        json.as_array().unwrap().iter().map(|p| p.as_i64().unwrap()).collect()
    };
    assert_eq!(pids().len(), 3);
    assert!(pids().contains(&i64::from(c.pid())), "{:?}", pids());
    let table = || c.call("ps", NONE).done().ok().stdout;
    // A shell's child is a shell for a moment.
    let both = || ["sleep 991", "sleep 992"].iter().all(|s| table().contains(s));
    assert!(eventually(PATIENCE, both), "{}", table());
    assert!(table().lines().next().unwrap().contains("PID"), "{}", table());
    assert_eq!(table().lines().count(), 4, "{}", table());
    let table = c.call("ps", ["--format", "table"]).args(["-e", "-o", "pid,args"]).done().ok().stdout;
    assert_eq!(table.lines().count(), 4, "{table}");
    c.call("ps", ["--format", "moss"]).done().refuses(1, &["format"]);
    c.remove();
}

#[test]
fn ps_of_a_container_that_has_stopped_lists_nobody() {
    bryo_only!("runc needs a cgroup of the container's own for it");
    let lab = Lab::new();
    let c = lab.bundle().args(["true"]).detach();
    c.wait_until_stopped();
    assert_eq!(c.call("ps", NONE).done().ok().stdout.lines().count(), 1);
    assert_eq!(c.call("ps", ["-f", "json"]).done().ok().json(), serde_json::json!([]));
    c.delete().ok();
}

#[test]
fn list_of_a_directory_that_is_not_there_is_refused() {
    bryo_only!("runc 1.1 lists nothing, and 1.2 refuses");
    let lab = Lab::new();
    let nowhere = lab.dir.join("nowhere");
    lab.bare_call(["--root", nowhere.to_str().unwrap(), "list"])
        .done()
        .refuses(1, &["no such file or directory"]);
}

#[test]
fn ps_lists_the_processes_of_an_exec_too() {
    bryo_only!("runc needs a cgroup of the container's own for it");
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    c.exec_call(&["--detach"], ["sleep", "993"]).done().ok();
    let pids: Vec<i64> = serde_json::from_str(&c.call("ps", ["-f", "json"]).done().ok().stdout).unwrap();
    assert_eq!(pids.len(), 2);
    // Of this container alone.
    let other = lab.bundle().sleeps().detach();
    let others: Vec<i64> =
        serde_json::from_str(&other.call("ps", ["-f", "json"]).done().ok().stdout).unwrap();
    assert_eq!(others, [i64::from(other.pid())]);
    c.remove();
    other.remove();
}

#[test]
fn the_version_has_the_prefixes_that_engines_parse() {
    let lab = Lab::new();
    for flag in ["--version", "-v"] {
        let text = lab.bare_call([flag]).done().ok().stdout;
        let lines: Vec<_> = text.lines().collect();
        let name = if crate::lab::is_peer() { "" } else { "bryo" };
        assert!(lines[0].starts_with(name) && lines[0].contains(" version "), "{text}");
        assert!(lines.iter().any(|l| l.starts_with("spec: ")), "{text}");
        assert!(lines.iter().any(|l| l.starts_with("commit:")), "{text}");
    }
}

#[test]
fn features_are_those_of_the_runtime_spec() {
    let lab = Lab::new();
    let features = lab.bare_call(["features"]).done().ok().json();
    let has = |pointer: &str, word: &str| {
        let list = features.pointer(pointer).and_then(Value::as_array);
        let list = list.unwrap_or_else(|| panic!("no {pointer} in {features}"));
        assert!(list.iter().any(|v| v == word), "{word} is not in {pointer}: {list:?}");
    };
    assert!(features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string());
    for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        has("/hooks", hook);
    }
    for option in ["ro", "rbind", "nosuid", "rro", "tmpcopyup"] {
        has("/mountOptions", option);
    }
    for namespace in ["pid", "network", "ipc", "uts", "mount", "user", "cgroup"] {
        has("/linux/namespaces", namespace);
    }
    if !is_peer() {
        // Those that runc 1.1 does not know.
        has("/mountOptions", "ridmap");
        assert_eq!(features.pointer("/linux/mountExtensions/idmap/enabled"), Some(&json!(true)));
    }
    has("/linux/capabilities", "CAP_CHOWN");
    assert_eq!(features.pointer("/linux/seccomp/enabled"), Some(&json!(true)));
    has("/linux/seccomp/actions", "SCMP_ACT_ERRNO");
    has("/linux/seccomp/operators", "SCMP_CMP_MASKED_EQ");
    has("/linux/seccomp/archs", "SCMP_ARCH_X86_64");
    for key in [
        "/linux/cgroup/v1",
        "/linux/cgroup/v2",
        "/linux/cgroup/systemd",
        "/linux/apparmor/enabled",
        "/linux/selinux/enabled",
    ] {
        assert!(features.pointer(key).is_some_and(Value::is_boolean), "no {key} in {features}");
    }
}

/// The one line of a log, parsed, with a time that Go takes.
#[track_caller]
fn json_line(text: &str) -> Value {
    let line: Value = serde_json::from_str(text.trim_end()).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!(line["level"], "error", "{text}");
    let time = line["time"].as_str().unwrap();
    assert!(is_rfc3339_nano(time) || time.len() == "2006-01-02T15:04:05+00:00".len(), "{time}");
    line
}

#[test]
fn an_error_in_json_is_one_line() {
    let lab = Lab::new();
    let ran = lab.call(["--log-format", "json", "state", "nobody"]).done().exits(1);
    assert_eq!(
        json_line(&ran.stderr)["msg"].as_str().unwrap().matches("container does not exist").count(),
        1
    );
    let ran = lab.call(["--log-format=json", "state", "nobody"]).done().exits(1);
    json_line(&ran.stderr);
}

#[test]
fn an_error_goes_to_the_log_file_and_to_stderr() {
    let lab = Lab::new();
    let log = lab.dir.join("log.json");
    let log_option = log.to_str().unwrap();
    let ran = lab.call(["--log", log_option, "--log-format", "json", "start", "nobody"]).done();
    ran.refuses(1, &["container does not exist"]);
    // Podman decodes the whole file as one object.
    let line = json_line(&fs::read_to_string(&log).unwrap());
    assert!(line["msg"].as_str().unwrap().contains("container does not exist"));
}

#[test]
fn a_success_leaves_the_log_file_without_an_error() {
    let lab = Lab::new();
    let log = lab.dir.join("log.json");
    let bundle = lab.bundle().named("quiet");
    bundle.save();
    let options = ["--log", log.to_str().unwrap(), "--log-format", "json", "run", "--bundle"];
    lab.call(options).args([&bundle.dir]).args(["quiet"]).done().ok();
    let text = fs::read_to_string(&log).unwrap_or_default();
    assert!(!text.contains("\"error\""), "{text}");
}

/// go-runc opens it whatever came of the call.
#[test]
fn a_log_is_there_even_if_nothing_was_written() {
    let lab = Lab::new();
    fs::create_dir(lab.root()).unwrap();
    let log = lab.dir.join("log");
    lab.call(["--log", log.to_str().unwrap(), "list"]).done().ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), "");
}

#[test]
fn a_log_that_cannot_be_written_fails_before_anything_is_done() {
    let lab = Lab::new();
    let bundle = lab.bundle().named("unlogged").sh("echo ran");
    bundle.save();
    let locked = lab.file("locked", "");
    fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o400)).unwrap();
    let missing = lab.dir.join("nodir/log");
    let mut cases =
        vec![(missing.as_path(), "no such file or directory"), (lab.dir.as_path(), "is a directory")];
    if !nix::unistd::geteuid().is_root() {
        cases.push((&locked, "permission denied"));
    }
    for (log, words) in cases {
        let options = ["--log", log.to_str().unwrap(), "run", "--bundle"];
        let ran = lab.call(options).args([&bundle.dir]).args(["unlogged"]).done();
        assert_eq!(ran.stdout, "");
        ran.refuses(1, &[words, log.to_str().unwrap()]);
        let exec = lab.call(["--log", log.to_str().unwrap(), "exec", "unlogged", "true"]).done();
        exec.refuses(1, &[words]);
    }
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_command_line_that_makes_no_sense_is_told_in_the_log() {
    let lab = Lab::new();
    for (n, wrong) in
        [&["run", "--fly", "web"][..], &["state", "bad/id"], &["fly"], &["exec", "-u", "1x", "web", "true"]]
            .into_iter()
            .enumerate()
    {
        let log = lab.dir.join(format!("log.{n}"));
        let options = ["--log", log.to_str().unwrap(), "--log-format", "json"];
        let ran = lab.call(options).args(wrong).done();
        assert_ne!(ran.code(), 0);
        let text = fs::read_to_string(&log).unwrap();
        let told = json_line(&text);
        let line = format!("bryo: {}\n", told["msg"].as_str().unwrap());
        assert!(is_peer() || ran.stderr == line, "{wrong:?}: {} is not {line}", ran.stderr);
    }
}

#[test]
fn a_flag_may_have_gos_values_and_an_option_none() {
    let lab = Lab::new();
    let bundle = lab.bundle().named("gos").sh("echo ran; exit 3");
    bundle.save();
    let options = ["--systemd-cgroup=false", "--log=", "run", "--detach=false", "--pid-file", "", "--bundle"];
    let ran = lab.call(options).args([&bundle.dir]).args(["gos"]).done().exits(3);
    assert_eq!(ran.stdout, "ran\n");
    lab.call(["delete", "--force=true", "gos"]).done().ok();
    lab.call(["delete", "--force=false", "gos"]).done().refuses(1, &["container does not exist"]);
}

#[test]
fn a_log_that_exists_is_appended_to() {
    let lab = Lab::new();
    let log = lab.file("log", "first\n");
    lab.call(["--log", log.to_str().unwrap(), "state", "nobody"]).done().exits(1);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.starts_with("first\n") && text.contains("does not exist"), "{text}");
}

#[test]
fn a_text_log_names_its_level() {
    let lab = Lab::new();
    let log = lab.dir.join("log");
    lab.call(["--debug", "--log", log.to_str().unwrap(), "state", "nobody"]).done().exits(1);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("container does not exist"), "{text}");
}

#[test]
fn debug_changes_nothing_but_the_log() {
    let lab = Lab::new();
    let bundle = lab.bundle().named("debugged").sh("echo hello; exit 5");
    bundle.save();
    let log = lab.dir.join("log");
    let options = ["--debug", "--log", log.to_str().unwrap(), "run", "--bundle"];
    let ran = lab.call(options).args([&bundle.dir]).args(["debugged"]).done().exits(5);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("hello\n", ""));
    assert!(fs::read_to_string(&log).unwrap().lines().any(|line| line.contains("level=debug")));
}

#[test]
fn an_unknown_log_format_is_refused() {
    let lab = Lab::new();
    lab.call(["--log-format", "moss", "list"]).done().refuses(1, &["moss"]);
}

#[test]
fn two_state_directories_know_nothing_of_each_other() {
    let lab = Lab::new();
    let c = lab.bundle().named("here").sleeps().detach();
    let other = lab.dir.join("other");
    let elsewhere = |verb: &str| lab.bare_call(["--root", other.to_str().unwrap(), verb, "here"]).done();
    elsewhere("state").refuses(1, &["container does not exist"]);
    elsewhere("delete").refuses(1, &["container does not exist"]);
    assert_eq!(c.status(), "running");
    c.remove();
}

#[test]
fn the_state_directory_of_a_plain_user_is_below_the_runtime_directory() {
    plain_user_only!("root has its state in /run");
    bryo_only!("its name is bryo's own");
    let lab = Lab::new();
    let bundle = lab.bundle().sleeps();
    bundle.save();
    lab.bare_call(["run", "-d", "--bundle"]).args([&bundle.dir]).args(["default"]).done().ok();
    let dir = lab.dir.join("run/bryo");
    let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.iter().any(|n| n == "default"), "{names:?}");
    lab.bare_call(["state", "default"]).done().ok();
    lab.bare_call(["delete", "--force", "default"]).done().ok();
}

#[test]
fn a_plain_user_needs_no_runtime_directory() {
    bryo_only!("runc wants XDG_RUNTIME_DIR or /run");
    let lab = Lab::new();
    let bundle = lab.bundle().sh("echo fine");
    bundle.save();
    let call = lab.bare_call(["run", "--bundle"]).args([&bundle.dir]).args([lab.id()]);
    call.env_remove("XDG_RUNTIME_DIR").done().prints("fine\n");
}

#[test]
fn what_engines_call_without_a_path_works() {
    let lab = Lab::new();
    // Podman calls these with XDG_RUNTIME_DIR alone in the environment.
    let c = lab.bundle().sleeps().create();
    let bare = |args: &[&str]| {
        lab.call(args).env_remove("PATH").env_remove("HOME").done().ok();
    };
    bare(&["start", &c.id]);
    bare(&["state", &c.id]);
    bare(&["kill", &c.id, "9"]);
    c.wait_until_stopped();
    bare(&["delete", "--force", &c.id]);
}

#[test]
fn wrong_usage_is_told_and_changes_nothing() {
    let lab = Lab::new();
    for args in [
        &["state"][..],
        &["state", "a", "b"],
        &["state", "--moss", "a"],
        &["create"],
        &["run"],
        &["start"],
        &["delete"],
        &["kill"],
        &["moss"],
        &["--moss"],
    ] {
        let ran = lab.call(args).done();
        assert_ne!(ran.code(), 0, "{args:?}: {ran:?}");
        assert!(!ran.stderr.is_empty(), "{args:?}");
        assert!(!ran.stderr.contains("panicked"), "{args:?}: {}", ran.stderr);
    }
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_word_that_is_no_verb_is_named_in_words_that_scripts_know() {
    let lab = Lab::new();
    for args in [&["moss"][..], &["moss", "-h"], &["moss", "--help"]] {
        let ran = lab.bare_call(args).done();
        assert_ne!(ran.code(), 0, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains("No help topic for 'moss'"), "{args:?}: {ran:?}");
        assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 1), "{args:?}: {ran:?}");
    }
}

#[test]
fn every_verb_has_a_help() {
    let lab = Lab::new();
    for verb in [
        "create",
        "start",
        "run",
        "exec",
        "state",
        "list",
        "kill",
        "delete",
        "ps",
        "spec",
        "features",
        "pause",
        "resume",
        "events",
        "update",
        "checkpoint",
        "restore",
    ] {
        let ran = lab.bare_call([verb, "--help"]).done().ok();
        let named = format!("{} {verb} - ", runtime().file_name().unwrap().to_str().unwrap());
        assert!(ran.stdout.lines().nth(1).is_some_and(|line| line.trim().starts_with(&named)), "{ran:?}");
    }
    assert!(lab.bare_call(["--help"]).done().ok().stdout.contains("create"));
}

#[test]
fn help_is_of_the_name_that_the_runtime_is_called_by() {
    let lab = Lab::new();
    let runc = lab.dir.join("runc");
    symlink(runtime(), &runc).unwrap();
    let help = lab.program(&runc).args(["-h"]).done().ok().stdout;
    assert!(help.starts_with("NAME:\n   runc - Open Container Initiative runtime"), "{help}");
    assert!(help.contains("runc [") && !help.contains("bryo ["), "{help}");
}

#[test]
fn options_take_their_values_with_a_space_or_an_equals_sign() {
    let lab = Lab::new();
    let bundle = lab.bundle().sleeps();
    bundle.save();
    let pid_file = lab.dir.join("pid");
    let root = format!("--root={}", lab.root().display());
    let bundle_option = format!("--bundle={}", bundle.dir.display());
    let pid_option = format!("--pid-file={}", pid_file.display());
    lab.bare_call([&root, "run", "--detach", &bundle_option, &pid_option, "equals"]).done().ok();
    assert!(pid_file.exists());
    lab.call(["delete", "-f", "equals"]).done().ok();
}

#[test]
fn an_output_that_cannot_be_written_is_an_error_and_no_panic() {
    let lab = Lab::new();
    let c = lab.bundle().create();
    let id = c.id.as_str();
    for args in [&["state", id][..], &["list"], &["list", "-q"], &["list", "-f", "json"], &["features"]] {
        let ran = lab.call(args).after_shell("exec > /dev/full").done();
        assert!(!ran.stderr.contains("panicked"), "{args:?}: {}", ran.stderr);
        if !crate::lab::is_peer() {
            ran.refuses(1, &["no space left on device"]);
        }
    }
    // A reader that has gone ends the writer by SIGPIPE, or an error; the sleep gives it the time to go.
    for args in ["--help", "features", "list"] {
        let script = format!(
            "{{ sleep 0.05; {} --root {} {args}; }} | true",
            crate::lab::runtime().display(),
            lab.root().display()
        );
        let ran = lab.program("sh").args(["-c", &script]).done().ok();
        assert!(!ran.stderr.contains("panicked"), "{args}: {}", ran.stderr);
    }
    c.remove();
}

#[test]
fn bytes_that_are_no_text_are_refused_or_taken_and_never_a_panic() {
    use std::os::unix::ffi::OsStrExt;
    let lab = Lab::new();
    let odd = std::ffi::OsStr::from_bytes(b"moss\xff");
    for verb in ["state", "kill", "delete", "start"] {
        let ran = lab.call([verb]).args([odd]).done();
        assert_eq!(ran.code(), 1, "{verb}: {ran:?}");
    }
    let bundle = lab.bundle().sh("echo here");
    bundle.save();
    let dir = lab.dir.join(odd);
    fs::rename(&bundle.dir, &dir).unwrap();
    let ran = lab.call(["run", "--bundle"]).args([&dir]).args([lab.id()]).done();
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    assert!([0, 1].contains(&ran.code()), "{ran:?}");
    assert!(lab.state_entries().is_empty());
}
