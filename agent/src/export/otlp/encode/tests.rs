//! What is encoded, decoded by the reference implementation and compared with what `--print json` says.

use std::sync::Arc;

use agent_pipeline::request::{ErrorType, Request, SpanKind};
use agent_pipeline::route::{RouteConfig, Router};
use agent_pipeline::span::{Link, ParentRule, Span};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as proto;
use proptest::prelude::{any, prop_assert_eq, proptest};
use prost::Message;
use serde_json::{Map, Value as Json, json};

use super::super::batch::SpanBatch;
use super::super::wire::{
    put_bool_attribute, put_double_attribute, put_int_attribute, put_text_attribute, put_texts_attribute,
};
use super::*;
use crate::discovery::resource::{Facts, Host, Identity, Resource};
use crate::output::json::{Line, write_span};

fn resource(name: &str) -> Arc<[u8]> {
    let text = ResourceValue::Text(name.to_owned());
    let number = ResourceValue::Int(-7);
    resource_message([("service.name", &text), ("process.pid", &number)]).into()
}

fn request(kind: SpanKind, target: &str, status_code: Option<u16>) -> Request {
    let mut request = Request { kind, ..Request::default() };
    request.tuple.local.family = 2;
    request.tuple.local.port = 8080;
    request.tuple.peer = request.tuple.local;
    request.http_mut().set_method(b"GET");
    request.http_mut().set_target(target.as_bytes(), Default::default());
    request.observe_header(b"user-agent", "agent/1 ä😀".as_bytes());
    request.observe_header(b"host", b"shop.example:8080");
    request.http_mut().status_code = status_code;
    request.http_mut().response_body_size = Some(0);
    request.complete(&mut Router::new(&RouteConfig::default()));
    request
}

fn span<'a>(request: &'a Request, links: &'a [Link]) -> Span<'a> {
    Span {
        trace_id: [1; 16],
        span_id: [2; 8],
        parent_span_id: None,
        flags: 1,
        remote_trace: false,
        trace_state: None,
        start_ktime_ns: 0,
        end_ktime_ns: 0,
        tgid: 1,
        request,
        parent_rule: ParentRule::None,
        links,
    }
}

fn name(span: &Span<'_>) -> String {
    let mut name = String::new();
    span.write_name(&mut name);
    name
}

fn json_of(value: &AnyValue) -> Json {
    match value.value.as_ref().expect("a value") {
        Any::StringValue(text) => json!(text),
        Any::IntValue(number) => json!(number),
        Any::DoubleValue(number) => json!(number),
        Any::BoolValue(truth) => json!(truth),
        Any::ArrayValue(array) => array.values.iter().map(json_of).collect(),
        other => panic!("{other:?}"),
    }
}

fn attributes(list: &[KeyValue]) -> Json {
    let mut map = Map::new();
    for pair in list {
        let value = json_of(pair.value.as_ref().expect("a value"));
        assert!(map.insert(pair.key.clone(), value).is_none(), "{} twice", pair.key);
    }
    Json::Object(map)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The decoded span as `--print json` would print it, its resource aside.
fn printed(span: &proto::Span) -> Json {
    let kind = ["", "internal", "server", "client", "producer", "consumer"][span.kind as usize];
    let status = span.status.clone().unwrap_or_default();
    let code = ["unset", "ok", "error"][status.code as usize];
    let mut json = json!({
        "trace_id": hex(&span.trace_id),
        "span_id": hex(&span.span_id),
        "name": span.name,
        "kind": kind,
        "start_unix_ns": span.start_time_unix_nano,
        "end_unix_ns": span.end_time_unix_nano,
        "status": code,
        "flags": span.flags & 0xff,
        "attributes": attributes(&span.attributes),
        "links": span.links.iter().map(|link| json!({
            "trace_id": hex(&link.trace_id), "span_id": hex(&link.span_id), "flags": link.flags,
        })).collect::<Vec<_>>(),
    });
    for (key, text) in [
        ("parent_span_id", hex(&span.parent_span_id)),
        ("trace_state", span.trace_state.clone()),
        ("status_message", status.message),
    ] {
        if !text.is_empty() {
            json[key] = json!(text);
        }
    }
    json
}

/// Encoded by us and decoded by the reference = printed by us.
fn check(span: &Span<'_>) -> proto::Span {
    let (start, end) = (1_700_000_000_000_000_001, 1_700_000_000_000_000_999);
    let mut batch = SpanBatch::default();
    assert!(batch.push(&resource("shop"), usize::MAX, |out| put_span(out, span, &name(span), start, end)));
    let mut message = Vec::new();
    batch.assemble(&mut message);
    let decoded = ExportTraceServiceRequest::decode(message.as_slice()).unwrap();
    // What the reference encodes again is what we encoded: nothing unknown, nothing superfluous.
    assert_eq!(decoded.encoded_len(), message.len());
    let of_resource = &decoded.resource_spans[0];
    assert_eq!(of_resource.schema_url, "https://opentelemetry.io/schemas/1.41.0");
    let resource_attributes = attributes(&of_resource.resource.as_ref().unwrap().attributes);
    assert_eq!(resource_attributes, json!({"service.name": "shop", "process.pid": -7}));
    let of_scope = &of_resource.scope_spans[0];
    let scope = of_scope.scope.as_ref().unwrap();
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("skep", env!("CARGO_PKG_VERSION")));
    let found = &of_scope.spans[0];

    let resource = Resource::new(&Host::read(), &Facts::default(), None, (0, &Identity::default()));
    let name = name(span);
    let line = Line { span, resource: &resource, start_unix_ns: start, end_unix_ns: end, name: &name };
    let mut json = Vec::new();
    write_span(&mut json, &line);
    let mut json: Json = serde_json::from_slice(&json).unwrap();
    json.as_object_mut().unwrap().remove("resource");
    assert_eq!(printed(found), json);
    found.clone()
}

#[test]
fn a_span_says_in_protobuf_what_it_says_in_json() {
    let server = request(SpanKind::Server, "/users/7?a=1", Some(200));
    check(&span(&server, &[]));
    let failed = request(SpanKind::Client, "/pay", Some(503));
    let links = [
        Link { trace_id: [9; 16], span_id: [8; 8], flags: 1 },
        Link { trace_id: [7; 16], span_id: [6; 8], flags: 0 },
    ];
    check(&Span { parent_span_id: Some([3; 8]), trace_state: Some("a=b,c=d"), ..span(&failed, &links) });
    let mut aborted = request(SpanKind::Server, "/", None);
    aborted.error_type = Some(ErrorType::ConnectionReset);
    check(&Span { flags: 3, ..span(&aborted, &[]) });
    for kind in [SpanKind::Internal, SpanKind::Producer, SpanKind::Consumer] {
        check(&span(&request(kind, "/", Some(200)), &[]));
    }
}

#[test]
fn a_long_span_has_a_long_length() {
    let long = request(SpanKind::Client, &format!("/{}", "x".repeat(100_000)), Some(200));
    let encoded = check(&span(&long, &[Link { trace_id: [9; 16], span_id: [8; 8], flags: 1 }; 1000]));
    assert!(encoded.encoded_len() > 0x4000);
}

#[test]
fn flags_tell_whether_the_parent_is_remote() {
    let flags = |kind, rule, parent| {
        let request = request(kind, "/", Some(200));
        check(&Span { parent_span_id: parent, parent_rule: rule, ..span(&request, &[]) }).flags
    };
    let parent = Some([3; 8]);
    assert_eq!(flags(SpanKind::Server, ParentRule::Header, parent), 0x301);
    assert_eq!(flags(SpanKind::Server, ParentRule::ClientEnd, parent), 0x301);
    assert_eq!(flags(SpanKind::Client, ParentRule::Thread, parent), 0x101);
    // Whose the header is that a client sends is not known.
    assert_eq!(flags(SpanKind::Client, ParentRule::Header, parent), 0x001);
    assert_eq!(flags(SpanKind::Server, ParentRule::None, None), 0x001);
}

#[test]
fn spans_are_grouped_by_resource_in_their_order() {
    let resources = [resource("a"), resource("b"), resource("c")];
    let request = request(SpanKind::Server, "/", Some(200));
    let mut batch = SpanBatch::default();
    for _ in 0..2 {
        for (index, which) in [0, 0, 1, 0, 2, 1, 1].into_iter().enumerate() {
            let span = Span { span_id: [index as u8; 8], ..span(&request, &[]) };
            batch.push(&resources[which], usize::MAX, |out| put_span(out, &span, "x", 1, 2));
        }
        assert!(!batch.push(&resources[0], 10, |out| put_span(out, &span(&request, &[]), "too long", 1, 2)));
        assert_eq!(batch.spans(), 7);
        let mut message = Vec::new();
        batch.assemble(&mut message);
        let decoded = ExportTraceServiceRequest::decode(message.as_slice()).unwrap();
        let found: Vec<(String, Vec<u8>)> = decoded
            .resource_spans
            .iter()
            .map(|of| {
                let attributes = attributes(&of.resource.as_ref().unwrap().attributes);
                let ids = of.scope_spans[0].spans.iter().map(|span| span.span_id[0]).collect();
                (attributes["service.name"].as_str().unwrap().to_owned(), ids)
            })
            .collect();
        assert_eq!(
            found,
            [("a".to_owned(), vec![0, 1, 3]), ("b".to_owned(), vec![2, 5, 6]), ("c".to_owned(), vec![4]),]
        );
        assert!(message.len() <= batch.bytes() && batch.bytes() < message.len() + 200, "the size is known");
        batch.clear();
    }
}

#[test]
fn nothing_encodes_to_nothing() {
    let mut message = Vec::new();
    SpanBatch::default().assemble(&mut message);
    assert!(message.is_empty());
}

proptest! {
    #[test]
    fn every_kind_of_attribute_round_trips(
        key in ".{1,200}", text in ".{0,300}", number in any::<i64>(), double in any::<f64>(), truth: bool,
        texts in proptest::collection::vec(".{0,40}", 0..5),
    ) {
        let mut out = Vec::new();
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        put_text_attribute(&mut out, 1, &key, &text);
        put_int_attribute(&mut out, 1, &key, number);
        put_double_attribute(&mut out, 1, &key, double);
        put_bool_attribute(&mut out, 1, &key, truth);
        put_texts_attribute(&mut out, 1, &key, &borrowed);
        let decoded = opentelemetry_proto::tonic::resource::v1::Resource::decode(out.as_slice()).unwrap();
        prop_assert_eq!(decoded.encoded_len(), out.len());
        let array = texts.iter().map(|text| AnyValue { value: Some(Any::StringValue(text.clone())) }).collect();
        let expected = [
            Any::StringValue(text),
            Any::IntValue(number),
            Any::DoubleValue(double),
            Any::BoolValue(truth),
            Any::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue { values: array }),
        ];
        for (pair, expected) in decoded.attributes.iter().zip(&expected) {
            prop_assert_eq!(&pair.key, &key);
            prop_assert_eq!(format!("{:?}", pair.value.as_ref().unwrap().value.as_ref().unwrap()), format!("{expected:?}"));
        }
    }
}
