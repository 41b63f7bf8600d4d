//! Checkpoint and restore, decided: who may, what of a container lies outside of it, and what criu is told of that.
//!
//! Whatever a container has of its own, criu dumps and makes anew: processes, namespaces, the file systems of memory
//! with their files. What lies *outside* has to be named at the dump, and to be found at the restore:
//!
//! | what                            | known at the dump by                 | name in the images       | at the restore              |
//! |---------------------------------|--------------------------------------|--------------------------|-----------------------------|
//! | root file system                | it is the root                       | -                        | root.path of the bundle     |
//! | bind mounts, nodes of the host  | its file system is one that we see   | the place inside         | config.json of the bundle   |
//! | a masked file                   | a bind of the host's /dev/null       | /dev/null                | /dev/null                   |
//! | pipes as standard streams       | what /proc calls them                | `pipe:[N]`               | our own standard streams    |
//! | files and devices as such       | no mount of the container has them   | `file[MOUNT:INODE]`      | likewise                    |
//! | joined network or pid namespace | the record                           | extRootNetNS, ...PidNS   | the path in config.json     |
//! | interfaces of its own network   | -                                    | none: the network is empty | hooks, or bryo's helper   |
//!
//! The names are those that runc gives, so that images of the one can be restored by the other. What is outside is read from
//! the container as it is, and not from its configuration: that may have been changed since, the kernel may have made us show
//! a part of the host where something new was wanted, and a process inside with the right to mount may have made
//! more of them. runc does not know of files as standard streams, and fails there.

use super::Plan;
use super::step::{Bind, Op};
use crate::criu::{CgroupMode, Options};
use crate::host::criu::{Criu, Inside};
use crate::host::mounts::Mount;
use crate::host::{CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN};
use crate::report::Failure;
use crate::state::Record;
use crate::sys::clone::time_namespace;
use crate::sys::mount::{ATTR_NODEV, ATTR_RDONLY, Attr};
use nix::sched::CloneFlags;
use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What both verbs are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    pub tcp_established: bool,
    pub ext_unix_sk: bool,
    pub shell_job: bool,
    pub file_locks: bool,
    pub lazy_pages: bool,
    pub auto_dedup: bool,
    pub manage_cgroups: Option<CgroupMode>,
}

/// Where runc's users put what holds for all their checkpoints.
const CONFIG: &str = "/etc/criu/runc.conf";
/// The annotation that names another file, or by its empty value none.
pub const CONFIG_ANNOTATION: &str = "org.criu.config";

/// The program, if it is there and may do its work.
///
/// # Errors
/// `CRIU`, with what is missing.
pub fn allowed<'a>(criu: &'a Criu, act: &str) -> Result<&'a Path, Failure> {
    let refuse = |cause: String| Failure::new(act, cause).code("CRIU");
    let has = |cap: u32| ((criu.capabilities | criu.file_capabilities) >> cap) & 1 == 1;
    if !criu.kernel {
        let cause = "the kernel was built without CONFIG_CHECKPOINT_RESTORE: operation not supported";
        return Err(refuse(cause.into()).fix("boot a kernel that has it; those of the distributions do"));
    }
    let root = "as root of the machine: sudo bryo ..., with the container's --root";
    if criu.in_child_userns {
        let cause = "CAP_CHECKPOINT_RESTORE counts in the machine's own user namespace only, and this is another: operation not permitted";
        return Err(refuse(cause.into()).fix(format!("outside of it, {root}")));
    }
    // It enters the container's namespaces.
    if !has(CAP_SYS_ADMIN) {
        let needs = if has(CAP_CHECKPOINT_RESTORE) {
            "criu needs CAP_SYS_ADMIN for a container's namespaces, CAP_CHECKPOINT_RESTORE is not enough, and"
        } else {
            "criu needs CAP_CHECKPOINT_RESTORE, and CAP_SYS_ADMIN for a container's namespaces, and"
        };
        let lacks = if has(CAP_CHECKPOINT_RESTORE) { "lacks it" } else { "has neither" };
        let cause = format!("{needs} uid {} {lacks}: operation not permitted", criu.euid);
        return Err(refuse(cause).fix(root));
    }
    criu.program.as_deref().ok_or_else(|| {
        let named = criu.asked.display();
        if criu.asked.as_os_str() == "criu" {
            refuse("there is no criu: no such file or directory".into())
                .fix("install it (Debian, Fedora: criu), or name it with --criu PATH")
        } else {
            refuse(format!("there is no {named}: no such file or directory"))
                .fix("name criu's own path with --criu")
        }
    })
}

/// Whether we may do what is our own part of a restore, however much criu may.
///
/// # Errors
/// `CRIU`, with what is missing.
pub fn may_restore(criu: &Criu, act: &str) -> Result<(), Failure> {
    if (criu.capabilities >> CAP_SYS_ADMIN) & 1 == 1 {
        return Ok(());
    }
    let cause = format!(
        "bryo itself needs CAP_SYS_ADMIN to mount the root file system for criu, and uid {} lacks it: operation not permitted",
        criu.euid
    );
    Err(Failure::new(act, cause).code("CRIU").fix("as root of the machine: sudo bryo ..."))
}

/// What is common to both.
fn common(facts: &Criu, flags: &Flags, annotation: Option<&String>) -> Options {
    Options {
        tcp_established: flags.tcp_established,
        ext_unix_sk: flags.ext_unix_sk,
        shell_job: flags.shell_job,
        file_locks: flags.file_locks,
        lazy_pages: flags.lazy_pages,
        auto_dedup: flags.auto_dedup,
        unprivileged: facts.euid != 0,
        manage_cgroups: Some(flags.manage_cgroups.unwrap_or(CgroupMode::Soft)),
        // Interfaces are never dumped: what makes them makes them again.
        empty_ns: CloneFlags::CLONE_NEWNET.bits() as u32,
        config_file: match annotation.map(String::as_str) {
            None => Some(CONFIG.into()),
            Some("") => None,
            Some(file) => Some(file.into()),
        },
        ..Options::default()
    }
}

/// What criu is told to dump a container, and which of its standard streams it finds again by which names.
///
/// # Errors
/// A container that could not be restored.
pub fn dump(
    record: &Record,
    facts: &Criu,
    inside: &Inside,
    flags: &Flags,
) -> Result<(Options, Vec<String>), Failure> {
    if is_made_inside(inside) {
        return Err(Failure::new(
            format!("cannot checkpoint container {}", record.id),
            "its root file system is made of layers, which criu cannot put together again: operation not supported",
        )
        .code("CRIU")
        .fix("run it on a plain directory: bryo bundle --flat, without --ephemeral and --overlay"));
    }
    if record.shares_mounts() {
        return Err(no_mounts_of_its_own(format!("cannot checkpoint container {}", record.id)));
    }
    let cgroup = record.cgroup.as_ref();
    let mut options = Options {
        pid: record.pid,
        root: Some(record.rootfs.clone()),
        orphan_pts_master: true,
        freeze_cgroup: cgroup.map(|cgroup| crate::cgroup::place(&cgroup.path)),
        log_file: "dump.log".into(),
        ext_mnt: outside(inside),
        ..common(facts, flags, record.annotations.get(CONFIG_ANNOTATION))
    };
    let joined = CloneFlags::from_bits_retain(record.joined);
    for (kind, name, number, key) in [
        (CloneFlags::CLONE_NEWNET, "net", inside.network, NETWORK),
        (CloneFlags::CLONE_NEWPID, "pid", inside.pids, PIDS),
    ] {
        if joined.contains(kind) {
            options.external.push(format!("{name}[{number}]:{key}"));
        }
    }
    let mut names = Vec::new();
    for stream in &inside.streams {
        let known = inside.mounts.iter().any(|mount| mount.id == stream.mount);
        if stream.terminal && !known && !flags.shell_job {
            let cause = format!("{} is a terminal of somebody outside: operation not supported", stream.link);
            return Err(Failure::new(format!("cannot checkpoint container {}", record.id), cause)
                .code("CRIU")
                .fix("add --shell-job, and restore it on a terminal with --shell-job"));
        }
        names.push(if stream.plain && !known {
            let name = format!("file[{:x}:{:x}]", stream.mount, stream.inode);
            options.external.push(name.clone());
            name
        } else {
            stream.link.clone()
        });
    }
    Ok((options, names))
}

fn no_mounts_of_its_own(act: String) -> Failure {
    Failure::new(
        act,
        "it has no mount namespace of its own, and criu would take the host's mounts for its: operation not supported",
    )
    .code("CRIU")
    .fix("add {\"type\": \"mount\"} to linux.namespaces")
}

/// The names that runc gives to joined namespaces.
const NETWORK: &str = "extRootNetNS";
const PIDS: &str = "extRootPidNS";

/// The container's root was mounted by its own init.
fn is_made_inside(inside: &Inside) -> bool {
    root(&inside.mounts).is_some_and(|root| !inside.ours.contains(&root.device))
}

fn root(mounts: &[Mount]) -> Option<&Mount> {
    mounts.iter().rev().find(|mount| mount.at == Path::new("/"))
}

/// File systems that criu mounts anew, by the new namespaces or by those that are shared: they are the same then.
const MADE_ANEW: [&str; 3] = ["proc", "mqueue", "devpts"];

/// Whether criu is to mount a file system anew, with all that is bound from it elsewhere.
fn is_made_anew(mount: &Mount, inside: &Inside) -> bool {
    let whole = mount.root == Path::new("/");
    match mount.fstype.as_str() {
        // What is bound from the machine's is another one than criu would make.
        "sysfs" => whole && !inside.ours.contains(&mount.device),
        // All of it is the machine's, too. What the container's cgroup namespace shows is not; criu mounts it from there.
        "cgroup" | "cgroup2" => !whole && inside.cgroup.starts_with(&mount.root),
        fstype => whole && MADE_ANEW.contains(&fstype),
    }
}

/// The mounts that show something from outside, each with its name in the images.
fn outside(inside: &Inside) -> Vec<(PathBuf, PathBuf)> {
    let root = root(&inside.mounts);
    let anew = inside.mounts.iter().filter(|mount| is_made_anew(mount, inside));
    let anew: BTreeSet<&str> = anew.map(|mount| mount.device.as_str()).collect();
    let is_outside = |mount: &&Mount| {
        let below_root =
            root.is_some_and(|root| root.device == mount.device && mount.root.starts_with(&root.root));
        // All cgroup namespaces show the same file system.
        let anew =
            if is_cgroup(mount) { is_made_anew(mount, inside) } else { anew.contains(mount.device.as_str()) };
        mount.at != Path::new("/") && inside.ours.contains(&mount.device) && !anew && !below_root
    };
    let named = |mount: &Mount| {
        let null = mount.fstype == "devtmpfs" && mount.root == Path::new("/null");
        (mount.at.clone(), if null { "/dev/null".into() } else { mount.at.clone() })
    };
    inside.mounts.iter().filter(is_outside).map(named).collect()
}

fn is_cgroup(mount: &Mount) -> bool {
    matches!(mount.fstype.as_str(), "cgroup" | "cgroup2")
}

/// What criu is told to restore a container as it was planned; what takes descriptors is added by who has them.
///
/// # Errors
/// What criu cannot do.
pub fn restore(
    plan: &Plan,
    facts: &Criu,
    flags: &Flags,
    annotation: Option<&String>,
) -> Result<Options, Failure> {
    let refuse = |cause: &str, fix: &str| {
        Err(Failure::new(
            format!("cannot restore container {}", plan.id),
            format!("{cause}: operation not supported"),
        )
        .code("CRIU")
        .fix(fix))
    };
    if plan.namespaces.shares_mounts() {
        return Err(no_mounts_of_its_own(format!("cannot restore container {}", plan.id)));
    }
    if plan.layers.is_some() {
        return refuse(
            "criu cannot put a root file system of layers together",
            "restore it on a plain directory: bryo bundle --flat",
        );
    }
    let mut options = Options {
        root: Some(plan.rootfs.clone()),
        log_file: "restore.log".into(),
        evasive_devices: true,
        rst_sibling: true,
        // A terminal that is not the container's own is the one that criu has from us.
        orphan_pts_master: plan.process.terminal || !flags.shell_job,
        ..common(facts, flags, annotation)
    };
    for (kind, path) in &plan.namespaces.joined {
        match *kind {
            // By a descriptor, see `descriptors`.
            CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID => {}
            CloneFlags::CLONE_NEWIPC => options.join_ns.push(("ipc", path.clone())),
            CloneFlags::CLONE_NEWUTS => options.join_ns.push(("uts", path.clone())),
            CloneFlags::CLONE_NEWUSER => options.join_ns.push(("user", path.clone())),
            CloneFlags::CLONE_NEWNS => options.join_ns.push(("mnt", path.clone())),
            _ => {
                let cause = format!("criu cannot have a container join {}", path.display());
                return refuse(&cause, "leave the path of that namespace out of config.json");
            }
        }
    }
    Ok(options)
}

/// Whether what was restored is isolated as the plan says. That is in the images, and who has taken the wrong ones would
/// get a container that is less of one.
///
/// # Errors
/// A namespace that is there and should not be, or the other way round.
pub fn check_namespaces(plan: &Plan, found: CloneFlags, act: &str) -> Result<(), Failure> {
    // criu makes one of these whatever there was, so that clocks go on from where they were.
    let own = |kinds: CloneFlags| {
        kinds
            - time_namespace()
            - plan.namespaces.joined.iter().fold(CloneFlags::empty(), |all, (kind, _)| all | *kind)
    };
    let (wanted, found) = (own(plan.namespaces.all()), own(found));
    if wanted == found {
        return Ok(());
    }
    let list = |kinds: CloneFlags| {
        let names = kinds.iter_names().map(|(name, _)| name.trim_start_matches("CLONE_NEW").to_lowercase());
        names.collect::<Vec<_>>().join(", ")
    };
    let cause = if (wanted - found).is_empty() {
        format!("the images have namespaces that config.json does not list: {}", list(found - wanted))
    } else {
        format!("config.json lists namespaces that the images do not have: {}", list(wanted - found))
    };
    Err(Failure::new(act, format!("{cause}: invalid argument"))
        .code("CRIU")
        .fix("take the images and the bundle of the same container"))
}

/// Whether criu makes no cgroup namespace and is to be in the container's.
pub fn lends_cgroup_namespace(plan: &Plan, flags: &Flags) -> bool {
    flags.manage_cgroups == Some(CgroupMode::Ignore) && plan.namespaces.is_new(CloneFlags::CLONE_NEWCGROUP)
}

/// The joined namespaces that criu takes by a descriptor, and the names it knows them by.
pub fn descriptors(plan: &Plan) -> Vec<(&'static str, &Path)> {
    let named = |(kind, path): &(CloneFlags, PathBuf)| match *kind {
        CloneFlags::CLONE_NEWNET => Some((NETWORK, path.clone())),
        CloneFlags::CLONE_NEWPID => Some((PIDS, path.clone())),
        _ => None,
    };
    plan.namespaces.joined.iter().filter_map(|joined| Some((named(joined)?.0, joined.1.as_path()))).collect()
}

/// The attributes of the root mount, which criu takes as it finds it.
pub fn root_attributes(plan: &Plan) -> Attr {
    let set = plan.steps.iter().fold(0, |set, step| match step.op {
        Op::RootReadOnly => set | ATTR_RDONLY,
        Op::Root { nodev: true, .. } => set | ATTR_NODEV,
        _ => set,
    });
    Attr { set, ..Attr::default() }
}

/// What a name in the images stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: PathBuf,
    pub path: PathBuf,
    /// Should that be a link, its end is meant.
    pub follow: bool,
}

impl Source {
    /// Where something of outside is found.
    pub fn at(name: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Source {
        Source { name: name.into(), path: path.into(), follow: true }
    }
}

/// Where things of outside are found now. Of several for one name the first counts: what was wanted comes before what may
/// have been had in its place, and both before what came along with a recursive bind.
pub fn sources(plan: &Plan, ours: &[Mount]) -> Vec<Source> {
    let wanted = plan.steps.iter().map(|step| &step.op);
    let instead = plan.steps.iter().flat_map(|step| step.or.iter().map(|other| &other.op));
    let ops: Vec<&Op> = wanted.chain(instead).collect();
    let source = |op: &&Op| match op {
        Op::Bind(bind) => {
            Some(Source { follow: !bind.links.shown, ..Source::at(path(&bind.at), path(&bind.source)) })
        }
        Op::Device { source, at, .. } => Some(Source::at(path(at), path(source))),
        // Of a container in our own network namespace it is ours.
        Op::Filesystem(fs) if fs.fstype.as_c_str() == c"sysfs" => Some(Source::at(path(&fs.at), "/sys")),
        _ => None,
    };
    let came_along = ops.iter().flat_map(|op| match op {
        Op::Bind(bind) => beneath(bind, ours),
        _ => Vec::new(),
    });
    let null = Source::at("/dev/null", "/dev/null");
    std::iter::once(null).chain(ops.iter().filter_map(source)).chain(came_along).collect()
}

/// The mounts beneath the source of a recursive one.
fn beneath(bind: &Bind, ours: &[Mount]) -> Vec<Source> {
    if !bind.recursive {
        return Vec::new();
    }
    let (source, at) = (path(&bind.source), path(&bind.at));
    let below = |mount: &Mount| {
        let below = mount.at.strip_prefix(&source).ok().filter(|below| !below.as_os_str().is_empty())?;
        Some(Source::at(at.join(below), &mount.at))
    };
    ours.iter().filter_map(below).collect()
}

/// Where something is mounted.
#[derive(Debug)]
pub struct Place {
    pub at: PathBuf,
    /// What is shown there, of a bind mount.
    pub source: Option<PathBuf>,
    /// If that is a link, it is a link here, and nothing is mounted.
    pub links_copied: bool,
    /// What the bind mount that it lies in shows, and where in that it is.
    pub within: Option<(PathBuf, PathBuf)>,
}

/// What has to be there to be mounted on, and what is shown there; none in a file system of its own, which comes with all
/// that is in it.
pub fn places(plan: &Plan) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for step in &plan.steps {
        let links_copied = matches!(&step.op, Op::Bind(bind) if bind.links.copied);
        let (at, source) = match &step.op {
            Op::Bind(bind) => (bind.at.as_c_str(), Some(bind.source.as_c_str())),
            Op::Filesystem(fs) => (fs.at.as_c_str(), None),
            Op::Device { source, at, .. } => (at.as_c_str(), Some(source.as_c_str())),
            _ => continue,
        };
        let (at, source) = (path(at), source.map(path));
        let above = places.iter().rfind(|above| at.starts_with(&above.at));
        let within = above.map(|above| (above.source.clone(), at.strip_prefix(&above.at)));
        match within {
            None => places.push(Place { at, source, links_copied, within: None }),
            Some((Some(shown), Ok(rest))) if !rest.as_os_str().is_empty() => {
                let within = Some((shown, rest.to_path_buf()));
                places.push(Place { at, source, links_copied, within });
            }
            Some(_) => {}
        }
    }
    places
}

fn path(text: impl AsRef<CStr>) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(text.as_ref().to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(device: &str, root: &str, at: &str, fstype: &str) -> Mount {
        Mount { id: 1, device: device.into(), root: root.into(), at: at.into(), fstype: fstype.into() }
    }

    /// As in a container of root's with a volume of the same disk as its root file system.
    #[test]
    fn what_is_outside_is_what_shows_a_file_system_of_ours() {
        let mounts = vec![
            mount("254:0", "/c/rootfs", "/", "ext4"),
            mount("0:50", "/", "/proc", "proc"),
            mount("0:51", "/", "/dev", "tmpfs"),
            mount("0:52", "/", "/dev/pts", "devpts"),
            mount("0:52", "/0", "/dev/console", "devpts"),
            mount("0:53", "/", "/sys", "sysfs"),
            mount("0:22", "/c", "/sys/fs/cgroup", "cgroup2"),
            mount("0:22", "/other", "/cgroup", "cgroup2"),
            mount("0:22", "/", "/all", "cgroup2"),
            mount("0:21", "/", "/host/sys", "sysfs"),
            mount("0:53", "/firmware", "/sys/fs/again", "sysfs"),
            mount("254:0", "/srv", "/data", "ext4"),
            mount("254:0", "/c/rootfs/etc", "/etc", "ext4"),
            mount("0:60", "/", "/volume", "tmpfs"),
            mount("0:50", "/sys", "/proc/sys", "proc"),
            mount("0:5", "/null", "/proc/kcore", "devtmpfs"),
            mount("0:5", "/fuse", "/dev/fuse", "devtmpfs"),
            mount("0:61", "/", "/proc/acpi", "tmpfs"),
        ];
        let ours = ["254:0", "0:21", "0:22", "0:60", "0:5"].map(String::from).into();
        let inside = Inside { mounts, ours, cgroup: "/c/init.scope".into(), ..Inside::default() };
        let found: Vec<_> =
            outside(&inside).into_iter().map(|(at, name)| (at, name.display().to_string())).collect();
        let same = |at: &str| (PathBuf::from(at), at.to_string());
        assert_eq!(
            found,
            [
                same("/cgroup"),
                same("/all"),
                same("/host/sys"),
                same("/data"),
                same("/volume"),
                (PathBuf::from("/proc/kcore"), "/dev/null".to_string()),
                same("/dev/fuse"),
            ]
        );
    }

    #[test]
    fn a_root_that_nobody_sees_outside_was_made_inside() {
        let inside = |device: &str| Inside {
            mounts: vec![mount(device, "/", "/", "overlay")],
            ours: ["0:40".to_string()].into(),
            ..Inside::default()
        };
        assert!(is_made_inside(&inside("0:41")));
        assert!(!is_made_inside(&inside("0:40")));
    }

    #[test]
    fn who_may_not_is_told_what_is_missing() {
        let root = Criu {
            asked: "criu".into(),
            program: Some("/usr/sbin/criu".into()),
            file_capabilities: 0,
            euid: 0,
            capabilities: u64::MAX,
            in_child_userns: false,
            kernel: true,
        };
        assert_eq!(allowed(&root, "cannot").unwrap(), Path::new("/usr/sbin/criu"));
        let user = Criu { euid: 1000, capabilities: 0, ..root.clone() };
        let told = |criu: &Criu| allowed(criu, "cannot checkpoint container web").unwrap_err().to_string();
        assert_eq!(
            told(&user),
            "cannot checkpoint container web: CRIU: criu needs CAP_CHECKPOINT_RESTORE, and CAP_SYS_ADMIN for a container's namespaces, and uid 1000 has neither: operation not permitted; fix: as root of the machine: sudo bryo ..., with the container's --root"
        );
        let half = Criu { file_capabilities: 1 << CAP_CHECKPOINT_RESTORE, ..user.clone() };
        assert!(told(&half).contains("CAP_CHECKPOINT_RESTORE is not enough, and uid 1000 lacks it"));
        let whole = Criu { file_capabilities: 1 << CAP_SYS_ADMIN, ..user.clone() };
        assert!(allowed(&whole, "cannot").is_ok());
        assert!(
            may_restore(&whole, "cannot")
                .unwrap_err()
                .to_string()
                .contains("bryo itself needs CAP_SYS_ADMIN")
        );
        assert!(may_restore(&root, "cannot").is_ok());
        assert!(told(&Criu { in_child_userns: true, ..root.clone() }).contains("user namespace"));
        assert!(told(&Criu { kernel: false, ..root.clone() }).contains("CONFIG_CHECKPOINT_RESTORE"));
        assert!(told(&Criu { program: None, ..root.clone() }).contains("install it"));
        assert!(told(&Criu { program: None, asked: "/x".into(), ..root }).contains("there is no /x"));
    }
}
