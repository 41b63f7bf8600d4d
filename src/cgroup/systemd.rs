//! Scopes of systemd: what is asked of it over D-Bus.
//!
//! Whoever may not write to the cgroup tree asks the service manager that owns a part of it: the user's own manager,
//! or root the machine's. It makes a *transient scope*, a unit without a file that holds processes which somebody
//! else has started, and with `Delegate` its cgroup becomes ours. Asking queues a job; the answer is the job's path,
//! and the job is over when the signal `JobRemoved` says with what result. So we listen before we ask.
//!
//! A scope ends by itself when its last process does; it stays where that counts as a failure (an OOM kill, a
//! timeout), until it is reset. Whoever stops a scope therefore resets it afterwards, and a failed one of
//! the same name does not hinder a new one.

use crate::dbus::{self, Address, Call, Connection, Interest, Peer, Value};
use crate::report::{errno_text, one_line};
use crate::sys::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const OBJECT: &str = "/org/freedesktop/systemd1";
const JOB_REMOVED: Interest =
    Interest { sender: SYSTEMD, path: OBJECT, interface: MANAGER, member: "JobRemoved" };

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// What systemd says of a property that it does not know.
const PROPERTY_READ_ONLY: &str = "org.freedesktop.DBus.Error.PropertyReadOnly";

/// How long to wait for each candidate to answer at all.
const CONNECTING: Duration = Duration::from_secs(10);
/// How long to wait for what systemd was asked to do.
const DOING: Duration = Duration::from_secs(30);
/// How long to wait for the word that an undo has begun.
const UNDOING: Duration = Duration::from_secs(5);

/// Whose service manager is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    User,
    /// The machine's. It is root's to ask: a plain user would at best be asked for a password.
    System,
}

/// What tells where managers can be reached.
#[derive(Debug, Clone, Copy)]
pub struct Environment<'a> {
    /// Our uid outside of all user namespaces of our own.
    pub uid: u32,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<&'a Path>,
    /// `DBUS_SESSION_BUS_ADDRESS`.
    pub session_bus: Option<&'a str>,
    /// `DBUS_SYSTEM_BUS_ADDRESS`.
    pub system_bus: Option<&'a str>,
}

/// A place where a manager may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    pub address: Address,
    pub peer: Peer,
}

/// Where a manager may be reached, the best first: a bus, then the manager's own socket, which is there without
/// any bus.
pub fn candidates(manager: Manager, environment: &Environment<'_>) -> Vec<Candidate> {
    let (told, buses, sockets) = match manager {
        Manager::User => {
            let dirs = runtime_dirs(environment);
            let below = |name: &str| dirs.iter().map(|dir| dir.join(name)).collect::<Vec<_>>();
            (environment.session_bus, below("bus"), below("systemd/private"))
        }
        Manager::System => {
            let at = |path: &str| vec![PathBuf::from(path)];
            (environment.system_bus, at("/run/dbus/system_bus_socket"), at("/run/systemd/private"))
        }
    };
    let told = told.map(Address::list).unwrap_or_default();
    let mut candidates: Vec<Candidate> = Vec::new();
    let buses = told.into_iter().chain(buses.into_iter().map(Address::Path));
    let services = sockets.into_iter().map(Address::Path);
    for (address, peer) in buses.map(|a| (a, Peer::Bus)).chain(services.map(|a| (a, Peer::Service))) {
        let candidate = Candidate { address, peer };
        if !candidates.contains(&candidate) {
            candidates.push(candidate);
        }
    }
    candidates
}

/// The user's runtime directory as the environment has it, and where it ought to be: after `su` the environment is
/// silent, or somebody else's.
fn runtime_dirs(environment: &Environment<'_>) -> Vec<PathBuf> {
    let told = environment.runtime_dir.filter(|dir| dir.is_absolute()).map(Path::to_owned);
    let usual = PathBuf::from(format!("/run/user/{}", environment.uid));
    told.into_iter().chain([usual]).collect()
}

/// Why systemd did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// There is nobody to ask, or not any more: where it was tried, and why that failed.
    Unreachable(String),
    /// It refused, with a D-Bus error.
    Refused { name: String, message: String },
    /// The job that was to do it ended otherwise than `done`: `failed`, `canceled`, `timeout`, `dependency`.
    Job { unit: String, result: String },
    /// It did not answer in time.
    TimedOut,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unreachable(why) => f.write_str(why),
            Trouble::Refused { name, message } => write!(f, "systemd: {}", sentence(name, message)),
            Trouble::Job { unit, result } => write!(f, "systemd: the job of {unit} ended with `{result}`"),
            Trouble::TimedOut => write!(f, "systemd: no answer: {}", errno_text(Errno::ETIMEDOUT)),
        }
    }
}

impl std::error::Error for Trouble {}

impl From<dbus::Error> for Trouble {
    fn from(error: dbus::Error) -> Trouble {
        match error {
            dbus::Error::Refused { name, message } => Trouble::Refused { name, message },
            dbus::Error::TimedOut => Trouble::TimedOut,
            dbus::Error::Io(errno) => {
                Trouble::Unreachable(format!("connection to systemd: {}", errno_text(errno)))
            }
            dbus::Error::Malformed(what) => Trouble::Unreachable(format!("connection to systemd: {what}")),
        }
    }
}

/// An error's message on one line as part of a sentence; its name where it has none.
fn sentence(name: &str, message: &str) -> String {
    let message = one_line(message);
    let message = message.trim_end_matches('.');
    if message.is_empty() {
        return name.to_owned();
    }
    // The last part may be an errno's text, by which engines tell causes apart.
    message.split(": ").map(lower_first).collect::<Vec<_>>().join(": ")
}

/// Begins with a small letter, unless it begins with an abbreviation.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.as_str().starts_with(char::is_lowercase)) {
        (Some(first), true) => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

type Result<T> = std::result::Result<T, Trouble>;

/// A scope to be made.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// `bryo-web.scope`.
    pub name: &'a str,
    /// The slice that it shall be in, `user.slice`.
    pub slice: &'a str,
    pub description: &'a str,
    /// Limits and whatever else; they have the last word.
    pub properties: &'a [(String, Value)],
}

/// A process to be moved into a scope.
#[derive(Debug, Clone, Copy)]
pub struct Process<'a> {
    /// Its pid as systemd sees it, for versions that know no pidfds.
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
}

/// How systemd is told which processes are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Pidfds,
    Pids,
}

/// A service manager that we are connected to.
#[derive(Debug)]
pub struct Systemd {
    connection: Connection,
}

impl Systemd {
    /// Connects to the first of the candidates behind which a systemd answers.
    ///
    /// # Errors
    /// `Unreachable`, with every candidate and what is wrong with it.
    pub fn connect(candidates: &[Candidate]) -> Result<Systemd> {
        let mut wrong = Vec::new();
        for Candidate { address, peer } in candidates {
            let deadline = Instant::now() + CONNECTING;
            let connection = Connection::connect(address, *peer, deadline).and_then(|mut connection| {
                // A bus may well be without a systemd: dbus-run-session makes such.
                connection.find(SYSTEMD, deadline)?;
                Ok(connection)
            });
            match connection {
                Ok(connection) => return Ok(Systemd { connection }),
                Err(error) => wrong.push(format!("{address}: {}", plain(&error))),
            }
        }
        Err(Trouble::Unreachable(format!("no systemd to talk to ({})", wrong.join("; "))))
    }

    /// Makes a scope and moves the processes, at least one, into it. When this returns, they are there.
    ///
    /// # Errors
    /// Those of [`Trouble`]; no scope is left then.
    pub fn start_scope(&mut self, scope: &Scope<'_>, processes: &[Process<'_>]) -> Result<()> {
        let mut means = if self.connection.passes_fds() { Means::Pidfds } else { Means::Pids };
        let mut reset = false;
        loop {
            let Err(trouble) = self.try_start(scope, processes, means) else { return Ok(()) };
            match &trouble {
                Trouble::Refused { name, message }
                    if means == Means::Pidfds && name == PROPERTY_READ_ONLY && message.contains("PIDFDs") =>
                {
                    means = Means::Pids;
                    continue;
                }
                Trouble::Refused { name, .. } if name == UNIT_EXISTS && !reset => {
                    reset = true;
                    if self.is_over(scope.name)? {
                        self.reset_failed(scope.name, Instant::now() + DOING)?;
                        continue;
                    }
                }
                Trouble::TimedOut | Trouble::Job { .. } => self.undo_start(scope.name),
                _ => {}
            }
            return Err(trouble);
        }
    }

    fn try_start(&mut self, scope: &Scope<'_>, processes: &[Process<'_>], means: Means) -> Result<()> {
        let body = start_body(scope, processes, means);
        let fds: Vec<BorrowedFd<'_>> = processes.iter().map(|process| process.pidfd).collect();
        let fds = if means == Means::Pidfds { fds.as_slice() } else { &[] };
        let result = self.job("StartTransientUnit", &body, fds)?;
        if result == "done" { Ok(()) } else { Err(Trouble::Job { unit: scope.name.to_owned(), result }) }
    }

    /// Takes a start back that did not succeed in time, or at all. What comes of it is not waited for, and not told:
    /// the trouble that led here is.
    fn undo_start(&mut self, unit: &str) {
        let deadline = Instant::now() + UNDOING;
        let _ = self.call("StopUnit", &[unit.into(), "replace".into()], &[], deadline);
        let _ = self.reset_failed(unit, deadline);
    }

    /// Stops a unit, waits until it is, and leaves nothing of it, whether it failed or not. One that does not exist
    /// is stopped already.
    ///
    /// # Errors
    /// Those of [`Trouble`].
    pub fn stop(&mut self, unit: &str) -> Result<()> {
        let stopped = match self.job("StopUnit", &[unit.into(), "replace".into()], &[]) {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => Err(Trouble::Job { unit: unit.to_owned(), result }),
            Err(Trouble::Refused { name, .. }) if name == NO_SUCH_UNIT => return Ok(()),
            Err(trouble) => Err(trouble),
        };
        let reset = self.reset_failed(unit, Instant::now() + DOING);
        stopped.and(reset)
    }

    /// Changes properties of a unit, for as long as it runs.
    ///
    /// # Errors
    /// Those of [`Trouble`].
    pub fn set_properties(&mut self, unit: &str, properties: &[(String, Value)]) -> Result<()> {
        let properties = properties.iter().map(|(name, value)| property(name, value.clone())).collect();
        let body = [unit.into(), true.into(), Value::Array("(sv)".to_owned(), properties)];
        self.call("SetUnitProperties", &body, &[], Instant::now() + DOING).map(drop)
    }

    /// Moves processes into a unit's cgroup, or into one below it: `""` or `/container`. systemd may do it where we
    /// may not, since the tree that the processes come from is not ours: a login session's.
    ///
    /// # Errors
    /// Those of [`Trouble`].
    pub fn attach(&mut self, unit: &str, subcgroup: &str, pids: &[i32]) -> Result<()> {
        // There is no form of this call with pidfds, and a stranger may have that pid where systemd is.
        if !self.connection.shares_pids() {
            let why = "systemd is in another pid namespace, and cannot be told whom to move";
            return Err(Trouble::Unreachable(format!("{why}: {}", errno_text(Errno::EPERM))));
        }
        let body = [unit.into(), subcgroup.into(), pids_value(pids.iter().copied())];
        self.call("AttachProcessesToUnit", &body, &[], Instant::now() + DOING).map(drop)
    }

    /// Waits until systemd has written what it was told of a unit: it does so after it has answered, and before it
    /// answers again. Where a file can hold more than a property (a period without a quota), the last word is ours.
    ///
    /// # Errors
    /// Those of [`Trouble`].
    pub fn settle(&mut self, unit: &str) -> Result<()> {
        self.is_over(unit).map(drop)
    }

    /// Whether a unit that exists has ended, well or not.
    fn is_over(&mut self, unit: &str) -> Result<bool> {
        let state = self.property(unit, "org.freedesktop.systemd1.Unit", "ActiveState")?;
        Ok(state == "failed".into() || state == "inactive".into())
    }

    fn property(&mut self, unit: &str, interface: &str, name: &str) -> Result<Value> {
        let call = Call {
            destination: SYSTEMD,
            path: &unit_path(unit),
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            body: &[interface.into(), name.into()],
            fds: &[],
        };
        match self.connection.call(&call, Instant::now() + DOING)?.as_slice() {
            [Value::Variant(value)] => Ok((**value).clone()),
            _ => Err(dbus::Error::Malformed("a property without a value").into()),
        }
    }

    /// The description of a unit; of one that does not exist, its name.
    ///
    /// # Errors
    /// Those of [`Trouble`].
    pub fn describes(&mut self, unit: &str) -> Result<String> {
        match self.property(unit, "org.freedesktop.systemd1.Unit", "Description")? {
            Value::String(text) => Ok(text),
            _ => Err(dbus::Error::Malformed("a description that is no text").into()),
        }
    }

    /// Whether systemd leaves what is below a unit's cgroup to the unit.
    ///
    /// # Errors
    /// Those of [`Trouble`].
    pub fn delegates(&mut self, unit: &str) -> Result<bool> {
        Ok(self.property(unit, specific(unit), "Delegate")? == Value::Bool(true))
    }

    /// Lets go of a unit that has failed. One that has not, or is gone, needs nothing.
    fn reset_failed(&mut self, unit: &str, deadline: Instant) -> Result<()> {
        match self.call("ResetFailedUnit", &[unit.into()], &[], deadline) {
            Err(Trouble::Refused { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
            other => other.map(drop),
        }
    }

    /// Calls what queues a job, waits for the job, and returns its result.
    fn job(&mut self, member: &str, body: &[Value], fds: &[BorrowedFd<'_>]) -> Result<String> {
        let deadline = Instant::now() + DOING;
        self.connection.subscribe(JOB_REMOVED, deadline)?;
        let answer = self.call(member, body, fds, deadline)?;
        let [Value::ObjectPath(job)] = answer.as_slice() else {
            return Err(dbus::Error::Malformed("an answer without a job").into());
        };
        let result = |signal: &dbus::Message| match signal.body.as_slice() {
            [_, Value::ObjectPath(path), _, Value::String(result)] if path == job => Some(result.clone()),
            _ => None,
        };
        Ok(self.connection.wait_signal(result, deadline)?)
    }

    fn call(
        &mut self,
        member: &str,
        body: &[Value],
        fds: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<Vec<Value>> {
        let call = Call { destination: SYSTEMD, path: OBJECT, interface: MANAGER, member, body, fds };
        Ok(self.connection.call(&call, deadline)?)
    }
}

/// What is wrong with a candidate.
fn plain(error: &dbus::Error) -> String {
    match error {
        dbus::Error::Refused { name, message } => sentence(name, message),
        dbus::Error::TimedOut => errno_text(Errno::ETIMEDOUT),
        dbus::Error::Io(errno) => errno_text(*errno),
        dbus::Error::Malformed(what) => (*what).to_owned(),
    }
}

/// What StartTransientUnit takes: the name, what to do about jobs in the way, the properties, and no other units.
fn start_body(scope: &Scope<'_>, processes: &[Process<'_>], means: Means) -> [Value; 4] {
    let pids = match means {
        Means::Pidfds => {
            let indices = (0..processes.len() as u32).map(Value::Fd).collect();
            property("PIDFDs", Value::Array("h".to_owned(), indices))
        }
        Means::Pids => property("PIDs", pids_value(processes.iter().map(|process| process.pid))),
    };
    let mut properties = vec![
        property("Description", scope.description),
        property("Slice", scope.slice),
        property("Delegate", true),
        pids,
        // A container neither waits for the boot nor ends before others at shutdown.
        property("DefaultDependencies", false),
    ];
    // So that there is something to count, and the controllers are there from the start.
    let accounting = ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"];
    properties.extend(accounting.map(|name| property(name, true)));
    properties.extend(scope.properties.iter().map(|(name, value)| property(name, value.clone())));
    [
        scope.name.into(),
        "replace".into(),
        Value::Array("(sv)".to_owned(), properties),
        Value::Array("(sa(sv))".to_owned(), Vec::new()),
    ]
}

/// The interface with the properties of units of its kind.
fn specific(unit: &str) -> &'static str {
    match unit.rsplit_once('.') {
        Some((_, "scope")) => "org.freedesktop.systemd1.Scope",
        Some((_, "slice")) => "org.freedesktop.systemd1.Slice",
        _ => "org.freedesktop.systemd1.Service",
    }
}

fn property(name: &str, value: impl Into<Value>) -> Value {
    Value::Struct(vec![name.into(), Value::variant(value)])
}

fn pids_value(pids: impl Iterator<Item = i32>) -> Value {
    Value::Array("u".to_owned(), pids.map(|pid| Value::U32(pid as u32)).collect())
}

/// The object that a unit is: what is neither a letter nor a digit, and a digit in front, is written as its byte's
/// value in hexadecimal after an underscore.
fn unit_path(unit: &str) -> String {
    let mut path = format!("{OBJECT}/unit/");
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && at > 0) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Systemd {
        /// The cgroup of a unit; `None` where it has none.
        fn control_group(&mut self, unit: &str) -> Result<Option<String>> {
            match self.property(unit, specific(unit), "ControlGroup")? {
                Value::String(path) => Ok(Some(path).filter(|path| !path.is_empty())),
                other => panic!("{other:?}"),
            }
        }
    }

    use crate::dbus::testing;

    fn paths(manager: Manager, environment: &Environment<'_>) -> Vec<String> {
        let one = |candidate: Candidate| match candidate.peer {
            Peer::Bus => format!("bus {}", candidate.address),
            Peer::Service => format!("service {}", candidate.address),
        };
        candidates(manager, environment).into_iter().map(one).collect()
    }

    const SILENT: Environment<'_> =
        Environment { uid: 1000, runtime_dir: None, session_bus: None, system_bus: None };

    #[test]
    fn the_users_manager_is_sought_where_the_environment_says_and_where_it_ought_to_be() {
        assert_eq!(
            paths(Manager::User, &SILENT),
            ["bus /run/user/1000/bus", "service /run/user/1000/systemd/private"]
        );
        let told = Environment {
            runtime_dir: Some(Path::new("/run/user/7")),
            session_bus: Some("unix:path=/run/user/7/bus;unix:abstract=x"),
            system_bus: Some("unix:path=/never"),
            ..SILENT
        };
        assert_eq!(
            paths(Manager::User, &told),
            [
                "bus /run/user/7/bus",
                "bus @x",
                "bus /run/user/1000/bus",
                "service /run/user/7/systemd/private",
                "service /run/user/1000/systemd/private"
            ]
        );
    }

    #[test]
    fn a_relative_runtime_directory_is_none() {
        let told = Environment { runtime_dir: Some(Path::new("run")), ..SILENT };
        assert_eq!(paths(Manager::User, &told), paths(Manager::User, &SILENT));
    }

    #[test]
    fn the_machines_manager_has_nothing_to_do_with_the_session() {
        let told = Environment { session_bus: Some("unix:path=/never"), ..SILENT };
        let usual = ["bus /run/dbus/system_bus_socket", "service /run/systemd/private"];
        assert_eq!(paths(Manager::System, &told), usual);
        let told = Environment { system_bus: Some("unix:path=/x"), ..SILENT };
        assert_eq!(paths(Manager::System, &told), ["bus /x", usual[0], usual[1]]);
    }

    #[test]
    fn nobody_to_talk_to_is_told_with_every_place_that_was_tried() {
        let tried = [
            Candidate { address: Address::Path("/nowhere/bus".into()), peer: Peer::Bus },
            Candidate { address: Address::Other("tcp:host=a".to_owned()), peer: Peer::Bus },
        ];
        assert_eq!(
            Systemd::connect(&tried).unwrap_err().to_string(),
            "no systemd to talk to (/nowhere/bus: no such file or directory; tcp:host=a: protocol not supported)"
        );
    }

    #[test]
    fn unit_names_are_escaped_in_paths() {
        assert_eq!(unit_path("bryo-a_b.scope"), "/org/freedesktop/systemd1/unit/bryo_2da_5fb_2escope");
        assert_eq!(unit_path("1é.slice"), "/org/freedesktop/systemd1/unit/_31_c3_a9_2eslice");
    }

    #[test]
    fn errors_of_systemd_become_part_of_a_line() {
        let refused = |message: &str| {
            let name = "org.example.Error".to_owned();
            Trouble::Refused { name, message: message.to_owned() }.to_string()
        };
        assert_eq!(refused("Unit a.scope already exists.\n"), "systemd: unit a.scope already exists");
        assert_eq!(refused("PID 7 does not exist"), "systemd: PID 7 does not exist");
        assert_eq!(refused("Failed to set: No such process"), "systemd: failed to set: no such process");
        assert_eq!(refused(""), "systemd: org.example.Error");
    }

    #[test]
    fn a_scope_is_asked_for_by_pidfds_or_pids_and_the_callers_properties_come_last() {
        let own =
            [("MemoryMax".to_owned(), Value::U64(1 << 20)), ("Delegate".to_owned(), Value::Bool(false))];
        let scope = Scope { name: "a.scope", slice: "user.slice", description: "a", properties: &own };
        let stdin = std::io::stdin();
        let pidfd = std::os::fd::AsFd::as_fd(&stdin);
        let processes = [Process { pid: 7, pidfd }, Process { pid: 8, pidfd }];
        let properties = |means| match &start_body(&scope, &processes, means)[2] {
            Value::Array(_, properties) => properties.clone(),
            other => panic!("{other:?}"),
        };
        let by_fd = properties(Means::Pidfds);
        let indices = Value::Array("h".to_owned(), vec![Value::Fd(0), Value::Fd(1)]);
        assert!(by_fd.contains(&property("PIDFDs", indices)));
        assert_eq!(by_fd.last(), Some(&property("Delegate", false)));
        let pids = Value::Array("u".to_owned(), vec![Value::U32(7), Value::U32(8)]);
        let by_pid = properties(Means::Pids);
        assert!(by_pid.contains(&property("PIDs", pids)));
        assert_eq!(by_fd.len(), by_pid.len());
    }

    // What follows is asked of a systemd that is not one: it answers as versions do that are not at hand.

    /// Has a systemd with these answers, each made for a call, do something; returns what came of it, and what was
    /// called.
    fn with_systemd<T>(
        answers: Vec<fn(&dbus::Message) -> Vec<dbus::Message>>,
        act: impl FnOnce(&mut Systemd) -> T,
    ) -> (T, Vec<dbus::Message>) {
        let (connection, mut stream) = testing::pair();
        let systemd = std::thread::spawn(move || {
            let mut calls = Vec::new();
            for answer in answers {
                let call = testing::read(&mut stream).unwrap();
                testing::send(&mut stream, &answer(&call));
                calls.push(call);
            }
            calls.extend(testing::read(&mut stream));
            calls
        });
        let outcome = act(&mut Systemd { connection });
        (outcome, systemd.join().unwrap())
    }

    fn members(calls: &[dbus::Message]) -> Vec<&str> {
        calls.iter().filter_map(|call| call.member.as_deref()).collect()
    }

    const JOB: &str = "/org/freedesktop/systemd1/job/7";

    fn removed(job: &str, result: &str) -> dbus::Message {
        let job = Value::ObjectPath(job.to_owned());
        testing::signal(
            OBJECT,
            MANAGER,
            "JobRemoved",
            vec![Value::U32(7), job, "a.scope".into(), result.into()],
        )
    }

    /// The job of somebody else is over before ours, and ours before its path is known.
    fn done(call: &dbus::Message) -> Vec<dbus::Message> {
        let queued = testing::answer(call.serial, vec![Value::ObjectPath(JOB.to_owned())]);
        vec![removed("/org/freedesktop/systemd1/job/6", "failed"), removed(JOB, "done"), queued]
    }

    fn fails(call: &dbus::Message) -> Vec<dbus::Message> {
        let queued = testing::answer(call.serial, vec![Value::ObjectPath(JOB.to_owned())]);
        vec![queued, removed(JOB, "failed")]
    }

    fn nothing(call: &dbus::Message) -> Vec<dbus::Message> {
        vec![testing::answer(call.serial, vec![])]
    }

    fn exists(call: &dbus::Message) -> Vec<dbus::Message> {
        vec![testing::refusal(call.serial, UNIT_EXISTS, "Unit a.scope already exists.")]
    }

    fn unknown_unit(call: &dbus::Message) -> Vec<dbus::Message> {
        vec![testing::refusal(call.serial, NO_SUCH_UNIT, "Unit a.scope not loaded.")]
    }

    fn start(systemd: &mut Systemd) -> Result<()> {
        let sleeper = Sleeper::new();
        systemd.start_scope(&scope("a.scope", &[]), &[sleeper.process()])
    }

    #[test]
    fn the_result_of_our_own_job_counts_and_may_come_first() {
        let (started, calls) = with_systemd(vec![done], start);
        assert_eq!(started, Ok(()));
        assert_eq!((members(&calls), calls[0].fds), (vec!["StartTransientUnit"], 1));
    }

    #[test]
    fn a_systemd_that_knows_no_pidfds_is_asked_again() {
        fn no_pidfds(call: &dbus::Message) -> Vec<dbus::Message> {
            let text = "Cannot set property PIDFDs, or unknown property.";
            vec![testing::refusal(call.serial, PROPERTY_READ_ONLY, text)]
        }
        let (started, calls) = with_systemd(vec![no_pidfds, done], start);
        assert_eq!(started, Ok(()));
        assert_eq!((calls[0].fds, calls[1].fds), (1, 0));
    }

    #[test]
    fn a_property_that_is_unknown_is_not_asked_for_again() {
        fn unknown(call: &dbus::Message) -> Vec<dbus::Message> {
            let text = "Cannot set property Bryo, or unknown property.";
            vec![testing::refusal(call.serial, PROPERTY_READ_ONLY, text)]
        }
        let (started, calls) = with_systemd(vec![unknown], start);
        assert!(matches!(started, Err(Trouble::Refused { .. })), "{started:?}");
        assert_eq!(members(&calls), ["StartTransientUnit"]);
    }

    #[test]
    fn a_unit_that_is_there_and_over_is_reset_once() {
        fn failed(call: &dbus::Message) -> Vec<dbus::Message> {
            vec![testing::answer(call.serial, vec![Value::variant("failed")])]
        }
        let (started, calls) = with_systemd(vec![exists, failed, unknown_unit, exists], start);
        assert!(matches!(started, Err(Trouble::Refused { name, .. }) if name == UNIT_EXISTS));
        assert_eq!(members(&calls), ["StartTransientUnit", "Get", "ResetFailedUnit", "StartTransientUnit"]);
        assert_eq!(calls[1].path.as_deref(), Some("/org/freedesktop/systemd1/unit/a_2escope"));
    }

    #[test]
    fn a_job_that_fails_is_named_and_leaves_no_unit() {
        let (started, calls) = with_systemd(vec![fails, nothing, nothing], start);
        assert_eq!(started.unwrap_err().to_string(), "systemd: the job of a.scope ended with `failed`");
        assert_eq!(members(&calls), ["StartTransientUnit", "StopUnit", "ResetFailedUnit"]);
    }

    #[test]
    fn a_unit_that_is_stopped_is_reset_and_one_that_is_not_there_is_stopped() {
        let (stopped, calls) = with_systemd(vec![done, unknown_unit], |systemd| systemd.stop("a.scope"));
        assert_eq!((stopped, members(&calls)), (Ok(()), vec!["StopUnit", "ResetFailedUnit"]));
        let (stopped, calls) = with_systemd(vec![unknown_unit], |systemd| systemd.stop("a.scope"));
        assert_eq!((stopped, members(&calls)), (Ok(()), vec!["StopUnit"]));
        let (stopped, calls) = with_systemd(vec![fails, nothing], |systemd| systemd.stop("a.scope"));
        assert!(matches!(stopped, Err(Trouble::Job { .. })), "{stopped:?}");
        assert_eq!(members(&calls), ["StopUnit", "ResetFailedUnit"]);
    }

    #[test]
    fn a_systemd_that_goes_away_is_unreachable() {
        let (started, _) = with_systemd(vec![], |systemd| systemd.set_properties("a.scope", &[]));
        assert!(
            matches!(&started, Err(Trouble::Unreachable(why)) if why.ends_with("connection reset by peer"))
        );
    }

    // What follows is asked of a real systemd, over every way that leads to it. A manager is root's or the user's,
    // as in the program; in a user namespace it is the user's whatever our uid is there.

    fn managers() -> Vec<Systemd> {
        let variable = |name: &str| std::env::var(name).ok();
        let (dir, session) = (variable("XDG_RUNTIME_DIR"), variable("DBUS_SESSION_BUS_ADDRESS"));
        let uid = nix::unistd::geteuid();
        let root = uid.is_root() && !crate::host::namespaces::in_child_userns();
        let environment = Environment {
            uid: uid.as_raw(),
            runtime_dir: dir.as_deref().map(Path::new),
            session_bus: session.as_deref(),
            system_bus: None,
        };
        let candidates = candidates(if root { Manager::System } else { Manager::User }, &environment);
        let found: Vec<Systemd> =
            candidates.iter().filter_map(|one| Systemd::connect(std::slice::from_ref(one)).ok()).collect();
        assert!(!found.is_empty(), "{candidates:?}");
        found
    }

    /// A process that sleeps, killed when the test is over.
    struct Sleeper(std::process::Child, std::os::fd::OwnedFd);

    impl Sleeper {
        fn new() -> Sleeper {
            let child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
            let pidfd = crate::sys::pidfd::open(child.id() as i32).unwrap();
            Sleeper(child, pidfd)
        }

        fn process(&self) -> Process<'_> {
            Process { pid: self.0.id() as i32, pidfd: std::os::fd::AsFd::as_fd(&self.1) }
        }

        fn cgroup(&self) -> String {
            let text = std::fs::read_to_string(format!("/proc/{}/cgroup", self.0.id())).unwrap();
            text.trim().strip_prefix("0::").unwrap().to_owned()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn file(cgroup: &str, name: &str) -> String {
        std::fs::read_to_string(format!("/sys/fs/cgroup{cgroup}/{name}")).unwrap().trim().to_owned()
    }

    fn scope<'a>(name: &'a str, properties: &'a [(String, Value)]) -> Scope<'a> {
        Scope { name, slice: "user.slice", description: "a test of bryo", properties }
    }

    #[test]
    #[ignore = "needs systemd and cgroup v2"]
    fn processes_are_in_a_scope_with_its_limits_until_it_is_stopped() {
        for (number, mut systemd) in managers().into_iter().enumerate() {
            let name = format!("bryo-test-{}-life{number}.scope", std::process::id());
            let sleepers = [Sleeper::new(), Sleeper::new()];
            let limit = |bytes: u64| [("MemoryMax".to_owned(), Value::U64(bytes))];
            let processes = [sleepers[0].process(), sleepers[1].process()];
            systemd.start_scope(&scope(&name, &limit(64 << 20)), &processes).unwrap();

            let cgroup = systemd.control_group(&name).unwrap().unwrap();
            assert!(cgroup.ends_with(&format!("/user.slice/{name}")), "{cgroup}");
            assert_eq!([sleepers[0].cgroup(), sleepers[1].cgroup()], [cgroup.clone(), cgroup.clone()]);
            assert_eq!(file(&cgroup, "memory.max"), (64 << 20).to_string());
            systemd.set_properties(&name, &limit(128 << 20)).unwrap();
            assert_eq!(file(&cgroup, "memory.max"), (128 << 20).to_string());

            // It is ours: what is made there is nobody else's business.
            std::fs::create_dir(format!("/sys/fs/cgroup{cgroup}/leaf")).unwrap();
            let third = Sleeper::new();
            systemd.attach(&name, "/leaf", &[third.process().pid]).unwrap();
            assert_eq!(third.cgroup(), format!("{cgroup}/leaf"));

            systemd.stop(&name).unwrap();
            assert_eq!(systemd.control_group(&name), Ok(None));
            assert!(!Path::new(&format!("/sys/fs/cgroup{cgroup}")).exists());
            systemd.stop(&name).unwrap();
        }
    }

    #[test]
    #[ignore = "needs systemd and cgroup v2"]
    fn a_systemd_without_pidfds_takes_pids() {
        for (number, mut systemd) in managers().into_iter().enumerate() {
            let name = format!("bryo-test-{}-pids{number}.scope", std::process::id());
            let sleeper = Sleeper::new();
            systemd.try_start(&scope(&name, &[]), &[sleeper.process()], Means::Pids).unwrap();
            assert!(sleeper.cgroup().ends_with(&name));
            systemd.stop(&name).unwrap();
        }
    }

    #[test]
    #[ignore = "needs systemd and cgroup v2"]
    fn a_name_is_taken_as_long_as_its_scope_lives_or_fails() {
        for (number, mut systemd) in managers().into_iter().enumerate() {
            let name = format!("bryo-test-{}-name{number}.scope", std::process::id());
            let short = [("RuntimeMaxUSec".to_owned(), Value::U64(300_000))];
            let (first, second) = (Sleeper::new(), Sleeper::new());
            systemd.start_scope(&scope(&name, &short), &[first.process()]).unwrap();
            let taken = systemd.start_scope(&scope(&name, &[]), &[second.process()]).unwrap_err();
            assert!(matches!(&taken, Trouble::Refused { name, .. } if name == UNIT_EXISTS), "{taken}");
            assert!(!second.cgroup().ends_with(&name));

            let deadline = Instant::now() + DOING;
            while !systemd.is_over(&name).unwrap() {
                assert!(Instant::now() < deadline);
                std::thread::sleep(Duration::from_millis(20));
            }
            let state = systemd.property(&name, "org.freedesktop.systemd1.Unit", "ActiveState");
            assert_eq!(state, Ok("failed".into()));
            systemd.start_scope(&scope(&name, &[]), &[second.process()]).unwrap();
            assert!(second.cgroup().ends_with(&name));
            systemd.stop(&name).unwrap();
        }
    }

    #[test]
    #[ignore = "needs systemd and cgroup v2"]
    fn what_systemd_refuses_is_told_in_its_words_and_leaves_nothing() {
        for (number, mut systemd) in managers().into_iter().enumerate() {
            let name = format!("bryo-test-{}-odd{number}.scope", std::process::id());
            let sleeper = Sleeper::new();
            let odd = [("Bryo".to_owned(), Value::Bool(true))];
            let refused = systemd.start_scope(&scope(&name, &odd), &[sleeper.process()]).unwrap_err();
            assert_eq!(refused.to_string(), "systemd: cannot set property Bryo, or unknown property");

            let mut gone = Sleeper::new();
            gone.0.kill().unwrap();
            gone.0.wait().unwrap();
            let refused = systemd.start_scope(&scope(&name, &[]), &[gone.process()]).unwrap_err();
            assert_eq!(refused.to_string(), "systemd: failed to set unit properties: no such process");
            assert_eq!(systemd.is_over(&name), Ok(true));
            systemd.start_scope(&scope(&name, &[]), &[sleeper.process()]).unwrap();
            systemd.stop(&name).unwrap();
        }
    }

    #[test]
    #[ignore = "needs systemd and cgroup v2"]
    fn scopes_come_and_go_at_the_same_time_and_nothing_stays() {
        let count = managers().len();
        let come_and_go = |thread: usize| {
            for number in 0..25 {
                let mut systemd = managers().swap_remove(number % count);
                let name = format!("bryo-test-{}-crowd{thread}-{number}.scope", std::process::id());
                let sleeper = Sleeper::new();
                systemd.start_scope(&scope(&name, &[]), &[sleeper.process()]).unwrap();
                assert!(sleeper.cgroup().ends_with(&name));
                if number % 3 > 0 {
                    // It ends by itself, now or while it is stopped.
                    drop(sleeper);
                }
                systemd.stop(&name).unwrap();
                assert_eq!(systemd.control_group(&name), Ok(None));
            }
        };
        std::thread::scope(|threads| {
            (0..4).for_each(|thread| drop(threads.spawn(move || come_and_go(thread))));
        });
    }
}
