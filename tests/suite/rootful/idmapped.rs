//! Mounts whose files show other ids, as root: by maps of their own, by the container's, and where they cannot.
//! What a plain user may do of it is in `crate::idmapped`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::rootful;
use crate::lab::{Bundle, Lab};

/// A directory with three files, of uids 100 to 102 and gids 210, 220 and 230.
fn volume(lab: &Lab, name: &str) -> PathBuf {
    let dir = lab.dir.join(name);
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    for n in 0..3 {
        let file = dir.join(n.to_string());
        fs::write(&file, "").unwrap();
        chown(&file, Some(100 + n), Some(210 + 10 * n)).unwrap();
    }
    dir
}

/// Lines of `ON_DISK SHOWN COUNT`, as config.json has them.
fn map(lines: &[[u32; 3]]) -> Value {
    lines
        .iter()
        .map(|[disk, shown, size]| json!({ "containerID": disk, "hostID": shown, "size": size }))
        .collect()
}

fn mount(source: &Path, options: &[&str]) -> Value {
    json!({ "destination": "/mnt", "type": "none", "source": source, "options": options })
}

fn mapped(source: &Path, options: &[&str], uids: &[[u32; 3]], gids: &[[u32; 3]]) -> Value {
    let mut mount = mount(source, options);
    mount["uidMappings"] = map(uids);
    mount["gidMappings"] = map(gids);
    mount
}

/// A bundle with a user namespace whose ids begin at 100000.
fn with_ids(lab: &Lab) -> Bundle<'_> {
    // Its root has to get to the bundle.
    fs::set_permissions(&lab.dir, fs::Permissions::from_mode(0o755)).unwrap();
    rootful(lab).own_rootfs().namespace("user", None).with(|c| {
        c["linux"]["uidMappings"] = map(&[[0, 100_000, 65536]]);
        c["linux"]["gidMappings"] = map(&[[0, 100_000, 65536]]);
    })
}

const OWNERS: &str = "stat -c %u:%g /mnt/0 /mnt/1 /mnt/2";

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn files_show_the_ids_that_a_map_gives_them() {
    let lab = Lab::new();
    let dir = volume(&lab, "volume");
    let mount = mapped(
        &dir,
        &["bind"],
        &[[100, 1000, 1], [101, 2000, 1], [102, 3000, 1]],
        &[[210, 1100, 10], [220, 2200, 10]],
    );
    let bundle = rootful(&lab).add_mount(mount);
    // What no line has is nobody's, and so may not even be given to somebody.
    bundle.sh(OWNERS).run().prints("1000:1100\n2000:2200\n3000:65534\n");
    // Outside, nothing has changed.
    assert_eq!(fs::metadata(dir.join("0")).unwrap().uid(), 100);
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_map_leads_to_ids_of_the_host_also_where_the_container_has_others() {
    let lab = Lab::new();
    let dir = volume(&lab, "volume");
    let bundle = with_ids(&lab).add_mount(mapped(
        &dir,
        &["bind", "idmap"],
        &[[100, 101_000, 2], [102, 5, 1]],
        &[[210, 102_000, 30]],
    ));
    bundle.sh(OWNERS).run().prints("1000:2000\n1001:2010\n65534:2020\n");
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn without_maps_of_its_own_a_mount_takes_the_containers_and_what_is_written_is_the_hosts() {
    let lab = Lab::new();
    let dir = volume(&lab, "volume");
    let script = format!("{OWNERS}; touch /mnt/new && chown 7:8 /mnt/0 && stat -c %u:%g /mnt/new /mnt/0");
    let all = json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"]);
    let bundle = with_ids(&lab).add_mount(mount(&dir, &["bind", "idmap"])).with(|c| {
        c["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
    });
    bundle.sh(&script).run().prints("100:210\n101:220\n102:230\n0:0\n7:8\n");
    let owner = |name: &str| {
        let meta = fs::metadata(dir.join(name)).unwrap();
        (meta.uid(), meta.gid())
    };
    assert_eq!((owner("new"), owner("0")), ((0, 0), (7, 8)));
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn one_source_may_be_shown_in_several_ways_and_as_it_is() {
    let lab = Lab::new();
    let dir = volume(&lab, "volume");
    let mut bundle = rootful(&lab).own_rootfs();
    for (n, at) in ["/a", "/b", "/c"].into_iter().enumerate() {
        let first = 1000 * (n as u32 + 1);
        let mut mount = mapped(&dir, &["bind"], &[[100, first, 3]], &[[210, first, 30]]);
        mount["destination"] = at.into();
        bundle = bundle.add_mount(mount);
    }
    let script = "stat -c %u:%g /a/1 /b/1 /c/1 /mnt/1";
    bundle
        .add_mount(mount(&dir, &["bind"]))
        .sh(script)
        .run()
        .prints("1001:1010\n2001:2010\n3001:3010\n101:220\n");
}

/// Runs a bundle whose source has a tmpfs with a file of uid 100 mounted on its `below`, out of sight of others.
fn with_something_beneath(bundle: &Bundle<'_>, source: &Path) -> String {
    let below = source.join("below");
    fs::create_dir(&below).unwrap();
    let below = below.display();
    let script = format!("mount -t tmpfs below {below}; touch {below}/file; chown 100:210 {below}/file");
    let call = bundle.call("run", crate::lab::NONE).after_shell(&script);
    call.under(["unshare", "--mount", "--propagation", "private"]).done().ok().stdout
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn what_is_mounted_beneath_takes_part_only_where_that_is_asked_for() {
    let script = "stat -c %u:%g /mnt/0 /mnt/below/file";
    let maps = (&[[100, 1100, 1]], &[[210, 1210, 1]]);
    for (words, wanted) in
        [(["rbind", "idmap"], "1100:1210\n100:210\n"), (["rbind", "ridmap"], "1100:1210\n1100:1210\n")]
    {
        let lab = Lab::new();
        let dir = volume(&lab, "volume");
        let bundle = rootful(&lab).add_mount(mapped(&dir, &words, maps.0, maps.1)).sh(script);
        assert_eq!(with_something_beneath(&bundle, &dir), wanted, "{words:?}");
    }
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn the_containers_maps_reach_beneath_where_that_is_asked_for() {
    let lab = Lab::new();
    let dir = volume(&lab, "volume");
    let bundle = with_ids(&lab)
        .add_mount(mount(&dir, &["rbind", "ridmap"]))
        .sh("stat -c %u:%g /mnt/0 /mnt/below/file");
    assert_eq!(with_something_beneath(&bundle, &dir), "100:210\n100:210\n");
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn the_other_options_of_a_mount_hold_as_well() {
    let lab = Lab::new();
    let dir = volume(&lab, "volume");
    let words = ["bind", "idmap", "ro", "nosuid", "noexec", "nodev", "shared"];
    let bundle = with_ids(&lab).add_mount(mount(&dir, &words));
    let script = format!("grep ' /mnt ' /proc/self/mountinfo; {OWNERS}; touch /mnt/new");
    let ran = bundle.sh(&script).run().exits(1);
    let (line, owners) = ran.stdout.split_once('\n').unwrap();
    let options: Vec<_> = line.split(' ').nth(5).unwrap().split(',').collect();
    for word in ["ro", "nosuid", "noexec", "nodev", "idmapped"] {
        assert!(options.contains(&word), "{word} in {line}");
    }
    assert!(line.contains(" shared:"), "{line}");
    assert_eq!(owners, "100:210\n101:220\n102:230\n");
    assert!(ran.stderr.contains("Read-only file system"), "{ran:?}");
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn the_maps_of_a_user_namespace_that_is_joined_are_taken_too() {
    let lab = Lab::new();
    let dir = volume(&lab, "volume");
    let other = with_ids(&lab).sleeps().detach();
    let path = format!("/proc/{}/ns/user", other.pid());
    let bundle = with_ids(&lab).namespace("user", Some(&path)).add_mount(mount(&dir, &["bind", "idmap"]));
    let bundle = bundle.with(|c| {
        c["linux"]["uidMappings"] = Value::Null;
        c["linux"]["gidMappings"] = Value::Null;
    });
    let bundle = bundle.sh(OWNERS);
    bundle.run().prints("100:210\n101:220\n102:230\n");
    // And maps of its own lead to the host's ids, there as anywhere.
    let last = bundle.config["mounts"].as_array().unwrap().len() - 1;
    let bundle = bundle.with(|c| {
        c["mounts"][last] = mapped(&dir, &["bind"], &[[100, 100_007, 3]], &[[210, 100_008, 30]]);
    });
    bundle.run().prints("7:8\n8:18\n9:28\n");
    other.remove();
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_source_that_only_the_caller_reaches_can_have_other_ids() {
    let lab = Lab::new();
    let private = lab.dir.join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let dir = volume(&lab, "private/volume");
    let bundle = with_ids(&lab).add_mount(mount(&dir, &["bind", "idmap", "ro"]));
    bundle.sh(OWNERS).run().prints("100:210\n101:220\n102:230\n");
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_single_file_can_have_other_ids() {
    let lab = Lab::new();
    let file = volume(&lab, "volume").join("1");
    let mut mount = mapped(&file, &["bind", "idmap"], &[[101, 9, 1]], &[[220, 8, 1]]);
    mount["destination"] = "/etc/passwd".into();
    rootful(&lab).add_mount(mount).sh("stat -c %u:%g /etc/passwd").run().prints("9:8\n");
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn the_inline_form_of_crun_works_absolute_and_relative_to_the_container() {
    let lab = Lab::new();
    let dir = volume(&lab, "volume");
    let words = ["bind", "idmap=uids=100-1000-1#101-2000-2;gids=210-1100-30"];
    rootful(&lab).add_mount(mount(&dir, &words)).sh(OWNERS).run().prints("1000:1100\n2000:1110\n2001:1120\n");
    let words = ["bind", "idmap=uids=@100-7-3;gids=@210-8-30"];
    with_ids(&lab).add_mount(mount(&dir, &words)).sh(OWNERS).run().prints("7:8\n8:18\n9:28\n");
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_file_system_of_the_containers_own_can_have_other_ids() {
    let lab = Lab::new();
    let bundle = with_ids(&lab);
    fs::create_dir(bundle.rootfs().join("own")).unwrap();
    let own =
        json!({ "destination": "/own", "type": "tmpfs", "source": "own", "options": ["uid=5", "gid=6"] });
    let shown = mapped(&bundle.rootfs().join("own"), &["bind"], &[[5, 100_050, 1]], &[[6, 100_060, 1]]);
    bundle.add_mount(own).add_mount(shown).sh("stat -c %u:%g /own /mnt").run().prints("5:6\n50:60\n");
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_file_system_that_cannot_do_it_is_named() {
    let lab = Lab::new();
    let maps = (&[[0, 0, 1]], &[[0, 0, 1]]);
    let mut mount = mapped(Path::new("/proc/version"), &["bind"], maps.0, maps.1);
    mount["destination"] = "/etc/passwd".into();
    let ran = rootful(&lab).add_mount(mount).run();
    ran.refuses(1, &["/etc/passwd", "nvalid argument"]).in_bryos_words(&[
        "MNT-IDMAP",
        "/proc/version",
        "; fix: ",
    ]);
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn a_mount_that_has_other_ids_already_is_refused() {
    let lab = Lab::new();
    let dir = volume(&lab, "volume");
    let bundle = rootful(&lab).own_rootfs();
    let mut first = mapped(&dir, &["bind"], &[[100, 1000, 3]], &[[210, 1000, 30]]);
    first["destination"] = "/first".into();
    let again = mapped(&bundle.rootfs().join("first"), &["bind"], &[[0, 5, 1]], &[[0, 5, 1]]);
    let ran = bundle.add_mount(first).add_mount(again).run();
    ran.refuses(1, &["peration not permitted"]).in_bryos_words(&["MNT-IDMAP", "already"]);
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn maps_that_make_no_sense_are_refused() {
    crate::lab::bryo_only!("runc 1.1 knows no mappings of mounts, and crun has other words");
    let lab = Lab::new();
    let dir = volume(&lab, "volume");
    let one: &[[u32; 3]] = &[[0, 0, 1]];
    let overlapping: &[[u32; 3]] = &[[0, 0, 10], [5, 20, 10]];
    for (mount, word) in [
        (mapped(&dir, &["bind"], one, &[]), "not of both"),
        (mapped(&dir, &["bind"], &[], one), "not of both"),
        (mapped(&dir, &["bind"], &[[0, 0, 0]], one), "size 0"),
        (mapped(&dir, &["bind"], overlapping, one), "invalid argument"),
        (mapped(&dir, &["bind", "idmap=uids=0-0-1"], one, one), "both say"),
        (mount(&dir, &["bind", "idmap=uids=0-0-1"]), "not of both"),
        (mount(&dir, &["bind", "ridmap=uids=0-0"]), "ON_DISK-ON_HOST-COUNT"),
        (mount(&dir, &["bind", "idmap"]), "no user namespace"),
        (mount(&dir, &["remount", "bind", "idmap"]), "only a bind mount"),
        (json!({ "destination": "/mnt", "type": "tmpfs", "options": ["idmap"] }), "only a bind mount"),
    ] {
        let ran = rootful(&lab).add_mount(mount).run();
        ran.refuses(1, &["MNT-IDMAP", "/mnt", word]);
    }
}

#[test]
#[ignore = "needs root; scripts/test runs it"]
fn many_mounts_leave_no_descriptor_open() {
    let lab = Lab::new();
    let dir = volume(&lab, "volume");
    let mut bundle = with_ids(&lab);
    for n in 0..20 {
        let first = 100_000 + 10 * n;
        let mut mount = mapped(&dir, &["bind"], &[[100, first, 3]], &[[210, first, 30]]);
        fs::create_dir_all(bundle.rootfs().join(format!("many/{n}"))).unwrap();
        mount["destination"] = format!("/many/{n}").into();
        bundle = bundle.add_mount(mount);
    }
    let limit = json!([{ "type": "RLIMIT_NOFILE", "soft": 20, "hard": 20 }]);
    let bundle = bundle.with(|c| c["process"]["rlimits"] = limit);
    // Three streams, and what ls opens.
    bundle.sh("stat -c %u /many/0/0 /many/19/0; ls /proc/self/fd | wc -l").run().prints("0\n190\n4\n");
}
