//! The config.json that `bryo spec` writes: what runc's does, and a seccomp profile.
//!
//! The structs are here for the order of the keys, which is the order of the runtime specification:
//! the file is read and edited by people. `bundle` begins with the same file, and changes what an image says.

pub mod rootless;

use crate::bundle::OCI_VERSION;
use crate::host::idmap::IdRange;
use crate::plan::idmap;
use serde::Serialize;
use std::collections::BTreeMap;

/// Whose ids the container runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecKind {
    /// `spec`: those of the host.
    Root,
    /// `spec --rootless`: one user and one group, these.
    Rootless { uid: u32, gid: u32 },
    /// `spec --rootless --subids`: these, then every subordinate id.
    Subids { uid: u32, gid: u32, subuids: Vec<IdRange>, subgids: Vec<IdRange> },
}

/// The file, as text. `cgroup2`: the host has the unified cgroup hierarchy, and with it the
/// container gets a cgroup namespace.
pub fn text(kind: &SpecKind, cgroup2: bool) -> serde_json::Result<String> {
    default_spec(kind, cgroup2).text()
}

impl Spec {
    /// The file, as text.
    ///
    /// # Errors
    /// None that is known.
    pub fn text(&self) -> serde_json::Result<String> {
        pretty(self)
    }
}

/// A configuration as people read it.
fn pretty(config: &impl Serialize) -> serde_json::Result<String> {
    let mut text = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, tabs);
    config.serialize(&mut serializer)?;
    text.push(b'\n');
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// The same, as data.
pub fn default_spec(kind: &SpecKind, cgroup2: bool) -> Spec {
    let (uid_mappings, gid_mappings) = match kind {
        SpecKind::Root => (Vec::new(), Vec::new()),
        SpecKind::Rootless { uid, gid } => (mappings(*uid, &[]), mappings(*gid, &[])),
        SpecKind::Subids { uid, gid, subuids, subgids } => (mappings(*uid, subuids), mappings(*gid, subgids)),
    };
    let rootless = *kind != SpecKind::Root;

    Spec {
        oci_version: OCI_VERSION,
        process: Process {
            terminal: true,
            user: User { uid: 0, gid: 0, additional_gids: Vec::new() },
            args: vec!["sh".into()],
            env: vec![PATH.into(), TERM.into()],
            cwd: "/".into(),
            capabilities: Capabilities::all(&CAPABILITIES),
            rlimits: vec![Rlimit { resource: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
            no_new_privileges: true,
        },
        root: Root { path: "rootfs", readonly: true },
        hostname: "bryo",
        mounts: mounts(rootless, &gid_mappings),
        annotations: BTreeMap::new(),
        linux: Linux {
            // without root there is no delegation to count on, and no device to decide about
            resources: (!rootless)
                .then_some(Resources { devices: [DeviceRule { allow: false, access: "rwm" }] }),
            namespaces: namespaces(rootless, cgroup2),
            seccomp: Seccomp::default(),
            masked_paths: [
                "/proc/acpi",
                "/proc/asound",
                "/proc/kcore",
                "/proc/keys",
                "/proc/latency_stats",
                "/proc/timer_list",
                "/proc/timer_stats",
                "/proc/sched_debug",
                "/sys/firmware",
                "/proc/scsi",
            ],
            readonly_paths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            uid_mappings,
            gid_mappings,
        },
    }
}

/// The search path where nobody says another.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The kind of terminal, where there is one.
pub const TERM: &str = "TERM=xterm";

const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

fn mounts(rootless: bool, gid_mappings: &[Mapping]) -> Vec<Mount> {
    let mount = |destination, kind, source, options: &[&'static str]| Mount {
        destination,
        kind,
        source,
        options: options.to_vec(),
    };
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    // the group tty, where there is one
    const TTY: u32 = 5;
    let has_tty = |mapping: &Mapping| mapping.container_id + (mapping.size - 1) >= TTY;
    if !rootless || gid_mappings.iter().any(has_tty) {
        pts.push("gid=5");
    }
    let sys_options = ["nosuid", "noexec", "nodev", "ro"];
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        if rootless {
            // sysfs belongs to the owner of the network namespace, which stays the host's
            mount("/sys", "none", "/sys", &[&["rbind"], &sys_options[..]].concat())
        } else {
            mount("/sys", "sysfs", "sysfs", &sys_options)
        },
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

fn namespaces(rootless: bool, cgroup2: bool) -> Vec<Namespace> {
    let mut kinds = vec!["pid"];
    if !rootless {
        // without root nothing would connect it to anything
        kinds.push("network");
    }
    kinds.extend(["ipc", "uts", "mount"]);
    if cgroup2 {
        kinds.push("cgroup");
    }
    if rootless {
        kinds.push("user");
    }
    kinds.into_iter().map(|kind| Namespace { kind }).collect()
}

/// Root is the caller, then every subordinate id.
fn mappings(own: u32, subordinate: &[IdRange]) -> Vec<Mapping> {
    let mapping = |m: idmap::Mapping| Mapping { container_id: m.inside, host_id: m.outside, size: m.count };
    idmap::stack(own, subordinate).into_iter().map(mapping).collect()
}

/// A config.json.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    oci_version: &'static str,
    pub process: Process,
    pub root: Root,
    hostname: &'static str,
    mounts: Vec<Mount>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    linux: Linux,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pub terminal: bool,
    pub user: User,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub capabilities: Capabilities,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    pub no_new_privileges: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

#[derive(Serialize)]
pub struct Capabilities {
    bounding: Vec<&'static str>,
    effective: Vec<&'static str>,
    permitted: Vec<&'static str>,
}

impl Capabilities {
    /// The same in every set that root needs.
    pub fn all(names: &[&'static str]) -> Capabilities {
        let names = names.to_vec();
        Capabilities { bounding: names.clone(), effective: names.clone(), permitted: names }
    }
}

#[derive(Serialize)]
pub struct Rlimit {
    #[serde(rename = "type")]
    resource: &'static str,
    hard: u64,
    soft: u64,
}

#[derive(Serialize)]
pub struct Root {
    pub path: &'static str,
    pub readonly: bool,
}

#[derive(Serialize)]
struct Mount {
    destination: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    source: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    uid_mappings: Vec<Mapping>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gid_mappings: Vec<Mapping>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Resources>,
    namespaces: Vec<Namespace>,
    seccomp: Seccomp,
    masked_paths: [&'static str; 10],
    readonly_paths: [&'static str; 5],
}

#[derive(Serialize)]
struct Mapping {
    #[serde(rename = "containerID")]
    container_id: u32,
    #[serde(rename = "hostID")]
    host_id: u32,
    size: u32,
}

#[derive(Serialize)]
struct Resources {
    devices: [DeviceRule; 1],
}

#[derive(Serialize)]
struct DeviceRule {
    allow: bool,
    access: &'static str,
}

#[derive(Serialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: &'static str,
}

/// Everything is allowed but socket(AF_ALG, …), the door to the page-cache write of CVE-2026-31431,
/// which nothing but disk encryption tools and benchmarks goes through. runc's file has no profile.
///
/// What it cannot do: socketcall(2), by which 32-bit programs make their sockets, has the family in
/// memory, which no filter can read. Denying it breaks the network of 32-bit programs, so the
/// profile says that it stays. Against a program that makes 32-bit calls, or sockets by io_uring,
/// only a fixed kernel helps, or a security module: AppArmor's `deny network alg`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    default_action: &'static str,
    architectures: &'static [&'static str],
    syscalls: [SeccompRule; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SeccompRule {
    names: [&'static str; 1],
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<[SeccompArg; 1]>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SeccompArg {
    index: u32,
    value: u64,
    value_two: u64,
    op: &'static str,
}

impl Default for Seccomp {
    fn default() -> Self {
        Seccomp {
            default_action: "SCMP_ACT_ALLOW",
            // an architecture that is not named is killed
            architectures: if cfg!(target_arch = "x86_64") {
                &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
            } else if cfg!(target_arch = "aarch64") {
                &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
            } else if cfg!(target_arch = "s390x") {
                &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"]
            } else {
                &["SCMP_ARCH_NATIVE"]
            },
            syscalls: [
                SeccompRule { names: ["socketcall"], action: "SCMP_ACT_ALLOW", errno_ret: None, args: None },
                SeccompRule {
                    names: ["socket"],
                    action: "SCMP_ACT_ERRNO",
                    errno_ret: Some(libc::EPERM as u32),
                    // masked: the kernel takes the low half of the register, so an EQ on all of it
                    // would let 0x1_0000_0026 pass
                    args: Some([SeccompArg {
                        index: 0,
                        value: 0xffff_ffff,
                        value_two: libc::AF_ALG as u64,
                        op: "SCMP_CMP_MASKED_EQ",
                    }]),
                },
            ],
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn value(kind: &SpecKind) -> Value {
        serde_json::to_value(default_spec(kind, true)).unwrap()
    }

    const ME: SpecKind = SpecKind::Rootless { uid: 1000, gid: 100 };

    fn ranges(ranges: &[(u32, u32)]) -> Vec<IdRange> {
        ranges.iter().map(|(start, count)| IdRange { start: *start, count: *count }).collect()
    }

    fn with_subids(subuids: &[(u32, u32)], subgids: &[(u32, u32)]) -> SpecKind {
        SpecKind::Subids { uid: 1000, gid: 100, subuids: ranges(subuids), subgids: ranges(subgids) }
    }

    fn namespaces_of(spec: &Value) -> Vec<&str> {
        let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
        namespaces.iter().map(|ns| ns["type"].as_str().unwrap()).collect()
    }

    fn mount_at<'a>(spec: &'a Value, destination: &str) -> &'a Value {
        let mounts = spec["mounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["destination"] == destination).unwrap()
    }

    #[test]
    fn the_text_is_indented_by_tabs_in_the_order_of_the_specification() {
        let text = text(&SpecKind::Root, true).unwrap();
        assert!(
            text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t\"terminal\": true,")
        );
        assert!(text.ends_with("\n}\n"));
        let places: Vec<_> = ["ociVersion", "process", "root", "hostname", "mounts", "linux"]
            .iter()
            .map(|key| text.find(&format!("\n\t\"{key}\": ")).unwrap())
            .collect();
        assert!(places.is_sorted());
        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed, value(&SpecKind::Root));
    }

    #[test]
    fn the_spec_crate_reads_all_of_it() {
        for kind in [SpecKind::Root, ME, with_subids(&[(100_000, 65536)], &[(100_000, 65536)])] {
            let spec: oci_spec::runtime::Spec = serde_json::from_str(&text(&kind, true).unwrap()).unwrap();
            assert_eq!(spec.hostname().as_deref(), Some("bryo"));
        }
    }

    #[test]
    fn root_gets_what_runc_writes() {
        let spec = value(&SpecKind::Root);
        assert_eq!(namespaces_of(&spec), ["pid", "network", "ipc", "uts", "mount", "cgroup"]);
        assert_eq!(spec["linux"]["resources"], json!({"devices": [{"allow": false, "access": "rwm"}]}));
        assert_eq!(spec["linux"].get("uidMappings"), None);
        assert_eq!(mount_at(&spec, "/sys")["type"], "sysfs");
        assert_eq!(
            mount_at(&spec, "/proc"),
            &json!({"destination": "/proc", "type": "proc", "source": "proc"})
        );
        assert_eq!(mount_at(&spec, "/dev/pts")["options"][5], "gid=5");
        let capabilities = spec["process"]["capabilities"].as_object().unwrap();
        let sets: Vec<_> = capabilities.keys().map(String::as_str).collect();
        assert_eq!(sets, ["bounding", "effective", "permitted"]);
    }

    #[test]
    fn without_the_unified_hierarchy_there_is_no_cgroup_namespace() {
        let spec = serde_json::to_value(default_spec(&ME, false)).unwrap();
        assert_eq!(namespaces_of(&spec), ["pid", "ipc", "uts", "mount", "user"]);
    }

    #[test]
    fn rootless_maps_the_caller_alone_and_binds_sys() {
        let spec = value(&ME);
        assert_eq!(namespaces_of(&spec), ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
        assert_eq!(spec["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 1000, "size": 1}]));
        assert_eq!(spec["linux"]["gidMappings"], json!([{"containerID": 0, "hostID": 100, "size": 1}]));
        assert_eq!(spec["linux"].get("resources"), None);
        assert_eq!(
            mount_at(&spec, "/sys"),
            &json!({
                "destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
            })
        );
        for mount in spec["mounts"].as_array().unwrap() {
            let options = mount["options"].to_string();
            assert!(!options.contains("gid=") && !options.contains("uid="), "{options}");
        }
    }

    #[test]
    fn subids_are_mapped_from_1_up() {
        let spec = value(&with_subids(&[(100_000, 65536), (300_000, 10)], &[(200_000, 65536)]));
        assert_eq!(
            spec["linux"]["uidMappings"],
            json!([
                {"containerID": 0, "hostID": 1000, "size": 1},
                {"containerID": 1, "hostID": 100_000, "size": 65536},
                {"containerID": 65537, "hostID": 300_000, "size": 10},
            ])
        );
        assert_eq!(
            spec["linux"]["gidMappings"],
            json!([
                {"containerID": 0, "hostID": 100, "size": 1},
                {"containerID": 1, "hostID": 200_000, "size": 65536},
            ])
        );
        assert_eq!(mount_at(&spec, "/dev/pts")["options"][5], "gid=5");
        // the group tty is 5, and here are 0 to 4
        let few = value(&with_subids(&[], &[(200_000, 4)]));
        assert_eq!(mount_at(&few, "/dev/pts")["options"].get(5), None);
        assert_eq!(few["linux"]["uidMappings"], value(&ME)["linux"]["uidMappings"]);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_profile_denies_af_alg_and_nothing_else() {
        use crate::seccomp::testing::action;
        let profile = value(&SpecKind::Root)["linux"]["seccomp"].clone();
        const ALLOW: u32 = 0x7fff_0000;
        const EPERM: u32 = 0x0005_0001;
        const X86_64: u32 = 0xc000_003e;
        const X86: u32 = 0x4000_0003;
        const X32: u32 = 0x4000_0000;
        for (token, socket) in [(X86_64, 41), (X86_64, X32 | 41), (X86, 359)] {
            assert_eq!(action(&profile, token, socket, 38), EPERM);
            assert_eq!(action(&profile, token, socket, 0x1_0000_0026), EPERM, "the low half counts");
            for family in (0..64).filter(|family| *family != 38) {
                assert_eq!(action(&profile, token, socket, family), ALLOW, "{family}");
            }
        }
        // 32-bit programs make their sockets with socketcall(SYS_SOCKET)
        assert_eq!(action(&profile, X86, 102, 1), ALLOW);
        for number in (0..600).filter(|number| *number != 41) {
            assert_eq!(action(&profile, X86_64, number, 38), ALLOW, "{number}");
            assert_eq!(action(&profile, X86_64, X32 | number, 38), ALLOW, "x32 {number}");
        }
        for number in (0..600).filter(|number| *number != 359) {
            assert_eq!(action(&profile, X86, number, 38), ALLOW, "x86 {number}");
        }
    }
}
