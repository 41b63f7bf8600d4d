//! Extended attributes of open files, and of names in an open directory.

use super::{Errno, Result, check};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

/// fsetxattr(2).
///
/// # Errors
/// `EPERM` where this attribute is not for us, `ENOTSUP` where it is not for this file system.
pub fn set(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: a C string, and a buffer with its length.
    let ret =
        unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(ret).map(drop)
}

/// The same for what is called `entry` in a directory; a link is not followed. For what cannot be opened without
/// doing something: links, fifos, devices.
///
/// # Errors
/// As [`set`].
pub fn set_at(dir: BorrowedFd<'_>, entry: &CStr, name: &CStr, value: &[u8]) -> Result<()> {
    // setxattrat(2) is too new (Linux 6.13). The path leads to `dir` itself, and `entry` is one name.
    let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), entry.to_bytes()].concat();
    let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
    // SAFETY: two C strings, and a buffer with its length.
    let ret = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(ret).map(drop)
}

/// Whether there is an attribute of this name (fgetxattr(2)).
///
/// # Errors
/// Other than that there is none, or none can be here.
pub fn is_set(fd: BorrowedFd<'_>, name: &CStr) -> Result<bool> {
    // SAFETY: a C string; a null buffer of size zero asks for the length only.
    let ret = unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) };
    match check(ret as libc::c_long) {
        Ok(_) => Ok(true),
        Err(Errno::ENODATA | Errno::ENOTSUP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The value of one (fgetxattr(2)).
///
/// # Errors
/// `ENODATA` where there is none.
pub fn get(fd: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>> {
    // XATTR_SIZE_MAX is 64 KiB; nearly all are short.
    for size in [256, 1 << 16] {
        let mut value = vec![0u8; size];
        // SAFETY: a C string, and a buffer with its length.
        let len = unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), size) };
        match check(len as libc::c_long) {
            Err(Errno::ERANGE) => {}
            other => {
                value.truncate(other? as usize);
                return Ok(value);
            }
        }
    }
    Err(Errno::ERANGE)
}

/// The names of all attributes (flistxattr(2)); none where a file system has no attributes.
///
/// # Errors
/// That of flistxattr(2).
pub fn list(fd: BorrowedFd<'_>) -> Result<Vec<CString>> {
    // As long as the kernel lets the list become (XATTR_LIST_MAX).
    let mut names = vec![0u8; 1 << 16];
    // SAFETY: a buffer with its length.
    let len = unsafe { libc::flistxattr(fd.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    match check(len as libc::c_long) {
        Ok(len) => names.truncate(len as usize),
        Err(Errno::ENOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    }
    let names = names.split_inclusive(|&byte| byte == 0);
    Ok(names.filter_map(|name| CStr::from_bytes_with_nul(name).ok()).map(CStr::to_owned).collect())
}

/// fremovexattr(2); that there is none is fine.
///
/// # Errors
/// That of fremovexattr(2).
pub fn remove(fd: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: a C string.
    match check(unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) }) {
        Ok(_) | Err(Errno::ENODATA | Errno::ENOTSUP) => Ok(()),
        Err(errno) => Err(errno),
    }
}
