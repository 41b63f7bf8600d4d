//! Policies and priorities of a process, for processors and for disks.

use super::{Result, check};

/// What sched_setattr(2) sets: `SCHED_*` and `SCHED_FLAG_*`, and what the policy takes of the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// In nanoseconds, as the next two.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// sched_attr, as of Linux 5.3.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// Sets how a process, or this one by 0, gets processors.
///
/// # Errors
/// `EPERM` without CAP_SYS_NICE on the machine, beyond what RLIMIT_NICE and RLIMIT_RTPRIO allow, and for a process of
/// somebody else; `EBUSY` for a deadline that cannot be kept; `EINVAL` for what a policy does not take.
pub fn set_scheduler(pid: i32, wanted: &Attributes) -> Result<()> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
        util_min: 0,
        util_max: 0,
    };
    // SAFETY: the kernel reads one sched_attr, whose size is in it; a newer kernel takes an older one.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) })?;
    Ok(())
}

/// Sets the class and priority with which a process, or this one by 0, gets disks (ioprio_set(2)).
///
/// # Errors
/// `EPERM` for the real-time class without CAP_SYS_NICE or CAP_SYS_ADMIN on the machine.
pub fn set_io_priority(pid: i32, priority: u16) -> Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: integers only.
    check(unsafe {
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, libc::c_int::from(priority))
    })?;
    Ok(())
}
