//! Pseudoterminals: the peer of a master without a path, window sizes, the controlling terminal.

use super::{Result, check};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const TIOCGPTPEER: libc::Ioctl = 0x5441;

/// A terminal's size in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// Unlocks the slave of a master and opens it through the master itself (Linux 4.13): no path is looked
/// up, so nothing in the container can put another file in its place (CVE-2025-52565).
///
/// # Errors
/// `ENOTTY` where this is not the master of a pseudoterminal.
pub fn open_peer(master: impl AsFd) -> Result<OwnedFd> {
    let master = master.as_fd().as_raw_fd();
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    check(unsafe { libc::ioctl(master, libc::TIOCSPTLCK, &raw const unlock) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags by value and returns a new descriptor.
    let fd = check(unsafe { libc::ioctl(master, TIOCGPTPEER, flags) })?;
    // SAFETY: it is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Reads the window size of a terminal.
///
/// # Errors
/// `ENOTTY` where it is none.
pub fn size(tty: impl AsFd) -> Result<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ fills one winsize.
    check(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok(Size { rows: size.ws_row, columns: size.ws_col })
}

/// Sets the window size of a terminal; the foreground group gets SIGWINCH.
///
/// # Errors
/// `ENOTTY` where it is none.
pub fn set_size(tty: impl AsFd, size: Size) -> Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    check(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    Ok(())
}

/// Makes a terminal the controlling terminal of this session leader.
///
/// # Errors
/// `EPERM` where it belongs to another session or we lead none.
pub fn make_controlling(tty: impl AsFd) -> Result<()> {
    // SAFETY: the argument is an integer: do not steal the terminal.
    check(unsafe { libc::ioctl(tty.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) })?;
    Ok(())
}
