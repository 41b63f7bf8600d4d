//! Thousands of archives that are almost right: no panic, nothing outside, and never more than the reader gave.

use super::*;

/// A small generator of numbers (xorshift64*), so that a failure is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }
}

/// Something of everything, small.
fn valid() -> Tar {
    let device = Header::new(b'3', "dev").put(329, b"0000000\0").put(337, b"0000000\0");
    Tar::new()
        .add(Header::new(b'5', "./").mtime(9), b"")
        .directory("d")
        .file("d/f", "some content")
        .link("d/hard", "d/f")
        .symlink("l", "d")
        .file("l/through", "x")
        .pax(&[("path", b"d/pax"), ("mtime", b"1.5"), ("SCHILY.xattr.user.a", b"1"), ("uid", b"0")])
        .file("short", "y")
        .long(b'L', b"d/a longer name")
        .file("cut", "z")
        .file("d/.wh.gone", "")
        .file("l/.wh..wh..opq", "")
        .add(Header::new(b'6', "fifo"), b"")
        .add(device, b"")
        .pax(&[("GNU.sparse.size", b"100"), ("GNU.sparse.map", b"2,3,50,3")])
        .file("holes", "abcdef")
}

/// Words that mean something in an archive.
const WORDS: [&[u8]; 14] = [
    b"../",
    b"..\0",
    b"/",
    b"\0",
    b".wh.",
    b".wh..wh..opq\0",
    b"l/../../secret\0",
    b"../secret\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x80\0\0\0\0\0\0\x01\0\0\0\0",
    b"77777777777",
    b"99 path=",
    b"GNU.sparse.major=1\n",
    b"\n",
];

/// Changes the archive here and there. Checksums are made right again, or most changes would end there.
fn mutate(dice: &mut Dice, tar: &mut Vec<u8>) {
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(tar.len());
        match dice.roll(6) {
            0 => tar[at] ^= 1 << dice.roll(8),
            1 => tar[at] = dice.roll(256) as u8,
            2 => {
                let word = WORDS[dice.roll(WORDS.len())];
                let end = tar.len().min(at + word.len());
                tar[at..end].copy_from_slice(&word[..end - at]);
            }
            // The flag of a header, or where one would be.
            3 => {
                let flag = at / 512 * 512 + 156;
                if let Some(byte) = tar.get_mut(flag) {
                    *byte = b"0123456xgLKSV7\0"[dice.roll(15)];
                }
            }
            // A block again, elsewhere.
            4 => {
                let (from, to) = (dice.roll(tar.len() / 512) * 512, dice.roll(tar.len() / 512) * 512);
                tar.copy_within(from..from + 512, to);
            }
            _ => tar.truncate(at.max(512)),
        }
        if tar.len() % 512 != 0 && dice.roll(2) == 0 {
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
    }
    for block in tar.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            let sealed = Header(block.try_into().unwrap()).seal();
            block.copy_from_slice(&sealed);
        }
    }
}

#[test]
fn archives_that_are_almost_right_never_panic_and_stay_inside() {
    let valid = valid().end();
    let mut dice = Dice(0x6272_796f);
    let (mut good, mut bad) = (0, 0);
    let place = Place::new();
    for round in 0..2000 {
        let mut tar = valid.clone();
        mutate(&mut dice, &mut tar);
        let form = if round % 2 == 0 { Form::Flat } else { Form::Layer { userxattr: true } };
        place.clear();
        if round % 4 == 0 {
            place.flat(Tar(valid.clone()));
        }
        let root = File::open(&place.root).unwrap();
        match unpack(&tar[..], root.as_fd(), form, &nothing(), &Ids::single(), &mut |_| {}) {
            Ok(_) => good += 1,
            Err(failure) => {
                let line = failure.to_string();
                assert!(!line.contains('\n') && line.starts_with("cannot "), "round {round}: {line}");
                bad += 1;
            }
        }
        place.assert_outside_is_untouched();
    }
    // Both kinds have been seen.
    assert!(good > 200 && bad > 200, "{good} good, {bad} bad");
}

#[test]
fn an_archive_that_is_cut_anywhere_is_an_error_or_whole_entries() {
    let valid = valid().end();
    let place = Place::new();
    for cut in (0..valid.len()).step_by(37) {
        place.clear();
        let root = File::open(&place.root).unwrap();
        let done = unpack(&valid[..cut], root.as_fd(), Form::Flat, &nothing(), &Ids::single(), &mut |_| {});
        if let Err(failure) = done {
            assert!(failure.to_string().contains("cut short"), "{cut}: {failure}");
        }
        place.assert_outside_is_untouched();
    }
}
