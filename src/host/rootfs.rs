//! What a root file system of layers may be made with, and what this machine's own looks like. Read only for a
//! container that asks for one.

use super::idmap::find_program;
use crate::sys::mount::unescape;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// Where fuse-overlayfs is.
    pub fuse_overlayfs: Option<PathBuf>,
    /// We may open /dev/fuse.
    pub fuse_device: bool,
    /// The uid that owns the topmost lower layer.
    pub owner: u32,
    /// The directory that root.path names has nothing in it.
    pub root_is_empty: bool,
    /// The directory for changes has a copy of the layers already.
    pub copied: bool,
    /// What is at the top of this machine's own root, by name; only where that is asked for.
    pub top: Vec<(OsString, Kind)>,
    /// Where something is mounted beneath the lower layers, sorted.
    pub submounts: Vec<PathBuf>,
}

/// What something at the top of this machine's own root is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory,
    Link(PathBuf),
    File,
}

/// What to read about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The directory that root.path names.
    pub place: PathBuf,
    pub lower: Lower,
    /// The directory for changes.
    pub kept: Option<PathBuf>,
}

/// What lies below the changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lower {
    /// What root.path names.
    Root,
    /// These, the lowest first, and on top of them what root.path names unless that is empty.
    Layers(Vec<PathBuf>),
    /// This machine's own root file system.
    Host,
}

impl Wanted {
    /// The directories of all layers, the topmost first.
    pub fn stack(&self, root_is_empty: bool) -> Vec<&Path> {
        match &self.lower {
            Lower::Root => vec![&self.place],
            Lower::Host => vec![Path::new("/")],
            Lower::Layers(layers) => {
                let root = Some(self.place.as_path()).filter(|_| !root_is_empty);
                root.into_iter().chain(layers.iter().rev().map(PathBuf::as_path)).collect()
            }
        }
    }
}

/// Reads them.
pub fn read(wanted: &Wanted) -> Roots {
    let root_is_empty = std::fs::read_dir(&wanted.place).is_ok_and(|mut dir| dir.next().is_none());
    let stack = wanted.stack(root_is_empty);
    let beneath = |at: &PathBuf| stack.iter().any(|dir| at != dir && at.starts_with(dir));
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut submounts: Vec<PathBuf> = mount_points(&mounts).filter(beneath).collect();
    submounts.sort();
    submounts.dedup();
    Roots {
        fuse_overlayfs: find_program("fuse-overlayfs"),
        fuse_device: fuse_device(),
        // A layer that is not there is refused with its name where it is used.
        owner: stack.first().and_then(|dir| dir.metadata().ok()).map_or(0, |meta| meta.uid()),
        root_is_empty,
        copied: wanted.kept.as_ref().is_some_and(|dir| dir.join("copy").is_dir()),
        top: if wanted.lower == Lower::Host { top() } else { Vec::new() },
        submounts,
    }
}

/// Whether we may open /dev/fuse, which changes nothing.
pub fn fuse_device() -> bool {
    open("/dev/fuse", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).is_ok()
}

/// The entries of `/`, sorted.
fn top() -> Vec<(OsString, Kind)> {
    let mut found: Vec<_> = std::fs::read_dir("/")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let kind = entry.file_type().ok()?;
            let kind = if kind.is_dir() {
                Kind::Directory
            } else if kind.is_symlink() {
                Kind::Link(std::fs::read_link(entry.path()).ok()?)
            } else if kind.is_file() {
                Kind::File
            } else {
                return None;
            };
            Some((entry.file_name(), kind))
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

/// Where file systems of this type are mounted, from the same text as [`mount_points`].
pub(super) fn mounted<'a>(text: &'a [u8], fstype: &'a [u8]) -> impl Iterator<Item = PathBuf> + 'a {
    let of_type = move |line: &&[u8]| {
        let mut fields = line.split(|byte| *byte == b' ').skip_while(|field| *field != b"-");
        fields.nth(1) == Some(fstype)
    };
    text.split(|byte| *byte == b'\n').filter(of_type).flat_map(mount_points)
}

/// The fifth field of each line of proc_pid_mountinfo(5).
pub(super) fn mount_points(text: &[u8]) -> impl Iterator<Item = PathBuf> + '_ {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(OsString::from_vec(unescape(field))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_and_backslashes_are_read_as_they_are() {
        let text = b"36 35 98:0 / /mnt/a\\040b rw - ext3 /dev/root rw\n37 35 98:0 / /c\\134d rw - x y z\n\n";
        let found: Vec<_> = mount_points(text).collect();
        assert_eq!(found, [Path::new("/mnt/a b"), Path::new("/c\\d")]);
    }
}
