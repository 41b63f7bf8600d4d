//! Values as people write them: the text format of GVariant, `uint64 10000000`, `'text'`, `[('a', <true>)]`.
//!
//! A number alone is an int32 and a string alone a string, unless something beside or around it says otherwise:
//! `[uint64 1, 2]` holds two uint64, and in `@ao ['/']` the type comes first. So reading has three steps: the text
//! becomes nodes, each node gets a shape (a type with holes in it), where shapes that have to be the same fill each
//! other's holes, and then each node becomes a value of its shape.
//!
//! Left out is what D-Bus has no values for: maybe types, the empty tuple, entries outside of a dictionary; and
//! handles, since no descriptor comes along with text.

use super::value::{self, Value};
use std::fmt;

/// Why a text is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    what: &'static str,
    /// The offset in bytes of what is meant.
    at: usize,
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}", self.what, self.at)
    }
}

impl std::error::Error for Misread {}

type Result<T> = std::result::Result<T, Misread>;

fn misread<T>(what: &'static str, at: usize) -> Result<T> {
    Err(Misread { what, at })
}

/// How deep values may be nested.
const NESTING: usize = 32;

/// The value that a text describes.
///
/// # Errors
/// What is wrong, and where.
pub fn parse(text: &str) -> Result<Value> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let node = parser.value()?;
    parser.blanks();
    if parser.at < text.len() {
        return misread("unexpected text after the value", parser.at);
    }
    let value = node.build(&node.shape()?)?;
    typed(value, node.at)
}

/// Passes on what has a type that a message can carry.
fn typed(value: Value, at: usize) -> Result<Value> {
    if value::is_type(&value.signature()) {
        Ok(value)
    } else {
        misread("a type that D-Bus does not have", at)
    }
}

/// A piece of the text.
struct Node<'a> {
    at: usize,
    form: Form<'a>,
}

enum Form<'a> {
    Bool(bool),
    /// Written without a dot or an exponent.
    Integer(&'a str),
    Float(&'a str),
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Node<'a>>),
    Tuple(Vec<Node<'a>>),
    Entry(Box<[Node<'a>; 2]>),
    /// Entries in one pair of braces.
    Dictionary(Vec<[Node<'a>; 2]>),
    Variant(Box<Node<'a>>),
    Typed(Shape, Box<Node<'a>>),
}

/// A type as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// Anything: what an empty array holds.
    Unknown,
    /// Any number, an int32 unless something else is heard.
    Number,
    /// A string, an object path or a signature; likewise a string.
    Text,
    Basic(u8),
    Variant,
    Array(Box<Shape>),
    Struct(Vec<Shape>),
    Entry(Box<[Shape; 2]>),
}

impl Shape {
    /// The shape of a complete type.
    fn of(kind: &str) -> Shape {
        match kind.as_bytes().first().copied().unwrap_or_default() {
            b'v' => Shape::Variant,
            b'a' => Shape::Array(Box::new(Shape::of(&kind[1..]))),
            b'(' => Shape::Struct(Shape::members(&kind[1..kind.len() - 1])),
            b'{' => {
                // The key is one letter.
                let (key, value) = kind[1..kind.len() - 1].split_at(1);
                Shape::Entry(Box::new([Shape::of(key), Shape::of(value)]))
            }
            letter => Shape::Basic(letter),
        }
    }

    fn members(mut kinds: &str) -> Vec<Shape> {
        let mut members = Vec::new();
        while let Some((first, rest)) = value::split_type(kinds) {
            members.push(Shape::of(first));
            kinds = rest;
        }
        members
    }

    /// What two shapes have in common, where both are to be one type.
    fn with(self, other: Shape) -> Option<Shape> {
        match (self, other) {
            (Shape::Unknown, shape) | (shape, Shape::Unknown) => Some(shape),
            (Shape::Number, Shape::Basic(letter)) | (Shape::Basic(letter), Shape::Number) => {
                b"ynqiuxtd".contains(&letter).then_some(Shape::Basic(letter))
            }
            (Shape::Text, Shape::Basic(letter)) | (Shape::Basic(letter), Shape::Text) => {
                b"sog".contains(&letter).then_some(Shape::Basic(letter))
            }
            (Shape::Array(one), Shape::Array(other)) => Some(Shape::Array(Box::new(one.with(*other)?))),
            (Shape::Struct(one), Shape::Struct(other)) if one.len() == other.len() => {
                let members = one.into_iter().zip(other).map(|(one, other)| one.with(other));
                members.collect::<Option<_>>().map(Shape::Struct)
            }
            (Shape::Entry(one), Shape::Entry(other)) => {
                let ([one_key, one], [other_key, other]) = (*one, *other);
                Some(Shape::Entry(Box::new([one_key.with(other_key)?, one.with(other)?])))
            }
            (one, other) => (one == other).then_some(one),
        }
    }

    /// Appends the signature; `None` where something is not known.
    fn sign(&self, to: &mut String) -> Option<()> {
        match self {
            Shape::Unknown => return None,
            Shape::Number => to.push('i'),
            Shape::Text => to.push('s'),
            Shape::Basic(letter) => to.push(char::from(*letter)),
            Shape::Variant => to.push('v'),
            Shape::Array(element) => {
                to.push('a');
                element.sign(to)?;
            }
            Shape::Struct(members) => {
                to.push('(');
                members.iter().try_for_each(|member| member.sign(to))?;
                to.push(')');
            }
            Shape::Entry(pair) => {
                to.push('{');
                pair.iter().try_for_each(|member| member.sign(to))?;
                to.push('}');
            }
        }
        Some(())
    }
}

impl<'a> Node<'a> {
    fn shape(&self) -> Result<Shape> {
        Ok(match &self.form {
            Form::Bool(_) => Shape::Basic(b'b'),
            Form::Integer(_) => Shape::Number,
            Form::Float(_) => Shape::Basic(b'd'),
            Form::Text(_) => Shape::Text,
            Form::Bytes(_) => Shape::Array(Box::new(Shape::Basic(b'y'))),
            Form::Variant(_) => Shape::Variant,
            Form::Tuple(members) => Shape::Struct(members.iter().map(Node::shape).collect::<Result<_>>()?),
            Form::Entry(pair) => entry_shape(pair)?,
            Form::Array(elements) => {
                Shape::Array(Box::new(common(elements.iter().map(|e| (e.at, e.shape())))?))
            }
            Form::Dictionary(entries) => {
                let shapes = entries.iter().map(|pair| (pair[0].at, entry_shape(pair)));
                let unknown = Shape::Entry(Box::new([Shape::Unknown, Shape::Unknown]));
                let entry = common(shapes)?.with(unknown);
                Shape::Array(Box::new(entry.unwrap_or(Shape::Unknown)))
            }
            Form::Typed(shape, node) => match node.shape()?.with(shape.clone()) {
                Some(same) => same,
                None => return misread("a value that is not of its type", node.at),
            },
        })
    }

    /// The value, which has this shape or the part of it that [`Node::shape`] knows.
    fn build(&self, shape: &Shape) -> Result<Value> {
        let build = |nodes: &[Node<'a>], shape: &Shape| -> Result<Vec<Value>> {
            nodes.iter().map(|node| node.build(shape)).collect()
        };
        match (&self.form, shape) {
            (Form::Typed(_, node), _) => node.build(shape),
            (Form::Bool(value), Shape::Basic(b'b')) => Ok(Value::Bool(*value)),
            (Form::Integer(text), Shape::Number) => self.integer(text, b'i'),
            (Form::Integer(text), Shape::Basic(letter)) => self.integer(text, *letter),
            (Form::Float(text), Shape::Basic(b'd')) => self.float(text),
            (Form::Text(text), Shape::Text) => Ok(Value::String(text.clone())),
            (Form::Text(text), Shape::Basic(letter)) => self.text(text, *letter),
            (Form::Bytes(bytes), Shape::Array(_)) => Ok(Value::from(bytes.as_slice())),
            (Form::Variant(node), Shape::Variant) => {
                Ok(Value::Variant(Box::new(typed(node.build(&node.shape()?)?, node.at)?)))
            }
            (Form::Tuple(nodes), Shape::Struct(shapes)) => {
                let members = nodes.iter().zip(shapes).map(|(node, shape)| node.build(shape));
                Ok(Value::Struct(members.collect::<Result<_>>()?))
            }
            (Form::Entry(pair), Shape::Entry(shapes)) => build_entry(pair, shapes),
            (Form::Array(nodes), Shape::Array(element)) => {
                Ok(Value::Array(self.element(element)?, build(nodes, element)?))
            }
            (Form::Dictionary(entries), Shape::Array(element)) => {
                let signature = self.element(element)?;
                let Shape::Entry(shapes) = &**element else { return misread("no dictionary", self.at) };
                let entries = entries.iter().map(|pair| build_entry(pair, shapes));
                Ok(Value::Array(signature, entries.collect::<Result<_>>()?))
            }
            _ => misread("a value that is not of its type", self.at),
        }
    }

    /// The signature of an array's elements.
    fn element(&self, shape: &Shape) -> Result<String> {
        let mut signature = String::new();
        match shape.sign(&mut signature) {
            Some(()) => Ok(signature),
            None => misread("an empty array of unknown type (as in @as [] it needs one)", self.at),
        }
    }

    fn integer(&self, text: &str, letter: u8) -> Result<Value> {
        let (negative, digits) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (digits, radix) = match digits.as_bytes() {
            [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
            [b'0', _, ..] => (&digits[1..], 8),
            _ => (digits, 10),
        };
        if digits.is_empty() || !digits.bytes().all(|digit| char::from(digit).is_digit(radix)) {
            return misread("a number that cannot be read", self.at);
        }
        let Ok(size) = u64::from_str_radix(digits, radix) else { return self.out_of_range() };
        let number = if negative { -i128::from(size) } else { i128::from(size) };
        let value = match letter {
            b'y' => u8::try_from(number).map(Value::Byte),
            b'n' => i16::try_from(number).map(Value::I16),
            b'q' => u16::try_from(number).map(Value::U16),
            b'i' => i32::try_from(number).map(Value::I32),
            b'u' => u32::try_from(number).map(Value::U32),
            b'x' => i64::try_from(number).map(Value::I64),
            b't' => u64::try_from(number).map(Value::U64),
            _ => Ok(Value::Double((number as f64).to_bits())),
        };
        value.or_else(|_| self.out_of_range())
    }

    fn float(&self, text: &str) -> Result<Value> {
        let Ok(number) = text.parse::<f64>() else { return misread("a number that cannot be read", self.at) };
        // `inf` is infinite, `1e999` is too large.
        if number.is_infinite() && text.contains(|c: char| c.is_ascii_digit()) {
            return self.out_of_range();
        }
        Ok(Value::Double(number.to_bits()))
    }

    fn out_of_range(&self) -> Result<Value> {
        misread("a number that its type cannot hold", self.at)
    }

    fn text(&self, text: &str, letter: u8) -> Result<Value> {
        match letter {
            b'o' if value::is_object_path(text) => Ok(Value::ObjectPath(text.to_owned())),
            b'o' => misread("a path that names no object", self.at),
            b'g' if value::is_signature(text) => Ok(Value::Signature(text.to_owned())),
            b'g' => misread("a signature that names no types", self.at),
            _ => Ok(Value::String(text.to_owned())),
        }
    }
}

fn entry_shape(pair: &[Node<'_>; 2]) -> Result<Shape> {
    Ok(Shape::Entry(Box::new([pair[0].shape()?, pair[1].shape()?])))
}

fn build_entry(pair: &[Node<'_>; 2], shapes: &[Shape; 2]) -> Result<Value> {
    Ok(Value::Entry(Box::new(pair[0].build(&shapes[0])?), Box::new(pair[1].build(&shapes[1])?)))
}

/// The one shape of an array's elements.
fn common(mut shapes: impl Iterator<Item = (usize, Result<Shape>)>) -> Result<Shape> {
    shapes.try_fold(Shape::Unknown, |common, (at, shape)| match common.with(shape?) {
        Some(common) => Ok(common),
        None => misread("an element of another type than those before it", at),
    })
}

/// Reads nodes.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_ascii_start().len();
    }

    /// Whether this is what comes next, after blanks; if so, it is taken.
    fn eat(&mut self, byte: u8) -> bool {
        self.blanks();
        let next = self.peek() == Some(byte);
        self.at += usize::from(next);
        next
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<()> {
        if self.eat(byte) { Ok(()) } else { misread(what, self.at) }
    }

    /// Takes as much as belongs together.
    fn while_in(&mut self, belongs: impl Fn(u8) -> bool) -> &'a str {
        let length = self.rest().bytes().take_while(|byte| belongs(*byte)).count();
        let taken = &self.rest()[..length];
        self.at += length;
        taken
    }

    fn value(&mut self) -> Result<Node<'a>> {
        self.blanks();
        if self.depth == NESTING {
            return misread("values that are nested too deep", self.at);
        }
        self.depth += 1;
        let at = self.at;
        let form = match self.peek() {
            None => return misread("no value", at),
            Some(b'[') => Form::Array(self.array()?),
            Some(b'(') => self.tuple()?,
            Some(b'{') => self.braces()?,
            Some(b'<') => self.variant()?,
            Some(b'@') => self.typed()?,
            Some(b'\'' | b'"') => Form::Text(self.string()?),
            Some(b'b') if matches!(self.rest().as_bytes().get(1), Some(b'\'' | b'"')) => {
                Form::Bytes(self.byte_string()?)
            }
            Some(b'0'..=b'9' | b'+' | b'-' | b'.') => self.number()?,
            Some(_) => self.word()?,
        };
        self.depth -= 1;
        Ok(Node { at, form })
    }

    fn array(&mut self) -> Result<Vec<Node<'a>>> {
        self.at += 1;
        let mut elements = Vec::new();
        if self.eat(b']') {
            return Ok(elements);
        }
        loop {
            elements.push(self.value()?);
            if !self.eat(b',') {
                self.expect(b']', "an array without its ]")?;
                return Ok(elements);
            }
        }
    }

    /// A tuple of one has a comma as well: `(1,)`.
    fn tuple(&mut self) -> Result<Form<'a>> {
        let start = self.at;
        self.at += 1;
        if self.eat(b')') {
            return misread("an empty tuple, which D-Bus does not have", start);
        }
        let mut members = vec![self.value()?];
        self.expect(b',', "a tuple of one without its comma")?;
        while !self.eat(b')') {
            if members.len() > 1 {
                self.expect(b',', "a tuple without its )")?;
            }
            members.push(self.value()?);
        }
        Ok(Form::Tuple(members))
    }

    /// `{key: value, …}` is a dictionary, `{key, value}` an entry of one.
    fn braces(&mut self) -> Result<Form<'a>> {
        self.at += 1;
        let mut entries = Vec::new();
        if self.eat(b'}') {
            return Ok(Form::Dictionary(entries));
        }
        loop {
            let key = self.value()?;
            if entries.is_empty() && self.eat(b',') {
                let value = self.value()?;
                self.expect(b'}', "an entry without its }")?;
                return Ok(Form::Entry(Box::new([key, value])));
            }
            self.expect(b':', "a key without a colon and a value")?;
            entries.push([key, self.value()?]);
            if !self.eat(b',') {
                self.expect(b'}', "a dictionary without its }")?;
                return Ok(Form::Dictionary(entries));
            }
        }
    }

    fn variant(&mut self) -> Result<Form<'a>> {
        self.at += 1;
        let value = self.value()?;
        self.expect(b'>', "a variant without its >")?;
        Ok(Form::Variant(Box::new(value)))
    }

    fn typed(&mut self) -> Result<Form<'a>> {
        self.at += 1;
        let Some((kind, _)) = value::split_type(self.rest()) else {
            return misread("a type that D-Bus does not have", self.at);
        };
        if kind.contains('h') {
            return misread("a handle, which text cannot hold", self.at);
        }
        self.at += kind.len();
        Ok(Form::Typed(Shape::of(kind), Box::new(self.value()?)))
    }

    fn number(&mut self) -> Result<Form<'a>> {
        let start = self.at;
        let text = self.while_in(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        if unsigned.is_empty() {
            return misread("a sign without a number", start);
        }
        let hexadecimal = unsigned.starts_with("0x") || unsigned.starts_with("0X");
        let infinite = unsigned.starts_with(|c: char| c.is_ascii_alphabetic());
        let float = !hexadecimal && (infinite || unsigned.contains(['.', 'e', 'E']));
        Ok(if float { Form::Float(text) } else { Form::Integer(text) })
    }

    /// What begins with a letter: a constant, or a type in a word and its value.
    fn word(&mut self) -> Result<Form<'a>> {
        let start = self.at;
        let kind = match self.while_in(|b| b.is_ascii_alphanumeric()) {
            "true" => return Ok(Form::Bool(true)),
            "false" => return Ok(Form::Bool(false)),
            number @ ("inf" | "infinity" | "nan") => return Ok(Form::Float(number)),
            "boolean" => b'b',
            "byte" => b'y',
            "int16" => b'n',
            "uint16" => b'q',
            "int32" => b'i',
            "uint32" => b'u',
            "int64" => b'x',
            "uint64" => b't',
            "double" => b'd',
            "string" => b's',
            "objectpath" => b'o',
            "signature" => b'g',
            "handle" => return misread("a handle, which text cannot hold", start),
            "just" | "nothing" => return misread("a maybe, which D-Bus does not have", start),
            _ => return misread("a value that cannot be read (strings need quotes)", start),
        };
        Ok(Form::Typed(Shape::Basic(kind), Box::new(self.value()?)))
    }

    /// The next character between quotes; `None` at the end of the text.
    fn character(&mut self) -> Option<char> {
        let next = self.rest().chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn string(&mut self) -> Result<String> {
        let start = self.at;
        let quote = self.character();
        let mut text = String::new();
        loop {
            match self.character() {
                None => return misread("a string without its closing quote", start),
                next if next == quote => break,
                Some('\\') => text.extend(self.escape()?),
                Some(next) => text.push(next),
            }
        }
        if text.contains('\0') { misread("a string that holds a NUL", start) } else { Ok(text) }
    }

    /// What a backslash and the text after it stand for; nothing at the end of a line.
    fn escape(&mut self) -> Result<Option<char>> {
        let start = self.at;
        let Some(letter) = self.character() else { return misread("a backslash at the end", start) };
        Ok(Some(match letter {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'u' => self.code_point(4)?,
            'U' => self.code_point(8)?,
            '\n' => return Ok(None),
            other => other,
        }))
    }

    fn code_point(&mut self, digits: usize) -> Result<char> {
        let start = self.at;
        let hexadecimal =
            self.rest().get(..digits).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let number = hexadecimal.and_then(|text| u32::from_str_radix(text, 16).ok());
        let Some(character) = number.and_then(char::from_u32) else {
            return misread("an escape that names no character", start);
        };
        self.at += digits;
        Ok(character)
    }

    /// `b'…'`: bytes and the NUL that ends them.
    fn byte_string(&mut self) -> Result<Vec<u8>> {
        let start = self.at;
        self.at += 1;
        let quote = self.character();
        let mut bytes = Vec::new();
        loop {
            match self.character() {
                None => return misread("a string without its closing quote", start),
                next if next == quote => break,
                Some('\\') if matches!(self.peek(), Some(b'0'..=b'7')) => bytes.push(self.octal()?),
                // The letters mean the same here, but nothing is a code point.
                Some('\\') if !matches!(self.peek(), Some(b'u' | b'U')) => {
                    bytes.extend(self.escape()?.map(String::from).unwrap_or_default().into_bytes());
                }
                Some('\\') => {}
                Some(next) => bytes.extend(String::from(next).into_bytes()),
            }
        }
        bytes.push(0);
        Ok(bytes)
    }

    /// One to three digits.
    fn octal(&mut self) -> Result<u8> {
        let start = self.at;
        let digits = self.rest().bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
        let number = u8::from_str_radix(&self.rest()[..digits], 8);
        self.at += digits;
        number.or_else(|_| misread("an escape that names no byte", start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(kind: &str, values: &[Value]) -> Value {
        Value::Array(kind.to_owned(), values.to_vec())
    }

    fn double(number: f64) -> Value {
        Value::Double(number.to_bits())
    }

    fn refused(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn what_annotations_hold_is_read() {
        assert_eq!(parse("uint64 10000000"), Ok(Value::U64(10_000_000)));
        assert_eq!(parse("true"), Ok(Value::Bool(true)));
        assert_eq!(parse("'inactive-or-failed'"), Ok("inactive-or-failed".into()));
        assert_eq!(parse("[\"a\", 'b']"), Ok(array("s", &["a".into(), "b".into()])));
        assert_eq!(parse("[byte 0x01, 2]"), Ok(Value::from([1, 2].as_slice())));
        assert_eq!(parse("@as []"), Ok(array("s", &[])));
        assert_eq!(parse("int32 -5"), Ok(Value::I32(-5)));
        let pair = Value::Struct(vec!["char-pts".into(), "rwm".into()]);
        assert_eq!(parse(" [ ( 'char-pts' , 'rwm' ) ] "), Ok(array("(ss)", &[pair])));
    }

    #[test]
    fn a_number_has_the_type_that_is_written_or_needed() {
        assert_eq!(parse("5"), Ok(Value::I32(5)));
        assert_eq!(parse("-0x10"), Ok(Value::I32(-16)));
        assert_eq!(parse("010"), Ok(Value::I32(8)));
        assert_eq!(parse("int16 -1"), Ok(Value::I16(-1)));
        assert_eq!(parse("@q 65535"), Ok(Value::U16(65_535)));
        assert_eq!(parse("uint64 18446744073709551615"), Ok(Value::U64(u64::MAX)));
        assert_eq!(parse("int64 -9223372036854775808"), Ok(Value::I64(i64::MIN)));
        assert_eq!(parse("[1, uint32 2]"), Ok(array("u", &[Value::U32(1), Value::U32(2)])));
        assert_eq!(parse("[1, 2.5]"), Ok(array("d", &[double(1.0), double(2.5)])));
        assert_eq!(parse("double 1"), Ok(double(1.0)));
        assert_eq!(
            parse("[1e3, -inf, .5]"),
            Ok(array("d", &[double(1e3), double(f64::NEG_INFINITY), double(0.5)]))
        );
        assert_eq!(
            parse("[[], [uint64 1]]"),
            Ok(array("at", &[array("t", &[]), array("t", &[Value::U64(1)])]))
        );
    }

    #[test]
    fn numbers_that_are_none_or_do_not_fit_are_refused() {
        for text in ["2147483648", "byte 256", "uint32 -1", "uint64 18446744073709551616", "double 1e999"] {
            assert!(refused(text).starts_with("a number that its type cannot hold"), "{text}");
        }
        for text in ["0x", "09", "1a", "1.2.3", "-", "+-1", "--1", "0x-1", "e", "1e", "-true", "infinit"] {
            refused(text);
        }
        assert!(refused("uint32 1.5").starts_with("a value that is not of its type"));
    }

    #[test]
    fn strings_have_escapes() {
        assert_eq!(parse(r#"'a\n\t\\\'"\u00e9\U0001f600'"#), Ok("a\n\t\\'\"é😀".into()));
        assert_eq!(parse("\"it's \\\none\""), Ok("it's one".into()));
        assert_eq!(parse(r"b'a\001\n'"), Ok(Value::from(b"a\x01\n\0".as_slice())));
        assert_eq!(parse("objectpath '/a'"), Ok(Value::ObjectPath("/a".to_owned())));
        assert_eq!(parse("['/', objectpath '/a']").map(|v| v.signature()), Ok("ao".to_owned()));
        assert_eq!(parse("signature 'a(sv)'"), Ok(Value::Signature("a(sv)".to_owned())));
        for text in [
            "'a",
            "'",
            "b'",
            r"'\",
            r"'\u12'",
            r"'\ud800'",
            r"'\u+123'",
            r"'\u0000'",
            r"b'\777'",
            "objectpath 'a'",
            "@g '('",
        ] {
            refused(text);
        }
    }

    #[test]
    fn containers_nest() {
        let one = Value::Entry(Box::new("a".into()), Box::new(Value::variant(Value::I32(1))));
        let two = Value::Entry(Box::new("b".into()), Box::new(Value::variant(true)));
        let dictionary = array("{sv}", &[one, two]);
        assert_eq!(parse("{'a': <1>, 'b': <true>}"), Ok(dictionary.clone()));
        assert_eq!(parse("[{'a', <1>}, {'b', <true>}]"), Ok(dictionary));
        assert_eq!(parse("@a{sv} {}"), Ok(array("{sv}", &[])));
        assert_eq!(parse("(1,)"), Ok(Value::Struct(vec![Value::I32(1)])));
        assert_eq!(parse("@(sau) ('a', [1])").map(|v| v.signature()), Ok("(sau)".to_owned()));
        assert_eq!(parse("<<'a'>>"), Ok(Value::variant(Value::variant("a"))));
        for text in [
            "()",
            "(1)",
            "(1,2",
            "(1 2)",
            "(1,2,)",
            "[1,]",
            "[1 2]",
            "[",
            "{'a'}",
            "{'a': 1, 'b', 2}",
            "<1",
            "<>",
            "{1: 2",
        ] {
            refused(text);
        }
    }

    #[test]
    fn types_have_to_agree_and_to_be_known() {
        assert_eq!(refused("[1, 'a']"), "an element of another type than those before it at offset 4");
        assert_eq!(refused("[]"), "an empty array of unknown type (as in @as [] it needs one) at offset 0");
        assert_eq!(refused("@as [1]"), "a value that is not of its type at offset 4");
        for text in [
            "{}",
            "<[]>",
            "@a{sv} {'a': 1}",
            "@s 1",
            "string true",
            "[(1, 2), (1, 2, 3)]",
            "{'a', 1}",
            "{<1>: 1}",
            "@{sv} {'a', <1>}",
        ] {
            refused(text);
        }
    }

    #[test]
    fn what_dbus_has_no_values_for_is_refused() {
        for text in [
            "nothing",
            "just 1",
            "@ms 'a'",
            "handle 0",
            "@ah [0]",
            "@() ()",
            "yes",
            "",
            "  ",
            "true false",
            "#",
            "é",
        ] {
            refused(text);
        }
    }

    #[test]
    fn nesting_has_an_end() {
        assert!(parse(&format!("{}1{}", "[".repeat(31), "]".repeat(31))).is_ok());
        for text in ["[", "(", "{", "<", "@s ", "byte ", "(1,", "{1:"] {
            assert!(refused(&text.repeat(100_000)).contains("nested too deep"), "{text}");
        }
    }

    #[test]
    fn no_text_makes_it_panic_and_what_it_accepts_can_be_sent() {
        let pieces = [
            "[", "]", "(", ")", "{", "}", "<", ">", ",", ":", "@", "as", "a{sv}", "(ii)", " ", "'", "\"",
            "\\", "b'", "é", "x", "1", "-", "0x", ".", "e", "true", "uint64 ", "byte ", "'a'", "[]", "<1>",
            "1, ", "'a': ", "\0",
        ];
        let mut seed: u64 = 1;
        let mut accepted = 0;
        for _ in 0..50_000 {
            let mut text = String::new();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut bits = seed >> 8;
            for _ in 0..1 + seed % 8 {
                text.push_str(pieces[(bits % pieces.len() as u64) as usize]);
                bits /= pieces.len() as u64;
            }
            if let Ok(value) = parse(&text) {
                accepted += 1;
                let message =
                    crate::dbus::wire::Message { body: vec![Value::variant(value)], ..Default::default() };
                assert!(message.encode().is_ok(), "{text}");
            }
        }
        assert!(accepted > 500, "{accepted}");
    }
}
