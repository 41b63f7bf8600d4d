//! Removing trees that belong to all of the caller's ids: what a container leaves in its writable layer, images
//! that were unpacked with their owners.
//!
//! A plain user may not empty a directory of a subordinate id, nor look into the work directory of an overlay, whose
//! mode is 000. Root over those ids may. Nothing of the tree is followed: neither a link, nor a mount, whose files
//! are somebody else's even where the tree is not.

use super::unshare::in_own_maps;
use crate::host::idmap::{IdRange, covers, subids};
use crate::plan::degrade::Policy;
use crate::report::{Act, Failure, errno_text};
use crate::sys::fds::{self, io_errno};
use crate::sys::trail::{Mounts, Trail};
use crate::sys::{self, Errno};
use nix::dir::Type;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Removes what is at a path: a file, or a directory and all that is in it. As ourselves if that does, else as root
/// over all of our ids.
///
/// # Errors
/// The first thing that cannot be removed: `FS-OWNER` if it is of ids that are not ours, `MNT-BUSY` if something is
/// mounted there, `FS-IMMUTABLE` if an attribute forbids it; those of [`in_own_maps`].
pub fn path(path: &Path, policy: &Policy) -> Result<(), Failure> {
    let invalid = |why| Failure::new(act(path), format!("{why}: invalid argument"));
    let name = path.file_name().ok_or_else(|| {
        invalid("it does not end in a name").fix("name the directory by its path, without . or .. at its end")
    })?;
    let name = CString::new(name.as_bytes()).map_err(|_| invalid("it contains a zero byte"))?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let above = open(above, flags, Mode::empty()).act(|| act(path))?;
    match tree(above.as_fd(), &name) {
        Err(Stuck { errno: Errno::EACCES | Errno::EPERM, .. }) => {
            as_root(path, policy, || tree(above.as_fd(), &name))
        }
        other => other.map_err(|stuck| stuck.explain(path)),
    }
}

fn act(path: &Path) -> String {
    format!("cannot remove {}", path.display())
}

fn as_root(path: &Path, policy: &Policy, remove: impl FnOnce() -> Result<(), Stuck>) -> Result<(), Failure> {
    let kind = SockType::SeqPacket;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).act(|| act(path))?;
    let whom = format!("the removal of {}", path.display());
    let code = in_own_maps(&whom, policy, || match remove() {
        Ok(()) => Ok(0),
        Err(stuck) => stuck.tell(&theirs).map(|()| 1).act(|| act(path)),
    })?;
    if code == 0 {
        return Ok(());
    }
    // Ids that are not in our maps have a number only outside of them, where we are.
    Err(Stuck::hear(&ours).act(|| act(path))?.explain(path))
}

/// Why a removal did not go on.
#[derive(Debug)]
pub struct Stuck {
    /// Where, below the directory that it began in.
    pub path: PathBuf,
    pub errno: Errno,
    /// The file whose owner or attributes forbid it, where it is a matter of permission.
    to_blame: Option<OwnedFd>,
}

/// A directory that is being emptied.
struct Level {
    name: CString,
    /// The directories in it.
    left: Vec<CString>,
}

/// Removes `name` from a directory: a file, or a directory and all that is in it.
///
/// # Errors
/// The first thing that cannot be removed. `EXDEV` is a mount point.
pub fn tree(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Stuck> {
    let start = dir.try_clone_to_owned().map_err(|error| Stuck {
        path: PathBuf::new(),
        errno: io_errno(error),
        to_blame: None,
    })?;
    let mut removal = Removal { trail: Trail::start(start, Mounts::Stop), levels: Vec::new() };
    match unlinkat(removal.trail.here(), name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) => return Ok(()),
        Err(Errno::EISDIR) => {}
        Err(errno) => return Err(removal.stuck(name, errno)),
    }
    removal.enter(name.into())?;
    while let Some(level) = removal.levels.last_mut() {
        match level.left.pop() {
            Some(name) => removal.enter(name)?,
            None => removal.leave()?,
        }
    }
    Ok(())
}

struct Removal {
    trail: Trail,
    levels: Vec<Level>,
}

impl Removal {
    /// Goes to a directory in this one, and removes all but directories there.
    fn enter(&mut self, name: CString) -> Result<(), Stuck> {
        self.trail.down(&name).map_err(|errno| self.stuck(&name, errno))?;
        self.levels.push(Level { name, left: Vec::new() });
        let mut listing = self.trail.list().map_err(|errno| self.stuck(c"", errno))?;
        let mut left = Vec::new();
        for entry in listing.iter() {
            let entry = entry.map_err(|errno| self.stuck(c"", errno))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let is_directory = entry.file_type() == Some(Type::Directory);
            match if is_directory {
                Err(Errno::EISDIR)
            } else {
                self.unlink(name, UnlinkatFlags::NoRemoveDir)
            } {
                Err(Errno::EISDIR) => left.push(name.into()),
                other => other.map_err(|errno| self.stuck(name, errno))?,
            }
        }
        self.levels
            .iter_mut()
            .next_back()
            .into_iter()
            .for_each(|level| level.left = std::mem::take(&mut left));
        Ok(())
    }

    /// Goes back from a directory that is empty, and removes it.
    fn leave(&mut self) -> Result<(), Stuck> {
        self.trail.up().map_err(|errno| self.stuck(c"", errno))?;
        let Some(level) = self.levels.pop() else { return Ok(()) };
        self.unlink(&level.name, UnlinkatFlags::RemoveDir).map_err(|errno| self.stuck(&level.name, errno))
    }

    fn unlink(&self, name: &CStr, kind: UnlinkatFlags) -> sys::Result<()> {
        match unlinkat(self.trail.here(), name, kind) {
            // Somebody was faster.
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Stuck at a name in this directory; at the directory itself for an empty name.
    fn stuck(&self, name: &CStr, errno: Errno) -> Stuck {
        let here = || self.trail.here().try_clone_to_owned().ok();
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // EACCES is the directory's word. EPERM is about the file, whose attributes forbid it or whose owner is not
        // ours in a directory that is sticky.
        let (names_it, to_blame) = match errno {
            Errno::EACCES => (false, here()),
            Errno::EPERM if name.is_empty() => (false, here()),
            Errno::EPERM => (true, openat(self.trail.here(), name, flags, Mode::empty()).ok()),
            _ => (true, None),
        };
        let mut path: PathBuf =
            self.levels.iter().map(|level| OsStr::from_bytes(level.name.to_bytes())).collect();
        if names_it && !name.is_empty() {
            path.push(OsStr::from_bytes(name.to_bytes()));
        }
        Stuck { path, errno, to_blame }
    }
}

/// The longest part of a path that is told; longer ones are cut.
const TOLD: usize = 4096;

impl Stuck {
    fn tell(&self, line: &OwnedFd) -> sys::Result<()> {
        let path = self.path.as_os_str().as_bytes();
        let mut message = (self.errno as i32).to_le_bytes().to_vec();
        message.extend(path.iter().take(TOLD));
        fds::send(line.as_fd(), &message, self.to_blame.as_ref().map(AsFd::as_fd))
    }

    fn hear(line: &OwnedFd) -> sys::Result<Stuck> {
        let mut message = [0; 4 + TOLD];
        let (len, to_blame) = fds::receive(line.as_fd(), &mut message)?;
        let (errno, path) = message[..len].split_first_chunk().ok_or(Errno::EBADMSG)?;
        let path = PathBuf::from(OsStr::from_bytes(path));
        Ok(Stuck { path, errno: Errno::from_raw(i32::from_le_bytes(*errno)), to_blame })
    }

    /// As who asked for the removal of `whole` is told. To be called outside of the maps.
    fn explain(self, whole: &Path) -> Failure {
        let at = whole.parent().unwrap_or(Path::new("")).join(&self.path);
        let (at, text) = (at.display(), errno_text(self.errno));
        let failure = |cause| Failure::new(act(whole), cause);
        match (self.errno, self.to_blame) {
            (Errno::EXDEV | Errno::EBUSY, _) => {
                failure(format!("something is mounted at {at}: {}", errno_text(Errno::EBUSY)))
                    .code("MNT-BUSY")
                    .fix(format!("umount {at}"))
            }
            (_, Some(file)) if fds::is_immutable(file.as_fd()) => {
                failure(format!("{at} is immutable or append-only: {text}"))
                    .code("FS-IMMUTABLE")
                    .fix(format!("sudo chattr -i -a {at}"))
            }
            (_, Some(file)) => match foreign(&file) {
                Some(who) => failure(format!("{at} belongs to {who}, which is not yours: {text}"))
                    .code("FS-OWNER")
                    .fix(format!("have root remove it: sudo rm -r {at}")),
                None => failure(format!("{at}: {text}")),
            },
            (_, None) => failure(format!("{at}: {text}")),
        }
    }
}

/// The owner of a file, if it is not one of our ids.
fn foreign(file: &OwnedFd) -> Option<String> {
    let (stat, me) = (fstat(file).ok()?, geteuid().as_raw());
    if me == 0 {
        return None;
    }
    let ids = subids(me);
    let ours =
        |id: u32, own: u32, ranges: &[IdRange]| id == own || covers(ranges, IdRange { start: id, count: 1 });
    if !ours(stat.st_uid, me, &ids.uids) {
        Some(format!("uid {}", stat.st_uid))
    } else if !ours(stat.st_gid, nix::unistd::getegid().as_raw(), &ids.gids) {
        Some(format!("gid {}", stat.st_gid))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;
    use nix::sys::stat::mkdirat;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn remove(dir: &Path, name: &CStr) -> Result<(), Stuck> {
        let dir = fs::File::open(dir).unwrap();
        tree(dir.as_fd(), name)
    }

    #[test]
    fn all_of_a_tree_goes_and_nothing_that_its_links_name() {
        let dir = Scratch::new();
        fs::create_dir_all(dir.join("tree/a/b/c")).unwrap();
        fs::create_dir_all(dir.join("tree/a/d")).unwrap();
        fs::create_dir_all(dir.join("kept/full")).unwrap();
        fs::write(dir.join("tree/a/b/file"), "text").unwrap();
        symlink("../kept", dir.join("tree/link")).unwrap();
        symlink(dir.join("kept/full"), dir.join("tree/a/d/absolute")).unwrap();
        nix::unistd::mkfifo(&dir.join("tree/a/pipe"), Mode::S_IRWXU).unwrap();
        remove(&dir, c"tree").unwrap();
        let left: Vec<_> = fs::read_dir(&*dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
        assert!(dir.join("kept/full").is_dir());
    }

    #[test]
    fn a_file_or_a_link_is_a_tree_of_its_own() {
        let dir = Scratch::new();
        fs::create_dir(dir.join("kept")).unwrap();
        symlink("kept", dir.join("link")).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        remove(&dir, c"link").unwrap();
        remove(&dir, c"file").unwrap();
        assert!(dir.join("kept").is_dir() && !dir.join("file").exists());
        let stuck = remove(&dir, c"file").unwrap_err();
        assert_eq!((stuck.errno, stuck.path), (Errno::ENOENT, "file".into()));
    }

    #[test]
    fn a_tree_that_is_deeper_than_there_are_descriptors_goes() {
        let dir = Scratch::new();
        let mut trail = Trail::start(fs::File::open(&*dir).unwrap().into(), Mounts::Stop);
        for _ in 0..1_500 {
            mkdirat(trail.here(), c"deep", Mode::S_IRWXU).unwrap();
            trail.down(c"deep").unwrap();
        }
        drop(trail);
        remove(&dir, c"deep").unwrap();
        assert!(!dir.join("deep").exists());
    }

    #[test]
    fn who_is_stuck_tells_where_why_and_on_what() {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::empty()).unwrap();
        let stuck = |path: &str, to_blame| Stuck { path: path.into(), errno: Errno::EACCES, to_blame };
        let file = fs::File::open("/etc/passwd").unwrap();
        stuck("web/rootfs", Some(file.into())).tell(&theirs).unwrap();
        let heard = Stuck::hear(&ours).unwrap();
        assert_eq!((heard.path.as_path(), heard.errno), (Path::new("web/rootfs"), Errno::EACCES));
        assert_eq!(
            fstat(heard.to_blame.unwrap()).unwrap().st_ino,
            fstat(fs::File::open("/etc/passwd").unwrap()).unwrap().st_ino
        );
        stuck(&"x".repeat(2 * TOLD), None).tell(&theirs).unwrap();
        assert_eq!(Stuck::hear(&ours).unwrap().path.as_os_str().len(), TOLD);
    }

    #[test]
    fn a_mount_and_a_path_without_a_name_are_refused_by_what_they_are() {
        let stuck = Stuck { path: "web/proc".into(), errno: Errno::EXDEV, to_blame: None };
        assert_eq!(
            stuck.explain(Path::new("/tmp/web")).to_string(),
            "cannot remove /tmp/web: MNT-BUSY: something is mounted at /tmp/web/proc: device or resource busy; fix: umount /tmp/web/proc"
        );
        for nameless in ["/", "..", "web/..", ""] {
            let line = path(Path::new(nameless), &Policy::default()).unwrap_err().to_string();
            assert!(line.contains("it does not end in a name"), "{line}");
        }
    }
}
