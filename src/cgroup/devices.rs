//! Device rules as a BPF program for the cgroup of a container that root has made.
//!
//! cgroup v2 has no files for devices. Instead the kernel asks the programs attached to a cgroup, and to those
//! above it, whenever a device node in it is opened or made; one that says no is enough. Nothing of that is needed
//! without root: in a user namespace no node can be made, and /dev holds what the configuration lists.
//!
//! What a list of rules means is config-linux.md's "Allowed Device list": they apply in the order in which they
//! are listed. So of every right (to read, to write, to make a node) the last rule that speaks of it decides, and
//! an access is granted if every right that it needs is. Before the first rule nothing is allowed, as in runc. So a
//! program looks at the rules from the last to the first, and at what they leave open:
//!
//! ```text
//! open := the rights asked for
//! for each rule, from the last one, that matches type, major and minor:
//!     deny:   if a right of it is open, refuse
//!     allow:  close its rights; if none is open, grant
//! refuse
//! ```
//!
//! A rule for everything ends the walk: what came before it does not count any more. To the rules of the
//! configuration come those of every container: nodes of any kind may be made unless a rule says otherwise, and the
//! default devices are allowed last, so that no list takes /dev/null away.
//!
//! crun goes by order, too. runc goes by the exception lists of cgroup v1, and differs where rules overlap: it
//! refuses a denial within what an earlier rule allows, forgets one of more than an earlier rule allows, and where
//! only reading is denied, it lets a device be opened to read and write at once (so does crun). A rule of type `a`
//! with numbers is read by runc as one for everything, by crun as it stands; the stricter reading counts here: a
//! denial is of everything, a permission of no more than it says.

use super::Cgroup;
use crate::report::{Act, Failure, errno_text};
use crate::sys::bpf::{self, Instruction};
use crate::sys::{self, Errno};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

// BPF_DEVCG_ACC_*
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const EVERYTHING: u8 = MKNOD | READ | WRITE;

/// What a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    // BPF_DEVCG_DEV_*
    Block = 1,
    Char = 2,
}

/// One rule; `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    allow: bool,
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
    /// Rights.
    access: u8,
}

const DENY_ALL: Rule = Rule { allow: false, kind: None, major: None, minor: None, access: EVERYTHING };

/// Nodes of all kinds may be made: they are of no use without the other rights.
const BASE: [Rule; 2] = [any(Kind::Char, MKNOD), any(Kind::Block, MKNOD)];

/// What every container may use, as in runc.
const DEFAULT: [Rule; 9] = [
    char(1, Some(3)),    // null
    char(1, Some(8)),    // random
    char(1, Some(7)),    // full
    char(5, Some(0)),    // tty
    char(1, Some(5)),    // zero
    char(1, Some(9)),    // urandom
    char(136, None),     // pts
    char(5, Some(2)),    // ptmx
    char(10, Some(200)), // net/tun
];

const fn any(kind: Kind, access: u8) -> Rule {
    Rule { allow: true, kind: Some(kind), major: None, minor: None, access }
}

const fn char(major: u32, minor: Option<u32>) -> Rule {
    Rule { allow: true, kind: Some(Kind::Char), major: Some(major), minor, access: EVERYTHING }
}

impl Rule {
    /// # Errors
    /// Why the rule has no meaning.
    fn read(rule: &LinuxDeviceCgroup) -> Result<Rule, String> {
        let kind = match rule.typ() {
            None | Some(LinuxDeviceType::A) => None,
            Some(LinuxDeviceType::B) => Some(Kind::Block),
            Some(LinuxDeviceType::C) => Some(Kind::Char),
            Some(other) => return Err(format!("type {:?} is none of a, b and c", other.as_str())),
        };
        let mut access = 0;
        for letter in rule.access().as_deref().unwrap_or("rwm").chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                // The letter of a type, which runc passes over; configurations have it.
                'a' => 0,
                other => return Err(format!("access {other:?} is none of r, w and m")),
            };
        }
        if access == 0 {
            return Err("access is empty".into());
        }
        let (major, minor) = (device_number(rule.major())?, device_number(rule.minor())?);
        if kind.is_none() && !rule.allow() {
            return Ok(DENY_ALL);
        }
        Ok(Rule { allow: rule.allow(), kind, major, minor, access })
    }

    fn speaks_of(&self, kind: Kind, major: u32, minor: u32) -> bool {
        self.kind.is_none_or(|of| of == kind)
            && self.major.is_none_or(|of| of == major)
            && self.minor.is_none_or(|of| of == minor)
    }

    /// Whether it speaks of everything, so that nothing that came before it counts any more.
    fn is_reset(&self) -> bool {
        Rule { allow: false, ..*self } == DENY_ALL
    }
}

fn device_number(number: Option<i64>) -> Result<Option<u32>, String> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| format!("{number} is no device number")),
    }
}

/// Reads the rules of a configuration, and adds what every container may do.
///
/// # Errors
/// The first rule that has no meaning, with the reason.
pub fn rules(listed: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, String> {
    let mut rules = Vec::with_capacity(listed.len() + BASE.len() + DEFAULT.len());
    for (index, rule) in listed.iter().enumerate() {
        let rule = Rule::read(rule)
            .map_err(|cause| format!("linux.resources.devices[{index}]: {cause}: invalid argument"))?;
        rules.push(rule);
    }
    let base = rules.iter().rposition(Rule::is_reset).map_or(0, |reset| reset + 1);
    if base == 0 || !rules[base - 1].allow {
        rules.splice(base..base, BASE);
    }
    rules.extend(DEFAULT);
    Ok(rules)
}

/// Whether whoever can open a device may do all with it by these rules: both read and write.
pub fn leave_alone(rules: &[Rule], block: bool, major: u32, minor: u32) -> bool {
    let kind = if block { Kind::Block } else { Kind::Char };
    let mut open = READ | WRITE;
    for rule in rules.iter().rev().filter(|rule| rule.speaks_of(kind, major, minor)) {
        if !rule.allow && open & rule.access != 0 {
            return false;
        }
        open &= !rule.access;
    }
    open == 0
}

/// The program that decides by these rules (`struct bpf_cgroup_dev_ctx`, BPF_PROG_TYPE_CGROUP_DEVICE).
pub fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = Vec::with_capacity(7 + rules.len() * 6);
    // access_type has the type in its lower half and the rights in the upper one.
    code.extend([load(KIND, 0), op(MOV_REGISTER, OPEN, KIND, 0), op(SHIFT_RIGHT, OPEN, 0, 16)]);
    code.extend([op(AND, KIND, 0, 0xffff), load(MAJOR, 4), load(MINOR, 8)]);
    let reset = rules.iter().rposition(Rule::is_reset);
    let (default, rest) = match reset {
        Some(at) => (rules[at].allow, &rules[at + 1..]),
        None => (false, rules),
    };
    for rule in rest.iter().rev() {
        append(rule, &mut code);
    }
    code.extend(verdict(default));
    code.iter().map(|step| step.encode()).collect()
}

/// Decides by one rule, or goes on behind it.
fn append(rule: &Rule, code: &mut Vec<Step>) {
    let begin = code.len();
    let conditions = [(KIND, rule.kind.map(|kind| kind as u32)), (MAJOR, rule.major), (MINOR, rule.minor)];
    for (register, wanted) in conditions {
        code.extend(wanted.map(|wanted| op(JUMP_UNLESS_EQUAL, register, 0, wanted as i32)));
    }
    let access = i32::from(rule.access);
    if rule.allow && rule.access == EVERYTHING {
        // Nothing stays open.
    } else if rule.allow {
        code.push(op(AND, OPEN, 0, i32::from(EVERYTHING) & !access));
        code.push(op(JUMP_UNLESS_EQUAL, OPEN, 0, 0));
    } else {
        code.push(op(MOV_REGISTER, DENIED, OPEN, 0));
        code.push(op(AND, DENIED, 0, access));
        code.push(op(JUMP_IF_EQUAL, DENIED, 0, 0));
    }
    code.extend(verdict(rule.allow));
    let end = code.len();
    for (at, step) in code.iter_mut().enumerate().skip(begin) {
        if matches!(step.code, JUMP_UNLESS_EQUAL | JUMP_IF_EQUAL) {
            // From the instruction behind it.
            step.offset = (end - at - 1) as i16;
        }
    }
}

fn verdict(allow: bool) -> [Step; 2] {
    [op(MOV, VERDICT, 0, i32::from(allow)), op(EXIT, 0, 0, 0)]
}

// Registers, as the calling convention has them: the verdict is r0, the context comes in r1.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const DENIED: u8 = 6;

// Codes of instructions (Documentation/bpf/standardization/instruction-set.rst).
const LOAD: u8 = 0x61; // LDX | MEM | W
const AND: u8 = 0x57; // ALU64 | AND | K
const SHIFT_RIGHT: u8 = 0x77; // ALU64 | RSH | K
const MOV: u8 = 0xb7; // ALU64 | MOV | K
const MOV_REGISTER: u8 = 0xbf; // ALU64 | MOV | X
// Of 32 bits: the immediate would be extended by its sign for the others.
const JUMP_IF_EQUAL: u8 = 0x16; // JMP32 | JEQ | K
const JUMP_UNLESS_EQUAL: u8 = 0x56; // JMP32 | JNE | K
const EXIT: u8 = 0x95; // JMP | EXIT

/// An instruction before it is encoded.
#[derive(Debug, Clone, Copy)]
struct Step {
    code: u8,
    target: u8,
    source: u8,
    offset: i16,
    immediate: i32,
}

fn op(code: u8, target: u8, source: u8, immediate: i32) -> Step {
    Step { code, target, source, offset: 0, immediate }
}

fn load(target: u8, offset: i16) -> Step {
    Step { offset, ..op(LOAD, target, CONTEXT, 0) }
}

impl Step {
    fn encode(&self) -> Instruction {
        // Two bit fields, which C lays out from the end that the machine begins with.
        let registers = if cfg!(target_endian = "little") {
            self.target | self.source << 4
        } else {
            self.target << 4 | self.source
        };
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&[self.code, registers]);
        bytes[2..4].copy_from_slice(&self.offset.to_ne_bytes());
        bytes[4..].copy_from_slice(&self.immediate.to_ne_bytes());
        bytes
    }
}

/// Whether this kernel filters devices by cgroup, and lets us. It is only asked what is attached to the root: to load
/// a program costs a hundred times as much.
pub fn supported() -> bool {
    Cgroup::open(Path::new("/")).and_then(|root| bpf::attached(root.as_fd())).is_ok()
}

/// Has a cgroup go by these rules, and by them alone: programs that were attached to it before are taken away,
/// but those of the cgroups above it count as well.
///
/// # Errors
/// What the verifier has against the program, and the errno of bpf(2).
pub fn attach(cgroup: &Cgroup, rules: &[Rule], container: &str) -> Result<(), Failure> {
    let act = || format!("cannot filter devices of container {container}");
    let program = program(rules);
    let loaded = load_program(&program).map_err(|errno| {
        let log = bpf::verifier_log(&program);
        let cause =
            complaint(&log).into_iter().chain([errno_text(errno).as_str()]).collect::<Vec<_>>().join(": ");
        Failure::new(act(), cause)
    });
    let attached = loaded.and_then(|loaded| replace(cgroup, &loaded).act(act));
    attached.map_err(|failure| {
        failure
            .code("CG-DEVICES")
            .fix("use a kernel with CONFIG_CGROUP_BPF, or add a user namespace to do without rules")
    })
}

/// Why a program is refused: the last line of the verifier's, but for those in which it counts its work.
fn complaint(log: &str) -> Option<&str> {
    let counts = ["processed ", "verification time ", "stack depth "];
    log.lines().map(str::trim).rfind(|line| !line.is_empty() && !counts.iter().any(|c| line.starts_with(c)))
}

/// Loads a program. Before Linux 5.11 its memory counts as locked, against a limit that root's other containers
/// may have used up.
fn load_program(program: &[Instruction]) -> sys::Result<OwnedFd> {
    let refused = match bpf::load(program) {
        Err(errno @ Errno::EPERM) => errno,
        other => return other,
    };
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_err() {
        return Err(refused);
    }
    let loaded = bpf::load(program);
    // The container does not get it.
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
    loaded
}

/// Puts a program in the place of all that are attached, at no moment leaving the cgroup without any.
fn replace(cgroup: &Cgroup, program: &OwnedFd) -> sys::Result<()> {
    let (cgroup, program) = (cgroup.as_fd(), program.as_fd());
    let old = bpf::attached(cgroup)?;
    if let [only] = &old[..] {
        match bpf::attach(cgroup, program, Some(only.as_fd())) {
            // Before Linux 5.6, or somebody has detached it meanwhile.
            Err(Errno::EINVAL | Errno::ENOENT) => {}
            other => return other,
        }
    }
    bpf::attach(cgroup, program, None)?;
    for old in &old {
        match bpf::detach(cgroup, old.as_fd()) {
            Err(Errno::ENOENT) => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
