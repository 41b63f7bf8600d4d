//! The bundles that are timed, written for whoever runs this: root gets no user namespace,
//! a plain user gets one.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use libseccomp::ScmpSyscall;
use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The least that is still a container: one id, the host's network, no filter.
    Plain,
    /// What an engine asks for: a range of ids, an own network, a filter of engine size.
    Full,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Full => "full",
        }
    }

    pub fn words(self) -> &'static str {
        match (self, rootful()) {
            (Self::Plain, false) => "one id, the host's network, no seccomp",
            (Self::Full, false) => "a range of ids, an own network namespace, seccomp",
            (Self::Plain, true) => "no user namespace, an own network namespace, no seccomp",
            (Self::Full, true) => "no user namespace, an own network namespace, seccomp",
        }
    }
}

/// Root needs no user namespace, and engines that run as root ask for none.
fn rootful() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Writes config.json for `args` into the directory `at`.
pub fn write(at: &Path, rootfs: &Path, kind: Kind, args: &[&str]) -> Result<()> {
    let rootful = rootful();
    let full = kind == Kind::Full;

    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mut namespaces = vec!["pid", "ipc", "uts", "mount", "cgroup"];
    let mut linux = json!({
        "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
            "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if full || rootful {
        namespaces.push("network");
    }
    if full {
        linux["seccomp"] = filter();
    }
    if !rootful {
        namespaces.push("user");
        linux["uidMappings"] = mappings("/etc/subuid", nix::unistd::geteuid().as_raw(), full)?;
        linux["gidMappings"] = mappings("/etc/subgid", nix::unistd::getegid().as_raw(), full)?;
    }
    linux["namespaces"] = namespaces.iter().map(|kind| json!({ "type": kind })).collect();

    let sys = if namespaces.contains(&"network") {
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"] })
    } else {
        // sysfs belongs to the owner of the network namespace; another's can only be bound.
        json!({ "destination": "/sys", "type": "none", "source": "/sys",
            "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] })
    };
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": rootfs, "readonly": true },
        "hostname": "bench",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"] },
            sys,
        ],
        "linux": linux,
    });

    fs::create_dir_all(at).with_context(|| format!("cannot make {}", at.display()))?;
    let file = at.join("config.json");
    fs::write(&file, serde_json::to_vec(&config)?).with_context(|| format!("cannot write {}", file.display()))
}

/// The caller as id 0, and with `range` the first range of his in `file` from id 1 on.
fn mappings(file: &str, id: u32, range: bool) -> Result<Value> {
    let mut mappings = vec![json!({ "containerID": 0, "hostID": id, "size": 1 })];
    if range {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?
            .context("you have no entry in /etc/passwd")?;
        let ranges = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let (first, size) = ranges
            .lines()
            .find_map(|line| {
                let mut fields = line.split(':');
                let owner = fields.next()?;
                (owner == user.name || owner == user.uid.to_string()).then(|| {
                    Some((fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?))
                })?
            })
            .with_context(|| {
                format!("{file} has no range for {}; fix: usermod --add-subuids, --add-subgids", user.name)
            })?;
        mappings.push(json!({ "containerID": 1, "hostID": first, "size": size }));
    }
    Ok(Value::Array(mappings))
}

/// A filter with an engine's shape: an error by default, every call that libseccomp knows
/// allowed by name but for those that manage the machine, some only with certain arguments.
fn filter() -> Value {
    const WITHHELD: [&str; 24] = [
        "acct",
        "add_key",
        "bpf",
        "clock_settime",
        "delete_module",
        "finit_module",
        "init_module",
        "kcmp",
        "kexec_load",
        "keyctl",
        "mount",
        "move_pages",
        "open_by_handle_at",
        "perf_event_open",
        "pivot_root",
        "quotactl",
        "reboot",
        "request_key",
        "settimeofday",
        "swapoff",
        "swapon",
        "umount2",
        "userfaultfd",
        "vhangup",
    ];
    const BY_ARGUMENT: [&str; 3] = ["personality", "socket", "unshare"];
    let names: Vec<String> = (0..1024)
        .filter_map(|number| ScmpSyscall::from(number).get_name().ok())
        .filter(|name| !WITHHELD.contains(&name.as_str()) && !BY_ARGUMENT.contains(&name.as_str()))
        .collect();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            { "names": names, "action": "SCMP_ACT_ALLOW" },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] },
            { "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 40, "op": "SCMP_CMP_NE" }] },
            { "names": ["unshare"], "action": "SCMP_ACT_ALLOW",
                "args": [{ "index": 0, "value": 0x1000_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
        ],
    })
}
