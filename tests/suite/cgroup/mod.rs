//! cgroup v2: limits, accounting, freezing and killing, with both managers, as a plain user and as root.
//!
//! These need cgroup v2 and a login session of systemd's, so `scripts/test` runs them in the guest; where
//! something of this is missing they fail. Hosts without it are the matter of [`crate::nocgroup`].
//!
//! What holds for both managers is written once, as a function of a [`Ground`], and [`both_managers!`] makes
//! two tests of it. systemd is asked by whoever calls, from a login session and so from outside of
//! user@.service, as people do. cgroupfs needs a subtree of the caller's own, which root has anyway; a plain
//! user's test starts itself once more in a delegated scope ([`Manager::ground`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::lab::{Bundle, Container, Lab, PATIENCE, eventually};

mod conformance;
mod exec;
mod explain;
mod fire;
mod freezer;
mod leftovers;
mod limits;
mod namespace;
mod processes;
mod readme;
mod session;
mod table;

const MOUNT: &str = "/sys/fs/cgroup";

/// Tells a test that it runs in a scope that was delegated to it.
const DELEGATED: &str = "BRYO_SUITE_DELEGATED";

/// Make the tests `NAME::systemd` and `NAME::cgroupfs` of each function of a [`Ground`].
macro_rules! both_managers {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::cgroup::Manager;

            #[test]
            #[ignore = "needs cgroup v2 and systemd: scripts/test runs it in the guest"]
            fn systemd() {
                Manager::Systemd.ground(concat!(module_path!(), "::systemd"), super::$name);
            }

            #[test]
            #[ignore = "needs cgroup v2 and systemd: scripts/test runs it in the guest"]
            fn cgroupfs() {
                Manager::Cgroupfs.ground(concat!(module_path!(), "::cgroupfs"), super::$name);
            }
        }
    )+};
}
pub(crate) use both_managers;

/// Leave a test of how a process is moved to a container's cgroup where runc moves none: asked by a plain user
/// from a login session it starts the process all the same, and leaves it there.
macro_rules! reachable_for_runc {
    ($ground:ident) => {
        if $ground.manager == crate::cgroup::Manager::Systemd && !nix::unistd::geteuid().is_root() {
            crate::lab::bryo_only!("runc leaves the process in the login session");
        }
    };
}
pub(crate) use reachable_for_runc;

// ---------------------------------------------------------------------------------------------------------
// Managers, and the ground on which their containers grow

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    Systemd,
    Cgroupfs,
}

impl Manager {
    /// Run this test where the manager can work. `name` is the test's full name.
    pub fn ground(self, name: &str, test: fn(&Ground)) {
        if self == Manager::Cgroupfs && !geteuid().is_root() && std::env::var_os(DELEGATED).is_none() {
            return again_in_a_delegated_scope(name);
        }
        test(&Ground::new(self));
    }

    /// The global options by which this runtime takes this manager.
    fn options(self, runtime: &Path) -> Vec<String> {
        let names = |name: &str| runtime.file_name().is_some_and(|n| n == name);
        match self {
            Manager::Systemd => vec!["--systemd-cgroup".into()],
            // What runc does unless it is told otherwise, and it has no other word for it.
            Manager::Cgroupfs if names("runc") => Vec::new(),
            Manager::Cgroupfs => vec!["--cgroup-manager".into(), "cgroupfs".into()],
        }
    }
}

/// Start the test again in a scope that systemd has delegated to the caller, and give its verdict. The kernel
/// lets nobody move a process from a login session into a subtree of user@.service, so that whoever works
/// with cgroups by hand has to be there first.
fn again_in_a_delegated_scope(name: &str) {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let unit = format!("--unit=bryo-tests-{}-{serial}", std::process::id());
    // Without the crate's name, as libtest has it.
    let test = name.split_once("::").unwrap().1;
    let ran = Command::new("systemd-run")
        .args(["--user", "--scope", "--quiet", "--property=Delegate=yes", &unit, "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(DELEGATED, "1")
        .output()
        .unwrap_or_else(|e| panic!("systemd-run: {e}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "in a delegated scope:\n{stdout}{stderr}");
    assert!(stdout.contains("1 passed"), "no test {test}: {stdout}{stderr}");
    for note in stderr.lines().filter(|l| l.contains(": not for ")) {
        crate::lab::note(note);
    }
}

/// A [`Lab`] for containers with cgroups of one manager.
pub struct Ground {
    pub lab: Lab,
    pub manager: Manager,
    /// The cgroup that containers of cgroupfs are made in.
    parent: PathBuf,
}

impl Ground {
    fn new(manager: Manager) -> Ground {
        let mounted = statfs(MOUNT).unwrap().filesystem_type();
        assert!(
            mounted == CGROUP2_SUPER_MAGIC,
            "{MOUNT} is no cgroup v2; scripts/guest is a machine with it"
        );
        let parent = match manager {
            Manager::Cgroupfs if !geteuid().is_root() => leave_own_cgroup(),
            _ => PathBuf::from("/"),
        };
        Ground { lab: Lab::in_session(), manager, parent }
    }

    /// The same place for the runtime that bryo is compared with.
    pub fn of_runc(&self) -> Ground {
        let lab = Lab::in_session_of("/usr/sbin/runc");
        Ground { lab, manager: self.manager, parent: self.parent.clone() }
    }

    /// A container that sleeps, with an id, a manager and a cgroupsPath. Root's has no user namespace.
    pub fn bundle(&self) -> Bundle<'_> {
        let id = self.lab.id();
        let path = match self.manager {
            Manager::Systemd => format!("user.slice:bryo:{id}"),
            Manager::Cgroupfs => self.parent.join(&id).into_os_string().into_string().unwrap(),
        };
        let bundle = self.lab.bundle().named(&id).sleeps().with(|c| c["linux"]["cgroupsPath"] = path.into());
        let bundle = bundle.with_globals(self.manager.options(&self.lab.runtime));
        if !geteuid().is_root() {
            return bundle;
        }
        bundle.without_namespace("user").with(|c| {
            c["linux"].as_object_mut().unwrap().remove("uidMappings");
            c["linux"].as_object_mut().unwrap().remove("gidMappings");
        })
    }

    /// The same with these resources.
    pub fn limited(&self, resources: Value) -> Bundle<'_> {
        self.bundle().with(|c| c["linux"]["resources"] = resources)
    }

    /// What systemd says about this property of a container's scope.
    pub fn property(&self, container: &Container, name: &str) -> String {
        let unit = format!("bryo-{}.scope", container.id);
        self.lab
            .systemctl(["show", "--value", "--property", name, &unit])
            .done()
            .ok()
            .stdout
            .trim()
            .to_owned()
    }
}

/// Move this process, which is alone in its cgroup, to a leaf of it, and answer with the cgroup: controllers
/// can be enabled for what is below it only while it has no processes of its own.
fn leave_own_cgroup() -> PathBuf {
    let own = Cgroup::of("self");
    let leaf = own.dir().join("tests");
    fs::create_dir(&leaf).unwrap();
    fs::write(leaf.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    assert_eq!(own.read("cgroup.procs"), "", "others are in {}", own.path.display());
    own.path
}

// ---------------------------------------------------------------------------------------------------------
// Cgroup

/// A cgroup as the host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// As in /proc/PID/cgroup.
    pub path: PathBuf,
}

impl Cgroup {
    /// The one that a process is in.
    #[track_caller]
    pub fn of(pid: impl std::fmt::Display) -> Cgroup {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        Cgroup { path: text.trim_end().strip_prefix("0::").unwrap_or_else(|| panic!("{text}")).into() }
    }

    /// The one of a container, which is its first process's.
    #[track_caller]
    pub fn of_container(container: &Container) -> Cgroup {
        let cgroup = Cgroup::of(container.pid());
        let named = cgroup.path.components().any(|c| c.as_os_str().to_string_lossy().contains(&container.id));
        assert!(named, "{} is in {}", container.id, cgroup.path.display());
        cgroup
    }

    pub fn dir(&self) -> PathBuf {
        Path::new(MOUNT).join(self.path.strip_prefix("/").unwrap())
    }

    /// A file of it, without the last newline.
    #[track_caller]
    pub fn read(&self, file: &str) -> String {
        let path = self.dir().join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim_end().to_owned()
    }

    /// The number behind a key in a flat keyed file: `usage_usec` of `cpu.stat`.
    #[track_caller]
    pub fn number(&self, file: &str, key: &str) -> u64 {
        let text = self.read(file);
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {key} in {file}: {text}")).parse().unwrap()
    }

    /// Each of the files has this content.
    #[track_caller]
    pub fn holds(&self, files: &[(&str, &str)]) {
        for (file, value) in files {
            assert_eq!(self.read(file), *value, "{file} of {}", self.path.display());
        }
    }

    /// The processes in it and below it.
    pub fn processes(&self) -> Vec<i32> {
        fn collect(dir: &Path, pids: &mut Vec<i32>) {
            // One that goes meanwhile has none.
            let own = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(own.lines().map(|line| line.parse::<i32>().unwrap()));
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    collect(&entry.path(), pids);
                }
            }
        }
        let mut pids = Vec::new();
        collect(&self.dir(), &mut pids);
        pids.sort_unstable();
        pids
    }

    pub fn exists(&self) -> bool {
        self.dir().exists()
    }
}

/// Wait for what has to come.
#[track_caller]
pub fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    assert!(eventually(PATIENCE, condition), "no {what} within {PATIENCE:?}");
}

/// With a cgroup namespace, and the container's own cgroup at the usual place.
pub fn with_own_cgroup_mount<'lab>(bundle: Bundle<'lab>, mode: &str) -> Bundle<'lab> {
    bundle.namespace("cgroup", None).add_mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", mode],
    }))
}
