//! `exec`: another process in a running container.

use super::create::{PidFile, Template, connect, guard_fds};
use super::{start, warn};
use crate::bundle;
use crate::cli::Exec;
use crate::host;
use crate::launch::cgroup::Entrance;
use crate::launch::console::{self, Console};
use crate::launch::copy;
use crate::launch::foreground;
use crate::launch::join::{self, Doors};
use crate::launch::pidfd::{Birth, Receiver};
use crate::launch::rdt;
use crate::plan;
use crate::plan::degrade::Policy;
use crate::plan::idmap::Idmap;
use crate::plan::joining::{self, Joining};
use crate::plan::process::{self, Guard};
use crate::report::{Act, Failure, io_text};
use crate::seccomp::Filter;
use crate::state::store::{EXEC, Entry, FILTER, Store, TRACES};
use crate::state::{Record, Status};
use crate::sys::pidfd;
use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use oci_spec::runtime as oci;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// `bryo exec`.
pub fn exec(store: &Store, flags: &Exec, degrade: &Policy) -> Result<u8, Failure> {
    let id = flags.id.as_str();
    guard_fds(flags.preserve_fds, id)?;
    let (entry, record) = store.open("exec in", id)?;
    let act = || format!("cannot exec in container {id}");
    let stopped = || Failure::new(act(), "cannot exec in a stopped container: container not running");
    let pidfd = record.pidfd().act(act)?.ok_or_else(stopped)?;
    let status = entry.status_of_living(&record)?;
    if status == Status::Paused && !flags.ignore_paused {
        return Err(Failure::new(act(), "cannot exec in a paused container")
            .fix(format!("bryo resume {id}, or --ignore-paused")));
    }
    let root = root(&record, &pidfd)?;
    let doors = match status {
        Status::Created => Doors::lent(&start::reach_init(&entry, id)?, id)?,
        _ => Doors::of_process(pidfd, record.namespaces),
    };
    let entrance = entrance(flags, &record)?;
    let template = template(&entry, &record)?;
    let process = wanted(flags, &template.process)?;
    let watched = watched(&entry, &record, &template, &process)?;
    let plan = decide(flags, &record, &template, &process, watched, degrade)?;
    if plan.guard == Guard::Copy {
        return Err(copy::start_again(flags.preserve_fds, &foreground::current_mask()?, id));
    }
    degrade.check(&format_args!("container {id}"), &plan.degradations)?;
    let console =
        console::choose(plan.process.terminal, flags.detach, flags.console_socket.as_deref(), &act())?;
    let receiver = Receiver::connect(flags.pidfd_socket.as_deref(), &act())?;
    let filter = filter(&entry, &template)?;
    let agent = template.listener.as_ref().map(|listener| connect(listener, &record, status, record.pid));
    let agent = agent.transpose()?;

    let (signals, before) = foreground::signals(flags.detach)?;
    let joining = join::Joining {
        container: id,
        doors: &doors,
        process: &plan.process,
        steps: &plan.steps,
        filter: filter.as_ref(),
        guard_binary: plan.guard == Guard::Stub,
        signals: before,
        oom_score_adj: plan.oom_score_adj,
        processors: plan.processors.as_deref(),
        cgroup: entrance.as_ref(),
        root: root.as_ref(),
    };
    let mut joined = join::join(&joining, agent)?;
    degrade.check(&format_args!("container {id}"), &joined.found.degradations)?;
    let master = match joined.found.console.take() {
        Some(master) => {
            if let Some(size) = process.console_size().filter(|size| size.height() != 0) {
                let cells = |n: u64| u16::try_from(n).unwrap_or(0);
                let size = crate::sys::tty::Size { rows: cells(size.height()), columns: cells(size.width()) };
                crate::sys::tty::set_size(&master, size).act(act)?;
            }
            console::prepare(&master, &console, id)?;
            console::hand_over(master, &console, id)?
        }
        None => None,
    };
    for line in plan
        .degradations
        .iter()
        .chain(&joined.found.degradations)
        .filter_map(plan::degrade::Degradation::warning)
    {
        warn(&line);
    }
    if let Some(rdt) = &record.rdt {
        rdt::join(rdt, joined.child()?.pid, id)?;
    }
    if let Some(receiver) = receiver {
        receiver.send(joined.child()?, Birth::Joined, id)?;
    }
    let pid_file = PidFile::write(flags.pid_file.as_deref(), joined.child()?.pid)?;
    let child = joined.start()?;
    pid_file.keep();
    let Some(signals) = signals else { return Ok(0) };
    debug_assert!(!matches!(console, Console::Socket(..)) || master.is_none());
    let code = foreground::attend(&child, &signals, master, None, false)?;
    Ok(u8::try_from(code).unwrap_or(1))
}

/// Whether somebody in the container may look into us: who was let in with that right, or anybody who was there before.
/// In a user namespace of its own nobody may. A process that gets the right now is remembered for the next ones.
fn watched(
    entry: &Entry,
    record: &Record,
    template: &Template,
    wanted: &oci::Process,
) -> Result<bool, Failure> {
    let has = |bits: i32, kind| CloneFlags::from_bits_retain(bits).contains(kind);
    if has(record.namespaces, CloneFlags::CLONE_NEWUSER) {
        return Ok(false);
    }
    let from_the_start = joining::may_trace(template.process.capabilities().as_ref())
        || has(record.joined, CloneFlags::CLONE_NEWPID);
    let since = from_the_start || entry.has(TRACES)?;
    if !since && joining::may_trace(wanted.capabilities().as_ref()) {
        entry.write(TRACES, b"")?;
    }
    Ok(since)
}

/// The root of a container that has our mount namespace: that of its init, which its pidfd says is still that one.
fn root(record: &Record, init: &OwnedFd) -> Result<Option<OwnedFd>, Failure> {
    if !record.shares_mounts() {
        return Ok(None);
    }
    let act = || format!("cannot open the root of container {}", record.id);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(format!("/proc/{}/root", record.pid).as_str(), flags, Mode::empty()).act(act)?;
    // Signal 0 asks whether it lives: its number could be somebody else's by now.
    pidfd::signal(init, 0).act(act)?;
    Ok(Some(root))
}

/// The way into the container's cgroup, or into the one below it that --cgroup names.
fn entrance<'a>(flags: &Exec, record: &'a Record) -> Result<Option<Entrance<'a>>, Failure> {
    let wanted = flags.cgroup.first();
    let act = || match wanted {
        Some(path) => format!("cannot enter cgroup {path} of container {}", record.id),
        None => format!("cannot enter the cgroup of container {}", record.id),
    };
    if flags.cgroup.len() > 1 {
        return Err(Failure::new(
            act(),
            "--cgroup is given more than once, and cgroup v2 has one hierarchy: invalid argument",
        ));
    }
    let below = wanted.map(|path| below(path).map_err(|cause| Failure::new(act(), cause))).transpose()?;
    let Some(cgroup) = &record.cgroup else {
        return match wanted {
            Some(_) => Err(Failure::new(act(), "the container has no cgroup: no such file or directory")
                .code("CG-NODELEG")
                .fix("leave --cgroup out")),
            None => Ok(None),
        };
    };
    Entrance::find(cgroup, below.as_deref(), record.pid).map(Some).act(act)
}

/// A path below the container's cgroup. What goes before a colon would name controllers of cgroup v1.
fn below(text: &str) -> Result<PathBuf, String> {
    if text.contains(':') {
        return Err("cgroup v2 has no hierarchy for each controller: invalid argument".into());
    }
    let path = Path::new(text);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("bad sub cgroup path {text}: invalid argument"));
    }
    Ok(path.strip_prefix("/").unwrap_or(path).to_path_buf())
}

/// What `create` left for us.
fn template(entry: &Entry, record: &Record) -> Result<Template, Failure> {
    let act = || format!("cannot exec in container {}", record.id);
    let text = entry.read(EXEC)?.ok_or_else(|| Failure::new(act(), "container does not exist"))?;
    serde_json::from_slice(&text)
        .map_err(|e| Failure::new(act(), format!("{}: {e}", entry.path().join(EXEC).display())))
}

fn filter(entry: &Entry, template: &Template) -> Result<Option<Filter>, Failure> {
    if !template.filtered {
        return Ok(None);
    }
    let bytes = entry.read(FILTER)?.unwrap_or_default();
    match bytes.split_first_chunk::<4>() {
        Some((flags, program)) => {
            Ok(Some(Filter { flags: u32::from_le_bytes(*flags), instructions: program.to_vec() }))
        }
        // Going on without a filter would be weaker isolation.
        None => Err(Failure::new(
            "cannot exec",
            format!("{}: it is missing or cut off", entry.path().join(FILTER).display()),
        )),
    }
}

/// The process: a file replaces it whole, the flags change that of the configuration.
fn wanted(flags: &Exec, configured: &oci::Process) -> Result<oci::Process, Failure> {
    let act = || format!("cannot exec in container {}", flags.id);
    let mut process = match &flags.process {
        Some(path) => {
            let text = std::fs::read(path)
                .map_err(|e| Failure::new(act(), format!("{}: {}", path.display(), io_text(&e))))?;
            let (process, remarks) = bundle::parse_process(&text)
                .map_err(|cause| Failure::new(act(), format!("{}: {cause}", path.display())))?;
            remarks.iter().for_each(|remark| warn(remark));
            complete(process, configured)
        }
        None => from_flags(flags, configured)?,
    };
    if flags.tty {
        process.set_terminal(Some(true));
    }
    bundle::check_process(&process).map_err(|cause| Failure::new(act(), cause))?;
    Ok(process)
}

/// As runc: what the file does not say about capabilities and scheduling, the configuration does.
fn complete(mut process: oci::Process, configured: &oci::Process) -> oci::Process {
    if process.capabilities().is_none() {
        process.set_capabilities(configured.capabilities().clone());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(configured.scheduler().clone());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*configured.io_priority());
    }
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(configured.exec_cpu_affinity().clone());
    }
    process
}

fn from_flags(flags: &Exec, configured: &oci::Process) -> Result<oci::Process, Failure> {
    let act = || format!("cannot exec in container {}", flags.id);
    if flags.command.is_empty() {
        return Err(Failure::new(act(), "no command given")
            .fix("name a command after the container's id, or give --process"));
    }
    let mut process = configured.clone();
    process.set_args(Some(flags.command.clone()));
    process.set_terminal(Some(flags.tty));
    // The size is that of the configuration's terminal, which this is not.
    process.set_console_size(None);
    if let Some(cwd) = &flags.cwd {
        process.set_cwd(cwd.into());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(flags.env.iter().cloned());
    process.set_env(Some(env));
    if let Some((uid, gid)) = flags.user {
        process.user_mut().set_uid(uid);
        if let Some(gid) = gid {
            process.user_mut().set_gid(gid);
        }
    }
    if !flags.additional_gids.is_empty() {
        let mut gids = process.user().additional_gids().clone().unwrap_or_default();
        gids.extend(&flags.additional_gids);
        process.user_mut().set_additional_gids(Some(gids));
    }
    if flags.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(label) = &flags.process_label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &flags.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    if !flags.caps.is_empty() {
        let sets = add_caps(process.capabilities().as_ref(), &flags.caps)?;
        process.set_capabilities(Some(sets));
    }
    Ok(process)
}

/// `--cap` adds to bounding, effective and permitted. Ambient takes inheritable as well, so it is given
/// only where that is set already (CVE-2022-29162).
fn add_caps(
    configured: Option<&oci::LinuxCapabilities>,
    names: &[String],
) -> Result<oci::LinuxCapabilities, Failure> {
    let mut added = oci::Capabilities::new();
    for name in names {
        match serde_json::from_value::<oci::Capability>(name.as_str().into()) {
            Ok(cap) => drop(added.insert(cap)),
            Err(_) => warn(&format!("ignoring unknown capability {name:?}")),
        }
    }
    let set = |current: Option<&oci::Capabilities>| {
        Some(current.into_iter().flatten().chain(&added).copied().collect())
    };
    let mut sets = match configured {
        Some(sets) => sets.clone(),
        None => serde_json::from_value(serde_json::json!({}))
            .map_err(|e| Failure::new("cannot add capabilities", e.to_string()))?,
    };
    sets.set_bounding(set(sets.bounding().as_ref()));
    sets.set_effective(set(sets.effective().as_ref()));
    sets.set_permitted(set(sets.permitted().as_ref()));
    let inheritable = sets.inheritable().clone().unwrap_or_default();
    let ambient = sets.ambient().iter().flatten().copied();
    sets.set_ambient(Some(
        ambient.chain(added.into_iter().filter(|cap| inheritable.contains(cap))).collect(),
    ));
    Ok(sets)
}

fn decide(
    flags: &Exec,
    record: &Record,
    template: &Template,
    wanted: &oci::Process,
    watched: bool,
    degrade: &Policy,
) -> Result<Joining, Failure> {
    let facts = host::read(joining::needs(wanted)).act(|| "cannot read facts of the host")?;
    let idmap = match &template.maps {
        // Ours or a joined one: the kernel knows which ids it has.
        None => Idmap::unknown(),
        Some(maps) => Idmap::Direct { maps: maps.clone(), deny_setgroups: template.deny_setgroups },
    };
    let request = process::Request {
        container: &flags.id,
        preserve_fds: flags.preserve_fds,
        // Those are for the container's own process.
        listen_fds: 0,
        listen_names: None,
        keep_groups: process::keeps_groups(|name| record.annotations.get(name).cloned()),
        init: false,
        grantable: facts.grantable(CloneFlags::from_bits_retain(record.namespaces)),
        degrade,
    };
    let before = joining::Before {
        new_keyring: !template.no_new_keyring,
        affinity: template.affinity.as_deref(),
        inherited: &template.inherited,
        stub_passes: !template.stops_stub,
        watched,
    };
    joining::decide(wanted, &idmap, &facts, request, before)
}
