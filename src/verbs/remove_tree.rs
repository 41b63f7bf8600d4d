//! `remove-tree`: away with directories that hold files of subordinate ids, which rm(1) may not touch.

use crate::launch::remove;
use crate::plan::degrade::Policy;
use crate::report::Failure;
use std::path::PathBuf;

/// `bryo remove-tree`. What comes after the first that cannot be removed stays.
pub fn remove_tree(paths: &[PathBuf], policy: &Policy) -> Result<u8, Failure> {
    paths.iter().try_for_each(|path| remove::path(path, policy))?;
    Ok(0)
}
