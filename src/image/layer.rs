//! A layer as it is unpacked: plain, with what was promised of it held against what was read.
//!
//! ```text
//! file --> size and digest of the blob --> decompression --> digest of the tar --> unpack
//! ```
//!
//! Both digests are known only at the end. So whoever unpacks does it aside, and asks [`Reader::finish`] before
//! anybody else sees the result.

use super::compress::Plain;
use super::digest::{Algorithm, Digest, Hashing};
use crate::report::io_text;
use std::io::{self, Read};

/// Where the digest of the tar is taken, from above or from the file itself.
pub struct Reader<R: Read> {
    plain: Hashing<Plain<Hashing<R>>>,
    blob: Option<(u64, Digest)>,
    diff_id: Option<Digest>,
}

impl<R: Read> Reader<R> {
    /// `blob` and `diff_id` are what was promised, as far as it was.
    ///
    /// # Errors
    /// As [`Plain::new`].
    pub fn new(inner: R, blob: Option<(u64, Digest)>, diff_id: Option<Digest>) -> io::Result<Reader<R>> {
        let algorithm = blob.as_ref().map(|(_, digest)| digest.algorithm);
        let plain = Plain::new(Hashing::new(inner, algorithm))?;
        // A tar that lies there as it is has one digest, which need not be computed twice.
        let known =
            plain.is_stored() && blob.as_ref().is_some_and(|(_, digest)| diff_id.as_ref() == Some(digest));
        let algorithm = match &diff_id {
            Some(_) if known => None,
            Some(digest) => Some(digest.algorithm),
            None => Some(Algorithm::Sha256),
        };
        Ok(Reader { plain: Hashing::new(plain, algorithm), blob, diff_id })
    }

    /// Reads the rest, which is padding of the archive if anything, and compares. The answer is the digest of
    /// the tar.
    ///
    /// # Errors
    /// What is not as it was promised.
    pub fn finish(mut self) -> Result<Digest, String> {
        io::copy(&mut self, &mut io::sink()).map_err(|e| io_text(&e))?;
        let diff_id = self.plain.digest();
        let raw = self.plain.get_mut().get_mut();
        io::copy(raw, &mut io::sink()).map_err(|e| io_text(&e))?;
        if let (Some((size, digest)), Some(found)) = (&self.blob, raw.digest()) {
            differ("its size in bytes", size, &raw.count)?;
            differ("its digest", digest, &found)?;
        }
        let found = diff_id.or(self.diff_id.clone()).ok_or("its digest is not known")?;
        if let Some(wanted) = &self.diff_id {
            differ("its digest, decompressed,", wanted, &found)?;
        }
        Ok(found)
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.plain.read(buffer)
    }
}

fn differ<T: PartialEq + std::fmt::Display>(what: &str, wanted: &T, found: &T) -> Result<(), String> {
    if wanted == found {
        return Ok(());
    }
    Err(format!("{what} is {found}, and should be {wanted}: invalid argument"))
}

/// The same comparison for what was read as a whole.
///
/// # Errors
/// What is not as it was promised.
pub fn compare(what: &str, digest: &Digest, size: u64, bytes: &[u8]) -> Result<(), String> {
    let mut reader = Hashing::new(bytes, Some(digest.algorithm));
    io::copy(&mut reader, &mut io::sink()).map_err(|e| io_text(&e))?;
    differ("its size in bytes", &size, &reader.count).map_err(|cause| format!("{what}: {cause}"))?;
    match reader.digest() {
        Some(found) => differ("its digest", digest, &found).map_err(|cause| format!("{what}: {cause}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn verdict(bytes: &[u8], blob: Option<(u64, Digest)>, diff_id: Option<Digest>) -> Result<Digest, String> {
        let mut reader = Reader::new(bytes, blob, diff_id).unwrap();
        // Not to its end: what a tar has behind its end is part of it.
        reader.read_exact(&mut [0; 3]).unwrap();
        reader.finish()
    }

    #[test]
    fn both_digests_and_the_size_are_compared() {
        let tar = b"this would be a tar";
        for packed in [gzip(tar), tar.to_vec()] {
            let blob = |size: u64, digest| Some((size, digest));
            let size = packed.len() as u64;
            let (outer, inner) = (Digest::of(&packed), Digest::of(tar));
            let good = verdict(&packed, blob(size, outer.clone()), Some(inner.clone()));
            assert_eq!(good, Ok(inner.clone()));
            assert_eq!(verdict(&packed, None, None), Ok(inner.clone()));
            let other = Digest::of(b"other");
            for (blob, diff_id, word) in [
                (blob(size, other.clone()), Some(inner.clone()), "its digest is"),
                (blob(size + 1, outer.clone()), Some(inner.clone()), "size"),
                (blob(size, outer.clone()), Some(other.clone()), "its digest, decompressed,"),
                (None, Some(other.clone()), "decompressed"),
            ] {
                let cause = verdict(&packed, blob, diff_id).unwrap_err();
                assert!(cause.contains(word), "{cause}");
            }
        }
    }
}
