//! What the kernel knows of a process besides what it runs: its execution domain, its memory.

use std::path::Path;

use serde_json::json;

use crate::lab::{Bundle, Lab, bryo_only};

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
