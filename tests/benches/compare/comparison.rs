//! Rounds in which ours and theirs alternate, and the table of their results.

use std::path::Path;
use std::time::Duration;

use lab::graph::{BarChart, Measurements};
use serde_json::json;
pub(crate) use system_tests::figures::{Criterion, Spread, Target};

use crate::arguments::Arguments;
use crate::cpu;

/// Measures one side for a short time and returns its figure.
pub(crate) type Measure<'a> = &'a mut dyn FnMut() -> f64;

/// The table of results, printed row by row, and the targets missed so far.
pub(crate) struct Table<'a> {
    arguments: &'a Arguments,
    missed: Vec<String>,
    charts: Vec<BarChart>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(arguments: &'a Arguments) -> Self {
        Self { arguments, missed: Vec::new(), charts: Vec::new() }
    }

    /// Returns how long one side is measured in a round.
    pub(crate) fn time(&self) -> Duration {
        self.arguments.time
    }

    /// Returns how many are beside those that are measured, in the rows of `many`.
    pub(crate) fn sizes(&self) -> &'a [usize] {
        &self.arguments.sizes
    }

    /// Prints the head of a table.
    pub(crate) fn heading(&mut self, title: &str, unit: &str, theirs: &str) {
        self.charts.push(BarChart {
            title: title.to_owned(),
            unit: unit.to_owned(),
            series: vec!["ours".to_owned(), theirs.to_owned()],
            rows: Vec::new(),
        });
        if self.arguments.json {
            return;
        }
        println!(
            "\n{title}: {unit}; medians of {} rounds, lowest..highest\n",
            self.arguments.rounds
        );
        println!(
            "{:<38} {:>24} {:>24} {:>20} {:>9} {:>9}",
            "", "ours", theirs, "ours beside theirs", "target", "line, ns"
        );
    }

    /// Measures a row in the requested number of rounds. In every second round theirs comes first.
    pub(crate) fn row(
        &mut self,
        what: &str,
        criterion: Criterion,
        ours: Measure<'_>,
        theirs: Measure<'_>,
    ) {
        let (mut us, mut them, mut compared, mut lines) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.arguments.rounds {
            let (our, their);
            if round % 2 == 0 {
                our = ours();
                their = theirs();
            } else {
                their = theirs();
                our = ours();
            }
            compared.push(criterion.compare(our, their));
            us.push(our);
            them.push(their);
            lines.push(cpu::line_round_trip());
        }
        let medians = vec![Some(Spread::of(&us).median), Some(Spread::of(&them).median)];
        let mut beside_theirs =
            self.charts.iter_mut().rev().filter(|chart| chart.series.len() == 2);
        if let Some(chart) = beside_theirs.next() {
            chart.rows.push((what.to_owned(), medians));
        }
        let beside = Spread::of(&compared);
        let (target, met) = (criterion.target(), criterion.is_met(beside.median));
        if !met {
            self.missed.push(format!(
                "{what}: {:.2} beside {}",
                beside.median,
                target.as_deref().unwrap_or("")
            ));
        }
        if self.arguments.json {
            let line = json!({ "what": what, "ours": us, "theirs": them, "beside": compared,
                "beside_median": beside.median, "target": target, "met": met, "line_ns": lines });
            println!("{line}");
            return;
        }
        println!(
            "{what:<38} {:>24} {:>24} {:>20} {:>9} {:>9.0}",
            Spread::of(&us).text(),
            Spread::of(&them).text(),
            beside.text(),
            target.unwrap_or_default(),
            Spread::of(&lines).median
        );
    }

    /// Measures a row that has no counterpart, and compares it with a fixed target.
    pub(crate) fn alone(
        &mut self,
        what: &str,
        unit: &str,
        target: Option<Target>,
        figure: Measure<'_>,
    ) {
        let values: Vec<f64> = (0..self.arguments.rounds).map(|_| figure()).collect();
        let spread = Spread::of(&values);
        let series = vec!["ours".to_owned()];
        let (title, unit_drawn) = ("ours alone".to_owned(), unit.to_owned());
        match self.charts.last_mut() {
            Some(chart) if chart.series == series && chart.unit == unit => {
                chart.rows.push((what.to_owned(), vec![Some(spread.median)]));
            }
            _ => self.charts.push(BarChart {
                title,
                unit: unit_drawn,
                series,
                rows: vec![(what.to_owned(), vec![Some(spread.median)])],
            }),
        }
        let met = target.is_none_or(|target| target.is_met(spread.median));
        let said = target.map(Target::text);
        if !met {
            self.missed.push(format!(
                "{what}: {:.2} {unit} beside {}",
                spread.median,
                said.as_deref().unwrap_or("")
            ));
        }
        if self.arguments.json {
            println!(
                "{}",
                json!({ "what": what, "unit": unit, "ours": values, "target": said, "met": met })
            );
        } else {
            println!("{what:<38} {:>24} {unit} {}", spread.text(), said.unwrap_or_default());
        }
    }

    /// Reports the rows that miss their targets, and draws or keeps all rows where that is wanted.
    pub(crate) fn finish(&self) -> Result<(), String> {
        let charts = self.charts.iter().filter(|chart| !chart.rows.is_empty()).cloned().collect();
        let measured = Measurements::of_today(&self.arguments.command(), charts);
        let write = |file: &Path, text: String| {
            std::fs::write(file, text)
                .map_err(|why| format!("cannot write {}: {why}", file.display()))
        };
        if let Some(file) = &self.arguments.svg {
            write(file, measured.svg())?;
        }
        if let Some(file) = &self.arguments.figures {
            let text = serde_json::to_string_pretty(&measured).map_err(|why| why.to_string())?;
            write(file, text + "\n")?;
        }
        if self.arguments.json {
            return Ok(());
        }
        match &self.missed[..] {
            [] => println!("\nevery target is met"),
            missed => missed.iter().for_each(|row| println!("\nmissed: {row}")),
        }
        Ok(())
    }
}
