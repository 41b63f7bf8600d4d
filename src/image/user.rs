//! The user that an image wants to run as, looked up in the image's own files.
//!
//! `name`, `uid`, `name:group`, `uid:gid` and what lies between. As engines have it: a name goes before a number
//! that looks the same; a number needs no entry, and then its group is 0; where no group is given, it is that of the
//! entry, and the groups that list the user are additional ones. Ids are numbers as the kernel has them, and
//! nothing else: no sign, no blanks (CVE-2016-3697).

use crate::spec::User;

/// Where a user is at home that no entry tells of.
const NO_HOME: &str = "/";

/// A user of the image.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub user: User,
    pub home: String,
}

/// Looks up a user; an empty text is root. `passwd` and `group` are the image's files, empty where it has none.
///
/// # Errors
/// A name that is not there, or a number that is none.
pub fn find(text: &str, passwd: &str, group: &str) -> Result<Found, String> {
    let (name, group_name) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    // A group of its own needs no user: `:adm` is root's.
    let name = if name.is_empty() { "0" } else { name };
    let entry = entry(passwd, name);
    let uid = match (&entry, id(name)) {
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) => {
            return Err(format!("the image has no user {name:?} in its /etc/passwd: invalid argument"));
        }
    };
    let home = entry.as_ref().map(|entry| entry.home).filter(|home| home.starts_with('/')).unwrap_or(NO_HOME);
    let (gid, additional_gids) = match group_name.filter(|name| !name.is_empty()) {
        Some(name) => (gid(group, name)?, Vec::new()),
        None => {
            let own = entry.as_ref().map_or(0, |entry| entry.gid);
            let listed = entry.as_ref().map(|entry| groups_of(group, entry.name)).unwrap_or_default();
            (own, listed)
        }
    };
    Ok(Found { user: User { uid, gid, additional_gids }, home: home.to_string() })
}

/// An id of the kernel's; the last number is its "no change".
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|id| *id != u32::MAX)
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// The entry of a name, else that of a number.
fn entry<'a>(passwd: &'a str, wanted: &str) -> Option<Entry<'a>> {
    let entries = || {
        passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
            Some(Entry { name, uid: id(uid)?, gid: id(gid)?, home })
        })
    };
    let named = entries().find(|entry| entry.name == wanted);
    named.or_else(|| entries().find(|entry| id(wanted) == Some(entry.uid)))
}

/// The groups of a file as name, id and members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, id(fields.nth(1)?)?);
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn gid(group: &str, wanted: &str) -> Result<u32, String> {
    let named = groups(group).find(|(name, ..)| *name == wanted).map(|(_, gid, _)| gid);
    named
        .or_else(|| id(wanted))
        .ok_or_else(|| format!("the image has no group {wanted:?} in its /etc/group: invalid argument"))
}

fn groups_of(group: &str, user: &str) -> Vec<u32> {
    let listed = groups(group).filter(|(.., members)| members.split(',').any(|member| member.trim() == user));
    let mut gids: Vec<u32> = listed.map(|(_, gid, _)| gid).collect();
    gids.sort_unstable();
    gids.dedup();
    gids
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nbad:x:-1:1::/:\nmoss:x:1000:100:Moss:/home/moss:/bin/sh\n\
                          7:x:70:71::/seven:\nlost:x:5:5::relative:\n";
    const GROUP: &str =
        "root:x:0:root\nadm:x:4:root,moss\nusers:x:100:\nwheel:x:10:root, moss\nbroken:x\n20:x:21:\n";

    fn found(text: &str) -> (u32, u32, Vec<u32>, String) {
        let Found { user, home } = find(text, PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.additional_gids, home)
    }

    #[test]
    fn every_form_of_a_user_is_looked_up() {
        let row = |uid, gid, groups: &[u32], home: &str| (uid, gid, groups.to_vec(), home.to_string());
        for (text, wanted) in [
            ("", row(0, 0, &[0, 4, 10], "/root")),
            ("root", row(0, 0, &[0, 4, 10], "/root")),
            ("moss", row(1000, 100, &[4, 10], "/home/moss")),
            ("1000", row(1000, 100, &[4, 10], "/home/moss")),
            ("moss:adm", row(1000, 4, &[], "/home/moss")),
            ("moss:4", row(1000, 4, &[], "/home/moss")),
            ("moss:", row(1000, 100, &[4, 10], "/home/moss")),
            ("1234", row(1234, 0, &[], "/")),
            ("1234:5678", row(1234, 5678, &[], "/")),
            ("1234:adm", row(1234, 4, &[], "/")),
            (":adm", row(0, 4, &[], "/root")),
            // A name goes before a number.
            ("7", row(70, 71, &[], "/seven")),
            ("moss:20", row(1000, 21, &[], "/home/moss")),
            ("lost", row(5, 5, &[], "/")),
            ("4294967294", row(u32::MAX - 1, 0, &[], "/")),
        ] {
            assert_eq!(found(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn an_unknown_name_and_an_odd_number_are_refused() {
        for bad in [
            "nobody",
            "moss:nobody",
            "4294967295",
            "4294967296",
            "-1",
            "+1",
            "1x",
            " 1",
            "moss:-1",
            "0x1",
            "bad",
            "a:b:c",
        ] {
            assert!(find(bad, PASSWD, GROUP).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_image_without_such_files_has_numbers() {
        let found = find("", "", "").unwrap();
        assert_eq!((found.user, found.home.as_str()), (User::default(), "/"));
        assert!(find("root", "", "").is_err());
    }
}
