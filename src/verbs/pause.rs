//! `pause` and `resume`: a container stops in its tracks, and goes on.

use crate::report::Failure;
use crate::state::store::Store;

/// `bryo pause`.
pub fn pause(_store: &Store, _id: &str) -> Result<u8, Failure> {
    Err(Failure::new("cannot pause", "not supported yet: operation not supported"))
}

/// `bryo resume`.
pub fn resume(_store: &Store, _id: &str) -> Result<u8, Failure> {
    Err(Failure::new("cannot resume", "not supported yet: operation not supported"))
}
