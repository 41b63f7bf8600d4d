//! Faults: commands that race for one id, a runtime that is killed in the middle, a state that is damaged.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::lab::{Container, Lab, NONE, PATIENCE, alive, bryo_only, eventually};

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

#[test]
fn a_runtime_that_is_killed_in_a_create_leaves_nothing_that_delete_does_not_remove() {
    bryo_only!("runc leaves processes behind that no state knows of");
    let lab = Lab::new();
    // From the first step to a little after the last, whatever this machine's speed.
    let begin = Instant::now();
    lab.bundle().sleeps().create().remove();
    let step = begin.elapsed() / 60;
    for n in 0..80 {
        let id = format!("killed{n}");
        let bundle = lab.bundle().sleeps().named(&id);
        let running = bundle.call("create", NONE).spawn();
        sleep(step * n);
        running.signal(Signal::SIGKILL);
        drop(running);
        lab.call(["delete", "--force", &id]).done().ok();
        let gone = eventually(Duration::from_secs(5), || lab.processes().is_empty());
        assert!(gone, "after {:?}: {:?}", step * n, lab.processes());
        assert!(lab.state_entries().is_empty(), "after {:?}: {:?}", step * n, lab.state_entries());
        // And the id is free again.
        if n % 8 == 0 {
            bundle.call("create", NONE).done().ok();
            lab.call(["delete", &id]).done().ok();
        }
    }
}

#[test]
fn a_create_that_is_killed_when_it_is_almost_done_can_be_deleted() {
    bryo_only!("the record is bryo's");
    let lab = Lab::new();
    for n in 0..40 {
        let id = format!("recorded{n}");
        let running = lab.bundle().sleeps().named(&id).call("create", NONE).spawn();
        let record = lab.root().join(&id).join("state.json");
        let end = Instant::now() + PATIENCE;
        while !record.exists() && Instant::now() < end {
            std::hint::spin_loop();
        }
        sleep(Duration::from_micros(100) * n);
        running.signal(Signal::SIGKILL);
        drop(running);
        lab.call(["delete", "--force", &id]).done().ok();
        assert!(lab.state_entries().is_empty());
    }
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
        let c = lab.bundle().create();
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
    kill(first, Signal::SIGKILL).unwrap();
}

#[test]
fn a_record_of_an_earlier_boot_is_that_of_a_stopped_container() {
    bryo_only!("the record is bryo's");
    let lab = Lab::new();
    let c = lab.bundle().sleeps().detach();
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
