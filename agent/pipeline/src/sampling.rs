//! Which spans leave: OpenTelemetry's standard samplers, spans that are kept whatever the sampler says, and a rate limit.
//!
//! In: finished spans. Out: a [`Verdict`] for each. All spans that Skep makes of one trace get the same answer as far as
//! that can be: samplers look at the trace alone, and what else was decided of a trace is remembered in a table of
//! fixed size. Spec: opentelemetry.io/docs/specs/otel/trace/sdk (built-in samplers), trace-context-2 (flags).

use crate::span::{Span, Status};
use crate::trace_context::SAMPLED;

/// Traces whose verdict is remembered; a power of two.
const REMEMBERED: usize = 4096;
const SECOND_NS: u64 = 1_000_000_000;

/// A sampler of `OTEL_TRACES_SAMPLER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Traces whose headers say whether they are sampled are, or are not.
    pub parent_based: bool,
    /// All others.
    pub root: RootSampler,
}

/// What decides where no parent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootSampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A part of all traces, by their id.
    TraceIdRatio(Ratio),
}

/// A part of all traces, as the SDKs compute it: the last 63 bits of the trace id below a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(u64);

/// How spans are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplingConfig {
    /// For processes without a sampler of their own.
    pub sampler: Sampler,
    /// Spans that failed are kept, sampled or not.
    pub keep_errors: bool,
    /// Spans that took at least this long are kept, sampled or not.
    pub keep_slow_ns: Option<u64>,
    /// Spans in a second, at most; what was spared in a second may be used in the next.
    pub max_spans_per_second: Option<u32>,
}

/// What becomes of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It leaves.
    Sampled,
    /// The sampler does not want its trace.
    SampledOut,
    /// Too many in this second.
    RateLimited,
}

/// How many spans got which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SamplingStats {
    /// [`Verdict::Sampled`]
    pub sampled: u64,
    /// [`Verdict::SampledOut`]
    pub sampled_out: u64,
    /// [`Verdict::RateLimited`]
    pub rate_limited: u64,
}

/// The choice, and what it remembers.
#[derive(Debug)]
pub struct Sampling {
    config: SamplingConfig,
    bucket: Bucket,
    /// By the last bits of the trace id, newer traces over older ones. Empty where nothing needs remembering.
    traces: Box<[Remembered]>,
    stats: SamplingStats,
}

#[derive(Clone, Copy, Debug, Default)]
struct Remembered {
    trace_id: [u8; 16],
    /// Kept against the sampler, because a span of it failed or was slow.
    kept: bool,
    /// What the rate limit said.
    admitted: Option<bool>,
}

/// Tokens for spans. A trace that was admitted may overdraw it by one second's worth.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    tokens: f64,
    now_ktime_ns: u64,
}

impl Ratio {
    /// From a number between 0 and 1; others are cut.
    pub fn new(ratio: f64) -> Self {
        Self((ratio.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64)
    }

    fn takes(self, trace_id: [u8; 16]) -> bool {
        let [.., a, b, c, d, e, f, g, h] = trace_id;
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.0
    }
}

impl Default for Sampler {
    /// `parentbased_always_on`, as the specification says.
    fn default() -> Self {
        Self { parent_based: true, root: RootSampler::AlwaysOn }
    }
}

impl Sampler {
    /// Whether it wants the trace.
    #[inline]
    pub fn wants(&self, span: &Span<'_>) -> bool {
        if self.parent_based && span.remote_trace {
            return span.flags & SAMPLED != 0;
        }
        match self.root {
            RootSampler::AlwaysOn => true,
            RootSampler::AlwaysOff => false,
            RootSampler::TraceIdRatio(ratio) => ratio.takes(span.trace_id),
        }
    }
}

impl Sampling {
    /// A choice that has seen nothing yet.
    pub fn new(config: SamplingConfig) -> Self {
        let remembers =
            config.keep_errors || config.keep_slow_ns.is_some() || config.max_spans_per_second.is_some();
        Self {
            config,
            bucket: Bucket::new(config.max_spans_per_second.unwrap_or(0)),
            traces: if remembers { vec![Remembered::default(); REMEMBERED].into() } else { Box::default() },
            stats: SamplingStats::default(),
        }
    }

    /// Chooses by other rules from now on; the counters stay.
    pub fn reconfigure(&mut self, config: SamplingConfig) {
        if config != self.config {
            *self = Self { stats: self.stats, ..Self::new(config) };
        }
    }

    /// Decides on a span; `sampler` is that of its process, where it has one. A span that leaves has its sampled flag
    /// set, and no other has.
    #[inline]
    pub fn decide(&mut self, span: &mut Span<'_>, sampler: Option<&Sampler>) -> Verdict {
        let wanted = sampler.unwrap_or(&self.config.sampler).wants(span);
        let verdict = if self.traces.is_empty() {
            if wanted { Verdict::Sampled } else { Verdict::SampledOut }
        } else {
            self.decide_remembering(span, wanted)
        };
        let (counter, flag) = match verdict {
            Verdict::Sampled => (&mut self.stats.sampled, SAMPLED),
            Verdict::SampledOut => (&mut self.stats.sampled_out, 0),
            Verdict::RateLimited => (&mut self.stats.rate_limited, 0),
        };
        *counter += 1;
        span.flags = span.flags & !SAMPLED | flag;
        verdict
    }

    /// How many spans got which verdict.
    pub fn stats(&self) -> SamplingStats {
        self.stats
    }

    fn decide_remembering(&mut self, span: &Span<'_>, wanted: bool) -> Verdict {
        let [.., high, low] = span.trace_id;
        let slot = &mut self.traces[usize::from(u16::from_be_bytes([high, low])) & (REMEMBERED - 1)];
        if slot.trace_id != span.trace_id {
            // A trace of which nothing special is known needs no place.
            let fresh = Remembered { trace_id: span.trace_id, ..Remembered::default() };
            if !wanted && !self.config.keeps(span) {
                return Verdict::SampledOut;
            }
            *slot = fresh;
        }
        slot.kept |= self.config.keeps(span);
        if !wanted && !slot.kept {
            return Verdict::SampledOut;
        }
        if self.config.max_spans_per_second.is_none() {
            return Verdict::Sampled;
        }
        self.bucket.refill(span.end_ktime_ns);
        if self.bucket.take(&mut slot.admitted) { Verdict::Sampled } else { Verdict::RateLimited }
    }
}

impl SamplingConfig {
    fn keeps(&self, span: &Span<'_>) -> bool {
        let slow = || {
            let duration_ns = span.end_ktime_ns.saturating_sub(span.start_ktime_ns);
            self.keep_slow_ns.is_some_and(|limit| duration_ns >= limit)
        };
        self.keep_errors && span.status().0 == Status::Error || slow()
    }
}

impl Bucket {
    fn new(per_second: u32) -> Self {
        Self { per_second: per_second.into(), tokens: per_second.into(), now_ktime_ns: 0 }
    }

    /// Spans come nearly in the order of their ends; time never goes back.
    fn refill(&mut self, ktime_ns: u64) {
        let passed = ktime_ns.saturating_sub(self.now_ktime_ns);
        self.now_ktime_ns += passed;
        let new = passed as f64 / SECOND_NS as f64 * self.per_second;
        self.tokens = (self.tokens + new).min(self.per_second);
    }

    /// The first span of a trace decides for the trace, as long as the debt has room.
    fn take(&mut self, admitted: &mut Option<bool>) -> bool {
        let limit = if *admitted == Some(true) { 1.0 - self.per_second } else { 1.0 };
        let takes = *admitted != Some(false) && self.tokens >= limit;
        if takes {
            self.tokens -= 1.0;
        }
        admitted.get_or_insert(takes);
        takes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::request::{ErrorType, Request};
    use crate::span::ParentRule;

    const RATIO_HALF: &str = "parentbased_traceidratio 0.5";

    fn sampler(name: &str) -> Sampler {
        let (name, ratio) = name.split_once(' ').unwrap_or((name, "1"));
        let parent_based = name.starts_with("parentbased_");
        let root = match name.trim_start_matches("parentbased_") {
            "always_on" => RootSampler::AlwaysOn,
            "always_off" => RootSampler::AlwaysOff,
            _ => RootSampler::TraceIdRatio(Ratio::new(ratio.parse().unwrap())),
        };
        Sampler { parent_based, root }
    }

    fn span(request: &Request, trace: u128) -> Span<'_> {
        Span {
            trace_id: trace.to_be_bytes(),
            span_id: [1; 8],
            parent_span_id: None,
            flags: SAMPLED,
            remote_trace: false,
            trace_state: None,
            start_ktime_ns: 0,
            end_ktime_ns: 0,
            tgid: 1,
            request,
            parent_rule: ParentRule::None,
            links: &[],
        }
    }

    /// Sampler, flag that came with the trace if any, expected.
    fn check(name: &str, inbound: Option<u8>, expected: bool) {
        let request = Request::default();
        let mut span = span(&request, 7);
        span.remote_trace = inbound.is_some();
        span.flags = inbound.unwrap_or(SAMPLED);
        let mut sampling =
            Sampling::new(SamplingConfig { sampler: sampler(name), ..SamplingConfig::default() });
        let verdict = sampling.decide(&mut span, None);
        assert_eq!(verdict == Verdict::Sampled, expected, "{name} {inbound:?}");
        assert_eq!(span.flags & SAMPLED != 0, expected, "{name} {inbound:?}");
        assert_eq!(span.flags & !SAMPLED, inbound.unwrap_or(0) & !SAMPLED, "other flags stay");
    }

    #[test]
    fn all_standard_samplers_follow_the_specification() {
        for (name, none, off, on) in [
            ("always_on", true, true, true),
            ("always_off", false, false, false),
            ("traceidratio 1", true, true, true),
            ("traceidratio 0", false, false, false),
            ("parentbased_always_on", true, false, true),
            ("parentbased_always_off", false, false, true),
            ("parentbased_traceidratio 1", true, false, true),
            ("parentbased_traceidratio 0", false, false, true),
        ] {
            check(name, None, none);
            check(name, Some(2), off);
            check(name, Some(3), on);
        }
    }

    #[test]
    fn the_ratio_is_that_of_the_sdks() {
        // Go: binary.BigEndian.Uint64(traceID[8:16]) >> 1 < uint64(fraction * (1 << 63)).
        let takes = |ratio: f64, low: u64| Ratio::new(ratio).takes(u128::from(low).to_be_bytes());
        assert!(takes(0.5, 0x7fff_ffff_ffff_ffff) && !takes(0.5, 0x8000_0000_0000_0000));
        assert!(takes(0.25, 0x3fff_ffff_ffff_ffff) && !takes(0.25, 0x4000_0000_0000_0000));
        assert!(takes(1.0, u64::MAX) && !takes(0.0, 0) && takes(7.0, u64::MAX) && !takes(f64::NAN, 0));
    }

    #[test]
    fn the_process_sampler_comes_before_the_default_one() {
        let request = Request::default();
        let mut sampling = Sampling::new(SamplingConfig::default());
        assert_eq!(
            sampling.decide(&mut span(&request, 1), Some(&sampler("always_off"))),
            Verdict::SampledOut
        );
        assert_eq!(sampling.decide(&mut span(&request, 1), None), Verdict::Sampled);
        let stats = SamplingStats { sampled: 1, sampled_out: 1, rate_limited: 0 };
        assert_eq!(sampling.stats(), stats);
    }

    #[test]
    fn what_failed_or_was_slow_is_kept_and_so_is_the_rest_of_its_trace() {
        let config = SamplingConfig {
            sampler: sampler("always_off"),
            keep_errors: true,
            keep_slow_ns: Some(500),
            ..SamplingConfig::default()
        };
        let mut sampling = Sampling::new(config);
        let good = Request::default();
        let bad = Request { error_type: Some(ErrorType::Timeout), ..Request::default() };
        let mut decide = |request: &Request, trace, duration| {
            let mut span = span(request, trace);
            span.end_ktime_ns = duration;
            sampling.decide(&mut span, None) == Verdict::Sampled
        };
        assert!(!decide(&good, 1, 499));
        assert!(decide(&good, 2, 500));
        assert!(decide(&bad, 3, 0));
        // Parents end after their children.
        assert!(decide(&good, 3, 1) && decide(&good, 2, 1) && !decide(&good, 1, 1));
    }

    #[test]
    fn the_rate_limit_takes_whole_traces() {
        let config = SamplingConfig { max_spans_per_second: Some(10), ..SamplingConfig::default() };
        let mut sampling = Sampling::new(config);
        let request = Request::default();
        let mut decide = |trace: u128, ms: u64| {
            let mut span = span(&request, trace);
            span.end_ktime_ns = 1_000_000_000 + ms * 1_000_000;
            sampling.decide(&mut span, None)
        };
        let verdicts: Vec<_> = (1..=20).map(|trace| decide(trace, 0)).collect();
        assert!(verdicts[..10].iter().all(|&verdict| verdict == Verdict::Sampled), "{verdicts:?}");
        assert!(verdicts[10..].iter().all(|&verdict| verdict == Verdict::RateLimited), "{verdicts:?}");
        // More of an admitted trace is taken on credit, nothing of a refused one is.
        assert_eq!(decide(3, 0), Verdict::Sampled);
        assert_eq!(decide(15, 900), Verdict::RateLimited);
        // The debt is paid back before a new trace comes in.
        assert_eq!(decide(21, 150), Verdict::Sampled);
        assert_eq!(decide(22, 2000), Verdict::Sampled);
    }

    proptest! {
        #[test]
        fn a_trace_is_whole_or_not_there(low in any::<u64>(), high in any::<u64>(), more in 0.0..1.0_f64, less in 0.0..1.0_f64) {
            let request = Request::default();
            let span = span(&request, u128::from(high) << 64 | u128::from(low));
            let wants = |ratio: f64| sampler(&format!("traceidratio {ratio}")).wants(&span);
            prop_assert_eq!(wants(less), wants(less));
            // A trace that a small part holds is in every larger one.
            prop_assert!(!wants(less * more) || wants(less));
        }

        #[test]
        fn the_limit_holds_over_any_time(traces in proptest::collection::vec((0..200_u128, 0..50_000_000_u64), 1..500), limit in 1..50_u32) {
            let mut sampling = Sampling::new(SamplingConfig { max_spans_per_second: Some(limit), ..SamplingConfig::default() });
            let request = Request::default();
            let (mut now, mut sampled) = (1_u64, 0_u64);
            for &(trace, passed) in &traces {
                now += passed;
                let mut span = span(&request, trace);
                span.end_ktime_ns = now;
                sampled += u64::from(sampling.decide(&mut span, None) == Verdict::Sampled);
            }
            let seconds = now as f64 / 1e9;
            // What was spared, what came in, and the credit.
            prop_assert!(sampled as f64 <= f64::from(limit) * (2.0 + seconds) + 1.0);
            let stats = sampling.stats();
            prop_assert_eq!(stats.sampled + stats.rate_limited, traces.len() as u64);
        }
    }

    #[test]
    fn a_parent_based_ratio_follows_the_flag() {
        check(RATIO_HALF, Some(0), false);
        check(RATIO_HALF, Some(1), true);
    }
}
