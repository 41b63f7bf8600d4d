//! The parent: it makes init, gives it its ids, runs the host's hooks, and turns what init reports into
//! sentences. No decisions are made here; an `if` about the host would be a missing field of the plan.
//!
//! The order is a type: a [`Launch`] is born, then mapped, then ready, and each step consumes the one
//! before it. A launch that is dropped before it is handed over takes its init with it.

mod affinity;
pub mod cgroup;
pub mod console;
mod conversation;
pub mod copy;
mod explain;
pub mod foreground;
pub mod hooks;
pub mod host_root;
mod idmap;
pub mod join;
pub mod layers;
mod limits;
mod mounts;
mod net_devices;
pub mod network;
pub mod notify;
mod oom;
pub mod pidfd;
pub mod rdt;
pub mod rehearse;
pub mod remove;
pub mod restore;
mod scheduling;
pub mod seccomp;
pub mod unshare;

pub use conversation::{Ready, execute};
pub use explain::late_failure;

use conversation::{Conversation, Host};
use net_devices::Moved;

use crate::host::namespaces as host_namespaces;
use crate::init::{self, Orders, StateText};
use crate::plan::Plan;
use crate::plan::network::Network;
use crate::plan::process::Guard;
use crate::report::{Act, Failure, debug};
use crate::seccomp::Filter;
use crate::sync::{self, ToInit};
use crate::sys;
use crate::sys::clone::{self, Child, Join};
use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// What launch makes ready before the clone, besides the plan.
#[derive(Debug)]
pub struct Supplies {
    pub filter: Option<Filter>,
    pub creating: StateText,
    pub created: StateText,
    /// Held by init until its exec.
    pub start_socket: Option<OwnedFd>,
    /// The signal mask that our caller had.
    pub signals: SigSet,
    /// Who gets the descriptor of a notifying filter.
    pub agent: Option<seccomp::Agent>,
    /// The host's /proc.
    pub proc: OwnedFd,
    /// Where the state of the container is.
    pub state: PathBuf,
    /// Its root, where that is mounted on the host.
    pub host_root: Option<host_root::Mounted>,
}

/// Tells who debugs how far a launch has come. The stages begin with the words that they have in runc's log, which is
/// what people and scripts know to look for.
fn stage(line: impl FnOnce() -> String) {
    debug(line);
}

/// Opens the host's /proc, through which init finds itself when the container's is not to be trusted.
///
/// # Errors
/// That of open(2).
pub fn open_proc() -> Result<OwnedFd, Failure> {
    use nix::fcntl::{OFlag, open};
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(c"/proc", flags, nix::sys::stat::Mode::empty()).act(|| "cannot open /proc")
}

/// A container on its way.
#[derive(Debug)]
pub struct Launch<Stage> {
    talk: Conversation,
    stage: Stage,
}

/// Just cloned: init waits for its maps.
#[derive(Debug)]
pub struct Born {
    /// It is in its cgroup already.
    in_cgroup: bool,
}

/// Init works.
#[derive(Debug)]
pub struct Mapped;

/// Clones init, in the cgroup of `home` if that is there already. Init gets no copy of the descriptors in `ours_alone`: a lock among
/// them would be held for as long as init waits, since a lock belongs to all copies.
///
/// # Errors
/// A namespace that cannot be joined, a clone that is refused (`NS-*`).
pub fn spawn(
    plan: &Plan,
    supplies: &Supplies,
    home: &cgroup::Home,
    ours_alone: &[BorrowedFd<'_>],
) -> Result<Launch<Born>, Failure> {
    let act = || format!("cannot start container {}", plan.id);
    let mut files = Vec::new();
    for (kind, path) in &plan.namespaces.joined {
        let file = File::open(path)
            .act(|| format!("cannot join namespace {} of container {}", path.display(), plan.id))?;
        files.push((*kind, file));
    }
    let joins: Vec<Join<'_>> =
        files.iter().map(|(kinds, file)| Join { fd: file.as_fd(), kinds: *kinds }).collect();
    let (joins, cgroup_namespace) = before_and_after(joins);
    let (ours, theirs) = sync::pair().act(act)?;
    // All hooks have the same files; init cannot reach these once it is in its own root.
    let mut inside = plan.hooks.create_container.iter().chain(&plan.hooks.start_container);
    let hook_files = inside.next().map(|hook| hooks::Files::open(&hook.output)).transpose();
    let hook_files = hook_files.map_err(|cause| {
        Failure::new(act(), cause).code("HOOK").fix("correct the annotations run.oci.hooks.stdout and stderr")
    });
    let hook_files = hook_files?.unwrap_or_default();
    let orders = Orders {
        namespaces: Some(&plan.namespaces),
        cgroup_namespace,
        root_inside: !joins_user(plan)
            && plan.idmap.maps().is_some()
            && plan.idmap.maps_uid(0)
            && plan.idmap.maps_gid(0),
        steps: &plan.steps,
        process: &plan.process,
        filter: supplies.filter.as_ref(),
        create_container: &plan.hooks.create_container,
        start_container: &plan.hooks.start_container,
        hook_streams: hook_files.streams(),
        creating: &supplies.creating,
        created: &supplies.created,
        start_socket: supplies.start_socket.as_ref(),
        signals: supplies.signals,
        guard_binary: plan.guard == Guard::Stub,
        launch_reaches_more: plan.launch_reaches_more,
        agent: supplies.agent.as_ref().map(|agent| (&agent.socket, &agent.greeting)),
        proc: &supplies.proc,
        host_root: supplies.host_root.as_ref().map(host_root::Mounted::fd),
    };
    limits::raise(&plan.process.rlimits, &plan.id)?;
    let _score = oom::lend(plan.oom_score_adj, &plan.id)?;
    // Whoever is in a namespace that is joined must not look into a process that joins it. Only newuidmap has
    // to see our files of /proc, and it is not called where the user namespace is joined or there is none.
    if !joins.is_empty() && plan.idmap.maps().is_none() {
        sys::process::set_undumpable().act(act)?;
    }
    let spawned = spawn_in(&joins, None, plan.namespaces.at_clone, home.entrance(), &mut || {
        // Our copy of the parent's end would keep the conversation open after the parent's death.
        sys::fds::abandon(ours.as_fd());
        ours_alone.iter().for_each(|fd| sys::fds::abandon(*fd));
        init::live(&orders, &theirs)
    });
    let (child, in_cgroup) = spawned.map_err(|error| match error.join {
        Some(n) => {
            let kinds = joins.get(n).map(|join| join.kinds);
            let file = plan.namespaces.joined.iter().find(|(kind, _)| Some(*kind) == kinds);
            let path = file.map(|(_, path)| path.display().to_string()).unwrap_or_default();
            Failure::errno(format!("cannot join namespace {path} of container {}", plan.id), error.errno)
        }
        None => host_namespaces::explain(act(), error.errno, &host_namespaces::obstacles()),
    })?;
    stage(|| format!("nsexec container setup: init is process {}", child.pid));
    let talk = Conversation::begin(child, ours, format!("init of container {}", plan.id));
    Ok(Launch { talk, stage: Born { in_cgroup } })
}

/// Splits off the cgroup namespace: it is entered last, by the child itself, since nobody may be moved into a
/// cgroup across the root of the namespace that one is in (the mount option nsdelegate, cgroups(7)).
fn before_and_after(joins: Vec<Join<'_>>) -> (Vec<Join<'_>>, Option<Join<'_>>) {
    let of_cgroups = CloneFlags::CLONE_NEWCGROUP;
    let last = joins.iter().find(|join| join.kinds.contains(of_cgroups)).copied();
    let mut first = joins;
    first.iter_mut().for_each(|join| join.kinds.remove(of_cgroups));
    first.retain(|join| !join.kinds.is_empty());
    (first, last.map(|join| Join { kinds: of_cgroups, ..join }))
}

/// Clones a child into a cgroup, or outside of it where the kernel does not let us; says which.
fn spawn_in(
    joins: &[Join<'_>],
    root: Option<BorrowedFd<'_>>,
    fresh: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    body: &mut dyn FnMut() -> std::convert::Infallible,
) -> Result<(Child, bool), clone::SpawnError> {
    match clone::spawn_below(joins, root, fresh, cgroup, body) {
        Err(error) if cgroup.is_some() && error.join.is_none() && clone::is_about_cgroup(error.errno) => {
            clone::spawn_below(joins, root, fresh, None, body).map(|child| (child, false))
        }
        other => other.map(|child| (child, cgroup.is_some())),
    }
}

fn joins_user(plan: &Plan) -> bool {
    plan.namespaces.joined.iter().any(|(kind, _)| *kind == CloneFlags::CLONE_NEWUSER)
}

impl Launch<Born> {
    /// Sees to it that init is in its cgroup, before it makes the namespace that is rooted there.
    ///
    /// # Errors
    /// As [`cgroup::Home::settle`].
    pub fn settled(self, plan: &Plan, home: &mut cgroup::Home) -> Result<Launch<Born>, Failure> {
        let settled = home.settle(plan, self.talk.child()?, self.stage.in_cgroup);
        settled.map_err(|seen| self.talk.reason(seen, |failed| explain::failure(failed, plan)))?;
        affinity::reset(self.talk.child()?.pid, &plan.id);
        Ok(self)
    }

    /// Writes the id maps while init's /proc files are still ours.
    ///
    /// # Errors
    /// `ID-RANGE` and its kin, with what the helpers said.
    pub fn mapped(self, plan: &Plan) -> Result<Launch<Mapped>, Failure> {
        let written =
            idmap::write(&plan.idmap, self.talk.child()?.pid, &format_args!("container {}", plan.id));
        written.map_err(|seen| self.talk.reason(seen, |failed| explain::failure(failed, plan)))?;
        self.talk.tell(ToInit::Mapped)?;
        stage(|| format!("child process in init(), with the ids of container {}", plan.id));
        Ok(Launch { talk: self.talk, stage: Mapped })
    }
}

impl Launch<Mapped> {
    /// Init.
    ///
    /// # Errors
    /// None before it is released.
    pub fn child(&self) -> Result<&Child, Failure> {
        self.talk.child()
    }

    /// Goes with init to where the program may run.
    ///
    /// # Errors
    /// What init reports, as a sentence; the createRuntime hook that failed.
    pub fn ready(self, plan: &Plan, supplies: &Supplies) -> Result<Launch<Ready>, Failure> {
        let init = self.talk.child()?;
        let sources = mounts::Sources::new(plan, &supplies.proc);
        let mut side =
            Side { plan, supplies, init, sources, user: None, network: None, connected: None, devices: None };
        let explain = |failed: &sync::Failed| explain::failure(failed, plan);
        let mut stage = self.talk.until_ready(&plan.steps, explain, &mut side)?;
        side.connect()?;
        stage.network = side.connected.take();
        stage.devices = side.devices.take();
        scheduling::set(&plan.process.scheduling, init.pid, &plan.id)?;
        stage.rdt = plan.rdt.as_ref().map(|rdt| rdt::Placed::put(rdt, init.pid, &plan.id)).transpose()?;
        self::stage(|| {
            format!("init: closing the pipe to signal completion: container {} is there", plan.id)
        });
        Ok(Launch { talk: self.talk, stage })
    }
}

/// The host's side of a launch: hooks, sources of mounts, and the helper of the network.
struct Side<'a> {
    plan: &'a Plan,
    supplies: &'a Supplies,
    init: &'a Child,
    sources: mounts::Sources<'a>,
    /// Init's user namespace.
    user: Option<OwnedFd>,
    network: Option<network::Starting<'a>>,
    connected: Option<network::Connected>,
    devices: Option<Moved>,
}

impl Side<'_> {
    /// Waits for the helper, if there is one.
    fn connect(&mut self) -> Result<(), Failure> {
        if let Some(network) = self.network.take() {
            self.connected = Some(network.connected()?);
        }
        Ok(())
    }
}

impl Host for Side<'_> {
    fn shown(&mut self, step: u16, tree: Option<OwnedFd>) -> Result<sys::Result<OwnedFd>, Failure> {
        self.sources.shown(step, tree)
    }

    fn lent(&mut self, kind: CloneFlags, file: OwnedFd) -> Result<(), Failure> {
        if kind == CloneFlags::CLONE_NEWUSER {
            self.user = Some(file);
            return Ok(());
        }
        let Network { helper, devices, .. } = &self.plan.network;
        if !devices.is_empty() {
            self.devices = Some(Moved::give(devices, &file, &self.plan.id)?);
        }
        if let Some(helper) = helper {
            let init = self.init.pidfd.as_fd();
            let state = &self.supplies.state;
            self.network = Some(network::start(helper, state, &self.plan.id, init, self.user.take(), file)?);
        }
        Ok(())
    }

    fn mounted(&mut self) -> Result<(), Failure> {
        // Hooks may want to use it.
        self.connect()?;
        let Plan { id, hooks, .. } = self.plan;
        let state = self.supplies.creating.with_pid(self.init.pid);
        hooks::run_all("prestart", &hooks.prestart, &state, id)?;
        hooks::run_all("createRuntime", &hooks.create_runtime, &state, id)
    }
}

impl Launch<Ready> {
    /// Init.
    ///
    /// # Errors
    /// None before it is released.
    pub fn child(&self) -> Result<&Child, Failure> {
        self.talk.child()
    }

    /// What came to light on the way.
    pub fn found(&mut self) -> &mut Ready {
        &mut self.stage
    }

    /// Leaves init to whoever sends `start`; the state has to be on disk.
    ///
    /// # Errors
    /// None that is known.
    pub fn leave(self) -> Result<(), Failure> {
        // First: should we be killed in between, init ends, and the helper with it.
        self.stage.network.into_iter().for_each(|network| {
            network.keep();
        });
        self.stage.devices.into_iter().for_each(Moved::keep);
        self.stage.rdt.into_iter().for_each(rdt::Placed::keep);
        self.talk.tell(ToInit::Recorded)?;
        self.talk.leave();
        self.stage.server.into_iter().for_each(layers::Server::keep);
        Ok(())
    }

    /// Has init run the program, and returns the child once it does.
    ///
    /// # Errors
    /// Why it does not.
    pub fn start(self, plan: &Plan) -> Result<Child, Failure> {
        let network = self.stage.network.map(network::Connected::keep);
        let child = match self.talk.start(|failed| explain::failure(failed, plan)) {
            Ok(child) => child,
            Err(failure) => {
                network.into_iter().for_each(network::Kept::await_end);
                return Err(failure);
            }
        };
        self.stage.devices.into_iter().for_each(Moved::keep);
        self.stage.rdt.into_iter().for_each(rdt::Placed::keep);
        self.stage.server.into_iter().for_each(layers::Server::keep);
        Ok(child)
    }
}
