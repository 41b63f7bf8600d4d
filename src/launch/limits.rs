//! Hard limits: only the host's root may raise one, and init may be root of a user namespace that is not the
//! host's. So we raise our own before the clone, and init inherits them. It lowers them as its last act.

use crate::report::{Act, Failure};
use crate::sys::process::{Rlimit, set_rlimit};

/// Raises our own hard limits to those that a process is to have.
///
/// # Errors
/// `EPERM` for who may not; the plan has lowered what it could not have.
pub fn raise(limits: &[Rlimit], container: &str) -> Result<(), Failure> {
    for limit in limits {
        let act = || format!("cannot raise resource limits for container {container}");
        if let Some(raised) = limit.raised().act(act)? {
            set_rlimit(&raised).act(act)?;
        }
    }
    Ok(())
}
