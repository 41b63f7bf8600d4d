//! Keeping root off the host's devices: by a filter on the container's cgroup, or by other means where there is
//! none.

use super::Context;
use super::degrade::Degradation;
use crate::cgroup::devices;
use crate::host::{CAP_MKNOD, CAP_SYS_ADMIN};
use crate::report::Failure;
use oci_spec::runtime::{Linux, LinuxDeviceType};
use std::path::Path;

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
    let act = || format!("cannot limit resources of container {}", context.container);
    if let Some(path) = denied(linux).map_err(|cause| Failure::new(act(), cause))? {
        let cause = format!(
            "{} is listed, its rules do not allow all of it, and there is no filter that would hold it back: operation not supported",
            path.display()
        );
        return Err(Failure::new(act(), cause)
            .code("CG-DEVICES")
            .fix("remove it from linux.devices, or allow it in linux.resources.devices"));
    }
    let user = context.in_user_namespace();
    if !user && bounding & ((1 << CAP_MKNOD) | (1 << CAP_SYS_ADMIN)) != 0 {
        return Err(Failure::new(
            act(),
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

/// A device that the container is to have and not to use, or not in every way.
fn denied(linux: &Linux) -> Result<Option<&Path>, String> {
    let rules = linux.resources().as_ref().and_then(|r| r.devices().as_deref()).unwrap_or_default();
    let rules = devices::rules(rules)?;
    let listed = linux.devices().as_deref().unwrap_or_default();
    let denied = listed.iter().find(|device| {
        let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        let is_pipe = device.typ() == LinuxDeviceType::P;
        let block = device.typ() == LinuxDeviceType::B;
        !is_pipe && !devices::leave_alone(&rules, block, number(device.major()), number(device.minor()))
    });
    Ok(denied.map(|device| device.path().as_path()))
}
