//! The protobuf wire format: what OTLP needs of it, written straight into a buffer and read from untrusted bytes.
//!
//! Messages are nested forwards where their length is known, and with a length that is filled in afterwards where it
//! is not. Nothing here allocates but the buffer. <https://protobuf.dev/programming-guides/encoding/>

/// Wire type 0.
pub const VARINT: u32 = 0;
/// Wire type 1.
pub const FIXED64: u32 = 1;
/// Wire type 2: bytes, text, nested messages, packed lists.
pub const LEN: u32 = 2;
/// Wire type 5.
pub const FIXED32: u32 = 5;

/// Bytes that a length which is filled in later takes at first: enough for 16,383.
const RESERVED: usize = 2;
/// Below these a tag and a length have one byte each: nearly always, so that the common path has few steps.
const SHORT_FIELD: u32 = 16;
const SHORT: usize = 0x80;
/// A varint has at most this many bytes.
const MAX_VARINT: usize = 10;

/// Bytes of a varint.
#[inline]
pub fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field's number and wire type.
#[inline]
pub fn put_tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    put_varint(out, u64::from(field << 3 | wire_type));
}

/// Appends a field of bytes or text, or a nested message that is encoded already.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    if field < SHORT_FIELD && bytes.len() < SHORT {
        out.extend_from_slice(&[(field << 3 | LEN) as u8, bytes.len() as u8]);
    } else {
        put_tag(out, field, LEN);
        put_varint(out, bytes.len() as u64);
    }
    out.extend_from_slice(bytes);
}

/// Appends an unsigned integer, enum or bool; zero is left out, as proto3 wants.
#[inline]
pub fn put_uint(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_tag(out, field, VARINT);
        put_varint(out, value);
    }
}

/// Appends a `fixed64`, `sfixed64` or the bits of a `double`.
#[inline]
pub fn put_fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    put_tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a `fixed32`; zero is left out.
#[inline]
pub fn put_fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    if value != 0 {
        put_tag(out, field, FIXED32);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Appends a nested message whose length is not known beforehand.
#[inline]
pub fn put_message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_tag(out, field, LEN);
    let start = out.len();
    out.extend_from_slice(&[0; RESERVED]);
    write(out);
    fill_length(out, start);
}

/// Fills in the length of the message that began behind the [`RESERVED`] bytes at `start`.
#[inline]
fn fill_length(out: &mut Vec<u8>, start: usize) {
    let len = out.len() - start - RESERVED;
    if len < 0x80 {
        out[start] = len as u8;
        out.copy_within(start + RESERVED.., start + 1);
        out.truncate(start + 1 + len);
    } else if len < 0x4000 {
        out[start] = len as u8 | 0x80;
        out[start + 1] = (len >> 7) as u8;
    } else {
        let more = varint_len(len as u64) - RESERVED;
        out.extend_from_slice(&[0; MAX_VARINT][..more]);
        out.copy_within(start + RESERVED..start + RESERVED + len, start + RESERVED + more);
        let mut rest = len;
        for byte in &mut out[start..start + RESERVED + more - 1] {
            *byte = rest as u8 | 0x80;
            rest >>= 7;
        }
        out[start + RESERVED + more - 1] = rest as u8;
    }
}

/// Appends a `KeyValue` (`key` = 1, `value` = 2) with an `AnyValue` of text (`string_value` = 1).
#[inline]
pub fn put_text_attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &str) {
    let text_len = 1 + varint_len(value.len() as u64) + value.len();
    put_attribute_head(out, field, key, text_len);
    put_bytes(out, 1, value.as_bytes());
}

/// The same with an integer (`int_value` = 3).
#[inline]
pub fn put_int_attribute(out: &mut Vec<u8>, field: u32, key: &str, value: i64) {
    let value = value.cast_unsigned();
    put_attribute_head(out, field, key, 1 + varint_len(value));
    // Zero is written: a oneof tells by presence.
    put_tag(out, 3, VARINT);
    put_varint(out, value);
}

/// The same with a truth (`bool_value` = 2).
#[inline]
pub fn put_bool_attribute(out: &mut Vec<u8>, field: u32, key: &str, value: bool) {
    put_attribute_head(out, field, key, 2);
    put_tag(out, 2, VARINT);
    out.push(u8::from(value));
}

/// The same with a floating-point number (`double_value` = 4).
#[inline]
pub fn put_double_attribute(out: &mut Vec<u8>, field: u32, key: &str, value: f64) {
    put_attribute_head(out, field, key, 9);
    put_fixed64(out, 4, value.to_bits());
}

/// The same with a list of texts (`array_value` = 5, its `values` = 1).
#[inline]
pub fn put_texts_attribute(out: &mut Vec<u8>, field: u32, key: &str, values: &[&str]) {
    put_message(out, field, |out| {
        put_bytes(out, 1, key.as_bytes());
        put_message(out, 2, |out| {
            put_message(out, 5, |out| {
                for value in values {
                    put_message(out, 1, |out| put_bytes(out, 1, value.as_bytes()));
                }
            });
        });
    });
}

/// Everything of a `KeyValue` up to its `AnyValue`, which has `value_len` bytes.
#[inline]
fn put_attribute_head(out: &mut Vec<u8>, field: u32, key: &str, value_len: usize) {
    // Both tags and both lengths before it have a byte each.
    let len = 4 + key.len() + value_len;
    if field < SHORT_FIELD && len < SHORT {
        out.extend_from_slice(&[(field << 3 | LEN) as u8, len as u8, 1 << 3 | LEN as u8, key.len() as u8]);
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(&[2 << 3 | LEN as u8, value_len as u8]);
        return;
    }
    let key_len = 1 + varint_len(key.len() as u64) + key.len();
    put_tag(out, field, LEN);
    put_varint(out, (key_len + 1 + varint_len(value_len as u64) + value_len) as u64);
    put_bytes(out, 1, key.as_bytes());
    put_tag(out, 2, LEN);
    put_varint(out, value_len as u64);
}

/// A field that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// Varint.
    Uint(u64),
    /// Either fixed width.
    Fixed(u64),
    /// Bytes, text or a nested message.
    Bytes(&'a [u8]),
}

/// Reads the fields of a message; `None` at its end, `Some(Err)` where it is not protobuf.
#[derive(Clone, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

/// The bytes are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotProtobuf;

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), NotProtobuf>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read().ok_or(NotProtobuf);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<(u32, Field<'a>)> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number))?;
        let field = match tag as u32 & 7 {
            VARINT => Field::Uint(self.varint()?),
            FIXED64 => Field::Fixed(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            FIXED32 => Field::Fixed(u32::from_le_bytes(self.take(4)?.try_into().ok()?).into()),
            LEN => {
                let len = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(len)?)
            }
            // Groups are older than OTLP.
            _ => return None,
        };
        Some((number, field))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for index in 0..MAX_VARINT {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    #[test]
    fn lengths_fit_whatever_the_size() {
        for len in [0, 1, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152] {
            let mut out = vec![7];
            put_message(&mut out, 3, |out| out.extend((0..len).map(|n| n as u8)));
            let fields: Vec<_> = Fields(&out[1..]).collect();
            let expected: Vec<u8> = (0..len).map(|n| n as u8).collect();
            assert_eq!(fields, [Ok((3, Field::Bytes(&expected)))], "{len}");
            assert_eq!(out.len(), 1 + 1 + varint_len(len as u64) + len, "{len}: shortest form");
        }
    }

    #[test]
    fn what_is_no_protobuf_is_refused() {
        let check = |bytes: &[u8]| {
            assert_eq!(Fields(bytes).last(), Some(Err(NotProtobuf)), "{bytes:?}");
        };
        check(b"<html>");
        check(&[0x0a]); // a length is missing
        check(&[0x0a, 5, 1]); // shorter than told
        check(&[0x00, 0]); // field 0
        check(&[0x0b]); // a group
        check(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]); // an endless varint
        check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]); // a length beyond everything
        assert_eq!(Fields(&[]).next(), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_ends(bytes: Vec<u8>) {
            assert!(Fields(&bytes).count() <= bytes.len());
        }

        #[test]
        fn varints_round_trip(value in any::<u64>(), shift in 0_u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_tag(&mut out, 1, VARINT);
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), 1 + varint_len(value));
            let fields: Vec<_> = Fields(&out).collect();
            prop_assert_eq!(fields, vec![Ok((1, Field::Uint(value)))]);
        }
    }
}
