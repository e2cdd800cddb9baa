//! Rate, errors and duration per service, kind and span name: the table at the end of a run.
//!
//! In: finished spans. Out: a table. Bounded: a fixed number of rows, the rest together in one, and per row a
//! histogram of 16 buckets for each power of two, so that a percentile is at most 6.25 % above the true one.

use std::io::Write;
use std::time::Duration as Elapsed;

use agent_pipeline::request::SpanKind;
use rustc_hash::FxHashMap;

use super::json::kind_name;
use super::text::{Duration, write_visible};

const MAX_ROWS: usize = 512;
const SUB_BITS: u32 = 4;
const BUCKETS: usize = 64 << SUB_BITS;
const OTHER: &str = "(other)";

/// The figures of a run.
#[derive(Default)]
pub struct Summary {
    /// By service, kind and name, each ended by a zero byte, so that one borrowed text finds a row.
    rows: FxHashMap<String, Row>,
    key: String,
}

#[derive(Default)]
struct Row {
    count: u64,
    errors: u64,
    /// Grows to the slowest request's bucket.
    histogram: Vec<u32>,
}

impl Summary {
    /// Counts one span.
    pub fn add(&mut self, service: &str, kind: SpanKind, name: &str, failed: bool, duration_ns: u64) {
        self.set_key(service, kind, name);
        if !self.rows.contains_key(&self.key) {
            if self.rows.len() >= MAX_ROWS {
                self.set_key(OTHER, kind, OTHER);
            }
            self.rows.entry(self.key.clone()).or_default();
        }
        if let Some(row) = self.rows.get_mut(&self.key) {
            row.add(failed, duration_ns);
        }
    }

    fn set_key(&mut self, service: &str, kind: SpanKind, name: &str) {
        self.key.clear();
        for part in [service, kind_name(kind), name] {
            self.key.push_str(part);
            self.key.push('\0');
        }
    }

    /// The table, busiest rows of each service first.
    pub fn render(&self, elapsed: Elapsed) -> Vec<u8> {
        let mut lines = vec![
            ["SERVICE", "KIND", "REQUESTS", "RATE", "ERRORS", "P50", "P95", "P99", "NAME"].map(str::to_owned),
        ];
        let mut rows: Vec<_> =
            self.rows.iter().map(|(key, row)| (key.split('\0').collect::<Vec<_>>(), row)).collect();
        rows.sort_by(|(a_key, a), (b_key, b)| {
            a_key.first().cmp(&b_key.first()).then(b.count.cmp(&a.count)).then(a_key.cmp(b_key))
        });
        for (key, row) in rows {
            let [service, kind, name, ..] = key[..] else { continue };
            lines.push([
                visible(service),
                kind.to_owned(),
                row.count.to_string(),
                format!("{:.1}/s", row.count as f64 / elapsed.as_secs_f64().max(0.001)),
                format!("{:.1}%", row.errors as f64 * 100.0 / row.count as f64),
                Duration(row.quantile(0.50)).to_string(),
                Duration(row.quantile(0.95)).to_string(),
                Duration(row.quantile(0.99)).to_string(),
                visible(name),
            ]);
        }
        let mut out = Vec::new();
        if lines.len() == 1 {
            let _ = writeln!(out, "\nno requests seen in {:.1} s", elapsed.as_secs_f64());
            return out;
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 9] = std::array::from_fn(width);
        let _ = writeln!(out, "\n{:.1} s", elapsed.as_secs_f64());
        for line in &lines {
            for (column, (text, width)) in line.iter().zip(widths).enumerate() {
                let _ = match column {
                    0 | 1 => write!(out, "{text:width$}  "),
                    8 => write!(out, "{text}"),
                    _ => write!(out, "{text:>width$}  "),
                };
            }
            out.push(b'\n');
        }
        out
    }
}

impl Row {
    fn add(&mut self, failed: bool, duration_ns: u64) {
        self.count += 1;
        self.errors += u64::from(failed);
        let bucket = bucket_of(duration_ns);
        if self.histogram.len() <= bucket {
            self.histogram.resize(bucket + 1, 0);
        }
        self.histogram[bucket] = self.histogram[bucket].saturating_add(1);
    }

    fn quantile(&self, quantile: f64) -> u64 {
        let rank = (self.count as f64 * quantile).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, &count) in self.histogram.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return upper_bound(bucket);
            }
        }
        0
    }
}

/// Values below 16 have a bucket each; above, the top bit and the four bits behind it.
fn bucket_of(value: u64) -> usize {
    let bits = u64::BITS - value.leading_zeros();
    if bits <= SUB_BITS {
        return value as usize;
    }
    let shift = bits - SUB_BITS - 1;
    ((((shift + 1) as usize) << SUB_BITS) | ((value >> shift) as usize & 15)).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let (group, sub) = (bucket >> SUB_BITS, (bucket & 15) as u64);
    match group {
        0 => sub,
        _ => ((16 + sub + 1) << (group - 1)).wrapping_sub(1),
    }
}

fn visible(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    write_visible(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_never_below_its_values_and_close_above() {
        for value in (0..5000).chain([1 << 20, (1 << 40) + 12_345, u64::MAX / 3, u64::MAX]) {
            let bound = upper_bound(bucket_of(value));
            assert!(bound >= value, "{value} in {bound}");
            assert!(bound - value <= value / 16, "{value} in {bound}");
        }
    }

    #[test]
    fn percentiles_are_of_the_right_request() {
        let mut row = Row::default();
        for ms in 1..=100_u64 {
            row.add(ms > 90, ms * 1_000_000);
        }
        for (quantile, ms) in [(0.5, 50), (0.95, 95), (0.99, 99)] {
            let (found, exact) = (row.quantile(quantile), ms * 1_000_000);
            assert!(found >= exact && found <= exact + exact / 16, "{quantile}: {found}");
        }
        assert_eq!(row.errors, 10);
    }

    #[test]
    fn rows_are_bounded() {
        let mut summary = Summary::default();
        for index in 0..2000 {
            summary.add("shop", SpanKind::Server, &format!("GET /{index}"), false, 1);
        }
        for index in 0..2000 {
            summary.add(&format!("s{index}"), SpanKind::Client, "GET", true, 1);
        }
        // One more for each kind.
        assert!(summary.rows.len() <= MAX_ROWS + 2, "{}", summary.rows.len());
        let total: u64 = summary.rows.values().map(|row| row.count).sum();
        assert_eq!(total, 4000);
        assert!(String::from_utf8(summary.render(Elapsed::from_secs(1))).unwrap().contains("(other)"));
    }

    #[test]
    fn the_table_names_what_it_counts() {
        let mut summary = Summary::default();
        summary.add("shop", SpanKind::Server, "GET /users/{id}", false, 1_000_000);
        summary.add("shop", SpanKind::Server, "GET /users/{id}", true, 3_000_000);
        let table = String::from_utf8(summary.render(Elapsed::from_secs(2))).unwrap();
        let row = table.lines().last().unwrap();
        for part in ["shop", "server", "GET /users/{id}", "1.0/s", "50.0%"] {
            assert!(row.contains(part), "{part} in {row}");
        }
    }
}
