//! Files with holes, as GNU tar writes them: a list of extents, and only their data in the archive.
//!
//! There are four ways to write the list: in the header and in blocks after it (type `S`), and by three versions
//! of pax records, of which the last has it at the beginning of the data.

use super::fields::{decimal, number};
use super::source::BLOCK;

/// As many extents as a list may have: 1 MiB of memory.
const MOST: usize = 1 << 16;

const TOO_MANY: &str = "a file has more than 65536 holes: file too large";
const WRONG: &str = "the list of a file's holes makes no sense: invalid argument";

/// A part of a file that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub offset: u64,
    pub length: u64,
}

/// What is said of a file's holes.
#[derive(Debug, Default)]
pub struct Told {
    /// Of the file, with its holes. Without it there are none.
    pub size: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub extents: Vec<Extent>,
    /// The list is at the beginning of the data.
    pub in_data: bool,
}

impl Told {
    pub fn begin(&mut self, offset: u64) -> Result<(), String> {
        if self.extents.len() == MOST {
            return Err(TOO_MANY.into());
        }
        self.extents.push(Extent { offset, length: 0 });
        Ok(())
    }

    pub fn end(&mut self, length: u64) -> Result<(), String> {
        self.extents.last_mut().ok_or(WRONG)?.length = length;
        Ok(())
    }
}

/// `OFFSET,LENGTH,OFFSET,LENGTH…`
pub fn list(text: &[u8]) -> Result<Vec<Extent>, String> {
    let mut told = Told::default();
    if !text.is_empty() {
        let mut numbers = text.split(|&byte| byte == b',').map(decimal);
        while let Some(offset) = numbers.next() {
            told.begin(offset.ok_or(WRONG)?)?;
            told.end(numbers.next().flatten().ok_or(WRONG)?)?;
        }
    }
    Ok(told.extents)
}

/// Whether the extents follow each other, lie in the file, and use up the data that is stored.
pub fn check(extents: &[Extent], stored: u64, size: u64) -> Result<(), String> {
    let mut end = 0u64;
    let mut sum = 0u64;
    for extent in extents {
        if extent.offset < end {
            return Err(WRONG.into());
        }
        end = extent.offset.checked_add(extent.length).ok_or(WRONG)?;
        sum += extent.length;
    }
    if end > size || sum != stored {
        return Err(WRONG.into());
    }
    Ok(())
}

/// The list of the type `S`: four extents in the header, and 21 in each block after it.
pub struct Old {
    extents: Vec<Extent>,
    size: Option<u64>,
    more: bool,
    wrong: bool,
}

impl Old {
    pub fn new(header: &[u8; BLOCK]) -> Old {
        let size = number(&header[483..495]).and_then(|size| u64::try_from(size).ok());
        let mut list = Old { extents: Vec::new(), size, more: header[482] != 0, wrong: size.is_none() };
        list.take(&header[386..482]);
        list
    }

    /// Whether another block belongs to the list.
    pub fn goes_on(&self) -> bool {
        self.more && !self.wrong
    }

    pub fn add(&mut self, block: &[u8; BLOCK]) {
        self.more = block[504] != 0;
        self.take(&block[..504]);
    }

    fn take(&mut self, pairs: &[u8]) {
        for pair in pairs.chunks_exact(24) {
            // The list ends where a pair is empty.
            if pair[0] == 0 {
                break;
            }
            let numbers = (number(&pair[..12]).map(u64::try_from), number(&pair[12..]).map(u64::try_from));
            match numbers {
                (Some(Ok(offset)), Some(Ok(length))) if self.extents.len() < MOST => {
                    self.extents.push(Extent { offset, length });
                }
                _ => self.wrong = true,
            }
        }
    }

    /// The whole list. One that is wrong does not pass [`check`].
    pub fn told(self) -> Told {
        let extents = match self.wrong {
            true => vec![Extent { offset: u64::MAX, length: 1 }],
            false => self.extents,
        };
        Told { size: Some(self.size.unwrap_or(0)), extents, ..Told::default() }
    }
}

/// The list in decimal lines: their number, then two for each extent.
#[derive(Default)]
pub struct Lines {
    line: Vec<u8>,
    numbers: Vec<u64>,
}

impl Lines {
    /// Takes a block; the extents, once the list is complete. The rest of that block is padding.
    pub fn add(&mut self, block: &[u8]) -> Result<Option<Vec<Extent>>, String> {
        for &byte in block {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            self.numbers.push(decimal(&self.line).ok_or(WRONG)?);
            self.line.clear();
            let count = self.numbers[0];
            if count > MOST as u64 {
                return Err(TOO_MANY.into());
            }
            if self.numbers.len() as u64 == 1 + 2 * count {
                let pairs = self.numbers[1..].chunks_exact(2);
                return Ok(Some(pairs.map(|pair| Extent { offset: pair[0], length: pair[1] }).collect()));
            }
        }
        if self.line.len() > BLOCK { Err(WRONG.into()) } else { Ok(None) }
    }
}
