//! `update`: other limits for a container that runs.
//!
//! What is not named stays as it is. The kernel, and not our record, says what that is: others may have written
//! the files meanwhile.

use super::warn;
use crate::bundle;
use crate::cgroup::Cgroup;
use crate::cgroup::systemd::Systemd;
use crate::cli::Update;
use crate::launch::cgroup::limits as files;
use crate::launch::rdt;
use crate::plan::cgroup::property;
use crate::plan::limits::{self, Current, Limits, Setting, convert};
use crate::report::{Act, Failure, io_text};
use crate::state::store::Store;
use crate::state::{Record, RecordedCgroup, Status};
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;

/// `bryo update`.
pub fn update(store: &Store, flags: &Update) -> Result<u8, Failure> {
    let id = flags.id.as_str();
    let act = || format!("cannot update container {id}");
    let resources = wanted(flags).map_err(|cause| Failure::new(act(), cause))?;
    let (entry, record) = store.open_locked("update", id)?;
    if entry.status(&record)? == Status::Stopped {
        return Err(Failure::new(act(), "container not running"));
    }
    share_out(flags, &record, id)?;
    let Some(recorded) = &record.cgroup else {
        return without_cgroup(&resources, id);
    };
    let cgroup = recorded.open().act(act)?;
    let read = |file: &str| cgroup.read(file).ok();
    let limits = limits::of(&resources, Some(&Current::read(read))).and_then(Limits::whole);
    let mut limits = limits.map_err(|cause| Failure::new(act(), cause))?;
    if recorded.unit.is_some() {
        limits = limits.rounded_for_unit();
    }
    limits.remarks.iter().for_each(|remark| warn(remark));
    let undo = limits.undo(read);
    let mut cgroups = vec![cgroup];
    if recorded.path != recorded.own() {
        // The unit's own has them as well, as at the start.
        cgroups.insert(0, recorded.open_own().act(act)?);
    }
    set(&cgroups, recorded, &limits, &undo, id)?;
    Ok(0)
}

/// Changes what the container has of caches and memory bandwidth.
fn share_out(flags: &Update, record: &Record, id: &str) -> Result<(), Failure> {
    let schemas = [given(&flags.l3_cache_schema), given(&flags.mem_bw_schema)];
    let lines: Vec<String> = schemas.into_iter().flatten().map(str::to_string).collect();
    if lines.is_empty() {
        return Ok(());
    }
    match &record.rdt {
        Some(rdt) => rdt::update(rdt, &lines, id),
        None => Err(Failure::new(
            format!("cannot update container {id}"),
            "it has no share of caches and memory bandwidth of its own: operation not supported",
        )
        .code("RDT")
        .fix("create it with linux.intelRdt, as root and where resctrl is mounted")),
    }
}

/// Sets the limits, or none of them.
fn set(
    cgroups: &[Cgroup],
    recorded: &RecordedCgroup,
    limits: &Limits,
    undo: &Limits,
    id: &str,
) -> Result<(), Failure> {
    say(recorded, limits, id).inspect_err(|_| {
        // It may have heard it before the line broke. What led here is what is told.
        let _ = say(recorded, undo, id);
    })?;
    let applied = cgroups.iter().try_for_each(|cgroup| files::apply(cgroup, &limits.settings, id));
    applied.map_err(|failure| {
        if cgroups.iter().any(|cgroup| cgroup.read("cgroup.controllers").is_err()) {
            // The new limits were too much for it: nobody is left to have the old ones.
            return failure;
        }
        let said = say(recorded, undo, id);
        let mut stay: Vec<_> =
            cgroups.iter().flat_map(|cgroup| files::restore(cgroup, &undo.settings)).collect();
        stay.dedup();
        match said {
            Ok(()) if stay.is_empty() => failure.aside("the limits are what they were"),
            Ok(()) => failure.aside(&format!("{} could not be set back", stay.join(", "))),
            Err(_) => failure.aside("systemd could not be told to go back"),
        }
    })
}

/// Nothing can be limited, which is only fine if nothing is to be.
fn without_cgroup(resources: &LinuxResources, id: &str) -> Result<u8, Failure> {
    let act = || format!("cannot update container {id}");
    let limits =
        limits::of(resources, None).and_then(Limits::whole).map_err(|cause| Failure::new(act(), cause))?;
    if limits.is_empty() {
        return Ok(0);
    }
    Err(Failure::new(act(), "it has no cgroup: operation not supported")
        .code("CG-NODELEG")
        .fix("make the container anew where a cgroup is delegated to us: systemd-run --user --scope -p Delegate=yes bryo ..."))
}

/// What is asked for. Resources from a file win over all flags but those that are not among them.
fn wanted(flags: &Update) -> Result<LinuxResources, String> {
    match flags.resources.as_deref().filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => {
            let text = read(path).map_err(|error| format!("{}: {}", path.display(), io_text(&error)))?;
            bundle::parse_resources(&text).map_err(|cause| format!("{}: {cause}", path.display()))
        }
        None => of_flags(flags),
    }
}

/// Much more than resources can be.
const MAX_RESOURCES: u64 = 1 << 20;

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_RESOURCES + 1).read_to_end(&mut text)?;
    } else {
        std::fs::File::open(path)?.take(MAX_RESOURCES + 1).read_to_end(&mut text)?;
    }
    if text.len() as u64 > MAX_RESOURCES {
        return Err(std::io::Error::other(format!("larger than {} MiB", MAX_RESOURCES >> 20)));
    }
    Ok(text)
}

/// A flag with a value; an empty one is as good as none.
fn given(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|text| !text.is_empty())
}

fn of_flags(flags: &Update) -> Result<LinuxResources, String> {
    let unsigned = |text: &str| text.parse::<u64>().ok().map(Value::from);
    let signed = |text: &str| text.parse::<i64>().ok().map(Value::from);
    let weight = |text: &str| text.parse::<u16>().ok().map(Value::from);
    let size = |text: &str| convert::size(text).ok().map(Value::from);
    let word = |text: &str| Some(Value::from(text));
    type Reader<'a> = &'a dyn Fn(&str) -> Option<Value>;
    let table: [(&str, &Option<String>, &str, &str, Reader<'_>); 14] = [
        ("blkio-weight", &flags.blkio_weight, "blockIO", "weight", &weight),
        ("cpu-period", &flags.cpu_period, "cpu", "period", &unsigned),
        ("cpu-quota", &flags.cpu_quota, "cpu", "quota", &signed),
        ("cpu-burst", &flags.cpu_burst, "cpu", "burst", &unsigned),
        ("cpu-share", &flags.cpu_share, "cpu", "shares", &unsigned),
        ("cpu-idle", &flags.cpu_idle, "cpu", "idle", &signed),
        ("cpu-rt-period", &flags.cpu_rt_period, "cpu", "realtimePeriod", &unsigned),
        ("cpu-rt-runtime", &flags.cpu_rt_runtime, "cpu", "realtimeRuntime", &signed),
        ("cpuset-cpus", &flags.cpuset_cpus, "cpu", "cpus", &word),
        ("cpuset-mems", &flags.cpuset_mems, "cpu", "mems", &word),
        ("memory", &flags.memory, "memory", "limit", &size),
        ("memory-reservation", &flags.memory_reservation, "memory", "reservation", &size),
        ("memory-swap", &flags.memory_swap, "memory", "swap", &size),
        ("pids-limit", &flags.pids_limit, "pids", "limit", &signed),
    ];
    let mut resources = json!({});
    for (flag, value, group, key, reader) in table {
        let Some(text) = given(value) else { continue };
        let value = reader(text);
        resources[group][key] =
            value.ok_or_else(|| format!("invalid value for --{flag}: {text:?}: invalid argument"))?;
    }
    serde_json::from_value(resources).map_err(|error| error.to_string())
}

/// Tells the unit, if there is one: systemd writes what it believes whenever it is reloaded.
fn say(recorded: &RecordedCgroup, limits: &Limits, id: &str) -> Result<(), Failure> {
    let Some(unit) = recorded.unit.as_ref().filter(|_| !limits.properties.is_empty()) else { return Ok(()) };
    let properties: Vec<_> =
        limits.properties.iter().map(|(name, value)| ((*name).to_string(), property(value))).collect();
    let told = Systemd::connect(&unit.bus).and_then(|mut systemd| {
        systemd.set_properties(&unit.name, &properties)?;
        if limits.settings.iter().any(Setting::is_bandwidth) { systemd.settle(&unit.name) } else { Ok(()) }
    });
    told.map_err(|trouble| {
        Failure::new(format!("cannot limit unit {} of container {id}", unit.name), trouble.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(set: impl FnOnce(&mut Update)) -> Update {
        let mut flags = Update { id: "web".into(), ..Update::default() };
        set(&mut flags);
        flags
    }

    #[test]
    fn flags_say_what_resources_would() {
        let flags = flags(|f| {
            f.blkio_weight = Some("100".into());
            f.cpu_quota = Some("-1".into());
            f.cpu_share = Some("1024".into());
            f.cpuset_cpus = Some("0-1".into());
            f.cpuset_mems = Some(String::new());
            f.memory = Some("50M".into());
            f.memory_swap = Some("-1".into());
            f.pids_limit = Some("0".into());
        });
        let wanted = serde_json::from_value(json!({
            "blockIO": {"weight": 100},
            "cpu": {"quota": -1, "shares": 1024, "cpus": "0-1"},
            "memory": {"limit": 50 << 20, "swap": -1},
            "pids": {"limit": 0},
        }));
        assert_eq!(super::wanted(&flags), Ok(wanted.unwrap()));
    }

    #[test]
    fn a_flag_that_is_no_number_is_named() {
        for (flags, name) in [
            (flags(|f| f.cpu_share = Some("-5".into())), "--cpu-share"),
            (flags(|f| f.memory = Some("much".into())), "--memory"),
            (flags(|f| f.blkio_weight = Some("70000".into())), "--blkio-weight"),
        ] {
            let cause = wanted(&flags).unwrap_err();
            assert!(cause.contains(name), "{cause}");
        }
    }

    #[test]
    fn no_flag_is_no_change() {
        let resources = wanted(&flags(|_| {})).unwrap();
        assert!(limits::of(&resources, None).unwrap().is_empty());
    }

    #[test]
    fn resources_of_a_file_win_over_flags() {
        let path = std::env::temp_dir().join(format!("bryo-resources-{}", std::process::id()));
        std::fs::write(&path, br#"{"pids": {"limit": 7}}"#).unwrap();
        let flags = flags(|f| {
            f.pids_limit = Some("9".into());
            f.resources = Some(path.clone());
        });
        let limit = wanted(&flags).unwrap().pids().map(|pids| pids.limit());
        std::fs::remove_file(path).unwrap();
        assert_eq!(limit, Some(7));
    }
}
