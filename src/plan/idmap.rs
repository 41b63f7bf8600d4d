//! Which ids the container has, and who writes the maps.
//!
//! - Whoever may (root, or root inside somebody's user namespace) writes any number of lines.
//! - A plain user may write one line of one id: the own one. The kernel wants setgroups(2) denied for it.
//! - More than that is for newuidmap and newgidmap, where they are installed, work, and the ids belong to
//!   the user. Where they are not, a map of the own id is a weaker means, taken only if nothing in the
//!   configuration needs more.

use super::degrade::Degradation;
use crate::host::idmap::{Helper, IdRange, Subids, covers};
use crate::host::{CAP_SETFCAP, Facts};
use crate::report::Failure;
use oci_spec::runtime::{LinuxIdMapping, User};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How the maps get written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Idmap {
    /// There is no new user namespace: these ids are there.
    Inherited { uids: Vec<IdRange>, gids: Vec<IdRange> },
    /// We write /proc/PID/uid_map and gid_map ourselves.
    Direct { maps: Maps, deny_setgroups: bool },
    /// newuidmap and newgidmap do.
    Helpers { maps: Maps, newuidmap: PathBuf, newgidmap: PathBuf },
}

/// The lines of both maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maps {
    pub uids: Vec<Mapping>,
    pub gids: Vec<Mapping>,
}

impl Maps {
    fn hosts(&self) -> Vec<IdRange> {
        self.uids.iter().map(|m| m.host()).collect()
    }
}

/// A line of a map (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

impl Mapping {
    fn host(self) -> IdRange {
        IdRange { start: self.outside, count: self.count }
    }

    fn contains(self, id: u32) -> bool {
        id >= self.inside && u64::from(id) < u64::from(self.inside) + u64::from(self.count)
    }

    /// From the outside in.
    pub fn reversed(self) -> Mapping {
        Mapping { inside: self.outside, outside: self.inside, count: self.count }
    }

    /// One map further: where its outside, being another map's inside, leads.
    ///
    /// # Errors
    /// The first id that leads nowhere.
    pub fn through(self, map: &[Mapping]) -> Result<Vec<Mapping>, u32> {
        let mut runs = Vec::new();
        let mut done = 0;
        while done < self.count {
            let at = self.outside.saturating_add(done);
            let next = map.iter().find(|m| m.contains(at)).ok_or(at)?;
            let skipped = at - next.inside;
            let count = (next.count - skipped).min(self.count - done);
            runs.push(Mapping { inside: self.inside + done, outside: next.outside + skipped, count });
            done += count;
        }
        Ok(runs)
    }
}

/// Lines of a map as the kernel reads them.
pub fn lines(map: &[Mapping]) -> String {
    let line = |m: &Mapping| format!("{} {} {}\n", m.inside, m.outside, m.count);
    map.iter().map(line).collect()
}

impl Idmap {
    /// The caller alone, under these ids.
    pub fn single(facts: &Facts, uid: u32, gid: u32) -> Idmap {
        let one = |inside, outside| vec![Mapping { inside, outside, count: 1 }];
        let maps = Maps { uids: one(uid, facts.euid), gids: one(gid, facts.egid) };
        Idmap::Direct { maps, deny_setgroups: true }
    }

    /// The maps of a new user namespace.
    pub fn maps(&self) -> Option<&Maps> {
        match self {
            Idmap::Inherited { .. } => None,
            Idmap::Direct { maps, .. } | Idmap::Helpers { maps, .. } => Some(maps),
        }
    }

    /// Whether setgroups(2) will work inside.
    pub fn allows_setgroups(&self) -> bool {
        !matches!(self, Idmap::Direct { deny_setgroups: true, .. })
    }

    /// A root file system whose owner does not exist inside works, but nobody inside can change it.
    pub fn foreign_owner(&self, uid: u32) -> Option<Degradation> {
        let owned = self.maps().is_none_or(|maps| covers(&maps.hosts(), IdRange { start: uid, count: 1 }));
        (!owned).then(|| {
            Degradation::weaker(
                "FS-OWNER",
                "a root file system of the container's own ids",
                format!("one of uid {uid}, which is nobody inside"),
                "the container's map does not have its owner",
            )
            .fix("map that uid, or unpack the root file system as the user who runs it")
        })
    }

    /// Whether root inside can do what the host's owner `uid` of a file can.
    pub fn reaches(&self, uid: u32, facts: &Facts) -> bool {
        match self.maps() {
            Some(maps) => covers(&maps.hosts(), IdRange { start: uid, count: 1 }),
            // Our own root is the container's: it owns all ids of its user namespace.
            None => facts.privileged() || uid == facts.euid,
        }
    }

    /// The ids of the user namespace that we are in.
    pub fn ours(facts: &Facts) -> Idmap {
        Idmap::Inherited { uids: facts.own_ids.0.clone(), gids: facts.own_ids.1.clone() }
    }

    /// Those of one that is joined, which nobody can know beforehand: any may be there.
    pub fn unknown() -> Idmap {
        Idmap::Inherited { uids: vec![IdRange::ALL], gids: vec![IdRange::ALL] }
    }

    /// Whether this gid exists inside.
    pub fn maps_gid(&self, gid: u32) -> bool {
        covers(&self.gids(), IdRange { start: gid, count: 1 })
    }

    /// Whether this uid exists inside.
    pub fn maps_uid(&self, uid: u32) -> bool {
        match self {
            Idmap::Inherited { uids, .. } => covers(uids, IdRange { start: uid, count: 1 }),
            Idmap::Direct { maps, .. } | Idmap::Helpers { maps, .. } => {
                maps.uids.iter().any(|m| m.contains(uid))
            }
        }
    }

    /// The uid outside of a new user namespace that a uid inside is.
    pub fn outside(&self, uid: u32) -> Option<u32> {
        let mapping = self.maps()?.uids.iter().find(|m| m.contains(uid))?;
        Some(mapping.outside + (uid - mapping.inside))
    }

    /// The highest gid inside.
    pub fn last_gid(&self) -> Option<u32> {
        self.gids().iter().map(|range| range.start.saturating_add(range.count - 1)).max()
    }

    fn gids(&self) -> Vec<IdRange> {
        match self {
            Idmap::Inherited { gids, .. } => gids.clone(),
            Idmap::Direct { maps, .. } | Idmap::Helpers { maps, .. } => {
                maps.gids.iter().map(|m| IdRange { start: m.inside, count: m.count }).collect()
            }
        }
    }

    /// Checks that the process can be who it is to be.
    ///
    /// # Errors
    /// `ID-UNMAPPED`.
    pub fn check_user(&self, user: &User, container: &str) -> Result<(), Failure> {
        // Where setgroups is denied, groups beyond the map have their own refusal (GRP-DENY).
        let groups = user.additional_gids().iter().flatten().filter(|_| self.allows_setgroups());
        let gids = std::iter::once(user.gid()).chain(groups.copied());
        let missing = (!self.maps_uid(user.uid()))
            .then_some(("uid", user.uid()))
            .or_else(|| gids.into_iter().find(|gid| !self.maps_gid(*gid)).map(|gid| ("gid", gid)));
        let Some((kind, id)) = missing else { return Ok(()) };
        Err(Failure::new(
            format!("cannot run as {kind} {id} in container {container}"),
            format!("the container's map has no {kind} {id}: invalid argument"),
        )
        .code("ID-UNMAPPED")
        .fix("map more ids in linux.uidMappings and linux.gidMappings (bryo spec --rootless --subids writes all that are yours)"))
    }
}

/// What the configuration says about ids.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub container: &'a str,
    pub uids: &'a [LinuxIdMapping],
    pub gids: &'a [LinuxIdMapping],
    pub user: &'a User,
}

/// Decides for a new user namespace.
///
/// # Errors
/// `ID-RANGE`, `ID-UNMAPPED`, `ID-NOHELPER` and its kin, where the ids that are needed are not to be had.
pub fn decide(
    wanted: Wanted<'_>,
    facts: &Facts,
    degradations: &mut Vec<Degradation>,
) -> Result<Idmap, Failure> {
    let mut maps = Maps { uids: mappings(wanted.uids), gids: mappings(wanted.gids) };
    let act = |what: &str| format!("cannot map {what} for container {}", wanted.container);
    if maps.uids.is_empty() != maps.gids.is_empty() {
        return Err(Failure::new(act("ids"), "uidMappings and gidMappings have to be given together"));
    }
    let unspecified = maps.uids.is_empty();
    if unspecified {
        if facts.maps_directly() {
            return Err(Failure::new(act("ids"), "user namespaces enabled, but no uid mappings found")
                .fix("add linux.uidMappings and linux.gidMappings to config.json"));
        }
        maps = all_of(facts, degradations);
    }
    for (what, map) in [("uids", &maps.uids), ("gids", &maps.gids)] {
        check_lines(map).map_err(|cause| Failure::new(act(what), cause))?;
    }
    let own = |maps: &Maps| {
        let (uids, gids) = &facts.own_ids;
        check_owned(&act("uids"), &maps.uids, uids, None, "our own user namespace")?;
        check_owned(&act("gids"), &maps.gids, gids, None, "our own user namespace")
    };
    let idmap = if facts.maps_directly() {
        own(&maps)?;
        Idmap::Direct { maps, deny_setgroups: false }
    } else if is_own_id(&maps, facts) {
        follow_user(&mut maps, wanted.user, degradations);
        Idmap::Direct { maps, deny_setgroups: true }
    } else if facts.maps_ids() {
        own(&maps)?;
        Idmap::Direct { maps, deny_setgroups: false }
    } else {
        by_helpers(wanted, maps, facts, degradations)?
    };
    if let Idmap::Direct { maps, .. } = &idmap {
        check_root_map(maps, facts, act)?;
    }
    idmap.check_user(wanted.user, wanted.container)?;
    Ok(idmap)
}

/// Root of the new user namespace could give files capabilities that are good for the root of ours (Linux 5.12), so
/// who maps that root needs the right to do so (user_namespaces(7), `CAP_SETFCAP`).
fn check_root_map(maps: &Maps, facts: &Facts, act: impl Fn(&str) -> String) -> Result<(), Failure> {
    let maps_root = covers_id(&maps.uids, 0);
    if !maps_root || facts.capable(CAP_SETFCAP) {
        return Ok(());
    }
    Err(Failure::new(act("uids"), "who maps uid 0 needs CAP_SETFCAP, which bryo lacks: operation not permitted")
        .code("ID-SETFCAP")
        .fix("start the outer container as another user than root (docker, podman --user 1000, Kubernetes runAsUser: 1000), or with SETFCAP (docker, podman --cap-add SETFCAP, Kubernetes capabilities: {add: [SETFCAP]})"))
}

/// Whether an id outside is mapped.
fn covers_id(map: &[Mapping], outside: u32) -> bool {
    map.iter().any(|m| m.reversed().contains(outside))
}

/// Those of a configuration.
pub fn mappings(spec: &[LinuxIdMapping]) -> Vec<Mapping> {
    let mapping =
        |m: &LinuxIdMapping| Mapping { inside: m.container_id(), outside: m.host_id(), count: m.size() };
    spec.iter().map(mapping).collect()
}

/// Everything that a plain user has, to be written from outside: see [`stack`]. Without subordinate ids, or without
/// what it takes to map them, the own id alone, and that is said.
pub fn all_own(facts: &Facts, degradations: &mut Vec<Degradation>) -> Idmap {
    let maps = all_of(facts, degradations);
    if is_root_of_all(facts) {
        return Idmap::Direct { maps, deny_setgroups: false };
    }
    match facts.subids.as_ref().map(usable) {
        Some(Ok((newuidmap, newgidmap))) if !is_own_id(&maps, facts) => {
            Idmap::Helpers { maps, newuidmap, newgidmap }
        }
        _ => Idmap::Direct { maps, deny_setgroups: true },
    }
}

/// Root of an outer container: what a plain user has subordinate ids for is all its own.
fn is_root_of_all(facts: &Facts) -> bool {
    facts.euid == 0 && facts.maps_ids()
}

fn all_of(facts: &Facts, degradations: &mut Vec<Degradation>) -> Maps {
    let maps = |uids, gids| Maps { uids: stack(facts.euid, uids), gids: stack(facts.egid, gids) };
    if is_root_of_all(facts) {
        return maps(&facts.own_ids.0, &facts.own_ids.1);
    }
    let Some(subids) = &facts.subids else { return maps(&[], &[]) };
    match usable(subids).and_then(|_| ranges(subids)) {
        Ok(()) => maps(&subids.uids, &subids.gids),
        Err((code, because, fix)) => {
            degradations.push(single_id(code, "all of the caller's ids", 0, because, fix));
            maps(&[], &[])
        }
    }
}

/// 0 is the caller, and 1 and up are the subordinate ids, in their order. Every id outside comes once: the kernel
/// refuses a map where two lines overlap.
pub fn stack(own: u32, subordinate: &[IdRange]) -> Vec<Mapping> {
    let mut map = Vec::new();
    let mut taken: Vec<(u64, u64)> = Vec::new(); // from, to: the first after
    let mut next = 0;
    for range in std::iter::once(&IdRange { start: own, count: 1 }).chain(subordinate) {
        let mut from = u64::from(range.start);
        let to = (from + u64::from(range.count)).min(IDS);
        taken.sort_unstable();
        for (taken_from, taken_to) in taken.clone().into_iter().chain([(to, to)]) {
            // what is free before this one, less what has no id left inside
            let count = taken_from.min(to).saturating_sub(from).min(IDS - next);
            if count > 0 {
                // The casts are below IDS.
                map.push(Mapping { inside: next as u32, outside: from as u32, count: count as u32 });
                taken.push((from, from + count));
                next += count;
            }
            from = from.max(taken_to);
        }
    }
    map
}

/// 2³²-1 is no id: it means "unchanged" to the system calls.
const IDS: u64 = u32::MAX as u64;

/// Why a fact stands in the way: its code, itself, and the way out.
type Obstacle = (&'static str, String, String);

fn ranges(subids: &Subids) -> Result<(), Obstacle> {
    if !subids.uids.is_empty() && !subids.gids.is_empty() {
        return Ok(());
    }
    let file = if subids.uids.is_empty() { "/etc/subuid" } else { "/etc/subgid" };
    Err((
        "ID-NOSUBID",
        format!("{file} has no range for {}", subids.user),
        format!("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}", subids.user),
    ))
}

fn single_id(code: &'static str, wanted: &str, uid: u32, because: String, fix: String) -> Degradation {
    let got = format!("using a single-id map (only uid {uid} inside)");
    Degradation::weaker(code, wanted, got, because).fix(fix)
}

/// The rules of user_namespaces(7) that a map can break by itself. The kernel's 340 lines are its own to
/// enforce.
///
/// # Errors
/// The line that breaks one.
pub fn check_lines(map: &[Mapping]) -> Result<(), String> {
    for (i, m) in map.iter().enumerate() {
        if m.count == 0 {
            return Err(format!("mapping {i} has size 0"));
        }
        if m.inside.checked_add(m.count - 1).is_none() || m.outside.checked_add(m.count - 1).is_none() {
            return Err(format!("mapping {i} goes beyond the last id"));
        }
    }
    Ok(())
}

/// Checks that who is called `owner` here has all ids that a map leads to.
///
/// # Errors
/// `ID-RANGE`.
pub fn check_owned(
    act: &str,
    map: &[Mapping],
    own: &[IdRange],
    me: Option<u32>,
    owner: &str,
) -> Result<(), Failure> {
    for m in map {
        let is_me = m.count == 1 && Some(m.outside) == me;
        if is_me || covers(own, m.host()) {
            continue;
        }
        let list: Vec<_> = own.iter().map(|r| format!("{}+{}", r.start, r.count)).collect();
        let list = if list.is_empty() { "none".into() } else { list.join(", ") };
        return Err(Failure::new(
            act.to_string(),
            format!("the spec maps {}+{}, {owner} has {list}: operation not permitted", m.outside, m.count),
        )
        .code("ID-RANGE")
        .fix("map only ids that are yours, or have more assigned in /etc/subuid and /etc/subgid"));
    }
    Ok(())
}

/// Whether the maps are those that a plain user may write alone.
fn is_own_id(maps: &Maps, facts: &Facts) -> bool {
    let single = |map: &[Mapping], own: u32| matches!(map, [m] if m.outside == own && m.count == 1);
    single(&maps.uids, facts.euid) && single(&maps.gids, facts.egid)
}

/// With a single id, the process can only be that one: the map follows the process, whichever id that is.
fn follow_user(maps: &mut Maps, user: &User, degradations: &mut Vec<Degradation>) {
    for (kind, map, id) in [("uid", &mut maps.uids, user.uid()), ("gid", &mut maps.gids, user.gid())] {
        if let [m] = map.as_mut_slice() {
            if m.inside != id {
                degradations.push(Degradation::same(
                    "ID-UNMAPPED",
                    format!("{kind} {} and {kind} {id} inside", m.inside),
                    format!("{kind} {id} alone"),
                    "there is a single id, and the process runs as it",
                ));
                m.inside = id;
            }
        }
    }
}

/// Whether the helpers work here; the failing fact, its code and the way out otherwise.
fn usable(subids: &Subids) -> Result<(PathBuf, PathBuf), Obstacle> {
    const INSTALL: &str = "install uidmap (Debian, Ubuntu) or shadow-utils (Fedora)";
    if subids.no_new_privs {
        return Err((
            "ID-NNP",
            "no_new_privs is set, so newuidmap cannot work".into(),
            "start without it (Kubernetes: allowPrivilegeEscalation: true)".into(),
        ));
    }
    let mut paths = Vec::new();
    for (name, helper) in [("newuidmap", &subids.newuidmap), ("newgidmap", &subids.newgidmap)] {
        match helper {
            Helper::Usable(path) => paths.push(path.clone()),
            Helper::Missing => {
                return Err(("ID-NOHELPER", format!("{name} is not installed"), INSTALL.into()));
            }
            Helper::Powerless(path) => {
                return Err((
                    "ID-HELPERCAP",
                    format!("{} is not setuid root and has no capabilities", path.display()),
                    format!("sudo chown root {0} && sudo chmod u+s {0}", path.display()),
                ));
            }
            Helper::NoSuid(path) => {
                return Err((
                    "ID-NNP",
                    format!("{} is on a file system mounted nosuid", path.display()),
                    "put it on one that is mounted without nosuid".into(),
                ));
            }
        }
    }
    match <[PathBuf; 2]>::try_from(paths) {
        Ok([newuidmap, newgidmap]) => Ok((newuidmap, newgidmap)),
        Err(_) => Err(("ID-NOHELPER", "the helpers are not installed".into(), INSTALL.into())),
    }
}

fn by_helpers(
    wanted: Wanted<'_>,
    maps: Maps,
    facts: &Facts,
    degradations: &mut Vec<Degradation>,
) -> Result<Idmap, Failure> {
    let act = |what: &str| format!("cannot map {what} for container {}", wanted.container);
    let Some(subids) = &facts.subids else {
        return Err(Failure::new(act("ids"), "subordinate ids were not looked up"));
    };
    let helpers = usable(subids).and_then(|helpers| ranges(subids).map(|()| helpers));
    let obstacle = match helpers {
        Ok((newuidmap, newgidmap)) => {
            check_owned(&act("uids"), &maps.uids, &subids.uids, Some(facts.euid), &subids.user)?;
            check_owned(&act("gids"), &maps.gids, &subids.gids, Some(facts.egid), &subids.user)?;
            return Ok(Idmap::Helpers { maps, newuidmap, newgidmap });
        }
        Err(obstacle) => obstacle,
    };
    // The process itself has to be the one id that there is. That files of other owners show as nobody's
    // is the price, and said.
    let (code, because, fix) = obstacle;
    let user = wanted.user;
    // Ids that are not the caller's own, asked for as the process's, are a different identity on the host.
    let is_own = |map: &[Mapping], id: u32, own: u32| {
        let outside = |m: &Mapping| u64::from(m.outside) + u64::from(id - m.inside);
        map.iter().any(|m| m.contains(id) && outside(m) == u64::from(own))
    };
    let needs_more = user.additional_gids().as_ref().is_some_and(|gids| !gids.is_empty())
        || (user.uid() == 0) != (user.gid() == 0)
        || !is_own(&maps.uids, user.uid(), facts.euid)
        || !is_own(&maps.gids, user.gid(), facts.egid);
    if needs_more {
        return Err(Failure::new(
            act("ids"),
            format!("{because}, and the configuration needs more than one id: operation not permitted"),
        )
        .code(code)
        .fix(fix));
    }
    let mut single = Maps {
        uids: vec![Mapping { inside: 0, outside: facts.euid, count: 1 }],
        gids: vec![Mapping { inside: 0, outside: facts.egid, count: 1 }],
    };
    single.uids[0].inside = user.uid();
    single.gids[0].inside = user.gid();
    let total: u64 = maps.uids.iter().map(|m| u64::from(m.count)).sum();
    degradations.push(single_id(code, &format!("{total} uids"), user.uid(), because, fix));
    Ok(Idmap::Direct { maps: single, deny_setgroups: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_outside_is_mapped_twice() {
        let lines = |own, ranges: &[(u32, u32)]| {
            let ranges: Vec<_> =
                ranges.iter().map(|(start, count)| IdRange { start: *start, count: *count }).collect();
            let lines = stack(own, &ranges);
            lines.iter().map(|m| (m.inside, m.outside, m.count)).collect::<Vec<_>>()
        };
        // the caller's own id in the middle, at the start, at the end
        assert_eq!(lines(105, &[(100, 10)]), [(0, 105, 1), (1, 100, 5), (6, 106, 4)]);
        assert_eq!(lines(100, &[(100, 10)]), [(0, 100, 1), (1, 101, 9)]);
        assert_eq!(lines(109, &[(100, 10)]), [(0, 109, 1), (1, 100, 9)]);
        // ranges that overlap, repeat, hold nothing, or lie around what is there
        assert_eq!(lines(7, &[(100, 10), (105, 10)]), [(0, 7, 1), (1, 100, 10), (11, 110, 5)]);
        assert_eq!(lines(7, &[(100, 10), (100, 10), (50, 0)]), [(0, 7, 1), (1, 100, 10)]);
        assert_eq!(lines(7, &[(100, 10), (90, 30)]), [(0, 7, 1), (1, 100, 10), (11, 90, 10), (21, 110, 10)]);
        // as many as there are
        let all = lines(0, &[(0, u32::MAX)]);
        assert_eq!(all, [(0, 0, 1), (1, 1, u32::MAX - 1)]);
        let end = lines(u32::MAX - 1, &[(u32::MAX - 2, 5)]);
        assert_eq!(end, [(0, u32::MAX - 1, 1), (1, u32::MAX - 2, 1)]);
    }
}
