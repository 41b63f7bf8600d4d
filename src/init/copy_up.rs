//! tmpcopyup: what the image holds beneath a tmpfs is copied into it. Nothing of the image is followed:
//! every name is opened from its directory's descriptor, links are copied as links, and of the rest only
//! directories and regular files are.

use crate::sys::Errno;
use crate::sys::fds::io_errno;
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// What the tmpfs has been told to be, and stays.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    pub mode: bool,
    pub owner: bool,
}

/// Copies the contents of the directory behind `from` into the directory behind `to`, owner, mode and all.
pub fn copy(from: &OwnedFd, to: &OwnedFd, keep: Keep) -> Result<(), Errno> {
    // Both may be O_PATH or detached: open them for reading and for making things in.
    let from = openat(from, c".", DIRECTORY, Mode::empty())?;
    let to = openat(to, c".", DIRECTORY, Mode::empty())?;
    let (wanted, told) = (fstat(&from)?, fstat(&to)?);
    let mut like_this = wanted;
    if keep.mode {
        like_this.st_mode = told.st_mode;
    }
    if keep.owner {
        (like_this.st_uid, like_this.st_gid) = (told.st_uid, told.st_gid);
    }
    like(&like_this, &to)?;
    contents(from, to)
}

fn contents(from: OwnedFd, to: OwnedFd) -> Result<(), Errno> {
    let mut dir = Dir::from_fd(from.try_clone().map_err(io_errno)?)?;
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(&from, &to, name)?;
        }
    }
    Ok(())
}

fn one(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU)?;
            let to = openat(to, name, DIRECTORY, Mode::empty())?;
            like(&stat, &to)?;
            contents(openat(from, name, DIRECTORY, Mode::empty())?, to)
        }
        libc::S_IFREG => {
            let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let source = openat(from, name, read, Mode::empty())?;
            let target = openat(to, name, write, Mode::S_IRUSR | Mode::S_IWUSR)?;
            let mut target = File::from(target);
            std::io::copy(&mut File::from(source), &mut target).map_err(io_errno)?;
            like(&stat, &target.into())
        }
        libc::S_IFLNK => {
            let target = readlinkat(from, name)?;
            symlinkat(target.as_os_str(), to, name)?;
            let (uid, gid) = owner(&stat);
            fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        }
        // Sockets, fifos and devices mean nothing without who is behind them.
        _ => Ok(()),
    }
}

fn owner(stat: &FileStat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

/// Gives a new file the owner and mode of the original. An owner that is not mapped here shows as the
/// overflow id and cannot be given: then it stays ours.
fn like(stat: &FileStat, new: &OwnedFd) -> Result<(), Errno> {
    let (uid, gid) = owner(stat);
    match fchown(new, Some(uid), Some(gid)) {
        Ok(()) | Err(Errno::EINVAL | Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    fchmod(new, Mode::from_bits_truncate(stat.st_mode))
}
