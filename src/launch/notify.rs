//! Readiness for who supervises us (sd_notify(3)): systemd waits for a word from a service, and the service is the
//! container.
//!
//! The supervisor's socket stays outside. What runs in the container finds one of ours in its place, and of all
//! that it may say only that it is ready is passed on, with the pid that *we* know it by: a container that could
//! name any main pid, or store descriptors with the supervisor, would reach out of its namespaces.

use crate::report::{Act, Failure, debug};
use crate::state::store::Entry;
use crate::sys::{self, Errno};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, recv, sendmsg, socket,
};
use oci_spec::runtime::{Mount, MountBuilder, Spec};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The variable by which services know the socket.
pub const VARIABLE: &str = "NOTIFY_SOCKET";
/// Where the directory with our socket is, in the container; runc's place.
pub const INSIDE: &str = "/run/notify";
/// The name of the socket in its directory, and with it in the container's directory.
const NAME: &str = "notify.sock";

/// How long the supervisor may take to read what we have said, in milliseconds.
const PATIENCE_MS: u16 = 5_000;

/// The address of the supervisor's socket.
pub fn supervisor() -> Option<String> {
    std::env::var(VARIABLE).ok().filter(|address| address.starts_with(['/', '@']) && address.len() > 1)
}

/// Changes a configuration so that the container finds the socket of this directory.
///
/// # Errors
/// None that is known.
pub fn announce(spec: &mut Spec, directory: &Path) -> Result<(), Failure> {
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(String::from).to_vec();
    let mount: Mount = MountBuilder::default()
        .destination(INSIDE)
        .source(directory)
        .options(options)
        .build()
        .map_err(|error| Failure::new("cannot announce the notify socket", error.to_string()))?;
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.push(format!("{VARIABLE}={INSIDE}/{NAME}"));
        process.set_env(Some(env));
    }
    Ok(())
}

/// The container's socket, and the supervisor's address.
#[derive(Debug)]
pub struct Notify {
    socket: OwnedFd,
    supervisor: String,
}

impl Notify {
    /// Makes the socket of a container, if it was created for one and we are supervised.
    ///
    /// # Errors
    /// That of bind(2).
    pub fn listen(entry: &Entry, id: &str) -> Result<Option<Notify>, Failure> {
        let Some(supervisor) = supervisor().filter(|_| entry.path().join(Entry::NOTIFY).is_dir()) else {
            return Ok(None);
        };
        let act = || format!("cannot make the notify socket of container {id}");
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None).act(act)?;
        let path = entry.short_path(Entry::NOTIFY).join(NAME);
        bind(socket.as_raw_fd(), &UnixAddr::new(&path).act(act)?).act(act)?;
        // Whoever the service runs as.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&path, everybody).act(act)?;
        Ok(Some(Notify { socket, supervisor }))
    }

    /// Where to wait for the container's word.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads what the container has said; passes on that it is ready, and says whether it did.
    pub fn turn(&self, pid: i32) -> bool {
        let mut buffer = [0; 4096];
        while let Ok(len) = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            if buffer[..len].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                if let Err(errno) = self.tell(pid) {
                    debug(|| format!("cannot tell {} that the container is ready: {errno}", self.supervisor));
                }
                return true;
            }
        }
        false
    }

    /// Waits until the container is ready, or its end.
    ///
    /// # Errors
    /// That of poll(2).
    pub fn until_ready(&self, container: &OwnedFd, pid: i32) -> Result<(), Failure> {
        loop {
            let mut polled = [self.fd(), container.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            sys::retry(|| poll(&mut polled, PollTimeout::NONE)).act(|| "cannot wait for the container")?;
            let ended = polled[1].any() == Some(true);
            if self.turn(pid) || ended {
                return Ok(());
            }
        }
    }

    /// Tells the supervisor, and waits until it has read it: once we have ended, it could not see any more whom it
    /// was from.
    fn tell(&self, pid: i32) -> sys::Result<()> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        let address = match self.supervisor.strip_prefix('@') {
            Some(name) => UnixAddr::new_abstract(name.as_bytes())?,
            None => UnixAddr::new(self.supervisor.as_str())?,
        };
        let send = |text: &str, fds: &[i32]| {
            let with = [ControlMessage::ScmRights(fds)];
            let with = if fds.is_empty() { &with[..0] } else { &with[..] };
            let text = [IoSlice::new(text.as_bytes())];
            sendmsg(socket.as_raw_fd(), &text, with, MsgFlags::MSG_NOSIGNAL, Some(&address)).map(drop)
        };
        send(&format!("READY=1\nMAINPID={pid}"), &[])?;
        // sd_notify_barrier(3), systemd 246: it closes the descriptor when it comes to it.
        let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        send("BARRIER=1", &[theirs.as_raw_fd()])?;
        drop(theirs);
        let mut closed = [PollFd::new(ours.as_fd(), PollFlags::empty())];
        match sys::retry(|| poll(&mut closed, PollTimeout::from(PATIENCE_MS))) {
            Ok(0) => Err(Errno::ETIMEDOUT),
            other => other.map(drop),
        }
    }
}
