//! The option words of a mount: config.md, "Mounts", and the two that runc adds (tmpcopyup, rbind's kin).
//!
//! One table is the truth: what it lists is parsed here and printed by `features`.

use super::step::{Links, Properties};
use crate::sys::mount::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW,
    ATTR_RDONLY, ATTR_STRICTATIME, Attr,
};
use nix::libc;

/// What one word means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// Nothing: the default, or a hint that changes nothing here.
    Nothing,
    /// Show an existing tree instead of a new file system.
    Bind {
        recursive: bool,
    },
    /// Bits of the mount to set and to clear; alone or for everything beneath.
    Attr {
        set: u64,
        clear: u64,
        recursive: bool,
    },
    /// A propagation type.
    Propagation {
        flag: u64,
        recursive: bool,
    },
    /// A flag of the file system that the newer calls know by this word.
    Superblock(&'static str),
    /// A flag of the file system that only mount(2) can say.
    Legacy {
        set: u64,
    },
    Remount,
    CopyUp,
    IdMap {
        recursive: bool,
    },
    CopyLink,
    CoverLink,
    ShowLink,
}

const fn attr(set: u64, clear: u64) -> Word {
    Word::Attr { set, clear, recursive: false }
}

const fn all(set: u64, clear: u64) -> Word {
    Word::Attr { set, clear, recursive: true }
}

const fn propagation(flag: libc::c_ulong, recursive: bool) -> Word {
    Word::Propagation { flag, recursive }
}

const WORDS: &[(&str, Word)] = &[
    ("async", Word::Superblock("async")),
    ("atime", attr(0, ATTR_ATIME)),
    ("bind", Word::Bind { recursive: false }),
    ("copy-symlink", Word::CopyLink),
    ("defaults", Word::Nothing),
    ("dest-nofollow", Word::CoverLink),
    ("dev", attr(0, ATTR_NODEV)),
    ("diratime", attr(0, ATTR_NODIRATIME)),
    ("dirsync", Word::Superblock("dirsync")),
    ("exec", attr(0, ATTR_NOEXEC)),
    ("idmap", Word::IdMap { recursive: false }),
    ("iversion", Word::Legacy { set: libc::MS_I_VERSION }),
    ("lazytime", Word::Superblock("lazytime")),
    // The newer calls report to whoever mounts and never to the kernel log, which is all that these two
    // words are about.
    ("loud", Word::Nothing),
    ("mand", Word::Superblock("mand")),
    ("noatime", attr(ATTR_NOATIME, ATTR_ATIME)),
    ("nodev", attr(ATTR_NODEV, 0)),
    ("nodiratime", attr(ATTR_NODIRATIME, 0)),
    ("noexec", attr(ATTR_NOEXEC, 0)),
    // Without the flag a new file system does not count versions.
    ("noiversion", Word::Nothing),
    ("nolazytime", Word::Superblock("nolazytime")),
    ("nomand", Word::Superblock("nomand")),
    ("norelatime", attr(0, ATTR_ATIME)),
    ("nostrictatime", attr(0, ATTR_ATIME)),
    ("nosuid", attr(ATTR_NOSUID, 0)),
    ("nosymfollow", attr(ATTR_NOSYMFOLLOW, 0)),
    ("private", propagation(libc::MS_PRIVATE, false)),
    ("ratime", all(0, ATTR_ATIME)),
    ("rbind", Word::Bind { recursive: true }),
    ("rdev", all(0, ATTR_NODEV)),
    ("rdiratime", all(0, ATTR_NODIRATIME)),
    ("relatime", attr(0, ATTR_ATIME)),
    ("remount", Word::Remount),
    ("rexec", all(0, ATTR_NOEXEC)),
    ("ridmap", Word::IdMap { recursive: true }),
    ("rnoatime", all(ATTR_NOATIME, ATTR_ATIME)),
    ("rnodev", all(ATTR_NODEV, 0)),
    ("rnodiratime", all(ATTR_NODIRATIME, 0)),
    ("rnoexec", all(ATTR_NOEXEC, 0)),
    ("rnorelatime", all(0, ATTR_ATIME)),
    ("rnostrictatime", all(0, ATTR_ATIME)),
    ("rnosuid", all(ATTR_NOSUID, 0)),
    ("rnosymfollow", all(ATTR_NOSYMFOLLOW, 0)),
    ("ro", attr(ATTR_RDONLY, 0)),
    ("rprivate", propagation(libc::MS_PRIVATE, true)),
    ("rrelatime", all(0, ATTR_ATIME)),
    ("rro", all(ATTR_RDONLY, 0)),
    ("rrw", all(0, ATTR_RDONLY)),
    ("rshared", propagation(libc::MS_SHARED, true)),
    ("rslave", propagation(libc::MS_SLAVE, true)),
    ("rstrictatime", all(ATTR_STRICTATIME, ATTR_ATIME)),
    ("rsuid", all(0, ATTR_NOSUID)),
    ("rsymfollow", all(0, ATTR_NOSYMFOLLOW)),
    ("runbindable", propagation(libc::MS_UNBINDABLE, true)),
    ("rw", attr(0, ATTR_RDONLY)),
    ("shared", propagation(libc::MS_SHARED, false)),
    ("silent", Word::Nothing),
    ("slave", propagation(libc::MS_SLAVE, false)),
    ("src-nofollow", Word::ShowLink),
    ("strictatime", attr(ATTR_STRICTATIME, ATTR_ATIME)),
    ("suid", attr(0, ATTR_NOSUID)),
    ("symfollow", attr(0, ATTR_NOSYMFOLLOW)),
    ("sync", Word::Superblock("sync")),
    ("tmpcopyup", Word::CopyUp),
    ("unbindable", propagation(libc::MS_UNBINDABLE, false)),
];

/// The words that work, for `features`.
pub fn known() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(name, _)| *name)
}

/// The options of one mount, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether an existing tree is shown, and whether with what is mounted beneath it.
    pub bind: Option<bool>,
    pub properties: Properties,
    pub copy_up: bool,
    pub idmap: Option<Idmap>,
    pub links: Links,
    pub remount: bool,
    /// `MS_*` flags that only mount(2) knows.
    pub legacy: u64,
    /// What is for the file system itself, as `(key, value)`.
    pub data: Vec<(String, Option<String>)>,
}

/// That the files of the mount are to have other ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idmap {
    /// For what is mounted beneath as well: `ridmap`.
    pub recursive: bool,
    /// crun's way to say which: what follows `idmap=`.
    pub inline: Option<String>,
}

impl Attr {
    fn add(&mut self, set: u64, clear: u64) {
        // The last word wins, as in mount(8).
        self.set = (self.set & !clear) | set;
        // The access time modes are one field: to set it is to clear it first (mount_setattr(2)).
        let field = if (set | clear) & ATTR_ATIME != 0 { ATTR_ATIME } else { 0 };
        self.clear = (self.clear & !set) | clear | field;
    }
}

/// Reads the option words of a mount; an empty one is nothing (Podman writes such).
///
/// # Errors
/// More than four propagation words.
pub fn parse(words: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    for word in words.iter().filter(|w| !w.is_empty()) {
        match lookup(word) {
            None => options.data.push(match word.split_once('=') {
                Some((key, value)) => (key.into(), Some(value.into())),
                None => (word.clone(), None),
            }),
            Some(Word::Nothing) => {}
            Some(Word::Bind { recursive }) => options.bind = Some(recursive || options.bind == Some(true)),
            Some(Word::Attr { set, clear, recursive: false }) => options.properties.own.add(set, clear),
            Some(Word::Attr { set, clear, recursive: true }) => options.properties.all.add(set, clear),
            Some(Word::Propagation { flag, recursive }) => {
                let free = options.properties.propagation.iter_mut().find(|p| p.is_none());
                *free.ok_or("too many propagation options")? = Some((flag, recursive));
            }
            Some(Word::Superblock(name)) => options.data.push((name.into(), None)),
            Some(Word::Legacy { set }) => options.legacy |= set,
            Some(Word::Remount) => options.remount = true,
            Some(Word::CopyUp) => options.copy_up = true,
            Some(Word::IdMap { recursive }) => {
                let inline = word.split_once('=').map(|(_, inline)| inline.to_string());
                options.idmap = Some(Idmap { recursive, inline: inline.filter(|text| !text.is_empty()) });
            }
            Some(Word::CopyLink) => options.links.copied = true,
            Some(Word::CoverLink) => options.links.covered = true,
            Some(Word::ShowLink) => options.links.shown = true,
        }
    }
    Ok(options)
}

fn lookup(word: &str) -> Option<Word> {
    let word = match word.split_once('=') {
        Some((name @ ("idmap" | "ridmap"), _)) => name,
        _ => word,
    };
    WORDS.binary_search_by(|(name, _)| (*name).cmp(word)).ok().map(|i| WORDS[i].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_table_is_sorted_so_that_the_search_finds_every_word() {
        for (name, word) in WORDS {
            assert_eq!(lookup(name), Some(*word), "{name}");
        }
    }

    #[test]
    fn every_word_of_the_specification_is_known() {
        // config.md, "Linux mount options", runtime-spec 1.3.
        let words = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime \
            nodev nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow \
            private ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec \
            rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave \
            rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync \
            tmpcopyup unbindable idmap ridmap";
        for word in words.split_whitespace() {
            assert!(lookup(word).is_some(), "{word}");
        }
    }

    #[test]
    fn the_last_word_wins() {
        let own = options(&["ro", "nosuid", "rw"]).properties.own;
        assert_eq!((own.set, own.clear), (ATTR_NOSUID, ATTR_RDONLY));
    }

    #[test]
    fn access_time_modes_replace_each_other() {
        let own = options(&["noatime", "strictatime"]).properties.own;
        assert_eq!((own.set, own.clear), (ATTR_STRICTATIME, ATTR_ATIME));
        let own = options(&["noatime", "relatime"]).properties.own;
        assert_eq!((own.set, own.clear), (0, ATTR_ATIME));
    }

    #[test]
    fn what_is_no_word_is_data_for_the_file_system() {
        let options = options(&["", "mode=755", "nosuid", "newinstance", "sync"]);
        let data: Vec<_> = options.data.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
        assert_eq!(data, [("mode", Some("755")), ("newinstance", None), ("sync", None)]);
    }

    #[test]
    fn rbind_is_stronger_than_bind() {
        assert_eq!(options(&["rbind", "bind"]).bind, Some(true));
        assert_eq!(options(&["bind"]).bind, Some(false));
        assert_eq!(options(&["ro"]).bind, None);
    }

    #[test]
    fn idmap_may_say_which_ids() {
        let idmap = |word| options(&[word]).idmap.unwrap();
        assert_eq!(idmap("idmap"), Idmap { recursive: false, inline: None });
        assert_eq!(idmap("ridmap="), Idmap { recursive: true, inline: None });
        let inline = Some("uids=0-1-2;gids=0-1-2".to_string());
        assert_eq!(idmap("ridmap=uids=0-1-2;gids=0-1-2"), Idmap { recursive: true, inline });
        assert_eq!(options(&["bind"]).idmap, None);
        assert_eq!(options(&["idmapped=1"]).data.len(), 1);
    }

    #[test]
    fn propagation_is_kept_in_order() {
        let words = options(&["rslave", "shared"]).properties.propagation;
        assert_eq!(words, [Some((libc::MS_SLAVE, true)), Some((libc::MS_SHARED, false)), None, None]);
    }
}
