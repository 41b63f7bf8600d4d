//! What happened: one directory a container, and what other commands need to know of it.
//!
//! ```text
//! ROOT/ID/state.json    the record; written to a temporary name and renamed
//! ROOT/ID/exec.json     what `exec` starts from, so that it need not read the configuration again
//! ROOT/ID/seccomp.bpf   the compiled filter, likewise
//! ROOT/ID/start.sock    where `start` reaches init, which has it until its exec: created, not yet running
//! ROOT/ID/cgroup.json   the cgroup and unit that are about to be made: what to remove if nobody gets to the record
//! ROOT/ID/root.json     the mount that is about to be made on the host, likewise
//! ```
//!
//! The directory itself is the lock (flock(2)) of those who change the container. Making it is the claim on
//! the id, and the kernel lets only one make it.

pub mod status;
pub mod store;
mod time;

use crate::cgroup::Cgroup;
use crate::cgroup::systemd::Candidate;
use crate::plan::degrade::Degradation;
use crate::plan::idmap::Idmap;
use crate::sys::mount::Identity;
use crate::sys::{self, Errno};
use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use status::{Process, Status};
pub use time::now;

/// The record of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub oci_version: String,
    pub id: String,
    /// The pid of init in our pid namespace.
    pub pid: i32,
    /// Its start time in ticks after boot.
    pub start_time: u64,
    /// The boot that both belong to.
    pub boot_id: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339 with nanoseconds, UTC.
    pub created: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The uid that made it.
    pub owner: u32,
    /// `CLONE_NEW*` bits of the namespaces that are not ours.
    pub namespaces: i32,
    /// Those of them that were there before, and that others may be in.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub joined: i32,
    /// The pid namespace is one that was made for it, so its processes end with its init.
    #[serde(default)]
    pub owns_pids: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<Degradation>,
    #[serde(default, skip_serializing_if = "crate::plan::hooks::Hooks::none_after_start")]
    pub hooks: crate::plan::hooks::Hooks,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<RecordedCgroup>,
    /// Who keeps it connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<RecordedNetwork>,
    /// Its share of caches and memory bandwidth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<RecordedRdt>,
    /// What serves the root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Its root, where that is mounted on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_root: Option<HostRoot>,
}

/// The root of a container that shares the caller's mount namespace, as far as one has to know it to unmount it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRoot {
    pub at: PathBuf,
    /// Whatever is mounted there by then, only these are the container's; the outer first.
    pub mounts: Vec<Identity>,
    /// The mount namespace that they are in, by its inode number.
    pub namespace: u64,
}

/// A process that works for a container, as far as one has to know it to wait for its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub pid: i32,
    /// In ticks after boot: with the pid it names one process for ever.
    pub start_time: u64,
}

impl Service {
    pub fn process(self) -> Process {
        Process { pid: self.pid, start_time: self.start_time }
    }
}

/// The cgroup of a container, as far as one has to know it to use and to remove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCgroup {
    /// Below the hierarchy's root; empty while systemd has not told.
    pub path: PathBuf,
    /// The unit's own one; without a unit the topmost that was made on the way to `path`, which is not the
    /// container's alone: others may be below it by now.
    pub top: PathBuf,
    /// The inode number of the one with which all of the container goes: whatever has the name by then, only this
    /// one is the container's. None while it is not made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// The ids among which are those that it was given to: what they make in it, only they may remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub given: Option<Idmap>,
    /// The unit, where systemd made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

/// The processes that keep a container connected to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedNetwork {
    pub helper: Process,
    /// Its parent, which ends it with the container.
    pub watcher: Process,
}

/// The class of resctrl that a container is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedRdt {
    pub class: PathBuf,
    /// What was made for it and goes with it, the innermost first.
    pub made: Vec<PathBuf>,
    /// The group that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<PathBuf>,
}

/// A unit of systemd's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    pub name: String,
    pub description: String,
    /// It is the user's systemd.
    pub user: bool,
    /// Where that answered: later commands may have an environment that does not tell.
    pub bus: Vec<Candidate>,
}

fn is_zero(bits: &i32) -> bool {
    *bits == 0
}

impl RecordedCgroup {
    /// The path of the topmost one that is the container's alone.
    pub fn own(&self) -> &Path {
        if self.unit.is_some() { &self.top } else { &self.path }
    }

    /// Opens the one that its processes begin in.
    ///
    /// # Errors
    /// `ENOENT` once it is gone, also where another one has its name now.
    pub fn open(&self) -> sys::Result<Cgroup> {
        let own = self.open_own()?;
        if self.path == self.own() { Ok(own) } else { Cgroup::open(&self.path) }
    }

    /// Opens the topmost one that is the container's alone.
    ///
    /// # Errors
    /// As [`RecordedCgroup::open`].
    pub fn open_own(&self) -> sys::Result<Cgroup> {
        let own = Cgroup::open(self.own())?;
        if Some(own.inode()?) == self.inode { Ok(own) } else { Err(Errno::ENOENT) }
    }
}

impl Record {
    /// Whether it has the mount namespace of who made it.
    pub fn shares_mounts(&self) -> bool {
        !CloneFlags::from_bits_retain(self.namespaces).contains(CloneFlags::CLONE_NEWNS)
    }

    /// The cgroup, if there is one and it is still there.
    pub fn open_cgroup(&self) -> Option<Cgroup> {
        self.present_cgroup()?.open().ok()
    }

    /// Who keeps it connected, as far as they are of the present boot.
    pub fn present_network(&self) -> Option<&RecordedNetwork> {
        self.network.as_ref().filter(|_| self.of_this_boot())
    }

    /// The record of the cgroup, if it is of the present boot.
    pub fn present_cgroup(&self) -> Option<&RecordedCgroup> {
        self.cgroup.as_ref().filter(|_| self.of_this_boot())
    }

    /// The state as runtime.md, "State", defines it: what hooks read and `state` prints.
    pub fn oci(&self, status: Status, pid: i32) -> serde_json::Value {
        let mut state = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "pid": pid,
            "status": status,
            "bundle": self.bundle,
        });
        if !self.annotations.is_empty() {
            state["annotations"] = serde_json::json!(self.annotations);
        }
        state
    }
}
