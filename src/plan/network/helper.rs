//! The helpers' command lines, as data.
//!
//! Only options that every version since Debian 12's has (pasta of 2023-03, slirp4netns 1.2.0), so that nobody
//! has to ask a helper which one it is.

use super::publish::{Protocol, Publish, range};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::RawFd;
use std::path::PathBuf;

/// A program that connects a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelperKind {
    Pasta,
    Slirp4netns,
}

/// The helper of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    pub kind: HelperKind,
    pub program: PathBuf,
    pub publish: Vec<Publish>,
    /// The container asks it for names, and it asks the host's resolvers.
    pub forwards_names: bool,
    /// We are root, at least in our user namespace.
    pub as_root: bool,
    /// It publishes on IPv4 addresses alone.
    pub ipv4_alone: bool,
    /// Nobody in the container can see it, so that it may enter the container's user namespace for good.
    pub out_of_sight: bool,
}

/// Where slirp4netns listens for ports to publish: a name in its working directory, since paths of sockets are short.
pub const API_SOCKET: &str = "network.sock";

impl HelperKind {
    pub fn name(self) -> &'static str {
        match self {
            HelperKind::Pasta => "pasta",
            HelperKind::Slirp4netns => "slirp4netns",
        }
    }

    /// The address in the container's network at which it answers for the host's resolvers.
    pub fn forwarder(self) -> IpAddr {
        match self {
            // Link-local, so that it hides no address that the host can reach.
            HelperKind::Pasta => IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
            // It has no other.
            HelperKind::Slirp4netns => IpAddr::V4(Ipv4Addr::new(10, 0, 2, 3)),
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

impl Helper {
    /// The arguments of pasta, which finds the network namespace on its standard input, the user namespace, where it is to
    /// enter one, on its standard output, and says on its standard error that it is ready, with its pid.
    ///
    /// Later versions close every other descriptor, and a path below /proc/PID would be refused, since nobody
    /// may look into init.
    pub fn pasta(&self, enters_user: bool) -> Vec<String> {
        // In the foreground, because a daemon's pid would have to be guessed. It stops without the namespace by
        // looking at a path every second, which ours does not tell.
        let mut argv = words(&["pasta", "--foreground", "--quiet", "--no-netns-quit", "--config-net"]);
        // The gateway's address would be the host's loopback.
        argv.extend(words(&["--no-map-gw", "--tcp-ns", "none", "--udp-ns", "none"]));
        if self.ipv4_alone {
            argv.push("--ipv4-only".into());
        }
        if self.forwards_names {
            argv.extend(["--dns-forward".into(), self.kind.forwarder().to_string()]);
        }
        for (option, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
            let mut published = self.publish.iter().filter(|publish| publish.protocol == protocol).peekable();
            if published.peek().is_none() {
                argv.extend([option.into(), "none".into()]);
            }
            published.for_each(|publish| argv.extend([option.into(), pasta_ports(publish)]));
        }
        // Else it becomes nobody, who may not enter the namespaces of root's containers. It drops its
        // capabilities either way.
        if self.as_root {
            argv.extend(words(&["--runas", "0"]));
        }
        argv.extend(words(&["--pid", "/proc/self/fd/2"]));
        if enters_user {
            argv.extend(words(&["--userns", "/proc/self/fd/1"]));
        } else {
            argv.push("--netns-only".into());
        }
        argv.extend(words(&["--netns", "/proc/self/fd/0"]));
        argv
    }

    /// The arguments of slirp4netns, which takes the namespaces of a process, since it enters its sandbox
    /// by no path, and says on a descriptor that it is ready.
    pub fn slirp4netns(&self, holder: i32, ready: RawFd) -> Vec<String> {
        let mut argv = words(&["slirp4netns", "--configure", "--mtu=65520", "--enable-ipv6"]);
        argv.extend(words(&["--disable-host-loopback", "--enable-seccomp"]));
        // Its sandbox takes all but the descriptors from it that it has, but lies in the container's user namespace, whose root
        // may ptrace(2) what it sees there. pasta's does as well, but pasta hides itself.
        if self.out_of_sight {
            argv.push("--enable-sandbox".into());
        }
        argv.push(format!("--ready-fd={ready}"));
        if !self.publish.is_empty() {
            argv.push(format!("--api-socket={API_SOCKET}"));
        }
        argv.extend([holder.to_string(), "tap0".into()]);
        argv
    }
}

fn pasta_ports(publish: &Publish) -> String {
    let address = publish.address.map(|address| format!("{address}/")).unwrap_or_default();
    format!("{address}{}:{}", range(publish.first, publish.count), range(publish.inside, publish.count))
}

/// What is sent to slirp4netns for one port.
pub fn slirp4netns_request(publish: &Publish, (host, inside): (u16, u16)) -> serde_json::Value {
    let address = publish.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    serde_json::json!({
        "execute": "add_hostfwd",
        "arguments": {
            "proto": if publish.protocol == Protocol::Udp { "udp" } else { "tcp" },
            "host_addr": address.to_string(),
            "host_port": host,
            "guest_port": inside,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse_publish;
    use super::*;

    fn helper(kind: HelperKind, publish: &[&str]) -> Helper {
        let publish = publish.iter().map(|text| parse_publish(text).unwrap()).collect();
        Helper {
            kind,
            program: "/usr/bin/x".into(),
            publish,
            forwards_names: false,
            as_root: false,
            ipv4_alone: false,
            out_of_sight: true,
        }
    }

    #[test]
    fn pasta_without_ports_forwards_none_in_either_direction() {
        let argv = helper(HelperKind::Pasta, &[]).pasta(true).join(" ");
        assert_eq!(
            argv,
            "pasta --foreground --quiet --no-netns-quit --config-net --no-map-gw --tcp-ns none --udp-ns none \
             --tcp-ports none --udp-ports none --pid /proc/self/fd/2 --userns /proc/self/fd/1 \
             --netns /proc/self/fd/0"
        );
    }

    #[test]
    fn pasta_gets_ports_by_protocol_with_addresses_and_ranges() {
        let ports = ["8080:80", "127.0.0.1:8000-8010:80-90", "[::1]:81:81", "53:53/udp"];
        let argv = helper(HelperKind::Pasta, &ports).pasta(true).join(" ");
        assert!(
            argv.contains(
                " --tcp-ports 8080:80 --tcp-ports 127.0.0.1/8000-8010:80-90 --tcp-ports ::1/81:81 \
                 --udp-ports 53:53 "
            ),
            "{argv}"
        );
    }

    #[test]
    fn pasta_of_root_stays_root_and_enters_no_user_namespace_that_is_ours_already() {
        let root = Helper { as_root: true, forwards_names: true, ..helper(HelperKind::Pasta, &[]) };
        let argv = root.pasta(false).join(" ");
        assert!(argv.contains("--runas 0 ") && argv.contains("--netns-only --netns "), "{argv}");
        assert!(argv.contains(" --dns-forward 169.254.1.1 ") && !argv.contains("--userns "), "{argv}");
        assert!(!argv.contains("--ipv4-only"), "{argv}");
        let alone = Helper { ipv4_alone: true, ..root }.pasta(false);
        assert!(alone.contains(&"--ipv4-only".to_string()));
    }

    #[test]
    fn slirp4netns_listens_for_ports_only_where_there_are_some() {
        let argv = helper(HelperKind::Slirp4netns, &[]).slirp4netns(42, 3).join(" ");
        assert_eq!(
            argv,
            "slirp4netns --configure --mtu=65520 --enable-ipv6 --disable-host-loopback --enable-seccomp \
             --enable-sandbox --ready-fd=3 42 tap0"
        );
        let argv = helper(HelperKind::Slirp4netns, &["8080:80"]).slirp4netns(42, 3).join(" ");
        assert!(argv.ends_with(" --api-socket=network.sock 42 tap0"), "{argv}");
    }

    #[test]
    fn slirp4netns_that_the_container_can_see_stays_in_our_user_namespace() {
        let seen = Helper { out_of_sight: false, ..helper(HelperKind::Slirp4netns, &[]) };
        assert!(!seen.slirp4netns(42, 3).contains(&"--enable-sandbox".to_string()));
    }

    #[test]
    fn slirp4netns_is_asked_for_each_port_by_itself() {
        let publish = parse_publish("127.0.0.1:8080-8081:80-81/udp").unwrap();
        let requests: Vec<_> = publish.pairs().map(|pair| slirp4netns_request(&publish, pair)).collect();
        assert_eq!(requests.len(), 2);
        assert_eq!(
            requests[1]["arguments"],
            serde_json::json!({"proto": "udp", "host_addr": "127.0.0.1", "host_port": 8081, "guest_port": 81})
        );
        let all = slirp4netns_request(&parse_publish("8080:80").unwrap(), (8080, 80));
        assert_eq!(all["arguments"]["host_addr"], "0.0.0.0");
    }
}
