//! How SELinux is to see what is mounted (config-linux.md, "Mount Label").
//!
//! A new file system takes its label as an option (`context=`, mount(8)); message queues take none, and get it as an
//! attribute of their root. The kernel's own file systems keep the labels that the policy gives them, and so does
//! what is only shown: its files are the host's.

use super::c;
use super::degrade::Degradation;
use crate::host::Facts;
use crate::report::Failure;
use std::ffi::CString;

/// The label, and the option that gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLabel {
    option: &'static str,
    label: String,
}

/// How a file system gets the label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    Option(CString, CString),
    Attribute(CString),
    /// Not at all.
    None,
}

/// What mount(8) knows for it.
pub const OPTIONS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// crun's annotation for which of them it is to be.
const TYPE: &str = "run.oci.mount_context_type";

/// Decides.
///
/// # Errors
/// An option that is none for labels.
pub fn decide(
    label: Option<&str>,
    annotation: impl Fn(&str) -> Option<String>,
    facts: &Facts,
    container: &str,
    degradations: &mut Vec<Degradation>,
) -> Result<Option<MountLabel>, Failure> {
    let Some(label) = label.filter(|label| !label.is_empty()) else { return Ok(None) };
    let wanted = annotation(TYPE).unwrap_or_else(|| OPTIONS[0].into());
    let option = OPTIONS.into_iter().find(|option| *option == wanted).ok_or_else(|| {
        Failure::new(
            format!("cannot label the mounts of container {container}"),
            format!("annotation {TYPE}: {wanted:?} is not a kind of label: invalid argument"),
        )
        .fix(format!("use one of {}", OPTIONS.join(", ")))
    })?;
    if !facts.lsm.selinux {
        degradations.push(no_label(format!("the SELinux label {label} for what is mounted")));
        return Ok(None);
    }
    Ok(Some(MountLabel { option, label: label.into() }))
}

/// A host without SELinux has nobody who would look at a label, of a mount or of a process.
pub fn no_label(wanted: String) -> Degradation {
    Degradation::weaker("LSM-SELINUX", wanted, "no label", "SELinux is not enabled on this host")
        .fix("remove process.selinuxLabel and linux.mountLabel, or enable SELinux")
}

impl MountLabel {
    /// How a file system of this type gets it.
    ///
    /// # Errors
    /// A label with a zero byte.
    pub fn way(&self, fstype: &str, act: impl Fn() -> String) -> Result<Way, Failure> {
        let label = c(&self.label, &act)?;
        Ok(match fstype {
            "proc" | "sysfs" | "cgroup" | "cgroup2" => Way::None,
            "mqueue" => Way::Attribute(label),
            _ => Way::Option(c(self.option, &act)?, label),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_system_gets_the_label_in_its_own_way() {
        let label = MountLabel { option: "context", label: "a:b:c:s0:c1,c2".into() };
        let way = |fstype| label.way(fstype, || "cannot".into()).unwrap();
        let text = || c"a:b:c:s0:c1,c2".into();
        assert_eq!(way("tmpfs"), Way::Option(c"context".into(), text()));
        assert_eq!(way("mqueue"), Way::Attribute(text()));
        assert_eq!(way("proc"), Way::None);
    }
}
