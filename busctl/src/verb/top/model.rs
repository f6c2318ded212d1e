//! What `top` shows, and what keys do to it. Free of I/O.

use std::collections::{HashMap, VecDeque};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::survey::{Survey, Surveyed, SurveyedBus};

/// How many rates of a bus are kept, for its sparkline.
const HISTORY: usize = 120;
/// The longest filter, in letters.
const MAX_FILTER: usize = 40;

/// See the module.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub(super) struct Model {
    pub(super) survey: Survey,
    /// The frames sent in a second on each bus, the latest last.
    history: HashMap<String, VecDeque<u64>>,
    /// The path of the chosen bus.
    chosen: Option<String>,
    /// The chosen row of those that are shown.
    pub(super) row: usize,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    pub(super) mode: Mode,
    pub(super) has_colours: bool,
    is_paused: bool,
    captures: bool,
    pub(super) frame: Option<String>,
    /// Whether only the chosen bus is shown, as text, without a chosen row.
    pub(super) is_text: bool,
}

/// What the keys mean at the moment, and what is shown in the lower part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Table,
    /// The filter is being typed.
    Filter,
    Help,
    /// The peers and rings of memif ports.
    Memif,
}

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    Received,
    Sent,
    Lost,
}

impl Sort {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Received => "in/s",
            Self::Sent => "out/s",
            Self::Lost => "lost",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Name => Self::Received,
            Self::Received => Self::Sent,
            Self::Sent => Self::Lost,
            Self::Lost => Self::Name,
        }
    }
}

/// What a key asks of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Quit,
}

impl Model {
    /// Makes a model without buses.
    pub(super) fn new(has_colours: bool) -> Self {
        Self {
            survey: Survey::default(),
            history: HashMap::new(),
            chosen: None,
            row: 0,
            sort: Sort::Name,
            is_reversed: false,
            filter: String::new(),
            mode: Mode::Table,
            has_colours,
            is_paused: false,
            captures: true,
            frame: None,
            is_text: false,
        }
    }

    /// Shows a new survey.
    pub(super) fn show(&mut self, survey: Survey) {
        for bus in &survey.buses {
            let history = self.history.entry(bus.entry.path.clone()).or_default();
            if let Some(pps) = bus.rates.pps {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a rate is no less than 0, and for a picture"
                )]
                history.push_back(pps.round() as u64);
            }
            while history.len() > HISTORY {
                history.pop_front();
            }
        }
        self.history.retain(|path, _| survey.buses.iter().any(|bus| bus.entry.path == *path));
        self.survey = survey;
        if self.bus().is_none() {
            self.chosen = self.survey.buses.first().map(|bus| bus.entry.path.clone());
            self.frame = None;
        }
        self.row = self.row.min(self.rows().len().saturating_sub(1));
    }

    /// Shows one bus of a survey, as text.
    pub(super) fn show_only(&mut self, survey: &Survey, index: usize) {
        let buses = survey.buses.get(index).cloned().into_iter().collect();
        self.show(Survey { buses });
        self.is_text = true;
    }

    /// Shows a frame.
    pub(super) fn show_frame(&mut self, line: String) {
        if !self.is_paused {
            self.frame = Some(line);
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Returns whether the latest frame is shown.
    pub(super) fn captures(&self) -> bool {
        self.captures
    }

    /// Returns the chosen bus.
    pub(super) fn bus(&self) -> Option<&SurveyedBus> {
        let chosen = self.chosen.as_ref()?;
        self.survey.buses.iter().find(|bus| bus.entry.path == *chosen)
    }

    /// Returns the path of the chosen bus.
    pub(super) fn bus_path(&self) -> Option<&str> {
        self.bus().map(|bus| &*bus.entry.path)
    }

    /// Returns the number of the chosen bus.
    pub(super) fn bus_index(&self) -> usize {
        let is_chosen = |bus: &SurveyedBus| Some(&bus.entry.path) == self.chosen.as_ref();
        self.survey.buses.iter().position(is_chosen).unwrap_or(0)
    }

    /// Returns the frames sent in a second on a bus, the latest last.
    pub(super) fn history(&self, bus: &SurveyedBus) -> Vec<u64> {
        self.history.get(&bus.entry.path).into_iter().flatten().copied().collect()
    }

    /// Returns the stations and ports on the chosen bus that pass the filter, sorted.
    pub(super) fn rows(&self) -> Vec<&Surveyed> {
        let Some(bus) = self.bus() else { return Vec::new() };
        let filter = self.filter.to_lowercase();
        let passes = |row: &&Surveyed| {
            let mac = row.mac.as_deref().unwrap_or_default();
            let name = row.full_name();
            let text = format!("{} {name} {mac} {}", row.what.word(), row.pid);
            text.to_lowercase().contains(&filter)
        };
        let mut rows: Vec<&Surveyed> = bus.on_it.iter().filter(passes).collect();
        let rate = |row: &Surveyed, which: fn(&crate::survey::Rates) -> f64| {
            row.rates.as_ref().map_or(0.0, which)
        };
        match self.sort {
            Sort::Name => {}
            Sort::Received => rows.sort_by(|a, b| {
                rate(b, |rates| rates.rx_pps).total_cmp(&rate(a, |rates| rates.rx_pps))
            }),
            Sort::Sent => rows.sort_by(|a, b| {
                rate(b, |rates| rates.tx_pps).total_cmp(&rate(a, |rates| rates.tx_pps))
            }),
            Sort::Lost => rows.sort_by_key(|row| std::cmp::Reverse(row.lost())),
        }
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// Returns how many lines there are to show as text.
    pub(super) fn height(&self) -> u16 {
        u16::try_from(self.survey.buses.len() + self.rows().len() + 5).unwrap_or(u16::MAX)
    }

    /// Does what a key asks for.
    pub(super) fn press(&mut self, key: KeyEvent) -> Effect {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Effect::Quit,
                _ => Effect::Nothing,
            };
        }
        if self.mode == Mode::Filter {
            match key.code {
                KeyCode::Enter => self.mode = Mode::Table,
                KeyCode::Esc => {
                    self.filter.clear();
                    self.mode = Mode::Table;
                }
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Char(letter) if self.filter.chars().count() < MAX_FILTER => {
                    self.filter.push(letter);
                }
                _ => {}
            }
            self.row = 0;
            return Effect::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => return Effect::Quit,
            KeyCode::Esc if self.mode != Mode::Table => self.mode = Mode::Table,
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Char('?' | 'h') => self.toggle(Mode::Help),
            KeyCode::Char('m') => self.toggle(Mode::Memif),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('c') => {
                self.captures = !self.captures;
                self.frame = None;
            }
            KeyCode::Down | KeyCode::Char('j') => {
                self.row = (self.row + 1).min(self.rows().len().saturating_sub(1));
            }
            KeyCode::Up | KeyCode::Char('k') => self.row = self.row.saturating_sub(1),
            KeyCode::PageDown => {
                self.row = (self.row + 10).min(self.rows().len().saturating_sub(1));
            }
            KeyCode::PageUp => self.row = self.row.saturating_sub(10),
            KeyCode::Home => self.row = 0,
            KeyCode::End => self.row = self.rows().len().saturating_sub(1),
            KeyCode::Tab | KeyCode::Right => self.choose(1),
            KeyCode::BackTab | KeyCode::Left => {
                self.choose(self.survey.buses.len().saturating_sub(1));
            }
            _ => {}
        }
        Effect::Nothing
    }

    fn toggle(&mut self, mode: Mode) {
        self.mode = if self.mode == mode { Mode::Table } else { mode };
    }

    /// Chooses the bus that comes `step` later in the list.
    fn choose(&mut self, step: usize) {
        let count = self.survey.buses.len();
        if count > 0 {
            let index = (self.bus_index() + step) % count;
            self.chosen = Some(self.survey.buses[index].entry.path.clone());
            (self.row, self.frame) = (0, None);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rates::BusRates;
    use crate::survey::What;
    use crate::survey::tests::{entry, row};

    pub(in super::super) fn model(buses: usize, rows: u64) -> Model {
        let mut model = Model::new(true);
        let bus = |number: usize| SurveyedBus {
            entry: entry(&format!("/dev/shm/lan{number}"), &[("b2:a0:00:00:00:01", "web")]),
            rates: BusRates { pps: Some(12_345.0), bps: Some(9.9e6), estimated: false },
            on_it: (0..rows)
                .map(|n| {
                    let what = if n % 2 == 0 { What::Station } else { What::Port };
                    row(what, &format!("name-{n}"), n * 1_000, n % 3)
                })
                .collect(),
        };
        model.show(Survey { buses: (0..buses).map(bus).collect() });
        model
    }

    fn press(model: &mut Model, keys: &str) -> Effect {
        let mut effect = Effect::Nothing;
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\u{1b}' => KeyCode::Esc,
                letter => KeyCode::Char(letter),
            };
            effect = model.press(KeyEvent::from(code));
        }
        effect
    }

    fn names(model: &Model) -> Vec<&str> {
        model.rows().iter().map(|row| &*row.name).collect()
    }

    #[test]
    fn rows_are_filtered_and_sorted() {
        let mut model = model(1, 4);
        assert_eq!(names(&model), ["name-0", "name-1", "name-2", "name-3"]);
        press(&mut model, "s");
        assert_eq!((model.sort, names(&model)[0]), (Sort::Received, "name-3"));
        press(&mut model, "r");
        assert_eq!(names(&model)[0], "name-0");
        press(&mut model, "rss");
        assert_eq!((model.sort, names(&model)[0]), (Sort::Lost, "name-2"));
        press(&mut model, "s/port\n");
        assert_eq!(names(&model), ["name-1", "name-3"]);
        assert_eq!(press(&mut model, "/q"), Effect::Nothing, "a letter of the filter");
        assert_eq!(names(&model), [""; 0]);
        press(&mut model, "\u{1b}");
        assert_eq!(names(&model).len(), 4);
    }

    #[test]
    fn the_choice_stays_in_the_list() {
        let mut model = model(2, 3);
        press(&mut model, "jjjjj");
        assert_eq!(model.row, 2);
        press(&mut model, "\t");
        assert_eq!((model.bus_path(), model.row), (Some("/dev/shm/lan1"), 0));
        press(&mut model, "\t");
        assert_eq!(model.bus_path(), Some("/dev/shm/lan0"));
        model.show(Survey::default());
        assert_eq!(press(&mut model, "j\tk"), Effect::Nothing);
        assert_eq!(model.bus_path(), None);
    }

    #[test]
    fn keys_end_it() {
        let mut model = model(0, 0);
        assert_eq!(press(&mut model, "q"), Effect::Quit);
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(model.press(control), Effect::Quit);
        press(&mut model, "/");
        assert_eq!(model.press(control), Effect::Quit);
    }

    #[test]
    fn a_history_has_an_end() {
        let mut model = model(1, 0);
        for _ in 0..2 * HISTORY {
            let buses = model.survey.buses.clone();
            model.show(Survey { buses });
        }
        let bus = model.bus().expect("a bus");
        assert_eq!(model.history(bus).len(), HISTORY);
    }
}
