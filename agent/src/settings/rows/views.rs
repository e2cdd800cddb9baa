//! The page, `skep top` and what they show.

use crate::config;
use crate::settings::kind::Kind;
use crate::settings::{ROW, Setting, section};

section! {
    UI = Setting {
        key: "ui.listen",
        flag: "ui",
        kind: Kind::Text(config::check_listen),
        missing: Some("auto"),
        value_name: "ADDR",
        help: "Serve a page that shows all of it, and print its link\n\n\
            Without a value on 127.0.0.1:7171, or another port if that is taken. Give an address and a port, or a \
            port alone, to choose. Whoever has the link, and nobody else, may look",
        ..ROW
    };
    STORE_SIZE = Setting {
        key: "ui.store_size",
        flag: "store-size",
        kind: Kind::Size { min: 1 << 20, max: 1 << 30, power_of_two: false },
        default: Some("8M"),
        value_name: "SIZE",
        help: "Memory for the traces and figures that the page and `skep top` show",
        rare: true,
        ..ROW
    };
    KEEP = Setting {
        key: "ui.keep",
        flag: "keep",
        default: Some("false"),
        help: "Keep traces and figures from the start\n\n\
            They are kept anyway with --ui, and once `skep top` has attached",
        rare: true,
        ..ROW
    };
    OTLP_LISTEN = Setting {
        key: "ui.otlp_listen",
        flag: "otlp-listen",
        kind: Kind::Text(config::check_address),
        missing: Some("127.0.0.1:4317"),
        value_name: "ADDR",
        help: "Take spans of services that instrument themselves, for the traces of the page and `skep top`\n\n\
            OTLP over gRPC or HTTP (protobuf) on one port, 127.0.0.1:4317 without a value. They are shown, not passed on",
        ..ROW
    };
}
