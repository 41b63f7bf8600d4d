//! Where a bus listens: `unix:path=/run/user/1000/bus;unix:abstract=/tmp/dbus-x,guid=…`.

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One address of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    Path(PathBuf),
    /// A name without a file, which belongs to a network namespace.
    Abstract(Vec<u8>),
    /// What is no socket of this machine, or cannot be read; kept so that an error can name it.
    Other(String),
}

impl Address {
    /// The addresses of a list, in its order.
    pub fn list(text: &str) -> Vec<Address> {
        text.split(';').filter(|one| !one.is_empty()).map(Address::parse).collect()
    }

    fn parse(text: &str) -> Address {
        let other = || Address::Other(text.to_owned());
        let Some(keys) = text.strip_prefix("unix:") else { return other() };
        let value = |key: &str| {
            let pair = keys.split(',').find_map(|pair| pair.split_once('=').filter(|(k, _)| *k == key));
            pair.and_then(|(_, value)| unescape(value)).filter(|bytes| !bytes.is_empty())
        };
        match (value("path"), value("abstract")) {
            (Some(path), None) => Address::Path(OsString::from_vec(path).into()),
            (None, Some(name)) => Address::Abstract(name),
            _ => other(),
        }
    }
}

/// The bytes of a value: those that an address cannot hold are written as `%` and two hexadecimal digits.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'%' { digit(bytes.next()?)? << 4 | digit(bytes.next()?)? } else { byte });
    }
    Some(plain)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Path(path) => write!(f, "{}", path.display()),
            Address::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
            Address::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_paths_and_abstract_names() {
        assert_eq!(
            Address::list("unix:path=/run/user/1000/bus,guid=12;unix:abstract=/tmp/dbus-x;"),
            [Address::Path("/run/user/1000/bus".into()), Address::Abstract(b"/tmp/dbus-x".to_vec())]
        );
    }

    #[test]
    fn bytes_may_be_escaped() {
        assert_eq!(Address::list("unix:path=/a%2cb%3B%20c"), [Address::Path("/a,b; c".into())]);
    }

    #[test]
    fn what_cannot_be_read_stays_as_it_is() {
        for odd in [
            "tcp:host=a",
            "disabled:",
            "unix:",
            "unix:path=",
            "unix:path=/a%2",
            "unix:path=/a%zz",
            "unix:path=a,abstract=b",
        ] {
            assert_eq!(Address::list(odd), [Address::Other(odd.to_owned())]);
        }
        assert_eq!(Address::list(";;"), []);
    }
}
