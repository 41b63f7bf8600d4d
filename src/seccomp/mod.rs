//! Seccomp: from `linux.seccomp` of config.json to a program that the kernel loads.
//!
//! Two stages, both before the clone, neither of which touches the kernel:
//!
//! 1. [`normalise`] checks what was asked for and says it in one way: actions as the kernel's
//!    numbers, the seven operators as a masked comparison that may be negated, architectures with
//!    the native one first. It is pure.
//! 2. [`compile`] turns that into classic BPF. libseccomp is asked for nothing but the number of a
//!    name on an architecture; the program is ours (`program.rs`), because the kernel emulates a
//!    filter for every syscall number when it is loaded, and a shallow tree over ranges of numbers
//!    costs a fraction of libseccomp's chain of comparisons, there and in every syscall after.
//!
//! [`compile_cached`] skips the second stage where the same profile was compiled before
//! (`cache.rs`).
//!
//! What a profile means is what runc and libseccomp make of it, with libseccomp's own generator as
//! the oracle in the tests:
//!
//! - a rule whose action is the default action is dropped;
//! - a name that no table knows is skipped: a profile may be younger than this program;
//! - two conditions on one argument make one rule each (either suffices), conditions on different
//!   arguments make one rule (all must hold);
//! - an unconditional rule wins over conditional ones on the same syscall, and the first
//!   unconditional one over later ones;
//! - 32-bit ABIs compare the low 32 bits of an argument;
//! - where an architecture has socketcall(2) or ipc(2), a rule on a member also covers its number
//!   behind the multiplexer;
//! - where the default denies, a number above the newest one that the profile mentions answers
//!   ENOSYS, so that a libc that probes a syscall from after the profile falls back, where EPERM
//!   would make it give up.
//!
//! Three differences, on purpose. Conditional rules with different actions that overlap are tried
//! in the order of the profile (libseccomp's order is an accident of its tree). An unconditional
//! rule on socketcall or ipc holds even where its action is the default: runc drops it, and what
//! libseccomp derives from the members decides, whatever the profile says. And syscalls that the
//! linked libseccomp is too old to know are known by number (`abi.rs`).

mod abi;
mod cache;
mod program;
mod table;

#[cfg(test)]
mod interpreter;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

use abi::Abi;

// include/uapi/linux/seccomp.h
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0x0000_0000;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
/// What an action is, less the errno or the tracer's message in its low half.
const RET_ACTION_FULL: u32 = 0xffff_0000;

const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// `seccomp(2)` returns the listener's file descriptor.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// A syscall has six arguments.
const ARGUMENTS: usize = 6;

/// The container's init must get the listener's descriptor to its parent before anybody can answer
/// a notification: were one of these notified, it would wait for itself for ever.
const NEVER_NOTIFIED: [&str; 2] = ["write", "sendmsg"];

/// `actions` of `features`: every word that [`normalise`] takes.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// `operators` of `features`.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// `knownFlags` of `features`, each with its bit for seccomp(2): to probe whether the kernel
/// supports one, call seccomp(SET_MODE_FILTER, bit, NULL), which fails with EFAULT where it does
/// and with EINVAL where it does not. (WAIT_KILLABLE_RECV needs [`FLAG_NEW_LISTENER`] beside it.)
///
/// TSYNC has no bit: the process that loads the filter has one thread, and the kernel refuses it
/// together with a listener.
pub const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_LOG", FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", FLAG_WAIT_KILLABLE_RECV),
];

/// `archs` of `features`: every architecture that [`normalise`] takes.
pub fn architectures() -> Vec<&'static str> {
    let taken = abi::ABIS.iter().filter(|abi| abi.is_taken());
    let mut names: Vec<_> = taken.map(|abi| abi.name).collect();
    names.sort_unstable();
    names
}

/// What `linux.seccomp` asks for, checked, every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    default_action: u32,
    /// The native one first.
    abis: Vec<&'static Abi>,
    rules: Vec<Rule>,
    flags: u32,
    listener: Option<Listener>,
}

impl Profile {
    /// Whether a filter of this profile surely lets a process of our own architecture make these calls. A rule that
    /// looks at arguments makes it unsure.
    pub fn permits(&self, calls: &[&str]) -> bool {
        let lets = |action: u32| matches!(action, RET_ALLOW | RET_LOG);
        calls.iter().all(|call| {
            let mut rules = self.rules.iter().filter(|rule| rule.names.iter().any(|name| name == call));
            match rules.clone().find(|rule| rule.is_unconditional()) {
                Some(rule) => lets(rule.action),
                None => lets(self.default_action) && rules.all(|rule| lets(rule.action)),
            }
        })
    }

    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// The socket of the agent; none where nothing notifies, whatever config.json says.
    pub fn listener_path(&self) -> Option<&Path> {
        self.listener.as_ref().map(|listener| &*listener.path)
    }

    /// The names that are no call's on any architecture, and that are passed over.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        let names = self.rules.iter().flat_map(|rule| &rule.names).map(String::as_str);
        names.filter(|name| !self.abis.iter().any(|abi| abi.knows(name)))
    }

    /// What the agent is told, word for word.
    pub fn listener_metadata(&self) -> Option<&str> {
        self.listener.as_ref()?.metadata.as_deref()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Listener {
    path: PathBuf,
    metadata: Option<String>,
}

/// One entry of `syscalls`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    names: Vec<String>,
    action: u32,
    /// Any of these suffices; of each, all tests must hold. No test at all always holds.
    clauses: Vec<Vec<Test>>,
}

impl Rule {
    fn is_unconditional(&self) -> bool {
        self.clauses.iter().any(Vec::is_empty)
    }
}

/// `(argument & mask) RELATION value`, negated or not: all seven operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Test {
    argument: u8,
    mask: u64,
    relation: Relation,
    value: u64,
    negated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// What is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// An array of `struct sock_filter` in the machine's byte order.
    pub instructions: Vec<u8>,
    /// The flags of seccomp(2).
    pub flags: u32,
}

impl Filter {
    /// `struct sock_fprog.len`.
    pub fn len(&self) -> u16 {
        // compile() refuses a program longer than BPF_MAXINSNS, which is 4096
        (self.instructions.len() / program::INSTRUCTION) as u16
    }
}

/// Checks a profile and says it in one way.
pub fn normalise(seccomp: &LinuxSeccomp) -> Result<Profile> {
    let default_action = action(seccomp.default_action(), seccomp.default_errno_ret(), "defaultErrnoRet")?;
    if default_action == RET_USER_NOTIF {
        // it would notify the syscall by which the listener reaches the parent
        bail!("linux.seccomp: SCMP_ACT_NOTIFY cannot be used as default action");
    }

    let mut rules = Vec::new();
    for syscall in seccomp.syscalls().iter().flatten() {
        let action = action(syscall.action(), syscall.errno_ret(), "errnoRet")?;
        if syscall.names().is_empty() {
            bail!(
                "linux.seccomp: a rule with {} has no names; fix: name a syscall, or remove it",
                syscall.action()
            );
        }
        for name in syscall.names() {
            if name.is_empty() {
                bail!("linux.seccomp: empty string is not a valid syscall");
            }
            if action == RET_USER_NOTIF && NEVER_NOTIFIED.contains(&name.as_str()) {
                bail!(
                    "linux.seccomp: SCMP_ACT_NOTIFY cannot be used for the {name} syscall: \
                     the container's init needs it to hand the listener over"
                );
            }
        }
        rules.push(Rule {
            names: syscall.names().clone(),
            action,
            clauses: clauses(syscall.args().as_deref().unwrap_or_default(), syscall.names())?,
        });
    }

    let listener = listener(seccomp, &rules)?;
    Ok(Profile {
        default_action,
        abis: abis(seccomp)?,
        flags: flags(seccomp, listener.is_some()),
        listener,
        rules,
    })
}

/// Compiles a profile for every architecture that it names.
pub fn compile(profile: &Profile) -> Result<Filter> {
    Ok(Filter { instructions: instructions(profile)?, flags: profile.flags })
}

/// [`compile`], by way of a directory where earlier results are kept. It is made if it is not
/// there, and it is not used unless it is ours alone.
pub fn compile_cached(profile: &Profile, directory: Option<&Path>) -> Result<Filter> {
    let Some(directory) = directory else {
        return compile(profile);
    };
    Ok(Filter {
        instructions: cache::get_or(profile, directory, || instructions(profile))?,
        flags: profile.flags,
    })
}

fn instructions(profile: &Profile) -> Result<Vec<u8>> {
    let (sections, checks) = table::lay_out(profile)?;
    program::assemble(&sections, &checks)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>, field: &str) -> Result<u32> {
    use LinuxSeccompAction as Act;
    let kernel = match action {
        // KILL is the old name of KILL_THREAD
        Act::ScmpActKill | Act::ScmpActKillThread => RET_KILL_THREAD,
        Act::ScmpActKillProcess => RET_KILL_PROCESS,
        Act::ScmpActTrap => RET_TRAP,
        Act::ScmpActErrno => RET_ERRNO,
        Act::ScmpActTrace => RET_TRACE,
        Act::ScmpActNotify => RET_USER_NOTIF,
        Act::ScmpActLog => RET_LOG,
        Act::ScmpActAllow => RET_ALLOW,
    };
    if !matches!(kernel, RET_ERRNO | RET_TRACE) {
        // the runtime spec: fail where the action does not take one
        if errno.is_some() {
            bail!(
                "linux.seccomp: {field} is set for {action}, which returns no errno; \
                 fix: remove {field}"
            );
        }
        return Ok(kernel);
    }
    let errno = errno.unwrap_or(libc::EPERM as u32);
    if errno & RET_ACTION_FULL != 0 {
        // cut to 16 bits, 65536 would make the syscall seem to succeed
        bail!("linux.seccomp: {field} {errno} is out of range: an errno has 16 bits");
    }
    Ok(kernel | errno)
}

fn clauses(args: &[LinuxSeccompArg], names: &[String]) -> Result<Vec<Vec<Test>>> {
    let mut seen = [0; ARGUMENTS];
    let mut tests = Vec::with_capacity(args.len());
    for arg in args {
        let Some(count) = seen.get_mut(arg.index()) else {
            bail!(
                "linux.seccomp: rule for {}: argument index {} is out of range: \
                 a syscall has arguments 0 to 5",
                names.join(", "),
                arg.index()
            );
        };
        *count += 1;
        tests.push(test(arg));
    }
    Ok(if seen.iter().any(|count| *count > 1) {
        tests.into_iter().map(|test| vec![test]).collect()
    } else {
        vec![tests]
    })
}

fn test(arg: &LinuxSeccompArg) -> Test {
    use LinuxSeccompOperator as Op;
    let (relation, negated) = match arg.op() {
        Op::ScmpCmpEq | Op::ScmpCmpMaskedEq => (Relation::Equal, false),
        Op::ScmpCmpNe => (Relation::Equal, true),
        Op::ScmpCmpGt => (Relation::Greater, false),
        Op::ScmpCmpLe => (Relation::Greater, true),
        Op::ScmpCmpGe => (Relation::GreaterOrEqual, false),
        Op::ScmpCmpLt => (Relation::GreaterOrEqual, true),
    };
    let (mask, value) = match arg.op() {
        Op::ScmpCmpMaskedEq => (arg.value(), arg.value_two().unwrap_or(0)),
        _ => (u64::MAX, arg.value()),
    };
    Test {
        argument: arg.index() as u8, // below ARGUMENTS
        mask,
        relation,
        // bits outside of the mask are nobody's business, as libseccomp has it
        value: value & mask,
        negated,
    }
}

fn listener(seccomp: &LinuxSeccomp, rules: &[Rule]) -> Result<Option<Listener>> {
    let path = seccomp.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
    let unread = seccomp.listener_metadata().as_ref().is_some_and(|text| !text.is_empty());
    match (path, rules.iter().any(|rule| rule.action == RET_USER_NOTIF)) {
        (Some(path), true) => {
            Ok(Some(Listener { path: path.clone(), metadata: seccomp.listener_metadata().clone() }))
        }
        (None, true) => bail!(
            "linux.seccomp: SCMP_ACT_NOTIFY is used and listenerPath is not set: \
             nobody would answer; fix: set listenerPath to the socket of a seccomp agent"
        ),
        (None, false) if unread => bail!(
            "linux.seccomp: listenerMetadata is set and listenerPath is not: nobody would read it; \
             fix: set listenerPath to the socket of a seccomp agent, or remove listenerMetadata"
        ),
        _ => Ok(None),
    }
}

/// The native architecture, whether it is named or not, then the others in their order.
fn abis(seccomp: &LinuxSeccomp) -> Result<Vec<&'static Abi>> {
    let native = Abi::native()?;
    let mut abis = vec![native];
    for arch in seccomp.architectures().iter().flatten() {
        let abi = Abi::find(*arch)?;
        if !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    Ok(abis)
}

fn flags(seccomp: &LinuxSeccomp, notifies: bool) -> u32 {
    let mut bits = match seccomp.flags() {
        // As runc: without any flags, not even the empty list, the mitigation against speculative
        // store bypass stays off. It would slow down the whole container.
        None => FLAG_SPEC_ALLOW,
        Some(flags) => flags.iter().fold(0, |bits, flag| {
            bits | match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
                LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => FLAG_WAIT_KILLABLE_RECV,
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            }
        }),
    };
    if notifies {
        bits |= FLAG_NEW_LISTENER;
    } else {
        // it is about waiting for a listener's answer, and EINVAL where there is no listener
        bits &= !FLAG_WAIT_KILLABLE_RECV;
    }
    bits
}
