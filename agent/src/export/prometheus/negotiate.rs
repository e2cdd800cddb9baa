//! What a scraper's headers ask for: the format of the text, and whether it may be compressed.

use super::text::Format;

/// The format that `Accept` prefers; Prometheus' own where it says nothing that is known.
pub(super) fn format(accept: &str) -> Format {
    let (mut open_metrics, mut text) = (None, None);
    for (media, parameters) in items(accept) {
        let version = parameter(parameters, "version");
        match media {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0" | "0.0.1")) => {
                open_metrics = Some(quality(parameters)).max(open_metrics);
            }
            "text/plain" if matches!(version, None | Some("0.0.4")) => {
                text = Some(quality(parameters)).max(text);
            }
            "text/*" | "*/*" if text.is_none() => text = Some(quality(parameters)),
            _ => {}
        }
    }
    match open_metrics.filter(|&quality| quality > 0) {
        Some(quality) if quality >= text.unwrap_or(0) => Format::OpenMetrics,
        _ => Format::Text,
    }
}

/// Whether `Accept-Encoding` allows gzip.
pub(super) fn gzip(accept_encoding: &str) -> bool {
    items(accept_encoding)
        .any(|(coding, parameters)| coding.eq_ignore_ascii_case("gzip") && quality(parameters) > 0)
}

/// The items of a list and the parameters of each.
fn items(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.split(',').map(|item| {
        let (value, parameters) = item.split_once(';').unwrap_or((item, ""));
        (value.trim(), parameters)
    })
}

fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(known, _)| known.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().trim_matches('"'))
}

/// Thousandths; 1000 where nothing or nonsense is said.
fn quality(parameters: &str) -> u32 {
    let quality = parameter(parameters, "q").and_then(|text| text.parse::<f64>().ok()).unwrap_or(1.0);
    if (0.0..=1.0).contains(&quality) { (quality * 1000.0) as u32 } else { 1000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        let check = |accept: &str, expected| assert_eq!(format(accept), expected, "{accept}");
        check("", Format::Text);
        check("*/*", Format::Text);
        check("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text);
        check("application/openmetrics-text", Format::OpenMetrics);
        check("application/openmetrics-text; version=2.0.0", Format::Text);
        check("application/openmetrics-text;q=0", Format::Text);
        check(
            "application/openmetrics-text;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.5",
            Format::Text,
        );
        // Prometheus 2.42 and 3.
        check(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::OpenMetrics,
        );
        check(
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            Format::OpenMetrics,
        );
        check(";;;,q=,=;q=nan;version", Format::Text);
    }

    #[test]
    fn gzip_is_for_those_who_ask_for_it() {
        assert!(gzip("gzip") && gzip("deflate, GZIP;q=0.5") && gzip("gzip;q=2"));
        assert!(!gzip("") && !gzip("gzip;q=0") && !gzip("br, *"));
    }
}
