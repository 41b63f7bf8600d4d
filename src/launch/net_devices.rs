//! Moves network devices of the host into the container, and back again should the container not come up.
//!
//! The kernel takes a device's addresses away as it changes its namespace, and sets it down; so the ones that are
//! to stay are read before, and given again after. Everything else of it stays: its hardware address, its MTU.
//! Once the container is there, its devices are no longer ours: the kernel gives physical ones back as the
//! namespace ends (network_namespaces(7)).

use crate::plan::network::Device;
use crate::report::{Act, Failure, errno_text};
use crate::sys::netlink::{self, Devices};
use crate::sys::{self, Errno};
use std::os::fd::{AsFd, OwnedFd};

/// Devices that have moved. Dropping it takes them back, unless they are to stay.
#[derive(Debug)]
pub struct Moved {
    theirs: Devices,
    /// Where they came from.
    home: OwnedFd,
    /// Their indices where they are, and the names that they had.
    devices: Vec<(i32, String)>,
}

impl Moved {
    /// Moves these devices into a namespace.
    ///
    /// # Errors
    /// `NET-DEVICE`: a device that is not there or cannot leave, a name that is taken there.
    pub fn give(devices: &[Device], namespace: &OwnedFd, container: &str) -> Result<Moved, Failure> {
        let act = || format!("cannot move network devices into container {container}");
        let ours = Devices::ours().act(act)?;
        let theirs = Devices::of(namespace.as_fd()).act(act)?;
        let home = netlink::own_namespace().act(act)?;
        let mut moved = Moved { theirs, home, devices: Vec::new() };
        for device in devices {
            moved.take(&ours, device, namespace).map_err(|errno| failed(device, errno, container))?;
        }
        Ok(moved)
    }

    fn take(&mut self, ours: &Devices, device: &Device, namespace: &OwnedFd) -> sys::Result<()> {
        let found = ours.list()?.into_iter().find(|found| found.name == device.name).ok_or(Errno::ENODEV)?;
        let addresses = ours.addresses(found.index)?;
        let before = self.theirs.list()?;
        if before.iter().any(|there| there.name == device.inside) {
            return Err(Errno::EEXIST);
        }
        ours.give(found.index, namespace.as_fd(), &device.inside)?;
        // The kernel may have given it another index, and another name where that was a pattern.
        let there =
            self.theirs.list()?.into_iter().find(|there| !before.contains(there)).ok_or(Errno::ENODEV)?;
        self.devices.push((there.index, device.name.clone()));
        for address in &addresses {
            self.theirs.add(there.index, address)?;
        }
        self.theirs.set_up(there.index)
    }

    /// They are the container's.
    pub fn keep(mut self) {
        self.devices.clear();
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        for (index, name) in &self.devices {
            // Undo. Where it fails the namespace ends with init, and the kernel does what it does with its devices.
            let _ = self.theirs.give(*index, self.home.as_fd(), name);
        }
    }
}

fn failed(device: &Device, errno: Errno, container: &str) -> Failure {
    let Device { name, inside } = device;
    let text = errno_text(errno);
    let act = format!("cannot move network device {name} into container {container}");
    let (cause, fix) = match errno {
        Errno::ENODEV => (format!("the host has none of this name: {text}"), "see ip link"),
        Errno::EEXIST => (
            format!("there is one called {inside}: {text}"),
            "give it another name in linux.netDevices; with %d in it the kernel chooses a number",
        ),
        Errno::EINVAL | Errno::EOPNOTSUPP => (
            format!("it cannot leave its namespace: {text}"),
            "take another one: loopback and some tunnels stay where they are",
        ),
        _ => (text, "run bryo as root over the host's network"),
    };
    Failure::new(act, cause).code("NET-DEVICE").fix(fix)
}
