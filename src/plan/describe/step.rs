//! The steps of init.

use super::{Told, degradation, names, text, texts};
use crate::plan::degrade::Class;
use crate::plan::step::{
    Bind, Branch, Device, Fallback, Filesystem, IdMaps, Ids, Layers, Links, MemoryPolicy, Op, Properties,
    Served, Step, Upper,
};
use crate::sys::mount as attr;
use nix::errno::Errno;
use nix::libc;
use serde_json::{Map, Value, json};
use std::ffi::CString;

/// All of them, in order.
pub fn list(steps: &[Step]) -> Told {
    let told: Vec<_> = steps.iter().map(step).collect();
    Told {
        value: told.iter().map(|told| told.value.clone()).collect(),
        lines: told.into_iter().flat_map(|told| told.lines).collect(),
    }
}

fn step(step: &Step) -> Told {
    let Step { op, or } = step;
    let mut value = one(op);
    let mut lines = vec![line(op)];
    let mut others = Vec::new();
    // Devices of every container are many, and alike.
    let brief = matches!((op, &or[..]), (Op::Device { .. }, [Fallback { op: Op::Nothing, cost, .. }]) if cost.class == Class::Weaker);
    if brief {
        lines[0] += " if it exists";
    }
    for Fallback { on, op: other, cost } in or {
        let errnos: Vec<_> = on.iter().map(|errno| format!("{:?}", Errno::from_raw(*errno))).collect();
        others.push(json!({"on": errnos, "step": one(other), "cost": cost}));
        if brief {
            continue;
        }
        lines.push(format!("  or, on {}: {}", errnos.join(" "), line(other)));
        lines.push(format!("    {}", degradation(cost)));
    }
    if !others.is_empty() {
        value.insert("or".into(), others.into());
    }
    Told { lines, value: value.into() }
}

/// One operation for programs: what it is, and the fields that mounts have.
fn one(op: &Op) -> Map<String, Value> {
    let mut value = match op {
        Op::Filesystem(filesystem) => {
            let option = |(key, value): &(CString, Option<CString>)| match value {
                Some(value) => format!("{}={}", text(key), text(value)),
                None => text(key),
            };
            let mut fields = fields(&filesystem.properties);
            fields.insert("type".into(), text(&filesystem.fstype).into());
            fields.insert("source".into(), text(&filesystem.source).into());
            fields.insert("options".into(), filesystem.options.iter().map(option).collect());
            fields
        }
        Op::Bind(bind) => {
            let mut fields = fields(&bind.properties);
            fields.insert("source".into(), text(&bind.source).into());
            fields.insert("recursive".into(), bind.recursive.into());
            fields
        }
        Op::Remount { properties, .. } => fields(properties),
        Op::Device { source, .. } => Map::from_iter([("source".into(), text(source).into())]),
        Op::Sysctl { value, .. } => Map::from_iter([("value".into(), text(value).into())]),
        _ => Map::new(),
    };
    value.insert("do".into(), word(op).into());
    value.insert("text".into(), line(op).into());
    if let Some(at) = place(op) {
        value.insert("at".into(), text(at).into());
    }
    value
}

/// Where in the container it is done.
fn place(op: &Op) -> Option<&CString> {
    match op {
        Op::Filesystem(Filesystem { at, .. })
        | Op::Bind(Bind { at, .. })
        | Op::Branch(Branch { at, .. })
        | Op::Remount { at, .. }
        | Op::Device { at, .. }
        | Op::Node { at, .. }
        | Op::Symlink { at, .. }
        | Op::Mask { at, .. }
        | Op::ReadOnly { at }
        | Op::Directory { at }
        | Op::OwnCgroup { at, .. }
        | Op::Sysctl { at, .. } => Some(at),
        _ => None,
    }
}

fn word(op: &Op) -> &'static str {
    match op {
        Op::Propagation { .. } | Op::RootPropagation { .. } => "propagation",
        Op::Root { .. } => "root",
        Op::HostRoot { .. } => "host-root",
        Op::Overlay(..) => "overlay",
        Op::Served(_) => "fuse-overlayfs",
        Op::Copied(_) => "copy",
        Op::Trunk { .. } => "trunk",
        Op::Branch(_) => "branch",
        Op::Filesystem(_) => "mount",
        Op::Bind(_) => "bind",
        Op::Remount { .. } => "remount",
        Op::Device { .. } => "device",
        Op::Node { .. } => "mknod",
        Op::Symlink { .. } => "symlink",
        Op::Mask { .. } => "mask",
        Op::ReadOnly { .. } => "readonly",
        Op::Directory { .. } => "mkdir",
        Op::Console { .. } => "console",
        Op::AwaitHooks => "await-hooks",
        Op::Hook(_) => "hook",
        Op::Affinity(_) => "affinity",
        Op::OwnCgroup { .. } => "own-cgroup",
        Op::Personality(_) => "personality",
        Op::MemoryPolicy(_) => "memory-policy",
        Op::Keyring(_) => "keyring",
        Op::Loopback => "loopback",
        Op::LendNetwork => "lend-network",
        Op::Nothing => "nothing",
        Op::Sysctl { .. } => "sysctl",
        Op::Hostname(_) => "hostname",
        Op::Domainname(_) => "domainname",
        Op::RootReadOnly => "root-readonly",
        Op::Pivot => "pivot",
        Op::MoveRoot => "move-root",
        Op::Chroot => "chroot",
    }
}

/// One operation for people.
fn line(op: &Op) -> String {
    match op {
        Op::Propagation { flags } => format!("make / {}", propagation(*flags)),
        Op::HostRoot { path, nodev } => {
            let nodev = if *nodev { " +nodev" } else { "" };
            format!("open root {}{nodev}, mounted in the caller's mount namespace", text(path))
        }
        Op::Root { path, nodev, own_parent } => {
            let nodev = if *nodev { " +nodev" } else { "" };
            let parent = if *own_parent { " on a parent of its own" } else { "" };
            format!("open root {}{nodev}{parent}", text(path))
        }
        Op::Overlay(wanted, beneath) => {
            let beneath: Vec<_> = beneath.iter().map(|bind| format!(", {}", self::bind(bind))).collect();
            format!("overlay {}{}", layers(wanted), beneath.concat())
        }
        Op::Served(Served { layers: wanted, container: _, program, empty, root_inside, own_userns }) => {
            let who = if *root_inside { " as root inside" } else { "" };
            let place = if *own_userns { " in its user namespace" } else { "" };
            let by = program.display();
            format!("{} served by {by}{who}{place}{}", layers(wanted), hollow(empty))
        }
        Op::Copied(wanted) => format!("copy {}", layers(wanted)),
        Op::Trunk { layers: wanted, empty } => format!("trunk {}{}", layers(wanted), hollow(empty)),
        Op::Branch(Branch { at, userxattr, squash, nodev }) => {
            let squash = if *squash { ", itself root's" } else { "" };
            format!("branch {}{}{squash}", text(at), marks(*userxattr, *nodev))
        }
        Op::Filesystem(filesystem) => mount(filesystem),
        Op::Bind(wanted) => bind(wanted),
        Op::Remount { at, properties } => format!("remount {}{}", text(at), self::properties(properties)),
        Op::Device { source, at, device, apart } => {
            let apart = if *apart { ", slave of the host's" } else { "" };
            format!("show {} at {} as {}{apart}", text(source), text(at), numbers(device))
        }
        Op::Node { at, device, mode, uid, gid } => {
            format!("mknod {} {} mode {mode:04o} owner {uid}:{gid}", text(at), numbers(device))
        }
        Op::Symlink { at, target } => format!("link {} -> {}", text(at), text(target)),
        Op::Mask { at, label } => {
            let label = label.as_ref().map(|(key, label)| format!(" with {}={}", text(key), text(label)));
            format!("mask {}{}", text(at), label.unwrap_or_default())
        }
        Op::ReadOnly { at } => format!("make {} read-only", text(at)),
        Op::Directory { at } => format!("make directory {}", text(at)),
        Op::Console { rows: 0, columns: 0 } => "console of our terminal's size".into(),
        Op::Console { rows, columns } => format!("console of {rows} rows and {columns} columns"),
        Op::AwaitHooks => "await prestart and createRuntime hooks".into(),
        Op::Hook(n) => format!("run createContainer hook #{n}"),
        Op::Affinity(cpus) => format!("run on processors {cpus:?} only"),
        Op::OwnCgroup { at, uid, files } => {
            let files = texts(files.iter().map(AsRef::as_ref)).join(" ");
            format!("give {files} of the cgroup at {} to uid {uid}", text(at))
        }
        Op::Personality(persona) => format!("personality {persona:#x}"),
        Op::MemoryPolicy(MemoryPolicy { mode, nodes }) => format!("memory policy {mode:#x} of {nodes:x?}"),
        Op::Keyring(name) => format!("join session keyring {}", text(name)),
        Op::Loopback => "bring up loopback".into(),
        Op::LendNetwork => "lend the network namespace".into(),
        Op::Nothing => "nothing".into(),
        Op::Sysctl { at, value } => format!("write {:?} to /proc/sys/{}", text(value), text(at)),
        Op::Hostname(name) => format!("set hostname {}", text(name)),
        Op::Domainname(name) => format!("set domainname {}", text(name)),
        Op::RootReadOnly => "make the root read-only".into(),
        Op::Pivot => "pivot_root".into(),
        Op::MoveRoot => "move the root to / and chroot".into(),
        Op::Chroot => "chroot".into(),
        Op::RootPropagation { flags } => format!("make the root {}", propagation(*flags)),
    }
}

fn mount_ids(ids: &Ids) -> String {
    let Ids { maps, recursive, by_launch } = ids;
    let maps = match maps {
        IdMaps::Lines { uids, gids } => {
            let line = |lines: &str| lines.trim_end().replace('\n', ", ");
            format!("uids {} and gids {}", line(uids), line(gids))
        }
        IdMaps::Of(path) => format!("the maps of {}", path.display()),
    };
    let scope = if *recursive { " and beneath" } else { "" };
    format!(", with {maps}{scope} by {}", if *by_launch { "us" } else { "init" })
}

fn bind(bind: &Bind) -> String {
    let Bind { source, at, recursive, properties, links, ids, apart } = bind;
    let act = if *recursive { "rbind" } else { "bind" };
    let Links { shown, covered, copied } = links;
    let words = [
        (shown, " (the link itself)"),
        (covered, " (over a link itself)"),
        (copied, " (or a copy, if it is a link)"),
    ];
    let link: String = words.iter().filter(|(said, _)| **said).map(|(_, word)| *word).collect();
    let ids = ids.as_ref().map(mount_ids).unwrap_or_default();
    let apart = if *apart { ", slave of the host's" } else { "" };
    format!("{act} {} on {}{link}{}{ids}{apart}", text(source), text(at), self::properties(properties))
}

fn layers(layers: &Layers) -> String {
    let Layers { place, lower, upper, userxattr, squash, nodev, own_parent } = layers;
    let lower = texts(lower.iter().map(AsRef::as_ref)).join(" over ");
    let upper = match upper {
        Upper::Memory => "a tmpfs".into(),
        Upper::Kept(dir) => text(dir),
    };
    let parent = if *own_parent { " on a parent of its own" } else { "" };
    let marks = marks(*userxattr, *nodev);
    let squash = if *squash { ", all of it root's" } else { "" };
    format!("{lower} at {}, changes in {upper}{marks}{parent}{squash}", text(place))
}

fn marks(userxattr: bool, nodev: bool) -> String {
    let words = [(userxattr, " +userxattr"), (nodev, " +nodev")];
    words.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect()
}

fn hollow(empty: &[(CString, u32)]) -> String {
    let empty: Vec<_> = empty.iter().map(|(at, mode)| format!("{} {mode:04o}", text(at))).collect();
    if empty.is_empty() { String::new() } else { format!(", empty: {}", empty.join(", ")) }
}

fn mount(filesystem: &Filesystem) -> String {
    let Filesystem { fstype, source, at, options, properties, label, copy_up, mode_of_place, exact, legacy } =
        filesystem;
    let mut line = format!("mount {} ({}) on {}", text(fstype), text(source), text(at));
    for (key, value) in options {
        let value = value.as_ref().map(|value| format!("={}", text(value))).unwrap_or_default();
        line += &format!(" {}{value}", text(key));
    }
    line += &self::properties(properties);
    line.extend(label.as_ref().map(|label| format!(", labelled {}", text(label))));
    for (set, words) in
        [(*copy_up, ", copy up"), (*mode_of_place, ", mode of the place"), (*exact, ", follow no link")]
    {
        line += if set { words } else { "" };
    }
    if let Some(flags) = legacy {
        line += &format!(", by mount(2) with {:?}", names(*flags, &[(libc::MS_I_VERSION, "iversion")]));
    }
    line
}

fn propagation(flags: u64) -> String {
    let recursive = if flags & libc::MS_REC != 0 { "r" } else { "" };
    let kinds = [
        (libc::MS_SHARED, "shared"),
        (libc::MS_SLAVE, "slave"),
        (libc::MS_PRIVATE, "private"),
        (libc::MS_UNBINDABLE, "unbindable"),
    ];
    format!("{recursive}{}", names(flags & !libc::MS_REC, &kinds).join(" "))
}

/// What becomes of the flags of one mount.
#[derive(Debug, PartialEq, Eq)]
struct Flags {
    set: Vec<String>,
    clear: Vec<String>,
}

impl Flags {
    fn of(set: u64, clear: u64) -> Flags {
        // Of the modes of access time one replaces the other, for which the whole field is cleared first; all of it
        // cleared is the kernel's own mode.
        let modes = attr::ATTR_ATIME | attr::ATTR_NOATIME | attr::ATTR_STRICTATIME;
        let default = clear & modes != 0 && set & modes == 0;
        let mut flags = Flags { set: attributes(set), clear: attributes(clear & !modes) };
        flags.set.extend(default.then(|| "relatime".to_string()));
        flags
    }

    fn line(&self) -> String {
        let signed = |sign: &'static str| move |name: &String| format!(" {sign}{name}");
        self.set.iter().map(signed("+")).chain(self.clear.iter().map(signed("-"))).collect()
    }

    fn value(&self) -> Value {
        json!({"set": self.set, "clear": self.clear})
    }
}

/// The flags of the mount itself, and of what is mounted beneath it. What is for all of them is set first.
fn flags(properties: &Properties) -> (Flags, Flags) {
    let Properties { own, all, propagation: _ } = properties;
    for bits in [own, all] {
        let attr::Attr { set: _, clear: _, propagation, userns_fd } = *bits;
        assert_eq!((propagation, userns_fd), (0, 0), "a plan names neither by number");
    }
    let top = Flags::of((all.set & !own.clear) | own.set, (all.clear & !own.set) | own.clear);
    (top, Flags::of(all.set, all.clear))
}

fn propagations(properties: &Properties) -> Vec<String> {
    let word =
        |(flag, recursive): &(u64, bool)| propagation(flag | if *recursive { libc::MS_REC } else { 0 });
    properties.propagation.iter().flatten().map(word).collect()
}

fn properties(properties: &Properties) -> String {
    let (top, beneath) = flags(properties);
    let mut line = top.line();
    let beneath = beneath.line();
    if !beneath.is_empty() {
        line += &format!(", beneath{beneath}");
    }
    for word in propagations(properties) {
        line += &format!(", {word}");
    }
    line
}

fn fields(properties: &Properties) -> Map<String, Value> {
    let (top, beneath) = flags(properties);
    Map::from_iter([
        ("flags".into(), top.value()),
        ("beneath".into(), beneath.value()),
        ("propagation".into(), propagations(properties).into()),
    ])
}

fn attributes(bits: u64) -> Vec<String> {
    const NAMES: [(u64, &str); 8] = [
        (attr::ATTR_RDONLY, "ro"),
        (attr::ATTR_NOSUID, "nosuid"),
        (attr::ATTR_NODEV, "nodev"),
        (attr::ATTR_NOEXEC, "noexec"),
        (attr::ATTR_NOATIME, "noatime"),
        (attr::ATTR_STRICTATIME, "strictatime"),
        (attr::ATTR_NODIRATIME, "nodiratime"),
        (attr::ATTR_NOSYMFOLLOW, "nosymfollow"),
    ];
    names(bits, &NAMES)
}

fn numbers(device: &Device) -> String {
    let Device { kind, major, minor } = *device;
    let kind = match kind {
        libc::S_IFCHR => "c",
        libc::S_IFBLK => "b",
        _ => "p",
    };
    format!("{kind} {major}:{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str]) -> String {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        properties(&crate::plan::options::parse(&words).unwrap().properties)
    }

    #[test]
    fn flags_read_as_what_the_mount_will_have() {
        assert_eq!(told(&["ro", "nosuid"]), " +ro +nosuid");
        assert_eq!(told(&["rw", "suid"]), " -ro -nosuid");
        assert_eq!(told(&["strictatime"]), " +strictatime");
        assert_eq!(told(&["relatime"]), " +relatime");
        assert_eq!(told(&["noatime", "nodiratime"]), " +noatime +nodiratime");
        assert_eq!(told(&["rro", "rw", "rslave"]), " -ro, beneath +ro, rslave");
        assert_eq!(told(&["rnoatime", "strictatime"]), " +strictatime, beneath +noatime");
        assert_eq!(told(&[]), "");
    }
}
