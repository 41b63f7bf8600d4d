//! The trial by fire: each system call that the runtime makes, up to the exec, fails once with each of four errors.
//!
//! Whatever fails, it ends in one of three ways, and this is looked at from outside and from within the container:
//! - refused: exit code 1, one line that names the error or the way out, and nothing is left;
//! - degraded: a warning line with a code of the table, and all of what was asked for is there otherwise;
//! - unmoved: no word, since another means gives the very same, or nobody needs the answer. Only what
//!   `UNMOVED` in trial.rs names may be so.
//!
//! `faults.rs` kills the runtime at each step; here it lives, and has to see to the consequences itself.

mod tracer;
pub mod trial;

use std::fmt::Write;

use serde_json::{Value, json};

use crate::lab::{Bundle, Lab, NONE, PATIENCE, bryo_only, eventually};
use trial::{REFUSED_LATER, Trial, end, entries, nothing_left};

/// Shows all that the configuration asks for as the container finds it, but for numbers that are the kernel's choice.
const SHOW: &str = r"
exec 2>&1
grep -E '^(Umask|Uid|Gid|Groups|Sig(Blk|Ign|Cgt)|Cap|NoNewPrivs|Seccomp:|Cpus_allowed_list)' /proc/self/status
for file in uid_map gid_map setgroups limits oom_score_adj personality timens_offsets; do
    echo $file; cat /proc/self/$file
done
cut -d' ' -f4- /proc/self/mountinfo | sed -E 's/(shared|master|propagate_from):[0-9]+/\1/g; s/ overlay rw,.*/ overlay/'
for ns in $NAMESPACES; do
    [ $ns = $(readlink /proc/self/ns/${ns%%:*}) ] && echo shared $ns
done
hostname; cat /proc/sys/kernel/domainname /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_forward; umask
ip addr show lo | grep -E 'UP|inet '
env | grep -v NAMESPACES; pwd; ls /proc/self/fd
stat -c '%A %u %g %t:%T %N' /dev/* /dev/pts/*
wc -c < /proc/timer_list; ls /sys/firmware | wc -l
echo x > /proc/sys/kernel/shmmax; echo x > /written; mkdir /dev/shm/refused; touch /tmp/made; ls -la /tmp | wc -l
cat /proc/1/comm; ls /etc /tmp /mnt
";

/// A container that asks for as much as a plain user's may.
fn rich(lab: &Lab) -> Bundle<'_> {
    let note = |kind: &str| {
        let script = format!("exec cat > {}/hook.{kind}", lab.dir.display());
        let script = lab.script(&format!("hook-{kind}"), &script);
        json!({ "path": script, "timeout": 20 })
    };
    let namespaces: Vec<String> = ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup", "time"]
        .iter()
        .map(|kind| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string())
        .collect();
    let report = lab.dir.join("report");
    std::fs::create_dir_all(&report).unwrap();
    let bundle = lab
        .bundle()
        .namespace("network", None)
        .namespace("cgroup", None)
        .namespace("time", None)
        .add_mount(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "nodev", "noexec", "mode=1777", "size=1m"] }))
        .add_mount(json!({ "destination": "/mnt", "type": "bind", "source": report,
            "options": ["bind", "rw", "nosuid", "nodev"] }))
        .add_mount(json!({ "destination": "/mnt", "type": "bind", "source": lab.dir.join("run"),
            "options": ["rbind", "ro", "nosuid", "rprivate"] }))
        .with(|c| {
            let process = &mut c["process"];
            process["env"]
                .as_array_mut()
                .unwrap()
                .push(format!("NAMESPACES={}", namespaces.join(" ")).into());
            process["user"]["umask"] = 0o27.into();
            process["cwd"] = "/etc".into();
            process["oomScoreAdj"] = 500.into();
            process["rlimits"] = json!([
                { "type": "RLIMIT_NOFILE", "hard": 512, "soft": 256 },
                { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 },
            ]);
            process["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 5 });
            process["ioPriority"] = json!({ "class": "IOPRIO_CLASS_IDLE", "priority": 0 });
            c["domainname"] = "moos.example".into();
            let linux = &mut c["linux"];
            linux["timeOffsets"] = json!({ "monotonic": { "secs": 1000, "nanosecs": 0 } });
            linux["sysctl"] = json!({ "kernel.shmmax": "65536", "net.ipv4.ip_forward": "1" });
            linux["personality"] = json!({ "domain": "LINUX" });
            linux["rootfsPropagation"] = "private".into();
            linux["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 }],
            });
        });
    ["prestart", "createRuntime", "poststart", "poststop"]
        .iter()
        .fold(bundle, |b, kind| b.hook(kind, note(kind)))
        .hook("createContainer", note("createContainer"))
        .hook("startContainer", json!({ "path": "/bin/true" }))
        .sh(SHOW)
}

/// What the container has shown, and which hooks have run, which is forgotten with it.
fn shown(lab: &Lab, text: &str) -> String {
    let mut text = text.to_owned();
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        let note = lab.dir.join(format!("hook.{kind}"));
        if std::fs::remove_file(note).is_ok() {
            writeln!(text, "hook {kind}").unwrap();
        }
    }
    text
}

/// The same for one whose output was not waited for: it is in the report.
fn reported(lab: &Lab, id: &str) -> String {
    let stopped = eventually(PATIENCE, || lab.call(["state", id]).done().ok().json()["status"] == "stopped");
    let report = lab.dir.join("report/shown");
    // There is none where it did not get that far.
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    drop(std::fs::remove_file(&report));
    shown(lab, &format!("{text}stopped: {stopped}\n"))
}

/// Makes an end of the container, and of what its hooks have noted.
fn cleaned(lab: &Lab, id: &str) -> Result<(), String> {
    end(lab, id).map(|()| drop(shown(lab, "")))
}

/// The same container, which can write into the report.
fn reporting(lab: &Lab) -> Bundle<'_> {
    rich(lab)
        .add_mount(json!({ "destination": "/tmp/report", "type": "bind", "source": lab.dir.join("report"),
        "options": ["bind", "rw", "nosuid", "nodev"] }))
}

/// One that shows it there.
fn shows_in_its_report(lab: &Lab) -> Bundle<'_> {
    reporting(lab).sh(&format!("exec >/tmp/report/shown\n{SHOW}"))
}

fn try_run(lab: &Lab, bundle: &Bundle<'_>, options: &[&str]) {
    let trial = Trial {
        lab,
        call: &|id| bundle.named_call("run", id).args(options),
        code: 1,
        seen: &|traced, _| shown(lab, &traced.ran.stdout),
        shows: "CapEff",
        refused: &|_, told| nothing_left(lab, told),
        clean: &|id| cleaned(lab, id),
    };
    trial.by_fire();
}

#[test]
fn a_run_whose_calls_fail_is_refused_or_degraded_in_the_open() {
    bryo_only!("runc's threads make its calls uncountable");
    let lab = Lab::new();
    try_run(&lab, &rich(&lab), &[]);
}

#[test]
fn a_run_with_a_range_of_ids_and_an_overlay_whose_calls_fail_is_refused_or_degraded_in_the_open() {
    bryo_only!("runc's threads make its calls uncountable");
    let lab = Lab::new();
    let bundle = lab.bundle().subids().own_rootfs().sh(SHOW).with(|c| {
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [10, 20] });
    });
    try_run(&lab, &bundle, &["--ephemeral"]);
}

#[test]
fn a_create_whose_calls_fail_is_refused_or_degraded_in_the_open() {
    bryo_only!("runc's threads make its calls uncountable");
    let lab = Lab::new();
    let bundle = shows_in_its_report(&lab);
    let trial = Trial {
        lab: &lab,
        call: &|id| bundle.named_call("create", id),
        code: 1,
        seen: &|_, id| {
            let started = lab.call(["start", id]).done();
            if started.status.success() {
                return reported(&lab, id);
            }
            // Before it is asked, or while it is.
            started.refuses(1, &["has stopped"]);
            REFUSED_LATER.to_owned()
        },
        shows: "CapEff",
        refused: &|_, told| nothing_left(&lab, told),
        clean: &|id| cleaned(&lab, id),
    };
    trial.by_fire();
}

#[test]
fn a_start_whose_calls_fail_is_refused_and_the_container_can_be_deleted() {
    bryo_only!("runc's threads make its calls uncountable");
    let lab = Lab::new();
    let bundle = shows_in_its_report(&lab);
    let trial = Trial {
        lab: &lab,
        call: &|id| {
            bundle.named_call("create", id).done().ok();
            lab.call(["start", id])
        },
        code: 1,
        seen: &|_, id| reported(&lab, id),
        shows: "CapEff",
        refused: &|_, _| Ok(()),
        clean: &|id| cleaned(&lab, id),
    };
    trial.by_fire();
}

#[test]
fn an_exec_whose_calls_fail_is_refused_and_leaves_the_container_alone() {
    bryo_only!("runc's threads make its calls uncountable");
    let lab = Lab::new();
    let c = rich(&lab).sleeps().detach();
    // What the process had begun inside goes on to its end.
    let alone = || match eventually(PATIENCE, || lab.processes().len() == 1) {
        true => Ok(()),
        false => Err(format!("not one process: {:?}", lab.processes())),
    };
    let trial = Trial {
        lab: &lab,
        call: &|_| c.exec_call(&[], ["sh", "-c", SHOW]),
        code: 255,
        seen: &|traced, _| traced.ran.stdout.clone(),
        shows: "CapEff",
        refused: &|_, _| alone(),
        clean: &|_| alone(),
    };
    trial.by_fire();
    assert_eq!(c.status(), "running");
    c.remove();
}

#[test]
fn a_question_whose_calls_fail_is_refused_and_never_answered_wrongly() {
    bryo_only!("runc's threads make its calls uncountable");
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    let id = c.id.clone();
    let trial = Trial {
        lab: &lab,
        call: &|_| lab.call(["state", &id]),
        code: 1,
        seen: &|traced, _| traced.ran.stdout.clone(),
        shows: "running",
        refused: &|_, _| Ok(()),
        clean: &|_| Ok(()),
    };
    trial.by_fire();
    let trial = Trial {
        lab: &lab,
        call: &|_| lab.call(["list", "--format", "json"]),
        code: 1,
        // One that cannot be read is warned of, and the name of its owner may be a number.
        seen: &|traced, _| {
            let listed: Value = serde_json::from_str(&traced.ran.stdout).unwrap();
            let one = |c: &Value| format!("listed: {} {} {}\n", c["id"], c["pid"], c["status"]);
            listed.as_array().unwrap().iter().map(one).collect()
        },
        shows: "running",
        refused: &|_, _| Ok(()),
        clean: &|_| Ok(()),
    };
    trial.by_fire();
    c.remove();
}

#[test]
fn a_kill_whose_calls_fail_is_refused_or_sends_the_signal() {
    bryo_only!("runc's threads make its calls uncountable");
    let lab = Lab::new();
    let script = "trap 'echo got > /tmp/report/got' USR1; echo ready; sleep 1000 & while :; do wait; done";
    let c = reporting(&lab).sh(script).detach();
    c.wait_for_output("ready");
    let got = lab.dir.join("report/got");
    let trial = Trial {
        lab: &lab,
        call: &|_| c.call("kill", NONE).args(["USR1"]),
        code: 1,
        seen: &|_, _| {
            let seen = eventually(PATIENCE, || got.exists());
            drop(std::fs::remove_file(&got));
            format!("signalled: {seen}\n")
        },
        shows: "signalled: true",
        refused: &|_, _| Ok(()),
        clean: &|_| Ok(()),
    };
    trial.by_fire();
    c.remove();
}

#[test]
fn a_delete_whose_calls_fail_can_be_repeated() {
    bryo_only!("runc's threads make its calls uncountable");
    let lab = Lab::new();
    let bundle = rich(&lab).sleeps();
    let trial = Trial {
        lab: &lab,
        call: &|id| {
            bundle.named_call("run", id).args(["--detach"]).done().ok();
            lab.call(["delete", "--force", id])
        },
        code: 1,
        seen: &|_, _| {
            let left = nothing_left(&lab, false);
            shown(&lab, &format!("{left:?}\n"))
        },
        shows: "hook poststop",
        // What is not deleted is known still.
        refused: &|_, _| match (lab.processes().is_empty(), entries(&lab).is_empty()) {
            (false, true) => Err("the container runs, and is forgotten".to_owned()),
            _ => Ok(()),
        },
        clean: &|id| cleaned(&lab, id),
    };
    trial.by_fire();
}
