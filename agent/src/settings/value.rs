//! What was set, typed, with the place where it was said.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Setting;

/// A value after its kind has checked it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A count or a size in bytes.
    Integer(u64),
    /// Any number.
    Number(f64),
    /// A time.
    Duration(Duration),
    /// Text, a choice included.
    Text(String),
    /// Several of one kind.
    List(Vec<Value>),
    /// Names and texts, in the order given.
    Map(Vec<(String, String)>),
    /// Several mappings with known keys.
    Records(Vec<Record>),
}

/// One mapping of a list of mappings.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it begins, in the text that it came from.
    pub line: usize,
    /// What was given, by the field's name.
    pub fields: Vec<(&'static str, Value)>,
}

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: the table's default.
    Default,
    /// In the file, at a line.
    File(usize),
    /// In this variable.
    Variable(String),
    /// With this flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(line) => write!(f, "file, line {line}"),
            Self::Variable(name) => write!(f, "{name}"),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// A value and where it was said.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// What.
    pub value: Value,
    /// Where.
    pub source: Source,
}

/// The settings that hold: of each row, the value of the strongest source.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub(super) given: Vec<(&'static Setting, Given)>,
    /// The file that was read.
    pub file: Option<PathBuf>,
}

/// A type that a [`Value`] can be read as.
pub trait FromValue: Sized {
    /// `None`: the row is of another kind.
    fn from_value(value: &Value) -> Option<Self>;
}

impl Settings {
    /// What a row says, and who said so; `None` where it is not set.
    pub fn given(&self, row: &'static Setting) -> Option<&Given> {
        self.given.iter().find(|(known, _)| std::ptr::eq(*known, row)).map(|(_, given)| given)
    }

    /// Where a row's value stands, for messages: `skep.yaml:7: filters.traces`, `--filter-traces`, `SKEP_FILTER_TRACES`.
    pub fn place(&self, row: &'static Setting, line: usize) -> String {
        match (self.given(row).map(|given| &given.source), &self.file) {
            (Some(Source::File(_)), Some(file)) => format!("{}:{line}: {}", file.display(), row.key),
            (Some(Source::Variable(name)), _) => name.clone(),
            (Some(Source::Flag(flag)), _) => format!("--{flag}"),
            _ => row.key.to_owned(),
        }
    }

    /// The rows that say something else here than there.
    pub fn differences(&self, other: &Self) -> Vec<&'static Setting> {
        let value = |settings: &Self, row| settings.given(row).map(|given| given.value.clone());
        super::all().filter(|row| value(self, row) != value(other, row)).collect()
    }

    /// Says of a row what the other settings say.
    pub fn take_from(&mut self, other: &Self, row: &'static Setting) {
        self.given.retain(|(known, _)| !std::ptr::eq(*known, row));
        self.given.extend(other.given(row).map(|given| (row, given.clone())));
    }

    /// What a row says, where it is set at all.
    pub fn get<T: FromValue>(&self, row: &'static Setting) -> Option<T> {
        let value = &self.given(row)?.value;
        // A test builds the configuration, which reads every row.
        Some(
            T::from_value(value)
                .unwrap_or_else(|| unreachable!("{} is not of the type that is read", row.flag)),
        )
    }

    /// What a row with a default says.
    pub fn need<T: FromValue>(&self, row: &'static Setting) -> T {
        self.get(row).unwrap_or_else(|| unreachable!("{} has no default", row.flag))
    }

    /// What a row of several values says; none where it is not set.
    pub fn list<T>(&self, row: &'static Setting) -> Vec<T>
    where
        Vec<T>: FromValue,
    {
        self.get(row).unwrap_or_default()
    }
}

/// Two that say the same are equal wherever they stand.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
}

impl Record {
    /// What a field says, where it is given.
    pub fn get<T: FromValue>(&self, name: &str) -> Option<T> {
        let (_, value) = self.fields.iter().find(|(known, _)| *known == name)?;
        Some(T::from_value(value).unwrap_or_else(|| unreachable!("{name} is not of the type that is read")))
    }

    /// What a field of several values says; none where it is not given.
    pub fn list<T>(&self, name: &str) -> Vec<T>
    where
        Vec<T>: FromValue,
    {
        self.get(name).unwrap_or_default()
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Bool(truth) = value { Some(*truth) } else { None }
    }
}

macro_rules! integers {
    ($($type:ty),*) => {
        $(impl FromValue for $type {
            fn from_value(value: &Value) -> Option<Self> {
                // The row's range says what fits.
                if let Value::Integer(n) = value { Some(Self::try_from(*n).unwrap_or(Self::MAX)) } else { None }
            }
        })*
    };
}
integers!(u16, u32, u64, usize);

impl FromValue for f64 {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Number(number) = value { Some(*number) } else { None }
    }
}

impl FromValue for Duration {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Duration(duration) = value { Some(*duration) } else { None }
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Text(text) = value { Some(text.clone()) } else { None }
    }
}

impl FromValue for PathBuf {
    fn from_value(value: &Value) -> Option<Self> {
        String::from_value(value).map(Self::from)
    }
}

impl FromValue for Vec<(String, String)> {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Map(pairs) = value { Some(pairs.clone()) } else { None }
    }
}

impl FromValue for Vec<Record> {
    fn from_value(value: &Value) -> Option<Self> {
        if let Value::Records(records) = value { Some(records.clone()) } else { None }
    }
}

macro_rules! lists {
    ($($type:ty),*) => {
        $(impl FromValue for Vec<$type> {
            fn from_value(value: &Value) -> Option<Self> {
                let Value::List(items) = value else { return None };
                items.iter().map(<$type>::from_value).collect()
            }
        })*
    };
}
lists!(u32, String);
