//! The picture: one line of figures, tabs, the list, what belongs to the selected row, keys. Fits into 80 × 24, and
//! makes do with less.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row as TableRow, Table, TableState, Wrap};
use serde_json::Value;

use super::app::{App, Screen};
use super::rows::{Rows, number, rate, text, time};

/// What the terminal can show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Colours, unless `NO_COLOR` forbids them.
    pub(super) colour: bool,
    /// Characters beyond ASCII.
    pub(super) unicode: bool,
}

const HELP: &[(&str, &str)] = &[
    ("↑ ↓ j k", "select a row; PgUp PgDn Home End"),
    ("Enter", "open: service, operation, traces, waterfall"),
    ("Esc", "back; first it takes a filter back"),
    ("1 2 3 4 Tab", "services, operations, edges, agent"),
    ("/", "show only rows with a text"),
    ("s  r", "sort by the next column; the other way round"),
    ("f", "failed traces only"),
    ("w", "last minute, 5 minutes, 15 minutes, hour"),
    ("p", "pause and go on"),
    ("c", "copy the trace id (OSC 52)"),
    ("J K", "scroll the attributes of a span"),
    ("q", "quit"),
];

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App, look: Look) {
    let rows = app.rows();
    let selected = app.selected(&rows);
    let [top, tabs, body, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(figures(app, look)), top);
    frame.render_widget(Paragraph::new(where_we_are(app, look)), tabs);
    match app.screen() {
        Screen::Trace(_) => trace(frame, body, app, &rows, selected, look),
        _ => list(frame, body, app, &rows, selected, look),
    }
    frame.render_widget(Paragraph::new(keys(app, bottom.width, look)), bottom);
    if app.help {
        help(frame, look);
    }
    if !look.unicode {
        only_ascii(frame);
    }
}

fn figures(app: &App, look: Look) -> Line<'static> {
    let total = &app.overview["total"];
    let failed = number(&total["error_share"]);
    let mut spans =
        vec![Span::styled(" skep top ", Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD))];
    let mut say = |text: String, style: Style| {
        spans.push(Span::raw("  "));
        spans.push(Span::styled(text, style));
    };
    if app.paused {
        say("PAUSED".to_owned(), Style::new().add_modifier(Modifier::BOLD));
    }
    say(rate(number(&total["rate"])), Style::new().add_modifier(Modifier::BOLD));
    say(format!("{:.1}% failed", failed * 100.0), bad(look, failed > 0.0));
    for (name, field) in [("p50", "p50_ns"), ("p95", "p95_ns"), ("p99", "p99_ns")] {
        say(format!("{name} {}", time(number(&total[field]))), Style::new());
    }
    say(
        match app.window() {
            60 => "1 min",
            300 => "5 min",
            900 => "15 min",
            _ => "1 h",
        }
        .to_owned(),
        dim(look),
    );
    Line::from(spans)
}

fn where_we_are(app: &App, look: Look) -> Line<'static> {
    let first = app.path().next();
    let mut spans = vec![Span::raw(" ")];
    for (number, name, here) in [
        ("1", "Services", matches!(first, Some(Screen::Services))),
        ("2", "Operations", matches!(first, Some(Screen::Operations(_)))),
        ("3", "Edges", matches!(first, Some(Screen::Edges))),
        ("4", "Agent", matches!(first, Some(Screen::Agent))),
    ] {
        let style =
            if here { Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED) } else { dim(look) };
        spans.push(Span::styled(format!("{number} {name}"), style));
        spans.push(Span::raw("  "));
    }
    for screen in app.path().skip(1) {
        let name = match screen {
            Screen::Operations(Some(service)) => service.clone(),
            Screen::Traces(_, _, name) => name.clone(),
            Screen::Trace(id) => format!("trace {}", id.get(..8).unwrap_or(id)),
            _ => String::new(),
        };
        spans.push(Span::raw(format!("› {name} ")));
    }
    if app.typing || !app.filter.is_empty() {
        let cursor = if app.typing { "_" } else { "" };
        let style = Style::new().add_modifier(Modifier::REVERSED);
        spans.push(Span::styled(format!(" /{}{cursor} ", app.filter), style));
    }
    Line::from(spans)
}

fn list(frame: &mut Frame<'_>, area: Rect, app: &App, rows: &Rows, selected: usize, look: Look) {
    if rows.rows.is_empty() {
        let text = match app.screen() {
            _ if !app.filter.is_empty() => "no row holds this text: Esc takes the filter back",
            Screen::Traces(..) => "no trace of it is kept (any more)",
            _ if app.overview.is_null() => "asking …",
            _ => {
                "no request has been seen yet: they show up as soon as a watched process answers or makes one"
            }
        };
        frame.render_widget(Paragraph::new(format!("\n  {text}")).wrap(Wrap { trim: false }), area);
        return;
    }
    table(frame, area, app, rows, selected, look, |_, cells, _| cells);
}

/// Draws a list; `last` may fill the cells of a row in, knowing the width of the last column.
fn table(
    frame: &mut Frame<'_>,
    area: Rect,
    app: &App,
    rows: &Rows,
    selected: usize,
    look: Look,
    last: impl Fn(usize, Vec<String>, usize) -> Vec<String>,
) {
    let shown = columns_that_fit(rows, area.width);
    let fixed: u16 = shown.iter().map(|&index| rows.columns[index].1.unsigned_abs() + 1).sum();
    let left = usize::from(area.width.saturating_sub(fixed + 2));
    let columns: Vec<_> = shown.iter().map(|&index| rows.columns[index]).collect();
    let widths = columns.iter().map(|&(_, width)| match width {
        0 => Constraint::Fill(1),
        width => Constraint::Length(width.unsigned_abs()),
    });
    let header = shown.iter().map(|&index| {
        let (title, width) = rows.columns[index];
        let arrow =
            if rows.sortable && app.sort.0 == index { if app.sort.1 { "^" } else { "v" } } else { "" };
        aligned(format!("{arrow}{title}"), width)
    });
    let body = rows.rows.iter().enumerate().map(|(index, row)| {
        let mut cells = last(index, row.cells.clone(), left);
        if let (Some(trend), Some(("TREND", _))) = (cells.last_mut(), rows.columns.last()) {
            // What is newest is what matters.
            let skipped = trend.chars().count().saturating_sub(left);
            *trend = trend.chars().skip(skipped).collect();
        }
        let failed = row.failed;
        let cells: Vec<_> =
            shown.iter().map(|&index| cells.get(index).cloned().unwrap_or_default()).collect();
        TableRow::new(cells.into_iter().zip(&columns).enumerate().map(
            move |(at, (cell, &(title, width)))| {
                let cell = aligned(cell, width);
                let telling = matches!(title, "ERRORS" | "VALUE") || (title.is_empty() && at > 0);
                if failed && telling { cell.style(bad(look, true)) } else { cell }
            },
        ))
    });
    let table = Table::new(body, widths)
        .header(TableRow::new(header).style(dim(look).add_modifier(Modifier::UNDERLINED)))
        .column_spacing(1)
        .highlight_symbol(">")
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(Some(selected));
    frame.render_stateful_widget(table, area, &mut state);
}

/// Columns that a narrow terminal can show: the least telling ones go first.
fn columns_that_fit(rows: &Rows, width: u16) -> Vec<usize> {
    const GO_FIRST: [&str; 6] = ["P50", "P99", "KIND", "TRACE ID", "BEGIN", "SPANS"];
    const LEAST: u16 = 14;
    let mut shown: Vec<usize> = (0..rows.columns.len()).collect();
    for title in GO_FIRST {
        let needed = |&index: &usize| match rows.columns[index] {
            ("TREND", _) => 0,
            (_, 0) => LEAST,
            (_, width) => width.unsigned_abs() + 1,
        };
        if shown.iter().map(needed).sum::<u16>() < width {
            break;
        }
        shown.retain(|&index| rows.columns[index].0 != title);
    }
    shown
}

fn trace(frame: &mut Frame<'_>, area: Rect, app: &App, rows: &Rows, selected: usize, look: Look) {
    let listed = (rows.rows.len() as u16 + 1).min(area.height / 2).max(3);
    let [upper, lower] = Layout::vertical([Constraint::Length(listed), Constraint::Min(1)]).areas(area);
    let total = number(&app.data["duration_ns"]).max(1.0);
    table(frame, upper, app, rows, selected, look, |index, mut cells, width| {
        let numbers = &rows.rows[index].numbers;
        let of = |at: usize| numbers.get(at).copied().flatten().unwrap_or(0.0);
        let at = |ns: f64| (ns / total * width as f64).round() as usize;
        let begin = at(of(2)).min(width.saturating_sub(1));
        let length = at(of(1)).clamp(1, width.saturating_sub(begin).max(1));
        let bar = if rows.rows[index].failed { "▒" } else { "█" };
        if let Some(cell) = cells.last_mut() {
            *cell = format!("{}{}", " ".repeat(begin), bar.repeat(length));
        }
        cells
    });
    let span = rows.rows.get(selected).and_then(|row| {
        app.data["spans"].as_array()?.iter().find(|span| span["span_id"] == row.key.as_str())
    });
    if let Some(span) = span {
        let title = format!(" {} {} ", text(&span["kind"]), text(&span["name"]));
        let block = Block::new().borders(Borders::TOP).title(title);
        let lines: Vec<Line<'_>> = about(span)
            .into_iter()
            .map(|(name, value)| {
                Line::from(vec![Span::styled(format!("{name} "), dim(look)), Span::raw(value)])
            })
            .collect();
        let paragraph = Paragraph::new(lines).block(block).wrap(Wrap { trim: false }).scroll((app.scroll, 0));
        frame.render_widget(paragraph, lower);
    }
}

fn about(span: &Value) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    if span["status"] == "error" {
        lines.push(("status".to_owned(), format!("error {}", text(&span["message"]))));
    }
    if span["parent_seen"] == false && !span["parent_span_id"].is_null() {
        lines.push(("parent".to_owned(), "not seen, or not kept".to_owned()));
    }
    for map in ["attributes", "resource"] {
        for (name, value) in span[map].as_object().into_iter().flatten() {
            lines.push((name.clone(), text(value)));
        }
    }
    lines
}

fn keys(app: &App, width: u16, look: Look) -> Line<'static> {
    if !app.message.is_empty() {
        return Line::styled(format!(" {}", app.message), Style::new().add_modifier(Modifier::BOLD));
    }
    let all: &[(&str, &str)] = if app.typing {
        &[("Enter", "keep"), ("Esc", "take back")]
    } else {
        match app.screen() {
            Screen::Trace(_) => &[
                ("Esc", "back"),
                ("↑↓", "span"),
                ("J K", "scroll"),
                ("c", "copy id"),
                ("?", "keys"),
                ("q", "quit"),
            ],
            Screen::Traces(..) => &[
                ("Enter", "open"),
                ("Esc", "back"),
                ("f", "failed"),
                ("c", "copy id"),
                ("/", "filter"),
                ("p", "pause"),
                ("?", "keys"),
                ("q", "quit"),
            ],
            _ => &[
                ("Enter", "open"),
                ("s", "sort"),
                ("r", "reverse"),
                ("/", "filter"),
                ("w", "window"),
                ("p", "pause"),
                ("Tab", "view"),
                ("?", "keys"),
                ("q", "quit"),
            ],
        }
    };
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, what) in all {
        used += key.chars().count() + what.len() + 3;
        if used > usize::from(width) {
            break;
        }
        spans.push(Span::styled(format!(" {key}"), Style::new().add_modifier(Modifier::BOLD)));
        spans.push(Span::styled(format!(" {what}"), dim(look)));
    }
    Line::from(spans)
}

fn help(frame: &mut Frame<'_>, look: Look) {
    let area = frame.area();
    let (width, height) = (area.width.min(62), area.height.min(HELP.len() as u16 + 2));
    let area = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    let lines: Vec<Line<'_>> = HELP
        .iter()
        .map(|(key, what)| {
            Line::from(vec![
                Span::styled(format!(" {key:<12}"), Style::new().add_modifier(Modifier::BOLD)),
                Span::styled(*what, dim(look)),
            ])
        })
        .collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" Keys ")), area);
}

fn aligned(text: String, width: i16) -> Cell<'static> {
    // Texts are cut by the table; from the right ones nothing may be cut at their end.
    if width < 0 { Cell::new(Line::from(text).right_aligned()) } else { Cell::new(text) }
}

fn dim(look: Look) -> Style {
    if look.colour { Style::new().fg(Color::DarkGray) } else { Style::new() }
}

fn bad(look: Look, failed: bool) -> Style {
    match (failed, look.colour) {
        (false, _) => Style::new(),
        (true, true) => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        (true, false) => Style::new().add_modifier(Modifier::BOLD),
    }
}

/// For terminals that know no other characters.
fn only_ascii(frame: &mut Frame<'_>) {
    for cell in &mut frame.buffer_mut().content {
        let plain = match cell.symbol() {
            "▁" => "_",
            "▂" => ".",
            "▃" => ":",
            "▄" => "-",
            "▅" => "=",
            "▆" => "+",
            "▇" => "*",
            "█" | "▒" => "#",
            "›" => ">",
            "…" => ".",
            "µ" => "u",
            "│" => "|",
            "↑" => "^",
            "↓" => "v",
            symbol if symbol.is_ascii() => continue,
            symbol if "─┌┐└┘".contains(symbol) => "-",
            _ => "?",
        };
        cell.set_symbol(plain);
    }
}
