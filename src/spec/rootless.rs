//! A configuration that was written for root, rewritten for a plain user: `bryo spec --from-config FILE --rootless`.
//!
//! Engines and `runc spec` write for root: the ids of the machine, namespaces that root has made, places in root's
//! cgroups. `bryo run` makes the best of such a file by itself, and says what became of it. Rewriting is for what it
//! refuses, and for who wants the file to be right for other runtimes as well, which do not make the best of it.
//!
//! So what is changed is what bryo, or runc, would refuse a plain user, and nothing else; the result still runs for
//! root, and differs from what `runc spec --rootless` writes where that one is written for the least of hosts:
//!
//! ```text
//!                         here                                         runc spec --rootless
//! user namespace          added, with the own id, or all ids that are  added, with the own id
//!                         the caller's where the file needs more
//! network namespace       stays: it is the container's to be isolated  taken away: the host's is shared
//!                         (bryo run --network connects it)
//! sysfs                   stays in a network namespace of its own,     the host's, shown
//!                         else the host's, shown
//! uid= and gid= of mounts stay where the id is mapped                  taken away
//! additional groups       stay where they are mapped; runc itself has  stay, and are refused
//!                         none for a plain user
//! resources               stay as far as the caller's cgroups go       taken away
//! ```
//!
//! And what root can have but a plain user cannot: namespaces by a path (root's cannot be joined from a user
//! namespace), groups and ids that are not mapped, a lower oom_score_adj, higher resource limits, a place in root's
//! cgroups, devices that are not there, network devices, the hook by which Docker connects a container.
//!
//! What stays although it does nothing for a plain user is what every runtime passes over: device rules (in a user
//! namespace there are no other devices than those listed), masked paths, the terminal, hooks of others.
//! Nothing that isolates is taken away.

use crate::bundle::{self, Bundle};
use crate::host::Facts;
use crate::host::devices::{self, Wanted};
use crate::host::idmap::{IdRange, covers};
use crate::plan::idmap::{self, Idmap, Mapping, Maps};
use crate::plan::survey::Topic;
use crate::plan::{self, Request};
use crate::report::Failure;
use crate::sys::process::RLIMITS;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};
use std::path::Path;

/// One thing that is different now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where in the file, and what became of it.
    pub what: String,
    pub why: String,
}

/// What the caller has.
pub struct Caller<'a> {
    pub facts: &'a Facts,
    /// Whether a path of the host is there for the caller.
    pub reaches: &'a dyn Fn(&Path) -> bool,
}

/// The file systems that belong to a namespace, and what is shown of the host's where the container has no namespace
/// of that kind.
const OF_NAMESPACES: [(&str, &str, &str); 3] =
    [("sysfs", "network", "/sys"), ("mqueue", "ipc", "/dev/mqueue"), ("proc", "pid", "/proc")];

/// What an engine writes for each container, in directories of its own.
const FILES_OF_ENGINES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];

/// The capabilities by which a process becomes others than its user, or gives files to them.
const OTHER_IDS: [&str; 3] = ["CAP_CHOWN", "CAP_SETGID", "CAP_SETUID"];

/// The argument by which Docker's own hook is known.
const DOCKERS_HOOK: &str = "libnetwork-setkey";

/// Rewrites a configuration, which [`bundle::parse`] has accepted, in place. Returns what was changed.
pub fn rewrite(config: &mut Value, caller: &Caller<'_>) -> Vec<Change> {
    let mut rewriting = Rewriting { config, caller, changes: Vec::new() };
    let joins_user = rewriting.namespaces();
    // Of one that is joined nobody knows the ids beforehand.
    if !joins_user {
        let idmap = rewriting.ids();
        rewriting.groups(&idmap);
        rewriting.owners_of_mounts(&idmap);
        rewriting.ping(&idmap);
    }
    rewriting.file_systems();
    rewriting.sources();
    rewriting.process();
    rewriting.devices();
    rewriting.hooks();
    rewriting.cgroup();
    rewriting.changes
}

/// What bryo would still refuse this caller.
pub fn refusals(config: &Value, facts: &Facts) -> Vec<String> {
    survey(config, facts).map_or_else(
        |failure| vec![failure.to_string()],
        |survey| survey.refused.failures().map(ToString::to_string).collect(),
    )
}

fn survey(config: &Value, facts: &Facts) -> Result<plan::survey::Survey, Failure> {
    let (spec, remarks) = bundle::parse(config.to_string().as_bytes())
        .map_err(|cause| Failure::new("cannot read the configuration", cause))?;
    let bundle = Bundle { dir: "/".into(), spec, remarks };
    plan::survey(&bundle, facts, &Request { id: "container".into(), ..Request::default() })
}

struct Rewriting<'a> {
    config: &'a mut Value,
    caller: &'a Caller<'a>,
    changes: Vec<Change>,
}

impl Rewriting<'_> {
    fn change(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.changes.push(Change { what: what.into(), why: why.into() });
    }

    /// An object of the configuration, made where there is none.
    fn object(&mut self, name: &str) -> &mut Map<String, Value> {
        let place = &mut self.config[name];
        if !place.is_object() {
            *place = json!({});
        }
        match place {
            Value::Object(map) => map,
            _ => unreachable!("it has just been made"),
        }
    }

    fn linux(&mut self) -> &mut Map<String, Value> {
        self.object("linux")
    }

    /// The list at a place, empty where there is none.
    fn list(&self, place: &str) -> Vec<Value> {
        self.config.pointer(place).and_then(Value::as_array).cloned().unwrap_or_default()
    }

    fn has(&self, kind: &str) -> bool {
        self.list("/linux/namespaces").iter().any(|namespace| namespace["type"] == kind)
    }

    /// Sees to a user namespace. Returns whether one is joined.
    fn namespaces(&mut self) -> bool {
        let mut listed = self.list("/linux/namespaces");
        let path =
            |namespace: &Value| namespace["path"].as_str().filter(|path| !path.is_empty()).map(String::from);
        if listed.iter().any(|namespace| namespace["type"] == "user" && path(namespace).is_some()) {
            return true;
        }
        for namespace in &mut listed {
            let Some(path) = path(namespace) else { continue };
            let kind = namespace["type"].as_str().unwrap_or_default().to_string();
            *namespace = json!({"type": kind});
            let connect = if kind == "network" { "; bryo run --network auto connects it" } else { "" };
            self.change(
                format!("linux.namespaces: a new {kind} namespace in the place of {path}"),
                format!(
                    "one that is not of the container's user namespace cannot be joined from there{connect}"
                ),
            );
        }
        if !self.has("user") {
            listed.push(json!({"type": "user"}));
            self.change("linux.namespaces: added user", "only inside of one a plain user has any other");
        }
        self.linux().insert("namespaces".into(), listed.into());
        false
    }

    /// Sees to maps of ids that are the caller's.
    fn ids(&mut self) -> Idmap {
        let facts = self.caller.facts;
        let read = |place: &str| -> Vec<Mapping> {
            let number =
                |m: &Value, name: &str| u32::try_from(m[name].as_u64().unwrap_or(0)).unwrap_or(u32::MAX);
            let mapping = |m: &Value| Mapping {
                inside: number(m, "containerID"),
                outside: number(m, "hostID"),
                count: number(m, "size"),
            };
            self.list(place).iter().map(mapping).collect()
        };
        let given = Maps { uids: read("/linux/uidMappings"), gids: read("/linux/gidMappings") };
        if is_the_callers(&given, facts) {
            let deny_setgroups = given.uids.len() == 1 && given.uids[0].count == 1;
            return Idmap::Direct { maps: given, deny_setgroups };
        }
        let user = |name: &str| self.config["process"]["user"][name].as_u64().unwrap_or(0);
        let (uid, gid) = (user("uid"), user("gid"));
        let mut because = "0 inside is the caller".to_string();
        let idmap = match self.needs_more_than_one_id() {
            Some(reason) => {
                let mut found = Vec::new();
                let idmap = idmap::all_own(facts, &mut found);
                because = match found.first() {
                    Some(lack) => format!(
                        "{reason}, but {}{}",
                        lack.because,
                        lack.fix.as_ref().map(|fix| format!("; fix: {fix}")).unwrap_or_default()
                    ),
                    None => format!("{reason}, and these are all ids that the caller has"),
                };
                idmap
            }
            None => Idmap::single(facts, 0, 0),
        };
        // With a single id, the process can only be that one.
        let idmap = match idmap.maps() {
            Some(maps) if maps.uids.len() == 1 && maps.uids[0].count == 1 => {
                Idmap::single(facts, u32::try_from(uid).unwrap_or(0), u32::try_from(gid).unwrap_or(0))
            }
            _ => idmap,
        };
        if let Some(maps) = idmap.maps() {
            let lines = |map: &[Mapping]| -> Value {
                map.iter()
                    .map(|m| json!({"containerID": m.inside, "hostID": m.outside, "size": m.count}))
                    .collect()
            };
            let (uids, gids) = (lines(&maps.uids), lines(&maps.gids));
            let words = |map: &[Mapping]| {
                let one = |m: &Mapping| format!("{}+{} to {}", m.inside, m.count, m.outside);
                map.iter().map(one).collect::<Vec<_>>().join(", ")
            };
            let what = format!(
                "linux.uidMappings, linux.gidMappings: uids {} and gids {}",
                words(&maps.uids),
                words(&maps.gids)
            );
            self.linux().insert("uidMappings".into(), uids);
            self.linux().insert("gidMappings".into(), gids);
            self.change(what, because);
        }
        idmap
    }

    /// Why a map of one id would not do.
    fn needs_more_than_one_id(&self) -> Option<&'static str> {
        let user = &self.config["process"]["user"];
        if user["uid"].as_u64().unwrap_or(0) != 0 || user["gid"].as_u64().unwrap_or(0) != 0 {
            return Some("the process runs as another than root");
        }
        if user["additionalGids"].as_array().is_some_and(|gids| !gids.is_empty()) {
            return Some("the process has additional groups");
        }
        let bounding = self.list("/process/capabilities/bounding");
        let becomes = bounding.iter().any(|name| OTHER_IDS.iter().any(|other| name == other));
        becomes.then_some("its capabilities are for changing ids")
    }

    /// Leaves the groups that the container can have.
    fn groups(&mut self, idmap: &Idmap) {
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.list("/process/user/additionalGids").into_iter().partition(|gid| {
                let gid = gid.as_u64().and_then(|gid| u32::try_from(gid).ok());
                idmap.allows_setgroups() && gid.is_some_and(|gid| idmap.maps_gid(gid))
            });
        if gone.is_empty() {
            return;
        }
        let why = if idmap.allows_setgroups() {
            "they are not mapped"
        } else {
            "without subordinate ids the kernel denies setgroups(2)"
        };
        self.change(format!("process.user.additionalGids: removed {}", words(&gone)), why);
        if let Some(user) = self.config["process"]["user"].as_object_mut() {
            if kept.is_empty() {
                user.remove("additionalGids");
            } else {
                user.insert("additionalGids".into(), kept.into());
            }
        }
    }

    /// Leaves no `uid=` or `gid=` of an id that is not there.
    fn owners_of_mounts(&mut self, idmap: &Idmap) {
        self.each_mount(|mount, changes| {
            let at = mount["destination"].as_str().unwrap_or_default().to_string();
            let Some(options) = mount["options"].as_array_mut() else { return true };
            options.retain(|option| {
                let option = option.as_str().unwrap_or_default();
                let mapped = match option.split_once('=') {
                    Some(("uid", id)) => id.parse().is_ok_and(|id| idmap.maps_uid(id)),
                    Some(("gid", id)) => id.parse().is_ok_and(|id| idmap.maps_gid(id)),
                    _ => true,
                };
                if !mapped {
                    let what = format!("mounts: {at}: removed option {option}");
                    changes.push(Change { what, why: "the id is not mapped".into() });
                }
                mapped
            });
            true
        });
    }

    /// Has the host's file systems shown in place of those that belong to namespaces which are not the container's.
    fn file_systems(&mut self) {
        let lacks: Vec<_> = OF_NAMESPACES.into_iter().filter(|(_, kind, _)| !self.has(kind)).collect();
        self.each_mount(|mount, changes| {
            let lack = lacks.iter().find(|(fstype, ..)| mount["type"] == *fstype);
            let Some((fstype, kind, host)) = lack else { return true };
            let at = mount["destination"].as_str().unwrap_or_default().to_string();
            let options = mount["options"].as_array().cloned().unwrap_or_default();
            // Before the others, as runc spec writes it.
            let options: Value = std::iter::once(json!("rbind")).chain(options).collect();
            *mount = json!({"destination": at, "type": "none", "source": host, "options": options});
            changes.push(Change {
                what: format!("mounts: {at}: {host} of the host, in the place of a new {fstype}"),
                why: format!("the container has no {kind} namespace of its own to mount one of"),
            });
            true
        });
    }

    /// Forgets the files that an engine has written where only root gets to.
    fn sources(&mut self) {
        let caller = self.caller;
        self.each_mount(|mount, changes| {
            let at = mount["destination"].as_str().unwrap_or_default();
            let source = mount["source"].as_str().map(Path::new).filter(|source| source.is_absolute());
            let lost = source.filter(|source| FILES_OF_ENGINES.contains(&at) && !(caller.reaches)(source));
            if let Some(source) = lost {
                changes.push(Change {
                    what: format!("mounts: {at}: removed {}", source.display()),
                    why: "the caller cannot reach it; bryo run --network shows the container one of its own"
                        .into(),
                });
            }
            lost.is_none()
        });
    }

    /// Visits all mounts, and keeps those for which `visit` says so.
    fn each_mount(&mut self, mut visit: impl FnMut(&mut Value, &mut Vec<Change>) -> bool) {
        if let Some(mounts) = self.config["mounts"].as_array_mut() {
            mounts.retain_mut(|mount| visit(mount, &mut self.changes));
        }
    }

    /// What the process may not have.
    fn process(&mut self) {
        let facts = self.caller.facts;
        let lowest = facts.oom_score_adj;
        if let Some(wanted) = self.config["process"]["oomScoreAdj"].as_i64() {
            if wanted < i64::from(lowest) {
                self.object("process").remove("oomScoreAdj");
                self.change(
                    format!("process.oomScoreAdj: removed {wanted}"),
                    format!("only root may go below the caller's own, which is {lowest}"),
                );
            }
        }
        let mut limits = self.list("/process/rlimits");
        for limit in &mut limits {
            let name = limit["type"].as_str().unwrap_or_default().to_string();
            let resource = RLIMITS.iter().position(|known| name.strip_prefix("RLIMIT_") == Some(known));
            let Some(most) = resource.map(|resource| facts.hard_limits[resource]) else { continue };
            let (soft, hard) = (limit["soft"].as_u64().unwrap_or(0), limit["hard"].as_u64().unwrap_or(0));
            if hard > most {
                limit["hard"] = most.into();
                limit["soft"] = soft.min(most).into();
                self.change(
                    format!("process.rlimits: {name}: {most} in the place of {hard}"),
                    "it is the caller's hard limit, which only root may raise",
                );
            }
        }
        if !limits.is_empty() {
            self.object("process").insert("rlimits".into(), limits.into());
        }
    }

    /// Forgets devices that could not be shown, and network devices, which are root's to move.
    fn devices(&mut self) {
        for name in ["netDevices", "intelRdt"] {
            if self.linux().remove(name).is_some() {
                self.change(format!("linux.{name}: removed"), "it is root's to give");
            }
        }
        let number = |device: &Value, name: &str| device[name].as_u64().unwrap_or(u64::MAX);
        let (kept, gone): (Vec<_>, Vec<_>) = self.list("/linux/devices").into_iter().partition(|device| {
            let wanted = Wanted {
                path: device["path"].as_str().unwrap_or_default().into(),
                block: device["type"] == "b",
                major: number(device, "major"),
                minor: number(device, "minor"),
            };
            // A FIFO can be made.
            device["type"] == "p" || devices::exists(&wanted)
        });
        if gone.is_empty() {
            return;
        }
        for device in gone {
            self.change(
                format!("linux.devices: removed {}", device["path"].as_str().unwrap_or_default()),
                "the host does not have it, and a plain user cannot make device nodes",
            );
        }
        self.linux().insert("devices".into(), kept.into());
    }

    /// Takes away the hook by which Docker puts a network into the namespace.
    fn hooks(&mut self) {
        let Some(hooks) = self.config["hooks"].as_object_mut() else { return };
        let is_dockers = |hook: &Value| {
            hook["args"].as_array().is_some_and(|args| args.iter().any(|arg| arg == DOCKERS_HOOK))
        };
        let mut gone = Vec::new();
        for (kind, list) in hooks.iter_mut() {
            let Some(list) = list.as_array_mut() else { continue };
            let before = list.len();
            list.retain(|hook| !is_dockers(hook));
            gone.extend((list.len() != before).then(|| kind.clone()));
        }
        hooks.retain(|_, list| list.as_array().is_none_or(|list| !list.is_empty()));
        for kind in gone {
            self.change(
                format!("hooks.{kind}: removed Docker's {DOCKERS_HOOK}"),
                "it is for containers that Docker itself starts; bryo run --network auto connects this one",
            );
        }
    }

    /// Leaves the place to the runtime, and the limits that can be had there.
    fn cgroup(&mut self) {
        if let Some(path) = self.linux().remove("cgroupsPath") {
            if path.as_str() != Some("") {
                let why = "it is a place in root's cgroups; a runtime finds one in the caller's";
                self.change(format!("linux.cgroupsPath: removed {path}"), why);
            }
        }
        let Some(resources) = self.linux().get("resources").and_then(Value::as_object).cloned() else {
            return;
        };
        let mut kept = Map::new();
        for (name, mut value) in resources {
            // Rules for devices need no cgroup, see above.
            if name == "devices" {
                kept.insert(name, value);
                continue;
            }
            let Some(mut why) = self.refuses(&name, &value) else {
                kept.insert(name, value);
                continue;
            };
            if let Some(fields) = value.as_object_mut().filter(|fields| fields.len() > 1) {
                let gone: Vec<_> = fields
                    .iter()
                    .filter_map(|(field, one)| {
                        Some((field.clone(), self.refuses(&name, &json!({field: one}))?))
                    })
                    .collect();
                if gone.len() < fields.len() && !gone.is_empty() {
                    fields.retain(|field, _| !gone.iter().any(|(other, _)| field == other));
                    for (field, why) in gone {
                        self.change(format!("linux.resources.{name}.{field}: removed"), why);
                    }
                    match self.refuses(&name, &value) {
                        None => {
                            kept.insert(name, value);
                            continue;
                        }
                        Some(rest) => why = rest,
                    }
                }
            }
            self.change(format!("linux.resources.{name}: removed"), why);
        }
        if kept.is_empty() {
            self.linux().remove("resources");
        } else {
            self.linux().insert("resources".into(), kept.into());
        }
    }

    /// Why a part of the resources cannot be had, if it cannot.
    fn refuses(&self, name: &str, value: &Value) -> Option<String> {
        let mut alone = self.config.clone();
        alone["linux"]["resources"] = json!({name: value});
        let survey = survey(&alone, self.caller.facts).ok()?;
        let failure = survey.refused.of(Topic::Cgroup)?;
        let (_, code, cause, fix) = failure.parts();
        let code = code.map(|code| format!("{code}: ")).unwrap_or_default();
        Some(format!("{code}{cause}{}", fix.map(|fix| format!("; fix: {fix}")).unwrap_or_default()))
    }

    /// The kernel takes only gids of the map here, and engines ask for all there are.
    fn ping(&mut self, idmap: &Idmap) {
        const KEY: &str = "net.ipv4.ping_group_range";
        let value = self.config["linux"]["sysctl"][KEY].as_str().unwrap_or_default();
        let numbers: Vec<u32> = value.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let ([low, high], Some(last)) = (&numbers[..], idmap.last_gid()) else { return };
        if *high <= last || *low > last {
            return;
        }
        let clamped = format!("{low} {last}");
        let what = format!("linux.sysctl: {KEY}: {clamped} in the place of {value}");
        self.config["linux"]["sysctl"][KEY] = clamped.into();
        self.change(what, "the container has no higher gid");
    }
}

/// Whether a configuration has maps, and of the caller's ids alone.
fn is_the_callers(maps: &Maps, facts: &Facts) -> bool {
    let none: &[IdRange] = &[];
    let (uids, gids) = facts.subids.as_ref().map_or((none, none), |subids| (&subids.uids, &subids.gids));
    let owns = |map: &[Mapping], me: u32, own: &[IdRange]| {
        map.iter().all(|m| {
            (m.outside == me && m.count == 1) || covers(own, IdRange { start: m.outside, count: m.count })
        })
    };
    !maps.uids.is_empty()
        && !maps.gids.is_empty()
        && owns(&maps.uids, facts.euid, uids)
        && owns(&maps.gids, facts.egid, gids)
}

fn words(values: &[Value]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The keys in the order of the specification, where it matters to who reads the file; others come after them.
const ORDER: [&str; 56] = [
    "ociVersion",
    "process",
    "root",
    "hostname",
    "domainname",
    "mounts",
    "hooks",
    "annotations",
    "linux",
    // process
    "terminal",
    "consoleSize",
    "user",
    "uid",
    "gid",
    "umask",
    "additionalGids",
    "args",
    "env",
    "cwd",
    "capabilities",
    "bounding",
    "effective",
    "permitted",
    "inheritable",
    "ambient",
    "rlimits",
    "noNewPrivileges",
    // mounts, namespaces, devices, limits
    "destination",
    "allow",
    "type",
    "source",
    "options",
    "path",
    "readonly",
    "hard",
    "soft",
    "major",
    "minor",
    "access",
    "fileMode",
    // linux
    "uidMappings",
    "gidMappings",
    "containerID",
    "hostID",
    "size",
    "sysctl",
    "resources",
    "cgroupsPath",
    "namespaces",
    "devices",
    "seccomp",
    "defaultAction",
    "architectures",
    "syscalls",
    "maskedPaths",
    "readonlyPaths",
];

/// The file, as text.
///
/// # Errors
/// None that is known.
pub fn text(config: &Value) -> serde_json::Result<String> {
    super::pretty(&Ordered(config))
}

/// A value whose objects have their keys in [`ORDER`].
struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => {
                let rank = |key: &str| ORDER.iter().position(|known| *known == key).unwrap_or(ORDER.len());
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| rank(key));
                let mut object = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    object.serialize_entry(key, &Ordered(value))?;
                }
                object.end()
            }
            Value::Array(list) => serializer.collect_seq(list.iter().map(Ordered)),
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroup::{Cgroups, Hierarchy};
    use crate::host::idmap::{Helper, Subids};
    use crate::host::network::Network;
    use crate::host::process::Lsm;
    use std::collections::BTreeMap;

    /// A plain user with subordinate ids, or without, and without any cgroup.
    fn alice(subids: bool) -> Facts {
        let ranges = || if subids { vec![IdRange { start: 100_000, count: 65536 }] } else { Vec::new() };
        Facts {
            euid: 1000,
            egid: 100,
            in_child_userns: false,
            capabilities: 0,
            own_ids: (vec![IdRange::ALL], vec![IdRange::ALL]),
            subids: Some(Subids {
                user: "alice".into(),
                uids: ranges(),
                gids: ranges(),
                newuidmap: Helper::Usable("/usr/bin/newuidmap".into()),
                newgidmap: Helper::Usable("/usr/bin/newgidmap".into()),
                no_new_privs: false,
            }),
            setgroups_denied: false,
            hard_limits: [4096; 16],
            oom_score_adj: 100,
            binary_owner: Some(0),
            lsm: Lsm::default(),
            cgroups: Cgroups::none(Hierarchy::Absent),
            devices: BTreeMap::new(),
            network: Network::default(),
            roots: None,
            resctrl: None,
            proc: crate::host::proc::Tried::Not,
        }
    }

    /// alice in a subtree that was delegated to her, with these controllers.
    fn delegated(controllers: &[&str]) -> Facts {
        let path: std::path::PathBuf = "/alice".into();
        let controllers = controllers.iter().map(ToString::to_string).collect();
        let subtree = crate::host::cgroup::Subtree { path: path.clone(), controllers };
        let cgroups = Cgroups { own: path, subtree: Some(subtree), ..Cgroups::none(Hierarchy::Unified) };
        Facts { cgroups, ..alice(true) }
    }

    fn rewritten(mut config: Value, facts: &Facts) -> (Value, Vec<String>) {
        let reaches = |path: &Path| !path.starts_with("/var/lib/docker");
        let changes = rewrite(&mut config, &Caller { facts, reaches: &reaches });
        (config, changes.into_iter().map(|change| format!("{}: {}", change.what, change.why)).collect())
    }

    /// What `spec` writes for root, with a change to it.
    fn of_root(change: impl FnOnce(&mut Value)) -> Value {
        let text = super::super::text(&crate::spec::SpecKind::Root, true).unwrap();
        let mut config = serde_json::from_str(&text).unwrap();
        change(&mut config);
        config
    }

    fn kinds(config: &Value) -> Vec<&str> {
        let listed = config["linux"]["namespaces"].as_array().unwrap();
        listed.iter().map(|namespace| namespace["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn what_spec_writes_for_root_gets_a_user_namespace_and_little_else() {
        let (config, changes) = rewritten(of_root(|_| {}), &alice(true));
        assert_eq!(kinds(&config), ["pid", "network", "ipc", "uts", "mount", "cgroup", "user"]);
        assert_eq!(config["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 1000, "size": 1}]));
        assert_eq!(config["linux"]["gidMappings"], json!([{"containerID": 0, "hostID": 100, "size": 1}]));
        let about: Vec<_> = changes.iter().map(|line| line.split(':').next().unwrap()).collect();
        // The terminals' group is not mapped.
        assert_eq!(about, ["linux.namespaces", "linux.uidMappings, linux.gidMappings", "mounts"]);
        assert_eq!(refusals(&config, &alice(true)), [""; 0]);
        // A second time there is nothing to do.
        assert_eq!(rewritten(config.clone(), &alice(true)), (config, Vec::new()));
    }

    #[test]
    fn who_needs_more_ids_gets_all_there_are_or_is_told_why_not() {
        for change in [
            |c: &mut Value| c["process"]["user"]["uid"] = 33.into(),
            |c: &mut Value| c["process"]["user"]["additionalGids"] = json!([4]),
            |c: &mut Value| c["process"]["capabilities"]["bounding"] = json!(["CAP_SETUID"]),
        ] {
            let (config, _) = rewritten(of_root(change), &alice(true));
            assert_eq!(config["linux"]["uidMappings"].as_array().unwrap().len(), 2, "{config}");
            let (config, changes) = rewritten(of_root(change), &alice(false));
            let uid = config["process"]["user"]["uid"].clone();
            assert_eq!(
                config["linux"]["uidMappings"],
                json!([{"containerID": uid, "hostID": 1000, "size": 1}])
            );
            assert!(config["process"]["user"].get("additionalGids").is_none());
            assert!(changes.iter().any(|line| line.contains("; fix: ")), "{changes:?}");
            assert_eq!(refusals(&config, &alice(false)), [""; 0]);
        }
    }

    #[test]
    fn maps_that_are_the_callers_stay_and_those_of_others_do_not() {
        let own = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
        let given = |map: &Value| {
            let map = map.clone();
            of_root(move |c| {
                c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
                c["linux"]["uidMappings"] = map.clone();
                c["linux"]["gidMappings"] = map;
            })
        };
        let (config, _) = rewritten(given(&own), &alice(true));
        assert_eq!(config["linux"]["uidMappings"], own);
        let others = json!([{"containerID": 0, "hostID": 300_000, "size": 1000}]);
        let (config, _) = rewritten(given(&others), &alice(true));
        assert_eq!(config["linux"]["uidMappings"][0]["hostID"], 1000);
    }

    #[test]
    fn namespaces_of_root_become_new_ones_and_a_joined_user_namespace_keeps_them() {
        let joined = |c: &mut Value| {
            let listed = c["linux"]["namespaces"].as_array_mut().unwrap();
            listed[1] = json!({"type": "network", "path": "/run/netns/web"});
        };
        let (config, changes) = rewritten(of_root(joined), &alice(true));
        assert_eq!(config["linux"]["namespaces"][1], json!({"type": "network"}));
        assert!(changes[0].contains("/run/netns/web") && changes[0].contains("--network"), "{changes:?}");
        let with_user = of_root(|c| {
            joined(c);
            let listed = c["linux"]["namespaces"].as_array_mut().unwrap();
            listed.push(json!({"type": "user", "path": "/proc/7/ns/user"}));
        });
        let (config, _) = rewritten(with_user.clone(), &alice(true));
        assert_eq!(config["linux"]["namespaces"], with_user["linux"]["namespaces"]);
        assert!(config["linux"].get("uidMappings").is_none());
    }

    #[test]
    fn file_systems_of_shared_namespaces_are_the_hosts() {
        let (config, _) = rewritten(
            of_root(|c| c["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid"}])),
            &alice(true),
        );
        let at = |place: &str| {
            config["mounts"].as_array().unwrap().iter().find(|m| m["destination"] == place).unwrap().clone()
        };
        assert_eq!(
            at("/sys"),
            json!({"destination": "/sys", "type": "none", "source": "/sys",
                   "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]})
        );
        assert_eq!(at("/dev/mqueue")["source"], "/dev/mqueue");
        assert_eq!(at("/proc")["type"], "proc");
    }

    #[test]
    fn limits_stay_as_far_as_they_can_be_had() {
        let limits = |c: &mut Value| {
            c["linux"]["resources"] = json!({
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": 1 << 26, "kernelTCP": 1 << 20},
                "pids": {"limit": 10},
                "blockIO": {"weight": 100},
            });
            c["linux"]["cgroupsPath"] = "/docker/web".into();
        };
        let (config, changes) = rewritten(of_root(limits), &delegated(&["memory", "pids"]));
        assert_eq!(
            config["linux"]["resources"],
            json!({
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": 1 << 26}, "pids": {"limit": 10},
            })
        );
        assert!(config["linux"].get("cgroupsPath").is_none());
        let about = |what: &str| changes.iter().any(|line| line.starts_with(what));
        assert!(about("linux.cgroupsPath: removed \"/docker/web\""), "{changes:?}");
        assert!(about("linux.resources.memory.kernelTCP: removed: CG-CTRL"), "{changes:?}");
        assert!(about("linux.resources.blockIO: removed: CG-CTRL"), "{changes:?}");
        let (config, _) = rewritten(of_root(limits), &alice(true));
        assert_eq!(config["linux"]["resources"], json!({"devices": [{"allow": false, "access": "rwm"}]}));
        assert_eq!(refusals(&config, &alice(true)), [""; 0]);
    }

    #[test]
    fn what_only_root_may_is_taken_back_to_what_the_caller_may() {
        let (config, changes) = rewritten(
            of_root(|c| {
                c["process"]["oomScoreAdj"] = 0.into();
                c["process"]["rlimits"] = json!([
                    {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 8192},
                    {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                ]);
                c["linux"]["netDevices"] = json!({"eth0": {}});
                c["linux"]["sysctl"] = json!({"net.ipv4.ping_group_range": "0 2147483647"});
                c["linux"]["devices"] = json!([
                    {"path": "/dev/null", "type": "c", "major": 1, "minor": 3},
                    {"path": "/dev/moss", "type": "c", "major": 4000, "minor": 1},
                ]);
                c["hooks"] = json!({
                    "prestart": [{"path": "/proc/7/exe", "args": ["libnetwork-setkey", "web"]}],
                    "poststop": [{"path": "/bin/true"}],
                });
                c["mounts"].as_array_mut().unwrap().extend([
                    json!({"destination": "/etc/hosts", "source": "/var/lib/docker/x/hosts", "options": ["bind"]}),
                    json!({"destination": "/data", "source": "/var/lib/docker/volumes/x", "options": ["bind"]}),
                ]);
            }),
            &alice(true),
        );
        assert!(config["process"].get("oomScoreAdj").is_none());
        assert_eq!(
            config["process"]["rlimits"][0],
            json!({"type": "RLIMIT_NOFILE", "soft": 100, "hard": 4096})
        );
        assert_eq!(config["process"]["rlimits"][1]["hard"], 0);
        assert!(config["linux"].get("netDevices").is_none());
        assert_eq!(config["linux"]["sysctl"]["net.ipv4.ping_group_range"], "0 0");
        assert_eq!(config["linux"]["devices"].as_array().unwrap().len(), 1);
        assert_eq!(config["hooks"], json!({"poststop": [{"path": "/bin/true"}]}));
        let places: Vec<_> = config["mounts"].as_array().unwrap().iter().map(|m| &m["destination"]).collect();
        // The user's own data is never left out in silence, nor with a word.
        assert!(places.contains(&&json!("/data")) && !places.contains(&&json!("/etc/hosts")), "{places:?}");
        assert!(changes.len() >= 9, "{changes:?}");
    }

    #[test]
    fn the_text_has_the_order_of_the_specification_and_all_there_was() {
        let config = of_root(|c| c["linux"]["somethingNew"] = json!([1]));
        let text = text(&config).unwrap();
        assert!(text.starts_with("{\n\t\"ociVersion\": "), "{text}");
        let places: Vec<_> = ["ociVersion", "process", "root", "hostname", "mounts", "linux"]
            .iter()
            .map(|key| text.find(&format!("\n\t\"{key}\": ")).unwrap())
            .collect();
        assert!(places.is_sorted());
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), config);
    }
}
