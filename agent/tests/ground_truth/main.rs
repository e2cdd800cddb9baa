//! Ground truth: real servers and real clients, the real agent, and a comparison one to one.
//!
//! `cargo test --release -p skep --test ground_truth -- [PART OF CASE OR SERVER]…`, as root. The agent is `SKEP_BIN`
//! or the one that cargo built; `GROUND_TRUTH_SEED` repeats a run, `GROUND_TRUTH_KEEP=DIR` keeps what the agent
//! printed; on an emulated machine `GROUND_TRUTH_SLOW=N` is more patient, and `GROUND_TRUTH_PREPARED` says that the
//! argument `prepare` has built everything before. The last line is `ground truth: N passed, N failed, N skipped`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test program that reports to a terminal"
)]

mod cases;
mod client;
mod compare;
mod harness;
mod own;
mod self_check;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod truth;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use cases::clients::{Client, Watched};
use cases::own::run_one;
use cases::{ON_EVERY_SERVER, chains, own as own_cases, special};
use harness::{Run, drive_cases, report, session};
use own::Model;
use own::io::FAMILIES;
use servers::{NAMES, Server};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if matches!(arguments.first().map(String::as_str), Some("serve" | "serve-fd" | "fetch")) {
        return match own::main(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    if arguments.first().is_some_and(|argument| argument == "prepare") {
        return prepare();
    }
    self_check::run();
    // SAFETY: geteuid always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        println!("ground truth needs root to attach: skipped\nground truth: 0 passed, 0 failed, 1 skipped");
        return ExitCode::SUCCESS;
    }
    let seed = std::env::var("GROUND_TRUTH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| truth::unix_ns() % 1_000_000_000);
    println!("seed {seed}, agent {}", support::skep::binary());
    raise_descriptor_limit();
    let filters = arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect();
    let run = Run::new(seed, filters);
    let began = Instant::now();
    if let Err(error) = all(&run) {
        run.wrong("the test itself", "", format!("{error:#}"));
    }
    println!("{} s", began.elapsed().as_secs());
    if report(&run) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Builds what servers and clients need and starts none: a virtual machine has neither time nor network for it.
fn prepare() -> ExitCode {
    for name in NAMES {
        if let Err(reason) = servers::command(name) {
            println!("{name}: {reason}");
        }
    }
    ExitCode::SUCCESS
}

fn all(run: &Run) -> Result<()> {
    let helper = servers::start_own("threads", "read-write")?;
    for name in NAMES {
        target(run, name, &helper)?;
    }
    odd_server(run, &helper)?;
    families(run, &helper)?;
    models(run, &helper)?;
    clients(run, Watched::Client)?;
    clients(run, Watched::Server)?;
    clients(run, Watched::Both)?;
    type Special = (&'static str, fn(&Run) -> Result<()>);
    let specials: &[Special] = &[
        ("older", special::before_attach),
        ("mid-stream", special::mid_stream),
        ("unselected", special::unselected),
        ("later", special::selected_later),
        ("tls", special::only_tls),
        ("compat", special::compat_calls),
        ("chain", chains::chain),
        ("client ends", chains::clients_end),
        ("identity", chains::named_by_environment),
    ];
    for (column, special) in specials {
        if run.wanted("special", column) {
            special(run)?;
        }
    }
    Ok(())
}

/// One of `apps/targets` with every case that it can have.
fn target(run: &Run, name: &'static str, helper: &Server) -> Result<()> {
    let mut wanted = Vec::new();
    for case in ON_EVERY_SERVER.iter().filter(|case| run.wanted(case.name, name)) {
        match (case.not_on)(name) {
            Some(reason) => run.skip(case.name, name, reason),
            None => wanted.push(*case),
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    match servers::start(name, helper.addr)? {
        Err(reason) => wanted.iter().for_each(|case| run.skip(case.name, name, &reason)),
        Ok(server) => {
            session(run, name, &[server.pid], |notes| drive_cases(notes, &wanted, &server, helper.addr))?;
        }
    }
    Ok(())
}

fn odd_server(run: &Run, helper: &Server) -> Result<()> {
    let wanted: Vec<_> =
        own_cases::ODD_SERVER.iter().copied().filter(|case| run.wanted(case.name, "own")).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let server = servers::start_own("threads", "read-write")?;
    session(run, "own", &[server.pid], |notes| drive_cases(notes, &wanted, &server, helper.addr))
}

/// Each family of system calls is a process; the agent watches them all.
fn families(run: &Run, helper: &Server) -> Result<()> {
    let mut started = Vec::new();
    for (family, _) in FAMILIES {
        let case: &'static str = format!("calls: {family}").leak();
        if run.wanted(case, "families") {
            started.push((case, servers::start_own("threads", family)?));
        }
    }
    if started.is_empty() {
        return Ok(());
    }
    let pids: Vec<u32> = started.iter().map(|(_, server)| server.pid).collect();
    session(run, "families", &pids, |notes| {
        for (case, server) in &started {
            run_one(notes, case, server, helper.addr, own_cases::family);
        }
    })
}

/// Each process model is a process; the agent watches them and their children.
fn models(run: &Run, helper: &Server) -> Result<()> {
    let mut started = Vec::new();
    for (name, model) in own::MODELS {
        let case: &'static str = format!("model: {name}").leak();
        if run.wanted(case, "models") {
            started.push((case, servers::start_own(name, "read-write")?));
        }
        if *model == Model::Fork && run.wanted("death of the process", "models") {
            started.push(("death of the process", servers::start_own(name, "read-write")?));
        }
    }
    if started.is_empty() {
        return Ok(());
    }
    let pids: Vec<u32> = started.iter().map(|(_, server)| server.pid).collect();
    session(run, "models", &pids, |notes| {
        for (case, server) in &started {
            let work = if *case == "death of the process" { own_cases::death } else { own_cases::model };
            run_one(notes, case, server, helper.addr, work);
        }
    })
}

/// Every client against the Go server (or the own one), either end or both watched.
fn clients(run: &Run, watched: Watched) -> Result<()> {
    let column = match watched {
        Watched::Client => "client end",
        Watched::Server => "server end",
        Watched::Both => "both ends",
    };
    let mut started = Vec::new();
    for name in cases::clients::NAMES {
        let case: &'static str = format!("client: {name}").leak();
        if !run.wanted(case, column) {
            continue;
        }
        match Client::start(name)? {
            Ok(client) => started.push((case, client)),
            Err(reason) => run.skip(case, column, &reason),
        }
    }
    if started.is_empty() {
        return Ok(());
    }
    let server = match servers::start("go", servers::start_own("threads", "read-write")?.addr)? {
        Ok(server) => server,
        Err(_) => servers::start_own("threads", "read-write")?,
    };
    let mut pids = Vec::new();
    if watched != Watched::Client {
        pids.push(server.pid);
    }
    if watched != Watched::Server {
        pids.extend(started.iter().map(|(_, client)| client.pid));
    }
    session(run, column, &pids, |notes| {
        for (case, client) in started {
            run.with(case, column, |_| {});
            if let Err(error) = client.drive(notes, case, server.addr, watched, &server.pids) {
                run.wrong(case, column, format!("the case itself: {error:#}"));
            }
        }
    })
}

/// Thousands of connections need as many descriptors; servers inherit the limit.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is valid.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}
