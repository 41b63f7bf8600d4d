//! Walking a tree of files of any depth with one descriptor open.
//!
//! A walk that calls itself runs out of stack in a tree that somebody made deep on purpose, and one that keeps a
//! descriptor a level runs out of those. This one remembers of the directories above only who they are, and goes
//! back by `..`. A directory that was moved meanwhile leads elsewhere from there: that is noticed, and an error.

use super::path::{self, Resolve};
use super::{Errno, Result};
use nix::dir::Dir;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// What a walk does where something is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounts {
    /// Stops: `EXDEV`.
    Stop,
    /// Goes on in what is mounted.
    Cross,
}

/// A directory that is being visited, and the way back.
#[derive(Debug)]
pub struct Trail {
    here: OwnedFd,
    mounts: Mounts,
    /// Device and inode of what is above, from the start.
    above: Vec<(u64, u64)>,
}

impl Trail {
    /// Begins at a directory; the descriptor may be `O_PATH`.
    pub fn start(here: OwnedFd, mounts: Mounts) -> Trail {
        Trail { here, mounts, above: Vec::new() }
    }

    /// The directory, as a descriptor to look names up from.
    pub fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// The entries of this directory.
    ///
    /// # Errors
    /// `EACCES` where they may not be read.
    pub fn list(&self) -> Result<Dir> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(&self.here, c".", flags, Mode::empty()).and_then(Dir::from_fd)
    }

    /// Goes to the directory of this name, which is an entry of this one, and no link.
    ///
    /// # Errors
    /// `ENOTDIR` for what is no directory, `EACCES` where this one may not be searched, `EXDEV` as [`Mounts`] has it.
    pub fn down(&mut self, name: &CStr) -> Result<()> {
        let flags = DIRECTORY | OFlag::O_NOFOLLOW;
        let next = match self.mounts {
            Mounts::Stop => path::open(self.here(), name, flags.bits(), Resolve::SameMount)?,
            Mounts::Cross => openat(&self.here, name, flags, Mode::empty())?,
        };
        self.above.push(identity(&self.here)?);
        self.here = next;
        Ok(())
    }

    /// Goes back to the directory above, down to the start.
    ///
    /// # Errors
    /// `ESTALE` where it is no longer the one above, `ENOENT` at the start.
    pub fn up(&mut self) -> Result<()> {
        let wanted = self.above.pop().ok_or(Errno::ENOENT)?;
        let above = openat(&self.here, c"..", DIRECTORY, Mode::empty())?;
        if identity(&above)? != wanted {
            return Err(Errno::ESTALE);
        }
        self.here = above;
        Ok(())
    }
}

fn identity(fd: &OwnedFd) -> Result<(u64, u64)> {
    let stat = fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use std::fs;

    fn open(path: &std::path::Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn the_way_back_leads_to_where_it_came_from() {
        let dir = Scratch::new();
        fs::create_dir_all(dir.join("a/b")).unwrap();
        let mut trail = Trail::start(open(&dir), Mounts::Stop);
        trail.down(c"a").unwrap();
        trail.down(c"b").unwrap();
        trail.up().unwrap();
        assert_eq!(identity(&trail.here).unwrap(), identity(&open(&dir.join("a"))).unwrap());
        trail.up().unwrap();
        assert_eq!(trail.up(), Err(Errno::ENOENT));
    }

    #[test]
    fn a_directory_that_was_moved_meanwhile_leads_nowhere() {
        let dir = Scratch::new();
        fs::create_dir_all(dir.join("a/b")).unwrap();
        let mut trail = Trail::start(open(&dir), Mounts::Stop);
        trail.down(c"a").unwrap();
        trail.down(c"b").unwrap();
        fs::rename(dir.join("a/b"), dir.join("b")).unwrap();
        assert_eq!(trail.up(), Err(Errno::ESTALE));
    }

    #[test]
    fn links_are_not_followed_and_names_not_taken_apart() {
        let dir = Scratch::new();
        fs::create_dir_all(dir.join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", dir.join("link")).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        let mut trail = Trail::start(open(&dir), Mounts::Stop);
        assert_eq!(trail.down(c"link"), Err(Errno::ENOTDIR));
        assert_eq!(trail.down(c"file"), Err(Errno::ENOTDIR));
        assert_eq!(trail.down(c".."), Err(Errno::EXDEV));
    }
}
