//! Faults: commands that race for one id, a runtime that is killed in the middle, a state that is damaged.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::lab::{Bundle, Call, Container, Lab, NONE, PATIENCE, alive, bryo_only, eventually};

#[test]
fn of_several_creates_of_one_id_at_once_one_succeeds() {
    bryo_only!("runc 1.1 looks for the id and makes its directory in two steps");
    let lab = Lab::new();
    for round in 0..3 {
        let id = format!("wanted{round}");
        let bundles: Vec<_> = (0..6).map(|_| lab.bundle().sleeps().named(&id)).collect();
        let running: Vec<_> = bundles.iter().map(|b| b.call("create", NONE).spawn()).collect();
        let ended: Vec<_> = running.into_iter().map(|r| r.wait()).collect();
        assert_eq!(ended.iter().filter(|r| r.status.success()).count(), 1, "{ended:?}");
        for ran in ended.into_iter().filter(|r| !r.status.success()) {
            ran.refuses(1, &["container with given ID already exists"]);
        }
        let state = lab.call(["state", &id]).done().ok().json();
        assert_eq!(state["status"], "created");
        lab.call(["start", &id]).done().ok();
        lab.call(["delete", "--force", &id]).done().ok();
        assert!(lab.processes().is_empty(), "{:?}", lab.processes());
    }
}

#[test]
fn of_several_starts_at_once_one_succeeds() {
    bryo_only!("of runc's starts, several may find the door open");
    let lab = Lab::new();
    for _ in 0..3 {
        let c = lab.bundle().own_rootfs().sh("echo started >> /log; sleep 1000").create();
        let running: Vec<_> = (0..5).map(|_| c.call("start", NONE).spawn()).collect();
        let ended: Vec<_> = running.into_iter().map(|r| r.wait()).collect();
        assert_eq!(ended.iter().filter(|r| r.status.success()).count(), 1, "{ended:?}");
        assert_eq!(c.status(), "running");
        let log = c.bundle.join("rootfs/log");
        assert!(eventually(PATIENCE, || log.exists()));
        assert_eq!(fs::read_to_string(log).unwrap(), "started\n");
        c.remove();
    }
}

#[test]
fn several_forced_deletes_at_once_all_succeed() {
    bryo_only!("runc's trip over each other's files");
    let lab = Lab::new();
    for _ in 0..3 {
        let c = lab.bundle().sleeps().detach();
        let pid = c.pid();
        let running: Vec<_> = (0..5).map(|_| c.call("delete", ["--force"]).spawn()).collect();
        for running in running {
            running.wait().ok();
        }
        assert!(!alive(pid));
        assert!(lab.state_entries().is_empty());
    }
}

#[test]
fn a_kill_and_a_delete_at_once_leave_nothing() {
    let lab = Lab::new();
    for _ in 0..5 {
        let c = lab.bundle().sleeps().detach();
        let killing = c.call("kill", ["--all"]).args(["KILL"]).spawn();
        let deleting = c.call("delete", ["--force"]).spawn();
        // Whichever comes first, the other finds a container or none.
        let (_, deleted) = (killing.wait(), deleting.wait());
        assert!(!deleted.stderr.contains("panic"), "{deleted:?}");
        c.call("delete", ["--force"]).done().ok();
    }
}

#[test]
fn list_and_state_work_while_containers_come_and_go() {
    bryo_only!("runc's list fails for a container that goes while it reads");
    let lab = Lab::new();
    fs::create_dir(lab.root()).unwrap();
    let mut running = Vec::new();
    for _ in 0..10 {
        running.push(lab.bundle().call("run", NONE).spawn());
        lab.call(["list"]).done().ok();
        lab.call(["list", "-f", "json"]).done().ok().json();
    }
    for running in running {
        running.wait().ok();
    }
}

/// A system call as strace shows it.
#[derive(Debug)]
struct Traced {
    /// Empty where only one process is followed.
    pid: String,
    name: String,
    /// The how many-th of its name it is in its process: so strace counts, too.
    nth: usize,
    arguments: String,
}

/// The system calls of a command that works, in their order; with those of its children, if it is to be followed.
fn traced(lab: &Lab, call: Call, follow: bool) -> Vec<Traced> {
    let record = lab.dir.join("strace");
    let follow = follow.then_some("-f");
    let strace = ["strace", "-qq", "-o", record.to_str().unwrap()];
    call.under(strace.into_iter().chain(follow)).done().ok();
    let mut calls: Vec<Traced> = Vec::new();
    for line in fs::read_to_string(&record).unwrap().lines() {
        // `PID name(arguments…`, without the pid where only one is followed. The second half of a call that another
        // process interrupted has no name.
        let Some((head, arguments)) = line.split_once('(') else { continue };
        let (pid, name) = head.rsplit_once(' ').unwrap_or(("", head));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let pid = pid.trim().to_owned();
        let nth = 1 + calls.iter().filter(|call| call.pid == pid && call.name == name).count();
        calls.push(Traced { pid, name: name.to_owned(), nth, arguments: arguments.to_owned() });
    }
    calls
}

/// Kill a call at every few of its system calls, from the first to the last, and look each time at what it has
/// left. Its children go on, as they do when somebody kills the runtime alone. Each call is told its number.
pub fn kill_at_every_step<'lab>(
    lab: &Lab,
    step: usize,
    call: impl Fn(usize) -> Call<'lab>,
    check: impl Fn(usize),
) {
    let calls = traced(lab, call(0), false);
    check(0);
    // Else they are not what was traced.
    assert!(calls.len() > 30, "{calls:?}");
    for n in (1..calls.len()).step_by(step) {
        let inject = format!("inject={}:signal=KILL:when={}", calls[n].name, calls[n].nth);
        let ran = call(n).under(["strace", "-qq", "-o", "/dev/null", "-e", &inject]).done();
        // strace ends as what it traces does. One that waits in a loop may get through with fewer calls.
        let killed = ran.status.signal() == Some(Signal::SIGKILL as i32);
        assert!(killed || ran.status.success(), "killed at {n}, {inject}: {ran:?}");
        check(n);
    }
}

/// What `delete --force` did not do of what it should: make an end of the container, whatever it is, in time.
fn left_by_delete(lab: &Lab, id: &str) -> Option<String> {
    let deleting = lab.call(["delete", "--force", id]).spawn();
    let Some(deleted) = deleting.wait_within(Duration::from_secs(60)) else {
        return Some("the delete hangs".to_owned());
    };
    if !deleted.status.success() {
        return Some(format!("the delete fails: {}", deleted.stderr));
    }
    if !eventually(Duration::from_secs(20), || lab.processes().is_empty()) {
        let left = lab.processes();
        for (pid, _) in &left {
            // The next round shall not see it again. It may be gone by now.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        return Some(format!("the delete leaves {left:?}"));
    }
    let entries = lab.state_entries();
    (!entries.is_empty()).then(|| format!("the delete leaves {entries:?}"))
}

#[track_caller]
pub fn assert_deleted(lab: &Lab, id: &str, n: usize) {
    let left = left_by_delete(lab, id);
    assert!(left.is_none(), "killed at {n}: {}", left.unwrap_or_default());
}

#[test]
fn a_create_that_is_killed_at_any_step_can_be_deleted() {
    bryo_only!("runc leaves processes behind that no state knows of");
    let lab = Lab::new();
    let bundle = lab.bundle().sleeps();
    kill_at_every_step(
        &lab,
        3,
        |n| bundle.named_call("create", &format!("killed{n}")),
        |n| assert_deleted(&lab, &format!("killed{n}"), n),
    );
}

#[test]
fn a_run_with_a_range_of_ids_that_is_killed_at_any_step_can_be_deleted() {
    bryo_only!("runc leaves processes behind that no state knows of");
    let lab = Lab::new();
    let bundle = lab.bundle().subids().sleeps();
    kill_at_every_step(
        &lab,
        7,
        |n| bundle.named_call("run", &format!("killed{n}")).args(["--detach"]),
        |n| assert_deleted(&lab, &format!("killed{n}"), n),
    );
}

#[test]
fn a_start_that_is_killed_at_any_step_leaves_a_container_that_can_be_deleted() {
    bryo_only!("runc's threads make its steps uncountable");
    let lab = Lab::new();
    let id = |n| format!("killed{n}");
    kill_at_every_step(
        &lab,
        7,
        |n| {
            lab.bundle().sleeps().named_call("create", &id(n)).done().ok();
            lab.call(["start", &id(n)])
        },
        |n| {
            let state = lab.call(["state", &id(n)]).done().ok().json();
            assert!(["created", "running"].contains(&state["status"].as_str().unwrap()), "{n}: {state}");
            assert_deleted(&lab, &id(n), n);
        },
    );
}

#[test]
fn a_delete_that_is_killed_at_any_step_can_be_repeated() {
    bryo_only!("runc's threads make its steps uncountable");
    let lab = Lab::new();
    let id = |n| format!("killed{n}");
    kill_at_every_step(
        &lab,
        5,
        |n| {
            lab.bundle().sleeps().named_call("run", &id(n)).args(["--detach"]).done().ok();
            lab.call(["delete", "--force", &id(n)])
        },
        |n| assert_deleted(&lab, &id(n), n),
    );
}

#[test]
fn an_exec_that_is_killed_at_any_step_leaves_the_container_alone() {
    bryo_only!("runc's threads make its steps uncountable");
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    kill_at_every_step(
        &lab,
        7,
        |_| c.exec_call(&[], ["true"]),
        |n| assert_eq!(c.status(), "running", "killed at {n}"),
    );
    // Nothing waits inside for somebody who is gone.
    let alone = || c.exec(["ps", "-o", "pid,args"]).ok().stdout.lines().count() == 3;
    assert!(eventually(PATIENCE, alone), "{}", c.exec(["ps"]).ok().stdout);
    c.exec(["true"]).ok();
    c.remove();
}

/// These fail in no program that goes on, or cannot fail at all.
const SPARED: [&str; 12] = [
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "brk",
    "madvise",
    "exit_group",
    "futex",
    "close",
    "umask",
    "getrandom",
    // A system call only where the kernel has no vDSO.
    "clock_gettime",
];

/// Refuse a verb that makes a container each of these system calls in turn. It may find another way, or not need
/// the answer; else it says so in one clear line, and takes everything back.
fn refuse_each<'a>(bundle: &Bundle, verb: &str, follow: bool, calls: impl Iterator<Item = &'a Traced>) {
    let lab = bundle.lab;
    let mut told = Vec::new();
    let mut refused = 0;
    for (n, call) in calls.enumerate() {
        if SPARED.contains(&call.name.as_str()) || call.name.starts_with("rt_sig") {
            continue;
        }
        refused += 1;
        // Of several processes, each that makes its nth call of this name gets the error.
        let inject = format!("inject={}:error=EIO:when={}", call.name, call.nth);
        let mut tell =
            |what: String| told.push(format!("{}({} with {inject}: {what}", call.name, call.arguments));
        let id = format!("failing{}", n + 1);
        let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &inject];
        let running =
            bundle.named_call(verb, &id).under(strace.into_iter().chain(follow.then_some("-f"))).spawn();
        let Some(ran) = running.wait_within(Duration::from_secs(60)) else {
            tell("it hangs".into());
            left_by_delete(lab, &id).map(tell);
            continue;
        };
        let lines = ran.stderr.lines().filter(|line| !line.contains("warning: ")).count();
        if !ran.status.success() && (ran.status.code() != Some(1) || lines != 1) {
            tell(format!("{}: {}", ran.status, ran.stderr));
        }
        if !ran.status.success() || verb == "run" {
            let gone = eventually(Duration::from_secs(20), || lab.processes().is_empty());
            // The call may be one that cleans up: then what stays is told, and a delete removes it.
            let announced = gone && ran.stderr.contains("warning: cannot ");
            let clean = gone && lab.state_entries().is_empty();
            if !clean && !announced {
                tell(format!("left {:?}, {:?}: {}", lab.processes(), lab.state_entries(), ran.stderr));
            }
        }
        if let Some(left) = left_by_delete(lab, &id) {
            tell(format!("{left}; the {verb} said {:?}", ran.stderr));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert!(refused > 10, "{refused} calls were refused");
}

#[test]
fn a_create_whose_system_calls_fail_says_so_and_leaves_nothing() {
    bryo_only!("runc's threads make its steps uncountable");
    let lab = Lab::new();
    let bundle = lab.bundle().sleeps();
    let calls = traced(&lab, bundle.named_call("create", "failing0"), false);
    assert_deleted(&lab, "failing0", 0);
    // What comes before is the loader's and the standard library's.
    let ours = calls.iter().skip_while(|call| !call.arguments.contains("config.json"));
    refuse_each(&bundle, "create", false, ours.step_by(2));
}

#[test]
fn a_run_whose_init_is_refused_a_call_says_so_and_leaves_nothing() {
    bryo_only!("runc's threads make its steps uncountable");
    let lab = Lab::new();
    let bundle = lab.bundle();
    let calls = traced(&lab, bundle.named_call("run", "failing0"), true);
    // The second process is init, up to the program that it becomes.
    let (launch, init): (Vec<&Traced>, Vec<_>) = calls.iter().partition(|call| call.pid == calls[0].pid);
    let init: Vec<_> = init.into_iter().take_while(|call| call.name != "execve").collect();
    assert!(init.len() > 50, "{init:?}");
    let loader: Vec<_> =
        launch.into_iter().take_while(|call| !call.arguments.contains("config.json")).collect();
    let hits_loader =
        |call: &Traced| loader.iter().any(|other| other.name == call.name && other.nth == call.nth);
    let ours = init.into_iter().step_by(3).filter(|call| !hits_loader(call));
    refuse_each(&bundle, "run", true, ours);
}

#[test]
fn a_start_that_is_killed_leaves_a_container_that_can_be_deleted() {
    let lab = Lab::new();
    for micros in (0..10_000).step_by(2_000) {
        let c = lab.bundle().sleeps().create();
        let running = c.call("start", NONE).spawn();
        sleep(Duration::from_micros(micros));
        running.signal(Signal::SIGKILL);
        drop(running);
        let status = c.status();
        assert!(["created", "running", "stopped"].contains(&status.as_str()), "{status}");
        c.remove();
    }
}

#[test]
fn an_exec_that_is_killed_leaves_the_container_alone() {
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    for micros in (0..20_000).step_by(2_000) {
        let running = c.exec_call(&[], ["sleep", "994"]).spawn();
        sleep(Duration::from_micros(micros));
        running.signal(Signal::SIGKILL);
        drop(running);
    }
    assert_eq!(c.status(), "running");
    c.exec(["true"]).ok();
    c.remove();
}

#[test]
fn a_delete_that_is_killed_can_be_repeated() {
    let lab = Lab::new();
    for micros in (0..10_000).step_by(1_000) {
        let c = lab.bundle().sleeps().detach();
        let running = c.call("delete", ["--force"]).spawn();
        sleep(Duration::from_micros(micros));
        running.signal(Signal::SIGKILL);
        drop(running);
        c.call("delete", ["--force"]).done().ok();
        assert!(lab.state_entries().is_empty());
    }
}

#[test]
fn a_first_process_that_is_killed_from_outside_is_a_stopped_container() {
    let lab = Lab::new();
    for started in [false, true] {
        let c = lab.bundle().sleeps().create();
        if started {
            c.start().ok();
        }
        kill(Pid::from_raw(c.pid()), Signal::SIGKILL).unwrap();
        c.wait_until_stopped();
        assert_eq!(c.state()["pid"], 0);
        c.delete().ok();
    }
}

#[test]
fn a_damaged_state_is_an_error_and_can_be_removed_by_force() {
    bryo_only!("runc cannot remove what it cannot read");
    let lab = Lab::new();
    for content in ["", "{", "null", "[]", "{\"id\": 1}", "\u{0}\u{1}"] {
        // A cgroup would be the one thing that is known still.
        let c = lab.bundle().with_globals(["--cgroup-manager", "disabled"]).create();
        let pid = c.pid();
        for entry in fs::read_dir(lab.root().join(&c.id)).unwrap().flatten() {
            if entry.file_name().to_string_lossy().ends_with(".json") {
                fs::write(entry.path(), content).unwrap();
            }
        }
        c.call("state", NONE).done().refuses(1, &[]);
        c.start().refuses(1, &[]);
        c.call("delete", ["--force"]).done().ok();
        assert!(lab.state_entries().is_empty());
        // Nobody can know any more whose process that was, so nobody kills it; the test does.
        if alive(pid) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
    }
}

/// Change what bryo has written down about a container, and return the pid that it had.
fn tamper(c: &Container, key: &str, value: Value) -> Pid {
    let path = c.lab.root().join(&c.id).join("state.json");
    let mut record: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let pid = record["pid"].as_i64().unwrap() as i32;
    assert!(!record[key].is_null(), "{record} has no {key}");
    record[key] = value;
    fs::write(&path, record.to_string()).unwrap();
    Pid::from_raw(pid)
}

#[test]
fn a_pid_that_was_used_again_is_never_signalled() {
    bryo_only!("the record is bryo's");
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
    // Start times have the grain of a clock tick.
    sleep(Duration::from_millis(50));
    let bystander = lab.program("sleep").args(["996"]).spawn();
    let first = tamper(&c, "pid", bystander.pid().into());
    assert_eq!(c.status(), "stopped");
    for verb in ["kill", "exec"] {
        let ran = c.call(verb, NONE).args(["KILL"]).done();
        assert!(!ran.status.success(), "{ran:?}");
    }
    c.call("delete", ["--force"]).done().ok();
    assert!(alive(bystander.pid()));
    // Where the container has a cgroup, that was known still, and its process has gone with it.
    assert!(matches!(kill(first, Signal::SIGKILL), Ok(()) | Err(Errno::ESRCH)));
}

#[test]
fn a_record_of_an_earlier_boot_is_that_of_a_stopped_container() {
    bryo_only!("the record is bryo's");
    let lab = Lab::new();
    // After a boot there is no cgroup of before.
    let c = lab.bundle().with_globals(["--cgroup-manager", "disabled"]).sleeps().detach();
    let pid = tamper(&c, "bootId", "00000000-0000-0000-0000-000000000000".into());
    assert_eq!(c.status(), "stopped");
    c.kill("KILL").refuses(1, &["container not running"]);
    c.delete().ok();
    assert!(lab.state_entries().is_empty());
    assert!(alive(pid.as_raw()));
    kill(pid, Signal::SIGKILL).unwrap();
}

#[test]
fn a_state_directory_that_cannot_be_made_is_an_error() {
    let lab = Lab::new();
    let file = lab.file("file", "");
    let bundle = lab.bundle();
    bundle.save();
    let root = file.join("state");
    let call = lab.bare_call(["--root"]).args([&root]).args(["run", "--bundle"]).args([&bundle.dir]);
    call.args(["x"]).done().refuses(1, &["not a directory"]);
}

#[test]
fn a_full_state_directory_is_an_error_and_leaves_nothing() {
    let lab = Lab::new();
    let bundle = lab.bundle().sleeps();
    bundle.save();
    let root = lab.dir.join("full");
    fs::create_dir(&root).unwrap();
    // A file system without room for a single block, in a mount namespace of its own; the container is of
    // this user still, whose ids a second user namespace maps to themselves.
    let script = format!(
        "mount -t tmpfs -o size=4k,nr_inodes=64 tmpfs {root} && dd if=/dev/zero of={root}/filler bs=4096 count=1 \
         2>/dev/null; {runtime} --root {root} run --bundle {bundle} full; code=$?; rm {root}/filler; \
         ls -A {root}; exit $code",
        root = root.display(),
        runtime = crate::lab::runtime().display(),
        bundle = bundle.dir.display(),
    );
    let bundle = bundle.with(|c| {
        // Root of the outer namespace is the only id that there is.
        for key in ["uidMappings", "gidMappings"] {
            c["linux"][key] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        }
    });
    bundle.save();
    let call =
        lab.program("unshare").args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", &script]);
    let ran = call.done().refuses(1, &[]).in_bryos_words(&["no space left on device"]);
    assert_eq!(ran.stdout.lines().filter(|l| *l == "full").count(), 0, "{ran:?}");
    assert!(lab.processes().is_empty(), "{:?}", lab.processes());
}

#[test]
fn the_rootfs_may_vanish_under_a_container() {
    let lab = Lab::new();
    let c = lab.bundle().own_rootfs().sleeps().detach();
    fs::remove_dir_all(&c.bundle).unwrap();
    assert_eq!(c.status(), "running");
    c.kill("KILL").ok();
    c.wait_until_stopped();
    c.delete().ok();
}
