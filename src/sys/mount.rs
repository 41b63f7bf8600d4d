//! The mount API by file descriptor (Linux 5.2, `mount_setattr` 5.12): a mount is made detached, given
//! all its properties while nobody can see it, and only then attached. No window is left in which a mount
//! is writable that should not be, and no path is looked up twice.

use super::{Result, check};
use serde::{Deserialize, Serialize};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `AT_FDCWD` as something that can be borrowed.
pub fn cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is not a descriptor that could be closed, and not -1, the one forbidden value.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

/// `MOUNT_ATTR_*` bits to set and to clear, and the propagation type to give; see mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Attr {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    /// The user namespace of `ATTR_IDMAP`.
    pub userns_fd: u64,
}

pub const ATTR_RDONLY: u64 = 0x1;
pub const ATTR_NOSUID: u64 = 0x2;
pub const ATTR_NODEV: u64 = 0x4;
pub const ATTR_NOEXEC: u64 = 0x8;
/// The three access time modes are one field; relatime is its zero.
pub const ATTR_ATIME: u64 = 0x70;
pub const ATTR_NOATIME: u64 = 0x10;
pub const ATTR_STRICTATIME: u64 = 0x20;
pub const ATTR_NODIRATIME: u64 = 0x80;
pub const ATTR_NOSYMFOLLOW: u64 = 0x20_0000;
const ATTR_IDMAP: u64 = 0x10_0000;

impl Attr {
    /// Whether mount_setattr would have nothing to do.
    pub fn is_empty(&self) -> bool {
        self.set | self.clear | self.propagation == 0
    }
}

const AT_EMPTY_PATH: libc::c_uint = libc::AT_EMPTY_PATH as libc::c_uint;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

fn descriptor(ret: libc::c_long) -> Result<OwnedFd> {
    let fd = check(ret)?;
    // SAFETY: the system calls that come here return a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A file system being configured (fsopen(2)).
#[derive(Debug)]
pub struct Context(OwnedFd);

impl Context {
    /// # Errors
    /// `ENODEV` for a file system that this kernel does not have, `EPERM` without privilege.
    pub fn open(fstype: &CStr) -> Result<Context> {
        // SAFETY: a C string and flags.
        let fd = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })?;
        Ok(Context(fd))
    }

    /// Sets `key=value`; the kernel takes values of up to 255 bytes here.
    ///
    /// # Errors
    /// `EINVAL` for an option that the file system does not know or a value that it does not accept.
    pub fn string(&self, key: &CStr, value: &CStr) -> Result<()> {
        // SAFETY: two C strings that the kernel copies.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                FSCONFIG_SET_STRING,
                key.as_ptr(),
                value.as_ptr(),
                0,
            )
        })?;
        Ok(())
    }

    /// Sets an option without a value.
    ///
    /// # Errors
    /// `EINVAL` for an option that the file system does not know.
    pub fn flag(&self, key: &CStr) -> Result<()> {
        // SAFETY: a C string that the kernel copies; a flag has no value.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                FSCONFIG_SET_FLAG,
                key.as_ptr(),
                std::ptr::null::<u8>(),
                0,
            )
        })?;
        Ok(())
    }

    /// Creates the file system and a detached mount of it with the `MOUNT_ATTR_*` bits of `attributes`.
    ///
    /// # Errors
    /// `EPERM` for a file system that may not be mounted in this user namespace, or whose fully visible
    /// instance would be revealed by it (mount_too_revealing).
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        // SAFETY: no pointers but nulls.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                FSCONFIG_CMD_CREATE,
                std::ptr::null::<u8>(),
                std::ptr::null::<u8>(),
                0,
            )
        })?;
        // SAFETY: plain integers.
        descriptor(unsafe {
            libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attributes as libc::c_uint)
        })
    }
}

impl Context {
    /// What the file system had to say about its options: lines that begin with the letter of their kind and a
    /// blank (fsopen(2)). Empty where it was silent.
    pub fn said(&self) -> Vec<u8> {
        let mut said = Vec::new();
        let mut line = [0; 256];
        // One message a read; ENODATA ends them.
        while let Ok(len @ 1..) = nix::unistd::read(&self.0, &mut line) {
            said.extend_from_slice(line[..len].get(2..).unwrap_or_default());
            if said.len() > 512 {
                break;
            }
        }
        said
    }
}

/// A detached copy of the mount at a path, with what is mounted beneath it if `recursive`.
///
/// # Errors
/// `EINVAL` for a mount of another mount namespace, or one whose submounts may not be uncovered.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: a C string and flags.
    descriptor(unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) })
}

/// Attaches a detached mount on top of the file that `target` refers to.
///
/// # Errors
/// `ENOTDIR` when a directory would cover a file or the other way round.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: two descriptors and two empty C strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })?;
    Ok(())
}

fn statx(file: BorrowedFd<'_>, mask: libc::c_uint) -> Result<libc::statx> {
    let mut buf = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the kernel fills the buffer; zeroes are a valid one all the same.
    unsafe {
        check(libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, mask, buf.as_mut_ptr()))?;
        Ok(buf.assume_init())
    }
}

/// Whether a directory is where a mount begins.
///
/// # Errors
/// That of statx(2); `ENOSYS` where the kernel does not tell (before Linux 5.8).
pub fn is_root(dir: BorrowedFd<'_>) -> Result<bool> {
    /// `STATX_ATTR_MOUNT_ROOT`.
    const MOUNT_ROOT: u64 = 0x2000;
    let found = statx(dir, 0)?;
    if found.stx_attributes_mask & MOUNT_ROOT == 0 {
        return Err(super::Errno::ENOSYS);
    }
    Ok(found.stx_attributes & MOUNT_ROOT != 0)
}

/// What a mount is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// As in mountinfo. The kernel gives the lowest that is free, so the next mount has that of the last one.
    pub number: u64,
    /// Never used again until the next boot; 0 where the kernel has none (before Linux 6.8).
    pub unique: u64,
    /// Of the directory that it shows.
    pub device: (u32, u32),
    pub inode: u64,
}

impl Identity {
    /// Whether both are of one mount, as far as what is known of them tells.
    pub fn matches(&self, other: &Identity) -> bool {
        let known = self.unique != 0 && other.unique != 0;
        (self.number, self.device, self.inode) == (other.number, other.device, other.inode)
            && (!known || self.unique == other.unique)
    }
}

/// The identity of the mount that begins at a directory, attached or not.
///
/// # Errors
/// That of statx(2); `ENOSYS` where the kernel does not tell (before Linux 5.8).
pub fn identity(dir: BorrowedFd<'_>) -> Result<Identity> {
    /// `STATX_MNT_ID`.
    const NUMBER: libc::c_uint = 0x1000;
    /// `STATX_MNT_ID_UNIQUE`.
    const UNIQUE: libc::c_uint = 0x4000;
    let found = statx(dir, NUMBER | libc::STATX_INO)?;
    if found.stx_mask & NUMBER == 0 {
        return Err(super::Errno::ENOSYS);
    }
    let device = (found.stx_dev_major, found.stx_dev_minor);
    // Asked for both, the kernel tells this one alone.
    let other = statx(dir, UNIQUE)?;
    let unique = if other.stx_mask & UNIQUE == 0 { 0 } else { other.stx_mnt_id };
    Ok(Identity { number: found.stx_mnt_id, unique, device, inode: found.stx_ino })
}

/// Changes the properties of a mount, and of all mounts beneath it if `recursive`.
///
/// # Errors
/// `EPERM` when a flag would be cleared that an outer user namespace has locked.
pub fn set_attr(mount: BorrowedFd<'_>, attr: &Attr, recursive: bool) -> Result<()> {
    let flags = if recursive { AT_EMPTY_PATH | AT_RECURSIVE } else { AT_EMPTY_PATH };
    // SAFETY: the kernel reads size_of::<Attr>() bytes of mount_attr.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<Attr>(),
        )
    })?;
    Ok(())
}

/// Has a detached mount, and all mounts beneath it if `recursive`, show the ids of its files through the maps of
/// a user namespace: an id on disk is taken for one inside of it.
///
/// # Errors
/// `EPERM` for who is not root in the user namespace that the file system was mounted in, and for a mount that
/// has other ids already; `EINVAL` for a file system that cannot do it.
pub fn set_idmap(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let attr = Attr { set: ATTR_IDMAP, userns_fd: namespace.as_raw_fd() as u64, ..Attr::default() };
    set_attr(mount, &attr, recursive)
}

/// A path as mountinfo has it: blanks and the like are three octal digits there (proc_pid_mountinfo(5)).
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|digits| byte == b'\\' && digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        match octal {
            Some(digits) => {
                let value = digits.iter().fold(0u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                plain.push(value as u8);
                rest = &after[3..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

/// mount(2), for what the newer calls cannot say: options of more than 255 bytes, and superblock flags
/// that have no option of their own.
///
/// # Errors
/// That of mount(2).
pub fn mount(
    source: Option<&CStr>,
    target: &CStr,
    fstype: Option<&CStr>,
    flags: libc::c_ulong,
    data: Option<&CStr>,
) -> Result<()> {
    let pointer = |s: Option<&CStr>| s.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: C strings or nulls, all of which the kernel copies.
    check(unsafe {
        libc::mount(pointer(source), target.as_ptr(), pointer(fstype), flags, pointer(data).cast())
    })?;
    Ok(())
}

/// Makes the current directory the root and drops the old one.
///
/// # Errors
/// `EINVAL` where the current root is a ramdisk (rootfs) or the new one is not a mount.
pub fn pivot_to_cwd() -> Result<()> {
    use nix::fcntl::{OFlag, open};
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let old = open(c"/", flags, nix::sys::stat::Mode::empty())?;
    // The documented trick of pivot_root(2): the old root ends up stacked on the new one.
    // SAFETY: two C strings.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })?;
    // Nothing that happens to the old root from here on may reach the host, nor its going.
    nix::unistd::fchdir(&old)?;
    mount(None, c".", None, libc::MS_REC | libc::MS_SLAVE, None)?;
    detach(c".")?;
    nix::unistd::chdir(c"/")
}

/// umount2(2) with `MNT_DETACH`.
///
/// # Errors
/// `EINVAL` where nothing is mounted.
pub fn detach(path: &CStr) -> Result<()> {
    // SAFETY: a C string and flags.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) })?;
    Ok(())
}

/// The magic number of the file system that a descriptor lives on (statfs(2), `f_type`).
///
/// # Errors
/// That of fstatfs(2).
pub fn magic(fd: BorrowedFd<'_>) -> Result<i64> {
    let mut buf = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the kernel fills the buffer; it is read only after success.
    let buf = unsafe {
        check(libc::fstatfs(fd.as_raw_fd(), buf.as_mut_ptr()))?;
        buf.assume_init()
    };
    // Its type differs between C libraries, its value does not.
    #[allow(clippy::unnecessary_cast)]
    Ok(buf.f_type as i64)
}

/// The `ST_*` mount flags of the mount that a descriptor lives on (statfs(2), `f_flags`).
///
/// # Errors
/// That of fstatvfs(3).
pub fn flags(fd: BorrowedFd<'_>) -> Result<u64> {
    let mut buf = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: as in `magic`.
    let buf = unsafe {
        check(libc::fstatvfs(fd.as_raw_fd(), buf.as_mut_ptr()))?;
        buf.assume_init()
    };
    Ok(buf.f_flag)
}

pub const PROC_SUPER_MAGIC: i64 = 0x9fa0;
pub const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
pub const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_octal_digits_stand_for_a_byte() {
        assert_eq!(unescape(b"/a\\040b\\134"), b"/a b\\");
        assert_eq!(unescape(b"\\04"), b"\\04");
        assert_eq!(unescape(b"\\0899"), b"\\0899");
    }
}
