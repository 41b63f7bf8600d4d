//! `update`: other limits for a container that runs.

use crate::report::Failure;
use crate::state::store::Store;

/// `bryo update`.
pub fn update(_store: &Store, _flags: &crate::cli::Update) -> Result<u8, Failure> {
    Err(Failure::new("cannot update", "not supported yet: operation not supported"))
}
