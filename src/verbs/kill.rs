//! `kill`: a signal for init, or in need for all that the container has.

use crate::report::Failure;
use crate::state::Record;
use crate::state::store::Store;
use crate::sys::{Errno, pidfd};
use nix::libc;
use nix::sched::CloneFlags;
use std::os::unix::fs::MetadataExt;

/// `bryo kill`.
pub fn kill(store: &Store, id: &str, signal: &str, all_flag: bool) -> Result<u8, Failure> {
    let act = || format!("cannot kill container {id}");
    let number = number(signal).ok_or_else(|| {
        Failure::new(act(), format!("unknown signal {signal:?}"))
            .fix("use a name like TERM or SIGTERM, or a number")
    })?;
    let (_, record) = store.open("kill", id)?;
    let pidfd = record.pidfd().map_err(|errno| Failure::errno(act(), errno))?;
    let shares_pids = !own_pids(&record);
    let sent = match pidfd {
        None => Err(Errno::ESRCH),
        Some(fd) => pidfd::signal(&fd, number),
    };
    // Without a pid namespace of its own, the end of init does not end the others.
    if shares_pids && (number == libc::SIGKILL || all_flag) {
        all(&record, number);
    }
    match sent {
        Ok(()) => Ok(0),
        // --all is obsolete: all that is left of it is this.
        Err(Errno::ESRCH) if all_flag => Ok(0),
        Err(Errno::ESRCH) => Err(Failure::new(act(), "container not running")),
        Err(errno) => Err(Failure::errno(act(), errno)),
    }
}

fn own_pids(record: &Record) -> bool {
    record.namespaces & CloneFlags::CLONE_NEWPID.bits() != 0
}

/// A signal by number or by name, with or without SIG.
fn number(signal: &str) -> Option<i32> {
    if let Ok(number) = signal.parse::<i32>() {
        return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
    }
    let upper = signal.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str| text.parse::<i32>().ok().filter(|n| (0..=30).contains(n));
    let real_time = match name {
        "RTMIN" => Some(libc::SIGRTMIN()),
        "RTMAX" => Some(libc::SIGRTMAX()),
        "CLD" => Some(libc::SIGCHLD),
        "IOT" => Some(libc::SIGABRT),
        "POLL" => Some(libc::SIGIO),
        _ => None,
    };
    let shifted = || {
        let up = name.strip_prefix("RTMIN+").and_then(offset).map(|n| libc::SIGRTMIN() + n);
        up.or_else(|| name.strip_prefix("RTMAX-").and_then(offset).map(|n| libc::SIGRTMAX() - n))
    };
    let plain = || format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|s| s as i32);
    real_time.or_else(shifted).or_else(plain).filter(|n| (1..=libc::SIGRTMAX()).contains(n))
}

/// The namespace by which the processes of a container are known where there is no cgroup: the pid
/// namespace if it has one of its own, else its mount namespace, which every container has.
fn mark(record: &Record) -> &'static str {
    if own_pids(record) { "pid" } else { "mnt" }
}

/// The pids, in our pid namespace, of all processes of a container. Init's among them, if it lives.
pub fn pids(record: &Record) -> Vec<i32> {
    if !record.alive() {
        return Vec::new();
    }
    let kind = mark(record);
    let Some(wanted) = namespace(record.pid, kind) else { return vec![record.pid] };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut pids: Vec<i32> = all.filter(|pid| namespace(*pid, kind) == Some(wanted)).collect();
    pids.sort_unstable();
    pids
}

fn namespace(pid: i32, kind: &str) -> Option<u64> {
    std::fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|meta| meta.ino())
}

/// Signals every process of a container. Each is looked at again once its descriptor is open, so a pid that
/// was reused in between is left alone.
pub fn all(record: &Record, signal: i32) {
    let kind = mark(record);
    let Some(wanted) = namespace(record.pid, kind).filter(|_| record.alive()) else { return };
    for pid in pids(record) {
        let Ok(fd) = pidfd::open(pid) else { continue };
        if namespace(pid, kind) == Some(wanted) {
            // It may have ended by itself.
            let _ = pidfd::signal(&fd, signal);
        }
    }
}

/// What is left of a container after its init: with a pid namespace of its own that is nothing, the kernel
/// sees to it.
pub fn sweep(record: &Record) {
    if !own_pids(record) {
        all(record, libc::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_number_and_by_name() {
        for (text, wanted) in [
            ("9", Some(9)),
            ("KILL", Some(9)),
            ("SIGKILL", Some(9)),
            ("sigterm", Some(15)),
            ("SIGRTMIN+3", Some(libc::SIGRTMIN() + 3)),
            ("RTMAX-1", Some(libc::SIGRTMAX() - 1)),
            ("RTMIN+31", None),
            ("0", None),
            ("-1", None),
            ("65", None),
            ("SIGFLY", None),
            ("", None),
        ] {
            assert_eq!(number(text), wanted, "{text}");
        }
    }
}
