//! Ids that are not to be had.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;
use serde_json::json;

use super::{as_it_is, differs, refused, root_after, user_after, weakens};
use crate::lab::{Bundle, Call, Lab, NONE, bryo_only, plain_user_only};

/// A bundle with a range of ids, whose process tells how much is left of it.
fn ranged(lab: &Lab) -> Bundle<'_> {
    lab.bundle().subids().sh("wc -l < /proc/self/uid_map; id -u")
}

/// The same for a process that is another user, or has other groups.
fn demanding(lab: &Lab) -> Bundle<'_> {
    lab.bundle().subids().with(|c| {
        c["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [100] });
    })
}

fn path<'lab>(call: Call<'lab>, path: &str) -> Call<'lab> {
    call.env_remove("PATH").env("PATH", path)
}

/// The helpers that the lab has copies of, which lose the privilege that they are about.
fn copied_helpers(lab: &Lab, mode: u32) -> String {
    let dir = lab.dir.join(format!("bin-{mode:o}"));
    fs::create_dir(&dir).unwrap();
    for name in ["newuidmap", "newgidmap"] {
        let copy = dir.join(name);
        fs::copy(format!("/usr/bin/{name}"), &copy).unwrap();
        fs::set_permissions(copy, fs::Permissions::from_mode(mode)).unwrap();
    }
    format!("{}:/usr/bin:/bin", dir.display())
}

#[test]
fn without_the_id_helpers_a_range_becomes_a_single_id() {
    bryo_only!("runc fails");
    plain_user_only!("root needs no helper");
    let lab = Lab::new();
    let nowhere = |call| path(call, "/nowhere");
    weakens(&ranged(&lab), nowhere, "1\n0\n", "ID-NOHELPER");
    refused(&lab, nowhere(demanding(&lab).call("run", NONE)).done(), "ID-NOHELPER", &["more than one id"]);
}

#[test]
fn an_id_helper_without_its_privilege_is_named() {
    bryo_only!("runc fails");
    plain_user_only!("root needs no helper");
    let lab = Lab::new();
    let nosuid = statvfs(&lab.dir).unwrap().flags().contains(FsFlags::ST_NOSUID);
    // Without the bit, and with it for an owner who is not root: unless the mount makes it mean nothing anyway.
    for (mode, code) in [(0o755, "ID-HELPERCAP"), (0o4755, if nosuid { "ID-NNP" } else { "ID-HELPERCAP" })] {
        let copies = copied_helpers(&lab, mode);
        let powerless = |call| path(call, &copies);
        weakens(&ranged(&lab), powerless, "1\n0\n", code);
        refused(&lab, powerless(demanding(&lab).call("run", NONE)).done(), code, &["more than one id"]);
    }
}

#[test]
fn under_no_new_privs_the_id_helpers_are_not_even_tried() {
    bryo_only!("runc fails");
    plain_user_only!("root needs no helper");
    let lab = Lab::new();
    fn confined(call: Call<'_>) -> Call<'_> {
        call.under(["setpriv", "--no-new-privs", "--"])
    }
    weakens(&ranged(&lab), confined, "1\n0\n", "ID-NNP");
    let ran = confined(demanding(&lab).call("run", NONE)).done();
    refused(&lab, ran, "ID-NNP", &["allowPrivilegeEscalation"]);
}

#[test]
fn an_id_helper_on_a_nosuid_mount_is_named() {
    bryo_only!("runc fails");
    plain_user_only!("root needs no helper");
    let lab = Lab::new();
    let dir = lab.dir.join("nosuid");
    fs::create_dir(&dir).unwrap();
    let dir = dir.display();
    let host = user_after(&format!(
        "mount -t tmpfs -o nosuid none {dir}
         cp /usr/bin/newuidmap /usr/bin/newgidmap {dir}
         chmod u+s {dir}/newuidmap {dir}/newgidmap"
    ));
    let host = |call| host(path(call, &format!("{dir}:/usr/bin:/bin")));
    refused(&lab, host(demanding(&lab).call("run", NONE)).done(), "ID-NNP", &["mounted nosuid"]);
    weakens(&ranged(&lab), host, "1\n0\n", "ID-NNP");
}

#[test]
fn without_subordinate_ids_a_range_becomes_a_single_id() {
    bryo_only!("runc fails");
    plain_user_only!("root needs no subordinate ids");
    let lab = Lab::new();
    let host = user_after("mount --bind /dev/null /etc/subuid; mount --bind /dev/null /etc/subgid");
    weakens(&ranged(&lab), &host, "1\n0\n", "ID-NOSUBID");
    let ran = host(demanding(&lab).call("run", NONE)).done();
    refused(&lab, ran, "ID-NOSUBID", &["/etc/subuid has no range for", "usermod --add-subuids"]);
}

/// A map beyond the caller's range is `namespaces::a_map_beyond_the_callers_range_is_refused_with_the_code_and_the_fix`.
#[test]
fn ids_of_others_are_refused_by_their_range() {
    bryo_only!("runc has no words for it");
    plain_user_only!("all ids are root's");
    let lab = Lab::new();
    let of_others = |outside: u32| {
        lab.bundle().with(|c| {
            for key in ["uidMappings", "gidMappings"] {
                c["linux"][key] = json!([{ "containerID": 0, "hostID": outside, "size": 7 }]);
            }
        })
    };
    refused(&lab, of_others(0).run(), "ID-RANGE", &["the spec maps 0+7"]);
    // The same to root of a user namespace, who has one.
    let ran = root_after(":")(of_others(5).call("run", NONE)).done();
    refused(&lab, ran, "ID-RANGE", &["the spec maps 5+7", "has 0+1"]);
}

#[test]
fn a_user_that_is_not_mapped_is_refused_and_a_single_id_follows_it() {
    bryo_only!("runc has no words for it, and needs a mapped root");
    let lab = Lab::new();
    let stranger = lab.bundle().subids().with(|c| c["process"]["user"]["uid"] = 70_000.into());
    refused(&lab, stranger.run(), "ID-UNMAPPED", &["uid 70000"]);
    if geteuid().is_root() {
        // To root a map of one id is like any other.
        return;
    }
    let single = lab.bundle().with(|c| c["process"]["user"] = json!({ "uid": 7, "gid": 8 }));
    differs(&single.sh("id -u; id -g; hostname"), as_it_is, "7\n8\nmoss\n", "ID-UNMAPPED");
}
