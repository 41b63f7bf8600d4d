//! Inside of other containers. The outer one is bryo's, set up as an engine does it by default, or as `bryo doctor
//! --for nested` has it changed; the inner one has a configuration for a plain user.

use std::fs;

use nix::libc;
use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};

use super::{map_to_root, user_after};
use crate::lab::{Bundle, Lab, NONE, Ran, bryo_only, busybox, plain_user_only, runtime};

/// An outer container, to be changed before it is started.
struct Outer<'lab> {
    bundle: Bundle<'lab>,
    /// Options of the inner call, before the verb.
    globals: Vec<String>,
    /// Its options after the verb.
    options: Vec<String>,
}

/// The capabilities that Docker gives.
const DOCKER: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What a filter forbids whose container has no CAP_SYS_ADMIN: namespaces and mounts, the old calls and the new
/// ones, and keys. What it cannot look into does not exist.
fn dockers_filter() -> Value {
    let forbidden = [
        "add_key",
        "bpf",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "keyctl",
        "mount",
        "mount_setattr",
        "move_mount",
        "open_tree",
        "pivot_root",
        "quotactl",
        "request_key",
        "setdomainname",
        "sethostname",
        "setns",
        "umount",
        "umount2",
        "unshare",
    ];
    let mut rules = vec![
        json!({ "names": forbidden, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM }),
        json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }),
    ];
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    for bit in (0..32).map(|n| 1_u32 << n).filter(|bit| namespaces as u32 & bit != 0) {
        let has = json!({ "index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ" });
        rules.push(
            json!({ "names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM, "args": [has] }),
        );
    }
    filter(&rules)
}

/// What Podman's has left of that: namespaces and mounts are there for everybody.
fn podmans_filter() -> Value {
    let forbidden = ["bpf", "quotactl", "setdomainname", "sethostname"];
    filter(&[json!({ "names": forbidden, "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EPERM })])
}

fn filter(rules: &[Value]) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules })
}

/// As `docker run` and `podman run` without options have it, but for the filter: all ids of the caller's, some
/// capabilities, a masked /proc.
fn outer(lab: &Lab) -> Outer<'_> {
    let bundle = lab.bundle().own_rootfs().subids().with(|c| {
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set] = json!(DOCKER);
        }
        c["process"]["capabilities"]["ambient"] = json!([]);
        c["process"]["noNewPrivileges"] = false.into();
        c["process"]["env"] =
            json!([format!("PATH={}", crate::runtime::PATH), format!("HOME={}", lab.dir.display())]);
        c["linux"]["maskedPaths"] = json!([
            "/proc/acpi",
            "/proc/asound",
            "/proc/interrupts",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/sys/firmware",
            "/sys/devices/virtual/powercap",
        ]);
    });
    let shown = |path: &std::path::Path, options: &[&str]| json!({ "destination": path, "type": "bind", "source": path, "options": options });
    let mut bundle = bundle.add_mount(
        json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"] }),
    );
    // What bryo and its helpers are made of, and what the inner container is made of.
    for path in ["/usr", "/lib", "/lib64"].map(std::path::Path::new) {
        bundle = bundle.add_mount(shown(path, &["rbind", "ro"]));
    }
    bundle =
        bundle.add_mount(shown(runtime(), &["bind", "ro"])).add_mount(shown(&busybox(), &["bind", "ro"]));
    Outer { bundle: bundle.add_mount(shown(&lab.dir, &["bind"])), globals: Vec::new(), options: Vec::new() }
}

impl<'lab> Outer<'lab> {
    fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.bundle.config);
        self
    }

    fn filtered(self, filter: Value) -> Self {
        self.with(|c| c["linux"]["seccomp"] = filter)
    }

    /// Docker's systempaths=unconfined, Podman's unmask=ALL.
    fn unmasked(self) -> Self {
        self.with(|c| {
            c["linux"]["maskedPaths"] = json!([]);
            c["linux"]["readonlyPaths"] = json!([]);
        })
    }

    fn without_capabilities(self) -> Self {
        self.with(|c| {
            for set in ["bounding", "effective", "permitted"] {
                c["process"]["capabilities"][set] = json!([]);
            }
        })
    }

    fn user(self, uid: u32, gid: u32) -> Self {
        self.with(|c| c["process"]["user"] = json!({ "uid": uid, "gid": gid })).without_capabilities()
    }

    fn without_variable(self, name: &str) -> Self {
        let name = format!("{name}=");
        self.with(|c| {
            let env = c["process"]["env"].as_array_mut().unwrap();
            env.retain(|entry| !entry.as_str().unwrap().starts_with(&name));
        })
    }

    fn globals(mut self, globals: &[&str]) -> Self {
        self.globals = globals.iter().map(ToString::to_string).collect();
        self
    }

    fn options(mut self, options: &[&str]) -> Self {
        self.options = options.iter().map(ToString::to_string).collect();
        self
    }

    /// Has it run this inner container. What is left of that is written to stdout.
    fn runs(self, inner: &Bundle<'_>) -> Ran {
        inner.save();
        let inner = format!(
            "{} --root /tmp/state {} run --bundle {} {} {}",
            runtime().display(),
            self.globals.join(" "),
            inner.dir.display(),
            self.options.join(" "),
            inner.lab.id()
        );
        let script = format!(
            "{inner}; code=$?; ls -A /tmp/state 2>/dev/null | grep -v '^seccomp:cache$'; \
             pgrep bryo; exit $code"
        );
        self.bundle.sh(&script).run()
    }
}

/// An inner container for root of the outer one.
fn inner<'lab>(lab: &'lab Lab, script: &str) -> Bundle<'lab> {
    lab.bundle().with(map_to_root).sh(script)
}

/// The same without a hostname.
fn nameless<'lab>(lab: &'lab Lab, script: &str) -> Bundle<'lab> {
    inner(lab, script).with(|c| drop(c.as_object_mut().unwrap().remove("hostname")))
}

/// Refused on one line with this code, these words, and the way out for each engine; nothing is left.
#[track_caller]
fn refuses(ran: Ran, code: &str, words: &[&str]) {
    let ran = ran.refuses(1, &[&format!(": {code}: "), "; fix: "]).refuses(1, words);
    assert_eq!(ran.stdout, "", "left behind: {ran:?}");
}

const ENGINES: [&str; 3] = ["docker", "podman", "Kubernetes"];

#[test]
fn in_a_container_with_dockers_filter_it_says_what_the_container_has_to_be_started_with() {
    bryo_only!("the outer runtime is bryo");
    let lab = Lab::new();
    let ran = outer(&lab).filtered(dockers_filter()).runs(&inner(&lab, "echo alive"));
    refuses(ran, "NS-SECCOMP", &ENGINES);
    // And it is not the mask that was in the way.
    let ran = outer(&lab).filtered(dockers_filter()).unmasked().runs(&inner(&lab, "echo alive"));
    refuses(ran, "NS-SECCOMP", &["operation not permitted"]);
}

#[test]
fn in_a_container_without_a_filter_the_mask_is_left_to_be_said() {
    bryo_only!("the outer runtime is bryo");
    let lab = Lab::new();
    let ran = outer(&lab).runs(&inner(&lab, "echo alive"));
    let masked = ["/proc/", " more are masked", "--degrade=proc"];
    refuses(ran, "PROC-MASKED", &[&ENGINES[..], &masked].concat());
}

#[test]
fn in_a_container_without_filter_and_mask_it_runs() {
    bryo_only!("the outer runtime is bryo");
    let lab = Lab::new();
    let script = "echo $$ $(id -u) $(hostname)";
    let ran = outer(&lab).unmasked().runs(&inner(&lab, script)).prints("1 0 moss\n");
    assert_eq!(ran.stderr, "");
}

#[test]
fn in_a_container_with_a_masked_proc_it_runs_for_who_would_share_it() {
    bryo_only!("the outer runtime is bryo");
    let lab = Lab::new();
    let ran = outer(&lab).globals(&["--degrade=proc"]).runs(&inner(&lab, "echo $(hostname); cat /proc/keys"));
    crate::lab::warns(ran, "moss\n", "PROC-MASKED");
}

#[test]
fn in_a_container_with_podmans_filter_all_but_the_hostname_is_to_be_had() {
    bryo_only!("the outer runtime is bryo");
    let lab = Lab::new();
    let podman = || outer(&lab).filtered(podmans_filter()).unmasked();
    refuses(podman().runs(&inner(&lab, "echo alive")), "UTS-DENIED", &ENGINES);
    podman().runs(&nameless(&lab, "echo alive")).prints("alive\n");
}

#[test]
fn no_new_privs_around_a_root_who_maps_by_itself_is_no_obstacle() {
    bryo_only!("the outer runtime is bryo");
    let lab = Lab::new();
    let bundle = inner(&lab, "id -u; wc -l < /proc/self/uid_map").with(|c| {
        for key in ["uidMappings", "gidMappings"] {
            c["linux"][key] = json!([
                { "containerID": 0, "hostID": 1, "size": 1000 },
                { "containerID": 1000, "hostID": 5000, "size": 10 },
            ]);
        }
        c["process"]["user"] = json!({ "uid": 1001, "gid": 1001 });
    });
    let outer = outer(&lab).unmasked().with(|c| c["process"]["noNewPrivileges"] = true.into());
    // Files of the caller's are nobody's in there.
    let ran = outer.runs(&bundle);
    crate::lab::warns(ran, "1001\n2\n", "FS-OWNER");
}

#[test]
fn a_map_that_is_larger_than_the_outer_one_is_refused_with_both() {
    bryo_only!("the outer runtime is bryo");
    let lab = Lab::new();
    let small = outer(&lab).unmasked().with(|c| {
        for (key, id) in [("uidMappings", geteuid().as_raw()), ("gidMappings", getegid().as_raw())] {
            c["linux"][key] = json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        }
    });
    let large = inner(&lab, "true").with(|c| {
        for key in ["uidMappings", "gidMappings"] {
            c["linux"][key] = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
        }
    });
    refuses(small.runs(&large), "ID-RANGE", &["0+65536", "0+1", "our own user namespace"]);
}

#[test]
fn root_without_the_right_to_map_root_is_told_which_one_it_is() {
    bryo_only!("the outer runtime is bryo");
    let lab = Lab::new();
    let dropped = || outer(&lab).unmasked().without_capabilities();
    let words = ["docker, podman --user 1000, Kubernetes runAsUser: 1000", "--cap-add SETFCAP"];
    refuses(dropped().runs(&inner(&lab, "true")), "ID-SETFCAP", &words);
    // Both ways out are ways out.
    let with = dropped().with(|c| {
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set] = json!(["CAP_SETFCAP"]);
        }
    });
    with.runs(&inner(&lab, "echo alive")).prints("alive\n");
    let other = inner(&lab, "echo alive").with(|c| {
        for key in ["uidMappings", "gidMappings"] {
            c["linux"][key] = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
        }
    });
    // The tree belongs to the caller, who is somebody else in there.
    crate::lab::warns(dropped().user(1000, 1000).runs(&other), "alive\n", "FS-OWNER");
}

#[test]
fn in_a_container_without_tun_a_network_is_refused_with_the_device_to_add() {
    bryo_only!("the outer runtime is bryo");
    let lab = Lab::new();
    let ran = outer(&lab).unmasked().options(&["--network", "pasta"]).runs(&inner(&lab, "true"));
    refuses(ran, "NET-TUN", &["/dev/net/tun", "--device /dev/net/tun"]);
}

#[test]
fn in_a_container_without_fuse_a_layer_that_vanishes_is_the_kernels() {
    bryo_only!("the outer runtime is bryo");
    let lab = Lab::new();
    let ephemeral = inner(&lab, "touch /moss && echo written").with(|c| c["root"]["readonly"] = false.into());
    let ran = outer(&lab).unmasked().options(&["--ephemeral"]).runs(&ephemeral).prints("written\n");
    assert!(!ran.stderr.contains("FS-"), "{}", ran.stderr);
}

#[test]
fn as_openshift_has_it_it_runs_once_proc_is_unmasked() {
    bryo_only!("the outer runtime is bryo");
    let lab = Lab::new();
    // An id that nobody knows in the group of root, no capability, no new privileges, nothing to write to but /tmp.
    let openshift = || {
        let outer = outer(&lab).filtered(podmans_filter()).user(1234, 0).with(|c| {
            c["process"]["noNewPrivileges"] = true.into();
            c["root"]["readonly"] = true.into();
        });
        outer.without_variable("HOME")
    };
    let bundle = nameless(&lab, "echo $(id -u) $$").with(|c| {
        c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 1234, "size": 1 }]);
        c["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    });
    refuses(openshift().runs(&bundle), "PROC-MASKED", &["Kubernetes procMount: Unmasked"]);
    crate::lab::warns(openshift().unmasked().runs(&bundle), "0 1\n", "FS-OWNER");
}

// ---- hosts that are odd, and work ---------------------------------------------------------------------

#[test]
fn a_proc_that_hides_the_processes_of_others_is_as_good_as_any() {
    bryo_only!("runc needs a user namespace for pids");
    let lab = Lab::new();
    let script = "mount -t proc -o hidepid=2 proc /proc && \"$@\"";
    let namespaces = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--"];
    let bundle = inner(&lab, "echo $$; test -r /proc/1/status && echo seen");
    let call = bundle.call("run", NONE).under(["sh", "-c", script, "sh"]).under(namespaces);
    let ran = call.done().prints("1\nseen\n");
    assert_eq!(ran.stderr, "");
    // And one that shows them later: the kernel refuses none.
    let container = inner(&lab, "").sleeps().named("hidden");
    container.save();
    // systemd, in another pid namespace, could not be told whom to move.
    let bryo = format!("{} --cgroup-manager disabled --root {}", runtime().display(), lab.root().display());
    let script = format!(
        "mount -t proc -o hidepid=2 proc /proc && {bryo} create --bundle {} hidden && {bryo} start hidden && \
         {bryo} exec hidden echo in && {bryo} ps -f json hidden | grep -c , ; {bryo} delete -f hidden",
        container.dir.display()
    );
    lab.program("sh").args(["-c", &script]).under(namespaces).done().prints("in\n0\n");
}

#[test]
fn a_uid_that_nobody_knows_without_home_or_session_on_a_host_that_is_read_only_runs_a_container() {
    bryo_only!("runc wants a directory for its state");
    plain_user_only!("it is about a plain user");
    let lab = Lab::new();
    let dir = lab.dir.display();
    // Only the lab can be written to.
    let host = user_after(&format!(
        "mount --bind {dir} {dir}; cd {dir}; mount -o remount,bind,ro /; ! touch /var/tmp/moss 2>/dev/null; \
         mkdir etc; echo root:x:0:0::/:/bin/sh > etc/passwd; mount --bind etc/passwd /etc/passwd"
    ));
    let bundle = lab.bundle().sh("echo $(id -u) $HOME; touch /tmp/moss 2>/dev/null || echo read-only");
    let call = bundle.call("run", NONE).env_remove("HOME").env_remove("XDG_RUNTIME_DIR");
    let ran = host(call).done().prints("0 /root\nread-only\n");
    // Without its session the user's systemd, if there is one, is not to be reached.
    let others: Vec<_> = ran.stderr.lines().filter(|line| !line.contains("CG-NOBUS")).collect();
    assert_eq!(others, [""; 0]);
    fs::remove_dir_all(lab.dir.join("etc")).unwrap();
}

#[test]
fn where_nothing_can_be_written_it_says_where_the_state_was_to_go() {
    bryo_only!("runc has no words for it");
    plain_user_only!("it is about a plain user");
    let lab = Lab::new();
    let bundle = lab.bundle();
    bundle.save();
    let host = user_after(
        "mount -t tmpfs -o ro none /run; mount -o remount,bind,ro /
         if mountpoint -q /tmp; then mount -o remount,bind,ro /tmp; fi",
    );
    let call = lab.bare_call(["run", "--bundle"]).args([&bundle.dir]).args([lab.id()]);
    let ran = host(call.env_remove("HOME").env_remove("XDG_RUNTIME_DIR")).done();
    ran.refuses(1, &["DIR-XDG", "read-only file system", "; fix: ", "set XDG_RUNTIME_DIR"]);
}
