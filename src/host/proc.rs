//! Whether a proc of the container's own may be mounted, and what stands in the way.
//!
//! A user namespace gets a new proc only if it can see an old one whole: the kernel would not have a mount show what
//! whoever set up the host, or an outer container, has covered (mount_too_revealing of fs/namespace.c). What counts
//! is what is mounted over parts of the old one, other than over directories that are always empty, and whether that
//! is locked, which no file tells. So it is tried: by a child in the namespaces that a container would have, which
//! makes a proc, attaches it nowhere, and ends.

use super::rootfs::mount_points;
use crate::sys::clone;
use crate::sys::mount::Context;
use crate::sys::{Errno, process, retry};
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// Which proc.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `ATTR_*` bits: the kernel gives none that can be written where the old one cannot.
    pub attributes: u64,
    /// Options of the file system itself.
    pub options: Vec<(CString, Option<CString>)>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tried {
    /// It was not tried, or could not be.
    #[default]
    Not,
    /// It may be mounted.
    Mounted,
    /// The kernel refuses it.
    Refused,
}

const REFUSED: i32 = 1;
const OTHERWISE: i32 = 2;

/// Tries to mount it in new user, mount and pid namespaces.
pub fn try_to_mount(wanted: &Wanted) -> Tried {
    let fresh = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    let child = clone::spawn(&[], fresh, None, &mut || {
        process::exit_now(match mount(wanted) {
            Ok(()) => 0,
            Err(Errno::EPERM) => REFUSED,
            Err(_) => OTHERWISE,
        })
    });
    // Where there are no such namespaces, launch says so with the cause.
    let Ok(child) = child else { return Tried::Not };
    match retry(|| waitpid(Pid::from_raw(child.pid), None)) {
        Ok(WaitStatus::Exited(_, 0)) => Tried::Mounted,
        Ok(WaitStatus::Exited(_, REFUSED)) => Tried::Refused,
        _ => Tried::Not,
    }
}

fn mount(wanted: &Wanted) -> Result<(), Errno> {
    // Who may not even begin is refused by something else than what is mounted on the old one.
    let context = Context::open(c"proc").map_err(|_| Errno::ENOSYS)?;
    for (key, value) in &wanted.options {
        match value {
            Some(value) => context.string(key, value)?,
            None => context.flag(key)?,
        }
    }
    context.mount(wanted.attributes).map(drop)
}

/// What is covered of our /proc, sorted: read once the kernel has refused a new one.
pub fn covered() -> Vec<PathBuf> {
    covers(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
}

/// The same, from the text of proc_pid_mountinfo(5).
fn covers(mountinfo: &[u8]) -> Vec<PathBuf> {
    // A directory of the kernel's that is empty for ever, as whose cover nothing is hidden.
    let empty = ["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd", "/proc/openprom"].map(Path::new);
    let beneath = |at: &PathBuf| at.starts_with("/proc") && at != Path::new("/proc");
    let mut found: Vec<_> = mount_points(mountinfo).filter(beneath).collect();
    found.retain(|at| !empty.iter().any(|empty| at.starts_with(empty)));
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_over_parts_of_proc_is_named_once_and_what_hides_nothing_is_not() {
        let text = b"24 30 0:22 / /proc rw - proc proc rw\n\
            40 24 0:5 /null /proc/kcore rw - devtmpfs udev rw\n\
            41 24 0:40 / /proc/acpi ro - tmpfs tmpfs ro\n\
            42 40 0:40 / /proc/kcore ro - tmpfs tmpfs ro\n\
            43 24 0:33 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n\
            44 30 0:34 / /processes rw - tmpfs none rw\n";
        assert_eq!(covers(text), [Path::new("/proc/acpi"), Path::new("/proc/kcore")]);
    }
}
