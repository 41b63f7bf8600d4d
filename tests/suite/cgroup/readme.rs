//! What the README shows of limits is what happens.

use crate::cgroup::Cgroup;
use crate::lab::{Lab, bryo_only};
use crate::readme::block;

#[test]
#[ignore = "needs cgroup v2 and systemd: scripts/test runs it in the guest"]
fn the_commands_about_limits_work_in_their_order() {
    bryo_only!("the commands are spelled bryo");
    let lab = Lab::in_session();
    let bundle = lab.bundle().waits();
    bundle.save();
    let mut seen = Vec::new();
    for line in block("bryo run -d web") {
        // What is behind the number sign is for the reader.
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let (program, args) = words.split_first().expect("a command");
        assert_eq!(*program, "bryo", "{line}");
        let ran = lab.call(args).cwd(&bundle.dir).done().ok();
        let state = || lab.call(["state", "web"]).done().ok().json();
        match args[0] {
            "update" => {
                let cgroup = Cgroup::of(state()["pid"].to_string());
                assert_eq!(cgroup.read("memory.max").trim(), (256 << 20).to_string());
                assert_eq!(cgroup.read("cpu.max").trim(), "50000 100000");
                assert_eq!(cgroup.read("pids.max").trim(), "100");
            }
            "events" => assert_eq!(ran.json()["data"]["pids"]["limit"], 100),
            "pause" => assert_eq!(state()["status"], "paused"),
            "resume" => assert_eq!(state()["status"], "running"),
            _ => {}
        }
        seen.push(args[0]);
    }
    assert_eq!(seen, ["run", "update", "events", "pause", "resume", "delete"]);
}
