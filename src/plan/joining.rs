//! What a process that joins a container will be: the smaller plan, of `exec`.

use super::affinity;
use super::degrade::Degradation;
use super::idmap::Idmap;
use super::inherited::Inherited;
use super::process::{self, Guard, Process};
use super::step::Step;
use crate::host::{Facts, Needs};
use crate::report::Failure;
use oci_spec::runtime as oci;

/// Everything that launch and the process will do, decided.
#[derive(Debug)]
pub struct Joining {
    pub process: Process,
    pub steps: Vec<Step>,
    /// The processors to start it on.
    pub processors: Option<Vec<u16>>,
    /// Value for oom_score_adj (proc_pid_oom_score_adj(5)).
    pub oom_score_adj: Option<i32>,
    pub guard: Guard,
    pub degradations: Vec<Degradation>,
}

/// What the container was made with that holds for every process of it.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// It has a session keyring of its own.
    pub new_keyring: bool,
    /// It is kept to these processors by its affinity, since it has no cgroup that would.
    pub affinity: Option<&'a [u16]>,
    pub inherited: &'a Inherited,
    /// Its filter lets the stub through.
    pub stub_passes: bool,
    /// Somebody inside may look into whoever comes.
    pub watched: bool,
}

/// Which facts this process makes worth reading.
pub fn needs(wanted: &oci::Process) -> Needs {
    Needs {
        lsm: super::needs_lsm(wanted),
        oom_score_adj: wanted.oom_score_adj().is_some(),
        hard_limits: super::needs_hard_limits(wanted),
        ..Needs::default()
    }
}

/// Whether who has these capabilities may look into any process that he sees, in his user namespace (capabilities(7)).
pub fn may_trace(capabilities: Option<&oci::LinuxCapabilities>) -> bool {
    let sets = capabilities.into_iter().flat_map(|sets| [sets.bounding(), sets.permitted()]);
    sets.flatten().any(|set| set.contains(&oci::Capability::SysPtrace))
}

/// Decides.
///
/// # Errors
/// The first thing that is asked for and cannot be granted in this container on this host.
pub fn decide(
    wanted: &oci::Process,
    idmap: &Idmap,
    facts: &Facts,
    request: process::Request<'_>,
    before: Before<'_>,
) -> Result<Joining, Failure> {
    let container = request.container;
    idmap.check_user(wanted.user(), container)?;
    let mut degradations = Vec::new();
    let process = process::decide(wanted, idmap, facts, request, &mut degradations)?;
    let affinity = affinity::decide(wanted, before.affinity, container)?;
    let mut steps: Vec<Step> = affinity.last.into_iter().map(Step::from).collect();
    if before.new_keyring {
        steps.push(process::keyring(container)?);
    }
    steps.extend(before.inherited.steps());
    Ok(Joining {
        guard: process.guard(idmap, facts, before.watched, || before.stub_passes),
        process,
        steps,
        processors: affinity.initial,
        oom_score_adj: wanted.oom_score_adj().map(|score| super::oom(score, facts, &mut degradations)),
        degradations,
    })
}
