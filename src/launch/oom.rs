//! oom_score_adj: a child inherits it, so it is written to our own file before the clone and taken back after.
//!
//! The child's file is no way: a child that joins namespaces is undumpable from birth, and its files of /proc
//! belong to the host's root then.

use crate::report::{Act, Failure};
use std::fs::File;
use std::io::{Read, Write};

/// Our score while it is the child's; dropping takes it back.
#[derive(Debug)]
pub struct Lent {
    file: File,
    before: String,
}

/// Takes on the score that a child is to have. Has to be called while we are dumpable.
///
/// # Errors
/// `EACCES` for one below what we may have.
pub fn lend(score: Option<i32>, container: &str) -> Result<Option<Lent>, Failure> {
    let Some(score) = score else { return Ok(None) };
    let act = || format!("cannot set oom_score_adj {score} in container {container}");
    let mut file = File::options().read(true).write(true).open("/proc/self/oom_score_adj").act(act)?;
    let mut before = String::new();
    file.read_to_string(&mut before).act(act)?;
    file.write_all(score.to_string().as_bytes()).act(act)?;
    Ok(Some(Lent { file, before }))
}

impl Drop for Lent {
    fn drop(&mut self) {
        // It was ours a moment ago, and raising is always allowed, lowering down to what root last set.
        let _ = self.file.write_all(self.before.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> String {
        std::fs::read_to_string("/proc/self/oom_score_adj").unwrap()
    }

    #[test]
    fn a_score_is_the_childs_and_ours_again_after() {
        let before = own();
        let lent = lend(Some(777), "web").unwrap();
        let child = std::process::Command::new("cat").arg("/proc/self/oom_score_adj").output().unwrap();
        assert_eq!(child.stdout, b"777\n");
        drop(lent);
        assert_eq!(own(), before);
        assert!(lend(None, "web").unwrap().is_none());
    }
}
