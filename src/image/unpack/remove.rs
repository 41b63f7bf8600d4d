//! Removing what is in the way, from open directories and by single names.

use super::tree::DIRECTORY;
use crate::launch::remove;
use crate::sys::Errno;
use nix::dir::{Dir, Type};
use nix::fcntl::openat;
use nix::sys::stat::Mode;
use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Removes what has this name, with everything in it; that there is nothing is fine.
pub fn tree(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match remove::tree(dir, name) {
        Err(stuck) if stuck.errno != Errno::ENOENT => Err(stuck.errno),
        _ => Ok(()),
    }
}

pub struct Entry {
    pub name: CString,
    /// As far as the file system tells.
    pub kind: Option<Type>,
}

/// What is in a directory.
pub fn entries(dir: BorrowedFd<'_>) -> Result<Vec<Entry>, Errno> {
    let mut dir = listing(dir)?;
    let entries = dir.iter().filter_map(|entry| match entry {
        Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => None,
        Ok(entry) => Some(Ok(Entry { name: entry.file_name().to_owned(), kind: entry.file_type() })),
        Err(errno) => Some(Err(errno)),
    });
    entries.collect()
}

pub fn is_empty(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut dir = listing(dir)?;
    for entry in dir.iter() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// With a position of its own.
fn listing(dir: BorrowedFd<'_>) -> Result<Dir, Errno> {
    let own: OwnedFd = openat(dir, c".", DIRECTORY, Mode::empty())?;
    Dir::from_fd(own)
}
