//! Which spans leave.

use std::time::Duration;

use crate::config;
use crate::settings::kind::{Field, Kind, Unit};
use crate::settings::{ROW, Setting, section};

/// The names of `OTEL_TRACES_SAMPLER`.
pub const SAMPLERS: &[(&str, &str)] = &[
    ("always_on", "Every trace"),
    ("always_off", "No trace"),
    ("traceidratio", "A part of all traces, by their id, exactly as the SDKs choose"),
    ("parentbased_always_on", "What the trace's own headers say, else every trace"),
    ("parentbased_always_off", "What the trace's own headers say, else none"),
    ("parentbased_traceidratio", "What the trace's own headers say, else a part of all traces"),
];

const FILTER: Kind = Kind::Records(&[
    Field {
        key: "drop",
        kind: Kind::Map(config::check_condition),
        help: "Drop the spans for which all these conditions hold",
    },
    Field {
        key: "keep",
        kind: Kind::Map(config::check_condition),
        help: "Keep the spans for which all these conditions hold, whatever follows",
    },
]);

section! {
    SAMPLER = Setting {
        key: "sampling.sampler",
        flag: "traces-sampler",
        otel: Some("OTEL_TRACES_SAMPLER"),
        kind: Kind::Choice(SAMPLERS),
        default: Some("parentbased_always_on"),
        value_name: "SAMPLER",
        help: "Which traces leave; metrics count every request all the same",
        rare: true,
        reload: true,
        ..ROW
    };
    SAMPLER_ARG = Setting {
        key: "sampling.sampler_arg",
        flag: "traces-sampler-arg",
        otel: Some("OTEL_TRACES_SAMPLER_ARG"),
        kind: Kind::Number { min: 0.0, max: 1.0 },
        default: Some("1"),
        value_name: "RATIO",
        help: "The part of all traces that a traceidratio sampler takes, 0 to 1",
        rare: true,
        reload: true,
        ..ROW
    };
    KEEP_ERRORS = Setting {
        key: "sampling.keep_errors",
        flag: "keep-errors",
        default: Some("false"),
        help: "Keep spans that failed, whatever the sampler says\n\n\
            Spans of the same trace that end later are kept too; those that ended before are gone",
        rare: true,
        reload: true,
        ..ROW
    };
    KEEP_SLOW = Setting {
        key: "sampling.keep_slow",
        flag: "keep-slow",
        kind: Kind::Duration {
            bare: Unit::Seconds,
            min: Duration::from_micros(1),
            max: Duration::from_secs(86_400),
        },
        value_name: "TIME",
        help: "Keep spans that took at least this long, such as 500ms, whatever the sampler says",
        rare: true,
        reload: true,
        ..ROW
    };
    MAX_SPANS_PER_SECOND = Setting {
        key: "sampling.max_spans_per_second",
        flag: "max-spans-per-second",
        kind: Kind::Integer { min: 1, max: 1_000_000_000 },
        value_name: "N",
        help: "Let no more spans leave in a second than this\n\n\
            Whole traces are let through or held back as far as that can be. The limit comes last: spans that are \
            kept because they failed or were slow count too",
        rare: true,
        reload: true,
        ..ROW
    };
    FILTER_TRACES = Setting {
        key: "filters.traces",
        flag: "filter-traces",
        kind: FILTER,
        value_name: "RULE",
        help: "Keep or drop spans by their attributes, such as `{drop: {url.path: /healthz}}`\n\n\
            The first rule that fits decides, and what fits none is kept; `drop: {}` fits everything. A condition is \
            a text, a shell pattern, or a comparison (`<`, `<=`, `>`, `>=`) with a number; `!` in front turns it \
            round. Names are those of the span's attributes (semconv.md), `span.kind`, or `resource.` and a resource \
            attribute. Where there is no such attribute, only what `!` turned round holds",
        rare: true,
        reload: true,
        ..ROW
    };
    FILTER_METRICS = Setting {
        key: "filters.metrics",
        flag: "filter-metrics",
        kind: FILTER,
        value_name: "RULE",
        help: "Keep requests out of the metrics by their attributes; rules as for filters.traces",
        rare: true,
        reload: true,
        ..ROW
    };
}
