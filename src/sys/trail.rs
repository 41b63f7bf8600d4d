//! Walking a tree of files of any depth with one descriptor open.
//!
//! A walk that calls itself runs out of stack in a tree that somebody made deep on purpose, and one that keeps a
//! descriptor a level runs out of those. This one remembers of the directories above only who they are, and goes
//! back by `..`. A directory that was moved meanwhile leads elsewhere from there: that is noticed, and an error.

use super::path::{self, Resolve};
use super::{Errno, Result};
use nix::sys::stat::fstat;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A directory that is being visited, and the way back.
#[derive(Debug)]
pub struct Trail {
    here: OwnedFd,
    /// Device and inode of what is above, from the start.
    above: Vec<(u64, u64)>,
}

impl Trail {
    /// Begins at a directory; the descriptor may be `O_PATH`.
    pub fn start(here: OwnedFd) -> Trail {
        Trail { here, above: Vec::new() }
    }

    /// The directory, as a descriptor to look names up from.
    pub fn here(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }

    /// Goes to a directory in this one, which is no link and not mounted there.
    ///
    /// # Errors
    /// `EXDEV` for a mount point, `ELOOP` and `ENOTDIR` for what is no directory, `EACCES` where this one may not be
    /// searched.
    pub fn down(&mut self, name: &CStr) -> Result<()> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let next = path::open(self.here(), name, flags, Resolve::SameMount)?;
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
        let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
        let above = nix::fcntl::openat(&self.here, c"..", flags, nix::sys::stat::Mode::empty())?;
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
        let mut trail = Trail::start(open(&dir));
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
        let mut trail = Trail::start(open(&dir));
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
        let mut trail = Trail::start(open(&dir));
        assert_eq!(trail.down(c"link"), Err(Errno::ENOTDIR));
        assert_eq!(trail.down(c"file"), Err(Errno::ENOTDIR));
        assert_eq!(trail.down(c".."), Err(Errno::EXDEV));
    }
}
