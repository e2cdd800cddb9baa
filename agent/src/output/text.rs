//! One aligned line a span, for people: time, kind, service, status, duration, then what was asked for.
//!
//! Columns of variable width come last, so lines stay aligned without cutting anything. Text that came over the
//! network is shown with its control characters made visible: it must not steer the terminal.

use std::fmt::Write as _;
use std::io::Write as _;

use agent_pipeline::semconv;
use agent_pipeline::span::{Status, Value};

use super::json::{Line, kind_name};

const SERVICE_WIDTH: usize = 18;

/// How text lines look.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// With colours.
    pub color: bool,
    /// Local time minus UTC.
    pub utc_offset_s: i64,
}

/// Attributes that have a column of their own.
#[derive(Default)]
pub struct Columns {
    method: String,
    target: String,
    route: String,
    error_type: String,
    status_code: Option<i64>,
}

/// Appends the span and a line break. `columns` is only there to be used again.
pub fn write_span(out: &mut Vec<u8>, columns: &mut Columns, style: Style, line: &Line<'_, '_>) {
    columns.read(line);
    let paint = |code: &'static str| if style.color { code } else { "" };
    let (dim, reset) = (paint("\x1b[2m"), paint("\x1b[0m"));

    let _ = write!(
        out,
        "{dim}{}{reset}  {:6}  ",
        TimeOfDay(line.start_unix_ns, style.utc_offset_s),
        kind_name(line.span.kind())
    );
    let _ = write!(out, "{}", paint("\x1b[36m"));
    write_padded(out, &line.resource.service_name, SERVICE_WIDTH);
    let _ = write!(out, "{reset}  ");

    let failed = line.span.status().0 == Status::Error;
    let color = match columns.status_code {
        _ if failed => paint("\x1b[31m"),
        Some(400..) => paint("\x1b[33m"),
        Some(300..) => paint("\x1b[34m"),
        Some(_) => paint("\x1b[32m"),
        None => "",
    };
    match columns.status_code {
        Some(code) => drop(write!(out, "{color}{code:3}{reset}")),
        None => drop(write!(out, "{color}{:3}{reset}", if failed { "ERR" } else { "-" })),
    }
    let duration = Duration(line.end_unix_ns.saturating_sub(line.start_unix_ns));
    let _ = write!(out, "  {:>8}  ", duration.to_string());

    if columns.target.is_empty() {
        write_visible(out, line.name);
    } else {
        let _ = write!(out, "{}", paint("\x1b[1m"));
        write_visible(out, &columns.method);
        let _ = write!(out, "{reset} ");
        write_visible(out, &columns.target);
    }
    let _ = write!(out, "{dim}");
    if !columns.route.is_empty() && columns.route != columns.target {
        out.extend_from_slice(b"  route=");
        write_visible(out, &columns.route);
    }
    if columns.status_code.is_none() && !columns.error_type.is_empty() {
        out.extend_from_slice(b"  error=");
        write_visible(out, &columns.error_type);
    }
    let _ = write!(out, "  trace=");
    for byte in &line.span.trace_id[..4] {
        let _ = write!(out, "{byte:02x}");
    }
    if line.span.parent_span_id.is_some() {
        out.extend_from_slice(b" child");
    }
    let _ = writeln!(out, "{reset}");
}

impl Columns {
    fn read(&mut self, line: &Line<'_, '_>) {
        for text in [&mut self.method, &mut self.target, &mut self.route, &mut self.error_type] {
            text.clear();
        }
        self.status_code = None;
        line.span.attributes(&mut |name, value| match (name, value) {
            (semconv::HTTP_REQUEST_METHOD, Value::Str(text)) if self.method.is_empty() => {
                self.method.push_str(text);
            }
            (semconv::HTTP_REQUEST_METHOD_ORIGINAL, Value::Str(text)) => {
                self.method.clear();
                self.method.push_str(text);
            }
            (semconv::URL_FULL | semconv::URL_PATH, Value::Str(text)) => self.target.push_str(text),
            (semconv::URL_QUERY, Value::Str(text)) if !text.is_empty() => {
                self.target.push('?');
                self.target.push_str(text);
            }
            (semconv::HTTP_ROUTE, Value::Str(text)) => self.route.push_str(text),
            (semconv::ERROR_TYPE, Value::Str(text)) => self.error_type.push_str(text),
            (semconv::HTTP_RESPONSE_STATUS_CODE, Value::Int(code)) => self.status_code = Some(code),
            _ => {}
        });
    }
}

/// Seconds that local time is ahead of UTC now.
pub fn utc_offset_s() -> i64 {
    // SAFETY: a null pointer asks for the result alone.
    let now = unsafe { libc::time(std::ptr::null_mut()) };
    let mut local = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live objects.
    let done = unsafe { libc::localtime_r(&raw const now, local.as_mut_ptr()) };
    if done.is_null() {
        return 0;
    }
    // SAFETY: zeroed is a valid tm, and localtime_r has filled it.
    unsafe { local.assume_init() }.tm_gmtoff
}

/// Appends text with everything that could steer a terminal made visible.
pub fn write_visible(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for character in text.chars() {
        if steers(character) {
            let _ = write!(out, "{}", character.escape_unicode());
        } else {
            let _ = write!(out, "{character}");
        }
    }
}

/// Control characters, and those that change the direction or the width of what follows.
fn steers(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Exactly `width` columns at least; longer text is cut with an ellipsis.
fn write_padded(out: &mut Vec<u8>, text: &str, width: usize) {
    let count = text.chars().count();
    if count <= width {
        write_visible(out, text);
        out.extend(std::iter::repeat_n(b' ', width - count));
    } else {
        let mut cut = String::with_capacity(width * 4);
        cut.extend(text.chars().take(width - 1));
        cut.push('…');
        write_visible(out, &cut);
    }
}

struct TimeOfDay(u64, i64);

impl std::fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = (self.0 / 1_000_000).saturating_add_signed(self.1 * 1000) % 86_400_000;
        write!(f, "{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
    }
}

/// Three figures and a unit.
pub struct Duration(pub u64);

impl std::fmt::Display for Duration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (value, unit) = match self.0 {
            ns @ ..1_000_000 => (ns as f64 / 1e3, "µs"),
            ns @ ..1_000_000_000 => (ns as f64 / 1e6, "ms"),
            ns => (ns as f64 / 1e9, "s"),
        };
        let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
        let mut text = String::with_capacity(12);
        write!(text, "{value:.digits$}{unit}")?;
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_figures() {
        for (ns, expected) in [
            (0, "0.00µs"),
            (999, "1.00µs"),
            (12_345, "12.3µs"),
            (812_000, "812µs"),
            (1_240_000, "1.24ms"),
            (99_960_000, "100ms"),
            (12_000_000_000, "12.0s"),
        ] {
            assert_eq!(Duration(ns).to_string(), expected);
        }
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let mut out = Vec::new();
        write_visible(&mut out, "a\x1b[2Jb\u{9b}c\u{202e}dé\r\n");
        assert_eq!(String::from_utf8(out).unwrap(), "a\\u{1b}[2Jb\\u{9b}c\\u{202e}dé\\u{d}\\u{a}");
    }

    #[test]
    fn names_are_padded_or_cut() {
        for (text, expected) in [("ab", "ab  "), ("abcd", "abcd"), ("abcde", "abc…")] {
            let mut out = Vec::new();
            write_padded(&mut out, text, 4);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn times_are_local() {
        assert_eq!(TimeOfDay(3_723_004_000_000, 3600).to_string(), "02:02:03.004");
        assert_eq!(TimeOfDay(86_400_000_000_000, -3600).to_string(), "23:00:00.000");
    }
}
