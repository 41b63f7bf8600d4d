//! `events`: what a container uses, and when it runs out of memory.

use crate::report::Failure;
use crate::state::store::Store;

/// `bryo events`.
pub fn events(_store: &Store, _id: &str, _interval: &str, _stats: bool) -> Result<u8, Failure> {
    Err(Failure::new("cannot events", "not supported yet: operation not supported"))
}
