//! The parent's side of `exec`: a child that enters a running container.

use super::cgroup::Entrance;
use super::seccomp::Agent;
use super::{Guarded, before_and_after, explain, limits, oom, open_proc, spawn_in};
use crate::init::{self, Orders, StateText};
use crate::plan::degrade::Degradation;
use crate::plan::process::Process;
use crate::plan::step::Step;
use crate::report::{Act, Failure};
use crate::seccomp::Filter;
use crate::sync::{self, Channel, FromInit, ToInit};
use crate::sys;
use crate::sys::clone::{Child, Join};
use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use std::os::fd::{AsFd, OwnedFd};

/// The ways into a container's namespaces, in the order in which they are taken.
#[derive(Debug)]
pub struct Doors(Vec<(CloneFlags, OwnedFd)>);

impl Doors {
    /// All at once by the descriptor of a process that runs in them; `kinds` are `CLONE_NEW*` bits.
    pub fn of_process(pidfd: OwnedFd, kinds: i32) -> Doors {
        Doors(vec![(CloneFlags::from_bits_retain(kinds), pidfd)])
    }

    /// One by one, lent by an init that waits for `start` and lets nobody look into it.
    ///
    /// # Errors
    /// An init that is gone.
    pub fn lent(init: &Channel, container: &str) -> Result<Doors, Failure> {
        let act = || format!("cannot borrow the namespaces of container {container}");
        init.tell(ToInit::Lend).act(act)?;
        let mut doors = Vec::new();
        loop {
            match init.reported().act(act)? {
                Some(FromInit::Namespace { kind, file }) => {
                    doors.push((CloneFlags::from_bits_retain(kind), file));
                }
                Some(FromInit::Ready) => return Ok(Doors(doors)),
                _ => return Err(Failure::new(act(), "its init is gone: broken pipe")),
            }
        }
    }
}

/// What it takes.
#[derive(Debug)]
pub struct Joining<'a> {
    pub container: &'a str,
    /// What to enter.
    pub doors: &'a Doors,
    pub process: &'a Process,
    pub steps: &'a [Step],
    pub filter: Option<&'a Filter>,
    pub guard_binary: bool,
    pub agent: Option<&'a Agent>,
    pub signals: SigSet,
    pub oom_score_adj: Option<i32>,
    /// The container's cgroup.
    pub cgroup: Option<&'a Entrance<'a>>,
}

/// A process that is inside and waits.
#[derive(Debug)]
pub struct Joined<'a> {
    joining: &'a Joining<'a>,
    child: Guarded,
    channel: Channel,
    pub console: Option<OwnedFd>,
    pub degradations: Vec<Degradation>,
}

/// Enters.
///
/// # Errors
/// A namespace that does not let us in, or what the child reports.
pub fn join<'a>(joining: &'a Joining<'a>) -> Result<Joined<'a>, Failure> {
    let id = joining.container;
    let act = || format!("cannot exec in container {id}");
    let proc = open_proc()?;
    // Hooks are for the container's life, not for a process that joins it.
    let nothing = StateText::split(&serde_json::Value::Null);
    let (ours, theirs) = sync::pair().act(act)?;
    let joins: Vec<Join<'_>> =
        joining.doors.0.iter().map(|(kinds, fd)| Join { fd: fd.as_fd(), kinds: *kinds }).collect();
    let (joins, cgroup_namespace) = before_and_after(joins);
    let orders = Orders {
        namespaces: None,
        cgroup_namespace,
        root_inside: false,
        steps: joining.steps,
        process: joining.process,
        filter: joining.filter,
        create_container: &[],
        start_container: &[],
        creating: &nothing,
        created: &nothing,
        start_socket: None,
        signals: joining.signals,
        guard_binary: joining.guard_binary,
        agent: joining.agent.map(|agent| (&agent.socket, &agent.greeting)),
        proc: &proc,
    };
    limits::raise(&joining.process.rlimits, id)?;
    let score = oom::lend(joining.oom_score_adj, id)?;
    // From before the first namespace is entered: who is inside must find nothing of ours to look into
    // (CVE-2016-9962).
    sys::process::set_undumpable().act(act)?;
    let spawned = spawn_in(&joins, CloneFlags::empty(), joining.cgroup.map(Entrance::fd), &mut || {
        sys::fds::abandon(ours.as_fd());
        init::live(&orders, &theirs)
    });
    let (child, in_cgroup) = spawned
        .map_err(|error| Failure::errno(format!("cannot join namespaces of container {id}"), error.errno))?;
    let mut joined = Joined {
        joining,
        child: Guarded(Some(child)),
        channel: ours,
        console: None,
        degradations: Vec::new(),
    };
    drop((theirs, score));
    if let Some(cgroup) = joining.cgroup.filter(|_| !in_cgroup) {
        cgroup.admit(joined.pid()?, id)?;
    }
    joined.come_up()?;
    Ok(joined)
}

impl Joined<'_> {
    fn come_up(&mut self) -> Result<(), Failure> {
        let id = self.joining.container;
        self.tell(ToInit::Mapped)?;
        loop {
            match self.hear()? {
                Some(FromInit::Ready) => return Ok(()),
                Some(FromInit::Console(master)) => self.console = Some(master),
                Some(FromInit::FellBack { step }) => {
                    let other = self.joining.steps.get(usize::from(step)).and_then(|step| step.or.as_ref());
                    self.degradations.extend(other.map(|other| other.cost.clone()));
                }
                Some(FromInit::Failed(failed)) => return Err(self.explain(&failed)),
                Some(FromInit::Mounted | FromInit::Namespace { .. }) => {}
                None => {
                    return Err(Failure::new(
                        format!("cannot exec in container {id}"),
                        "the process died before it was ready",
                    ));
                }
            }
        }
    }

    fn hear(&self) -> Result<Option<FromInit>, Failure> {
        self.channel
            .reported()
            .act(|| format!("cannot hear the process in container {}", self.joining.container))
    }

    fn tell(&self, message: ToInit) -> Result<(), Failure> {
        match self.channel.tell(message) {
            // Its end of file says the rest.
            Ok(()) | Err(sys::Errno::EPIPE | sys::Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(Failure::errno(
                format!("cannot talk to the process in container {}", self.joining.container),
                errno,
            )),
        }
    }

    fn explain(&self, failed: &crate::sync::Failed) -> Failure {
        let process = self.joining.process;
        let program =
            process.args.iter().next().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
        explain::late_failure(failed, self.joining.container, &program, &process.cwd.to_string_lossy())
    }

    /// The pid of the process in our pid namespace.
    ///
    /// # Errors
    /// None before it has started.
    pub fn pid(&self) -> Result<i32, Failure> {
        Ok(self.child.child()?.pid)
    }

    /// Has it run its program.
    ///
    /// # Errors
    /// Why it does not.
    pub fn start(mut self) -> Result<Child, Failure> {
        self.tell(ToInit::Start)?;
        loop {
            match self.hear()? {
                None => break,
                Some(FromInit::Failed(failed)) => return Err(self.explain(&failed)),
                Some(_) => {}
            }
        }
        let gone = || {
            Failure::new(format!("cannot exec in container {}", self.joining.container), "the child is gone")
        };
        self.child.0.take().ok_or_else(gone)
    }
}
