//! `skep config print`: the settings that hold, as a file that could be read again, with the source of each value.

use std::fmt::Write as _;

use super::kind::{Kind, show_duration, show_size};
use super::value::{Given, Record, Settings, Value};
use super::{Setting, all};

/// What stands in place of a secret.
const MASK: &str = "(secret)";

/// The settings as YAML.
pub fn print(settings: &Settings) -> String {
    let mut out = String::new();
    if let Some(file) = &settings.file {
        let _ = writeln!(out, "# file: {}", file.display());
    }
    let mut open: Vec<&str> = Vec::new();
    for setting in all().filter(|setting| !setting.key.is_empty()) {
        let mut path: Vec<&str> = setting.key.split('.').collect();
        let Some(name) = path.pop() else { continue };
        let shared = open.iter().zip(&path).take_while(|(one, other)| one == other).count();
        for (depth, level) in path.iter().enumerate().skip(shared) {
            let _ = writeln!(out, "{}{level}:", "  ".repeat(depth));
        }
        open = path;
        let indent = "  ".repeat(open.len());
        match settings.given(setting) {
            Some(given) => write_setting(&mut out, &indent, name, setting, given),
            None => drop(writeln!(out, "{indent}# {name}:  # not set")),
        }
    }
    out
}

fn write_setting(out: &mut String, indent: &str, name: &str, setting: &Setting, given: &Given) {
    let source = &given.source;
    match &given.value {
        Value::Map(pairs) if !pairs.is_empty() => {
            let _ = writeln!(out, "{indent}{name}:  # {source}");
            for (name, text) in pairs {
                let text = if setting.secret { MASK } else { text };
                let _ = writeln!(out, "{indent}  {}: {}", quote(name), quote(text));
            }
        }
        Value::Records(records) if !records.is_empty() => {
            let _ = writeln!(out, "{indent}{name}:  # {source}");
            for record in records {
                let _ = writeln!(out, "{indent}  - {}", flow_record(&setting.kind, record));
            }
        }
        _ if setting.secret => drop(writeln!(out, "{indent}{name}: {}  # {source}", quote(MASK))),
        value => drop(writeln!(out, "{indent}{name}: {}  # {source}", flow(&setting.kind, value))),
    }
}

/// A value in one line.
pub fn flow(kind: &Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Size { .. }, Value::Integer(bytes)) => show_size(*bytes),
        (_, Value::Bool(truth)) => truth.to_string(),
        (_, Value::Integer(number)) => number.to_string(),
        (_, Value::Number(number)) => number.to_string(),
        (_, Value::Duration(time)) => show_duration(*time),
        (_, Value::Text(text)) => quote(text),
        (Kind::List(item), Value::List(values)) => {
            let items: Vec<_> = values.iter().map(|value| flow(item, value)).collect();
            format!("[{}]", items.join(", "))
        }
        (_, Value::Map(pairs)) => {
            let pairs: Vec<_> =
                pairs.iter().map(|(name, text)| format!("{}: {}", quote(name), quote(text))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        (_, Value::Records(records)) => {
            let records: Vec<_> = records.iter().map(|record| flow_record(kind, record)).collect();
            format!("[{}]", records.join(", "))
        }
        (_, Value::List(_)) => "[]".into(),
    }
}

fn flow_record(kind: &Kind, record: &Record) -> String {
    let Kind::Records(fields) = kind else { return "{}".into() };
    let parts: Vec<_> = record
        .fields
        .iter()
        .filter_map(|(name, value)| {
            let field = fields.iter().find(|field| field.key == *name)?;
            Some(format!("{name}: {}", flow(&field.kind, value)))
        })
        .collect();
    format!("{{{}}}", parts.join(", "))
}

/// Plain where that is safe, else in quotes; a dollar sign is doubled, because it is read again.
fn quote(text: &str) -> String {
    let plain = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-' | b'+'))
        && !text.starts_with('-')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off"
        );
    if plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '$' => out.push_str("$$"),
            '\n' => out.push_str("\\n"),
            character
                if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}') =>
            {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::super::yaml;
    use super::*;

    proptest! {
        #[test]
        fn any_text_comes_back(text in "(\\PC|[\n\t\"\\\\$:#{}-]){1,60}") {
            let node = yaml::parse(&format!("a: {}", quote(&text)), &|_| None).unwrap();
            let yaml::Data::Mapping(entries) = &node.data else { panic!("{node:?}") };
            prop_assert_eq!(entries[0].value.what(), text);
        }
    }
}
