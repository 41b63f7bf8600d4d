//! Terminals: a pair as a user's terminal emulator holds it, and the socket that a runtime sends one through.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::termios::{Termios, tcgetattr};

use crate::lab::PATIENCE;

/// The user's end of a terminal.
pub struct Master {
    file: File,
    seen: String,
}

impl Master {
    pub fn new(fd: OwnedFd) -> Master {
        Master { file: File::from(fd), seen: String::new() }
    }

    pub fn type_in(&mut self, text: &str) {
        self.file.write_all(text.as_bytes()).unwrap();
    }

    pub fn modes(&self) -> Termios {
        tcgetattr(&self.file).unwrap()
    }

    /// Everything that was written to the terminal so far.
    pub fn seen(&mut self) -> &str {
        while self.read_some(Duration::ZERO) {}
        &self.seen
    }

    /// Read until the text was written to the terminal.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            let more = self.read_some(Duration::from_millis(100));
            assert!(more || Instant::now() < end, "no {text:?} on the terminal: {:?}", self.seen);
        }
    }

    /// Read until nobody holds the other end any more, and return all that was written.
    pub fn read_to_end(mut self) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(100_u16)).unwrap();
            let hangup = fds[0].revents().is_some_and(|r| r.contains(PollFlags::POLLHUP));
            if !self.read_some(Duration::ZERO) && hangup {
                return self.seen;
            }
            assert!(Instant::now() < end, "the terminal stays open: {:?}", self.seen);
        }
    }

    fn read_some(&mut self, patience: Duration) -> bool {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(patience).unwrap();
        poll(&mut fds, timeout).unwrap();
        if !fds[0].revents().is_some_and(|r| r.contains(PollFlags::POLLIN)) {
            return false;
        }
        let mut bytes = [0; 4096];
        // EIO is how a terminal says that nobody is left on the other end.
        let count = self.file.read(&mut bytes).unwrap_or(0);
        self.seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        count > 0
    }
}

/// Both ends of a new terminal of this size.
pub fn terminal(rows: u16, columns: u16) -> (Master, File) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None).unwrap();
    // openpty knows no close-on-exec, and another test may start a program at any time.
    for fd in [&pair.master, &pair.slave] {
        let flags = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
        nix::fcntl::fcntl(fd, flags).unwrap();
    }
    (Master::new(pair.master), File::from(pair.slave))
}

/// A console socket that waits for the one message with the terminal in it.
pub struct ConsoleSocket {
    pub path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    pub fn new(dir: &Path) -> ConsoleSocket {
        let path = dir.join("console.sock");
        let listener = UnixListener::bind(&path).unwrap();
        ConsoleSocket { path, listener }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Whether somebody has connected.
    pub fn is_called(&self) -> bool {
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }

    /// Take the terminal out of the message. The runtime that sent it may have ended since.
    pub fn receive(&self) -> Master {
        Master::new(self.receive_fd())
    }

    /// Take the one descriptor out of the message, whatever it is.
    #[track_caller]
    pub fn receive_fd(&self) -> OwnedFd {
        let mut fds = receive_fds(&self.accept()).0;
        assert_eq!(fds.len(), 1, "the message holds just one");
        fds.remove(0)
    }

    /// Take the descriptors of the first message, and all text until whoever connected has closed the
    /// connection.
    #[track_caller]
    pub fn receive_all(&self) -> (Vec<OwnedFd>, String) {
        let mut stream = self.accept();
        let (fds, mut bytes) = receive_fds(&stream);
        stream.read_to_end(&mut bytes).expect("the connection is closed after the message");
        (fds, String::from_utf8(bytes).unwrap())
    }

    #[track_caller]
    fn accept(&self) -> UnixStream {
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let called = poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
        assert_eq!(called, 1, "nobody connected to the socket");
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

/// The descriptors of a message, and what else was in it.
#[track_caller]
fn receive_fds(stream: &UnixStream) -> (Vec<OwnedFd>, Vec<u8>) {
    // A call with a timeout may be interrupted (signal(7)); one for what is there already is not.
    let mut readable = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).unwrap();
    let there = std::iter::repeat_with(|| poll(&mut readable, patience)).find(|r| *r != Err(Errno::EINTR));
    assert_eq!(there, Some(Ok(1)), "no message on the socket");
    let mut bytes = [0; 4096];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 4]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
    let mut received = Vec::new();
    for control in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(fds) = control {
            received.extend(fds.into_iter().map(own));
        }
    }
    let read = message.bytes;
    (received, bytes[..read].to_vec())
}

/// nix hands descriptors of a message over as numbers.
#[allow(unsafe_code)]
fn own(fd: std::os::fd::RawFd) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: the kernel has just made this descriptor for the message that was received here, and nothing
    // else knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
