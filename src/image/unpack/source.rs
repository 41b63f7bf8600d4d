//! The bytes of an archive, in one buffer from which headers are read and files are written without a copy.

use crate::report::{Failure, io_text};
use std::io::{ErrorKind, Read};

/// One read and one write move at most this much. Larger gains nothing: it is beyond the processor's caches.
const BUFFER: usize = 512 << 10;

/// A tar block; everything in an archive is a multiple of it.
pub const BLOCK: usize = 512;

pub struct Source<'a, R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// How much came from `inner`.
    read: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl<'a, R: Read> Source<'a, R> {
    pub fn new(inner: R, progress: &'a mut dyn FnMut(u64)) -> Source<'a, R> {
        Source { inner, buffer: vec![0; BUFFER].into(), start: 0, end: 0, read: 0, progress }
    }

    /// Where in the archive we are.
    pub fn at(&self) -> u64 {
        self.read - (self.end - self.start) as u64
    }

    /// Everything that is there now: at least `want` bytes, which fit into the buffer, except at the end.
    pub fn fill(&mut self, want: usize) -> Result<&[u8], Failure> {
        if self.end - self.start < want {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end - self.start < want {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(count) => {
                    self.end += count;
                    self.read += count as u64;
                    (self.progress)(self.read);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(io_text(&error))),
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// `count` bytes of what is there have been used.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "more was used than was there");
    }

    /// The next block; none at the end of the file.
    pub fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Failure> {
        let there = self.fill(BLOCK)?;
        let Some(block) = there.first_chunk::<BLOCK>() else {
            return if there.is_empty() { Ok(None) } else { Err(self.cut()) };
        };
        let block = *block;
        self.consume(BLOCK);
        Ok(Some(block))
    }

    /// The next `count` bytes in a piece of memory; the caller bounds them.
    pub fn take(&mut self, count: usize) -> Result<Vec<u8>, Failure> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let want = (count - taken.len()).min(BLOCK);
            let there = self.fill(want)?;
            if there.len() < want {
                return Err(self.cut());
            }
            let part = there.len().min(count - taken.len());
            taken.extend_from_slice(&there[..part]);
            self.consume(part);
        }
        Ok(taken)
    }

    /// Passes over `count` bytes.
    pub fn skip(&mut self, mut count: u64) -> Result<(), Failure> {
        while count > 0 {
            let there = self.fill(1)?.len();
            if there == 0 {
                return Err(self.cut());
            }
            let part = count.min(there as u64);
            self.consume(part as usize);
            count -= part;
        }
        Ok(())
    }

    /// Passes over everything up to the end of the file: whoever digests the archive needs all of it.
    pub fn drain(&mut self) -> Result<(), Failure> {
        loop {
            let there = self.fill(1)?.len();
            if there == 0 {
                return Ok(());
            }
            self.consume(there);
        }
    }

    /// A failure at this place.
    pub fn broken(&self, cause: impl Into<String>) -> Failure {
        Failure::new(format!("cannot read the layer's archive at byte {}", self.at()), cause)
    }

    /// The failure where the file ends too early.
    pub fn cut(&self) -> Failure {
        self.broken("it is cut short: unexpected end of file")
    }
}
