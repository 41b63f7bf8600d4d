//! Becoming the process that the configuration describes: session, terminal, limits, ids, capabilities.
//!
//! Everything is final after [`become_it`] but for what the last moments need: a seccomp filter without
//! no_new_privs takes CAP_SYS_ADMIN to load, so that capability is kept until then.

use super::{Failed, Holding, Orders, process_failure};
use crate::plan::process::{Label, Module, Process, Programs};
use crate::plan::scheduling::Scheduling;
use crate::seccomp::Filter;
use crate::sync::{Act, Channel, Place};
use crate::sys::caps;
use crate::sys::path::{self, Resolve};
use crate::sys::scheduling::{set_io_priority, set_scheduler};
use crate::sys::stub::Stub;
use crate::sys::{self, Errno, fds, process};
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::{Mode, fstat, umask};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// What is left to do once the program may run.
#[derive(Debug)]
pub struct Program {
    /// The program, found.
    pub path: CString,
    /// HOME, where the environment lacks it.
    pub home: Option<CString>,
}

const SYS_ADMIN: u64 = 1 << crate::host::CAP_SYS_ADMIN;

/// Whether loading the filter takes a capability that the process is not to have.
fn keeps_admin(process: &Process, filter: Option<&Filter>) -> bool {
    filter.is_some() && !process.no_new_privileges
}

/// Becomes the process, up to what [`super::exec`] does.
pub fn become_it(orders: &Orders<'_>, channel: &Channel, holding: &mut Holding) -> Result<Program, Failed> {
    let (process, filter) = (orders.process, orders.filter);
    let failure = process_failure;
    nix::unistd::setsid().map_err(failure(Act::Session))?;
    terminal(process, channel, holding).map_err(failure(Act::Terminal))?;
    if process.uid != 0 {
        give_streams(process.uid);
    }
    if let Some(label) = &process.label {
        let act = match label.module {
            Module::Apparmor => Act::Profile,
            Module::Selinux => Act::Label,
        };
        set_label(orders.proc, label).map_err(failure(act))?;
    }
    schedule(&process.scheduling)?;
    umask(Mode::from_bits_truncate(process.umask.unwrap_or(0o022)));
    let home = match process.find_home {
        true => Some(home_of(process.uid).map_err(|error| failure(Act::Home)(fds::io_errno(error)))?),
        false => None,
    };
    // As root first, who may enter what the user may not (runc, issue 2086); as the user otherwise.
    let entered = enter(process);
    caps::drop_bounding(process.capabilities.bounding).map_err(failure(Act::Bounding))?;
    process::keep_caps(true).map_err(failure(Act::Capabilities))?;
    if let Some(groups) = &process.groups {
        process::set_groups(groups).map_err(failure(Act::Groups))?;
    }
    process::set_gid(process.gid).map_err(failure(Act::Gid))?;
    process::set_uid(process.uid).map_err(failure(Act::Uid))?;
    process::keep_caps(false).map_err(failure(Act::Capabilities))?;
    let mut sets = process.capabilities;
    if keeps_admin(process, filter) {
        sets.effective |= SYS_ADMIN;
        sets.permitted |= SYS_ADMIN;
    }
    caps::set(&sets).map_err(failure(Act::Capabilities))?;
    // Changing ids cleared what was set before, and made us dumpable or not by rules of its own.
    process::set_undumpable().map_err(failure(Act::Capabilities))?;
    match entered {
        Ok(()) => {}
        Err(Errno::EACCES | Errno::EPERM) => enter(process).map_err(failure(Act::Cwd))?,
        Err(errno) => return Err(failure(Act::Cwd)(errno)),
    }
    inside().map_err(failure(Act::CwdOutside))?;
    let path = find(&process.programs)?;
    Ok(Program { path, home })
}

/// The last moments: from here on only the exec, and a report of its failure, may follow. `hooks` are the container's
/// startContainer hooks, if it has any: what runs inside runs behind the filter, with the rights of the process.
pub fn finish(
    orders: &Orders<'_>,
    stub: Option<&Stub>,
    hooks: Option<impl FnOnce() -> Result<(), Failed>>,
) -> Result<(), Failed> {
    let (process, filter) = (orders.process, orders.filter);
    let failure = process_failure;
    // Worked out before the filter, which may not allow what this takes.
    let greeting = match orders.agent {
        Some((socket, text)) => {
            let pid = host_pid(orders.proc).map_err(failure(Act::Seccomp))?;
            Some((socket, text.with_pid(pid)))
        }
        None => None,
    };
    let settle = || {
        if keeps_admin(process, filter) {
            caps::set(&process.capabilities).map_err(failure(Act::Capabilities))?;
        }
        // Always: what our caller had of it survives where the same capabilities are inheritable.
        caps::set_ambient(process.capabilities.ambient).map_err(failure(Act::Ambient))?;
        Ok(())
    };
    let first_kept = 3 + process.preserved_fds as i32;
    fds::cloexec_from(3).map_err(failure(Act::Descriptors))?;
    for limit in &process.rlimits {
        process::set_rlimit(limit).map_err(failure(Act::Rlimits))?;
    }
    // Hooks get none of these.
    let hand_on = || {
        for fd in 3..first_kept {
            fds::set_cloexec(fd, false).map_err(failure(Act::Descriptors))?;
        }
        stub.map_or(Ok(()), Stub::arm).map_err(failure(Act::Stub))
    };
    if hooks.is_none() {
        // The filter need not allow what this takes.
        hand_on()?;
    }
    let load = |filter: &Filter| {
        let listener =
            sys::seccomp::load(&filter.instructions, filter.flags).map_err(failure(Act::Seccomp))?;
        if let (Some(listener), Some((socket, text))) = (listener, &greeting) {
            fds::send(socket.as_fd(), text.as_bytes(), Some(listener.as_fd()))
                .map_err(failure(Act::Seccomp))?;
        }
        Ok::<(), Failed>(())
    };
    if process.no_new_privileges {
        settle()?;
        process::set_no_new_privs().map_err(failure(Act::NoNewPrivileges))?;
        filter.map_or(Ok(()), load)?;
    } else {
        filter.map_or(Ok(()), load)?;
        settle()?;
    }
    match hooks {
        None => Ok(()),
        Some(hooks) => hooks().and_then(|()| hand_on()),
    }
}

fn schedule(wanted: &Scheduling) -> Result<(), Failed> {
    if wanted.by_launch {
        return Ok(());
    }
    if let Some(attributes) = &wanted.processor {
        set_scheduler(0, attributes).map_err(process_failure(Act::Scheduler))?;
    }
    if let Some(priority) = wanted.io {
        set_io_priority(0, priority).map_err(process_failure(Act::IoPriority))?;
    }
    Ok(())
}

/// Through the host's /proc, past nothing that could have been mounted over it (CVE-2025-52881).
fn set_label(proc: &OwnedFd, label: &Label) -> Result<(), Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let own = nix::fcntl::openat(proc, c"self", flags, Mode::empty())?;
    let file = path::open(own.as_fd(), &label.file, libc::O_WRONLY, Resolve::SameMount)?;
    File::from(file).write_all(&label.text).map_err(fds::io_errno)
}

/// Our pid as the host's /proc shows it.
fn host_pid(proc: &OwnedFd) -> Result<i32, Errno> {
    let link = nix::fcntl::readlinkat(proc, c"self")?;
    link.to_str().and_then(|pid| pid.parse().ok()).ok_or(Errno::ESRCH)
}

/// Makes the terminal ours and our standard streams.
fn terminal(process: &Process, channel: &Channel, holding: &mut Holding) -> Result<(), Errno> {
    if !process.terminal {
        return Ok(());
    }
    let slave = match holding.terminal.take() {
        Some(slave) => slave,
        // exec: the terminal comes from the devpts of the container that we have entered.
        None => {
            let root = nix::fcntl::open(c"/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            let master = super::rootfs::open_master(&root)?;
            let slave = sys::tty::open_peer(&master)?;
            channel.report(&crate::sync::FromInit::Console(master))?;
            slave
        }
    };
    sys::tty::make_controlling(&slave)?;
    if process.uid != 0 {
        let uid = nix::unistd::Uid::from_raw(process.uid);
        // Its owner may open it again by its name; where devpts belongs to somebody else it stays theirs.
        match nix::unistd::fchown(&slave, Some(uid), None) {
            Ok(()) | Err(Errno::EPERM | Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    for stream in 0..3 {
        fds::install(slave.as_fd(), stream)?;
    }
    Ok(())
}

/// Gives the standard streams to the user, who otherwise could not open /dev/stdout again. What is not
/// ours to give (EPERM, EINVAL for unmapped owners, EROFS), or is a device that others use, stays.
fn give_streams(uid: u32) {
    for fd in 0..3 {
        let Some(stream) = fds::standard(fd) else { continue };
        give(stream, uid);
    }
}

fn give(stream: BorrowedFd<'_>, uid: u32) {
    let Ok(stat) = fstat(stream) else { return };
    let is_device = matches!(stat.st_mode & libc::S_IFMT, libc::S_IFCHR | libc::S_IFBLK);
    if stat.st_uid == uid || (is_device && nix::unistd::isatty(stream) != Ok(true)) {
        return;
    }
    // Ignored by intent, see give_streams.
    let _ = nix::unistd::fchown(stream, Some(nix::unistd::Uid::from_raw(uid)), None);
}

fn enter(process: &Process) -> Result<(), Errno> {
    nix::unistd::chdir(process.cwd.as_c_str())
}

/// A working directory outside of the root (by /proc/self/fd/N of a leaked descriptor, CVE-2024-21626) has
/// no path inside it.
fn inside() -> Result<(), Errno> {
    let cwd = nix::unistd::getcwd()?;
    if cwd.is_absolute() { Ok(()) } else { Err(Errno::ENOENT) }
}

/// The home of a uid by the container's own /etc/passwd, or `/`. The file is the image's: it may be
/// anything, and is read only if it is a regular file of a sane size.
fn home_of(uid: u32) -> std::io::Result<CString> {
    let file = match File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/etc/passwd") {
        Ok(file) => file,
        // The image has none, or none for us.
        Err(error) => match fds::io_errno(error) {
            Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ELOOP | Errno::ENXIO => {
                return Ok(c"/".into());
            }
            errno => return Err(errno.into()),
        },
    };
    let meta = file.metadata()?;
    let mut text = Vec::new();
    if meta.is_file() && meta.size() <= 1 << 20 {
        file.take(1 << 20).read_to_end(&mut text)?;
    }
    let home = text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let its_uid = std::str::from_utf8(fields.nth(2)?).ok()?;
        (its_uid.parse() == Ok(uid)).then(|| fields.nth(2)).flatten()
    });
    let home = home.and_then(|home| CString::new(home).ok()).filter(|home| !home.is_empty());
    Ok(home.unwrap_or(c"/".into()))
}

/// Finds the program as Go's exec.LookPath does, whose words engines wait for.
fn find(programs: &Programs) -> Result<CString, Failed> {
    let lookup = |errno| super::at(Place::Lookup, errno);
    let (found, errno) = match programs {
        Programs::Path(path) => match executable(path) {
            Ok(()) => return Ok(path.clone()),
            Err(errno) => (Some(path), errno),
        },
        Programs::Search(candidates) => {
            let mut denied = None;
            for path in candidates {
                match executable(path) {
                    Ok(()) => return Ok(path.clone()),
                    Err(Errno::EACCES) => denied = denied.or(Some(path)),
                    Err(errno) if PASSED_OVER.contains(&errno) => {}
                    Err(errno) => return Err(lookup(errno)),
                }
            }
            (denied, Errno::ENOENT)
        }
    };
    // The kernel says the same for a mode without x and for a mount with noexec.
    if found.is_some_and(|path| is_on_noexec(path)) {
        return Err(super::at(Place::NoExec, Errno::EACCES));
    }
    Err(lookup(errno))
}

/// Whether this is a program by its mode, which its mount keeps from being one.
fn is_on_noexec(path: &std::ffi::CStr) -> bool {
    let program = nix::sys::stat::stat(path)
        .is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_mode & 0o111 != 0);
    let flags = nix::sys::statvfs::statvfs(path).map(|mount| mount.flags());
    program && flags.is_ok_and(|flags| flags.contains(nix::sys::statvfs::FsFlags::ST_NOEXEC))
}

/// What says, beside EACCES, that a directory of the search path has no program for us. After any other error the next
/// one might have another program of the same name.
const PASSED_OVER: [Errno; 4] = [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP, Errno::ENAMETOOLONG];

fn executable(path: &std::ffi::CStr) -> Result<(), Errno> {
    let stat = nix::sys::stat::stat(path)?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
        // What execve(2) would say, and what engines read 126 out of.
        return Err(Errno::EACCES);
    }
    process::may_execute(path)
}
