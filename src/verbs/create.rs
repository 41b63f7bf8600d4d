//! `create`, and what `run` shares with it: from a bundle to an init that waits for the word.

use super::{delete, warn};
use crate::bundle::{self, Bundle};
use crate::cli::Create;
use crate::host::{self, Needs};
use crate::init::StateText;
use crate::launch::cgroup::Home;
use crate::launch::console::{self, Console};
use crate::launch::copy;
use crate::launch::layers::{Kept, Server};
use crate::launch::network;
use crate::launch::notify;
use crate::launch::pidfd::{self, Birth, Receiver};
use crate::launch::seccomp::{Agent, Listener};
use crate::launch::{self, Launch, Ready, Supplies, foreground, hooks, host_root};
use crate::plan::cgroup::Manager;
use crate::plan::degrade::{Degradation, Policy};
use crate::plan::layers::Changes;
use crate::plan::process::Guard;
use crate::plan::step::Op;
use crate::plan::survey::{Survey, Topic};
use crate::plan::{self, Plan};
use crate::report::{Act, Failure, debug, errno_text, io_text};
use crate::seccomp::{self, Filter};
use crate::state::store::{CGROUP, EXEC, Entry, FILTER, HOST_ROOT, START_SOCKET, Store};
use crate::state::{self, Record, Status, status};
use crate::sys::{fds, stub};
use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use nix::unistd::{getegid, geteuid};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// See [`EXEC`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Template {
    /// The process of the configuration.
    pub process: oci_spec::runtime::Process,
    /// The maps of the container's own user namespace.
    pub maps: Option<plan::idmap::Maps>,
    pub deny_setgroups: bool,
    /// There is a filter, and no process goes without it.
    pub filtered: bool,
    /// It does not let the stub through that would keep our binary from the container.
    #[serde(default)]
    pub stops_stub: bool,
    /// The container was made with `--no-new-keyring`.
    #[serde(default)]
    pub no_new_keyring: bool,
    /// The container is kept to these processors by its affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Vec<u16>>,
    #[serde(default)]
    pub inherited: plan::inherited::Inherited,
    /// The agent of a notifying filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<Listener>,
}

/// A container that is made and waits.
#[derive(Debug)]
pub struct Made {
    // In the order in which they are undone.
    pub launch: Launch<Ready>,
    pub home: Home,
    pub host_root: Option<host_root::Mounted>,
    pub plan: Plan,
    pub record: Record,
    pub console: Option<OwnedFd>,
    pub pid_file: PidFile,
    pub kept: Option<Kept>,
    pub claim: Claim,
}

/// The directory of a container that is not complete yet: dropping it frees the id.
#[derive(Debug)]
pub struct Claim(Option<Entry>);

impl Claim {
    /// The directory.
    pub fn entry(&self) -> Result<&Entry, Failure> {
        self.0.as_ref().ok_or_else(|| Failure::new("cannot record the state", "its directory is gone"))
    }

    /// The container is complete.
    pub fn keep(mut self) -> Option<Entry> {
        self.0.take()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Undo. The error that led here is the one to tell; that something stays as well is worth a word.
        if let Some(Err(failure)) = self.0.take().map(Entry::remove) {
            warn(&failure.to_string());
        }
    }
}

/// A pid file that is removed again unless it is kept.
#[derive(Debug)]
pub struct PidFile(Option<PathBuf>);

impl PidFile {
    /// Writes the pid where nobody sees it half written, without a newline.
    ///
    /// # Errors
    /// A path that cannot be written.
    pub fn write(path: Option<&Path>, pid: i32) -> Result<PidFile, Failure> {
        let Some(path) = path else { return Ok(PidFile(None)) };
        let act = || format!("cannot write pid file {}", path.display());
        let name =
            path.file_name().ok_or_else(|| Failure::new(act(), "it names no file: invalid argument"))?;
        let temporary = path.with_file_name(format!(".{}.{pid}", name.to_string_lossy()));
        // One that an earlier process of this pid has left. What follows makes a file of our own, and writes
        // through no link that somebody may have put there.
        let _ = std::fs::remove_file(&temporary);
        let mut file = File::options().write(true).create_new(true).open(&temporary).act(act)?;
        file.write_all(pid.to_string().as_bytes()).act(act)?;
        let renamed = std::fs::rename(&temporary, path).act(act);
        if renamed.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        renamed.map(|()| PidFile(Some(path.to_path_buf())))
    }

    /// The process is there to stay.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = self.0.take().map(std::fs::remove_file);
    }
}

/// How the container is going to be started.
#[derive(Debug)]
pub struct Manner {
    /// By a later `start`, or by us.
    pub by_start: bool,
    /// Nobody stays with the container's terminal.
    pub detached: bool,
    pub signals: SigSet,
    /// What may be had with weaker means.
    pub degrade: Policy,
    /// Who is to make the cgroup.
    pub cgroups: Option<Manager>,
}

/// `bryo create`.
pub fn create(
    store: &Store,
    flags: &Create,
    degrade: Policy,
    cgroups: Option<Manager>,
) -> Result<u8, Failure> {
    guard_fds(passed_on(flags.preserve_fds), &flags.id)?;
    let manner =
        Manner { by_start: true, detached: true, signals: foreground::current_mask()?, degrade, cgroups };
    let made = make(store, flags, &manner)?;
    made.launch.leave()?;
    made.home.keep();
    made.host_root.into_iter().for_each(host_root::Mounted::keep);
    made.pid_file.keep();
    made.kept.into_iter().for_each(Kept::keep);
    drop(made.claim.keep());
    Ok(0)
}

/// What is asked for, and what would be done about it.
#[derive(Debug)]
pub struct Surveyed {
    pub bundle: Bundle,
    pub survey: Survey,
}

impl Surveyed {
    /// The plan, where all of it is granted.
    ///
    /// # Errors
    /// The first refusal.
    pub fn granted(self) -> Result<(Bundle, Plan), Failure> {
        Ok((self.bundle, self.survey.granted()?))
    }
}

/// The road from flags to a plan. It only looks: nothing is made on it, so that `explain` goes it as well.
///
/// # Errors
/// What leaves nothing to plan: a bad id, a bundle that cannot be read.
pub fn survey(store: &Store, flags: &Create, manner: &Manner) -> Result<Surveyed, Failure> {
    let id = flags.id.as_str();
    crate::state::store::check_id(id)?;
    let mut bundle = bundle::load(&flags.bundle)?;
    if notify::supervisor().is_some() {
        notify::announce(&mut bundle.spec, &store.place(id).join(Entry::NOTIFY))?;
    }
    let by_bundle = plan::needs(&bundle.spec, geteuid().as_raw(), getegid().as_raw(), &manner.degrade);
    let needs = Needs {
        cgroups: manner.cgroups != Some(Manager::Disabled),
        network: by_bundle.network || flags.network.is_some() || !flags.publish.is_empty(),
        ..by_bundle
    };
    let mut facts = host::read(needs).act(|| "cannot read facts of the host")?;
    facts.devices = host::devices::elsewhere(&plan::wanted_devices(&bundle.spec));
    let request = request(store, flags, manner)?;
    // What is wrong with these, the planner says.
    let layers = plan::layers::asked(&bundle.spec, &bundle.dir, &request).ok().flatten();
    facts.roots = layers.map(|asked| host::rootfs::read(&asked.wanted));
    let mut survey = plan::survey(&bundle, &facts, &request)?;
    let Survey { plan, refused } = &mut survey;
    match check_rootfs(&plan.rootfs, id) {
        Ok(owner) if plan.layers.is_none() && !refused.has(Topic::Ids) => {
            plan.degradations.extend(plan.idmap.foreign_owner(owner));
        }
        Ok(_) => {}
        Err(failure) => refused.add(Topic::Outcome, failure),
    }
    for degradation in &plan.degradations {
        let allowed =
            manner.degrade.check(&format_args!("container {id}"), std::slice::from_ref(degradation));
        refused.unless(Topic::Outcome, allowed, || ());
    }
    Ok(Surveyed { bundle, survey })
}

/// Says what is to be known before anything of a plan is done.
pub fn tell(bundle: &Bundle, plan: &Plan) {
    bundle.remarks.iter().chain(&plan.remarks).for_each(|remark| warn(remark));
    tell_plan(plan);
}

/// Claims the id of a container, and removes what a create that was killed has left under it.
///
/// # Errors
/// An id that is taken.
pub fn claim(store: &Store, id: &str) -> Result<Claim, Failure> {
    let entry = store.claim(id)?;
    if entry.left.stale {
        // What cannot be removed stays known.
        delete::remove_left(&entry, &entry.left, id)?;
        entry.clear()?;
    }
    Ok(Claim(Some(entry)))
}

/// Makes a container up to where its program may run.
pub fn make(store: &Store, flags: &Create, manner: &Manner) -> Result<Made, Failure> {
    let id = flags.id.as_str();
    let (bundle, plan) = survey(store, flags, manner)?.granted()?;
    if plan.guard == Guard::Copy {
        return Err(copy::start_again(passed_on(flags.preserve_fds), &manner.signals, id));
    }
    tell(&bundle, &plan);
    let console = console::choose(
        plan.process.terminal,
        manner.detached,
        flags.console_socket.as_deref(),
        &format!("cannot create container {id}"),
    )?;
    let asked = || bundle.spec.annotations().as_ref()?.get(pidfd::RECEIVER).map(Path::new);
    let socket = flags.pidfd_socket.as_deref().or_else(asked);
    let receiver = Receiver::connect(socket, &format!("cannot create container {id}"))?;
    let filter = compile(&plan, Some(&store.filters()))?;
    let kept = Kept::open(&plan)?;
    let claim = claim(store, id)?;
    if notify::supervisor().is_some() {
        claim.entry()?.make_notify_directory()?;
    }
    prepare_network(&plan, claim.entry()?)?;
    let mut record = record(&bundle, &plan)?;
    let mut supplies = supplies(claim.entry()?, &plan, &record, filter, manner)?;
    if let Some(planned) = host_root::Planned::of(&plan)? {
        note(HOST_ROOT, planned.recorded(), claim.entry()?)?;
        record.host_root = Some(planned.recorded().clone());
        supplies.host_root = Some(planned.attach(&plan)?);
    }
    let launched =
        bring_up(&plan, &supplies, &console, receiver.as_ref(), kept.as_ref(), &mut record, claim.entry()?)
            .and_then(|launched| {
                manner.degrade.check(&format_args!("container {id}"), &record.degraded).map(|()| launched)
            });
    // Whatever fails takes init with it first, and then has the hooks know.
    let launched = launched.and_then(|launched| {
        PidFile::write(flags.pid_file.as_deref(), record.pid).map(|pid_file| (launched, pid_file))
    });
    let ((launch, home, master), pid_file) = launched.inspect_err(|_| clean_up(&plan, &record))?;
    warn_of(&record);
    let host_root = supplies.host_root;
    Ok(Made { launch, home, host_root, plan, record, console: master, pid_file, kept, claim })
}

/// Warns of what has become of weaker means.
pub fn warn_of(record: &Record) {
    for line in record.degraded.iter().filter_map(|degradation| degradation.warning()) {
        warn(&line);
    }
}

/// For `--debug`: what has been decided, before any of it is done.
fn tell_plan(plan: &Plan) {
    debug(|| format!("namespaces of {}: {:?}", plan.id, plan.namespaces));
    debug(|| format!("ids of {}: {:?}", plan.id, plan.idmap));
    for step in &plan.steps {
        debug(|| format!("step: {}", step.op.describe()));
    }
    for degradation in &plan.degradations {
        debug(|| {
            format!(
                "{}: {} instead of {}: {}",
                degradation.code, degradation.got, degradation.wanted, degradation.because
            )
        });
    }
}

/// Has init come up, and records it.
fn bring_up(
    plan: &Plan,
    supplies: &Supplies,
    console: &Console,
    receiver: Option<&Receiver>,
    kept: Option<&Kept>,
    record: &mut Record,
    entry: &Entry,
) -> Result<(Launch<Ready>, Home, Option<OwnedFd>), Failure> {
    let mut home = Home::planned(plan, entry.path())?;
    note_cgroup(&home, entry)?;
    home.make(plan)?;
    let ours_alone: Vec<_> = entry.lock_fd().into_iter().chain(kept.map(Kept::fd)).collect();
    let born = launch::spawn(plan, supplies, &home, &ours_alone)?.settled(plan, &mut home)?;
    // Once more, now that it is known by more than its name.
    note_cgroup(&home, entry)?;
    let mapped = born.mapped(plan)?;
    // What does not depend on how init fares is done while it works.
    record.pid = mapped.child()?.pid;
    record.start_time = status::start_time(record.pid)
        .act(|| format!("cannot find init of container {} in /proc", plan.id))?;
    save_template(plan, record, supplies.filter.as_ref(), entry)?;
    let mut launch = mapped.ready(plan, supplies)?;
    let found = launch.found();
    // What the kernel made of it counts, and not what was expected.
    let settled = |it: &Degradation| {
        found.degradations.iter().any(|now| (&now.code, &now.wanted) == (&it.code, &it.wanted))
    };
    record.degraded.retain(|expected| !settled(expected));
    record.degraded.append(&mut found.degradations);
    record.service = found.server.as_ref().and_then(Server::service);
    let master = match found.console.take() {
        Some(master) => {
            console::prepare(&master, console, &plan.id)?;
            console::hand_over(master, console, &plan.id)?
        }
        None => None,
    };
    if let Some(receiver) = receiver {
        receiver.send(launch.child()?, Birth::Created, &plan.id)?;
    }
    record.cgroup = home.record().cloned();
    record.rdt = launch.found().rdt.as_ref().and_then(|placed| placed.recorded().cloned());
    record.network = launch.found().network.as_ref().map(|network| network.recorded);
    if let Some(kept) = kept {
        kept.hold(record)?;
    }
    entry.save(record)?;
    Ok((launch, home, master))
}

/// What the network needs before anything is started: its ports free, and the files by which names are found.
///
/// # Errors
/// A port that is taken, a file that cannot be written.
pub fn prepare_network(plan: &Plan, entry: &Entry) -> Result<(), Failure> {
    if let Some(helper) = &plan.network.helper {
        network::check_free(helper, &plan.id)?;
    }
    let owner = plan.launch_reaches_more.then(|| plan.idmap.outside(0)).flatten();
    plan.network
        .shown
        .iter()
        .try_for_each(|file| entry.write_shown(file.name, file.contents.as_bytes(), owner))
}

/// Writes down what is to be removed if nobody gets to writing the record.
///
/// # Errors
/// A full disk, say.
pub fn note_cgroup(home: &Home, entry: &Entry) -> Result<(), Failure> {
    let Some(cgroup) = home.record() else { return Ok(()) };
    note(CGROUP, cgroup, entry)
}

fn note(name: &str, what: &impl Serialize, entry: &Entry) -> Result<(), Failure> {
    let text = serde_json::to_vec(what).map_err(|e| Failure::new("cannot write state", e.to_string()))?;
    entry.write(name, &text)
}

/// A container that came up in part has had its hooks run: those for its end are due as well (config.md,
/// "Lifecycle", step 12).
pub fn clean_up(plan: &Plan, record: &Record) {
    let state = record.oci(Status::Stopped, 0).to_string();
    hooks::run_poststop(&plan.hooks.poststop, &state, &plan.id, warn);
}

fn request(store: &Store, flags: &Create, manner: &Manner) -> Result<plan::Request, Failure> {
    let (listen_fds, listen_names) = listen_fds();
    let changes =
        match &flags.overlay {
            Some(dir) => Some(Changes::Kept(bundle::clean(&std::path::absolute(dir).act(|| {
                format!("cannot keep the changes of container {} in {}", flags.id, dir.display())
            })?))),
            None => flags.ephemeral.then_some(Changes::Vanish),
        };
    Ok(plan::Request {
        id: flags.id.clone(),
        no_pivot: flags.no_pivot,
        no_new_keyring: flags.no_new_keyring,
        preserve_fds: flags.preserve_fds,
        listen_fds,
        listen_names,
        degrade: manner.degrade,
        manager: manner.cgroups,
        network: flags.network.clone(),
        publish: flags.publish.clone(),
        state: store.place(&flags.id),
        changes,
    })
}

/// The sockets that systemd passed to us (sd_listen_fds(3)), if they are for us.
fn listen_fds() -> (u32, Option<String>) {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return (0, None);
    }
    (number("LISTEN_FDS").unwrap_or(0), std::env::var("LISTEN_FDNAMES").ok())
}

/// How many descriptors from 3 on a new container gets.
pub fn passed_on(preserve_fds: u32) -> u32 {
    listen_fds().0.saturating_add(preserve_fds)
}

/// Looks after the descriptors that our caller left open, before we open any ourselves: what is to be passed
/// on, `count` of them, has to be there, and nothing else may reach a hook or the container.
pub fn guard_fds(count: u32, id: &str) -> Result<(), Failure> {
    fds::cloexec_from(3).act(|| format!("cannot close descriptors to container {id}"))?;
    match (3..3u32.saturating_add(count)).find(|fd| i32::try_from(*fd).map_or(true, |fd| !fds::is_open(fd))) {
        None => Ok(()),
        Some(fd) => Err(Failure::new(
            format!("cannot pass descriptors to container {id}"),
            format!("file descriptor {fd} is not open: {}", errno_text(nix::errno::Errno::EBADF)),
        )
        .fix("open it, or lower --preserve-fds")),
    }
}

/// The root file system has to be a directory. Returns the uid that owns it.
fn check_rootfs(rootfs: &Path, id: &str) -> Result<u32, Failure> {
    let act = || format!("cannot use root file system {} of container {id}", rootfs.display());
    let meta = rootfs.symlink_metadata().map_err(|e| {
        Failure::new(act(), io_text(&e))
            .fix("unpack a root file system there, or correct root.path in config.json")
    })?;
    if meta.is_symlink() {
        return Err(Failure::new(act(), "it is a symbolic link: not a directory")
            .fix("name the directory itself in root.path"));
    }
    if !meta.is_dir() {
        return Err(Failure::new(act(), "not a directory").fix("name a directory in root.path"));
    }
    Ok(meta.uid())
}

/// Compiles the filter of a plan; what was compiled before is in `kept`.
///
/// # Errors
/// A profile that libseccomp does not take.
pub fn compile(plan: &Plan, kept: Option<&Path>) -> Result<Option<Filter>, Failure> {
    let Some(profile) = &plan.seccomp else { return Ok(None) };
    let filter = seccomp::compile_cached(profile, kept).map_err(|error| {
        Failure::new(
            format!("cannot compile the seccomp profile of container {}", plan.id),
            format!("{error:#}"),
        )
    })?;
    debug(|| format!("seccomp filter flags: {}", filter.flags));
    debug(|| format!("seccomp filter of {} instructions", filter.len()));
    Ok(Some(filter))
}

/// What there is to record of a container that is planned.
///
/// # Errors
/// A /proc that does not tell of which boot this is.
pub fn record(bundle: &Bundle, plan: &Plan) -> Result<Record, Failure> {
    Ok(Record {
        oci_version: bundle.spec.version().clone(),
        id: plan.id.clone(),
        pid: 0,
        start_time: 0,
        boot_id: status::boot_id().act(|| format!("cannot record container {}", plan.id))?.into(),
        bundle: bundle.dir.clone(),
        rootfs: plan.rootfs.clone(),
        created: state::now(),
        annotations: bundle
            .spec
            .annotations()
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        owner: geteuid().as_raw(),
        namespaces: plan.namespaces.all().bits(),
        joined: plan.namespaces.joined.iter().fold(CloneFlags::empty(), |all, (kind, _)| all | *kind).bits(),
        owns_pids: plan.namespaces.is_new(CloneFlags::CLONE_NEWPID),
        degraded: plan.degradations.clone(),
        hooks: plan.hooks.clone(),
        cgroup: None,
        network: None,
        rdt: None,
        service: None,
        host_root: None,
    })
}

fn supplies(
    entry: &Entry,
    plan: &Plan,
    record: &Record,
    filter: Option<Filter>,
    manner: &Manner,
) -> Result<Supplies, Failure> {
    let start_socket = if manner.by_start {
        let act = || format!("cannot make the start socket of container {}", record.id);
        let socket = fds::listen(&entry.short_path(START_SOCKET)).act(act)?;
        Some(socket)
    } else {
        None
    };
    Ok(Supplies {
        filter,
        agent: listener(plan)
            .map(|listener| connect(&listener, record, Status::Created, StateText::MARK))
            .transpose()?,
        creating: text(record, Status::Creating),
        created: text(record, Status::Created),
        start_socket,
        signals: manner.signals,
        proc: launch::open_proc()?,
        state: entry.path().to_path_buf(),
        host_root: None,
    })
}

/// Connects to the agent of a notifying filter, with what it is told (config-linux.md, "Container process
/// state"): the process that has the filter, and the container with the pid of its first one.
pub fn connect(listener: &Listener, record: &Record, status: Status, first: i32) -> Result<Agent, Failure> {
    let mut state = serde_json::json!({
        "ociVersion": record.oci_version,
        "fds": ["seccompFd"],
        "pid": StateText::MARK,
        "state": record.oci(status, first),
    });
    if let Some(metadata) = &listener.metadata {
        state["metadata"] = metadata.as_str().into();
    }
    listener.connect(StateText::split(&state), &record.id)
}

fn listener(plan: &Plan) -> Option<Listener> {
    let profile = plan.seccomp.as_ref()?;
    let metadata = profile.listener_metadata().map(String::from);
    profile.listener_path().map(|path| Listener { path: path.to_path_buf(), metadata })
}

/// The state for hooks, split where the pid goes.
fn text(record: &Record, status: Status) -> StateText {
    StateText::split(&record.oci(status, StateText::MARK))
}

/// Writes down what `exec` starts from.
///
/// # Errors
/// A full disk, say.
pub fn save_template(
    plan: &Plan,
    record: &Record,
    filter: Option<&Filter>,
    entry: &Entry,
) -> Result<(), Failure> {
    let act = || format!("cannot write state of container {}", record.id);
    let mut process = plan.spec_process.clone();
    // The socket is for the container's own process.
    if notify::supervisor().is_some() {
        let mut env = process.env().clone().unwrap_or_default();
        env.retain(|entry| entry.split('=').next() != Some(notify::VARIABLE));
        process.set_env(Some(env));
    }
    let template = Template {
        process,
        maps: plan.idmap.maps().cloned(),
        deny_setgroups: !plan.idmap.allows_setgroups(),
        no_new_keyring: !plan.steps.iter().any(|step| matches!(step.op, Op::Keyring(_))),
        affinity: plan.steps.iter().find_map(|step| match &step.op {
            Op::Affinity(cpus) => Some(cpus.clone()),
            _ => None,
        }),
        inherited: plan.inherited.clone(),
        filtered: filter.is_some(),
        stops_stub: plan.seccomp.as_ref().is_some_and(|profile| !profile.permits(&stub::CALLS)),
        listener: listener(plan),
    };
    let text = serde_json::to_vec(&template).map_err(|e| Failure::new(act(), e.to_string()))?;
    entry.write(EXEC, &text)?;
    if let Some(filter) = filter {
        let bytes = [&filter.flags.to_le_bytes()[..], &filter.instructions].concat();
        entry.write(FILTER, &bytes)?;
    }
    Ok(())
}
