//! A criu that works for us: started, spoken to, and waited for.

use super::Images;
use super::listen::{Endings, Event, listen};
use super::log;
use super::message::{Answer, Features, Options, Request};
use crate::report::{Failure, errno_text, io_text, one_line};
use crate::sys::clone::Child;
use crate::sys::mount::Attr;
use crate::sys::process::Stage;
use crate::sys::{self, Errno, fds, pidfd, program};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where programs are looked for if our caller does not say: criu calls tar, ip and iptables.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The oldest that knows the freezer of cgroup v2.
const OLDEST: (u32, u32) = (3, 14);
/// More than any answer has; the longest thing in one is an error.
const ANSWER: usize = 1 << 16;
/// How long a worker may take to end once it has nothing to do any more, in milliseconds.
const PATIENCE_MS: u16 = 10_000;
/// How long it may take for an answer that needs no work, likewise.
const ANSWER_MS: u16 = 30_000;

/// What a worker is started for.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// What fails with it: `cannot restore container web`.
    pub act: &'a str,
    pub program: &'a Path,
    /// The root file system that is to be a mount of its own with these attributes; for a restore.
    pub root: Option<(&'a Path, Attr)>,
    /// Our own root cannot be left by pivot_root(2), and is to be one that can.
    pub no_pivot: bool,
    /// A cgroup namespace to be in.
    pub cgroup_namespace: Option<BorrowedFd<'a>>,
    /// Its standard streams are ours. Otherwise it has none, and what it writes there is kept.
    pub our_streams: bool,
    /// Descriptors that it gets by the numbers that they have.
    pub passed: &'a [RawFd],
    /// The directories that it works in.
    pub images: &'a Images,
}

/// A moment at which criu waits for us.
#[derive(Debug)]
pub enum Moment {
    /// The namespaces of this first task are made, and empty.
    SetupNamespaces(i32),
    /// The master of a terminal whose other side is inside.
    Console(OwnedFd),
    /// All is there, and goes on as soon as we say so.
    PostRestore(i32),
}

/// Who is told of those.
pub trait Listener {
    /// Does what is to be done.
    ///
    /// # Errors
    /// Why it cannot be done; criu undoes its work then.
    fn at(&mut self, moment: Moment) -> Result<(), Failure>;
}

/// Whoever dumps has nothing to do.
impl Listener for () {
    fn at(&mut self, _moment: Moment) -> Result<(), Failure> {
        Ok(())
    }
}

/// A criu that works for us. Dropping it ends it, and with it what it has restored in part.
#[derive(Debug)]
pub struct Worker {
    act: String,
    program: PathBuf,
    process: Child,
    socket: Option<OwnedFd>,
    /// What it has written.
    output: File,
    /// Its log, once it works.
    log: Option<PathBuf>,
    /// What ends us, until there is a container that has more right to it.
    endings: Option<Endings>,
    /// The first task of what is restored, once all of it is there.
    restored: Option<i32>,
}

impl Worker {
    /// Starts a worker.
    ///
    /// # Errors
    /// A program that cannot be started, or that is too old.
    pub fn start(task: &Task<'_>) -> Result<Worker, Failure> {
        let failed = |error: &std::io::Error| {
            Failure::new(task.act, format!("{}: {}", task.program.display(), io_text(error))).code("CRIU")
        };
        let (mut worker, version) = Worker::spawn(task)
            .map_err(|error| failed(&error))
            .and_then(|mut worker| worker.version().map(|version| (worker, version)))?;
        if version < OLDEST {
            let cause = format!(
                "{} is version {}.{}, and {}.{} is the oldest that will do: operation not supported",
                task.program.display(),
                version.0,
                version.1,
                OLDEST.0,
                OLDEST.1
            );
            worker.end();
            return Err(Failure::new(task.act, cause)
                .code("CRIU")
                .fix("install a newer criu, and name it with --criu PATH"));
        }
        Ok(worker)
    }

    fn spawn(task: &Task<'_>) -> std::io::Result<Worker> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let output = program::memory()?;
        let endings = Endings::take()?;
        let mut command = Command::new(task.program);
        command.arg("swrk").arg(theirs.as_raw_fd().to_string());
        if std::env::var_os("PATH").is_none() {
            command.env("PATH", SEARCH_PATH);
        }
        if !task.our_streams {
            command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        }
        let root = match task.root {
            Some((root, attributes)) => Some((CString::new(root.as_os_str().as_bytes())?, attributes)),
            None => None,
        };
        let directories = task.images.directories()?;
        let passed = task.passed.to_vec();
        let line = theirs.as_raw_fd();
        let cgroup_namespace = task.cgroup_namespace.map(|namespace| namespace.as_raw_fd());
        Stage { own_root: task.no_pivot, cgroup_namespace, root, passed, directories, line }
            .set(&mut command);
        let child = command.spawn()?;
        let pid = child.id() as i32;
        let pidfd = pidfd::open(pid)?;
        let (_, socket) = fds::receive(ours.as_fd(), &mut [0; 8])?;
        Ok(Worker {
            act: task.act.to_string(),
            program: task.program.to_path_buf(),
            process: Child { pid, pidfd },
            socket,
            output,
            log: None,
            endings: Some(endings),
            restored: None,
        })
    }

    /// Its process.
    pub fn process(&self) -> &Child {
        &self.process
    }

    fn version(&mut self) -> Result<(u32, u32), Failure> {
        let answer = self.ask(&Request::Version, &mut ())?;
        answer.version.ok_or_else(|| self.failure("it does not say what version it is"))
    }

    /// What of these there is.
    ///
    /// # Errors
    /// A worker that does not answer.
    pub fn features(&mut self, wanted: Features) -> Result<Features, Failure> {
        Ok(self.ask(&Request::Features(wanted), &mut ())?.features)
    }

    /// Has it dump, and waits for its end.
    ///
    /// # Errors
    /// What its log says.
    pub fn dump(mut self, options: &Options, log: &Path) -> Result<(), Failure> {
        self.finish(&Request::Dump(options), log, &mut ()).map(drop)
    }

    /// Has it dump memory, and waits for its end.
    ///
    /// # Errors
    /// What its log says.
    pub fn pre_dump(mut self, options: &Options, log: &Path) -> Result<(), Failure> {
        self.finish(&Request::PreDump(options), log, &mut ()).map(drop)
    }

    /// Has it restore, and waits for its end.
    ///
    /// # Errors
    /// What its log says, or `listener`.
    pub fn restore(
        mut self,
        options: &Options,
        log: &Path,
        listener: &mut dyn Listener,
    ) -> Result<i32, Failure> {
        let answer = self.finish(&Request::Restore(options), log, listener)?;
        // Only of what it has told of before does anybody know.
        answer
            .restored
            .filter(|pid| self.restored == Some(*pid))
            .ok_or_else(|| self.failure("it does not say what it has restored: bad message"))
    }

    fn finish(
        &mut self,
        request: &Request<'_>,
        path: &Path,
        listener: &mut dyn Listener,
    ) -> Result<Answer, Failure> {
        self.log = Some(path.to_path_buf());
        let answer = self.ask(request, listener)?;
        self.end();
        if answer.success {
            return Ok(answer);
        }
        let mut cause = told(path);
        if cause.is_empty() {
            cause = one_line(&answer.message);
        }
        if cause.is_empty() {
            cause = self.said();
        }
        if answer.errno != 0 {
            let text = errno_text(Errno::from_raw(answer.errno));
            cause = if cause.is_empty() { text } else { format!("{cause}: {text}") };
        }
        let fix = format!("see {}", path.display());
        Err(Failure::new(self.act.as_str(), format!("criu: {cause}")).code("CRIU").fix(fix))
    }

    /// Asks, and tells the listener of every moment until the answer is there.
    fn ask(&mut self, request: &Request<'_>, listener: &mut dyn Listener) -> Result<Answer, Failure> {
        let works = !matches!(request, Request::Version | Request::Features(_));
        let mut refused = None;
        self.tell(request)?;
        loop {
            let (answer, descriptor) = self.hear(works && self.restored.is_none())?;
            let Some(notify) = answer.notify else { return refused.map_or(Ok(answer), Err) };
            let moment = match (notify.moment.as_str(), notify.pid, descriptor) {
                ("setup-namespaces", Some(pid), _) => Some(Moment::SetupNamespaces(self.task(pid)?)),
                ("post-restore", Some(pid), _) => Some(Moment::PostRestore(self.task(pid)?)),
                ("orphan-pts-master", _, Some(master)) => Some(Moment::Console(master)),
                // Nothing of ours is to be done then.
                _ => None,
            };
            if let Some(Moment::PostRestore(pid)) = moment {
                self.restored = Some(pid);
            }
            let done = moment.map_or(Ok(()), |moment| listener.at(moment));
            self.tell(&Request::Noticed { success: done.is_ok() })?;
            refused = refused.or(done.err());
        }
    }

    /// A first task that it names. That one is made as a child of ours; of any other process nothing is to become of what
    /// becomes of a container.
    fn task(&self, pid: i32) -> Result<i32, Failure> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(Pid::from_raw(pid)), flags) {
            Ok(_) if pid > 0 && pid != self.process.pid => Ok(pid),
            _ => Err(self.failure(&format!("it names process {pid}, which it has not made: bad message"))),
        }
    }

    fn tell(&self, request: &Request<'_>) -> Result<(), Failure> {
        let socket = self.socket.as_ref().ok_or_else(|| self.failure("it has ended"))?;
        fds::send(socket.as_fd(), &request.encode(), None).map_err(|errno| self.gone(errno))
    }

    /// What it says next: whenever that is while it works, and otherwise soon.
    fn hear(&self, works: bool) -> Result<(Answer, Option<OwnedFd>), Failure> {
        let socket = self.socket.as_ref().ok_or_else(|| self.failure("it has ended"))?;
        let timeout = if works { PollTimeout::NONE } else { PollTimeout::from(ANSWER_MS) };
        // Once all is restored, a signal to us is one to the container.
        let endings = self.endings.as_ref().filter(|_| self.restored.is_none());
        match listen(socket.as_fd(), self.process.pidfd.as_fd(), endings, timeout) {
            Ok(Event::Word) => {}
            Ok(Event::End) => return Err(self.gone(Errno::EPIPE)),
            Ok(Event::Signal(signal)) => return Err(self.ended_by(signal)),
            Ok(Event::Silence) => {
                self.kill(libc::SIGKILL);
                let silent = format!("it did not answer within {} s", ANSWER_MS / 1000);
                return Err(self
                    .failure(&format!("{silent}: connection timed out"))
                    .fix("see whether criu check is content, or name another criu with --criu PATH"));
            }
            Err(errno) => return Err(self.gone(errno)),
        }
        let mut buffer = vec![0; ANSWER];
        match fds::receive(socket.as_fd(), &mut buffer) {
            Ok((0, _)) => Err(self.gone(Errno::EPIPE)),
            Ok((len, descriptor)) => match Answer::decode(buffer.get(..len).unwrap_or_default()) {
                Ok(answer) => Ok((answer, descriptor)),
                Err(_) => Err(self.failure("it says what no criu says: bad message")),
            },
            Err(errno) => Err(self.gone(errno)),
        }
    }

    /// Somebody ends us, and so we end it; who it has stopped goes on.
    fn ended_by(&self, signal: Signal) -> Failure {
        self.kill(libc::SIGTERM);
        // 128+N stays below 256: signals end at 64.
        let status = u8::try_from(128 + signal as i32).unwrap_or(1);
        let cause = format!("{signal} came before it was done: interrupted system call");
        self.failure(&cause).status(status)
    }

    fn kill(&self, signal: i32) {
        // It may have ended meanwhile (ESRCH).
        let _ = pidfd::signal(&self.process.pidfd, signal);
    }

    fn failure(&self, cause: &str) -> Failure {
        Failure::new(self.act.as_str(), format!("{}: {cause}", self.program.display())).code("CRIU")
    }

    /// It has left the conversation, and may have said why.
    fn gone(&self, errno: Errno) -> Failure {
        let mut said = self.log.as_ref().map_or(String::new(), |log| told(log));
        if said.is_empty() {
            said = self.said();
        }
        let how = if self.ended() { self.how() } else { "it said nothing more".into() };
        let said = if said.is_empty() { format!("{how}, without a word") } else { format!("{how}: {said}") };
        let fix = match &self.log {
            Some(log) => format!("see {}", log.display()),
            None => "see whether criu check is content, or name another criu with --criu PATH".into(),
        };
        self.failure(&format!("{said}: {}", errno_text(errno))).fix(fix)
    }

    /// How it ended.
    fn how(&self) -> String {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(Pid::from_raw(self.process.pid)), flags) {
            Ok(WaitStatus::Exited(_, status)) => format!("it ended with status {status}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("it was ended by {signal}"),
            _ => "it ended".into(),
        }
    }

    /// What it wrote.
    fn said(&self) -> String {
        let mut text = String::new();
        // A second description would have a place of its own; this one is where criu stopped writing.
        let mut output = &self.output;
        if output.rewind().is_ok() {
            // What is no UTF-8 is not worth being told.
            let _ = output.read_to_string(&mut text);
        }
        one_line(&text)
    }

    /// Whether it ends by itself now.
    fn ended(&self) -> bool {
        let mut ended = [PollFd::new(self.process.pidfd.as_fd(), PollFlags::POLLIN)];
        sys::retry(|| poll(&mut ended, PollTimeout::from(PATIENCE_MS))).is_ok_and(|n| n > 0)
    }

    /// Ends the conversation, and waits for its end.
    fn end(&mut self) {
        if self.socket.take().is_none() {
            return;
        }
        if !self.ended() {
            self.kill(libc::SIGKILL);
        }
        let _ = sys::retry(|| waitpid(Pid::from_raw(self.process.pid), None));
        self.endings = None;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// What went wrong, by its log.
fn told(log: &Path) -> String {
    log::errors(&std::fs::read(log).unwrap_or_default())
}
