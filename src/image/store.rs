//! The store: trees of layers, which bundles share.
//!
//! ```text
//! STORE/lock                        shared while bundles are made, exclusive while layers are removed
//! STORE/layers/IDS/sha256/HEX       the tree of a layer, by its chain id: it depends on those below;
//!                                   complete, or not there
//! STORE/partial/NAME/               a tree that is being made; its writer holds a lock on this directory
//! STORE/bundles/HEX                 a bundle and its layers, so that it is known which are used
//! ```
//!
//! IDS are the maps that the files were unpacked with, since a file of uid 33 is another one on the disk for each
//! range of subordinate ids. A tree appears by rename, and so is whole. What a killed writer leaves in `partial`
//! has no lock any more, and the next writer removes it. Two who want the same layer wait for one another, and the
//! second finds it there.
//!
//! Nothing is synced: after a power cut, layers that were written shortly before may be damaged, as they are with
//! engines. `bundle --prune` removes those that no bundle uses.
//!
//! Nobody else may look into the store: an image may have set-user-ID programs.

use super::digest::Digest;
use crate::launch::{self, remove::Stuck};
use crate::report::{Act, Failure};
use crate::sys::fds::{self, Lock};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat, stat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What the root directory of a tree in the making is called.
const TREE: &str = "tree";

/// A store, locked against the removal of layers.
pub struct Store {
    root: PathBuf,
    /// The name of the maps.
    ids: String,
    _lock: OwnedFd,
}

/// A tree that is being made, removed again unless it is kept.
pub struct Partial {
    /// The directory of the writer.
    home: PathBuf,
    lock: Option<OwnedFd>,
}

/// What the store knows of a bundle.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reference {
    bundle: PathBuf,
    layers: BTreeSet<PathBuf>,
}

/// Where the store of a user is.
///
/// # Errors
/// A user without a home.
pub fn default_root(
    is_root: bool,
    data_home: Option<OsString>,
    home: Option<OsString>,
) -> Result<PathBuf, Failure> {
    if is_root {
        return Ok("/var/lib/bryo".into());
    }
    let absolute = |dir: Option<OsString>| dir.map(PathBuf::from).filter(|dir| dir.is_absolute());
    let data_home = absolute(data_home).or_else(|| Some(absolute(home)?.join(".local/share")));
    data_home.map(|dir| dir.join("bryo")).ok_or_else(|| {
        Failure::new("cannot find the store of layers", "HOME is not set: no such file or directory")
            .code("STORE-HOME")
            .fix("give a directory with --store")
    })
}

impl Store {
    /// Opens it, and makes it where it is missing. `ids` names the maps of this process.
    ///
    /// # Errors
    /// One that cannot be written.
    pub fn open(root: &Path, ids: String) -> Result<Store, Failure> {
        let store = Store { root: root.into(), ids, _lock: lock(root, Lock::WaitShared)? };
        for dir in [store.partials(), store.bundles()] {
            make(&dir).act(|| unusable(root))?;
        }
        store.clean()?;
        Ok(store)
    }

    /// Where partial trees lie, and other files that are needed for a moment.
    pub fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    fn bundles(&self) -> PathBuf {
        self.root.join("bundles")
    }

    /// The tree of a layer, complete or not there.
    pub fn layer(&self, id: &Digest) -> PathBuf {
        self.root.join("layers").join(&self.ids).join(id.algorithm.name()).join(id.hex())
    }

    /// A place to unpack the layer of this digest; none if it is there, perhaps since just now.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn begin(&self, id: &Digest) -> Result<Option<Partial>, Failure> {
        let home = self.partials().join(format!("{}-{}", self.ids, id.hex()));
        while !self.layer(id).exists() {
            // Another writer may be at it. Then it has become a layer once we have the lock, or the directory is
            // not the same any more.
            let lock = claim(&home, Lock::Wait).act(|| unusable(&self.root))?;
            let partial = lock.map(|lock| Partial { home: home.clone(), lock: Some(lock) });
            if let Some(partial) = partial.filter(|_| !self.layer(id).exists()) {
                partial.renew().act(|| unusable(&self.root))?;
                return Ok(Some(partial));
            }
        }
        Ok(None)
    }

    /// The same for one whose digest will be known.
    ///
    /// # Errors
    /// As [`Store::begin`].
    pub fn begin_unknown(&self) -> Result<Partial, Failure> {
        let home = self.partials().join(format!("{}-{}", self.ids, std::process::id()));
        loop {
            if let Some(lock) = claim(&home, Lock::Wait).act(|| unusable(&self.root))? {
                let partial = Partial { home, lock: Some(lock) };
                partial.renew().act(|| unusable(&self.root))?;
                return Ok(partial);
            }
        }
    }

    /// Makes a tree that is complete the layer of this digest.
    ///
    /// # Errors
    /// That of rename(2).
    pub fn complete(&self, partial: Partial, id: &Digest) -> Result<PathBuf, Failure> {
        let act = || unusable(&self.root);
        let path = self.layer(id);
        path.parent().map_or(Ok(()), make).act(act)?;
        match fs::rename(partial.tree_path(), &path) {
            // Somebody else has made it in the meantime; ours goes with its place.
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            }
            other => other.act(act)?,
        }
        drop(partial);
        Ok(path)
    }

    /// Notes which layers a bundle uses.
    ///
    /// # Errors
    /// A full disk, say.
    pub fn refer(&self, bundle: &Path, layers: &[PathBuf]) -> Result<(), Failure> {
        let reference = Reference { bundle: bundle.into(), layers: layers.iter().cloned().collect() };
        let path = self.bundles().join(name_of(bundle));
        let temporary = path.with_extension(std::process::id().to_string());
        let text =
            serde_json::to_vec(&reference).map_err(std::io::Error::from).act(|| unusable(&self.root))?;
        fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path)).act(|| unusable(&self.root))
    }

    /// Removes what killed writers have left.
    fn clean(&self) -> Result<(), Failure> {
        let entries = fs::read_dir(self.partials()).act(|| unusable(&self.root))?;
        for entry in entries.filter_map(Result::ok) {
            let Ok(dir) = open_directory(&entry.path()) else { continue };
            if fds::lock(&dir, Lock::Try).is_ok() {
                drop(Partial { home: entry.path(), lock: Some(dir) });
            }
        }
        Ok(())
    }
}

impl Partial {
    fn tree_path(&self) -> PathBuf {
        self.home.join(TREE)
    }

    /// The root of the tree.
    ///
    /// # Errors
    /// That of open(2).
    pub fn tree(&self) -> Result<OwnedFd, Failure> {
        open_directory(&self.tree_path()).act(|| format!("cannot open {}", self.tree_path().display()))
    }

    /// Makes an empty tree in the place of what there may be.
    fn renew(&self) -> std::io::Result<()> {
        remove(&self.tree_path())?;
        DirBuilder::new().mode(0o755).create(self.tree_path())
    }

    fn lock_fd(&self) -> Option<BorrowedFd<'_>> {
        self.lock.as_ref().map(AsFd::as_fd)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Unlocked only after it, so that nobody takes the directory meanwhile. What cannot be removed now, the
        // next writer tries to remove.
        if self.lock_fd().is_some() {
            let _ = remove(&self.home);
        }
    }
}

/// Removes the layers that no bundle uses any more, of all maps; the answer is how many.
///
/// # Errors
/// A store at which somebody is at work, or that cannot be changed.
pub fn prune(root: &Path) -> Result<usize, Failure> {
    if !root.exists() {
        return Ok(0);
    }
    let act = || format!("cannot prune the store {}", root.display());
    let _lock = match open_lock(root).and_then(|file| Ok(fds::lock(&file, Lock::Try).map(|()| file)?)) {
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
            return Err(Failure::new(act(), "a bundle is being made: resource temporarily unavailable")
                .code("STORE-BUSY")
                .fix("try again when that is done"));
        }
        other => other.act(act)?,
    };
    for partial in list(&root.join("partial")).act(act)? {
        remove(&partial).act(act)?;
    }
    let used = used(&root.join("bundles")).act(act)?;
    let mut removed = 0;
    for ids in list(&root.join("layers")).act(act)? {
        for algorithm in list(&ids).act(act)? {
            for layer in list(&algorithm).act(act)? {
                if !used.contains(&layer) {
                    // Not there any more at once, and its files when they can be.
                    let aside = root.join("partial").join("pruned");
                    fs::rename(&layer, &aside).act(act)?;
                    remove(&aside).act(act)?;
                    removed += 1;
                }
            }
        }
    }
    Ok(removed)
}

/// The layers of the bundles that are still there; those that are not are forgotten.
fn used(bundles: &Path) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut used = BTreeSet::new();
    for path in list(bundles)? {
        let reference: Option<Reference> = serde_json::from_slice(&fs::read(&path)?).ok();
        match reference {
            Some(reference) if is_there(&reference.bundle)? => used.extend(reference.layers),
            _ => fs::remove_file(path)?,
        }
    }
    Ok(used)
}

/// Whether a bundle is there. What we may not look at may well be.
fn is_there(bundle: &Path) -> std::io::Result<bool> {
    bundle.join("config.json").try_exists()
}

fn name_of(bundle: &Path) -> String {
    Digest::of(bundle.as_os_str().as_bytes()).hex().to_string()
}

fn list(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| entry.map(|entry| entry.path())).collect(),
    }
}

fn unusable(root: &Path) -> String {
    format!("cannot use the store of layers {}", root.display())
}

fn make(dir: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn lock(root: &Path, how: Lock) -> Result<OwnedFd, Failure> {
    let locked = make(root).and_then(|()| {
        let file = open_lock(root)?;
        fds::lock(&file, how)?;
        Ok(file)
    });
    locked.map_err(|error| {
        Failure::new(unusable(root), crate::report::io_text(&error))
            .code("STORE-ACCESS")
            .fix("give a directory of yours with --store or BRYO_STORE")
    })
}

fn open_lock(root: &Path) -> std::io::Result<OwnedFd> {
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(root.join("lock")).map(OwnedFd::from)
}

fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty())
}

/// Makes a directory, or takes one that is there, and locks it; none if it was gone by then.
pub fn claim(path: &Path, how: Lock) -> std::io::Result<Option<OwnedFd>> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let dir = match open_directory(path) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other?,
    };
    fds::lock(&dir, how)?;
    let (ours, there) = (fstat(&dir)?, stat(path));
    let same = there.is_ok_and(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino));
    Ok(same.then_some(dir))
}

/// Removes a tree, or a file; what is not there is removed. As deep as a layer may have made it, and nothing that is
/// mounted in it.
pub fn remove(path: &Path) -> std::io::Result<()> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::EINVAL.into());
    };
    let name = CString::new(name.as_bytes())?;
    let above = match open_directory(above) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    match launch::remove::tree(above.as_fd(), &name) {
        Err(Stuck { errno: Errno::ENOENT, .. }) => Ok(()),
        other => other.map_err(|stuck| stuck.errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    struct Place(Scratch);

    impl Place {
        fn new() -> Place {
            Place(Scratch::new())
        }

        fn store(&self) -> Store {
            Store::open(&self.0.join("store"), "0".into()).unwrap()
        }
    }

    fn layer(store: &Store, digest: &Digest) -> PathBuf {
        let partial = store.begin(digest).unwrap().unwrap();
        fs::write(partial.tree_path().join("file"), "x").unwrap();
        store.complete(partial, digest).unwrap()
    }

    #[test]
    fn a_layer_is_there_only_once_it_is_complete() {
        let place = Place::new();
        let store = place.store();
        let digest = Digest::of(b"a");
        let partial = store.begin(&digest).unwrap().unwrap();
        assert!(!store.layer(&digest).exists());
        drop(partial);
        assert_eq!(list(&store.partials()).unwrap(), Vec::<PathBuf>::new());
        let path = layer(&store, &digest);
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "x");
        assert!(store.begin(&digest).unwrap().is_none());
        assert_eq!(list(&store.partials()).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_a_killed_writer_left_goes_and_what_is_being_written_stays() {
        let place = Place::new();
        let store = place.store();
        let left = store.partials().join("0-left");
        fs::create_dir_all(left.join("tree/usr")).unwrap();
        let working = store.begin(&Digest::of(b"b")).unwrap().unwrap();
        let again = place.store();
        assert!(!left.exists() && working.tree_path().exists());
        drop(again);
        drop(working);
    }

    #[test]
    fn a_second_writer_waits_and_finds_the_layer() {
        let place = Place::new();
        let store = place.store();
        let digest = Digest::of(b"c");
        let partial = store.begin(&digest).unwrap().unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| place.store().begin(&digest).unwrap().is_none());
            std::thread::sleep(std::time::Duration::from_millis(50));
            store.complete(partial, &digest).unwrap();
            assert!(second.join().unwrap());
        });
    }

    #[test]
    fn pruning_keeps_what_bundles_use() {
        let place = Place::new();
        let store = place.store();
        let [used, unused, shared] = [b"u", b"n", b"s"].map(|name| layer(&store, &Digest::of(name)));
        for (bundle, layers) in
            [("a", vec![used.clone(), shared.clone()]), ("b", vec![unused.clone(), shared.clone()])]
        {
            let bundle = place.0.join(bundle);
            fs::create_dir(&bundle).unwrap();
            fs::write(bundle.join("config.json"), "{}").unwrap();
            store.refer(&bundle, &layers).unwrap();
        }
        let root = place.0.join("store");
        assert!(prune(&root).unwrap_err().to_string().contains("STORE-BUSY"));
        drop(store);
        assert_eq!(prune(&root).unwrap(), 0);
        fs::remove_dir_all(place.0.join("b")).unwrap();
        assert_eq!(prune(&root).unwrap(), 1);
        assert!(used.exists() && shared.exists() && !unused.exists());
        fs::remove_dir_all(place.0.join("a")).unwrap();
        assert_eq!(prune(&root).unwrap(), 2);
        assert_eq!(list(&root.join("bundles")).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(prune(&place.0.join("none")).unwrap(), 0);
    }

    #[test]
    fn the_store_is_where_the_user_keeps_data() {
        let root = |is_root, data: Option<&str>, home: Option<&str>| {
            default_root(is_root, data.map(OsString::from), home.map(OsString::from)).ok()
        };
        assert_eq!(root(true, Some("/x"), None), Some("/var/lib/bryo".into()));
        assert_eq!(root(false, Some("/x"), Some("/h")), Some("/x/bryo".into()));
        assert_eq!(root(false, Some("x"), Some("/h")), Some("/h/.local/share/bryo".into()));
        assert_eq!(root(false, None, None), None);
    }
}
