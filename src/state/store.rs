//! The directory of containers.

use super::status::Status;
use super::{HostRoot, Record, RecordedCgroup};
use crate::report::{Act, Failure, io_text};
use crate::sys::Errno;
use crate::sys::fds::{self, Lock};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where the states of all containers are.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// The directory of one container.
#[derive(Debug)]
pub struct Entry {
    id: String,
    path: PathBuf,
    dir: OwnedFd,
    /// Held by those who change the container.
    lock: Option<OwnedFd>,
    /// What held the lock before, or will.
    unlocked: Option<OwnedFd>,
    /// What a create that was killed has left.
    pub left: Left,
}

/// What was about to be made outside of an entry's directory, as far as it can be read.
#[derive(Debug, Default)]
pub struct Left {
    /// The entry was there before.
    pub stale: bool,
    /// See [`CGROUP`].
    pub cgroup: Option<RecordedCgroup>,
    /// See [`HOST_ROOT`].
    pub host_root: Option<HostRoot>,
}

/// How long a command waits for another one that changes the same container.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

const STATE: &str = "state.json";
/// What an entry may hold, the record first: without it the container does not exist any more.
const FILES: [&str; 5] = [STATE, EXEC, FILTER, START_SOCKET, CGROUP];
/// The mount of the root that is about to be made on the host. Few containers have one, so it is not looked for.
pub const HOST_ROOT: &str = "root.json";
/// What `exec` starts from.
pub const EXEC: &str = "exec.json";
/// The cgroup that is about to be made.
pub const CGROUP: &str = "cgroup.json";
/// The compiled filter: four bytes of flags, then the program.
pub const FILTER: &str = "seccomp.bpf";
/// Is there once a process was let in that may look into others.
pub const TRACES: &str = "traces";
/// The socket that `start` connects to.
pub const START_SOCKET: &str = "start.sock";

/// Refuses names that are no ids: runc's alphabet, and nothing that is a directory already.
///
/// # Errors
/// An id that is empty, `.`, `..`, too long for a file name, or has other characters.
pub fn check_id(id: &str) -> Result<(), Failure> {
    let fine = !id.is_empty()
        && id != "."
        && id != ".."
        && id.len() <= 255
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-.".contains(&b));
    if fine {
        return Ok(());
    }
    Err(Failure::new(format!("cannot use container id {id:?}"), "invalid container ID format")
        .fix("use up to 255 letters, digits and _ + . -"))
}

fn taken(id: &str) -> Failure {
    Failure::new(format!("cannot create container {id}"), "container with given ID already exists")
        .fix(format!("choose another id, or bryo delete {id}"))
}

/// What the default root depends on.
#[derive(Debug, Clone)]
pub struct Whereabouts {
    pub euid: u32,
    pub in_child_userns: bool,
    /// $XDG_RUNTIME_DIR.
    pub runtime_dir: Option<PathBuf>,
}

/// Where the default store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// Below a directory that somebody has made for us.
    Given(PathBuf),
    /// In /tmp, where anybody could have made it.
    Private(PathBuf),
}

impl Home {
    /// Looks for it.
    pub fn of(whereabouts: &Whereabouts) -> Home {
        let uid = whereabouts.euid;
        if uid == 0 && !whereabouts.in_child_userns {
            return Home::Given("/run/bryo".into());
        }
        if let Some(dir) = whereabouts.runtime_dir.as_ref().filter(|dir| dir.is_absolute()) {
            return Home::Given(dir.join("bryo"));
        }
        let session = PathBuf::from(format!("/run/user/{uid}"));
        if session.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == uid) {
            return Home::Given(session.join("bryo"));
        }
        Home::Private(format!("/tmp/bryo-{uid}").into())
    }
}

/// Checks that a directory in /tmp is ours alone.
///
/// # Errors
/// `DIR-XDG` where it is not, or is none.
pub fn check_private(private: &Path, uid: u32) -> Result<(), Failure> {
    let meta = private.symlink_metadata().map_err(|error| unsafe_home(private, &io_text(&error)))?;
    if meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(unsafe_home(private, "it is not a directory of ours that only we can write: permission denied"))
}

fn unsafe_home(private: &Path, cause: &str) -> Failure {
    Failure::new(format!("cannot use state directory {}", private.display()), cause)
        .code("DIR-XDG")
        .fix("set XDG_RUNTIME_DIR, or give --root")
}

impl Store {
    /// The store at an explicit `--root`.
    pub fn at(root: PathBuf) -> Store {
        Store { root }
    }

    /// The default store for who only looks: nothing is made.
    ///
    /// # Errors
    /// As [`Store::default`].
    pub fn default_as_it_is(whereabouts: &Whereabouts) -> Result<Store, Failure> {
        match Home::of(whereabouts) {
            Home::Private(private) if private.symlink_metadata().is_ok() => {
                check_private(&private, whereabouts.euid).map(|()| Store::at(private))
            }
            Home::Private(root) | Home::Given(root) => Ok(Store::at(root)),
        }
    }

    /// The default store: /run/bryo for root, the user's runtime directory otherwise, and where there is
    /// none a private directory in /tmp, which nobody else can have made for us.
    ///
    /// # Errors
    /// `DIR-XDG` where /tmp/bryo-UID is there and not ours.
    pub fn default(whereabouts: &Whereabouts) -> Result<Store, Failure> {
        let private = match Home::of(whereabouts) {
            Home::Given(root) => return Ok(Store::at(root)),
            Home::Private(private) => private,
        };
        match std::fs::DirBuilder::new().mode(0o700).create(&private) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unsafe_home(&private, &io_text(&error))),
        }
        check_private(&private, whereabouts.euid)?;
        Ok(Store::at(private))
    }

    /// Checks that there is such a directory; the first container makes it.
    ///
    /// # Errors
    /// That of stat(2).
    pub fn check_there(&self) -> Result<(), Failure> {
        let found = std::fs::metadata(&self.root);
        found.map(drop).act(|| format!("cannot list the state directory {}", self.root.display()))
    }

    /// Where the directory of an id is, or would be.
    pub fn place(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Where compiled seccomp filters are kept. Its name is no id, so no container can have it.
    pub fn filters(&self) -> PathBuf {
        self.root.join("seccomp:cache")
    }

    /// Claims an id: makes its directory and locks it.
    ///
    /// # Errors
    /// An id that is taken, or a directory that cannot be made.
    pub fn claim(&self, id: &str) -> Result<Entry, Failure> {
        check_id(id)?;
        let path = self.root.join(id);
        let mkdir = || std::fs::DirBuilder::new().mode(0o700).create(&path);
        let made = match mkdir() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&self.root)
                    .map_err(|e| self.unusable(&e))?;
                mkdir()
            }
            other => other,
        };
        let fresh = match made {
            Ok(()) => true,
            // It may be what a create that was killed has left: then nobody locks it, and it has no record.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(self.unusable(&error)),
        };
        let take = || {
            let Some(mut entry) = self.entry(id)? else { return Ok(None) };
            // A delete may have removed the directory between the two.
            if !entry.try_lock()? || entry.has_record()? || entry.removed()? {
                return Ok(None);
            }
            if !fresh {
                entry.left = entry.planned();
            }
            Ok(Some(entry))
        };
        match take() {
            // Another create was faster to lock what we made, and uses it now.
            Ok(None) => Err(taken(id)),
            Ok(Some(entry)) => Ok(entry),
            Err(failure) => {
                if fresh {
                    // Undo; the error that led here is the one to tell.
                    let _ = std::fs::remove_dir(&path);
                }
                Err(failure)
            }
        }
    }

    /// Whether an id could be claimed now, for who only asks.
    ///
    /// # Errors
    /// As [`Store::claim`].
    pub fn check_free(&self, id: &str) -> Result<(), Failure> {
        if let Some(entry) = self.entry(id)? {
            return if entry.has_record()? { Err(taken(id)) } else { Ok(()) };
        }
        // Where nothing is yet, it would be made.
        let there = self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let may = nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK;
        nix::unistd::eaccess(there, may).map_err(|errno| self.unusable(&errno.into()))
    }

    fn unusable(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!("cannot use state directory {}", self.root.display()), io_text(error))
            .code("DIR-XDG")
            .fix("give a directory that you can write with --root, or set XDG_RUNTIME_DIR")
    }

    /// Opens the directory of an id, recorded or not; `None` where there is none.
    ///
    /// # Errors
    /// A bad id, or a directory that cannot be opened.
    pub fn entry(&self, id: &str) -> Result<Option<Entry>, Failure> {
        check_id(id)?;
        let path = self.root.join(id);
        match open(
            &path,
            OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::empty(),
        ) {
            Ok(dir) => {
                let (id, left) = (id.to_string(), Left::default());
                Ok(Some(Entry { id, path, dir, lock: None, unlocked: None, left }))
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(Failure::errno(format!("cannot open state of container {id}"), errno)),
        }
    }

    /// Opens a container that is recorded.
    ///
    /// # Errors
    /// `container does not exist`.
    pub fn open(&self, act: &str, id: &str) -> Result<(Entry, Record), Failure> {
        let missing = || Failure::new(format!("cannot {act} container {id}"), "container does not exist");
        let entry = self.entry(id)?.ok_or_else(missing)?;
        let record = entry.record()?.ok_or_else(missing)?;
        Ok((entry, record))
    }

    /// As [`Store::open`], and locked against other changes.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_locked(&self, act: &str, id: &str) -> Result<(Entry, Record), Failure> {
        let missing = || Failure::new(format!("cannot {act} container {id}"), "container does not exist");
        let mut entry = self.entry(id)?.ok_or_else(missing)?;
        entry.lock()?;
        // While we waited it may have been deleted, and even made again.
        let record = entry.record()?.ok_or_else(missing)?;
        Ok((entry, record))
    }

    /// The ids of all entries, sorted.
    ///
    /// # Errors
    /// A root that cannot be read; one that does not exist is empty.
    pub fn ids(&self) -> Result<Vec<String>, Failure> {
        let act = || format!("cannot read state directory {}", self.root.display());
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.act(act)?,
        };
        let entries: Vec<_> = entries.collect::<std::io::Result<_>>().act(act)?;
        let names = entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<_> = names.filter(|name| check_id(name).is_ok()).collect();
        ids.sort();
        Ok(ids)
    }
}

impl Entry {
    /// The directory with the socket by which the container says that it is ready; the container sees it.
    pub const NOTIFY: &str = "notify";

    /// Makes it.
    ///
    /// # Errors
    /// That of mkdir(2).
    pub fn make_notify_directory(&self) -> Result<(), Failure> {
        nix::sys::stat::mkdirat(&self.dir, Self::NOTIFY, Mode::from_bits_truncate(0o755))
            .act(|| self.act("write"))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn act(&self, what: &str) -> String {
        format!("cannot {what} state of container {}", self.id)
    }

    fn duplicate(&self) -> Result<OwnedFd, Failure> {
        // A description of its own, so that the lock is ours and not that of every copy.
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        openat(&self.dir, ".", flags, Mode::empty()).act(|| self.act("lock"))
    }

    /// Locks the container again, and says whether it is still there.
    ///
    /// # Errors
    /// Another command that does not end its work on it.
    pub fn relock(&mut self) -> Result<bool, Failure> {
        self.lock()?;
        self.has_record()
    }

    /// Waits for whoever is at work on the container, but not for ever: it may be in a hook that hangs.
    fn lock(&mut self) -> Result<(), Failure> {
        let begin = std::time::Instant::now();
        while !self.try_lock()? {
            if begin.elapsed() > PATIENCE {
                let busy = "another command is at work on it: resource temporarily unavailable";
                return Err(Failure::new(self.act("lock"), busy).fix("end that command, or try again"));
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(())
    }

    /// Lets others change the container again.
    pub fn unlock(&mut self) {
        self.unlocked = self.lock.take();
        if let Some(fd) = &self.unlocked {
            // Nothing that is known makes this fail; if it did, they would wait until we end.
            let _ = fds::lock(fd, Lock::Release);
        }
    }

    fn try_lock(&mut self) -> Result<bool, Failure> {
        let fd = match self.unlocked.take() {
            Some(fd) => fd,
            None => self.duplicate()?,
        };
        match fds::lock(&fd, Lock::Try) {
            Ok(()) => {
                self.lock = Some(fd);
                Ok(true)
            }
            Err(Errno::EAGAIN) => {
                self.unlocked = Some(fd);
                Ok(false)
            }
            Err(errno) => Err(Failure::errno(self.act("lock"), errno)),
        }
    }

    /// Locks an entry without a record, unless somebody is at work on it.
    ///
    /// # Errors
    /// That of flock(2).
    pub fn lock_abandoned(&mut self) -> Result<bool, Failure> {
        self.try_lock()
    }

    /// The descriptor whose copies hold the lock, too.
    pub fn lock_fd(&self) -> Option<BorrowedFd<'_>> {
        self.lock.as_ref().map(|lock| lock.as_fd())
    }

    fn has_record(&self) -> Result<bool, Failure> {
        self.has(STATE)
    }

    /// Whether there is a record that can be understood.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn has_whole_record(&self) -> Result<bool, Failure> {
        Ok(self.read(STATE)?.is_some_and(|text| serde_json::from_slice::<Record>(&text).is_ok()))
    }

    /// The record; `None` where there is none (yet).
    ///
    /// # Errors
    /// One that cannot be read or understood.
    pub fn record(&self) -> Result<Option<Record>, Failure> {
        let Some(text) = self.read(STATE)? else { return Ok(None) };
        let record = serde_json::from_slice(&text);
        record.map(Some).map_err(|error| {
            Failure::new(self.act("read"), format!("{}: {error}", self.path.join(STATE).display()))
                .fix(format!("bryo delete --force {}", self.id))
        })
    }

    /// What was about to be made.
    pub fn planned(&self) -> Left {
        fn parse<T: DeserializeOwned>(text: Option<Vec<u8>>) -> Option<T> {
            serde_json::from_slice(&text?).ok()
        }
        let read = |name| self.read(name).ok().flatten();
        Left { stale: true, cgroup: parse(read(CGROUP)), host_root: parse(read(HOST_ROOT)) }
    }

    /// A file of the entry; `None` where there is none.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let file = match openat(
            &self.dir,
            name,
            OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW,
            Mode::empty(),
        ) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.act(|| self.act("read"))?,
        };
        let mut text = Vec::new();
        File::from(file).read_to_end(&mut text).act(|| self.act("read"))?;
        Ok(Some(text))
    }

    /// Writes a file of the entry whole or not at all.
    ///
    /// # Errors
    /// A full disk, say: then the old contents stay.
    pub fn write(&self, name: &str, contents: &[u8]) -> Result<(), Failure> {
        let act = || self.act("write");
        let temporary = format!("{name}.new");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = openat(&self.dir, temporary.as_str(), flags, mode).act(act)?;
        let written = File::from(file).write_all(contents).act(act);
        let renamed = written
            .and_then(|()| nix::fcntl::renameat(&self.dir, temporary.as_str(), &self.dir, name).act(act));
        if renamed.is_err() {
            // The error that counts is the first one.
            let _ = nix::unistd::unlinkat(&self.dir, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        renamed
    }

    /// Writes a file that everybody in the container may read and its root, if that is another uid than ours, may change.
    ///
    /// # Errors
    /// As [`Entry::write`].
    pub fn write_shown(&self, name: &str, contents: &[u8], owner: Option<u32>) -> Result<(), Failure> {
        let act = || self.act("write");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let file = openat(&self.dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).act(act)?;
        // Whatever our umask is.
        nix::sys::stat::fchmod(&file, Mode::from_bits_truncate(0o644)).act(act)?;
        if let Some(uid) = owner {
            nix::unistd::fchown(&file, Some(uid.into()), None).act(act)?;
        }
        File::from(file).write_all(contents).act(act)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// As [`Entry::write`].
    pub fn save(&self, record: &Record) -> Result<(), Failure> {
        let text = serde_json::to_vec(record).map_err(|e| Failure::new(self.act("write"), e.to_string()))?;
        self.write(STATE, &text)
    }

    /// A path below this directory that fits into a socket address however long the directory's own is.
    pub fn short_path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()))
    }

    /// Whether a file of the entry is there.
    ///
    /// # Errors
    /// That of fstatat(2).
    pub fn has(&self, name: &str) -> Result<bool, Failure> {
        match nix::sys::stat::fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(Failure::errno(self.act("look at"), errno)),
        }
    }

    /// Whether init still waits for `start`: it has the start socket until its exec closes it.
    fn init_waits(&self) -> Result<bool, Errno> {
        // Most have started long ago, and who has started them has removed it: a look costs less than a connection.
        match nix::sys::stat::fstatat(&self.dir, START_SOCKET, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(false),
            other => other.and_then(|_| fds::is_listening(&self.short_path(START_SOCKET))),
        }
    }

    /// The status of the container.
    ///
    /// # Errors
    /// Where it cannot be told: a guess would have others forget a container that runs.
    pub fn status(&self, record: &Record) -> Result<Status, Failure> {
        let alive = record.alive().act(|| format!("cannot tell the status of container {}", self.id))?;
        if alive { self.status_of_living(record) } else { Ok(Status::Stopped) }
    }

    /// The status of a container whose init is known to live.
    ///
    /// # Errors
    /// As [`Entry::status`].
    pub fn status_of_living(&self, record: &Record) -> Result<Status, Failure> {
        let act = || format!("cannot tell the status of container {}", self.id);
        Ok(if record.cgroup.as_ref().is_some_and(|cgroup| cgroup.open().is_ok_and(|it| it.is_paused())) {
            Status::Paused
        } else if self.init_waits().act(act)? {
            Status::Created
        } else {
            Status::Running
        })
    }

    /// Removes what `start` needed, once it has.
    pub fn forget_start(&self) {
        // Gone already is as good, and the socket means nothing after the start.
        let _ = nix::unistd::unlinkat(&self.dir, START_SOCKET, UnlinkatFlags::NoRemoveDir);
    }

    /// Whether the directory is gone: what its path leads to, if anything, is another container's then.
    fn removed(&self) -> Result<bool, Failure> {
        let stat = nix::sys::stat::fstat(&self.dir).act(|| self.act("look at"))?;
        Ok(stat.st_nlink == 0)
    }

    /// Removes what is in the directory.
    ///
    /// # Errors
    /// What cannot be removed.
    pub fn clear(&self) -> Result<(), Failure> {
        clear(&self.dir).act(|| self.act("delete"))
    }

    /// Removes the entry, the record first: without it the container does not exist any more.
    ///
    /// # Errors
    /// What cannot be removed.
    pub fn remove(self) -> Result<(), Failure> {
        let act = || self.act("delete");
        // By descriptor, so that what has the name by now is left alone.
        for name in FILES {
            match nix::unistd::unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(Failure::errno(act(), errno)),
            }
        }
        // Who holds the lock has looked already, and nobody removes what is locked.
        if self.lock.is_none() && self.removed()? {
            return Ok(());
        }
        match std::fs::remove_dir(&self.path) {
            // Something else is there: a file that a killed command did not get to rename.
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                self.clear()?;
                std::fs::remove_dir(&self.path).act(act)
            }
            other => other.act(act),
        }
    }
}

/// Removes what is in a directory of ours: files, and directories of files.
fn clear(dir: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    for entry in Dir::openat(dir, ".", flags, Mode::empty())?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match nix::unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => {
                clear(&openat(dir, name, flags, Mode::empty())?)?;
                nix::unistd::unlinkat(dir, name, UnlinkatFlags::RemoveDir)?;
            }
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_runcs() {
        for id in ["web", "a.b", "..x", "x_+-.1", "-x"] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        let long = "x".repeat(256);
        for id in ["", ".", "..", "a/b", "../x", "a b", "ä", "a\n", long.as_str()] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn the_root_follows_who_we_are() {
        let root = |euid, in_child_userns, dir: Option<&str>| {
            Store::default(&Whereabouts { euid, in_child_userns, runtime_dir: dir.map(PathBuf::from) })
                .unwrap()
                .root
        };
        assert_eq!(root(0, false, Some("/run/user/0")), Path::new("/run/bryo"));
        assert_eq!(root(0, true, Some("/run/user/1000")), Path::new("/run/user/1000/bryo"));
        assert_eq!(root(4_000_000, false, Some("/run/x")), Path::new("/run/x/bryo"));
    }

    #[test]
    fn an_entry_that_is_gone_leaves_the_next_of_its_name_alone() {
        let dir = std::env::temp_dir().join(format!("bryo-store-{}", std::process::id()));
        let store = Store::at(dir.clone());
        let old = store.claim("web").unwrap();
        let stale = store.entry("web").unwrap().unwrap();
        old.write("file", b"old").unwrap();
        old.remove().unwrap();
        let new = store.claim("web").unwrap();
        new.write("file", b"new").unwrap();
        assert!(stale.removed().unwrap() && !new.removed().unwrap());
        stale.remove().unwrap();
        assert_eq!(new.read("file").unwrap().unwrap(), b"new");
        new.remove().unwrap();
        std::fs::remove_dir(dir).unwrap();
    }
}
