//! Whether namespaces are to be had here, and why not.

use crate::report::{Failure, errno_text};
use crate::sys::{Errno, fds};
use nix::sched::CloneFlags;
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
    /// The kind of namespace of which there may be none: user.max_KIND_namespaces is 0.
    pub none_of: Option<&'static str>,
    /// kernel.apparmor_restrict_unprivileged_userns (Ubuntu 23.10) is 1.
    pub apparmor_restricts: bool,
    /// A seccomp filter is on us.
    pub seccomp: bool,
    /// We are in a chroot, from where the kernel gives no user namespaces.
    pub chroot: bool,
}

/// What limits are named after (namespaces(7)), in the order in which they are met.
const KINDS: [&str; 8] = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"];

/// Reads them.
pub fn obstacles() -> Obstacles {
    let is = |path: &str, text: &str| std::fs::read_to_string(path).is_ok_and(|s| s.trim() == text);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    Obstacles {
        clone_off: is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        none_of: KINDS.into_iter().find(|kind| may_be_none(kind)),
        apparmor_restricts: is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
        seccomp: status.lines().any(|l| l.split_whitespace().eq(["Seccomp:", "2"])),
        chroot: std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| !has_root(&mounts)),
    }
}

/// What can forbid a namespace of one kind: its own limit, not that of another.
pub fn obstacles_to(kind: CloneFlags) -> Obstacles {
    let name = match kind {
        CloneFlags::CLONE_NEWNS => "mnt",
        CloneFlags::CLONE_NEWNET => "net",
        CloneFlags::CLONE_NEWIPC => "ipc",
        CloneFlags::CLONE_NEWUTS => "uts",
        CloneFlags::CLONE_NEWCGROUP => "cgroup",
        CloneFlags::CLONE_NEWPID => "pid",
        CloneFlags::CLONE_NEWUSER => "user",
        _ => "time",
    };
    Obstacles { none_of: Some(name).filter(|name| may_be_none(name)), ..obstacles() }
}

fn may_be_none(kind: &str) -> bool {
    let limit = std::fs::read_to_string(format!("/proc/sys/user/max_{kind}_namespaces"));
    limit.is_ok_and(|limit| limit.trim() == "0")
}

/// Whether our root is a mount (proc_pid_mountinfo(5)): that of a mount namespace always is, that of a chroot
/// seldom.
fn has_root(mountinfo: &str) -> bool {
    mountinfo.lines().any(|line| line.split(' ').nth(4) == Some("/"))
}

impl Obstacles {
    /// What the kernel would say, where they leave no doubt. A filter may let it through, and so may a profile.
    pub fn certain(&self, privileged: bool) -> Option<Errno> {
        if self.none_of == Some("user") {
            return Some(Errno::ENOSPC);
        }
        (self.clone_off && !privileged).then_some(Errno::EPERM)
    }
}

/// The number of a process's namespace; `self` is a process, too. None for one that has gone, and for one that is not
/// ours to look at.
///
/// # Errors
/// What else stat(2) fails with.
pub fn of(pid: &str, kind: &str) -> Result<Option<u64>, Errno> {
    match std::fs::metadata(format!("/proc/{pid}/ns/{kind}")).map_err(fds::io_errno) {
        Ok(meta) => Ok(Some(meta.ino())),
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EACCES | Errno::EPERM) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The pids of all processes in a namespace.
///
/// # Errors
/// A /proc that does not list them.
pub fn sharing(kind: &str, number: u64) -> Result<Vec<i32>, Errno> {
    let entries = std::fs::read_dir("/proc").and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(fds::io_errno)?.into_iter();
    let mut pids = Vec::new();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if of(&pid.to_string(), kind)? == Some(number) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Why the clone failed, told apart by facts, since the kernel says the same for several causes.
pub fn explain(act: String, errno: Errno, seen: &Obstacles) -> Failure {
    let text = errno_text(errno);
    if errno == Errno::ENOSPC || seen.none_of == Some("user") {
        let (cause, kind) = match seen.none_of {
            Some(kind) => (format!("user.max_{kind}_namespaces is 0"), kind),
            // It may be that of a user namespace around ours.
            None => (
                "limit on namespaces reached (user.max_user_namespaces and its like, or nesting)".into(),
                "user",
            ),
        };
        return Failure::new(act, format!("{cause}: {text}"))
            .code("NS-LIMIT")
            .fix(format!("raise it: sudo sysctl -w user.max_{kind}_namespaces=15000"));
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
            .fix("bryo doctor --apparmor-profile | sudo tee /etc/apparmor.d/bryo | sudo apparmor_parser --replace");
    }
    if seen.seccomp {
        return Failure::new(act, format!("the outer container's seccomp filter forbids new namespaces: {text}"))
            .code("NS-SECCOMP")
            .fix("start the outer container with --security-opt seccomp=unconfined (docker, podman) or seccompProfile: {type: Unconfined} (Kubernetes)");
    }
    if seen.chroot {
        return Failure::new(act, format!("there are no user namespaces in a chroot: {text}"))
            .code("NS-DENIED")
            .fix("start bryo outside of it, or enter it by pivot_root (unshare --mount, bwrap, systemd-nspawn)");
    }
    Failure::new(act, format!("nothing that is known to forbid namespaces does: {text}"))
        .code("NS-DENIED")
        .fix("see the kernel log for what a security module denied (journalctl -k), and bryo doctor")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Obstacles = Obstacles {
        clone_off: false,
        none_of: None,
        apparmor_restricts: false,
        seccomp: false,
        chroot: false,
    };

    #[test]
    fn the_causes_of_one_errno_are_told_apart() {
        let cases = [
            (Obstacles { clone_off: true, ..NONE }, "NS-CLONE0", "kernel.unprivileged_userns_clone=1"),
            (Obstacles { apparmor_restricts: true, ..NONE }, "NS-APPARMOR", "bryo doctor --apparmor-profile"),
            (Obstacles { seccomp: true, ..NONE }, "NS-SECCOMP", "seccomp=unconfined"),
            (Obstacles { none_of: Some("user"), ..NONE }, "NS-LIMIT", "user.max_user_namespaces=15000"),
            (Obstacles { chroot: true, ..NONE }, "NS-DENIED", "outside of it"),
            (NONE, "NS-DENIED", "journalctl"),
        ];
        for (seen, code, fix) in cases {
            for errno in [Errno::EPERM, Errno::EACCES, Errno::ENOSYS] {
                let line = explain("cannot start container web".into(), errno, &seen).to_string();
                let (said, way_out) = line.split_once("; fix: ").unwrap_or_else(|| panic!("{line}"));
                assert!(said.contains(code) && said.ends_with(&errno_text(errno)), "{line}");
                assert!(way_out.contains(fix) && !line.contains('\n'), "{line}");
            }
        }
    }

    #[test]
    fn a_full_quota_is_a_limit_whatever_else_is_true() {
        let seen = Obstacles { clone_off: true, seccomp: true, ..NONE };
        let line = explain("cannot".into(), Errno::ENOSPC, &seen).to_string();
        assert!(line.contains("NS-LIMIT") && line.contains("no space left on device"), "{line}");
        let seen = Obstacles { none_of: Some("net"), ..NONE };
        let line = explain("cannot".into(), Errno::ENOSPC, &seen).to_string();
        assert!(line.contains("user.max_net_namespaces is 0: no space left on device"), "{line}");
    }

    #[test]
    fn an_errno_of_another_kind_is_left_as_it_is() {
        let line = explain("cannot".into(), Errno::ENOMEM, &NONE).to_string();
        assert_eq!(line, "cannot: cannot allocate memory");
    }

    #[test]
    fn the_root_of_a_chroot_is_no_mount() {
        let mounts = "29 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n30 29 0:5 / /proc rw - proc proc rw\n";
        assert!(has_root(mounts));
        assert!(!has_root("30 29 0:5 / /proc rw - proc proc rw\n"));
    }
}
