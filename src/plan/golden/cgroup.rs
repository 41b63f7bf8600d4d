//! The cgroup.

use super::*;

/// The least with these resources.
pub(super) fn limited(resources: &Value) -> Value {
    with(one_id(), &json!({"linux": {"resources": resources}}))
}

pub(super) fn limits() -> Value {
    // What is given without a number asks for nothing.
    json!({"cpu": {"quota": 20_000, "period": 100_000}, "blockIO": {}, "memory": {"limit": 1 << 30, "swap": 2_u64 << 30},
        "pids": {"limit": 100}})
}

/// The least, for root, at a place in the hierarchy.
pub(super) fn placed(path: &str) -> Value {
    with(bare(), &json!({"linux": {"cgroupsPath": path}}))
}

pub(super) fn cgroup_in_our_own_subtree() -> Scenario {
    scenario(one_id(), alice_delegated())
}

pub(super) fn cgroup_with_limits_in_our_own_subtree() -> Scenario {
    scenario(limited(&limits()), alice_delegated())
}

pub(super) fn cgroup_of_root() -> Scenario {
    scenario(bare(), root())
}

pub(super) fn cgroup_of_root_with_limits() -> Scenario {
    let resources = json!({"cpu": {"cpus": "0-1"}, "memory": {"limit": 1 << 30}});
    scenario(with(placed("/machine/web"), &json!({"linux": {"resources": resources}})), root())
}

pub(super) fn cgroup_of_root_by_systemd() -> Scenario {
    scenario(bare(), root()).asking(|request| request.manager = Some(Manager::Systemd))
}

pub(super) fn cgroup_in_a_container() -> Scenario {
    // As root of a container with a writable /sys/fs/cgroup: its own processes are in the way at the top.
    let cgroups = Cgroups { own: "/".into(), systemd: false, system_bus: Vec::new(), ..root().cgroups };
    scenario(limited(&limits()), Facts { cgroups, ..root() })
}

pub(super) fn cgroup_with_limits_by_the_users_systemd() -> Scenario {
    scenario(limited(&limits()), alice())
}

pub(super) fn cgroup_in_a_unit_by_name() -> Scenario {
    scenario(placed("machine.slice:libpod:4711"), root())
        .asking(|request| request.manager = Some(Manager::Systemd))
}

pub(super) fn engines(resources: &Value, annotations: &Value) -> Scenario {
    let config = with(limited(resources), &json!({"linux": {"cgroupsPath": "user.slice:libpod:4711"}}));
    scenario(with(config, &json!({ "annotations": annotations })), alice())
        .asking(|request| request.manager = Some(Manager::Systemd))
}

pub(super) fn cgroup_of_an_engines_with_limited_memory() -> Scenario {
    engines(&json!({"memory": {"limit": 64 << 20}}), &json!({}))
}

pub(super) fn cgroup_of_an_engines_with_limited_memory_in_the_unit_itself() -> Scenario {
    engines(&json!({"memory": {"limit": 64 << 20}}), &json!({"run.oci.systemd.subgroup": ""}))
}

pub(super) fn cgroup_of_an_engines_with_unlimited_memory() -> Scenario {
    engines(&json!({"memory": {"limit": -1}, "pids": {"limit": 42}}), &json!({}))
}

pub(super) fn cgroup_in_a_unit_that_makes_no_sense_is_refused() -> Scenario {
    scenario(placed("machine:libpod"), root()).asking(|request| request.manager = Some(Manager::Systemd))
}

pub(super) fn cgroup_below_a_unit_by_its_path() -> Scenario {
    // Podman, with --cgroups=split.
    let scope = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope";
    let path = format!("{scope}/libpod-payload-4711");
    let config = with(one_id(), &json!({"linux": {"cgroupsPath": path}}));
    scenario(config, alice_delegated()).asking(|request| request.manager = Some(Manager::Systemd))
}

pub(super) fn cgroup_outside_of_what_is_ours() -> Scenario {
    // The kernel refuses it, and knows better than we do.
    scenario(with(one_id(), &json!({"linux": {"cgroupsPath": "/default/../web"}})), alice_delegated())
}

pub(super) fn cgroup_with_properties_of_the_unit() -> Scenario {
    let annotations = json!({
        "org.systemd.property.TimeoutStopSec": "2.5",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.MemoryMax": "uint64 4096",
    });
    scenario(with(limited(&limits()), &json!({ "annotations": annotations })), alice())
}

pub(super) fn cgroup_with_a_property_that_makes_no_sense_is_refused() -> Scenario {
    let annotations = json!({"org.systemd.property.TimeoutStopUSec": "uint64 many"});
    scenario(with(one_id(), &json!({ "annotations": annotations })), alice())
}

pub(super) fn cgroup_below_the_unit() -> Scenario {
    let annotations = json!({"run.oci.systemd.subgroup": "container", "run.oci.delegate-cgroup": "inner"});
    scenario(with(one_id(), &json!({ "annotations": annotations })), alice())
}

pub(super) fn cgroup_of_systemds_out_of_sight() -> Scenario {
    scenario(one_id(), alice_in(|cgroups| cgroups.namespaced = true))
}

pub(super) fn alice_without_a_bus() -> Facts {
    alice_in(|cgroups| cgroups.user_bus = Vec::new())
}

pub(super) fn cgroup_without_a_bus() -> Scenario {
    scenario(one_id(), alice_without_a_bus())
}

pub(super) fn cgroup_without_a_bus_in_our_own_subtree() -> Scenario {
    let facts = Facts { cgroups: Cgroups { user_bus: Vec::new(), ..alice_delegated().cgroups }, ..alice() };
    scenario(one_id(), facts).asking(|request| request.manager = Some(Manager::Systemd))
}

pub(super) fn cgroup_without_a_bus_by_name_is_refused() -> Scenario {
    let config = with(one_id(), &json!({"linux": {"cgroupsPath": "user.slice:bryo:web"}}));
    scenario(config, alice_without_a_bus())
}

pub(super) fn cgroup_without_a_bus_and_limits_is_refused() -> Scenario {
    scenario(limited(&limits()), alice_without_a_bus())
}

pub(super) fn alice_on_v1() -> Facts {
    Facts { cgroups: Cgroups::none(Hierarchy::Legacy), ..alice() }
}

pub(super) fn cgroup_v1() -> Scenario {
    scenario(one_id(), alice_on_v1())
}

pub(super) fn cgroup_v1_and_limits_is_refused() -> Scenario {
    scenario(limited(&limits()), alice_on_v1())
}

pub(super) fn cgroup_v1_and_limits_are_dropped() -> Scenario {
    cgroup_v1_and_limits_is_refused().degrading("limits")
}

pub(super) fn cgroup_v1_and_a_path_is_refused() -> Scenario {
    scenario(with(one_id(), &json!({"linux": {"cgroupsPath": "/web"}})), alice_on_v1())
}

pub(super) fn cgroup_v1_and_a_weight_that_is_the_kernels_own() -> Scenario {
    // As ctr asks for with every container.
    scenario(limited(&json!({"cpu": {"shares": 1024}})), alice_on_v1())
}

pub(super) fn cgroup_disabled() -> Scenario {
    scenario(one_id(), alice()).asking(|request| request.manager = Some(Manager::Disabled))
}

pub(super) fn cgroup_disabled_and_limits_is_refused() -> Scenario {
    scenario(limited(&limits()), alice()).asking(|request| request.manager = Some(Manager::Disabled))
}

pub(super) fn cgroup_without_cpuset() -> Scenario {
    scenario(limited(&json!({"cpu": {"cpus": "0-1,3"}})), alice())
}

pub(super) fn cgroup_without_cpuset_is_refused_when_strict() -> Scenario {
    cgroup_without_cpuset().degrading("strict")
}

pub(super) fn cgroup_without_cpuset_where_limits_may_go() -> Scenario {
    cgroup_without_cpuset().degrading("strict,limits")
}

pub(super) fn cgroup_without_io_is_refused() -> Scenario {
    scenario(limited(&json!({"blockIO": {"weight": 500}})), alice())
}

pub(super) fn cgroup_without_io_and_limits_are_dropped() -> Scenario {
    cgroup_without_io_is_refused().degrading("limits")
}

pub(super) fn cgroup_delegated_to_the_user_of_the_container() -> Scenario {
    let change = json!({
        "process": {"user": {"uid": 33, "gid": 33}},
        "linux": {"namespaces": namespaces(&["mount", "pid", "user", "cgroup"])},
        "mounts": cgroup_mount(),
    });
    scenario(with(many_ids(), &change), alice_with_subids())
}

pub(super) fn cgroup_delegated_by_root() -> Scenario {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let change = json!({"linux": {
        "namespaces": namespaces(&["mount", "pid", "user", "cgroup"]), "uidMappings": map, "gidMappings": map,
    }, "mounts": cgroup_mount()});
    scenario(with(bare(), &change), root())
}
