//! Layers that are applied to what the ones before have left.

use super::*;

fn lower() -> Tar {
    Tar::new()
        .add(Header::new(b'5', "d").mtime(50), b"")
        .file("d/kept", "1")
        .file("d/gone", "1")
        .directory("d/deep")
        .directory("d/deep/er")
        .file("d/deep/er/file", "1")
        .file("f", "1")
        .link("f2", "f")
        .symlink("s", "d")
}

#[test]
fn whiteouts_remove_what_lower_layers_have() {
    let place = Place::new();
    place.flat(lower());
    place.flat(
        Tar::new().file("d/.wh.gone", "").file("d/.wh.deep", "").file(".wh.nothing", "").file(".wh.s", ""),
    );
    assert_eq!(
        place.list(),
        listed(&[("d", "d"), ("d/kept", "f 1"), ("f", "f 1"), ("f2", "f 1")]),
        "and no whiteout is left"
    );
    assert_eq!(place.mtime("d"), (50, 0), "no entry has changed the directory");
}

#[test]
fn a_whiteout_leaves_what_its_own_layer_brings_whatever_the_order() {
    let brought = |tar: Tar| tar.directory("d").file("d/new", "2").file("f", "2");
    let whiteouts = |tar: Tar| tar.file(".wh.d", "").file(".wh.f", "");
    let wanted = listed(&[("d", "d"), ("d/new", "f 2"), ("f", "f 2"), ("f2", "f 1"), ("s", "l d")]);
    for tar in [brought(whiteouts(Tar::new())), whiteouts(brought(Tar::new()))] {
        let place = Place::new();
        place.flat(lower());
        place.flat(tar);
        assert_eq!(place.list(), wanted);
    }
}

#[test]
fn an_opaque_directory_keeps_only_what_its_own_layer_brings_whatever_the_order() {
    let brought = |tar: Tar| tar.file("d/deep/new", "2");
    let opaque = |tar: Tar| tar.add(Header::new(b'0', "d/.wh..wh..opq"), b"");
    let wanted =
        [("d", "d"), ("d/deep", "d"), ("d/deep/new", "f 2"), ("f", "f 1"), ("f2", "f 1"), ("s", "l d")];
    for tar in [brought(opaque(Tar::new())), opaque(brought(Tar::new()))] {
        let place = Place::new();
        place.flat(lower());
        place.flat(tar);
        assert_eq!(place.list(), listed(&wanted));
        assert_eq!(place.mtime("d"), (50, 0));
    }
    // At the root it takes everything.
    let place = Place::new();
    place.flat(lower());
    place.flat(Tar::new().file("only", "2").file(".wh..wh..opq", ""));
    assert_eq!(place.list(), listed(&[("only", "f 2")]));
}

#[test]
fn whiteouts_in_the_first_layer_mean_nothing() {
    let place = Place::new();
    place.flat(lower().file(".wh.f", "").file("d/.wh..wh..opq", "").file("nowhere/.wh.x", ""));
    let expected = Place::new();
    expected.flat(lower());
    assert_eq!(place.list(), expected.list());
}

#[test]
fn one_kind_of_file_takes_the_place_of_another() {
    let kinds = |name: &str| {
        [
            Tar::new().file(name, "new"),
            Tar::new().directory(name),
            Tar::new().symlink(name, "target"),
            Tar::new().add(Header::new(b'6', name), b""),
            Tar::new().link(name, "other"),
        ]
    };
    for (old, before) in kinds("x").into_iter().enumerate() {
        for (new, after) in kinds("x").into_iter().enumerate() {
            let place = Place::new();
            place.flat(Tar(Tar::new()
                .file("other", "linked")
                .0
                .into_iter()
                .chain(before.0.clone())
                .collect()));
            if old == 1 {
                place.flat(Tar::new().file("x/inside", "old"));
            }
            place.flat(after);
            let told = ["f new", "d", "l target", "?", "f linked"][new];
            assert_eq!(place.list()["x"], told, "{old} then {new}");
            assert_eq!(place.exists("x/inside"), old == 1 && new == 1, "{old} then {new}");
        }
    }
}

#[test]
fn the_last_of_several_entries_holds() {
    let place = Place::new();
    place.flat(
        Tar::new()
            .file("f", "1")
            .file("f", "2")
            .add(Header::new(b'5', "d").mode(0o700).mtime(5), b"")
            .file("d/x", "1")
            .add(Header::new(b'5', "d").mode(0o711).mtime(6), b"")
            .file("other", "1")
            .file("d/y", "1"),
    );
    assert_eq!(place.read("f"), "2");
    assert_eq!((place.mode("d"), place.mtime("d")), (0o711, (6, 0)));
    assert!(place.exists("d/x") && place.exists("d/y"));
}

#[test]
fn a_new_file_does_not_change_those_that_shared_its_inode() {
    let place = Place::new();
    place.flat(lower());
    place.flat(Tar::new().file("f", "2"));
    assert_eq!((place.read("f"), place.read("f2")), ("2".into(), "1".into()));
}

#[test]
fn a_hard_link_may_lead_to_a_lower_layer() {
    let place = Place::new();
    place.flat(lower());
    place.flat(Tar::new().link("again", "/d/../f").link("through", "s/kept"));
    assert_eq!(fs::metadata(place.path("again")).unwrap().nlink(), 3);
    assert_eq!(place.read("through"), "1");
    // The link itself, not what it leads to.
    place.flat(Tar::new().link("soft", "s"));
    assert_eq!(place.list()["soft"], "l d");
}

#[test]
fn directories_keep_their_times_when_layers_come_back_to_them() {
    let place = Place::new();
    let dir = |name, mtime| Header::new(b'5', name).mtime(mtime);
    place.flat(
        Tar::new()
            .add(dir("a", 10), b"")
            .add(dir("a/b", 20), b"")
            .file("a/b/c", "")
            .add(dir("x", 30), b"")
            .file("a/late", "")
            .file("a/b/late", ""),
    );
    place.flat(Tar::new().file("a/b/second", "").file("x/second", "").file("a/.wh.late", ""));
    assert_eq!(place.mtime("a"), (10, 0));
    assert_eq!(place.mtime("a/b"), (20, 0));
    assert_eq!(place.mtime("x"), (30, 0));
}

#[test]
fn a_directory_loses_the_attributes_that_its_new_entry_does_not_have() {
    let place = Place::new();
    let attribute = "SCHILY.xattr.user.one";
    place.flat(Tar::new().pax(&[(attribute, b"1"), ("SCHILY.xattr.user.two", b"2")]).directory("d"));
    assert_eq!(place.attribute("d", c"user.one").unwrap(), b"1");
    place.flat(Tar::new().pax(&[(attribute, b"new")]).directory("d"));
    assert_eq!(place.attribute("d", c"user.one").unwrap(), b"new");
    assert_eq!(place.attribute("d", c"user.two"), None);
}

#[test]
fn what_is_made_in_a_directory_with_a_default_acl_does_not_get_it() {
    let place = Place::new();
    // Version 2; owner rwx, group rwx, mask rwx, others rwx, and user 0 (mapped everywhere) rwx.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, id) in
        [(1u16, u32::MAX), (2, geteuid().as_raw()), (4, u32::MAX), (16, u32::MAX), (32, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(7u16.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let counts = place.flat(
        Tar::new()
            .pax(&[("SCHILY.xattr.system.posix_acl_default", &acl)])
            .directory("d")
            .file("d/f", "")
            .directory("d/sub")
            .file("d/sub/f", ""),
    );
    assert_eq!(counts.degradations(), []);
    place.flat(Tar::new().file("d/second", "").file("d/implied/f", ""));
    let default = c"system.posix_acl_default";
    assert_eq!(place.attribute("d", default).map(|value| value.len()), Some(acl.len()));
    for name in ["d/f", "d/sub", "d/sub/f", "d/second", "d/implied", "d/implied/f"] {
        assert_eq!(place.attribute(name, c"system.posix_acl_access"), None, "{name}");
        assert_eq!(place.attribute(name, default), None, "{name}");
    }
    assert_eq!((place.mode("d/f"), place.mode("d/sub"), place.mode("d/second")), (0o644, 0o755, 0o644));
}

#[test]
fn attributes_may_hold_anything() {
    let place = Place::new();
    let counts = place.flat(
        Tar::new()
            .pax(&[("SCHILY.xattr.user.odd", b"\n27 path=elsewhere\n\0=\xff")])
            .file("f", "x")
            .pax(&[("SCHILY.xattr.user.empty", b""), ("SCHILY.xattr.user.a=b", b"not what it seems")])
            .directory("d"),
    );
    assert_eq!(place.attribute("f", c"user.odd").unwrap(), b"\n27 path=elsewhere\n\0=\xff");
    assert_eq!(place.attribute("d", c"user.empty").unwrap(), b"");
    // The first equals sign ends the name, as everywhere.
    assert_eq!(place.attribute("d", c"user.a").unwrap(), b"b=not what it seems");
    assert_eq!(counts.degradations(), []);
}

#[test]
fn attributes_that_steer_overlay_file_systems_are_left_out_and_counted() {
    let place = Place::new();
    let steering = [
        "user.overlay.opaque",
        "user.overlay.redirect",
        "user.overlay.overlay.opaque",
        "trusted.overlay.opaque",
        "trusted.overlay.metacopy",
        "user.fuseoverlayfs.opaque",
        "user.containers.override_stat",
    ];
    let keys: Vec<String> = steering.iter().map(|name| format!("SCHILY.xattr.{name}")).collect();
    let records: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &b"y"[..])).collect();
    let machine = ("SCHILY.xattr.security.selinux", &b"a_label"[..]);
    let counts = place.flat(Tar::new().pax(&[&records[..], &[machine]].concat()).directory("d"));
    for name in steering {
        let name = CString::new(name).unwrap();
        assert_eq!(place.attribute("d", &name), None, "{name:?}");
    }
    let [told] = &counts.degradations()[..] else { panic!("{counts:?}") };
    assert_eq!(
        told.warning().unwrap(),
        "IMG-XATTR: files without them, wanted 7 extended attributes: they cannot be set here \
         (the first is \"user.overlay.opaque\" of \"d\": operation not permitted); fix: unpack it on another file system, or \
         as root of the machine"
    );
}

#[test]
fn a_device_that_cannot_be_made_is_an_empty_file_and_told() {
    let place = Place::new();
    let device = |flag, name, minor: &str| {
        Header::new(flag, name).mode(0o666).mtime(42).put(329, b"0000001\0").put(337, minor)
    };
    let whiteout = device(b'3', "zero", "0000000\0").put(329, b"0000000\0");
    let counts = place.flat(
        Tar::new()
            .file("null", "lower")
            .add(device(b'3', "null", "0000003\0"), b"")
            .add(device(b'4', "ram", "0000001\0"), b"")
            .add(whiteout, b""),
    );
    // overlayfs' whiteout is never made from a device, whoever we are.
    assert_eq!(place.list()["zero"], "f ");
    let made = fs::symlink_metadata(place.path("null")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.mtime()), (0o666, 42));
    let told = counts.degradations()[0].warning().unwrap();
    if made.file_type().is_char_device() {
        assert!(geteuid().is_root());
        assert!(told.contains("1 device:") && told.contains("zero"), "{told}");
    } else {
        assert_eq!(
            told,
            "IMG-DEVICE: empty files in their place, wanted 3 devices: a user namespace makes no devices \
             (the first is \"null\"); fix: unpack it as root of the machine"
        );
        assert_eq!(place.list()["null"], "f ");
    }
}

#[test]
fn ids_that_do_not_exist_here_are_refused_or_become_the_only_one() {
    let place = Place::new();
    // Beyond what octal digits hold, and the number that stands for none.
    let nobody = || Tar::new().pax(&[("uid", b"4294967295")]).file("f", "");
    let root = File::open(&place.root).unwrap();
    let ids = Ids::here().unwrap();
    let error =
        unpack(&nobody().end()[..], root.as_fd(), Form::Flat, &nothing(), &ids, &mut |_| {}).unwrap_err();
    let error = error.to_string();
    assert!(
        error
            .starts_with("cannot unpack f: ID-UNMAPPED: it belongs to uid 4294967295, and the uids here are"),
        "{error}"
    );
    assert!(error.contains("--add-subuids"), "{error}");
    let tar = nobody().file("g", "").end();
    let counts = unpack(&tar[..], root.as_fd(), Form::Flat, &nothing(), &Ids::single(), &mut |_| {}).unwrap();
    assert_eq!(fs::metadata(place.path("f")).unwrap().uid(), geteuid().as_raw());
    assert_eq!(
        counts.degradations()[0].warning().unwrap(),
        "IMG-OWNER: everything is root's, wanted the owners of 1 file: there is only one id here \
         (the first is 4294967295:0 of \"f\"); fix: have subordinate ids, and what maps them: see bryo doctor"
    );
}

#[test]
fn what_layers_lose_adds_up() {
    let place = Place::new();
    let steering =
        |name: &str| Tar::new().pax(&[("SCHILY.xattr.user.overlay.opaque", b"y")]).file(name, "12");
    let mut counts = place.flat(Tar::new());
    counts.add(place.flat(steering("first")));
    counts.add(place.flat(steering("second")));
    assert_eq!((counts.entries, counts.bytes), (2, 4));
    let told = counts.degradations()[0].warning().unwrap();
    assert!(told.contains("2 extended attributes") && told.contains("\"first\""), "{told}");
}
