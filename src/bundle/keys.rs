//! Keys in another case than the specification's.
//!
//! Go, in whose JSON engines and the configurations of their users were tried, does not mind the case of a key:
//! what stands under `"Seccomp"` is a filter to runc. The types here do mind, and take a key that they do not
//! know for an extension, which config.md wants ignored: the filter, or a limit, would be gone in silence.
//! So keys are read in any case. One that stands twice then is refused, since nobody knows which was meant.
//!
//! A configuration of an engine spells all keys as the specification does, and pays for one look at its text.

use serde_json::Value;

/// The keys that the specification has for Linux, sorted.
#[rustfmt::skip]
const KNOWN: [&str; 148] = [
    "access", "action", "additionalGids", "allow", "ambient", "annotations", "apparmorProfile",
    "architectures", "args", "blockIO", "bounding", "burst", "capabilities", "cgroupsPath",
    "checkBeforeUpdate", "class", "classID", "closID", "consoleSize", "containerID", "cpu", "cpus",
    "createContainer", "createRuntime", "cwd", "deadline", "defaultAction", "defaultErrnoRet", "destination",
    "devices", "disableOOMKiller", "domain", "domainname", "effective", "enableMonitoring", "env",
    "errnoRet", "execCPUAffinity", "fileMode", "final", "flags", "gid", "gidMappings", "hard", "hcaHandles",
    "hcaObjects", "height", "hooks", "hostID", "hostname", "hugepageLimits", "idle", "index", "inheritable",
    "initial", "intelRdt", "ioPriority", "kernel", "kernelTCP", "l3CacheSchema", "leafWeight", "limit",
    "linux", "listenerMetadata", "listenerPath", "major", "maskedPaths", "memBwSchema", "memory",
    "memoryPolicy", "mems", "minor", "mode", "mountLabel", "mounts", "name", "names", "namespaces",
    "nanosecs", "netDevices", "network", "nice", "noNewPrivileges", "nodes", "ociVersion", "oomScoreAdj",
    "op", "options", "pageSize", "path", "period", "permitted", "personality", "pids", "policy", "poststart",
    "poststop", "prestart", "priorities", "priority", "process", "quota", "rate", "rdma", "readonly",
    "readonlyPaths", "realtimePeriod", "realtimeRuntime", "reservation", "resources", "rlimits", "root",
    "rootfsPropagation", "runtime", "scheduler", "schemata", "seccomp", "secs", "selinuxLabel", "shares",
    "size", "soft", "source", "startContainer", "swap", "swappiness", "syscalls", "sysctl", "terminal",
    "throttleReadBpsDevice", "throttleReadIOPSDevice", "throttleWriteBpsDevice", "throttleWriteIOPSDevice",
    "timeOffsets", "timeout", "type", "uid", "uidMappings", "umask", "unified", "useHierarchy", "user",
    "username", "value", "valueTwo", "weight", "weightDevice", "width",
];

/// The keys below which keys are names: of annotations, files, devices, clocks. Go minds the case of these.
const OF_NAMES: [&str; 6] = ["annotations", "netDevices", "rdma", "sysctl", "timeOffsets", "unified"];

/// As the specification spells this key, where that is otherwise.
fn spelling(key: &str) -> Option<&'static str> {
    if KNOWN.binary_search(&key).is_ok() {
        return None;
    }
    KNOWN.into_iter().find(|name| name.eq_ignore_ascii_case(key))
}

/// Whether a key in this text may be one of the specification's in another case. In doubt, it may.
pub fn of_another_case(text: &[u8]) -> bool {
    let colons = text.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
    let mut keys = colons.filter_map(|colon| {
        let text = text[..colon].trim_ascii_end().strip_suffix(b"\"")?;
        let quote = text.iter().rposition(|byte| *byte == b'"')?;
        Some(&text[quote + 1..])
    });
    keys.any(|key| match std::str::from_utf8(key) {
        Ok(key) => key.contains('\\') || spelling(key).is_some(),
        Err(_) => false,
    })
}

/// Spells the keys as the specification does.
///
/// # Errors
/// A key that is there in several cases.
pub fn spell(value: &mut Value) -> Result<(), String> {
    match value {
        Value::Object(map) => {
            for (key, mut value) in std::mem::take(map) {
                let name = spelling(&key).unwrap_or(&key);
                match (&mut value, OF_NAMES.contains(&name)) {
                    (Value::Object(named), true) => named.values_mut().try_for_each(spell)?,
                    (value, _) => spell(value)?,
                }
                if map.insert(name.to_string(), value).is_some() {
                    return Err(format!("{name} stands more than once, in several cases: invalid argument"));
                }
            }
            Ok(())
        }
        Value::Array(list) => list.iter_mut().try_for_each(spell),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{parse, parse_process};
    use serde_json::json;

    /// In capitals, but what is below the keys of names.
    fn capitals(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let pairs = map.iter().map(|(key, value)| {
                    let value = match value {
                        Value::Object(named) if OF_NAMES.contains(&key.as_str()) => {
                            named.iter().map(|(name, value)| (name.clone(), capitals(value))).collect()
                        }
                        other => capitals(other),
                    };
                    (key.to_ascii_uppercase(), value)
                });
                Value::Object(pairs.collect())
            }
            Value::Array(list) => list.iter().map(capitals).collect(),
            other => other.clone(),
        }
    }

    /// With something in every room of the specification.
    fn full() -> Value {
        json!({
            "ociVersion": "1.3.0", "hostname": "moss", "domainname": "green",
            "root": {"path": "rootfs", "readonly": true},
            "annotations": {"Path": "a", "path": "b"},
            "process": {
                "args": ["sh"], "cwd": "/", "env": ["Path=/"], "terminal": true,
                "consoleSize": {"height": 1, "width": 2},
                "user": {"uid": 1, "gid": 2, "umask": 3, "additionalGids": [4]},
                "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"]},
                "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}],
                "noNewPrivileges": true, "oomScoreAdj": 5, "apparmorProfile": "x", "selinuxLabel": "y",
                "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 3},
                "scheduler": {"policy": "SCHED_BATCH", "nice": 3},
                "execCPUAffinity": {"initial": "0", "final": "1"}
            },
            "mounts": [{"destination": "/x", "type": "tmpfs", "source": "t", "options": ["ro"],
                        "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}],
            "hooks": {"poststop": [{"path": "/x", "args": ["x"], "env": ["A=b"], "timeout": 3}]},
            "linux": {
                "namespaces": [{"type": "network", "path": "/x"}],
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
                "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}},
                "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 420}],
                "netDevices": {"Name": {"name": "eth0"}},
                "cgroupsPath": "/x", "rootfsPropagation": "slave", "mountLabel": "l",
                "sysctl": {"net.ipv4.Limit": "1"}, "maskedPaths": ["/x"], "readonlyPaths": ["/y"],
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1, "listenerPath": "/x",
                            "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [{
                                "names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                                "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}]},
                "resources": {
                    "devices": [{"allow": false, "access": "rwm"}],
                    "memory": {"limit": 1, "swap": 2, "reservation": 3, "checkBeforeUpdate": true},
                    "cpu": {"shares": 2, "quota": 3, "period": 4, "cpus": "0", "mems": "0", "idle": 1},
                    "pids": {"limit": 5},
                    "blockIO": {"weight": 10, "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 5}]},
                    "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                    "rdma": {"Limit": {"hcaHandles": 1, "hcaObjects": 2}},
                    "unified": {"Memory": "1", "memory": "2"}
                },
                "intelRdt": {"closID": "x", "schemata": ["L3:0=f"], "enableMonitoring": true},
                "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": []},
                "personality": {"domain": "LINUX32"}
            }
        })
    }

    #[test]
    fn a_configuration_in_capitals_is_the_same_one() {
        let (full, loud) = (full(), capitals(&full()));
        let (spec, remarks) = parse(full.to_string().as_bytes()).unwrap();
        assert!(remarks.is_empty());
        // Nothing of it is passed over as it stands, or in capitals.
        assert_eq!(serde_json::to_value(&spec).unwrap(), full);
        assert_eq!(parse(loud.to_string().as_bytes()), Ok((spec, remarks)));
        let process = parse_process(full["process"].to_string().as_bytes()).unwrap();
        assert_eq!(parse_process(loud["PROCESS"].to_string().as_bytes()), Ok(process));
    }

    #[test]
    fn one_look_at_the_text_tells_them() {
        for text in [r#"{"Seccomp": {}}"#, r#"{"a":{"memory":{"LIMIT" :1}}}"#, r#"{"\u0053eccomp":1}"#] {
            assert!(of_another_case(text.as_bytes()), "{text}");
        }
        let inside_strings =
            r#"{"args": ["Seccomp", "Env=x:y", "\"Limit"], "seccomp": 1, "com.example.x": 2}"#;
        for text in [
            full()
                .to_string()
                .replace("\"Path\":", "\"way\":")
                .replace("\"Name\":", "\"eth\":")
                .replace("\"Limit\":", "\"mlx\":")
                .replace("\"Memory\":", "\"m\":"),
            inside_strings.into(),
            "::\":".into(),
        ] {
            assert!(!of_another_case(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn one_that_stands_in_several_cases_is_refused() {
        let mut config = full();
        config["linux"]["Seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        let error = parse(config.to_string().as_bytes()).unwrap_err();
        assert!(error.starts_with("seccomp stands more than once"), "{error}");
    }

    #[test]
    fn the_keys_are_sorted_and_differ_in_more_than_their_case() {
        assert!(KNOWN.is_sorted());
        let small: std::collections::BTreeSet<_> = KNOWN.iter().map(|key| key.to_ascii_lowercase()).collect();
        assert_eq!(small.len(), KNOWN.len());
    }
}
