//! The watcher: the helper's parent, for as long as the container lives.
//!
//! It works from memory that launch has made ready, and holds four descriptors: the pidfds of the container's init and
//! of the helper, the helper's standard error, which it empties, since a helper must not die of a reader that is
//! gone, and for a while the line to launch.

use crate::state::status;
use crate::sys::{self, Errno, fds, pidfd, process};
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a helper may take until the network is there.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// As much of what a helper says as is kept.
const KEPT: usize = 4096;

/// The longest report: what is kept, should every byte of it be written as `\u0000`.
pub const CAPACITY: usize = 8 * KEPT;

/// What the watcher works from; made before it is.
#[derive(Debug)]
pub struct Orders<'a> {
    pub program: &'a Path,
    /// The name that it is called by first.
    pub argv: Vec<String>,
    /// Where it works: the container's state directory.
    pub directory: &'a Path,
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    /// It gets a mount namespace of ours: slirp4netns 1.2 as root mounts its sandbox over /tmp in a copy of the
    /// caller's that has not been cut off from it, and so over the machine's /tmp.
    pub own_mounts: bool,
    /// Where it says that it is ready, and where that is heard; without it, it says its pid on standard error.
    pub ready: Option<(OwnedFd, OwnedFd)>,
}

/// What the watcher tells launch, once.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    Ready { pid: i32, start_time: u64 },
    Failed { ending: Ending, said: String },
}

/// How a helper ended that never was ready.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The errno of why it could not be executed.
    NotStarted(i32),
    TimedOut,
    Ended(String),
}

/// What launch tells the watcher.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum Word {
    /// The container is made: its network stays until its end. The end of the line without this word ends
    /// the helper.
    Keep = 1,
}

/// The watcher's life.
pub fn live(orders: &Orders<'_>, init: BorrowedFd<'_>, line: &OwnedFd) -> Infallible {
    // Whatever went wrong in here, launch is told by the end of the line.
    let _ = work(orders, init, line);
    process::exit_now(0)
}

fn work(orders: &Orders<'_>, init: BorrowedFd<'_>, line: &OwnedFd) -> Result<(), Errno> {
    process::set_undumpable()?;
    process::set_name(c"bryo:network")?;
    nix::unistd::setsid()?;
    process::restore_signals(&nix::sys::signal::SigSet::empty())?;
    let descriptors = [&orders.stdin, &orders.stdout].into_iter().flatten();
    let ends = orders.ready.iter().flat_map(|(read, write)| [read, write]);
    let mut keep: Vec<RawFd> = descriptors.chain(ends).map(AsRawFd::as_raw_fd).collect();
    keep.extend([init.as_raw_fd(), line.as_raw_fd()]);
    fds::close_all_but(&keep)?;
    for _standard_stream in 0..3 {
        let null = File::options().read(true).write(true).open("/dev/null").map_err(fds::io_errno)?;
        std::mem::forget(null);
    }
    // So that no directory is in use because of us.
    nix::unistd::chdir(c"/")?;
    if orders.own_mounts {
        sys::clone::unshare(CloneFlags::CLONE_NEWNS)?;
        // What the host unmounts is not kept in use by us.
        sys::mount::mount(None, c"/", None, libc::MS_SLAVE | libc::MS_REC, None)?;
    }
    let (said, stderr) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let helper = match spawn(orders, stderr) {
        Ok(helper) => helper,
        Err(errno) => {
            let ending = Ending::NotStarted(errno as i32);
            return tell(line, &Report::Failed { ending, said: String::new() });
        }
    };
    // Its own copies do; ours would keep the namespaces.
    for fd in [&orders.stdin, &orders.stdout].into_iter().flatten() {
        fds::abandon(fd.as_fd());
    }
    let ready = orders.ready.as_ref().map(|(read, write)| {
        fds::abandon(write.as_fd());
        read.as_fd()
    });
    let pidfd = pidfd::open(helper.id() as i32)?;
    let mut watch = Watch { init, line: Some(line), helper, pidfd, stderr: said.into(), said: Vec::new() };
    let begin = Instant::now();
    watch.until_ready(ready, begin + PATIENCE)?;
    watch.until_the_end()
}

/// Starts the helper as a child that dies with us, with an empty environment.
fn spawn(orders: &Orders<'_>, stderr: OwnedFd) -> Result<Child, Errno> {
    let mut command = Command::new(orders.program);
    if let Some((name, rest)) = orders.argv.split_first() {
        command.arg0(name).args(rest);
    }
    let stream = |fd: &Option<OwnedFd>| -> Result<Stdio, Errno> {
        match fd {
            Some(fd) => Ok(fd.try_clone().map_err(fds::io_errno)?.into()),
            None => Ok(Stdio::null()),
        }
    };
    command.env_clear().current_dir(orders.directory);
    command.stdin(stream(&orders.stdin)?).stdout(stream(&orders.stdout)?).stderr(stderr);
    if let Some((_, write)) = &orders.ready {
        fds::set_cloexec(write.as_raw_fd(), false)?;
    }
    process::die_with_parent(&mut command);
    command.spawn().map_err(fds::io_errno)
}

fn tell(line: &OwnedFd, report: &Report) -> Result<(), Errno> {
    let text = serde_json::to_vec(report).map_err(|_| Errno::EINVAL)?;
    fds::send(line.as_fd(), &text, None)
}

/// What is watched.
struct Watch<'a> {
    init: BorrowedFd<'a>,
    /// Until launch has said that the container is to be kept.
    line: Option<&'a OwnedFd>,
    helper: Child,
    pidfd: OwnedFd,
    stderr: File,
    said: Vec<u8>,
}

/// What there is to see.
#[derive(Debug, Default)]
struct Seen {
    over: bool,
    helper_ended: bool,
    said: bool,
    ready: bool,
}

impl Watch<'_> {
    /// Waits until the helper is ready, and reports how that went.
    fn until_ready(&mut self, ready: Option<BorrowedFd<'_>>, deadline: Instant) -> Result<(), Errno> {
        let pid = self.helper.id() as i32;
        let said_pid = |said: &[u8]| {
            let mut lines = said.split_inclusive(|byte| *byte == b'\n');
            lines.any(|line| line.strip_suffix(b"\n") == Some(pid.to_string().as_bytes()))
        };
        loop {
            let seen = self.look(ready, Some(deadline))?;
            let more = seen.said && self.listen();
            if seen.ready || ready.is_none() && said_pid(&self.said) {
                let start_time = status::start_time(pid)?;
                return self.report(&Report::Ready { pid, start_time });
            }
            let ending = if seen.over {
                return Err(Errno::ESRCH);
            } else if seen.helper_ended && !more {
                let status = self.helper.wait().map_err(fds::io_errno)?;
                Ending::Ended(status.to_string())
            } else if Instant::now() >= deadline {
                // Before anybody is told of it.
                self.kill();
                Ending::TimedOut
            } else {
                continue;
            };
            let said = String::from_utf8_lossy(&self.said).into_owned();
            self.report(&Report::Failed { ending, said })?;
            return Err(Errno::ECHILD);
        }
    }

    /// Waits for the end of the container or of the helper.
    fn until_the_end(&mut self) -> Result<(), Errno> {
        loop {
            let seen = self.look(None, None)?;
            if seen.over {
                return Ok(());
            }
            if seen.said {
                self.listen();
                self.said.clear();
            }
            if seen.helper_ended {
                // Nobody but us waits for it.
                self.helper.wait().map_err(fds::io_errno)?;
                return Ok(());
            }
        }
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.helper.kill();
        let _ = self.helper.wait();
    }

    fn look(&mut self, ready: Option<BorrowedFd<'_>>, deadline: Option<Instant>) -> Result<Seen, Errno> {
        let timeout = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        // poll(2) passes over what is -1, which none of these may be.
        let line = self.line.map_or(self.init, AsFd::as_fd);
        let mut polled = [
            PollFd::new(self.init, PollFlags::POLLIN),
            PollFd::new(line, PollFlags::POLLIN),
            PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stderr.as_fd(), PollFlags::POLLIN),
            PollFd::new(ready.unwrap_or(self.init), PollFlags::POLLIN),
        ];
        sys::retry(|| poll(&mut polled, timeout))?;
        let happened = |n: usize| polled[n].revents().is_some_and(|events| !events.is_empty());
        let readable =
            |n: usize| polled[n].revents().is_some_and(|events| events.contains(PollFlags::POLLIN));
        let mut seen = Seen {
            over: happened(0),
            helper_ended: happened(2),
            said: readable(3),
            ready: ready.is_some() && readable(4),
        };
        if self.line.is_some() && happened(1) {
            seen.over |= !self.is_kept();
        }
        Ok(seen)
    }

    /// Reads launch's word. The end of the line is none.
    fn is_kept(&mut self) -> bool {
        let Some(line) = self.line.take() else { return false };
        let mut word = [0; 1];
        let kept =
            fds::receive(line.as_fd(), &mut word).is_ok_and(|(len, _)| word[..len] == [Word::Keep as u8]);
        fds::abandon(line.as_fd());
        kept
    }

    /// Reads what the helper says; whether there may be more.
    fn listen(&mut self) -> bool {
        let mut buffer = [0; 1024];
        match std::io::Read::read(&mut self.stderr, &mut buffer) {
            Ok(len) => {
                let room = KEPT.saturating_sub(self.said.len());
                self.said.extend(buffer[..len].iter().take(room));
                len > 0
            }
            Err(_) => false,
        }
    }

    fn report(&self, report: &Report) -> Result<(), Errno> {
        self.line.map_or(Err(Errno::EPIPE), |line| tell(line, report))
    }
}

impl Drop for Watch<'_> {
    /// The helper never stays longer than we do.
    fn drop(&mut self) {
        self.kill();
    }
}
