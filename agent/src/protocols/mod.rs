//! `skep protocols`: what is understood, to which depth and with which limits; docs/protocols.md is the same table.
//!
//! In: [`table::PROTOCOLS`] and [`table::OTHERS`]. Out: text for a terminal, JSON, the page. A test compares the page,
//! and that what a row names as its proof exists.

mod page;
pub mod table;

use std::fmt::Write as _;

use serde_json::json;

pub use page::page;
use table::{OTHERS, PROTOCOLS, Protocol};

/// Width of the text.
const WIDTH: usize = 100;
const INDENT: usize = 14;

/// For a terminal.
pub fn text() -> String {
    let mut out = String::new();
    for protocol in PROTOCOLS {
        let Protocol { name, ends, over, span, reads, limits, .. } = protocol;
        let _ = writeln!(out, "{name}");
        for (what, text) in
            [("ends", ends), ("over", over), ("span", span), ("reads", reads), ("limits", limits)]
        {
            write_wrapped(&mut out, what, text);
        }
        out.push('\n');
    }
    out.push_str("Told from their first bytes, never from the port. Seen and not read:\n");
    for other in OTHERS.iter().filter(|other| other.told) {
        let _ = writeln!(out, "  {}: {}", other.name, other.ours);
    }
    out
}

/// For programs.
pub fn json() -> String {
    let protocols: Vec<_> = PROTOCOLS
        .iter()
        .map(|protocol| {
            json!({
                "name": protocol.name,
                "ends": protocol.ends.split(", ").collect::<Vec<_>>(),
                "over": protocol.over,
                "span": protocol.span,
                "reads": protocol.reads,
                "limits": protocol.limits,
            })
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&protocols).unwrap_or_default();
    text.push('\n');
    text
}

/// A paragraph with its heading in front.
fn write_wrapped(out: &mut String, what: &str, text: &str) {
    let mut line = format!("  {what:<width$}", width = INDENT - 2);
    let mut column = INDENT;
    for word in text.split(' ') {
        let len = word.chars().count();
        if column > INDENT && column + 1 + len > WIDTH {
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(INDENT);
            column = INDENT;
        } else if column > INDENT {
            line.push(' ');
            column += 1;
        }
        line.push_str(word);
        column += len;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn root() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    #[test]
    fn the_page_is_up_to_date() {
        let path = root().join("docs/protocols.md");
        let expected = page();
        if std::env::var_os("SKEP_UPDATE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let actual = std::fs::read_to_string(&path).unwrap();
        assert!(
            actual == expected,
            "docs/protocols.md: SKEP_UPDATE_DOCS=1 cargo test -p skep --lib protocols"
        );
    }

    #[test]
    fn every_row_is_proved_by_tests_that_exist() {
        for protocol in PROTOCOLS {
            for proof in protocol.proofs {
                assert!(root().join(proof).exists(), "{}: there is no {proof}", protocol.name);
            }
            assert!(protocol.proofs.len() >= 2, "{}", protocol.name);
        }
    }

    #[test]
    fn what_is_printed_holds_every_row() {
        let (text, json) = (text(), json());
        for protocol in PROTOCOLS {
            assert!(text.contains(protocol.name) && json.contains(protocol.name));
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed.as_array().map(Vec::len), Some(PROTOCOLS.len()));
    }
}
