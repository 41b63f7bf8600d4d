//! Compiled filters, kept from one container to the next.
//!
//! Compiling the profile of an engine takes a third of a millisecond, nearly all of it the tables
//! of libseccomp, which every new process has to page in; reading a file takes a tenth of that.
//!
//! An entry holds the whole profile that it was compiled from, and is used for that profile only:
//! its name is a hash, and no container gets the filter of another because two hashes are equal.
//! The directory must be ours and nobody else's, so that nobody else can have written what is in
//! it; damage is found by a checksum. Whatever is wrong with the cache, the filter is compiled: the
//! cache is never a reason to fail, and nothing here is reported.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::program::{INSTRUCTION, MAX_INSTRUCTIONS};
use super::{Profile, Relation};

/// To be raised with every change of what is compiled from a profile, or of this format.
const GENERATION: u32 = 1;
const MAGIC: [u8; 8] = *b"bryo-bpf";
/// More than a host has profiles; what engines write for each container anew is thrown away.
const ENTRIES: usize = 64;
/// Longer than any profile that makes sense.
const MAX_LENGTH: u64 = 1 << 20;

/// The program that an earlier run compiled from `profile`, if there is one, else that of
/// `compile`, which is kept for later runs.
pub(super) fn get_or<E>(
    profile: &Profile,
    directory: &Path,
    compile: impl FnOnce() -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let Some(directory) = Directory::open(directory) else {
        return compile();
    };
    let key = key(profile);
    if let Some(program) = directory.read(&key) {
        return Ok(program);
    }
    let program = compile()?;
    // Best effort: a full disk costs the next container a third of a millisecond.
    let _unkept = directory.write(&key, &program);
    Ok(program)
}

/// Everything that the program depends on.
fn key(profile: &Profile) -> Vec<u8> {
    let mut key = Vec::with_capacity(8192);
    key.extend(GENERATION.to_ne_bytes());
    let mut text = |text: &str| {
        key.extend((text.len() as u32).to_ne_bytes());
        key.extend(text.as_bytes());
    };
    text(env!("CARGO_PKG_VERSION"));
    text(std::env::consts::ARCH); // a home directory may be shared
    // where it is linked dynamically, a new libseccomp knows more syscalls
    let library = libseccomp::ScmpVersion::current().map(|v| (v.major, v.minor, v.micro));
    text(&format!("{library:?}"));
    key.extend(profile.default_action.to_ne_bytes());
    key.extend((profile.abis.len() as u32).to_ne_bytes());
    for abi in &profile.abis {
        key.extend(abi.token.to_ne_bytes());
        key.extend(abi.base.to_ne_bytes());
    }
    for rule in &profile.rules {
        key.extend(rule.action.to_ne_bytes());
        key.extend((rule.names.len() as u32).to_ne_bytes());
        for name in &rule.names {
            key.extend((name.len() as u32).to_ne_bytes());
            key.extend(name.as_bytes());
        }
        key.extend((rule.clauses.len() as u32).to_ne_bytes());
        for clause in &rule.clauses {
            key.extend((clause.len() as u32).to_ne_bytes());
            for test in clause {
                let relation = match test.relation {
                    Relation::Equal => 0,
                    Relation::Greater => 1,
                    Relation::GreaterOrEqual => 2,
                };
                key.extend([test.argument, relation, u8::from(test.negated)]);
                key.extend(test.mask.to_ne_bytes());
                key.extend(test.value.to_ne_bytes());
            }
        }
    }
    key
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for part in parts {
        hasher.write(part);
    }
    hasher.finish()
}

/// A directory that only we can write.
struct Directory(PathBuf);

impl Directory {
    /// Makes it if it is not there; its parent must be.
    fn open(path: &Path) -> Option<Directory> {
        let us = nix::unistd::geteuid().as_raw();
        let ours = |path: &Path| {
            // a symlink is no directory
            let metadata = fs::symlink_metadata(path).ok()?;
            Some(metadata.is_dir() && metadata.uid() == us && metadata.mode() & 0o077 == 0)
        };
        let is_ours = ours(path).or_else(|| {
            fs::DirBuilder::new().mode(0o700).create(path).ok()?;
            ours(path)
        });
        // nobody can put another directory in its place after this, unless they may write its
        // parent, and then they could have written everything that we keep
        (is_ours == Some(true)).then(|| Directory(path.to_owned()))
    }

    fn entry(&self, key: &[u8]) -> PathBuf {
        self.0.join(format!("{:016x}", hash(&[key])))
    }

    // An entry: MAGIC, checksum of the rest, length of the key, key, program.
    fn read(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.entry(key))
            .ok()?;
        let length = file.metadata().ok()?.len();
        if length > MAX_LENGTH {
            return None;
        }
        let mut entry = Vec::with_capacity(length as usize + 1);
        file.read_to_end(&mut entry).ok()?;
        let rest = entry.strip_prefix(&MAGIC)?;
        let (checksum, rest) = rest.split_first_chunk()?;
        let (key_length, body) = rest.split_first_chunk()?;
        let (its_key, program) = body.split_at_checked(u32::from_ne_bytes(*key_length) as usize)?;
        let whole = !program.is_empty()
            && program.len() % INSTRUCTION == 0
            && program.len() <= INSTRUCTION * MAX_INSTRUCTIONS
            && u64::from_ne_bytes(*checksum) == hash(&[rest]);
        (whole && its_key == key).then(|| program.to_vec())
    }

    fn write(&self, key: &[u8], program: &[u8]) -> std::io::Result<()> {
        self.make_room()?;
        let mut rest = Vec::with_capacity(key.len() + program.len() + 4);
        rest.extend((key.len() as u32).to_ne_bytes());
        rest.extend(key);
        rest.extend(program);
        let entry = self.entry(key);
        let temporary = self.0.join(format!("new-{}", std::process::id()));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)?;
        let written = write_all(&mut file, &[&MAGIC, &hash(&[&rest]).to_ne_bytes(), &rest])
            .and_then(|()| fs::rename(&temporary, &entry));
        if written.is_err() {
            fs::remove_file(&temporary)?;
        }
        written
    }

    /// Throws away the oldest, and with them what a killed writer left behind.
    fn make_room(&self) -> std::io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            // gone: somebody else is making room
            if let Ok(metadata) = entry.metadata() {
                entries.push((metadata.mtime(), metadata.mtime_nsec(), entry.path()));
            }
        }
        entries.sort_unstable();
        let surplus = (entries.len() + 1).saturating_sub(ENTRIES);
        for (_, _, path) in &entries[..surplus] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn write_all(file: &mut File, parts: &[&[u8]]) -> std::io::Result<()> {
    parts.iter().try_for_each(|part| file.write_all(part))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::{compile, compile_cached, normalise};
    use super::*;
    use crate::testing::Scratch;

    /// Where a cache is to be.
    struct Place(Scratch);

    impl Place {
        fn new() -> Place {
            Place(Scratch::new())
        }

        fn cache(&self) -> PathBuf {
            self.0.join("cache")
        }

        fn entries(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.cache()).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        }
    }

    fn profile(json: &Value) -> Profile {
        normalise(&serde_json::from_value(json.clone()).unwrap()).unwrap()
    }

    fn deny(name: &str) -> Profile {
        profile(&json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": [name], "action": "SCMP_ACT_ERRNO"}],
        }))
    }

    /// Goes through the cache; whether it had to compile.
    fn misses(profile: &Profile, directory: &Path) -> bool {
        let mut compiled = false;
        let fresh = compile(profile).unwrap().instructions;
        let got = get_or(profile, directory, || {
            compiled = true;
            Ok::<_, ()>(fresh.clone())
        });
        assert_eq!(got.unwrap(), fresh);
        compiled
    }

    #[test]
    fn the_second_time_the_filter_is_there_and_the_same() {
        let place = Place::new();
        assert!(misses(&deny("mkdir"), &place.cache()));
        assert!(!misses(&deny("mkdir"), &place.cache()));
        assert!(misses(&deny("rmdir"), &place.cache()));
        assert_eq!(place.entries().len(), 2);
        assert_eq!(fs::metadata(place.cache()).unwrap().mode() & 0o777, 0o700);

        let filter = compile_cached(&deny("mkdir"), Some(&place.cache())).unwrap();
        assert_eq!(filter, compile(&deny("mkdir")).unwrap());
        assert_eq!(filter, compile_cached(&deny("mkdir"), None).unwrap());
    }

    #[test]
    fn flags_and_listener_are_those_of_the_profile_and_not_of_the_entry() {
        let place = Place::new();
        let mut json = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": []});
        assert!(misses(&profile(&json), &place.cache()));
        json["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG"]);
        assert!(!misses(&profile(&json), &place.cache()));
        let filter = compile_cached(&profile(&json), Some(&place.cache())).unwrap();
        assert_eq!(filter.flags, 2);
    }

    #[test]
    fn every_part_of_a_profile_is_in_its_key() {
        let base = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{
                "names": ["prctl"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_GE"}],
            }],
        });
        let changes = [
            ("/defaultAction", json!("SCMP_ACT_LOG")),
            ("/syscalls/0/names/0", json!("ioctl")),
            ("/syscalls/0/names", json!(["prctl", "ioctl"])),
            ("/syscalls/0/action", json!("SCMP_ACT_TRAP")),
            ("/syscalls/0/args", json!([])),
            ("/syscalls/0/args/0/index", json!(1)),
            ("/syscalls/0/args/0/value", json!(2)),
            ("/syscalls/0/args/0/op", json!("SCMP_CMP_GT")),
            ("/syscalls/0/args/0/op", json!("SCMP_CMP_LT")),
            ("/syscalls/0/args/0/op", json!("SCMP_CMP_MASKED_EQ")),
            ("/syscalls", json!([])),
        ];
        let mut keys = vec![key(&profile(&base))];
        for (pointer, value) in changes {
            let mut changed = base.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            keys.push(key(&profile(&changed)));
        }
        if cfg!(target_endian = "little") {
            let mut changed = base;
            changed["architectures"] = json!(["SCMP_ARCH_X86"]);
            keys.push(key(&profile(&changed)));
        }
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn an_entry_that_is_damaged_anywhere_is_compiled_and_written_anew() {
        let place = Place::new();
        let profile = deny("mkdir");
        assert!(misses(&profile, &place.cache()));
        let entry = place.entries().remove(0);
        let whole = fs::read(&entry).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x20;
            fs::write(&entry, &damaged).unwrap();
            assert!(misses(&profile, &place.cache()), "byte {at}");
            assert_eq!(fs::read(&entry).unwrap(), whole);
            fs::write(&entry, &whole[..at]).unwrap();
            assert!(misses(&profile, &place.cache()), "cut at {at}");
        }
        fs::write(&entry, [&whole[..], &[0; INSTRUCTION]].concat()).unwrap();
        assert!(misses(&profile, &place.cache()));
        assert!(!misses(&profile, &place.cache()));
    }

    #[test]
    fn an_entry_of_another_profile_under_the_same_name_is_not_used() {
        let place = Place::new();
        assert!(misses(&deny("mkdir"), &place.cache()));
        let mkdir = place.entries().remove(0);
        let directory = Directory::open(&place.cache()).unwrap();
        fs::rename(mkdir, directory.entry(&key(&deny("rmdir")))).unwrap();
        assert!(misses(&deny("rmdir"), &place.cache()));
        assert!(!misses(&deny("rmdir"), &place.cache()));
    }

    #[test]
    fn a_directory_that_others_may_use_is_not() {
        let place = Place::new();
        fs::create_dir(place.cache()).unwrap();
        for mode in [0o770, 0o701, 0o755, 0o1777] {
            fs::set_permissions(place.cache(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(misses(&deny("mkdir"), &place.cache()));
            assert!(misses(&deny("mkdir"), &place.cache()), "{mode:o}");
        }
        assert!(place.entries().is_empty());

        fs::set_permissions(place.cache(), fs::Permissions::from_mode(0o700)).unwrap();
        let link = place.0.join("link");
        symlink(place.cache(), &link).unwrap();
        assert!(misses(&deny("mkdir"), &link));
        assert!(place.entries().is_empty());

        assert!(misses(&deny("mkdir"), &place.0.join("no/such/place")));
        fs::write(place.0.join("file"), "").unwrap();
        assert!(misses(&deny("mkdir"), &place.0.join("file")));
    }

    #[test]
    fn an_entry_that_is_a_symlink_or_a_fifo_is_not_read() {
        let place = Place::new();
        assert!(misses(&deny("mkdir"), &place.cache()));
        let entry = place.entries().remove(0);
        let elsewhere = place.0.join("elsewhere");
        fs::rename(&entry, &elsewhere).unwrap();
        symlink(&elsewhere, &entry).unwrap();
        assert!(misses(&deny("mkdir"), &place.cache()));
        assert!(fs::symlink_metadata(&entry).unwrap().is_file());

        fs::remove_file(&entry).unwrap();
        nix::unistd::mkfifo(&entry, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(misses(&deny("mkdir"), &place.cache()));
        assert!(!misses(&deny("mkdir"), &place.cache()));
    }

    #[test]
    fn the_cache_does_not_grow_for_ever() {
        let place = Place::new();
        for errno in 1..=ENTRIES as u32 + 10 {
            let one = profile(&json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}],
            }));
            assert!(misses(&one, &place.cache()));
            assert!(!misses(&one, &place.cache()), "the newest is kept");
        }
        assert_eq!(place.entries().len(), ENTRIES);
    }

    /// The reminder: if this fails, programs have changed. Raise GENERATION, then the number here.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn another_program_for_a_profile_is_another_generation() {
        let program = compile(&profile(&json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [
                {
                    "names": [
                        "read", "write", "open", "close", "stat", "mmap", "munmap", "execve",
                        "exit_group", "openat", "bind", "semop",
                    ],
                    "action": "SCMP_ACT_ALLOW",
                },
                {
                    "names": ["socket", "clone"],
                    "action": "SCMP_ACT_LOG",
                    "args": [
                        {"index": 0, "value": 38, "op": "SCMP_CMP_NE"},
                        {"index": 1, "value": 0x1_0000_0000u64, "op": "SCMP_CMP_LT"},
                        {"index": 2, "value": 7, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"},
                    ],
                },
            ],
        })))
        .unwrap()
        .instructions;
        // FNV-1a, which does not change with the compiler as std's hasher may
        let hash = program.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        assert_eq!((GENERATION, hash), (1, 0xd2e1_7ecc_38e1_b0d1));
    }
}
