//! Running another program of the host with a deadline: hooks and the id helpers.
//!
//! Its output is captured, since it belongs into our one line and not before it. We wait for the program,
//! not for the end of its output: what it leaves running in the background may keep that open for ever.

use super::{Errno, pidfd};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A program that was started.
#[derive(Debug)]
pub struct Program {
    child: Child,
    /// None behind a filter that denies it.
    pidfd: Option<OwnedFd>,
    output: File,
    deadline: Option<Instant>,
}

/// Where a program writes to, instead of to us.
#[derive(Debug, Clone, Copy, Default)]
pub struct Streams<'a> {
    pub stdout: Option<BorrowedFd<'a>>,
    pub stderr: Option<BorrowedFd<'a>>,
}

/// How it ended.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    /// The first of what it wrote, on both streams.
    pub output: Vec<u8>,
}

/// As much of a program's output as is kept.
const KEPT: usize = 4096;

/// Milliseconds between two looks at a program whose end nothing tells us.
const GLANCE: u8 = 10;

impl Program {
    /// Starts a program with exactly this environment and nothing open but its standard streams; `args`
    /// begins with the name that it is called by. `input` is all that it finds on its standard input.
    ///
    /// # Errors
    /// That of fork, exec, or the pipes.
    pub fn start<A: AsRef<OsStr>>(
        path: &Path,
        args: &[A],
        env: &[(String, String)],
        input: &[u8],
        timeout: Option<Duration>,
    ) -> std::io::Result<Program> {
        Program::start_into(Streams::default(), path, args, env, input, timeout)
    }

    /// Likewise; what it writes goes where the streams lead.
    ///
    /// # Errors
    /// That of fork, exec, or the pipes.
    pub fn start_into<A: AsRef<OsStr>>(
        streams: Streams<'_>,
        path: &Path,
        args: &[A],
        env: &[(String, String)],
        input: &[u8],
        timeout: Option<Duration>,
    ) -> std::io::Result<Program> {
        let (output, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let mut command = Command::new(path);
        if let Some((name, rest)) = args.split_first() {
            command.arg0(name).args(rest);
        }
        command.env_clear().envs(env.iter().map(|(k, v)| (k, v)));
        command.stdin(if input.is_empty() { Stdio::null() } else { whole(input)?.into() });
        let stream = |file: Option<BorrowedFd<'_>>| match file {
            Some(file) => file.try_clone_to_owned(),
            None => writer.try_clone(),
        };
        command.stdout(stream(streams.stdout)?).stderr(stream(streams.stderr)?);
        // The program has it, if anybody.
        drop(writer);
        let mut child = command.spawn()?;
        let pidfd = match pidfd::open(child.id() as i32) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::EPERM | Errno::ENOSYS | Errno::EACCES) => None,
            Err(errno) => {
                end(&mut child)?;
                return Err(errno.into());
            }
        };
        let deadline = timeout.map(|t| Instant::now() + t);
        Ok(Program { child, pidfd, output: output.into(), deadline })
    }

    /// Waits for its end; at the deadline it is killed.
    ///
    /// # Errors
    /// `TimedOut` once the deadline has passed.
    pub fn finish(mut self) -> std::io::Result<Outcome> {
        // Nobody would wait for it any more.
        self.attend().or_else(|error| end(&mut self.child).and(Err(error)))
    }

    fn attend(&mut self) -> std::io::Result<Outcome> {
        let mut kept = Vec::new();
        // Only the end of the program matters once it has closed its output.
        let mut open = true;
        loop {
            let mut timeout = match self.deadline {
                None => PollTimeout::NONE,
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(ErrorKind::TimedOut.into());
                    }
                    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
                }
            };
            if self.pidfd.is_none() {
                timeout = PollTimeout::from(GLANCE);
            }
            let output = open.then(|| PollFd::new(self.output.as_fd(), PollFlags::POLLIN));
            let pidfd = self.pidfd.as_ref().map(|pidfd| PollFd::new(pidfd.as_fd(), PollFlags::POLLIN));
            let mut fds: Vec<PollFd<'_>> = output.into_iter().chain(pidfd).collect();
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let said = fds.first().filter(|_| open).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
            let ended = match fds.get(usize::from(open)).and_then(PollFd::revents) {
                Some(events) => !events.is_empty(),
                None => self.child.try_wait()?.is_some(),
            };
            // A daemon that it left behind may go on writing for ever.
            if said.contains(PollFlags::POLLIN) && !(ended && kept.len() >= KEPT) {
                self.keep(&mut kept)?;
            } else if ended {
                let status = self.child.wait()?;
                return Ok(Outcome { status, output: kept });
            } else if !said.is_empty() {
                open = false;
            }
        }
    }

    fn keep(&mut self, kept: &mut Vec<u8>) -> std::io::Result<()> {
        let mut buffer = [0; 1024];
        let len = self.output.read(&mut buffer)?;
        let room = KEPT.saturating_sub(kept.len());
        kept.extend(buffer[..len].iter().take(room));
        Ok(())
    }
}

/// Makes an end of it.
fn end(child: &mut Child) -> std::io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

/// A file that holds the input whole. A pipe holds some of it, and would keep us, whatever the deadline, from a
/// program that reads none.
fn whole(input: &[u8]) -> std::io::Result<File> {
    let file = match memory() {
        Ok(mut file) => {
            file.write_all(input)?;
            file.rewind()?;
            file
        }
        // A filter denies it. What a pipe holds in any case (pipe(7)) needs no memory file.
        Err(Errno::EPERM | Errno::ENOSYS | Errno::EACCES) if input.len() <= PIPE => {
            let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
            File::from(writer).write_all(input)?;
            reader.into()
        }
        Err(errno) => return Err(errno.into()),
    };
    Ok(file)
}

/// What a pipe holds, unless the user has very many of them.
const PIPE: usize = 4096;

/// A file that is nowhere but in memory.
///
/// # Errors
/// That of memfd_create(2).
pub fn memory() -> super::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    // Where vm.memfd_noexec is 2, only files that are never executed can be made.
    let never_executed = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let memory = match memfd_create(c"bryo", MFdFlags::MFD_CLOEXEC | never_executed) {
        // Before Linux 6.3.
        Err(Errno::EINVAL) => memfd_create(c"bryo", MFdFlags::MFD_CLOEXEC),
        other => other,
    };
    memory.map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, input: &[u8], timeout: Option<Duration>) -> std::io::Result<Outcome> {
        Program::start(Path::new("/bin/sh"), &["sh", "-c", script], &[], input, timeout)?.finish()
    }

    #[test]
    fn output_of_both_streams_is_kept_and_the_status_is_the_programs() {
        let outcome = run("echo out; echo err >&2; exit 3", b"", None).unwrap();
        assert_eq!(outcome.status.code(), Some(3));
        assert_eq!(outcome.output, b"out\nerr\n");
    }

    #[test]
    fn input_arrives_and_may_be_left_unread() {
        assert_eq!(run("cat", b"state", None).unwrap().output, b"state");
        assert_eq!(run("true", &[b'x'; 1 << 16], None).unwrap().status.code(), Some(0));
    }

    #[test]
    fn nothing_of_our_environment_is_inherited() {
        assert_eq!(run("echo ${HOME-none}", b"", None).unwrap().output, b"none\n");
    }

    #[test]
    fn a_program_that_hangs_is_killed_at_the_deadline() {
        let error = run("exec sleep 60", b"", Some(Duration::from_millis(50))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_program_that_hangs_and_leaves_its_input_unread_is_killed_at_the_deadline() {
        let input = vec![b'x'; 1 << 20];
        let error = run("exec sleep 60", &input, Some(Duration::from_millis(50))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_daemon_that_goes_on_writing_does_not_keep_us() {
        let outcome = run("yes & echo $! >&2; sleep 0.1", b"", Some(Duration::from_secs(20))).unwrap();
        assert_eq!(outcome.status.code(), Some(0));
    }

    #[test]
    fn a_daemon_that_keeps_the_output_open_does_not_keep_us() {
        let outcome = run("sleep 30 & echo $!", b"", Some(Duration::from_secs(20))).unwrap();
        assert_eq!(outcome.status.code(), Some(0));
        let pid: i32 = String::from_utf8(outcome.output).unwrap().trim().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_program_that_closes_its_output_is_still_waited_for() {
        let program = Program::start(
            Path::new("/bin/sh"),
            &["sh", "-c", "exec >&- 2>&-; sleep 0.05; exit 4"],
            &[],
            b"",
            None,
        )
        .unwrap();
        assert_eq!(program.finish().unwrap().status.code(), Some(4));
    }
}
