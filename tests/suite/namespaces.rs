//! Namespaces: new, shared, joined by path; ids, host name, clocks and kernel parameters in them.

use std::fs;
use std::path::PathBuf;

use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};

use crate::lab::{Bundle, Container, Lab, NONE, bryo_only, field, plain_user_only};

fn inode(pid: &str, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

/// The namespace of this kind as a process inside sees its own.
fn inside(bundle: Bundle, kind: &str) -> PathBuf {
    let ran = bundle.args(["readlink", &format!("/proc/self/ns/{kind}")]).run().ok();
    PathBuf::from(ran.stdout.trim_end())
}

/// The names of namespaces in config.json, and in /proc/PID/ns.
const KINDS: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
    ("user", "user"),
    ("network", "net"),
    ("cgroup", "cgroup"),
];

#[test]
fn a_listed_namespace_is_new() {
    let lab = Lab::new();
    for (name, link) in KINDS {
        let bundle = lab.bundle().namespace(name, None);
        assert_ne!(inside(bundle, link), inode("self", link), "{name}");
    }
}

#[test]
fn a_namespace_that_is_not_listed_is_the_callers() {
    let lab = Lab::new();
    for (name, link) in KINDS {
        let bundle = match name {
            "mount" | "user" => continue, // A plain user cannot be without these.
            "pid" => lab.bundle().without_proc(),
            // The queues belong to the namespace, and those of the host are not ours to mount.
            "ipc" => lab.bundle().with(|c| {
                c["mounts"].as_array_mut().unwrap().retain(|m| m["type"] != "mqueue");
            }),
            "uts" => lab.bundle().with(|c| c["hostname"] = Value::Null),
            _ => lab.bundle(),
        };
        let bundle = bundle.without_namespace(name);
        assert_eq!(inside(bundle, link), inode("self", link), "{name}");
    }
}

/// A container with a network namespace, for others to join.
fn host(lab: &Lab) -> Container<'_> {
    lab.bundle().namespace("network", None).sleeps().detach()
}

/// A bundle that lives in the user namespace of another container, and in more of its namespaces.
fn guest<'lab>(lab: &'lab Lab, host: &Container, kinds: &[&str]) -> Bundle<'lab> {
    let pid = host.pid();
    // runc wants the map of the other container repeated.
    let mut bundle = lab.bundle();
    for (name, link) in KINDS {
        if name == "user" || kinds.contains(&name) {
            bundle = bundle.namespace(name, Some(&format!("/proc/{pid}/ns/{link}")));
        }
    }
    bundle
}

#[test]
fn a_namespace_with_a_path_is_joined() {
    let lab = Lab::new();
    let host = host(&lab);
    let pid = host.pid().to_string();
    for kind in ["network", "ipc", "uts"] {
        let link = KINDS.iter().find(|k| k.0 == kind).unwrap().1;
        let bundle = guest(&lab, &host, &[kind]);
        assert_eq!(inside(bundle, link), inode(&pid, link), "{kind}");
        let bundle = guest(&lab, &host, &[kind]);
        assert_eq!(inside(bundle, "user"), inode(&pid, "user"), "{kind}");
    }
    host.remove();
}

#[test]
fn a_joined_user_namespace_needs_no_map() {
    bryo_only!("runc 1.1 wants the map of the joined namespace repeated");
    let lab = Lab::new();
    let host = host(&lab);
    let bundle = guest(&lab, &host, &["uts"]).with(|c| {
        c["hostname"] = Value::Null;
        c["linux"]["uidMappings"] = Value::Null;
        c["linux"]["gidMappings"] = Value::Null;
    });
    bundle.sh("hostname; id -u").run().prints("moss\n0\n");
    host.remove();
}

#[test]
fn several_namespaces_can_be_joined_at_once() {
    let lab = Lab::new();
    let host = host(&lab);
    let bundle = guest(&lab, &host, &["network", "ipc", "uts"]).with(|c| c["hostname"] = Value::Null);
    bundle.args(["hostname"]).run().prints("moss\n");
    host.remove();
}

#[test]
fn a_cgroup_namespace_is_joined() {
    let lab = Lab::new();
    let host = lab.bundle().namespace("cgroup", None).sleeps().detach();
    let pid = host.pid().to_string();
    let bundle = guest(&lab, &host, &["cgroup"]);
    assert_eq!(inside(bundle, "cgroup"), inode(&pid, "cgroup"));
    host.remove();
}

#[test]
fn a_time_namespace_is_joined() {
    bryo_only!("runc 1.1 knows no time namespaces");
    let lab = Lab::new();
    let host = lab.bundle().namespace("time", None).sleeps().detach();
    let path = format!("/proc/{}/ns/time", host.pid());
    let bundle = guest(&lab, &host, &[]).namespace("time", Some(&path));
    assert_eq!(inside(bundle, "time"), inode(&host.pid().to_string(), "time"));
    host.remove();
}

#[test]
fn a_joined_mount_namespace_shows_its_files() {
    bryo_only!("runc 1.1 prepares a root file system in the joined namespace");
    let lab = Lab::new();
    let host = lab.bundle().own_rootfs().sh("echo seen > /tmp/file; echo ready; sleep 1000").detach();
    host.wait_for_output("ready");
    let ran = guest(&lab, &host, &["mount"]).args(["true"]).run();
    // Whether it is done or refused is bryo's choice, and both are one clear answer.
    if !ran.status.success() {
        ran.refuses(1, &[]);
    }
    assert_eq!(host.status(), "running");
    host.exec(["cat", "/tmp/file"]).prints("seen\n");
    host.remove();
}

#[test]
fn the_processes_of_a_joined_pid_namespace_are_seen() {
    let lab = Lab::new();
    let host = lab.bundle().args(["sleep", "997"]).detach();
    let ran = guest(&lab, &host, &["pid"]).args(["ps", "-o", "args"]).run().ok();
    assert!(ran.stdout.contains("sleep 997"), "{}", ran.stdout);
    assert_eq!(host.status(), "running");
    host.remove();
}

#[test]
fn a_namespace_path_that_is_missing_or_of_another_kind_is_refused() {
    let lab = Lab::new();
    let missing = lab.dir.join("missing");
    for path in [missing.to_str().unwrap(), "/proc/self/ns/uts", "/etc/passwd"] {
        let ran = lab.bundle().namespace("network", Some(path)).run();
        ran.refuses(1, &[]).in_bryos_words(&[path]);
        assert!(lab.state_entries().is_empty());
    }
}

#[test]
fn a_namespace_that_is_listed_twice_is_refused() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        crate::lab::push(&mut c["linux"]["namespaces"], json!({ "type": "ipc" }));
    });
    bundle.run().refuses(1, &["ipc"]).in_bryos_words(&["namespace"]);
}

#[test]
fn an_unknown_kind_of_namespace_is_refused() {
    let lab = Lab::new();
    lab.bundle().namespace("moss", None).run().refuses(1, &["moss"]);
}

#[test]
fn the_host_name_is_set_in_a_uts_namespace_only() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| c["hostname"] = "green".into());
    bundle.args(["hostname"]).run().prints("green\n");
    let before = nix::unistd::gethostname().unwrap();
    lab.bundle().without_namespace("uts").run().refuses(1, &["hostname"]);
    assert_eq!(nix::unistd::gethostname().unwrap(), before);
}

#[test]
fn the_domain_name_is_set() {
    bryo_only!("runc 1.1 ignores domainname");
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| c["domainname"] = "green.example".into());
    bundle.args(["cat", "/proc/sys/kernel/domainname"]).run().prints("green.example\n");
}

#[test]
fn a_single_id_maps_root_to_the_caller() {
    let lab = Lab::new();
    let script = "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; cat /proc/self/setgroups";
    // To map a group that is one's own without a privilege, setgroups must be given up first.
    let setgroups = if geteuid().is_root() { "allow" } else { "deny" };
    let expected = format!(" 0 {} 1\n 0 {} 1\n{setgroups}\n", geteuid(), getegid());
    lab.bundle().sh(script).run().prints(&expected);
    lab.bundle().sh("id -u; id -g").run().prints("0\n0\n");
}

#[test]
fn a_range_of_ids_is_mapped_by_the_helpers() {
    let lab = Lab::new();
    let bundle = lab.bundle().subids();
    let expected = |maps: &Value| {
        let lines = maps.as_array().unwrap().iter();
        lines
            .map(|m| format!(" {} {} {}\n", m["containerID"], m["hostID"], m["size"]))
            .collect::<Vec<_>>()
            .concat()
    };
    let uids = expected(&bundle.config["linux"]["uidMappings"]);
    let gids = expected(&bundle.config["linux"]["gidMappings"]);
    let script = "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; cat /proc/self/setgroups";
    bundle.sh(script).run().prints(&format!("{uids}{gids}allow\n"));
}

#[test]
fn a_process_may_run_as_any_mapped_id() {
    let lab = Lab::new();
    for (uid, gid) in [(1, 0), (1000, 1000), (65536, 65536)] {
        let bundle = lab.bundle().subids().with(|c| c["process"]["user"] = json!({ "uid": uid, "gid": gid }));
        bundle.sh("echo $(id -u) $(id -g)").run().prints(&format!("{uid} {gid}\n"));
    }
}

/// Cut a range of subordinate ids into lines of one id each, root first.
fn cut(maps: &mut Value, lines: u64) {
    let start = maps[1]["hostID"].as_u64().unwrap();
    let list = maps.as_array_mut().unwrap();
    list.truncate(1);
    list.extend((1..lines).map(|n| json!({ "containerID": n, "hostID": start + n, "size": 1 })));
}

#[test]
fn a_map_of_several_lines_is_written_whole() {
    let lab = Lab::new();
    let bundle = lab.bundle().subids().with(|c| {
        cut(&mut c["linux"]["uidMappings"], 5);
        cut(&mut c["linux"]["gidMappings"], 5);
    });
    bundle.sh("wc -l < /proc/self/uid_map; wc -l < /proc/self/gid_map").run().prints("5\n5\n");
}

#[test]
fn a_map_may_have_hundreds_of_lines() {
    bryo_only!("runc 1.1 sends the map through a buffer that long ones do not fit");
    let lab = Lab::new();
    let bundle = lab.bundle().subids().with(|c| {
        // The kernel takes 340, and a page of text at most.
        cut(&mut c["linux"]["uidMappings"], 250);
        cut(&mut c["linux"]["gidMappings"], 250);
    });
    bundle.sh("wc -l < /proc/self/uid_map; wc -l < /proc/self/gid_map").run().prints("250\n250\n");
}

#[test]
fn a_map_beyond_the_callers_range_is_refused() {
    plain_user_only!("all ids are root's");
    let lab = Lab::new();
    let bundle = lab.bundle().subids().with(|c| {
        let maps = &mut c["linux"]["uidMappings"];
        maps[1]["size"] = (maps[1]["size"].as_u64().unwrap() + 1).into();
    });
    bundle.run().refuses(1, &["uid"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_map_beyond_the_callers_range_is_refused_with_the_code_and_the_fix() {
    bryo_only!("the form of the error is bryo's");
    plain_user_only!("all ids are root's");
    let lab = Lab::new();
    let bundle = lab.bundle().subids().with(|c| {
        let maps = &mut c["linux"]["gidMappings"];
        maps[1]["size"] = (maps[1]["size"].as_u64().unwrap() + 1).into();
    });
    bundle.run().refuses(1, &["gid", "ID-RANGE", "fix: ", "/etc/subgid"]);
}

#[test]
fn a_process_id_that_is_not_mapped_is_refused() {
    let lab = Lab::new();
    let bundle = lab.bundle().subids().with(|c| c["process"]["user"]["uid"] = 70000.into());
    bundle.run().exits(1);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_single_id_may_be_another_than_root() {
    bryo_only!("runc needs a mapped root for the set-up");
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c["linux"]["uidMappings"] = json!([{ "containerID": 1000, "hostID": geteuid().as_raw(), "size": 1 }]);
        c["linux"]["gidMappings"] = json!([{ "containerID": 1000, "hostID": getegid().as_raw(), "size": 1 }]);
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    bundle
        .sh("id -u; id -g; hostname; tr -s ' ' < /proc/self/uid_map | cut -d' ' -f2")
        .run()
        .prints("1000\n1000\nmoss\n1000\n");
}

#[test]
fn the_loopback_interface_of_a_new_network_namespace_is_up() {
    let lab = Lab::new();
    let bundle = lab.bundle().namespace("network", None);
    let ran = bundle.args(["ip", "-o", "addr"]).run().ok();
    assert!(ran.stdout.contains("inet 127.0.0.1/8"), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().filter(|l| !l.contains(": lo ")).count(), 0, "{}", ran.stdout);
}

#[test]
fn sysfs_of_a_new_network_namespace_shows_its_interfaces_and_belongs_to_root() {
    let lab = Lab::new();
    let bundle = lab.bundle().namespace("network", None).with(|c| {
        let sys = c["mounts"].as_array_mut().unwrap().iter_mut().find(|m| m["destination"] == "/sys");
        *sys.unwrap() = json!({
            "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        });
    });
    bundle.sh("ls /sys/class/net; stat -c %u /sys/class/net/lo/mtu").run().prints("lo\n0\n");
}

fn sysctl<'lab>(lab: &'lab Lab, key: &str, value: &str) -> Bundle<'lab> {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    lab.bundle().args(["cat", &path]).with(|c| c["linux"]["sysctl"] = json!({ key: value }))
}

#[test]
fn kernel_parameters_of_own_namespaces_are_set() {
    let lab = Lab::new();
    sysctl(&lab, "kernel.shm_rmid_forced", "1").run().prints("1\n");
    sysctl(&lab, "kernel.msgmax", "9000").run().prints("9000\n");
    let net = sysctl(&lab, "net.ipv4.ip_forward", "1").namespace("network", None);
    net.run().prints("1\n");
    let ports = sysctl(&lab, "net.ipv4.ip_unprivileged_port_start", "80").namespace("network", None);
    ports.run().prints("80\n");
}

#[test]
fn kernel_parameters_of_the_host_are_refused() {
    let lab = Lab::new();
    for key in ["vm.swappiness", "kernel.panic", "net.ipv4.ip_forward", "fs.file-max", "moss"] {
        sysctl(&lab, key, "1").run().refuses(1, &[key]);
    }
    sysctl(&lab, "kernel.msgmax", "9000").without_namespace("ipc").run().refuses(1, &["kernel.msgmax"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn clocks_of_a_time_namespace_are_offset() {
    bryo_only!("runc 1.1 knows no time namespaces");
    let lab = Lab::new();
    let bundle = lab.bundle().namespace("time", None).with(|c| {
        c["linux"]["timeOffsets"] = json!({
            "boottime": { "secs": 1_000_000, "nanosecs": 0 },
            "monotonic": { "secs": 2_000_000, "nanosecs": 500_000_000 },
        });
    });
    let up = |text: &str| text.split(['.', ' ']).next().unwrap().parse::<u64>().unwrap();
    let host = up(&fs::read_to_string("/proc/uptime").unwrap());
    let c = bundle.sh("cat /proc/uptime; cat /proc/self/timens_offsets; sleep 1000").detach();
    c.wait_for_output("boottime");
    let first = up(&c.stdout());
    assert!((host + 1_000_000..host + 1_000_100).contains(&first), "{first} on a host up for {host}");
    // An exec lives by the same clocks.
    let of_exec = up(&c.exec(["cat", "/proc/uptime"]).ok().stdout);
    assert!((first..first + 100).contains(&of_exec));
    c.remove();
}

#[test]
fn time_offsets_without_a_time_namespace_are_refused() {
    bryo_only!("runc 1.1 knows no time namespaces");
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1, "nanosecs": 0 } });
    });
    bundle.run().refuses(1, &["time"]);
}

#[test]
fn the_first_process_has_pid_one() {
    let lab = Lab::new();
    lab.bundle().sh("echo $$").run().prints("1\n");
    let status = lab.bundle().args(["cat", "/proc/self/status"]).run().ok().stdout;
    assert_eq!(field(&status, "NSpid"), "1");
}

#[test]
fn root_may_not_reach_processes_of_the_host() {
    let lab = Lab::new();
    // By the /proc of the host, which a volume may bring in.
    let bundle = lab.bundle().add_mount(json!({
        "destination": "/mnt", "type": "none", "source": "/proc", "options": ["rbind", "ro"],
    }));
    let me = std::process::id();
    let script = format!("cat /mnt/{me}/environ && exit 1; readlink /mnt/{me}/cwd && exit 2; exit 0");
    bundle.sh(&script).call("run", NONE).done().ok();
}
