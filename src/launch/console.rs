//! The master's side of a terminal: where it goes, and how it behaves.

use crate::report::{Act, Failure};
use crate::sys::{fds, tty};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Where the container's terminal goes.
#[derive(Debug)]
pub enum Console {
    /// There is none.
    None,
    /// To our own terminal.
    Ours,
    /// To whoever listens there.
    Socket(UnixStream, PathBuf),
}

/// Checks the three forms against each other, in runc's words, and connects the socket before anything is
/// made that would have to be undone.
///
/// # Errors
/// A detached terminal without a socket, a socket without use, a socket that nobody listens on.
pub fn choose(terminal: bool, detach: bool, socket: Option<&Path>, act: &str) -> Result<Console, Failure> {
    check(terminal, detach, socket.is_some(), act)?;
    match socket {
        Some(path) => {
            let stream =
                UnixStream::connect(path).act(|| format!("{act}: console socket {}", path.display()))?;
            Ok(Console::Socket(stream, path.to_path_buf()))
        }
        None if terminal => Ok(Console::Ours),
        None => Ok(Console::None),
    }
}

/// The first half of [`choose`].
///
/// # Errors
/// A detached terminal without a socket, a socket without use.
pub fn check(terminal: bool, detach: bool, socket: bool, act: &str) -> Result<(), Failure> {
    const USELESS: &str = "cannot use console socket if runc will not detach or allocate tty";
    match (terminal, detach, socket) {
        (true, true, false) => {
            Err(Failure::new(act, "cannot allocate tty if runc will detach without setting console socket")
                .fix("give --console-socket, or set process.terminal to false"))
        }
        (_, false, true) => Err(Failure::new(act, USELESS).fix("drop --console-socket, or detach")),
        (false, true, true) => {
            Err(Failure::new(act, USELESS).fix("drop --console-socket, or set process.terminal to true"))
        }
        _ => Ok(()),
    }
}

/// Makes a new master ready for us to relay: the size of our terminal unless it has one, and no newline translation on
/// output, which the outer terminal does. One that goes through a socket is its receiver's to set up, as with runc: a
/// client whose own terminal translates nothing counts on ONLCR.
///
/// # Errors
/// None that a pseudoterminal gives.
pub fn prepare(master: &OwnedFd, console: &Console, container: &str) -> Result<(), Failure> {
    let Console::Ours = console else { return Ok(()) };
    let act = || format!("cannot set up the terminal of container {container}");
    let mut settings = tcgetattr(master).act(act)?;
    settings.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(master, SetArg::TCSANOW, &settings).act(act)?;
    if tty::size(master).act(act)? == (tty::Size { rows: 0, columns: 0 }) {
        // Without a terminal of ours there is no size to take.
        if let Ok(size) = tty::size(std::io::stdin()) {
            tty::set_size(master, size).act(act)?;
        }
    }
    Ok(())
}

/// Sends the master to the socket, if that is where it goes; returns it otherwise.
///
/// # Errors
/// A receiver that is gone.
pub fn hand_over(master: OwnedFd, console: &Console, container: &str) -> Result<Option<OwnedFd>, Failure> {
    let Console::Socket(stream, path) = console else { return Ok(Some(master)) };
    fds::send(stream.as_fd(), b"/dev/ptmx", Some(master.as_fd()))
        .act(|| format!("cannot send the terminal of container {container} to {}", path.display()))?;
    Ok(None)
}
