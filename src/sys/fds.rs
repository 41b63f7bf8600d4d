//! Descriptors: what survives the exec, socket pairs, and descriptors sent through sockets.

use super::{Errno, Result, check};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use std::ffi::{CStr, CString};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// Marks every descriptor from `first` on close-on-exec, so that nothing which we or our caller left open
/// reaches the container.
///
/// # Errors
/// That of close_range(2); on kernels and in outer containers without it (`ENOSYS`, before Linux 5.11),
/// /proc/self/fd is walked instead.
pub fn cloexec_from(first: RawFd) -> Result<()> {
    // SAFETY: only flags of descriptors change.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first as u32, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    match check(ret) {
        Err(Errno::ENOSYS | Errno::EINVAL | Errno::EPERM) => cloexec_by_proc(first),
        other => other.map(drop),
    }
}

/// Closes every descriptor but these: for a child that never returns to whoever owns the others, and that goes on without
/// an exec.
///
/// # Errors
/// That of close_range(2), or where that is missing, of /proc/self/fd.
pub fn close_all_but(keep: &[RawFd]) -> Result<()> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| *fd as u32).collect();
    keep.sort_unstable();
    let mut first = 0;
    for last in keep.into_iter().chain([u32::MAX]) {
        if last > first {
            // SAFETY: nothing in this child uses what is closed.
            let ret = unsafe { libc::syscall(libc::SYS_close_range, first, last.saturating_sub(1), 0) };
            match check(ret) {
                Err(Errno::ENOSYS | Errno::EPERM) => close_by_proc(first, last)?,
                other => other.map(drop)?,
            }
        }
        first = last.saturating_add(1);
    }
    Ok(())
}

fn close_by_proc(first: u32, end: u32) -> Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd").map_err(io_errno)?.flatten();
    // All of them before the first is closed: the directory is open for as long as one of its entries is there, and has
    // a descriptor among them, which would be closed twice.
    let numbers: Vec<u32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    for fd in numbers.into_iter().filter(|fd| (first..end).contains(fd)) {
        // SAFETY: as above. That of the directory is closed already (EBADF).
        unsafe { libc::close(fd as i32) };
    }
    Ok(())
}

fn cloexec_by_proc(first: RawFd) -> Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd").map_err(io_errno)?;
    for entry in entries {
        let entry = entry.map_err(io_errno)?;
        let Some(fd) = entry.file_name().to_str().and_then(|n| n.parse::<RawFd>().ok()) else { continue };
        if fd >= first {
            set_cloexec(fd, true)?;
        }
    }
    Ok(())
}

/// Sets or clears close-on-exec of a descriptor known by its number.
///
/// # Errors
/// `EBADF` where it is not open.
pub fn set_cloexec(fd: RawFd, on: bool) -> Result<()> {
    let flag = if on { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: changes a flag; a number that is not open gives EBADF.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, flag) })?;
    Ok(())
}

/// Whether a descriptor of this number is open.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: asks for a flag only.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Whether a descriptor of this number is open for writing.
pub fn is_writable(fd: RawFd) -> bool {
    // SAFETY: asks for flags only.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    flags >= 0 && flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// Makes the descriptor known as `target` a copy of `fd`; `target` is not close-on-exec after it.
///
/// # Errors
/// That of dup2(2).
pub fn install(fd: BorrowedFd<'_>, target: RawFd) -> Result<()> {
    // SAFETY: whatever `target` was is closed by intent: it is a standard stream that we replace.
    check(unsafe { libc::dup2(fd.as_raw_fd(), target) })?;
    Ok(())
}

/// Sends one message with at most one descriptor.
///
/// # Errors
/// `EPIPE` where the peer is gone; never a signal.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let raw;
    let control: &[ControlMessage<'_>] = match fd {
        Some(fd) => {
            raw = [fd.as_raw_fd()];
            &[ControlMessage::ScmRights(&raw)]
        }
        None => &[],
    };
    let flags = MsgFlags::MSG_NOSIGNAL;
    super::retry(|| sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None))?;
    Ok(())
}

/// Receives one message and the descriptor that came with it. No bytes mean that the peer is gone.
///
/// # Errors
/// `EMSGSIZE` where the message did not fit: it is dropped, not cut.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut received = None;
    for item in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = item {
            for fd in fds {
                // SAFETY: the kernel has just put this descriptor into our table; dropping the previous
                // one closes it.
                received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    Ok((message.bytes, received))
}

/// Closes a child's copy of a descriptor that only its parent is to have. For a child that never returns to
/// whoever owns the descriptor, so that it is not closed twice.
pub fn abandon(fd: BorrowedFd<'_>) {
    // SAFETY: the copy of the owner in this process is never used or dropped again.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// How a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Alone, or not at all.
    Try,
    /// Alone, once everybody else is done.
    Wait,
    /// With others, once nobody has it alone.
    WaitShared,
    /// No more.
    Release,
}

/// flock(2). The lock belongs to the open file description: it stays until every copy of the descriptor is
/// closed, those of children too.
///
/// # Errors
/// `EAGAIN` where somebody else holds it.
pub fn lock(fd: &OwnedFd, how: Lock) -> Result<()> {
    let operation = match how {
        Lock::Try => libc::LOCK_EX | libc::LOCK_NB,
        Lock::Wait => libc::LOCK_EX,
        Lock::WaitShared => libc::LOCK_SH,
        Lock::Release => libc::LOCK_UN,
    };
    super::retry(|| {
        // SAFETY: integers only.
        check(unsafe { libc::flock(fd.as_raw_fd(), operation) })
    })?;
    Ok(())
}

/// A standard stream, if it is open.
pub fn standard(fd: RawFd) -> Option<BorrowedFd<'static>> {
    if !(0..3).contains(&fd) || !is_open(fd) {
        return None;
    }
    // SAFETY: it is open, and nothing in this program closes a standard stream.
    Some(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// A listening SOCK_SEQPACKET socket at a path.
///
/// # Errors
/// `EADDRINUSE` where the path exists, `ENAMETOOLONG` beyond 107 bytes.
pub fn listen(path: &std::path::Path) -> Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, bind, listen, socket};
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&socket, Backlog::new(8)?)?;
    Ok(socket)
}

/// Connects to such a socket.
///
/// # Errors
/// `ECONNREFUSED` where nobody listens any more.
pub fn connect(path: &std::path::Path) -> Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, socket};
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// Whether anybody has the socket at a path that [`listen`] made, without a connection that they would notice: of a socket
/// that is alive the kernel tells one of another type that the two do not match (unix(7), `EPROTOTYPE`).
///
/// # Errors
/// What else connect(2) fails with; `ENOENT` is nobody, too.
pub fn is_listening(path: &std::path::Path) -> Result<bool> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, socket};
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    match connect(socket.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) | Err(Errno::EPROTOTYPE) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Accepts a connection.
///
/// # Errors
/// That of accept4(2).
pub fn accept(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let fd = nix::sys::socket::accept4(socket.as_raw_fd(), nix::sys::socket::SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What lies behind a descriptor, for calls that take a path only: by way of the host's /proc.
///
/// # Errors
/// `EINVAL` for a zero byte.
pub fn by_proc(fd: BorrowedFd<'_>, inside: &str) -> Result<CString> {
    CString::new(format!("/proc/self/fd/{}{inside}", fd.as_raw_fd())).map_err(|_| Errno::EINVAL)
}

/// The path of what lies behind a descriptor, as it is now.
///
/// # Errors
/// That of readlink(2).
pub fn resolved(fd: BorrowedFd<'_>) -> Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(io_errno)
}

/// The errno of an I/O error of std; `EIO` for those that have none.
pub fn io_errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Gives a file that is open for reading an extended attribute.
///
/// # Errors
/// `ENOTSUP` where its file system has none of that kind.
pub fn set_xattr(file: BorrowedFd<'_>, name: &CStr, value: &CStr) -> Result<()> {
    let bytes = value.to_bytes_with_nul();
    // SAFETY: a C string, and a pointer and length of one slice.
    check(unsafe {
        libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), bytes.as_ptr().cast(), bytes.len(), 0)
    })?;
    Ok(())
}

/// Whether a file has an extended attribute of this name.
pub fn has_xattr(path: &std::path::Path, name: &std::ffi::CStr) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: two C strings; a null buffer of size zero asks for the length only.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) >= 0 }
}

/// Whether a file is immutable or append-only (chattr(1)). `false` where the file system does not tell.
pub fn is_immutable(file: BorrowedFd<'_>) -> bool {
    let mut buf = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: an empty path means the descriptor itself; the kernel fills the buffer, for which zeros are valid, too.
    let buf = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, 0, buf.as_mut_ptr());
        buf.assume_init()
    };
    buf.stx_attributes & (libc::STATX_ATTR_IMMUTABLE | libc::STATX_ATTR_APPEND) as u64 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;

    #[test]
    fn whether_anybody_listens_is_found_out_unnoticed() {
        let path = std::env::temp_dir().join(format!("bryo-listens-{}.sock", std::process::id()));
        assert_eq!(is_listening(&path), Ok(false));
        let socket = listen(&path).unwrap();
        assert_eq!(is_listening(&path), Ok(true));
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::ZERO), Ok(0));
        drop(socket);
        assert_eq!(is_listening(&path), Ok(false));
        std::fs::remove_file(&path).unwrap();
    }
}
