//! What the Collector wrote, in the form of `--print json`, so that both can be compared as they are.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

/// What came of a comparison.
#[derive(Debug, Default)]
pub struct Compared {
    /// Printed spans that arrived and are equal in everything.
    pub equal: usize,
    /// Printed spans that did not arrive.
    pub missing: usize,
    /// Spans that arrived more than once.
    pub doubled: usize,
}

/// Every span in these requests, as `--print json` would print it.
pub fn arrived(requests: &[Value]) -> Result<Vec<Value>> {
    let mut spans = Vec::new();
    for of_resource in requests.iter().flat_map(|request| list(request, "resourceSpans")) {
        let resource = attributes(&of_resource["resource"]["attributes"])?;
        for of_scope in list(of_resource, "scopeSpans") {
            if of_scope["scope"]["name"] != "skep" {
                bail!("a scope {}", of_scope["scope"]);
            }
            for span in list(of_scope, "spans") {
                spans.push(printed(span, &resource)?);
            }
        }
    }
    Ok(spans)
}

/// One to one, by span id: all that arrived was printed and is equal.
pub fn compare(printed: &[Value], arrived: &[Value]) -> Result<Compared> {
    let by_id: HashMap<&str, &Value> =
        printed.iter().map(|span| (span["span_id"].as_str().unwrap_or_default(), span)).collect();
    if by_id.len() != printed.len() {
        bail!("{} spans printed, {} ids", printed.len(), by_id.len());
    }
    let mut found: HashMap<&str, usize> = HashMap::new();
    for span in arrived {
        let id = span["span_id"].as_str().unwrap_or_default();
        // Other runs write to the same file.
        let Some(expected) = by_id.get(id) else { continue };
        if *expected != span {
            bail!("printed {expected}\n  arrived {span}");
        }
        *found.entry(id).or_default() += 1;
    }
    Ok(Compared {
        equal: found.len(),
        missing: printed.len() - found.len(),
        doubled: found.values().filter(|&&count| count > 1).count(),
    })
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

/// OTLP's JSON writes 64-bit integers as text and leaves out what is empty.
fn printed(span: &Value, resource: &Value) -> Result<Value> {
    let number = |name: &str| -> Result<u64> {
        match &span[name] {
            Value::Null => Ok(0),
            Value::String(text) => Ok(text.parse()?),
            other => other.as_u64().context("not a number"),
        }
    };
    let kind = ["", "internal", "server", "client", "producer", "consumer"];
    let status = ["unset", "ok", "error"];
    let code = span["status"]["code"].as_u64().unwrap_or(0);
    let links: Vec<Value> = list(span, "links")
        .map(|link| {
            let flags = link["flags"].as_u64().unwrap_or(0);
            json!({"trace_id": link["traceId"], "span_id": link["spanId"], "flags": flags})
        })
        .collect();
    let mut out = json!({
        "trace_id": span["traceId"],
        "span_id": span["spanId"],
        "name": span["name"],
        "kind": kind.get(number("kind")? as usize).context("kind")?,
        "start_unix_ns": number("startTimeUnixNano")?,
        "end_unix_ns": number("endTimeUnixNano")?,
        "status": status.get(code as usize).context("status")?,
        "flags": number("flags")? & 0xff,
        "attributes": attributes(&span["attributes"])?,
        "resource": resource,
        "links": links,
    });
    for (key, value) in [
        ("parent_span_id", &span["parentSpanId"]),
        ("trace_state", &span["traceState"]),
        ("status_message", &span["status"]["message"]),
    ] {
        if value.as_str().is_some_and(|text| !text.is_empty()) {
            out[key] = value.clone();
        }
    }
    Ok(out)
}

fn attributes(pairs: &Value) -> Result<Value> {
    let mut map = Map::new();
    for pair in pairs.as_array().into_iter().flatten() {
        let key = pair["key"].as_str().context("a key")?;
        if map.insert(key.to_owned(), any_value(&pair["value"])?).is_some() {
            bail!("{key} twice");
        }
    }
    Ok(Value::Object(map))
}

fn any_value(value: &Value) -> Result<Value> {
    let (kind, content) = value.as_object().and_then(|object| object.iter().next()).context("a value")?;
    Ok(match (kind.as_str(), content) {
        ("intValue", Value::String(text)) => json!(text.parse::<i64>()?),
        ("intValue" | "stringValue" | "boolValue" | "doubleValue", content) => content.clone(),
        ("arrayValue", array) => list(array, "values").map(any_value).collect::<Result<_>>()?,
        (other, _) => bail!("a value of kind {other}"),
    })
}
