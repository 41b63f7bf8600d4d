//! What the kernel knows of a process besides what it runs: its execution domain.

use serde_json::json;

use crate::lab::{Lab, bryo_only};

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
