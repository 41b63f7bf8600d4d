//! The directory of images, and the one where criu works and leaves its log.

use crate::report::{Act, Failure};
use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where they are if nobody says it: below the current directory.
const DEFAULT: &str = "checkpoint";
/// What is in every set of images.
const INVENTORY: &str = "inventory.img";
/// What the standard streams were called when the container was dumped: a list of three names.
const STREAMS: &str = "descriptors.json";

/// Both directories, open.
#[derive(Debug)]
pub struct Images {
    path: PathBuf,
    images: File,
    work: Option<(PathBuf, File)>,
}

impl Images {
    /// Those for a dump, made where they are not there: only who made them may read the memory of a container.
    ///
    /// # Errors
    /// A directory that cannot be made; a `parent` that is not there, or not relative to the images.
    pub fn to(
        path: Option<&Path>,
        work: Option<&Path>,
        parent: Option<&Path>,
        act: &str,
    ) -> Result<Images, Failure> {
        let path = path.unwrap_or(Path::new(DEFAULT));
        make(path, act)?;
        if let Some(parent) = parent {
            let refuse = |cause: &str| {
                let act = format!("{act}: --parent-path {}", parent.display());
                Failure::new(act, cause).fix("name the directory of the earlier dump relative to the images")
            };
            if parent.is_absolute() {
                return Err(refuse("it is absolute: invalid argument"));
            }
            let earlier = path.join(parent);
            let meta = earlier.metadata().act(|| format!("{act}: --parent-path {}", earlier.display()))?;
            if !meta.is_dir() {
                return Err(refuse("not a directory"));
            }
        }
        Images::open(path, work, act)
    }

    /// Those for a restore.
    ///
    /// # Errors
    /// A directory without images.
    pub fn from(path: Option<&Path>, work: Option<&Path>, act: &str) -> Result<Images, Failure> {
        let path = path.unwrap_or(Path::new(DEFAULT));
        find(path, act).map_err(|failure| {
            failure.fix("name a directory that a checkpoint has filled with --image-path")
        })?;
        Images::open(path, work, act)
    }

    /// Whether there are any.
    ///
    /// # Errors
    /// A directory without images.
    pub fn check(&self, act: &str) -> Result<(), Failure> {
        find(&self.path, act).map_err(|failure| failure.fix("see whether criu check is content"))
    }

    fn open(path: &Path, work: Option<&Path>, act: &str) -> Result<Images, Failure> {
        let open = |path: &Path| {
            let path = std::path::absolute(path).act(|| format!("{act}: {}", path.display()))?;
            let file = File::open(&path).act(|| format!("{act}: {}", path.display()))?;
            Ok::<_, Failure>((path, file))
        };
        let work = work
            .map(|work| {
                make(work, act)?;
                open(work)
            })
            .transpose()?;
        let (path, images) = open(path)?;
        Ok(Images { path, images, work })
    }

    /// The descriptor of the images.
    pub fn fd(&self) -> RawFd {
        self.images.as_raw_fd()
    }

    /// The descriptor of the other directory, if it is another.
    pub fn work_fd(&self) -> Option<RawFd> {
        self.work.as_ref().map(|(_, file)| file.as_raw_fd())
    }

    /// Both again, as somebody else opens them: their paths, and the numbers that he is to know them by.
    ///
    /// # Errors
    /// A path with a zero byte.
    pub fn directories(&self) -> std::io::Result<Vec<(CString, RawFd)>> {
        let work = self.work.as_ref().map(|(path, file)| (path, file));
        let both = std::iter::once((&self.path, &self.images)).chain(work);
        both.map(|(path, file)| Ok((CString::new(path.as_os_str().as_bytes())?, file.as_raw_fd()))).collect()
    }

    /// The path of criu's log of this name.
    pub fn log(&self, name: &str) -> PathBuf {
        self.work.as_ref().map_or(&self.path, |(path, _)| path).join(name)
    }

    /// Writes down what the standard streams are called.
    ///
    /// # Errors
    /// A full disk, say.
    pub fn note_streams(&self, names: &[String], act: &str) -> Result<(), Failure> {
        let path = self.path.join(STREAMS);
        let text = serde_json::to_string(names).map_err(|e| Failure::new(act, e.to_string()))?;
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .act(|| format!("{act}: {}", path.display()))
    }

    /// What they were called; nothing where nobody has written it down.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn streams(&self, act: &str) -> Result<Vec<String>, Failure> {
        let path = self.path.join(STREAMS);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            other => {
                let text = other.act(|| format!("{act}: {}", path.display()))?;
                serde_json::from_slice(&text)
                    .map_err(|error| Failure::new(format!("{act}: {}", path.display()), error.to_string()))
            }
        }
    }
}

fn find(path: &Path, act: &str) -> Result<(), Failure> {
    let inventory = path.join(INVENTORY);
    let cause = |error| format!("{}: {}", inventory.display(), crate::report::io_text(&error));
    inventory.metadata().map(drop).map_err(|error| Failure::new(act, cause(error)).code("CRIU"))
}

fn make(path: &Path, act: &str) -> Result<(), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).act(|| format!("{act}: {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn streams_are_called_as_they_were() {
        let dir = Scratch::new();
        let images = Images::to(Some(&dir.join("a/b")), None, None, "cannot").unwrap();
        assert_eq!(images.streams("cannot").unwrap(), Vec::<String>::new());
        let names = ["/dev/null", "pipe:[12]", "file[1:2]"].map(String::from);
        images.note_streams(&names, "cannot").unwrap();
        assert_eq!(images.streams("cannot").unwrap(), names);
        assert_eq!(images.log("dump.log"), dir.join("a/b/dump.log"));
    }

    #[test]
    fn a_parent_is_a_directory_relative_to_the_images() {
        let dir = Scratch::new();
        std::fs::create_dir(dir.join("first")).unwrap();
        let to = |parent: &Path| Images::to(Some(&dir.join("second")), None, Some(parent), "cannot");
        assert!(to(Path::new("../first")).is_ok());
        assert!(to(&dir.join("first")).unwrap_err().to_string().contains("absolute"));
        assert!(to(Path::new("../none")).unwrap_err().to_string().contains("no such file"));
        std::fs::write(dir.join("file"), "").unwrap();
        assert!(to(Path::new("../file")).unwrap_err().to_string().contains("not a directory"));
    }

    #[test]
    fn a_directory_without_images_is_told() {
        let dir = Scratch::new();
        let line = Images::from(Some(&dir), None, "cannot restore container web").unwrap_err().to_string();
        assert!(line.contains("inventory.img: no such file or directory; fix: "), "{line}");
    }
}
