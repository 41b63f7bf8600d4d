//! The way back from an update that failed half-way: what was there before, as [`Limits`] again.

use super::{Absent, Limits, Value, convert, unified};

impl Limits {
    /// What has to be set to have back what the files say now. To be asked before anything is written.
    pub fn undo(&self, read: impl Fn(&str) -> Option<String>) -> Limits {
        let mut undo = Limits::default();
        // Backwards: some values depend on others.
        for setting in self.settings.iter().rev().filter(|setting| !shares(&setting.file)) {
            let (file, value) = match &setting.absent {
                Absent::Instead { file, value } if read(&setting.file).is_none() => (*file, value),
                _ => (setting.file.as_str(), &setting.value),
            };
            let Some(old) = read(file) else { continue };
            undo.write_or_default(file, before(file, value, &old), true);
        }
        if self.settings.iter().any(|setting| shares(&setting.file)) {
            undo.share_again(&read);
        }
        for (name, value) in &self.properties {
            undo.say(name, said(name, value, &read));
        }
        undo
    }

    /// To end idleness makes the weight the default, and what is idle takes none.
    fn share_again(&mut self, read: &impl Fn(&str) -> Option<String>) {
        let idle = read("cpu.idle").map(|text| text.trim().to_string());
        let weight = read("cpu.weight").filter(|_| idle.as_deref() != Some("1"));
        for (file, old) in [("cpu.idle", idle), ("cpu.weight", weight)] {
            if let Some(old) = old {
                self.write_or_default(file, old.trim(), true);
            }
        }
    }
}

fn shares(file: &str) -> bool {
    matches!(file, "cpu.idle" | "cpu.weight")
}

/// What to write to a file that reads `old`, to take back `value`.
fn before(file: &str, value: &str, old: &str) -> String {
    // Where there is a line for each device, only one of them was written.
    let (key, rest) = value.split_once(' ').unwrap_or((value, ""));
    match file {
        "io.max" | "rdma.max" => line(old, key).map(str::to_string).unwrap_or_else(|| {
            let unlimited = rest.split_ascii_whitespace().filter_map(|pair| pair.split_once('='));
            unlimited.fold(key.to_string(), |text, (name, _)| text + " " + name + "=max")
        }),
        "io.weight" | "io.bfq.weight" if key.contains(':') => {
            line(old, key).map_or_else(|| format!("{key} default"), str::to_string)
        }
        "io.weight" | "io.bfq.weight" => line(old, "default").unwrap_or(old.trim()).to_string(),
        // An empty list, too, takes a write.
        _ => format!("{}\n", old.trim()),
    }
}

fn line<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find(|line| line.split_ascii_whitespace().next() == Some(key))
}

/// What the unit's property would be for what the files say; of a file that is absent, what its default would.
fn said(name: &str, new: &Value, read: &impl Fn(&str) -> Option<String>) -> Value {
    let trimmed = |file| read(file).map(|text| text.trim().to_string());
    let amount = |file| trimmed(file).and_then(|text| unified::amount(&text));
    let list =
        |file| Value::Bytes(trimmed(file).and_then(|text| convert::bits(&text).ok()).unwrap_or_default());
    let quota = || unified::cpu_max(&read("cpu.max")?, super::DEFAULT_PERIOD);
    let number = match name {
        "AllowedCPUs" => return list("cpuset.cpus"),
        "AllowedMemoryNodes" => return list("cpuset.mems"),
        "MemoryLow" => amount("memory.low").or(Some(0)),
        "MemoryMin" => amount("memory.min").or(Some(0)),
        "TasksMax" => amount("pids.max"),
        "CPUWeight" if trimmed("cpu.idle").as_deref() == Some("1") => Some(0),
        "CPUWeight" => amount("cpu.weight"),
        "CPUQuotaPeriodUSec" => quota().map(|(_, period)| period),
        "CPUQuotaPerSecUSec" => {
            quota().and_then(|(quota, period)| Some(convert::quota_of_unit(quota?, period).0))
        }
        "IOWeight" => weight(read, "default"),
        _ => match (unified::AMOUNTS.iter().find(|(_, property)| *property == name), new) {
            (Some((file, _)), _) => amount(file),
            (None, Value::Devices(devices)) => return of_devices(name, devices, read),
            (None, _) => None,
        },
    };
    Value::U64(number.unwrap_or(u64::MAX))
}

fn weight(read: &impl Fn(&str) -> Option<String>, key: &str) -> Option<u64> {
    line(&read("io.weight")?, key)?.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn of_devices(name: &str, devices: &[(String, u64)], read: &impl Fn(&str) -> Option<String>) -> Value {
    let key = match name {
        "IOReadBandwidthMax" => "rbps=",
        "IOWriteBandwidthMax" => "wbps=",
        "IOReadIOPSMax" => "riops=",
        _ => "wiops=",
    };
    let rate = |numbers: &str| {
        let text = read("io.max")?;
        let mut words = line(&text, numbers)?.split_ascii_whitespace();
        words.find_map(|word| word.strip_prefix(key)).and_then(unified::amount)
    };
    let old = devices.iter().map(|(path, _)| {
        let numbers = path.rsplit('/').next().unwrap_or_default();
        let old = if name == "IODeviceWeight" { weight(read, numbers) } else { rate(numbers) };
        (path.clone(), old.unwrap_or(u64::MAX))
    });
    Value::Devices(old.collect())
}
