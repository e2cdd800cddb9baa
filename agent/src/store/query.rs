//! Answers to what the views ask, computed from what is kept when somebody asks.
//!
//! In: a window, a filter. Out: the structs of `view.rs`. A look at an hour of a few hundred series takes a few
//! milliseconds; whoever asks on behalf of many readers keeps the answer (`ui/`).

use agent_pipeline::semconv;
use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

use super::histogram::{BUCKETS, Figures, lower_bound_ns};
use super::peers::OUTSIDE;
use super::record::{Body, Kept};
use super::series::{COARSE_S, FINE_S, FINE_SPAN_S, Key, SPAN_S};
use super::traces::Trace;
use super::view::{
    EdgeRow, Heatmap, OperationRow, Operations, Overview, Point, Red, Series, ServiceRow, SpanRow, TraceRow,
    TraceView, Traces, Window,
};
use super::{KeptSpans, Store};
use crate::output::text::write_visible;

/// Points of a spark line.
pub const SPARK: usize = 30;
/// Most points of a chart.
const MAX_POINTS: u64 = 120;
/// Most traces of one answer.
pub const MAX_ROWS: usize = 500;
/// What a chart shows at least, however young the store is.
const LEAST_S: u64 = 60;
const KINDS: [&str; 5] = ["internal", "server", "client", "producer", "consumer"];

/// Which requests a chart is about; what is nothing does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// `service.name`.
    pub service: Option<String>,
    /// Span kind.
    pub kind: Option<String>,
    /// Span name.
    pub name: Option<String>,
}

/// Which traces are wanted; what is nothing does not matter. A trace matches if one of its spans does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Whose span.
    pub subject: Subject,
    /// Only failed ones.
    pub failed: bool,
    /// Ended at or after.
    pub from_unix_us: Option<u64>,
    /// Ended before.
    pub to_unix_us: Option<u64>,
    /// Took at least.
    pub min_ns: Option<u64>,
    /// Took less than.
    pub max_ns: Option<u64>,
    /// Every word is in the trace id, or in the service, name or a value of the span.
    pub text: String,
    /// Longest first rather than newest first.
    pub slowest: bool,
    /// How many, at most [`MAX_ROWS`].
    pub limit: usize,
}

impl Store {
    /// The stretch of so many seconds up to now.
    pub fn window(&self, seconds: u64) -> Window {
        self.stretch(seconds, None)
    }

    /// As [`Self::window`], or up to another moment.
    pub fn stretch(&self, seconds: u64, to_unix_us: Option<u64>) -> Window {
        let seconds = seconds.clamp(FINE_S, SPAN_S);
        let now_unix_us = self.now_unix_ns / 1000;
        let to_unix_us = to_unix_us.unwrap_or(now_unix_us).min(now_unix_us);
        let to_s = to_unix_us / 1_000_000;
        let slot_s = if now_unix_us / 1_000_000 > to_s.saturating_sub(seconds) + FINE_SPAN_S {
            COARSE_S
        } else {
            FINE_S
        };
        let began = self.began_unix_ns / 1000;
        // A young store has nothing to show of the time before it.
        let from_s = to_s.saturating_sub(seconds).max((began / 1_000_000).min(to_s.saturating_sub(LEAST_S)));
        let from_unix_us = from_s / slot_s * slot_s * 1_000_000;
        let covered = to_unix_us.saturating_sub(from_unix_us.max(began)).max(1_000_000);
        Window { now_unix_us, from_unix_us, to_unix_us, seconds: covered as f64 / 1e6 }
    }

    /// Services and edges.
    pub fn overview(&self, seconds: u64) -> Overview {
        let window = self.window(seconds);
        let (from_s, spark_of) = spark(&window);
        let mut services: FxHashMap<u16, [Row; 2]> = FxHashMap::default();
        let mut edges: FxHashMap<(Option<u16>, u16, bool), Figures> = FxHashMap::default();
        let mut inbound: FxHashMap<u16, (u64, u64)> = FxHashMap::default();
        let mut total = Row::default();
        self.series.walk(
            from_s,
            u64::MAX,
            |_| true,
            |start_s, _, key, figures| {
                let serves = matches!(key.kind, 1 | 4);
                let column = spark_of(start_s);
                services.entry(key.service).or_default()[usize::from(!serves)].add(figures, column);
                if serves {
                    total.add(figures, column);
                    if key.peer == OUTSIDE {
                        edges.entry((None, key.service, true)).or_default().merge(figures);
                    }
                } else {
                    let seen = self.peers.service(key.peer);
                    let to = seen.unwrap_or_else(|| self.peers.label(key.peer));
                    edges.entry((Some(key.service), to, seen.is_some())).or_default().merge(figures);
                    if seen.is_some() {
                        let sum = inbound.entry(to).or_default();
                        *sum = (sum.0 + figures.count, sum.1 + figures.errors);
                    }
                }
            },
        );
        let about = self.about_services();
        let mut rows: Vec<ServiceRow> = services
            .into_iter()
            .map(|(id, [server, client])| {
                let (role, row) =
                    if server.figures.count > 0 { ("server", server) } else { ("client", client) };
                let about = about.get(self.names.get(id));
                ServiceRow {
                    service: visible(self.names.get(id)),
                    role,
                    language: about.and_then(|about| about.0.clone()),
                    source: source_name(about.is_none_or(|about| about.1)),
                    red: red(&row.figures, &window),
                    spark: row.spark(&window),
                }
            })
            .collect();
        rows.sort_by(|a, b| b.red.count.cmp(&a.red.count).then_with(|| a.service.cmp(&b.service)));
        let mut edges: Vec<EdgeRow> = edges
            .into_iter()
            .map(|((from, to, to_seen), figures)| EdgeRow {
                from: from.map(|from| visible(self.names.get(from))),
                to: visible(self.names.get(to)),
                to_seen,
                red: red(&figures, &window),
            })
            .collect();
        edges.sort_by(|a, b| {
            b.red.count.cmp(&a.red.count).then_with(|| (&a.from, &a.to).cmp(&(&b.from, &b.to)))
        });
        Overview {
            window,
            total: red(&total.figures, &window),
            spark: total.spark(&window),
            services: rows,
            edges,
        }
    }

    /// What services do, by span name.
    pub fn operations(&self, seconds: u64, subject: &Subject) -> Operations {
        let window = self.window(seconds);
        let (from_s, spark_of) = spark(&window);
        let mut operations: FxHashMap<(u16, u8, u16), Row> = FxHashMap::default();
        self.series.walk(from_s, u64::MAX, self.wanted(subject), |start_s, _, key, figures| {
            operations.entry((key.service, key.kind, key.name)).or_default().add(figures, spark_of(start_s));
        });
        let mut rows: Vec<OperationRow> = operations
            .into_iter()
            .map(|((service, kind, name), row)| OperationRow {
                service: visible(self.names.get(service)),
                kind: KINDS[usize::from(kind)],
                name: visible(self.names.get(name)),
                red: red(&row.figures, &window),
                spark: row.spark(&window),
            })
            .collect();
        rows.sort_by(|a, b| {
            b.red.count.cmp(&a.red.count).then_with(|| (&a.service, &a.name).cmp(&(&b.service, &b.name)))
        });
        Operations { window, operations: rows }
    }

    /// Charts over time.
    pub fn series(&self, seconds: u64, to_unix_us: Option<u64>, subject: &Subject) -> Series {
        let window = self.stretch(seconds, to_unix_us);
        let (step_s, columns) = columns(&window, MAX_POINTS);
        let from_s = window.from_unix_us / 1_000_000;
        let mut figures = vec![Figures::default(); columns];
        let mut total = Figures::default();
        self.series.walk(
            from_s,
            window.to_unix_us.div_ceil(1_000_000),
            self.wanted_default(subject),
            |start_s, _, _, slot| {
                let column = ((start_s - from_s) / step_s) as usize;
                if let Some(figures) = figures.get_mut(column) {
                    figures.merge(slot);
                    total.merge(slot);
                }
            },
        );
        let points = figures.iter().enumerate().map(|(column, figures)| {
            let at_unix_us = window.from_unix_us + column as u64 * step_s * 1_000_000;
            // The first and the last one may be shorter.
            let begin = at_unix_us.max(self.began_unix_ns / 1000);
            let end = (at_unix_us + step_s * 1_000_000).min(window.to_unix_us);
            let seconds = (end.saturating_sub(begin) as f64 / 1e6).max(1.0);
            Point {
                at_unix_us,
                count: figures.count,
                errors: figures.errors,
                rate: figures.count as f64 / seconds,
                p50_ns: figures.quantile_ns(0.5),
                p95_ns: figures.quantile_ns(0.95),
                p99_ns: figures.quantile_ns(0.99),
            }
        });
        Series { window, step_s, total: red(&total, &window), points: points.collect() }
    }

    /// Latency over time: two buckets of the histograms to a row.
    pub fn heatmap(&self, seconds: u64, to_unix_us: Option<u64>, subject: &Subject) -> Heatmap {
        const MERGED: usize = 4;
        let window = self.stretch(seconds, to_unix_us);
        let (step_s, columns) = columns(&window, MAX_POINTS);
        let from_s = window.from_unix_us / 1_000_000;
        let mut counts = vec![vec![0_u64; BUCKETS / MERGED]; columns];
        self.series.walk(
            from_s,
            window.to_unix_us.div_ceil(1_000_000),
            self.wanted_default(subject),
            |start_s, _, _, slot| {
                let Some(column) = counts.get_mut(((start_s - from_s) / step_s) as usize) else { return };
                for (index, &count) in slot.buckets.iter().enumerate() {
                    column[index / MERGED] += u64::from(count);
                }
            },
        );
        let used = |row: usize| counts.iter().any(|column| column[row] > 0);
        let first = (0..BUCKETS / MERGED).find(|&row| used(row)).unwrap_or(0);
        let last = (0..BUCKETS / MERGED).rev().find(|&row| used(row)).unwrap_or(0);
        Heatmap {
            window,
            step_s,
            columns_unix_us: (0..columns as u64)
                .map(|column| window.from_unix_us + column * step_s * 1_000_000)
                .collect(),
            bounds_ns: (first..=last + 1).map(|row| lower_bound_ns(row * MERGED)).collect(),
            counts: counts.into_iter().map(|column| column[first..=last].to_vec()).collect(),
        }
    }

    /// Traces that match.
    pub fn find(&self, filter: &Filter) -> Traces {
        let words: Vec<String> = filter.text.split_whitespace().map(str::to_lowercase).collect();
        let mut matching: Vec<(&Trace, Option<u64>)> = Vec::new();
        let mut bytes = Vec::new();
        for trace in self.traces.iter() {
            let begun = trace.start_unix_ns / 1000;
            if (filter.failed && !trace.failed)
                || filter.from_unix_us.is_some_and(|from| trace.end_unix_ns / 1000 < from)
                || filter.to_unix_us.is_some_and(|to| begun >= to)
            {
                continue;
            }
            if let Some(duration) = self.matches(trace, filter, &words, &mut bytes) {
                matching.push((trace, duration));
            }
        }
        let matched = matching.len() as u64;
        let length = |(trace, duration): &(&Trace, Option<u64>)| {
            duration.unwrap_or(trace.end_unix_ns.saturating_sub(trace.start_unix_ns))
        };
        if filter.slowest {
            matching.sort_by_key(|found| std::cmp::Reverse(length(found)));
        } else {
            matching.sort_by_key(|(trace, _)| std::cmp::Reverse(trace.start_unix_ns));
        }
        matching.truncate(filter.limit.clamp(1, MAX_ROWS));
        let traces =
            matching.into_iter().map(|(trace, duration)| self.row(trace, duration, &mut bytes)).collect();
        Traces { matched, held: self.traces.counts.traces, traces }
    }

    /// Whether a trace matches, and with what duration, where one span decides.
    fn matches(
        &self,
        trace: &Trace,
        filter: &Filter,
        words: &[String],
        bytes: &mut Vec<u8>,
    ) -> Option<Option<u64>> {
        let subject = &filter.subject;
        let by_span = subject.service.is_some()
            || subject.kind.is_some()
            || subject.name.is_some()
            || filter.from_unix_us.is_some()
            || filter.to_unix_us.is_some();
        let (min, max) = (filter.min_ns.unwrap_or(0), filter.max_ns.unwrap_or(u64::MAX));
        let id = hex(&trace.id);
        if !by_span {
            let duration = trace.end_unix_ns.saturating_sub(trace.start_unix_ns);
            if duration < min || duration >= max {
                return None;
            }
            if words.iter().all(|word| id.contains(word)) {
                return Some(None);
            }
        }
        self.traces.read(trace, bytes);
        for span in KeptSpans(bytes) {
            let Some(body) = Body::read(span.body) else { continue };
            let service = self.service_of(span.origin);
            if by_span {
                let end_unix_us = body.end_unix_ns() / 1000;
                if subject.service.as_ref().is_some_and(|wanted| *wanted != visible(service))
                    || subject.kind.as_ref().is_some_and(|wanted| wanted != kind_name(&body))
                    || subject.name.as_ref().is_some_and(|wanted| *wanted != visible(body.name))
                    || filter.from_unix_us.is_some_and(|from| end_unix_us < from)
                    || filter.to_unix_us.is_some_and(|to| end_unix_us >= to)
                    || body.duration_ns < min
                    || body.duration_ns >= max
                    || (filter.failed && subject.service.is_some() && !body.failed)
                {
                    continue;
                }
            }
            if words.is_empty() {
                return Some(by_span.then_some(body.duration_ns));
            }
            let mut text = format!("{id} {service} {} {}", body.name, body.message).to_lowercase();
            body.attributes(|name, value| {
                text.push(' ');
                text.push_str(name);
                text.push('=');
                match value {
                    Kept::Text(value) => text.push_str(&value.to_lowercase()),
                    Kept::Int(value) => text.push_str(&value.to_string()),
                    Kept::Double(value) => text.push_str(&value.to_string()),
                    Kept::Bool(value) => text.push_str(if value { "true" } else { "false" }),
                    Kept::List(values) => text.push_str(&values.join(",").to_lowercase()),
                }
            });
            if words.iter().all(|word| text.contains(word)) {
                return Some(by_span.then_some(body.duration_ns));
            }
        }
        None
    }

    fn row(&self, trace: &Trace, match_ns: Option<u64>, bytes: &mut Vec<u8>) -> TraceRow {
        const SERVICES: usize = 8;
        self.traces.read(trace, bytes);
        let mut services: Vec<String> = Vec::new();
        for span in KeptSpans(bytes) {
            let service = visible(self.service_of(span.origin));
            if services.len() < SERVICES && !services.contains(&service) {
                services.push(service);
            }
        }
        TraceRow {
            trace_id: hex(&trace.id),
            service: visible(self.names.get(trace.root.service)),
            kind: KINDS[usize::from(trace.root.kind)],
            name: visible(self.names.get(trace.root.name)),
            start_unix_us: trace.start_unix_ns / 1000,
            duration_ns: trace.end_unix_ns.saturating_sub(trace.start_unix_ns),
            spans: trace.spans.into(),
            services,
            failed: trace.failed,
            slow: trace.slow,
            match_ns,
        }
    }

    /// One trace, if it is there.
    pub fn trace(&self, id: &[u8; 16]) -> Option<TraceView> {
        let trace = self.traces.get(id)?;
        let mut bytes = Vec::new();
        self.traces.read(trace, &mut bytes);
        let mut spans: Vec<(Body<'_>, u16)> = Vec::new();
        for span in KeptSpans(&bytes) {
            if let Some(body) = Body::read(span.body) {
                spans.push((body, span.origin));
            }
        }
        let order = waterfall(&spans);
        let rows = order.into_iter().map(|(index, depth, parent_seen)| {
            let (body, origin) = &spans[index];
            self.span_row(trace, body, *origin, depth, parent_seen)
        });
        Some(TraceView {
            trace_id: hex(id),
            start_unix_us: trace.start_unix_ns / 1000,
            duration_ns: trace.end_unix_ns.saturating_sub(trace.start_unix_ns),
            failed: trace.failed,
            spans_dropped: trace.spans_dropped,
            spans: rows.collect(),
        })
    }

    fn span_row(
        &self,
        trace: &Trace,
        body: &Body<'_>,
        origin: u16,
        depth: u32,
        parent_seen: bool,
    ) -> SpanRow {
        let mut attributes = Map::new();
        let links = body.attributes(|name, value| {
            let value = match value {
                Kept::Text(text) => Value::String(visible(text)),
                Kept::Int(number) => number.into(),
                Kept::Double(number) => number.into(),
                Kept::Bool(truth) => truth.into(),
                Kept::List(texts) => texts.into_iter().map(visible).collect::<Vec<_>>().into(),
            };
            attributes.insert(visible(name), value);
        });
        let origin = self.origins.get(usize::from(origin)).and_then(Option::as_ref);
        let mut resource = Map::new();
        for (name, value) in origin.iter().flat_map(|origin| &origin.attributes) {
            resource.insert(visible(name), Value::String(visible(value)));
        }
        SpanRow {
            span_id: hex(&body.span_id),
            parent_span_id: body.parent_span_id.map(|id| hex(&id)),
            parent_seen,
            depth,
            service: visible(origin.map_or("(other)", |origin| &origin.service)),
            kind: kind_name(body),
            name: visible(body.name),
            status: body.status,
            message: visible(body.message),
            offset_ns: body.start_unix_ns.saturating_sub(trace.start_unix_ns),
            duration_ns: body.duration_ns,
            attributes,
            resource,
            links: links.into_iter().map(|(trace, span)| (hex(&trace), hex(&span))).collect(),
            source: source_name(origin.is_none_or(|origin| origin.observed)),
        }
    }

    /// Begin of what the series still know, and of the store itself.
    pub fn since_unix_us(&self) -> u64 {
        let oldest = self.series.oldest_s().map_or(u64::MAX, |oldest| oldest * 1_000_000);
        oldest.max(self.began_unix_ns / 1000).min(self.now_unix_ns / 1000)
    }

    fn service_of(&self, origin: u16) -> &str {
        self.origins
            .get(usize::from(origin))
            .and_then(Option::as_ref)
            .map_or("(other)", |origin| origin.service.as_str())
    }

    /// Language of each service, and whether it is seen from outside.
    fn about_services(&self) -> FxHashMap<&str, (Option<String>, bool)> {
        let mut about: FxHashMap<&str, (Option<String>, bool)> = FxHashMap::default();
        for origin in self.origins.iter().flatten() {
            let language = origin
                .attributes
                .iter()
                .find(|(name, _)| name == semconv::TELEMETRY_SDK_LANGUAGE)
                .map(|(_, value)| visible(value));
            let entry = about.entry(&origin.service).or_insert((None, origin.observed));
            entry.0 = entry.0.take().or(language);
            entry.1 |= origin.observed;
        }
        about
    }

    fn wanted(&self, subject: &Subject) -> impl Fn(Key) -> bool + use<> {
        // Names are visible text in the API; the common case is that this changes nothing.
        let find = |text: &Option<String>| {
            text.as_ref().map(|text| {
                self.names
                    .find(text)
                    .or_else(|| (1..self.names.len() as u16).find(|&id| visible(self.names.get(id)) == *text))
            })
        };
        let (service, name) = (find(&subject.service), find(&subject.name));
        let kind = subject.kind.as_ref().map(|kind| KINDS.iter().position(|known| known == kind));
        move |key: Key| {
            service.is_none_or(|service| service == Some(key.service))
                && name.is_none_or(|name| name == Some(key.name))
                && kind.is_none_or(|kind| kind == Some(usize::from(key.kind)))
        }
    }

    /// Without a kind: what servers answer, or what is asked by services that serve nothing.
    fn wanted_default(&self, subject: &Subject) -> impl Fn(Key) -> bool + use<> {
        let wanted = self.wanted(subject);
        let any_kind = subject.kind.is_none();
        let serves = any_kind && self.series.keys().any(|key| matches!(key.kind, 1 | 4) && wanted(key));
        move |key: Key| wanted(key) && (!serves || matches!(key.kind, 1 | 4))
    }
}

#[derive(Default)]
struct Row {
    figures: Figures,
    spark: [u64; SPARK],
}

impl Row {
    fn add(&mut self, figures: &Figures, column: usize) {
        self.figures.merge(figures);
        self.spark[column.min(SPARK - 1)] += figures.count;
    }

    fn spark(&self, window: &Window) -> Vec<f32> {
        let (step_s, count) = columns(window, SPARK as u64);
        let rate = |(index, &count): (usize, &u64)| {
            // The last column is not over yet.
            let begin_us = window.from_unix_us + index as u64 * step_s * 1_000_000;
            let seconds = (window.to_unix_us.saturating_sub(begin_us) as f32 / 1e6).clamp(1.0, step_s as f32);
            count as f32 / seconds
        };
        self.spark[..count.min(SPARK)].iter().enumerate().map(rate).collect()
    }
}

/// Begin of a window in seconds, and the column of a spark line that a slot falls into: whole slots, so that the
/// line does not beat.
fn spark(window: &Window) -> (u64, impl Fn(u64) -> usize + use<>) {
    let from_s = window.from_unix_us / 1_000_000;
    let (step_s, _) = columns(window, SPARK as u64);
    (from_s, move |start_s| ((start_s - from_s) / step_s) as usize)
}

/// Seconds of a column and number of columns: whole slots, as many as a chart can show.
fn columns(window: &Window, most: u64) -> (u64, usize) {
    let seconds = (window.to_unix_us - window.from_unix_us).div_ceil(1_000_000).max(1);
    let from_now = window.now_unix_us.saturating_sub(window.from_unix_us) / 1_000_000;
    let slot_s = if from_now > FINE_SPAN_S { COARSE_S } else { FINE_S };
    let step_s = seconds.div_ceil(most).div_ceil(slot_s) * slot_s;
    (step_s, seconds.div_ceil(step_s) as usize)
}

fn red(figures: &Figures, window: &Window) -> Red {
    Red {
        count: figures.count,
        errors: figures.errors,
        rate: figures.count as f64 / window.seconds,
        error_share: if figures.count == 0 { 0.0 } else { figures.errors as f64 / figures.count as f64 },
        p50_ns: figures.quantile_ns(0.5),
        p95_ns: figures.quantile_ns(0.95),
        p99_ns: figures.quantile_ns(0.99),
        max_ns: figures.max_us * 1000,
        mean_ns: (figures.sum_us * 1000).checked_div(figures.count).unwrap_or(0),
    }
}

/// Order of a waterfall: children below their parents, by their begin. Index, depth, whether the parent is there.
fn waterfall(spans: &[(Body<'_>, u16)]) -> Vec<(usize, u32, bool)> {
    let by_id: FxHashMap<[u8; 8], usize> =
        spans.iter().enumerate().map(|(index, (body, _))| (body.span_id, index)).collect();
    let mut children: FxHashMap<usize, Vec<usize>> = FxHashMap::default();
    let mut roots = Vec::new();
    for (index, (body, _)) in spans.iter().enumerate() {
        match body.parent_span_id.and_then(|id| by_id.get(&id)) {
            Some(&parent) if parent != index => children.entry(parent).or_default().push(index),
            _ => roots.push(index),
        }
    }
    let by_start =
        |list: &mut Vec<usize>| list.sort_by_key(|&index| std::cmp::Reverse(spans[index].0.start_unix_ns));
    by_start(&mut roots);
    children.values_mut().for_each(by_start);
    let mut order = Vec::with_capacity(spans.len());
    let mut done = vec![false; spans.len()];
    let mut stack: Vec<(usize, u32)> = roots.iter().map(|&index| (index, 0)).collect();
    // A ring of parents, which only lies from outside can make, has no root: one of it is taken for that.
    let mut next = 0;
    loop {
        while let Some((index, depth)) = stack.pop() {
            if std::mem::replace(&mut done[index], true) {
                continue;
            }
            let parent_seen = spans[index].0.parent_span_id.is_some_and(|id| by_id.contains_key(&id));
            order.push((index, depth, parent_seen));
            stack.extend(children.get(&index).into_iter().flatten().map(|&child| (child, depth + 1)));
        }
        while next < done.len() && done[next] {
            next += 1;
        }
        if next == done.len() {
            return order;
        }
        stack.push((next, 0));
    }
}

fn kind_name(body: &Body<'_>) -> &'static str {
    crate::output::json::kind_name(body.kind)
}

fn source_name(observed: bool) -> &'static str {
    if observed { "skep" } else { "otlp" }
}

/// Text from outside as it may be shown.
pub(crate) fn visible(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    write_visible(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    text
}

/// 32 hexadecimal digits.
pub fn parse_trace_id(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}
