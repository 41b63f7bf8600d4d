//! A small blocking D-Bus client: one connection, one call at a time, a deadline for each.
//!
//! It knows nothing of containers. Why not a library: those that are kept well start threads, which forbids the
//! clone that makes a container; the small blocking one (rustbus 0.19) names itself by the uid of its own user
//! namespace, which the bus refuses, and cannot be told otherwise.
//!
//! We name ourselves by no uid at all: SASL's EXTERNAL with an empty identity asks the bus to take what the kernel
//! says of the socket's other end, and that is right from inside any user namespace. Since our half of that
//! conversation does not depend on the other, it is sent in one piece.
//!
//! Descriptors are sent, never received: nothing that we call returns one, and those that come anyway are closed by
//! the kernel, since we receive without room for them.

pub mod address;
pub mod text;
pub mod value;
pub mod wire;

pub use address::Address;
pub use value::Value;
pub use wire::Message;

use crate::sys::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, UnixAddr, connect, getsockopt,
    recv, sendmsg, setsockopt, shutdown, socket, sockopt,
};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};
use wire::{Kind, Malformed};

/// The bus itself, which answers under its own name.
const BUS: &str = "org.freedesktop.DBus";
/// A flag of calls: whoever does not run is not to be started.
const NO_AUTO_START: u8 = 2;
/// What we say until the first message: who we are (whom the kernel says), that we pass descriptors, go ahead.
const GREETING: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n";
/// What the other side may say until then.
const ANSWERS: usize = 4096;

/// Why something did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The call was answered with an error.
    Refused { name: String, message: String },
    /// The deadline has passed. The connection can be used further; the answer, if it comes, is dropped.
    TimedOut,
    /// The connection could not be made, or is lost.
    Io(Errno),
    /// The other side does not speak D-Bus as we know it, or what we were to send is not D-Bus.
    Malformed(&'static str),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::Io(errno)
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Error {
        Error::Malformed(malformed.0)
    }
}

type Result<T> = std::result::Result<T, Error>;

/// Who is at the other end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// A bus, which passes messages on to others by name.
    Bus,
    /// A service itself: it wants no Hello, and sends its signals without being asked.
    Service,
}

/// A method call.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
    pub body: &'a [Value],
    /// The descriptors that [`Value::Fd`] in the body counts.
    pub fds: &'a [BorrowedFd<'a>],
}

/// Signals that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    pub sender: &'static str,
    pub path: &'static str,
    pub interface: &'static str,
    pub member: &'static str,
}

impl Interest {
    fn rule(&self) -> String {
        let Interest { sender, path, interface, member } = self;
        format!("type='signal',sender='{sender}',path='{path}',interface='{interface}',member='{member}'")
    }

    fn covers(&self, signal: &Message) -> bool {
        signal.path.as_deref() == Some(self.path)
            && signal.interface.as_deref() == Some(self.interface)
            && signal.member.as_deref() == Some(self.member)
    }
}

/// A connection to a bus or a service.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    peer: Peer,
    passes_fds: bool,
    /// What was received and not yet read.
    input: Vec<u8>,
    /// The serial of the last message that was sent.
    serial: u32,
    interests: Vec<Interest>,
    /// Signals of interest that came while we waited for something else.
    signals: VecDeque<Message>,
}

impl Connection {
    /// Connects and introduces us.
    ///
    /// # Errors
    /// `ECONNREFUSED` and the like where nobody listens, `EACCES` where we are not wanted, `EPROTONOSUPPORT` for an
    /// address that is no Unix socket.
    pub fn connect(address: &Address, peer: Peer, deadline: Instant) -> Result<Connection> {
        Connection::greet(open(address, deadline)?, peer, deadline)
    }

    fn greet(socket: OwnedFd, peer: Peer, deadline: Instant) -> Result<Connection> {
        let mut connection = Connection {
            socket,
            peer,
            passes_fds: false,
            input: Vec::new(),
            serial: 0,
            interests: Vec::new(),
            signals: VecDeque::new(),
        };
        connection.send(GREETING, &[], deadline)?;
        connection.authenticate(deadline)?;
        if peer == Peer::Bus {
            connection.call_bus("Hello", &[], deadline)?;
        }
        Ok(connection)
    }

    /// Whether who listens there is in our pid namespace, or in one below: only then a pid means the same to both.
    pub fn shares_pids(&self) -> bool {
        // A process that we have no pid of is 0 to us (unix(7), SO_PEERCRED).
        getsockopt(&self.socket, sockopt::PeerCredentials).is_ok_and(|peer| peer.pid() != 0)
    }

    /// Hears what is said to our greeting.
    fn authenticate(&mut self, deadline: Instant) -> Result<()> {
        let challenge = self.line(deadline)?;
        if challenge.starts_with("REJECTED") {
            return Err(Errno::EACCES.into());
        }
        if challenge.trim_end() != "DATA" {
            return Err(Error::Malformed("no answer to AUTH"));
        }
        let verdict = self.line(deadline)?;
        if verdict.starts_with("REJECTED") {
            return Err(Errno::EACCES.into());
        }
        if !verdict.starts_with("OK") {
            return Err(Error::Malformed("no answer to DATA"));
        }
        self.passes_fds = self.line(deadline)? == "AGREE_UNIX_FD";
        Ok(())
    }

    /// A line of the conversation before the first message, without its end.
    fn line(&mut self, deadline: Instant) -> Result<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|bytes| bytes == b"\r\n") {
                let line = self.input[..end].to_vec();
                self.input.drain(..end + 2);
                return String::from_utf8(line).map_err(|_| Error::Malformed("a line that is not text"));
            }
            if self.input.len() > ANSWERS {
                return Err(Error::Malformed("a line without an end"));
            }
            self.receive(deadline)?;
        }
    }

    /// Whether calls may have descriptors.
    pub fn passes_fds(&self) -> bool {
        self.passes_fds
    }

    /// Calls a method and returns what it returns.
    ///
    /// # Errors
    /// Those of [`Error`].
    pub fn call(&mut self, call: &Call<'_>, deadline: Instant) -> Result<Vec<Value>> {
        self.serial = self.serial.checked_add(1).ok_or(Error::Malformed("too many calls"))?;
        let serial = self.serial;
        let message = Message {
            kind: Kind::Call,
            flags: NO_AUTO_START,
            serial,
            path: Some(call.path.to_owned()),
            interface: Some(call.interface.to_owned()),
            member: Some(call.member.to_owned()),
            destination: Some(call.destination.to_owned()),
            fds: call.fds.len() as u32,
            body: call.body.to_vec(),
            ..Message::default()
        };
        self.send(&message.encode()?, call.fds, deadline)?;
        loop {
            let message = self.message(deadline)?;
            match message.kind {
                Kind::Return if message.reply_serial == Some(serial) => return Ok(message.body),
                Kind::Error if message.reply_serial == Some(serial) => return Err(refusal(message)),
                Kind::Signal => self.keep(message),
                // Late answers to calls that were given up, and calls, which we do not take.
                _ => {}
            }
        }
    }

    fn call_bus(&mut self, member: &str, body: &[Value], deadline: Instant) -> Result<Vec<Value>> {
        let call =
            Call { destination: BUS, path: "/org/freedesktop/DBus", interface: BUS, member, body, fds: &[] };
        self.call(&call, deadline)
    }

    /// Makes sure that whoever has a name on the bus is there. Of a service, that is so since we are connected.
    ///
    /// # Errors
    /// `org.freedesktop.DBus.Error.NameHasNoOwner`.
    pub fn find(&mut self, name: &str, deadline: Instant) -> Result<()> {
        match self.peer {
            Peer::Bus => self.call_bus("GetNameOwner", &[name.into()], deadline).map(drop),
            Peer::Service => Ok(()),
        }
    }

    /// From here on such signals are kept for [`Connection::wait_signal`]; others are dropped as they come.
    ///
    /// # Errors
    /// Those of a call.
    pub fn subscribe(&mut self, interest: Interest, deadline: Instant) -> Result<()> {
        if self.interests.contains(&interest) {
            return Ok(());
        }
        if self.peer == Peer::Bus {
            self.call_bus("AddMatch", &[Value::String(interest.rule())], deadline)?;
        }
        self.interests.push(interest);
        Ok(())
    }

    fn keep(&mut self, signal: Message) {
        if self.interests.iter().any(|interest| interest.covers(&signal)) {
            self.signals.push_back(signal);
        }
    }

    /// Waits for a signal of which `pick` makes something. Those that it passes over are gone.
    ///
    /// # Errors
    /// Those of [`Error`] but `Refused`.
    pub fn wait_signal<T>(
        &mut self,
        mut pick: impl FnMut(&Message) -> Option<T>,
        deadline: Instant,
    ) -> Result<T> {
        loop {
            while let Some(signal) = self.signals.pop_front() {
                if let Some(picked) = pick(&signal) {
                    return Ok(picked);
                }
            }
            let message = self.message(deadline)?;
            if message.kind == Kind::Signal {
                self.keep(message);
            }
        }
    }

    /// The next message.
    fn message(&mut self, deadline: Instant) -> Result<Message> {
        loop {
            match self.buffered() {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => self.receive(deadline)?,
                Err(malformed) => {
                    // Where the next message begins is not known.
                    self.give_up();
                    return Err(malformed.into());
                }
            }
        }
    }

    fn buffered(&mut self) -> std::result::Result<Option<Message>, Malformed> {
        let Some(length) = Message::length(&self.input)? else { return Ok(None) };
        let Some(bytes) = self.input.get(..length) else { return Ok(None) };
        let message = Message::decode(bytes)?;
        self.input.drain(..length);
        Ok(Some(message))
    }

    /// Receives what is there, and waits for something if nothing is.
    fn receive(&mut self, deadline: Instant) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(Errno::ECONNRESET.into()),
                Ok(length) => {
                    self.input.extend(&buffer[..length]);
                    return Ok(());
                }
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN, deadline)?,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sends it all; the descriptors go with the first byte.
    fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>], deadline: Instant) -> Result<()> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let mut rest = bytes;
        while !rest.is_empty() {
            let first = rest.len() == bytes.len() && !raw.is_empty();
            let control: &[ControlMessage<'_>] = if first { &rights } else { &[] };
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            let parts = [IoSlice::new(rest)];
            let sent = match sendmsg::<UnixAddr>(self.socket.as_raw_fd(), &parts, control, flags, None) {
                Ok(length) => {
                    rest = &rest[length..];
                    Ok(())
                }
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT, deadline),
                Err(Errno::EINTR) => Ok(()),
                Err(errno) => Err(errno.into()),
            };
            if sent.is_err() {
                // After half a message nothing can be sent that would be understood.
                self.give_up();
                return sent;
            }
        }
        Ok(())
    }

    fn wait(&self, events: PollFlags, deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::TimedOut);
        }
        // Up to the next millisecond, lest the last one is waited for without sleeping.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), events)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes every further use of the connection an error.
    fn give_up(&mut self) {
        self.input.clear();
        // ENOTCONN where the other side has done the same.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }
}

fn refusal(message: Message) -> Error {
    let text = match message.body.into_iter().next() {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    Error::Refused { name: message.error_name.unwrap_or_default(), message: text }
}

/// A socket that is connected.
fn open(address: &Address, deadline: Instant) -> Result<OwnedFd> {
    let at = match address {
        Address::Path(path) => UnixAddr::new(path)?,
        Address::Abstract(name) => UnixAddr::new_abstract(name)?,
        Address::Other(_) => return Err(Errno::EPROTONOSUPPORT.into()),
    };
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    loop {
        // Where too many wait to be accepted, connect(2) waits for its turn, which poll(2) cannot.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
        let timeout = TimeVal::new(left.as_secs() as _, left.subsec_micros().into());
        setsockopt(&socket, sockopt::SendTimeout, &timeout)?;
        match connect(socket.as_raw_fd(), &at) {
            Ok(()) => return Ok(socket),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(Error::TimedOut),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
pub mod testing {
    //! The other side of a connection, for tests.

    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    pub const WELCOME: &[u8] = b"DATA\r\nOK 0123\r\nAGREE_UNIX_FD\r\n";

    /// A connection to a service, and the service's end of it.
    pub fn pair() -> (Connection, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        // What it answers does not depend on what it hears.
        theirs.write_all(WELCOME).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let connection = Connection::greet(ours.into(), Peer::Service, deadline).unwrap();
        theirs.read_exact(&mut [0; GREETING.len()]).unwrap();
        (connection, theirs)
    }

    /// The next message; none where the other end is closed.
    pub fn read(stream: &mut UnixStream) -> Option<Message> {
        let mut bytes = vec![0; 16];
        stream.read_exact(&mut bytes).ok()?;
        let length = Message::length(&bytes).unwrap().unwrap();
        bytes.resize(length, 0);
        stream.read_exact(&mut bytes[16..]).unwrap();
        Some(Message::decode(&bytes).unwrap())
    }

    pub fn send(stream: &mut UnixStream, messages: &[Message]) {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| message.encode().unwrap()).collect();
        stream.write_all(&bytes).unwrap();
    }

    /// The answer to a call.
    pub fn answer(serial: u32, body: Vec<Value>) -> Message {
        Message { kind: Kind::Return, serial: 1, reply_serial: Some(serial), body, ..Message::default() }
    }

    /// The answer that it is refused.
    pub fn refusal(serial: u32, name: &str, text: &str) -> Message {
        let error_name = Some(name.to_owned());
        Message { kind: Kind::Error, error_name, ..answer(serial, vec![text.into()]) }
    }

    pub fn signal(path: &str, interface: &str, member: &str, body: Vec<Value>) -> Message {
        let [path, interface, member] = [path, interface, member].map(|name| Some(name.to_owned()));
        Message { kind: Kind::Signal, serial: 1, path, interface, member, body, ..Message::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{WELCOME, answer, read, send};
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::thread::JoinHandle;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// Connects to another side that says `first`, and then does what it is told.
    fn meet<T: Send + 'static>(
        first: &'static [u8],
        then: impl FnOnce(UnixStream) -> T + Send + 'static,
    ) -> (Result<Connection>, JoinHandle<T>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let other = std::thread::spawn(move || {
            let mut greeting = [0; GREETING.len()];
            theirs.read_exact(&mut greeting).unwrap();
            assert_eq!(greeting, GREETING);
            theirs.write_all(first).unwrap();
            then(theirs)
        });
        (Connection::greet(ours.into(), Peer::Service, soon()), other)
    }

    fn call<'a>(body: &'a [Value], fds: &'a [BorrowedFd<'a>]) -> Call<'a> {
        Call { destination: "a.b", path: "/a", interface: "a.b", member: "C", body, fds }
    }

    const REMOVED: Interest = Interest { sender: "a.b", path: "/a", interface: "a.b", member: "Removed" };

    fn signal(member: &str, number: u32) -> Message {
        testing::signal("/a", "a.b", member, vec![Value::U32(number)])
    }

    #[test]
    fn a_call_gets_its_own_answer() {
        let (connection, other) = meet(WELCOME, |mut stream| {
            let call = read(&mut stream).unwrap();
            let late = answer(call.serial.wrapping_add(7), vec![Value::U32(1)]);
            send(&mut stream, &[late, answer(call.serial, vec![Value::U32(2)])]);
            call
        });
        let body = [Value::from("text")];
        assert_eq!(connection.unwrap().call(&call(&body, &[]), soon()), Ok(vec![Value::U32(2)]));
        let message = other.join().unwrap();
        assert_eq!((message.body.as_slice(), message.flags), (body.as_slice(), NO_AUTO_START));
    }

    #[test]
    fn an_error_has_its_name_and_message() {
        let (connection, other) = meet(WELCOME, |mut stream| {
            let serial = read(&mut stream).unwrap().serial;
            send(&mut stream, &[testing::refusal(serial, "a.b.No", "because")]);
        });
        let refused = Error::Refused { name: "a.b.No".to_owned(), message: "because".to_owned() };
        assert_eq!(connection.unwrap().call(&call(&[], &[]), soon()), Err(refused));
        other.join().unwrap();
    }

    #[test]
    fn signals_of_interest_that_come_before_the_answer_are_kept() {
        let (connection, other) = meet(WELCOME, |mut stream| {
            let serial = read(&mut stream).unwrap().serial;
            let early =
                [signal("Removed", 1), signal("Added", 2), signal("Removed", 3), answer(serial, vec![])];
            send(&mut stream, &early);
            // Byte by byte: a message need not come at once.
            for byte in signal("Removed", 4).encode().unwrap() {
                stream.write_all(&[byte]).unwrap();
            }
        });
        let mut connection = connection.unwrap();
        connection.subscribe(REMOVED, soon()).unwrap();
        connection.call(&call(&[], &[]), soon()).unwrap();
        let number = |signal: &Message| match signal.body.as_slice() {
            [Value::U32(number)] => Some(*number),
            _ => None,
        };
        assert_eq!(connection.wait_signal(number, soon()), Ok(1));
        assert_eq!(connection.wait_signal(|s| number(s).filter(|n| *n > 3), soon()), Ok(4));
        other.join().unwrap();
        assert_eq!(connection.wait_signal(number, soon()), Err(Error::Io(Errno::ECONNRESET)));
    }

    #[test]
    fn descriptors_go_with_the_message() {
        let (connection, other) = meet(WELCOME, |mut stream| {
            let mut first = [0; 1];
            let (_, fd) = crate::sys::fds::receive(stream.as_fd(), &mut first).unwrap();
            let mut rest = [0; 4096];
            let length = stream.read(&mut rest).unwrap();
            let message = Message::decode(&[&first, &rest[..length]].concat()).unwrap();
            send(&mut stream, &[answer(message.serial, vec![])]);
            (message, fd)
        });
        let (reader, mut writer) = UnixStream::pair().unwrap();
        let body = [Value::Fd(0)];
        let mut connection = connection.unwrap();
        assert!(connection.passes_fds());
        connection.call(&call(&body, &[reader.as_fd()]), soon()).unwrap();
        let (message, fd) = other.join().unwrap();
        assert_eq!((message.fds, message.body.as_slice()), (1, body.as_slice()));
        writer.write_all(b"x").unwrap();
        let mut byte = [0; 1];
        UnixStream::from(fd.unwrap()).read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn who_is_not_wanted_or_not_understood_is_told_so() {
        let refused = |first| {
            let (connection, other) = meet(first, drop);
            other.join().unwrap();
            connection.unwrap_err()
        };
        assert_eq!(refused(b"REJECTED EXTERNAL\r\n"), Error::Io(Errno::EACCES));
        assert_eq!(refused(b"DATA\r\nREJECTED EXTERNAL\r\n"), Error::Io(Errno::EACCES));
        assert_eq!(refused(b""), Error::Io(Errno::ECONNRESET));
        assert_eq!(refused(b"DATA"), Error::Io(Errno::ECONNRESET));
        assert!(matches!(refused(b"HTTP/1.1 400\r\n"), Error::Malformed(_)));
        assert!(matches!(refused(&[b'x'; 10_000]), Error::Malformed(_)));
        assert!(matches!(refused(b"\xff\r\n"), Error::Malformed(_)));
    }

    #[test]
    fn a_service_without_descriptors_is_one_nevertheless() {
        let (connection, other) = meet(b"DATA\r\nOK 0123\r\nERROR\r\n", drop);
        assert!(!connection.unwrap().passes_fds());
        other.join().unwrap();
    }

    #[test]
    fn silence_ends_at_the_deadline_and_a_late_answer_is_dropped() {
        let (connection, other) = meet(WELCOME, |mut stream| {
            let first = read(&mut stream).unwrap().serial;
            let second = read(&mut stream).unwrap().serial;
            send(&mut stream, &[answer(first, vec![Value::U32(1)]), answer(second, vec![Value::U32(2)])]);
        });
        let mut connection = connection.unwrap();
        let deadline = Instant::now() + Duration::from_millis(30);
        assert_eq!(connection.call(&call(&[], &[]), deadline), Err(Error::TimedOut));
        assert_eq!(connection.call(&call(&[], &[]), soon()), Ok(vec![Value::U32(2)]));
        other.join().unwrap();
    }

    #[test]
    fn who_reads_nothing_does_not_keep_us() {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let (connection, other) = meet(WELCOME, move |_stream| wait.recv());
        let mut connection = connection.unwrap();
        let body = [Value::from("x".repeat(900_000).as_str())];
        let deadline = Instant::now() + Duration::from_millis(30);
        assert_eq!(connection.call(&call(&body, &[]), deadline), Err(Error::TimedOut));
        // Half a message is on its way.
        assert_eq!(connection.call(&call(&[], &[]), soon()), Err(Error::Io(Errno::EPIPE)));
        drop(release);
        assert!(other.join().unwrap().is_err());
    }

    #[test]
    fn after_nonsense_nothing_is_believed() {
        let (connection, other) = meet(WELCOME, |mut stream| {
            read(&mut stream).unwrap();
            stream.write_all(&[b'x'; 64]).unwrap();
        });
        let mut connection = connection.unwrap();
        assert!(matches!(connection.call(&call(&[], &[]), soon()), Err(Error::Malformed(_))));
        assert_eq!(connection.call(&call(&[], &[]), soon()), Err(Error::Io(Errno::EPIPE)));
        other.join().unwrap();
    }

    #[test]
    fn a_socket_whose_queue_is_full_is_given_up_at_the_deadline() {
        let name = format!("bryo-test-{}", std::process::id()).into_bytes();
        let address = UnixAddr::new_abstract(&name).unwrap();
        let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        nix::sys::socket::bind(listener.as_raw_fd(), &address).unwrap();
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let connect = || {
            let deadline = Instant::now() + Duration::from_millis(30);
            Connection::connect(&Address::Abstract(name.clone()), Peer::Bus, deadline).unwrap_err()
        };
        // The first waits to be answered, the second to be accepted.
        let _held = open(&Address::Abstract(name.clone()), soon()).unwrap();
        assert_eq!([connect(), connect()], [Error::TimedOut, Error::TimedOut]);
    }
}
