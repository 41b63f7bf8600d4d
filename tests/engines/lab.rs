//! Where engines are driven from: the runtime under test, a place for an engine's storage, and programs with
//! what they said.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::runtime::PATH;
pub use crate::runtime::runtime;

/// How long anything may take before the test gives up: an engine in a guest is slow, and others run beside it.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Tells the size of the terminal once it has one: engines give it only after the start.
pub const TERMINAL_SIZE: &str = "test -t 0 && for i in $(seq 100); do s=$(stty size 2>/dev/null); \
                                 [ \"${s:-0 0}\" = \"0 0\" ] || break; sleep 0.1; done; echo $s";

// ---------------------------------------------------------------------------------------------------------
// Containers in containers

/// What an engine needs to have bryo run a container in one of its own: `run OPTIONS moss sh /inner/run`, followed by
/// options of bryo's for the inner one, which tells its uid and pid.
pub struct Inner {
    /// The volumes: bryo and what it is made of, the bundle, and its root file system.
    pub volumes: String,
}

impl Inner {
    pub fn new(place: &Place) -> Inner {
        let dir = place.scratch();
        // Whoever runs it has to write its configuration.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        let script = "cd /inner && rm -f config.json && /bryo spec --rootless || exit\n\
            sed -i -e 's/\"terminal\": true/\"terminal\": false/' -e 's|\"path\": \"rootfs\"|\"path\": \"/moss\"|' \\\n\
            -e 's/\"sh\"$/\"sh\", \"-c\", \"echo uid $(id -u) pid $$\"/' config.json\n\
            /bryo --root /tmp/inner \"$@\" run inner\n";
        fs::write(dir.join("run"), script).unwrap();
        let volumes = format!(
            "--volume {}:/bryo:ro --volume /usr:/usr:ro --volume {}:/inner --volume {}:/moss:ro",
            runtime().display(),
            dir.display(),
            busybox().display(),
        );
        Inner { volumes }
    }
}

/// The tree that images are made of.
fn busybox() -> PathBuf {
    let tree = std::env::var_os("BRYO_TEST_ROOTFS_BUSYBOX")
        .map_or_else(|| PathBuf::from("/var/tmp/bryo-test-rootfs/busybox"), PathBuf::from);
    assert!(
        tree.join("bin/busybox").exists(),
        "no root file system in {}; fix: scripts/rootfs busybox {}",
        tree.display(),
        tree.display()
    );
    tree
}

/// The options that `bryo doctor --for nested --json` proposes to this engine.
pub fn proposed(ran: Ran, engine: &str) -> String {
    let document: serde_json::Value =
        serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    let line = document["outer"][engine].as_str().unwrap_or_else(|| panic!("no {engine} in {document}"));
    let options =
        line.strip_prefix(&format!("{engine} run --rm -it")).and_then(|line| line.strip_suffix("IMAGE"));
    options.unwrap_or_else(|| panic!("{line}")).trim().to_owned()
}

// ---------------------------------------------------------------------------------------------------------
// The runtime under test

/// The name that engines know the runtime by.
pub fn runtime_name() -> &'static str {
    runtime().file_name().and_then(OsStr::to_str).unwrap()
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A case that cannot be had, and why: said past libtest's capture, which would hide it.
pub fn not_here(reason: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let note = format!("not possible: {test}: {}: {reason}\n", runtime_name());
    std::io::stderr().write_all(note.as_bytes()).unwrap();
}

/// What a case asks of the machine, beyond user namespaces. The guest has all of it.
#[derive(Clone, Copy)]
pub enum Need {
    /// cgroup v2
    Cgroups,
    /// systemd, the user's own for a plain user
    Systemd,
    /// /dev/net/tun and /dev/fuse that may be opened, for networks and mounts of a plain user
    Devices,
    /// Podman 5, for pasta
    Podman5,
}

impl Need {
    /// What of it the machine lacks.
    fn lacking(self) -> Option<&'static str> {
        let openable = |path| File::options().read(true).write(true).open(path).is_ok();
        let (there, lack) = match self {
            Need::Cgroups => (Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), "cgroup v2"),
            Need::Systemd => {
                let run = if is_root() { Some("/run".into()) } else { std::env::var_os("XDG_RUNTIME_DIR") };
                let private = run.map(|run| Path::new(&run).join("systemd/private"));
                (private.is_some_and(|path| path.exists()), "the user's systemd")
            }
            Need::Devices => {
                (openable("/dev/net/tun") && openable("/dev/fuse"), "/dev/net/tun and /dev/fuse")
            }
            Need::Podman5 => {
                let version = Program::new("podman").words("--version").run().text();
                (!version.contains("version 4") && !version.contains("version 3"), "Podman 5")
            }
        };
        (!there).then_some(lack)
    }
}

pub fn lacking(needs: &[Need]) -> Option<String> {
    needs.iter().find_map(|need| need.lacking()).map(|lack| format!("needs {lack}"))
}

/// Leave a case where the machine has not what it needs.
macro_rules! needs {
    ($($need:ident),+) => {
        if let Some(lack) = crate::lab::lacking(&[$(crate::lab::Need::$need),+]) {
            return crate::lab::not_here(&lack);
        }
    };
}
pub(crate) use needs;

/// Leave a case that a peer is known to fail, with the reason. For bryo itself nothing is ever left out.
macro_rules! fails_with {
    ($($peer:literal)|+, $reason:literal) => {
        if [$($peer),+].contains(&crate::lab::runtime_name()) {
            return crate::lab::not_here($reason);
        }
    };
}
pub(crate) use fails_with;

/// This repository's `scripts`: what is needed of them stands beside the suite in a guest.
pub fn scripts() -> PathBuf {
    std::env::var_os("BRYO_SCRIPTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts"), PathBuf::from)
}

/// Run `scripts/engines` with a home of its own. The peers are known to engines by themselves.
pub fn configure(engine: &str, home: &Path) {
    fs::create_dir_all(home).unwrap();
    if runtime_name() != "bryo" {
        return;
    }
    let config = home.join(".config");
    Program::new("sh")
        .arg(&scripts().join("engines"))
        .words("--binary")
        .arg(runtime())
        .words(engine)
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", &config)
        .run()
        .ok();
}

// ---------------------------------------------------------------------------------------------------------
// Place

/// A directory of an engine, for as long as the suite runs. What is in it at the end, and what of the engine
/// still runs, is removed by a janitor: a shell that waits until this process is gone, however that came.
pub struct Place {
    pub dir: PathBuf,
    serial: AtomicU32,
}

impl Place {
    /// A new place. The janitor runs these commands of a shell, then removes the directory.
    pub fn new(engine: &str, last_words: &str) -> Place {
        // Short, since sockets live below it and a socket's path has 107 bytes.
        let dir = PathBuf::from(format!("/var/tmp/{engine}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap_or_else(|e| panic!("mkdir {}: {e}", dir.display()));
        let place = Place { dir, serial: AtomicU32::new(0) };
        place.hire_janitor(last_words);
        place
    }

    fn hire_janitor(&self, last_words: &str) {
        // Never dropped, so that the janitor's stdin ends with this process.
        static JANITORS: Mutex<Vec<Child>> = Mutex::new(Vec::new());
        let script = format!(
            "trap '' INT TERM HUP; read -r _\n{last_words}\n\
             rm -rf \"$DIR\" 2>/dev/null || unshare --user --map-root-user --map-auto -- rm -rf \"$DIR\""
        );
        let log = File::create(format!("{}.janitor", self.dir.display())).unwrap();
        fs::remove_file(format!("{}.janitor", self.dir.display())).unwrap();
        let janitor = Command::new("setsid")
            .args(["bash", "-c", &script])
            .env("DIR", &self.dir)
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        JANITORS.lock().unwrap().push(janitor);
    }

    /// A name that no other container of the suite has.
    pub fn name(&self) -> String {
        format!("moss-{}", self.serial.fetch_add(1, Ordering::Relaxed))
    }

    /// A new directory of a test.
    pub fn scratch(&self) -> PathBuf {
        let dir = self.dir.join(format!("scratch-{}", self.serial.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&dir).unwrap();
        dir
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.scratch().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// The image as a tar archive of its root.
    pub fn image(&self) -> PathBuf {
        let tree = busybox();
        // What busybox lacks: a file that is no program, and the names by which a dynamic program that a test
        // mounts with /usr finds its loader.
        let extra = self.scratch();
        fs::create_dir(extra.join("bin")).unwrap();
        fs::write(extra.join("bin/text"), "no program").unwrap();
        fs::set_permissions(extra.join("bin/text"), fs::Permissions::from_mode(0o644)).unwrap();
        for lib in ["lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{lib}"), extra.join(lib)).unwrap();
        }
        let tar = self.dir.join("moss.tar");
        // No name twice: Docker refuses that.
        for (mode, from, names) in [("-cf", &tree, "."), ("-rf", &extra, "./bin/text ./lib ./lib64")] {
            let owned = "--owner=0 --group=0 --numeric-owner -C";
            Program::new("tar").words(mode).arg(&tar).words(owned).arg(from).words(names).run().ok();
        }
        tar
    }
}

// ---------------------------------------------------------------------------------------------------------
// Program

/// The words of a command line, by blanks, with 'single quotes' for those that hold some.
pub fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' | '\n' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    assert!(!quoted, "an open quote in {line}");
    words.extend(word);
    words
}

/// A program that is being put together.
#[must_use]
pub struct Program {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    dir: Option<PathBuf>,
    stdin: Vec<u8>,
}

impl Program {
    pub fn new(name: &str) -> Program {
        Program { argv: vec![name.to_owned()], env: Vec::new(), dir: None, stdin: Vec::new() }
    }

    pub fn words(mut self, line: &str) -> Self {
        self.argv.extend(words(line));
        self
    }

    /// One word, whatever is in it.
    pub fn word(mut self, word: &str) -> Self {
        self.argv.push(word.to_owned());
        self
    }

    pub fn arg(self, arg: &Path) -> Self {
        self.word(arg.to_str().unwrap())
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.to_owned(), value.as_ref().to_str().unwrap().to_owned()));
        self
    }

    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = text.into();
        self
    }

    /// Start it through another program, which gets it as its last arguments.
    pub fn under(mut self, prefix: &str) -> Self {
        let mut argv = words(prefix);
        argv.append(&mut self.argv);
        self.argv = argv;
        self
    }

    /// Start it from a shell as `"$@"` of these commands.
    pub fn in_shell(mut self, commands: &str) -> Self {
        let mut argv: Vec<String> = ["bash", "-c", commands, "bash"].map(str::to_owned).into();
        argv.append(&mut self.argv);
        self.argv = argv;
        self
    }

    /// Run it on a terminal of this size, on which the user types this. What it writes comes out on stdout.
    pub fn on_terminal(mut self, rows: u32, columns: u32, typed: &str) -> Self {
        let quoted: Vec<_> = self.argv.iter().map(|a| format!("'{}'", a.replace('\'', r"'\''"))).collect();
        let command = format!("stty rows {rows} cols {columns}; exec {}", quoted.join(" "));
        self.argv =
            ["script", "--quiet", "--return", "--command", &command, "/dev/null"].map(str::to_owned).into();
        self.stdin(typed)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).env("PATH", PATH);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.dir.as_deref().unwrap_or(Path::new("/")));
        command
    }

    /// Run it to its end.
    pub fn run(self) -> Ran {
        // Files rather than pipes: what a detached process holds open must not keep the reader waiting.
        let mut stdin = temporary();
        stdin.write_all(&self.stdin).unwrap();
        std::io::Seek::rewind(&mut stdin).unwrap();
        let (mut stdout, mut stderr) = (temporary(), temporary());
        let what = self.argv.join(" ");
        let begin = Instant::now();
        let mut child = self
            .command()
            .stdin(stdin)
            .stdout(stdout.try_clone().unwrap())
            .stderr(stderr.try_clone().unwrap())
            .spawn()
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        let mut pause = Duration::from_millis(2);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begin.elapsed() > PATIENCE {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!(
                    "{what} did not end within {PATIENCE:?}\nstdout: {}\nstderr: {}",
                    read(&mut stdout),
                    read(&mut stderr)
                );
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        Ran { what, status, stdout: read(&mut stdout), stderr: read(&mut stderr) }
    }

    /// Start it, a daemon, with its output in this file. The janitor ends it.
    #[must_use]
    pub fn daemon(self, log: &Path) -> Child {
        let log = File::create(log).unwrap();
        self.command().stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }
}

/// A file without a name.
fn temporary() -> File {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let path = format!("/var/tmp/engines-{}-{serial}", std::process::id());
    let file = File::options().read(true).append(true).create_new(true).open(&path).unwrap();
    fs::remove_file(path).unwrap();
    file
}

fn read(file: &mut File) -> String {
    use std::io::Read;
    std::io::Seek::rewind(file).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a program that has ended said.
#[derive(Debug)]
pub struct Ran {
    what: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert!(
            self.status.code() == Some(code),
            "{}\nended with {:?}, signal {:?}, instead of exit code {code}\nstdout: {}\nstderr: {}",
            self.what,
            self.status.code(),
            self.status.signal(),
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn ok(self) -> Ran {
        self.exits(0)
    }

    /// It failed, in its own words or the runtime's.
    #[track_caller]
    pub fn fails(self) -> Ran {
        assert!(!self.status.success(), "{}\nsucceeded\nstdout: {}", self.what, self.stdout);
        self
    }

    /// It succeeded and wrote just this, but for the last newline.
    #[track_caller]
    pub fn prints(self, expected: &str) -> Ran {
        let ran = self.ok();
        assert_eq!(ran.stdout.trim_end(), expected, "{}\nstderr: {}", ran.what, ran.stderr);
        ran
    }

    /// It wrote this somewhere.
    #[track_caller]
    pub fn says(self, text: &str) -> Ran {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "{}\ndid not say {text:?}\nstdout: {}\nstderr: {}",
            self.what,
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn says_not(self, text: &str) -> Ran {
        assert!(!self.stdout.contains(text), "{}\nsaid {text:?}\nstdout: {}", self.what, self.stdout);
        self
    }

    /// What it wrote, without the blanks around it.
    #[track_caller]
    pub fn text(self) -> String {
        self.ok().stdout.trim().to_owned()
    }
}

/// Look again and again until the condition holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(50));
    }
}

/// Whether the host has a process whose command line holds these words.
pub fn is_running(words: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let bytes = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ").contains(words)
    })
}

/// A link of /proc that names a namespace.
pub fn namespace(pid: &str, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_str().unwrap().to_owned()
}

/// What this file says in the cgroup of a process and in those above it.
pub fn cgroup_values(pid: &str, file: &str) -> Vec<String> {
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = format!("/sys/fs/cgroup{}", cgroup.trim().trim_start_matches("0::"));
    let values = Path::new(&path).ancestors().filter_map(|dir| fs::read_to_string(dir.join(file)).ok());
    values.map(|value| value.trim().to_owned()).collect()
}
