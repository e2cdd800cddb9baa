//! What the test knows to have happened: an [`Exchange`], noted by the client, becomes the [`Truth`] about one span.
//!
//! In: what the client sent, read and timed. Out: per span the attributes, times and parent that must be seen.
//! Deliberately not computed with the agent's own code.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Which end's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Server,
    Client,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A whole response.
    Whole(u16),
    /// A response whose end is missing: status, and an error.
    Cut(u16),
    /// None: an error and no status.
    None,
    /// A whole response to a request whose end is missing: whether that is an error is a matter of taste.
    Hasty(u16),
    /// The client left before; the server's answer may have reached the kernel, or not.
    Unread(u16),
}

/// A body's payload bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Must be there, unless 0.
    Exact(u64),
    /// May be left out, but not be wrong.
    ExactOrAbsent(u64),
    /// Not known to the test.
    Any,
}

/// The span's parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// A root.
    None,
    /// What a trace header named.
    Remote { trace_id: String, span_id: String, trace_state: Option<String>, flags: u64 },
    /// Another span of this test: its kind and the token in its path.
    Span(Kind, String),
    /// That span, or none: never another.
    SpanOrNone(Kind, String),
}

/// One request as its client knows it.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub method: String,
    /// As sent: origin form, absolute form, authority or `*`.
    pub target: String,
    pub version: &'static str,
    /// `Host` header.
    pub host: Option<String>,
    pub user_agent: Option<String>,
    pub answer: Answer,
    pub request_body: Size,
    pub response_body: Size,
    /// The client's end, if it knows it.
    pub local: Option<SocketAddr>,
    pub peer: SocketAddr,
    /// Interval of the client, unix time.
    pub start_ns: u64,
    pub end_ns: u64,
    /// The span cannot be shorter.
    pub min_ns: u64,
    /// From `X-Forwarded-For` and the like.
    pub forwarded_for: Option<String>,
    pub parent: Parent,
}

/// What one attribute must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    Str(String),
    Int(u64),
    Absent,
    Present,
    /// One of these.
    Either(Vec<Want>),
}

/// What must be true about one span.
#[derive(Clone, Debug)]
pub struct Truth {
    pub case: String,
    pub column: String,
    pub kind: Kind,
    /// The unique path; else the span is found by the peer's port.
    pub path: Option<String>,
    pub peer_port: Option<u16>,
    pub attributes: Vec<(&'static str, Want)>,
    /// Must be one of these; empty: not known to the test.
    pub pids: Vec<u32>,
    /// Resource attributes beyond those that every span must have.
    pub resource: Vec<(&'static str, String)>,
    pub status: &'static [&'static str],
    pub start_ns: u64,
    pub end_ns: u64,
    pub min_ns: u64,
    pub parent: Parent,
    /// May be missing without being wrong.
    pub optional: bool,
}

impl Truth {
    /// The token that makes this request unique, as far as there is one.
    pub fn token(&self) -> Option<&str> {
        self.path.as_deref().and_then(token_of)
    }
}

/// Tokens are path segments that begin with `~`.
pub fn token_of(path: &str) -> Option<&str> {
    path.split(['/', '?', '&', '=']).find(|segment| segment.starts_with('~'))
}

/// Now, as spans count it.
pub fn unix_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos())
        .unwrap_or(u64::MAX)
}

const KNOWN: &[&str] =
    &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"];

impl Exchange {
    /// An exchange with nothing special about it.
    pub fn new(method: &str, target: &str, peer: SocketAddr) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            version: "1.1",
            host: Some(peer.to_string()),
            user_agent: None,
            answer: Answer::None,
            request_body: Size::Exact(0),
            response_body: Size::Exact(0),
            local: None,
            peer,
            start_ns: unix_ns(),
            end_ns: 0,
            min_ns: 0,
            forwarded_for: None,
            parent: Parent::None,
        }
    }

    /// The span of the process that answered.
    pub fn server(&self, case: &str, column: &str, pids: &[u32]) -> Truth {
        let mut attributes = self.both();
        let (path, query) = self.path_and_query();
        attributes.push(("url.path", path.clone().map_or(Want::Absent, Want::Str)));
        attributes.push(("url.query", query.map_or(Want::Absent, |query| Want::Str(redacted(&query)))));
        attributes.push(("url.scheme", Want::Str("http".into())));
        attributes.push(("user_agent.original", self.user_agent.clone().map_or(Want::Absent, Want::Str)));
        if let Some(local) = self.local {
            let ip = local.ip().to_string();
            let client = self.forwarded_for.clone().unwrap_or_else(|| ip.clone());
            attributes.push(("client.address", Want::Str(client)));
            attributes.push(("network.peer.address", Want::Str(ip)));
            attributes.push(("network.peer.port", Want::Int(local.port().into())));
        }
        let peer_port = self.local.map(|local| local.port());
        self.truth(Kind::Server, path, peer_port, attributes, 500, case, column, pids)
    }

    /// The span of the process that asked.
    pub fn client(&self, case: &str, column: &str, pids: &[u32]) -> Truth {
        let mut attributes = self.both();
        let (path, query) = self.path_and_query();
        if let Some(path) = &path {
            let query = query.map_or(String::new(), |query| format!("?{}", redacted(&query)));
            let host = self.authority().unwrap_or_else(|| self.peer.to_string());
            attributes.push(("url.full", Want::Str(format!("http://{host}{path}{query}"))));
        }
        attributes.push(("network.peer.address", Want::Str(self.peer.ip().to_string())));
        attributes.push(("network.peer.port", Want::Int(self.peer.port().into())));
        self.truth(Kind::Client, path, None, attributes, 400, case, column, pids)
    }

    #[expect(clippy::too_many_arguments, reason = "private, called twice")]
    fn truth(
        &self,
        kind: Kind,
        path: Option<String>,
        peer_port: Option<u16>,
        mut attributes: Vec<(&'static str, Want)>,
        error_from: u16,
        case: &str,
        column: &str,
        pids: &[u32],
    ) -> Truth {
        let whole =
            |status: u16| if status >= error_from { Want::Str(status.to_string()) } else { Want::Absent };
        let (status_code, error_type) = match self.answer {
            Answer::Whole(status) => (Want::Int(status.into()), whole(status)),
            Answer::Cut(status) => (Want::Int(status.into()), Want::Present),
            Answer::None => (Want::Absent, Want::Present),
            Answer::Hasty(status) => {
                (Want::Int(status.into()), Want::Either(vec![Want::Present, Want::Absent]))
            }
            Answer::Unread(status) => (
                Want::Either(vec![Want::Int(status.into()), Want::Absent]),
                Want::Either(vec![Want::Present, Want::Absent]),
            ),
        };
        let status: &[&str] = match &error_type {
            Want::Absent => &["unset"],
            Want::Either(_) => &["unset", "error"],
            _ => &["error"],
        };
        attributes.push(("http.response.status_code", status_code));
        attributes.push(("error.type", error_type));
        Truth {
            case: case.to_owned(),
            column: column.to_owned(),
            kind,
            path: path.filter(|path| token_of(path).is_some()),
            peer_port,
            attributes,
            pids: pids.to_vec(),
            resource: Vec::new(),
            status,
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            min_ns: self.min_ns,
            parent: self.parent.clone(),
            optional: false,
        }
    }

    fn both(&self) -> Vec<(&'static str, Want)> {
        let mut attributes = Vec::new();
        if KNOWN.contains(&self.method.as_str()) {
            attributes.push(("http.request.method", Want::Str(self.method.clone())));
            attributes.push(("http.request.method_original", Want::Absent));
        } else {
            attributes.push(("http.request.method", Want::Str("_OTHER".into())));
            attributes.push(("http.request.method_original", Want::Str(self.method.clone())));
        }
        attributes.push(("network.protocol.version", Want::Str(self.version.into())));
        attributes.push(("http.request.body.size", size(self.request_body)));
        attributes.push(("http.response.body.size", size(self.response_body)));
        if let Some(authority) = self.authority() {
            let (host, port) = authority.rsplit_once(':').unwrap_or((&authority, "80"));
            attributes.push(("server.address", Want::Str(host.into())));
            attributes.push(("server.port", port.parse().map_or(Want::Present, Want::Int)));
        }
        attributes.retain(|(_, want)| *want != Want::Either(Vec::new()));
        attributes
    }

    fn authority(&self) -> Option<String> {
        if let Some(rest) = self.target.strip_prefix("http://") {
            return Some(rest.split('/').next().unwrap_or(rest).to_owned());
        }
        if self.method == "CONNECT" { Some(self.target.clone()) } else { self.host.clone() }
    }

    fn path_and_query(&self) -> (Option<String>, Option<String>) {
        let target = match self.target.strip_prefix("http://") {
            Some(rest) => &rest[rest.find('/').unwrap_or(rest.len())..],
            None => self.target.as_str(),
        };
        if self.method == "CONNECT" {
            return (None, None);
        }
        match target.split_once('?') {
            Some((path, query)) => (Some(path.to_owned()), Some(query.to_owned())),
            None => (Some(target.to_owned()), None),
        }
    }
}

fn size(size: Size) -> Want {
    match size {
        Size::Exact(0) => Want::Either(vec![Want::Int(0), Want::Absent]),
        Size::Exact(n) => Want::Int(n),
        Size::ExactOrAbsent(n) => Want::Either(vec![Want::Int(n), Want::Absent]),
        Size::Any => Want::Either(Vec::new()),
    }
}

/// Every value of a query is replaced by default.
fn redacted(query: &str) -> String {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, _)) => format!("{key}=REDACTED"),
        None => pair.to_owned(),
    };
    query.split('&').map(pair).collect::<Vec<_>>().join("&")
}
