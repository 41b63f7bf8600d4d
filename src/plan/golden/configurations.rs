//! Configurations, and how they are changed.

use super::*;

/// What `bryo spec` writes, for one of its three kinds of callers.
pub(super) fn spec(kind: &SpecKind) -> Value {
    // Without the cgroup namespace, on whose host it depends.
    serde_json::from_str(&spec::text(kind, false).unwrap()).unwrap()
}

pub(super) fn spec_rootless() -> Value {
    spec(&SpecKind::Rootless { uid: 1000, gid: 1000 })
}

pub(super) fn spec_subids() -> Value {
    let subids = vec![range(100_000, 65536)];
    spec(&SpecKind::Subids { uid: 1000, gid: 1000, subuids: subids.clone(), subgids: subids })
}

/// The least that runs, without a user namespace: no mounts, no capabilities, no limits.
pub(super) fn bare() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "env": ["HOME=/"], "cwd": "/"},
        "linux": {"namespaces": namespaces(&["mount", "pid"])}
    })
}

/// The least, for one id of alice's.
pub(super) fn one_id() -> Value {
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    let linux = json!({
        "namespaces": namespaces(&["mount", "pid", "user"]), "uidMappings": map, "gidMappings": map,
    });
    with(bare(), &json!({ "linux": linux }))
}

/// The least, for all ids of alice's.
pub(super) fn many_ids() -> Value {
    let map = json!([
        {"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100_000, "size": 65536}
    ]);
    with(one_id(), &json!({"linux": {"uidMappings": map, "gidMappings": map}}))
}

pub(super) fn namespaces(kinds: &[&str]) -> Value {
    kinds.iter().map(|kind| json!({ "type": kind })).collect()
}

/// A configuration with a change: objects are merged, null removes, everything else replaces (RFC 7396).
pub(super) fn with(mut config: Value, change: &Value) -> Value {
    merge(&mut config, change);
    config
}

pub(super) fn merge(config: &mut Value, change: &Value) {
    let Value::Object(changes) = change else {
        *config = change.clone();
        return;
    };
    if !config.is_object() {
        *config = json!({});
    }
    for (key, change) in changes {
        let fields = config.as_object_mut().unwrap();
        if change.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key).or_insert(Value::Null), change);
        }
    }
}
