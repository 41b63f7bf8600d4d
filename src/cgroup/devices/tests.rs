use super::*;
use serde_json::{Value, json};

const READ_WRITE: u8 = READ | WRITE;

/// What somebody wants of a device.
#[derive(Debug, Clone, Copy)]
struct Request {
    kind: Kind,
    major: u32,
    minor: u32,
    rights: u8,
}

fn request(kind: Kind, major: u32, minor: u32, rights: u8) -> Request {
    Request { kind, major, minor, rights }
}

fn parsed(listed: &Value) -> Vec<LinuxDeviceCgroup> {
    serde_json::from_value(listed.clone()).unwrap()
}

/// The rules as they are listed, without those of every container.
fn bare(listed: &Value) -> Vec<Rule> {
    parsed(listed).iter().map(|rule| Rule::read(rule).unwrap()).collect()
}

/// Runs a program as the kernel would, and panics where the verifier would refuse it.
fn run(program: &[Instruction], request: Request) -> bool {
    let context = [u32::from(request.rights) << 16 | request.kind as u32, request.major, request.minor];
    let mut registers: [Option<u64>; 11] = [None; 11];
    let mut at = 0;
    loop {
        let [code, names, o0, o1, i0, i1, i2, i3] = program[at];
        let (target, source) = (usize::from(names & 15), usize::from(names >> 4));
        let offset = i16::from_ne_bytes([o0, o1]);
        let immediate = i32::from_ne_bytes([i0, i1, i2, i3]);
        let extended = i64::from(immediate) as u64;
        assert!(offset >= 0, "a jump backwards at {at}");
        at += 1;
        match code {
            0x61 => {
                assert_eq!((source, offset % 4), (1, 0), "only the context may be read from");
                registers[target] = Some(u64::from(context[offset as usize / 4]));
            }
            0x57 => registers[target] = Some(registers[target].unwrap() & extended),
            0x77 => registers[target] = Some(registers[target].unwrap() >> immediate),
            0xb7 => registers[target] = Some(extended),
            0xbf => registers[target] = Some(registers[source].unwrap()),
            0x16 | 0x56 => {
                let equal = registers[target].unwrap() as u32 == immediate as u32;
                if equal == (code == 0x16) {
                    at += offset as usize;
                }
            }
            0x95 => {
                let verdict = registers[0].unwrap();
                assert!(verdict <= 1);
                return verdict == 1;
            }
            other => panic!("instruction {} has code {other:#x}", at - 1),
        }
    }
}

/// What config-linux.md says, right by right.
fn model(rules: &[Rule], request: Request) -> bool {
    let matches = |rule: &&Rule| {
        rule.kind.is_none_or(|kind| kind == request.kind)
            && rule.major.is_none_or(|major| major == request.major)
            && rule.minor.is_none_or(|minor| minor == request.minor)
    };
    let granted = |right: u8| {
        rules.iter().rfind(|rule| matches(rule) && rule.access & right != 0).is_some_and(|rule| rule.allow)
    };
    [MKNOD, READ, WRITE].into_iter().filter(|right| request.rights & right != 0).all(granted)
}

/// Every request for two types and for each of these numbers, with all rights.
fn universe(numbers: &[u32]) -> Vec<Request> {
    let mut all = Vec::new();
    for kind in [Kind::Block, Kind::Char] {
        for &major in numbers {
            for &minor in numbers {
                all.extend((1..=EVERYTHING).map(|rights| request(kind, major, minor, rights)));
            }
        }
    }
    all
}

/// A small generator of numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize]
    }

    fn rule(&mut self) -> Rule {
        let numbers = [None, Some(0), Some(1), Some(2)];
        Rule {
            allow: self.roll(2) == 0,
            kind: self.pick(&[
                None,
                Some(Kind::Block),
                Some(Kind::Char),
                Some(Kind::Char),
                Some(Kind::Block),
            ]),
            major: self.pick(&numbers),
            minor: self.pick(&numbers),
            access: self.pick(&[1, 2, 3, 4, 5, 6, 7, 7, 7]),
        }
    }
}

#[test]
fn a_program_decides_every_request_as_the_rules_do() {
    let universe = universe(&[0, 1, 2, 3]);
    let mut dice = Dice(3);
    for _ in 0..500 {
        let rules: Vec<Rule> = (0..dice.roll(8)).map(|_| dice.rule()).collect();
        let program = program(&rules);
        for &request in &universe {
            assert_eq!(run(&program, request), model(&rules, request), "{request:?} by {rules:#?}");
        }
    }
}

/// cgroup v1's lists, in whose terms runc reads the rules: exceptions to a default, and of those only exactly the
/// same ones are taken back.
fn exceptions(rules: &[Rule], request: Request) -> bool {
    let mut default = false;
    let mut list: Vec<Rule> = Vec::new();
    for rule in rules {
        if rule.kind.is_none() {
            (default, list) = (rule.allow, Vec::new());
        } else if rule.allow == default {
            let same =
                |other: &Rule| (other.kind, other.major, other.minor) == (rule.kind, rule.major, rule.minor);
            list.iter_mut().filter(|other| same(other)).for_each(|other| other.access &= !rule.access);
        } else {
            list.push(*rule);
        }
    }
    let applies = |rule: &&Rule| {
        rule.kind == Some(request.kind)
            && rule.major.is_none_or(|major| major == request.major)
            && rule.minor.is_none_or(|minor| minor == request.minor)
            && rule.access & request.rights != 0
    };
    default != list.iter().any(|rule| applies(&rule))
}

#[test]
fn where_rules_of_both_kinds_only_meet_exactly_the_lists_of_v1_say_the_same() {
    let universe = universe(&[0, 1, 2, 3]);
    let mut dice = Dice(4);
    for _ in 0..500 {
        let reset =
            Rule { allow: dice.roll(2) == 0, kind: None, major: None, minor: None, access: EVERYTHING };
        // Three sets of devices that do not meet.
        let sets =
            [(Kind::Char, Some(1), None), (Kind::Char, Some(2), Some(0)), (Kind::Block, None, Some(3))];
        let mut rules = vec![reset];
        for _ in 0..dice.roll(8) {
            let (kind, major, minor) = dice.pick(&sets);
            rules.push(Rule { kind: Some(kind), major, minor, ..dice.rule() });
        }
        let program = program(&rules);
        for &request in universe.iter().filter(|request| request.rights.is_power_of_two()) {
            assert_eq!(run(&program, request), exceptions(&rules, request), "{request:?} by {rules:#?}");
        }
    }
}

/// Whether rights to a character device are granted by a configuration's list.
fn may(listed: &Value, major: u32, minor: u32, rights: u8) -> bool {
    run(&program(&rules(&parsed(listed)).unwrap()), request(Kind::Char, major, minor, rights))
}

#[test]
fn a_container_that_is_denied_everything_has_the_default_devices() {
    for listed in [json!([]), json!([{"allow": false, "access": "rwm"}]), json!([{"allow": false}])] {
        for (major, minor) in
            [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, 0), (136, 77), (10, 200)]
        {
            assert!(may(&listed, major, minor, EVERYTHING), "{major}:{minor}");
        }
        for (major, minor) in [(1, 1), (1, 11), (4, 0), (5, 1), (10, 229)] {
            assert!(!may(&listed, major, minor, READ), "{major}:{minor}");
            assert!(!may(&listed, major, minor, WRITE | MKNOD), "{major}:{minor}");
            assert!(may(&listed, major, minor, MKNOD), "{major}:{minor}");
        }
    }
}

#[test]
fn what_is_allowed_later_is_allowed_and_nothing_more() {
    let listed = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": true, "type": "c", "major": 4, "access": "r"},
        {"allow": true, "type": "b", "major": -1, "minor": -1, "access": "r"},
    ]);
    assert!(may(&listed, 10, 229, READ_WRITE));
    assert!(!may(&listed, 10, 228, READ));
    assert!(may(&listed, 4, 64, READ));
    assert!(!may(&listed, 4, 64, READ_WRITE));
    let program = program(&rules(&parsed(&listed)).unwrap());
    assert!(run(&program, request(Kind::Block, 8, 0, READ)));
    assert!(!run(&program, request(Kind::Block, 8, 0, READ_WRITE)));
    assert!(!run(&program, request(Kind::Block, 10, 229, WRITE)), "the same numbers, another device");
}

#[test]
fn everything_is_allowed_to_the_privileged() {
    for listed in [json!([{"allow": true, "access": "rwm"}]), json!([{"allow": true}])] {
        assert!(may(&listed, 1, 1, EVERYTHING));
    }
}

#[test]
fn a_hole_in_what_is_allowed_is_a_hole() {
    let listed = json!([
        {"allow": true, "access": "rwm"},
        {"allow": false, "type": "c", "major": 1, "minor": 1, "access": "w"},
        {"allow": false, "type": "c", "major": 4, "access": "rwm"},
        {"allow": true, "type": "c", "major": 4, "minor": 64, "access": "rw"},
    ]);
    assert!(may(&listed, 1, 1, READ));
    assert!(!may(&listed, 1, 1, READ_WRITE), "the half of it is denied");
    assert!(!may(&listed, 4, 65, READ));
    assert!(may(&listed, 4, 64, READ_WRITE));
    assert!(
        !may(&listed, 4, 64, MKNOD),
        "what every container may make is no reason to allow what is denied"
    );
    let allowed = json!([
        {"allow": true, "type": "c", "major": 4, "minor": 64, "access": "rw"},
        {"allow": false, "type": "c", "major": 4, "access": "w"},
        {"allow": false, "type": "c", "major": 7, "access": "m"},
    ]);
    assert!(may(&allowed, 4, 64, READ));
    assert!(!may(&allowed, 4, 64, WRITE));
    assert!(!may(&allowed, 7, 0, MKNOD));
}

#[test]
fn of_a_rule_for_all_types_the_stricter_reading_counts() {
    let narrow = json!([{"allow": true, "type": "a", "major": 4, "minor": 64, "access": "r"}]);
    assert!(may(&narrow, 4, 64, READ));
    assert!(!may(&narrow, 4, 64, WRITE));
    assert!(!may(&narrow, 4, 65, READ));
    let denial = json!([{"allow": true}, {"allow": false, "type": "a", "major": 4, "access": "r"}]);
    assert!(!may(&denial, 10, 229, WRITE));
}

#[test]
fn rights_may_come_from_several_rules() {
    let listed = json!([
        {"allow": true, "type": "c", "major": 4, "access": "r"},
        {"allow": true, "type": "c", "major": 4, "minor": 64, "access": "w"},
    ]);
    assert!(may(&listed, 4, 64, READ_WRITE));
    assert!(!may(&listed, 4, 65, READ_WRITE));
}

#[test]
fn large_numbers_are_not_taken_for_negative_ones() {
    let listed =
        json!([{"allow": true, "type": "c", "major": 4_294_967_295_u32, "minor": 2_147_483_648_u32}]);
    assert!(may(&listed, u32::MAX, 1 << 31, READ));
    assert!(!may(&listed, u32::MAX, 0, READ));
}

#[test]
fn who_asks_for_nothing_is_let_in_where_something_is_allowed() {
    // So does access(2) with F_OK.
    let rules = bare(&json!([{"allow": true, "type": "c", "major": 1, "access": "m"}]));
    for (major, wanted) in [(1, true), (2, false)] {
        assert_eq!(run(&program(&rules), request(Kind::Char, major, 3, 0)), wanted);
    }
}

#[test]
fn rules_without_meaning_are_refused_by_their_place() {
    for (rule, cause) in [
        (json!({"allow": true, "type": "p"}), "type \"p\""),
        (json!({"allow": true, "type": "u"}), "type \"u\""),
        (json!({"allow": true, "access": "rx"}), "access 'x'"),
        (json!({"allow": true, "access": ""}), "access is empty"),
        (json!({"allow": true, "type": "c", "major": -2}), "-2 is no device number"),
        (json!({"allow": true, "type": "c", "minor": 1_u64 << 32}), "4294967296 is no device number"),
    ] {
        let line = rules(&parsed(&json!([{"allow": false}, rule]))).unwrap_err();
        assert!(line.starts_with("linux.resources.devices[1]: ") && line.contains(cause), "{line}");
    }
}

#[test]
fn the_verifier_is_quoted_where_it_says_why() {
    let log = "0: (95) exit\nR0 !read_ok\nverification time 12 usec\nstack depth 0\n\
               processed 1 insns (limit 1000000) max_states_per_insn 0\n";
    assert_eq!(complaint(log), Some("R0 !read_ok"));
    assert_eq!(complaint(""), None);
}

/// The judge is the kernel's verifier, which only root may call.
#[test]
fn the_kernel_takes_the_programs() {
    if let Err(errno @ (Errno::EPERM | Errno::ENOSYS)) = load_program(&program(&[])) {
        eprintln!("nothing can be loaded here: {errno}");
        return;
    }
    let many: Vec<Rule> = (0..80).map(|n| Rule { allow: n % 3 != 0, ..char(n, Some(n)) }).collect();
    let mut dice = Dice(5);
    let mixed: Vec<Rule> = (0..80).map(|_| dice.rule()).collect();
    let listed =
        rules(&parsed(&json!([{"allow": false}, {"allow": true, "type": "b", "access": "r"}]))).unwrap();
    for rules in [vec![], many, mixed, listed] {
        let program = program(&rules);
        if let Err(errno) = load_program(&program) {
            panic!("{errno}: {}", bpf::verifier_log(&program));
        }
    }
    let nonsense = [op(EXIT, 0, 0, 0).encode()];
    assert!(bpf::load(&nonsense).is_err());
    assert!(complaint(&bpf::verifier_log(&nonsense)).is_some_and(|why| why.contains("R0")));
}

#[test]
fn what_is_left_alone_is_what_the_program_grants() {
    let listed = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "access": "r"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
        {"allow": true, "type": "b", "major": 7, "access": "rw"},
        {"allow": false, "type": "b", "major": 7, "minor": 3, "access": "w"}
    ]);
    let rules = rules(&parsed(&listed)).unwrap();
    let program = program(&rules);
    for (kind, major) in
        [(Kind::Char, 1), (Kind::Char, 10), (Kind::Block, 7), (Kind::Char, 136), (Kind::Block, 8)]
    {
        for minor in [0, 3, 229] {
            let granted = run(&program, request(kind, major, minor, READ_WRITE));
            let left = leave_alone(&rules, kind == Kind::Block, major, minor);
            assert_eq!(left, granted, "{kind:?} {major}:{minor}");
        }
    }
}
