//! The trial by fire of [`crate::fire`], for the calls that make, fill, limit and remove a cgroup: whichever of them
//! fails, no process runs without its limits, and no cgroup and no unit stays.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cgroup::{Cgroup, Ground, Manager, both_managers};
use crate::fire::trial::{Trial, end, entries};
use crate::lab::{Lab, bryo_only, eventually};

both_managers!(
    a_run_with_limits_whose_calls_fail_is_refused_or_limited,
    an_update_whose_calls_fail_is_refused_or_done,
    a_delete_whose_calls_fail_can_be_repeated,
);

/// Where the limits are found.
const FILES: [&str; 4] = ["memory.max", "memory.swap.max", "pids.max", "cpu.max"];

fn limits() -> Value {
    json!({
        "memory": { "limit": 67_108_864, "swap": 67_108_864 },
        "pids": { "limit": 42 },
        "cpu": { "quota": 50_000, "period": 100_000 },
    })
}

/// Nothing is left of a container that did not come up. A scope goes once systemd has noticed that it is empty.
fn nothing_left(lab: &Lab, told: bool) -> Result<(), String> {
    let mut left = Vec::new();
    let gone = eventually(Duration::from_secs(5), || {
        left = lab.leftovers();
        left.is_empty()
    });
    if gone || told { Ok(()) } else { Err(format!("left {left:?}")) }
}

fn a_run_with_limits_whose_calls_fail_is_refused_or_limited(ground: &Ground) {
    bryo_only!("runc's threads make its calls uncountable");
    let bundle = ground.limited(limits());
    let lab = &ground.lab;
    let trial = Trial {
        lab,
        call: &|id| bundle.named_call("run", id).args(["--detach"]),
        code: 1,
        seen: &|_, id| {
            let pid = lab.call(["state", id]).done().ok().json()["pid"].to_string();
            let cgroup = Cgroup::of(&pid);
            let files = FILES.map(|name| cgroup.read(name)).join("\n");
            format!("{}\n{files}\n", cgroup.path.display())
        },
        shows: "67108864",
        refused: &|_, told| nothing_left(lab, told),
        clean: &|id| end(lab, id),
    };
    trial.by_fire();
}

fn an_update_whose_calls_fail_is_refused_or_done(ground: &Ground) {
    bryo_only!("runc's threads make its calls uncountable");
    let container = ground.limited(limits()).detach();
    let cgroup = Cgroup::of_container(&container);
    let properties = || match ground.manager {
        Manager::Systemd => {
            ["MemoryMax", "TasksMax"].map(|name| ground.property(&container, name)).join("\n")
        }
        Manager::Cgroupfs => String::new(),
    };
    let values = || {
        let files = FILES.map(|name| cgroup.read(name)).join("\n");
        format!("{files}\n{}\n", properties())
    };
    let before = values();
    let trial = Trial {
        lab: &ground.lab,
        call: &|_| {
            container
                .call("update", ["--pids-limit", "50", "--memory", "50331648", "--memory-swap", "50331648"])
        },
        code: 1,
        seen: &|_, _| values(),
        shows: "50331648",
        refused: &|_, _| match values() {
            now if now == before => Ok(()),
            now => Err(format!("half of it is done: {now}")),
        },
        clean: &|_| {
            let back = ["--pids-limit", "42", "--memory", "67108864", "--memory-swap", "67108864"];
            container.call("update", back).done().ok();
            if values() == before { Ok(()) } else { Err(values()) }
        },
    };
    trial.by_fire();
    container.remove();
}

fn a_delete_whose_calls_fail_can_be_repeated(ground: &Ground) {
    bryo_only!("runc's threads make its calls uncountable");
    let bundle = ground.limited(limits());
    let lab = &ground.lab;
    let trial = Trial {
        lab,
        call: &|id| {
            bundle.named_call("run", id).args(["--detach"]).done().ok();
            lab.call(["delete", "--force", id])
        },
        code: 1,
        seen: &|_, _| format!("{:?}\n", nothing_left(lab, false)),
        shows: "Ok(())",
        // What is not deleted is known still.
        refused: &|_, _| match lab.leftovers() {
            left if left.is_empty() || !entries(lab).is_empty() => Ok(()),
            left => Err(format!("it is forgotten, and leaves {left:?}")),
        },
        clean: &|id| end(lab, id),
    };
    trial.by_fire();
}
