//! The processors that a child is to start on: it inherits them, so they are ours for the time of the clone.
//!
//! Where nothing is said, it gets all that its cgroup has, as with runc: what our caller is kept to, say a service that
//! was pinned with taskset(1), is no property of the container.

use crate::report::{Act, Failure, debug, errno_text};
use crate::sys::process::{self, affinity, set_affinity};

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

/// Lets a child, in its cgroup by now, run on every processor that this has.
pub fn reset(pid: i32, container: &str) {
    if let Err(errno) = process::reset_affinity(pid) {
        // Then it runs where we do.
        debug(|| format!("cannot reset the processors in container {container}: {}", errno_text(errno)));
    }
}

/// The mask of these processors, as one number.
pub fn mask(cpus: &[u16]) -> String {
    let digits = cpus.iter().max().map_or(1, |last| last / 4 + 1);
    let digit = |n: u16| {
        let bits = (0..4).filter(|bit| cpus.contains(&(n * 4 + bit))).map(|bit| 1 << bit).sum();
        char::from_digit(bits, 16).unwrap_or_default()
    };
    format!("0x{}", (0..digits).rev().map(digit).collect::<String>())
}

impl Drop for Lent {
    fn drop(&mut self) {
        // They were ours a moment ago; where they are no longer, the kernel has given us others.
        let _ = set_affinity(&self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn a_mask_has_a_bit_for_each_processor() {
        assert_eq!(mask(&[0]), "0x1");
        assert_eq!(mask(&[0, 1, 5]), "0x23");
        assert_eq!(mask(&[100]), format!("0x1{}", "0".repeat(25)));
    }
}
