//! Namespaces that are forbidden: one errno, and several causes. What no machine of ours does (AppArmor, a sysctl of
//! Debian's) is told apart in the unit tests of `host::namespaces`.

use nix::libc;

use super::{Fails, below_a_filter, map_to_root, refused, root_after};
use crate::lab::{Lab, NONE, bryo_only};

const NEW_USER: u64 = libc::CLONE_NEWUSER as u64;

/// What the default filters of engines do to who has no privilege: no namespace by any call, and clone3(2), whose
/// flags a filter cannot see, does not exist.
const NO_NAMESPACES: &[Fails] = &[
    Fails("clone3", 0, libc::ENOSYS),
    Fails("clone", NEW_USER, libc::EPERM),
    Fails("unshare", 0, libc::EPERM),
];

#[test]
fn a_filter_that_forbids_namespaces_is_told_from_other_causes() {
    bryo_only!("runc has no words for it");
    below_a_filter(NO_NAMESPACES, || {
        let lab = Lab::new();
        // Root on the host needs none unless the configuration wants it: it does.
        refused(&lab, lab.bundle().run(), "NS-SECCOMP", &["operation not permitted", "docker", "Kubernetes"]);
    });
}

#[test]
fn a_filter_that_forbids_them_where_they_are_first_needed_is_told_too() {
    bryo_only!("runc has no words for it");
    // The user namespace is to be had, and those that it is to own are not.
    below_a_filter(&[Fails("unshare", 0, libc::EPERM)], || {
        let lab = Lab::new();
        refused(&lab, lab.bundle().run(), "NS-SECCOMP", &["make namespaces", "operation not permitted"]);
    });
}

#[test]
fn a_filter_that_knows_no_clone3_is_no_obstacle() {
    below_a_filter(&[Fails("clone3", 0, libc::ENOSYS)], || {
        let lab = Lab::new();
        lab.bundle().sh("echo alive").run().prints("alive\n");
    });
}

#[test]
fn a_limit_on_namespaces_is_named() {
    bryo_only!("runc has no words for it");
    let lab = Lab::new();
    let bundle = lab.bundle().with(map_to_root);
    for kind in ["user", "pid", "ipc"] {
        let host = root_after(&format!("echo 0 > /proc/sys/user/max_{kind}_namespaces"));
        let limit = format!("user.max_{kind}_namespaces is 0: no space left on device");
        let fix = format!("sysctl -w user.max_{kind}_namespaces=");
        refused(&lab, host(bundle.call("run", NONE)).done(), "NS-LIMIT", &[&limit, &fix]);
    }
}

#[test]
fn a_chroot_has_no_user_namespaces() {
    bryo_only!("runc has no words for it");
    let lab = Lab::new();
    let bundle = lab.bundle().with(map_to_root);
    let root = lab.dir.join("root");
    std::fs::create_dir(&root).unwrap();
    let root = root.display();
    let host = root_after(&format!(
        "mount -t tmpfs none {root}
         mkdir {root}/in
         for dir in /*; do
             test -d $dir -a ! -L $dir && mkdir {root}/in$dir && mount --rbind $dir {root}/in$dir
             test -L $dir && cp -P $dir {root}/in
         done
         set -- chroot {root}/in \"$@\""
    ));
    refused(&lab, host(bundle.call("run", NONE)).done(), "NS-DENIED", &["chroot", "operation not permitted"]);
}
