//! Making the container's first process.
//!
//! A plain container needs one clone: the child is born in its user and pid namespace and makes the
//! others itself. Where namespaces are joined, a process has to enter them first, since a pid namespace
//! only takes effect for children and whoever enters a user namespace cannot come back. That process,
//! the joiner, borrows our memory as a vfork child does (no page table is copied for it), enters, clones
//! the real child with `CLONE_PARENT`, so that it is *our* child, and is gone before we run again.

use super::{Errno, Result, check};
use nix::sched::CloneFlags;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A child that was just made.
#[derive(Debug)]
pub struct Child {
    /// Its pid as seen from our pid namespace.
    pub pid: i32,
    /// A descriptor that means this process for ever, even once the pid is reused.
    pub pidfd: OwnedFd,
}

/// A namespace to enter: the descriptor of a namespace file or a pidfd, and `CLONE_NEW*` bits.
#[derive(Debug, Clone, Copy)]
pub struct Join<'a> {
    /// What setns(2) is called with.
    pub fd: BorrowedFd<'a>,
    /// For a namespace file its one kind, for a pidfd any number of kinds.
    pub kinds: CloneFlags,
}

/// What went wrong while a child was made: which of the joins, or the clone itself.
#[derive(Debug, PartialEq, Eq)]
pub struct SpawnError {
    /// Index of the [`Join`] that failed; `None` when the clone failed.
    pub join: Option<usize>,
    /// The kernel's word on it.
    pub errno: Errno,
}

/// Whether an errno of a clone into a cgroup is about the cgroup: it may work without, and by moving the child then.
/// `EACCES` and `ENOENT` are for one that is out of our reach, `EBUSY` for one that has controllers for others,
/// `ENOSYS` for kernels and outer containers without clone3(2) or its flag (Linux 5.7).
pub fn is_about_cgroup(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EACCES
            | Errno::ENOENT
            | Errno::EBUSY
            | Errno::EOPNOTSUPP
            | Errno::ENODEV
            | Errno::ENOSYS
            | Errno::EINVAL
            | Errno::E2BIG
    )
}

/// Clones a child that runs `body` in the namespaces of `fresh`, below the namespaces of `joins`; in `cgroup`, if
/// there is one.
///
/// `body` runs in a copy of this process with one thread and must never return. The caller must be
/// single-threaded: only then may the child use the heap.
///
/// # Errors
/// The failing join or the clone, with its errno; nothing is left running then.
pub fn spawn(
    joins: &[Join<'_>],
    fresh: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    body: &mut dyn FnMut() -> std::convert::Infallible,
) -> std::result::Result<Child, SpawnError> {
    spawn_below(joins, None, fresh, cgroup, body)
}

/// The same for a child that finds this directory as its root (chroot(2)) from its first moment.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_below(
    joins: &[Join<'_>],
    root: Option<BorrowedFd<'_>>,
    fresh: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    body: &mut dyn FnMut() -> std::convert::Infallible,
) -> std::result::Result<Child, SpawnError> {
    if joins.is_empty() && root.is_none() {
        let child = clone3(fresh, cgroup, body).map_err(|errno| SpawnError { join: None, errno })?;
        return Ok(child);
    }
    spawn_joined(joins, root, fresh, cgroup, body)
}

/// clone_args of clone3(2), as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

#[allow(unreachable_code)] // rustc 1.85 overlooks that only the child runs the body
fn clone3(
    fresh: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    body: &mut dyn FnMut() -> std::convert::Infallible,
) -> Result<Child> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: fresh.bits() as u64 | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the arguments outlive the call; without CLONE_VM the child runs on its own copy of this
    // stack and memory, as after fork(2). The caller vouches for one thread.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    let pid = match check(ret) {
        // Outer containers answer ENOSYS to clone3, since their seccomp filter cannot look into a struct.
        Err(Errno::ENOSYS) if cgroup.is_none() => {
            // SAFETY: as above; the flags fit into the old interface, whose parent_tid slot takes the
            // pidfd. Argument order after the stack differs by architecture only for child_tid and tls,
            // which are both zero.
            let ret = unsafe {
                libc::syscall(
                    libc::SYS_clone,
                    args.flags as libc::c_ulong | libc::SIGCHLD as libc::c_ulong,
                    0usize,
                    &raw mut pidfd,
                    0usize,
                    0usize,
                )
            };
            check(ret)?
        }
        other => other?,
    };
    if pid == 0 {
        body();
    }
    // SAFETY: CLONE_PIDFD stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: pid as i32, pidfd })
}

/// What the joiner shares with us.
struct Joiner<'a> {
    joins: &'a [Join<'a>],
    root: Option<BorrowedFd<'a>>,
    fresh: CloneFlags,
    cgroup: Option<BorrowedFd<'a>>,
    body: &'a mut dyn FnMut() -> std::convert::Infallible,
    /// On a shared page, since the joiner may run in a copy of our memory.
    outcome: *mut Outcome,
}

/// The joiner's report.
#[repr(C)]
struct Outcome {
    pid: i32,
    errno: i32,
    /// Index of the failing join, or -1 for the clone.
    join: i32,
}

/// Enough for the child as well: it goes on on the joiner's stack.
const STACK: usize = 512 * 1024;

fn spawn_joined(
    joins: &[Join<'_>],
    root: Option<BorrowedFd<'_>>,
    fresh: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    body: &mut dyn FnMut() -> std::convert::Infallible,
) -> std::result::Result<Child, SpawnError> {
    let failed = |errno| SpawnError { join: None, errno };
    let mut stack = Mapping::new(STACK, libc::MAP_PRIVATE | libc::MAP_STACK).map_err(failed)?;
    let mut page = Mapping::new(4096, libc::MAP_SHARED).map_err(failed)?;
    let outcome: *mut Outcome = page.start().cast();
    // SAFETY: the page is ours, zeroed, aligned and large enough.
    unsafe { outcome.write(Outcome { pid: 0, errno: 0, join: -1 }) };
    let mut joiner = Joiner { joins, root, fresh, cgroup, body, outcome };

    // Entering a time namespace needs memory of one's own (EUSERS otherwise, see timens_install).
    let joins_time = joins.iter().any(|j| j.kinds.contains(time_namespace()));
    let share = if joins_time { 0 } else { libc::CLONE_VM };
    // SAFETY: join_and_clone runs on its own stack; CLONE_VFORK suspends us until it has exited, so the
    // borrowed memory is not used by two processes at a time, and the borrows outlive it.
    let pid = unsafe {
        libc::clone(
            join_and_clone,
            stack.start().add(STACK).cast(),
            share | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut joiner).cast(),
        )
    };
    check(pid).map_err(failed)?;
    let reaped = super::retry(|| nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).map(drop));
    reaped.map_err(failed)?;
    // SAFETY: the joiner is gone; nobody else writes to the page.
    let outcome = unsafe { outcome.read() };
    if outcome.pid > 0 {
        // The pid cannot have been reused: it is our child, and we have not waited for it.
        let pidfd = super::pidfd::open(outcome.pid).map_err(failed)?;
        return Ok(Child { pid: outcome.pid, pidfd });
    }
    Err(SpawnError {
        join: usize::try_from(outcome.join).ok(),
        // An untouched page means that the joiner was killed.
        errno: if outcome.errno == 0 { Errno::ECHILD } else { Errno::from_raw(outcome.errno) },
    })
}

/// The joiner's life. Only system calls: its memory may be ours.
#[allow(unreachable_code)] // rustc 1.85 overlooks that only the child runs the body
extern "C" fn join_and_clone(arg: *mut libc::c_void) -> libc::c_int {
    // SAFETY: spawn_joined passes a Joiner that outlives us, and is suspended meanwhile.
    let joiner = unsafe { &mut *arg.cast::<Joiner<'_>>() };
    let report = |pid: i32, errno: i32, join: i32| {
        // SAFETY: the shared page outlives us and has no other writer now.
        unsafe { joiner.outcome.write(Outcome { pid, errno, join }) };
    };
    // What our rights of now do for is entered before the user namespace, in which they may be none: of the others not
    // all need belong to it. The rest is entered with the rights that one has inside.
    let user = joiner.joins.iter().position(|join| join.kinds == CloneFlags::CLONE_NEWUSER);
    let mut entered = 0_u64;
    for inside in [false, true] {
        for (i, join) in joiner.joins.iter().enumerate() {
            if entered & (1 << i) != 0 || (!inside && user.is_none_or(|user| user == i)) {
                continue;
            }
            match nix::sched::setns(join.fd, join.kinds) {
                Ok(()) => entered |= 1 << i,
                Err(Errno::EPERM) if !inside => {}
                Err(errno) => {
                    report(0, errno as i32, i as i32);
                    return 1;
                }
            }
        }
    }
    if let Some(root) = joiner.root {
        let enter = || {
            nix::unistd::fchdir(root)?;
            nix::unistd::chroot(c".")
        };
        if let Err(errno) = enter() {
            report(0, errno as i32, -1);
            return 1;
        }
    }
    let mut args = CloneArgs {
        flags: (joiner.fresh.bits() | libc::CLONE_PARENT) as u64,
        // CLONE_PARENT insists on zero here: the signal is that of the joiner's own creation.
        exit_signal: 0,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = joiner.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child gets its own copy of the memory, this stack included.
    let mut ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    if ret < 0 && Errno::last() == Errno::ENOSYS && joiner.cgroup.is_none() {
        // SAFETY: as above, by the old interface.
        ret = unsafe {
            libc::syscall(
                libc::SYS_clone,
                args.flags as libc::c_ulong | libc::SIGCHLD as libc::c_ulong,
                0usize,
                0usize,
                0usize,
                0usize,
            )
        };
    }
    if ret == 0 {
        (joiner.body)();
    }
    if ret < 0 {
        report(0, Errno::last_raw(), -1);
        return 1;
    }
    report(ret as i32, 0, -1);
    0
}

/// `CLONE_NEWTIME`, which nix does not name.
pub fn time_namespace() -> CloneFlags {
    CloneFlags::from_bits_retain(0x80)
}

/// unshare(2), single kinds or many.
///
/// # Errors
/// The errno of unshare(2).
pub fn unshare(kinds: CloneFlags) -> Result<()> {
    nix::sched::unshare(kinds)
}

/// setns(2) into the namespace behind a file or a pidfd.
///
/// # Errors
/// The errno of setns(2).
pub fn setns(fd: impl AsFd, kinds: CloneFlags) -> Result<()> {
    nix::sched::setns(fd, kinds)
}

/// Anonymous memory that is unmapped when dropped.
struct Mapping {
    start: *mut libc::c_void,
    len: usize,
}

impl Mapping {
    fn new(len: usize, flags: libc::c_int) -> Result<Mapping> {
        // SAFETY: a fresh anonymous mapping aliases nothing.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Mapping { start, len })
    }

    fn start(&mut self) -> *mut u8 {
        self.start.cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and no reference into it is left.
        unsafe { libc::munmap(self.start, self.len) };
    }
}
