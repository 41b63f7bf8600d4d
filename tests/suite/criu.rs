//! `checkpoint` and `restore` with a criu that works, which takes root on the machine itself: `scripts/test` runs these
//! in a mount namespace where cgroup v2 is seen alone, and `BRYO_TEST_CRIU` names the program that `scripts/criu` has
//! found. What the kernel has to have beyond that is asked of criu, and where it lacks it, the refusal is tested.
//!
//! Containers that other runtimes are compared with have no standard streams of outside, since runc cannot dump
//! those that are files.

mod faults;
mod flags;

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde_json::{Value, json};

use crate::lab::{Bundle, Call, Container, Lab, NONE, PATIENCE, Ran, bryo_only, eventually, field};
use crate::pty::{ConsoleSocket, terminal};

/// The criu that the tests use.
fn criu() -> String {
    std::env::var("BRYO_TEST_CRIU")
        .unwrap_or_else(|_| panic!("BRYO_TEST_CRIU names no criu; fix: BRYO_TEST_CRIU=$(scripts/criu DIR)"))
}

/// A container of root's with a network of its own.
fn rootful(lab: &Lab) -> Bundle<'_> {
    assert!(geteuid().is_root(), "this test needs root; fix: scripts/test as root");
    lab.bundle().without_namespace("user").namespace("network", None).namespace("cgroup", None).with(|c| {
        c["linux"]["uidMappings"] = Value::Null;
        c["linux"]["gidMappings"] = Value::Null;
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/sys");
        let options = json!(["nosuid", "noexec", "nodev", "ro"]);
        mounts.push(json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": options }));
        let cgroup = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options });
        mounts.push(cgroup);
    })
}

trait Counts {
    fn counts(self) -> Self;
}

impl Counts for Bundle<'_> {
    /// It counts, ten times a second, and has nothing open of what is outside.
    fn counts(self) -> Self {
        self.sh("exec </dev/null >/dev/null 2>&1; i=0; while :; do i=$((i+1)); echo $i > /dev/shm/new; \
                 mv /dev/shm/new /dev/shm/n; sleep 0.1; done")
    }
}

/// A container that goes through checkpoint and restore.
struct Subject<'lab> {
    lab: &'lab Lab,
    id: String,
    bundle: PathBuf,
    images: PathBuf,
}

impl<'lab> Subject<'lab> {
    fn of(container: &Container<'lab>) -> Subject<'lab> {
        let images = container.lab.dir.join(format!("{}.images", container.id));
        Subject { lab: container.lab, id: container.id.clone(), bundle: container.bundle.clone(), images }
    }

    fn call(&self, verb: &str, options: &[&str], id: &str) -> Call<'lab> {
        self.lab.call(["--criu", &criu(), verb, "--image-path"]).args([&self.images]).args(options).args([id])
    }

    fn checkpoint(&self, options: &[&str]) -> Ran {
        self.call("checkpoint", options, &self.id).done()
    }

    fn restore_call(&self, options: &[&str]) -> Call<'lab> {
        self.call("restore", options, &self.id).args(["--bundle"]).args([&self.bundle])
    }

    /// In the background.
    fn restore(&self, options: &[&str]) -> Ran {
        self.restore_call(options).args(["--detach"]).done()
    }

    fn exec(&self, script: &str) -> Ran {
        self.lab.call(["exec", &self.id, "sh", "-c", script]).done()
    }

    fn count(&self) -> u32 {
        self.exec("cat /dev/shm/n").ok().stdout.trim().parse().unwrap()
    }

    fn state(&self) -> Value {
        self.lab.call(["state", &self.id]).done().ok().json()
    }

    fn is_gone(&self) -> bool {
        self.lab.call(["state", &self.id]).done().code() != 0
    }

    fn remove(&self) {
        self.lab.call(["delete", "--force", &self.id]).done().ok();
    }
}

fn counting(lab: &Lab) -> (Container<'_>, Subject<'_>) {
    let container = rootful(lab).counts().detach();
    let subject = Subject::of(&container);
    wait_for_count(&subject, 3);
    (container, subject)
}

#[track_caller]
fn wait_for_count(subject: &Subject<'_>, at_least: u32) {
    let counted = eventually(PATIENCE, || {
        let ran = subject.exec("cat /dev/shm/n");
        ran.stdout.trim().parse::<u32>().is_ok_and(|n| n >= at_least)
    });
    assert!(counted, "{} does not count", subject.id);
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_container_goes_on_from_where_it_was() {
    let lab = Lab::new();
    let (_, subject) = counting(&lab);
    wait_for_count(&subject, 15);
    subject.checkpoint(&[]).ok();
    assert!(subject.is_gone());
    assert!(lab.state_entries().iter().all(|entry| entry == "seccomp:cache"));
    subject.restore(&[]).ok();
    let state = subject.state();
    assert_eq!(state["status"], "running");
    assert!(Path::new(&format!("/proc/{}", state["pid"])).exists());
    let count = subject.count();
    assert!((15..100).contains(&count), "it begins anew, or has counted while it was not there: {count}");
    wait_for_count(&subject, count + 3);
    subject.exec("cat /proc/1/comm; hostname").prints("sh\nmoss\n");
    subject.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_checkpoint_that_leaves_it_running_can_be_restored_beside_it() {
    let lab = Lab::new();
    let (container, subject) = counting(&lab);
    subject.checkpoint(&["--leave-running"]).ok();
    assert_eq!(container.status(), "running");
    wait_for_count(&subject, subject.count() + 3);
    subject.restore(&[]).refuses(1, &["container with given ID already exists"]);
    assert_eq!(container.status(), "running");
    let id = lab.id();
    let other = Subject { id, images: subject.images.clone(), bundle: subject.bundle.clone(), lab: &lab };
    other.restore(&[]).ok();
    let (first, second) = (subject.count(), other.count());
    assert!(first > second && second >= 3, "{first}, {second}");
    if !crate::lab::is_peer() {
        // Its own cgroup, and nobody else's; runc has both in the first one's.
        let cgroup = |id: &str| {
            fs::read_to_string(format!("/proc/{}/cgroup", lab.call(["state", id]).done().ok().json()["pid"]))
        };
        assert_ne!(cgroup(&subject.id).unwrap(), cgroup(&other.id).unwrap());
    }
    other.remove();
    assert_eq!(container.status(), "running");
    container.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn in_the_foreground_a_restore_ends_as_the_container_does() {
    let lab = Lab::new();
    let script = "exec </dev/null >/dev/null 2>&1; echo up > /dev/shm/n; until [ -e /dev/shm/stop ]; do sleep 0.05; done; exit 7";
    let container = rootful(&lab).sh(script).detach();
    let subject = Subject::of(&container);
    assert!(eventually(PATIENCE, || subject.exec("cat /dev/shm/n").stdout == "up\n"));
    subject.checkpoint(&[]).ok();
    let pid_file = lab.dir.join("pid");
    let running = subject.restore_call(&["--pid-file", pid_file.to_str().unwrap()]).spawn();
    let up = eventually(PATIENCE, || subject.exec("true").status.success());
    assert!(up, "{}", running.stderr());
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), subject.state()["pid"].to_string());
    subject.exec("touch /dev/shm/stop").ok();
    running.wait().exits(7);
    assert!(subject.is_gone());
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_signal_to_a_restore_in_the_foreground_is_the_containers() {
    let lab = Lab::new();
    let script = "trap 'exit 5' TERM; exec </dev/null >/dev/null 2>&1; echo up > /dev/shm/n; while :; do sleep 0.05; done";
    let subject = Subject::of(&rootful(&lab).sh(script).detach());
    assert!(eventually(PATIENCE, || subject.exec("cat /dev/shm/n").stdout == "up\n"));
    subject.checkpoint(&[]).ok();
    let running = subject.restore_call(&[]).spawn();
    assert!(eventually(PATIENCE, || subject.exec("true").status.success()), "{}", running.stderr());
    running.signal(nix::sys::signal::Signal::SIGTERM);
    running.wait().exits(5);
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_run_in_the_foreground_ends_with_the_checkpoint() {
    let lab = Lab::new();
    let bundle = rootful(&lab).named(&lab.id()).counts();
    let running = bundle.spawn();
    let images = lab.dir.join("images");
    let subject = Subject { lab: &lab, id: bundle.id().to_string(), bundle: bundle.dir.clone(), images };
    wait_for_count(&subject, 3);
    subject.checkpoint(&[]).ok();
    running.wait().exits(137);
    assert!(subject.is_gone());
    subject.restore(&[]).ok();
    subject.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn what_holds_it_in_holds_it_after_a_restore() {
    bryo_only!("runc's root is writable after a restore, and its loopback interface down");
    let lab = Lab::new();
    let bundle = rootful(&lab).counts().with(|c| {
        c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
        ] });
    });
    let subject = Subject::of(&bundle.detach());
    wait_for_count(&subject, 3);
    let look = "grep -E 'Cap|Seccomp:|NoNewPrivs' /proc/1/status; cat /proc/1/oom_score_adj; ulimit -n
        awk '{ print $4, $5, $6 }' /proc/self/mountinfo | sort; ls /dev /sys/fs/cgroup
        cat /proc/self/cgroup; ip addr show lo; mkdir /dev/shm/x 2>&1; touch /x 2>&1";
    let before = subject.exec(look).stdout;
    assert!(before.contains("/ / ro") || before.contains("/ ro,"), "{before}");
    let pid = |subject: &Subject<'_>| subject.state()["pid"].as_i64().unwrap();
    let outside = |pid: i64| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let cgroup = outside(pid(&subject));
    subject.checkpoint(&[]).ok();
    subject.restore(&[]).ok();
    let after = subject.exec(look).stdout;
    assert_eq!(lines_without(&before, " / /sys/fs/cgroup"), lines_without(&after, " / /sys/fs/cgroup"));
    assert_eq!(outside(pid(&subject)), cgroup);
    subject.remove();
}

/// The lines, in which the shape of one does not count.
fn lines_without<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    text.lines().filter(|line| !line.contains(word)).collect()
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_bind_mount_shows_what_is_there_now() {
    let lab = Lab::new();
    for (name, text) in [("volume", "first\n"), ("single", "alone\n")] {
        let file = if name == "volume" { lab.dir.join(name).join("file") } else { lab.dir.join(name) };
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let bind = |at: &str, source: &str| json!({ "destination": at, "type": "bind", "source": source, "options": ["rbind"] });
    let bundle = rootful(&lab)
        .own_rootfs()
        .counts()
        .add_mount(bind("/mnt", lab.dir.join("volume").to_str().unwrap()))
        .add_mount(bind("/etc/single", lab.dir.join("single").to_str().unwrap()))
        // By a link: /var/run leads to /run.
        .add_mount(bind("/linked/here", lab.dir.join("volume").to_str().unwrap()));
    std::os::unix::fs::symlink("/home", bundle.rootfs().join("linked")).unwrap();
    let subject = Subject::of(&bundle.detach());
    wait_for_count(&subject, 3);
    subject.checkpoint(&[]).ok();
    fs::write(lab.dir.join("volume/file"), "second\n").unwrap();
    subject.restore(&[]).ok();
    subject.exec("cat /mnt/file /etc/single /home/here/file").prints("second\nalone\nsecond\n");
    subject.exec("echo third > /mnt/file").ok();
    assert_eq!(fs::read_to_string(lab.dir.join("volume/file")).unwrap(), "third\n");
    subject.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_fresh_copy_of_the_root_gets_its_mount_points() {
    let lab = Lab::new();
    let bind = |at: &str, name: &str| {
        let source = lab.dir.join(name);
        fs::create_dir(&source).unwrap();
        json!({ "destination": at, "type": "bind", "source": source, "options": ["bind"] })
    };
    // The second one's place is in what the first one shows.
    let (outer, inner) = (bind("/a/b", "outer"), bind("/a/b/for/nested", "inner"));
    let bundle = rootful(&lab).own_rootfs().counts().add_mount(outer).add_mount(inner);
    let made = [bundle.rootfs().join("a"), lab.dir.join("outer/for")];
    let subject = Subject::of(&bundle.detach());
    wait_for_count(&subject, 3);
    subject.checkpoint(&[]).ok();
    made.iter().for_each(|dir| fs::remove_dir_all(dir).unwrap());
    subject.restore(&[]).ok();
    subject.exec("test -d /a/b/for/nested && touch /a/b/for/nested/file").ok();
    assert!(lab.dir.join("inner/file").exists());
    subject.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_locked_file_takes_a_flag() {
    let lab = Lab::new();
    // busybox has nothing that holds a lock; the host's flock(1) comes with all that it is linked with.
    let script = "exec </dev/null >/dev/null 2>&1
        exec /usr/bin/flock /dev/shm/lock sh -c 'echo 1 > /dev/shm/n; while :; do sleep 0.1; done'";
    let mut bundle = rootful(&lab).own_rootfs().sh(script);
    for dir in ["/usr", "/lib", "/lib64"] {
        bundle = bundle.add_mount(
            json!({ "destination": dir, "type": "bind", "source": dir, "options": ["rbind", "ro"] }),
        );
    }
    let subject = Subject::of(&bundle.detach());
    wait_for_count(&subject, 1);
    let refused =
        subject.checkpoint(&[]).refuses(1, &["criu"]).in_bryos_words(&["CRIU: criu: ", "lock", "dump.log"]);
    assert_eq!(subject.state()["status"], "running", "{refused:?}");
    subject.checkpoint(&["--file-locks"]).ok();
    subject.restore(&["--file-locks"]).ok();
    subject.exec("/usr/bin/flock -n /dev/shm/lock true; echo $?").prints("1\n");
    subject.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_removed_file_is_there_again() {
    let lab = Lab::new();
    let script = "exec </dev/null >/dev/null 2>&1; exec 9<>/dev/shm/gone; echo content >&9; rm /dev/shm/gone; echo 1 > /dev/shm/n; while :; do sleep 0.1; done";
    let subject = Subject::of(&rootful(&lab).sh(script).detach());
    wait_for_count(&subject, 1);
    subject.checkpoint(&["--link-remap"]).ok();
    subject.restore(&[]).ok();
    subject.exec("cat /proc/1/fd/9; ls /dev/shm").prints("content\nn\n");
    subject.remove();
}

/// Both ends are inside, and talk over the loopback interface.
#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_tcp_connection_goes_on() {
    bryo_only!("runc leaves the loopback interface down, and the connection with it");
    let lab = Lab::new();
    let script = "exec </dev/null >/dev/null 2>&1
        nc -l -p 7777 -e sh -c 'while read line; do echo got $line; done' &
        mkfifo /dev/shm/in; sleep 0.3; nc 127.0.0.1 7777 < /dev/shm/in > /dev/shm/n & exec 9>/dev/shm/in
        echo first >&9; while :; do sleep 0.1; done";
    let subject = Subject::of(&rootful(&lab).sh(script).detach());
    assert!(eventually(PATIENCE, || subject.exec("cat /dev/shm/n").stdout == "got first\n"));
    if !sockets_tell_of_credentials() {
        // Since Linux 6.16 they do not, and criu before 4.2 gives up.
        subject.checkpoint(&["--tcp-established"]).refuses(1, &["CRIU: criu: sockets: Can't get 1:16 opt"]);
        assert_eq!(subject.state()["status"], "running");
        subject.remove();
        return;
    }
    subject.checkpoint(&[]).refuses(1, &["CRIU: criu: ", "TCP"]);
    subject.checkpoint(&["--tcp-established"]).ok();
    subject.restore(&["--tcp-established"]).ok();
    subject.exec("echo second > /proc/1/fd/9").ok();
    let heard = eventually(PATIENCE, || subject.exec("cat /dev/shm/n").stdout == "got first\ngot second\n");
    assert!(heard, "{:?}", subject.exec("cat /dev/shm/n; netstat -tn"));
    subject.remove();
}

/// Whether an option that is for unix sockets can be read of the others too, or this criu knows that it cannot.
fn sockets_tell_of_credentials() -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socket, sockopt};
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let version = std::process::Command::new(criu()).arg("--version").output().unwrap().stdout;
    let version = String::from_utf8(version).unwrap();
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    let parts: Vec<u32> = number.split('.').filter_map(|part| part.parse().ok()).collect();
    getsockopt(&socket, sockopt::PassCred).is_ok() || parts >= vec![4, 2]
}

/// A container that answers on its terminal, which goes to this socket.
fn answers_on<'lab>(lab: &'lab Lab, socket: &ConsoleSocket) -> Container<'lab> {
    let script = "echo ready; while read line; do echo got $line; done";
    let bundle = rootful(lab).sh(script).with(|c| c["process"]["terminal"] = true.into());
    bundle.launch("run", &["--detach", "--console-socket", socket.path()])
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_terminal_is_handed_over_anew() {
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let container = answers_on(&lab, &socket);
    let subject = Subject::of(&container);
    let mut master = socket.receive();
    master.wait_for("ready");
    subject.restore(&[]).refuses(1, &[]);
    subject.checkpoint(&[]).ok();
    drop(master);
    subject.restore(&["--console-socket", socket.path()]).ok();
    let mut master = socket.receive();
    master.type_in("moss\n");
    master.wait_for("got moss");
    subject.remove();
}

/// Its settings are those of the dump, when its lines ended as who had it from the socket wanted it.
#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_terminal_that_is_restored_in_the_foreground_leaves_line_ends_to_the_callers() {
    let lab = Lab::new();
    let socket = ConsoleSocket::new(&lab.dir);
    let container = answers_on(&lab, &socket);
    let subject = Subject::of(&container);
    let mut master = socket.receive();
    master.wait_for("ready\r\n");
    subject.checkpoint(&[]).ok();
    drop(master);
    let (mut outer, slave) = terminal(24, 80);
    let restored = subject.restore_call(&[]).on_terminal(&slave).spawn();
    outer.type_in("moss\n");
    outer.wait_for("got moss\r\n");
    assert!(!outer.seen().contains("\r\r"), "{:?}", outer.seen());
    container.kill("KILL").ok();
    restored.wait().exits(137);
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn pipes_are_our_own_streams_afterwards() {
    let lab = Lab::new();
    let bundle =
        rootful(&lab).named(&lab.id()).sh("i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done");
    let piped = |file: &Path| {
        let script = format!("{{ \"$@\" 2>&1 </dev/null || echo failed; }} | cat > {}", file.display());
        ["bash".to_string(), "-c".into(), script, "bash".into()]
    };
    let (first, second) = (lab.dir.join("first"), lab.dir.join("second"));
    let read = |file: &Path| fs::read_to_string(file).unwrap_or_default();
    let started = bundle.call("run", ["--detach"]).under(piped(&first)).spawn();
    let images = lab.dir.join("images");
    let subject = Subject { lab: &lab, id: bundle.id().to_string(), bundle: bundle.dir.clone(), images };
    assert!(eventually(PATIENCE, || read(&first).contains("line 5\n")), "{}", read(&first));
    subject.checkpoint(&[]).ok();
    started.wait().ok();
    let last = read(&first).lines().count();
    let restored = subject.restore_call(&["--detach"]).under(piped(&second)).spawn();
    let next = format!("line {}\n", last + 3);
    assert!(eventually(PATIENCE, || read(&second).contains(&next)), "{}", read(&second));
    subject.remove();
    restored.wait().ok();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_file_as_standard_output_is_written_on() {
    bryo_only!("runc cannot dump a container whose streams are files of outside");
    let lab = Lab::new();
    let log = lab.file("log", "");
    let bundle =
        rootful(&lab).named(&lab.id()).sh("i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done");
    // criu wants a file that is not appended to to be as long as it was.
    let append = format!("exec >> {} 2>> {}", log.display(), lab.dir.join("errors").display());
    bundle.call("run", ["--detach"]).after_shell(&append).done().ok();
    let subject = Subject {
        lab: &lab,
        id: bundle.id().to_string(),
        bundle: bundle.dir.clone(),
        images: lab.dir.join("images"),
    };
    let lines = || fs::read_to_string(&log).unwrap().lines().count();
    assert!(eventually(PATIENCE, || lines() >= 3));
    subject.checkpoint(&[]).ok();
    let before = lines();
    subject.restore_call(&["--detach"]).after_shell(&append).done().ok();
    assert!(eventually(PATIENCE, || lines() >= before + 3));
    subject.remove();
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.lines().enumerate().all(|(n, line)| line == format!("line {}", n + 1)), "{text}");
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn hooks_that_furnish_namespaces_are_run_again_and_no_others() {
    let lab = Lab::new();
    let said = lab.dir.join("said");
    let mut bundle = rootful(&lab).counts();
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        let body = format!(
            "grep -o '\"pid\": *[1-9]' >/dev/null && pid=with || pid=without; echo {kind} $pid >> {}",
            said.display()
        );
        // What is run inside has no scripts of ours.
        if kind.ends_with("Container") {
            continue;
        }
        let script = lab.script(kind, &body);
        bundle = bundle.hook(kind, json!({ "path": script }));
    }
    let subject = Subject::of(&bundle.detach());
    wait_for_count(&subject, 3);
    let heard = || {
        let text = fs::read_to_string(&said).unwrap_or_default();
        fs::write(&said, "").unwrap();
        text
    };
    assert_eq!(heard(), "prestart with\ncreateRuntime with\npoststart with\n");
    subject.checkpoint(&[]).ok();
    assert_eq!(heard(), "poststop without\n");
    subject.restore(&[]).ok();
    assert_eq!(heard(), "prestart with\ncreateRuntime with\n");
    subject.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_restore_whose_hook_fails_leaves_nothing() {
    let lab = Lab::new();
    let (container, subject) = counting(&lab);
    subject.checkpoint(&[]).ok();
    let path = container.bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["hooks"] = json!({ "createRuntime": [{ "path": lab.script("bad", "echo broken >&2; exit 3") }] });
    fs::write(&path, config.to_string()).unwrap();
    subject.restore(&[]).refuses(1, &["hook"]).in_bryos_words(&["HOOK", "broken"]);
    assert!(subject.is_gone());
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_pid_file_that_cannot_be_written_ends_the_restore() {
    bryo_only!("runc leaves the container running");
    let lab = Lab::new();
    let (_, subject) = counting(&lab);
    subject.checkpoint(&[]).ok();
    subject
        .restore(&["--pid-file", "/nowhere/pid"])
        .refuses(1, &["/nowhere/pid", "no such file or directory"]);
    assert!(subject.is_gone());
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn images_that_are_none_are_refused() {
    let lab = Lab::new();
    let (_, subject) = counting(&lab);
    subject.checkpoint(&[]).ok();
    let none = Subject { images: lab.dir.join("none"), ..Subject::of_parts(&subject) };
    none.restore(&[])
        .refuses(1, &[])
        .in_bryos_words(&["CRIU: ", "inventory.img: no such file or directory; fix: "]);
    let empty = Subject { images: lab.dir.join("empty"), ..Subject::of_parts(&subject) };
    fs::create_dir(&empty.images).unwrap();
    empty.restore(&[]).refuses(1, &[]).in_bryos_words(&["inventory.img"]);
    for image in ["mm-1.img", "pstree.img", "files.img"] {
        let (image, kept) = (subject.images.join(image), subject.images.join("kept"));
        fs::copy(&image, &kept).unwrap();
        fs::write(&image, &fs::read(&kept).unwrap()[..6]).unwrap();
        subject.restore(&[]).refuses(1, &[]).in_bryos_words(&["CRIU: criu: ", "restore.log"]);
        assert!(subject.is_gone());
        fs::rename(kept, image).unwrap();
    }
    subject.restore(&[]).ok();
    subject.remove();
}

impl<'lab> Subject<'lab> {
    /// The same, to be changed.
    fn of_parts(other: &Subject<'lab>) -> Subject<'lab> {
        let (id, bundle, images) = (other.id.clone(), other.bundle.clone(), other.images.clone());
        Subject { lab: other.lab, id, bundle, images }
    }
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn images_of_a_container_that_is_less_isolated_are_refused() {
    bryo_only!("runc restores what is in the images, whatever config.json says");
    let lab = Lab::new();
    let (_, one) = counting(&lab);
    one.checkpoint(&[]).ok();
    let two = Subject::of(
        &rootful(&lab).without_namespace("uts").with(|c| c["hostname"] = Value::Null).counts().detach(),
    );
    wait_for_count(&two, 3);
    two.checkpoint(&[]).ok();
    let mixed = |images: &Subject<'_>, bundle: &Subject<'_>| {
        let (images, bundle) = (images.images.clone(), bundle.bundle.clone());
        Subject { lab: &lab, id: lab.id(), bundle, images }.restore(&[])
    };
    mixed(&two, &one)
        .refuses(1, &["CRIU: config.json lists namespaces that the images do not have: uts", "; fix: "]);
    mixed(&one, &two).refuses(1, &["CRIU: the images have namespaces that config.json does not list: uts"]);
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_container_of_its_own_ids_keeps_them() {
    let lab = Lab::new();
    let bundle = rootful(&lab).namespace("user", None).counts().with(|c| {
        c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
        c["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
    });
    let subject = Subject::of(&bundle.detach());
    wait_for_count(&subject, 3);
    subject.checkpoint(&[]).ok();
    subject.restore(&[]).ok();
    let count = subject.count();
    wait_for_count(&subject, count + 2);
    let map = fs::read_to_string(format!("/proc/{}/uid_map", subject.state()["pid"])).unwrap();
    assert!(map.split_whitespace().eq(["0", "0", "65536"]), "{map}");
    subject.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_network_that_it_joined_is_joined_again() {
    let lab = Lab::new();
    let namespace = lab.file("netns", "");
    let path = namespace.to_str().unwrap();
    // It holds an interface by which it is known.
    let make = format!("touch {path}; unshare --net={path} ip link add moss type veth peer name fern");
    lab.program("sh").args(["-c", &make]).done().ok();
    let bundle = rootful(&lab).without_namespace("network").namespace("network", Some(path)).counts();
    let subject = Subject::of(&bundle.detach());
    wait_for_count(&subject, 3);
    subject.checkpoint(&[]).ok();
    subject.restore(&[]).ok();
    let seen = subject.exec("ip -o link show moss").ok().stdout;
    assert!(seen.contains("moss@fern"), "{seen}");
    subject.remove();
    lab.program("umount").args([path]).done().ok();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn only_what_runs_is_checkpointed() {
    let lab = Lab::new();
    let created = rootful(&lab).sleeps().create();
    Subject::of(&created).checkpoint(&[]).refuses(1, &["annot be checkpointed in created state"]);
    created.remove();
    let stopped = rootful(&lab).detach();
    stopped.wait_until_stopped();
    Subject::of(&stopped).checkpoint(&[]).refuses(1, &["annot be checkpointed in stopped state"]);
    stopped.remove();
    let (container, subject) = counting(&lab);
    container.call("pause", NONE).done().ok();
    subject.checkpoint(&[]).ok();
    subject.restore(&[]).ok();
    let count = subject.count();
    wait_for_count(&subject, count + 2);
    subject.remove();
}

/// How much memory there is in images.
fn pages(images: &Path) -> u64 {
    let images = fs::read_dir(images).unwrap().map(|entry| entry.unwrap());
    let pages = images.filter(|entry| entry.file_name().to_string_lossy().starts_with("pages-"));
    pages.map(|entry| entry.metadata().unwrap().len()).sum()
}

/// Whether the kernel has it, by criu's own probe.
fn kernel_has(feature: &str) -> bool {
    let status = std::process::Command::new(criu()).args(["check", "--feature", feature]).status();
    status.unwrap().success()
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn memory_is_dumped_beforehand_where_the_kernel_tells_what_has_changed() {
    let lab = Lab::new();
    let (container, subject) = counting(&lab);
    let first = Subject { images: lab.dir.join("first"), ..Subject::of_parts(&subject) };
    let second = Subject { images: lab.dir.join("second"), ..Subject::of_parts(&subject) };
    if !kernel_has("mem_dirty_track") {
        let words = ["CRIU: this kernel cannot tell which pages were written to", "; fix: "];
        first.checkpoint(&["--pre-dump"]).refuses(1, &[]).in_bryos_words(&words);
        fs::create_dir_all(&first.images).unwrap();
        second.checkpoint(&["--parent-path", "../first"]).refuses(1, &[]).in_bryos_words(&words);
        container.remove();
        return;
    }
    first.checkpoint(&["--pre-dump"]).ok();
    assert_eq!(container.status(), "running");
    second.checkpoint(&["--parent-path", "/absolute"]).refuses(1, &["--parent-path"]);
    second
        .checkpoint(&["--parent-path", "../none"])
        .refuses(1, &["--parent-path", "no such file or directory"]);
    let count = first.count();
    wait_for_count(&first, count + 3);
    second.checkpoint(&["--parent-path", "../first"]).ok();
    let (all, changed) = (pages(&first.images), pages(&second.images));
    assert!(changed < all, "{changed} of {all}");
    second.restore(&[]).ok();
    assert!(second.count() >= count + 3);
    second.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_page_server_takes_the_memory() {
    let lab = Lab::new();
    let (_, subject) = counting(&lab);
    fs::create_dir(&subject.images).unwrap();
    let port = "27101";
    let server = lab
        .program(criu())
        .args(["page-server", "--address", "127.0.0.1", "--port", port, "--images-dir"])
        .args([&subject.images])
        .spawn();
    let listening =
        || fs::read_to_string("/proc/net/tcp").unwrap().contains(&format!("0100007F:{:04X}", 27101));
    assert!(eventually(PATIENCE, listening), "{}", server.stderr());
    let server_of = format!("127.0.0.1:{port}");
    let other = Subject { images: lab.dir.join("small"), ..Subject::of_parts(&subject) };
    other.checkpoint(&["--page-server", &server_of]).ok();
    server.wait().ok();
    assert!(pages(&subject.images) > 0 && pages(&other.images) == 0);
    for entry in fs::read_dir(&subject.images).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), other.images.join(entry.file_name())).unwrap();
    }
    other.restore(&[]).ok();
    assert!(other.count() >= 3);
    other.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_status_descriptor_that_nobody_can_write_to_is_refused() {
    bryo_only!("runc takes it where it does nothing");
    let lab = Lab::new();
    let (container, subject) = counting(&lab);
    subject.checkpoint(&["--status-fd", "1"]).refuses(1, &["--status-fd 1", "--lazy-pages", "; fix: "]);
    subject
        .checkpoint(&["--status-fd", "77", "--lazy-pages"])
        .refuses(1, &["--status-fd 77", "bad file descriptor"]);
    assert_eq!(container.status(), "running");
    container.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_root_of_layers_is_refused_at_the_checkpoint() {
    bryo_only!("layers are bryo's own");
    let lab = Lab::new();
    let container = rootful(&lab).counts().launch("run", &["--detach", "--ephemeral"]);
    let subject = Subject::of(&container);
    wait_for_count(&subject, 3);
    subject.checkpoint(&[]).refuses(1, &["CRIU: its root file system is made of layers", "; fix: "]);
    assert_eq!(container.status(), "running");
    container.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn images_of_runcs_are_restored_and_runc_restores_ours() {
    bryo_only!("this is the comparison itself");
    let lab = Lab::new();
    let (_, subject) = counting(&lab);
    let runc = |verb: &str, options: &[&str], id: &str| {
        let call =
            lab.program("runc").args(["--root"]).args([lab.dir.join("runc")]).args(["--criu", &criu(), verb]);
        call.args(options).args([id])
    };
    let images = subject.images.to_str().unwrap();
    let bundle = subject.bundle.to_str().unwrap();
    subject.checkpoint(&[]).ok();
    runc("restore", &["--detach", "--image-path", images, "--bundle", bundle], &subject.id).done().ok();
    let before = || {
        let ran = runc("exec", &[], &subject.id).args(["cat", "/dev/shm/n"]).done();
        ran.ok().stdout.trim().parse::<u32>().unwrap()
    };
    let count = before();
    assert!(count >= 3);
    let theirs = Subject { images: lab.dir.join("theirs"), ..Subject::of_parts(&subject) };
    let images = theirs.images.to_str().unwrap();
    runc("checkpoint", &["--image-path", images], &subject.id).done().ok();
    theirs.restore(&[]).ok();
    assert!(theirs.count() >= count);
    let status = fs::read_to_string(format!("/proc/{}/status", theirs.state()["pid"])).unwrap();
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    theirs.remove();
}
