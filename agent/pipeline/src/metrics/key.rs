//! What tells series apart, as bytes: family, resource and the values of the family's attributes, in its order.
//!
//! In: borrowed values, copied into a buffer that is used again. Out: bytes to hash and to compare, and back again
//! [`AttributeValue`]s, when somebody reads. Nothing is formatted and nothing allocated for a series that exists.

const ABSENT: u8 = 0;
const TEXT: u8 = 1;
const INT: u8 = 2;
/// Longest text that a key holds; all texts of requests are shorter.
const MAX_TEXT_BYTES: usize = 1024;

/// A key in the making.
#[derive(Debug, Default)]
pub struct Key {
    bytes: Vec<u8>,
}

/// The value of one attribute of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeValue<'a> {
    /// Text, never empty.
    Text(&'a str),
    /// Number.
    Int(i64),
}

impl Key {
    /// Begins a key.
    pub(crate) fn begin(&mut self, family: u8, resource: u32) {
        self.bytes.clear();
        self.bytes.push(family);
        self.bytes.extend_from_slice(&resource.to_ne_bytes());
    }

    /// Appends the next attribute's value. An empty text is none: Prometheus cannot tell them apart.
    #[inline]
    pub fn text(&mut self, value: Option<&str>) {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return self.bytes.push(ABSENT);
        };
        let mut end = value.len().min(MAX_TEXT_BYTES);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let value = &value[..end];
        self.bytes.push(TEXT);
        self.bytes.extend_from_slice(&(value.len() as u16).to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// Appends the next attribute's value: one text, or two with a space between.
    pub(crate) fn joined(&mut self, first: &str, second: Option<&str>) {
        let start = self.bytes.len();
        self.text(Some(first));
        let Some(second) = second.filter(|_| self.bytes.len() > start + 1) else { return };
        let room = MAX_TEXT_BYTES.saturating_sub(first.len() + 1);
        if second.len() <= room {
            self.bytes.push(b' ');
            self.bytes.extend_from_slice(second.as_bytes());
            let len = (first.len() + 1 + second.len()) as u16;
            self.bytes[start + 1..start + 3].copy_from_slice(&len.to_ne_bytes());
        }
    }

    /// Appends the next attribute's value.
    #[inline]
    pub fn int(&mut self, value: Option<i64>) {
        let Some(value) = value else { return self.bytes.push(ABSENT) };
        self.bytes.push(INT);
        self.bytes.extend_from_slice(&value.to_ne_bytes());
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Family and resource of a finished key.
pub(crate) fn head(key: &[u8]) -> (u8, u32) {
    match key {
        [family, a, b, c, d, ..] => (*family, u32::from_ne_bytes([*a, *b, *c, *d])),
        _ => (0, 0),
    }
}

/// The attribute values of a finished key; as many as were appended.
pub(crate) fn values(key: &[u8]) -> impl Iterator<Item = Option<AttributeValue<'_>>> {
    let mut rest = key.get(5..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (&tag, tail) = rest.split_first()?;
        rest = tail;
        match tag {
            TEXT => {
                let (len, tail) = rest.split_first_chunk::<2>()?;
                let (text, tail) = tail.split_at_checked(u16::from_ne_bytes(*len).into())?;
                rest = tail;
                Some(Some(AttributeValue::Text(std::str::from_utf8(text).ok()?)))
            }
            INT => {
                let (number, tail) = rest.split_first_chunk::<8>()?;
                rest = tail;
                Some(Some(AttributeValue::Int(i64::from_ne_bytes(*number))))
            }
            _ => Some(None),
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(family: u8, resource: u32, texts: Vec<Option<String>>, ints: Vec<Option<i64>>) {
            let mut key = Key::default();
            key.begin(family, resource);
            texts.iter().for_each(|text| key.text(text.as_deref()));
            ints.iter().for_each(|&int| key.int(int));
            prop_assert_eq!(head(key.as_bytes()), (family, resource));
            let text = |text: &Option<String>| {
                text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned)
            };
            let mut actual = values(key.as_bytes()).map(|value| match value {
                None => None,
                Some(AttributeValue::Text(text)) => Some(text.to_owned()),
                Some(AttributeValue::Int(int)) => Some(int.to_string()),
            });
            for expected in texts.iter().map(text).chain(ints.iter().map(|int| int.map(|int| int.to_string()))) {
                prop_assert_eq!(actual.next(), Some(expected));
            }
            prop_assert_eq!(actual.next(), None);
        }
    }

    #[test]
    fn two_texts_become_one() {
        let check = |first: &str, second: Option<&str>, expected: Option<&str>| {
            let mut key = Key::default();
            key.begin(0, 0);
            key.joined(first, second);
            let value = values(key.as_bytes()).next().unwrap();
            assert_eq!(value, expected.map(AttributeValue::Text));
            assert_eq!(values(key.as_bytes()).count(), 1);
        };
        check("GET", Some("/a"), Some("GET /a"));
        check("GET", None, Some("GET"));
        check("", Some("/a"), None);
        check("GET", Some(&"a".repeat(1020)), Some(&format!("GET {}", "a".repeat(1020))));
        check("GET", Some(&"a".repeat(1021)), Some("GET"));
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let mut key = Key::default();
        key.begin(0, 0);
        key.text(Some(&"ä".repeat(600)));
        let Some(Some(AttributeValue::Text(text))) = values(key.as_bytes()).next() else { panic!("no text") };
        assert_eq!(text.len(), MAX_TEXT_BYTES);
        key.begin(0, 0);
        key.text(Some(&format!("a{}", "ä".repeat(600))));
        assert_eq!(values(key.as_bytes()).count(), 1);
    }
}
