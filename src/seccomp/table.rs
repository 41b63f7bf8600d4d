//! From rules on names to ranges of numbers: for each architecture, what happens to every number
//! from 0 to 2³²-1.

use anyhow::{Result, bail};

use super::abi::{Abi, Numbers, X32_BIT};
use super::{
    Profile, RET_ACTION_FULL, RET_ALLOW, RET_ERRNO, RET_KILL_THREAD, RET_LOG, RET_TRACE, Relation, Test,
};

/// One value of `seccomp_data.arch`.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) token: u32,
    /// Where syscalls that exist begin: what is below and far above is called by nobody.
    pub(super) base: u32,
    /// The first begins at 0, each ends where the next begins, neighbours differ.
    pub(super) ranges: Vec<Range>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// `SECCOMP_RET_*`
    Return(u32),
    /// The arguments decide: an index into the checks.
    Check(usize),
}

/// What decides on a syscall by its arguments: the first of `cases` of which all tests hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// Arguments have 64 bits; else the tests have 32, and so do the arguments.
    pub(super) wide: bool,
    pub(super) cases: Vec<Case>,
    pub(super) otherwise: u32,
}

/// Tests, and the action where all of them hold.
pub(super) type Case = (Vec<Test>, u32);

/// Every range of every architecture of the profile, the native one first.
pub(super) fn lay_out(profile: &Profile) -> Result<(Vec<Section>, Vec<Check>)> {
    let mut checks = Vec::new();
    let mut sections: Vec<Section> = Vec::new();
    for abi in &profile.abis {
        if sections.iter().any(|section| section.token == abi.token) {
            continue; // done with its other half
        }
        // x86_64 and x32 are one architecture for the kernel, told apart by a bit of the number
        let half = |is_x32: bool| {
            let mut abis = profile.abis.iter();
            abis.find(|other| other.token == abi.token && (other.base == X32_BIT) == is_x32)
        };
        let mut ranges = Vec::new();
        match half(false) {
            Some(abi) => number_line(profile, abi, &mut ranges, &mut checks)?,
            None => push(&mut ranges, 0, Verdict::Return(RET_KILL_THREAD)),
        }
        match half(true) {
            Some(abi) => number_line(profile, abi, &mut ranges, &mut checks)?,
            None if abi.name == "SCMP_ARCH_X86_64" => {
                // the numbers of an architecture that the profile does not name
                push(&mut ranges, X32_BIT, Verdict::Return(RET_KILL_THREAD));
                // but -1 is how a tracer skips a syscall: the filter runs once more after it
                let skip = Verdict::Return(profile.default_action);
                push(&mut ranges, u32::MAX, skip);
            }
            None => {}
        }
        sections.push(Section { token: abi.token, base: abi.base, ranges });
    }
    Ok((sections, checks))
}

/// Appends the ranges of one architecture, from its first number up.
fn number_line(profile: &Profile, abi: &Abi, ranges: &mut Vec<Range>, checks: &mut Vec<Check>) -> Result<()> {
    let Table { syscalls, newest } = table(profile, abi)?;
    let default = Verdict::Return(profile.default_action);
    let mut next = if abi.base == X32_BIT { X32_BIT } else { 0 };
    for (number, decision) in syscalls {
        if number > next {
            push(ranges, next, default);
        }
        let verdict = match decision {
            Decision::Always(action) => Verdict::Return(action),
            Decision::Arguments(cases) => {
                intern(checks, Check { wide: abi.wide, cases, otherwise: profile.default_action })
            }
        };
        push(ranges, number, verdict);
        next = number + 1;
    }
    match newest {
        Some(newest) if denies(profile.default_action) => {
            if newest >= next {
                push(ranges, next, default);
            }
            push(ranges, newest + 1, ENOSYS);
        }
        _ => push(ranges, next, default),
    }
    Ok(())
}

const ENOSYS: Verdict = Verdict::Return(RET_ERRNO | libc::ENOSYS as u32);

/// A tracer answers for syscalls that it does not know itself.
fn denies(action: u32) -> bool {
    !matches!(action & RET_ACTION_FULL, RET_ALLOW | RET_LOG | RET_TRACE)
}

fn push(ranges: &mut Vec<Range>, start: u32, verdict: Verdict) {
    if ranges.last().map(|last| last.verdict) != Some(verdict) {
        ranges.push(Range { start, verdict });
    }
}

/// One check for all syscalls that are decided alike, as clone on x86_64 and on x32.
fn intern(checks: &mut Vec<Check>, check: Check) -> Verdict {
    let known = checks.iter().position(|other| *other == check);
    Verdict::Check(known.unwrap_or_else(|| {
        checks.push(check);
        checks.len() - 1
    }))
}

/// One rule on one number. Sorted, what concerns a number stands together, in the profile's order.
#[derive(Clone, Copy)]
struct Entry<'a> {
    number: u32,
    order: u32,
    name: &'a str,
    case: usize,
}

struct Table {
    syscalls: Vec<(u32, Decision)>,
    /// The highest number of a syscall that the profile mentions, in whatever rule.
    newest: Option<u32>,
}

enum Decision {
    Always(u32),
    Arguments(Vec<Case>),
}

fn table(profile: &Profile, abi: &Abi) -> Result<Table> {
    let mut cases: Vec<Case> = Vec::new();
    let mut entries: Vec<Entry<'_>> = Vec::with_capacity(512);
    let mut newest = None;
    for rule in &profile.rules {
        let redundant = rule.action == profile.default_action;
        let first = cases.len();
        for clause in &rule.clauses {
            cases.push((narrow(abi, clause), rule.action));
        }
        let direct_cases = first..cases.len();
        for name in &rule.names {
            let Numbers { direct, behind } = abi.numbers(name);
            newest = newest.max(direct);
            if redundant && !(abi.is_multiplexer(name) && rule.is_unconditional()) {
                continue;
            }
            let mut add = |number, case| {
                entries.push(Entry { number, order: entries.len() as u32, name, case });
            };
            for case in direct_cases.clone() {
                if let Some(number) = direct {
                    add(number, case);
                }
                if let Some((gate, index)) = behind {
                    let (tests, action) = &cases[case];
                    let through = (through_gate(tests, index), *action);
                    cases.push(through);
                    add(gate, cases.len() - 1);
                }
            }
        }
    }

    entries.sort_unstable_by_key(|entry| (entry.number, entry.order));
    let mut syscalls = Vec::with_capacity(entries.len());
    for same in entries.chunk_by(|a, b| a.number == b.number) {
        syscalls.push((same[0].number, decide(same, &cases)?));
    }
    if abi.unknown_is_zero() && denies(profile.default_action) {
        let enosys = Decision::Always(RET_ERRNO | libc::ENOSYS as u32);
        match syscalls.first_mut() {
            Some((0, decision)) => *decision = enosys,
            _ => syscalls.insert(0, (0, enosys)),
        }
    }
    Ok(Table { syscalls, newest })
}

/// What the rules on one number come to.
fn decide(entries: &[Entry<'_>], cases: &[Case]) -> Result<Decision> {
    let case = |entry: &Entry<'_>| &cases[entry.case];
    if let Some((_, action)) = entries.iter().map(case).find(|(tests, _)| tests.is_empty()) {
        return Ok(Decision::Always(*action));
    }
    let mut kept: Vec<Case> = Vec::with_capacity(entries.len());
    for entry in entries {
        let (tests, action) = case(entry);
        match kept.iter().find(|(other, _)| other == tests) {
            None => kept.push((tests.clone(), *action)),
            Some((_, other)) if other == action => {}
            Some(_) => bail!(
                "linux.seccomp: two rules for {} have the same conditions and different actions; \
                 fix: remove one",
                entry.name
            ),
        }
    }
    Ok(Decision::Arguments(kept))
}

/// The tests as the width of the arguments has them, less those that always hold.
fn narrow(abi: &Abi, tests: &[Test]) -> Vec<Test> {
    let mut tests = tests.to_vec();
    if !abi.wide {
        for test in &mut tests {
            test.mask &= u64::from(u32::MAX);
            test.value &= u64::from(u32::MAX);
        }
    }
    tests.retain(|test| test.mask != 0 || test.relation != Relation::Equal || test.negated);
    tests
}

/// A rule on a member as a rule on its multiplexer: the member's own arguments stand in memory that
/// no filter can read, so the first says which member it is. The others stay as they are, for no
/// better reason than that libseccomp leaves them.
fn through_gate(tests: &[Test], index: u32) -> Vec<Test> {
    let is_member = Test {
        argument: 0,
        mask: u64::MAX,
        relation: Relation::Equal,
        value: u64::from(index),
        negated: false,
    };
    std::iter::once(is_member).chain(tests.iter().copied().filter(|test| test.argument != 0)).collect()
}
