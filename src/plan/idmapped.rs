//! Mounts whose files show other ids than they have on disk (config.md, "Mounts": `uidMappings`, `idmap`).
//!
//! A line of their maps reads as one of a user namespace does: an id on disk is the inside, and the id that it
//! stands for, in our own user namespace, the outside. The kernel lets those do it who are root in the user
//! namespace that the *file system* was mounted in:
//!
//! - root, for nearly everything: launch does it, and the maps lead to ids of launch's;
//! - root of the container, for what was mounted in the container's user namespace: init does it, and the maps
//!   lead to the container's own ids, since a map can name no others there.

use super::Context;
use super::idmap::{Mapping, Maps, check_lines, check_owned, lines, mappings};
use super::options;
use super::step::{IdMaps, Ids};
use crate::report::Failure;
use nix::sched::CloneFlags;
use oci_spec::runtime::Mount;

/// The ids that a mount is to have, if it is to have other ones.
///
/// # Errors
/// `MNT-IDMAP` for what is no bind mount, for maps that make no sense or that nobody here may set; `ID-RANGE` for ids
/// that are not ours.
pub fn ids(
    mount: &Mount,
    word: Option<&options::Idmap>,
    bind: bool,
    context: &Context<'_>,
    act: &dyn Fn() -> String,
) -> Result<Option<Ids>, Failure> {
    let listed = Maps {
        uids: mappings(mount.uid_mappings().as_deref().unwrap_or_default()),
        gids: mappings(mount.gid_mappings().as_deref().unwrap_or_default()),
    };
    let is_listed = !listed.uids.is_empty() || !listed.gids.is_empty();
    if word.is_none() && !is_listed {
        return Ok(None);
    }
    let refuse = |cause: &str| Failure::new(act(), cause).code("MNT-IDMAP");
    if !bind {
        return Err(refuse("only a bind mount can have other ids: invalid argument")
            .fix("remove idmap, uidMappings and gidMappings of this mount"));
    }
    let inline = word.and_then(|word| word.inline.as_deref());
    let explicit = match inline {
        Some(_) if is_listed => {
            return Err(refuse("idmap= and uidMappings both say which ids: invalid argument")
                .fix("leave out one of the two"));
        }
        Some(text) => Some(parse(text, context.idmap.maps()).map_err(|cause| {
            refuse(&format!("{cause}: invalid argument"))
                .fix("write idmap=uids=ON_DISK-ON_HOST-COUNT;gids=ON_DISK-ON_HOST-COUNT")
        })?),
        None => is_listed.then_some(listed),
    };
    if let Some(maps) = &explicit {
        if maps.uids.is_empty() || maps.gids.is_empty() {
            return Err(refuse("there are maps of uids or of gids, and not of both: invalid argument")
                .fix("give uidMappings and gidMappings together"));
        }
        for (what, map) in [("uids", &maps.uids), ("gids", &maps.gids)] {
            check_lines(map).map_err(|cause| refuse(&format!("{what}: {cause}: invalid argument")))?;
        }
    }
    let by_launch = context.facts.privileged();
    let maps =
        if by_launch { of_root(explicit, context, act) } else { of_container(explicit, context, act) }?;
    Ok(Some(Ids { maps, recursive: word.is_some_and(|word| word.recursive), by_launch }))
}

/// Written by launch.
fn of_root(
    explicit: Option<Maps>,
    context: &Context<'_>,
    act: &dyn Fn() -> String,
) -> Result<IdMaps, Failure> {
    let refuse = |cause: &str| Failure::new(act(), cause).code("MNT-IDMAP");
    if explicit.is_none() {
        let joined = &context.namespaces.joined;
        if let Some((_, path)) = joined.iter().find(|(kind, _)| *kind == CloneFlags::CLONE_NEWUSER) {
            return Ok(IdMaps::Of(path.clone()));
        }
    }
    let Some(maps) = explicit.or_else(|| context.idmap.maps().cloned()) else {
        return Err(refuse("the container has no user namespace whose maps it could take: invalid argument")
            .fix("add uidMappings and gidMappings to the mount, or a user namespace to the container"));
    };
    if !context.facts.maps_directly() {
        return Err(refuse("it takes CAP_SETUID and CAP_SETGID: operation not permitted")
            .fix("start bryo with all capabilities of root"));
    }
    let own = &context.facts.own_ids;
    for (map, own) in [(&maps.uids, &own.0), (&maps.gids, &own.1)] {
        check_owned(&act(), map, own, None, "our own user namespace")?;
    }
    Ok(IdMaps::Lines { uids: lines(&maps.uids), gids: lines(&maps.gids) })
}

/// Written by init.
fn of_container(
    explicit: Option<Maps>,
    context: &Context<'_>,
    act: &dyn Fn() -> String,
) -> Result<IdMaps, Failure> {
    let refuse = |cause: &str| {
        Failure::new(act(), format!("{cause}: operation not permitted"))
            .code("MNT-IDMAP")
            .fix("run it as root of the machine, or remove idmap and give the files to ids of the container")
    };
    // What the container's own root may map is in the container's ids already.
    let explicit = explicit
        .ok_or_else(|| refuse("only root may have a file system of the host take the container's maps"))?;
    let own = context
        .idmap
        .maps()
        .ok_or_else(|| refuse("only root may map ids where the container's own maps are not known"))?;
    let inside = |what: &str, map: &[Mapping], own: &[Mapping]| {
        let inward: Vec<_> = own.iter().map(|m| m.reversed()).collect();
        let runs = map.iter().map(|m| m.through(&inward)).collect::<Result<Vec<_>, u32>>();
        runs.map(|runs| lines(&runs.concat()))
            .map_err(|id| refuse(&format!("only root may map to a {what} that the container lacks ({id})")))
    };
    Ok(IdMaps::Lines {
        uids: inside("uid", &explicit.uids, &own.uids)?,
        gids: inside("gid", &explicit.gids, &own.gids)?,
    })
}

/// Reads crun's way to say it: `uids=ON_DISK-ON_HOST-COUNT#…;gids=…`. After an `@`, the middle one is an id of the
/// container's.
fn parse(text: &str, container: Option<&Maps>) -> Result<Maps, String> {
    let mut maps = Maps { uids: Vec::new(), gids: Vec::new() };
    for part in text.split(';') {
        let (map, own, lines) = match part.split_once('=') {
            Some(("uids", lines)) => (&mut maps.uids, container.map(|maps| &maps.uids), lines),
            Some(("gids", lines)) => (&mut maps.gids, container.map(|maps| &maps.gids), lines),
            _ => return Err(format!("{part:?} is neither uids= nor gids=")),
        };
        if !map.is_empty() {
            return Err(format!("{part:?} is there for the second time"));
        }
        for line in lines.split('#') {
            let relative = line.strip_prefix('@');
            let mapping = triplet(relative.unwrap_or(line))
                .ok_or_else(|| format!("{line:?} is not of the form ON_DISK-ON_HOST-COUNT"))?;
            match relative {
                None => map.push(mapping),
                Some(_) => {
                    let own = own.ok_or("@ is for the ids of a container with maps of its own")?;
                    let runs = mapping.through(own);
                    map.extend(runs.map_err(|id| format!("{line:?}: the container has no id {id}"))?);
                }
            }
        }
    }
    Ok(maps)
}

fn triplet(text: &str) -> Option<Mapping> {
    let mut numbers = text.split('-').map(|number| number.parse::<u32>().ok());
    let mapping = Mapping { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? };
    // The last id is a number too.
    mapping.outside.checked_add(mapping.count)?;
    numbers.next().is_none().then_some(mapping)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mapping(inside: u32, outside: u32, count: u32) -> Mapping {
        Mapping { inside, outside, count }
    }

    fn container() -> Maps {
        let map = vec![mapping(0, 1000, 1), mapping(1, 100_000, 10), mapping(11, 200_000, 10)];
        Maps { uids: map.clone(), gids: map }
    }

    #[test]
    fn the_inline_form_is_read_as_crun_documents_it() {
        let maps = parse("uids=0-1-10#10-11-10;gids=0-100-10", None).unwrap();
        assert_eq!(maps.uids, [mapping(0, 1, 10), mapping(10, 11, 10)]);
        assert_eq!(maps.gids, [mapping(0, 100, 10)]);
    }

    #[test]
    fn a_relative_line_goes_through_the_maps_of_the_container() {
        let maps = parse("uids=@1-3-5;gids=@7-0-13#9-9-1", Some(&container())).unwrap();
        assert_eq!(maps.uids, [mapping(1, 100_002, 5)]);
        // crun leaves a line in one piece, and so gives it ids of somebody else.
        let gids = [mapping(7, 1000, 1), mapping(8, 100_000, 10), mapping(18, 200_000, 2), mapping(9, 9, 1)];
        assert_eq!(maps.gids, gids);
    }

    #[test]
    fn an_inline_form_that_makes_no_sense_is_refused() {
        for text in [
            "uids",
            "uids=",
            "uids=1-2",
            "uids=1-2-3-4",
            "uids=1-2-x",
            "uids=-1-2-3",
            "uids=1-2-3##4-5-6",
            "uids=1-2-3,gids=1-2-3",
            "uids=1-2-3;uids=4-5-6",
            "uids=4294967296-2-3",
            "uids=0-4294967295-2",
            "pids=1-2-3",
            "uids=1-2-3;",
            "uids=@0-21-1",
            "uids=@0-11-11",
        ] {
            assert!(parse(text, Some(&container())).is_err(), "{text}");
        }
        assert!(parse("uids=@0-0-1", None).unwrap_err().contains("maps of its own"));
    }

    #[test]
    fn what_leads_out_of_the_container_is_turned_to_lead_into_it() {
        let inward: Vec<_> = container().uids.iter().map(|m| m.reversed()).collect();
        assert_eq!(mapping(5, 100_004, 2).through(&inward), Ok(vec![mapping(5, 5, 2)]));
        assert_eq!(mapping(0, 1000, 1).through(&inward), Ok(vec![mapping(0, 0, 1)]));
        assert_eq!(mapping(0, 100_008, 3).through(&inward), Err(100_010));
    }
}
