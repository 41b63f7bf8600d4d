//! A user namespace that is there for its maps alone.
//!
//! An idmapped mount is told its ids by a user namespace (mount_setattr(2)), and a namespace with given maps is
//! only to be had with a process: a child is born in it, shows its parent where it is, and ends once its maps
//! are written. After that the descriptor keeps the namespace, and nothing else is left of it.
//!
//! Who writes the maps has to own the child's files in /proc, so the child must be dumpable, even where its
//! parent is not, for good reasons. Before it becomes that, it closes whatever its parent has open.

use super::{Errno, Result, check, clone, fds, process};
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Makes a user namespace below ours with these lines as its uid_map and gid_map (user_namespaces(7)). `proc` is
/// a /proc of our pid namespace or of one above it.
///
/// # Errors
/// `EPERM` for ids that are not ours to map, `EINVAL` for lines that overlap, `ENOSPC` where there may be no more
/// namespaces.
pub fn with_maps(proc: BorrowedFd<'_>, uids: &str, gids: &str) -> Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let child = clone::spawn(&[], CloneFlags::CLONE_NEWUSER, None, &mut || be_there(proc, theirs.as_fd()))
        .map_err(|error| error.errno)?;
    drop(theirs);
    let made = map(proc, ours.as_fd(), uids, gids);
    // The child waits for the end of the line.
    drop(ours);
    super::retry(|| nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid), None))?;
    made
}

fn map(proc: BorrowedFd<'_>, child: BorrowedFd<'_>, uids: &str, gids: &str) -> Result<OwnedFd> {
    let mut buffer = [0; 16];
    let (len, namespace) = fds::receive(child, &mut buffer)?;
    // Whoever could not show it says why, as a number below zero.
    let number = std::str::from_utf8(&buffer[..len]).ok().and_then(|text| text.parse::<i32>().ok());
    let (pid, namespace) = match (number, namespace) {
        (Some(pid), Some(namespace)) => (pid, namespace),
        (Some(errno), None) => return Err(Errno::from_raw(-errno)),
        (None, _) => return Err(Errno::ECHILD),
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let files = openat(proc, Path::new(&pid.to_string()), flags, Mode::empty())?;
    for (name, lines) in [(c"uid_map", uids), (c"gid_map", gids)] {
        let file = openat(&files, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        // The kernel takes all lines in one write(2), or none.
        File::from(file).write_all(lines.as_bytes()).map_err(fds::io_errno)?;
    }
    Ok(namespace)
}

/// The child's life.
fn be_there(proc: BorrowedFd<'_>, parent: BorrowedFd<'_>) -> Infallible {
    if let Err(errno) = show(proc, parent) {
        // The parent may be gone, and then there is nobody to tell.
        let _ = fds::send(parent, (-(errno as i32)).to_string().as_bytes(), None);
    }
    process::exit_now(0)
}

fn show(proc: BorrowedFd<'_>, parent: BorrowedFd<'_>) -> Result<()> {
    let pid = readlinkat(proc, c"self")?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let own = openat(proc, c"self", flags, Mode::empty())?;
    let namespace = openat(&own, c"ns/user", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    close_all_but([parent.as_raw_fd(), own.as_raw_fd(), namespace.as_raw_fd()])?;
    process::set_dumpable()?;
    fds::send(parent, std::os::unix::ffi::OsStrExt::as_bytes(pid.as_os_str()), Some(namespace.as_fd()))?;
    // The end of the line, whatever comes before it.
    fds::receive(parent, &mut [0; 1]).map(drop)
}

/// Closes every other descriptor. For a child that ends without touching any of them again.
fn close_all_but(mut kept: [i32; 3]) -> Result<()> {
    kept.sort_unstable();
    let mut first: u32 = 0;
    let ends = kept.map(|fd| fd as u32).into_iter().chain([u32::MAX]);
    for end in ends {
        if let Some(last) = end.checked_sub(1).filter(|last| first <= *last) {
            // SAFETY: their owners in this copy of the process are never used or dropped again.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        first = end.saturating_add(1);
    }
    Ok(())
}
