//! Protocol buffers, as much of them as criu's messages need: numbers as varints, and bytes with their length, be it
//! text or a message within the message.

/// A message that is being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

/// How a field is written down (the lowest three bits of its key).
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

impl Message {
    /// A number.
    pub fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value);
    }

    /// A number that may be below zero: as 64 bits, whatever the type of the field.
    pub fn signed(&mut self, field: u32, value: i64) {
        self.number(field, value as u64);
    }

    /// A flag, if it is set. All flags of criu's are off by default.
    pub fn flag(&mut self, field: u32, value: bool) {
        if value {
            self.number(field, 1);
        }
    }

    /// Text, or a path, which may be no UTF-8: criu takes it as it comes.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | BYTES);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    /// A message within the message.
    pub fn message(&mut self, field: u32, value: &Message) {
        self.bytes(field, &value.0);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// As it is sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The other side does not speak as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The fields of a message in their order. Those of kinds that none of criu's messages has are left out.
///
/// # Errors
/// A message that ends too early, or is none.
pub fn fields(mut rest: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let field = u32::try_from(key >> 3).map_err(|_| Malformed)?;
        match key & 7 {
            VARINT => fields.push((field, Value::Number(varint(&mut rest)?))),
            BYTES => {
                let len = usize::try_from(varint(&mut rest)?).map_err(|_| Malformed)?;
                fields.push((field, Value::Bytes(take(&mut rest, len)?)));
            }
            FIXED_64 => drop(take(&mut rest, 8)?),
            FIXED_32 => drop(take(&mut rest, 4)?),
            _ => return Err(Malformed),
        }
    }
    Ok(fields)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Malformed> {
    let (taken, after) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = after;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let mut inner = Message::default();
        inner.bytes(1, b"key");
        let mut message = Message::default();
        message.number(1, 300);
        message.signed(2, -1);
        message.flag(3, false);
        message.flag(68, true);
        message.message(5, &inner);
        let read = fields(message.as_bytes()).unwrap();
        assert_eq!(
            read,
            [
                (1, Value::Number(300)),
                (2, Value::Number(u64::MAX)),
                (68, Value::Number(1)),
                (5, Value::Bytes(inner.as_bytes())),
            ]
        );
        assert_eq!(fields(inner.as_bytes()).unwrap(), [(1, Value::Bytes(b"key"))]);
    }

    /// The examples of the format's own description.
    #[test]
    fn the_bytes_are_those_of_the_format() {
        let mut message = Message::default();
        message.number(1, 150);
        message.bytes(2, b"testing");
        assert_eq!(message.as_bytes(), b"\x08\x96\x01\x12\x07testing");
    }

    #[test]
    fn kinds_that_nobody_needs_are_passed_over() {
        let text = b"\x09\0\0\0\0\0\0\0\0\x15\0\0\0\0\x18\x05";
        assert_eq!(fields(text), Ok(vec![(3, Value::Number(5))]));
    }

    #[test]
    fn what_is_cut_or_endless_is_malformed() {
        for text in [
            &b"\x08"[..],
            b"\x12\x07test",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x0b",
            b"\x09\0",
        ] {
            assert_eq!(fields(text), Err(Malformed), "{text:?}");
        }
    }
}
