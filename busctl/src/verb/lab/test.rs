//! A lab as a test: up, its checks, down.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::lab::{Capture, Checked, Client, Folder, Plan};
use anyhow::Context as _;
use serde::Serialize;

use super::TestArgs;
use super::meeting::{Meeting, Met, Reached};
use super::up::RunningLab;
use crate::context::Context;
use crate::output;
use crate::process::shutdown::Shutdown;

/// What `lab test --json` prints.
#[derive(Serialize)]
struct Report {
    lab: String,
    passed: bool,
    /// Why the lab was not started, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    checks: Vec<Checked>,
    /// Where the logs are, if they were kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<PathBuf>,
    /// What was captured on the LANs until the first check failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    captures: Vec<PathBuf>,
}

/// Starts the lab, tries its checks in order, and takes it down. Returns 1 when one fails.
pub(super) fn run(args: &TestArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let mut plan = args.host.read(&args.file)?;
    let name = plan.name.clone();
    // Several tests of one lab may run at a time.
    plan.name = format!("{}-test-{}", truncated(&name), std::process::id());
    let stop = Shutdown::on_signals()?;
    let Some(mut lab) = RunningLab::start(&plan, context)? else { return Ok(ExitCode::from(2)) };
    let mut report = Report {
        lab: name.clone(),
        passed: true,
        failed: None,
        checks: Vec::new(),
        logs: None,
        captures: Vec::new(),
    };
    let keep = args.keep.clone().unwrap_or_else(|| format!("{name}-failed").into());
    match lab.wait_ready(&stop) {
        Ok(true) => {
            let mut meeting = Meeting::new(&plan, lab.folder())?;
            let met = meeting.as_mut().map_or(Met::All, |all| all.wait_for(Reached::Up, &stop));
            report.failed = match met {
                Met::All => None,
                Met::Stopped => Some("interrupted".to_owned()),
                Met::Late(hosts) => Some(format!("nothing was heard of {}", hosts.join(", "))),
            };
            let mut client = Client::connect(lab.folder())?;
            for check in plan.checks_here() {
                if stop.requested() {
                    report.failed = Some("interrupted".to_owned());
                }
                if report.failed.is_some() {
                    break;
                }
                let checked = client.check(check)?;
                if !args.json && !args.junit {
                    print(&checked)?;
                }
                let is_first_failure = !checked.passed && report.captures.is_empty();
                report.checks.push(checked);
                if is_first_failure {
                    // Soon: what follows overwrites what the buses still have.
                    report.captures = keep_captures(&plan, lab.folder(), &keep);
                }
            }
            // The checks of other hosts may need what runs here.
            if let (Some(all), None) = (&mut meeting, &report.failed)
                && let Met::Late(hosts) = all.wait_for(Reached::Done, &stop)
            {
                output::warn(format_args!("the test on {} has not ended", hosts.join(", ")));
            }
        }
        Ok(false) => report.failed = Some("interrupted".to_owned()),
        Err(error) => report.failed = Some(format!("{error:#}")),
    }
    report.passed = report.failed.is_none() && report.checks.iter().all(|check| check.passed);
    if !report.passed {
        if report.captures.is_empty() {
            report.captures = keep_captures(&plan, lab.folder(), &keep);
        }
        keep_logs(lab.folder(), &keep)
            .with_context(|| format!("cannot keep the logs in {}", keep.display()))?;
        report.logs = Some(keep);
    }
    lab.down()?;
    if args.json {
        output::print_json(&report)?;
    } else if args.junit {
        write!(output::stdout(), "{}", junit(&report))?;
    } else {
        conclude(&report)?;
    }
    Ok(ExitCode::from(u8::from(!report.passed)))
}

/// Returns a name with room for a suffix.
fn truncated(name: &str) -> &str {
    &name[..name.len().min(40)]
}

fn print(checked: &Checked) -> anyhow::Result<()> {
    let word = if checked.passed { "ok" } else { "FAILED" };
    let took = checked.took.as_secs_f64();
    let mut stdout = output::stdout();
    writeln!(stdout, "{word:<6} {} ({took:.1} s)", checked.name)?;
    if !checked.passed {
        for line in checked.detail.lines().take(20) {
            writeln!(stdout, "       {line}")?;
        }
    }
    Ok(stdout.flush()?)
}

fn conclude(report: &Report) -> anyhow::Result<()> {
    let passed = report.checks.iter().filter(|check| check.passed).count();
    let mut stdout = output::stdout();
    if let Some(failed) = &report.failed {
        writeln!(stdout, "FAILED {failed}")?;
    }
    writeln!(stdout, "{}: {passed} of {} checks passed", report.lab, report.checks.len())?;
    if let Some(logs) = &report.logs {
        let captures = if report.captures.is_empty() { "" } else { " and captures" };
        writeln!(stdout, "the logs{captures} are in {}", logs.display())?;
    }
    Ok(())
}

/// Copies the logs of a lab, before it goes down.
fn keep_logs(folder: &Folder, keep: &Path) -> std::io::Result<()> {
    fs::create_dir_all(keep)?;
    for entry in fs::read_dir(folder.logs())? {
        let entry = entry?;
        fs::copy(entry.path(), keep.join(entry.file_name()))?;
    }
    Ok(())
}

/// Writes what the buses of a lab still have of the frames of each LAN: the latest ones, as many as
/// the size of the bus has room for. So nothing is captured while all goes well. Returns the files.
fn keep_captures(plan: &Plan, folder: &Folder, keep: &Path) -> Vec<PathBuf> {
    // A folder that cannot be made is an error when the logs are kept.
    let _ = fs::create_dir_all(keep);
    let mut files = Vec::new();
    for lan in plan.lans_here() {
        let file = keep.join(format!("{}.pcapng", lan.name));
        let saved = Capture::oldest(&folder.bus(&lan.name)).and_then(|mut lan| lan.save(&file));
        match saved {
            Ok(0) => {}
            Ok(_) => files.push(file),
            // The report matters more.
            Err(error) => output::warn(error),
        }
    }
    files
}

/// Returns a report as tools for continuous integration read it.
fn junit(report: &Report) -> String {
    let failures = report.checks.iter().filter(|check| !check.passed).count()
        + usize::from(report.failed.is_some());
    let tests = report.checks.len() + usize::from(report.failed.is_some());
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let lab = escape(&report.lab);
    let _ = writeln!(text, "<testsuite name=\"{lab}\" tests=\"{tests}\" failures=\"{failures}\">");
    let failure = |detail: &str| format!("<failure>{}</failure>", escape(detail));
    if let Some(failed) = &report.failed {
        let failed = failure(failed);
        let _ = writeln!(text, "  <testcase classname=\"{lab}\" name=\"up\">{failed}</testcase>");
    }
    for check in &report.checks {
        let name = escape(&check.name);
        let time = check.took.as_secs_f64();
        let failed = if check.passed { String::new() } else { failure(&check.detail) };
        let _ = writeln!(
            text,
            "  <testcase classname=\"{lab}\" name=\"{name}\" time=\"{time:.3}\">{failed}</testcase>"
        );
    }
    let kept: Vec<_> = report.logs.iter().chain(&report.captures).collect();
    if !kept.is_empty() {
        let lines: Vec<_> = kept.iter().map(|path| path.display().to_string()).collect();
        let _ = writeln!(text, "  <system-out>{}</system-out>", escape(&lines.join("\n")));
    }
    text.push_str("</testsuite>\n");
    text
}

/// Returns text as XML takes it. Control characters, which it has none for, are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(letter),
            other if other.is_control() => {}
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_report_is_xml_whatever_a_command_printed() {
        let check = Checked {
            name: "a \"b\"".to_owned(),
            passed: false,
            took: Duration::from_millis(1_500),
            tries: 1,
            detail: "<&>\u{1b}[0m\n".to_owned(),
        };
        let report = Report {
            lab: "l".to_owned(),
            passed: false,
            failed: None,
            checks: vec![check],
            logs: Some("l-failed".into()),
            captures: vec!["l-failed/a.pcapng".into()],
        };
        let text = junit(&report);
        assert!(text.contains("tests=\"1\" failures=\"1\""), "{text}");
        let case = "name=\"a &quot;b&quot;\" time=\"1.500\"><failure>&lt;&amp;&gt;[0m\n</failure>";
        assert!(text.contains(case), "{text}");
        assert!(text.contains("<system-out>l-failed\nl-failed/a.pcapng</system-out>"), "{text}");
    }
}
