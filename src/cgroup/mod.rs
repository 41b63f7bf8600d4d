//! A container's cgroup in the unified hierarchy: placing, freezing, killing, counting, removing.
//!
//! A cgroup is a directory whose files the kernel makes up, and all of bryo's work on one is reading and
//! writing these files below a descriptor of it. Who made it, systemd or bryo itself, shows in [`systemd`] and in
//! `launch::cgroup` alone; what is done to a cgroup that exists is the same for both.
//!
//! The enemy is time: a process that forks faster than it is killed, a cgroup that is said to be empty a moment
//! after its last process has gone. So whole cgroups are frozen and killed by one write (cgroup.freeze, Linux
//! 5.2; cgroup.kill, Linux 5.14), and what takes a moment is waited for by poll(2) on cgroup.events, each with a
//! deadline.

pub mod devices;
pub mod stats;
pub mod systemd;

use crate::sys::fds::io_errno;
use crate::sys::{self, Errno, mount};
use nix::dir::Dir;
use nix::fcntl::{OFlag, open, openat};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the unified hierarchy is mounted (cgroups(7)).
pub const ROOT: &str = "/sys/fs/cgroup";

/// How long a killed process may take to go: uninterruptible sleep ends with its I/O.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cgroup, by descriptor.
#[derive(Debug)]
pub struct Cgroup {
    dir: OwnedFd,
    path: PathBuf,
}

/// The place of a cgroup in the file system. `path` is one below the hierarchy's root, as in /proc/PID/cgroup.
pub fn place(path: &Path) -> PathBuf {
    let below = path.strip_prefix("/").unwrap_or(path);
    // Without a slash at the end, which join would leave.
    if below.as_os_str().is_empty() { ROOT.into() } else { Path::new(ROOT).join(below) }
}

/// The cgroup of a process in the unified hierarchy, as our own cgroup namespace sees it (cgroups(7)).
///
/// # Errors
/// A process that is gone; `ENODATA` where it has no such line.
pub fn of_process(pid: i32) -> sys::Result<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(io_errno)?;
    parse_own(&text).ok_or(Errno::ENODATA)
}

/// Our own cgroup.
///
/// # Errors
/// As [`of_process`].
pub fn of_process_self() -> sys::Result<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup").map_err(io_errno)?;
    parse_own(&text).ok_or(Errno::ENODATA)
}

/// The line of the unified hierarchy begins with `0::`. A cgroup that was removed is marked behind its name.
pub fn parse_own(text: &str) -> Option<PathBuf> {
    let line = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    line.starts_with('/').then(|| PathBuf::from(line.strip_suffix(" (deleted)").unwrap_or(line)))
}

impl Cgroup {
    /// Opens the cgroup at a path below the hierarchy's root.
    ///
    /// # Errors
    /// `ENOENT` where there is none, `EOPNOTSUPP` for a directory that is no cgroup.
    pub fn open(path: &Path) -> sys::Result<Cgroup> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let dir = open(&place(path), flags, Mode::empty())?;
        if mount::magic(dir.as_fd())? != mount::CGROUP2_SUPER_MAGIC {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(Cgroup { dir, path: path.to_path_buf() })
    }

    /// Its path below the hierarchy's root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number by which the kernel knows it, and no other while this machine runs.
    ///
    /// # Errors
    /// None that is known.
    pub fn inode(&self) -> sys::Result<u64> {
        Ok(nix::sys::stat::fstat(&self.dir)?.st_ino)
    }

    /// Whether it is the root of the whole hierarchy, and not only of a namespace.
    pub fn is_root(&self) -> bool {
        self.path == Path::new("/") && matches!(self.file("cgroup.type"), Err(Errno::ENOENT))
    }

    /// Opens one of its files for reading.
    ///
    /// # Errors
    /// `ENOENT` where its controller is not enabled.
    pub fn file(&self, name: &str) -> sys::Result<OwnedFd> {
        openat(&self.dir, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
    }

    /// Reads one of its files.
    ///
    /// # Errors
    /// `ENOENT` where its controller is not enabled, `ENODEV` once the cgroup is removed.
    pub fn read(&self, name: &str) -> sys::Result<String> {
        let mut text = String::new();
        File::from(self.file(name)?).read_to_string(&mut text).map_err(io_errno)?;
        Ok(text)
    }

    /// Writes one of its files, in one call as the kernel wants it.
    ///
    /// # Errors
    /// `ENOENT` where its controller is not enabled, and what the kernel has against the value.
    pub fn write(&self, name: &str, value: &str) -> sys::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = openat(&self.dir, name, flags, Mode::empty())?;
        let written = File::from(file).write(value.as_bytes()).map_err(io_errno)?;
        if written == value.len() { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// `EACCES` where we may not write to a cgroup above both its old place and this one, `EBUSY` where
    /// processes may only be in leaves, `ENOENT` across the root of a cgroup namespace.
    pub fn take_in(&self, pid: i32) -> sys::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// The pids of all its processes and of those in cgroups below it, sorted. Processes of other pid namespaces,
    /// which have none in ours, are not among them.
    ///
    /// # Errors
    /// A cgroup that was removed meanwhile.
    pub fn processes(&self) -> sys::Result<Vec<i32>> {
        let mut pids = Vec::new();
        self.collect(&mut pids)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    fn collect(&self, pids: &mut Vec<i32>) -> sys::Result<()> {
        match self.read("cgroup.procs") {
            Ok(text) => {
                pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0))
            }
            // A threaded one: its processes are listed by the cgroup above.
            Err(Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
        for child in self.children()? {
            match child.collect(pids) {
                // Removed by the container itself while we look.
                Err(Errno::ENODEV | Errno::ENOENT) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// The cgroups directly below it.
    fn children(&self) -> sys::Result<Vec<Cgroup>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut list = Dir::openat(&self.dir, ".", flags, Mode::empty())?;
        let mut children = Vec::new();
        for entry in list.iter() {
            let entry = entry?;
            let name = entry.file_name().to_str().unwrap_or(".");
            if entry.file_type() == Some(nix::dir::Type::Directory) && name != "." && name != ".." {
                match self.child(name) {
                    Err(Errno::ENOENT) => {}
                    other => children.push(other?),
                }
            }
        }
        Ok(children)
    }

    /// The cgroup of this name directly below it.
    ///
    /// # Errors
    /// `ENOENT` where there is none.
    pub fn child(&self, name: &str) -> sys::Result<Cgroup> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        Ok(Cgroup { dir: openat(&self.dir, name, flags, Mode::empty())?, path: self.path.join(name) })
    }

    /// Makes a cgroup directly below it, if there is none of that name. Says whether it is new.
    ///
    /// # Errors
    /// That of mkdir(2).
    pub fn make_child(&self, name: &str) -> sys::Result<(Cgroup, bool)> {
        let made = match nix::sys::stat::mkdirat(&self.dir, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(errno),
        };
        Ok((self.child(name)?, made))
    }

    /// The controllers that it may give to cgroups below it.
    ///
    /// # Errors
    /// A cgroup that is gone.
    pub fn controllers(&self) -> sys::Result<Vec<String>> {
        Ok(words(&self.read("cgroup.controllers")?))
    }

    /// The controllers that it gives to cgroups below it.
    ///
    /// # Errors
    /// A cgroup that is gone.
    pub fn given(&self) -> sys::Result<Vec<String>> {
        Ok(words(&self.read("cgroup.subtree_control")?))
    }

    /// Whether a key of cgroup.events has the value 1: `populated`, `frozen`.
    ///
    /// # Errors
    /// A cgroup that is gone.
    pub fn is(&self, key: &str) -> sys::Result<bool> {
        Ok(event(&self.read("cgroup.events")?, key) == Some(1))
    }

    /// Whether it has been told to freeze.
    pub fn is_paused(&self) -> bool {
        self.read("cgroup.freeze").is_ok_and(|text| text.trim_end() == "1")
    }

    /// Freezes or thaws all its processes, and waits until that is so.
    ///
    /// # Errors
    /// `ETIMEDOUT` where a process does not stop: it is thawed again then.
    pub fn freeze(&self, frozen: bool) -> sys::Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })?;
        let waited = self.wait_until("frozen", frozen);
        if waited.is_err() && frozen {
            // Undo; the error that led here is the one to tell.
            let _ = self.write("cgroup.freeze", "0");
        }
        waited
    }

    /// Waits for a key of cgroup.events.
    fn wait_until(&self, key: &str, wanted: bool) -> sys::Result<()> {
        let begin = Instant::now();
        let mut events = File::from(self.file("cgroup.events")?);
        loop {
            let mut text = String::new();
            std::io::Seek::rewind(&mut events).map_err(io_errno)?;
            events.read_to_string(&mut text).map_err(io_errno)?;
            if (event(&text, key) == Some(1)) == wanted {
                return Ok(());
            }
            let left = PATIENCE.checked_sub(begin.elapsed()).ok_or(Errno::ETIMEDOUT)?;
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Kills every process in it and below it; frozen ones too.
    ///
    /// # Errors
    /// That of writing cgroup.kill; where that file does not exist (before Linux 5.14), of listing processes.
    pub fn kill(&self) -> sys::Result<()> {
        match self.write("cgroup.kill", "1") {
            Err(Errno::ENOENT) => {}
            // It says so of a threaded cgroup; of one that is gone, there is nothing to kill.
            Err(Errno::ENODEV) => return Ok(()),
            other => return other,
        }
        // Frozen, nobody forks while we go from one to the next; SIGKILL reaches the frozen.
        let froze = !self.is_paused() && self.write("cgroup.freeze", "1").is_ok();
        let signalled = self.signal(libc::SIGKILL);
        if froze {
            // Those that were killed are gone by themselves; this is for those that come later, in vain.
            let _ = self.write("cgroup.freeze", "0");
        }
        signalled
    }

    /// Sends a signal to every process in it and below it.
    ///
    /// # Errors
    /// That of listing them.
    pub fn signal(&self, signal: i32) -> sys::Result<()> {
        for pid in self.processes()? {
            let Ok(process) = sys::pidfd::open(pid) else { continue };
            // The pid may have been reused between the two: look again, now that it cannot be any more.
            if of_process(pid).is_ok_and(|path| path.starts_with(&self.path)) {
                // It may have ended by itself.
                let _ = sys::pidfd::signal(&process, signal);
            }
        }
        Ok(())
    }

    /// Kills whatever is in it and waits until it is empty.
    ///
    /// # Errors
    /// `ETIMEDOUT` where something does not die.
    pub fn empty(&self) -> sys::Result<()> {
        match self.is("populated") {
            Ok(true) => {}
            Ok(false) | Err(Errno::ENODEV | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        match self.kill().and_then(|()| self.wait_until("populated", false)) {
            // Whoever else watches it was faster.
            Err(Errno::ENODEV | Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Removes the cgroups below it.
    ///
    /// # Errors
    /// `EACCES` for those of somebody else's, `EBUSY` for those with processes.
    pub fn clear(&self) -> sys::Result<()> {
        for child in self.children()? {
            child.clear()?;
            let name = child.path.file_name().unwrap_or_default();
            match unlinkat(&self.dir, name, UnlinkatFlags::RemoveDir) {
                Err(Errno::ENOENT) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Removes an empty cgroup and all below it, and then those above it that are empty, up to and with `top`. One that
/// does not exist any more is as good as removed.
///
/// # Errors
/// `EBUSY` where there are processes in it, and that of rmdir(2).
pub fn remove(path: &Path, top: &Path) -> sys::Result<()> {
    match Cgroup::open(path) {
        Ok(cgroup) => match cgroup.clear() {
            // systemd was faster.
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => {}
            Err(errno) => return Err(errno),
        },
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    for at in path.ancestors().take_while(|at| at.starts_with(top) && *at != Path::new("/")) {
        match remove_dir(&place(at)) {
            Ok(()) | Err(Errno::ENOENT) => {}
            // Somebody else has found a use for it.
            Err(Errno::EBUSY | Errno::ENOTEMPTY) if at != path => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// rmdir(2), a little patient: a process that has gone lets its cgroup go a moment later.
fn remove_dir(path: &Path) -> sys::Result<()> {
    let begin = Instant::now();
    loop {
        match std::fs::remove_dir(path).map_err(io_errno) {
            Err(Errno::EBUSY) if begin.elapsed() < Duration::from_millis(200) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(String::from).collect()
}

/// The value of a key in a file of `KEY VALUE` lines.
pub fn event(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_unified_hierarchy_is_found_among_the_others() {
        let text = "12:pids:/a\n1:name=systemd:/b\n0::/user.slice/x (deleted)\n";
        assert_eq!(parse_own(text), Some("/user.slice/x".into()));
        assert_eq!(parse_own("0::/\n"), Some("/".into()));
        assert_eq!(parse_own("1:cpu:/x\n"), None);
        assert_eq!(parse_own("0::x\n"), None);
    }

    #[test]
    fn a_path_below_the_hierarchy_has_its_place_in_the_file_system() {
        assert_eq!(place(Path::new("/")), Path::new("/sys/fs/cgroup"));
        assert_eq!(place(Path::new("/a/b")), Path::new("/sys/fs/cgroup/a/b"));
    }

    #[test]
    fn a_key_is_a_whole_word() {
        let text = "populated 1\nfrozen 0\nfrozen2 1\n";
        assert_eq!(event(text, "populated"), Some(1));
        assert_eq!(event(text, "frozen"), Some(0));
        assert_eq!(event(text, "pop"), None);
    }
}
