//! Shell patterns: `*`, `?`, `[a-z]`, `[!a-z]`, and a backslash before a character that stands for itself.
//!
//! [`Glob::matches_path`] matches a pattern without a slash with the file name, any other with the whole path; `*`
//! crosses slashes. Matching takes time proportional to pattern × path and never more (one remembered star, no recursion).

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    whole_path: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Any,
    Star,
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Glob {
    /// Parses a pattern; the error says what is wrong with it.
    pub fn new(pattern: &str) -> Result<Self, &'static str> {
        if pattern.is_empty() {
            return Err("the pattern is empty");
        }
        if pattern.len() > 4096 {
            return Err("the pattern is longer than a path can be");
        }
        let mut tokens = Vec::new();
        let mut rest = pattern.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            tokens.push(match byte {
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'[' => {
                    let (class, tail) = parse_class(rest)?;
                    rest = tail;
                    class
                }
                b'\\' => {
                    let (&literal, tail) = rest.split_first().ok_or("it ends with a backslash")?;
                    rest = tail;
                    Token::Byte(literal)
                }
                literal => Token::Byte(literal),
            });
        }
        Ok(Self { tokens, whole_path: pattern.contains('/') })
    }

    /// Whether the program at `path` matches.
    pub fn matches_path(&self, path: &[u8]) -> bool {
        let name = memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1);
        self.matches(if self.whole_path { path } else { &path[name..] })
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        // Where to go on after a mismatch: behind the last star, one byte further.
        let mut retry = None;
        loop {
            match self.tokens.get(token) {
                Some(Token::Star) => {
                    token += 1;
                    retry = Some((token, at));
                    continue;
                }
                Some(single) if text.get(at).is_some_and(|&byte| single.matches(byte)) => {
                    token += 1;
                    at += 1;
                    continue;
                }
                None if at == text.len() => return true,
                _ => {}
            }
            match retry {
                Some((after_star, from)) if from < text.len() => {
                    token = after_star;
                    at = from + 1;
                    retry = Some((after_star, at));
                }
                _ => return false,
            }
        }
    }
}

impl Token {
    fn matches(&self, byte: u8) -> bool {
        match self {
            Self::Byte(literal) => *literal == byte,
            Self::Any | Self::Star => true,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|&(first, last)| (first..=last).contains(&byte)) != *negated
            }
        }
    }
}

fn parse_class(mut rest: &[u8]) -> Result<(Token, &[u8]), &'static str> {
    const OPEN: &str = "a [ has no matching ]";
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    if negated {
        rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        let (&first, tail) = rest.split_first().ok_or(OPEN)?;
        // A bracket right at the start stands for itself.
        if first == b']' && !ranges.is_empty() {
            return Ok((Token::Class { negated, ranges }, tail));
        }
        rest = tail;
        let last = match rest {
            [b'-', last, tail @ ..] if *last != b']' => {
                rest = tail;
                *last
            }
            _ => first,
        };
        ranges.push((first, last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, expected: bool) {
        let glob = Glob::new(pattern).expect(pattern);
        assert_eq!(glob.matches_path(path.as_bytes()), expected, "{pattern} on {path}");
    }

    #[test]
    fn patterns_match_like_a_shell() {
        check("python3*", "/usr/bin/python3.11", true);
        check("python3", "/usr/bin/python3.11", false);
        check("*", "/usr/bin/node", true);
        check("/usr/*/node", "/usr/local/bin/node", true);
        check("/usr/bin/n?de", "/usr/bin/node", true);
        check("n[a-p]de", "/usr/bin/node", true);
        check("n[!a-p]de", "/usr/bin/node", false);
        check("[]]x", "/]x", true);
        check("a\\*b", "/a*b", true);
        check("a\\*b", "/axb", false);
        check("*a*b*c", "/xaxbxc", true);
        check("*a*b*c", "/xaxbxcx", false);
        check("bin/node", "/usr/bin/node", false);
        check("*/bin/node", "/usr/bin/node", true);
        check("**", "", true);
        check("?", "", false);
    }

    #[test]
    fn a_hostile_pattern_takes_bounded_time() {
        check(&"*a".repeat(200), &"a".repeat(4000).replace("aa", "ab"), false);
        check(&"*a*b".repeat(500), &"ab".repeat(400), false);
    }

    #[test]
    fn broken_patterns_are_refused() {
        for bad in ["", "[a", "a\\", "[", "[!"] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }
}
