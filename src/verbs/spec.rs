//! `spec` and `features`: what a configuration looks like, and what bryo makes of one.

use super::{print, warn};
use crate::bundle::{self, OCI_VERSION};
use crate::cli;
use crate::features::{self, Cgroup, Known};
use crate::host::cgroup::{Hierarchy, hierarchy};
use crate::host::namespaces::in_child_userns;
use crate::host::process::{last_capability, lsm};
use crate::host::{self, CAP_NET_ADMIN, Needs, idmap, rdt};
use crate::plan::degrade::Policy;
use crate::plan::{self, inherited, options};
use crate::report::{Act, Failure};
use crate::spec::rootless::{self, Caller, Change};
use crate::spec::{self, SpecKind};
use crate::sys;
use serde_json::Value;
use std::io::Write;
use std::path::Path;

/// `bryo spec`.
pub fn spec(flags: cli::Spec) -> Result<u8, Failure> {
    let cli::Spec { bundle, rootless, subids, from } = flags;
    let path = bundle.unwrap_or_default().join("config.json");
    if let Some(from) = from {
        return rewrite(&from, &path);
    }
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
    write(&path, &text)?;
    Ok(0)
}

/// Writes a configuration where there is none yet.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let act = || format!("cannot write {}", path.display());
    let file = std::fs::File::options().write(true).create_new(true).open(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            Failure::new(act(), "File config.json exists. Remove it first")
                .fix(format!("rm {}", path.display()))
        } else {
            Failure::new(act(), crate::report::io_text(&error))
        }
    });
    file?.write_all(text.as_bytes()).act(act)
}

/// `bryo spec --from-config`: says on stderr what it changes, and what will be refused nevertheless.
fn rewrite(from: &Path, to: &Path) -> Result<u8, Failure> {
    let act = || format!("cannot rewrite {}", from.display());
    let (text, spec) = bundle::read_config(from).map_err(|cause| Failure::new(act(), cause))?;
    let mut config: Value =
        serde_json::from_slice(&text).map_err(|error| Failure::new(act(), error.to_string()))?;
    bundle::keys::spell(&mut config).map_err(|cause| Failure::new(act(), cause))?;
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    // All that a rewriting may look at, whatever the file asks for now.
    let by_file = plan::needs(&spec, uid, gid, &Policy::default());
    let needs = Needs { subids: true, oom_score_adj: true, hard_limits: true, ..by_file };
    let facts = host::read(needs).act(|| "cannot read facts of the host")?;
    if facts.privileged() {
        let cause = "the caller is root, for whom it works as it is: invalid argument";
        return Err(Failure::new(act(), cause).fix("do it as the user who is going to run the container"));
    }
    let reaches = |path: &Path| path.exists();
    let changes = rootless::rewrite(&mut config, &Caller { facts: &facts, reaches: &reaches });
    let text = rootless::text(&config).map_err(|error| Failure::new(act(), error.to_string()))?;
    write(to, &text)?;
    for Change { what, why } in &changes {
        // Nobody may be listening.
        let _ = writeln!(std::io::stderr(), "bryo: {what}: {why}");
    }
    for line in rootless::refusals(&config, &facts) {
        warn(&format!("it will be refused as it is: {line}"));
    }
    Ok(0)
}

/// Those that the kernel takes. It is asked by setting them, which is for our own few milliseconds.
fn memory_policies() -> (Vec<&'static str>, Vec<&'static str>) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let nodes = status.lines().find_map(|line| line.strip_prefix("Mems_allowed_list:"));
    inherited::memory_policies(nodes.unwrap_or("0").trim(), |policy| {
        sys::process::set_memory_policy(policy.mode, &policy.nodes).is_ok()
    })
}

/// The annotations that change what is done on the host (features.md, "Unsafe annotations in `config.json`"). Ours all
/// do, so their prefix stands for them, with the dot that makes it one.
const UNSAFE_ANNOTATIONS: [&str; 8] = [
    "io.bryo.",
    "org.systemd.property.",
    "run.oci.delegate-cgroup",
    "run.oci.hooks.stderr",
    "run.oci.hooks.stdout",
    "run.oci.pidfd_receiver",
    "run.oci.seccomp.receiver",
    "run.oci.systemd.subgroup",
];

/// `bryo features`.
pub fn features() -> Result<u8, Failure> {
    let mount_options: Vec<&str> = options::known().collect();
    let (modes, flags) = memory_policies();
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
        checkpoint: host::criu::read(None)
            .is_ok_and(|criu| plan::checkpoint::allowed(&criu, "cannot checkpoint").is_ok()),
        unsafe_annotations: &UNSAFE_ANNOTATIONS,
    };
    let text = features::text(&known).map_err(|e| Failure::new("cannot print features", e.to_string()))?;
    Ok(print(&text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::UNSAFE_ANNOTATIONS;
    use std::path::{Path, PathBuf};

    fn sources(dir: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn engines_are_told_of_every_annotation_of_ours() {
        let of_ours = concat!("\"", "io.bryo.");
        let mut named = std::collections::BTreeSet::new();
        for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.match_indices(of_ours).map(|(at, _)| text[at + 1..].split('"').next().unwrap());
            named.extend(names.map(String::from));
        }
        assert!(named.contains("io.bryo.network") && named.contains("io.bryo.rootfs.layers"), "{named:?}");
        let told = |name: &str| {
            UNSAFE_ANNOTATIONS.iter().any(|it| name == *it || (it.ends_with('.') && name.starts_with(it)))
        };
        let untold: Vec<_> = named.iter().filter(|name| !told(name)).collect();
        assert!(untold.is_empty(), "{untold:?}");
    }
}
