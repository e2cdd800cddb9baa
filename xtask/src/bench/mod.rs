//! `cargo xtask bench`: benchmarks that print a table. Each compares within one run and prints its own noise.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::check::cargo;
use load::Protocol;

mod agent;
mod export;
mod load;
mod overhead;
mod process;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Captured chunks in, spans and encoded OTLP out, one core: requests per second, allocations per request
    Pipeline {
        /// Only this protocol: http, redis, dns
        #[arg(long)]
        protocol: Option<String>,
    },
    /// What exporting costs, to a real Collector: CPU and bytes per span, and memory while there is none
    Export {
        /// Shorter runs: a look, not a figure
        #[arg(long)]
        quick: bool,
    },
    /// What a server, the agent and a bystander pay: real load without and with Skep, in alternation
    Overhead {
        /// Fewer and shorter runs: a look, not a figure
        #[arg(long)]
        quick: bool,
        /// What is spoken
        #[arg(long, value_enum, default_value = "http")]
        protocol: Protocol,
    },
}

pub(crate) fn run(root: &Path, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Pipeline { protocol } => {
            for (package, bench) in [("agent-pipeline", "pipeline"), ("skep", "otlp")] {
                let mut cargo = cargo(root);
                cargo.args(["bench", "--quiet", "--package", package, "--bench", bench, "--"]);
                cargo.args(protocol);
                let status = cargo.status().context("run cargo bench")?;
                if !status.success() {
                    bail!("cargo bench: {status}");
                }
            }
            Ok(())
        }
        Bench::Export { quick } => export::run(root, *quick),
        Bench::Overhead { quick, protocol } => overhead::run(root, *quick, *protocol),
    }
}
