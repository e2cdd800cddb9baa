//! The run itself.

use std::time::Duration;

use crate::settings::kind::{Kind, Unit, any_text};
use crate::settings::{ROW, Setting, section};

section! {
    CONFIG = Setting {
        flag: "config",
        kind: Kind::Text(any_text),
        value_name: "FILE",
        help: "Read settings from this YAML file",
        ..ROW
    };
    DURATION = Setting {
        key: "run.duration",
        flag: "duration",
        kind: Kind::Duration {
            bare: Unit::Seconds,
            min: Duration::from_micros(1),
            max: Duration::from_secs(100 * 365 * 86_400),
        },
        value_name: "SECONDS",
        help: "Stop after this many seconds, or after a time such as 5m",
        ..ROW
    };
}
