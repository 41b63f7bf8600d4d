//! The root of a container that has no mount namespace of its own: a mount that the caller sees, too.
//!
//! Init could mount it as it mounts any root, but not take it away: the mount would outlive the container, with all
//! that is mounted beneath it. So it is made here before the clone, private from the first moment, and written down
//! before it can be seen. Unmounting it takes along whatever the container has mounted below.
//!
//! ```text
//!     a detached copy -> its identity, on disk -> attached ... container ... unmounted, if it is still the same one
//! ```

use crate::init;
use crate::plan::Plan;
use crate::plan::step::Op;
use crate::report::{Act, Failure, errno_text};
use crate::state::HostRoot;
use crate::sys::mount::{self, ATTR_NODEV, Attr};
use crate::sys::{self, Errno, fds};
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A root that nobody sees yet.
#[derive(Debug)]
pub struct Planned {
    tree: OwnedFd,
    place: OwnedFd,
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
            let tree = mount::clone_tree(place.as_fd(), c"", true)?;
            let set = if nodev { ATTR_NODEV } else { 0 };
            mount::set_attr(tree.as_fd(), &Attr { set, ..PRIVATE }, true)?;
            let mount = mount::identity(tree.as_fd())?;
            let at = OsStr::from_bytes(path.to_bytes()).into();
            Ok(Planned { tree, place, recorded: HostRoot { at, mount } })
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
        let Planned { tree, place, recorded } = self;
        let attach = || {
            mount::attach(tree.as_fd(), place.as_fd())?;
            let mounted = Mounted { tree, recorded: Some(recorded) };
            // Where the mount above it is shared, it has become so, too (mount_namespaces(7)).
            mount::set_attr(mounted.tree.as_fd(), &PRIVATE, true)?;
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

/// Unmounts the root of a container, with all that is mounted beneath it. Where it is now the kernel knows: somebody may
/// have moved the directory, or put another one in the place of one above it. What we do not see went with its mount
/// namespace, or will.
///
/// # Errors
/// `EBUSY` where another mount covers it; that of umount2(2).
fn unmount(recorded: &HostRoot) -> sys::Result<()> {
    let Some(place) = find(recorded.mount.number)? else { return Ok(()) };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let top = open(&place, flags, Mode::empty())?;
    let found = mount::identity(top.as_fd())?;
    if found.number != recorded.mount.number {
        return Err(Errno::EBUSY);
    }
    if found != recorded.mount {
        // Its number is another one's by now.
        return Ok(());
    }
    // What the host has shown there, it keeps: unmounting what it shares with the container would reach it.
    mount::set_attr(top.as_fd(), &PRIVATE, true)?;
    let path = CString::new(format!("/proc/self/fd/{}", top.as_raw_fd())).map_err(|_| Errno::EINVAL)?;
    mount::detach(&path)
}

/// Where the mount of this number is (proc_pid_mountinfo(5)).
fn find(number: u64) -> sys::Result<Option<PathBuf>> {
    let text = std::fs::read("/proc/self/mountinfo").map_err(fds::io_errno)?;
    let number = number.to_string();
    let place = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let is_it = fields.next() == Some(number.as_bytes());
        fields.nth(3).filter(|_| is_it).map(|place| PathBuf::from(OsString::from_vec(mount::unescape(place))))
    };
    Ok(text.split(|byte| *byte == b'\n').find_map(place))
}

/// Unmounts the root of a container that has ended, if it is still there, with all that is mounted beneath it.
///
/// # Errors
/// `MNT-BUSY` where somebody has mounted something else over it.
pub fn remove(recorded: &HostRoot, id: &str) -> Result<(), Failure> {
    let at = recorded.at.display();
    let act = || format!("cannot unmount root file system {at} of container {id}");
    match unmount(recorded) {
        Err(Errno::EBUSY) => {
            let cause = format!("something else is mounted over it: {}", errno_text(Errno::EBUSY));
            let fix = format!("delete the container that uses it, too, or umount {at}");
            Err(Failure::new(act(), cause).code("MNT-BUSY").fix(fix))
        }
        other => other.act(act),
    }
}
