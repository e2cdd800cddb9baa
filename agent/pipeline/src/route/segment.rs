//! What one path segment is by its looks alone: a word, or one value of many.
//!
//! In: a segment. Out: its class. The rules are a pure function: the same segment always has the same class. They
//! lean to literals: a word taken for an id merges routes for ever, an id taken for a word is merged later by the
//! tree.

/// Class of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A word, for all that can be seen.
    Literal,
    /// Number, UUID, hash, token, or a name with a number in it.
    Id,
    /// Calendar date.
    Date,
    /// E-mail address.
    Email,
}

impl Class {
    /// What stands for the segment in a template.
    pub(super) fn placeholder(self) -> Option<&'static str> {
        match self {
            Self::Literal => None,
            Self::Id => Some("{id}"),
            Self::Date => Some("{date}"),
            Self::Email => Some("{email}"),
        }
    }
}

/// A segment longer than this is no word.
pub(super) const LITERAL_MAX: usize = 64;

/// Classifies a segment that is not empty.
pub(super) fn classify(segment: &str) -> Class {
    let bytes = segment.as_bytes();
    if is_number(bytes) || bytes.len() > LITERAL_MAX {
        return Class::Id;
    }
    let mut seen = Seen::default();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'0'..=b'9' => (seen.digits, seen.hex) = (seen.digits + 1, seen.hex + 1),
            b'a'..=b'f' | b'A'..=b'F' => seen.hex += 1,
            b'-' => seen.dashes += 1,
            b'@' => seen.at = seen.at.or(Some(at..at + 1)),
            b'{' | b'}' => return Class::Id, // would pass for a placeholder
            b'%' => {
                if bytes[at..].starts_with(b"%40") {
                    seen.at = seen.at.or(Some(at..at + 3));
                }
                at += 2; // its hexadecimal digits are no digits
            }
            _ => {}
        }
        at += 1;
    }
    if seen.digits >= 8 && is_date(bytes) {
        return Class::Date;
    }
    if seen.at.is_some_and(|at| at.start > 0 && is_domain(&bytes[at.end..])) {
        return Class::Email;
    }
    let is_hex = seen.hex + seen.dashes == bytes.len() && seen.hex >= 8 && seen.digits >= 1;
    let is_token = match bytes.len() {
        24.. => seen.digits >= 2,
        16.. => seen.digits >= 3,
        _ => seen.digits >= 4,
    };
    if is_hex || is_token { Class::Id } else { Class::Literal }
}

#[derive(Default)]
struct Seen {
    digits: usize,
    hex: usize,
    dashes: usize,
    at: Option<std::ops::Range<usize>>,
}

/// Digits with or without a sign.
fn is_number(bytes: &[u8]) -> bool {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Begins with `YYYY-MM-DD`, ends there or goes on with a time.
fn is_date(bytes: &[u8]) -> bool {
    let Some((date, time)) = bytes.split_at_checked(10) else {
        return false;
    };
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = date else {
        return false;
    };
    let two = |tens: u8, ones: u8| (tens - b'0') * 10 + ones - b'0';
    [y0, y1, y2, y3, m0, m1, d0, d1].iter().all(u8::is_ascii_digit)
        && (1..=12).contains(&two(m0, m1))
        && (1..=31).contains(&two(d0, d1))
        && time.first().is_none_or(|byte| matches!(byte, b'T' | b't' | b'_' | b'%' | b'+'))
}

/// Labels with dots between, the last one letters: what follows the `@` of an address, but not `2x.png`.
fn is_domain(bytes: &[u8]) -> bool {
    let Some(dot) = memchr::memrchr(b'.', bytes) else {
        return false;
    };
    let (name, last) = (&bytes[..dot], &bytes[dot + 1..]);
    let scale = name.len() == 2 && name[0].is_ascii_digit() && name[1] == b'x';
    !scale
        && !name.is_empty()
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && last.len() >= 2
        && last.iter().all(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert_eq, proptest};

    fn check(class: Class, segments: &[&str]) {
        for segment in segments {
            assert_eq!(classify(segment), class, "{segment}");
        }
    }

    #[test]
    fn words_stay() {
        check(
            Class::Literal,
            &["users", "v1", "v2beta1", "oauth2", "sha256", "s3", "index.html", "favicon.ico"],
        );
        check(
            Class::Literal,
            &["apiextensions.k8s.io", "rbac.authorization.k8s.io", "1.0", "2.0.1", "top-10"],
        );
        check(
            Class::Literal,
            &["mutatingwebhookconfigurations", "facade", "deadbeef", "@alice", "logo@2x.png"],
        );
        check(
            Class::Literal,
            &["hello%20big%20world", "%D0%BF%D1%80", "grüße", "-", "*", "..", "~", "add", "cafe1"],
        );
        check(
            Class::Literal,
            &["getting-started-with-opentelemetry", "BUILD", "_search", "$metadata", "%", "%4"],
        );
    }

    #[test]
    fn values_go() {
        check(Class::Id, &["1", "0", "-1", "42", "20240131", "550e8400-e29b-41d4-a716-446655440000"]);
        check(
            Class::Id,
            &["550E8400E29B41D4A716446655440000", "da39a3ee", "5f3c2a1b9d", "0x52908400098527886E0F"],
        );
        check(
            Class::Id,
            &["item-12345", "order_2024", "ab12cd34", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "jquery-3.7.1.min.js"],
        );
        check(Class::Id, &["main.8f3e2d1c.js", "{id}", "a{", "a8098c1a-f86e"]);
        check(Class::Id, &["x".repeat(65).as_str()]);
    }

    #[test]
    fn dates_and_addresses_have_their_own_names() {
        check(Class::Date, &["2024-01-31", "2024-12-01T10:00:00Z", "1999-01-01%2010"]);
        check(Class::Id, &["2024-13-01", "2024-00-10", "2024-01-32", "2024-01-31x"]);
        check(Class::Email, &["a@b.example", "a.b%40c.example.org", "joe@mail-1.example.com"]);
        check(Class::Literal, &["a@b", "a@.", "@b.example", "a@b.c", "a@b."]);
    }

    proptest! {
        #[test]
        fn any_segment_has_one_class(segment in "\\PC{1,80}") {
            prop_assert_eq!(classify(&segment), classify(&segment.clone()));
        }

        #[test]
        fn numbers_and_uuids_are_ids(number: u64, uuid: u128) {
            prop_assert_eq!(classify(&number.to_string()), Class::Id);
            let hex = format!("{uuid:032x}");
            let dashed = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
            prop_assert_eq!(classify(&dashed), Class::Id);
        }
    }
}
