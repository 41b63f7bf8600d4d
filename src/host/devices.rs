//! Where the host has a device that goes by another name in the container.

use nix::libc;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A device of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub path: PathBuf,
    pub block: bool,
    pub major: u64,
    pub minor: u64,
}

/// The paths of the configuration at which the host does not have the device, and where it has it.
pub fn elsewhere(wanted: &[Wanted]) -> BTreeMap<PathBuf, PathBuf> {
    let found = wanted.iter().filter(|device| !is_at(device, &device.path));
    found.filter_map(|device| Some((device.path.clone(), by_number(device)?))).collect()
}

/// Whether the host has a device, wherever.
pub fn exists(device: &Wanted) -> bool {
    is_at(device, &device.path) || by_number(device).is_some()
}

fn is_at(device: &Wanted, path: &Path) -> bool {
    let Ok(meta) = std::fs::metadata(path) else { return false };
    let kind = meta.file_type();
    (if device.block { kind.is_block_device() } else { kind.is_char_device() })
        && u64::from(libc::major(meta.rdev())) == device.major
        && u64::from(libc::minor(meta.rdev())) == device.minor
}

/// sysfs knows each device by its number, and by the name that the kernel has for its node.
fn by_number(device: &Wanted) -> Option<PathBuf> {
    let kind = if device.block { "block" } else { "char" };
    let file = format!("/sys/dev/{kind}/{}:{}/uevent", device.major, device.minor);
    let path = node(&std::fs::read_to_string(file).ok()?)?;
    is_at(device, &path).then_some(path)
}

/// `DEVNAME=net/tun`, among other lines.
fn node(uevent: &str) -> Option<PathBuf> {
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name.trim_start_matches("/dev/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_number() {
        let null = |path: &str| Wanted { path: path.into(), block: false, major: 1, minor: 3 };
        assert_eq!(elsewhere(&[null("/dev/null")]), BTreeMap::new());
        let found = elsewhere(&[null("/dev/moss"), null("/dev/zero")]);
        assert_eq!(found[Path::new("/dev/moss")], Path::new("/dev/null"));
        assert_eq!(found[Path::new("/dev/zero")], Path::new("/dev/null"));
        let nothing = Wanted { major: 4095, ..null("/dev/moss") };
        assert!(elsewhere(&[nothing]).is_empty());
    }

    #[test]
    fn names_may_have_directories() {
        assert_eq!(node("MAJOR=10\nMINOR=200\nDEVNAME=net/tun\n"), Some("/dev/net/tun".into()));
        assert_eq!(node("MAJOR=1\n"), None);
    }
}
