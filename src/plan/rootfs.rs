//! The root file system around the mounts: devices, links, masks, parameters, and the way in.

use super::degrade::{Allowance, Degradation};
use super::mount_label::Way;
use super::step::{Bind, Device, Fallback, Links, NO_PLACE, Op, Properties, Step};
use super::{Context, c};
use super::{layers, mounts};
use crate::bundle::clean;
use crate::host::CAP_MKNOD;
use crate::host::devices::Wanted;
use crate::report::Failure;
use crate::sys::mount::{ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, Attr};
use nix::libc;
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType, Spec};
use std::collections::HashSet;
use std::path::Path;

const NO_DEVICE: &str = "the host has no such device";
/// What helps where a device that the configuration lists is not there.
pub const DEVICE_FIX: &str = "remove it from linux.devices, or have the host make it";

/// The devices that every container has (config-linux.md, "Default Devices").
const DEFAULT_DEVICES: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The links that every container has ("Dev symbolic links"), and the terminal multiplexer of its devpts.
const LINKS: [(&str, &str); 6] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Plans everything from the first mount to the pivot.
///
/// # Errors
/// What of the configuration cannot be done here, each with its reason.
pub fn steps(
    spec: &Spec,
    linux: &Linux,
    context: &Context<'_>,
    console: Option<Op>,
    no_pivot: bool,
    degradations: &mut Vec<Degradation>,
) -> Result<Vec<Step>, Failure> {
    let act = || format!("cannot set up the root file system of container {}", context.container);
    let root = spec.root().as_ref().ok_or_else(|| Failure::new(act(), "config.json: root is missing"))?;
    let propagation = match linux.rootfs_propagation().as_deref() {
        None | Some("") => None,
        Some(word) => Some(propagation_flag(word).ok_or_else(|| {
            Failure::new(act(), format!("rootfsPropagation {word:?} is unknown: invalid argument"))
        })?),
    };
    let mut steps: Vec<Step> = Vec::new();
    let mut push = |op: Op| steps.push(op.into());
    if context.namespaces.is_new(CloneFlags::CLONE_NEWNET) {
        push(Op::Loopback);
    }
    if context.network.helper.is_some() || !context.network.devices.is_empty() {
        push(Op::LendNetwork);
    }
    // What happens in the container stays there, unless it was asked for the contrary.
    let shared = propagation.is_some_and(|flags| flags & libc::MS_SHARED != 0);
    let of_host = match propagation {
        Some(flags) if flags & (libc::MS_PRIVATE | libc::MS_UNBINDABLE) != 0 => libc::MS_PRIVATE,
        _ if shared => libc::MS_SHARED,
        _ => libc::MS_SLAVE,
    };
    let path = c(context.rootfs, act)?;
    let on_host = context.namespaces.shares_mounts();
    if on_host {
        // Nothing of the host's own mounts is changed.
        check_on_host(linux, context, act)?;
        push(Op::HostRoot { path, nodev: context.nodev });
    } else {
        push(Op::Propagation { flags: of_host | libc::MS_REC });
        match context.layers {
            None => push(Op::Root { path, nodev: context.nodev, own_parent: shared }),
            Some(asked) => steps.extend(layers::steps(asked, context, shared, degradations)?),
        }
    }
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let planned = mounts::steps(mounts, context, degradations)?;
    steps.extend(planned.steps);
    if !mounts::has_host_dev(mounts) {
        steps.extend(devices(linux, mounts::has_dev(mounts), context)?);
        for (at, target) in LINKS {
            steps.push(Op::Symlink { at: c(at, act)?, target: c(target, act)? }.into());
        }
    }
    steps.extend(shown(context)?);
    steps.extend(console.map(Step::from));
    steps.extend(planned.last);
    let hooks = spec.hooks().as_ref();
    #[allow(deprecated)] // Docker puts a prestart hook on almost every container.
    let hooks_on_host = hooks.is_some_and(|h| {
        [h.prestart(), h.create_runtime()].iter().any(|list| list.as_ref().is_some_and(|l| !l.is_empty()))
    });
    if hooks_on_host {
        steps.push(Op::AwaitHooks.into());
    }
    let inside = hooks.and_then(|h| h.create_container().as_ref()).map_or(0, Vec::len);
    steps.extend((0..inside).map(|n| Op::Hook(n as u16).into()));
    steps.extend(sysctls(linux, context, degradations)?);
    for (name, op) in [(spec.hostname(), Op::Hostname as fn(_) -> Op), (spec.domainname(), Op::Domainname)] {
        let Some(name) = name.as_ref().filter(|n| !n.is_empty()) else { continue };
        if !context.namespaces.has(CloneFlags::CLONE_NEWUTS) {
            return Err(Failure::new(
                act(),
                "hostname and domainname need a private uts namespace: operation not permitted",
            )
            .fix("add {\"type\": \"uts\"} to linux.namespaces"));
        }
        steps.push(op(c(name, act)?).into());
    }
    let cwd = spec.process().as_ref().map(|p| clean(p.cwd()));
    if let Some(cwd) = cwd.filter(|cwd| cwd != Path::new("/")) {
        steps.push(Op::Directory { at: c(&cwd, act)? }.into());
    }
    for path in linux.readonly_paths().iter().flatten() {
        steps.push(Op::ReadOnly { at: c(path, act)? }.into());
    }
    let label = match context.mount_label.map(|label| label.way("tmpfs", act)).transpose()? {
        Some(Way::Option(key, label)) => Some((key, label)),
        _ => None,
    };
    let mut masked = HashSet::new();
    for path in linux.masked_paths().iter().flatten() {
        if !masked.insert(path) {
            continue;
        }
        steps.push(Op::Mask { at: c(path, act)?, label: label.clone() }.into());
    }
    if root.readonly() == Some(true) {
        steps.push(Op::RootReadOnly.into());
    }
    let entry = match (on_host, no_pivot) {
        (true, _) => Op::Chroot,
        (false, true) => Op::MoveRoot,
        (false, false) => Op::Pivot,
    };
    if on_host {
        steps.iter_mut().for_each(set_apart);
    }
    steps.push(entry.into());
    if let Some(flags) = propagation {
        steps.push(Op::RootPropagation { flags }.into());
    }
    Ok(steps)
}

/// Has what a step shows of the host take part in what happens there, and not the other way round. In a mount namespace
/// of its own, that is seen to for all mounts at once.
fn set_apart(step: &mut Step) {
    let others = step.or.iter_mut().map(|other| &mut other.op);
    for op in std::iter::once(&mut step.op).chain(others) {
        match op {
            Op::Bind(bind) => bind.apart = true,
            Op::Device { apart, .. } => *apart = true,
            _ => {}
        }
    }
}

/// What cannot be had of a root in the caller's mount namespace.
fn check_on_host(linux: &Linux, context: &Context<'_>, act: impl Fn() -> String) -> Result<(), Failure> {
    let listed = |paths: &Option<Vec<String>>| paths.as_ref().is_some_and(|paths| !paths.is_empty());
    let cause = if listed(linux.masked_paths()) || listed(linux.readonly_paths()) {
        // chroot(2) keeps nobody from them.
        "maskedPaths and readonlyPaths: unable to restrict sys entries without a private MNT namespace: operation not permitted"
    } else if context.layers.is_some() {
        "a root of layers is put together in a mount namespace of its own: operation not permitted"
    } else {
        return Ok(());
    };
    Err(Failure::new(act(), cause).fix("add {\"type\": \"mount\"} to linux.namespaces"))
}

/// The files by which the container finds names.
fn shown(context: &Context<'_>) -> Result<Vec<Step>, Failure> {
    let steps = context.network.shown.iter().map(|file| {
        let act = || format!("cannot show {} in container {}", file.at, context.container);
        let op = Op::Bind(Bind {
            source: c(context.state.join(file.name), act)?,
            at: c(file.at, act)?,
            recursive: false,
            properties: Properties {
                own: Attr { set: ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC, ..Attr::default() },
                propagation: [Some((libc::MS_PRIVATE, false)), None, None, None],
                ..Properties::default()
            },
            links: Links::default(),
            ids: None,
            apart: false,
        });
        let cost = Degradation::weaker(
            "NET-FILES",
            format!("{} of the container's own", file.at),
            "what the image has there",
            "the root file system has no such file, and none can be made in it",
        )
        .fix(format!("have an empty file {} in the root file system", file.at));
        Ok(Step { op, or: vec![Fallback { on: NO_PLACE, op: Op::Nothing, cost }] })
    });
    steps.collect()
}

fn propagation_flag(word: &str) -> Option<u64> {
    Some(match word {
        "shared" => libc::MS_SHARED,
        "rshared" => libc::MS_SHARED | libc::MS_REC,
        "slave" => libc::MS_SLAVE,
        "rslave" => libc::MS_SLAVE | libc::MS_REC,
        "private" => libc::MS_PRIVATE,
        "rprivate" => libc::MS_PRIVATE | libc::MS_REC,
        "unbindable" => libc::MS_UNBINDABLE,
        "runbindable" => libc::MS_UNBINDABLE | libc::MS_REC,
        _ => return None,
    })
}

fn devices(linux: &Linux, own_dev: bool, context: &Context<'_>) -> Result<Vec<Step>, Failure> {
    // In a user namespace nodes cannot be made, but the host's can be shown. The same where the root is
    // without devices and /dev is a part of it.
    let user = context.in_user_namespace();
    let can_make = !user && context.facts.capable(CAP_MKNOD) && (own_dev || !context.nodev);
    let mut steps = Vec::new();
    let wanted = linux.devices().as_deref().unwrap_or_default();
    for (path, major, minor) in DEFAULT_DEVICES {
        let device = Device { kind: libc::S_IFCHR, major, minor };
        if wanted.iter().any(|d| clean(d.path()) == Path::new(path)) {
            continue;
        }
        let act = || format!("cannot show device {path} in container {}", context.container);
        let at = c(path, act)?;
        steps.push(if can_make {
            Op::Node { at, device, mode: 0o666, uid: 0, gid: 0 }.into()
        } else {
            let absent = Degradation::weaker("DEV", format!("device {path}"), "no such device", NO_DEVICE)
                .fix(format!("have the host make {path}, or the outer container pass it on"));
            Step {
                op: Op::Device { source: at.clone(), at, device, apart: false },
                or: vec![Fallback { on: &[libc::ENOENT], op: Op::Nothing, cost: absent }],
            }
        });
    }
    // Its place is taken by the link to the container's own terminals.
    for wanted in wanted.iter().filter(|device| clean(device.path()) != Path::new("/dev/ptmx")) {
        steps.push(device(wanted, can_make, context)?);
    }
    Ok(steps)
}

fn device(wanted: &LinuxDevice, can_make: bool, context: &Context<'_>) -> Result<Step, Failure> {
    let at = clean(&Path::new("/").join(wanted.path()));
    let act = || format!("cannot show device {} in container {}", at.display(), context.container);
    let kind = match wanted.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
        LinuxDeviceType::B => libc::S_IFBLK,
        LinuxDeviceType::P => libc::S_IFIFO,
        LinuxDeviceType::A => {
            return Err(Failure::new(act(), "type a is for cgroup rules only: invalid argument")
                .code("DEV")
                .fix("give linux.devices[].type as c, u, b or p"));
        }
    };
    let number = |n: i64| {
        u64::try_from(n)
            .map_err(|_| Failure::new(act(), format!("{n} is no device number: invalid argument")))
    };
    let device = Device { kind, major: number(wanted.major())?, minor: number(wanted.minor())? };
    if can_make || kind == libc::S_IFIFO {
        return Ok(Op::Node {
            at: c(&at, act)?,
            device,
            // Docker leaves the file type in the mode; only the permissions are ours to set.
            mode: wanted.file_mode().unwrap_or(0o666) & 0o7777,
            uid: wanted.uid().unwrap_or(0),
            gid: wanted.gid().unwrap_or(0),
        }
        .into());
    }
    let source = context.facts.devices.get(&at).unwrap_or(&at);
    let op = Op::Device { source: c(source, act)?, at: c(&at, act)?, device, apart: false };
    if !context.degrade.allows(Allowance::Devices) {
        return Ok(op.into());
    }
    let path = at.display();
    let absent =
        Degradation::allowed("DEV", format!("device {path}"), "no such device", NO_DEVICE).fix(DEVICE_FIX);
    Ok(Step { op, or: vec![Fallback { on: &[libc::ENOENT, libc::ENODEV], op: Op::Nothing, cost: absent }] })
}

/// The devices that the configuration lists, for the host to be looked through.
pub fn wanted_devices(spec: &Spec) -> Vec<Wanted> {
    let listed = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
    let wanted = listed.into_iter().flatten().filter_map(|device| {
        Some(Wanted {
            path: clean(&Path::new("/").join(device.path())),
            block: device.typ() == LinuxDeviceType::B,
            major: u64::try_from(device.major()).ok()?,
            minor: u64::try_from(device.minor()).ok()?,
        })
    });
    wanted.collect()
}

fn sysctls(
    linux: &Linux,
    context: &Context<'_>,
    degradations: &mut Vec<Degradation>,
) -> Result<Vec<Step>, Failure> {
    let mut wanted: Vec<_> = linux.sysctl().iter().flatten().collect();
    wanted.sort();
    let mut steps = Vec::new();
    for (key, value) in wanted {
        let act = || format!("cannot set sysctl {key} in container {}", context.container);
        let needs = sysctl_namespace(key).ok_or_else(|| {
            Failure::new(act(), "it is not namespaced, so it would change the host: operation not permitted")
                .fix("remove it from linux.sysctl, or set it on the host")
        })?;
        if !context.namespaces.has(needs.1) {
            return Err(Failure::new(
                act(),
                format!("the container shares the host's {} namespace: operation not permitted", needs.0),
            )
            .fix(format!("add {{\"type\": \"{}\"}} to linux.namespaces", needs.0)));
        }
        let mut value = value.clone();
        if key.replace('/', ".") == "net.ipv4.ping_group_range" {
            clamp_ping(&mut value, context, degradations);
        }
        // As sysctl(8): the first separator of a key says which of the two it uses.
        let path = if key.find('/').unwrap_or(usize::MAX) < key.find('.').unwrap_or(usize::MAX) {
            key.clone()
        } else {
            key.chars()
                .map(|ch| match ch {
                    '.' => '/',
                    '/' => '.',
                    other => other,
                })
                .collect()
        };
        steps.push(Op::Sysctl { at: c(&path, act)?, value: c(&value, act)? }.into());
    }
    Ok(steps)
}

/// The namespace that a parameter belongs to; none means the whole machine (CVE-2022-0811).
fn sysctl_namespace(key: &str) -> Option<(&'static str, CloneFlags)> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let dotted = key.replace('/', ".");
    if dotted.split('.').any(|part| part.is_empty() || part == "..") {
        return None;
    }
    if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        return Some(("ipc", CloneFlags::CLONE_NEWIPC));
    }
    if dotted.starts_with("net.") {
        return Some(("network", CloneFlags::CLONE_NEWNET));
    }
    if dotted == "kernel.domainname" {
        return Some(("uts", CloneFlags::CLONE_NEWUTS));
    }
    None
}

/// The kernel takes only gids of the map here, and engines ask for all there are.
fn clamp_ping(value: &mut String, context: &Context<'_>, degradations: &mut Vec<Degradation>) {
    let numbers: Vec<u32> = value.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [low, high] = numbers[..] else { return };
    if let Some(last) = context.idmap.last_gid().filter(|last| high > *last && low <= *last) {
        let clamped = format!("{low} {last}");
        degradations.push(Degradation::same(
            "NET-PING",
            format!("net.ipv4.ping_group_range {value}"),
            clamped.clone(),
            "the container has no higher gid",
        ));
        *value = clamped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaced_parameters_are_let_through() {
        assert_eq!(sysctl_namespace("net.core.somaxconn").unwrap().0, "network");
        assert_eq!(sysctl_namespace("net/core/somaxconn").unwrap().0, "network");
        assert_eq!(sysctl_namespace("kernel.shm_rmid_forced").unwrap().0, "ipc");
        for key in [
            "kernel.core_pattern",
            "kernel.shm_rmid_forced1",
            "vm.swappiness",
            "net...kernel",
            "net/../kernel/x",
            "kernel.hostname",
        ] {
            assert_eq!(sysctl_namespace(key), None, "{key}");
        }
    }

    #[test]
    fn propagation_words_with_an_r_are_recursive() {
        assert_eq!(propagation_flag("shared"), Some(libc::MS_SHARED));
        assert_eq!(propagation_flag("rshared"), Some(libc::MS_SHARED | libc::MS_REC));
        assert_eq!(propagation_flag("none"), None);
    }
}
