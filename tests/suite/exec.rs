//! exec: who, where and with what a further process runs, and how it ends.

use std::fs;

use serde_json::{Value, json};

use crate::lab::{Container, Lab, NONE, alive, bryo_only, field};

fn sleeper(lab: &Lab) -> Container<'_> {
    lab.bundle().sleeps().detach()
}

#[test]
fn exec_runs_in_the_namespaces_of_the_container() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    c.exec(["hostname"]).prints("moss\n");
    let names = ["pid", "ipc", "uts", "mnt", "user", "net", "cgroup"];
    let of_container: Vec<_> =
        names.iter().map(|n| fs::read_link(format!("/proc/{}/ns/{n}", c.pid())).unwrap()).collect();
    let script = names.map(|n| format!("readlink /proc/self/ns/{n}")).join("; ");
    let ran = c.exec(["sh", "-c", &script]).ok();
    let of_exec: Vec<_> = ran.stdout.lines().map(std::path::PathBuf::from).collect();
    assert_eq!(of_exec, of_container);
    c.remove();
}

#[test]
fn exec_sees_the_processes_of_the_container() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let ran = c.exec(["cat", "/proc/1/cmdline"]).ok();
    assert_eq!(ran.stdout, "sleep\x001000\0");
    c.remove();
}

#[test]
fn exec_ends_with_the_code_of_the_process() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    for code in [0, 1, 7, 126, 255] {
        c.exec(["sh", "-c", &format!("exit {code}")]).exits(code);
    }
    c.remove();
}

#[test]
fn exec_ends_with_128_and_the_signal_that_killed_the_process() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("USR1", 138)] {
        c.exec(["sh", "-c", &format!("kill -{signal} $$")]).exits(code);
    }
    c.remove();
}

#[test]
fn exec_passes_the_standard_streams_through() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let ran = c.exec_call(&[], ["sh", "-c", "cat; echo err >&2"]).stdin("in\n").done().prints("in\n");
    assert!(ran.stderr.contains("err"));
    c.remove();
}

#[test]
fn exec_of_a_missing_command_ends_with_255_and_the_words_for_127() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    c.exec(["nothing-here"]).refuses(255, &["executable file not found in $PATH"]);
    c.exec(["/nothing/here"]).refuses(255, &["no such file or directory"]);
    c.remove();
}

#[test]
fn exec_of_a_file_that_is_not_executable_ends_with_255_and_the_words_for_126() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    c.exec(["/etc/passwd"]).refuses(255, &["permission denied"]);
    c.exec(["/etc"]).refuses(255, &["permission denied"]);
    c.remove();
}

#[test]
fn exec_into_nothing_ends_with_255() {
    let lab = Lab::new();
    lab.call(["exec", "nobody", "true"]).done().refuses(255, &["container does not exist"]);
}

#[test]
fn exec_into_a_stopped_container_fails() {
    let lab = Lab::new();
    let c = lab.bundle().create();
    c.start().ok();
    c.wait_until_stopped();
    let ran = c.exec(["true"]).refuses(255, &["cannot exec in a stopped container"]);
    ran.in_bryos_words(&["container not running"]);
    c.delete().ok();
}

#[test]
fn sockets_of_systemd_are_not_for_exec() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let (three, four) = (lab.file("three", "three\n"), lab.file("four", "four\n"));
    let open = format!(
        "exec 3<{} 4<{}; export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=moss",
        three.display(),
        four.display()
    );
    let script = "echo ${LISTEN_FDS-none} ${LISTEN_PID-none} ${LISTEN_FDNAMES-none}; \
                  for n in 3 4; do [ -e /proc/$$/fd/$n ] && cat <&$n; done; true";
    let call = |options: &[&str]| c.exec_call(options, ["sh", "-c", script]).after_shell(&open).done();
    call(&[]).prints("none none none\n");
    call(&["--preserve-fds", "1"]).prints("none none none\nthree\n");
    c.remove();
}

#[test]
fn exec_without_a_command_is_refused() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let ran = c.exec_call(&[], NONE).done();
    assert_ne!(ran.code(), 0, "{ran:?}");
    c.remove();
}

#[test]
fn exec_env_adds_to_the_environment_of_the_config() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let ran = c.exec_call(&["-e", "GREEN=yes", "-e", "TERM=moss", "-e", "EMPTY="], ["env"]).done().ok();
    let lines: Vec<_> = ran.stdout.lines().collect();
    for expected in ["GREEN=yes", "TERM=moss", "EMPTY=", "PATH=/bin:/usr/bin:/sbin"] {
        assert!(lines.contains(&expected), "{expected} is not in {lines:?}");
    }
    assert!(!lines.contains(&"TERM=xterm"), "{lines:?}");
    c.remove();
}

#[test]
fn exec_env_without_an_equals_sign_is_refused_and_leaks_nothing() {
    bryo_only!("runc 1.1 hands the entry on");
    let lab = Lab::new();
    let c = sleeper(&lab);
    let call = c.exec_call(&["-e", "SECRET"], ["env"]).env("SECRET", "hunter2");
    let ran = call.done().refuses(255, &["SECRET"]);
    assert!(!ran.stdout.contains("hunter2") && !ran.stderr.contains("hunter2"));
    c.remove();
}

#[test]
fn exec_cwd_is_the_directory_of_the_process() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    c.exec(["pwd"]).prints("/\n");
    c.exec_call(&["--cwd", "/etc"], ["pwd"]).done().prints("/etc\n");
    c.remove();
}

#[test]
fn exec_user_is_the_user_of_the_process() {
    let lab = Lab::new();
    let c = lab.bundle().subids().sleeps().detach();
    for (word, ids) in
        [("0", "0 0"), ("1", "1 0"), ("1000:1001", "1000 1001"), ("65536:65536", "65536 65536")]
    {
        for flag in ["-u", "--user"] {
            let ran = c.exec_call(&[flag, word], ["sh", "-c", "echo $(id -u) $(id -g)"]).done();
            ran.prints(&format!("{ids}\n"));
        }
    }
    c.remove();
}

#[test]
fn exec_user_that_is_no_number_is_refused() {
    let lab = Lab::new();
    let c = lab.bundle().subids().sleeps().detach();
    for word in ["x", "1x", "1:x", "-1:"] {
        let ran = c.exec_call(&[&format!("--user={word}")], ["id"]).done();
        assert_eq!(ran.code(), 255, "-u {word}: {ran:?}");
        assert_eq!(ran.stdout, "", "-u {word}");
    }
    c.remove();
}

#[test]
fn exec_user_beyond_32_bits_is_refused() {
    bryo_only!("runc 1.1 cuts the number to 32 bits: 4294967296 is root");
    let lab = Lab::new();
    let c = lab.bundle().subids().sleeps().detach();
    for word in ["4294967296", "4294967295", "1:4294967296", "-1", ":", "1:", "+1", " 1", "1:1:1"] {
        let ran = c.exec_call(&[&format!("--user={word}")], ["id"]).done();
        assert_eq!(ran.code(), 255, "-u {word:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "-u {word:?}");
    }
    c.remove();
}

#[test]
fn exec_additional_gids_are_the_groups_of_the_process() {
    bryo_only!("runc refuses additional groups of every rootless container, also of one with a range of ids");
    let lab = Lab::new();
    let c = lab.bundle().subids().sleeps().detach();
    let options = ["-u", "1000:1000", "-g", "100", "-g", "65534"];
    let ran = c.exec_call(&options, ["id", "-G"]).done().ok();
    let mut gids: Vec<u32> = ran.stdout.split_whitespace().map(|g| g.parse().unwrap()).collect();
    gids.sort_unstable();
    assert_eq!(gids, [100, 1000, 65534]);
    c.remove();
}

#[test]
fn exec_detach_returns_at_once_and_writes_the_pid_of_the_process() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    for flag in ["-d", "--detach"] {
        let file = lab.dir.join("exec.pid");
        let options = [flag, "--pid-file", file.to_str().unwrap()];
        c.exec_call(&options, ["sleep", "999"]).done().ok();
        let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
        assert!(alive(pid));
        assert_eq!(crate::lab::cmdline(pid), "sleep 999");
        assert_eq!(
            fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap(),
            fs::read_link(format!("/proc/{}/ns/pid", c.pid())).unwrap()
        );
    }
    c.remove();
}

#[test]
fn exec_capabilities_are_those_of_the_config() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let of_init = c.exec(["cat", "/proc/1/status"]).ok().stdout;
    let of_exec = c.exec(["cat", "/proc/self/status"]).ok().stdout;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"] {
        assert_eq!(field(&of_exec, set), field(&of_init, set), "{set}");
    }
    c.remove();
}

#[test]
fn exec_cap_adds_to_bounding_effective_and_permitted_but_never_to_inheritable() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let chown = 1 << 0;
    let sys_admin = 1 << 21;
    let set = |status: &str, name: &str| u64::from_str_radix(field(status, name), 16).unwrap();
    let plain = c.exec(["cat", "/proc/self/status"]).ok().stdout;
    assert_eq!(set(&plain, "CapEff") & (chown | sys_admin), 0);
    let options = ["-c", "CAP_CHOWN", "-c", "CAP_SYS_ADMIN"];
    let status = c.exec_call(&options, ["cat", "/proc/self/status"]).done().ok().stdout;
    for name in ["CapBnd", "CapEff", "CapPrm"] {
        assert_eq!(set(&status, name), set(&plain, name) | chown | sys_admin, "{name}");
    }
    assert_eq!(set(&status, "CapInh"), 0);
    c.remove();
}

#[test]
fn exec_no_new_privs_sets_the_bit() {
    let lab = Lab::new();
    let c = lab.bundle().sleeps().with(|c| c["process"]["noNewPrivileges"] = false.into()).detach();
    let of = |options: &[&str]| {
        let status = c.exec_call(options, ["cat", "/proc/self/status"]).done().ok().stdout;
        field(&status, "NoNewPrivs").to_owned()
    };
    assert_eq!(of(&[]), "0");
    assert_eq!(of(&["--no-new-privs"]), "1");
    c.remove();
}

/// A complete process object, as engines hand it over.
fn process(args: &[&str]) -> Value {
    json!({
        "terminal": false,
        "user": { "uid": 0, "gid": 0 },
        "args": args,
        "env": ["PATH=/bin", "FROM=file"],
        "cwd": "/etc",
    })
}

#[test]
fn exec_process_replaces_the_whole_process() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let script = "pwd; env | grep -v -e PWD -e SHLVL -e HOME | sort; grep CapEff /proc/self/status";
    let mut process = process(&["sh", "-c", script]);
    for flag in ["-p", "--process"] {
        process["capabilities"] = json!({ "bounding": [], "effective": [], "permitted": [] });
        let file = lab.file("process.json", process.to_string());
        let ran = c.call("exec", [flag, file.to_str().unwrap()]).done().ok();
        assert_eq!(ran.stdout, "/etc\nFROM=file\nPATH=/bin\nCapEff:\t0000000000000000\n", "{ran:?}");
    }
    c.remove();
}

#[test]
fn exec_process_without_capabilities_has_those_of_the_config() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let file = lab.file("process.json", process(&["grep", "CapEff", "/proc/self/status"]).to_string());
    c.call("exec", ["--process", file.to_str().unwrap()]).done().prints("CapEff:\t0000000020000420\n");
    c.remove();
}

#[test]
fn exec_process_that_is_no_json_is_refused() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    for content in ["", "{", "[]", "{\"args\": 1}"] {
        let file = lab.file("process.json", content);
        let ran = c.call("exec", ["--process", file.to_str().unwrap()]).done();
        assert_eq!(ran.code(), 255, "{content}: {ran:?}");
    }
    let missing = lab.dir.join("missing.json");
    c.call("exec", ["--process", missing.to_str().unwrap()])
        .done()
        .refuses(255, &["no such file or directory"]);
    c.remove();
}

#[test]
fn exec_preserve_fds_hands_on_just_that_many() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let file = lab.file("three", "from three\n");
    let file = file.to_str().unwrap();
    let open = format!("exec 3<{file} 4<{file} 5<{file}");
    let list = ["sh", "-c", "cat <&3; for n in 3 4 5; do [ -e /proc/self/fd/$n ] && echo $n; done; true"];
    c.exec_call(&["--preserve-fds", "2"], list).after_shell(&open).done().prints("from three\n3\n4\n");
    c.remove();
}

#[test]
fn exec_leaks_no_descriptor() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let script = "for n in $(seq 0 63); do [ -e /proc/$$/fd/$n ] && echo $n; done; true";
    let file = lab.file("leak", "");
    let open = format!("exec 3<{0} 7<{0} 19<{0}", file.display());
    c.exec_call(&[], ["sh", "-c", script]).after_shell(&open).done().prints("0\n1\n2\n");
    c.remove();
}

#[test]
fn exec_works_in_a_created_container() {
    let lab = Lab::new();
    let c = lab.bundle().waits().create();
    c.exec(["hostname"]).prints("moss\n");
    assert_eq!(c.status(), "created");
    c.start().ok();
    c.remove();
}

#[test]
fn many_execs_at_once_each_get_their_own_answer() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let running: Vec<_> = (1..=8)
        .map(|n| (n, c.exec_call(&[], ["sh", "-c", &format!("echo {n}; exit {n}")]).spawn()))
        .collect();
    for (n, running) in running {
        let ran = running.wait().exits(n);
        assert_eq!(ran.stdout, format!("{n}\n"));
    }
    c.remove();
}

#[test]
fn the_first_process_outlives_every_exec() {
    let lab = Lab::new();
    let c = sleeper(&lab);
    let pid = c.pid();
    c.exec(["sh", "-c", "kill -9 $$"]).exits(137);
    assert_eq!((c.pid(), c.status().as_str()), (pid, "running"));
    // What an exec leaves in the background belongs to the container.
    c.exec(["sh", "-c", "sleep 998 >/dev/null 2>&1 &"]).ok();
    let ran = c.exec(["ps", "-o", "args"]).ok();
    assert!(ran.stdout.contains("sleep 998"), "{}", ran.stdout);
    c.remove();
}
