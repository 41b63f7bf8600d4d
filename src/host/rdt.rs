//! Where the processor's caches and memory bandwidth are shared out: resctrl (Documentation/filesystems/resctrl.rst).

use super::rootfs::mounted;
use std::path::PathBuf;

/// Where it is mounted, if it is.
pub fn mount_point() -> Option<PathBuf> {
    mounted(&std::fs::read("/proc/self/mountinfo").ok()?, b"resctrl").next()
}
