//! What a process changes about itself: identity, limits, attributes, and at last the program.

use super::{Errno, Result, check};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, RawFd};

/// setgroups(2).
///
/// # Errors
/// `EPERM` where the user namespace denies it.
pub fn set_groups(gids: &[u32]) -> Result<()> {
    // SAFETY: the pointer and length are of one slice.
    check(unsafe { libc::setgroups(gids.len(), gids.as_ptr()) })?;
    Ok(())
}

/// setresuid(2) with one uid for all three, without the C library's broadcast to threads.
///
/// # Errors
/// `EINVAL` for a uid that is not mapped.
pub fn set_uid(uid: u32) -> Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// setresgid(2), likewise.
///
/// # Errors
/// `EINVAL` for a gid that is not mapped.
pub fn set_gid(gid: u32) -> Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    Ok(())
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> Result<()> {
    // SAFETY: every option used here takes integers only.
    check(unsafe { libc::prctl(option, value, 0 as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong) })?;
    Ok(())
}

/// Hides this process's /proc files, memory and descriptors from everybody but the host's root.
///
/// # Errors
/// None that is known.
pub fn set_undumpable() -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Gives this process's /proc files back to the user whose process it is.
///
/// # Errors
/// None that is known.
pub fn set_dumpable() -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 1)
}

/// Has a program die with us, whatever ends us (PR_SET_PDEATHSIG).
pub fn die_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let parent = nix::unistd::getpid();
    let arm = move || Ok(die_with(parent)?);
    // SAFETY: two system calls, and nothing that a lock or the heap could be needed for.
    unsafe { command.pre_exec(arm) };
}

/// What a program finds when it is started, besides its arguments.
#[derive(Debug, Default)]
pub struct Stage {
    /// The root of ours is a mount on top of itself, in a mount namespace that nobody else sees: pivot_root(2) does not leave a
    /// ramdisk, but it leaves that.
    pub own_root: bool,
    /// A cgroup namespace to be in.
    pub cgroup_namespace: Option<RawFd>,
    /// A directory that is a mount of its own with these attributes, in such a namespace as well. What is mounted on the
    /// host still reaches it.
    pub root: Option<(CString, super::mount::Attr)>,
    /// Descriptors that it gets by the numbers that they have here.
    pub passed: Vec<RawFd>,
    /// The same for directories, which are opened by the program's own mounts: on what belongs to ours it could not
    /// mount anything.
    pub directories: Vec<(CString, RawFd)>,
    /// One end of a socket pair, over which we are sent an end of another pair; the program finds the other end of that by
    /// this number. So it is the program that has made it, and the process that SO_PEERCRED names.
    pub line: RawFd,
}

impl Stage {
    /// Has a program be started like this.
    pub fn set(self, command: &mut std::process::Command) {
        use std::os::unix::process::CommandExt;
        // SAFETY: we have one thread, so that no lock is held in the copy of us, that of the heap neither.
        unsafe { command.pre_exec(move || Ok(self.prepare()?)) };
    }

    fn prepare(&self) -> Result<()> {
        use super::fds::{install, send, set_cloexec};
        use super::mount::{attach, clone_tree, cwd, mount, set_attr};
        use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        if let Some(namespace) = self.cgroup_namespace {
            // SAFETY: our caller has it open.
            let namespace = unsafe { BorrowedFd::borrow_raw(namespace) };
            super::clone::setns(namespace, nix::sched::CloneFlags::CLONE_NEWCGROUP)?;
        }
        if self.own_root || self.root.is_some() {
            super::clone::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
            mount(None, c"/", None, libc::MS_SLAVE | libc::MS_REC, None)?;
        }
        if self.own_root {
            own_root()?;
        }
        if let Some((root, attributes)) = &self.root {
            let tree = clone_tree(cwd(), root, true)?;
            if !attributes.is_empty() {
                set_attr(tree.as_fd(), attributes, false)?;
            }
            let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
            let place = nix::fcntl::open(root.as_c_str(), flags, nix::sys::stat::Mode::empty())?;
            attach(tree.as_fd(), place.as_fd())?;
        }
        self.passed.iter().try_for_each(|fd| set_cloexec(*fd, false))?;
        for (path, number) in &self.directories {
            let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_DIRECTORY;
            let directory = nix::fcntl::open(path.as_c_str(), flags, nix::sys::stat::Mode::empty())?;
            install(directory.as_fd(), *number)?;
        }
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        // SAFETY: our caller has it open.
        send(unsafe { BorrowedFd::borrow_raw(self.line) }, b"line", Some(ours.as_fd()))?;
        install(theirs.as_fd(), self.line)
    }
}

/// Enters a copy of the tree of mounts that begins at our root, laid over it.
fn own_root() -> Result<()> {
    use super::mount::{attach, clone_tree, cwd};
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(c"/", flags, nix::sys::stat::Mode::empty())?;
    let tree = clone_tree(cwd(), c"/", true)?;
    attach(tree.as_fd(), root.as_fd())?;
    nix::unistd::fchdir(&tree)?;
    nix::unistd::chroot(c".")
}

/// sched_setaffinity(2) of this process; numbers beyond the kernel's 1024 are left out.
///
/// # Errors
/// `EINVAL` where none of them exists.
pub fn set_affinity(cpus: &[u16]) -> Result<()> {
    let mut set = nix::sched::CpuSet::new();
    for cpu in cpus {
        // EINVAL beyond the size of the set, where there is no processor either.
        let _ = set.set(usize::from(*cpu));
    }
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
}

/// sched_setaffinity(2) of another process: every processor that its cgroup has.
///
/// # Errors
/// `EPERM` for a process that is not ours, `ENOSYS` where an outer filter forbids it.
pub fn reset_affinity(pid: i32) -> Result<()> {
    // As many as Linux can be built for.
    let all = [u8::MAX; 1024];
    // SAFETY: the kernel reads as many bytes as there are.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, all.len(), all.as_ptr()) })?;
    Ok(())
}

/// sched_getaffinity(2) of this process.
///
/// # Errors
/// `EINVAL` on a machine with more than 1024 processors.
pub fn affinity() -> Result<Vec<u16>> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
    let cpus = 0..nix::sched::CpuSet::count() as u16;
    Ok(cpus.filter(|cpu| set.is_set(usize::from(*cpu)) == Ok(true)).collect())
}

/// personality(2).
///
/// # Errors
/// `EPERM` where an outer seccomp filter forbids it.
pub fn set_personality(persona: u32) -> Result<()> {
    // SAFETY: an integer only.
    check(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(persona)) })?;
    Ok(())
}

/// set_mempolicy(2): the mode with its flags, and the mask of nodes.
///
/// # Errors
/// `EINVAL` for nodes that are not there or not ours, and for flags that exclude each other; `ENOSYS` without NUMA.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel takes one bit less than it is told.
    let (mask, bits) =
        if nodes.is_empty() { (std::ptr::null(), 0) } else { (nodes.as_ptr(), nodes.len() * 64 + 1) };
    // SAFETY: the kernel reads as many bits as there are.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) })?;
    Ok(())
}

/// PR_SET_NO_NEW_PRIVS.
///
/// # Errors
/// None that is known.
pub fn set_no_new_privs() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// PR_SET_KEEPCAPS: permitted capabilities survive the next change of uid.
///
/// # Errors
/// `EPERM` where securebits lock it.
pub fn keep_caps(on: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, on.into())
}

/// PR_SET_CHILD_SUBREAPER.
///
/// # Errors
/// None that is known.
pub fn set_subreaper() -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// PR_SET_PDEATHSIG: this process is killed when its parent ends, which is still `parent`. A change of ids undoes it.
///
/// # Errors
/// `ESRCH` where the parent has ended already.
pub fn die_with(parent: nix::unistd::Pid) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)?;
    if nix::unistd::getppid() == parent { Ok(()) } else { Err(Errno::ESRCH) }
}

/// PR_SET_NAME: what ps(1) shows until the container's program runs.
///
/// # Errors
/// None that is known.
pub fn set_name(name: &CStr) -> Result<()> {
    // SAFETY: a C string, of which the kernel copies 16 bytes at most.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) })?;
    Ok(())
}

/// setdomainname(2).
///
/// # Errors
/// `EPERM` in a uts namespace that is not ours, `EINVAL` for a name over 64 bytes.
pub fn set_domainname(name: &CStr) -> Result<()> {
    let bytes = name.to_bytes();
    // SAFETY: the pointer and length are of one slice.
    check(unsafe { libc::setdomainname(bytes.as_ptr().cast(), bytes.len()) })?;
    Ok(())
}

/// The resources by their numbers, in the order of include/uapi/asm-generic/resource.h.
pub const RLIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// A resource limit: `RLIMIT_*` number and the two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

impl Rlimit {
    /// The present limit with a hard value as high as this one's, if that is higher.
    ///
    /// # Errors
    /// `EINVAL` for a number that is no resource.
    pub fn raised(&self) -> Result<Option<Rlimit>> {
        let (soft, hard) = rlimit(self.resource)?;
        Ok((self.hard > hard).then_some(Rlimit { resource: self.resource, soft, hard: self.hard }))
    }
}

/// The soft and hard limit of a resource of this process.
///
/// # Errors
/// `EINVAL` for a number that is no resource.
pub fn rlimit(resource: u32) -> Result<(u64, u64)> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills one rlimit64.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<u8>(), &raw mut limit)
    })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets a resource limit of this process.
///
/// # Errors
/// `EPERM` for a hard limit above the present one, `EINVAL` for a soft one above the hard one.
pub fn set_rlimit(limit: &Rlimit) -> Result<()> {
    let value = libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: the kernel reads one rlimit64.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, limit.resource, &raw const value, std::ptr::null::<u8>())
    })?;
    Ok(())
}

/// Joins a new session keyring of this name (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`).
///
/// # Errors
/// `EDQUOT` once the user has `kernel.keys.maxkeys` keys, `ENOSYS` or `EPERM` where keys are off limits.
pub fn join_session_keyring(name: &CStr) -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_ulong = 1;
    // SAFETY: a C string that the kernel copies.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    Ok(())
}

/// A list of strings as execve(2) wants it.
#[derive(Debug, Default)]
pub struct Strings {
    /// Owns what the pointers point to.
    strings: Vec<CString>,
}

impl Strings {
    pub fn new(strings: Vec<CString>) -> Strings {
        Strings { strings }
    }

    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        self.strings.iter().map(CString::as_c_str)
    }

    /// Their addresses and a null, as the kernel reads them; valid as long as `self` is.
    pub(super) fn pointers(&self) -> Vec<*const libc::c_char> {
        let mut pointers: Vec<_> = self.strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        pointers
    }
}

/// execve(2); returns only to say why not.
pub fn exec(program: &CStr, args: &Strings, env: &Strings) -> Errno {
    let (args, env) = (args.pointers(), env.pointers());
    // SAFETY: a C string and two null-terminated arrays of C strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Errno::last()
}

/// Whether this process, with its effective ids, may execute the file (faccessat2(2), Linux 5.8).
///
/// # Errors
/// `EACCES`, `ENOENT`.
pub fn may_execute(path: &CStr) -> Result<()> {
    // SAFETY: a C string and flags.
    let ret = unsafe {
        libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS)
    };
    match check(ret) {
        // The C library falls back to a check of the mode bits.
        Err(Errno::ENOSYS) => {
            // SAFETY: as above.
            let ret = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) };
            check(ret).map(drop)
        }
        other => other.map(drop),
    }
}

/// Ends this process at once: no destructor runs, nothing is flushed.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// Gives SIGPIPE back its default action, which Rust's start-up took, and the given signal mask.
///
/// # Errors
/// None that is known.
pub fn restore_signals(mask: &nix::sys::signal::SigSet) -> Result<()> {
    use nix::sys::signal::{SigHandler, SigmaskHow, Signal, signal, sigprocmask};
    // SAFETY: the default action runs no code of ours.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None)
}
