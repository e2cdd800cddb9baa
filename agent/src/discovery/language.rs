//! Which runtime a process is, seen from its executable and the files that it has mapped, and whether in that
//! runtime a thread stays with one request ([`ThreadContext`]). Wrong in doubt means: no language, never by thread.

use agent_pipeline::ThreadContext;

use super::elf::ElfTraces;
use super::procfs;
use super::program::file_name;

/// Values of `telemetry.sdk.language`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// C++.
    Cpp,
    /// .NET.
    Dotnet,
    /// Erlang and Elixir.
    Erlang,
    /// Go.
    Go,
    /// Java and other JVM languages.
    Java,
    /// Node.js, and runtimes that follow it.
    Nodejs,
    /// PHP.
    Php,
    /// Python.
    Python,
    /// Ruby.
    Ruby,
    /// Rust.
    Rust,
    /// Swift.
    Swift,
}

impl Language {
    /// The value of the attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpp => "cpp",
            Self::Dotnet => "dotnet",
            Self::Erlang => "erlang",
            Self::Go => "go",
            Self::Java => "java",
            Self::Nodejs => "nodejs",
            Self::Php => "php",
            Self::Python => "python",
            Self::Ruby => "ruby",
            Self::Rust => "rust",
            Self::Swift => "swift",
        }
    }
}

/// Runtimes by the beginning of a mapped library's file name.
const BY_LIBRARY: &[(&str, Language)] = &[
    ("libjvm.so", Language::Java),
    ("libcoreclr.so", Language::Dotnet),
    ("libnode.so", Language::Nodejs),
    ("libpython2", Language::Python),
    ("libpython3", Language::Python),
    ("libpypy", Language::Python),
    ("libruby", Language::Ruby),
    ("libphp", Language::Php),
    ("libswiftCore.so", Language::Swift),
];

/// Runtimes by the beginning of the executable's file name.
const BY_EXECUTABLE: &[(&str, Language)] = &[
    ("python", Language::Python),
    ("pypy", Language::Python),
    ("ruby", Language::Ruby),
    ("php", Language::Php),
    ("beam.smp", Language::Erlang),
];

/// Runtimes by the executable's whole file name: too short for a beginning.
const BY_EXECUTABLE_NAME: &[(&str, Language)] = &[
    ("node", Language::Nodejs),
    ("nodejs", Language::Nodejs),
    ("bun", Language::Nodejs),
    ("deno", Language::Nodejs),
    ("java", Language::Java),
    ("dotnet", Language::Dotnet),
];

/// Mapped files whose presence means that a thread may leave a request half way: event loops, fibres, foreign
/// schedulers. Beginnings of file names.
const SWITCHES_TASKS: &[&str] = &[
    "uvloop",
    "loop.cpython",
    "gevent",
    "_gevent",
    "greenlet",
    "_greenlet",
    "_granian",
    "robyn",
    "IO_Event",
    "rubyeventmachine",
    "swoole",
    "openswoole",
    "libuv.so",
    "libevent",
    "libev.so",
    "libnode.so",
    "libcoreclr.so",
    "libboost_coroutine",
    "libboost_context",
    "libboost_fiber",
    "libseastar",
    "libfolly",
];

/// Distinct files that the process has mapped, in order; `None` where they cannot be read.
pub(super) fn mapped_files(tgid: u32) -> Option<Vec<Vec<u8>>> {
    const MAX_BYTES: usize = 4 << 20;
    const MAX_FILES: usize = 4096;
    let maps = procfs::read_of(tgid, "maps", MAX_BYTES)?;
    if maps.len() == MAX_BYTES {
        return None;
    }
    let mut files = Vec::<Vec<u8>>::new();
    for line in maps.split(|&byte| byte == b'\n') {
        // Addresses, rights, offset, device and inode hold no slash; the path begins with one.
        let Some(slash) = memchr::memchr(b'/', line) else { continue };
        let path = &line[slash..];
        if files.last().is_none_or(|last| last != path) {
            if files.len() == MAX_FILES {
                return None;
            }
            files.push(path.to_vec());
        }
    }
    Some(files)
}

/// The language that the process is written in, where there is evidence.
pub(super) fn language(exe: &[u8], traces: ElfTraces, mapped: &[Vec<u8>]) -> Option<Language> {
    if traces.go {
        return Some(Language::Go);
    }
    let is_mapped = |prefix: &str| mapped.iter().any(|path| file_name(path).starts_with(prefix.as_bytes()));
    let name = file_name(exe);
    if let Some(&(_, language)) = BY_LIBRARY.iter().find(|(prefix, _)| is_mapped(prefix)) {
        return Some(language);
    }
    if let Some(&(_, language)) = BY_EXECUTABLE_NAME.iter().find(|(whole, _)| name == whole.as_bytes()) {
        return Some(language);
    }
    if let Some(&(_, language)) = BY_EXECUTABLE.iter().find(|(prefix, _)| name.starts_with(prefix.as_bytes()))
    {
        return Some(language);
    }
    match traces {
        ElfTraces { graal: true, .. } => Some(Language::Java),
        ElfTraces { dotnet: true, .. } => Some(Language::Dotnet),
        ElfTraces { rust: true, .. } => Some(Language::Rust),
        _ => is_mapped("libstdc++.so").then_some(Language::Cpp),
    }
}

/// Whether a thread of this process works on one request until it is done. `mapped` is `None` where it could not
/// be read. The kernel side's count of waits guards the rest (event loops of C programs, for instance).
pub(super) fn thread_context(
    language: Option<Language>,
    traces: ElfTraces,
    mapped: Option<&[Vec<u8>]>,
) -> ThreadContext {
    let Some(mapped) = mapped else { return ThreadContext::Never };
    let foreign = traces.go || traces.rust || traces.graal || traces.dotnet || !traces.readable;
    let switches = mapped
        .iter()
        .any(|path| SWITCHES_TASKS.iter().any(|prefix| file_name(path).starts_with(prefix.as_bytes())));
    if foreign || switches {
        return ThreadContext::Never;
    }
    match language {
        // asyncio is mapped by many who do not use it (redis-py); a thread that runs it waits for several descriptors
        // between any two tasks, which is counted.
        Some(Language::Java | Language::Python | Language::Ruby | Language::Php | Language::Cpp) | None => {
            ThreadContext::Threads
        }
        _ => ThreadContext::Never,
    }
}

/// Beginnings of the names of threads that serve many requests at a time, or run virtual threads.
const EVENT_LOOP_THREADS: &[&str] = &[
    "ForkJoinPool",
    "VirtualThread",
    "nioEventLoop",
    "epollEventLoop",
    "EventLoop",
    "multiThreadIoEv",
    "reactor-",
    "vert.x-",
    "XNIO-1 I/O",
    "XNIO-2 I/O",
    "XNIO I/O",
    "netty-",
    "Netty",
    "grpc-",
    "armeria-",
    "parallel-",
    "DefaultDispatch",
    "kotlinx.corouti",
    "eventLoopGroup",
    "http-client-",
    "HttpClient-",
    "akka.",
    "pekko.",
    "io-compute",
    "scala-execution",
    "ZScheduler",
    "executor-thread",
];

/// Whether a thread of this name leaves requests half way; `XNIO-n I/O-m` has a number in the middle.
pub(super) fn is_event_loop_thread(name: &[u8]) -> bool {
    EVENT_LOOP_THREADS.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
        || memchr::memmem::find(name, b"ventLoop").is_some()
        || (name.starts_with(b"XNIO-") && memchr::memmem::find(name, b"I/O").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const C_FILE: ElfTraces =
        ElfTraces { readable: true, go: false, rust: false, graal: false, dotnet: false };

    fn check(
        exe: &str,
        traces: ElfTraces,
        mapped: &[&str],
        expected: Option<Language>,
        policy: ThreadContext,
    ) {
        let mapped: Vec<_> = mapped.iter().map(|path| path.as_bytes().to_vec()).collect();
        let found = language(exe.as_bytes(), traces, &mapped);
        assert_eq!(found, expected, "{exe}");
        assert_eq!(thread_context(found, traces, Some(&mapped)), policy, "{exe}");
    }

    #[test]
    fn runtimes_are_recognised() {
        use ThreadContext::{Never, Threads};
        let jvm = "/usr/lib/jvm/x/lib/server/libjvm.so";
        check("/usr/lib/jvm/x/bin/java", C_FILE, &[jvm], Some(Language::Java), Threads);
        check("/usr/bin/node", C_FILE, &["/lib/libstdc++.so.6"], Some(Language::Nodejs), Never);
        check("/usr/bin/ruby3.1", C_FILE, &["/lib/libruby-3.1.so.3.1"], Some(Language::Ruby), Threads);
        check("/usr/bin/ruby3.1", C_FILE, &["/gems/io-event/IO_Event.so"], Some(Language::Ruby), Never);
        check("/srv/api", ElfTraces { go: true, ..C_FILE }, &[], Some(Language::Go), Never);
        check("/srv/api", ElfTraces { rust: true, ..C_FILE }, &[], Some(Language::Rust), Never);
        check("/usr/sbin/nginx", C_FILE, &["/lib/libc.so.6"], None, Threads);
        check("/srv/api", C_FILE, &["/lib/libstdc++.so.6.0.30"], Some(Language::Cpp), Threads);
        check("/srv/packed", ElfTraces::default(), &[], None, Never);
        check("/usr/bin/python3.11", C_FILE, &["/lib/_asyncio.so"], Some(Language::Python), Threads);
        check("/usr/bin/python3.11", C_FILE, &["/lib/uvloop.so"], Some(Language::Python), Never);
        check("/usr/bin/dotnet", C_FILE, &["/x/libcoreclr.so"], Some(Language::Dotnet), Never);
        check("/usr/lib/erlang/bin/beam.smp", C_FILE, &[], Some(Language::Erlang), Never);
    }

    #[test]
    fn unreadable_maps_mean_never() {
        assert_eq!(thread_context(None, C_FILE, None), ThreadContext::Never);
    }

    #[test]
    fn event_loops_of_java_are_known_by_name() {
        for name in [
            "ForkJoinPool-1-",
            "nioEventLoopGro",
            "epollEventLoopG",
            "reactor-http-e",
            "vert.x-eventloo",
            "XNIO-7 I/O-1",
        ] {
            assert!(is_event_loop_thread(name.as_bytes()), "{name}");
        }
        for name in ["http-nio-8080-e", "qtp12345-17", "main", "pool-1-thread-1", "XNIO-1 task-1"] {
            assert!(!is_event_loop_thread(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn this_process_has_mapped_its_own_file() {
        let exe = procfs::exe(std::process::id()).unwrap();
        assert!(mapped_files(std::process::id()).unwrap().contains(&exe));
    }
}
