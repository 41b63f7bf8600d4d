//! `restore`: a container from its images: `run`, with criu in the place of init.
//!
//! The bundle is what it was for the container that was dumped, or a copy of it on another machine; what criu cannot
//! know is read from its configuration, and everything else is as it was. Of the hooks, prestart and
//! createRuntime are run: what they do for the container's namespaces has to be done for the new ones. The others are
//! not, as with runc: what is of the mount namespace is in the images, and the program has started long ago.

use super::create::{self, Manner, PidFile};
use super::run;
use crate::cli::Restore;
use crate::criu::{Images, Options, Task, Worker};
use crate::host::criu::{self, Criu};
use crate::host::mounts;
use crate::launch::cgroup::Home;
use crate::launch::console;
use crate::launch::foreground;
use crate::launch::notify::Notify;
use crate::launch::restore::{Lodger, Side, make_places};
use crate::plan::Plan;
use crate::plan::cgroup::Manager;
use crate::plan::checkpoint as plan;
use crate::plan::degrade::Policy;
use crate::report::{Act, Failure};
use crate::state::store::{Entry, Store};
use crate::state::{Status, status};
use crate::sys::clone::{Child, time_namespace};
use crate::sys::{fds, pidfd};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// `bryo restore`.
pub fn restore(
    store: &Store,
    flags: &Restore,
    degrade: Policy,
    cgroups: Option<Manager>,
    criu: Option<&Path>,
) -> Result<u8, Failure> {
    let id = flags.create.id.as_str();
    let act = format!("cannot restore container {id}");
    fds::cloexec_from(3).act(|| act.as_str())?;
    let facts = criu::read(criu).act(|| act.as_str())?;
    let program = plan::allowed(&facts, &act)?;
    plan::may_restore(&facts, &act)?;
    let (signals, before) = foreground::signals(flags.detach)?;
    let reap = run::reaps(signals.is_some(), flags.no_subreaper, &act)?;
    let manner = Manner { by_start: false, detached: flags.detach, signals: before, degrade, cgroups };
    let (bundle, planned) = create::survey(store, &flags.create, &manner)?.granted()?;
    create::tell(&bundle, &planned);
    let images = Images::from(flags.image_path.as_deref(), flags.work_path.as_deref(), &act)?;
    let mut options = options(flags, &planned, &facts, &images, &bundle.spec)?;
    let socket = flags.create.console_socket.as_deref();
    let console = console::choose(planned.process.terminal, flags.detach, socket, &act)?;
    let filter = create::compile(&planned, Some(&store.filters()))?;
    let claim = create::claim(store, id)?;
    let entry = claim.entry()?;
    // It may have been dumped with one.
    entry.make_notify_directory()?;
    create::prepare_network(&planned, entry)?;
    let mut record = create::record(&bundle, &planned)?;
    let mut home = Home::planned(&planned, entry.path())?;
    create::note_cgroup(&home, entry)?;
    home.make(&planned)?;

    let lodger = plan::lends_cgroup_namespace(&planned, &flags.criu)
        .then(Lodger::find)
        .transpose()
        .act(|| act.as_str())?;
    if let Some(lodger) = &lodger {
        home.settle(&planned, lodger.process(), false)?;
    }
    let cgroup_namespace = lodger.as_ref().map(Lodger::namespace).transpose().act(|| act.as_str())?;
    let passed = Passed::open(&images.streams(&act)?, &planned, &act)?;
    let task = Task {
        act: &act,
        program,
        root: options.root.as_deref().map(|root| (root, plan::root_attributes(&planned))),
        no_pivot: flags.create.no_pivot,
        cgroup_namespace: cgroup_namespace.as_ref().map(AsFd::as_fd),
        our_streams: flags.criu.shell_job,
        passed: &passed.fds(),
        images: &images,
    };
    let worker = Worker::start(&task)?;
    // What it makes is where it is.
    match &lodger {
        Some(_) => home.take_in(worker.process().pid).act(|| act.as_str())?,
        None => home.settle(&planned, worker.process(), false)?,
    }
    drop(lodger);
    create::note_cgroup(&home, entry)?;
    options.inherit_fd = passed.names();
    options.cg_root = criu::cgroups(worker.process().pid).act(|| act.as_str())?;
    options.ext_mnt = outside(&planned, entry)?;

    record.cgroup = home.record().cloned();
    let creating = {
        let record = record.clone();
        move |pid| record.oci(Status::Creating, pid).to_string()
    };
    let (mut pid_file, mut master) = (None, None);
    let mut restored =
        |pid: i32, terminal: Option<OwnedFd>, network: Option<&crate::launch::network::Connected>| {
            if let Some(terminal) = terminal {
                // Its settings are those of the images, and it may have been somebody else's to relay then.
                console::prepare(&terminal, &console, id)?;
                master = console::hand_over(terminal, &console, id)?;
            }
            record.pid = pid;
            record.start_time = status::start_time(pid).act(|| act.as_str())?;
            let namespaces = criu::namespaces(pid).act(|| act.as_str())?;
            plan::check_namespaces(&planned, namespaces, &act)?;
            record.namespaces |= (namespaces & time_namespace()).bits();
            record.network = network.map(|network| network.recorded);
            create::save_template(&planned, &record, filter.as_ref(), entry)?;
            entry.save(&record)?;
            pid_file = Some(PidFile::write(flags.create.pid_file.as_deref(), pid)?);
            Ok(())
        };
    let mut side = Side {
        plan: &planned,
        state: entry.path(),
        creating: &creating,
        restored: &mut restored,
        hooked: false,
        network: None,
        console: None,
    };
    let notify = Notify::listen(entry, id)?;
    let outcome = worker.restore(&options, &images.log(&options.log_file), &mut side);
    let (hooked, network) = (side.hooked, side.network.take());
    let outcome = outcome.and_then(|pid| Ok(Child { pid, pidfd: pidfd::open(pid).act(|| act.as_str())? }));
    let child = outcome.inspect_err(|_| {
        if hooked {
            create::clean_up(&planned, &record);
        }
    })?;
    create::warn_of(&record);
    network.into_iter().for_each(|network| {
        network.keep();
    });
    home.keep();
    pid_file.into_iter().for_each(PidFile::keep);
    let mut entry = claim.keep();
    if let Some(entry) = &mut entry {
        entry.unlock();
    }
    let Some(signals) = signals else {
        if let Some(notify) = notify {
            notify.until_ready(&child.pidfd, child.pid)?;
        }
        return Ok(0);
    };
    let code = foreground::attend(&child, &signals, master, notify, reap);
    run::end(entry, &record, false);
    // 128+N stays below 256: signals end at 64.
    Ok(u8::try_from(code?).unwrap_or(1))
}

/// What the flags and the plan say.
fn options(
    flags: &Restore,
    planned: &Plan,
    facts: &Criu,
    images: &Images,
    spec: &oci_spec::runtime::Spec,
) -> Result<Options, Failure> {
    let annotation = spec.annotations().as_ref().and_then(|all| all.get(plan::CONFIG_ANNOTATION));
    let mut options = plan::restore(planned, facts, &flags.criu, annotation)?;
    // Where it is, and not by which links one gets there: criu compares it with the list of mounts.
    let root = std::fs::canonicalize(&planned.rootfs);
    options.root = Some(root.act(|| format!("cannot use root file system {}", planned.rootfs.display()))?);
    options.images = images.fd();
    options.work = images.work_fd();
    options.lsm_profile.clone_from(&flags.lsm_profile);
    options.lsm_mount_context.clone_from(&flags.lsm_mount_context);
    Ok(options)
}

/// Where what lies outside of the container is found, by the names that it has in the images.
fn outside(planned: &Plan, entry: &Entry) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let mut sources = plan::sources(planned, &mounts::of("self").unwrap_or_default());
    sources.extend(make_places(planned)?);
    sources.push(plan::Source::at(crate::launch::notify::INSIDE, entry.path().join(Entry::NOTIFY)));
    // Sorting is stable: the first of a name stays the first.
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    sources.dedup_by(|a, b| a.name == b.name);
    let found = |source: plan::Source| {
        // criu follows no link. What is not there may not be needed, and if it is, criu says so.
        let end = std::fs::canonicalize(&source.path).ok().filter(|_| source.follow);
        (source.name, end.unwrap_or(source.path))
    };
    Ok(sources.into_iter().map(found).collect())
}

/// Descriptors for criu, and the names in the images that they stand for.
struct Passed(Vec<(String, OwnedFd)>);

impl Passed {
    fn open(streams: &[String], planned: &Plan, act: &str) -> Result<Passed, Failure> {
        let mut passed = Vec::new();
        for (fd, name) in (0..).zip(streams) {
            // Everything else is the container's own, or what --ext-unix-sk and --shell-job are for.
            if name.starts_with("pipe:") || name.starts_with("file[") {
                let ours = match fds::standard(fd) {
                    Some(stream) => stream.try_clone_to_owned(),
                    None => File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from),
                };
                passed.push((name.clone(), ours.act(|| act)?));
            }
        }
        for (name, path) in plan::descriptors(planned) {
            let file = File::open(path).act(|| format!("{act}: {}", path.display()))?;
            passed.push((name.to_string(), file.into()));
        }
        Ok(Passed(passed))
    }

    fn fds(&self) -> Vec<RawFd> {
        self.0.iter().map(|(_, fd)| fd.as_raw_fd()).collect()
    }

    fn names(&self) -> Vec<(String, i32)> {
        self.0.iter().map(|(name, fd)| (name.clone(), fd.as_raw_fd())).collect()
    }
}
