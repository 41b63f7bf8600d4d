//! What becomes of a container where no new proc may be mounted ([`crate::host::proc`]), if its caller would rather
//! have it by less than not at all: `--degrade=proc`.
//!
//! All that is left then is to show the proc that is there, as it is masked. It shows the pid namespace of whoever
//! mounted it, and to a process in one below, /proc/self and /proc/PID lead nowhere: so the container goes without a
//! pid namespace of its own as well. It then has what every container has whose configuration asks for no pid
//! namespace, and is started, listed and killed as one:
//!
//! - It sees which processes there are beside it, and may signal those that run as its ids on the outside.
//! - It does not get at them. What /proc/PID has of a process that is not the container's own - its memory, its
//!   descriptors, its root - takes the rights of ptrace(2) in the user namespace of *that process*. This is what keeps
//!   the container in, and so there is no sharing without a user namespace of its own: /proc/1/root would be its way
//!   out, and the refusal stands.
//! - The processes of bryo that are in its user namespace cannot be looked into either (`PR_SET_DUMPABLE`), and helpers
//!   for which that does not hold are not used or stay outside of it (`is_new(CLONE_NEWPID)` in `layers` and `network`).
//! - What is masked stays masked, since the mounts come along and are locked; what the configuration has masked or
//!   read-only is so on top of it.

use super::degrade::{Allowance, Degradation, Policy};
use super::namespaces::Namespaces;
use super::options;
use crate::host::proc::{Tried, Wanted};
use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use std::ffi::CString;

/// The way to a proc of the container's own, for those who run the outer container.
pub const UNMASK: &str = "unmask /proc of the outer container: docker --security-opt systempaths=unconfined, podman --security-opt unmask=ALL, Kubernetes procMount: Unmasked";

/// The proc to try to mount before anything is decided: that of the configuration, where the caller would do without
/// and a pid namespace is there to be given up for it.
pub fn wanted(spec: &Spec, degrade: &Policy) -> Option<Wanted> {
    if !degrade.allows(Allowance::Proc) {
        return None;
    }
    let mut listed = spec.linux().as_ref()?.namespaces().iter().flatten();
    listed.find(|namespace| namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none())?;
    let mut mounts = spec.mounts().iter().flatten();
    let mount = mounts.find(|mount| mount.typ().as_deref() == Some("proc"))?;
    // What makes no sense is refused where it is planned.
    let options = options::parse(mount.options().as_deref().unwrap_or_default()).ok()?;
    let c = |text: String| CString::new(text).ok();
    let data = options.data.into_iter().map(|(key, value)| {
        let value = value.map(c);
        Some((c(key)?, value.map_or(Some(None), |value| value.map(Some))?))
    });
    Some(Wanted { attributes: options.properties.own.set, options: data.collect::<Option<_>>()? })
}

/// Gives up the pid namespace, if there is no other way to a proc and it keeps the container in all the same.
pub fn decide(namespaces: &mut Namespaces, tried: Tried, degradations: &mut Vec<Degradation>) {
    let own = |kind| namespaces.is_new(kind);
    let kept_in = own(CloneFlags::CLONE_NEWUSER) && own(CloneFlags::CLONE_NEWNS);
    if tried != Tried::Refused || !kept_in || !own(CloneFlags::CLONE_NEWPID) {
        return;
    }
    namespaces.at_clone.remove(CloneFlags::CLONE_NEWPID);
    degradations.push(
        Degradation::allowed(
            "PROC-MASKED",
            "a proc and a pid namespace of the container's own",
            "those of the outer container, whose processes it sees and may signal",
            "parts of /proc are masked, so no new one may be mounted",
        )
        .fix(UNMASK),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(options: &[&str], pid: serde_json::Value) -> Spec {
        serde_json::from_value(json!({
            "ociVersion": "1.2.0",
            "mounts": [
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
                { "destination": "/proc", "type": "proc", "source": "proc", "options": options },
            ],
            "linux": { "namespaces": [{ "type": "mount" }, pid] },
        }))
        .unwrap()
    }

    #[test]
    fn a_proc_is_tried_for_who_would_do_without_alone() {
        let new = json!({ "type": "pid" });
        let allowed = Policy::parse("proc").unwrap();
        let wanted = |policy, pid: &_| wanted(&spec(&["nosuid", "ro", "hidepid=2"], json!(pid)), policy);
        let tried = wanted(&allowed, &new).unwrap();
        assert_eq!(tried.attributes, crate::sys::mount::ATTR_NOSUID | crate::sys::mount::ATTR_RDONLY);
        assert_eq!(tried.options, [(c"hidepid".to_owned(), Some(c"2".to_owned()))]);
        let other = Policy::parse("limits").unwrap();
        assert_eq!(wanted(&other, &new), None);
        assert_eq!(wanted(&allowed, &json!({ "type": "pid", "path": "/proc/1/ns/pid" })), None);
        assert_eq!(wanted(&allowed, &json!({ "type": "uts" })), None);
    }

    #[test]
    fn the_pid_namespace_is_given_up_where_a_user_namespace_keeps_the_container_in() {
        let all = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID;
        let after = |at_clone, tried| {
            let by_init = CloneFlags::CLONE_NEWNS;
            let mut namespaces = Namespaces { at_clone, by_init, joined: Vec::new(), time_offsets: None };
            let mut degradations = Vec::new();
            decide(&mut namespaces, tried, &mut degradations);
            assert_eq!(degradations.is_empty(), namespaces.at_clone == at_clone);
            namespaces.at_clone
        };
        assert_eq!(after(all, Tried::Refused), CloneFlags::CLONE_NEWUSER);
        assert_eq!(after(all, Tried::Mounted), all);
        assert_eq!(after(all, Tried::Not), all);
        assert_eq!(after(CloneFlags::CLONE_NEWPID, Tried::Refused), CloneFlags::CLONE_NEWPID);
        assert_eq!(after(CloneFlags::CLONE_NEWUSER, Tried::Refused), CloneFlags::CLONE_NEWUSER);
    }
}
