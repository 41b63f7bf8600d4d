//! Mounts.

use super::*;

pub(super) fn cgroup_mount() -> Value {
    json!([{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "rw"]}])
}

pub(super) fn cgroup_with_a_namespace() -> Scenario {
    let kinds = namespaces(&["mount", "pid", "user", "cgroup"]);
    let change = json!({"linux": {"namespaces": kinds}, "mounts": cgroup_mount()});
    scenario(with(one_id(), &change), alice())
}

pub(super) fn cgroup_without_a_namespace() -> Scenario {
    scenario(with(one_id(), &json!({"mounts": cgroup_mount()})), alice())
}

pub(super) fn devpts() -> Value {
    json!([{"destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}])
}

pub(super) fn devpts_gid_unmapped() -> Scenario {
    scenario(with(one_id(), &json!({"mounts": devpts()})), alice())
}

pub(super) fn devpts_gid_mapped() -> Scenario {
    scenario(with(many_ids(), &json!({"mounts": devpts()})), alice_with_subids())
}

pub(super) fn file_systems() -> Scenario {
    let lower = format!("lowerdir={}", "/layers/of/an/image:".repeat(14));
    let mounts = json!([
        {"destination": "proc", "type": "proc", "source": "proc", "options": ["hidepid=2", ""]},
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "nodiratime", "mode=755", "size=65536k", "tmpcopyup"]},
        {"destination": "/tmp/../var/tmp", "type": "tmpfs", "options": ["ro", "rw", "sync", "rro", "rslave"]},
        {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["iversion", "noatime"]},
        {"destination": "/long", "type": "overlay", "source": "overlay", "options": ["nosymfollow", lower]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid"]}
    ]);
    let kinds = namespaces(&["mount", "pid", "user", "network", "ipc"]);
    scenario(with(one_id(), &json!({"linux": {"namespaces": kinds}, "mounts": mounts})), alice())
}

pub(super) fn bind_mounts() -> Scenario {
    let mounts = json!([
        {"destination": "/etc/hosts", "source": "hosts", "type": "bind", "options": ["ro", "nodev"]},
        {"destination": "/home", "source": "/home/alice", "type": "none",
            "options": ["rbind", "rprivate", "rnosuid", "rnorelatime"]},
        {"destination": "/shared", "source": "/srv", "options": ["bind", "rslave", "shared"]},
        {"destination": "/link", "source": "/srv/link", "options": ["bind", "src-nofollow"]},
        {"destination": "/etc/over", "source": "/srv/over", "options": ["bind", "dest-nofollow"]},
        {"destination": "/etc/copy", "source": "/srv/copy", "options": ["bind", "copy-symlink"]},
        {"destination": "/host/sys", "source": "/sys", "options": ["rbind", "ro"]},
        {"destination": "/proc/meminfo", "source": "/var/lib/lxcfs/meminfo", "options": ["bind"]},
        {"destination": "/dev", "source": "/dev", "options": ["rbind", "rslave"]},
        {"destination": "/home", "options": ["remount", "ro", "noexec"]}
    ]);
    scenario(with(one_id(), &json!({ "mounts": mounts })), alice())
}

/// A volume with these options, and these maps of uids and of gids, each of one line.
pub(super) fn volume(options: &[&str], uids: [u32; 3], gids: [u32; 3]) -> Value {
    let map = |[inside, outside, size]: [u32; 3]| match size {
        0 => json!([]),
        _ => json!([{"containerID": inside, "hostID": outside, "size": size}]),
    };
    json!({
        "destination": "/data", "source": "/srv", "type": "none", "options": options,
        "uidMappings": map(uids), "gidMappings": map(gids),
    })
}

pub(super) fn with_mounts(config: Value, mounts: &[Value]) -> Value {
    with(config, &json!({ "mounts": mounts }))
}

pub(super) const NO_MAP: [u32; 3] = [0; 3];

pub(super) fn idmapped_mounts_of_root() -> Scenario {
    let mounts = [
        volume(&["bind", "ro", "rslave"], [100, 1100, 3], [200, 1900, 50]),
        volume(&["rbind", "ridmap"], [0, 1000, 1], [0, 1000, 1]),
        volume(&["bind", "idmap=uids=0-1-10#10-11-10;gids=0-100-10"], NO_MAP, NO_MAP),
    ];
    scenario(with_mounts(bare(), &mounts), root())
}

pub(super) fn idmapped_mounts_in_a_user_namespace_of_root() -> Scenario {
    let mounts = [
        volume(&["bind", "idmap"], NO_MAP, NO_MAP),
        volume(&["rbind", "ridmap=uids=@1-3-10;gids=@0-0-20"], NO_MAP, NO_MAP),
        volume(&["bind"], [0, 500, 10], [0, 500, 10]),
    ];
    scenario(with_mounts(many_ids(), &mounts), root())
}

pub(super) fn idmapped_mount_with_the_maps_of_a_joined_namespace() -> Scenario {
    let namespaces = json!([{"type": "mount"}, {"type": "user", "path": "/proc/42/ns/user"}]);
    let config = with(bare(), &json!({"linux": {"namespaces": namespaces}}));
    scenario(with_mounts(config, &[volume(&["bind", "idmap"], NO_MAP, NO_MAP)]), root())
}

pub(super) fn idmapped_mount_of_root_inside_a_user_namespace() -> Scenario {
    scenario(with_mounts(bare(), &[volume(&["rbind"], [0, 0, 65537], [0, 1, 10])]), podman())
}

pub(super) fn idmapped_mounts_of_a_plain_user() -> Scenario {
    let mounts = [
        volume(&["bind"], [0, 100_004, 10], [0, 1000, 1]),
        volume(&["bind", "ridmap=uids=0-1000-1#1-100000-65536;gids=@7-0-2"], NO_MAP, NO_MAP),
    ];
    scenario(with_mounts(many_ids(), &mounts), alice_with_subids())
}

pub(super) fn idmapped_mount_of_a_plain_user_with_the_containers_maps_is_refused() -> Scenario {
    scenario(with_mounts(one_id(), &[volume(&["bind", "idmap"], NO_MAP, NO_MAP)]), alice())
}

pub(super) fn idmapped_mount_out_of_the_container_is_refused() -> Scenario {
    scenario(with_mounts(one_id(), &[volume(&["bind", "idmap"], [0, 1000, 2], [0, 1000, 1])]), alice())
}

pub(super) fn idmapped_mount_out_of_our_own_ids_is_refused() -> Scenario {
    scenario(with_mounts(bare(), &[volume(&["bind"], [0, 0, 65538], [0, 0, 1])]), podman())
}

pub(super) fn idmapped_mount_in_a_joined_namespace_of_a_plain_user_is_refused() -> Scenario {
    let namespaces = json!([{"type": "mount"}, {"type": "user", "path": "/proc/42/ns/user"}]);
    let config = with(bare(), &json!({"linux": {"namespaces": namespaces}}));
    scenario(with_mounts(config, &[volume(&["bind"], [0, 1000, 1], [0, 1000, 1])]), alice())
}

pub(super) fn idmapped_mount_without_maps_is_refused() -> Scenario {
    scenario(with_mounts(bare(), &[volume(&["rbind", "ridmap"], NO_MAP, NO_MAP)]), root())
}

pub(super) fn idmapped_mount_without_gids_is_refused() -> Scenario {
    scenario(with_mounts(bare(), &[volume(&["bind", "idmap"], [0, 0, 1], NO_MAP)]), root())
}

pub(super) fn idmapped_mount_with_maps_given_twice_is_refused() -> Scenario {
    let words = ["bind", "idmap=uids=0-0-1;gids=0-0-1"];
    scenario(with_mounts(bare(), &[volume(&words, [0, 0, 1], [0, 0, 1])]), root())
}

pub(super) fn idmapped_tmpfs_is_refused() -> Scenario {
    let mount = with(volume(&["idmap"], [0, 0, 1], [0, 0, 1]), &json!({"type": "tmpfs", "source": "tmpfs"}));
    scenario(with_mounts(bare(), &[mount]), root())
}

pub(super) fn mount_inside_proc_is_refused() -> Scenario {
    let mounts = json!([{"destination": "/proc/self", "source": "/srv", "options": ["bind"]}]);
    scenario(with(one_id(), &json!({ "mounts": mounts })), alice())
}

/// Root of a container that an engine has started with these capabilities.
pub(super) fn nested(capabilities: &[u32]) -> Facts {
    let own = vec![range(0, 65_536)];
    Facts {
        euid: 0,
        egid: 0,
        in_child_userns: true,
        capabilities: capabilities.iter().fold(0, |mask, cap| mask | 1 << cap),
        own_ids: (own.clone(), own),
        ..alice()
    }
}

/// A range of ids, from 0.
pub(super) fn range_of_ids() -> Value {
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1000}]);
    with(one_id(), &json!({"linux": {"uidMappings": map, "gidMappings": map}}))
}

pub(super) fn ids_of_root_in_an_outer_container() -> Scenario {
    scenario(range_of_ids(), nested(&[host::CAP_SETUID, host::CAP_SETGID, host::CAP_SETFCAP]))
}

pub(super) fn all_ids_of_root_in_an_outer_container() -> Scenario {
    scenario(bare(), nested(&[host::CAP_SETUID, host::CAP_SETGID, host::CAP_SETFCAP]))
}

pub(super) fn ids_of_root_who_may_not_map_root_is_refused() -> Scenario {
    scenario(range_of_ids(), nested(&[host::CAP_SETUID, host::CAP_SETGID]))
}

pub(super) fn mounts_with_flags_that_may_be_locked() -> Scenario {
    let volume = |options: &[&str]| json!({"destination": "/srv", "source": "/srv", "options": options});
    let mounts = [volume(&["rbind", "rw", "noatime"]), volume(&["bind", "ro"]), volume(&["remount", "exec"])];
    scenario(with_mounts(one_id(), &mounts), alice())
}

pub(super) fn masked_proc_is_shared() -> Scenario {
    let proc = json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]});
    let config = with_mounts(one_id(), &[proc]);
    scenario(config, Facts { proc: Tried::Refused, ..alice() }).degrading("strict,proc")
}

pub(super) fn masked_proc_without_a_user_namespace() -> Scenario {
    scenario(bare(), Facts { proc: Tried::Refused, ..root() }).degrading("proc")
}

pub(super) fn masked_proc_and_no_server_in_sight() -> Scenario {
    let mut scenario = layered(&json!({"io.bryo.rootfs.ephemeral": "true"}), roots()).degrading("proc");
    scenario.facts.proc = Tried::Refused;
    scenario
}
