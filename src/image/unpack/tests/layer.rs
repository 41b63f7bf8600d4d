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
