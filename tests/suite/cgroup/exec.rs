//! Where `exec` puts its process.

use nix::unistd::geteuid;

use crate::cgroup::{Cgroup, Ground, both_managers, reachable_for_runc, with_own_cgroup_mount};
use crate::lab::{Container, bryo_only};

both_managers!(
    exec_lands_in_the_cgroup_of_the_container,
    exec_lands_in_the_cgroup_that_it_is_told_to,
    exec_does_not_land_where_nothing_is,
    exec_does_not_leave_the_cgroup_of_the_container,
    exec_lands_beside_the_first_process_where_the_root_takes_none,
);

/// Start a process in the container and answer with its cgroup, relative to the container's.
#[track_caller]
fn cgroup_of_exec(container: &Container, root: &Cgroup, options: &[&str]) -> String {
    let pidfile = container.bundle.join("exec.pid");
    let mut all = vec!["--detach", "--pid-file", pidfile.to_str().unwrap()];
    all.extend(options);
    container.exec_call(&all, ["sleep", "1000"]).done().ok();
    let pid = std::fs::read_to_string(&pidfile).unwrap();
    let cgroup = Cgroup::of(&pid);
    let below = cgroup.path.strip_prefix(&root.path);
    let below = below.unwrap_or_else(|_| panic!("exec is in {}", cgroup.path.display()));
    below.to_str().unwrap().to_owned()
}

fn exec_lands_in_the_cgroup_of_the_container(ground: &Ground) {
    reachable_for_runc!(ground);
    let container = ground.bundle().detach();
    let root = Cgroup::of_container(&container);
    assert_eq!(cgroup_of_exec(&container, &root, &[]), "");
    assert_eq!(root.processes().len(), 2);
    // In the foreground, and as what it is told itself.
    let ran = container.exec(["cat", "/proc/self/cgroup"]).ok();
    assert!(ran.stdout.trim_end().ends_with(root.path.to_str().unwrap()), "{ran:?}");
    container.remove();
}

/// A container with cgroups of its own, `web` and `web/worker`.
fn divided<'lab>(ground: &'lab Ground) -> (Container<'lab>, Cgroup) {
    let script = "mkdir -p /sys/fs/cgroup/web/worker && echo ready && exec sleep 1000";
    let container = with_own_cgroup_mount(ground.bundle(), "rw").sh(script).detach();
    container.wait_for_output("ready");
    let root = Cgroup::of_container(&container);
    (container, root)
}

fn exec_lands_in_the_cgroup_that_it_is_told_to(ground: &Ground) {
    reachable_for_runc!(ground);
    let (container, root) = divided(ground);
    assert_eq!(cgroup_of_exec(&container, &root, &["--cgroup", "web"]), "web");
    assert_eq!(cgroup_of_exec(&container, &root, &["--cgroup", "/web/worker"]), "web/worker");
    assert_eq!(cgroup_of_exec(&container, &root, &["--cgroup", "/"]), "");
    container.exec_call(&["--cgroup", "web"], ["cat", "/proc/self/cgroup"]).done().prints("0::/web\n");
    container.remove();
}

fn exec_does_not_land_where_nothing_is(ground: &Ground) {
    if !geteuid().is_root() {
        bryo_only!("runc leaves a plain user's process where it was when it cannot be moved");
    }
    let (container, root) = divided(ground);
    let ran = container.exec_call(&["--cgroup", "moss"], ["true"]).done();
    ran.refuses(255, &["no such file or directory"]);
    assert_eq!(root.processes().len(), 1);
    assert!(!root.dir().join("moss").exists());
    container.remove();
}

fn exec_does_not_leave_the_cgroup_of_the_container(ground: &Ground) {
    let (container, root) = divided(ground);
    for path in ["..", "/..", "web/../..", "../../../../../../../.."] {
        let ran = container.exec_call(&["--cgroup", path], ["sleep", "1000"]).done();
        ran.refuses(255, &[path]);
    }
    assert_eq!(root.processes().len(), 1);
    container.remove();
}

fn exec_lands_beside_the_first_process_where_the_root_takes_none(ground: &Ground) {
    if !geteuid().is_root() {
        bryo_only!("runc leaves a plain user's process where it was when it cannot be moved");
    }
    // As systemd does when it is the first process.
    let script = "cd /sys/fs/cgroup && mkdir init.scope && echo $$ > init.scope/cgroup.procs && \
                  echo +memory +pids > cgroup.subtree_control && echo ready && exec sleep 1000";
    let container = with_own_cgroup_mount(ground.bundle(), "rw").sh(script).detach();
    container.wait_for_output("ready");
    let leaf = Cgroup::of_container(&container);
    assert!(leaf.path.ends_with("init.scope"), "{leaf:?}");
    let root = Cgroup { path: leaf.path.parent().unwrap().into() };
    assert_eq!(root.read("cgroup.subtree_control"), "memory pids");
    assert_eq!(cgroup_of_exec(&container, &root, &[]), "init.scope");
    // The verbs mean the whole of it.
    let pids: Vec<i32> =
        serde_json::from_value(container.call("ps", ["--format", "json"]).done().ok().json()).unwrap();
    assert_eq!(pids.len(), 2);
    container.remove();
    assert!(!root.exists());
}
