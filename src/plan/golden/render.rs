//! A plan as text that people can read and compare. Every struct is taken apart by name, so that a field
//! which is new has to be rendered before anything compiles.

use crate::plan::Plan;
use crate::plan::cgroup::{Cgroup, Directory, Place, Scope};
use crate::plan::degrade::{Class, Degradation};
use crate::plan::hooks::{Hook, Hooks};
use crate::plan::idmap::{Idmap, Mapping, Maps};
use crate::plan::limits::{Absent, Setting};
use crate::plan::namespaces::Namespaces;
use crate::plan::network::{Helper, Network, Shown};
use crate::plan::process::{Guard, Label, Process, Programs};
use crate::plan::rdt::{Origin, Rdt};
use crate::plan::scheduling::Scheduling;
use crate::plan::step::{
    Bind, Branch, Device, Fallback, Filesystem, IdMaps, Ids, Layers, MemoryPolicy, Op, Properties, Served,
    Step, Upper,
};
use crate::sys::caps::Sets;
use crate::sys::mount as attr;
use crate::sys::process::Rlimit;
use crate::sys::scheduling::Attributes;
use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use std::ffi::{CStr, CString};
use std::fmt::Write;

/// The whole plan.
pub fn plan(plan: &Plan) -> String {
    // `spec_process` is a copy of what the configuration has, and compared with it by the caller; what is
    // `inherited` is among the steps, and what `layers` asks for.
    let Plan {
        id,
        rootfs,
        layers: _,
        namespaces: spaces,
        idmap,
        cgroup: group,
        network: connection,
        rdt: class,
        steps: list,
        process: main,
        spec_process: _,
        inherited: _,
        seccomp,
        hooks: kinds,
        guard,
        launch_reaches_more,
        oom_score_adj,
        degradations,
        remarks,
    } = plan;
    let mut lines = vec![format!("container {id} in {}", rootfs.display())];
    section(&mut lines, "namespaces", namespaces(spaces));
    section(&mut lines, "ids", ids(idmap));
    section(&mut lines, "cgroup", group.iter().flat_map(cgroup).collect());
    section(&mut lines, "network", network(connection));
    section(&mut lines, "caches and memory bandwidth", class.iter().flat_map(rdt).collect());
    section(&mut lines, "steps", list.iter().flat_map(step).collect());
    let mut process = process(main);
    process.extend(seccomp.as_ref().map(|profile| match profile.listener_path() {
        Some(path) => format!("seccomp filter, its agent at {}", path.display()),
        None => "seccomp filter".into(),
    }));
    process.extend(launch_reaches_more.then(|| "sources out of its reach are mounted by us".to_string()));
    process.extend(match guard {
        Guard::Needless => None,
        Guard::Stub => Some("started by a stub, out of sight of our binary".to_string()),
        Guard::Copy => Some("started from a sealed copy of our binary".to_string()),
    });
    process.extend(oom_score_adj.map(|score| format!("oom_score_adj {score}")));
    section(&mut lines, "process", process);
    section(&mut lines, "hooks", hooks(kinds));
    section(&mut lines, "degradations", degradations.iter().map(degradation).collect());
    section(&mut lines, "remarks", remarks.clone());
    lines.join("\n") + "\n"
}

fn section(lines: &mut Vec<String>, title: &str, content: Vec<String>) {
    if !content.is_empty() {
        lines.extend([String::new(), title.into()]);
        lines.extend(content.iter().map(|line| format!("  {line}")));
    }
}

fn text(s: &CStr) -> String {
    s.to_string_lossy().into_owned()
}

fn namespaces(namespaces: &Namespaces) -> Vec<String> {
    let Namespaces { at_clone, by_init, joined, time_offsets } = namespaces;
    let mut lines = Vec::new();
    for (who, kinds) in [("the clone", *at_clone), ("init", *by_init)] {
        if !kinds.is_empty() {
            lines.push(format!("made by {who}: {}", kind_names(kinds)));
        }
    }
    lines.extend(
        joined.iter().map(|(kind, path)| format!("joined: {} {}", kind_names(*kind), path.display())),
    );
    let offsets = time_offsets.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    lines.extend(offsets.lines().map(|line| format!("time offset: {line}")));
    lines
}

fn network(network: &Network) -> Vec<String> {
    let Network { helper, shown, devices } = network;
    let mut lines = Vec::new();
    if let Some(helper) = helper {
        let Helper { kind, program, publish, forwards_names, as_root, ipv4_alone, out_of_sight } = helper;
        lines.push(format!("{} is {}", kind.name(), program.display()));
        lines.extend(as_root.then(|| "  which stays root".to_string()));
        lines.extend(ipv4_alone.then(|| "  on IPv4 addresses alone".to_string()));
        lines.extend((!out_of_sight).then(|| "  where the container can see it".to_string()));
        lines.extend(forwards_names.then(|| format!("  and answers for names at {}", kind.forwarder())));
        lines.extend(publish.iter().map(|publish| format!("  publish {publish}")));
    }
    for device in devices {
        lines.push(format!("{} moves here as {}", device.name, device.inside));
    }
    for file in shown {
        let Shown { name, at, contents } = file;
        lines.push(format!("{name}, shown at {at}: {contents:?}"));
    }
    lines
}

fn rdt(rdt: &Rdt) -> Vec<String> {
    let Rdt { class, origin, schemata, monitor } = rdt;
    let whose = match origin {
        Origin::Own => "made for it",
        Origin::Named => "made where it is missing, else to be as it is",
        Origin::Present => "as it is",
    };
    let mut lines = vec![format!("class {}, {whose}", class.display())];
    lines.extend(schemata.iter().map(|line| format!("  {line}")));
    lines.extend(monitor.iter().map(|group| format!("counted by {}", group.display())));
    lines
}

fn kind_names(kinds: CloneFlags) -> String {
    const NAMES: [(CloneFlags, &str); 8] = [
        (CloneFlags::CLONE_NEWUSER, "user"),
        (CloneFlags::CLONE_NEWPID, "pid"),
        (CloneFlags::CLONE_NEWNS, "mount"),
        (CloneFlags::CLONE_NEWNET, "network"),
        (CloneFlags::CLONE_NEWIPC, "ipc"),
        (CloneFlags::CLONE_NEWUTS, "uts"),
        (CloneFlags::CLONE_NEWCGROUP, "cgroup"),
        (CloneFlags::from_bits_retain(libc::CLONE_NEWTIME), "time"),
    ];
    names(kinds.bits() as u64, &NAMES.map(|(kind, name)| (kind.bits() as u64, name))).join(" ")
}

/// The names of the bits that are set; what has no name is shown as a number rather than left out.
fn names(mut bits: u64, table: &[(u64, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    for (bit, name) in table {
        if bits & bit == *bit {
            found.push((*name).to_string());
            bits &= !bit;
        }
    }
    if bits != 0 {
        found.push(format!("{bits:#x}"));
    }
    found
}

fn cgroup(cgroup: &Cgroup) -> Vec<String> {
    let Cgroup { place, settings, devices, owner } = cgroup;
    let mut lines = match place {
        Place::Directory(Directory { path, from, aside, needed }) => {
            let mut lines =
                vec![format!("directory {}, controllers from {}", path.display(), from.display())];
            lines.extend(aside.map(|name| format!("may move processes aside to {name}")));
            lines.extend((!needed.is_empty()).then(|| format!("needs {}", needed.join(" "))));
            lines
        }
        Place::Scope(Scope { user, bus, unit, slice, description, properties, likely: _, below }) => {
            let whose = if *user { "the user's systemd" } else { "systemd" };
            let mut lines = vec![format!("scope {unit} in {slice} of {whose}: {description}")];
            lines.extend(bus.iter().map(|c| format!("bus {} ({:?})", c.address, c.peer)));
            lines.extend(properties.iter().map(|(name, value)| format!("property {name} {value:?}")));
            lines.extend(below.iter().map(|name| format!("below it {name}")));
            lines
        }
    };
    for Setting { controller, file, value, absent } in settings {
        let absent = if *absent == Absent::Fails { String::new() } else { format!(" (absent: {absent:?})") };
        let by = if controller.is_empty() { "the core" } else { controller };
        lines.push(format!("{file} = {value}, by {by}{absent}"));
    }
    lines.extend(devices.as_ref().map(|rules| format!("filter of {} device rules", rules.len())));
    lines.extend(owner.as_ref().map(|owner| format!("delegated to uid {owner:?}")));
    lines
}

fn ids(idmap: &Idmap) -> Vec<String> {
    let (who, maps) = match idmap {
        Idmap::Inherited { .. } => return vec!["as they are".into()],
        Idmap::Direct { maps, deny_setgroups } => {
            (if *deny_setgroups { "written by us, setgroups denied" } else { "written by us" }.into(), maps)
        }
        Idmap::Helpers { maps, newuidmap, newgidmap } => {
            (format!("written by {} and {}", newuidmap.display(), newgidmap.display()), maps)
        }
    };
    let Maps { uids, gids } = maps;
    let line = |kind: &str, m: &Mapping| {
        let Mapping { inside, outside, count } = *m;
        match count {
            1 => format!("{kind} {inside} is {outside}"),
            _ => format!("{kind} {inside}+{count} is {outside}+{count}"),
        }
    };
    let uids = uids.iter().map(|m| line("uid", m));
    std::iter::once(who).chain(uids).chain(gids.iter().map(|m| line("gid", m))).collect()
}

fn step(step: &Step) -> Vec<String> {
    let Step { op: wanted, or } = step;
    if let (Op::Device { .. }, [Fallback { op: Op::Nothing, cost, .. }]) = (wanted, &or[..]) {
        // Those of every container are many, and alike.
        if cost.class == Class::Weaker {
            return vec![format!("{} if it exists", op(wanted))];
        }
    }
    let mut lines = vec![op(wanted)];
    for Fallback { on, op: other, cost } in or {
        let errnos: Vec<_> = on.iter().map(|errno| format!("{:?}", Errno::from_raw(*errno))).collect();
        lines.push(format!("  or, on {}: {}", errnos.join(" "), op(other)));
        lines.push(format!("    {}", degradation(cost)));
    }
    lines
}

/// As the warning reads, whether it is one or not.
fn degradation(found: &Degradation) -> String {
    let class = match found.class {
        Class::Same => "same",
        Class::Weaker => "weaker",
        Class::Allowed => "allowed",
    };
    let warning = Degradation { class: Class::Weaker, ..found.clone() }.warning().unwrap();
    format!("{class}: {warning}")
}

fn op(op: &Op) -> String {
    match op {
        Op::Propagation { flags } => format!("make / {}", propagation(*flags)),
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
        Op::Device { source, at, device } => {
            format!("show {} at {} as {}", text(source), text(at), numbers(device))
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
        Op::Console { rows, columns } => format!("console of {rows} rows and {columns} columns"),
        Op::AwaitHooks => "await prestart and createRuntime hooks".into(),
        Op::Hook(n) => format!("run createContainer hook #{n}"),
        Op::Affinity(cpus) => format!("run on processors {cpus:?} only"),
        Op::OwnCgroup { at, uid, files } => {
            let files: Vec<_> = files.iter().map(|file| text(file)).collect();
            format!("give {} of the cgroup at {} to uid {uid}", files.join(" "), text(at))
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
    let Bind { source, at, recursive, properties, nofollow, ids } = bind;
    let act = if *recursive { "rbind" } else { "bind" };
    let link = if *nofollow { " (the link itself)" } else { "" };
    let ids = ids.as_ref().map(mount_ids).unwrap_or_default();
    format!("{act} {} on {}{link}{}{ids}", text(source), text(at), self::properties(properties))
}

fn layers(layers: &Layers) -> String {
    let Layers { place, lower, upper, userxattr, squash, nodev, own_parent } = layers;
    let lower: Vec<_> = lower.iter().map(|dir| text(dir)).collect();
    let upper = match upper {
        Upper::Memory => "a tmpfs".into(),
        Upper::Kept(dir) => text(dir),
    };
    let parent = if *own_parent { " on a parent of its own" } else { "" };
    let marks = marks(*userxattr, *nodev);
    let squash = if *squash { ", all of it root's" } else { "" };
    format!("{} at {}, changes in {upper}{marks}{parent}{squash}", lower.join(" over "), text(place))
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
        let _ = write!(line, " {}{value}", text(key));
    }
    line += &self::properties(properties);
    line.extend(label.as_ref().map(|label| format!(", labelled {}", text(label))));
    for (set, words) in
        [(*copy_up, ", copy up"), (*mode_of_place, ", mode of the place"), (*exact, ", follow no link")]
    {
        line += if set { words } else { "" };
    }
    if let Some(flags) = legacy {
        let _ = write!(line, ", by mount(2) with {:?}", names(*flags, &[(libc::MS_I_VERSION, "iversion")]));
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

fn properties(properties: &Properties) -> String {
    let Properties { own, all, propagation: types } = properties;
    let mut line = String::new();
    for (scope, bits) in [("", own), (" and beneath", all)] {
        let attr::Attr { set, clear, propagation, userns_fd } = *bits;
        assert_eq!((propagation, userns_fd), (0, 0), "a plan names neither by number");
        for (sign, bits) in [('+', set), ('-', clear)] {
            for name in attributes(bits) {
                let _ = write!(line, " {sign}{name}");
            }
        }
        if set | clear != 0 {
            line += scope;
        }
    }
    for (flag, recursive) in types.iter().flatten() {
        let recursive = if *recursive { libc::MS_REC } else { 0 };
        let _ = write!(line, ", {}", propagation(flag | recursive));
    }
    line
}

fn attributes(bits: u64) -> Vec<String> {
    const NAMES: [(u64, &str); 9] = [
        (attr::ATTR_RDONLY, "ro"),
        (attr::ATTR_NOSUID, "nosuid"),
        (attr::ATTR_NODEV, "nodev"),
        (attr::ATTR_NOEXEC, "noexec"),
        // The whole field before its values: it is what is cleared.
        (attr::ATTR_ATIME, "atime"),
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
        libc::S_IFIFO => "p",
        other => panic!("{other:o} is no kind of device"),
    };
    format!("{kind} {major}:{minor}")
}

fn process(process: &Process) -> Vec<String> {
    let Process {
        uid,
        gid,
        groups,
        umask,
        cwd,
        capabilities,
        rlimits,
        no_new_privileges,
        label,
        terminal,
        args,
        env,
        programs,
        find_home,
        scheduling: when,
        preserved_fds,
    } = process;
    let groups = match groups {
        Some(groups) => format!("groups {groups:?}"),
        None => "groups as they are".into(),
    };
    let mut lines = vec![format!("uid {uid}, gid {gid}, {groups}")];
    lines.push(format!("args {:?} in {}", args.iter().map(text).collect::<Vec<_>>(), text(cwd)));
    lines.push(match programs {
        Programs::Path(path) => format!("program {}", text(path)),
        Programs::Search(paths) => {
            format!("program, the first of {}", paths.iter().map(|p| text(p)).collect::<Vec<_>>().join(" "))
        }
    });
    lines.extend(env.iter().map(|entry| format!("env {}", text(entry))));
    if *find_home {
        lines.push("env HOME from the container's passwd".into());
    }
    lines.extend(sets(capabilities));
    lines.extend(rlimits.iter().map(rlimit));
    lines.extend(umask.map(|umask| format!("umask {umask:04o}")));
    if let Some(Label { module: _, file, text: label }) = label {
        lines.push(format!("label {:?} to {}", String::from_utf8_lossy(label), text(file)));
    }
    for (set, line) in [(no_new_privileges, "no_new_privs"), (terminal, "terminal")] {
        lines.extend(set.then(|| line.to_string()));
    }
    lines.extend(scheduling(when));
    if *preserved_fds > 0 {
        lines.push(format!("descriptors 3 to {}", 2 + preserved_fds));
    }
    lines
}

fn scheduling(scheduling: &Scheduling) -> Vec<String> {
    let Scheduling { processor, io, by_launch } = scheduling;
    let by = if *by_launch { "us" } else { "itself" };
    let processor = processor.map(|attributes| {
        let Attributes { policy, flags, nice, priority, runtime, deadline, period } = attributes;
        format!(
            "scheduler {policy}, flags {flags:#x}, nice {nice}, priority {priority}, runtime {runtime}, deadline {deadline}, period {period}, by {by}"
        )
    });
    let io = io.map(|io| format!("I/O priority {} of class {}, by {by}", io & 7, io >> 13));
    processor.into_iter().chain(io).collect()
}

fn sets(sets: &Sets) -> Vec<String> {
    let Sets { bounding, effective, permitted, inheritable, ambient } = *sets;
    let list = |(name, mask): (&str, u64)| {
        let mut known: Vec<_> = caps::all().into_iter().collect();
        known.sort_by_key(caps::Capability::index);
        let named = known.iter().map(|cap| (cap.bitmask(), cap.to_string())).collect::<Vec<_>>();
        let table: Vec<_> = named.iter().map(|(bit, name)| (*bit, name.trim_start_matches("CAP_"))).collect();
        let found = names(mask, &table);
        format!("{name}: {}", if found.is_empty() { "none".into() } else { found.join(" ") })
    };
    if [bounding, effective, permitted, inheritable, ambient] == [0; 5] {
        return vec!["no capabilities".into()];
    }
    [
        ("bounding", bounding),
        ("effective", effective),
        ("permitted", permitted),
        ("inheritable", inheritable),
        ("ambient", ambient),
    ]
    .map(list)
    .into()
}

fn rlimit(limit: &Rlimit) -> String {
    // include/uapi/asm-generic/resource.h, in its order.
    const NAMES: [&str; 16] = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    let Rlimit { resource, soft, hard } = *limit;
    format!("RLIMIT_{} {soft} of {hard}", NAMES[resource as usize])
}

fn hooks(hooks: &Hooks) -> Vec<String> {
    let Hooks { prestart, create_runtime, create_container, start_container, poststart, poststop } = hooks;
    let kinds = [
        ("prestart", prestart),
        ("createRuntime", create_runtime),
        ("createContainer", create_container),
        ("startContainer", start_container),
        ("poststart", poststart),
        ("poststop", poststop),
    ];
    let line = |kind: &str, hook: &Hook| {
        let Hook { path, args, env, timeout } = hook;
        let timeout = timeout.map(|time| format!(", {} s at most", time.as_secs())).unwrap_or_default();
        let pairs =
            |env: &Vec<_>| env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        let env = env.as_ref().map_or("none named".into(), |env| format!("{:?}", pairs(env)));
        format!("{kind} {} {args:?} env {env}{timeout}", path.display())
    };
    kinds.iter().flat_map(|(kind, list)| list.iter().map(|hook| line(kind, hook))).collect()
}
