//! Asking a part by HTTP, through curl: every answer is small, and no part is far.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Status and body.
pub(super) fn get(url: &str) -> Result<(u16, String)> {
    ask(&[url])
}

/// The body as JSON; whatever is not 200 is an error.
pub(super) fn json(url: &str) -> Result<Value> {
    let (status, body) = get(url)?;
    if status != 200 {
        bail!("{url} answered {status}: {}", body.chars().take(200).collect::<String>());
    }
    serde_json::from_str(&body).with_context(|| format!("the answer of {url}"))
}

/// What Prometheus says to a query: labels and value of each series.
pub(super) fn prometheus(query: &str) -> Result<Vec<(Value, f64)>> {
    let argument = format!("query={query}");
    let url = "http://127.0.0.1:9090/api/v1/query";
    let (status, body) = ask(&["--get", "--data-urlencode", &argument, url])?;
    let answer: Value = serde_json::from_str(&body).with_context(|| format!("{query}: {status} {body}"))?;
    let Some(series) = answer["data"]["result"].as_array() else { bail!("{query}: {body}") };
    let value = |series: &Value| series["value"][1].as_str().and_then(|text| text.parse().ok());
    Ok(series.iter().filter_map(|series| Some((series["metric"].clone(), value(series)?))).collect())
}

fn ask(arguments: &[&str]) -> Result<(u16, String)> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "70", "--write-out", "\n%{http_code}"]).args(arguments);
    let output = curl.output().context("run curl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (body, status) = text.rsplit_once('\n').context("curl says nothing")?;
    Ok((status.trim().parse().context("a status")?, body.to_owned()))
}
