//! Which extended attributes of an archive files get.
//!
//! overlayfs and fuse-overlayfs take orders from attributes: which directory hides those beneath it, which file
//! is another one's data. An image must not give such orders. SELinux' labels and NFS' access lists belong to the
//! machine where the archive was made. Everything else is tried, and what the kernel does not let us set is counted:
//! in a user namespace these are `trusted.*` and most of `security.*`. File capabilities work there: the kernel
//! notes whose root they hold for.

use super::Lost;
use crate::report::errno_text;
use crate::sys::{Errno, xattr};
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

/// What overlay file systems take orders from.
const ORDERS: [&[u8]; 4] =
    [b"user.overlay.", b"trusted.overlay.", b"user.fuseoverlayfs.", b"user.containers."];

/// What belongs to the machine.
const MACHINE: [&[u8]; 2] = [b"security.selinux", b"system.nfs4_acl"];

/// A file that gets attributes.
pub enum Target<'a> {
    Open(BorrowedFd<'a>),
    Named(BorrowedFd<'a>, &'a CStr),
}

/// Sets what can be set, and counts the rest.
///
/// # Errors
/// Where the disk is full, or worse.
pub fn set(
    target: &Target<'_>,
    path: &[u8],
    attributes: &[(Vec<u8>, Vec<u8>)],
    lost: &mut Lost,
) -> Result<(), Errno> {
    for (name, value) in attributes {
        if MACHINE.contains(&name.as_slice()) {
            continue;
        }
        let done = match &*attribute(name)? {
            _ if gives_orders(name) => Err(Errno::EPERM),
            name => match target {
                Target::Open(fd) => xattr::set(*fd, name, value),
                Target::Named(dir, entry) => xattr::set_at(*dir, entry, name, value),
            },
        };
        match done {
            Ok(()) => {}
            // Not for us, not for this file system, not for ids or capabilities that are unknown here.
            Err(errno @ (Errno::EPERM | Errno::ENOTSUP | Errno::EINVAL)) => lost.add(|| {
                let (name, path) = (String::from_utf8_lossy(name), String::from_utf8_lossy(path));
                format!("{name:?} of {path:?}: {}", errno_text(errno))
            }),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Gives a directory what another one has of an image.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    for name in xattr::list(from)? {
        let bytes = name.to_bytes();
        if MACHINE.contains(&bytes) || gives_orders(bytes) {
            continue;
        }
        match xattr::set(to, &name, &xattr::get(from, &name)?) {
            // Not set by us there either.
            Ok(()) | Err(Errno::EPERM | Errno::ENOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Takes from a directory what an earlier layer gave it.
pub fn clear(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    for name in xattr::list(dir)? {
        let bytes = name.to_bytes();
        if MACHINE.contains(&bytes) || gives_orders(bytes) {
            continue;
        }
        match xattr::remove(dir, &name) {
            // Not set by us then, and not by an image.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn gives_orders(name: &[u8]) -> bool {
    ORDERS.iter().any(|prefix| name.starts_with(prefix))
}

fn attribute(name: &[u8]) -> Result<CString, Errno> {
    CString::new(name).map_err(|_| Errno::EINVAL)
}
