//! Where in the tree we are: the directories from the root down to the one that is worked in, all of them open.
//!
//! Archives go through a tree in order, so that most entries are in the directory of the one before, and its
//! descriptor is there. A path is walked by us, one name at a time and never by the kernel; so what a link says
//! is a matter of our own bookkeeping, in which nothing is above the root.
//!
//! What is changed in a directory changes its time. So a directory has on it the times that it is to have when it
//! is left: those of its entry, or those that it had when it was entered. An archive that comes back to it later
//! finds them in the file system. That makes the memory that is needed one of depth, not of size.

use super::fields::Time;
use crate::sys::{Errno, xattr};
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat, futimens};
use nix::sys::time::TimeSpec;
use std::ffi::{CStr, CString};
use std::hash::BuildHasher;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// How deep a tree may be. All these directories are open at once, and a process has 1024 descriptors by default.
const DEEPEST: usize = 500;

/// As many links as the kernel would follow (path_resolution(7)).
const LINKS: u32 = 40;

pub const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// What tells one place in the tree from all others: a hash over its path, with a secret key.
pub type Place = u64;

/// Access and modification time.
pub type Times = [TimeSpec; 2];

pub fn timespec(time: Time) -> TimeSpec {
    TimeSpec::new(time.seconds, time.nanoseconds.into())
}

/// A directory on the way.
pub struct Level {
    fd: OwnedFd,
    name: Box<[u8]>,
    pub place: Place,
    /// What it is to have when it is left.
    pub times: Times,
    /// Something has been done in it.
    changed: bool,
    /// What is made in it does not get our group but its own.
    pub setgid: bool,
    /// What is made in it gets an access control list.
    pub default_acl: bool,
    /// Nothing of lower layers shines through.
    pub opaque: bool,
    /// This layer has it, or something in it.
    pub ours: bool,
}

impl AsFd for Level {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a name stands for, seen from the directory that it is in.
pub enum Found {
    Directory(OwnedFd),
    Link(Vec<u8>),
    Other,
    Nothing,
}

/// Looks at a name without following it.
pub fn look(dir: BorrowedFd<'_>, name: &CStr) -> Result<Found, Errno> {
    match openat(dir, name, DIRECTORY, Mode::empty()) {
        Ok(fd) => return Ok(Found::Directory(fd)),
        Err(Errno::ENOENT) => return Ok(Found::Nothing),
        Err(Errno::ELOOP | Errno::ENOTDIR) => {}
        Err(errno) => return Err(errno),
    }
    match readlinkat(dir, name) {
        Ok(target) => Ok(Found::Link(target.as_bytes().to_vec())),
        Err(Errno::EINVAL) => Ok(Found::Other),
        Err(errno) => Err(errno),
    }
}

pub struct Tree {
    levels: Vec<Level>,
    places: std::hash::RandomState,
    opaque: &'static CStr,
}

impl Tree {
    /// `opaque` is the attribute of directories through which lower layers do not shine.
    pub fn new(root: BorrowedFd<'_>, opaque: &'static CStr) -> Result<Tree, Errno> {
        let mut tree = Tree { levels: Vec::new(), places: std::hash::RandomState::new(), opaque };
        let root = openat(root, c".", DIRECTORY, Mode::empty())?;
        tree.push(root, b"")?;
        Ok(tree)
    }

    /// The directory that is worked in.
    #[allow(clippy::expect_used, reason = "the root is never left")]
    pub fn here(&self) -> &Level {
        self.levels.last().expect("the root is there")
    }

    #[allow(clippy::expect_used, reason = "the root is never left")]
    pub fn here_mut(&mut self) -> &mut Level {
        self.levels.last_mut().expect("the root is there")
    }

    pub fn is_root(&self) -> bool {
        self.levels.len() == 1
    }

    /// The place of a name in the directory that is worked in.
    pub fn place(&self, name: &[u8]) -> Place {
        self.place_in(self.here().place, name)
    }

    pub fn place_in(&self, parent: Place, name: &[u8]) -> Place {
        self.places.hash_one((parent, name))
    }

    /// Something is about to be done in this directory.
    pub fn change(&mut self) -> BorrowedFd<'_> {
        let here = self.here_mut();
        here.changed = true;
        here.fd.as_fd()
    }

    /// The levels of which it was not known yet that this layer has them, up from here.
    pub fn claim(&mut self) -> impl Iterator<Item = Place> {
        let known = self.levels.iter().rposition(|level| level.ours).map_or(0, |at| at + 1);
        self.levels[known..].iter_mut().map(|level| {
            level.ours = true;
            level.place
        })
    }

    /// Goes into a directory that is open already.
    pub fn push(&mut self, fd: OwnedFd, name: &[u8]) -> Result<(), Errno> {
        if self.levels.len() > DEEPEST {
            return Err(Errno::ENAMETOOLONG);
        }
        let (place, opaque) = match self.levels.last() {
            Some(parent) => (self.place_in(parent.place, name), parent.opaque),
            None => (0, false),
        };
        let opaque = opaque || (!self.opaque.is_empty() && xattr::is_set(fd.as_fd(), self.opaque)?);
        self.levels.push(Level {
            fd,
            name: name.into(),
            place,
            times: [TimeSpec::UTIME_OMIT; 2],
            changed: false,
            setgid: false,
            default_acl: false,
            opaque,
            ours: false,
        });
        self.refresh()
    }

    /// Reads anew what is to be known of the directory that is worked in.
    pub fn refresh(&mut self) -> Result<(), Errno> {
        let here = self.here_mut();
        let stat = fstat(&here.fd)?;
        here.times = times(&stat);
        here.setgid = stat.st_mode & libc::S_ISGID != 0;
        here.default_acl = xattr::is_set(here.fd.as_fd(), c"system.posix_acl_default")?;
        Ok(())
    }

    /// Goes up, and gives the directory that is left its times. The root stays.
    pub fn pop(&mut self) -> Result<(), Errno> {
        if self.is_root() {
            return Ok(());
        }
        self.settle()?;
        self.levels.pop();
        Ok(())
    }

    /// Leaves everything, the root too.
    pub fn finish(mut self) -> Result<(), Errno> {
        while !self.is_root() {
            self.pop()?;
        }
        self.settle()
    }

    fn settle(&mut self) -> Result<(), Errno> {
        let here = self.here_mut();
        if here.changed {
            futimens(&here.fd, &here.times[0], &here.times[1])?;
            here.changed = false;
        }
        Ok(())
    }

    /// The names of the directories from the root down to the one that is worked in.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.levels[1..].iter().map(|level| &*level.name)
    }

    /// Follows a link that is not there but in a lower layer; what is left of the way is then to be gone on.
    pub fn follow(&mut self, target: &[u8], follow: &mut Follow) -> Result<(), Errno> {
        follow.by(target)?;
        if target.starts_with(b"/") { self.back_to(0) } else { Ok(()) }
    }

    fn back_to(&mut self, depth: usize) -> Result<(), Errno> {
        while self.levels.len() > depth + 1 {
            self.pop()?;
        }
        Ok(())
    }

    /// Goes to a directory, as far as it is there; links on the way are followed inside the root. What is left
    /// of the way, the next name last, is what is not there, or is no directory.
    pub fn go(&mut self, way: &[&[u8]], follow: &mut Follow) -> Result<(), Errno> {
        let common = self.names().zip(way).take_while(|(name, step)| name == *step).count();
        self.back_to(common)?;
        follow.rest.clear();
        follow.links = 0;
        follow.rest.extend(way[common..].iter().rev().map(|step| step.to_vec()));
        self.go_on(follow)
    }

    /// Goes on with what is left of the way.
    pub fn go_on(&mut self, follow: &mut Follow) -> Result<(), Errno> {
        while let Some(step) = follow.rest.pop() {
            if step == b".." {
                self.pop()?;
                continue;
            }
            let name = CString::new(step).map_err(|_| Errno::EINVAL)?;
            match look(self.here().as_fd(), &name)? {
                Found::Directory(fd) => self.push(fd, name.to_bytes())?,
                Found::Link(target) => self.follow(&target, follow)?,
                Found::Other | Found::Nothing => {
                    follow.rest.push(name.into_bytes());
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// A way that is being gone.
#[derive(Debug, Default)]
pub struct Follow {
    /// The names to go, the next one last.
    pub rest: Vec<Vec<u8>>,
    links: u32,
}

impl Follow {
    fn by(&mut self, target: &[u8]) -> Result<(), Errno> {
        self.links += 1;
        if self.links > LINKS {
            return Err(Errno::ELOOP);
        }
        let steps = target.split(|&byte| byte == b'/').filter(|step| !matches!(*step, b"" | b"."));
        self.rest.extend(steps.rev().map(<[u8]>::to_vec));
        Ok(())
    }
}

pub fn times(stat: &FileStat) -> Times {
    [TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)]
}

/// The names of a path as they lead down from the root: without empty ones and `.`, and `..` taken back, at the
/// root without effect.
pub fn way(path: &[u8]) -> Vec<&[u8]> {
    let mut way = Vec::new();
    for step in path.split(|&byte| byte == b'/') {
        match step {
            b"" | b"." => {}
            b".." => drop(way.pop()),
            step => way.push(step),
        }
    }
    way
}
