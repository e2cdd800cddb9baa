//! YAML text → a tree with line numbers, bounded whatever the text: size, depth and number of nodes have limits, and
//! what can multiply (anchors, aliases, merges) or change meaning (tags, several documents) is refused.
//!
//! In: untrusted text. Out: a [`Node`], or the first error with its line. `${…}` is replaced in values, not in keys,
//! after the text has been parsed: what a variable holds cannot change the structure.

use std::collections::HashSet;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::substitute;

/// A file is not larger.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// The usual reason why a text is taken for something else.
const QUOTES: &str = "a text that begins with one of * & ! > | % @ ` [ { needs quotes";
const MAX_NODES: usize = 50_000;
const MAX_DEPTH: usize = 32;

/// A part of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    /// `plain`: without quotes, so that it may mean `null`.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Node,
}

/// Why the text is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    pub(super) line: usize,
    pub(super) message: String,
}

impl Node {
    /// Nothing, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for messages.
    pub(super) fn what(&self) -> &str {
        match &self.data {
            Data::Scalar { text, .. } => text,
            Data::Sequence(_) => "a list",
            Data::Mapping(_) => "a mapping",
        }
    }
}

/// A collection that is not closed yet.
enum Open {
    Sequence(usize, Vec<Node>),
    /// The key that waits for its value.
    Mapping {
        line: usize,
        entries: Vec<Entry>,
        keys: HashSet<String>,
        key: Option<(String, usize)>,
    },
}

/// Parses one document. `variable` gives the values for `${…}`.
pub(super) fn parse(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Node, YamlError> {
    if text.len() > MAX_BYTES {
        return Err(YamlError { line: 1, message: format!("more than {} kB", MAX_BYTES / 1024) });
    }
    let mut builder = Builder { variable, open: Vec::new(), nodes: 0, root: None };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let message = format!("{}; {QUOTES}", error.info());
            YamlError { line: error.marker().line(), message }
        })?;
        let line = span.start.line();
        builder.take(event, span).map_err(|message| YamlError { line, message })?;
    }
    let empty = Node { line: 1, data: Data::Scalar { text: String::new(), plain: true } };
    Ok(builder.root.unwrap_or(empty))
}

struct Builder<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    open: Vec<Open>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        let line = span.start.line();
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(format!("more than {MAX_NODES} values"));
        }
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err("a second document begins: one is read".into())
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Alias(_) => Err(format!("aliases are not supported; {QUOTES}")),
            Event::Scalar(text, style, anchor, tag) => {
                refuse(anchor, tag.is_some())?;
                let plain = style == ScalarStyle::Plain;
                self.scalar(text.into_owned(), plain, line)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse(anchor, tag.is_some())?;
                self.open(Open::Sequence(line, Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                refuse(anchor, tag.is_some())?;
                self.open(Open::Mapping { line, entries: Vec::new(), keys: HashSet::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::Sequence(line, nodes)) => self.value(Node { line, data: Data::Sequence(nodes) }),
                Some(Open::Mapping { line, entries, .. }) => {
                    self.value(Node { line, data: Data::Mapping(entries) })
                }
                None => Err("a collection ends that has not begun".into()),
            },
        }
    }

    fn open(&mut self, collection: Open) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} levels deep"));
        }
        if let Some(Open::Mapping { key: None, .. }) = self.open.last() {
            return Err("a key must be a text".into());
        }
        self.open.push(collection);
        Ok(())
    }

    fn scalar(&mut self, text: String, plain: bool, line: usize) -> Result<(), String> {
        if let Some(Open::Mapping { keys, key: key @ None, .. }) = self.open.last_mut() {
            if !keys.insert(text.clone()) {
                return Err(format!("{text} is given twice"));
            }
            *key = Some((text, line));
            return Ok(());
        }
        let text = substitute::substitute(text, self.variable)?;
        self.value(Node { line, data: Data::Scalar { text, plain } })
    }

    fn value(&mut self, node: Node) -> Result<(), String> {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence(_, nodes)) => nodes.push(node),
            Some(Open::Mapping { entries, key, .. }) => {
                let (key, line) = key.take().ok_or("a key must be a text")?;
                entries.push(Entry { key, line, value: node });
            }
        }
        Ok(())
    }
}

fn refuse(anchor: usize, tag: bool) -> Result<(), String> {
    if anchor != 0 {
        return Err(format!("anchors are not supported; {QUOTES}"));
    }
    if tag {
        return Err(format!("tags are not supported; {QUOTES}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    fn error(text: &str) -> String {
        let error = parse(text, &|_| None).unwrap_err();
        format!("{}: {}", error.line, error.message)
    }

    #[test]
    fn lines_are_those_of_the_text() {
        let node = parse("# c\na: 1\nb:\n  - x\n  - y: z\n", &|_| None).unwrap();
        let Data::Mapping(entries) = &node.data else { panic!("{node:?}") };
        assert_eq!((entries[0].line, entries[1].line), (2, 3));
        let Data::Sequence(nodes) = &entries[1].value.data else { panic!("{node:?}") };
        assert_eq!((nodes[0].line, nodes[1].line), (4, 5));
    }

    #[test]
    fn what_can_multiply_or_surprise_is_refused() {
        assert_eq!(error("a: 1\na: 2\n"), "2: a is given twice");
        assert!(error("a: &x 1\nb: *x\n").starts_with("1: anchors"));
        assert!(error("a: !!int 1\n").starts_with("1: tags"));
        assert!(error("a: 1\n---\nb: 2\n").starts_with("2: a second document"));
        assert!(error("? [a]\n: b\n").contains("a key must be a text"));
        assert!(error("a: [1, 2\nb: 3").contains(": "));
        // Here the parser's own limit may come first.
        assert!(!error(&"[".repeat(100_000)).is_empty());
        assert!(error(&"a: [".repeat(1000)).contains(": "));
        assert!(error(&"- ".repeat(100_000)).contains("levels deep"));
        assert!(error(&"- 1\n".repeat(100_000)).contains("values"));
        assert!(error(&" ".repeat(MAX_BYTES + 1)).contains("1024 kB"));
    }

    #[test]
    fn variables_are_values_never_structure() {
        let node = parse("a: ${X}\n${X}: b\n", &|_| Some("1\nz: 2".into())).unwrap();
        let Data::Mapping(entries) = &node.data else { panic!("{node:?}") };
        assert_eq!(entries[0].value.what(), "1\nz: 2");
        assert_eq!(entries[1].key, "${X}");
    }

    proptest! {
        #[test]
        fn any_text_is_safe(text in "(\\PC|[-:{}\\[\\],&*!|>'\"%@`#?$ \n\t]|a|1){0,200}") {
            if let Ok(node) = parse(&text, &|_| None) {
                prop_assert!(node.line >= 1);
            }
        }

        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&String::from_utf8_lossy(&bytes), &|_| Some("x".into()));
        }
    }
}
