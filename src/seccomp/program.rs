//! From ranges of numbers to classic BPF.
//!
//! The program asks for the architecture, then for the number by a binary tree of comparisons that
//! is balanced by how many syscalls exist on either side, then, for the few syscalls where they
//! decide, for the arguments.
//!
//! Jumps go forward only, and a conditional one reaches no further than 255 instructions. So the
//! program is written from its end: whatever a jump goes to is there already, and its distance is
//! known. Where a target is out of reach, a copy of the return, or an unconditional jump, which
//! reaches everything, is put down in between.

use anyhow::{Result, bail};

use super::table::{Check, Range, Section, Verdict};
use super::{RET_KILL_THREAD, Relation, Test};

/// The size of `struct sock_filter`.
pub(super) const INSTRUCTION: usize = 8;
/// The kernel's limit on the length of a filter, `BPF_MAXINSNS`.
pub(super) const MAX_INSTRUCTIONS: usize = 4096;

const LOAD: u16 = 0x20; // A = the word at K of struct seccomp_data
const AND: u16 = 0x54; // A &= K
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

// struct seccomp_data
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn low(argument: u8) -> u32 {
    16 + 8 * argument as u32 + if cfg!(target_endian = "big") { 4 } else { 0 }
}
const fn high(argument: u8) -> u32 {
    16 + 8 * argument as u32 + if cfg!(target_endian = "big") { 0 } else { 4 }
}

/// Above the number of syscalls of any architecture, so that ranges of numbers are weighed by what
/// may be called: the kernel runs a new filter on each of these numbers.
const POPULATED: u32 = 512;

/// The program, for an array of `struct sock_filter`.
pub(super) fn assemble(sections: &[Section], checks: &[Check]) -> Result<Vec<u8>> {
    let mut program = Program::default();
    let mut checks = Checks { checks, placed: vec![None; checks.len()] };
    // libseccomp's answer to an architecture that the profile does not name
    let mut next = Target::Return(RET_KILL_THREAD);
    let mut entries = Vec::new();
    // backwards: the native architecture comes first and ends up nearest to the start
    for section in sections.iter().rev() {
        entries.push((section.token, program.section(section, &mut checks)));
    }
    for (token, entry) in entries {
        next = program.branch(EQUAL, token, entry, next);
    }
    program.straight(LOAD, ARCHITECTURE);
    program.finish()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Return(u32),
    /// An instruction, counted from the end of the program.
    At(usize),
}

#[derive(Clone, Copy)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    k: u32,
}

struct Checks<'a> {
    checks: &'a [Check],
    /// Where each begins, once it is put down.
    placed: Vec<Option<Target>>,
}

/// A program under construction, its last instruction first.
#[derive(Default)]
struct Program {
    backwards: Vec<Instruction>,
    /// The last copy of each return; a handful.
    returns: Vec<(u32, usize)>,
}

impl Program {
    fn section(&mut self, section: &Section, checks: &mut Checks<'_>) -> Target {
        let leaves = Leaf::of(&section.ranges);
        let weights = running_weights(&leaves, section.base);
        if let [leaf] = leaves.as_slice() {
            if leaf.except.is_none() {
                return self.verdict(leaf.verdict, checks);
            }
        }
        self.tree(&leaves, &weights, checks);
        self.straight(LOAD, NUMBER)
    }

    /// Which of the leaves the number in A belongs to. The last instruction put down is the root.
    fn tree(&mut self, leaves: &[Leaf], weights: &[u64], checks: &mut Checks<'_>) -> Target {
        if let [leaf] = leaves {
            let verdict = self.verdict(leaf.verdict, checks);
            return match leaf.except {
                None => verdict,
                Some((number, verdict_there)) => {
                    let there = self.verdict(verdict_there, checks);
                    self.branch(EQUAL, number, there, verdict)
                }
            };
        }
        let split = balanced_split(weights);
        let above = self.tree(&leaves[split..], &weights[split..], checks);
        let below = self.tree(&leaves[..split], &weights[..=split], checks);
        self.branch(GREATER_OR_EQUAL, leaves[split].start, above, below)
    }

    fn verdict(&mut self, verdict: Verdict, checks: &mut Checks<'_>) -> Target {
        match verdict {
            Verdict::Return(action) => Target::Return(action),
            Verdict::Check(index) => {
                *checks.placed[index].get_or_insert_with(|| self.check(&checks.checks[index]))
            }
        }
    }

    fn check(&mut self, check: &Check) -> Target {
        let mut next = Target::Return(check.otherwise);
        for (tests, action) in check.cases.iter().rev() {
            let mut then = Target::Return(*action);
            for test in tests.iter().rev() {
                then = self.test(test, check.wide, then, next);
            }
            next = then;
        }
        next
    }

    fn test(&mut self, test: &Test, wide: bool, then: Target, otherwise: Target) -> Target {
        let (yes, no) = if test.negated { (otherwise, then) } else { (then, otherwise) };
        let halves = |word: u64| ((word >> 32) as u32, word as u32);
        let (high_mask, low_mask) = halves(test.mask);
        let (high_value, low_value) = halves(test.value);
        let (low, high) = (low(test.argument), high(test.argument));

        // the high word is looked at first, and so put down last
        let greater = match test.relation {
            Relation::Equal => {
                let mut next = yes;
                if low_mask != 0 {
                    next = self.equal(low, low_mask, low_value, next, no);
                }
                if wide && high_mask != 0 {
                    next = self.equal(high, high_mask, high_value, next, no);
                }
                return next;
            }
            Relation::Greater => GREATER,
            Relation::GreaterOrEqual => GREATER_OR_EQUAL,
        };
        self.branch(greater, low_value, yes, no);
        let by_low = self.straight(LOAD, low);
        if !wide {
            return by_low;
        }
        if high_value == 0 {
            self.branch(EQUAL, 0, by_low, yes);
        } else {
            let tie = self.branch(EQUAL, high_value, by_low, no);
            self.branch(GREATER, high_value, yes, tie);
        }
        self.straight(LOAD, high)
    }

    fn equal(&mut self, offset: u32, mask: u32, value: u32, yes: Target, no: Target) -> Target {
        self.branch(EQUAL, value, yes, no);
        if mask != u32::MAX {
            self.straight(AND, mask);
        }
        self.straight(LOAD, offset)
    }

    /// An instruction before the one put down last.
    fn straight(&mut self, code: u16, k: u32) -> Target {
        self.put(code, 0, 0, k)
    }

    /// A comparison of A with `k`.
    fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        // bringing `no` near may put one instruction in between
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        let here = self.backwards.len();
        self.put(code, (here - yes - 1) as u8, (here - no - 1) as u8, k)
    }

    /// The index of `target`, or of something that leads there, within reach of a conditional jump
    /// that comes after `between` more instructions.
    fn near(&mut self, target: Target, between: usize) -> usize {
        let here = self.backwards.len();
        let reachable = |index: usize| here - index - 1 + between <= usize::from(u8::MAX);
        match target {
            Target::At(index) if reachable(index) => index,
            Target::At(index) => {
                self.put(JUMP, 0, 0, (here - index - 1) as u32);
                here
            }
            Target::Return(action) => {
                let known = self.returns.iter().position(|(known, _)| *known == action);
                match known {
                    Some(known) if reachable(self.returns[known].1) => self.returns[known].1,
                    _ => {
                        self.put(RETURN, 0, 0, action);
                        match known {
                            Some(known) => self.returns[known].1 = here,
                            None => self.returns.push((action, here)),
                        }
                        here
                    }
                }
            }
        }
    }

    fn put(&mut self, code: u16, if_true: u8, if_false: u8, k: u32) -> Target {
        self.backwards.push(Instruction { code, if_true, if_false, k });
        Target::At(self.backwards.len() - 1)
    }

    fn finish(self) -> Result<Vec<u8>> {
        let length = self.backwards.len();
        if length > MAX_INSTRUCTIONS {
            bail!(
                "linux.seccomp: the filter has {length} instructions, and the kernel takes \
                 {MAX_INSTRUCTIONS}; fix: fewer rules with args"
            );
        }
        let mut bytes = Vec::with_capacity(length * INSTRUCTION);
        for instruction in self.backwards.iter().rev() {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.if_true, instruction.if_false]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        Ok(bytes)
    }
}

/// A range, or three of which the outer two are the same and the middle one is a single number:
/// one comparison instead of two.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    start: u32,
    verdict: Verdict,
    except: Option<(u32, Verdict)>,
}

impl Leaf {
    fn of(ranges: &[Range]) -> Vec<Leaf> {
        let mut leaves = Vec::with_capacity(ranges.len());
        let mut rest = ranges;
        while let [range, tail @ ..] = rest {
            let except = match tail {
                [middle, last, ..] if last.verdict == range.verdict && last.start - middle.start == 1 => {
                    Some((middle.start, middle.verdict))
                }
                _ => None,
            };
            leaves.push(Leaf { start: range.start, verdict: range.verdict, except });
            rest = if except.is_some() { &tail[2..] } else { tail };
        }
        leaves
    }
}

/// Before each leaf, and after the last: how many syscalls there are, one at least in each.
fn running_weights(leaves: &[Leaf], base: u32) -> Vec<u64> {
    let populated = u64::from(base)..u64::from(base) + u64::from(POPULATED);
    let mut sum = 0;
    let mut weights = vec![0];
    for (index, leaf) in leaves.iter().enumerate() {
        let end = leaves.get(index + 1).map_or(1 << 32, |next| u64::from(next.start));
        let start = u64::from(leaf.start).max(populated.start);
        sum += end.min(populated.end).saturating_sub(start).max(1);
        weights.push(sum);
    }
    weights
}

/// Where both sides weigh most alike; there is a leaf on either side.
fn balanced_split(weights: &[u64]) -> usize {
    let last = weights.len() - 1;
    let twice_the_middle = weights[0] + weights[last];
    let above = weights[1..last].partition_point(|weight| 2 * weight < twice_the_middle) + 1;
    let off_by = |split: usize| (2 * weights[split]).abs_diff(twice_the_middle);
    if above == last || (above > 1 && off_by(above - 1) <= off_by(above)) { above - 1 } else { above }
}
