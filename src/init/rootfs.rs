//! The root file system: its mount, its devices and links, its masks, its terminal, and the way in.

use super::{Holding, Trouble};
use crate::plan::step::Device;
use crate::sync::{Channel, FromInit};
use crate::sys::mount::{self, ATTR_NODEV, ATTR_RDONLY, Attr, Context};
use crate::sys::path::{self, Kind, Resolve};
use crate::sys::{Errno, tty};
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::{FileStat, fstat};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Clones the root file system onto itself: pivot_root wants a mount, and what is done to the clone is
/// not done to the original.
pub fn open(path: &CStr, nodev: bool, own_parent: bool) -> Result<OwnedFd, Errno> {
    let place = place(path, own_parent)?;
    let root = mount::clone_tree(place.as_fd(), c"", true)?;
    if nodev {
        mount::set_attr(root.as_fd(), &Attr { set: ATTR_NODEV, ..Attr::default() }, true)?;
    }
    mount::attach(root.as_fd(), place.as_fd())?;
    Ok(root)
}

/// The directory that the root is to be mounted on. `own_parent`: the mount in which it lies leaves its peers, in
/// our mount namespace alone, so that the host gets nothing of what is mounted here.
pub fn place(path: &CStr, own_parent: bool) -> Result<OwnedFd, Errno> {
    let place = open_host(path, libc::O_PATH | libc::O_DIRECTORY)?;
    if own_parent {
        let mut top = place.try_clone().map_err(crate::sys::fds::io_errno)?;
        while !mount::is_root(top.as_fd())? {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            top = nix::fcntl::openat(&top, c"..", flags, nix::sys::stat::Mode::empty())?;
        }
        mount::set_attr(top.as_fd(), &Attr { propagation: libc::MS_PRIVATE, ..Attr::default() }, false)?;
    }
    Ok(place)
}

/// Opens a path of the host, as the host sees it.
pub fn open_host(path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    nix::fcntl::open(
        path,
        nix::fcntl::OFlag::from_bits_retain(flags | libc::O_CLOEXEC),
        nix::sys::stat::Mode::empty(),
    )
}

/// Shows a device of the host, after a look at what it really is.
pub fn device(root: &OwnedFd, source: &CStr, at: &CStr, device: Device, apart: bool) -> Result<(), Errno> {
    let tree = mount::clone_tree(mount::cwd(), source, false)?;
    if apart {
        mount::set_attr(tree.as_fd(), &Attr { propagation: libc::MS_SLAVE, ..Attr::default() }, false)?;
    }
    if !is_device(&fstat(&tree)?, device) {
        return Err(Errno::ENODEV);
    }
    let target = path::create(root.as_fd(), at, Kind::File, Resolve::InRoot)?;
    let there = fstat(&target)?;
    if !is_device(&there, device) && !is_place(&there) {
        return Err(Errno::EEXIST);
    }
    mount::attach(tree.as_fd(), target.as_fd())
}

/// An empty file is where a device is shown, or what one becomes in an image that a plain user unpacks.
fn is_place(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_size == 0
}

fn is_device(stat: &FileStat, device: Device) -> bool {
    stat.st_mode & libc::S_IFMT == device.kind
        && libc::major(stat.st_rdev) == device.major as u32
        && libc::minor(stat.st_rdev) == device.minor as u32
}

/// Splits a path into the opened directory, made where it is missing, and the last name.
fn parent(root: &OwnedFd, at: &CStr) -> Result<(OwnedFd, CString), Errno> {
    let bytes = at.to_bytes();
    let slash = bytes.iter().rposition(|&b| b == b'/').ok_or(Errno::EINVAL)?;
    let dir = CString::new(if slash == 0 { b"/" } else { &bytes[..slash] }).map_err(|_| Errno::EINVAL)?;
    let name = CString::new(&bytes[slash + 1..]).map_err(|_| Errno::EINVAL)?;
    Ok((path::create(root.as_fd(), &dir, Kind::Directory, Resolve::InRoot)?, name))
}

/// Makes a device node, with exactly this mode and owner.
pub fn node(root: &OwnedFd, at: &CStr, device: Device, mode: u32, owner: (u32, u32)) -> Result<(), Errno> {
    use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, mknodat};
    let (dir, name) = parent(root, at)?;
    let kind = SFlag::from_bits_truncate(device.kind);
    let mode = Mode::from_bits_truncate(mode);
    let number = libc::makedev(device.major as u32, device.minor as u32);
    match mknodat(&dir, name.as_c_str(), kind, mode, number) {
        // The image has it, or the configuration lists it twice.
        Err(Errno::EEXIST) => {
            let there = fstatat(&dir, name.as_c_str(), nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if !is_device(&there, device) {
                return Err(Errno::EEXIST);
            }
        }
        other => other?,
    }
    let (uid, gid) = (nix::unistd::Uid::from_raw(owner.0), nix::unistd::Gid::from_raw(owner.1));
    nix::unistd::fchownat(
        &dir,
        name.as_c_str(),
        Some(uid),
        Some(gid),
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    )?;
    // The owner changed, which may have cost mode bits. We have just made this node, and it is no link.
    fchmodat(&dir, name.as_c_str(), mode, FchmodatFlags::FollowSymlink)
}

/// Makes a link. What the image has there already stays, but for ptmx: it has to lead to the container's
/// own terminals. The directory is resolved inside the root (CVE-2026-41579).
pub fn symlink(root: &OwnedFd, at: &CStr, target: &CStr) -> Result<(), Errno> {
    let (dir, name) = parent(root, at)?;
    match nix::unistd::symlinkat(target, &dir, name.as_c_str()) {
        Err(Errno::EEXIST) if at == c"/dev/ptmx" => {
            nix::unistd::unlinkat(&dir, name.as_c_str(), nix::unistd::UnlinkatFlags::NoRemoveDir)?;
            nix::unistd::symlinkat(target, &dir, name.as_c_str())
        }
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// Makes a directory where there is none.
pub fn directory(root: &OwnedFd, at: &CStr) -> Result<(), Errno> {
    path::create(root.as_fd(), at, Kind::Directory, Resolve::InRoot).map(drop)
}

/// Opens what is to be masked or made read-only; what does not exist needs neither.
fn existing(root: &OwnedFd, at: &CStr) -> Result<Option<OwnedFd>, Errno> {
    match path::open(root.as_fd(), at, libc::O_PATH, Resolve::InRoot) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Hides a path.
pub fn mask(holding: &mut Holding, at: &CStr, label: Option<&(CString, CString)>) -> Result<(), Errno> {
    let Some(target) = existing(holding.root()?, at)? else { return Ok(()) };
    if fstat(&target)?.st_mode & libc::S_IFMT != libc::S_IFDIR {
        // The host's /dev/null, looked at: the container's could be anything (CVE-2025-31133).
        let null = mount::clone_tree(mount::cwd(), c"/dev/null", false)?;
        if !is_device(&fstat(&null)?, Device { kind: libc::S_IFCHR, major: 1, minor: 3 }) {
            return Err(Errno::ENODEV);
        }
        return mount::attach(null.as_fd(), target.as_fd());
    }
    let tree = match &holding.empty {
        Some(empty) => mount::clone_tree(empty.as_fd(), c"", false)?,
        None => {
            let context = Context::open(c"tmpfs")?;
            context.string(c"source", c"tmpfs")?;
            context.string(c"nr_blocks", c"1")?;
            context.string(c"nr_inodes", c"1")?;
            if let Some((option, label)) = label {
                context.string(option, label)?;
            }
            context.mount(ATTR_RDONLY)?
        }
    };
    mount::attach(tree.as_fd(), target.as_fd())?;
    // An attached mount can be cloned again, so one file system serves all masks.
    holding.empty.get_or_insert(tree);
    Ok(())
}

/// Makes a path read-only, and everything beneath it.
pub fn read_only(root: &OwnedFd, at: &CStr) -> Result<(), Errno> {
    let Some(target) = existing(root, at)? else { return Ok(()) };
    let tree = mount::clone_tree(target.as_fd(), c"", true)?;
    mount::set_attr(tree.as_fd(), &Attr { set: ATTR_RDONLY, ..Attr::default() }, true)?;
    mount::attach(tree.as_fd(), target.as_fd())
}

/// Makes the root itself read-only, not what is mounted beneath it.
pub fn root_read_only(root: &OwnedFd) -> Result<(), Errno> {
    mount::set_attr(root.as_fd(), &Attr { set: ATTR_RDONLY, ..Attr::default() }, false)
}

/// Allocates the terminal from the container's own devpts, shows its slave as /dev/console and sends the
/// master to launch.
pub fn console(holding: &mut Holding, channel: &Channel, size: (u16, u16)) -> Result<(), Trouble> {
    let root = holding.root()?;
    let master = open_master(root)?;
    let slave = tty::open_peer(&master)?;
    let tree = mount::clone_tree(slave.as_fd(), c"", false)?;
    let target = path::create(root.as_fd(), c"/dev/console", Kind::File, Resolve::NoLinks)?;
    mount::attach(tree.as_fd(), target.as_fd())?;
    if size != (0, 0) {
        tty::set_size(&slave, tty::Size { rows: size.0, columns: size.1 })?;
    }
    channel.report(&FromInit::Console(master))?;
    holding.terminal = Some(slave);
    Ok(())
}

/// A new master of the devpts below `root`; that it is one is verified, not believed (CVE-2025-52565).
pub fn open_master(root: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK;
    let master = path::open(root.as_fd(), c"/dev/pts/ptmx", flags, Resolve::NoLinks)?;
    let ptmx = Device { kind: libc::S_IFCHR, major: 5, minor: 2 };
    if mount::magic(master.as_fd())? != mount::DEVPTS_SUPER_MAGIC || !is_device(&fstat(&master)?, ptmx) {
        return Err(Errno::ENOTTY);
    }
    nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_RDWR))?;
    Ok(master)
}

/// Gives the cgroup that is mounted at a place to a user of the container's.
pub fn own_cgroup(root: &OwnedFd, at: &CStr, uid: u32, files: &[CString]) -> Result<(), Errno> {
    let dir = path::open(root.as_fd(), at, libc::O_RDONLY | libc::O_DIRECTORY, Resolve::InRoot)?;
    if mount::magic(dir.as_fd())? != mount::CGROUP2_SUPER_MAGIC {
        // It could not be mounted, and what is shown instead is not the container's.
        return Ok(());
    }
    crate::sys::path::give(dir.as_fd(), files, uid)
}

/// Writes a kernel parameter through the host's /proc/sys: the container's could be covered.
pub fn sysctl(proc: &OwnedFd, at: &CStr, value: &CStr) -> Result<(), Errno> {
    let sys = path::open(proc.as_fd(), c"sys", libc::O_PATH | libc::O_DIRECTORY, Resolve::SameMount)?;
    let file = path::open(sys.as_fd(), at, libc::O_WRONLY, Resolve::SameMount)?;
    File::from(file).write_all(value.to_bytes()).map_err(crate::sys::fds::io_errno)
}

/// Enters the root; the old one is gone afterwards.
pub fn pivot(root: &OwnedFd) -> Result<(), Errno> {
    nix::unistd::fchdir(root)?;
    mount::pivot_to_cwd()
}

/// Enters the root where the old one is a ramdisk that cannot be pivoted away.
pub fn move_root(root: &OwnedFd, proc: &OwnedFd) -> Result<(), Errno> {
    hide_bare(root, proc)?;
    nix::unistd::fchdir(root)?;
    mount::mount(Some(c"."), c"/", None, libc::MS_MOVE, None)?;
    enter(root)
}

/// Enters the root where the old one stays.
pub fn enter(root: &OwnedFd) -> Result<(), Errno> {
    nix::unistd::fchdir(root)?;
    nix::unistd::chroot(c".")?;
    nix::unistd::chdir(c"/")
}

/// Takes the host's proc and sysfs away, which chroot(2) alone leaves in our mount namespace: as long as one without
/// masks is there, the kernel lets who is root of a user namespace in the container mount another
/// (mount_too_revealing).
fn hide_bare(root: &OwnedFd, proc: &OwnedFd) -> Result<(), Errno> {
    let place = nix::fcntl::readlinkat(proc, format!("self/fd/{}", root.as_raw_fd()).as_str())?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = nix::fcntl::openat(proc, c"self/mountinfo", flags, nix::sys::stat::Mode::empty())?;
    let text = std::io::read_to_string(File::from(file)).map_err(crate::sys::fds::io_errno)?;
    for at in bare(&text).filter(|at| !Path::new(OsStr::from_bytes(at)).starts_with(&place)) {
        let at = CString::new(at).map_err(|_| Errno::EINVAL)?;
        // The host shall not lose it.
        match mount::mount(None, &at, None, libc::MS_SLAVE | libc::MS_REC, None) {
            // It went with the one that it was in.
            Err(Errno::ENOENT | Errno::EINVAL) => continue,
            other => other?,
        }
        match mount::detach(&at) {
            // It is locked: covered, it is not bare any more.
            Err(Errno::EINVAL | Errno::EPERM) => {
                mount::mount(Some(c"tmpfs"), &at, Some(c"tmpfs"), libc::MS_RDONLY, None)?;
            }
            other => other?,
        }
    }
    Ok(())
}

/// Where whole proc and sysfs file systems are mounted, of the lines of mountinfo (proc_pid_mountinfo(5)).
fn bare(mountinfo: &str) -> impl Iterator<Item = Vec<u8>> + '_ {
    mountinfo.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let kind = source.split(' ').next()?;
        let mut fields = mount.split(' ').skip(3);
        let (top, at) = (fields.next()?, fields.next()?);
        (matches!(kind, "proc" | "sysfs") && top == "/").then(|| mount::unescape(at.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_proc_and_sysfs_are_bare_and_parts_of_them_are_not() {
        let text = "\
            22 1 0:20 / /sys rw - sysfs sysfs rw\n\
            23 1 0:21 / /my\\040proc rw shared:5 master:1 - proc proc rw\n\
            24 1 0:21 /irq /irq rw - proc proc rw\n\
            25 1 0:22 / /tmp rw - tmpfs tmpfs rw\n";
        assert_eq!(bare(text).collect::<Vec<_>>(), [b"/sys".to_vec(), b"/my proc".to_vec()]);
    }
}
