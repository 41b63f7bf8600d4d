//! Who the caller is.

use super::*;

pub(super) fn plain_user_with_one_id() -> Scenario {
    scenario(spec_rootless(), alice())
}

pub(super) fn plain_user_with_subids() -> Scenario {
    scenario(spec_subids(), alice_with_subids())
}

pub(super) fn root_on_the_host() -> Scenario {
    scenario(spec(&SpecKind::Root), root())
}

pub(super) fn root_inside_a_user_namespace() -> Scenario {
    scenario(spec(&SpecKind::Root), podman())
}

pub(super) fn root_config_by_a_plain_user() -> Scenario {
    scenario(spec(&SpecKind::Root), alice_with_subids())
}

pub(super) fn root_config_by_a_plain_user_without_helpers() -> Scenario {
    let facts = alice_but(|subids| {
        subids.newuidmap = Helper::Missing;
        subids.newgidmap = Helper::Missing;
    });
    scenario(bare(), facts)
}
