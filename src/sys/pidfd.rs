//! Processes by descriptor: signals and waits that cannot hit a stranger.

use super::{Result, check};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// pidfd_open(2) (Linux 5.3).
///
/// # Errors
/// `ESRCH` where there is no such process.
pub fn open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: plain integers go in, a descriptor that is ours comes out.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// pidfd_send_signal(2) (Linux 5.1). Signal 0 only asks whether the process could be signalled.
///
/// # Errors
/// `ESRCH` once the process has been waited for, `EPERM`, `EINVAL` for a number that is no signal.
pub fn signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: no pointer but a null siginfo goes in.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<u8>(), 0) })?;
    Ok(())
}
