//! Which systemd is asked, how it is reached, what it is told, and who does without.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::cgroup::{Cgroup, Ground, Manager};
use crate::hosts::{as_it_is, may_go, weakens};
use crate::lab::{Bundle, Call, Lab, NONE, bryo_only, note_skip, plain_user_only, warns};

/// Make a test of each function of a [`Ground`] of systemd's.
macro_rules! with_systemd {
    ($($name:ident),+ $(,)?) => {
        mod systemd {
            use crate::cgroup::Manager;
            $(
                #[test]
                #[ignore = "needs cgroup v2 and systemd: scripts/test runs it in the guest"]
                fn $name() {
                    Manager::Systemd.ground(concat!(module_path!(), "::", stringify!($name)), super::$name);
                }
            )+
        }
    };
}

with_systemd!(
    the_scope_lies_in_the_slice_and_has_the_name_of_cgroups_path,
    without_a_cgroups_path_the_scope_is_named_for_the_container,
    annotations_become_properties_of_the_scope,
    a_property_that_systemd_does_not_know_is_refused,
    a_subgroup_holds_the_container_below_its_scope,
    a_container_that_may_be_killed_for_memory_is_one_below_the_scope_that_its_caller_names,
    the_users_systemd_is_reached_from_inside_of_a_user_namespace,
    verbs_need_no_more_of_the_session_than_its_directory,
    auto_asks_the_users_systemd,
    auto_takes_the_subtree_that_is_the_callers_own,
    a_controller_that_is_not_delegated_is_named,
    cpus_without_a_controller_become_an_affinity,
    disabled_makes_no_cgroup,
    a_login_without_a_session_falls_back_and_says_so,
);

/// Where the caller's manager keeps the scopes of a slice.
fn slice(name: &str) -> String {
    if geteuid().is_root() {
        return format!("/{name}");
    }
    let uid = geteuid();
    format!("/user.slice/user-{uid}.slice/user@{uid}.service/{name}")
}

fn the_scope_lies_in_the_slice_and_has_the_name_of_cgroups_path(ground: &Ground) {
    let id = ground.lab.id();
    let slices = ["bryotest.slice", "bryotest-web.slice"];
    let bundle = ground.bundle().named(&id);
    let bundle = bundle.with(|c| c["linux"]["cgroupsPath"] = format!("{}:moss:{id}", slices[1]).into());
    let container = bundle.detach();
    // The name of a slice is its path.
    let path = format!("{}/{}/moss-{id}.scope", slice(slices[0]), slices[1]);
    assert_eq!(Cgroup::of_container(&container).path.to_str().unwrap(), path);
    container.remove();
    // systemd keeps a slice for the next who needs it.
    ground.lab.systemctl(["stop"]).args(slices).done().ok();
}

fn without_a_cgroups_path_the_scope_is_named_for_the_container(ground: &Ground) {
    bryo_only!("every runtime gives its own name");
    let bundle = ground.bundle().with(|c| drop(c["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
    let container = bundle.detach();
    let path = Cgroup::of_container(&container).path;
    assert!(path.ends_with(format!("bryo-{}.scope", container.id)), "{}", path.display());
    assert!(
        path.starts_with(slice(if geteuid().is_root() { "system.slice" } else { "user.slice" })),
        "{path:?}"
    );
    container.remove();
}

fn annotated<'lab>(ground: &'lab Ground, annotations: Value) -> Bundle<'lab> {
    ground.bundle().with(|c| c["annotations"] = annotations)
}

fn annotations_become_properties_of_the_scope(ground: &Ground) {
    let container = annotated(
        ground,
        json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 123456789",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.Description": "'moss grows slowly'",
            "org.systemd.property.MemoryHigh": "uint64 52428800",
        }),
    )
    .detach();
    let property = |name: &str| ground.property(&container, name);
    assert_eq!(property("TimeoutStopUSec"), "2min 3.456789s");
    assert_eq!(property("CollectMode"), "inactive-or-failed");
    assert_eq!(property("Description"), "moss grows slowly");
    Cgroup::of_container(&container).holds(&[("memory.high", "52428800")]);
    container.remove();
}

fn a_property_that_systemd_does_not_know_is_refused(ground: &Ground) {
    let unknown = annotated(ground, json!({ "org.systemd.property.Moss": "uint64 1" }));
    unknown.call("create", NONE).done().refuses(1, &["Moss"]);
    let malformed = annotated(ground, json!({ "org.systemd.property.TimeoutStopUSec": "uint64 soon" }));
    malformed.call("create", NONE).done().refuses(1, &["TimeoutStopUSec"]);
    assert!(ground.lab.state_entries().is_empty());
}

fn a_subgroup_holds_the_container_below_its_scope(ground: &Ground) {
    bryo_only!("the annotations are crun's");
    let limits = json!({ "pids": { "limit": 42 } });
    let below = |annotations: Value| {
        let bundle = annotated(ground, annotations).with(|c| c["linux"]["resources"] = limits.clone());
        let container = bundle.detach();
        let cgroup = Cgroup::of_container(&container);
        let scope = format!("{}/bryo-{}.scope", slice("user.slice"), container.id);
        let below = cgroup.path.strip_prefix(&scope).unwrap().to_str().unwrap().to_owned();
        assert_eq!(fs::read_to_string(format!("/sys/fs/cgroup{scope}/pids.max")).unwrap(), "42\n");
        // Whatever is to be done with the container reaches it there.
        container.call("pause", NONE).done().ok();
        container.call("resume", NONE).done().ok();
        container.exec(["true"]).ok();
        container.remove();
        below
    };
    assert_eq!(below(json!({ "run.oci.systemd.subgroup": "moss" })), "moss");
    assert_eq!(below(json!({ "run.oci.systemd.subgroup": "" })), "");
    let both = json!({ "run.oci.systemd.subgroup": "moss", "run.oci.delegate-cgroup": "own" });
    assert_eq!(below(both), "moss/own");
}

fn a_container_that_may_be_killed_for_memory_is_one_below_the_scope_that_its_caller_names(ground: &Ground) {
    bryo_only!("the cgroup below is crun's");
    let limits = json!({ "memory": { "limit": 67_108_864 }, "cpu": { "period": 50_000 } });
    let container = ground.limited(limits).detach();
    let leaf = Cgroup::of_container(&container);
    let scope = format!("{}/bryo-{}.scope", slice("user.slice"), container.id);
    assert_eq!(leaf.path.to_str().unwrap(), format!("{scope}/container"));
    // What no property of the scope can hold, as a period without a quota, is in its files all the same.
    let both = |memory: &str, cpu: &str| {
        let of_scope = |file| fs::read_to_string(format!("/sys/fs/cgroup{scope}/{file}")).unwrap();
        assert_eq!((of_scope("memory.max").trim(), of_scope("cpu.max").trim()), (memory, cpu));
        leaf.holds(&[("memory.max", memory), ("cpu.max", cpu)]);
    };
    both("67108864", "max 50000");
    container.call("update", NONE).args(["--memory", "96m", "--cpu-period", "80000"]).done().ok();
    both("100663296", "max 80000");
    let shown = container.exec(["cat", "/proc/self/cgroup"]).ok();
    assert!(shown.stdout.trim_end().ends_with("/container") || shown.stdout == "0::/\n", "{shown:?}");
    container.remove();
    assert!(!Path::new(&format!("/sys/fs/cgroup{scope}")).exists());
}

fn the_users_systemd_is_reached_from_inside_of_a_user_namespace(ground: &Ground) {
    plain_user_only!("root asks the system's");
    // As Podman calls it: root of its user namespace, and no other one in config.json.
    let podmans =
        |call: Call<'_>| call.under(["unshare", "--user", "--map-root-user", "--mount", "--"]).done();
    let bundle = ground.limited(json!({ "pids": { "limit": 42 } })).without_namespace("user").with(|c| {
        c["linux"].as_object_mut().unwrap().remove("uidMappings");
        c["linux"].as_object_mut().unwrap().remove("gidMappings");
    });
    let id = ground.lab.id();
    let bundle =
        bundle.named(&id).with(|c| c["linux"]["cgroupsPath"] = format!("user.slice:bryo:{id}").into());
    let pidfile = bundle.dir.join("pid");
    podmans(bundle.call("create", ["--pid-file", pidfile.to_str().unwrap()])).ok();
    podmans(ground.lab.call(["start", &id])).ok();
    let cgroup = Cgroup::of(fs::read_to_string(&pidfile).unwrap());
    assert_eq!(cgroup.path.to_str().unwrap(), format!("{}/bryo-{id}.scope", slice("user.slice")));
    cgroup.holds(&[("pids.max", "42")]);
    podmans(ground.lab.call(["update", "--pids-limit", "17", &id])).ok();
    cgroup.holds(&[("pids.max", "17")]);
    podmans(ground.lab.call(["pause", &id])).ok();
    assert_eq!(cgroup.number("cgroup.events", "frozen"), 1);
    podmans(ground.lab.call(["resume", &id])).ok();
    podmans(ground.lab.call(["delete", "--force", &id])).ok();
    assert!(!cgroup.exists());
}

fn verbs_need_no_more_of_the_session_than_its_directory(ground: &Ground) {
    plain_user_only!("root has no need of a session");
    // Podman's call of kill, delete, pause and resume.
    let bare = |call: Call<'_>| {
        call.env_remove("DBUS_SESSION_BUS_ADDRESS").env_remove("PATH").env_remove("HOME").done()
    };
    let container = ground.bundle().detach();
    let cgroup = Cgroup::of_container(&container);
    bare(container.call("pause", NONE)).ok();
    assert_eq!(cgroup.number("cgroup.events", "frozen"), 1);
    bare(container.call("resume", NONE)).ok();
    bare(container.call("kill", NONE).args(["9"])).ok();
    container.wait_until_stopped();
    bare(container.call("delete", ["--force"])).ok();
    assert!(!cgroup.exists());
}

/// Without a word about managers.
fn auto(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.with_globals(NONE).with(|c| drop(c["linux"].as_object_mut().unwrap().remove("cgroupsPath")))
}

fn auto_asks_the_users_systemd(ground: &Ground) {
    bryo_only!("runc has no such choice");
    plain_user_only!("root works with cgroups itself");
    let container = auto(ground.limited(json!({ "pids": { "limit": 42 } }))).detach();
    let cgroup = Cgroup::of_container(&container);
    assert!(cgroup.path.ends_with(format!("bryo-{}.scope", container.id)), "{cgroup:?}");
    cgroup.holds(&[("pids.max", "42")]);
    container.remove();
}

fn auto_takes_the_subtree_that_is_the_callers_own(ground: &Ground) {
    bryo_only!("runc has no such choice, and takes the cgroup beside its own");
    plain_user_only!("root works with cgroups itself");
    // What bryo advises where there is no delegation.
    let delegated = ["systemd-run", "--user", "--scope", "--quiet", "--property=Delegate=yes", "--"];
    let limits = json!({
        "memory": { "limit": 67_108_864 }, "cpu": { "quota": 20_000 }, "pids": { "limit": 42 },
    });
    let bundle = auto(ground.limited(limits));
    let id = ground.lab.id();
    bundle.named(&id).call("run", ["--detach"]).under(delegated).done().ok();
    let pid = ground.lab.call(["state", &id]).done().ok().json()["pid"].clone();
    let cgroup = Cgroup::of(pid);
    let scope = cgroup.path.parent().unwrap();
    assert!(scope.file_name().unwrap().to_string_lossy().starts_with("run-"), "{cgroup:?}");
    cgroup.holds(&[("memory.max", "67108864"), ("cpu.max", "20000 100000"), ("pids.max", "42")]);
    ground.lab.call(["delete", "--force", &id]).done().ok();
    assert!(!cgroup.exists());
}

fn a_controller_that_is_not_delegated_is_named(ground: &Ground) {
    bryo_only!("runc says that there is no such file");
    plain_user_only!("to root everything is delegated that there is");
    let bundle = ground.limited(json!({ "blockIO": { "throttleReadBpsDevice": [
        { "major": 98, "minor": 0, "rate": 1_048_576 },
    ] } }));
    let bundle = bundle.sh("echo alive");
    bundle.run().refuses(1, &["CG-CTRL", "io", "fix: "]);
    may_go(&bundle, as_it_is, "limits", "alive\n", "CG-CTRL");
}

fn cpus_without_a_controller_become_an_affinity(ground: &Ground) {
    bryo_only!("runc fails");
    // The guest's kernel has no cpuset, and one processor.
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    assert!(!controllers.contains("cpuset"), "this test is for a machine without cpuset: {controllers}");
    let bundle = ground.limited(json!({ "cpu": { "cpus": "0" } }));
    let bundle = bundle.sh("grep Cpus_allowed_list /proc/self/status");
    weakens(&bundle, as_it_is, "Cpus_allowed_list:\t0\n", "CG-CTRL");
}

fn disabled_makes_no_cgroup(ground: &Ground) {
    bryo_only!("runc has no such choice");
    let disabled = ["--cgroup-manager", "disabled"];
    let container = auto(ground.bundle()).with_globals(disabled).detach();
    assert_eq!(Cgroup::of(container.pid()), Cgroup::of("self"));
    container.exec(["true"]).ok();
    container.remove();
    let limited = auto(ground.limited(json!({ "pids": { "limit": 42 } }))).with_globals(disabled);
    limited.call("create", NONE).done().refuses(1, &["CG-", "fix: "]);
    assert!(ground.lab.state_entries().is_empty());
}

/// After `su -` to a user who has neither a session nor a manager: no runtime directory, no bus, and a cgroup
/// that belongs to somebody else.
fn a_login_without_a_session_falls_back_and_says_so(ground: &Ground) {
    bryo_only!("runc fails");
    if !geteuid().is_root() {
        return note_skip(module_path!(), "a plain user", "it takes root to become somebody else");
    }
    assert_eq!(ground.manager, Manager::Systemd);
    let lab = Lab::new();
    for dir in [lab.dir.clone(), lab.dir.join("run"), lab.dir.join("out")] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let somebody = ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", "--"];
    let run = |globals: &[&str], resources: Value| {
        let bundle = lab.bundle().sh("echo alive").with_globals(globals.iter().copied()).with(|c| {
            for key in ["uidMappings", "gidMappings"] {
                c["linux"][key] = json!([{ "containerID": 0, "hostID": 4242, "size": 1 }]);
            }
            c["linux"]["resources"] = resources;
        });
        bundle.call("run", NONE).env_remove("XDG_RUNTIME_DIR").under(somebody)
    };
    let limits = json!({ "memory": { "limit": 67_108_864 } });
    // Nothing was asked for, so nothing is lost.
    run(&[], json!({})).done().prints("alive\n");
    run(&[], limits.clone()).done().refuses(1, &["CG-NO", "fix: "]);
    run(&["--systemd-cgroup"], limits.clone()).done().refuses(1, &["CG-NOBUS", "fix: "]);
    warns(run(&["--degrade=limits"], limits).done(), "alive\n", "CG-NO");
    // systemd was asked for by name: that it is not there is told.
    warns(run(&["--systemd-cgroup"], json!({})).done(), "alive\n", "CG-NOBUS");
}
