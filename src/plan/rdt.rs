//! Which share of the processor's caches and memory bandwidth the container gets (config-linux.md, "IntelRdt").
//!
//! A *class of service* is a directory of resctrl. One that the configuration names (`closID`) is the administrator's:
//! what is there already has to be what is asked for, and nothing of it is removed. Without a name the container gets
//! one of its own, called as it is, which goes with it; so does a group that only counts (`mon_groups`).

use crate::host::Facts;
use crate::report::Failure;
use oci_spec::runtime::{Linux, LinuxIntelRdt};
use std::path::PathBuf;

/// The class of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rdt {
    /// Its directory.
    pub class: PathBuf,
    pub origin: Origin,
    /// Lines for its `schemata`, in their order.
    pub schemata: Vec<String>,
    /// The directory of the group that counts.
    pub monitor: Option<PathBuf>,
}

/// Whose the class is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The container's own: made with it, removed with it.
    Own,
    /// A named one, which is made where it is missing, and has to be as asked for where it is not.
    Named,
    /// A named one that has to be there.
    Present,
}

/// Decides; `None` where nothing is asked for.
///
/// # Errors
/// `RDT` for who is not root of the machine and where there is no resctrl; what makes no sense.
pub fn decide(linux: &Linux, container: &str, facts: &Facts) -> Result<Option<Rdt>, Failure> {
    let Some(asked) = linux.intel_rdt() else { return Ok(None) };
    let refuse = |cause: String| {
        Failure::new(format!("cannot share out caches and memory bandwidth to container {container}"), cause)
    };
    let (own, schemata) = sensible(asked, container)
        .map_err(|cause| refuse(format!("linux.intelRdt: {cause}: invalid argument")))?;
    if !facts.is_host_root() {
        return Err(refuse("linux.intelRdt takes root of the machine: operation not permitted".into())
            .code("RDT")
            .fix("run bryo as root, or remove linux.intelRdt"));
    }
    let Some(root) = &facts.resctrl else {
        return Err(refuse("no resctrl file system is mounted: operation not supported".into())
            .code("RDT")
            .fix("mount -t resctrl resctrl /sys/fs/resctrl on a processor that has it, or remove linux.intelRdt"));
    };
    let class = match asked.clos_id().as_deref() {
        Some("/") => root.clone(),
        Some(name) if !own => root.join(name),
        _ => root.join(container),
    };
    let origin = match (own, schemata.is_empty()) {
        (true, _) => Origin::Own,
        (false, false) => Origin::Named,
        (false, true) => Origin::Present,
    };
    let monitor =
        (asked.enable_monitoring() == &Some(true)).then(|| class.join("mon_groups").join(container));
    Ok(Some(Rdt { class, origin, schemata, monitor }))
}

/// Whether the class is the container's own, and the lines of its schemata.
fn sensible(asked: &LinuxIntelRdt, container: &str) -> Result<(bool, Vec<String>), String> {
    let named = asked.clos_id().as_deref().filter(|name| !name.is_empty());
    if let Some(name) = named.filter(|name| *name != "/") {
        // A name of resctrl's own would be a directory that is no class.
        if name.contains('/') || [".", "..", "info", "mon_groups", "mon_data"].contains(&name) {
            return Err(format!("{name:?} is no closID"));
        }
    }
    if named.is_none() && ["info", "mon_groups", "mon_data"].contains(&container) {
        return Err(format!("{container:?} is no name for a class, name another one by closID"));
    }
    let lines = [asked.l3_cache_schema(), asked.mem_bw_schema()].into_iter().flatten();
    let lines: Vec<String> = lines.chain(asked.schemata().iter().flatten()).cloned().collect();
    if let Some(line) = lines.iter().find(|line| line.is_empty() || line.contains('\n')) {
        return Err(format!("{line:?} is no line of schemata"));
    }
    match asked.mem_bw_schema() {
        Some(line) if !line.starts_with("MB:") => {
            Err(format!("memBwSchema {line:?} does not begin with MB:"))
        }
        _ => Ok((named.is_none(), lines)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sensible_of(asked: serde_json::Value) -> Result<(bool, Vec<String>), String> {
        sensible(&serde_json::from_value(asked).unwrap(), "web")
    }

    #[test]
    fn lines_are_written_in_the_order_of_the_specification() {
        let asked = json!({
            "closID": "guaranteed", "schemata": ["L2:0=f"], "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=7f0",
        });
        let lines = ["L3:0=7f0", "MB:0=20", "L2:0=f"].map(str::to_string).to_vec();
        assert_eq!(sensible_of(asked), Ok((false, lines)));
        assert_eq!(sensible_of(json!({ "closID": "" })), Ok((true, vec![])));
    }

    #[test]
    fn what_would_leave_its_class_or_its_line_is_refused() {
        for bad in [
            json!({ "closID": "a/b" }),
            json!({ "closID": ".." }),
            json!({ "closID": "info" }),
            json!({ "memBwSchema": "L3:0=f" }),
            json!({ "schemata": ["MB:0=20\nL3:0=f"] }),
            json!({ "l3CacheSchema": "L3:0=f\n" }),
        ] {
            assert!(sensible_of(bad.clone()).is_err(), "{bad}");
        }
    }
}
