//! How far a container would come: its user namespace, its ids, its other namespaces, its mounts, and what else init
//! does on its way. All of it is tried, by init itself ([`crate::launch::rehearse`]).

use super::check::{Check, Scope, Scopes};
use super::children::Tell;
use super::sample::{self, Kind};
use crate::host::idmap::{IdRange, find_program};
use crate::host::outer::Outer;
use crate::host::rootfs::fuse_device;
use crate::host::{self, Facts, Needs};
use crate::init::{Outcome, Scene};
use crate::launch::rehearse::{self, Cut, Meaning, Rehearsal};
use crate::plan::Plan;
use crate::plan::degrade::{Class, Degradation};
use crate::plan::idmap::{Idmap, Mapping};
use crate::plan::process::Guard;
use crate::plan::step::Op;
use crate::report::{Failure, errno_text};
use crate::sys::Errno;
use nix::sched::CloneFlags;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The general one of the code will do.
pub const NO_FIX: Option<&str> = None;

/// How long one rehearsal may take. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many scenes may end one before it is given up.
const TRIES: usize = 6;

const EVERYBODY: Scopes = Scopes::ALL;
/// Who unpacks images, and runs what they say.
const ENGINES: Scopes = Scopes::ENGINES;

/// The topic.
pub fn look(around: &Outer, tell: &mut Tell<'_>) {
    let facts = match host::read(Needs { subids: true, hard_limits: true, ..Needs::default() }) {
        Ok(facts) => facts,
        Err(errno) => {
            return tell(
                Check::lacking("caller", "PROBE", format!("capget: {}", errno_text(errno)), NO_FIX)
                    .stopping(EVERYBODY),
            );
        }
    };
    match sample::plan(Kind::Isolation, &facts) {
        Ok(plan) => Rehearsing { facts: &facts, around, tell }.go(plan),
        Err(failure) => {
            return Rehearsing { facts: &facts, around, tell }.untried(refused("container", &failure), None);
        }
    }
    if facts.privileged() {
        in_a_user_namespace(&facts, around, tell);
    }
}

/// Who needs no user namespace may be asked for one. What is missing only there is in nobody else's way.
fn in_a_user_namespace(facts: &Facts, around: &Outer, tell: &mut Tell<'_>) {
    const WHAT: &str = "user namespace";
    let mut lacks = 0;
    let mut only_lacks = |check: Check| {
        if check.lack.is_some() {
            lacks += 1;
            let what =
                if check.what == WHAT { WHAT.into() } else { format!("{} in a {WHAT}", check.what).into() };
            tell(Check { what, stops: Scopes::NONE, ..check });
        }
    };
    match sample::plan(Kind::UserNamespace, facts) {
        Ok(plan) => Rehearsing { facts, around, tell: &mut only_lacks }.go(plan),
        Err(failure) => only_lacks(refused(WHAT, &failure)),
    }
    if lacks == 0 {
        tell(Check::fine(WHAT, "made, for containers that have one"));
    }
}

/// A failure, as a check.
pub fn refused(what: impl Into<std::borrow::Cow<'static, str>>, failure: &Failure) -> Check {
    Check::lacking(what, failure.code_name().unwrap_or("PROBE"), failure.cause(), failure.way_out())
}

/// A degradation, as a check: the same by another road is no lack.
pub fn instead(what: &'static str, found: &Degradation) -> Check {
    if found.class == Class::Same {
        return Check::fine(what, format!("{}: {}", found.got, found.because));
    }
    let evidence = format!("{}, wanted {}: {}", found.got, found.wanted, found.because);
    Check::lacking(what, found.code.clone(), evidence, found.fix.clone())
}

struct Rehearsing<'a, 't> {
    facts: &'a Facts,
    around: &'a Outer,
    tell: &'a mut Tell<'t>,
}

impl Rehearsing<'_, '_> {
    fn go(mut self, mut plan: Plan) {
        let found = plan.degradations.iter().find(|found| found.code.starts_with("ID-"));
        let mut ids = found.map(|found| ids_lacking(&found.code, &found.because, found.fix.as_deref()));
        let Some(place) = sample::PLACES.into_iter().find(|place| Path::new(place).is_dir()) else {
            let why = format!("none of {} is a directory", sample::PLACES.join(", "));
            return self.untried(Check::lacking("root file system", "PROBE", why, NO_FIX), ids);
        };
        let (mut played, mut cuts) = rehearsed(&mut plan, place);
        if let (Ok(Rehearsal::NotMapped(failure)), Idmap::Helpers { .. }) = (&played, &plan.idmap) {
            let code = failure.code_name().unwrap_or("ID-RANGE");
            ids = Some(ids_lacking(code, failure.cause(), failure.way_out()));
            plan = match sample::plan(Kind::Isolation, &Facts { subids: None, ..self.facts.clone() }) {
                Ok(plan) => plan,
                Err(failure) => return self.untried(refused("container", &failure), ids),
            };
            (played, cuts) = rehearsed(&mut plan, place);
        }
        match played {
            Ok(Rehearsal::NotBorn(failure)) => self.untried(refused("user namespace", &failure), ids),
            Ok(Rehearsal::NotMapped(failure)) => self.untried(refused("id map", &failure), None),
            Err(failure) => self.untried(refused("container", &failure), ids),
            Ok(Rehearsal::Played { outcomes, .. }) => {
                self.born(&plan);
                (self.tell)(ids.unwrap_or_else(|| ids_fine(&plan.idmap)));
                self.few_ids(&plan.idmap);
                self.played(&plan, &outcomes, &cuts);
            }
        }
    }

    /// Nothing can be tried. What the facts say is said all the same, so that it need not come to light one at a time.
    fn untried(&mut self, lack: Check, ids: Option<Check>) {
        (self.tell)(lack.stopping(EVERYBODY));
        if let Some(ids) = ids {
            (self.tell)(ids);
        }
        if let Some(first) = self.around.masked.first() {
            let evidence = format!("{} is masked, so no new proc could be mounted", first.display());
            (self.tell)(Check::lacking("proc", "PROC-MASKED", evidence, NO_FIX).stopping(EVERYBODY));
        }
        if let Some(label) = self.around.label.as_ref().filter(|_| self.around.is_one()) {
            (self.tell)(
                Check::lacking(
                    "root file system",
                    "MNT-DENIED",
                    format!("{label} is likely to forbid mounts"),
                    NO_FIX,
                )
                .stopping(EVERYBODY),
            );
        }
    }

    fn born(&mut self, plan: &Plan) {
        if plan.namespaces.is_new(CloneFlags::CLONE_NEWUSER) {
            (self.tell)(Check::fine("user namespace", "made"));
        }
        if plan.namespaces.is_new(CloneFlags::CLONE_NEWPID) {
            (self.tell)(Check::fine("pid namespace", "made").of_kind("namespaces"));
        }
    }

    /// Images have files of up to 65536 owners.
    fn few_ids(&mut self, idmap: &Idmap) {
        let Idmap::Helpers { maps, .. } = idmap else { return };
        let count = count(&maps.uids).min(count(&maps.gids));
        if count < IDS_OF_IMAGES {
            let evidence = format!("{count} ids, and images use {IDS_OF_IMAGES}");
            (self.tell)(Check::lacking("ids of images", "ID-NOSUBID", evidence, NO_FIX).serving(ENGINES));
        }
    }

    fn played(&mut self, plan: &Plan, outcomes: &[(Scene, Outcome)], cuts: &[(Scene, Cut)]) {
        let served = find_program("fuse-overlayfs").map(|program| (program, fuse_device()));
        let lost = cuts.iter().map(|(scene, cut)| (*scene, Err(*cut)));
        let mut overlay = false;
        for (scene, outcome) in outcomes.iter().map(|(scene, outcome)| (*scene, Ok(outcome))).chain(lost) {
            let Some(part) = part_of(plan, scene) else { continue };
            let is_overlay = part.what == OVERLAY;
            let check = match outcome.map(|outcome| rehearse::meaning(plan, scene, outcome)) {
                Ok(Meaning::Well) if part.quiet => continue,
                Ok(Meaning::Well) => {
                    overlay |= is_overlay;
                    part.fine()
                }
                Ok(Meaning::Instead(found)) => {
                    (self.tell)(instead(part.what, found).serving(part.serves));
                    continue;
                }
                Ok(Meaning::Refused(failure)) if is_overlay && matches!(served, Some((_, true))) => {
                    Check::fine(
                        OVERLAY,
                        format!("by fuse-overlayfs, as the kernel refuses: {}", failure.cause()),
                    )
                }
                Ok(Meaning::Refused(failure)) => part.refused(&failure),
                Err(cut) => part.refused(&Failure::new("", cause(cut))),
            };
            (self.tell)(check.serving(part.serves).stopping(part.stops));
        }
        // Files of owners who do not exist inside are for nobody to change, but with fuse-overlayfs.
        let single = matches!(&plan.idmap, Idmap::Direct { deny_setgroups: true, .. });
        (self.tell)(fuse(served.as_ref(), !overlay || single));
    }
}

const OVERLAY: &str = "overlay";

fn fuse(served: Option<&(PathBuf, bool)>, needed: bool) -> Check {
    const WHAT: &str = "fuse-overlayfs";
    let missing = match served {
        Some((program, true)) => {
            return Check::fine(WHAT, format!("{}; /dev/fuse may be opened", program.display()));
        }
        Some((_, false)) => "/dev/fuse may not be opened",
        None => "it is not installed",
    };
    if !needed {
        return Check::fine(WHAT, format!("not needed, as the kernel has overlays: {missing}"));
    }
    let fix = if served.is_some() {
        "load the module fuse, and let the user open /dev/fuse"
    } else {
        "install fuse-overlayfs"
    };
    Check::lacking(WHAT, "FS-FUSE", missing, Some(fix))
}

fn cause(cut: Cut) -> String {
    const SIGSYS: i32 = nix::libc::SIGSYS;
    match cut {
        Cut::Killed(SIGSYS) => "an outer seccomp filter kills who does it: bad system call".into(),
        Cut::Killed(signal) => format!("who does it is killed by signal {signal}"),
        Cut::Late => format!("it does not end: {}", errno_text(Errno::ETIMEDOUT)),
    }
}

/// Plays it, and once more without what has ended it before its time.
fn rehearsed(plan: &mut Plan, place: &str) -> (Result<Rehearsal, Failure>, Vec<(Scene, Cut)>) {
    sample::add_more(plan, place);
    let at = CString::new(place).unwrap_or_default();
    let mut cuts: Vec<(Scene, Cut)> = Vec::new();
    loop {
        let skipped: Vec<Scene> = cuts.iter().map(|(scene, _)| *scene).collect();
        match rehearse::rehearse(plan, &at, &skipped, PATIENCE) {
            Ok(Rehearsal::Played { cut: Some(cut), .. }) if cuts.len() < TRIES => cuts.push(cut),
            other => return (other, cuts),
        }
    }
}

fn ids_lacking(code: &str, because: &str, fix: Option<&str>) -> Check {
    let evidence = format!("a single id: {because}");
    Check::lacking("id map", code.to_string(), evidence, fix).stopping(Scope::Docker)
}

const IDS_OF_IMAGES: u64 = 65536;

fn count(map: &[Mapping]) -> u64 {
    map.iter().map(|m| u64::from(m.count)).sum()
}

fn ids_fine(idmap: &Idmap) -> Check {
    match idmap {
        Idmap::Helpers { maps, newuidmap, .. } => Check::fine(
            "id map",
            format!("{} uids and {} gids, by {}", count(&maps.uids), count(&maps.gids), newuidmap.display()),
        ),
        Idmap::Direct { maps, .. } => {
            Check::fine("id map", format!("{} uids and {} gids", count(&maps.uids), count(&maps.gids)))
        }
        Idmap::Inherited { uids, gids } => {
            let all = |ranges: &[IdRange]| ranges.iter().map(|r| u64::from(r.count)).sum::<u64>();
            Check::fine("id map", format!("{} uids and {} gids of our own", all(uids), all(gids)))
        }
    }
}

/// What a scene is part of.
struct Part {
    what: &'static str,
    /// What there is to say if all is well.
    done: &'static str,
    /// Nothing is said if all is well.
    quiet: bool,
    serves: Scopes,
    stops: Scopes,
    kind: Option<&'static str>,
    /// Which one it is, where there are several.
    which: Option<String>,
    /// The code and the fix, where the failure has none.
    code: &'static str,
    fix: &'static str,
}

impl Part {
    fn new(what: &'static str, done: &'static str) -> Part {
        let (serves, stops) = (EVERYBODY, EVERYBODY);
        Part { what, done, quiet: false, serves, stops, kind: None, which: None, code: "MNT-DENIED", fix: "" }
    }

    fn quiet(self) -> Part {
        Part { quiet: true, ..self }
    }

    /// What only some ask for, and is refused to them.
    fn optional(self) -> Part {
        Part { stops: Scopes::NONE, ..self }
    }

    fn or(self, code: &'static str, fix: &'static str) -> Part {
        Part { code, fix, ..self }
    }

    fn of_kind(self, kind: &'static str) -> Part {
        Part { kind: Some(kind), ..self }
    }

    fn serving(self, serves: impl Into<Scopes>) -> Part {
        Part { serves: serves.into(), ..self }
    }

    fn fine(&self) -> Check {
        let check = Check::fine(self.what, self.done);
        if let Some(kind) = self.kind { check.of_kind(kind) } else { check }
    }

    fn refused(&self, failure: &Failure) -> Check {
        let fix = failure.way_out().unwrap_or(self.fix);
        let fix = Some(fix).filter(|fix| !fix.is_empty());
        let evidence = match &self.which {
            Some(which) => format!("{which}: {}", failure.cause()),
            None => failure.cause().to_string(),
        };
        Check::lacking(self.what, failure.code_name().unwrap_or(self.code), evidence, fix)
    }
}

const OUTER: &str = "in an outer container, allow it (docker, podman: --security-opt seccomp=unconfined)";

fn part_of(plan: &Plan, scene: Scene) -> Option<Part> {
    Some(match scene {
        Scene::Root => Part::new("id map", "").quiet().or("ID-UNMAPPED", OUTER),
        Scene::Namespace(kind) => namespace(kind)?,
        Scene::Step(n) => step(&plan.steps.get(usize::from(n))?.op),
        Scene::Groups => {
            let part = Part::new("groups", "setgroups is allowed").optional().serving(ENGINES);
            part.or(
                "GRP-DENY",
                "map gids through subordinate ids (install uidmap, and have a range in /etc/subgid)",
            )
        }
        Scene::Stub => {
            let part = Part::new("memory to execute", "allowed").or("EXE-GUARD", OUTER);
            if plan.guard == Guard::Needless { part.optional().quiet() } else { part }
        }
        Scene::Filter => Part::new("seccomp", "a filter was loaded").or("SECCOMP-LOAD", OUTER),
        Scene::Listener => {
            let part = Part::new("seccomp agent", "a filter that notifies was loaded").optional();
            part.or("SECCOMP-LOAD", "an outer container's own agent is in the way: start it without one")
        }
        Scene::Pivot => Part::new("root file system", "mounted, and entered by pivot_root"),
    })
}

fn namespace(kind: i32) -> Option<Part> {
    let what = match CloneFlags::from_bits_retain(kind) {
        CloneFlags::CLONE_NEWNS => "mount namespace",
        CloneFlags::CLONE_NEWIPC => "ipc namespace",
        CloneFlags::CLONE_NEWUTS => "uts namespace",
        CloneFlags::CLONE_NEWNET => "network namespace",
        CloneFlags::CLONE_NEWCGROUP => "cgroup namespace",
        kind if kind == crate::sys::clone::time_namespace() => {
            let part = Part::new("time namespace", "made").of_kind("namespaces");
            return Some(part.optional().or("NS-DENIED", ""));
        }
        _ => return None,
    };
    Some(Part::new(what, "made").of_kind("namespaces").or("NS-DENIED", ""))
}

fn mounted(what: &'static str) -> Part {
    Part::new(what, "mounted").of_kind("file systems")
}

fn step(op: &Op) -> Part {
    match op {
        Op::Filesystem(fs) => match fs.fstype.to_bytes() {
            b"proc" => mounted("proc"),
            b"sysfs" => mounted("sysfs"),
            b"devpts" => mounted("devpts"),
            b"mqueue" => mounted("mqueue"),
            b"cgroup2" => mounted("cgroup2"),
            b"tmpfs" if fs.at.as_c_str() == c"/dev" => mounted("tmpfs"),
            _ => mounted("tmpfs").quiet(),
        },
        Op::Overlay(..) => Part::new(OVERLAY, "mounted over a directory in memory").optional(),
        Op::Bind(bind) if bind.ids.is_some() => {
            Part::new("idmapped mounts", "mounted, of a file system of its own").optional()
        }
        Op::Keyring(_) => Part::new("session keyring", "joined").or("KEYRING", ""),
        Op::Device { at, .. } | Op::Node { at, .. } => Part {
            which: Some(at.to_string_lossy().into_owned()),
            ..Part::new("devices", "shown").quiet().or("DEV", "")
        },
        Op::Hostname(_) => Part::new("hostname", "set").quiet().or("UTS-DENIED", OUTER),
        Op::Loopback => Part::new("loopback", "up").quiet().or("NS-DENIED", ""),
        Op::Root { .. } | Op::Propagation { .. } => Part::new("root file system", "").quiet(),
        _ => Part::new("root file system", "").quiet(),
    }
}
