//! Root file systems of layers, as [`crate::plan::layers`] has decided them.
//!
//! All layers are opened before anything is mounted, and are given to the kernel by descriptor, never by path: no
//! colon, comma or backslash of a name has to be escaped, a list of them stays short however long their paths are,
//! and nothing can be put in their place. What vanishes with the container lies on a tmpfs over the very directory
//! that the root is mounted on, in the container's own mount namespace. So it needs no place on the host, and pivot
//! leaves it behind; the overlay itself keeps it.

use super::rootfs::{open_host, place};
use super::{Trouble, flatten, mounts};
use crate::plan::step::{Bind, Branch, Layers, Served, Upper};
use crate::sync::{Channel, FromInit};
use crate::sys::mount::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, Attr, Context};
use crate::sys::{Errno, path, xattr};
use nix::fcntl::{OFlag, openat};
use nix::libc;
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchdir, fchown};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// By an overlay of the kernel's.
pub fn overlay(wanted: &Layers, beneath: &[Bind], proc: &OwnedFd) -> Result<OwnedFd, Trouble> {
    let lower = wanted.lower.iter().map(|dir| open_host(dir, DIRECTORY)).collect::<Result<Vec<_>, _>>()?;
    let trees = beneath.iter().map(mounts::source).collect::<Result<Vec<_>, _>>()?;
    let storage = Storage::open(wanted)?;
    let like = Like::of(lower.first().ok_or(Errno::EINVAL)?, wanted.squash)?;
    let upper = directory(&storage.dir, c"upper", Some(&like), 0o755)?;
    directory(&storage.dir, c"work", None, 0o700)?;
    let over = Over { lower, upper, beside: &storage.dir, work: c"work" };
    let root = over.mount(wanted.userxattr, wanted.nodev, proc)?;
    mount::attach(root.as_fd(), storage.place.as_fd())?;
    for (bind, tree) in beneath.iter().zip(&trees) {
        mounts::bind(&root, bind, tree)?;
    }
    storage.keep();
    Ok(root)
}

/// By a process that launch starts, in our user namespace but in none of our others: nobody in the container sees
/// it, and as it does not hold our mount namespace, that ends with us, and what it serves with that, and so does it.
pub fn served(step: u16, wanted: &Served, proc: &OwnedFd, channel: &Channel) -> Result<OwnedFd, Trouble> {
    let layers = &wanted.layers;
    let own = openat(proc, c"self", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let userns = openat(&own, c"ns/user", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    channel.report(&FromInit::Serve { step, userns })?;
    let root = channel.lent()?;
    // Answered once somebody serves it, refused once nobody will.
    openat(&root, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    channel.report(&FromInit::Served)?;
    mount::attach(root.as_fd(), place(&layers.place, layers.own_parent)?.as_fd())?;
    Ok(root)
}

/// By a copy.
pub fn copied(wanted: &Layers, channel: &Channel) -> Result<OwnedFd, Trouble> {
    // Mounts of their own: the way back up in one of the others would lead into what we mount over it.
    let clone = |dir: &CString| mount::clone_tree(mount::cwd(), dir, true);
    let mut lower = wanted.lower.iter().map(clone).collect::<Result<Vec<_>, _>>()?;
    let storage = Storage::open(wanted)?;
    let copy = match openat(&storage.dir, c"copy", NOFOLLOW, Mode::empty()) {
        Ok(copy) => copy,
        Err(Errno::ENOENT) => {
            // An overlay may have been to be had in an earlier run: what was changed then lies on top.
            match openat(&storage.dir, c"upper", NOFOLLOW, Mode::empty()) {
                Ok(upper) => lower.insert(0, upper),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
            let done = flatten::flatten(&lower, &storage.dir, c"copy", wanted.squash)?;
            channel.report(&FromInit::Copied { bytes: done.bytes, left_out: done.left_out })?;
            openat(&storage.dir, c"copy", NOFOLLOW, Mode::empty())?
        }
        Err(errno) => return Err(errno.into()),
    };
    let root = mount::clone_tree(copy.as_fd(), c"", false)?;
    let nodev = if wanted.nodev { ATTR_NODEV } else { 0 };
    inherit(&root, forbidden(&lower)? | nodev)?;
    mount::attach(root.as_fd(), storage.place.as_fd())?;
    storage.keep();
    Ok(root)
}

/// The upper layer itself as the root, with these empty directories. Returns where it lies, for its branches.
pub fn trunk(wanted: &Layers, empty: &[(CString, u32)]) -> Result<(OwnedFd, OwnedFd), Trouble> {
    let storage = Storage::open(wanted)?;
    let upper = directory(&storage.dir, c"upper", None, 0o755)?;
    directory(&storage.dir, c"work", None, 0o700)?;
    hollow(&upper, empty)?;
    let root = mount::clone_tree(upper.as_fd(), c"", false)?;
    if wanted.nodev {
        inherit(&root, ATTR_NODEV)?;
    }
    mount::attach(root.as_fd(), storage.place.as_fd())?;
    Ok((root, storage.keep()))
}

/// Makes these directories at the top of one.
pub fn hollow(dir: &OwnedFd, empty: &[(CString, u32)]) -> Result<(), Errno> {
    for (at, mode) in empty {
        directory(dir, name_of(at)?, None, *mode)?;
    }
    Ok(())
}

/// The same directory of the host and of the upper layer, one over the other.
pub fn branch(root: &OwnedFd, storage: &OwnedFd, wanted: &Branch, proc: &OwnedFd) -> Result<(), Trouble> {
    let name = name_of(&wanted.at)?;
    let lower = open_host(&wanted.at, DIRECTORY | libc::O_NOFOLLOW)?;
    let upper = openat(storage, c"upper", NOFOLLOW, Mode::empty())?;
    let upper = directory(&upper, name, Some(&Like::of(&lower, wanted.squash)?), 0o755)?;
    let work = openat(storage, c"work", NOFOLLOW, Mode::empty())?;
    directory(&work, name, None, 0o700)?;
    let over = Over { lower: vec![lower], upper, beside: &work, work: name };
    let tree = over.mount(wanted.userxattr, wanted.nodev, proc)?;
    let target = path::open(root.as_fd(), &wanted.at, libc::O_PATH, path::Resolve::NoLinks)?;
    Ok(mount::attach(tree.as_fd(), target.as_fd())?)
}

/// The last name of a path at the top.
fn name_of(at: &CStr) -> Result<&CStr, Errno> {
    CStr::from_bytes_with_nul(at.to_bytes_with_nul().strip_prefix(b"/").unwrap_or(b"\0"))
        .map_err(|_| Errno::EINVAL)
}

const NOFOLLOW: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Where the upper layer lies, and where the root goes.
struct Storage<'a> {
    dir: OwnedFd,
    place: OwnedFd,
    cover: Cover<'a>,
}

/// What is mounted over a place, and taken away again when dropped: by other means it will be tried again.
struct Cover<'a>(Option<&'a CStr>);

impl Drop for Cover<'_> {
    fn drop(&mut self) {
        // Undo; the error that led here is the one to tell, and our mount namespace ends with us.
        let _ = self.0.take().map(mount::detach);
    }
}

impl<'a> Storage<'a> {
    fn open(wanted: &'a Layers) -> Result<Storage<'a>, Trouble> {
        let place = place(&wanted.place, wanted.own_parent)?;
        match &wanted.upper {
            Upper::Kept(dir) => {
                let dir = open_host(dir, DIRECTORY | libc::O_NOFOLLOW)?;
                Ok(Storage { dir, place, cover: Cover(None) })
            }
            Upper::Memory => {
                let memory = memory()?;
                mount::attach(memory.as_fd(), place.as_fd())?;
                let dir = memory.try_clone().map_err(crate::sys::fds::io_errno)?;
                Ok(Storage { dir, place: memory, cover: Cover(Some(&wanted.place)) })
            }
        }
    }

    /// The root is mounted.
    fn keep(mut self) -> OwnedFd {
        self.cover.0 = None;
        self.dir
    }
}

/// A tmpfs. Its size is the kernel's default, half of the memory.
pub fn memory() -> Result<OwnedFd, Errno> {
    let context = Context::open(c"tmpfs")?;
    context.string(c"source", c"bryo")?;
    context.string(c"mode", c"755")?;
    context.mount(0)
}

/// The mode and the owner that a new directory gets.
#[derive(Debug)]
pub struct Like {
    mode: u32,
    owner: Option<(Uid, Gid)>,
}

impl Like {
    /// Those of a lower layer's directory, whose owner may be nobody inside: that is not who shall own ours.
    pub fn of(dir: &OwnedFd, squash: bool) -> Result<Like, Errno> {
        let stat = fstat(dir)?;
        let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        Ok(Like { mode: stat.st_mode & 0o7777, owner: (!squash).then_some(owner) })
    }
}

/// Opens a directory of the upper layer, made where it is missing: like the lower one that it will be shown for, as
/// far as its owner exists here.
pub fn directory(dir: &OwnedFd, name: &CStr, like: Option<&Like>, mode: u32) -> Result<OwnedFd, Errno> {
    match mkdirat(dir, name, Mode::S_IRWXU) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return openat(dir, name, NOFOLLOW, Mode::empty()),
        Err(errno) => return Err(errno),
    }
    let made = openat(dir, name, NOFOLLOW, Mode::empty())?;
    if let Some((uid, gid)) = like.and_then(|like| like.owner) {
        match fchown(&made, Some(uid), Some(gid)) {
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EOVERFLOW) => {}
            Err(errno) => return Err(errno),
        }
    }
    fchmod(&made, Mode::from_bits_truncate(like.map_or(mode, |like| like.mode)))?;
    Ok(made)
}

/// What the mounts of the lower layers forbid stays forbidden above them.
pub fn forbidden(lower: &[OwnedFd]) -> Result<u64, Errno> {
    // The ST_* bits of these three are the MOUNT_ATTR_* ones.
    let forbidding = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
    lower.iter().try_fold(0, |all, dir| Ok(all | (mount::flags(dir.as_fd())? & forbidding)))
}

fn inherit(root: &OwnedFd, set: u64) -> Result<(), Errno> {
    if set == 0 {
        return Ok(());
    }
    mount::set_attr(root.as_fd(), &Attr { set, ..Attr::default() }, false)
}

/// What an overlay is made of.
struct Over<'a> {
    /// The topmost first.
    lower: Vec<OwnedFd>,
    upper: OwnedFd,
    /// The directory in which the work directory is, and its name there.
    beside: &'a OwnedFd,
    work: &'a CStr,
}

/// What lower layers could use to name other files is off, whatever the module's parameters say.
const PLAIN: [(&CStr, &CStr); 3] =
    [(c"redirect_dir", c"nofollow"), (c"metacopy", c"off"), (c"index", c"off")];

impl Over<'_> {
    /// A detached overlay.
    fn mount(&self, userxattr: bool, nodev: bool, proc: &OwnedFd) -> Result<OwnedFd, Trouble> {
        if userxattr && !takes_attributes(&self.upper)? {
            // As a tmpfs before Linux 6.6. The kernel would make an overlay all the same, in which no directory
            // can be made in the place of one that was deleted.
            return Err(Errno::EOPNOTSUPP.into());
        }
        let attributes = forbidden(&self.lower)? | if nodev { ATTR_NODEV } else { 0 };
        // Descriptors are named relative to where they are listed.
        let list = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        fchdir(openat(proc, c"self/fd", list, Mode::empty())?)?;
        let made = match self.by_context(userxattr, attributes) {
            // Before Linux 6.5, layers cannot be named one by one, and all of them in one option are too long for
            // fsconfig(2).
            Err(Trouble { errno: Errno::EINVAL, detail, .. }) => {
                self.by_mount(userxattr, attributes).map_err(|errno| Trouble { detail, ..errno.into() })
            }
            other => other,
        };
        // What was our caller's directory may be out of reach by now; nothing that follows depends on it.
        nix::unistd::chdir(c"/")?;
        made
    }

    fn work(&self) -> Result<OwnedFd, Errno> {
        openat(self.beside, self.work, NOFOLLOW, Mode::empty())
    }

    fn by_context(&self, userxattr: bool, attributes: u64) -> Result<OwnedFd, Trouble> {
        let work = self.work()?;
        let context = Context::open(c"overlay")?;
        let configure = || {
            context.string(c"source", c"overlay")?;
            for dir in &self.lower {
                context.string(c"lowerdir+", &number(dir)?)?;
            }
            context.string(c"upperdir", &number(&self.upper)?)?;
            context.string(c"workdir", &number(&work)?)?;
            if userxattr {
                // Which has redirects and metacopies off.
                context.flag(c"userxattr")?;
            } else {
                PLAIN.iter().try_for_each(|(key, value)| context.string(key, value))?;
            }
            context.mount(attributes)
        };
        configure().map_err(|errno| Trouble { detail: context.said(), ..errno.into() })
    }

    /// The same by mount(2), whose options are one page: enough for as many layers as the kernel takes, 500.
    fn by_mount(&self, userxattr: bool, attributes: u64) -> Result<OwnedFd, Errno> {
        let work = self.work()?;
        let lower: Vec<_> = self.lower.iter().map(|dir| dir.as_raw_fd().to_string()).collect();
        let (upper, work) = (self.upper.as_raw_fd(), work.as_raw_fd());
        let mut data = format!("lowerdir={},upperdir={upper},workdir={work}", lower.join(":")).into_bytes();
        if userxattr {
            data.extend(b",userxattr");
        } else {
            for (key, value) in PLAIN {
                data.extend([b",", key.to_bytes(), b"=", value.to_bytes()].concat());
            }
        }
        let data = CString::new(data).map_err(|_| Errno::EINVAL)?;
        // It takes a place; the work directory is one at which nobody looks.
        let place = CString::new(work.to_string()).map_err(|_| Errno::EINVAL)?;
        mount::mount(Some(c"overlay"), &place, Some(c"overlay"), 0, Some(&data))?;
        let tree = mount::clone_tree(self.beside.as_fd(), self.work, false);
        fchdir(self.beside)?;
        mount::detach(self.work)?;
        let tree = tree?;
        inherit(&tree, attributes)?;
        Ok(tree)
    }
}

/// Whether there can be attributes of users, found by making one.
fn takes_attributes(dir: &OwnedFd) -> Result<bool, Errno> {
    match xattr::set(dir.as_fd(), c"user.bryo", b"y") {
        Err(Errno::EOPNOTSUPP) => Ok(false),
        Ok(()) => xattr::remove(dir.as_fd(), c"user.bryo").map(|()| true),
        Err(errno) => Err(errno),
    }
}

fn number(fd: &OwnedFd) -> Result<CString, Errno> {
    CString::new(fd.as_raw_fd().to_string()).map_err(|_| Errno::EINVAL)
}
