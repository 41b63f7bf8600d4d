//! Mounts whose files show other ids, for whoever is not root: what was mounted in a user namespace, its root may
//! map; the file systems of the machine are root's. The rest is in `crate::rootful::idmapped`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::lab::{Bundle, Lab, NONE, bryo_only, plain_user_only};

/// A mount of `source` on /mnt, with the maps of the bundle's own config.json: nothing that the user does not own.
fn with_the_containers_maps<'lab>(bundle: Bundle<'lab>, source: &Path, options: &[&str]) -> Bundle<'lab> {
    let linux = bundle.config["linux"].clone();
    let mut mount = json!({ "destination": "/mnt", "type": "bind", "source": source, "options": options });
    mount["uidMappings"] = linux["uidMappings"].clone();
    mount["gidMappings"] = linux["gidMappings"].clone();
    bundle.add_mount(mount)
}

#[test]
fn a_file_system_of_the_machine_is_refused_on_one_line() {
    bryo_only!("runc 1.1 knows no mappings of mounts and ignores them");
    plain_user_only!("root may");
    let lab = Lab::new();
    let dir = lab.dir.join("volume");
    fs::create_dir(&dir).unwrap();
    // Only the kernel knows whose a file system is.
    let bundle = with_the_containers_maps(lab.bundle().subids(), &dir, &["bind", "idmap"]);
    let words = ["MNT-IDMAP", "volume", "/mnt", "operation not permitted; fix: "];
    bundle.run().refuses(1, &words);
    // Without maps there is nothing to ask it.
    let mount =
        json!({ "destination": "/mnt", "type": "bind", "source": dir, "options": ["rbind", "ridmap"] });
    lab.bundle().subids().add_mount(mount.clone()).run().refuses(1, &["MNT-IDMAP", "only root", "; fix: "]);
    // Nor where they lead to somebody else's ids.
    let mut stolen = mount;
    stolen["uidMappings"] = json!([{ "containerID": 0, "hostID": 1, "size": 1 }]);
    stolen["gidMappings"] = json!([{ "containerID": 0, "hostID": 1, "size": 1 }]);
    lab.bundle().subids().add_mount(stolen).run().refuses(1, &["MNT-IDMAP", "/mnt", "lacks (1)"]);
}

/// A bundle with a tmpfs on /own that belongs to uid 5 and gid 6, which is shown on /mnt with other ids.
fn own_tmpfs<'lab>(lab: &'lab Lab, uids: &Value, gids: &Value, word: &str) -> Bundle<'lab> {
    let bundle = lab.bundle().subids().own_rootfs();
    let source = bundle.rootfs().join("own");
    bundle
        .add_mount(
            json!({ "destination": "/own", "type": "tmpfs", "source": "own", "options": ["uid=5", "gid=6"] }),
        )
        .add_mount(json!({
            "destination": "/mnt", "type": "bind", "source": source, "options": ["bind", "nosuid", word],
            "uidMappings": uids, "gidMappings": gids,
        }))
        .sh("stat -c %u:%g /own /mnt; chown 5:6 /mnt; stat -c %u:%g /own /mnt")
        .with(|c| {
            let all = json!(["CAP_CHOWN"]);
            c["process"]["capabilities"] = json!({ "bounding": all, "effective": all, "permitted": all });
        })
}

#[test]
fn a_file_system_of_the_containers_own_shows_the_ids_of_a_map() {
    bryo_only!("runc 1.1 knows no mappings of mounts and ignores them");
    let lab = Lab::new();
    // On disk 5 and 6, 105 and 106: of the container's ids 50, 60, 5 and 6.
    let outside = |bundle: &Bundle<'_>, kind: &str, inside: u64| {
        let first = &bundle.config["linux"][kind][1];
        first["hostID"].as_u64().unwrap() + inside - first["containerID"].as_u64().unwrap()
    };
    let ids = lab.bundle().subids();
    let map = |kind: &str, disk: u64, shown: u64| {
        json!([
            { "containerID": disk, "hostID": outside(&ids, kind, shown), "size": 1 },
            { "containerID": 100 + disk, "hostID": outside(&ids, kind, disk), "size": 1 },
        ])
    };
    let bundle = own_tmpfs(&lab, &map("uidMappings", 5, 50), &map("gidMappings", 6, 60), "idmap");
    bundle.run().prints("5:6\n50:60\n105:106\n5:6\n");
}

#[test]
fn the_inline_form_relative_to_the_container_works_too() {
    bryo_only!("it is crun's");
    let lab = Lab::new();
    let inline = "idmap=uids=@5-50-1#@105-5-1;gids=@6-60-1#@106-6-1";
    own_tmpfs(&lab, &json!([]), &json!([]), inline).run().prints("5:6\n50:60\n105:106\n5:6\n");
}

#[test]
fn root_of_a_user_namespace_may_map_what_was_mounted_in_it_and_nothing_else() {
    bryo_only!("runc 1.1 knows no mappings of mounts and ignores them");
    let lab = Lab::new();
    let volume = lab.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    // As under Podman: bryo is root there, and the configuration has no user namespace.
    let maps = json!([{ "containerID": 0, "hostID": 7, "size": 10 }]);
    let bundle = lab.bundle().without_namespace("user").with(|c| {
        c["linux"]["uidMappings"] = Value::Null;
        c["linux"]["gidMappings"] = Value::Null;
    });
    let bundle = bundle.sh("stat -c %u:%g /mnt").add_mount(json!({
        "destination": "/mnt", "type": "bind", "source": volume, "options": ["bind"],
        "uidMappings": maps, "gidMappings": maps,
    }));
    let inside = ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--"];
    let mounted = format!("mount -t tmpfs own {} && XDG_RUNTIME_DIR=", volume.display());
    bundle.call("run", NONE).after_shell(&mounted).under(inside).done().prints("7:7\n");
    let ran = bundle.call("run", NONE).under(inside).done();
    ran.refuses(1, &["MNT-IDMAP", "volume", "operation not permitted; fix: "]);
}
