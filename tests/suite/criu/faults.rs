//! A criu that is none, or that does not come to its end: one line, and nothing is left, neither of it nor of what it
//! had begun. Programs of a few lines stand for it.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use super::{Subject, counting, rootful, wait_for_count};
use crate::lab::{Call, Lab, PATIENCE, alive, bryo_only, eventually};

/// The words of a fake: what it is asked it does not look at, but for where one question ends.
const WORDS: &str = r#"line=$2
hear() { eval "dd bs=65536 count=1 <&$line" >/dev/null 2>&1; }
say() { eval "printf '$1' >&$line"; }
hear; say '\010\012\020\001\122\004\010\004\020\001'; hear
"#;
/// What `post-restore` of process 1 looks like.
const INIT_IS_RESTORED: &str = r"say '\010\006\020\001\052\020\012\014post-restore\020\001'";

/// A fake that says that it is version 4.1, is asked to do something, and then runs `body`.
fn fake(lab: &Lab, name: &str, body: &str) -> PathBuf {
    lab.script(name, &format!("{WORDS}{body}"))
}

fn checkpoint<'lab>(subject: &Subject<'lab>, criu: &Path) -> Call<'lab> {
    let call = subject.lab.call(["--criu"]).args([criu]).args(["checkpoint", "--image-path"]);
    call.args([&subject.images]).args([&subject.id])
}

/// Of images that are none, as far as bryo looks at them, under another name.
fn restore<'lab>(subject: &Subject<'lab>, criu: &Path, options: &[&str]) -> Call<'lab> {
    let images = subject.lab.dir.join("none");
    fs::create_dir_all(&images).unwrap();
    fs::write(images.join("inventory.img"), "").unwrap();
    let call = subject.lab.call(["--criu"]).args([criu]).args(["restore", "--image-path"]).args([&images]);
    call.args(["--bundle"]).args([&subject.bundle]).args(options).args([other(subject)])
}

fn other(subject: &Subject<'_>) -> String {
    format!("{}-other", subject.id)
}

/// Nothing is known of what was to be restored, and the lab looks for its processes and cgroups.
#[track_caller]
fn nothing_is_restored(subject: &Subject<'_>) {
    let lab = subject.lab;
    lab.call(["state", &other(subject)]).done().refuses(1, &["does not exist"]);
    assert!(!lab.state_entries().contains(&other(subject)), "{:?}", lab.state_entries());
}

fn pid_in(file: &Path) -> i32 {
    let read = || fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    assert!(eventually(PATIENCE, || read().is_some()), "nothing in {}", file.display());
    read().unwrap()
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_criu_that_dies_while_it_dumps_leaves_the_container_running() {
    bryo_only!("runc leaves it frozen");
    let lab = Lab::new();
    let (container, subject) = counting(&lab);
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let freezes = format!("echo 1 > /sys/fs/cgroup{cgroup}/cgroup.freeze; ");
    for (end, told) in [("exit 3", "it ended with status 3"), ("kill -9 $$", "it was ended by SIGKILL")] {
        let criu = fake(&lab, "dies", &format!("{freezes}{end}"));
        checkpoint(&subject, &criu).done().refuses(1, &["CRIU: ", told, "; fix: see ", "dump.log"]);
        assert_eq!(container.status(), "running");
        wait_for_count(&subject, subject.count() + 2);
    }
    container.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_criu_that_hangs_ends_with_who_waits_for_it() {
    bryo_only!("runc leaves it behind");
    let lab = Lab::new();
    let (container, subject) = counting(&lab);
    let pid = lab.dir.join("criu.pid");
    let hangs = fake(&lab, "hangs", &format!("echo $$ > {}; exec sleep 1000", pid.display()));
    for (signal, name, code) in [(Signal::SIGTERM, "SIGTERM", 143), (Signal::SIGINT, "SIGINT", 130)] {
        let _ = fs::remove_file(&pid);
        let running = checkpoint(&subject, &hangs).spawn();
        let criu = pid_in(&pid);
        running.signal(signal);
        running.wait().refuses(code, &["CRIU: ", name, "came before it was done: interrupted system call"]);
        assert!(!alive(criu));
        assert_eq!(container.status(), "running");
    }
    for options in [&["--detach"][..], &[]] {
        fs::remove_file(&pid).unwrap();
        let running = restore(&subject, &hangs, options).spawn();
        let criu = pid_in(&pid);
        running.signal(Signal::SIGTERM);
        running.wait().refuses(143, &["CRIU: ", "SIGTERM came before it was done"]);
        assert!(!alive(criu));
        nothing_is_restored(&subject);
    }
    container.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_criu_that_does_not_even_say_its_version_is_not_waited_for() {
    bryo_only!("runc waits for ever");
    let lab = Lab::new();
    let (container, subject) = counting(&lab);
    let pid = lab.dir.join("criu.pid");
    let mute = lab.script("mute", &format!("echo $$ > {}; exec sleep 1000", pid.display()));
    checkpoint(&subject, &mute)
        .done()
        .refuses(1, &["CRIU: ", "did not answer within 30 s: connection timed out; fix: "]);
    assert!(!alive(pid_in(&pid)));
    assert_eq!(container.status(), "running");
    container.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_criu_that_dies_while_it_restores_leaves_nothing_of_it() {
    bryo_only!("runc leaves what has no pid of a container's yet");
    let lab = Lab::new();
    let (container, subject) = counting(&lab);
    let pid = lab.dir.join("task.pid");
    let dies = fake(
        &lab,
        "dies",
        &format!("sleep 1000 <&- >&- 2>&- & echo $! > {}; echo broken >&2; exit 4", pid.display()),
    );
    restore(&subject, &dies, &["--detach"])
        .done()
        .refuses(1, &["CRIU: ", "it ended with status 4: broken", "restore.log"]);
    let task = pid_in(&pid);
    assert!(eventually(PATIENCE, || !alive(task)));
    nothing_is_restored(&subject);
    container.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_criu_that_says_what_is_not_so_is_not_believed() {
    bryo_only!("runc believes it, and deletes a container that nobody has dumped");
    let lab = Lab::new();
    let (container, subject) = counting(&lab);
    let says = |name: &str, word: &str| fake(&lab, name, &format!("{word}; hear; exit 0"));
    let dumped = says("dumped", r"say '\010\001\020\001'");
    let words = ["CRIU: ", "inventory.img: no such file or directory; fix: "];
    checkpoint(&subject, &dumped).done().refuses(1, &words);
    assert_eq!(container.status(), "running");
    let restored = says("restored", r"say '\010\002\020\001'");
    let words = ["CRIU: ", "does not say what it has restored: bad message"];
    restore(&subject, &restored, &["--detach"]).done().refuses(1, &words);
    nothing_is_restored(&subject);
    let another = says("another", INIT_IS_RESTORED);
    let words = ["CRIU: ", "it names process 1, which it has not made: bad message"];
    restore(&subject, &another, &["--detach"]).done().refuses(1, &words);
    nothing_is_restored(&subject);
    let garbage = says("garbage", "say 'no criu speaks like this'");
    restore(&subject, &garbage, &["--detach"]).done().refuses(1, &["CRIU: ", "bad message"]);
    nothing_is_restored(&subject);
    container.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_criu_that_is_too_old_or_none_is_refused_and_the_container_goes_on() {
    bryo_only!("the words are bryo's");
    let lab = Lab::new();
    let container = rootful(&lab).sleeps().detach();
    let subject = Subject::of(&container);
    let with = |name: &str, body: &str| checkpoint(&subject, &lab.script(name, body)).done();
    // Version 3.13, as it says so: type, success, and a version of two numbers.
    let old = r#"eval "printf '\010\012\020\001\122\004\010\003\020\015' >&$2"; sleep 1"#;
    with("old", old).refuses(1, &["CRIU: ", "is version 3.13, and 3.14 is the oldest", "; fix: "]);
    with("deaf", "echo no such mode >&2; exit 1")
        .refuses(1, &["CRIU: ", "status 1: no such mode", "; fix: "]);
    with("silent", "exit 0").refuses(1, &["CRIU: ", "without a word", "; fix: "]);
    with("garbage", r#"eval "echo garbage >&$2"; sleep 1"#).refuses(1, &["CRIU: ", "bad message"]);
    assert_eq!(container.status(), "running");
    container.remove();
}
