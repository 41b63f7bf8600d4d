//! What the kernel knows of a process besides what it runs: its execution domain, its memory, and when it
//! gets processors and disks. What of that takes root is in `crate::rootful::scheduling`.

use std::path::Path;

use serde_json::{Value, json};

use crate::lab::{Bundle, Lab, bryo_only, plain_user_only};

#[test]
fn the_personality_is_that_of_every_process() {
    bryo_only!("runc 1.1 knows no personality and ignores it");
    let lab = Lab::new();
    let bundle = lab.bundle().sh("cat /proc/self/personality");
    bundle.run().prints("00000000\n");
    let bundle = bundle.with(|c| c["linux"]["personality"] = json!({ "domain": "LINUX32" }));
    bundle.run().prints("00000008\n");
    let container = bundle.sleeps().detach();
    container.exec(["cat", "/proc/self/personality"]).prints("00000008\n");
    container.remove();
}

#[test]
fn a_personality_that_is_not_of_the_specification_is_refused() {
    bryo_only!("runc 1.1 knows no personality and ignores it");
    let lab = Lab::new();
    for (personality, word) in [
        (json!({ "domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"] }), "ADDR_NO_RANDOMIZE"),
        (json!({ "domain": "SVR4" }), "SVR4"),
    ] {
        lab.bundle().with(|c| c["linux"]["personality"] = personality).run().refuses(1, &[word]);
    }
}

/// A policy of memory for the container.
fn memory_policy<'lab>(lab: &'lab Lab, mode: &str, nodes: &str) -> Bundle<'lab> {
    let policy = json!({ "mode": mode, "nodes": nodes });
    lab.bundle().with(|c| c["linux"]["memoryPolicy"] = policy)
}

#[test]
fn memory_is_taken_by_the_policy_of_the_container() {
    bryo_only!("runc 1.1 knows no policy of memory and ignores it");
    let lab = Lab::new();
    // Each of its lines is of a mapping: where it begins, by which policy, and what it is.
    let bundle = memory_policy(&lab, "MPOL_BIND", "0").sh("cut -d ' ' -f 2 /proc/self/numa_maps | sort -u");
    if !Path::new("/proc/self/numa_maps").exists() {
        bundle.run().refuses(1, &["memory policy", "function not implemented", "no NUMA"]);
        return;
    }
    bundle.run().prints("bind:0\n");
    let container = bundle.sleeps().detach();
    let ran = container.exec(["sh", "-c", "cut -d ' ' -f 2 /proc/self/numa_maps | sort -u"]);
    ran.prints("bind:0\n");
    container.remove();
    let bundle = memory_policy(&lab, "MPOL_LOCAL", "");
    bundle.sh("cut -d ' ' -f 2 /proc/self/numa_maps | sort -u").run().prints("local\n");
    // The last of all nodes, of which no machine has so many.
    memory_policy(&lab, "MPOL_BIND", "1023")
        .run()
        .refuses(1, &["memory policy", "invalid argument", "; fix: "]);
}

#[test]
fn a_policy_of_memory_that_makes_no_sense_is_refused() {
    bryo_only!("runc 1.1 knows no policy of memory and ignores it");
    let lab = Lab::new();
    for (mode, nodes, word) in [
        ("MPOL_BIND", "", "takes nodes"),
        ("MPOL_LOCAL", "0", "takes no nodes"),
        ("MPOL_MOSS", "0", "MPOL_MOSS"),
    ] {
        memory_policy(&lab, mode, nodes).run().refuses(1, &[word]);
    }
}

/// The nice value, the real-time priority and the policy of whatever reads it (proc_pid_stat(5)).
const SCHEDULING: &str = "cut -d ' ' -f 19,40,41 /proc/self/stat";

#[test]
fn the_scheduler_is_set_for_init_and_what_joins() {
    bryo_only!("runc 1.1 knows no scheduler and ignores it");
    let lab = Lab::new();
    let scheduler = json!({ "policy": "SCHED_BATCH", "nice": 5 });
    let bundle = lab.bundle().with(|c| c["process"]["scheduler"] = scheduler).sh(SCHEDULING);
    bundle.run().prints("5 0 3\n");
    let container = bundle.sleeps().detach();
    container.exec(["sh", "-c", SCHEDULING]).prints("5 0 3\n");
    // A process of its own may have another one, and that of the configuration if it says nothing.
    for (scheduler, wanted) in [(json!({ "policy": "SCHED_IDLE" }), "0 0 5\n"), (Value::Null, "5 0 3\n")] {
        let process = json!({ "user": {}, "args": ["sh", "-c", SCHEDULING], "cwd": "/",
            "env": ["PATH=/bin"], "scheduler": scheduler });
        let file = lab.file("process.json", process.to_string());
        lab.call(["exec", "--process"]).args([&file]).args([&container.id]).done().prints(wanted);
    }
    container.remove();
}

#[test]
fn a_scheduler_that_takes_root_is_refused() {
    bryo_only!("runc 1.1 knows no scheduler and ignores it");
    plain_user_only!("root may");
    let lab = Lab::new();
    for scheduler in [
        json!({ "policy": "SCHED_FIFO", "priority": 50 }),
        json!({ "policy": "SCHED_OTHER", "nice": -5 }),
        json!({ "policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 10_000_000 }),
    ] {
        let ran = lab.bundle().with(|c| c["process"]["scheduler"] = scheduler).run();
        ran.refuses(1, &["the scheduler", "SCHED", "operation not permitted; fix: "]);
    }
}

#[test]
fn a_scheduler_that_makes_no_sense_is_refused() {
    bryo_only!("runc 1.1 knows no scheduler and ignores it");
    let lab = Lab::new();
    for (scheduler, word) in [
        (json!({ "policy": "SCHED_OTHER", "priority": 5 }), "takes no priority"),
        (json!({ "policy": "SCHED_BATCH", "nice": 77 }), "nice is 77"),
        (json!({ "policy": "SCHED_ISO" }), "no Linux"),
        (json!({ "policy": "SCHED_MOSS" }), "SCHED_MOSS"),
        (json!({ "policy": "SCHED_IDLE", "flags": ["SCHED_FLAG_MOSS"] }), "SCHED_FLAG_MOSS"),
    ] {
        let ran = lab.bundle().with(|c| c["process"]["scheduler"] = scheduler).run();
        ran.refuses(1, &[word]);
    }
}

#[test]
fn the_io_priority_is_set_for_init_and_what_joins() {
    bryo_only!("runc 1.1 knows no I/O priority and ignores it");
    let lab = Lab::new();
    for (class, priority, wanted) in
        [("IOPRIO_CLASS_BE", 3, "best-effort: prio 3\n"), ("IOPRIO_CLASS_IDLE", 0, "idle\n")]
    {
        let io = json!({ "class": class, "priority": priority });
        let bundle = lab.bundle().with(|c| c["process"]["ioPriority"] = io).args(["ionice"]);
        bundle.run().prints(wanted);
        let container = bundle.sleeps().detach();
        container.exec(["ionice"]).prints(wanted);
        container.remove();
    }
}

#[test]
fn an_io_priority_that_takes_root_or_is_none_is_refused() {
    bryo_only!("runc 1.1 knows no I/O priority and ignores it");
    let lab = Lab::new();
    let run = |class: &str, priority: i32| {
        let io = json!({ "class": class, "priority": priority });
        lab.bundle().with(|c| c["process"]["ioPriority"] = io).run()
    };
    run("IOPRIO_CLASS_BE", 8).refuses(1, &["IOPRIO", "invalid argument; fix: "]);
    run("IOPRIO_CLASS_MOSS", 0).refuses(1, &["IOPRIO_CLASS_MOSS"]);
    plain_user_only!("root may");
    run("IOPRIO_CLASS_RT", 0).refuses(1, &["IOPRIO", "operation not permitted; fix: "]);
}

/// The processors of whatever reads it.
const PROCESSORS: &str = "grep Cpus_allowed_list /proc/self/status | cut -f 2";

#[test]
fn what_joins_runs_on_its_own_processors_and_init_on_all() {
    bryo_only!("runc 1.1 knows no processors for exec and ignores them");
    let lab = Lab::new();
    let all = lab.bundle().sh(PROCESSORS).run().ok().stdout;
    let last = all.trim().rsplit(['-', ',']).next().unwrap();
    let bundle = |affinity: Value| lab.bundle().with(|c| c["process"]["execCPUAffinity"] = affinity);
    bundle(json!({ "initial": last, "final": last })).sh(PROCESSORS).run().prints(&all);
    for affinity in [
        json!({ "initial": "0", "final": last }),
        json!({ "final": last }),
        // What it starts on, it keeps.
        json!({ "initial": last, "final": "" }),
    ] {
        let container = bundle(affinity).sleeps().detach();
        container.exec(["sh", "-c", PROCESSORS]).prints(&format!("{last}\n"));
        container.remove();
    }
    let container = bundle(Value::Null).sleeps().detach();
    container.exec(["sh", "-c", PROCESSORS]).prints(&all);
    for (processors, word) in [("1000", "1000"), ("3-1", "3-1")] {
        for when in ["initial", "final"] {
            let process =
                json!({ "user": {}, "args": ["true"], "cwd": "/", "execCPUAffinity": { when: processors } });
            let file = lab.file("process.json", process.to_string());
            let ran = lab.call(["exec", "--process"]).args([&file]).args([&container.id]).done();
            ran.refuses(255, &[word, "processors", "invalid argument"]);
        }
    }
    container.remove();
    bundle(json!({ "initial": "3-1" })).run().refuses(1, &["execCPUAffinity", "3-1"]);
}
