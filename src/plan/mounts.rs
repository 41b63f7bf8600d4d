//! The mounts of the configuration as steps, with what each becomes where a user namespace does not own
//! what it shows.

use super::degrade::Degradation;
use super::idmap::Idmap;
use super::idmapped;
use super::mount_label::{self, Way};
use super::namespaces::Namespaces;
use super::options::{self, Options};
use super::step::{ABSENT, Bind, Fallback, Filesystem, Ids, LOCKED, Links, Op, Properties, REFUSED, Step};
use super::{Context, c};
use crate::bundle::clean;
use crate::report::Failure;
use crate::sys::mount::{
    ATTR_ATIME, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW, ATTR_RDONLY, Attr,
};
use nix::libc;
use nix::sched::CloneFlags;
use oci_spec::runtime::Mount;
use std::path::{Path, PathBuf};

/// Everything that may be shown in place of a part of /proc (runc's list: these are what lxcfs provides).
const PROC_FILES: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// The longest value that fsconfig(2) takes.
const FSCONFIG_MAX: usize = 255;

/// The mounts as steps.
#[derive(Debug, Default)]
pub struct Mounts {
    /// In the order of the configuration.
    pub steps: Vec<Step>,
    /// What is to be read-only, but not before all that belongs in it is there.
    pub last: Vec<Step>,
}

/// Plans the mounts.
///
/// # Errors
/// A destination or an option that is refused.
pub fn steps(
    mounts: &[Mount],
    context: &Context<'_>,
    degradations: &mut Vec<Degradation>,
) -> Result<Mounts, Failure> {
    let mut planned = Mounts::default();
    for (n, mount) in mounts.iter().enumerate() {
        let mut step = step(mount, context, degradations)?;
        let at = place(mount, context);
        // Into /dev go the default devices and links. Asked last: of many mounts, to compare each with all costs more
        // than to make them.
        let filled = || {
            at == Path::new("/dev")
                || mounts[n + 1..].iter().any(|later| place(later, context).starts_with(&at))
        };
        if let Op::Filesystem(filesystem) = &mut step.op {
            let Properties { own, all, .. } = &mut filesystem.properties;
            // What else is there from the start has its mount points, or cannot get any.
            let empty = filesystem.fstype.as_c_str() == c"tmpfs";
            // What comes into it has options of its own: recursive is only what is beneath a mount when it is made.
            if empty && (own.set | all.set) & ATTR_RDONLY != 0 && filled() {
                own.set &= !ATTR_RDONLY;
                all.set &= !ATTR_RDONLY;
                let read_only = Attr { set: ATTR_RDONLY, ..Attr::default() };
                let properties = Properties { own: read_only, ..Properties::default() };
                planned.last.push(Op::Remount { at: filesystem.at.clone(), properties }.into());
            }
        }
        planned.steps.push(step);
        let of_cgroups = matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"));
        if let Some(uid) = context.cgroup_owner.filter(|_| of_cgroups) {
            let at = c(&at, || "cannot give the cgroup away".into())?;
            let files = context.facts.cgroups.delegate.clone();
            planned.steps.push(Op::OwnCgroup { at, uid, files }.into());
        }
    }
    Ok(planned)
}

/// Whether the configuration shows the host's /dev: then its nodes are there already.
pub fn has_host_dev(mounts: &[Mount]) -> bool {
    mounts.iter().any(|m| {
        let words = m.options().as_deref().unwrap_or_default();
        clean(m.destination()) == Path::new("/dev")
            && (m.typ().as_deref() == Some("bind") || words.iter().any(|w| w == "bind" || w == "rbind"))
    })
}

/// Whether something is mounted on /dev.
pub fn has_dev(mounts: &[Mount]) -> bool {
    mounts.iter().any(|m| clean(m.destination()) == Path::new("/dev"))
}

fn step(mount: &Mount, context: &Context<'_>, degradations: &mut Vec<Degradation>) -> Result<Step, Failure> {
    let at = place(mount, context);
    let act = || format!("cannot mount {} in container {}", at.display(), context.container);
    let words = mount.options().as_deref().unwrap_or_default();
    let options = options::parse(words).map_err(|cause| Failure::new(act(), cause))?;
    if at == Path::new("/") {
        return Err(Failure::new(act(), "the destination is the root itself: invalid argument"));
    }
    let bind = options.bind.is_some() || mount.typ().as_deref() == Some("bind");
    let fstype = mount.typ().as_deref().unwrap_or(if bind { "bind" } else { "none" });
    check_proc(&at, bind, fstype, mount.source().as_deref())
        .map_err(|cause| Failure::new(act(), cause).fix("mount it elsewhere"))?;
    let ids = idmapped::ids(mount, options.idmap.as_ref(), bind && !options.remount, context, &act)?;
    if options.remount {
        let remount = |properties| Ok(Op::Remount { at: c(&at, act)?, properties });
        return or_locked(&at, options.properties, context, remount);
    }
    if bind {
        return bind_step(mount, &at, &options, ids, context, act);
    }
    if options.links != Links::default() {
        return Err(Failure::new(act(), "src-nofollow, dest-nofollow and copy-symlink are for bind mounts"));
    }
    let planner = Planner { at: &at, options: &options, context, source: mount.source().as_deref() };
    match fstype {
        "proc" => planner.proc(degradations),
        "sysfs" => planner.sysfs(degradations),
        "mqueue" => planner.mqueue(degradations),
        "cgroup" | "cgroup2" => planner.cgroup(degradations),
        "devpts" => planner.devpts(degradations),
        other => Ok(planner.filesystem(other)?.into()),
    }
}

/// Where a mount goes, inside. As with runc, a destination may begin with the path of the root file system on the
/// host.
fn place(mount: &Mount, context: &Context<'_>) -> PathBuf {
    let at = clean(&Path::new("/").join(mount.destination()));
    match at.strip_prefix(context.rootfs) {
        Ok(inside) => Path::new("/").join(inside),
        Err(_) => at,
    }
}

/// A volume on /proc, or a proc that is none, is how masks were escaped (CVE-2019-16884, CVE-2019-19921).
fn check_proc(at: &Path, bind: bool, fstype: &str, source: Option<&Path>) -> Result<(), String> {
    if at == Path::new("/proc") {
        let is_proc = if bind { source.map(clean) == Some(PathBuf::from("/proc")) } else { fstype == "proc" };
        return if is_proc { Ok(()) } else { Err("only proc itself may be mounted on /proc".into()) };
    }
    if at.starts_with("/proc") && !PROC_FILES.iter().any(|file| at == Path::new(file)) {
        return Err("nothing may be mounted inside /proc".into());
    }
    Ok(())
}

fn bind_step(
    mount: &Mount,
    at: &Path,
    options: &Options,
    ids: Option<Ids>,
    context: &Context<'_>,
    act: impl Fn() -> String,
) -> Result<Step, Failure> {
    let source = mount.source().as_deref().filter(|s| !s.as_os_str().is_empty());
    let source = source.ok_or_else(|| Failure::new(act(), "a bind mount needs a source"))?;
    let source = if source.is_absolute() { source.to_path_buf() } else { context.bundle_dir.join(source) };
    let mut properties = options.properties;
    // Read-only /sys with a writable cgroup file system beneath it is CVE-2023-25809.
    if clean(&source).starts_with("/sys") && properties.own.set & ATTR_RDONLY != 0 {
        properties.all.set |= ATTR_RDONLY;
    }
    if context.nodev && properties.own.clear & ATTR_NODEV == 0 {
        properties.all.set |= ATTR_NODEV;
    }
    properties.own.clear |= implied(properties.own, context);
    let bind = Bind {
        source: c(&source, &act)?,
        at: c(at, &act)?,
        recursive: options.bind.unwrap_or(false),
        properties,
        links: options.links,
        ids,
        apart: false,
    };
    if bind.ids.is_some() {
        // The same errno says that they cannot be changed.
        return Ok(Op::Bind(bind).into());
    }
    or_locked(at, properties, context, |properties| Ok(Op::Bind(Bind { properties, ..bind.clone() })))
}

/// The flags of its source that a bind mount loses as soon as an option names one, as with runc and crun: their remount
/// by mount(2) sets what is named, and clears the rest but for the access time. Where it names none, it keeps all, and
/// within a user namespace all those that are locked there.
fn implied(named: Attr, context: &Context<'_>) -> u64 {
    if named.is_empty() {
        return 0;
    }
    let mut lost = ATTR_NOSYMFOLLOW;
    if !context.in_user_namespace() {
        lost |= ATTR_RDONLY | ATTR_NOSUID | ATTR_NOEXEC;
        // Where nothing else keeps the devices of a volume from being opened.
        lost |= if context.nodev { 0 } else { ATTR_NODEV };
    }
    lost & !named.set
}

/// The flags that a mount came with into a user namespace are locked (mount_namespaces(7)): more may be set, and none
/// of them cleared, nor the access time changed. Which these are, no file tells; the kernel refuses the change, and
/// then the mount keeps what it has.
fn or_locked(
    at: &Path,
    properties: Properties,
    context: &Context<'_>,
    op: impl Fn(Properties) -> Result<Op, Failure>,
) -> Result<Step, Failure> {
    let first = op(properties)?;
    // Nobody locks how links are followed.
    let kept =
        |attr: Attr| Attr { set: attr.set & !ATTR_ATIME, clear: attr.clear & ATTR_NOSYMFOLLOW, ..attr };
    let kept = Properties { own: kept(properties.own), all: kept(properties.all), ..properties };
    if kept == properties || !context.in_user_namespace() {
        return Ok(first.into());
    }
    let cost = Degradation::weaker(
        "MNT-LOCKED",
        format!("the flags of {} as the configuration has them", at.display()),
        "the locked flags of its source beside those that are set",
        "who mounted the source did it outside of our user namespace, where nobody may clear its flags",
    )
    .fix(format!("have who mounted the source clear its flags (ro, nosuid, nodev, noexec, noatime), or leave the options of {} out that clear them", at.display()));
    Ok(Step { op: first, or: vec![Fallback { on: LOCKED, op: op(kept)?, cost }] })
}

/// What the special file systems have in common.
struct Planner<'a> {
    at: &'a Path,
    options: &'a Options,
    context: &'a Context<'a>,
    source: Option<&'a Path>,
}

impl Planner<'_> {
    fn act(&self) -> String {
        format!("cannot mount {} in container {}", self.at.display(), self.context.container)
    }

    fn namespaces(&self) -> &Namespaces {
        self.context.namespaces
    }

    fn idmap(&self) -> &Idmap {
        self.context.idmap
    }

    /// Whether what belongs to a namespace of this kind is certainly not ours: it was there before the
    /// user namespace that the container gets or that we are in.
    fn foreign(&self, kind: CloneFlags) -> bool {
        self.context.in_user_namespace() && !self.namespaces().has(kind)
    }

    fn filesystem(&self, fstype: &str) -> Result<Op, Failure> {
        self.filesystem_with(fstype, &self.options.data, self.options.properties)
    }

    fn filesystem_with(
        &self,
        fstype: &str,
        data: &[(String, Option<String>)],
        properties: Properties,
    ) -> Result<Op, Failure> {
        let act = || self.act();
        let mut options = Vec::new();
        for (key, value) in data {
            // mount(2) wants quotes around the commas of a label; fsconfig(2) takes it as it is.
            let quotes: &[char] = if mount_label::OPTIONS.contains(&key.as_str()) { &['"'] } else { &[] };
            let value = value.as_ref().map(|v| c(v.trim_matches(quotes), act)).transpose()?;
            options.push((c(key, act)?, value));
        }
        let way = match self.context.mount_label {
            Some(label) if !data.iter().any(|(key, _)| mount_label::OPTIONS.contains(&key.as_str())) => {
                label.way(fstype, act)?
            }
            _ => Way::None,
        };
        let label = match way {
            Way::Option(key, label) => {
                options.push((key, Some(label)));
                None
            }
            Way::Attribute(label) => Some(label),
            Way::None => None,
        };
        let source = self.source.filter(|s| !s.as_os_str().is_empty()).unwrap_or(Path::new(fstype));
        let source = c(source, act)?;
        let long = options.iter().filter_map(|(_, value)| value.as_ref()).chain([&source]);
        let long = long.map(|value| value.count_bytes()).any(|len| len > FSCONFIG_MAX);
        let mut properties = properties;
        // What is in these was put there by the kernel, or by who may not make nodes.
        let harmless = matches!(fstype, "proc" | "sysfs" | "devpts" | "mqueue" | "cgroup2" | "tmpfs");
        if self.context.nodev && !harmless {
            properties.own.set |= ATTR_NODEV;
            properties.own.clear &= !ATTR_NODEV;
        }
        Ok(Op::Filesystem(Filesystem {
            fstype: c(fstype, act)?,
            source,
            at: c(self.at, act)?,
            options,
            properties,
            label,
            copy_up: self.options.copy_up && fstype == "tmpfs",
            mode_of_place: fstype == "tmpfs" && !data.iter().any(|(key, _)| key == "mode"),
            exact: matches!(fstype, "proc" | "sysfs"),
            legacy: (long || self.options.legacy != 0).then_some(self.options.legacy),
        }))
    }

    fn show(&self, host: &str, read_only: bool) -> Result<Op, Failure> {
        let act = || self.act();
        let mut properties = self.options.properties;
        let guard = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
        properties.all.set |= if read_only { guard | ATTR_RDONLY } else { guard };
        properties.own.clear = 0;
        Ok(Op::Bind(Bind {
            source: c(host, act)?,
            at: c(self.at, act)?,
            recursive: true,
            properties,
            links: Links::default(),
            ids: None,
            apart: false,
        }))
    }

    fn proc(&self, degradations: &mut Vec<Degradation>) -> Result<Step, Failure> {
        if self.foreign(CloneFlags::CLONE_NEWPID) {
            degradations.push(Degradation::same(
                "MNT-PROC",
                "a new proc",
                "the host's proc, shown",
                "the pid namespace is not the container's",
            ));
            return Ok(self.show("/proc", false)?.into());
        }
        Ok(self.filesystem("proc")?.into())
    }

    fn sysfs(&self, degradations: &mut Vec<Degradation>) -> Result<Step, Failure> {
        let cost = Degradation::same(
            "MNT-SYSFS",
            "a new sysfs",
            "the host's /sys, shown read-only",
            "the network namespace is not the container's",
        );
        let shown = self.show("/sys", true)?;
        if self.foreign(CloneFlags::CLONE_NEWNET) {
            degradations.push(cost);
            return Ok(shown.into());
        }
        // A joined network namespace may or may not belong to us.
        Ok(Step { op: self.filesystem("sysfs")?, or: vec![Fallback { on: REFUSED, op: shown, cost }] })
    }

    fn mqueue(&self, degradations: &mut Vec<Degradation>) -> Result<Step, Failure> {
        let nothing = Op::Directory { at: c(self.at, || self.act())? };
        let cost = Degradation::weaker(
            "MNT-MQUEUE",
            "POSIX message queues",
            "an empty directory",
            "this kernel or ipc namespace has no mqueue file system for us",
        )
        .fix("have a new ipc namespace in linux.namespaces, or sudo mount -t mqueue mqueue /dev/mqueue on the host");
        if self.foreign(CloneFlags::CLONE_NEWIPC) {
            degradations.push(Degradation::same(
                "MNT-MQUEUE",
                "POSIX message queues",
                "the host's /dev/mqueue, shown",
                "the ipc namespace is not the container's",
            ));
            let absent = &[libc::ENOENT];
            return Ok(Step {
                op: self.show("/dev/mqueue", false)?,
                or: vec![Fallback { on: absent, op: nothing, cost }],
            });
        }
        Ok(Step { op: self.filesystem("mqueue")?, or: vec![Fallback { on: ABSENT, op: nothing, cost }] })
    }

    /// The container sees the cgroup tree from its own root on, read-only unless it has a cgroup of its
    /// own: the rest is not its to write.
    fn cgroup(&self, degradations: &mut Vec<Degradation>) -> Result<Step, Failure> {
        let cost = Degradation::same(
            "MNT-CGROUP",
            "a cgroup2 file system",
            "the host's /sys/fs/cgroup, shown read-only",
            "there is no cgroup namespace to root one in, or it may not be mounted",
        );
        let shown = self.show("/sys/fs/cgroup", true)?;
        // Without a user namespace it is root's own container, and may get what its configuration says: the whole
        // tree, as privileged containers do that manage others.
        if self.foreign(CloneFlags::CLONE_NEWCGROUP) {
            degradations.push(cost);
            return Ok(shown.into());
        }
        let mut properties = self.options.properties;
        if !self.context.own_cgroup {
            properties.own.set |= ATTR_RDONLY;
            properties.own.clear &= !ATTR_RDONLY;
        }
        Ok(Step {
            op: self.filesystem_with("cgroup2", &[], properties)?,
            or: vec![Fallback { on: REFUSED, op: shown, cost }],
        })
    }

    fn devpts(&self, degradations: &mut Vec<Degradation>) -> Result<Step, Failure> {
        let mut data = self.options.data.clone();
        data.retain(|(key, value)| {
            let gid = value.as_ref().and_then(|v| v.parse().ok());
            let keep = key != "gid" || gid.is_none_or(|gid| self.idmap().maps_gid(gid));
            if !keep {
                degradations.push(Degradation::same(
                    "MNT-DEVPTS",
                    format!("terminals of group {}", gid.unwrap_or_default()),
                    "terminals of the group that opens them",
                    "the container's map does not have that gid",
                ));
            }
            keep
        });
        Ok(self.filesystem_with("devpts", &data, self.options.properties)?.into())
    }
}
