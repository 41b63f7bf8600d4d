//! What a root file system of layers needs of launch: the directory in which changes are kept, and the process that
//! serves the layers where the kernel has no overlay for us.
//!
//! fuse-overlayfs is given an open /dev/fuse to serve, already mounted (libfuse takes `/dev/fd/N` for that), so it
//! mounts nothing itself. It runs in the container's user namespace, which has the ids and the rights, and in a mount
//! namespace of its own, in which the upper layer of an ephemeral container is a tmpfs that nobody else sees. The
//! container's own mount namespace holds the only mount: when that is gone, however that came about, the kernel ends
//! the service and the process ends itself. It is not in the container's pid namespace, since it has files of the
//! host open, and not in its cgroup, since a paused server would stop whoever looks at the files.

use crate::host::rootfs::{Lower, Wanted};
use crate::init::{self, Like};
use crate::plan::Plan;
use crate::plan::layers::Changes;
use crate::plan::step::{Served, Upper};
use crate::report::{Act, Failure, debug, one_line, warn};
use crate::state::{Record, Service, status};
use crate::sync::{self, Channel};
use crate::sys::clone::{self, Child, Join};
use crate::sys::fds::{self, Lock};
use crate::sys::mount::{self, Context};
use crate::sys::process::{self, Strings};
use crate::sys::{self, Errno, pidfd};
use nix::fcntl::{OFlag, open, openat};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server may take until it answers for the first time.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long a server may take to end once nobody uses what it serves: it writes back what was changed.
const FAREWELL_MS: u16 = 10_000;

/// A process that serves the root file system. Dropped, it is killed.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    said: File,
    late: bool,
}

impl Server {
    /// Starts it in the user namespace of init, and returns what it serves as a mount.
    ///
    /// # Errors
    /// A namespace, device or directory that cannot be had, a program that cannot be run.
    pub fn start(wanted: &Served, userns: &OwnedFd) -> Result<(Server, OwnedFd), Errno> {
        let (ours, theirs) = sync::pair()?;
        let (said, stderr) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let join = Join { fd: userns.as_fd(), kinds: CloneFlags::CLONE_NEWUSER };
        let joins = if wanted.own_userns { vec![join] } else { Vec::new() };
        let child = clone::spawn(&joins, CloneFlags::empty(), None, &mut || {
            fds::abandon(ours.as_fd());
            let Err(errno) = serve(wanted, &theirs, &stderr);
            // Launch reads why not, or has the end of file.
            let _ = theirs.lend(Err(errno));
            process::exit_now(1)
        })
        .map_err(|error| error.errno)?;
        drop((theirs, stderr));
        let server = Server { child: Some(child), said: said.into(), late: false };
        // EBADMSG is the end of file: it died without a word.
        let mount =
            ours.lent().map_err(|errno| if errno == Errno::EBADMSG { Errno::ENOTCONN } else { errno })?;
        // Closed by the exec; whatever comes instead is why it failed.
        match ours.lent() {
            Err(Errno::EBADMSG) => Ok((server, mount)),
            Err(errno) => Err(errno),
            Ok(_) => Err(Errno::EBADMSG),
        }
    }

    /// What it has said so far, on one line.
    pub fn said(&mut self) -> String {
        if self.late {
            return format!("it has not answered in {} s", PATIENCE.as_secs());
        }
        let mut said = vec![0; 512];
        // Nothing yet (EAGAIN) is nothing.
        let len = self.said.read(&mut said).unwrap_or(0);
        said.truncate(len);
        one_line(&String::from_utf8_lossy(&said))
    }

    /// Ends it, whatever it does.
    fn kill(&self) {
        if let Some(child) = &self.child {
            // It may be dead already (ESRCH). What it has started holds the device open as it does; the number of
            // its group is still its own, since nobody has waited for it.
            let _ = pidfd::signal(&child.pidfd, libc::SIGKILL);
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(child.pid), Signal::SIGKILL);
        }
    }

    /// It has not answered in time.
    pub fn give_up(&mut self) {
        self.late = true;
        self.kill();
    }

    /// How others find it.
    pub fn service(&self) -> Option<Service> {
        let pid = self.child.as_ref()?.pid;
        Some(Service { pid, start_time: status::start_time(pid).ok()? })
    }

    /// It stays for as long as the container.
    pub fn keep(mut self) {
        self.child = None;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if let Some(child) = self.child.take() {
            let _ = sys::retry(|| nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid), None));
        }
    }
}

/// The server's life until it is one.
fn serve(wanted: &Served, launch: &Channel, stderr: &OwnedFd) -> Result<Infallible, Errno> {
    if wanted.root_inside {
        process::set_gid(0)?;
        process::set_uid(0)?;
    }
    clone::unshare(CloneFlags::CLONE_NEWNS)?;
    mount::mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)?;
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let path = |dir: &CString| open(dir.as_c_str(), directory, Mode::empty());
    let lower = wanted.layers.lower.iter().map(path).collect::<Result<Vec<_>, _>>()?;
    let storage = match &wanted.layers.upper {
        Upper::Kept(dir) => open(dir.as_c_str(), directory | OFlag::O_NOFOLLOW, Mode::empty())?,
        Upper::Memory => {
            let memory = init::memory()?;
            mount::attach(memory.as_fd(), path(&HIDDEN.to_owned())?.as_fd())?;
            memory
        }
    };
    let like = lower.first().map(|top| Like::of(top, wanted.layers.squash)).transpose()?;
    let upper = init::directory(&storage, c"upper", like.as_ref(), 0o755)?;
    let work = init::directory(&storage, c"work", None, 0o700)?;
    init::hollow(&upper, &wanted.empty)?;
    for (at, _) in &wanted.empty {
        empty_mark(&upper, at)?;
    }
    let device = open(c"/dev/fuse", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    let forbidden = init::forbidden(&lower)? | if wanted.layers.nodev { mount::ATTR_NODEV } else { 0 };
    let tree = fuse(&device, forbidden)?;
    launch.lend(Ok(tree))?;
    let argv = argv(wanted, &lower, &upper, &work, &device)?;
    for fd in lower.iter().chain([&upper, &work, &device]) {
        fds::set_cloexec(fd.as_raw_fd(), false)?;
    }
    let null = open(c"/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    for (fd, target) in [(&null, 0), (&null, 1), (stderr, 2)] {
        fds::install(fd.as_fd(), target)?;
    }
    nix::unistd::chdir(c"/")?;
    nix::unistd::setsid()?;
    process::restore_signals(&SigSet::empty())?;
    process::set_no_new_privs()?;
    let program = CString::new(wanted.program.as_os_str().as_encoded_bytes()).map_err(|_| Errno::EINVAL)?;
    let env = Strings::new(vec![c"PATH=/usr/bin:/bin".to_owned()]);
    Err(process::exec(&program, &Strings::new(argv), &env))
}

/// Where the upper layer that vanishes is mounted, in the server's mount namespace alone: a place that is there, and
/// in which no layer lies.
const HIDDEN: &CStr = c"/sys";

/// Has fuse-overlayfs show nothing of the lower layers there.
fn empty_mark(upper: &OwnedFd, at: &CString) -> Result<(), Errno> {
    let name = [&at.to_bytes()[1..], b"/.wh..wh..opq"].concat();
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(upper, name.as_c_str(), flags, Mode::empty()).map(drop)
}

/// A detached mount of what this device serves, for everybody who is in our user namespace.
fn fuse(device: &OwnedFd, attributes: u64) -> Result<OwnedFd, Errno> {
    let number = |n: String| CString::new(n).map_err(|_| Errno::EINVAL);
    let context = Context::open(c"fuse")?;
    context.string(c"source", c"fuse-overlayfs")?;
    context.string(c"subtype", c"fuse-overlayfs")?;
    context.string(c"fd", &number(device.as_raw_fd().to_string())?)?;
    context.string(c"rootmode", c"40000")?;
    context.string(c"user_id", &number(nix::unistd::geteuid().to_string())?)?;
    context.string(c"group_id", &number(nix::unistd::getegid().to_string())?)?;
    context.flag(c"allow_other")?;
    context.flag(c"default_permissions")?;
    context.mount(attributes)
}

/// What fuse-overlayfs is called with. Directories are named by descriptor, so nothing of them has to be escaped.
fn argv(
    wanted: &Served,
    lower: &[OwnedFd],
    upper: &OwnedFd,
    work: &OwnedFd,
    device: &OwnedFd,
) -> Result<Vec<CString>, Errno> {
    let named = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lower: Vec<_> = lower.iter().map(named).collect();
    let squash = if wanted.layers.squash { ",squash_to_root" } else { "" };
    let options =
        format!("lowerdir={},upperdir={},workdir={}{squash}", lower.join(":"), named(upper), named(work));
    let words = [
        format!("fuse-overlayfs[{}]", wanted.container),
        "-f".into(),
        "-o".into(),
        options,
        format!("/dev/fd/{}", device.as_raw_fd()),
    ];
    words.into_iter().map(|word: String| CString::new(word).map_err(|_| Errno::EINVAL)).collect()
}

/// Waits until the server of a container that has ended is gone; it is killed if it does not go.
pub fn dismiss(record: &Record) {
    let Some(service) = &record.service else { return };
    let fd = match service.process().pidfd() {
        Ok(Some(fd)) => fd,
        Ok(None) => return,
        Err(errno) => {
            let act = format!("cannot end fuse-overlayfs {} of container {}", service.pid, record.id);
            return warn(&Failure::errno(act, errno).to_string());
        }
    };
    let mut ended = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    if let Ok(0) = sys::retry(|| poll(&mut ended, PollTimeout::from(FAREWELL_MS))) {
        debug(|| format!("killing fuse-overlayfs {} of container {}", service.pid, record.id));
        let _ = pidfd::signal(&fd, libc::SIGKILL);
    }
    // For whoever is still its parent; ECHILD for all others.
    let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(service.pid), None);
}

// ---- the directory for changes ------------------------------------------------------------------------

/// The directory in which changes are kept, ours alone until it is dropped. Unless it is kept, it is removed if it
/// was made here.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    lock: File,
    made: bool,
}

/// Whose changes a directory holds: it is theirs for as long as that process lives.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    container: String,
    boot_id: String,
    service: Service,
}

impl Kept {
    /// Makes and locks the directory that a plan asks for.
    ///
    /// # Errors
    /// One that cannot be made, that belongs to somebody else, or that another container uses.
    pub fn open(plan: &Plan) -> Result<Option<Kept>, Failure> {
        let Some(path) = Kept::asked(plan)? else { return Ok(None) };
        let act = || Kept::act(plan, path);
        let made = match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error).act(act),
        };
        let owner = plan.idmap.maps().and_then(|_| plan.idmap.outside(0));
        let us = nix::unistd::geteuid().as_raw();
        if made && us == 0 {
            // Its root has to get in, and nobody else.
            std::os::unix::fs::chown(path, owner, None).act(act)?;
        }
        Kept::check_owner(&path.symlink_metadata().act(act)?, plan, path)?;
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW);
        let mut lock = options.open(path.join("lock")).act(act)?;
        let fd = OwnedFd::from(lock.try_clone().act(act)?);
        let locked = fds::lock(&fd, Lock::Try);
        let mut text = String::new();
        lock.read_to_string(&mut text).act(act)?;
        Kept::check_use(&text, locked.is_err(), plan, path)?;
        Ok(Some(Kept { path: path.clone(), lock, made }))
    }

    /// What [`Kept::open`] would say, for who only asks.
    ///
    /// # Errors
    /// Likewise, as far as it can be seen.
    pub fn check(plan: &Plan) -> Result<(), Failure> {
        let Some(path) = Kept::asked(plan)? else { return Ok(()) };
        // What is not there would be made.
        let Ok(meta) = path.symlink_metadata() else { return Ok(()) };
        Kept::check_owner(&meta, plan, path)?;
        let holder = std::fs::read_to_string(path.join("lock")).unwrap_or_default();
        Kept::check_use(&holder, false, plan, path)
    }

    /// The directory that a plan asks for.
    fn asked(plan: &Plan) -> Result<Option<&PathBuf>, Failure> {
        let Some(Changes::Kept(path)) = plan.layers.as_ref().map(|asked| &asked.changes) else {
            return Ok(None);
        };
        apart(path, plan.layers.as_ref().map(|asked| &asked.wanted)).map_err(|cause| {
            Failure::new(Kept::act(plan, path), cause).fix("name a directory elsewhere with --overlay")
        })?;
        Ok(Some(path))
    }

    fn act(plan: &Plan, path: &Path) -> String {
        format!("cannot keep the changes of container {} in {}", plan.id, path.display())
    }

    fn check_owner(meta: &std::fs::Metadata, plan: &Plan, path: &Path) -> Result<(), Failure> {
        let act = || Kept::act(plan, path);
        if !meta.is_dir() {
            return Err(
                Failure::new(act(), "not a directory").fix("name a directory, or one that is not there yet")
            );
        }
        let owner = plan.idmap.maps().and_then(|_| plan.idmap.outside(0));
        if meta.uid() != nix::unistd::geteuid().as_raw() && Some(meta.uid()) != owner {
            let cause = format!(
                "it belongs to uid {}, who could change what the container runs: operation not permitted",
                meta.uid()
            );
            return Err(Failure::new(act(), cause).fix("name a directory of your own"));
        }
        Ok(())
    }

    /// `holder` is what its lock says.
    fn check_use(holder: &str, locked: bool, plan: &Plan, path: &Path) -> Result<(), Failure> {
        let holder: Option<Holder> = serde_json::from_str(holder).ok();
        let used_by = holder.filter(Holder::lives).map(|holder| holder.container);
        if used_by.is_some() || locked {
            let whom = used_by.map_or("another container".into(), |id| format!("container {id}"));
            let cause = format!("{whom} uses it: device or resource busy");
            return Err(Failure::new(Kept::act(plan, path), cause)
                .fix("stop that container, or name another directory"));
        }
        Ok(())
    }

    /// Has others find it in use for as long as this process lives.
    ///
    /// # Errors
    /// That of writing it down.
    pub fn hold(&self, record: &Record) -> Result<(), Failure> {
        let act = || format!("cannot keep the changes of container {} in {}", record.id, self.path.display());
        let service = Service { pid: record.pid, start_time: record.start_time };
        let holder = Holder { container: record.id.clone(), boot_id: record.boot_id.clone(), service };
        let text = serde_json::to_vec(&holder).map_err(|error| Failure::new(act(), error.to_string()))?;
        let mut file = &self.lock;
        file.rewind().and_then(|()| file.set_len(0)).and_then(|()| file.write_all(&text)).act(act)
    }

    /// The descriptor with the lock: nobody else may have a copy.
    pub fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// The container has come up.
    pub fn keep(mut self) {
        self.made = false;
    }
}

/// Refuses a directory for changes in one of the layers, and the other way round: what is written to it would be
/// changing what lies below. The machine's own root is no such layer, since nothing is anywhere else.
fn apart(kept: &Path, wanted: Option<&Wanted>) -> Result<(), String> {
    let Some(wanted) = wanted.filter(|wanted| wanted.lower != Lower::Host) else { return Ok(()) };
    // It need not be there yet; one that cannot be is refused where it is made.
    let above = kept.parent().and_then(|dir| Some(dir.canonicalize().ok()?.join(kept.file_name()?)));
    let Some(kept) = kept.canonicalize().ok().or(above) else { return Ok(()) };
    // One that does not exist is refused where it is used.
    for layer in wanted.stack(false).into_iter().filter_map(|dir| dir.canonicalize().ok()) {
        if kept.starts_with(&layer) || layer.starts_with(&kept) {
            let layer = layer.display();
            return Err(format!("it and layer {layer} lie one in the other: invalid argument"));
        }
    }
    Ok(())
}

impl Holder {
    fn lives(&self) -> bool {
        // Where the boot is not to be told, the start time has to do; and where nothing is, it is in use.
        let this_boot = status::boot_id().map_or(true, |id| id == self.boot_id);
        this_boot && self.service.process().alive().unwrap_or(true)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if !self.made {
            return;
        }
        // Undo, of what is empty: what was written there by a container that got so far stays.
        for name in ["work/work", "work", "upper"] {
            let _ = std::fs::remove_dir(self.path.join(name));
        }
        let _ = std::fs::remove_file(self.path.join("lock"));
        let _ = std::fs::remove_dir(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::step::Layers;

    #[test]
    fn fuse_overlayfs_is_called_with_descriptors_alone() {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let layers = Layers {
            place: c"/p".to_owned(),
            lower: vec![c"/a,b:c\\d".to_owned()],
            upper: Upper::Memory,
            userxattr: true,
            squash: true,
            nodev: false,
            own_parent: false,
        };
        let served = Served {
            layers,
            container: "web".into(),
            program: "/usr/bin/fuse-overlayfs".into(),
            empty: Vec::new(),
            root_inside: true,
            own_userns: true,
        };
        let (lower, upper, work, device) = ([null(), null()], null(), null(), null());
        let argv = argv(&served, &lower, &upper, &work, &device).unwrap();
        let argv: Vec<_> = argv.iter().map(|word| word.to_str().unwrap()).collect();
        let [low, high] = [&lower[0], &lower[1]].map(AsRawFd::as_raw_fd);
        let [upper, work, device] = [&upper, &work, &device].map(AsRawFd::as_raw_fd);
        let options = format!(
            "lowerdir=/proc/self/fd/{low}:/proc/self/fd/{high},upperdir=/proc/self/fd/{upper},\
             workdir=/proc/self/fd/{work},squash_to_root"
        );
        assert_eq!(argv, ["fuse-overlayfs[web]", "-f", "-o", &options, &format!("/dev/fd/{device}")]);
    }
}
