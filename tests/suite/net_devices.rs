//! Devices of the host's network that move into the container (linux.netDevices), on a machine of the test's own: a
//! network namespace with a pair of devices, in which the caller is root.

use serde_json::{Value, json};

use crate::lab::{Bundle, Call, Lab, Ran, bryo_only, plain_user_only};

/// moss0 has an address to keep of each family, and one that means something to the host alone.
const MACHINE: &str = r#"
ip link set lo up
ip link add moss0 type veth peer name fern0
ip link set moss0 address 02:00:00:00:00:07 mtu 1420
ip addr add 192.0.2.7/24 dev moss0
ip addr add 198.51.100.8/24 scope link dev moss0
ip addr add 2001:db8::7/64 dev moss0 nodad
"$@" </dev/null
code=$?
ip -o link | cut -d ' ' -f 2 | grep -c '^moss' >&2
exit $code
"#;

fn with_devices<'lab>(lab: &'lab Lab, devices: Value) -> Bundle<'lab> {
    lab.bundle().namespace("network", None).args(["ip", "addr"]).with(|c| {
        for map in ["uidMappings", "gidMappings"] {
            c["linux"][map] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        }
        c["linux"]["netDevices"] = devices;
    })
}

fn on_a_machine(call: Call) -> Ran {
    call.under(["unshare", "--user", "--map-root-user", "--net", "--mount", "--", "sh", "-c", MACHINE, "sh"])
        .done()
}

fn run(bundle: &Bundle) -> Ran {
    on_a_machine(bundle.call("run", [] as [&str; 0]))
}

#[test]
fn a_device_moves_with_its_addresses_its_mtu_and_its_hardware_address() {
    bryo_only!("runc 1.1 ignores linux.netDevices");
    let lab = Lab::new();
    let ran = run(&with_devices(&lab, json!({ "moss0": {} }))).ok();
    for wanted in [
        "moss0",
        ",UP",
        "mtu 1420",
        "link/ether 02:00:00:00:00:07",
        "inet 192.0.2.7/24 ",
        "inet6 2001:db8::7/64 ",
    ] {
        assert!(ran.stdout.contains(wanted), "{wanted}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("198.51.100.8"), "{}", ran.stdout);
    // It went with the container: a virtual device ends with its namespace.
    assert_eq!(ran.stderr, "0\n");
}

#[test]
fn a_device_has_another_name_inside_or_one_of_the_kernels_choice() {
    bryo_only!("runc 1.1 ignores linux.netDevices");
    let lab = Lab::new();
    for (name, inside) in [("eth0", "eth0"), ("eth%d", "eth0"), ("fern%d", "fern0")] {
        let ran = run(&with_devices(&lab, json!({ "moss0": { "name": name } }))).ok();
        assert!(ran.stdout.contains(&format!(": {inside}@")), "{name}: {}", ran.stdout);
        assert!(ran.stdout.contains("inet 192.0.2.7/24 "), "{}", ran.stdout);
    }
}

#[test]
fn a_device_that_is_not_there_and_a_name_that_is_taken_are_refused() {
    bryo_only!("runc 1.1 ignores linux.netDevices");
    let lab = Lab::new();
    for (devices, words) in [
        (json!({ "eth7": {} }), ["eth7", "no such device"]),
        (json!({ "moss0": { "name": "lo" } }), ["called lo", "file exists"]),
        (
            json!({ "lo": { "name": "lo7" } }),
            ["network device lo into", "cannot leave its namespace: invalid argument"],
        ),
    ] {
        let ran = run(&with_devices(&lab, devices));
        let (line, left) = ran.stderr.split_once('\n').unwrap();
        assert!(line.contains("NET-DEVICE: ") && line.contains("; fix: "), "{line}");
        assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
        assert_eq!((ran.code(), left), (1, "1\n"), "{line}");
        assert!(lab.state_entries().is_empty());
    }
}

#[test]
fn a_container_that_does_not_come_up_gives_its_devices_back() {
    bryo_only!("runc 1.1 ignores linux.netDevices");
    let lab = Lab::new();
    let hook = json!({ "path": "/bin/false" });
    let bundle = with_devices(&lab, json!({ "moss0": { "name": "eth0" } })).hook("createRuntime", hook);
    let ran = run(&bundle);
    assert_eq!(ran.code(), 1, "{ran:?}");
    assert!(ran.stderr.contains("HOOK") && ran.stderr.ends_with("\n1\n"), "{}", ran.stderr);
}

#[test]
fn devices_that_cannot_move_are_refused_before_anything_is_made() {
    bryo_only!("runc 1.1 ignores linux.netDevices");
    let lab = Lab::new();
    let refused = |devices: Value| with_devices(&lab, devices).without_namespace("network");
    let ran = run(&refused(json!({ "moss0": {} })));
    assert!(ran.stderr.contains("no network namespace of its own: invalid argument; fix: "), "{ran:?}");
    for name in ["a/b", "", "1234567890123456", "x y"] {
        let ran = run(&with_devices(&lab, json!({ "moss0": { "name": "eth0" }, name: {} })));
        assert!(ran.stderr.contains("no name of a network device: invalid argument"), "{name}: {ran:?}");
    }
    let ran = run(&with_devices(&lab, json!({ "moss0": { "name": "eth0" }, "fern0": { "name": "eth0" } })));
    assert!(ran.stderr.contains("two are called eth0: file exists"), "{ran:?}");
}

#[test]
fn a_plain_user_is_told_whose_devices_they_are() {
    bryo_only!("runc 1.1 ignores linux.netDevices");
    plain_user_only!("root may");
    let lab = Lab::new();
    let bundle =
        lab.bundle().namespace("network", None).with(|c| c["linux"]["netDevices"] = json!({ "lo": {} }));
    bundle.run().refuses(1, &["NET-DEVICE", "CAP_NET_ADMIN", "operation not permitted; fix: "]);
}
