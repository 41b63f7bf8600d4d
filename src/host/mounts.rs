//! What is mounted where, as a process sees it.

use crate::sys::mount::unescape;
use crate::sys::{self, fds};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A mount, a line of proc_pid_mountinfo(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub id: u64,
    /// The file system, by its device number.
    pub device: String,
    /// What of it is shown.
    pub root: PathBuf,
    pub at: PathBuf,
    pub fstype: String,
}

/// The mounts that a process sees; `self` is one, too.
///
/// # Errors
/// `ENOENT` once it is gone, `EACCES` for who may not look.
pub fn of(process: &str) -> sys::Result<Vec<Mount>> {
    std::fs::read(format!("/proc/{process}/mountinfo")).map(|text| parse(&text)).map_err(fds::io_errno)
}

fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

/// The optional fields in the middle end with a dash.
fn mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescape(field)));
    let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    Some(Mount {
        id: text(fields.first()?).parse().ok()?,
        device: text(fields.get(2)?),
        root: path(fields.get(3)?),
        at: path(fields.get(4)?),
        fstype: text(fields.get(dash + 1)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_mount_is_read_whatever_its_propagation() {
        let text = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:4 - ext3 /dev/root rw\n37 36 0:5 / /a\\040b rw - tmpfs t rw\n\nx";
        let read = parse(text);
        let first = Mount {
            id: 36,
            device: "98:0".into(),
            root: "/mnt1".into(),
            at: "/mnt2".into(),
            fstype: "ext3".into(),
        };
        assert_eq!(read.len(), 2);
        assert_eq!(read[0], first);
        assert_eq!((read[1].at.as_path(), read[1].fstype.as_str()), (Path::new("/a b"), "tmpfs"));
    }
}
