//! The four properties for Redis connections made up at random. (No panic on any bytes and bounded memory are checked
//! for all protocols at once in `properties.rs` and by the fuzz targets.)
//!
//! What is expected comes from the model that made the bytes, never from another run of the pipeline.

use agent_pipeline::{Config, Pipeline, Usage};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::test_runner::Config as Runner;

use crate::support::{Kept, Role, Wire};

const STEP_NS: u64 = 10_000;

/// A command, how its span reads, and its answer.
#[derive(Clone, Debug)]
struct Exchange {
    command: Vec<u8>,
    fact: String,
    answer: Vec<u8>,
    /// Sent without waiting for the answer to the one before.
    pipelined: bool,
}

#[derive(Clone, Debug)]
struct Session {
    server: bool,
    exchanges: Vec<Exchange>,
    cuts: Vec<u16>,
    pushes: bool,
}

/// Bytes of one call.
#[derive(Clone, Debug)]
struct Piece {
    request: bool,
    bytes: Vec<u8>,
}

/// Bytes that look like RESP.
fn value(len: usize) -> Vec<u8> {
    b"\r\n$3\r\nGET\r\n+OK\r\n*1\r\n$4\r\nPING\r\n-ERR\r\n".iter().copied().cycle().take(len).collect()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
}

fn exchange(name: &str, arguments: &[usize], answer: Vec<u8>, code: &str, pipelined: bool) -> Exchange {
    let words: Vec<Vec<u8>> = [string(name.as_bytes())]
        .into_iter()
        .chain(arguments.iter().map(|&len| string(&value(len))))
        .collect();
    let code = if code.is_empty() { String::new() } else { format!(" code={code}") };
    let text = format!("{name}{}", " ?".repeat(arguments.len()));
    Exchange {
        command: array(&words),
        fact: format!("redis op={name} ns=0{code} `{text}`"),
        answer,
        pipelined,
    }
}

/// Values are up to a few dozen bytes, times `scale`.
fn any_exchange(scale: usize) -> impl Strategy<Value = Exchange> {
    let small = move || (0usize..30).prop_map(move |len| len * scale);
    let bulk = move || small().prop_map(|len| string(&value(len)));
    (prop::bool::weighted(0.3), small(), small(), bulk(), prop::collection::vec(bulk(), 0..4), 0usize..8)
        .prop_map(|(pipelined, one, two, bulk, items, which)| match which {
            0 => exchange("SET", &[one, two], b"+OK\r\n".to_vec(), "", pipelined),
            1 => exchange("GET", &[one], bulk, "", pipelined),
            2 => exchange("get", &[one], b"$-1\r\n".to_vec(), "", pipelined),
            3 => exchange("INCR", &[one], b":12\r\n".to_vec(), "", pipelined),
            4 => exchange("LRANGE", &[one, 1, 2], array(&items), "", pipelined),
            5 => exchange("HGETALL", &[one], [b"%1\r\n+f\r\n".to_vec(), bulk].concat(), "", pipelined),
            6 => exchange("LPUSH", &[one, two], b"-WRONGTYPE Operation\r\n".to_vec(), "WRONGTYPE", pipelined),
            _ => exchange("EVAL", &[one, 1], array(&[array(&items), b"_\r\n".to_vec()]), "", pipelined),
        })
}

fn session(scale: usize) -> impl Strategy<Value = Session> {
    let cuts = prop_oneof![
        Just(vec![u16::MAX]),
        prop::collection::vec(1u16..20, 1..8),
        prop::collection::vec(prop_oneof![1u16..4, 20u16..2000], 1..8),
    ];
    (any::<bool>(), prop::collection::vec(any_exchange(scale), 1..8), cuts, any::<bool>())
        .prop_map(|(server, exchanges, cuts, pushes)| Session { server, exchanges, cuts, pushes })
}

impl Session {
    /// The calls in the order in which the bytes were moved.
    fn pieces(&self) -> Vec<Piece> {
        let mut cuts = self.cuts.iter().copied().cycle();
        let mut pieces = Vec::new();
        let mut answers = Vec::new();
        for exchange in &self.exchanges {
            if !exchange.pipelined {
                cut(false, &std::mem::take(&mut answers), &mut cuts, &mut pieces);
            }
            cut(true, &exchange.command, &mut cuts, &mut pieces);
            answers.extend_from_slice(&exchange.answer);
            if self.pushes {
                answers.extend_from_slice(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n");
            }
        }
        cut(false, &answers, &mut cuts, &mut pieces);
        pieces
    }

    fn role(&self) -> Role {
        if self.server { Role::Server } else { Role::Client }
    }
}

fn cut(request: bool, mut bytes: &[u8], cuts: &mut impl Iterator<Item = u16>, pieces: &mut Vec<Piece>) {
    while !bytes.is_empty() {
        let len = usize::from(cuts.next().unwrap_or(u16::MAX)).clamp(1, bytes.len());
        pieces.push(Piece { request, bytes: bytes[..len].to_vec() });
        bytes = &bytes[len..];
    }
}

/// Feeds the calls, of which only the first bytes (and the last 16) are copied if `cap` says so.
fn run(session: &Session, cap: Option<usize>) -> (Vec<String>, Vec<String>, Usage) {
    let mut pipeline = Pipeline::new(Config { seed: [5, 6], ..Config::default() });
    let mut kept = Kept::default();
    let mut wire = Wire::new(1, session.role());
    pipeline.on_record(&wire.opened(0, true), &mut kept);
    let mut now = 0;
    // (request, end offset, time) of each call.
    let mut times: Vec<(bool, u64, u64)> = Vec::new();
    for piece in session.pieces() {
        now += STEP_NS;
        let len = piece.bytes.len();
        let head = cap.unwrap_or(len).min(len);
        let tail = 16.min(len - head);
        let hole = (len - head - tail) as u64;
        let record = wire.data(piece.request, now, &piece.bytes[..head], hole, &piece.bytes[len - tail..]);
        pipeline.on_record(&record, &mut kept);
        times.push((piece.request, wire.offsets[usize::from(wire.egress(piece.request))], now));
    }
    now += STEP_NS;
    pipeline.on_record(&wire.closed(now), &mut kept);
    pipeline.on_tick(now + 100_000_000, &mut kept);
    let at = |request: bool, offset: u64| {
        let found = times.iter().find(|&&(which, end, _)| which == request && end > offset);
        found.map_or(0, |&(_, _, time)| time / STEP_NS)
    };
    let (mut asked, mut answered) = (0, 0);
    let mut expected = Vec::new();
    for exchange in &session.exchanges {
        let start = at(true, asked);
        asked += exchange.command.len() as u64;
        answered += exchange.answer.len() as u64;
        expected.push(format!("{} {start}..{}", exchange.fact, at(false, answered - 1)));
        if session.pushes {
            answered += b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n".len() as u64;
        }
    }
    let spans = kept.spans.iter().map(|span| span.facts(STEP_NS)).collect();
    (spans, expected, pipeline.usage())
}

fn runner() -> Runner {
    let cases = std::env::var("SKEP_TEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    Runner { cases, failure_persistence: None, ..Runner::default() }
}

proptest! {
    #![proptest_config(runner())]

    #[test]
    fn any_cut_gives_the_same_spans(session in session(1)) {
        let (spans, expected, usage) = run(&session, None);
        prop_assert_eq!(spans, expected);
        prop_assert_eq!(usage, Usage::default());
    }

    #[test]
    fn values_that_are_not_copied_change_nothing(session in session(200), cap in 300usize..2000) {
        // One at a time; of each command, only the last value is long, and calls are whole.
        let mut session = Session { cuts: vec![u16::MAX], pushes: false, ..session };
        session.exchanges.iter_mut().for_each(|exchange| exchange.pipelined = false);
        session.exchanges.retain(|exchange| {
            ["GET", "get", "INCR"].iter().any(|name| exchange.fact.contains(&format!("op={name} ")))
        });
        let (spans, expected, usage) = run(&session, Some(cap));
        prop_assert_eq!(spans, expected);
        prop_assert_eq!(usage, Usage::default());
    }

    #[test]
    fn nothing_wrong_and_a_recovery_after_a_gap(session in session(1), lost in any::<prop::sample::Index>()) {
        let before = session.pieces();
        let plain = || exchange("ECHO", &[3], string(b"abc"), "", false);
        let after = Session { exchanges: vec![plain(); 4], cuts: vec![u16::MAX], pushes: false, ..session.clone() };
        let lost = lost.index(before.len());
        let mut pipeline = Pipeline::new(Config { seed: [5, 6], ..Config::default() });
        let mut kept = Kept::default();
        let mut wire = Wire::new(1, session.role());
        pipeline.on_record(&wire.opened(0, true), &mut kept);
        for (index, piece) in before.into_iter().chain(after.pieces()).enumerate() {
            if index == lost {
                wire.lose(piece.request, piece.bytes.len() as u64);
            } else {
                let record = wire.data(piece.request, (index as u64 + 1) * STEP_NS, &piece.bytes, 0, b"");
                pipeline.on_record(&record, &mut kept);
            }
        }
        // The database is not known any more after the gap.
        let fact = |exchange: &Exchange| exchange.fact.replace(" ns=0", "");
        let mut expected: Vec<String> = session.exchanges.iter().map(fact).collect();
        expected.extend(after.exchanges.iter().map(fact));
        let facts: Vec<String> = kept.spans.iter().map(|span| {
            let facts = span.facts(STEP_NS).replace(" ns=0", "");
            facts[..facts.rfind(' ').unwrap()].to_owned()
        }).collect();
        // In order, and nothing that was not asked.
        let mut rest = expected.iter();
        for fact in &facts {
            prop_assert!(rest.any(|expected| expected == fact), "{} in {:?} is none of {:?}", fact, facts, expected);
        }
        let echoes = facts.iter().filter(|fact| fact.contains("op=ECHO")).count();
        prop_assert!(echoes >= 2, "{:?}", facts);
    }
}
