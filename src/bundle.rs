//! What was asked: config.json as typed data, checked for what can be checked without looking at the host.
//!
//! The text is parsed once, straight into the types of `oci-spec`. Only where that fails, or where its
//! result is ambiguous, the text is read again as plain JSON, the known disagreements between the crate
//! and the specification are smoothed out, and the types are built from that:
//!
//! - an unknown capability is a warning, not an error (the specification says so since 1.0);
//! - the case of a key says nothing (see [`keys`]);
//! - `null` means absent, and `process.user` may be left out;
//! - a list of processors may be empty, which is as good as absent;
//! - `SCHED_FLAG_RESET_ON_FORK` and `SCHED_FLAG_DL_OVERRUN` have other spellings in the crate;
//! - an I/O priority without a class is invalid; the crate makes it one;
//! - `pids` without a limit is no limit; the crate makes it 0, which means one process;
//! - what is of another platform is not ours to judge, whatever its shape.
//!
//! What the crate fills in of its own is never what runs: its `Default`s and builders list namespaces, masks,
//! capabilities and limits that nobody asked for. Its deserialisation adds nothing, and is all that is used.

pub mod keys;

use crate::report::{Failure, io_text};
use oci_spec::runtime::{Linux, LinuxResources, Spec};
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

/// The version of the runtime specification that bryo implements.
pub const OCI_VERSION: &str = "1.3.0";

/// A bundle on disk, loaded.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The absolute path of the directory.
    pub dir: PathBuf,
    /// The configuration.
    pub spec: Spec,
    /// Remarks for the caller, one line each: what was ignored, and that it was.
    pub remarks: Vec<String>,
}

/// Larger than any real configuration; a file that grows beyond it is not read to its end.
const MAX_CONFIG: u64 = 16 << 20;

/// Loads and checks `DIR/config.json`.
///
/// # Errors
/// A file that is missing, unreadable, no JSON, of the wrong shape, or against a rule of config.md.
pub fn load(dir: &Path) -> Result<Bundle, Failure> {
    let act = || format!("cannot load bundle {}", dir.display());
    let absolute = std::path::absolute(dir).map_err(|e| Failure::new(act(), io_text(&e)))?;
    let dir = clean(&absolute);
    if dir.to_str().is_none() {
        return Err(Failure::new(
            act(),
            "its path is not UTF-8, which the state could not hold: invalid argument",
        )
        .fix("rename the directory"));
    }
    let path = dir.join("config.json");
    let text = read(&path).map_err(|error| {
        // Without the directory itself, the errno's own words say it.
        let cause = if error.kind() == std::io::ErrorKind::NotFound && dir.is_dir() {
            "JSON specification file config.json not found".to_string()
        } else {
            format!("config.json: {}", io_text(&error))
        };
        Failure::new(act(), cause).fix("make one with bryo spec, or name the bundle with --bundle")
    })?;
    let (spec, remarks) =
        parse(&text).map_err(|cause| Failure::new(act(), format!("config.json: {cause}")))?;
    check(&spec).map_err(|cause| Failure::new(act(), format!("config.json: {cause}")))?;
    Ok(Bundle { dir, spec, remarks })
}

/// Reads and checks a configuration that is in no bundle yet: its text, and what it means.
///
/// # Errors
/// As [`load`], in one line.
pub fn read_config(path: &Path) -> Result<(Vec<u8>, Spec), String> {
    let text = read(path).map_err(|error| io_text(&error))?;
    let (spec, _) = parse(&text)?;
    check(&spec)?;
    Ok((text, spec))
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let file = std::fs::File::open(path)?;
    let len = file.metadata().map_or(0, |meta| meta.len().min(MAX_CONFIG));
    let mut text = Vec::with_capacity(len as usize + 1);
    file.take(MAX_CONFIG + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(std::io::Error::other(format!("larger than {} MiB", MAX_CONFIG >> 20)));
    }
    Ok(text)
}

/// Parses a configuration; the remarks say what of it is ignored.
///
/// # Errors
/// One line that says what is wrong, and at which line and column where that is known.
pub fn parse(text: &[u8]) -> Result<(Spec, Vec<String>), String> {
    let direct = match serde_json::from_slice::<Spec>(text) {
        Ok(spec) if !ambiguous(&spec) && !keys::of_another_case(text) => {
            return shape(text).map(|()| (spec, Vec::new()));
        }
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    };
    let mut value = serde_json::from_slice::<Value>(text).map_err(|error| error.to_string())?;
    let remarks = normalise(&mut value)?;
    objects(&value, "the configuration")?;
    check_memory_policy(&value)?;
    let spec = serde_json::from_value(value).map_err(|error| placed(&error, direct))?;
    Ok((spec, remarks))
}

/// What is wrong with a text that was smoothed out, which is not always what was found first; where it is, it has a line
/// and a column.
fn placed(error: &serde_json::Error, found_first: Option<String>) -> String {
    let error = error.to_string();
    found_first.filter(|first| first.starts_with(&error)).unwrap_or(error)
}

/// Names what of a memory policy the types do not know, in the words that users of runc have seen.
fn check_memory_policy(config: &Value) -> Result<(), String> {
    use oci_spec::runtime::{MemoryPolicyFlagType, MemoryPolicyModeType};
    let Some(policy) = config.get("linux").and_then(|linux| linux.get("memoryPolicy")) else { return Ok(()) };
    let mode = policy.get("mode").unwrap_or(&Value::Null);
    if serde_json::from_value::<MemoryPolicyModeType>(mode.clone()).is_err() {
        return Err(format!("linux: invalid memory policy mode {mode}: invalid argument"));
    }
    let flags = policy.get("flags").and_then(Value::as_array).into_iter().flatten();
    match flags
        .into_iter()
        .find(|flag| serde_json::from_value::<MemoryPolicyFlagType>((*flag).clone()).is_err())
    {
        Some(flag) => Err(format!("linux: invalid memory policy flag {flag}: invalid argument")),
        None => Ok(()),
    }
}

/// The `linux` of a configuration that has none: nothing.
///
/// # Errors
/// None that is known.
pub fn no_linux() -> Result<Linux, String> {
    serde_json::from_str("{}").map_err(|e| e.to_string())
}

/// Whether the types say what the text may have said, or may not.
fn ambiguous(spec: &Spec) -> bool {
    no_pids(spec) || spec.process().as_ref().is_some_and(|process| process.io_priority().is_some())
}

/// Whether the number of processes is limited to none: that was asked for, or nothing was.
fn no_pids(spec: &Spec) -> bool {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    resources.and_then(|r| r.pids().as_ref()).is_some_and(|pids| pids.limit() == 0)
}

/// Parses resources as `update --resources` takes them, without devices: these are never updated.
///
/// # Errors
/// As [`parse`].
pub fn parse_resources(text: &[u8]) -> Result<LinuxResources, String> {
    let mut value = serde_json::from_slice::<Value>(text).map_err(|e| e.to_string())?;
    // Go takes `null` for an object, and then there is nothing in it.
    if value.is_null() {
        value = Value::Object(serde_json::Map::new());
    }
    drop_nulls(&mut value);
    keys::spell(&mut value)?;
    normalise_resources(&mut value);
    if let Some(resources) = value.as_object_mut() {
        resources.remove("devices");
    }
    objects(&value, "resources")?;
    if !value.is_object() {
        return Err("invalid type: expected an object".into());
    }
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// Parses a process as `exec --process` takes it.
///
/// # Errors
/// As [`parse`].
pub fn parse_process(text: &[u8]) -> Result<(oci_spec::runtime::Process, Vec<String>), String> {
    let direct = match serde_json::from_slice::<oci_spec::runtime::Process>(text) {
        Ok(process) if process.io_priority().is_none() && !keys::of_another_case(text) => {
            return shape(text).map(|()| (process, Vec::new()));
        }
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    };
    let mut value = serde_json::from_slice::<Value>(text).map_err(|error| error.to_string())?;
    drop_nulls(&mut value);
    keys::spell(&mut value)?;
    let mut remarks = Vec::new();
    normalise_process(&mut value, &mut remarks)?;
    objects(&value, "the process")?;
    let process = serde_json::from_value(value).map_err(|error| placed(&error, direct))?;
    Ok((process, remarks))
}

/// The keys whose values are objects. The crate's types take a list for an object as well, whose elements
/// they assign to the fields in order.
const OBJECTS: [&str; 26] = [
    "annotations",
    "blockIO",
    "capabilities",
    "consoleSize",
    "cpu",
    "execCPUAffinity",
    "hooks",
    "intelRdt",
    "ioPriority",
    "linux",
    "memory",
    "memoryPolicy",
    "netDevices",
    "network",
    "personality",
    "pids",
    "process",
    "rdma",
    "resources",
    "root",
    "scheduler",
    "seccomp",
    "sysctl",
    "timeOffsets",
    "unified",
    "user",
];

/// Refuses a list where an object has to be. A look at what stands before each bracket settles nearly every
/// configuration; only where that is doubtful is the text parsed again.
fn shape(text: &[u8]) -> Result<(), String> {
    let is_object = |key: &[u8]| OBJECTS.iter().any(|name| key.ends_with(name.as_bytes()));
    let doubtful = |at: usize| match text[..at].trim_ascii_end().split_last() {
        Some((b':', key)) => key.trim_ascii_end().strip_suffix(b"\"").is_some_and(is_object),
        Some((b'[' | b',', _)) => true,
        _ => false,
    };
    let mut brackets = text.iter().enumerate().filter(|(_, byte)| **byte == b'[').map(|(at, _)| at);
    if !brackets.any(doubtful) {
        return Ok(());
    }
    let mut value = serde_json::from_slice::<Value>(text).map_err(|e| e.to_string())?;
    drop_elsewhere(&mut value);
    objects(&value, "the configuration")
}

fn objects(value: &Value, name: &str) -> Result<(), String> {
    match value {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            if value.is_array() && OBJECTS.contains(&key.as_str()) {
                return Err(format!("{key}: invalid type: a list, expected an object"));
            }
            objects(value, key)
        }),
        Value::Array(list) => list.iter().try_for_each(|value| match value {
            Value::Array(_) => Err(format!("{name}: invalid type: a list of lists, expected one of objects")),
            other => objects(other, name),
        }),
        _ => Ok(()),
    }
}

/// The parts of a configuration that are for other platforms than Linux.
const ELSEWHERE: [&str; 4] = ["solaris", "vm", "windows", "zos"];

fn normalise(config: &mut Value) -> Result<Vec<String>, String> {
    let mut remarks = Vec::new();
    drop_elsewhere(config);
    drop_nulls(config);
    keys::spell(config)?;
    if let Some(process) = config.get_mut("process") {
        normalise_process(process, &mut remarks)?;
    }
    if let Some(resources) = config.get_mut("linux").and_then(|linux| linux.get_mut("resources")) {
        normalise_resources(resources);
    }
    Ok(remarks)
}

fn normalise_resources(resources: &mut Value) {
    let Some(resources) = resources.as_object_mut() else { return };
    let pids = resources.get("pids").and_then(Value::as_object);
    if pids.is_some_and(|pids| !pids.contains_key("limit")) {
        resources.remove("pids");
    }
}

fn normalise_process(process: &mut Value, remarks: &mut Vec<String>) -> Result<(), String> {
    if process.get("ioPriority").is_some_and(|priority| priority.get("class").is_none()) {
        return Err("process.ioPriority: class is missing: invalid argument".into());
    }
    if let Some(process) = process.as_object_mut() {
        process.entry("user").or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        for (set, names) in sets {
            let Some(names) = names.as_array_mut() else { continue };
            names.retain(|name| {
                let known = serde_json::from_value::<oci_spec::runtime::Capability>(name.clone()).is_ok();
                if !known && name.is_string() {
                    remarks.push(format!("ignoring unknown capability {name} in {set}"));
                }
                known || !name.is_string()
            });
        }
    }
    if let Some(affinity) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) {
        affinity.retain(|_, list| list.as_str() != Some(""));
    }
    let flags = process.get_mut("scheduler").and_then(|s| s.get_mut("flags"));
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        let spelling = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = spelling.into();
    }
    Ok(())
}

fn drop_elsewhere(config: &mut Value) {
    if let Some(config) = config.as_object_mut() {
        config.retain(|key, _| !ELSEWHERE.contains(&key.as_str()));
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The rules of config.md and config-linux.md that need no host to check.
fn check(spec: &Spec) -> Result<(), String> {
    check_version(spec.version())?;
    match spec.root() {
        None => return Err("root is missing".into()),
        Some(root) if root.path().as_os_str().is_empty() => return Err("root.path is missing".into()),
        Some(_) => {}
    }
    let process = spec.process().as_ref().ok_or("process is missing")?;
    check_process(process)?;
    for mount in spec.mounts().iter().flatten() {
        let at = mount.destination();
        if at.as_os_str().is_empty() || at.to_str().is_some_and(|s| s.contains('\0')) {
            return Err(format!("mount destination {at:?} is not a path"));
        }
    }
    if let Some(linux) = spec.linux() {
        let mut seen = HashSet::new();
        for namespace in linux.namespaces().iter().flatten() {
            if !seen.insert(namespace.typ()) {
                return Err(format!("duplicate namespace {}", namespace.typ()));
            }
            if namespace.path().as_ref().is_some_and(|p| !p.as_os_str().is_empty() && !p.is_absolute()) {
                return Err(format!("path of the {} namespace is not absolute", namespace.typ()));
            }
        }
        for (list, name) in [(linux.masked_paths(), "maskedPaths"), (linux.readonly_paths(), "readonlyPaths")]
        {
            if let Some(path) = list.iter().flatten().find(|path| !path.starts_with('/')) {
                return Err(format!("linux.{name}: {path:?} is not an absolute path"));
            }
        }
    }
    Ok(())
}

/// The rules for a process, of a configuration or of `exec --process`.
///
/// # Errors
/// The rule that is broken.
pub fn check_process(process: &oci_spec::runtime::Process) -> Result<(), String> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err("process.args must not be empty".into());
    }
    if !process.cwd().is_absolute() {
        return Err(format!("process.cwd {:?} is not an absolute path", process.cwd()));
    }
    for entry in process.env().iter().flatten() {
        // Without a value, the runtime's own variable of that name would show (CVE-2026-57231).
        if !entry.contains('=') || entry.starts_with('=') {
            return Err(format!("process.env: {entry:?} is not of the form NAME=VALUE"));
        }
    }
    let strings = process.args().iter().chain(process.env().iter()).flatten();
    if let Some(bad) = strings.into_iter().find(|s| s.contains('\0')) {
        return Err(format!("process: {bad:?} contains a zero byte"));
    }
    let mut seen = HashSet::new();
    for limit in process.rlimits().iter().flatten() {
        if !seen.insert(limit.typ().to_string()) {
            return Err(format!("duplicate rlimit {}", limit.typ()));
        }
    }
    Ok(())
}

/// Versions 1.x are compatible by semantic versioning; config.md wants everything else refused.
fn check_version(version: &str) -> Result<(), String> {
    let mut numbers = version.split(['-', '+']).next().unwrap_or_default().split('.');
    let valid = version.split(['-', '+']).next().is_some_and(|core| {
        let parts: Vec<_> = core.split('.').collect();
        parts.len() == 3 && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
    });
    if !valid {
        return Err(format!("ociVersion {version:?} is not a version"));
    }
    if numbers.next() != Some("1") {
        return Err(format!("ociVersion {version} is not supported: bryo implements 1.x"));
    }
    Ok(())
}

/// Removes `.`, `..` and doubled slashes from an absolute path without looking at the disk, as Go's
/// filepath.Clean does: engines rely on `..` above the root being the root.
pub fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> Value {
        serde_json::json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {"user": {}, "args": ["sh"], "cwd": "/"}
        })
    }

    fn verdict(config: &Value) -> Result<Vec<String>, String> {
        let (spec, remarks) = parse(config.to_string().as_bytes())?;
        check(&spec).map(|()| remarks)
    }

    #[test]
    fn a_minimal_configuration_is_accepted() {
        assert_eq!(verdict(&minimal()), Ok(vec![]));
    }

    #[test]
    fn an_unknown_capability_is_a_remark_and_the_known_ones_stay() {
        let mut config = minimal();
        config["process"]["capabilities"] = serde_json::json!({"bounding": ["CAP_KILL", "CAP_FLY"]});
        let (spec, remarks) = parse(config.to_string().as_bytes()).unwrap();
        assert_eq!(remarks, ["ignoring unknown capability \"CAP_FLY\" in bounding"]);
        let process = spec.process().clone().unwrap();
        assert_eq!(process.capabilities().clone().unwrap().bounding().clone().unwrap().len(), 1);
        let (_, remarks) = parse_process(config["process"].to_string().as_bytes()).unwrap();
        assert_eq!(remarks, ["ignoring unknown capability \"CAP_FLY\" in bounding"]);
    }

    #[test]
    fn nulls_and_a_missing_user_are_what_go_makes_of_them() {
        let mut config = minimal();
        config["process"].as_object_mut().unwrap().remove("user");
        config["linux"] = serde_json::json!({"namespaces": null, "seccomp": null});
        config["process"]["terminal"] = Value::Null;
        assert_eq!(verdict(&config), Ok(vec![]));
    }

    #[test]
    fn pids_without_a_limit_is_no_limit() {
        let limit = |pids: Value| {
            let mut config = minimal();
            config["linux"] = serde_json::json!({"resources": {"pids": pids, "cpu": {"shares": 5}}});
            let (spec, _) = parse(config.to_string().as_bytes()).unwrap();
            let resources = spec.linux().clone().unwrap().resources().clone().unwrap();
            assert_eq!(resources.cpu().as_ref().and_then(|cpu| cpu.shares()), Some(5));
            resources.pids().as_ref().map(|pids| pids.limit())
        };
        assert_eq!(limit(serde_json::json!({})), None);
        assert_eq!(limit(serde_json::json!({"limit": null})), None);
        assert_eq!(limit(Value::Null), None);
        assert_eq!(limit(serde_json::json!({"limit": 0})), Some(0));
        assert_eq!(limit(serde_json::json!({"limit": -1})), Some(-1));
    }

    #[test]
    fn resources_of_an_update_are_read_as_go_reads_them() {
        for (text, wanted) in [
            ("null", serde_json::json!({})),
            (r#"{"memory": null, "pids": {"limit": null}, "unknown": [1]}"#, serde_json::json!({})),
            (r#"{"devices": [{"allow": true, "type": "?"}]}"#, serde_json::json!({})),
            (r#"{"CPU": {"Cpus": "1"}}"#, serde_json::json!({"cpu": {"cpus": "1"}})),
            (
                r#"{"blockio": {"THROTTLEREADIOPSDEVICE": [{"Major": 8, "minor": 0, "Rate": 5}]}}"#,
                serde_json::json!({"blockIO": {"throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 5}]}}),
            ),
            (r#"{"unified": {"CPU": "x"}}"#, serde_json::json!({"unified": {"CPU": "x"}})),
        ] {
            let wanted = serde_json::from_value(wanted).unwrap();
            assert_eq!(parse_resources(text.as_bytes()), Ok(wanted), "{text}");
        }
        for bad in [
            "",
            "[]",
            "1",
            "{",
            "{}{}",
            r#"{"memory": []}"#,
            r#"{"memory": {"limit": "1"}}"#,
            r#"{"cpu": 1}"#,
        ] {
            assert!(parse_resources(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_of_another_platform_is_not_looked_at() {
        for platform in ELSEWHERE {
            for value in ["{}", "[]", "[[1]]", "1", "\"x\"", r#"{"devices": [[1]], "Kernel": []}"#] {
                let mut config = minimal();
                config[platform] = serde_json::from_str(value).unwrap();
                assert_eq!(verdict(&config), Ok(vec![]), "{platform} {value}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_and_not_what_is_only_missing() {
        let error = |text: &str| parse_process(text.as_bytes()).unwrap_err();
        assert_eq!(error(r#"{"args": ["sh"]}"#), "missing field `cwd`");
        assert_eq!(error(r#"{"user": {}, "args": ["sh"]}"#), "missing field `cwd` at line 1 column 28");
        let trailing = error(r#"{"cwd": "/"} moss"#);
        assert!(trailing.starts_with("trailing characters at line 1"), "{trailing}");
        let trailing = error(r#"{"user": {}, "cwd": "/"}}"#);
        assert!(trailing.starts_with("trailing characters at line 1"), "{trailing}");
        let mut config = minimal();
        config["process"] = serde_json::json!({"args": ["sh"]});
        assert_eq!(verdict(&config), Err("missing field `cwd`".into()));
    }

    #[test]
    fn scheduler_flags_are_read_as_the_specification_spells_them() {
        use oci_spec::runtime::LinuxSchedulerFlag as Flag;
        let scheduler = serde_json::json!({"policy": "SCHED_DEADLINE",
            "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM"]});
        let wanted = [Flag::SchedResetOnFork, Flag::SchedFlagDLOverrun, Flag::SchedFlagReclaim];
        let flags = |process: &oci_spec::runtime::Process| {
            process.scheduler().clone().unwrap().flags().clone().unwrap()
        };
        let mut config = minimal();
        config["process"]["scheduler"] = scheduler;
        let (spec, remarks) = parse(config.to_string().as_bytes()).unwrap();
        assert_eq!(flags(spec.process().as_ref().unwrap()), wanted);
        assert!(remarks.is_empty());
        // And those of a process that joins.
        let (process, _) = parse_process(config["process"].to_string().as_bytes()).unwrap();
        assert_eq!(flags(&process), wanted);
    }

    #[test]
    fn an_io_priority_without_a_class_is_none() {
        let mut config = minimal();
        for (priority, good) in [
            (serde_json::json!({"class": "IOPRIO_CLASS_IDLE", "priority": 3}), true),
            (serde_json::json!({"class": "IOPRIO_CLASS_IDLE"}), true),
            (serde_json::json!({"priority": 3}), false),
            (serde_json::json!({"class": null, "priority": 3}), false),
        ] {
            config["process"]["ioPriority"] = priority.clone();
            assert_eq!(verdict(&config).is_ok(), good, "{priority}");
            assert_eq!(parse_process(config["process"].to_string().as_bytes()).is_ok(), good, "{priority}");
        }
    }

    #[test]
    fn a_root_has_a_path() {
        let mut config = minimal();
        config["root"] = serde_json::json!({"readonly": true});
        assert_eq!(verdict(&config), Err("root.path is missing".into()));
    }

    #[test]
    fn what_nobody_asked_for_is_not_there() {
        let mut config = minimal();
        config["linux"] =
            serde_json::json!({"resources": {}, "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}});
        config["process"]["capabilities"] = serde_json::json!({});
        config["process"]["user"] = serde_json::json!({"uid": 0, "gid": 0});
        config["mounts"] = serde_json::json!([{"destination": "/proc"}]);
        let (spec, _) = parse(config.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap(), config);
        assert_eq!(serde_json::to_value(no_linux().unwrap()).unwrap(), serde_json::json!({}));
    }

    #[test]
    fn paths_to_mask_and_to_protect_are_absolute() {
        for list in ["maskedPaths", "readonlyPaths"] {
            let mut config = minimal();
            for (path, good) in [("/proc/kcore", true), ("proc/kcore", false), ("", false)] {
                config["linux"] = serde_json::json!({ list: [path] });
                assert_eq!(verdict(&config).is_ok(), good, "{list} {path:?}");
            }
        }
    }

    #[test]
    fn an_empty_list_of_processors_is_none() {
        let mut config = minimal();
        config["process"]["execCPUAffinity"] = serde_json::json!({"initial": "0-3,7", "final": ""});
        let (spec, _) = parse(config.to_string().as_bytes()).unwrap();
        let affinity = spec.process().clone().unwrap().exec_cpu_affinity().clone().unwrap();
        assert_eq!(affinity.initial().as_deref(), Some("0-3,7"));
        assert_eq!(*affinity.cpu_affinity_final(), None);
        config["process"]["execCPUAffinity"] = serde_json::json!({"initial": "0-"});
        assert!(verdict(&config).is_err());
    }

    #[test]
    fn duplicates_are_refused() {
        let mut config = minimal();
        config["linux"] = serde_json::json!({"namespaces": [{"type": "pid"}, {"type": "pid"}]});
        assert_eq!(verdict(&config), Err("duplicate namespace pid".into()));
        let mut config = minimal();
        let limit = serde_json::json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1});
        config["process"]["rlimits"] = serde_json::json!([limit, limit]);
        assert_eq!(verdict(&config), Err("duplicate rlimit RLIMIT_NOFILE".into()));
    }

    #[test]
    fn an_environment_entry_without_a_value_is_refused() {
        let mut config = minimal();
        config["process"]["env"] = serde_json::json!(["SECRET"]);
        assert!(verdict(&config).unwrap_err().contains("NAME=VALUE"));
    }

    #[test]
    fn versions_other_than_1_are_refused() {
        for (version, good) in [
            ("1.0.2-dev", true),
            ("1.3.0", true),
            ("2.0.0", false),
            ("1", false),
            ("", false),
            ("1.x.0", false),
        ] {
            assert_eq!(check_version(version).is_ok(), good, "{version}");
        }
    }

    #[test]
    fn a_configuration_cut_anywhere_is_one_line_and_no_panic() {
        let text = minimal().to_string();
        for end in 0..text.len() {
            let error = parse(&text.as_bytes()[..end]).unwrap_err();
            assert!(!error.contains('\n') && error.contains("line"), "{error}");
        }
    }

    #[test]
    fn a_list_is_no_object() {
        for path in ["/process/capabilities", "/linux", "/hooks", "/root", "/process/user"] {
            let mut config = minimal();
            config["linux"] = serde_json::json!({});
            let (parent, key) = path.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[key] = serde_json::json!([]);
            assert!(verdict(&config).is_err(), "{path}");
        }
        let mut config = minimal();
        config["mounts"] = serde_json::json!([["/x"]]);
        assert!(verdict(&config).is_err());
    }

    #[test]
    fn brackets_in_strings_are_only_strings() {
        let mut config = minimal();
        config["process"]["args"] = serde_json::json!(["sh", "a, [b]", "x: \"linux\": [1]", "[[", ":["]);
        assert_eq!(verdict(&config), Ok(vec![]));
    }

    #[test]
    fn paths_are_cleaned_as_go_does_it() {
        for (path, cleaned) in [("/a/../b", "/b"), ("/../..//c/.", "/c"), ("/", "/")] {
            assert_eq!(clean(Path::new(path)), Path::new(cleaned));
        }
    }
}
