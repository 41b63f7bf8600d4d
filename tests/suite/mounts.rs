//! Mounts: kinds, options, propagation, and where their targets may be.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::lab::{Bundle, Lab, bryo_only};

/// What /proc/self/mountinfo says of one mount.
#[derive(Debug)]
struct Mount {
    options: Vec<String>,
    propagation: Vec<String>,
    fstype: String,
    superblock: String,
}

/// The topmost mount on this target.
fn mount_at(mountinfo: &str, target: &str) -> Mount {
    let line = mountinfo.lines().rfind(|l| l.split(' ').nth(4) == Some(target));
    let line = line.unwrap_or_else(|| panic!("nothing is mounted on {target} in {mountinfo}"));
    let (left, right) = line.split_once(" - ").unwrap();
    let words: Vec<_> = left.split(' ').collect();
    let right: Vec<_> = right.split(' ').collect();
    Mount {
        options: words[5].split(',').map(str::to_owned).collect(),
        propagation: words[6..].iter().map(|w| w.split(':').next().unwrap().to_owned()).collect(),
        fstype: right[0].to_owned(),
        superblock: right[2..].join(" "),
    }
}

fn mountinfo(bundle: Bundle) -> String {
    bundle.args(["cat", "/proc/self/mountinfo"]).run().ok().stdout
}

fn tmpfs(options: &[&str]) -> Value {
    json!({ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options })
}

fn bind(source: &std::path::Path, target: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": "bind", "source": source, "options": options })
}

#[test]
fn the_mounts_of_the_default_config_are_there() {
    let lab = Lab::new();
    let info = mountinfo(lab.bundle());
    for (target, fstype) in [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ] {
        assert_eq!(mount_at(&info, target).fstype, fstype, "{target}");
    }
    let shm = mount_at(&info, "/dev/shm");
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(shm.options.iter().any(|o| o == option), "{shm:?}");
    }
    let script = "stat -c %a /dev /dev/shm; echo x > /dev/shm/x && cat /dev/shm/x; df -k /dev/shm | tail -1";
    let ran = lab.bundle().sh(script).run().ok();
    assert!(ran.stdout.starts_with("755\n1777\nx\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("65536"), "{}", ran.stdout);
}

#[test]
fn nothing_of_the_hosts_mounts_is_left() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        // The host's /sys comes with everything that is mounted below.
        c["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys");
        c["linux"]["maskedPaths"] = json!([]);
        c["linux"]["readonlyPaths"] = json!([]);
    });
    let info = mountinfo(bundle);
    let mut targets: Vec<_> = info.lines().map(|l| l.split(' ').nth(4).unwrap()).collect();
    // Device nodes are single binds where they cannot be made.
    targets.retain(|t| {
        !["null", "zero", "full", "random", "urandom", "tty"].iter().any(|d| *t == format!("/dev/{d}"))
    });
    targets.sort_unstable();
    assert_eq!(targets, ["/", "/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc"], "{info}");
}

#[test]
fn options_of_a_mount_are_set() {
    let lab = Lab::new();
    for (asked, wanted, unwanted) in [
        (&["ro"][..], &["ro"][..], &["rw"][..]),
        (&["rw"], &["rw"], &["ro"]),
        (&["nosuid", "nodev", "noexec"], &["nosuid", "nodev", "noexec"], &[]),
        (&["noatime"], &["noatime"], &["relatime"]),
        (&["nodiratime"], &["nodiratime"], &[]),
        (&["strictatime"], &[], &["relatime", "noatime"]),
        (&["relatime"], &["relatime"], &["noatime"]),
        (&["nosuid", "suid", "noexec", "exec"], &[], &["nosuid", "noexec"]),
    ] {
        let info = mountinfo(lab.bundle().add_mount(tmpfs(asked)));
        let mount = mount_at(&info, "/mnt");
        for option in wanted {
            assert!(mount.options.iter().any(|o| o == option), "{asked:?}: {mount:?}");
        }
        for option in unwanted {
            assert!(!mount.options.iter().any(|o| o == option), "{asked:?}: {mount:?}");
        }
    }
}

#[test]
fn an_option_that_a_file_system_does_not_have_is_an_error_and_no_reason_for_other_means() {
    let lab = Lab::new();
    for (destination, kind) in [("/sys", "sysfs"), ("/dev/mqueue", "mqueue"), ("/mnt", "tmpfs")] {
        let bundle = lab.bundle().namespace("network", None).with(|c| {
            let mounts = c["mounts"].as_array_mut().unwrap();
            mounts.retain(|m| m["destination"] != destination);
            mounts.push(
                json!({ "destination": destination, "type": kind, "source": kind, "options": ["moss=1"] }),
            );
        });
        bundle.run().refuses(1, &["invalid argument"]);
    }
}

#[test]
fn every_option_word_of_the_runtime_spec_is_known() {
    bryo_only!("runc 1.1 lacks defaults, nosymfollow and some others");
    let lab = Lab::new();
    let words = [
        "async",
        "atime",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "iversion",
        "lazytime",
        "loud",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nolazytime",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "private",
        "relatime",
        "ro",
        "rprivate",
        "rshared",
        "rslave",
        "runbindable",
        "rw",
        "shared",
        "silent",
        "slave",
        "strictatime",
        "suid",
        "symfollow",
        "sync",
        "unbindable",
        "ratime",
        "rdev",
        "rdiratime",
        "rexec",
        "rnoatime",
        "rnodev",
        "rnodiratime",
        "rnoexec",
        "rnorelatime",
        "rnostrictatime",
        "rnosuid",
        "rnosymfollow",
        "rrelatime",
        "rro",
        "rrw",
        "rstrictatime",
        "rsuid",
        "rsymfollow",
        "tmpcopyup",
    ];
    let mut bundle = lab.bundle().own_rootfs();
    for word in words {
        let mut mount = tmpfs(&[word]);
        mount["destination"] = format!("/mnt/{word}").into();
        bundle = bundle.add_mount(mount);
    }
    let info = mountinfo(bundle);
    for word in words {
        assert_eq!(mount_at(&info, &format!("/mnt/{word}")).fstype, "tmpfs");
    }
    let symlinks = mount_at(&info, "/mnt/nosymfollow");
    assert!(symlinks.options.iter().any(|o| o == "nosymfollow"), "{symlinks:?}");
}

#[test]
fn options_do_what_they_say() {
    let lab = Lab::new();
    let copy = "cp /bin/busybox /mnt/echo && /mnt/echo ran";
    lab.bundle().add_mount(tmpfs(&[])).sh(copy).run().prints("ran\n");
    let ran = lab.bundle().add_mount(tmpfs(&["noexec"])).sh(copy).run().exits(126);
    assert!(ran.stderr.contains("Permission denied"), "{}", ran.stderr);
    let ran = lab.bundle().add_mount(tmpfs(&["ro"])).sh(copy).run().exits(1);
    assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
}

#[test]
fn a_tmpfs_has_the_size_and_mode_that_were_asked_for() {
    let lab = Lab::new();
    let bundle = lab.bundle().add_mount(tmpfs(&["size=1024k", "mode=0711", "nr_inodes=5"]));
    let info = mountinfo(bundle);
    assert!(mount_at(&info, "/mnt").superblock.contains("size=1024k"), "{info}");
    let mut mount = tmpfs(&["size=1024k", "mode=0711"]);
    mount["destination"] = "/dev/moss".into();
    let script = "cd /dev/moss; stat -c %a .; dd if=/dev/zero of=x bs=2M count=1 2>/dev/null; stat -c %s x";
    lab.bundle().add_mount(mount).sh(script).run().prints("711\n1048576\n");
}

#[test]
fn a_tmpfs_has_the_mode_that_was_asked_for_also_on_a_directory_with_another() {
    bryo_only!("runc 1.1 gives it the mode of the directory that was there");
    let lab = Lab::new();
    lab.bundle().add_mount(tmpfs(&["mode=0711"])).sh("stat -c %a /mnt").run().prints("711\n");
}

#[test]
fn a_tmpfs_that_was_not_told_a_mode_has_that_of_the_directory_beneath() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs();
    fs::set_permissions(bundle.rootfs().join("mnt"), fs::Permissions::from_mode(0o710)).unwrap();
    bundle.add_mount(tmpfs(&[])).sh("stat -c %a /mnt").run().prints("710\n");
}

#[test]
fn a_destination_may_begin_with_the_path_of_the_root_file_system() {
    let lab = Lab::new();
    let mut mount = tmpfs(&[]);
    mount["destination"] = json!(crate::lab::busybox().join("mnt"));
    let info = mountinfo(lab.bundle().add_mount(mount));
    assert_eq!(mount_at(&info, "/mnt").fstype, "tmpfs");
}

#[test]
fn a_path_that_is_masked_twice_is_masked_once() {
    bryo_only!("runc 1.1 mounts twice");
    let lab = Lab::new();
    let paths = json!(["/mnt", "/etc/passwd", "/mnt", "/etc/passwd"]);
    let info = mountinfo(lab.bundle().with(|c| c["linux"]["maskedPaths"] = paths));
    for path in ["/mnt", "/etc/passwd"] {
        let at = |line: &&str| line.split(' ').nth(4) == Some(path);
        assert_eq!(info.lines().filter(at).count(), 1, "{path}: {info}");
    }
}

#[test]
fn an_unknown_option_reaches_the_file_system_which_refuses_it() {
    let lab = Lab::new();
    let ran = lab.bundle().add_mount(tmpfs(&["moss=green"])).run();
    ran.refuses(1, &["/mnt", "invalid argument"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn an_unknown_kind_of_file_system_is_refused() {
    let lab = Lab::new();
    let bundle = lab.bundle().add_mount(json!({ "destination": "/mnt", "type": "mossfs", "source": "x" }));
    bundle.run().refuses(1, &["/mnt"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn tmpcopyup_leaves_the_mode_that_the_tmpfs_was_given() {
    bryo_only!("runc 1.1 copies the mode, too");
    let lab = Lab::new();
    let bundle = lab.bundle().add_mount(tmpfs(&["tmpcopyup", "mode=1770"]));
    bundle.sh("stat -c %a /mnt").run().prints("1770\n");
}

#[test]
fn a_read_only_tmpfs_holds_what_is_mounted_in_it() {
    let lab = Lab::new();
    // runc 1.1 heeds the recursive word with bind mounts alone.
    for word in if crate::lab::is_peer() { &["ro"][..] } else { &["ro", "rro"] } {
        let bundle = lab.bundle().with(|c| {
            let mounts = c["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
            mounts.push(json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", word] }));
            mounts.push(json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666", "mode=0620"] }));
        });
        let script = "echo x > /dev/null && test -c /dev/pts/ptmx && readlink /dev/fd && touch /dev/x";
        let ran = bundle.sh(script).run();
        assert_eq!(ran.stdout, "/proc/self/fd\n", "{word}: {ran:?}");
        assert!(ran.stderr.contains("Read-only file system"), "{word}: {ran:?}");
    }
}

#[test]
fn tmpcopyup_fills_the_tmpfs_with_what_it_covers() {
    let lab = Lab::new();
    let mut mount = tmpfs(&["tmpcopyup", "mode=0755"]);
    mount["destination"] = "/etc".into();
    let script = "cat /etc/passwd | head -1 && echo more >> /etc/passwd && tail -1 /etc/passwd";
    lab.bundle().add_mount(mount).sh(script).run().prints("root:x:0:0:root:/root:/bin/sh\nmore\n");
}

/// `iversion` has no word in the newer calls: the same mount goes by mount(2).
fn with_iversion<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["iversion"], options].concat()
}

#[test]
fn a_mount_that_only_the_old_call_can_make_has_the_same_properties() {
    bryo_only!("runc 1.1 heeds the recursive words with bind mounts alone");
    let lab = Lab::new();
    for options in [
        &["rro", "rnoexec"][..],
        &["rnosuid", "rnodev"],
        &["ro", "nosuid", "nodev", "noexec"],
        &["rnoatime", "rnodiratime"],
        &["noatime", "nodiratime"],
        &["noatime", "rstrictatime"],
        &["rro", "shared"],
        &["mode=0711", "size=1024k"],
    ] {
        let new = mountinfo(lab.bundle().add_mount(tmpfs(options)));
        let old = mountinfo(lab.bundle().add_mount(tmpfs(&with_iversion(options))));
        let (new, old) = (mount_at(&new, "/mnt"), mount_at(&old, "/mnt"));
        assert_eq!(old.options, new.options, "{options:?}");
        assert_eq!(old.propagation, new.propagation, "{options:?}");
        assert_eq!(old.superblock.replace(",iversion", ""), new.superblock, "{options:?}");
    }
    let info = mountinfo(lab.bundle().add_mount(tmpfs(&["iversion", "rro", "rnoexec"])));
    let mount = mount_at(&info, "/mnt");
    for option in ["ro", "noexec"] {
        assert!(mount.options.iter().any(|o| o == option), "{mount:?}");
    }
}

#[test]
fn no_link_is_followed_in_a_mount_that_only_the_old_call_can_make() {
    bryo_only!("runc 1.1 does not know rnosymfollow");
    let lab = Lab::new();
    for word in ["nosymfollow", "rnosymfollow"] {
        let info = mountinfo(lab.bundle().add_mount(tmpfs(&["iversion", word])));
        let mount = mount_at(&info, "/mnt");
        assert!(mount.options.iter().any(|o| o == "nosymfollow"), "{mount:?}");
    }
}

#[test]
fn tmpcopyup_fills_also_a_tmpfs_that_only_the_old_call_can_make() {
    bryo_only!("runc 1.1 heeds the recursive words with bind mounts alone");
    let lab = Lab::new();
    for (options, writable) in
        [(&["iversion", "tmpcopyup"][..], "yes"), (&["iversion", "tmpcopyup", "rro"], "no")]
    {
        let mut mount = tmpfs(options);
        mount["destination"] = "/etc".into();
        let script = "head -n 1 /etc/passwd; grep -c ' /etc ' /proc/self/mountinfo; \
                      touch /etc/new 2>/dev/null && echo yes || echo no";
        let expected = format!("root:x:0:0:root:/root:/bin/sh\n1\n{writable}\n");
        lab.bundle().add_mount(mount).sh(script).run().prints(&expected);
    }
}

#[test]
fn the_options_of_a_mount_that_only_the_old_call_can_make_may_lead_through_its_destination() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs();
    let covered = bundle.rootfs().join("etc");
    let other = lab.dir.join("o".repeat(255));
    fs::create_dir(&other).unwrap();
    fs::write(other.join("moss"), "green\n").unwrap();
    let lower = format!("lowerdir={}:{}", covered.display(), other.display());
    let mount = json!({ "destination": "/etc", "type": "overlay", "source": "o", "options": [lower] });
    let script = "ls /etc; grep -c ' /etc' /proc/self/mountinfo";
    bundle.add_mount(mount).sh(script).run().prints("group\nmoss\npasswd\n1\n");
}

#[test]
fn a_source_or_a_value_may_be_longer_than_the_newer_calls_take() {
    let lab = Lab::new();
    let zeros = "0".repeat(300);
    let value = tmpfs(&["size=1024k", &format!("mode={zeros}711"), "ro"]);
    let mut source = tmpfs(&["size=1024k", "mode=0711", "ro"]);
    source["source"] = format!("moss{zeros}").into();
    for (mount, named) in [(value, "tmpfs".into()), (source, format!("moss{zeros}"))] {
        let info = mountinfo(lab.bundle().add_mount(mount));
        let mount = mount_at(&info, "/mnt");
        assert!(mount.options.iter().any(|o| o == "ro"), "{mount:?}");
        for option in ["size=1024k", "mode=711"] {
            assert!(mount.superblock.contains(option), "{mount:?}");
        }
        assert!(info.contains(&format!(" - tmpfs {named} ")), "{info}");
    }
}

#[test]
fn a_directory_is_bound() {
    let lab = Lab::new();
    let dir = lab.dir.join("volume");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("in"), "from the host\n").unwrap();
    for options in [&["bind"][..], &["rbind"]] {
        let bundle = lab.bundle().add_mount(bind(&dir, "/mnt", options));
        bundle.sh("cat /mnt/in; echo from inside > /mnt/out").run().prints("from the host\n");
        assert_eq!(fs::read_to_string(dir.join("out")).unwrap(), "from inside\n");
        fs::remove_file(dir.join("out")).unwrap();
    }
}

#[test]
fn a_file_is_bound() {
    let lab = Lab::new();
    let file = lab.file("passwd", "moss\n");
    let bundle = lab.bundle().add_mount(bind(&file, "/etc/passwd", &["bind", "ro"]));
    let ran = bundle.sh("cat /etc/passwd; echo x > /etc/passwd").run().exits(1);
    assert_eq!(ran.stdout, "moss\n");
    assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "moss\n");
}

#[test]
fn a_bind_takes_its_own_options() {
    let lab = Lab::new();
    let dir = lab.dir.join("volume");
    fs::create_dir(&dir).unwrap();
    let info =
        mountinfo(lab.bundle().add_mount(bind(&dir, "/mnt", &["rbind", "ro", "nosuid", "nodev", "noexec"])));
    let mount = mount_at(&info, "/mnt");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(mount.options.iter().any(|o| o == option), "{mount:?}");
    }
    let info = mountinfo(lab.bundle().add_mount(bind(&dir, "/mnt", &["bind"])));
    assert!(mount_at(&info, "/mnt").options.iter().any(|o| o == "rw"));
}

#[test]
fn a_relative_source_is_relative_to_the_bundle() {
    let lab = Lab::new();
    let bundle = lab.bundle();
    fs::create_dir(bundle.dir.join("volume")).unwrap();
    fs::write(bundle.dir.join("volume/file"), "here\n").unwrap();
    let bundle = bundle.add_mount(bind(std::path::Path::new("volume"), "/mnt", &["bind"]));
    bundle.args(["cat", "/mnt/file"]).run().prints("here\n");
}

#[test]
fn a_missing_source_is_refused_and_not_made() {
    let lab = Lab::new();
    let missing = lab.dir.join("missing");
    let bundle = lab.bundle().add_mount(bind(&missing, "/mnt", &["bind"]));
    bundle.run().refuses(1, &["no such file or directory"]).in_bryos_words(&[missing.to_str().unwrap()]);
    assert!(!missing.exists());
}

#[test]
fn a_missing_target_is_made_in_the_root_file_system() {
    let lab = Lab::new();
    let dir = lab.dir.join("volume");
    fs::create_dir(&dir).unwrap();
    let file = lab.file("volume/file", "file\n");
    let bundle = lab.bundle().own_rootfs().add_mount(bind(&dir, "/a/b/dir", &["bind"])).add_mount(bind(
        &file,
        "/a/c/file",
        &["bind"],
    ));
    let rootfs = bundle.rootfs();
    bundle.sh("cat /a/b/dir/file /a/c/file").run().prints("file\nfile\n");
    assert!(rootfs.join("a/b/dir").is_dir());
    assert_eq!(fs::read(rootfs.join("a/c/file")).unwrap(), b"");
}

#[test]
fn mounts_are_made_in_their_order() {
    let lab = Lab::new();
    let file = lab.file("file", "inner\n");
    let bundle = lab.bundle().add_mount(tmpfs(&[])).add_mount(bind(&file, "/mnt/deep/file", &["bind"]));
    bundle.sh("cat /mnt/deep/file").run().prints("inner\n");
    // The other way around, the later one hides the earlier.
    let bundle =
        lab.bundle().own_rootfs().add_mount(bind(&file, "/mnt/file", &["bind"])).add_mount(tmpfs(&[]));
    bundle.sh("ls -A /mnt").run().prints("");
}

#[test]
fn a_symlink_in_a_target_stays_inside_the_root_file_system() {
    let lab = Lab::new();
    let outside = lab.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    let bundle = lab.bundle().own_rootfs();
    let rootfs = bundle.rootfs();
    std::os::unix::fs::symlink(&outside, rootfs.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../../../..", rootfs.join("relative")).unwrap();
    let file = lab.file("file", "bound\n");
    let bundle = bundle.add_mount(bind(&file, "/absolute/file", &["bind"])).add_mount(bind(
        &file,
        "/relative/mnt/file",
        &["bind"],
    ));
    let inside = outside.join("file");
    bundle.sh(&format!("cat {} /mnt/file", inside.display())).run().prints("bound\nbound\n");
    assert!(!inside.exists());
    assert!(rootfs.join(inside.strip_prefix("/").unwrap()).exists());
}

#[test]
fn a_source_that_is_a_link_is_copied_where_crun_would() {
    bryo_only!("runc does not know copy-symlink");
    let lab = Lab::new();
    let link = lab.dir.join("link");
    std::os::unix::fs::symlink("elsewhere/../moss", &link).unwrap();
    let copied = |options: &[&str]| {
        let file = lab.file("file", "no link\n");
        lab.bundle()
            .own_rootfs()
            .add_mount(bind(&link, "/etc/made/for/it", options))
            .add_mount(bind(&file, "/etc/file", options))
            .sh("readlink /etc/made/for/it; cat /etc/file; grep -c for/it /proc/self/mountinfo")
    };
    for options in [&["bind", "copy-symlink"][..], &["rbind", "ro", "rprivate", "copy-symlink"]] {
        let bundle = copied(options);
        let shown = bundle.run().exits(1).stdout;
        assert_eq!(shown, "elsewhere/../moss\nno link\n0\n");
        // It is there already, and is the same.
        assert_eq!(bundle.run().exits(1).stdout, shown);
        let there = bundle.rootfs().join("etc/made/for/it");
        fs::remove_file(&there).unwrap();
        std::os::unix::fs::symlink("another", &there).unwrap();
        bundle.run().refuses(1, &["/etc/made/for/it", "file exists"]);
        assert_eq!(fs::read_link(&there).unwrap().to_str(), Some("another"));
    }
}

#[test]
fn a_link_to_be_copied_stays_inside_the_root_file_system() {
    bryo_only!("runc does not know copy-symlink");
    let lab = Lab::new();
    let outside = lab.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    let bundle = lab.bundle().own_rootfs();
    std::os::unix::fs::symlink(&outside, bundle.rootfs().join("absolute")).unwrap();
    let link = lab.dir.join("link");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    let inside = outside.join("copy");
    let bundle = bundle.add_mount(bind(&link, "/absolute/copy", &["bind", "copy-symlink"]));
    bundle.sh(&format!("readlink {}", inside.display())).run().prints("/etc/passwd\n");
    assert!(fs::symlink_metadata(&inside).is_err());
}

#[test]
fn a_destination_that_is_a_link_is_covered_where_crun_would() {
    bryo_only!("runc does not know dest-nofollow");
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs();
    let etc = bundle.rootfs().join("etc");
    fs::write(etc.join("target"), "the target\n").unwrap();
    std::os::unix::fs::symlink("target", etc.join("link")).unwrap();
    let file = lab.file("file", "bound\n");
    let bundle = bundle.add_mount(bind(&file, "/etc/link", &["bind", "dest-nofollow"])).add_mount(bind(
        &file,
        "/etc/missing",
        &["bind", "dest-nofollow"],
    ));
    bundle.sh("cat /etc/link /etc/target /etc/missing").run().prints("bound\nthe target\nbound\n");
    assert!(etc.join("link").is_symlink());
    let bundle = lab.bundle().own_rootfs();
    std::os::unix::fs::symlink("/tmp", bundle.rootfs().join("etc/link")).unwrap();
    let bundle = bundle.add_mount(bind(&lab.dir, "/etc/link", &["bind", "dest-nofollow"]));
    bundle.run().refuses(1, &["/etc/link", "a directory cannot cover a link"]);
}

#[test]
fn what_is_to_become_of_links_is_asked_of_bind_mounts_alone() {
    bryo_only!("runc does not know these words");
    let lab = Lab::new();
    for word in ["copy-symlink", "dest-nofollow", "src-nofollow"] {
        lab.bundle().add_mount(tmpfs(&[word])).run().refuses(1, &["/mnt", word, "bind mount"]);
    }
}

#[test]
fn propagation_of_a_mount_is_set() {
    let lab = Lab::new();
    for (word, expected) in [
        ("private", &[][..]),
        ("rprivate", &[]),
        ("shared", &["shared"]),
        ("rshared", &["shared"]),
        ("slave", &[]),
        ("unbindable", &["unbindable"]),
        ("runbindable", &["unbindable"]),
    ] {
        let info = mountinfo(lab.bundle().add_mount(tmpfs(&[word])));
        assert_eq!(mount_at(&info, "/mnt").propagation, expected, "{word}: {info}");
    }
}

#[test]
fn recursive_propagation_reaches_the_mounts_below() {
    let lab = Lab::new();
    // The host's /sys has mounts below it on every machine.
    let bundle = lab.bundle().with(|c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        let sys = mounts.iter_mut().find(|m| m["destination"] == "/sys").unwrap();
        sys["options"] = json!(["rbind", "ro", "rshared"]);
        c["linux"]["maskedPaths"] = json!([]);
    });
    let info = mountinfo(bundle);
    let below: Vec<_> = info.lines().filter(|l| l.split(' ').nth(4).unwrap().starts_with("/sys/")).collect();
    assert!(!below.is_empty(), "{info}");
    for line in below {
        assert!(line.contains(" shared:"), "{line}");
    }
}

#[test]
fn recursive_attributes_reach_the_mounts_below() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        let mounts = c["mounts"].as_array_mut().unwrap();
        let sys = mounts.iter_mut().find(|m| m["destination"] == "/sys").unwrap();
        sys["options"] = json!(["rbind", "rro", "rnosuid", "rnodev", "rnoexec"]);
        c["linux"]["maskedPaths"] = json!([]);
    });
    let info = mountinfo(bundle);
    let below: Vec<_> =
        info.lines().map(|l| l.split(' ').nth(4).unwrap()).filter(|t| t.starts_with("/sys/")).collect();
    assert!(!below.is_empty(), "{info}");
    for target in below {
        let mount = mount_at(&info, target);
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(mount.options.iter().any(|o| o == option), "{target}: {mount:?}");
        }
    }
}

#[test]
fn flags_that_the_kernel_has_locked_are_kept() {
    let lab = Lab::new();
    // Whatever the host set on /sys (nosuid, nodev, noexec on every distribution), a user namespace may not
    // take away, and need not name to make a bind read-only.
    let info = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let host = mount_at(&info, "/sys");
    let locked = |o: &&String| ["nosuid", "nodev", "noexec"].contains(&o.as_str());
    let mount = bind(std::path::Path::new("/sys"), "/mnt", &["rbind", "ro"]);
    let info = mountinfo(lab.bundle().add_mount(mount));
    let mount = mount_at(&info, "/mnt");
    for option in host.options.iter().filter(locked) {
        assert!(mount.options.contains(option), "{option}: {mount:?}");
    }
    assert!(mount.options.iter().any(|o| o == "ro"), "{mount:?}");
}

#[test]
fn a_bind_of_a_locked_mount_works_without_any_flag() {
    let lab = Lab::new();
    let mount = bind(std::path::Path::new("/sys"), "/mnt", &["rbind"]);
    lab.bundle().add_mount(mount).sh("test -d /mnt/kernel").run().ok();
}

#[test]
fn an_empty_option_means_nothing() {
    let lab = Lab::new();
    let dir = lab.dir.join("volume");
    fs::create_dir(&dir).unwrap();
    lab.bundle().add_mount(bind(&dir, "/mnt", &["rbind", "", "rw"])).run().ok();
}

#[test]
fn a_mount_without_options_or_source_works() {
    let lab = Lab::new();
    let mount = json!({ "destination": "/mnt", "type": "tmpfs" });
    lab.bundle().add_mount(mount).sh("touch /mnt/x").run().ok();
}

#[test]
fn a_mount_label_is_given_or_its_absence_is_warned_of() {
    bryo_only!("runc warns of nothing");
    let lab = Lab::new();
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    let ran =
        lab.bundle().with(|c| c["linux"]["mountLabel"] = label.into()).args(["cat", "/proc/self/mountinfo"]);
    let ran = ran.run().ok();
    if std::path::Path::new("/sys/fs/selinux/policy").exists() {
        assert!(mount_at(&ran.stdout, "/dev").superblock.contains(label), "{}", ran.stdout);
    } else {
        let warnings: Vec<_> = ran.stderr.lines().filter(|line| line.contains("LSM-SELINUX")).collect();
        assert!(
            matches!(warnings[..], [line] if line.contains("warning") && line.contains(label)),
            "{ran:?}"
        );
        assert!(!ran.stdout.contains("context="), "{}", ran.stdout);
    }
}

#[test]
fn the_cgroup_mount_is_read_only() {
    bryo_only!("runc 1.1 leaves a writable tmpfs there where the host has cgroup v1");
    let lab = Lab::new();
    let bundle = lab.bundle().namespace("cgroup", None).add_mount(json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
    }));
    let ran = bundle.sh("mkdir /sys/fs/cgroup/moss").run().exits(1);
    assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
}
