use super::*;
use serde_json::{Value as Json, json};
use std::collections::HashMap;

fn resources(json: &Json) -> LinuxResources {
    serde_json::from_value(json.clone()).unwrap()
}

fn lines(limits: &Limits) -> String {
    let lines: Vec<_> = limits.settings.iter().map(|s| format!("{}={}", s.file, s.value)).collect();
    lines.join("; ")
}

fn fresh(json: &Json) -> Result<Limits, String> {
    of(&resources(json), None).and_then(Limits::whole)
}

fn property(limits: &Limits, name: &str) -> Option<Value> {
    let found: Vec<_> = limits.properties.iter().filter(|(said, _)| *said == name).collect();
    assert!(found.len() <= 1, "{name} is said twice");
    found.first().map(|(_, value)| value.clone())
}

const M: i64 = 1 << 20;

#[test]
fn every_word_becomes_the_files_of_v2_in_the_order_of_writing() {
    for (json, wanted) in [
        (json!({}), ""),
        (json!({"memory": {"limit": 32 * M}}), "memory.max=33554432"),
        (json!({"memory": {"limit": 0, "swap": 0, "reservation": 0}}), ""),
        (json!({"memory": {"reservation": 24 * M}}), "memory.low=25165824"),
        (json!({"memory": {"reservation": -1}}), "memory.low=max"),
        (
            json!({"memory": {"limit": 30 * M, "swap": 50 * M}}),
            "memory.swap.max=20971520; memory.max=31457280",
        ),
        (json!({"memory": {"limit": 30 * M, "swap": 30 * M}}), "memory.swap.max=0; memory.max=31457280"),
        (json!({"memory": {"limit": 30 * M, "swap": -1}}), "memory.swap.max=max; memory.max=31457280"),
        (json!({"memory": {"limit": -1}}), "memory.swap.max=max; memory.max=max"),
        (json!({"memory": {"limit": -1, "swap": 50 * M}}), "memory.swap.max=52428800; memory.max=max"),
        (json!({"memory": {"swap": -1}}), "memory.swap.max=max"),
        (
            json!({"memory": {"kernel": 0, "kernelTCP": -1, "swappiness": 60, "disableOOMKiller": false, "useHierarchy": true}}),
            "",
        ),
        (
            json!({"memory": {"swappiness": u64::MAX, "checkBeforeUpdate": true, "limit": M}}),
            "memory.max=1048576",
        ),
        (json!({"cpu": {"shares": 1024}}), "cpu.weight=100"),
        (json!({"cpu": {"shares": 100}}), "cpu.weight=17"),
        (json!({"cpu": {"shares": 2}}), "cpu.weight=1"),
        (json!({"cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""}}), ""),
        (json!({"cpu": {"quota": 50_000}}), "cpu.max=50000 100000"),
        (json!({"cpu": {"period": 50_000}}), "cpu.max=max 50000"),
        (json!({"cpu": {"quota": -1, "period": 1_000_000}}), "cpu.max=max 1000000"),
        (json!({"cpu": {"quota": 500_000, "period": 1_000_000}}), "cpu.max=500000 1000000"),
        (
            json!({"cpu": {"quota": 50_000, "period": 100_000, "burst": 10_000}}),
            "cpu.max.burst=10000; cpu.max=50000 100000",
        ),
        (json!({"cpu": {"burst": 0}}), "cpu.max.burst=0"),
        (json!({"cpu": {"idle": 1}}), "cpu.idle=1"),
        (json!({"cpu": {"idle": 1, "shares": 200}}), "cpu.idle=1"),
        (json!({"cpu": {"idle": 0, "shares": 200}}), "cpu.idle=0; cpu.weight=29"),
        (json!({"cpu": {"cpus": "0-1,3", "mems": "0"}}), "cpuset.cpus=0-1,3; cpuset.mems=0"),
        (json!({"cpu": {"realtimeRuntime": 0, "realtimePeriod": 0}}), ""),
        (json!({"pids": {"limit": 20}}), "pids.max=20"),
        (json!({"pids": {"limit": 0}}), "pids.max=1"),
        (json!({"pids": {"limit": -1}}), "pids.max=max"),
        (json!({"blockIO": {}}), ""),
        (json!({"blockIO": {"weight": 750, "leafWeight": 0}}), "io.bfq.weight=750"),
        (
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}),
            "io.bfq.weight=8:0 10",
        ),
        (
            json!({"blockIO": {
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1024}, {"major": 8, "minor": 16, "rate": 1}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2048}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 10}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 20}]}}),
            "io.max=8:0 rbps=1024; io.max=8:16 rbps=1; io.max=8:0 wbps=2048; io.max=8:0 riops=10; io.max=8:0 wiops=20",
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * M}]}),
            "hugetlb.2MB.max=4194304; hugetlb.2MB.rsvd.max=4194304",
        ),
        (
            json!({"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10_000}, "a": {"hcaObjects": 1}, "b": {}}}),
            "rdma.max=a hca_object=1; rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        ),
        (json!({"network": {"priorities": []}}), ""),
        (
            json!({"unified": {"memory.high": " 1G\n", "cpu.max": "max 50000", "io.max": "8:0 riops=3\n8:16 wiops=4\n", "cgroup.max.depth": "2"}}),
            "cgroup.max.depth=2; cpu.max=max 50000; io.max=8:0 riops=3; io.max=8:16 wiops=4; memory.high=1G",
        ),
        (
            json!({"memory": {"limit": M}, "pids": {"limit": 7}, "unified": {"memory.max": "2097152", "pids.max": "0"}}),
            "pids.max=7; memory.max=1048576; memory.max=2097152; pids.max=0",
        ),
        (json!({"cpu": {"shares": 512}, "unified": {"cpu.weight": "42"}}), "cpu.weight=42"),
        (json!({"unified": {"cpu.weight": "8", "cpu.idle": "1"}}), "cpu.idle=1"),
        (json!({"devices": [{"allow": false, "access": "rwm"}]}), ""),
        (
            json!({"cpu": {"shares": 512}, "memory": {"limit": M}, "pids": {"limit": 9}, "blockIO": {"weight": 10}}),
            "pids.max=9; memory.max=1048576; io.bfq.weight=10; cpu.weight=59",
        ),
    ] {
        let limits = fresh(&json).unwrap_or_else(|cause| panic!("{json}: {cause}"));
        assert_eq!(lines(&limits), wanted, "{json}");
    }
}

#[test]
fn what_v2_cannot_do_or_makes_no_sense_is_refused_by_name() {
    for (json, words) in [
        (json!({"memory": {"swap": M}}), "unable to set swap limit without memory limit"),
        (json!({"memory": {"limit": 2 * M, "swap": M}}), "memory+swap limit should be >= memory limit"),
        (json!({"memory": {"limit": -2}}), "memory.limit -2"),
        (json!({"memory": {"reservation": -2}}), "memory.reservation -2"),
        (json!({"memory": {"kernel": 1}}), "memory.kernel:"),
        (json!({"memory": {"kernelTCP": 1}}), "memory.kernelTCP:"),
        (json!({"memory": {"swappiness": 10}}), "memory.swappiness:"),
        (json!({"memory": {"disableOOMKiller": true}}), "memory.disableOOMKiller:"),
        (json!({"cpu": {"idle": 2}}), "cpu.idle 2"),
        (json!({"cpu": {"realtimeRuntime": 5}}), "cpu.realtimeRuntime"),
        (json!({"cpu": {"realtimePeriod": 5}}), "cpu.realtimePeriod"),
        (json!({"cpu": {"cpus": "0-"}}), "cpu.cpus: \"0-\""),
        (json!({"cpu": {"mems": "a"}}), "cpu.mems: \"a\""),
        (json!({"blockIO": {"weight": 9}}), "blockIO.weight 9"),
        (json!({"blockIO": {"weight": 1001}}), "blockIO.weight 1001"),
        (json!({"blockIO": {"leafWeight": 100}}), "leafWeight"),
        (json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 1}]}}), "leafWeight"),
        (json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 1}]}}), "weightDevice 1"),
        (json!({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 0}]}}), "rate of 0"),
        (json!({"blockIO": {"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}}), "-1:0"),
        (json!({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}), "../2MB"),
        (json!({"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}), "negative"),
        (json!({"rdma": {"a b": {"hcaHandles": 3}}}), "\"a b\""),
        (json!({"network": {"classID": 1}}), "network.classID"),
        (json!({"network": {"priorities": [{"name": "lo", "priority": 1}]}}), "network.priorities"),
        (json!({"unified": {"memory/max": "1"}}), "no slashes"),
        (json!({"unified": {"memory": "1"}}), "CONTROLLER.PARAMETER"),
        (json!({"unified": {".max": "1"}}), "CONTROLLER.PARAMETER"),
        (json!({"unified": {"blkio.weight": "1"}}), "controller \"blkio\" not available"),
        (json!({"unified": {"memory.max": "much"}}), "\"memory.max\""),
        (json!({"unified": {"cpu.weight": "0"}}), "\"cpu.weight\""),
        (json!({"unified": {"cpu.max": "1 2 3"}}), "\"cpu.max\""),
        (json!({"unified": {"cpu.idle": "yes"}}), "cpu.idle \"yes\""),
        (json!({"unified": {"cpuset.cpus": "x"}}), "\"x\""),
        (json!({"unified": {"memory.oom.group": "2"}}), "\"memory.oom.group\""),
    ] {
        let cause = fresh(&json).expect_err(&json.to_string());
        assert!(cause.contains(words) && !cause.contains('\n'), "{json}: {cause}");
        let errno = ["invalid argument", "operation not supported", "numerical result out of range"];
        assert!(errno.iter().any(|text| cause.ends_with(text)), "{cause}");
    }
}

#[test]
fn a_unit_is_told_the_same() {
    let number = |n: u64| Some(Value::U64(n));
    for (json, name, wanted) in [
        (json!({"memory": {"limit": M}}), "MemoryMax", number(1 << 20)),
        (json!({"memory": {"limit": -1}}), "MemoryMax", number(u64::MAX)),
        (json!({"memory": {"limit": -1}}), "MemorySwapMax", number(u64::MAX)),
        (json!({"memory": {"limit": M, "swap": M}}), "MemorySwapMax", number(0)),
        (json!({"memory": {"limit": M}}), "MemorySwapMax", None),
        (json!({"memory": {"reservation": M}}), "MemoryLow", number(1 << 20)),
        (json!({"cpu": {"shares": 1024}}), "CPUWeight", number(100)),
        (json!({"cpu": {"idle": 1, "shares": 1024}}), "CPUWeight", number(0)),
        (json!({"cpu": {"quota": 5000}}), "CPUQuotaPerSecUSec", number(50_000)),
        (json!({"cpu": {"quota": 3333}}), "CPUQuotaPerSecUSec", number(40_000)),
        (json!({"cpu": {"quota": 5000, "period": 10_000}}), "CPUQuotaPeriodUSec", number(10_000)),
        (json!({"cpu": {"period": 10_000}}), "CPUQuotaPerSecUSec", number(u64::MAX)),
        (json!({"cpu": {"burst": 10}}), "CPUQuotaPerSecUSec", None),
        (json!({"cpu": {"cpus": "0,9"}}), "AllowedCPUs", Some(Value::Bytes(vec![1, 2]))),
        (json!({"cpu": {"mems": "1"}}), "AllowedMemoryNodes", Some(Value::Bytes(vec![2]))),
        (json!({"pids": {"limit": 0}}), "TasksMax", number(1)),
        (json!({"pids": {"limit": -1}}), "TasksMax", number(u64::MAX)),
        (json!({"pids": {"limit": 3}, "unified": {"pids.max": "4"}}), "TasksMax", number(4)),
        (json!({"blockIO": {"weight": 1000}}), "IOWeight", number(10_000)),
        (
            json!({"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 1, "rate": 7}]}}),
            "IOWriteIOPSMax",
            Some(Value::Devices(vec![("/dev/block/8:1".into(), 7)])),
        ),
        (
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 1, "weight": 10}]}}),
            "IODeviceWeight",
            Some(Value::Devices(vec![("/dev/block/8:1".into(), 1)])),
        ),
        (json!({"unified": {"memory.min": "4K"}}), "MemoryMin", number(4096)),
        (json!({"unified": {"memory.high": "max"}}), "MemoryHigh", number(u64::MAX)),
        (json!({"unified": {"cpu.weight": "42"}}), "CPUWeight", number(42)),
        (json!({"unified": {"cpu.max": "10000"}}), "CPUQuotaPerSecUSec", number(100_000)),
        (json!({"unified": {"cpuset.mems": "0"}}), "AllowedMemoryNodes", Some(Value::Bytes(vec![1]))),
        (json!({"unified": {"pids.max": "0"}}), "TasksMax", number(1)),
        (json!({"unified": {"memory.zswap.max": "0"}}), "MemoryZSwapMax", None),
    ] {
        assert_eq!(property(&fresh(&json).unwrap(), name), wanted, "{json} {name}");
    }
    let birth = |value: &str| fresh(&json!({"unified": {"memory.oom.group": value}})).unwrap().birth;
    assert_eq!(birth("1"), [("OOMPolicy", Value::Text("kill"))]);
    assert_eq!(birth("0"), [("OOMPolicy", Value::Text("continue"))]);
}

#[test]
fn with_a_unit_the_quota_is_as_coarse_as_the_units() {
    let limits = fresh(&json!({"cpu": {"quota": 3333, "shares": 2}})).unwrap();
    assert_eq!(lines(&limits), "cpu.weight=1; cpu.max=3333 100000");
    assert_eq!(lines(&limits.rounded_for_unit()), "cpu.weight=1; cpu.max=4000 100000");
    for json in [json!({"cpu": {"period": 3333}}), json!({"unified": {"cpu.max": "3333 100000"}})] {
        let limits = fresh(&json).unwrap();
        assert_eq!(limits.clone().rounded_for_unit().settings, limits.settings);
    }
}

#[test]
fn a_default_needs_no_controller() {
    for (json, wanted) in [
        (json!({"cpu": {"shares": 1024, "quota": -1, "idle": 0, "burst": 0}}), &[][..]),
        (json!({"memory": {"limit": -1}, "pids": {"limit": -1}}), &[]),
        (json!({"cpu": {"shares": 1025}}), &["cpu"]),
        (json!({"cpu": {"cpus": "0"}, "pids": {"limit": 1}}), &["cpuset", "pids"]),
        (json!({"memory": {"limit": M, "swap": M}, "blockIO": {"weight": 10}}), &["io", "memory"]),
        (json!({"unified": {"cgroup.max.depth": "1", "misc.max": "a 1"}}), &["misc"]),
        (json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}), &["hugetlb"]),
    ] {
        assert_eq!(controllers(&fresh(&json).unwrap().settings), wanted, "{json}");
    }
}

#[test]
fn where_bfq_is_not_the_weight_goes_to_the_other_file() {
    let limits = fresh(&json!({"blockIO": {"weight": 750}})).unwrap();
    assert_eq!(limits.settings[0].absent, Absent::Instead { file: "io.weight", value: "7475".into() });
}

#[test]
fn a_weight_that_is_ignored_is_told() {
    assert_eq!(fresh(&json!({"cpu": {"idle": 1}})).unwrap().remarks.len(), 0);
    let told = fresh(&json!({"cpu": {"idle": 1, "shares": 5}})).unwrap().remarks;
    assert!(told[0].contains("unable to apply both"), "{told:?}");
}

/// A cgroup of files in memory.
fn files(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(file, text)| ((*file).into(), format!("{text}\n"))).collect()
}

fn update(files: &HashMap<String, String>, json: &Json) -> Result<Limits, String> {
    of(&resources(json), Some(&Current::read(|file| files.get(file).cloned())))
}

#[test]
fn an_update_keeps_what_it_does_not_name() {
    let limited: &[(&str, &str)] = &[
        ("memory.max", "31457280"),
        ("memory.swap.max", "20971520"),
        ("cpu.max", "500000 1000000"),
        ("cpu.max.burst", "0"),
    ];
    let unlimited: &[(&str, &str)] =
        &[("memory.max", "max"), ("memory.swap.max", "max"), ("cpu.max", "max 100000")];
    let no_swap: &[(&str, &str)] = &[("memory.max", "31457280"), ("memory.swap.max", "0")];
    for (now, json, wanted) in [
        (limited, json!({"cpu": {"period": 900_000}}), "cpu.max=500000 900000"),
        (limited, json!({"cpu": {"quota": 600_000}}), "cpu.max=600000 1000000"),
        (limited, json!({"cpu": {"quota": -1}}), "cpu.max=max 1000000"),
        (
            limited,
            json!({"cpu": {"burst": 600_000, "quota": 700_000}}),
            "cpu.max=700000 1000000; cpu.max.burst=600000",
        ),
        (limited, json!({"cpu": {"burst": 5, "quota": 1000}}), "cpu.max.burst=5; cpu.max=1000 1000000"),
        (unlimited, json!({"cpu": {"quota": 30_000}}), "cpu.max=30000 100000"),
        (unlimited, json!({"cpu": {"period": 50_000}}), "cpu.max=max 50000"),
        (limited, json!({"memory": {"limit": 40 * M}}), "memory.swap.max=10485760; memory.max=41943040"),
        (limited, json!({"memory": {"limit": 50 * M}}), "memory.swap.max=0; memory.max=52428800"),
        (limited, json!({"memory": {"swap": 60 * M}}), "memory.swap.max=31457280"),
        (limited, json!({"memory": {"limit": -1}}), "memory.swap.max=max; memory.max=max"),
        (
            limited,
            json!({"memory": {"limit": 60 * M}, "unified": {"memory.swap.max": "5"}}),
            "memory.max=62914560; memory.swap.max=5",
        ),
        (limited, json!({"memory": {"reservation": 5}}), "memory.low=5"),
        (no_swap, json!({"memory": {"limit": 60 * M}}), "memory.max=62914560"),
        (unlimited, json!({"memory": {"limit": 60 * M}}), "memory.max=62914560"),
        (unlimited, json!({}), ""),
    ] {
        let limits = update(&files(now), &json).unwrap_or_else(|cause| panic!("{json}: {cause}"));
        assert_eq!(lines(&limits), wanted, "{json}");
    }
    let total = update(&files(limited), &json!({"memory": {"limit": 51 * M}})).unwrap_err();
    assert!(total.contains("memory+swap limit should be >= memory limit"), "{total}");
    let total = update(&files(unlimited), &json!({"memory": {"swap": 51 * M}})).unwrap_err();
    assert!(total.contains("without memory limit"), "{total}");
    let period = update(&files(limited), &json!({"unified": {"cpu.max": "500000"}})).unwrap();
    assert_eq!(property(&period, "CPUQuotaPerSecUSec"), Some(Value::U64(500_000)));
}

#[test]
fn a_weight_ends_idleness_and_the_end_of_idleness_is_told_to_the_unit() {
    let idle = files(&[("cpu.idle", "1")]);
    let limits = update(&idle, &json!({"cpu": {"shares": 200}})).unwrap();
    assert_eq!(lines(&limits), "cpu.idle=0; cpu.weight=29");
    let limits = update(&idle, &json!({"unified": {"cpu.weight": "8"}})).unwrap();
    assert_eq!(lines(&limits), "cpu.idle=0; cpu.weight=8");
    let limits = update(&idle, &json!({"cpu": {"idle": 0}})).unwrap();
    assert_eq!(property(&limits, "CPUWeight"), Some(Value::U64(u64::MAX)));
}

#[test]
fn a_limit_below_what_is_used_is_rejected_if_that_is_to_be_checked() {
    let used = files(&[("memory.max", "33554432"), ("memory.swap.max", "max"), ("memory.current", "4096")]);
    let memory = |limit: i64, swap: i64, check: bool| {
        update(&used, &json!({"memory": {"limit": limit, "swap": swap, "checkBeforeUpdate": check}}))
    };
    assert!(memory(1024, 0, true).unwrap_err().starts_with("rejecting memory limit 1024 <= usage 4096"));
    assert!(
        memory(4096, 0, true).is_err() && memory(4097, 0, true).is_ok() && memory(1024, 0, false).is_ok()
    );
    assert!(
        memory(1024, 2048, true).unwrap_err().starts_with("rejecting memory+swap limit 2048 <= usage 4096")
    );
    assert!(memory(-1, -1, true).is_ok());
}

#[test]
fn what_was_there_can_be_set_again() {
    let now = files(&[
        ("memory.max", "max"),
        ("memory.swap.max", "4096"),
        ("memory.low", "0"),
        ("cpu.max", "max 100000"),
        ("cpu.max.burst", "7"),
        ("cpu.idle", "0"),
        ("cpu.weight", "42"),
        ("cpuset.cpus", ""),
        ("pids.max", "5"),
        ("io.max", "8:0 rbps=5 wbps=max riops=max wiops=6"),
        ("io.weight", "default 100\n8:0 7"),
        ("rdma.max", "a hca_handle=1 hca_object=max"),
    ]);
    let read = |file: &str| now.get(file).cloned();
    for (json, wanted) in [
        (
            json!({"memory": {"limit": M, "swap": M, "reservation": 5}}),
            "memory.low=0\n; memory.max=max\n; memory.swap.max=4096\n",
        ),
        (json!({"cpu": {"burst": 1, "quota": 2000}}), "cpu.max=max 100000\n; cpu.max.burst=7\n"),
        // Weights come back after the idleness that took them.
        (json!({"cpu": {"idle": 1}}), "cpu.idle=0; cpu.weight=42"),
        (json!({"cpu": {"cpus": "1", "mems": "0"}}), "cpuset.cpus=\n"),
        (
            json!({"blockIO": {"weight": 10, "weightDevice": [
                {"major": 8, "minor": 0, "weight": 10}, {"major": 8, "minor": 16, "weight": 10}]}}),
            "io.weight=8:16 default; io.weight=8:0 7; io.weight=default 100",
        ),
        (
            json!({"unified": {"io.max": "8:0 rbps=1\n8:16 wbps=2 riops=3"}}),
            "io.max=8:16 wbps=max riops=max; io.max=8:0 rbps=5 wbps=max riops=max wiops=6",
        ),
        (json!({"rdma": {"a": {"hcaHandles": 9}}}), "rdma.max=a hca_handle=1 hca_object=max"),
        (json!({"pids": {"limit": 9}}), "pids.max=5\n"),
    ] {
        let undo = fresh(&json).unwrap().undo(read);
        assert_eq!(lines(&undo), wanted, "{json}");
    }
    let asked = json!({
        "memory": {"limit": M, "swap": M},
        "cpu": {"shares": 9, "quota": 2000, "cpus": "1"},
        "pids": {"limit": 9},
        "blockIO": {"weight": 10, "throttleReadBpsDevice": [
            {"major": 8, "minor": 0, "rate": 9}, {"major": 8, "minor": 16, "rate": 9}]}});
    let undo = fresh(&asked).unwrap().undo(read);
    for (name, wanted) in [
        ("MemoryMax", Value::U64(u64::MAX)),
        ("MemorySwapMax", Value::U64(4096)),
        ("CPUWeight", Value::U64(42)),
        ("CPUQuotaPerSecUSec", Value::U64(u64::MAX)),
        ("CPUQuotaPeriodUSec", Value::U64(100_000)),
        ("AllowedCPUs", Value::Bytes(vec![])),
        ("TasksMax", Value::U64(5)),
        ("IOWeight", Value::U64(100)),
        (
            "IOReadBandwidthMax",
            Value::Devices(vec![("/dev/block/8:0".into(), 5), ("/dev/block/8:16".into(), u64::MAX)]),
        ),
    ] {
        assert_eq!(property(&undo, name), Some(wanted), "{name}");
    }
    let weights = json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}});
    assert_eq!(
        property(&fresh(&weights).unwrap().undo(read), "IODeviceWeight"),
        Some(Value::Devices(vec![("/dev/block/8:0".into(), 7)]))
    );
    let idle = files(&[("cpu.idle", "1"), ("cpu.weight", "0")]);
    let undo = fresh(&json!({"cpu": {"shares": 9, "idle": 0}})).unwrap().undo(|file| idle.get(file).cloned());
    assert_eq!(lines(&undo), "cpu.idle=1");
    assert_eq!(property(&undo, "CPUWeight"), Some(Value::U64(0)));
    // Without its controllers a cgroup has no files, and its unit has heard of new limits all the same.
    let undo = fresh(&asked).unwrap().undo(|_| None);
    assert!(undo.settings.is_empty());
    assert_eq!(undo.properties.len(), fresh(&asked).unwrap().properties.len());
    assert_eq!(property(&undo, "MemoryMax"), Some(Value::U64(u64::MAX)));
    assert_eq!(property(&undo, "AllowedCPUs"), Some(Value::Bytes(vec![])));
}
