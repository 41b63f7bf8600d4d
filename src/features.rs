//! `bryo features`: what this runtime can do, in the shape of the runtime specification's
//! features.md. Nothing here is a list of its own where a parser has one: the caller passes the
//! parser's, so that what is printed is what is accepted.

use serde_json::{Value, json};

use crate::seccomp;

/// What the other rooms know.
pub struct Known<'a> {
    pub version: &'a str,
    /// The commit that was built, where it is known.
    pub commit: Option<&'a str>,
    pub oci_version_min: &'a str,
    pub oci_version_max: &'a str,
    pub hooks: &'a [&'a str],
    pub mount_options: &'a [&'a str],
    pub namespaces: &'a [&'a str],
    /// See [`capabilities`].
    pub capabilities: &'a [String],
    pub cgroup: Cgroup,
    /// Whether the kernel supports a flag of seccomp(2): see [`seccomp::FLAGS`].
    pub seccomp_flag: &'a dyn Fn(u32) -> bool,
    pub apparmor: bool,
    pub selinux: bool,
    pub intel_rdt: bool,
    /// `linux.memoryPolicy`; no modes, no support.
    pub memory_policy_modes: &'a [&'a str],
    pub memory_policy_flags: &'a [&'a str],
    pub idmapped_mounts: bool,
    pub net_devices: bool,
    pub checkpoint: bool,
    /// Annotations of config.json that change what the runtime does on the host; one that ends in
    /// a dot is a prefix. Engines keep these from users whom they do not trust.
    pub unsafe_annotations: &'a [&'a str],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    pub v1: bool,
    pub v2: bool,
    pub systemd: bool,
    pub systemd_user: bool,
    pub rdma: bool,
}

/// The document. An absent field would say "unknown", and nothing is.
pub fn features(known: &Known<'_>) -> Value {
    let enabled = |enabled: bool| json!({"enabled": enabled});
    let flags = |supported: &dyn Fn(u32) -> bool| -> Vec<&str> {
        let flags = seccomp::FLAGS.iter();
        flags.filter(|(_, bit)| supported(*bit)).map(|(name, _)| *name).collect()
    };
    json!({
        "ociVersionMin": known.oci_version_min,
        "ociVersionMax": known.oci_version_max,
        "hooks": known.hooks,
        "mountOptions": sorted(known.mount_options),
        "linux": {
            "namespaces": sorted(known.namespaces),
            "capabilities": known.capabilities,
            "cgroup": {
                "v1": known.cgroup.v1,
                "v2": known.cgroup.v2,
                "systemd": known.cgroup.systemd,
                "systemdUser": known.cgroup.systemd_user,
                "rdma": known.cgroup.rdma,
            },
            "seccomp": {
                "enabled": true,
                "actions": seccomp::ACTIONS,
                "operators": seccomp::OPERATORS,
                "archs": seccomp::architectures(),
                "knownFlags": flags(&|_| true),
                // one without a bit is not for the kernel to support
                "supportedFlags": flags(&|bit| bit == 0 || (known.seccomp_flag)(bit)),
            },
            "apparmor": enabled(known.apparmor),
            "selinux": enabled(known.selinux),
            "intelRdt": {
                "enabled": known.intel_rdt,
                "schemata": known.intel_rdt,
                "monitoring": known.intel_rdt,
            },
            "memoryPolicy": {
                "modes": known.memory_policy_modes,
                "flags": known.memory_policy_flags,
            },
            "mountExtensions": {"idmap": enabled(known.idmapped_mounts)},
            "netDevices": enabled(known.net_devices),
        },
        "annotations": annotations(known),
        "potentiallyUnsafeConfigAnnotations": known.unsafe_annotations,
    })
}

/// The document as it is printed.
pub fn text(known: &Known<'_>) -> serde_json::Result<String> {
    let mut text = Vec::new();
    let spaces = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, spaces);
    serde::Serialize::serialize(&features(known), &mut serializer)?;
    text.push(b'\n');
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// The capabilities that exist up to number `last` (/proc/sys/kernel/cap_last_cap), in their order.
pub fn capabilities(last: u8) -> Vec<String> {
    let mut all: Vec<_> = caps::all().into_iter().collect();
    all.retain(|capability| capability.index() <= last);
    all.sort_unstable_by_key(caps::Capability::index);
    all.iter().map(ToString::to_string).collect()
}

fn annotations(known: &Known<'_>) -> Value {
    let mut annotations = json!({
        "org.bryo.version": known.version,
        // callers that know runc ask by this name whether checkpoint is worth a try
        "org.opencontainers.runc.checkpoint.enabled": known.checkpoint.to_string(),
    });
    if let Some(commit) = known.commit {
        annotations["org.bryo.commit"] = json!(commit);
    }
    if let Ok(version) = libseccomp::ScmpVersion::current() {
        annotations["io.github.seccomp.libseccomp.version"] = json!(version.to_string());
    }
    annotations
}

fn sorted<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut words = words.to_vec();
    words.sort_unstable();
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn known<'a>(capabilities: &'a [String], seccomp_flag: &'a dyn Fn(u32) -> bool) -> Known<'a> {
        Known {
            version: "1.2.3",
            commit: Some("abcdef0"),
            oci_version_min: "1.0.0",
            oci_version_max: "1.3.0",
            hooks: &["prestart", "createRuntime"],
            mount_options: &["rw", "bind", "ro"],
            namespaces: &["user", "pid", "time"],
            capabilities,
            cgroup: Cgroup { v2: true, ..Cgroup::default() },
            seccomp_flag,
            apparmor: true,
            selinux: false,
            intel_rdt: false,
            memory_policy_modes: &["MPOL_BIND"],
            memory_policy_flags: &["MPOL_F_STATIC_NODES"],
            idmapped_mounts: true,
            net_devices: false,
            checkpoint: false,
            unsafe_annotations: &["bundle", "org.systemd.property."],
        }
    }

    #[test]
    fn what_is_known_is_what_is_printed() {
        let capabilities = capabilities(1);
        let document = features(&known(&capabilities, &|_| true));
        assert_eq!(document["ociVersionMax"], "1.3.0");
        assert_eq!(document["hooks"], json!(["prestart", "createRuntime"]), "in their order");
        assert_eq!(document["mountOptions"], json!(["bind", "ro", "rw"]));
        let linux = &document["linux"];
        assert_eq!(linux["namespaces"], json!(["pid", "time", "user"]));
        assert_eq!(linux["capabilities"], json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE"]));
        assert_eq!(
            linux["cgroup"],
            json!({"v1": false, "v2": true, "systemd": false, "systemdUser": false, "rdma": false})
        );
        assert_eq!(linux["apparmor"], json!({"enabled": true}));
        assert_eq!(linux["selinux"], json!({"enabled": false}));
        assert_eq!(linux["intelRdt"], json!({"enabled": false, "schemata": false, "monitoring": false}));
        assert_eq!(linux["memoryPolicy"]["modes"], json!(["MPOL_BIND"]));
        assert_eq!(linux["memoryPolicy"]["flags"], json!(["MPOL_F_STATIC_NODES"]));
        assert_eq!(linux["mountExtensions"], json!({"idmap": {"enabled": true}}));
        assert_eq!(linux["netDevices"], json!({"enabled": false}));
        let annotations = &document["annotations"];
        assert_eq!(annotations["org.bryo.version"], "1.2.3");
        assert_eq!(annotations["org.bryo.commit"], "abcdef0");
        assert_eq!(annotations["org.opencontainers.runc.checkpoint.enabled"], "false");
        assert!(annotations["io.github.seccomp.libseccomp.version"].is_string());
        assert_eq!(
            document["potentiallyUnsafeConfigAnnotations"],
            json!(["bundle", "org.systemd.property."])
        );
    }

    #[test]
    fn a_flag_that_the_kernel_lacks_is_known_and_not_supported() {
        let kernel = |bit: u32| bit != 1 << 5;
        let document = features(&known(&[], &kernel));
        let seccomp = &document["linux"]["seccomp"];
        let known = seccomp["knownFlags"].as_array().unwrap();
        assert_eq!(known.len(), 4);
        assert!(known.contains(&json!("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")));
        assert_eq!(
            seccomp["supportedFlags"],
            json!(
                ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG",]
            )
        );
    }

    #[test]
    fn the_spec_crate_reads_all_of_it_and_every_seccomp_word_is_one() {
        let capabilities = capabilities(u8::MAX);
        let text = text(&known(&capabilities, &|_| true)).unwrap();
        assert!(text.starts_with("{\n    \"") && text.ends_with("\n}\n"));
        let features: oci_spec::runtime::Features = serde_json::from_str(&text).unwrap();
        let seccomp = features.linux().as_ref().unwrap().seccomp().as_ref().unwrap();
        assert_eq!(seccomp.actions().as_ref().unwrap().len(), 9);
        // Those of the other byte order are not for this machine.
        let archs = seccomp.archs().as_ref().unwrap();
        assert!(archs.len() > 5 && archs.len() < 18, "{archs:?}");
        assert_eq!(seccomp.operators().as_ref().unwrap().len(), 7);
    }

    #[test]
    fn capabilities_come_by_number_and_end_where_the_kernel_ends() {
        let all = capabilities(40);
        assert_eq!(all.len(), 41);
        assert_eq!(all[0], "CAP_CHOWN");
        assert_eq!(all[21], "CAP_SYS_ADMIN");
        assert_eq!(all[40], "CAP_CHECKPOINT_RESTORE");
        assert_eq!(capabilities(37).last().unwrap(), "CAP_AUDIT_READ");
    }
}
