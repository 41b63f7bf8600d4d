//! Every hole that a runtime of this kind has had, as far as it concerns what bryo does: one test each, named
//! after the hole.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::{Value, json};

use crate::lab::{Bundle, Lab, NONE, bryo_only, field, plain_user_only, push, runtime};

fn executable(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn all_capabilities(bundle: Bundle) -> Bundle {
    bundle.with(|c| {
        let all = json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]);
        c["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    })
}

#[test]
fn cve_2016_9962_the_joining_process_of_an_exec_cannot_be_looked_into() {
    let lab = Lab::new();
    // Root of the container, with CAP_SYS_PTRACE, looks for a process whose program or root is not of the
    // image. The one that joins for an exec is such a process until it has become the image's program. bryo's
    // stub may be seen: it has nothing of the host any more, and is there to be seen instead of the runtime.
    let script = "echo ready; while :; do for p in /proc/[0-9]*; do exe=$(readlink $p/exe) && \
                  case $exe in /bin/busybox | /memfd:bryo-stub*) ;; *) echo leak $exe;; esac; \
                  done; done 2>/dev/null";
    let c = all_capabilities(lab.bundle()).sh(script).detach();
    c.wait_for_output("ready");
    for _ in 0..40 {
        c.exec(["true"]).ok();
    }
    assert!(!c.stdout().contains("leak"), "{}", c.stdout());
    c.remove();
}

#[test]
fn cve_2019_5736_the_binary_of_the_runtime_cannot_be_overwritten() {
    attack_the_binary(|bundle| bundle);
}

#[test]
fn cve_2019_5736_the_binary_cannot_be_overwritten_either_where_the_filter_stops_the_stub() {
    attack_the_binary(|bundle| {
        bundle.with(|c| {
            c["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["execveat"], "action": "SCMP_ACT_KILL_PROCESS" }],
            });
        })
    });
}

/// Run and exec with a runtime that the container could overwrite, in a container that tries to.
fn attack_the_binary(confine: impl for<'lab> FnOnce(Bundle<'lab>) -> Bundle<'lab>) {
    let lab = Lab::new();
    // The user's own copy, which the mapped root could write to.
    let copy = lab.dir.join("runtime");
    fs::copy(runtime(), &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    let root = lab.root();
    let call = |args: &[&str]| lab.program(&copy).args(["--root"]).args([&root]).args(args).done();

    // As the entry point: the program that is run is the runtime itself.
    let bundle = confine(lab.bundle().own_rootfs()).args(["/evil"]);
    // As "runtime --root /evil run -b /b x" it waits for ever, for who writes to the fifo.
    executable(&bundle.rootfs().join("evil"), "#!/proc/self/exe --root\n");
    fs::create_dir(bundle.rootfs().join("b")).unwrap();
    nix::unistd::mkfifo(&bundle.rootfs().join("b/config.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    bundle.save();
    let dir = bundle.dir.to_str().unwrap().to_owned();
    drop(call(&["run", "--bundle", &dir, "evil"]));

    // From inside, while execs come: whatever /proc/PID/exe can be opened is written to.
    // And whatever it leads to is written down.
    let script = "echo ready; while :; do for p in /proc/[0-9]*; do e=$(readlink $p/exe) || continue; \
                  case $e in /bin/busybox) ;; *) echo $e >> /seen; echo pwned >> $p/exe;; esac; \
                  done; done 2>/dev/null";
    let bundle = all_capabilities(bundle).sh(script);
    bundle.save();
    call(&["run", "--detach", "--bundle", &dir, "attacker"]).ok();
    drop(call(&["exec", "--detach", "attacker", "/evil", "run", "-b", "/b", "x"]));
    for _ in 0..15 {
        drop(call(&["exec", "attacker", "/evil"]));
        call(&["exec", "attacker", "true"]).ok();
    }
    call(&["delete", "--force", "attacker"]).ok();
    let seen = fs::read_to_string(bundle.rootfs().join("seen")).unwrap_or_default();
    assert!(!seen.contains("/runtime"), "the runtime's binary was seen inside:\n{seen}");
    assert!(fs::read(&copy).unwrap() == before, "the runtime's binary has changed");
}

#[test]
fn a_filter_that_stops_the_stub_stops_neither_run_nor_create_nor_exec() {
    bryo_only!("runc has no stub");
    let lab = Lab::new();
    // The user's own copy, which the mapped root could write to.
    let copy = lab.dir.join("runtime");
    fs::copy(runtime(), &copy).unwrap();
    let call = |args: &[&str]| lab.program(&copy).args(["--root"]).args([lab.root()]).args(args);
    for (calls, action) in
        [("execveat", "SCMP_ACT_KILL_PROCESS"), ("execveat", "SCMP_ACT_ERRNO"), ("fcntl", "SCMP_ACT_ERRNO")]
    {
        let filter = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": [calls], "action": action }],
        });
        let bundle = lab.bundle().with(|c| c["linux"]["seccomp"] = filter);
        let bundle =
            bundle.args(["cat", "/proc/self/fd/3"]).with(|c| c["process"]["env"][0] = "PATH=/bin".into());
        bundle.save();
        let dir = bundle.dir.to_str().unwrap().to_owned();
        // Descriptors, input and exit code are as without.
        let run = call(&["run", "--preserve-fds", "1", "--bundle", &dir, "one"])
            .after_shell("exec 3<<<'passed on'");
        run.done().prints("passed on\n");
        let bundle = bundle.sleeps();
        bundle.save();
        call(&["create", "--bundle", &dir, "two"]).done().ok();
        call(&["start", "two"]).done().ok();
        call(&["exec", "two", "cat"]).stdin("input").done().prints("input");
        call(&["exec", "two", "missing"]).done().refuses(255, &["executable file not found in $PATH"]);
        call(&["exec", "two", "sh", "-c", "exit 7"]).done().exits(7);
        call(&["delete", "--force", "two"]).done().ok();
    }
}

#[test]
fn cve_2019_16884_a_proc_or_sys_of_the_image_that_is_a_symlink_is_refused() {
    let lab = Lab::new();
    for name in ["proc", "sys"] {
        let bundle = lab.bundle().own_rootfs().with(|c| {
            if name == "sys" {
                // A mount of its own: the bind of the host's is another case.
                let mounts = c["mounts"].as_array_mut().unwrap();
                mounts.iter_mut().find(|m| m["destination"] == "/sys").unwrap()["type"] = "sysfs".into();
                mounts.iter_mut().find(|m| m["destination"] == "/sys").unwrap()["options"] = json!(["ro"]);
                push(&mut c["linux"]["namespaces"], json!({ "type": "network" }));
            }
        });
        let rootfs = bundle.rootfs();
        fs::remove_dir(rootfs.join(name)).unwrap();
        fs::create_dir(rootfs.join("evil")).unwrap();
        symlink("evil", rootfs.join(name)).unwrap();
        bundle.run().refuses(1, &[name]);
        assert!(lab.state_entries().is_empty());
    }
}

/// Without any mount on /dev or in it: what the image has there is used.
fn without_dev(bundle: Bundle) -> Bundle {
    bundle.with(|c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    })
}

/// With this volume as /dev, and nothing else there.
fn with_dev<'lab>(bundle: Bundle<'lab>, volume: &Path) -> Bundle<'lab> {
    let mount = json!({ "destination": "/dev", "type": "bind", "source": volume, "options": ["rbind"] });
    without_dev(bundle).add_mount(mount)
}

/// A mount of this kind on this target, whose source is a directory of the lab with something in it.
fn covering(lab: &Lab, kind: &str, target: &str) -> Value {
    let volume = lab.dir.join("volume");
    fs::create_dir_all(volume.join("attr")).unwrap();
    match kind {
        "bind" => {
            json!({ "destination": target, "type": kind, "source": volume, "options": ["bind"] })
        }
        _ => json!({ "destination": target, "type": kind, "source": kind }),
    }
}

#[test]
fn cve_2019_19921_a_volume_on_proc_is_refused() {
    let lab = Lab::new();
    for target in ["/proc", "/proc/sys", "/proc/self", "/proc/self/attr", "/mnt/../proc/sys"] {
        lab.bundle().add_mount(covering(&lab, "bind", target)).run().refuses(1, &["/proc"]);
        assert!(lab.state_entries().is_empty());
    }
}

#[test]
fn cve_2025_52881_no_other_file_system_lies_on_proc() {
    bryo_only!("runc 1.1 looks at binds only");
    let lab = Lab::new();
    for target in
        ["/proc", "/proc/sys", "/proc/self", "/proc/self/attr", "/proc/sys/kernel", "/mnt/../proc/sys"]
    {
        lab.bundle().add_mount(covering(&lab, "tmpfs", target)).run().refuses(1, &["/proc"]);
        assert!(lab.state_entries().is_empty());
    }
}

#[test]
fn cve_2019_10152_no_program_of_the_image_or_of_its_path_runs_on_the_host() {
    let lab = Lab::new();
    let evil = lab.dir.join("evil");
    fs::create_dir(&evil).unwrap();
    let marker = lab.dir.join("marker");
    let bundle = lab.bundle().subids().own_rootfs();
    let rootfs = bundle.rootfs();
    for name in ["ps", "newuidmap", "newgidmap", "nsenter", "getsubids", "mount"] {
        let body = format!("#!/bin/sh\necho {name} >> {}\n", marker.display());
        executable(&evil.join(name), &body);
        let inside = rootfs.join("bin").join(name);
        if inside.symlink_metadata().is_ok() {
            fs::remove_file(&inside).unwrap();
        }
        executable(&inside, &body);
    }
    let c = bundle
        .sleeps()
        .with(|c| c["process"]["env"][0] = format!("PATH={}:/bin", evil.display()).into())
        .detach();
    drop(c.call("ps", NONE).done());
    c.exec(["true"]).ok();
    c.remove();
    assert!(!marker.exists(), "{}", fs::read_to_string(marker).unwrap());
}

#[test]
fn cve_2020_15257_the_runtime_opens_no_abstract_socket() {
    let lab = Lab::new();
    let c = lab.bundle().create();
    let unix = fs::read_to_string("/proc/net/unix").unwrap();
    let abstract_inodes: Vec<_> = unix
        .lines()
        .filter(|l| l.contains(" @"))
        .map(|l| format!("socket:[{}]", l.split_whitespace().nth(6).unwrap()))
        .collect();
    let processes = lab.processes();
    assert!(!processes.is_empty());
    for (pid, argv) in processes {
        for fd in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(fd.path()).unwrap_or_default();
            let target = target.to_string_lossy();
            assert!(!abstract_inodes.iter().any(|i| *i == target), "{argv}: {target}");
        }
    }
    c.remove();
}

/// Swap a directory and a symlink in a shared volume for as long as the work takes.
fn while_swapping(directory: &Path, link: &Path, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, directory, AT_FDCWD, link, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = worked {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn cve_2021_30465_and_2024_45310_a_race_on_a_mount_target_makes_nothing_outside() {
    bryo_only!("runc 1.1 makes empty directories outside of the root file system, sometimes");
    let lab = Lab::new();
    let volume = lab.dir.join("volume");
    let outside = lab.dir.join("outside");
    fs::create_dir_all(volume.join("dir")).unwrap();
    fs::create_dir(&outside).unwrap();
    let up = "../".repeat(20);
    symlink(format!("{up}{}", outside.strip_prefix("/").unwrap().display()), volume.join("link")).unwrap();
    let bundle = lab
        .bundle()
        .add_mount(json!({ "destination": "/mnt", "type": "bind", "source": volume, "options": ["bind"] }))
        .add_mount(json!({ "destination": "/mnt/dir/a/b", "type": "tmpfs", "source": "tmpfs" }));
    while_swapping(&volume.join("dir"), &volume.join("link"), || {
        for _ in 0..40 {
            // It may well fail; it may not escape.
            let ran = bundle.call("run", NONE).done();
            assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        }
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn cve_2022_0811_a_sysctl_cannot_smuggle_another() {
    let lab = Lab::new();
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for (key, value, words) in [
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/bin/false", "invalid argument"),
        ("kernel.core_pattern", "|/bin/false", "it is not namespaced"),
        ("kernel/core_pattern", "|/bin/false", "it is not namespaced"),
    ] {
        let bundle = lab.bundle().with(|c| c["linux"]["sysctl"] = json!({ key: value }));
        // The kernel refuses the last two to a plain user, too: it is not to be left to it.
        bundle.run().refuses(1, &[]).in_bryos_words(&[key, words]);
        assert!(lab.state_entries().is_empty());
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
}

#[test]
fn a_sysctl_key_cannot_climb_out_of_its_namespace() {
    bryo_only!("runc 1.1 looks at the first letters only");
    let lab = Lab::new();
    for key in
        ["net/../vm/swappiness", "net./../vm/swappiness", "net.ipv4/../../kernel/panic", "fs.mqueue.../.../x"]
    {
        let bundle =
            lab.bundle().namespace("network", None).with(|c| c["linux"]["sysctl"] = json!({ key: "1" }));
        bundle.run().refuses(1, &[key]);
    }
}

#[test]
fn cve_2022_29162_inheritable_capabilities_are_empty_for_run_and_exec() {
    let lab = Lab::new();
    let c = all_capabilities(lab.bundle()).sleeps().detach();
    let inheritable = |options: &[&str], file: &str| {
        let status = c.exec_call(options, ["cat", file]).done().ok().stdout;
        field(&status, "CapInh").to_owned()
    };
    assert_eq!(inheritable(&[], "/proc/1/status"), "0000000000000000");
    assert_eq!(inheritable(&[], "/proc/self/status"), "0000000000000000");
    assert_eq!(inheritable(&["--cap", "CAP_NET_RAW"], "/proc/self/status"), "0000000000000000");
    c.remove();
}

#[test]
fn cve_2024_21626_a_descriptor_of_the_runtime_is_no_directory_to_start_in() {
    let lab = Lab::new();
    for n in 3..=64 {
        // The other is a link to the one.
        let prefixes = if n <= 16 { &["/proc/self/fd", "/dev/fd"][..] } else { &["/proc/self/fd"] };
        for prefix in prefixes {
            let bundle = lab.bundle().with(|c| c["process"]["cwd"] = format!("{prefix}/{n}").into());
            let ran = bundle.sh("pwd; ls -d /proc/self/cwd/../../../etc").run();
            assert_ne!(ran.code(), 0, "{n}: {ran:?}");
            assert_eq!(ran.stdout, "", "{n}");
        }
    }
    let c = lab.bundle().sleeps().detach();
    for n in 3..=64 {
        let ran = c.exec_call(&["--cwd", &format!("/proc/self/fd/{n}")], ["pwd"]).done();
        assert_ne!(ran.code(), 0, "{n}: {ran:?}");
        assert_eq!(ran.stdout, "", "{n}");
    }
    c.remove();
}

#[test]
fn cve_2024_21626_no_descriptor_of_the_runtime_reaches_the_container() {
    let lab = Lab::new();
    let script = "for n in $(seq 3 255); do readlink /proc/$$/fd/$n; done";
    let bundle = lab.bundle().with(|c| c["process"]["rlimits"] = json!([]));
    bundle.sh(&format!("{script}; true")).run().prints("");
    let c = lab.bundle().sleeps().detach();
    c.exec(["sh", "-c", &format!("{script}; true")]).prints("");
    let fds: Vec<_> =
        fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(fds.len(), 3, "{fds:?}");
    c.remove();
}

#[test]
fn cve_2025_31133_a_mask_is_the_true_null_whatever_the_container_has_as_null() {
    bryo_only!("runc 1.1 binds whatever the container has as /dev/null");
    let lab = Lab::new();
    for target in ["/etc/passwd", "/proc/cmdline", "../../../../etc/passwd", "missing"] {
        // A volume as /dev is taken as it is. The image's own would have its null looked at before a mask is.
        let volume = lab.dir.join("volume");
        fs::create_dir(&volume).unwrap();
        symlink(target, volume.join("null")).unwrap();
        let bundle = with_dev(lab.bundle().own_rootfs(), &volume)
            .with(|c| c["linux"]["maskedPaths"] = json!(["/secret"]));
        fs::write(bundle.rootfs().join("secret"), "green").unwrap();
        bundle.sh("stat -c %t:%T /secret; cat /secret").run().prints("1:3\n");
        fs::remove_dir_all(volume).unwrap();
    }
}

#[test]
fn cve_2025_31133_a_null_of_the_image_that_is_none_is_refused() {
    bryo_only!("runc 1.1 binds whatever the image has as /dev/null");
    let lab = Lab::new();
    for target in ["/etc/passwd", "/proc/cmdline", "../../../../etc/passwd"] {
        let bundle = without_dev(lab.bundle().own_rootfs());
        symlink(target, bundle.rootfs().join("dev/null")).unwrap();
        bundle.run().refuses(1, &["/dev/null", "file exists"]);
        assert!(lab.state_entries().is_empty());
    }
}

/// What is written to or becomes a terminal by mistake.
fn decoy(lab: &Lab) -> std::path::PathBuf {
    let decoy = lab.file("decoy", "decoy");
    fs::set_permissions(&decoy, fs::Permissions::from_mode(0o600)).unwrap();
    decoy
}

#[track_caller]
fn is_intact(decoy: &Path) {
    assert_eq!(fs::read_to_string(decoy).unwrap(), "decoy");
    assert_eq!(fs::metadata(decoy).unwrap().permissions().mode() & 0o7777, 0o600);
}

/// A container with a terminal, whose /dev is this directory.
fn on_terminal<'lab>(bundle: Bundle<'lab>, dev: &Path, devpts: bool) -> Bundle<'lab> {
    let bundle = with_dev(bundle.own_rootfs(), dev).with(|c| c["process"]["terminal"] = true.into());
    match devpts {
        true => bundle.add_mount(json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["newinstance", "ptmxmode=0666", "mode=0620"] })),
        false => bundle,
    }
}

#[test]
fn cve_2025_52565_a_terminal_comes_from_a_devpts_and_from_nothing_that_looks_like_one() {
    bryo_only!("runc 1.1 takes what it finds there");
    let lab = Lab::new();
    let decoy = decoy(&lab);
    let dev = lab.dir.join("dev");
    let pts = dev.join("pts");
    let prepare = |make: &dyn Fn()| {
        drop(fs::remove_dir_all(&dev));
        fs::create_dir(&dev).unwrap();
        make();
    };
    let refused = |devpts: bool, words: &[&str]| {
        on_terminal(lab.bundle(), &dev, devpts).run().refuses(1, words);
        assert!(lab.state_entries().is_empty());
        is_intact(&decoy);
    };
    // The host's own ptmx is not to be had by a link, be it absolute or within the container.
    for target in [decoy.to_str().unwrap(), "/dev/ptmx", "../file"] {
        prepare(&|| {
            fs::create_dir(&pts).unwrap();
            fs::write(dev.join("file"), "").unwrap();
            symlink(target, pts.join("ptmx")).unwrap();
        });
        refused(false, &["terminal", "too many levels of symbolic links"]);
    }
    prepare(&|| {
        fs::create_dir(&pts).unwrap();
        fs::write(pts.join("ptmx"), "").unwrap();
    });
    refused(false, &["terminal", "inappropriate ioctl for device"]);
    // The devpts is mounted where the link leads to, and the terminal is not sought there.
    prepare(&|| {
        fs::create_dir(dev.join("elsewhere")).unwrap();
        symlink("elsewhere", &pts).unwrap();
    });
    refused(true, &["terminal", "too many levels of symbolic links"]);
}

#[test]
fn cve_2025_62596_a_console_that_is_a_link_is_not_followed() {
    bryo_only!("runc 1.1 follows it within the container");
    let lab = Lab::new();
    let decoy = decoy(&lab);
    let dev = lab.dir.join("dev");
    for target in [decoy.to_str().unwrap(), "/etc/passwd", "../etc/passwd", "pts/ptmx"] {
        fs::create_dir_all(dev.join("pts")).unwrap();
        symlink(target, dev.join("console")).unwrap();
        on_terminal(lab.bundle(), &dev, true).run().refuses(1, &["too many levels of symbolic links"]);
        assert!(lab.state_entries().is_empty());
        is_intact(&decoy);
        assert!(dev.join("console").is_symlink());
        fs::remove_dir_all(&dev).unwrap();
    }
}

#[test]
fn cve_2026_41579_a_dev_of_the_image_that_is_a_symlink_touches_nothing_outside() {
    bryo_only!("runc 1.1 removes the file of that name on the host");
    let lab = Lab::new();
    let decoy = lab.dir.join("decoy");
    fs::create_dir(&decoy).unwrap();
    for name in ["ptmx", "null", "console", "fd"] {
        fs::write(decoy.join(name), "decoy").unwrap();
    }
    let up = "../".repeat(20);
    for target in [decoy.clone(), Path::new(&up).join(decoy.strip_prefix("/").unwrap())] {
        for with_mount in [true, false] {
            let bundle = lab.bundle().own_rootfs().with(|c| {
                let mounts = c["mounts"].as_array_mut().unwrap();
                if !with_mount {
                    mounts.retain(|m| m["destination"] != "/dev");
                }
            });
            let rootfs = bundle.rootfs();
            fs::remove_dir(rootfs.join("dev")).unwrap();
            symlink(&target, rootfs.join("dev")).unwrap();
            let ran = bundle.run();
            assert!(!ran.stderr.contains("panicked"), "{ran:?}");
            let created = bundle.named("decoy").call("create", NONE).done();
            if created.status.success() {
                drop(lab.call(["start", "decoy"]).done());
                lab.call(["delete", "--force", "decoy"]).done().ok();
            }
            for name in ["ptmx", "null", "console", "fd"] {
                assert_eq!(fs::read_to_string(decoy.join(name)).unwrap(), "decoy", "{name}");
            }
            assert_eq!(fs::read_dir(&decoy).unwrap().count(), 4);
        }
    }
}

#[test]
fn cve_2026_55686_a_directory_behind_a_symlink_is_made_inside_only() {
    let lab = Lab::new();
    let outside = lab.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    let up = "../".repeat(20);
    for target in [outside.clone(), Path::new(&up).join(outside.strip_prefix("/").unwrap())] {
        let bundle = lab.bundle().own_rootfs().with(|c| c["process"]["cwd"] = "/link/new".into());
        symlink(&target, bundle.rootfs().join("link")).unwrap();
        let ran = bundle.run();
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}

#[test]
fn cve_2026_57231_an_env_entry_without_an_equals_sign_is_an_error() {
    bryo_only!("runc 1.1 hands the entry on");
    let lab = Lab::new();
    let bundle = lab.bundle().args(["env"]).with(|c| push(&mut c["process"]["env"], json!("SECRET")));
    let ran = bundle.call("run", NONE).env("SECRET", "hunter2").done().refuses(1, &["SECRET"]);
    assert!(!ran.stderr.contains("hunter2"));
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_nul_in_a_string_is_an_error() {
    let lab = Lab::new();
    for (pointer, value) in [
        ("/process/args/0", json!("true\0x")),
        ("/process/env/0", json!("A=b\0c")),
        ("/process/cwd", json!("/\0")),
        ("/hostname", json!("a\0b")),
    ] {
        let bundle = lab.bundle().with(|c| *c.pointer_mut(pointer).unwrap() = value);
        let ran = bundle.run();
        if pointer == "/hostname" && crate::lab::is_peer() {
            continue; // Go hands the kernel the bytes with their length.
        }
        ran.refuses(1, &[]);
        assert!(lab.state_entries().is_empty());
    }
}

/// A script that reads the pid of the runtime that waits for it, and says what it could do with that process.
/// To open `mem` takes the rights of who attaches with ptrace(2).
const AT_THE_RUNTIME: &str = "read pid; test -n \"$pid\" || exit 9; \
    for name in mem environ maps; do (true < /proc/$pid/$name) 2>/dev/null && echo opened $name; done; \
    for name in root cwd fd/0; do readlink /proc/$pid/$name && echo followed $name; done; \
    kill -0 $pid 2>/dev/null && echo may signal; kill -9 $pid 2>/dev/null && echo killed; echo done";

/// Runs it, tells it the pid, and has it come to nothing.
#[track_caller]
fn gets_nowhere(bundle: &Bundle) {
    let mut running = bundle.call("run", NONE).stdin_pipe().spawn();
    let pid = format!("{}\n", running.pid());
    running.child.stdin.take().unwrap().write_all(pid.as_bytes()).unwrap();
    // It is still there to say how the container ended.
    running.wait().prints("done\n");
}

#[test]
fn a_container_cannot_see_the_runtime_nor_signal_it() {
    let lab = Lab::new();
    gets_nowhere(&all_capabilities(lab.bundle()).sh(AT_THE_RUNTIME));
    // Nor with a signal to all that there are.
    all_capabilities(lab.bundle()).sh("kill -9 -1 2>/dev/null; echo survived").run().prints("survived\n");
}

#[test]
fn a_container_that_sees_the_runtime_cannot_signal_it_nor_look_into_it() {
    let lab = Lab::new();
    // With the host's processes before it and all capabilities over its own, as a subordinate id.
    let bundle = all_capabilities(lab.bundle()).subids().without_namespace("pid").without_proc();
    let script = format!("test -e /proc/$PPID || exit 8; {AT_THE_RUNTIME}");
    let bundle = bundle.sh(&script).with(|c| {
        let all = c["process"]["capabilities"]["bounding"].clone();
        c["process"]["capabilities"]["inheritable"] = all.clone();
        c["process"]["capabilities"]["ambient"] = all;
        c["process"]["user"] = json!({ "uid": 1, "gid": 1 });
    });
    gets_nowhere(&bundle);
}

#[test]
fn root_inside_that_sees_the_runtime_cannot_look_into_it() {
    let lab = Lab::new();
    let bundle = all_capabilities(lab.bundle()).without_namespace("pid").without_proc();
    // It has the id of who runs it, and so may signal what they may.
    let (looks, _) = AT_THE_RUNTIME.split_once("kill -0").unwrap();
    gets_nowhere(&bundle.sh(&format!("{looks}kill -0 $pid && echo done")));
}

#[test]
fn root_inside_cannot_write_what_belongs_to_root_outside() {
    plain_user_only!("the root inside is the root outside, and may write what is its own");
    let lab = Lab::new();
    let bundle = all_capabilities(lab.bundle()).add_mount(json!({
        "destination": "/mnt", "type": "bind", "source": "/etc", "options": ["rbind"],
    }));
    let ran = bundle.sh("id -u; touch /mnt/bryo-suite-was-here; head -c 1 /mnt/shadow").run();
    assert_eq!(ran.stdout, "0\n", "{ran:?}");
    assert_eq!(ran.stderr.matches("Permission denied").count(), 2, "{ran:?}");
    assert!(!Path::new("/etc/bryo-suite-was-here").exists());
}

#[test]
fn an_image_cannot_replace_the_loader_of_hooks() {
    let lab = Lab::new();
    // CVE-2025-23266: an LD_PRELOAD of the image's environment reached a hook that ran on the host.
    let log = lab.dir.join("log");
    let script = lab.script("hook", &format!("cat > /dev/null; env > {}", log.display()));
    let bundle = lab
        .bundle()
        .hook("createContainer", json!({ "path": script, "env": ["HOOK=1"] }))
        .with(|c| push(&mut c["process"]["env"], Value::from("LD_PRELOAD=/evil.so")));
    bundle.run().ok();
    let env = fs::read_to_string(log).unwrap();
    assert!(env.contains("HOOK=1") && !env.contains("LD_PRELOAD"), "{env}");
}
