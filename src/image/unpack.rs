//! One layer of an image, a tar archive, becomes a tree below an open directory.
//!
//! # What a layer is
//!
//! An archive of what differs from the layers below: new and changed files with all that belongs to them, and
//! whiteouts, empty files called `.wh.NAME`, for what is gone. `.wh..wh..opq` in a directory says that nothing of
//! what lower layers have in it is left. A whiteout is about lower layers alone: what this layer brings itself
//! stays, whether its entry comes before or after. A tree takes one of two forms:
//!
//! - [`Form::Flat`]: the layer is applied to what the layers before have left, and whiteouts remove. So it is known
//!   which places are this layer's own, by a hash of 8 bytes for each.
//! - [`Form::Layer`]: the tree is for overlayfs, beneath and above others, and whiteouts become what overlayfs has
//!   for them: a character device 0/0, and an attribute on a directory.
//!
//! # What an archive cannot do
//!
//! Whoever made the archive may want to write elsewhere. The kernel never gets a path of the archive, only single
//! names in open directories, which it does not follow where they are links: [`tree`] walks paths itself, and
//! nothing is above its root. Only the directory of a hard link's target is looked up in one call, by openat2(2),
//! which stays below the root too. Files are made new, always: nothing that exists is ever opened for writing.
//!
//! # How it is fast
//!
//! A file costs openat, write, futimens, close; fchown and fchmod where its owner or mode is not what a new file
//! has anyway. The directories on the way are open. There is one buffer, and files are written out of it. Nothing
//! is synced: who wants that does so once at the end.
//!
//! # What becomes of what cannot be
//!
//! A plain user's namespace makes no devices. An empty file takes the place of one, as umoci does it, so that the
//! name is there, for a bind mount too, and hides what a lower layer has there; Podman leaves it out. Attributes
//! that cannot be set are left out. Both are counted, and told once ([`Counts::degradations`]). Owners that do
//! not exist here are refused, except where there is a single id ([`Ids::single`]).
//!
//! A hard link to a file that only a lower layer has cannot be made in a layer's own tree, and is refused: who
//! writes a layer has both names in it, since a new name changes the file.
//!
//! # What an archive leaves out
//!
//! An entry's directory may have no entry, as in layers that programs of few lines make. Then it is what it is in
//! the layers below: a link is followed, and a directory keeps its owner, mode, attributes and times, which those
//! in this layer's tree would hide. So the tree of a layer depends on what is below it. Where nothing is, such a
//! directory is root's, has the mode 0755, and is of 1970, whoever unpacks it when.

mod archive;
mod attributes;
mod fields;
mod ids;
mod pax;
mod remove;
mod source;
mod sparse;
#[cfg(test)]
mod tests;
mod tree;

use super::merged::{Below, Merged};
use crate::plan::degrade::Degradation;
use crate::report::{Act, Failure, errno_text};
use crate::sys::path::{self, Resolve};
use crate::sys::{Errno, xattr};
use archive::{Archive, Entry, Kind};
use attributes::Target;
pub use ids::Ids;
use nix::dir::Type;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, futimens};
use nix::sys::stat::{makedev, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, getegid, geteuid, linkat, mkfifoat, symlinkat};
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use tree::{DIRECTORY, Follow, Found, Place, Times, Tree, look, timespec, way};

/// What the tree is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A layer of overlayfs. With `userxattr`, as in a user namespace, its marks are `user.overlay.*`, else
    /// `trusted.overlay.*`.
    Layer { userxattr: bool },
    /// A root file system, to which the layer is applied.
    Flat,
}

impl Form {
    /// The attribute that makes a directory opaque.
    fn opaque(self) -> &'static CStr {
        match self {
            Form::Layer { userxattr: true } => c"user.overlay.opaque",
            Form::Layer { userxattr: false } => c"trusted.overlay.opaque",
            Form::Flat => c"",
        }
    }
}

/// Whether a layer's tree says that nothing of the layers below is left. overlayfs does not heed that at the root:
/// who stacks layers leaves out those below this one.
///
/// # Errors
/// That of fgetxattr(2).
pub fn hides_all_below(layer: BorrowedFd<'_>, userxattr: bool) -> Result<bool, Errno> {
    xattr::is_set(layer, Form::Layer { userxattr }.opaque())
}

/// What was unpacked, and what could not be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub entries: u64,
    /// Of contents of files.
    pub bytes: u64,
    /// Devices in whose place there are empty files.
    devices: Lost,
    /// Extended attributes that could not be set.
    attributes: Lost,
    /// Entries that belong to others than root, and belong to the only id that there is.
    owners: Lost,
}

/// Things that got lost, and the first of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lost {
    count: u64,
    first: String,
}

impl Lost {
    fn add(&mut self, which: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = which();
        }
        self.count += 1;
    }

    fn add_all(&mut self, other: Lost) {
        if self.count == 0 {
            self.first = other.first;
        }
        self.count += other.count;
    }

    /// `3 devices`, `1 device`.
    fn of(&self, what: &str) -> String {
        format!("{} {what}{}", self.count, if self.count == 1 { "" } else { "s" })
    }
}

impl Counts {
    /// Adds what another layer of the image came to.
    pub fn add(&mut self, layer: Counts) {
        self.entries += layer.entries;
        self.bytes += layer.bytes;
        self.devices.add_all(layer.devices);
        self.attributes.add_all(layer.attributes);
        self.owners.add_all(layer.owners);
    }

    /// What got lost, one each.
    pub fn degradations(&self) -> Vec<Degradation> {
        let mut list = Vec::new();
        let Counts { devices, attributes, owners, .. } = self;
        if devices.count > 0 {
            let because = format!("a user namespace makes no devices (the first is {})", devices.first);
            let (wanted, got) = (devices.of("device"), "empty files in their place");
            list.push(
                Degradation::weaker("IMG-DEVICE", wanted, got, because)
                    .fix("unpack it as root of the machine"),
            );
        }
        if attributes.count > 0 {
            let because = format!("they cannot be set here (the first is {})", attributes.first);
            let (wanted, got) = (attributes.of("extended attribute"), "files without them");
            list.push(
                Degradation::weaker("IMG-XATTR", wanted, got, because)
                    .fix("unpack it on another file system, or as root of the machine"),
            );
        }
        if owners.count > 0 {
            let because = format!("there is only one id here (the first is {})", owners.first);
            let wanted = format!("the owners of {}", owners.of("file"));
            list.push(
                Degradation::weaker("IMG-OWNER", wanted, "everything is root's", because)
                    .fix("have subordinate ids, and what maps them: see bryo doctor"),
            );
        }
        list
    }
}

/// Unpacks a layer, an uncompressed tar archive, below the directory `root`, and reads the archive to its end.
///
/// `below` are the layers that [`Form::Layer`] is stacked on; [`Form::Flat`] has them in `root`. `progress` is told
/// how much of the archive has been read. After a failure, what was unpacked until then is there.
///
/// # Errors
/// An archive that is damaged or wants what cannot be, or an id that does not exist here; a full disk.
pub fn unpack(
    tar: impl Read,
    root: BorrowedFd<'_>,
    form: Form,
    below: &Merged,
    ids: &Ids,
    progress: &mut dyn FnMut(u64),
) -> Result<Counts, Failure> {
    let mut archive = Archive::new(tar, progress);
    let mut unpacking = Unpacking::new(root, form, below, ids).act(|| "cannot unpack a layer")?;
    while let Some(entry) = archive.next()? {
        unpacking.entry(&entry, &mut archive)?;
    }
    unpacking.tree.finish().act(|| "cannot unpack a layer")?;
    Ok(unpacking.counts)
}

/// `cannot unpack NAME`, on one line whatever the name is.
fn cannot_unpack(name: &[u8]) -> String {
    format!("cannot unpack {}", String::from_utf8_lossy(name).escape_debug())
}

/// The mode and the time of a directory that no entry describes.
const PLAIN_MODE: Mode =
    Mode::S_IRWXU.union(Mode::S_IRGRP).union(Mode::S_IXGRP).union(Mode::S_IROTH).union(Mode::S_IXOTH);
const PLAIN_TIMES: Times = [TimeSpec::new(0, 0), TimeSpec::new(0, 0)];

/// In a name, what says that it is about lower layers.
const WHITEOUT: &[u8] = b".wh.";
/// What aufs had for itself begins so, and the one of it that layers have.
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

struct Unpacking<'a> {
    root: BorrowedFd<'a>,
    form: Form,
    below: &'a Merged,
    ids: &'a Ids,
    tree: Tree,
    follow: Follow,
    /// The places that are this layer's, where there are others.
    own: Option<HashSet<Place>>,
    /// Who owns what we make.
    me: (Uid, Gid),
    /// The permissions that new files do not get.
    umask: u32,
    /// The kernel has not refused yet to make devices.
    makes_devices: bool,
    counts: Counts,
}

impl<'a> Unpacking<'a> {
    fn new(
        root: BorrowedFd<'a>,
        form: Form,
        below: &'a Merged,
        ids: &'a Ids,
    ) -> Result<Unpacking<'a>, Errno> {
        let mut unpacking = Unpacking {
            root,
            form,
            below,
            ids,
            tree: Tree::new(root, form.opaque())?,
            follow: Follow::default(),
            own: None,
            me: (geteuid(), getegid()),
            umask: umask(),
            makes_devices: true,
            counts: Counts::default(),
        };
        match (remove::is_empty(root)?, form) {
            (true, _) => unpacking.implied_here()?,
            (false, Form::Flat) => unpacking.own = Some(HashSet::new()),
            (false, Form::Layer { .. }) => return Err(Errno::ENOTEMPTY),
        }
        Ok(unpacking)
    }

    fn entry(&mut self, entry: &Entry, archive: &mut Archive<'_, impl Read>) -> Result<(), Failure> {
        self.counts.entries += 1;
        let refuse = |why: &str| Failure::new(cannot_unpack(&entry.name), why);
        let way = way(&entry.name);
        let Some((&name, parents)) = way.split_last() else {
            return match entry.kind {
                Kind::Directory => self.root(entry),
                _ => Err(refuse("the root is no directory in this layer: not a directory")),
            };
        };
        if parents.iter().any(|parent| parent.starts_with(META)) {
            return Ok(());
        }
        if parents.iter().any(|parent| parent.starts_with(WHITEOUT)) {
            return Err(refuse("there is nothing in a whiteout: not a directory"));
        }
        if name == OPAQUE {
            return self.opaque(parents).act(|| cannot_unpack(&entry.name));
        }
        if name.starts_with(META) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(refuse("this whiteout is of nothing: invalid argument"));
            }
            return self.whiteout(parents, hidden).act(|| cannot_unpack(&entry.name));
        }
        let owner = self.owner(entry)?;
        let name = CString::new(name).map_err(|_| refuse("invalid argument"))?;
        let act = || cannot_unpack(&entry.name);
        self.enter_or_make(parents).act(act)?;
        self.claim(name.to_bytes());
        match entry.kind {
            Kind::File => self.file(entry, &name, owner, archive),
            Kind::Directory => self.directory(entry, &name, owner).act(act),
            Kind::Symlink => self.symlink(entry, &name, owner).act(act),
            Kind::Link => self.link(entry, &name),
            Kind::Fifo => self.fifo(entry, &name, owner).act(act),
            Kind::Character | Kind::Block => self.device(entry, &name, owner).act(act),
        }
    }

    fn owner(&mut self, entry: &Entry) -> Result<Option<(Uid, Gid)>, Failure> {
        if entry.kind == Kind::Link {
            return Ok(None);
        }
        let owner = self.ids.owner(entry)?;
        if owner.is_none() && (entry.uid, entry.gid) != (0, 0) {
            let (uid, gid) = (entry.uid, entry.gid);
            self.counts.owners.add(|| format!("{uid}:{gid} of {:?}", String::from_utf8_lossy(&entry.name)));
        }
        Ok(owner)
    }

    // -----------------------------------------------------------------------------------------------------
    // Ways

    /// Goes to a directory; `false` if it is not there.
    fn enter(&mut self, way: &[&[u8]]) -> Result<bool, Errno> {
        self.tree.go(way, &mut self.follow)?;
        Ok(self.follow.rest.is_empty())
    }

    /// Goes to a directory; what is not there is made, and what is no directory makes room.
    fn enter_or_make(&mut self, way: &[&[u8]]) -> Result<(), Errno> {
        self.tree.go(way, &mut self.follow)?;
        while let Some(name) = self.follow.rest.pop() {
            let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
            if let Some(target) = self.link_below(&name)? {
                self.tree.follow(&target, &mut self.follow)?;
            } else {
                self.claim(name.to_bytes());
                let made = self.make_directory(&name)?;
                self.tree.push(made.fd, name.to_bytes())?;
                if made.opaque {
                    self.opaque_here()?;
                }
                self.implied_here()?;
            }
            self.tree.go_on(&mut self.follow)?;
        }
        Ok(())
    }

    /// Where a link of a lower layer leads that is seen through this one.
    fn link_below(&self, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
        let here = self.tree.here();
        if self.form == Form::Flat || here.opaque || !matches!(look(here.as_fd(), name)?, Found::Nothing) {
            return Ok(None);
        }
        match self.below.below(self.tree.names().chain([name.to_bytes()]))? {
            Below::Link(target) => Ok(Some(target.into_os_string().into_vec())),
            _ => Ok(None),
        }
    }

    /// The directory that we are in has no entry, or none yet: it is what it is in lower layers, if it is there.
    fn implied_here(&mut self) -> Result<(), Errno> {
        let below = match self.form {
            Form::Layer { .. } if !self.tree.here().opaque => self.below.below(self.tree.names())?,
            _ => Below::Other,
        };
        let (mut mode, mut owner, mut times) =
            (PLAIN_MODE, (Uid::from_raw(0), Gid::from_raw(0)), PLAIN_TIMES);
        let here = self.tree.change();
        if let Below::Directory(dir) = &below {
            let stat = fstat(&**dir)?;
            mode = Mode::from_bits_truncate(stat.st_mode);
            owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            times = tree::times(&stat);
        }
        // Who is nobody gives nothing away.
        if self.me.0.is_root() {
            fchown(here, Some(owner.0), Some(owner.1))?;
        }
        fchmod(here, mode)?;
        if let Below::Directory(dir) = &below {
            attributes::copy(dir.as_fd(), here)?;
        }
        self.tree.refresh()?;
        self.tree.here_mut().times = times;
        Ok(())
    }

    /// Notes that this layer has something of this name where we are.
    fn claim(&mut self, name: &[u8]) {
        if let Some(own) = &mut self.own {
            own.extend(self.tree.claim());
            own.insert(self.tree.place(name));
        }
    }

    // -----------------------------------------------------------------------------------------------------
    // Whiteouts

    /// Nothing of what lower layers have in this directory is left.
    fn opaque(&mut self, way: &[&[u8]]) -> Result<(), Errno> {
        match self.form {
            Form::Layer { .. } => {
                self.enter_or_make(way)?;
                self.opaque_here()
            }
            Form::Flat => {
                if self.enter(way)? {
                    self.tree.change();
                    let here = self.tree.here();
                    purge(here.as_fd(), here.place, &self.tree, self.own.as_ref())?;
                }
                Ok(())
            }
        }
    }

    /// `name` of lower layers is gone.
    fn whiteout(&mut self, parents: &[&[u8]], name: &[u8]) -> Result<(), Errno> {
        let hidden = CString::new(name).map_err(|_| Errno::EINVAL)?;
        match self.form {
            Form::Layer { .. } => self.hide(parents, &hidden),
            Form::Flat => {
                // In the first layer there is nothing to remove.
                if self.own.is_some() && self.enter(parents)? {
                    self.remove(&hidden)?;
                }
                Ok(())
            }
        }
    }

    /// Removes what has this name, except for what this layer has there itself.
    fn remove(&mut self, name: &CStr) -> Result<(), Errno> {
        let place = self.tree.place(name.to_bytes());
        if self.own.as_ref().is_some_and(|own| !own.contains(&place)) {
            return remove::tree(self.tree.change(), name);
        }
        match look(self.tree.here().as_fd(), name)? {
            Found::Directory(inside) => purge_and_keep_times(&inside, place, &self.tree, self.own.as_ref()),
            _ => Ok(()),
        }
    }

    /// Hides what lower layers have of this name.
    fn hide(&mut self, parents: &[&[u8]], name: &CStr) -> Result<(), Errno> {
        self.enter_or_make(parents)?;
        // overlayfs would list a whiteout in an opaque directory as a file.
        if self.tree.here().opaque {
            return Ok(());
        }
        match mknodat(self.tree.change(), name, SFlag::S_IFCHR, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            // This layer's own stays. A file hides what is below it anyway, a directory does not.
            Err(Errno::EEXIST) => match look(self.tree.here().as_fd(), name)? {
                Found::Directory(fd) => {
                    self.tree.push(fd, name.to_bytes())?;
                    self.opaque_here()
                }
                _ => Ok(()),
            },
            Err(errno) => Err(errno),
        }
    }

    /// Makes the directory that we are in opaque.
    fn opaque_here(&mut self) -> Result<(), Errno> {
        if self.tree.here().opaque {
            return Ok(());
        }
        let mark = self.form.opaque();
        xattr::set(self.tree.change(), mark, b"y")?;
        self.tree.here_mut().opaque = true;
        remove_whiteouts(self.tree.here().as_fd())
    }

    // -----------------------------------------------------------------------------------------------------
    // Entries

    /// Makes something that must be new; what has its name is removed.
    fn anew<T>(
        &mut self,
        name: &CStr,
        mut make: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let here = self.tree.change();
        match make(here) {
            Err(Errno::EEXIST) => {
                remove::tree(here, name)?;
                make(here)
            }
            other => other,
        }
    }

    fn root(&mut self, entry: &Entry) -> Result<(), Failure> {
        let owner = self.owner(entry)?;
        let act = || cannot_unpack(b"/");
        self.enter(&[]).act(act)?;
        let here = self.tree.here().as_fd();
        attributes::clear(here).act(act)?;
        dress(here, entry, owner, &mut self.counts).act(act)?;
        self.tree.refresh().act(act)?;
        self.leave_with(entry);
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, name: &CStr, owner: Option<(Uid, Gid)>) -> Result<(), Errno> {
        let made = self.make_directory(name)?;
        if !made.fresh {
            attributes::clear(made.fd.as_fd())?;
        }
        dress(made.fd.as_fd(), entry, owner, &mut self.counts)?;
        self.tree.push(made.fd, name.to_bytes())?;
        self.leave_with(entry);
        if made.opaque { self.opaque_here() } else { Ok(()) }
    }

    /// The directory that we are in gets the times of its entry when it is left.
    fn leave_with(&mut self, entry: &Entry) {
        self.tree.change();
        self.tree.here_mut().times = times(entry);
    }

    /// A directory of this name: the one that is there, or a new one.
    fn make_directory(&mut self, name: &CStr) -> Result<Made, Errno> {
        let here = self.tree.here();
        let inherits = here.default_acl;
        let mut fresh = true;
        let mut replaces = false;
        let mut made = mkdirat(here, name, Mode::S_IRWXU);
        if made == Err(Errno::EEXIST) {
            if let Found::Directory(_) = look(here.as_fd(), name)? {
                fresh = false;
                made = Ok(());
            } else {
                remove::tree(here.as_fd(), name)?;
                replaces = true;
                made = mkdirat(here, name, Mode::S_IRWXU);
            }
        }
        made?;
        if fresh {
            self.tree.change();
        }
        let fd = openat(self.tree.here(), name, DIRECTORY, Mode::empty())?;
        if fresh && inherits {
            attributes::clear(fd.as_fd())?;
        }
        // What this layer had in its place hid the directory of a lower layer, which must not shine through now.
        let opaque = replaces && self.form != Form::Flat;
        Ok(Made { fd, fresh, opaque })
    }

    fn file(
        &mut self,
        entry: &Entry,
        name: &CStr,
        owner: Option<(Uid, Gid)>,
        archive: &mut Archive<'_, impl Read>,
    ) -> Result<(), Failure> {
        let act = || cannot_unpack(&entry.name);
        let mut file = self.new_file(entry, name).act(act)?;
        match &entry.extents {
            None => {
                while let Some(piece) = archive.piece()? {
                    file.write_all(piece).act(act)?;
                }
            }
            Some(extents) => {
                for extent in extents {
                    let (mut at, mut left) = (extent.offset, extent.length);
                    while left > 0 {
                        let Some(piece) = archive.piece()? else { break };
                        let part = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                        file.write_all_at(&piece[..part], at).act(act)?;
                        archive.give_back_beyond(part);
                        (at, left) = (at + part as u64, left - part as u64);
                    }
                }
                file.set_len(entry.size).act(act)?;
            }
        }
        self.counts.bytes += entry.size;
        self.dress_new_file(&file, entry, owner).act(act)
    }

    fn new_file(&mut self, entry: &Entry, name: &CStr) -> Result<File, Errno> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(entry.mode & 0o777);
        self.anew(name, |here| openat(here, name, flags, mode)).map(File::from)
    }

    /// As [`dress`], without what a new file has anyway.
    fn dress_new_file(&mut self, file: &File, entry: &Entry, owner: Option<(Uid, Gid)>) -> Result<(), Errno> {
        let here = self.tree.here();
        if here.default_acl {
            xattr::remove(file.as_fd(), c"system.posix_acl_access")?;
        }
        if let Some((uid, gid)) = owner.filter(|owner| *owner != self.me || here.setgid) {
            fchown(file, Some(uid), Some(gid))?;
        }
        // A file that is given away loses its set-id bits, and with them goes no capability: so this order.
        if entry.mode & (0o7000 | self.umask) != 0 || here.default_acl {
            fchmod(file, Mode::from_bits_truncate(entry.mode))?;
        }
        if !entry.attributes.is_empty() {
            let target = Target::Open(file.as_fd());
            attributes::set(&target, &entry.name, &entry.attributes, &mut self.counts.attributes)?;
        }
        let [atime, mtime] = times(entry);
        futimens(file, &atime, &mtime)
    }

    fn symlink(&mut self, entry: &Entry, name: &CStr, owner: Option<(Uid, Gid)>) -> Result<(), Errno> {
        let target = CString::new(entry.target.as_slice()).map_err(|_| Errno::EINVAL)?;
        self.anew(name, |here| symlinkat(target.as_c_str(), here, name))?;
        self.dress_by_name(entry, name, owner)
    }

    fn link(&mut self, entry: &Entry, name: &CStr) -> Result<(), Failure> {
        let shown = String::from_utf8_lossy(&entry.target).escape_debug().to_string();
        let failed = |errno| {
            let mut cause = format!("it is another name of {shown}: {}", errno_text(errno));
            if errno == Errno::ENOENT && self.form != Form::Flat {
                cause = format!(
                    "it is another name of {shown}, which this layer does not have: {}",
                    errno_text(errno)
                );
            }
            Failure::new(cannot_unpack(&entry.name), cause)
        };
        let way = way(&entry.target);
        let Some((target, parents)) = way.split_last() else { return Err(failed(Errno::EPERM)) };
        let parents = if parents.is_empty() { b".".to_vec() } else { parents.join(&b'/') };
        let (Ok(target), Ok(parents)) = (CString::new(*target), CString::new(parents)) else {
            return Err(failed(Errno::EINVAL));
        };
        let dir = path::open(self.root, &parents, libc::O_PATH | libc::O_DIRECTORY, Resolve::InRoot);
        let dir = dir.map_err(failed)?;
        let root = self.tree.change();
        let make = |here: BorrowedFd<'_>| linkat(&dir, target.as_c_str(), here, name, AtFlags::empty());
        match make(root) {
            Err(Errno::EEXIST) => remove::tree(root, name).and_then(|()| make(root)),
            other => other,
        }
        .map_err(failed)
    }

    fn fifo(&mut self, entry: &Entry, name: &CStr, owner: Option<(Uid, Gid)>) -> Result<(), Errno> {
        self.anew(name, |here| mkfifoat(here, name, Mode::S_IRUSR | Mode::S_IWUSR))?;
        self.dress_by_name(entry, name, owner)
    }

    fn device(&mut self, entry: &Entry, name: &CStr, owner: Option<(Uid, Gid)>) -> Result<(), Errno> {
        let kind = if entry.kind == Kind::Block { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
        let (major, minor) = entry.device;
        // 0/0 is no device but overlayfs' whiteout, and not for an archive to make.
        if self.makes_devices && (major, minor) != (0, 0) {
            let number = makedev(major, minor);
            match self.anew(name, |here| mknodat(here, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, number)) {
                Ok(()) => return self.dress_by_name(entry, name, owner),
                Err(Errno::EPERM) => self.makes_devices = false,
                Err(errno) => return Err(errno),
            }
        }
        self.counts.devices.add(|| format!("{:?}", String::from_utf8_lossy(&entry.name)));
        let file = self.new_file(entry, name)?;
        self.dress_new_file(&file, entry, owner)
    }

    /// Gives what cannot be opened owner, mode, attributes and times.
    fn dress_by_name(&mut self, entry: &Entry, name: &CStr, owner: Option<(Uid, Gid)>) -> Result<(), Errno> {
        let here = self.tree.here();
        if let Some((uid, gid)) = owner.filter(|owner| *owner != self.me || here.setgid) {
            fchownat(here, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        if entry.kind != Kind::Symlink {
            let mode = Mode::from_bits_truncate(entry.mode);
            fchmodat(here, name, mode, FchmodatFlags::NoFollowSymlink)?;
        }
        if !entry.attributes.is_empty() {
            let target = Target::Named(here.as_fd(), name);
            attributes::set(&target, &entry.name, &entry.attributes, &mut self.counts.attributes)?;
        }
        let [atime, mtime] = times(entry);
        utimensat(here, name, &atime, &mtime, UtimensatFlags::NoFollowSymlink)
    }
}

/// A directory that was made, or was there.
struct Made {
    fd: OwnedFd,
    fresh: bool,
    opaque: bool,
}

/// Gives a directory owner, mode and attributes; in this order, since the first takes from the others.
fn dress(
    dir: BorrowedFd<'_>,
    entry: &Entry,
    owner: Option<(Uid, Gid)>,
    counts: &mut Counts,
) -> Result<(), Errno> {
    if let Some((uid, gid)) = owner {
        fchown(dir, Some(uid), Some(gid))?;
    }
    fchmod(dir, Mode::from_bits_truncate(entry.mode))?;
    attributes::set(&Target::Open(dir), &entry.name, &entry.attributes, &mut counts.attributes)
}

fn times(entry: &Entry) -> Times {
    [timespec(entry.atime.unwrap_or(entry.mtime)), timespec(entry.mtime)]
}

/// Removes everything below a directory that is not this layer's.
fn purge(dir: BorrowedFd<'_>, place: Place, tree: &Tree, own: Option<&HashSet<Place>>) -> Result<(), Errno> {
    // In the first layer everything is.
    let Some(own) = own else { return Ok(()) };
    for entry in remove::entries(dir)? {
        let place = tree.place_in(place, entry.name.to_bytes());
        if !own.contains(&place) {
            remove::tree(dir, &entry.name)?;
        } else if let Found::Directory(inside) = look(dir, &entry.name)? {
            purge_and_keep_times(&inside, place, tree, Some(own))?;
        }
    }
    Ok(())
}

/// The same for a directory that nobody else keeps the times of.
fn purge_and_keep_times(
    dir: &OwnedFd,
    place: Place,
    tree: &Tree,
    own: Option<&HashSet<Place>>,
) -> Result<(), Errno> {
    let [atime, mtime] = tree::times(&fstat(dir)?);
    purge(dir.as_fd(), place, tree, own)?;
    futimens(dir, &atime, &mtime)
}

/// Removes the whiteouts below a directory that has become opaque.
fn remove_whiteouts(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    for entry in remove::entries(dir)? {
        match entry.kind {
            // Devices of the archive's are no whiteouts.
            Some(Type::CharacterDevice) if is_whiteout(dir, &entry.name)? => remove::tree(dir, &entry.name)?,
            Some(Type::Directory) => {
                let inside = openat(dir, entry.name.as_c_str(), DIRECTORY, Mode::empty())?;
                let [atime, mtime] = tree::times(&fstat(&inside)?);
                remove_whiteouts(inside.as_fd())?;
                futimens(&inside, &atime, &mtime)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_whiteout(dir: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    let stat = nix::sys::stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == 0)
}

/// The permissions that new files do not get; all, where it is not known.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok()).unwrap_or(0o777)
}
