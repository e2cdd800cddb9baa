//! Which processes are watched.

use crate::config;
use crate::settings::kind::Kind;
use crate::settings::{ROW, Setting, section};

section! {
    PIDS = Setting {
        key: "selection.pids",
        flag: "pid",
        kind: Kind::List(&Kind::Integer { min: 1, max: 4_194_304 }),
        value_name: "PID",
        help: "Watch this process and its descendants",
        ..ROW
    };
    PORTS = Setting {
        key: "selection.ports",
        flag: "port",
        kind: Kind::List(&Kind::Text(config::check_ports)),
        value_name: "PORT[-PORT]",
        help: "Watch the processes that listen on this TCP port or range of ports, now or later",
        ..ROW
    };
    EXES = Setting {
        key: "selection.exes",
        flag: "exe",
        kind: Kind::List(&Kind::Text(config::check_glob)),
        value_name: "GLOB",
        help: "Watch the processes whose program matches, now or later\n\n\
            Without a slash the file name is matched, else the whole path. `*`, `?` and `[a-z]` as in a shell; `*` \
            also crosses slashes",
        ..ROW
    };
}
