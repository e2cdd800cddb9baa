//! The API's figures against what was driven.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::Report;
use crate::own::{BACK, FRONT, Scene, TRUTH};

pub fn all(report: &mut Report, scene: &Scene) {
    report.check("every request that was driven is counted once", || {
        let expected = TRUTH.front() + TRUTH.relays;
        let answer =
            scene.page.wait("overview?window=3600", |answer| answer["total"]["count"] == expected)?;
        equal(&answer["total"]["errors"], TRUTH.fails, "errors")?;
        for (service, count) in [(FRONT, TRUTH.front()), (BACK, TRUTH.relays)] {
            equal(&find(&answer["services"], "service", service)?["count"], count, service)?;
        }
        let edge = find(&answer["edges"], "to", BACK)?;
        if edge["from"] != FRONT || edge["to_seen"] != true {
            bail!("{edge}");
        }
        equal(&edge["count"], TRUTH.relays, "edge")
    });
    report.check("chart and heat map hold the same requests", || {
        let series = scene.page.get(&format!("series?window=3600&service={FRONT}"))?;
        let sum: u64 =
            series["points"].as_array().context("points")?.iter().map(|point| number(&point["count"])).sum();
        let heat = scene.page.get(&format!("heatmap?window=3600&service={FRONT}"))?;
        let columns = heat["counts"].as_array().context("counts")?;
        let cells: u64 =
            columns.iter().flat_map(|column| column.as_array().into_iter().flatten()).map(number).sum();
        if (sum, cells) != (TRUTH.front(), TRUTH.front()) {
            bail!("{sum} in the chart, {cells} in the heat map");
        }
        Ok(())
    });
    report.check("traces are whole across processes", || {
        let traces = scene.page.get(&format!("traces?service={BACK}&limit=500"))?;
        equal(&traces["matched"], TRUTH.relays, "traces")?;
        for trace in traces["traces"].as_array().context("traces")? {
            let whole = scene.page.get(&format!("traces/{}", trace["trace_id"].as_str().context("id")?))?;
            let spans = whole["spans"].as_array().context("spans")?;
            let shape: Vec<_> =
                spans.iter().map(|span| (span["service"].as_str(), span["kind"].as_str())).collect();
            let expected = [(FRONT, "server"), (FRONT, "client"), (BACK, "server")];
            if shape != expected.map(|(service, kind)| (Some(service), Some(kind))) {
                bail!("{shape:?}");
            }
            if spans.iter().skip(1).any(|span| span["parent_seen"] != true) {
                bail!("a parent is not seen: {whole}");
            }
        }
        Ok(())
    });
    report.check("slow requests are found by their duration", || {
        let found = scene.page.get("traces?min_ns=55000000")?;
        equal(&found["matched"], TRUTH.slow, "slow traces")
    });
}

pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(u64::MAX)
}

fn equal(value: &Value, expected: u64, what: &str) -> Result<()> {
    if number(value) == expected { Ok(()) } else { bail!("{what}: {value}, not {expected}") }
}

fn find<'a>(list: &'a Value, field: &str, name: &str) -> Result<&'a Value> {
    list.as_array()
        .and_then(|list| list.iter().find(|one| one[field] == name))
        .with_context(|| format!("{name} is not in {list}"))
}
