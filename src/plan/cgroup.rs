//! Who makes the container's cgroup, where, and what is written into it.
//!
//! Three ways, in the order in which they are taken when nobody says which: the subtree that was delegated to us
//! (we make directories), the user's systemd (it makes a scope), none. None is a degradation: of a limit that was
//! asked for it makes a refusal, of a place that was asked for likewise, and else it is only noted.

use super::affinity::cpu_list;
use super::degrade::{Allowance, Degradation};
use super::idmap::Idmap;
use super::limits::{self, Absent, Limits, Setting};
use super::namespaces::Namespaces;
use super::step::{Op, Step};
use super::{Context, resources};
use crate::bundle::clean;
use crate::cgroup::devices::{self, Rule};
use crate::cgroup::systemd::Candidate;
use crate::dbus::Value;
use crate::host::cgroup::{Cgroups, Hierarchy};
use crate::host::{CAP_CHOWN, Facts};
use crate::report::Failure;
use nix::sched::CloneFlags;
use oci_spec::runtime::{Linux, Mount};
use std::collections::HashMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// Who makes cgroups, as asked for by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    Systemd,
    Cgroupfs,
    Disabled,
}

/// The container's cgroup, decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Cgroup {
    pub place: Place,
    /// What is written into it.
    pub settings: Vec<Setting>,
    /// Rules for a device filter; none where device nodes are kept away by other means.
    pub devices: Option<Vec<Rule>>,
    /// Who the files of the delegation go to (config-linux.md, "Cgroup ownership").
    pub owner: Option<Owner>,
}

/// Where it is, and who makes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// We make directories.
    Directory(Directory),
    /// systemd makes a unit.
    Scope(Scope),
}

/// A cgroup to make by mkdir(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Below the hierarchy's root.
    pub path: PathBuf,
    /// The controllers are enabled from here on down to its parent. `path` is below it.
    pub from: PathBuf,
    /// Processes in cgroups on the way, which would keep controllers from being enabled, may be moved aside into
    /// a cgroup of this name.
    pub aside: Option<&'static str>,
    /// The controllers that the settings need.
    pub needed: Vec<&'static str>,
}

/// A transient scope (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    /// Whether it is the user's manager that makes it.
    pub user: bool,
    /// Where the manager answers.
    pub bus: Vec<Candidate>,
    pub unit: String,
    /// Empty for the manager's own choice.
    pub slice: String,
    pub description: String,
    pub properties: Vec<(String, Value)>,
    /// Cgroups to make below the unit's own, one in the other; the container goes to the last.
    pub below: Vec<String>,
    /// Where the unit is going to be. It is for who asks beforehand: once it is made, systemd's word counts.
    pub path: Option<PathBuf>,
}

/// What the rest of the plan needs to know.
#[derive(Debug, Default)]
pub struct Decided {
    pub cgroup: Option<Cgroup>,
    /// No device node of a mounted tree may be opened, since no device filter says which may.
    pub nodev: bool,
    /// Steps for init.
    pub steps: Vec<Step>,
    /// What the caller has to know of the limits, one line each.
    pub remarks: Vec<String>,
}

/// The name of the cgroup that makes room at the top of a delegated subtree.
const ASIDE: &str = "supervisor";

/// The cgroup below a unit that a container with limited memory is in; crun's name for it.
const LEAF: &str = "container";
/// The limit at which the kernel kills.
const MEMORY_LIMIT: &str = "memory.max";

/// crun's annotations.
const SUBGROUP: &str = "run.oci.systemd.subgroup";
const DELEGATE: &str = "run.oci.delegate-cgroup";
/// runc's: a property of the unit, in GVariant text.
const PROPERTY: &str = "org.systemd.property.";

/// What cannot be had, and why.
struct Lack {
    code: &'static str,
    because: String,
    fix: &'static str,
    /// It is worth a warning even if nothing was asked for, since the caller could have it.
    avoidable: bool,
}

/// Decides.
///
/// # Errors
/// A limit that cannot be set (`CG-NODELEG` and its kin), a path that makes no sense or is not ours.
pub fn decide(
    linux: &Linux,
    annotations: &HashMap<String, String>,
    context: &Context<'_>,
    asked: Option<Manager>,
    bounding: u64,
    degradations: &mut Vec<Degradation>,
) -> Result<Decided, Failure> {
    let id = context.container;
    let act = || format!("cannot limit resources of container {id}");
    let wanted = wanted(linux, context, degradations)?;
    let planner = Planner { linux, annotations, context, asked };
    match planner.place()? {
        Err(lack) => {
            planner.without(&lack, &wanted, degradations)?;
            let nodev = resources::without_filter(linux, context, bounding, degradations)?;
            Ok(Decided { nodev, ..Decided::default() })
        }
        Ok(mut place) => {
            let mut decided = Decided::default();
            let wanted = match &place {
                Place::Scope(_) => wanted.rounded_for_unit(),
                Place::Directory(_) => wanted,
            };
            decided.remarks.clone_from(&wanted.remarks);
            let settings = planner.available(&place, &wanted.settings, degradations, &mut decided.steps)?;
            planner.complete(&mut place, &settings, &wanted)?;
            decided.nodev = !planner.facts().device_filter
                && resources::without_filter(linux, context, bounding, degradations)?;
            // With no rules there is nothing that is allowed but the devices of every container, as in runc.
            let listed = linux.resources().as_ref().and_then(|r| r.devices().as_deref()).unwrap_or_default();
            let filters = planner.facts().device_filter && context.facts.is_host_root();
            let devices = filters.then(|| devices::rules(listed)).transpose();
            let devices = devices.map_err(|cause| Failure::new(act(), cause))?;
            decided.cgroup = Some(Cgroup { place, settings, devices, owner: None });
            Ok(decided)
        }
    }
}

/// The limits that are asked for and that cgroup v2 has.
fn wanted(
    linux: &Linux,
    context: &Context<'_>,
    degradations: &mut Vec<Degradation>,
) -> Result<Limits, Failure> {
    let Some(resources) = linux.resources() else { return Ok(Limits::default()) };
    let act = || format!("cannot limit resources of container {}", context.container);
    let wanted = limits::of(resources, None).map_err(|cause| Failure::new(act(), cause))?;
    if !context.degrade.allows(Allowance::Limits) {
        return wanted.whole().map_err(|cause| {
            Failure::new(act(), format!("linux.resources.{cause}"))
                .code("CG-CTRL")
                .fix(Allowance::Limits.or_without("remove it"))
        });
    }
    degradations.extend(wanted.outdated.iter().map(|name| {
        let because = "cgroup v2 has no such thing";
        Degradation::allowed("CG-CTRL", format!("linux.resources.{name}"), "no such limit", because)
            .fix("remove it")
    }));
    Ok(wanted)
}

struct Planner<'a> {
    linux: &'a Linux,
    annotations: &'a HashMap<String, String>,
    context: &'a Context<'a>,
    asked: Option<Manager>,
}

impl Planner<'_> {
    fn facts(&self) -> &Cgroups {
        &self.context.facts.cgroups
    }

    fn path(&self) -> Option<&Path> {
        self.linux.cgroups_path().as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    fn act(&self) -> String {
        match self.path() {
            Some(path) => {
                format!("cannot make cgroup {} of container {}", path.display(), self.context.container)
            }
            None => format!("cannot make a cgroup for container {}", self.context.container),
        }
    }

    fn is_root(&self) -> bool {
        self.context.facts.is_host_root()
    }

    /// The place, or what there is none for.
    fn place(&self) -> Result<Result<Place, Lack>, Failure> {
        if self.asked == Some(Manager::Disabled) {
            return Ok(Err(Lack {
                code: "CG-NODELEG",
                because: "cgroups are disabled".into(),
                fix: "use another --cgroup-manager",
                avoidable: false,
            }));
        }
        match self.facts().hierarchy {
            Hierarchy::Unified => {}
            Hierarchy::Legacy => {
                return Ok(Err(Lack {
                    code: "CG-V1",
                    because: "this host has cgroup v1 only".into(),
                    fix: "boot with systemd.unified_cgroup_hierarchy=1",
                    avoidable: false,
                }));
            }
            Hierarchy::Absent => {
                return Ok(Err(Lack {
                    code: "CG-V1",
                    because: "no cgroup2 is mounted at /sys/fs/cgroup".into(),
                    fix: "mount cgroup2 there",
                    avoidable: false,
                }));
            }
        }
        let names_unit = self.path().is_some_and(|path| path.to_string_lossy().contains(':'));
        let plain = self.path().is_some() && !names_unit;
        let absolute = self.path().is_some_and(Path::is_absolute);
        match self.asked {
            Some(Manager::Systemd) if !absolute => {
                if plain {
                    return Err(self.bad_unit());
                }
                Ok(self.scope()?)
            }
            // A plain path below a unit, as `podman --cgroups=split` has it.
            Some(Manager::Systemd) => Ok(self.directory()),
            Some(_) => Ok(self.directory()),
            None if names_unit => Ok(self.scope()?),
            None if plain || self.is_root() || self.facts().subtree.is_some() => Ok(self.directory()),
            None => Ok(self.scope()?),
        }
    }

    fn directory(&self) -> Result<Place, Lack> {
        let facts = self.facts();
        let subtree = facts.top.as_ref().or(facts.subtree.as_ref());
        let base = match (&facts.top, &facts.subtree) {
            // Beside our own: that one has processes, so none can be below it.
            (Some(_), _) => facts.own.parent().unwrap_or(Path::new("/")),
            (None, Some(subtree)) => &subtree.path,
            (None, None) if self.path().is_some_and(Path::is_absolute) => Path::new("/"),
            (None, None) => return Err(self.nothing_delegated()),
        };
        let wanted = self.path().unwrap_or(Path::new(self.context.container));
        // Whatever dots there are, they do not lead out of where it begins.
        let rooted = clean(&Path::new("/").join(wanted));
        let below = rooted.strip_prefix("/").unwrap_or(&rooted);
        let path = if wanted.is_absolute() { rooted.clone() } else { base.join(below) };
        let ours = subtree.filter(|subtree| path.starts_with(&subtree.path));
        Ok(Place::Directory(Directory {
            // Outside of what we know to be ours, the kernel says what we may.
            from: ours.map_or_else(|| Path::new("/").to_path_buf(), |subtree| subtree.path.clone()),
            aside: ours.is_some_and(|_| facts.top.is_none() || !facts.systemd).then_some(ASIDE),
            path,
            needed: Vec::new(),
        }))
    }

    fn nothing_delegated(&self) -> Lack {
        let root = self.is_root();
        Lack {
            code: "CG-NODELEG",
            because: if root {
                "/sys/fs/cgroup is read-only here".into()
            } else {
                "no part of /sys/fs/cgroup is delegated to us".into()
            },
            fix: if root {
                "mount /sys/fs/cgroup writable"
            } else {
                "systemd-run --user --scope -p Delegate=yes bryo ..."
            },
            avoidable: self.facts().systemd,
        }
    }

    /// A scope of systemd's; where none can be reached, a directory in what is ours.
    fn scope(&self) -> Result<Result<Place, Lack>, Failure> {
        let facts = self.facts();
        let user = !self.is_root();
        let bus = if user { &facts.user_bus } else { &facts.system_bus };
        let (slice, unit) = self.unit(user)?;
        let lack = if facts.namespaced {
            Some(Lack {
                code: "CG-NODELEG",
                because: "systemd's cgroups are not to be seen from our cgroup namespace".into(),
                fix: "start bryo in the host's cgroup namespace (docker --cgroupns=host)",
                avoidable: false,
            })
        } else if bus.is_empty() {
            let whose = if user { "the user's systemd" } else { "systemd" };
            Some(Lack {
                code: "CG-NOBUS",
                because: format!("{whose} is not to be reached: there is no bus"),
                fix: "log in with a session (ssh, machinectl shell), or sudo loginctl enable-linger USER, and set XDG_RUNTIME_DIR",
                avoidable: facts.systemd,
            })
        } else {
            None
        };
        if let Some(lack) = lack {
            // What is asked for by its unit's name has no other place.
            let elsewhere = self.path().is_none() && (facts.subtree.is_some() || facts.top.is_some());
            return Ok(if elsewhere { self.directory() } else { Err(lack) });
        }
        let id = self.context.container;
        let path = facts.manager.as_ref().map(|manager| unit_path(manager, &slice, &unit));
        Ok(Ok(Place::Scope(Scope {
            user,
            bus: bus.clone(),
            path,
            unit,
            slice,
            description: format!("bryo container {id}"),
            properties: Vec::new(),
            below: self.below()?,
        })))
    }

    fn bad_unit(&self) -> Failure {
        let path = self.path().map(|path| path.display().to_string()).unwrap_or_default();
        Failure::new(
            self.act(),
            format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead: invalid argument"
            ),
        )
        .fix("correct linux.cgroupsPath, or use --cgroup-manager cgroupfs")
    }

    /// The slice and the unit, from `slice:prefix:name`.
    fn unit(&self, user: bool) -> Result<(String, String), Failure> {
        let id = self.context.container;
        let own = if user { "user.slice" } else { "system.slice" };
        let Some(path) = self.path() else {
            return Ok((own.into(), format!("bryo-{}.scope", unit_name(id))));
        };
        let text = path.to_string_lossy();
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts[..] else { return Err(self.bad_unit()) };
        let slice = if slice.is_empty() { own } else { slice };
        let unit = match (prefix, name) {
            (_, name) if name.ends_with(".slice") => name.to_string(),
            ("", name) => format!("{name}.scope"),
            (prefix, name) => format!("{prefix}-{name}.scope"),
        };
        // unit_name_is_valid(): 255 characters of its alphabet.
        let fits = |name: &str| !name.is_empty() && name.len() < 256 && name.bytes().all(fits_unit);
        if name.is_empty() || !slice.ends_with(".slice") || !fits(slice) || !fits(&unit) {
            return Err(self.bad_unit());
        }
        Ok((slice.to_string(), unit))
    }

    /// The cgroups below the unit's.
    fn below(&self) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        for annotation in [SUBGROUP, DELEGATE] {
            let Some(name) = self.annotations.get(annotation).filter(|name| !name.is_empty()) else {
                continue;
            };
            if name == "." || name == ".." || name.len() > 255 || name.contains(['/', '\0', '\n']) {
                return Err(Failure::new(
                    self.act(),
                    format!("annotation {annotation}: {name:?} is no name of a cgroup: invalid argument"),
                ));
            }
            names.push(name.clone());
        }
        Ok(names)
    }

    /// Goes without a cgroup, if nothing forbids that.
    fn without(
        &self,
        lack: &Lack,
        wanted: &Limits,
        degradations: &mut Vec<Degradation>,
    ) -> Result<(), Failure> {
        let limit = wanted.settings.iter().find(|setting| setting.absent != Absent::Fine);
        let allowed = self.context.degrade.allows(Allowance::Limits);
        let refused = |act: String, cause: String| {
            Err(Failure::new(act, cause).code(lack.code).fix(Allowance::Limits.or_without(lack.fix)))
        };
        match limit {
            Some(limit) if !allowed => refused(
                format!("cannot limit resources of container {}", self.context.container),
                // runc's words behind the name of the field: they are what people search for.
                format!(
                    "{}: cannot set {} limit: container could not join or create cgroup: {}: operation not supported",
                    origin(limit),
                    limit.controller,
                    lack.because
                ),
            ),
            None if self.path().is_some() && self.asked != Some(Manager::Disabled) && !allowed => {
                let cause =
                    format!("unable to apply cgroup configuration: {}: permission denied", lack.because);
                refused(self.act(), cause)
            }
            // Nothing is missing that was not asked to be.
            None if self.asked == Some(Manager::Disabled) => Ok(()),
            _ => {
                let asked =
                    limit.is_some() || matches!(self.asked, Some(Manager::Systemd | Manager::Cgroupfs));
                let (wanted, got) = match limit {
                    Some(_) => ("the limits of linux.resources", "no limits"),
                    None => ("a cgroup", "none"),
                };
                let found = Degradation::weaker(lack.code, wanted, got, lack.because.clone()).fix(lack.fix);
                degradations.push(if asked || lack.avoidable { self.grade(found) } else { found.noted() });
                Ok(())
            }
        }
    }

    /// Who lets limits go lets their cgroup go.
    fn grade(&self, found: Degradation) -> Degradation {
        self.context.degrade.grade(Allowance::Limits, found)
    }

    /// The controllers of the place, if they can be known now.
    fn controllers(&self, place: &Place) -> Option<&[String]> {
        let facts = self.facts();
        match place {
            Place::Scope(scope) if scope.user => facts.user_controllers.as_deref(),
            Place::Scope(_) => facts.top.as_ref().map(|top| top.controllers.as_slice()),
            Place::Directory(directory) => {
                let ours = [&facts.top, &facts.subtree].into_iter().flatten();
                ours.filter(|s| directory.path.starts_with(&s.path)).map(|s| s.controllers.as_slice()).next()
            }
        }
    }

    /// The settings for which there is a controller.
    fn available(
        &self,
        place: &Place,
        settings: &[Setting],
        degradations: &mut Vec<Degradation>,
        steps: &mut Vec<Step>,
    ) -> Result<Vec<Setting>, Failure> {
        let Some(controllers) = self.controllers(place) else { return Ok(settings.to_vec()) };
        let mut kept = Vec::new();
        for setting in settings {
            let there = setting.controller.is_empty() || controllers.iter().any(|c| c == setting.controller);
            if there {
                kept.push(setting.clone());
                continue;
            }
            if setting.absent == Absent::Fine {
                continue;
            }
            let because = if self.is_root() {
                format!("/sys/fs/cgroup has no {} controller", setting.controller)
            } else {
                format!("the {} controller is not delegated to us", setting.controller)
            };
            let fix = if self.is_root() {
                format!("boot a kernel with the {} controller", setting.controller)
            } else {
                format!("add {} to Delegate= in a drop-in of user@.service", setting.controller)
            };
            if let (true, Some(cpus)) = (setting.file == "cpuset.cpus", cpu_list(&setting.value)) {
                degradations.push(
                    self.grade(Degradation::weaker(
                        "CG-CTRL",
                        format!("processors {} by a cgroup", setting.value),
                        format!(
                            "an affinity to processors {}, which the container may change",
                            setting.value
                        ),
                        because,
                    ))
                    .fix(fix),
                );
                steps.push(Op::Affinity(cpus).into());
                continue;
            }
            if !self.context.degrade.allows(Allowance::Limits) {
                return Err(Failure::new(
                    format!("cannot limit resources of container {}", self.context.container),
                    format!("{} cannot be set, {because}: operation not supported", origin(setting)),
                )
                .code("CG-CTRL")
                .fix(Allowance::Limits.or_without(fix)));
            }
            degradations
                .push(Degradation::allowed("CG-CTRL", origin(setting), "no such limit", because).fix(fix));
        }
        Ok(kept)
    }

    /// Adds what depends on the settings and on the kind of place.
    fn complete(&self, place: &mut Place, settings: &[Setting], wanted: &Limits) -> Result<(), Failure> {
        match place {
            Place::Directory(directory) => directory.needed = limits::controllers(settings),
            Place::Scope(scope) => {
                let said = wanted.birth.iter().chain(&wanted.properties);
                scope.properties = said.map(|(name, value)| (name.to_string(), property(value))).collect();
                // What the caller says itself is said last, and counts.
                scope.properties.extend(self.unit_properties()?);
                if self.is_watched(settings) && scope.below.is_empty() {
                    scope.below.push(LEAF.into());
                }
            }
        }
        Ok(())
    }

    /// Whether somebody wants to know if the container is killed for want of memory, and nothing was said about
    /// cgroups below its unit.
    ///
    /// Whoever names the unit is an engine, and it learns of the kill from `memory.events` of the cgroup that the
    /// process is in. So does systemd from the unit's, and when that was the last process, it removes the unit's
    /// cgroup at once. Where both watch the same one, the engine often comes too late to read it. The kernel tells
    /// those who watch a leaf before those who watch what is above it, so one level down the engine comes first.
    /// The price is a second move, which is nothing for those without a limit to pay.
    fn is_watched(&self, settings: &[Setting]) -> bool {
        let limited = |setting: &Setting| setting.file == MEMORY_LIMIT && setting.value != "max";
        self.path().is_some() && settings.iter().any(limited) && !self.annotations.contains_key(SUBGROUP)
    }

    /// Properties of the unit that annotations give, sorted, so that a plan is always the same.
    fn unit_properties(&self) -> Result<Vec<(String, Value)>, Failure> {
        let mut found = Vec::new();
        for (key, text) in self.annotations {
            let Some(name) = key.strip_prefix(PROPERTY) else { continue };
            let bad = |cause: String| {
                Failure::new(self.act(), format!("annotation {key}: {cause}: invalid argument"))
            };
            // As runc: no names but those that systemd could have.
            if name.len() < 3
                || !name.starts_with(|c: char| c.is_ascii_uppercase())
                || !name.bytes().all(|b| b.is_ascii_alphanumeric())
            {
                return Err(bad(format!("{name:?} is no name of a property")));
            }
            let value = crate::dbus::text::parse(text).map_err(|cause| bad(cause.to_string()))?;
            found.push(seconds(name, value).map_err(bad)?);
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }
}

fn fits_unit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)
}

/// A container's id as a part of a unit's name, in which not every character of an id may be (systemd.unit(5),
/// "String escaping"), nor as many.
fn unit_name(id: &str) -> String {
    let escape = |byte: u8| match byte {
        byte if fits_unit(byte) => char::from(byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    };
    let name: String = id.bytes().map(escape).collect();
    if name.len() <= 240 {
        return name;
    }
    // FNV-1a: two long ids may begin alike.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{}-{hash:016x}", &name[..220])
}

/// The cgroup of a unit: slices lie in each other by the dashes of their names (systemd.slice(5)).
fn unit_path(manager: &Path, slice: &str, unit: &str) -> PathBuf {
    // A slice is not in a slice that somebody names, but where its own name says.
    let (slice, leaf) = if unit.ends_with(".slice") { (unit, None) } else { (slice, Some(unit)) };
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    // The one at the root has but a dash for a name.
    let name = if name == "-" { "" } else { name };
    let ends = name.match_indices('-').map(|(at, _)| at).chain((!name.is_empty()).then_some(name.len()));
    let mut path = manager.to_path_buf();
    path.extend(ends.map(|end| format!("{}.slice", &name[..end])));
    path.extend(leaf);
    path
}

/// A property of a unit as D-Bus has it.
pub fn property(value: &limits::Value) -> Value {
    match value {
        limits::Value::U64(number) => Value::U64(*number),
        limits::Value::Bytes(bytes) => Value::from(bytes.as_slice()),
        limits::Value::Text(text) => Value::from(*text),
        limits::Value::Devices(devices) => {
            let pair = |(path, number): &(String, u64)| {
                Value::Struct(vec![Value::from(path.as_str()), Value::U64(*number)])
            };
            Value::Array("(st)".into(), devices.iter().map(pair).collect())
        }
    }
}

/// A property that ends in Sec is one in microseconds over D-Bus (systemd's dbus_util, as runc converts it).
fn seconds(name: &str, value: Value) -> Result<(String, Value), String> {
    let Some(stem) = name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) else {
        return Ok((name.to_string(), value));
    };
    let seconds = match value {
        Value::I16(n) => f64::from(n),
        Value::U16(n) => f64::from(n),
        Value::I32(n) => f64::from(n),
        Value::U32(n) => f64::from(n),
        Value::I64(n) => n as f64,
        Value::U64(n) => n as f64,
        Value::Double(bits) => f64::from_bits(bits),
        _ => return Err("not a number of seconds".into()),
    };
    if !(0.0..=1e12).contains(&seconds) {
        return Err("not a number of seconds".into());
    }
    Ok((format!("{stem}USec"), Value::U64((seconds * 1e6) as u64)))
}

/// The part of the configuration that a setting comes from.
fn origin(setting: &Setting) -> String {
    let name = match setting.controller {
        "cpu" | "cpuset" => "cpu",
        "io" => "blockIO",
        "hugetlb" => "hugepageLimits",
        "memory" | "pids" | "rdma" => setting.controller,
        _ => return format!("linux.resources.unified {}", setting.file),
    };
    format!("linux.resources.{name}")
}

/// Whether the configuration mounts the cgroup file system writable.
pub fn mounted_writable(mounts: &[Mount]) -> bool {
    let mut of_cgroups = mounts.iter().filter(|m| matches!(m.typ().as_deref(), Some("cgroup" | "cgroup2")));
    of_cgroups.next_back().is_some_and(|mount| !mount.options().iter().flatten().any(|option| option == "ro"))
}

/// Who the files of the delegation go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Launch gives these files to this uid of our own user namespace.
    Outside(u32, Vec<CString>),
    /// Init gives them to this uid of the container's.
    Inside(u32),
}

/// The container's user may shape what is below its cgroup if it sees it at all: the specification asks for this
/// where there is a cgroup namespace, a user namespace, and /sys/fs/cgroup is mounted writable.
pub fn owner(
    namespaces: &Namespaces,
    idmap: &Idmap,
    mounts: &[Mount],
    uid: u32,
    facts: &Facts,
) -> Option<Owner> {
    let apart =
        namespaces.is_new(CloneFlags::CLONE_NEWUSER) && namespaces.is_new(CloneFlags::CLONE_NEWCGROUP);
    let outside = idmap.outside(uid).filter(|_| apart && mounted_writable(mounts))?;
    if facts.capable(CAP_CHOWN) {
        return Some(Owner::Outside(outside, facts.cgroups.delegate.clone()));
    }
    // What a plain user makes is that user's already.
    (outside != facts.euid).then_some(Owner::Inside(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_lie_in_each_other_by_the_dashes_of_their_names() {
        let path = |slice, unit| unit_path(Path::new("/m"), slice, unit).display().to_string();
        assert_eq!(path("user.slice", "bryo-web.scope"), "/m/user.slice/bryo-web.scope");
        assert_eq!(path("a-b-c.slice", "x.scope"), "/m/a.slice/a-b.slice/a-b-c.slice/x.scope");
        assert_eq!(path("-.slice", "x.scope"), "/m/x.scope");
        assert_eq!(path("user.slice", "a-b.slice"), "/m/a.slice/a-b.slice");
    }

    #[test]
    fn every_id_makes_a_name_of_a_unit() {
        assert_eq!(unit_name("web_1.a-b"), "web_1.a-b");
        assert_eq!(unit_name("a+b"), "a\\x2bb");
        let long = |last: &str| unit_name(&format!("{}{last}", "x".repeat(254)));
        assert_ne!(long("a"), long("b"));
        for name in [long("a"), unit_name(&"+".repeat(255))] {
            assert!(name.len() <= 240 && name.bytes().all(fits_unit), "{name}");
        }
    }
}
