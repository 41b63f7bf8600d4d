//! The agent that a notifying seccomp filter needs: it gets the filter's descriptor from init.

use crate::init::StateText;
use crate::report::{Failure, io_text};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Where the agent is, as the configuration has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub path: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

/// An agent that listens.
#[derive(Debug)]
pub struct Agent {
    pub socket: OwnedFd,
    /// What it is told along with the descriptor.
    pub greeting: StateText,
}

impl Listener {
    /// Connects, before anything is made that would have to be undone.
    ///
    /// # Errors
    /// `SECCOMP-AGENT` where nobody listens: without an agent every notifying call would hang.
    pub fn connect(&self, greeting: StateText, container: &str) -> Result<Agent, Failure> {
        let socket = UnixStream::connect(&self.path).map_err(|error| {
            Failure::new(
                format!("cannot filter system calls of container {container}"),
                format!("failed to connect with seccomp agent {}: {}", self.path.display(), io_text(&error)),
            )
            .code("SECCOMP-AGENT")
            .fix("start the agent that linux.seccomp.listenerPath names")
        })?;
        Ok(Agent { socket: socket.into(), greeting })
    }
}
