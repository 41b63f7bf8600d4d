//! Published ports: `[IP:]HOST:CONTAINER[/tcp|/udp]`, as Docker and Podman write them.
//!
//! HOST and CONTAINER may be ranges of the same length, and an IPv6 address is in brackets. Without an address
//! the port is published on all of the host's.

use std::fmt;
use std::net::IpAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// One mapping, of a port or of several that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// Of the host's addresses this one, else all.
    pub address: Option<IpAddr>,
    pub protocol: Protocol,
    /// The first port of the host.
    pub first: u16,
    /// The one of the container that it leads to.
    pub inside: u16,
    /// How many follow each other.
    pub count: u16,
}

impl Publish {
    /// The ports of the host, with those of the container.
    pub fn pairs(self) -> impl Iterator<Item = (u16, u16)> {
        (0..self.count).map(move |n| (self.first + n, self.inside + n))
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        write!(f, "{}:{}", range(self.first, self.count), range(self.inside, self.count))?;
        if self.protocol == Protocol::Udp { f.write_str("/udp") } else { Ok(()) }
    }
}

/// Ports as all of this is written: `80`, or `80-90`.
pub fn range(first: u16, count: u16) -> String {
    if count == 1 { first.to_string() } else { format!("{first}-{}", first + count - 1) }
}

/// Reads one.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Publish, String> {
    let bad = |cause: &str| format!("{text:?} is no published port: {cause}");
    let (rest, protocol) = match text.rsplit_once('/') {
        None | Some((_, "tcp")) => (text.strip_suffix("/tcp").unwrap_or(text), Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some(_) => return Err(bad("the protocol is tcp or udp")),
    };
    let (rest, inside) = rest.rsplit_once(':').ok_or_else(|| bad("it is [IP:]HOST:CONTAINER[/udp]"))?;
    let (address, host) = match rest.rsplit_once(':') {
        None => (None, rest),
        Some((address, host)) => {
            let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
            let parsed = match bare {
                Some(v6) => v6.parse().map(IpAddr::V6),
                None => address.parse().map(IpAddr::V4),
            };
            (Some(parsed.map_err(|_| bad("its address is none, or IPv6 without brackets"))?), host)
        }
    };
    let (first, count) = ports(host).ok_or_else(|| bad("ports are 1 to 65535, or a range of them"))?;
    let (inside, same) = ports(inside).ok_or_else(|| bad("ports are 1 to 65535, or a range of them"))?;
    if count != same {
        return Err(bad("the two ranges are of different length"));
    }
    // All of them is what no address means, and the helpers know it best as that.
    let address = address.filter(|address| *address != IpAddr::from([0u16; 8]));
    Ok(Publish { address, protocol, first, inside, count })
}

/// The first port and how many there are.
fn ports(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| -> Option<u16> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if digits { text.parse().ok().filter(|port| *port != 0) } else { None }
    };
    match text.split_once('-') {
        None => Some((port(text)?, 1)),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            Some((first, last.checked_sub(first)? + 1))
        }
    }
}

/// Two that want the same port of the host.
pub fn overlap(all: &[Publish]) -> Option<(Publish, Publish)> {
    let collide = |a: &Publish, b: &Publish| {
        let same_address =
            a.address == b.address || covers(a.address, b.address) || covers(b.address, a.address);
        let apart = |a: &Publish, b: &Publish| u32::from(a.first) + u32::from(a.count) <= u32::from(b.first);
        a.protocol == b.protocol && same_address && !apart(a, b) && !apart(b, a)
    };
    all.iter().enumerate().find_map(|(n, one)| {
        all[n + 1..].iter().find(|other| collide(one, other)).map(|other| (*one, *other))
    })
}

/// Whether what listens on the one is in the way of the other.
fn covers(wide: Option<IpAddr>, narrow: Option<IpAddr>) -> bool {
    match (wide, narrow) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide.is_unspecified() && wide.is_ipv4() == narrow.is_ipv4(),
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Publish {
        parse(text).unwrap_or_else(|cause| panic!("{cause}"))
    }

    #[test]
    fn every_form_is_read_and_written_as_it_was() {
        for text in [
            "8080:80",
            "8080:80/udp",
            "127.0.0.1:8080:80",
            "[::1]:8080:80",
            "[2001:db8::1]:53:53/udp",
            "8000-8010:80-90",
            "0.0.0.0:1:65535",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
        assert_eq!(parsed("8080:80/tcp"), parsed("8080:80"));
        assert_eq!(parsed("[::]:8080:80"), parsed("8080:80"));
        let pairs: Vec<_> = parsed("8000-8002:80-82").pairs().collect();
        assert_eq!(pairs, [(8000, 80), (8001, 81), (8002, 82)]);
        assert_eq!(parsed("65535:65535").pairs().count(), 1);
        assert_eq!(parsed("1-65535:1-65535").pairs().last(), Some((65535, 65535)));
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in [
            "",
            "80",
            ":80",
            "80:",
            "0:80",
            "80:0",
            "65536:80",
            "+80:80",
            " 80:80",
            "80:80/sctp",
            "80:80/",
            "::1:80:80",
            "localhost:80:80",
            "[127.0.0.1]:80:80",
            "1.2.3:80:80",
            "1.2.3.4::80",
            "80-90:80",
            "80-81:80-82",
            "90-80:90-80",
            "80:80:80:80",
            "127.0.0.1:80-:80-",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn overlaps_are_found_by_address_protocol_and_range() {
        let overlaps = |texts: [&str; 2]| overlap(&texts.map(parsed)).is_some();
        for both in [
            ["80:1", "80:2"],
            ["80:1", "127.0.0.1:80:2"],
            ["[::1]:80:1", "80:2"],
            ["80-90:80-90", "90-91:1-2"],
            ["0.0.0.0:80:1", "127.0.0.1:80:2"],
            ["65535:1", "65535:2"],
        ] {
            assert!(overlaps(both), "{both:?}");
        }
        for both in [
            ["80:1", "81:1"],
            ["80:1", "80:1/udp"],
            ["127.0.0.1:80:1", "127.0.0.2:80:1"],
            ["127.0.0.1:80:1", "[::1]:80:1"],
            ["0.0.0.0:80:1", "[::1]:80:1"],
            ["80-89:80-89", "90-99:90-99"],
        ] {
            assert!(!overlaps(both), "{both:?}");
        }
    }
}
