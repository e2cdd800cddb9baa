//! Which processes are watched.

use crate::config;
use crate::settings::kind::{Field, Kind, any_pair, any_text};
use crate::settings::rows::sampling::SAMPLERS;
use crate::settings::{ROW, Setting, section};

const PID: Kind = Kind::Integer { min: 1, max: 4_194_304 };
const PORT: Kind = Kind::Text(config::check_ports);
const GLOB: Kind = Kind::Text(config::check_glob);

const fn field(key: &'static str, kind: Kind, help: &'static str) -> Field {
    Field { key, kind, help }
}

const PIDS_FIELD: Field = field("pids", Kind::List(&PID), "Process numbers");
const PORTS_FIELD: Field =
    field("ports", Kind::List(&PORT), "TCP ports or ranges that it listens on, now or later");
const EXES_FIELD: Field = field("exes", Kind::List(&GLOB), "Programs, as with --exe");
const COMMAND_LINES_FIELD: Field = field(
    "command_lines",
    Kind::List(&GLOB),
    "The whole command line, one space between the arguments, such as `*manage.py*`",
);
const CONTAINERS_FIELD: Field =
    field("containers", Kind::List(&GLOB), "Container ids, such as `3c1f0d9a7be2*`");
const CGROUPS_FIELD: Field = field(
    "cgroups",
    Kind::List(&GLOB),
    "Paths of control groups, such as `*/nginx.service` for a systemd unit",
);
const ENVIRONMENT_FIELD: Field = field(
    "environment",
    Kind::Map(config::check_variable),
    "Variables in its environment, each with a pattern",
);

section! {
    PIDS = Setting {
        key: "selection.pids",
        flag: "pid",
        kind: Kind::List(&PID),
        value_name: "PID",
        help: "Watch this process and its descendants",
        reload: true,
        ..ROW
    };
    PORTS = Setting {
        key: "selection.ports",
        flag: "port",
        kind: Kind::List(&PORT),
        value_name: "PORT[-PORT]",
        help: "Watch the processes that listen on this TCP port or range of ports, now or later",
        reload: true,
        ..ROW
    };
    EXES = Setting {
        key: "selection.exes",
        flag: "exe",
        kind: Kind::List(&GLOB),
        value_name: "GLOB",
        help: "Watch the processes whose program matches, now or later\n\n\
            Without a slash the file name is matched, else the whole path. `*`, `?` and `[a-z]` as in a shell; `*` \
            also crosses slashes",
        reload: true,
        ..ROW
    };
    RULES = Setting {
        key: "selection.rules",
        flag: "rule",
        kind: Kind::Records(&[
            PIDS_FIELD,
            PORTS_FIELD,
            EXES_FIELD,
            COMMAND_LINES_FIELD,
            CONTAINERS_FIELD,
            CGROUPS_FIELD,
            ENVIRONMENT_FIELD,
            field("service_name", Kind::Text(any_text), "`service.name`, whatever the process says of itself"),
            field("service_namespace", Kind::Text(any_text), "`service.namespace`"),
            field("resource_attributes", Kind::Map(any_pair), "Further attributes of the resource"),
            field("routes", Kind::List(&Kind::Text(config::check_route)), "Route patterns that come before the general ones"),
            field(
                "signals",
                Kind::List(&Kind::Choice(&[("traces", "Spans"), ("metrics", "Metrics")])),
                "What is made of its requests; without it, both",
            ),
            field("sampler", Kind::Choice(SAMPLERS), "Its own sampler"),
            field("sampler_arg", Kind::Number { min: 0.0, max: 1.0 }, "The part that its own sampler takes; without it, 1"),
        ]),
        value_name: "RULE",
        help: "Watch the processes for which everything holds that the rule says, and treat them as it says\n\n\
            Of each list, any item may hold. The first rule that fits a process decides; --pid, --port and --exe come \
            after all rules and only select. A child of a watched process that fits no rule takes its parent's",
        rare: true,
        reload: true,
        ..ROW
    };
    EXCLUDE = Setting {
        key: "selection.exclude",
        flag: "exclude",
        kind: Kind::Records(&[
            PIDS_FIELD,
            PORTS_FIELD,
            EXES_FIELD,
            COMMAND_LINES_FIELD,
            CONTAINERS_FIELD,
            CGROUPS_FIELD,
            ENVIRONMENT_FIELD,
        ]),
        value_name: "RULE",
        help: "Never watch the processes for which everything holds that the rule says\n\n\
            It comes before every other rule, --pid included, and counts for children of watched processes from \
            their own program on",
        rare: true,
        reload: true,
        ..ROW
    };
}
