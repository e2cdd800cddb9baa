//! The comparison itself, checked before each run: a perfect span passes, and each kind of fault is found.

use serde_json::{Value, json};

use crate::compare::{Tallies, Tally, compare};
use crate::truth::{Answer, Exchange, Parent, Size, Truth, Want};

/// Panics if the comparison is blind for something.
pub fn run() {
    let truth = example();
    let perfect = span_of(&truth);
    assert_eq!(result(&truth, std::slice::from_ref(&perfect)), (0, 0, 0), "a perfect span");
    assert_eq!(result(&truth, &[]), (1, 0, 0), "a missing span");
    assert_eq!(result(&truth, &[perfect.clone(), perfect.clone()]), (0, 1, 0), "a span twice");
    let mut elsewhere = perfect.clone();
    elsewhere["attributes"]["url.path"] = json!("/hello/~other.1.x");
    assert_eq!(result(&truth, &[elsewhere]), (1, 1, 0), "another's span");
    for (name, _) in &truth.attributes {
        let mut wrong = perfect.clone();
        wrong["attributes"][name] = json!("wrong");
        if *name != "url.path" {
            assert_eq!(result(&truth, &[wrong]), (0, 0, 1), "a wrong {name}");
        }
    }
    type Fault = (&'static str, fn(&mut Value));
    let faults: &[Fault] = &[
        ("kind", |span| span["name"] = json!("POST")),
        ("status", |span| span["status"] = json!("error")),
        ("start", |span| span["start_unix_ns"] = json!(1_000_000)),
        ("end", |span| span["end_unix_ns"] = json!(900_000_000)),
        ("length", |span| span["end_unix_ns"] = span["start_unix_ns"].clone()),
        ("parent", |span| span["parent_span_id"] = json!("00f067aa0ba902b7")),
        ("trace", |span| span["trace_id"] = json!("ff")),
        ("flags", |span| span["flags"] = json!(0)),
        ("process", |span| span["resource"]["process.pid"] = json!(8)),
        ("service", |span| span["resource"]["service.name"] = json!("")),
    ];
    for (what, change) in faults {
        let mut wrong = perfect.clone();
        change(&mut wrong);
        assert_eq!(result(&truth, &[wrong]), (0, 0, 1), "a wrong {what}");
    }
}

fn result(truth: &Truth, spans: &[Value]) -> (usize, usize, usize) {
    let mut tallies = Tallies::new();
    compare(std::slice::from_ref(truth), spans, ("no case", ""), &mut tallies);
    let sum = |field: fn(&Tally) -> usize| tallies.values().map(field).sum();
    (sum(|tally| tally.missing), sum(|tally| tally.extra), sum(|tally| tally.wrong))
}

fn example() -> Truth {
    let peer = "127.0.0.1:8080".parse().unwrap();
    let mut exchange = Exchange::new("POST", "/echo/~self.1.x?a=1", peer);
    exchange.local = Some("127.0.0.1:4711".parse().unwrap());
    exchange.user_agent = Some("ua".to_owned());
    exchange.answer = Answer::Whole(404);
    exchange.request_body = Size::Exact(5);
    exchange.response_body = Size::Exact(7);
    exchange.parent =
        Parent::Remote { trace_id: "ab".to_owned(), span_id: "cd".to_owned(), trace_state: None, flags: 1 };
    (exchange.start_ns, exchange.end_ns, exchange.min_ns) = (500_000_000, 510_000_000, 5_000_000);
    exchange.server("self check", "", &[7])
}

/// A span that meets a truth.
fn span_of(truth: &Truth) -> Value {
    let mut attributes = json!({"http.route": "/echo/{tag}"});
    for (name, want) in &truth.attributes {
        match want {
            Want::Str(text) => attributes[name] = json!(text),
            Want::Int(n) => attributes[name] = json!(n),
            _ => {}
        }
    }
    json!({
        "trace_id": "ab", "span_id": "11", "parent_span_id": "cd", "name": "POST /echo/{tag}",
        "kind": truth.kind.as_str(), "start_unix_ns": truth.start_ns, "end_unix_ns": truth.end_ns,
        "status": truth.status[0], "flags": 1, "attributes": attributes, "links": [],
        "resource": {
            "service.name": "self", "service.instance.id": "1", "host.name": "h", "process.pid": 7,
            "process.executable.name": "self",
        },
    })
}
