//! Runs a filter as the kernel does, and refuses what the kernel refuses to load.

#![allow(clippy::unwrap_used)]

use super::program::INSTRUCTION;

/// `struct seccomp_data`, less the instruction pointer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) token: u32,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
}

pub(super) struct Loaded(Vec<(u16, u8, u8, u32)>);

/// Takes the bytes apart, and checks them as seccomp_check_filter and bpf_check_classic do.
pub(super) fn load(bytes: &[u8]) -> Loaded {
    assert_eq!(bytes.len() % INSTRUCTION, 0, "cut within an instruction");
    let program: Vec<_> = bytes
        .chunks_exact(INSTRUCTION)
        .map(|i| (u16::from_ne_bytes([i[0], i[1]]), i[2], i[3], u32::from_ne_bytes([i[4], i[5], i[6], i[7]])))
        .collect();
    assert!((1..=4096).contains(&program.len()), "{}", program.len());
    for (at, (code, if_true, if_false, k)) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        match code {
            // LD ABS W: within struct seccomp_data, aligned
            0x20 => assert!(*k < 64 && k % 4 == 0, "instruction {at} loads from {k}"),
            // JA
            0x05 => assert!((*k as usize) < left, "instruction {at} jumps past the end"),
            // JEQ, JGT, JGE, JSET with K
            0x15 | 0x25 | 0x35 | 0x45 => assert!(
                usize::from(*if_true) < left && usize::from(*if_false) < left,
                "instruction {at} jumps past the end"
            ),
            // AND K, RET K
            0x54 | 0x06 => {}
            other => panic!("instruction {at} has code {other:#x}"),
        }
    }
    assert_eq!(program.last().unwrap().0, 0x06, "no return at the end");
    Loaded(program)
}

impl Loaded {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// After the comparison of the architecture comes something that is neither the load of the
    /// number nor a return.
    pub(super) fn forgets_the_number(&self, token: u32) -> bool {
        let is_comparison = |(code, _, _, k): &(u16, u8, u8, u32)| *code == 0x15 && *k == token;
        let comparison = self.0.iter().position(is_comparison);
        comparison.is_some_and(|at| {
            let (code, _, _, k) = self.0[at + 1 + usize::from(self.0[at].1)];
            !matches!((code, k), (0x20, 0) | (0x06, _))
        })
    }

    pub(super) fn run(&self, call: Call) -> u32 {
        self.trace(call).0
    }

    /// What the call gets, and how many instructions that took.
    pub(super) fn trace(&self, call: Call) -> (u32, usize) {
        let mut a = 0;
        let mut at = 0;
        let mut steps = 0;
        loop {
            let (code, if_true, if_false, k) = self.0[at];
            at += 1;
            steps += 1;
            let jump = |condition: bool| usize::from(if condition { if_true } else { if_false });
            match code {
                0x20 => a = call.word(k),
                0x54 => a &= k,
                0x05 => at += k as usize,
                0x15 => at += jump(a == k),
                0x25 => at += jump(a > k),
                0x35 => at += jump(a >= k),
                0x45 => at += jump(a & k != 0),
                0x06 => return (k, steps),
                _ => unreachable!("checked by load"),
            }
        }
    }
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let mut data = [0; 64];
        data[0..4].copy_from_slice(&self.number.to_ne_bytes());
        data[4..8].copy_from_slice(&self.token.to_ne_bytes());
        for (index, argument) in self.arguments.iter().enumerate() {
            data[16 + 8 * index..][..8].copy_from_slice(&argument.to_ne_bytes());
        }
        let at = offset as usize;
        u32::from_ne_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]])
    }
}
