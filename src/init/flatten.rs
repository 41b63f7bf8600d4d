//! Layers made one tree by copying, where nothing else is to be had.
//!
//! It is done from the lowest layer to the topmost, each over what the ones below it left. What a layer says of the
//! ones below is obeyed as overlay and fuse-overlayfs do: a character device 0/0 or a file `.wh.NAME` deletes,
//! an attribute or a file `.wh..wh..opq` empties a directory first.
//!
//! No name is followed: every file is opened from its directory's descriptor, on both sides.

use super::copy_up::owner;
use crate::sys::fds::io_errno;
use crate::sys::trail::{Mounts, Trail};
use crate::sys::{Errno, xattr};
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::libc;
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{LinkatFlags, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

const PARTIAL: &CStr = c"copy.partial";

/// What was done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    pub bytes: u64,
    /// Files that we may not read, and devices, which we may not make.
    pub left_out: u64,
}

/// Copies layers, the topmost first in the list, into one new directory. It gets its name once it is complete.
///
/// `squash`: who owns the files does not exist here, so all of them become ours.
pub fn flatten(layers: &[OwnedFd], into: &OwnedFd, name: &CStr, squash: bool) -> Result<Done, Errno> {
    remove(into.as_fd(), PARTIAL)?;
    mkdirat(into, PARTIAL, Mode::S_IRWXU)?;
    let root = openat(into, PARTIAL, DIRECTORY, Mode::empty())?;
    let mut done = Done::default();
    for layer in layers.iter().rev() {
        // It may be O_PATH: open it for reading.
        let from = Trail::start(openat(layer, c".", DIRECTORY, Mode::empty())?, Mounts::Cross);
        let to = Trail::start(openat(&root, c".", DIRECTORY, Mode::empty())?, Mounts::Stop);
        let mut copier = Copier { root: &root, links: HashMap::new(), squash, done: &mut done };
        copier.walk(from, to)?;
    }
    renameat(into, PARTIAL, into, name)?;
    Ok(done)
}

/// One layer on its way into the tree.
struct Copier<'a> {
    root: &'a OwnedFd,
    /// Where the first of several names of a file is.
    links: HashMap<(u64, u64), CString>,
    squash: bool,
    done: &'a mut Done,
}

impl Copier<'_> {
    /// Walks both trees at once. How deep they are is the image's to say, so it takes neither stack nor descriptors.
    fn walk(&mut self, mut from: Trail, mut to: Trail) -> Result<(), Errno> {
        let mut path = Vec::new();
        // What is left to visit, for each directory from the start on, and how long the path was there.
        let mut left = vec![(self.level(&from, &to, &path)?, 0)];
        while let Some((directories, length)) = left.last_mut() {
            path.truncate(*length);
            if let Some(name) = directories.pop() {
                from.down(&name)?;
                to.down(&name)?;
                path.extend([b"/", name.to_bytes()].concat());
                left.push((self.level(&from, &to, &path)?, path.len()));
            } else {
                self.finish(&from, &to)?;
                left.pop();
                if !left.is_empty() {
                    from.up()?;
                    to.up()?;
                }
            }
        }
        Ok(())
    }

    /// Copies what is in a directory, and returns the names of the directories in it, which are not filled yet.
    fn level(&mut self, from: &Trail, to: &Trail, path: &[u8]) -> Result<Vec<CString>, Errno> {
        let mut names = match names(from) {
            Err(Errno::EACCES) => {
                self.done.left_out += 1;
                return Ok(Vec::new());
            }
            other => other?,
        };
        if is_opaque(from)? || names.iter().any(|name| name.as_c_str() == OPAQUE) {
            for name in self::names(to)? {
                remove(to.here(), &name)?;
            }
        }
        // What deletes comes first: the same layer may bring a file of that name.
        names.sort_by_key(|name| !name.to_bytes().starts_with(WHITEOUT));
        let mut directories = Vec::new();
        for name in names {
            match self.one(from.here(), to.here(), &name, path) {
                Ok(true) => directories.push(name),
                Ok(false) => {}
                Err(Errno::EACCES | Errno::EPERM) => self.done.left_out += 1,
                Err(errno) => return Err(errno),
            }
        }
        Ok(directories)
    }

    /// Copies one entry, of a directory only itself. Says whether it is one that is to be visited.
    fn one(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
    ) -> Result<bool, Errno> {
        if let Some(deleted) = name.to_bytes().strip_prefix(WHITEOUT) {
            let deleted = CString::new(deleted).map_err(|_| Errno::EINVAL)?;
            // The mark that empties has been obeyed; no other of its kind means anything.
            let marks = deleted.to_bytes().starts_with(WHITEOUT);
            return if marks { Ok(false) } else { remove(to, &deleted).map(|()| false) };
        }
        let stat = match fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // It went meanwhile, or is a name of an overlay's that leads nowhere.
            Err(Errno::ENOENT) => return Ok(false),
            other => other?,
        };
        let kind = stat.st_mode & libc::S_IFMT;
        if kind == libc::S_IFCHR && stat.st_rdev == 0 {
            return remove(to, name).map(|()| false);
        }
        if kind == libc::S_IFDIR {
            let search = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            if openat(to, name, search, Mode::empty()).is_err() {
                remove(to, name)?;
                mkdirat(to, name, Mode::S_IRWXU)?;
            }
            return Ok(true);
        }
        remove(to, name)?;
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                return linkat(self.root, first.as_c_str(), to, name, LinkatFlags::empty()).map(|()| false);
            }
            let first = [path.strip_prefix(b"/").unwrap_or(path), b"/", name.to_bytes()].concat();
            let first = first.strip_prefix(b"/").unwrap_or(&first);
            self.links.insert(key, CString::new(first).map_err(|_| Errno::EINVAL)?);
        }
        self.file(from, to, name, &stat).map(|()| false)
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        stat: &FileStat,
    ) -> Result<(), Errno> {
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => {
                let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                let mut source = File::from(openat(from, name, read, Mode::empty())?);
                let mut target = File::from(openat(to, name, write, Mode::S_IRUSR | Mode::S_IWUSR)?);
                self.done.bytes += std::io::copy(&mut source, &mut target).map_err(io_errno)?;
                let target = OwnedFd::from(target);
                // The owner first: a change of it takes away what makes a file run as another user.
                self.like(stat, &target)?;
                attributes(source.as_fd(), target.as_fd())?;
            }
            libc::S_IFLNK => {
                symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?;
                self.give(to, name, stat)?;
            }
            kind => {
                let kind = SFlag::from_bits_truncate(kind);
                mknodat(to, name, kind, Mode::from_bits_truncate(stat.st_mode), stat.st_rdev)?;
                self.give(to, name, stat)?;
            }
        }
        times(to, name, stat)
    }

    /// A directory gets what it is last: filling it changes its times, and may take a mode that it will not have.
    fn finish(&self, from: &Trail, to: &Trail) -> Result<(), Errno> {
        let stat = fstat(from.here())?;
        let dir = openat(to.here(), c".", DIRECTORY, Mode::empty())?;
        match openat(from.here(), c".", DIRECTORY, Mode::empty()) {
            Ok(original) => attributes(original.as_fd(), dir.as_fd())?,
            // It has been counted among what was left out.
            Err(Errno::EACCES) => {}
            Err(errno) => return Err(errno),
        }
        self.like(&stat, &dir)?;
        times(to.here(), c".", &stat)
    }

    /// Gives what is new the owner of the original, and then its mode, which a change of owner may cost bits.
    fn like(&self, stat: &FileStat, new: &OwnedFd) -> Result<(), Errno> {
        let (uid, gid) = owner(stat);
        if !self.squash {
            owned(fchown(new, Some(uid), Some(gid)))?;
        }
        fchmod(new, Mode::from_bits_truncate(stat.st_mode))
    }

    /// The same for what has no mode of its own, or has it already.
    fn give(&self, to: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> Result<(), Errno> {
        let (uid, gid) = owner(stat);
        if self.squash {
            return Ok(());
        }
        owned(fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW))
    }
}

/// Who does not exist here cannot own anything here.
fn owned(given: Result<(), Errno>) -> Result<(), Errno> {
    match given {
        Err(Errno::EINVAL | Errno::EPERM) => Ok(()),
        other => other,
    }
}

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &CStr = c".wh..wh..opq";

fn is_opaque(dir: &Trail) -> Result<bool, Errno> {
    let dir = openat(dir.here(), c".", DIRECTORY, Mode::empty())?;
    let names = [c"user.overlay.opaque", c"trusted.overlay.opaque", c"user.fuseoverlayfs.opaque"];
    Ok(names.iter().any(|name| xattr::get(dir.as_fd(), name).is_ok_and(|value| value == b"y")))
}

/// Gives a file the attributes of another one, as far as we may, but for those of overlays.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let overlays: [&[u8]; 3] = [b"user.overlay.", b"trusted.overlay.", b"user.fuseoverlayfs."];
    for name in xattr::list(from)? {
        if overlays.iter().any(|own| name.to_bytes().starts_with(own)) {
            continue;
        }
        match xattr::get(from, &name).and_then(|value| xattr::set(to, &name, &value)) {
            Ok(())
            | Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES | Errno::EINVAL | Errno::ENODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn times(to: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> Result<(), Errno> {
    let accessed = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
    let modified = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    utimensat(to, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)
}

/// The names in a directory, but for its own two.
fn names(dir: &Trail) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in dir.list()?.iter() {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes whatever has this name, with all that is in it.
fn remove(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    let mut trail = Trail::start(openat(dir, name, DIRECTORY, Mode::empty())?, Mounts::Stop);
    let mut way: Vec<CString> = Vec::new();
    loop {
        let mut deeper = None;
        for entry in names(&trail)? {
            match unlinkat(trail.here(), entry.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                Err(Errno::EISDIR | Errno::EPERM) => deeper = Some(entry),
                other => other?,
            }
        }
        if let Some(entry) = deeper {
            trail.down(&entry)?;
            way.push(entry);
        } else if let Some(entry) = way.pop() {
            trail.up()?;
            unlinkat(trail.here(), entry.as_c_str(), UnlinkatFlags::RemoveDir)?;
        } else {
            return unlinkat(dir, name, UnlinkatFlags::RemoveDir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    fn layer(scratch: &Scratch, name: &str) -> PathBuf {
        let dir = scratch.join(name);
        fs::create_dir(&dir).unwrap();
        dir
    }

    fn open(path: &Path) -> OwnedFd {
        nix::fcntl::open(path, DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn layers_become_one_tree_with_links_modes_and_times() {
        let scratch = Scratch::new();
        let (low, high) = (layer(&scratch, "low"), layer(&scratch, "high"));
        fs::write(low.join("kept"), "kept").unwrap();
        fs::hard_link(low.join("kept"), low.join("also")).unwrap();
        fs::set_permissions(low.join("kept"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("kept", low.join("link")).unwrap();
        fs::create_dir(low.join("dir")).unwrap();
        fs::write(low.join("dir/below"), "low").unwrap();
        fs::write(low.join("becomes"), "a file").unwrap();
        fs::create_dir(high.join("dir")).unwrap();
        fs::write(high.join("dir/above"), "high").unwrap();
        fs::create_dir(high.join("becomes")).unwrap();
        let done = flatten(&[open(&high), open(&low)], &open(&scratch), c"copy", false).unwrap();
        assert_eq!(done, Done { bytes: 4 + 3 + 6 + 4, left_out: 0 });
        let copy = scratch.join("copy");
        let stat = copy.join("kept").metadata().unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.nlink()), (0o640, 2));
        assert_eq!(stat.mtime(), low.join("kept").metadata().unwrap().mtime());
        assert_eq!(stat.ino(), copy.join("also").metadata().unwrap().ino());
        assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("kept"));
        assert_eq!(fs::read_to_string(copy.join("dir/below")).unwrap(), "low");
        assert_eq!(fs::read_to_string(copy.join("dir/above")).unwrap(), "high");
        assert!(copy.join("becomes").is_dir());
        assert!(!scratch.join("copy.partial").exists());
    }

    #[test]
    fn what_a_layer_deletes_is_not_copied() {
        let scratch = Scratch::new();
        let (low, high) = (layer(&scratch, "low"), layer(&scratch, "high"));
        for dir in ["emptied", "gone"] {
            fs::create_dir(low.join(dir)).unwrap();
            fs::write(low.join(dir).join("old"), "old").unwrap();
        }
        fs::write(high.join(".wh.gone"), "").unwrap();
        fs::create_dir(high.join("emptied")).unwrap();
        fs::write(high.join("emptied/.wh..wh..opq"), "").unwrap();
        fs::write(high.join("emptied/new"), "new").unwrap();
        flatten(&[open(&high), open(&low)], &open(&scratch), c"copy", false).unwrap();
        let copy = scratch.join("copy");
        assert!(!copy.join("gone").exists());
        let left: Vec<_> =
            fs::read_dir(copy.join("emptied")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["new"]);
    }

    #[test]
    fn a_tree_of_any_depth_is_copied_and_deleted() {
        let scratch = Scratch::new();
        let (low, high) = (layer(&scratch, "low"), layer(&scratch, "high"));
        let mut dir = open(&low);
        for _ in 0..3000 {
            mkdirat(&dir, c"d", Mode::S_IRWXU).unwrap();
            dir = openat(&dir, c"d", DIRECTORY, Mode::empty()).unwrap();
        }
        flatten(&[open(&low)], &open(&scratch), c"copy", false).unwrap();
        assert!(scratch.join("copy/d/d/d").exists());
        fs::write(high.join(".wh.d"), "").unwrap();
        flatten(&[open(&high), open(&low)], &open(&scratch), c"other", false).unwrap();
        assert!(!scratch.join("other/d").exists());
        // As its own test has it, nobody else could remove it.
        for name in [c"low", c"copy"] {
            remove(open(&scratch).as_fd(), name).unwrap();
        }
    }

    #[test]
    fn what_an_earlier_attempt_left_is_removed() {
        let scratch = Scratch::new();
        let low = layer(&scratch, "low");
        fs::create_dir_all(scratch.join("copy.partial/old/older")).unwrap();
        fs::write(scratch.join("copy.partial/old/file"), "").unwrap();
        flatten(&[open(&low)], &open(&scratch), c"copy", false).unwrap();
        assert_eq!(fs::read_dir(scratch.join("copy")).unwrap().count(), 0);
    }
}
