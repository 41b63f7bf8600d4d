//! `start`: has a created container run its program, and comes back once it does.

use nix::errno::Errno;

use super::create::Template;
use crate::launch::notify::Notify;
use crate::launch::{execute, hooks, late_failure};
use crate::report::{Act, Failure};
use crate::state::store::{EXEC, Entry, START_SOCKET, Store};
use crate::state::{Record, Status};
use crate::sync::Channel;
use crate::sys::fds;

/// `bryo start`.
pub fn start(store: &Store, id: &str) -> Result<u8, Failure> {
    let (mut entry, record) = store.open_locked("start", id)?;
    let act = || format!("cannot start container {id}");
    match entry.status(&record)? {
        Status::Created => {}
        Status::Stopped => return Err(Failure::new(act(), "cannot start a container that has stopped")),
        _ => return Err(Failure::new(act(), "cannot start an already running container")),
    }
    let notify = Notify::listen(&entry, id)?;
    // Before its program runs, since after that nothing is refused any more.
    let init = notify.is_some().then(|| record.pidfd()).transpose().act(act)?.flatten();
    let channel = reach_init(&entry, id)?;
    execute(&channel, &format!("init of container {id}"), |failed| {
        let template = template(&entry);
        let args = template.as_ref().and_then(|t| t.process.args().clone()).unwrap_or_default();
        let cwd = template.map(|t| t.process.cwd().display().to_string()).unwrap_or_default();
        late_failure(failed, id, args.first().map_or("", String::as_str), &cwd)
    })?;
    entry.forget_start();
    // A hook may take its time, and a delete should not have to wait for it.
    entry.unlock();
    if let Err(failure) = poststart(&record) {
        // Since 1.3 a container whose poststart hooks fail is stopped (runtime.md, "Lifecycle").
        // It may have ended by itself, and the hook's failure is the one to tell.
        let _ = super::kill::all(&record, nix::libc::SIGKILL);
        return Err(failure);
    }
    // Without a process it has ended already.
    if let (Some(notify), Some(init)) = (notify, init) {
        notify.until_ready(&init, record.pid)?;
    }
    Ok(0)
}

fn template(entry: &Entry) -> Option<Template> {
    serde_json::from_slice(&entry.read(EXEC).ok()??).ok()
}

/// Connects to an init that waits.
///
/// # Errors
/// That of connect(2), with words for an init that waits no more.
pub fn reach_init(entry: &Entry, id: &str) -> Result<Channel, Failure> {
    let act = || format!("cannot reach init of container {id}");
    match fds::connect(&entry.short_path(START_SOCKET)) {
        Err(Errno::ECONNREFUSED) => Err(Failure::new(act(), "it has stopped")),
        other => other.map(Channel::from).act(act),
    }
}

/// Runs the poststart hooks: the container is running by then.
///
/// # Errors
/// The hook that failed.
pub fn poststart(record: &Record) -> Result<(), Failure> {
    if record.hooks.poststart.is_empty() {
        return Ok(());
    }
    let state = record.oci(Status::Running, record.pid).to_string();
    hooks::run_all("poststart", &record.hooks.poststart, &state, &record.id)
}
