//! The HTTP part of a request: method, target, headers that a span needs, status and sizes.
//!
//! In: request-line parts and headers from the parsers, any HTTP version. Out: fields that are clean, bounded and
//! free of secrets: query values and user information are redacted on the way in, so that no copy of them exists.

use std::net::IpAddr;

use agent_common::conn::SockAddr;

use crate::address::{IpText, decimal, socket_ip};
use crate::redact::{self, QueryRedaction, UserInfo};
use crate::route::Router;
use crate::semconv;
use crate::text::Text;

/// An HTTP request and its response.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest {
    /// Method.
    pub method: Method,
    /// The method as it was sent, if it is not a known one.
    pub method_original: Text<32>,
    /// Form of the target.
    pub target: TargetForm,
    /// User information in an absolute target.
    pub user_info: UserInfo,
    /// Path of the target, as it was sent.
    pub path: Text<4096>,
    /// Whether the target has a query, be it empty.
    pub has_query: bool,
    /// Query of the target without `?`, redacted.
    pub query: Text<4096>,
    /// Scheme of the connection, or of an absolute target.
    pub scheme: Scheme,
    /// Host and port that the request was sent to: absolute target or `:authority`, else `Host`.
    pub authority: Authority,
    /// Protocol version.
    pub version: Version,
    /// Status of the final response, if there was one.
    pub status_code: Option<u16>,
    /// Payload bytes of the request, without framing; exact or absent.
    pub request_body_size: Option<u64>,
    /// Payload bytes of the response, without framing; exact or absent.
    pub response_body_size: Option<u64>,
    /// `User-Agent`
    pub user_agent: Text<512>,
    /// What proxies say of the request that they were sent.
    pub forwarded: Forwarded,
    /// Low-cardinality template of the path, on servers.
    pub route: Text<256>,
    /// Absolute URL, redacted, on clients.
    pub url_full: Text<8192>,
    /// Headers that were sent before the connection was seen are missing (HTTP/2).
    pub headers_incomplete: bool,
}

/// What proxies say of the request that they were sent: `Forwarded`, else the `X-Forwarded-…` headers.
#[derive(Clone, Debug, Default)]
pub struct Forwarded {
    /// Address of the client; only if it is an IP address.
    pub client: Option<IpAddr>,
    /// Host that the client asked for.
    pub authority: Authority,
    /// Scheme that the client used.
    pub scheme: Option<Scheme>,
    standard: bool,
}

/// A host and the port beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// Name or address, without brackets.
    pub host: Text<255>,
    /// Port, if it was written.
    pub port: Option<u16>,
}

/// Form of a request target (RFC 9112, 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `host:port`, of CONNECT.
    Authority,
    /// `*`
    Asterisk,
}

/// Request method: those that the semantic conventions call known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// `CONNECT`
    Connect,
    /// `DELETE`
    Delete,
    /// `GET`
    #[default]
    Get,
    /// `HEAD`
    Head,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `QUERY`
    Query,
    /// `TRACE`
    Trace,
    /// Any other.
    Other,
}

/// URL scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    #[default]
    Http,
    /// `https`
    Https,
}

/// HTTP version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
    /// HTTP/3
    Http3,
}

impl HttpRequest {
    /// Forgets everything but the allocations.
    pub fn clear(&mut self) {
        // Destructured, so that a new field cannot be forgotten here.
        let Self {
            method,
            method_original,
            target,
            user_info,
            path,
            has_query,
            query,
            scheme,
            authority,
            version,
            status_code,
            request_body_size,
            response_body_size,
            user_agent,
            forwarded,
            route,
            url_full,
            headers_incomplete,
        } = self;
        *method = Method::default();
        method_original.clear();
        *target = TargetForm::default();
        *user_info = UserInfo::default();
        path.clear();
        *has_query = false;
        query.clear();
        *scheme = Scheme::default();
        authority.clear();
        *version = Version::default();
        (*status_code, *request_body_size, *response_body_size) = (None, None, None);
        user_agent.clear();
        let Forwarded { client, authority, scheme, standard } = forwarded;
        authority.clear();
        (*client, *scheme, *standard) = (None, None, false);
        route.clear();
        url_full.clear();
        *headers_incomplete = false;
    }

    /// Sets the method; case-sensitive, as RFC 9110 has it.
    pub fn set_method(&mut self, method: &[u8]) {
        self.method = Method::from_bytes(method);
        if self.method == Method::Other {
            self.method_original.set(method);
        } else {
            self.method_original.clear();
        }
    }

    /// The method as it was sent.
    pub fn method_str(&self) -> &str {
        if self.method == Method::Other { self.method_original.as_str() } else { self.method.as_str() }
    }

    /// Sets what the request line says between method and version. Set the method first.
    pub fn set_target(&mut self, target: &[u8], redaction: QueryRedaction) {
        let origin = match target.first() {
            Some(b'/') => target,
            _ if self.method == Method::Connect => {
                self.target = TargetForm::Authority;
                self.set_authority(target);
                return;
            }
            Some(b'*') if target.len() == 1 => {
                self.target = TargetForm::Asterisk;
                target
            }
            _ => self.set_absolute(target),
        };
        // A fragment has no business here; if one comes, it may hold a token.
        let end = memchr::memchr(b'#', origin).unwrap_or(origin.len());
        let origin = &origin[..end];
        match memchr::memchr(b'?', origin) {
            None => self.path.set(origin),
            Some(mark) => {
                self.path.set(&origin[..mark]);
                self.has_query = true;
                self.query.clear();
                redact::query(&origin[mark + 1..], redaction, &mut self.query);
            }
        }
        if self.path.is_empty() {
            self.path.push(b"/");
        }
    }

    /// Takes scheme and authority off an absolute target; returns the rest.
    fn set_absolute<'a>(&mut self, target: &'a [u8]) -> &'a [u8] {
        let (scheme, rest) = match memchr::memmem::find(target, b"://") {
            Some(colon) if target[..colon].eq_ignore_ascii_case(b"http") => {
                (Scheme::Http, &target[colon + 3..])
            }
            Some(colon) if target[..colon].eq_ignore_ascii_case(b"https") => {
                (Scheme::Https, &target[colon + 3..])
            }
            _ => return target,
        };
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        self.target = TargetForm::Absolute;
        self.scheme = scheme;
        self.set_authority(&rest[..end]);
        &rest[end..]
    }

    /// Sets the authority from the target or from `:authority`; `Host` does not change it then.
    pub fn set_authority(&mut self, authority: &[u8]) {
        let (user_info, host) = redact::user_info(authority);
        self.user_info = user_info;
        self.authority.set(host);
    }

    /// Takes note of one request header.
    #[inline]
    pub fn observe_header(&mut self, name: &[u8], value: &[u8]) {
        // First byte and length tell nearly all other headers apart without a comparison.
        match (name.first(), name.len()) {
            (Some(b'h' | b'H'), 4) | (Some(b'u' | b'U'), 10) => {}
            (Some(b'f' | b'F'), 9) | (Some(b'x' | b'X'), 15..=17) => {}
            _ => return,
        }
        self.observe_named(name, value.trim_ascii());
    }

    /// Names the route. CONNECT and `OPTIONS *` have none.
    pub(crate) fn find_route(&mut self, server: (u32, u64), router: &mut Router) {
        if !self.path.as_str().starts_with('/') {
            return;
        }
        let method =
            if self.method == Method::Other { self.method_original.as_str() } else { self.method.as_str() };
        router.route(server, method, self.path.as_str(), self.status_code, &mut self.route);
    }

    /// Puts the URL together again from what was asked for, else from where it was asked.
    pub(crate) fn build_url_full(&mut self, peer: &SockAddr) {
        let url = &mut self.url_full;
        url.clear();
        if self.headers_incomplete && self.path.is_empty() {
            return;
        }
        let mut address = IpText::default();
        let (host, port) = match self.authority.host.get() {
            Some(host) => (host, self.authority.port),
            None => match socket_ip(peer) {
                Some(ip) => {
                    (address.set(ip), Some(peer.port).filter(|&port| port != self.scheme.default_port()))
                }
                None => return,
            },
        };
        if self.target != TargetForm::Authority {
            url.push_clean(self.scheme.as_str());
            url.push_clean(":");
        }
        url.push_clean("//");
        url.push_clean(self.user_info.redacted());
        if host.contains(':') {
            url.push_clean("[");
            url.push_clean(host);
            url.push_clean("]");
        } else {
            url.push_clean(host);
        }
        if let Some(port) = port {
            url.push_clean(":");
            url.push_clean(decimal(port, &mut [0; 5]));
        }
        if self.target != TargetForm::Asterisk {
            url.push_clean(self.path.as_str());
        }
        if self.has_query {
            url.push_clean("?");
            url.push_clean(self.query.as_str());
        }
    }

    fn observe_named(&mut self, name: &[u8], value: &[u8]) {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        let forwarded = &mut self.forwarded;
        if is(b"host") {
            if self.authority.host.is_empty() {
                self.authority.set(redact::user_info(value).1);
            }
        } else if is(b"user-agent") {
            self.user_agent.set(value);
        } else if is(b"forwarded") {
            forwarded.observe_standard(value);
        } else if forwarded.standard {
            // The standard header wins over the older ones.
        } else if is(b"x-forwarded-for") {
            forwarded.client = forwarded.client.or_else(|| ip_address(first_item(value)));
        } else if is(b"x-forwarded-host") {
            if forwarded.authority.host.is_empty() {
                forwarded.authority.set(first_item(value));
            }
        } else if is(b"x-forwarded-proto") {
            forwarded.scheme = forwarded.scheme.or_else(|| Scheme::from_bytes(first_item(value)));
        }
    }
}

impl Forwarded {
    /// Reads the first element of `Forwarded` (RFC 7239): what the first proxy saw.
    fn observe_standard(&mut self, value: &[u8]) {
        if self.standard {
            return; // the first header line holds the first proxy
        }
        self.standard = true;
        (self.client, self.scheme) = (None, None);
        self.authority.clear();
        for pair in first_item(value).split(|&byte| byte == b';') {
            let Some(equals) = memchr::memchr(b'=', pair) else { continue };
            let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
            let value =
                value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
            if name.eq_ignore_ascii_case(b"for") {
                self.client = ip_address(value);
            } else if name.eq_ignore_ascii_case(b"host") {
                self.authority.set(value);
            } else if name.eq_ignore_ascii_case(b"proto") {
                self.scheme = Scheme::from_bytes(value);
            }
        }
    }
}

impl Authority {
    /// Sets host and port from `host`, `host:port`, `[v6]` or `[v6]:port`. A port that is none is left out.
    pub fn set(&mut self, authority: &[u8]) {
        let (host, port) = split_port(authority);
        self.host.set(host);
        self.port = port.and_then(parse_port);
    }

    /// Forgets both.
    pub fn clear(&mut self) {
        self.host.clear();
        self.port = None;
    }
}

/// The first item of a comma-separated list.
fn first_item(list: &[u8]) -> &[u8] {
    list[..memchr::memchr(b',', list).unwrap_or(list.len())].trim_ascii()
}

/// Splits an authority; brackets around an IPv6 address go.
fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    if let Some(rest) = authority.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', rest) else {
            return (rest, None);
        };
        return (&rest[..end], rest[end + 1..].strip_prefix(b":"));
    }
    match memchr::memchr(b':', authority) {
        // More than one colon without brackets: a bare IPv6 address.
        Some(at) if !authority[at + 1..].contains(&b':') => (&authority[..at], Some(&authority[at + 1..])),
        _ => (authority, None),
    }
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if !(1..=5).contains(&digits.len()) {
        return None;
    }
    let number = digits
        .iter()
        .try_fold(0u32, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')))?;
    u16::try_from(number).ok().filter(|&port| port != 0)
}

/// An IP address with or without brackets and port; IPv4-mapped ones become IPv4.
fn ip_address(text: &[u8]) -> Option<IpAddr> {
    let host = std::str::from_utf8(split_port(text).0).ok()?;
    if host.len() > 45 {
        return None;
    }
    // A zone (`fe80::1%eth0`) means nothing elsewhere.
    let address = host.split('%').next().unwrap_or(host).parse::<IpAddr>().ok()?;
    Some(address.to_canonical())
}

impl Method {
    /// The method of that name, or [`Method::Other`].
    #[inline]
    pub fn from_bytes(method: &[u8]) -> Self {
        match method {
            b"GET" => Self::Get,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"HEAD" => Self::Head,
            b"DELETE" => Self::Delete,
            b"PATCH" => Self::Patch,
            b"OPTIONS" => Self::Options,
            b"CONNECT" => Self::Connect,
            b"TRACE" => Self::Trace,
            b"QUERY" => Self::Query,
            _ => Self::Other,
        }
    }

    /// The value of `http.request.method`.
    #[inline]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Head => "HEAD",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
            Self::Options => "OPTIONS",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
            Self::Query => "QUERY",
            Self::Other => semconv::OTHER,
        }
    }
}

impl Scheme {
    /// The scheme of that name.
    pub fn from_bytes(scheme: &[u8]) -> Option<Self> {
        if scheme.eq_ignore_ascii_case(b"http") {
            Some(Self::Http)
        } else if scheme.eq_ignore_ascii_case(b"https") {
            Some(Self::Https)
        } else {
            None
        }
    }

    /// The value of `url.scheme`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a URL without port means.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Version {
    /// The value of `network.protocol.version`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
            Self::Http3 => "3",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    /// Method, target → `form scheme|host|port|path|query`.
    fn check_target(method: &str, target: &str, expected: &str) {
        let mut http = HttpRequest::default();
        http.set_method(method.as_bytes());
        http.set_target(target.as_bytes(), QueryRedaction::All);
        let port = http.authority.port.map_or(String::new(), |port| port.to_string());
        let query = if http.has_query { format!("?{}", http.query) } else { String::new() };
        let actual = format!(
            "{:?} {}|{}|{}|{}|{}",
            http.target,
            http.scheme.as_str(),
            http.authority.host,
            port,
            http.path,
            query
        );
        assert_eq!(actual, expected, "{method} {target}");
    }

    #[test]
    fn every_form_of_target_is_taken_apart() {
        check_target("GET", "/", "Origin http|||/|");
        check_target("GET", "/a/b?x=1&y", "Origin http|||/a/b|?x=REDACTED&y");
        check_target("GET", "/a?", "Origin http|||/a|?");
        check_target("GET", "/a?b?c=1#d=2", "Origin http|||/a|?b?c=REDACTED");
        check_target("GET", "/a#token=x", "Origin http|||/a|");
        check_target("GET", "//evil/a", "Origin http|||//evil/a|");
        check_target("GET", "http://h", "Absolute http|h||/|");
        check_target("GET", "HTTPS://h:8443?a=1", "Absolute https|h|8443|/|?a=REDACTED");
        check_target("GET", "http://u:p@[::1]:80/x", "Absolute http|::1|80|/x|");
        check_target("OPTIONS", "*", "Asterisk http|||*|");
        check_target("CONNECT", "db.example:5432", "Authority http|db.example|5432||");
        check_target("GET", "ftp://h/x", "Origin http|||ftp://h/x|");
        check_target("GET", "", "Origin http|||/|");
    }

    #[test]
    fn a_password_is_not_kept() {
        let mut http = HttpRequest::default();
        http.set_target(b"http://me:secret@h/", QueryRedaction::All);
        assert_eq!(http.user_info, UserInfo::UserPassword);
        assert!(!format!("{http:?}").contains("secret"));
        http.clear();
        http.observe_header(b"Host", b"me:secret@h:81");
        assert_eq!((http.authority.host.as_str(), http.authority.port), ("h", Some(81)));
    }

    #[test]
    fn unknown_methods_keep_their_name() {
        let mut http = HttpRequest::default();
        for (sent, method, original) in [("GET", "GET", ""), ("get", "_OTHER", "get"), ("QUERY", "QUERY", "")]
        {
            http.set_method(sent.as_bytes());
            assert_eq!((http.method.as_str(), http.method_original.as_str()), (method, original));
            assert_eq!(http.method_str(), sent);
        }
    }

    fn check_authority(text: &str, host: &str, port: Option<u16>) {
        let mut authority = Authority::default();
        authority.set(text.as_bytes());
        assert_eq!((authority.host.as_str(), authority.port), (host, port), "{text}");
    }

    #[test]
    fn authorities_are_split() {
        check_authority("h", "h", None);
        check_authority("h:80", "h", Some(80));
        check_authority("h:", "h", None);
        check_authority("h:0", "h", None);
        check_authority("h:65536", "h", None);
        check_authority("h:8x", "h", None);
        check_authority("[2001:db8::1]:8080", "2001:db8::1", Some(8080));
        check_authority("[::1]", "::1", None);
        check_authority("[::1", "::1", None);
        check_authority("::1", "::1", None);
        check_authority("", "", None);
    }

    /// Target, Host → `url.full` on a connection to [2001:db8::9]:8080.
    fn check_url(target: &str, host: &str, expected: &str) {
        let mut addr = [0; 16];
        (addr[0], addr[1], addr[2], addr[3], addr[15]) = (0x20, 0x01, 0x0d, 0xb8, 9);
        let peer = SockAddr { addr, port: 8080, family: 10, reserved: 0 };
        let mut http = HttpRequest::default();
        http.set_method(if target.contains('/') || target == "*" { b"GET" } else { b"CONNECT" });
        http.set_target(target.as_bytes(), QueryRedaction::All);
        http.observe_header(b"host", host.as_bytes());
        http.build_url_full(&peer);
        assert_eq!(http.url_full.as_str(), expected, "{target} {host}");
    }

    #[test]
    fn the_url_is_put_together() {
        check_url("/a?b=c", "h:81", "http://h:81/a?b=REDACTED");
        check_url("/a", "h", "http://h/a");
        check_url("/a", "[::1]:81", "http://[::1]:81/a");
        check_url("/a", "", "http://[2001:db8::9]:8080/a");
        check_url("https://u:p@h/a?", "proxy", "https://REDACTED:REDACTED@h/a?");
        check_url("http://token@h", "proxy", "http://REDACTED@h/");
        check_url("*", "h", "http://h");
        check_url("db:5432", "db:5432", "//db:5432");
    }

    /// Headers → `client host port scheme`.
    fn check_forwarded(headers: &[(&str, &str)], expected: &str) {
        let mut http = HttpRequest::default();
        for (name, value) in headers {
            http.observe_header(name.as_bytes(), value.as_bytes());
        }
        let Forwarded { client, authority, scheme, .. } = &http.forwarded;
        let client = client.map_or("-".to_owned(), |client| client.to_string());
        let host = authority.host.get().unwrap_or("-");
        let port = authority.port.map_or("-".to_owned(), |port| port.to_string());
        let scheme = scheme.map_or("-", Scheme::as_str);
        assert_eq!(format!("{client} {host} {port} {scheme}"), expected, "{headers:?}");
    }

    #[test]
    fn proxies_are_believed_in_order() {
        check_forwarded(&[], "- - - -");
        check_forwarded(&[("X-Forwarded-For", "10.0.0.1, 10.0.0.2")], "10.0.0.1 - - -");
        check_forwarded(
            &[("X-Forwarded-For", "10.0.0.1"), ("X-Forwarded-For", "10.0.0.2")],
            "10.0.0.1 - - -",
        );
        check_forwarded(&[("x-forwarded-for", "::ffff:10.0.0.1")], "10.0.0.1 - - -");
        check_forwarded(&[("x-forwarded-for", "[2001:db8::1]:99")], "2001:db8::1 - - -");
        check_forwarded(&[("x-forwarded-for", "10.0.0.1:99")], "10.0.0.1 - - -");
        check_forwarded(&[("x-forwarded-for", "<script>")], "- - - -");
        check_forwarded(
            &[("x-forwarded-host", "a.example:444"), ("x-forwarded-proto", "https")],
            "- a.example 444 https",
        );
        check_forwarded(
            &[("Forwarded", "For=\"[2001:db8::1]:4711\";proto=HTTPS;host=\"a.example:8443\", for=10.0.0.9")],
            "2001:db8::1 a.example 8443 https",
        );
        check_forwarded(&[("forwarded", "for=_hidden;by=x"), ("x-forwarded-for", "10.0.0.1")], "- - - -");
        check_forwarded(&[("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.2")], "10.0.0.2 - - -");
        check_forwarded(&[("forwarded", "for=unknown")], "- - - -");
    }

    #[test]
    fn the_target_wins_over_host() {
        let mut http = HttpRequest::default();
        http.set_target(b"http://a.example/", QueryRedaction::All);
        http.observe_header(b"Host", b"b.example");
        assert_eq!(http.authority.host.as_str(), "a.example");
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(name: Vec<u8>, value: Vec<u8>, header in 0usize..7) {
            let names: [&[u8]; 7] = [b"host", b"user-agent", b"forwarded", b"x-forwarded-for",
                b"x-forwarded-host", b"x-forwarded-proto", &name];
            let mut http = HttpRequest::default();
            http.set_method(&value);
            http.set_target(&value, QueryRedaction::All);
            http.observe_header(names[header], &value);
            prop_assert!(!http.path.as_str().chars().any(char::is_control));
            http.clear();
            prop_assert!(http.path.is_empty());
        }

        #[test]
        fn origin_targets_round_trip(path in "/[a-z0-9/._~-]{0,60}") {
            let mut http = HttpRequest::default();
            http.set_target(path.as_bytes(), QueryRedaction::All);
            prop_assert_eq!(http.path.as_str(), path);
        }
    }
}
