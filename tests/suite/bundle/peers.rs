//! Images that we did not write: by Buildah, umoci and Skopeo.

use serde_json::json;
use std::fs;

use super::{bundle, config, run};
use crate::lab::{Call, Lab, Ran, bryo_only, busybox};

/// The program, where it needs a place of its own for what it keeps.
pub fn buildah<'lab>(lab: &'lab Lab, words: &[&str]) -> Call<'lab> {
    let at = |name: &str| lab.dir.join(name).to_str().unwrap().to_string();
    // Debian only recommends the package with the machine's policy.
    let policy = ".config/containers/policy.json";
    fs::create_dir_all(lab.dir.join(policy).parent().unwrap()).unwrap();
    lab.file(policy, json!({ "default": [{ "type": "insecureAcceptAnything" }] }).to_string());
    lab.program("buildah")
        .args(["--root", &at("storage"), "--runroot", &at("runroot"), "--storage-driver", "vfs"])
        .args(words)
        .env("BUILDAH_ISOLATION", "chroot")
        .cwd(&lab.dir)
}

/// What it says, less the end of the line.
pub fn said(ran: Ran) -> String {
    ran.ok().stdout.trim().to_string()
}

pub fn umoci(lab: &Lab, words: &str) -> Ran {
    lab.program("umoci").args(words.split_whitespace()).cwd(&lab.dir).done().ok()
}

/// The same as root over all ids.
pub fn umoci_as_root(lab: &Lab, words: &str) -> Ran {
    lab.bare_call(["unshare", "--", "umoci"]).args(words.split_whitespace()).cwd(&lab.dir).done().ok()
}

fn skopeo(lab: &Lab, words: &[&str]) -> Ran {
    lab.program("skopeo").args(["--insecure-policy", "copy", "--quiet"]).args(words).cwd(&lab.dir).done().ok()
}

#[test]
fn buildahs_images_run_from_each_of_its_formats() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let name = said(buildah(&lab, &["from", "scratch"]).done());
    let tree = format!("{}/bin", busybox().display());
    buildah(&lab, &["copy", "-q", &name, &tree, "/bin"]).done().ok();
    lab.file("passwd", "root:x:0:0::/:/bin/sh\nmoss:x:7:8::/home:/bin/sh\n");
    buildah(&lab, &["copy", "-q", &name, "passwd", "/etc/passwd"]).done().ok();
    let settings =
        "--entrypoint [\"sh\",\"-c\"] --cmd id --user moss --env LEAF=green --workingdir /srv --label a=b";
    buildah(&lab, &["config"])
        .args(settings.split(' '))
        .args(["--cmd", "'id -u; echo $LEAF; pwd'", &name])
        .done()
        .ok();
    buildah(&lab, &["commit", "-q", &name, "moss"]).done().ok();
    for (target, from) in [
        ("oci:layout:moss", "oci:layout:moss"),
        ("docker-archive:docker.tar:moss:1", "docker-archive:docker.tar:moss:1"),
        ("oci-archive:oci.tar", "oci-archive:oci.tar"),
    ] {
        buildah(&lab, &["push", "-q", "moss", target]).done().ok();
        let dir = format!("d-{}", from.replace([':', '.'], "-"));
        bundle(&lab, &["--from", from, "--flat", &dir]).prints("");
        assert_eq!(config(&lab.dir.join(&dir))["annotations"]["a"], "b");
        run(&lab, &dir).prints("7\ngreen\n/srv\n");
    }
    buildah(&lab, &["rm", &name]).done().ok();
}

#[test]
fn five_layers_of_umocis_unpack_as_umoci_unpacks_them() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    umoci(&lab, "init --layout image");
    umoci(&lab, "new --image image:moss");
    // Each step changes the tree as root over all ids, and becomes a layer.
    for (step, script) in [
        "mkdir -p a/b c d/e; cp /bin/ls a/ls; ln a/ls a/hard; ln -s ls a/soft; echo 1 > c/one; echo 2 > d/e/two; chown 33:33 c d/e/two; chmod 4755 a/ls; chmod 1777 c",
        "rm c/one; rm -r d; mkdir d; echo 3 > d/three; echo more >> a/soft; chmod 700 a/b",
        "rm -r a/b; echo 4 > a/b; chown 1000:1000 a/b; setfattr -n user.moss -v green a/b 2>/dev/null || true",
        "rm a/hard; rm -r c; ln -s a c; mkdir -p x/y/z; touch -d 2001-02-03T04:05:06 x/y/z/old",
        "rm -r x/y; rm d/three; chown 65534:65534 d; mkdir e; mkfifo e/pipe; rm e/pipe; truncate -s 1M e/hole",
    ]
    .iter()
    .enumerate()
    {
        let dir = format!("work-{step}");
        umoci_as_root(&lab, &format!("unpack --image image:moss {dir}"));
        let rootfs = lab.dir.join(&dir).join("rootfs");
        lab.bare_call(["unshare", "--", "sh", "-ec", script]).cwd(rootfs).done().ok();
        umoci_as_root(&lab, &format!("repack --image image:moss {dir}"));
    }
    umoci_as_root(&lab, "unpack --image image:moss theirs");
    bundle(&lab, &["--from", "oci:image:moss", "--flat", "ours"]).prints("");
    let list = |dir: &str| {
        // Names, kinds, modes, owners, sizes, times, targets, which names are one file, attributes, contents.
        let script = "cd \"$0/rootfs\"; find . ! -type d -printf '%p %y %m %U:%G %s %T@ %l %n\\n' | sort; \
                      find . -mindepth 1 -type d -printf '%p %y %m %U:%G %T@\\n' | sort; \
                      find . -type f -exec sha256sum {} + | sort";
        lab.bare_call(["unshare", "--", "bash", "-ec", script, dir]).cwd(&lab.dir).done().ok().stdout
    };
    let (ours, theirs) = (list("ours"), list("theirs"));
    assert!(theirs.lines().count() > 10, "{theirs}");
    assert_eq!(ours, theirs);
    lab.bare_call(["unshare", "sh", "-c", "rm -rf work-* ours theirs"]).cwd(&lab.dir).done().ok();
}

#[test]
fn skopeo_converts_an_image_and_every_form_of_it_is_the_same() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let tars = [super::image::Tar::base().done(), super::image::Tar::new().file("leaf", "green\n").done()];
    let layout = super::image::Layout::with_image(&lab, "image", &tars, json!({ "Cmd": ["cat", "/leaf"] }));
    let from = format!("{}:latest", layout.source());
    for (name, target, options) in [
        ("gzip", "oci:gzip:1", &["--dest-compress-format=gzip", "--dest-compress"][..]),
        ("zstd", "oci:zstd:1", &["--dest-compress-format=zstd", "--dest-compress"]),
        ("docker", "docker-archive:docker.tar:moss:latest", &[]),
        ("archive", "oci-archive:oci.tar:1", &[]),
    ] {
        skopeo(&lab, &[options, &[&from, target]].concat());
        bundle(&lab, &["--from", target, "--flat", &format!("d-{name}")]).prints("");
        run(&lab, &format!("d-{name}")).prints("green\n");
    }
}
