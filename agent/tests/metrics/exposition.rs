//! Reading what the endpoint says: samples with their labels, and the exemplars behind them.

use std::collections::BTreeMap;

/// One line that is no comment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
    /// Labels of the exemplar.
    pub exemplar: Option<BTreeMap<String, String>>,
}

/// All samples of a text.
pub fn samples(text: &str) -> Vec<Sample> {
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

fn sample(line: &str) -> Sample {
    let (name, rest) = line.split_once('{').unwrap_or_else(|| panic!("no labels: {line}"));
    let (labels, rest) = labels(rest);
    let mut parts = rest.trim_start().splitn(2, " # {");
    let number = parts.next().unwrap_or_default().split(' ').next().unwrap_or_default();
    Sample {
        name: name.to_owned(),
        labels,
        value: number.parse().unwrap_or_else(|_| panic!("no value: {line}")),
        exemplar: parts.next().map(|rest| self::labels(rest).0),
    }
}

/// Labels up to the closing bracket, and what is behind it.
fn labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(behind) = rest.strip_prefix('}') {
            return (labels, behind);
        }
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {rest}"));
        let mut text = String::new();
        let mut characters = value.char_indices();
        let end = loop {
            match characters.next() {
                Some((_, '\\')) => match characters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, other)) => text.push(other),
                    None => panic!("cut off: {rest}"),
                },
                Some((at, '"')) => break at,
                Some((_, other)) => text.push(other),
                None => panic!("cut off: {rest}"),
            }
        };
        labels.insert(name.to_owned(), text);
        rest = &value[end + 1..];
    }
}

impl Sample {
    /// A label, or nothing.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The sum of all samples of a name for which `wanted` holds.
pub fn sum(samples: &[Sample], name: &str, wanted: impl Fn(&Sample) -> bool) -> f64 {
    samples.iter().filter(|sample| sample.name == name && wanted(sample)).map(|sample| sample.value).sum()
}

/// A reader that reads wrongly would compare wrongly.
pub fn check_itself() {
    let line = r#"a_bucket{x="1",y="q\"\\\n}",le="+Inf"} 3 # {trace_id="ab"} 0.5 1.5"#;
    let sample = sample(line);
    assert_eq!((sample.name.as_str(), sample.value), ("a_bucket", 3.0));
    assert_eq!((sample.label("y"), sample.label("le")), ("q\"\\\n}", "+Inf"));
    assert_eq!(sample.exemplar.as_ref().map(|exemplar| exemplar["trace_id"].as_str()), Some("ab"));
    assert_eq!(sum(&[sample.clone(), sample], "a_bucket", |_| true), 6.0);
}
