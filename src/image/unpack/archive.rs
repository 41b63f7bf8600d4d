//! Reading a tar archive: POSIX (ustar, pax), GNU, star and the format of Unix V7, as layers come in all.
//!
//! Written here, since what there is loses what a layer needs: the tar crate cuts extended attributes at a newline
//! (it reads pax records by lines, though each has its length in front), has no time before 1970 and no fraction
//! of a second, and makes several allocations an entry.
//!
//! Where archives are ambiguous, this follows Go's archive/tar, which most layers are written by and read with, so
//! that an image is for us what it is for its makers: the name of an entry may come from three places, an entry
//! other than a file has no data whatever its size says, global pax headers are passed over.

use super::fields::{Time, number};
use super::pax::{self, Extended};
use super::source::{BLOCK, Source};
use super::sparse::{self, Extent};
use crate::report::Failure;
use std::io::Read;

/// The longest pax header or long name that is kept in memory. Attributes are the largest part of one, and the
/// kernel takes 64 KiB for one of them.
const LONGEST: u64 = 1 << 20;

/// The longest path: PATH_MAX less the NUL.
const PATH: usize = 4095;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    /// Another name of a file.
    Link,
    Symlink,
    Directory,
    Fifo,
    Character,
    Block,
}

/// What the archive says of a file.
#[derive(Debug)]
pub struct Entry {
    pub name: Vec<u8>,
    pub kind: Kind,
    /// Where a link leads.
    pub target: Vec<u8>,
    /// Permissions, set-id and sticky bits.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Of the file, once it is unpacked.
    pub size: u64,
    pub mtime: Time,
    pub atime: Option<Time>,
    pub device: (u64, u64),
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data goes, for a file with holes.
    pub extents: Option<Vec<Extent>>,
}

pub struct Archive<'a, R> {
    source: Source<'a, R>,
    /// What is left of the entry's data, and the padding after it.
    data: u64,
    padding: u64,
    /// How much of the data has been handed out and is used by now.
    given: usize,
}

impl<'a, R: Read> Archive<'a, R> {
    pub fn new(tar: R, progress: &'a mut dyn FnMut(u64)) -> Archive<'a, R> {
        Archive { source: Source::new(tar, progress), data: 0, padding: 0, given: 0 }
    }

    /// The next entry; none at the end, and then the file has been read to its end.
    pub fn next(&mut self) -> Result<Option<Entry>, Failure> {
        self.pass_over_data()?;
        let mut extended = Extended::default();
        let mut long_name = None;
        let mut long_target = None;
        loop {
            let Some(header) = self.header()? else {
                self.source.drain()?;
                return Ok(None);
            };
            match header.flag() {
                b'x' => extended = pax::parse(&self.body(&header)?).map_err(|why| self.source.broken(why))?,
                // What every entry has in common: a comment of git's, mostly. Engines pass over it.
                b'g' => self.pass_over(&header)?,
                b'L' => long_name = Some(until_nul(&self.body(&header)?).to_vec()),
                b'K' => long_target = Some(until_nul(&self.body(&header)?).to_vec()),
                // The label of a volume.
                b'V' => self.pass_over(&header)?,
                _ => return self.entry(&header, extended, long_name, long_target).map(Some),
            }
        }
    }

    /// The next piece of the entry's data; none where it ends.
    pub fn piece(&mut self) -> Result<Option<&[u8]>, Failure> {
        self.settle();
        if self.data == 0 {
            return Ok(None);
        }
        // A small file in one piece, and a large one in pieces that are worth a system call.
        let want = self.data.min(64 << 10) as usize;
        if self.source.fill(want)?.len() < want {
            return Err(self.source.cut());
        }
        let there = self.source.fill(want)?;
        self.given = there.len().min(usize::try_from(self.data).unwrap_or(usize::MAX));
        Ok(Some(&there[..self.given]))
    }

    /// At most `most` bytes of the last piece have been used; the rest comes again.
    pub fn give_back_beyond(&mut self, most: usize) {
        self.given = self.given.min(most);
    }

    fn settle(&mut self) {
        self.source.consume(self.given);
        self.data -= self.given as u64;
        self.given = 0;
    }

    fn pass_over_data(&mut self) -> Result<(), Failure> {
        self.settle();
        self.source.skip(self.data)?;
        self.source.skip(self.padding)?;
        (self.data, self.padding) = (0, 0);
        Ok(())
    }

    /// The next header, its checksum checked; none at the end, which two blocks of zeros mark, or one, or nothing.
    fn header(&mut self) -> Result<Option<Header>, Failure> {
        let Some(block) = self.source.block()? else { return Ok(None) };
        if block.iter().all(|&byte| byte == 0) {
            return match self.source.block()? {
                Some(second) if second.iter().any(|&byte| byte != 0) => {
                    Err(self.source.broken("data follows the end mark: invalid argument"))
                }
                _ => Ok(None),
            };
        }
        let header = Header(block);
        if !header.checksum_holds() {
            return Err(self.source.broken("this is no header of a tar archive: invalid argument"));
        }
        Ok(Some(header))
    }

    fn number(&self, field: &[u8], what: &str) -> Result<i64, Failure> {
        number(field).ok_or_else(|| self.source.broken(format!("{what} is no number: invalid argument")))
    }

    fn natural(&self, field: &[u8], what: &str) -> Result<u64, Failure> {
        let value = self.number(field, what)?;
        u64::try_from(value)
            .map_err(|_| self.source.broken(format!("{what} is {value}: numerical result out of range")))
    }

    /// The body of a header that describes the next entry.
    fn body(&mut self, header: &Header) -> Result<Vec<u8>, Failure> {
        let size = self.natural(header.size(), "the size of an extended header")?;
        if size > LONGEST {
            return Err(self.source.broken(format!("an extended header has {size} bytes: file too large")));
        }
        let body = self.source.take(size as usize)?;
        self.source.skip(padding(size))?;
        Ok(body)
    }

    fn pass_over(&mut self, header: &Header) -> Result<(), Failure> {
        let size = self.natural(header.size(), "the size of an extended header")?;
        self.source.skip(size)?;
        self.source.skip(padding(size))
    }

    fn entry(
        &mut self,
        header: &Header,
        extended: Extended,
        long_name: Option<Vec<u8>>,
        long_target: Option<Vec<u8>>,
    ) -> Result<Entry, Failure> {
        let name = extended.path.or(long_name).unwrap_or_else(|| header.name());
        let kind = self.kind(header.flag(), &name)?;
        let target = extended.linkpath.or(long_target).unwrap_or_else(|| header.target());
        let uid = extended.uid.map_or_else(|| self.natural(header.uid(), "a uid"), Ok)?;
        let gid = extended.gid.map_or_else(|| self.natural(header.gid(), "a gid"), Ok)?;
        let stored = extended.size.map_or_else(|| self.natural(header.size(), "a size"), Ok)?;
        let mtime = match extended.mtime {
            Some(mtime) => mtime,
            None => Time { seconds: self.number(header.mtime(), "a time")?, nanoseconds: 0 },
        };
        let mode = (self.number(header.mode(), "a mode")? & 0o7777) as u32;
        let device = match kind {
            Kind::Character | Kind::Block => {
                let (major, minor) = header.device();
                (self.natural(major, "a device")?, self.natural(minor, "a device")?)
            }
            _ => (0, 0),
        };
        let mut entry = Entry {
            name,
            kind,
            target,
            mode,
            uid,
            gid,
            size: 0,
            mtime,
            atime: extended.atime,
            device,
            attributes: extended.attributes,
            extents: None,
        };
        if kind == Kind::File {
            (self.data, self.padding) = (stored, padding(stored));
            entry.size = stored;
            self.holes(header, &mut entry, extended.sparse)?;
        }
        for path in [&mut entry.name, &mut entry.target] {
            if path.contains(&0) {
                return Err(self.source.broken("a name has a NUL in it: invalid argument"));
            }
            if path.len() > PATH {
                let cause = format!("a name has {} bytes: file name too long", path.len());
                return Err(self.source.broken(cause));
            }
        }
        Ok(entry)
    }

    fn kind(&self, flag: u8, name: &[u8]) -> Result<Kind, Failure> {
        Ok(match flag {
            // Unix V7 had no flag for directories.
            0 if name.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::Link,
            b'2' => Kind::Symlink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => {
                let flag = flag.escape_ascii();
                return Err(self.source.broken(format!(
                    "an entry is of the type '{flag}', which layers do not have: not supported"
                )));
            }
        })
    }

    /// Finds out where the data of a file with holes goes, by whichever of the four ways it was written.
    fn holes(&mut self, header: &Header, entry: &mut Entry, mut told: sparse::Told) -> Result<(), Failure> {
        if header.flag() == b'S' {
            let mut list = sparse::Old::new(&header.0);
            while list.goes_on() {
                let Some(block) = self.source.block()? else { return Err(self.source.cut()) };
                list.add(&block);
            }
            told = list.told();
        }
        if told.in_data {
            told.extents = self.map_in_data()?;
        }
        let Some(size) = told.size else { return Ok(()) };
        sparse::check(&told.extents, self.data, size).map_err(|why| self.source.broken(why))?;
        if let Some(name) = told.name {
            entry.name = name;
        }
        entry.size = size;
        entry.extents = Some(told.extents);
        Ok(())
    }

    /// The newest way: the list is the beginning of the data, in decimal lines, padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<Extent>, Failure> {
        let mut list = sparse::Lines::default();
        loop {
            if self.data < BLOCK as u64 {
                return Err(self.source.cut());
            }
            let Some(block) = self.source.block()? else { return Err(self.source.cut()) };
            self.data -= BLOCK as u64;
            if let Some(extents) = list.add(&block).map_err(|why| self.source.broken(why))? {
                return Ok(extents);
            }
        }
    }
}

/// What fills the last block.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A header block, which its fields are cut from.
struct Header([u8; BLOCK]);

impl Header {
    fn flag(&self) -> u8 {
        self.0[156]
    }

    fn mode(&self) -> &[u8] {
        &self.0[100..108]
    }

    fn uid(&self) -> &[u8] {
        &self.0[108..116]
    }

    fn gid(&self) -> &[u8] {
        &self.0[116..124]
    }

    fn size(&self) -> &[u8] {
        &self.0[124..136]
    }

    fn mtime(&self) -> &[u8] {
        &self.0[136..148]
    }

    fn target(&self) -> Vec<u8> {
        until_nul(&self.0[157..257]).to_vec()
    }

    fn device(&self) -> (&[u8], &[u8]) {
        (&self.0[329..337], &self.0[337..345])
    }

    /// The name, with the prefix that POSIX has for long ones. GNU's format has times in its place, and star's has
    /// them in the last part of it.
    fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.0[..100]);
        let prefix = match &self.0[257..265] {
            b"ustar\x0000" if &self.0[508..512] == b"tar\0" => until_nul(&self.0[345..476]),
            magic if magic.starts_with(b"ustar\0") => until_nul(&self.0[345..500]),
            _ => b"",
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// The sum of all bytes, those of the checksum itself taken for blanks. Some old programs added signed bytes.
    fn checksum_holds(&self) -> bool {
        let told = number(&self.0[148..156]);
        let counted = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
        let bytes = || self.0.iter().enumerate().map(|(at, &byte)| counted(at, byte));
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
        told == Some(unsigned) || told == Some(signed)
    }
}
