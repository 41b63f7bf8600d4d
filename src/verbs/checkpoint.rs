//! `checkpoint`: writes a container's processes to images, from which `restore` makes them anew.

use super::delete;
use crate::cli::Checkpoint;
use crate::criu::{Features, Images, Task, Worker};
use crate::host::criu;
use crate::plan::checkpoint as plan;
use crate::report::{Act, Failure, errno_text, warn};
use crate::state::store::Store;
use crate::state::{Record, Status};
use crate::sys::fds;
use std::path::Path;

/// `bryo checkpoint`.
pub fn checkpoint(store: &Store, flags: &Checkpoint, criu: Option<&Path>) -> Result<u8, Failure> {
    let id = flags.id.as_str();
    let act = format!("cannot checkpoint container {id}");
    fds::cloexec_from(3).act(|| act.as_str())?;
    let (mut entry, record) = store.open_locked("checkpoint", id)?;
    let status = entry.status(&record)?;
    if !matches!(status, Status::Running | Status::Paused) {
        return Err(Failure::new(
            act,
            format!("Container cannot be checkpointed in {} state", status.word()),
        ));
    }
    let facts = criu::read(criu).act(|| act.as_str())?;
    let program = plan::allowed(&facts, &act)?;
    check_status_fd(flags, &act)?;
    let inside = criu::inside(record.pid).act(|| act.as_str())?;
    let (mut options, streams) = plan::dump(&record, &facts, &inside, &flags.criu)?;
    let (work, parent) = (flags.work_path.as_deref(), flags.parent_path.as_deref());
    let images = Images::to(flags.image_path.as_deref(), work, parent, &act)?;
    options.images = images.fd();
    options.work = images.work_fd();
    options.leave_running = flags.leave_running;
    options.tcp_skip_in_flight = flags.tcp_skip_in_flight;
    options.link_remap = flags.link_remap;
    options.page_server.clone_from(&flags.page_server);
    options.status_fd = flags.status_fd.filter(|fd| *fd >= 0);
    options.parent_img.clone_from(&flags.parent_path);
    options.track_mem = parent.is_some();
    let passed: Vec<_> = options.status_fd.into_iter().collect();
    let our_streams = flags.criu.shell_job;
    let task = Task {
        act: &act,
        program,
        root: None,
        no_pivot: false,
        cgroup_namespace: None,
        our_streams,
        passed: &passed,
        images: &images,
    };
    let mut worker = Worker::start(&task)?;
    check_features(&mut worker, flags, &act)?;
    let log = images.log(&options.log_file);
    let goes_on = |_: &Failure| go_on(&record, status);
    if flags.pre_dump {
        worker.pre_dump(&options, &log).inspect_err(goes_on)?;
        return Ok(0);
    }
    images.note_streams(&streams, &act)?;
    if flags.criu.lazy_pages {
        // It is over when the last page was asked for, if ever; until then it can be deleted.
        entry.unlock();
    }
    worker.dump(&options, &log).inspect_err(goes_on)?;
    // What criu says is not enough to end a container for.
    images.check(&act)?;
    if flags.criu.lazy_pages && !entry.relock()? {
        return Ok(0);
    }
    if !flags.leave_running {
        delete::end(&record)?;
        delete::finish(entry, &record)?;
    }
    Ok(0)
}

/// Has a container run that was running: criu stops it by its cgroup, and may have ended without letting it go.
fn go_on(record: &Record, before: Status) {
    let Some(cgroup) = record.present_cgroup().filter(|_| before == Status::Running) else { return };
    let thawed =
        cgroup.open().and_then(|cgroup| if cgroup.is_paused() { cgroup.freeze(false) } else { Ok(()) });
    if let Err(errno) = thawed {
        warn(&format!(
            "container {} may stand still: {}; fix: bryo resume {0}",
            record.id,
            errno_text(errno)
        ));
    }
}

/// criu would only say so in its log.
fn check_status_fd(flags: &Checkpoint, act: &str) -> Result<(), Failure> {
    let Some(fd) = flags.status_fd.filter(|fd| *fd >= 0) else { return Ok(()) };
    let act = format!("{act}: --status-fd {fd}");
    if !flags.criu.lazy_pages {
        let cause = "only a checkpoint with --lazy-pages has something to say there: invalid argument";
        return Err(Failure::new(act, cause).fix("add --lazy-pages, or drop it"));
    }
    if !fds::is_writable(fd) {
        return Err(
            Failure::new(act, "nobody can write to it: bad file descriptor").fix("open it for writing")
        );
    }
    Ok(())
}

/// What the kernel has to have beyond the option, asked of criu, which tries it out.
fn check_features(worker: &mut Worker, flags: &Checkpoint, act: &str) -> Result<(), Failure> {
    let wanted = Features {
        mem_track: flags.pre_dump || flags.parent_path.is_some(),
        lazy_pages: flags.criu.lazy_pages,
    };
    if wanted == Features::default() {
        return Ok(());
    }
    let found = worker.features(wanted)?;
    let missing = if wanted.mem_track && !found.mem_track {
        ("--pre-dump and --parent-path", "tell which pages were written to (CONFIG_MEM_SOFT_DIRTY)")
    } else if wanted.lazy_pages && !found.lazy_pages {
        ("--lazy-pages", "bring pages when they are needed (CONFIG_USERFAULTFD)")
    } else {
        return Ok(());
    };
    Err(Failure::new(act, format!("this kernel cannot {}: operation not supported", missing.1))
        .code("CRIU")
        .fix(format!("checkpoint without {}", missing.0)))
}
