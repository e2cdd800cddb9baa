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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Variables that the tests may use.
    fn variable(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8081".into()),
            "LIST" => Some("[1, 2]".into()),
            _ => None,
        }
    }

    fn read(name: &str, text: &str) -> Result<(Settings, Config), Problems> {
        let path = std::env::temp_dir().join(format!("skep-load-{}-{name}.yaml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let mut flags = Flags::default();
        flags.set(&CONFIG, path.display().to_string());
        let settings = load(&flags, &variable);
        std::fs::remove_file(&path).unwrap();
        let (settings, warnings) = settings?;
        assert!(warnings.is_empty(), "{warnings:?}");
        let config = Config::new(&settings)?;
        Ok((settings, config))
    }

    /// A snippet, then what is said of it: a line number and parts of the message for each problem.
    type Case = (&'static str, &'static [(usize, &'static [&'static str])]);

    const CASES: &[Case] = &[
        // Keys.
        ("limits:\n  ringsize: 4M\n", &[(2, &["limits.ringsize", "did you mean ring_size?"])]),
        ("ring_size: 4M\n", &[(1, &["ring_size", "did you mean limits.ring_size?"])]),
        ("Limits:\n  ring_size: 4M\n", &[(1, &["Limits", "did you mean limits?"])]),
        ("xyzzy: 1\n", &[(1, &["xyzzy", "known here: selection"])]),
        ("selection:\n  rules:\n    - exe: a\n", &[(3, &["selection.rules[0].exe", "did you mean exes?"])]),
        ("log:\n  level: info\n  level: warn\n", &[(3, &["level is given twice"])]),
        ("log:\n  level: info\nlog:\n  format: json\n", &[(3, &["log is given twice"])]),
        // Types.
        ("limits: 4\n", &[(1, &["limits: 4: give a mapping"])]),
        ("limits:\n  ring_size: [4M]\n", &[(2, &["limits.ring_size: a list", "power of two"])]),
        ("limits:\n  ring_size: {a: 1}\n", &[(2, &["limits.ring_size: a mapping"])]),
        ("output:\n  summary: maybe\n", &[(2, &["output.summary: maybe: give true or false"])]),
        ("output:\n  print: xml\n", &[(2, &["output.print: xml: give one of text, json, none"])]),
        ("selection:\n  rules: gunicorn\n", &[(2, &["selection.rules: gunicorn: give a list of mappings"])]),
        ("selection:\n  rules: [gunicorn]\n", &[(2, &["selection.rules[0]: gunicorn: give a mapping"])]),
        (
            "filters:\n  traces:\n    - drop: [a]\n",
            &[(3, &["filters.traces[0].drop: a list: give names and texts"])],
        ),
        // Ranges.
        (
            "limits:\n  ring_size: 3M\n",
            &[(2, &["limits.ring_size: 3M: give a power of two from 64K to 256M"])],
        ),
        ("limits:\n  max_connections: 0\n", &[(2, &["max_connections: 0: give a number from 1 to 1048576"])]),
        (
            "sampling:\n  sampler_arg: 1.5\n",
            &[(2, &["sampling.sampler_arg: 1.5: give a number from 0 to 1"])],
        ),
        ("sampling:\n  keep_slow: 5 parsecs\n", &[(2, &["keep_slow: 5 parsecs", "such as 10s or 500ms"])]),
        (
            "selection:\n  ports:\n    - 80\n    - 80-79\n",
            &[(4, &["selection.ports[1]: 80-79: give a port"])],
        ),
        ("selection:\n  exes: '[a'\n", &[(2, &["selection.exes: [a: a [ has no matching ]"])]),
        ("routes:\n  patterns: users\n", &[(2, &["routes.patterns: users", "must begin with `/`"])]),
        // What must hold together.
        (
            "selection:\n  rules:\n    - service_name: a\n",
            &[(3, &["selection.rules", "say which processes"])],
        ),
        (
            "selection:\n  rules:\n    - {exes: a}\n    - {exes: a, sampler_arg: 1}\n",
            &[(4, &["selection.rules", "sampler_arg without sampler"])],
        ),
        ("filters:\n  traces:\n    - {}\n", &[(3, &["filters.traces", "either keep or drop"])]),
        (
            "filters:\n  traces:\n    - drop: {url.pth: a}\n",
            &[(3, &["filters.traces[0].drop: url.pth", "did you mean url.path?"])],
        ),
        (
            "filters:\n  metrics:\n    - keep: {http.response.status_code: '>x'}\n",
            &[(3, &["filters.metrics[0].keep", "a number behind the comparison"])],
        ),
        // Variables.
        ("selection:\n  ports: ${NOPE}\n", &[(2, &["${NOPE}", "not set", "${NOPE:-…}"])]),
        ("selection:\n  ports: ${PORT\n", &[(2, &["without }", "$$"])]),
        ("selection:\n  ports: ${LIST}\n", &[(2, &["selection.ports: [1, 2]: give a port"])]),
        // YAML itself.
        ("a: [1\nb: 2\n", &[(2, &[])]),
        ("a: *b\n", &[(1, &["needs quotes"])]),
        ("a: &b 1\n", &[(1, &["anchors are not supported"])]),
        ("selection:\n  exes: !x\n", &[(2, &["tags are not supported", "needs quotes"])]),
        ("a: 1\n---\nb: 2\n", &[(2, &["a second document"])]),
        ("- a\n", &[(1, &["a list: give a mapping of keys"])]),
        ("log:\n\tlevel: info\n", &[(2, &[])]),
        // Several at once, in the order of the lines.
        (
            "log:\n  level: loud\nlimits:\n  ring_size: 1\n  btff: x\n",
            &[(2, &["loud"]), (4, &["ring_size"]), (5, &["did you mean btf?"])],
        ),
    ];

    #[test]
    fn everything_that_is_wrong_is_told_with_its_line() {
        for (index, (text, expected)) in CASES.iter().enumerate() {
            let problems = match read(&index.to_string(), text) {
                Err(problems) => problems.lines(),
                Ok(_) => panic!("accepted: {text}"),
            };
            assert_eq!(problems.len(), expected.len(), "{text}: {problems:?}");
            for (problem, (line, parts)) in problems.iter().zip(*expected) {
                assert!(
                    problem.contains(&format!("-{index}.yaml:{line}: ")),
                    "{text}: line {line}: {problem}"
                );
                for part in *parts {
                    assert!(problem.contains(part), "{text}: {part}: {problem}");
                }
            }
        }
    }

    #[test]
    fn what_is_right_is_taken() {
        let text =
            "selection:\n  ports: [\"${PORT}\", 9000-9010]\nsampling:\n  keep_slow: 1.5\nlog:\n  level: ~\n";
        let (settings, config) = read("right", text).unwrap();
        assert_eq!(config.selection.ports, [(8081, 8081), (9000, 9010)]);
        assert_eq!(config.gate.sampling.keep_slow_ns, Some(1_500_000_000));
        assert_eq!(config.log.level, log::LevelFilter::Info);
        let source = |key| settings.given(super::super::by_key(key).unwrap()).unwrap().source.clone();
        assert_eq!(source("selection.ports"), Source::File(2));
        assert_eq!(source("log.level"), Source::Default);
    }

    #[test]
    fn the_example_is_valid_and_says_what_it_seems_to_say() {
        let (_, config) = read("example", include_str!("../../../docs/skep.example.yaml")).unwrap();
        config.selection.check().unwrap();
        assert_eq!(config.selection.rules.len(), 3);
        let [shop, edge, metrics] = &config.selection.rules[..] else { panic!() };
        assert_eq!(shop.identity.service_name.as_deref(), Some("shop"));
        assert_eq!(shop.identity.attributes[0], ("service.namespace".into(), "production".into()));
        assert!(edge.sampler.is_some() && metrics.no_traces && !metrics.no_metrics);
        assert!(!config.gate.traces.is_empty() && config.gate.sampling.keep_errors);
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let (settings, config) = read("print", include_str!("../../../docs/skep.example.yaml")).unwrap();
        let printed = super::super::print::print(&settings);
        let (_, again) = read("again", &printed).unwrap_or_else(|problems| panic!("{problems}\n{printed}"));
        assert_eq!(config.selection, again.selection);
        assert_eq!(config.gate, again.gate);
    }

    #[test]
    fn the_strongest_source_wins() {
        let flags = |text: &str| {
            let mut flags = Flags::default();
            if !text.is_empty() {
                flags.set(&super::super::rows::limits::RING_SIZE, text);
            }
            flags
        };
        let ring = |flags: &Flags, variable: Option<&str>| {
            let variables = |name: &str| variable.filter(|_| name == "SKEP_RING_SIZE").map(str::to_owned);
            let (settings, _) = load(flags, &variables).unwrap();
            let given = settings.given(&super::super::rows::limits::RING_SIZE).unwrap().clone();
            (given.value, given.source)
        };
        let size = |mega: u64| Value::Integer(mega << 20);
        assert_eq!(ring(&flags(""), None), (size(4), Source::Default));
        assert_eq!(ring(&flags(""), Some("8M")), (size(8), Source::Variable("SKEP_RING_SIZE".into())));
        assert_eq!(ring(&flags("16M"), Some("8M")), (size(16), Source::Flag("ring-size")));
    }

    #[test]
    fn a_standard_variable_that_is_not_understood_is_a_warning() {
        let variables = |name: &str| (name == "OTEL_TRACES_SAMPLER").then(|| "jaeger_remote".to_owned());
        let (settings, warnings) = load(&Flags::default(), &variables).unwrap();
        assert!(warnings[0].contains("OTEL_TRACES_SAMPLER=jaeger_remote") && warnings[0].contains("ignored"));
        let sampler = settings.given(&super::super::rows::sampling::SAMPLER).unwrap();
        assert_eq!(sampler.value, Value::Text("parentbased_always_on".into()));
    }

    #[test]
    fn a_variable_of_ours_with_a_typing_error_is_told() {
        let names = ["SKEP_RNG_SIZE", "SKEP_RING_SIZE", "PATH"].map(str::to_owned);
        let told = misspelt_variables(names.into_iter());
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("SKEP_RNG_SIZE") && told[0].contains("SKEP_RING_SIZE?"), "{told:?}");
    }

    #[test]
    fn files_that_are_none_are_refused() {
        for path in ["/nowhere/skep.yaml", "/dev/zero", "/tmp", "/proc/self/exe"] {
            let mut flags = Flags::default();
            flags.set(&CONFIG, path);
            let problems = load(&flags, &|_| None).unwrap_err();
            assert!(problems.to_string().contains(path), "{problems}");
        }
    }
}
