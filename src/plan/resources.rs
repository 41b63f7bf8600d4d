//! Keeping root off the host's devices: by a filter on the container's cgroup, or by other means where there is
//! none.

use super::Context;
use super::degrade::Degradation;
use crate::host::{CAP_MKNOD, CAP_SYS_ADMIN};
use crate::report::Failure;
use nix::sched::CloneFlags;
use oci_spec::runtime::Linux;

/// Whether there are device rules that something has to enforce.
fn filters(linux: &Linux, context: &Context<'_>) -> bool {
    let rules = linux.resources().as_ref().and_then(|r| r.devices().as_ref());
    // In a user namespace no node can be made, and those of the image were not made by its owner: /dev holds what
    // the configuration lists, and nothing else exists.
    rules.is_some_and(|rules| rules.iter().any(|rule| !rule.allow())) && context.facts.is_host_root()
}

/// Enforces them without a filter. Returns whether mounts have to be without devices.
///
/// # Errors
/// `CG-DEVICES` where device rules are all that keeps root off the host's devices.
pub fn without_filter(
    linux: &Linux,
    context: &Context<'_>,
    bounding: u64,
    degradations: &mut Vec<Degradation>,
) -> Result<bool, Failure> {
    if !filters(linux, context) {
        return Ok(false);
    }
    let user = context.namespaces.has(CloneFlags::CLONE_NEWUSER) || context.facts.in_child_userns;
    if !user && bounding & ((1 << CAP_MKNOD) | (1 << CAP_SYS_ADMIN)) != 0 {
        return Err(Failure::new(
            format!("cannot limit resources of container {}", context.container),
            "device rules need a cgroup with a filter, and with CAP_MKNOD or CAP_SYS_ADMIN nothing else would hold: operation not supported",
        )
        .code("CG-DEVICES")
        .fix("drop both capabilities, or add a user namespace"));
    }
    degradations.push(Degradation::same(
        "CG-DEVICES",
        "a device cgroup",
        "mounts without devices, and a /dev of the configured ones",
        "there is no cgroup for the container, or this kernel filters no devices by it",
    ));
    Ok(true)
}
