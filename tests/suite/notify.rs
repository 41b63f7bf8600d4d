//! A container that tells the supervisor of its runtime that it is ready (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::debian::container;
use crate::lab::{Bundle, Lab, NONE, PATIENCE, bryo_only, eventually};

/// A supervisor that reads whatever it is told, at once as systemd does.
struct Supervisor {
    path: PathBuf,
    address: String,
    heard: Arc<Mutex<String>>,
}

impl Supervisor {
    fn new(lab: &Lab) -> Supervisor {
        let path = lab.dir.join("supervisor");
        let address = path.to_str().unwrap().to_owned();
        Supervisor { address, heard: listen(UnixDatagram::bind(&path).unwrap()), path }
    }

    /// What it has been told, once it has been told a pid, which runc sends in a message of its own.
    #[track_caller]
    fn hears(&self) -> String {
        let told = || self.heard.lock().unwrap().contains("MAINPID=");
        assert!(eventually(PATIENCE, told), "{:?}", self.heard.lock().unwrap());
        self.heard.lock().unwrap().clone()
    }

    #[track_caller]
    fn hears_of(&self, pid: i32) {
        let heard = self.hears();
        assert!(heard.lines().any(|line| line == "READY=1"), "{heard:?}");
        assert!(heard.lines().any(|line| line == format!("MAINPID={pid}")), "{pid}: {heard:?}");
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

/// Reads for as long as the test runs. Descriptors that come along are closed, since nobody takes them.
fn listen(socket: UnixDatagram) -> Arc<Mutex<String>> {
    let heard = Arc::new(Mutex::new(String::new()));
    let writer = Arc::clone(&heard);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len) = socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            *writer.lock().unwrap() += &format!("{text}\n");
        }
    });
    heard
}

/// A container that does what `script` says in Perl, where `say(TEXT)` speaks to the supervisor.
fn speaker<'lab>(lab: &'lab Lab, script: &str) -> Bundle<'lab> {
    let say = "use Socket; sub say { socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; \
               send($s, $_[0], 0, sockaddr_un($ENV{NOTIFY_SOCKET})) or die qq($!) }";
    let run = json!({ "destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=0755"] });
    container(lab).add_mount(run).args(["perl", "-e", &format!("{say} {script}")])
}

const READY_IN_TIME: &str =
    "select(undef, undef, undef, 0.3); open(F, '>/tmp/said'); say(qq(READY=1\\n)); sleep";

#[test]
fn start_returns_once_the_container_is_ready() {
    let lab = Lab::new();
    let supervisor = Supervisor::new(&lab);
    let bundle = speaker(&lab, READY_IN_TIME);
    let id = lab.id();
    bundle.named_call("create", &id).env("NOTIFY_SOCKET", &supervisor.address).done().ok();
    lab.call(["start", &id]).env("NOTIFY_SOCKET", &supervisor.address).done().ok();
    lab.call(["exec", &id, "ls", "/tmp/said"]).done().prints("/tmp/said\n");
    let pid = lab.call(["state", &id]).done().json()["pid"].as_i64().unwrap();
    supervisor.hears_of(pid as i32);
    lab.call(["delete", "--force", &id]).done().ok();
}

#[test]
fn run_in_the_background_returns_once_the_container_is_ready() {
    let lab = Lab::new();
    let supervisor = Supervisor::new(&lab);
    let id = lab.id();
    let bundle = speaker(&lab, READY_IN_TIME);
    bundle.named_call("run", &id).args(["--detach"]).env("NOTIFY_SOCKET", &supervisor.address).done().ok();
    lab.call(["exec", &id, "ls", "/tmp/said"]).done().prints("/tmp/said\n");
    let pid = lab.call(["state", &id]).done().json()["pid"].as_i64().unwrap();
    supervisor.hears_of(pid as i32);
    lab.call(["delete", "--force", &id]).done().ok();
}

#[test]
fn run_in_the_foreground_passes_it_on_meanwhile() {
    let lab = Lab::new();
    let supervisor = Supervisor::new(&lab);
    let script = "$SIG{TERM} = sub { exit 7 }; say(qq(READY=1)); sleep while 1";
    let running = speaker(&lab, script).call("run", NONE).env("NOTIFY_SOCKET", &supervisor.address).spawn();
    let told = supervisor.hears();
    assert!(told.contains("READY=1"), "{told:?}");
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait().exits(7);
}

#[test]
fn a_container_that_ends_without_a_word_is_not_waited_for() {
    bryo_only!("runc 1.1 waits for ever");
    let lab = Lab::new();
    let supervisor = Supervisor::new(&lab);
    let id = lab.id();
    let bundle = speaker(&lab, "exit 0");
    bundle.named_call("run", &id).args(["--detach"]).env("NOTIFY_SOCKET", &supervisor.address).done().ok();
    assert_eq!(*supervisor.heard.lock().unwrap(), "");
    lab.call(["delete", "--force", &id]).done().ok();
}

#[test]
fn nothing_else_that_a_container_says_reaches_the_supervisor() {
    bryo_only!("runc 1.1 does not find READY=1 behind another line");
    let lab = Lab::new();
    let supervisor = Supervisor::new(&lab);
    let id = lab.id();
    let script = "say(qq(STATUS=green\\nMAINPID=1)); say(qq(XREADY=1)); say(qq(MAINPID=1\\nREADY=1)); sleep";
    let bundle = speaker(&lab, script);
    bundle.named_call("run", &id).args(["--detach"]).env("NOTIFY_SOCKET", &supervisor.address).done().ok();
    let told = supervisor.hears();
    assert!(!told.contains("STATUS") && !told.lines().any(|line| line == "MAINPID=1"), "{told:?}");
    lab.call(["delete", "--force", &id]).done().ok();
}

#[test]
fn who_joins_the_container_has_nothing_to_say() {
    bryo_only!("runc gives an exec the configuration's environment, with the socket in it or not by version");
    let lab = Lab::new();
    let supervisor = Supervisor::new(&lab);
    let id = lab.id();
    let bundle = speaker(&lab, "say(qq(READY=1)); sleep");
    bundle.named_call("run", &id).args(["--detach"]).env("NOTIFY_SOCKET", &supervisor.address).done().ok();
    let env = lab.call(["exec", &id, "env"]).done().ok().stdout;
    assert!(!env.contains("NOTIFY_SOCKET"), "{env}");
    lab.call(["delete", "--force", &id]).done().ok();
}

#[test]
fn an_abstract_socket_is_one_too() {
    use std::os::linux::net::SocketAddrExt;
    bryo_only!("runc takes paths only");
    let lab = Lab::new();
    let name = format!("bryo-suite-notify-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let heard = listen(UnixDatagram::bind_addr(&address).unwrap());
    let id = lab.id();
    let call = speaker(&lab, "say(qq(READY=1)); sleep").named_call("run", &id).args(["--detach"]);
    call.env("NOTIFY_SOCKET", format!("@{name}")).done().ok();
    assert!(eventually(PATIENCE, || heard.lock().unwrap().contains("READY=1")));
    lab.call(["delete", "--force", &id]).done().ok();
}

#[test]
fn without_a_supervisor_there_is_no_socket() {
    let lab = Lab::new();
    assert!(!Path::new("/run/notify").exists());
    let script = "print defined $ENV{NOTIFY_SOCKET} || -e '/run/notify' ? 1 : 0";
    container(&lab).args(["perl", "-e", script]).run().prints("0");
}
