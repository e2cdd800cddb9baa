//! All settings of Skep: one table of rows ([`rows`]), and everything that comes from it.
//!
//! A row gives the key in the file, the flag, the variable, type, range and default, and the help text. From it come
//! the flag with its help (`flags`), the reader of the file (`file`), the reader of variables and the precedence
//! flag > variable > file > default (`load`), `skep config print|schema|docs` (`print`, `schema`, `docs`). To add a
//! setting: one row in `rows/`, one field in `config.rs` that reads it, and `SKEP_UPDATE_DOCS=1 cargo test -p skep
//! --lib settings` for the pages.

pub mod docs;
mod file;
pub mod flags;
pub mod kind;
pub mod load;
pub mod print;
pub mod problem;
pub mod rows;
pub mod schema;
mod substitute;
pub mod value;
mod yaml;

use kind::Kind;

/// One setting. `..ROW` fills in what is common.
#[derive(Debug)]
pub struct Setting {
    /// Place in the file, dots between the levels. Empty: not in the file.
    pub key: &'static str,
    /// Long flag, without dashes. The variable's name is made of it, where there is no standard one.
    pub flag: &'static str,
    /// The standard variable of OpenTelemetry, where there is one.
    pub otel: Option<&'static str>,
    /// Type and range.
    pub kind: Kind,
    /// As it would be typed; `None`: not set. Lists need none: they are empty.
    pub default: Option<&'static str>,
    /// What the flag means without a value; `None`: it needs one.
    pub missing: Option<&'static str>,
    /// What the help shows for the value.
    pub value_name: &'static str,
    /// A line without full stop; after a blank line, what `--help` and the pages add.
    pub help: &'static str,
    /// Left out of `-h`.
    pub rare: bool,
    /// Whether SIGHUP applies a change.
    pub reload: bool,
    /// Never printed.
    pub secret: bool,
}

/// What most rows have.
pub const ROW: Setting = Setting {
    key: "",
    flag: "",
    otel: None,
    kind: Kind::Bool,
    default: None,
    missing: None,
    value_name: "BOOL",
    help: "",
    rare: false,
    reload: false,
    secret: false,
};

/// Settings that belong together: a level of the file, a heading of the help.
#[derive(Debug)]
pub struct Section {
    /// Heading in the help and on the page.
    pub heading: &'static str,
    /// A sentence for the page, or none.
    pub about: &'static str,
    /// In the order in which they are shown.
    pub rows: &'static [&'static Setting],
}

impl Setting {
    /// The variable that sets it: OpenTelemetry's own where there is one, else `SKEP_` and the flag.
    pub fn variable(&self) -> String {
        match self.otel {
            Some(name) => name.to_owned(),
            None => format!("SKEP_{}", self.flag.to_ascii_uppercase().replace('-', "_")),
        }
    }

    /// The help's first line.
    pub fn short_help(&self) -> &'static str {
        self.help.split("\n\n").next().unwrap_or_default()
    }
}

/// All settings.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    rows::SECTIONS.iter().flat_map(|section| section.rows.iter().copied())
}

/// The setting at a key of the file.
pub fn by_key(key: &str) -> Option<&'static Setting> {
    all().find(|setting| !setting.key.is_empty() && setting.key == key)
}

/// Declares the rows of a section: a constant for each, and `ROWS` with all of them.
macro_rules! section {
    ($($name:ident = $setting:expr;)*) => {
        $(
            #[doc = concat!("The row `", stringify!($name), "`.")]
            pub static $name: $crate::settings::Setting = $setting;
        )*
        /// All rows, in the order in which they are shown.
        pub static ROWS: &[&$crate::settings::Setting] = &[$(&$name),*];
    };
}
pub(crate) use section;

/// The word of `words` that was probably meant: few letters differ.
pub(crate) fn nearest<'a>(typed: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    words
        .map(|word| (strsim::damerau_levenshtein(typed, word), word))
        .filter(|&(distance, word)| distance <= 1 + word.len() / 4)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_flags_and_variables_are_unique_and_well_formed() {
        let (mut keys, mut flags, mut variables) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for setting in all() {
            assert!(keys.insert(setting.key), "{} twice", setting.key);
            assert!(flags.insert(setting.flag), "{} twice", setting.flag);
            assert!(variables.insert(setting.variable()), "{} twice", setting.variable());
            assert!(setting.key.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.')));
            assert!(setting.flag.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')));
            assert!(setting.short_help().len() <= 100, "{}: the first line is long", setting.flag);
            assert!(!setting.short_help().is_empty() && !setting.help.ends_with('.'), "{}", setting.flag);
        }
        // A key is never both a value and a level.
        for key in &keys {
            assert!(!keys.iter().any(|other| other.starts_with(&format!("{key}."))), "{key}");
        }
    }

    #[test]
    fn defaults_are_valid() {
        for setting in all() {
            if let Some(default) = setting.default {
                setting.kind.parse(default).unwrap_or_else(|error| panic!("{}: {error}", setting.flag));
            }
        }
    }

    #[test]
    fn the_word_that_was_meant_is_found() {
        let words = || ["ring_size", "max_connections", "btf"].into_iter();
        assert_eq!(nearest("ringsize", words()), Some("ring_size"));
        assert_eq!(nearest("max_conections", words()), Some("max_connections"));
        assert_eq!(nearest("otlp", words()), None);
    }
}
