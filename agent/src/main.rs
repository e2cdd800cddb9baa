//! The `skep` command: argv in, exit code out (0 done, 1 failed, 2 bad usage).

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, Parser};
use skep::cli::{Cli, Command, ConfigCommand, TopArgs};
use skep::config::{Config, LogConfig, LogFormat};
use skep::reload::Reloader;
use skep::settings::flags::Flags;
use skep::settings::load::{self, environment};
use skep::settings::problem::Problems;
use skep::settings::rows::output::{LOG_FORMAT, PRINT};
use skep::settings::rows::run::CONFIG;
use skep::settings::rows::views::KEEP;
use skep::settings::value::{Settings, Value};
use skep::settings::{docs, print, schema};
use skep::top::Which;
use skep::{check, logging, protocols};

const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    let started = Instant::now();
    match Cli::parse().command {
        Command::Run(flags) => run(&flags, started),
        Command::Top(arguments) => top(&arguments),
        Command::Check { programs } => {
            logging::start(LogConfig { format: LogFormat::Text, level: log::LevelFilter::Info });
            let report = check::check(programs);
            print(report.text.as_bytes());
            if report.can_run { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Command::Protocols { json } => {
            print(if json { protocols::json() } else { protocols::text() }.as_bytes());
            ExitCode::SUCCESS
        }
        Command::Config { command } => config(command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "skep", &mut script);
            print(&script);
            ExitCode::SUCCESS
        }
    }
}

fn run(flags: &Flags, started: Instant) -> ExitCode {
    let read = settings(flags)
        .and_then(|(settings, config)| config.selection.check().map(|()| (settings, config)))
        .map_err(|problems| tell(&problems));
    let Ok((settings, config)) = read else { return ExitCode::from(BAD_USAGE) };
    match skep::run(config, Reloader::new(flags.clone(), settings), started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn top(arguments: &TopArgs) -> ExitCode {
    let which = match arguments.attach {
        Some(pid) => Which::Pid(pid),
        None if arguments.flags.is_empty() => Which::Any,
        None => {
            // The run reads and checks the flags itself.
            let mut flags = arguments.flags.clone();
            flags.set(&PRINT, "none");
            flags.set(&KEEP, "true");
            Which::Own(flags.to_arguments())
        }
    };
    match skep::top::run(which, arguments.once) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::start(LogConfig { format: LogFormat::Text, level: log::LevelFilter::Info });
            log::error!("{}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn config(command: ConfigCommand) -> ExitCode {
    let settings = match command {
        ConfigCommand::Schema => {
            print(schema::schema().as_bytes());
            return ExitCode::SUCCESS;
        }
        ConfigCommand::Docs => {
            print(docs::page().as_bytes());
            return ExitCode::SUCCESS;
        }
        ConfigCommand::Print(flags) => settings(&flags).map(|(settings, _)| print::print(&settings)),
        ConfigCommand::Check { file, mut flags } => {
            if let Some(file) = file {
                flags.set(&CONFIG, file);
            }
            settings(&flags).map(|_| "no problems\n".to_owned())
        }
    };
    match settings {
        Ok(text) => {
            print(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(problems) => {
            tell(&problems);
            ExitCode::from(BAD_USAGE)
        }
    }
}

/// Reads all sources and starts logging as they say; also where they are wrong, so that this can be told.
fn settings(flags: &Flags) -> Result<(Settings, Config), Problems> {
    let loaded = load::load(flags, &environment).and_then(|(settings, warnings)| {
        let config = Config::new(&settings)?;
        Ok((settings, warnings, config))
    });
    match loaded {
        Ok((settings, warnings, config)) => {
            logging::start(config.log);
            let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
            for warning in warnings.into_iter().chain(load::misspelt_variables(names)) {
                log::warn!("{warning}");
            }
            Ok((settings, config))
        }
        Err(problems) => {
            let format = match load::early(&LOG_FORMAT, flags, &environment) {
                Some(Value::Text(word)) => LogFormat::from_word(&word),
                _ => LogFormat::Text,
            };
            logging::start(LogConfig { format, level: log::LevelFilter::Info });
            Err(problems)
        }
    }
}

fn tell(problems: &Problems) {
    problems.lines().iter().for_each(|line| log::error!("{line}"));
}

/// The error and its causes; a cause that the text before it already tells is left out.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text.replace('\n', " ")
}

fn print(bytes: &[u8]) {
    // `skep completions | head` may close early; that is nobody's error.
    let _ = std::io::stdout().lock().write_all(bytes);
}
