//! `pause` and `resume`: a container stops in its tracks, and goes on.

use crate::cgroup::Cgroup;
use crate::report::{Act, Failure};
use crate::state::Status;
use crate::state::store::Store;

/// `bryo pause`.
pub fn pause(store: &Store, id: &str) -> Result<u8, Failure> {
    let (_entry, cgroup) = freezable(store, "pause", id, &[Status::Created, Status::Running])?;
    cgroup.freeze(true).act(|| format!("cannot pause container {id}"))?;
    Ok(0)
}

/// `bryo resume`.
pub fn resume(store: &Store, id: &str) -> Result<u8, Failure> {
    let (_entry, cgroup) = freezable(store, "resume", id, &[Status::Paused])?;
    cgroup.freeze(false).act(|| format!("cannot resume container {id}"))?;
    Ok(0)
}

/// The cgroup of a container in one of these states; the entry holds the lock on it.
fn freezable(
    store: &Store,
    act: &str,
    id: &str,
    from: &[Status],
) -> Result<(crate::state::store::Entry, Cgroup), Failure> {
    let (entry, record) = store.open_locked(act, id)?;
    let act = || format!("cannot {act} container {id}");
    let status = entry.status(&record)?;
    if !from.contains(&status) {
        let cause = match status {
            Status::Paused => "container not running, but paused already",
            Status::Stopped => "container not running",
            _ => "container not paused",
        };
        return Err(Failure::new(act(), cause));
    }
    let Some(cgroup) = &record.cgroup else {
        return Err(Failure::new(act(), "it has no cgroup that could be frozen: operation not supported")
            .code("CG-FREEZE")
            .fix("create it where a cgroup is to be had (see degraded in bryo state)"));
    };
    let cgroup = cgroup.open().act(act)?;
    Ok((entry, cgroup))
}
