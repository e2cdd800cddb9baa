//! The `skep` command: argv in, exit code out (0 done, 1 failed, 2 bad usage).

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, Parser};
use skep::cli::{Cli, Command, LogFormatArg, RunArgs};
use skep::config::Config;
use skep::{check, logging};

fn main() -> ExitCode {
    let started = Instant::now();
    match Cli::parse().command {
        Command::Run(args) => run(&args, started),
        Command::Check => {
            logging::start(LogFormatArg::Text.into());
            let report = check::check();
            print(report.text.as_bytes());
            if report.can_run { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "skep", &mut script);
            print(&script);
            ExitCode::SUCCESS
        }
    }
}

fn run(args: &RunArgs, started: Instant) -> ExitCode {
    logging::start(args.log_format.into());
    let config = match Config::from_args(args) {
        Ok(config) => config,
        Err(error) => {
            log::error!("{error}");
            return ExitCode::from(2);
        }
    };
    match skep::run(config, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{}", one_line(&error));
            ExitCode::FAILURE
        }
    }
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
