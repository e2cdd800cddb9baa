//! Which finished requests are counted in metrics, and which leave as spans: filters first, then the sampler.
//!
//! In: spans with their resource. Out: yes or no, and how often no was said, by reason. None of it is a loss: the user
//! asked for it.

use agent_pipeline::filter::Filter;
use agent_pipeline::sampling::{Sampler, Sampling, Verdict};
use agent_pipeline::span::{Span, Value};
use agent_pipeline::trace_context::SAMPLED;

use crate::config::{GateConfig, Rule};
use crate::discovery::resource::{Resource, ResourceValue};

/// How many reasons there are to leave something out.
pub const LEFT_OUT: usize = 6;

/// The filters and the sampler at work.
pub struct Gate {
    traces: Filter,
    metrics: Filter,
    sampling: Sampling,
    /// By the number of the rule.
    treatments: Vec<Treatment>,
    filtered_traces: u64,
    filtered_metrics: u64,
    no_traces: u64,
    no_metrics: u64,
}

/// What a rule says of the requests of its processes.
#[derive(Clone, Copy, Debug)]
struct Treatment {
    traces: bool,
    metrics: bool,
    sampler: Option<Sampler>,
}

const NO_RULE: Treatment = Treatment { traces: true, metrics: true, sampler: None };

impl Gate {
    /// A gate that has let nothing pass yet.
    pub fn new(config: GateConfig, rules: &[Rule]) -> Self {
        let mut gate = Self {
            traces: Filter::default(),
            metrics: Filter::default(),
            sampling: Sampling::new(config.sampling),
            treatments: Vec::new(),
            filtered_traces: 0,
            filtered_metrics: 0,
            no_traces: 0,
            no_metrics: 0,
        };
        gate.set_rules(rules);
        gate.reconfigure(config);
        gate
    }

    /// Other filters and another sampler from now on; the counters stay.
    pub fn reconfigure(&mut self, config: GateConfig) {
        self.traces = config.traces;
        self.metrics = config.metrics;
        self.sampling.reconfigure(config.sampling);
    }

    /// Other rules from now on.
    pub fn set_rules(&mut self, rules: &[Rule]) {
        let treatment = |rule: &Rule| Treatment {
            traces: !rule.no_traces,
            metrics: !rule.no_metrics,
            sampler: rule.sampler,
        };
        self.treatments = rules.iter().map(treatment).collect();
    }

    /// Whether the span leaves; its sampled flag says so then. To be asked before [`Gate::passes_to_metrics`], so that
    /// exemplars name traces that can be found.
    #[inline]
    pub fn passes_to_traces(&mut self, span: &mut Span<'_>, resource: &Resource) -> bool {
        let treatment = self.treatments.get(resource.rule).unwrap_or(&NO_RULE);
        if !treatment.traces {
            self.no_traces += 1;
        } else if !self.traces.keeps(span, |visit| show(resource, visit)) {
            self.filtered_traces += 1;
        } else {
            return self.sampling.decide(span, treatment.sampler.as_ref()) == Verdict::Sampled;
        }
        span.flags &= !SAMPLED;
        false
    }

    /// Whether metrics count the request, sampled or not.
    #[inline]
    pub fn passes_to_metrics(&mut self, span: &Span<'_>, resource: &Resource) -> bool {
        if !self.treatments.get(resource.rule).unwrap_or(&NO_RULE).metrics {
            self.no_metrics += 1;
            return false;
        }
        let keeps = self.metrics.keeps(span, |visit| show(resource, visit));
        self.filtered_metrics += u64::from(!keeps);
        keeps
    }

    /// What was left out on purpose: stage, reason, count.
    pub fn left_out(&self) -> [(&'static str, &'static str, u64); LEFT_OUT] {
        let sampling = self.sampling.stats();
        [
            ("rule", "no_traces", self.no_traces),
            ("rule", "no_metrics", self.no_metrics),
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
