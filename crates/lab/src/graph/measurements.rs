//! Measured figures with what makes them worth keeping: the machine, the command and the day.

use serde::{Deserialize, Serialize};

use super::{BarChart, bars};

/// Figures of one command, as they are kept in a file and drawn again from it.
///
/// ```
/// use lab::graph::Measurements;
///
/// let measured = Measurements::of_today("busctl bench bus --sweep", Vec::new());
/// let kept = serde_json::to_string(&measured)?;
/// let read: Measurements = serde_json::from_str(&kept)?;
/// assert_eq!(read.svg(), measured.svg());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Measurements {
    /// What was typed.
    pub command: String,
    /// The processor, the number of CPUs, and the kernel.
    pub machine: String,
    /// The day, as `2026-11-28` (UTC).
    pub date: String,
    /// The figures.
    pub charts: Vec<BarChart>,
}

impl Measurements {
    /// Returns figures that a command has just measured on this machine.
    #[must_use]
    pub fn of_today(command: &str, charts: Vec<BarChart>) -> Self {
        Self { command: command.to_owned(), machine: machine(), date: today(), charts }
    }

    /// Returns a drawing of all charts, with machine, command and day below them.
    #[must_use]
    pub fn svg(&self) -> String {
        let place = format!("{} · {}", self.machine, self.date);
        bars(&self.charts, &[&self.command, &place])
    }
}

/// Returns what figures of this machine depend on.
fn machine() -> String {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = file("/proc/cpuinfo");
    let values = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let mut models =
        values.filter(|(key, _)| key.trim() == "model name").map(|(_, value)| value.trim());
    let model = models.next().unwrap_or(std::env::consts::ARCH);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {cpus} CPUs, Linux {}", file("/proc/sys/kernel/osrelease").trim())
}

fn today() -> String {
    chrono::Utc::now().format("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_says_where_and_when() {
        let measured = Measurements::of_today("busctl bench <bus>", Vec::new());
        assert!(measured.machine.contains(" CPUs, Linux "), "{measured:?}");
        let day: Vec<&str> = measured.date.split('-').collect();
        assert!(
            matches!(day[..], [year, month, day] if (year.len(), month.len(), day.len()) == (4, 2, 2))
        );
        let drawing = measured.svg();
        let said = format!(">{} · {}</text>", measured.machine, measured.date);
        assert!(drawing.contains(">busctl bench &lt;bus&gt;</text>"), "{drawing}");
        assert!(drawing.contains(&said), "{drawing}");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text = r#"{"command": "c", "machine": "m", "date": "d", "charts": [], "colour": 1}"#;
        assert!(serde_json::from_str::<Measurements>(text).is_err());
    }
}
