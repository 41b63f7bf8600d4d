//! Namespaces, and the network.

use super::*;
use crate::host::CAP_MKNOD;

pub(super) fn joined_network() -> Scenario {
    let mut list = namespaces(&["mount", "pid", "user"]);
    list.as_array_mut().unwrap().push(json!({"type": "network", "path": "/run/netns/blue"}));
    let sys = json!([{"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}]);
    scenario(with(one_id(), &json!({"linux": {"namespaces": list}, "mounts": sys})), alice())
}

pub(super) fn joined_namespaces_in_order() -> Scenario {
    let joined = |kind: &str| json!({"type": kind, "path": format!("/proc/7/ns/{kind}")});
    let list: Value = ["mount", "ipc", "user", "uts"].map(joined).into_iter().collect();
    let change = json!({"hostname": "blue", "linux": {
        "namespaces": list, "uidMappings": null, "gidMappings": null,
    }});
    scenario(with(one_id(), &change), alice())
}

/// A configuration without a mount namespace, and without paths that are kept from the container.
fn sharing_mounts(kinds: &[&str]) -> Value {
    let change = json!({"linux": {
        "namespaces": namespaces(kinds), "maskedPaths": null, "readonlyPaths": null,
    }});
    with(bare(), &change)
}

pub(super) fn mounts_of_the_host() -> Scenario {
    let volume = json!([{"destination": "/srv", "source": "/srv", "options": ["rbind", "rshared"]}]);
    let config = with(sharing_mounts(&["pid"]), &json!({"mounts": volume}));
    // Not a device can be made; they are shown.
    let facts = Facts { capabilities: EVERY_CAPABILITY & !(1 << CAP_MKNOD), ..root() };
    scenario(config, facts).asking(|request| request.no_pivot = true)
}

pub(super) fn mounts_of_the_host_and_what_would_not_hold_there() -> Scenario {
    let masked = json!({"linux": {"maskedPaths": ["/proc/kcore"]}});
    scenario(with(sharing_mounts(&["pid"]), &masked), root())
}

/// A host with a route, both helpers and a resolver in its network.
pub(super) fn connected(mut facts: Facts) -> Facts {
    facts.network = Network {
        pasta: Some("/usr/bin/pasta".into()),
        slirp4netns: Some("/usr/bin/slirp4netns".into()),
        tun: None,
        routed: true,
        unprivileged_port_start: 1024,
        resolv_conf: "nameserver 192.0.2.53\n".into(),
        hosts: "127.0.0.1 localhost\n192.0.2.7 nas\n".into(),
        resolved_conf: None,
        hostname: "laptop".into(),
    };
    facts
}

pub(super) fn alice_connected(change: impl FnOnce(&mut Network)) -> Facts {
    let mut facts = connected(alice());
    change(&mut facts.network);
    facts
}

/// With a network by this word, and these ports.
pub(super) fn asking_for(word: &str, ports: &[&str], config: Value, facts: Facts) -> Scenario {
    scenario(config, facts).asking(|request| {
        request.network = Some(network::parse(word).unwrap());
        request.publish = ports.iter().map(|port| network::parse_publish(port).unwrap()).collect();
    })
}

pub(super) fn network_auto() -> Scenario {
    asking_for(
        "auto",
        &["8080:80", "[::1]:53:53/udp"],
        one_id(),
        alice_connected(|n| n.unprivileged_port_start = 0),
    )
}

pub(super) fn network_auto_without_a_route() -> Scenario {
    asking_for("auto", &[], one_id(), alice_connected(|network| network.routed = false))
}

pub(super) fn network_by_pasta_without_a_route() -> Scenario {
    asking_for("pasta", &["8080:80"], one_id(), alice_connected(|network| network.routed = false))
}

pub(super) fn network_auto_without_tun() -> Scenario {
    asking_for("auto", &[], one_id(), alice_connected(|network| network.tun = Some(Errno::EACCES)))
}

pub(super) fn network_auto_without_a_helper() -> Scenario {
    let nobody = |network: &mut Network| (network.pasta, network.slirp4netns) = (None, None);
    asking_for("auto", &[], one_id(), alice_connected(nobody))
}

pub(super) fn network_auto_without_a_helper_is_refused_when_strict() -> Scenario {
    network_auto_without_a_helper().degrading("strict")
}

pub(super) fn network_auto_without_a_helper_is_refused_with_ports() -> Scenario {
    let nobody = |network: &mut Network| (network.pasta, network.slirp4netns) = (None, None);
    asking_for("auto", &["8080:80"], one_id(), alice_connected(nobody))
}

pub(super) fn network_by_pasta_without_tun_is_refused() -> Scenario {
    asking_for("pasta", &[], one_id(), alice_connected(|network| network.tun = Some(Errno::ENOENT)))
}

pub(super) fn network_by_pasta_without_tun_may_go() -> Scenario {
    network_by_pasta_without_tun_is_refused().degrading("strict,network")
}

pub(super) fn network_by_pasta_with_slirp4netns_alone_is_refused() -> Scenario {
    asking_for("pasta", &[], one_id(), alice_connected(|network| network.pasta = None))
}

/// The stub of a resolver on loopback, and a hostname of the container's own.
pub(super) fn network_by_slirp4netns() -> Scenario {
    let config = with(
        bare(),
        &json!({
            "hostname": "moss",
            "linux": {"namespaces": namespaces(&["mount", "pid", "user", "uts"])},
        }),
    );
    let stub = |network: &mut Network| network.resolv_conf = "nameserver 127.0.0.53\n".into();
    asking_for("slirp4netns", &["8080:80"], config, alice_connected(stub))
}

pub(super) fn network_by_slirp4netns_on_an_ipv6_address_is_refused() -> Scenario {
    asking_for("slirp4netns", &["[::1]:8080:80"], one_id(), alice_connected(|_| ()))
}

pub(super) fn network_with_a_port_of_roots_is_refused() -> Scenario {
    asking_for("auto", &["80:80"], one_id(), alice_connected(|_| ()))
}

pub(super) fn network_of_root_with_a_port_of_roots() -> Scenario {
    asking_for("auto", &["80:80"], bare(), connected(root()))
}

pub(super) fn with_devices(mut config: Value) -> Value {
    config["linux"]["netDevices"] = json!({ "eth0": {}, "eth1": { "name": "lan%d" } });
    config
}

pub(super) fn with_rdt(mut config: Value, rdt: Value) -> Value {
    config["linux"]["intelRdt"] = rdt;
    config
}

pub(super) fn rdt_of_its_own() -> Scenario {
    let rdt = json!({ "l3CacheSchema": "L3:0=7f0;1=1f", "memBwSchema": "MB:0=20;1=70" });
    let facts = Facts { resctrl: Some("/sys/fs/resctrl".into()), ..root() };
    scenario(with_rdt(spec(&SpecKind::Root), rdt), facts)
}

pub(super) fn rdt_of_a_name_that_counts() -> Scenario {
    let rdt = json!({ "closID": "guaranteed", "schemata": ["L2:0=f"], "enableMonitoring": true });
    let facts = Facts { resctrl: Some("/sys/fs/resctrl".into()), ..root() };
    scenario(with_rdt(spec(&SpecKind::Root), rdt), facts)
}

pub(super) fn rdt_without_resctrl_is_refused() -> Scenario {
    scenario(with_rdt(spec(&SpecKind::Root), json!({ "closID": "guaranteed" })), root())
}

pub(super) fn rdt_is_refused_to_a_user() -> Scenario {
    scenario(with_rdt(spec_rootless(), json!({ "closID": "guaranteed" })), alice())
}

pub(super) fn network_devices_of_root() -> Scenario {
    scenario(with_devices(spec(&SpecKind::Root)), root())
}

pub(super) fn network_devices_are_refused_to_a_user() -> Scenario {
    let mut config = with_devices(spec_rootless());
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.push(json!({ "type": "network" }));
    scenario(config, alice())
}

pub(super) fn network_none() -> Scenario {
    asking_for("none", &[], one_id(), alice_connected(|_| ()))
}

/// The network namespace of the configuration goes, and its sysfs becomes the host's.
pub(super) fn network_host() -> Scenario {
    let config = with(
        bare(),
        &json!({
            "mounts": [{"destination": "/sys", "type": "sysfs", "source": "sysfs"}],
            "linux": {"namespaces": namespaces(&["mount", "pid", "user", "network"])},
        }),
    );
    asking_for("host", &[], config, alice_connected(|_| ()))
}

pub(super) fn network_host_with_a_sysctl_is_refused() -> Scenario {
    let config = with(
        bare(),
        &json!({"linux": {
            "namespaces": namespaces(&["mount", "pid", "user", "network"]),
            "sysctl": {"net.core.somaxconn": "64"},
        }}),
    );
    asking_for("host", &[], config, alice_connected(|_| ()))
}

pub(super) fn network_joined_by_its_path() -> Scenario {
    asking_for("ns:/run/netns/blue", &[], one_id(), alice_connected(|_| ()))
}

/// What the configuration says of itself, in annotations.
pub(super) fn network_by_annotations() -> Scenario {
    let annotations = json!({"io.bryo.network": "pasta", "io.bryo.publish": "127.0.0.1:8000-8002:80-82"});
    scenario(with(one_id(), &json!({"annotations": annotations})), alice_connected(|_| ()))
}

pub(super) fn ports_without_a_network_are_refused() -> Scenario {
    let port = network::parse_publish("8080:80").unwrap();
    scenario(one_id(), alice_connected(|_| ())).asking(|request| request.publish = vec![port])
}

pub(super) fn host_network() -> Scenario {
    let sys = json!([{"destination": "/sys", "type": "sysfs", "source": "sysfs",
        "options": ["nosuid", "noexec", "nodev", "ro"]}]);
    scenario(with(one_id(), &json!({ "mounts": sys })), alice())
}

pub(super) fn host_pid() -> Scenario {
    let proc = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
    let change = json!({"linux": {"namespaces": namespaces(&["mount", "user"])}, "mounts": proc});
    scenario(with(one_id(), &change), alice()).asking(|request| {
        // There is no pid 1 to name.
        request.listen_fds = 1;
    })
}

pub(super) fn host_ipc() -> Scenario {
    let queues = json!([{"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
        "options": ["nosuid", "noexec", "nodev"]}]);
    scenario(with(one_id(), &json!({ "mounts": queues })), alice())
}

pub(super) fn no_mount_namespace_is_refused() -> Scenario {
    let change = json!({"linux": {"namespaces": namespaces(&["user", "pid"])}});
    scenario(with(one_id(), &change), alice())
}

pub(super) fn hostname_of_the_host_is_refused() -> Scenario {
    scenario(with(one_id(), &json!({"hostname": "blue"})), alice())
}

pub(super) fn time_offset() -> Scenario {
    let change = json!({"linux": {
        "namespaces": namespaces(&["mount", "pid", "user", "time"]),
        "timeOffsets": {"boottime": {"secs": 86400, "nanosecs": 5}},
    }});
    scenario(with(one_id(), &change), alice())
}
