//! The parent's side of `exec`: a child that enters a running container.

use super::cgroup::Entrance;
use super::conversation::Conversation;
use super::seccomp::Agent;
use super::{
    Ready, affinity, before_and_after, explain, limits, oom, open_proc, scheduling, spawn_in, stage,
};
use crate::init::{self, Orders, StateText};
use crate::plan::process::Process;
use crate::plan::step::Step;
use crate::report::{Act, Failure};
use crate::seccomp::Filter;
use crate::sync::{self, Channel, Failed, FromInit, Place, ToInit};
use crate::sys;
use crate::sys::clone::{Child, Join};
use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

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
    pub signals: SigSet,
    pub oom_score_adj: Option<i32>,
    /// The processors to start it on.
    pub processors: Option<&'a [u16]>,
    /// The container's cgroup.
    pub cgroup: Option<&'a Entrance<'a>>,
    /// Its root, where no namespace leads there. It is entered before anybody inside can see us, and look at the one that
    /// we had before.
    pub root: Option<&'a OwnedFd>,
}

/// A process that is inside and waits.
#[derive(Debug)]
pub struct Joined<'a> {
    joining: &'a Joining<'a>,
    talk: Conversation,
    pub found: Ready,
}

/// Enters. The agent gets the descriptor of a notifying filter, and sees the end of the connection as soon as the
/// child is through with it: one that reads to there would wait for the process otherwise, which waits for it.
///
/// # Errors
/// A namespace that does not let us in, or what the child reports.
pub fn join<'a>(joining: &'a Joining<'a>, agent: Option<Agent>) -> Result<Joined<'a>, Failure> {
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
        hook_streams: Default::default(),
        creating: &nothing,
        created: &nothing,
        start_socket: None,
        signals: joining.signals,
        guard_binary: joining.guard_binary,
        launch_reaches_more: false,
        agent: agent.as_ref().map(|agent| (&agent.socket, &agent.greeting)),
        proc: &proc,
        host_root: None,
    };
    limits::raise(&joining.process.rlimits, id)?;
    let score = oom::lend(joining.oom_score_adj, id)?;
    let processors = affinity::lend(joining.processors, id)?;
    // From before the first namespace is entered: who is inside must find nothing of ours to look into
    // (CVE-2016-9962).
    sys::process::set_undumpable().act(act)?;
    let root = joining.root.map(AsFd::as_fd);
    let spawned = spawn_in(&joins, root, CloneFlags::empty(), joining.cgroup.map(Entrance::fd), &mut || {
        sys::fds::abandon(ours.as_fd());
        // What it shows is its root by now.
        root.into_iter().for_each(sys::fds::abandon);
        init::live(&orders, &theirs)
    });
    let (child, in_cgroup) = spawned
        .map_err(|error| Failure::errno(format!("cannot join namespaces of container {id}"), error.errno))?;
    let pid = child.pid;
    stage(|| format!("nsexec container setup: process {pid} joins container {id}"));
    let talk = Conversation::begin(child, ours, format!("the process in container {id}"));
    drop((theirs, score, processors, agent));
    if let Some(cgroup) = joining.cgroup.filter(|_| !in_cgroup) {
        cgroup.admit(pid, id)?;
    }
    match joining.processors {
        Some(cpus) => stage(|| format!("nsexec: affinity: {}", affinity::mask(cpus))),
        None => affinity::reset(pid, id),
    }
    talk.tell(ToInit::Mapped)?;
    stage(|| format!("child process in init(), in container {id}"));
    let found = talk.until_ready(joining.steps, |failed| joining.explain(failed), &mut ())?;
    scheduling::set(&joining.process.scheduling, pid, id)?;
    Ok(Joined { joining, talk, found })
}

impl Joining<'_> {
    fn explain(&self, failed: &Failed) -> Failure {
        if let Place::Step(n) = failed.place {
            if let Some(step) = self.steps.get(usize::from(n)) {
                return explain::step(failed, &step.op, self.container, Path::new("/"));
            }
        }
        let program = self.process.args.iter().next().map(|a| a.to_string_lossy().into_owned());
        let cwd = self.process.cwd.to_string_lossy();
        explain::late_failure(failed, self.container, &program.unwrap_or_default(), &cwd)
    }
}

impl Joined<'_> {
    /// The process.
    ///
    /// # Errors
    /// None before it has started.
    pub fn child(&self) -> Result<&Child, Failure> {
        self.talk.child()
    }

    /// Has it run its program.
    ///
    /// # Errors
    /// Why it does not.
    pub fn start(self) -> Result<Child, Failure> {
        stage(|| format!("setns_init: about to exec in container {}", self.joining.container));
        let joining = self.joining;
        self.talk.start(|failed| joining.explain(failed))
    }
}
