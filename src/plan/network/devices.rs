//! Network devices of the host that move into the container (config-linux.md, "Network Devices").
//!
//! They take root over the network namespace that they are in, which no plain user is on a machine; a plain user's way
//! to a network is a helper.

use super::super::namespaces::Namespaces;
use crate::host::{CAP_NET_ADMIN, Facts};
use crate::report::Failure;
use nix::sched::CloneFlags;
use oci_spec::runtime::Linux;
use std::collections::BTreeSet;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// As the host calls it.
    pub name: String,
    /// As the container is to call it; with `%d` the kernel chooses the number.
    pub inside: String,
}

/// The longest name of a device (IFNAMSIZ, less its end).
const LONGEST: usize = 15;

/// Decides.
///
/// # Errors
/// Names that cannot be, two devices of one name, a container without a network namespace; `NET-DEVICE` for who may not
/// move devices.
pub fn decide(
    linux: &Linux,
    container: &str,
    namespaces: &Namespaces,
    facts: &Facts,
) -> Result<Vec<Device>, Failure> {
    let Some(asked) = linux.net_devices().as_ref().filter(|asked| !asked.is_empty()) else {
        return Ok(Vec::new());
    };
    let refuse = |cause: String| {
        Failure::new(format!("cannot move network devices into container {container}"), cause)
    };
    let mut devices: Vec<Device> = asked
        .iter()
        .map(|(name, device)| {
            let inside = device.name().as_ref().filter(|inside| !inside.is_empty()).unwrap_or(name);
            Device { name: name.clone(), inside: inside.clone() }
        })
        .collect();
    devices.sort_by(|one, other| one.name.cmp(&other.name));
    let bad = |name: &&str| !is_name(name);
    let outside =
        devices.iter().map(|device| device.name.as_str()).find(|name| bad(name) || name.contains('%'));
    if let Some(name) = outside.or(devices.iter().map(|device| device.inside.as_str()).find(bad)) {
        let cause = format!("linux.netDevices: {name:?} is no name of a network device: invalid argument");
        return Err(refuse(cause));
    }
    let mut taken = BTreeSet::new();
    if let Some(twice) =
        devices.iter().find(|device| !device.inside.contains('%') && !taken.insert(&device.inside))
    {
        return Err(refuse(format!("linux.netDevices: two are called {}: file exists", twice.inside)));
    }
    if !namespaces.has(CloneFlags::CLONE_NEWNET) {
        return Err(refuse("the container has no network namespace of its own: invalid argument".into())
            .fix("list one in linux.namespaces"));
    }
    if !facts.capable(CAP_NET_ADMIN) {
        return Err(refuse("it takes CAP_NET_ADMIN over the host's network: operation not permitted".into())
            .code("NET-DEVICE")
            .fix("run bryo as root, or remove linux.netDevices and use --network auto"));
    }
    Ok(devices)
}

/// What the kernel takes (dev_valid_name), with at most one `%d`.
fn is_name(name: &str) -> bool {
    let plain = name.replacen("%d", "", 1);
    let strange = |c: char| c == '/' || c == ':' || c == '%' || c.is_ascii_whitespace() || c == '\0';
    !name.is_empty() && name.len() <= LONGEST && name != "." && name != ".." && !plain.contains(strange)
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_are_those_of_the_kernel() {
        for good in ["eth0", "wlp0s20f3", "eth%d", "a", "%d", "123456789012345"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:1", "%s", "%d%d", "1234567890123456", "a\n"] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
