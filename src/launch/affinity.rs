//! The processors that a child is to start on: it inherits them, so they are ours for the time of the clone.

use crate::report::{Act, Failure};
use crate::sys::process::{affinity, set_affinity};

/// Our processors while they are the child's; dropping takes our own back.
#[derive(Debug)]
pub struct Lent {
    before: Vec<u16>,
}

/// Moves to the processors that a child is to start on.
///
/// # Errors
/// `EINVAL` where none of them is there, and ours to use.
pub fn lend(cpus: Option<&[u16]>, container: &str) -> Result<Option<Lent>, Failure> {
    let Some(cpus) = cpus else { return Ok(None) };
    let act = || format!("cannot choose processors {cpus:?} in container {container}");
    let before = affinity().act(act)?;
    set_affinity(cpus).act(act)?;
    Ok(Some(Lent { before }))
}

impl Drop for Lent {
    fn drop(&mut self) {
        // They were ours a moment ago; where they are no longer, the kernel has given us others.
        let _ = set_affinity(&self.before);
    }
}
