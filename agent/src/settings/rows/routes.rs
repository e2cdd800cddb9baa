//! How paths become routes.

use crate::config;
use crate::settings::kind::Kind;
use crate::settings::{ROW, Setting, section};

section! {
    PATTERNS = Setting {
        key: "routes.patterns",
        flag: "route",
        kind: Kind::List(&Kind::Text(config::check_route)),
        value_name: "PATTERN",
        help: "Route pattern such as `/users/{id}` or `GET /static/*`, for span names\n\n\
            The first that matches counts; paths that match none get a learned route",
        reload: true,
        ..ROW
    };
    LEARN = Setting {
        key: "routes.learn",
        flag: "learn-routes",
        default: Some("true"),
        help: "Learn the routes of paths that match no pattern",
        rare: true,
        reload: true,
        ..ROW
    };
}
