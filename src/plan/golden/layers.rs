//! Layers.

use super::*;

/// alice, who has fuse-overlayfs and may open its device; her root file systems are her own.
pub(super) fn roots() -> Roots {
    Roots {
        fuse_overlayfs: Some("/usr/bin/fuse-overlayfs".into()),
        fuse_device: true,
        owner: 1000,
        ..Roots::default()
    }
}

pub(super) fn layered(annotations: &Value, roots: Roots) -> Scenario {
    let config = with(one_id(), &json!({ "annotations": annotations }));
    scenario(config, Facts { roots: Some(roots), ..alice() })
}

pub(super) fn asked_for(changes: Changes, roots: Roots) -> Scenario {
    layered(&json!({}), roots).asking(|request| request.changes = Some(changes))
}

pub(super) fn ephemeral() -> Scenario {
    asked_for(Changes::Vanish, roots())
}

pub(super) fn ephemeral_by_annotation() -> Scenario {
    layered(&json!({"io.bryo.rootfs.ephemeral": "true"}), roots())
}

pub(super) fn ephemeral_without_fuse_overlayfs() -> Scenario {
    asked_for(Changes::Vanish, Roots { fuse_overlayfs: None, ..roots() })
}

pub(super) fn ephemeral_without_the_fuse_device() -> Scenario {
    asked_for(Changes::Vanish, Roots { fuse_device: false, ..roots() })
}

pub(super) fn ephemeral_of_files_that_are_nobodys() -> Scenario {
    asked_for(Changes::Vanish, Roots { owner: 0, ..roots() })
}

pub(super) fn ephemeral_of_files_that_are_nobodys_without_fuse_overlayfs() -> Scenario {
    asked_for(Changes::Vanish, Roots { owner: 0, fuse_overlayfs: None, ..roots() })
}

pub(super) fn ephemeral_read_only() -> Scenario {
    let mut scenario = ephemeral();
    scenario.config["root"]["readonly"] = true.into();
    scenario.config["linux"]["rootfsPropagation"] = "rshared".into();
    scenario
}

pub(super) fn ephemeral_of_root() -> Scenario {
    let roots =
        Roots { submounts: vec!["/bundle/rootfs/srv".into(), "/bundle/rootfs/srv/x".into()], ..roots() };
    scenario(bare(), Facts { roots: Some(roots), ..root() })
        .asking(|request| request.changes = Some(Changes::Vanish))
}

pub(super) fn ephemeral_wins_over_the_annotation() -> Scenario {
    layered(&json!({"io.bryo.rootfs.overlay": "overlay"}), roots())
        .asking(|request| request.changes = Some(Changes::Vanish))
}

pub(super) fn overlay_of_the_bundle() -> Scenario {
    layered(&json!({"io.bryo.rootfs.overlay": "./x/../overlay"}), roots())
}

pub(super) fn overlay_wins_over_the_annotation() -> Scenario {
    layered(&json!({"io.bryo.rootfs.ephemeral": "true"}), roots())
        .asking(|request| request.changes = Some(Changes::Kept("/home/alice/changes".into())))
}

pub(super) fn overlay_with_a_copy_of_an_earlier_run() -> Scenario {
    asked_for(Changes::Kept("/changes".into()), Roots { copied: true, ..roots() })
}

pub(super) fn overlay_and_ephemeral_is_refused() -> Scenario {
    layered(&json!({"io.bryo.rootfs.overlay": "overlay", "io.bryo.rootfs.ephemeral": "true"}), roots())
}

pub(super) fn layers_annotation(more: &Value) -> Value {
    let mut annotations = json!({"io.bryo.rootfs.layers": "[\"lowest\", \"/store/a,b:c\"]"});
    merge(&mut annotations, more);
    annotations
}

pub(super) fn layers_beneath_the_root() -> Scenario {
    layered(&layers_annotation(&json!({"io.bryo.rootfs.ephemeral": "true"})), roots())
}

pub(super) fn layers_beneath_an_empty_root() -> Scenario {
    let annotations = layers_annotation(&json!({"io.bryo.rootfs.overlay": "overlay"}));
    layered(&annotations, Roots { root_is_empty: true, ..roots() })
}

pub(super) fn layers_read_only() -> Scenario {
    let mut scenario = layered(&layers_annotation(&json!({})), roots());
    scenario.config["root"]["readonly"] = true.into();
    scenario
}

pub(super) fn layers_without_a_place_for_changes_is_refused() -> Scenario {
    layered(&layers_annotation(&json!({})), roots())
}

pub(super) fn layers_that_are_no_list_is_refused() -> Scenario {
    layered(&json!({"io.bryo.rootfs.layers": "/store/a"}), roots())
}

pub(super) fn layers_and_the_host_is_refused() -> Scenario {
    layered(&layers_annotation(&json!({"io.bryo.rootfs.host": "true"})), roots())
}

pub(super) fn ephemeral_that_is_neither_true_nor_false_is_refused() -> Scenario {
    layered(&json!({"io.bryo.rootfs.ephemeral": "yes"}), roots())
}

/// This machine's own system, with two more file systems.
pub(super) fn machine() -> Roots {
    let directories = ["dev", "etc", "home", "proc", "run", "sys", "tmp", "usr", "var"];
    let mut top: Vec<_> = directories.map(|name| (name.into(), Kind::Directory)).into();
    top.push(("bin".into(), Kind::Link("usr/bin".into())));
    top.push(("swapfile".into(), Kind::File));
    let submounts = ["/home", "/proc", "/proc/x", "/var/lib/x", "/var/lib/x/y"].map(Into::into).into();
    Roots { owner: 0, top, submounts, ..roots() }
}

pub(super) fn host_by_fuse_overlayfs() -> Scenario {
    layered(&json!({"io.bryo.rootfs.host": "true", "io.bryo.rootfs.ephemeral": "true"}), machine())
}

pub(super) fn host_without_fuse_overlayfs() -> Scenario {
    let machine = Roots { fuse_overlayfs: None, ..machine() };
    layered(&json!({"io.bryo.rootfs.host": "true", "io.bryo.rootfs.ephemeral": "true"}), machine)
}

pub(super) fn host_of_root() -> Scenario {
    let annotations = json!({"io.bryo.rootfs.host": "true", "io.bryo.rootfs.overlay": "/changes"});
    let config = with(bare(), &json!({ "annotations": annotations }));
    scenario(config, Facts { roots: Some(machine()), ..root() })
}
