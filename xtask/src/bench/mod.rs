//! `cargo xtask bench`: benchmarks that print a table. Each compares within one run and prints its own noise.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::check::cargo;

mod agent;
mod export;
mod load;
mod overhead;
mod process;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Captured chunks in, spans and encoded OTLP out, one core: requests per second, allocations per request
    Pipeline,
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
    },
}

pub(crate) fn run(root: &Path, bench: &Bench) -> Result<()> {
    match bench {
        Bench::Pipeline => {
            for (package, bench) in [("agent-pipeline", "pipeline"), ("skep", "otlp")] {
                let mut cargo = cargo(root);
                cargo.args(["bench", "--quiet", "--package", package, "--bench", bench]);
                let status = cargo.status().context("run cargo bench")?;
                if !status.success() {
                    bail!("cargo bench: {status}");
                }
            }
            Ok(())
        }
        Bench::Export { quick } => export::run(root, *quick),
        Bench::Overhead { quick } => overhead::run(root, *quick),
    }
}
