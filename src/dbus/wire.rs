//! Messages as bytes.
//!
//! A message is a header of type `yyyyuua(yv)`, padding to eight bytes, and a body whose types the header names.
//! Everything is aligned to its own size, counted from the start of the message. We write little endian and read
//! both. Who sent the bytes is believed in nothing: lengths, padding, text and nesting are checked before use, and
//! what does not fit is an error of the whole message.

use super::value::{self, Value};

/// The longest message that is sent or accepted. D-Bus allows 128 MiB, which nothing that we ask for comes near.
const LONGEST: usize = 1 << 20;
/// How deep containers may be nested: D-Bus allows 32 arrays and 32 structs.
const NESTING: usize = 64;
/// The part of the header that tells how long a message is.
const HEAD: usize = 16;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;
const UNIX_FDS: u8 = 9;

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

type Result<T> = std::result::Result<T, Malformed>;

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    Call,
    Return,
    Error,
    Signal,
    /// Of a later version of D-Bus: to be ignored.
    Unknown,
}

impl Kind {
    fn of(number: u8) -> Result<Kind> {
        match number {
            0 => Err(Malformed("a message without a type")),
            1 => Ok(Kind::Call),
            2 => Ok(Kind::Return),
            3 => Ok(Kind::Error),
            4 => Ok(Kind::Signal),
            _ => Ok(Kind::Unknown),
        }
    }

    fn number(self) -> u8 {
        match self {
            Kind::Call => 1,
            Kind::Return => 2,
            Kind::Error => 3,
            Kind::Signal => 4,
            Kind::Unknown => 0xff,
        }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    pub kind: Kind,
    pub flags: u8,
    pub serial: u32,
    pub path: Option<String>,
    pub interface: Option<String>,
    pub member: Option<String>,
    pub error_name: Option<String>,
    /// The serial of the call that this answers.
    pub reply_serial: Option<u32>,
    pub destination: Option<String>,
    pub sender: Option<String>,
    /// How many descriptors go with it.
    pub fds: u32,
    pub body: Vec<Value>,
}

impl Message {
    /// The message as bytes.
    ///
    /// # Errors
    /// Where it is too long, or a value is not what its type says.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut body = Writer::default();
        self.body.iter().try_for_each(|value| body.put(value, 0))?;
        let mut message = Writer::default();
        message.bytes.extend([b'l', self.kind.number(), self.flags, 1]);
        message.put(&Value::U32(body.length(0)?), 0)?;
        message.put(&Value::U32(self.serial), 0)?;
        message.put(&Value::Array("(yv)".to_owned(), self.fields()), 0)?;
        message.align(8);
        message.bytes.append(&mut body.bytes);
        message.length(0)?;
        Ok(message.bytes)
    }

    fn fields(&self) -> Vec<Value> {
        let signature: String = self.body.iter().map(Value::signature).collect();
        let text = |text: &Option<String>| text.clone().map(Value::String);
        [
            (PATH, self.path.clone().map(Value::ObjectPath)),
            (INTERFACE, text(&self.interface)),
            (MEMBER, text(&self.member)),
            (ERROR_NAME, text(&self.error_name)),
            (REPLY_SERIAL, self.reply_serial.map(Value::U32)),
            (DESTINATION, text(&self.destination)),
            (SENDER, text(&self.sender)),
            (SIGNATURE, (!signature.is_empty()).then_some(Value::Signature(signature))),
            (UNIX_FDS, (self.fds > 0).then_some(Value::U32(self.fds))),
        ]
        .into_iter()
        .filter_map(|(code, value)| Some(Value::Struct(vec![Value::Byte(code), Value::variant(value?)])))
        .collect()
    }

    /// How long the message that begins with these bytes is; `None` as long as they are too few to tell.
    ///
    /// # Errors
    /// Where it is no message, or one that is too long.
    pub fn length(bytes: &[u8]) -> Result<Option<usize>> {
        if bytes.len() < HEAD {
            return Ok(None);
        }
        let mut reader = Reader::new(bytes)?;
        reader.at = 4;
        let body = reader.u32()? as usize;
        reader.at = 12;
        let fields = reader.u32()? as usize;
        if body > LONGEST || fields > LONGEST {
            return Err(Malformed("a message that is too long"));
        }
        let length = (HEAD + fields).next_multiple_of(8) + body;
        if length > LONGEST {
            return Err(Malformed("a message that is too long"));
        }
        Ok(Some(length))
    }

    /// The message that these bytes are.
    ///
    /// # Errors
    /// Where they are not exactly one.
    pub fn decode(bytes: &[u8]) -> Result<Message> {
        if Message::length(bytes)? != Some(bytes.len()) {
            return Err(Malformed("a message of another length than it says"));
        }
        let mut reader = Reader::new(bytes)?;
        let mut message = Message { kind: Kind::of(bytes[1])?, flags: bytes[2], ..Message::default() };
        if bytes[3] != 1 {
            return Err(Malformed("another version of the protocol"));
        }
        reader.at = 8;
        message.serial = reader.u32()?;
        if message.serial == 0 {
            return Err(Malformed("a message without a serial"));
        }
        let fields = reader.value("a(yv)", 0)?;
        let signature = message.take(fields)?;
        reader.align(8)?;
        reader.fds = message.fds;
        let mut types = signature.as_str();
        while let Some((first, rest)) = value::split_type(types) {
            message.body.push(reader.value(first, 0)?);
            types = rest;
        }
        if reader.at != bytes.len() {
            return Err(Malformed("a body that is longer than its types"));
        }
        message.complete()?;
        Ok(message)
    }

    /// Takes the fields of the header over; returns the types of the body.
    fn take(&mut self, fields: Value) -> Result<String> {
        let Value::Array(_, fields) = fields else { return Err(Malformed("a header without fields")) };
        let mut signature = String::new();
        for field in fields {
            let Value::Struct(pair) = field else { return Err(Malformed("a header field that is none")) };
            let Ok([Value::Byte(code), Value::Variant(value)]) = <[Value; 2]>::try_from(pair) else {
                return Err(Malformed("a header field that is none"));
            };
            match (code, *value) {
                (PATH, Value::ObjectPath(path)) => self.path = Some(path),
                (INTERFACE, Value::String(name)) => self.interface = Some(name),
                (MEMBER, Value::String(name)) => self.member = Some(name),
                (ERROR_NAME, Value::String(name)) => self.error_name = Some(name),
                (REPLY_SERIAL, Value::U32(serial)) => self.reply_serial = Some(serial),
                (DESTINATION, Value::String(name)) => self.destination = Some(name),
                (SENDER, Value::String(name)) => self.sender = Some(name),
                (SIGNATURE, Value::Signature(types)) => signature = types,
                (UNIX_FDS, Value::U32(count)) => self.fds = count,
                (0..=UNIX_FDS, _) => return Err(Malformed("a header field of another type")),
                // Of a later version.
                _ => {}
            }
        }
        Ok(signature)
    }

    /// Checks that what this kind of message needs is there.
    fn complete(&self) -> Result<()> {
        let complete = match self.kind {
            Kind::Call => self.path.is_some() && self.member.is_some(),
            Kind::Return => self.reply_serial.is_some(),
            Kind::Error => self.reply_serial.is_some() && self.error_name.is_some(),
            Kind::Signal => self.path.is_some() && self.interface.is_some() && self.member.is_some(),
            Kind::Unknown => true,
        };
        if complete { Ok(()) } else { Err(Malformed("a message without a field that it needs")) }
    }
}

/// To what a value of a type is aligned.
fn alignment(letter: u8) -> usize {
    match letter {
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b'h' | b's' | b'o' | b'a' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        // y, g and v.
        _ => 1,
    }
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// How many bytes there are from `start` on, if they are not too many.
    fn length(&self, start: usize) -> Result<u32> {
        let length = self.bytes.len() - start;
        if length > LONGEST { Err(Malformed("a message that is too long")) } else { Ok(length as u32) }
    }

    /// Appends a number's bytes; its size is its alignment.
    fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.bytes.extend(bytes);
    }

    fn text(&mut self, text: &str) -> Result<()> {
        if text.len() > LONGEST || text.contains('\0') {
            return Err(Malformed("text that is too long, or holds a NUL"));
        }
        self.number((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.bytes());
        self.bytes.push(0);
        Ok(())
    }

    fn signature(&mut self, types: &str) -> Result<()> {
        if !value::is_signature(types) {
            return Err(Malformed("a signature that names no types"));
        }
        self.bytes.push(types.len() as u8);
        self.bytes.extend(types.bytes());
        self.bytes.push(0);
        Ok(())
    }

    fn put(&mut self, value: &Value, depth: usize) -> Result<()> {
        if depth > NESTING {
            return Err(Malformed("values that are nested too deep"));
        }
        match value {
            Value::Byte(byte) => self.bytes.push(*byte),
            Value::Bool(bool) => self.number(u32::from(*bool).to_le_bytes()),
            Value::I16(number) => self.number(number.to_le_bytes()),
            Value::U16(number) => self.number(number.to_le_bytes()),
            Value::I32(number) => self.number(number.to_le_bytes()),
            Value::U32(number) | Value::Fd(number) => self.number(number.to_le_bytes()),
            Value::I64(number) => self.number(number.to_le_bytes()),
            Value::U64(number) | Value::Double(number) => self.number(number.to_le_bytes()),
            Value::String(text) => self.text(text)?,
            Value::ObjectPath(path) if !value::is_object_path(path) => {
                return Err(Malformed("a path that names no object"));
            }
            Value::ObjectPath(path) => self.text(path)?,
            Value::Signature(types) => self.signature(types)?,
            Value::Array(element, values) => self.array(element, values, depth)?,
            Value::Struct(fields) => {
                self.align(8);
                fields.iter().try_for_each(|field| self.put(field, depth + 1))?;
            }
            Value::Entry(key, value) => {
                self.align(8);
                self.put(key, depth + 1)?;
                self.put(value, depth + 1)?;
            }
            Value::Variant(value) => {
                let signature = value.signature();
                if !value::is_type(&signature) {
                    return Err(Malformed("a value of no type"));
                }
                self.signature(&signature)?;
                self.put(value, depth + 1)?;
            }
        }
        Ok(())
    }

    fn array(&mut self, element: &str, values: &[Value], depth: usize) -> Result<()> {
        self.number([0; 4]);
        let length = self.bytes.len() - 4;
        // The padding before the first element does not count.
        self.align(alignment(element.as_bytes().first().copied().unwrap_or_default()));
        let start = self.bytes.len();
        for value in values {
            if value.signature() != element {
                return Err(Malformed("an array of more than one type"));
            }
            self.put(value, depth + 1)?;
        }
        let bytes = self.length(start)?.to_le_bytes();
        self.bytes[length..length + 4].copy_from_slice(&bytes);
        Ok(())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
    /// How many descriptors there are to point at.
    fds: u32,
}

impl<'a> Reader<'a> {
    /// Of a whole message: its first byte tells the order of those in numbers.
    fn new(bytes: &'a [u8]) -> Result<Reader<'a>> {
        let big_endian = match bytes.first() {
            Some(b'l') => false,
            Some(b'B') => true,
            _ => return Err(Malformed("bytes that begin no message")),
        };
        Ok(Reader { bytes, at: 0, big_endian, fds: 0 })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or(Malformed("a value beyond the end"))?;
        let bytes = self.bytes.get(self.at..end).ok_or(Malformed("a value beyond the end"))?;
        self.at = end;
        Ok(bytes)
    }

    fn align(&mut self, to: usize) -> Result<()> {
        let padding = self.take(self.at.next_multiple_of(to) - self.at)?;
        if padding.iter().any(|byte| *byte != 0) {
            Err(Malformed("padding that is not zero"))
        } else {
            Ok(())
        }
    }

    /// A number's bytes in our own order of writing; its size is its alignment.
    fn number<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.align(N)?;
        let mut number = [0; N];
        number.copy_from_slice(self.take(N)?);
        if self.big_endian {
            number.reverse();
        }
        Ok(number)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// Text of a length that has been read, and the NUL after it.
    fn text(&mut self, length: usize) -> Result<String> {
        let text = self.take(length)?;
        if self.byte()? != 0 || text.contains(&0) {
            return Err(Malformed("text that does not end where it says"));
        }
        String::from_utf8(text.to_owned()).map_err(|_| Malformed("text that is not UTF-8"))
    }

    fn string(&mut self) -> Result<String> {
        let length = self.u32()? as usize;
        self.text(length)
    }

    fn signature(&mut self) -> Result<String> {
        let length = self.byte()?.into();
        let types = self.text(length)?;
        if value::is_signature(&types) {
            Ok(types)
        } else {
            Err(Malformed("a signature that names no types"))
        }
    }

    /// A value of one complete type, which has been checked to be one.
    fn value(&mut self, kind: &str, depth: usize) -> Result<Value> {
        if depth > NESTING {
            return Err(Malformed("values that are nested too deep"));
        }
        Ok(match kind.as_bytes().first().copied().unwrap_or_default() {
            b'y' => Value::Byte(self.byte()?),
            b'b' => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(Malformed("a boolean that is neither")),
            },
            b'n' => Value::I16(i16::from_le_bytes(self.number()?)),
            b'q' => Value::U16(u16::from_le_bytes(self.number()?)),
            b'i' => Value::I32(i32::from_le_bytes(self.number()?)),
            b'u' => Value::U32(self.u32()?),
            b'x' => Value::I64(i64::from_le_bytes(self.number()?)),
            b't' => Value::U64(u64::from_le_bytes(self.number()?)),
            b'd' => Value::Double(u64::from_le_bytes(self.number()?)),
            b's' => Value::String(self.string()?),
            b'o' => {
                let path = self.string()?;
                if !value::is_object_path(&path) {
                    return Err(Malformed("a path that names no object"));
                }
                Value::ObjectPath(path)
            }
            b'g' => Value::Signature(self.signature()?),
            b'h' => {
                let index = self.u32()?;
                if index >= self.fds {
                    return Err(Malformed("a descriptor that did not come along"));
                }
                Value::Fd(index)
            }
            b'v' => {
                let kind = self.signature()?;
                if !value::is_type(&kind) {
                    return Err(Malformed("a value of no type"));
                }
                Value::Variant(Box::new(self.value(&kind, depth + 1)?))
            }
            b'a' => self.array(&kind[1..], depth)?,
            b'(' => {
                self.align(8)?;
                Value::Struct(self.members(&kind[1..kind.len() - 1], depth)?)
            }
            b'{' => {
                self.align(8)?;
                let pair = self.members(&kind[1..kind.len() - 1], depth)?;
                let [key, value] =
                    <[Value; 2]>::try_from(pair).map_err(|_| Malformed("an entry that is no pair"))?;
                Value::Entry(Box::new(key), Box::new(value))
            }
            _ => return Err(Malformed("a value of no type")),
        })
    }

    /// The values between the brackets of a struct or an entry.
    fn members(&mut self, mut kinds: &str, depth: usize) -> Result<Vec<Value>> {
        let mut members = Vec::new();
        while let Some((first, rest)) = value::split_type(kinds) {
            members.push(self.value(first, depth + 1)?);
            kinds = rest;
        }
        Ok(members)
    }

    fn array(&mut self, element: &str, depth: usize) -> Result<Value> {
        let length = self.u32()? as usize;
        self.align(alignment(element.as_bytes().first().copied().unwrap_or_default()))?;
        let end = self.at.saturating_add(length);
        if end > self.bytes.len() {
            return Err(Malformed("a value beyond the end"));
        }
        let mut values = Vec::new();
        while self.at < end {
            values.push(self.value(element, depth + 1)?);
        }
        if self.at > end {
            return Err(Malformed("an array that ends within a value"));
        }
        Ok(Value::Array(element.to_owned(), values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_type() -> Vec<Value> {
        let pair = Value::Entry(Box::new("key".into()), Box::new(Value::variant(true)));
        let plain = vec![Value::I16(-2), Value::Byte(7), Value::U16(3), Value::I64(i64::MIN)];
        vec![
            Value::Byte(1),
            Value::Struct(plain),
            Value::I32(-5),
            Value::Bool(false),
            Value::Double(1.5_f64.to_bits()),
            Value::ObjectPath("/a/b".to_owned()),
            Value::Signature("a(sv)".to_owned()),
            Value::Array("{sv}".to_owned(), vec![pair.clone(), pair]),
            Value::Array("t".to_owned(), vec![]),
            Value::from([1, 2, 3].as_slice()),
            Value::variant(Value::variant(u64::MAX)),
            Value::Array("h".to_owned(), vec![Value::Fd(1), Value::Fd(0)]),
            Value::U32(9),
        ]
    }

    fn message() -> Message {
        Message {
            serial: 7,
            path: Some("/org/freedesktop/systemd1".to_owned()),
            interface: Some("org.freedesktop.systemd1.Manager".to_owned()),
            member: Some("StartTransientUnit".to_owned()),
            destination: Some("org.freedesktop.systemd1".to_owned()),
            fds: 2,
            body: every_type(),
            ..Message::default()
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let message = message();
        let bytes = message.encode().unwrap();
        assert_eq!(Message::length(&bytes), Ok(Some(bytes.len())));
        assert_eq!(Message::decode(&bytes), Ok(message));
    }

    /// The bytes were taken down from the specification's rules by hand.
    #[test]
    fn a_message_has_the_bytes_that_the_specification_says() {
        let message = Message {
            kind: Kind::Return,
            serial: 2,
            reply_serial: Some(1),
            body: vec![Value::Byte(5), Value::from("ab")],
            ..Message::default()
        };
        let little = [
            b"l\x02\x00\x01\x0b\0\0\0\x02\0\0\0\x10\0\0\0".as_slice(),
            b"\x05\x01u\0\x01\0\0\0",
            b"\x08\x01g\0\x02ys\0",
            b"\x05\0\0\0\x02\0\0\0ab\0",
        ]
        .concat();
        assert_eq!(message.encode().unwrap(), little);
        let big = [
            b"B\x02\x00\x01\0\0\0\x0b\0\0\0\x02\0\0\0\x10".as_slice(),
            b"\x05\x01u\0\0\0\0\x01",
            b"\x08\x01g\0\x02ys\0",
            b"\x05\0\0\0\0\0\0\x02ab\0",
        ]
        .concat();
        assert_eq!(Message::decode(&big), Ok(message));
    }

    #[test]
    fn a_message_that_is_cut_or_has_more_is_refused() {
        let mut bytes = message().encode().unwrap();
        for end in 0..bytes.len() {
            assert!(Message::decode(&bytes[..end]).is_err(), "{end}");
        }
        bytes.push(0);
        assert!(Message::decode(&bytes).is_err());
    }

    /// A generator of numbers that are the same in every run.
    fn random(seed: &mut u64) -> usize {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as usize
    }

    #[test]
    fn no_bytes_make_the_reader_panic_and_what_it_accepts_can_be_written() {
        let good = message().encode().unwrap();
        let mut seed = 1;
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..=random(&mut seed) % 4 {
                let at = random(&mut seed) % bytes.len();
                bytes[at] = random(&mut seed) as u8;
            }
            match Message::decode(&bytes) {
                Ok(message) if message.kind != Kind::Unknown => {
                    let again = message.encode().unwrap();
                    assert_eq!(Message::decode(&again), Ok(message));
                }
                Ok(_) => {}
                Err(Malformed(_)) => refused += 1,
            }
        }
        assert!(refused > 5_000, "{refused}");
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let mut bytes = message().encode().unwrap();
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Message::length(&bytes).is_err());
        let body = vec![Value::from([0; 16].as_slice())];
        let mut bytes = Message { body, ..message() }.encode().unwrap();
        let length = bytes.len() - 20;
        assert_eq!(bytes[length], 16);
        for lie in [15, 17, u8::MAX] {
            bytes[length] = lie;
            assert!(Message::decode(&bytes).is_err(), "{lie}");
        }
    }

    #[test]
    fn variants_cannot_be_nested_without_end() {
        let mut value = Value::Byte(0);
        for _ in 0..NESTING {
            value = Value::variant(value);
        }
        let deepest = Message { body: vec![value.clone()], ..message() };
        assert_eq!(Message::decode(&deepest.encode().unwrap()), Ok(deepest));
        let deeper = Message { body: vec![Value::variant(value)], ..message() };
        assert!(deeper.encode().is_err());
        // The same by hand: signature `v`, over and over.
        let body = "v".to_owned() + &"\u{1}v\0".repeat(1000) + "\u{1}y\0\0";
        let mut reader = Reader { bytes: body.as_bytes(), at: 1, big_endian: false, fds: 0 };
        assert_eq!(reader.value("v", 0), Err(Malformed("values that are nested too deep")));
    }

    #[test]
    fn what_is_no_value_is_not_written() {
        for odd in [
            Value::from("a\0b"),
            Value::ObjectPath("a".to_owned()),
            Value::Signature("(".to_owned()),
            Value::Array("s".to_owned(), vec![Value::Byte(1)]),
            Value::variant(Value::Struct(vec![])),
            Value::variant(Value::Array("x!".to_owned(), vec![])),
            Value::from("x".repeat(LONGEST + 1).as_str()),
        ] {
            assert!(Message { body: vec![odd], ..message() }.encode().is_err());
        }
    }
}
