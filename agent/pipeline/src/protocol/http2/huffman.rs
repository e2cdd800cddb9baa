//! The Huffman code of HPACK: RFC 7541, 5.2 and appendix B.
//!
//! In: a coded string. Out: its bytes, or that it is none. The code is canonical, so that the lengths of its words are
//! all that needs to be written down; a table of eight bits decodes what is common, a search by length the rest.

/// Bits of each byte's code word; the last one is the end-of-string symbol, which no string may hold.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
const LONGEST: usize = 30;
/// Symbols by length of their word, then by value: the order of the words.
const ORDER: [u16; 257] = order();
/// By length: the first word, left-aligned to 32 bits; where its symbol stands in [`ORDER`].
const FIRST: [(u32, u16); LONGEST + 1] = first();
/// By the next eight bits: symbol and length of a word that is not longer; 0 where it is.
const SHORT: [(u8, u8); 256] = short();

/// Appends the decoded string; false if it is not one.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    let mut bits: u64 = 0;
    let mut count = 0;
    let mut rest = coded.iter();
    loop {
        while count <= 56 {
            let Some(&byte) = rest.next() else { break };
            bits |= u64::from(byte) << (56 - count);
            count += 8;
        }
        if count == 0 {
            return true;
        }
        let (mut symbol, mut len) = {
            let (symbol, len) = SHORT[(bits >> 56) as usize];
            (u16::from(symbol), usize::from(len))
        };
        if len == 0 {
            (symbol, len) = long((bits >> 32) as u32);
        }
        if len > count {
            // What is left is padding: less than a byte, all ones.
            return count < 8 && bits >> (64 - count) == (1 << count) - 1;
        }
        let Ok(byte) = u8::try_from(symbol) else { return false };
        out.push(byte);
        bits <<= len;
        count -= len;
    }
}

/// Symbol and length of the word with which the bits begin. Words of one length are numbered without a gap, and
/// shorter ones come first.
fn long(bits: u32) -> (u16, usize) {
    let mut len = LONGEST;
    while bits < FIRST[len].0 {
        len -= 1;
    }
    let (word, place) = FIRST[len];
    let index = usize::from(place) + ((bits - word) >> (32 - len)) as usize;
    (ORDER[index.min(ORDER.len() - 1)], len)
}

const fn order() -> [u16; 257] {
    let mut order = [0; 257];
    let (mut at, mut len) = (0, 1);
    while len <= LONGEST {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == len {
                order[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    order
}

const fn first() -> [(u32, u16); LONGEST + 1] {
    let mut first = [(0, 0); LONGEST + 1];
    let (mut word, mut at, mut len) = (0u64, 0, 1);
    while len <= LONGEST {
        first[len] = (word as u32, at);
        while (at as usize) < ORDER.len() && LENGTHS[ORDER[at as usize] as usize] as usize == len {
            word += 1 << (32 - len);
            at += 1;
        }
        len += 1;
    }
    first
}

const fn short() -> [(u8, u8); 256] {
    let mut short = [(0, 0); 256];
    let (mut at, mut place) = (0, 0);
    while at < 256 {
        let symbol = ORDER[place];
        let len = LENGTHS[symbol as usize];
        if len > 8 {
            break;
        }
        let end = at + (1 << (8 - len));
        while at < end {
            short[at] = (symbol as u8, len);
            at += 1;
        }
        place += 1;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert_eq, proptest};

    /// The other way round, bit by bit.
    fn encode(bytes: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for &byte in bytes {
            let len = LENGTHS[usize::from(byte)];
            let place = ORDER.iter().position(|&symbol| symbol == u16::from(byte)).unwrap() as u32;
            let (word, first) = FIRST[usize::from(len)];
            let word = (word >> (32 - len)) + (place - u32::from(first));
            bits.extend((0..len).rev().map(|bit| word >> bit & 1 == 1));
        }
        while bits.len() % 8 != 0 {
            bits.push(true);
        }
        bits.chunks(8).map(|byte| byte.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit))).collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(coded, &mut out).then_some(out)
    }

    #[test]
    fn the_examples_of_the_specification_decode() {
        // RFC 7541, C.4.1 and C.6.1.
        let coded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded(&coded).unwrap(), b"www.example.com");
        assert_eq!(decoded(&[0x64, 0x02]).unwrap(), b"302");
        assert_eq!(decoded(&[]).unwrap(), b"");
    }

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        assert_eq!(decoded(&[0x07]).unwrap(), b"0");
        assert_eq!(decoded(&[0x00]), None, "padded with zeros");
        assert_eq!(decoded(&[0x07, 0xff]), None, "padded with a byte");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "end of string");
    }

    proptest! {
        #[test]
        fn every_string_comes_back(bytes: Vec<u8>) {
            prop_assert_eq!(decoded(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn any_bytes_are_safe(coded: Vec<u8>) {
            let mut out = Vec::new();
            decode(&coded, &mut out);
        }
    }
}
