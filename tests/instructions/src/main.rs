//! How many instructions a burst takes on the data path, counted by callgrind, beside the counts
//! that are kept in `counts.txt`. A slowdown shows without a clock, on a busy machine, too.
//!
//! ```text
//! cargo run --release -p instruction-counts               # counts and compares
//! cargo run --release -p instruction-counts -- --write    # counts and keeps
//! ```
//!
//! Only our own code is counted: what the kernel does in a system call is not, and neither is what
//! a cache line costs that comes from another processor. `busctl bench` measures those.
//!
//! Valgrind runs the program on a processor of its own making, which is the same on all hosts that
//! have AVX2. So copies choose the same moves on AMD and Intel. What remains is the compiler. Between
//! 1.95 and 1.97 counts differ by up to 1.4 percent; with 1.91, sending over memif takes 30 percent
//! more. So the compiler is kept with the counts, and a slowdown under another one says so.

mod kept;
mod scenarios;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};

use self::kept::{Count, Kept, Verdict};
use self::scenarios::{ROUNDS, SCENARIOS};

/// The argument that makes this program run the scenarios and nothing else: valgrind gets it.
const RUN: &str = "--run-scenarios";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--write"] => write(),
        [RUN] => {
            scenarios::run_all()?;
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("usage: instruction-counts [--write]"),
    }
}

/// Prints all counts beside the kept ones; fails if one is far above.
fn compare() -> anyhow::Result<ExitCode> {
    let kept = Kept::read()?;
    let counts = count()?;
    let mut slower = 0;
    let mut faster = 0;
    println!("{:<26} {:>9} {:>9}  instructions for a burst", "", "now", "kept");
    for count in counts {
        let before = kept.get(&count.name);
        let verdict = Verdict::of(count.instructions, before);
        slower += usize::from(verdict == Verdict::Slower);
        faster += usize::from(verdict == Verdict::Faster);
        let before = before.map_or_else(|| "-".to_owned(), |before| before.to_string());
        println!("{:<26} {:>9} {before:>9}  {verdict}", count.name, count.instructions);
    }
    let again = "cargo run --release -p instruction-counts -- --write";
    if slower > 0 {
        println!(
            "{slower} take more instructions. Where that has a good reason, keep them: {again}"
        );
        let (before, now) = (kept.compiler().unwrap_or("an unknown compiler"), compiler()?);
        if before != now {
            println!("The reason may be the compiler: {before} made those, and this is {now}");
        }
        return Ok(ExitCode::FAILURE);
    }
    if faster > 0 {
        println!("{faster} take fewer instructions. Keep them, so that it stays so: {again}");
    }
    if kept.is_empty() {
        println!("No counts are kept for {}: {again}", std::env::consts::ARCH);
    }
    Ok(ExitCode::SUCCESS)
}

/// Replaces the kept counts of this architecture by those of now.
fn write() -> anyhow::Result<ExitCode> {
    let counts = count()?;
    Kept::read()?.replace(&counts, compiler()?)?;
    println!("kept {} counts for {}", counts.len(), std::env::consts::ARCH);
    Ok(ExitCode::SUCCESS)
}

/// Returns the compiler's version as it prints it. `cargo run` has it on the path.
fn compiler() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("rustc is not found")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs the scenarios under callgrind and returns the instructions of one burst of each.
fn count() -> anyhow::Result<Vec<Count>> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("callgrind");
    let program = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted_call*"])
        .arg("--dump-after=*scenario_ends*")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .args([program.as_os_str(), OsStr::new(RUN)])
        .output()
        .context("valgrind cannot be started: install its package")?;
    ensure!(
        output.status.success(),
        "the scenarios failed under valgrind:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Each scenario that ends is a dump of its own, numbered from 1.
    let counts = (1..).zip(SCENARIOS).map(|(number, scenario)| {
        let total = total(&out.with_extension(number.to_string()))?;
        Ok(Count { name: scenario.name(), instructions: total / u64::from(ROUNDS) })
    });
    counts.collect()
}

/// Reads the instructions of one dump of callgrind.
fn total(dump: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(dump).with_context(|| format!("no dump {}", dump.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.with_context(|| format!("{} has no line 'totals:'", dump.display()))?;
    let total: u64 = total.trim().parse().with_context(|| format!("not a count: {total}"))?;
    ensure!(total > 0, "{} counted nothing: has the program its symbols?", dump.display());
    Ok(total)
}
