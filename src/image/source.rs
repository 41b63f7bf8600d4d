//! SRC: which image is meant.
//!
//! ```text
//! oci:PATH[:REF]              an image layout
//! docker-archive:FILE[:REF]   what docker save writes, and oci-archive:FILE[:REF] for Podman's
//! host                        this machine's own system
//! -                           a tar of a root file system on standard input
//! PATH                        a directory with a root file system, or a tar of one
//! ```
//!
//! PATH and REF may both have colons. PATH ends at the first colon before which there is something on the disk,
//! so that `oci:images:debian:13` is `debian:13` in `images`; where nothing is there, the first colon ends it.
//! A path that looks like something else is spelled `./host`, `./-` or `./oci:x`.

use std::path::{Path, PathBuf};

/// Where a bundle is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Oci {
        path: PathBuf,
        reference: Option<String>,
    },
    DockerArchive {
        path: PathBuf,
        reference: Option<String>,
    },
    /// A tar of a root file system.
    Tar(PathBuf),
    /// The same, on standard input.
    Stdin,
    Directory(PathBuf),
    Host,
}

/// What is on the disk; a parameter, for tests.
pub trait Disk {
    fn exists(&self, path: &Path) -> bool;
    fn is_dir(&self, path: &Path) -> bool;
}

/// The real one.
pub struct Real;

impl Disk for Real {
    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }
}

impl Source {
    /// Reads SRC.
    ///
    /// # Errors
    /// One that names nothing.
    pub fn parse(text: &str, disk: &impl Disk) -> Result<Source, String> {
        if let Some(rest) = text.strip_prefix("oci:") {
            let (path, reference) = split(rest, disk)?;
            return Ok(Source::Oci { path, reference });
        }
        let archive =
            ["docker-archive:", "oci-archive:"].into_iter().find_map(|kind| text.strip_prefix(kind));
        if let Some(rest) = archive {
            let (path, reference) = split(rest, disk)?;
            return Ok(Source::DockerArchive { path, reference });
        }
        let path = Path::new(text);
        match text {
            "" => Err("it names nothing: invalid argument".into()),
            "host" => Ok(Source::Host),
            "-" => Ok(Source::Stdin),
            _ if disk.is_dir(path) => Ok(Source::Directory(path.into())),
            _ if disk.exists(path) => Ok(Source::Tar(path.into())),
            _ => Err("no such file or directory".into()),
        }
    }
}

fn split(rest: &str, disk: &impl Disk) -> Result<(PathBuf, Option<String>), String> {
    let colons = rest.match_indices(':').map(|(at, _)| at);
    let ends: Vec<usize> = colons.chain([rest.len()]).collect();
    let end = ends.iter().copied().find(|end| *end > 0 && disk.exists(Path::new(&rest[..*end])));
    let end = end.or(ends.first().copied()).unwrap_or(rest.len());
    let (path, reference) = rest.split_at(end);
    let reference = reference.strip_prefix(':');
    if path.is_empty() || reference == Some("") {
        return Err("it lacks a path, or a name after the colon: invalid argument".into());
    }
    Ok((path.into(), reference.map(String::from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that end with a slash are directories.
    struct Paper(&'static [&'static str]);

    impl Disk for Paper {
        fn exists(&self, path: &Path) -> bool {
            self.is_dir(path) || self.0.iter().any(|name| Path::new(name) == path)
        }

        fn is_dir(&self, path: &Path) -> bool {
            self.0.iter().any(|name| name.strip_suffix('/').is_some_and(|name| Path::new(name) == path))
        }
    }

    fn oci(path: &str, reference: Option<&str>) -> Source {
        Source::Oci { path: path.into(), reference: reference.map(String::from) }
    }

    fn docker(path: &str, reference: Option<&str>) -> Source {
        Source::DockerArchive { path: path.into(), reference: reference.map(String::from) }
    }

    #[test]
    fn a_path_ends_at_the_first_colon_before_which_there_is_something() {
        let disk = Paper(&["images/", "a:b/", "a.tar", "x", "x:1"]);
        for (text, wanted) in [
            ("oci:images", oci("images", None)),
            ("oci:images:debian:13", oci("images", Some("debian:13"))),
            ("oci:images:docker.io/library/a:1", oci("images", Some("docker.io/library/a:1"))),
            ("oci:a:b", oci("a:b", None)),
            ("oci:a:b:c", oci("a:b", Some("c"))),
            ("oci:none:c:d", oci("none", Some("c:d"))),
            ("docker-archive:a.tar", docker("a.tar", None)),
            ("oci-archive:a.tar:b", docker("a.tar", Some("b"))),
            ("docker-archive:x:1", docker("x", Some("1"))),
        ] {
            assert_eq!(Source::parse(text, &disk), Ok(wanted), "{text}");
        }
        for bad in ["oci:", "oci::x", "oci:images:", "docker-archive:", ""] {
            assert!(Source::parse(bad, &disk).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_has_no_prefix_is_what_it_is_on_the_disk() {
        let disk = Paper(&["dir/", "host/", "rootfs.tar.gz", "-", "./host/", "./-"]);
        for (text, wanted) in [
            ("host", Source::Host),
            ("./host", Source::Directory("./host".into())),
            ("-", Source::Stdin),
            ("./-", Source::Tar("./-".into())),
            ("dir", Source::Directory("dir".into())),
            ("rootfs.tar.gz", Source::Tar("rootfs.tar.gz".into())),
        ] {
            assert_eq!(Source::parse(text, &disk), Ok(wanted), "{text}");
        }
        assert!(Source::parse("none", &disk).unwrap_err().contains("no such file"));
    }
}
