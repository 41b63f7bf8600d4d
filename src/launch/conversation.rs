//! Launch's end of the conversation with a child, as [`crate::sync`] draws it: the same for init and for a process
//! that joins a container.
//!
//! The child ends with the conversation, unless it was let go: whatever fails on our side, nobody is left waiting
//! for a word that never comes.

use super::layers::{PATIENCE, Server};
use super::net_devices::Moved;
use super::network::Connected;
use super::rdt::Placed;
use crate::plan::degrade::Degradation;
use crate::plan::step::{Fallback, Op, Served, Step};
use crate::report::{Act, Failure};
use crate::sync::{Channel, Failed, FromInit, ToInit};
use crate::sys::clone::Child;
use crate::sys::{self, Errno, pidfd};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// A child, and the line to it.
#[derive(Debug)]
pub struct Conversation {
    /// None once it is let go.
    child: Option<Child>,
    channel: Channel,
    /// Who it is, for errors: `init of container web`.
    with: String,
}

/// What the host does while the child gets ready.
pub trait Host {
    /// The child has made its mounts, and goes on after this: hooks.
    ///
    /// # Errors
    /// The hook that failed.
    fn mounted(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// The mount that a step is to show, of the tree that the child could open or could not. An errno is for the
    /// child to report.
    ///
    /// # Errors
    /// Why it cannot be as it is to be.
    fn shown(&mut self, _step: u16, _tree: Option<OwnedFd>) -> Result<sys::Result<OwnedFd>, Failure> {
        // Whoever joins mounts nothing.
        Ok(Err(Errno::EINVAL))
    }

    /// The child lends one of its namespaces.
    ///
    /// # Errors
    /// Why nothing can be done with it.
    fn lent(&mut self, _kind: CloneFlags, _file: OwnedFd) -> Result<(), Failure> {
        Ok(())
    }
}

/// For a process that joins a container, the host has done what it had to.
impl Host for () {}

/// What came to light until the child was ready.
#[derive(Debug, Default)]
pub struct Ready {
    /// What only the kernel knew.
    pub degradations: Vec<Degradation>,
    /// The master of the terminal.
    pub console: Option<OwnedFd>,
    /// Who connects it to a network.
    pub network: Option<Connected>,
    /// What has moved from the host's network into its own.
    pub devices: Option<Moved>,
    /// Its share of caches and memory bandwidth.
    pub rdt: Option<Placed>,
    /// What serves the root file system.
    pub server: Option<Server>,
    /// How many bytes of it had to be copied, and how many files were left out.
    copied: Option<(u64, u64)>,
}

impl Ready {
    /// What the server said that does not serve; nothing where there is none.
    fn said(&mut self) -> String {
        self.server.as_mut().map(Server::said).unwrap_or_default()
    }

    /// Another means was used.
    fn fell_back(&mut self, other: Option<&Fallback>) {
        let Some(other) = other else { return };
        let mut cost = other.cost.clone();
        if !matches!(other.op, Op::Served(_)) {
            let said = self.said();
            if !said.is_empty() {
                cost.because = format!("{} ({said})", cost.because);
            }
            self.server = None;
        }
        if let Some((bytes, left_out)) = self.copied.take() {
            cost.got = format!("{} of {} MiB", cost.got, bytes.div_ceil(1 << 20));
            if left_out > 0 {
                cost.got = format!("{} without {left_out} files that cannot be read or made", cost.got);
            }
        }
        self.degradations.push(cost);
    }
}

impl Conversation {
    /// With a child that has just been cloned.
    pub fn begin(child: Child, channel: Channel, with: String) -> Conversation {
        Conversation { child: Some(child), channel, with }
    }

    /// The child.
    ///
    /// # Errors
    /// None before it is let go.
    pub fn child(&self) -> Result<&Child, Failure> {
        self.child.as_ref().ok_or_else(|| Failure::new(format!("cannot talk to {}", self.with), "it is gone"))
    }

    /// Tells it something. That it is dead is no error here: it has said why, or its end of file will say it.
    ///
    /// # Errors
    /// A line that is broken otherwise.
    pub fn tell(&self, message: ToInit) -> Result<(), Failure> {
        match self.channel.tell(message) {
            Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(Failure::errno(format!("cannot talk to {}", self.with), errno)),
        }
    }

    fn hear(&self) -> Result<Option<FromInit>, Failure> {
        match self.channel.reported() {
            // Gone is gone.
            Err(Errno::ECONNRESET) => Ok(None),
            other => other.act(|| format!("cannot hear {}", self.with)),
        }
    }

    /// Whether it says something in this time.
    fn waited(&self, patience: Duration) -> Result<bool, Failure> {
        let mut heard = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let ready = sys::retry(|| poll(&mut heard, timeout)).act(|| format!("cannot hear {}", self.with))?;
        Ok(ready > 0)
    }

    /// Why something that we did for the child failed: what the child says of its own end, in the words of `explain`,
    /// where it has come to one, else what we saw of it.
    pub fn reason(&self, seen: Failure, explain: impl Fn(&Failed) -> Failure) -> Failure {
        match self.waited(Duration::ZERO).and_then(|said| if said { self.hear() } else { Ok(None) }) {
            Ok(Some(FromInit::Failed(failed))) => explain(&failed),
            Ok(_) => seen,
            Err(failure) => failure,
        }
    }

    /// Listens until the child may run its program, and answers it by `host`.
    ///
    /// # Errors
    /// What the child reports, in the words of `explain`; what `host` returns.
    pub fn until_ready(
        &self,
        steps: &[Step],
        explain: impl Fn(&Failed) -> Failure,
        host: &mut dyn Host,
    ) -> Result<Ready, Failure> {
        let mut ready = Ready::default();
        let mut awaited = false;
        loop {
            if std::mem::take(&mut awaited) && !self.waited(PATIENCE)? {
                // What init asks of it is refused then, and it goes on by other means.
                ready.server.iter_mut().for_each(Server::give_up);
            }
            match self.hear()? {
                Some(FromInit::Ready) => return Ok(ready),
                Some(FromInit::FellBack { step, nth }) => {
                    let other = steps.get(usize::from(step)).and_then(|step| step.or.get(usize::from(nth)));
                    ready.fell_back(other);
                }
                Some(FromInit::Serve { step, userns }) => {
                    let wanted = served_of(steps, step).ok_or(Errno::EINVAL);
                    let mount =
                        wanted.and_then(|wanted| Server::start(wanted, &userns)).map(|(server, mount)| {
                            ready.server = Some(server);
                            awaited = true;
                            mount
                        });
                    self.channel.lend(mount).act(|| format!("cannot talk to {}", self.with))?;
                }
                Some(FromInit::Served) => {}
                Some(FromInit::Copied { bytes, left_out }) => ready.copied = Some((bytes, left_out)),
                Some(FromInit::Mounted) => {
                    host.mounted()?;
                    self.tell(ToInit::Provisioned)?;
                }
                Some(FromInit::Source { step, tree }) => {
                    let mount = host.shown(step, tree)?;
                    self.channel.lend(mount).act(|| format!("cannot talk to {}", self.with))?;
                }
                Some(FromInit::Console(master)) => ready.console = Some(master),
                Some(FromInit::Namespace { kind, file }) => {
                    host.lent(CloneFlags::from_bits_retain(kind), file)?;
                }
                Some(FromInit::Failed(mut failed)) => {
                    if failed.detail.is_empty() {
                        failed.detail.extend(ready.said().into_bytes());
                    }
                    return Err(explain(&failed));
                }
                None => {
                    let act = format!("cannot start {}", self.with);
                    return Err(Failure::new(act, "it died before it was ready: broken pipe"));
                }
            }
        }
    }

    /// Has the child run its program, and lets it go once it does: its end of the line closes with the exec.
    ///
    /// # Errors
    /// Why it does not, in the words of `explain`.
    pub fn start(mut self, explain: impl Fn(&Failed) -> Failure) -> Result<Child, Failure> {
        execute(&self.channel, &self.with, explain)?;
        self.child
            .take()
            .ok_or_else(|| Failure::new(format!("cannot start {}", self.with), "it is gone already"))
    }

    /// Lets the child go as it is.
    pub fn leave(mut self) {
        self.child = None;
    }
}

/// The layers that a step has somebody serve.
fn served_of(steps: &[Step], step: u16) -> Option<&Served> {
    steps.get(usize::from(step))?.means().find_map(|op| match op {
        Op::Served(served) => Some(served),
        _ => None,
    })
}

/// Has one that waits run its program, and listens until it does: the line is close-on-exec.
///
/// # Errors
/// Why it does not, in the words of `explain`; that it was gone before it could be told.
pub fn execute(channel: &Channel, with: &str, explain: impl Fn(&Failed) -> Failure) -> Result<(), Failure> {
    let told = match channel.tell(ToInit::Start) {
        Ok(()) => true,
        // It may have said why.
        Err(Errno::EPIPE | Errno::ECONNRESET) => false,
        Err(errno) => return Err(Failure::errno(format!("cannot talk to {with}"), errno)),
    };
    loop {
        match channel.reported() {
            Ok(None) if told => return Ok(()),
            Ok(None) | Err(Errno::ECONNRESET) => {
                return Err(Failure::new(format!("cannot start {with}"), "it has stopped"));
            }
            Ok(Some(FromInit::Failed(failed))) => return Err(explain(&failed)),
            Ok(Some(_)) => {}
            Err(errno) => return Err(Failure::errno(format!("cannot hear {with}"), errno)),
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        // Undo: nothing of what was begun may stay. It may be dead already (ESRCH), and then it still has
        // to be waited for.
        let _ = pidfd::signal(&child.pidfd, libc::SIGKILL);
        let _ = sys::retry(|| nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid), None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Place, pair};

    fn explain(failed: &Failed) -> Failure {
        Failure::errno("cannot do it", failed.errno)
    }

    fn refused(channel: &Channel) -> String {
        execute(channel, "init", explain).unwrap_err().to_string()
    }

    #[test]
    fn one_that_is_gone_does_not_run() {
        let (launch, init) = pair().unwrap();
        drop(init);
        assert_eq!(refused(&launch), "cannot start init: it has stopped");
    }

    #[test]
    fn one_that_is_gone_is_heard_all_the_same() {
        let (launch, init) = pair().unwrap();
        let failed = Failed { place: Place::Sync, errno: Errno::EINVAL, detail: Vec::new() };
        init.report(&FromInit::Failed(failed)).unwrap();
        drop(init);
        assert_eq!(refused(&launch), "cannot do it: invalid argument");
    }

    #[test]
    fn one_that_is_told_and_closes_its_line_runs() {
        let (launch, init) = pair().unwrap();
        let told = std::thread::spawn(move || init.told().unwrap());
        execute(&launch, "init", explain).unwrap();
        assert_eq!(told.join().unwrap(), Some(ToInit::Start));
    }
}
