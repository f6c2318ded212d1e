//! What is made of a lab file besides a lab: drawings, its schema, and lab files of other programs'.

use std::io::Write as _;
use std::path::Path;

use ::lab::graph::{self, Drawing};
use ::lab::{Plan, clab};
use anyhow::{Context as _, anyhow};

use super::GraphArgs;
use super::host::read;
use crate::context::Context;
use crate::misuse::misuse;
use crate::output;
use crate::process::name::renamed;

/// Draws the lab of a file, or one that is up.
pub(super) fn draw(args: &GraphArgs, context: &Context) -> anyhow::Result<()> {
    let plan: Plan = match &args.file {
        Some(file) => read(file)?,
        None => args.lab.folder(context)?.read_plan()?,
    };
    let drawing = Drawing::from(&plan);
    let text = if args.mermaid {
        graph::mermaid(&drawing)
    } else if args.dot {
        graph::dot(&drawing)
    } else if args.svg {
        graph::svg(&drawing)
    } else {
        graph::tree(&drawing)
    };
    print(&text)
}

/// Prints the schema of lab files.
pub(super) fn schema() -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(&::lab::schema())?)
}

/// Prints a lab file made of containerlab's.
pub(super) fn import(file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| misuse(anyhow!("cannot read {}: {error}", file.display())))?;
    let imported = clab::import(&text)
        .map_err(|problems| misuse(anyhow!(problems)))
        .with_context(|| file.display().to_string())?;
    for dropped in &imported.dropped {
        output::warn(dropped);
    }
    print(&renamed(&imported.toml))
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = output::stdout();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        writeln!(stdout)?;
    }
    Ok(stdout.flush()?)
}
