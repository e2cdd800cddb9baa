//! `skep config docs`: docs/configuration.md, an introduction and the table.

use std::fmt::Write as _;

use super::kind::{Field, Kind};
use super::{Setting, rows};

/// The page.
pub fn page() -> String {
    let mut out = String::from(include_str!("introduction.md"));
    for section in rows::SECTIONS {
        let _ = write!(out, "\n### {}\n\n", section.heading);
        if !section.about.is_empty() {
            let _ = writeln!(out, "{}\n", section.about);
        }
        out.push_str("| key | flag, variable | value | default | on SIGHUP |\n|---|---|---|---|---|\n");
        for setting in section.rows {
            let _ = writeln!(out, "{}", row(setting));
        }
        for setting in section.rows {
            write_more(&mut out, setting);
        }
    }
    out
}

fn row(setting: &Setting) -> String {
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    format!(
        "| {} | `--{}`<br>`{}` | {} | {} | {} |",
        code(setting.key),
        setting.flag,
        setting.variable(),
        setting.kind.show().replace('|', "\\|"),
        setting.default.map(code).unwrap_or_default(),
        if setting.reload { "applied" } else { "restart" },
    )
}

fn write_more(out: &mut String, setting: &Setting) {
    let name = if setting.key.is_empty() { format!("--{}", setting.flag) } else { setting.key.to_owned() };
    let mut paragraphs = setting.help.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let _ = write!(out, "\n**`{name}`**: {first}.");
    for paragraph in paragraphs {
        let _ = write!(out, " {paragraph}.");
    }
    out.push('\n');
    match setting.kind {
        Kind::Choice(words) => {
            out.push('\n');
            for (word, meaning) in words {
                let _ = writeln!(out, "- `{word}`: {meaning}");
            }
        }
        Kind::Records(fields) => write_fields(out, fields),
        _ => {}
    }
}

fn write_fields(out: &mut String, fields: &[Field]) {
    out.push_str("\n| key | value | what |\n|---|---|---|\n");
    for field in fields {
        let _ =
            writeln!(out, "| `{}` | {} | {} |", field.key, field.kind.show().replace('|', "\\|"), field.help);
    }
}

#[cfg(test)]
mod tests {
    /// With SKEP_UPDATE_DOCS the file is written anew.
    fn check(path: &str, expected: &str) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(path);
        if std::env::var_os("SKEP_UPDATE_DOCS").is_some() {
            std::fs::write(&path, expected).unwrap();
        }
        let actual = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            actual == expected,
            "{} is not up to date: SKEP_UPDATE_DOCS=1 cargo test -p skep --lib settings",
            path.display()
        );
    }

    #[test]
    fn the_page_is_up_to_date() {
        check("configuration.md", &super::page());
    }

    #[test]
    fn the_schema_is_up_to_date() {
        check("config.schema.json", &super::super::schema::schema());
    }
}
