//! When a process gets processors and disks, where setting that is our right and not its own.

use crate::plan::scheduling::Scheduling;
use crate::report::{Failure, errno_text};
use crate::sync::Act;
use crate::sys::Errno;
use crate::sys::scheduling::{set_io_priority, set_scheduler};

/// Sets it for a process that is ready: what it had to do until then was not to wait.
///
/// # Errors
/// `SCHED`, `IOPRIO`.
pub fn set(wanted: &Scheduling, pid: i32, container: &str) -> Result<(), Failure> {
    if !wanted.by_launch {
        return Ok(());
    }
    if let Some(attributes) = &wanted.processor {
        set_scheduler(pid, attributes).map_err(|errno| failure(Act::Scheduler, errno, container))?;
    }
    if let Some(priority) = wanted.io {
        set_io_priority(pid, priority).map_err(|errno| failure(Act::IoPriority, errno, container))?;
    }
    Ok(())
}

/// Why not.
pub fn failure(what: Act, errno: Errno, container: &str) -> Failure {
    let (what, code) =
        if what == Act::IoPriority { ("I/O priority", "IOPRIO") } else { ("scheduler", "SCHED") };
    let failure =
        Failure::new(format!("cannot set the {what} of container {container}"), errno_text(errno)).code(code);
    match (code, errno) {
        ("SCHED", Errno::EPERM) => failure.fix(
            "it takes root of the machine, or enough of RLIMIT_NICE and RLIMIT_RTPRIO (limits.conf); a real-time policy also needs a cgroup that may have it, and a deadline all processors",
        ),
        ("IOPRIO", Errno::EPERM) => {
            failure.fix("the real-time class takes root of the machine: use IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE")
        }
        _ => failure,
    }
}
