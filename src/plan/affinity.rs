//! On which processors a process that joins a container runs (config.md, `execCPUAffinity`): on the first ones until
//! it is in the container's cgroup, on the final ones from then on. Init is none of its business.

use super::step::Op;
use crate::report::Failure;
use oci_spec::runtime::Process;

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affinity {
    /// For launch, which hands it on with the clone.
    pub initial: Option<Vec<u16>>,
    /// For the process itself.
    pub last: Option<Op>,
}

/// Decides, for a container that is kept to the processors of `kept` by its affinity, if it is.
///
/// # Errors
/// What is no list of processors, or lists some that are not the container's.
pub fn decide(process: &Process, kept: Option<&[u16]>, container: &str) -> Result<Affinity, Failure> {
    let kept_to = || kept.map(|cpus| Op::Affinity(cpus.to_vec()));
    let Some(wanted) = process.exec_cpu_affinity() else {
        return Ok(Affinity { initial: None, last: kept_to() });
    };
    let refuse = |cause: String| {
        Failure::new(
            format!("cannot choose processors in container {container}"),
            format!("process.execCPUAffinity: {cause}: invalid argument"),
        )
    };
    let list = |text: &Option<String>| {
        let text = text.as_deref().filter(|text| !text.is_empty());
        let bad =
            |text| refuse(format!("{text:?} is no list like 0-3,8")).fix("list processors by their numbers");
        text.map(|text| cpu_list(text).ok_or_else(|| bad(text))).transpose()
    };
    let (initial, last) = (list(wanted.initial())?, list(wanted.cpu_affinity_final())?);
    let beyond = last.iter().flatten().find(|cpu| kept.is_some_and(|kept| !kept.contains(cpu)));
    if let Some(cpu) = beyond {
        return Err(refuse(format!("processor {cpu} is not the container's"))
            .fix("name processors of linux.resources.cpu.cpus as final ones"));
    }
    Ok(Affinity { initial, last: last.map(Op::Affinity).or_else(kept_to) })
}

/// The processors of a list such as `0-3,8` (cpuset(7), "List format").
pub fn cpu_list(text: &str) -> Option<Vec<u16>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<u16>().ok().filter(|n| *n < 1024);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn affinity(wanted: serde_json::Value, kept: Option<&[u16]>) -> Result<Affinity, String> {
        let process = json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "execCPUAffinity": wanted});
        let process = serde_json::from_value(process).unwrap();
        decide(&process, kept, "web").map_err(|failure| failure.to_string())
    }

    #[test]
    fn lists_of_processors_are_strict() {
        assert_eq!(cpu_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cpu_list("7"), Some(vec![7]));
        for odd in ["", "a", "2-1", "0-", "-1", "0,,1", "0-99999", "1024"] {
            assert_eq!(cpu_list(odd), None, "{odd}");
        }
    }

    #[test]
    fn both_lists_may_be_left_out() {
        let last = |cpus: &[u16]| Some(Op::Affinity(cpus.to_vec()));
        assert_eq!(affinity(json!(null), None), Ok(Affinity::default()));
        assert_eq!(affinity(json!({}), Some(&[1])), Ok(Affinity { initial: None, last: last(&[1]) }));
        let both = Affinity { initial: Some(vec![0]), last: last(&[2, 3]) };
        assert_eq!(affinity(json!({"initial": "0", "final": "2-3"}), None), Ok(both));
        assert!(affinity(json!({"initial": "3-2"}), None).unwrap_err().contains("no list"));
    }

    #[test]
    fn a_container_that_is_kept_to_some_processors_is_kept_to_them() {
        let kept: &[u16] = &[1, 2];
        let within = Affinity { initial: Some(vec![7]), last: Some(Op::Affinity(vec![2])) };
        assert_eq!(affinity(json!({"initial": "7", "final": "2"}), Some(kept)), Ok(within));
        assert!(affinity(json!({"final": "2-3"}), Some(kept)).unwrap_err().contains("processor 3"));
    }
}
