//! Each topic is looked at by a child of its own, all at the same time.
//!
//! A probe may be killed by an outer policy, and a file or a service that it asks may never answer. What that ends is a
//! child; the others say what they have to, and what was not looked at is itself something to say. A child's
//! processes are in a group of their own and end with it, whatever they were about to do.

use super::check::{Check, Scope};
use crate::report::errno_text;
use crate::sys::clone::{self, Child};
use crate::sys::{self, Errno, fds, process};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid, setpgid};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What a child says, a check at a time.
pub type Tell<'a> = dyn FnMut(Check) + 'a;

/// Something to look at.
pub struct Topic<'a> {
    pub name: &'static str,
    pub look: &'a dyn Fn(&mut Tell<'_>),
}

/// Looks at everything, for no longer than that.
pub fn look_at(topics: &[Topic<'_>], patience: Duration) -> Vec<Check> {
    let deadline = Instant::now() + patience;
    let looking: Vec<_> = topics.iter().map(|topic| (topic.name, Looking::start(topic))).collect();
    let mut checks = Vec::new();
    for (name, started) in looking {
        match started {
            Ok(looking) => checks.extend(looking.finish(name, deadline)),
            Err(why) => checks.push(unseen(name, format!("cannot start a process: {why}"))),
        }
    }
    checks
}

/// What nobody could look at.
fn unseen(name: &'static str, why: String) -> Check {
    let fix = "see what keeps bryo from looking: an outer seccomp filter, a limit on processes, a service that does not answer";
    Check::lacking(name, "PROBE", why, Some(fix))
        .stopping(Scope::Run | Scope::Nested | Scope::Podman | Scope::Docker)
}

struct Looking {
    child: Child,
    line: UnixStream,
}

impl Looking {
    fn start(topic: &Topic<'_>) -> Result<Looking, String> {
        let parent = getpid();
        let (line, theirs) = UnixStream::pair().map_err(|e| crate::report::io_text(&e))?;
        let mut theirs = Some(theirs);
        let born = clone::spawn(&[], CloneFlags::empty(), None, &mut || {
            fds::abandon(line.as_fd());
            // Who is not the leader of a group is killed alone.
            let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
            if let (Ok(()), Some(mut line)) = (process::die_with(parent), theirs.take()) {
                (topic.look)(&mut |check| {
                    let text = serde_json::to_vec(&check).unwrap_or_default();
                    if line.write_all(&text).and_then(|()| line.write_all(b"\n")).is_err() {
                        process::exit_now(1);
                    }
                });
                process::exit_now(0)
            }
            process::exit_now(1)
        });
        let child = born.map_err(|error| errno_text(error.errno))?;
        Ok(Looking { child, line })
    }

    /// What it has to say until the deadline, and what kept it from saying more.
    fn finish(mut self, name: &'static str, deadline: Instant) -> Vec<Check> {
        let mut said = Vec::new();
        let late = !self.listen(&mut said, deadline);
        let lines = said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut checks: Vec<Check> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let ended = self.end(late);
        let why = match ended {
            _ if late => Some("it did not end in time: connection timed out".to_string()),
            Some(WaitStatus::Exited(_, 0)) => None,
            Some(WaitStatus::Signaled(_, Signal::SIGSYS, _)) => {
                Some("an outer seccomp filter kills who looks: bad system call".to_string())
            }
            Some(WaitStatus::Signaled(_, signal, _)) => Some(format!("who looked was killed by {signal}")),
            _ => Some("who looked ended before its time".to_string()),
        };
        checks.extend(why.map(|why| unseen(name, why)));
        checks
    }

    /// Whether the other end is closed before the deadline.
    fn listen(&mut self, said: &mut Vec<u8>, deadline: Instant) -> bool {
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.line.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(_) => return false,
            }
            match self.line.read(&mut buffer) {
                Ok(0) => return true,
                Ok(len) => said.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
    }

    /// Waits for its end, and makes it the end of whatever it has started.
    fn end(&mut self, late: bool) -> Option<WaitStatus> {
        let pid = Pid::from_raw(self.child.pid);
        if late {
            // It may be between two system calls that both hang; then there is nobody else to ask.
            let _ = sys::pidfd::signal(&self.child.pidfd, nix::libc::SIGKILL);
        }
        // Not reaped yet, so that the number of its group is nobody else's.
        let _ = sys::retry(|| waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT));
        let _ = killpg(pid, Signal::SIGKILL);
        sys::retry(|| waitpid(pid, None)).ok()
    }
}
