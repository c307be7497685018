//! Results on stdout: text for people, or one JSON value a line for programs.
//!
//! Everything is buffered; whoever prints calls [`Output::flush`] before it waits for anything, so that a reader at the other end of a
//! pipe has all there is.

use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use crate::fail::Failure;

const BUFFER_BYTES: usize = 64 << 10;

/// Stdout.
pub(crate) struct Output {
    out: BufWriter<StdoutLock<'static>>,
}

impl Output {
    pub(crate) fn new() -> Output {
        Output { out: BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock()) }
    }

    /// A line of text.
    pub(crate) fn line(&mut self, line: fmt::Arguments<'_>) -> Result<(), Failure> {
        self.out.write_fmt(line)?;
        self.raw(b"")
    }

    /// Bytes as they are, and a newline.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes)?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// A JSON value on a line of its own.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        self.raw(b"")
    }

    /// Hands on what is buffered.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }
}

/// Rows under headings, as wide as they must be; numbers to the right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Table {
        Table { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self, out: &mut Output) -> Result<(), Failure> {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let is_number = |column: usize| {
            let digits = |cell: &String| cell.chars().all(|c| c.is_ascii_digit() || c == ' ');
            self.rows[1..].iter().map(|row| &row[column]).all(digits)
        };
        let numeric: Vec<bool> = (0..columns).map(is_number).collect();
        for row in &self.rows {
            let cells = row.iter().enumerate().map(|(i, cell)| {
                if numeric[i] { format!("{cell:>w$}", w = widths[i]) } else { format!("{cell:<w$}", w = widths[i]) }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            out.line(format_args!("{}", line.trim_end()))?;
        }
        Ok(())
    }
}
