//! Sizes of the kernel side's tables.

use crate::settings::kind::{Kind, any_text};
use crate::settings::{ROW, Setting, section};

const MAX_TABLE_ENTRIES: u64 = 1 << 20;

section! {
    RING_SIZE = Setting {
        key: "limits.ring_size",
        flag: "ring-size",
        kind: Kind::Size { min: 64 << 10, max: 256 << 20, power_of_two: true },
        default: Some("4M"),
        value_name: "SIZE",
        help: "Size of the kernel's ring buffer: bytes, or with K or M; a power of two",
        rare: true,
        ..ROW
    };
    MAX_CONNECTIONS = Setting {
        key: "limits.max_connections",
        flag: "max-connections",
        kind: Kind::Integer { min: 1, max: MAX_TABLE_ENTRIES },
        default: Some("16384"),
        value_name: "N",
        help: "Connections that are followed at the same time",
        rare: true,
        ..ROW
    };
    MAX_PROCESSES = Setting {
        key: "limits.max_processes",
        flag: "max-processes",
        kind: Kind::Integer { min: 1, max: MAX_TABLE_ENTRIES },
        default: Some("4096"),
        value_name: "N",
        help: "Processes that are watched at the same time",
        rare: true,
        ..ROW
    };
    BACKEND = Setting {
        key: "limits.backend",
        flag: "backend",
        kind: Kind::Choice(&[
            ("auto", "The best that this kernel really runs"),
            ("fentry", "Programs behind the return of the kernel's socket functions"),
            ("kprobe", "The same functions by kprobes"),
            ("syscall", "The return of every system call"),
        ]),
        default: Some("auto"),
        value_name: "NAME",
        help: "How calls on sockets are seen",
        rare: true,
        ..ROW
    };
    BTF = Setting {
        key: "limits.btf",
        flag: "btf",
        kind: Kind::Text(any_text),
        default: Some("/sys/kernel/btf/vmlinux"),
        value_name: "FILE",
        help: "Read the kernel's type information from this file",
        rare: true,
        ..ROW
    };
}
