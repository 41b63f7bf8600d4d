//! Paths of the container, resolved inside its root by the kernel.
//!
//! Whatever the image holds, a lookup here cannot leave the root: openat2(2) (Linux 5.6) with
//! `RESOLVE_IN_ROOT` treats the descriptor as `/` for absolute links and `..` alike. What comes back is
//! an `O_PATH` descriptor; callers act on that, never on the path again, so there is no second lookup
//! that could see another file.

use super::{Errno, Result, check};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const RESOLVE_NO_XDEV: u64 = 0x01;
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_BENEATH: u64 = 0x08;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// How strictly a path is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// Links are followed, but never out of the root and never through /proc's magic ones.
    InRoot,
    /// A link anywhere in the path is an error (`ELOOP`): for file systems that have to sit just where
    /// the configuration says (CVE-2019-16884, CVE-2019-19921, CVE-2023-27561).
    NoLinks,
    /// No link and no mount point may be crossed (`EXDEV`): for files of procfs that something could have
    /// been mounted over (CVE-2025-52881).
    SameMount,
    /// No link may be followed, and nothing may lead out, not even to the root: for directories that somebody
    /// else has filled.
    Beneath,
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Opens `path` below `root`; `flags` are `O_*` bits, close-on-exec is added.
///
/// # Errors
/// That of openat2(2).
pub fn open(root: BorrowedFd<'_>, path: &CStr, flags: i32, resolve: Resolve) -> Result<OwnedFd> {
    let resolve = match resolve {
        Resolve::InRoot => RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        Resolve::NoLinks => RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        Resolve::SameMount => RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
        Resolve::Beneath => RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve };
    // RESOLVE_IN_ROOT makes `..` safe by asking again when a rename raced with it; EAGAIN says so.
    for _ in 0..64 {
        // SAFETY: a C string, and a struct of the size that is passed.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                root.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<OpenHow>(),
            )
        };
        match check(ret) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // SAFETY: a new descriptor.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EAGAIN)
}

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Directory,
    File,
}

/// Opens `path` below `root` as an `O_PATH` descriptor, creating what is missing of it. Directories get
/// mode 0755, files 0644; all belong to whoever we are.
///
/// A link whose target is missing is followed, inside the root, and the target made: images have such for
/// /etc/resolv.conf.
///
/// # Errors
/// `ELOOP` for links in a circle; those of openat2(2) and mkdirat(2).
pub fn create(root: BorrowedFd<'_>, path: &CStr, kind: Kind, resolve: Resolve) -> Result<OwnedFd> {
    // As many links as the kernel would follow (path_resolution(7)).
    create_within(root, path, kind, resolve, 40)
}

fn create_within(
    root: BorrowedFd<'_>,
    path: &CStr,
    kind: Kind,
    resolve: Resolve,
    links: u32,
) -> Result<OwnedFd> {
    match open(root, path, libc::O_PATH, resolve) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    let bytes = path.to_bytes();
    let trimmed = bytes.strip_suffix(b"/").unwrap_or(bytes);
    let (parent, name) = match trimmed.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&trimmed[..slash], &trimmed[slash + 1..]),
        None => (&b"."[..], trimmed),
    };
    let parent_path =
        CString::new(if parent.is_empty() { b"/" } else { parent }).map_err(|_| Errno::EINVAL)?;
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    if matches!(name.to_bytes(), b"" | b"." | b"..") {
        return Err(Errno::ENOENT);
    }
    let parent = create_within(root, &parent_path, Kind::Directory, resolve, links)?;
    match nix::fcntl::readlinkat(&parent, name.as_c_str()) {
        Ok(_) if resolve != Resolve::InRoot || links == 0 => return Err(Errno::ELOOP),
        Ok(target) => {
            let target = Path::new(OsStr::from_bytes(parent_path.to_bytes())).join(target);
            let target = CString::new(target.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
            return create_within(root, &target, kind, resolve, links - 1);
        }
        // No link, or nothing at all.
        Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    make(&parent, &name, kind)?;
    // NOFOLLOW: if somebody replaced what we made by a link, it is not followed.
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: a C string and flags.
    let fd = check(unsafe { libc::openat(parent.as_raw_fd(), name.as_ptr(), flags) })?;
    // SAFETY: a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn make(parent: &OwnedFd, name: &CStr, kind: Kind) -> Result<()> {
    let parent = parent.as_raw_fd();
    let made = match kind {
        // SAFETY: a C string and a mode.
        Kind::Directory => check(unsafe { libc::mkdirat(parent, name.as_ptr(), 0o755) }),
        // mknod of a regular file creates and never follows or truncates.
        // SAFETY: as above.
        Kind::File => check(unsafe { libc::mknodat(parent, name.as_ptr(), libc::S_IFREG | 0o644, 0) }),
    };
    match made {
        // Somebody was faster, which is as good if it is no link; the open that follows tells.
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}
/// Gives entries of a directory to a uid; those that do not exist are passed over.
///
/// # Errors
/// That of fchownat(2).
pub fn give(dir: BorrowedFd<'_>, names: &[CString], uid: u32) -> Result<()> {
    let uid = nix::unistd::Uid::from_raw(uid);
    for name in names {
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        match nix::unistd::fchownat(dir, name.as_c_str(), Some(uid), None, flags) {
            Err(Errno::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

/// An extended attribute of at most 64 bytes (getxattr(2)).
///
/// # Errors
/// `ENODATA` where there is none, `ERANGE` for a longer one.
pub fn attribute(path: &std::path::Path, name: &CStr) -> Result<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut value = [0u8; 64];
    // SAFETY: two C strings, and a buffer with its length.
    let len = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let len = check(len as libc::c_long)?;
    Ok(value[..len as usize].to_vec())
}
