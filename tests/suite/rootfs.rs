//! The root file system: its root, its devices, and what of it is hidden or protected.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use serde_json::json;

use crate::lab::{Lab, NONE, bryo_only};

#[test]
fn a_read_only_root_cannot_be_written() {
    let lab = Lab::new();
    let bundle = lab
        .bundle()
        .own_rootfs()
        .with(|c| c["root"]["readonly"] = true.into());
    let rootfs = bundle.rootfs();
    let ran = bundle
        .sh("touch /moss; mount -o remount,rw / ; touch /moss")
        .run()
        .exits(1);
    assert!(
        ran.stderr.contains("Read-only file system"),
        "{}",
        ran.stderr
    );
    assert!(!rootfs.join("moss").exists());
}

#[test]
fn a_writable_root_is_written() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs();
    let rootfs = bundle.rootfs();
    bundle.sh("echo green > /moss").run().ok();
    assert_eq!(fs::read_to_string(rootfs.join("moss")).unwrap(), "green\n");
}

#[test]
fn the_default_devices_are_there_and_work() {
    let lab = Lab::new();
    let expected = [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ];
    for (name, number) in expected {
        let script = format!("test -c /dev/{name} && stat -c %t:%T /dev/{name}");
        lab.bundle()
            .sh(&script)
            .run()
            .prints(&format!("{number}\n"));
    }
    let script = "echo gone > /dev/null; head -c 3 /dev/zero | od -An -tx1; head -c 9 /dev/urandom | wc -c; \
                  echo x > /dev/full";
    let ran = lab.bundle().sh(script).run().exits(1);
    assert_eq!(ran.stdout, " 00 00 00\n9\n", "{ran:?}");
    assert!(
        ran.stderr.contains("No space left on device"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_symlinks_of_dev_are_there() {
    let lab = Lab::new();
    let script =
        "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; echo out > /dev/stdout";
    lab.bundle().sh(script).run().prints(
        "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\nout\n",
    );
}

#[test]
fn new_terminals_can_be_made_inside() {
    let lab = Lab::new();
    lab.bundle()
        .sh("exec 3<> /dev/ptmx; ls /dev/pts")
        .run()
        .prints("0\nptmx\n");
}

/// A device that this host has and the runtime does not bring by itself.
fn spare_device() -> (String, u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let names = [
        "fuse",
        "net/tun",
        "kmsg",
        "loop-control",
        "rtc0",
        "hwrng",
        "cpu_dma_latency",
        "vga_arbiter",
    ];
    for name in names {
        let path = format!("/dev/{name}");
        if let Ok(meta) = fs::metadata(&path) {
            if meta.file_type().is_char_device() {
                return (
                    path,
                    nix::sys::stat::major(meta.rdev()),
                    nix::sys::stat::minor(meta.rdev()),
                );
            }
        }
    }
    panic!("this host has none of {names:?} in /dev, and one is needed to hand on");
}

#[test]
fn a_device_of_the_host_is_handed_on() {
    let lab = Lab::new();
    let (path, major, minor) = spare_device();
    let bundle = lab.bundle().with(|c| {
        c["linux"]["devices"] =
            json!([{ "path": path, "type": "c", "major": major, "minor": minor, "fileMode": 438 }]);
    });
    let script = format!("test -c {path} && stat -c %t:%T {path}");
    bundle
        .sh(&script)
        .run()
        .prints(&format!("{major:x}:{minor:x}\n"));
}

#[test]
fn a_device_mode_may_carry_the_type_of_the_file() {
    let lab = Lab::new();
    let (path, major, minor) = spare_device();
    let bundle = lab.bundle().with(|c| {
        c["linux"]["devices"] =
            json!([{ "path": path, "type": "c", "major": major, "minor": minor, "fileMode": 8612 }]);
    });
    bundle.sh(&format!("test -c {path}")).run().ok();
}

#[test]
fn a_device_that_the_host_does_not_have_is_refused_by_name() {
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c["linux"]["devices"] =
            json!([{ "path": "/dev/moss", "type": "c", "major": 250, "minor": 7 }]);
    });
    bundle.run().refuses(1, &["/dev/moss"]);
    assert!(lab.state_entries().is_empty());
}

#[test]
fn a_masked_file_is_empty_and_a_masked_directory_too() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs().with(|c| {
        c["linux"]["maskedPaths"] = json!(["/secret", "/vault", "/proc/cmdline", "/not/there"]);
    });
    let rootfs = bundle.rootfs();
    fs::write(rootfs.join("secret"), "green").unwrap();
    fs::create_dir(rootfs.join("vault")).unwrap();
    fs::write(rootfs.join("vault/secret"), "green").unwrap();
    let script =
        "cat /secret /proc/cmdline; stat -c %t:%T /secret; ls -A /vault; touch /vault/x; echo $?";
    let ran = bundle.sh(script).run().prints("1:3\n1\n");
    assert!(
        ran.stderr.contains("Read-only file system"),
        "{}",
        ran.stderr
    );
    assert!(!rootfs.join("not").exists());
}

#[test]
fn the_default_masks_hide_the_kernels_secrets() {
    let lab = Lab::new();
    let script = "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls -A /sys/firmware | wc -l";
    lab.bundle().sh(script).run().prints("0\n0\n");
}

#[test]
fn a_mask_cannot_be_taken_away_from_inside() {
    let lab = Lab::new();
    let caps = json!(["CAP_SYS_ADMIN"]);
    let bundle = lab.bundle().own_rootfs().with(|c| {
        c["linux"]["maskedPaths"] = json!(["/secret"]);
        for set in ["bounding", "effective", "permitted"] {
            c["process"]["capabilities"][set] = caps.clone();
        }
        c["process"]["capabilities"]["ambient"] = json!([]);
    });
    fs::write(bundle.rootfs().join("secret"), "green").unwrap();
    // An administrator of the container can unmount, which is the spec's way: it is without the capability
    // that the mask holds.
    let plain = lab
        .bundle()
        .own_rootfs()
        .with(|c| c["linux"]["maskedPaths"] = json!(["/secret"]));
    fs::write(plain.rootfs().join("secret"), "green").unwrap();
    let ran = plain.sh("umount /secret; cat /secret").run().prints("");
    assert!(
        ran.stderr.contains("Operation not permitted"),
        "{}",
        ran.stderr
    );
    bundle.sh("cat /secret").run().prints("");
}

#[test]
fn a_read_only_path_cannot_be_written() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs().with(|c| {
        c["linux"]["readonlyPaths"] = json!(["/keep", "/file", "/proc/sys", "/not/there"]);
    });
    let rootfs = bundle.rootfs();
    fs::create_dir(rootfs.join("keep")).unwrap();
    fs::write(rootfs.join("file"), "green\n").unwrap();
    let script = "touch /keep/x; echo x > /file; echo x > /proc/sys/kernel/hostname; cat /file";
    let ran = bundle.sh(script).run().prints("green\n");
    assert_eq!(
        ran.stderr.matches("Read-only file system").count(),
        3,
        "{}",
        ran.stderr
    );
    assert!(!rootfs.join("not").exists());
}

#[test]
fn a_read_only_path_keeps_its_other_flags() {
    let lab = Lab::new();
    let ran = lab
        .bundle()
        .args(["cat", "/proc/self/mountinfo"])
        .run()
        .ok();
    let line = ran
        .stdout
        .lines()
        .find(|l| l.split(' ').nth(4) == Some("/proc/sys"))
        .unwrap();
    assert!(line.split(' ').nth(5).unwrap().starts_with("ro"), "{line}");
}

#[test]
fn propagation_of_the_root_is_set() {
    let lab = Lab::new();
    for (word, expected) in [
        ("", &["", "master"][..]),
        ("private", &[""]),
        ("rprivate", &[""]),
        ("slave", &["", "master"]),
        ("rslave", &["", "master"]),
    ] {
        let bundle = lab
            .bundle()
            .with(|c| c["linux"]["rootfsPropagation"] = word.into());
        let ran = bundle.args(["cat", "/proc/self/mountinfo"]).run().ok();
        let line = ran
            .stdout
            .lines()
            .find(|l| l.split(' ').nth(4) == Some("/"))
            .unwrap();
        let field = line
            .split(" - ")
            .next()
            .unwrap()
            .split(' ')
            .nth(6)
            .unwrap_or_default();
        assert!(
            expected.contains(&field.split(':').next().unwrap()),
            "{word}: {line}"
        );
    }
}

#[test]
fn a_root_may_be_shared_or_unbindable() {
    bryo_only!("runc 1.1 leaves it private instead of shared, and cannot bind it when unbindable");
    let lab = Lab::new();
    for (word, expected) in [
        ("shared", " shared:"),
        ("rshared", " shared:"),
        ("unbindable", " unbindable "),
        ("runbindable", " unbindable "),
    ] {
        let bundle = lab
            .bundle()
            .with(|c| c["linux"]["rootfsPropagation"] = word.into());
        let ran = bundle.args(["cat", "/proc/self/mountinfo"]).run().ok();
        let line = ran
            .stdout
            .lines()
            .find(|l| l.split(' ').nth(4) == Some("/"))
            .unwrap();
        assert!(line.contains(expected), "{word}: {line}");
    }
}

#[test]
fn an_unknown_propagation_of_the_root_is_refused() {
    let lab = Lab::new();
    let bundle = lab
        .bundle()
        .with(|c| c["linux"]["rootfsPropagation"] = "moss".into());
    bundle.run().refuses(1, &["rootfsPropagation"]);
}

#[test]
fn no_pivot_gives_the_same_view() {
    let lab = Lab::new();
    let bundle = lab
        .bundle()
        .sh("ls /; ls /etc; cat /proc/1/cmdline > /dev/null");
    let plain = bundle.run().ok();
    let moved = bundle.call("run", ["--no-pivot"]).done().ok();
    assert_eq!(moved.stdout, plain.stdout);
}

#[test]
fn dot_dot_of_the_root_is_the_root() {
    let lab = Lab::new();
    lab.bundle()
        .sh("ls -id / /.. /../.. | awk '{print $1}' | uniq | wc -l")
        .run()
        .prints("1\n");
}

#[test]
fn a_root_file_system_without_mount_points_gets_them() {
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs();
    let rootfs = bundle.rootfs();
    for dir in ["proc", "dev", "sys"] {
        fs::remove_dir(rootfs.join(dir)).unwrap();
    }
    bundle
        .sh("test -e /proc/self/status && test -c /dev/null")
        .run()
        .ok();
    assert!(Path::new(&rootfs).join("proc").is_dir());
}

#[test]
fn files_of_the_container_belong_to_the_mapped_ids() {
    use std::os::unix::fs::MetadataExt;
    let lab = Lab::new();
    let bundle = lab.bundle().subids().own_rootfs().with(|c| {
        for set in ["bounding", "effective", "permitted"] {
            crate::lab::push(&mut c["process"]["capabilities"][set], json!("CAP_CHOWN"));
        }
    });
    let maps = bundle.config["linux"]["uidMappings"].clone();
    let rootfs = bundle.rootfs();
    bundle
        .sh("touch /zero /one; chown 1000:1000 /one; stat -c %u:%g /zero /one")
        .run()
        .prints("0:0\n1000:1000\n");
    assert_eq!(
        fs::metadata(rootfs.join("zero")).unwrap().uid(),
        nix::unistd::geteuid().as_raw()
    );
    let start = maps[1]["hostID"].as_u64().unwrap() as u32;
    assert_eq!(fs::metadata(rootfs.join("one")).unwrap().uid(), start + 999);
}

#[test]
fn the_callers_mounts_stay_as_they_were() {
    let lab = Lab::new();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let c = lab.bundle().sleeps().detach();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    c.remove();
    lab.bundle().call("run", NONE).done().ok();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

#[test]
fn a_config_without_a_root_or_mounts_is_told_what_is_missing() {
    bryo_only!("runc 1.1 dies of a nil pointer without root");
    let lab = Lab::new();
    let bundle = lab.bundle().with(|c| {
        c.as_object_mut().unwrap().remove("root");
    });
    bundle.run().refuses(1, &["root"]);
    let bundle = lab.bundle().with(|c| {
        c.as_object_mut().unwrap().remove("mounts");
        c["linux"]["maskedPaths"] = json!([]);
        c["linux"]["readonlyPaths"] = json!([]);
    });
    bundle.sh("echo bare").run().prints("bare\n");
}
