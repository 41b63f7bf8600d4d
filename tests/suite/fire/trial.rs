//! A call of the runtime that is tried, and the verdict on what it did.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use nix::errno::Errno;

use super::tracer::{Fault, Site, Traced, trace};
use crate::lab::{Call, Lab, eventually, note};

/// The errors, with what the runtime calls them.
const ERRORS: [(Errno, &str); 4] = [
    (Errno::EPERM, "operation not permitted"),
    (Errno::EINVAL, "invalid argument"),
    (Errno::ENOSYS, "function not implemented"),
    (Errno::ENOMEM, "cannot allocate memory"),
];

/// What is not made to fail, and why.
const SPARED: [(&[&str], &str); 7] = [
    (
        &["mmap", "munmap", "mremap", "mprotect", "brk", "madvise"],
        "who gets no memory ends by Rust's own hand",
    ),
    (&["close"], "it closes, whatever it returns"),
    (&["exit", "exit_group", "umask", "getpid", "gettid"], "they have no error"),
    (&["getuid", "geteuid", "getgid", "getegid", "getppid"], "they have no error"),
    (&["rt_sigaction", "rt_sigprocmask", "sigaltstack"], "they have none for arguments that are right"),
    (
        &["clock_gettime"],
        "the standard library takes it for one that never fails; on most machines it is no system call at all",
    ),
    (&["getrandom"], "the seeds of the standard library, which falls back where there is no such call"),
];

fn spared(name: &str) -> bool {
    SPARED.iter().any(|(names, _)| names.contains(&name))
}

/// What may fail without a word, since the result is the same, which is looked at: in the runtime itself (0) or in
/// those that it clones (1).
const UNMOVED: [(usize, &str, &str); 62] = [
    (0, "clone3", "clone(2), where there is no such call"),
    (1, "clone3", "clone(2), where there is no such call"),
    (0, "close_range", "one descriptor after the other"),
    (1, "close_range", "one descriptor after the other"),
    (0, "faccessat2", "of a fact with a careful answer: whether a cgroup is ours to write to"),
    (1, "faccessat2", "the C library asks otherwise, where there is no such call"),
    (0, "memfd_create", "EINVAL: a flag of Linux 6.3 that is left out"),
    (1, "memfd_create", "EINVAL: a flag of Linux 6.3 that is left out"),
    (1, "openat", "EINVAL: the parameter lowerdir+ of Linux 6.5; the list of layers, then"),
    (1, "fsconfig", "EINVAL: likewise, and uuid=on of Linux 6.6, which is left out"),
    (1, "fsopen", "EINVAL: likewise"),
    (1, "fsmount", "EINVAL: likewise"),
    (1, "readlinkat", "EINVAL is what it says of what is no link"),
    (1, "prctl", "EINVAL is what it says past the last capability"),
    (1, "chdir", "to a directory that may be the user's alone; as the user, then"),
    (1, "newfstatat", "of a standard stream, which stays whose it is"),
    (1, "fchown", "likewise"),
    (1, "ioctl", "likewise"),
    (
        1,
        "setresuid",
        "EINVAL is what it says where there is no root inside, whose capabilities we have all the same",
    ),
    (0, "sched_setaffinity", "of more processors than the caller has; those of the caller, then"),
    (0, "pidfd_open", "of a hook, which is looked after without"),
    (1, "pidfd_open", "of a hook, which is looked after without"),
    (0, "getxattr", "of a fact: whether newuidmap has capabilities; it has the setuid bit"),
    (1, "setresgid", "likewise"),
    (1, "set_tid_address", "musl's own, of which nothing here makes use"),
    (0, "fcntl", "musl sets close-on-exec once more where the call before it has"),
    (1, "fcntl", "musl sets close-on-exec once more where the call before it has"),
    (0, "pipe2", "ENOSYS: musl goes on with pipe(2), and sets the flags after it"),
    (1, "pipe2", "ENOSYS: musl goes on with pipe(2), and sets the flags after it"),
    (0, "socket", "EINVAL: musl goes on without the flags, and sets them after it"),
    (1, "socket", "EINVAL: musl goes on without the flags, and sets them after it"),
    (0, "socketpair", "EINVAL: musl goes on without the flags, and sets them after it"),
    (0, "signalfd4", "ENOSYS: musl goes on with signalfd(2), and sets the flags after it"),
    (1, "signalfd4", "ENOSYS: musl goes on with signalfd(2), and sets the flags after it"),
    (1, "read", "of musl's posix_spawn, which then takes the program for one that has started, as it has"),
    (0, "fstat", "of a size to reserve"),
    (1, "fstat", "of a size to reserve"),
    (0, "stat", "of a fact with a careful answer, as for statx"),
    (0, "lstat", "of a fact with a careful answer, as for statx"),
    (0, "flock", "of an unlock: it is unlocked at our end"),
    (0, "unlinkat", "of what start needed, and means nothing after it"),
    (0, "lseek", "the standard library asks how much there is to read"),
    (1, "lseek", "the standard library asks how much there is to read"),
    (
        0,
        "statx",
        "of a fact with a careful answer: whose our binary is; of the cache of filters; of a size to reserve",
    ),
    (1, "statx", "of a size to reserve"),
    (
        0,
        "openat",
        "of a fact with a careful answer: our oom_score_adj; of the cache of filters; of the id of this boot",
    ),
    (0, "open", "likewise"),
    (0, "read", "likewise"),
    (0, "write", "of the cache of filters; of our oom_score_adj, which was the child's"),
    (0, "getdents64", "of the cache of filters"),
    (0, "statfs", "of a fact: whether there are cgroups, and none is asked for"),
    (0, "fstatfs", "of a fact: whether newuidmap may be setuid, which shows when it is called"),
    (0, "access", "of a fact: where newuidmap is; it is in the next directory, too"),
    (0, "newfstatat", "likewise"),
    (0, "connect", "to the first of two sockets at which systemd answers; to the second, then"),
    (0, "setsockopt", "likewise"),
    (0, "sendmsg", "likewise"),
    (0, "recvfrom", "likewise"),
    (0, "poll", "likewise"),
    (0, "bpf", "of a fact: whether there are device filters, where no rule asks for one"),
    (0, "prlimit64", "the C library looks at the number of descriptors before it starts a program"),
    (1, "prlimit64", "the C library looks at the number of descriptors before it starts a program"),
];

/// What cannot be told when nothing can be, and what cannot be taken back when nobody can be waited for, or no
/// directory be read.
const MUTE: [&str; 3] = ["write", "poll", "fcntl"];

/// What is told of another error than that of the call: musl's fdopendir(3) takes the error of F_GETFL for flags, with
/// O_PATH among them.
const OTHER_WORDS: [(&str, &str); 1] = [("fcntl", "bad file descriptor")];

fn other_words(name: &str) -> impl Iterator<Item = &'static str> {
    OTHER_WORDS.iter().filter(move |(call, _)| *call == name).map(|(_, words)| *words)
}

/// What a container may miss, by the code that says so.
const DEGRADED: [(&str, &str); 5] = [
    ("MNT-MQUEUE", "mqueue"),
    ("HOOK", "hook poststop"),
    // Who deletes the state that stays, as the warning says, has them run.
    ("state of container", "hook poststop"),
    ("FS-FUSE", " / rw,relatime - "),
    ("of container", "listed: "),
];

/// What is seen where the next command refuses: init has failed when nobody listened any more.
pub const REFUSED_LATER: &str = "refused later";

/// How a call with a fault ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Refused,
    Degraded(String),
    Unmoved,
    /// The runtime took another way this time, and the call was not made.
    Missed,
}

/// How often what came of which call's which error.
type Table = BTreeMap<String, BTreeMap<String, BTreeMap<Outcome, usize>>>;

/// What is tried: a call of the runtime, how to see that its success is a real one, and that its failure is whole.
pub struct Trial<'t, 'lab> {
    pub lab: &'lab Lab,
    /// The call, for this id, after whatever has to be there before it.
    pub call: &'t dyn Fn(&str) -> Call<'lab>,
    /// What it exits with when it is refused.
    pub code: i32,
    /// What can be seen of its success: it must be the same each time.
    pub seen: &'t dyn Fn(&Traced, &str) -> String,
    /// What can be seen of it at the least, where nothing fails: that there is something to compare with.
    pub shows: &'t str,
    /// What is wrong after it was refused. It has warned of what it could not take back, if so it is told.
    pub refused: &'t dyn Fn(&str, bool) -> Result<(), String>,
    /// Makes an end of whatever there is, and says what cannot be ended.
    pub clean: &'t dyn Fn(&str) -> Result<(), String>,
}

impl Trial<'_, '_> {
    /// Makes each call fail once, and all of a kind at once, and shows all that is wrong.
    pub fn by_fire(&self) {
        let mut ids = (0..).map(|n| format!("fire{n}"));
        let mut id = || ids.next().unwrap();
        let first = id();
        let calm = trace((self.call)(&first), Fault::Nothing);
        assert!(calm.ran.status.success() && calm.ran.stderr.is_empty(), "{calm:?}");
        let expected = (self.seen)(&calm, &first);
        assert!(expected.contains(self.shows), "{expected}");
        (self.clean)(&first).unwrap();

        let mut wrong = Vec::new();
        let mut table = Table::new();
        for (site, fault, (errno, text)) in faults(&calm.sites) {
            let (id, name) = (id(), site.name());
            let traced = trace((self.call)(&id), fault);
            let words: Vec<&str> = other_words(&name).chain([text]).collect();
            let mut verdict = self.judge(&traced, &id, &words, &expected);
            if verdict == Ok(Outcome::Unmoved) && !may_be_unmoved(site, fault) {
                verdict = Err("not a word of it".to_owned());
            }
            match verdict {
                Ok(outcome) => {
                    let errors = table.entry(name.clone()).or_default();
                    *errors.entry(format!("{errno:?}")).or_default().entry(outcome).or_default() += 1;
                }
                Err(what) => wrong.push(format!("{name} {fault:?}: {what}")),
            }
            if let Err(left) = (self.clean)(&id) {
                wrong.push(format!("{name} {fault:?}: {left}"));
                // The next one would not begin with what this one began with.
                break;
            }
            self.lab.forget_ids();
        }
        note(&render(&table));
        assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
        let refused = table
            .values()
            .flat_map(BTreeMap::values)
            .filter(|outcomes| outcomes.contains_key(&Outcome::Refused));
        assert!(refused.count() > 3, "{table:?}");
    }

    fn judge(&self, traced: &Traced, id: &str, words: &[&str], expected: &str) -> Result<Outcome, String> {
        let ran = &traced.ran;
        if traced.hung {
            return Err(format!("it hangs: {}", ran.stderr));
        }
        let (warnings, errors): (Vec<&str>, Vec<_>) =
            ran.stderr.lines().partition(|line| line.starts_with("bryo: warning: "));
        if ran.status.success() {
            if !errors.is_empty() {
                return Err(format!("it works and says {errors:?}"));
            }
            let seen = (self.seen)(traced, id);
            if seen == REFUSED_LATER {
                return Ok(Outcome::Refused);
            }
            if seen != expected {
                let lost = difference(expected, &seen);
                let told = |line: &str| {
                    let mut known = DEGRADED.iter().filter(|(_, word)| line.contains(word));
                    known.any(|(code, _)| warnings.iter().any(|warning| warning.contains(code)))
                };
                if lost.is_empty() || !lost.lines().all(told) {
                    return Err(format!("not what was asked for, with {warnings:?}:\n{lost}"));
                }
            }
            return Ok(match warnings.first() {
                Some(warning) => Outcome::Degraded(code(warning, id)),
                None if traced.struck == 0 => Outcome::Missed,
                None => Outcome::Unmoved,
            });
        }
        if ran.status.code() != Some(self.code) {
            return Err(format!("{}: {}", ran.status, ran.stderr));
        }
        let [line] = errors[..] else { return Err(format!("not one line: {}", ran.stderr)) };
        if !line.starts_with("bryo: cannot ") {
            return Err(format!("not in the house's words: {line}"));
        }
        if !words.iter().any(|word| line.contains(word)) && !line.contains("; fix: ") {
            return Err(format!("neither the error nor a way out: {line}"));
        }
        let told = warnings.iter().any(|line| line.contains("cannot "));
        (self.refused)(id, told).map_err(|left| format!("{left}: {}", ran.stderr))?;
        Ok(Outcome::Refused)
    }
}

/// What is made to fail, of calls that were made in this order: each with one of the errors in turn, which is a
/// minute's work, and with BRYO_FIRE=all each with each.
fn faults(sites: &[Site]) -> Vec<(Site, Fault, (Errno, &'static str))> {
    let all = std::env::var_os("BRYO_FIRE").is_some_and(|value| value == "all");
    let sites: Vec<Site> = sites.iter().copied().filter(|site| !spared(&site.name())).collect();
    assert!(sites.len() > 5, "{sites:?}");
    let numbers: BTreeSet<_> = sites.iter().map(|site| site.number).collect();
    let each = sites.iter().map(|site| (*site, None));
    // By a filter of an outer container, say.
    let kinds = numbers.iter().map(|number| (Site { process: 0, number: *number, nth: 0 }, Some(*number)));
    let mut faults = Vec::new();
    for (n, (site, kind)) in
        each.chain(kinds.filter(|(site, _)| !MUTE.contains(&site.name().as_str()))).enumerate()
    {
        let chosen = if all { &ERRORS[..] } else { &ERRORS[n % ERRORS.len()..][..1] };
        faults.extend(chosen.iter().map(|error| {
            let fault = kind.map_or(Fault::At(site, error.0), |number| Fault::Every(number, error.0));
            (site, fault, *error)
        }));
    }
    faults
}

/// What the state directory has besides the filters that are kept for the next container.
pub fn entries(lab: &Lab) -> Vec<String> {
    lab.state_entries().into_iter().filter(|entry| entry != "seccomp:cache").collect()
}

/// Nothing is left of a container that did not come up, at once.
pub fn nothing_left(lab: &Lab, told: bool) -> Result<(), String> {
    let (processes, entries) = (lab.processes(), entries(lab));
    if processes.is_empty() && (entries.is_empty() || told) {
        return Ok(());
    }
    Err(format!("left {processes:?} {entries:?}"))
}

/// Makes an end of a container by force, which has to be possible, whatever came before.
pub fn end(lab: &Lab, id: &str) -> Result<(), String> {
    if !entries(lab).is_empty() || !lab.processes().is_empty() {
        let deleted = lab.call(["delete", "--force", id]).done();
        if !deleted.status.success() {
            return Err(format!("the delete fails: {}", deleted.stderr));
        }
    }
    let mut left = Vec::new();
    let gone = eventually(Duration::from_secs(20), || {
        left = lab.leftovers();
        left.is_empty()
    });
    if gone { Ok(()) } else { Err(format!("it leaves {left:?}")) }
}

fn may_be_unmoved(site: Site, fault: Fault) -> bool {
    let name = site.name();
    let of_either = matches!(fault, Fault::Every(..));
    UNMOVED.iter().any(|(who, call, _)| *call == name && (of_either || *who == site.process.min(1)))
}

/// The code that a warning names, or what it warns of.
fn code(warning: &str, id: &str) -> String {
    let said = warning.trim_start_matches("bryo: warning: ");
    let is_code =
        |word: &&str| word.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b.is_ascii_digit());
    let code = said.split(": ").find(is_code).map(str::to_owned);
    code.unwrap_or_else(|| said.split(id).next().unwrap_or_default().trim().to_owned())
}

fn difference(expected: &str, seen: &str) -> String {
    let of = |a: &str, b: &str, mark: &str| {
        let other: Vec<_> = b.lines().collect();
        a.lines()
            .filter(|line| !other.contains(line))
            .map(|line| format!("{mark}{line}\n"))
            .collect::<String>()
    };
    of(expected, seen, "-") + &of(seen, expected, "+")
}

fn render(table: &Table) -> String {
    let mut text = String::new();
    for (name, errors) in table {
        for (errno, outcomes) in errors {
            let counts: Vec<_> = outcomes.iter().map(|(outcome, n)| format!("{n} {outcome:?}")).collect();
            writeln!(text, "{name:20} {errno:7} {}", counts.join(", ")).unwrap();
        }
    }
    text
}
