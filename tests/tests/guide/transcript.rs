//! Transcripts in a Markdown text: what a reader types and what the commands print.
//!
//! ````text
//! ## A section
//! <!-- needs: tcpdump -->
//! ```console
//! $ busctl ping ./lan 10.0.0.1 --from 10.0.0.2/24 -c 1
//! PING 10.0.0.1 from 10.0.0.2: 56 data bytes
//! ...
//! ```
//! ````
//!
//! In the output, `...` within a line stands for any text, and a line of only `...` for any lines.
//! `console fails` begins a transcript whose last command fails.

/// The transcripts under one heading.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// The heading's text.
    pub(crate) title: String,
    /// Programs that the section needs.
    pub(crate) needs: Vec<String>,
    /// The commands, in order.
    pub(crate) steps: Vec<Step>,
}

/// A command.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// The command as typed; a line that ends in a backslash continues on the next.
    pub(crate) command: String,
    /// The lines it prints.
    pub(crate) prints: Vec<String>,
    /// Whether it ends in failure.
    pub(crate) fails: bool,
}

impl Step {
    /// Returns the command without its `&`, if it runs in the background.
    pub(crate) fn background(&self) -> Option<&str> {
        self.command.strip_suffix('&').map(str::trim_end)
    }
}

/// Returns the sections of `text` that have transcripts.
///
/// # Panics
/// When `text` shows a `busctl` command outside of a transcript, where it would not be run.
pub(crate) fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut fence: Option<String> = None;
    for line in text.lines() {
        match (&fence, line.strip_prefix("```")) {
            (Some(kind), Some(_)) => {
                if kind == "console fails"
                    && let Some(last) =
                        sections.last_mut().and_then(|section| section.steps.last_mut())
                {
                    last.fails = true;
                }
                fence = None;
            }
            (None, Some(kind)) => fence = Some(kind.to_owned()),
            (Some(kind), None) if kind.starts_with("console") => {
                sections.last_mut().expect("a heading above each transcript").type_or_print(line);
            }
            (Some(kind), None) => {
                assert!(
                    !line.trim_start().starts_with("busctl"),
                    "not run, in a fence of '{kind}': {line}"
                );
            }
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    sections.push(Section { title: title.to_owned(), ..Section::default() });
                } else if let Some(programs) = line.strip_prefix("<!-- needs: ") {
                    let section = sections.last_mut().expect("a heading above it");
                    section.needs = programs
                        .trim_end_matches("-->")
                        .split_whitespace()
                        .map(str::to_owned)
                        .collect();
                }
            }
        }
    }
    assert_eq!(fence, None, "a fence is not closed");
    sections.retain(|section| !section.steps.is_empty());
    sections
}

impl Section {
    fn type_or_print(&mut self, line: &str) {
        if let Some(command) = line.strip_prefix("$ ") {
            self.steps.push(Step { command: command.to_owned(), ..Step::default() });
            return;
        }
        let step = self.steps.last_mut().expect("a command before what it prints");
        if step.prints.is_empty() && step.command.ends_with('\\') {
            step.command.push('\n');
            step.command.push_str(line);
        } else {
            step.prints.push(line.to_owned());
        }
    }
}

/// Returns whether `lines` match `pattern`.
pub(crate) fn fits(pattern: &[String], lines: &[&str]) -> bool {
    match pattern.split_first() {
        None => lines.is_empty(),
        Some((any, rest)) if any == "..." => {
            (0..=lines.len()).any(|skipped| fits(rest, &lines[skipped..]))
        }
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, others)| line_fits(first, line) && fits(rest, others)),
    }
}

fn line_fits(pattern: &str, line: &str) -> bool {
    let Some((before, after)) = pattern.split_once("...") else { return pattern == line };
    let Some(rest) = line.strip_prefix(before) else { return false };
    (0..=rest.len()).filter_map(|at| rest.get(at..)).any(|rest| line_fits(after, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, lines: &str) -> bool {
        let pattern: Vec<_> = pattern.lines().map(str::to_owned).collect();
        super::fits(&pattern, &lines.lines().collect::<Vec<_>>())
    }

    #[test]
    fn dots_stand_for_anything_and_everything_else_for_itself() {
        assert!(fits("a\n...\nb", "a\nb"));
        assert!(fits("a\n...\nb", "a\nx\ny\nb"));
        assert!(fits("time=... ms", "time=0.03 ms"));
        assert!(fits("...", ""));
        assert!(fits("", ""));
        for (pattern, lines) in
            [("a", "a\nb"), ("a\nb", "a"), ("", "a"), ("time=... ms", "time=3 s"), ("a\n...", "b")]
        {
            assert!(!fits(pattern, lines), "{pattern:?} {lines:?}");
        }
    }

    #[test]
    fn sections_have_steps_needs_and_expectations() {
        let text = "# T\n## One\n<!-- needs: a b -->\ntext\n```console\n$ x \\\n  y\nprinted\n$ z &\nready\n```\n\
                    ## None\n## Two\n```console fails\n$ true\n$ false\n```\n";
        let sections = sections(text);
        let [one, two] = sections.as_slice() else { panic!("{sections:?}") };
        assert_eq!(
            (one.title.as_str(), one.needs.as_slice()),
            ("One", ["a".to_owned(), "b".to_owned()].as_slice())
        );
        assert_eq!((one.steps[0].command.as_str(), one.steps[0].background()), ("x \\\n  y", None));
        assert_eq!(one.steps[0].prints, ["printed"]);
        assert_eq!(one.steps[1].background(), Some("z"));
        assert_eq!([two.steps[0].fails, two.steps[1].fails], [false, true]);
    }

    #[test]
    #[should_panic(expected = "not run")]
    fn a_command_outside_of_a_transcript_is_refused() {
        let _ = sections("## One\n```sh\nbusctl demo\n```\n");
    }
}
