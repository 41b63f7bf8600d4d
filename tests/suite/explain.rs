//! explain: what it tells beforehand is what run does afterwards, and it does nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{getegid, geteuid};
use serde_json::{Value, json};

use crate::lab::{Bundle, Lab, NONE, Ran, bryo_only, busybox, plain_user_only};

/// What explain says of a bundle, which it finds nothing wrong with.
fn explained(bundle: &Bundle<'_>) -> Value {
    bundle.call("explain", ["--json"]).done().ok().json()
}

/// The steps by which something comes to be at a place in the container.
fn steps_at<'a>(explained: &'a Value, at: &str) -> Vec<&'a Value> {
    explained["steps"].as_array().unwrap().iter().filter(|step| step["at"] == at).collect()
}

/// The flags of each mount, by its place, out of the container's mountinfo: those of the mount itself.
fn mounts(mountinfo: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mount = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        (fields[4].to_owned(), fields[5].split(',').map(str::to_owned).collect())
    };
    // A later one hides an earlier one at the same place.
    mountinfo.lines().map(mount).collect()
}

#[test]
fn the_maps_that_it_tells_are_those_that_the_container_has() {
    bryo_only!("runc has no such verb");
    let lab = Lab::new();
    for bundle in [lab.bundle(), lab.bundle().subids()] {
        let bundle = bundle.sh("cat /proc/self/uid_map; echo; cat /proc/self/gid_map");
        let told = explained(&bundle);
        let lines = |name: &str| -> String {
            let line = |m: &Value| format!("{} {} {}\n", m["containerID"], m["hostID"], m["size"]);
            told["ids"][name].as_array().unwrap().iter().map(line).collect()
        };
        let found = bundle.run().ok().stdout;
        let found: Vec<_> = found.split_whitespace().collect();
        let told = format!("{}{}", lines("uidMappings"), lines("gidMappings"));
        assert_eq!(told.split_whitespace().collect::<Vec<_>>(), found);
    }
}

#[test]
fn the_namespaces_that_it_tells_are_new_in_the_container() {
    bryo_only!("runc has no such verb");
    let lab = Lab::new();
    let bundle =
        lab.bundle().sh("for n in user pid mnt net ipc uts cgroup time; do readlink /proc/self/ns/$n; done");
    let told = explained(&bundle);
    let words = |key: &str| -> BTreeSet<String> {
        told["namespaces"][key].as_array().unwrap().iter().map(|w| w.as_str().unwrap().to_owned()).collect()
    };
    let found = bundle.run().ok().stdout;
    let (mut new, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for link in found.lines() {
        let file = link.split(':').next().unwrap();
        let word = match file {
            "mnt" => "mount",
            "net" => "network",
            other => other,
        };
        let ours = fs::read_link(format!("/proc/self/ns/{file}")).unwrap();
        let to = if ours.to_str() == Some(link) { &mut shared } else { &mut new };
        to.insert(word.to_owned());
    }
    assert_eq!((words("new"), words("shared")), (new, shared));
}

#[test]
fn the_flags_of_mounts_that_it_tells_are_those_that_the_container_has() {
    bryo_only!("runc has no such verb");
    let lab = Lab::new();
    fs::create_dir(lab.dir.join("data")).unwrap();
    let data = lab.dir.join("data");
    let bundle = lab
        .bundle()
        .own_rootfs()
        .add_mount(json!({"destination": "/data", "source": data, "type": "bind",
                          "options": ["bind", "ro", "nosuid"]}))
        .add_mount(json!({"destination": "/scratch", "source": "tmpfs", "type": "tmpfs",
                          "options": ["nodev", "noexec", "size=1m"]}))
        .sh("cat /proc/self/mountinfo");
    fs::create_dir(bundle.rootfs().join("data")).unwrap();
    fs::create_dir(bundle.rootfs().join("scratch")).unwrap();
    let told = explained(&bundle);
    let found = mounts(&bundle.run().ok().stdout);
    let mut compared = 0;
    for step in told["steps"].as_array().unwrap() {
        if !(step["do"] == "mount" || step["do"] == "bind") {
            continue;
        }
        let at = step["at"].as_str().unwrap();
        let flags = &found[at];
        let list = |key: &str| step["flags"][key].as_array().unwrap().clone();
        for flag in list("set") {
            // strictatime is what mountinfo has no word for.
            if flag == "strictatime" {
                assert!(!flags.contains("relatime") && !flags.contains("noatime"), "{at}: {flags:?}");
                continue;
            }
            assert!(flags.contains(flag.as_str().unwrap()), "{at}: told {flag}, found {flags:?}");
        }
        for flag in list("clear") {
            assert!(!flags.contains(flag.as_str().unwrap()), "{at}: told no {flag}, found {flags:?}");
        }
        if step["do"] == "mount" {
            // All that a new file system has is what was told.
            let told: BTreeSet<_> = list("set").iter().map(|f| f.as_str().unwrap().to_owned()).collect();
            let extra: Vec<_> = flags
                .iter()
                .filter(|flag| !["rw", "relatime"].contains(&flag.as_str()) && !told.contains(*flag))
                .collect();
            assert!(extra.is_empty(), "{at}: not told: {extra:?}");
        }
        compared += 1;
    }
    assert!(compared >= 8, "{compared} mounts compared");
    assert_eq!(steps_at(&told, "/scratch")[0]["options"], json!(["size=1m"]));
}

#[test]
fn the_degradations_that_it_tells_are_those_of_the_state() {
    bryo_only!("runc has no such verb");
    let lab = Lab::new();
    let bundle = lab.bundle().sleeps().with(|c| {
        c["process"]["rlimits"] = json!([{"type": "RLIMIT_MEMLOCK", "soft": 1, "hard": u64::MAX}]);
        c["linux"]["sysctl"] = json!({});
    });
    let told = explained(&bundle);
    let codes = |list: &Value| -> BTreeSet<String> {
        list.as_array().into_iter().flatten().map(|d| d["code"].as_str().unwrap().to_owned()).collect()
    };
    let container = bundle.create();
    // Those that only the kernel knows are in the steps.
    let mut possible = codes(&told["degradations"]);
    let known = possible.clone();
    for step in told["steps"].as_array().unwrap() {
        let costs = step["or"].as_array().into_iter().flatten();
        possible.extend(costs.map(|other| other["cost"]["code"].as_str().unwrap().to_owned()));
    }
    let found = codes(&container.state()["degraded"]);
    assert!(known.is_subset(&found), "told {known:?}, found {found:?}");
    assert!(found.is_subset(&possible), "told {possible:?}, found {found:?}");
    container.remove();
}

#[test]
fn the_process_and_its_filter_are_told() {
    bryo_only!("runc has no such verb");
    let lab = Lab::new();
    let bundle = lab.bundle().args(["id", "-u"]).with(|c| {
        c["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["swapon", "swapoff"], "action": "SCMP_ACT_ERRNO"}],
        });
        c["hooks"] = json!({"poststop": [{"path": "/bin/true"}]});
    });
    let told = explained(&bundle);
    assert_eq!(told["process"]["args"], json!(["id", "-u"]));
    assert_eq!(told["process"]["noNewPrivileges"], true);
    assert_eq!(told["seccomp"]["rules"], 1);
    let instructions = told["seccomp"]["instructions"].as_u64().unwrap();
    assert!(instructions > 4);
    assert_eq!(told["seccomp"]["bytes"], 8 * instructions);
    assert_eq!(told["hooks"]["poststop"][0]["path"], "/bin/true");
    let text = bundle.call("explain", NONE).done().ok().stdout;
    assert!(text.contains(&format!("compiled to {instructions} instructions of BPF")), "{text}");
    bundle.run().prints("0\n");
}

/// Everything below a directory: what it is, when it was changed, and how long it is.
fn snapshot(dir: &Path) -> BTreeSet<(String, u32, i64, i64, u64)> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let meta = entry.path().symlink_metadata().unwrap();
        let path = entry.path().display().to_string();
        // What the lab itself writes the output of its calls to.
        if path.ends_with("/out") {
            continue;
        }
        found.insert((path, meta.mode(), meta.ctime(), meta.ctime_nsec(), meta.len()));
        if meta.is_dir() {
            found.extend(snapshot(&entry.path()));
        }
    }
    found
}

#[test]
fn it_leaves_no_trace() {
    bryo_only!("runc has no such verb");
    let lab = Lab::new();
    let kept = lab.dir.join("kept");
    let bundle = lab.bundle().with(|c| {
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []});
    });
    let dir = bundle.save().to_str().unwrap();
    let before = snapshot(&lab.dir);
    let call = |args: &[&str]| lab.call(args).args(["--bundle", dir]);
    call(&["explain", "--json"]).args(["--overlay"]).args([&kept]).args(["web"]).done().ok();
    call(&["explain"]).done().ok();
    call(&["run", "--dry-run"]).args(["web"]).done().ok();
    call(&["create", "--dry-run"]).args(["web"]).done().ok();
    // Nor in the default place of states, were there none yet.
    lab.bare_call(["explain", "--bundle", dir, "web"]).done().ok();
    assert_eq!(snapshot(&lab.dir), before);
    assert!(!lab.root().exists(), "the state directory was made");
}

#[test]
fn it_starts_nothing_and_writes_nothing() {
    bryo_only!("runc has no such verb");
    let lab = Lab::new();
    let bundle = lab.bundle().subids();
    let trace = lab.dir.join("trace");
    // What makes a process, a file or a mount, or changes one.
    let calls = "clone,clone3,fork,vfork,execve,mkdir,mkdirat,mount,fsopen,open_tree,unshare,setns,\
                 rename,renameat,renameat2,symlink,symlinkat,unlink,unlinkat,openat,openat2,creat";
    let options = ["-f", "-qq", "-e", "signal=none", "-e", calls, "-o", trace.to_str().unwrap(), "--"];
    bundle.call("explain", NONE).under(std::iter::once("strace").chain(options)).done().ok();
    let trace = fs::read_to_string(trace).unwrap();
    let harmless = |line: &&str| {
        line.contains("execve(") && line.contains("explain")
            || (line.contains("openat")
                && !["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|f| line.contains(f)))
    };
    let deeds: Vec<_> = trace.lines().filter(|line| !harmless(line)).collect();
    assert_eq!(deeds, [""; 0]);
}

/// The last line that was said, which is the error.
fn error(ran: &Ran) -> String {
    ran.stderr.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn what_run_refuses_it_refuses_with_the_same_line_and_code() {
    bryo_only!("runc has no such verb");
    let lab = Lab::new();
    type Change = (&'static str, fn(&mut Value));
    let changes: [Change; 12] = [
        ("no mount namespace", |c| c["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "user"}])),
        ("a cgroup property", |c| c["annotations"] = json!({"io.bryo.network": "carrier-pigeon"})),
        ("ids of others", |c| {
            c["linux"]["uidMappings"][0] = json!({"containerID": 0, "hostID": 7, "size": 3})
        }),
        ("a user outside", |c| c["process"]["user"] = json!({"uid": 7, "gid": 0, "additionalGids": [9]})),
        ("a root that is missing", |c| c["root"]["path"] = "/nowhere/at/all".into()),
        ("a root that is a file", |c| c["root"]["path"] = "/etc/passwd".into()),
        ("a parameter of the host", |c| c["linux"]["sysctl"] = json!({"vm.swappiness": "1"})),
        ("a mount inside of proc", |c| {
            c["mounts"].as_array_mut().unwrap().push(json!({
                "destination": "/proc/self", "type": "tmpfs", "source": "tmpfs"
            }));
        }),
        ("a profile", |c| c["process"]["apparmorProfile"] = "no-such-profile-of-moss".into()),
        ("a filter", |c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_NOTIFY"})),
        ("a limit above its own", |c| {
            c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 8}]);
        }),
        ("no configuration", |c| *c = json!({"ociVersion": "1.0.2"})),
    ];
    let mut compared = 0;
    for (what, change) in changes {
        // AppArmor, where there is one, is asked only by the exec.
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        if what == "a profile" && enabled.is_ok_and(|text| text.starts_with('Y')) {
            continue;
        }
        let bundle = lab.bundle().with(change);
        let run = bundle.run();
        // Of some, root is not refused.
        if run.status.success() {
            bundle.call("explain", NONE).done().ok();
            continue;
        }
        let run = run.exits(1);
        for told in [bundle.call("explain", NONE).done(), bundle.call("run", ["--dry-run"]).done()] {
            let told = told.exits(1);
            // Each call has an id of its own.
            let plain = |ran: &Ran| {
                let line = error(ran);
                let words: Vec<_> = line.split(' ').filter(|word| !word.contains("bryo-suite")).collect();
                words.join(" ")
            };
            assert_eq!(plain(&told), plain(&run), "{what}");
        }
        compared += 1;
    }
    assert!(compared >= if geteuid().is_root() { 8 } else { 11 }, "{compared}");
    assert!(lab.state_entries().is_empty());
}

#[test]
fn an_id_that_is_taken_is_told() {
    bryo_only!("runc has no such verb");
    let lab = Lab::new();
    let container = lab.bundle().sleeps().create();
    let id = container.state()["id"].as_str().unwrap().to_owned();
    let bundle = lab.bundle();
    bundle.named_call("explain", &id).done().refuses(1, &["already exists", "; fix: "]);
    container.remove();
    bundle.named_call("explain", &id).done().ok();
}

#[test]
fn every_reason_is_told_and_the_rest_of_the_plan_too() {
    bryo_only!("runc has no such verb");
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c["linux"]["sysctl"] = json!({"vm.swappiness": "1"});
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_NOTIFY"});
        c["hooks"] = json!({"poststop": [{"path": "not/absolute"}]});
    });
    let ran = bundle.call("explain", ["--json"]).done().exits(1);
    let told = ran.json();
    assert_eq!(told["outcome"], "refused");
    let refusals = told["refusals"].as_array().unwrap();
    let of = |word: &str| refusals.iter().any(|r| r["line"].as_str().unwrap().contains(word));
    assert!(of("vm.swappiness") && of("seccomp") && of("poststop"), "{refusals:?}");
    assert_eq!(refusals.len(), 3, "{refusals:?}");
    assert!(ran.stderr.ends_with(&format!("{}\n", refusals[0]["line"].as_str().unwrap())), "{}", ran.stderr);
    // Of what is refused there is no plan, of the rest there is.
    assert_eq!(told["steps"], Value::Null);
    assert_eq!(told["hooks"], Value::Null);
    assert_eq!(told["ids"]["uidMappings"][0]["hostID"], geteuid().as_raw());
    let text = bundle.call("explain", NONE).done().exits(1).stdout;
    assert!(text.contains("it would be refused, for 3 reasons"), "{text}");
}

#[test]
fn the_keys_are_those_that_are_documented() {
    bryo_only!("runc has no such verb");
    let lab = Lab::new();
    let told = explained(&lab.bundle());
    let keys: Vec<_> = told.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = "bundle cgroup degradations hooks id ids namespaces network outcome process rdt refusals \
                  remarks rootfs seccomp steps";
    assert_eq!(keys, wanted.split_whitespace().collect::<Vec<_>>());
    assert_eq!(told["refusals"], json!([]));
    let places = |at: &str| steps_at(&told, at)[0].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        places("/dev/shm"),
        ["at", "beneath", "do", "flags", "options", "propagation", "source", "text", "type"]
    );
    assert!(places("/dev/mqueue").contains(&"or".to_owned()));
}

#[test]
fn a_container_that_nobody_names_is_called_like_its_bundle() {
    bryo_only!("runc has no such verb");
    let lab = Lab::new();
    let bundle = lab.bundle();
    let dir = bundle.save().to_owned();
    let told = lab.call(["explain", "--json"]).cwd(&dir).done().ok().json();
    assert_eq!(told["id"], dir.file_name().unwrap().to_str().unwrap());
    assert_eq!(told["bundle"], dir.to_str().unwrap());
}

// ---- spec --from-config ---------------------------------------------------------------------------------

/// What an engine writes for root: the parts of Docker's configuration that matter here.
fn engines_config() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0, "additionalGids": [0, 10]},
            "args": ["sh", "-c", "id -u; cat /proc/self/uid_map | wc -l; ulimit -Hn; echo ok"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_CHOWN", "CAP_SETGID", "CAP_SETUID", "CAP_KILL"],
                "effective": ["CAP_CHOWN", "CAP_SETGID", "CAP_SETUID", "CAP_KILL"],
                "permitted": ["CAP_CHOWN", "CAP_SETGID", "CAP_SETUID", "CAP_KILL"],
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1_073_741_816_u64}],
            "oomScoreAdj": -500,
        },
        "root": {"path": busybox(), "readonly": true},
        "hostname": "9f2c7d1b0a4e",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]},
            {"destination": "/etc/hosts", "type": "bind", "options": ["rbind", "rprivate"],
             "source": "/var/lib/docker/containers/9f2c7d1b0a4e/hosts"},
        ],
        "hooks": {"prestart": [{"path": "/proc/1/exe", "args": ["libnetwork-setkey", "-exec-root=/var/run/docker", "9f2c"]}]},
        "linux": {
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"},
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": 67_108_864, "disableOOMKiller": false},
                "cpu": {"shares": 0},
                "pids": {"limit": 2048},
                "blockIO": {"weight": 0},
            },
            "cgroupsPath": "/docker/9f2c7d1b0a4e",
            "namespaces": [
                {"type": "mount"}, {"type": "network"}, {"type": "uts"}, {"type": "pid"}, {"type": "ipc"},
            ],
            "devices": [{"path": "/dev/moss", "type": "c", "major": 4000, "minor": 1}],
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/bus", "/proc/sys"],
        },
    })
}

/// The configuration, rewritten, and what was said.
fn rewritten(lab: &Lab, config: &Value) -> (Value, Ran) {
    let file = lab.file("root.json", config.to_string());
    let dir = lab.dir.join("rewritten");
    fs::create_dir(&dir).unwrap();
    let call = lab.bare_call(["spec", "--rootless", "--from-config"]).args([&file]).args(["-b"]).args([&dir]);
    let ran = call.done().ok();
    assert_eq!(ran.stdout, "");
    (serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap(), ran)
}

#[test]
fn a_configuration_of_an_engine_is_rewritten_and_each_change_is_told() {
    bryo_only!("runc rewrites nothing");
    plain_user_only!("for root it works as it is");
    let lab = Lab::new();
    let (config, ran) = rewritten(&lab, &engines_config());
    let linux = &config["linux"];
    assert_eq!(linux["uidMappings"][0], json!({"containerID": 0, "hostID": geteuid().as_raw(), "size": 1}));
    assert!(linux["gidMappings"].as_array().unwrap().len() > 1, "all of the caller's gids: {linux}");
    assert!(linux["namespaces"].as_array().unwrap().contains(&json!({"type": "user"})));
    assert!(linux["namespaces"].as_array().unwrap().contains(&json!({"type": "network"})));
    assert!(linux.get("cgroupsPath").is_none());
    assert_eq!(linux["devices"], json!([]));
    assert_eq!(linux["resources"]["devices"], engines_config()["linux"]["resources"]["devices"]);
    assert!(config["process"].get("oomScoreAdj").is_none());
    assert!(config.get("hooks").is_none_or(|hooks| hooks == &json!({})));
    // What is mapped, or has nothing to do with who runs it, stays.
    assert_eq!(config["process"]["user"], engines_config()["process"]["user"]);
    assert_eq!(config["process"]["capabilities"], engines_config()["process"]["capabilities"]);
    assert_eq!(
        config["mounts"].as_array().unwrap()[..6],
        engines_config()["mounts"].as_array().unwrap()[..6]
    );
    assert_eq!(linux["maskedPaths"], engines_config()["linux"]["maskedPaths"]);
    // Nobody's gids end there.
    assert_ne!(linux["sysctl"]["net.ipv4.ping_group_range"], "0 2147483647");
    for word in [
        "linux.namespaces: added user",
        "linux.uidMappings",
        "linux.cgroupsPath: removed \"/docker/9f2c7d1b0a4e\"",
        "process.oomScoreAdj",
        "process.rlimits: RLIMIT_NOFILE",
        "linux.devices: removed /dev/moss",
        "mounts: /etc/hosts: removed",
        "libnetwork-setkey",
        "net.ipv4.ping_group_range",
    ] {
        let line = ran.stderr.lines().find(|line| line.contains(word));
        assert!(line.is_some_and(|line| line.starts_with("bryo: ")), "{word}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("will be refused"), "{}", ran.stderr);
}

#[test]
fn a_rewritten_configuration_runs_here_and_under_runc() {
    bryo_only!("runc rewrites nothing");
    plain_user_only!("for root it works as it is");
    for runtime in [crate::lab::runtime(), Path::new("runc")] {
        let mut lab = Lab::new();
        let (config, _) = rewritten(&lab, &engines_config());
        lab.runtime = runtime.to_owned();
        let bundle = lab.bundle().with(|c| {
            *c = config;
            // It has no additional groups for a plain user, mapped or not, and does not look for a systemd by itself.
            if runtime == Path::new("runc") {
                c["process"]["user"] = json!({"uid": 0, "gid": 0});
                c["linux"]["resources"] = json!({});
            }
        });
        let ran = bundle.run().ok();
        let lines: Vec<_> = ran.stdout.lines().collect();
        assert_eq!((lines[0], lines[3]), ("0", "ok"), "{ran:?}");
        assert!(lines[1].trim().parse::<u32>().unwrap() > 1, "{ran:?}");
    }
}

#[test]
fn what_spec_writes_for_root_is_rewritten_much_as_spec_rootless_writes() {
    bryo_only!("runc rewrites nothing");
    plain_user_only!("for root it works as it is");
    let lab = Lab::new();
    let dir = lab.dir.join("of-root");
    fs::create_dir(&dir).unwrap();
    lab.bare_call(["spec"]).cwd(&dir).done().ok();
    let root: Value = serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    let (mut config, _) = rewritten(&lab, &root);
    let map = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
    assert_eq!(config["linux"]["uidMappings"], map(geteuid().as_raw()));
    assert_eq!(config["linux"]["gidMappings"], map(getegid().as_raw()));
    let devpts = config["mounts"].as_array().unwrap().iter().find(|m| m["type"] == "devpts").unwrap();
    assert!(!devpts["options"].as_array().unwrap().contains(&json!("gid=5")));
    // The rest is as it was: the network namespace too, and with it sysfs.
    assert!(config["mounts"].as_array().unwrap().iter().any(|m| m["type"] == "sysfs"));
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["cat", "/proc/sys/kernel/hostname"]);
    config["root"]["path"] = json!(busybox());
    lab.bundle().with(|c| *c = config).run().prints("bryo\n");
}

#[test]
fn a_configuration_that_is_there_is_not_written_over() {
    bryo_only!("runc rewrites nothing");
    plain_user_only!("for root it works as it is");
    let lab = Lab::new();
    let file = lab.file("config.json", engines_config().to_string());
    let call = lab.bare_call(["spec", "--rootless", "--from-config"]).args([&file]).cwd(&lab.dir);
    call.done().refuses(1, &["File config.json exists", "; fix: "]);
    assert_eq!(fs::read_to_string(&file).unwrap(), engines_config().to_string());
    let nothing = lab.bare_call(["spec", "--rootless", "--from-config", "/nowhere"]).cwd(&lab.dir);
    nothing.done().refuses(1, &["/nowhere", "no such file or directory"]);
    lab.bare_call(["spec", "--from-config"]).args([&file]).done().refuses(1, &["--rootless"]);
}
