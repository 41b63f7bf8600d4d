//! `resources.unified`: files of cgroup v2 by their own names. They are written as they are given; what a systemd
//! unit has a property for is said there as well.

use super::{CONTROLLERS, Current, DEFAULT_PERIOD, Limits, Value, convert};
use std::collections::HashMap;

/// The words of the map in the order of writing. The map's own order changes from run to run.
pub fn sorted(map: &HashMap<String, String>) -> Vec<(&str, &str)> {
    let mut words: Vec<_> = map.iter().map(|(file, value)| (file.as_str(), value.trim())).collect();
    words.sort_unstable();
    words
}

/// Checks that a key names a file of a controller, or of the core, that cgroup v2 has.
///
/// # Errors
/// One that does not.
pub fn check(file: &str) -> Result<(), String> {
    if file.contains('/') {
        return Err(format!("unified resource {file:?} must be a file name (no slashes): invalid argument"));
    }
    let Some((controller, _)) = file.split_once('.').filter(|(c, p)| !c.is_empty() && !p.is_empty()) else {
        return Err(format!(
            "unified resource {file:?} must be in the form CONTROLLER.PARAMETER: invalid argument"
        ));
    };
    if controller != "cgroup" && !CONTROLLERS.contains(&controller) {
        return Err(format!(
            "unified resource {file:?} can't be set: controller {controller:?} not available: invalid argument"
        ));
    }
    Ok(())
}

/// Adds all of them but the two that [`super::share`] has taken care of.
///
/// # Errors
/// A value that the kernel would not take either.
pub fn add(limits: &mut Limits, words: &[(&str, &str)], current: Option<&Current>) -> Result<(), String> {
    for (file, value) in words.iter().filter(|(file, _)| !matches!(*file, "cpu.idle" | "cpu.weight")) {
        // A file may hold a line for each device, and takes one with each write.
        for line in value.lines().map(str::trim).filter(|line| !line.is_empty()) {
            limits.write(file, line);
        }
        let invalid = || format!("unified resource {file:?}: {value:?} is no value for it: invalid argument");
        match *file {
            "cpu.max" => {
                let period = current.and_then(|now| now.period).unwrap_or(DEFAULT_PERIOD);
                let (quota, period) = cpu_max(value, period).ok_or_else(invalid)?;
                limits.say_quota(quota, period);
            }
            "cpuset.cpus" => limits.say("AllowedCPUs", Value::Bytes(convert::bits(value)?)),
            "cpuset.mems" => limits.say("AllowedMemoryNodes", Value::Bytes(convert::bits(value)?)),
            // systemd has no zero of these.
            "pids.max" => limits.say("TasksMax", Value::U64(amount(value).ok_or_else(invalid)?.max(1))),
            "memory.oom.group" => match *value {
                "0" => limits.birth.push(("OOMPolicy", Value::Text("continue"))),
                "1" => limits.birth.push(("OOMPolicy", Value::Text("kill"))),
                _ => return Err(invalid()),
            },
            _ => {
                if let Some((_, name)) = AMOUNTS.iter().find(|(known, _)| known == file) {
                    limits.say(name, Value::U64(amount(value).ok_or_else(invalid)?));
                }
            }
        }
    }
    Ok(())
}

/// The files that hold an amount of memory, and the properties that say the same.
pub const AMOUNTS: [(&str, &str); 5] = [
    ("memory.high", "MemoryHigh"),
    ("memory.low", "MemoryLow"),
    ("memory.max", "MemoryMax"),
    ("memory.min", "MemoryMin"),
    ("memory.swap.max", "MemorySwapMax"),
];

/// An amount as the kernel reads it: `max`, or a number with one of its suffixes.
pub fn amount(text: &str) -> Option<u64> {
    if text == "max" {
        return Some(u64::MAX);
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let power = match suffix {
        "" => 0,
        "k" | "K" => 1,
        "m" | "M" => 2,
        "g" | "G" => 3,
        "t" | "T" => 4,
        "p" | "P" => 5,
        "e" | "E" => 6,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

/// `cpu.max`: a quota in microseconds, none for `max`, and a period, which stays as it is if it is left out.
pub fn cpu_max(text: &str, period: u64) -> Option<(Option<u64>, u64)> {
    let mut words = text.split_ascii_whitespace();
    let quota = match words.next()? {
        "max" => None,
        number => Some(number.parse().ok()?),
    };
    let period = words.next().map_or(Some(period), |word| word.parse().ok())?;
    words.next().is_none().then_some((quota, period))
}
