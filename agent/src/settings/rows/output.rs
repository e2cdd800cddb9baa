//! What Skep prints.

use crate::settings::kind::Kind;
use crate::settings::{ROW, Setting, section};

section! {
    PRINT = Setting {
        key: "output.print",
        flag: "print",
        kind: Kind::Choice(&[
            ("text", "One aligned line a span"),
            ("json", "One JSON object a line"),
            ("none", "Nothing"),
        ]),
        default: Some("text"),
        value_name: "FORMAT",
        help: "How spans are printed on standard output",
        ..ROW
    };
    SUMMARY = Setting {
        key: "output.summary",
        flag: "summary",
        default: Some("false"),
        help: "At the end, print rate, errors and latencies per service and route",
        ..ROW
    };
    STATS = Setting {
        key: "output.stats",
        flag: "stats",
        default: Some("false"),
        help: "Print Skep's own counters every ten seconds, not only at the end",
        ..ROW
    };
    LOG_FORMAT = Setting {
        key: "log.format",
        flag: "log-format",
        kind: Kind::Choice(&[("text", "Lines to read"), ("json", "One JSON object a line")]),
        default: Some("text"),
        value_name: "FORMAT",
        help: "How logs are printed on standard error",
        ..ROW
    };
    LOG_LEVEL = Setting {
        key: "log.level",
        flag: "log-level",
        otel: Some("OTEL_LOG_LEVEL"),
        kind: Kind::Choice(&[
            ("error", "What ends the run"),
            ("warn", "What somebody can mend"),
            ("info", "What happens now and then"),
            ("debug", "More than that"),
        ]),
        default: Some("info"),
        value_name: "LEVEL",
        help: "Which logs are printed",
        rare: true,
        reload: true,
        ..ROW
    };
}
