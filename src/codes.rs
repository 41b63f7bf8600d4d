//! Every code that a warning or a refusal carries, with what is missing, what bryo does about it, and the way out.
//!
//! A code is for good: people search for it, and scripts look for it. Each stands here once; where it is used, the
//! sentence around it says what was found on this host. A test reads the sources and holds the two together.
//!
//! The classes: **A** the same result by another road, only noted in `degraded[]`; **B** weaker means, noted and
//! warned of; **C** refused, unless the caller lets it go by name (`--degrade=limits`).

use std::fmt::Write;

/// What becomes of what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The same by another road.
    A,
    /// Weaker means.
    B,
    /// A refusal.
    C,
}

use Class::{A, B, C};

/// A code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    pub name: &'static str,
    /// The hostile host that it is about: tests/suite/hosts.rs has them by this number.
    pub row: Option<u8>,
    pub class: &'static [Class],
    /// What is missing or in the way.
    pub about: &'static str,
    /// What bryo does.
    pub does: &'static str,
    /// The way to what was wanted, in general.
    pub fix: &'static str,
    /// The way takes root, or somebody else who runs the host.
    pub needs_root: bool,
}

/// One without a row, whose way out takes no root.
const fn code(
    name: &'static str,
    class: &'static [Class],
    about: &'static str,
    does: &'static str,
    fix: &'static str,
) -> Code {
    Code { name, row: None, class, about, does, fix, needs_root: false }
}

impl Code {
    /// Is about this hostile host.
    const fn row(mut self, row: u8) -> Code {
        self.row = Some(row);
        self
    }

    /// Its way out takes root.
    const fn by_root(mut self) -> Code {
        self.needs_root = true;
        self
    }

    fn classes(&self) -> String {
        let letters: Vec<_> = self.class.iter().map(|class| format!("{class:?}")).collect();
        letters.join(" ")
    }
}

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Code> {
    TABLE.iter().find(|code| code.name == name)
}

const SINGLE: &str = "maps the caller's id alone where nothing needs more, else refuses";
const HELPER: &str = "refuses; loopback alone where the network was auto, or with --degrade=network";

/// All of them, by family.
#[rustfmt::skip]
pub const TABLE: &[Code] = &[
    code("ID-NOHELPER", &[B, C], "newuidmap or newgidmap", SINGLE, "install uidmap (Debian, Ubuntu) or shadow-utils (Fedora)").row(1).by_root(),
    code("ID-HELPERCAP", &[B, C], "the setuid bit or the capabilities of newuidmap or newgidmap", SINGLE, "sudo chown root and sudo chmod u+s on both").row(2).by_root(),
    code("ID-NNP", &[B, C], "the privilege of newuidmap: no_new_privs is set, or it is on a nosuid mount", SINGLE, "start bryo without no_new_privs (Kubernetes: allowPrivilegeEscalation: true)").row(3).by_root(),
    code("ID-NOSUBID", &[B, C], "subordinate ids of the caller", SINGLE, "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER").row(4).by_root(),
    code("ID-NONE", &[C], "any id: the user namespace has no maps yet, or /proc is not there to say so", "refuses", "mount proc on /proc, and have the maps of the user namespace written first").by_root(),
    code("ID-RANGE", &[C], "ids that the configuration maps and the caller does not have", "refuses", "map only ids that are yours (bryo spec --rootless --subids writes them)").row(5),
    code("ID-SETFCAP", &[C], "CAP_SETFCAP, for who is root to map root", "refuses", "docker, podman: --user 1000 or --cap-add SETFCAP; Kubernetes: runAsUser, or capabilities: {add: [SETFCAP]}").by_root(),
    code("ID-UNMAPPED", &[A, C], "the id of the process in the container's map", "maps a single id to it, else refuses", "map more ids in linux.uidMappings and linux.gidMappings").row(6),

    code("NS-CLONE0", &[C], "user namespaces: kernel.unprivileged_userns_clone is 0", "refuses", "sudo sysctl -w kernel.unprivileged_userns_clone=1").row(8).by_root(),
    code("NS-SECCOMP", &[C], "new namespaces: a seccomp filter around bryo forbids them", "refuses", "docker, podman: --security-opt seccomp=unconfined; Kubernetes: seccompProfile: {type: Unconfined}").row(9).by_root(),
    code("NS-LIMIT", &[C], "room for one more namespace", "refuses", "sudo sysctl -w user.max_user_namespaces=15000").row(10).by_root(),
    code("NS-APPARMOR", &[C], "user namespaces: AppArmor gives them to profiled programs alone", "refuses", "bryo doctor --apparmor-profile | sudo tee /etc/apparmor.d/bryo | sudo apparmor_parser --replace").row(11).by_root(),
    code("NS-DENIED", &[C], "new namespaces: we are in a chroot, or a security module denies them", "refuses", "start bryo outside of it, or see the kernel log (journalctl -k)").by_root(),

    code("UTS-DENIED", &[C], "the right to set a hostname or domainname: a seccomp filter around bryo forbids it", "refuses", "remove both from config.json; docker, podman: --security-opt seccomp=unconfined; Kubernetes: seccompProfile: {type: Unconfined}"),
    code("MNT-DENIED", &[B, C], "mounts: a seccomp filter or another policy around bryo forbids them", "refuses; bryo unshare keeps the caller's mounts", "in an outer container, allow mount (docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined)").row(12).by_root(),
    code("MNT-LOCKED", &[B], "the right to clear a flag of a mount, which is locked", "keeps the flag", "have who mounted it clear the flag").row(25).by_root(),
    code("MNT-API", &[C], "the mount calls of Linux 5.12", "refuses", "use a newer kernel, or have the outer container allow them").by_root(),
    code("MNT-PROC", &[A], "a pid namespace of the container's own", "shows the host's /proc", "have a new pid namespace in linux.namespaces"),
    code("MNT-SYSFS", &[A], "a network namespace of the container's own", "shows the host's /sys, read only", "have a new network namespace in linux.namespaces").row(31),
    code("MNT-MQUEUE", &[A, B], "the mqueue file system", "shows the host's, or an empty directory", "use a kernel that has POSIX message queues").row(32).by_root(),
    code("MNT-CGROUP", &[A], "a cgroup namespace, or the right to mount cgroup2", "shows the host's /sys/fs/cgroup, read only", "have a cgroup namespace in linux.namespaces"),
    code("MNT-DEVPTS", &[A], "the gid of terminals in the container's map", "leaves the option out", "map that gid").row(33),
    code("MNT-IDMAP", &[C], "a mount that can show other ids", "refuses", "run as root of the machine, or remove idmap from the mount").row(39),
    code("MNT-BUSY", &[C], "a directory that nothing is mounted in", "refuses to remove it", "unmount what is there").by_root(),
    code("PROC-MASKED", &[B, C], "a whole /proc: the outer container masks a part of it", "refuses; shares the outer container's with --degrade=proc", "docker: --security-opt systempaths=unconfined; podman: --security-opt unmask=ALL; Kubernetes: procMount: Unmasked").row(13).by_root(),

    code("FS-OVERLAY", &[A, B, C], "an overlay of the kernel for this user and these layers", "takes fuse-overlayfs, or copies the root file system", "install fuse-overlayfs").row(16).by_root(),
    code("FS-FUSE", &[B, C], "/dev/fuse, or fuse-overlayfs", "copies the root file system, else refuses", "install fuse-overlayfs, and let the user open /dev/fuse").row(16).by_root(),
    code("FS-LOWER", &[A, B], "an overlay over what is mounted on", "makes one for each directory, or shows it read only", "name directories that nothing is mounted in").row(17),
    code("FS-OWNER", &[B, C], "the owner of files in the container's map", "goes on, and they are nobody's; refuses to remove them", "map that uid, or unpack as the user who runs it").row(23),
    code("FS-NOEXEC", &[C], "a program that may be executed where it is: its file system is mounted noexec", "refuses", "put it on a file system that is mounted without noexec").row(24),
    code("FS-ACCESS", &[C], "the right to enter a directory", "refuses", "chmod a+x what lies above it"),
    code("FS-IMMUTABLE", &[C], "a file that can be removed", "refuses", "sudo chattr -i -a FILE").by_root(),

    code("CG-V1", &[B, C], "cgroup v2", "goes without a cgroup; refuses limits, unless --degrade=limits", "boot with systemd.unified_cgroup_hierarchy=1").row(18).by_root(),
    code("CG-NODELEG", &[A, B, C], "a cgroup that is the caller's", "goes without a cgroup; refuses limits, unless --degrade=limits", "systemd-run --user --scope -p Delegate=yes bryo ...").row(19),
    code("CG-CTRL", &[B, C], "a controller for a limit", "cpuset: an affinity; else refuses, unless --degrade=limits", "add it to Delegate= in a drop-in of user@.service").row(20).by_root(),
    code("CG-NOBUS", &[A, B, C], "a systemd that can be asked for a cgroup", "makes one by itself where it may; else as CG-NODELEG", "log in with a session (ssh, machinectl shell), or --cgroup-manager cgroupfs").row(21),
    code("CG-DEVICES", &[A, C], "a device filter on the container's cgroup", "mounts without devices; refuses where that would not hold", "drop CAP_MKNOD and CAP_SYS_ADMIN, or add a user namespace"),
    code("CG-FREEZE", &[C], "a cgroup of the container's own, to freeze", "refuses to pause", "create the container where a cgroup is to be had").row(35),

    code("NET-NOHELPER", &[B, C], "pasta and slirp4netns", HELPER, "install passt (Debian, Fedora), which brings pasta").row(14).by_root(),
    code("NET-TUN", &[B, C], "/dev/net/tun", HELPER, "sudo modprobe tun and sudo chmod 666 /dev/net/tun; docker, podman: --device /dev/net/tun").row(14).by_root(),
    code("NET-TIMEOUT", &[C], "an answer of the network's helper", "kills it and refuses", "run the helper by hand and see, or use the other one").row(15),
    code("NET-HELPER", &[C], "a network's helper that works", "refuses", "see what the helper says, or use the other one"),
    code("NET-PORT", &[C], "the right to a port below net.ipv4.ip_unprivileged_port_start", "refuses", "publish a higher one, or sudo sysctl -w net.ipv4.ip_unprivileged_port_start=PORT").row(41).by_root(),
    code("NET-V6", &[B, C], "published ports on IPv6", "publishes on IPv4 alone; refuses an address of IPv6", "install passt and use --network pasta").by_root(),
    code("NET-FILES", &[B], "a place for /etc/hosts and /etc/resolv.conf", "leaves what the image has there", "have the files in the root file system"),
    code("RDT", &[C], "resctrl, and the right to it", "refuses", "run bryo as root where resctrl is mounted, or remove linux.intelRdt").by_root(),
    code("NET-DEVICE", &[C], "root over the host's network, or a device that can move", "refuses", "run bryo as root, or use --network auto").by_root(),
    code("NET-PING", &[A], "the gids of net.ipv4.ping_group_range in the container's map", "takes those that are there", "map more gids").row(40),

    code("DIR-XDG", &[A, C], "a directory of the caller's own for the state", "takes /run/user/UID or /tmp/bryo-UID, where they are safe", "set XDG_RUNTIME_DIR, or give --root").row(22),

    code("GRP-DENY", &[B, C], "setgroups(2), where additional groups are asked for", "refuses, unless --degrade=groups", "map gids through subordinate ids (bryo spec --rootless --subids)").row(27),
    code("RLIM", &[B], "a hard limit as high as is asked for", "takes the caller's hard limit", "raise the caller's (limits.conf, LimitNOFILE=)").row(28).by_root(),
    code("OOM", &[B], "the right to lower oom_score_adj", "takes the lowest that is allowed", "ask for no less than the caller's own, or OOMScoreAdjust= in the caller's unit").row(29).by_root(),
    code("DEV", &[B, C], "a device node of the host", "skips those of every container; refuses what is listed, unless --degrade=devices", "remove it from linux.devices, or have the host make it").row(30).by_root(),
    code("KEYRING", &[B], "a key for a session keyring", "keeps the caller's", "sudo sysctl -w kernel.keys.maxkeys=20000, or --no-new-keyring").row(34).by_root(),
    code("LSM-SELINUX", &[B, C], "SELinux, or the label that is asked for", "gives no label where there is no SELinux; refuses one that its policy does not know", "remove process.selinuxLabel and linux.mountLabel, or enable SELinux").row(26).by_root(),
    code("LSM-APPARMOR", &[B, C], "AppArmor, or the profile that is asked for", "refuses; where there is no AppArmor, goes without by --degrade=apparmor", "remove process.apparmorProfile, or load the profile").row(26).by_root(),
    code("CAP-DENY", &[B], "a capability that is asked for and that the caller does not have", "grants the others", "have the outer container grant it (docker, podman: --cap-add)").by_root(),
    code("CAP-AMBIENT", &[B], "ambient capabilities that are permitted and inheritable", "takes those that are", "list them in permitted and inheritable, too"),
    code("SCHED", &[C], "a scheduler as is asked for", "refuses", "see sched(7) for what process.scheduler may be"),
    code("IOPRIO", &[C], "an I/O priority as is asked for", "refuses", "see ioprio_set(2) for what process.ioPriority may be"),
    code("SECCOMP-AGENT", &[C], "the agent that system calls are to be passed to", "refuses", "start the agent that linux.seccomp.listenerPath names"),
    code("SECCOMP-LOAD", &[C], "the right to load a seccomp filter", "refuses", "in an outer container, allow it (docker, podman: --security-opt seccomp=unconfined)").by_root(),
    code("CRIU", &[C], "criu, or the capability that it takes", "refuses to checkpoint and restore", "install criu, and run as root").row(38).by_root(),
    code("HOOK", &[C], "a hook that succeeds", "refuses", "see what the hook says"),

    code("EXE-GUARD", &[C], "a way to keep bryo's own binary from the container", "refuses", "install bryo as a file that the container's ids do not own"),
    code("EXEC-NOTFOUND", &[C], "the program", "refuses", "name a program that the root file system has"),
    code("EXEC-INTERPRETER", &[C], "the interpreter or dynamic loader of the program", "refuses", "add what the program names"),
    code("EXEC-DENIED", &[C], "the right to execute the program", "refuses", "chmod a+x it, on a file system without noexec"),
    code("EXEC-FORMAT", &[C], "a program for this machine", "refuses", "use an image for this machine, or add #! to the script"),

    code("PROBE", &[C], "an answer to what bryo doctor looks at", "says what was not looked at", "see what keeps bryo from looking: an outer seccomp filter, a limit on processes, a service that hangs").by_root(),

    code("BUNDLE-EXISTS", &[C], "an empty place for the bundle", "refuses", "name another directory"),
    code("BUNDLE-BUSY", &[C], "a bundle that nobody else is making", "refuses", "wait for the other one"),
    code("BUNDLE-FLAT", &[C], "a bundle of one directory", "refuses", "leave out --flat"),
    code("IMG-SOURCE", &[C], "an image", "refuses", "see bryo bundle --help for what --from may be"),
    code("IMG-INVALID", &[C], "a whole image", "refuses", "fetch it again"),
    code("IMG-USER", &[C], "the user that the image names", "refuses", "have the image name a user that it has"),
    code("IMG-DEVICE", &[B], "device nodes", "has empty files in their place", "unpack as root of the machine").by_root(),
    code("IMG-XATTR", &[B], "extended attributes", "has files without them", "unpack on another file system, or as root of the machine").by_root(),
    code("IMG-OWNER", &[B], "ids for the owners of files", "makes everything root's", "get subordinate ids (see ID-NOSUBID)").by_root(),
    code("STORE-HOME", &[C], "a place for the store of layers", "refuses", "set HOME or XDG_DATA_HOME, or give --store"),
    code("STORE-BUSY", &[C], "a store that nobody is using", "refuses", "wait for the other one"),
    code("STORE-ACCESS", &[C], "a store of the caller's own", "refuses", "give another --store"),
];

/// `bryo help codes`: the table, a line each.
pub fn table() -> String {
    let rows = TABLE.iter().map(|code| {
        let root = if code.needs_root { "yes" } else { "no" };
        [code.name.into(), code.classes(), root.into(), code.about.into(), code.does.into(), code.fix.into()]
    });
    let head = ["CODE", "CLASS", "ROOT", "MISSING", "BRYO", "FIX"].map(String::from);
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    let width = |n: usize| rows.iter().map(|row| row[n].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string does not fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text + "\n\
        A: the same by another road, noted in \"degraded\" of bryo state. B: weaker means, with a warning; refused by\n\
        --degrade=strict. C: refused, unless it says what lets it go. ROOT: whether the fix takes root.\n"
}

/// `bryo help codes CODE`: all about these, or about the first that is none.
///
/// # Errors
/// A word that is no code.
pub fn named(names: &[&str]) -> Result<String, String> {
    let told = names.iter().map(|name| {
        let code = find(name).ok_or_else(|| format!("{name:?} is no code; fix: see bryo help codes"))?;
        let root = if code.needs_root { " (takes root)" } else { "" };
        let Code { name, about, does, fix, .. } = code;
        let class = code.classes();
        Ok(format!("{name}, class {class}\n  missing: {about}\n  bryo:    {does}\n  fix:     {fix}{root}\n"))
    });
    let told: Result<Vec<String>, String> = told.collect();
    Ok(told?.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    /// All sources but this one, less what is only for unit tests.
    fn sources() -> Vec<(PathBuf, String)> {
        fn read(dir: &Path, into: &mut Vec<(PathBuf, String)>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    read(&path, into);
                } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("codes.rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_string();
                    into.push((path, code));
                }
            }
        }
        let mut all = Vec::new();
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
        all
    }

    /// What stands between quotes, with what stands before it.
    fn quoted(text: &str) -> impl Iterator<Item = (&str, &str)> {
        let parts: Vec<&str> = text.split('"').collect();
        (1..parts.len()).map(move |n| (parts[n - 1], parts[n])).collect::<Vec<_>>().into_iter()
    }

    fn in_capitals(text: &str) -> bool {
        let of_word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
        text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.split('-').all(|word| !word.is_empty() && word.chars().all(of_word))
    }

    /// The codes that a file uses: what has the shape of `FAMILY-WORD`, and whatever is given where a code belongs.
    fn used(text: &str) -> BTreeSet<String> {
        const TAKES_CODE: [&str; 4] =
            [".code(", "Degradation::same(", "Degradation::weaker(", "Degradation::allowed("];
        // The name of a signal has that shape, too.
        let shaped = |literal: &str| literal.contains('-') && literal != "RTMAX-1";
        quoted(text)
            .filter(|(before, literal)| {
                let given = TAKES_CODE.iter().any(|call| before.trim_end().ends_with(call));
                in_capitals(literal) && (given || shaped(literal))
            })
            .map(|(_, literal)| literal.to_string())
            .collect()
    }

    #[test]
    fn every_code_that_the_sources_use_is_in_the_table() {
        for (path, text) in sources() {
            for name in used(&text) {
                assert!(find(&name).is_some(), "{name} of {} is not in the table", path.display());
            }
        }
    }

    #[test]
    fn every_code_of_the_table_is_used() {
        let sources = sources();
        for code in TABLE {
            let literal = format!("{:?}", code.name);
            assert!(sources.iter().any(|(_, text)| text.contains(&literal)), "{} is used nowhere", code.name);
        }
    }

    #[test]
    fn a_code_is_there_once_and_each_part_of_it_says_something_on_one_line() {
        let names: BTreeSet<_> = TABLE.iter().map(|code| code.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for code in TABLE {
            assert!(in_capitals(code.name) && !code.class.is_empty(), "{}", code.name);
            for part in [code.about, code.does, code.fix] {
                assert!(!part.is_empty() && part == crate::report::one_line(part), "{}: {part}", code.name);
            }
        }
    }

    #[test]
    fn what_uses_a_code_is_found_in_a_source() {
        let text =
            "x.code(\"HOOK\"), y(\n\"ID-RANGE\"), Degradation::weaker(\n    \"RLIM\", \"A\", \"RTMAX-1\")";
        assert_eq!(used(text).into_iter().collect::<Vec<_>>(), ["HOOK", "ID-RANGE", "RLIM"]);
    }

    #[test]
    fn the_columns_of_the_table_are_aligned() {
        let text = table();
        let lines: Vec<_> = text.lines().take_while(|line| !line.is_empty()).collect();
        let at = lines[0].find("MISSING").unwrap();
        assert_eq!(lines.len(), TABLE.len() + 1);
        for line in lines {
            assert!(line[..at].ends_with("  ") && !line[at..].starts_with(' '), "{line}");
        }
    }
}
