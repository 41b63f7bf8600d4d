//! A rehearsal: init goes its way without a container, to see how far it would come. `doctor` asks for it.
//!
//! What is made is made in namespaces and on a file system in memory that end with us. Where init would give up at
//! the first step that fails, a rehearsal notes it and takes the next, so that everything comes to light at once.
//! That is safe for as long as mounts are our own: without a mount namespace, or with one from which mounts would
//! still reach the host, it ends.
//!
//! ```text
//!     maps, root inside -> each namespace -> the plan's steps, on a root in memory -> groups, filters, pivot_root
//! ```
//!
//! An outer policy may kill who makes a call that it forbids, and a call may hang. So each scene is announced before
//! it is played; whoever reads the notes knows at which one they end, and can have all others played once more.

use super::{Holding, Orders, perform, take};
use crate::plan::step::{Op, Step};
use crate::sync::{Channel, ToInit};
use crate::sys::clone::{setns, time_namespace, unshare};
use crate::sys::mount;
use crate::sys::{self, Errno, fds, process, seccomp, stub};
use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scene {
    /// Becoming root inside.
    Root,
    /// Making a namespace, by its `CLONE_NEW*` bit.
    Namespace(i32),
    /// Taking the step of this number.
    Step(u16),
    /// setgroups(2).
    Groups,
    /// Memory that a program can be executed from.
    Stub,
    /// Loading a seccomp filter.
    Filter,
    /// Loading one that passes calls on to an agent.
    Listener,
    /// pivot_root(2).
    Pivot,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Done,
    /// By the other means of this number.
    FellBack(u8),
    Failed {
        errno: i32,
        detail: Vec<u8>,
    },
}

impl Outcome {
    fn failed(errno: Errno) -> Outcome {
        Outcome::Failed { errno: errno as i32, detail: Vec::new() }
    }
}

/// A line of the notes: without an outcome, a scene that begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub scene: Scene,
    pub outcome: Option<Outcome>,
}

/// What is played, and where.
#[derive(Debug)]
pub struct Script<'a> {
    pub orders: Orders<'a>,
    /// The root file system in memory is mounted here; it has to be a directory.
    pub place: &'a CStr,
    /// These are left out.
    pub skipped: &'a [Scene],
}

/// The child's life: plays everything, and writes the notes.
pub fn rehearse(script: &Script<'_>, channel: &Channel, notes: &OwnedFd) -> Infallible {
    let mut stage = Stage { script, channel, notes, holding: Holding::default(), made: CloneFlags::empty() };
    if let Ok(Some(ToInit::Mapped)) = channel.told() {
        stage.play();
    }
    process::exit_now(0)
}

struct Stage<'a> {
    script: &'a Script<'a>,
    channel: &'a Channel,
    notes: &'a OwnedFd,
    holding: Holding,
    /// The namespaces that are our own.
    made: CloneFlags,
}

impl Stage<'_> {
    fn play(&mut self) {
        let orders = &self.script.orders;
        if orders.root_inside {
            self.scene(Scene::Root, |_| {
                process::set_gid(0)?;
                process::set_uid(0)?;
                Ok(Outcome::Done)
            });
        }
        // We are the first of a pid namespace: there, every parent is 0. After the change of ids, which would undo it.
        if process::die_with(nix::unistd::Pid::from_raw(0)).is_err() {
            return;
        }
        nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        if !self.namespaces() {
            return;
        }
        for (n, step) in (0u16..).zip(orders.steps) {
            if !self.may(&step.op) {
                continue;
            }
            let done = self.scene(Scene::Step(n), |stage| stage.step(n, step));
            // Nothing may be mounted that the host would see, and without a root there is no place for anything.
            if !done && matches!(step.op, Op::Propagation { .. } | Op::Root { .. }) {
                return;
            }
        }
        self.scene(Scene::Groups, |_| process::set_groups(&[]).map(|()| Outcome::Done));
        self.scene(Scene::Stub, |stage| stub::Stub::new(stage.notes.as_fd(), 3).map(|_| Outcome::Done));
        self.scene(Scene::Pivot, |stage| stage.pivot());
        self.scene(Scene::Listener, |_| seccomp::load(&ALLOW, seccomp::NEW_LISTENER).map(|_| Outcome::Done));
        self.scene(Scene::Filter, |_| seccomp::load(&ALLOW, 0).map(|_| Outcome::Done));
    }

    /// Makes each, and says whether mounts are our own.
    fn namespaces(&mut self) -> bool {
        let wanted = self.script.orders.namespaces.map_or(CloneFlags::empty(), |all| all.by_init);
        for kind in wanted.iter() {
            let made = self.scene(Scene::Namespace(kind.bits()), |_| {
                unshare(kind)?;
                if kind == time_namespace() {
                    let own = File::open("/proc/self/ns/time_for_children").map_err(fds::io_errno)?;
                    setns(own, time_namespace())?;
                }
                Ok(Outcome::Done)
            });
            if made {
                self.made |= kind;
            }
        }
        self.made.contains(CloneFlags::CLONE_NEWNS)
    }

    /// Whether a step changes nothing that is the host's.
    fn may(&self, op: &Op) -> bool {
        match op {
            Op::Loopback => self.made.contains(CloneFlags::CLONE_NEWNET),
            Op::Hostname(_) => self.made.contains(CloneFlags::CLONE_NEWUTS),
            _ => true,
        }
    }

    fn step(&mut self, n: u16, step: &Step) -> Result<Outcome, Errno> {
        let orders = &self.script.orders;
        if matches!(step.op, Op::Root { .. }) {
            return self.root();
        }
        // It would put its own root in the place of ours.
        let mut aside = Holding::default();
        let holding = if matches!(step.op, Op::Overlay(..)) { &mut aside } else { &mut self.holding };
        Ok(match take(n, step, orders, self.channel, holding) {
            Ok(None) => Outcome::Done,
            Ok(Some(nth)) => Outcome::FellBack(nth),
            Err(failed) => Outcome::Failed { errno: failed.errno as i32, detail: failed.detail },
        })
    }

    /// A root file system in memory, with a directory to lay an overlay over.
    fn root(&mut self) -> Result<Outcome, Errno> {
        use nix::fcntl::{OFlag, open};
        use nix::sys::stat::{Mode, mkdirat};
        let tree = super::layers::memory()?;
        for name in [c"lower", c"merged"] {
            mkdirat(&tree, name, Mode::from_bits_retain(0o755))?;
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let place = open(self.script.place, flags, Mode::empty())?;
        mount::attach(tree.as_fd(), place.as_fd())?;
        self.holding.root = Some(tree);
        Ok(Outcome::Done)
    }

    fn pivot(&mut self) -> Result<Outcome, Errno> {
        let (orders, channel) = (&self.script.orders, self.channel);
        match perform(0, &Op::Pivot, orders, channel, &mut self.holding) {
            Ok(()) => Ok(Outcome::Done),
            Err(trouble) => Err(trouble.errno),
        }
    }

    /// Plays one scene, unless it is left out; says whether it went well.
    fn scene(&mut self, scene: Scene, play: impl FnOnce(&mut Self) -> Result<Outcome, Errno>) -> bool {
        if self.script.skipped.contains(&scene) {
            return false;
        }
        self.note(Note { scene, outcome: None });
        let outcome = play(self).unwrap_or_else(Outcome::failed);
        let went_well = !matches!(outcome, Outcome::Failed { .. });
        self.note(Note { scene, outcome: Some(outcome) });
        went_well
    }

    fn note(&self, note: Note) {
        let text = serde_json::to_vec(&note).unwrap_or_default();
        if fds::send(self.notes.as_fd(), &text, None).is_err() {
            // Nobody reads on.
            sys::process::exit_now(1);
        }
    }
}

/// A filter of one instruction: `BPF_RET | BPF_K`, `SECCOMP_RET_ALLOW`.
const ALLOW: [u8; 8] = filter(0x06, 0x7fff_0000);

const fn filter(code: u16, k: u32) -> [u8; 8] {
    let (code, k) = (code.to_ne_bytes(), k.to_ne_bytes());
    [code[0], code[1], 0, 0, k[0], k[1], k[2], k[3]]
}
