//! For tests elsewhere: what a profile does with a call.
#![allow(clippy::unwrap_used)]

use super::interpreter::{Call, load};

/// `SECCOMP_RET_*` of the profile for a number on an architecture (`AUDIT_ARCH_*`), by the first
/// argument.
pub fn action(profile: &serde_json::Value, token: u32, number: u32, argument: u64) -> u32 {
    let profile = serde_json::from_value(profile.clone()).unwrap();
    let filter = super::compile(&super::normalise(&profile).unwrap()).unwrap();
    load(&filter.instructions).run(Call { token, number, arguments: [argument, 0, 0, 0, 0, 0] })
}
