//! Results as files: `result.json`, or a report, which carries the same JSON.
//!
//! Knows nothing of: what is done with them.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::report;
use crate::result::{Outcome, SCHEMA};

/// Reads a result.
///
/// # Errors
/// With the file's name: it cannot be read, is no result, or is one of another schema.
pub(crate) fn read(path: &Path) -> Result<Outcome> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
    let json = match text.trim_start().chars().next() {
        None => bail!("{name} is empty: was the run that should have written it stopped?"),
        Some('<') => report::embedded(&text).with_context(|| {
            format!("{name} is HTML without a result in it: only pages that `walrus-bench report` wrote have one")
        })?,
        Some(_) => &text,
    };
    parse(json).with_context(|| format!("{name} holds no result that can be read"))
}

fn parse(json: &str) -> Result<Outcome> {
    #[derive(serde::Deserialize)]
    struct Head {
        schema: u32,
        tool: String,
    }
    let head: Head =
        serde_json::from_str(json).context("it has no `schema` and `tool`: not written by walrus-bench?")?;
    if head.tool != "walrus-bench" {
        bail!("it was written by `{}`, not by `walrus-bench`", head.tool);
    }
    if head.schema != SCHEMA {
        bail!(
            "it has schema {}, this program reads {SCHEMA}: run it again, or take the program that wrote it",
            head.schema
        );
    }
    Ok(serde_json::from_str(json)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn error_of(name: &str, content: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.contains(name), "the message names the file: {error}");
        error
    }

    #[test]
    fn a_result_and_the_report_of_it_say_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let outcome = fixture::outcome();
        let json = serde_json::to_string(&outcome).unwrap();
        let (plain, page) = (dir.path().join("a.json"), dir.path().join("a.html"));
        std::fs::write(&plain, &json).unwrap();
        std::fs::write(&page, report::page(&outcome).unwrap()).unwrap();
        for path in [plain, page] {
            assert!(serde_json::to_string(&read(&path).unwrap()).unwrap() == json, "{}", path.display());
        }
    }

    #[test]
    fn a_file_that_is_no_result_is_named_with_what_is_wrong() {
        assert!(error_of("a.json", "").contains("empty"));
        assert!(error_of("a.json", "{\"schema\": 2").contains("EOF"));
        assert!(error_of("a.json", "[1, 2]").contains("not written by walrus-bench"));
        assert!(error_of("a.html", "<!doctype html><p>no</p>").contains("without a result"));
        assert!(
            error_of("a.json", r#"{"schema": 9, "tool": "walrus-bench"}"#).contains("schema 9, this program reads 2")
        );
        assert!(error_of("a.json", r#"{"schema": 2, "tool": "fio"}"#).contains("`fio`"));
        assert!(error_of("a.json", r#"{"schema": 2, "tool": "walrus-bench"}"#).contains("missing field"));
        assert!(format!("{:#}", read(Path::new("/nowhere/x.json")).unwrap_err()).contains("/nowhere/x.json"));
    }
}
