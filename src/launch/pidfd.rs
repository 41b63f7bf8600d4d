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

/// How a process came into its container, by which a receiver tells a container's first one from others.
#[derive(Debug, Clone, Copy)]
pub enum Birth {
    /// The container was made with it.
    Created,
    /// It joined a container that was there.
    Joined,
}

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

    /// Sends the descriptor, in one message with runc's word beside it for how the process came about.
    ///
    /// # Errors
    /// A receiver that is gone.
    pub fn send(&self, child: &Child, birth: Birth, container: &str) -> Result<(), Failure> {
        let word: &[u8] = match birth {
            Birth::Created => b"standard",
            Birth::Joined => b"setns",
        };
        fds::send(self.socket.as_fd(), word, Some(child.pidfd.as_fd()))
            .act(|| format!("cannot send the pidfd of container {container} to {}", self.path.display()))
    }
}
