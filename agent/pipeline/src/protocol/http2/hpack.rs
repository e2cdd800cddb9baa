//! HPACK: header blocks to fields, RFC 7541.
//!
//! In: the blocks of one direction, in order. Out: each field that matters, or that its name or value is not known.
//! Limits: see `table.rs`. No library fits: the decoders that there are cannot join in the middle, keep every value,
//! and bound a table by what the encoder asks for.

use super::field::Field;
use super::huffman;
use super::table::{Lookup, Table};

/// Longest string that is decoded; a longer one is passed over and counts as unknown.
const STRING_MAX: usize = 64 * 1024;

/// One field of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Known(Field, &'a [u8]),
    /// Of this field, only the value is not known, or nothing at all.
    Unknown,
}

/// The block is not HPACK, or it is cut off; what came before its end was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// How a literal is to be remembered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

/// Decodes a block and shows each field. `strings` is room for decoding.
pub(super) fn decode(
    block: &[u8],
    table: &mut Table,
    strings: &mut Vec<u8>,
    visit: &mut impl FnMut(Item<'_>),
) -> Result<(), Malformed> {
    let mut input = Input { rest: block };
    while let Some(&first) = input.rest.first() {
        match first {
            0x80.. => {
                let index = input.integer(7)?;
                match table.get(index) {
                    Lookup::Known(field, _, value) => {
                        if field.matters() {
                            visit(Item::Known(field, value));
                        }
                    }
                    Lookup::Unknown => visit(Item::Unknown),
                    Lookup::Invalid => return Err(Malformed),
                }
            }
            0x40.. => literal(&mut input, 6, Keep::Yes, table, strings, visit)?,
            0x20.. => {
                let max = input.integer(5)?;
                table.resize(max);
            }
            _ => literal(&mut input, 4, Keep::No, table, strings, visit)?,
        }
    }
    Ok(())
}

fn literal(
    input: &mut Input<'_>,
    bits: u32,
    keep: Keep,
    table: &mut Table,
    strings: &mut Vec<u8>,
    visit: &mut impl FnMut(Item<'_>),
) -> Result<(), Malformed> {
    strings.clear();
    let (field, name_len) = match input.integer(bits)? {
        0 => {
            let (coded, name) = input.string()?;
            let name = plain(coded, name, strings)?;
            (Field::of(name), name.len())
        }
        index => match table.get(index) {
            Lookup::Known(field, name_len, _) => (field, name_len),
            Lookup::Unknown => (Field::Unknown, 0),
            Lookup::Invalid => return Err(Malformed),
        },
    };
    let (coded, value) = input.string()?;
    // The size of an entry is that of the decoded value, whether the value matters or not.
    if keep == Keep::No && !field.matters() {
        if field == Field::Unknown {
            visit(Item::Unknown);
        }
        return Ok(());
    }
    strings.clear();
    let value = plain(coded, value, strings)?;
    match field {
        Field::Unknown => visit(Item::Unknown),
        Field::Other => {}
        _ => visit(Item::Known(field, value)),
    }
    if keep == Keep::Yes {
        table.add(field, name_len, value);
    }
    Ok(())
}

/// The string itself.
fn plain<'a>(coded: bool, string: &'a [u8], decoded: &'a mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    if !coded {
        return Ok(string);
    }
    if string.len() > STRING_MAX || !huffman::decode(string, decoded) {
        return Err(Malformed);
    }
    Ok(decoded)
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// An integer whose first byte has so many bits for it (RFC 7541, 5.1).
    #[inline]
    fn integer(&mut self, bits: u32) -> Result<usize, Malformed> {
        let (&first, mut rest) = self.rest.split_first().ok_or(Malformed)?;
        let mask = (1u8 << bits) - 1;
        let mut value = usize::from(first & mask);
        if first & mask == mask {
            let mut shift = 0;
            loop {
                let (&byte, more) = rest.split_first().ok_or(Malformed)?;
                rest = more;
                if shift > 28 {
                    return Err(Malformed);
                }
                value += usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
        }
        self.rest = rest;
        Ok(value)
    }

    /// A string, and whether it is Huffman-coded.
    #[inline]
    fn string(&mut self) -> Result<(bool, &'a [u8]), Malformed> {
        let coded = self.rest.first().ok_or(Malformed)? & 0x80 != 0;
        let len = self.integer(7)?;
        let (string, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok((coded, string))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    fn decoded(block: &[u8], table: &mut Table) -> (Vec<String>, bool) {
        let mut items = Vec::new();
        let ok = decode(block, table, &mut Vec::new(), &mut |item| {
            items.push(match item {
                Item::Known(field, value) => format!("{field:?}={}", String::from_utf8_lossy(value)),
                Item::Unknown => "?".to_owned(),
            });
        });
        (items, ok.is_ok())
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
        digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    #[test]
    fn the_examples_of_the_specification_decode() {
        // RFC 7541, C.4: three requests, Huffman-coded; cache-control does not matter.
        let mut table = Table::default();
        for (block, expected) in [
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", "/"),
            ("8286 84be 5886 a8eb 1064 9cbf", "/"),
            ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", "/index.html"),
        ] {
            let (items, ok) = decoded(&hex(block), &mut table);
            assert!(ok);
            assert_eq!(items[0], "Method=GET");
            assert_eq!(items[2..], [format!("Path={expected}"), "Authority=www.example.com".to_owned()]);
        }
    }

    #[test]
    fn what_was_sent_before_is_unknown_until_it_reappears() {
        let mut table = Table::default();
        table.forget();
        // :method GET, then an index that nobody has seen.
        assert_eq!(decoded(&hex("82 be"), &mut table), (vec!["Method=GET".to_owned(), "?".to_owned()], true));
        // A literal path is added, and known from then on; the older entry moved up.
        assert_eq!(decoded(&hex("82 44 02 2f61"), &mut table).0[1], "Path=/a");
        assert_eq!(decoded(&hex("82 be bf"), &mut table).0[1..], ["Path=/a", "?"]);
        // A literal with a name that nobody has seen: later references to it are not known either.
        assert_eq!(decoded(&hex("82 7e 01 78"), &mut table).0[1], "Path=x", "index 62 is that of /a");
        assert_eq!(decoded(&hex("82 7f 05 01 78"), &mut table).0[1], "?");
        assert_eq!(decoded(&hex("be bf c0"), &mut table).0, ["?", "Path=x", "Path=/a"]);
    }

    #[test]
    fn malformed_blocks_are_refused() {
        for block in
            ["80", "be", "ff", "ffffffffffff", "40", "400161", "40 83 000000 00", "44 05 61", "00 8a 61"]
        {
            assert!(!decoded(&hex(block), &mut Table::default()).1, "{block}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn any_bytes_are_safe_and_bounded(blocks: Vec<Vec<u8>>, joined: bool) {
            let mut table = Table::default();
            if joined {
                table.forget();
            }
            for block in &blocks {
                decoded(block, &mut table);
            }
            prop_assert!(table.cost() < 1 << 20);
        }
    }
}
