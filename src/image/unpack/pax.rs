//! Extended headers of POSIX: records of `LENGTH KEY=VALUE\n`, which hold anything, newlines and NULs too.

use super::fields::{Time, decimal};
use super::sparse::{self, Told};

/// What the records say of the next entry.
#[derive(Debug, Default)]
pub struct Extended {
    pub path: Option<Vec<u8>>,
    pub linkpath: Option<Vec<u8>>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub size: Option<u64>,
    pub mtime: Option<Time>,
    pub atime: Option<Time>,
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Told,
}

/// star's name for extended attributes, which everybody has taken over.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// Reads all records.
///
/// # Errors
/// What is wrong with them.
pub fn parse(mut records: &[u8]) -> Result<Extended, String> {
    let mut extended = Extended::default();
    while !records.is_empty() {
        let (key, value, rest) =
            record(records).ok_or("a pax record does not have its own length: invalid argument")?;
        // A NUL in a key would end the name of an attribute early.
        if key.contains(&0) {
            return Err("the key of a pax record has a NUL in it: invalid argument".into());
        }
        extended.take(key, value)?;
        records = rest;
    }
    Ok(extended)
}

/// The key and the value of the first record, and the records after it.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = records.iter().position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&records[..blank])?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let record = record.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

impl Extended {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        if let Some(name) = key.strip_prefix(ATTRIBUTE) {
            self.attributes.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.take(key, value);
        }
        // An empty value takes a record back, and what the header itself says holds.
        let some = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = some.map(<[u8]>::to_vec),
            b"linkpath" => self.linkpath = some.map(<[u8]>::to_vec),
            b"uid" => self.uid = some.map(|value| natural(key, value)).transpose()?,
            b"gid" => self.gid = some.map(|value| natural(key, value)).transpose()?,
            b"size" => self.size = some.map(|value| natural(key, value)).transpose()?,
            b"mtime" => self.mtime = some.map(|value| moment(key, value)).transpose()?,
            b"atime" => self.atime = some.map(|value| moment(key, value)).transpose()?,
            // Names of owners, comments, what other archivers keep for themselves.
            _ => {}
        }
        Ok(())
    }
}

fn natural(key: &[u8], value: &[u8]) -> Result<u64, String> {
    decimal(value).ok_or_else(|| {
        let (key, value) = (key.escape_ascii(), value.escape_ascii());
        format!("the pax record {key} is {value}, which is no number: invalid argument")
    })
}

fn moment(key: &[u8], value: &[u8]) -> Result<Time, String> {
    time(value).ok_or_else(|| {
        let (key, value) = (key.escape_ascii(), value.escape_ascii());
        format!("the pax record {key} is {value}, which is no time: invalid argument")
    })
}

/// Seconds since 1970 with any number of decimals; before it, both parts count backwards.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

impl Told {
    /// A record of GNU tar's on a file with holes, in the form of its versions 0.0, 0.1 and 1.0.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let number = || natural(key, value);
        match key {
            b"size" | b"realsize" => self.size = Some(number()?),
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.in_data = number()? == 1,
            b"offset" => self.begin(number()?)?,
            b"numbytes" => self.end(number()?)?,
            b"map" => self.extents = sparse::list(value)?,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_decimals_and_go_back_before_1970() {
        let at = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        assert_eq!(time(b"0"), at(0, 0));
        assert_eq!(time(b"1350244992.023960108"), at(1_350_244_992, 23_960_108));
        assert_eq!(time(b"1.5"), at(1, 500_000_000));
        assert_eq!(time(b"1."), at(1, 0));
        assert_eq!(time(b"1.00000000099"), at(1, 0));
        assert_eq!(time(b"-1"), at(-1, 0));
        assert_eq!(time(b"-1.25"), at(-2, 750_000_000));
        assert_eq!(time(b"4294967296"), at(4_294_967_296, 0));
        for wrong in [&b""[..], b"-", b".5", b"1.2.3", b"1e9", b"9223372036854775808", b"+1", b" 1"] {
            assert_eq!(time(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn a_value_may_hold_newlines_equals_signs_and_nuls() {
        let extended = parse(b"32 SCHILY.xattr.user.a=\n0 x=y\0\n\n9 path=\xff\n").unwrap();
        assert_eq!(extended.attributes, [(b"user.a".to_vec(), b"\n0 x=y\0\n".to_vec())]);
        assert_eq!(extended.path.unwrap(), b"\xff");
    }

    #[test]
    fn the_last_record_holds_and_an_empty_one_takes_it_back() {
        let extended = parse(b"9 path=a\n9 path=b\n8 uid=7\n7 uid=\n").unwrap();
        assert_eq!((extended.path, extended.uid), (Some(b"b".to_vec()), None));
    }

    #[test]
    fn records_that_do_not_add_up_are_refused() {
        for wrong in [
            &b"path=a\n"[..],
            b"0 path=a\n",
            b"1 path=a\n",
            b"2 path=a\n",
            b"8 path=a\n",
            b"11 path=a\n",
            b"99999999999999999999 path=a\n",
            b"-9 path=a\n",
            b"7 path\n",
            b"9 path=aX",
            b"6 uid=-1\n",
            b"9 uid=-1\n",
            b"10 uid=1x\n\n",
            b"11 mtime=x\n",
            b"9 pa\0h=a\n",
        ] {
            assert!(parse(wrong).is_err(), "{}", wrong.escape_ascii());
        }
    }
}
