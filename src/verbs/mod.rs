//! The verbs, one file each, each told as a story.

mod bundle;
mod checkpoint;
mod create;
mod delete;
mod doctor;
mod events;
mod exec;
mod explain;
mod kill;
mod list;
mod manual;
mod pause;
mod ps;
mod remove_tree;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod unshare;
mod update;

use crate::cli::{Global, Log, Verb};
use crate::host;
use crate::plan::cgroup::Manager;
use crate::plan::degrade::Policy;
use crate::report::{Act, Failure, warn};
use crate::state::store::{Store, Whereabouts};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The exit code of an exec that failed itself (runc; Podman tells it from the program's own).
const EXEC_FAILED: u8 = 255;

/// Tells of a command line that makes no sense, where it says that errors are told.
pub fn misused(args: &[OsString], line: &str) -> u8 {
    tell(&crate::cli::log(args), line);
    // exec fails with 255 whatever the reason. Of a line that does not parse, this is the best guess.
    let mut words = args.iter().skip(1);
    let verb = words.find(|word| crate::cli::VERBS.iter().any(|verb| word == verb));
    if verb.is_some_and(|verb| verb == "exec") { EXEC_FAILED } else { 1 }
}

/// Runs a verb to its exit code. Errors are told here and nowhere else.
pub fn call(global: &Global, verb: Verb) -> u8 {
    // Whoever reads the log learns nothing of what is done without it.
    if let Some(Err(failure)) = global.log.file.as_deref().map(make_log) {
        let _ = writeln!(std::io::stderr(), "bryo: {failure}");
        return 1;
    }
    if global.debug {
        let log = global.log.clone();
        crate::report::set_debug(move |line| note(log.file.as_deref(), &entry("debug", line, log.json)));
    }
    let failed = if matches!(verb, Verb::Exec(_)) { EXEC_FAILED } else { 1 };
    match dispatch(global, verb) {
        Ok(code) => code,
        Err(failure) => {
            tell(&global.log, &failure.to_string());
            failure.exit_status().unwrap_or(failed)
        }
    }
}

fn dispatch(global: &Global, verb: Verb) -> Result<u8, Failure> {
    let store = || state_directory(global, false);
    let policy = || {
        let words = global.degrade.as_deref().unwrap_or("auto");
        Policy::parse(words).map_err(|cause| {
            Failure::new("cannot read --degrade", cause)
                .fix(format!("use one or more of {}, with commas between them", Policy::words()))
        })
    };
    match verb {
        Verb::Bundle(flags) => bundle::bundle(&flags, &policy()?),
        Verb::Completion { shell } => manual::completion(&shell),
        Verb::Man { verb, all } => manual::man(verb.as_deref(), all.as_deref()),
        Verb::Explain(flags) => {
            explain::explain(&state_directory(global, true)?, &flags, policy()?, manager(global))
        }
        Verb::Create(flags) => create::create(&store()?, &flags, policy()?, manager(global)),
        Verb::Run(flags) => run::run(&store()?, &flags, policy()?, manager(global)),
        Verb::Start { id } => start::start(&store()?, &id),
        Verb::State { id } => state::state(&store()?, &id),
        Verb::Kill { id, signal, all } => kill::kill(&store()?, &id, &signal, all),
        Verb::Delete { id, force } => delete::delete(&store()?, &id, force),
        Verb::List { quiet, json } => list::list(&store()?, global.root.is_some(), quiet, json),
        Verb::Ps { id, json, args } => ps::ps(&store()?, &id, json, &args),
        Verb::Doctor(flags) => doctor::doctor(&flags, global.root.as_deref()),
        Verb::Exec(flags) => exec::exec(&store()?, &flags, &policy()?),
        Verb::Spec(flags) => spec::spec(flags),
        Verb::Features => spec::features(),
        Verb::Pause { id } => pause::pause(&store()?, &id),
        Verb::Resume { id } => pause::resume(&store()?, &id),
        Verb::Events { id, interval, stats } => events::events(&store()?, &id, &interval, stats),
        Verb::RemoveTree { paths } => remove_tree::remove_tree(&paths, &policy()?),
        Verb::Unshare { command } => unshare::unshare(command, &policy()?),
        Verb::Update(flags) => update::update(&store()?, &flags),
        Verb::Checkpoint(flags) => checkpoint::checkpoint(&store()?, &flags, global.criu.as_deref()),
        Verb::Restore(flags) => {
            restore::restore(&store()?, &flags, policy()?, manager(global), global.criu.as_deref())
        }
    }
}

/// Who is to make cgroups: the flags of runc and of crun for it.
fn manager(global: &Global) -> Option<Manager> {
    match global.cgroup_manager.as_deref() {
        Some("disabled") => Some(Manager::Disabled),
        Some("systemd") => Some(Manager::Systemd),
        _ if global.systemd_cgroup => Some(Manager::Systemd),
        Some(_) => Some(Manager::Cgroupfs),
        None => None,
    }
}

/// Where the states are; made, where the default has to be made first, unless the caller is only looking.
fn state_directory(global: &Global, only_looking: bool) -> Result<Store, Failure> {
    if let Some(root) = &global.root {
        let root = std::path::absolute(root).map_err(|e| {
            Failure::new(format!("cannot use state directory {}", root.display()), crate::report::io_text(&e))
        })?;
        return Ok(Store::at(root));
    }
    let find = if only_looking { Store::default_as_it_is } else { Store::default };
    find(&Whereabouts {
        euid: nix::unistd::geteuid().as_raw(),
        in_child_userns: host::namespaces::in_child_userns(),
        runtime_dir: std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
    })
}

/// Prints what was asked for. A reader that has seen enough (`bryo list | head -1`) is no error.
pub fn print(text: &str) -> u8 {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            eprintln!("bryo: cannot write output: {}", crate::report::io_text(&error));
            1
        }
    }
}

/// Tells the error: on stderr, and once in the log. Podman reads the whole log as one JSON object, and
/// containerd the last error line.
fn tell(log: &Log, line: &str) {
    // Nobody may be listening on stderr.
    if log.file.is_some() || !log.json {
        let _ = writeln!(std::io::stderr(), "bryo: {line}");
    }
    if log.file.is_some() || log.json {
        note(log.file.as_deref(), &entry("error", line, log.json));
    }
}

/// A line of the log, as logrus writes them, from which callers of runc read.
fn entry(level: &str, line: &str, json: bool) -> String {
    let now = crate::state::now();
    if json {
        serde_json::json!({"level": level, "msg": line, "time": now}).to_string()
    } else {
        format!("time={now:?} level={level} msg={line:?}")
    }
}

/// Opened for each line anew: a descriptor that stays would be one that the container could be given.
fn open_log(path: &Path) -> std::io::Result<File> {
    File::options().append(true).create(true).open(path)
}

/// Makes the log: callers open it whether there is a line in it or not.
fn make_log(path: &Path) -> Result<(), Failure> {
    let opened = open_log(path).act(|| format!("cannot open log {}", path.display()));
    opened.map(drop).map_err(|failure| failure.fix("name a file that can be written with --log"))
}

/// Writes it where the log is: without one, on stderr.
fn note(log: Option<&Path>, entry: &str) {
    let Some(path) = log else {
        let _ = writeln!(std::io::stderr(), "{entry}");
        return;
    };
    if let Err(error) = open_log(path).and_then(|mut file| writeln!(file, "{entry}")) {
        eprintln!("bryo: cannot write log {}: {}", path.display(), crate::report::io_text(&error));
    }
}
