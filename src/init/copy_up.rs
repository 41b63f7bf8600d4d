//! tmpcopyup: what the image holds beneath a tmpfs is copied into it. Nothing of the image is followed:
//! every name is opened from its directory's descriptor, links are copied as links, and of the rest only
//! directories and regular files are.

use crate::sys::Errno;
use crate::sys::fds::io_errno;
use crate::sys::trail::{Mounts, Trail};
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};

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
    contents(Trail::start(from, Mounts::Cross), Trail::start(to, Mounts::Stop))
}

/// Walks both trees at once. How deep they are is the image's to say, so it takes neither stack nor descriptors.
fn contents(mut from: Trail, mut to: Trail) -> Result<(), Errno> {
    // What is left to visit, for each directory from the start on.
    let mut left = vec![level(&from, &to)?];
    while let Some(directories) = left.last_mut() {
        if let Some(name) = directories.pop() {
            from.down(&name)?;
            to.down(&name)?;
            left.push(level(&from, &to)?);
        } else {
            left.pop();
            if !left.is_empty() {
                from.up()?;
                to.up()?;
            }
        }
    }
    Ok(())
}

/// Copies what is in a directory, and returns the names of the directories in it, which are empty yet.
fn level(from: &Trail, to: &Trail) -> Result<Vec<CString>, Errno> {
    let mut directories = Vec::new();
    for entry in from.list()?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." && one(from.here(), to.here(), name)? {
            directories.push(name.into());
        }
    }
    Ok(directories)
}

/// Copies one entry, of a directory only itself. Says whether it is one.
fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU)?;
            like(&stat, &openat(to, name, DIRECTORY, Mode::empty())?)?;
            return Ok(true);
        }
        libc::S_IFREG => {
            let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let source = openat(from, name, read, Mode::empty())?;
            let target = openat(to, name, write, Mode::S_IRUSR | Mode::S_IWUSR)?;
            let mut target = File::from(target);
            std::io::copy(&mut File::from(source), &mut target).map_err(io_errno)?;
            like(&stat, &target.into())?;
        }
        libc::S_IFLNK => {
            let target = readlinkat(from, name)?;
            symlinkat(target.as_os_str(), to, name)?;
            let (uid, gid) = owner(&stat);
            fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        // Sockets, fifos and devices mean nothing without who is behind them.
        _ => {}
    }
    Ok(false)
}

pub fn owner(stat: &FileStat) -> (Uid, Gid) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    fn open(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    #[test]
    fn directories_files_and_links_are_copied_with_their_modes() {
        let dir = Scratch::new();
        let (from, to) = (dir.join("from"), dir.join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir_all(from.join("a/c/d")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a/b/file"), "text").unwrap();
        fs::write(from.join("program"), "#!").unwrap();
        symlink("a/b", from.join("link")).unwrap();
        for (name, mode) in [("a/b", 0o2750), ("a/b/file", 0o640), ("program", 0o4755)] {
            fs::set_permissions(from.join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        copy(&open(&from), &open(&to), Keep { mode: false, owner: false }).unwrap();
        assert_eq!(fs::read_to_string(to.join("link/file")).unwrap(), "text");
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("a/b"));
        assert!(to.join("a/c/d").is_dir());
        for name in ["a", "a/b", "a/b/file", "program"] {
            let [wanted, got] = [&from, &to].map(|tree| fs::metadata(tree.join(name)).unwrap().mode());
            assert_eq!(format!("{wanted:o}"), format!("{got:o}"), "{name}");
        }
    }

    #[test]
    fn a_tree_that_is_deeper_than_there_are_descriptors_is_copied() {
        const DEPTH: usize = 1_500;
        let dir = Scratch::new();
        fs::create_dir(dir.join("to")).unwrap();
        let mut from = Trail::start(open(&dir), Mounts::Stop);
        for _ in 0..DEPTH {
            mkdirat(from.here(), c"d", Mode::S_IRWXU).unwrap();
            from.down(c"d").unwrap();
        }
        copy(&open(&dir.join("d")), &open(&dir.join("to")), Keep { mode: false, owner: false }).unwrap();
        let mut to = Trail::start(open(&dir.join("to")), Mounts::Stop);
        for _ in 1..DEPTH {
            to.down(c"d").unwrap();
        }
        assert_eq!(to.down(c"d"), Err(Errno::ENOENT));
        for tree in [c"d", c"to"] {
            crate::launch::remove::tree(open(&dir).as_fd(), tree).unwrap();
        }
    }
}
