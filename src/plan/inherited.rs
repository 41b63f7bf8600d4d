//! What the processes of a container have from its init, each from its parent: those that join it from outside
//! have to be given the same.

use super::step::{Op, Step};
use crate::report::Failure;
use oci_spec::runtime::{Linux, LinuxPersonalityDomain};
use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// For personality(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<u32>,
}

/// Decides.
///
/// # Errors
/// What makes no sense.
pub fn decide(linux: &Linux, container: &str) -> Result<Inherited, Failure> {
    Ok(Inherited { personality: personality(linux, container)? })
}

impl Inherited {
    /// How a process comes by it.
    pub fn steps(&self) -> Vec<Step> {
        let personality = self.personality.map(|personality| Op::Personality(personality).into());
        personality.into_iter().collect()
    }
}

/// config-linux.md, "Personality".
fn personality(linux: &Linux, container: &str) -> Result<Option<u32>, Failure> {
    // Those of personality(2).
    const PER_LINUX: u32 = 0;
    const PER_LINUX32: u32 = 8;
    let Some(wanted) = linux.personality() else { return Ok(None) };
    // The specification knows none; some would weaken the container (ADDR_NO_RANDOMIZE).
    if let Some(flag) = wanted.flags().iter().flatten().next() {
        return Err(Failure::new(
            format!("cannot set the personality of container {container}"),
            format!("flag {flag:?} is not known: invalid argument"),
        )
        .fix("remove linux.personality.flags"));
    }
    Ok(Some(match wanted.domain() {
        LinuxPersonalityDomain::PerLinux => PER_LINUX,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    }))
}
