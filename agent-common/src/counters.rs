//! What the kernel side counts, per CPU: an index into one array of `u64` for each line of the table.

/// Declares the counters once: constant, metric-style name and meaning stay side by side.
macro_rules! counters {
    ($($(#[doc = $doc:literal])* $constant:ident = $name:literal,)*) => {
        /// Index into the per-CPU counter array.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[doc = $doc])* $constant,)* }
        /// Name of each counter, in the order of the array.
        pub const COUNTER_NAMES: &[&str] = &[$($name,)*];
    };
}

counters! {
    /// Records handed to user space.
    Events = "events",
    /// Payload bytes copied into records.
    BytesCopied = "bytes_copied",
    /// Bytes that selected processes moved on sockets, copied or not.
    BytesSeen = "bytes_seen",
    /// Turns (changes of direction) of all connections.
    Turns = "turns",
    /// Connections seen.
    Connections = "connections",
    /// Data records lost because the ring buffer was full.
    RingFullData = "ring_full_data",
    /// Bytes that those records stood for.
    RingFullBytes = "ring_full_bytes",
    /// First records of a turn among them.
    RingFullTurns = "ring_full_turns",
    /// Connection records lost because the ring buffer was full; a ConnOpened is sent again with the next call.
    RingFullConn = "ring_full_conn",
    /// Process records lost because the ring buffer was full.
    RingFullProcess = "ring_full_process",
    /// Calls not captured because the connection table was full.
    ConnTableFull = "conn_table_full",
    /// Processes not selected because the table was full.
    SelectTableFull = "select_table_full",
    /// Threads whose waits are unknown because the table was full.
    ThreadTableFull = "thread_table_full",
    /// Bytes of segments beyond those that one call's gathering reads.
    SegmentsSkipped = "segments_skipped",
    /// Records cut short because user memory could not be read.
    UserFault = "user_fault",
    /// Calls whose descriptor was gone when the call returned (closed by another thread).
    FdGone = "fd_gone",
    /// Connections replaced because the kernel reused the memory of their socket.
    SockReused = "sock_reused",
    /// Messages of a recvmmsg or sendmmsg beyond those that one call reads.
    MessagesSkipped = "messages_skipped",
    /// Calls not captured because every place for a record of their CPU was taken by preempted threads.
    SlotsTaken = "slots_taken",
    /// Calls not captured because the table of calls under way was full (kprobe back end).
    CallTableFull = "call_table_full",
    /// Calls whose return was not seen (kprobe back end: more threads in one function than the kernel keeps track of).
    ReturnsMissed = "returns_missed",
    /// Bytes of calls whose memory is no process' buffer (sendfile, splice, registered buffers): counted, not copied.
    NotUserMemory = "not_user_memory",
    /// Connections whose encryption the kernel took over (kernel TLS).
    KernelTls = "kernel_tls",
}

/// Number of counters.
pub const COUNTERS: usize = COUNTER_NAMES.len();
