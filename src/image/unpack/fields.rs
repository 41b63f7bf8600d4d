//! What the fields of headers and records hold: numbers of each notation, and times.

/// A time as utimensat(2) takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// A number in a header: octal digits, or two's complement in base 256 with the top bit set before it.
pub fn number(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        // Without the mark, and with the sign where it was.
        let top = if negative { first } else { first & 0x7f };
        let start = if negative { -1i128 } else { 0 };
        let fold = |value: i128, &byte: &u8| value.checked_mul(256)?.checked_add(byte.into());
        return i64::try_from([top].iter().chain(rest).try_fold(start, fold)?).ok();
    }
    let blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = field[start..].split(|byte| blank(byte)).next().unwrap_or_default();
    let digit = |value: i64, byte: &u8| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add((byte - b'0').into()),
        _ => None,
    };
    digits.iter().try_fold(0, digit)
}

/// Digits and nothing else, up to what a file can measure.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let digit = |value: i64, byte: &u8| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add((byte - b'0').into()),
        _ => None,
    };
    u64::try_from(text.iter().try_fold(0, digit)?).ok()
}
