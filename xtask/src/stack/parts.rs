//! The parts of the stack as data: which program, how it is started, when it is ready, what it shows.
//!
//! Names are those of deploy/compose.yaml, and so are ports and config files. Every name means 127.0.0.1 but those of
//! two parts that listen on a port which another part has as well.

use std::path::{Path, PathBuf};

/// A part.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) program: Program,
    /// `{root}`, `{deploy}` and `{data}` (a folder of its own) are filled in.
    pub(super) arguments: &'static [&'static str],
    pub(super) variables: &'static [(&'static str, &'static str)],
    /// Where its name leads.
    pub(super) address: &'static str,
    pub(super) ready: Ready,
    /// What a person opens.
    pub(super) page: Option<&'static str>,
    /// Its lines on standard error go to the Collector, as the log driver of its container does it.
    pub(super) forwards_log: bool,
}

/// Where a program comes from.
#[derive(Clone, Copy)]
pub(super) enum Program {
    /// Built from a workspace of this repository.
    Built(Build),
    /// In PostgreSQL's own folder.
    Postgres,
    /// In target/tools/bin or on PATH, or not at all: then the part is left out.
    Found(&'static str),
    /// This program itself.
    Myself,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Build {
    Service,
    Go,
    Skep,
    Collector,
}

/// When a part is ready.
#[derive(Clone, Copy)]
pub(super) enum Ready {
    /// This path is answered with 200.
    Http(u16, &'static str),
    /// Somebody accepts.
    Tcp(u16),
}

const LOCAL: &str = "127.0.0.1";
/// Jaeger and Tempo take OTLP on the Collector's port.
const JAEGER: &str = "127.0.0.2";
const TEMPO: &str = "127.0.0.3";
const OTEL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel-collector:4317");
const ATTRIBUTES: (&str, &str) =
    ("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=demo,deployment.environment.name=demo");
const INTERVAL: (&str, &str) = ("OTEL_METRIC_EXPORT_INTERVAL", "5000");

const PART: Part = Part {
    name: "",
    program: Program::Myself,
    arguments: &[],
    variables: &[],
    address: LOCAL,
    ready: Ready::Tcp(0),
    page: None,
    forwards_log: false,
};

/// All parts, in the order in which they are started.
pub(super) const PARTS: [Part; 17] = [
    Part {
        name: "postgres",
        program: Program::Postgres,
        arguments: &["-D", "{data}", "-p", "5432", "-k", "{data}", "-c", "listen_addresses=127.0.0.1"],
        ready: Ready::Tcp(5432),
        ..PART
    },
    Part {
        name: "loki",
        program: Program::Found("loki"),
        arguments: &["-config.file={deploy}/loki/loki.yaml", "-config.expand-env=true"],
        variables: &[("LOKI_DIR", "{data}")],
        ready: Ready::Http(3100, "/ready"),
        ..PART
    },
    Part {
        name: "tempo",
        program: Program::Found("tempo"),
        arguments: &["-target=all", "-config.file={deploy}/tempo/tempo.yaml"],
        address: TEMPO,
        ready: Ready::Http(3200, "/ready"),
        ..PART
    },
    Part {
        name: "jaeger",
        program: Program::Found("jaeger"),
        arguments: &["--config={deploy}/jaeger/config.yaml"],
        variables: &[("JAEGER_LISTEN_HOST", JAEGER), ("JAEGER_UI", "{deploy}/jaeger/ui.json")],
        address: JAEGER,
        ready: Ready::Http(16686, "/api/services"),
        page: Some("http://127.0.0.2:16686"),
        ..PART
    },
    Part {
        name: "pyroscope",
        program: Program::Found("pyroscope"),
        arguments: &["-config.file={deploy}/pyroscope/pyroscope.yaml"],
        ready: Ready::Http(4040, "/ready"),
        page: Some("http://127.0.0.1:4040"),
        ..PART
    },
    Part {
        name: "otel-collector",
        program: Program::Built(Build::Collector),
        arguments: &["--config={deploy}/otel-collector/config.yaml"],
        variables: &[("LISTEN", LOCAL)],
        ready: Ready::Http(13133, "/"),
        ..PART
    },
    Part {
        name: "webhook-tester",
        program: Program::Myself,
        arguments: &["stack", "webhook", "--listen", "127.0.0.1:8080", "--file", "{data}/alerts.jsonl"],
        ready: Ready::Tcp(8080),
        ..PART
    },
    Part {
        name: "alertmanager",
        program: Program::Found("prometheus-alertmanager"),
        arguments: &[
            "--config.file={deploy}/alertmanager/alertmanager.yaml",
            "--storage.path={data}",
            "--cluster.listen-address=",
            "--web.listen-address=127.0.0.1:9093",
        ],
        ready: Ready::Http(9093, "/-/ready"),
        page: Some("http://127.0.0.1:9093"),
        ..PART
    },
    Part {
        name: "prometheus",
        program: Program::Found("prometheus"),
        arguments: &[
            "--config.file={deploy}/prometheus/prometheus.yaml",
            "--storage.tsdb.path={data}",
            "--enable-feature=exemplar-storage",
            "--web.enable-lifecycle",
            "--web.listen-address=127.0.0.1:9090",
        ],
        ready: Ready::Http(9090, "/-/ready"),
        page: Some("http://127.0.0.1:9090"),
        ..PART
    },
    Part {
        name: "users-app",
        program: Program::Built(Build::Service),
        variables: &[
            OTEL,
            ATTRIBUTES,
            INTERVAL,
            ("LISTEN", "127.0.0.1:8000"),
            ("DATABASE_URL", "postgresql://user:password@postgres:5432/db"),
            ("PYROSCOPE_URL", "http://pyroscope:4040"),
        ],
        ready: Ready::Http(8000, "/readyz"),
        page: Some("http://127.0.0.1:8000/docs"),
        ..PART
    },
    Part {
        name: "golang-app",
        program: Program::Built(Build::Go),
        variables: &[("LISTEN", "127.0.0.1:8002"), ("USERS_URL", "http://users-app:8000")],
        ready: Ready::Http(8002, "/readyz"),
        forwards_log: true,
        ..PART
    },
    Part {
        name: "edge-app",
        program: Program::Built(Build::Service),
        variables: &[
            OTEL,
            ATTRIBUTES,
            INTERVAL,
            ("LISTEN", "127.0.0.1:8001"),
            ("USERS_URL", "http://users-app:8000"),
            ("ALBUMS_URL", "http://golang-app:8002"),
        ],
        ready: Ready::Http(8001, "/readyz"),
        page: Some("http://127.0.0.1:8001/users"),
        ..PART
    },
    Part {
        name: "skep",
        program: Program::Built(Build::Skep),
        arguments: &["run", "--config", "{deploy}/skep/skep.yaml"],
        variables: &[OTEL, ("SKEP_METRICS_LISTEN", "127.0.0.1:8999")],
        ready: Ready::Http(8999, "/readyz"),
        page: Some("http://127.0.0.1:8999/metrics"),
        ..PART
    },
    Part {
        name: "grafana",
        program: Program::Found("grafana"),
        arguments: &["server", "--homepath", "/usr/share/grafana"],
        variables: &[("GF_PATHS_PROVISIONING", "{deploy}/grafana/provisioning"), ("GF_PATHS_DATA", "{data}")],
        ready: Ready::Http(3000, "/api/health"),
        page: Some("http://127.0.0.1:3000"),
        ..PART
    },
    Part {
        name: "pyrra-api",
        program: Program::Found("pyrra"),
        arguments: &[
            "api",
            "--prometheus-url=http://prometheus:9090",
            "--api-url=http://pyrra-filesystem:9444",
        ],
        ready: Ready::Tcp(9099),
        page: Some("http://127.0.0.1:9099"),
        ..PART
    },
    Part {
        name: "pyrra-filesystem",
        program: Program::Found("pyrra"),
        arguments: &[
            "filesystem",
            "--prometheus-url=http://prometheus:9090",
            "--config-files={deploy}/pyrra/*.yaml",
            "--prometheus-folder={data}",
            "--generic-rules",
        ],
        ready: Ready::Tcp(9444),
        ..PART
    },
    Part {
        name: "karma",
        program: Program::Found("karma"),
        variables: &[("ALERTMANAGER_URI", "http://alertmanager:9093"), ("PORT", "8081"), ("HOST", LOCAL)],
        ready: Ready::Http(8081, "/health"),
        page: Some("http://127.0.0.1:8081"),
        ..PART
    },
];

/// The file that tells names from addresses inside the stack.
pub(super) fn hosts() -> String {
    let names = PARTS.iter().map(|part| format!("{} {}\n", part.address, part.name));
    std::iter::once("127.0.0.1 localhost\n".to_owned()).chain(names).collect()
}

impl Part {
    /// Where it answers, seen from outside.
    pub(super) fn url(&self, path: &str) -> String {
        let (Ready::Http(port, _) | Ready::Tcp(port)) = self.ready;
        format!("http://{}:{port}{path}", self.address)
    }

    /// An argument or a variable with its places filled in.
    pub(super) fn fill(text: &str, root: &Path, data: &Path) -> String {
        text.replace("{root}", &root.to_string_lossy())
            .replace("{deploy}", &root.join("deploy").to_string_lossy())
            .replace("{data}", &data.to_string_lossy())
    }

    /// The file of a program that this repository builds.
    pub(super) fn built(root: &Path, name: &str, build: Build) -> PathBuf {
        match build {
            Build::Service => root.join("apps/target/debug").join(name),
            Build::Go => root.join("target/stack/bin").join(name),
            Build::Skep => root.join("target/release/skep"),
            Build::Collector => root.join("target/tools/bin/stack-collector"),
        }
    }
}
