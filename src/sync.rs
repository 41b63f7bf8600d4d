//! What launch and init say to each other, typed in both directions.
//!
//! ```text
//!      launch (parent)                          init (child, one thread)
//!        clone  ------------------------------>  waits, still dumpable
//!        writes id maps
//!        Mapped  ----------------------------->  makes its namespaces, runs the steps
//!          <-----------------------  Namespace{kind}*    (only if a helper is to connect the network)
//!        starts the network's helper
//!          <-----------------------  FellBack{step, nth}*   (another means was used)
//!          <-----------------------  Source{step, mount?}*   (out of init's reach, or its ids are)
//!        the mount to show, or an errno -->
//!          <-----------------------  Serve{step, user namespace}*   (a process has to serve its root)
//!        a mount of it, or an errno -->
//!          <-----------------------  Served*            (it is, and may take as long as it likes from here on)
//!          <-----------------------  Copied{bytes}*     (how much had to be copied)
//!          <-----------------------  Mounted            (only if hooks wait for it)
//!        waits for the helper, createRuntime hooks
//!        Provisioned ------------------------->  createContainer hooks, pivot_root, identity
//!          <-----------------------  Console(fd)?       (the pty master)
//!          <-----------------------  Ready              (all that can fail early has not)
//!        records the state
//!        Recorded ---------------------------->  waits on the start socket   (create)
//!        Start ------------------------------->  startContainer hooks, seccomp, execve   (run, exec)
//!          <-----------------------  end of file: the exec happened
//!          <-----------------------  Failed{place, errno, detail}   at any time
//! ```
//!
//! The end of file means death before `Ready`, and success after it: the socket is close-on-exec. A parent
//! that dies is an end of file too, which init obeys by ending itself, so that nothing is left behind.
//!
//! The socket is of type SOCK_SEQPACKET: a message arrives whole or not at all. One that is longer than
//! [`CAPACITY`], or of which a byte makes no sense, is an error and never guessed at (CVE-2021-43784).

use crate::sys::{self, Errno, fds};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The longest message in bytes.
pub const CAPACITY: usize = 1024;

/// From launch to init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToInit {
    /// The id maps are in place (or there are none to write).
    Mapped,
    /// The createRuntime hooks have run.
    Provisioned,
    /// The state is on disk: who sends `start` will come by the start socket.
    Recorded,
    /// The state is on disk: go on at once.
    Start,
    /// Asked on the start socket by an exec: lend me your namespaces, since nobody else may open them.
    Lend,
}

/// From init to launch.
#[derive(Debug)]
pub enum FromInit {
    /// The means of this step was replaced by this one of its fallbacks.
    FellBack { step: u16, nth: u8 },
    /// The root file system of this step has to be served by a process in our user namespace: asks for it, and
    /// for a mount of what it serves.
    Serve { step: u16, userns: OwnedFd },
    /// It is served.
    Served,
    /// So much was copied, and so many files that we may not read were left out.
    Copied { bytes: u64, left_out: u64 },
    /// All mounts are made; the createRuntime hooks may look at them.
    Mounted,
    /// What this bind mount is to show is out of init's reach, or is to have ids that only launch may give it:
    /// asks for a mount of the source, or for this one of it back.
    Source { step: u16, tree: Option<OwnedFd> },
    /// The master of the container's terminal.
    Console(OwnedFd),
    /// One namespace of those that were to be lent: its `CLONE_NEW*` bit and its file. To an exec `Ready` ends them; launch,
    /// which starts the helper of the network with them, gets the network namespace last.
    Namespace { kind: i32, file: OwnedFd },
    /// Ready to run the program.
    Ready,
    /// The end.
    Failed(Failed),
}

/// Where init gave up, in numbers: the sentence is written by who holds the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    pub place: Place,
    pub errno: Errno,
    /// What a program or a file system said about it; may be empty, may be anything.
    pub detail: Vec<u8>,
}

/// The places in init's life where something can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The conversation itself.
    Sync,
    /// Making the namespaces.
    Isolate(Isolate),
    /// Step N of the plan.
    Step(u16),
    /// The ids of what step N mounts.
    Ids(u16),
    /// The fallback M of step N.
    Fallback(u16, u8),
    /// Becoming the process that the configuration describes.
    Process(Act),
    /// startContainer hook N.
    StartHook(u16),
    /// Finding the program.
    Lookup,
    /// The program is on a mount that lets nothing be executed.
    NoExec,
    /// execve(2).
    Exec,
}

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl $name {
            fn from_u16(number: u16) -> Option<$name> {
                match number { $($number => Some($name::$variant),)* _ => None }
            }
        }
    };
}

numbered! {
    /// What [`Place::Isolate`] was about.
    Isolate {
        Root = 0,
        Time = 1,
        Unshare = 2,
        Proc = 3,
        Cgroup = 4,
    }
}

numbered! {
    /// What [`Place::Process`] was about.
    Act {
        Session = 0,
        Terminal = 1,
        Keyring = 2,
        Label = 3,
        Rlimits = 4,
        Bounding = 5,
        Groups = 6,
        Gid = 7,
        Uid = 8,
        Capabilities = 9,
        Ambient = 10,
        NoNewPrivileges = 11,
        Seccomp = 12,
        Cwd = 13,
        CwdOutside = 14,
        Descriptors = 15,
        StartSocket = 16,
        Signals = 17,
        Stub = 18,
        Scheduler = 19,
        IoPriority = 20,
        Profile = 21,
        Home = 22,
    }
}

/// The tags from here on are those of fallbacks.
const FALLBACKS: u8 = 16;

impl Place {
    fn encode(self) -> (u8, u16) {
        match self {
            Place::Sync => (0, 0),
            Place::Isolate(what) => (1, what as u16),
            Place::Step(n) => (2, n),
            Place::Fallback(n, nth) => (FALLBACKS.saturating_add(nth), n),
            Place::Process(act) => (3, act as u16),
            Place::StartHook(n) => (4, n),
            Place::Lookup => (5, 0),
            Place::Exec => (6, 0),
            Place::Ids(n) => (7, n),
            Place::NoExec => (8, 0),
        }
    }

    fn decode(tag: u8, n: u16) -> Option<Place> {
        Some(match tag {
            0 => Place::Sync,
            1 => Place::Isolate(Isolate::from_u16(n)?),
            2 => Place::Step(n),
            3 => Place::Process(Act::from_u16(n)?),
            4 => Place::StartHook(n),
            5 => Place::Lookup,
            6 => Place::Exec,
            7 => Place::Ids(n),
            8 => Place::NoExec,
            FALLBACKS.. => Place::Fallback(n, tag - FALLBACKS),
            _ => return None,
        })
    }
}

/// One end of the conversation.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// Makes the two ends, launch's first.
///
/// # Errors
/// That of socketpair(2).
pub fn pair() -> sys::Result<(Channel, Channel)> {
    let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((Channel(a), Channel(b)))
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    /// A connection on the start socket speaks the same language.
    fn from(fd: OwnedFd) -> Channel {
        Channel(fd)
    }
}

impl Channel {
    /// Tells init something.
    ///
    /// # Errors
    /// `EPIPE` when init is gone.
    pub fn tell(&self, message: ToInit) -> sys::Result<()> {
        let byte = match message {
            ToInit::Mapped => 1,
            ToInit::Provisioned => 2,
            ToInit::Recorded => 3,
            ToInit::Start => 4,
            ToInit::Lend => 5,
        };
        fds::send(self.as_fd(), &[byte], None)
    }

    /// Answers [`FromInit::Source`].
    ///
    /// # Errors
    /// `EPIPE` when init is gone.
    pub fn lend(&self, mount: sys::Result<OwnedFd>) -> sys::Result<()> {
        match mount {
            Ok(mount) => fds::send(self.as_fd(), &0i32.to_le_bytes(), Some(mount.as_fd())),
            Err(errno) => fds::send(self.as_fd(), &(errno as i32).to_le_bytes(), None),
        }
    }

    /// Waits for the answer to [`FromInit::Source`].
    ///
    /// # Errors
    /// Launch's, and `EBADMSG` for what is no answer.
    pub fn lent(&self) -> sys::Result<OwnedFd> {
        let mut buffer = [0; 8];
        let (len, mount) = fds::receive(self.as_fd(), &mut buffer)?;
        let errno = buffer[..len].try_into().map(i32::from_le_bytes).map_err(|_| Errno::EBADMSG)?;
        match (errno, mount) {
            (0, Some(mount)) => Ok(mount),
            (0, None) => Err(Errno::EBADMSG),
            (errno, _) => Err(Errno::from_raw(errno)),
        }
    }

    /// Waits for launch; `None` when it is gone.
    ///
    /// # Errors
    /// `EBADMSG` for what is no message.
    pub fn told(&self) -> sys::Result<Option<ToInit>> {
        let mut buffer = [0; 8];
        let (len, _) = fds::receive(self.as_fd(), &mut buffer)?;
        match &buffer[..len] {
            [] => Ok(None),
            [1] => Ok(Some(ToInit::Mapped)),
            [2] => Ok(Some(ToInit::Provisioned)),
            [3] => Ok(Some(ToInit::Recorded)),
            [4] => Ok(Some(ToInit::Start)),
            [5] => Ok(Some(ToInit::Lend)),
            _ => Err(Errno::EBADMSG),
        }
    }

    /// Reports to launch. `Console` only borrows its descriptor's number: it stays ours.
    ///
    /// # Errors
    /// `EPIPE` when launch is gone.
    pub fn report(&self, message: &FromInit) -> sys::Result<()> {
        match message {
            FromInit::FellBack { step, nth } => {
                let [a, b] = step.to_le_bytes();
                fds::send(self.as_fd(), &[1, a, b, *nth], None)
            }
            FromInit::Serve { step, userns } => {
                let [a, b] = step.to_le_bytes();
                fds::send(self.as_fd(), &[8, a, b], Some(userns.as_fd()))
            }
            FromInit::Served => fds::send(self.as_fd(), &[10], None),
            FromInit::Copied { bytes, left_out } => {
                let mut message = vec![9];
                message.extend(bytes.to_le_bytes());
                message.extend(left_out.to_le_bytes());
                fds::send(self.as_fd(), &message, None)
            }
            FromInit::Source { step, tree } => {
                let [a, b] = step.to_le_bytes();
                fds::send(self.as_fd(), &[7, a, b], tree.as_ref().map(AsFd::as_fd))
            }
            FromInit::Mounted => fds::send(self.as_fd(), &[2], None),
            FromInit::Console(master) => fds::send(self.as_fd(), &[3], Some(master.as_fd())),
            FromInit::Ready => fds::send(self.as_fd(), &[4], None),
            FromInit::Namespace { kind, file } => {
                let [a, b, c, d] = kind.to_le_bytes();
                fds::send(self.as_fd(), &[6, a, b, c, d], Some(file.as_fd()))
            }
            FromInit::Failed(failed) => {
                let (tag, n) = failed.place.encode();
                let mut bytes = vec![5, tag];
                bytes.extend(n.to_le_bytes());
                bytes.extend((failed.errno as i32).to_le_bytes());
                let room = CAPACITY - bytes.len();
                bytes.extend(failed.detail.iter().take(room));
                fds::send(self.as_fd(), &bytes, None)
            }
        }
    }

    /// Waits for init; `None` when it is gone or has executed the program.
    ///
    /// # Errors
    /// `ECONNRESET` when it is gone and has left unread what it was told; `EBADMSG` for what is no message, `EMSGSIZE`
    /// for one over [`CAPACITY`].
    pub fn reported(&self) -> sys::Result<Option<FromInit>> {
        let mut buffer = [0; CAPACITY];
        let mut received = fds::receive(self.as_fd(), &mut buffer);
        let reset = matches!(received, Err(Errno::ECONNRESET));
        if reset {
            // A peer that dies with messages unread resets the connection, which is told once, and before what it said
            // last (__skb_try_recv_datagram in net/core/datagram.c).
            received = fds::receive(self.as_fd(), &mut buffer);
        }
        let (len, fd) = received?;
        if len == 0 {
            return if reset { Err(Errno::ECONNRESET) } else { Ok(None) };
        }
        decode(&buffer[..len], fd).map(Some).ok_or(Errno::EBADMSG)
    }
}

fn decode(bytes: &[u8], fd: Option<OwnedFd>) -> Option<FromInit> {
    match (bytes, fd) {
        ([1, a, b, nth], None) => Some(FromInit::FellBack { step: u16::from_le_bytes([*a, *b]), nth: *nth }),
        ([8, a, b], Some(userns)) => Some(FromInit::Serve { step: u16::from_le_bytes([*a, *b]), userns }),
        ([10], None) => Some(FromInit::Served),
        ([9, rest @ ..], None) => {
            let (bytes, left_out) = rest.split_first_chunk::<8>()?;
            let left_out = u64::from_le_bytes(left_out.try_into().ok()?);
            Some(FromInit::Copied { bytes: u64::from_le_bytes(*bytes), left_out })
        }
        ([7, a, b], tree) => Some(FromInit::Source { step: u16::from_le_bytes([*a, *b]), tree }),
        ([2], None) => Some(FromInit::Mounted),
        ([3], Some(master)) => Some(FromInit::Console(master)),
        ([4], None) => Some(FromInit::Ready),
        ([6, a, b, c, d], Some(file)) => {
            Some(FromInit::Namespace { kind: i32::from_le_bytes([*a, *b, *c, *d]), file })
        }
        ([5, tag, a, b, e0, e1, e2, e3, detail @ ..], None) => {
            let place = Place::decode(*tag, u16::from_le_bytes([*a, *b]))?;
            let errno = Errno::from_raw(i32::from_le_bytes([*e0, *e1, *e2, *e3]));
            Some(FromInit::Failed(Failed { place, errno, detail: detail.to_vec() }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        let (launch, init) = pair().unwrap();
        for place in [
            Place::Sync,
            Place::Isolate(Isolate::Unshare),
            Place::Step(513),
            Place::Ids(3),
            Place::NoExec,
            Place::Fallback(513, 1),
            Place::Process(Act::Seccomp),
            Place::StartHook(2),
            Place::Lookup,
            Place::Exec,
        ] {
            let sent = Failed { place, errno: Errno::EACCES, detail: b"because".to_vec() };
            init.report(&FromInit::Failed(sent.clone())).unwrap();
            match launch.reported().unwrap() {
                Some(FromInit::Failed(got)) => assert_eq!(got, sent),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_long_detail_is_cut_and_the_message_stays_within_the_cap() {
        let (launch, init) = pair().unwrap();
        let sent = Failed { place: Place::Exec, errno: Errno::EIO, detail: vec![b'x'; 10 * CAPACITY] };
        init.report(&FromInit::Failed(sent)).unwrap();
        match launch.reported().unwrap() {
            Some(FromInit::Failed(got)) => assert_eq!(got.detail.len(), CAPACITY - 8),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_over_the_cap_is_an_error() {
        let (launch, init) = pair().unwrap();
        fds::send(init.as_fd(), &[5; CAPACITY + 1], None).unwrap();
        assert_eq!(launch.reported().unwrap_err(), Errno::EMSGSIZE);
        fds::send(launch.as_fd(), &[1; 9], None).unwrap();
        assert_eq!(init.told().unwrap_err(), Errno::EMSGSIZE);
    }

    #[test]
    fn every_message_of_up_to_four_odd_bytes_is_decoded_or_refused_without_a_panic() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                for len in 1..=9 {
                    let mut bytes = [b; 9];
                    bytes[0] = a;
                    let _ = decode(&bytes[..len], None);
                }
            }
        }
    }

    #[test]
    fn a_console_without_a_descriptor_is_refused() {
        assert!(decode(&[3], None).is_none());
    }

    #[test]
    fn a_mount_is_lent_or_the_reason_why_not() {
        let (launch, init) = pair().unwrap();
        init.report(&FromInit::Source { step: 300, tree: None }).unwrap();
        assert!(matches!(launch.reported().unwrap(), Some(FromInit::Source { step: 300, tree: None })));
        let tree: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        init.report(&FromInit::Source { step: 1, tree: Some(tree) }).unwrap();
        assert!(matches!(launch.reported().unwrap(), Some(FromInit::Source { step: 1, tree: Some(_) })));
        launch.lend(Err(Errno::EACCES)).unwrap();
        assert_eq!(init.lent().unwrap_err(), Errno::EACCES);
        let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        launch.lend(Ok(null)).unwrap();
        assert!(init.lent().is_ok());
        launch.tell(ToInit::Start).unwrap();
        assert_eq!(init.lent().unwrap_err(), Errno::EBADMSG);
    }

    #[test]
    fn the_last_words_of_a_peer_that_did_not_listen_any_more_are_heard() {
        let (launch, init) = pair().unwrap();
        launch.tell(ToInit::Mapped).unwrap();
        let sent = Failed { place: Place::Sync, errno: Errno::EINVAL, detail: Vec::new() };
        init.report(&FromInit::Failed(sent.clone())).unwrap();
        drop(init);
        match launch.reported().unwrap() {
            Some(FromInit::Failed(got)) => assert_eq!(got, sent),
            other => panic!("{other:?}"),
        }
        assert!(launch.reported().unwrap().is_none());
    }

    #[test]
    fn a_peer_that_is_gone_without_having_listened_has_not_executed_anything() {
        let (launch, init) = pair().unwrap();
        launch.tell(ToInit::Start).unwrap();
        drop(init);
        assert_eq!(launch.reported().unwrap_err(), Errno::ECONNRESET);
    }

    #[test]
    fn the_end_of_the_peer_is_none() {
        let (launch, init) = pair().unwrap();
        drop(init);
        assert!(launch.reported().unwrap().is_none());
    }
}
