//! Thin, safe faces of the system calls that no dependency covers.
//!
//! This is the only room with `unsafe` in it; it knows nothing of containers, decides nothing and
//! formats nothing. Every function returns the bare [`Errno`]: whoever called it knows the act and the
//! object, and writes the sentence. Descriptors cross functions as `OwnedFd` or `BorrowedFd`, and every
//! one that is made here is close-on-exec.

pub mod bpf;
pub mod caps;
pub mod clone;
#[cfg(not(test))]
mod entry;
pub mod fds;
pub mod mount;
pub mod net;
pub mod netlink;
pub mod path;
pub mod pidfd;
pub mod process;
pub mod program;
pub mod scheduling;
pub mod seccomp;
pub mod stub;
pub mod trail;
pub mod tty;
pub mod userns;
pub mod xattr;

pub use nix::errno::Errno;

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Errno>;

/// Turns the -1 convention of the raw interface into a `Result`.
fn check(ret: impl Into<libc::c_long>) -> Result<libc::c_long> {
    let ret = ret.into();
    if ret < 0 { Err(Errno::last()) } else { Ok(ret) }
}

/// Repeats a call that a signal interrupted before it did anything.
pub fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
