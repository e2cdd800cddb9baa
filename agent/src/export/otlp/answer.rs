//! What an answer means: delivered, refused for good, or to be tried again, exactly by the tables of the OTLP
//! specification (<https://opentelemetry.io/docs/specs/otlp/#failures>). Pure: untrusted bytes in, [`Outcome`] out.
//!
//! Messages that are read: `ExportTraceServiceResponse` and its like for metrics (`partial_success` = 1, in it
//! `rejected_…` = 1 and `error_message` = 2), `google.rpc.Status` (`code` = 1, `message` = 2, `details` = 3),
//! `Any` (`type_url` = 1, `value` = 2), `RetryInfo` (`retry_delay` = 1, in it `seconds` = 1 and `nanos` = 2).

use std::time::{Duration, SystemTime};

use super::wire::{Field, Fields, NotProtobuf};

/// gRPC status codes that are to be retried, without further conditions.
const GRPC_RETRIED: &[u32] = &[
    1,  // CANCELLED
    4,  // DEADLINE_EXCEEDED
    10, // ABORTED
    11, // OUT_OF_RANGE
    14, // UNAVAILABLE
    15, // DATA_LOSS
];
/// RESOURCE_EXHAUSTED: retried only where the server says when.
const GRPC_EXHAUSTED: u32 = 8;
/// HTTP status codes that are to be retried.
const HTTP_RETRIED: &[u16] = &[429, 502, 503, 504];

/// Text of the other end's that is shown, at most.
const MAX_MESSAGE: usize = 200;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Taken, all but `rejected` of it.
    Taken { rejected: u64, message: String },
    /// Refused: it would be refused again.
    Refused { reason: String },
    /// A success that is not OTLP's: something else listens there.
    NotOtlp { reason: String },
    /// May succeed later, at the earliest after `after`.
    Retry { reason: String, after: Option<Duration>, timed_out: bool },
}

impl Outcome {
    /// An attempt without an answer.
    pub(super) fn unanswered(reason: String, timed_out: bool) -> Self {
        Self::Retry { reason, after: None, timed_out }
    }
}

/// The end of a gRPC call: its status, and the response message if the status is OK.
pub(super) fn grpc(status: u32, message: &str, details: Option<&str>, response: Option<&[u8]>) -> Outcome {
    if status == 0 {
        return match response {
            Some(response) => success(response),
            None => Outcome::NotOtlp { reason: "gRPC status 0 without a response message".into() },
        };
    }
    let after = details.and_then(base64).and_then(|status| retry_delay(&status).ok().flatten());
    let reason = format!("gRPC status {status}{}", told(&percent_decoded(message)));
    if GRPC_RETRIED.contains(&status) || (status == GRPC_EXHAUSTED && after.is_some()) {
        Outcome::Retry { reason, after, timed_out: status == 4 }
    } else {
        Outcome::Refused { reason }
    }
}

/// The gRPC status that stands for an HTTP status without one
/// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
pub(super) fn grpc_status_of_http(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// An HTTP response. `body` is `None` where it was longer than any OTLP answer.
pub(super) fn http(status: u16, retry_after: Option<&str>, body: Option<&[u8]>, now: SystemTime) -> Outcome {
    if (200..300).contains(&status) {
        return match body {
            Some(body) => success(body),
            None => Outcome::NotOtlp { reason: format!("HTTP status {status} with an endless body") },
        };
    }
    let reason = format!("HTTP status {status}{}", told(&body.and_then(status_message).unwrap_or_default()));
    if HTTP_RETRIED.contains(&status) {
        let after = retry_after.and_then(|text| parse_retry_after(text, now));
        Outcome::Retry { reason, after, timed_out: false }
    } else {
        Outcome::Refused { reason }
    }
}

fn success(response: &[u8]) -> Outcome {
    match partial_success(response) {
        Ok((rejected, message)) => Outcome::Taken { rejected, message: cleaned(message.as_bytes()) },
        Err(NotProtobuf) => Outcome::NotOtlp { reason: format!("a success{}", told(&cleaned(response))) },
    }
}

fn partial_success(response: &[u8]) -> Result<(u64, String), NotProtobuf> {
    let (mut rejected, mut message) = (0, String::new());
    for field in Fields(response) {
        let (1, Field::Bytes(partial)) = field? else { continue };
        for field in Fields(partial) {
            match field? {
                // An int64; a negative count rejects nothing.
                (1, Field::Uint(count)) => rejected = u64::try_from(count.cast_signed()).unwrap_or(0),
                (2, Field::Bytes(text)) => message = String::from_utf8_lossy(text).into_owned(),
                _ => {}
            }
        }
    }
    Ok((rejected, message))
}

/// `message` of a `google.rpc.Status`; else the body, if it is text.
fn status_message(body: &[u8]) -> Option<String> {
    let fields: Result<Vec<_>, _> = Fields(body).collect();
    match fields {
        Ok(fields) => fields.iter().find_map(|field| match field {
            (2, Field::Bytes(text)) => Some(cleaned(text)),
            _ => None,
        }),
        Err(NotProtobuf) => std::str::from_utf8(body).ok().map(|text| cleaned(text.as_bytes())),
    }
}

/// The delay of a `RetryInfo` among the details of a `google.rpc.Status`.
fn retry_delay(status: &[u8]) -> Result<Option<Duration>, NotProtobuf> {
    let mut delay = None;
    for field in Fields(status) {
        let (3, Field::Bytes(any)) = field? else { continue };
        let (mut type_url, mut value) = (&b""[..], &b""[..]);
        for field in Fields(any) {
            match field? {
                (1, Field::Bytes(bytes)) => type_url = bytes,
                (2, Field::Bytes(bytes)) => value = bytes,
                _ => {}
            }
        }
        if type_url.ends_with(b"/google.rpc.RetryInfo") {
            // Without a delay it says: at once.
            delay = Some(Duration::ZERO);
            for field in Fields(value) {
                let (1, Field::Bytes(duration)) = field? else { continue };
                let (mut seconds, mut nanos) = (0, 0);
                for field in Fields(duration) {
                    match field? {
                        (1, Field::Uint(number)) => seconds = number.cast_signed().max(0).cast_unsigned(),
                        (2, Field::Uint(number)) => nanos = number.min(999_999_999) as u32,
                        _ => {}
                    }
                }
                delay = Some(Duration::new(seconds, nanos));
            }
        }
    }
    Ok(delay)
}

/// Seconds, or a date.
fn parse_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// As part of a message.
fn told(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

/// Short, one line, no control characters.
fn cleaned(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(4 * MAX_MESSAGE)]);
    let words: Vec<&str> =
        text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty()).collect();
    let mut clean: String = words.join(" ").chars().take(MAX_MESSAGE).collect();
    if clean.chars().count() == MAX_MESSAGE {
        clean.push('…');
    }
    clean
}

/// `grpc-message` is percent-encoded; what is not stays as it is.
fn percent_decoded(message: &str) -> String {
    let mut decoded = Vec::with_capacity(message.len());
    let mut rest = message.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = (byte == b'%')
            .then(|| std::str::from_utf8(tail.get(..2)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    cleaned(&decoded)
}

/// RFC 4648, padded or not: `grpc-status-details-bin`.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count) as u8);
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::super::wire::{put_bytes, put_message, put_uint};
    use super::*;
    use proptest::prelude::proptest;

    fn retried(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Retry { .. })
    }

    #[test]
    fn grpc_codes_are_retried_as_the_specification_says() {
        let retryable: Vec<u32> = (1..20).filter(|&status| retried(&grpc(status, "", None, None))).collect();
        assert_eq!(retryable, [1, 4, 10, 11, 14, 15]);
    }

    #[test]
    fn http_codes_are_retried_as_the_specification_says() {
        let now = SystemTime::now();
        let retryable: Vec<u16> =
            (100..600).filter(|&status| retried(&http(status, None, Some(b""), now))).collect();
        assert_eq!(retryable, [429, 502, 503, 504]);
        let good: Vec<u16> = (100..600)
            .filter(|&status| matches!(http(status, None, Some(b""), now), Outcome::Taken { .. }))
            .collect();
        assert_eq!(good, (200..300).collect::<Vec<_>>());
    }

    /// CAgSBGJ1c3kaMwoedHlwZS5nb29nbGVhcGlz…: a Status with RetryInfo, as grpc-go sends it.
    fn details(delay: Option<(u64, u64)>) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut status = Vec::new();
        put_uint(&mut status, 1, 8);
        put_bytes(&mut status, 2, b"busy");
        put_message(&mut status, 3, |out| {
            put_bytes(out, 1, b"type.googleapis.com/google.rpc.RetryInfo");
            put_message(out, 2, |out| {
                if let Some((seconds, nanos)) = delay {
                    put_message(out, 1, |out| {
                        put_uint(out, 1, seconds);
                        put_uint(out, 2, nanos);
                    });
                }
            });
        });
        let mut text = String::new();
        for chunk in status.chunks(3) {
            let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte))
                << (8 * (3 - chunk.len()));
            for index in 0..=chunk.len() {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * index)) as usize & 63]));
            }
        }
        text
    }

    #[test]
    fn an_exhausted_server_is_asked_again_only_if_it_says_when() {
        let after = |details: &str| match grpc(8, "busy", Some(details), None) {
            Outcome::Retry { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after(&details(Some((3, 500_000_000)))), Some(Duration::from_millis(3500)));
        assert_eq!(after(&details(None)), Some(Duration::ZERO));
        for useless in [None, Some("!!"), Some(""), Some("CAgSBGJ1c3k")] {
            assert!(!retried(&grpc(8, "busy", useless, None)), "{useless:?}");
        }
        // Any retryable status may carry one.
        let Outcome::Retry { after, .. } = grpc(14, "", Some(&details(Some((1, 0)))), None) else { panic!() };
        assert_eq!(after, Some(Duration::from_secs(1)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Wed, 25 Nov 2026 13:00:00 GMT").unwrap();
        let after = |text| match http(503, Some(text), Some(b""), now) {
            Outcome::Retry { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after(" 0 "), Some(Duration::ZERO));
        assert_eq!(after("Wed, 25 Nov 2026 13:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(after("Wed, 25 Nov 2026 12:00:00 GMT"), Some(Duration::ZERO));
        for useless in ["soon", "-1", "1.5", ""] {
            assert_eq!(after(useless), None, "{useless}");
        }
    }

    #[test]
    fn partial_success_is_counted() {
        let answer = |rejected, text: &str| {
            let mut out = Vec::new();
            put_message(&mut out, 1, |out| {
                put_uint(out, 1, rejected);
                put_bytes(out, 2, text.as_bytes());
            });
            http(200, None, Some(&out), SystemTime::now())
        };
        let taken = |rejected, message: &str| Outcome::Taken { rejected, message: message.into() };
        assert_eq!(answer(0, ""), taken(0, ""));
        assert_eq!(answer(3, "no\nroom"), taken(3, "no room"));
        assert_eq!(answer((-3_i64).cast_unsigned(), ""), taken(0, ""));
        assert_eq!(http(200, None, Some(b""), SystemTime::now()), taken(0, ""));
        assert_eq!(grpc(0, "", None, Some(b"")), taken(0, ""));
    }

    #[test]
    fn a_page_that_says_ok_is_no_collector() {
        let page = http(200, None, Some(b"<!doctype html>\n<title>nginx</title>"), SystemTime::now());
        assert_eq!(
            page,
            Outcome::NotOtlp { reason: "a success (<!doctype html> <title>nginx</title>)".into() }
        );
        assert!(matches!(http(200, None, None, SystemTime::now()), Outcome::NotOtlp { .. }));
        assert!(matches!(grpc(0, "", None, None), Outcome::NotOtlp { .. }));
    }

    #[test]
    fn reasons_are_short_and_readable() {
        let reason = |outcome| match outcome {
            Outcome::Refused { reason } => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(grpc(7, "no%20entry%0a%", None, None)), "gRPC status 7 (no entry %)");
        let mut status = Vec::new();
        put_uint(&mut status, 1, 3);
        put_bytes(&mut status, 2, b"bad span");
        let now = SystemTime::now();
        assert_eq!(reason(http(400, None, Some(&status), now)), "HTTP status 400 (bad span)");
        assert_eq!(reason(http(401, None, Some(b"who are\x1byou"), now)), "HTTP status 401 (who are you)");
        assert_eq!(reason(http(404, None, Some(b"\xff\xfe"), now)), "HTTP status 404");
        assert!(reason(http(400, None, Some(&[b'x'; 9999]), now)).chars().count() < 250);
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_meaning(body: Vec<u8>, text in ".*", status in 0_u16..1000) {
            http(status, Some(&text), Some(&body), SystemTime::UNIX_EPOCH);
            grpc(u32::from(status), &text, Some(&text), Some(&body));
            if let Ok(delay) = retry_delay(&body) {
                assert!(delay.is_none_or(|delay| delay.subsec_nanos() < 1_000_000_000));
            }
        }
    }
}
