//! From an image that we did not write to a page in the host's browser: two commands.

use super::{HELPERS, free_port, is_taken, needs_tun, page};
use crate::bundle::in_own_store;
use crate::bundle::peers::{buildah, said, umoci, umoci_as_root};
use crate::lab::{Lab, bryo_only, busybox};
use std::net::Ipv4Addr;

/// The server of the images, with its flags.
const SERVER: [&str; 6] = ["httpd", "-f", "-p", "80", "-h", "/www"];

/// An image of Buildah's in an archive of `docker save`'s form.
fn by_buildah(lab: &Lab) -> &'static str {
    let name = said(buildah(lab, &["from", "scratch"]).done());
    let tree = format!("{}/bin", busybox().display());
    buildah(lab, &["copy", "-q", &name, &tree, "/bin"]).done().ok();
    buildah(lab, &["copy", "-q", &name, "index.html", "/www/index.html"]).done().ok();
    let entrypoint = serde_json::to_string(&SERVER).unwrap();
    buildah(lab, &["config", "--entrypoint", &entrypoint, "--port", "80", &name]).done().ok();
    buildah(lab, &["commit", "-q", &name, "moss"]).done().ok();
    buildah(lab, &["push", "-q", "moss", "docker-archive:moss.tar:moss:1"]).done().ok();
    buildah(lab, &["rm", &name]).done().ok();
    "docker-archive:moss.tar:moss:1"
}

/// An image layout of umoci's.
fn by_umoci(lab: &Lab) -> &'static str {
    umoci(lab, "init --layout image");
    umoci(lab, "new --image image:moss");
    umoci_as_root(lab, "unpack --image image:moss work");
    let script = format!("cp -a {}/bin . && mkdir www && cp ../../index.html www", busybox().display());
    lab.bare_call(["unshare", "--", "sh", "-ec", &script]).cwd(lab.dir.join("work/rootfs")).done().ok();
    umoci_as_root(lab, "repack --image image:moss work");
    let entrypoint: String = SERVER.iter().map(|word| format!(" --config.entrypoint={word}")).collect();
    umoci(lab, &format!("config --image image:moss{entrypoint}"));
    lab.bare_call(["remove-tree", "work"]).cwd(&lab.dir).done().ok();
    "oci:image:moss"
}

fn two_commands_lead_to_a_page(image: fn(&Lab) -> &'static str) {
    needs_tun();
    let lab = Lab::new();
    lab.file("index.html", "grown without roots\n");
    let from = image(&lab);
    for helper in HELPERS {
        let (dir, port) = (format!("d-{helper}"), free_port());
        in_own_store(lab.bare_call(["bundle", "--from", from, &dir]), &lab).cwd(&lab.dir).done().prints("");
        let publish = format!("{port}:80");
        lab.call(["run", "-d", "-b", &dir, "--network", helper, "-p", &publish, helper])
            .cwd(&lab.dir)
            .done()
            .ok();
        assert_eq!(page(Ipv4Addr::LOCALHOST, port), "grown without roots");
        let url = format!("http://127.0.0.1:{port}/");
        lab.program("busybox").args(["wget", "-q", "-O", "-", &url]).done().prints("grown without roots\n");
        lab.call(["delete", "--force", helper]).done().ok();
        assert!(!is_taken(port));
        lab.bare_call(["remove-tree", &dir]).cwd(&lab.dir).done().ok();
    }
}

#[test]
fn two_commands_lead_from_an_archive_of_buildahs_to_a_page() {
    bryo_only!("runc makes no bundles");
    two_commands_lead_to_a_page(by_buildah);
}

#[test]
fn two_commands_lead_from_a_layout_of_umocis_to_a_page() {
    bryo_only!("runc makes no bundles");
    two_commands_lead_to_a_page(by_umoci);
}
