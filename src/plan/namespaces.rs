//! Which namespaces are new, which are joined, and in which order.

use crate::host::Facts;
use crate::report::Failure;
use crate::sys::clone::time_namespace;
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxNamespaceType};
use std::path::PathBuf;

/// The namespaces of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces {
    /// New ones that the clone makes: user and pid.
    pub at_clone: CloneFlags,
    /// New ones that init makes once it is root in the user namespace, so that they belong to it.
    pub by_init: CloneFlags,
    /// Joined ones, user first, since it may be what gives the right to join the others.
    pub joined: Vec<(CloneFlags, PathBuf)>,
    /// Text for /proc/self/timens_offsets.
    pub time_offsets: Option<Vec<u8>>,
}

/// The `CLONE_NEW*` bit of a kind.
pub fn flag(kind: LinuxNamespaceType) -> CloneFlags {
    match kind {
        LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
        LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
        LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
        LinuxNamespaceType::Time => time_namespace(),
    }
}

impl Namespaces {
    /// All of them, new: what is assumed of the rest of a plan where the namespaces are refused.
    pub fn every() -> Namespaces {
        let at_clone = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID;
        let by_init = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP;
        Namespaces { at_clone, by_init, joined: Vec::new(), time_offsets: None }
    }

    /// Whether the container gets a new namespace of this kind.
    pub fn is_new(&self, kind: CloneFlags) -> bool {
        (self.at_clone | self.by_init).contains(kind)
    }

    /// Whether it gets one that is not ours, new or joined.
    pub fn has(&self, kind: CloneFlags) -> bool {
        self.is_new(kind) || self.joined.iter().any(|(k, _)| *k == kind)
    }

    /// Whether what the container mounts is mounted for the caller as well.
    pub fn shares_mounts(&self) -> bool {
        !self.has(CloneFlags::CLONE_NEWNS)
    }

    /// All kinds in which the container differs from us: what `exec` has to enter.
    pub fn all(&self) -> CloneFlags {
        self.joined.iter().fold(self.at_clone | self.by_init, |all, (kind, _)| all | *kind)
    }
}

/// Decides.
///
/// # Errors
/// A container that has a user namespace and no mount namespace: nobody in it may mount.
pub fn decide(container: &str, linux: &Linux, facts: &Facts) -> Result<Namespaces, Failure> {
    let act = || format!("cannot make namespaces for container {container}");
    let mut result = Namespaces {
        at_clone: CloneFlags::empty(),
        by_init: CloneFlags::empty(),
        joined: Vec::new(),
        time_offsets: None,
    };
    let mut fresh = CloneFlags::empty();
    for namespace in linux.namespaces().iter().flatten() {
        let kind = flag(namespace.typ());
        match namespace.path().as_ref().filter(|p| !p.as_os_str().is_empty()) {
            Some(path) => result.joined.push((kind, path.clone())),
            None => fresh |= kind,
        }
    }
    let has = |kind| fresh.contains(kind) || result.joined.iter().any(|(k, _)| *k == kind);
    // Without privilege there is no namespace at all but below a user namespace: a configuration that was
    // written for root gets one.
    let user = has(CloneFlags::CLONE_NEWUSER) || !facts.privileged();
    if user && !has(CloneFlags::CLONE_NEWNS) {
        return Err(Failure::new(
            act(),
            "the configuration has no mount namespace, and in the host's only root of the host may mount: operation not permitted",
        )
        .fix("add {\"type\": \"mount\"} to linux.namespaces"));
    }
    if user && !has(CloneFlags::CLONE_NEWUSER) {
        fresh |= CloneFlags::CLONE_NEWUSER;
    }
    let at_clone = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID;
    result.at_clone = fresh & at_clone;
    result.by_init = fresh - at_clone;
    // Joining user first gives the capabilities that joining the others takes; mount last, because the
    // other paths are looked up in ours.
    result.joined.sort_by_key(|(kind, _)| match *kind {
        CloneFlags::CLONE_NEWUSER => 0,
        CloneFlags::CLONE_NEWNS => 2,
        _ => 1,
    });
    if let Some(offsets) = linux.time_offsets().as_ref().filter(|o| !o.is_empty()) {
        if !fresh.contains(time_namespace()) {
            return Err(Failure::new(act(), "timeOffsets need a new time namespace")
                .fix("add {\"type\": \"time\"} to linux.namespaces"));
        }
        let mut text = Vec::new();
        // In an order that does not depend on a hash.
        for (clock, offset) in std::collections::BTreeMap::from_iter(offsets) {
            if !matches!(clock.as_str(), "monotonic" | "boottime") {
                return Err(Failure::new(act(), format!("clock {clock:?} has no offset: invalid argument"))
                    .fix("use monotonic or boottime"));
            }
            let line = format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            text.extend(line.as_bytes());
        }
        result.time_offsets = Some(text);
    }
    Ok(result)
}
