//! The network's helper: started, waited for, and ended with the container.
//!
//! ```text
//!   launch ---- clone ----> watcher ---- fork, exec ----> helper (pasta, slirp4netns)
//!     |  <---- Report ------   |  <---- "ready", stderr -----
//!     |  ---- Keep --------->  |
//!    ends                      polls: container's pidfd, helper's pidfd
//! ```
//!
//! A helper has to end with the container, also when nobody deletes it and bryo is long gone. Neither helper
//! sees that end by itself: both hold the namespace that they serve, pasta can only look whether a path has gone, and
//! nobody may look into init's directory of /proc; slirp4netns waits for a hang-up, which a pidfd gives since Linux
//! 6.9 alone, and a pipe of init's is closed by its exec already. So there is a [`watch`]er, as small as a process
//! can be: a copy of ours that sleeps in poll(2) until one of the two has ended. The helper is its child and
//! dies with it. Should launch end without having said that the container is to be kept, both go as well.
//!
//! The two live where launch was started: in the caller's cgroup, so that a paused container's network
//! neither stops nor is counted or killed with it, and in a session of their own, out of reach of a terminal's
//! signals. They get no environment and none of our descriptors.

mod holder;
mod ports;
mod watch;

use crate::plan::network::{Helper, HelperKind};
use crate::report::{Act, Failure, errno_text, one_line};
use crate::state::{Process, RecordedNetwork, status};
use crate::sys::clone::{self, Child};
use crate::sys::{self, Errno, fds, pidfd};
use holder::Holder;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use watch::{Ending, Orders, Report, Word};

pub use ports::check_free;

/// A helper on its way. Dropping it ends it, unless it was told to stay.
#[derive(Debug)]
pub struct Starting<'a> {
    helper: &'a Helper,
    state: &'a Path,
    container: &'a str,
    watcher: Watcher,
    /// Only until the helper has entered its namespaces.
    holder: Option<Holder>,
}

/// The watcher and the line to it.
#[derive(Debug)]
struct Watcher {
    process: Child,
    line: Option<OwnedFd>,
}

/// A helper that works; dropping it ends it, unless it is kept.
#[derive(Debug)]
pub struct Connected {
    watcher: Watcher,
    pub recorded: RecordedNetwork,
}

/// Starts the helper of a container: `init` is its pidfd, and the namespaces are those that the helper enters, the user
/// namespace only where it is not ours.
///
/// # Errors
/// What clone(2) or a namespace refuses.
pub fn start<'a>(
    helper: &'a Helper,
    state: &'a Path,
    container: &'a str,
    init: BorrowedFd<'_>,
    user: Option<OwnedFd>,
    network: OwnedFd,
) -> Result<Starting<'a>, Failure> {
    let act = || format!("cannot start {} for container {container}", helper.kind.name());
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).act(act)?;
    let mut orders = Orders {
        program: &helper.program,
        argv: Vec::new(),
        directory: state,
        stdin: None,
        stdout: None,
        own_mounts: helper.as_root,
        ready: None,
    };
    let mut holder = None;
    match helper.kind {
        HelperKind::Pasta => {
            orders.argv = helper.pasta(user.is_some());
            (orders.stdin, orders.stdout) = (Some(network), user);
        }
        HelperKind::Slirp4netns => {
            let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).act(act)?;
            let held = Holder::hold(user.as_ref(), &network).act(act)?;
            orders.argv = helper.slirp4netns(held.pid(), std::os::fd::AsRawFd::as_raw_fd(&write));
            orders.ready = Some((read, write));
            holder = Some(held);
        }
    }
    let process = clone::spawn(&[], CloneFlags::empty(), None, &mut || watch::live(&orders, init, &theirs));
    let process = process.map_err(|error| Failure::errno(act(), error.errno))?;
    Ok(Starting { helper, state, container, watcher: Watcher { process, line: Some(ours) }, holder })
}

impl Starting<'_> {
    /// Waits until the network is there, ports included.
    ///
    /// # Errors
    /// What the helper said at its end; `NET-TIMEOUT` where it said nothing for too long.
    pub fn connected(self) -> Result<Connected, Failure> {
        let name = self.helper.kind.name();
        let act = || format!("cannot connect container {} to a network", self.container);
        let report = self.watcher.hear().act(act)?;
        let (pid, start_time) = match report {
            Report::Ready { pid, start_time } => (pid, start_time),
            Report::Failed { ending, said } => return Err(failed(name, act(), &ending, &said)),
        };
        if self.helper.kind == HelperKind::Slirp4netns && !self.helper.publish.is_empty() {
            ports::publish_by_slirp4netns(self.helper, self.state, self.container)?;
        }
        let watcher = self.watcher.process.pid;
        let cause = |errno| Failure::new(act(), format!("{name} cannot be found: {}", errno_text(errno)));
        let watcher = Process { pid: watcher, start_time: status::start_time(watcher).map_err(cause)? };
        drop(self.holder);
        Ok(Connected {
            watcher: self.watcher,
            recorded: RecordedNetwork { helper: Process { pid, start_time }, watcher },
        })
    }
}

fn failed(name: &str, act: String, ending: &Ending, said: &str) -> Failure {
    let said: Vec<&str> = said.lines().filter(|line| !is_noise(line)).collect();
    let said = one_line(&said.join("\n"));
    match ending {
        Ending::NotStarted(errno) => {
            Failure::new(act, format!("{name}: {}", errno_text(Errno::from_raw(*errno))))
        }
        Ending::TimedOut => {
            let said = if said.is_empty() { said } else { format!(", said {said}") };
            Failure::new(
                act,
                format!(
                    "{name} was not ready after {} s{said}: connection timed out",
                    watch::PATIENCE.as_secs()
                ),
            )
            .code("NET-TIMEOUT")
            .fix(format!("see whether {name} works by itself, or use another --network"))
        }
        Ending::Ended(status) => {
            let said = if said.is_empty() { status.to_string() } else { said };
            Failure::new(act, format!("{name}: {said}"))
                .code("NET-HELPER")
                .fix(format!("see whether {name} works by itself, or use another --network"))
        }
    }
}

/// What pasta of 2023 says where there is no syslog, once for each line that it says to us as well.
fn is_noise(line: &str) -> bool {
    line.trim_start().starts_with("Failed to send") && line.trim_end().ends_with("to syslog")
}

impl Watcher {
    fn hear(&self) -> sys::Result<Report> {
        let line = self.line.as_ref().ok_or(Errno::ENOTCONN)?;
        let mut buffer = [0; watch::CAPACITY];
        let (len, _) = fds::receive(line.as_fd(), &mut buffer)?;
        // It was killed, if there is nothing.
        serde_json::from_slice(&buffer[..len]).map_err(|_| Errno::EPIPE)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It ends the helper when the line breaks, and then itself.
        if self.line.take().is_some() {
            Kept(self.process.pid).await_end();
        }
    }
}

impl Connected {
    /// Lets the helper live as long as the container does.
    pub fn keep(mut self) -> Kept {
        if let Some(line) = self.watcher.line.take() {
            // A watcher that was killed has no helper any more.
            let _ = fds::send(line.as_fd(), &[Word::Keep as u8], None);
        }
        Kept(self.watcher.process.pid)
    }
}

/// The watcher of a helper that ends with its container.
#[derive(Debug)]
pub struct Kept(i32);

impl Kept {
    /// Waits for both, once the container has ended.
    pub fn await_end(self) {
        let _ = sys::retry(|| nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.0), None));
    }
}

/// How long a killed process may take to go, in milliseconds.
const PATIENCE_MS: u16 = 10_000;
/// How long the watcher may take to see that and to end, before it is killed as well.
const WATCHER_MS: u16 = 2_000;

/// Ends the helper of a container that has ended, and waits until it is gone, its ports with it.
///
/// # Errors
/// One that does not die.
pub fn stop(recorded: &RecordedNetwork, container: &str) -> Result<(), Failure> {
    let act = || format!("cannot end the network of container {container}");
    let gone = |fd: &OwnedFd, patience: u16| {
        let mut ended = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        sys::retry(|| poll(&mut ended, PollTimeout::from(patience))).map(|n| n != 0)
    };
    let kill = |fd: &OwnedFd| match pidfd::signal(fd, libc::SIGKILL) {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    };
    let watcher = recorded.watcher.pidfd().act(act)?;
    if let Some(helper) = recorded.helper.pidfd().act(act)? {
        kill(&helper).act(act)?;
        if !gone(&helper, PATIENCE_MS).act(act)? {
            return Err(Failure::new(act(), "its helper does not die: connection timed out"));
        }
    }
    // It reaps the helper, and ends.
    if let Some(watcher) = watcher {
        if !gone(&watcher, WATCHER_MS).act(act)? {
            kill(&watcher).act(act)?;
            gone(&watcher, PATIENCE_MS).act(act)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_helper_says_is_one_line_without_its_noise() {
        let said = "Failed to send 77 bytes to syslog\nFailed to bind any port for '-t 80:80', exiting\n";
        let line =
            failed("pasta", "cannot".into(), &Ending::Ended("exit status: 1".into()), said).to_string();
        let fix = "fix: see whether pasta works by itself, or use another --network";
        let cause = "pasta: Failed to bind any port for '-t 80:80', exiting";
        assert_eq!(line, format!("cannot: NET-HELPER: {cause}; {fix}"));
        let line = failed("pasta", "cannot".into(), &Ending::Ended("signal: 9".into()), "").to_string();
        assert_eq!(line, format!("cannot: NET-HELPER: pasta: signal: 9; {fix}"));
    }

    #[test]
    fn a_helper_that_hangs_has_a_code_and_a_way_out() {
        let line = failed("slirp4netns", "cannot".into(), &Ending::TimedOut, "").to_string();
        assert!(line.starts_with("cannot: NET-TIMEOUT: slirp4netns was not ready after "), "{line}");
        assert!(line.contains("; fix: "), "{line}");
    }
}
