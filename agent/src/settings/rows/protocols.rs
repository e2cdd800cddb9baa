//! How what is understood becomes spans.

use crate::settings::{ROW, Setting, section};

section! {
    REDIS_BATCHES = Setting {
        key: "protocols.redis_batches",
        flag: "redis-batches",
        default: Some("false"),
        help: "Make one span of Redis commands that are sent together, instead of one for each\n\n\
            A pipeline is named `PIPELINE`, a transaction `MULTI`, with the command's name where all are the same",
        rare: true,
        ..ROW
    };
}
