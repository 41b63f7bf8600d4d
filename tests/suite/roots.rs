//! Root file systems of layers: changes that vanish, changes that are kept, layers beneath, this machine's own
//! system; and what becomes of them where the kernel has no overlay.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::faults::{assert_deleted, kill_at_every_step};
use crate::lab::{Bundle, Call, Lab, NONE, PATIENCE, Ran, bryo_only, eventually, plain_user_only};

const EPHEMERAL: [&str; 1] = ["--ephemeral"];

/// A run of a bundle that is to be written to, with options.
fn run<S: AsRef<OsStr>>(bundle: &Bundle<'_>, options: impl IntoIterator<Item = S>) -> Ran {
    bundle.call("run", options).done()
}

fn keep(dir: &Path) -> [&str; 2] {
    ["--overlay", dir.to_str().unwrap()]
}

fn writable(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.with(|c| c["root"]["readonly"] = false.into())
}

/// Every path below a directory, with its modification time and mode.
fn picture(dir: &Path) -> Vec<(PathBuf, i64, u32)> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(path) = left.pop() {
        let meta = path.symlink_metadata().unwrap();
        if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push((path, meta.mtime_nsec(), meta.mode()));
    }
    found.sort();
    found
}

#[test]
fn what_an_ephemeral_container_writes_and_deletes_is_gone_with_it() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let script = "echo moss > /moss; echo more >> /etc/passwd; rm /bin/ls; mkdir -p /a/b; rm -r /usr; mkdir /usr; \
                  cat /moss; ls /usr; test ! -e /bin/ls && echo gone";
    let bundle = lab.bundle().own_rootfs().sh(script);
    let before = picture(&bundle.rootfs());
    for _ in 0..2 {
        run(&bundle, EPHEMERAL).prints("moss\ngone\n");
    }
    assert_eq!(picture(&bundle.rootfs()), before);
    assert!(lab.state_entries().iter().all(|entry| entry == "seccomp:cache"));
}

#[test]
fn the_annotation_asks_for_the_same() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let bundle = writable(lab.bundle()).sh("echo moss > /moss && cat /moss");
    let bundle = bundle.with(|c| c["annotations"] = json!({ "io.bryo.rootfs.ephemeral": "true" }));
    bundle.run().prints("moss\n");
    assert!(!crate::lab::busybox().join("moss").exists());
}

#[test]
fn a_read_only_root_stays_read_only_and_gets_its_mount_points() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs().sh("ls /not/there/yet; touch /moss");
    let bundle = bundle.with(|c| c["root"]["readonly"] = true.into()).add_mount(json!({
        "destination": "/not/there/yet", "type": "tmpfs", "source": "tmpfs"
    }));
    let ran = run(&bundle, EPHEMERAL).exits(1);
    assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
    assert!(!bundle.rootfs().join("not").exists());
}

#[test]
fn a_root_that_nobody_may_write_to_is_written_to() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs().sh("echo moss > /etc/moss; rm /etc/passwd; cat /etc/*");
    fs::write(bundle.rootfs().join("etc/group"), "").unwrap();
    for dir in ["", "etc"] {
        fs::set_permissions(bundle.rootfs().join(dir), fs::Permissions::from_mode(0o555)).unwrap();
    }
    // Root inside may do what root may.
    let bundle = bundle.with(|c| {
        let caps = json!(["CAP_DAC_OVERRIDE"]);
        c["process"]["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
    });
    run(&bundle, EPHEMERAL).prints("moss\n");
    for dir in ["", "etc"] {
        fs::set_permissions(bundle.rootfs().join(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn kept_changes_are_there_in_the_next_run_and_nowhere_else() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let kept = lab.dir.join("kept");
    let bundle = lab.bundle().own_rootfs();
    let before = picture(&bundle.rootfs());
    let bundle = bundle.sh("echo first > /moss; rm -r /etc; mkdir /etc; echo x > /etc/new");
    run(&bundle, keep(&kept)).ok();
    let bundle = bundle.sh("cat /moss; ls /etc; echo second > /moss");
    run(&bundle, keep(&kept)).prints("first\nnew\n");
    // The flag for the one wins over the annotation for the other.
    let annotations = json!({ "io.bryo.rootfs.overlay": kept });
    let bundle = bundle.with(|c| c["annotations"] = annotations).sh("cat /moss; echo third > /moss");
    assert_eq!(run(&bundle, EPHEMERAL).ok().stdout, "");
    run(&bundle, NONE).prints("second\n");
    run(&bundle, NONE).prints("third\n");
    assert_eq!(picture(&bundle.rootfs()), before);
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o7777, 0o700);
    assert!(!bundle.rootfs().join("moss").exists());
    writable_again(&kept);
}

/// A relative directory is the bundle's where the bundle names it, and the caller's where the caller does.
#[test]
fn a_relative_directory_for_changes_is_that_of_who_names_it() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs().sh("echo moss > /moss");
    let dir = bundle.rootfs().parent().unwrap().to_path_buf();
    bundle.call("run", ["--overlay", "mine"]).cwd(&lab.dir).done().ok();
    assert!(lab.dir.join("mine/upper/moss").exists());
    let bundle = bundle.with(|c| c["annotations"] = json!({ "io.bryo.rootfs.overlay": "its" }));
    bundle.call("run", NONE).cwd(&lab.dir).done().ok();
    assert!(dir.join("its/upper/moss").exists());
    [lab.dir.join("mine"), dir.join("its")].iter().for_each(|kept| writable_again(kept));
}

/// The kernel's own work directory has no permissions at all; its owner may change that.
fn writable_again(kept: &Path) {
    for name in ["work/work", "work/usr/work"] {
        let dir = kept.join(name);
        if dir.exists() {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
        }
    }
}

#[test]
fn a_directory_for_changes_is_used_by_one_container_at_a_time() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let kept = lab.dir.join("kept");
    let first = lab.bundle().own_rootfs().sleeps().launch("create", &keep(&kept));
    let second = lab.bundle().own_rootfs().sh("true");
    let refused = |whom: &str| {
        let words = [whom, "uses it: device or resource busy", "fix: "];
        run(&second, keep(&kept)).refuses(1, &words).in_bryos_words(&[]);
    };
    refused(&first.id);
    first.start().ok();
    refused(&first.id);
    first.kill("KILL").ok();
    first.wait_until_stopped();
    // It is stopped, not yet deleted, and uses nothing any more.
    run(&second, keep(&kept)).ok();
    first.remove();
    writable_again(&kept);
}

#[test]
fn a_directory_for_changes_in_the_root_itself_is_refused() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs();
    let inside = bundle.rootfs().join("kept");
    run(&bundle, keep(&inside)).refuses(1, &["one in the other", "--overlay"]);
    assert!(!inside.exists());
    let around = bundle.rootfs().parent().unwrap().to_path_buf();
    run(&bundle, keep(&around)).refuses(1, &["one in the other", "--overlay"]);
    assert!(!around.join("upper").exists());
    let file = lab.file("file", "");
    run(&bundle, keep(&file)).refuses(1, &["not a directory"]);
    let link = lab.dir.join("link");
    std::os::unix::fs::symlink("/usr", &link).unwrap();
    run(&bundle, keep(&link)).refuses(1, &["not a directory"]);
}

#[test]
fn a_directory_for_changes_of_somebody_else_is_refused() {
    bryo_only!("runc has no layers");
    plain_user_only!("everything is root's to take");
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs();
    run(&bundle, keep(Path::new("/usr/lib"))).refuses(1, &["belongs to uid 0", "operation not permitted"]);
}

#[test]
fn a_start_that_fails_leaves_no_directory_for_changes() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let kept = lab.dir.join("kept");
    let bundle = lab.bundle().own_rootfs();
    let failing = bundle.with(|c| c["linux"]["sysctl"] = json!({ "net.ipv4.no_such_key": "1" }));
    let failing = failing.namespace("network", None);
    run(&failing, keep(&kept)).exits(1);
    assert!(!kept.exists(), "{:?}", fs::read_dir(&kept).unwrap().collect::<Vec<_>>());
}

/// A bundle of layers: busybox, and above it these directories of the lab, lowest first.
fn layered<'lab>(lab: &'lab Lab, layers: &[PathBuf]) -> Bundle<'lab> {
    let all: Vec<_> = std::iter::once(crate::lab::busybox()).chain(layers.iter().cloned()).collect();
    let bundle = lab.bundle().with(|c| {
        c["root"] = json!({ "path": "rootfs" });
        c["annotations"] = json!({ "io.bryo.rootfs.layers": json!(all).to_string() });
    });
    fs::create_dir(bundle.rootfs()).unwrap();
    bundle
}

fn layer(lab: &Lab, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let dir = lab.dir.join(name);
    fs::create_dir(&dir).unwrap();
    for (path, content) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

#[test]
fn layers_lie_over_each_other_and_the_bundles_own_root_on_top() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let low = layer(&lab, "low", &[("both", "low"), ("low", "low\n"), ("all", "low")]);
    let high = layer(&lab, "high", &[("both", "high\n"), ("all", "high")]);
    let before = [picture(&low), picture(&high)];
    let bundle =
        layered(&lab, &[low.clone(), high.clone()]).sh("cat /low /both /all; echo x > /low; rm /both");
    fs::write(bundle.rootfs().join("all"), "own\n").unwrap();
    run(&bundle, EPHEMERAL).prints("low\nhigh\nown\n");
    assert_eq!([picture(&low), picture(&high)], before);
    // Without a place for changes they are not to be written to, and nothing is.
    run(&bundle, NONE).refuses(1, &["read-only file system", "--ephemeral or --overlay DIR"]);
    let bundle = bundle.with(|c| c["root"]["readonly"] = true.into()).sh("cat /both; touch /x");
    let ran = run(&bundle, NONE).exits(1);
    assert_eq!(ran.stdout, "high\n");
    assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
    assert_eq!([picture(&low), picture(&high)], before);
}

#[test]
fn what_a_layer_deletes_is_not_there() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let low = layer(&lab, "low", &[("gone", ""), ("stays", ""), ("emptied/old", ""), ("full/old", "")]);
    let high = layer(&lab, "high", &[("emptied/new", ""), ("full/new", "")]);
    let mark = "mknod $0/gone c 0 0 && setfattr -n user.overlay.opaque -v y $0/emptied";
    lab.program("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", mark, high.to_str().unwrap()])
        .done()
        .ok();
    let bundle = layered(&lab, &[low, high]).sh("ls -d /gone /stays; ls /emptied; ls /full");
    let ran = run(&bundle, EPHEMERAL);
    assert_eq!(ran.stdout, "/stays\nnew\nnew\nold\n", "{ran:?}");
}

/// As many as images are allowed to have, and their names are what separates layers elsewhere.
#[test]
fn layers_of_any_name_and_number_are_taken() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let mut layers = Vec::new();
    for n in 0..130 {
        let name = format!("a,b:c\\d e{}{n}", "-long".repeat(20));
        layers.push(layer(&lab, &name, &[("top", &format!("{n}\n")), (&format!("f{n}"), "")]));
    }
    let bundle = layered(&lab, &layers).sh("cat /top; ls / | grep -c '^f[0-9]'");
    run(&bundle, EPHEMERAL).prints("129\n130\n");
}

#[test]
fn a_layer_that_is_not_there_is_named() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let bundle = layered(&lab, &[lab.dir.join("missing")]);
    run(&bundle, EPHEMERAL).refuses(1, &["missing", "no such file or directory", "io.bryo.rootfs.layers"]);
}

/// What a foreign image might carry to have an overlay show other files than its own.
#[test]
fn marks_of_a_malicious_layer_lead_nowhere() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    layer(&lab, "outside", &[("secret", "secret\n")]);
    let bad = layer(&lab, "bad", &[("dir/f", ""), ("meta", "its own\n"), ("redirected/f", "")]);
    let set = |path: &str, name: &str, value: &str| {
        lab.program("setfattr").args(["-n", name, "-v", value]).args([bad.join(path)]).done().ok();
    };
    set("redirected", "user.overlay.redirect", "/../outside");
    set("dir", "user.overlay.redirect", "/etc");
    set("meta", "user.overlay.metacopy", "");
    set("meta", "user.overlay.redirect", "/etc/passwd");
    let bundle = layered(&lab, &[bad]).sh("cat /redirected/* /dir/passwd /meta; true");
    let ran = run(&bundle, EPHEMERAL).ok();
    assert!(!ran.stdout.contains("secret") && !ran.stdout.contains("root:"), "{ran:?}");
}

#[test]
fn the_other_commands_know_a_container_with_layers_as_any_other() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let c =
        writable(lab.bundle()).sh("echo moss > /moss; echo ready; sleep 1000").launch("create", &EPHEMERAL);
    assert_eq!(c.status(), "created");
    c.start().ok();
    c.wait_for_output("ready");
    c.exec(["cat", "/moss"]).prints("moss\n");
    c.exec(["sh", "-c", "echo more >> /moss"]).ok();
    c.exec(["cat", "/moss"]).prints("moss\nmore\n");
    let listed = lab.call(["list", "-f", "json"]).done().ok().json();
    assert_eq!(listed[0]["rootfs"], json!(crate::lab::busybox()), "{listed}");
    c.kill("KILL").ok();
    c.wait_until_stopped();
    c.delete().ok();
    assert!(!crate::lab::busybox().join("moss").exists());
}

#[test]
fn what_is_done_to_a_plain_root_is_done_to_one_of_layers() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let bundle = lab.bundle().own_rootfs();
    let dir = bundle.rootfs();
    fs::create_dir(dir.join("copied")).unwrap();
    fs::write(dir.join("copied/file"), "copied\n").unwrap();
    fs::write(dir.join("masked"), "masked\n").unwrap();
    fs::write(dir.join("etc/passwd"), "moss:x:0:0::/garden:/bin/sh\n").unwrap();
    let bundle = bundle
        .add_mount(
            json!({ "destination": "/copied", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }),
        )
        .with(|c| {
            crate::lab::push(&mut c["linux"]["maskedPaths"], "/masked".into());
            c["process"]["cwd"] = "/made/for/it".into();
        })
        .sh("pwd; cat /copied/file /masked; echo $HOME");
    run(&bundle, EPHEMERAL).prints("/made/for/it\ncopied\n/garden\n");
    assert!(!dir.join("made").exists());
}

#[test]
fn every_way_into_the_root_takes_layers() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    for propagation in ["shared", "rslave", "rprivate", "unbindable"] {
        let bundle = writable(lab.bundle()).sh("echo moss > /moss && cat /moss");
        let bundle = bundle.with(|c| c["linux"]["rootfsPropagation"] = propagation.into());
        run(&bundle, EPHEMERAL).prints("moss\n");
    }
    let bundle = writable(lab.bundle()).sh("echo moss > /moss && cat /moss");
    run(&bundle, ["--ephemeral", "--no-pivot"]).prints("moss\n");
}

/// Hooks of the host look at the root through the container's mount namespace, where root.path says.
#[test]
fn hooks_of_the_host_find_the_layers_where_the_root_is() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let found = lab.dir.join("found");
    let bundle = lab.bundle().own_rootfs();
    let body = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')\ngrep ' {} ' /proc/$pid/mountinfo > {}\n",
        bundle.rootfs().display(),
        found.display()
    );
    let hook = lab.script("hook", &body);
    let bundle = bundle.hook("createRuntime", json!({ "path": hook }));
    run(&bundle, EPHEMERAL).ok();
    let found = fs::read_to_string(found).unwrap();
    assert!(found.lines().last().unwrap().contains(" - overlay "), "{found}");
}

#[test]
fn layers_and_flags_that_contradict_each_other_are_refused() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let both = ["--ephemeral", "--overlay", "x"];
    run(&lab.bundle(), both).refuses(1, &["--ephemeral", "cannot be used with"]);
    let bundle = lab.bundle().with(|c| c["annotations"] = json!({ "io.bryo.rootfs.ephemeral": "maybe" }));
    run(&bundle, NONE).refuses(1, &["io.bryo.rootfs.ephemeral", "not true or false"]);
}

// ---- this machine's own system --------------------------------------------------------------------------

fn host(lab: &Lab) -> Bundle<'_> {
    let bundle = lab.bundle().with(|c| {
        c["root"] = json!({ "path": "rootfs" });
        c["annotations"] = json!({ "io.bryo.rootfs.host": "true" });
        crate::lab::push(
            &mut c["mounts"],
            json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"] }),
        );
    });
    fs::create_dir(bundle.rootfs()).unwrap();
    bundle
}

#[test]
fn the_hosts_own_system_can_be_ruined_and_is_whole_afterwards() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let marker = format!("/etc/bryo-suite-{}", std::process::id());
    let script = format!(
        "test -x /usr/bin/env && echo there; echo x > {marker} && cat {marker}; rm -rf /usr /etc; true"
    );
    run(&host(&lab).sh(&script), EPHEMERAL).exits(0);
    let ran = run(&host(&lab).sh(&script), EPHEMERAL);
    assert_eq!(ran.stdout, "there\nx\n", "{ran:?}");
    assert!(Path::new("/usr/bin/env").exists() && !Path::new(&marker).exists());
    run(&host(&lab), NONE).refuses(1, &["--ephemeral or --overlay DIR"]);
}

#[test]
fn nothing_of_the_hosts_running_state_is_in_a_copy_of_its_system() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let secret = lab.file("secret", "secret");
    let script = format!("cat {} 2>/dev/null; ls /run /tmp; ls /proc | grep -c '^[0-9]'", secret.display());
    assert!(lab.dir.starts_with("/tmp"), "{}", lab.dir.display());
    let ran = run(&host(&lab).sh(&script), EPHEMERAL).ok();
    let listed = ran.stdout.strip_prefix("/run:\n\n/tmp:\n").unwrap_or_else(|| panic!("{ran:?}"));
    let processes: u32 = listed.trim().parse().unwrap_or_else(|_| panic!("{ran:?}"));
    assert!(processes < 6, "{ran:?}");
}

#[test]
fn changes_to_the_hosts_own_system_can_be_kept() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let kept = lab.dir.join("kept");
    run(&host(&lab).sh("echo moss > /moss; echo moss > /etc/moss"), keep(&kept)).ok();
    let ran = run(&host(&lab).sh("cat /moss /etc/moss"), keep(&kept)).ok();
    assert_eq!(ran.stdout, "moss\nmoss\n", "{ran:?}");
    assert!(!Path::new("/moss").exists() && !Path::new("/etc/moss").exists());
    // Each directory at the top has a work directory of its own, without permissions.
    lab.program("chmod").args(["-R", "u+rwX"]).args([&kept]).done().ok();
}

// ---- where the kernel has no overlay --------------------------------------------------------------------

const USUAL: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

/// Overlays can be stacked twice: runs a call in a user namespace in which the directory `deep` of the lab is the
/// second one already, over busybox.
fn deep<'lab>(lab: &Lab, path: &str, call: Call<'lab>) -> Call<'lab> {
    let dir = lab.dir.join("deep");
    for name in ["", "one", "two", "empty"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    let script = format!(
        "cd {} && mount -t overlay o -o lowerdir={}:empty one && mount -t overlay o -o lowerdir=one:empty two && \
         cd - >/dev/null && PATH={path} exec \"$@\"",
        dir.display(),
        crate::lab::busybox().display()
    );
    call.under([
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        &script,
        "sh",
    ])
}

/// A bundle of that directory, for root of that namespace.
fn on_an_overlay(lab: &Lab) -> Bundle<'_> {
    lab.bundle().with(|c| {
        c["root"] = json!({ "path": lab.dir.join("deep/two"), "readonly": false });
        let one = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        c["linux"]["uidMappings"] = one.clone();
        c["linux"]["gidMappings"] = one;
    })
}

fn fuse_is_open() -> bool {
    File::options().read(true).write(true).open("/dev/fuse").is_ok()
}

const WRITES: &str = "echo moss > /moss; rm /bin/ls; rm -r /etc; mkdir /etc; touch /etc/new; cat /moss; \
                      echo /etc/*; test ! -e /bin/ls && echo gone";

#[test]
fn where_the_kernel_has_no_overlay_fuse_overlayfs_serves_or_a_copy_is_made() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let bundle = on_an_overlay(&lab).sh(WRITES);
    let ran = deep(&lab, USUAL, bundle.call("run", EPHEMERAL)).done().ok();
    assert_eq!(ran.stdout, "moss\n/etc/new\ngone\n");
    if fuse_is_open() {
        assert_eq!(ran.stderr, "");
    } else {
        for words in ["FS-FUSE", "a copy of the root file system of ", " MiB", "/dev/fuse"] {
            assert!(ran.stderr.contains(words), "{}", ran.stderr);
        }
    }
    let kept = lab.dir.join("kept");
    deep(&lab, USUAL, bundle.call("run", keep(&kept))).done().ok();
    let bundle = bundle.sh("cat /moss; echo /etc/*; test ! -e /bin/ls && echo gone");
    let ran = deep(&lab, USUAL, bundle.call("run", keep(&kept))).done().ok();
    assert_eq!(ran.stdout, "moss\n/etc/new\ngone\n");
    assert_eq!(ran.stderr, "", "what is there already is not warned of again");
    lab.program("chmod").args(["-R", "u+rwX"]).args([&kept]).done().ok();
}

#[test]
fn without_fuse_overlayfs_a_copy_is_made_and_its_size_told() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let bundle = on_an_overlay(&lab).sh(WRITES);
    let ran = deep(&lab, "/nowhere", bundle.call("run", EPHEMERAL)).done().ok();
    assert_eq!(ran.stdout, "moss\n/etc/new\ngone\n");
    for words in ["FS-OVERLAY", "a copy of the root file system of ", " MiB", "fix: install fuse-overlayfs"] {
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
    let strict = bundle.with_globals(["--degrade=strict"]);
    let refused = deep(&lab, "/nowhere", strict.call("run", EPHEMERAL)).done();
    refused.refuses(1, &["FS-OVERLAY", "degradations are refused"]);
}

/// What is in its place answers nothing, or ends: in neither case does a container wait for ever.
#[test]
fn a_fuse_overlayfs_that_fails_is_quoted_and_one_that_hangs_is_ended() {
    bryo_only!("runc has no layers");
    if !fuse_is_open() {
        crate::lab::note(
            "a_fuse_overlayfs_that_fails: not on a host whose /dev/fuse is root's; the guest has it",
        );
        return;
    }
    let lab = Lab::new();
    let bundle = on_an_overlay(&lab).sh("true");
    for (does, says) in [("echo no moss today >&2; exit 3", "no moss today"), ("sleep 1000", "not answered")]
    {
        lab.script("fuse-overlayfs", does);
        let path = format!("{}:/usr/bin:/bin:/usr/sbin", lab.dir.display());
        let ran = deep(&lab, &path, bundle.call("run", EPHEMERAL)).done().ok();
        for words in [says, "a copy of the root file system"] {
            assert!(ran.stderr.contains(words), "{}", ran.stderr);
        }
    }
}

#[test]
fn a_create_with_layers_that_is_killed_at_any_step_leaves_nothing() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let kept = lab.dir.join("kept");
    let bundle = lab.bundle().own_rootfs().sleeps();
    kill_at_every_step(
        &lab,
        9,
        |n| bundle.named_call("create", &format!("killed{n}")).args(keep(&kept)),
        |n| assert_deleted(&lab, &format!("killed{n}"), n),
    );
    writable_again(&kept);
}

/// The kernel lets init do everything but one thing; whichever that is, it ends in one line or goes on. Without
/// fuse-overlayfs: a tracer that looks at the memory of who uses its files stops who serves them.
#[test]
fn whatever_mount_call_is_refused_layers_are_had_otherwise_or_refused_in_one_line() {
    bryo_only!("runc has no layers");
    let lab = Lab::new();
    let bundle = writable(lab.bundle()).sh("echo moss > /moss; cat /moss");
    for call in ["fsopen", "fsconfig", "fsmount", "move_mount", "mkdirat"] {
        for n in 1..4 {
            let inject = format!("inject={call}:error=EPERM:when={n}");
            let strace = ["/usr/bin/strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
            let ran = bundle.call("run", EPHEMERAL).under(strace).env("PATH", "/nowhere").done();
            if ran.status.success() {
                assert_eq!(ran.stdout, "moss\n", "{inject}: {ran:?}");
            } else {
                assert_eq!(ran.stderr.lines().count(), 1, "{inject}: {ran:?}");
            }
            assert!(eventually(PATIENCE, || lab.processes().is_empty()), "{inject}: {:?}", lab.processes());
        }
    }
    assert!(!crate::lab::busybox().join("moss").exists());
}
