//! The root of a container that has no mount namespace of its own: a mount that the caller sees, too.
//!
//! Init could mount it as it mounts any root, but not take it away: the mount would outlive the container, with all
//! that is mounted beneath it. So it is made here before the clone, private from the first moment, and written down
//! before it can be seen. Unmounting it takes along whatever the container has mounted below.
//!
//! ```text
//!     a detached copy -> its identity, on disk -> attached ... container ... unmounted, if it is still the same one
//! ```

use crate::host::{mounts, namespaces};
use crate::init;
use crate::plan::Plan;
use crate::plan::step::Op;
use crate::report::{Act, Failure, errno_text};
use crate::state::HostRoot;
use crate::sys::mount::{self, ATTR_NODEV, Attr, Identity};
use crate::sys::{self, Errno, fds};
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A root that nobody sees yet.
#[derive(Debug)]
pub struct Planned {
    place: OwnedFd,
    /// The directory alone, to mount the tree on: a tree of several mounts that was mounted for the peers of the mount
    /// above as well would stay there.
    base: Option<OwnedFd>,
    tree: OwnedFd,
    recorded: HostRoot,
}

/// A root on the host; dropping it unmounts it.
#[derive(Debug)]
pub struct Mounted {
    tree: OwnedFd,
    /// None once it is to stay.
    recorded: Option<HostRoot>,
}

const PRIVATE: Attr = Attr { set: 0, clear: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };

impl Planned {
    /// The root of a plan that wants one on the host.
    ///
    /// # Errors
    /// A directory that cannot be opened or copied.
    pub fn of(plan: &Plan) -> Result<Option<Planned>, Failure> {
        let wanted = plan.steps.iter().find_map(|step| match &step.op {
            Op::HostRoot { path, nodev } => Some((path, *nodev)),
            _ => None,
        });
        let Some((path, nodev)) = wanted else { return Ok(None) };
        let copy = || {
            let place = init::place(path, false)?;
            let base =
                if is_single(&place)? { None } else { Some(mount::clone_tree(place.as_fd(), c"", false)?) };
            let tree = mount::clone_tree(place.as_fd(), c"", true)?;
            let set = if nodev { ATTR_NODEV } else { 0 };
            mount::set_attr(tree.as_fd(), &Attr { set, ..PRIVATE }, true)?;
            let recorded = HostRoot {
                at: OsStr::from_bytes(path.to_bytes()).into(),
                mounts: base
                    .iter()
                    .chain([&tree])
                    .map(|tree| mount::identity(tree.as_fd()))
                    .collect::<sys::Result<_>>()?,
                namespace: namespaces::of("self", "mnt")?.ok_or(Errno::ENOENT)?,
            };
            Ok(Planned { place, base, tree, recorded })
        };
        copy().map(Some).map_err(|errno| failure(plan, errno))
    }

    /// What is to be unmounted in the end.
    pub fn recorded(&self) -> &HostRoot {
        &self.recorded
    }

    /// Mounts it.
    ///
    /// # Errors
    /// That of move_mount(2).
    pub fn attach(self, plan: &Plan) -> Result<Mounted, Failure> {
        let Planned { place, base, tree, recorded } = self;
        let attach = || {
            let lowest = base.as_ref().unwrap_or(&tree);
            mount::attach(lowest.as_fd(), place.as_fd())?;
            let mounted = Mounted { tree, recorded: Some(recorded) };
            // Where the mount above is shared, it has become so, too (mount_namespaces(7)).
            match &base {
                Some(base) => {
                    mount::set_attr(base.as_fd(), &PRIVATE, false)?;
                    mount::attach(mounted.tree.as_fd(), base.as_fd())?;
                }
                None => mount::set_attr(mounted.tree.as_fd(), &PRIVATE, true)?,
            }
            Ok(mounted)
        };
        attach().map_err(|errno| failure(plan, errno))
    }
}

impl Mounted {
    /// Its top directory.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// It goes with the container.
    pub fn keep(mut self) {
        self.recorded = None;
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Undo; the error that led here is the one to tell.
        let _ = self.recorded.take().map(|recorded| unmount(&recorded));
    }
}

fn failure(plan: &Plan, errno: Errno) -> Failure {
    let act = format!("cannot mount root file system {} of container {}", plan.rootfs.display(), plan.id);
    Failure::errno(act, errno)
}

/// Unmounts the root of a container, with all that is mounted beneath it.
fn unmount(recorded: &HostRoot) -> sys::Result<()> {
    recorded.mounts.iter().rev().try_for_each(detach)
}

/// Unmounts one mount, if it is still there. Where that is the kernel knows: somebody may have moved the directory, or
/// put another one in the place of one above it.
///
/// # Errors
/// `EBUSY` where another mount covers it; that of umount2(2).
fn detach(wanted: &Identity) -> sys::Result<()> {
    let Some(place) = find(wanted.number)? else { return Ok(()) };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let top = match open(&place, flags, Mode::empty()) {
        // What has its number by now is no directory.
        Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
        other => other?,
    };
    let found = mount::identity(top.as_fd())?;
    if found.number != wanted.number {
        return Err(Errno::EBUSY);
    }
    if !wanted.matches(&found) {
        return Ok(());
    }
    // What the host has shown there, it keeps: unmounting what it shares with the container would reach it.
    mount::set_attr(top.as_fd(), &PRIVATE, true)?;
    mount::detach(&fds::by_proc(top.as_fd(), "")?)
}

/// Where the mount of this number is.
fn find(number: u64) -> sys::Result<Option<PathBuf>> {
    Ok(mounts::of("self")?.into_iter().find_map(|mount| (mount.id == number).then_some(mount.at)))
}

/// Whether nothing is mounted below a directory.
fn is_single(place: &OwnedFd) -> sys::Result<bool> {
    let path = fds::resolved(place.as_fd())?;
    Ok(mounts::of("self")?.iter().all(|mount| mount.at == path || !mount.at.starts_with(&path)))
}

/// Unmounts the root of a container that has ended, if it is still there, with all that is mounted beneath it.
///
/// # Errors
/// `MNT-BUSY` where somebody has mounted something else over it; a mount namespace that is not ours, and that somebody
/// is in.
pub fn remove(recorded: &HostRoot, id: &str) -> Result<(), Failure> {
    let at = recorded.at.display();
    let act = || format!("cannot unmount root file system {at} of container {id}");
    if namespaces::of("self", "mnt").act(act)? != Some(recorded.namespace) {
        return match namespaces::sharing("mnt", recorded.namespace).act(act)?.first() {
            // It went with its mount namespace.
            None => Ok(()),
            Some(pid) => Err(Failure::new(
                act(),
                format!("it is in the mount namespace of process {pid}, and we are not: invalid argument"),
            )
            .fix(format!("delete it from there: nsenter --target {pid} --mount bryo delete --force {id}"))),
        };
    }
    match unmount(recorded) {
        Err(Errno::EBUSY) => {
            let cause = format!("something else is mounted over it: {}", errno_text(Errno::EBUSY));
            let fix = format!("delete the container that uses it, too, or umount {at}");
            Err(Failure::new(act(), cause).code("MNT-BUSY").fix(fix))
        }
        other => other.act(act),
    }
}
