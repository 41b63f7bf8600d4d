//! A tar file whose members are read where they lie, in any order: what `docker save` writes.
//!
//! Only the headers are read at first, a block of 512 bytes each, and what they say is remembered: the name, and
//! where its bytes are. A file that cannot be read at any place, since it is compressed or comes through a pipe, is
//! written to a nameless temporary file before.
//!
//! The headers are those of pax(1) and of GNU tar: a long name is the content of a member of its own, before the
//! one that it is for.

use super::compress::Plain;
use super::files::{Files, Part};
use crate::report::io_text;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

const BLOCK: u64 = 512;

/// More than any image has: an archive of more members is something else.
const MAX_MEMBERS: usize = 1 << 16;

/// The longest header that a name may be in.
const MAX_NAME: u64 = 64 << 10;

/// As many links as lead from one member to the next.
const MAX_LINKS: usize = 8;

/// An archive, and where its members are.
pub struct Archive {
    file: Rc<File>,
    members: HashMap<String, Member>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Member {
    File {
        at: u64,
        size: u64,
    },
    /// To another name, from the root of the archive.
    Link(String),
    Other,
}

impl Archive {
    /// Reads the headers. What cannot be read at any place is first copied to a file below `scratch`.
    ///
    /// # Errors
    /// One line: it is no tar file, or one that is cut off.
    pub fn open(file: File, scratch: &Path) -> Result<Archive, String> {
        let file = Rc::new(seekable(file, scratch).map_err(|e| io_text(&e))?);
        let members = members(&file)?;
        Ok(Archive { file, members })
    }

    fn member(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = normal(name)?;
        for _ in 0..MAX_LINKS {
            match self.members.get(&name)? {
                Member::File { at, size } => return Some((*at, *size)),
                Member::Link(target) => name.clone_from(target),
                Member::Other => return None,
            }
        }
        None
    }
}

impl Files for Archive {
    fn open(&self, name: &str) -> Result<Part, String> {
        let (at, size) =
            self.member(name).ok_or_else(|| format!("{name}: no such file or directory in it"))?;
        Ok(Part::new(self.file.clone(), at, size))
    }
}

/// The file itself, or a plain copy of it.
fn seekable(file: File, scratch: &Path) -> io::Result<File> {
    let regular = file.metadata()?.is_file();
    let mut plain = Plain::new(file)?;
    if regular && plain.is_stored() {
        return plain.get_mut().try_clone();
    }
    let mut copy = nameless(scratch)?;
    io::copy(&mut plain, &mut copy)?;
    copy.flush()?;
    Ok(copy)
}

/// A file that is gone with its last descriptor.
fn nameless(dir: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    match options.clone().custom_flags(libc::O_TMPFILE).open(dir) {
        // Not every file system can do that.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            let path = dir.join(format!("archive-{}", std::process::id()));
            let file = options.create_new(true).open(&path)?;
            std::fs::remove_file(path)?;
            Ok(file)
        }
        other => other,
    }
}

/// What the headers before a member say of it.
#[derive(Default)]
struct Extended {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

fn members(file: &File) -> Result<HashMap<String, Member>, String> {
    let end = file.metadata().map_err(|e| io_text(&e))?.len();
    let mut members = HashMap::new();
    let mut extended = Extended::default();
    let mut at = 0;
    loop {
        let mut block = [0; BLOCK as usize];
        if end < at + BLOCK {
            // Some writers leave out the two empty blocks.
            return if at == end && at > 0 { Ok(members) } else { Err(cut_off(at)) };
        }
        file.read_exact_at(&mut block, at).map_err(|e| io_text(&e))?;
        at += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            return if at > BLOCK { Ok(members) } else { Err("it is empty: invalid argument".into()) };
        }
        let header = Header::parse(&block).ok_or(match at {
            BLOCK => "it is no tar file: invalid argument".to_string(),
            _ => format!("the header at byte {} is damaged: invalid argument", at - BLOCK),
        })?;
        let size = extended.size.unwrap_or(header.size);
        let next = size.checked_next_multiple_of(BLOCK).and_then(|padded| padded.checked_add(at));
        let next = next.ok_or_else(|| cut_off(at))?;
        // The padding of the last member may be missing, its content may not.
        if size > end - at {
            return Err(cut_off(end));
        }
        let content = || {
            let mut bytes = vec![0; usize::try_from(size.min(MAX_NAME)).unwrap_or_default()];
            file.read_exact_at(&mut bytes, at).map_err(|e| io_text(&e))?;
            if size > MAX_NAME { Err("a name in it is too long".to_string()) } else { Ok(bytes) }
        };
        match header.kind {
            b'L' => extended.path = Some(text(&content()?)),
            b'K' => extended.link = Some(text(&content()?)),
            b'x' => pax(&content()?, &mut extended)?,
            b'g' => {}
            kind => {
                let Extended { path, link, .. } = std::mem::take(&mut extended);
                let path = path.unwrap_or(header.path);
                let link = link.unwrap_or(header.link);
                let member = match kind {
                    0 | b'0' | b'7' => Member::File { at, size },
                    b'1' => normal(&link).map_or(Member::Other, Member::Link),
                    b'2' => beside(&path, &link).map_or(Member::Other, Member::Link),
                    _ => Member::Other,
                };
                // A name that leads out of the archive is nobody's.
                if let Some(name) = normal(&path) {
                    members.insert(name, member);
                }
                if members.len() > MAX_MEMBERS {
                    return Err("it has more members than an image: invalid argument".into());
                }
            }
        }
        at = next.min(end);
    }
}

fn cut_off(at: u64) -> String {
    format!("it ends within a member, at byte {at}: invalid argument")
}

struct Header {
    path: String,
    link: String,
    size: u64,
    kind: u8,
}

impl Header {
    fn parse(block: &[u8; BLOCK as usize]) -> Option<Header> {
        // The sum is that of the block with eight blanks for the sum.
        let unsummed = block.iter().enumerate().filter(|(at, _)| !(148..156).contains(at));
        let sum = unsummed.map(|(_, byte)| u64::from(*byte)).sum::<u64>() + 8 * u64::from(b' ');
        if number(&block[148..156])? != sum {
            return None;
        }
        let name = text(&block[..100]);
        let prefix = if &block[257..263] == b"ustar\0" { text(&block[345..500]) } else { String::new() };
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        Some(Header { path, link: text(&block[157..257]), size: number(&block[124..136])?, kind: block[156] })
    }
}

/// Up to the first zero byte. What is not UTF-8 is nobody's name in an image.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// Octal digits, or after a byte with the high bit a number of bytes.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let bytes = std::iter::once(field[0] & 0x7f).chain(field[1..].iter().copied());
        return bytes
            .into_iter()
            .try_fold(0u64, |value, byte| value.checked_mul(256).map(|value| value + u64::from(byte)));
    }
    let digits = text(field);
    let digits = digits.trim();
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

/// Records of `LENGTH KEY=VALUE\n`, the length being that of all of it.
fn pax(mut records: &[u8], extended: &mut Extended) -> Result<(), String> {
    let bad = || "a pax header in it is damaged: invalid argument".to_string();
    while !records.is_empty() {
        let blank = records.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
        let len = std::str::from_utf8(&records[..blank]).ok().and_then(|len| len.parse::<usize>().ok());
        let len = len.filter(|len| (blank + 2..=records.len()).contains(len)).ok_or_else(bad)?;
        let record = &records[blank + 1..len - 1];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
        let value = String::from_utf8_lossy(&record[equals + 1..]).into_owned();
        match &record[..equals] {
            b"path" => extended.path = Some(value),
            b"linkpath" => extended.link = Some(value),
            b"size" => extended.size = Some(value.parse().map_err(|_| bad())?),
            _ => {}
        }
        records = &records[len..];
    }
    Ok(())
}

/// A name without `.` and doubled slashes; none that leads out of the archive.
fn normal(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The target of a symbolic link.
fn beside(path: &str, target: &str) -> Option<String> {
    let dir = path.trim_end_matches('/').rsplit_once('/').map_or("", |(dir, _)| dir);
    if target.starts_with('/') { None } else { normal(&format!("{dir}/{target}")) }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A member of a tar file, by the book.
    pub fn member(name: &str, kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
        let mut block = [0u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..108].copy_from_slice(b"0000755\0");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        block[136..148].copy_from_slice(b"00000000000\0");
        block[156] = kind;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        resum(&mut block);
        let padding = content.len().next_multiple_of(512) - content.len();
        [&block[..], content, &vec![0; padding]].concat()
    }

    fn resum(block: &mut [u8]) {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block[..512].iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = nameless(&std::env::temp_dir()).unwrap();
        file.write_all(bytes).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        file
    }

    pub fn archive(members: &[Vec<u8>]) -> Result<Archive, String> {
        Archive::open(file(&[members.concat(), vec![0; 1024]].concat()), &std::env::temp_dir())
    }

    #[test]
    fn members_are_read_where_they_lie_through_links() {
        let long = "x/".repeat(90) + "y";
        let pax = format!("{} path={long}\n", long.len() + 10);
        let parts = [
            member("./a/layer.tar", b'0', "", b"content"),
            member("b/", b'5', "", b""),
            member("b/layer.tar", b'2', "../a/layer.tar", b""),
            member("c", b'1', "b/layer.tar", b""),
            member("pax", b'x', "", pax.as_bytes()),
            member("short", b'0', "", b"long"),
            member("././@LongLink", b'L', "", format!("{long}z\0").as_bytes()),
            member("short", 0, "", b"longer"),
        ];
        let archive = archive(&parts).unwrap();
        for (name, content) in [
            ("a/layer.tar", "content"),
            ("b/layer.tar", "content"),
            ("c", "content"),
            (&long, "long"),
            (&format!("{long}z"), "longer"),
        ] {
            assert_eq!(archive.read(name, 100).unwrap(), content.as_bytes(), "{name}");
        }
        for missing in ["short", "b", "../a/layer.tar", "a/../../a/layer.tar", "", "none"] {
            assert!(archive.open(missing).is_err(), "{missing}");
        }
    }

    #[test]
    fn links_lead_nowhere_else_and_not_in_circles() {
        let archive = archive(&[
            member("out", b'2', "../../etc/passwd", b""),
            member("root", b'2', "/etc/passwd", b""),
            member("a", b'2', "b", b""),
            member("b", b'1', "a", b""),
        ])
        .unwrap();
        for name in ["out", "root", "a", "b"] {
            assert!(archive.open(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_no_tar_file_or_cut_off_is_told() {
        let whole = member("a", b'0', "", &[7; 2000]);
        let open = |bytes: &[u8]| Archive::open(file(bytes), &std::env::temp_dir()).err();
        assert_eq!(open(&whole), None);
        for len in [0, 1, 511, 512, 513, 2000] {
            assert!(open(&whole[..len]).is_some(), "{len}");
        }
        assert!(open(&[0; 1024]).unwrap().contains("empty"));
        assert!(open(&[b'x'; 1024]).unwrap().contains("no tar file"));
        let mut huge = whole.clone();
        huge[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        resum(&mut huge);
        assert!(open(&huge).is_some());
        let damaged = [&whole[..], &[1; 512], &[0; 1024]].concat();
        assert!(open(&damaged).unwrap().contains("damaged"));
        for records in ["x", "5 a=b\n", "99 path=x\n", "10 size=x\n", "3 \n"] {
            let parts = [member("p", b'x', "", records.as_bytes()), member("a", b'0', "", b"")];
            assert!(archive(&parts).is_err(), "{records}");
        }
    }

    #[test]
    fn a_compressed_archive_is_read_like_a_plain_one() {
        let plain = [member("a", b'0', "", b"content"), vec![0; 1024]].concat();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        let archive = Archive::open(file(&encoder.finish().unwrap()), &std::env::temp_dir()).unwrap();
        assert_eq!(archive.read("a", 7).unwrap(), b"content");
    }
}
