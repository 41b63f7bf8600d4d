//! Mounts: made detached, given all their properties, then attached to a resolved place.

use super::copy_up;
use super::{Orders, Trouble};
use crate::plan::step::{Bind, Filesystem, IdMaps, Properties};
use crate::sync::{Channel, FromInit, Place};
use crate::sys::mount::{self, ATTR_ATIME, ATTR_RDONLY, Attr, Context};
use crate::sys::path::{self, Kind, Resolve};
use crate::sys::{Errno, fds, userns};
use nix::fcntl::{OFlag, readlinkat};
use nix::libc;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// File systems whose superblock is never the mount's alone, or that have no use for a read-only one.
const SHARED: [&CStr; 6] = [c"proc", c"sysfs", c"tmpfs", c"devpts", c"mqueue", c"cgroup2"];

/// Mounts a new file system.
pub fn filesystem(root: &OwnedFd, wanted: &Filesystem) -> Result<(), Trouble> {
    let mode = if wanted.mode_of_place { mode_of_place(root, &wanted.at)? } else { None };
    let way = if wanted.exact { Way::NoLinks } else { Way::Links };
    let target = mount_point(root, &wanted.at, Kind::Directory, way)?;
    let attributes = attributes(&wanted.properties);
    // Nothing more could be put into what is read-only.
    let late = if wanted.copy_up || wanted.label.is_some() { attributes & ATTR_RDONLY } else { 0 };
    let tree = match wanted.legacy {
        None => by_context(wanted, mode.as_deref(), attributes & !late)?,
        Some(flags) => by_mount(&target, wanted, mode.as_deref(), flags, attributes & !late)?,
    };
    if wanted.copy_up {
        let given = |name: &CStr| wanted.options.iter().any(|(key, _)| key.as_c_str() == name);
        let keep = copy_up::Keep { mode: given(c"mode"), owner: given(c"uid") || given(c"gid") };
        copy_up::copy(&target, &tree, keep)?;
    }
    if let Some(label) = &wanted.label {
        let top = nix::fcntl::openat(&tree, c".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        fds::set_xattr(top.as_fd(), c"security.selinux", label)?;
    }
    set(&tree, &Attr { set: late, ..Attr::default() }, false)?;
    mount::attach(tree.as_fd(), target.as_fd())?;
    propagate(&tree, &wanted.properties)?;
    Ok(())
}

/// What a new mount is to be: it has nothing to clear, and nothing beneath it yet that `all` could mean besides.
fn attributes(Properties { own, all, .. }: &Properties) -> u64 {
    own.set & !(all.clear & ATTR_ATIME) | all.set
}

/// Whether the file system is to be read-only, too, and not this mount of it alone.
fn is_read_only(wanted: &Filesystem, attributes: u64) -> bool {
    attributes & ATTR_RDONLY != 0 && !SHARED.contains(&wanted.fstype.as_c_str())
}

/// A new mount by the newer calls, detached.
fn by_context(wanted: &Filesystem, mode: Option<&CStr>, attributes: u64) -> Result<OwnedFd, Errno> {
    let context = Context::open(&wanted.fstype)?;
    context.string(c"source", &wanted.source)?;
    for (key, value) in &wanted.options {
        match value {
            Some(value) => context.string(key, value)?,
            None => context.flag(key)?,
        }
    }
    if let Some(mode) = mode {
        context.string(c"mode", mode)?;
    }
    if is_read_only(wanted, attributes) {
        context.flag(c"ro")?;
    }
    context.mount(attributes)
}

/// The same by mount(2), for what the newer calls cannot say. It attaches what it makes, and so gets a place of ours,
/// where nobody sees it and no name has to be looked up that the image or a volume may change meanwhile. What this
/// place covers is shown on top of it: source and options may well lead there.
fn by_mount(
    target: &OwnedFd,
    wanted: &Filesystem,
    mode: Option<&CStr>,
    flags: u64,
    attributes: u64,
) -> Result<OwnedFd, Errno> {
    let read_only = if is_read_only(wanted, attributes) { libc::MS_RDONLY } else { 0 };
    let covered = mount::clone_tree(target.as_fd(), c"", true)?;
    let place = Context::open(c"tmpfs")?.mount(0)?;
    mkdirat(&place, c"new", Mode::S_IRWXU)?;
    mount::attach(place.as_fd(), target.as_fd())?;
    let away = || mount::detach(&fds::by_proc(place.as_fd(), "")?);
    let tree = mount::attach(covered.as_fd(), place.as_fd()).and_then(|()| {
        let tree = mount_in(&place, wanted, mode, flags | read_only);
        // umount2(2) takes what is on top of a place, here and below.
        away()?;
        tree
    });
    // Whatever came of it: the mount itself, or what else the plan has, is to be there.
    away()?;
    let tree = tree?;
    // The access time modes are one field: to set it is to clear it first (mount_setattr(2)).
    let clear = if attributes & ATTR_ATIME == 0 { 0 } else { ATTR_ATIME };
    set(&tree, &Attr { set: attributes, clear, ..Attr::default() }, false)?;
    Ok(tree)
}

/// A copy of what mount(2) makes in this directory, detached.
fn mount_in(place: &OwnedFd, wanted: &Filesystem, mode: Option<&CStr>, flags: u64) -> Result<OwnedFd, Errno> {
    let data = data(&wanted.options, mode)?;
    mount::mount(
        Some(&wanted.source),
        &fds::by_proc(place.as_fd(), "/new")?,
        Some(&wanted.fstype),
        flags,
        Some(&data),
    )?;
    mount::clone_tree(place.as_fd(), c"new", false)
}

/// The options as mount(2) takes them.
fn data(options: &[(CString, Option<CString>)], mode: Option<&CStr>) -> Result<CString, Errno> {
    let mut data = mode.map(|mode| [b"mode=", mode.to_bytes()].concat()).unwrap_or_default();
    for (key, value) in options {
        if !data.is_empty() {
            data.push(b',');
        }
        data.extend(key.to_bytes());
        if let Some(value) = value {
            data.push(b'=');
            // The commas of a label are its own.
            let quote: &[u8] = if key.to_bytes().ends_with(b"context") { b"\"" } else { b"" };
            data.extend([quote, value.to_bytes(), quote].concat());
        }
    }
    CString::new(data).map_err(|_| Errno::EINVAL)
}

/// The mode of what is there already, as an option of mount(8). What is made for the mount has none to keep.
fn mode_of_place(root: &OwnedFd, at: &CStr) -> Result<Option<CString>, Errno> {
    match path::open(root.as_fd(), at, libc::O_PATH, Resolve::InRoot) {
        Ok(place) => {
            let mode = nix::sys::stat::fstat(&place)?.st_mode & 0o7777;
            CString::new(format!("{mode:o}")).map(Some).map_err(|_| Errno::EINVAL)
        }
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The mount that a bind mount shows, by launch where that can do more than we.
pub fn shown(step: u16, wanted: &Bind, orders: &Orders<'_>, channel: &Channel) -> Result<OwnedFd, Trouble> {
    let tree = match source(wanted) {
        // It lies behind a directory that only who called us may enter.
        Err(Errno::EACCES) if orders.launch_reaches_more => None,
        other => Some(other?),
    };
    match (&wanted.ids, tree) {
        (None, Some(tree)) => Ok(tree),
        (Some(ids), Some(tree)) if !ids.by_launch => {
            let failed = |detail: &'static [u8]| {
                move |errno: Errno| Trouble { errno, detail: detail.to_vec(), place: Place::Ids }
            };
            let namespace = id_maps(&ids.maps, orders.proc.as_fd()).map_err(failed(NO_ID_MAPS))?;
            mount::set_idmap(tree.as_fd(), namespace.as_fd(), ids.recursive).map_err(failed(b""))?;
            Ok(tree)
        }
        (_, tree) => {
            channel.report(&FromInit::Source { step, tree })?;
            Ok(channel.lent()?)
        }
    }
}

/// What there is to say of an errno of [`id_maps`].
pub const NO_ID_MAPS: &[u8] = b"no user namespace with its maps is to be had";

/// A user namespace with the maps of an idmapped mount.
///
/// # Errors
/// Those of open(2) and [`userns::with_maps`].
pub fn id_maps(maps: &IdMaps, proc: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    match maps {
        IdMaps::Lines { uids, gids } => userns::with_maps(proc, uids, gids),
        IdMaps::Of(path) => nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()),
    }
}

/// A mount of what a bind mount is to show.
///
/// # Errors
/// That of open(2) and open_tree(2).
pub fn source(wanted: &Bind) -> Result<OwnedFd, Errno> {
    if wanted.links.shown || wanted.links.copied {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let link = nix::fcntl::open(wanted.source.as_c_str(), flags, Mode::empty())?;
        return mount::clone_tree(link.as_fd(), c"", wanted.recursive);
    }
    mount::clone_tree(mount::cwd(), &wanted.source, wanted.recursive)
}

/// Shows a file or directory of the host.
pub fn bind(root: &OwnedFd, wanted: &Bind, tree: &OwnedFd) -> Result<(), Trouble> {
    let kind = match nix::sys::stat::fstat(tree)?.st_mode & libc::S_IFMT {
        libc::S_IFLNK if wanted.links.copied => return copy_link(root, &wanted.at, tree),
        libc::S_IFDIR => Kind::Directory,
        _ => Kind::File,
    };
    if wanted.apart {
        set(tree, &Attr { propagation: libc::MS_SLAVE, ..Attr::default() }, true)?;
    }
    set(tree, &wanted.properties.all, true)?;
    set(tree, &wanted.properties.own, false)?;
    let way = match wanted.links.covered {
        true => Way::OverLinks,
        false if in_proc(&wanted.at) => Way::NoLinks,
        false => Way::Links,
    };
    let target = mount_point(root, &wanted.at, kind, way)?;
    if way == Way::OverLinks && kind == Kind::Directory && is_link(&target)? {
        let detail = b"a directory cannot cover a link".to_vec();
        return Err(Trouble { detail, ..Errno::EINVAL.into() });
    }
    mount::attach(tree.as_fd(), target.as_fd())?;
    propagate(tree, &wanted.properties)?;
    Ok(())
}

fn is_link(file: &OwnedFd) -> Result<bool, Errno> {
    Ok(nix::sys::stat::fstat(file)?.st_mode & libc::S_IFMT == libc::S_IFLNK)
}

/// Makes a link like that of the source. One that is there and leads to the same place may stay.
fn copy_link(root: &OwnedFd, at: &CStr, source: &OwnedFd) -> Result<(), Trouble> {
    let target = readlinkat(source, c"")?;
    let at = Path::new(OsStr::from_bytes(at.to_bytes()));
    let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
        return Err(Errno::EINVAL.into());
    };
    let parent = CString::new(parent.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let parent = mount_point(root, &parent, Kind::Directory, Way::Links)?;
    match symlinkat(target.as_os_str(), &parent, name) {
        Err(Errno::EEXIST) if readlinkat(&parent, name).is_ok_and(|there| there == target) => Ok(()),
        other => Ok(other?),
    }
}

/// Whether the configuration itself names a place in /proc.
fn in_proc(at: &CStr) -> bool {
    at.to_bytes().strip_prefix(b"/proc").is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Changes what is mounted at a place already.
pub fn remount(root: &OwnedFd, at: &CStr, properties: &Properties) -> Result<(), Errno> {
    let target = path::open(root.as_fd(), at, libc::O_PATH, Resolve::InRoot)?;
    set(&target, &properties.all, true)?;
    set(&target, &properties.own, false)?;
    propagate(&target, properties)
}

/// How a mount point is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Over links, inside the root.
    Links,
    /// Likewise, but for the last one, which is the mount point itself.
    OverLinks,
    /// Exactly there.
    NoLinks,
}

/// Resolves a mount point, making what is missing of it. Unless the plan says that it belongs there, it
/// may not turn out to be inside a proc: a link of the image could lead a volume over what masks hide.
fn mount_point(root: &OwnedFd, at: &CStr, kind: Kind, way: Way) -> Result<OwnedFd, Trouble> {
    let resolve = if way == Way::NoLinks { Resolve::NoLinks } else { Resolve::InRoot };
    let there = match way {
        Way::OverLinks => path::open(root.as_fd(), at, libc::O_PATH | libc::O_NOFOLLOW, resolve),
        Way::Links | Way::NoLinks => Err(Errno::ENOENT),
    };
    let target = match there {
        Err(Errno::ENOENT) => path::create(root.as_fd(), at, kind, resolve)?,
        other => other?,
    };
    if way != Way::NoLinks && mount::magic(target.as_fd())? == mount::PROC_SUPER_MAGIC {
        let detail = b"the destination leads into /proc".to_vec();
        return Err(Trouble { detail, ..Errno::EPERM.into() });
    }
    Ok(target)
}

fn set(mount: &OwnedFd, attr: &Attr, recursive: bool) -> Result<(), Errno> {
    if attr.is_empty() { Ok(()) } else { mount::set_attr(mount.as_fd(), attr, recursive) }
}

fn propagate(tree: &OwnedFd, properties: &Properties) -> Result<(), Errno> {
    for (propagation, recursive) in properties.propagation.iter().flatten() {
        mount::set_attr(tree.as_fd(), &Attr { propagation: *propagation, ..Attr::default() }, *recursive)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mount::{ATTR_NOATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_STRICTATIME};

    #[test]
    fn a_new_mount_is_what_is_wanted_of_it_and_of_all_beneath() {
        let together = |own, all| attributes(&Properties { own, all, ..Properties::default() });
        let own = Attr { set: ATTR_NOSUID | ATTR_NOATIME, clear: ATTR_ATIME, ..Attr::default() };
        let all = Attr { set: ATTR_RDONLY | ATTR_NOEXEC, ..Attr::default() };
        assert_eq!(together(own, all), ATTR_NOSUID | ATTR_NOATIME | ATTR_RDONLY | ATTR_NOEXEC);
        let all = Attr { set: ATTR_STRICTATIME, clear: ATTR_ATIME, ..Attr::default() };
        assert_eq!(together(own, all), ATTR_NOSUID | ATTR_STRICTATIME);
    }

    #[test]
    fn options_for_mount_2_are_one_string() {
        let text = |text: &str| Some(CString::new(text).unwrap());
        let options =
            [(c"size".into(), text("1m")), (c"noswap".into(), None), (c"context".into(), text("a:c1,c2"))];
        assert_eq!(data(&options, Some(c"755")), Ok(c"mode=755,size=1m,noswap,context=\"a:c1,c2\"".into()));
        assert_eq!(data(&[], None), Ok(c"".into()));
    }

    #[test]
    fn what_only_begins_like_proc_is_not_in_it() {
        assert!(in_proc(c"/proc") && in_proc(c"/proc/uptime"));
        assert!(!in_proc(c"/processes") && !in_proc(c"/srv/proc"));
    }
}
