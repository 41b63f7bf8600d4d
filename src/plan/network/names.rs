//! How the container finds names: /etc/resolv.conf, /etc/hosts and /etc/hostname.
//!
//! They are files of the container's state directory, shown at these places, so that the image stays as it is
//! and the container may still change them. What config.json mounts at one of the places, or above it, is the
//! caller's word on it and stays.
//!
//! The host's resolv.conf is taken over, but in a network of its own the container cannot reach a resolver on
//! the host's loopback. systemd-resolved, whose stub is such a one, writes down the real ones as well; else the
//! helper answers in their place.

use crate::bundle::clean;
use crate::host::network::Network as Facts;
use oci_spec::runtime::Mount;
use std::net::IpAddr;
use std::path::Path;

/// A file that the container sees in place of the image's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its name in the state directory.
    pub name: &'static str,
    /// Its absolute path in the container.
    pub at: &'static str,
    pub contents: String,
}

/// Whom the container asks for addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolver {
    /// Nobody: nothing could be reached.
    None,
    /// Whom the host asks: it has the host's network.
    OfHost,
    /// Whom the host asks, as far as they are not on its loopback; these are what the forwarder is for.
    Reachable { forwarder: Option<IpAddr> },
}

/// What the files are made from.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub hostname: &'a str,
    pub resolver: Resolver,
    pub mounts: &'a [Mount],
}

/// The files to show, and whether the container asks the forwarder.
pub fn files(wanted: &Wanted<'_>, facts: &Facts) -> (Vec<Shown>, bool) {
    let (resolv, forwards) = resolv_conf(wanted.resolver, facts);
    let mut files = Vec::new();
    let mut show = |name, at, contents: Option<String>| {
        let mounted = wanted.mounts.iter().any(|mount| {
            let destination = clean(&Path::new("/").join(mount.destination()));
            Path::new(at).starts_with(destination)
        });
        if let Some(contents) = contents.filter(|_| !mounted) {
            files.push(Shown { name, at, contents });
        }
    };
    show("resolv.conf", "/etc/resolv.conf", resolv);
    show("hosts", "/etc/hosts", Some(hosts(wanted, facts)));
    show("hostname", "/etc/hostname", Some(format!("{}\n", wanted.hostname)));
    let shows_resolv = files.iter().any(|file| file.name == "resolv.conf");
    (files, forwards && shows_resolv)
}

/// The text of resolv.conf, and whether it names the forwarder. `None` where it would name nobody: the image's
/// own is no worse then.
fn resolv_conf(resolver: Resolver, facts: &Facts) -> (Option<String>, bool) {
    let forwarder = match resolver {
        Resolver::None => return (None, false),
        Resolver::OfHost => {
            return (Some(facts.resolv_conf.clone()).filter(|text| names_somebody(text)), false);
        }
        Resolver::Reachable { forwarder } => forwarder,
    };
    if names_somebody(&reachable(&facts.resolv_conf)) {
        return (Some(reachable(&facts.resolv_conf)), false);
    }
    if let Some(text) = facts.resolved_conf.as_deref().map(reachable).filter(|text| names_somebody(text)) {
        return (Some(text), false);
    }
    // There are resolvers, all of them on loopback.
    let Some(forwarder) = forwarder.filter(|_| names_somebody(&facts.resolv_conf)) else {
        return (None, false);
    };
    (Some(format!("{}nameserver {forwarder}\n", reachable(&facts.resolv_conf))), true)
}

/// A resolv.conf(5) without the resolvers that only the host can reach.
fn reachable(text: &str) -> String {
    let keep = |line: &&str| nameserver(line).is_none_or(|address| address.is_some_and(|a| !a.is_loopback()));
    text.lines().filter(keep).map(|line| format!("{line}\n")).collect()
}

fn names_somebody(text: &str) -> bool {
    text.lines().any(|line| nameserver(line).is_some())
}

/// The address of a nameserver line: `Some(None)` for one that means something on the host only, as a link-local
/// address with its interface does.
fn nameserver(line: &str) -> Option<Option<IpAddr>> {
    let mut words = line.split_ascii_whitespace();
    (words.next() == Some("nameserver")).then(|| words.next().and_then(|word| word.parse().ok()))
}

/// With the host's network the container sees what the host does, and its own name in any case.
fn hosts(wanted: &Wanted<'_>, facts: &Facts) -> String {
    let name = wanted.hostname;
    let mut text = match wanted.resolver {
        Resolver::OfHost if !facts.hosts.is_empty() => facts.hosts.trim_end().to_string() + "\n",
        _ => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_string(),
    };
    let known =
        |line: &str| line.split('#').next().is_some_and(|l| l.split_whitespace().skip(1).any(|n| n == name));
    if !name.is_empty() && !text.lines().any(known) {
        // As Debian has it: the address of an interface may change, and this one answers as well.
        text += &format!("127.0.1.1\t{name}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::MountBuilder;

    fn facts(resolv_conf: &str) -> Facts {
        Facts { resolv_conf: resolv_conf.into(), ..Facts::default() }
    }

    fn pasta() -> Resolver {
        Resolver::Reachable { forwarder: Some([169, 254, 1, 1].into()) }
    }

    fn resolv(resolver: Resolver, facts: &Facts) -> (String, bool) {
        let (text, forwards) = resolv_conf(resolver, facts);
        (text.unwrap_or_default(), forwards)
    }

    #[test]
    fn resolvers_elsewhere_are_taken_over_with_all_their_options() {
        let text = "# by hand\nsearch example.org\nnameserver 192.0.2.53\nnameserver 2001:db8::53\noptions ndots:2\n";
        assert_eq!(resolv(pasta(), &facts(text)), (text.into(), false));
    }

    #[test]
    fn resolvers_on_loopback_are_replaced_by_the_forwarder() {
        let stub = facts("search lan\nnameserver 127.0.0.53\nnameserver ::1\noptions edns0\n");
        let text = "search lan\noptions edns0\nnameserver 169.254.1.1\n";
        assert_eq!(resolv(pasta(), &stub), (text.into(), true));
        // Nobody is there to forward in a namespace that others have made.
        assert_eq!(resolv(Resolver::Reachable { forwarder: None }, &stub), (String::new(), false));
    }

    #[test]
    fn one_that_can_be_reached_makes_the_others_superfluous() {
        let mixed = facts("nameserver 127.0.0.1\nnameserver fe80::1%eth0\nnameserver 192.0.2.53\n");
        assert_eq!(resolv(pasta(), &mixed), ("nameserver 192.0.2.53\n".into(), false));
    }

    #[test]
    fn the_real_resolvers_of_systemd_resolved_are_preferred_to_its_stub() {
        let resolved = Some("nameserver 192.0.2.1\nsearch lan\n".to_string());
        let both = Facts { resolved_conf: resolved, ..facts("nameserver 127.0.0.53\n") };
        assert_eq!(resolv(pasta(), &both), ("nameserver 192.0.2.1\nsearch lan\n".into(), false));
    }

    #[test]
    fn the_network_of_the_host_has_the_hosts_resolvers_and_none_has_none() {
        let stub = facts("nameserver 127.0.0.53\n");
        assert_eq!(resolv(Resolver::OfHost, &stub), ("nameserver 127.0.0.53\n".into(), false));
        assert_eq!(resolv(Resolver::None, &stub), (String::new(), false));
        assert_eq!(resolv(pasta(), &facts("")), (String::new(), false));
    }

    #[test]
    fn hosts_knows_the_container_by_its_name() {
        let wanted = |resolver| Wanted { hostname: "moss", resolver, mounts: &[] };
        let host = Facts { hosts: "127.0.0.1 localhost\n192.0.2.7 nas # moss\n".into(), ..Facts::default() };
        assert!(hosts(&wanted(pasta()), &host).ends_with("ip6-loopback\n127.0.1.1\tmoss\n"));
        assert!(hosts(&wanted(Resolver::OfHost), &host).ends_with("nas # moss\n127.0.1.1\tmoss\n"));
        let known = Facts { hosts: "192.0.2.7 moss\n".into(), ..Facts::default() };
        assert_eq!(hosts(&wanted(Resolver::OfHost), &known), "192.0.2.7 moss\n");
    }

    #[test]
    fn what_the_configuration_mounts_there_or_above_stays() {
        let names = |destination: &str| {
            let mount = MountBuilder::default().destination(destination).build().unwrap();
            let wanted = Wanted { hostname: "moss", resolver: pasta(), mounts: &[mount] };
            let (files, forwards) = files(&wanted, &facts("nameserver 127.0.0.53\n"));
            (files.iter().map(|file| file.name).collect::<Vec<_>>(), forwards)
        };
        assert_eq!(names("/srv"), (vec!["resolv.conf", "hosts", "hostname"], true));
        assert_eq!(names("etc/resolv.conf"), (vec!["hosts", "hostname"], false));
        assert_eq!(names("/etc/./hosts"), (vec!["resolv.conf", "hostname"], true));
        assert_eq!(names("/etc"), (vec![], false));
    }
}
