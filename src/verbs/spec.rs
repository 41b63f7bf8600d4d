//! `spec` and `features`: what a configuration looks like, and what bryo makes of one.

use super::{print, warn};
use crate::bundle::OCI_VERSION;
use crate::features::{self, Cgroup, Known};
use crate::host::cgroup::{Hierarchy, hierarchy};
use crate::host::namespaces::in_child_userns;
use crate::host::process::{last_capability, lsm};
use crate::host::{CAP_NET_ADMIN, idmap, rdt};
use crate::plan::{inherited, options};
use crate::report::{Act, Failure};
use crate::spec::{self, SpecKind};
use crate::sys;
use std::io::Write;
use std::path::PathBuf;

/// `bryo spec`.
pub fn spec(bundle: Option<PathBuf>, rootless: bool, subids: bool) -> Result<u8, Failure> {
    let path = bundle.unwrap_or_default().join("config.json");
    let act = || format!("cannot write {}", path.display());
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let kind = match (rootless, subids) {
        (false, _) => SpecKind::Root,
        (true, false) => SpecKind::Rootless { uid, gid },
        (true, true) => {
            let ids = idmap::subids(uid);
            if ids.uids.is_empty() || ids.gids.is_empty() {
                warn(&format!(
                    "ID-NOSUBID: {} has no subordinate ids, mapping one id; fix: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}",
                    ids.user, ids.user
                ));
            }
            SpecKind::Subids { uid, gid, subuids: ids.uids, subgids: ids.gids }
        }
    };
    let text = spec::text(&kind, hierarchy() == Hierarchy::Unified)
        .map_err(|e| Failure::new(act(), e.to_string()))?;
    let file = std::fs::File::options().write(true).create_new(true).open(&path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            Failure::new(act(), "File config.json exists. Remove it first")
                .fix(format!("rm {}", path.display()))
        } else {
            Failure::new(act(), crate::report::io_text(&error))
        }
    });
    file?.write_all(text.as_bytes()).act(act)?;
    Ok(0)
}

/// `bryo features`.
pub fn features() -> Result<u8, Failure> {
    let mount_options: Vec<&str> = options::known().collect();
    let (modes, flags) = inherited::memory_policies();
    let lsm = lsm();
    let is_root = nix::unistd::geteuid().is_root() && !in_child_userns();
    let known = Known {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("BRYO_COMMIT"),
        oci_version_min: "1.0.0",
        oci_version_max: OCI_VERSION,
        hooks: &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        mount_options: &mount_options,
        namespaces: &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
        capabilities: &features::capabilities(last_capability()),
        cgroup: Cgroup { v1: false, v2: true, systemd: true, systemd_user: true, rdma: true },
        seccomp_flag: &sys::seccomp::supports,
        apparmor: lsm.apparmor,
        selinux: lsm.selinux,
        intel_rdt: is_root && rdt::mount_point().is_some(),
        memory_policy_modes: &modes,
        memory_policy_flags: &flags,
        idmapped_mounts: true,
        net_devices: sys::caps::effective().is_ok_and(|held| (held >> CAP_NET_ADMIN) & 1 == 1),
        checkpoint: false,
        unsafe_annotations: &[
            "io.bryo.network",
            "io.bryo.publish",
            "org.systemd.property.",
            "run.oci.delegate-cgroup",
            "run.oci.pidfd_receiver",
            "run.oci.systemd.subgroup",
        ],
    };
    let text = features::text(&known).map_err(|e| Failure::new("cannot print features", e.to_string()))?;
    Ok(print(&text))
}
