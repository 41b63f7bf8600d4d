//! Networks that are not to be had. A helper that hangs or fails, and a port that is root's, are told in `network`.

use super::{Host, map_to_root, may_go, root_after, weakens};
use crate::lab::{Bundle, Call, Lab, bryo_only};

/// A bundle that asks for this network, and tells which interfaces it has.
fn asking<'lab>(lab: &'lab Lab, network: &str, publish: &str) -> Bundle<'lab> {
    let bundle = lab.bundle().sh("ls /proc/sys/net/ipv4/conf").with(|c| {
        c["annotations"]["io.bryo.network"] = network.into();
        if !publish.is_empty() {
            c["annotations"]["io.bryo.publish"] = publish.into();
        }
    });
    // One that has a place for the files of the network.
    bundle.own_rootfs().with(map_to_root)
}

const LOOPBACK_ALONE: &str = "all\ndefault\nlo\n";

/// Nothing is installed, and there is something that may be opened as the tun device, whatever this host has.
fn without_helpers<'lab>() -> impl Host<'lab> {
    let with_tun = root_after("mount -t tmpfs none /dev/net; touch /dev/net/tun");
    move |call: Call<'lab>| with_tun(call.under(["/usr/bin/env", "PATH=/nowhere"]))
}

/// What was `auto` is loopback alone, and what was asked for by name may go by name.
#[track_caller]
fn no_network_here<'lab>(lab: &'lab Lab, host: impl Host<'lab>, code: &str) {
    weakens(&asking(lab, "auto", ""), &host, LOOPBACK_ALONE, code);
    for (network, publish) in [("pasta", ""), ("slirp4netns", ""), ("auto", "8080:80")] {
        may_go(&asking(lab, network, publish), &host, "network", LOOPBACK_ALONE, code);
    }
}

#[test]
fn without_a_helper_there_is_loopback_alone() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    no_network_here(&lab, without_helpers(), "NET-NOHELPER");
}

#[test]
fn without_tun_there_is_loopback_alone() {
    bryo_only!("runc brings no network");
    let lab = Lab::new();
    let host = root_after("mount -t tmpfs none /dev/net");
    no_network_here(&lab, host, "NET-TUN");
}
