//! What is on the screen and what a key does: no terminal, no socket here.
//!
//! In: keys. Out: [`Action`]s, the question that the present screen asks, and its rows in order.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

use super::client::encode;
use super::rows::{Rows, rows};

/// Stretches of time to look at, in seconds.
const WINDOWS: [u64; 4] = [60, 300, 900, 3600];
const PAGE: usize = 10;
const MAX_FILTER: usize = 64;

/// A screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Screen {
    /// All services.
    Services,
    /// Span names, of all services or of one.
    Operations(Option<String>),
    /// Who calls whom.
    Edges,
    /// How the agent is doing.
    Agent,
    /// Traces of an operation: service, kind, name.
    Traces(String, String, String),
    /// One trace.
    Trace(String),
}

/// What has to be done after a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Draw again.
    Draw,
    /// Ask again, then draw.
    Ask,
    /// Put a text into the terminal's clipboard.
    Copy(String),
    /// End.
    Quit,
}

/// The state of the view.
#[derive(Debug)]
pub struct App {
    screens: Vec<(Screen, usize, bool)>,
    /// Number of the column that sorts, and whether upwards.
    pub sort: (usize, bool),
    /// Only rows that hold this text.
    pub filter: String,
    /// The filter is being typed.
    pub typing: bool,
    /// Nothing is asked anew.
    pub paused: bool,
    /// Only failed traces.
    pub failed_only: bool,
    /// The list of keys is shown.
    pub help: bool,
    /// Said once, at the bottom.
    pub message: String,
    window: usize,
    selected: usize,
    /// What was selected, whatever row it is in now.
    selected_key: Option<String>,
    /// First line shown of what lies below the list.
    pub scroll: u16,
    /// The answer that is shown.
    pub data: Value,
    /// The overview, for the first line.
    pub overview: Value,
}

impl Default for App {
    fn default() -> Self {
        Self {
            screens: vec![(Screen::Services, 1, false)],
            sort: (1, false),
            filter: String::new(),
            typing: false,
            paused: false,
            failed_only: false,
            help: false,
            message: String::new(),
            window: 1,
            selected: 0,
            selected_key: None,
            scroll: 0,
            data: Value::Null,
            overview: Value::Null,
        }
    }
}

impl App {
    /// The present screen.
    pub fn screen(&self) -> &Screen {
        self.screens.last().map_or(&Screen::Services, |(screen, ..)| screen)
    }

    /// Screens from the first to this one.
    pub fn path(&self) -> impl Iterator<Item = &Screen> {
        self.screens.iter().map(|(screen, ..)| screen)
    }

    /// Seconds that figures are about.
    pub fn window(&self) -> u64 {
        WINDOWS[self.window]
    }

    /// What the first line asks.
    pub fn overview_question(&self) -> String {
        format!("overview?window={}", self.window())
    }

    /// What the present screen asks; nothing: the overview has it all.
    pub fn question(&self) -> Option<String> {
        let window = self.window();
        match self.screen() {
            Screen::Services | Screen::Edges => None,
            Screen::Operations(None) => Some(format!("operations?window={window}")),
            Screen::Operations(Some(service)) => {
                Some(format!("operations?window={window}&service={}", encode(service)))
            }
            Screen::Agent => Some("status".to_owned()),
            Screen::Traces(service, kind, name) => Some(format!(
                "traces?sort=slowest&limit=200&service={}&kind={kind}&name={}{}",
                encode(service),
                encode(name),
                if self.failed_only { "&status=error" } else { "" }
            )),
            Screen::Trace(id) => Some(format!("traces/{id}")),
        }
    }

    /// The list of the present screen: filtered and sorted.
    pub fn rows(&self) -> Rows {
        let data = if self.question().is_none() { &self.overview } else { &self.data };
        let mut rows = rows(self.screen(), data);
        let wanted = self.filter.to_lowercase();
        if !wanted.is_empty() {
            rows.rows.retain(|row| row.cells.iter().any(|cell| cell.to_lowercase().contains(&wanted)));
        }
        if rows.sortable {
            let (column, up) = self.sort;
            rows.rows.sort_by(|a, b| {
                let order = match (a.numbers.get(column), b.numbers.get(column)) {
                    (Some(Some(a)), Some(Some(b))) => b.total_cmp(a),
                    _ => a.cells.get(column).cmp(&b.cells.get(column)),
                };
                if up { order.reverse() } else { order }
            });
        }
        rows
    }

    /// Row that is selected, if there is any.
    pub fn selected(&self, rows: &Rows) -> usize {
        let by_key =
            self.selected_key.as_ref().and_then(|key| rows.rows.iter().position(|row| row.key == *key));
        by_key.unwrap_or(self.selected).min(rows.rows.len().saturating_sub(1))
    }

    /// A key was pressed.
    pub fn on_key(&mut self, key: KeyEvent) -> Action {
        self.message.clear();
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if matches!(key.code, KeyCode::Char('c' | 'd')) { Action::Quit } else { Action::Draw };
        }
        if self.typing {
            return self.on_typed(key.code);
        }
        if self.help {
            self.help = false;
            return Action::Draw;
        }
        match key.code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-(PAGE as isize)),
            KeyCode::PageDown => self.step(PAGE as isize),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN / 2),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX / 2),
            KeyCode::Char('J') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::Char('K') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => return self.open(),
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Esc | KeyCode::Backspace | KeyCode::Left => return self.back(),
            KeyCode::Tab => return self.tab(1),
            KeyCode::BackTab => return self.tab(3),
            KeyCode::Char(digit @ '1'..='4') => return self.go(digit as usize - '1' as usize),
            KeyCode::Char('/') => {
                self.filter.clear();
                self.typing = true;
            }
            KeyCode::Char('s') => {
                let columns = self.rows().columns.len().max(1);
                self.sort = ((self.sort.0 + 1) % columns, false);
            }
            KeyCode::Char('r') => self.sort.1 = !self.sort.1,
            KeyCode::Char('p' | ' ') => {
                self.paused = !self.paused;
                return if self.paused { Action::Draw } else { Action::Ask };
            }
            KeyCode::Char('w') => {
                self.window = (self.window + 1) % WINDOWS.len();
                return Action::Ask;
            }
            KeyCode::Char('f') => {
                self.failed_only = !self.failed_only;
                return Action::Ask;
            }
            KeyCode::Char('c') => return self.copy(),
            _ => {}
        }
        Action::Draw
    }

    fn on_typed(&mut self, code: KeyCode) -> Action {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) if !character.is_control() && self.filter.len() < MAX_FILTER => {
                self.filter.push(character);
            }
            _ => {}
        }
        Action::Draw
    }

    fn step(&mut self, by: isize) {
        let rows = self.rows();
        let last = rows.rows.len().saturating_sub(1);
        let next = (self.selected(&rows) as isize).saturating_add(by).clamp(0, last as isize) as usize;
        self.selected = next;
        self.selected_key = rows.rows.get(next).map(|row| row.key.clone());
        self.scroll = 0;
    }

    fn open(&mut self) -> Action {
        let rows = self.rows();
        let Some(row) = rows.rows.get(self.selected(&rows)) else { return Action::Draw };
        match row.open.clone() {
            Some(screen) => self.enter(screen),
            None => Action::Draw,
        }
    }

    fn enter(&mut self, screen: Screen) -> Action {
        if let Some(last) = self.screens.last_mut() {
            last.1 = self.selected;
        }
        self.screens.push((screen, 0, false));
        self.fresh();
        Action::Ask
    }

    fn back(&mut self) -> Action {
        if self.screens.len() > 1 {
            self.screens.pop();
            self.fresh();
            self.selected = self.screens.last().map_or(0, |(_, selected, _)| *selected);
            return Action::Ask;
        }
        Action::Draw
    }

    fn tab(&mut self, by: usize) -> Action {
        let now = match self.screens.first() {
            Some((Screen::Operations(_), ..)) => 1,
            Some((Screen::Edges, ..)) => 2,
            Some((Screen::Agent, ..)) => 3,
            _ => 0,
        };
        self.go((now + by) % 4)
    }

    fn go(&mut self, tab: usize) -> Action {
        let screen =
            [Screen::Services, Screen::Operations(None), Screen::Edges, Screen::Agent][tab % 4].clone();
        self.screens = vec![(screen, 0, false)];
        self.fresh();
        Action::Ask
    }

    fn fresh(&mut self) {
        self.data = Value::Null;
        self.filter.clear();
        (self.selected, self.selected_key, self.scroll) = (0, None, 0);
        // Rates are what most lists are sorted by; where names come first is told in `rows.rs`.
        self.sort =
            (if matches!(self.screen(), Screen::Edges | Screen::Operations(_)) { 2 } else { 1 }, false);
    }

    fn copy(&mut self) -> Action {
        let rows = self.rows();
        let id = match self.screen() {
            Screen::Trace(id) => Some(id.clone()),
            Screen::Traces(..) => rows.rows.get(self.selected(&rows)).map(|row| row.key.clone()),
            _ => None,
        };
        match id {
            Some(id) => {
                self.message = format!("clipboard: {id}");
                Action::Copy(id)
            }
            None => {
                self.message = "open a trace, or a list of traces, to copy a trace id".to_owned();
                Action::Draw
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn press(app: &mut App, code: KeyCode) -> Action {
        app.on_key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn with_services() -> App {
        let service = |name: &str, rate: f64| {
            json!({"service": name, "role": "server", "rate": rate, "errors": 0, "error_share": 0.0, "p50_ns": 1000,
                   "p95_ns": 2000, "p99_ns": 3000, "spark": [1.0, 2.0]})
        };
        App {
            overview: json!({"services": [service("a", 1.0), service("b", 3.0), service("c", 2.0)], "edges": []}),
            ..App::default()
        }
    }

    fn names(app: &App) -> Vec<String> {
        app.rows().rows.iter().map(|row| row.cells[0].clone()).collect()
    }

    #[test]
    fn services_are_sorted_by_rate_and_otherwise_when_asked() {
        let mut app = with_services();
        assert_eq!(names(&app), ["b", "c", "a"]);
        press(&mut app, KeyCode::Char('r'));
        assert_eq!(names(&app), ["a", "c", "b"]);
        app.sort = (0, false);
        assert_eq!(names(&app), ["a", "b", "c"]);
    }

    #[test]
    fn the_selection_stays_on_its_row_when_others_overtake_it() {
        let mut app = with_services();
        press(&mut app, KeyCode::Down);
        assert_eq!(app.rows().rows[app.selected(&app.rows())].cells[0], "c");
        app.overview["services"][0]["rate"] = json!(9.0);
        assert_eq!(app.rows().rows[app.selected(&app.rows())].cells[0], "c");
    }

    #[test]
    fn enter_goes_down_and_escape_comes_back() {
        let mut app = with_services();
        assert_eq!(press(&mut app, KeyCode::Enter), Action::Ask);
        assert_eq!(app.screen(), &Screen::Operations(Some("b".into())));
        assert_eq!(app.question().unwrap(), "operations?window=300&service=b");
        press(&mut app, KeyCode::Esc);
        assert_eq!(app.screen(), &Screen::Services);
    }

    #[test]
    fn a_filter_is_typed_and_taken_back() {
        let mut app = with_services();
        for code in
            [KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Backspace, KeyCode::Char('C'), KeyCode::Enter]
        {
            assert_eq!(press(&mut app, code), Action::Draw);
        }
        assert_eq!(names(&app), ["c"]);
        press(&mut app, KeyCode::Esc);
        assert_eq!(names(&app).len(), 3);
        assert_eq!(press(&mut app, KeyCode::Char('q')), Action::Quit);
    }

    #[test]
    fn a_trace_id_is_copied_only_where_there_is_one() {
        let mut app = with_services();
        assert_eq!(press(&mut app, KeyCode::Char('c')), Action::Draw);
        app.enter(Screen::Trace("ab".into()));
        assert_eq!(press(&mut app, KeyCode::Char('c')), Action::Copy("ab".into()));
    }
}
