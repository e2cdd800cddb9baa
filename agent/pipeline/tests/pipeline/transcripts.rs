//! Text transcripts of connections and the spans that they become: `tests/transcripts/<protocol>/*.txt`.
//!
//! A file holds cases. `== name` begins one. Then, one record every millisecond, from 1 ms on:
//!   `> GET / HTTP/1.1\r\n`   bytes of the request direction; lines that follow each other are one record
//!   `< HTTP/1.1 200 OK\r\n`  bytes of the response direction
//!   `>` or `<` with `{N}`      N bytes of payload; with `{-N}` N bytes that were not copied
//!   `> @Q SELECT 1\x00`      a PostgreSQL message of type Q, `@-` one without a type: the length is put in front
//!   `> #0 \x03SELECT 1`      a MySQL packet with the sequence number 0
//!   `[…]`                    a frame of HTTP/2, see `h2.rs`
//!   `|`                      a new record of the same direction begins
//!   `>lost N`, `<lost N`     N bytes whose record was lost
//!   `>eof`, `<eof`, `error N`, `exit`, `close`, `tick N` (N ms pass)
//! `@batches` (pipelines make one span), `@client`, `@mid` (joined in the middle), `@end` (the run ends before the connection) and `@whole` (what it shows
//! needs whole records) set the scene.
//! `= METHOD PATH STATUS REQUEST/RESPONSE START..END [ERROR]` is a span: sizes in bytes, `?` if unknown, times in
//! ms. Of databases: `= SYSTEM [op=… ns=… code=…] `text` START..END [ERROR]`, see `support.rs`. `! STAGE/REASON N` is a drop, `* MODE` the last capture mode that was asked for.
//! Each case runs as it is, and, but for `@whole`, with every record cut into single bytes.

use agent_pipeline::{Config, Pipeline};

use crate::h2;
use crate::support::{Kept, Role, Wire};

const MS: u64 = 1_000_000;

#[derive(Debug, Default)]
struct Case {
    name: String,
    client: bool,
    mid: bool,
    end: bool,
    whole: bool,
    batches: bool,
    steps: Vec<Step>,
    spans: Vec<String>,
    drops: Vec<String>,
    mode: Option<String>,
}

#[derive(Debug)]
enum Step {
    Data { request: bool, parts: Vec<Part> },
    Lost { request: bool, len: u64 },
    Eof { request: bool },
    Error(u32),
    Exit,
    Close,
    Tick(u64),
}

#[derive(Debug)]
enum Part {
    Bytes(Vec<u8>),
    Hole(u64),
}

#[test]
fn http1() {
    check("http1");
}

#[test]
fn dns() {
    check("dns");
}

#[test]
fn http2() {
    check("http2");
}

#[test]
fn grpc() {
    check("grpc");
}

#[test]
fn redis() {
    check("redis");
}

#[test]
fn postgres() {
    check("postgres");
}

#[test]
fn mysql() {
    check("mysql");
}

fn check(protocol: &str) {
    let folder = format!("{}/tests/transcripts/{protocol}", env!("CARGO_MANIFEST_DIR"));
    let mut cases = 0;
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for case in parse(&text) {
            cases += 1;
            for split in [false, true] {
                if split && case.whole {
                    continue;
                }
                if let Err(difference) = run(&case, split) {
                    let file = path.file_name().unwrap().to_string_lossy();
                    failures.push(format!("{file}: {} (split: {split})\n{difference}", case.name));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    assert!(cases > 0);
}

fn run(case: &Case, split: bool) -> Result<(), String> {
    let mut pipeline =
        Pipeline::new(Config { seed: [1, 2], redis_batches: case.batches, ..Config::default() });
    let mut kept = Kept::default();
    let mut wire = Wire::new(7, if case.client { Role::Client } else { Role::Server });
    let mut now = 0;
    if case.mid {
        wire.offsets = [1000, 2000];
        wire.turn = 20;
    }
    pipeline.on_record(&wire.opened(now, !case.mid), &mut kept);
    for step in &case.steps {
        if !matches!(step, Step::Tick(_)) {
            now += MS;
        }
        match step {
            Step::Data { request, parts } => {
                for record in records(&mut wire, *request, now, parts, split) {
                    pipeline.on_record(&record, &mut kept);
                }
            }
            Step::Lost { request, len } => wire.lose(*request, *len),
            Step::Eof { request } => pipeline.on_record(&wire.eof(*request, now), &mut kept),
            Step::Error(errno) => pipeline.on_record(&wire.error(*errno, now), &mut kept),
            Step::Exit => pipeline.on_record(&wire.exit(now), &mut kept),
            Step::Close => pipeline.on_record(&wire.closed(now), &mut kept),
            Step::Tick(ms) => {
                now += ms * MS;
                pipeline.on_tick(now, &mut kept);
            }
        }
    }
    if !case.end {
        now += 100 * MS;
        pipeline.on_tick(now, &mut kept);
    }
    let ticked = kept.spans.len();
    pipeline.finish(now, &mut kept);
    let spans: Vec<String> = kept.spans.iter().map(|span| span.facts(MS)).collect();
    let mut drops: Vec<String> = pipeline
        .stats()
        .drops()
        .filter(|&(_, _, count)| count > 0)
        .map(|(stage, reason, count)| format!("{stage}/{reason} {count}"))
        .collect();
    drops.sort();
    let mut expected_drops = case.drops.clone();
    expected_drops.sort();
    let mode = kept.captures.last().map(|(_, mode)| mode.mode.to_string());
    let mut difference = String::new();
    if spans != case.spans {
        difference += &format!("  spans    {spans:#?}\n  expected {:#?}\n", case.spans);
    }
    // Split, a mid-stream message does not begin with a whole line, and drops count more records.
    if !split && drops != expected_drops {
        difference += &format!("  drops    {drops:?}\n  expected {expected_drops:?}\n");
    }
    if case.mode.is_some() && mode != case.mode {
        difference += &format!("  mode     {mode:?}\n  expected {:?}\n", case.mode);
    }
    if !case.end && !split && ticked != spans.len() {
        difference += &format!("  only {ticked} of {} spans before the end\n", spans.len());
    }
    if difference.is_empty() { Ok(()) } else { Err(difference) }
}

/// The records of one call: bytes, at most one hole, bytes. Split: single bytes, the hole on its own.
fn records(wire: &mut Wire, request: bool, now: u64, parts: &[Part], split: bool) -> Vec<Vec<u8>> {
    let (mut head, mut hole, mut tail) = (Vec::new(), 0, Vec::new());
    for part in parts {
        match part {
            Part::Hole(len) => hole += len,
            Part::Bytes(bytes) if hole == 0 => head.extend_from_slice(bytes),
            Part::Bytes(bytes) => tail.extend_from_slice(bytes),
        }
    }
    if !split || hole > 0 || head.len() > 5000 {
        return vec![wire.data(request, now, &head, hole, &tail)];
    }
    head.iter().map(|&byte| wire.data(request, now, &[byte], 0, b"")).collect()
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut fresh = true;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case { name: name.to_owned(), ..Case::default() });
            fresh = true;
            continue;
        }
        let case = cases.last_mut().expect("a case begins with ==");
        let number =
            |text: &str| text.trim().parse::<u64>().unwrap_or_else(|_| panic!("{}: {line}", case.name));
        let step = match line {
            "@client" => {
                case.client = true;
                continue;
            }
            "@mid" => {
                case.mid = true;
                continue;
            }
            "@end" => {
                case.end = true;
                continue;
            }
            "@batches" => {
                case.batches = true;
                continue;
            }
            "@whole" => {
                case.whole = true;
                continue;
            }
            "|" => {
                fresh = true;
                continue;
            }
            ">eof" => Step::Eof { request: true },
            "<eof" => Step::Eof { request: false },
            "exit" => Step::Exit,
            "close" => Step::Close,
            _ if line.starts_with(">lost ") => Step::Lost { request: true, len: number(&line[6..]) },
            _ if line.starts_with("<lost ") => Step::Lost { request: false, len: number(&line[6..]) },
            _ if line.starts_with("error ") => Step::Error(number(&line[6..]) as u32),
            _ if line.starts_with("tick ") => Step::Tick(number(&line[5..])),
            _ if line.starts_with("= ") => {
                case.spans.push(line[2..].to_owned());
                continue;
            }
            _ if line.starts_with("! ") => {
                case.drops.push(line[2..].to_owned());
                continue;
            }
            _ if line.starts_with("* ") => {
                case.mode = Some(line[2..].to_owned());
                continue;
            }
            _ if line.starts_with("> ") || line.starts_with("< ") => {
                let request = line.starts_with('>');
                let part = part(&line[2..]);
                match case.steps.last_mut() {
                    Some(Step::Data { request: last, parts }) if *last == request && !fresh => {
                        parts.push(part);
                    }
                    _ => case.steps.push(Step::Data { request, parts: vec![part] }),
                }
                fresh = false;
                continue;
            }
            _ => panic!("{}: not understood: {line}", case.name),
        };
        case.steps.push(step);
        fresh = true;
    }
    cases
}

fn part(text: &str) -> Part {
    if let Some(count) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        let count: i64 = count.parse().unwrap();
        return if count < 0 {
            Part::Hole(count.unsigned_abs())
        } else {
            Part::Bytes(vec![b'x'; count as usize])
        };
    }
    if let Some(words) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return Part::Bytes(h2::frame(words, &bytes));
    }
    if let Some((kind, payload)) = text.strip_prefix('@').and_then(|text| text.split_at_checked(1)) {
        let payload = bytes(payload.strip_prefix(' ').unwrap_or(payload));
        let mut message = if kind == "-" { Vec::new() } else { kind.as_bytes().to_vec() };
        message.extend_from_slice(&(payload.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(&payload);
        return Part::Bytes(message);
    }
    if let Some((sequence, payload)) = text.strip_prefix('#').and_then(|text| text.split_once(' ')) {
        let payload = bytes(payload);
        let mut packet = (payload.len() as u32).to_le_bytes();
        packet[3] = sequence.parse().unwrap();
        return Part::Bytes([&packet[..], &payload].concat());
    }
    Part::Bytes(bytes(text))
}

fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(mark) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..mark]);
        let (byte, len) = match rest.as_bytes()[mark + 1] {
            b'r' => (b'\r', 2),
            b'n' => (b'\n', 2),
            b't' => (b'\t', 2),
            b'0' => (0, 2),
            b'\\' => (b'\\', 2),
            b'x' => (u8::from_str_radix(&rest[mark + 2..mark + 4], 16).unwrap(), 4),
            other => panic!("escape {other}"),
        };
        bytes.push(byte);
        rest = &rest[mark + len..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
