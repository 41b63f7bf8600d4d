//! Images that somebody made to do harm, or that were damaged: one line, exit code 1, and nothing is left.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::image::{
    CONFIG, INDEX, LAYER, Layout, MANIFEST, Tar, configuration, digest, docker_archive, gzip, named, zstd,
};
use super::{bundle, store};
use crate::lab::{Lab, bryo_only};

/// It is refused with these words, as a flat bundle and with layers, and leaves nothing.
#[track_caller]
fn refused(lab: &Lab, source: &str, words: &[&str]) {
    let place = store(lab);
    for flags in [&["--flat"][..], &["--store", place.to_str().unwrap()]] {
        let ran = bundle(lab, &[&["--from", source][..], flags, &["d"]].concat());
        let ran = ran.refuses(1, words);
        assert!(ran.stderr.len() < 1000, "{}", ran.stderr);
        assert!(!lab.dir.join("d").exists());
    }
    let left: Vec<_> = fs::read_dir(place.join("partial")).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn base(lab: &Lab) -> Layout {
    Layout::with_image(lab, "image", &[Tar::base().done()], json!({}))
}

/// The only manifest of a layout, to be changed.
fn manifest(layout: &Layout) -> Value {
    let index: Value = parse(&layout.dir.join("index.json"));
    parse(&layout.blob_path(&index["manifests"][0]))
}

fn parse(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn replace(layout: &Layout, manifest: &Value) {
    layout.index(&[layout.json(MANIFEST, manifest)]);
}

#[test]
fn a_blob_that_is_not_what_its_digest_says_is_refused() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let layout = base(&lab);
    let parts = manifest(&layout);
    for part in [&parts["layers"][0], &parts["config"]] {
        let path = layout.blob_path(part);
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        let last = changed.len() - 1;
        // In the middle of a program, or in what is no JSON with it.
        changed[last / 2] ^= 1;
        fs::write(&path, &changed).unwrap();
        refused(&lab, &layout.source(), &["IMG-INVALID", "digest", "invalid argument"]);
        // Longer, shorter, empty, not there, and something else.
        for damaged in [[&whole[..], b"x"].concat(), whole[..last].to_vec(), Vec::new()] {
            fs::write(&path, damaged).unwrap();
            refused(&lab, &layout.source(), &["IMG-INVALID", "bytes"]);
        }
        fs::remove_file(&path).unwrap();
        refused(&lab, &layout.source(), &["no such file or directory"]);
        fs::create_dir(&path).unwrap();
        refused(&lab, &layout.source(), &["not a regular file"]);
        fs::remove_dir(&path).unwrap();
        let aside = lab.file("aside", &whole);
        symlink(aside, &path).unwrap();
        refused(&lab, &layout.source(), &["symbolic link"]);
        fs::remove_file(&path).unwrap();
        fs::write(&path, whole).unwrap();
    }
    bundle(&lab, &["--from", &layout.source(), "--flat", "d"]).prints("");
}

#[test]
fn a_layer_whose_plain_tar_is_another_one_is_refused() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let layout = Layout::new(&lab, "image");
    let tar = Tar::base().done();
    for (packed, words) in [
        (gzip(&[&tar[..], &[0; 512]].concat()), "decompressed"),
        (zstd(&[&tar[..], &[0; 512]].concat()), "decompressed"),
        (gzip(&tar)[..5000].to_vec(), ""),
        (zstd(&tar)[..5000].to_vec(), ""),
        ([gzip(&tar), b"garbage".to_vec()].concat(), ""),
        (b"\xfd7zXZ\0 and so on".to_vec(), "xz"),
        (b"no tar at all".to_vec(), ""),
        (Vec::new(), ""),
    ] {
        let layers = [layout.blob(&format!("{LAYER}+gzip"), &packed)];
        let config = layout.json(CONFIG, &configuration(&[digest(&tar)], json!({})));
        replace(&layout, &json!({ "schemaVersion": 2, "config": config, "layers": layers }));
        refused(&lab, &layout.source(), &[words]);
    }
}

#[test]
fn a_manifest_that_is_none_or_for_something_else_is_refused() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let layout = base(&lab);
    let good = manifest(&layout);
    type Change = fn(&mut Value);
    let changes: [(Change, &str); 16] = [
        (|m| m["schemaVersion"] = 1.into(), "version 1"),
        (|m| m["mediaType"] = "application/x".into(), "and says application/x"),
        (|m| m["manifests"] = json!([]), "an index and a manifest at once"),
        (|m| m["artifactType"] = "application/x".into(), "artifact of type \"application/x\""),
        (|m| m["config"]["mediaType"] = "application/vnd.oci.empty.v1+json".into(), "artifact"),
        (|m| m["config"] = Value::Null, "configuration"),
        (|m| m["layers"] = json!([]), "no layers"),
        (|m| m["layers"] = json!([m["layers"][0], m["layers"][0]]), "2 layers"),
        (
            |m| {
                m["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar".into()
            },
            "not distributable",
        ),
        (
            |m| {
                m["layers"][0]["mediaType"] =
                    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into()
            },
            "not distributable",
        ),
        (|m| m["layers"][0]["mediaType"] = format!("{LAYER}+encrypted").into(), "+encrypted"),
        (|m| m["layers"][0]["mediaType"] = "text/plain".into(), "text/plain"),
        (|m| m["layers"][0]["digest"] = "sha256:../../../../etc/passwd".into(), "no digest"),
        (|m| m["layers"][0]["digest"] = "md5:d41d8cd98f00b204e9800998ecf8427e".into(), "no digest"),
        (|m| m["layers"][0]["size"] = u64::MAX.into(), "bytes"),
        (|m| m["layers"][0]["size"] = json!(-1), "invalid value"),
    ];
    for (change, words) in changes {
        let mut changed = good.clone();
        change(&mut changed);
        replace(&layout, &changed);
        refused(&lab, &layout.source(), &["IMG-INVALID", words]);
    }
    for text in ["", "{}", "[]", "null", "{\"schemaVersion\": 2", "\u{0}"] {
        layout.index(&[layout.blob(MANIFEST, text.as_bytes())]);
        refused(&lab, &layout.source(), &["IMG-INVALID"]);
    }
    // A document that says that it is enormous, and one that is.
    layout.index(&[json!({ "mediaType": MANIFEST, "digest": digest(b"absent"), "size": u64::MAX })]);
    refused(&lab, &layout.source(), &["no such file or directory"]);
    let enormous = fs::File::create(layout.blob_path(&json!({ "digest": digest(b"absent") }))).unwrap();
    enormous.set_len(1 << 40).unwrap();
    refused(&lab, &layout.source(), &["more than a file of its kind"]);
}

#[test]
fn an_index_that_goes_on_for_ever_is_refused() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let layout = base(&lab);
    let mut entry = named(layout.image(&[Tar::base().done()], json!({})), "x");
    for _ in 0..8 {
        entry = layout.json(INDEX, &json!({ "schemaVersion": 2, "manifests": [entry] }));
    }
    layout.index(&[entry]);
    refused(&lab, &layout.source(), &["nested too deeply"]);
    // Each index ten times the next: no work without an end.
    let mut entry = layout.image(&[Tar::base().done()], json!({}));
    for _ in 0..4 {
        let manifests = vec![entry; 10];
        entry = layout.json(INDEX, &json!({ "schemaVersion": 2, "manifests": manifests }));
    }
    layout.index(&[entry]);
    refused(&lab, &layout.source(), &["nested too deeply or too large"]);
    layout.index(&[]);
    refused(&lab, &layout.source(), &["no image"]);
    for (file, text) in [
        ("index.json", ""),
        ("index.json", "[]"),
        ("oci-layout", "{}"),
        ("oci-layout", r#"{"imageLayoutVersion": "2"}"#),
    ] {
        let layout = base(&lab);
        fs::write(layout.dir.join(file), text).unwrap();
        refused(
            &lab,
            &layout.source(),
            &["IMG-INVALID", file.trim_end_matches(".json")]
                .map(|w| if w == "oci-layout" { "layout" } else { w }),
        );
    }
    fs::remove_file(layout.dir.join("oci-layout")).unwrap();
    refused(&lab, &layout.source(), &["oci-layout", "no such file or directory"]);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let tar = Tar::base().done();
    for (config, words) in [
        (json!({ "User": "nobody" }), "no user \"nobody\""),
        (json!({ "User": "moss:nobody" }), "no group \"nobody\""),
        (json!({ "User": "4294967295" }), "no user"),
        (json!({ "User": "-1" }), "no user"),
        (json!({ "Env": "PATH" }), "configuration"),
        (json!({ "Cmd": [1] }), "configuration"),
    ] {
        let layout = Layout::with_image(&lab, "image", std::slice::from_ref(&tar), config);
        refused(&lab, &layout.source(), &[words]);
    }
    let layout = Layout::new(&lab, "other");
    for (change, words) in [
        (json!({ "os": "windows" }), "windows"),
        (json!({ "rootfs": { "type": "layers", "diff_ids": ["sha256:x"] } }), "no digest"),
        (json!({ "rootfs": { "type": "layers+base", "diff_ids": [] } }), "layers+base"),
        (json!({ "rootfs": null }), "root file system"),
    ] {
        let mut config = configuration(&[digest(&tar)], json!({}));
        change.as_object().unwrap().iter().for_each(|(key, value)| config[key] = value.clone());
        let config = layout.json(CONFIG, &config);
        let layers = [layout.blob(LAYER, &tar)];
        replace(&layout, &json!({ "schemaVersion": 2, "config": config, "layers": layers }));
        refused(&lab, &layout.source(), &["IMG-INVALID", words]);
    }
}

#[test]
fn an_archive_that_lies_about_its_members_is_refused() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let secret = lab.file("secret", "secret");
    let tar = Tar::base().done();
    let whole = docker_archive(std::slice::from_ref(&tar), json!({}));
    let refused_archive = |bytes: &[u8], words: &[&str]| {
        let file = lab.file("archive.tar", bytes);
        refused(&lab, &format!("docker-archive:{}", file.display()), words);
    };
    for len in [0, 100, 512, 5000, whole.len() / 2] {
        refused_archive(&whole[..len], &["IMG-INVALID"]);
        refused_archive(&gzip(&whole)[..len / 10], &["IMG-INVALID"]);
    }
    refused_archive(&Tar::new().file("a", "b").done(), &["manifest.json", "no such file or directory"]);
    let config = configuration(&[digest(&tar)], json!({})).to_string();
    let with = |manifest: &Value, more: Tar| more.file("manifest.json", manifest.to_string()).done();
    let manifest =
        |config: &str, layer: &str| json!([{ "Config": config, "RepoTags": null, "Layers": [layer] }]);
    let files = || Tar::new().file("config", &config).file("layer.tar", &tar);
    let traversal = format!("../../../../../..{}", secret.display());
    for name in [&traversal, secret.to_str().unwrap(), "link", "absolute", "circle", "none", "dir", ""] {
        let links = || {
            let to = files().link("link", &traversal).link("absolute", secret.to_str().unwrap());
            to.link("circle", "circle").dir("dir")
        };
        refused_archive(&with(&manifest(name, "layer.tar"), links()), &["no such file or directory"]);
        refused_archive(&with(&manifest("config", name), links()), &["no such file or directory"]);
    }
    // The configuration's name is its digest.
    let false_name = format!("{}.json", "0".repeat(64));
    let renamed = Tar::new().file(&false_name, &config).file("layer.tar", &tar);
    refused_archive(&with(&manifest(&false_name, "layer.tar"), renamed), &["its digest is"]);
    // The layer's is in the configuration.
    let other = Tar::new().file("config", &config).file("layer.tar", Tar::base().file("x", "y").done());
    refused_archive(&with(&manifest("config", "layer.tar"), other), &["decompressed"]);
    bundle(
        &lab,
        &["--from", &format!("docker-archive:{}", lab.file("good.tar", &whole).display()), "--flat", "d"],
    )
    .prints("");
}

#[test]
fn a_layer_cannot_write_outside() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    fs::create_dir(lab.dir.join("outside")).unwrap();
    let outside = lab.dir.join("outside");
    let deep = format!("../../../../../../../../../../..{}/escaped", outside.display());
    for tar in [
        Tar::base().file(&deep, "x"),
        Tar::base().file(&format!("{}/escaped", outside.display()), "x"),
        Tar::base().link("out", outside.to_str().unwrap()).file("out/escaped", "x"),
        Tar::base()
            .link("out", "../../../../../../../../..")
            .file(&format!("out{}/escaped", outside.display()), "x"),
        Tar::base().dir("..").file("../escaped", "x"),
    ] {
        let layout = Layout::with_image(&lab, "image", &[tar.done()], json!({}));
        for flags in [&["--flat"][..], &[]] {
            // Refused or inside, either is fine.
            drop(bundle(&lab, &[&["--from", &layout.source()][..], flags, &["d"]].concat()));
            assert_eq!(super::names(&outside), [""; 0]);
            assert!(!lab.dir.join("escaped").exists() && !lab.dir.join("d/escaped").exists());
            lab.bare_call(["unshare", "rm", "-rf", "d"]).cwd(&lab.dir).done().ok();
        }
    }
}

#[test]
fn the_files_that_a_user_is_looked_up_in_are_the_images() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let passwd = lab.file("passwd", "evil:x:1234:1234::/:/bin/sh\n");
    let link = |target: &str| Tar::base().link("etc/passwd", target).done();
    for (tar, words) in [
        (link(passwd.to_str().unwrap()), "no user"),
        (link(&format!("../../../../../../../..{}", passwd.display())), "no user"),
        (link("/etc/passwd"), "too many"),
        (Tar::base().link("etc/passwd", "/etc").done(), "directory"),
    ] {
        let layout = Layout::with_image(&lab, "image", &[tar], json!({ "User": "evil" }));
        refused(&lab, &layout.source(), &["IMG-USER", words]);
    }
    // A link that stays inside is fine.
    let tar =
        Tar::base().link("etc/passwd", "/usr/lib/passwd").file("usr/lib/passwd", "evil:x:12:34::/:/bin/sh\n");
    let layout = Layout::with_image(&lab, "image", &[tar.done()], json!({ "User": "evil" }));
    bundle(&lab, &["--from", &layout.source(), "d"]).prints("");
    assert_eq!(super::config(&lab.dir.join("d"))["process"]["user"], json!({ "uid": 12, "gid": 34 }));
}
