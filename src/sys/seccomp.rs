//! Loading a compiled seccomp filter.

use super::{Errno, Result, check};
use std::os::fd::{FromRawFd, OwnedFd};

const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
pub const NEW_LISTENER: u32 = 1 << 3;
const SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Whether the kernel knows `SECCOMP_FILTER_FLAG_*` bits: a known one gets as far as the missing program.
pub fn supports(flags: u32) -> bool {
    // WAIT_KILLABLE_RECV means something only together with a listener.
    let flags =
        if flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 { flags | NEW_LISTENER } else { flags };
    // SAFETY: a null program is refused with EFAULT, and nothing is loaded.
    let ret = unsafe {
        libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, std::ptr::null::<libc::sock_fprog>())
    };
    check(ret) == Err(Errno::EFAULT)
}

/// seccomp(2) `SECCOMP_SET_MODE_FILTER`: `program` is an array of `struct sock_filter`, `flags` the
/// `SECCOMP_FILTER_FLAG_*` bits. Returns the listener where one was asked for.
///
/// # Errors
/// `EACCES` without no_new_privs and CAP_SYS_ADMIN, `EINVAL` for a malformed program.
pub fn load(program: &[u8], flags: u32) -> Result<Option<OwnedFd>> {
    let instruction = size_of::<libc::sock_filter>();
    let len = u16::try_from(program.len() / instruction).map_err(|_| Errno::E2BIG)?;
    if program.len() % instruction != 0 {
        return Err(Errno::EINVAL);
    }
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the kernel copies `len` instructions of eight bytes, which is what the slice holds; it
    // copies bytewise, so their alignment does not matter, and writes nothing.
    let ret = check(unsafe {
        libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })?;
    if flags & NEW_LISTENER == 0 {
        // With TSYNC alone a positive value names the thread that could not follow.
        return if ret == 0 { Ok(None) } else { Err(Errno::ESRCH) };
    }
    // SAFETY: with NEW_LISTENER the return value is a new descriptor.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(ret as i32) }))
}
