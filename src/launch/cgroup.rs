//! The container's cgroup from launch's side: made before init is, or by systemd around it; and taken away again.
//!
//! A directory of ours is made and limited first, and init is born in it: nothing is moved, so no other process of
//! the machine waits for it (a write to cgroup.procs stops every fork and exit for an RCU grace period). A scope
//! needs a process to begin with, so systemd makes it while init waits for its maps. Either way init makes its
//! cgroup namespace afterwards, rooted here.
//!
//! What is about to be made is written down by the caller before it is made ([`Home::planned`]), so that whoever
//! finds the traces of a runtime that was killed knows what to remove.

pub mod limits;

use super::idmap;
use crate::cgroup::systemd::{self, Systemd};
use crate::cgroup::{self, Cgroup, devices};
use crate::plan::Plan;
use crate::plan::cgroup::{self as plan, Directory, Owner, Place, Scope};
use crate::plan::idmap::Idmap;
use crate::plan::limits::Setting;
use crate::report::{Act, Failure, debug, errno_text};
use crate::state::{RecordedCgroup, Unit};
use crate::sync::{self, ToInit};
use crate::sys::clone::{self, Child};
use crate::sys::{self, Errno};
use nix::sched::CloneFlags;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// The cgroup of a container on its way; what was made of it is removed again unless it is kept.
#[derive(Debug, Default)]
pub struct Home {
    container: String,
    record: Option<RecordedCgroup>,
    cgroup: Option<Cgroup>,
}

impl Home {
    /// What is going to be made, for the container whose state is in this directory.
    ///
    /// # Errors
    /// A place where somebody else is.
    pub fn planned(plan: &Plan, state: &Path) -> Result<Home, Failure> {
        let Some(wanted) = &plan.cgroup else { return Ok(Home::default()) };
        let given = matches!(wanted.owner, Some(Owner::Inside(_))).then(|| plan.idmap.clone());
        let record = match &wanted.place {
            Place::Directory(directory) => {
                let new = directory.path.ancestors().take_while(|path| !cgroup::place(path).exists());
                let top = new.last().unwrap_or(&directory.path).to_path_buf();
                if let Ok(cgroup) = Cgroup::open(&directory.path) {
                    unoccupied(&cgroup, &plan.id)?;
                }
                RecordedCgroup { path: directory.path.clone(), top, inode: None, given, unit: None }
            }
            Place::Scope(scope) => {
                if let Some(cgroup) = scope.path.as_deref().and_then(|path| Cgroup::open(path).ok()) {
                    unoccupied(&cgroup, &plan.id)?;
                }
                // Where systemd puts it is known once it has.
                RecordedCgroup {
                    path: PathBuf::new(),
                    top: PathBuf::new(),
                    inode: None,
                    given,
                    unit: Some(Unit {
                        name: scope.unit.clone(),
                        // By this it is told from another's of the same name.
                        description: format!("{} ({})", scope.description, state.display()),
                        user: scope.user,
                        bus: scope.bus.clone(),
                    }),
                }
            }
        };
        Ok(Home { container: plan.id.clone(), record: Some(record), cgroup: None })
    }

    /// What there is to remember.
    pub fn record(&self) -> Option<&RecordedCgroup> {
        self.record.as_ref()
    }

    /// Makes what can be made before there is a process.
    ///
    /// # Errors
    /// `CG-NODELEG` for a place that is not ours, `CG-CTRL` for a controller that is not to be had, a limit that
    /// the kernel does not take.
    pub fn make(&mut self, plan: &Plan) -> Result<(), Failure> {
        let Some(plan::Cgroup { place: Place::Directory(directory), .. }) = &plan.cgroup else {
            return Ok(());
        };
        let (cgroup, made) = make(directory, &plan.id)?;
        // What was there when it was planned may have been removed meanwhile.
        let above = self.record.as_ref().is_some_and(|record| record.top.starts_with(&made));
        self.note(directory.path.clone(), above.then_some(made))?;
        furnish(&cgroup, &cgroup, plan)?;
        self.cgroup = Some(cgroup);
        Ok(())
    }

    /// Where init is to be born.
    pub fn entrance(&self) -> Option<BorrowedFd<'_>> {
        self.cgroup.as_ref().map(AsFd::as_fd)
    }

    /// Has init live there; `born_inside` if it does already.
    ///
    /// # Errors
    /// `CG-NOBUS` where systemd is not to be reached, what systemd says, and as [`Home::make`].
    pub fn settle(&mut self, plan: &Plan, child: &Child, born_inside: bool) -> Result<(), Failure> {
        match plan.cgroup.as_ref().map(|wanted| &wanted.place) {
            Some(Place::Directory(_)) if !born_inside => {
                let Some(cgroup) = &self.cgroup else { return Ok(()) };
                cgroup.take_in(child.pid).map_err(|errno| not_ours(cgroup.path(), &plan.id, errno))
            }
            Some(Place::Scope(scope)) => self.enclose(scope, plan, child),
            _ => Ok(()),
        }
    }

    /// Has another process live there as well.
    ///
    /// # Errors
    /// `EBUSY` where processes may only be in leaves.
    pub fn take_in(&self, pid: i32) -> sys::Result<()> {
        self.record.as_ref().map_or(Ok(()), |record| record.open()?.take_in(pid))
    }

    /// Has systemd put a scope around init.
    fn enclose(&mut self, scope: &Scope, plan: &Plan, child: &Child) -> Result<(), Failure> {
        let act = || format!("cannot make unit {} of container {}", scope.unit, plan.id);
        let mut systemd =
            Systemd::connect(&scope.bus).map_err(|trouble| told(act(), &trouble, scope.user))?;
        let unit = self.record.as_ref().and_then(|record| record.unit.as_ref());
        let wanted = systemd::Scope {
            name: &scope.unit,
            slice: &scope.slice,
            description: unit.map_or(scope.description.as_str(), |unit| unit.description.as_str()),
            properties: &scope.properties,
        };
        systemd
            .start_scope(&wanted, &[systemd::Process { pid: child.pid, pidfd: child.pidfd.as_fd() }])
            .map_err(|trouble| {
                // A unit of that name is another's then. After any other trouble it may be ours, or become it.
                if matches!(trouble, systemd::Trouble::Refused { .. }) {
                    self.record = None;
                }
                told(act(), &trouble, scope.user)
            })?;
        let failed = |errno| Failure::errno(act(), errno);
        let path = cgroup::of_process(child.pid).map_err(failed)?;
        debug(|| format!("cgroup of {}: {}", plan.id, path.display()));
        // One that has ended stays where it was, and systemd does not mind. What is there, the caller's session say, is
        // not ours to limit, and still less to kill.
        if !is_of(&path, &scope.unit) {
            return Err(Failure::new(act(), format!("init is in {} still: no such process", path.display())));
        }
        let top = Cgroup::open(&path).map_err(failed)?;
        self.note(path.clone(), Some(path.clone()))?;
        // Init would be waited for in vain.
        unfrozen(&top, &plan.id)?;
        let lowest = scope.below.iter().try_fold(top, |above, name| {
            let (below, _) = above.make_child(name)?;
            // First the process, then the controllers: they are for leaves.
            below.take_in(child.pid)?;
            // One that cannot be had shows in the limit that needs it.
            let _ = hand_down(&above, &above.controllers()?);
            Ok(below)
        });
        let lowest = lowest.map_err(failed)?;
        if plan.cgroup.as_ref().is_some_and(|wanted| wanted.settings.iter().any(Setting::is_bandwidth)) {
            systemd.settle(&scope.unit).map_err(|trouble| told(act(), &trouble, scope.user))?;
        }
        self.note(lowest.path().to_path_buf(), None)?;
        let top = Cgroup::open(&path).map_err(failed)?;
        furnish(&lowest, &top, plan)
    }

    /// It is made, and known from here on by more than its name.
    fn note(&mut self, path: PathBuf, top: Option<PathBuf>) -> Result<(), Failure> {
        let Some(record) = &mut self.record else { return Ok(()) };
        record.path = path;
        record.top = top.unwrap_or_else(|| std::mem::take(&mut record.top));
        let inode = Cgroup::open(record.own()).and_then(|own| own.inode());
        record.inode = Some(inode.act(|| format!("cannot look at cgroup {}", record.own().display()))?);
        Ok(())
    }

    /// It is the container's.
    pub fn keep(mut self) {
        self.record = None;
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Undo. The error that led here is the one to tell; that something stays as well is worth a word.
        if let Some(Err(failure)) = self.record.take().map(|record| dissolve(&record, &self.container)) {
            eprintln!("bryo: warning: {failure}");
        }
    }
}

/// Whether a cgroup is that of a unit. systemd writes an underscore before a name that the kernel could take for one of
/// its own files (`cg_escape`).
fn is_of(cgroup: &Path, unit: &str) -> bool {
    let name = cgroup.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name == unit || name.strip_prefix('_') == Some(unit)
}

/// Writes the limits and the device filter, and gives the delegation away.
fn furnish(cgroup: &Cgroup, top: &Cgroup, plan: &Plan) -> Result<(), Failure> {
    let Some(wanted) = &plan.cgroup else { return Ok(()) };
    if top.path() != cgroup.path() {
        // Who named the unit looks for them there, and what is protected counts as far as it is protected above.
        limits::apply(top, &wanted.settings, &plan.id)?;
    }
    limits::apply(cgroup, &wanted.settings, &plan.id)?;
    if let Some(rules) = &wanted.devices {
        devices::attach(top, rules, &plan.id)?;
    }
    if let Some(Owner::Outside(uid, files)) = &wanted.owner {
        sys::path::give(cgroup.as_fd(), files, *uid).map_err(|errno| {
            Failure::errno(format!("cannot give cgroup {} to uid {uid}", cgroup.path().display()), errno)
        })?;
    }
    Ok(())
}

/// How often to begin again with a cgroup that others remove at the same time.
const TRIES: usize = 100;

/// Makes the directories down to a cgroup, each with as many controllers as can be had. Says which is the topmost
/// that was not there.
///
/// A directory on the way may be removed under our feet: whoever has made it takes it away when it is empty again.
/// Then we make it anew.
fn make(directory: &Directory, id: &str) -> Result<(Cgroup, PathBuf), Failure> {
    let act = || format!("cannot make cgroup {} of container {id}", directory.path.display());
    for _ in 0..TRIES {
        match descend(directory, id) {
            Err(Obstacle::Removed) => {}
            Err(Obstacle::Refused(failure)) => return Err(failure),
            Ok((cgroup, Some(made))) => return Ok((cgroup, made)),
            Ok((cgroup, None)) => {
                unoccupied(&cgroup, id)?;
                return Ok((cgroup, directory.path.clone()));
            }
        }
    }
    Err(Failure::errno(act(), Errno::EBUSY))
}

/// What is in the way of a directory.
enum Obstacle {
    /// One above it is gone.
    Removed,
    Refused(Failure),
}

/// Tells the two apart: what the kernel says of a cgroup that is gone, it says of nothing else on this way.
fn obstacle(errno: Errno, failure: impl FnOnce(Errno) -> Failure) -> Obstacle {
    match errno {
        Errno::ENOENT | Errno::ENODEV => Obstacle::Removed,
        errno => Obstacle::Refused(failure(errno)),
    }
}

fn descend(directory: &Directory, id: &str) -> Result<(Cgroup, Option<PathBuf>), Obstacle> {
    let refused = |cause: &str| {
        let act = format!("cannot make cgroup {} of container {id}", directory.path.display());
        Obstacle::Refused(Failure::new(act, cause))
    };
    let below = directory.path.strip_prefix("/").unwrap_or(&directory.path);
    let mut cgroup = Cgroup::open(Path::new("/")).map_err(|errno| refused(&errno_text(errno)))?;
    let mut made = None;
    for name in below {
        if cgroup.path().starts_with(&directory.from) {
            enable(&cgroup, directory, id)?;
        }
        let name = name.to_str().ok_or_else(|| refused("it is not UTF-8: invalid argument"))?;
        let (child, new) = cgroup
            .make_child(name)
            .map_err(|errno| obstacle(errno, |errno| not_ours(&directory.path, id, errno)))?;
        cgroup = child;
        if new && made.is_none() {
            made = Some(cgroup.path().to_path_buf());
        }
    }
    Ok((cgroup, made))
}

/// Whoever is in a cgroup would be limited, frozen and killed with the container.
fn unoccupied(cgroup: &Cgroup, id: &str) -> Result<(), Failure> {
    let act = || format!("cannot make cgroup {} of container {id}", cgroup.path().display());
    let found = cgroup.processes().map_err(|errno| Failure::errno(act(), errno))?;
    if !found.is_empty() {
        let cause = format!(
            "container's cgroup is not empty: {} process(es) found: device or resource busy",
            found.len()
        );
        return Err(Failure::new(act(), cause).fix("choose another linux.cgroupsPath"));
    }
    unfrozen(cgroup, id)
}

fn unfrozen(cgroup: &Cgroup, id: &str) -> Result<(), Failure> {
    if !cgroup.is_paused() {
        return Ok(());
    }
    let act = format!("cannot make cgroup {} of container {id}", cgroup.path().display());
    let cause = "container's cgroup unexpectedly frozen: device or resource busy";
    Err(Failure::new(act, cause).fix("choose another linux.cgroupsPath, or write 0 to its cgroup.freeze"))
}

/// Enables for the cgroups below one all its controllers that are not yet.
///
/// Not while it has processes itself: the kernel refuses that of memory, and of cpu and pids it makes a cgroup with
/// threads in it below which no process can be (cgroups(7), "no internal processes" and "thread mode"). Only the
/// hierarchy's real root may have both.
fn enable(cgroup: &Cgroup, directory: &Directory, id: &str) -> Result<(), Obstacle> {
    let act = || format!("cannot make cgroup {} of container {id}", directory.path.display());
    let stopped = |errno| obstacle(errno, |errno| Failure::errno(act(), errno));
    let given = cgroup.given().map_err(stopped)?;
    let mut missing = cgroup.controllers().map_err(stopped)?;
    missing.retain(|controller| !given.contains(controller));
    let needed = |controller: &String| directory.needed.iter().any(|needed| needed == controller);
    if missing.is_empty() {
        return Ok(());
    }
    if !cgroup.is_root() && !cgroup.read("cgroup.procs").map_err(stopped)?.is_empty() {
        let Some(controller) = missing.iter().find(|controller| needed(controller)) else { return Ok(()) };
        let Some(aside) = directory.aside else {
            return Err(Obstacle::Refused(not_given(cgroup, controller, Errno::EBUSY, act())));
        };
        make_room(cgroup, aside).map_err(stopped)?;
    }
    // One that nobody needs is only missing in the statistics.
    match hand_down(cgroup, &missing).into_iter().find(|(controller, _)| needed(controller)) {
        Some((_, Errno::ENODEV)) => Err(Obstacle::Removed),
        Some((controller, errno)) => Err(Obstacle::Refused(not_given(cgroup, &controller, errno, act()))),
        None => Ok(()),
    }
}

/// Enables controllers for the cgroups below one. Returns those that cannot be had, and why.
fn hand_down(cgroup: &Cgroup, controllers: &[String]) -> Vec<(String, Errno)> {
    let words: Vec<String> = controllers.iter().map(|controller| format!("+{controller}")).collect();
    // All of them, or none is.
    if cgroup.write("cgroup.subtree_control", &words.join(" ")).is_ok() {
        return Vec::new();
    }
    let each = controllers.iter().zip(&words);
    let tried = each.map(|(name, word)| (name.clone(), cgroup.write("cgroup.subtree_control", word)));
    tried.filter_map(|(name, written)| Some((name, written.err()?))).collect()
}

fn not_given(cgroup: &Cgroup, controller: &str, errno: Errno, act: String) -> Failure {
    let place = cgroup.path().display();
    let cause = format!("the {controller} controller cannot be enabled in {place}: {}", errno_text(errno));
    Failure::new(act, cause)
        .code("CG-CTRL")
        .fix(format!(
            "have {controller} delegated (Delegate= of the unit), or do without with --cgroup-manager=disabled --degrade=limits"
        ))
}

/// Moves the processes of a cgroup into one below it.
fn make_room(cgroup: &Cgroup, name: &str) -> sys::Result<()> {
    let (aside, _) = cgroup.make_child(name)?;
    // They may fork while we are at it: until there are none left, but not for ever.
    for _ in 0..100 {
        let text = cgroup.read("cgroup.procs")?;
        if text.is_empty() {
            return Ok(());
        }
        for pid in text.lines().filter_map(|line| line.parse().ok()) {
            match aside.take_in(pid) {
                // It has ended.
                Err(Errno::ESRCH) => {}
                other => other?,
            }
        }
    }
    Err(Errno::EBUSY)
}

fn not_ours(path: &Path, id: &str, errno: Errno) -> Failure {
    let failure = Failure::errno(format!("cannot make cgroup {} of container {id}", path.display()), errno);
    match errno {
        Errno::EACCES | Errno::EPERM | Errno::EROFS => failure
            .code("CG-NODELEG")
            .fix("leave linux.cgroupsPath out, use --systemd-cgroup, or systemd-run --user --scope -p Delegate=yes bryo ..."),
        _ => failure,
    }
}

/// What systemd, or the way to it, has against something.
fn told(act: String, trouble: &systemd::Trouble, user: bool) -> Failure {
    let failure = Failure::new(act, trouble.to_string());
    match trouble {
        systemd::Trouble::Unreachable(_) if user => failure
            .code("CG-NOBUS")
            .fix("log in with a session (ssh, machinectl shell), or use --cgroup-manager disabled"),
        systemd::Trouble::Unreachable(_) => failure.code("CG-NOBUS").fix("use --cgroup-manager cgroupfs"),
        _ => failure,
    }
}

/// Kills what is in a container's cgroup and removes it, and has systemd forget the unit. What has its name by now
/// and is another's is left alone.
///
/// # Errors
/// A process that does not die, a directory or unit that stays.
pub fn dissolve(record: &RecordedCgroup, id: &str) -> Result<(), Failure> {
    let act = || format!("cannot remove cgroup {} of container {id}", record.path.display());
    match (record.open_own(), record.inode) {
        (Ok(own), _) => own.empty().act(act)?,
        // It is gone, and a unit goes with its cgroup, unless it has failed.
        (Err(Errno::ENOENT), Some(_)) if cgroup::place(record.own()).exists() => return Ok(()),
        (Err(Errno::ENOENT), Some(_)) => {}
        // Whoever was to make it was killed meanwhile. Init ends by itself then.
        (_, None) => return forget(record, id),
        (Err(errno), _) => return Err(Failure::errno(act(), errno)),
    }
    // Before systemd tries, which has no more right to it than we have.
    let cleared = match record.open_own().and_then(|own| own.clear()) {
        Err(errno @ (Errno::EACCES | Errno::EPERM)) => match &record.given {
            Some(idmap) => clear_as_given(record, idmap, id)?,
            None => Err(errno),
        },
        // systemd may be faster.
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        other => other,
    };
    cleared.act(act)?;
    if let Some(unit) = &record.unit {
        stop(unit, id, |systemd| systemd.stop(&unit.name))?;
    }
    cgroup::remove(&record.path, &record.top).act(act)
}

/// Takes away what a runtime that was killed may have made: an empty cgroup, or a unit that was made for this very
/// container.
fn forget(record: &RecordedCgroup, id: &str) -> Result<(), Failure> {
    let Some(unit) = &record.unit else {
        let act = || format!("cannot remove cgroup {} of container {id}", record.path.display());
        return cgroup::remove(&record.path, &record.top).act(act);
    };
    stop(unit, id, |systemd| {
        if systemd.describes(&unit.name)? == unit.description { systemd.stop(&unit.name) } else { Ok(()) }
    })
}

/// Has systemd stop a unit, if it is to be reached: it finds out by itself, as it does for every scope that has
/// become empty.
fn stop(
    unit: &Unit,
    id: &str,
    ask: impl FnOnce(&mut Systemd) -> Result<(), systemd::Trouble>,
) -> Result<(), Failure> {
    match Systemd::connect(&unit.bus).and_then(|mut systemd| ask(&mut systemd)) {
        Ok(()) | Err(systemd::Trouble::Unreachable(_)) => Ok(()),
        Err(trouble) => {
            Err(told(format!("cannot stop unit {} of container {id}", unit.name), &trouble, unit.user))
        }
    }
}

/// Removes what is below a cgroup as root of a user namespace like the container's.
fn clear_as_given(record: &RecordedCgroup, idmap: &Idmap, id: &str) -> Result<sys::Result<()>, Failure> {
    let act = || format!("cannot remove cgroup {} of container {id}", record.path.display());
    let own = record.open_own().act(act)?;
    let (ours, theirs) = sync::pair().act(act)?;
    let child = clone::spawn(&[], CloneFlags::CLONE_NEWUSER, None, &mut || {
        sys::fds::abandon(ours.as_fd());
        let cleared = match theirs.told() {
            // Whatever our ids are inside, the namespace's capabilities are ours.
            Ok(Some(ToInit::Mapped)) => own.clear(),
            _ => Err(Errno::EPIPE),
        };
        sys::process::exit_now(cleared.map_or_else(|errno| errno as i32, |()| 0))
    });
    let child = child.map_err(|error| Failure::errno(act(), error.errno))?;
    let mapped = idmap::write(idmap, child.pid, &id).and_then(|()| ours.tell(ToInit::Mapped).act(act));
    // Without its word it ends at once.
    drop((ours, theirs));
    let ended =
        sys::retry(|| nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid), None)).act(act)?;
    mapped?;
    Ok(match ended {
        nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
        nix::sys::wait::WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno)),
        _ => Err(Errno::ECHILD),
    })
}

/// How a process that joins a container gets into its cgroup.
#[derive(Debug)]
pub struct Entrance<'a> {
    record: &'a RecordedCgroup,
    cgroup: Cgroup,
}

impl<'a> Entrance<'a> {
    /// The container's own cgroup, or one below it.
    ///
    /// # Errors
    /// One that does not exist.
    pub fn find(record: &'a RecordedCgroup, below: Option<&Path>, init: i32) -> sys::Result<Entrance<'a>> {
        let cgroup = match record.open() {
            // Init has left it, as root's may without a cgroup namespace, and it was removed.
            Err(Errno::ENOENT) if below.is_none() => Cgroup::open(&cgroup::of_process(init)?)?,
            other => other?,
        };
        if let Some(below) = below {
            return Ok(Entrance { record, cgroup: Cgroup::open(&record.path.join(below))? });
        }
        // It has divided its cgroup up, and only leaves take processes ("no internal processes", cgroups(7)): that of
        // init will do.
        if !cgroup.given()?.is_empty() {
            let home = cgroup::of_process(init)?;
            if home.starts_with(&record.path) {
                return Ok(Entrance { record, cgroup: Cgroup::open(&home)? });
            }
        }
        Ok(Entrance { record, cgroup })
    }

    /// What to be born in.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.cgroup.as_fd()
    }

    /// Moves in a process that could not be born inside.
    ///
    /// # Errors
    /// A container that would have a process outside of its limits.
    pub fn admit(&self, pid: i32, id: &str) -> Result<(), Failure> {
        let act = || format!("cannot enter cgroup {} of container {id}", self.cgroup.path().display());
        match (self.cgroup.take_in(pid), &self.record.unit) {
            (Ok(()), _) => Ok(()),
            // We are outside of what we may write to, in a login session say; systemd is not.
            (Err(Errno::EACCES | Errno::EPERM | Errno::ENOENT), Some(unit)) => {
                let below = self.cgroup.path().strip_prefix(&self.record.top).unwrap_or(Path::new(""));
                let below = if below.as_os_str().is_empty() {
                    String::new()
                } else {
                    format!("/{}", below.display())
                };
                Systemd::connect(&unit.bus)
                    .and_then(|mut systemd| systemd.attach(&unit.name, &below, &[pid]))
                    .map_err(|trouble| told(act(), &trouble, unit.user))
            }
            // The words are runc's.
            (Err(errno), _) => {
                Err(Failure::new(act(), format!("adding pid {pid} to cgroups: {}", errno_text(errno))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_a_units_by_its_last_name() {
        let is_of = |path: &str, unit| is_of(Path::new(path), unit);
        assert!(is_of("/user.slice/bryo-web.scope", "bryo-web.scope"));
        assert!(is_of("/user.slice/_memory.scope", "memory.scope"));
        assert!(!is_of("/user.slice/user-1000.slice/session-1.scope", "bryo-web.scope"));
        assert!(!is_of("/bryo-web.scope/container", "bryo-web.scope"));
        assert!(!is_of("/", "bryo-web.scope"));
    }
}
