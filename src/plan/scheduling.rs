//! When the process gets processors and disks (config.md: `scheduler`, `ioPriority`).
//!
//! What takes a privilege here takes that of the machine's root: a capability of a user namespace below does not
//! count. So where we have it, launch does it, on the process once it is ready; where we do not, the process does it
//! to itself, which is always its right.

use crate::host::{CAP_SYS_NICE, Facts};
use crate::report::Failure;
use crate::sys::scheduling::Attributes;
use oci_spec::runtime::{IOPriorityClass, LinuxIOPriority, LinuxSchedulerPolicy, Process, Scheduler};

/// What is to be set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scheduling {
    pub processor: Option<Attributes>,
    /// Class and priority, as ioprio_set(2) takes them.
    pub io: Option<u16>,
    /// Launch has a right to it that the process has not.
    pub by_launch: bool,
}

/// Decides.
///
/// # Errors
/// What makes no sense to sched_setattr(2) or ioprio_set(2).
pub fn decide(process: &Process, facts: &Facts, container: &str) -> Result<Scheduling, Failure> {
    let refuse = |what: &str, code, cause| {
        Failure::new(
            format!("cannot set {what} of container {container}"),
            format!("{cause}: invalid argument"),
        )
        .code(code)
    };
    let scheduler = process.scheduler().as_ref().map(attributes).transpose();
    let io = process.io_priority().as_ref().map(io_priority).transpose();
    Ok(Scheduling {
        processor: scheduler.map_err(|cause| {
            refuse("the scheduler", "SCHED", cause).fix("see sched(7) for what process.scheduler may be")
        })?,
        io: io.map_err(|cause| {
            refuse("the I/O priority", "IOPRIO", cause).fix("give process.ioPriority.priority as 0 to 7")
        })?,
        by_launch: !facts.in_child_userns && facts.capable(CAP_SYS_NICE),
    })
}

fn attributes(wanted: &Scheduler) -> Result<Attributes, String> {
    use LinuxSchedulerPolicy as Policy;
    let policy = *wanted.policy();
    let (number, real_time) = match policy {
        Policy::SchedOther => (0, false),
        Policy::SchedFifo => (1, true),
        Policy::SchedRr => (2, true),
        Policy::SchedBatch => (3, false),
        Policy::SchedIso => return Err(format!("no Linux has {policy}")),
        Policy::SchedIdle => (5, false),
        Policy::SchedDeadline => (6, false),
    };
    let nice = wanted.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(format!("nice is {nice}, and may be -20 to 19"));
    }
    let priority = wanted.priority().unwrap_or(0);
    match real_time {
        true if !(1..=99).contains(&priority) => {
            return Err(format!("priority is {priority}, and {policy} takes 1 to 99"));
        }
        false if priority != 0 => return Err(format!("{policy} takes no priority")),
        _ => {}
    }
    let times = [*wanted.runtime(), *wanted.deadline(), *wanted.period()].map(Option::unwrap_or_default);
    if policy != Policy::SchedDeadline && times != [0; 3] {
        return Err(format!("{policy} takes no runtime, deadline or period"));
    }
    Ok(Attributes {
        policy: number,
        flags: wanted.flags().iter().flatten().fold(0, |flags, flag| flags | bit(*flag)),
        nice,
        priority: priority.unsigned_abs(),
        runtime: times[0],
        deadline: times[1],
        period: times[2],
    })
}

/// include/uapi/linux/sched.h.
fn bit(flag: oci_spec::runtime::LinuxSchedulerFlag) -> u64 {
    use oci_spec::runtime::LinuxSchedulerFlag as Flag;
    match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    }
}

fn io_priority(wanted: &LinuxIOPriority) -> Result<u16, String> {
    let class = match wanted.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let priority = u16::try_from(wanted.priority()).ok().filter(|priority| *priority <= 7);
    let priority = priority.ok_or_else(|| format!("priority is {}", wanted.priority()))?;
    Ok(class << 13 | priority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scheduler(wanted: serde_json::Value) -> Result<Attributes, String> {
        attributes(&serde_json::from_value(wanted).unwrap())
    }

    #[test]
    fn a_scheduler_is_what_sched_setattr_takes() {
        let none = Attributes { policy: 3, nice: 5, ..Attributes::default() };
        assert_eq!(scheduler(json!({"policy": "SCHED_BATCH", "nice": 5})), Ok(none));
        let real_time = Attributes { policy: 2, priority: 99, flags: 1, ..Attributes::default() };
        let flags = json!(["SCHED_RESET_ON_FORK"]);
        assert_eq!(scheduler(json!({"policy": "SCHED_RR", "priority": 99, "flags": flags})), Ok(real_time));
        let deadline =
            Attributes { policy: 6, runtime: 1, deadline: 2, period: 3, flags: 6, ..Attributes::default() };
        let flags = json!(["SCHED_FLAG_RECLAIM", "SCHED_FLAG_D_L_OVERRUN"]);
        assert_eq!(
            scheduler(json!({
                "policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3, "flags": flags
            })),
            Ok(deadline)
        );
    }

    #[test]
    fn what_a_policy_does_not_take_is_refused() {
        for (wanted, word) in [
            (json!({"policy": "SCHED_OTHER", "nice": 20}), "nice is 20"),
            (json!({"policy": "SCHED_OTHER", "priority": 1}), "takes no priority"),
            (json!({"policy": "SCHED_FIFO"}), "takes 1 to 99"),
            (json!({"policy": "SCHED_FIFO", "priority": -1}), "takes 1 to 99"),
            (json!({"policy": "SCHED_IDLE", "period": 5}), "takes no runtime"),
            (json!({"policy": "SCHED_ISO"}), "no Linux"),
        ] {
            let error = scheduler(wanted).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn an_io_priority_is_a_class_and_one_of_eight() {
        let io = |class: &str, priority: i64| {
            io_priority(&serde_json::from_value(json!({"class": class, "priority": priority})).unwrap())
        };
        assert_eq!(io("IOPRIO_CLASS_RT", 0), Ok(0x2000));
        assert_eq!(io("IOPRIO_CLASS_BE", 7), Ok(0x4007));
        assert_eq!(io("IOPRIO_CLASS_IDLE", 4), Ok(0x6004));
        assert!(io("IOPRIO_CLASS_BE", 8).is_err() && io("IOPRIO_CLASS_BE", -1).is_err());
    }
}
