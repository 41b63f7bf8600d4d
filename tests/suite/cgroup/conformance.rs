//! What config-linux.md wants of a runtime's cgroups, as far as no test of a topic shows it
//! (see [`crate::conformance`]).

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::cgroup::{Cgroup, Ground, Manager, both_managers};
use crate::lab::note_skip;

both_managers!(rules_for_devices_hold_in_their_order, limits_of_the_old_cgroups_alone_are_refused);

/// config-linux.md#cgroups-path
#[test]
#[ignore = "needs cgroup v2 and systemd: scripts/test runs it in the guest"]
fn an_absolute_path_is_the_same_place_every_time() {
    let name = concat!(module_path!(), "::an_absolute_path_is_the_same_place_every_time");
    Manager::Cgroupfs.ground(name, |ground| {
        let bundle = ground.bundle();
        let path = bundle.config["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
        assert!(path.starts_with('/'));
        for _ in 0..2 {
            // Another container each time, and the same path.
            let id = ground.lab.id();
            let bundle = ground.bundle().named(&id).with(|c| c["linux"]["cgroupsPath"] = path.clone().into());
            let container = bundle.detach();
            assert_eq!(Cgroup::of(container.pid()).path.to_str().unwrap(), path);
            container.remove();
        }
    });
}

/// config-linux.md#cgroups-path
#[test]
#[ignore = "needs cgroup v2 and systemd: scripts/test runs it in the guest"]
fn a_path_that_names_no_unit_is_refused_by_systemds_manager() {
    let name = concat!(module_path!(), "::a_path_that_names_no_unit_is_refused_by_systemds_manager");
    Manager::Systemd.ground(name, |ground| {
        for path in ["moss:web", "user.slice:moss:web:green"] {
            let bundle = ground.bundle().with(|c| c["linux"]["cgroupsPath"] = path.into());
            bundle.run().refuses(1, &["slice:prefix:name", path]);
            assert!(ground.lab.state_entries().is_empty());
        }
    });
}

/// config-linux.md#allowed-device-list
fn rules_for_devices_hold_in_their_order(ground: &Ground) {
    if !geteuid().is_root() {
        return note_skip(module_path!(), "a plain user", "devices are made and restricted by root alone");
    }
    // No driver has this number: whoever may open it is told that there is none.
    let rule = |allow: bool, access: &str| json!({ "allow": allow, "type": "c", "major": 250, "minor": 7, "access": access });
    let none = json!({ "allow": false, "access": "rwm" });
    let said = |rules: Value| {
        let bundle = ground.limited(json!({ "devices": rules })).with(|c| {
            c["linux"]["devices"] = json!([{ "path": "/dev/moss", "type": "c", "major": 250, "minor": 7 }]);
        });
        let ran = bundle.sh("cat /dev/moss; echo x > /dev/moss").run().exits(1);
        ["Operation not permitted", "No such device"].map(|text| ran.stderr.matches(text).count())
    };
    assert_eq!(said(json!([none])), [2, 0]);
    assert_eq!(said(json!([none, rule(true, "rw")])), [0, 2]);
    assert_eq!(said(json!([none, rule(true, "rw"), rule(false, "w")])), [1, 1]);
    assert_eq!(said(json!([none, rule(false, "w"), rule(true, "rw")])), [0, 2]);
    assert_eq!(said(json!([rule(true, "rw"), none])), [2, 0]);
}

/// config-linux.md#unified
fn limits_of_the_old_cgroups_alone_are_refused(ground: &Ground) {
    crate::lab::bryo_only!("runc 1.1 goes on without them");
    for resources in [
        json!({ "network": { "classID": 7 } }),
        json!({ "network": { "priorities": [{ "name": "lo", "priority": 5 }] } }),
        json!({ "memory": { "swappiness": 7 } }),
    ] {
        ground.limited(resources).run().refuses(1, &["CG-CTRL", "cgroup v2"]);
        assert!(ground.lab.state_entries().is_empty());
    }
}
