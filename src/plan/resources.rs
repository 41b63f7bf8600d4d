//! Resource limits, as long as bryo makes no cgroups: what asks for one is refused, never dropped.

use super::Context;
use super::degrade::Degradation;
use crate::host::{CAP_MKNOD, CAP_SYS_ADMIN};
use crate::report::Failure;
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxResources};

/// Checks that nothing in the configuration needs a cgroup. Returns whether mounts have to be without
/// devices because there is no device cgroup.
///
/// # Errors
/// `CG-NODELEG` for an explicit limit; `CG-DEVICES` where device rules are all that keeps root off the
/// host's devices.
pub fn check(
    linux: &Linux,
    context: &Context<'_>,
    bounding: u64,
    degradations: &mut Vec<Degradation>,
) -> Result<bool, Failure> {
    let Some(resources) = linux.resources() else { return Ok(false) };
    let act = || format!("cannot limit resources of container {}", context.container);
    if let Some(limit) = first_limit(resources) {
        let because = "bryo cannot make cgroups yet";
        if !context.degrade.limits {
            return Err(Failure::new(
                act(),
                format!("linux.resources.{limit} needs a cgroup, and {because}: operation not supported"),
            )
            .code("CG-NODELEG")
            .fix(format!("remove linux.resources.{limit}, or do without with --degrade=limits")));
        }
        degradations.push(Degradation::weaker(
            "CG-NODELEG",
            "the limits of linux.resources",
            "no limits",
            because,
        ));
    }
    let denies = resources.devices().iter().flatten().any(|rule| !rule.allow());
    let user = context.namespaces.has(CloneFlags::CLONE_NEWUSER) || context.facts.in_child_userns;
    if !denies || !context.facts.is_host_root() {
        // In a user namespace no node can be made, and those of the image were not made by its owner:
        // /dev holds what the configuration lists, and nothing else exists.
        return Ok(false);
    }
    if !user && bounding & ((1 << CAP_MKNOD) | (1 << CAP_SYS_ADMIN)) != 0 {
        return Err(Failure::new(act(), "device rules need a cgroup, and with CAP_MKNOD or CAP_SYS_ADMIN nothing else would hold: operation not supported")
            .code("CG-DEVICES")
            .fix("drop both capabilities, or add a user namespace"));
    }
    degradations.push(Degradation::same(
        "CG-DEVICES",
        "a device cgroup",
        "mounts without devices, and a /dev of the configured ones",
        "bryo makes no cgroup yet",
    ));
    Ok(true)
}

fn first_limit(resources: &LinuxResources) -> Option<&'static str> {
    let memory = resources.memory().as_ref().is_some_and(|m| {
        // Zero is unset, and -1 is no limit.
        [m.limit(), m.reservation(), m.swap(), m.kernel(), m.kernel_tcp()]
            .iter()
            .any(|n| n.is_some_and(|n| n > 0))
            || m.swappiness().is_some()
            || m.disable_oom_killer() == Some(true)
    });
    let cpu = resources.cpu().as_ref().is_some_and(|cpu| {
        cpu.shares().is_some_and(|n| n != 0)
            || cpu.quota().is_some_and(|n| n > 0)
            || cpu.period().is_some_and(|n| n != 0)
            || cpu.burst().is_some_and(|n| n != 0)
            || cpu.idle().is_some_and(|n| n != 0)
            || cpu.realtime_runtime().is_some()
            || cpu.realtime_period().is_some()
            || [cpu.cpus(), cpu.mems()].iter().any(|list| list.as_ref().is_some_and(|l| !l.is_empty()))
    });
    let pids = resources.pids().as_ref().is_some_and(|p| p.limit() > 0);
    let io = resources.block_io().as_ref().is_some_and(|io| {
        io.weight().is_some_and(|n| n != 0)
            || io.leaf_weight().is_some_and(|n| n != 0)
            || io.weight_device().as_ref().is_some_and(|l| !l.is_empty())
            || [
                io.throttle_read_bps_device(),
                io.throttle_write_bps_device(),
                io.throttle_read_iops_device(),
                io.throttle_write_iops_device(),
            ]
            .iter()
            .any(|list| list.as_ref().is_some_and(|l| !l.is_empty()))
    });
    let network = resources
        .network()
        .as_ref()
        .is_some_and(|n| n.class_id().is_some() || n.priorities().as_ref().is_some_and(|l| !l.is_empty()));
    [
        ("memory", memory),
        ("cpu", cpu),
        ("pids", pids),
        ("blockIO", io),
        ("hugepageLimits", resources.hugepage_limits().as_ref().is_some_and(|l| !l.is_empty())),
        ("network", network),
        ("rdma", resources.rdma().as_ref().is_some_and(|m| !m.is_empty())),
        ("unified", resources.unified().as_ref().is_some_and(|m| !m.is_empty())),
    ]
    .iter()
    .find(|(_, asked)| *asked)
    .map(|(name, _)| *name)
}
