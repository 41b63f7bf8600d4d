//! Golden plans: a config.json, a host made by hand and the caller's flags, and the plan of the three as
//! text in `golden/NAME.txt`. What a change to the planner changes shows there as a diff, for every host
//! that it changes it on.
//!
//! `BRYO_GOLDEN=write cargo test golden` writes the files anew; read what `git diff` says before it is
//! committed.

mod caller;
mod cgroup;
mod configurations;
mod hosts;
mod ids;
mod layers;
mod mounts;
mod namespaces;
mod process;
mod rest;
mod root;

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

use caller::*;
use cgroup::*;
use configurations::*;
use hosts::*;
use ids::*;
use layers::*;
use mounts::*;
use namespaces::*;
use process::*;
use rest::*;
use root::*;

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
    mounts_of_the_host
    mounts_of_the_host_and_what_would_not_hold_there
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
