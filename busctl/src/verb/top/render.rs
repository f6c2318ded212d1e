//! Draws the model on a screen of any size.

use node::Link;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Sparkline, Widget, Wrap};

use super::model::{Mode, Model};
use crate::process::name::{program, renamed};
use crate::quantity::{counted, short_number, short_size, short_time};
use crate::survey::{Surveyed, SurveyedBus, What};

/// The columns of a bus after its path: their headings and widths.
const BUS_COLUMNS: [(&str, usize); 6] =
    [("SIZE", 6), ("AGE", 7), ("ON IT", 6), ("FRAMES/S", 9), ("BIT/S", 8), ("", 1)];
/// The columns of a station or port after its name.
const ROW_COLUMNS: [(&str, usize); 7] =
    [("LINK", 8), ("IN/S", 7), ("OUT/S", 7), ("IN", 7), ("OUT", 7), ("LOST", 7), ("LOST/S", 7)];
/// From this width on, rows have more columns.
const WIDE: u16 = 120;
/// The columns that a wide screen has beside these.
const WIDE_COLUMNS: [(&str, usize); 5] =
    [("IN BIT/S", 9), ("OUT BIT/S", 10), ("MAC", 18), ("PID", 8), ("", 1)];

const HELP: [&str; 15] = [
    "up, down, j, k       choose a station or port",
    "page up, page down, home, end",
    "Tab, left, right     choose a bus",
    "/                    filter by name, kind, MAC or pid; Esc ends it",
    "s                    sort by name, in/s, out/s, lost",
    "r                    reverse the order",
    "m                    peers and rings of the memif ports on the bus",
    "c                    the latest frame on the bus: on, off",
    "space                pause",
    "q, ^C                quit",
    "",
    "A station receives from the bus, a port from its peer. LOST counts what",
    "was dropped, missed because it was overrun, or in error, both ways.",
    "Lost frames: make a larger bus (--size), or give the process a CPU.",
    "'-': its process reports no counters (a rump kernel, another user's).",
];

struct Styles {
    heading: Style,
    chosen: Style,
    good: Style,
    bad: Style,
    warning: Style,
    faint: Style,
    picture: Style,
}

impl Styles {
    fn of(model: &Model) -> Self {
        let colour = |colour: Color| {
            if model.has_colours { Style::new().fg(colour) } else { Style::new() }
        };
        let plain = |modifier: Modifier| {
            if model.is_text { Style::new() } else { Style::new().add_modifier(modifier) }
        };
        Self {
            heading: plain(Modifier::BOLD),
            chosen: plain(Modifier::REVERSED),
            good: colour(Color::Green),
            bad: colour(Color::Red).patch(plain(Modifier::BOLD)),
            warning: colour(Color::Yellow),
            faint: plain(Modifier::DIM),
            picture: colour(Color::Cyan),
        }
    }
}

/// Draws the whole screen.
pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let styles = Styles::of(model);
    let count = u16::try_from(model.survey.buses.len()).unwrap_or(u16::MAX);
    // The buses have a third of the screen at most.
    let buses_height = if model.is_text { count } else { count.clamp(1, (area.height / 3).max(1)) };
    let [title, heading, buses, _, table, frame] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(buses_height),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(u16::from(!model.is_text)),
    ])
    .areas(area);
    title_line(model, &styles).render(title, buffer);
    bus_heading(heading.width, &styles).render(heading, buffer);
    draw_buses(model, &styles, buses, buffer);
    match model.mode {
        Mode::Memif => draw_memif(model, &styles, table, buffer),
        _ => draw_rows(model, &styles, table, buffer),
    }
    last_line(model, &styles).render(frame, buffer);
    if model.mode == Mode::Help {
        draw_help(&styles, area, buffer);
    }
}

/// Returns the text of what is drawn, without blanks at the ends of lines and empty lines at the
/// end.
pub(super) fn lines(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    let mut lines: Vec<String> = area
        .rows()
        .map(|row| {
            let cells = row.columns().map(|cell| buffer[(cell.x, cell.y)].symbol());
            cells.collect::<String>().trim_end().to_owned()
        })
        .collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.push(String::new());
    lines
}

fn title_line<'m>(model: &'m Model, styles: &Styles) -> Line<'m> {
    let on_it = || model.survey.buses.iter().flat_map(|bus| &bus.on_it);
    let count = |what| on_it().filter(|row| row.what == what).count() as u64;
    let mut spans = vec![
        Span::styled(format!("{} top", program()), styles.heading),
        Span::raw(format!(
            "  {}, {}, {}",
            match model.survey.buses.len() {
                1 => "1 bus".to_owned(),
                buses => format!("{buses} buses"),
            },
            counted(count(What::Station), "station"),
            counted(count(What::Port), "port"),
        )),
    ];
    if model.is_text {
        return Line::from(spans);
    }
    spans.push(Span::raw(format!(
        "  sort: {}{}",
        model.sort.word(),
        if model.is_reversed { " reversed" } else { "" }
    )));
    if model.is_paused() {
        spans.push(Span::styled("  paused", styles.warning));
    }
    if !model.filter.is_empty() && model.mode != Mode::Filter {
        spans.push(Span::styled(format!("  filter: {}", model.filter), styles.warning));
    }
    spans.push(Span::styled("  ? help", styles.faint));
    Line::from(spans)
}

/// Returns the width of a first column that leaves room for these.
fn first_width(width: u16, columns: &[(&str, usize)]) -> usize {
    let others: usize = columns.iter().map(|(_, width)| width).sum();
    usize::from(width).saturating_sub(others).max(8)
}

/// Returns a text cut or filled to `width` letters, with the end of a long one when that says more.
fn fit(text: &str, width: usize, keeps_end: bool) -> String {
    let count = text.chars().count();
    if count <= width {
        return format!("{text:<width$}");
    }
    let kept = width.saturating_sub(2);
    let cut: String = if keeps_end {
        ['…'].into_iter().chain(text.chars().skip(count - kept)).collect()
    } else {
        text.chars().take(kept).chain(['…']).collect()
    };
    format!("{cut:<width$}")
}

/// Returns a text at the right end of its column.
fn right(text: &str, width: usize) -> String {
    format!("{text:>width$}")
}

fn picture_width(width: u16) -> u16 {
    (width / 5).min(40)
}

fn bus_heading(width: u16, styles: &Styles) -> Line<'static> {
    let text_width = width.saturating_sub(picture_width(width));
    let mut text = fit("BUS", first_width(text_width, &BUS_COLUMNS), false);
    for (heading, width) in BUS_COLUMNS {
        text.push_str(&right(heading, width));
    }
    Line::styled(text, styles.heading)
}

fn draw_buses(model: &Model, styles: &Styles, area: Rect, buffer: &mut Buffer) {
    if model.survey.buses.is_empty() {
        let text = "no bus is in use: 'busctl host ./lan.bus 10.0.0.1/24' makes one";
        return Line::styled(renamed(text), styles.faint).render(area, buffer);
    }
    // The chosen bus is among those that are shown.
    let height = usize::from(area.height);
    let first = (model.bus_index() + 1).saturating_sub(height);
    let shown = model.survey.buses.iter().enumerate().skip(first).take(height);
    for ((index, bus), row) in shown.zip(area.rows()) {
        let [text, picture] =
            Layout::horizontal([Constraint::Min(0), Constraint::Length(picture_width(area.width))])
                .areas(row);
        let is_chosen = index == model.bus_index() && !model.is_text;
        let style = if is_chosen { styles.chosen } else { Style::new() };
        bus_line(bus, text.width, style, styles).render(text, buffer);
        let history = model.history(bus);
        let skipped = history.len().saturating_sub(usize::from(picture.width));
        if !model.is_text {
            Sparkline::default()
                .data(&history[skipped..])
                .style(styles.picture)
                .render(picture, buffer);
        }
    }
}

fn bus_line(bus: &SurveyedBus, width: u16, style: Style, styles: &Styles) -> Line<'static> {
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), short_number);
    let cells = [
        short_size(bus.entry.size),
        bus.entry.age_seconds.map_or_else(|| "-".to_owned(), short_time),
        bus.entry.stations.map_or_else(|| "?".to_owned(), |count| count.to_string()),
        rate(bus.rates.pps),
        rate(bus.rates.bps),
        String::new(),
    ];
    let path = fit(&bus.entry.path, first_width(width, &BUS_COLUMNS), true);
    let mut spans = vec![Span::styled(path, style)];
    for (cell, (_, width)) in cells.iter().zip(BUS_COLUMNS) {
        spans.push(Span::raw(right(cell, width)));
    }
    if bus.entry.locked {
        spans.push(Span::styled(" locked", styles.warning));
    }
    Line::from(spans)
}

fn columns(width: u16) -> Vec<(&'static str, usize)> {
    let mut columns = ROW_COLUMNS.to_vec();
    if width >= WIDE {
        columns.extend(WIDE_COLUMNS);
    }
    columns
}

fn draw_rows(model: &Model, styles: &Styles, area: Rect, buffer: &mut Buffer) {
    let columns = columns(area.width);
    let mut heading = fit("STATION OR PORT", first_width(area.width, &columns), false);
    for (name, width) in &columns {
        heading.push_str(&right(name, *width));
    }
    let mut places = area.rows();
    if let Some(place) = places.next() {
        Line::styled(heading, styles.heading).render(place, buffer);
    }
    let height = usize::from(area.height.saturating_sub(1));
    let first = if model.is_text { 0 } else { (model.row + 1).saturating_sub(height) };
    let rows = model.rows();
    for ((index, row), place) in rows.iter().enumerate().skip(first).zip(places) {
        let is_chosen = index == model.row && !model.is_text;
        row_line(row, &columns, area.width, is_chosen, styles).render(place, buffer);
    }
}

fn row_line(
    row: &Surveyed,
    columns: &[(&str, usize)],
    width: u16,
    is_chosen: bool,
    styles: &Styles,
) -> Line<'static> {
    let none = || "-".to_owned();
    let rate = |which: fn(&crate::survey::Rates) -> f64| {
        row.rates.as_ref().map_or_else(none, |rates| short_number(which(rates)))
    };
    let total = |total: fn(&node::Counters) -> u64| {
        row.counters.as_ref().map_or_else(none, |counters| short_number(total(counters) as f64))
    };
    let (link, link_style) = match row.link {
        Some(Link::Up) => ("up", styles.good),
        Some(Link::Down) => ("down", styles.bad),
        Some(Link::Listening) => ("listens", styles.warning),
        Some(Link::Blocked) => ("blocked", styles.bad),
        None => ("-", styles.faint),
    };
    let lost = row.lost();
    let lost_style = if lost > 0 { styles.bad } else { Style::new() };
    let is_losing = row.rates.is_some_and(|rates| rates.lost_pps > 0.0);
    let losing_style = if is_losing { styles.bad } else { Style::new() };
    let lost_text = if row.counters.is_some() { short_number(lost as f64) } else { none() };
    let cells = [
        (link.to_owned(), link_style),
        (rate(|rates| rates.rx_pps), Style::new()),
        (rate(|rates| rates.tx_pps), Style::new()),
        (total(|counters| counters.rx_packets), Style::new()),
        (total(|counters| counters.tx_packets), Style::new()),
        (lost_text, lost_style),
        (rate(|rates| rates.lost_pps), losing_style),
        (rate(|rates| rates.rx_bps), Style::new()),
        (rate(|rates| rates.tx_bps), Style::new()),
        (row.mac.clone().unwrap_or_else(none), styles.faint),
        (row.pid.to_string(), styles.faint),
    ];
    let name_style = if is_chosen { styles.chosen } else { Style::new() };
    let mut spans =
        vec![Span::styled(fit(&row.full_name(), first_width(width, columns), false), name_style)];
    for ((text, style), (_, width)) in cells.into_iter().zip(columns) {
        spans.push(Span::styled(right(&text, *width), style));
    }
    Line::from(spans)
}

fn draw_memif(model: &Model, styles: &Styles, area: Rect, buffer: &mut Buffer) {
    let mut lines = vec![Line::styled("MEMIF PORTS ON THE BUS (m: back)", styles.heading)];
    let ports = model.bus().into_iter().flat_map(|bus| &bus.on_it);
    for port in ports.filter(|row| !row.peer.is_empty()) {
        lines.push(row_line(port, &columns(area.width), area.width, false, styles));
        if !port.impairments.is_empty() {
            lines.push(Line::raw(format!("  impairments: {}", port.impairments)));
        }
        lines.extend(port.peer.iter().map(|line| Line::raw(format!("  {line}"))));
    }
    if lines.len() == 1 {
        lines.push(Line::styled("none", styles.faint));
    }
    Paragraph::new(lines).wrap(Wrap { trim: false }).render(area, buffer);
}

fn last_line<'m>(model: &'m Model, styles: &Styles) -> Line<'m> {
    if model.mode == Mode::Filter {
        return Line::from(vec![
            Span::styled("filter: ", styles.heading),
            Span::raw(format!("{}_", model.filter)),
        ]);
    }
    match &model.frame {
        Some(frame) => Line::raw(&**frame),
        None if model.captures() => Line::styled("no frame yet", styles.faint),
        None => Line::styled("c shows the latest frame", styles.faint),
    }
}

fn draw_help(styles: &Styles, area: Rect, buffer: &mut Buffer) {
    let height = u16::try_from(HELP.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let width = 76.min(area.width);
    let window = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    Clear.render(window, buffer);
    let mut lines = vec![Line::styled(fit("KEYS", usize::from(width), false), styles.chosen)];
    lines.extend(HELP.map(|line| Line::raw(format!(" {line}"))));
    Paragraph::new(lines).render(window, buffer);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent};

    use super::super::model::tests::model;
    use super::*;

    /// Draws as on a terminal of that size.
    fn screen(model: &Model, width: u16, height: u16) -> (Vec<String>, Buffer) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(model, frame.area(), frame.buffer_mut())).expect("drawn");
        let buffer = terminal.backend().buffer().clone();
        (lines(&buffer), buffer)
    }

    #[test]
    fn a_small_screen_has_all_columns() {
        let mut model = model(2, 4);
        model.show_frame("02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ARP".to_owned());
        let (lines, _) = screen(&model, 80, 24);
        assert_eq!(lines.len(), 25);
        assert_eq!(lines[0], "busctl top  2 buses, 4 stations, 4 ports  sort: name  ? help");
        assert!(
            lines[1].starts_with("BUS ") && lines[1].contains("FRAMES/S   BIT/S"),
            "{}",
            lines[1]
        );
        assert!(
            lines[2].starts_with("/dev/shm/lan0 ") && lines[2].contains("12.3k    9.9M"),
            "{}",
            lines[2]
        );
        assert!(lines[2].contains("1M  1 min"), "{}", lines[2]);
        assert!(lines[5].ends_with("IN/S  OUT/S     IN    OUT   LOST LOST/S"), "{}", lines[5]);
        let port = &lines[7];
        assert!(port.starts_with("port name-1 ") && port.contains("up   1.0k"), "{port}");
        assert_eq!(lines[23], "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ARP");
    }

    #[test]
    fn a_large_screen_has_more_columns() {
        let (lines, buffer) = screen(&model(1, 100), 200, 50);
        assert!(lines[4].contains("OUT BIT/S") && lines[4].contains("MAC"), "{}", lines[4]);
        assert!(lines[5].contains("b2:a0:00:00:00:01") && lines[5].ends_with(" 7"), "{}", lines[5]);
        // The rows fill the screen, and what was lost is red.
        assert!(lines[48].contains("name-43"), "{}", lines[48]);
        let red = buffer.content.iter().filter(|cell| cell.fg == Color::Red);
        assert!(red.count() > 0);
    }

    #[test]
    fn without_colours_nothing_has_any() {
        let mut model = model(1, 5);
        model.has_colours = false;
        let (_, buffer) = screen(&model, 80, 24);
        assert!(
            buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
        );
    }

    #[test]
    fn the_chosen_row_stays_on_the_screen() {
        let mut model = model(9, 60);
        model.press(KeyEvent::from(KeyCode::End));
        let (lines, _) = screen(&model, 80, 24);
        assert!(lines[22].contains("name-59"), "{}", lines[22]);
        model.press(KeyEvent::from(KeyCode::BackTab));
        let (lines, _) = screen(&model, 80, 24);
        assert!(lines.iter().any(|line| line.starts_with("/dev/shm/lan8")));
    }

    #[test]
    fn help_has_all_keys() {
        let mut model = model(1, 5);
        model.press(KeyEvent::from(KeyCode::Char('?')));
        let (lines, _) = screen(&model, 80, 24);
        assert!(lines.iter().any(|line| line.contains("q, ^C                quit")));
    }

    #[test]
    fn no_screen_is_too_small() {
        let mut model = model(3, 9);
        for key in ['x', '?', 'm', '/'] {
            model.press(KeyEvent::from(KeyCode::Char(key)));
            for (width, height) in [(1, 1), (2, 9), (9, 2), (20, 5), (81, 3)] {
                screen(&model, width, height);
            }
        }
    }
}
