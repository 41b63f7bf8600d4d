//! The ids that there are while a bundle is made, and what depends on them: the owners that files can get, the maps
//! of the container, and the place of a layer in the store.

use super::digest::Digest;
use super::unpack::{Form, Ids};
use crate::host::idmap::{self, IdRange};
use crate::host::namespaces::in_child_userns;
use crate::report::{Act, Failure};
use crate::spec::SpecKind;

/// The maps of this process, which made a namespace to have them or had them before.
pub struct Maps {
    /// What the container is to have.
    pub kind: SpecKind,
    /// There is one id, and everything is its.
    pub single: bool,
    /// Overlayfs has its marks in attributes of users here.
    pub userxattr: bool,
    /// A name for files that are unpacked with these maps.
    pub name: String,
}

impl Maps {
    /// Reads them. `entered`: this process made a namespace, and the container will be made outside of it.
    ///
    /// # Errors
    /// Where /proc is not there.
    pub fn read(entered: bool) -> Result<Maps, Failure> {
        let read = |path: &str| idmap::outside(path).act(|| format!("cannot read {path}"));
        let (uids, gids) = (read("/proc/self/uid_map")?, read("/proc/self/gid_map")?);
        Ok(Maps { userxattr: in_child_userns(), ..Maps::of(&uids, &gids, entered) })
    }

    fn of(uids: &[IdRange], gids: &[IdRange], entered: bool) -> Maps {
        let kind = match (uids, gids) {
            ([uid, subuids @ ..], [gid, subgids @ ..]) if entered => SpecKind::Subids {
                uid: uid.start,
                gid: gid.start,
                subuids: subuids.to_vec(),
                subgids: subgids.to_vec(),
            },
            _ => SpecKind::Root,
        };
        let single = |ranges: &[IdRange]| matches!(ranges, [IdRange { count: 1, .. }]);
        let name = if uids == gids { spell(uids) } else { format!("u{}_g{}", spell(uids), spell(gids)) };
        Maps { kind, single: single(uids) || single(gids), userxattr: entered, name }
    }

    /// The owners that files can get.
    ///
    /// # Errors
    /// Where /proc is not there.
    pub fn ids(&self) -> Result<Ids, Failure> {
        if self.single { Ok(Ids::single()) } else { Ids::here() }
    }

    /// What a layer of the store is.
    pub fn layer(&self) -> Form {
        Form::Layer { userxattr: self.userxattr }
    }
}

/// `1000+1_100000+65536`, as far as that is a name.
fn spell(ranges: &[IdRange]) -> String {
    let ranges: Vec<String> = ranges.iter().map(|range| format!("{}+{}", range.start, range.count)).collect();
    let name = ranges.join("_");
    if name.len() > 100 { Digest::of(name.as_bytes()).hex().to_string() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(ranges: &[(u32, u32)]) -> Vec<IdRange> {
        ranges.iter().map(|(start, count)| IdRange { start: *start, count: *count }).collect()
    }

    #[test]
    fn the_container_gets_the_maps_that_were_made_for_its_files() {
        let uids = ranges(&[(1000, 1), (100_000, 65536)]);
        let gids = ranges(&[(100, 1), (100_000, 65536)]);
        let maps = Maps::of(&uids, &gids, true);
        let wanted = SpecKind::Subids {
            uid: 1000,
            gid: 100,
            subuids: ranges(&[(100_000, 65536)]),
            subgids: ranges(&[(100_000, 65536)]),
        };
        assert_eq!((maps.kind, maps.single), (wanted, false));
        assert_eq!(maps.name, "u1000+1_100000+65536_g100+1_100000+65536");
        // Root is where it was, and so are its containers.
        let maps = Maps::of(&[IdRange::ALL], &[IdRange::ALL], false);
        assert_eq!((maps.kind, maps.single, maps.name.as_str()), (SpecKind::Root, false, "0+4294967295"));
        assert!(Maps::of(&uids, &ranges(&[(100, 1)]), true).single);
    }

    #[test]
    fn a_name_is_never_too_long_for_a_file() {
        let many: Vec<_> = (0..340).map(|at| IdRange { start: at * 1000, count: 1 }).collect();
        assert!(Maps::of(&many, &many[1..], true).name.len() < 200);
    }
}
