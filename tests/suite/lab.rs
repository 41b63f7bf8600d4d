//! The place where a test works: a directory, a state directory and ids of its own, and a check at its
//! end that nothing of all this is left.
//!
//! A test makes a [`Lab`], asks it for a [`Bundle`], changes the bundle's config.json, and runs it in the
//! foreground ([`Bundle::run`]) or as a [`Container`] that it holds on to. Every runtime process, and every
//! process in a container, carries the lab's tag in its command line or environment, so that a leak can be
//! named and a failed test can be cleaned up without guessing.

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::marker::PhantomData;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};
use serde_json::{Value, json};

use crate::runtime::PATH;
pub use crate::runtime::runtime;

/// How long anything may take before the test gives up. Far above what is normal, since a loaded machine
/// must not make a test fail.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The variable that marks every process of a lab.
const TAG: &str = "BRYO_SUITE";

// ---------------------------------------------------------------------------------------------------------
// The runtime under test

/// Whether the runtime under test is another one, which the suite measures itself against.
pub fn is_peer() -> bool {
    runtime().file_name() != Some(OsStr::new("bryo"))
}

/// Leave a test that is about bryo's own behaviour when the suite runs against a peer, and say so. For
/// bryo itself nothing is ever left out.
macro_rules! bryo_only {
    ($reason:literal) => {
        if crate::lab::is_peer() {
            let peer = crate::lab::runtime().display().to_string();
            crate::lab::note_skip(std::module_path!(), &peer, $reason);
            return;
        }
    };
}
pub(crate) use bryo_only;

/// Leave a test that is about what a plain user is denied when root runs the suite, and say so.
macro_rules! plain_user_only {
    ($reason:literal) => {
        if nix::unistd::geteuid().is_root() {
            crate::lab::note_skip(std::module_path!(), "root", $reason);
            return;
        }
    };
}
pub(crate) use plain_user_only;

/// Print past libtest's capture, which would hide it: what was not tested must be seen.
pub fn note_skip(module: &str, whom: &str, reason: &str) {
    let test = std::thread::current().name().unwrap_or(module).to_owned();
    note(&format!("{test}: not for {whom}: {reason}"));
}

/// Print a line past libtest's capture.
pub fn note(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

// ---------------------------------------------------------------------------------------------------------
// Root file systems

fn rootfs(kind: &str) -> PathBuf {
    let var = format!("BRYO_TEST_ROOTFS_{}", kind.to_uppercase());
    let dir = std::env::var_os(&var)
        .map_or_else(|| PathBuf::from(format!("/var/tmp/bryo-test-rootfs/{kind}")), PathBuf::from);
    assert!(
        dir.join("bin/sh").exists(),
        "no root file system in {}; fix: run scripts/rootfs {kind} {}, or name one in {var}",
        dir.display(),
        dir.display(),
    );
    dir
}

/// The shared busybox tree. No test writes to it.
pub fn busybox() -> PathBuf {
    rootfs("busybox")
}

/// The shared debian tree, unpacked in the caller's own range of ids.
pub fn debian() -> PathBuf {
    rootfs("debian")
}

// ---------------------------------------------------------------------------------------------------------
// Lab

/// A test's own place. Dropping it checks that nothing is left and fails the test otherwise.
pub struct Lab {
    pub dir: PathBuf,
    tag: String,
    ids: RefCell<Vec<String>>,
    serial: Cell<u32>,
    pub runtime: PathBuf,
    /// What the runtime is told of a session. Where that is the caller's own, its containers may have units.
    session: Vec<(OsString, OsString)>,
    in_session: bool,
}

impl Lab {
    pub fn new() -> Lab {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let tag = format!("bryo-suite-{}-{serial}", std::process::id());
        // Short, since sockets live below it and a socket's path has 107 bytes.
        let dir = std::env::temp_dir().join(&tag);
        fs::create_dir(&dir).unwrap_or_else(|e| panic!("mkdir {}: {e}", dir.display()));
        for sub in ["run", "out"] {
            fs::create_dir(dir.join(sub)).unwrap();
        }
        let session = vec![("XDG_RUNTIME_DIR".into(), dir.join("run").into())];
        let runtime = runtime().to_owned();
        Lab { dir, tag, ids: RefCell::default(), serial: Cell::new(0), runtime, session, in_session: false }
    }

    /// A place whose containers have cgroups, and may have units of the caller's systemd: the runtime gets
    /// the caller's own session.
    pub fn in_session() -> Lab {
        let variable = |name: &str| {
            let value = std::env::var_os(name);
            let value = value.unwrap_or_else(|| panic!("no {name}: this needs a login session of systemd's"));
            (name.into(), value)
        };
        let session = vec![variable("XDG_RUNTIME_DIR"), variable("DBUS_SESSION_BUS_ADDRESS")];
        let mut lab = Lab::new();
        (lab.session, lab.in_session) = (session, true);
        lab
    }

    /// The same for this runtime in place of the one under test, to compare them.
    pub fn in_session_of(runtime: &str) -> Lab {
        let mut lab = Lab::in_session();
        lab.runtime = runtime.into();
        lab
    }

    fn next(&self) -> u32 {
        self.serial.set(self.serial.get() + 1);
        self.serial.get()
    }

    /// An id that no other test uses.
    pub fn id(&self) -> String {
        let id = format!("{}-{}", self.tag, self.next());
        self.ids.borrow_mut().push(id.clone());
        id
    }

    /// Forget the ids so far, which are known to be gone; a long test gives thousands.
    pub fn forget_ids(&self) {
        self.ids.borrow_mut().clear();
    }

    /// The state directory, which the runtime makes.
    pub fn root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// A call of the runtime with the lab's state directory.
    pub fn call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Call<'_> {
        let root = self.root();
        self.bare_call(["--root"]).args([root]).args(args)
    }

    /// A call of the runtime without any global option.
    pub fn bare_call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Call<'_> {
        self.program(&self.runtime).args(args)
    }

    /// Some other program, in the environment that the runtime gets.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Call<'_> {
        let mut env: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), PATH.into()),
            ("HOME".into(), self.dir.clone().into()),
            (TAG.into(), self.tag.clone().into()),
        ];
        env.extend(self.session.iter().cloned());
        Call {
            lab: self,
            argv: vec![program.as_ref().to_owned()],
            env,
            cwd: None,
            stdio: Stdin::Null,
            tty: None,
        }
    }

    /// A bundle with the shared busybox tree and a single-id map, whose process is `true`.
    pub fn bundle(&self) -> Bundle<'_> {
        let dir = self.dir.join(format!("bundle-{}", self.next()));
        fs::create_dir(&dir).unwrap();
        Bundle { lab: self, dir, config: default_config(&self.tag), id: None, globals: Vec::new() }
    }

    /// Write a file of the lab and return its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Write an executable shell script of the lab and return its path. The tag is in the script's path, and
    /// so in its command line, since hooks get an environment of their own.
    pub fn script(&self, name: &str, body: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.file(name, format!("#!/bin/sh\n{body}"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The ids that the state directory holds entries of, whatever they are.
    pub fn state_entries(&self) -> Vec<String> {
        match fs::read_dir(self.root()) {
            Ok(dir) => dir.map(|e| e.unwrap().file_name().into_string().unwrap()).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// The host's processes that belong to this lab, with their command lines.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let me = std::process::id() as i32;
        let marked = |pid: i32, name: &str| {
            let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            bytes.windows(self.tag.len()).enumerate().any(|(at, window)| {
                // `…-1` is not `…-12`.
                window == self.tag.as_bytes() && !bytes.get(at + window.len()).is_some_and(u8::is_ascii_digit)
            })
        };
        all_pids()
            .into_iter()
            .filter(|&pid| pid != me && alive(pid))
            .filter(|&pid| marked(pid, "cmdline") || marked(pid, "environ"))
            .map(|pid| (pid, cmdline(pid)))
            .collect()
    }

    /// What of this lab is left on the machine, one line each.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        // Compiled filters are kept for the next container; the name is no container's.
        let entries = self.state_entries().into_iter().filter(|e| e != "seccomp:cache");
        left.extend(entries.map(|e| format!("state entry {e}")));
        left.extend(self.processes().iter().map(|(pid, argv)| format!("process {pid} {argv}")));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|l| l.contains(&self.tag)).map(|l| format!("mount {l}")));
        for socket in find(&self.dir, &|t| t.is_socket() || t.is_fifo()) {
            left.push(format!("socket or fifo {}", socket.display()));
        }
        for file in find(&self.dir.join("run"), &|t| !t.is_dir()) {
            left.push(format!("file in the runtime directory: {}", file.display()));
        }
        left.extend(cgroups_of(&self.tag).iter().map(|dir| format!("cgroup {}", dir.display())));
        left.extend(self.units().iter().map(|unit| format!("unit {unit}")));
        left
    }

    /// A call of systemctl for the caller's manager.
    pub fn systemctl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Call<'_> {
        let manager = if geteuid().is_root() { "--system" } else { "--user" };
        self.program("systemctl").args([manager]).args(args)
    }

    /// The units of systemd's that this lab's containers have or had: a line each, which begins with the name.
    fn units(&self) -> Vec<String> {
        if !self.in_session {
            return Vec::new();
        }
        let list = ["list-units", "--all", "--plain", "--no-legend", "--full", "--no-pager"];
        // Not with a panic: this is asked while a failed test is cleaned up too.
        let listed = match self.systemctl(list).spawn().wait_within(PATIENCE) {
            Some(ran) if ran.status.success() => ran.stdout,
            other => return vec![format!("that are not known, as systemctl failed: {other:?}")],
        };
        listed.lines().filter(|unit| names(unit, &self.tag)).map(str::to_owned).collect()
    }

    /// Fail if anything of this lab is left. A killed process may need a moment to go.
    pub fn assert_nothing_left(&self) {
        let mut left = Vec::new();
        let gone = eventually(Duration::from_secs(20), || {
            left = self.leftovers();
            left.is_empty()
        });
        assert!(gone, "left behind:\n  {}", left.join("\n  "));
    }

    /// Remove everything, whatever state the test left it in.
    fn demolish(&self) {
        for id in self.ids.borrow().iter() {
            // A container that never was or is gone already is no news here.
            self.call(["delete", "-f", id]).quietly();
        }
        // The pids come from the tag, so this hits nobody else; ESRCH means that it is gone already.
        for _ in 0..3 {
            for (pid, _) in self.processes() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        for unit in self.units() {
            let name = unit.split_whitespace().next().unwrap_or_default();
            self.systemctl(["stop", name]).quietly();
            self.systemctl(["reset-failed", name]).quietly();
        }
        for dir in cgroups_of(&self.tag) {
            remove_cgroup(&dir);
        }
        remove_tree(&self.dir);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.demolish();
            return;
        }
        let verdict = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.assert_nothing_left()));
        self.demolish();
        if let Err(panic) = verdict {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Remove a tree that may hold files of subordinate ids, which only root of their user namespace can remove.
fn remove_tree(dir: &Path) {
    if fs::remove_dir_all(dir).is_ok() {
        return;
    }
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "--", "rm", "-rf"])
        .arg(dir)
        .status();
    if !status.is_ok_and(|s| s.success()) && dir.exists() {
        drop(writeln!(std::io::stderr(), "could not remove {}", dir.display()));
    }
}

fn find(dir: &Path, wanted: &dyn Fn(fs::FileType) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if wanted(kind) {
            found.push(entry.path());
        }
        // A root file system of a test is big and may hold what it likes.
        if kind.is_dir() && entry.file_name() != "rootfs" {
            found.extend(find(&entry.path(), wanted));
        }
    }
    found
}

/// Whether this is named for a container of the lab with this tag: `…-1-7` is not one of `…-12`'s.
fn names(name: &str, tag: &str) -> bool {
    name.match_indices(tag).any(|(at, _)| name[at + tag.len()..].starts_with('-'))
}

/// Remove a cgroup with those below it, as far as they have no processes.
fn remove_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    // One that stays is named by whoever looks next.
    drop(fs::remove_dir(dir));
}

/// The cgroups of the containers of the lab with this tag, down to where systemd puts a user's.
fn cgroups_of(tag: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, tag: &str, depth: u32, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            if names(&entry.file_name().to_string_lossy(), tag) {
                found.push(entry.path());
            } else if depth > 0 {
                walk(&entry.path(), tag, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), tag, 6, &mut found);
    found
}

// ---------------------------------------------------------------------------------------------------------
// Processes of the host

pub fn all_pids() -> Vec<i32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

pub fn cmdline(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

/// By one look: between two of them it may be reaped.
pub fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The value of a line `Name:\tvalue` in a text of the form of /proc/PID/status.
pub fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {name} in {status}"))
        .trim()
}

/// Look every few milliseconds until the condition holds. The answer is whether it did.
pub fn eventually(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        sleep(Duration::from_millis(5));
    }
}

// ---------------------------------------------------------------------------------------------------------
// Call: one run of a program, usually the runtime

enum Stdin {
    Null,
    Bytes(Vec<u8>),
    Pipe,
}

/// A command that is being put together.
#[must_use]
pub struct Call<'lab> {
    lab: &'lab Lab,
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    stdio: Stdin,
    tty: Option<File>,
}

impl<'lab> Call<'lab> {
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.argv.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Start it through another program, which gets it as its last arguments: `under(["setsid", "-w"])`.
    pub fn under<S: AsRef<OsStr>>(mut self, prefix: impl IntoIterator<Item = S>) -> Self {
        let mut argv: Vec<OsString> = prefix.into_iter().map(|a| a.as_ref().to_owned()).collect();
        argv.append(&mut self.argv);
        self.argv = argv;
        self
    }

    /// Start it from a shell that has run these commands first; for descriptors, limits and masks.
    pub fn after_shell(self, commands: &str) -> Self {
        self.under(["bash", "-c", &format!("{commands}\nexec \"$@\""), "bash"])
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    pub fn env_remove(mut self, name: &str) -> Self {
        self.env.retain(|(n, _)| n != name);
        self
    }

    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdio = Stdin::Bytes(bytes.into());
        self
    }

    pub fn stdin_pipe(mut self) -> Self {
        self.stdio = Stdin::Pipe;
        self
    }

    /// Make this terminal its stdin, stdout, stderr, and its controlling terminal.
    pub fn on_terminal(self, slave: &File) -> Self {
        let tty = slave.try_clone().unwrap();
        Call { tty: Some(tty), ..self.under(["setsid", "--ctty", "--wait"]) }
    }

    /// With this as its three standard streams.
    pub fn on_streams(self, file: &File) -> Self {
        Call { tty: Some(file.try_clone().unwrap()), ..self }
    }

    pub fn spawn(self) -> Running<'lab> {
        let out = self.lab.dir.join("out");
        let serial = self.lab.next();
        let [stdout, stderr] = ["stdout", "stderr"].map(|n| out.join(format!("{serial}.{n}")));
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).env_clear().envs(self.env);
        if let Some(cwd) = self.cwd {
            command.current_dir(cwd);
        }
        // Files rather than pipes: what a detached container holds open must not keep the reader waiting.
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        match self.stdio {
            Stdin::Null => command.stdin(Stdio::null()),
            Stdin::Pipe => command.stdin(Stdio::piped()),
            Stdin::Bytes(bytes) => {
                let path = out.join(format!("{serial}.stdin"));
                fs::write(&path, bytes).unwrap();
                command.stdin(File::open(path).unwrap())
            }
        };
        if let Some(tty) = self.tty {
            command.stdin(tty.try_clone().unwrap()).stdout(tty.try_clone().unwrap()).stderr(tty);
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", self.argv));
        Running { argv: self.argv, child, stdout, stderr, _lab: PhantomData, reaped: false }
    }

    /// Run it to its end.
    #[must_use]
    pub fn done(self) -> Ran {
        self.spawn().wait()
    }

    /// Run it to its end for its effect; the answer is whether it worked.
    fn quietly(self) -> bool {
        self.spawn().wait_within(Duration::from_secs(10)).is_some_and(|ran| ran.status.success())
    }
}

/// A program under way. Dropped before it has ended, it is killed.
pub struct Running<'lab> {
    /// What it writes to lies in the lab, which must not go before it.
    _lab: PhantomData<&'lab Lab>,
    argv: Vec<OsString>,
    pub child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    reaped: bool,
}

impl Running<'_> {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// What it has written so far.
    pub fn stdout(&self) -> String {
        lossy(&self.stdout)
    }

    pub fn stderr(&self) -> String {
        lossy(&self.stderr)
    }

    /// Wait until its standard output holds this text.
    pub fn wait_for_output(&self, text: &str) {
        let seen = eventually(PATIENCE, || self.stdout().contains(text));
        assert!(seen, "{:?} never wrote {text:?}: {:?} {:?}", self.argv, self.stdout(), self.stderr());
    }

    #[must_use]
    pub fn wait(self) -> Ran {
        let what = format!("{:?}", self.argv);
        let err = self.stderr.clone();
        self.wait_within(PATIENCE)
            .unwrap_or_else(|| panic!("{what} did not end within {PATIENCE:?}: {}", lossy(&err)))
    }

    /// What it said, when somebody else has waited for it.
    pub fn ended(mut self, status: ExitStatus) -> Ran {
        self.reaped = true;
        Ran { what: format!("{:?}", self.argv), status, stdout: self.stdout(), stderr: self.stderr() }
    }

    pub fn wait_within(mut self, patience: Duration) -> Option<Ran> {
        let mut status = None;
        let end = Instant::now() + patience;
        let mut pause = Duration::from_micros(500);
        while status.is_none() && Instant::now() < end {
            status = self.child.try_wait().unwrap();
            if status.is_none() {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(5));
            }
        }
        self.reaped = status.is_some();
        Some(Ran {
            what: format!("{:?}", self.argv),
            status: status?,
            stdout: self.stdout(),
            stderr: self.stderr(),
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.reaped {
            // It may have ended by itself, which is as good.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// What a program that has ended said.
#[derive(Debug, Clone)]
pub struct Ran {
    what: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| {
            panic!("{} died of signal {:?}: {}", self.what, self.status.signal(), self.stderr)
        })
    }

    /// It ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert!(
            self.status.code() == Some(code),
            "{} ended with {} instead of exit code {code}\nstdout: {}\nstderr: {}",
            self.what,
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn ok(self) -> Ran {
        self.exits(0)
    }

    /// It succeeded and wrote just this.
    #[track_caller]
    pub fn prints(self, expected: &str) -> Ran {
        let ran = self.ok();
        assert_eq!(ran.stdout, expected, "{}: stderr: {}", ran.what, ran.stderr);
        ran
    }

    /// It failed with this code, for a reason that it named on stderr: each of the words is there. Of bryo,
    /// the error is moreover one line in the house's form.
    #[track_caller]
    pub fn refuses(self, code: i32, words: &[&str]) -> Ran {
        let ran = self.exits(code);
        for word in words {
            assert!(ran.stderr.contains(word), "{}: no {word:?} in its stderr: {}", ran.what, ran.stderr);
        }
        assert!(!ran.stderr.contains("panicked"), "{}: {}", ran.what, ran.stderr);
        if !is_peer() {
            let errors: Vec<_> = ran.stderr.lines().filter(|l| !l.starts_with("bryo: warning: ")).collect();
            assert!(
                matches!(errors[..], [line] if line.starts_with("bryo: ")),
                "{}: its error is not one line of the form \"bryo: …\": {}",
                ran.what,
                ran.stderr
            );
        }
        ran
    }

    /// Bryo says these words on stderr too; a peer has its own.
    #[track_caller]
    pub fn in_bryos_words(self, words: &[&str]) -> Ran {
        for word in words.iter().filter(|_| !is_peer()) {
            assert!(self.stderr.contains(word), "{}: no {word:?} in its stderr: {}", self.what, self.stderr);
        }
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{}: {e} in its output: {}", self.what, self.stdout))
    }
}

/// It worked, and said on stderr in one warning that it was by other means, and the way to those that were wanted.
#[track_caller]
pub fn warns(ran: Ran, stdout: &str, code: &str) {
    let ran = ran.prints(stdout);
    let lines: Vec<_> = ran.stderr.lines().filter(|l| l.contains(code)).collect();
    assert_eq!(lines.len(), 1, "one line with {code}: {}", ran.stderr);
    assert!(lines[0].contains("warning") && lines[0].contains("; fix: "), "{}", ran.stderr);
}

// ---------------------------------------------------------------------------------------------------------
// Bundle

/// A directory with a config.json that is still being decided on.
pub struct Bundle<'lab> {
    pub lab: &'lab Lab,
    pub dir: PathBuf,
    pub config: Value,
    id: Option<String>,
    globals: Vec<String>,
}

impl<'lab> Bundle<'lab> {
    /// Change config.json.
    pub fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    pub fn args<S: AsRef<str>>(self, args: impl IntoIterator<Item = S>) -> Self {
        let args: Vec<Value> = args.into_iter().map(|a| a.as_ref().into()).collect();
        self.with(|c| c["process"]["args"] = args.into())
    }

    /// The process is a shell with this script.
    pub fn sh(self, script: &str) -> Self {
        self.args(["sh", "-c", script])
    }

    /// The process stays until it is told to go. `sleep` as pid 1 ignores signals that it has no handler
    /// for, as pid 1 does, so a shell takes SIGTERM. It says when it is ready.
    pub fn waits(self) -> Self {
        self.sh("trap 'exit 0' TERM; echo ready; sleep 1000 & wait")
    }

    /// The process sleeps, costs nothing and heeds SIGKILL alone.
    pub fn sleeps(self) -> Self {
        self.args(["sleep", "1000"])
    }

    pub fn add_mount(self, mount: Value) -> Self {
        self.with(|c| push(&mut c["mounts"], mount))
    }

    /// Add a namespace, or replace the entry of that type.
    pub fn namespace(self, kind: &str, path: Option<&str>) -> Self {
        self.without_namespace(kind).with(|c| {
            let mut entry = json!({ "type": kind });
            if let Some(path) = path {
                entry["path"] = path.into();
            }
            push(&mut c["linux"]["namespaces"], entry);
        })
    }

    pub fn without_namespace(self, kind: &str) -> Self {
        self.with(|c| {
            let list = c["linux"]["namespaces"].as_array_mut().unwrap();
            list.retain(|ns| ns["type"] != kind);
        })
    }

    /// Without a pid namespace of its own, a user namespace may not mount /proc; the host's is bound.
    pub fn without_proc(self) -> Self {
        self.with(|c| {
            let mounts = c["mounts"].as_array_mut().unwrap();
            mounts[0] =
                json!({ "destination": "/proc", "type": "none", "source": "/proc", "options": ["rbind"] });
            c["linux"]["maskedPaths"] = json!([]);
            c["linux"]["readonlyPaths"] = json!([]);
        })
    }

    pub fn hook(self, kind: &str, hook: Value) -> Self {
        self.with(|c| {
            if c["hooks"][kind].is_null() {
                c["hooks"][kind] = json!([]);
            }
            push(&mut c["hooks"][kind], hook);
        })
    }

    /// Map root to the caller and everything above to the caller's subordinate ids.
    pub fn subids(self) -> Self {
        let own = |first: u32, (start, size): (u64, u64)| {
            json!([
                { "containerID": 0, "hostID": first, "size": 1 },
                { "containerID": 1, "hostID": start, "size": size },
            ])
        };
        let uids = own(geteuid().as_raw(), subids("/etc/subuid"));
        let gids = own(getegid().as_raw(), subids("/etc/subgid"));
        self.with(|c| {
            c["linux"]["uidMappings"] = uids;
            c["linux"]["gidMappings"] = gids;
        })
    }

    /// Give the bundle a root file system of its own, `rootfs`, that may be written to: busybox as a hard
    /// link where that is possible, and the links to it.
    pub fn own_rootfs(self) -> Self {
        let from = busybox();
        let to = self.dir.join("rootfs");
        // The first entry may be a link, by the order of the directory.
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(&from).unwrap().flatten() {
            let path = to.join(entry.file_name());
            if entry.file_type().unwrap().is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), path).unwrap();
            } else {
                fs::create_dir_all(path).unwrap();
            }
        }
        for entry in fs::read_dir(from.join("bin")).unwrap().flatten() {
            let path = to.join("bin").join(entry.file_name());
            if entry.file_type().unwrap().is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), path).unwrap();
            } else if fs::hard_link(entry.path(), &path).is_err() {
                // Another file system, or a file of somebody else's.
                fs::copy(entry.path(), &path).unwrap();
            }
        }
        for name in ["etc/passwd", "etc/group"] {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
        self.with(|c| c["root"] = json!({ "path": "rootfs", "readonly": false }))
    }

    /// The bundle's own root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The id that the test has chosen.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap()
    }

    /// Use the id that the test has chosen.
    pub fn named(mut self, id: &str) -> Self {
        self.lab.ids.borrow_mut().push(id.to_owned());
        self.id = Some(id.to_owned());
        self
    }

    /// Launch it with these global options. Whatever is done with the container then goes without them.
    pub fn with_globals<S: Into<String>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        self.globals = options.into_iter().map(S::into).collect();
        self
    }

    /// Write config.json, at once: a runtime that was started before may be reading it.
    pub fn save(&self) -> &Path {
        let new = self.dir.join("config.json.new");
        fs::write(&new, serde_json::to_vec(&self.config).unwrap()).unwrap();
        fs::rename(new, self.dir.join("config.json")).unwrap();
        &self.dir
    }

    /// A call of `run` or `create` with these options on this bundle.
    pub fn call<S: AsRef<OsStr>>(&self, verb: &str, options: impl IntoIterator<Item = S>) -> Call<'lab> {
        self.save();
        let id = self.id.clone().unwrap_or_else(|| self.lab.id());
        self.lab
            .call(&self.globals)
            .args([verb])
            .args(["--bundle"])
            .args([&self.dir])
            .args(options)
            .args([id])
    }

    /// A call of `run` or `create` with this id.
    pub fn named_call(&self, verb: &str, id: &str) -> Call<'lab> {
        self.save();
        self.lab.ids.borrow_mut().push(id.to_owned());
        self.lab.call(&self.globals).args([verb, id]).args(["--bundle"]).args([&self.dir])
    }

    /// Run it in the foreground to its end.
    #[must_use]
    pub fn run(&self) -> Ran {
        self.call("run", NONE).done()
    }

    /// `run` it in the foreground, without waiting.
    pub fn spawn(&self) -> Running<'lab> {
        self.call("run", NONE).spawn()
    }

    pub fn create(self) -> Container<'lab> {
        self.launch("create", &[])
    }

    /// `run --detach`.
    pub fn detach(self) -> Container<'lab> {
        self.launch("run", &["--detach"])
    }

    /// A container by `create` or `run --detach`, with options.
    #[track_caller]
    pub fn launch(self, verb: &str, options: &[&str]) -> Container<'lab> {
        self.try_launch(verb, options).unwrap_or_else(|ran| panic!("{:?}", ran.ok()))
    }

    /// The same, or how it failed.
    pub fn try_launch(mut self, verb: &str, options: &[&str]) -> Result<Container<'lab>, Ran> {
        let id = self.id.get_or_insert_with(|| self.lab.id()).clone();
        let running = self.call(verb, options).spawn();
        let (stdout, stderr) = (running.stdout.clone(), running.stderr.clone());
        let ran = running.wait();
        if !ran.status.success() {
            return Err(ran);
        }
        Ok(Container { lab: self.lab, id, bundle: self.dir, stdout, stderr })
    }
}

/// No options.
pub const NONE: [&str; 0] = [];

/// The one item of a list.
pub fn only<T: std::fmt::Debug>(mut list: Vec<T>) -> T {
    assert_eq!(list.len(), 1, "{list:?}");
    list.remove(0)
}

pub fn push(list: &mut Value, item: Value) {
    list.as_array_mut().unwrap().push(item);
}

/// The caller's first range of subordinate ids in /etc/subuid or /etc/subgid.
fn subids(file: &str) -> (u64, u64) {
    let text = fs::read_to_string(file).unwrap_or_default();
    let uid = geteuid();
    let name = nix::unistd::User::from_uid(uid).unwrap().map(|u| u.name).unwrap_or_default();
    text.lines()
        .find_map(|line| {
            let mut parts = line.split(':');
            let owner = parts.next()?;
            if owner != name && owner != uid.to_string() {
                return None;
            }
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        })
        .unwrap_or_else(|| {
            panic!(
                "user {name} has no entry in {file}; \
                 fix: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
            )
        })
}

/// What a plain user without subordinate ids runs: one id, no network namespace, the host's /sys.
fn default_config(tag: &str) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["true"],
            "env": ["PATH=/bin:/usr/bin:/sbin", "TERM=xterm", format!("{TAG}={tag}")],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": busybox(), "readonly": true },
        "hostname": "moss",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "none", "source": "/sys",
              "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "uidMappings": [{ "containerID": 0, "hostID": geteuid().as_raw(), "size": 1 }],
            "gidMappings": [{ "containerID": 0, "hostID": getegid().as_raw(), "size": 1 }],
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "user" },
            ],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

// ---------------------------------------------------------------------------------------------------------
// Container

/// A container that the runtime has made and that the test holds on to.
pub struct Container<'lab> {
    pub lab: &'lab Lab,
    pub id: String,
    pub bundle: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl<'lab> Container<'lab> {
    pub fn call<S: AsRef<OsStr>>(&self, verb: &str, options: impl IntoIterator<Item = S>) -> Call<'lab> {
        self.lab.call([verb]).args(options).args([&self.id])
    }

    #[must_use]
    pub fn start(&self) -> Ran {
        self.call("start", NONE).done()
    }

    pub fn state(&self) -> Value {
        self.call("state", NONE).done().ok().json()
    }

    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    pub fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().unwrap() as i32
    }

    #[track_caller]
    pub fn wait_until_stopped(&self) {
        let stopped = eventually(PATIENCE, || self.status() == "stopped");
        assert!(stopped, "{} is still {}", self.id, self.status());
    }

    /// Wait until the container's process has written this text.
    #[track_caller]
    pub fn wait_for_output(&self, text: &str) {
        let seen = eventually(PATIENCE, || self.stdout().contains(text));
        assert!(seen, "{} never wrote {text:?}: {:?} {:?}", self.id, self.stdout(), lossy(&self.stderr));
    }

    /// What the container's process has written so far.
    pub fn stdout(&self) -> String {
        lossy(&self.stdout)
    }

    /// What the runtime and the container's process have written to stderr so far.
    pub fn stderr(&self) -> String {
        lossy(&self.stderr)
    }

    /// A call of `exec` with options.
    pub fn exec_call<S: AsRef<OsStr>>(
        &self,
        options: &[&str],
        args: impl IntoIterator<Item = S>,
    ) -> Call<'lab> {
        self.call("exec", options).args(args)
    }

    #[must_use]
    pub fn exec<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        self.exec_call(&[], args).done()
    }

    #[must_use]
    pub fn kill(&self, signal: &str) -> Ran {
        self.call("kill", NONE).args([signal]).done()
    }

    #[must_use]
    pub fn delete(&self) -> Ran {
        self.call("delete", NONE).done()
    }

    /// Kill it and remove it, the end of most tests.
    #[track_caller]
    pub fn remove(self) {
        self.call("delete", ["--force"]).done().ok();
    }
}

// ---------------------------------------------------------------------------------------------------------
// The lab's own tests: a check that never fails would be worth nothing.

mod tests {
    use super::*;

    /// What a test like this would be told at its end.
    fn verdict(test: impl FnOnce(&Lab)) -> Result<(), String> {
        let lab = Lab::new();
        test(&lab);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lab.assert_nothing_left()));
        lab.demolish();
        std::mem::forget(lab);
        outcome.map_err(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
    }

    #[test]
    fn a_test_that_leaves_a_container_fails_and_the_container_is_removed() {
        let mut pid = 0;
        let told = verdict(|lab| pid = lab.bundle().sleeps().detach().pid()).unwrap_err();
        assert!(told.contains("state entry") && told.contains("process"), "{told}");
        assert!(!alive(pid));
    }

    #[test]
    fn a_test_that_leaves_a_process_fails_and_the_process_is_killed() {
        let mut pid = 0;
        let told = verdict(|lab| {
            let script = "sleep 1000 & echo $!";
            pid = lab.program("sh").args(["-c", script]).done().ok().stdout.trim().parse().unwrap();
        });
        assert!(told.unwrap_err().contains("sleep 1000"));
        assert!(eventually(PATIENCE, || !alive(pid)));
    }

    #[test]
    fn a_test_that_leaves_a_socket_fails() {
        let told = verdict(|lab| drop(std::os::unix::net::UnixListener::bind(lab.dir.join("run/left"))));
        assert!(told.unwrap_err().contains("socket"));
    }

    #[test]
    fn a_test_that_leaves_nothing_passes() {
        verdict(|lab| drop(lab.bundle().run().ok())).unwrap();
    }
}
