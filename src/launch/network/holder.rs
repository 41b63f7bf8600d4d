//! A process in the container's namespaces that does nothing but be there.
//!
//! slirp4netns enters its sandbox only where it is told its namespaces by the pid of a process, and nobody may
//! look into init, which holds descriptors of the host. So a second child is made that holds nothing, may be looked into, and ends as
//! soon as slirp4netns has entered. Its pid cannot be reused before, since it is our child and waited for after
//! that.

use crate::sys::clone::{self, Child, Join};
use crate::sys::{self, Errno, fds, process};
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

#[derive(Debug)]
pub struct Holder {
    child: Child,
    /// It ends with this end of the pipe, also when we are killed.
    line: Option<OwnedFd>,
}

impl Holder {
    /// Makes it.
    ///
    /// # Errors
    /// What setns(2) or clone(2) refuses.
    pub fn hold(user: Option<&OwnedFd>, network: &OwnedFd) -> sys::Result<Holder> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let user = user.map(|user| Join { fd: user.as_fd(), kinds: CloneFlags::CLONE_NEWUSER });
        let network = Join { fd: network.as_fd(), kinds: CloneFlags::CLONE_NEWNET };
        let joins: Vec<Join<'_>> = user.into_iter().chain([network]).collect();
        let spawned = clone::spawn(&joins, CloneFlags::empty(), None, &mut || {
            if fds::close_all_but(&[read.as_raw_fd()]).and_then(|()| process::set_dumpable()).is_ok() {
                // Nobody writes: this returns at the end of the line.
                let _ = sys::retry(|| nix::unistd::read(&read, &mut [0]));
            }
            process::exit_now(0)
        });
        let child = spawned.map_err(|error| error.errno)?;
        Ok(Holder { child, line: Some(write) })
    }

    pub fn pid(&self) -> i32 {
        self.child.pid
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.line = None;
        let pid = nix::unistd::Pid::from_raw(self.child.pid);
        let _: Result<_, Errno> = sys::retry(|| nix::sys::wait::waitpid(pid, None));
    }
}
