//! Digests: what an image says of its parts, and the reader that finds out whether it is true.

use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;
use std::io::Read;

/// The algorithms that the image specification registers and that anybody uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// The name, which is the directory of its blobs too.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn digits(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// `ALGORITHM:HEX`, checked: it is safe as a part of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    pub algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// Reads the text of one.
    ///
    /// # Errors
    /// Anything but an algorithm that is known and its number of lower case digits.
    pub fn parse(text: &str) -> Result<Digest, String> {
        let bad = || format!("{text:?} is no digest that is supported: invalid argument");
        let (name, hex) = text.split_once(':').ok_or_else(bad)?;
        let known = [Algorithm::Sha256, Algorithm::Sha512].into_iter().find(|known| known.name() == name);
        let algorithm = known.ok_or_else(bad)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() != algorithm.digits() || !hex.bytes().all(is_digit) {
            return Err(bad());
        }
        Ok(Digest { algorithm, hex: hex.to_string() })
    }

    /// That of some bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest { algorithm: Algorithm::Sha256, hex: hex(&Sha256::digest(bytes)) }
    }

    /// The digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[derive(Clone)]
enum State {
    Sha256(Box<Sha256>),
    Sha512(Box<Sha512>),
}

/// A reader that remembers how much was read and what its digest is.
pub struct Hashing<R> {
    inner: R,
    /// None where nobody asks for the digest.
    state: Option<State>,
    pub count: u64,
}

impl<R: Read> Hashing<R> {
    pub fn new(inner: R, algorithm: Option<Algorithm>) -> Hashing<R> {
        let state = algorithm.map(|algorithm| match algorithm {
            Algorithm::Sha256 => State::Sha256(Box::default()),
            Algorithm::Sha512 => State::Sha512(Box::default()),
        });
        Hashing { inner, state, count: 0 }
    }

    /// The digest of what was read so far, if it was wanted.
    pub fn digest(&self) -> Option<Digest> {
        self.state.clone().map(|state| match state {
            State::Sha256(state) => Digest { algorithm: Algorithm::Sha256, hex: hex(&state.finalize()) },
            State::Sha512(state) => Digest { algorithm: Algorithm::Sha512, hex: hex(&state.finalize()) },
        })
    }

    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.inner.read(buffer)?;
        match &mut self.state {
            Some(State::Sha256(state)) => state.update(&buffer[..len]),
            Some(State::Sha512(state)) => state.update(&buffer[..len]),
            None => {}
        }
        self.count += len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_whole_digests_are_taken() {
        let good = Digest::parse(&format!("sha256:{EMPTY}")).unwrap();
        assert_eq!((good.to_string(), good.hex()), (format!("sha256:{EMPTY}"), EMPTY));
        assert!(Digest::parse(&format!("sha512:{EMPTY}{EMPTY}")).is_ok());
        for bad in [
            "",
            EMPTY,
            "sha256:",
            "sha256:../../../etc/passwd",
            &format!("sha256:{}", EMPTY.to_uppercase()),
            &format!("sha256:{EMPTY}0"),
            &format!("sha512:{EMPTY}"),
            &format!("md5:{EMPTY}"),
        ] {
            assert!(Digest::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_read_is_counted_and_hashed() {
        let mut reader = Hashing::new(&b"abc"[..], Some(Algorithm::Sha512));
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        assert_eq!(reader.count, 3);
        assert!(reader.digest().unwrap().to_string().starts_with("sha512:ddaf35a193617aba"));
        assert_eq!(Hashing::new(&b""[..], Some(Algorithm::Sha256)).digest(), Some(Digest::of(b"")));
        assert_eq!(Hashing::new(&b""[..], None).digest(), None);
    }
}
