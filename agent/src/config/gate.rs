//! Filters and sampler: [`GateConfig`] from the section "Sampling and filters".

use std::time::Duration;

use agent_pipeline::filter::{Filter, FilterError};
use agent_pipeline::sampling::{Ratio, RootSampler, Sampler, SamplingConfig};
use agent_pipeline::semconv;

use crate::settings::problem::Problems;
use crate::settings::rows::sampling;
use crate::settings::value::{Record, Settings};
use crate::settings::{Setting, nearest};

/// Which requests become metrics and spans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateConfig {
    /// Which spans leave, as far as their attributes say.
    pub traces: Filter,
    /// Which requests metrics count.
    pub metrics: Filter,
    /// Which of the spans leave.
    pub sampling: SamplingConfig,
}

impl GateConfig {
    pub(super) fn new(settings: &Settings, problems: &mut Problems) -> Self {
        Self {
            traces: filter(settings, &sampling::FILTER_TRACES, problems),
            metrics: filter(settings, &sampling::FILTER_METRICS, problems),
            sampling: SamplingConfig {
                sampler: sampler(
                    &settings.need::<String>(&sampling::SAMPLER),
                    settings.need(&sampling::SAMPLER_ARG),
                ),
                keep_errors: settings.need(&sampling::KEEP_ERRORS),
                keep_slow_ns: settings.get::<Duration>(&sampling::KEEP_SLOW).map(nanoseconds),
                max_spans_per_second: settings.get(&sampling::MAX_SPANS_PER_SECOND),
            },
        }
    }
}

/// A condition of a filter, for the table.
pub fn check_condition(name: &str, text: &str) -> Result<(), String> {
    Filter::check(name, text).map_err(|error| {
        match nearest(name, semconv::NAMES.iter().map(|(known, _)| *known)) {
            Some(meant) if error == FilterError::UnknownAttribute => {
                format!("no span has such an attribute: did you mean {meant}?")
            }
            _ => error.to_string(),
        }
    })
}

fn filter(settings: &Settings, row: &'static Setting, problems: &mut Problems) -> Filter {
    let mut filter = Filter::default();
    for record in settings.list::<Record>(row) {
        let conditions = |name| record.get::<Vec<(String, String)>>(name);
        let (keep, conditions) = match (conditions("keep"), conditions("drop")) {
            (Some(conditions), None) => (true, conditions),
            (None, Some(conditions)) => (false, conditions),
            _ => {
                let place = settings.place(row, record.line);
                problems.add(format!("{place}: a rule says either keep or drop, then the conditions"));
                continue;
            }
        };
        let pairs = conditions.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        if let Err(error) = filter.add(keep, pairs) {
            problems.add(format!("{}: {error}", settings.place(row, record.line)));
        }
    }
    filter
}

/// The sampler of a name of `OTEL_TRACES_SAMPLER`.
pub(super) fn sampler(name: &str, ratio: f64) -> Sampler {
    let root = name.strip_prefix("parentbased_");
    Sampler {
        parent_based: root.is_some(),
        root: match root.unwrap_or(name) {
            "always_off" => RootSampler::AlwaysOff,
            "traceidratio" => RootSampler::TraceIdRatio(Ratio::new(ratio)),
            _ => RootSampler::AlwaysOn,
        },
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
