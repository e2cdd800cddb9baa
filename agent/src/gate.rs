//! Which finished requests are counted in metrics, and which leave as spans: filters first, then the sampler.
//!
//! In: spans with their resource. Out: yes or no, and how often no was said, by reason. None of it is a loss: the user
//! asked for it.

use agent_pipeline::filter::Filter;
use agent_pipeline::sampling::{Sampling, Verdict};
use agent_pipeline::span::{Span, Value};

use crate::config::GateConfig;
use crate::discovery::resource::{Resource, ResourceValue};

/// The filters and the sampler at work.
pub struct Gate {
    traces: Filter,
    metrics: Filter,
    sampling: Sampling,
    filtered_traces: u64,
    filtered_metrics: u64,
}

impl Gate {
    /// A gate that has let nothing pass yet.
    pub fn new(config: GateConfig) -> Self {
        Self {
            traces: config.traces,
            metrics: config.metrics,
            sampling: Sampling::new(config.sampling),
            filtered_traces: 0,
            filtered_metrics: 0,
        }
    }

    /// Other rules from now on; the counters stay.
    pub fn reconfigure(&mut self, config: GateConfig) {
        self.traces = config.traces;
        self.metrics = config.metrics;
        self.sampling.reconfigure(config.sampling);
    }

    /// Whether metrics count the request.
    #[inline]
    pub fn passes_to_metrics(&mut self, span: &Span<'_>, resource: &Resource) -> bool {
        let keeps = self.metrics.keeps(span, |visit| show(resource, visit));
        self.filtered_metrics += u64::from(!keeps);
        keeps
    }

    /// Whether the span leaves; sets its sampled flag.
    #[inline]
    pub fn passes_to_traces(&mut self, span: &mut Span<'_>, resource: &Resource) -> bool {
        if !self.traces.keeps(span, |visit| show(resource, visit)) {
            self.filtered_traces += 1;
            return false;
        }
        self.sampling.decide(span, None) == Verdict::Sampled
    }

    /// What was left out on purpose: stage, reason, count.
    pub fn left_out(&self) -> [(&'static str, &'static str, u64); 4] {
        let sampling = self.sampling.stats();
        [
            ("filter", "traces", self.filtered_traces),
            ("filter", "metrics", self.filtered_metrics),
            ("sampling", "sampled_out", sampling.sampled_out),
            ("sampling", "rate_limited", sampling.rate_limited),
        ]
    }
}

fn show(resource: &Resource, visit: &mut dyn FnMut(&str, Value<'_>)) {
    for (name, value) in &resource.attributes {
        visit(
            name,
            match value {
                ResourceValue::Text(text) => Value::Str(text),
                ResourceValue::Int(number) => Value::Int(*number),
            },
        );
    }
}
