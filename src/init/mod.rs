//! The child: it does what the plan says, in the order in which the plan says it.
//!
//! It runs in a copy of launch's memory, with one thread. It decides nothing, parses nothing of the
//! specification, reads no environment, logs nothing and formats no text. When something fails it reports
//! the place and the errno, and ends; the sentence is written by launch, which holds the plan.
//!
//! What it must never do is act on a path of the image without resolving it inside the root: everything
//! that touches the container's tree goes through [`crate::sys::path`].

mod copy_up;
mod exec;
mod flatten;
mod layers;
mod mounts;
mod namespaces;
mod process;
mod rehearse;
mod rootfs;

pub use layers::{Like, directory, forbidden, hollow, memory};
pub use mounts::{NO_ID_MAPS, id_maps, source};
pub use rehearse::{Note, Outcome, Scene, Script, rehearse};
pub use rootfs::place;

use crate::plan::hooks::Hook;
use crate::plan::namespaces::Namespaces;
use crate::plan::process::Process;
use crate::plan::step::{Op, Step};
use crate::seccomp::Filter;
use crate::sync::{Act, Channel, Failed, FromInit, Isolate, Place, ToInit};
use crate::sys::clone::Join;
use crate::sys::program::{Program, Streams};
use crate::sys::{self, Errno, fds};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Everything that init works from; made before the clone.
#[derive(Debug)]
pub struct Orders<'a> {
    pub namespaces: Option<&'a Namespaces>,
    /// A cgroup namespace to enter, once we are in the cgroup.
    pub cgroup_namespace: Option<Join<'a>>,
    /// Uid and gid 0 exist inside: be root for the set-up.
    pub root_inside: bool,
    pub steps: &'a [Step],
    pub process: &'a Process,
    pub filter: Option<&'a Filter>,
    pub create_container: &'a [Hook],
    pub start_container: &'a [Hook],
    /// Where all of these write to.
    pub hook_streams: Streams<'a>,
    pub creating: &'a StateText,
    pub created: &'a StateText,
    /// Where `start` connects; without it launch itself says when to go on. Open until our exec: by it others know that
    /// we wait.
    pub start_socket: Option<&'a OwnedFd>,
    /// The signal mask that the caller of bryo had.
    pub signals: SigSet,
    /// The container's root could write to our binary: keep it out of sight.
    pub guard_binary: bool,
    /// Where the descriptor of a notifying filter goes, and with which words.
    pub agent: Option<(&'a OwnedFd, &'a StateText)>,
    /// Launch may mount, and is another user than we are.
    pub launch_reaches_more: bool,
    /// The host's /proc, opened before anything of the container could be in its place.
    pub proc: &'a OwnedFd,
    /// The root, where it is mounted on the host.
    pub host_root: Option<BorrowedFd<'a>>,
}

/// The state that hooks get on their standard input, but for the pid, which nobody knows before the clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateText {
    /// The pid goes between each two.
    pieces: Vec<String>,
}

impl StateText {
    /// Stands for the pid in what is split.
    pub const MARK: i32 = i32::MIN;

    /// Splits a state whose pids are [`StateText::MARK`].
    pub fn split(state: &serde_json::Value) -> StateText {
        // No string of the state can hold this by itself: in JSON, a quote in one is escaped.
        let mark = format!("\"pid\":{}", StateText::MARK);
        StateText { pieces: state.to_string().split(&mark).map(String::from).collect() }
    }

    /// The whole text.
    pub fn with_pid(&self, pid: i32) -> String {
        self.pieces.join(&format!("\"pid\":{pid}"))
    }
}

/// Why a step failed, and where in it.
#[derive(Debug)]
struct Trouble {
    errno: Errno,
    detail: Vec<u8>,
    place: fn(u16) -> Place,
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Trouble {
        Trouble { errno, detail: Vec::new(), place: Place::Step }
    }
}

/// What init holds on to between steps.
#[derive(Debug, Default)]
struct Holding {
    /// The root mount of the container.
    root: Option<OwnedFd>,
    /// Where the upper layers of its branches are.
    storage: Option<OwnedFd>,
    /// One empty read-only tmpfs for all masked directories.
    empty: Option<OwnedFd>,
    /// The slave of the container's terminal.
    terminal: Option<OwnedFd>,
}

impl Holding {
    fn root(&self) -> Result<&OwnedFd, Errno> {
        self.root.as_ref().ok_or(Errno::EBADF)
    }
}

/// The child's life, from the clone to the program.
pub fn live(orders: &Orders<'_>, channel: &Channel) -> Infallible {
    let failed = match obey(orders, channel) {
        Ok(never) => match never {},
        Err(failed) => failed,
    };
    // Launch may be gone, and then there is nobody to tell.
    let _ = channel.report(&FromInit::Failed(failed));
    sys::process::exit_now(1)
}

fn obey(orders: &Orders<'_>, channel: &Channel) -> Result<Infallible, Failed> {
    // Stay dumpable until mapped: newuidmap refuses a /proc/PID that it does not see as ours.
    expect(channel, ToInit::Mapped)?;
    let mut holding = Holding::default();
    if let Some(join) = &orders.cgroup_namespace {
        sys::clone::setns(join.fd, join.kinds).map_err(isolate_failure(Isolate::Cgroup))?;
    }
    if let Some(namespaces) = orders.namespaces {
        namespaces::isolate(namespaces, orders.root_inside)?;
    } else {
        namespaces::joined()?;
    }
    // What ps(1) shows until the program runs.
    sys::process::set_name(c"bryo:init").map_err(process_failure(Act::Session))?;
    // Modes are the configuration's, not our caller's umask's.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    for (n, step) in (0u16..).zip(orders.steps) {
        if let Some(nth) = take(n, step, orders, channel, &mut holding)? {
            report(channel, &FromInit::FellBack { step: n, nth })?;
        }
    }
    let program = process::become_it(orders, channel, &mut holding)?;
    drop(holding);
    if orders.start_socket.is_some() {
        // From now on nobody who asks us to end is passed over: that can be as soon as create is back.
        terminating().thread_block().map_err(process_failure(Act::Signals))?;
    }
    report(channel, &FromInit::Ready)?;
    let caller = await_start(orders, channel)?;
    let caller = caller.as_ref().unwrap_or(channel);
    let result = exec::run(orders, &program, caller);
    // From here on whoever started us wants to know why not, and that may not be launch any more.
    let _ = caller.report(&FromInit::Failed(result));
    sys::process::exit_now(1)
}

/// Takes one step, by its other means where the kernel refuses the first: that of this number.
fn take(
    n: u16,
    step: &Step,
    orders: &Orders<'_>,
    channel: &Channel,
    holding: &mut Holding,
) -> Result<Option<u8>, Failed> {
    let mut trouble = match perform(n, &step.op, orders, channel, holding) {
        Ok(()) => return Ok(None),
        Err(trouble) => trouble,
    };
    let mut place = (trouble.place)(n);
    for (nth, other) in (0u8..).zip(&step.or) {
        if !other.on.contains(&(trouble.errno as i32)) {
            break;
        }
        match perform(n, &other.op, orders, channel, holding) {
            Ok(()) => return Ok(Some(nth)),
            Err(more) => (place, trouble) = (Place::Fallback(n, nth), more),
        }
    }
    Err(Failed { place, errno: trouble.errno, detail: trouble.detail })
}

fn perform(
    n: u16,
    op: &Op,
    orders: &Orders<'_>,
    channel: &Channel,
    holding: &mut Holding,
) -> Result<(), Trouble> {
    match op {
        Op::Propagation { flags } => sys::mount::mount(None, c"/", None, *flags, None)?,
        Op::Root { path, nodev, own_parent } => {
            holding.root = Some(rootfs::open(path, *nodev, *own_parent)?);
        }
        Op::HostRoot { .. } => {
            let root = orders.host_root.ok_or(Errno::EBADF)?;
            holding.root = Some(root.try_clone_to_owned().map_err(fds::io_errno)?);
        }
        Op::Overlay(wanted, beneath) => holding.root = Some(layers::overlay(wanted, beneath, orders.proc)?),
        Op::Served(wanted) => holding.root = Some(layers::served(n, wanted, orders.proc, channel)?),
        Op::Copied(wanted) => holding.root = Some(layers::copied(wanted, channel)?),
        Op::Trunk { layers: wanted, empty } => {
            let (root, storage) = layers::trunk(wanted, empty)?;
            (holding.root, holding.storage) = (Some(root), Some(storage));
        }
        Op::Branch(branch) => {
            let storage = holding.storage.as_ref().ok_or(Errno::EBADF)?;
            layers::branch(holding.root()?, storage, branch, orders.proc)?;
        }
        Op::Filesystem(filesystem) => mounts::filesystem(holding.root()?, filesystem)?,
        Op::Bind(bind) => {
            let tree = mounts::shown(n, bind, orders, channel)?;
            mounts::bind(holding.root()?, bind, &tree)?;
        }
        Op::Remount { at, properties } => mounts::remount(holding.root()?, at, properties)?,
        Op::Device { source, at, device, apart } => {
            rootfs::device(holding.root()?, source, at, *device, *apart)?;
        }
        Op::Node { at, device, mode, uid, gid } => {
            rootfs::node(holding.root()?, at, *device, *mode, (*uid, *gid))?;
        }
        Op::Symlink { at, target } => rootfs::symlink(holding.root()?, at, target)?,
        Op::Mask { at, label } => rootfs::mask(holding, at, label.as_ref())?,
        Op::ReadOnly { at } => rootfs::read_only(holding.root()?, at)?,
        Op::Directory { at } => rootfs::directory(holding.root()?, at)?,
        Op::Console { rows, columns } => rootfs::console(holding, channel, (*rows, *columns))?,
        Op::AwaitHooks => {
            channel.report(&FromInit::Mounted)?;
            match channel.told()? {
                Some(ToInit::Provisioned) => {}
                Some(_) => return Err(Errno::EBADMSG.into()),
                // Launch gave up, and nobody is left to tell.
                None => sys::process::exit_now(1),
            }
        }
        Op::Hook(n) => {
            let hook = orders.create_container.get(usize::from(*n)).ok_or(Errno::EINVAL)?;
            // As with runc, where hooks rely on it: they prepare what is not the root yet.
            nix::unistd::fchdir(holding.root()?)?;
            run_hook(hook, orders.creating, orders.hook_streams)?;
        }
        Op::Affinity(cpus) => sys::process::set_affinity(cpus)?,
        Op::OwnCgroup { at, uid, files } => rootfs::own_cgroup(holding.root()?, at, *uid, files)?,
        Op::Personality(persona) => sys::process::set_personality(*persona)?,
        Op::MemoryPolicy(policy) => sys::process::set_memory_policy(policy.mode, &policy.nodes)?,
        Op::Keyring(name) => sys::process::join_session_keyring(name)?,
        Op::Loopback => sys::net::loopback_up()?,
        Op::LendNetwork => namespaces::lend_network(orders, channel)?,
        Op::Nothing => {}
        Op::Sysctl { at, value } => rootfs::sysctl(orders.proc, at, value)?,
        Op::Hostname(name) => {
            use std::os::unix::ffi::OsStrExt;
            nix::unistd::sethostname(std::ffi::OsStr::from_bytes(name.to_bytes()))?;
        }
        Op::Domainname(name) => sys::process::set_domainname(name)?,
        Op::RootReadOnly => rootfs::root_read_only(holding.root()?)?,
        Op::Pivot => rootfs::pivot(holding.root()?)?,
        Op::MoveRoot => rootfs::move_root(holding.root()?, orders.proc)?,
        Op::Chroot => rootfs::enter(holding.root()?)?,
        Op::RootPropagation { flags } => sys::mount::mount(None, c"/", None, *flags, None)?,
    }
    Ok(())
}

/// Runs a hook from inside; the pid in its state is our own as seen in here (config.md, "Hooks").
fn run_hook(hook: &Hook, state: &StateText, streams: Streams<'_>) -> Result<(), Trouble> {
    let input = state.with_pid(nix::unistd::getpid().as_raw());
    let outcome = Program::start_into(
        streams,
        &hook.path,
        &hook.args,
        hook.env.as_deref().unwrap_or_default(),
        input.as_bytes(),
        hook.timeout,
    )
    .and_then(Program::finish)
    .map_err(|error| match error.kind() {
        std::io::ErrorKind::TimedOut => Errno::ETIMEDOUT,
        _ => fds::io_errno(error),
    })?;
    if outcome.status.success() {
        return Ok(());
    }
    // The detail begins with the status as wait(2) gives it: launch knows that for hooks it does.
    use std::os::unix::process::ExitStatusExt;
    let mut detail = outcome.status.into_raw().to_le_bytes().to_vec();
    detail.extend(outcome.output);
    Err(Trouble { detail, ..Errno::ECHILD.into() })
}

fn report(channel: &Channel, message: &FromInit) -> Result<(), Failed> {
    channel.report(message).map_err(|errno| at(Place::Sync, errno))
}

fn expect(channel: &Channel, wanted: ToInit) -> Result<(), Failed> {
    match channel.told() {
        Ok(Some(message)) if message == wanted => Ok(()),
        // Launch is gone: nothing of what was begun may stay.
        Ok(None) => sys::process::exit_now(1),
        Ok(Some(_)) => Err(at(Place::Sync, Errno::EBADMSG)),
        Err(errno) => Err(at(Place::Sync, errno)),
    }
}

fn at(place: Place, errno: Errno) -> Failed {
    Failed { place, errno, detail: Vec::new() }
}

fn process_failure(act: Act) -> impl Fn(Errno) -> Failed {
    move |errno| at(Place::Process(act), errno)
}

fn isolate_failure(what: Isolate) -> impl Fn(Errno) -> Failed {
    move |errno| at(Place::Isolate(what), errno)
}

/// Closes whatever else is open. We may wait for long, and nobody shall find in us what belongs to the host: the state
/// directory, the cgroup, what our caller had open.
fn keep_what_is_needed(orders: &Orders<'_>, channel: &Channel, socket: &OwnedFd) -> Result<(), Failed> {
    let agent = orders.agent.map(|(agent, _)| agent.as_raw_fd());
    let ours = [channel.as_fd().as_raw_fd(), socket.as_raw_fd(), orders.proc.as_raw_fd()];
    let handed_on = 0..3 + orders.process.preserved_fds as i32;
    let Streams { stdout, stderr } = orders.hook_streams;
    let hooks = [stdout, stderr].into_iter().flatten().map(|fd| fd.as_raw_fd());
    let keep: Vec<RawFd> = handed_on.chain(ours).chain(agent).chain(hooks).collect();
    match fds::close_all_but(&keep) {
        // An outer container forbids close_range(2), and ours has no proc: at the exec it all goes.
        Err(Errno::ENOENT | Errno::EACCES) => Ok(()),
        other => other.map_err(process_failure(Act::Descriptors)),
    }
}

/// The signals by which one asks a process to end. The first process of a pid namespace is not ended by a signal that it
/// has no handler for (pid_namespaces(7)), but who asks a container to end that has not started yet shall not be ignored:
/// they are blocked, until the mask of the program is restored, and listened for.
fn terminating() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT].into_iter().collect()
}

/// Waits until the program is to be run. Returns who has to be told of a failure: the connection of
/// `start`, or `None` for launch.
fn await_start(orders: &Orders<'_>, channel: &Channel) -> Result<Option<Channel>, Failed> {
    let Some(socket) = orders.start_socket else {
        expect(channel, ToInit::Start)?;
        return Ok(None);
    };
    keep_what_is_needed(orders, channel, socket)?;
    // Until the state is recorded, launch's death is ours; after it, launch may go.
    expect(channel, ToInit::Recorded)?;
    let asked = SignalFd::with_flags(&terminating(), SfdFlags::SFD_CLOEXEC);
    let asked = asked.map_err(process_failure(Act::Signals))?;
    loop {
        let mut ready = [socket.as_fd(), asked.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(process_failure(Act::StartSocket)(errno)),
        }
        if ready[1].any() == Some(true) {
            sys::process::exit_now(1);
        }
        let connection = match fds::accept(socket.as_fd()) {
            Ok(connection) => Channel::from(connection),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => continue,
            Err(errno) => return Err(process_failure(Act::StartSocket)(errno)),
        };
        match connection.told() {
            Ok(Some(ToInit::Start)) => return Ok(Some(connection)),
            // Whether it arrives is the asker's business.
            Ok(Some(ToInit::Lend)) => drop(namespaces::lend(orders, &connection)),
            // Whoever connects and leaves without a word has changed its mind.
            _ => {}
        }
    }
}
