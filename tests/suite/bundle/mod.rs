//! bundle: from an image, a root file system or this machine's own system to what `run` takes. It is bryo's own.
//!
//! What is crafted and malformed is in [`crafted`], what Buildah, umoci and Skopeo make in [`peers`]. Those that
//! run a container do so from a flat bundle as well as from layers.

mod crafted;
mod image;
pub mod peers;
mod umoci;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::lab::{Call, Lab, PATIENCE, Ran, bryo_only, busybox, eventually, plain_user_only};
use crate::pty::terminal;
use image::{Layout, Tar, docker_archive, gzip, zstd};

/// `bryo bundle` with these words; its `d` is the lab's.
fn bundle(lab: &Lab, words: &[&str]) -> Ran {
    in_own_store(lab.bare_call(["bundle"]), lab).args(words).cwd(&lab.dir).done()
}

/// Root's store is not in its home, and the machine's own is not for tests.
pub fn in_own_store<'lab>(call: Call<'lab>, lab: &Lab) -> Call<'lab> {
    if nix::unistd::geteuid().is_root() { call.env("BRYO_STORE", store(lab)) } else { call }
}

fn config(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap()
}

/// What a container of the bundle says.
fn run(lab: &Lab, name: &str) -> Ran {
    lab.call(["run", "--bundle"]).args([lab.dir.join(name)]).args([lab.id()]).done()
}

/// The lab's store, which is in its home.
fn store(lab: &Lab) -> PathBuf {
    if nix::unistd::geteuid().is_root() { lab.dir.join("store") } else { lab.dir.join(".local/share/bryo") }
}

/// The layers in a store, of all maps.
fn layers(store: &Path) -> Vec<PathBuf> {
    let below = |dirs: Vec<PathBuf>| -> Vec<PathBuf> {
        dirs.iter().flat_map(|dir| fs::read_dir(dir).unwrap()).map(|entry| entry.unwrap().path()).collect()
    };
    below(below(below(vec![store.join("layers")])))
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_image_becomes_a_bundle_that_runs_as_it_says() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let script = "id -u; id -g; id -G; pwd; echo $LEAF $HOME; cat /leaf; ls /data";
    let image = json!({
        "Entrypoint": ["sh", "-c"], "Cmd": [script], "User": "moss", "WorkingDir": "/srv/new", "Env": ["LEAF=green"],
        "Volumes": { "/data/inner": {} }, "StopSignal": "SIGINT", "ExposedPorts": { "80/tcp": {} },
        "Labels": { "maker": "moss", "io.bryo.network": "host", "run.oci.systemd.subgroup": "x" },
    });
    let upper = Tar::new().file("leaf", "on top\n").done();
    let layout = Layout::with_image(&lab, "image", &[Tar::base().done(), upper], image);
    for (name, flags) in [("flat", &["--flat"][..]), ("layered", &[])] {
        let ran = bundle(&lab, &[&["--from", &layout.source()], flags, &[name]].concat()).prints("");
        // One line for each label that was left out.
        assert_eq!(
            ran.stderr.lines().filter(|line| line.starts_with("bryo: warning: ")).count(),
            2,
            "{ran:?}"
        );
        let config = config(&lab.dir.join(name));
        assert_eq!(config["process"]["terminal"], false);
        let annotations = config["annotations"].as_object().unwrap();
        assert_eq!(annotations["maker"], "moss");
        assert_eq!(annotations["org.opencontainers.image.stopSignal"], "SIGINT");
        assert_eq!(annotations["org.opencontainers.image.exposedPorts"], "80/tcp");
        assert!(
            !annotations.contains_key("io.bryo.network")
                && !annotations.contains_key("run.oci.systemd.subgroup")
        );
        if name == "layered" {
            assert_eq!(config["annotations"]["io.bryo.rootfs.overlay"], "overlay");
        }
        run(&lab, name).prints("1000\n100\n100 4\n/srv/new\ngreen /home/moss\non top\ninner\n");
    }
}

#[test]
fn what_the_caller_says_takes_the_place_of_the_images_command() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let image = json!({ "Entrypoint": ["echo", "entry"], "Cmd": ["command"] });
    let layout = Layout::with_image(&lab, "image", &[Tar::base().done()], image);
    bundle(&lab, &["--from", &layout.source(), "--flat", "--tty", "d", "--", "-x", "mine"]).prints("");
    let process = &config(&lab.dir.join("d"))["process"];
    assert_eq!(process["args"], json!(["echo", "entry", "-x", "mine"]));
    assert_eq!(process["terminal"], true);
    assert!(process["env"].as_array().unwrap().contains(&json!("TERM=xterm")));
}

#[test]
fn bundles_share_layers_and_pruning_removes_those_that_none_uses() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let place = store(&lab);
    let at = ["--store", place.to_str().unwrap()];
    let base = Tar::base().done();
    let image = |name: &str, text: &str| {
        let upper = Tar::new().file("leaf", text).done();
        Layout::with_image(&lab, name, &[base.clone(), upper], json!({ "Cmd": ["cat", "/leaf"] })).source()
    };
    let (one, two) = (image("one", "one\n"), image("two", "two\n"));
    for (source, name) in [(&one, "a"), (&one, "b"), (&two, "c")] {
        bundle(&lab, &[&["--from", source][..], &at, &[name]].concat()).prints("");
    }
    assert_eq!(layers(&place).len(), 3, "one shared by all, one by two");
    bundle(&lab, &[&["--prune"][..], &at].concat()).prints("0 layers removed\n");
    for (name, removed, left) in [("a", 0, 3), ("b", 1, 2), ("c", 2, 0)] {
        lab.bare_call(["unshare", "--", "rm", "-r"]).args([lab.dir.join(name)]).done().ok();
        let said = format!("{removed} layer{} removed\n", if removed == 1 { "" } else { "s" });
        bundle(&lab, &[&["--prune"][..], &at].concat()).prints(&said);
        assert_eq!(layers(&place).len(), left);
    }
    assert_eq!(names(&place.join("bundles")), [""; 0]);
}

#[test]
fn many_bundles_of_one_image_are_made_at_once() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let layout = Layout::with_image(&lab, "image", &[Tar::base().done()], json!({}));
    let place = store(&lab);
    let start = |name: &str| {
        let call = lab.bare_call(["bundle", "--from", &layout.source(), "--store"]);
        call.args([&place]).args([lab.dir.join(name)]).spawn()
    };
    let all: Vec<_> = ["a", "b", "c", "d", "e"].map(start).into_iter().collect();
    all.into_iter().for_each(|running| drop(running.wait().prints("")));
    assert_eq!(layers(&place).len(), 1);
    assert_eq!(names(&place.join("partial")), [""; 0]);
}

#[test]
fn a_directory_that_is_not_empty_is_left_alone() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let layout = Layout::with_image(&lab, "image", &[Tar::base().done()], json!({}));
    let source = layout.source();
    bundle(&lab, &["--from", &source, "--flat", "d"]).prints("");
    let before = fs::read_to_string(lab.dir.join("d/config.json")).unwrap();
    bundle(&lab, &["--from", &source, "--flat", "d"])
        .refuses(1, &["BUNDLE-EXISTS", "file exists", "; fix: "]);
    assert_eq!(fs::read_to_string(lab.dir.join("d/config.json")).unwrap(), before);
    // An empty one is fine, also as the working directory.
    fs::create_dir(lab.dir.join("empty")).unwrap();
    lab.bare_call(["bundle", "--from", &source, "--flat", "."]).cwd(lab.dir.join("empty")).done().prints("");
    assert_eq!(names(&lab.dir.join("empty")), ["config.json", "rootfs"]);
    bundle(&lab, &["--from", &source, "none/d"]).refuses(1, &["no such file or directory"]);
    bundle(&lab, &["--from", &source, "d/config.json"]).refuses(1, &["not a directory"]);
}

#[test]
fn what_a_killed_bundle_leaves_the_next_one_removes() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let place = store(&lab);
    let tar = Tar::base().file("leaf", vec![b'x'; 1 << 20]).done();
    for flat in [&["--flat"][..], &[]] {
        let call = lab.bare_call(["bundle", "--from", "-", "--store"]).args([&place]).args(flat).args(["d"]);
        let mut running = call.cwd(&lab.dir).stdin_pipe().spawn();
        let mut input = running.child.stdin.take().unwrap();
        // Nearly all, so that it has begun to write and waits for the rest.
        input.write_all(&tar[..tar.len() - 2048]).unwrap();
        let partial = lab.dir.join("d/.partial");
        assert!(eventually(PATIENCE, || partial.exists()));
        // Its child, which does the work, goes with it.
        kill(Pid::from_raw(running.pid()), Signal::SIGKILL).unwrap();
        drop(running);
        assert!(eventually(PATIENCE, || lab.processes().is_empty()), "{:?}", lab.processes());
        drop(input);
        assert!(partial.exists() && !lab.dir.join("d/config.json").exists());

        let file = lab.file("tree.tar", &tar);
        let call =
            lab.bare_call(["bundle", "--store"]).args([&place]).args(flat).args(["--from"]).args([file]);
        call.args(["d"]).cwd(&lab.dir).done().prints("");
        assert_eq!(names(&lab.dir.join("d")), ["config.json", "rootfs"]);
        assert!(!place.exists() || names(&place.join("partial")).is_empty());
        lab.bare_call(["unshare", "rm", "-r", "d"]).cwd(&lab.dir).done().ok();
    }
}

#[test]
fn a_tar_of_a_root_file_system_is_taken_in_every_compression() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let plain = Tar::base().file("leaf", "green\n").done();
    let command = ["--", "cat", "/leaf"];
    for (name, bytes) in [("plain", plain.clone()), ("gzip", gzip(&plain)), ("zstd", zstd(&plain))] {
        // The name says nothing.
        let file = lab.file(&format!("{name}.bin"), &bytes);
        bundle(&lab, &[&["--from", file.to_str().unwrap(), "--flat", name], &command[..]].concat())
            .prints("");
        run(&lab, name).prints("green\n");
    }
    let call = lab.bare_call(["bundle", "--from", "-", "--flat", "stdin"]).args(command).cwd(&lab.dir);
    call.stdin(gzip(&plain)).done().prints("");
    run(&lab, "stdin").prints("green\n");
    // The same tree in the store, however it was packed.
    let place = store(&lab);
    for name in ["plain", "zstd"] {
        let target = format!("{name}-layered");
        let from = format!("{name}.bin");
        bundle(&lab, &["--from", &from, "--store", place.to_str().unwrap(), &target]).prints("");
    }
    assert_eq!(layers(&place).len(), 1);
}

#[test]
fn docker_saves_archive_is_read_plain_compressed_and_from_a_pipe() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let upper = Tar::new().file("leaf", "green\n").done();
    // A layer that comes twice, and what hides the first of them.
    let layers = [Tar::base().done(), upper.clone(), Tar::new().file(".wh.leaf", "").done(), upper];
    let archive = docker_archive(&layers, json!({ "Cmd": ["cat", "/leaf"] }));
    for (name, bytes) in [("plain", archive.clone()), ("gzip", gzip(&archive)), ("zstd", zstd(&archive))] {
        let file = lab.file(&format!("{name}.tar"), &bytes);
        bundle(&lab, &["--from", &format!("docker-archive:{}:moss", file.display()), "--flat", name])
            .prints("");
        run(&lab, name).prints("green\n");
        bundle(&lab, &["--from", &format!("docker-archive:{}:lichen", file.display()), "none"])
            .refuses(1, &["\"lichen\"", "moss:latest", "no such file or directory"]);
    }
    bundle(&lab, &["--from", "docker-archive:plain.tar", "layered"]).prints("");
    run(&lab, "layered").prints("green\n");
    let script = "cat plain.tar | \"$0\" bundle --from docker-archive:/dev/stdin --flat pipe";
    lab.program("sh").args(["-c", script]).args([&lab.runtime]).cwd(&lab.dir).done().prints("");
    run(&lab, "pipe").prints("green\n");
    assert!(!lab.dir.join("none").exists());
}

#[test]
fn the_commands_of_the_readme_take_an_image_to_a_server() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let image = json!({ "Entrypoint": ["sh", "-c"], "Cmd": ["trap 'exit 0' TERM; while :; do sleep 1 & wait; done"] });
    let tar = Tar::base().link("bin/sleep", "busybox").done();
    lab.file("web.tar", docker_archive(&[tar], image));
    for line in crate::readme::block("bryo bundle --from docker-archive") {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], "bryo");
        in_own_store(lab.call(&words[1..]), &lab).cwd(&lab.dir).done().ok();
    }
    assert_eq!(lab.call(["state", "web"]).done().ok().json()["status"], "running");
    lab.call(["delete", "--force", "web"]).done().ok();
}

#[test]
fn the_image_for_this_machine_is_found_among_others() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let layout = Layout::new(&lab, "image");
    let of = |text: &str, architecture: &str| {
        let tar = Tar::base().file("leaf", text).done();
        let mut descriptor = layout.image(&[tar], json!({ "Cmd": ["cat", "/leaf"] }));
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
        descriptor
    };
    let mine = of("mine\n", image::architecture());
    let other = of("other\n", "sparc");
    let unknown = json!({ "mediaType": image::MANIFEST, "digest": image::digest(b"x"), "size": 1,
        "platform": { "os": "unknown", "architecture": "unknown" } });
    let nested =
        layout.json(image::INDEX, &json!({ "schemaVersion": 2, "manifests": [other, mine, unknown] }));
    let others = layout.json(image::INDEX, &json!({ "schemaVersion": 2, "manifests": [other] }));
    layout.index(&[image::named(nested.clone(), "multi:1"), image::named(others, "others")]);
    let digest = |descriptor: &Value| descriptor["digest"].as_str().unwrap().to_string();
    for (reference, text) in [
        ("multi:1", "mine\n"),
        (&digest(&nested), "mine\n"),
        (&digest(&mine), "mine\n"),
        (&digest(&other), "other\n"),
    ] {
        let source = format!("{}:{reference}", layout.source());
        bundle(&lab, &["--from", &source, "--flat", reference]).prints("");
        run(&lab, reference).prints(text);
    }
    for (reference, words) in
        [(":others", "linux/sparc"), (":none", "multi:1, others"), (":multi", "multi:1, others")]
    {
        let source = layout.source() + reference;
        bundle(&lab, &["--from", &source, "d"]).refuses(1, &["IMG-INVALID", words]);
        assert!(!lab.dir.join("d").exists());
    }
    // Of two images one has to be named.
    layout.index(&[image::named(mine.clone(), "a"), image::named(of("b", image::architecture()), "b")]);
    bundle(&lab, &["--from", &layout.source(), "d"]).refuses(1, &["several images, a, b"]);
}

#[test]
fn files_get_their_owners_and_the_container_sees_them() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let tar = Tar::base().owned("www", (33, 33)).owned("last", (65534, 65534)).done();
    let script = "stat -c '%n %u:%g' /www /last";
    let layout = Layout::with_image(&lab, "image", &[tar], json!({ "Cmd": ["sh", "-c", script] }));
    bundle(&lab, &["--from", &layout.source(), "--flat", "d"]).prints("");
    run(&lab, "d").prints("/www 33:33\n/last 65534:65534\n");
}

#[test]
fn without_subordinate_ids_everything_is_the_callers_and_that_is_said() {
    bryo_only!("runc makes no bundles");
    plain_user_only!("root needs no helpers");
    let lab = Lab::new();
    let tar = Tar::base().owned("www", (33, 33)).done();
    let image = json!({ "Cmd": ["stat", "-c", "%u:%g", "/www"] });
    let layout = Layout::with_image(&lab, "image", &[tar], image);
    let without_helpers = |words: &[&str]| {
        lab.bare_call(words).env_remove("PATH").env("PATH", "/nonexistent").cwd(&lab.dir).done()
    };
    let ran = without_helpers(&["bundle", "--from", &layout.source(), "--flat", "d"]).prints("");
    assert!(ran.stderr.contains("ID-NOHELPER") && ran.stderr.contains("IMG-OWNER"), "{}", ran.stderr);
    run(&lab, "d").prints("0:0\n");
    // With all ids, these are other files: the store keeps them apart.
    let place = store(&lab);
    without_helpers(&["bundle", "--from", &layout.source(), "e"]).prints("");
    bundle(&lab, &["--from", &layout.source(), "f"]).prints("");
    assert_eq!(layers(&place).len(), 2);
    without_helpers(&["--degrade=strict", "bundle", "--from", &layout.source(), "g"])
        .refuses(1, &["ID-NOHELPER"]);
    assert!(!lab.dir.join("g").exists());
}

#[test]
fn a_directory_is_used_where_it_is() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let tree = busybox();
    let from = tree.to_str().unwrap();
    bundle(&lab, &["--from", from, "d", "--", "id", "-u"]).prints("");
    let config = config(&lab.dir.join("d"));
    assert_eq!(config["annotations"]["io.bryo.rootfs.layers"], json!([tree]).to_string());
    assert_eq!(config["annotations"]["io.bryo.rootfs.overlay"], "overlay");
    assert_eq!(config["process"]["args"], json!(["id", "-u"]));
    assert!(config["process"]["env"].as_array().unwrap().contains(&json!("HOME=/root")));
    assert_eq!(names(&lab.dir.join("d/rootfs")), [""; 0]);
    bundle(&lab, &["--from", from, "--flat", "e"]).refuses(1, &["BUNDLE-FLAT", "; fix: "]);
    // What is something else is named as what it is.
    let layout = Layout::with_image(&lab, "image", &[Tar::base().done()], json!({}));
    let fix = format!("fix: --from {}", layout.source());
    bundle(&lab, &["--from", layout.dir.to_str().unwrap(), "e"]).refuses(1, &["an image layout", &fix]);
    bundle(&lab, &["--from", "d", "e"]).refuses(1, &["is a bundle", "fix: --from d/rootfs"]);
    assert!(!lab.dir.join("e").exists());
}

#[test]
fn this_machines_own_system_is_a_shell_at_home() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    let call = lab.bare_call(["bundle", "--from", "host", "d"]).cwd(&lab.dir);
    call.env("SHELL", "/bin/moss").env("HOME", "/home/moss").done().prints("");
    let first = config(&lab.dir.join("d"));
    assert_eq!(first["annotations"]["io.bryo.rootfs.host"], "true");
    assert_eq!(first["annotations"]["io.bryo.rootfs.ephemeral"], "true");
    assert_eq!(first["process"]["args"], json!(["/bin/moss"]));
    assert_eq!(first["process"]["terminal"], true);
    // The lab is below /tmp, which a container does not see.
    assert_eq!(first["process"]["cwd"], "/home/moss");
    assert!(first["process"]["env"].as_array().unwrap().contains(&json!("HOME=/home/moss")));
    lab.bare_call(["bundle", "--from", "host", "e", "--", "make"]).cwd(&lab.dir).done().prints("");
    let second = config(&lab.dir.join("e"));
    assert_eq!(
        (&second["process"]["args"], &second["process"]["terminal"]),
        (&json!(["make"]), &json!(false))
    );
    bundle(&lab, &["--from", "host", "--flat", "f"]).refuses(1, &["BUNDLE-FLAT"]);
}

#[test]
fn the_container_gets_the_ids_that_the_files_have() {
    bryo_only!("runc makes no bundles");
    plain_user_only!("root maps nothing");
    let lab = Lab::new();
    let layout = Layout::with_image(&lab, "image", &[Tar::base().done()], json!({}));
    bundle(&lab, &["--from", &layout.source(), "--flat", "d"]).prints("");
    let expected = lab.bundle().subids().config;
    for key in ["uidMappings", "gidMappings"] {
        assert_eq!(config(&lab.dir.join("d"))["linux"][key], expected["linux"][key]);
    }
}

#[test]
fn progress_is_for_a_terminal_alone() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    lab.file("tree.tar", Tar::base().file("leaf", vec![b'x'; 4 << 20]).done());
    let (mut master, slave) = terminal(24, 80);
    let feed = "(head -c 3000000 tree.tar; sleep 0.5; tail -c +3000001 tree.tar)";
    let script = |target: &str| format!("{feed} | \"$0\" bundle --from - --flat {target}");
    let call = lab.program("sh").args(["-c", &script("a")]).args([&lab.runtime]).cwd(&lab.dir);
    let running = call.on_terminal(&slave).spawn();
    master.wait_for(" MiB");
    running.wait().ok();
    let call = lab.program("sh").args(["-c", &script("b")]).args([&lab.runtime]).cwd(&lab.dir);
    let ran = call.done().prints("");
    assert_eq!(ran.stderr, "");
}

#[test]
fn the_words_of_the_command_line_fit_together() {
    bryo_only!("runc makes no bundles");
    let lab = Lab::new();
    for (words, told) in [
        (&["d"][..], "--from"),
        (&["--from", "host"], "DIR"),
        (&["--from", "none", "d"], "IMG-SOURCE"),
        (&["--from", "", "d"], "IMG-SOURCE"),
        (&["--from", "oci:", "d"], "IMG-SOURCE"),
        (&["--prune", "d"], "--prune"),
        (&["--prune", "--from", "host"], "--prune"),
        (&["--from", "host", "d", "more"], "more"),
    ] {
        bundle(&lab, words).refuses(1, &[told, "; fix: "]);
    }
    assert!(!lab.dir.join("d").exists());
}
