//! The process: directory, environment, limits, capabilities, ids, descriptors, and what becomes of a command
//! that cannot be run.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;
use serde_json::json;

use crate::lab::{Bundle, Lab, NONE, bryo_only, field, plain_user_only, push};

#[test]
fn the_process_starts_in_its_directory() {
    let lab = Lab::new();
    lab.bundle().with(|c| c["process"]["cwd"] = "/etc".into()).args(["pwd"]).run().prints("/etc\n");
}

#[test]
fn a_missing_directory_is_made() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs().with(|c| c["process"]["cwd"] = "/new/home".into());
    let rootfs = bundle.rootfs();
    bundle.args(["pwd"]).run().prints("/new/home\n");
    assert!(rootfs.join("new/home").is_dir());
}

#[test]
fn a_directory_that_is_not_absolute_is_refused() {
    let lab = Lab::new();
    for cwd in ["etc", "./", ""] {
        lab.bundle()
            .with(|c| c["process"]["cwd"] = cwd.into())
            .run()
            .refuses(1, &[])
            .in_bryos_words(&["cwd"]);
    }
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_directory_that_is_a_file_is_refused() {
    let lab = Lab::new();
    let ran = lab.bundle().with(|c| c["process"]["cwd"] = "/etc/passwd".into()).run();
    ran.refuses(1, &["not a directory"]);
}

#[test]
fn a_directory_that_only_its_owner_may_enter_is_entered_as_the_user() {
    let lab = Lab::new();
    let bundle = lab.bundle().subids().own_rootfs().with(|c| {
        c["process"]["cwd"] = "/private".into();
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    let private = bundle.rootfs().join("private");
    fs::create_dir(&private).unwrap();
    let own = lab.bundle().subids().with(|c| {
        c["root"] = json!({ "path": bundle.rootfs(), "readonly": false });
        for set in ["bounding", "effective", "permitted"] {
            push(&mut c["process"]["capabilities"][set], json!("CAP_CHOWN"));
        }
    });
    own.sh("chmod 700 /private && chown 1000:1000 /private").run().ok();
    bundle.sh("pwd; id -u").run().prints("/private\n1000\n");
}

#[test]
fn the_environment_is_that_of_the_config_in_its_order() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        let env = &mut c["process"]["env"];
        for entry in ["Z=last", "A=first", "EMPTY=", "EQUALS=a=b=c", "UTF8=moosgrün"] {
            push(env, json!(entry));
        }
    });
    let ran = bundle.args(["env"]).run().ok();
    let expected = "Z=last\nA=first\nEMPTY=\nEQUALS=a=b=c\nUTF8=moosgrün\n";
    assert!(ran.stdout.contains(expected), "{}", ran.stdout);
}

#[test]
fn home_comes_from_passwd_unless_it_is_given() {
    let lab = Lab::new();
    lab.bundle().sh("echo $HOME").run().prints("/root\n");
    let as_moss = lab.bundle().subids().with(|c| c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 }));
    as_moss.sh("echo $HOME").run().prints("/home\n");
    // An empty one is none.
    let empty = lab.bundle().with(|c| push(&mut c["process"]["env"], json!("HOME=")));
    empty.sh("echo $HOME").run().prints("/root\n");
    let given = lab.bundle().with(|c| push(&mut c["process"]["env"], json!("HOME=/moss")));
    given.sh("echo $HOME").run().prints("/moss\n");
    let unknown = lab.bundle().subids().with(|c| c["process"]["user"] = json!({ "uid": 4711, "gid": 0 }));
    unknown.sh("echo $HOME").run().prints("/\n");
}

#[test]
fn the_command_is_looked_up_in_the_path_of_the_container() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| c["process"]["env"][0] = "PATH=/nowhere:/bin".into());
    bundle
        .args(["echo", "found"])
        .call("run", NONE)
        .env("PATH", "/usr/sbin:/usr/bin")
        .done()
        .prints("found\n");
    let bundle = lab.bundle().with(|c| c["process"]["env"][0] = "PATH=/nowhere".into());
    bundle.args(["echo"]).run().refuses(1, &["executable file not found in $PATH"]);
}

#[test]
fn a_command_with_a_slash_is_relative_to_the_directory() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| c["process"]["cwd"] = "/bin".into());
    bundle.args(["./echo", "here"]).run().prints("here\n");
}

#[test]
fn a_command_that_is_not_there_has_the_words_for_127() {
    let lab = Lab::new();
    let bundle = lab.bundle().args(["moss"]);
    bundle.run().refuses(1, &["moss", "executable file not found in $PATH"]);
    let bundle = lab.bundle().args(["/bin/moss"]);
    bundle.run().refuses(1, &["stat /bin/moss: no such file or directory"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_command_that_is_not_executable_has_the_words_for_126() {
    let lab = Lab::new();
    for command in ["/etc/passwd", "/etc"] {
        lab.bundle().args([command]).run().refuses(1, &[command, "permission denied"]);
    }
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_missing_command_is_noticed_by_create_already() {
    let lab = Lab::new();
    // runc notices when it creates; whenever it is noticed, the command that says so is create or start, and
    // the container does not become a running one.
    let ran = lab.bundle().named("missing").args(["moss"]).call("create", NONE).done();
    if ran.status.success() {
        lab.call(["start", "missing"]).done().refuses(1, &["executable file not found in $PATH"]);
        lab.call(["delete", "--force", "missing"]).done().ok();
    } else {
        ran.refuses(1, &["executable file not found in $PATH"]);
    }
}

#[test]
fn a_command_of_a_wrong_format_is_refused_by_name() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs().args(["/bad"]);
    use std::os::unix::fs::PermissionsExt;
    let bad = bundle.rootfs().join("bad");
    fs::write(&bad, b"\x7fELFbad").unwrap();
    fs::set_permissions(&bad, fs::Permissions::from_mode(0o755)).unwrap();
    bundle.run().refuses(1, &["exec format error"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_script_without_its_interpreter_is_refused() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs().args(["/script"]);
    use std::os::unix::fs::PermissionsExt;
    let script = bundle.rootfs().join("script");
    fs::write(&script, "#!/not/there\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    bundle.run().refuses(1, &["no such file or directory"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_process_without_arguments_is_refused() {
    let lab = Lab::new();
    lab.bundle().args(NONE).run().refuses(1, &["args"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn the_umask_is_set_and_0022_without_one() {
    let lab = Lab::new();
    lab.bundle().sh("umask").call("run", NONE).after_shell("umask 077").done().prints("0022\n");
    for (umask, printed) in [(0o27, "0027\n"), (0, "0000\n"), (0o777, "0777\n")] {
        let bundle = lab.bundle().with(|c| c["process"]["user"]["umask"] = umask.into());
        bundle.sh("umask").run().prints(printed);
    }
}

#[test]
fn limits_are_set() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c["process"]["rlimits"] = json!([
            { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            { "type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152 },
        ]);
    });
    let ran = bundle.args(["cat", "/proc/self/limits"]).run().ok();
    let limits = |name: &str| {
        let line = ran.stdout.lines().find(|l| l.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(limits("Max open files"), "100 200");
    assert_eq!(limits("Max core file size"), "0 0");
    assert_eq!(limits("Max stack size"), "1048576 2097152");
}

#[test]
fn an_exec_has_the_limits_of_the_config() {
    let lab = Lab::new();
    let bundle = lab.bundle().sleeps().with(|c| {
        // Not the descriptors, whose soft limit a program in Go raises behind its back.
        c["process"]["rlimits"] = json!([{ "type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152 }]);
    });
    let c = bundle.detach();
    c.exec(["sh", "-c", "ulimit -Ss; ulimit -Hs"]).prints("1024\n2048\n");
    c.remove();
}

#[test]
fn a_limit_above_the_hard_limit_is_lowered_with_a_warning() {
    plain_user_only!("root may raise the limit");
    bryo_only!("runc fails with the number of the limit");
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 4000, "hard": 5000 }]);
    });
    let call = bundle.sh("ulimit -Sn; ulimit -Hn").call("run", NONE).after_shell("ulimit -n 3000");
    let ran = call.done().prints("3000\n3000\n");
    for word in ["warning", "RLIM", "RLIMIT_NOFILE", "5000", "3000"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    let call = bundle_with_nofile(&lab, 4000, 5000).call("run", NONE).env("BRYO_DEGRADE", "none");
    call.after_shell("ulimit -n 3000").done().refuses(1, &["RLIM", "RLIMIT_NOFILE"]);
}

fn bundle_with_nofile(lab: &Lab, soft: u64, hard: u64) -> Bundle<'_> {
    lab.bundle().with(|c| {
        c["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": soft, "hard": hard }]);
    })
}

#[test]
fn an_unknown_limit_is_refused() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c["process"]["rlimits"] = json!([{ "type": "RLIMIT_MOSS", "soft": 1, "hard": 1 }]);
    });
    bundle.run().refuses(1, &["RLIMIT_MOSS"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_limit_that_is_given_twice_or_upside_down_is_refused() {
    bryo_only!("runc takes the last, and leaves the rest to the kernel");
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c["process"]["rlimits"] = json!([
            { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 100 },
            { "type": "RLIMIT_NOFILE", "soft": 200, "hard": 200 },
        ]);
    });
    bundle.run().refuses(1, &["RLIMIT_NOFILE"]);
    bundle_with_nofile(&lab, 200, 100).run().refuses(1, &["RLIMIT_NOFILE"]);
}

const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const NET_RAW: u64 = 1 << 13;
const SYS_CHROOT: u64 = 1 << 18;

/// The five sets of the first process, as numbers.
fn sets(bundle: Bundle) -> [u64; 5] {
    let status = bundle.args(["cat", "/proc/self/status"]).run().ok().stdout;
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        .map(|name| u64::from_str_radix(field(&status, name), 16).unwrap())
}

#[test]
fn each_capability_set_is_what_was_asked_for() {
    let lab = Lab::new();
    // The kernel gives root what is permitted when it runs a program, so a plain user shows the sets as they
    // were set, by way of the ambient one.
    let bundle = lab.bundle().subids().with(|c| {
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        c["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SYS_CHROOT"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "effective": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_CHOWN", "CAP_NET_RAW"],
            "ambient": ["CAP_CHOWN"],
        });
    });
    let [inheritable, permitted, effective, bounding, ambient] = sets(bundle);
    assert_eq!(bounding, CHOWN | KILL | NET_RAW | SYS_CHROOT);
    assert_eq!(inheritable, CHOWN | NET_RAW);
    assert_eq!([permitted, effective, ambient], [CHOWN; 3]);
}

#[test]
fn root_has_the_bounding_capabilities_and_no_inheritable_ones() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        let set = json!(["CAP_CHOWN", "CAP_KILL"]);
        c["process"]["capabilities"] = json!({ "bounding": set, "effective": set, "permitted": set });
    });
    assert_eq!(sets(bundle), [0, CHOWN | KILL, CHOWN | KILL, CHOWN | KILL, 0]);
}

#[test]
fn a_plain_user_without_ambient_capabilities_has_none() {
    let lab = Lab::new();
    let bundle = lab.bundle().subids().with(|c| {
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        c["process"]["capabilities"]["ambient"] = json!([]);
    });
    let [inheritable, permitted, effective, bounding, ambient] = sets(bundle);
    assert_eq!([inheritable, permitted, effective, ambient], [0; 4]);
    assert_ne!(bounding, 0);
}

#[test]
fn empty_capability_sets_mean_none() {
    let lab = Lab::new();
    let empty = json!({ "bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": [] });
    assert_eq!(sets(lab.bundle().with(|c| c["process"]["capabilities"] = empty)), [0; 5]);
}

#[test]
fn a_config_without_capabilities_gives_none() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c["process"].as_object_mut().unwrap().remove("capabilities");
    });
    // runc's way is the default set of the kernel minus nothing: no set asked for is none granted.
    assert_eq!(sets(bundle), [0; 5]);
}

#[test]
fn an_unknown_capability_is_a_warning() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set] = json!(["CAP_KILL", "CAP_MOSS"]);
        }
        c["process"]["capabilities"]["ambient"] = json!([]);
    });
    let ran = bundle.args(["grep", "CapEff", "/proc/self/status"]).run().ok();
    assert_eq!(ran.stdout, "CapEff:\t0000000000000020\n");
    assert!(ran.stderr.contains("CAP_MOSS"), "{}", ran.stderr);
}

#[test]
fn no_new_privileges_is_what_was_asked_for() {
    let lab = Lab::new();
    for (asked, bit) in [(true, "1"), (false, "0")] {
        let bundle = lab.bundle().with(|c| c["process"]["noNewPrivileges"] = asked.into());
        let ran = bundle.args(["cat", "/proc/self/status"]).run().ok();
        assert_eq!(field(&ran.stdout, "NoNewPrivs"), bit);
    }
}

#[test]
fn additional_groups_are_set() {
    bryo_only!("runc refuses additional groups of every rootless container, also of one with a range of ids");
    let lab = Lab::new();
    let bundle = lab.bundle().subids().with(|c| {
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [100, 65534] });
    });
    let ran = bundle.args(["id", "-G"]).run().ok();
    let mut gids: Vec<u32> = ran.stdout.split_whitespace().map(|g| g.parse().unwrap()).collect();
    gids.sort_unstable();
    assert_eq!(gids, [100, 1000, 65534]);
}

#[test]
fn the_callers_groups_stay_outside_where_groups_can_be_set() {
    let lab = Lab::new();
    let bundle = lab.bundle().subids();
    bundle.args(["id", "-G"]).run().prints("0\n");
}

#[test]
fn additional_groups_with_a_single_id_are_refused() {
    plain_user_only!("root may set groups");
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| c["process"]["user"]["additionalGids"] = json!([100]));
    bundle.run().refuses(1, &["additional"]).in_bryos_words(&["GRP-DENY", "fix: "]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn the_oom_score_is_set() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| c["process"]["oomScoreAdj"] = 600.into());
    bundle.args(["cat", "/proc/self/oom_score_adj"]).run().prints("600\n");
}

#[test]
fn listen_fds_are_handed_on_and_addressed_to_the_first_process() {
    let lab = Lab::new();
    let file = lab.file("socket", "through three\n");
    let script = "echo $LISTEN_FDS $LISTEN_PID $$; cat <&3";
    let call = lab.bundle().sh(script).call("run", NONE);
    let call = call.after_shell(&format!("exec 3<{}; export LISTEN_FDS=1 LISTEN_PID=$$", file.display()));
    call.done().prints("1 1 1\nthrough three\n");
}

#[test]
fn preserved_fds_are_handed_on_and_no_others() {
    let lab = Lab::new();
    let file = lab.file("file", "three\n");
    let open = format!("exec 3<{0} 4<{0} 5<{0} 6<{0} 17<{0}", file.display());
    let script = "cat <&3; for n in $(seq 0 63); do [ -e /proc/$$/fd/$n ] && echo $n; done; true";
    let call = lab.bundle().sh(script).call("run", ["--preserve-fds", "2"]);
    call.after_shell(&open).done().prints("three\n0\n1\n2\n3\n4\n");
    let call = lab.bundle().sh(script.strip_prefix("cat <&3; ").unwrap()).call("run", NONE);
    call.after_shell(&open).done().prints("0\n1\n2\n");
}

#[test]
fn preserved_fds_come_behind_those_of_listen_fds() {
    let lab = Lab::new();
    let (one, two) = (lab.file("one", "one\n"), lab.file("two", "two\n"));
    let open = format!(
        "exec 3<{} 4<{} 5</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$",
        one.display(),
        two.display()
    );
    let script = "cat <&3; cat <&4; test -e /proc/$$/fd/5; echo $?";
    let call = lab.bundle().sh(script).call("run", ["--preserve-fds=1"]);
    call.after_shell(&open).done().prints("one\ntwo\n1\n");
}

#[test]
fn a_preserved_fd_that_is_not_open_is_an_error() {
    bryo_only!("runc 1.1 hands on whatever descriptor of its own has that number");
    let lab = Lab::new();
    let call = lab.bundle().call("run", ["--preserve-fds", "2"]).after_shell("exec 3</dev/null 4<&-");
    call.done().refuses(1, &["4"]).in_bryos_words(&["preserve"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn the_standard_streams_of_a_detached_container_are_the_callers() {
    let lab = Lab::new();
    let c = lab.bundle().sh("echo out; echo err >&2").create();
    c.start().ok();
    c.wait_until_stopped();
    assert_eq!(c.stdout(), "out\n");
    assert!(c.stderr().ends_with("err\n"), "{}", c.stderr());
    c.delete().ok();
}

#[test]
fn the_first_process_blocks_no_signal_and_dies_of_a_broken_pipe() {
    let lab = Lab::new();
    let ran = lab.bundle().args(["cat", "/proc/self/status"]).run().ok();
    assert_eq!(field(&ran.stdout, "SigBlk"), "0000000000000000");
    // A program in Rust or Go ignores SIGPIPE, and must not pass that on.
    let ignored = u64::from_str_radix(field(&ran.stdout, "SigIgn"), 16).unwrap();
    assert_eq!(ignored & (1 << (nix::libc::SIGPIPE - 1)), 0);
}

#[test]
fn nothing_of_the_bundle_is_seen_inside() {
    let lab = Lab::new();
    let bundle = lab.bundle();
    let dir = bundle.dir.clone();
    assert!(Path::new(&dir).is_dir());
    bundle.sh(&format!("test -e {}; echo $?", dir.display())).run().prints("1\n");
}

#[test]
fn closed_standard_streams_do_not_become_files_of_the_runtime() {
    bryo_only!("runc 1.1 hands pipes of its own on in their place");
    let lab = Lab::new();
    let volume = lab.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    let mount = json!({ "destination": "/mnt", "type": "bind", "source": volume, "options": ["bind"] });
    let script = "for n in 0 1 2; do readlink /proc/$$/fd/$n >> /mnt/fds; done; echo end >> /mnt/fds";
    let call = lab.bundle().add_mount(mount).sh(script).call("run", NONE);
    call.after_shell("exec 0<&- 1>&- 2>&-").done().ok();
    let fds = fs::read_to_string(volume.join("fds")).unwrap();
    // The shell has the file open that it appends to.
    let fine = ["/dev/null", "/null", "/mnt/fds"];
    let strange: Vec<_> = fds.lines().filter(|l| !fine.contains(l)).collect();
    assert_eq!(strange, ["end"], "{fds}");
}

#[test]
fn a_closed_standard_stream_does_not_give_the_state_to_the_containers_user() {
    bryo_only!("runc 1.1 hands pipes of its own on in their place");
    let lab = Lab::new();
    // Whoever runs as another user is given the standard streams.
    let user = json!({ "uid": 1000, "gid": 1000 });
    let bundle = lab.bundle().subids().with(|c| c["process"]["user"] = user).sleeps().named("closed");
    bundle.call("create", NONE).after_shell("exec 0<&-").done().ok();
    assert_eq!(fs::metadata(lab.root().join("closed")).unwrap().uid(), geteuid().as_raw());
    lab.call(["delete", "closed"]).done().ok();
}

#[test]
fn a_big_config_arrives_whole() {
    let lab = Lab::new();
    let mut bundle = lab.bundle();
    for n in 0..5_000 {
        push(&mut bundle.config["process"]["env"], json!(format!("MOSS_{n}={}", "x".repeat(100))));
    }
    for n in 0..100 {
        let mount = json!({ "destination": format!("/dev/moss{n}"), "type": "tmpfs", "source": "tmpfs" });
        bundle = bundle.add_mount(mount);
    }
    let long = "y".repeat(100_000);
    let script = "env | grep -c ^MOSS_; ls -d /dev/moss* | wc -l; echo ${#1}";
    bundle.args(["sh", "-c", script, "sh", &long]).run().prints("5000\n100\n100000\n");
}

#[test]
fn arguments_beyond_what_the_kernel_takes_are_refused_with_its_reason() {
    let lab = Lab::new();
    let bundle = lab.bundle().args(["echo", &"y".repeat(200_000)]);
    bundle.run().refuses(1, &["argument list too long"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn the_processors_of_the_caller_are_none_of_the_containers_business() {
    bryo_only!("runc resets them since 1.3");
    let lab = Lab::new();
    let all = |text: &str| field(text, "Cpus_allowed_list").to_string();
    let wanted = all(&std::fs::read_to_string("/proc/self/status").unwrap());
    let first: String = wanted.chars().take_while(char::is_ascii_digit).collect();
    let status = |call: crate::lab::Call<'_>| all(&call.under(["taskset", "-c", &first]).done().ok().stdout);
    let bundle = lab.bundle().sh("cat /proc/self/status");
    let id = lab.id();
    assert_eq!(status(bundle.named_call("run", &id)), wanted);
    let container = lab.bundle().sleeps().detach();
    let exec = lab.call(["exec", &container.id, "cat", "/proc/self/status"]);
    assert_eq!(status(exec), wanted);
    container.remove();
}
