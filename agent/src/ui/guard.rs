//! Who may read: the token, the names under which the page may be asked for, and what a browser may do with it.
//!
//! In: a request's head. Out: let through, or an answer that says why not. A page of another site cannot read this
//! one: it knows no token, its name is not accepted as `Host` (DNS rebinding), and its `Origin` is another one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Requests per second, of all readers together: a page asks for two or three.
const MAX_PER_SECOND: u64 = 200;

/// Headers of every answer: no script but our own, nothing from elsewhere, no frame, nothing remembered.
const HEADERS: [(HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
];

/// What is checked.
#[derive(Debug)]
pub struct Guard {
    token: String,
    /// Where the page listens.
    address: SocketAddr,
    cookie: String,
    began: Instant,
    /// Second since `began`, and requests in it.
    spent: AtomicU64,
}

impl Guard {
    /// For a page that listens there.
    pub fn new(token: String, address: SocketAddr) -> Self {
        // Cookies know no ports: two pages on one host must not overwrite each other's.
        let cookie = format!("skep_{}", address.port());
        Self { token, address, cookie, began: Instant::now(), spent: AtomicU64::new(0) }
    }

    /// The link that opens the page.
    pub fn link(&self) -> String {
        let host = match self.address.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            IpAddr::V6(ip) => format!("[{ip}]"),
            IpAddr::V4(ip) => ip.to_string(),
        };
        format!("http://{host}:{}/?token={}", self.address.port(), self.token)
    }

    fn check(&self, request: &Request) -> Result<(), (StatusCode, &'static str)> {
        let headers = request.headers();
        let host =
            single(headers, &header::HOST).ok_or((StatusCode::BAD_REQUEST, "one Host header is needed"))?;
        if !self.host_is_ours(host) {
            return Err((
                StatusCode::FORBIDDEN,
                "this name is not the page's: use the link that skep printed",
            ));
        }
        if headers.contains_key(header::ORIGIN) {
            let same = single(headers, &header::ORIGIN)
                .and_then(|origin| origin.strip_prefix("http://"))
                .is_some_and(|origin| origin.eq_ignore_ascii_case(host));
            if !same {
                return Err((StatusCode::FORBIDDEN, "another site may not ask"));
            }
        }
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let navigates = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
            && headers.get("sec-fetch-dest").is_some_and(|dest| dest == "document");
        if matches!(site, Some(b"cross-site" | b"same-site")) && !navigates {
            return Err((StatusCode::FORBIDDEN, "another site may not ask"));
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "there is nothing to change here"));
        }
        if !self.within_rate() {
            return Err((StatusCode::TOO_MANY_REQUESTS, "too many requests: wait a second"));
        }
        Ok(())
    }

    /// An IP address cannot be rebound, and `localhost` is this machine everywhere.
    fn host_is_ours(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (host, Some(80)),
        };
        if port != Some(self.address.port()) {
            return false;
        }
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let Ok(ip) = bare.parse::<IpAddr>() else {
            return name.eq_ignore_ascii_case("localhost")
                && (self.address.ip().is_loopback() || self.address.ip().is_unspecified());
        };
        ip == self.address.ip() || self.address.ip().is_unspecified()
    }

    fn within_rate(&self) -> bool {
        let second = self.began.elapsed().as_secs() & 0xffff_ffff;
        let update = |spent: u64| {
            let count = if spent >> 32 == second { spent & 0xffff_ffff } else { 0 };
            (count < MAX_PER_SECOND).then_some(second << 32 | (count + 1))
        };
        self.spent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).is_ok()
    }

    fn token_in(&self, headers: &HeaderMap) -> bool {
        let bearer = single(headers, &header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        if bearer.is_some_and(|token| same(token, &self.token)) {
            return true;
        }
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| name == self.cookie && same(value, &self.token))
    }
}

/// Lets a request through, or answers it.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.check(&request) {
        Err((status, why)) => refuse(status, why),
        Ok(()) => match token_in_query(request.uri().query()) {
            // The link: the token moves from the address bar, where it would be shared by accident, to a cookie.
            Some(token) if same(token, &guard.token) && !request.uri().path().starts_with("/api/") => {
                let rest: Vec<&str> = request
                    .uri()
                    .query()
                    .unwrap_or_default()
                    .split('&')
                    .filter(|pair| !pair.starts_with("token=") && !pair.is_empty())
                    .collect();
                let question = if rest.is_empty() { "" } else { "?" };
                // `//host/` would be another site.
                let path = format!("/{}", request.uri().path().trim_start_matches('/'));
                let to = format!("{path}{question}{}", rest.join("&"));
                let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", guard.cookie, guard.token);
                (StatusCode::SEE_OTHER, [(header::LOCATION, to), (header::SET_COOKIE, cookie)])
                    .into_response()
            }
            _ if guard.token_in(request.headers()) => next.run(request).await,
            _ => refuse(
                StatusCode::UNAUTHORIZED,
                "This page needs its token: open the link that `skep run --ui` printed.",
            ),
        },
    };
    harden(response.headers_mut());
    response
}

/// Sets the headers that every answer has.
pub fn harden(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn refuse(status: StatusCode, why: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from(format!("{why}\n")))
        .into_response()
}

fn token_in_query(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("token="))
}

/// The value of a header that occurs exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    if all.next().is_some() { None } else { first.to_str().ok() }
}

/// Takes as long whichever byte differs.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, host: &str) -> bool {
        Guard::new("t".into(), address.parse().unwrap()).host_is_ours(host)
    }

    #[test]
    fn only_names_that_cannot_be_rebound_are_ours() {
        for host in ["127.0.0.1:7171", "localhost:7171", "LOCALHOST:7171"] {
            assert!(check("127.0.0.1:7171", host), "{host}");
        }
        for host in [
            "evil.example:7171",
            "127.0.0.1",
            "127.0.0.1:80",
            "localhost",
            "127.0.0.1.nip.io:7171",
            "",
            ":7171",
            "[::1]:7171",
        ] {
            assert!(!check("127.0.0.1:7171", host), "{host}");
        }
        assert!(check("[::1]:7171", "[::1]:7171") && check("0.0.0.0:7171", "10.1.2.3:7171"));
        assert!(!check("0.0.0.0:7171", "rebound.example:7171"));
        assert!(!check("10.1.2.3:7171", "localhost:7171"));
    }

    #[test]
    fn a_second_has_room_for_so_many_requests() {
        let guard = Guard::new("t".into(), "127.0.0.1:1".parse().unwrap());
        let passed = (0..MAX_PER_SECOND * 3).filter(|_| guard.within_rate()).count() as u64;
        assert!((MAX_PER_SECOND..=2 * MAX_PER_SECOND).contains(&passed));
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same("abc", "abc"));
        assert!(!same("abc", "abx") && !same("abc", "ab") && !same("", "a"));
    }
}
