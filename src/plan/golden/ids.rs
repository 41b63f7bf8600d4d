//! Ids.

use super::*;

pub(super) fn helpers_missing() -> Scenario {
    let facts = alice_but(|subids| {
        subids.newuidmap = Helper::Missing;
        subids.newgidmap = Helper::Missing;
    });
    scenario(many_ids(), facts)
}

pub(super) fn helpers_missing_and_another_user_is_refused() -> Scenario {
    let config = with(many_ids(), &json!({"process": {"user": {"uid": 33, "gid": 33}}}));
    scenario(config, alice_but(|subids| subids.newgidmap = Helper::Missing))
}

pub(super) fn helper_without_setuid() -> Scenario {
    let powerless = Helper::Powerless("/usr/bin/newgidmap".into());
    scenario(many_ids(), alice_but(|subids| subids.newgidmap = powerless))
}

pub(super) fn helper_on_a_nosuid_mount() -> Scenario {
    let nosuid = Helper::NoSuid("/usr/bin/newuidmap".into());
    scenario(many_ids(), alice_but(|subids| subids.newuidmap = nosuid))
}

pub(super) fn no_new_privs_set() -> Scenario {
    scenario(many_ids(), alice_but(|subids| subids.no_new_privs = true))
}

pub(super) fn no_subuid_entry() -> Scenario {
    scenario(many_ids(), alice_but(|subids| subids.uids.clear()))
}

pub(super) fn no_subuid_entry_is_refused_when_strict() -> Scenario {
    no_subuid_entry().degrading("strict")
}

pub(super) fn map_out_of_range_is_refused() -> Scenario {
    let map = json!([
        {"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 200_000, "size": 65536}
    ]);
    scenario(with(many_ids(), &json!({"linux": {"gidMappings": map}})), alice_with_subids())
}

pub(super) fn map_out_of_our_own_namespace_is_refused() -> Scenario {
    let map = json!([{"containerID": 0, "hostID": 1, "size": 65537}]);
    scenario(with(many_ids(), &json!({"linux": {"uidMappings": map}})), podman())
}

pub(super) fn single_id_follows_the_user() -> Scenario {
    scenario(with(one_id(), &json!({"process": {"user": {"uid": 33, "gid": 34}}})), alice())
}

pub(super) fn user_outside_of_many_ids_is_refused() -> Scenario {
    scenario(with(many_ids(), &json!({"process": {"user": {"uid": 70_000}}})), alice_with_subids())
}

pub(super) fn map_by_root_inside_a_user_namespace() -> Scenario {
    let map = json!([
        {"containerID": 0, "hostID": 1, "size": 1000}, {"containerID": 1000, "hostID": 0, "size": 1}
    ]);
    scenario(with(many_ids(), &json!({"linux": {"uidMappings": map, "gidMappings": map}})), podman())
}

pub(super) fn root_without_a_map_is_refused() -> Scenario {
    let change = json!({"linux": {"namespaces": namespaces(&["mount", "user"])}});
    scenario(with(bare(), &change), root())
}
