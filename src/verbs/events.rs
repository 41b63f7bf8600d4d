//! `events`: what a container uses, from time to time, and when it wants more memory than it may have.
//!
//! One process with one thread waits for everything at once: poll(2) ends at the next tick, when init ends, when the
//! kernel has changed memory.events or cgroup.events, or when nobody reads our output any more. A change of these
//! files wakes us, and what has changed is told by reading them again: kills that happen in quick succession wake
//! us once, but the counter has them all.

use crate::cgroup::{Cgroup, event, stats};
use crate::report::{Act, Failure, io_text};
use crate::state::Record;
use crate::state::store::Store;
use crate::sys::fds::{io_errno, standard};
use crate::sys::{self, Errno};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// A line of the output.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
enum Event<'a> {
    Stats { id: &'a str, data: &'a stats::Stats },
    Oom { id: &'a str },
}

/// `bryo events`.
pub fn events(store: &Store, id: &str, interval: &str, once: bool) -> Result<u8, Failure> {
    let act = || format!("cannot watch container {id}");
    // In the order in which runc looks at these.
    let interval = nanoseconds(interval).ok_or_else(|| {
        Failure::new(act(), format!("invalid value {interval:?} for flag -interval: parse error"))
            .fix("give a duration such as 5s, 1m30s or 500ms")
    })?;
    let (_, record) = store.open("watch", id)?;
    let interval = u64::try_from(interval).ok().filter(|n| *n > 0).map(Duration::from_nanos);
    let interval = interval.ok_or_else(|| Failure::new(act(), "duration interval must be greater than 0"))?;
    let not_running = || Failure::new(act(), format!("container with id {id} is not running"));
    let mut watched = Watched::open(&record).act(act)?.ok_or_else(not_running)?;
    if once {
        let stats = watched.stats().act(act)?.ok_or_else(not_running)?;
        tell(&Event::Stats { id, data: &stats })?;
        return Ok(0);
    }
    let mut tick = Instant::now() + interval;
    loop {
        if !watched.wait(tick).act(act)? {
            return Ok(0);
        }
        // Whatever is killed is counted first, and ends then: asked the other way round, the last kill would be
        // missed.
        let ended = watched.has_ended().act(act)?;
        for _ in 0..watched.new_kills().act(act)? {
            if !tell(&Event::Oom { id })? {
                return Ok(0);
            }
        }
        if ended {
            return Ok(0);
        }
        let now = Instant::now();
        if now >= tick {
            // A cgroup that has gone in this very moment is the end, which is seen above.
            if let Some(stats) = watched.stats().act(act)? {
                if !tell(&Event::Stats { id, data: &stats })? {
                    return Ok(0);
                }
            }
            tick = (tick + interval).max(now);
        }
    }
}

/// Prints an event. Says whether anybody still reads.
fn tell(event: &Event<'_>) -> Result<bool, Failure> {
    let act = "cannot write an event";
    let text = serde_json::to_string(event).map_err(|e| Failure::new(act, e.to_string()))?;
    // One call, and with it one line at once for every reader of a pipe.
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(act, io_text(&error))),
    }
}

/// A container that runs.
struct Watched {
    init: OwnedFd,
    cgroup: Option<Counters>,
}

/// What the kernel tells of its cgroup.
struct Counters {
    cgroup: Cgroup,
    /// cgroup.events.
    events: File,
    /// memory.events, where the memory controller is enabled.
    memory: Option<File>,
    /// The processes killed for want of memory that are known.
    kills: u64,
}

impl Watched {
    /// `None` where it does not run.
    fn open(record: &Record) -> sys::Result<Option<Watched>> {
        let Some(init) = record.pidfd()? else { return Ok(None) };
        let cgroup = match &record.cgroup {
            Some(recorded) => Some(Counters::open(recorded.open()?)?),
            None => None,
        };
        Ok(Some(Watched { init, cgroup }))
    }

    /// Waits until `deadline` at most, and until something has happened. Says whether anybody still reads.
    fn wait(&self, deadline: Instant) -> sys::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rather a little late than often too early.
        let timeout = left + Duration::from_nanos(999_999);
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![PollFd::new(self.init.as_fd(), PollFlags::POLLIN)];
        for file in self.cgroup.iter().flat_map(Counters::files) {
            fds.push(PollFd::new(file.as_fd(), PollFlags::POLLPRI));
        }
        // That its other end was closed is told unasked.
        let output = standard(libc::STDOUT_FILENO);
        let others = fds.len();
        fds.extend(output.map(|output| PollFd::new(output, PollFlags::empty())));
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => return Ok(true),
            other => other?,
        };
        Ok(!fds[others..].iter().any(|output| output.any() == Some(true)))
    }

    /// Whether init has ended, or everything that was in the cgroup.
    fn has_ended(&self) -> sys::Result<bool> {
        let empty = match &self.cgroup {
            Some(counters) => counters.is_empty()?,
            None => false,
        };
        Ok(empty || is_readable(&self.init)?)
    }

    /// How many were killed for want of memory since the last call.
    fn new_kills(&mut self) -> sys::Result<u64> {
        let Some(counters) = &mut self.cgroup else { return Ok(0) };
        // What was removed cannot be asked any more.
        let Some(kills) = counters.count_kills()? else { return Ok(0) };
        let new = kills.saturating_sub(counters.kills);
        counters.kills = kills;
        Ok(new)
    }

    /// `None` where the cgroup is gone, and with it the container.
    fn stats(&self) -> sys::Result<Option<stats::Stats>> {
        let Some(counters) = &self.cgroup else { return Ok(Some(stats::unavailable())) };
        match stats::stats(&counters.cgroup) {
            Ok(stats) => Ok(Some(stats)),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl Counters {
    fn open(cgroup: Cgroup) -> sys::Result<Counters> {
        let events = File::from(cgroup.file("cgroup.events")?);
        let memory = match cgroup.file("memory.events") {
            Ok(file) => Some(File::from(file)),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        let mut counters = Counters { cgroup, events, memory, kills: 0 };
        counters.kills = counters.count_kills()?.unwrap_or(0);
        Ok(counters)
    }

    fn files(&self) -> impl Iterator<Item = &File> {
        std::iter::once(&self.events).chain(&self.memory)
    }

    /// `None` where nobody counts.
    fn count_kills(&self) -> sys::Result<Option<u64>> {
        let Some(memory) = &self.memory else { return Ok(None) };
        Ok(again(memory)?.and_then(|text| event(&text, "oom_kill")))
    }

    fn is_empty(&self) -> sys::Result<bool> {
        Ok(again(&self.events)?.is_none_or(|text| event(&text, "populated") == Some(0)))
    }
}

/// Reads a file from its beginning, which also has poll(2) wait for the next change. `None` once its cgroup is
/// removed.
fn again(file: &File) -> sys::Result<Option<String>> {
    let mut buffer = [0; 1024];
    match sys::retry(|| file.read_at(&mut buffer, 0).map_err(io_errno)) {
        Ok(length) => Ok(Some(String::from_utf8_lossy(&buffer[..length]).into_owned())),
        Err(Errno::ENODEV) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A pidfd can be read, as poll(2) puts it, once its process has ended.
fn is_readable(pidfd: &OwnedFd) -> sys::Result<bool> {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    Ok(sys::retry(|| poll(&mut fds, PollTimeout::ZERO))? > 0)
}

/// A duration as Go writes it, such as `1h15m30.5s` or `-1.5ms`, in nanoseconds. None where Go could not read
/// it, nor hold it.
fn nanoseconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    // The only number that needs no unit.
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum: i64 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), split_digits);
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (name, after) = after.split_at(end);
        sum = sum.checked_add(scaled(whole, fraction, unit(name)?)?)?;
        rest = after;
    }
    Some(if negative { -sum } else { sum })
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `whole.fraction` times `unit`, what is less than a nanosecond being dropped.
fn scaled(whole: &str, fraction: &str, unit: i64) -> Option<i64> {
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // More digits than that change nothing.
    let fraction = &fraction[..fraction.len().min(18)];
    let digits = format!("0{whole}{fraction}").parse::<i128>().ok()?;
    let scale = 10_i128.pow(fraction.len() as u32);
    i64::try_from(digits.checked_mul(unit.into())? / scale).ok()
}

fn unit(name: &str) -> Option<i64> {
    Some(match name {
        "ns" => 1,
        // The micro sign, and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        const SECOND: i64 = 1_000_000_000;
        for (text, wanted) in [
            ("5s", 5 * SECOND),
            ("+5s", 5 * SECOND),
            ("1m30s", 90 * SECOND),
            ("100ms", SECOND / 10),
            ("1.5h", 5400 * SECOND),
            (".5s", SECOND / 2),
            ("5.s", 5 * SECOND),
            ("1h15m30.918273645s", 4530 * SECOND + 918_273_645),
            ("3us", 3000),
            ("3\u{b5}s", 3000),
            ("3\u{3bc}s", 3000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("0.9999999999999s", 999_999_999),
            ("0.100000000000000000000000001s", SECOND / 10),
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("-1.5s", -3 * SECOND / 2),
            ("9223372036854775807ns", i64::MAX),
        ] {
            assert_eq!(nanoseconds(text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_no_duration() {
        for text in [
            "",
            "+",
            "-",
            "5",
            "00",
            "s",
            ".",
            ".s",
            "1.2.3s",
            "5 s",
            " 5s",
            "5s ",
            "5S",
            "5sec",
            "1d",
            "1s-",
            "1h-5m",
            "--5s",
            "1e3s",
            "0x5s",
            "5\u{663}s",
            "9223372036854775808ns",
            "2562048h",
            "99999999999999999999s",
            "9223372036854775807ns1ns",
        ] {
            assert_eq!(nanoseconds(text), None, "{text:?}");
        }
    }

    #[test]
    fn events_have_the_shape_of_runc() {
        let oom = serde_json::to_string(&Event::Oom { id: "web" }).unwrap();
        assert_eq!(oom, r#"{"type":"oom","id":"web"}"#);
        let data = stats::unavailable();
        let stats = serde_json::to_string(&Event::Stats { id: "web", data: &data }).unwrap();
        assert!(stats.starts_with(r#"{"type":"stats","id":"web","data":{"available":false,"#), "{stats}");
    }
}
