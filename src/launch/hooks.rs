//! Hooks on the host's side.

use crate::plan::hooks::{Hook, Output};
use crate::report::{Failure, io_text, one_line};
use crate::sys::program::{Program, Streams};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

/// The way out of a hook that fails.
pub const FIX: &str = "see what the hook says, or remove it from hooks in config.json";

/// Runs hooks in order; the first that fails ends it.
///
/// # Errors
/// The hook that failed, with its status and what it said.
pub fn run_all(kind: &str, hooks: &[Hook], state: &str, container: &str) -> Result<(), Failure> {
    for (n, hook) in hooks.iter().enumerate() {
        run(hook, state).map_err(|cause| {
            Failure::new(
                format!("cannot run {kind} hook #{n} of container {container}"),
                format!("error running {kind} hook #{n}: {cause}"),
            )
            .code("HOOK")
            .fix(FIX)
        })?;
    }
    Ok(())
}

/// Runs the poststop hooks: one that fails is told and stops neither the others nor the deletion
/// (runtime.md, "Lifecycle").
pub fn run_poststop(hooks: &[Hook], state: &str, container: &str, warn: impl Fn(&str)) {
    for (n, hook) in hooks.iter().enumerate() {
        if let Err(cause) = run(hook, state) {
            warn(&format!("cannot run poststop hook #{n} of container {container}: HOOK: {cause}"));
        }
    }
}

/// The files that hooks write to, open.
#[derive(Debug, Default)]
pub struct Files {
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Files {
    /// Opens them, and makes those that are missing.
    ///
    /// # Errors
    /// The file, and why not.
    pub fn open(output: &Output) -> Result<Files, String> {
        let open = |path: &PathBuf| {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
            file.map_err(|error| format!("open {}: {}", path.display(), io_text(&error)))
        };
        Ok(Files {
            stdout: output.stdout.as_ref().map(open).transpose()?,
            stderr: output.stderr.as_ref().map(open).transpose()?,
        })
    }

    /// As a program takes them.
    pub fn streams(&self) -> Streams<'_> {
        Streams {
            stdout: self.stdout.as_ref().map(AsFd::as_fd),
            stderr: self.stderr.as_ref().map(AsFd::as_fd),
        }
    }
}

fn run(hook: &Hook, state: &str) -> Result<(), String> {
    let files = Files::open(&hook.output)?;
    let outcome = Program::start_into(
        files.streams(),
        &hook.path,
        &hook.args,
        hook.env.as_deref().unwrap_or_default(),
        state.as_bytes(),
        hook.timeout,
    )
    .and_then(Program::finish);
    match outcome {
        Ok(outcome) if outcome.status.success() => Ok(()),
        Ok(outcome) => Err(describe(outcome.status, &outcome.output)),
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            let seconds = hook.timeout.unwrap_or_default().as_secs_f32();
            Err(format!(
                "{}: killed after its timeout of {seconds} s: connection timed out",
                hook.path.display()
            ))
        }
        Err(error) => Err(format!("{}: {}", hook.path.display(), io_text(&error))),
    }
}

/// A status and what the hook wrote, on one line, in the words of Go, which users have seen.
pub fn describe(status: ExitStatus, output: &[u8]) -> String {
    let said = one_line(&String::from_utf8_lossy(output));
    let status = match status.signal() {
        Some(signal) => format!("signal: {}", signal_text(signal)),
        None => status.to_string(),
    };
    if said.is_empty() { status } else { format!("{status}, output: {said}") }
}

fn signal_text(signal: i32) -> String {
    use nix::sys::signal::Signal;
    let text = match Signal::try_from(signal) {
        Ok(Signal::SIGABRT) => "aborted",
        Ok(Signal::SIGBUS) => "bus error",
        Ok(Signal::SIGFPE) => "floating point exception",
        Ok(Signal::SIGHUP) => "hangup",
        Ok(Signal::SIGILL) => "illegal instruction",
        Ok(Signal::SIGINT) => "interrupt",
        Ok(Signal::SIGKILL) => "killed",
        Ok(Signal::SIGPIPE) => "broken pipe",
        Ok(Signal::SIGSEGV) => "segmentation fault",
        Ok(Signal::SIGSYS) => "bad system call",
        Ok(Signal::SIGTERM) => "terminated",
        Ok(other) => other.as_str(),
        Err(_) => return signal.to_string(),
    };
    text.to_string()
}
