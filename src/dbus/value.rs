//! D-Bus values and their types, which are written as signatures: `s` is a string, `a(sv)` an array of structs of
//! a string and a variant.

/// A value of one of D-Bus' types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    /// By its bits, as IEEE 754 has them: so that any two values can be compared, NaN too.
    Double(u64),
    String(String),
    ObjectPath(String),
    Signature(String),
    /// A descriptor, as its index among those that go with the message: the value itself stays plain data.
    Fd(u32),
    /// The signature of the elements, which an empty array has too, and the elements.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    /// A key and its value; only in an array, which it makes a dictionary.
    Entry(Box<Value>, Box<Value>),
    Variant(Box<Value>),
}

impl Value {
    /// A value whose type goes along with it.
    pub fn variant(value: impl Into<Value>) -> Value {
        Value::Variant(Box::new(value.into()))
    }

    /// The type.
    pub fn signature(&self) -> String {
        let mut signature = String::new();
        self.sign(&mut signature);
        signature
    }

    fn sign(&self, to: &mut String) {
        match self {
            Value::Byte(_) => to.push('y'),
            Value::Bool(_) => to.push('b'),
            Value::I16(_) => to.push('n'),
            Value::U16(_) => to.push('q'),
            Value::I32(_) => to.push('i'),
            Value::U32(_) => to.push('u'),
            Value::I64(_) => to.push('x'),
            Value::U64(_) => to.push('t'),
            Value::Double(_) => to.push('d'),
            Value::String(_) => to.push('s'),
            Value::ObjectPath(_) => to.push('o'),
            Value::Signature(_) => to.push('g'),
            Value::Fd(_) => to.push('h'),
            Value::Variant(_) => to.push('v'),
            Value::Array(element, _) => {
                to.push('a');
                to.push_str(element);
            }
            Value::Struct(fields) => {
                to.push('(');
                fields.iter().for_each(|field| field.sign(to));
                to.push(')');
            }
            Value::Entry(key, value) => {
                to.push('{');
                key.sign(to);
                value.sign(to);
                to.push('}');
            }
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::U64(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::String(value.to_owned())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::Array("y".to_owned(), bytes.iter().copied().map(Value::Byte).collect())
    }
}

/// How long a signature may be.
const SIGNATURE: usize = 255;
/// How deep arrays may be nested, and likewise structs.
const NESTING: usize = 32;

/// Splits the first complete type off a signature; `None` where there is none, or none that D-Bus has.
pub fn split_type(signature: &str) -> Option<(&str, &str)> {
    let end = complete(signature.as_bytes(), 0, 0)?;
    (end <= SIGNATURE).then(|| signature.split_at(end))
}

/// Whether these are complete types, one after the other, or none.
pub fn is_signature(signature: &str) -> bool {
    let mut rest = signature;
    while !rest.is_empty() {
        let Some((_, more)) = split_type(rest) else { return false };
        rest = more;
    }
    signature.len() <= SIGNATURE
}

/// Whether this is one complete type.
pub fn is_type(signature: &str) -> bool {
    split_type(signature).is_some_and(|(_, rest)| rest.is_empty())
}

/// Whether a type is one that a key of a dictionary may have.
pub fn is_basic(letter: u8) -> bool {
    b"ybnqiuxtdsogh".contains(&letter)
}

/// The length of the first complete type.
fn complete(signature: &[u8], arrays: usize, structs: usize) -> Option<usize> {
    if arrays > NESTING || structs > NESTING {
        return None;
    }
    match *signature.first()? {
        b'v' => Some(1),
        b'a' if signature.get(1) == Some(&b'{') => {
            let key = *signature.get(2)?;
            let value = complete(signature.get(3..)?, arrays + 1, structs + 1)?;
            (is_basic(key) && signature.get(3 + value) == Some(&b'}')).then_some(4 + value)
        }
        b'a' => Some(1 + complete(&signature[1..], arrays + 1, structs)?),
        b'(' => {
            let mut end = 1;
            loop {
                end += complete(&signature[end..], arrays, structs + 1)?;
                if signature.get(end) == Some(&b')') {
                    return Some(end + 1);
                }
            }
        }
        basic => is_basic(basic).then_some(1),
    }
}

/// Whether this is the path of an object: `/`, or names of letters, digits and underscores after slashes.
pub fn is_object_path(path: &str) -> bool {
    let name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    path == "/" || path.strip_prefix('/').is_some_and(|names| names.split('/').all(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_names_the_types_of_a_value_from_outside_to_inside() {
        let entry = Value::Entry(Box::new("key".into()), Box::new(Value::variant(7_u64)));
        let array = Value::Array("{sv}".to_owned(), vec![entry]);
        let fields = vec![Value::Bool(true), Value::from([1, 2].as_slice()), array, Value::Double(0)];
        assert_eq!(Value::Struct(fields).signature(), "(baya{sv}d)");
    }

    #[test]
    fn signatures_are_split_into_complete_types() {
        assert_eq!(split_type("a(sv)u"), Some(("a(sv)", "u")));
        assert_eq!(split_type("a{sa{sv}}"), Some(("a{sa{sv}}", "")));
        for odd in
            ["", "a", "(", "()", "(s", "{sv}", "a{vs}", "a{s}", "a{sss}", "a{(s)s}", "z", ")", "a{", "é"]
        {
            assert_eq!(split_type(odd), None, "{odd}");
        }
        assert!(is_signature("") && is_signature("sa(sv)"));
        assert!(is_type("a(sv)") && !is_type("su") && !is_type(""));
    }

    #[test]
    fn signatures_are_neither_too_long_nor_too_deep() {
        assert!(is_signature(&"y".repeat(255)) && !is_signature(&"y".repeat(256)));
        assert!(is_type(&format!("{}y", "a".repeat(32))) && !is_type(&format!("{}y", "a".repeat(33))));
        let nested = |n| format!("{}y{}", "(".repeat(n), ")".repeat(n));
        assert!(is_type(&nested(32)) && !is_type(&nested(33)));
        assert!(!is_type(&"(".repeat(100_000)));
    }

    #[test]
    fn object_paths_have_names_between_slashes() {
        assert!(is_object_path("/") && is_object_path("/org/freedesktop/systemd1/unit/a_2eb"));
        for odd in ["", "a", "//", "/a/", "/a-b", "/a//b", "/é"] {
            assert!(!is_object_path(odd), "{odd}");
        }
    }
}
