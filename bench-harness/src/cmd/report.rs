//! `report`: results as one page for people.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::cmd::merge;
use crate::{input, report};

/// Write one HTML page of one or more results: plots, tables, and the JSON inside it
#[derive(Args)]
#[command(after_help = "Example:\n  walrus-bench report result.json -o report.html")]
pub(crate) struct Report {
    /// Results, or reports of them; several are merged first
    #[arg(required = true, value_name = "RUN.json")]
    runs: Vec<PathBuf>,
    /// Where the page goes
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
}

impl Report {
    /// Reads, merges if there are several, and writes.
    pub(crate) fn run(&self, out: &mut dyn Write) -> Result<ExitCode> {
        let mut outcomes = self.runs.iter().map(|path| input::read(path)).collect::<Result<Vec<_>>>()?;
        let outcome = if outcomes.len() == 1 { outcomes.remove(0) } else { merge::merged(&outcomes)? };
        let page = report::page(&outcome)?;
        std::fs::write(&self.output, &page).with_context(|| format!("{} cannot be written", self.output.display()))?;
        writeln!(out, "{}: {} cases, {} KiB", self.output.display(), outcome.cases.len(), page.len() >> 10)?;
        Ok(ExitCode::SUCCESS)
    }
}
