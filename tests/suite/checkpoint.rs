//! `checkpoint` and `restore` where criu has no say: what is refused before it is asked. What it does is tested in
//! [`crate::criu`].

use nix::unistd::geteuid;

use crate::lab::{Lab, bryo_only, plain_user_only};

/// These words, or why not where the kernel cannot in any case, which is told first.
fn unless_unable(words: &str) -> &str {
    // Only a kernel that can has the file (proc_sys_kernel(5)).
    let able = std::fs::exists("/proc/sys/kernel/ns_last_pid").unwrap();
    if able { words } else { "built without CONFIG_CHECKPOINT_RESTORE" }
}

#[test]
fn both_have_a_help() {
    let lab = Lab::new();
    for verb in ["checkpoint", "restore"] {
        let help = lab.bare_call([verb, "--help"]).done().ok().stdout;
        for flag in ["--image-path", "--work-path", "--tcp-established", "--manage-cgroups-mode"] {
            assert!(help.contains(flag), "{verb}: {help}");
        }
    }
}

/// By this Podman finds out whether a runtime knows the flag.
#[test]
fn a_flag_without_its_value_is_told_in_gos_words() {
    let lab = Lab::new();
    let ran = lab.bare_call(["restore", "--lsm-mount-context"]).done();
    assert_ne!(ran.code(), 0);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains("flag needs an argument"), "{said}");
}

#[test]
fn a_container_that_does_not_exist_is_not_checkpointed() {
    let lab = Lab::new();
    lab.call(["checkpoint", "none"]).done().refuses(1, &["container does not exist"]);
}

#[test]
fn a_plain_users_container_goes_on_and_its_user_is_told_what_is_missing() {
    bryo_only!("runc tries, and fails in criu");
    plain_user_only!("root may");
    let lab = Lab::new();
    let container = lab.bundle().sleeps().detach();
    let images = lab.dir.join("images");
    let uid = format!("uid {} has neither: operation not permitted; fix: ", geteuid());
    let words = ["cannot checkpoint container", ": CRIU: ", unless_unable(&uid)];
    let ran = lab.call(["checkpoint", "--image-path"]).args([&images]).args([&container.id]).done();
    ran.refuses(1, &words);
    assert_eq!(container.status(), "running");
    assert!(!images.exists(), "nothing is made for who may not");
    let restore = ["restore", "--bundle"];
    let words = [
        "cannot restore container other: CRIU: ",
        unless_unable("criu needs CAP_CHECKPOINT_RESTORE"),
        unless_unable(&uid),
    ];
    lab.call(restore).args([&container.bundle]).args(["other"]).done().refuses(1, &words);
    container.remove();
}

#[test]
fn in_a_user_namespace_even_its_root_is_told_that_it_is_the_wrong_one() {
    bryo_only!("runc tries, and fails in criu");
    plain_user_only!("root has another way");
    let lab = Lab::new();
    let ran = lab
        .call(["restore", "--bundle", "/", "web"])
        .under(["unshare", "--user", "--map-root-user", "--"])
        .done();
    let words = unless_unable("CRIU: CAP_CHECKPOINT_RESTORE counts in the machine's own user namespace only");
    ran.refuses(1, &[words, "; fix: "]);
}

/// Only root comes as far as to ask for the program.
#[test]
fn a_criu_that_is_not_there_is_named() {
    bryo_only!("runc looks for criu in the search path only");
    let lab = Lab::new();
    let ran = lab.call(["--criu", "/nowhere/criu", "restore", "--bundle", "/", "web"]).done();
    let word = if geteuid().is_root() {
        "there is no /nowhere/criu: no such file"
    } else {
        "CAP_CHECKPOINT_RESTORE"
    };
    ran.refuses(1, &[": CRIU: ", unless_unable(word), "; fix: "]);
}

#[test]
fn words_that_mean_nothing_are_refused() {
    bryo_only!("runc takes some, and has other words for the others");
    let lab = Lab::new();
    for (flag, value) in [
        ("--page-server", "nowhere"),
        ("--page-server", ":27"),
        ("--page-server", "127.0.0.1:66000"),
        ("--manage-cgroups-mode", "gently"),
        ("--empty-ns", "mount"),
        ("--status-fd", "x"),
    ] {
        lab.call(["checkpoint", flag, value, "web"]).done().refuses(1, &[flag, "; fix: "]);
    }
    assert!(!lab.root().exists());
}
