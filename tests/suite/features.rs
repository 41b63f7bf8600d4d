//! `features`: whatever it says that this runtime supports is tried, by whoever runs the suite, on whatever host.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::lab::{Bundle, Lab, bryo_only};

fn features(lab: &Lab) -> Value {
    lab.bare_call(["features"]).done().ok().json()
}

/// The words of a list.
#[track_caller]
fn words(features: &Value, pointer: &str) -> Vec<String> {
    let list = features.pointer(pointer).and_then(Value::as_array);
    let list = list.unwrap_or_else(|| panic!("no {pointer} in {features}"));
    list.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn enabled(features: &Value, pointer: &str) -> bool {
    features.pointer(pointer).and_then(|about| about["enabled"].as_bool()).unwrap()
}

/// Runs, and says nothing but what it prints.
#[track_caller]
fn works(bundle: &Bundle<'_>, prints: &str, what: &str) {
    let ran = bundle.run();
    assert_eq!((ran.code(), ran.stdout.as_str()), (0, prints), "{what}: {}", ran.stderr);
}

#[test]
fn every_mount_option_is_taken_by_a_mount() {
    bryo_only!("runc 1.1 lists options of which a tmpfs does not take all");
    let lab = Lab::new();
    let (source, id) = (lab.dir.join("source"), geteuid().as_raw());
    fs::create_dir(&source).unwrap();
    let mut bundle = lab.bundle().own_rootfs();
    let map = json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
    let mut targets = Vec::new();
    for word in words(&features(&lab), "/mountOptions") {
        let at = format!("/mnt/{word}");
        let bind = json!({ "destination": at, "type": "bind", "source": source, "options": ["rbind", word] });
        let tmpfs = json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": [word] });
        let mount = match word.as_str() {
            "bind" | "rbind" => bind,
            // Of a file system that is the container's own: the machine's are its root's.
            "idmap" | "ridmap" => {
                let own = format!("/mnt/for-{word}");
                bundle = bundle.add_mount(json!({ "destination": own, "type": "tmpfs", "source": "own" }));
                let source = bundle.rootfs().join(&own[1..]);
                json!({ "destination": at, "type": "bind", "source": source, "options": ["bind", word],
                        "uidMappings": map, "gidMappings": map })
            }
            // Of what is there already.
            "remount" => {
                bundle = bundle.add_mount(tmpfs.clone()).with(|c| {
                    let mounts = c["mounts"].as_array_mut().unwrap();
                    mounts.last_mut().unwrap()["options"] = json!([]);
                });
                tmpfs
            }
            "copy-symlink" | "dest-nofollow" | "src-nofollow" => bind,
            _ => tmpfs,
        };
        bundle = bundle.add_mount(mount);
        targets.push((word, at));
    }
    // One container for all of them, which are mounts then.
    let names: String = targets.iter().map(|(_, at)| format!("{at} ")).collect();
    let mounted =
        format!("for at in {names}; do grep -q \" $at \" /proc/self/mountinfo || echo $at; done; echo all");
    works(&bundle.sh(&mounted), "all\n", "mountOptions");
}

#[test]
fn every_namespace_is_a_new_one() {
    let lab = Lab::new();
    for kind in words(&features(&lab), "/linux/namespaces") {
        let file = match kind.as_str() {
            "mount" => "mnt",
            "network" => "net",
            other => other,
        };
        let ours = fs::read_link(format!("/proc/self/ns/{file}")).unwrap();
        let mut bundle = lab.bundle().namespace(&kind, None);
        if kind == "user" {
            // For root, too.
            bundle = bundle.with(|c| {
                let of = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
                c["linux"]["uidMappings"] = of(geteuid().as_raw());
                c["linux"]["gidMappings"] = of(nix::unistd::getegid().as_raw());
            });
        }
        let ran = bundle.args(["readlink", &format!("/proc/self/ns/{file}")]).run().ok();
        assert!(ran.stdout.starts_with(file), "{kind}: {}", ran.stdout);
        assert_ne!(ran.stdout.trim_end(), ours.to_str().unwrap(), "{kind}");
    }
}

#[test]
fn every_kind_of_hook_is_run() {
    let lab = Lab::new();
    let kinds = words(&features(&lab), "/hooks");
    let mut bundle = lab.bundle().own_rootfs();
    let (dir, rootfs) = (lab.dir.display().to_string(), bundle.rootfs());
    for kind in &kinds {
        let hook = match kind.as_str() {
            // It is found in the container.
            "startContainer" => json!({ "path": "/bin/touch", "args": ["touch", "/startContainer"] }),
            _ => json!({ "path": lab.script("hook", &format!(": > {dir}/$1")), "args": ["hook", kind] }),
        };
        bundle = bundle.hook(kind, hook);
    }
    works(&bundle.sh("echo ran"), "ran\n", "hooks");
    for kind in &kinds {
        assert!(lab.dir.join(kind).exists() || rootfs.join(kind).exists(), "{kind}");
    }
}

#[test]
fn every_capability_is_known() {
    let lab = Lab::new();
    let all = words(&features(&lab), "/linux/capabilities");
    let bundle = lab.bundle().sh("grep CapBnd /proc/self/status").with(|c| {
        c["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    });
    let ran = bundle.run().ok();
    assert!(!ran.stderr.contains("unknown"), "{}", ran.stderr);
    let held = u64::from_str_radix(ran.stdout.split_whitespace().last().unwrap(), 16).unwrap();
    // Root's own may be fewer in a container.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ours = crate::lab::field(&status, "CapBnd");
    let ours = u64::from_str_radix(ours.trim(), 16).unwrap();
    let listed = all.len() as u32;
    assert!(held.count_ones() == listed || (geteuid().is_root() && held == ours), "{held:x}: {listed}");
}

#[test]
fn every_word_of_seccomp_is_taken_by_the_kernel() {
    bryo_only!("runc 1.1 lists flags and actions that this kernel need not have");
    let lab = Lab::new();
    let features = features(&lab);
    let agent = lab.dir.join("agent");
    let _listener = UnixListener::bind(&agent).unwrap();
    let filtered = |seccomp: Value| lab.bundle().sh("echo ran").with(|c| c["linux"]["seccomp"] = seccomp);
    // Nobody calls these.
    let rule = |action: &str, args: Value| json!({ "names": ["acct"], "action": action, "args": args });
    for action in words(&features, "/linux/seccomp/actions") {
        let mut seccomp =
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule(&action, json!([]))] });
        if action == "SCMP_ACT_NOTIFY" {
            seccomp["listenerPath"] = agent.to_str().unwrap().into();
        }
        works(&filtered(seccomp), "ran\n", &action);
    }
    for operator in words(&features, "/linux/seccomp/operators") {
        let args = json!([{ "index": 1, "value": 7, "valueTwo": 7, "op": operator }]);
        let rules = json!([rule("SCMP_ACT_ERRNO", args)]);
        works(&filtered(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules })), "ran\n", &operator);
    }
    for flag in words(&features, "/linux/seccomp/supportedFlags") {
        let rules = json!([rule("SCMP_ACT_NOTIFY", json!([]))]);
        let seccomp = json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": [flag], "syscalls": rules,
                              "listenerPath": agent });
        works(&filtered(seccomp), "ran\n", &flag);
    }
    let archs = words(&features, "/linux/seccomp/archs");
    let rules = json!([rule("SCMP_ACT_ERRNO", json!([]))]);
    let seccomp = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": archs, "syscalls": rules });
    works(&filtered(seccomp), "ran\n", "archs");
    fs::remove_file(agent).unwrap();
}

#[test]
fn every_memory_policy_is_taken_by_the_kernel() {
    bryo_only!("runc 1.1 knows no memory policies");
    let lab = Lab::new();
    let features = features(&lab);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    // A kernel without NUMA does not say.
    let nodes = status.lines().find_map(|line| line.strip_prefix("Mems_allowed_list:"));
    let nodes = nodes.unwrap_or("0").trim().to_owned();
    let policy = |mode: &str, nodes: &str, flags: &[&str]| {
        lab.bundle()
            .sh("echo ran")
            .with(|c| c["linux"]["memoryPolicy"] = json!({ "mode": mode, "nodes": nodes, "flags": flags }))
    };
    for mode in words(&features, "/linux/memoryPolicy/modes") {
        let nodes = if ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&mode.as_str()) { "" } else { &nodes };
        works(&policy(&mode, nodes, &[]), "ran\n", &mode);
    }
    for flag in words(&features, "/linux/memoryPolicy/flags") {
        works(&policy("MPOL_BIND", &nodes, &[&flag]), "ran\n", &flag);
    }
    // And what is not listed does not work.
    let some = !words(&features, "/linux/memoryPolicy/modes").is_empty();
    assert_eq!(some, Path::new("/proc/self/numa_maps").exists());
}

#[test]
fn what_is_not_enabled_is_refused_with_its_code() {
    bryo_only!("runc 1.1 tells nothing of most of these");
    let lab = Lab::new();
    let features = features(&lab);
    for (pointer, name, asked, code) in [
        ("/linux/netDevices", "netDevices", json!({ "moss0": {} }), "NET-DEVICE"),
        ("/linux/intelRdt", "intelRdt", json!({ "l3CacheSchema": "L3:0=f" }), "RDT"),
    ] {
        let bundle = lab.bundle().namespace("network", None).with(|c| c["linux"][name] = asked);
        if enabled(&features, pointer) {
            assert!(geteuid().is_root(), "{name} takes root");
        } else {
            bundle.run().refuses(1, &[code]);
        }
    }
    for (pointer, name, code) in [
        ("/linux/apparmor", "apparmorProfile", "LSM-APPARMOR"),
        ("/linux/selinux", "selinuxLabel", "LSM-SELINUX"),
    ] {
        let bundle = lab.bundle().sh("echo ran").with(|c| c["process"][name] = "moss".into());
        let ran = bundle.run();
        // A label without SELinux is a warning; nobody has these labels.
        assert!(ran.stderr.contains(code) || enabled(&features, pointer), "{name}: {}", ran.stderr);
        assert!(ran.code() != 0 || name == "selinuxLabel", "{name}: {}", ran.stdout);
    }
}

#[test]
fn a_checkpoint_is_offered_to_whom_it_works_for() {
    bryo_only!("runc says yes to everybody");
    let lab = Lab::new();
    let offered = features(&lab)["annotations"]["org.opencontainers.runc.checkpoint.enabled"] == "true";
    let container = lab.bundle().sleeps().detach();
    let images = lab.dir.join("images");
    let ran =
        container.call("checkpoint", ["--leave-running", "--image-path", images.to_str().unwrap()]).done();
    // What criu makes of this kernel and container is criu's business; who may not ask it is told by us.
    let refused_by_us =
        ["criu needs CAP_", "there is no criu", "user namespace only", "CONFIG_CHECKPOINT_RESTORE"]
            .iter()
            .any(|words| ran.stderr.contains(words));
    assert_eq!(offered, !refused_by_us, "{}", ran.stderr);
    container.remove();
}
