//! The agent that a notifying seccomp filter needs: it gets the filter's descriptor from init.

use crate::init::StateText;
use crate::report::{Act, Failure};
use crate::state::{Record, Status};
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
    /// The container process state (config-linux.md, "Container process state") but for the pids.
    pub greeting: StateText,
}

impl Listener {
    /// Connects, before anything is made that would have to be undone.
    ///
    /// # Errors
    /// `SECCOMP-AGENT` where nobody listens: without an agent every notifying call would hang.
    pub fn connect(&self, record: &Record) -> Result<Agent, Failure> {
        let socket = UnixStream::connect(&self.path)
            .act(|| {
                format!("cannot reach the seccomp agent {} of container {}", self.path.display(), record.id)
            })
            .map_err(|failure| {
                failure.code("SECCOMP-AGENT").fix("start the agent that linux.seccomp.listenerPath names")
            })?;
        let mut state = serde_json::json!({
            "ociVersion": record.oci_version,
            "fds": ["seccompFd"],
            "pid": StateText::MARK,
            "state": record.oci(Status::Created, StateText::MARK),
        });
        if let Some(metadata) = &self.metadata {
            state["metadata"] = metadata.as_str().into();
        }
        Ok(Agent { socket: socket.into(), greeting: StateText::split(&state) })
    }
}
