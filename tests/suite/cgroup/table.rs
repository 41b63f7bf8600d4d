//! The same config.json gives the same limits as under runc. Both runtimes run each entry of the table, and
//! what is then found in the container's cgroup, and in its unit, has to be equal.
//!
//! Left out is what the runc of Debian stable (1.1) cannot tell: cpu.shares, which it converts to a weight by
//! a line that later releases gave up (see [`super::limits`]), cpu.idle and cpu.burst, which it does not know.

use std::collections::BTreeMap;
use std::path::Path;

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::cgroup::{Cgroup, Ground, Manager, both_managers};
use crate::lab::{Container, bryo_only};

both_managers!(
    limits_are_those_of_runc,
    updates_are_those_of_runc,
    a_quota_is_as_coarse_as_the_unit_has_it,
    an_update_of_memory_alone_keeps_the_sum_of_memory_and_swap
);

const MIB: i64 = 1 << 20;

/// Files of the cgroup, as far as the kernel has them.
const FILES: [&str; 13] = [
    "memory.max",
    "memory.high",
    "memory.low",
    "memory.min",
    "memory.swap.max",
    "memory.oom.group",
    "cpu.max",
    "cpu.weight",
    "cpu.idle",
    "pids.max",
    "io.max",
    "cgroup.max.depth",
    "cgroup.max.descendants",
];

/// Properties of the scope. Not among them are two that runc leaves to what it writes into the files, so that
/// systemd does not know: MemorySwapMax of 0 and a CPUQuotaPeriodUSec that is the default.
const PROPERTIES: &str = "MemoryMax,MemoryHigh,MemoryLow,MemoryMin,CPUWeight,CPUQuotaPerSecUSec,TasksMax";

/// Files with their content.
type Values = &'static [(&'static str, &'static str)];

/// A name, `linux.resources`, and what this has to give at least; nothing where it has to be refused.
type Entry = (&'static str, Value, Option<Values>);

/// Everything that was found, or what was said where it was refused.
type Outcome = Result<BTreeMap<String, String>, String>;

fn table() -> Vec<Entry> {
    let mut table: Vec<Entry> = vec![
        (
            "nothing",
            json!({}),
            Some(&[("memory.max", "max"), ("cpu.max", "max 100000"), ("cpu.weight", "100")]),
        ),
        ("memory", json!({ "memory": { "limit": 64 * MIB } }), Some(&[("memory.max", "67108864")])),
        (
            "memory and no swap",
            json!({ "memory": { "limit": 64 * MIB, "swap": 64 * MIB } }),
            Some(&[("memory.max", "67108864"), ("memory.swap.max", "0")]),
        ),
        (
            "memory and swap",
            json!({ "memory": { "limit": 64 * MIB, "swap": 96 * MIB } }),
            Some(&[("memory.max", "67108864"), ("memory.swap.max", "33554432")]),
        ),
        (
            "memory and any swap",
            json!({ "memory": { "limit": 64 * MIB, "swap": -1 } }),
            Some(&[("memory.max", "67108864"), ("memory.swap.max", "max")]),
        ),
        ("less swap than memory", json!({ "memory": { "limit": 64 * MIB, "swap": 32 * MIB } }), None),
        ("swap alone", json!({ "memory": { "swap": 64 * MIB } }), None),
        ("any memory", json!({ "memory": { "limit": -1 } }), Some(&[("memory.max", "max")])),
        (
            "any memory and any swap",
            json!({ "memory": { "limit": -1, "swap": -1 } }),
            Some(&[("memory.max", "max"), ("memory.swap.max", "max")]),
        ),
        ("memory of 0", json!({ "memory": { "limit": 0 } }), Some(&[("memory.max", "max")])),
        (
            "memory that is no whole page",
            json!({ "memory": { "limit": 64 * MIB + 1 } }),
            Some(&[("memory.max", "67108864")]),
        ),
        (
            "reservation",
            json!({ "memory": { "reservation": 32 * MIB } }),
            Some(&[("memory.low", "33554432")]),
        ),
        (
            "memory and reservation",
            json!({ "memory": { "limit": 64 * MIB, "reservation": 32 * MIB } }),
            Some(&[("memory.max", "67108864"), ("memory.low", "33554432")]),
        ),
        (
            "what only the first version of cgroups has",
            json!({ "memory": { "disableOOMKiller": false }, "network": { "priorities": [] } }),
            Some(&[("memory.max", "max")]),
        ),
        ("quota", json!({ "cpu": { "quota": 20_000 } }), Some(&[("cpu.max", "20000 100000")])),
        (
            "quota and period",
            json!({ "cpu": { "quota": 5_000, "period": 50_000 } }),
            Some(&[("cpu.max", "5000 50000")]),
        ),
        ("period", json!({ "cpu": { "period": 50_000 } }), Some(&[("cpu.max", "max 50000")])),
        ("any quota", json!({ "cpu": { "quota": -1, "period": 50_000 } }), Some(&[("cpu.max", "max 50000")])),
        ("quota of 0", json!({ "cpu": { "quota": 0 } }), Some(&[("cpu.max", "max 100000")])),
        (
            "quota of more than a processor",
            json!({ "cpu": { "quota": 250_000, "period": 100_000 } }),
            Some(&[("cpu.max", "250000 100000")]),
        ),
        (
            "the shortest period",
            json!({ "cpu": { "quota": 1_000, "period": 1_000 } }),
            Some(&[("cpu.max", "1000 1000")]),
        ),
        ("shares of 0", json!({ "cpu": { "shares": 0 } }), Some(&[("cpu.weight", "100")])),
        ("pids", json!({ "pids": { "limit": 42 } }), Some(&[("pids.max", "42")])),
        ("any pids", json!({ "pids": { "limit": -1 } }), Some(&[("pids.max", "max")])),
        (
            "unified memory.high",
            json!({ "unified": { "memory.high": "50000000" } }),
            Some(&[("memory.high", "49999872")]),
        ),
        (
            "unified memory.low and memory.min",
            json!({ "unified": { "memory.low": "16777216", "memory.min": "8388608" } }),
            Some(&[("memory.low", "16777216"), ("memory.min", "8388608")]),
        ),
        (
            "unified memory.max and memory.swap.max",
            json!({ "unified": { "memory.max": "67108864", "memory.swap.max": "0" } }),
            Some(&[("memory.max", "67108864"), ("memory.swap.max", "0")]),
        ),
        (
            "unified over memory",
            json!({ "memory": { "limit": 64 * MIB }, "unified": { "memory.max": "134217728" } }),
            Some(&[("memory.max", "134217728")]),
        ),
        (
            "unified memory.oom.group",
            json!({ "unified": { "memory.oom.group": "1" } }),
            Some(&[("memory.oom.group", "1")]),
        ),
        (
            "unified cpu.max",
            json!({ "unified": { "cpu.max": "30000 100000" } }),
            Some(&[("cpu.max", "30000 100000")]),
        ),
        ("unified cpu.weight", json!({ "unified": { "cpu.weight": "42" } }), Some(&[("cpu.weight", "42")])),
        ("unified pids.max", json!({ "unified": { "pids.max": "max" } }), Some(&[("pids.max", "max")])),
        (
            "unified limits of the tree",
            json!({ "unified": { "cgroup.max.depth": "3", "cgroup.max.descendants": "7" } }),
            Some(&[("cgroup.max.depth", "3"), ("cgroup.max.descendants", "7")]),
        ),
        ("unified and no such file", json!({ "unified": { "memory.moss": "1" } }), None),
        ("unified and a path", json!({ "unified": { "../memory.max": "1" } }), None),
        (
            "what is given, and empty",
            json!({ "memory": {}, "cpu": {}, "blockIO": {}, "hugepageLimits": [], "rdma": {}, "network": {},
                    "unified": {}, "devices": [] }),
            Some(&[("memory.max", "max"), ("cpu.max", "max 100000")]),
        ),
        (
            "devices, which Docker sends",
            json!({ "devices": [
                { "allow": false, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm" },
            ] }),
            Some(&[("memory.max", "max")]),
        ),
        (
            "all at once",
            json!({
                "memory": { "limit": 64 * MIB, "swap": 128 * MIB, "reservation": 16 * MIB },
                "cpu": { "quota": 150_000, "period": 200_000 },
                "pids": { "limit": 77 },
                "unified": { "memory.high": "41943040", "cpu.weight": "250" },
            }),
            Some(&[
                ("memory.max", "67108864"),
                ("memory.swap.max", "67108864"),
                ("memory.low", "16777216"),
                ("memory.high", "41943040"),
                ("cpu.max", "150000 200000"),
                ("cpu.weight", "250"),
                ("pids.max", "77"),
            ]),
        ),
    ];
    if geteuid().is_root() {
        // io is not delegated to users; 98:0 is the guest's disk.
        table.push((
            "rates of a block device",
            json!({ "blockIO": {
                "throttleReadBpsDevice": [{ "major": 98, "minor": 0, "rate": 1_048_576 }],
                "throttleWriteBpsDevice": [{ "major": 98, "minor": 0, "rate": 2_097_152 }],
                "throttleReadIOPSDevice": [{ "major": 98, "minor": 0, "rate": 300 }],
                "throttleWriteIOPSDevice": [{ "major": 98, "minor": 0, "rate": 400 }],
            } }),
            Some(&[("io.max", "98:0 rbps=1048576 wbps=2097152 riops=300 wiops=400")]),
        ));
    }
    table
}

/// How a container is updated.
enum Change {
    Flags(&'static [&'static str]),
    Resources(Value),
}

/// One after the other on the same container, with what each has to give at least.
fn changes() -> Vec<(Change, Option<Values>)> {
    use Change::{Flags, Resources};
    vec![
        (
            Flags(&["--memory", "67108864", "--memory-swap", "201326592"]),
            Some(&[("memory.max", "67108864"), ("memory.swap.max", "134217728")]),
        ),
        (
            Flags(&["--memory", "96M", "--memory-swap", "128M"]),
            Some(&[("memory.max", "100663296"), ("memory.swap.max", "33554432")]),
        ),
        (Flags(&["--memory-reservation", "33554432"]), Some(&[("memory.low", "33554432")])),
        (Flags(&["--cpu-quota", "30000"]), Some(&[("cpu.max", "30000 100000")])),
        (Flags(&["--cpu-period", "50000"]), Some(&[("cpu.max", "30000 50000")])),
        (Flags(&["--cpu-quota", "20000", "--cpu-period", "80000"]), Some(&[("cpu.max", "20000 80000")])),
        (Flags(&["--pids-limit", "33"]), Some(&[("pids.max", "33"), ("memory.max", "100663296")])),
        (Flags(&["--memory-swap", "-1", "--pids-limit", "-1"]), Some(&[("pids.max", "max")])),
        (
            Resources(json!({ "memory": { "limit": 48 * MIB, "swap": 64 * MIB }, "pids": { "limit": 25 } })),
            Some(&[("memory.max", "50331648"), ("memory.swap.max", "16777216"), ("pids.max", "25")]),
        ),
        (
            Resources(json!({ "cpu": { "quota": 70_000, "period": 140_000 } })),
            Some(&[("cpu.max", "70000 140000"), ("memory.max", "50331648"), ("pids.max", "25")]),
        ),
        (Resources(json!({ "memory": { "limit": -1, "swap": -1 } })), Some(&[("memory.max", "max")])),
        (
            Resources(json!({ "unified": { "memory.high": "41943040" } })),
            Some(&[("memory.high", "41943040")]),
        ),
        // Podman 5 sends all there is, devices too, which are not to be touched.
        (
            Resources(json!({
                "devices": [{ "allow": false, "access": "rwm" }],
                "memory": { "limit": 64 * MIB, "swap": 64 * MIB, "reservation": 8 * MIB },
                "cpu": { "quota": 40_000, "period": 100_000 },
                "pids": { "limit": 31 },
                "blockIO": {},
            })),
            Some(&[
                ("memory.max", "67108864"),
                ("memory.swap.max", "0"),
                ("memory.low", "8388608"),
                ("cpu.max", "40000 100000"),
                ("pids.max", "31"),
            ]),
        ),
        (Flags(&["--memory", "moss"]), None),
        (Resources(json!({ "memory": { "limit": 64 * MIB, "swap": 8 * MIB } })), None),
    ]
}

fn limits_are_those_of_runc(ground: &Ground) {
    let reference = ground.of_runc();
    let mut differences = Vec::new();
    for (name, resources, wanted) in table() {
        let [ours, runcs] = [ground, &reference].map(|g| created(g, resources.clone()));
        differences.extend(differs(name, wanted, &ours, &runcs));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn updates_are_those_of_runc(ground: &Ground) {
    let reference = ground.of_runc();
    let before = json!({ "memory": { "limit": 128 * MIB, "swap": 256 * MIB }, "pids": { "limit": 100 } });
    let [ours, runcs] = [ground, &reference].map(|g| g.limited(before.clone()).detach());
    let mut differences = Vec::new();
    for (change, wanted) in changes() {
        let name = match &change {
            Change::Flags(flags) => flags.join(" "),
            Change::Resources(resources) => resources.to_string(),
        };
        let [found_ours, found_runcs] =
            [(ground, &ours), (&reference, &runcs)].map(|(g, container)| updated(g, container, &change));
        differences.extend(differs(&name, wanted, &found_ours, &found_runcs));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    ours.remove();
    runcs.remove();
}

fn a_quota_is_as_coarse_as_the_unit_has_it(ground: &Ground) {
    bryo_only!("runc 1.1 lets the file and the unit differ, until systemd is reloaded");
    let container = ground.limited(json!({ "cpu": { "quota": 33_333, "period": 100_000 } })).create();
    let found = found(ground, &container);
    match ground.manager {
        Manager::Cgroupfs => assert_eq!(found["cpu.max"], "33333 100000"),
        Manager::Systemd => {
            assert_eq!(found["cpu.max"], "34000 100000");
            assert_eq!(ground.property(&container, "CPUQuotaPerSecUSec"), "340ms");
        }
    }
    container.remove();
}

fn an_update_of_memory_alone_keeps_the_sum_of_memory_and_swap(ground: &Ground) {
    bryo_only!("runc 1.1 leaves the swap as it is, and so changes the sum");
    let before = json!({ "memory": { "limit": 128 * MIB, "swap": 256 * MIB } });
    let container = ground.limited(before).detach();
    let found = updated(ground, &container, &Change::Flags(&["--memory", "67108864"])).unwrap();
    assert_eq!(found["memory.max"], "67108864");
    assert_eq!(found["memory.swap.max"], (192 * MIB).to_string());
    container.remove();
}

/// What a container with these resources gets, or why there is none.
fn created(ground: &Ground, resources: Value) -> Outcome {
    let container = ground.limited(resources).try_launch("create", &[]).map_err(|ran| ran.stderr)?;
    let found = found(ground, &container);
    container.remove();
    Ok(found)
}

/// What a container has after this update, or why it failed.
fn updated(ground: &Ground, container: &Container, change: &Change) -> Outcome {
    let ran = match change {
        Change::Flags(flags) => container.call("update", *flags).done(),
        Change::Resources(resources) => {
            container.call("update", ["--resources", "-"]).stdin(resources.to_string()).done()
        }
    };
    if ran.status.success() { Ok(found(ground, container)) } else { Err(ran.stderr) }
}

fn found(ground: &Ground, container: &Container) -> BTreeMap<String, String> {
    let cgroup = Cgroup::of_container(container).dir();
    let content =
        |dir: &Path, file: &str| Some(std::fs::read_to_string(dir.join(file)).ok()?.trim_end().to_owned());
    // Where the container is one below its scope, the scope limits what the leaf does not.
    let scope = cgroup.parent().filter(|_| cgroup.ends_with("container"));
    let holds = |file: &str| match content(&cgroup, file)? {
        open if open == "max" => scope.map_or(Some(open), |scope| content(scope, file)),
        limit => Some(limit),
    };
    let mut found: BTreeMap<String, String> =
        FILES.iter().filter_map(|file| Some(((*file).into(), holds(file)?))).collect();
    if ground.manager == Manager::Systemd {
        let unit = format!("bryo-{}.scope", container.id);
        let shown = ground.lab.systemctl(["show", "--property", PROPERTIES, &unit]).done().ok().stdout;
        found.extend(shown.lines().map(|l| l.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())));
    }
    found
}

/// What is wrong with an outcome: it is not what was wanted, or not runc's.
fn differs(name: &str, wanted: Option<Values>, ours: &Outcome, runcs: &Outcome) -> Vec<String> {
    let mut wrong = Vec::new();
    match (wanted, ours) {
        (None, Err(_)) => {}
        (None, Ok(_)) => wrong.push(format!("{name}: not refused")),
        (Some(_), Err(why)) => wrong.push(format!("{name}: refused: {why}")),
        (Some(wanted), Ok(ours)) => {
            let others = wanted.iter().filter(|(file, value)| ours[*file] != *value);
            wrong.extend(
                others.map(|(file, value)| format!("{name}: {file}: {} and not {value}", ours[*file])),
            );
        }
    }
    match (ours, runcs) {
        (Ok(ours), Ok(runcs)) => {
            let others = runcs.iter().filter(|(key, value)| ours.get(*key) != Some(value));
            wrong.extend(
                others.map(|(key, value)| {
                    format!("{name}: {key}: {:?}, and with runc {value:?}", ours.get(key))
                }),
            );
        }
        (Err(_), Err(_)) => {}
        (Err(_), Ok(_)) => wrong.push(format!("{name}: not refused by runc")),
        (Ok(_), Err(why)) => wrong.push(format!("{name}: refused by runc: {why}")),
    }
    wrong
}
