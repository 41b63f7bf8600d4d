//! How far a container would come: its user namespace, its ids, its other namespaces, its mounts, and what else init
//! does on its way. All of it is tried, by init itself ([`crate::launch::rehearse`]).

use super::check::{Check, Scope, Scopes};
use super::children::Tell;
use super::sample::{self, Kind};
use crate::codes;
use crate::host::idmap::IdRange;
use crate::host::outer::Outer;
use crate::host::{self, Facts, Needs};
use crate::init::{Outcome, Scene};
use crate::launch::rehearse::{self, Cut, Meaning, Rehearsal};
use crate::plan::Plan;
use crate::plan::degrade::{Class, Degradation};
use crate::plan::idmap::Idmap;
use crate::plan::process::Guard;
use crate::plan::step::Op;
use crate::report::{Failure, errno_text};
use crate::sys::Errno;
use nix::sched::CloneFlags;
use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

/// How long one rehearsal may take. It takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many scenes may end one before it is given up.
const TRIES: usize = 6;

const EVERYBODY: Scopes = Scopes::ALL;

/// The topic.
pub fn look(around: &Outer, tell: &mut Tell<'_>) {
    let facts = match host::read(Needs { subids: true, hard_limits: true, ..Needs::default() }) {
        Ok(facts) => facts,
        Err(errno) => {
            return tell(
                Check::lacking("caller", "PROBE", format!("capget: {}", errno_text(errno)), None::<String>)
                    .stopping(EVERYBODY),
            );
        }
    };
    match sample::plan(Kind::Isolation, &facts) {
        Ok(plan) => Rehearsing { facts, around, tell }.go(plan),
        Err(failure) => tell(refused("container", &failure).stopping(EVERYBODY)),
    }
}

/// A failure, as a check.
pub fn refused(what: impl Into<std::borrow::Cow<'static, str>>, failure: &Failure) -> Check {
    Check::lacking(what, failure.code_name().unwrap_or("PROBE"), failure.cause(), failure.way_out())
}

/// A degradation, as a check: the same by another road is no lack.
pub fn instead(what: &'static str, found: &Degradation) -> Check {
    let evidence = format!("{}: {}", found.got, found.because);
    if found.class == Class::Same {
        return Check::fine(what, evidence);
    }
    Check::lacking(what, found.code.clone(), evidence, found.fix.clone())
}

/// What stops everybody, with the general way out of its code.
fn by_the_table(what: &'static str, code: &'static str, evidence: String) -> Check {
    let fix = codes::find(code).map(|code| code.fix);
    Check::lacking(what, code, evidence, fix).stopping(EVERYBODY)
}

struct Rehearsing<'a, 't> {
    facts: Facts,
    around: &'a Outer,
    tell: &'a mut Tell<'t>,
}

impl Rehearsing<'_, '_> {
    fn go(mut self, mut plan: Plan) {
        let found = plan.degradations.iter().find(|found| found.code.starts_with("ID-"));
        let mut ids = found.map(|found| ids_lacking(&found.code, &found.because, found.fix.as_deref()));
        let Some(place) = sample::PLACES.into_iter().find(|place| Path::new(place).is_dir()) else {
            let why = format!("none of {} is a directory", sample::PLACES.join(", "));
            return (self.tell)(Check::lacking("root file system", "PROBE", why, None::<String>));
        };
        sample::add_more(&mut plan, place);
        let at = CString::new(place).unwrap_or_default();
        let mut skipped: Vec<Scene> = Vec::new();
        let mut cuts = Vec::new();
        loop {
            match rehearse::rehearse(&plan, &at, &skipped, PATIENCE) {
                Ok(Rehearsal::NotBorn(failure)) => return self.not_born(&failure, ids),
                Ok(Rehearsal::NotMapped(failure))
                    if ids.is_none() && matches!(plan.idmap, Idmap::Helpers { .. }) =>
                {
                    ids = Some(ids_lacking(
                        failure.code_name().unwrap_or("ID-RANGE"),
                        failure.cause(),
                        failure.way_out(),
                    ));
                    plan.idmap = single(&self.facts);
                }
                Ok(Rehearsal::NotMapped(failure)) | Err(failure) => {
                    return (self.tell)(refused("id map", &failure).stopping(EVERYBODY));
                }
                Ok(Rehearsal::Played { outcomes, cut }) => {
                    if let Some((scene, cut)) = cut.filter(|_| cuts.len() < TRIES) {
                        skipped.push(scene);
                        cuts.push((scene, cut));
                        continue;
                    }
                    self.user_namespace(&plan);
                    (self.tell)(ids.unwrap_or_else(|| ids_fine(&plan.idmap)));
                    return self.played(&plan, &outcomes, &cuts);
                }
            }
        }
    }

    /// Nothing can be tried. What the facts say is said all the same, so that it need not come to light one at a time.
    fn not_born(&mut self, failure: &Failure, ids: Option<Check>) {
        (self.tell)(refused("user namespace", failure).stopping(EVERYBODY));
        if let Some(ids) = ids {
            (self.tell)(ids);
        }
        if let Some(first) = self.around.masked.first() {
            let evidence =
                format!("{} and others hide parts of /proc, so no other could be mounted", first.display());
            (self.tell)(by_the_table("proc", "PROC-MASKED", evidence));
        }
        if let Some(label) = self.around.label.as_ref().filter(|_| self.around.is_one()) {
            (self.tell)(by_the_table(
                "root file system",
                "MNT-DENIED",
                format!("{label} is likely to forbid mounts"),
            ));
        }
    }

    fn user_namespace(&mut self, plan: &Plan) {
        let check = if plan.namespaces.is_new(CloneFlags::CLONE_NEWUSER) {
            Check::fine("user namespace", "made, with a pid namespace below it")
        } else {
            Check::fine("user namespace", "not needed by root; a pid namespace was made")
        };
        (self.tell)(check);
    }

    fn played(&mut self, plan: &Plan, outcomes: &[(Scene, Outcome)], cuts: &[(Scene, Cut)]) {
        let lost = cuts.iter().map(|(scene, cut)| (*scene, Err(*cut)));
        for (scene, outcome) in outcomes.iter().map(|(scene, outcome)| (*scene, Ok(outcome))).chain(lost) {
            let Some(part) = part_of(plan, scene) else { continue };
            let check = match outcome.map(|outcome| rehearse::meaning(plan, scene, outcome)) {
                Ok(Meaning::Well) if part.quiet => continue,
                Ok(Meaning::Well) => Check::fine(part.what, part.done),
                Ok(Meaning::Instead(found)) => instead(part.what, found),
                Ok(Meaning::Refused(failure)) => part.refused(&failure),
                Err(cut) => part.refused(&Failure::new("", cause(cut))),
            };
            (self.tell)(check.serving(part.serves).stopping(part.stops));
        }
    }
}

fn cause(cut: Cut) -> String {
    const SIGSYS: i32 = nix::libc::SIGSYS;
    match cut {
        Cut::Killed(SIGSYS) => "an outer seccomp filter kills who does it: bad system call".into(),
        Cut::Killed(signal) => format!("who does it is killed by signal {signal}"),
        Cut::Late => format!("it does not end: {}", errno_text(Errno::ETIMEDOUT)),
    }
}

fn ids_lacking(code: &str, because: &str, fix: Option<&str>) -> Check {
    let evidence = format!("{because}: a single id");
    Check::lacking("id map", code.to_string(), evidence, fix).stopping(Scope::Docker)
}

fn ids_fine(idmap: &Idmap) -> Check {
    let count = |map: &[crate::plan::idmap::Mapping]| map.iter().map(|m| u64::from(m.count)).sum::<u64>();
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

/// The caller's own id alone.
fn single(facts: &Facts) -> Idmap {
    crate::plan::idmap::all_own(&Facts { subids: None, ..facts.clone() }, &mut Vec::new())
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
    /// The code and the fix, where the failure has none.
    code: &'static str,
    fix: &'static str,
}

impl Part {
    fn new(what: &'static str, done: &'static str) -> Part {
        let (serves, stops) = (EVERYBODY, EVERYBODY);
        Part { what, done, quiet: false, serves, stops, code: "MNT-DENIED", fix: "" }
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

    fn refused(&self, failure: &Failure) -> Check {
        let fix = failure.way_out().unwrap_or(self.fix);
        let fix = Some(fix).filter(|fix| !fix.is_empty());
        Check::lacking(self.what, failure.code_name().unwrap_or(self.code), failure.cause(), fix)
    }
}

fn part_of(plan: &Plan, scene: Scene) -> Option<Part> {
    const OUTER: &str = "in an outer container, allow it (docker, podman: --security-opt seccomp=unconfined)";
    Some(match scene {
        Scene::Root => Part::new("id map", "").quiet().or("ID-UNMAPPED", OUTER),
        Scene::Namespace(kind) => namespace(kind)?,
        Scene::Step(n) => step(&plan.steps.get(usize::from(n))?.op),
        Scene::Groups => {
            let part = Part::new("groups", "setgroups is allowed").optional();
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
            return Some(Part::new("time namespace", "made").optional().or("NS-DENIED", ""));
        }
        _ => return None,
    };
    Some(Part::new(what, "made").or("NS-DENIED", ""))
}

fn step(op: &Op) -> Part {
    match op {
        Op::Filesystem(fs) => match fs.fstype.to_bytes() {
            b"proc" => Part::new("proc", "mounted"),
            b"sysfs" => Part::new("sysfs", "mounted"),
            b"devpts" => Part::new("devpts", "mounted"),
            b"mqueue" => Part::new("mqueue", "mounted"),
            b"cgroup2" => Part::new("cgroup2", "mounted"),
            b"tmpfs" if fs.at.as_c_str() == c"/dev" => Part::new("tmpfs", "mounted"),
            _ => Part::new("tmpfs", "mounted").quiet(),
        },
        Op::Overlay(..) => Part::new("overlay", "mounted over a directory in memory").optional(),
        Op::Bind(bind) if bind.ids.is_some() => {
            Part::new("idmapped mounts", "mounted, of a file system of its own").optional()
        }
        Op::Keyring(_) => Part::new("session keyring", "joined").or("KEYRING", ""),
        Op::Device { .. } | Op::Node { .. } => Part::new("devices", "shown").quiet().or("DEV", ""),
        Op::Loopback => Part::new("loopback", "up").quiet().or("NET-TUN", ""),
        Op::Root { .. } | Op::Propagation { .. } => Part::new("root file system", "").quiet(),
        _ => Part::new("root file system", "").quiet(),
    }
}
