//! What a board is: rows of panels, each with queries, a unit and a form; and how that becomes Grafana's JSON.

use serde_json::{Value, json};

/// Width of a board in Grafana's grid.
const GRID: u64 = 24;

/// One board.
pub(crate) struct Board {
    /// In its address, and the file's name.
    pub(crate) uid: &'static str,
    pub(crate) title: &'static str,
    pub(crate) tags: &'static [&'static str],
    /// Shown at first.
    pub(crate) from: &'static str,
    pub(crate) refresh: &'static str,
    pub(crate) variables: Vec<Variable>,
    pub(crate) rows: Vec<Row>,
}

/// A choice at the top of a board: the values of a label.
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    /// Whose label.
    pub(crate) metric: &'static str,
    pub(crate) value_of: &'static str,
}

/// Panels side by side, under a heading.
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) panels: Vec<Panel>,
}

/// One panel.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) what: &'static str,
    pub(crate) form: Form,
    pub(crate) unit: &'static str,
    pub(crate) width: u64,
    pub(crate) height: u64,
    pub(crate) queries: Vec<Query>,
    /// Values from which a colour holds, the lowest first.
    pub(crate) thresholds: &'static [(f64, &'static str)],
    /// Bounds of the axis.
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
}

/// One query.
pub(crate) struct Query {
    pub(crate) source: Source,
    pub(crate) expr: String,
    pub(crate) legend: &'static str,
    /// Colour of its series, if it must be one.
    pub(crate) color: Option<&'static str>,
}

/// Where a query goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Prometheus,
    Loki,
    Tempo,
    Pyroscope,
}

/// How a panel looks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Lines,
    Stacked,
    Bars,
    Stat,
    Gauge,
    Heatmap,
    NodeGraph,
    Logs,
    FlameGraph,
    Alerts,
}

impl Source {
    fn json(self) -> Value {
        let (kind, uid) = match self {
            Self::Prometheus => ("prometheus", "prometheus"),
            Self::Loki => ("loki", "loki"),
            Self::Tempo => ("tempo", "tempo"),
            Self::Pyroscope => ("grafana-pyroscope-datasource", "pyroscope"),
        };
        json!({ "type": kind, "uid": uid })
    }
}

impl Form {
    fn kind(self) -> &'static str {
        match self {
            Self::Lines | Self::Stacked | Self::Bars => "timeseries",
            Self::Stat => "stat",
            Self::Gauge => "bargauge",
            Self::Heatmap => "heatmap",
            Self::NodeGraph => "nodeGraph",
            Self::Logs => "logs",
            Self::FlameGraph => "flamegraph",
            Self::Alerts => "alertlist",
        }
    }

    /// Whether only the newest value is asked for.
    fn is_instant(self) -> bool {
        matches!(self, Self::Stat | Self::Gauge)
    }
}

/// A panel with lines over time; the other constructors differ in form only.
pub(crate) fn panel(title: &'static str, unit: &'static str, queries: Vec<Query>) -> Panel {
    Panel {
        title,
        what: "",
        form: Form::Lines,
        unit,
        width: 12,
        height: 8,
        queries,
        thresholds: &[],
        min: Some(0.0),
        max: None,
    }
}

/// A query of Prometheus.
pub(crate) fn query(expr: impl Into<String>, legend: &'static str) -> Query {
    Query { source: Source::Prometheus, expr: expr.into(), legend, color: None }
}

/// A query of something else.
pub(crate) fn query_of(source: Source, expr: impl Into<String>) -> Query {
    Query { source, expr: expr.into(), legend: "", color: None }
}

impl Query {
    pub(crate) fn color(mut self, color: &'static str) -> Self {
        self.color = Some(color);
        self
    }
}

impl Panel {
    pub(crate) fn form(mut self, form: Form) -> Self {
        self.form = form;
        if form == Form::Stat {
            self.height = 4;
        }
        self
    }

    pub(crate) fn width(mut self, width: u64) -> Self {
        self.width = width;
        self
    }

    pub(crate) fn height(mut self, height: u64) -> Self {
        self.height = height;
        self
    }

    pub(crate) fn what(mut self, what: &'static str) -> Self {
        self.what = what;
        self
    }

    pub(crate) fn thresholds(mut self, thresholds: &'static [(f64, &'static str)]) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// A share of 1.
    pub(crate) fn share(mut self) -> Self {
        self.max = Some(1.0);
        self
    }

    /// A value that may be negative.
    pub(crate) fn signed(mut self) -> Self {
        self.min = None;
        self
    }

    fn source(&self) -> Value {
        self.queries.first().map_or(Value::Null, |query| query.source.json())
    }

    fn targets(&self) -> Vec<Value> {
        let refs = (b'A'..).map(char::from);
        let target = |(query, id): (&Query, char)| {
            let source = query.source.json();
            let id = id.to_string();
            match query.source {
                Source::Prometheus => json!({
                    "datasource": source, "refId": id, "expr": query.expr, "legendFormat": query.legend,
                    "instant": self.form.is_instant(), "range": !self.form.is_instant(),
                    "exemplar": matches!(self.form, Form::Lines | Form::Heatmap),
                    "format": match self.form {
                        Form::Heatmap => "heatmap",
                        _ => "time_series",
                    },
                }),
                Source::Loki => {
                    json!({ "datasource": source, "refId": id, "expr": query.expr, "queryType": "range" })
                }
                Source::Tempo => json!({ "datasource": source, "refId": id, "queryType": query.expr }),
                Source::Pyroscope => json!({
                    "datasource": source, "refId": id, "queryType": "profile", "labelSelector": query.expr,
                    "profileTypeId": "process_cpu:cpu:nanoseconds:cpu:nanoseconds", "groupBy": [],
                }),
            }
        };
        self.queries.iter().zip(refs).map(target).collect()
    }

    fn json(&self, id: u64, x: u64, y: u64) -> Value {
        let steps: Vec<Value> = if self.thresholds.is_empty() {
            vec![json!({ "color": "green", "value": null })]
        } else {
            let first = |index: usize, value: f64| if index == 0 { Value::Null } else { json!(value) };
            let steps = self.thresholds.iter().enumerate();
            steps
                .map(|(index, &(value, color))| json!({ "color": color, "value": first(index, value) }))
                .collect()
        };
        let mut defaults = json!({
            "unit": self.unit,
            "thresholds": { "mode": "absolute", "steps": steps },
            "custom": {
                "fillOpacity": if self.form == Form::Lines { 10 } else { 60 },
                "drawStyle": if self.form == Form::Bars { "bars" } else { "line" },
                "lineWidth": 1,
                "showPoints": "never",
                "stacking": { "mode": if matches!(self.form, Form::Stacked | Form::Bars) { "normal" } else { "none" } },
                "thresholdsStyle": { "mode": if self.thresholds.is_empty() { "off" } else { "area" } },
            },
        });
        if let Some(min) = self.min {
            defaults["min"] = json!(min);
        }
        if let Some(max) = self.max {
            defaults["max"] = json!(max);
        }
        let overrides: Vec<Value> = self
            .queries
            .iter()
            .zip((b'A'..).map(char::from))
            .filter_map(|(query, id)| {
                let color = query.color?;
                Some(json!({
                    "matcher": { "id": "byFrameRefID", "options": id.to_string() },
                    "properties": [{ "id": "color", "value": { "mode": "fixed", "fixedColor": color } }],
                }))
            })
            .collect();
        json!({
            "id": id,
            "type": self.form.kind(),
            "title": self.title,
            "description": self.what,
            "datasource": self.source(),
            "gridPos": { "x": x, "y": y, "w": self.width, "h": self.height },
            "fieldConfig": { "defaults": defaults, "overrides": overrides },
            "options": self.options(),
            "targets": self.targets(),
        })
    }

    fn options(&self) -> Value {
        match self.form {
            Form::Lines | Form::Stacked | Form::Bars => json!({
                "legend": { "displayMode": "table", "placement": "bottom", "calcs": ["mean", "lastNotNull", "max"] },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Form::Stat => json!({
                "reduceOptions": { "calcs": ["lastNotNull"] }, "colorMode": "value", "graphMode": "none",
            }),
            Form::Gauge => json!({
                "reduceOptions": { "calcs": ["lastNotNull"] }, "orientation": "horizontal", "displayMode": "lcd",
            }),
            Form::Heatmap => json!({
                "calculate": false, "yAxis": { "unit": self.unit }, "color": { "scheme": "Spectral", "mode": "scheme" },
                "exemplars": { "color": "orange" }, "tooltip": { "mode": "single", "yHistogram": true },
            }),
            Form::Logs => json!({ "showTime": true, "wrapLogMessage": true, "enableLogDetails": true }),
            Form::Alerts => json!({
                "viewMode": "list", "groupMode": "default", "sortOrder": 1, "datasource": "Alertmanager",
                "stateFilter": { "firing": true, "pending": true, "noData": false, "normal": false, "error": true },
            }),
            Form::NodeGraph | Form::FlameGraph => json!({}),
        }
    }
}

impl Board {
    /// Every query of Prometheus, those of variables included.
    #[cfg(test)]
    pub(crate) fn queries(&self) -> impl Iterator<Item = &str> {
        let panels = self.rows.iter().flat_map(|row| &row.panels).flat_map(|panel| &panel.queries);
        let panels =
            panels.filter(|query| query.source == Source::Prometheus).map(|query| query.expr.as_str());
        panels.chain(self.variables.iter().map(|variable| variable.metric))
    }

    /// As Grafana reads it.
    pub(crate) fn to_json(&self) -> String {
        let (mut panels, mut y, mut id) = (Vec::new(), 0, 1);
        for row in &self.rows {
            panels.push(json!({
                "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
                "gridPos": { "x": 0, "y": y, "w": GRID, "h": 1 },
            }));
            (id, y) = (id + 1, y + 1);
            let (mut x, mut height) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > GRID {
                    (x, y, height) = (0, y + height, 0);
                }
                panels.push(panel.json(id, x, y));
                (id, x, height) = (id + 1, x + panel.width, height.max(panel.height));
            }
            y += height;
        }
        let variables: Vec<Value> = self
            .variables
            .iter()
            .map(|variable| {
                let values = format!("label_values({}, {})", variable.metric, variable.value_of);
                json!({
                    "type": "query", "name": variable.name, "label": variable.label, "refresh": 2, "sort": 1,
                    "datasource": Source::Prometheus.json(), "definition": values,
                    "query": { "query": values, "refId": variable.name },
                    "includeAll": false, "multi": false, "options": [], "current": {},
                })
            })
            .collect();
        let board = json!({
            "uid": self.uid,
            "title": self.title,
            "tags": self.tags,
            "schemaVersion": 41,
            "version": 1,
            "editable": true,
            "graphTooltip": 1,
            "timezone": "browser",
            "refresh": self.refresh,
            "time": { "from": self.from, "to": "now" },
            "templating": { "list": variables },
            "annotations": { "list": [] },
            "links": [{ "type": "dashboards", "title": "Demo", "tags": ["demo"], "asDropdown": true, "keepTime": true }],
            "panels": panels,
        });
        // Writing values that were just made cannot fail.
        let mut text = serde_json::to_string_pretty(&board).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Panics if panels leave a hole or stand over the edge.
    #[cfg(test)]
    pub(crate) fn check_layout(&self) {
        for row in &self.rows {
            let mut x = 0;
            for panel in &row.panels {
                assert!(panel.width <= GRID, "{}: {} is too wide", self.uid, panel.title);
                if x + panel.width > GRID {
                    assert_eq!(x, GRID, "{}: a hole before {}", self.uid, panel.title);
                    x = 0;
                }
                x += panel.width;
                let form = panel.form.kind();
                assert!(form == "alertlist" || !panel.queries.is_empty(), "{}: no query", panel.title);
            }
            assert_eq!(x, GRID, "{}: a hole at the end of {}", self.uid, row.title);
        }
    }
}
