//! Whether the process of a record lives, and is still the process that was recorded.

use super::Record;
use crate::sys::{Errno, fds, pidfd};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// The states of runtime.md, and `paused`, which runc adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// What /proc/PID/stat says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `Z` and `X` are dead.
    pub state: u8,
    /// Ticks after boot; with the pid it names a process for ever.
    pub start_time: u64,
}

/// A process that is known for ever, whoever has its pid one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pub pid: i32,
    pub start_time: u64,
}

impl Process {
    /// Whether it lives.
    ///
    /// # Errors
    /// A /proc that does not tell: to take that for a no would be to forget a process that runs.
    pub fn alive(self) -> Result<bool, Errno> {
        let stat = stat(self.pid)?;
        Ok(stat.is_some_and(|s| s.start_time == self.start_time && !matches!(s.state, b'Z' | b'X')))
    }

    /// A descriptor of it, `None` once it is gone. The start time is compared after the descriptor is open, so a
    /// reused pid is never taken for it.
    ///
    /// # Errors
    /// That of pidfd_open(2), but for `ESRCH`, and as [`Process::alive`].
    pub fn pidfd(self) -> Result<Option<OwnedFd>, Errno> {
        let fd = match pidfd::open(self.pid) {
            Err(Errno::ESRCH) => return Ok(None),
            // What it is for a thread that has got the pid of a process that is gone, before Linux 6.15 and since.
            Err(Errno::EINVAL | Errno::ENOENT) if !self.alive()? => return Ok(None),
            other => other?,
        };
        Ok(self.alive()?.then_some(fd))
    }
}

/// Reads it; `None` where there is no such process.
///
/// # Errors
/// That of open(2) and read(2), and `EBADMSG` for what makes no sense.
pub fn stat(pid: i32) -> Result<Option<Stat>, Errno> {
    match read(&format!("/proc/{pid}/stat")).map_err(fds::io_errno) {
        Ok(text) => parse(&text).ok_or(Errno::EBADMSG).map(Some),
        // The latter where it goes between the two calls.
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The start time of a process of ours.
///
/// # Errors
/// As [`stat`], and `ESRCH` where it is gone.
pub fn start_time(pid: i32) -> Result<u64, Errno> {
    stat(pid)?.map(|stat| stat.start_time).ok_or(Errno::ESRCH)
}

/// A file of /proc, which tells no size beforehand. With room from the start it is read at once, and not in pieces of
/// a line that grow.
fn read(path: &str) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(1024);
    File::open(path)?.read_to_end(&mut text)?;
    Ok(text)
}

/// Fields 3 and 22 of proc_pid_stat(5). The name in field 2 may hold anything, parentheses too.
fn parse(text: &[u8]) -> Option<Stat> {
    let after = text.iter().rposition(|&b| b == b')')? + 1;
    let mut fields = std::str::from_utf8(text.get(after..)?).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, start_time })
}

/// The id of this boot: after another one every pid means something else. It is read once, since no process outlives its
/// boot.
///
/// # Errors
/// A /proc that does not tell.
pub fn boot_id() -> std::io::Result<&'static str> {
    static THIS: OnceLock<String> = OnceLock::new();
    if let Some(id) = THIS.get() {
        return Ok(id);
    }
    let text = String::from_utf8(read("/proc/sys/kernel/random/boot_id")?).map_err(std::io::Error::other)?;
    Ok(THIS.get_or_init(|| text.trim().to_string()))
}

impl Record {
    /// Whether it is of the present boot: pids and cgroups of another one mean nothing.
    pub fn of_this_boot(&self) -> bool {
        // Where the id is not to be had, what else is known has to tell.
        boot_id().map_or(true, |id| id == self.boot_id)
    }

    /// The recorded process.
    fn process(&self) -> Process {
        Process { pid: self.pid, start_time: self.start_time }
    }

    /// Whether the recorded process lives.
    ///
    /// # Errors
    /// As [`Process::alive`].
    pub fn alive(&self) -> Result<bool, Errno> {
        if self.pid <= 0 || !self.of_this_boot() {
            return Ok(false);
        }
        self.process().alive()
    }

    /// A descriptor of the recorded process, `None` once it is gone.
    ///
    /// # Errors
    /// That of pidfd_open(2), but for `ESRCH`.
    pub fn pidfd(&self) -> Result<Option<OwnedFd>, Errno> {
        if self.pid <= 0 || !self.of_this_boot() {
            return Ok(None);
        }
        self.process().pidfd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let text = b"42 (a) b) ) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1 1";
        assert_eq!(parse(text), Some(Stat { state: b'S', start_time: 98765 }));
    }

    #[test]
    fn what_is_no_stat_is_none() {
        for text in [&b""[..], b"1", b"1 (x) ", b"1 (x) S 1 2"] {
            assert_eq!(parse(text), None);
        }
    }

    #[test]
    fn our_own_start_time_is_stable() {
        let pid = std::process::id() as i32;
        assert_eq!(start_time(pid).unwrap(), start_time(pid).unwrap());
    }
}
