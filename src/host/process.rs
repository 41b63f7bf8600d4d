//! What we are as a process: limits, scores, and the security modules that could confine a child.

use crate::sys::{self, process::rlimit};
use std::os::unix::fs::MetadataExt;

/// Security modules that know per-process profiles or labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lsm {
    pub apparmor: bool,
    pub selinux: bool,
}

/// The hard limit of every resource, by its `RLIMIT_*` number.
///
/// # Errors
/// None that is known.
pub fn hard_limits() -> sys::Result<[u64; 16]> {
    let mut limits = [0; 16];
    for (resource, limit) in (0..).zip(&mut limits) {
        *limit = rlimit(resource)?.1;
    }
    Ok(limits)
}

/// The uid that owns the file we were started from; our own where that cannot be seen, which is the careful
/// answer. None if it is sealed memory.
pub fn binary_owner() -> Option<u32> {
    match std::fs::metadata("/proc/self/exe") {
        Ok(meta) if meta.nlink() == 0 && sys::stub::is_own_copy() => None,
        Ok(meta) => Some(meta.uid()),
        Err(_) => Some(nix::unistd::geteuid().as_raw()),
    }
}

/// Our own oom_score_adj; zero, the kernel's default, where it cannot be read.
pub fn oom_score_adj() -> i32 {
    std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|s| s.trim().parse().ok()).unwrap_or(0)
}

/// The highest capability of this kernel; 63 where it does not tell, which is all there can be.
pub fn last_capability() -> u8 {
    let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap");
    text.ok().and_then(|s| s.trim().parse().ok()).unwrap_or(63)
}

/// Which modules are active. A module without its file system is as good as absent: nobody could tell it
/// anything.
pub fn lsm() -> Lsm {
    let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
    Lsm {
        apparmor: enabled.is_ok_and(|text| text.first() == Some(&b'Y')),
        selinux: std::path::Path::new("/sys/fs/selinux/policy").exists(),
    }
}
