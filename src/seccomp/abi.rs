//! What the filter must know of an architecture, and the number of a syscall on it.

use anyhow::{Context, Result, bail};
use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::Arch;

/// Set in the number of every x32 syscall; for the kernel, x32 is the architecture x86_64.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// An architecture as seccomp sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Abi {
    pub(super) name: &'static str,
    arch: Arch,
    scmp: ScmpArch,
    /// `AUDIT_ARCH_*`, what `seccomp_data.arch` holds.
    pub(super) token: u32,
    /// Arguments are 64 bits wide.
    pub(super) wide: bool,
    big_endian: bool,
    /// The number of the first syscall.
    pub(super) base: u32,
    multiplexers: Option<Family>,
}

/// The architectures that have socketcall(2) and ipc(2), by the numbers that their members have
/// when called directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    X86,
    S390,
    Ppc,
    MipsO32,
}

/// Where a syscall is found on an architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) direct: Option<u32>,
    /// The multiplexer and the value of its first argument.
    pub(super) behind: Option<(u32, u32)>,
}

const fn abi(
    name: &'static str,
    arch: Arch,
    scmp: ScmpArch,
    token: u32,
    wide: bool,
    big_endian: bool,
) -> Abi {
    Abi { name, arch, scmp, token, wide, big_endian, base: 0, multiplexers: None }
}

impl Abi {
    const fn base(mut self, base: u32) -> Self {
        self.base = base;
        self
    }

    const fn multiplexed(mut self, family: Family) -> Self {
        self.multiplexers = Some(family);
        self
    }
}

const NARROW: bool = false;
const WIDE: bool = true;
const LITTLE: bool = false;
const BIG: bool = true;

/// Every architecture that a profile may name: those that runc takes.
#[rustfmt::skip]
pub(super) static ABIS: [Abi; 18] = [
    abi("SCMP_ARCH_X86_64", Arch::ScmpArchX86_64, ScmpArch::X8664, 0xc000_003e, WIDE, LITTLE),
    abi("SCMP_ARCH_X86", Arch::ScmpArchX86, ScmpArch::X86, 0x4000_0003, NARROW, LITTLE).multiplexed(Family::X86),
    abi("SCMP_ARCH_X32", Arch::ScmpArchX32, ScmpArch::X32, 0xc000_003e, NARROW, LITTLE).base(X32_BIT),
    abi("SCMP_ARCH_AARCH64", Arch::ScmpArchAarch64, ScmpArch::Aarch64, 0xc000_00b7, WIDE, LITTLE),
    abi("SCMP_ARCH_ARM", Arch::ScmpArchArm, ScmpArch::Arm, 0x4000_0028, NARROW, LITTLE),
    abi("SCMP_ARCH_RISCV64", Arch::ScmpArchRiscv64, ScmpArch::Riscv64, 0xc000_00f3, WIDE, LITTLE),
    abi("SCMP_ARCH_LOONGARCH64", Arch::ScmpArchLoongarch64, ScmpArch::Loongarch64, 0xc000_0102, WIDE, LITTLE),
    abi("SCMP_ARCH_PPC64LE", Arch::ScmpArchPpc64le, ScmpArch::Ppc64Le, 0xc000_0015, WIDE, LITTLE).multiplexed(Family::Ppc),
    abi("SCMP_ARCH_PPC64", Arch::ScmpArchPpc64, ScmpArch::Ppc64, 0x8000_0015, WIDE, BIG).multiplexed(Family::Ppc),
    abi("SCMP_ARCH_PPC", Arch::ScmpArchPpc, ScmpArch::Ppc, 0x0000_0014, NARROW, BIG).multiplexed(Family::Ppc),
    abi("SCMP_ARCH_S390X", Arch::ScmpArchS390x, ScmpArch::S390X, 0x8000_0016, WIDE, BIG).multiplexed(Family::S390),
    abi("SCMP_ARCH_S390", Arch::ScmpArchS390, ScmpArch::S390, 0x0000_0016, NARROW, BIG).multiplexed(Family::S390),
    abi("SCMP_ARCH_MIPSEL", Arch::ScmpArchMipsel, ScmpArch::Mipsel, 0x4000_0008, NARROW, LITTLE).base(4000).multiplexed(Family::MipsO32),
    abi("SCMP_ARCH_MIPSEL64", Arch::ScmpArchMipsel64, ScmpArch::Mipsel64, 0xc000_0008, WIDE, LITTLE).base(5000),
    abi("SCMP_ARCH_MIPSEL64N32", Arch::ScmpArchMipsel64n32, ScmpArch::Mipsel64N32, 0xe000_0008, NARROW, LITTLE).base(6000),
    abi("SCMP_ARCH_MIPS", Arch::ScmpArchMips, ScmpArch::Mips, 0x0000_0008, NARROW, BIG).base(4000).multiplexed(Family::MipsO32),
    abi("SCMP_ARCH_MIPS64", Arch::ScmpArchMips64, ScmpArch::Mips64, 0x8000_0008, WIDE, BIG).base(5000),
    abi("SCMP_ARCH_MIPS64N32", Arch::ScmpArchMips64n32, ScmpArch::Mips64N32, 0xa000_0008, NARROW, BIG).base(6000),
];

/// Younger than the libseccomp of Debian 12, which is the oldest that we link. Since Linux 5.1 a
/// new syscall has one number on all architectures, counted from the first of each.
const NEWER: [(&str, u32); 21] = [
    ("cachestat", 451),
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("statmount", 457),
    ("listmount", 458),
    ("lsm_get_self_attr", 459),
    ("lsm_set_self_attr", 460),
    ("lsm_list_modules", 461),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", 466),
    ("open_tree_attr", 467),
    ("file_getattr", 468),
    ("file_setattr", 469),
    ("listns", 470),
    ("rseq_slice_yield", 471),
];

impl Abi {
    /// The architecture that this program runs on.
    pub(super) fn native() -> Result<&'static Abi> {
        let native = ScmpArch::native();
        ABIS.iter()
            .find(|abi| abi.scmp == native)
            .with_context(|| format!("linux.seccomp: the architecture {native:?} is not supported"))
    }

    /// The architecture that a profile names; refused where no filter could serve it.
    pub(super) fn find(arch: Arch) -> Result<&'static Abi> {
        if arch == Arch::ScmpArchNative {
            return Self::native();
        }
        let Some(abi) = ABIS.iter().find(|abi| abi.arch == arch) else {
            bail!("linux.seccomp: string {arch} is not a valid arch for seccomp");
        };
        if abi.big_endian != cfg!(target_endian = "big") {
            bail!(
                "linux.seccomp: cannot add the architecture {}: \
                 its byte order is not this machine's; fix: remove it",
                abi.name
            );
        }
        // getpid is a syscall everywhere: that it has no number is libseccomp's age
        if ScmpSyscall::from_name_by_arch("getpid", abi.scmp).is_err() {
            bail!("linux.seccomp: the linked libseccomp does not know the architecture {}", abi.name);
        }
        Ok(abi)
    }

    /// Whether a profile may name it on this machine.
    pub(super) fn is_taken(&self) -> bool {
        Self::find(self.arch).is_ok()
    }

    /// Where `name` is found; nowhere, if this architecture has no such syscall or nobody knows it.
    pub(super) fn numbers(&self, name: &str) -> Numbers {
        // libseccomp answers a pseudo number for a member of a multiplexer, so these are asked
        // for here
        if let Some(family) = self.multiplexers {
            if let Some((call, index)) = member(name) {
                let gate = match call {
                    Multiplexer::Socketcall => 102,
                    Multiplexer::Ipc => 117,
                };
                return Numbers {
                    direct: family.direct(name, self.wide).map(|number| self.base + number),
                    behind: Some((self.base + gate, index)),
                };
            }
        }
        let direct = match ScmpSyscall::from_name_by_arch(name, self.scmp) {
            // negative: known on other architectures
            Ok(syscall) => u32::try_from(syscall.as_raw_syscall()).ok(),
            Err(_) => NEWER.iter().find(|(newer, _)| *newer == name).map(|(_, number)| self.base + number),
        };
        Numbers { direct, behind: None }
    }

    /// Whether there is a call of this name, here or on another architecture.
    pub(super) fn knows(&self, name: &str) -> bool {
        ScmpSyscall::from_name_by_arch(name, self.scmp).is_ok()
            || NEWER.iter().any(|(newer, _)| *newer == name)
    }

    /// A multiplexer of this architecture, named as itself.
    pub(super) fn is_multiplexer(&self, name: &str) -> bool {
        self.multiplexers.is_some() && matches!(name, "socketcall" | "ipc")
    }

    /// s390 passes a number that does not fit into an instruction by way of number 0, and a number
    /// that the kernel does not know stays 0. Nobody calls setup(2), the real number 0, any more.
    pub(super) fn unknown_is_zero(&self) -> bool {
        self.multiplexers == Some(Family::S390)
    }
}

#[derive(Clone, Copy)]
enum Multiplexer {
    Socketcall,
    Ipc,
}

/// The number of a member behind its multiplexer: `SYS_*` of linux/net.h, and linux/ipc.h.
fn member(name: &str) -> Option<(Multiplexer, u32)> {
    use Multiplexer::{Ipc, Socketcall};
    Some(match name {
        "socket" => (Socketcall, 1),
        "bind" => (Socketcall, 2),
        "connect" => (Socketcall, 3),
        "listen" => (Socketcall, 4),
        "accept" => (Socketcall, 5),
        "getsockname" => (Socketcall, 6),
        "getpeername" => (Socketcall, 7),
        "socketpair" => (Socketcall, 8),
        "send" => (Socketcall, 9),
        "recv" => (Socketcall, 10),
        "sendto" => (Socketcall, 11),
        "recvfrom" => (Socketcall, 12),
        "shutdown" => (Socketcall, 13),
        "setsockopt" => (Socketcall, 14),
        "getsockopt" => (Socketcall, 15),
        "sendmsg" => (Socketcall, 16),
        "recvmsg" => (Socketcall, 17),
        "accept4" => (Socketcall, 18),
        "recvmmsg" => (Socketcall, 19),
        "sendmmsg" => (Socketcall, 20),
        "semop" => (Ipc, 1),
        "semget" => (Ipc, 2),
        "semctl" => (Ipc, 3),
        "semtimedop" => (Ipc, 4),
        "msgsnd" => (Ipc, 11),
        "msgrcv" => (Ipc, 12),
        "msgget" => (Ipc, 13),
        "msgctl" => (Ipc, 14),
        "shmat" => (Ipc, 21),
        "shmdt" => (Ipc, 22),
        "shmget" => (Ipc, 23),
        "shmctl" => (Ipc, 24),
        _ => return None,
    })
}

impl Family {
    /// The direct number of a member, which came to these architectures long after the multiplexer.
    fn direct(self, name: &str, wide: bool) -> Option<u32> {
        use Family::{MipsO32, Ppc, S390, X86};
        // System V IPC got one set of numbers for all in Linux 5.1
        let number = match name {
            "semget" => return Some(393),
            "semctl" => return Some(394),
            "shmget" => return Some(395),
            "shmctl" => return Some(396),
            "shmat" => return Some(397),
            "shmdt" => return Some(398),
            "msgget" => return Some(399),
            "msgsnd" => return Some(400),
            "msgrcv" => return Some(401),
            "msgctl" => return Some(402),
            // 32-bit architectures got it with a 64-bit time only, by another name
            "semtimedop" => return wide.then_some(392),
            "socket" => [359, 359, 326, 183],
            "socketpair" => [360, 360, 333, 184],
            "bind" => [361, 361, 327, 169],
            "connect" => [362, 362, 328, 170],
            "listen" => [363, 363, 329, 174],
            "accept4" => [364, 364, 344, 334],
            "getsockopt" => [365, 365, 340, 173],
            "setsockopt" => [366, 366, 339, 181],
            "getsockname" => [367, 367, 331, 172],
            "getpeername" => [368, 368, 332, 171],
            "sendto" => [369, 369, 335, 180],
            "sendmsg" => [370, 370, 341, 179],
            "recvfrom" => [371, 371, 337, 176],
            "recvmsg" => [372, 372, 342, 177],
            "shutdown" => [373, 373, 338, 182],
            "recvmmsg" => [337, 357, 343, 335],
            "sendmmsg" => [345, 358, 349, 343],
            "accept" => [0, 0, 330, 168],
            "send" => [0, 0, 334, 178],
            "recv" => [0, 0, 336, 175],
            _ => return None,
        };
        let number = match self {
            X86 => number[0],
            S390 => number[1],
            Ppc => number[2],
            MipsO32 => number[3],
        };
        (number != 0).then_some(number)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn abi(name: &str) -> &'static Abi {
        ABIS.iter().find(|abi| abi.name == name).unwrap()
    }

    #[test]
    fn every_architecture_is_named_and_numbered_as_the_spec_crate_has_it() {
        for abi in &ABIS {
            assert_eq!(serde_json::to_value(abi.arch).unwrap(), abi.name, "the JSON word of {abi:?}");
            assert_eq!(abi.name.parse::<ScmpArch>().unwrap(), abi.scmp);
            // libseccomp tells x32 from x86_64 by a made-up token
            if abi.name != "SCMP_ARCH_X32" {
                assert_eq!(abi.token, abi.arch as u32, "{}", abi.name);
            }
        }
    }

    #[test]
    fn direct_numbers_of_multiplexed_syscalls_are_those_that_libseccomp_names() {
        for name in
            ["SCMP_ARCH_X86", "SCMP_ARCH_S390", "SCMP_ARCH_S390X", "SCMP_ARCH_PPC", "SCMP_ARCH_PPC64LE"]
        {
            let abi = abi(name);
            for number in 0..500 {
                let Ok(syscall) = ScmpSyscall::from(number).get_name_by_arch(abi.scmp) else {
                    continue;
                };
                if member(&syscall).is_some() {
                    assert_eq!(abi.numbers(&syscall).direct, Some(number as u32), "{syscall} on {name}");
                }
            }
        }
    }

    #[test]
    fn members_stand_behind_the_multiplexer_where_libseccomp_has_them() {
        let x86 = abi("SCMP_ARCH_X86");
        for pseudo in (-120..=-101).chain(-224..=-201) {
            let Ok(name) = ScmpSyscall::from(pseudo).get_name_by_arch(ScmpArch::X86) else {
                continue;
            };
            let (gate, index) = x86.numbers(&name).behind.unwrap();
            assert_eq!(pseudo.unsigned_abs(), if gate == 102 { 100 } else { 200 } + index, "{name}");
        }
        assert_eq!(abi("SCMP_ARCH_X86_64").numbers("socket").behind, None);
        assert_eq!(abi("SCMP_ARCH_X86_64").numbers("socket").direct, Some(41));
        assert_eq!(x86.numbers("socketcall").direct, Some(102));
        assert_eq!(x86.numbers("ipc").direct, Some(117));
    }

    #[test]
    fn syscalls_younger_than_libseccomp_are_known_by_number() {
        for (name, number) in NEWER {
            for abi in &ABIS {
                // a libseccomp that knows the name has the last word, and must not contradict
                let numbers = abi.numbers(name);
                if let Some(direct) = numbers.direct {
                    assert_eq!(direct, abi.base + number, "{name} on {}", abi.name);
                }
            }
            assert!(abi("SCMP_ARCH_X86_64").numbers(name).direct.is_some());
        }
        assert_eq!(abi("SCMP_ARCH_X32").numbers("mseal").direct, Some(X32_BIT | 462));
    }

    #[test]
    fn a_name_that_nobody_knows_and_one_of_another_architecture_have_no_number() {
        for name in ["no_such_call", "a\0b", &"x".repeat(300)] {
            assert_eq!(abi("SCMP_ARCH_X86_64").numbers(name), Numbers::default());
        }
        assert_eq!(abi("SCMP_ARCH_X86_64").numbers("waitpid"), Numbers::default());
        assert_eq!(abi("SCMP_ARCH_X86").numbers("waitpid").direct, Some(7));
    }
}
