//! `kill`: a signal for init, or in need for all that the container has.

use crate::host::namespaces::{of as namespace, sharing};
use crate::report::Failure;
use crate::state::Record;
use crate::state::store::Store;
use crate::sys::{Errno, pidfd};
use nix::libc;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// `bryo kill`.
pub fn kill(store: &Store, id: &str, signal: &str, all_flag: bool) -> Result<u8, Failure> {
    let act = || format!("cannot kill container {id}");
    let number = number(signal).ok_or_else(|| {
        Failure::new(act(), format!("unknown signal {signal:?}"))
            .fix("use a name like TERM or SIGTERM, or a number")
    })?;
    let (_, record) = store.open("kill", id)?;
    // Without a pid namespace of its own, the end of init does not end the others.
    let everyone = !record.owns_pids && (number == libc::SIGKILL || all_flag);
    match if everyone { all(&record, number) } else { init(&record, number) } {
        Ok(()) => Ok(0),
        // --all is obsolete: all that is left of it is this.
        Err(Errno::ESRCH) if all_flag => Ok(0),
        Err(Errno::ESRCH) => Err(Failure::new(act(), "container not running")),
        Err(errno) => Err(Failure::errno(act(), errno)),
    }
}

/// A signal by number or by name, with or without SIG.
fn number(signal: &str) -> Option<i32> {
    if let Ok(number) = signal.parse::<i32>() {
        // 0 is no signal, and asks whether there is somebody to send one to (kill(2)).
        return (0..=libc::SIGRTMAX()).contains(&number).then_some(number);
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

/// The namespace by which the processes of a container are known where there is no cgroup: the pid namespace
/// if it is the container's alone, else its mount namespace, if it has one.
fn mark(record: &Record) -> &'static str {
    if record.owns_pids { "pid" } else { "mnt" }
}

/// That namespace. None where it is our own as well, since then it says nothing: a configuration may join the
/// host's. And none where it has that of whoever made it, be we in that or not.
///
/// # Errors
/// A /proc that does not tell whether init lives.
fn home(record: &Record) -> Result<Option<u64>, Errno> {
    if !record.owns_pids && record.shares_mounts() {
        return Ok(None);
    }
    let kind = mark(record);
    let wanted = namespace(&record.pid.to_string(), kind)?;
    let known = record.alive()? && namespace("self", kind)? != wanted;
    Ok(wanted.filter(|_| known))
}

/// The pids, in our pid namespace, of all processes of a container. Init's among them, if it lives.
///
/// # Errors
/// A /proc that does not list them.
pub fn pids(record: &Record) -> Result<Vec<i32>, Errno> {
    if let Some(Ok(pids)) = record.open_cgroup().map(|cgroup| cgroup.processes()) {
        return Ok(pids);
    }
    if !record.alive()? {
        return Ok(Vec::new());
    }
    let Some(wanted) = home(record)? else { return Ok(vec![record.pid]) };
    let mut pids = sharing(mark(record), wanted)?;
    pids.sort_unstable();
    Ok(pids)
}

/// Signals every process of a container: those of its cgroup, of which its init may be dead already, or else init
/// and those that share a namespace with it.
///
/// # Errors
/// `ESRCH` where there is none.
pub fn all(record: &Record, signal: i32) -> Result<(), Errno> {
    if let Some(cgroup) = record.open_cgroup() {
        if cgroup.processes()?.is_empty() {
            return Err(Errno::ESRCH);
        }
        return if signal == libc::SIGKILL { cgroup.kill() } else { cgroup.signal(signal) };
    }
    others(record, signal)?;
    init(record, signal)
}

fn init(record: &Record, signal: i32) -> Result<(), Errno> {
    record.pidfd()?.map_or(Err(Errno::ESRCH), |init| pidfd::signal(&init, signal))
}

/// Signals every process of a container but its init, which has to be there still: they are known by what they
/// share with it. Each is looked at again once its descriptor is open, so a pid that was reused in between is
/// left alone.
fn others(record: &Record, signal: i32) -> Result<(), Errno> {
    let Some(wanted) = home(record)? else { return Ok(()) };
    let others = pids(record)?.into_iter().filter(|pid| *pid != record.pid);
    signal_those(others, mark(record), wanted, signal)
}

fn signal_those(pids: impl Iterator<Item = i32>, kind: &str, number: u64, signal: i32) -> Result<(), Errno> {
    for pid in pids {
        let Ok(fd) = pidfd::open(pid) else { continue };
        if namespace(&pid.to_string(), kind)? == Some(number) {
            // It may have ended by itself.
            let _ = pidfd::signal(&fd, signal);
        }
    }
    Ok(())
}

/// Kills what would be left of a container after its init, which is to be killed next: with a pid namespace of
/// its own that is nothing, the kernel sees to it; with a cgroup, that goes with it.
///
/// # Errors
/// As [`pids`].
pub fn sweep(record: &Record) -> Result<(), Errno> {
    if record.owns_pids || record.cgroup.is_some() {
        return Ok(());
    }
    others(record, libc::SIGKILL)
}

/// What may be left of a container after its init: whoever shares its mount namespace.
#[derive(Debug)]
pub struct Rest {
    /// Held, so that its number is nobody else's even when all of them are gone.
    _namespace: File,
    number: u64,
}

impl Rest {
    /// Of a container whose program runs. None where nothing can be left, as [`sweep`] has it, and where the mount
    /// namespace is our own as well.
    pub fn of(record: &Record) -> Option<Rest> {
        if record.owns_pids || record.cgroup.is_some() || record.shares_mounts() {
            return None;
        }
        let file = File::open(format!("/proc/{}/ns/mnt", record.pid)).ok()?;
        let number = file.metadata().ok()?.ino();
        (namespace("self", "mnt").ok()? != Some(number)).then_some(Rest { _namespace: file, number })
    }

    /// Kills it, once init has ended.
    ///
    /// # Errors
    /// A /proc that does not list it.
    pub fn end(self) -> Result<(), Errno> {
        // What is killed may have had a child just before.
        for _ in 0..ROUNDS {
            let left = sharing("mnt", self.number)?;
            if left.is_empty() {
                break;
            }
            signal_those(left.into_iter(), "mnt", self.number, libc::SIGKILL)?;
        }
        Ok(())
    }
}

/// How often it is looked for what has come in the meantime.
const ROUNDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::status;

    /// A container whose init is our own test, in our own namespaces.
    fn of_the_host() -> Record {
        let pid = std::process::id() as i32;
        serde_json::from_value(serde_json::json!({
            "ociVersion": "1.3.0",
            "id": "x",
            "pid": pid,
            "startTime": status::start_time(pid).unwrap(),
            "bootId": status::boot_id().unwrap(),
            "bundle": "/",
            "rootfs": "/",
            "created": "",
            "owner": 0,
            "namespaces": 0,
        }))
        .unwrap()
    }

    #[test]
    fn a_container_in_the_namespaces_of_the_host_is_init_alone() {
        for owns_pids in [false, true] {
            let record = Record { owns_pids, ..of_the_host() };
            assert_eq!(home(&record), Ok(None));
            assert_eq!(pids(&record), Ok(vec![record.pid]));
        }
    }

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
            ("0", Some(0)),
            ("-1", None),
            ("65", None),
            ("SIGFLY", None),
            ("", None),
        ] {
            assert_eq!(number(text), wanted, "{text}");
        }
    }
}
