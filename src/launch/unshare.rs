//! Being root over all ids of the caller without a container: what unpacks images, removes trees, and is
//! `bryo unshare`.
//!
//! A process that makes a user namespace for itself cannot have newuidmap write the map, since it is inside by
//! then, where the helper has no power. So it first forks a clerk that stays outside:
//!
//! ```text
//!      we                                     clerk (outside)
//!        fork  ------------------------------>  waits
//!        unshare(NEWUSER | NEWNS)
//!        one byte  -------------------------->  writes our maps, or has newuidmap and newgidmap do it
//!          <---------------------------------  nothing, or why not; exits
//!        set[ug]id(0)
//! ```
//!
//! We keep our pid, our parent, our session and our terminal: whoever waits for us, sends us signals or stops us
//! needs no go-between.

use crate::host::{self, Needs, namespaces};
use crate::plan::degrade::{Degradation, Policy};
use crate::plan::idmap::{Idmap, all_own};
use crate::report::{Act, Failure, io_text, warn};
use crate::sys::{self, Errno, clone, mount, process};
use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// Runs `body` as root over all ids that are ours: 0 is the caller, and 1 and up are the subordinate ids. It runs
/// in a child of ours with a mount namespace of its own, or here and now, where we are such a root already.
///
/// `whom` is whom the ids are for, as in `cannot map uids for WHOM`. The caller is single-threaded.
///
/// # Errors
/// What `body` returns; `NS-*` where there are no user namespaces, `ID-*` where a helper refuses the map.
pub fn in_own_maps(
    whom: &str,
    policy: &Policy,
    body: impl FnOnce() -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let Some(idmap) = way_in(whom, policy)? else { return body() };
    let parent = getpid();
    let worker = Aside::fork(whom, |_| {
        enter_by(&idmap, whom)?;
        // After the change of ids, which would undo it.
        process::die_with(parent).act(|| format!("cannot start what works for {whom}"))?;
        body()
    });
    worker?.wait()
}

/// Makes this process root over all ids that are ours, if it is not yet, in a mount namespace of its own.
///
/// # Errors
/// As [`in_own_maps`].
pub fn enter(whom: &str, policy: &Policy) -> Result<(), Failure> {
    match way_in(whom, policy)? {
        Some(idmap) => enter_by(&idmap, whom),
        None => own_mounts(whom, policy),
    }
}

/// The maps to enter by; none where we are inside already.
fn way_in(whom: &str, policy: &Policy) -> Result<Option<Idmap>, Failure> {
    let mut facts = host::read(Needs::default()).act(|| format!("cannot look at what {whom} may have"))?;
    if facts.is_root_over_ids() {
        return Ok(None);
    }
    facts.subids = Some(host::idmap::subids(facts.euid));
    let mut degradations = Vec::new();
    let idmap = all_own(&facts, &mut degradations);
    accept(whom, policy, &degradations)?;
    Ok(Some(idmap))
}

fn enter_by(idmap: &Idmap, whom: &str) -> Result<(), Failure> {
    let act = || format!("cannot make a user namespace for {whom}");
    let us = getpid().as_raw();
    let mut clerk = Aside::fork(whom, |line| match line.read_exact(&mut [0]) {
        Ok(()) => super::idmap::write(idmap, us, &whom).map(|()| 0),
        // There is no namespace: we are not needed.
        Err(_) => Ok(0),
    })?;
    let fresh = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    clone::unshare(fresh).map_err(|errno| namespaces::explain(act(), errno, &namespaces::obstacles()))?;
    clerk.line.write_all(&[0]).act(act)?;
    clerk.wait()?;
    // The map alone gives us the numbers, except to a set-group-ID caller's saved ones.
    process::set_gid(0).and_then(|()| process::set_uid(0)).act(act)
}

/// For a root who has kept its user namespace: mounts that the host does not see. Those of the host stay seen, and
/// can be unmounted there. (With a new user namespace the kernel makes them so itself.)
fn own_mounts(whom: &str, policy: &Policy) -> Result<(), Failure> {
    match clone::unshare(CloneFlags::CLONE_NEWNS) {
        Ok(()) => mount::mount(None, c"/", None, libc::MS_REC | libc::MS_SLAVE, None)
            .act(|| format!("cannot keep the mounts of {whom} from the host")),
        Err(Errno::EPERM) => {
            let because = "CAP_SYS_ADMIN is missing: operation not permitted";
            let wanted = "a mount namespace of its own";
            let shared = Degradation::weaker("MNT-DENIED", wanted, "the caller's mounts", because)
                .fix("keep CAP_SYS_ADMIN (docker, podman: --cap-add SYS_ADMIN)");
            accept(whom, policy, &[shared])
        }
        Err(errno) => Err(Failure::errno(format!("cannot make a mount namespace for {whom}"), errno)),
    }
}

/// Warns of what is only to be had by weaker means, if those are allowed.
fn accept(whom: &str, policy: &Policy, found: &[Degradation]) -> Result<(), Failure> {
    policy.check(&whom, found)?;
    found.iter().filter_map(Degradation::warning).for_each(|line| warn(&line));
    Ok(())
}

/// A copy of this process that does something and says how it went.
struct Aside {
    pid: Pid,
    line: UnixStream,
    whom: String,
    reaped: bool,
}

impl Aside {
    /// `work` gets the copy's end of the line to us.
    fn fork(whom: &str, work: impl FnOnce(&mut UnixStream) -> Result<u8, Failure>) -> Result<Aside, Failure> {
        let act = || format!("cannot start what works for {whom}");
        let (ours, mut theirs) = UnixStream::pair().act(act)?;
        // Or the copy would print what we have not yet.
        std::io::stdout().flush().act(act)?;
        let mut work = Some(work);
        let child = clone::spawn(&[], CloneFlags::empty(), None, &mut || {
            sys::fds::abandon(ours.as_fd());
            let done = work.take().map_or(Ok(0), |work| work(&mut theirs));
            // Nobody is left to hear what cannot be said.
            let _ = std::io::stdout().flush();
            let code = done.unwrap_or_else(|failure| {
                let _ = theirs.write_all(failure.to_string().as_bytes());
                1
            });
            process::exit_now(code.into())
        });
        let child = child.map_err(|error| Failure::errno(act(), error.errno))?;
        Ok(Aside { pid: Pid::from_raw(child.pid), line: ours, whom: whom.to_string(), reaped: false })
    }

    /// Waits for its end: its exit code.
    fn wait(mut self) -> Result<u8, Failure> {
        let act = || format!("cannot wait for what works for {}", self.whom);
        let ended = sys::retry(|| waitpid(self.pid, None)).act(act)?;
        self.reaped = true;
        let mut said = Vec::new();
        // What it has left running may hold the line open; what it said itself is there.
        self.line.set_nonblocking(true).act(act)?;
        match self.line.read_to_end(&mut said) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                return Err(Failure::new(act(), io_text(&error)));
            }
            _ if !said.is_empty() => return Err(Failure::told(&String::from_utf8_lossy(&said))),
            _ => {}
        }
        match ended {
            WaitStatus::Exited(_, code) => Ok(u8::try_from(code).unwrap_or(1)),
            WaitStatus::Signaled(_, signal, _) => {
                Err(Failure::new(act(), format!("it was killed by {signal}")))
            }
            _ => Err(Failure::new(act(), "it is gone")),
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.reaped {
            // The end of the line ends a clerk.
            let _ = self.line.shutdown(std::net::Shutdown::Both);
            let _ = sys::retry(|| waitpid(self.pid, None));
        }
    }
}
