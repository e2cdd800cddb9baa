//! `cargo xtask dashboards`: Grafana's boards in deploy/grafana/dashboards, made from the tables in `boards.rs`.
//!
//! In: boards as data (`model.rs` says what a board is). Out: one JSON file a board, byte for byte the same each time. A
//! test compares the files with the tables, and every metric that a query names with those that something produces.

mod boards;
mod model;
#[cfg(test)]
mod names;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const FOLDER: &str = "deploy/grafana/dashboards";

/// Writes all boards.
pub(crate) fn run(root: &Path) -> Result<()> {
    for board in boards::all() {
        let path = root.join(FOLDER).join(format!("{}.json", board.uid));
        fs::write(&path, board.to_json()).with_context(|| format!("write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root")
    }

    #[test]
    fn the_files_are_what_the_tables_say() {
        let boards = boards::all();
        for board in &boards {
            let path = root().join(FOLDER).join(format!("{}.json", board.uid));
            let file = fs::read_to_string(&path).unwrap_or_default();
            assert!(file == board.to_json(), "{} is old: run `cargo xtask dashboards`", path.display());
        }
        let expected: BTreeSet<String> = boards.iter().map(|board| format!("{}.json", board.uid)).collect();
        let there = fs::read_dir(root().join(FOLDER)).expect("the folder is there");
        let there: BTreeSet<_> =
            there.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        assert_eq!(there, expected);
    }

    #[test]
    fn every_metric_that_a_board_or_rule_names_is_produced() {
        let produced = names::produced(root());
        let mut queries = Vec::new();
        for board in boards::all() {
            queries.extend(board.queries().map(|query| (board.uid.to_owned(), query.to_owned())));
        }
        for folder in ["deploy/prometheus/rules", "deploy/pyrra"] {
            for entry in fs::read_dir(root().join(folder)).expect("the folder is there") {
                let path = entry.expect("readable").path();
                let text = fs::read_to_string(&path).expect("readable");
                queries
                    .extend(names::queries_of_rules(&text).map(|query| (path.display().to_string(), query)));
            }
        }
        assert!(queries.len() > 60, "only {} queries were found", queries.len());
        for (place, query) in queries {
            for name in names::metrics(&query) {
                assert!(
                    produced.contains(&name),
                    "{place} asks for {name}, which nothing produces:\n{query}"
                );
            }
        }
    }

    #[test]
    fn panels_fill_the_width_and_do_not_overlap() {
        for board in boards::all() {
            board.check_layout();
        }
    }
}
