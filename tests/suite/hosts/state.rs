//! Directories for the state. That it works below XDG_RUNTIME_DIR and without it is told in `cli`, a path that is
//! longer than a socket's name in `degrade`, a record of an earlier boot in `faults`.

use super::{refused, user_after};
use crate::lab::{Call, Lab, bryo_only, plain_user_only, runtime};
use nix::unistd::geteuid;
use std::path::Path;

/// A host with a /tmp of its own, where these commands have been run, and without a directory of the session's.
fn without_a_session<'lab>(lab: &'lab Lab, commands: &str) -> impl Fn(&[&str]) -> Call<'lab> {
    let new = lab.dir.join("tmp");
    std::fs::create_dir_all(&new).unwrap();
    let new = new.display();
    // What lies in /tmp is needed all the same.
    let kept = |dir: &Path| match dir.strip_prefix("/tmp") {
        Ok(name) => format!("mkdir -p {new}/{0}; mount --bind /tmp/{0} {new}/{0}\n", name.display()),
        Err(_) => String::new(),
    };
    let script = format!(
        "mount -t tmpfs none /run
         mount -t tmpfs none {new}
         {}{}
         mount --rbind {new} /tmp
         {commands}",
        kept(&lab.dir),
        kept(runtime().parent().unwrap()),
    );
    let host = user_after(&script);
    move |args| host(lab.bare_call(args).env_remove("XDG_RUNTIME_DIR"))
}

#[test]
fn a_directory_of_the_callers_own_stands_in_for_that_of_the_session() {
    bryo_only!("runc wants XDG_RUNTIME_DIR or /run");
    plain_user_only!("root has its state in /run");
    let lab = Lab::new();
    let id = lab.id();
    let bundle = lab.bundle().sh("echo alive");
    bundle.save();
    let run = ["run", "--bundle", bundle.dir.to_str().unwrap(), &id];
    let uid = geteuid();
    for made in [String::new(), format!("mkdir -m 700 /tmp/bryo-{uid}")] {
        without_a_session(&lab, &made)(&run).done().prints("alive\n");
    }
}

#[test]
fn a_directory_that_others_could_have_made_is_refused() {
    bryo_only!("runc wants XDG_RUNTIME_DIR or /run");
    plain_user_only!("root has its state in /run");
    let lab = Lab::new();
    let uid = geteuid();
    for trap in [
        format!("mkdir /tmp/elsewhere; ln -s elsewhere /tmp/bryo-{uid}"),
        format!("ln -s nowhere /tmp/bryo-{uid}"),
        format!("mkdir -m 770 /tmp/bryo-{uid}"),
        format!("touch /tmp/bryo-{uid}"),
    ] {
        let ran = without_a_session(&lab, &trap)(&["list"]).done();
        refused(&lab, ran, "DIR-XDG", &["permission denied", "XDG_RUNTIME_DIR"]);
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    bryo_only!("runc has no words for it");
    plain_user_only!("root may write anywhere");
    let lab = Lab::new();
    let bundle = lab.bundle();
    bundle.save();
    let run = lab.bare_call(["run", "--bundle"]).args([&bundle.dir]).args(["web"]);
    let ran = run.env_remove("XDG_RUNTIME_DIR").env("XDG_RUNTIME_DIR", "/proc").done();
    refused(&lab, ran, "DIR-XDG", &["/proc/bryo", "--root"]);
}
