//! What will be done. Pure: from the bundle, the facts and the flags to a plan, without I/O, clock or
//! environment, so that the same three always give the same plan.

pub mod affinity;
pub mod cgroup;
pub mod checkpoint;
pub mod degrade;
pub mod describe;
mod filter;
#[cfg(test)]
mod golden;
pub mod hooks;
pub mod idmap;
mod idmapped;
pub mod inherited;
pub mod joining;
pub mod layers;
pub mod limits;
mod mount_label;
mod mounts;
pub mod namespaces;
pub mod network;
pub mod options;
pub mod proc;
pub mod process;
pub mod rdt;
mod resources;
mod rootfs;
pub mod scheduling;
pub mod step;
pub mod survey;

pub use rootfs::{DEVICE_FIX, wanted_devices};

use crate::bundle::Bundle;
use crate::host::{Facts, Needs};
use crate::report::Failure;
use crate::seccomp;
use crate::sys::stub;
use degrade::Degradation;
use idmap::Idmap;
use namespaces::Namespaces;
use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use step::{Op, Step};
use survey::{Refused, Survey, Topic};

/// What the caller's flags add to the bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub id: String,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub preserve_fds: u32,
    pub listen_fds: u32,
    pub listen_names: Option<String>,
    pub degrade: degrade::Policy,
    /// Who is to make the cgroup.
    pub manager: Option<cgroup::Manager>,
    /// Which network the container is to have, and what of it is to be reached from outside.
    pub network: Option<network::Mode>,
    pub publish: Vec<network::Publish>,
    /// Where the state of the container is, with the files that it is shown.
    pub state: PathBuf,
    /// Where changes to the root file system go; an annotation may say so, too.
    pub changes: Option<layers::Changes>,
}

/// Everything that launch and init will do, decided.
#[derive(Debug)]
pub struct Plan {
    pub id: String,
    /// The absolute path of the root file system.
    pub rootfs: PathBuf,
    /// The layers that it is made of, unless it is a plain directory.
    pub layers: Option<layers::Asked>,
    pub namespaces: Namespaces,
    pub idmap: Idmap,
    pub cgroup: Option<cgroup::Cgroup>,
    pub network: network::Network,
    /// Its share of caches and memory bandwidth.
    pub rdt: Option<rdt::Rdt>,
    /// What init does, in order, up to being in its root.
    pub steps: Vec<Step>,
    pub process: process::Process,
    /// As the configuration has it, for later execs.
    pub spec_process: oci_spec::runtime::Process,
    /// Likewise; what init is given of it is among the steps.
    pub inherited: inherited::Inherited,
    pub seccomp: Option<seccomp::Profile>,
    pub hooks: hooks::Hooks,
    pub guard: process::Guard,
    /// We may mount, and are another user than the container's root: sources that it cannot reach are for us.
    pub launch_reaches_more: bool,
    /// Value for oom_score_adj (proc_pid_oom_score_adj(5)).
    pub oom_score_adj: Option<i32>,
    /// What is known now to become of another means.
    pub degradations: Vec<Degradation>,
    /// What of the configuration makes no sense together, one line each.
    pub remarks: Vec<String>,
}

/// What the planners of single topics look at.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub container: &'a str,
    pub bundle_dir: &'a Path,
    pub rootfs: &'a Path,
    pub layers: Option<&'a layers::Asked>,
    pub namespaces: &'a Namespaces,
    pub idmap: &'a Idmap,
    pub facts: &'a Facts,
    /// No device node of a mounted tree may be opened, since no device cgroup says which may.
    pub nodev: bool,
    /// The container has a cgroup of its own.
    pub own_cgroup: bool,
    /// Init gives the files of its cgroup to this uid inside.
    pub cgroup_owner: Option<u32>,
    pub degrade: &'a degrade::Policy,
    /// The SELinux label of what is mounted.
    pub mount_label: Option<&'a mount_label::MountLabel>,
    pub network: &'a network::Network,
    /// Where the state of the container is.
    pub state: &'a Path,
}

impl Context<'_> {
    /// Whether the container's mounts are those of a user namespace: its own, or ours.
    fn in_user_namespace(&self) -> bool {
        self.namespaces.has(CloneFlags::CLONE_NEWUSER) || self.facts.in_child_userns
    }
}

/// Which facts this bundle makes worth reading, for a caller of these ids who allows this.
pub fn needs(spec: &Spec, euid: u32, egid: u32, degrade: &degrade::Policy) -> Needs {
    let linux = spec.linux().as_ref();
    let listed = linux.and_then(|l| l.namespaces().as_ref()).into_iter().flatten();
    let mut user = listed.filter(|n| n.typ() == LinuxNamespaceType::User);
    let joins_user = user.next().is_some_and(|n| n.path().is_some());
    let single = linux.is_some_and(|l| {
        let one = |map: &Option<Vec<_>>| {
            map.as_ref()
                .is_some_and(|m: &Vec<oci_spec::runtime::LinuxIdMapping>| m.len() == 1 && m[0].size() == 1)
        };
        one(l.uid_mappings()) && one(l.gid_mappings())
    });
    let process = spec.process().as_ref();
    Needs {
        // A map of one id is nearly always the caller's own; that it is not shows in the refusal.
        subids: !(joins_user || single && owns_single(spec, euid, egid)),
        lsm: process.is_some_and(needs_lsm) || linux.is_some_and(|l| l.mount_label().is_some()),
        oom_score_adj: process.is_some_and(|p| p.oom_score_adj().is_some()),
        hard_limits: process.is_some_and(needs_hard_limits),
        cgroups: true,
        network: network::is_annotated(spec),
        resctrl: linux.is_some_and(|l| l.intel_rdt().is_some()),
        proc: proc::wanted(spec, degrade),
    }
}

/// Whether a process asks for resource limits of its own.
pub fn needs_hard_limits(process: &oci_spec::runtime::Process) -> bool {
    process.rlimits().as_ref().is_some_and(|limits| !limits.is_empty())
}

/// Whether a process asks for something of a security module.
pub fn needs_lsm(process: &oci_spec::runtime::Process) -> bool {
    process.apparmor_profile().is_some() || process.selinux_label().is_some()
}

fn owns_single(spec: &Spec, euid: u32, egid: u32) -> bool {
    let linux = spec.linux().as_ref();
    let first = |map: Option<&Vec<oci_spec::runtime::LinuxIdMapping>>| {
        map.and_then(|m| m.first()).map(|m| m.host_id())
    };
    first(linux.and_then(|l| l.uid_mappings().as_ref())) == Some(euid)
        && first(linux.and_then(|l| l.gid_mappings().as_ref())) == Some(egid)
}

/// Decides everything, and goes on where something is refused, for the rest to be known as well.
///
/// # Errors
/// What is no configuration at all.
pub fn survey(bundle: &Bundle, facts: &Facts, request: &Request) -> Result<Survey, Failure> {
    let id = request.id.as_str();
    let act = || format!("cannot plan container {id}");
    let mut refused = Refused::default();
    let spec = &bundle.spec;
    let mut linux = match spec.linux() {
        Some(linux) => linux.clone(),
        None => crate::bundle::no_linux().map_err(|cause| Failure::new(act(), cause))?,
    };
    let spec_process =
        spec.process().as_ref().ok_or_else(|| Failure::new(act(), "config.json: process is missing"))?;
    let root = spec.root().as_ref().ok_or_else(|| Failure::new(act(), "config.json: root is missing"))?;
    let rootfs = crate::bundle::clean(&bundle.dir.join(root.path()));
    refused.unless(Topic::Configuration, refuse_nobody(facts, &act), || ());
    let layers = refused.unless(Topic::Steps, layers::asked(spec, &bundle.dir, request), || None);
    let mut degradations = Vec::new();
    let no_annotations = HashMap::new();
    let annotations = spec.annotations().as_ref().unwrap_or(&no_annotations);
    let asked = network::asked(id, annotations, request.network.as_ref(), &request.publish);
    let asked = refused.unless(Topic::Network, asked, || None);
    if let Some(asked) = &asked {
        network::list(&mut linux, asked, id)?;
    }
    let namespaces = namespaces::decide(id, &linux, facts);
    let mut namespaces = refused.unless(Topic::Namespaces, namespaces, Namespaces::every);
    proc::decide(&mut namespaces, facts.proc, &mut degradations);
    let network = match &asked {
        Some(asked) => {
            network::decide(asked, id, spec, &namespaces, (facts, &request.degrade), &mut degradations)
        }
        None => Ok(network::Network::default()),
    };
    let mut network = refused.unless(Topic::Network, network, network::Network::default);
    let of_host = network::decide_devices(&linux, id, &namespaces, facts);
    network.devices = refused.unless(Topic::Network, of_host, Vec::new);
    let idmap = if namespaces.is_new(CloneFlags::CLONE_NEWUSER) {
        let wanted = idmap::Wanted {
            container: id,
            uids: linux.uid_mappings().as_deref().unwrap_or_default(),
            gids: linux.gid_mappings().as_deref().unwrap_or_default(),
            user: spec_process.user(),
        };
        idmap::decide(wanted, facts, &mut degradations)
    } else {
        let joined = namespaces.has(CloneFlags::CLONE_NEWUSER);
        let idmap = if joined { Idmap::unknown() } else { Idmap::ours(facts) };
        idmap.check_user(spec_process.user(), id).map(|()| idmap)
    };
    let idmap = refused.unless(Topic::Ids, idmap, Idmap::unknown);
    let annotation = |name: &str| annotations.get(name).cloned();
    let mount_label = linux.mount_label().as_deref();
    let mount_label = mount_label::decide(mount_label, annotation, facts, id, &mut degradations);
    let mount_label = refused.unless(Topic::Steps, mount_label, || None);
    let mut context = Context {
        container: id,
        bundle_dir: &bundle.dir,
        rootfs: &rootfs,
        layers: layers.as_ref(),
        namespaces: &namespaces,
        idmap: &idmap,
        facts,
        nodev: false,
        own_cgroup: false,
        cgroup_owner: None,
        degrade: &request.degrade,
        mount_label: mount_label.as_ref(),
        network: &network,
        state: &request.state,
    };
    let bounding = mask_of(spec_process);
    let cgroups = cgroup::decide(&linux, annotations, &context, request.manager, bounding, &mut degradations);
    let cgroups = refused.unless(Topic::Cgroup, cgroups, cgroup::Decided::default);
    let mut own_cgroup = cgroups.cgroup;
    if let Some(cgroup) = &mut own_cgroup {
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        cgroup.owner = cgroup::owner(&namespaces, &idmap, mounts, spec_process.user().uid(), facts);
        if let Some(cgroup::Owner::Inside(uid)) = &cgroup.owner {
            context.cgroup_owner = Some(*uid);
        }
    }
    context.own_cgroup = own_cgroup.is_some();
    context.nodev = cgroups.nodev;
    let console = (spec_process.terminal() == Some(true)).then(|| {
        let size = spec_process.console_size();
        let cells = |n: Option<u64>| n.and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
        Op::Console { rows: cells(size.map(|s| s.height())), columns: cells(size.map(|s| s.width())) }
    });
    let mut steps = cgroups.steps;
    if !request.no_new_keyring {
        steps.push(process::keyring(id)?);
    }
    let inherited = refused.unless(Topic::Steps, inherited::decide(&linux, id), Default::default);
    steps.extend(inherited.steps());
    let of_root = rootfs::steps(spec, &linux, &context, console, request.no_pivot, &mut degradations);
    steps.extend(refused.unless(Topic::Steps, of_root, Vec::new));
    let process_request = process::Request {
        container: id,
        preserve_fds: request.preserve_fds,
        listen_fds: request.listen_fds,
        degrade: &request.degrade,
        listen_names: request.listen_names.as_deref(),
        keep_groups: process::keeps_groups(annotation),
        init: namespaces.is_new(CloneFlags::CLONE_NEWPID),
        grantable: facts.grantable(namespaces.all()),
    };
    let process = process::decide(spec_process, &idmap, facts, process_request, &mut degradations);
    let process = refused.unless(Topic::Process, process, process::Process::default);
    let seccomp = filter::decide(linux.seccomp().as_ref(), annotation, id);
    let seccomp = refused.unless(Topic::Seccomp, seccomp, || None);
    let oom_score_adj = spec_process.oom_score_adj().map(|wanted| oom(wanted, facts, &mut degradations));
    // For what joins later; said now, while the configuration is looked at.
    refused.unless(Topic::Process, affinity::decide(spec_process, None, id).map(|_| ()), || ());
    let stub_passes = || seccomp.as_ref().is_none_or(|profile| profile.permits(&stub::CALLS));
    // In a pid namespace of its own nobody is there yet.
    let joins_pids = namespaces.joined.iter().any(|(kind, _)| *kind == CloneFlags::CLONE_NEWPID);
    let watched = joins_pids && !namespaces.has(CloneFlags::CLONE_NEWUSER);
    let guard = process.guard(&idmap, facts, watched, stub_passes);
    let mut remarks = cgroups.remarks;
    if own_cgroup.is_none() && !namespaces.is_new(CloneFlags::CLONE_NEWPID) {
        let lost = if namespaces.shares_mounts() {
            "its children"
        } else {
            "a process that leaves its mount namespace"
        };
        remarks.push(format!(
            "container {id} has neither a cgroup nor a pid namespace of its own: {lost} cannot be killed with it. \
             Such configuration is strongly discouraged"
        ));
    }
    let rdt = refused.unless(Topic::Cgroup, rdt::decide(&linux, id, facts), || None);
    let hooks = refused.unless(
        Topic::Hooks,
        hooks::decide(spec.hooks().as_ref(), annotation, &bundle.dir, id),
        Default::default,
    );
    let plan = Plan {
        id: id.to_string(),
        hooks,
        rootfs: rootfs.clone(),
        layers: layers.clone(),
        steps,
        process,
        spec_process: spec_process.clone(),
        inherited,
        seccomp,
        guard,
        launch_reaches_more: facts.privileged() && namespaces.is_new(CloneFlags::CLONE_NEWUSER),
        oom_score_adj,
        namespaces,
        idmap,
        cgroup: own_cgroup,
        network,
        rdt,
        degradations,
        remarks,
    };
    Ok(Survey { plan, refused })
}

fn mask_of(process: &oci_spec::runtime::Process) -> u64 {
    process::mask(process.capabilities().as_ref().and_then(|c| c.bounding().as_ref()))
}

/// Lowering one's score takes CAP_SYS_RESOURCE on the host (proc_pid_oom_score_adj(5)).
pub fn oom(wanted: i32, facts: &Facts, degradations: &mut Vec<Degradation>) -> i32 {
    let lowest = facts.oom_score_adj;
    if wanted >= lowest || (facts.is_host_root() && facts.capable(crate::host::CAP_SYS_RESOURCE)) {
        return wanted;
    }
    degradations.push(
        Degradation::weaker(
            "OOM",
            format!("oom_score_adj {wanted}"),
            format!("oom_score_adj {lowest}"),
            "only root may lower it below the caller's own",
        )
        .fix("raise process.oomScoreAdj, or lower the caller's (OOMScoreAdjust= of its unit)"),
    );
    lowest
}

/// Whoever has no id can be nobody. Where /proc is not there, it is not known which ids there are.
fn refuse_nobody(facts: &Facts, act: &impl Fn() -> String) -> Result<(), Failure> {
    if !facts.own_ids.0.is_empty() && !facts.own_ids.1.is_empty() {
        return Ok(());
    }
    let cause = "our own user namespace has no ids, or /proc is not there: no such file or directory";
    Err(Failure::new(act(), cause).code("ID-NONE").fix("mount proc on /proc (docker, podman: see that nothing is mounted over it), and have the maps of the user namespace written first"))
}

/// A C string of what has no zero byte in it.
fn c(text: impl AsRef<OsStr>, act: impl Fn() -> String) -> Result<CString, Failure> {
    let text = text.as_ref();
    CString::new(text.as_bytes())
        .map_err(|_| Failure::new(act(), format!("{text:?} contains a zero byte: invalid argument")))
}
