//! The four properties of HTTP/2 connections that are made up at random: no panic on any bytes, bounded memory, the same
//! spans however records are cut and streams interleave, recovery after a gap, in which nothing is made up.
//!
//! What is expected comes from the model that made the bytes.

use agent_pipeline::{Config, Pipeline, Usage};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::Config as Runner;

use crate::h2;
use crate::support::{Kept, Role, Wire};

const STEP_NS: u64 = 10_000;

/// One stream.
#[derive(Clone, Debug)]
struct Stream {
    /// Frames of payload in each direction.
    asked: Vec<u16>,
    answered: Vec<u16>,
    padded: bool,
    /// Header blocks in several frames.
    continued: bool,
    trailers: bool,
    /// The path is that of an earlier stream, by reference.
    again: bool,
    /// The answer begins before the request has ended.
    early: bool,
}

#[derive(Clone, Debug)]
struct Session {
    server: bool,
    streams: Vec<Stream>,
    /// Which stream's frame comes next, and how bytes are cut: consumed in turn, over and over.
    order: Vec<u8>,
    cuts: Vec<u16>,
}

/// What a stream sends, frame after frame; true: in the direction of requests.
type Script = Vec<(bool, Vec<u8>)>;

fn frame(words: &str) -> Vec<u8> {
    h2::frame(words, &|text| vec![b'x'; text.trim().parse().unwrap_or(0)])
}

impl Stream {
    fn path(index: usize) -> String {
        format!("/stream/number{index}")
    }

    /// `known` is the index of the stream whose path was added to the table last.
    fn script(&self, index: usize, known: Option<usize>) -> (Script, usize) {
        let id = 2 * index + 1;
        let (path, named) = match known.filter(|_| self.again) {
            Some(known) => ("#62".to_owned(), known),
            None => (format!("+:path {}", Self::path(index)), index),
        };
        let end = |last: bool| if last { " end" } else { "" };
        let pad = if self.padded { " pad=3" } else { "" };
        let mut script = Script::new();
        let head = |request: bool, fields: &str, last: bool| {
            let ends = end(last);
            if self.continued {
                let (first, rest) = fields.split_once('|').unwrap_or((fields, ""));
                let mut bytes = frame(&format!("headers {id} more{ends}{pad} | {first}"));
                bytes.extend(frame(&format!("continuation {id} | {rest}")));
                (request, bytes)
            } else {
                (request, frame(&format!("headers {id}{ends}{pad} | {fields}")))
            }
        };
        let payload = |request: bool, sizes: &[u16], trailers: bool| {
            let mut frames = Script::new();
            for (at, size) in sizes.iter().enumerate() {
                let last = at + 1 == sizes.len() && !trailers;
                frames.push((request, frame(&format!("data {id}{pad}{} | {size}", end(last)))));
            }
            if trailers {
                frames.push((request, frame(&format!("headers {id} end | x-sum 1"))));
            }
            frames
        };
        let method = if self.asked.is_empty() { "GET" } else { "POST" };
        script.push(head(true, &format!(":method {method} | {path} | :scheme http"), self.asked.is_empty()));
        let asked = payload(true, &self.asked, false);
        let bare = self.answered.is_empty() && !self.trailers;
        let mut answer = vec![head(false, ":status 200 | server x", bare)];
        answer.extend(payload(false, &self.answered, self.trailers));
        if self.early && asked.len() > 1 {
            let (before, after) = asked.split_at(1);
            script.extend_from_slice(before);
            script.push(answer.remove(0));
            script.extend_from_slice(after);
        } else {
            script.extend(asked);
        }
        script.extend(answer);
        (script, named)
    }

    fn facts(&self, named: usize) -> String {
        let method = if self.asked.is_empty() { "GET" } else { "POST" };
        let size = |sizes: &[u16]| sizes.iter().map(|&size| u64::from(size)).sum::<u64>();
        format!("{method} {} 200 {}/{}", Self::path(named), size(&self.asked), size(&self.answered))
    }
}

impl Session {
    /// All frames in the order in which they are sent, and what the spans say.
    fn frames(&self) -> (Script, Vec<String>) {
        let mut frames: Script = vec![
            (true, [frame("preface"), frame("settings 4=65535")].concat()),
            (false, frame("settings 3=100")),
        ];
        let (mut scripts, mut facts, mut known) = (Vec::new(), Vec::new(), None);
        for (index, stream) in self.streams.iter().enumerate() {
            let (script, named) = stream.script(index, known);
            known = Some(named);
            facts.push(stream.facts(named));
            scripts.push(script.into_iter());
        }
        // Header blocks of requests refer to the table: they are sent in order.
        let mut order = self.order.iter().cycle();
        let (mut begun, mut open) = (0, Vec::new());
        loop {
            let choice = usize::from(*order.next().unwrap());
            if begun < scripts.len() && (open.is_empty() || choice % 3 == 0) {
                frames.extend(scripts[begun].next());
                open.push(begun);
                begun += 1;
            } else if open.is_empty() {
                break;
            } else {
                let at = choice % open.len();
                match scripts[open[at]].next() {
                    Some(frame) => frames.push(frame),
                    None => drop(open.remove(at)),
                }
            }
        }
        (frames, facts)
    }

    /// The frames as records: neighbours of one direction are joined and cut anew.
    fn records(&self) -> (Vec<(bool, Vec<u8>)>, Vec<String>) {
        let (frames, facts) = self.frames();
        let mut joined: Vec<(bool, Vec<u8>)> = Vec::new();
        for (request, bytes) in frames {
            match joined.last_mut() {
                Some((last, all)) if *last == request => all.extend(bytes),
                _ => joined.push((request, bytes)),
            }
        }
        let mut cuts = self.cuts.iter().cycle();
        let mut records = Vec::new();
        for (request, mut bytes) in joined {
            while !bytes.is_empty() {
                let cut = usize::from(*cuts.next().unwrap()).clamp(1, bytes.len());
                let rest = bytes.split_off(cut);
                records.push((request, std::mem::replace(&mut bytes, rest)));
            }
        }
        (records, facts)
    }
}

fn stream() -> impl Strategy<Value = Stream> {
    let sizes = || prop::collection::vec(0u16..3000, 0..4);
    (sizes(), sizes(), any::<[bool; 5]>()).prop_map(|(asked, answered, flags)| {
        let [padded, continued, trailers, again, early] = flags;
        Stream { asked, answered, padded, continued, trailers, again, early }
    })
}

fn session() -> impl Strategy<Value = Session> {
    let cuts = prop::collection::vec(1u16..4000, 1..20);
    (any::<bool>(), prop::collection::vec(stream(), 1..24), prop::collection::vec(any::<u8>(), 1..40), cuts)
        .prop_map(|(server, streams, order, cuts)| Session { server, streams, order, cuts })
}

struct Outcome {
    facts: Vec<String>,
    drops: u64,
    most: usize,
    after: Usage,
}

/// Runs a session; the record of this index is lost.
fn run(session: &Session, lost: Option<usize>) -> (Outcome, Vec<String>) {
    let (records, expected) = session.records();
    let mut pipeline = Pipeline::new(Config { seed: [1, 2], ..Config::default() });
    let mut kept = Kept::default();
    let mut wire = Wire::new(7, if session.server { Role::Server } else { Role::Client });
    let (mut now, mut most) = (0, 0);
    pipeline.on_record(&wire.opened(now, true), &mut kept);
    for (index, (request, bytes)) in records.iter().enumerate() {
        now += STEP_NS;
        if lost == Some(index) {
            wire.lose(*request, bytes.len() as u64);
            continue;
        }
        pipeline.on_record(&wire.data(*request, now, bytes, 0, b""), &mut kept);
        most = most.max(pipeline.usage().buffered_bytes);
    }
    pipeline.on_record(&wire.closed(now), &mut kept);
    pipeline.on_tick(now + 1_000_000_000, &mut kept);
    let drops = pipeline.stats().drops().map(|(_, _, count)| count).sum();
    pipeline.finish(now + 1_000_000_000, &mut kept);
    let times = |facts: String| facts.rsplit_once(' ').map_or(facts.clone(), |(facts, _)| facts.to_owned());
    let facts = kept
        .spans
        .iter()
        .map(|span| if span.error.is_some() { span.facts(1) } else { times(span.facts(1)) })
        .collect();
    (Outcome { facts, drops, most, after: pipeline.usage() }, expected)
}

/// Whether a span says nothing that the model does not.
fn agrees(fact: &str, expected: &str) -> bool {
    let (mut said, mut model) = (fact.split(' '), expected.split(' '));
    let (Some(method), Some(path), Some(status), Some(sizes)) =
        (said.next(), said.next(), said.next(), said.next())
    else {
        return false;
    };
    let known = |said: &str, model: Option<&str>| said.is_empty() || said == "-" || Some(said) == model;
    let heads = known(method, model.next()) && known(path, model.next()) && known(status, model.next());
    let sizes = sizes.split('/').zip(model.next().unwrap_or_default().split('/'));
    heads && sizes.into_iter().all(|(said, model)| said == "?" || said == model)
}

proptest! {
    #![proptest_config(Runner::with_cases(192))]

    #[test]
    fn streams_become_the_same_spans_however_they_are_cut(session in session()) {
        let (outcome, mut expected) = run(&session, None);
        let mut facts = outcome.facts;
        facts.sort();
        expected.sort();
        prop_assert_eq!(facts, expected);
        prop_assert_eq!(outcome.drops, 0);
        prop_assert!(outcome.most < 256 * 1024, "{}", outcome.most);
        prop_assert_eq!(outcome.after, Usage::default());
    }

    #[test]
    fn after_a_gap_nothing_is_made_up(session in session(), lost in any::<prop::sample::Index>()) {
        let (records, _) = session.records();
        let (outcome, expected) = run(&session, Some(lost.index(records.len())));
        for fact in &outcome.facts {
            // Requests that never were answered within sight end with the connection.
            let failed = fact.ends_with("canceled");
            prop_assert!(failed || expected.iter().any(|model| agrees(fact, model)), "{fact} of {expected:?}");
        }
        prop_assert!(outcome.facts.len() <= expected.len());
        prop_assert_eq!(outcome.after, Usage::default());
    }
}

#[test]
fn after_a_gap_later_streams_are_whole_again() {
    let mut pipeline = Pipeline::new(Config::default());
    let mut kept = Kept::default();
    let mut wire = Wire::new(7, Role::Server);
    let mut now = 0;
    pipeline.on_record(&wire.opened(now, true), &mut kept);
    let mut send = |wire: &mut Wire, request: bool, words: &[&str], lost: bool| {
        now += STEP_NS;
        let bytes: Vec<u8> = words.iter().flat_map(|words| frame(words)).collect();
        if lost {
            wire.lose(request, bytes.len() as u64);
        } else {
            pipeline.on_record(&wire.data(request, now, &bytes, 0, b""), &mut kept);
        }
    };
    send(&mut wire, true, &["preface", "settings"], false);
    send(&mut wire, false, &["settings"], false);
    for index in 0..20 {
        let id = 2 * index + 1;
        let lost = index == 5;
        let request = format!("headers {id} end | :method GET | +:path /{index}");
        send(&mut wire, true, &[&request], lost);
        send(&mut wire, false, &[&format!("headers {id} end | :status 200")], false);
    }
    let paths: Vec<String> = kept.spans.iter().map(|span| span.path.clone()).collect();
    // The one that was lost, and the one whose record shows the gap.
    let expected: Vec<String> =
        (0..20).filter(|index| !(5..7).contains(index)).map(|index| format!("/{index}")).collect();
    assert_eq!(paths, expected);
}

#[test]
fn hundreds_of_streams_at_once_are_bounded_and_none_is_lost() {
    let mut pipeline = Pipeline::new(Config::default());
    let mut kept = Kept::default();
    let mut wire = Wire::new(7, Role::Server);
    pipeline.on_record(&wire.opened(0, true), &mut kept);
    let opening = [frame("preface"), frame("settings")].concat();
    pipeline.on_record(&wire.data(true, 1, &opening, 0, b""), &mut kept);
    let ids = || (0..1000).map(|index| 2 * index + 1);
    for id in ids() {
        let bytes = frame(&format!("headers {id} end | :method GET | :path /{id}"));
        pipeline.on_record(&wire.data(true, 2, &bytes, 0, b""), &mut kept);
    }
    assert_eq!(pipeline.usage().requests, 1000);
    for id in ids().rev() {
        let bytes = frame(&format!("headers {id} end | :status 200"));
        pipeline.on_record(&wire.data(false, 3, &bytes, 0, b""), &mut kept);
    }
    assert_eq!((kept.spans.len(), pipeline.usage().requests), (1000, 0));
    // Beyond the bound, streams are counted, not held.
    for id in
        ids().map(|id| id + 2000).chain(ids().map(|id| id + 4000)).chain((0..4000).map(|i| 2 * i + 6001))
    {
        let bytes = frame(&format!("headers {id} end | :method GET | :path /{id}"));
        pipeline.on_record(&wire.data(true, 4, &bytes, 0, b""), &mut kept);
    }
    assert_eq!(pipeline.usage().requests, 4096);
}
