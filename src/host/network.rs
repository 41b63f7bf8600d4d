//! What there is to connect a container with, and how this host finds names.

use super::idmap::find_program;
use crate::sys::Errno;
use crate::sys::fds::io_errno;
use std::fs::{File, read_to_string};
use std::path::PathBuf;

/// The network as far as a container is concerned; read only for one that asks for a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    pub pasta: Option<PathBuf>,
    pub slirp4netns: Option<PathBuf>,
    /// Why /dev/net/tun cannot be used; nothing where it can.
    pub tun: Option<Errno>,
    /// There is a default route, of whichever family.
    pub routed: bool,
    /// The first port that anybody may listen on.
    pub unprivileged_port_start: u16,
    /// resolv.conf(5) and hosts(5) of the host.
    pub resolv_conf: String,
    pub hosts: String,
    /// The resolvers behind systemd-resolved's stub.
    pub resolved_conf: Option<String>,
    /// gethostname(2).
    pub hostname: String,
}

/// Reads it. What of it cannot be read is as good as absent.
pub fn read() -> Network {
    let text = |path: &str| read_to_string(path).unwrap_or_default();
    Network {
        pasta: find_program("pasta"),
        slirp4netns: find_program("slirp4netns"),
        tun: tun(),
        routed: routed(&text("/proc/net/route"), &text("/proc/net/ipv6_route")),
        unprivileged_port_start: text("/proc/sys/net/ipv4/ip_unprivileged_port_start")
            .trim()
            .parse()
            .unwrap_or(PRIVILEGED),
        resolv_conf: text("/etc/resolv.conf"),
        resolved_conf: read_to_string("/run/systemd/resolve/resolv.conf").ok(),
        hosts: text("/etc/hosts"),
        hostname: nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
    }
}

/// Where the ports of root end since ever (`PROT_SOCK`), for kernels before 4.11, which cannot be told otherwise.
const PRIVILEGED: u16 = 1024;

/// Opening it changes nothing; only what is done with the descriptor would.
fn tun() -> Option<Errno> {
    File::options().read(true).write(true).open("/dev/net/tun").err().map(io_errno)
}

/// Whether one of the tables has a default route that leads somewhere.
fn routed(v4: &str, v6: &str) -> bool {
    let v4 = v4.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields[..], [_, "00000000", _, flags, _, _, _, "00000000", ..] if up(flags))
    });
    let v6 = v6.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let nowhere = "0".repeat(32);
        // Every host has one to nowhere, on lo.
        matches!(fields[..], [to, "00", .., flags, device] if to == nowhere && device != "lo" && up(flags))
    });
    v4 || v6
}

/// `RTF_UP`.
fn up(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
    const DEFAULT: &str = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
    const LINK: &str = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    #[test]
    fn a_default_route_of_either_family_is_one() {
        let zero = "0".repeat(32);
        let v6 = |flags, device| {
            format!(
                "{zero} 00 {zero} 00 fe80{} 00000400 00000001 00000000 {flags}     {device}\n",
                "0".repeat(28)
            )
        };
        assert!(routed(&format!("{HEAD}{DEFAULT}"), ""));
        assert!(routed("", &v6("00450003", "eth0")));
        assert!(!routed(&format!("{HEAD}{LINK}"), &v6("00200200", "lo")));
        assert!(!routed("", ""));
    }
}
