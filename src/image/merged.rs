//! Files of a stack of layers as overlayfs would show them, without a mount.
//!
//! A directory of the stack is a list of directories, one of each layer that has it, from the highest to the
//! lowest. A lookup goes through that list: what is first found hides everything below, a directory alone is
//! joined by those below it, until one is opaque. Links are followed here, one name at a time, so that none leads
//! out: `/` is the top of the stack, and so is what is above it.

use crate::report::errno_text;
use crate::sys::xattr;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, fstatat};
use nix::unistd::{Gid, Uid, chown, mkdir};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// As many links as the kernel follows (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// One directory of the stack.
type Stack = Vec<Rc<OwnedFd>>;

/// The whole of it.
pub struct Merged {
    root: Stack,
}

/// What is called so in the whole of it, before a link is followed.
pub enum Below {
    /// The highest of those that are joined.
    Directory(Rc<OwnedFd>),
    Link(PathBuf),
    /// A file, or nothing.
    Other,
}

enum Entry {
    Missing,
    Directory(Stack),
    Link(PathBuf),
    /// In a directory of one layer.
    File(Rc<OwnedFd>),
}

impl Merged {
    /// Opens the layers, from the lowest to the highest.
    ///
    /// # Errors
    /// That of open(2), as text.
    pub fn open(layers: &[PathBuf]) -> Result<Merged, String> {
        let mut root = Stack::new();
        for path in layers.iter().rev() {
            let layer = nix::fcntl::open(path, DIRECTORY, Mode::empty())
                .map_err(|errno| format!("{}: {}", path.display(), errno_text(errno)))?;
            let opaque = is_opaque(&layer);
            root.push(Rc::new(layer));
            if opaque {
                break;
            }
        }
        Ok(Merged { root })
    }

    /// What lies at the end of a way through directories alone; at the end of none, the root.
    ///
    /// # Errors
    /// Those of openat(2) and its kin.
    pub fn below<'n>(&self, way: impl IntoIterator<Item = &'n [u8]>) -> Result<Below, Errno> {
        let mut stack = self.root.clone();
        let mut way = way.into_iter().peekable();
        while let Some(name) = way.next() {
            match look(&stack, OsStr::from_bytes(name))? {
                Entry::Directory(joined) => stack = joined,
                Entry::Link(target) if way.peek().is_none() => return Ok(Below::Link(target)),
                _ => return Ok(Below::Other),
            }
        }
        Ok(stack.first().map_or(Below::Other, |dir| Below::Directory(dir.clone())))
    }

    /// The text of a file, up to `limit` bytes; empty where there is none. What is not UTF-8 in it is not compared
    /// with anything that is.
    ///
    /// # Errors
    /// One that is too large, or cannot be read.
    pub fn text(&self, path: &str, limit: u64) -> Result<String, String> {
        let say = |errno: Errno| format!("{path} of the image: {}", errno_text(errno));
        let (dir, name) = match self.find(Path::new(path)).map_err(say)? {
            Found::File(dir, name) => (dir, name),
            Found::Missing { .. } => return Ok(String::new()),
            Found::Directory => return Err(say(Errno::EISDIR)),
        };
        // A fifo would keep us waiting.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&*dir, name.as_os_str(), flags, Mode::empty()).map_err(say)?);
        if !file.metadata().is_ok_and(|meta| meta.is_file()) {
            return Err(format!("{path} of the image is no regular file: invalid argument"));
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|_| say(Errno::EIO))?;
        if bytes.len() as u64 > limit {
            return Err(say(Errno::EFBIG));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Makes a directory that the stack lacks, in a directory that is to lie above it, or is all of it. Those on
    /// the way become there what they are here.
    ///
    /// # Errors
    /// Those of mkdir(2) and its kin.
    pub fn make_directory(&self, path: &str, above: &Path) -> Result<(), Errno> {
        let Found::Missing { way, rest } = self.find(Path::new(path))? else { return Ok(()) };
        if rest.iter().any(|name| name == "..") {
            return Err(Errno::ENOENT);
        }
        let mut place = above.to_path_buf();
        for (name, stack) in way {
            place.push(name);
            if make(&place)? {
                let Some(dir) = stack.first() else { continue };
                let stat = fstat(&**dir)?;
                let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                chown(&place, Some(uid), Some(gid))?;
                set_mode(&place, stat.st_mode)?;
            }
        }
        for name in rest {
            place.push(name);
            make(&place)?;
            set_mode(&place, 0o755)?;
        }
        Ok(())
    }

    fn find(&self, path: &Path) -> Result<Found, Errno> {
        let mut rest: VecDeque<OsString> = names(path);
        let mut way: Vec<(OsString, Stack)> = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                // Above the root there is the root.
                way.pop();
                continue;
            }
            match look(way.last().map_or(&self.root, |(_, stack)| stack), &name)? {
                Entry::Missing => {
                    rest.push_front(name);
                    return Ok(Found::Missing { way, rest });
                }
                Entry::Directory(stack) => way.push((name, stack)),
                Entry::File(dir) if rest.is_empty() => return Ok(Found::File(dir, name)),
                Entry::File(_) => return Err(Errno::ENOTDIR),
                Entry::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::ELOOP);
                    }
                    if target.is_absolute() {
                        way.clear();
                    }
                    names(&target).into_iter().rev().for_each(|name| rest.push_front(name));
                }
            }
        }
        Ok(Found::Directory)
    }
}

/// What a path leads to.
enum Found {
    /// In this directory of one layer, by this name.
    File(Rc<OwnedFd>, OsString),
    Directory,
    /// Directories up to where it ends, and what is missing from there on.
    Missing {
        way: Vec<(OsString, Stack)>,
        rest: VecDeque<OsString>,
    },
}

/// Makes a directory; `false` if it is there.
fn make(path: &Path) -> Result<bool, Errno> {
    match mkdir(path, Mode::S_IRWXU) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_bits_truncate(mode);
    fchmodat(AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink)
}

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The names of a path; `..` is one, `.` and `/` are none.
fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    names.filter(|name| !matches!(*name, b"" | b".")).map(|name| OsStr::from_bytes(name).to_owned()).collect()
}

fn look(stack: &Stack, name: &OsStr) -> Result<Entry, Errno> {
    let mut joined = Stack::new();
    for dir in stack {
        let stat = match fstatat(&**dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => continue,
            other => other?,
        };
        let kind = SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT);
        if kind == SFlag::S_IFDIR {
            let inside = Rc::new(openat(&**dir, name, DIRECTORY, Mode::empty())?);
            let opaque = is_opaque(&inside);
            joined.push(inside);
            if opaque {
                break;
            }
        } else if !joined.is_empty() || kind == SFlag::S_IFCHR && stat.st_rdev == 0 {
            // Hidden by a directory above, or a whiteout.
            break;
        } else if kind == SFlag::S_IFLNK {
            return Ok(Entry::Link(readlinkat(&**dir, name)?.into()));
        } else {
            return Ok(Entry::File(dir.clone()));
        }
    }
    Ok(if joined.is_empty() { Entry::Missing } else { Entry::Directory(joined) })
}

/// Whether overlayfs shows nothing of the layers below in this directory. A file system without attributes has no
/// such directory.
fn is_opaque(dir: &OwnedFd) -> bool {
    let names = [c"user.overlay.opaque", c"trusted.overlay.opaque"];
    names.iter().any(|name| xattr::is_set(dir.as_fd(), name) == Ok(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use std::fs;
    use std::os::unix::fs::symlink;

    struct Layers(Scratch);

    impl Layers {
        fn new() -> Layers {
            Layers(Scratch::new())
        }

        fn write(&self, path: &str, content: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn merged(&self) -> Merged {
            Merged::open(&["low", "middle", "high"].map(|name| self.0.join(name))).unwrap()
        }
    }

    #[test]
    fn the_highest_layer_wins_and_directories_are_joined() {
        let layers = Layers::new();
        layers.write("low/etc/passwd", "low");
        layers.write("low/etc/group", "group");
        layers.write("middle/etc/passwd", "middle");
        layers.write("middle/over", "a file");
        layers.write("low/over/file", "hidden");
        layers.write("high/etc/other", "other");
        let merged = layers.merged();
        let text = |path| merged.text(path, 100);
        assert_eq!(text("/etc/passwd").unwrap(), "middle");
        assert_eq!(text("/etc/group").unwrap(), "group");
        assert_eq!(text("/etc/none").unwrap(), "");
        assert_eq!(text("/none/passwd").unwrap(), "");
        assert!(text("/over/file").is_err() && text("/etc").is_err());
        assert!(merged.text("/etc/passwd", 5).is_err());
    }

    #[test]
    fn links_stay_inside_the_stack() {
        let layers = Layers::new();
        layers.write("low/usr/etc/passwd", "inside");
        layers.write("secret", "outside");
        fs::create_dir_all(layers.0.join("high/etc")).unwrap();
        fs::create_dir_all(layers.0.join("middle")).unwrap();
        symlink("/usr/etc", layers.0.join("middle/absolute")).unwrap();
        symlink("../../../usr/etc/passwd", layers.0.join("high/etc/passwd")).unwrap();
        symlink("../../secret", layers.0.join("high/etc/out")).unwrap();
        symlink(layers.0.join("secret"), layers.0.join("high/etc/far")).unwrap();
        symlink("loop", layers.0.join("high/etc/loop")).unwrap();
        let merged = layers.merged();
        assert_eq!(merged.text("/etc/passwd", 100).unwrap(), "inside");
        assert_eq!(merged.text("/absolute/passwd", 100).unwrap(), "inside");
        assert_eq!(merged.text("/etc/out", 100).unwrap(), "");
        assert_eq!(merged.text("/etc/far", 100).unwrap(), "");
        assert!(merged.text("/etc/loop", 100).is_err());
    }

    #[test]
    fn a_directory_that_is_missing_is_made_above_with_those_on_the_way() {
        let layers = Layers::new();
        layers.write("low/var/lib/file", "x");
        layers.write("high/srv/file", "x");
        fs::create_dir_all(layers.0.join("middle")).unwrap();
        fs::create_dir_all(layers.0.join("above")).unwrap();
        symlink("/var/lib", layers.0.join("high/data")).unwrap();
        set_mode(&layers.0.join("low/var"), 0o711).unwrap();
        let merged = layers.merged();
        for path in ["/data/db/main", "srv", "/srv/file", "relative", "/../out"] {
            merged.make_directory(path, &layers.0.join("above")).unwrap();
        }
        assert!(merged.make_directory("/none/../x", &layers.0.join("above")).is_err());
        let made = |path: &str| {
            fs::metadata(layers.0.join("above").join(path))
                .map(|meta| std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o7777)
        };
        assert_eq!(made("var").unwrap(), 0o711);
        for path in ["var/lib/db/main", "relative", "out"] {
            assert_eq!(made(path).unwrap(), 0o755, "{path}");
        }
        assert!(made("srv").is_err() && made("data").is_err());
    }

    #[test]
    fn an_opaque_directory_hides_those_below() {
        let layers = Layers::new();
        layers.write("low/etc/passwd", "low");
        layers.write("middle/etc/other", "middle");
        layers.write("high/etc/last", "high");
        let etc = File::open(layers.0.join("middle/etc")).unwrap();
        xattr::set(etc.as_fd(), c"user.overlay.opaque", b"y").unwrap();
        let merged = layers.merged();
        assert_eq!(merged.text("/etc/passwd", 100).unwrap(), "");
        assert_eq!(merged.text("/etc/other", 100).unwrap(), "middle");
        assert_eq!(merged.text("/etc/last", 100).unwrap(), "high");
    }
}
