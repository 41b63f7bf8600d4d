//! What is true of this host and of us, read by probing, never by version.
//!
//! Parsers take text; the readers beside them are two lines each. Nothing here decides: a fact that is
//! not needed for the bundle at hand is not read at all.

pub mod cgroup;
pub mod criu;
pub mod devices;
pub mod idmap;
pub mod mounts;
pub mod namespaces;
pub mod network;
pub mod outer;
pub mod proc;
pub mod process;
pub mod rdt;
pub mod rootfs;

use crate::sys;
use idmap::{IdRange, Subids};
use nix::sched::CloneFlags;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The facts that a plan is made from. Tests build them by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Our effective uid, in our own user namespace.
    pub euid: u32,
    /// Our effective gid, likewise.
    pub egid: u32,
    /// Whether our user namespace is not the initial one.
    pub in_child_userns: bool,
    /// Our effective capabilities, bit N being capability N.
    pub capabilities: u64,
    /// The uids and gids that exist in our user namespace.
    pub own_ids: (Vec<IdRange>, Vec<IdRange>),
    /// The ranges and helpers of the subordinate ids; read only for callers who cannot map by themselves.
    pub subids: Option<Subids>,
    /// Whether setgroups(2) is denied in our own user namespace.
    pub setgroups_denied: bool,
    /// The hard limits of this process by `RLIMIT_*` number.
    pub hard_limits: [u64; 16],
    /// Our own oom_score_adj.
    pub oom_score_adj: i32,
    /// The uid that owns the file of our own program; none for one that nobody can write to any more.
    pub binary_owner: Option<u32>,
    /// The security modules that can confine the container's process.
    pub lsm: process::Lsm,
    /// The cgroup hierarchy and our part in it.
    pub cgroups: cgroup::Cgroups,
    /// Devices of the configuration that the host has elsewhere: their paths in the container and on the host.
    pub devices: BTreeMap<PathBuf, PathBuf>,
    /// What a container could be connected with.
    pub network: network::Network,
    /// What a root file system of layers may be made with; read only where one is asked for.
    pub roots: Option<rootfs::Roots>,
    /// Where resctrl is mounted; read only where something is asked of it.
    pub resctrl: Option<PathBuf>,
    /// Whether a new proc may be mounted; tried only for who would do without.
    pub proc: proc::Tried,
}

pub const CAP_CHOWN: u32 = 0;
pub const CAP_DAC_OVERRIDE: u32 = 1;
pub const CAP_FOWNER: u32 = 3;
pub const CAP_SETGID: u32 = 6;
pub const CAP_SETUID: u32 = 7;
pub const CAP_NET_BIND_SERVICE: u32 = 10;
pub const CAP_NET_ADMIN: u32 = 12;
pub const CAP_SYS_ADMIN: u32 = 21;
pub const CAP_SYS_NICE: u32 = 23;
pub const CAP_SYS_RESOURCE: u32 = 24;
pub const CAP_MKNOD: u32 = 27;
pub const CAP_SETFCAP: u32 = 31;
pub const CAP_CHECKPOINT_RESTORE: u32 = 40;

impl Facts {
    /// The capabilities that a process can have whose namespaces differ from ours in these kinds.
    pub fn grantable(&self, others: CloneFlags) -> u64 {
        if others.contains(CloneFlags::CLONE_NEWUSER) { u64::MAX } else { self.capabilities }
    }

    /// Whether a capability is effective.
    pub fn capable(&self, cap: u32) -> bool {
        (self.capabilities >> cap) & 1 == 1
    }

    /// Whether we may make namespaces without a user namespace of our own.
    pub fn privileged(&self) -> bool {
        self.capable(CAP_SYS_ADMIN)
    }

    /// Whether we may write any map that our own user namespace contains.
    pub fn maps_directly(&self) -> bool {
        self.privileged() && self.maps_ids()
    }

    /// Whether we may write any map that our own user namespace contains, for a user namespace of our own: as root of
    /// an outer container, who may do little else.
    pub fn maps_ids(&self) -> bool {
        self.capable(CAP_SETUID) && self.capable(CAP_SETGID)
    }

    /// Whether every id that there is in our user namespace is ours to act as, and every file of theirs ours to change.
    pub fn is_root_over_ids(&self) -> bool {
        let wanted = [CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SETUID, CAP_SETGID];
        self.euid == 0 && wanted.into_iter().all(|cap| self.capable(cap))
    }

    /// Whether our privileges are those of the machine's root.
    pub fn is_host_root(&self) -> bool {
        self.privileged() && !self.in_child_userns
    }
}

/// What of the facts a bundle needs beyond the cheap ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Subordinate ids, if we cannot map by ourselves.
    pub subids: bool,
    /// Security modules.
    pub lsm: bool,
    /// Our own oom_score_adj.
    pub oom_score_adj: bool,
    /// Hard limits.
    pub hard_limits: bool,
    /// Cgroups.
    pub cgroups: bool,
    /// The network.
    pub network: bool,
    /// resctrl.
    pub resctrl: bool,
    /// Whether a proc may be mounted, and which.
    pub proc: Option<proc::Wanted>,
}

/// Reads the facts.
///
/// # Errors
/// Only what no Linux lacks: capget(2), getrlimit(2).
pub fn read(needs: Needs) -> sys::Result<Facts> {
    let mut facts = Facts {
        euid: nix::unistd::geteuid().as_raw(),
        egid: nix::unistd::getegid().as_raw(),
        in_child_userns: namespaces::in_child_userns(),
        capabilities: sys::caps::effective()?,
        own_ids: (vec![IdRange::ALL], vec![IdRange::ALL]),
        subids: None,
        setgroups_denied: false,
        hard_limits: if needs.hard_limits { process::hard_limits()? } else { [u64::MAX; 16] },
        binary_owner: process::binary_owner(),
        oom_score_adj: if needs.oom_score_adj { process::oom_score_adj() } else { 0 },
        lsm: if needs.lsm { process::lsm() } else { process::Lsm::default() },
        cgroups: cgroup::Cgroups::none(cgroup::Hierarchy::Absent),
        devices: BTreeMap::new(),
        network: if needs.network { network::read() } else { network::Network::default() },
        roots: None,
        resctrl: if needs.resctrl { rdt::mount_point() } else { None },
        proc: needs.proc.as_ref().map_or(proc::Tried::Not, proc::try_to_mount),
    };
    if facts.in_child_userns {
        facts.own_ids = idmap::own();
        facts.setgroups_denied = idmap::setgroups_denied();
    }
    if needs.subids && !facts.maps_directly() {
        facts.subids = Some(idmap::subids(facts.euid));
    }
    if needs.cgroups {
        let host_uid = if facts.in_child_userns { idmap::parent_uid(facts.euid) } else { facts.euid };
        facts.cgroups = cgroup::read(facts.euid, host_uid, facts.is_host_root());
    }
    Ok(facts)
}
