//! Flags, variables, file and defaults → [`Settings`]: the strongest source wins, every problem is told.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::flags::Flags;
use super::problem::Problems;
use super::rows::run::CONFIG;
use super::value::{Given, Settings, Source, Value};
use super::{Setting, all, file, nearest, yaml};

/// Where variables come from: the environment, or a test.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process. What is empty counts as not set, as OpenTelemetry has it.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads everything. The texts that come along are warnings.
pub fn load(flags: &Flags, variables: Variables<'_>) -> Result<(Settings, Vec<String>), Problems> {
    let (mut problems, mut warnings) = (Problems::default(), Vec::new());
    let mut file_given = Vec::new();
    let path = config_path(flags, variables);
    if let Some(path) = &path {
        file_given = read_file(path, variables, &mut problems);
    }
    let mut settings = Settings { given: Vec::new(), file: path };
    for setting in all() {
        let from_variable = from_variable(setting, variables, &mut problems, &mut warnings);
        let from_flag = from_flag(setting, flags, &mut problems);
        let from_file = || {
            file_given.iter().find(|(known, _)| std::ptr::eq(*known, setting)).map(|(_, given)| given.clone())
        };
        let given = from_flag.or(from_variable).or_else(from_file).or_else(|| default(setting));
        if let Some(given) = given {
            settings.given.push((setting, given));
        }
    }
    problems.check()?;
    Ok((settings, warnings))
}

/// One setting before all others are known, from flag and variable alone; problems are told later.
pub fn early(setting: &'static Setting, flags: &Flags, variables: Variables<'_>) -> Option<Value> {
    let mut problems = Problems::default();
    let from_flag = from_flag(setting, flags, &mut problems);
    let given = from_flag.or_else(|| from_variable(setting, variables, &mut problems, &mut Vec::new()));
    given.or_else(|| default(setting)).map(|given| given.value)
}

/// Variables that are nearly one of ours: probably a typing error.
pub fn misspelt_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let known: Vec<String> = all().map(Setting::variable).collect();
    names
        .filter(|name| name.starts_with("SKEP_") && !known.contains(name))
        .filter_map(|name| {
            let meant = nearest(
                &name["SKEP_".len()..],
                known.iter().filter_map(|known| known.strip_prefix("SKEP_")),
            )?;
            Some(format!("the variable {name} is no setting: did you mean SKEP_{meant}?"))
        })
        .collect()
}

fn config_path(flags: &Flags, variables: Variables<'_>) -> Option<PathBuf> {
    match early(&CONFIG, flags, variables) {
        Some(Value::Text(path)) => Some(PathBuf::from(path)),
        _ => None,
    }
}

fn default(setting: &'static Setting) -> Option<Given> {
    // A test parses all defaults.
    let value = setting.kind.parse(setting.default?).ok()?;
    Some(Given { value, source: Source::Default })
}

fn from_flag(setting: &'static Setting, flags: &Flags, problems: &mut Problems) -> Option<Given> {
    let mut values = Vec::new();
    for text in flags.texts(setting)? {
        match setting.kind.parse_flag(text) {
            Ok(value) => values.push(value),
            Err(error) => problems.add(format!("--{} {}: {error}", setting.flag, shown(setting, text))),
        }
    }
    let value = values.into_iter().reduce(Value::join)?;
    Some(Given { value, source: Source::Flag(setting.flag) })
}

fn from_variable(
    setting: &'static Setting,
    variables: Variables<'_>,
    problems: &mut Problems,
    warnings: &mut Vec<String>,
) -> Option<Given> {
    let name = setting.variable();
    let text = variables(&name)?;
    match setting.kind.parse(&text) {
        Ok(value) => Some(Given { value, source: Source::Variable(name) }),
        Err(error) => {
            let message = format!("{name}={}: {error}", shown(setting, &text));
            // OpenTelemetry's own variables are for many programs: what one does not know it warns of and ignores.
            if setting.otel.is_some() {
                warnings.push(format!("{message}; it is ignored"));
            } else {
                problems.add(message);
            }
            None
        }
    }
}

/// What was given, unless that is a secret.
fn shown<'a>(setting: &Setting, text: &'a str) -> &'a str {
    if setting.secret { "(not shown)" } else { text }
}

fn read_file(
    path: &Path,
    variables: Variables<'_>,
    problems: &mut Problems,
) -> Vec<(&'static Setting, Given)> {
    let name = path.display();
    let text = match read_bounded(path) {
        Ok(text) => text,
        Err(error) => {
            problems.add(format!("read {name}: {error}"));
            return Vec::new();
        }
    };
    let (given, faults) = match yaml::parse(&text, variables) {
        Ok(root) => file::read(&root),
        Err(error) => {
            problems.add(format!("{name}:{}: {}", error.line, error.message));
            return Vec::new();
        }
    };
    for fault in faults {
        let path = if fault.path.is_empty() { String::new() } else { format!("{}: ", fault.path) };
        let secret = all().any(|setting| setting.secret && fault.path.starts_with(setting.key));
        let message = if secret { "the value is not allowed".to_owned() } else { fault.message };
        problems.add(format!("{name}:{}: {path}{message}", fault.line));
    }
    given
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let file = std::fs::File::open(path)?;
    // A FIFO or a device would never end.
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(yaml::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| std::io::Error::other("not UTF-8 text"))
}
