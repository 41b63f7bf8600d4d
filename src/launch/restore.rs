//! The host's side of a restore: what criu waits for us to do, and what has to be there before it begins.
//!
//! A container that is restored goes another way than one that is launched: there is no init of ours, since criu makes
//! its processes as they were. What launch does between the namespaces and the program is done when criu says that
//! the namespaces are there; what init did is in the images.

use super::{hooks, network};
use crate::criu::{Listener, Moment};
use crate::plan::Plan;
use crate::plan::checkpoint::{self, Place, Source};
use crate::plan::step::Op;
use crate::report::{Act, Failure};
use crate::sys::clone::{self, Child, Join};
use crate::sys::fds;
use crate::sys::path::{self, Kind, Resolve};
use crate::sys::{self, Errno, pidfd};
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Who is told that a container is about to go on.
pub type Restored<'a> =
    dyn FnMut(i32, Option<OwnedFd>, Option<&network::Connected>) -> Result<(), Failure> + 'a;

/// What happens on the host while criu restores.
pub struct Side<'a> {
    pub plan: &'a Plan,
    /// Where the state of the container is.
    pub state: &'a Path,
    /// The state for hooks, with a pid that is known later.
    pub creating: &'a dyn Fn(i32) -> String,
    pub restored: &'a mut Restored<'a>,
    /// Hooks were run, and those for the end are due.
    pub hooked: bool,
    pub network: Option<network::Connected>,
    pub console: Option<OwnedFd>,
}

impl Listener for Side<'_> {
    fn at(&mut self, moment: Moment) -> Result<(), Failure> {
        match moment {
            Moment::SetupNamespaces(pid) => self.furnish(pid),
            Moment::Console(master) => {
                self.console = Some(master);
                Ok(())
            }
            Moment::PostRestore(pid) => (self.restored)(pid, self.console.take(), self.network.as_ref()),
        }
    }
}

impl Side<'_> {
    /// The network namespace is new and empty, whatever it was like.
    fn furnish(&mut self, pid: i32) -> Result<(), Failure> {
        let Plan { id, hooks, .. } = self.plan;
        let act = || format!("cannot furnish the namespaces of container {id}");
        let namespace = |kind: &str| File::open(format!("/proc/{pid}/ns/{kind}")).act(act);
        if self.plan.steps.iter().any(|step| step.op == Op::Loopback) {
            bring_up_loopback(&namespace("net")?).act(act)?;
        }
        if let Some(helper) = &self.plan.network.helper {
            let init = pidfd::open(pid).act(act)?;
            let fresh = self.plan.namespaces.is_new(CloneFlags::CLONE_NEWUSER);
            let user = if fresh { Some(namespace("user")?.into()) } else { None };
            let network = namespace("net")?.into();
            let starting = network::start(helper, self.state, id, init.as_fd(), user, network)?;
            self.network = Some(starting.connected()?);
        }
        let state = (self.creating)(pid);
        self.hooked = true;
        hooks::run_all("prestart", &hooks.prestart, &state, id)?;
        hooks::run_all("createRuntime", &hooks.create_runtime, &state, id)
    }
}

/// Brings up the loopback interface of a network namespace, by a child that goes there.
fn bring_up_loopback(namespace: &File) -> sys::Result<()> {
    let join = Join { fd: namespace.as_fd(), kinds: CloneFlags::CLONE_NEWNET };
    let child = clone::spawn(&[join], CloneFlags::empty(), None, &mut || {
        sys::process::exit_now(sys::net::loopback_up().map_or_else(|errno| errno as i32, |()| 0))
    });
    let child = child.map_err(|error| error.errno)?;
    match sys::retry(|| waitpid(Pid::from_raw(child.pid), None))? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno)),
        _ => Err(Errno::ECHILD),
    }
}

/// A process that is in the container's cgroup before anything of the container is, so that there is a cgroup namespace
/// which begins there: a criu that leaves cgroups alone makes none.
pub struct Lodger {
    child: Child,
    /// It ends with our end of the line, also when we are killed.
    line: Option<OwnedFd>,
}

impl Lodger {
    /// Makes it, outside for the time being.
    ///
    /// # Errors
    /// What clone(2) refuses.
    pub fn find() -> sys::Result<Lodger> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let live = || {
            fds::close_all_but(&[theirs.as_raw_fd()])?;
            let word = || fds::receive(theirs.as_fd(), &mut [0]);
            word()?;
            clone::unshare(CloneFlags::CLONE_NEWCGROUP)?;
            fds::send(theirs.as_fd(), &[0], None)?;
            word()
        };
        let child = clone::spawn(&[], CloneFlags::empty(), None, &mut || {
            sys::process::exit_now(live().map_or_else(|errno| errno as i32, |_| 0))
        });
        Ok(Lodger { child: child.map_err(|error| error.errno)?, line: Some(ours) })
    }

    /// Its process.
    pub fn process(&self) -> &Child {
        &self.child
    }

    /// The namespace that begins where it is now.
    ///
    /// # Errors
    /// That of unshare(2).
    pub fn namespace(&self) -> sys::Result<File> {
        let line = self.line.as_ref().ok_or(Errno::EPIPE)?;
        fds::send(line.as_fd(), &[0], None)?;
        match fds::receive(line.as_fd(), &mut [0])? {
            (0, _) => Err(Errno::EPIPE),
            _ => File::open(format!("/proc/{}/ns/cgroup", self.child.pid)).map_err(fds::io_errno),
        }
    }
}

impl Drop for Lodger {
    fn drop(&mut self) {
        self.line = None;
        let _: sys::Result<_> = sys::retry(|| waitpid(Pid::from_raw(self.child.pid), None));
    }
}

/// Makes what has to be mounted on and is not there, as init would have, and returns by which paths things of outside are
/// known besides those of the configuration: its paths may lead over links, and criu knows where they end.
///
/// # Errors
/// A root file system that cannot be changed.
pub fn make_places(plan: &Plan) -> Result<Vec<Source>, Failure> {
    let act = |at: &Path| format!("cannot make {} in {}", at.display(), plan.rootfs.display());
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(&plan.rootfs, flags, Mode::empty()).act(|| act(Path::new("/")))?;
    let top = fds::resolved(root.as_fd()).act(|| act(Path::new("/")))?;
    let mut ends = Vec::new();
    for Place { at, source, links_copied, within } in &checkpoint::places(plan) {
        if *links_copied && source.as_ref().is_some_and(|source| source.is_symlink()) {
            continue;
        }
        let kind =
            if source.as_ref().is_some_and(|source| !source.is_dir()) { Kind::File } else { Kind::Directory };
        if let Some((shown, rest)) = within {
            let shown = open(shown, flags, Mode::empty()).act(|| act(at))?;
            create(&shown, rest, kind).act(|| act(at))?;
            continue;
        }
        let place = create(&root, at, kind).act(|| act(at))?;
        let end = fds::resolved(place.as_fd()).act(|| act(at))?;
        if let (Some(source), Ok(end)) = (source, end.strip_prefix(&top)) {
            ends.push(Source::at(Path::new("/").join(end), source));
        }
    }
    Ok(ends)
}

fn create(root: &OwnedFd, at: &Path, kind: Kind) -> sys::Result<OwnedFd> {
    let name = CString::new(at.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    path::create(root.as_fd(), &name, kind, Resolve::InRoot)
}
