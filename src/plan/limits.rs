//! What `linux.resources` means on cgroup v2.
//!
//! The specification speaks cgroup v1. Each of its words becomes a file to write; what v2 has no file for is
//! refused by name, unless it is a value that asks for nothing. 0 is "not given" for nearly all of them, as it is
//! for runc, and -1 "no limit".
//!
//! Where a systemd unit holds the cgroup, systemd believes to know its limits and writes them again whenever it
//! is reloaded. So all that a unit has a property for is said twice, in [`Limits::properties`] first and in the
//! files then, which are the truth.
//!
//! For an update, [`Current`] is what the kernel says now: a quota without a period keeps the period, a memory
//! limit keeps the sum of memory and swap.

pub mod convert;
#[cfg(test)]
mod tests;
mod undo;
mod unified;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

/// The controllers that cgroup v2 has; files begin with their names.
const CONTROLLERS: [&str; 9] = ["cpu", "cpuset", "dmem", "hugetlb", "io", "memory", "misc", "pids", "rdma"];

/// The kernel's own period in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;
/// The kernel's own weight.
const DEFAULT_WEIGHT: u64 = 100;

/// One write to one file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Who has the file; empty for the core.
    pub controller: &'static str,
    pub file: String,
    pub value: String,
    pub absent: Absent,
}

impl Setting {
    /// Whether it is of cpu.max, which systemd writes whenever it is told of a quota or its period, and in its own way.
    pub fn is_bandwidth(&self) -> bool {
        self.file.starts_with("cpu.max")
    }
}

/// What it means that there is no such file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// That the limit cannot be set.
    Fails,
    /// Nothing: the value is what holds without the file.
    Fine,
    /// That another file has to be there.
    Instead { file: &'static str, value: String },
}

/// A value of a systemd unit's property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `u64::MAX` is "infinity", or "not set".
    U64(u64),
    /// A bitmask, lowest byte first.
    Bytes(Vec<u8>),
    /// Paths of devices with a number each.
    Devices(Vec<(String, u64)>),
    Text(&'static str),
}

/// All that is to be set, in both languages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// In the order of writing.
    pub settings: Vec<Setting>,
    /// Properties of the unit, each once.
    pub properties: Vec<(&'static str, Value)>,
    /// Properties that a unit takes only when it is started.
    pub birth: Vec<(&'static str, Value)>,
    /// What the caller has to know, one line each.
    pub remarks: Vec<String>,
    /// What was asked for in words of cgroup v1 that v2 has no file for.
    pub outdated: Vec<&'static str>,
    /// The `cpu.max` that agrees with the unit's properties, which are coarser.
    rounded: Option<String>,
}

/// What holds now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Current {
    /// None is no limit, for these two.
    pub memory_max: Option<u64>,
    pub swap_max: Option<u64>,
    /// None where it is not counted.
    pub memory_usage: Option<u64>,
    /// None is no limit.
    pub quota: Option<u64>,
    pub period: Option<u64>,
    pub burst: Option<u64>,
    pub idle: bool,
}

impl Current {
    /// Reads it from the files of a cgroup. A file that is absent says what its default would.
    pub fn read(file: impl Fn(&str) -> Option<String>) -> Current {
        let number = |name| file(name).and_then(|text| text.trim().parse().ok());
        let max = file("cpu.max").and_then(|text| unified::cpu_max(&text, DEFAULT_PERIOD));
        Current {
            memory_max: number("memory.max"),
            swap_max: number("memory.swap.max"),
            memory_usage: number("memory.current"),
            quota: max.and_then(|(quota, _)| quota),
            period: max.map(|(_, period)| period),
            burst: number("cpu.max.burst"),
            idle: number("cpu.idle") == Some(1),
        }
    }
}

/// Decides what to set. `current` is None for a cgroup that is new.
///
/// # Errors
/// The first thing that makes no sense.
pub fn of(resources: &LinuxResources, current: Option<&Current>) -> Result<Limits, String> {
    let unified = resources.unified().as_ref().map(unified::sorted).unwrap_or_default();
    unified.iter().try_for_each(|(file, _)| unified::check(file))?;
    let mut limits = Limits { outdated: outdated(resources), ..Limits::default() };
    if let Some(pids) = resources.pids() {
        limits.pids(pids.limit());
    }
    if let Some(memory) = resources.memory() {
        // What is said of swap in v2's own words is not to be derived.
        let swaps = unified.iter().any(|(file, _)| *file == "memory.swap.max");
        limits.memory(memory, current, swaps)?;
    }
    if let Some(io) = resources.block_io() {
        limits.io(io)?;
    }
    let cpu = resources.cpu().as_ref();
    limits.share(cpu, &unified, current)?;
    if let Some(cpu) = cpu {
        limits.bandwidth(cpu, current)?;
        limits.cpuset(cpu)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        limits.hugetlb(limit.page_size(), limit.limit())?;
    }
    if let Some(rdma) = resources.rdma() {
        let mut devices: Vec<_> = rdma.iter().collect();
        devices.sort_unstable_by_key(|(name, _)| *name);
        for (name, limit) in devices {
            limits.rdma(name, limit.hca_handles(), limit.hca_objects())?;
        }
    }
    unified::add(&mut limits, &unified, current)?;
    Ok(limits)
}

/// The controllers without which these cannot be set.
pub fn controllers(settings: &[Setting]) -> Vec<&'static str> {
    let needed = |name: &str| settings.iter().any(|s| s.controller == name && s.absent != Absent::Fine);
    CONTROLLERS.into_iter().filter(|name| needed(name)).collect()
}

impl Limits {
    /// Whether there is nothing to set.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.properties.is_empty() && self.birth.is_empty()
    }

    /// The same, if all of it can be had.
    ///
    /// # Errors
    /// The first thing that cgroup v2 has no file for.
    pub fn whole(self) -> Result<Limits, String> {
        match self.outdated.first() {
            Some(name) => Err(format!("{name}: cgroup v2 has no such thing: operation not supported")),
            None => Ok(self),
        }
    }

    /// The same for a cgroup that a systemd unit holds: with the quota as coarse as the unit's, so that both
    /// agree.
    #[must_use]
    pub fn rounded_for_unit(mut self) -> Limits {
        if let Some(value) = self.rounded.take() {
            let quota = self.settings.iter_mut().find(|s| s.file == "cpu.max");
            quota.into_iter().for_each(|setting| setting.value.clone_from(&value));
        }
        self
    }

    fn add(&mut self, file: &str, value: impl ToString, absent: Absent) {
        let prefix = file.split('.').next().unwrap_or_default();
        let controller = CONTROLLERS.into_iter().find(|name| *name == prefix).unwrap_or_default();
        self.settings.push(Setting { controller, file: file.into(), value: value.to_string(), absent });
    }

    fn write(&mut self, file: &str, value: impl ToString) {
        self.add(file, value, Absent::Fails);
    }

    /// As `write`; `default` says that the value is what holds without the controller.
    fn write_or_default(&mut self, file: &str, value: impl ToString, default: bool) {
        self.add(file, value, if default { Absent::Fine } else { Absent::Fails });
    }

    /// A property; the last word on it counts.
    fn say(&mut self, name: &'static str, value: Value) {
        self.properties.retain(|(said, _)| *said != name);
        self.properties.push((name, value));
    }

    fn pids(&mut self, limit: i64) {
        let (value, tasks) = match u64::try_from(limit) {
            // systemd has no zero here; with one, nothing can fork either.
            Ok(limit) => (limit.max(1).to_string(), limit.max(1)),
            Err(_) => ("max".into(), u64::MAX),
        };
        self.write_or_default("pids.max", value, limit < 0);
        self.say("TasksMax", Value::U64(tasks));
    }

    fn memory(&mut self, memory: &LinuxMemory, current: Option<&Current>, swaps: bool) -> Result<(), String> {
        let given = |n: Option<i64>| n.filter(|n| *n != 0);
        let limit = given(memory.limit());
        let total = given(memory.swap());
        for (name, value) in [("limit", limit), ("reservation", given(memory.reservation())), ("swap", total)]
        {
            if let Some(negative) = value.filter(|n| *n < -1) {
                return Err(format!("memory.{name} {negative} is less than -1: invalid argument"));
            }
        }
        if memory.check_before_update() == Some(true) {
            fits(limit, total, current.and_then(|now| now.memory_usage))?;
        }
        let swap = if swaps && total.is_none() { None } else { swap_max(limit, total, current)? };
        if let Some(swap) = swap {
            // Without swap there is no such file, and neither anything to forbid or to allow.
            self.amount("memory.swap.max", "MemorySwapMax", swap, swap <= 0);
        }
        if let Some(limit) = limit {
            self.amount("memory.max", "MemoryMax", limit, limit < 0);
        }
        if let Some(reservation) = given(memory.reservation()) {
            self.amount("memory.low", "MemoryLow", reservation, false);
        }
        Ok(())
    }

    /// An amount in bytes, of which -1 is all there is.
    fn amount(&mut self, file: &str, property: &'static str, bytes: i64, default: bool) {
        let number = u64::try_from(bytes).unwrap_or(u64::MAX);
        let value = if bytes < 0 { "max".into() } else { number.to_string() };
        self.write_or_default(file, value, default);
        self.say(property, Value::U64(number));
    }

    /// The share of the processors that a cgroup gets when others want them, too: a weight, or none to speak of
    /// for one that is idle.
    fn share(
        &mut self,
        cpu: Option<&LinuxCpu>,
        unified: &[(&str, &str)],
        current: Option<&Current>,
    ) -> Result<(), String> {
        let named = |file: &str| unified.iter().find(|(name, _)| *name == file).map(|(_, value)| *value);
        let idle = match (named("cpu.idle"), cpu.and_then(LinuxCpu::idle)) {
            (Some("1"), _) | (None, Some(1)) => Some(true),
            (Some("0"), _) | (None, Some(0)) => Some(false),
            (None, None) => None,
            (Some(other), _) => {
                return Err(format!("cpu.idle {other:?} is neither 0 nor 1: invalid argument"));
            }
            (None, Some(other)) => {
                return Err(format!("cpu.idle {other} is neither 0 nor 1: invalid argument"));
            }
        };
        let weight = match named("cpu.weight") {
            Some(text) => {
                let weight = text.parse::<u64>().ok().filter(|weight| (1..=10_000).contains(weight));
                Some(weight.ok_or_else(|| {
                    format!("unified resource \"cpu.weight\": {text:?} is not between 1 and 10000: invalid argument")
                })?)
            }
            None => cpu.and_then(LinuxCpu::shares).filter(|n| *n != 0).map(convert::weight_of_shares),
        };
        let was_idle = current.is_some_and(|now| now.idle);
        match (idle, weight) {
            (Some(true), weight) => {
                if weight.is_some() {
                    self.remarks.push(
                        "unable to apply both cpu.weight and cpu.idle: what is idle has no weight, ignoring cpu.weight"
                            .into(),
                    );
                }
                self.write("cpu.idle", 1);
                // systemd's word for it.
                self.say("CPUWeight", Value::U64(0));
            }
            (idle, Some(weight)) => {
                // The kernel takes no weight for what is idle, and systemd ends idleness with one.
                if was_idle || idle.is_some() {
                    self.write_or_default("cpu.idle", 0, true);
                }
                self.write_or_default("cpu.weight", weight, weight == DEFAULT_WEIGHT);
                self.say("CPUWeight", Value::U64(weight));
            }
            (Some(false), None) => {
                self.write_or_default("cpu.idle", 0, true);
                if was_idle {
                    self.say("CPUWeight", Value::U64(u64::MAX));
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// How much time on the processors a cgroup gets at most.
    fn bandwidth(&mut self, cpu: &LinuxCpu, current: Option<&Current>) -> Result<(), String> {
        // Without a quota a burst of any size is taken, and with one it must not be larger. So what grows beyond
        // the quota of now waits for the new one.
        let later = current.and_then(|now| now.quota).is_some_and(|quota| cpu.burst() > Some(quota));
        let burst = cpu.burst().map(|burst| (burst, burst == 0));
        if let Some((burst, default)) = burst.filter(|_| !later) {
            self.write_or_default("cpu.max.burst", burst, default);
        }
        let quota = cpu.quota().filter(|n| *n != 0);
        let period = cpu.period().filter(|n| *n != 0);
        if quota.is_some() || period.is_some() {
            let quota = match quota {
                Some(quota) => u64::try_from(quota).ok(),
                None => current.and_then(|now| now.quota),
            };
            let period = period.or(current.and_then(|now| now.period)).unwrap_or(DEFAULT_PERIOD);
            let default = quota.is_none() && period == DEFAULT_PERIOD;
            self.write_or_default("cpu.max", cpu_max(quota, period), default);
            let rounded = self.say_quota(quota, period);
            self.rounded = Some(cpu_max(rounded, period));
        }
        if let Some((burst, default)) = burst.filter(|_| later) {
            self.write_or_default("cpu.max.burst", burst, default);
        }
        Ok(())
    }

    /// Says a quota to the unit, and returns what of it the unit can hold.
    fn say_quota(&mut self, quota: Option<u64>, period: u64) -> Option<u64> {
        let (second, rounded) = match quota {
            Some(quota) => convert::quota_of_unit(quota, period),
            None => (u64::MAX, 0),
        };
        self.say("CPUQuotaPeriodUSec", Value::U64(period));
        self.say("CPUQuotaPerSecUSec", Value::U64(second));
        quota.map(|_| rounded)
    }

    fn cpuset(&mut self, cpu: &LinuxCpu) -> Result<(), String> {
        let lists = [("cpus", cpu.cpus(), "AllowedCPUs"), ("mems", cpu.mems(), "AllowedMemoryNodes")];
        for (name, list, property) in lists {
            let Some(list) = list.as_deref().map(str::trim).filter(|list| !list.is_empty()) else { continue };
            let mask = convert::bits(list).map_err(|cause| format!("cpu.{name}: {cause}"))?;
            self.write(&format!("cpuset.{name}"), list);
            self.say(property, Value::Bytes(mask));
        }
        Ok(())
    }

    fn io(&mut self, io: &LinuxBlockIo) -> Result<(), String> {
        if let Some(weight) = io.weight().filter(|n| *n != 0) {
            let converted = weight_in_range("blockIO.weight", weight)?;
            self.io_weight(weight.to_string(), converted.to_string());
            self.say("IOWeight", Value::U64(converted));
        }
        let mut weights = Vec::new();
        for device in io.weight_device().iter().flatten() {
            let numbers = device_numbers("blockIO.weightDevice", device.major(), device.minor())?;
            let Some(weight) = device.weight().filter(|n| *n != 0) else { continue };
            let converted = weight_in_range("blockIO.weightDevice", weight)?;
            self.io_weight(format!("{numbers} {weight}"), format!("{numbers} {converted}"));
            weights.push((format!("/dev/block/{numbers}"), converted));
        }
        if !weights.is_empty() {
            self.say("IODeviceWeight", Value::Devices(weights));
        }
        let throttles = [
            ("throttleReadBpsDevice", io.throttle_read_bps_device(), "rbps", "IOReadBandwidthMax"),
            ("throttleWriteBpsDevice", io.throttle_write_bps_device(), "wbps", "IOWriteBandwidthMax"),
            ("throttleReadIOPSDevice", io.throttle_read_iops_device(), "riops", "IOReadIOPSMax"),
            ("throttleWriteIOPSDevice", io.throttle_write_iops_device(), "wiops", "IOWriteIOPSMax"),
        ];
        for (name, devices, key, property) in throttles {
            let mut rates = Vec::new();
            for device in devices.iter().flatten() {
                let numbers = device_numbers(name, device.major(), device.minor())?;
                if device.rate() == 0 {
                    return Err(format!(
                        "blockIO.{name}: a rate of 0 would stop device {numbers} for ever: numerical result out of range"
                    ));
                }
                self.write("io.max", format!("{numbers} {key}={}", device.rate()));
                rates.push((format!("/dev/block/{numbers}"), device.rate()));
            }
            if !rates.is_empty() {
                self.say(property, Value::Devices(rates));
            }
        }
        Ok(())
    }

    /// Where the BFQ scheduler is, it has a file of its own, with v1's range.
    fn io_weight(&mut self, bfq: String, value: String) {
        self.add("io.bfq.weight", bfq, Absent::Instead { file: "io.weight", value });
    }

    fn hugetlb(&mut self, size: &str, limit: i64) -> Result<(), String> {
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(format!("hugepageLimits: {size:?} is no size like 2MB: invalid argument"));
        }
        if limit < 0 {
            return Err(format!("hugepageLimits: limit {limit} of {size} is negative: invalid argument"));
        }
        self.write(&format!("hugetlb.{size}.max"), limit);
        // Reservations are limited apart from use since Linux 5.7.
        self.write_or_default(&format!("hugetlb.{size}.rsvd.max"), limit, true);
        Ok(())
    }

    fn rdma(&mut self, device: &str, handles: Option<u32>, objects: Option<u32>) -> Result<(), String> {
        if device.is_empty() || device.contains(char::is_whitespace) {
            return Err(format!("rdma: {device:?} is no name of a device: invalid argument"));
        }
        let mut value = device.to_string();
        for (key, limit) in [("hca_handle", handles), ("hca_object", objects)] {
            if let Some(limit) = limit {
                value.push_str(&format!(" {key}={limit}"));
            }
        }
        if value.len() > device.len() {
            self.write("rdma.max", value);
        }
        Ok(())
    }
}

fn cpu_max(quota: Option<u64>, period: u64) -> String {
    match quota {
        Some(quota) => format!("{quota} {period}"),
        None => format!("max {period}"),
    }
}

/// What swap alone may be, when `limit` is that of memory and `total` that of both; -1 is no limit.
fn swap_max(
    limit: Option<i64>,
    total: Option<i64>,
    current: Option<&Current>,
) -> Result<Option<i64>, String> {
    let now =
        |of: fn(&Current) -> Option<u64>| current.and_then(of).map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    let old_limit = now(|now| now.memory_max);
    match (limit, total) {
        (_, Some(-1)) | (Some(-1), None) => Ok(Some(-1)),
        (Some(-1), Some(total)) => Ok(Some(total)),
        (limit, Some(total)) => {
            let limit = limit.or(old_limit).ok_or_else(|| {
                "memory.swap: unable to set swap limit without memory limit: invalid argument".to_string()
            })?;
            below(limit, total).map(Some)
        }
        // None stays none, and so does all there is. Of anything in between the sum stays what it was.
        (Some(limit), None) => match now(|now| now.swap_max) {
            None | Some(0) => Ok(None),
            Some(swap) => below(limit, old_limit.unwrap_or(0).saturating_add(swap)).map(Some),
        },
        (None, None) => Ok(None),
    }
}

fn below(limit: i64, total: i64) -> Result<i64, String> {
    if total < limit {
        return Err(format!(
            "memory.swap {total} is less than memory.limit {limit}: memory+swap limit should be >= memory limit: invalid argument"
        ));
    }
    Ok(total - limit)
}

/// `checkBeforeUpdate`: a limit below what is used would have the kernel kill.
fn fits(limit: Option<i64>, total: Option<i64>, usage: Option<u64>) -> Result<(), String> {
    let Some(usage) = usage else { return Ok(()) };
    for (name, limit) in [("memory+swap", total), ("memory", limit)] {
        if let Some(limit) = limit.and_then(|n| u64::try_from(n).ok()).filter(|n| *n <= usage) {
            return Err(format!("rejecting {name} limit {limit} <= usage {usage}: device or resource busy"));
        }
    }
    Ok(())
}

/// What only v1 had. Engines send the defaults of some of these whether asked to or not.
#[allow(deprecated)] // kernel: read to be refused
/// What of memory was cgroup v1's.
fn outdated_memory(memory: &LinuxMemory) -> impl Iterator<Item = &'static str> {
    let positive = |n: Option<i64>| n.is_some_and(|n| n > 0);
    // The kernel's default, and Docker's -1 as an unsigned number.
    let swappiness = memory.swappiness().is_some_and(|n| n != 60 && n != u64::MAX);
    let asked = [
        ("memory.kernel", positive(memory.kernel())),
        ("memory.kernelTCP", positive(memory.kernel_tcp())),
        ("memory.swappiness", swappiness),
        ("memory.disableOOMKiller", memory.disable_oom_killer() == Some(true)),
    ];
    asked.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name)
}

/// What else was.
fn outdated(resources: &LinuxResources) -> Vec<&'static str> {
    let given = |n: Option<u64>| n.is_some_and(|n| n != 0);
    let leaf = |n: Option<u16>| n.is_some_and(|n| n != 0);
    let by_device = |io: &LinuxBlockIo| io.weight_device().iter().flatten().any(|d| leaf(d.leaf_weight()));
    let network = resources.network().as_ref();
    let cpu = resources.cpu().as_ref();
    let io = resources.block_io().as_ref();
    let asked = [
        ("network.classID", network.is_some_and(|n| n.class_id().is_some_and(|id| id != 0))),
        (
            "network.priorities",
            network.is_some_and(|n| n.priorities().as_ref().is_some_and(|l| !l.is_empty())),
        ),
        ("cpu.realtimeRuntime", cpu.is_some_and(|cpu| cpu.realtime_runtime().is_some_and(|n| n != 0))),
        ("cpu.realtimePeriod", cpu.is_some_and(|cpu| given(cpu.realtime_period()))),
        ("blockIO.leafWeight", io.is_some_and(|io| leaf(io.leaf_weight()) || by_device(io))),
    ];
    let memory = resources.memory().iter().flat_map(outdated_memory);
    asked.into_iter().filter(|(_, asked)| *asked).map(|(name, _)| name).chain(memory).collect()
}

fn weight_in_range(name: &str, weight: u16) -> Result<u64, String> {
    if !(10..=1000).contains(&weight) {
        return Err(format!("{name} {weight} is not between 10 and 1000: invalid argument"));
    }
    Ok(convert::io_weight(weight))
}

fn device_numbers(name: &str, major: i64, minor: i64) -> Result<String, String> {
    if major < 0 || minor < 0 {
        return Err(format!("{name}: {major}:{minor} is no device: invalid argument"));
    }
    Ok(format!("{major}:{minor}"))
}
