//! The file: its tree against the table. Unknown keys, wrong types and values out of range are faults with a line.

use super::kind::Fault;
use super::value::{Given, Source};
use super::yaml::{Data, Node};
use super::{Setting, all, by_key, nearest};

/// What the file says of each row, and everything that is wrong with it.
pub(super) fn read(root: &Node) -> (Vec<(&'static Setting, Given)>, Vec<Fault>) {
    let (mut given, mut faults) = (Vec::new(), Vec::new());
    level(root, "", &mut given, &mut faults);
    (given, faults)
}

fn level(node: &Node, path: &str, given: &mut Vec<(&'static Setting, Given)>, faults: &mut Vec<Fault>) {
    if node.is_null() {
        return;
    }
    let Data::Mapping(entries) = &node.data else {
        let message = format!("{}: give a mapping of keys", node.what());
        faults.push(Fault { line: node.line, path: path.to_owned(), message });
        return;
    };
    for entry in entries {
        let full = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        if let Some(setting) = by_key(&full) {
            if let Some(value) = setting.kind.read(&entry.value, &full, faults) {
                given.push((setting, Given { value, source: Source::File(entry.line) }));
            }
        } else if children(&full).next().is_some() {
            level(&entry.value, &full, given, faults);
        } else {
            faults.push(Fault { line: entry.line, message: unknown(&entry.key, path), path: full });
        }
    }
}

/// The keys right below a level.
fn children(path: &str) -> impl Iterator<Item = &'static str> + Clone {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    let keys: Vec<_> = all()
        .filter_map(|setting| setting.key.strip_prefix(prefix.as_str()))
        .filter(|rest| !rest.is_empty())
        .map(|rest| rest.split('.').next().unwrap_or(rest))
        .collect();
    keys.into_iter()
}

/// The key that was meant may be here, or it may be a right one at the wrong level.
fn unknown(key: &str, path: &str) -> String {
    if nearest(key, children(path)).is_none() {
        let last = |key: &'static str| key.rsplit('.').next().unwrap_or(key);
        let elsewhere = nearest(key, all().map(|setting| last(setting.key)).filter(|key| !key.is_empty()))
            .and_then(|word| all().find(|setting| last(setting.key) == word));
        if let Some(setting) = elsewhere {
            return format!("there is no such key: did you mean {}?", setting.key);
        }
    }
    let mut known: Vec<_> = children(path).collect();
    known.dedup();
    super::kind::unknown(key, known.into_iter())
}
