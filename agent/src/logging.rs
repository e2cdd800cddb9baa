//! Logs on standard error: sparse, one line each, text or JSON. Times are UTC.

use std::io::Write;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Log, Metadata, Record};

use crate::config::{LogConfig, LogFormat};
use crate::output::json::write_string;

struct Logger(LogFormat);

/// Sets the logger; a second call changes only the level.
pub fn start(config: LogConfig) {
    static LOGGER: OnceLock<Logger> = OnceLock::new();
    // An error says that there is one already.
    let _ = log::set_logger(LOGGER.get_or_init(|| Logger(config.format)));
    log::set_max_level(config.level);
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries explain themselves at info; only their warnings are for the user.
        metadata.level() <= log::Level::Warn || metadata.target().starts_with("skep")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
            let line = format_line(self.0, now, record.level().as_str(), &record.args().to_string());
            // A closed standard error is no reason to stop.
            let _ = std::io::stderr().lock().write_all(&line);
        }
    }

    fn flush(&self) {}
}

fn format_line(format: LogFormat, unix_ms: u64, level: &str, message: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(128);
    let time = utc(unix_ms);
    let level = level.to_ascii_lowercase();
    match format {
        LogFormat::Text => {
            // What watched processes call themselves must not steer the terminal.
            let message: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let _ = writeln!(line, "{time} {level:5} {message}");
        }
        LogFormat::Json => {
            let _ = write!(line, "{{\"time\":\"{time}\",\"level\":\"{level}\",\"message\":");
            write_string(&mut line, message);
            line.extend_from_slice(b"}\n");
        }
    }
    line
}

/// `2026-11-23T20:55:06.123Z`
fn utc(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days since 1970 to a date of the Gregorian calendar, in years that begin in March.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (seconds, ms) = (ms / 1000, ms % 1000);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_795_467_306_123), "2026-11-23T20:55:06.123Z");
        assert_eq!(utc(1_798_761_599_999), "2026-12-31T23:59:59.999Z");
    }

    #[test]
    fn lines_are_single_and_parse() {
        let text = String::from_utf8(format_line(LogFormat::Text, 0, "WARN", "a\n\x1b[31mb")).unwrap();
        assert_eq!(text, "1970-01-01T00:00:00.000Z warn  a  [31mb\n");
        let json: serde_json::Value =
            serde_json::from_slice(&format_line(LogFormat::Json, 0, "INFO", "a\n\"b")).unwrap();
        assert_eq!(json["message"], "a\n\"b");
        assert_eq!(json["level"], "info");
    }
}
