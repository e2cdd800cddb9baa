//! Where to export to and how: the settings of section OTLP, made sense of.
//!
//! In: [`Settings`]. Out: [`OtlpConfig`]. What is set for one signal counts before what is set for both, wherever
//! either was said. <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>

use std::path::PathBuf;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};

use super::queue::{QueueLimits, Signal};
use crate::settings::Setting;
use crate::settings::problem::Problems;
use crate::settings::rows::otlp as rows;
use crate::settings::value::{FromValue, Settings};

/// A request is about this long before compression; collectors take 4 MiB.
const REQUEST_BYTES: usize = 256 << 10;

/// Everything that the exporter needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpConfig {
    /// Where spans go, if anywhere.
    pub traces: Option<SignalConfig>,
    /// Where metrics go, if anywhere.
    pub metrics: Option<SignalConfig>,
    /// When a batch of spans is complete.
    pub batch: BatchLimits,
    /// What may wait, for each signal.
    pub queue: QueueLimits,
    /// How long a batch is tried again, from when it was made.
    pub retry_for: Duration,
}

/// When a batch of spans is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Bytes before compression, about.
    pub bytes: usize,
    /// Spans.
    pub spans: u64,
    /// Age of its first span.
    pub delay: Duration,
}

/// Where one signal goes and how.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalConfig {
    /// The other end.
    pub endpoint: Endpoint,
    /// gRPC or HTTP.
    pub protocol: Protocol,
    /// Sent with each request; values are secrets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// For each attempt, connecting included.
    pub timeout: Duration,
    /// Of request bodies.
    pub compression: Compression,
    /// Files for TLS.
    pub tls: TlsFiles,
}

/// The other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What to connect to.
    pub target: Target,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// `Host` or `:authority`.
    pub authority: String,
    /// The request's path.
    pub path: String,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Name or address (without brackets), and port.
    Tcp(String, u16),
    /// Socket in the file system.
    Unix(PathBuf),
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`
    Grpc,
    /// `http/protobuf`
    Http,
}

/// How request bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878; collectors take it, the specification does not name it.
    Zstd,
}

/// Files for TLS, PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may sign the other end's certificate, instead of the system's roots.
    pub certificate: Option<PathBuf>,
    /// Our certificate chain.
    pub client_certificate: Option<PathBuf>,
    /// Its key.
    pub client_key: Option<PathBuf>,
}

/// The rows of the settings table that one signal has.
struct Rows {
    exporter: &'static Setting,
    endpoint: &'static Setting,
    protocol: &'static Setting,
    headers: &'static Setting,
    compression: &'static Setting,
    timeout: &'static Setting,
    insecure: &'static Setting,
    certificate: &'static Setting,
    client_certificate: &'static Setting,
    client_key: &'static Setting,
}

const TRACES: Rows = Rows {
    exporter: &rows::TRACES_EXPORTER,
    endpoint: &rows::TRACES_ENDPOINT,
    protocol: &rows::TRACES_PROTOCOL,
    headers: &rows::TRACES_HEADERS,
    compression: &rows::TRACES_COMPRESSION,
    timeout: &rows::TRACES_TIMEOUT,
    insecure: &rows::TRACES_INSECURE,
    certificate: &rows::TRACES_CERTIFICATE,
    client_certificate: &rows::TRACES_CLIENT_CERTIFICATE,
    client_key: &rows::TRACES_CLIENT_KEY,
};

const METRICS: Rows = Rows {
    exporter: &rows::METRICS_EXPORTER,
    endpoint: &rows::METRICS_ENDPOINT,
    protocol: &rows::METRICS_PROTOCOL,
    headers: &rows::METRICS_HEADERS,
    compression: &rows::METRICS_COMPRESSION,
    timeout: &rows::METRICS_TIMEOUT,
    insecure: &rows::METRICS_INSECURE,
    certificate: &rows::METRICS_CERTIFICATE,
    client_certificate: &rows::METRICS_CLIENT_CERTIFICATE,
    client_key: &rows::METRICS_CLIENT_KEY,
};

impl OtlpConfig {
    /// Makes sense of the settings. Without an endpoint, and without `OTEL_TRACES_EXPORTER=otlp` or
    /// `OTEL_METRICS_EXPORTER=otlp`, which mean the default one, nothing is exported.
    pub fn new(settings: &Settings, problems: &mut Problems) -> Self {
        Self {
            traces: signal_config(settings, Signal::Traces, &TRACES, problems),
            metrics: signal_config(settings, Signal::Metrics, &METRICS, problems),
            batch: BatchLimits {
                bytes: REQUEST_BYTES,
                spans: settings.need(&rows::BATCH_SPANS),
                delay: settings.need(&rows::BATCH_DELAY),
            },
            queue: QueueLimits {
                bytes: settings.need(&rows::QUEUE_SIZE),
                items: settings.need(&rows::QUEUE_SPANS),
            },
            retry_for: settings.need(&rows::RETRY_FOR),
        }
    }

    /// Whether anything is exported.
    pub fn is_on(&self) -> bool {
        self.traces.is_some() || self.metrics.is_some()
    }
}

fn signal_config(
    settings: &Settings,
    signal: Signal,
    own: &Rows,
    problems: &mut Problems,
) -> Option<SignalConfig> {
    let exporter: Option<String> = settings.get(own.exporter);
    let own_endpoint = settings.given(own.endpoint).is_some();
    let endpoint: Option<String> = either(settings, own.endpoint, &rows::ENDPOINT);
    match exporter.as_deref() {
        Some("none") => return None,
        None if endpoint.is_none() => return None,
        _ => {}
    }
    let word = |own, general| either::<String>(settings, own, general).unwrap_or_default();
    let protocol = match word(own.protocol, &rows::PROTOCOL).as_str() {
        "grpc" => Protocol::Grpc,
        _ => Protocol::Http,
    };
    let insecure = either(settings, own.insecure, &rows::INSECURE).unwrap_or_default();
    let endpoint = match endpoint {
        Some(url) => match parse_endpoint(&url, protocol, signal, own_endpoint, insecure) {
            Ok(endpoint) => endpoint,
            Err(reason) => {
                let row = if own_endpoint { own.endpoint } else { &rows::ENDPOINT };
                let source = settings.given(row).map(|given| given.source.to_string()).unwrap_or_default();
                problems.add(format!("{source}: {url}: {reason}"));
                return None;
            }
        },
        None => {
            let port = if protocol == Protocol::Grpc { 4317 } else { 4318 };
            Endpoint {
                target: Target::Tcp("localhost".into(), port),
                tls: false,
                authority: format!("localhost:{port}"),
                path: default_path(protocol, signal).to_owned(),
            }
        }
    };
    let tls = TlsFiles {
        certificate: either(settings, own.certificate, &rows::CERTIFICATE),
        client_certificate: either(settings, own.client_certificate, &rows::CLIENT_CERTIFICATE),
        client_key: either(settings, own.client_key, &rows::CLIENT_KEY),
    };
    if tls.client_certificate.is_some() != tls.client_key.is_some() {
        problems.add("a client certificate and its key go together: give both --otlp-client-certificate and --otlp-client-key");
    }
    let pairs: Vec<(String, String)> = either(settings, own.headers, &rows::HEADERS).unwrap_or_default();
    Some(SignalConfig {
        endpoint,
        protocol,
        headers: pairs.iter().filter_map(|(name, value)| parse_header(name, value).ok()).collect(),
        timeout: either(settings, own.timeout, &rows::TIMEOUT_OF_REQUEST).unwrap_or_default(),
        compression: match word(own.compression, &rows::COMPRESSION).as_str() {
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            _ => Compression::None,
        },
        tls,
    })
}

/// The signal's own value, else the general one.
fn either<T: FromValue>(settings: &Settings, own: &'static Setting, general: &'static Setting) -> Option<T> {
    settings.get(own).or_else(|| settings.get(general))
}

/// An endpoint of either protocol, for the table.
pub fn check_endpoint(text: &str) -> Result<(), String> {
    parse_endpoint(text, Protocol::Grpc, Signal::Traces, false, true).map(drop).map_err(str::to_owned)
}

/// A header, for the table.
pub fn check_header(name: &str, value: &str) -> Result<(), String> {
    parse_header(name, value).map(drop)
}

impl Endpoint {
    /// As a person would write it.
    pub fn url(&self) -> String {
        match &self.target {
            Target::Unix(path) => format!("unix://{}", path.display()),
            Target::Tcp(..) if self.tls => format!("https://{}{}", self.authority, self.path),
            Target::Tcp(..) => format!("http://{}{}", self.authority, self.path),
        }
    }
}

/// The path where nothing else is said.
fn default_path(protocol: Protocol, signal: Signal) -> &'static str {
    match (protocol, signal) {
        (Protocol::Grpc, Signal::Traces) => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        (Protocol::Grpc, Signal::Metrics) => {
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
        }
        (Protocol::Http, Signal::Traces) => "/v1/traces",
        (Protocol::Http, Signal::Metrics) => "/v1/metrics",
    }
}

/// `own`: the variable is the signal's, so its path is taken as it is; to the general one `v1/traces` is appended.
fn parse_endpoint(
    text: &str,
    protocol: Protocol,
    signal: Signal,
    own: bool,
    insecure: bool,
) -> Result<Endpoint, &'static str> {
    const HINT: &str = "give a URL such as http://collector:4318, https://host/path or unix:///run/otlp.sock";
    let default_path = default_path(protocol, signal);
    if text.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
        return Err(HINT);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.starts_with('/') && path.len() > 1 {
            Ok(Endpoint {
                target: Target::Unix(path.into()),
                tls: false,
                authority: "localhost".into(),
                path: default_path.to_owned(),
            })
        } else {
            Err("a unix socket needs its whole path: unix:///run/otlp.sock")
        };
    }
    let (tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        None if protocol == Protocol::Grpc => (!insecure, text),
        _ => return Err(HINT),
    };
    if rest.contains(['?', '#']) {
        return Err("an endpoint has no query and no fragment");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("credentials do not belong in the endpoint: give an authorization header");
    }
    let (host, port) = split_port(authority).ok_or(HINT)?;
    let port = match port {
        Some(port) => port.parse::<u16>().ok().filter(|&port| port != 0).ok_or("the port is not one")?,
        None if tls => 443,
        None => 80,
    };
    let path = match protocol {
        Protocol::Grpc => default_path.to_owned(),
        Protocol::Http if !own => format!("{}{default_path}", path.trim_end_matches('/')),
        Protocol::Http if path.is_empty() => "/".to_owned(),
        Protocol::Http => path.to_owned(),
    };
    if path.parse::<hyper::http::uri::PathAndQuery>().is_err()
        || authority.parse::<hyper::http::uri::Authority>().is_err()
    {
        return Err(HINT);
    }
    Ok(Endpoint { target: Target::Tcp(host.to_owned(), port), tls, authority: authority.to_owned(), path })
}

/// Host without brackets, and what stands behind the colon.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    (!host.is_empty()).then_some((host, port))
}

/// One header. The error never repeats the value.
fn parse_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    /// The connection's own.
    const RESERVED: &[&str] =
        &["connection", "content-length", "host", "keep-alive", "te", "transfer-encoding", "upgrade"];
    let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
    if RESERVED.contains(&name.as_str()) {
        return Err(format!("{name} belongs to the connection and cannot be set"));
    }
    let mut value =
        HeaderValue::from_str(value).map_err(|_| format!("{name}: its value cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    /// Variables → configuration, the warnings and problems.
    fn load(variables: &str) -> (Option<OtlpConfig>, Vec<String>) {
        let flags = match Cli::try_parse_from(["skep", "run", "--pid", "1"]).unwrap().command {
            Command::Run(flags) => flags,
            _ => unreachable!(),
        };
        let lookup = |name: &str| {
            let mut pairs = variables.split_whitespace().filter_map(|pair| pair.split_once('='));
            let value = pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
            value.filter(|value| !value.is_empty())
        };
        match crate::settings::load::load(&flags, &lookup) {
            Err(problems) => (None, problems.lines()),
            Ok((settings, mut warnings)) => {
                let mut problems = Problems::default();
                let config = OtlpConfig::new(&settings, &mut problems);
                warnings.extend(problems.lines());
                (Some(config), warnings)
            }
        }
    }

    fn config(variables: &str) -> OtlpConfig {
        let (config, said) = load(variables);
        assert_eq!(said, [""; 0], "{variables}");
        config.unwrap()
    }

    fn traces(variables: &str) -> SignalConfig {
        config(variables).traces.unwrap()
    }

    /// Variables → `target tls authority path` of traces and of metrics.
    fn check(variables: &str, expected: &[&str]) {
        let config = config(variables);
        let actual: Vec<String> = [config.traces, config.metrics]
            .iter()
            .map(|signal| match signal {
                None => "off".to_owned(),
                Some(SignalConfig { endpoint: Endpoint { target, tls, authority, path }, .. }) => {
                    let target = match target {
                        Target::Tcp(host, port) => format!("{host} {port}"),
                        Target::Unix(path) => path.display().to_string(),
                    };
                    format!("{target} {} {authority} {path}", if *tls { "tls" } else { "plain" })
                }
            })
            .collect();
        assert_eq!(actual, expected, "{variables}");
    }

    #[test]
    fn nothing_is_exported_unless_asked_for() {
        check("", &["off", "off"]);
        check("OTEL_EXPORTER_OTLP_ENDPOINT=", &["off", "off"]);
        check("OTEL_EXPORTER_OTLP_PROTOCOL=grpc OTEL_TRACES_EXPORTER=none", &["off", "off"]);
        check("OTEL_TRACES_EXPORTER=otlp", &["localhost 4318 plain localhost:4318 /v1/traces", "off"]);
        check(
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1 OTEL_METRICS_EXPORTER=none",
            &["c 1 plain c:1 /v1/traces", "off"],
        );
        assert!(!config("").is_on());
    }

    #[test]
    fn a_path_is_appended_to_the_general_endpoint_only() {
        check(
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318",
            &["c 4318 plain c:4318 /v1/traces", "c 4318 plain c:4318 /v1/metrics"],
        );
        check(
            "OTEL_EXPORTER_OTLP_ENDPOINT=https://c/otlp/",
            &["c 443 tls c /otlp/v1/traces", "c 443 tls c /otlp/v1/metrics"],
        );
        check(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://t:4318 OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://m:1/x/",
            &["t 4318 plain t:4318 /", "m 1 plain m:1 /x/"],
        );
        check(
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://t/v1/traces",
            &["t 80 plain t /v1/traces", "c 80 plain c /v1/metrics"],
        );
    }

    #[test]
    fn grpc_endpoints_may_lack_a_scheme_and_are_secure_then() {
        const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        const GRPC: &str = "OTEL_METRICS_EXPORTER=none OTEL_EXPORTER_OTLP_PROTOCOL=grpc";
        let grpc = |more: &str, expected: &str| {
            check(&format!("{GRPC} {more}"), &[&format!("{expected} {TRACES}"), "off"]);
        };
        grpc("OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4317", "c 4317 plain c:4317");
        grpc("OTEL_EXPORTER_OTLP_ENDPOINT=https://c:4317/ignored", "c 4317 tls c:4317");
        grpc("OTEL_EXPORTER_OTLP_ENDPOINT=c:4317", "c 4317 tls c:4317");
        grpc("OTEL_EXPORTER_OTLP_ENDPOINT=c:4317 OTEL_EXPORTER_OTLP_INSECURE=true", "c 4317 plain c:4317");
        grpc("OTEL_EXPORTER_OTLP_ENDPOINT=https://c:1 OTEL_EXPORTER_OTLP_INSECURE=true", "c 1 tls c:1");
        grpc("OTEL_EXPORTER_OTLP_ENDPOINT=[::1]:4317", "::1 4317 tls [::1]:4317");
        grpc("OTEL_EXPORTER_OTLP_ENDPOINT=unix:///run/o.sock", "/run/o.sock plain localhost");
        grpc("OTEL_TRACES_EXPORTER=otlp", "localhost 4317 plain localhost:4317");
    }

    #[test]
    fn a_signals_own_value_comes_first() {
        let config = config(
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_EXPORTER_OTLP_TIMEOUT=500 \
             OTEL_EXPORTER_OTLP_METRICS_TIMEOUT=700 OTEL_EXPORTER_OTLP_COMPRESSION=gzip \
             OTEL_EXPORTER_OTLP_METRICS_COMPRESSION=zstd OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=grpc \
             OTEL_EXPORTER_OTLP_CERTIFICATE=/ca OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE=/own \
             OTEL_EXPORTER_OTLP_HEADERS=a=1 OTEL_EXPORTER_OTLP_TRACES_HEADERS=b=2",
        );
        let (traces, metrics) = (config.traces.unwrap(), config.metrics.unwrap());
        assert_eq!(
            (traces.timeout, metrics.timeout),
            (Duration::from_millis(500), Duration::from_millis(700))
        );
        assert_eq!((traces.compression, metrics.compression), (Compression::Gzip, Compression::Zstd));
        assert_eq!((traces.protocol, metrics.protocol), (Protocol::Http, Protocol::Grpc));
        assert_eq!(traces.tls.certificate, Some("/own".into()));
        assert_eq!(metrics.tls.certificate, Some("/ca".into()));
        assert_eq!((traces.headers[0].0.as_str(), metrics.headers[0].0.as_str()), ("b", "a"));
    }

    #[test]
    fn header_values_are_percent_decoded_and_never_shown() {
        let signal = traces(
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://c OTEL_EXPORTER_OTLP_HEADERS=Api-Key=a%20b%3D=,,x=%C3%A4",
        );
        let headers: Vec<_> =
            signal.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(headers, [("api-key", b"a b==".as_slice()), ("x", "ä".as_bytes())]);
        assert!(!format!("{signal:?}").contains("a b"), "{signal:?}");
    }

    #[test]
    fn what_makes_no_sense_is_told_and_secrets_are_not() {
        for (variables, expected) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318", "give a URL such as http://"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT=ftp://c", "give a URL such as http://"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT=http://", "give a URL such as http://"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT=http://:4318", "give a URL such as http://"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT=http://c:0", "the port is not one"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT=http://c:99999", "the port is not one"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT=http://[::1", "give a URL such as http://"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT=http://[x]:1", "give a URL such as http://"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT=http://c/?a=b", "no query"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT=http://me@c/", "credentials do not belong"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT=unix:o.sock", "whole path"),
            ("OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_PROTOCOL=http/json", "give one of http/protobuf"),
            ("OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_COMPRESSION=lz4", "give one of none"),
            ("OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_TIMEOUT=0", "a bare number counts milliseconds"),
            ("OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_HEADERS=geheim", "give name=value"),
            ("OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_HEADERS=a=1,b=geheim%zz", "percent-encoding"),
            ("OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_HEADERS=a=geheim%0A", "cannot stand in a header"),
            ("OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_HEADERS=a(b=geheim", "no name of a header"),
            ("OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_HEADERS=host=x", "belongs to the connection"),
            ("OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_CLIENT_KEY=/k", "go together"),
        ] {
            let (_, said) = load(variables);
            let text = said.join("\n");
            assert!(text.contains(expected) && !text.contains("geheim"), "{variables}: {text}");
        }
    }

    #[test]
    fn batches_and_queues_have_the_sdks_variables() {
        let config = config(
            "OTEL_BSP_SCHEDULE_DELAY=250 OTEL_BSP_MAX_EXPORT_BATCH_SIZE=10 OTEL_BSP_MAX_QUEUE_SIZE=20 \
             SKEP_OTLP_QUEUE_SIZE=1M SKEP_OTLP_RETRY_FOR=7",
        );
        assert_eq!((config.batch.delay, config.batch.spans), (Duration::from_millis(250), 10));
        assert_eq!(config.queue, QueueLimits { bytes: 1 << 20, items: 20 });
        assert_eq!(config.retry_for, Duration::from_secs(7));
    }
}
