//! A /proc that is masked: as an outer container does it, by mounts over parts of it, which the next user namespace
//! locks.

use nix::unistd::getpid;
use serde_json::{Value, json};

use crate::lab::{Bundle, Call, Lab, NONE, Ran, bryo_only, runtime, warns};

/// Start it as root of an outer container: pid 1 of a pid namespace, with a proc whose /proc/fs is masked.
fn masked(call: Call<'_>) -> Ran {
    let script = "mount -t tmpfs -o ro none /proc/fs && \"$@\"";
    call.under(["sh", "-c", script, "sh"]).under(OUTER).done()
}

const OUTER: [&str; 8] =
    ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "--"];

/// For root of a user namespace that has one id.
fn bundle(lab: &Lab) -> Bundle<'_> {
    lab.bundle().with(|c| {
        for key in ["uidMappings", "gidMappings"] {
            c["linux"][key] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        }
    })
}

/// The same with every capability.
fn mighty(lab: &Lab) -> Bundle<'_> {
    let all = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_KILL", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"];
    bundle(lab).with(|c| {
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set] = json!(all);
        }
        c["process"]["capabilities"]["ambient"] = json!([]);
    })
}

fn call<'lab>(bundle: &Bundle<'lab>) -> Call<'lab> {
    bundle.call("run", NONE)
}

#[test]
fn a_masked_proc_is_refused_by_what_is_masked_and_with_both_ways_out() {
    bryo_only!("runc has no words for it");
    let lab = Lab::new();
    let ran = masked(call(&bundle(&lab)));
    let words = ["cannot mount proc on /proc", "PROC-MASKED: /proc/fs is masked", "; fix: unmask /proc"];
    ran.refuses(1, &words).in_bryos_words(&["operation not permitted", "or do without with --degrade=proc"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn who_would_do_without_gets_the_outer_proc_and_its_processes() {
    bryo_only!("runc has no such option");
    let lab = Lab::new();
    // The processes of the outer container, none of the machine's; and its mask.
    let script =
        "test -r /proc/self/status && ls /proc | grep -c '^[0-9]*$' && ls /proc/fs && cat /proc/1/comm";
    let shares = bundle(&lab).with_globals(["--degrade=proc"]).sh(script);
    let ran = masked(call(&shares));
    let line = ran.stderr.clone();
    let count: u32 = ran.stdout.lines().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    assert!((3..10).contains(&count), "{ran:?}");
    warns(ran, &format!("{count}\nsh\n"), "PROC-MASKED");
    for words in ["whose processes it sees and may signal", "; fix: unmask /proc of the outer container"] {
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn a_strict_caller_who_names_it_gets_it_and_the_state_tells() {
    bryo_only!("runc has no such option");
    let lab = Lab::new();
    let bundle = bundle(&lab).sleeps().named("shares");
    bundle.save();
    // In this pid namespace it could not say to systemd whom it is to move.
    let runtime =
        format!("{} --cgroup-manager disabled --root {}", runtime().display(), lab.root().display());
    let script = format!(
        "set -e; {runtime} --degrade=strict,proc run -d --bundle {} shares; {runtime} state shares; \
         {runtime} exec shares sh -c 'echo $$ > /dev/null; test -r /proc/self/status'; {runtime} delete -f shares",
        bundle.dir.display()
    );
    let ran = masked(lab.program("sh").args(["-c", &script])).ok();
    let degraded = ran.json()["degraded"].as_array().cloned().unwrap_or_default();
    let entry = degraded.iter().find(|d| d["code"] == "PROC-MASKED").unwrap_or_else(|| panic!("{ran:?}"));
    assert_eq!(entry["class"], "allowed");
    assert!(entry["fix"].as_str().unwrap().contains("systempaths=unconfined"), "{entry}");
}

#[test]
fn all_of_its_processes_are_listed_and_killed_without_a_pid_namespace_or_a_cgroup() {
    bryo_only!("runc has no such option");
    let lab = Lab::new();
    let bundle = bundle(&lab).sh("sleep 1000 & setsid sleep 1000 & exec sleep 1000").named("many");
    bundle.save();
    let runtime = format!("{} --root {}", runtime().display(), lab.root().display());
    // Two of the three have left init, by which a pid namespace would end them.
    let script = format!(
        "set -e; {runtime} --cgroup-manager disabled --degrade=proc run -d --bundle {} many\n\
         n=0; while [ \"$({runtime} ps -f json many | tr ',' '\\n' | wc -l)\" != 3 ] && [ $n -lt 500 ]; do \
             n=$((n+1)); sleep 0.01; done\n\
         {runtime} ps -f json many | tr ',' '\\n' | wc -l\n\
         {runtime} kill many KILL\n\
         n=0; while pgrep -x sleep >/dev/null && [ $n -lt 500 ]; do n=$((n+1)); sleep 0.01; done\n\
         pgrep -x sleep | wc -l; {runtime} state many | grep -c '\"stopped\"'; {runtime} delete many",
        bundle.dir.display()
    );
    masked(lab.program("sh").args(["-c", &script])).prints("3\n0\n1\n");
    assert!(lab.state_entries().is_empty());
}

#[test]
fn the_end_of_a_run_in_the_foreground_is_the_end_of_what_it_has_started() {
    bryo_only!("runc has no such option");
    let lab = Lab::new();
    let shares =
        bundle(&lab).with_globals(["--degrade=proc"]).sh("setsid sleep 1000 & sleep 0.3; echo started");
    let run = call(&shares);
    let script = "\"$@\"; n=0; while pgrep -x sleep >/dev/null && [ $n -lt 300 ]; do n=$((n+1)); sleep 0.01; done; \
                  pgrep -x sleep | wc -l";
    masked(run.under(["sh", "-c", script, "sh"])).prints("started\n0\n");
}

#[test]
fn what_it_sees_of_the_outer_processes_it_does_not_get_at() {
    bryo_only!("runc has no such option");
    let lab = Lab::new();
    // Pid 1 is a shell of the outer container, and of the same uid on the outside as root in here.
    let secret = lab.file("secret", "outer");
    let script = format!(
        "for pid in $(ls /proc | grep '^[0-9]*$'); do \
             [ \"$(readlink /proc/$pid/ns/user)\" = \"$(readlink /proc/self/ns/user)\" ] && continue; \
             for file in root/proc root{} cwd/. exe environ maps mem auxv ns/mnt ns/user; do \
                 cat /proc/$pid/$file >/dev/null 2>&1 && echo read /proc/$pid/$file; \
             done; \
             for fd in $(ls /proc/$pid/fd 2>/dev/null); do \
                 (: < /proc/$pid/fd/$fd) 2>/dev/null && echo opened $fd; readlink /proc/$pid/fd/$fd; \
             done; \
             ls /proc/$pid/root/ /proc/$pid/cwd/ 2>/dev/null; \
         done; \
         while umount /proc/fs 2>/dev/null; do :; done; ls /proc/fs; \
         mount -t proc none /mnt 2>/dev/null && echo mounted; \
         (echo 1 > /proc/sys/kernel/panic); echo tried",
        secret.display()
    );
    let ran = masked(call(&mighty(&lab).with_globals(["--degrade=proc"]).sh(&script)));
    let ran = ran.prints("tried\n");
    assert!(ran.stderr.contains("Read-only file system"), "the configuration's own masks are gone: {ran:?}");
}

#[test]
fn masks_of_the_configuration_lie_on_top_of_those_of_the_outer_container() {
    bryo_only!("runc has no such option");
    let lab = Lab::new();
    let shares = bundle(&lab).with_globals(["--degrade=proc"]).with(|c| {
        c["linux"]["maskedPaths"] = json!(["/proc/fs", "/proc/bus", "/proc/uptime"]);
        c["linux"]["readonlyPaths"] = json!(["/proc/sys", "/proc/sysrq-trigger"]);
    });
    let script = "ls /proc/fs /proc/bus; cat /proc/uptime; grep -c ' /proc/[a-z-]* ro' /proc/self/mountinfo";
    let ran = masked(call(&shares.sh(script))).ok();
    let count: u32 = ran.stdout.lines().last().unwrap().parse().unwrap();
    assert!(ran.stdout.starts_with("/proc/bus:\n\n/proc/fs:\n") && count >= 4, "{ran:?}");
}

#[test]
fn a_proc_that_may_be_mounted_is_mounted_whatever_is_allowed() {
    bryo_only!("runc has no such option");
    let lab = Lab::new();
    let bundle = bundle(&lab).with_globals(["--degrade=proc"]).sh("echo $$");
    let ran = call(&bundle).under(OUTER).done().prints("1\n");
    assert!(!ran.stderr.contains("PROC-MASKED"), "{}", ran.stderr);
}

#[test]
fn without_a_user_namespace_of_its_own_it_would_not_be_kept_in_and_stays_refused() {
    bryo_only!("runc has no such option");
    let lab = Lab::new();
    let bundle = bundle(&lab).with_globals(["--degrade=proc"]).without_namespace("user").with(|c| {
        c["linux"].as_object_mut().unwrap().remove("uidMappings");
        c["linux"].as_object_mut().unwrap().remove("gidMappings");
    });
    // Once more, since it is the next user namespace that locks the mask.
    let ran = masked(call(&bundle).under(["unshare", "--user", "--map-root-user", "--mount", "--"]));
    assert!(!ran.stderr.contains("--degrade"), "{}", ran.stderr);
    ran.refuses(1, &["PROC-MASKED", "; fix: unmask /proc"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_pid_namespace_that_is_joined_is_not_given_up() {
    bryo_only!("runc has no such option");
    let lab = Lab::new();
    let pid = format!("/proc/{}/ns/pid", getpid());
    let bundle = bundle(&lab).with_globals(["--degrade=proc"]).with(|c: &mut Value| {
        let list = c["linux"]["namespaces"].as_array_mut().unwrap();
        let own = list.iter_mut().find(|ns| ns["type"] == "pid").unwrap();
        *own = json!({ "type": "pid", "path": pid.replace(&getpid().to_string(), "self") });
    });
    let ran = masked(call(&bundle));
    assert!(!ran.stderr.contains("warning: PROC-MASKED"), "{}", ran.stderr);
    ran.refuses(1, &[]);
    assert!(lab.state_entries().is_empty());
}
