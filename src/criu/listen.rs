//! How long criu is listened to: until it says something, or it ends, or somebody ends us.
//!
//! What a dump or a restore takes depends on how much memory there is and where it goes, and no time is too long for
//! that. So it is the caller's patience that counts: the signals by which we are ended are taken over while criu works,
//! and end criu before us. Only what takes no time by itself has a deadline.

use crate::sys::{self, Errno};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// By these somebody ends us.
const ENDINGS: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// What came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// There is something to be read, or nobody left to write it.
    Word,
    /// The process has ended, although its line is held open by somebody.
    End,
    /// Somebody ends us.
    Signal(Signal),
    /// Nothing, for too long.
    Silence,
}

/// The signals that end us, taken over until this is dropped.
#[derive(Debug)]
pub struct Endings {
    fd: SignalFd,
    before: SigSet,
}

impl Endings {
    /// Takes them over.
    ///
    /// # Errors
    /// That of signalfd(2).
    pub fn take() -> sys::Result<Endings> {
        let set = ENDINGS.into_iter().fold(SigSet::empty(), |mut set, signal| {
            set.add(signal);
            set
        });
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before))?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Endings { fd, before })
    }

    fn pending(&self) -> Option<Signal> {
        let info = self.fd.read_signal().ok()??;
        Signal::try_from(info.ssi_signo as i32).ok()
    }
}

impl Drop for Endings {
    fn drop(&mut self) {
        // It takes any mask.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Waits for the first of what can come over the line of a process; a signal only where they are asked for.
///
/// # Errors
/// None that is known.
pub fn listen(
    line: BorrowedFd<'_>,
    process: BorrowedFd<'_>,
    endings: Option<&Endings>,
    timeout: PollTimeout,
) -> sys::Result<Event> {
    let mut watched = vec![PollFd::new(line, PollFlags::POLLIN), PollFd::new(process, PollFlags::POLLIN)];
    watched.extend(endings.map(|endings| PollFd::new(endings.fd.as_fd(), PollFlags::POLLIN)));
    loop {
        if sys::retry(|| poll(&mut watched, timeout))? == 0 {
            return Ok(Event::Silence);
        }
        // The last words come before the end.
        match watched.iter().position(|fd| fd.revents().is_some_and(|events| !events.is_empty())) {
            Some(0) => return Ok(Event::Word),
            Some(1) => return Ok(Event::End),
            Some(_) => {
                if let Some(signal) = endings.and_then(Endings::pending) {
                    return Ok(Event::Signal(signal));
                }
            }
            None => return Err(Errno::EINVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::os::fd::OwnedFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn the_last_words_come_before_the_end() {
        let ((ours, theirs), (process, end)) = (pair(), pair());
        let heard = || listen(ours.as_fd(), process.as_fd(), None, PollTimeout::from(10_u8)).unwrap();
        assert_eq!(heard(), Event::Silence);
        drop(end);
        assert_eq!(heard(), Event::End);
        nix::unistd::write(&theirs, b"word").unwrap();
        assert_eq!(heard(), Event::Word);
    }
}
