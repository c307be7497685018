//! Counts that are kept in a file, and what has become of them.
//!
//! ```text
//!   # ...
//!   # counted with rustc 1.95.0, valgrind-3.19.0, x86_64 with avx2
//!   encode 256 x 256 B           12345
//! ```
//!
//! Pure. Knows nothing of who counts, nor of what.

use std::fmt;

/// A count may move so far either way, in per cent. Less is a change, too: kept as it was, it would hide the next loss.
pub(crate) const TOLERANCE_PERCENT: u64 = 2;

const COUNTED_WITH: &str = "# counted with ";

const HEAD: &str = "\
# Instructions of one call, as callgrind counts them. `.ci/run instructions` fails where one has moved by more than 2 %, either way.
# A change that is meant to move them writes this file anew:
#   cargo bench --no-default-features --bench hot -- --count --update
";

/// Instructions of one call, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Compiler, valgrind, architecture.
    pub(crate) with: String,
    pub(crate) counts: Vec<(String, u64)>,
}

impl Counts {
    pub(crate) fn parse(text: &str) -> Result<Counts, String> {
        let mut parsed = Counts::default();
        for (number, line) in text.lines().enumerate() {
            if let Some(with) = line.strip_prefix(COUNTED_WITH) {
                parsed.with = with.to_owned();
            } else if !line.starts_with('#') && !line.trim().is_empty() {
                let row = line.trim().rsplit_once(' ').and_then(|(name, count)| Some((name, count.parse().ok()?)));
                let (name, count) = row.ok_or_else(|| format!("line {}: no name and count: `{line}`", number + 1))?;
                parsed.counts.push((name.trim().to_owned(), count));
            }
        }
        Ok(parsed)
    }

    fn of(&self, name: &str) -> Option<u64> {
        self.counts.iter().find(|(known, _)| known == name).map(|(_, count)| *count)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}{COUNTED_WITH}{}", self.with)?;
        self.counts.iter().try_for_each(|(name, count)| writeln!(f, "{name:<40} {count:>10}"))
    }
}

/// One name, in the file and now.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    name: String,
    before: Option<u64>,
    now: Option<u64>,
}

impl Row {
    fn change_percent(&self) -> Option<f64> {
        let (before, now) = (self.before? as f64, self.now? as f64);
        Some((now / before - 1.0) * 100.0)
    }

    /// What is in one of the two only has moved, and what was never counted.
    fn has_moved(&self) -> bool {
        let (Some(before), Some(now)) = (self.before, self.now) else { return true };
        before == 0 || before.abs_diff(now) * 100 > before * TOLERANCE_PERCENT
    }
}

/// What has become of every count.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    rows: Vec<Row>,
    /// Both, where they differ.
    with: Option<(String, String)>,
}

pub(crate) fn compare(before: &Counts, now: &Counts) -> Comparison {
    let row = |name: &String| Row { name: name.clone(), before: before.of(name), now: now.of(name) };
    let gone = before.counts.iter().filter(|(name, _)| now.of(name).is_none());
    let rows = now.counts.iter().chain(gone).map(|(name, _)| row(name)).collect();
    let with = (before.with != now.with).then(|| (before.with.clone(), now.with.clone()));
    Comparison { rows, with }
}

impl Comparison {
    pub(crate) fn is_same(&self) -> bool {
        !self.rows.is_empty() && !self.rows.iter().any(Row::has_moved)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
        writeln!(f, "{:<40} {:>10} {:>10} {:>8}", "instructions of one call", "kept", "now", "change")?;
        for row in &self.rows {
            let change = row.change_percent().map_or("-".to_owned(), |change| format!("{change:+.1} %"));
            let mark = if row.has_moved() { "  MOVED" } else { "" };
            let (before, now) = (number(row.before), number(row.now));
            writeln!(f, "{:<40} {before:>10} {now:>10} {change:>8}{mark}", row.name)?;
        }
        if self.is_same() {
            return writeln!(f, "all within {TOLERANCE_PERCENT} %");
        }
        if let Some((before, now)) = &self.with {
            writeln!(f, "the kept ones were counted with {before}; these with {now}: that alone can move them")?;
        }
        writeln!(
            f,
            "hint: find what moved them, or, if it is meant, `-- --count --update` and commit benches/instructions.txt with it"
        )
    }
}
