//! The files that an image is made of: below a directory, or in an archive.
//!
//! Whoever made the image chose the names. In a directory the kernel keeps the lookup beneath it and follows no
//! link; in an archive a name can lead to nothing but another member.

use crate::report::{errno_text, io_text};
use crate::sys::path::{Resolve, open};
use nix::errno::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

/// Where the files of an image are.
pub trait Files {
    /// Opens one of them.
    ///
    /// # Errors
    /// One line: it is missing, or no regular file.
    fn open(&self, name: &str) -> Result<Part, String>;

    /// Whether there is one of this name.
    fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// The whole of a small one.
    ///
    /// # Errors
    /// As [`Files::open`]; one that is larger than `limit`.
    fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, String> {
        let part = self.open(name)?;
        if part.size() > limit {
            return Err(format!("{name}: {} bytes are more than a file of its kind has", part.size()));
        }
        let mut bytes = Vec::new();
        part.take(limit).read_to_end(&mut bytes).map_err(|e| format!("{name}: {}", io_text(&e)))?;
        Ok(bytes)
    }
}

/// A run of bytes of a file.
pub struct Part {
    file: Rc<File>,
    at: u64,
    end: u64,
}

impl Part {
    pub fn new(file: Rc<File>, at: u64, size: u64) -> Part {
        Part { file, at, end: at + size }
    }

    /// How much there is still to read.
    pub fn size(&self) -> u64 {
        self.end - self.at
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.size()).map_or(buffer.len(), |left| buffer.len().min(left));
        if len == 0 {
            return Ok(0);
        }
        match self.file.read_at(&mut buffer[..len], self.at)? {
            // It has become shorter, or is from the beginning.
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.at += read as u64;
                Ok(read)
            }
        }
    }
}

/// A directory.
pub struct Directory(OwnedFd);

impl Directory {
    /// Opens it.
    ///
    /// # Errors
    /// That of open(2), as text.
    pub fn open(path: &Path) -> Result<Directory, String> {
        let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
        nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).map(Directory).map_err(errno_text)
    }
}

impl Files for Directory {
    fn open(&self, name: &str) -> Result<Part, String> {
        let text = |errno: Errno| match errno {
            // The kernel's words say nothing of links.
            Errno::ELOOP | Errno::EXDEV => format!("{name}: it is or leads through a symbolic link"),
            _ => format!("{name}: {}", errno_text(errno)),
        };
        let path = CString::new(name).map_err(|_| text(Errno::EINVAL))?;
        // A fifo would keep us waiting for a writer.
        let flags = libc::O_RDONLY | libc::O_NONBLOCK;
        let file = File::from(open(self.0.as_fd(), &path, flags, Resolve::Beneath).map_err(text)?);
        let meta = file.metadata().map_err(|e| format!("{name}: {}", io_text(&e)))?;
        if !meta.is_file() {
            return Err(format!("{name}: not a regular file: invalid argument"));
        }
        Ok(Part::new(Rc::new(file), 0, meta.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_regular_files_beneath_a_directory_is_opened() {
        let dir = std::env::temp_dir().join(format!("bryo-files-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("in/sub")).unwrap();
        std::fs::write(dir.join("in/sub/file"), "content").unwrap();
        std::fs::write(dir.join("secret"), "secret").unwrap();
        for (link, target) in [("link", "sub/file"), ("out", "../secret"), ("dir", "sub")] {
            std::os::unix::fs::symlink(target, dir.join("in").join(link)).unwrap();
        }
        nix::unistd::mkfifo(&dir.join("in/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let files = Directory::open(&dir.join("in")).unwrap();
        assert_eq!(files.read("sub/file", 7).unwrap(), b"content");
        assert!(files.read("sub/file", 6).is_err());
        for bad in ["link", "out", "dir/file", "../secret", "/etc/passwd", "fifo", "sub", "", "a\0b", "none"]
        {
            assert!(files.open(bad).is_err(), "{bad}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
