//! The flags, made from the table for clap: help, headings, defaults and completions come from the rows.

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::kind::Kind;
use super::value::Value;
use super::{Setting, all, rows};

/// Which flags were given, with their values as they were typed.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    given: Vec<(&'static Setting, Vec<String>)>,
}

impl Flags {
    /// What was given for a row.
    pub(super) fn texts(&self, row: &'static Setting) -> Option<&[String]> {
        self.given.iter().find(|(known, _)| std::ptr::eq(*known, row)).map(|(_, texts)| texts.as_slice())
    }

    /// Whether no flag was given.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// The flags as arguments of another command that knows them.
    pub fn to_arguments(&self) -> Vec<String> {
        let each = |(row, texts): &(&'static Setting, Vec<String>)| {
            texts.iter().map(|text| format!("--{}={text}", row.flag)).collect::<Vec<_>>()
        };
        self.given.iter().flat_map(each).collect()
    }

    /// As if the flag of a row had been given.
    pub fn set(&mut self, row: &'static Setting, text: impl Into<String>) {
        self.given.retain(|(known, _)| !std::ptr::eq(*known, row));
        self.given.push((row, vec![text.into()]));
    }
}

impl Args for Flags {
    fn augment_args(mut command: Command) -> Command {
        for section in rows::SECTIONS {
            for setting in section.rows {
                command = command.arg(argument(setting).help_heading(section.heading));
            }
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in all() {
            if matches.value_source(setting.flag) == Some(ValueSource::CommandLine) {
                let texts = matches.get_many::<String>(setting.flag).into_iter().flatten().cloned().collect();
                self.given.push((setting, texts));
            }
        }
        Ok(())
    }
}

fn argument(setting: &'static Setting) -> Arg {
    let place = match setting.key {
        "" => String::new(),
        key => format!("; in the file: {key}"),
    };
    let long = format!("{}\n\n[variable: {}{place}]", setting.help, setting.variable());
    let argument = Arg::new(setting.flag)
        .long(setting.flag)
        .value_name(setting.value_name)
        .help(setting.short_help())
        .long_help(long)
        .hide_short_help(setting.rare);
    let argument = match setting.default {
        Some(default) if !matches!(setting.kind, Kind::Bool) => argument.default_value(default),
        _ => argument,
    };
    match setting.kind {
        Kind::Bool => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(["true", "false"])
            .hide_possible_values(true),
        Kind::Choice(words) => argument.value_parser(PossibleValuesParser::new(
            words.iter().map(|&(word, help)| PossibleValue::new(word).help(help)),
        )),
        Kind::List(_) | Kind::Map(_) | Kind::Records(_) => argument.action(ArgAction::Append),
        _ => match setting.missing {
            Some(missing) => argument.num_args(0..=1).default_missing_value(missing),
            None => argument,
        },
    }
}

impl Kind {
    /// One use of a flag that may be repeated is one item.
    pub(super) fn parse_flag(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::List(item) => item.parse(text).map(|value| Value::List(vec![value])),
            _ => self.parse(text),
        }
    }
}

impl Value {
    /// What two uses of a flag say together.
    pub(super) fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::List(one), Self::List(two)) => Self::List([one, two].concat()),
            (Self::Map(one), Self::Map(two)) => Self::Map([one, two].concat()),
            (Self::Records(one), Self::Records(two)) => Self::Records([one, two].concat()),
            (_, last) => last,
        }
    }
}
