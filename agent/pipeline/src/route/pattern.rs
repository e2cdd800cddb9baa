//! A route pattern of the user: `[METHOD ]/users/{id}`, `/users/:id`, `/static/*`.
//!
//! In: its text, checked once. Out: whether a request fits. `{name}` and `:name` take one segment that is not
//! empty, so does `*` in the middle; `*` at the end takes all that follows, nothing included. Empty segments
//! (`//`, a slash at the end) count neither in pattern nor in path. Paths are compared as they were sent.

use std::str::FromStr;

use super::ROUTE_MAX;

/// A route pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    method: Option<Box<str>>,
    route: Box<str>,
    segments: Box<[Segment]>,
    /// Whether `*` at the end takes what follows the segments.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Any,
}

/// Why a text is no route pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The path does not begin with a slash.
    #[error("route pattern `{0}`: the path must begin with `/`")]
    NoSlash(String),
    /// The method is no token.
    #[error("route pattern `{0}`: the method must be letters, as in `GET /users/{{id}}`")]
    Method(String),
    /// A segment mixes text and placeholder.
    #[error("route pattern `{0}`: a segment is either text, `{{name}}`, `:name` or `*`")]
    Segment(String),
    /// Too long.
    #[error("route pattern `{0}`: longer than 256 bytes")]
    TooLong(String),
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let trimmed = text.trim();
        let (method, route) = match trimmed.split_once(char::is_whitespace) {
            Some((method, route)) => (Some(method), route.trim_start()),
            None => (None, trimmed),
        };
        if method.is_some_and(|method| !method.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-'))
        {
            return Err(PatternError::Method(text.to_owned()));
        }
        if !route.starts_with('/') {
            return Err(PatternError::NoSlash(text.to_owned()));
        }
        if route.len() > ROUTE_MAX {
            return Err(PatternError::TooLong(text.to_owned()));
        }
        let mut segments = segments(route)
            .map(Segment::parse)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| PatternError::Segment(text.to_owned()))?;
        let open = route.ends_with("/*");
        if open {
            segments.pop();
        }
        Ok(Self { method: method.map(Into::into), route: route.into(), segments: segments.into(), open })
    }
}

impl Pattern {
    /// The path part of the pattern, as it was written: the value of `http.route`.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Whether a request fits.
    pub fn fits(&self, method: &str, path: &str) -> bool {
        if self.method.as_deref().is_some_and(|wanted| wanted != method) {
            return false;
        }
        let mut given = segments(path);
        for wanted in &self.segments {
            match (wanted, given.next()) {
                (_, None) => return false,
                (Segment::Literal(text), Some(segment)) if **text != *segment => return false,
                _ => {}
            }
        }
        self.open || given.next().is_none()
    }
}

impl Segment {
    fn parse(text: &str) -> Option<Self> {
        let name = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).or(text.strip_prefix(':'));
        match name {
            Some(name) => (!name.is_empty() && !name.contains(['{', '}'])).then_some(Self::Any),
            None if text == "*" => Some(Self::Any),
            None => (!text.contains(['{', '}', '*'])).then(|| Self::Literal(text.into())),
        }
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, request: &str, expected: bool) {
        let (method, path) = request.split_once(' ').unwrap();
        assert_eq!(pattern.parse::<Pattern>().unwrap().fits(method, path), expected, "{pattern} {request}");
    }

    #[test]
    fn requests_fit_or_do_not() {
        check("/users/{id}", "GET /users/7", true);
        check("/users/{id}", "GET /users/7/", true);
        check("/users/{id}", "GET /users", false);
        check("/users/{id}", "GET /users/7/x", false);
        check("/users/:id/posts", "GET /users/7/posts", true);
        check("GET /a", "GET /a", true);
        check("GET /a", "POST /a", false);
        check("get /a", "GET /a", false);
        check("/static/*", "GET /static/a/b.js", true);
        check("/static/*", "GET /static/", true);
        check("/static/*", "GET /statics", false);
        check("/a/*/c", "GET /a/b/c", true);
        check("/a/*/c", "GET /a/b/d", false);
        check("/", "GET /", true);
        check("/", "GET /a", false);
        check("/*", "GET /a/b", true);
    }

    #[test]
    fn bad_patterns_are_refused_with_their_text() {
        for (text, part) in [
            ("users", "begin with"),
            ("", "begin with"),
            ("GET users", "begin with"),
            ("G/T /users", "method"),
            ("/a/{}", "segment"),
            ("/a/{id", "segment"),
            ("/a/x{id}", "segment"),
            ("/a/*.js", "segment"),
            ("/a/:", "segment"),
        ] {
            let message = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(message.contains(part) && message.contains(&format!("`{text}`")), "{text}: {message}");
        }
        assert!(format!("/{}", "a".repeat(300)).parse::<Pattern>().is_err());
    }
}
