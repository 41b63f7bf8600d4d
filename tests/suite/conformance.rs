//! The runtime specification, sentence by sentence: whatever config.md, config-linux.md and runtime.md say that a
//! runtime MUST or MUST NOT do on Linux, and the tests that show it.
//!
//! Most of it is shown by tests of a topic, which stand beside others of that topic; what is left has its test
//! here. [`REQUIREMENTS`] leads from each requirement to its tests, and is held to the truth by tests of its own:
//! every test that it names is there, and every test of these modules is named in it. What binds the author of a
//! configuration is listed where the runtime has to refuse what breaks it ("Valid values").
//!
//! Where bryo does otherwise on purpose, the row says so in [`Requirement::but`].

mod config;
mod linux;
mod runtime;

use std::collections::BTreeSet;

/// What a runtime has to do.
struct Requirement {
    /// A file of the specification, and the anchor of a section in it.
    section: &'static str,
    /// In words of our own.
    says: &'static str,
    /// The names of tests, as this binary lists them.
    shown_by: &'static [&'static str],
    /// What of it is not done, and why.
    but: Option<&'static str>,
}

const fn must(section: &'static str, says: &'static str, shown_by: &'static [&'static str]) -> Requirement {
    Requirement { section, says, shown_by, but: None }
}

const fn must_but(
    section: &'static str,
    says: &'static str,
    shown_by: &'static [&'static str],
    but: &'static str,
) -> Requirement {
    Requirement { section, says, shown_by, but: Some(but) }
}

const REQUIREMENTS: &[Requirement] = &[
    // ------------------------------------------------------------------------------------------- config.md
    must(
        "config.md#specification-version",
        "take what was written for another release of the same major version",
        &["input::an_oci_version_of_the_future_is_taken_within_1"],
    ),
    must(
        "config.md#specification-version",
        "refuse a version that is not semantic, or of another major one",
        &[
            "input::an_oci_version_beyond_1_is_refused",
            "conformance::config::a_version_that_is_not_semantic_is_refused",
        ],
    ),
    must(
        "config.md#root",
        "have a directory at root.path",
        &[
            "input::a_root_file_system_that_is_not_there_is_refused",
            "input::a_root_file_system_that_is_a_file_is_refused",
            "rootfs::a_config_without_a_root_or_mounts_is_told_what_is_missing",
            "run::a_relative_rootfs_is_relative_to_the_bundle",
        ],
    ),
    must(
        "config.md#root",
        "make the root read-only where that is asked for",
        &["rootfs::a_read_only_root_cannot_be_written", "rootfs::a_writable_root_is_written"],
    ),
    must("config.md#mounts", "mount in the listed order", &["mounts::mounts_are_made_in_their_order"]),
    must(
        "config.md#mounts",
        "take a relative destination from /",
        &["conformance::config::a_relative_destination_is_relative_to_the_root"],
    ),
    must(
        "config.md#mounts",
        "take a relative source of a bind mount from the bundle",
        &["mounts::a_relative_source_is_relative_to_the_bundle"],
    ),
    must(
        "config.md#linux-mount-options",
        "know every option of the table",
        &[
            "mounts::every_option_word_of_the_runtime_spec_is_known",
            "mounts::options_of_a_mount_are_set",
            "mounts::options_do_what_they_say",
            "mounts::a_directory_is_bound",
            "mounts::a_bind_takes_its_own_options",
        ],
    ),
    must(
        "config.md#linux-mount-options",
        "set the propagation of a mount, and of those below it",
        &["mounts::propagation_of_a_mount_is_set", "mounts::recursive_propagation_reaches_the_mounts_below"],
    ),
    must(
        "config.md#linux-mount-options",
        "map the ids of a mount as its own mappings say, and refuse where there are none to take",
        &[
            "rootful::idmapped::files_show_the_ids_that_a_map_gives_them",
            "rootful::idmapped::what_is_mounted_beneath_takes_part_only_where_that_is_asked_for",
            "rootful::idmapped::maps_that_make_no_sense_are_refused",
            "idmapped::a_file_system_of_the_machine_is_refused_on_one_line",
        ],
    ),
    must(
        "config.md#posix-platform-mounts",
        "refuse uidMappings without gidMappings, and the other way around",
        &["rootful::idmapped::maps_that_make_no_sense_are_refused"],
    ),
    must(
        "config.md#process",
        "ignore consoleSize without a terminal",
        &["conformance::config::a_console_size_without_a_terminal_is_ignored"],
    ),
    must(
        "config.md#process",
        "refuse a working directory that is not absolute",
        &["process::a_directory_that_is_not_absolute_is_refused"],
    ),
    must(
        "config.md#process",
        "have at least one argument, and look it up as execvp does",
        &[
            "process::a_process_without_arguments_is_refused",
            "process::the_command_is_looked_up_in_the_path_of_the_container",
            "process::a_command_with_a_slash_is_relative_to_the_directory",
        ],
    ),
    must(
        "config.md#posix-process",
        "refuse a limit that the kernel does not have",
        &["process::an_unknown_limit_is_refused"],
    ),
    must(
        "config.md#posix-process",
        "set each limit so that getrlimit tells its soft and its hard value",
        &[
            "conformance::config::every_limit_of_the_kernel_is_set_as_it_was_asked_for",
            "process::limits_are_set",
        ],
    ),
    must(
        "config.md#posix-process",
        "refuse a limit that is given twice",
        &["process::a_limit_that_is_given_twice_or_upside_down_is_refused"],
    ),
    must(
        "config.md#linux-process",
        "warn of a capability that is unknown or cannot be granted",
        &[
            "process::an_unknown_capability_is_a_warning",
            "conformance::config::a_capability_that_cannot_be_granted_is_a_warning",
        ],
    ),
    must("config.md#linux-process", "set oom_score_adj as asked", &["process::the_oom_score_is_set"]),
    must(
        "config.md#linux-process",
        "leave oom_score_adj alone where nothing is asked",
        &["conformance::config::without_an_oom_score_the_callers_stays"],
    ),
    must(
        "config.md#linux-process",
        "take 0 for what a scheduler does not say",
        &["attributes::the_scheduler_is_set_for_init_and_what_joins"],
    ),
    must(
        "config.md#posix-platform-hooks",
        "refuse a hook whose path is not absolute, or whose timeout is not above 0",
        &["hooks::a_hook_with_a_relative_path_or_a_senseless_timeout_is_refused"],
    ),
    must(
        "config.md#posix-platform-hooks",
        "call hooks in the listed order",
        &["hooks::hooks_of_one_kind_run_in_their_order"],
    ),
    must(
        "config.md#posix-platform-hooks",
        "pass the state to every hook on stdin",
        &[
            "conformance::config::every_hook_is_told_the_state_and_the_pid_as_it_sees_it",
            "hooks::the_state_of_a_hook_carries_the_annotations",
        ],
    ),
    must(
        "config.md#prestart",
        "call prestart hooks in create, before those of createRuntime and before the root is changed",
        &["conformance::config::hooks_of_create_run_in_the_order_of_their_kinds"],
    ),
    must(
        "config.md#prestart",
        "find prestart, createRuntime, poststart and poststop hooks in the runtime's namespaces, and run them there",
        &["conformance::config::hooks_of_the_runtime_are_found_and_run_in_its_namespaces"],
    ),
    must(
        "config.md#createruntime-hooks",
        "call createRuntime hooks in create, before the root is changed",
        &[
            "conformance::config::hooks_of_create_run_in_the_order_of_their_kinds",
            "hooks::hooks_run_each_at_its_time_and_are_told_the_state",
        ],
    ),
    must(
        "config.md#createcontainer-hooks",
        "call createContainer hooks in create after those of createRuntime, before the root is changed, in the \
         container's namespaces",
        &[
            "conformance::config::hooks_of_create_run_in_the_order_of_their_kinds",
            "hooks::create_runtime_hooks_run_outside_and_create_container_hooks_in_the_namespaces",
            "hooks::a_create_container_hook_may_prepare_the_root_file_system",
        ],
    ),
    must(
        "config.md#startcontainer-hooks",
        "call startContainer hooks in start before the program, found and run in the container",
        &[
            "hooks::start_container_hooks_run_in_the_root_of_the_container_before_the_process",
            "conformance::config::hooks_of_the_container_are_found_in_its_root",
        ],
    ),
    must(
        "config.md#poststart",
        "call poststart hooks after the program was executed and before start returns",
        &["hooks::hooks_run_each_at_its_time_and_are_told_the_state"],
    ),
    must(
        "config.md#poststop",
        "call poststop hooks after the container was deleted and before delete returns",
        &["conformance::config::poststop_hooks_run_once_the_container_is_deleted"],
    ),
    must(
        "config.md#annotations",
        "take annotations of any name with strings for values, empty ones too, and nothing else",
        &["conformance::config::annotations_are_strings_of_any_name_and_may_be_empty"],
    ),
    must_but(
        "config.md#extensibility",
        "ignore unknown properties",
        &[
            "conformance::config::unknown_properties_are_ignored_wherever_they_are",
            "input::unknown_fields_are_passed_over",
            "input::the_case_of_a_key_says_nothing",
        ],
        "one that differs in its case alone is the property, as for runc: a filter or a limit is not lost for it",
    ),
    must(
        "config.md#valid-values",
        "refuse values that are invalid or not supported",
        &[
            "conformance::config::values_that_no_kernel_has_are_refused",
            "conformance::config::values_that_no_kernel_has_are_refused_also_where_the_specification_is_young",
            "input::a_value_of_a_wrong_type_is_refused",
        ],
    ),
    must(
        "config.md#valid-values",
        "refuse what lacks a property that is required",
        &[
            "conformance::config::what_lacks_a_required_property_is_refused",
            "conformance::config::what_lacks_a_required_property_is_refused_also_where_the_specification_is_young",
        ],
    ),
    // ------------------------------------------------------------------------------------- config-linux.md
    must(
        "config-linux.md#namespaces",
        "place the process in the namespace at a path",
        &[
            "namespaces::a_namespace_with_a_path_is_joined",
            "namespaces::several_namespaces_can_be_joined_at_once",
            "namespaces::a_cgroup_namespace_is_joined",
            "namespaces::a_time_namespace_is_joined",
            "namespaces::the_processes_of_a_joined_pid_namespace_are_seen",
        ],
    ),
    must(
        "config-linux.md#namespaces",
        "refuse a path that leads to no namespace of the type, and one that is not absolute",
        &[
            "namespaces::a_namespace_path_that_is_missing_or_of_another_kind_is_refused",
            "conformance::linux::a_path_that_leads_to_a_namespace_of_another_type_is_refused_for_every_type",
            "conformance::linux::a_relative_path_of_a_namespace_is_refused",
        ],
    ),
    must(
        "config-linux.md#namespaces",
        "make a new namespace where there is no path",
        &["namespaces::a_listed_namespace_is_new"],
    ),
    must(
        "config-linux.md#namespaces",
        "share the namespaces of the runtime that are not listed",
        &[
            "namespaces::a_namespace_that_is_not_listed_is_the_callers",
            "rootful::host_root::it_has_the_callers_mount_namespace_and_a_root_of_its_own",
            "conformance::linux::a_container_of_a_user_does_not_get_the_mounts_of_the_host",
        ],
    ),
    must(
        "config-linux.md#namespaces",
        "refuse a type that is listed twice",
        &["namespaces::a_namespace_that_is_listed_twice_is_refused"],
    ),
    must(
        "config-linux.md#devices",
        "make the listed devices available",
        &[
            "rootfs::a_device_of_the_host_is_handed_on",
            "rootful::a_device_is_made_with_its_number_mode_and_owner",
            "conformance::linux::a_device_may_be_anywhere_in_the_root_file_system",
            "conformance::linux::a_pipe_is_made_and_needs_no_numbers",
        ],
    ),
    must(
        "config-linux.md#devices",
        "refuse a device whose path another file has",
        &["conformance::linux::a_device_whose_place_is_taken_by_another_file_is_refused"],
    ),
    must(
        "config-linux.md#default-devices",
        "supply null, zero, full, random, urandom, tty and ptmx",
        &[
            "rootfs::the_default_devices_are_there_and_work",
            "rootfs::the_symlinks_of_dev_are_there",
            "rootful::the_default_devices_are_nodes_and_not_binds_of_the_hosts",
        ],
    ),
    must(
        "config-linux.md#default-devices",
        "bind the terminal to /dev/console where there is one",
        &["console::dev_console_is_the_terminal", "console::without_a_terminal_there_is_no_console"],
    ),
    must(
        "config-linux.md#network-devices",
        "move the listed network devices into the container, up, with their attributes and permanent addresses",
        &["net_devices::a_device_moves_with_its_addresses_its_mtu_and_its_hardware_address"],
    ),
    must(
        "config-linux.md#network-devices",
        "check whether a device can be moved, and refuse a name that is taken, unless it is a template",
        &[
            "net_devices::a_device_that_is_not_there_and_a_name_that_is_taken_are_refused",
            "net_devices::a_device_has_another_name_inside_or_one_of_the_kernels_choice",
            "net_devices::devices_that_cannot_move_are_refused_before_anything_is_made",
        ],
    ),
    must(
        "config-linux.md#namespace-lifecycle-and-container-termination",
        "not move a device out of the namespace before that ends",
        &["net_devices::a_device_moves_with_its_addresses_its_mtu_and_its_hardware_address"],
    ),
    must(
        "config-linux.md#cgroups-path",
        "take an absolute path from where the cgroups are mounted, and the same one to the same place",
        &[
            "cgroup::conformance::an_absolute_path_is_the_same_place_every_time",
            "cgroup::session::systemd::the_scope_lies_in_the_slice_and_has_the_name_of_cgroups_path",
        ],
    ),
    must(
        "config-linux.md#cgroups-path",
        "refuse a path that it takes for invalid",
        &["cgroup::conformance::a_path_that_names_no_unit_is_refused_by_systemds_manager"],
    ),
    must(
        "config-linux.md#cgroup-ownership",
        "give away those of the delegated files that there are, without failing over the others",
        &[
            "cgroup::namespace::the_delegated_files_belong_to_the_process_and_the_others_do_not::systemd",
            "cgroup::namespace::the_delegated_files_belong_to_the_process_and_the_others_do_not::cgroupfs",
        ],
    ),
    must(
        "config-linux.md#allowed-device-list",
        "apply the rules for devices in their order",
        &[
            "cgroup::conformance::rules_for_devices_hold_in_their_order::systemd",
            "cgroup::conformance::rules_for_devices_hold_in_their_order::cgroupfs",
        ],
    ),
    must(
        "config-linux.md#memory",
        "refuse a limit below what is used where the check is asked for",
        &[
            "cgroup::limits::memory_in_use_is_not_taken_away_where_that_is_asked_for::systemd",
            "cgroup::limits::memory_in_use_is_not_taken_away_where_that_is_asked_for::cgroupfs",
        ],
    ),
    must(
        "config-linux.md#unified",
        "enable the controllers, write what it does not know too, and refuse a controller that is not there",
        &[
            "cgroup::table::limits_are_those_of_runc::systemd",
            "cgroup::table::limits_are_those_of_runc::cgroupfs",
        ],
    ),
    must(
        "config-linux.md#unified",
        "refuse limits of cgroup v1 that cannot be converted",
        &[
            "cgroup::conformance::limits_of_the_old_cgroups_alone_are_refused::systemd",
            "cgroup::conformance::limits_of_the_old_cgroups_alone_are_refused::cgroupfs",
        ],
    ),
    must_but(
        "config-linux.md#intelrdt",
        "refuse intelRdt where no resctrl is mounted, and leave resctrl alone where none is asked for",
        &["conformance::linux::resource_director_technology_without_resctrl_is_refused"],
        "what a mounted resctrl gets takes a processor that has it: golden plans and tests beside the code show it",
    ),
    must(
        "config-linux.md#seccomp",
        "refuse an errno for an action that returns none",
        &["conformance::linux::an_errno_for_an_action_that_returns_none_is_refused"],
    ),
    must(
        "config-linux.md#seccomp",
        "send an agent one state per connection, and close that",
        &[
            "conformance::linux::an_agent_gets_one_state_with_its_descriptor_on_a_connection_of_its_own",
            "conformance::linux::the_connection_to_an_agent_is_closed_also_where_the_runtime_stays",
        ],
    ),
    must(
        "config-linux.md#seccomp",
        "refuse what an agent cannot be told of",
        &[
            "conformance::linux::an_agent_that_cannot_be_reached_fails_the_container",
            "seccomp::a_notify_rule_needs_a_listener",
        ],
    ),
    must(
        "config-linux.md#seccomp",
        "refuse listenerMetadata without listenerPath, and a rule without names",
        &["conformance::linux::a_rule_without_names_and_metadata_without_a_reader_are_refused"],
    ),
    must(
        "config-linux.md#containerprocessstate",
        "send the state of the process in JSON, and its descriptors with the first message alone",
        &["conformance::linux::an_agent_gets_one_state_with_its_descriptor_on_a_connection_of_its_own"],
    ),
    must(
        "config-linux.md#masked-paths",
        "refuse a path that is not absolute, to mask or to protect",
        &["conformance::config::values_that_no_kernel_has_are_refused_also_where_the_specification_is_young"],
    ),
    // ------------------------------------------------------------------------------------------ runtime.md
    must(
        "runtime.md#scope-of-a-container",
        "let whoever created a container use every operation on it",
        &[
            "lifecycle::a_container_goes_from_created_to_running_to_stopped",
            "rootful::a_container_goes_through_its_whole_life",
        ],
    ),
    must(
        "runtime.md#state",
        "have an id for one container only",
        &["lifecycle::create_with_a_taken_id_fails_and_leaves_the_first_alone"],
    ),
    must(
        "runtime.md#state",
        "give the state in the form of its schema, with all that is required",
        &[
            "conformance::runtime::the_state_has_the_form_of_its_schema_at_every_status",
            "lifecycle::state_has_the_fields_of_the_runtime_spec",
        ],
    ),
    must(
        "runtime.md#lifecycle",
        "make the environment in create as configured, or fail, and not run the program yet",
        &["conformance::runtime::create_makes_the_environment_and_start_runs_the_program"],
    ),
    must(
        "runtime.md#lifecycle",
        "heed no change of config.json after create",
        &["conformance::runtime::a_change_of_the_configuration_after_create_changes_nothing"],
    ),
    must(
        "runtime.md#lifecycle",
        "run the hooks of each kind at their step",
        &["hooks::hooks_run_each_at_its_time_and_are_told_the_state"],
    ),
    must(
        "runtime.md#lifecycle",
        "fail, stop and destroy the container where a hook before the program fails",
        &[
            "hooks::a_failing_hook_before_the_start_fails_the_create_and_leaves_nothing",
            "hooks::a_failing_start_container_hook_fails_the_start",
            "conformance::runtime::a_container_whose_hook_fails_is_destroyed_and_its_poststop_hooks_run",
        ],
    ),
    must(
        "runtime.md#lifecycle",
        "fail and stop the container where a poststart hook fails",
        &["hooks::a_failing_poststart_hook_fails_the_start_and_stops_the_container"],
    ),
    must(
        "runtime.md#lifecycle",
        "undo in the end what create did, and run the poststop hooks, whose failure is a warning",
        &[
            "hooks::a_failing_poststop_hook_is_a_warning",
            "hooks::poststop_hooks_run_for_a_container_that_was_never_started",
        ],
    ),
    must(
        "runtime.md#errors",
        "leave everything as it was where an operation fails",
        &[
            "faults::a_create_whose_system_calls_fail_says_so_and_leaves_nothing",
            "faults::a_run_whose_init_is_refused_a_call_says_so_and_leaves_nothing",
            "rootfs::the_callers_mounts_stay_as_they_were",
        ],
    ),
    must(
        "runtime.md#warnings",
        "go on after a warning as if there had been none",
        &["process::an_unknown_capability_is_a_warning", "hooks::a_failing_poststop_hook_is_a_warning"],
    ),
    must(
        "runtime.md#operations",
        "refuse each operation without the id of a container",
        &["conformance::runtime::an_operation_without_a_container_is_an_error"],
    ),
    must(
        "runtime.md#query-state",
        "refuse the state of what does not exist",
        &["lifecycle::state_of_an_unknown_id_says_that_it_does_not_exist"],
    ),
    must(
        "runtime.md#create",
        "refuse an id that is taken or invalid, and make no container then",
        &[
            "lifecycle::create_with_a_taken_id_fails_and_leaves_the_first_alone",
            "input::an_id_with_a_strange_character_is_refused",
        ],
    ),
    must(
        "runtime.md#create",
        "refuse what is no bundle",
        &["input::a_bundle_that_is_not_there_is_refused", "input::a_bundle_without_a_config_is_refused"],
    ),
    must(
        "runtime.md#create",
        "apply all properties but the process, and leave process.args to start",
        &["conformance::runtime::create_makes_the_environment_and_start_runs_the_program"],
    ),
    must(
        "runtime.md#create",
        "refuse a property that cannot be applied, and make no container then",
        &[
            "conformance::config::values_that_no_kernel_has_are_refused",
            "degrade::limits_are_refused_unless_the_user_lets_them_go",
            "namespaces::kernel_parameters_of_the_host_are_refused",
        ],
    ),
    must(
        "runtime.md#start",
        "refuse to start what is not created, and leave it as it is",
        &[
            "lifecycle::start_of_a_running_container_fails_and_leaves_it_running",
            "lifecycle::start_of_a_stopped_container_fails",
            "lifecycle::state_of_an_unknown_id_says_that_it_does_not_exist",
        ],
    ),
    must(
        "runtime.md#start",
        "run the program as process says",
        &["conformance::runtime::create_makes_the_environment_and_start_runs_the_program"],
    ),
    must_but(
        "runtime.md#start",
        "refuse to start a container without a process",
        &["conformance::runtime::a_container_without_a_process_is_never_running"],
        "such a container is refused by create, as by runc: no command could make one of it",
    ),
    must(
        "runtime.md#kill",
        "send the very signal",
        &[
            "conformance::runtime::kill_sends_the_very_signal_that_it_was_asked_for",
            "lifecycle::kill_of_a_created_container_works",
        ],
    ),
    must(
        "runtime.md#kill",
        "refuse to signal what is neither created nor running, and leave it as it is",
        &[
            "conformance::runtime::a_signal_to_a_stopped_container_changes_nothing",
            "lifecycle::kill_of_a_stopped_container_says_that_it_is_not_running",
        ],
    ),
    must_but(
        "runtime.md#delete",
        "refuse to delete what is not stopped, and leave it as it is",
        &[
            "lifecycle::delete_of_a_running_container_fails_and_leaves_it_running",
            "lifecycle::delete_of_a_created_container_kills_it_first",
        ],
        "what is created and was never started is ended and deleted, as by runc, on which engines rely",
    ),
    must(
        "runtime.md#delete",
        "delete what create made",
        &["lifecycle::delete_force_kills_a_running_container", "run::run_leaves_no_state"],
    ),
    must(
        "runtime.md#delete",
        "delete nothing that create did not make",
        &[
            "conformance::runtime::delete_leaves_what_the_container_did_not_make",
            "cgroup::leftovers::deleting_the_first_container_below_a_cgroup_leaves_the_second_alone",
        ],
    ),
    must(
        "runtime.md#delete",
        "have the id free for another container then",
        &["conformance::runtime::an_id_is_free_again_once_its_container_is_deleted"],
    ),
];

/// The tests of this binary.
fn tests() -> BTreeSet<String> {
    let listed = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--list", "--format", "terse"])
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let text = String::from_utf8(listed.stdout).unwrap();
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[test]
fn every_requirement_has_a_section_and_tests_that_are_there() {
    let tests = tests();
    let files = ["config.md#", "config-linux.md#", "runtime.md#"];
    let mut seen = BTreeSet::new();
    for Requirement { section, says, shown_by, but } in REQUIREMENTS {
        assert!(files.iter().any(|file| section.starts_with(file)), "{section}");
        assert!(seen.insert((section, says)), "{section}: {says}: there twice");
        assert!(!shown_by.is_empty() && *but != Some(""), "{section}: {says}");
        for test in *shown_by {
            assert!(tests.contains(*test), "{section}: {says}: no test {test}");
        }
    }
}

#[test]
fn every_test_of_conformance_shows_a_requirement() {
    let shown: BTreeSet<_> = REQUIREMENTS.iter().flat_map(|r| r.shown_by).copied().collect();
    for test in tests() {
        let (module, _) = test.rsplit_once("::").unwrap();
        let here = module.starts_with("conformance::") || module.starts_with("cgroup::conformance");
        assert!(!here || shown.contains(test.as_str()), "{test} is in no row");
    }
}
