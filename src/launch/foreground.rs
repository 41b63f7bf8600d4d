//! Being the parent of a container in the foreground: signals go in, the terminal goes both ways, orphans
//! are reaped, and the end is the container's.
//!
//! One poll loop over descriptors: a signalfd, the pidfd, and with a terminal its master and ours. Every
//! way out puts our terminal back as it was.

use super::notify::Notify;
use crate::report::{Act, Failure};
use crate::sys::clone::Child;
use crate::sys::{self, Errno, pidfd, tty};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{
    LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr, tcsetattr,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, read, write};
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};

/// The signals that are the container's business, blocked before anything is made so that none is lost.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    /// What the mask was: the container gets that.
    before: SigSet,
}

impl Signals {
    /// Blocks every signal but those that mean a fault of our own.
    ///
    /// # Errors
    /// That of signalfd(2).
    fn block() -> Result<Signals, Failure> {
        let act = || "cannot take over signals";
        let mut set = SigSet::all();
        for fault in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGABRT,
            Signal::SIGTRAP,
            Signal::SIGSYS,
        ] {
            set.remove(fault);
        }
        let before = swap_mask(SigmaskHow::SIG_BLOCK, Some(&set)).act(act)?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).act(act)?;
        Ok(Signals { fd, before })
    }
}

/// The signal mask of this process, for who takes nothing over.
///
/// # Errors
/// None that is known.
pub fn current_mask() -> Result<SigSet, Failure> {
    swap_mask(SigmaskHow::SIG_BLOCK, None).act(|| "cannot read the signal mask")
}

/// Takes the signals over, unless the process is to go on without us, and says what the mask was. Before anything is
/// made that a signal could be for.
///
/// # Errors
/// That of signalfd(2).
pub fn signals(detached: bool) -> Result<(Option<Signals>, SigSet), Failure> {
    if detached {
        return current_mask().map(|before| (None, before));
    }
    Signals::block().map(|signals| {
        let before = signals.before;
        (Some(signals), before)
    })
}

/// Changes the signal mask and returns what it was. Not by [`SigSet`]'s own, which take pthread_sigmask(3) to return
/// -1 when it fails.
fn swap_mask(how: SigmaskHow, set: Option<&SigSet>) -> sys::Result<SigSet> {
    let mut before = SigSet::empty();
    sigprocmask(how, set, Some(&mut before))?;
    Ok(before)
}

/// Our own terminal in raw mode; dropping puts it back.
#[derive(Debug)]
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Raw> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // The container's side does not translate newlines (see console::prepare), so ours has to.
        raw.output_flags.insert(OutputFlags::OPOST | OutputFlags::ONLCR);
        tcsetattr(&stdin, SetArg::TCSANOW, &raw).ok()?;
        Some(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone away needs no mode.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

/// Stays with the child until its end, which it makes should that fail, and passes on that it is ready. Returns the exit code: the status, or 128+N for signal N.
///
/// # Errors
/// That of poll(2) and wait(2).
pub fn attend(
    child: &Child,
    signals: &Signals,
    master: Option<OwnedFd>,
    notify: Option<Notify>,
    reap: bool,
) -> Result<i32, Failure> {
    let raw = master.as_ref().and_then(|_| Raw::enter());
    let mut relay = master.map(Relay::new);
    let code = attend_until_end(child, signals, relay.as_mut(), notify, reap);
    if let Some(relay) = &mut relay {
        relay.drain();
    }
    drop(raw);
    if code.is_err() {
        // Nobody would be there at its end. It may have come to it by itself (ESRCH, and ECHILD where it is reaped).
        let _ = pidfd::signal(&child.pidfd, libc::SIGKILL);
        let _ = sys::retry(|| waitpid(Pid::from_raw(child.pid), None));
    }
    code
}

fn attend_until_end(
    child: &Child,
    signals: &Signals,
    mut relay: Option<&mut Relay>,
    mut notify: Option<Notify>,
    reap: bool,
) -> Result<i32, Failure> {
    let act = || "cannot wait for the container";
    loop {
        let stdin = std::io::stdin();
        let (ended, signalled, input, output, notified) = {
            let mut polled = vec![
                PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN),
            ];
            // A side that has hung up would wake us for ever: it is left out.
            let (mut master_at, mut stdin_at) = (usize::MAX, usize::MAX);
            if let Some(relay) = relay.as_ref().filter(|relay| relay.open) {
                let room = relay.pending_in.is_empty();
                let mut wanted = PollFlags::POLLIN;
                wanted.set(PollFlags::POLLOUT, !room);
                master_at = polled.len();
                polled.push(PollFd::new(relay.master.as_fd(), wanted));
                if relay.input && room {
                    stdin_at = polled.len();
                    polled.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
                }
            }
            let notify_at = polled.len();
            polled.extend(notify.iter().map(|notify| PollFd::new(notify.fd(), PollFlags::POLLIN)));
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Failure::errno(act(), errno)),
            }
            let events = |i: usize| polled.get(i).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
            let notified = !events(notify_at).is_empty();
            (!events(0).is_empty(), !events(1).is_empty(), events(stdin_at), events(master_at), notified)
        };
        if notified && notify.as_ref().is_some_and(|notify| notify.turn(child.pid)) {
            notify = None;
        }
        if let Some(relay) = &mut relay {
            relay.turn(input, output);
        }
        if signalled {
            forward(child, signals, relay.as_deref())?;
        }
        if reap {
            if let Some(code) = reap_all(child)? {
                return Ok(code);
            }
        } else if ended {
            return end_of(child);
        }
    }
}

/// Waits for the child itself.
fn end_of(child: &Child) -> Result<i32, Failure> {
    let status = crate::sys::retry(|| waitpid(Pid::from_raw(child.pid), None))
        .act(|| "cannot wait for the container")?;
    Ok(code(status).unwrap_or(1))
}

/// Reaps whatever has died: as the subreaper we inherit what the container leaves.
fn reap_all(child: &Child) -> Result<Option<i32>, Failure> {
    let mut found = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(found),
            Ok(status) if status.pid() == Some(Pid::from_raw(child.pid)) => found = code(status).or(found),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::errno("cannot wait for the container", errno)),
        }
    }
}

fn code(status: WaitStatus) -> Option<i32> {
    match status {
        WaitStatus::Exited(_, code) => Some(code),
        WaitStatus::Signaled(_, signal, _) => Some(128 + signal as i32),
        _ => None,
    }
}

fn forward(child: &Child, signals: &Signals, relay: Option<&Relay>) -> Result<(), Failure> {
    while let Some(info) = sys::retry(|| signals.fd.read_signal()).act(|| "cannot read signals")? {
        match info.ssi_signo as i32 {
            // Ours to know: the loop reaps.
            libc::SIGCHLD => {}
            libc::SIGWINCH => {
                if let (Some(relay), Ok(size)) = (relay, tty::size(std::io::stdin())) {
                    // The terminal may be closed already.
                    let _ = tty::set_size(&relay.master, size);
                }
            }
            signal => {
                // It may have ended meanwhile (ESRCH), which the loop will see.
                let _ = pidfd::signal(&child.pidfd, signal);
            }
        }
    }
    Ok(())
}

/// What goes between our terminal and the container's.
#[derive(Debug)]
struct Relay {
    master: OwnedFd,
    /// The master has not hung up.
    open: bool,
    /// Our standard input has not ended.
    input: bool,
    /// Read from us, not yet taken by the container.
    pending_in: Vec<u8>,
    /// What was read last did not end its line.
    partial: bool,
}

impl Relay {
    fn new(master: OwnedFd) -> Relay {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        // Input that the container does not read must not stop its output: the master never blocks us.
        let _ = fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK));
        Relay { master, open: true, input: true, pending_in: Vec::new(), partial: false }
    }

    fn turn(&mut self, input: PollFlags, output: PollFlags) {
        if output.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            self.pump();
        }
        if self.input && input.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            let mut buffer = [0; 4096];
            match read(std::io::stdin(), &mut buffer) {
                Ok(0) => {
                    self.input = false;
                    self.pending_in.extend(self.end_of_input());
                }
                Ok(n) => {
                    self.partial = buffer[n - 1] != b'\n';
                    self.pending_in.extend(&buffer[..n]);
                }
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => self.input = false,
            }
        }
        if !self.pending_in.is_empty() {
            match write(&self.master, &self.pending_in) {
                Ok(n) => drop(self.pending_in.drain(..n)),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => self.pending_in.clear(),
            }
        }
    }

    /// The end of input as a terminal says it: a character (termios(3), `VEOF`). Behind a line that has not
    /// ended it only ends the line, so there it takes two. Shells that edit lines themselves know it as the end
    /// as well; without it, a shell whose input has ended would wait for ever.
    fn end_of_input(&self) -> Vec<u8> {
        let Ok(settings) = tcgetattr(&self.master) else { return Vec::new() };
        let end = match settings.control_chars[SpecialCharacterIndices::VEOF as usize] {
            0 => 4,
            set => set,
        };
        let edits_lines = settings.local_flags.contains(LocalFlags::ICANON);
        vec![end; if self.partial && edits_lines { 2 } else { 1 }]
    }

    /// Moves one chunk of output; `false` when there is none, or never will be.
    fn pump(&mut self) -> bool {
        let mut buffer = [0; 8192];
        match read(&self.master, &mut buffer) {
            Ok(n) if n > 0 => {
                put(&buffer[..n]);
                true
            }
            Err(Errno::EINTR) => true,
            Err(Errno::EAGAIN) => false,
            // EIO: the last holder of the other side is gone.
            _ => {
                self.open = false;
                false
            }
        }
    }

    /// What the container wrote before its end. Not more than a terminal can hold: what it has left running
    /// behind its back (`yes &`) would otherwise keep us for ever.
    fn drain(&mut self) {
        // The kernel's limit is 64 KiB (TTYB_DEFAULT_MEM_LIMIT), and a read gives at most a page.
        for _ in 0..256 {
            if !self.open || !self.pump() {
                return;
            }
        }
    }
}

/// Writes all of it to our standard output; a reader that is gone loses it.
fn put(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match write(std::io::stdout(), bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let stdout = std::io::stdout();
                let mut room = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut room, PollTimeout::NONE);
            }
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;

    /// A relay to a new terminal, and the terminal.
    fn relay() -> (Relay, OwnedFd) {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = nix::fcntl::open("/dev/ptmx", flags, nix::sys::stat::Mode::empty()).unwrap();
        let slave = tty::open_peer(&master).unwrap();
        (Relay::new(master), slave)
    }

    #[test]
    fn the_end_of_input_ends_a_partial_line_first_where_the_terminal_edits_lines() {
        let (mut relay, slave) = relay();
        assert_eq!(relay.end_of_input(), b"\x04");
        relay.partial = true;
        assert_eq!(relay.end_of_input(), b"\x04\x04");
        let mut raw = tcgetattr(&slave).unwrap();
        cfmakeraw(&mut raw);
        tcsetattr(&slave, SetArg::TCSANOW, &raw).unwrap();
        assert_eq!(relay.end_of_input(), b"\x04");
    }
}
