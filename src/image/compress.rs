//! Decompression, by what the data begin with: names and media types of layers lie often enough.
//!
//! Both formats are made of parts that may follow each other: gzip of members, zstd of frames, some of which hold
//! nothing for us (their tables of contents lie in those). All are read, to the end of the data.

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, BufReader, Read};

/// As much as is read at once, so that digests and system calls come in large pieces.
const BUFFER: usize = 128 << 10;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The magic of a zstd frame to be skipped, but for the low four bits of its first byte.
const ZSTD_SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// What plain data come out of.
pub enum Plain<R: Read> {
    Stored(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<Zstd<BufReader<R>>>),
}

impl<R: Read> Plain<R> {
    /// Looks at the first bytes.
    ///
    /// # Errors
    /// Those of reading; a compression that is not supported.
    pub fn new(inner: R) -> io::Result<Plain<R>> {
        let mut inner = BufReader::with_capacity(BUFFER, inner);
        let head = inner.fill_buf()?;
        if head.starts_with(&GZIP) {
            return Ok(Plain::Gzip(Box::new(MultiGzDecoder::new(inner))));
        }
        if head.first_chunk().is_some_and(|magic| *magic == ZSTD || is_skippable(*magic)) {
            return Ok(Plain::Zstd(Box::new(Zstd::new(inner))));
        }
        let others: [(&[u8], &str); 3] =
            [(b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x04\x22\x4d\x18", "lz4")];
        if let Some((_, name)) = others.into_iter().find(|(magic, _)| head.starts_with(magic)) {
            return Err(io::Error::other(format!("compressed with {name}: operation not supported")));
        }
        Ok(Plain::Stored(inner))
    }

    /// Whether the data are as they lie there.
    pub fn is_stored(&self) -> bool {
        matches!(self, Plain::Stored(_))
    }

    /// What is read from.
    pub fn get_mut(&mut self) -> &mut R {
        match self {
            Plain::Stored(inner) => inner.get_mut(),
            Plain::Gzip(decoder) => decoder.get_mut().get_mut(),
            Plain::Zstd(decoder) => decoder.source.get_mut(),
        }
    }
}

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Plain::Stored(inner) => inner.read(buffer),
            Plain::Gzip(decoder) => decoder.read(buffer),
            Plain::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

fn is_skippable(mut magic: [u8; 4]) -> bool {
    magic[0] &= 0xf0;
    magic == ZSTD_SKIPPABLE
}

/// Frames of zstd, one after the other.
pub struct Zstd<R: BufRead> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Zstd<R> {
        Zstd { source, decoder: FrameDecoder::new(), in_frame: false }
    }

    /// Goes to the next frame with data; `false` at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            let mut magic = [0; 4];
            self.source.read_exact(&mut magic)?;
            if is_skippable(magic) {
                let mut len = [0; 4];
                self.source.read_exact(&mut len)?;
                let len = u64::from(u32::from_le_bytes(len));
                if io::copy(&mut (&mut self.source).take(len), &mut io::sink())? < len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            let mut frame = magic.chain(&mut self.source);
            self.decoder.reset(&mut frame).map_err(invalid)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn end_frame(&mut self) -> io::Result<()> {
        let wanted = self.decoder.get_checksum_from_data();
        if wanted.is_some() && wanted != self.decoder.get_calculated_checksum() {
            return Err(invalid("zstd: the checksum of a frame is wrong"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                self.in_frame = self.next_frame()?;
                if !self.in_frame {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() < buffer.len() && !self.decoder.is_finished() {
                let missing = buffer.len() - self.decoder.can_collect();
                let strategy = BlockDecodingStrategy::UptoBytes(missing);
                self.decoder.decode_blocks(&mut self.source, strategy).map_err(invalid)?;
            }
            let len = self.decoder.read(buffer)?;
            if len > 0 {
                return Ok(len);
            }
            self.end_frame()?;
            self.in_frame = false;
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn plain(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Plain::new(data)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        compress_to_vec(data, CompressionLevel::Fastest)
    }

    fn text() -> Vec<u8> {
        (0..60_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
    }

    #[test]
    fn the_first_bytes_say_how_it_is_compressed() {
        for data in [text(), b"a".to_vec(), Vec::new()] {
            assert_eq!(plain(&data).unwrap(), data);
            assert_eq!(plain(&gzip(&data)).unwrap(), data);
            assert_eq!(plain(&zstd(&data)).unwrap(), data);
        }
        let error = plain(b"\xfd7zXZ\0...").unwrap_err();
        assert!(error.to_string().contains("xz"), "{error}");
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let twice = [text(), text()].concat();
        assert_eq!(plain(&[gzip(&text()), gzip(&text())].concat()).unwrap(), twice);
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"toc"].concat();
        let frames = [&skipped[..], &zstd(&text()), &skipped, &zstd(&text()), &skipped].concat();
        assert_eq!(plain(&frames).unwrap(), twice);
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_an_error() {
        for whole in [gzip(&text()), zstd(&text())] {
            for len in [5, whole.len() / 2, whole.len() - 1] {
                assert!(plain(&whole[..len]).is_err(), "{len} of {}", whole.len());
            }
            let mut damaged = whole.clone();
            let middle = whole.len() / 2;
            damaged[middle] ^= 0x10;
            assert_ne!(plain(&damaged).ok(), Some(text()));
            assert!(plain(&[whole, b"garbage".to_vec()].concat()).is_err());
        }
        assert!(plain(&[0x50, 0x2a, 0x4d, 0x18, 9, 0, 0, 0, 1]).is_err());
    }
}
