//! Spans against what was expected, one to one.
//!
//! In: what the case knows to have happened and what the agent printed. Out: a sentence about each span that is
//! missing, one too many or wrong. Every attribute counts: one that was not expected is a fault too, but for those
//! of the socket, which [`compare`] checks against the other end where both ends are seen.

use std::collections::HashMap;

use serde_json::{Value, json};

/// Attributes that follow from the socket, not from what was asked.
const SOCKET: &[&str] = &[
    "server.address",
    "server.port",
    "client.address",
    "network.peer.address",
    "network.peer.port",
    "network.transport",
    "network.protocol.version",
    "skep.parent.rule",
];

/// What an attribute must be.
#[derive(Clone, Debug)]
pub enum Want {
    Is(Value),
    /// This, or nothing.
    IsOrAbsent(Value),
    Any,
}

/// The span's parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// It is none of the case's business.
    Any,
    /// A root.
    None,
    /// The client span of the same operation: same name, the other end of the connection.
    ClientEnd,
    /// A server span of the same process, with this name.
    Server(&'static str),
}

/// One span.
#[derive(Clone, Debug)]
pub struct Expect {
    kind: &'static str,
    name: String,
    attributes: Vec<(&'static str, Want)>,
    error: bool,
    parent: Parent,
    pid: Option<u32>,
    /// Unix time between which it lies.
    within_ns: Option<(u64, u64)>,
}

impl Expect {
    /// A span of the end that asks.
    pub fn client(name: &str) -> Self {
        Self {
            kind: "client",
            name: name.to_owned(),
            attributes: Vec::new(),
            error: false,
            parent: Parent::Any,
            pid: None,
            within_ns: None,
        }
    }

    /// A span of the end that answers.
    pub fn server(name: &str) -> Self {
        Self { kind: "server", ..Self::client(name) }
    }

    /// An attribute, with its value.
    pub fn with(mut self, attribute: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.retain(|(name, _)| *name != attribute);
        self.attributes.push((attribute, Want::Is(value.into())));
        self
    }

    /// An attribute that may be left out, but not be wrong.
    pub fn may_have(mut self, attribute: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((attribute, Want::IsOrAbsent(value.into())));
        self
    }

    /// An attribute that must be there.
    pub fn with_any(mut self, attribute: &'static str) -> Self {
        self.attributes.retain(|(name, _)| *name != attribute);
        self.attributes.push((attribute, Want::Any));
        self
    }

    /// An attribute that must not be there after all.
    pub fn without(mut self, attribute: &'static str) -> Self {
        self.attributes.retain(|(name, _)| *name != attribute);
        self
    }

    /// The same span with another name.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// It failed; `error.type` says how.
    pub fn failed(mut self, error_type: &str) -> Self {
        self.error = true;
        self.with("error.type", error_type)
    }

    pub fn parent(mut self, parent: Parent) -> Self {
        self.parent = parent;
        self
    }

    pub fn pid(mut self, pid: u32) -> Self {
        self.pid = Some(pid);
        self
    }

    /// It began and ended between these moments, unix time.
    pub fn within_ns(mut self, start: u64, end: u64) -> Self {
        self.within_ns = Some((start, end));
        self
    }

    /// The same operation, seen by the end that answers, whose parent is this span.
    pub fn other_end(&self) -> Self {
        Self { kind: "server", parent: Parent::ClientEnd, pid: None, within_ns: None, ..self.clone() }
    }

    /// What is wrong with a span, parents aside.
    fn faults(&self, span: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        let attributes = &span["attributes"];
        let mut check = |what: &str, is: &Value, want: &Value| {
            if is != want {
                faults.push(format!("{what} is {is}, not {want}"));
            }
        };
        check("kind", &span["kind"], &json!(self.kind));
        check("name", &span["name"], &json!(self.name));
        check("status", &span["status"], &json!(if self.error { "error" } else { "unset" }));
        if let Some(pid) = self.pid {
            check("process.pid", &span["resource"]["process.pid"], &json!(pid));
        }
        for (name, want) in &self.attributes {
            match want {
                Want::Is(value) => check(name, &attributes[*name], value),
                Want::IsOrAbsent(_) if attributes[*name].is_null() => {}
                Want::IsOrAbsent(value) => check(name, &attributes[*name], value),
                Want::Any if attributes[*name].is_null() => check(name, &Value::Null, &json!("something")),
                Want::Any => {}
            }
        }
        for (name, value) in attributes.as_object().into_iter().flatten() {
            let expected = self.attributes.iter().any(|(expected, _)| expected == name);
            if !expected && !SOCKET.contains(&name.as_str()) {
                faults.push(format!("{name} is {value}, not absent"));
            }
        }
        let (start, end) = (span["start_unix_ns"].as_u64(), span["end_unix_ns"].as_u64());
        match (self.within_ns, start, end) {
            (_, Some(start), Some(end)) if start > end => faults.push("it ends before it begins".to_owned()),
            (Some((from, to)), Some(start), Some(end)) if start < from || end > to => {
                faults.push(format!("{start}..{end} does not lie within {from}..{to}"));
            }
            (_, Some(_), Some(_)) => {}
            _ => faults.push("it has no times".to_owned()),
        }
        faults
    }

    fn parent_faults(&self, span: &Value, by_id: &HashMap<&str, &Value>) -> Option<String> {
        let parent_id = span["parent_span_id"].as_str();
        let parent =
            parent_id.and_then(|id| by_id.get(id)).filter(|parent| parent["trace_id"] == span["trace_id"]);
        let fits = match self.parent {
            Parent::Any => true,
            Parent::None => parent_id.is_none(),
            Parent::ClientEnd => parent.is_some_and(|parent| {
                let (own, other) = (&span["attributes"], &parent["attributes"]);
                parent["kind"] == "client"
                    && parent["name"] == span["name"]
                    && own["server.port"] == other["server.port"]
                    && own["db.query.text"] == other["db.query.text"]
            }),
            Parent::Server(name) => parent.is_some_and(|parent| {
                parent["kind"] == "server"
                    && parent["name"] == name
                    && parent["resource"]["process.pid"] == span["resource"]["process.pid"]
            }),
        };
        (!fits).then(|| match parent {
            Some(parent) => {
                format!("its parent is {} {}, not {:?}", parent["kind"], parent["name"], self.parent)
            }
            None => format!("its parent is {parent_id:?}, not {:?}", self.parent),
        })
    }
}

/// Compares all spans of a session.
pub fn compare(expected: &[Expect], spans: &[Value]) -> Vec<String> {
    let mut faults = Vec::new();
    let by_id: HashMap<&str, &Value> =
        spans.iter().filter_map(|span| Some((span["span_id"].as_str()?, span))).collect();
    // Only spans of the same kind and name can fit: there are thousands of them.
    let mut by_name: HashMap<(&str, &str), Vec<&Value>> = HashMap::new();
    for span in spans.iter().rev() {
        let key = (span["kind"].as_str().unwrap_or(""), span["name"].as_str().unwrap_or(""));
        by_name.entry(key).or_default().push(span);
    }
    let mut unmet = Vec::new();
    for expect in expected {
        let fits =
            |span: &&Value| expect.faults(span).is_empty() && expect.parent_faults(span, &by_id).is_none();
        let same = by_name.entry((expect.kind, &expect.name)).or_default();
        match same.iter().rposition(fits) {
            Some(index) => drop(same.remove(index)),
            None => unmet.push(expect),
        }
    }
    let mut free: Vec<&Value> = by_name.into_values().flatten().collect();
    for expect in unmet {
        let closest = free
            .iter()
            .enumerate()
            .filter(|(_, span)| span["kind"] == expect.kind)
            .map(|(index, span)| (expect.faults(span).len(), index))
            .min()
            .filter(|&(faults, _)| faults <= 1 + expect.attributes.len() / 2);
        match closest {
            Some((_, index)) => {
                let span = free.remove(index);
                let mut what = expect.faults(span);
                what.extend(expect.parent_faults(span, &by_id));
                faults.push(format!("wrong: {} {}: {}", expect.kind, expect.name, what.join("; ")));
            }
            None => faults.push(format!("missing: {} {} {:?}", expect.kind, expect.name, expect.attributes)),
        }
    }
    faults.extend(free.into_iter().map(|span| format!("extra: {span}")));
    faults
}

/// The comparison itself: a perfect span passes, and each kind of fault is found.
pub fn check_itself() {
    let span = json!({
        "trace_id": "t", "span_id": "s", "kind": "client", "name": "SELECT t", "status": "error",
        "start_unix_ns": 5, "end_unix_ns": 6, "resource": {"process.pid": 1},
        "attributes": {"db.query.text": "SELECT ?", "error.type": "42P01", "server.port": 1},
    });
    let mut served = span.clone();
    (served["kind"], served["span_id"], served["parent_span_id"]) = (json!("server"), json!("u"), json!("s"));
    let expect = Expect::client("SELECT t")
        .with("db.query.text", "SELECT ?")
        .failed("42P01")
        .pid(1)
        .parent(Parent::None)
        .within_ns(5, 6);
    let both = [expect.clone(), expect.other_end()];
    let spans = [span.clone(), served.clone()];
    assert!(compare(&both, &spans).is_empty(), "{:?}", compare(&both, &spans));
    assert_eq!(compare(&both, &spans[..1]).len(), 1, "a missing span");
    assert_eq!(compare(&both[..1], &spans).len(), 1, "a span too many");
    type Fault = (&'static str, fn(&mut Value));
    let changes: [Fault; 8] = [
        ("name", |span| span["name"] = json!("SELECT u")),
        ("status", |span| span["status"] = json!("unset")),
        ("attribute", |span| span["attributes"]["db.query.text"] = json!("SELECT 1")),
        ("absent attribute", |span| span["attributes"]["db.namespace"] = json!("x")),
        ("time", |span| span["end_unix_ns"] = json!(7)),
        ("order", |span| span["end_unix_ns"] = json!(4)),
        ("process", |span| span["resource"]["process.pid"] = json!(2)),
        ("parent", |span| span["parent_span_id"] = json!("x")),
    ];
    for (what, change) in changes {
        let mut changed = span.clone();
        change(&mut changed);
        assert_eq!(compare(&both[..1], &[changed]).len(), 1, "a wrong {what} is not found");
    }
    served["parent_span_id"] = json!("x");
    assert_eq!(compare(&both, &[span, served]).len(), 1, "a wrong client end is not found");
}
