//! The root file system.

use super::*;

/// A device that hosts have, one that only root can make here, and a named pipe.
pub(super) fn devices() -> Value {
    json!([
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 8612, "uid": 0, "gid": 44},
        {"path": "/dev/loop7", "type": "b", "major": 7, "minor": 7},
        {"path": "/run/pipe", "type": "p", "fileMode": 384},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438}
    ])
}

pub(super) fn devices_of_root() -> Scenario {
    scenario(with(bare(), &json!({"linux": {"devices": devices()}})), root())
}

pub(super) fn devices_that_the_host_has_elsewhere() -> Scenario {
    let moss = json!([
        {"path": "/dev/moss", "type": "c", "major": 1, "minor": 3},
        {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}
    ]);
    let mut facts = alice();
    facts.devices.insert("/dev/moss".into(), "/dev/null".into());
    scenario(with(one_id(), &json!({"linux": {"devices": moss}})), facts)
}

pub(super) fn devices_of_a_plain_user() -> Scenario {
    let rules = json!({"devices": [{"allow": false, "access": "rwm"}]});
    scenario(with(one_id(), &json!({"linux": {"devices": devices(), "resources": rules}})), alice())
}

pub(super) fn devices_that_may_go() -> Scenario {
    devices_of_a_plain_user().degrading("devices")
}

pub(super) fn device_rules() -> Value {
    let mounts = json!([
        {"destination": "/srv", "source": "/srv", "options": ["rbind"]},
        {"destination": "/dev/net", "source": "/dev/net", "options": ["bind", "dev"]}
    ]);
    with(
        bare(),
        &json!({"linux": {"resources": {"devices": [{"allow": false, "access": "rwm"}]}}, "mounts": mounts}),
    )
}

pub(super) fn device_rules_hold_without_mknod() -> Scenario {
    // What counts is what the container may, not what we may.
    scenario(device_rules(), root_on_v1())
}

pub(super) fn device_rules_in_a_user_namespace_of_root() -> Scenario {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let change = json!({"linux": {
        "namespaces": namespaces(&["mount", "pid", "user"]), "uidMappings": map, "gidMappings": map,
        "devices": devices(), "resources": {"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "access": "rw"},
            {"allow": true, "type": "b", "major": 7, "minor": 7, "access": "rwm"}
        ]},
    }});
    scenario(with(device_rules(), &change), root_on_v1())
}

pub(super) fn device_that_the_rules_deny_is_refused() -> Scenario {
    scenario(with(device_rules(), &json!({"linux": {"devices": devices()}})), root_on_v1())
}

pub(super) fn device_rules_by_a_filter() -> Scenario {
    scenario(device_rules(), root())
}

pub(super) fn root_on_v1() -> Facts {
    Facts { cgroups: Cgroups::none(Hierarchy::Legacy), ..root() }
}

pub(super) fn device_rules_with_mknod_are_refused() -> Scenario {
    let sets = json!({"bounding": ["CAP_MKNOD"], "permitted": ["CAP_MKNOD"], "effective": ["CAP_MKNOD"]});
    scenario(with(device_rules(), &json!({"process": {"capabilities": sets}})), root_on_v1())
}

pub(super) fn personality() -> Scenario {
    let linux = json!({"personality": {"domain": "LINUX32", "flags": []}});
    scenario(with(one_id(), &json!({ "linux": linux })), alice())
}

pub(super) fn personality_with_a_flag_is_refused() -> Scenario {
    let linux = json!({"personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}});
    scenario(with(one_id(), &json!({ "linux": linux })), alice())
}

pub(super) fn memory_policy() -> Scenario {
    let policy = json!({"mode": "MPOL_INTERLEAVE", "nodes": "2-3", "flags": ["MPOL_F_STATIC_NODES"]});
    scenario(with(one_id(), &json!({"linux": {"memoryPolicy": policy}})), alice())
}

pub(super) fn memory_policy_without_nodes_is_refused() -> Scenario {
    scenario(with(one_id(), &json!({"linux": {"memoryPolicy": {"mode": "MPOL_BIND"}}})), alice())
}

pub(super) fn root_propagation_shared() -> Scenario {
    scenario(with(bare(), &json!({"linux": {"rootfsPropagation": "shared"}})), root())
}

pub(super) fn root_propagation_private() -> Scenario {
    scenario(with(one_id(), &json!({"linux": {"rootfsPropagation": "rprivate"}})), alice())
}

pub(super) fn no_pivot_and_no_keyring() -> Scenario {
    let change = json!({
        "root": {"readonly": true},
        "process": {"cwd": "/srv/../var/lib/blue"},
        "linux": {"maskedPaths": ["/proc/keys"], "readonlyPaths": ["/proc/sys"]},
    });
    scenario(with(one_id(), &change), alice()).asking(|request| {
        request.no_pivot = true;
        request.no_new_keyring = true;
    })
}

pub(super) fn sysctls() -> Scenario {
    let change = json!({
        "hostname": "blue",
        "domainname": "example.org",
        "linux": {
            "namespaces": namespaces(&["mount", "pid", "user", "network", "ipc", "uts"]),
            "sysctl": {
                "net.ipv4.ip_forward": "1",
                "net/ipv4/conf/eth0.7/forwarding": "1",
                "kernel.shmmax": "65536",
                "fs.mqueue.msg_max": "20"
            },
        },
    });
    scenario(with(one_id(), &change), alice())
}

pub(super) fn sysctl_of_the_machine_is_refused() -> Scenario {
    scenario(with(one_id(), &json!({"linux": {"sysctl": {"kernel.core_pattern": "|/x"}}})), alice())
}

pub(super) fn sysctl_of_the_host_network_is_refused() -> Scenario {
    scenario(with(one_id(), &json!({"linux": {"sysctl": {"net.ipv4.ip_forward": "1"}}})), alice())
}

pub(super) fn ping_group_range_is_clamped() -> Scenario {
    let change = json!({"linux": {
        "namespaces": namespaces(&["mount", "pid", "user", "network"]),
        "sysctl": {"net.ipv4.ping_group_range": "0 2147483647"},
    }});
    scenario(with(many_ids(), &change), alice_with_subids())
}
