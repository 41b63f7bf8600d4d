//! Whose ids we may use: our own namespace's map, /etc/subuid and /etc/subgid, and the setuid helpers.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A run of ids, `start` to `start + count - 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    pub start: u32,
    pub count: u32,
}

impl IdRange {
    /// Every id that there is.
    pub const ALL: IdRange = IdRange { start: 0, count: u32::MAX };

    fn end(self) -> u64 {
        u64::from(self.start) + u64::from(self.count)
    }
}

/// Whether `ranges` together contain all of `wanted`.
pub fn covers(ranges: &[IdRange], wanted: IdRange) -> bool {
    let mut at = u64::from(wanted.start);
    while at < wanted.end() {
        let holding = ranges.iter().filter(|r| u64::from(r.start) <= at && at < r.end());
        match holding.map(|r| r.end()).max() {
            Some(end) => at = end,
            None => return false,
        }
    }
    true
}

/// What is known of newuidmap or newgidmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Helper {
    /// Not installed.
    Missing,
    /// There, but neither setuid root nor with file capabilities.
    Powerless(PathBuf),
    /// There, but on a mount with nosuid.
    NoSuid(PathBuf),
    /// Ready.
    Usable(PathBuf),
}

/// Everything about subordinate ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subids {
    /// The name that the ranges are looked up by; the number where there is none.
    pub user: String,
    pub uids: Vec<IdRange>,
    pub gids: Vec<IdRange>,
    pub newuidmap: Helper,
    pub newgidmap: Helper,
    /// no_new_privs is set on us: setuid programs do not work.
    pub no_new_privs: bool,
}

/// Reads all of it for the user of this uid.
pub fn subids(uid: u32) -> Subids {
    let user = user_name(uid).unwrap_or_else(|| uid.to_string());
    Subids {
        uids: ranges("/etc/subuid", &user, uid, &[]),
        gids: ranges("/etc/subgid", &user, uid, &["-g"]),
        user,
        newuidmap: helper("newuidmap"),
        newgidmap: helper("newgidmap"),
        no_new_privs: no_new_privs(),
    }
}

/// The ranges of a user from a subid file, or from `getsubids` where the site keeps them elsewhere
/// (nsswitch.conf, `subid:`): a static binary cannot ask libsubid itself.
fn ranges(path: &str, user: &str, uid: u32, kind: &[&str]) -> Vec<IdRange> {
    let found = std::fs::read_to_string(path).map(|text| parse_subid(&text, user, uid)).unwrap_or_default();
    if !found.is_empty() {
        return found;
    }
    let output = std::process::Command::new("getsubids").args(kind).arg(user).output();
    output.map(|o| parse_getsubids(&String::from_utf8_lossy(&o.stdout))).unwrap_or_default()
}

/// What a uid of our user namespace is outside of it; itself where the map does not tell.
pub fn parent_uid(uid: u32) -> u32 {
    let text = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    parse_outside(&text, uid).unwrap_or(uid)
}

/// Lines of `INSIDE OUTSIDE COUNT` (user_namespaces(7)).
fn parse_outside(text: &str, uid: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u32>().ok());
        let (inside, outside, count) = (fields.next()??, fields.next()??, fields.next()??);
        let distance = uid.checked_sub(inside).filter(|distance| *distance < count)?;
        outside.checked_add(distance)
    })
}

/// Lines of `NAME-OR-UID:START:COUNT` (subuid(5)); what is malformed is passed over, as the helpers do.
fn parse_subid(text: &str, user: &str, uid: u32) -> Vec<IdRange> {
    let mut ranges = Vec::new();
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let (Some(owner), Some(start), Some(count), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if owner != user && owner.parse() != Ok(uid) {
            continue;
        }
        if let (Ok(start), Ok(count)) = (start.parse(), count.parse()) {
            if count > 0 {
                ranges.push(IdRange { start, count });
            }
        }
    }
    ranges
}

/// Lines of `INDEX: NAME START COUNT` (getsubids(1)).
fn parse_getsubids(text: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace().skip(2);
        let start = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        Some(IdRange { start, count })
    };
    text.lines().filter_map(range).collect()
}

/// The name of a uid in /etc/passwd, without the name services that a static binary cannot load.
pub fn user_name(uid: u32) -> Option<String> {
    parse_passwd(&std::fs::read_to_string("/etc/passwd").ok()?, uid)
}

fn parse_passwd(text: &str, uid: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_string())
    })
}

/// The uids and gids that our own user namespace has.
pub fn own() -> (Vec<IdRange>, Vec<IdRange>) {
    let read = |path| std::fs::read_to_string(path).map(|text| parse_map(&text)).unwrap_or_default();
    (read("/proc/self/uid_map"), read("/proc/self/gid_map"))
}

/// What the ids of our user namespace are outside of it, from 0 inside on: a file of lines `INSIDE OUTSIDE COUNT`.
///
/// # Errors
/// Where /proc is not there.
pub fn outside(map: &str) -> std::io::Result<Vec<IdRange>> {
    std::fs::read_to_string(map).map(|text| parse_ranges_outside(&text))
}

fn parse_ranges_outside(text: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let start = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        Some(IdRange { start, count })
    };
    text.lines().filter_map(range).collect()
}

/// Whether /proc/self/setgroups says deny (user_namespaces(7)).
pub fn setgroups_denied() -> bool {
    std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny"))
}

/// The inside ids of lines `INSIDE OUTSIDE COUNT` (user_namespaces(7)).
fn parse_map(text: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace();
        let start = fields.next()?.parse().ok()?;
        let count = fields.nth(1)?.parse().ok()?;
        Some(IdRange { start, count })
    };
    text.lines().filter_map(range).collect()
}

/// Whom a file of an owner without an id here is shown to belong to (user_namespaces(7)).
const OVERFLOW_UID: u32 = 65534;

fn helper(name: &str) -> Helper {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let Some(path) = find_program(name) else { return Helper::Missing };
    let Ok(meta) = std::fs::metadata(&path) else { return Helper::Missing };
    let setuid = meta.permissions().mode() & 0o4000 != 0;
    let capable = has_file_capabilities(&path);
    if !setuid && !capable {
        return Helper::Powerless(path);
    }
    let nosuid = std::fs::File::open(path.parent().unwrap_or(Path::new("/"))).is_ok_and(|dir| {
        use std::os::fd::AsFd;
        crate::sys::mount::flags(dir.as_fd()).is_ok_and(|flags| flags & libc::ST_NOSUID != 0)
    });
    if nosuid {
        return Helper::NoSuid(path);
    }
    // A copy keeps the bit and changes its owner. One that our user namespace does not have may be root.
    if !capable && ![0, OVERFLOW_UID].contains(&meta.uid()) {
        return Helper::Powerless(path);
    }
    Helper::Usable(path)
}

fn has_file_capabilities(path: &Path) -> bool {
    crate::sys::fds::has_xattr(path, c"security.capability")
}

fn no_new_privs() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|l| l.split_whitespace().eq(["NoNewPrivs:", "1"]))
}

/// A program of the *host*, from PATH; without a PATH (Podman calls us with hardly any environment) from
/// where distributions put such programs.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let dirs: Vec<PathBuf> = match std::env::var_os("PATH") {
        Some(path) => std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect(),
        None => ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from).into(),
    };
    let runs =
        |path: &PathBuf| path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok();
    dirs.into_iter().map(|dir| dir.join(name)).find(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(start: u32, count: u32) -> IdRange {
        IdRange { start, count }
    }

    #[test]
    fn subid_lines_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\n1000:300000:10\nbob:1:1\nalice:x:1\nalice:5\nalice:9:0\n";
        assert_eq!(parse_subid(text, "alice", 1000), [range(100_000, 65536), range(300_000, 10)]);
        assert_eq!(parse_subid(text, "carol", 7), []);
    }

    #[test]
    fn getsubids_lines_are_read() {
        assert_eq!(
            parse_getsubids("0: alice 100000 65536\n1: alice 1 2\n"),
            [range(100_000, 65536), range(1, 2)]
        );
        assert_eq!(parse_getsubids("Error fetching ranges\n"), []);
    }

    #[test]
    fn adjacent_ranges_cover_together() {
        let ranges = [range(100, 10), range(110, 10), range(200, 1)];
        assert!(covers(&ranges, range(105, 15)));
        assert!(covers(&ranges, range(200, 1)));
        assert!(!covers(&ranges, range(105, 16)));
        assert!(!covers(&[], range(0, 1)));
        assert!(covers(&[IdRange::ALL], range(0, 65536)));
    }

    #[test]
    fn own_maps_are_read_from_inside() {
        assert_eq!(
            parse_map("         0       1000          1\n         1     100000      65536\n"),
            [range(0, 1), range(1, 65536)]
        );
    }

    #[test]
    fn a_name_is_found_by_uid() {
        let passwd = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(parse_passwd(passwd, 1000).as_deref(), Some("alice"));
        assert_eq!(parse_passwd(passwd, 1001), None);
    }
}
