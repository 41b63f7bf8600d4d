mod crafted;
mod flat;
mod layer;
mod mutation;
mod reading;
mod tar;

use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tar::{Header, Tar};

/// A directory to unpack to, `root`, in a place where nothing else may appear.
struct Place {
    outside: PathBuf,
    root: PathBuf,
}

impl Place {
    fn new() -> Place {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let outside = std::env::temp_dir().join(format!("bryo-unpack-{}-{serial}", std::process::id()));
        let root = outside.join("root");
        fs::create_dir_all(&root).unwrap();
        fs::write(outside.join("secret"), "untouched").unwrap();
        fs::create_dir(outside.join("dir")).unwrap();
        Place { outside, root }
    }

    /// Removes what is in the root.
    fn clear(&self) {
        open_up(&self.root);
        for entry in fs::read_dir(&self.root).unwrap() {
            let path = entry.unwrap().path();
            fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).unwrap();
        }
    }

    fn unpack(&self, tar: &[u8], form: Form) -> Result<Counts, Failure> {
        self.unpack_on(&nothing(), tar, form)
    }

    /// The same for a layer on others.
    fn unpack_on(&self, below: &Merged, tar: &[u8], form: Form) -> Result<Counts, Failure> {
        let root = File::open(&self.root).unwrap();
        // A plain user gives files to nobody.
        let ids = if geteuid().is_root() { Ids::here().unwrap() } else { Ids::single() };
        unpack(tar, root.as_fd(), form, below, &ids, &mut |_| {})
    }

    fn flat(&self, tar: Tar) -> Counts {
        self.unpack(&tar.end(), Form::Flat).unwrap()
    }

    fn layer(&self, tar: Tar) -> Counts {
        self.unpack(&tar.end(), Form::Layer { userxattr: true }).unwrap()
    }

    fn refusal(&self, tar: Tar) -> String {
        self.unpack(&tar.end(), Form::Flat).unwrap_err().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.path(name)).unwrap().mode() & 0o7777
    }

    fn mtime(&self, name: &str) -> (i64, i64) {
        let metadata = fs::symlink_metadata(self.path(name)).unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    }

    fn exists(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }

    fn attribute(&self, name: &str, attribute: &CStr) -> Option<Vec<u8>> {
        crate::sys::path::attribute(&self.path(name), attribute).ok()
    }

    /// Every path with what is there: `d`, `f CONTENT`, `l TARGET`, `w` for a whiteout.
    fn list(&self) -> BTreeMap<String, String> {
        let mut list = BTreeMap::new();
        walk(&self.root, &self.root, &mut list);
        list
    }

    /// Fails if anything but the root has changed.
    fn assert_outside_is_untouched(&self) {
        assert_eq!(fs::read_to_string(self.outside.join("secret")).unwrap(), "untouched");
        let mut names: Vec<_> =
            fs::read_dir(&self.outside).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["dir", "root", "secret"]);
        assert_eq!(fs::read_dir(self.outside.join("dir")).unwrap().count(), 0);
        assert_eq!(fs::metadata(self.outside.join("secret")).unwrap().nlink(), 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        open_up(&self.outside);
        drop(fs::remove_dir_all(&self.outside));
    }
}

/// No layers below.
fn nothing() -> Merged {
    Merged::open(&[]).unwrap()
}

/// Lets a plain user remove what is there.
fn open_up(dir: &Path) {
    drop(fs::set_permissions(dir, fs::Permissions::from_mode(0o700)));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

fn walk(root: &Path, dir: &Path, list: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        let told = if kind.is_dir() {
            walk(root, &path, list);
            "d".to_string()
        } else if kind.is_symlink() {
            format!("l {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_file() {
            format!("f {}", fs::read_to_string(&path).unwrap())
        } else if kind.is_char_device() && metadata.rdev() == 0 {
            "w".to_string()
        } else {
            "?".to_string()
        };
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
        list.insert(String::from_utf8_lossy(name).into_owned(), told);
    }
}

/// What [`Place::list`] should give.
fn listed(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, told)| ((*name).to_string(), (*told).to_string())).collect()
}
