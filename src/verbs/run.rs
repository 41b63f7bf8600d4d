//! `run`: create, start, and in the foreground stay until the end.

use super::create::{self, Made, Manner};
use super::kill::Rest;
use super::{delete, start, warn};
use crate::cli::Run;
use crate::launch::foreground;
use crate::launch::host_root::Mounted;
use crate::launch::layers::Kept;
use crate::launch::notify::Notify;
use crate::plan::cgroup::Manager;
use crate::plan::degrade::Policy;
use crate::report::{Act, Failure};
use crate::state::Record;
use crate::state::store::{Entry, Store};
use crate::sys;

/// `bryo run`.
pub fn run(store: &Store, flags: &Run, degrade: Policy, cgroups: Option<Manager>) -> Result<u8, Failure> {
    let id = flags.create.id.as_str();
    create::guard_fds(create::passed_on(flags.create.preserve_fds), id)?;
    let (signals, before) = foreground::signals(flags.detach)?;
    let reap = reaps(signals.is_some(), flags.no_subreaper, &format!("cannot run container {id}"))?;
    let manner = Manner { by_start: false, detached: flags.detach, signals: before, degrade, cgroups };
    let made = create::make(store, &flags.create, &manner)?;
    let Made { claim, home, host_root, launch, plan, record, console, pid_file, kept } = made;
    let notify = Notify::listen(claim.entry()?, id)?;
    let child = launch.start(&plan).inspect_err(|_| create::clean_up(&plan, &record))?;
    home.keep();
    host_root.into_iter().for_each(Mounted::keep);
    pid_file.keep();
    kept.into_iter().for_each(Kept::keep);
    let mut entry = claim.keep();
    // From here on others may do what they want with it: delete it, for one.
    if let Some(entry) = &mut entry {
        entry.unlock();
    }
    if let Err(failure) = start::poststart(&record) {
        let _ = sys::pidfd::signal(&child.pidfd, nix::libc::SIGKILL);
        let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid), None);
        end(entry, &record, flags.keep);
        return Err(failure);
    }
    let Some(signals) = signals else {
        if let Some(notify) = notify {
            notify.until_ready(&child.pidfd, child.pid)?;
        }
        return Ok(0);
    };
    let rest = Rest::of(&record);
    let code = foreground::attend(&child, &signals, console, notify, reap);
    if let Some(Err(errno)) = rest.map(Rest::end) {
        warn(&Failure::errno(format!("cannot end what is left of container {id}"), errno).to_string());
    }
    end(entry, &record, flags.keep);
    // 128+N stays below 256: signals end at 64.
    Ok(u8::try_from(code?).unwrap_or(1))
}

/// Has who loses its parent in the container be ours to wait for, if we stay and nobody objects; says whether.
///
/// # Errors
/// That of prctl(2).
pub fn reaps(stays: bool, no_subreaper: bool, act: &str) -> Result<bool, Failure> {
    let reap = stays && !no_subreaper;
    if reap {
        sys::process::set_subreaper().act(|| act)?;
    }
    Ok(reap)
}

/// The container has ended: its hooks run, and unless it is kept it is forgotten. Who deleted it from elsewhere
/// has seen to both.
pub fn end(entry: Option<Entry>, record: &Record, keep: bool) {
    let Some(mut entry) = entry.filter(|_| !keep) else { return };
    match entry.relock() {
        Ok(true) => {}
        Ok(false) => return,
        Err(failure) => return warn(&failure.to_string()),
    }
    if let Err(failure) = delete::finish(entry, record) {
        // What could not be removed is known still.
        let failure = if failure.way_out().is_none() {
            failure.fix(format!("bryo delete --force {}", record.id))
        } else {
            failure
        };
        warn(&failure.to_string());
    }
}
