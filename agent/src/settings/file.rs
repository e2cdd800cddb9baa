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

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::super::yaml;
    use super::*;

    proptest! {
        #[test]
        fn whatever_stands_at_a_key_is_a_value_or_a_fault_with_its_line(
            index in any::<proptest::sample::Index>(),
            value in "[0-9a-z*./ ]{0,8}|\\[[0-9a-z, ]{0,8}\\]|\\{[a-z]{1,5}: [0-9a-z]{0,3}\\}|\\[\\{(exes|drop|ports): [0-9a-z]{1,3}\\}\\]",
        ) {
            let keys: Vec<_> = all().map(|setting| setting.key).filter(|key| !key.is_empty()).collect();
            let levels: Vec<_> = index.get(&keys).split('.').collect();
            let text: String =
                levels.iter().enumerate().map(|(depth, level)| format!("{}{level}:\n", "  ".repeat(depth))).collect();
            let text = format!("{} {value}\n", text.trim_end());
            if let Ok(root) = yaml::parse(&text, &|_| None) {
                let (given, faults) = read(&root);
                prop_assert!(given.len() <= 1);
                for fault in faults {
                    prop_assert!(fault.line == levels.len() && !fault.message.is_empty(), "{text}: {fault:?}");
                }
            }
        }
    }
}
