//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::SECTIONS;

/// The most that `--sizes` takes: what one process can be for `host --count`.
const MAX_SIZE: usize = 250;

/// The parsed command line; the comment at the top of `main.rs` lists its words.
#[derive(Debug)]
pub(crate) struct Arguments {
    sections: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
    /// How many are beside those that are measured, in the section `many`.
    pub(crate) sizes: Vec<usize>,
    pub(crate) json: bool,
    /// Where the medians are drawn.
    pub(crate) svg: Option<PathBuf>,
    /// Where the medians are written, as JSON.
    pub(crate) figures: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            sections: Vec::new(),
            rounds: 5,
            time: Duration::from_millis(500),
            sizes: vec![0, 16, 64, 250],
            json: false,
            svg: None,
            figures: None,
        };
        while let Some(word) = words.next() {
            let mut text = || words.next().ok_or(format!("{word}: a word is missing behind it"));
            let mut number = || {
                let text = text()?;
                text.parse::<f64>().map_err(|why| format!("{word} {text}: {why}"))
            };
            match word.as_str() {
                // Cargo passes this to every benchmark.
                "--bench" => {}
                "--json" => arguments.json = true,
                "--rounds" => {
                    let rounds = number()?;
                    if !(1.0..=1_000.0).contains(&rounds) {
                        return Err(format!("--rounds {rounds}: there are 1 to 1000"));
                    }
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "just checked"
                    )]
                    let rounds = rounds as usize;
                    arguments.rounds = rounds;
                }
                "--seconds" => {
                    let seconds = number()?;
                    arguments.time = Duration::try_from_secs_f64(seconds)
                        .ok()
                        .filter(|time| !time.is_zero())
                        .ok_or(format!("--seconds {seconds}: this is no time"))?;
                }
                "--svg" => arguments.svg = Some(text()?.into()),
                "--figures" => arguments.figures = Some(text()?.into()),
                "--sizes" => arguments.sizes = sizes(&text()?)?,
                name if SECTIONS.iter().any(|(known, _)| *known == name) => {
                    arguments.sections.push(name.to_owned());
                }
                other => {
                    let known: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
                    return Err(format!(
                        "there is no {other}: there are {}, --rounds N, --seconds S, --sizes N,N, \
                         --svg FILE, --figures FILE and --json",
                        known.join(", ")
                    ));
                }
            }
        }
        Ok(arguments)
    }

    /// Returns what is typed to measure the same again.
    pub(crate) fn command(&self) -> String {
        let mut words = vec!["cargo bench -p system-tests --bench compare --".to_owned()];
        words.extend(self.sections.iter().cloned());
        words.push(format!("--rounds {} --seconds {}", self.rounds, self.time.as_secs_f64()));
        if self.wants("many") {
            let sizes: Vec<String> = self.sizes.iter().map(usize::to_string).collect();
            words.push(format!("--sizes {}", sizes.join(",")));
        }
        words.join(" ")
    }

    /// Returns whether a section was requested, by name or with all others.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|wanted| wanted == name)
    }
}

/// Reads numbers with commas between.
fn sizes(text: &str) -> Result<Vec<usize>, String> {
    let size = |word: &str| {
        let size = word.parse().map_err(|why| format!("--sizes {text}: {word}: {why}"))?;
        if size <= MAX_SIZE { Ok(size) } else { Err(format!("--sizes {text}: {MAX_SIZE} at most")) }
    };
    text.split(',').map(size).collect()
}
