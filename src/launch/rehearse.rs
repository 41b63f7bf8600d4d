//! Sending init on a rehearsal (see [`crate::init`]), and what its notes mean.
//!
//! The way is that of a launch, with the same clone, the same maps and the same words for what goes wrong. Nothing is
//! kept: the child is waited for, and with it ends whatever it made.

use super::{explain, host_namespaces, idmap, open_proc};
use crate::init::{self, Note, Orders, Outcome, Scene, Script, StateText};
use crate::plan::Plan;
use crate::plan::degrade::Degradation;
use crate::plan::step::Op;
use crate::report::{Act, Failure, errno_text};
use crate::sync::{self, Failed, Place, ToInit};
use crate::sys::clone::{self, Child};
use crate::sys::{self, Errno, fds, pidfd};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How far it came.
#[derive(Debug)]
pub enum Rehearsal {
    /// There is no user namespace to be had, or no pid namespace.
    NotBorn(Failure),
    /// Its ids are not to be had.
    NotMapped(Failure),
    Played {
        outcomes: Vec<(Scene, Outcome)>,
        /// The scene that ended it before its time.
        cut: Option<(Scene, Cut)>,
    },
}

/// Why a scene has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It was killed: by an outer seccomp filter, where the signal is SIGSYS.
    Killed(i32),
    /// It did not end in time.
    Late,
}

/// Has the plan played, but for some scenes.
///
/// # Errors
/// What has nothing to do with the plan: no socket, no /proc.
pub fn rehearse(
    plan: &Plan,
    place: &CStr,
    skipped: &[Scene],
    patience: Duration,
) -> Result<Rehearsal, Failure> {
    let act = || "cannot rehearse a container";
    let deadline = Instant::now() + patience;
    let (ours, theirs) = sync::pair().act(act)?;
    let (notes, pen) = notebook().act(act)?;
    let nobody = StateText::split(&serde_json::Value::Null);
    let proc = open_proc()?;
    let script = Script {
        orders: Orders {
            namespaces: Some(&plan.namespaces),
            cgroup_namespace: None,
            root_inside: plan.idmap.maps().is_some() && plan.idmap.maps_uid(0) && plan.idmap.maps_gid(0),
            steps: &plan.steps,
            process: &plan.process,
            filter: None,
            create_container: &[],
            start_container: &[],
            hook_streams: Default::default(),
            creating: &nobody,
            created: &nobody,
            start_socket: None,
            signals: SigSet::empty(),
            guard_binary: false,
            agent: None,
            launch_reaches_more: false,
            proc: &proc,
            host_root: None,
        },
        place,
        skipped,
    };
    let born = clone::spawn(&[], plan.namespaces.at_clone, None, &mut || {
        fds::abandon(ours.as_fd());
        fds::abandon(notes.as_fd());
        init::rehearse(&script, &theirs, &pen)
    });
    let child = match born {
        Ok(child) => Player(child),
        Err(error) => {
            let seen = host_namespaces::obstacles();
            return Ok(Rehearsal::NotBorn(host_namespaces::explain(act().into(), error.errno, &seen)));
        }
    };
    drop((theirs, pen));
    if let Err(failure) = idmap::write(&plan.idmap, child.0.pid, &"a rehearsal") {
        return Ok(Rehearsal::NotMapped(failure));
    }
    ours.tell(ToInit::Mapped).act(act)?;
    read(&notes, child, deadline).act(act)
}

/// The child, which ends with this.
struct Player(Child);

impl Player {
    fn end(self) -> Option<Cut> {
        let ended = sys::retry(|| waitpid(Pid::from_raw(self.0.pid), None));
        match ended {
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Cut::Killed(signal as i32)),
            _ => None,
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // Both fail where it has ended and been waited for.
        let _ = pidfd::signal(&self.0.pidfd, libc::SIGKILL);
        let _ = sys::retry(|| waitpid(Pid::from_raw(self.0.pid), None));
    }
}

fn notebook() -> sys::Result<(OwnedFd, OwnedFd)> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

fn read(notes: &OwnedFd, child: Player, deadline: Instant) -> sys::Result<Rehearsal> {
    let mut outcomes = Vec::new();
    let mut begun = None;
    let mut buffer = [0; 8192];
    let late = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(notes.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
        }
        let (len, _) = fds::receive(notes.as_fd(), &mut buffer)?;
        if len == 0 {
            break false;
        }
        match serde_json::from_slice(&buffer[..len]) {
            Ok(Note { scene, outcome: None }) => begun = Some(scene),
            Ok(Note { scene, outcome: Some(outcome) }) => {
                begun = None;
                outcomes.push((scene, outcome));
            }
            Err(_) => return Err(Errno::EBADMSG),
        }
    };
    let cut = if late { Some(Cut::Late) } else { child.end() };
    Ok(Rehearsal::Played { outcomes, cut: begun.zip(cut) })
}

/// What an outcome means: nothing, another means, or a refusal in the words of a launch.
#[derive(Debug)]
pub enum Meaning<'a> {
    Well,
    Instead(&'a Degradation),
    Refused(Failure),
}

/// Says it.
pub fn meaning<'a>(plan: &'a Plan, scene: Scene, outcome: &Outcome) -> Meaning<'a> {
    let (errno, detail) = match outcome {
        Outcome::Done => return Meaning::Well,
        Outcome::FellBack(nth) => {
            let Scene::Step(n) = scene else { return Meaning::Well };
            let step = plan.steps.get(usize::from(n));
            let other = step.and_then(|step| step.or.get(usize::from(*nth)));
            return other.map_or(Meaning::Well, |other| Meaning::Instead(&other.cost));
        }
        Outcome::Failed { errno, detail } => (Errno::from_raw(*errno), detail.clone()),
    };
    let act = |what: &str| format!("cannot {what}");
    Meaning::Refused(match scene {
        Scene::Step(n) => {
            let idmapped = plan
                .steps
                .get(usize::from(n))
                .is_some_and(|step| matches!(&step.op, Op::Bind(bind) if bind.ids.is_some()));
            let place = if idmapped { Place::Ids(n) } else { Place::Step(n) };
            explain::failure(&Failed { place, errno, detail }, plan)
        }
        Scene::Pivot => {
            explain::step(&Failed { place: Place::Sync, errno, detail }, &Op::Pivot, &plan.id, &plan.rootfs)
        }
        Scene::Namespace(kind) => {
            let kind = CloneFlags::from_bits_retain(kind);
            let seen = host_namespaces::obstacles_to(kind);
            host_namespaces::explain(format!("cannot make namespace {kind:?}"), errno, &seen)
        }
        Scene::Root => Failure::new(act("become root"), errno_text(errno)),
        Scene::Groups => Failure::new(act("set groups"), errno_text(errno)).code("GRP-DENY"),
        Scene::Stub => explain::late_failure(
            &Failed { place: Place::Process(sync::Act::Stub), errno, detail },
            &plan.id,
            "",
            "",
        ),
        Scene::Filter | Scene::Listener => Failure::new(act("load a seccomp filter"), errno_text(errno)),
    })
}
