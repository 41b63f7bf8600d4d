//! From a place and an errno to a sentence.

use super::hooks::describe;
use super::scheduling;
use crate::host::{self, namespaces};
use crate::plan::degrade::Allowance;
use crate::plan::proc::UNMASK;
use crate::plan::step::{Bind, Filesystem, Op};
use crate::plan::{DEVICE_FIX, Plan};
use crate::report::{Failure, errno_text, one_line};
use crate::sync::{Act, Failed, Isolate, Place};
use crate::sys::Errno;
use nix::sched::CloneFlags;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// What init reported, as who holds the plan says it.
pub fn failure(failed: &Failed, plan: &Plan) -> Failure {
    let op = match failed.place {
        Place::Ids(n) => match plan.steps.get(usize::from(n)).map(|step| &step.op) {
            Some(Op::Bind(bind)) => return ids(bind, failed.errno, &failed.detail, &plan.id),
            other => other,
        },
        Place::Step(n) => plan.steps.get(usize::from(n)).map(|step| &step.op),
        Place::Fallback(n, nth) => {
            let step = plan.steps.get(usize::from(n));
            step.and_then(|step| step.or.get(usize::from(nth))).map(|other| &other.op)
        }
        _ => None,
    };
    match op {
        Some(Op::Filesystem(fs)) if fs.fstype.as_c_str() == c"proc" && failed.errno == Errno::EPERM => {
            let own_user = plan.namespaces.is_new(CloneFlags::CLONE_NEWUSER);
            return masked_proc(fs, own_user, &host::proc::covered(), &plan.id);
        }
        Some(op) => return step(failed, op, &plan.id, &plan.rootfs),
        None => {}
    }
    let program =
        plan.process.args.iter().next().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
    let cwd = plan.process.cwd.to_string_lossy();
    late_failure(failed, &plan.id, &program, &cwd)
}

/// Why there is no new proc: what is covered of the one that is there.
fn masked_proc(fs: &Filesystem, own_user: bool, covered: &[PathBuf], container: &str) -> Failure {
    let text = errno_text(Errno::EPERM);
    let at = fs.at.to_string_lossy();
    let act = format!("cannot mount proc on {at} in container {container}");
    let cause = match covered {
        [] if namespaces::obstacles().seccomp => return denied(Failure::new(act, text)),
        [] => format!("no /proc is mounted that could be seen whole: {text}"),
        [one] => format!("{} is masked, so no new proc may be mounted: {text}", one.display()),
        [first, more @ ..] => {
            let (first, more) = (first.display(), more.len());
            format!("{first} and {more} more are masked, so no new proc may be mounted: {text}")
        }
    };
    let failure = Failure::new(act, cause);
    // Without it the container would not be kept from the processes that it saw.
    let fix = if own_user { Allowance::Proc.or_without(UNMASK) } else { UNMASK.to_string() };
    failure.code("PROC-MASKED").fix(fix)
}

/// The way out of an outer container's filter.
const UNFILTER: &str = "start the outer container without a seccomp filter: docker, podman --security-opt seccomp=unconfined, Kubernetes seccompProfile: {type: Unconfined}";

/// Whether an operation is one of mount(2) and its kin.
fn mounts(op: &Op) -> bool {
    matches!(
        op,
        Op::Propagation { .. }
            | Op::Root { .. }
            | Op::Filesystem(_)
            | Op::Bind(_)
            | Op::Remount { .. }
            | Op::Device { .. }
            | Op::Mask { .. }
            | Op::ReadOnly { .. }
            | Op::RootReadOnly
            | Op::Pivot
            | Op::MoveRoot
            | Op::RootPropagation { .. }
    )
}

/// A mount that something around us forbids, which the kernel does not name.
fn denied(failure: Failure) -> Failure {
    let failure = failure.code("MNT-DENIED");
    if namespaces::obstacles().seccomp {
        return failure.fix(format!("{UNFILTER}; bryo doctor --for nested tells all that is missing"));
    }
    failure.fix(
        "mounts are refused here by an outer security policy: docker, podman --security-opt apparmor=unconfined (AppArmor) or label=disable (SELinux); bryo doctor --for nested tells all that is missing",
    )
}

/// Why a step was not taken.
pub fn step(failed: &Failed, op: &Op, container: &str, rootfs: &Path) -> Failure {
    let act = format!("cannot {} in container {container}", op.describe());
    let text = match (op, failed.errno) {
        // The words are runc's.
        (Op::Filesystem(fs), Errno::ELOOP) if fs.exact => {
            let at = fs.at.to_string_lossy();
            format!("{at} must be mounted on ordinary directory: {}", errno_text(failed.errno))
        }
        (_, errno) => errno_text(errno),
    };
    if let Op::Hook(n) = op {
        return hook_failure("createContainer", *n, failed, container);
    }
    let failure = if failed.detail.is_empty() {
        Failure::new(act, text)
    } else {
        Failure::new(act, format!("{}: {text}", one_line(&String::from_utf8_lossy(&failed.detail))))
    };
    match (op, failed.errno) {
        // What is refused by us has said why.
        (op, Errno::EPERM) if mounts(op) && failed.detail.is_empty() => denied(failure),
        // To a directory on the way the same errno is about something else.
        (Op::Propagation { .. } | Op::Filesystem(_), Errno::EACCES) => denied(failure),
        (op, Errno::ENOSYS) if mounts(op) => {
            failure.code("MNT-API").fix("bryo needs the mount calls of Linux 5.12 or later; in an outer container, allow them")
        }
        (Op::Hostname(_) | Op::Domainname(_), Errno::EPERM | Errno::EACCES | Errno::ENOSYS) => {
            failure.code("UTS-DENIED").fix(format!("remove hostname and domainname from config.json, or {UNFILTER}"))
        }
        (Op::Overlay(..) | Op::Trunk { .. }, Errno::EINVAL | Errno::EPERM | Errno::ENODEV | Errno::EOPNOTSUPP) => {
            failure.code("FS-OVERLAY").fix("install fuse-overlayfs, and let the user open /dev/fuse")
        }
        (Op::Served(_), Errno::ENOTCONN | Errno::ECONNABORTED | Errno::ECONNREFUSED | Errno::ENOENT | Errno::EPERM | Errno::EIO) => failure
            .code("FS-FUSE")
            .fix("see that fuse-overlayfs runs and /dev/fuse may be opened, or take fuse-overlayfs out of PATH to go without"),
        (Op::Copied(_), Errno::ENOSPC) => failure.code("FS-OVERLAY").fix(
            "the root file system had to be copied into memory: install fuse-overlayfs, or name a directory on a disk with --overlay",
        ),
        (Op::Overlay(..) | Op::Copied(_) | Op::Trunk { .. }, Errno::ENOENT | Errno::ENOTDIR) => {
            failure.fix("each of the layers has to be a directory: see root.path and io.bryo.rootfs.layers in config.json")
        }
        (Op::Root { .. } | Op::Overlay(..) | Op::Copied(_) | Op::Served(_) | Op::Trunk { .. }, Errno::EACCES) => failure.code("FS-ACCESS").fix(format!(
            "the container's root user has to be able to enter every directory of {}: chmod a+x what lies above it",
            rootfs.display()
        )),
        (Op::Device { .. }, Errno::ENOENT | Errno::ENODEV) => {
            failure.code("DEV").fix(Allowance::Devices.or_without(DEVICE_FIX))
        }
        (Op::Device { .. } | Op::Node { .. }, Errno::EEXIST) => {
            failure.code("DEV").fix("remove what the image or a mount has at its path, or show the device elsewhere")
        }
        (Op::Filesystem(fs), Errno::ELOOP) if fs.exact => failure.fix("the image has a symbolic link there: replace it by a directory"),
        (Op::Affinity(_), Errno::EINVAL) => {
            failure.fix("name processors that are there and in the cpuset of the container")
        }
        (Op::MemoryPolicy(_), Errno::EINVAL) => {
            failure.fix("name nodes that are there and in the cpuset of the container, and flags that go together")
        }
        (Op::MemoryPolicy(_), Errno::ENOSYS) => {
            failure.fix("remove linux.memoryPolicy: this kernel has no NUMA, or an outer container forbids it")
        }
        (Op::Pivot, Errno::EINVAL) => failure.fix("on a ramdisk, use --no-pivot"),
        _ => failure,
    }
}

/// Why a mount cannot show its files with other ids.
pub fn ids(bind: &Bind, errno: Errno, detail: &[u8], container: &str) -> Failure {
    let (source, at) = (bind.source.to_string_lossy(), bind.at.to_string_lossy());
    let act = format!("cannot mount {source} on {at} with other ids in container {container}");
    let text = errno_text(errno);
    let failure = |cause: &str| Failure::new(act.clone(), format!("{cause}: {text}")).code("MNT-IDMAP");
    if !detail.is_empty() {
        return failure(&one_line(&String::from_utf8_lossy(detail)));
    }
    match errno {
        Errno::EPERM => failure(
            "only root of the user namespace that its file system was mounted in may, and not where it has other ids already",
        )
        .fix("run it as root of the machine, or remove idmap and give the files to ids of the container"),
        Errno::EINVAL => failure("its file system cannot do it, or not in this kernel")
            .fix("put it on another file system (ext4, xfs, btrfs, tmpfs), or remove idmap"),
        _ => failure("mount_setattr").fix("bryo needs Linux 5.12 or later for it; in an outer container, allow it"),
    }
}

/// What init reported after it was ready, when nobody holds the plan any more.
pub fn late_failure(failed: &Failed, container: &str, program: &str, cwd: &str) -> Failure {
    let text = errno_text(failed.errno);
    let act = |what: &str| format!("cannot {what} in container {container}");
    match failed.place {
        Place::Sync => Failure::new(format!("cannot talk to init of container {container}"), text),
        Place::Isolate(what) => {
            let what = match what {
                Isolate::Root => "become root",
                Isolate::Time => "set the time offsets",
                Isolate::Unshare => "make namespaces",
                Isolate::Proc => "open /proc of the host",
                Isolate::Cgroup => "enter the cgroup namespace",
            };
            // Where AppArmor restricts user namespaces, the clone has succeeded, and all that is forbidden comes
            // after it; and each kind of namespace has a limit of its own.
            namespaces::explain(act(what), failed.errno, &namespaces::obstacles())
        }
        Place::Step(n) | Place::Ids(n) | Place::Fallback(n, _) => {
            Failure::new(act(&format!("take step {n}")), text)
        }
        Place::StartHook(n) => hook_failure("startContainer", n, failed, container),
        Place::Process(what @ (Act::Scheduler | Act::IoPriority)) => {
            scheduling::failure(what, failed.errno, container)
        }
        Place::Process(what @ (Act::Profile | Act::Label)) => label_failure(what, failed.errno, &act),
        Place::Process(what) => process_failure(what, &act, &text, cwd),
        Place::NoExec => {
            let cause = format!("exec: {program:?}: its file system is mounted noexec: {text}");
            Failure::new(act("run the program"), cause)
                .code("FS-NOEXEC")
                .fix("put the program on a file system that is mounted without noexec")
        }
        Place::Lookup | Place::Exec => {
            exec_failure(failed.errno, failed.place == Place::Lookup, program, &act("run the program"), &text)
        }
    }
}

/// The words are Go's and runc's: engines read 126 and 127 out of them.
fn exec_failure(errno: Errno, lookup: bool, program: &str, act: &str, text: &str) -> Failure {
    let cause = match errno {
        Errno::ENOENT if lookup && !program.contains('/') => {
            format!("exec: {program:?}: executable file not found in $PATH")
        }
        Errno::ENOENT | Errno::ENOTDIR if lookup => format!("exec: {program:?}: stat {program}: {text}"),
        Errno::ENOENT => format!("its interpreter is missing: exec {program}: {text}"),
        _ => format!("exec: {program:?}: {text}"),
    };
    let failure = Failure::new(act, cause);
    match errno {
        Errno::ENOENT if lookup => failure.code("EXEC-NOTFOUND").fix("name a program that the root file system has"),
        Errno::ENOENT => failure.code("EXEC-INTERPRETER").fix("add the interpreter or dynamic loader that the program names"),
        Errno::EACCES | Errno::EISDIR => failure
            .code("EXEC-DENIED")
            .fix("it has to be an executable file that the user of the process may run, on a file system without noexec"),
        Errno::ENOEXEC => failure.code("EXEC-FORMAT").fix("it is for another machine, or a script without #!"),
        _ => failure,
    }
}

/// What a security module has against a profile or a label: it is never done without.
fn label_failure(what: Act, errno: Errno, act: &dyn Fn(&str) -> String) -> Failure {
    let text = errno_text(errno);
    let (what, code, (cause, fix)) = if what == Act::Profile {
        let told = match errno {
            Errno::ENOENT => (
                "it is not loaded",
                "load it (sudo apparmor_parser -r FILE), or name another in process.apparmorProfile",
            ),
            _ => (
                "AppArmor does not let us change to it",
                "allow it in the profile that bryo runs under (change_profile)",
            ),
        };
        ("set the AppArmor profile", "LSM-APPARMOR", told)
    } else {
        let told = match errno {
            Errno::EINVAL => ("the policy knows no such label", "correct process.selinuxLabel"),
            _ => ("the policy does not let us change to it", "see the audit log: ausearch -m avc"),
        };
        ("set the SELinux label", "LSM-SELINUX", told)
    };
    Failure::new(act(what), format!("{cause}: {text}")).code(code).fix(fix)
}

fn process_failure(what: Act, act: &dyn Fn(&str) -> String, text: &str, cwd: &str) -> Failure {
    let what = match what {
        Act::Session => "make a session",
        Act::Terminal => "set up the terminal",
        Act::Keyring => "join a session keyring",
        Act::Profile | Act::Label => "set the security label",
        Act::Rlimits => "set resource limits",
        Act::Bounding | Act::Capabilities => "set capabilities",
        Act::Ambient => "set ambient capabilities",
        Act::Groups => "set groups",
        Act::Gid => "set the gid",
        Act::Uid => "set the uid",
        Act::NoNewPrivileges => "set no_new_privs",
        Act::Seccomp => "load the seccomp filter",
        Act::Cwd => {
            return Failure::new(act(&format!("change to directory {cwd}")), format!("chdir {cwd}: {text}"));
        }
        Act::CwdOutside => {
            return Failure::new(
                act(&format!("change to directory {cwd}")),
                format!("current working directory is outside of container mount namespace root: {text}"),
            );
        }
        Act::Descriptors => "pass on descriptors",
        Act::StartSocket => "wait for the start",
        Act::Signals => "restore signals",
        Act::Home => "look up the home of its user in /etc/passwd",
        Act::Scheduler => "set the scheduler",
        Act::IoPriority => "set the I/O priority",
        Act::Stub => {
            return Failure::new(act("keep bryo's own binary from the container"), text)
                .code("EXE-GUARD")
                .fix("install bryo as a file that the container's ids do not own, or allow memory files to be executed (vm.memfd_noexec)");
        }
    };
    Failure::new(act(what), text)
}

fn hook_failure(kind: &str, n: u16, failed: &Failed, container: &str) -> Failure {
    // A hook that ran and failed puts its wait status in front of what it said.
    let cause = match failed.detail.split_first_chunk::<4>() {
        Some((status, said)) if failed.errno == Errno::ECHILD => {
            describe(ExitStatus::from_raw(i32::from_le_bytes(*status)), said)
        }
        _ => errno_text(failed.errno),
    };
    Failure::new(
        format!("cannot run {kind} hook #{n} of container {container}"),
        format!("error running {kind} hook #{n}: {cause}"),
    )
    .code("HOOK")
    .fix(super::hooks::FIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(place: Place, errno: Errno) -> String {
        late_failure(&Failed { place, errno, detail: Vec::new() }, "web", "sh", "/").to_string()
    }

    /// What the kernel answers to a write of attr/apparmor/exec and attr/exec, recorded: no machine of the tests has
    /// either module with a policy.
    #[test]
    fn a_profile_or_a_label_that_is_not_to_be_had_is_refused_by_its_module() {
        for (act, errno, code, fix) in [
            (Act::Profile, Errno::ENOENT, "LSM-APPARMOR: it is not loaded", "apparmor_parser -r"),
            (Act::Profile, Errno::EACCES, "LSM-APPARMOR", "change_profile"),
            (
                Act::Label,
                Errno::EINVAL,
                "LSM-SELINUX: the policy knows no such label",
                "process.selinuxLabel",
            ),
            (Act::Label, Errno::EACCES, "LSM-SELINUX", "ausearch"),
        ] {
            let line = told(Place::Process(act), errno);
            let (said, way_out) = line.split_once("; fix: ").unwrap_or_else(|| panic!("{line}"));
            assert!(said.contains(code) && said.ends_with(&errno_text(errno)), "{line}");
            assert!(way_out.contains(fix), "{line}");
        }
    }

    #[test]
    fn what_engines_look_for_is_said_of_a_program_on_a_noexec_mount() {
        let line = told(Place::NoExec, Errno::EACCES);
        assert_eq!(
            line,
            "cannot run the program in container web: FS-NOEXEC: exec: \"sh\": its file system is mounted noexec: \
             permission denied; fix: put the program on a file system that is mounted without noexec"
        );
    }
}
