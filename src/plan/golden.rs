//! Golden plans: a config.json, a host made by hand and the caller's flags, and the plan of the three as
//! text in `golden/NAME.txt`. What a change to the planner changes shows there as a diff, for every host
//! that it changes it on.
//!
//! `BRYO_GOLDEN=write cargo test golden` writes the files anew; read what `git diff` says before it is
//! committed.

use super::Request;
use super::cgroup::Manager;
use super::degrade::Policy;
use super::describe;
use super::layers::Changes;
use super::network;
use super::survey::Topic;
use crate::bundle::{self, Bundle};
use crate::cgroup::systemd::Candidate;
use crate::dbus::{Address, Peer};
use crate::host::cgroup::{Cgroups, Hierarchy, Subtree};
use crate::host::idmap::{Helper, IdRange, Subids};
use crate::host::network::Network;
use crate::host::proc::Tried;
use crate::host::process::Lsm;
use crate::host::rootfs::{Kind, Roots};
use crate::host::{self, Facts};
use crate::spec::{self, SpecKind};
use nix::errno::Errno;
use nix::libc;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The three that a plan is made from.
struct Scenario {
    config: Value,
    facts: Facts,
    request: Request,
}

fn scenario(config: Value, facts: Facts) -> Scenario {
    let id = "web".into();
    let state = "/run/user/1000/bryo/web".into();
    Scenario { config, facts, request: Request { id, state, ..Request::default() } }
}

impl Scenario {
    fn asking(mut self, ask: impl FnOnce(&mut Request)) -> Scenario {
        ask(&mut self.request);
        self
    }

    fn degrading(self, words: &str) -> Scenario {
        self.asking(|request| request.degrade = Policy::parse(words).unwrap())
    }

    /// The plan, or the line that refuses it, as text.
    fn outcome(&self) -> String {
        let (spec, remarks) = bundle::parse(self.config.to_string().as_bytes()).unwrap();
        assert_eq!(remarks, [""; 0], "the configuration is not what it seems");
        let bundle = Bundle { dir: "/bundle".into(), spec, remarks };
        // The policy is checked by the verb, before anything is done.
        let policy = &self.request.degrade;
        let mut survey = super::survey(&bundle, &self.facts, &self.request).unwrap();
        let whom = format_args!("container {}", survey.plan.id).to_string();
        let strict = policy.check(&whom, &survey.plan.degradations);
        survey.refused.unless(Topic::Outcome, strict, || ());
        assert_eq!(Some(&survey.plan.spec_process), bundle.spec.process().as_ref());
        let described = describe::survey(&survey, &bundle.dir, None);
        assert!(described.json()["refusals"].is_array());
        if survey.refused.is_empty() {
            return described.text();
        }
        survey.refused.failures().map(|failure| format!("refused: {failure}\n")).collect()
    }
}

// ---- hosts --------------------------------------------------------------------------------------------

const EVERY_CAPABILITY: u64 = (1 << 41) - 1;

const fn range(start: u32, count: u32) -> IdRange {
    IdRange { start, count }
}

/// alice, uid and gid 1000, on a Debian where root has installed bryo. Her subordinate ids are not looked up.
fn alice() -> Facts {
    let mut hard_limits = [u64::MAX; 16];
    hard_limits[libc::RLIMIT_NOFILE as usize] = 524_288;
    hard_limits[libc::RLIMIT_MEMLOCK as usize] = 8 << 20;
    Facts {
        euid: 1000,
        egid: 1000,
        in_child_userns: false,
        capabilities: 0,
        own_ids: (vec![IdRange::ALL], vec![IdRange::ALL]),
        subids: None,
        setgroups_denied: false,
        hard_limits,
        oom_score_adj: 0,
        binary_owner: Some(0),
        lsm: Lsm::default(),
        cgroups: session(),
        devices: BTreeMap::new(),
        network: Network::default(),
        roots: None,
        resctrl: None,
        proc: Tried::Not,
    }
}

/// The cgroups of who has logged in on a Debian: systemd's, none of them alice's own.
fn session() -> Cgroups {
    Cgroups {
        own: "/user.slice/user-1000.slice/session-2.scope".into(),
        delegate: vec![c".".into(), c"cgroup.procs".into(), c"cgroup.subtree_control".into()],
        systemd: true,
        user_bus: vec![bus("/run/user/1000/bus")],
        user_controllers: Some(vec!["cpu".into(), "memory".into(), "pids".into()]),
        manager: Some("/user.slice/user-1000.slice/user@1000.service".into()),
        ..Cgroups::none(Hierarchy::Unified)
    }
}

fn bus(path: &str) -> Candidate {
    Candidate { address: Address::Path(path.into()), peer: Peer::Bus }
}

fn subtree(path: &str, controllers: &str) -> Subtree {
    Subtree { path: path.into(), controllers: controllers.split(' ').map(String::from).collect() }
}

/// alice with something else about her cgroups.
fn alice_in(change: impl FnOnce(&mut Cgroups)) -> Facts {
    let mut facts = alice();
    change(&mut facts.cgroups);
    facts
}

/// alice in `systemd-run --user --scope -p Delegate=yes`.
fn alice_delegated() -> Facts {
    let scope = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope";
    alice_in(|cgroups| {
        cgroups.own = scope.into();
        cgroups.subtree = Some(subtree(scope, "cpu memory pids"));
    })
}

/// alice, who has 65536 subordinate ids and the helpers of Debian's uidmap.
fn alice_with_subids() -> Facts {
    let subids = Subids {
        user: "alice".into(),
        uids: vec![range(100_000, 65536)],
        gids: vec![range(100_000, 65536)],
        newuidmap: Helper::Usable("/usr/bin/newuidmap".into()),
        newgidmap: Helper::Usable("/usr/bin/newgidmap".into()),
        no_new_privs: false,
    };
    Facts { subids: Some(subids), ..alice() }
}

/// The same with something about her subordinate ids amiss.
fn alice_but(amiss: impl FnOnce(&mut Subids)) -> Facts {
    let mut facts = alice_with_subids();
    amiss(facts.subids.as_mut().unwrap());
    facts
}

/// root of the machine.
fn root() -> Facts {
    let cgroups = Cgroups {
        own: "/user.slice/user-0.slice/session-1.scope".into(),
        delegate: session().delegate,
        top: Some(subtree("/", "cpuset cpu io memory hugetlb pids rdma")),
        systemd: true,
        system_bus: vec![bus("/run/dbus/system_bus_socket")],
        manager: Some("/".into()),
        device_filter: true,
        ..Cgroups::none(Hierarchy::Unified)
    };
    Facts { euid: 0, egid: 0, capabilities: EVERY_CAPABILITY, cgroups, ..alice() }
}

/// root inside alice's user namespace, as Podman starts runtimes.
fn podman() -> Facts {
    let own = vec![range(0, 1), range(1, 65536)];
    // bryo belongs to the machine's root, who is nobody there.
    Facts {
        in_child_userns: true,
        own_ids: (own.clone(), own),
        binary_owner: Some(65534),
        cgroups: session(),
        ..root()
    }
}

// ---- configurations -----------------------------------------------------------------------------------

/// What `bryo spec` writes, for one of its three kinds of callers.
fn spec(kind: &SpecKind) -> Value {
    // Without the cgroup namespace, on whose host it depends.
    serde_json::from_str(&spec::text(kind, false).unwrap()).unwrap()
}

fn spec_rootless() -> Value {
    spec(&SpecKind::Rootless { uid: 1000, gid: 1000 })
}

fn spec_subids() -> Value {
    let subids = vec![range(100_000, 65536)];
    spec(&SpecKind::Subids { uid: 1000, gid: 1000, subuids: subids.clone(), subgids: subids })
}

/// The least that runs, without a user namespace: no mounts, no capabilities, no limits.
fn bare() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "env": ["HOME=/"], "cwd": "/"},
        "linux": {"namespaces": namespaces(&["mount", "pid"])}
    })
}

/// The least, for one id of alice's.
fn one_id() -> Value {
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    let linux = json!({
        "namespaces": namespaces(&["mount", "pid", "user"]), "uidMappings": map, "gidMappings": map,
    });
    with(bare(), &json!({ "linux": linux }))
}

/// The least, for all ids of alice's.
fn many_ids() -> Value {
    let map = json!([
        {"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 100_000, "size": 65536}
    ]);
    with(one_id(), &json!({"linux": {"uidMappings": map, "gidMappings": map}}))
}

fn namespaces(kinds: &[&str]) -> Value {
    kinds.iter().map(|kind| json!({ "type": kind })).collect()
}

/// A configuration with a change: objects are merged, null removes, everything else replaces (RFC 7396).
fn with(mut config: Value, change: &Value) -> Value {
    merge(&mut config, change);
    config
}

fn merge(config: &mut Value, change: &Value) {
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

// ---- comparing ----------------------------------------------------------------------------------------

/// Compares one plan with its file, or writes the file.
fn compare(name: &str, scenario: &Scenario) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/plan/golden/{name}.txt"));
    let outcome = scenario.outcome();
    assert_eq!(outcome, scenario.outcome(), "{name}: the same three give two different plans");
    let found = format!("# {}\n\n{outcome}", name.replace('_', " "));
    match std::env::var("BRYO_GOLDEN").as_deref() {
        Ok("write") => return std::fs::write(&path, found).unwrap(),
        Ok(other) => panic!("BRYO_GOLDEN={other} means nothing; write is what it knows"),
        Err(_) => {}
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        wanted == found,
        "the plan differs from {} (- the file, + the plan):\n\n{}\n\
         if the plan is right: BRYO_GOLDEN=write cargo test golden, and read git diff",
        path.display(),
        diff(&wanted, &found)
    );
}

/// The lines that differ, each with up to two that do not before and after it.
fn diff(old: &str, new: &str) -> String {
    const AROUND: usize = 2;
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    // common[i][j]: the length of the longest common subsequence of what follows.
    let mut common = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    let near = |at: usize| {
        let window = at.saturating_sub(AROUND)..(at + AROUND + 1).min(lines.len());
        lines[window].iter().any(|(sign, _)| *sign != ' ')
    };
    let mut text = String::new();
    for (at, (sign, line)) in lines.iter().enumerate() {
        if near(at) {
            text += &format!("{sign} {line}\n");
        } else if at > 0 && near(at - 1) {
            text += "  ...\n";
        }
    }
    text
}

/// Of all of them: nobody is told of something that is missing without the way to it.
#[test]
fn what_is_warned_of_and_what_is_refused_by_a_code_names_the_way_out() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan/golden");
    let (mut warnings, mut refusals) = (0, 0);
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap).filter(|e| e.file_name() != "render.rs")
    {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        for line in text.lines().map(str::trim) {
            let warns = line.starts_with("weaker: ") || line.starts_with("allowed: ");
            let refuses =
                line.starts_with("refused: ") && crate::codes::TABLE.iter().any(|c| line.contains(c.name));
            warnings += u32::from(warns);
            refusals += u32::from(refuses);
            assert!(!(warns || refuses) || line.contains("; fix: "), "{}: {line}", entry.path().display());
        }
    }
    assert!(warnings > 20 && refusals > 20, "{warnings} warnings, {refusals} refusals: of which files?");
}

#[test]
fn a_diff_shows_what_differs_and_little_else() {
    let old = "a\nb\nc\nd\ne\nf\ng\n";
    assert_eq!(diff(old, old), "");
    assert_eq!(diff(old, "a\nb\nc\nD\ne\nf\ng\n"), "  b\n  c\n- d\n+ D\n  e\n  f\n  ...\n");
    assert_eq!(diff("", "a\n"), "+ a\n");
}

/// Makes a test of every scenario that is listed; one that is not is dead code, and not compiled.
macro_rules! goldens {
    ($($name:ident)*) => {
        mod plans {
            $(#[test]
            fn $name() {
                super::compare(stringify!($name), &super::$name());
            })*
        }

        #[test]
        fn every_file_has_its_scenario() {
            let listed = BTreeSet::from([$(concat!(stringify!($name), ".txt").to_string()),*]);
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan/golden");
            let files = std::fs::read_dir(directory).unwrap().map(|f| f.unwrap().file_name());
            let files = files.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".txt"));
            assert_eq!(files.filter(|name| !listed.contains(name)).collect::<Vec<_>>(), [""; 0]);
        }
    };
}

goldens! {
    // Who the caller is.
    plain_user_with_one_id
    plain_user_with_subids
    root_on_the_host
    root_inside_a_user_namespace
    root_config_by_a_plain_user
    root_config_by_a_plain_user_without_helpers
    // Ids.
    helpers_missing
    helpers_missing_and_another_user_is_refused
    helper_without_setuid
    helper_on_a_nosuid_mount
    no_new_privs_set
    no_subuid_entry
    no_subuid_entry_is_refused_when_strict
    map_out_of_range_is_refused
    map_out_of_our_own_namespace_is_refused
    single_id_follows_the_user
    user_outside_of_many_ids_is_refused
    map_by_root_inside_a_user_namespace
    root_without_a_map_is_refused
    // Namespaces.
    joined_network
    joined_namespaces_in_order
    host_network
    network_auto
    network_auto_without_a_route
    network_by_pasta_without_a_route
    network_auto_without_tun
    network_auto_without_a_helper
    network_auto_without_a_helper_is_refused_when_strict
    network_auto_without_a_helper_is_refused_with_ports
    network_by_pasta_without_tun_is_refused
    network_by_pasta_without_tun_may_go
    network_by_pasta_with_slirp4netns_alone_is_refused
    network_by_slirp4netns
    network_by_slirp4netns_on_an_ipv6_address_is_refused
    network_with_a_port_of_roots_is_refused
    network_of_root_with_a_port_of_roots
    network_devices_of_root
    network_devices_are_refused_to_a_user
    rdt_of_its_own
    rdt_of_a_name_that_counts
    rdt_without_resctrl_is_refused
    rdt_is_refused_to_a_user
    network_none
    network_host
    network_host_with_a_sysctl_is_refused
    network_joined_by_its_path
    network_by_annotations
    ports_without_a_network_are_refused
    host_pid
    host_ipc
    no_mount_namespace_is_refused
    hostname_of_the_host_is_refused
    time_offset
    // Mounts.
    cgroup_with_a_namespace
    cgroup_without_a_namespace
    devpts_gid_unmapped
    devpts_gid_mapped
    file_systems
    bind_mounts
    idmapped_mounts_of_root
    idmapped_mounts_in_a_user_namespace_of_root
    idmapped_mount_with_the_maps_of_a_joined_namespace
    idmapped_mount_of_root_inside_a_user_namespace
    idmapped_mounts_of_a_plain_user
    idmapped_mount_of_a_plain_user_with_the_containers_maps_is_refused
    idmapped_mount_out_of_the_container_is_refused
    idmapped_mount_out_of_our_own_ids_is_refused
    idmapped_mount_in_a_joined_namespace_of_a_plain_user_is_refused
    idmapped_mount_without_maps_is_refused
    idmapped_mount_without_gids_is_refused
    idmapped_mount_with_maps_given_twice_is_refused
    idmapped_tmpfs_is_refused
    mount_inside_proc_is_refused
    ids_of_root_in_an_outer_container
    all_ids_of_root_in_an_outer_container
    ids_of_root_who_may_not_map_root_is_refused
    mounts_with_flags_that_may_be_locked
    masked_proc_is_shared
    masked_proc_without_a_user_namespace
    masked_proc_and_no_server_in_sight
    // The root.
    devices_of_root
    devices_of_a_plain_user
    devices_that_may_go
    devices_that_the_host_has_elsewhere
    device_rules_hold_without_mknod
    device_rules_with_mknod_are_refused
    device_that_the_rules_deny_is_refused
    device_rules_by_a_filter
    device_rules_in_a_user_namespace_of_root
    personality
    personality_with_a_flag_is_refused
    memory_policy
    memory_policy_without_nodes_is_refused
    root_propagation_shared
    root_propagation_private
    no_pivot_and_no_keyring
    sysctls
    sysctl_of_the_machine_is_refused
    sysctl_of_the_host_network_is_refused
    ping_group_range_is_clamped
    // The process.
    terminal
    descriptors
    rlimit_is_clamped
    rlimit_raised_by_root
    rlimit_raised_by_podman_is_clamped
    oom_score_is_clamped
    binary_of_the_caller
    binary_of_the_caller_under_selinux
    binary_of_the_caller_with_a_filter_that_stops_the_stub
    binary_of_a_sealed_copy
    groups_are_refused
    groups_are_dropped
    groups_of_many_ids
    groups_of_the_caller
    groups_of_the_caller_and_others_are_refused
    ambient_capabilities_are_clipped
    scheduling_of_a_plain_user
    scheduling_of_root
    scheduler_that_makes_no_sense_is_refused
    selinux_label_without_selinux
    mount_label_under_selinux
    mount_label_of_another_kind
    mount_label_of_no_kind_is_refused
    mount_label_without_selinux
    apparmor_profile_without_apparmor_is_refused
    apparmor_profile_without_apparmor_may_go
    apparmor_profile_goes_nowhere_under_apparmor
    apparmor_profile
    // The cgroup.
    cgroup_in_our_own_subtree
    cgroup_with_limits_in_our_own_subtree
    cgroup_of_root
    cgroup_of_root_with_limits
    cgroup_of_root_by_systemd
    cgroup_in_a_container
    cgroup_with_limits_by_the_users_systemd
    cgroup_in_a_unit_by_name
    cgroup_in_a_unit_that_makes_no_sense_is_refused
    cgroup_below_a_unit_by_its_path
    cgroup_outside_of_what_is_ours
    cgroup_with_properties_of_the_unit
    cgroup_with_a_property_that_makes_no_sense_is_refused
    cgroup_below_the_unit
    cgroup_of_an_engines_with_limited_memory
    cgroup_of_an_engines_with_limited_memory_in_the_unit_itself
    cgroup_of_an_engines_with_unlimited_memory
    cgroup_of_systemds_out_of_sight
    cgroup_without_a_bus
    cgroup_without_a_bus_in_our_own_subtree
    cgroup_without_a_bus_by_name_is_refused
    cgroup_without_a_bus_and_limits_is_refused
    cgroup_v1
    cgroup_v1_and_limits_is_refused
    cgroup_v1_and_limits_are_dropped
    cgroup_v1_and_a_path_is_refused
    cgroup_v1_and_a_weight_that_is_the_kernels_own
    cgroup_disabled
    cgroup_disabled_and_limits_is_refused
    cgroup_without_cpuset
    cgroup_without_cpuset_is_refused_when_strict
    cgroup_without_cpuset_where_limits_may_go
    cgroup_without_io_is_refused
    cgroup_without_io_and_limits_are_dropped
    cgroup_delegated_to_the_user_of_the_container
    cgroup_delegated_by_root
    // The rest.
    seccomp_agent
    hooks_in_order
    ephemeral
    ephemeral_by_annotation
    ephemeral_without_fuse_overlayfs
    ephemeral_without_the_fuse_device
    ephemeral_of_files_that_are_nobodys
    ephemeral_of_files_that_are_nobodys_without_fuse_overlayfs
    ephemeral_read_only
    ephemeral_of_root
    ephemeral_wins_over_the_annotation
    overlay_of_the_bundle
    overlay_wins_over_the_annotation
    overlay_with_a_copy_of_an_earlier_run
    overlay_and_ephemeral_is_refused
    layers_beneath_the_root
    layers_beneath_an_empty_root
    layers_read_only
    layers_without_a_place_for_changes_is_refused
    layers_that_are_no_list_is_refused
    layers_and_the_host_is_refused
    ephemeral_that_is_neither_true_nor_false_is_refused
    host_by_fuse_overlayfs
    host_without_fuse_overlayfs
    host_of_root
}

// ---- who the caller is --------------------------------------------------------------------------------

fn plain_user_with_one_id() -> Scenario {
    scenario(spec_rootless(), alice())
}

fn plain_user_with_subids() -> Scenario {
    scenario(spec_subids(), alice_with_subids())
}

fn root_on_the_host() -> Scenario {
    scenario(spec(&SpecKind::Root), root())
}

fn root_inside_a_user_namespace() -> Scenario {
    scenario(spec(&SpecKind::Root), podman())
}

fn root_config_by_a_plain_user() -> Scenario {
    scenario(spec(&SpecKind::Root), alice_with_subids())
}

fn root_config_by_a_plain_user_without_helpers() -> Scenario {
    let facts = alice_but(|subids| {
        subids.newuidmap = Helper::Missing;
        subids.newgidmap = Helper::Missing;
    });
    scenario(bare(), facts)
}

// ---- ids ----------------------------------------------------------------------------------------------

fn helpers_missing() -> Scenario {
    let facts = alice_but(|subids| {
        subids.newuidmap = Helper::Missing;
        subids.newgidmap = Helper::Missing;
    });
    scenario(many_ids(), facts)
}

fn helpers_missing_and_another_user_is_refused() -> Scenario {
    let config = with(many_ids(), &json!({"process": {"user": {"uid": 33, "gid": 33}}}));
    scenario(config, alice_but(|subids| subids.newgidmap = Helper::Missing))
}

fn helper_without_setuid() -> Scenario {
    let powerless = Helper::Powerless("/usr/bin/newgidmap".into());
    scenario(many_ids(), alice_but(|subids| subids.newgidmap = powerless))
}

fn helper_on_a_nosuid_mount() -> Scenario {
    let nosuid = Helper::NoSuid("/usr/bin/newuidmap".into());
    scenario(many_ids(), alice_but(|subids| subids.newuidmap = nosuid))
}

fn no_new_privs_set() -> Scenario {
    scenario(many_ids(), alice_but(|subids| subids.no_new_privs = true))
}

fn no_subuid_entry() -> Scenario {
    scenario(many_ids(), alice_but(|subids| subids.uids.clear()))
}

fn no_subuid_entry_is_refused_when_strict() -> Scenario {
    no_subuid_entry().degrading("strict")
}

fn map_out_of_range_is_refused() -> Scenario {
    let map = json!([
        {"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 200_000, "size": 65536}
    ]);
    scenario(with(many_ids(), &json!({"linux": {"gidMappings": map}})), alice_with_subids())
}

fn map_out_of_our_own_namespace_is_refused() -> Scenario {
    let map = json!([{"containerID": 0, "hostID": 1, "size": 65537}]);
    scenario(with(many_ids(), &json!({"linux": {"uidMappings": map}})), podman())
}

fn single_id_follows_the_user() -> Scenario {
    scenario(with(one_id(), &json!({"process": {"user": {"uid": 33, "gid": 34}}})), alice())
}

fn user_outside_of_many_ids_is_refused() -> Scenario {
    scenario(with(many_ids(), &json!({"process": {"user": {"uid": 70_000}}})), alice_with_subids())
}

fn map_by_root_inside_a_user_namespace() -> Scenario {
    let map = json!([
        {"containerID": 0, "hostID": 1, "size": 1000}, {"containerID": 1000, "hostID": 0, "size": 1}
    ]);
    scenario(with(many_ids(), &json!({"linux": {"uidMappings": map, "gidMappings": map}})), podman())
}

fn root_without_a_map_is_refused() -> Scenario {
    let change = json!({"linux": {"namespaces": namespaces(&["mount", "user"])}});
    scenario(with(bare(), &change), root())
}

// ---- namespaces ---------------------------------------------------------------------------------------

fn joined_network() -> Scenario {
    let mut list = namespaces(&["mount", "pid", "user"]);
    list.as_array_mut().unwrap().push(json!({"type": "network", "path": "/run/netns/blue"}));
    let sys = json!([{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}]);
    scenario(with(one_id(), &json!({"linux": {"namespaces": list}, "mounts": sys})), alice())
}

fn joined_namespaces_in_order() -> Scenario {
    let joined = |kind: &str| json!({"type": kind, "path": format!("/proc/7/ns/{kind}")});
    let list: Value = ["mount", "ipc", "user", "uts"].map(joined).into_iter().collect();
    let change = json!({"hostname": "blue", "linux": {
        "namespaces": list, "uidMappings": null, "gidMappings": null,
    }});
    scenario(with(one_id(), &change), alice())
}

/// A host with a route, both helpers and a resolver in its network.
fn connected(mut facts: Facts) -> Facts {
    facts.network = Network {
        pasta: Some("/usr/bin/pasta".into()),
        slirp4netns: Some("/usr/bin/slirp4netns".into()),
        tun: None,
        routed: true,
        unprivileged_port_start: 1024,
        resolv_conf: "nameserver 192.0.2.53\n".into(),
        hosts: "127.0.0.1 localhost\n192.0.2.7 nas\n".into(),
        resolved_conf: None,
        hostname: "laptop".into(),
    };
    facts
}

fn alice_connected(change: impl FnOnce(&mut Network)) -> Facts {
    let mut facts = connected(alice());
    change(&mut facts.network);
    facts
}

/// With a network by this word, and these ports.
fn asking_for(word: &str, ports: &[&str], config: Value, facts: Facts) -> Scenario {
    scenario(config, facts).asking(|request| {
        request.network = Some(network::parse(word).unwrap());
        request.publish = ports.iter().map(|port| network::parse_publish(port).unwrap()).collect();
    })
}

fn network_auto() -> Scenario {
    asking_for(
        "auto",
        &["8080:80", "[::1]:53:53/udp"],
        one_id(),
        alice_connected(|n| n.unprivileged_port_start = 0),
    )
}

fn network_auto_without_a_route() -> Scenario {
    asking_for("auto", &[], one_id(), alice_connected(|network| network.routed = false))
}

fn network_by_pasta_without_a_route() -> Scenario {
    asking_for("pasta", &["8080:80"], one_id(), alice_connected(|network| network.routed = false))
}

fn network_auto_without_tun() -> Scenario {
    asking_for("auto", &[], one_id(), alice_connected(|network| network.tun = Some(Errno::EACCES)))
}

fn network_auto_without_a_helper() -> Scenario {
    let nobody = |network: &mut Network| (network.pasta, network.slirp4netns) = (None, None);
    asking_for("auto", &[], one_id(), alice_connected(nobody))
}

fn network_auto_without_a_helper_is_refused_when_strict() -> Scenario {
    network_auto_without_a_helper().degrading("strict")
}

fn network_auto_without_a_helper_is_refused_with_ports() -> Scenario {
    let nobody = |network: &mut Network| (network.pasta, network.slirp4netns) = (None, None);
    asking_for("auto", &["8080:80"], one_id(), alice_connected(nobody))
}

fn network_by_pasta_without_tun_is_refused() -> Scenario {
    asking_for("pasta", &[], one_id(), alice_connected(|network| network.tun = Some(Errno::ENOENT)))
}

fn network_by_pasta_without_tun_may_go() -> Scenario {
    network_by_pasta_without_tun_is_refused().degrading("strict,network")
}

fn network_by_pasta_with_slirp4netns_alone_is_refused() -> Scenario {
    asking_for("pasta", &[], one_id(), alice_connected(|network| network.pasta = None))
}

/// The stub of a resolver on loopback, and a hostname of the container's own.
fn network_by_slirp4netns() -> Scenario {
    let config = with(
        bare(),
        &json!({
            "hostname": "moss",
            "linux": {"namespaces": namespaces(&["mount", "pid", "user", "uts"])},
        }),
    );
    let stub = |network: &mut Network| network.resolv_conf = "nameserver 127.0.0.53\n".into();
    asking_for("slirp4netns", &["8080:80"], config, alice_connected(stub))
}

fn network_by_slirp4netns_on_an_ipv6_address_is_refused() -> Scenario {
    asking_for("slirp4netns", &["[::1]:8080:80"], one_id(), alice_connected(|_| ()))
}

fn network_with_a_port_of_roots_is_refused() -> Scenario {
    asking_for("auto", &["80:80"], one_id(), alice_connected(|_| ()))
}

fn network_of_root_with_a_port_of_roots() -> Scenario {
    asking_for("auto", &["80:80"], bare(), connected(root()))
}

fn with_devices(mut config: Value) -> Value {
    config["linux"]["netDevices"] = json!({ "eth0": {}, "eth1": { "name": "lan%d" } });
    config
}

fn with_rdt(mut config: Value, rdt: Value) -> Value {
    config["linux"]["intelRdt"] = rdt;
    config
}

fn rdt_of_its_own() -> Scenario {
    let rdt = json!({ "l3CacheSchema": "L3:0=7f0;1=1f", "memBwSchema": "MB:0=20;1=70" });
    let facts = Facts { resctrl: Some("/sys/fs/resctrl".into()), ..root() };
    scenario(with_rdt(spec(&SpecKind::Root), rdt), facts)
}

fn rdt_of_a_name_that_counts() -> Scenario {
    let rdt = json!({ "closID": "guaranteed", "schemata": ["L2:0=f"], "enableMonitoring": true });
    let facts = Facts { resctrl: Some("/sys/fs/resctrl".into()), ..root() };
    scenario(with_rdt(spec(&SpecKind::Root), rdt), facts)
}

fn rdt_without_resctrl_is_refused() -> Scenario {
    scenario(with_rdt(spec(&SpecKind::Root), json!({ "closID": "guaranteed" })), root())
}

fn rdt_is_refused_to_a_user() -> Scenario {
    scenario(with_rdt(spec_rootless(), json!({ "closID": "guaranteed" })), alice())
}

fn network_devices_of_root() -> Scenario {
    scenario(with_devices(spec(&SpecKind::Root)), root())
}

fn network_devices_are_refused_to_a_user() -> Scenario {
    let mut config = with_devices(spec_rootless());
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "network" }));
    scenario(config, alice())
}

fn network_none() -> Scenario {
    asking_for("none", &[], one_id(), alice_connected(|_| ()))
}

/// The network namespace of the configuration goes, and its sysfs becomes the host's.
fn network_host() -> Scenario {
    let config = with(
        bare(),
        &json!({
            "mounts": [{"destination": "/sys", "type": "sysfs", "source": "sysfs"}],
            "linux": {"namespaces": namespaces(&["mount", "pid", "user", "network"])},
        }),
    );
    asking_for("host", &[], config, alice_connected(|_| ()))
}

fn network_host_with_a_sysctl_is_refused() -> Scenario {
    let config = with(
        bare(),
        &json!({"linux": {
            "namespaces": namespaces(&["mount", "pid", "user", "network"]),
            "sysctl": {"net.core.somaxconn": "64"},
        }}),
    );
    asking_for("host", &[], config, alice_connected(|_| ()))
}

fn network_joined_by_its_path() -> Scenario {
    asking_for("ns:/run/netns/blue", &[], one_id(), alice_connected(|_| ()))
}

/// What the configuration says of itself, in annotations.
fn network_by_annotations() -> Scenario {
    let annotations = json!({"io.bryo.network": "pasta", "io.bryo.publish": "127.0.0.1:8000-8002:80-82"});
    scenario(with(one_id(), &json!({"annotations": annotations})), alice_connected(|_| ()))
}

fn ports_without_a_network_are_refused() -> Scenario {
    let port = network::parse_publish("8080:80").unwrap();
    scenario(one_id(), alice_connected(|_| ())).asking(|request| request.publish = vec![port])
}

fn host_network() -> Scenario {
    let sys = json!([{"destination": "/sys", "type": "sysfs", "source": "sysfs",
        "options": ["nosuid", "noexec", "nodev", "ro"]}]);
    scenario(with(one_id(), &json!({ "mounts": sys })), alice())
}

fn host_pid() -> Scenario {
    let proc = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
    let change = json!({"linux": {"namespaces": namespaces(&["mount", "user"])}, "mounts": proc});
    scenario(with(one_id(), &change), alice()).asking(|request| {
        // There is no pid 1 to name.
        request.listen_fds = 1;
    })
}

fn host_ipc() -> Scenario {
    let queues = json!([{"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
        "options": ["nosuid", "noexec", "nodev"]}]);
    scenario(with(one_id(), &json!({ "mounts": queues })), alice())
}

fn no_mount_namespace_is_refused() -> Scenario {
    let change = json!({"linux": {"namespaces": namespaces(&["user", "pid"])}});
    scenario(with(one_id(), &change), alice())
}

fn hostname_of_the_host_is_refused() -> Scenario {
    scenario(with(one_id(), &json!({"hostname": "blue"})), alice())
}

fn time_offset() -> Scenario {
    let change = json!({"linux": {
        "namespaces": namespaces(&["mount", "pid", "user", "time"]),
        "timeOffsets": {"boottime": {"secs": 86400, "nanosecs": 5}},
    }});
    scenario(with(one_id(), &change), alice())
}

// ---- mounts -------------------------------------------------------------------------------------------

fn cgroup_mount() -> Value {
    json!([{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "rw"]}])
}

fn cgroup_with_a_namespace() -> Scenario {
    let kinds = namespaces(&["mount", "pid", "user", "cgroup"]);
    let change = json!({"linux": {"namespaces": kinds}, "mounts": cgroup_mount()});
    scenario(with(one_id(), &change), alice())
}

fn cgroup_without_a_namespace() -> Scenario {
    scenario(with(one_id(), &json!({"mounts": cgroup_mount()})), alice())
}

fn devpts() -> Value {
    json!([{"destination": "/dev/pts", "type": "devpts", "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}])
}

fn devpts_gid_unmapped() -> Scenario {
    scenario(with(one_id(), &json!({"mounts": devpts()})), alice())
}

fn devpts_gid_mapped() -> Scenario {
    scenario(with(many_ids(), &json!({"mounts": devpts()})), alice_with_subids())
}

fn file_systems() -> Scenario {
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

fn bind_mounts() -> Scenario {
    let mounts = json!([
        {"destination": "/etc/hosts", "source": "hosts", "type": "bind", "options": ["ro", "nodev"]},
        {"destination": "/home", "source": "/home/alice", "type": "none",
            "options": ["rbind", "rprivate", "rnosuid", "rnorelatime"]},
        {"destination": "/shared", "source": "/srv", "options": ["bind", "rslave", "shared"]},
        {"destination": "/link", "source": "/srv/link", "options": ["bind", "src-nofollow"]},
        {"destination": "/host/sys", "source": "/sys", "options": ["rbind", "ro"]},
        {"destination": "/proc/meminfo", "source": "/var/lib/lxcfs/meminfo", "options": ["bind"]},
        {"destination": "/dev", "source": "/dev", "options": ["rbind", "rslave"]},
        {"destination": "/home", "options": ["remount", "ro", "noexec"]}
    ]);
    scenario(with(one_id(), &json!({ "mounts": mounts })), alice())
}

/// A volume with these options, and these maps of uids and of gids, each of one line.
fn volume(options: &[&str], uids: [u32; 3], gids: [u32; 3]) -> Value {
    let map = |[inside, outside, size]: [u32; 3]| match size {
        0 => json!([]),
        _ => json!([{"containerID": inside, "hostID": outside, "size": size}]),
    };
    json!({
        "destination": "/data", "source": "/srv", "type": "none", "options": options,
        "uidMappings": map(uids), "gidMappings": map(gids),
    })
}

fn with_mounts(config: Value, mounts: &[Value]) -> Value {
    with(config, &json!({ "mounts": mounts }))
}

const NO_MAP: [u32; 3] = [0; 3];

fn idmapped_mounts_of_root() -> Scenario {
    let mounts = [
        volume(&["bind", "ro", "rslave"], [100, 1100, 3], [200, 1900, 50]),
        volume(&["rbind", "ridmap"], [0, 1000, 1], [0, 1000, 1]),
        volume(&["bind", "idmap=uids=0-1-10#10-11-10;gids=0-100-10"], NO_MAP, NO_MAP),
    ];
    scenario(with_mounts(bare(), &mounts), root())
}

fn idmapped_mounts_in_a_user_namespace_of_root() -> Scenario {
    let mounts = [
        volume(&["bind", "idmap"], NO_MAP, NO_MAP),
        volume(&["rbind", "ridmap=uids=@1-3-10;gids=@0-0-20"], NO_MAP, NO_MAP),
        volume(&["bind"], [0, 500, 10], [0, 500, 10]),
    ];
    scenario(with_mounts(many_ids(), &mounts), root())
}

fn idmapped_mount_with_the_maps_of_a_joined_namespace() -> Scenario {
    let namespaces = json!([{"type": "mount"}, {"type": "user", "path": "/proc/42/ns/user"}]);
    let config = with(bare(), &json!({"linux": {"namespaces": namespaces}}));
    scenario(with_mounts(config, &[volume(&["bind", "idmap"], NO_MAP, NO_MAP)]), root())
}

fn idmapped_mount_of_root_inside_a_user_namespace() -> Scenario {
    scenario(with_mounts(bare(), &[volume(&["rbind"], [0, 0, 65537], [0, 1, 10])]), podman())
}

fn idmapped_mounts_of_a_plain_user() -> Scenario {
    let mounts = [
        volume(&["bind"], [0, 100_004, 10], [0, 1000, 1]),
        volume(&["bind", "ridmap=uids=0-1000-1#1-100000-65536;gids=@7-0-2"], NO_MAP, NO_MAP),
    ];
    scenario(with_mounts(many_ids(), &mounts), alice_with_subids())
}

fn idmapped_mount_of_a_plain_user_with_the_containers_maps_is_refused() -> Scenario {
    scenario(with_mounts(one_id(), &[volume(&["bind", "idmap"], NO_MAP, NO_MAP)]), alice())
}

fn idmapped_mount_out_of_the_container_is_refused() -> Scenario {
    scenario(with_mounts(one_id(), &[volume(&["bind", "idmap"], [0, 1000, 2], [0, 1000, 1])]), alice())
}

fn idmapped_mount_out_of_our_own_ids_is_refused() -> Scenario {
    scenario(with_mounts(bare(), &[volume(&["bind"], [0, 0, 65538], [0, 0, 1])]), podman())
}

fn idmapped_mount_in_a_joined_namespace_of_a_plain_user_is_refused() -> Scenario {
    let namespaces = json!([{"type": "mount"}, {"type": "user", "path": "/proc/42/ns/user"}]);
    let config = with(bare(), &json!({"linux": {"namespaces": namespaces}}));
    scenario(with_mounts(config, &[volume(&["bind"], [0, 1000, 1], [0, 1000, 1])]), alice())
}

fn idmapped_mount_without_maps_is_refused() -> Scenario {
    scenario(with_mounts(bare(), &[volume(&["rbind", "ridmap"], NO_MAP, NO_MAP)]), root())
}

fn idmapped_mount_without_gids_is_refused() -> Scenario {
    scenario(with_mounts(bare(), &[volume(&["bind", "idmap"], [0, 0, 1], NO_MAP)]), root())
}

fn idmapped_mount_with_maps_given_twice_is_refused() -> Scenario {
    let words = ["bind", "idmap=uids=0-0-1;gids=0-0-1"];
    scenario(with_mounts(bare(), &[volume(&words, [0, 0, 1], [0, 0, 1])]), root())
}

fn idmapped_tmpfs_is_refused() -> Scenario {
    let mount = with(volume(&["idmap"], [0, 0, 1], [0, 0, 1]), &json!({"type": "tmpfs", "source": "tmpfs"}));
    scenario(with_mounts(bare(), &[mount]), root())
}

fn mount_inside_proc_is_refused() -> Scenario {
    let mounts = json!([{"destination": "/proc/self", "source": "/srv", "options": ["bind"]}]);
    scenario(with(one_id(), &json!({ "mounts": mounts })), alice())
}

/// Root of a container that an engine has started with these capabilities.
fn nested(capabilities: &[u32]) -> Facts {
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
fn range_of_ids() -> Value {
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1000}]);
    with(one_id(), &json!({"linux": {"uidMappings": map, "gidMappings": map}}))
}

fn ids_of_root_in_an_outer_container() -> Scenario {
    scenario(range_of_ids(), nested(&[host::CAP_SETUID, host::CAP_SETGID, host::CAP_SETFCAP]))
}

fn all_ids_of_root_in_an_outer_container() -> Scenario {
    scenario(bare(), nested(&[host::CAP_SETUID, host::CAP_SETGID, host::CAP_SETFCAP]))
}

fn ids_of_root_who_may_not_map_root_is_refused() -> Scenario {
    scenario(range_of_ids(), nested(&[host::CAP_SETUID, host::CAP_SETGID]))
}

fn mounts_with_flags_that_may_be_locked() -> Scenario {
    let volume = |options: &[&str]| json!({"destination": "/srv", "source": "/srv", "options": options});
    let mounts = [volume(&["rbind", "rw", "noatime"]), volume(&["bind", "ro"]), volume(&["remount", "exec"])];
    scenario(with_mounts(one_id(), &mounts), alice())
}

fn masked_proc_is_shared() -> Scenario {
    let proc = json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]});
    let config = with_mounts(one_id(), &[proc]);
    scenario(config, Facts { proc: Tried::Refused, ..alice() }).degrading("strict,proc")
}

fn masked_proc_without_a_user_namespace() -> Scenario {
    scenario(bare(), Facts { proc: Tried::Refused, ..root() }).degrading("proc")
}

fn masked_proc_and_no_server_in_sight() -> Scenario {
    let mut scenario = layered(&json!({"io.bryo.rootfs.ephemeral": "true"}), roots()).degrading("proc");
    scenario.facts.proc = Tried::Refused;
    scenario
}

// ---- the root -----------------------------------------------------------------------------------------

/// A device that hosts have, one that only root can make here, and a named pipe.
fn devices() -> Value {
    json!([
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 8612, "uid": 0, "gid": 44},
        {"path": "/dev/loop7", "type": "b", "major": 7, "minor": 7},
        {"path": "/run/pipe", "type": "p", "fileMode": 384},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438}
    ])
}

fn devices_of_root() -> Scenario {
    scenario(with(bare(), &json!({"linux": {"devices": devices()}})), root())
}

fn devices_that_the_host_has_elsewhere() -> Scenario {
    let moss = json!([
        {"path": "/dev/moss", "type": "c", "major": 1, "minor": 3},
        {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}
    ]);
    let mut facts = alice();
    facts.devices.insert("/dev/moss".into(), "/dev/null".into());
    scenario(with(one_id(), &json!({"linux": {"devices": moss}})), facts)
}

fn devices_of_a_plain_user() -> Scenario {
    let rules = json!({"devices": [{"allow": false, "access": "rwm"}]});
    scenario(with(one_id(), &json!({"linux": {"devices": devices(), "resources": rules}})), alice())
}

fn devices_that_may_go() -> Scenario {
    devices_of_a_plain_user().degrading("devices")
}

fn device_rules() -> Value {
    let mounts = json!([
        {"destination": "/srv", "source": "/srv", "options": ["rbind"]},
        {"destination": "/dev/net", "source": "/dev/net", "options": ["bind", "dev"]}
    ]);
    with(
        bare(),
        &json!({"linux": {"resources": {"devices": [{"allow": false, "access": "rwm"}]}}, "mounts": mounts}),
    )
}

fn device_rules_hold_without_mknod() -> Scenario {
    // What counts is what the container may, not what we may.
    scenario(device_rules(), root_on_v1())
}

fn device_rules_in_a_user_namespace_of_root() -> Scenario {
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

fn device_that_the_rules_deny_is_refused() -> Scenario {
    scenario(with(device_rules(), &json!({"linux": {"devices": devices()}})), root_on_v1())
}

fn device_rules_by_a_filter() -> Scenario {
    scenario(device_rules(), root())
}

fn root_on_v1() -> Facts {
    Facts { cgroups: Cgroups::none(Hierarchy::Legacy), ..root() }
}

fn device_rules_with_mknod_are_refused() -> Scenario {
    let sets = json!({"bounding": ["CAP_MKNOD"], "permitted": ["CAP_MKNOD"], "effective": ["CAP_MKNOD"]});
    scenario(with(device_rules(), &json!({"process": {"capabilities": sets}})), root_on_v1())
}

fn personality() -> Scenario {
    let linux = json!({"personality": {"domain": "LINUX32", "flags": []}});
    scenario(with(one_id(), &json!({ "linux": linux })), alice())
}

fn personality_with_a_flag_is_refused() -> Scenario {
    let linux = json!({"personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}});
    scenario(with(one_id(), &json!({ "linux": linux })), alice())
}

fn memory_policy() -> Scenario {
    let policy = json!({"mode": "MPOL_INTERLEAVE", "nodes": "2-3", "flags": ["MPOL_F_STATIC_NODES"]});
    scenario(with(one_id(), &json!({"linux": {"memoryPolicy": policy}})), alice())
}

fn memory_policy_without_nodes_is_refused() -> Scenario {
    scenario(with(one_id(), &json!({"linux": {"memoryPolicy": {"mode": "MPOL_BIND"}}})), alice())
}

fn root_propagation_shared() -> Scenario {
    scenario(with(bare(), &json!({"linux": {"rootfsPropagation": "shared"}})), root())
}

fn root_propagation_private() -> Scenario {
    scenario(with(one_id(), &json!({"linux": {"rootfsPropagation": "rprivate"}})), alice())
}

fn no_pivot_and_no_keyring() -> Scenario {
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

fn sysctls() -> Scenario {
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

fn sysctl_of_the_machine_is_refused() -> Scenario {
    scenario(with(one_id(), &json!({"linux": {"sysctl": {"kernel.core_pattern": "|/x"}}})), alice())
}

fn sysctl_of_the_host_network_is_refused() -> Scenario {
    scenario(with(one_id(), &json!({"linux": {"sysctl": {"net.ipv4.ip_forward": "1"}}})), alice())
}

fn ping_group_range_is_clamped() -> Scenario {
    let change = json!({"linux": {
        "namespaces": namespaces(&["mount", "pid", "user", "network"]),
        "sysctl": {"net.ipv4.ping_group_range": "0 2147483647"},
    }});
    scenario(with(many_ids(), &change), alice_with_subids())
}

// ---- the process --------------------------------------------------------------------------------------

fn terminal() -> Scenario {
    let process = json!({"terminal": true, "consoleSize": {"height": 50, "width": 132}});
    scenario(with(one_id(), &json!({ "process": process })), alice())
}

fn descriptors() -> Scenario {
    let process =
        json!({"args": ["sh", "-c", "true"], "env": ["PATH=/bin::/opt/bin", "A=1", "A=2"], "umask": 18});
    scenario(with(one_id(), &json!({ "process": process })), alice()).asking(|request| {
        request.preserve_fds = 2;
        request.listen_fds = 1;
        request.listen_names = Some("http".into());
    })
}

fn limits_of_process() -> Value {
    let rlimits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 1_048_576, "hard": 1_048_576},
        {"type": "RLIMIT_MEMLOCK", "soft": 65536, "hard": u64::MAX},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX}
    ]);
    json!({"process": {"rlimits": rlimits}})
}

fn rlimit_is_clamped() -> Scenario {
    scenario(with(one_id(), &limits_of_process()), alice())
}

fn rlimit_raised_by_root() -> Scenario {
    scenario(with(bare(), &limits_of_process()), root())
}

fn rlimit_raised_by_podman_is_clamped() -> Scenario {
    scenario(with(bare(), &limits_of_process()), podman())
}

fn oom_score_is_clamped() -> Scenario {
    let facts = Facts { oom_score_adj: 200, ..alice() };
    scenario(with(one_id(), &json!({"process": {"oomScoreAdj": -500}})), facts)
}

fn binary_of_the_caller() -> Scenario {
    scenario(one_id(), Facts { binary_owner: Some(1000), ..alice() })
}

fn binary_of_the_caller_with_a_filter_that_stops_the_stub() -> Scenario {
    let rule = json!({"names": ["execveat"], "action": "SCMP_ACT_ERRNO"});
    let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let config = with(one_id(), &json!({"linux": {"seccomp": seccomp}}));
    scenario(config, Facts { binary_owner: Some(1000), ..alice() })
}

fn binary_of_a_sealed_copy() -> Scenario {
    scenario(one_id(), Facts { binary_owner: None, ..alice() })
}

fn binary_of_the_caller_under_selinux() -> Scenario {
    let lsm = Lsm { apparmor: false, selinux: true };
    let label = "system_u:system_r:container_t:s0:c1,c2";
    let config = with(one_id(), &json!({"process": {"selinuxLabel": label}}));
    scenario(config, Facts { binary_owner: Some(1000), lsm, ..alice() })
}

fn groups() -> Value {
    json!({"process": {"user": {"additionalGids": [10, 44]}}})
}

fn groups_are_refused() -> Scenario {
    scenario(with(one_id(), &groups()), alice())
}

fn groups_are_dropped() -> Scenario {
    groups_are_refused().degrading("groups")
}

fn groups_of_the_caller() -> Scenario {
    scenario(
        with(many_ids(), &json!({"annotations": {"run.oci.keep_original_groups": "1"}})),
        alice_with_subids(),
    )
}

fn groups_of_the_caller_and_others_are_refused() -> Scenario {
    let change = json!({
        "annotations": {"run.oci.keep_original_groups": "1"},
        "process": {"user": {"additionalGids": [7]}},
    });
    scenario(with(many_ids(), &change), alice_with_subids())
}

fn groups_of_many_ids() -> Scenario {
    scenario(with(many_ids(), &groups()), alice_with_subids())
}

fn ambient_capabilities_are_clipped() -> Scenario {
    let (kill, both) = (json!(["CAP_KILL"]), json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]));
    let sets = json!({
        "bounding": both, "effective": both, "permitted": both, "inheritable": kill, "ambient": both,
    });
    let process = json!({"user": {"uid": 33, "gid": 33}, "capabilities": sets, "noNewPrivileges": true});
    scenario(with(many_ids(), &json!({ "process": process })), alice_with_subids())
}

fn scheduling(policy: &str, priority: i32) -> Value {
    let scheduler =
        json!({"policy": policy, "nice": 5, "priority": priority, "flags": ["SCHED_RESET_ON_FORK"]});
    let io = json!({"class": "IOPRIO_CLASS_BE", "priority": 3});
    with(one_id(), &json!({"process": {"scheduler": scheduler, "ioPriority": io}}))
}

fn scheduling_of_a_plain_user() -> Scenario {
    scenario(scheduling("SCHED_BATCH", 0), alice())
}

fn scheduling_of_root() -> Scenario {
    scenario(scheduling("SCHED_FIFO", 10), root())
}

fn scheduler_that_makes_no_sense_is_refused() -> Scenario {
    scenario(scheduling("SCHED_BATCH", 10), alice())
}

/// Mounts of all sorts, with a label.
fn mount_label(kind: &str) -> Value {
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

fn under_selinux() -> Facts {
    Facts { lsm: Lsm { apparmor: false, selinux: true }, ..alice() }
}

fn mount_label_under_selinux() -> Scenario {
    scenario(mount_label("context"), under_selinux())
}

fn mount_label_of_another_kind() -> Scenario {
    scenario(mount_label("rootcontext"), under_selinux())
}

fn mount_label_of_no_kind_is_refused() -> Scenario {
    scenario(mount_label("mode"), under_selinux())
}

fn mount_label_without_selinux() -> Scenario {
    scenario(mount_label("context"), alice())
}

fn selinux_label_without_selinux() -> Scenario {
    let label = "system_u:system_r:container_t:s0:c1,c2";
    scenario(with(one_id(), &json!({"process": {"selinuxLabel": label}})), alice())
}

fn apparmor_profile_without_apparmor_is_refused() -> Scenario {
    scenario(with(one_id(), &json!({"process": {"apparmorProfile": "docker-default"}})), alice())
}

fn apparmor_profile_without_apparmor_may_go() -> Scenario {
    apparmor_profile_without_apparmor_is_refused().degrading("strict,apparmor")
}

/// Where there is AppArmor, a profile that it does not have never goes.
fn apparmor_profile_goes_nowhere_under_apparmor() -> Scenario {
    apparmor_profile().degrading("apparmor")
}

fn apparmor_profile() -> Scenario {
    let lsm = Lsm { apparmor: true, selinux: false };
    let config = with(bare(), &json!({"process": {"apparmorProfile": "docker-default"}}));
    scenario(config, Facts { lsm, ..root() })
}

// ---- layers -------------------------------------------------------------------------------------------

/// alice, who has fuse-overlayfs and may open its device; her root file systems are her own.
fn roots() -> Roots {
    Roots {
        fuse_overlayfs: Some("/usr/bin/fuse-overlayfs".into()),
        fuse_device: true,
        owner: 1000,
        ..Roots::default()
    }
}

fn layered(annotations: &Value, roots: Roots) -> Scenario {
    let config = with(one_id(), &json!({ "annotations": annotations }));
    scenario(config, Facts { roots: Some(roots), ..alice() })
}

fn asked_for(changes: Changes, roots: Roots) -> Scenario {
    layered(&json!({}), roots).asking(|request| request.changes = Some(changes))
}

fn ephemeral() -> Scenario {
    asked_for(Changes::Vanish, roots())
}

fn ephemeral_by_annotation() -> Scenario {
    layered(&json!({"io.bryo.rootfs.ephemeral": "true"}), roots())
}

fn ephemeral_without_fuse_overlayfs() -> Scenario {
    asked_for(Changes::Vanish, Roots { fuse_overlayfs: None, ..roots() })
}

fn ephemeral_without_the_fuse_device() -> Scenario {
    asked_for(Changes::Vanish, Roots { fuse_device: false, ..roots() })
}

fn ephemeral_of_files_that_are_nobodys() -> Scenario {
    asked_for(Changes::Vanish, Roots { owner: 0, ..roots() })
}

fn ephemeral_of_files_that_are_nobodys_without_fuse_overlayfs() -> Scenario {
    asked_for(Changes::Vanish, Roots { owner: 0, fuse_overlayfs: None, ..roots() })
}

fn ephemeral_read_only() -> Scenario {
    let mut scenario = ephemeral();
    scenario.config["root"]["readonly"] = true.into();
    scenario.config["linux"]["rootfsPropagation"] = "rshared".into();
    scenario
}

fn ephemeral_of_root() -> Scenario {
    let roots =
        Roots { submounts: vec!["/bundle/rootfs/srv".into(), "/bundle/rootfs/srv/x".into()], ..roots() };
    scenario(bare(), Facts { roots: Some(roots), ..root() })
        .asking(|request| request.changes = Some(Changes::Vanish))
}

fn ephemeral_wins_over_the_annotation() -> Scenario {
    layered(&json!({"io.bryo.rootfs.overlay": "overlay"}), roots())
        .asking(|request| request.changes = Some(Changes::Vanish))
}

fn overlay_of_the_bundle() -> Scenario {
    layered(&json!({"io.bryo.rootfs.overlay": "./x/../overlay"}), roots())
}

fn overlay_wins_over_the_annotation() -> Scenario {
    layered(&json!({"io.bryo.rootfs.ephemeral": "true"}), roots())
        .asking(|request| request.changes = Some(Changes::Kept("/home/alice/changes".into())))
}

fn overlay_with_a_copy_of_an_earlier_run() -> Scenario {
    asked_for(Changes::Kept("/changes".into()), Roots { copied: true, ..roots() })
}

fn overlay_and_ephemeral_is_refused() -> Scenario {
    layered(&json!({"io.bryo.rootfs.overlay": "overlay", "io.bryo.rootfs.ephemeral": "true"}), roots())
}

fn layers_annotation(more: &Value) -> Value {
    let mut annotations = json!({"io.bryo.rootfs.layers": "[\"lowest\", \"/store/a,b:c\"]"});
    merge(&mut annotations, more);
    annotations
}

fn layers_beneath_the_root() -> Scenario {
    layered(&layers_annotation(&json!({"io.bryo.rootfs.ephemeral": "true"})), roots())
}

fn layers_beneath_an_empty_root() -> Scenario {
    let annotations = layers_annotation(&json!({"io.bryo.rootfs.overlay": "overlay"}));
    layered(&annotations, Roots { root_is_empty: true, ..roots() })
}

fn layers_read_only() -> Scenario {
    let mut scenario = layered(&layers_annotation(&json!({})), roots());
    scenario.config["root"]["readonly"] = true.into();
    scenario
}

fn layers_without_a_place_for_changes_is_refused() -> Scenario {
    layered(&layers_annotation(&json!({})), roots())
}

fn layers_that_are_no_list_is_refused() -> Scenario {
    layered(&json!({"io.bryo.rootfs.layers": "/store/a"}), roots())
}

fn layers_and_the_host_is_refused() -> Scenario {
    layered(&layers_annotation(&json!({"io.bryo.rootfs.host": "true"})), roots())
}

fn ephemeral_that_is_neither_true_nor_false_is_refused() -> Scenario {
    layered(&json!({"io.bryo.rootfs.ephemeral": "yes"}), roots())
}

/// This machine's own system, with two more file systems.
fn machine() -> Roots {
    let directories = ["dev", "etc", "home", "proc", "run", "sys", "tmp", "usr", "var"];
    let mut top: Vec<_> = directories.map(|name| (name.into(), Kind::Directory)).into();
    top.push(("bin".into(), Kind::Link("usr/bin".into())));
    top.push(("swapfile".into(), Kind::File));
    let submounts = ["/home", "/proc", "/proc/x", "/var/lib/x", "/var/lib/x/y"].map(Into::into).into();
    Roots { owner: 0, top, submounts, ..roots() }
}

fn host_by_fuse_overlayfs() -> Scenario {
    layered(&json!({"io.bryo.rootfs.host": "true", "io.bryo.rootfs.ephemeral": "true"}), machine())
}

fn host_without_fuse_overlayfs() -> Scenario {
    let machine = Roots { fuse_overlayfs: None, ..machine() };
    layered(&json!({"io.bryo.rootfs.host": "true", "io.bryo.rootfs.ephemeral": "true"}), machine)
}

fn host_of_root() -> Scenario {
    let annotations = json!({"io.bryo.rootfs.host": "true", "io.bryo.rootfs.overlay": "/changes"});
    let config = with(bare(), &json!({ "annotations": annotations }));
    scenario(config, Facts { roots: Some(machine()), ..root() })
}

// ---- the rest -----------------------------------------------------------------------------------------

// ---- the cgroup ---------------------------------------------------------------------------------------

/// The least with these resources.
fn limited(resources: &Value) -> Value {
    with(one_id(), &json!({"linux": {"resources": resources}}))
}

fn limits() -> Value {
    // What is given without a number asks for nothing.
    json!({"cpu": {"quota": 20_000, "period": 100_000}, "blockIO": {}, "memory": {"limit": 1 << 30, "swap": 2_u64 << 30},
        "pids": {"limit": 100}})
}

/// The least, for root, at a place in the hierarchy.
fn placed(path: &str) -> Value {
    with(bare(), &json!({"linux": {"cgroupsPath": path}}))
}

fn cgroup_in_our_own_subtree() -> Scenario {
    scenario(one_id(), alice_delegated())
}

fn cgroup_with_limits_in_our_own_subtree() -> Scenario {
    scenario(limited(&limits()), alice_delegated())
}

fn cgroup_of_root() -> Scenario {
    scenario(bare(), root())
}

fn cgroup_of_root_with_limits() -> Scenario {
    let resources = json!({"cpu": {"cpus": "0-1"}, "memory": {"limit": 1 << 30}});
    scenario(with(placed("/machine/web"), &json!({"linux": {"resources": resources}})), root())
}

fn cgroup_of_root_by_systemd() -> Scenario {
    scenario(bare(), root()).asking(|request| request.manager = Some(Manager::Systemd))
}

fn cgroup_in_a_container() -> Scenario {
    // As root of a container with a writable /sys/fs/cgroup: its own processes are in the way at the top.
    let cgroups = Cgroups { own: "/".into(), systemd: false, system_bus: Vec::new(), ..root().cgroups };
    scenario(limited(&limits()), Facts { cgroups, ..root() })
}

fn cgroup_with_limits_by_the_users_systemd() -> Scenario {
    scenario(limited(&limits()), alice())
}

fn cgroup_in_a_unit_by_name() -> Scenario {
    scenario(placed("machine.slice:libpod:4711"), root())
        .asking(|request| request.manager = Some(Manager::Systemd))
}

fn engines(resources: &Value, annotations: &Value) -> Scenario {
    let config = with(limited(resources), &json!({"linux": {"cgroupsPath": "user.slice:libpod:4711"}}));
    scenario(with(config, &json!({ "annotations": annotations })), alice())
        .asking(|request| request.manager = Some(Manager::Systemd))
}

fn cgroup_of_an_engines_with_limited_memory() -> Scenario {
    engines(&json!({"memory": {"limit": 64 << 20}}), &json!({}))
}

fn cgroup_of_an_engines_with_limited_memory_in_the_unit_itself() -> Scenario {
    engines(&json!({"memory": {"limit": 64 << 20}}), &json!({"run.oci.systemd.subgroup": ""}))
}

fn cgroup_of_an_engines_with_unlimited_memory() -> Scenario {
    engines(&json!({"memory": {"limit": -1}, "pids": {"limit": 42}}), &json!({}))
}

fn cgroup_in_a_unit_that_makes_no_sense_is_refused() -> Scenario {
    scenario(placed("machine:libpod"), root()).asking(|request| request.manager = Some(Manager::Systemd))
}

fn cgroup_below_a_unit_by_its_path() -> Scenario {
    // Podman, with --cgroups=split.
    let scope = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope";
    let path = format!("{scope}/libpod-payload-4711");
    let config = with(one_id(), &json!({"linux": {"cgroupsPath": path}}));
    scenario(config, alice_delegated()).asking(|request| request.manager = Some(Manager::Systemd))
}

fn cgroup_outside_of_what_is_ours() -> Scenario {
    // The kernel refuses it, and knows better than we do.
    scenario(with(one_id(), &json!({"linux": {"cgroupsPath": "/default/../web"}})), alice_delegated())
}

fn cgroup_with_properties_of_the_unit() -> Scenario {
    let annotations = json!({
        "org.systemd.property.TimeoutStopSec": "2.5",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.MemoryMax": "uint64 4096",
    });
    scenario(with(limited(&limits()), &json!({ "annotations": annotations })), alice())
}

fn cgroup_with_a_property_that_makes_no_sense_is_refused() -> Scenario {
    let annotations = json!({"org.systemd.property.TimeoutStopUSec": "uint64 many"});
    scenario(with(one_id(), &json!({ "annotations": annotations })), alice())
}

fn cgroup_below_the_unit() -> Scenario {
    let annotations = json!({"run.oci.systemd.subgroup": "container", "run.oci.delegate-cgroup": "inner"});
    scenario(with(one_id(), &json!({ "annotations": annotations })), alice())
}

fn cgroup_of_systemds_out_of_sight() -> Scenario {
    scenario(one_id(), alice_in(|cgroups| cgroups.namespaced = true))
}

fn alice_without_a_bus() -> Facts {
    alice_in(|cgroups| cgroups.user_bus = Vec::new())
}

fn cgroup_without_a_bus() -> Scenario {
    scenario(one_id(), alice_without_a_bus())
}

fn cgroup_without_a_bus_in_our_own_subtree() -> Scenario {
    let facts = Facts { cgroups: Cgroups { user_bus: Vec::new(), ..alice_delegated().cgroups }, ..alice() };
    scenario(one_id(), facts).asking(|request| request.manager = Some(Manager::Systemd))
}

fn cgroup_without_a_bus_by_name_is_refused() -> Scenario {
    let config = with(one_id(), &json!({"linux": {"cgroupsPath": "user.slice:bryo:web"}}));
    scenario(config, alice_without_a_bus())
}

fn cgroup_without_a_bus_and_limits_is_refused() -> Scenario {
    scenario(limited(&limits()), alice_without_a_bus())
}

fn alice_on_v1() -> Facts {
    Facts { cgroups: Cgroups::none(Hierarchy::Legacy), ..alice() }
}

fn cgroup_v1() -> Scenario {
    scenario(one_id(), alice_on_v1())
}

fn cgroup_v1_and_limits_is_refused() -> Scenario {
    scenario(limited(&limits()), alice_on_v1())
}

fn cgroup_v1_and_limits_are_dropped() -> Scenario {
    cgroup_v1_and_limits_is_refused().degrading("limits")
}

fn cgroup_v1_and_a_path_is_refused() -> Scenario {
    scenario(with(one_id(), &json!({"linux": {"cgroupsPath": "/web"}})), alice_on_v1())
}

fn cgroup_v1_and_a_weight_that_is_the_kernels_own() -> Scenario {
    // As ctr asks for with every container.
    scenario(limited(&json!({"cpu": {"shares": 1024}})), alice_on_v1())
}

fn cgroup_disabled() -> Scenario {
    scenario(one_id(), alice()).asking(|request| request.manager = Some(Manager::Disabled))
}

fn cgroup_disabled_and_limits_is_refused() -> Scenario {
    scenario(limited(&limits()), alice()).asking(|request| request.manager = Some(Manager::Disabled))
}

fn cgroup_without_cpuset() -> Scenario {
    scenario(limited(&json!({"cpu": {"cpus": "0-1,3"}})), alice())
}

fn cgroup_without_cpuset_is_refused_when_strict() -> Scenario {
    cgroup_without_cpuset().degrading("strict")
}

fn cgroup_without_cpuset_where_limits_may_go() -> Scenario {
    cgroup_without_cpuset().degrading("strict,limits")
}

fn cgroup_without_io_is_refused() -> Scenario {
    scenario(limited(&json!({"blockIO": {"weight": 500}})), alice())
}

fn cgroup_without_io_and_limits_are_dropped() -> Scenario {
    cgroup_without_io_is_refused().degrading("limits")
}

fn cgroup_delegated_to_the_user_of_the_container() -> Scenario {
    let change = json!({
        "process": {"user": {"uid": 33, "gid": 33}},
        "linux": {"namespaces": namespaces(&["mount", "pid", "user", "cgroup"])},
        "mounts": cgroup_mount(),
    });
    scenario(with(many_ids(), &change), alice_with_subids())
}

fn cgroup_delegated_by_root() -> Scenario {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let change = json!({"linux": {
        "namespaces": namespaces(&["mount", "pid", "user", "cgroup"]), "uidMappings": map, "gidMappings": map,
    }, "mounts": cgroup_mount()});
    scenario(with(bare(), &change), root())
}

// ---- the rest -----------------------------------------------------------------------------------------

fn seccomp_agent() -> Scenario {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent.sock",
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}],
    });
    scenario(with(one_id(), &json!({"linux": {"seccomp": profile}})), alice())
}

fn hooks_in_order() -> Scenario {
    let hook = |name: &str| json!([{"path": format!("/hooks/{name}")}]);
    let hooks = json!({
        "prestart": hook("prestart"),
        "createRuntime": [
            {"path": "/hooks/first", "args": ["first", "--net"], "env": ["A=1", "B="], "timeout": 5},
            {"path": "/hooks/second"}
        ],
        "createContainer": [{"path": "/hooks/third"}, {"path": "/hooks/fourth"}],
        "startContainer": hook("start"),
        "poststart": hook("poststart"),
        "poststop": hook("poststop"),
    });
    let process = json!({"terminal": true});
    scenario(with(one_id(), &json!({ "hooks": hooks, "process": process })), alice())
}
