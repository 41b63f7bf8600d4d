//! Hosts that lack something. A degradation may change the means; it never weakens isolation, and it never
//! drops in silence what was asked for. Each has a code, and where it leads to a refusal, a way out: that is tested in
//! [`crate::hosts`], a host each.

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::lab::{Bundle, Call, Lab, NONE, bryo_only, plain_user_only, push, warns};

/// A run in the foreground that is still to be changed.
fn run<'lab>(bundle: &Bundle<'lab>) -> Call<'lab> {
    bundle.call("run", NONE)
}

/// As root of somebody's user namespace, the one id outside is 0.
fn map_to_root(config: &mut Value) {
    for key in ["uidMappings", "gidMappings"] {
        config["linux"][key] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    }
}

#[test]
fn a_masked_proc_is_refused_with_its_cause() {
    bryo_only!("runc has no words for it");
    let lab = Lab::new();
    let bundle = lab.bundle().with(map_to_root);
    // What an outer container does: a mount over a part of /proc, locked by the next user namespace.
    let script = "mount -t tmpfs none /proc/fs && exec \"$@\"";
    let masked = |call: Call| {
        call.under(["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", script, "sh"]).done()
    };
    masked(run(&bundle)).refuses(1, &["PROC-MASKED", "fix: ", "operation not permitted"]);
    assert!(lab.state_entries().is_empty());
}

/// Start it as root of a user namespace that has the caller's whole range, as Podman does.
fn inside_a_user_namespace(call: Call) -> Call {
    call.under(["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--"])
}

#[test]
fn root_of_a_user_namespace_runs_a_container_without_another() {
    let lab = Lab::new();
    let bundle = lab.bundle().without_namespace("user").with(|c| {
        c["linux"].as_object_mut().unwrap().remove("uidMappings");
        c["linux"].as_object_mut().unwrap().remove("gidMappings");
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1001 });
    });
    let bundle = bundle.sh("id -u; id -g; wc -l < /proc/self/uid_map; hostname");
    inside_a_user_namespace(run(&bundle)).done().prints("1000\n1001\n2\nmoss\n");
}

#[test]
fn root_of_a_user_namespace_writes_the_map_of_the_next_itself() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        for key in ["uidMappings", "gidMappings"] {
            c["linux"][key] = json!([
                { "containerID": 0, "hostID": 1, "size": 1000 },
                { "containerID": 1000, "hostID": 5000, "size": 10 },
            ]);
        }
    });
    let bundle = bundle.sh("tr -s ' ' < /proc/self/uid_map; cat /proc/self/setgroups");
    // Without the helpers in the path: root needs none.
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    let call = run(&bundle).under(["env", path]);
    inside_a_user_namespace(call).done().prints(" 0 1 1000\n 1000 5000 10\nallow\n");
}

#[test]
fn root_of_a_user_namespace_creates_execs_and_deletes() {
    let lab = Lab::new();
    let bundle = lab.bundle().without_namespace("user").sleeps().named("nested").with(|c| {
        c["linux"].as_object_mut().unwrap().remove("uidMappings");
        c["linux"].as_object_mut().unwrap().remove("gidMappings");
    });
    bundle.save();
    let runtime = format!("{} --root {}", crate::lab::runtime().display(), lab.root().display());
    let script = format!(
        "set -e; {runtime} create --bundle {} nested >/dev/null; {runtime} start nested; \
         {runtime} exec -u 7:8 nested id -u; {runtime} kill nested KILL; {runtime} delete -f nested",
        bundle.dir.display()
    );
    inside_a_user_namespace(lab.program("sh").args(["-c", &script])).done().prints("7\n");
}

#[test]
fn sysfs_with_the_network_of_the_host_is_a_bind() {
    bryo_only!("runc fails");
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        let sys = c["mounts"].as_array_mut().unwrap().iter_mut().find(|m| m["destination"] == "/sys");
        *sys.unwrap() = json!({
            "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        });
    });
    let script = "test -d /sys/kernel && touch /sys/kernel/moss";
    let bundle = bundle.sh(script);
    let ran = bundle.run().exits(1);
    assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
    // Read-only with everything below, or the host's cgroups could be written.
    let ran = bundle.args(["cat", "/proc/self/mountinfo"]).run().ok();
    for line in ran.stdout.lines().filter(|l| l.split(' ').nth(4).unwrap().starts_with("/sys")) {
        assert!(line.split(' ').nth(5).unwrap().split(',').any(|o| o == "ro"), "{line}");
    }
}

#[test]
fn a_message_queue_mount_with_the_ipc_of_the_host_does_not_fail() {
    bryo_only!("runc fails");
    let lab = Lab::new();
    lab.bundle().without_namespace("ipc").sh("echo alive").run().prints("alive\n");
}

#[test]
fn a_group_of_devpts_that_is_not_mapped_is_left_out() {
    bryo_only!("runc fails");
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        let pts = mounts.iter_mut().find(|m| m["type"] == "devpts").unwrap();
        push(&mut pts["options"], json!("gid=5"));
    });
    bundle.sh("ls /dev/pts").run().prints("ptmx\n");
}

#[test]
fn a_root_file_system_of_ids_that_are_not_mapped_is_used_with_a_warning() {
    bryo_only!("runc says nothing, or fails on the streams");
    let lab = Lab::new();
    // The subordinate ids alone, without the caller who owns the tree.
    let bundle = lab.bundle().subids().with(|c| {
        for key in ["uidMappings", "gidMappings"] {
            let start = c["linux"][key][1]["hostID"].clone();
            c["linux"][key] = json!([{ "containerID": 0, "hostID": start, "size": 1000 }]);
        }
    });
    warns(bundle.sh("stat -c %u /bin/busybox").run(), "65534\n", "FS-OWNER");
}

#[test]
fn degradations_are_kept_with_the_state() {
    plain_user_only!("root may lower the score");
    bryo_only!("runc has no such list");
    let lab = Lab::new();
    let bundle = lab.bundle().sleeps().with(|c| c["process"]["oomScoreAdj"] = (-900).into());
    let c = bundle.detach();
    let state = c.state();
    let list = state["degraded"].as_array().unwrap_or_else(|| panic!("no degraded in {state}"));
    let entry = list.iter().find(|d| d["code"] == "OOM").unwrap_or_else(|| panic!("{state}"));
    for key in ["wanted", "got", "because"] {
        assert!(entry[key].is_string(), "no {key} in {entry}");
    }
    c.remove();
    // And a container that got everything has none, or those that make no difference.
    let c = lab.bundle().sleeps().detach();
    let state = c.state();
    let list = state["degraded"].as_array().cloned().unwrap_or_default();
    assert!(list.iter().all(|d| d["class"] == "same"), "{state}");
    c.remove();
}

#[test]
fn a_state_directory_with_a_long_path_works() {
    let lab = Lab::new();
    // Longer than a socket's name may be.
    let root = lab.dir.join("x".repeat(120)).join("y".repeat(60));
    let bundle = lab.bundle().sleeps().named("far");
    bundle.save();
    let call = |args: &[&str]| lab.bare_call(["--root"]).args([&root]).args(args).done();
    call(&["create", "--bundle", bundle.dir.to_str().unwrap(), "far"]).ok();
    call(&["start", "far"]).ok();
    assert_eq!(call(&["state", "far"]).ok().json()["status"], "running");
    call(&["delete", "--force", "far"]).ok();
}

#[test]
fn a_map_of_somebody_elses_ids_is_refused() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        c["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    });
    if geteuid().is_root() {
        // To root they are its own.
        bundle.run().ok();
        return;
    }
    bundle.run().refuses(1, &[]).in_bryos_words(&["ID-", "fix: "]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn limits_are_refused_unless_the_user_lets_them_go() {
    bryo_only!("runc's words, and what it ignores, differ by version and by host");
    let lab = Lab::new();
    let limited = || {
        lab.bundle()
            .with_globals(["--cgroup-manager", "disabled"])
            .sh("echo alive")
            .with(|c| c["linux"]["resources"] = json!({ "memory": { "limit": 67_108_864 } }))
    };
    limited().run().refuses(1, &["CG-", "fix: "]);
    assert!(lab.state_entries().is_empty());
    warns(run(&limited()).env("BRYO_DEGRADE", "limits").done(), "alive\n", "CG-");
}
