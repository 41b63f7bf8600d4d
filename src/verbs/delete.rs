//! `delete`: the end of a container, and of what it may have left.

use super::{kill, warn};
use crate::launch::cgroup::dissolve;
use crate::launch::layers::dismiss;
use crate::launch::{hooks, host_root, network, rdt};
use crate::report::{Act, Failure};
use crate::state::store::{Entry, Left, Store};
use crate::state::{HostRoot, Record, Status};
use crate::sys::{Errno, pidfd, retry};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::path::Path;

/// How long a killed process may take to go: uninterruptible sleep ends with its I/O.
const PATIENCE_MS: u16 = 10_000;

/// `bryo delete`.
pub fn delete(store: &Store, id: &str, force: bool) -> Result<u8, Failure> {
    let (entry, record) = match store.open_locked("delete", id) {
        Ok(found) => found,
        Err(failure) if force => return forget(store, id, failure),
        Err(failure) => return Err(failure),
    };
    match entry.status(&record)? {
        Status::Stopped => {}
        Status::Created => end(&record)?,
        _ if force => end(&record)?,
        status => {
            return Err(Failure::new(
                format!("cannot delete container {id} that is not stopped"),
                status.word(),
            )
            .fix(format!("bryo kill {id} KILL first, or bryo delete --force {id}")));
        }
    }
    finish(entry, &record)?;
    Ok(0)
}

/// With --force, a container that does not exist is as good as deleted, and one whose record is damaged or
/// was never written is removed. One whose record only could not be read this time may run: `failure` said why.
fn forget(store: &Store, id: &str, failure: Failure) -> Result<u8, Failure> {
    if let Some(mut entry) = store.entry(id)? {
        if entry.has_whole_record()? {
            return Err(failure);
        }
        if !entry.lock_abandoned()? {
            return Err(Failure::new(
                format!("cannot delete container {id}"),
                "another command is at work on it: resource temporarily unavailable",
            ));
        }
        remove_left(&entry, &entry.planned(), id)?;
        entry.remove()?;
    }
    Ok(0)
}

/// Removes what a create that was killed has left outside of its entry.
///
/// # Errors
/// What cannot be removed.
pub fn remove_left(entry: &Entry, left: &Left, id: &str) -> Result<(), Failure> {
    if let Some(cgroup) = &left.cgroup {
        dissolve(cgroup, id)?;
    }
    left.host_root.as_ref().map_or(Ok(()), |root| unmount(root, entry, id))
}

/// Kills what lives and waits until init is gone.
///
/// # Errors
/// One that does not die.
pub fn end(record: &Record) -> Result<(), Failure> {
    let act = || format!("cannot delete container {}", record.id);
    let Some(pidfd) = record.pidfd().act(act)? else { return Ok(()) };
    kill::sweep(record).act(act)?;
    match pidfd::signal(&pidfd, libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(Failure::errno(act(), errno)),
    }
    let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    match retry(|| poll(&mut ended, PollTimeout::from(PATIENCE_MS))) {
        Ok(0) => Err(Failure::new(act(), "its init does not die: connection timed out")),
        Ok(_) => Ok(()),
        Err(errno) => Err(Failure::errno(act(), errno)),
    }
}

/// Removes what a container that has ended has left.
///
/// # Errors
/// What cannot be removed.
pub fn finish(entry: Entry, record: &Record) -> Result<(), Failure> {
    if let Some(network) = record.present_network() {
        network::stop(network, &record.id)?;
    }
    if let Some(cgroup) = record.present_cgroup() {
        dissolve(cgroup, &record.id)?;
    }
    if record.of_this_boot() {
        dismiss(record);
        if let Some(root) = &record.host_root {
            unmount(root, &entry, &record.id)?;
        }
        if let Some(rdt) = &record.rdt {
            rdt::remove(rdt).act(|| format!("cannot delete container {}", record.id))?;
        }
    }
    // The hooks come after the deletion (config.md, "Poststop"): who asks in one finds nothing, and the id free.
    entry.remove()?;
    let state = record.oci(Status::Stopped, 0).to_string();
    hooks::run_poststop(&record.hooks.poststop, &state, &record.id, warn);
    Ok(())
}

/// Unmounts a root on the host, unless it is another container's by now.
fn unmount(root: &HostRoot, entry: &Entry, id: &str) -> Result<(), Failure> {
    if is_anothers(root, entry, id) { Ok(()) } else { host_root::remove(root, id) }
}

/// Whether the mounts of a container are another one's by now: who has unmounted them by hand has set their numbers
/// free. Where each has a number that is unique (Linux 6.8), that need not be asked.
fn is_anothers(root: &HostRoot, entry: &Entry, id: &str) -> bool {
    if root.mounts.iter().all(|mount| mount.unique != 0) {
        return false;
    }
    let store = Store::at(entry.path().parent().unwrap_or(Path::new("/")).to_owned());
    let others = store.ids().unwrap_or_default().into_iter().filter(|other| other != id);
    let mut roots = others.filter_map(|id| store.open("look at", &id).ok()?.1.host_root);
    roots.any(|other| other.mounts.iter().any(|mount| root.mounts.iter().any(|ours| ours.matches(mount))))
}
