//! Archives of those who want to write elsewhere.

use super::*;

/// Unpacks it in both forms; fails if anything outside has changed. The answers are those of the forms.
fn stays_inside(tar: &Tar) -> [Result<Counts, Failure>; 2] {
    [Form::Flat, Form::Layer { userxattr: true }].map(|form| {
        let place = Place::new();
        let done = place.unpack(&tar.clone().end(), form);
        place.assert_outside_is_untouched();
        done
    })
}

/// The same, where each entry ends up inside the root.
fn lands_inside(tar: &Tar, wanted: &[(&str, &str)]) {
    for done in stays_inside(tar) {
        done.unwrap();
    }
    let place = Place::new();
    place.flat(tar.clone());
    assert_eq!(place.list(), listed(wanted));
}

fn is_refused(tar: &Tar, why: &str) {
    for done in stays_inside(tar) {
        let error = done.expect_err(why).to_string();
        assert!(error.contains(why) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn dots_do_not_lead_out() {
    let wanted = [("secret", "f new"), ("dir", "d"), ("dir/x", "f new")];
    for prefix in ["../", "/../../", "./../", "a/../../", "//", "/", ".//./"] {
        let tar = Tar::new()
            .file(&format!("{prefix}secret"), "new")
            .directory(&format!("{prefix}dir/"))
            .file(&format!("{prefix}dir//x"), "new");
        lands_inside(&tar, &wanted);
    }
}

#[test]
fn links_on_the_way_do_not_lead_out() {
    let outside = Place::new();
    let absolute = outside.outside.to_str().unwrap().to_owned();
    for target in ["..", "../", "../../../../..", "/", "/..", "../dir", "/dir", ".", "dir", &absolute] {
        let tar = Tar::new()
            .symlink("link", target)
            .file("link/secret", "new")
            .directory("link/dir")
            .file("link/dir/x", "new")
            .file("link/.wh.secret", "")
            .file("link/.wh..wh..opq", "")
            .link("link/hard", "link/secret");
        for done in stays_inside(&tar) {
            done.unwrap_or_else(|error| panic!("{target}: {error}"));
        }
        outside.assert_outside_is_untouched();
    }
}

#[test]
fn links_of_lower_layers_do_not_lead_out() {
    let place = Place::new();
    place.flat(Tar::new().symlink("link", "../..").symlink("abs", "/dir").symlink("secret", "../secret"));
    place.flat(Tar::new().file("link/secret", "new").file("abs/x", "new").file("abs/.wh..wh..opq", ""));
    place.assert_outside_is_untouched();
    let wanted =
        [("link", "l ../.."), ("abs", "l /dir"), ("secret", "f new"), ("dir", "d"), ("dir/x", "f new")];
    assert_eq!(place.list(), listed(&wanted));
}

#[test]
fn a_file_is_never_written_through_a_link() {
    let tar = Tar::new().symlink("secret", "../secret").file("secret", "new");
    lands_inside(&tar, &[("secret", "f new")]);
    let tar = Tar::new().symlink("dir", "../dir").directory("dir").file("dir/x", "new");
    lands_inside(&tar, &[("dir", "d"), ("dir/x", "f new")]);
    // A mode is not given through one either: CVE-2026-46703 and its kin.
    let place = Place::new();
    let before = fs::metadata(place.outside.join("dir")).unwrap().mode();
    place.flat(Tar::new().symlink("d", "../dir").add(Header::new(b'5', "d").mode(0o7777), b""));
    assert_eq!(fs::metadata(place.outside.join("dir")).unwrap().mode(), before);
}

#[test]
fn a_directory_that_becomes_a_link_is_left() {
    let tar = Tar::new()
        .directory("d")
        .file("d/a", "1")
        .symlink("d", "../dir")
        .file("d/b", "2")
        .directory("d/../x/")
        .symlink("x", "..")
        .file("x/secret", "3");
    lands_inside(
        &tar,
        &[("d", "l ../dir"), ("dir", "d"), ("dir/b", "f 2"), ("x", "l .."), ("secret", "f 3")],
    );
}

#[test]
fn links_in_a_circle_are_refused() {
    is_refused(
        &Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", ""),
        "too many levels of symbolic links",
    );
    is_refused(&Tar::new().symlink("a", "a/a/a").file("a/x", ""), "too many levels of symbolic links");
}

#[test]
fn hard_links_do_not_reach_out() {
    for target in
        ["../secret", "/../secret", "../../secret", "dir/../../secret", "/etc/passwd", "link/secret"]
    {
        let tar = Tar::new().symlink("link", "..").link("mine", target).file("mine", "new");
        is_refused(&tar, "cannot unpack mine: it is another name of");
    }
    is_refused(&Tar::new().directory("d").link("x", "d"), "operation not permitted");
    is_refused(&Tar::new().link("x", ""), "operation not permitted");
    is_refused(&Tar::new().link("x", "../.."), "operation not permitted");
    is_refused(&Tar::new().file("x", "1").link("x", "x"), "no such file or directory");
}

#[test]
fn whiteouts_do_not_reach_out() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh...", "a/.wh.."] {
        is_refused(&Tar::new().file(name, ""), "this whiteout is of nothing: invalid argument");
    }
    // The root's parent is the root.
    let place = Place::new();
    place.flat(Tar::new().file("secret", "1").file("mine", "1"));
    place.flat(Tar::new().file("../.wh.secret", "").file("/../../.wh.dir", ""));
    place.assert_outside_is_untouched();
    assert_eq!(place.list(), listed(&[("mine", "f 1")]));
    is_refused(&Tar::new().file(".wh.x/y", ""), "there is nothing in a whiteout: not a directory");
}

#[test]
fn what_aufs_kept_for_itself_is_passed_over() {
    let tar = Tar::new()
        .directory(".wh..wh.plnk")
        .file(".wh..wh.plnk/1.2", "x")
        .directory("./.wh..wh.orph/")
        .link(".wh..wh.aufs", "nowhere")
        .file("mine", "1");
    lands_inside(&tar, &[("mine", "f 1")]);
}

#[test]
fn the_root_stays_a_directory() {
    for name in ["", ".", "/", "./", "..", "a/.."] {
        for flag in [b'0', b'2', b'1', b'6'] {
            let tar = Tar::new().add(Header::new(flag, name).target("../dir"), b"");
            is_refused(&tar, "the root is no directory in this layer: not a directory");
        }
    }
}

#[test]
fn names_that_cannot_be_are_refused() {
    let nul = Tar::new().pax(&[("path", b"a\0b")]).file("x", "");
    is_refused(&nul, "a name has a NUL in it");
    let nul = Tar::new().pax(&[("linkpath", b"a\0b")]).symlink("x", "");
    is_refused(&nul, "a name has a NUL in it");
    let long = vec![b'n'; 4000];
    is_refused(&Tar::new().long(b'L', &long).file("x", ""), "file name too long");
    is_refused(&Tar::new().long(b'L', &[&long[..], b"/x"].concat()).file("x", ""), "file name too long");
    is_refused(&Tar::new().long(b'L', &b"n/".repeat(2048)).file("x", ""), "a name has 4096 bytes");
    is_refused(&Tar::new().long(b'L', &b"n/".repeat(2000)).file("x", ""), "file name too long");
    is_refused(&Tar::new().long(b'K', &vec![b't'; 5000]).symlink("x", ""), "a name has 5000 bytes");
    is_refused(&Tar::new().symlink("x", ""), "no such file or directory");
    // What a terminal would take for orders is spelled out.
    is_refused(&Tar::new().long(b'L', &[b"\x1b[2J\n", &long[..]].concat()).file("x", ""), "\\u{1b}[2J\\n");
}

#[test]
fn links_into_links_do_not_build_a_tree_without_end() {
    let mut tar = Tar::new().long(b'L', &b"d/".repeat(300)).directory("x").long(b'K', &b"d/".repeat(300));
    tar = tar.symlink("l", "x");
    is_refused(
        &tar.long(b'L', &[b"l/", &b"d/".repeat(300)[..]].concat()).directory("x"),
        "file name too long",
    );
}

#[test]
fn lists_of_holes_that_make_no_sense_are_refused() {
    let told = |size: &[u8], map: &[u8]| {
        Tar::new().pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", map)]).file("f", "abcdef")
    };
    for map in
        [&b"0,7"[..], b"0,3,2,3", b"5,3,0,3", b"0,6,9", b"x,6", b"0,5", b"9223372036854775807,6", b"98,6"]
    {
        is_refused(&told(b"100", map), "the list of a file's holes makes no sense");
    }
    let old = Header::new(b'S', "f").size(6).put(386, [0xff; 24]).put(483, b"00000001750\0");
    is_refused(&Tar::new().add(old, b"abcdef"), "the list of a file's holes makes no sense");
    let newest = |map: &[u8]| {
        let records: [(&str, &[u8]); 2] = [("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9")];
        let mut body = map.to_vec();
        body.resize(1024, b'1');
        Tar::new().pax(&records).add(Header::new(b'0', "f").size(1024), &body)
    };
    is_refused(&newest(b"99999999\n"), "a file has more than 65536 holes");
    is_refused(&newest(b"-1\n"), "the list of a file's holes makes no sense");
    is_refused(&newest(b""), "the list of a file's holes makes no sense");
}

#[test]
fn a_whole_pax_header_of_lengths_that_lie_is_refused() {
    for records in [&b"1000 path=a\n"[..], b"5 path=a\n", b"\n", b" =\n", b"18446744073709551617 path=a\n"] {
        let tar = Tar::new().add(Header::new(b'x', "pax").size(records.len() as u64), records).file("f", "");
        is_refused(&tar, "a pax record does not have its own length");
    }
}
