//! What a flag changes, seen from outside: each of these would fail if the flag were taken and forgotten.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::json;

use super::{Subject, counting, kernel_has, rootful, wait_for_count};
use crate::lab::{Lab, PATIENCE, bryo_only, eventually};
use crate::pty::terminal;

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn logs_go_where_the_work_is() {
    let lab = Lab::new();
    let (_, subject) = counting(&lab);
    let work = lab.dir.join("work");
    let options = ["--work-path", work.to_str().unwrap()];
    subject.checkpoint(&options).ok();
    assert!(work.join("dump.log").exists() && !subject.images.join("dump.log").exists());
    subject.restore(&options).ok();
    assert!(work.join("restore.log").exists() && !subject.images.join("restore.log").exists());
    subject.remove();
}

/// It has lost one name, and has another that nobody has told criu of.
#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn an_open_file_under_another_name_takes_a_flag() {
    let lab = Lab::new();
    let script = "exec </dev/null >/dev/null 2>&1; echo content > /dev/shm/a; exec 9<>/dev/shm/a
        ln /dev/shm/a /dev/shm/b; rm /dev/shm/a; echo 1 > /dev/shm/n; while :; do sleep 0.1; done";
    let subject = Subject::of(&rootful(&lab).sh(script).detach());
    wait_for_count(&subject, 1);
    subject.checkpoint(&[]).refuses(1, &["criu"]).in_bryos_words(&["CRIU: criu: ", "link"]);
    assert_eq!(subject.state()["status"], "running");
    subject.checkpoint(&["--link-remap"]).ok();
    subject.restore(&[]).ok();
    subject.exec("cat /proc/1/fd/9 /dev/shm/b; ls /dev/shm").prints("content\ncontent\nb\nn\n");
    subject.remove();
}

/// The container has one end of a pair, and somebody outside has the other.
#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_socket_to_somebody_outside_takes_a_flag() {
    let lab = Lab::new();
    let path = lab.dir.join("outside");
    let outside = UnixDatagram::bind(&path).unwrap();
    outside.set_read_timeout(Some(PATIENCE)).unwrap();
    let inside = UnixDatagram::unbound().unwrap();
    inside.connect(&path).unwrap();
    // criu looks for the other end by its name, inside.
    let bind =
        json!({ "destination": lab.dir, "type": "bind", "source": lab.dir, "options": ["bind", "rw"] });
    let script = "exec </dev/null 2>/dev/null; echo 1 > /dev/shm/n; while :; do echo tick; sleep 0.1; done";
    // criu looks for sockets in the container's network.
    let bundle = rootful(&lab).without_namespace("network").own_rootfs().named(&lab.id()).sh(script);
    let bundle = bundle.add_mount(bind);
    let streams = fs::File::from(std::os::fd::OwnedFd::from(inside));
    bundle.call("run", ["--detach"]).on_streams(&streams).done().ok();
    let images = lab.dir.join("images");
    let subject = Subject { lab: &lab, id: bundle.id().to_string(), bundle: bundle.dir.clone(), images };
    wait_for_count(&subject, 1);
    drop(streams);
    let heard = || {
        let mut word = [0; 16];
        let len = outside.recv(&mut word).unwrap();
        word[..len] == *b"tick\n"
    };
    assert!(heard());
    subject.checkpoint(&[]).refuses(1, &["criu"]).in_bryos_words(&["CRIU: criu: ", "--ext-unix-sk"]);
    subject.checkpoint(&["--ext-unix-sk"]).ok();
    outside.set_nonblocking(true).unwrap();
    while outside.recv(&mut [0; 16]).is_ok() {}
    outside.set_nonblocking(false).unwrap();
    subject.restore(&["--ext-unix-sk"]).ok();
    assert!(heard());
    subject.remove();
    fs::remove_file(path).unwrap();
}

/// Its terminal is the user's, and none of its own.
#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_shells_job_takes_a_flag() {
    bryo_only!("runc's criu dies of it");
    let lab = Lab::new();
    let (mut first, slave) = terminal(24, 80);
    let script = "echo 1 > /dev/shm/n; while read line; do echo got $line; done; sleep 1000";
    let bundle = rootful(&lab).named(&lab.id()).sh(script);
    let running = bundle.call("run", &[] as &[&str]).on_terminal(&slave).spawn();
    let images = lab.dir.join("images");
    let subject = Subject { lab: &lab, id: bundle.id().to_string(), bundle: bundle.dir.clone(), images };
    wait_for_count(&subject, 1);
    first.type_in("moss\n");
    first.wait_for("got moss");
    subject.checkpoint(&[]).refuses(1, &["CRIU: /dev/pts/", "terminal of somebody outside", "--shell-job"]);
    subject.call("checkpoint", &["--shell-job"], &subject.id).on_terminal(&slave).done().ok();
    running.wait().exits(137);
    let (mut second, slave) = terminal(24, 80);
    let running = subject.restore_call(&["--shell-job"]).on_terminal(&slave).spawn();
    assert!(eventually(PATIENCE, || subject.exec("true").status.success()), "{}", second.seen());
    second.type_in("fern\n");
    second.wait_for("got fern");
    subject.exec("kill -9 1").code();
    subject.remove();
    running.wait().code();
}

/// What an image takes of the disk.
fn blocks(images: &Path) -> u64 {
    fs::metadata(images.join("pages-1.img")).unwrap().blocks()
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn images_are_emptied_as_they_are_restored_where_that_is_wanted() {
    let lab = Lab::new();
    let (_, subject) = counting(&lab);
    subject.checkpoint(&["--leave-running"]).ok();
    subject.remove();
    let before = blocks(&subject.images);
    subject.restore(&[]).ok();
    subject.remove();
    assert_eq!(blocks(&subject.images), before);
    subject.restore(&["--auto-dedup"]).ok();
    subject.remove();
    assert!(blocks(&subject.images) < before, "{before}");
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn an_earlier_dump_is_emptied_of_what_a_later_one_has_where_that_is_wanted() {
    let lab = Lab::new();
    let (container, subject) = counting(&lab);
    if !kernel_has("mem_dirty_track") {
        // Then there are no later dumps, which is tested beside this.
        return container.remove();
    }
    let first = Subject { images: lab.dir.join("first"), ..Subject::of_parts(&subject) };
    let second = Subject { images: lab.dir.join("second"), ..Subject::of_parts(&subject) };
    first.checkpoint(&["--pre-dump"]).ok();
    let before = blocks(&first.images);
    second.checkpoint(&["--parent-path", "../first", "--auto-dedup"]).ok();
    assert!(blocks(&first.images) < before, "{before}");
    second.restore(&[]).ok();
    second.remove();
}

/// A property of a cgroup that every kernel has, and that no configuration sets.
fn depth(subject: &Subject<'_>) -> String {
    let pid = subject.state()["pid"].as_i64().unwrap();
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let cgroup = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    format!("/sys/fs/cgroup{cgroup}/cgroup.max.depth")
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn the_mode_says_what_becomes_of_the_properties_of_cgroups() {
    bryo_only!("runc 1.1 makes no difference");
    let lab = Lab::new();
    // Where there are hierarchies of v1 as well, criu would write to the machine's own cgroups.
    let alone = fs::read_to_string("/proc/self/cgroup").unwrap().lines().all(|line| line.starts_with("0::"));
    let modes = [(None, "max\n"), (Some("soft"), "max\n"), (Some("full"), "7\n")];
    for (mode, kept) in modes.into_iter().take(if alone { 3 } else { 2 }) {
        let (_, subject) = counting(&lab);
        fs::write(depth(&subject), "7").unwrap();
        let options: Vec<&str> = mode.iter().flat_map(|mode| ["--manage-cgroups-mode", *mode]).collect();
        subject.checkpoint(&options).ok();
        subject.restore(&options).ok();
        assert_eq!(fs::read_to_string(depth(&subject)).unwrap(), kept, "{mode:?}");
        subject.remove();
    }
    if !alone {
        return;
    }
    let (_, subject) = counting(&lab);
    let strict = ["--manage-cgroups-mode", "strict"];
    subject.checkpoint(&strict).ok();
    // It wants to make the cgroup itself.
    subject.restore(&strict).refuses(1, &["CRIU: criu: "]);
    subject.restore(&[]).ok();
    subject.remove();
}

/// criu makes no cgroup namespace then.
#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn cgroups_that_are_left_alone_are_the_new_containers_own() {
    bryo_only!("runc's container sees the cgroups of the machine");
    let lab = Lab::new();
    for at_the_dump in [&["--manage-cgroups-mode", "ignore"][..], &[]] {
        let (_, subject) = counting(&lab);
        let outside = || fs::read_to_string(format!("/proc/{}/cgroup", subject.state()["pid"])).unwrap();
        let cgroup = outside();
        subject.checkpoint(at_the_dump).ok();
        subject.restore(&["--manage-cgroups-mode", "ignore"]).ok();
        assert_eq!(outside(), cgroup);
        let inside = subject.exec("cat /proc/1/cgroup; echo; ls /sys/fs/cgroup/cgroup.procs").ok().stdout;
        assert!(inside.contains("0::/\n") && inside.contains("cgroup.procs"), "{inside}");
        wait_for_count(&subject, subject.count() + 2);
        subject.remove();
    }
}

/// Somebody has connected, and nobody has taken it up.
#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_connection_on_its_way_takes_a_flag() {
    bryo_only!("runc 1.1 has no such flag");
    let lab = Lab::new();
    let script = "exec </dev/null >/dev/null 2>&1; nc -l -p 7778 &
        until netstat -ltn | grep -q 7778; do sleep 0.1; done; kill -STOP $!
        mkfifo /dev/shm/in; nc 127.0.0.1 7778 < /dev/shm/in & exec 9>/dev/shm/in
        until netstat -tn | grep 7778 | grep -q ESTABLISHED; do sleep 0.1; done; kill -9 $!
        echo 1 > /dev/shm/n; while :; do sleep 0.1; done";
    let subject = Subject::of(&rootful(&lab).sh(script).detach());
    wait_for_count(&subject, 1);
    subject.checkpoint(&["--tcp-established"]).refuses(1, &["CRIU: criu: ", "n-flight"]);
    let skips = subject.checkpoint(&["--tcp-established", "--tcp-skip-in-flight"]);
    if !super::sockets_tell_of_credentials() {
        // It comes as far as to the socket that is listened at, see `a_tcp_connection_goes_on`.
        skips.refuses(1, &["CRIU: criu: sockets: Can't get 1:16 opt"]);
        return subject.remove();
    }
    skips.ok();
    subject.restore(&["--tcp-established"]).ok();
    subject.remove();
}

#[test]
#[ignore = "needs root and criu; scripts/test runs it"]
fn a_label_of_another_kind_than_the_machines_is_refused() {
    let lab = Lab::new();
    let (_, subject) = counting(&lab);
    subject.checkpoint(&[]).ok();
    subject.restore(&["--lsm-profile", "moss:label"]).refuses(1, &[]);
    subject.restore(&[]).ok();
    subject.remove();
}
