//! Which program hooks which function of the kernel, for each back end. Tables only.
//!
//! The order is that of attaching: who is selected and what is closed must be known before the first call is seen.

/// How calls on sockets are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Programs behind the return of the kernel's socket functions (BPF trampolines).
    Fentry,
    /// The same functions by kprobes.
    Kprobe,
    /// The return of every system call.
    Syscall,
}

impl Backend {
    /// Best first.
    pub const ALL: [Self; 3] = [Self::Fentry, Self::Syscall, Self::Kprobe];

    /// As it is typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Syscall => "syscall",
        }
    }
}

/// Raw tracepoints that every back end has: program and tracepoint.
pub(super) const SHARED: &[(&str, &str)] = &[
    ("sched_process_exit", "sched_process_exit"),
    ("sched_process_fork", "sched_process_fork"),
    ("sched_process_exec", "sched_process_exec"),
    ("tcp_destroy_sock", "tcp_destroy_sock"),
    ("inet_sock_set_state", "inet_sock_set_state"),
];

/// The syscall back end's only hook.
pub(super) const SYS_EXIT: (&str, &str) = ("sys_exit", "sys_exit");

/// Its programs behind tail calls, by their index (agent-ebpf/src/syscall.rs): the first of each that loads is used.
pub(super) const TAILS: &[&[&str]] = &[
    &["sys_exit_vectored", "sys_exit_vectored_short"],
    &["sys_exit_messages", "sys_exit_messages_short"],
    &["sys_exit_other"],
    &["sys_exit_long", "sys_exit_long_short"],
];

/// Program that user space runs and never attaches.
pub(super) const CONTROL: &str = "control";

/// What is missed where a function cannot be hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Without it the back end is useless.
    Essential,
    /// It may be absent, because this kernel does it another way or lacks the feature.
    MayBeAbsent,
    /// Without it something is not seen.
    Wanted,
}

/// A function of the kernel's sockets.
pub(super) struct Function {
    /// Its name; some differ by architecture.
    pub(super) name: &'static str,
    pub(super) need: Need,
    /// Programs for its return; the first that loads is used.
    pub(super) fentry: &'static [&'static str],
    /// Programs for its entry and its return.
    pub(super) kprobe: &'static [Kprobe],
    /// What of the self-test shows that it fires.
    pub(super) shown_by: Option<Shown>,
}

/// A program on a function's entry, or on its return.
#[derive(Clone, Copy)]
pub(super) struct Kprobe {
    /// Variants; the first that loads is used.
    pub(super) programs: &'static [&'static str],
    pub(super) function: &'static str,
}

/// Records of the self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shown {
    TcpSent,
    TcpReceived,
    Accepted,
    Connected,
    UnixSent,
    UnixReceived,
    UdpSent,
    UdpReceived,
    Udp6Sent,
    Udp6Received,
}

#[cfg(target_arch = "x86_64")]
const IO_URING_ENTER: &str = "__x64_sys_io_uring_enter";
#[cfg(target_arch = "aarch64")]
const IO_URING_ENTER: &str = "__arm64_sys_io_uring_enter";

/// A program on the entry of a function.
const fn entry(function: &'static str, programs: &'static [&'static str]) -> Kprobe {
    Kprobe { programs, function }
}

/// A program on the return of a function; its section says that it is one.
const fn returns(function: &'static str, programs: &'static [&'static str]) -> Kprobe {
    Kprobe { programs, function }
}

const STREAM_RETURN: &[&str] = &["stream_return", "stream_return_short"];
const MESSAGE_RETURN: &[&str] = &["message_return", "message_return_short"];
const UDP_CONSUMED: &[&str] = &["udp_consumed", "udp_consumed_short"];

/// The functions that the fentry and kprobe back ends hook.
pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "inet_accept",
        need: Need::Wanted,
        fentry: &["inet_accept_exit"],
        kprobe: &[entry("inet_accept", &["accept_entry"]), returns("inet_accept", &["accept_return"])],
        shown_by: Some(Shown::Accepted),
    },
    Function {
        name: "unix_accept",
        need: Need::Wanted,
        fentry: &["unix_accept_exit"],
        kprobe: &[entry("unix_accept", &["accept_entry"]), returns("unix_accept", &["accept_return"])],
        shown_by: None,
    },
    Function {
        name: "mptcp_stream_accept",
        need: Need::MayBeAbsent,
        fentry: &["mptcp_stream_accept_exit"],
        kprobe: &[
            entry("mptcp_stream_accept", &["accept_entry"]),
            returns("mptcp_stream_accept", &["accept_return"]),
        ],
        shown_by: None,
    },
    Function {
        name: "inet_stream_connect",
        need: Need::Wanted,
        fentry: &["inet_stream_connect_exit"],
        kprobe: &[
            entry("inet_stream_connect", &["connect_entry"]),
            returns("inet_stream_connect", &["connect_return"]),
        ],
        shown_by: Some(Shown::Connected),
    },
    Function {
        name: "unix_stream_connect",
        need: Need::Wanted,
        fentry: &["unix_stream_connect_exit"],
        kprobe: &[
            entry("unix_stream_connect", &["connect_entry"]),
            returns("unix_stream_connect", &["connect_return"]),
        ],
        shown_by: None,
    },
    Function {
        name: "tcp_set_ulp",
        need: Need::Wanted,
        fentry: &["tcp_set_ulp_exit"],
        kprobe: &[entry("tcp_set_ulp", &["ulp_entry"])],
        shown_by: None,
    },
    Function {
        name: "do_epoll_wait",
        need: Need::Wanted,
        fentry: &["do_epoll_wait_exit"],
        kprobe: &[entry("do_epoll_wait", &["event_loop_wait"])],
        shown_by: None,
    },
    Function {
        name: "do_sys_poll",
        need: Need::Wanted,
        fentry: &["do_sys_poll_exit"],
        kprobe: &[entry("do_sys_poll", &["poll_wait"])],
        shown_by: None,
    },
    Function {
        name: "core_sys_select",
        need: Need::Wanted,
        fentry: &["core_sys_select_exit"],
        kprobe: &[entry("core_sys_select", &["select_wait"])],
        shown_by: None,
    },
    Function {
        name: IO_URING_ENTER,
        need: Need::MayBeAbsent,
        fentry: &["io_uring_enter_exit"],
        kprobe: &[entry(IO_URING_ENTER, &["event_loop_wait"])],
        shown_by: None,
    },
    Function {
        name: "tcp_recvmsg",
        need: Need::Essential,
        fentry: &["tcp_recvmsg_exit", "tcp_recvmsg_exit_short"],
        kprobe: &[
            entry("tcp_cleanup_rbuf", &["tcp_consumed", "tcp_consumed_short"]),
            entry("tcp_recvmsg", &["tcp_receive"]),
        ],
        shown_by: Some(Shown::TcpReceived),
    },
    Function {
        name: "tcp_sendmsg",
        need: Need::Essential,
        fentry: &["tcp_sendmsg_exit", "tcp_sendmsg_exit_short"],
        kprobe: &[returns("tcp_sendmsg", STREAM_RETURN), entry("tcp_sendmsg", &["sock_stream_send"])],
        shown_by: Some(Shown::TcpSent),
    },
    Function {
        name: "tcp_sendpage",
        need: Need::MayBeAbsent,
        fentry: &["tcp_sendpage_exit"],
        kprobe: &[returns("tcp_sendpage", &["pages_return"]), entry("tcp_sendpage", &["sock_pages_send"])],
        shown_by: None,
    },
    Function {
        name: "tcp_splice_read",
        need: Need::Wanted,
        fentry: &["tcp_splice_read_exit"],
        kprobe: &[
            returns("tcp_splice_read", &["pages_return"]),
            entry("tcp_splice_read", &["socket_pages_receive"]),
        ],
        shown_by: None,
    },
    Function {
        name: "mptcp_recvmsg",
        need: Need::MayBeAbsent,
        fentry: &["mptcp_recvmsg_exit", "mptcp_recvmsg_exit_short"],
        kprobe: &[returns("mptcp_recvmsg", STREAM_RETURN), entry("mptcp_recvmsg", &["sock_stream_receive"])],
        shown_by: None,
    },
    Function {
        name: "mptcp_sendmsg",
        need: Need::MayBeAbsent,
        fentry: &["mptcp_sendmsg_exit", "mptcp_sendmsg_exit_short"],
        kprobe: &[returns("mptcp_sendmsg", STREAM_RETURN), entry("mptcp_sendmsg", &["sock_stream_send"])],
        shown_by: None,
    },
    Function {
        name: "unix_stream_recvmsg",
        need: Need::Wanted,
        fentry: &["unix_stream_recvmsg_exit", "unix_stream_recvmsg_exit_short"],
        kprobe: &[
            returns("unix_stream_recvmsg", STREAM_RETURN),
            entry("unix_stream_recvmsg", &["socket_stream_receive"]),
        ],
        shown_by: Some(Shown::UnixReceived),
    },
    Function {
        name: "unix_stream_sendmsg",
        need: Need::Wanted,
        fentry: &["unix_stream_sendmsg_exit", "unix_stream_sendmsg_exit_short"],
        kprobe: &[
            returns("unix_stream_sendmsg", STREAM_RETURN),
            entry("unix_stream_sendmsg", &["socket_stream_send"]),
        ],
        shown_by: Some(Shown::UnixSent),
    },
    Function {
        name: "unix_stream_sendpage",
        need: Need::MayBeAbsent,
        fentry: &["unix_stream_sendpage_exit"],
        kprobe: &[
            returns("unix_stream_sendpage", &["pages_return"]),
            entry("unix_stream_sendpage", &["socket_pages_send"]),
        ],
        shown_by: None,
    },
    Function {
        name: "unix_stream_splice_read",
        need: Need::Wanted,
        fentry: &["unix_stream_splice_read_exit"],
        kprobe: &[
            returns("unix_stream_splice_read", &["pages_return"]),
            entry("unix_stream_splice_read", &["socket_pages_receive"]),
        ],
        shown_by: None,
    },
    Function {
        name: "udp_recvmsg",
        need: Need::Wanted,
        fentry: &["udp_recvmsg_exit", "udp_recvmsg_exit_short"],
        kprobe: &[entry("skb_consume_udp", UDP_CONSUMED), entry("udp_recvmsg", &["udp_receive"])],
        shown_by: Some(Shown::UdpReceived),
    },
    Function {
        name: "udp_sendmsg",
        need: Need::Wanted,
        fentry: &["udp_sendmsg_exit", "udp_sendmsg_exit_short"],
        kprobe: &[returns("udp_sendmsg", MESSAGE_RETURN), entry("udp_sendmsg", &["udp_send"])],
        shown_by: Some(Shown::UdpSent),
    },
    Function {
        name: "udpv6_recvmsg",
        need: Need::MayBeAbsent,
        fentry: &["udpv6_recvmsg_exit", "udpv6_recvmsg_exit_short"],
        kprobe: &[entry("udpv6_recvmsg", &["sock_message_receive"])],
        shown_by: Some(Shown::Udp6Received),
    },
    Function {
        name: "udpv6_sendmsg",
        need: Need::MayBeAbsent,
        fentry: &["udpv6_sendmsg_exit", "udpv6_sendmsg_exit_short"],
        kprobe: &[returns("udpv6_sendmsg", MESSAGE_RETURN), entry("udpv6_sendmsg", &["sock_message_send"])],
        shown_by: Some(Shown::Udp6Sent),
    },
];

/// What became of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// Attached, and the self-test saw it fire.
    Fires,
    /// Attached; the self-test does not come by.
    Attached,
    /// This kernel does not have it, and need not.
    Absent,
    /// Refused or silent: something is not seen. Says why.
    Failed(String),
}

/// One hook and what became of it.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The kernel's function or tracepoint.
    pub name: &'static str,
    /// What attached it: `fentry`, `kprobe` or `tracepoint`.
    pub via: &'static str,
    /// What became of it.
    pub state: HookState,
}
