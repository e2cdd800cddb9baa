//! `skep config schema`: the table as a JSON Schema, for editors that complete and check the file.

use serde_json::{Map, Value as Json, json};

use super::all;
use super::kind::{Field, Kind};

/// The schema, as text with a line break at its end.
pub fn schema() -> String {
    let mut root = object(Map::new());
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("Skep configuration");
    for setting in all().filter(|setting| !setting.key.is_empty()) {
        let mut at = &mut root;
        let mut levels: Vec<_> = setting.key.split('.').collect();
        let name = levels.pop().unwrap_or_default();
        for level in levels {
            at = &mut at["properties"][level];
            if at.is_null() {
                *at = object(Map::new());
            }
        }
        let mut value = of_kind(&setting.kind);
        value["description"] = json!(setting.help);
        if let Some(default) = setting.default {
            value["default"] = match setting.kind {
                Kind::Bool | Kind::Integer { .. } | Kind::Number { .. } => {
                    serde_json::from_str(default).unwrap_or_default()
                }
                _ => json!(default),
            };
        }
        at["properties"][name] = value;
    }
    format!("{root:#}\n")
}

fn object(properties: Map<String, Json>) -> Json {
    json!({ "type": ["object", "null"], "additionalProperties": false, "properties": properties })
}

fn of_kind(kind: &Kind) -> Json {
    // Any value may come out of a variable.
    const VARIABLE: &str = r"\$\{.*\}";
    let or_variable = |value: Json| json!({ "anyOf": [value, { "type": "string", "pattern": VARIABLE }] });
    match *kind {
        Kind::Bool => or_variable(json!({ "type": "boolean" })),
        Kind::Integer { min, max } => {
            or_variable(json!({ "type": "integer", "minimum": min, "maximum": max }))
        }
        Kind::Number { min, max } => or_variable(json!({ "type": "number", "minimum": min, "maximum": max })),
        Kind::Size { .. } => {
            json!({ "type": ["integer", "string"], "pattern": format!("^[0-9]+[KMGkmg]?$|{VARIABLE}") })
        }
        Kind::Duration { .. } => json!({
            "type": ["number", "string"],
            "pattern": format!("^[0-9.]+$|^([0-9.]+(us|ms|s|m|h|d))+$|{VARIABLE}"),
        }),
        Kind::Choice(words) => {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            or_variable(json!({ "enum": words }))
        }
        // Plain numbers are texts too: a port, a version.
        Kind::Text(_) => json!({ "type": ["string", "number", "boolean"] }),
        Kind::Map(_) => {
            json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
        }
        Kind::List(item) => {
            let item = of_kind(item);
            json!({ "anyOf": [{ "type": "array", "items": item.clone() }, item] })
        }
        Kind::Records(fields) => json!({ "type": "array", "items": of_fields(fields) }),
    }
}

fn of_fields(fields: &[Field]) -> Json {
    let mut properties = Map::new();
    for field in fields {
        let mut value = of_kind(&field.kind);
        value["description"] = json!(field.help);
        properties.insert(field.key.to_owned(), value);
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}
