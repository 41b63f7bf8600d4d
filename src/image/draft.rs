//! A bundle in the making: complete, or nothing.
//!
//! Everything is made in `DIR/.partial`, whose lock says that somebody is at it, and moved up at the end,
//! config.json as the last. What a killed predecessor has left is told from what the user put there: it has a
//! `.partial` that nobody has locked, and beside it at most what is moved, once `.partial/config.json` is written.

use super::store::{claim, remove};
use crate::report::{Act, Failure};
use crate::sys::fds::Lock;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

const PARTIAL: &str = ".partial";
const ROOTFS: &str = "rootfs";
const CONFIG: &str = "config.json";

/// Removed when it is dropped, unless it was finished.
pub struct Draft {
    dir: PathBuf,
    /// The directory is ours too.
    fresh: bool,
    /// Until the end.
    lock: Option<OwnedFd>,
}

impl Draft {
    /// Begins a bundle in a directory that is empty or does not exist, with an empty `rootfs`.
    ///
    /// # Errors
    /// One that is not empty, or that somebody else is at work on.
    pub fn begin(dir: &Path) -> Result<Draft, Failure> {
        let act = || cannot(dir);
        let taken = || {
            Failure::new(act(), "the directory is not empty: file exists")
                .code("BUNDLE-EXISTS")
                .fix("name one that does not exist yet, or is empty")
        };
        let fresh = match DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(Err::<(), _>(error).act(act).err().unwrap_or_else(taken)),
        };
        let there = names(dir).act(act)?;
        if !there.is_empty() && !there.contains(OsString::from(PARTIAL).as_os_str()) {
            return Err(taken());
        }
        let busy = || {
            Failure::new(act(), "another command is making it: resource temporarily unavailable")
                .code("BUNDLE-BUSY")
                .fix("wait for that one, or name another directory")
        };
        let lock = match claim(&dir.join(PARTIAL), Lock::Try) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Err(busy()),
            other => other.act(act)?.ok_or_else(busy)?,
        };
        // Now that nobody else is at it.
        let left = names(dir).act(act)?;
        let ours = [PARTIAL, ROOTFS, CONFIG].map(OsString::from);
        let finishing = dir.join(PARTIAL).join(CONFIG).exists();
        if !left.iter().all(|name| *name == ours[0] || finishing && ours.contains(name)) {
            // Empty, or somebody else's; whose it is, knows the next one who has the lock.
            let _ = fs::remove_dir(dir.join(PARTIAL));
            return Err(taken());
        }
        let draft = Draft { dir: dir.into(), fresh, lock: Some(lock) };
        draft.clear(finishing).and_then(|()| draft.lay_out()).act(act)?;
        Ok(draft)
    }

    fn lay_out(&self) -> io::Result<()> {
        let rootfs = self.rootfs();
        DirBuilder::new().create(&rootfs)?;
        // It may become the root directory of the container.
        fs::set_permissions(rootfs, fs::Permissions::from_mode(0o755))
    }

    /// Where temporary files may lie.
    pub fn scratch(&self) -> PathBuf {
        self.dir.join(PARTIAL)
    }

    /// The root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.scratch().join(ROOTFS)
    }

    /// What the bundle will be.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the bundle complete.
    ///
    /// # Errors
    /// A full disk, say.
    pub fn finish(mut self, config: &str) -> Result<(), Failure> {
        let scratch = self.scratch();
        let moved = fs::write(scratch.join(CONFIG), config)
            .and_then(|()| fs::rename(self.rootfs(), self.dir.join(ROOTFS)))
            .and_then(|()| fs::rename(scratch.join(CONFIG), self.dir.join(CONFIG)));
        moved.act(|| cannot(&self.dir))?;
        self.lock = None;
        // What is in it by now is nobody's, and the bundle is complete with it too.
        let _ = remove(&scratch);
        Ok(())
    }

    /// Removes what is in it.
    fn clear(&self, finishing: bool) -> io::Result<()> {
        if finishing {
            remove(&self.dir.join(ROOTFS))?;
            remove(&self.dir.join(CONFIG))?;
        }
        let scratch = self.scratch();
        // The configuration last: while it is there, what lies outside is ours.
        names(&scratch)?
            .iter()
            .filter(|name| *name != CONFIG)
            .try_for_each(|name| remove(&scratch.join(name)))?;
        remove(&scratch.join(CONFIG))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let finishing = self.scratch().join(CONFIG).exists();
            // The failure that led here is the one to tell; what stays, the next one removes.
            let _ = self.clear(finishing).and_then(|()| fs::remove_dir(self.scratch()));
            if self.fresh {
                let _ = fs::remove_dir(&self.dir);
            }
        }
    }
}

fn cannot(dir: &Path) -> String {
    format!("cannot make bundle {}", dir.display())
}

fn names(dir: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("bryo-draft-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn there(dir: &Path) -> Vec<String> {
        names(dir).unwrap().into_iter().map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_bundle_is_complete_or_nothing() {
        let place = place("whole");
        let dir = place.join("web");
        drop(Draft::begin(&dir).unwrap());
        assert!(!dir.exists());
        let draft = Draft::begin(&dir).unwrap();
        fs::write(draft.rootfs().join("file"), "x").unwrap();
        draft.finish("{}").unwrap();
        assert_eq!(there(&dir), ["config.json", "rootfs"]);
        assert_eq!(there(&dir.join("rootfs")), ["file"]);
        let refused = Draft::begin(&dir).err().unwrap().to_string();
        assert!(refused.contains("BUNDLE-EXISTS"), "{refused}");
        // An empty directory of the user's stays.
        let own = place.join("own");
        fs::create_dir(&own).unwrap();
        drop(Draft::begin(&own).unwrap());
        assert_eq!(there(&own), [""; 0]);
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn what_a_killed_predecessor_left_is_removed_and_nothing_else() {
        let place = place("killed");
        for (name, left, begins) in [
            ("working", &[".partial/rootfs/file"][..], true),
            ("finishing", &[".partial/config.json", "rootfs/file"], true),
            ("renamed", &[".partial/config.json", "rootfs/file", "config.json"], true),
            ("users", &["rootfs/file"], false),
            ("among", &[".partial/rootfs/file", "rootfs/file"], false),
            ("more", &[".partial/config.json", "rootfs/file", "mine"], false),
        ] {
            let dir = place.join(name);
            for file in left {
                fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
                fs::write(dir.join(file), "x").unwrap();
            }
            let draft = Draft::begin(&dir);
            assert_eq!(draft.is_ok(), begins, "{name}");
            match draft {
                Ok(draft) => draft.finish("{}").unwrap(),
                Err(_) => left.iter().for_each(|file| assert!(dir.join(file).exists(), "{name}: {file}")),
            }
        }
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn two_do_not_make_the_same_bundle() {
        let place = place("two");
        let draft = Draft::begin(&place.join("web")).unwrap();
        let refused = Draft::begin(&place.join("web")).err().unwrap().to_string();
        assert!(refused.contains("BUNDLE-BUSY"), "{refused}");
        drop(draft);
        fs::remove_dir_all(place).unwrap();
    }
}
