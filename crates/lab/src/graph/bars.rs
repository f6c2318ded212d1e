//! Measured figures as horizontal bars, drawn as SVG.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::svg::{STYLE, escape};

/// The width of the drawing, and of its figures.
const WIDTH: f64 = 900.0;
const FIGURES: f64 = 60.0;
/// The narrowest and the widest column of labels, and about the width of a letter in it.
const LABELS: [f64; 2] = [120.0, 420.0];
const LETTER: f64 = 6.4;
/// The height of a bar, of a line of text, and of one in small letters.
const BAR: f64 = 12.0;
const LINE: f64 = 24.0;
const NOTE: f64 = 15.0;
/// The colours of the first series and those after it.
const COLOURS: [&str; 4] = ["#357ab7", "#e08e3c", "#6aa84f", "#999999"];

/// Figures in one unit, with bars that are comparable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BarChart {
    /// What was measured.
    pub title: String,
    /// The unit of all figures; may be empty.
    pub unit: String,
    /// What the figures of a row are, in order.
    pub series: Vec<String>,
    /// The rows: a label, and a figure for each of the series, or none.
    pub rows: Vec<(String, Vec<Option<f64>>)>,
}

/// Returns charts one below the other as an SVG drawing, above lines in small letters. A figure that
/// is none, or no finite number, has no bar.
#[must_use]
pub fn bars(charts: &[BarChart], notes: &[&str]) -> String {
    let mut text = String::new();
    let mut y = 10.0;
    for chart in charts {
        draw(chart, &mut y, &mut text);
    }
    for note in notes {
        let _ = writeln!(
            text,
            "<text x=\"10\" y=\"{y:.0}\" font-size=\"11\" class=\"note\">{}</text>",
            escape(note)
        );
        y += NOTE;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {y:.0}\" \
         width=\"{WIDTH:.0}\" height=\"{y:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n{STYLE}{text}</svg>\n"
    )
}

fn draw(chart: &BarChart, y: &mut f64, text: &mut String) {
    let unit = if chart.unit.is_empty() { String::new() } else { format!(" ({})", chart.unit) };
    let title = escape(&format!("{}{unit}", chart.title));
    *y += LINE;
    let _ = writeln!(
        text,
        "<text x=\"10\" y=\"{:.0}\" font-size=\"15\" font-weight=\"bold\">{title}</text>",
        *y - 8.0
    );
    let letters = chart.rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let labels = (20.0 + letters as f64 * LETTER).clamp(LABELS[0], LABELS[1]);
    let mut x = labels;
    for (series, colour) in chart.series.iter().zip(COLOURS.iter().cycle()) {
        let _ = writeln!(
            text,
            "<rect x=\"{x:.0}\" y=\"{:.0}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
            *y,
            x + 14.0,
            *y + 9.0,
            escape(series)
        );
        x += 30.0 + series.chars().count() as f64 * 7.0;
    }
    *y += LINE;
    let finite = |figure: &Option<f64>| figure.filter(|figure| figure.is_finite());
    let figures = chart.rows.iter().flat_map(|(_, figures)| figures);
    let most = figures.filter_map(finite).fold(0.0, f64::max);
    let scale = if most > 0.0 { (WIDTH - labels - FIGURES) / most } else { 0.0 };
    for (label, figures) in &chart.rows {
        let height = BAR * figures.len().max(1) as f64;
        let _ = writeln!(
            text,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            labels - 8.0,
            *y + height / 2.0 + 4.0,
            escape(label)
        );
        for (figure, colour) in figures.iter().zip(COLOURS.iter().cycle()) {
            if let Some(figure) = finite(figure) {
                let width = (figure.max(0.0) * scale).max(1.0);
                let _ = writeln!(
                    text,
                    "<rect x=\"{labels:.0}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.0}\" \
                     fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\">{}</text>",
                    *y,
                    BAR - 1.0,
                    labels + width + 4.0,
                    *y + 9.0,
                    number(figure)
                );
            }
            *y += BAR;
        }
        *y += 6.0;
    }
    *y += LINE / 2.0;
}

/// Returns a figure with three digits that count.
fn number(figure: f64) -> String {
    match figure.abs() {
        0.0..1.0 => format!("{figure:.3}"),
        1.0..10.0 => format!("{figure:.2}"),
        10.0..100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_bar_to_scale() {
        let row = |label: &str, a, b| (label.to_owned(), vec![Some(a), b]);
        let chart = BarChart {
            title: "rates <1>".to_owned(),
            unit: "M/s".to_owned(),
            series: vec!["ours".to_owned(), "theirs".to_owned()],
            rows: vec![row("64", 10.0, Some(5.0)), row("1514", 2.5, None)],
        };
        let drawing = bars(&[chart, BarChart::default()], &["a & b"]);
        assert!(drawing.contains("rates &lt;1&gt; (M/s)</text>"), "{drawing}");
        for width in ["720.0", "360.0", "180.0"] {
            assert!(drawing.contains(&format!("width=\"{width}\"")), "{width}: {drawing}");
        }
        assert!(drawing.ends_with("a &amp; b</text>\n</svg>\n") && !drawing.contains("NaN"));
        assert_eq!([0.1234, 5.0, 12.34, 1234.5].map(number), ["0.123", "5.00", "12.3", "1234"]);
    }

    #[test]
    fn a_figure_that_is_no_number_has_no_bar() {
        for figure in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            let chart =
                BarChart { rows: vec![("x".to_owned(), vec![figure])], ..BarChart::default() };
            let drawing = bars(&[chart], &[]);
            assert!(!drawing.contains("NaN") && !drawing.contains("inf"), "{drawing}");
        }
    }

    #[test]
    fn bars_begin_behind_the_longest_label() {
        let chart = |label: &str| BarChart {
            rows: vec![(label.to_owned(), vec![Some(1.0)])],
            ..BarChart::default()
        };
        assert!(bars(&[chart(&"m".repeat(50))], &[]).contains("<rect x=\"340\""));
        assert!(bars(&[chart(&"m".repeat(500))], &[]).contains("<rect x=\"420\""));
    }
}
