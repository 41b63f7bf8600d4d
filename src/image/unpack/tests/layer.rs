//! Trees that overlayfs stacks.

use super::*;

const OPAQUE: &CStr = c"user.overlay.opaque";

#[test]
fn whiteouts_become_devices_and_opaque_marks_become_attributes() {
    let place = Place::new();
    place.layer(
        Tar::new()
            .file("d/.wh.gone", "")
            .file(".wh.old", "")
            .directory("o")
            .file("o/.wh..wh..opq", "")
            .file("o/new", "2"),
    );
    let wanted = [("d", "d"), ("d/gone", "w"), ("old", "w"), ("o", "d"), ("o/new", "f 2")];
    assert_eq!(place.list(), listed(&wanted));
    assert_eq!(place.attribute("o", OPAQUE).unwrap(), b"y");
    assert_eq!(place.attribute("d", OPAQUE), None);
}

#[test]
fn what_a_layer_brings_itself_takes_the_place_of_its_whiteout_whatever_the_order() {
    let brought = |tar: Tar| tar.file("f", "2").directory("d").file("d/new", "2").file("implied/new", "2");
    let whiteouts = |tar: Tar| tar.file(".wh.f", "").file(".wh.d", "").file(".wh.implied", "");
    for tar in [brought(whiteouts(Tar::new())), whiteouts(brought(Tar::new()))] {
        let place = Place::new();
        place.layer(tar);
        let wanted = [("f", "f 2"), ("d", "d"), ("d/new", "f 2"), ("implied", "d"), ("implied/new", "f 2")];
        assert_eq!(place.list(), listed(&wanted));
        // What lower layers have in these directories is gone.
        assert_eq!(place.attribute("d", OPAQUE).unwrap(), b"y");
        assert_eq!(place.attribute("implied", OPAQUE).unwrap(), b"y");
    }
}

#[test]
fn there_are_no_whiteouts_in_an_opaque_directory() {
    // overlayfs would show them.
    let whiteouts = |tar: Tar| tar.file("o/.wh.x", "").file("o/deep/.wh.y", "").file("o/deep/z", "2");
    let opaque = |tar: Tar| tar.file("o/.wh..wh..opq", "");
    for tar in [whiteouts(opaque(Tar::new())), opaque(whiteouts(Tar::new()))] {
        let place = Place::new();
        place.layer(tar);
        let wanted = [("o", "d"), ("o/deep", "d"), ("o/deep/z", "f 2")];
        assert_eq!(place.list(), listed(&wanted));
        assert_eq!(place.attribute("o", OPAQUE).unwrap(), b"y");
    }
}

#[test]
fn a_directory_after_a_file_of_the_same_layer_hides_what_is_below() {
    let place = Place::new();
    place.layer(Tar::new().file("x", "1").directory("x").file("x/y", "2"));
    assert_eq!(place.attribute("x", OPAQUE).unwrap(), b"y");
    place.assert_outside_is_untouched();
}

#[test]
fn a_new_entry_of_an_opaque_directory_leaves_it_opaque() {
    let place = Place::new();
    place.layer(Tar::new().file("o/.wh..wh..opq", "").add(Header::new(b'5', "o").mode(0o700), b""));
    assert_eq!((place.attribute("o", OPAQUE).unwrap(), place.mode("o")), (b"y".to_vec(), 0o700));
}

#[test]
fn an_opaque_root_can_be_told() {
    let place = Place::new();
    let root = File::open(&place.root).unwrap();
    assert!(!hides_all_below(root.as_fd(), true).unwrap());
    place.layer(Tar::new().file(".wh..wh..opq", "").file("only", "2"));
    assert!(hides_all_below(root.as_fd(), true).unwrap());
    assert_eq!(place.list(), listed(&[("only", "f 2")]));
}

#[test]
fn a_hard_link_out_of_the_layer_is_refused_with_its_reason() {
    let place = Place::new();
    let tar = Tar::new().link("new", "usr/bin/old").end();
    let error = place.unpack(&tar, Form::Layer { userxattr: true }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot unpack new: it is another name of usr/bin/old, which this layer does not have: \
         no such file or directory"
    );
}

#[test]
fn a_layer_goes_to_an_empty_directory() {
    let place = Place::new();
    place.layer(Tar::new().file("x", "1"));
    let error = place.unpack(&Tar::new().end(), Form::Layer { userxattr: true }).unwrap_err();
    assert_eq!(error.to_string(), "cannot unpack a layer: directory not empty");
}

/// Two layers, and a third with what is given.
fn stacked(third: Tar) -> Place {
    let form = Form::Layer { userxattr: true };
    let (low, high, place) = (Place::new(), Place::new(), Place::new());
    low.layer(
        Tar::new()
            .add(Header::new(b'5', "./").mode(0o711).mtime(10), b"")
            .add(Header::new(b'5', "tmp").mode(0o1777).mtime(20), b"")
            .directory("usr")
            .add(Header::new(b'5', "usr/lib").mode(0o750).mtime(30), b"")
            .symlink("lib", "usr/lib")
            .directory("gone")
            .symlink("up", "/usr/../lib/.."),
    );
    let upper = Tar::new()
        .pax(&[("SCHILY.xattr.user.moss", b"green")])
        .add(Header::new(b'5', "tmp").mode(0o1770).mtime(21), b"")
        .file(".wh.gone", "");
    high.unpack_on(&Merged::open(std::slice::from_ref(&low.root)).unwrap(), &upper.end(), form).unwrap();
    let below = Merged::open(&[low.root.clone(), high.root.clone()]).unwrap();
    place.unpack_on(&below, &third.end(), form).unwrap();
    place
}

#[test]
fn a_directory_without_an_entry_is_what_it_is_below() {
    let place =
        stacked(Tar::new().file("tmp/x", "").file("usr/lib/.wh.y", "").file("gone/x", "").file("new/x", ""));
    assert_eq!((place.mode("tmp"), place.mtime("tmp")), (0o1770, (21, 0)));
    assert_eq!(place.attribute("tmp", c"user.moss").unwrap(), b"green");
    assert_eq!((place.mode("usr/lib"), place.mtime("usr/lib")), (0o750, (30, 0)));
    assert_eq!((place.mode(""), place.mtime("")), (0o711, (10, 0)));
    for none in ["gone", "new"] {
        assert_eq!((place.mode(none), place.mtime(none)), (0o755, (0, 0)), "{none}");
    }
}

#[test]
fn links_of_lower_layers_are_followed_on_the_way() {
    let place =
        stacked(Tar::new().file("lib/x", "3").file("lib/.wh.y", "").file("up/z", "3").file("lib/x2", "3"));
    let wanted = [
        ("usr", "d"),
        ("usr/lib", "d"),
        ("usr/lib/x", "f 3"),
        ("usr/lib/x2", "f 3"),
        ("usr/lib/y", "w"),
        ("usr/z", "f 3"),
    ];
    assert_eq!(place.list(), listed(&wanted));
    assert_eq!(place.mode("usr/lib"), 0o750);
}

#[test]
fn what_a_layer_says_itself_hides_the_links_below() {
    let place = stacked(Tar::new().directory("lib").file("lib/x", "3").file(".wh.up", "").file("up/z", "3"));
    assert_eq!(place.list(), listed(&[("lib", "d"), ("lib/x", "f 3"), ("up", "d"), ("up/z", "f 3")]));
    let place = stacked(Tar::new().file(".wh..wh..opq", "").file("lib/x", "3"));
    assert_eq!((place.list(), place.mode("lib")), (listed(&[("lib", "d"), ("lib/x", "f 3")]), 0o755));
}
