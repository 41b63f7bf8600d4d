//! Which owners files can have here.

use super::archive::Entry;
use crate::report::{Act, Failure};
use nix::unistd::{Gid, Uid};

/// The ids of this user namespace.
#[derive(Debug, Clone)]
pub struct Ids(Known);

#[derive(Debug, Clone)]
enum Known {
    Single,
    Many { uids: Vec<Range>, gids: Vec<Range> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u64,
    count: u64,
}

impl Ids {
    /// Only one, which everything is given to.
    pub fn single() -> Ids {
        Ids(Known::Single)
    }

    /// Those that are mapped in the namespace that we are in.
    ///
    /// # Errors
    /// Where /proc is not there.
    pub fn here() -> Result<Ids, Failure> {
        let read = |name: &str| {
            let path = format!("/proc/self/{name}");
            std::fs::read_to_string(&path).map(|map| ranges(&map)).act(|| format!("cannot read {path}"))
        };
        Ok(Ids(Known::Many { uids: read("uid_map")?, gids: read("gid_map")? }))
    }

    /// Whom to give an entry to; none where all belongs to the only one that there is.
    ///
    /// # Errors
    /// An id that does not exist here.
    pub fn owner(&self, entry: &Entry) -> Result<Option<(Uid, Gid)>, Failure> {
        let Known::Many { uids, gids } = &self.0 else { return Ok(None) };
        let uid = mapped(uids, "uid", entry.uid, &entry.name)?;
        let gid = mapped(gids, "gid", entry.gid, &entry.name)?;
        Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid))))
    }
}

fn mapped(ranges: &[Range], kind: &str, id: u64, name: &[u8]) -> Result<u32, Failure> {
    let known = ranges.iter().any(|range| id.checked_sub(range.first).is_some_and(|at| at < range.count));
    // The last number stands for none, and is in no map.
    if let (true, Ok(id)) = (known, u32::try_from(id)) {
        return Ok(id);
    }
    let list: Vec<String> = ranges.iter().map(|range| format!("{}+{}", range.first, range.count)).collect();
    let failure = Failure::new(
        super::cannot_unpack(name),
        format!("it belongs to {kind} {id}, and the {kind}s here are {}: invalid argument", list.join(", ")),
    );
    let fix = format!("have more: sudo usermod --add-sub{kind}s FIRST-LAST USER");
    Err(failure.code("ID-UNMAPPED").fix(fix))
}

fn ranges(map: &str) -> Vec<Range> {
    let numbers = |line: &str| line.split_whitespace().map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>();
    let range = |line: &str| match numbers(line)?[..] {
        [first, _, count] => Some(Range { first, count }),
        _ => None,
    };
    map.lines().filter_map(range).collect()
}
