//! Types and ranges of settings: text or a part of the file in, a checked [`Value`] or what is allowed out.

use std::fmt::Write as _;
use std::time::Duration;

use super::value::{Record, Value};
use super::yaml::{Data, Node};
use super::{nearest, yaml};
use crate::discovery::resource::percent_decode;

/// Says whether a text is one, or what would be.
pub type Check = fn(&str) -> Result<(), String>;

/// Type and range of a setting.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A number without fraction, both ends included.
    Integer {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A number, both ends included.
    Number {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
    },
    /// Bytes; `K`, `M` and `G` multiply by 1024.
    Size {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// Only powers of two.
        power_of_two: bool,
    },
    /// A time: `500ms`, `10s`, `1m`, `2h`, or a bare number.
    Duration {
        /// What a bare number counts.
        bare: Unit,
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
    /// One of these words, each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
    /// Text that a function checks.
    Text(Check),
    /// Names and texts. In flags and variables `name=text`, percent-encoded, commas between.
    Map(fn(&str, &str) -> Result<(), String>),
    /// Several. The flag is repeated; commas between in the variable; a list in the file.
    List(&'static Kind),
    /// Several mappings with these keys. Flag and variable take them as YAML in one line.
    Records(&'static [Field]),
}

/// One key of a mapping in a list.
#[derive(Debug)]
pub struct Field {
    /// Name.
    pub key: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// A line without full stop.
    pub help: &'static str,
}

/// What a bare number of a duration counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds, as in OpenTelemetry's variables.
    Milliseconds,
}

/// Any text that is not empty.
pub fn any_text(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("give a text that is not empty".into()) } else { Ok(()) }
}

/// Any name and text.
pub fn any_pair(name: &str, _: &str) -> Result<(), String> {
    if name.is_empty() { Err("give a name before the `=`".into()) } else { Ok(()) }
}

impl Kind {
    /// Reads the value of a flag, a variable or a default. The error says what is allowed.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        match *self {
            Self::List(item) => text
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(|part| item.parse(part).map_err(|error| format!("{part}: {error}")))
                .collect::<Result<_, _>>()
                .map(Value::List),
            Self::Map(check) => parse_map(text, check),
            Self::Records(_) => {
                let node = yaml::parse(text, &|_| None).map_err(|error| error.message)?;
                let mut faults = Vec::new();
                let value = self.read(&node, "", &mut faults);
                match (faults.into_iter().next(), value) {
                    (Some(fault), _) => Err(fault.message),
                    (None, Some(value)) => Ok(value),
                    (None, None) => Ok(Value::Records(Vec::new())),
                }
            }
            _ => self.parse_one(text.trim()).ok_or_else(|| self.allowed()).and_then(|value| {
                match (self, value) {
                    (Self::Text(check), Value::Text(text)) => check(&text).map(|()| Value::Text(text)),
                    (_, value) => Ok(value),
                }
            }),
        }
    }

    fn parse_one(&self, text: &str) -> Option<Value> {
        match *self {
            Self::Bool => match text.to_ascii_lowercase().as_str() {
                "true" => Some(Value::Bool(true)),
                "false" => Some(Value::Bool(false)),
                _ => None,
            },
            Self::Integer { min, max } => {
                text.parse().ok().filter(|number| (min..=max).contains(number)).map(Value::Integer)
            }
            Self::Number { min, max } => {
                text.parse().ok().filter(|number| (min..=max).contains(number)).map(Value::Number)
            }
            Self::Size { min, max, power_of_two } => parse_size(text)
                .filter(|bytes| (min..=max).contains(bytes) && (!power_of_two || bytes.is_power_of_two()))
                .map(Value::Integer),
            Self::Duration { bare, min, max } => {
                parse_duration(text, bare).filter(|time| (min..=max).contains(time)).map(Value::Duration)
            }
            Self::Choice(words) => {
                words.iter().find(|(word, _)| *word == text).map(|(word, _)| Value::Text((*word).to_owned()))
            }
            Self::Text(_) => Some(Value::Text(text.to_owned())),
            Self::Map(_) | Self::List(_) | Self::Records(_) => None,
        }
    }

    /// What may be given, as the end of a message that begins with what was.
    pub fn allowed(&self) -> String {
        match *self {
            Self::Bool => "give true or false".into(),
            Self::Integer { min, max } => format!("give a number from {min} to {max}"),
            Self::Number { min, max } => format!("give a number from {min} to {max}"),
            Self::Size { min, max, power_of_two } => {
                let what = if power_of_two { "a power of two" } else { "a size" };
                format!("give {what} from {} to {}, such as 4M", show_size(min), show_size(max))
            }
            Self::Duration { bare, min, max } => {
                let unit = if bare == Unit::Seconds { "seconds" } else { "milliseconds" };
                let (min, max) = (show_duration(min), show_duration(max));
                format!("give a time from {min} to {max}, such as 10s or 500ms; a bare number counts {unit}")
            }
            Self::Choice(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                format!("give one of {}", words.join(", "))
            }
            Self::Text(_) => "give a text".into(),
            Self::Map(_) => "give names and texts".into(),
            Self::List(item) => format!("give a list; for each item, {}", item.allowed()),
            Self::Records(_) => "give a list of mappings".into(),
        }
    }

    /// Type and range in few words, for tables.
    pub fn show(&self) -> String {
        match *self {
            Self::Bool => "true or false".into(),
            Self::Integer { min, max: u64::MAX } => format!("number from {min}"),
            Self::Integer { min, max } => format!("number, {min} to {max}"),
            Self::Number { min, max } => format!("number, {min} to {max}"),
            Self::Size { min, max, power_of_two } => {
                let what = if power_of_two { "size, a power of two" } else { "size" };
                format!("{what}, {} to {}", show_size(min), show_size(max))
            }
            Self::Duration { min, max, .. } => {
                format!("time, {} to {}", show_duration(min), show_duration(max))
            }
            Self::Choice(words) => {
                words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
            Self::Text(_) => "text".into(),
            Self::Map(_) => "names and texts".into(),
            Self::List(item) => format!("list of: {}", item.show()),
            Self::Records(_) => "list of mappings".into(),
        }
    }
}

/// Something in the file that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    /// The key, with an index where it is in a list.
    pub(super) path: String,
    pub(super) message: String,
}

impl Kind {
    /// Reads a part of the file. `None` without a fault: it says `null`.
    pub(super) fn read(&self, node: &Node, path: &str, faults: &mut Vec<Fault>) -> Option<Value> {
        if node.is_null() {
            return None;
        }
        let mut fault = |line: usize, message: String| {
            faults.push(Fault { line, path: path.to_owned(), message });
        };
        match (self, &node.data) {
            (Self::List(item), Data::Sequence(nodes)) => {
                let items = nodes.iter().enumerate();
                Some(Value::List(
                    items.filter_map(|(index, node)| item.read(node, &at(path, index), faults)).collect(),
                ))
            }
            // One value stands for a list of one.
            (Self::List(item), Data::Scalar { .. }) => {
                Some(Value::List(vec![item.read(node, path, faults)?]))
            }
            (Self::Map(check), Data::Mapping(entries)) => {
                let mut pairs = Vec::new();
                for entry in entries {
                    match &entry.value.data {
                        Data::Scalar { text, .. } => match check(&entry.key, text) {
                            Ok(()) => pairs.push((entry.key.clone(), text.clone())),
                            Err(message) => fault(entry.line, format!("{}: {message}", entry.key)),
                        },
                        _ => fault(entry.line, format!("{}: {}: give a text", entry.key, entry.value.what())),
                    }
                }
                Some(Value::Map(pairs))
            }
            (Self::Records(fields), Data::Sequence(nodes)) => {
                let records = nodes.iter().enumerate();
                Some(Value::Records(
                    records
                        .filter_map(|(index, node)| read_record(fields, node, &at(path, index), faults))
                        .collect(),
                ))
            }
            (Self::Records(fields), Data::Mapping(_)) => {
                Some(Value::Records(vec![read_record(fields, node, path, faults)?]))
            }
            (Self::List(_) | Self::Map(_) | Self::Records(_), _) => {
                fault(node.line, format!("{}: {}", node.what(), self.allowed()));
                None
            }
            (_, Data::Scalar { text, .. }) => match self.parse(text) {
                Ok(value) => Some(value),
                Err(message) => {
                    fault(node.line, format!("{text}: {message}"));
                    None
                }
            },
            (_, _) => {
                fault(node.line, format!("{}: {}", node.what(), self.allowed()));
                None
            }
        }
    }
}

fn at(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

fn read_record(fields: &'static [Field], node: &Node, path: &str, faults: &mut Vec<Fault>) -> Option<Record> {
    let Data::Mapping(entries) = &node.data else {
        let message = format!("{}: give a mapping", node.what());
        faults.push(Fault { line: node.line, path: path.to_owned(), message });
        return None;
    };
    let mut record = Record { line: node.line, fields: Vec::new() };
    for entry in entries {
        let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
        match fields.iter().find(|field| field.key == entry.key) {
            Some(field) => {
                if let Some(value) = field.kind.read(&entry.value, &path, faults) {
                    record.fields.push((field.key, value));
                }
            }
            None => {
                let message = unknown(&entry.key, fields.iter().map(|field| field.key));
                faults.push(Fault { line: entry.line, path, message });
            }
        }
    }
    Some(record)
}

/// What to say of a key that does not exist.
pub(super) fn unknown<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(key, known.clone()) {
        Some(word) => format!("there is no such key: did you mean {word}?"),
        None => {
            let known: Vec<_> = known.collect();
            format!("there is no such key; known here: {}", known.join(", "))
        }
    }
}

/// `name=text,name=text`, texts percent-encoded, as OpenTelemetry's variables have it.
fn parse_map(text: &str, check: fn(&str, &str) -> Result<(), String>) -> Result<Value, String> {
    let mut pairs = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        // What stands behind the `=` may be a secret and is not repeated.
        let (name, text) = pair.split_once('=').ok_or("give name=value, with commas between several")?;
        let (name, text) = (name.trim(), text.trim());
        let text = percent_decode(text.as_bytes())
            .ok_or_else(|| format!("{name}: the percent-encoding is broken"))?;
        check(name, &text)?;
        pairs.push((name.to_owned(), text));
    }
    Ok(Value::Map(pairs))
}

fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// One number with a unit, or several: `1m30s`.
fn parse_duration(text: &str, bare: Unit) -> Option<Duration> {
    const UNITS: &[(&str, f64)] =
        &[("ms", 1e-3), ("us", 1e-6), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
    if let Ok(number) = text.parse::<f64>() {
        let seconds = if bare == Unit::Seconds { number } else { number / 1000.0 };
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, seconds) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total += number * seconds;
    }
    Duration::try_from_secs_f64(total).ok()
}

/// `4M`
pub(super) fn show_size(bytes: u64) -> String {
    for (unit, shift) in [("G", 30), ("M", 20), ("K", 10)] {
        if bytes != 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// `1m30s`
pub(super) fn show_duration(time: Duration) -> String {
    let mut text = String::new();
    let (seconds, micros) = (time.as_secs(), u64::from(time.subsec_micros()));
    let parts =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let small = [(micros / 1000, "ms"), (micros % 1000, "us")];
    for (number, unit) in parts.into_iter().chain(small).filter(|&(number, _)| number != 0) {
        let _ = write!(text, "{number}{unit}");
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Kind = Kind::Duration {
        bare: Unit::Seconds,
        min: Duration::from_micros(1),
        max: Duration::from_secs(365 * 86_400),
    };

    #[test]
    fn times_have_units_and_come_back_as_they_are_shown() {
        for (text, ms) in
            [("1.5", 1500), ("500ms", 500), ("1m30s", 90_000), ("2h", 7_200_000), ("1d", 86_400_000)]
        {
            let time = Duration::from_millis(ms);
            assert_eq!(TIME.parse(text), Ok(Value::Duration(time)), "{text}");
            assert_eq!(TIME.parse(&show_duration(time)), Ok(Value::Duration(time)), "{text}");
        }
        for bad in ["", "-1", "0", "NaN", "inf", "1e300", "5x", "s", "1..2s", "1 m"] {
            assert!(TIME.parse(bad).unwrap_err().contains("give a time from 1us to 365d"), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units_and_come_back_as_they_are_shown() {
        let kind = Kind::Size { min: 1024, max: 1 << 31, power_of_two: false };
        for (text, bytes) in [("1024", 1024), ("3k", 3072), ("4M", 4 << 20), ("2G", 2 << 30), ("1025", 1025)]
        {
            assert_eq!(kind.parse(text), Ok(Value::Integer(bytes)), "{text}");
            assert_eq!(kind.parse(&show_size(bytes)), Ok(Value::Integer(bytes)), "{text}");
        }
        for bad in ["", "K", "1", "3G", "-1", "99999999999999999999G", "é"] {
            assert!(kind.parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn maps_are_percent_encoded_and_errors_tell_no_value() {
        let kind = Kind::Map(any_pair);
        let pairs = vec![("a".to_owned(), "1 2".to_owned()), ("b".to_owned(), "=".to_owned())];
        assert_eq!(kind.parse("a=1%202, b==,"), Ok(Value::Map(pairs)));
        for bad in ["secret", "a=%zsecret", "=secret", "a=%f", "a=%+1"] {
            assert!(!kind.parse(bad).unwrap_err().contains("secret"), "{bad}");
        }
    }
}
