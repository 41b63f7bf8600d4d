//! Making archives, well formed and not.

use super::super::source::BLOCK;

/// An archive that is being put together.
#[derive(Default, Clone)]
pub struct Tar(pub Vec<u8>);

/// A header that is being put together.
pub struct Header(pub [u8; BLOCK]);

impl Header {
    pub fn new(flag: u8, name: impl AsRef<[u8]>) -> Header {
        let mut header = Header([0; BLOCK]);
        header.0[156] = flag;
        let mode = if flag == b'5' { b"0000755\0" } else { b"0000644\0" };
        header
            .put(0, name)
            .put(100, mode)
            .put(108, b"0000000\0")
            .put(116, b"0000000\0")
            .put(136, b"00000000001\0")
            .put(257, b"ustar\x0000")
            .size(0)
    }

    pub fn put(mut self, at: usize, bytes: impl AsRef<[u8]>) -> Header {
        let bytes = bytes.as_ref();
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn size(self, size: u64) -> Header {
        self.put(124, format!("{size:011o}\0"))
    }

    pub fn mode(self, mode: u32) -> Header {
        self.put(100, format!("{mode:07o}\0"))
    }

    pub fn mtime(self, mtime: u64) -> Header {
        self.put(136, format!("{mtime:011o}\0"))
    }

    pub fn target(self, target: &str) -> Header {
        self.put(157, target)
    }

    /// With its checksum.
    pub fn seal(self) -> [u8; BLOCK] {
        let header = self.put(148, b"        ");
        let sum: u32 = header.0.iter().copied().map(u32::from).sum();
        header.put(148, format!("{sum:06o}\0 ")).0
    }
}

impl Tar {
    pub fn new() -> Tar {
        Tar::default()
    }

    pub fn add(mut self, header: Header, data: &[u8]) -> Tar {
        self.0.extend(header.seal());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    pub fn file(self, name: &str, content: &str) -> Tar {
        self.add(Header::new(b'0', name).size(content.len() as u64), content.as_bytes())
    }

    pub fn directory(self, name: &str) -> Tar {
        self.add(Header::new(b'5', name), b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Tar {
        self.add(Header::new(b'2', name).target(target), b"")
    }

    pub fn link(self, name: &str, target: &str) -> Tar {
        self.add(Header::new(b'1', name).target(target), b"")
    }

    /// A pax header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.add(Header::new(b'x', "pax").size(body.len() as u64), &body)
    }

    /// A long name or target of GNU's for the next entry.
    pub fn long(self, flag: u8, name: &[u8]) -> Tar {
        let body = [name, b"\0"].concat();
        self.add(Header::new(flag, "././@LongLink").size(body.len() as u64), &body)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 2 * BLOCK]);
        self.0
    }
}

pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    // The length counts its own digits.
    let length =
        (1..).find(|digits| (digits + rest.len()).to_string().len() == *digits).unwrap() + rest.len();
    [length.to_string().as_bytes(), &rest].concat()
}
