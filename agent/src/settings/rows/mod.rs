//! The table: one file for each section, in the order in which help and pages show them.

pub mod limits;
pub mod metrics;
pub mod otlp;
pub mod output;
pub mod protocols;
pub mod routes;
pub mod run;
pub mod sampling;
pub mod selection;
pub mod views;

use super::Section;

/// All sections.
pub static SECTIONS: &[Section] = &[
    Section {
        heading: "Selection",
        about: "A process that matches any of these is watched, and so are its children.",
        rows: selection::ROWS,
    },
    Section { heading: "Output", about: "", rows: output::ROWS },
    Section {
        heading: "Views",
        about: "The page and `skep top` are told of in [ui.md](ui.md).",
        rows: views::ROWS,
    },
    Section { heading: "Run", about: "", rows: run::ROWS },
    Section {
        heading: "Sampling and filters",
        about: "Every request passes the filters first; what they keep goes into the metrics; then the sampler decides, \
                then the rate limit. What is left out is counted by reason and is no loss.",
        rows: sampling::ROWS,
    },
    Section {
        heading: "Routes",
        about: "How paths become routes is told in [routes.md](routes.md).",
        rows: routes::ROWS,
    },
    Section {
        heading: "Protocols",
        about: "What is understood is told in [protocols.md](protocols.md).",
        rows: protocols::ROWS,
    },
    Section {
        heading: "OTLP",
        about: "What is exported, how it is retried and what is counted is told in [export.md](export.md).",
        rows: otlp::ROWS,
    },
    Section {
        heading: "Metrics",
        about: "What there is to measure is told in [metrics.md](metrics.md).",
        rows: metrics::ROWS,
    },
    Section { heading: "Limits", about: "Sizes of the kernel side's tables.", rows: limits::ROWS },
];
