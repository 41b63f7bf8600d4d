//! Whether namespaces are to be had here, and why not.

use crate::report::{Failure, errno_text};
use crate::sys::Errno;
use std::os::unix::fs::MetadataExt;

/// The inode of the initial user namespace (PROC_USER_INIT_INO of include/linux/proc_ns.h).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Whether we are in a user namespace that is not the initial one. The inode tells; a uid_map that maps
/// everything would not. Where /proc is hidden the answer is yes, which costs privileges, never gives any.
pub fn in_child_userns() -> bool {
    std::fs::metadata("/proc/self/ns/user").map_or(true, |meta| meta.ino() != INITIAL_USER_NAMESPACE)
}

/// What can forbid a user namespace, as read after the kernel has refused one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// kernel.unprivileged_userns_clone (Debian) is 0.
    pub clone_off: bool,
    /// user.max_user_namespaces is 0.
    pub max_is_zero: bool,
    /// kernel.apparmor_restrict_unprivileged_userns (Ubuntu 23.10) is 1.
    pub apparmor_restricts: bool,
    /// A seccomp filter is on us.
    pub seccomp: bool,
}

/// Reads them.
pub fn obstacles() -> Obstacles {
    let is = |path: &str, text: &str| std::fs::read_to_string(path).is_ok_and(|s| s.trim() == text);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    Obstacles {
        clone_off: is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        max_is_zero: is("/proc/sys/user/max_user_namespaces", "0"),
        apparmor_restricts: is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
        seccomp: status.lines().any(|l| l.split_whitespace().eq(["Seccomp:", "2"])),
    }
}

/// Why the clone failed, told apart by facts, since the kernel says the same for several causes.
pub fn explain(act: String, errno: Errno, seen: &Obstacles) -> Failure {
    let text = errno_text(errno);
    if errno == Errno::ENOSPC || seen.max_is_zero {
        return Failure::new(
            act,
            format!(
                "limit on namespaces reached (user.max_user_namespaces and its like, or nesting): {text}"
            ),
        )
        .code("NS-LIMIT")
        .fix("raise it: sudo sysctl -w user.max_user_namespaces=15000");
    }
    if !matches!(errno, Errno::EPERM | Errno::EACCES | Errno::ENOSYS) {
        return Failure::new(act, text);
    }
    if seen.clone_off {
        return Failure::new(act, format!("kernel.unprivileged_userns_clone is 0: {text}"))
            .code("NS-CLONE0")
            .fix("sudo sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if seen.apparmor_restricts {
        return Failure::new(act, format!("AppArmor restricts user namespaces to profiled programs: {text}"))
            .code("NS-APPARMOR")
            .fix("load a profile for this binary that allows userns, or sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0");
    }
    if seen.seccomp {
        return Failure::new(act, format!("the outer container's seccomp filter forbids new namespaces: {text}"))
            .code("NS-SECCOMP")
            .fix("start the outer container with --security-opt seccomp=unconfined (docker, podman) or seccompProfile: {type: Unconfined} (Kubernetes)");
    }
    Failure::new(act, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_causes_of_one_errno_are_told_apart() {
        let cases = [
            (Obstacles { clone_off: true, ..Obstacles::default() }, Some("NS-CLONE0")),
            (Obstacles { apparmor_restricts: true, ..Obstacles::default() }, Some("NS-APPARMOR")),
            (Obstacles { seccomp: true, ..Obstacles::default() }, Some("NS-SECCOMP")),
            (Obstacles { max_is_zero: true, ..Obstacles::default() }, Some("NS-LIMIT")),
            (Obstacles::default(), None),
        ];
        for (seen, code) in cases {
            let line = explain("cannot start container web".into(), Errno::EPERM, &seen).to_string();
            assert!(line.contains("operation not permitted"), "{line}");
            assert_eq!(line.contains("; fix: "), code.is_some(), "{line}");
            assert!(code.is_none_or(|code| line.contains(code)), "{line}");
        }
    }

    #[test]
    fn a_full_quota_is_a_limit_whatever_else_is_true() {
        let line = explain("cannot".into(), Errno::ENOSPC, &Obstacles::default()).to_string();
        assert!(line.contains("NS-LIMIT") && line.contains("no space left on device"), "{line}");
    }
}
