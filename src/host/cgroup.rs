//! Which cgroup hierarchy there is, where in it we are, and what of it has been delegated to us.

use crate::cgroup::systemd::{self, Candidate, Environment, Manager, Systemd};
use crate::cgroup::{self, ROOT, place};
use crate::dbus::Address;
use crate::sys;
use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is mounted at /sys/fs/cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy {
    /// cgroup2, the unified hierarchy.
    Unified,
    /// cgroup v1, alone or beside an almost empty cgroup2.
    Legacy,
    /// Nothing of that kind.
    Absent,
}

/// Everything about cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    pub hierarchy: Hierarchy,
    /// Our own cgroup, as our cgroup namespace names it.
    pub own: PathBuf,
    /// The topmost cgroup that was delegated to us; our own is in it or is it.
    pub subtree: Option<Subtree>,
    /// Whether we may make cgroups at the top, as root.
    pub top: Option<Subtree>,
    /// We are in a cgroup namespace of our own: what is outside of it is not to be seen.
    pub namespaced: bool,
    /// The entries of a cgroup's directory, itself among them, that go to whom it is delegated to.
    pub delegate: Vec<CString>,
    /// systemd is the system's manager.
    pub systemd: bool,
    /// Where the user's systemd may answer, as far as there is a socket.
    pub user_bus: Vec<Candidate>,
    /// Where the system's may, if that is ours to ask.
    pub system_bus: Vec<Candidate>,
    /// The kernel can filter devices by cgroup, and lets us.
    pub device_filter: bool,
    /// The controllers that the user's manager has; `None` where that is not to be seen.
    pub user_controllers: Option<Vec<String>>,
    /// The cgroup of the manager that units are asked of, below which they are; `None` where that is not to be seen.
    pub manager: Option<PathBuf>,
}

/// A part of the hierarchy that we may shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtree {
    pub path: PathBuf,
    /// The controllers that it may give to cgroups below it.
    pub controllers: Vec<String>,
}

impl Cgroups {
    /// What a host without the unified hierarchy has.
    pub fn none(hierarchy: Hierarchy) -> Cgroups {
        Cgroups {
            hierarchy,
            own: PathBuf::from("/"),
            subtree: None,
            top: None,
            namespaced: false,
            delegate: Vec::new(),
            systemd: false,
            user_bus: Vec::new(),
            system_bus: Vec::new(),
            device_filter: false,
            user_controllers: None,
            manager: None,
        }
    }
}

/// Looks at /sys/fs/cgroup.
pub fn hierarchy() -> Hierarchy {
    // Of v1 there is a directory for each hierarchy; hardly any host is without all of these.
    let legacy = || ["memory", "pids", "systemd"].iter().any(|name| Path::new(ROOT).join(name).exists());
    match nix::sys::statfs::statfs(ROOT).map(|stat| stat.filesystem_type()) {
        Ok(nix::sys::statfs::CGROUP2_SUPER_MAGIC) => Hierarchy::Unified,
        Ok(_) if legacy() => Hierarchy::Legacy,
        _ => Hierarchy::Absent,
    }
}

/// Reads the facts. `euid` is ours in our own user namespace, `host_uid` what it is outside of it, `root` whether
/// we are the machine's.
pub fn read(euid: u32, host_uid: u32, root: bool) -> Cgroups {
    let mut facts = Cgroups::none(hierarchy());
    if facts.hierarchy != Hierarchy::Unified {
        return facts;
    }
    let Ok(own) = cgroup::of_process_self() else { return facts };
    facts.systemd = Path::new("/run/systemd/system").is_dir();
    facts.own = own;
    // PROC_CGROUP_INIT_INO of include/linux/proc_ns.h
    facts.namespaced = std::fs::metadata("/proc/self/ns/cgroup").is_ok_and(|meta| meta.ino() != 0xEFFF_FFFB);
    facts.delegate = delegate();
    facts.device_filter = root && cgroup::devices::supported();
    if root && writable(Path::new("/")) {
        facts.top = Some(subtree(PathBuf::from("/")));
    }
    if root {
        facts.system_bus = there(Manager::System, host_uid);
        facts.manager = Some(PathBuf::from("/"));
    } else {
        facts.user_bus = there(Manager::User, host_uid);
        let manager = format!("/user.slice/user-{host_uid}.slice/user@{host_uid}.service");
        facts.user_controllers = controllers(Path::new(&manager));
        facts.manager = facts.user_controllers.is_some().then(|| manager.into());
        let subtree_of_ours = match delegated(&facts.own, |path| look(path, euid)) {
            Delegated::Yes(path) => Some(path),
            Delegated::Ask(unit) => is_delegated(&unit, &facts.user_bus).then_some(unit),
            Delegated::No => None,
        };
        facts.subtree = subtree_of_ours.map(subtree);
    }
    facts
}

/// The kernel's list (/sys/kernel/cgroup/delegate, Linux 4.15), and without it the least that config-linux.md names.
fn delegate() -> Vec<CString> {
    let text = std::fs::read_to_string("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs cgroup.subtree_control cgroup.threads".into());
    let files = text.split_ascii_whitespace().filter(|name| !name.contains('/'));
    std::iter::once(".").chain(files).filter_map(|name| CString::new(name).ok()).collect()
}

fn subtree(path: PathBuf) -> Subtree {
    Subtree { controllers: controllers(&path).unwrap_or_default(), path }
}

fn controllers(path: &Path) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(place(path).join("cgroup.controllers")).ok()?;
    Some(text.split_ascii_whitespace().map(String::from).collect())
}

/// The places where a manager may be reached of which there is a socket. Whether somebody listens there, and is
/// systemd, shows when we ask.
fn there(manager: Manager, uid: u32) -> Vec<Candidate> {
    let text = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let (session_bus, system_bus) = (text("DBUS_SESSION_BUS_ADDRESS"), text("DBUS_SYSTEM_BUS_ADDRESS"));
    let environment = Environment {
        uid,
        runtime_dir: runtime_dir.as_deref(),
        session_bus: session_bus.as_deref(),
        system_bus: system_bus.as_deref(),
    };
    let mut all = systemd::candidates(manager, &environment);
    all.retain(|candidate| match &candidate.address {
        Address::Path(path) => is_socket(path),
        Address::Abstract(_) => true,
        Address::Other(_) => false,
    });
    all
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// What is to be seen of one cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Look {
    /// It belongs to us, and we may put processes and make cgroups there.
    ours: bool,
    /// systemd has marked it as delegated (the extended attribute user.delegate, systemd 251).
    marked: bool,
}

fn look(path: &Path, euid: u32) -> Look {
    let place = place(path);
    Look {
        ours: std::fs::metadata(&place).is_ok_and(|meta| meta.uid() == euid) && writable(path),
        marked: sys::path::attribute(&place, c"user.delegate").is_ok_and(|value| value == b"1"),
    }
}

fn writable(path: &Path) -> bool {
    let place = place(path);
    [place.clone(), place.join("cgroup.procs")]
        .iter()
        .all(|file| nix::unistd::eaccess(file, nix::unistd::AccessFlags::W_OK).is_ok())
}

/// What is known of a delegation by looking at the tree.
#[derive(Debug, PartialEq, Eq)]
enum Delegated {
    Yes(PathBuf),
    No,
    /// It is a unit of the user's manager, which cannot put marks on cgroups and has to be asked.
    Ask(PathBuf),
}

/// The topmost cgroup from our own one upwards that has been delegated to us.
///
/// In a hierarchy that systemd rules, that is the unit which we are in, if systemd says that it leaves it alone: a
/// cgroup may belong to us and still be for our manager to shape (systemd's CGROUP_DELEGATION.md, "two key
/// design rules"). Elsewhere, as in a container, it is what belongs to us.
fn delegated(own: &Path, look: impl Fn(&Path) -> Look) -> Delegated {
    let Some(unit) = own.ancestors().find(|path| is_unit(path)) else {
        let ours = own.ancestors().take_while(|path| look(path).ours).last();
        return ours.map_or(Delegated::No, |path| Delegated::Yes(path.to_path_buf()));
    };
    match look(unit) {
        Look { ours: true, .. } if is_manager(unit) => Delegated::No,
        Look { ours: true, marked: true } => Delegated::Yes(unit.to_path_buf()),
        Look { ours: true, marked: false } if unit.ancestors().any(is_manager) => {
            Delegated::Ask(unit.to_path_buf())
        }
        _ => Delegated::No,
    }
}

/// Asks the user's manager. Where it does not answer, nothing is ours.
fn is_delegated(unit: &Path, bus: &[Candidate]) -> bool {
    let name = unit.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Systemd::connect(bus).and_then(|mut systemd| systemd.delegates(name)).unwrap_or(false)
}

fn is_unit(path: &Path) -> bool {
    let suffix = path.extension().and_then(|suffix| suffix.to_str());
    matches!(suffix, Some("scope" | "service" | "slice"))
}

/// What a user's manager was given is the manager's.
fn is_manager(unit: &Path) -> bool {
    let name = unit.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("user@") && name.ends_with(".service")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In these hierarchies everything at or below `ours` belongs to us, and `marked` are delegated.
    fn find(own: &str, ours: &str, marked: &[&str]) -> Delegated {
        delegated(Path::new(own), |path| Look {
            ours: path.starts_with(ours),
            marked: marked.iter().any(|m| Path::new(m) == path),
        })
    }

    #[test]
    fn a_unit_is_ours_only_if_systemd_leaves_it_alone() {
        let manager = "/user.slice/user-1000.slice/user@1000.service";
        let app = &format!("{manager}/app.slice/run-7.scope");
        assert_eq!(find(app, manager, &[manager]), Delegated::Ask(app.into()));
        assert_eq!(find(&format!("{app}/supervisor"), manager, &[manager]), Delegated::Ask(app.into()));
        assert_eq!(find(manager, manager, &[manager]), Delegated::No);
        assert_eq!(find("/user.slice/user-1000.slice/session-3.scope", manager, &[manager]), Delegated::No);
        let service = "/system.slice/runner.service";
        assert_eq!(find(&format!("{service}/leaf"), service, &[service]), Delegated::Yes(service.into()));
        assert_eq!(find(service, service, &[]), Delegated::No);
    }

    #[test]
    fn without_systemd_it_is_what_belongs_to_us() {
        assert_eq!(find("/", "/", &[]), Delegated::Yes("/".into()));
        assert_eq!(find("/jobs/7/leaf", "/jobs/7", &[]), Delegated::Yes("/jobs/7".into()));
        assert_eq!(find("/jobs/7/leaf", "/other", &[]), Delegated::No);
    }
}
