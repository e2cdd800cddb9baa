//! A bounded string that is filled from untrusted bytes and reused: what a request keeps of what it saw.
//!
//! In: bytes as they were on the wire. Out: valid UTF-8 without control characters, at most `MAX` bytes long,
//! so that no exporter, terminal or log has to clean it again. Invalid bytes become U+FFFD, control characters
//! become a space. Clearing keeps a small allocation for the next request and gives a large one back.

use std::fmt;

/// Allocations up to this size are kept when a [`Text`] is cleared.
const KEPT_CAPACITY: usize = 512;

/// Valid UTF-8 of at most `MAX` bytes, without control characters.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text<const MAX: usize> {
    text: String,
    truncated: bool,
}

impl<const MAX: usize> Text<MAX> {
    /// Empty; allocates nothing.
    pub const fn new() -> Self {
        Self { text: String::new(), truncated: false }
    }

    /// The content.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The content, or `None` if there is none.
    #[inline]
    pub fn get(&self) -> Option<&str> {
        (!self.text.is_empty()).then_some(self.text.as_str())
    }

    /// Whether it holds nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether something was cut off because of the bound.
    #[inline]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Forgets the content.
    #[inline]
    pub fn clear(&mut self) {
        self.truncated = false;
        if self.text.capacity() > KEPT_CAPACITY {
            self.text = String::new();
        } else {
            self.text.clear();
        }
    }

    /// Replaces the content.
    #[inline]
    pub fn set(&mut self, bytes: &[u8]) {
        self.clear();
        self.push(bytes);
    }

    /// Appends; what does not fit is cut off at a character's end.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        if self.truncated {
            return;
        }
        let plain = is_plain(bytes) && self.text.len() + bytes.len() <= MAX;
        match std::str::from_utf8(bytes) {
            Ok(text) if plain => self.text.push_str(text),
            _ => self.push_unusual(bytes),
        }
    }

    /// Appends text that is known to be clean: a constant, or what came out of another [`Text`]. What does not fit
    /// is cut off at a character's end.
    #[inline]
    pub(crate) fn push_clean(&mut self, text: &str) {
        debug_assert!(!text.contains(char::is_control), "{text:?}");
        if !self.truncated && self.text.len() + text.len() <= MAX {
            self.text.push_str(text);
        } else {
            self.push(text.as_bytes());
        }
    }

    /// Nothing more is to be appended, as if it did not fit.
    pub(crate) fn close(&mut self) {
        self.truncated = true;
    }

    #[cold]
    fn push_unusual(&mut self, bytes: &[u8]) {
        for chunk in bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                let clean = if character.is_control() { ' ' } else { character };
                if !self.push_char(clean) {
                    return;
                }
            }
            if !chunk.invalid().is_empty() && !self.push_char(char::REPLACEMENT_CHARACTER) {
                return;
            }
        }
    }

    fn push_char(&mut self, character: char) -> bool {
        if self.text.len() + character.len_utf8() > MAX {
            self.truncated = true;
            return false;
        }
        self.text.push(character);
        true
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether all bytes are printable ASCII. Without a branch per byte, so that it vectorises.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |plain, &byte| plain & (0x20..0x7f).contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    fn check(input: &[u8], expected: &str, truncated: bool) {
        let mut text = Text::<8>::new();
        text.set(input);
        assert_eq!((text.as_str(), text.is_truncated()), (expected, truncated), "{input:?}");
    }

    #[test]
    fn keeps_what_is_clean_and_mends_the_rest() {
        check(b"", "", false);
        check(b"/a", "/a", false);
        check(b"12345678", "12345678", false);
        check(b"123456789", "12345678", true);
        check(b"a\r\nb\x00\x1b", "a  b  ", false);
        check(b"\x7f\xc2\x85", "  ", false); // DEL and the C1 control NEL
        check("äöü".as_bytes(), "äöü", false);
        check("1234567ä".as_bytes(), "1234567", true);
        check(b"a\xff\xfeb", "a\u{fffd}\u{fffd}b", false);
        check(b"ab\xff\xfeb", "ab\u{fffd}\u{fffd}", true);
    }

    #[test]
    fn nothing_follows_a_cut() {
        let mut text = Text::<4>::new();
        text.set("abcä".as_bytes());
        text.push(b"z");
        assert_eq!(text.as_str(), "abc");
    }

    #[test]
    fn clearing_keeps_small_allocations_only() {
        let mut text = Text::<4096>::new();
        text.set(&[b'a'; 100]);
        let kept = text.text.capacity();
        text.clear();
        assert_eq!(text.text.capacity(), kept);
        text.set(&[b'a'; 4000]);
        text.clear();
        assert_eq!(text.text.capacity(), 0);
    }

    proptest! {
        #[test]
        fn is_bounded_and_clean(parts: Vec<Vec<u8>>) {
            let mut text = Text::<32>::new();
            for part in &parts {
                text.push(part);
            }
            prop_assert!(text.len() <= 32);
            prop_assert!(!text.as_str().chars().any(char::is_control));
        }

        #[test]
        fn plain_text_round_trips(input in "[ -~]{0,32}") {
            let mut text = Text::<32>::new();
            text.set(input.as_bytes());
            prop_assert_eq!(text.as_str(), input.as_str());
        }
    }
}
