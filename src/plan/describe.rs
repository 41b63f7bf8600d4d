//! A plan as text for people and as JSON for programs: what `explain` prints, and what the golden plans pin.
//!
//! Both come from one walk: each topic is told once, as lines and as a value, so that neither knows more than the
//! other. Every struct is taken apart by name, so that a field which is new has to be told before anything compiles.
//!
//! The JSON is one object. Later versions add keys and take none away; the value of a topic that is refused is null.
//!
//! ```text
//! id, bundle, rootfs
//! outcome        made, degraded (made by weaker means) or refused
//! refusals       each with act, code, cause, fix and the whole line; the first is the one that run prints
//! degradations   those that are known now, each with code, class (same, weaker or allowed), wanted, got, because, fix
//! remarks        what of the configuration is ignored or makes no sense
//! namespaces     new, joined (type and path), shared with the caller; timeOffsets
//! ids            writtenBy (bryo, helpers, or null where there is no new user namespace), setgroups, and the maps as
//!                config.json has them: uidMappings and gidMappings with containerID, hostID and size
//! cgroup         manager, path, unit (of systemd's), settings (file and value), deviceRules; null: none of its own
//! network        helper, argv, publish and the files that are shown
//! steps          what init does, in order: see below
//! rdt            class, made, schemata, monitor; null where nothing is asked for
//! process        user, capabilities, rlimits, args, env, cwd, noNewPrivileges and the rest
//! seccomp        rules, instructions and bytes of the compiled filter; null: no filter
//! hooks          by kind, in order
//! ```
//!
//! A step has `do` (a word for what is done), `text` (as it reads here), and what there is of `at`, `type`, `source`,
//! `options`, `flags` and `beneath` (each with set and clear; beneath is for what is mounted there already) and
//! `propagation`. `or` lists what is done instead if the kernel refuses: `on` (errnos), `step`, and `cost`, the
//! degradation that it would be. Which it will be only the kernel knows.

mod step;

use super::Plan;
use super::cgroup::{Cgroup, Directory, Owner, Place, Scope};
use super::degrade::{Class, Degradation};
use super::hooks::{Hook, Hooks};
use super::idmap::{Idmap, Mapping, Maps};
use super::limits::{Absent, Setting};
use super::namespaces::Namespaces;
use super::network::{Device, Helper, HelperKind, Network, Shown};
use super::process::{Guard, Label, Process, Programs};
use super::rdt::{Origin, Rdt};
use super::scheduling::Scheduling;
use super::survey::{Survey, Topic};
use crate::report::Failure;
use crate::seccomp::{Filter, Profile};
use crate::sys::caps::Sets;
use crate::sys::process::{RLIMITS, Rlimit};
use crate::sys::scheduling::Attributes;
use nix::libc;
use nix::sched::CloneFlags;
use serde_json::{Map, Value, json};
use std::ffi::CStr;
use std::path::Path;

/// One topic, told twice.
#[derive(Debug, Default)]
struct Told {
    lines: Vec<String>,
    value: Value,
}

/// All of them.
#[derive(Debug)]
pub struct Description {
    lines: Vec<String>,
    value: Map<String, Value>,
}

impl Description {
    /// For people.
    pub fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }

    /// For programs.
    pub fn json(&self) -> &Map<String, Value> {
        &self.value
    }

    fn section(&mut self, title: &str, told: Told) {
        if !told.lines.is_empty() {
            self.lines.extend([String::new(), title.into()]);
            self.lines.extend(told.lines.iter().map(|line| format!("  {line}")));
        }
        self.value.insert(title.into(), told.value);
    }
}

/// Describes what would be done for the bundle in this directory; `filter` is what its seccomp profile compiles to.
pub fn survey(survey: &Survey, bundle: &Path, filter: Option<&Filter>) -> Description {
    // `spec_process` is a copy of what the configuration has; what is `inherited` is among the steps, and what
    // `layers` asks for.
    let Plan {
        id,
        rootfs,
        layers: _,
        namespaces: spaces,
        idmap,
        cgroup: group,
        network: connection,
        rdt: class,
        steps,
        process: main,
        spec_process: _,
        inherited: _,
        seccomp: profile,
        hooks: kinds,
        guard,
        launch_reaches_more,
        oom_score_adj,
        degradations,
        remarks,
    } = &survey.plan;
    let refused = &survey.refused;
    let known = |topic, told: &dyn Fn() -> Told| if refused.has(topic) { Told::default() } else { told() };
    let mut whole = Description {
        lines: vec![format!("container {id} in {}", rootfs.display())],
        value: Map::from_iter([
            ("id".into(), id.as_str().into()),
            ("bundle".into(), bundle.to_string_lossy().into()),
            ("rootfs".into(), rootfs.to_string_lossy().into()),
        ]),
    };
    whole.section("namespaces", known(Topic::Namespaces, &|| namespaces(spaces)));
    whole.section("ids", known(Topic::Ids, &|| ids(idmap)));
    whole.section("cgroup", known(Topic::Cgroup, &|| group.as_ref().map(cgroup).unwrap_or_default()));
    whole.section("network", known(Topic::Network, &|| network(connection)));
    whole.section("rdt", known(Topic::Cgroup, &|| class.as_ref().map(rdt).unwrap_or_default()));
    whole.section("steps", known(Topic::Steps, &|| step::list(steps)));
    let circumstances = (*guard, *launch_reaches_more, *oom_score_adj);
    whole.section("process", known(Topic::Process, &|| process(main, circumstances)));
    whole.section(
        "seccomp",
        known(Topic::Seccomp, &|| profile.as_ref().map(|p| seccomp(p, filter)).unwrap_or_default()),
    );
    whole.section("hooks", known(Topic::Hooks, &|| hooks(kinds)));
    whole.section(
        "degradations",
        Told {
            lines: degradations.iter().map(degradation).collect(),
            value: degradations.iter().map(|d| json!(d)).collect(),
        },
    );
    whole.section(
        "remarks",
        Told { lines: remarks.clone(), value: remarks.iter().map(String::as_str).collect() },
    );
    whole.section(
        "refusals",
        Told {
            lines: refused.failures().map(ToString::to_string).collect(),
            value: refused.failures().map(refusal).collect(),
        },
    );
    whole.section("outcome", outcome(survey));
    whole
}

/// What it comes to.
fn outcome(survey: &Survey) -> Told {
    let weaker = survey.plan.degradations.iter().filter(|d| d.class != Class::Same).count();
    let (line, word) = if !survey.refused.is_empty() {
        let reasons = count(survey.refused.failures().count(), "reason");
        (format!("it would be refused, for {reasons}"), "refused")
    } else if weaker > 0 {
        (format!("it would be made, with {} (see degradations)", count(weaker, "weaker means")), "degraded")
    } else {
        ("it would be made as it is asked for".into(), "made")
    };
    Told { lines: vec![line], value: word.into() }
}

/// A number of things; those that have no plural of their own end in an s.
fn count(n: usize, what: &str) -> String {
    let plural = if n == 1 || what.ends_with('s') { "" } else { "s" };
    format!("{n} {what}{plural}")
}

fn refusal(failure: &Failure) -> Value {
    let (act, code, cause, fix) = failure.parts();
    json!({"act": act, "code": code, "cause": cause, "fix": fix, "line": failure.to_string()})
}

/// As the warning reads, whether it is one or not.
fn degradation(found: &Degradation) -> String {
    let Degradation { code, class, wanted, got, because, fix } = found;
    let class = match class {
        Class::Same => "same",
        Class::Weaker => "weaker",
        Class::Allowed => "allowed",
    };
    let fix = fix.as_ref().map(|fix| format!("; fix: {fix}")).unwrap_or_default();
    format!("{class}: {code}: {got}, wanted {wanted}: {because}{fix}")
}

fn text(s: &CStr) -> String {
    s.to_string_lossy().into_owned()
}

fn texts<'a>(list: impl IntoIterator<Item = &'a CStr>) -> Vec<String> {
    list.into_iter().map(text).collect()
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

fn kinds(kinds: CloneFlags) -> Vec<String> {
    // The words of config.json.
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
    let table = NAMES.map(|(kind, name)| (kind.bits() as u64, name));
    names(kinds.bits() as u64, &table)
}

fn namespaces(namespaces: &Namespaces) -> Told {
    let Namespaces { at_clone, by_init, joined, time_offsets } = namespaces;
    let new = *at_clone | *by_init;
    let every = Namespaces::every();
    let time = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);
    let shared = (every.at_clone | every.by_init | time) - namespaces.all();
    let mut lines = Vec::new();
    for (what, which) in [("new", new), ("shared with the caller", shared)] {
        if !which.is_empty() {
            lines.push(format!("{what}: {}", kinds(which).join(" ")));
        }
    }
    let paths = joined.iter().map(|(kind, path)| (kinds(*kind).join(" "), path.display().to_string()));
    let paths: Vec<_> = paths.collect();
    lines.extend(paths.iter().map(|(kind, path)| format!("joined: {kind} {path}")));
    let offsets = time_offsets.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let offsets: Vec<_> = offsets.lines().collect();
    lines.extend(offsets.iter().map(|line| format!("time offset: {line}")));
    let joined: Vec<_> = paths.iter().map(|(kind, path)| json!({"type": kind, "path": path})).collect();
    let value = json!({"new": kinds(new), "joined": joined, "shared": kinds(shared), "timeOffsets": offsets});
    Told { lines, value }
}

fn ids(idmap: &Idmap) -> Told {
    let (by, helpers, maps, setgroups) = match idmap {
        Idmap::Inherited { .. } => {
            let value = json!({"writtenBy": null, "setgroups": true, "uidMappings": [], "gidMappings": []});
            return Told { lines: vec!["as they are".into()], value };
        }
        Idmap::Direct { maps, deny_setgroups } => ("bryo", "us".into(), maps, !deny_setgroups),
        Idmap::Helpers { maps, newuidmap, newgidmap } => {
            ("helpers", format!("{} and {}", newuidmap.display(), newgidmap.display()), maps, true)
        }
    };
    let Maps { uids, gids } = maps;
    let line = |kind: &str, m: &Mapping| {
        let Mapping { inside, outside, count } = *m;
        match count {
            1 => format!("{kind} {inside} is {outside}"),
            _ => format!("{kind}s {} are {}", range(inside, count), range(outside, count)),
        }
    };
    let denied = if setgroups { "" } else { ", setgroups denied" };
    let mut lines = vec![format!("written by {helpers}{denied}")];
    lines.extend(uids.iter().map(|m| line("uid", m)));
    lines.extend(gids.iter().map(|m| line("gid", m)));
    let list = |map: &[Mapping]| -> Value {
        let one = |Mapping { inside, outside, count }: &Mapping| json!({"containerID": inside, "hostID": outside, "size": count});
        map.iter().map(one).collect()
    };
    let value = json!({
        "writtenBy": by, "setgroups": setgroups, "uidMappings": list(uids), "gidMappings": list(gids),
    });
    Told { lines, value }
}

fn range(first: u32, count: u32) -> String {
    format!("{first}-{}", u64::from(first) + u64::from(count) - 1)
}

fn cgroup(cgroup: &Cgroup) -> Told {
    let Cgroup { place, settings, devices, owner } = cgroup;
    let (mut lines, mut value) = match place {
        Place::Directory(directory) => by_directory(directory),
        Place::Scope(scope) => by_scope(scope),
    };
    for Setting { controller, file, value, absent } in settings {
        let absent = if *absent == Absent::Fails { String::new() } else { format!(" (absent: {absent:?})") };
        let by = if controller.is_empty() { "the core" } else { controller };
        lines.push(format!("{file} = {value}, by {by}{absent}"));
    }
    let file = |s: &Setting| json!({"file": s.file, "value": s.value, "controller": s.controller});
    value.insert("settings".into(), settings.iter().map(file).collect());
    lines.extend(devices.as_ref().map(|rules| format!("filter of {}", count(rules.len(), "device rule"))));
    value.insert("deviceRules".into(), json!(devices.as_ref().map(Vec::len)));
    let owner = owner.as_ref().map(|owner| match owner {
        Owner::Outside(uid, files) => (
            format!("uid {uid} of the caller's ids: {}", texts(files.iter().map(AsRef::as_ref)).join(" ")),
            json!({"hostID": uid}),
        ),
        Owner::Inside(uid) => (format!("uid {uid} inside"), json!({"containerID": uid})),
    });
    lines.extend(owner.as_ref().map(|(whom, _)| format!("delegated to {whom}")));
    value.insert("owner".into(), owner.map(|(_, id)| id).unwrap_or_default());
    Told { lines, value: value.into() }
}

fn by_directory(directory: &Directory) -> (Vec<String>, Map<String, Value>) {
    let Directory { path, from, aside, needed } = directory;
    let mut lines = vec![format!("directory {}, controllers from {}", path.display(), from.display())];
    lines.extend(aside.map(|name| format!("may move processes aside to {name}")));
    lines.extend((!needed.is_empty()).then(|| format!("needs {}", needed.join(" "))));
    let value = Map::from_iter([
        ("manager".into(), "cgroupfs".into()),
        ("path".into(), path.to_string_lossy().into()),
        ("controllers".into(), needed.iter().copied().collect()),
    ]);
    (lines, value)
}

fn by_scope(scope: &Scope) -> (Vec<String>, Map<String, Value>) {
    let Scope { user, bus, unit, slice, description, properties, below, path } = scope;
    let whose = if *user { "the user's systemd" } else { "systemd" };
    let mut lines = vec![format!("scope {unit} in {slice} of {whose}: {description}")];
    lines.extend(bus.iter().map(|c| format!("bus {} ({:?})", c.address, c.peer)));
    lines.extend(properties.iter().map(|(name, value)| format!("property {name} {value:?}")));
    let path = path.as_ref().map(|unit| below.iter().fold(unit.clone(), |path, name| path.join(name)));
    lines.extend(match &path {
        Some(path) => vec![format!("directory {}", path.display())],
        None => below.iter().map(|name| format!("below it {name}")).collect(),
    });
    let property = |(name, value): &(String, _)| json!({"name": name, "value": format!("{value:?}")});
    let unit = json!({
        "name": unit, "slice": slice, "user": user, "description": description,
        "properties": properties.iter().map(property).collect::<Value>(),
    });
    let value = Map::from_iter([
        ("manager".into(), "systemd".into()),
        ("path".into(), json!(path.as_ref().map(|path| path.to_string_lossy()))),
        ("unit".into(), unit),
    ]);
    (lines, value)
}

fn network(network: &Network) -> Told {
    let Network { helper, shown, devices } = network;
    let mut lines = Vec::new();
    let mut value = Map::new();
    if let Some(helper) = helper {
        let Helper { kind, program, publish, forwards_names, as_root, ipv4_alone, out_of_sight } = helper;
        let argv = match kind {
            HelperKind::Pasta => helper.pasta(!as_root),
            // Whom it enters, and what it says that it is ready on, is known when it is started.
            HelperKind::Slirp4netns => helper.slirp4netns(0, 0),
        };
        lines.push(format!("{} is {}", kind.name(), program.display()));
        lines.extend(as_root.then(|| "  which stays root".to_string()));
        lines.extend(ipv4_alone.then(|| "  on IPv4 addresses alone".to_string()));
        lines.extend((!out_of_sight).then(|| "  where the container can see it".to_string()));
        lines.extend(forwards_names.then(|| format!("  and answers for names at {}", kind.forwarder())));
        lines.extend(publish.iter().map(|publish| format!("  publish {publish}")));
        lines.push(format!("  as {}", argv.join(" ")));
        value.insert("helper".into(), kind.name().into());
        value.insert("program".into(), program.to_string_lossy().into());
        value.insert("argv".into(), argv.into());
        value.insert("publish".into(), publish.iter().map(ToString::to_string).collect());
    }
    lines.extend(devices.iter().map(|device| format!("{} moves here as {}", device.name, device.inside)));
    let device = |d: &Device| json!({"name": d.name, "inside": d.inside});
    value.insert("devices".into(), devices.iter().map(device).collect());
    for Shown { name, at, contents } in shown {
        lines.push(format!("{name}, shown at {at}: {contents:?}"));
    }
    let file = |s: &Shown| json!({"at": s.at, "contents": s.contents});
    value.insert("files".into(), shown.iter().map(file).collect());
    Told { lines, value: value.into() }
}

fn rdt(rdt: &Rdt) -> Told {
    let Rdt { class, origin, schemata, monitor } = rdt;
    let whose = match origin {
        Origin::Own => "made for it",
        Origin::Named => "made where it is missing, else to be as it is",
        Origin::Present => "as it is",
    };
    let mut lines = vec![format!("class {}, {whose}", class.display())];
    lines.extend(schemata.iter().map(|line| format!("  {line}")));
    lines.extend(monitor.iter().map(|group| format!("counted by {}", group.display())));
    let value =
        json!({ "class": class, "made": *origin == Origin::Own, "schemata": schemata, "monitor": monitor });
    Told { lines, value }
}

/// `circumstances`: how our binary is kept from it, whether launch reaches more than init, and its oom_score_adj.
fn process(process: &Process, circumstances: (Guard, bool, Option<i32>)) -> Told {
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
    let (guard, launch_reaches_more, oom_score_adj) = circumstances;
    let of_groups = match groups {
        Some(groups) => format!("groups {groups:?}"),
        None => "groups as they are".into(),
    };
    let mut lines = vec![format!("uid {uid}, gid {gid}, {of_groups}")];
    lines.push(format!("args {:?} in {}", texts(args.iter()), text(cwd)));
    lines.push(match programs {
        Programs::Path(path) => format!("program {}", text(path)),
        Programs::Search(paths) => {
            format!("program, the first of {}", texts(paths.iter().map(AsRef::as_ref)).join(" "))
        }
    });
    lines.extend(env.iter().map(|entry| format!("env {}", text(entry))));
    if *find_home {
        lines.push("env HOME from the container's passwd".into());
    }
    let capabilities = sets(capabilities);
    lines.extend(capabilities.lines);
    lines.extend(
        rlimits
            .iter()
            .map(|Rlimit { resource, soft, hard }| format!("{} {soft} of {hard}", rlimit(*resource))),
    );
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
    lines.extend(launch_reaches_more.then(|| "sources out of its reach are mounted by us".to_string()));
    lines.extend(match guard {
        Guard::Needless => None,
        Guard::Stub => Some("started by a stub, out of sight of our binary".to_string()),
        Guard::Copy => Some("started from a sealed copy of our binary".to_string()),
    });
    lines.extend(oom_score_adj.map(|score| format!("oom_score_adj {score}")));
    let limits = rlimits.iter().map(
        |Rlimit { resource, soft, hard }| json!({"type": rlimit(*resource), "soft": soft, "hard": hard}),
    );
    let value = json!({
        "user": {"uid": uid, "gid": gid, "umask": umask, "additionalGids": groups},
        "args": texts(args.iter()),
        "env": texts(env.iter()),
        "cwd": text(cwd),
        "capabilities": capabilities.value,
        "rlimits": limits.collect::<Value>(),
        "noNewPrivileges": no_new_privileges,
        "terminal": terminal,
        "label": label.as_ref().map(|label| String::from_utf8_lossy(&label.text)),
        "oomScoreAdj": oom_score_adj,
        "scheduling": scheduling(when),
        "preservedFds": preserved_fds,
    });
    Told { lines, value }
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

fn sets(sets: &Sets) -> Told {
    let Sets { bounding, effective, permitted, inheritable, ambient } = *sets;
    let mut known: Vec<_> = caps::all().into_iter().collect();
    known.sort_by_key(caps::Capability::index);
    let named: Vec<_> = known.iter().map(|cap| (cap.bitmask(), cap.to_string())).collect();
    let table: Vec<_> = named.iter().map(|(bit, name)| (*bit, name.as_str())).collect();
    let sets = [
        ("bounding", bounding),
        ("effective", effective),
        ("permitted", permitted),
        ("inheritable", inheritable),
        ("ambient", ambient),
    ]
    .map(|(set, mask)| (set, names(mask, &table)));
    let line = |(set, names): &(&str, Vec<String>)| {
        let short: Vec<_> = names.iter().map(|name| name.trim_start_matches("CAP_")).collect();
        format!("{set}: {}", if short.is_empty() { "none".into() } else { short.join(" ") })
    };
    let lines = match sets.iter().all(|(_, names)| names.is_empty()) {
        true => vec!["no capabilities".into()],
        false => sets.iter().map(line).collect(),
    };
    Told { lines, value: sets.into_iter().map(|(set, names)| (set.to_string(), json!(names))).collect() }
}

fn rlimit(resource: u32) -> String {
    format!("RLIMIT_{}", RLIMITS[resource as usize])
}

fn seccomp(profile: &Profile, filter: Option<&Filter>) -> Told {
    let mut lines = vec![format!("filter of {}", count(profile.rules(), "rule"))];
    lines.extend(filter.map(|filter| {
        format!("compiled to {} instructions of BPF, {} bytes", filter.len(), filter.instructions.len())
    }));
    lines.extend(profile.listener_path().map(|path| format!("its agent at {}", path.display())));
    let value = json!({
        "rules": profile.rules(),
        "instructions": filter.map(Filter::len),
        "bytes": filter.map(|filter| filter.instructions.len()),
        "listenerPath": profile.listener_path().map(Path::to_string_lossy),
    });
    Told { lines, value }
}

fn hooks(hooks: &Hooks) -> Told {
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
        let Hook { path, args, env, timeout, output } = hook;
        let timeout = timeout.map(|time| format!(", {} s at most", time.as_secs())).unwrap_or_default();
        let pairs =
            |env: &Vec<_>| env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        let env = env.as_ref().map_or("none named".into(), |env| format!("{:?}", pairs(env)));
        let into = [("stdout", &output.stdout), ("stderr", &output.stderr)].into_iter();
        let into: String = into
            .filter_map(|(name, path)| Some(format!(", its {name} to {}", path.as_ref()?.display())))
            .collect();
        format!("{kind} {} {args:?} env {env}{timeout}{into}", path.display())
    };
    let value = |hook: &Hook| {
        let timeout = hook.timeout.map(|time| time.as_secs());
        json!({"path": hook.path.to_string_lossy(), "args": hook.args, "timeout": timeout})
    };
    Told {
        lines: kinds.iter().flat_map(|(kind, list)| list.iter().map(|hook| line(kind, hook))).collect(),
        value: kinds
            .iter()
            .map(|(kind, list)| ((*kind).to_string(), list.iter().map(value).collect::<Value>()))
            .collect(),
    }
}
