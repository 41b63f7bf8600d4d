//! The process.

use super::*;

pub(super) fn terminal() -> Scenario {
    let process = json!({"terminal": true, "consoleSize": {"height": 50, "width": 132}});
    scenario(with(one_id(), &json!({ "process": process })), alice())
}

pub(super) fn descriptors() -> Scenario {
    let process =
        json!({"args": ["sh", "-c", "true"], "env": ["PATH=/bin::/opt/bin", "A=1", "A=2"], "umask": 18});
    scenario(with(one_id(), &json!({ "process": process })), alice()).asking(|request| {
        request.preserve_fds = 2;
        request.listen_fds = 1;
        request.listen_names = Some("http".into());
    })
}

pub(super) fn limits_of_process() -> Value {
    let rlimits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 1_048_576, "hard": 1_048_576},
        {"type": "RLIMIT_MEMLOCK", "soft": 65536, "hard": u64::MAX},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX}
    ]);
    json!({"process": {"rlimits": rlimits}})
}

pub(super) fn rlimit_is_clamped() -> Scenario {
    scenario(with(one_id(), &limits_of_process()), alice())
}

pub(super) fn rlimit_raised_by_root() -> Scenario {
    scenario(with(bare(), &limits_of_process()), root())
}

pub(super) fn rlimit_raised_by_podman_is_clamped() -> Scenario {
    scenario(with(bare(), &limits_of_process()), podman())
}

pub(super) fn oom_score_is_clamped() -> Scenario {
    let facts = Facts { oom_score_adj: 200, ..alice() };
    scenario(with(one_id(), &json!({"process": {"oomScoreAdj": -500}})), facts)
}

pub(super) fn binary_of_the_caller() -> Scenario {
    scenario(one_id(), Facts { binary_owner: Some(1000), ..alice() })
}

pub(super) fn binary_of_the_caller_with_a_filter_that_stops_the_stub() -> Scenario {
    let rule = json!({"names": ["execveat"], "action": "SCMP_ACT_ERRNO"});
    let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let config = with(one_id(), &json!({"linux": {"seccomp": seccomp}}));
    scenario(config, Facts { binary_owner: Some(1000), ..alice() })
}

pub(super) fn binary_of_a_sealed_copy() -> Scenario {
    scenario(one_id(), Facts { binary_owner: None, ..alice() })
}

pub(super) fn binary_of_the_caller_under_selinux() -> Scenario {
    let lsm = Lsm { apparmor: false, selinux: true };
    let label = "system_u:system_r:container_t:s0:c1,c2";
    let config = with(one_id(), &json!({"process": {"selinuxLabel": label}}));
    scenario(config, Facts { binary_owner: Some(1000), lsm, ..alice() })
}

pub(super) fn groups() -> Value {
    json!({"process": {"user": {"additionalGids": [10, 44]}}})
}

pub(super) fn groups_are_refused() -> Scenario {
    scenario(with(one_id(), &groups()), alice())
}

pub(super) fn groups_are_dropped() -> Scenario {
    groups_are_refused().degrading("groups")
}

pub(super) fn groups_of_the_caller() -> Scenario {
    scenario(
        with(many_ids(), &json!({"annotations": {"run.oci.keep_original_groups": "1"}})),
        alice_with_subids(),
    )
}

pub(super) fn groups_of_the_caller_and_others_are_refused() -> Scenario {
    let change = json!({
        "annotations": {"run.oci.keep_original_groups": "1"},
        "process": {"user": {"additionalGids": [7]}},
    });
    scenario(with(many_ids(), &change), alice_with_subids())
}

pub(super) fn groups_of_many_ids() -> Scenario {
    scenario(with(many_ids(), &groups()), alice_with_subids())
}

pub(super) fn ambient_capabilities_are_clipped() -> Scenario {
    let (kill, both) = (json!(["CAP_KILL"]), json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]));
    let sets = json!({
        "bounding": both, "effective": both, "permitted": both, "inheritable": kill, "ambient": both,
    });
    let process = json!({"user": {"uid": 33, "gid": 33}, "capabilities": sets, "noNewPrivileges": true});
    scenario(with(many_ids(), &json!({ "process": process })), alice_with_subids())
}

pub(super) fn scheduling(policy: &str, priority: i32) -> Value {
    let scheduler =
        json!({"policy": policy, "nice": 5, "priority": priority, "flags": ["SCHED_RESET_ON_FORK"]});
    let io = json!({"class": "IOPRIO_CLASS_BE", "priority": 3});
    with(one_id(), &json!({"process": {"scheduler": scheduler, "ioPriority": io}}))
}

pub(super) fn scheduling_of_a_plain_user() -> Scenario {
    scenario(scheduling("SCHED_BATCH", 0), alice())
}

pub(super) fn scheduling_of_root() -> Scenario {
    scenario(scheduling("SCHED_FIFO", 10), root())
}

pub(super) fn scheduler_that_makes_no_sense_is_refused() -> Scenario {
    scenario(scheduling("SCHED_BATCH", 10), alice())
}

/// Mounts of all sorts, with a label.
pub(super) fn mount_label(kind: &str) -> Value {
    let mounts = json!([
        {"destination": "/proc", "type": "proc"},
        {"destination": "/dev", "type": "tmpfs", "options": ["mode=755"]},
        {"destination": "/dev/pts", "type": "devpts", "options": ["newinstance"]},
        {"destination": "/dev/mqueue", "type": "mqueue"},
        {"destination": "/run", "type": "tmpfs", "options": ["context=\"a:b:own:s0\""]},
        {"destination": "/srv", "type": "bind", "source": "/srv", "options": ["bind"]}
    ]);
    let linux = json!({
        "namespaces": namespaces(&["mount", "pid", "user", "ipc"]), "maskedPaths": ["/proc/kcore"],
        "mountLabel": "system_u:object_r:container_file_t:s0:c1,c2"
    });
    let annotations = json!({"run.oci.mount_context_type": kind});
    with(one_id(), &json!({"mounts": mounts, "linux": linux, "annotations": annotations}))
}

pub(super) fn under_selinux() -> Facts {
    Facts { lsm: Lsm { apparmor: false, selinux: true }, ..alice() }
}

pub(super) fn mount_label_under_selinux() -> Scenario {
    scenario(mount_label("context"), under_selinux())
}

pub(super) fn mount_label_of_another_kind() -> Scenario {
    scenario(mount_label("rootcontext"), under_selinux())
}

pub(super) fn mount_label_of_no_kind_is_refused() -> Scenario {
    scenario(mount_label("mode"), under_selinux())
}

pub(super) fn mount_label_without_selinux() -> Scenario {
    scenario(mount_label("context"), alice())
}

pub(super) fn selinux_label_without_selinux() -> Scenario {
    let label = "system_u:system_r:container_t:s0:c1,c2";
    scenario(with(one_id(), &json!({"process": {"selinuxLabel": label}})), alice())
}

pub(super) fn apparmor_profile_without_apparmor_is_refused() -> Scenario {
    scenario(with(one_id(), &json!({"process": {"apparmorProfile": "docker-default"}})), alice())
}

pub(super) fn apparmor_profile_without_apparmor_may_go() -> Scenario {
    apparmor_profile_without_apparmor_is_refused().degrading("strict,apparmor")
}

/// Where there is AppArmor, a profile that it does not have never goes.
pub(super) fn apparmor_profile_goes_nowhere_under_apparmor() -> Scenario {
    apparmor_profile().degrading("apparmor")
}

pub(super) fn apparmor_profile() -> Scenario {
    let lsm = Lsm { apparmor: true, selinux: false };
    let config = with(bare(), &json!({"process": {"apparmorProfile": "docker-default"}}));
    scenario(config, Facts { lsm, ..root() })
}
