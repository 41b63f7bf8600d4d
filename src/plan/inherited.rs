//! What the processes of a container have from its init, each from its parent: those that join it from outside
//! have to be given the same.

use super::limits::convert::bits;
use super::step::{MemoryPolicy, Op, Step};
use crate::report::Failure;
use oci_spec::runtime::{Linux, LinuxMemoryPolicy, LinuxPersonalityDomain};
use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// For personality(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
}

/// What a mode has to say about nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nodes {
    None,
    Some,
    Any,
}

/// The modes of the specification, with their numbers (include/uapi/linux/mempolicy.h).
const MODES: [(&str, u32, Nodes); 7] = [
    ("MPOL_DEFAULT", 0, Nodes::None),
    ("MPOL_PREFERRED", 1, Nodes::Any),
    ("MPOL_BIND", 2, Nodes::Some),
    ("MPOL_INTERLEAVE", 3, Nodes::Some),
    ("MPOL_LOCAL", 4, Nodes::None),
    ("MPOL_PREFERRED_MANY", 5, Nodes::Some),
    ("MPOL_WEIGHTED_INTERLEAVE", 6, Nodes::Some),
];

const FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_STATIC_NODES", 1 << 15),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
];

/// The names of the modes and of the flags that a kernel takes, for `features`. It is asked with the list of the
/// nodes that the caller may use, as /proc/self/status has it: what it thinks of a mode it tells only with those.
pub fn memory_policies(
    nodes: &str,
    takes: impl Fn(&MemoryPolicy) -> bool,
) -> (Vec<&'static str>, Vec<&'static str>) {
    let all = bits(nodes).map(|bytes| words(&bytes)).unwrap_or_default();
    let takes = |mode: u32, wants: Nodes| {
        let nodes = if wants == Nodes::Some { all.clone() } else { Vec::new() };
        takes(&MemoryPolicy { mode, nodes })
    };
    let modes = MODES.into_iter().filter(|(_, mode, wants)| takes(*mode, *wants));
    let bind = MODES[2].1;
    let flags = FLAGS.into_iter().filter(|(_, flag)| takes(bind | flag, Nodes::Some));
    (modes.map(|(name, ..)| name).collect(), flags.map(|(name, _)| name).collect())
}

/// Decides.
///
/// # Errors
/// What makes no sense.
pub fn decide(linux: &Linux, container: &str) -> Result<Inherited, Failure> {
    let memory_policy = linux.memory_policy().as_ref().map(memory_policy).transpose().map_err(|cause| {
        Failure::new(
            format!("cannot set the memory policy of container {container}"),
            format!("{cause}: invalid argument"),
        )
        .fix("see set_mempolicy(2) for what linux.memoryPolicy may be")
    })?;
    Ok(Inherited { personality: personality(linux, container)?, memory_policy })
}

impl Inherited {
    /// How a process comes by it.
    pub fn steps(&self) -> Vec<Step> {
        let personality = self.personality.map(|personality| Op::Personality(personality).into());
        let memory_policy = self.memory_policy.clone().map(|policy| Op::MemoryPolicy(policy).into());
        personality.into_iter().chain(memory_policy).collect()
    }
}

/// config-linux.md, "Personality".
fn personality(linux: &Linux, container: &str) -> Result<Option<u32>, Failure> {
    // Those of personality(2).
    const PER_LINUX: u32 = 0;
    const PER_LINUX32: u32 = 8;
    let Some(wanted) = linux.personality() else { return Ok(None) };
    // The specification knows none; some would weaken the container (ADDR_NO_RANDOMIZE).
    if let Some(flag) = wanted.flags().iter().flatten().next() {
        return Err(Failure::new(
            format!("cannot set the personality of container {container}"),
            format!("flag {flag:?} is not known: invalid argument"),
        )
        .fix("remove linux.personality.flags"));
    }
    Ok(Some(match wanted.domain() {
        LinuxPersonalityDomain::PerLinux => PER_LINUX,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    }))
}

/// config-linux.md, "Memory policy", with the rules of set_mempolicy(2) that a host need not be asked for.
fn memory_policy(wanted: &LinuxMemoryPolicy) -> Result<MemoryPolicy, String> {
    let name = wanted.mode().to_string();
    let (_, mode, takes) = MODES
        .into_iter()
        .find(|(known, ..)| *known == name)
        .ok_or_else(|| format!("invalid memory policy mode {name}"))?;
    let list = wanted.nodes().as_deref().unwrap_or_default();
    let nodes = if list.is_empty() {
        Vec::new()
    } else {
        words(&bits(list).map_err(|cause| format!("invalid memory policy nodes: {cause}"))?)
    };
    match takes {
        Nodes::None if !nodes.is_empty() => {
            let got: u32 = nodes.iter().map(|word| word.count_ones()).sum();
            return Err(format!("{name} takes no nodes: mode requires 0 nodes but got {got}"));
        }
        Nodes::Some if nodes.is_empty() => return Err(format!("{name} takes nodes, and has none")),
        _ => {}
    }
    let mut flags = 0;
    for flag in wanted.flags().iter().flatten() {
        let flag = flag.to_string();
        let (_, bit) = FLAGS
            .into_iter()
            .find(|(known, _)| *known == flag)
            .ok_or_else(|| format!("invalid memory policy flag {flag}"))?;
        flags |= bit;
    }
    Ok(MemoryPolicy { mode: mode | flags, nodes })
}

/// A bitmask as the kernel reads it.
fn words(bytes: &[u8]) -> Vec<u64> {
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    };
    bytes.chunks(8).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(wanted: serde_json::Value) -> Result<MemoryPolicy, String> {
        memory_policy(&serde_json::from_value(wanted).unwrap())
    }

    #[test]
    fn every_mode_and_flag_of_the_specification_has_its_number() {
        for (name, number, takes) in MODES {
            let nodes = if takes == Nodes::None { "" } else { "0-1,65" };
            let found = policy(serde_json::json!({"mode": name, "nodes": nodes})).unwrap();
            let mask: &[u64] = if takes == Nodes::None { &[] } else { &[3, 2] };
            assert_eq!((found.mode, &found.nodes[..]), (number, mask), "{name}");
        }
        let flags: Vec<_> = FLAGS.iter().map(|(name, _)| name).collect();
        let found = policy(serde_json::json!({"mode": "MPOL_BIND", "nodes": "63", "flags": flags})).unwrap();
        assert_eq!(found, MemoryPolicy { mode: 2 | 0b111 << 13, nodes: vec![1 << 63] });
    }

    #[test]
    fn a_mode_has_the_nodes_that_it_takes() {
        for (mode, nodes, word) in [
            ("MPOL_LOCAL", "0", "takes no nodes"),
            ("MPOL_DEFAULT", "0-3", "takes no nodes"),
            ("MPOL_BIND", "", "takes nodes"),
            ("MPOL_INTERLEAVE", "3-1", "no list"),
            ("MPOL_INTERLEAVE", "x", "no list"),
        ] {
            let error = policy(serde_json::json!({"mode": mode, "nodes": nodes})).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(policy(serde_json::json!({"mode": "MPOL_PREFERRED"})).is_ok());
    }

    #[test]
    fn the_modes_and_flags_are_those_that_the_kernel_takes() {
        // As Linux 5.15 with nodes 0 and 2, without the flag of a later one.
        let old = |policy: &MemoryPolicy| {
            let takes_nodes = ![0, 1, 4].contains(&(policy.mode & 7));
            assert_eq!(policy.nodes, if takes_nodes { vec![5] } else { vec![] }, "{policy:?}");
            policy.mode & 7 != 6 && policy.mode & (1 << 13) == 0
        };
        let (modes, flags) = memory_policies("0,2", old);
        assert_eq!(modes.len(), 6);
        assert!(!modes.contains(&"MPOL_WEIGHTED_INTERLEAVE"), "{modes:?}");
        assert_eq!(flags, ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]);
        assert_eq!(memory_policies("0", |_| false), (vec![], vec![]));
    }
}
