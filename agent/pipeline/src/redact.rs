//! What must not leave the host: values in query strings, user names and passwords in URLs.
//!
//! In: a request target or an authority as it was on the wire. Out: the same with secrets replaced by `REDACTED`,
//! written into a bounded [`Text`], which also makes control characters and invalid UTF-8 safe. Headers that carry
//! secrets (Authorization, Cookie, Set-Cookie) are not handled here: nobody hands them on.

use crate::semconv::REDACTED;
use crate::text::Text;

/// A parameter name longer than this is taken for a value (`?eyJhbGciOi…`).
const NAME_MAX: usize = 64;
/// Parameters whose values are secrets in any case, by the semantic conventions; case-sensitive.
const SENSITIVE: [&[u8]; 4] = [b"AWSAccessKeyId", b"Signature", b"sig", b"X-Goog-Signature"];

/// Which values of a query string are replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryRedaction {
    /// All of them.
    #[default]
    All,
    /// Those that the semantic conventions list.
    Sensitive,
}

/// Writes a query string (without `?`) with its values replaced. Names, their order and separators are kept.
pub fn query<const MAX: usize>(query: &[u8], redaction: QueryRedaction, out: &mut Text<MAX>) {
    let mut separator = "";
    for parameter in query.split(|&byte| byte == b'&') {
        out.push_clean(separator);
        separator = "&";
        if out.is_truncated() {
            return;
        }
        match memchr::memchr(b'=', parameter) {
            Some(equals) => {
                let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
                push_name(name, out);
                out.push_clean("=");
                if redaction == QueryRedaction::All || SENSITIVE.contains(&name) {
                    out.push_clean(REDACTED);
                } else {
                    out.push(value);
                }
            }
            None => push_name(parameter, out),
        }
    }
}

fn push_name<const MAX: usize>(name: &[u8], out: &mut Text<MAX>) {
    if name.len() > NAME_MAX {
        out.push_clean(REDACTED);
    } else {
        out.push(name);
    }
}

/// What stands before the host in an authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserInfo {
    /// Nothing.
    #[default]
    None,
    /// A user name, or a token in its place.
    User,
    /// A user name and a password.
    UserPassword,
}

impl UserInfo {
    /// What takes its place in a URL.
    pub fn redacted(self) -> &'static str {
        match self {
            Self::None => "",
            Self::User => "REDACTED@",
            Self::UserPassword => "REDACTED:REDACTED@",
        }
    }
}

/// Cuts user information off an authority.
pub fn user_info(authority: &[u8]) -> (UserInfo, &[u8]) {
    // The last `@`: a password may hold others, a host none.
    let Some(at) = memchr::memrchr(b'@', authority) else {
        return (UserInfo::None, authority);
    };
    let found = if authority[..at].contains(&b':') { UserInfo::UserPassword } else { UserInfo::User };
    (found, &authority[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    fn check(input: &str, expected: &str) {
        let mut out = Text::<256>::new();
        query(input.as_bytes(), QueryRedaction::All, &mut out);
        assert_eq!(out.as_str(), expected, "{input}");
    }

    #[test]
    fn names_stay_and_values_go() {
        check("", "");
        check("a=1", "a=REDACTED");
        check("a=1&b=2&a=3", "a=REDACTED&b=REDACTED&a=REDACTED");
        check("flag", "flag");
        check("flag&", "flag&");
        check("&&a=1", "&&a=REDACTED");
        check("a=", "a=REDACTED");
        check("=1", "=REDACTED");
        check("a=b=c", "a=REDACTED");
        check("a=1;b=2", "a=REDACTED");
        check("a=1\r\nx", "a=REDACTED");
        check("q\u{1b}[31m=1", "q [31m=REDACTED");
        check(&"k".repeat(64), &"k".repeat(64));
        check(&"k".repeat(65), "REDACTED");
        check(&format!("{}=1", "k".repeat(65)), "REDACTED=REDACTED");
    }

    #[test]
    fn the_listed_values_always_go() {
        let mut out = Text::<256>::new();
        query(b"a=1&sig=x&Sig=y&AWSAccessKeyId=z", QueryRedaction::Sensitive, &mut out);
        assert_eq!(out.as_str(), "a=1&sig=REDACTED&Sig=y&AWSAccessKeyId=REDACTED");
    }

    #[test]
    fn user_info_is_cut_off() {
        assert_eq!(user_info(b"host:80"), (UserInfo::None, &b"host:80"[..]));
        assert_eq!(user_info(b"me@host"), (UserInfo::User, &b"host"[..]));
        assert_eq!(user_info(b"me:p@ss:w@host:80"), (UserInfo::UserPassword, &b"host:80"[..]));
        assert_eq!(user_info(b"@"), (UserInfo::User, &b""[..]));
    }

    proptest! {
        #[test]
        fn no_value_survives(pairs in proptest::collection::vec(("[a-z]{1,8}", "[A-CE-Z0-9%+]{9,20}"), 1..8)) {
            let input: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let mut out = Text::<1024>::new();
            query(input.join("&").as_bytes(), QueryRedaction::All, &mut out);
            let expected: Vec<String> = pairs.iter().map(|(name, _)| format!("{name}=REDACTED")).collect();
            prop_assert_eq!(out.as_str(), expected.join("&"));
        }

        #[test]
        fn any_bytes_are_safe(input: Vec<u8>) {
            let mut out = Text::<64>::new();
            query(&input, QueryRedaction::All, &mut out);
            prop_assert!(out.len() <= 64);
        }
    }
}
