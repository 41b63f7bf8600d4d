//! What init can do, one operation a variant, named for errors.
//!
//! A plan is a list of these, and init is one loop over it. A step whose means only the kernel can judge
//! carries its alternative and the price of it; the errno decides, not a guess beforehand.

use super::degrade::Degradation;
use crate::sys::mount::Attr;
use nix::libc;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::path::PathBuf;

/// An operation and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub op: Op,
    /// What to do instead, in the order in which it is tried.
    pub or: Vec<Fallback>,
}

/// The other means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The errnos that mean "not by these means here"; every other one is a failure.
    pub on: &'static [i32],
    pub op: Op,
    pub cost: Degradation,
}

/// The kernel, or an outer security policy, does not let us do it this way. `EINVAL` is not among them: it says that
/// an option is wrong.
pub const REFUSED: &[i32] = &[libc::EPERM, libc::EACCES, libc::EBUSY];
/// A flag of a mount is locked.
pub const LOCKED: &[i32] = &[libc::EPERM];
/// There is no key to be had: the quota is used up, or keys are off limits.
pub const NO_KEY: &[i32] = &[libc::EDQUOT, libc::ENOSYS, libc::EPERM, libc::EACCES, libc::ENOMEM];
/// The file system does not exist here, or not for us.
pub const ABSENT: &[i32] = &[libc::ENODEV, libc::EPERM];
/// The image has no such file, and it cannot be made: the root is on a read-only file system or another user's, or something
/// else is in its place.
pub const NO_PLACE: &[i32] =
    &[libc::EROFS, libc::EACCES, libc::EPERM, libc::ELOOP, libc::ENOTDIR, libc::EISDIR, libc::EOVERFLOW];
/// No overlay of the kernel's: none for who we are, not of these layers, or not into this upper one.
pub const NO_OVERLAY: &[i32] =
    &[libc::EINVAL, libc::EPERM, libc::ENODEV, libc::EOPNOTSUPP, libc::ENOSYS, libc::EIO];
/// The same for one directory of the host, which may also hold the upper layer itself (ELOOP).
pub const NO_BRANCH: &[i32] = &[
    libc::EINVAL,
    libc::EPERM,
    libc::ENODEV,
    libc::EOPNOTSUPP,
    libc::ENOSYS,
    libc::EIO,
    libc::ELOOP,
    libc::EACCES,
];
/// A file system that nobody serves: no device, no program, or one that ends or says nothing.
pub const NOT_SERVED: &[i32] = &[
    libc::ENOTCONN,
    libc::ECONNABORTED,
    libc::ECONNREFUSED,
    libc::ENOENT,
    libc::ENODEV,
    libc::ENXIO,
    libc::EPERM,
    libc::EACCES,
    libc::EINVAL,
    libc::EIO,
];

impl From<Op> for Step {
    fn from(op: Op) -> Step {
        Step { op, or: Vec::new() }
    }
}

impl Step {
    /// What may be done, in the order in which it is tried.
    pub fn means(&self) -> impl Iterator<Item = &Op> {
        std::iter::once(&self.op).chain(self.or.iter().map(|other| &other.op))
    }
}

/// One thing that init does. Paths named `at` are of the container and resolved inside its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Gives every mount of the new namespace this propagation (`MS_*` flags), so that what happens in the
    /// container does not reach the host.
    Propagation {
        flags: u64,
    },
    /// Makes the root file system a mount of its own, below which all that follows is resolved.
    Root {
        path: CString,
        /// No device node in it may be opened.
        nodev: bool,
        /// The mount in which it lies is shared with the host, and must not be here: pivot_root(2) would refuse
        /// it as a parent, and the host would get a mount of the root.
        own_parent: bool,
    },
    /// The same in the caller's mount namespace, where the container has none of its own. It outlives init there, so
    /// it is launch that mounts it, and init finds it mounted.
    HostRoot {
        path: CString,
        nodev: bool,
    },
    /// Makes the root file system of layers, by an overlay of the kernel's. It hides what is mounted beneath its
    /// layers; these binds show it, and are opened before.
    Overlay(Layers, Vec<Bind>),
    /// The same by a process that serves it: fuse-overlayfs.
    Served(Served),
    /// The same by a copy of all layers.
    Copied(Layers),
    /// Makes a root file system of the upper layer alone, with these empty directories; branches follow.
    Trunk {
        layers: Layers,
        empty: Vec<(CString, u32)>,
    },
    /// Lays one directory of the upper layer over one of the host, at the same place in both.
    Branch(Branch),
    /// Mounts a new file system.
    Filesystem(Filesystem),
    /// Shows a file or directory of the host.
    Bind(Bind),
    /// Changes the properties of what is mounted at a place already.
    Remount {
        at: CString,
        properties: Properties,
    },
    /// Shows a device node of the host, if it is the device that it should be.
    Device {
        source: CString,
        at: CString,
        device: Device,
        /// What is mounted over it is not to reach the host, and nothing else sees to that.
        apart: bool,
    },
    /// Makes a device node.
    Node {
        at: CString,
        device: Device,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    /// Makes a symbolic link; whatever is no directory there is replaced.
    Symlink {
        at: CString,
        target: CString,
    },
    /// Hides a path: a directory behind an empty read-only tmpfs, a file behind /dev/null.
    Mask {
        at: CString,
        /// An option of the tmpfs, for its SELinux label.
        label: Option<(CString, CString)>,
    },
    /// Makes a path read-only, with all that is mounted beneath it.
    ReadOnly {
        at: CString,
    },
    /// Makes a directory where there is none.
    Directory {
        at: CString,
    },
    /// Allocates the terminal from the container's own devpts and shows it as /dev/console.
    Console {
        rows: u16,
        columns: u16,
    },
    /// Waits until the createRuntime hooks have run.
    AwaitHooks,
    /// Runs createContainer hook N.
    Hook(u16),
    /// Runs on these processors only.
    Affinity(Vec<u16>),
    /// Gives these files of the cgroup that is mounted there to this uid.
    OwnCgroup {
        at: CString,
        uid: u32,
        files: Vec<CString>,
    },
    /// Enters an execution domain (personality(2)).
    Personality(u32),
    /// Says from which nodes memory is taken.
    MemoryPolicy(MemoryPolicy),
    /// Joins a new session keyring, so that the caller's keys stay the caller's.
    Keyring(CString),
    /// Brings the loopback interface of a new network namespace up.
    Loopback,
    /// Lends launch the network namespace, for its helper and for devices of the host, and the user namespace that it belongs to.
    LendNetwork,
    /// Does nothing: the other means is to go without.
    Nothing,
    /// Sets a namespaced kernel parameter; `at` is the path below /proc/sys.
    Sysctl {
        at: CString,
        value: CString,
    },
    Hostname(CString),
    Domainname(CString),
    /// Makes the root read-only.
    RootReadOnly,
    /// Enters the root with pivot_root(2).
    Pivot,
    /// Enters the root by moving it over `/` and chroot(2), for ramdisks.
    MoveRoot,
    /// Enters the root with chroot(2) alone: `/` is the caller's, too.
    Chroot,
    /// Gives the root mount this propagation.
    RootPropagation {
        flags: u64,
    },
}

/// A root file system of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// The directory that it is mounted on.
    pub place: CString,
    /// The topmost first.
    pub lower: Vec<CString>,
    pub upper: Upper,
    /// Marks are in the namespace `user.`, since `trusted.` is for the machine's root.
    pub userxattr: bool,
    /// Most owners of files do not exist inside: as far as the means allows it, all is root's.
    pub squash: bool,
    /// As [`Op::Root`].
    pub nodev: bool,
    /// As [`Op::Root`].
    pub own_parent: bool,
}

/// Where changes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upper {
    /// Into memory; they vanish with the container.
    Memory,
    /// Into this directory.
    Kept(CString),
}

/// Layers that fuse-overlayfs serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    pub layers: Layers,
    /// Whose root file system it is: who looks at the list of processes wants to know.
    pub container: String,
    pub program: PathBuf,
    /// Directories of the lower layers that are shown empty.
    pub empty: Vec<(CString, u32)>,
    /// Be root in the container's user namespace.
    pub root_inside: bool,
    /// The container's user namespace is not ours.
    pub own_userns: bool,
}

/// One directory of the host beneath the container's layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    pub at: CString,
    pub userxattr: bool,
    /// As [`Layers::squash`].
    pub squash: bool,
    pub nodev: bool,
}

/// A file system to mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    pub fstype: CString,
    pub source: CString,
    pub at: CString,
    /// Options of the file system itself, with or without a value.
    pub options: Vec<(CString, Option<CString>)>,
    pub properties: Properties,
    /// The SELinux label of its root, where it takes none as an option.
    pub label: Option<CString>,
    /// Copy what the root file system holds there into the new file system.
    pub copy_up: bool,
    /// Its root gets the mode of the directory that it covers, if there is one: a tmpfs that was not told any.
    pub mode_of_place: bool,
    /// The mount point must be exactly there, not behind a link: proc and sysfs.
    pub exact: bool,
    /// `MS_*` flags for mount(2), where the newer calls cannot say what is wanted.
    pub legacy: Option<u64>,
}

/// A file or directory to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    pub source: CString,
    pub at: CString,
    pub recursive: bool,
    pub properties: Properties,
    pub links: Links,
    /// Other ids for what is shown.
    pub ids: Option<Ids>,
    /// What is mounted below it is not to reach the host, and nothing else sees to that.
    pub apart: bool,
}

/// What a bind mount makes of symbolic links, which it follows unless one of crun's words says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Links {
    /// `src-nofollow`: a source that is one is shown itself.
    pub shown: bool,
    /// `dest-nofollow`: a destination that is one is covered itself.
    pub covered: bool,
    /// `copy-symlink`: a source that is one is made again at the destination, and nothing is mounted.
    pub copied: bool,
}

/// What becomes of the ids of a mount's files (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    pub maps: IdMaps,
    /// For what is mounted beneath as well.
    pub recursive: bool,
    /// Launch has the right to do it, or at least more of it than init.
    pub by_launch: bool,
}

/// Where memory is taken from, for set_mempolicy(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// The mode and its flags.
    pub mode: u32,
    /// The nodes, as a bitmask, lowest first.
    pub nodes: Vec<u64>,
}

/// Where the maps of an idmapped mount come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdMaps {
    /// Lines as uid_map and gid_map take them, for who writes them.
    Lines { uids: String, gids: String },
    /// The user namespace behind this file.
    Of(PathBuf),
}

/// The properties of a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties {
    /// For the mount itself.
    pub own: Attr,
    /// For it and everything beneath it.
    pub all: Attr,
    /// The propagation types to give, in order: `MS_*` flag, and whether to everything beneath it too.
    pub propagation: Propagations,
}

/// At most four changes of propagation, enough for every combination that means something.
pub type Propagations = [Option<(u64, bool)>; 4];

/// Which device a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`.
    pub kind: u32,
    pub major: u64,
    pub minor: u64,
}

impl Layers {
    /// What lies below, for errors.
    fn describe(&self) -> String {
        match self.lower.split_first() {
            Some((top, [])) => top.to_string_lossy().into_owned(),
            Some((top, rest)) => format!("{} and {} layers", top.to_string_lossy(), rest.len()),
            None => self.place.to_string_lossy().into_owned(),
        }
    }
}

impl Op {
    /// What the operation is about, for the line that says it failed.
    pub fn describe(&self) -> String {
        let text = |s: &CString| s.to_string_lossy().into_owned();
        match self {
            Op::Propagation { .. } => "set the propagation of /".into(),
            Op::Root { path, .. } => format!("open the root file system {}", text(path)),
            Op::HostRoot { path, .. } => format!("mount the root file system {} on the host", text(path)),
            Op::Overlay(layers, _) => format!("lay an overlay over {}", layers.describe()),
            Op::Served(served) => format!("lay fuse-overlayfs over {}", served.layers.describe()),
            Op::Copied(layers) => format!("copy {}", layers.describe()),
            Op::Trunk { layers, .. } => format!("make a root file system at {}", text(&layers.place)),
            Op::Branch(branch) => format!("lay an overlay over {} of the host", text(&branch.at)),
            Op::Filesystem(fs) => format!("mount {} on {}", text(&fs.fstype), text(&fs.at)),
            Op::Bind(bind) => format!("mount {} on {}", text(&bind.source), text(&bind.at)),
            Op::Remount { at, .. } => format!("remount {}", text(at)),
            Op::Device { at, source, .. } => format!("show device {} at {}", text(source), text(at)),
            Op::Node { at, device, .. } => {
                format!("make device {} ({}:{})", text(at), device.major, device.minor)
            }
            Op::Symlink { at, .. } => format!("make link {}", text(at)),
            Op::Mask { at, .. } => format!("mask {}", text(at)),
            Op::ReadOnly { at } => format!("make {} read-only", text(at)),
            Op::Directory { at } => format!("make directory {}", text(at)),
            Op::Console { .. } => "allocate the terminal".into(),
            Op::AwaitHooks => "wait for the createRuntime hooks".into(),
            Op::Hook(n) => format!("run createContainer hook #{n}"),
            Op::Affinity(cpus) => format!("keep to processors {cpus:?}"),
            Op::OwnCgroup { uid, .. } => format!("give the cgroup to uid {uid}"),
            Op::Personality(persona) => format!("set personality {persona:#x}"),
            Op::MemoryPolicy(_) => "set the memory policy".into(),
            Op::Keyring(name) => format!("join session keyring {}", text(name)),
            Op::Loopback => "bring the loopback interface up".into(),
            Op::LendNetwork => "lend the network namespace".into(),
            Op::Nothing => "do nothing".into(),
            Op::Sysctl { at, .. } => format!("set sysctl {}", text(at).replace('/', ".")),
            Op::Hostname(name) => format!("set hostname {}", text(name)),
            Op::Domainname(name) => format!("set domainname {}", text(name)),
            Op::RootReadOnly => "make the root file system read-only".into(),
            Op::Pivot => "pivot_root into the root file system".into(),
            Op::MoveRoot => "move the root file system to /".into(),
            Op::Chroot => "chroot into the root file system".into(),
            Op::RootPropagation { .. } => "set the propagation of the root file system".into(),
        }
    }
}
