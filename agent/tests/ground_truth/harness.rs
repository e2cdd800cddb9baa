//! What the cases share: random numbers from one seed, unique paths, notes of what happened, sessions and the table.
//!
//! A session is one run of the agent: it starts on some processes, the cases drive them, it stops, and what it
//! printed is compared with the notes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::compare::{Tallies, Tally, assign, compare};
use crate::servers::Server;
use crate::support::books;
use crate::support::skep::{Skep, slow};
use crate::truth::{Exchange, Truth};

/// Low-cardinality names for what the targets serve, so that span names can be foretold.
const ROUTES: &[&str] = &[
    "/hello/{name}",
    "/users/{id}",
    "/work/{tag}",
    "/echo/{tag}",
    "/status/{code}/{tag}",
    "/chunked/{tag}",
    "/sse/{tag}",
    "/big/{tag}",
    "/call/{tag}",
    "/slow/{tag}",
];

/// Spans come at the latest this long after their end: the drain, and candidate ends.
const SPANS_WITHIN: Duration = Duration::from_secs(3);
/// Cases of one session that run at the same time.
const CONCURRENT: usize = 4;

/// Random numbers (splitmix64), good enough to vary a test and the same for the same seed.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64, label: &str) -> Self {
        let mut state = seed;
        for byte in label.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Self(state)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap_or(0)
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// This many random hex digits.
    pub fn hex(&mut self, digits: usize) -> String {
        let mut text = String::new();
        while text.len() < digits {
            text.push_str(&format!("{:016x}", self.next() | 1));
        }
        text.truncate(digits);
        text
    }

    /// Think time of a client: part of the load, no wait for anything.
    pub fn pace(&mut self, most_us: usize) {
        std::thread::sleep(Duration::from_micros(self.below(most_us) as u64));
    }
}

/// What the whole test is run with, and what came of it so far.
pub struct Run {
    pub seed: u64,
    /// Parts of `case column`; any match runs it, none means all.
    pub filters: Vec<String>,
    pub tallies: Mutex<Tallies>,
    count: AtomicUsize,
}

/// Runs of one session.
pub struct Notes<'r> {
    pub run: &'r Run,
    pub column: String,
    truths: Mutex<Vec<Truth>>,
    /// What a line on stderr must hold, and the case that asks for it.
    warnings: Mutex<Vec<(String, &'static str)>>,
}

/// One case in one session.
pub struct Ctx<'n> {
    pub notes: &'n Notes<'n>,
    pub case: &'static str,
    pub server: &'n Server,
    /// A server that the agent does not watch.
    pub helper: SocketAddr,
}

/// A case that runs against many servers.
pub struct Case {
    pub name: &'static str,
    pub run: fn(&Ctx) -> Result<()>,
    /// Why a server cannot have it.
    pub not_on: fn(&str) -> Option<&'static str>,
}

impl Run {
    pub fn new(seed: u64, filters: Vec<String>) -> Self {
        Self { seed, filters, tallies: Mutex::default(), count: AtomicUsize::new(0) }
    }

    pub fn wanted(&self, case: &str, column: &str) -> bool {
        let whole = format!("{case} {column}");
        self.filters.is_empty() || self.filters.iter().any(|filter| whole.contains(filter.as_str()))
    }

    pub fn with(&self, case: &str, column: &str, change: impl FnOnce(&mut Tally)) {
        let mut tallies = self.tallies.lock().unwrap();
        change(tallies.entry((case.to_owned(), column.to_owned())).or_default());
    }

    pub fn skip(&self, case: &str, column: &str, reason: &str) {
        self.with(case, column, |tally| tally.skipped = Some(reason.to_owned()));
    }

    pub fn wrong(&self, case: &str, column: &str, line: String) {
        self.with(case, column, |tally| {
            tally.wrong += 1;
            tally.note(line);
        });
    }
}

impl Notes<'_> {
    /// A path segment that no other request has.
    pub fn token(&self, case: &str) -> String {
        let case: String = case.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let n = self.run.count.fetch_add(1, Ordering::Relaxed);
        let mut rng = Rng::new(self.run.seed, &format!("token {n}"));
        let digits = 4 + rng.below(8);
        format!("~{case}.{n}.{}", rng.hex(digits))
    }

    /// The agent must warn with a line that holds this.
    pub fn expect_warning(&self, case: &str, needle: &'static str) {
        self.warnings.lock().unwrap().push((case.to_owned(), needle));
    }

    pub fn add(&self, truth: Truth) {
        self.truths.lock().unwrap().push(truth);
    }
}

impl Ctx<'_> {
    pub fn rng(&self, label: &str) -> Rng {
        Rng::new(self.notes.run.seed, &format!("{} {} {label}", self.case, self.notes.column))
    }

    pub fn token(&self) -> String {
        self.notes.token(self.case)
    }

    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// Notes that the server must have a span of this exchange, and a proxy another one of what it passed on.
    pub fn served(&self, exchange: &Exchange) {
        let mut truth = exchange.server(self.case, &self.notes.column, &self.server.pids);
        truth.resource = self.server.identity();
        self.notes.add(truth);
        if self.server.name == "nginx" {
            self.proxied(exchange);
        }
    }

    fn proxied(&self, exchange: &Exchange) {
        let passed = ["/echo/", "/slow/", "/chunked/"];
        if passed.iter().any(|prefix| exchange.target.starts_with(prefix)) {
            self.notes.add(self.passed_on(exchange));
        }
    }

    /// The client span of nginx about a request that it passes to its upstream.
    pub fn passed_on(&self, exchange: &Exchange) -> Truth {
        let mut onward = exchange.clone();
        onward.host = Some("call".to_owned());
        onward.peer = self.helper;
        onward.version = "1.1";
        if let Some(rest) = exchange.target.strip_prefix("/call/") {
            onward.target = format!("/{rest}");
        }
        let mut truth = onward.client(self.case, &self.notes.column, &[]);
        truth.attributes.retain(|(name, _)| *name != "server.port");
        truth
    }
}

/// Runs the agent on these processes while `drive` does its work, then compares.
pub fn session(run: &Run, column: &str, pids: &[u32], drive: impl FnOnce(&Notes)) -> Result<()> {
    let arguments = pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]).collect::<Vec<_>>();
    session_with(run, column, &arguments, drive)
}

/// [`session`] with other ways to select.
pub fn session_with(run: &Run, column: &str, select: &[String], drive: impl FnOnce(&Notes)) -> Result<()> {
    let mut arguments: Vec<String> =
        ["run", "--print", "json", "--traces-sampler", "always_on"].map(str::to_owned).to_vec();
    arguments.extend_from_slice(select);
    arguments.extend(ROUTES.iter().flat_map(|route| ["--route".to_owned(), (*route).to_owned()]));
    let mut skep = match Skep::start(&arguments) {
        Ok(skep) => skep,
        Err(error) => {
            run.wrong("start", column, format!("{error:#}"));
            return Ok(());
        }
    };
    let notes =
        Notes { run, column: column.to_owned(), truths: Mutex::default(), warnings: Mutex::default() };
    drive(&notes);
    let truths = notes.truths.into_inner().unwrap();
    let due = truths.iter().filter(|truth| !truth.optional).count();
    skep.wait_spans(due, SPANS_WITHIN * slow());
    let warnings = notes.warnings.into_inner().unwrap();
    let warned = |needle: &str, lines: &[String]| {
        lines.iter().any(|line| line.contains("warn") && line.contains(needle))
    };
    skep.wait_lines(SPANS_WITHIN * slow(), |_, stderr| {
        warnings.iter().all(|(_, needle)| warned(needle, stderr))
    });
    let ready_after = skep.ready_after;
    let outcome = skep.stop()?;
    let keep = std::env::var_os("GROUND_TRUTH_KEEP");
    if let Some(folder) = keep {
        let folder = std::path::PathBuf::from(folder);
        std::fs::create_dir_all(&folder)?;
        let lines: Vec<String> = outcome.spans.iter().map(ToString::to_string).collect();
        std::fs::write(folder.join(format!("{column}.jsonl")), lines.join("\n"))?;
        std::fs::write(folder.join(format!("{column}.stderr")), &outcome.stderr)?;
    }
    let said: Vec<String> = outcome.stderr.lines().map(str::to_owned).collect();
    for (case, needle) in &warnings {
        run.with(case, column, |tally| tally.requests += 1);
        if !warned(needle, &said) {
            run.wrong(case, column, format!("no warning on stderr holds {needle:?}"));
        }
    }
    compare(&truths, &outcome.spans, ("no case", column), &mut run.tallies.lock().unwrap());
    run.with("start", column, |tally| {
        tally.requests += 1;
        // Natively 200 ms; an emulated or busy machine may be slower, the benchmark has the figure.
        if ready_after > Duration::from_secs(2) * slow() {
            tally.wrong += 1;
            tally.note(format!("ready after {} ms", ready_after.as_millis()));
        }
    });
    run.with("stop", column, |tally| {
        tally.requests += 1;
        if outcome.exit != Some(0) || outcome.stop_after > Duration::from_secs(1) * slow() {
            tally.wrong += 1;
            tally.note(format!("exit {:?} after {} ms", outcome.exit, outcome.stop_after.as_millis()));
        }
    });
    let found = assign(&truths, &outcome.spans).iter().flatten().count();
    run.with("books close", column, |tally| {
        tally.requests += 1;
        for fault in books::faults(&outcome.stderr, outcome.spans.len(), found == truths.len()) {
            tally.wrong += 1;
            tally.note(fault);
        }
    });
    Ok(())
}

/// Runs cases against one server, some at the same time.
pub fn drive_cases(notes: &Notes, cases: &[&'static Case], server: &Server, helper: SocketAddr) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENT {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let ctx = Ctx { notes, case: case.name, server, helper };
                    notes.run.with(case.name, &notes.column, |_| {});
                    if let Err(error) = (case.run)(&ctx) {
                        notes.run.wrong(case.name, &notes.column, format!("the case itself: {error:#}"));
                    }
                }
            });
        }
    });
}

/// Runs `work` in this many threads and returns the first failure.
pub fn concurrently(threads: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|n| {
                scope.spawn({
                    let work = &work;
                    move || work(n)
                })
            })
            .collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<Vec<()>>>()
    })?;
    Ok(())
}

/// Prints the table and the count line; whether nothing failed.
pub fn report(run: &Run) -> bool {
    let tallies = run.tallies.lock().unwrap();
    let mut by_column: BTreeMap<&str, Vec<(&str, &Tally)>> = BTreeMap::new();
    for ((case, column), tally) in tallies.iter() {
        by_column.entry(column).or_default().push((case, tally));
    }
    println!(
        "\n{:<34} {:<14} {:>8} {:>8} {:>6} {:>6}",
        "case", "server", "requests", "missing", "extra", "wrong"
    );
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (column, rows) in &by_column {
        for (case, tally) in rows {
            let state = if tally.failed() {
                failed += 1;
                "FAILED".to_owned()
            } else if let Some(reason) = &tally.skipped {
                skipped += 1;
                format!("skipped: {reason}")
            } else {
                passed += 1;
                String::new()
            };
            let Tally { requests, missing, extra, wrong, .. } = tally;
            println!("{case:<34} {column:<14} {requests:>8} {missing:>8} {extra:>6} {wrong:>6}  {state}");
        }
    }
    for ((case, column), tally) in tallies.iter().filter(|(_, tally)| tally.failed()) {
        println!("\n{case} on {column}:");
        for line in &tally.details {
            println!("  {line}");
        }
    }
    println!("\nground truth: {passed} passed, {failed} failed, {skipped} skipped");
    failed == 0
}
