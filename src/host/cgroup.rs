//! Which cgroup hierarchy there is, where in it we are, and what of it has been delegated to us.

use crate::cgroup::{self, ROOT, place};
use crate::sys;
use serde::{Deserialize, Serialize};
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
    /// systemd is the system's manager.
    pub systemd: bool,
    pub user_bus: Bus,
    pub system_bus: Bus,
    /// The kernel can filter devices by cgroup, and lets us.
    pub device_filter: bool,
    /// The controllers that the user's manager has; `None` where that is not to be seen.
    pub user_controllers: Option<Vec<String>>,
}

/// A part of the hierarchy that we may shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtree {
    pub path: PathBuf,
    /// The controllers that it may give to cgroups below it.
    pub controllers: Vec<String>,
}

/// The addresses at which a systemd manager may answer; none where there is no socket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bus(pub Vec<String>);

impl Cgroups {
    /// What a host without the unified hierarchy has.
    pub fn none(hierarchy: Hierarchy) -> Cgroups {
        Cgroups {
            hierarchy,
            own: PathBuf::from("/"),
            subtree: None,
            top: None,
            systemd: false,
            user_bus: Bus::default(),
            system_bus: Bus::default(),
            device_filter: false,
            user_controllers: None,
        }
    }
}

/// Looks at /sys/fs/cgroup.
pub fn hierarchy() -> Hierarchy {
    use std::os::fd::AsFd;
    let Ok(dir) = std::fs::File::open(ROOT) else { return Hierarchy::Absent };
    match sys::mount::magic(dir.as_fd()) {
        Ok(sys::mount::CGROUP2_SUPER_MAGIC) => Hierarchy::Unified,
        // A tmpfs with a directory for each hierarchy.
        _ if Path::new(ROOT).read_dir().is_ok_and(|mut entries| entries.next().is_some()) => {
            Hierarchy::Legacy
        }
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
    facts.subtree = delegated(&facts.own, |path| look(path, euid)).map(subtree);
    if root && writable(Path::new("/")) {
        facts.top = Some(subtree(PathBuf::from("/")));
    }
    if root {
        let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
        facts.system_bus = Bus(addresses(address, &["/run/dbus/system_bus_socket", "/run/systemd/private"]));
    } else {
        facts.user_bus = user_bus(host_uid);
        let manager = format!("/user.slice/user-{host_uid}.slice/user@{host_uid}.service");
        facts.user_controllers = controllers(Path::new(&manager));
    }
    facts
}

fn subtree(path: PathBuf) -> Subtree {
    Subtree { controllers: controllers(&path).unwrap_or_default(), path }
}

fn controllers(path: &Path) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(place(path).join("cgroup.controllers")).ok()?;
    Some(text.split_ascii_whitespace().map(String::from).collect())
}

/// How the user's manager is reached: by the session's bus, or by its private socket where there is no bus.
fn user_bus(uid: u32) -> Bus {
    let session = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok();
    let runtime = std::env::var("XDG_RUNTIME_DIR").ok().filter(|dir| dir.starts_with('/'));
    let runtime = runtime.unwrap_or_else(|| format!("/run/user/{uid}"));
    Bus(addresses(session, &[&format!("{runtime}/bus"), &format!("{runtime}/systemd/private")]))
}

/// The address that the environment names, and those of the sockets that exist.
fn addresses(named: Option<String>, sockets: &[&str]) -> Vec<String> {
    let there = sockets.iter().filter(|path| is_socket(path)).map(|path| format!("unix:path={path}"));
    let mut all: Vec<String> = named.into_iter().filter(|a| !a.is_empty()).chain(there).collect();
    all.dedup();
    all
}

fn is_socket(path: &str) -> bool {
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

/// The topmost cgroup from our own one upwards that has been delegated to us.
///
/// In a hierarchy that systemd rules, that is the unit which we are in, if systemd says that it leaves it alone: a
/// cgroup may belong to us and still be for our manager to shape (systemd's CGROUP_DELEGATION.md, "two key
/// design rules"). Elsewhere, as in a container, it is what belongs to us.
fn delegated(own: &Path, look: impl Fn(&Path) -> Look) -> Option<PathBuf> {
    if let Some(unit) = own.ancestors().find(|path| is_unit(path)) {
        let found = look(unit);
        return (found.ours && found.marked && !is_manager(unit)).then(|| unit.to_path_buf());
    }
    own.ancestors().take_while(|path| look(path).ours).last().map(Path::to_path_buf)
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
    fn find(own: &str, ours: &str, marked: &[&str]) -> Option<PathBuf> {
        delegated(Path::new(own), |path| Look {
            ours: path.starts_with(ours),
            marked: marked.iter().any(|m| Path::new(m) == path),
        })
    }

    #[test]
    fn a_unit_is_ours_only_if_systemd_leaves_it_alone() {
        let manager = "/user.slice/user-1000.slice/user@1000.service";
        let app = &format!("{manager}/app.slice/run-7.scope");
        assert_eq!(find(app, manager, &[manager]), None);
        assert_eq!(find(app, manager, &[manager, app]), Some(app.into()));
        assert_eq!(find(&format!("{app}/supervisor"), manager, &[manager, app]), Some(app.into()));
        assert_eq!(find(&format!("{manager}/init.scope"), manager, &[manager]), None);
        assert_eq!(find(manager, manager, &[manager]), None);
        assert_eq!(find("/user.slice/user-1000.slice/session-3.scope", manager, &[manager]), None);
    }

    #[test]
    fn without_systemd_it_is_what_belongs_to_us() {
        assert_eq!(find("/", "/", &[]), Some("/".into()));
        assert_eq!(find("/jobs/7/leaf", "/jobs/7", &[]), Some("/jobs/7".into()));
        assert_eq!(find("/jobs/7/leaf", "/other", &[]), None);
    }

    #[test]
    fn addresses_are_what_was_named_and_what_exists() {
        assert_eq!(addresses(None, &["/nowhere"]), [""; 0]);
        assert_eq!(addresses(Some("unix:path=/x".into()), &["/nowhere"]), ["unix:path=/x"]);
        assert_eq!(addresses(Some(String::new()), &["/dev/null"]), [""; 0]);
    }
}
