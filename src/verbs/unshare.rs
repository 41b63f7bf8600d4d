//! `unshare`: a command, or a shell, as root over all ids that are the caller's: what `ls` shows as somebody
//! else's after a container was at work can be looked at, changed and removed from there.
//!
//! Only ids and mounts are the command's own; the network, the processes and the files are the host's. It takes
//! our place: our pid, terminal and descriptors.

use crate::host::idmap::find_program;
use crate::launch::{foreground, unshare};
use crate::plan::degrade::Policy;
use crate::report::{Act, Failure, errno_text};
use crate::sys::{self, Errno};
use nix::unistd::execvp;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

/// What a shell exits with where a command is not to be found, and where it is and cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// `bryo unshare`.
pub fn unshare(command: Vec<OsString>, policy: &Policy) -> Result<u8, Failure> {
    let args = arguments(command, std::env::var_os("SHELL"))?;
    let program = args[0].to_string_lossy().into_owned();
    let whom = format!("command {program}");
    unshare::enter(&whom, policy)?;
    let signals = foreground::current_mask()?;
    sys::process::restore_signals(&signals).act(|| format!("cannot restore signals for {whom}"))?;
    let Err(errno) = execvp(&args[0], &args);
    Err(not_run(
        &program,
        match errno {
            // A directory of PATH that is closed to us says nothing of the command.
            Errno::EACCES if !program.contains('/') && find_program(&program).is_none() => Errno::ENOENT,
            errno => errno,
        },
    ))
}

/// The command, or the caller's shell.
fn arguments(mut command: Vec<OsString>, shell: Option<OsString>) -> Result<Vec<CString>, Failure> {
    if command.is_empty() {
        command.push(shell.filter(|shell| !shell.is_empty()).unwrap_or_else(|| "/bin/sh".into()));
    }
    let text = |arg: OsString| {
        CString::new(arg.into_vec()).map_err(|_| {
            Failure::new("cannot read the command", "an argument contains a zero byte: invalid argument")
        })
    };
    command.into_iter().map(text).collect()
}

fn not_run(program: &str, errno: Errno) -> Failure {
    let act = format!("cannot run {program}");
    match errno {
        Errno::ENOENT if !program.contains('/') => Failure::new(act, "executable file not found in $PATH")
            .code("EXEC-NOTFOUND")
            .fix("name a program of this machine, or its path")
            .status(NOT_FOUND),
        Errno::ENOENT => Failure::errno(act, errno)
            .code("EXEC-NOTFOUND")
            .fix("name a program of this machine, whose interpreter is there, too")
            .status(NOT_FOUND),
        _ => Failure::new(act, errno_text(errno))
            .code("EXEC-DENIED")
            .fix("it has to be an executable file")
            .status(NOT_RUN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_command_it_is_the_callers_shell_else_sh() {
        let of = |command: &[&str], shell: Option<&str>| {
            let command = command.iter().map(OsString::from).collect();
            arguments(command, shell.map(OsString::from)).unwrap()
        };
        assert_eq!(of(&[], Some("/bin/zsh")), [c"/bin/zsh".into()] as [CString; 1]);
        assert_eq!(of(&[], Some("")), [c"/bin/sh".into()] as [CString; 1]);
        assert_eq!(of(&[], None), [c"/bin/sh".into()] as [CString; 1]);
        assert_eq!(of(&["id", "-u"], Some("/bin/zsh")), [c"id".into(), c"-u".into()] as [CString; 2]);
    }

    #[test]
    fn what_does_not_run_exits_as_from_a_shell() {
        for (program, errno, status, code) in [
            ("nowhere", Errno::ENOENT, 127, "EXEC-NOTFOUND"),
            ("/no/where", Errno::ENOENT, 127, "EXEC-NOTFOUND"),
            ("/etc/passwd", Errno::EACCES, 126, "EXEC-DENIED"),
            ("./a.out", Errno::ENOEXEC, 126, "EXEC-DENIED"),
        ] {
            let failure = not_run(program, errno);
            assert_eq!(failure.exit_status(), Some(status), "{failure}");
            assert!(failure.to_string().starts_with(&format!("cannot run {program}: {code}: ")), "{failure}");
        }
    }
}
