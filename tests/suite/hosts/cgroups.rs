//! Cgroups that are not the caller's. What takes a cgroup that is the caller's to a part is tested where there is one:
//! a controller that is not delegated, and processors without cpuset, in `cgroup::session`, as is a login without a
//! bus. What a container without a cgroup can do without, and what not, is told in `nocgroup`.

use serde_json::json;

use super::{Host, map_to_root, may_go};
use crate::lab::{Call, Lab, NONE, bryo_only, plain_user_only};

/// The caller as root of a user namespace after these commands, with a cgroup namespace that hides where it is.
fn host<'lab>(commands: &str) -> impl Host<'lab> + use<'lab> {
    let script = format!("set -e\n{commands}\nexec \"$@\"");
    move |call: Call<'lab>| {
        let namespaces = ["unshare", "--user", "--map-root-user", "--mount", "--cgroup", "--"];
        call.under(["sh", "-c", &script, "sh"]).under(namespaces)
    }
}

/// What there is to say about a host that cannot limit anything.
#[track_caller]
fn no_limits_here(commands: &str, code: &str) {
    let lab = Lab::new();
    let bundle = || lab.bundle().sh("echo alive").with(map_to_root);
    host(commands)(bundle().call("run", NONE)).done().prints("alive\n");
    let limited = bundle().with(|c| {
        c["linux"]["resources"] = json!({ "memory": { "limit": 67_108_864 }, "pids": { "limit": 42 } });
    });
    may_go(&limited, host(commands), "limits", "alive\n", code);
}

#[test]
fn a_host_without_cgroup_v2_is_told_by_its_name() {
    bryo_only!("runc has no words for it");
    no_limits_here("mount -t tmpfs none /sys/fs/cgroup", "CG-V1");
    // The first version has a directory for each hierarchy there.
    no_limits_here(
        "mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/memory /sys/fs/cgroup/pids",
        "CG-V1",
    );
}

#[test]
fn a_host_that_delegates_nothing_is_told_by_its_name() {
    bryo_only!("runc has no words for it");
    plain_user_only!("to root everything is delegated");
    // Nor is there anybody who could be asked to.
    no_limits_here("mount -t tmpfs none /run; mount -t cgroup2 none /sys/fs/cgroup", "CG-NODELEG");
}
