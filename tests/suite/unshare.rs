//! `unshare` and `remove-tree`: at work on files of subordinate ids without a container.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::lab::{Call, Lab, bryo_only, plain_user_only, warns};
use crate::pty::terminal;

/// A command in the caller's own maps.
fn unshare<'lab>(lab: &'lab Lab, command: &[&str]) -> Call<'lab> {
    lab.call(["unshare", "--"]).args(command)
}

fn no_helpers(call: Call) -> Call {
    call.env_remove("PATH").env("PATH", "/nowhere")
}

#[test]
fn the_ids_are_those_of_a_container_with_all_subordinate_ids() {
    bryo_only!("runc has no unshare");
    plain_user_only!("root has all ids already");
    let lab = Lab::new();
    let maps = ["cat", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups"];
    let inside = lab.bundle().subids().args(maps).run().ok().stdout;
    assert_eq!(inside.lines().count(), 5, "{inside}");
    unshare(&lab, &maps).done().prints(&inside);
    unshare(&lab, &["sh", "-c", "id -u; id -g"]).done().prints("0\n0\n");
}

#[test]
fn the_command_takes_the_place_of_the_runtime() {
    bryo_only!("runc has no unshare");
    let lab = Lab::new();
    // The same process, in the same session and place, with the same environment and descriptors.
    let script = "echo $$ $1; pwd; echo $MOSS; cat <&7";
    let running = lab
        .call(["unshare", "sh", "-c", script, "sh", "--flag"])
        .cwd("/usr")
        .env("MOSS", "green")
        .after_shell("exec 7<<<'from descriptor 7'")
        .spawn();
    let pid = running.pid();
    running.wait().prints(&format!("{pid} --flag\n/usr\ngreen\nfrom descriptor 7\n"));
    unshare(&lab, &["cat"]).stdin("input").done().prints("input");
}

#[test]
fn it_ends_as_the_command_does_or_as_a_shell_that_cannot_run_it() {
    bryo_only!("runc has no unshare");
    let lab = Lab::new();
    unshare(&lab, &["sh", "-c", "exit 7"]).done().exits(7);
    let not_executable = lab.file("plain", "text");
    let missing = lab.dir.join("missing");
    unshare(&lab, &["no-such-program"]).done().refuses(127, &["EXEC-NOTFOUND", "$PATH", "fix: "]);
    unshare(&lab, &[missing.to_str().unwrap()]).done().refuses(127, &["EXEC-NOTFOUND", "fix: "]);
    unshare(&lab, &[not_executable.to_str().unwrap()]).done().refuses(126, &["EXEC-DENIED", "fix: "]);
    let running = unshare(
        &lab,
        &["sh", "-c", "trap 'echo told; kill -KILL $!; exit 3' TERM; sleep 60 & echo ready; wait"],
    )
    .spawn();
    running.wait_for_output("ready");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait().exits(3).stdout, "ready\ntold\n");
    // SIGPIPE is as in a shell, too: yes ends quietly once nobody reads.
    unshare(&lab, &["sh", "-c", "yes | head -n 1"]).done().prints("y\n");
}

#[test]
fn without_a_command_it_is_a_shell_with_job_control() {
    bryo_only!("runc has no unshare");
    plain_user_only!("root is root before");
    let lab = Lab::new();
    let (mut master, slave) = terminal(24, 80);
    let call = lab.call(["unshare"]).env("SHELL", "/bin/sh").env("PS1", "moss$ ");
    let running = call.on_terminal(&slave).spawn();
    drop(slave);
    master.wait_for("moss$ ");
    master.type_in("sh -c 'echo uid=$(id -u); read line; echo got $line'\n");
    master.wait_for("uid=0\r\n");
    // ^Z stops the job and not the shell, and the job has the terminal again once it goes on.
    master.type_in("\x1a");
    master.wait_for("Stopped");
    master.type_in("fg\n");
    master.type_in("moss\n");
    master.wait_for("got moss\r\n");
    master.type_in("exit 4\n");
    running.wait().exits(4);
    let seen = master.read_to_end();
    assert!(!seen.contains("job control turned off"), "{seen}");
}

#[test]
fn a_stopped_command_stops_and_goes_on_as_any_job() {
    bryo_only!("runc has no unshare");
    let lab = Lab::new();
    // The outer shell sees its job stop, and sends it on.
    let script = "set -m; \"$@\" & wait $!; jobs; fg > /dev/null; echo ended with $?";
    let call = unshare(&lab, &["sh", "-c", "kill -STOP $$; exit 9"]).under(["bash", "-c", script, "bash"]);
    let ran = call.done().ok();
    assert!(ran.stdout.contains("Stopped") && ran.stdout.ends_with("ended with 9\n"), "{}", ran.stdout);
}

#[test]
fn what_it_mounts_is_its_own() {
    bryo_only!("runc has no unshare");
    let lab = Lab::new();
    let dir = lab.dir.join("mnt");
    fs::create_dir(&dir).unwrap();
    let script = "mount -t tmpfs moss \"$1\" && touch \"$1\"/file && ls \"$1\"; ls \"$2\"";
    let dir = dir.to_str().unwrap();
    let script = unshare(&lab, &["sh", "-c", script, "sh", dir, dir]);
    script.done().prints("file\nfile\n");
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
}

#[test]
fn without_the_id_helpers_it_is_root_over_a_single_id() {
    bryo_only!("runc has no unshare");
    plain_user_only!("root needs no helper");
    let lab = Lab::new();
    let call = || no_helpers(unshare(&lab, &["/bin/cat", "/proc/self/setgroups"]));
    warns(call().done(), "deny\n", "ID-NOHELPER");
    call()
        .env("BRYO_DEGRADE", "none")
        .done()
        .refuses(1, &["ID-NOHELPER", "degradations are refused", "fix: "]);
    let call = unshare(&lab, &["id", "-u"]).under(["setpriv", "--no-new-privs", "--"]);
    warns(call.done(), "0\n", "ID-NNP");
}

#[test]
fn a_limit_on_user_namespaces_is_named() {
    bryo_only!("runc has no unshare");
    let lab = Lab::new();
    // Root there who has no capability is as good as anybody.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all -- \"$@\"";
    let outer = ["unshare", "--user", "--map-root-user", "--", "sh", "-c", script, "sh"];
    let words = ["cannot make a user namespace for command true: NS-LIMIT", "no space left on device; fix: "];
    unshare(&lab, &["true"]).under(outer).done().refuses(1, &words);
}

#[test]
fn root_over_the_same_ids_stays_as_it_is() {
    bryo_only!("runc has no unshare");
    plain_user_only!("it is about a root made by unshare itself");
    let lab = Lab::new();
    let runtime = lab.runtime.to_str().unwrap();
    let script = "readlink /proc/self/ns/user; exec \"$1\" unshare readlink /proc/self/ns/user";
    let ran = unshare(&lab, &["sh", "-c", script, "sh", runtime]).done().ok();
    let namespaces: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(namespaces.len(), 2);
    assert_eq!(namespaces[0], namespaces[1]);
}

/// What rm(1) cannot remove: directories of other ids that are closed and full, and a used work directory of an
/// overlay, which has mode 000.
fn leave_a_tree(lab: &Lab, name: &str) -> String {
    let dir = lab.dir.join(name);
    let script = "mkdir -p $1/lower $1/upper $1/work $1/merged $1/others/deep && cd $1 \
        && mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,userxattr moss merged \
        && touch merged/file && mkdir merged/gone && rmdir merged/gone && umount merged \
        && touch others/deep/file && ln -s /etc others/link && mknod others/pipe p \
        && chown -hR 5:7 others && chmod 0 others/deep && chmod 500 others \
        && stat -c '%a %u' work/work others";
    let dir = dir.to_str().unwrap().to_owned();
    unshare(lab, &["sh", "-c", script, "sh", &dir]).done().prints("0 0\n500 5\n");
    dir
}

#[test]
fn what_containers_leave_is_removed_by_remove_tree_and_by_rm_in_unshare() {
    bryo_only!("runc has neither verb");
    plain_user_only!("root removes anything");
    let lab = Lab::new();
    let (one, two, three) =
        (leave_a_tree(&lab, "one"), leave_a_tree(&lab, "two"), leave_a_tree(&lab, "three"));
    lab.program("rm").args(["-rf", &one]).done().exits(1);
    lab.call(["remove-tree", &one]).done().prints("");
    unshare(&lab, &["rm", "-rf", &two]).done().prints("");
    lab.call(["remove-tree", &format!("{three}/"), lab.file("plain", "").to_str().unwrap()])
        .done()
        .prints("");
    for path in [one, two, three, "plain".into()] {
        assert!(!lab.dir.join(&path).exists(), "{path}");
    }
    lab.call(["remove-tree", "missing"])
        .cwd(&lab.dir)
        .done()
        .refuses(1, &["missing", "no such file or directory"]);
}

#[test]
fn a_tree_of_ones_own_is_removed_without_any_namespace() {
    bryo_only!("runc has no remove-tree");
    let lab = Lab::new();
    fs::create_dir_all(lab.dir.join("tree/below")).unwrap();
    fs::write(lab.dir.join("tree/below/file"), "").unwrap();
    no_helpers(lab.call(["--degrade=none", "remove-tree", "tree"])).cwd(&lab.dir).done().prints("");
    assert!(!lab.dir.join("tree").exists());
}

#[test]
fn what_is_mounted_in_a_tree_is_not_removed() {
    bryo_only!("runc has no remove-tree");
    let lab = Lab::new();
    fs::create_dir_all(lab.dir.join("tree/mnt")).unwrap();
    let runtime = lab.runtime.to_str().unwrap();
    let script = "mount -t tmpfs moss tree/mnt && touch tree/mnt/kept && \"$1\" remove-tree tree; echo $?; \
                  umount tree/mnt && mount --bind /etc tree/mnt && \"$1\" remove-tree tree; echo $?; \
                  touch tree/file && mount --bind /etc/passwd tree/file && umount tree/mnt && \"$1\" remove-tree tree; echo $?";
    let ran = unshare(&lab, &["sh", "-c", script, "sh", runtime]).cwd(&lab.dir).done().ok();
    assert_eq!(ran.stdout, "1\n1\n1\n");
    let lines: Vec<_> = ran.stderr.lines().collect();
    let line = |at| {
        format!(
            "bryo: cannot remove tree: MNT-BUSY: something is mounted at {at}: device or resource busy; fix: umount {at}"
        )
    };
    assert_eq!(lines, [line("tree/mnt"), line("tree/mnt"), line("tree/file")]);
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn files_of_somebody_else_are_named_with_their_owner() {
    bryo_only!("runc has no remove-tree");
    plain_user_only!("all ids are root's");
    let lab = Lab::new();
    // Nobody can remove anything from there, so that this test can do no harm.
    let ran = lab.call(["remove-tree", "/sys/kernel/mm"]).done();
    ran.refuses(
        1,
        &[
            "cannot remove /sys/kernel/mm: FS-OWNER: ",
            " belongs to uid 0, which is not yours",
            "permission denied; fix: ",
        ],
    );
}
