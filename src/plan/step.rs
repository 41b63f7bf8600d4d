//! What init can do, one operation a variant, named for errors.
//!
//! A plan is a list of these, and init is one loop over it. A step whose means only the kernel can judge
//! carries its alternative and the price of it; the errno decides, not a guess beforehand.

use super::degrade::Degradation;
use super::inherited::MemoryPolicy;
use crate::sys::mount::Attr;
use nix::libc;
use std::ffi::CString;
use std::path::PathBuf;

/// An operation and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub op: Op,
    pub or: Option<Fallback>,
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
/// There is no key to be had: the quota is used up, or keys are off limits.
pub const NO_KEY: &[i32] = &[libc::EDQUOT, libc::ENOSYS, libc::EPERM, libc::EACCES, libc::ENOMEM];
/// The file system does not exist here, or not for us.
pub const ABSENT: &[i32] = &[libc::ENODEV, libc::EPERM];
/// The image has no such file, and it cannot be made: the root is on a read-only file system or another user's, or something
/// else is in its place.
pub const NO_PLACE: &[i32] =
    &[libc::EROFS, libc::EACCES, libc::EPERM, libc::ELOOP, libc::ENOTDIR, libc::EISDIR, libc::EOVERFLOW];

impl From<Op> for Step {
    fn from(op: Op) -> Step {
        Step { op, or: None }
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
        /// Put a private mount between it and the host's shared ones, which pivot_root(2) would refuse as a
        /// parent.
        own_parent: bool,
    },
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
        optional: bool,
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
    /// Lends launch the network namespace, so that its helper can connect it, and the user namespace that it belongs to.
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
    /// Gives the root mount this propagation.
    RootPropagation {
        flags: u64,
    },
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
    /// crun's `src-nofollow`: show the link itself.
    pub nofollow: bool,
    /// Other ids for what is shown.
    pub ids: Option<Ids>,
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

impl Op {
    /// What the operation is about, for the line that says it failed.
    pub fn describe(&self) -> String {
        let text = |s: &CString| s.to_string_lossy().into_owned();
        match self {
            Op::Propagation { .. } => "set the propagation of /".into(),
            Op::Root { path, .. } => format!("open the root file system {}", text(path)),
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
            Op::RootPropagation { .. } => "set the propagation of the root file system".into(),
        }
    }
}
