//! What a cgroup has used, in the shape that runc prints.
//!
//! runc's shape is cgroup v1's, and what reads it (Go structs, decoded by name) was written for that. So the
//! kernel's counters go where v1 had them, in v1's units: nanoseconds where v2 counts microseconds, memory and
//! swap together where v2 tells them apart, "Read" and "Write" entries where v2 has columns. Numbers that v2 has
//! no counter for are left out where runc leaves out a zero, and are zero where runc prints one.
//!
//! What is not known is null, never zero (runc prints zeros):
//!
//! - A section is null where its controller is not enabled for this cgroup. The times of `cpu` are there always,
//!   since the kernel counts them for every cgroup.
//! - Without a cgroup all sections are null, and `"available": false` says so. Otherwise that key is missing, so
//!   that the object is runc's.
//! - `psi` is missing where the kernel does not measure pressure.
//! - `network_interfaces` is null as it is with runc, which counts none that the runtime specification knows.
//! - `rdma` and `misc` are bryo's own, and only there where these controllers are.
//!
//! Go leaves a struct alone where the object has a null, and skips keys that it does not know.

use super::{Cgroup, event};
use crate::sys::{Errno, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// The `data` of a stats event.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    #[serde(skip_serializing_if = "is_true")]
    available: bool,
    cpu: Option<Cpu>,
    cpuset: Option<Cpuset>,
    memory: Option<Memory>,
    pids: Option<Pids>,
    blkio: Option<Blkio>,
    /// By page size as in the names of the files: `2MB`.
    hugetlb: Option<BTreeMap<String, Hugetlb>>,
    intel_rdt: Option<IntelRdt>,
    network_interfaces: (),
    /// By device.
    #[serde(skip_serializing_if = "Option::is_none")]
    rdma: Option<BTreeMap<String, BTreeMap<String, u64>>>,
    /// By resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    misc: Option<BTreeMap<String, u64>>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

/// In nanoseconds.
#[derive(Debug, PartialEq, Serialize)]
struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_periods: u64,
    /// In nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    throttled_time: u64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Cpuset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpus: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mems: Vec<u16>,
    #[serde(flatten)]
    switches: CpusetSwitches,
}

/// What can be switched in v1's cpuset, and always off.
#[derive(Debug, Default, PartialEq, Serialize)]
struct CpusetSwitches {
    cpu_exclusive: u64,
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    cache: u64,
    usage: MemoryEntry,
    /// Of memory and swap together.
    swap: MemoryEntry,
    /// v2 counts the kernel's memory with the rest.
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: MemoryEntry,
    /// memory.stat.
    raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct MemoryEntry {
    limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    /// How often the limit stood in the way.
    failcnt: u64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    /// None is zero.
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blkio {
    /// Bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Debug, PartialEq, Serialize)]
struct BlkioEntry {
    #[serde(skip_serializing_if = "is_zero")]
    major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    minor: u64,
    op: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    value: u64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Hugetlb {
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    failcnt: u64,
}

/// Empty: bryo makes no resctrl groups.
#[derive(Debug, PartialEq, Serialize)]
struct IntelRdt {}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, PartialEq, Serialize)]
struct Psi {
    #[serde(skip_serializing_if = "Option::is_none")]
    some: Option<Pressure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<Pressure>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Pressure {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    /// In microseconds.
    total: u64,
}

// serde wants references.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_true(value: &bool) -> bool {
    *value
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Reads what a cgroup has used.
///
/// # Errors
/// `ENODEV` or `ENOENT` once the cgroup is removed.
pub fn stats(cgroup: &Cgroup) -> Result<Stats> {
    Files { read: &|name| cgroup.read(name), page_sizes: &page_sizes }.stats()
}

/// What is said of a container that has no cgroup.
pub fn unavailable() -> Stats {
    Stats::default()
}

/// The files of a cgroup.
struct Files<'a> {
    read: &'a dyn Fn(&str) -> Result<String>,
    /// Those of huge pages.
    page_sizes: &'a dyn Fn() -> Vec<String>,
}

impl Files<'_> {
    fn stats(&self) -> Result<Stats> {
        let controllers = (self.read)("cgroup.controllers")?;
        let enabled = |name| controllers.split_whitespace().any(|controller| controller == name);
        Ok(Stats {
            available: true,
            cpu: self.cpu()?,
            cpuset: if enabled("cpuset") { self.cpuset()? } else { None },
            memory: if enabled("memory") { self.memory()? } else { None },
            pids: if enabled("pids") { self.pids()? } else { None },
            blkio: if enabled("io") { self.blkio()? } else { None },
            hugetlb: if enabled("hugetlb") { Some(self.hugetlb()?) } else { None },
            intel_rdt: Some(IntelRdt {}),
            network_interfaces: (),
            rdma: self.text("rdma.current")?.map(|text| rdma(&text)),
            misc: self.text("misc.current")?.map(|text| owned(flat(&text))),
        })
    }

    /// A file that may be missing: for want of its controller, of a newer kernel, or of what it counts.
    fn text(&self, name: &str) -> Result<Option<String>> {
        match (self.read)(name) {
            Ok(text) => Ok(Some(text)),
            // Pressure that is compiled in but not switched on is EOPNOTSUPP.
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.text(name)?.and_then(|text| number(&text)))
    }

    fn psi(&self, name: &str) -> Result<Option<Psi>> {
        Ok(self.text(name)?.map(|text| psi(&text)))
    }

    fn cpu(&self) -> Result<Option<Cpu>> {
        let Some(text) = self.text("cpu.stat")? else { return Ok(None) };
        let count = |key| event(&text, key).unwrap_or(0);
        let nanoseconds = |key| count(key).saturating_mul(1000);
        Ok(Some(Cpu {
            usage: CpuUsage {
                total: nanoseconds("usage_usec"),
                kernel: nanoseconds("system_usec"),
                user: nanoseconds("user_usec"),
            },
            throttling: Throttling {
                periods: count("nr_periods"),
                throttled_periods: count("nr_throttled"),
                throttled_time: nanoseconds("throttled_usec"),
            },
            psi: self.psi("cpu.pressure")?,
        }))
    }

    fn cpuset(&self) -> Result<Option<Cpuset>> {
        let cpus = self.text("cpuset.cpus.effective")?;
        let mems = self.text("cpuset.mems.effective")?;
        let (Some(cpus), Some(mems)) = (cpus, mems) else { return Ok(None) };
        let switches = CpusetSwitches::default();
        Ok(Some(Cpuset { cpus: list(&cpus), mems: list(&mems), switches }))
    }

    fn memory(&self) -> Result<Option<Memory>> {
        let (Some(usage), Some(stat)) = (self.memory_entry("memory")?, self.text("memory.stat")?) else {
            return Ok(None);
        };
        let events = self.text("memory.events")?.unwrap_or_default();
        let raw = owned(flat(&stat));
        // There is none where the kernel does not count it.
        let swap = self.memory_entry("memory.swap")?.unwrap_or_default();
        Ok(Some(Memory {
            cache: raw.get("file").copied().unwrap_or(0),
            swap: MemoryEntry {
                limit: swap.limit.saturating_add(usage.limit),
                usage: swap.usage.saturating_add(usage.usage),
                // Both may have been at their peak at different times.
                max: 0,
                failcnt: 0,
            },
            usage: MemoryEntry { failcnt: event(&events, "max").unwrap_or(0), ..usage },
            kernel: MemoryEntry::default(),
            kernel_tcp: MemoryEntry::default(),
            raw,
            psi: self.psi("memory.pressure")?,
        }))
    }

    fn memory_entry(&self, prefix: &str) -> Result<Option<MemoryEntry>> {
        let number = |name| self.number(&format!("{prefix}.{name}"));
        let (Some(usage), Some(limit)) = (number("current")?, number("max")?) else { return Ok(None) };
        // The peak is known since Linux 5.19, that of swap since 6.5.
        Ok(Some(MemoryEntry { limit, usage, max: number("peak")?.unwrap_or(0), failcnt: 0 }))
    }

    fn pids(&self) -> Result<Option<Pids>> {
        let (current, limit) = (self.number("pids.current")?, self.number("pids.max")?);
        let (Some(current), Some(limit)) = (current, limit) else { return Ok(None) };
        Ok(Some(Pids { current, limit: if limit == u64::MAX { 0 } else { limit } }))
    }

    fn blkio(&self) -> Result<Option<Blkio>> {
        let Some(text) = self.text("io.stat")? else { return Ok(None) };
        Ok(Some(Blkio {
            io_service_bytes_recursive: io(&text, [("rbytes", "Read"), ("wbytes", "Write")]),
            io_serviced_recursive: io(&text, [("rios", "Read"), ("wios", "Write")]),
            psi: self.psi("io.pressure")?,
        }))
    }

    fn hugetlb(&self) -> Result<BTreeMap<String, Hugetlb>> {
        let mut sizes = BTreeMap::new();
        for size in (self.page_sizes)() {
            // What is reserved counts, since Linux 5.7: pages that are not there when they are touched are too late.
            let usage = match self.number(&format!("hugetlb.{size}.rsvd.current"))? {
                None => self.number(&format!("hugetlb.{size}.current"))?,
                reserved => reserved,
            };
            let Some(usage) = usage else { continue };
            let events = self.text(&format!("hugetlb.{size}.events"))?.unwrap_or_default();
            let failcnt = event(&events, "max").unwrap_or(0);
            sizes.insert(size, Hugetlb { usage, failcnt });
        }
        Ok(sizes)
    }
}

/// The sizes of huge pages that the machine has.
fn page_sizes() -> Vec<String> {
    // Without the directory there are none.
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    entries.filter_map(|entry| page_size(entry.file_name().to_str()?)).collect()
}

/// `hugepages-2048kB` is `2MB` to the controller.
fn page_size(name: &str) -> Option<String> {
    let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let (number, unit) = match kilobytes {
        gigabytes if gigabytes >= 1 << 20 => (gigabytes >> 20, "GB"),
        megabytes if megabytes >= 1 << 10 => (megabytes >> 10, "MB"),
        _ => (kilobytes, "KB"),
    };
    Some(format!("{number}{unit}"))
}

/// A single value; `max` is the largest number, as Go has it.
fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

/// A flat keyed file (Documentation/admin-guide/cgroup-v2.rst, "Format"): lines of `KEY VALUE`.
fn flat(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, number(value)?))
    })
}

/// A nested keyed file: lines of `KEY SUBKEY=VALUE...`.
fn nested(text: &str) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, &str)> + Clone)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.filter_map(|word| word.split_once('='))))
    })
}

fn owned<'a>(pairs: impl Iterator<Item = (&'a str, u64)>) -> BTreeMap<String, u64> {
    pairs.map(|(key, value)| (key.to_string(), value)).collect()
}

/// One entry a device and column; a device that has done nothing yet has no columns.
fn io(text: &str, columns: [(&str, &'static str); 2]) -> Vec<BlkioEntry> {
    let mut entries = Vec::new();
    for (device, values) in nested(text) {
        let Some((major, minor)) = device.split_once(':') else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (column, op) in columns {
            let found = values.clone().find(|(key, _)| *key == column);
            let Some(value) = found.and_then(|(_, value)| number(value)) else { continue };
            entries.push(BlkioEntry { major, minor, op, value });
        }
    }
    entries
}

fn rdma(text: &str) -> BTreeMap<String, BTreeMap<String, u64>> {
    let counts =
        nested(text).map(|(device, values)| (device, values.filter_map(|(k, v)| Some((k, number(v)?)))));
    counts.map(|(device, values)| (device.to_string(), owned(values))).collect()
}

fn psi(text: &str) -> Psi {
    let line = |wanted| {
        let (_, values) = nested(text).find(|(key, _)| *key == wanted)?;
        let field = |wanted| values.clone().find(|(key, _)| *key == wanted).map(|(_, value)| value);
        let average = |wanted| field(wanted)?.parse().ok();
        Some(Pressure {
            avg10: average("avg10")?,
            avg60: average("avg60")?,
            avg300: average("avg300")?,
            total: number(field("total")?)?,
        })
    };
    // Of the processor, `full` is there since Linux 5.13.
    Psi { some: line("some"), full: line("full") }
}

/// A list of numbers and ranges: `0-3,8`.
fn list(text: &str) -> Vec<u16> {
    let ranges = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// What a kernel 7.2 says of a container with limits of memory, processor and pids that has read 1.2 MB.
    const FILES: [(&str, &str); 14] = [
        ("cgroup.controllers", "cpu io memory pids\n"),
        (
            "cpu.stat",
            "usage_usec 210000\nuser_usec 200000\nsystem_usec 10000\nnice_usec 0\nnr_periods 3\nnr_throttled 0\n\
             throttled_usec 0\nnr_bursts 0\nburst_usec 0\n",
        ),
        ("memory.stat", "anon 49152\nfile 1212416\nkernel 212992\npgfault 709\n"),
        ("memory.current", "1515520\n"),
        ("memory.peak", "13713408\n"),
        ("memory.max", "67108864\n"),
        ("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"),
        ("memory.swap.current", "0\n"),
        ("memory.swap.max", "67108864\n"),
        ("memory.swap.peak", "0\n"),
        ("pids.current", "1\n"),
        ("pids.max", "50\n"),
        ("io.stat", "98:0 rbytes=1212416 wbytes=0 rios=49 wios=0 dbytes=0 dios=0\n"),
        ("cgroup.freeze", "0\n"),
    ];

    fn read(files: &[(&str, &str)], name: &str) -> Result<String> {
        let found = files.iter().find(|(file, _)| *file == name);
        found.map(|(_, text)| (*text).to_string()).ok_or(Errno::ENOENT)
    }

    /// The files of above with others in their place or beside them.
    fn with(changes: &[(&str, &str)]) -> Value {
        let files: Vec<_> = changes.iter().copied().chain(FILES).collect();
        let files =
            Files { read: &|name| read(&files, name), page_sizes: &|| vec!["2MB".into(), "1GB".into()] };
        serde_json::to_value(files.stats().unwrap()).unwrap()
    }

    #[test]
    fn stats_have_the_keys_and_the_order_of_runc() {
        let files = Files { read: &|name| read(&FILES, name), page_sizes: &Vec::new };
        let text = serde_json::to_string(&files.stats().unwrap()).unwrap();
        // As runc 1.1.15 prints it for the same files, but for the sections of controllers that are not enabled.
        let runc = concat!(
            r#"{"cpu":{"usage":{"total":210000000,"kernel":10000000,"user":200000000},"throttling":{"periods":3}},"#,
            r#""cpuset":null,"#,
            r#""memory":{"cache":1212416,"usage":{"limit":67108864,"usage":1515520,"max":13713408,"failcnt":0},"#,
            r#""swap":{"limit":134217728,"usage":1515520,"failcnt":0},"kernel":{"limit":0,"failcnt":0},"#,
            r#""kernelTCP":{"limit":0,"failcnt":0},"#,
            r#""raw":{"anon":49152,"file":1212416,"kernel":212992,"pgfault":709}},"#,
            r#""pids":{"current":1,"limit":50},"#,
            r#""blkio":{"ioServiceBytesRecursive":[{"major":98,"op":"Read","value":1212416},{"major":98,"op":"Write"}],"#,
            r#""ioServicedRecursive":[{"major":98,"op":"Read","value":49},{"major":98,"op":"Write"}]},"#,
            r#""hugetlb":null,"intel_rdt":{},"network_interfaces":null}"#,
        );
        assert_eq!(text, runc);
    }

    #[test]
    fn without_a_cgroup_everything_is_null_and_said_to_be_unavailable() {
        assert_eq!(
            serde_json::to_string(&unavailable()).unwrap(),
            "{\"available\":false,\"cpu\":null,\"cpuset\":null,\"memory\":null,\"pids\":null,\"blkio\":null,\
             \"hugetlb\":null,\"intel_rdt\":null,\"network_interfaces\":null}"
        );
    }

    #[test]
    fn a_controller_that_is_not_enabled_leaves_null_but_the_times_of_the_processor() {
        let stats =
            with(&[("cgroup.controllers", "\n"), ("cpu.stat", "usage_usec 7\nuser_usec 5\nsystem_usec 2\n")]);
        assert_eq!(stats["cpu"]["usage"], json!({"total": 7000, "kernel": 2000, "user": 5000}));
        assert_eq!(stats["cpu"]["throttling"], json!({}));
        for section in ["cpuset", "memory", "pids", "blkio", "hugetlb"] {
            assert_eq!(stats[section], Value::Null, "{section}");
        }
        assert_eq!(stats.get("available"), None);
    }

    #[test]
    fn a_cgroup_that_is_gone_is_an_error_and_not_without_controllers() {
        for errno in [Errno::ENOENT, Errno::ENODEV] {
            let files = Files { read: &|_| Err(errno), page_sizes: &Vec::new };
            assert_eq!(files.stats(), Err(errno));
        }
    }

    #[test]
    fn throttling_is_counted_in_nanoseconds() {
        let cpu =
            "usage_usec 1\nuser_usec 1\nsystem_usec 0\nnr_periods 9\nnr_throttled 4\nthrottled_usec 123\n";
        let throttling = &with(&[("cpu.stat", cpu)])["cpu"]["throttling"];
        assert_eq!(throttling, &json!({"periods": 9, "throttledPeriods": 4, "throttledTime": 123_000}));
    }

    #[test]
    fn no_limit_is_the_largest_number_for_memory_and_none_for_pids() {
        let stats = with(&[("memory.max", "max\n"), ("memory.swap.max", "4096\n"), ("pids.max", "max\n")]);
        assert_eq!(stats["memory"]["usage"]["limit"], u64::MAX);
        assert_eq!(stats["memory"]["swap"]["limit"], u64::MAX, "memory alone has no limit");
        assert_eq!(stats["pids"], json!({"current": 1}));
    }

    #[test]
    fn swap_is_counted_with_memory() {
        let stats = with(&[("memory.swap.current", "10\n"), ("memory.swap.max", "100\n")]);
        let swap = &stats["memory"]["swap"];
        assert_eq!(swap, &json!({"limit": 67_108_964, "usage": 1_515_530, "failcnt": 0}));
        let none: Vec<_> = FILES.into_iter().filter(|(name, _)| !name.starts_with("memory.swap")).collect();
        let files = Files { read: &|name| read(&none, name), page_sizes: &Vec::new };
        let swap = files.stats().unwrap().memory.unwrap().swap;
        assert_eq!((swap.limit, swap.usage), (67_108_864, 1_515_520), "a kernel that counts no swap");
    }

    #[test]
    fn the_limit_that_stood_in_the_way_is_counted() {
        let events = "low 0\nhigh 0\nmax 17\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(with(&[("memory.events", events)])["memory"]["usage"]["failcnt"], 17);
    }

    #[test]
    fn pressure_is_shown_where_the_kernel_measures_it() {
        let text = "some avg10=1.53 avg60=0.87 avg300=0.23 total=26030\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let some = json!({"avg10": 1.53, "avg60": 0.87, "avg300": 0.23, "total": 26030});
        let full = json!({"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 7});
        for (file, section) in
            [("cpu.pressure", "cpu"), ("memory.pressure", "memory"), ("io.pressure", "blkio")]
        {
            assert_eq!(with(&[(file, text)])[section]["psi"], json!({"some": some, "full": full}));
            assert_eq!(with(&[])[section].get("psi"), None);
        }
        let before_5_13 = text.lines().next().unwrap();
        assert_eq!(with(&[("cpu.pressure", before_5_13)])["cpu"]["psi"], json!({"some": some}));
    }

    #[test]
    fn pressure_that_is_switched_off_is_none() {
        let off = |name: &str| {
            if name.ends_with(".pressure") { Err(Errno::EOPNOTSUPP) } else { read(&FILES, name) }
        };
        let stats = Files { read: &off, page_sizes: &Vec::new }.stats().unwrap();
        assert_eq!(stats.cpu.unwrap().psi, None);
    }

    #[test]
    fn devices_that_have_done_nothing_have_no_entries() {
        let stats =
            with(&[("io.stat", "7:0 \n8:16 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n254:0\n")]);
        assert_eq!(
            stats["blkio"],
            json!({
                "ioServiceBytesRecursive": [
                    {"major": 8, "minor": 16, "op": "Read", "value": 4096},
                    {"major": 8, "minor": 16, "op": "Write"},
                ],
                "ioServicedRecursive": [
                    {"major": 8, "minor": 16, "op": "Read", "value": 1},
                    {"major": 8, "minor": 16, "op": "Write"},
                ],
            })
        );
        assert_eq!(with(&[("io.stat", "")])["blkio"], json!({}));
    }

    #[test]
    fn cpusets_are_lists_of_numbers() {
        let stats = with(&[
            ("cgroup.controllers", "cpuset\n"),
            ("cpuset.cpus.effective", "0-2,8\n"),
            ("cpuset.mems.effective", "0\n"),
        ]);
        assert_eq!(stats["cpuset"]["cpus"], json!([0, 1, 2, 8]));
        assert_eq!(stats["cpuset"]["mems"], json!([0]));
        assert_eq!(stats["cpuset"]["sched_relax_domain_level"], 0);
        assert_eq!(list("\n"), [0; 0]);
        assert_eq!(list("3-1,x,70000"), [0; 0]);
    }

    #[test]
    fn huge_pages_that_are_reserved_count_as_used() {
        let stats = with(&[
            ("cgroup.controllers", "hugetlb\n"),
            ("hugetlb.2MB.rsvd.current", "4194304\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.events", "max 3\n"),
            ("hugetlb.1GB.current", "0\n"),
            ("hugetlb.1GB.events", "max 0\n"),
        ]);
        let wanted = json!({"1GB": {"failcnt": 0}, "2MB": {"usage": 4_194_304, "failcnt": 3}});
        assert_eq!(stats["hugetlb"], wanted);
    }

    #[test]
    fn page_sizes_are_named_as_the_controller_names_them() {
        for (directory, wanted) in
            [("hugepages-64kB", "64KB"), ("hugepages-2048kB", "2MB"), ("hugepages-1048576kB", "1GB")]
        {
            assert_eq!(page_size(directory).as_deref(), Some(wanted));
        }
        assert_eq!(page_size("hugepages-kB"), None);
    }

    #[test]
    fn rdma_and_misc_are_shown_where_they_are_counted() {
        let stats = with(&[
            ("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n"),
            ("misc.current", "sev 3\nsev_es 0\n"),
        ]);
        assert_eq!(stats["rdma"]["mlx4_0"], json!({"hca_handle": 2, "hca_object": 2000}));
        assert_eq!(stats["rdma"]["ocrdma1"]["hca_object"], u64::MAX);
        assert_eq!(stats["misc"], json!({"sev": 3, "sev_es": 0}));
        assert_eq!((with(&[]).get("rdma"), with(&[]).get("misc")), (None, None));
    }
}
