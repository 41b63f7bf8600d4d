//! The descriptor of a container's process for who asks for it (`--pidfd-socket`, and crun's annotation): with it a
//! caller can wait for and signal the process without any pid.

use crate::report::{Act, Failure};
use crate::sys::clone::Child;
use crate::sys::fds;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// crun's annotation for the same.
pub const RECEIVER: &str = "run.oci.pidfd_receiver";

/// Whoever listens.
#[derive(Debug)]
pub struct Receiver {
    socket: UnixStream,
    path: PathBuf,
}

impl Receiver {
    /// Connects, before anything is made that would have to be undone.
    ///
    /// # Errors
    /// A socket that nobody listens on.
    pub fn connect(path: Option<&Path>, act: &str) -> Result<Option<Receiver>, Failure> {
        let Some(path) = path else { return Ok(None) };
        let socket = UnixStream::connect(path).act(|| format!("{act}: pidfd socket {}", path.display()))?;
        Ok(Some(Receiver { socket, path: path.to_path_buf() }))
    }

    /// Sends the descriptor, in one message as runc's receivers expect it.
    ///
    /// # Errors
    /// A receiver that is gone.
    pub fn send(&self, child: &Child, container: &str) -> Result<(), Failure> {
        fds::send(self.socket.as_fd(), b"pidfd", Some(child.pidfd.as_fd()))
            .act(|| format!("cannot send the pidfd of container {container} to {}", self.path.display()))
    }
}
