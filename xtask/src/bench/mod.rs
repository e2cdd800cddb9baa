//! `cargo xtask bench`: benchmarks that print a table. Each compares within one run and prints its own noise.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::check::cargo;

mod agent;
mod load;
mod overhead;
mod process;

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Captured chunks in, finished spans out, one core: requests per second, allocations per request
    Pipeline,
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
            let mut bench = cargo(root);
            bench.args(["bench", "--quiet", "--package", "agent-pipeline", "--bench", "pipeline"]);
            let status = bench.status().context("run cargo bench")?;
            if status.success() { Ok(()) } else { bail!("cargo bench: {status}") }
        }
        Bench::Overhead { quick } => overhead::run(root, *quick),
    }
}
