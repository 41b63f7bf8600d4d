//! Nothing stays: no cgroup, no scope, no unit, after many containers and after a runtime that was killed.
//! Every test of this module ends with this check ([`crate::lab::Lab`]); here it is put to the test too.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::cgroup::{Cgroup, Ground, Manager, both_managers};
use crate::lab::{Bundle, NONE, Running, bryo_only};

both_managers!(
    two_hundred_containers_leave_nothing,
    a_runtime_that_is_killed_while_it_creates_leaves_nothing_that_delete_does_not_find,
    a_test_that_leaves_a_cgroup_or_a_unit_fails,
    a_container_whose_state_is_damaged_is_known_by_its_cgroup,
);

fn two_hundred_containers_leave_nothing(ground: &Ground) {
    for _ in 0..20 {
        let ten: Vec<(String, Running)> = (0..10)
            .map(|_| {
                let bundle =
                    ground.limited(json!({ "memory": { "limit": 67_108_864 }, "pids": { "limit": 42 } }));
                let id = bundle.id().to_owned();
                (id, bundle.call("create", NONE).spawn())
            })
            .collect();
        let ids: Vec<String> = ten
            .into_iter()
            .map(|(id, running)| {
                running.wait().ok();
                id
            })
            .collect();
        let deleted: Vec<Running> =
            ids.iter().map(|id| ground.lab.call(["delete", "--force", id]).spawn()).collect();
        for running in deleted {
            running.wait().ok();
        }
    }
    ground.lab.assert_nothing_left();
}

/// A container in a cgroup below one that it shares, as ctr has them all below /default.
fn below<'lab>(ground: &'lab Ground, shared: &Cgroup) -> Bundle<'lab> {
    let id = ground.lab.id();
    let path = shared.path.join(&id).into_os_string().into_string().unwrap();
    ground.bundle().named(&id).with(|c| c["linux"]["cgroupsPath"] = path.into())
}

fn shared(ground: &Ground) -> Cgroup {
    Cgroup { path: ground.parent.join(format!("shared-{}", ground.lab.id())) }
}

#[test]
#[ignore = "needs cgroup v2 and systemd: scripts/test runs it in the guest"]
fn deleting_the_first_container_below_a_cgroup_leaves_the_second_alone() {
    let name =
        concat!(module_path!(), "::deleting_the_first_container_below_a_cgroup_leaves_the_second_alone");
    Manager::Cgroupfs.ground(name, |ground| {
        let shared = shared(ground);
        let [first, second] = [(); 2].map(|()| below(ground, &shared).detach());
        first.call("delete", ["--force"]).done().ok();
        second.exec(["true"]).ok();
        second.remove();
        // It is nobody's any more.
        if shared.exists() {
            fs::remove_dir(shared.dir()).unwrap();
        }
    });
}

#[test]
#[ignore = "needs cgroup v2 and systemd: scripts/test runs it in the guest"]
fn containers_below_the_same_cgroup_come_and_go_at_the_same_time() {
    let name = concat!(module_path!(), "::containers_below_the_same_cgroup_come_and_go_at_the_same_time");
    Manager::Cgroupfs.ground(name, |ground| {
        // It goes with the one that it came with, unless another one is in it: under the feet of those that are just
        // on their way.
        let shared = shared(ground);
        for _ in 0..20 {
            let lives = |_| below(ground, &shared).args(["true"]).call("run", NONE).spawn();
            let six: Vec<Running> = (0..6).map(lives).collect();
            six.into_iter().for_each(|running| drop(running.wait().ok()));
        }
        if shared.exists() {
            fs::remove_dir(shared.dir()).unwrap();
        }
    });
}

fn a_runtime_that_is_killed_while_it_creates_leaves_nothing_that_delete_does_not_find(ground: &Ground) {
    bryo_only!("runc's delete finds only what has a complete state");
    for step in 0..20 {
        let bundle = ground.limited(json!({ "pids": { "limit": 42 } }));
        let create = bundle.call("create", NONE).spawn();
        sleep(Duration::from_millis(step * 8));
        // Where it is done already, which is well, this hits nobody: it has not been waited for.
        create.signal(Signal::SIGKILL);
        drop(create.wait());
        ground.lab.call(["delete", "--force", bundle.id()]).done().ok();
        ground.lab.assert_nothing_left();
    }
}

fn a_container_whose_state_is_damaged_is_known_by_its_cgroup(ground: &Ground) {
    bryo_only!("runc cannot remove what it cannot read");
    let container = ground.bundle().detach();
    fs::write(ground.lab.root().join(&container.id).join("state.json"), "{").unwrap();
    container.call("state", NONE).done().refuses(1, &[]);
    container.call("delete", ["--force"]).done().ok();
    ground.lab.assert_nothing_left();
}

/// A check that cannot fail would be worth nothing.
fn a_test_that_leaves_a_cgroup_or_a_unit_fails(ground: &Ground) {
    let container = ground.bundle().detach();
    let cgroup = Cgroup::of_container(&container);
    let left =
        |kind: &str| ground.lab.leftovers().iter().any(|l| l.starts_with(kind) && l.contains(&container.id));
    assert!(left("cgroup"));
    assert_eq!(left("unit"), ground.manager == Manager::Systemd);
    container.call("delete", ["--force"]).done().ok();
    ground.lab.assert_nothing_left();
    if ground.manager == Manager::Cgroupfs {
        fs::create_dir(cgroup.dir()).unwrap();
        assert!(left("cgroup"));
        fs::remove_dir(cgroup.dir()).unwrap();
    }
}
