//! What was set about metrics → what it means.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use agent_pipeline::metrics::{MetricsConfig, Names};

use crate::export::prometheus::PrometheusConfig;
use crate::settings::problem::Problems;
use crate::settings::rows::metrics;
use crate::settings::value::Settings;

/// Everything about metrics.
#[derive(Clone, Debug)]
pub struct MeterConfig {
    /// The endpoint, if it is wanted.
    pub prometheus: Option<PrometheusConfig>,
    /// Whether what watched processes use is shown.
    pub processes: bool,
    /// Between two exports over OTLP.
    pub export_interval: Duration,
    /// What sums and histograms cover over OTLP.
    pub temporality: Temporality,
    /// Whether histograms have exponential buckets over OTLP.
    pub exponential: bool,
    aggregation: MetricsConfig,
}

/// What sums and histograms cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// All since the start.
    Cumulative,
    /// What came since the export before.
    Delta,
    /// As delta, but cumulative where the value is only looked at: that needs no memory of the last one.
    LowMemory,
}

impl MeterConfig {
    /// Makes sense of the settings.
    pub fn new(settings: &Settings, problems: &mut Problems) -> Self {
        let listen: Option<String> = settings.get(&metrics::PROMETHEUS_LISTEN);
        let listen = listen.and_then(|text| parse_listen(&text).ok());
        let public: bool = settings.need(&metrics::PROMETHEUS_PUBLIC);
        if let Some(listen) = listen.filter(|listen| !listen.ip().is_loopback() && !public) {
            problems.add(format!(
                "--prometheus-listen {listen}: other machines can reach this address, and whoever does sees the names of \
                 services and routes: add --prometheus-public if that is wanted, or listen on 127.0.0.1:{}",
                listen.port()
            ));
        }
        let word = |row| settings.need::<String>(row);
        Self {
            prometheus: listen.map(|listen| PrometheusConfig { listen }),
            processes: settings.need(&metrics::PROCESSES),
            export_interval: settings.need(&metrics::EXPORT_INTERVAL),
            temporality: match word(&metrics::TEMPORALITY).as_str() {
                "delta" => Temporality::Delta,
                "lowmemory" => Temporality::LowMemory,
                _ => Temporality::Cumulative,
            },
            exponential: word(&metrics::HISTOGRAMS) == "base2_exponential_bucket_histogram",
            aggregation: MetricsConfig {
                names: if word(&metrics::COMPAT) == "beyla" { Names::Beyla } else { Names::Semconv },
                max_series: settings.need(&metrics::MAX_SERIES),
                idle: settings.need(&metrics::IDLE),
                span_metrics: settings.need(&metrics::SPAN_METRICS),
                service_graph: settings.need(&metrics::SERVICE_GRAPH),
                ..MetricsConfig::default()
            },
        }
    }

    /// What is counted, if metrics are exported over OTLP or are not; `None` if nobody reads.
    pub fn aggregation(&self, otlp: bool) -> Option<MetricsConfig> {
        let exponential = otlp && self.exponential;
        (self.prometheus.is_some() || otlp).then(|| MetricsConfig {
            explicit: self.prometheus.is_some() || !exponential,
            exponential,
            push: otlp,
            ..self.aggregation.clone()
        })
    }
}

/// An address and a port; a port alone is one of this machine.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    match (text.parse::<SocketAddr>(), port) {
        (Ok(address), _) => Ok(address),
        (Err(_), Ok(port)) => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        (Err(_), Err(_)) => match text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
            Some(port) => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
            None => Err("give an IP address and a port, such as 127.0.0.1:9464, or a port alone".to_owned()),
        },
    }
}

/// Whether it is an address to listen on.
pub fn check_listen(text: &str) -> Result<(), String> {
    parse_listen(text).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_this_machine() {
        let check =
            |text: &str, expected: &str| assert_eq!(parse_listen(text).unwrap().to_string(), expected);
        check("9464", "127.0.0.1:9464");
        check(":9464", "127.0.0.1:9464");
        check("localhost:9464", "127.0.0.1:9464");
        check("0.0.0.0:9464", "0.0.0.0:9464");
        check("[::1]:0", "[::1]:0");
        for bad in ["", "host:9464", "127.0.0.1", "70000", "::1", "localhost:"] {
            assert!(check_listen(bad).is_err(), "{bad}");
        }
    }
}
