//! What holds the house together, checked by reading the sources: layers, purity, clocks, `unsafe`, hooks, sizes, citations,
//! dependencies. docs/ARCHITECTURE.md says why; the tables below decide.
//!
//! A rule is a function from sources to complaints. Each is run over the repository by one test, and over a planted breach by another:
//! a rule that finds nothing anywhere proves nothing.
//!
//! It reads Rust with a small scanner (comments and strings blanked, paths and `use` trees spelled out), not with a parser: good enough
//! for code that rustfmt has laid out, and without a dependency.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

// -- the tables -----------------------------------------------------------------------------------------------------------

/// Who may use whom: the source of truth. A module may use itself, and nothing that is not listed.
const LAYERS: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("limits", &[]),
    ("entropy", &[]),
    ("lsn", &["ids"]),
    ("error", ZERO),
    ("storage", &["ids", "limits", "entropy", "lsn", "error"]),
    ("format", &["ids", "limits", "entropy", "lsn", "error"]),
    ("wire", &["ids", "limits", "entropy", "lsn", "error", "format"]),
    ("log", &["ids", "limits", "entropy", "lsn", "error", "storage", "format"]),
    ("commit", &["ids", "limits", "entropy", "lsn", "error", "storage", "format", "log"]),
    ("topic", &["ids", "limits", "entropy", "lsn", "error", "storage", "format", "log", "commit"]),
    ("engine", UP_TO_TOPIC),
    ("faces", UP_TO_ENGINE),
    ("net", &["ids", "limits", "entropy", "lsn", "error", "wire"]),
    ("leader", UP_TO_NET),
    ("follower", UP_TO_NET),
    ("client", &["ids", "limits", "entropy", "lsn", "error", "wire", "net"]),
    ("node", EVERYTHING),
];

const ZERO: &[&str] = &["ids", "limits", "entropy", "lsn"];
const UP_TO_TOPIC: &[&str] =
    &["ids", "limits", "entropy", "lsn", "error", "storage", "format", "log", "commit", "topic"];
const UP_TO_ENGINE: &[&str] =
    &["ids", "limits", "entropy", "lsn", "error", "storage", "format", "log", "commit", "topic", "engine"];
const UP_TO_NET: &[&str] = &[
    "ids", "limits", "entropy", "lsn", "error", "storage", "format", "log", "commit", "topic", "engine", "wire", "net",
];
const EVERYTHING: &[&str] = &[
    "ids", "limits", "entropy", "lsn", "error", "storage", "format", "log", "commit", "topic", "engine", "wire", "net",
    "leader", "follower", "client",
];

/// Bytes and sessions only: their tests need no disk, no socket and no sleep.
const PURE: &[&str] = &["format", "wire"];

/// What a pure module never names.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::thread",
    "std::net",
    "std::os",
    "std::env",
    "std::process",
    "std::time::SystemTime",
    "SystemTime::now",
    "Instant::now",
    "std::time::Instant::now",
    "tokio",
    "rustix",
    "io_uring",
    "memmap2",
    "quinn",
    "rustls",
    "rcgen",
    "tracing",
    "crate::entropy",
];

/// From here on up a module may look at the clock by itself.
const MAY_TELL_TIME: &[&str] = &["net", "leader", "follower", "client", "node"];

/// Calls that read a clock, or wait by one.
const CLOCKS: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "thread::sleep",
    "wait_timeout",
    "wait_timeout_while",
    "recv_timeout",
    "park_timeout",
];

/// The clocks below `net`, with their reasons.
const CLOCKS_ALLOWED: &[(&str, &str, &str)] = &[
    ("src/engine/build.rs", "SystemTime::now", "the commit thread's clock, read once a group"),
    ("src/engine/build.rs", "Instant::now", "the commit thread's deadlines of flushes that nobody waits for"),
    ("src/commit/alarm.rs", "Instant::now", "wakes the commit thread at such a deadline"),
    ("src/commit/alarm.rs", "wait_timeout", "the same, asleep"),
    ("src/engine/retry.rs", "thread::sleep", "a caller who has asked to wait before the next try"),
    ("src/engine/tailer.rs", "Instant::now", "the deadline of a caller who waits"),
    ("src/commit/watermark.rs", "wait_timeout_while", "the same caller, asleep"),
    ("src/log/keeper/mod.rs", "wait_timeout", "an idle log refreshes its hint"),
    ("src/log/scrub.rs", "wait_timeout_while", "the scrub rests, so that it takes a share of the disk only"),
    ("src/storage/dir.rs", "Instant::now", "two seconds of trying for LOCK"),
    ("src/storage/dir.rs", "thread::sleep", "two seconds of trying for LOCK"),
];

/// The files that may say `unsafe`.
const UNSAFE: &[&str] =
    &["src/storage/uring.rs", "src/storage/buffer.rs", "src/storage/mmap.rs", "bench-harness/src/pipeline.rs"];

/// The seam of the simulated disk: who may know that it exists.
const SEAM: &[&str] = &[
    "src/lib.rs",
    "src/storage/mod.rs",
    "src/storage/sim.rs",
    "src/storage/sim/",
    "src/storage/conformance.rs",
    "src/engine/mod.rs",
    "src/engine/viewer.rs",
    "src/engine/repair.rs",
    "src/node/tests/closing.rs",
];

const COLUMNS_MAX: usize = 140;
const FUNCTION_LINES_MAX: usize = 100;

/// The pages whose sections are cited in code.
const PAGES: &[&str] = &["docs/FORMAT.md", "docs/PROTOCOL.md"];

// -- sources --------------------------------------------------------------------------------------------------------------

/// A file of the repository.
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
    /// The text with comments and the insides of strings blanked: same lines, same columns.
    code: String,
    /// By line: whether it is within a `#[cfg(test)] mod`, or the whole file is one.
    test: Vec<bool>,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let code = blank(text);
        let test = test_lines(&code);
        Source { path: path.into(), text: text.into(), code, test }
    }

    /// The module of the crate that it belongs to; `None` outside `src/`, and for `lib.rs`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let module = inside.split('/').next()?.trim_end_matches(".rs");
        (module != "lib").then_some(module)
    }

    /// How many modules deep the file's own module lies.
    fn depth(&self) -> usize {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        inside.split('/').filter(|part| *part != "mod" && *part != "lib").count()
    }

    fn is_test_line(&self, line: usize) -> bool {
        self.test.get(line).copied().unwrap_or(false)
    }

    fn complain(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }

    /// Lines of code with their numbers from 0, those of tests left out.
    fn program_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().filter(|(line, _)| !self.is_test_line(*line))
    }
}

/// Blanks comments and the insides of strings and character literals.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_to_blank(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        for &c in &chars[at..end] {
            out.push(if c == '\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    out
}

/// The end of the comment or literal that begins at `at`; `at` itself if none does.
fn token_to_blank(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1);
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next == Some(&'/') => find(chars, at, |c| c == '\n'),
        '/' if next == Some(&'*') => block_comment_end(chars, at),
        '"' => string_end(chars, at + 1),
        'b' if !in_word && next == Some(&'"') => string_end(chars, at + 2),
        'r' if !in_word && raw_hashes(chars, at + 1).is_some() => raw_string_end(chars, at + 1),
        'b' if !in_word && next == Some(&'r') && raw_hashes(chars, at + 2).is_some() => raw_string_end(chars, at + 2),
        '\'' => char_end(chars, at),
        _ => at,
    }
}

fn find(chars: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&i| stop(chars[i])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], from: usize) -> usize {
    let mut i = from;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// How many `#` stand before the quote of a raw string.
fn raw_hashes(chars: &[char], from: usize) -> Option<usize> {
    let quote = find(chars, from, |c| c != '#');
    (chars.get(quote) == Some(&'"')).then_some(quote - from)
}

fn raw_string_end(chars: &[char], from: usize) -> usize {
    let hashes = raw_hashes(chars, from).unwrap_or(0);
    let mut i = from + hashes + 1;
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    chars.len()
}

/// `'x'` and `'\n'` are literals, `'a` is a lifetime.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), Some(_)) => (find(chars, at + 3, |c| c == '\'') + 1).min(chars.len()),
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// Which lines lie within `#[cfg(test)] mod name { ... }`.
fn test_lines(code: &str) -> Vec<bool> {
    let mut test = vec![false; code.lines().count() + 1];
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(test)]") {
        let at = from + found;
        from = at + 1;
        let Some(end) = test_module_end(code, at) else { continue };
        let first = code[..at].matches('\n').count();
        let last = code[..end].matches('\n').count();
        test[first..=last].fill(true);
    }
    test
}

fn test_module_end(code: &str, attribute: usize) -> Option<usize> {
    let item = code[attribute + "#[cfg(test)]".len()..].trim_start();
    let item = item.strip_prefix("pub(crate) ").unwrap_or(item);
    let start = code.len() - item.len();
    let body = item.strip_prefix("mod ")?.find(['{', ';'])? + start + "mod ".len();
    if code.as_bytes()[body] == b';' { Some(body) } else { closing_brace(code, body) }
}

/// The brace that closes the one at `open`.
fn closing_brace(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    for (i, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return Some(i),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// A path as it stands in code: `crate::log::open::create`.
struct CodePath {
    line: usize,
    parts: Vec<String>,
    /// How many modules written in the file itself it stands within.
    nested: usize,
}

impl CodePath {
    fn joined(&self) -> String {
        self.parts.join("::")
    }
}

/// Every path with at least two parts; `use` trees are spelled out.
fn paths(source: &Source) -> Vec<CodePath> {
    let nested = nested_modules(&source.code);
    let bytes = source.code.as_bytes();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        if bytes[at] == b'\n' {
            line += 1;
        }
        if !is_word(bytes[at]) || at > 0 && is_word(bytes[at - 1]) {
            at += 1;
            continue;
        }
        let mut tree = Tree { code: &source.code, at, line, nested: nested[at], found: &mut found };
        tree.path(&mut Vec::new());
        at = tree.at.max(at + 1);
        line = tree.line;
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// By byte: how many `mod name {` are open.
fn nested_modules(code: &str) -> Vec<usize> {
    let mut nested = vec![0; code.len() + 1];
    for (at, _) in code.match_indices("mod ") {
        let before = code[..at].bytes().next_back();
        let Some(open) = code[at..].find(['{', ';']).map(|i| at + i) else { continue };
        if before.is_some_and(is_word) || code.as_bytes()[open] == b';' {
            continue;
        }
        let end = closing_brace(code, open).unwrap_or(code.len());
        nested[open..end].iter_mut().for_each(|depth| *depth += 1);
    }
    nested
}

/// Walks one path or `use` tree.
struct Tree<'a> {
    code: &'a str,
    at: usize,
    line: usize,
    nested: usize,
    found: &'a mut Vec<CodePath>,
}

impl Tree<'_> {
    fn peek(&self) -> u8 {
        self.code.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn skip_space(&mut self) {
        while self.peek().is_ascii_whitespace() {
            self.line += usize::from(self.peek() == b'\n');
            self.at += 1;
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while is_word(self.peek()) {
            self.at += 1;
        }
        self.code[start..self.at].to_owned()
    }

    fn path(&mut self, parts: &mut Vec<String>) {
        let line = self.line;
        let known = parts.len();
        loop {
            parts.push(self.word());
            if !self.code[self.at..].starts_with("::") {
                break;
            }
            self.at += 2;
            if self.peek() == b'{' {
                self.group(parts);
                parts.truncate(known);
                return;
            }
            if !is_word(self.peek()) {
                break; // a turbofish or a glob
            }
        }
        if parts.len() > 1 {
            self.found.push(CodePath { line, parts: parts.clone(), nested: self.nested });
        }
        parts.truncate(known);
    }

    fn group(&mut self, parts: &mut Vec<String>) {
        self.at += 1;
        loop {
            self.skip_space();
            match self.peek() {
                b'}' | 0 => {
                    self.at += 1;
                    return;
                }
                byte if is_word(byte) => self.path(parts),
                _ => self.at += 1,
            }
        }
    }
}

// -- the rules ------------------------------------------------------------------------------------------------------------

fn layers(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let Some(module) = source.module() else { continue };
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            complaints.push(source.complain(0, format!("module `{module}` has no row in LAYERS of tests/tidy.rs")));
            continue;
        };
        for path in paths(source) {
            let Some(used) = used_module(source, &path) else { continue };
            let known = LAYERS.iter().any(|(name, _)| *name == used);
            if known && used != module && !allowed.contains(&used) {
                complaints
                    .push(source.complain(path.line, format!("`{module}` may not use `{used}`: {}", path.joined())));
            }
        }
    }
    complaints
}

/// The module of the crate that a path leads into, if it leads out of the file's own.
fn used_module<'a>(source: &Source, path: &'a CodePath) -> Option<&'a str> {
    if path.parts[0] == "crate" {
        return path.parts.get(1).map(String::as_str);
    }
    let ups = path.parts.iter().take_while(|part| *part == "super").count();
    let to_the_root = source.depth() + path.nested;
    (ups > 0 && ups == to_the_root).then(|| path.parts.get(ups).map(String::as_str)).flatten()
}

fn purity(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.module().is_some_and(|module| PURE.contains(&module))) {
        for path in paths(source).into_iter().filter(|path| !source.is_test_line(path.line)) {
            let joined = path.joined();
            let hit = |needle: &&&str| joined == **needle || joined.starts_with(&format!("{needle}::"));
            if let Some(needle) = IMPURE.iter().find(hit) {
                complaints.push(source.complain(path.line, format!("pure, and yet it names `{needle}`: {joined}")));
            }
        }
    }
    complaints
}

fn clocks(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources {
        let Some(module) = source.module() else { continue };
        if MAY_TELL_TIME.contains(&module) {
            continue;
        }
        for (line, code) in source.program_lines() {
            for clock in CLOCKS.iter().filter(|clock| has_word(code, clock)) {
                let allowed = CLOCKS_ALLOWED.iter().position(|(path, name, _)| *path == source.path && name == clock);
                match allowed {
                    Some(row) => {
                        used.insert(row);
                    }
                    None => complaints.push(source.complain(line, format!("`{clock}` below `net`"))),
                }
            }
        }
    }
    for (row, (path, clock, _)) in CLOCKS_ALLOWED.iter().enumerate() {
        if sources.iter().any(|source| source.path == *path) && !used.contains(&row) {
            complaints.push(format!("{path}: CLOCKS_ALLOWED grants `{clock}`, which it does not use"));
        }
    }
    complaints
}

/// `needle` with no letter, digit or `_` on either side.
fn has_word(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].bytes().next_back().is_some_and(is_word);
        let after = line[at + needle.len()..].bytes().next().is_some_and(is_word);
        !before && !after
    })
}

fn unsafe_code(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| !source.path.starts_with("tests/")) {
        let text: Vec<&str> = source.text.lines().collect();
        for (line, _) in source.code.lines().enumerate().filter(|(_, code)| has_word(code, "unsafe")) {
            if !UNSAFE.contains(&source.path.as_str()) {
                complaints.push(source.complain(line, "`unsafe` outside the list in tests/tidy.rs"));
            } else if !has_safety_note(&text, line) {
                complaints.push(source.complain(line, "`unsafe` without a `// SAFETY:` right above"));
            }
        }
    }
    complaints
}

/// A `SAFETY:` in the line, or in the comment right above the statement that the line belongs to.
fn has_safety_note(text: &[&str], line: usize) -> bool {
    if text[line].contains("SAFETY:") {
        return true;
    }
    for above in text[..line].iter().rev() {
        let above = above.trim();
        if above.contains("SAFETY:") {
            return true;
        }
        let ends_a_statement = above.ends_with([';', '{', '}']) || above.is_empty();
        if ends_a_statement && !above.starts_with("//") {
            return false;
        }
    }
    false
}

fn hooks(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.path.starts_with("src/")) {
        let seam = SEAM.iter().any(|file| source.path == *file || file.ends_with('/') && source.path.starts_with(file));
        let text: Vec<&str> = source.text.lines().collect();
        for (line, code) in source.program_lines() {
            // A constant that only tests look at changes nothing in the program.
            let constant = source.code.lines().nth(line + 1).is_some_and(|next| has_word(next, "const"));
            let gated = names_test_in_a_cfg(code) && !(constant && code.trim() == "#[cfg(test)]");
            if code.contains("cfg!(test)") || code.contains("cfg(not(test))") || gated {
                complaints.push(source.complain(line, "a hook for tests: the program must not know that it is tested"));
            }
            if code.contains("fail_point") {
                complaints.push(source.complain(line, "a fail point: faults come from the simulated disk"));
            }
            let named = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(names_the_simulation);
            let feature = code.contains("cfg") && text[line].contains("\"sim\"");
            if !seam && (named || feature) {
                complaints.push(source.complain(line, "the simulated disk is named outside its seam"));
            }
        }
    }
    complaints
}

/// `#[cfg(test)]` on anything but a module, whose lines are not looked at. A lint that is expected outside of tests is no hook.
fn names_test_in_a_cfg(code: &str) -> bool {
    let lint_only = code.contains("cfg_attr(not(test), expect(") || code.contains("cfg_attr(not(test), allow(");
    code.contains("cfg") && has_word(code, "test") && !code.contains("#[test]") && !lint_only
}

fn names_the_simulation(word: &str) -> bool {
    let camel = word.strip_prefix("Sim").is_some_and(|rest| rest.chars().next().is_none_or(char::is_uppercase));
    word == "sim" || camel || word.ends_with("_sim") || word.starts_with("sim_")
}

fn columns(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for (line, text) in source.text.lines().enumerate() {
            let columns = text.chars().count();
            if columns > COLUMNS_MAX {
                complaints.push(source.complain(line, format!("{columns} columns, more than {COLUMNS_MAX}")));
            }
        }
    }
    complaints
}

fn function_sizes(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let of_the_program = |source: &&Source| source.path.starts_with("src/") || source.path.starts_with("bin/");
    for source in sources.iter().filter(of_the_program) {
        for (at, _) in source.code.match_indices("fn ") {
            let first = source.code[..at].matches('\n').count();
            if source.code[..at].bytes().next_back().is_some_and(is_word) || source.is_test_line(first) {
                continue;
            }
            let Some(open) = source.code[at..].find(['{', ';']).map(|i| at + i) else { continue };
            let Some(end) = closing_brace(&source.code, open).filter(|_| source.code.as_bytes()[open] == b'{') else {
                continue;
            };
            let lines = source.code[at..end].matches('\n').count() + 1;
            if lines > FUNCTION_LINES_MAX {
                let name = source.code[at + 3..].split(['(', '<']).next().unwrap_or_default();
                complaints.push(
                    source.complain(first, format!("`{name}` has {lines} lines, more than {FUNCTION_LINES_MAX}")),
                );
            }
        }
    }
    complaints
}

fn unfinished(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for (line, code) in source.code.lines().enumerate() {
            for word in ["todo!", "unimplemented!", "dbg!"] {
                if code.contains(word) {
                    complaints.push(source.complain(line, format!("`{word}`")));
                }
            }
        }
    }
    complaints
}

/// A page with sections, and the sources that cite them.
fn citations(page: &str, markdown: &str, sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let anchors: Vec<String> = anchors(markdown);
    let mut cited = BTreeSet::new();
    let mark = format!("{page}#");
    for source in sources.iter().filter(|source| source.path != "tests/tidy.rs") {
        for (line, text) in source.text.lines().enumerate() {
            for (at, _) in text.match_indices(&mark) {
                let rest = &text[at + mark.len()..];
                let anchor = rest.split(|c: char| !c.is_alphanumeric() && c != '-').next().unwrap_or_default();
                let anchor = anchor.trim_end_matches('-').to_owned();
                if !anchors.contains(&anchor) {
                    complaints.push(source.complain(line, format!("cites {page}#{anchor}, which does not exist")));
                }
                cited.insert(anchor);
            }
        }
    }
    let uncited = anchors.iter().filter(|anchor| !cited.contains(*anchor));
    complaints.extend(uncited.map(|anchor| format!("{page}#{anchor} is cited nowhere, in code or in a test")));
    complaints
}

/// The sections of a page, as links name them.
fn anchors(markdown: &str) -> Vec<String> {
    let mut fenced = false;
    let mut anchors = Vec::new();
    for line in markdown.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if fenced || !line.starts_with("##") || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        anchors.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    anchors
}

fn dependencies(path: &str, manifest: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut in_dependencies = false;
    for (number, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            in_dependencies = line.trim_end_matches(']').ends_with("dependencies");
            if line.contains("dependencies.") {
                complaints.push(format!(
                    "{path}:{}: a dependency in a table of its own has no place for its reason",
                    number + 1
                ));
            }
            continue;
        }
        let Some((name, value)) = line.split_once('=').filter(|(name, _)| in_dependencies && !name.starts_with('#'))
        else {
            continue;
        };
        let reason = value
            .rsplit_once('#')
            .is_some_and(|(before, reason)| before.matches('"').count().is_multiple_of(2) && reason.trim().len() > 3);
        if !reason {
            complaints.push(format!("{path}:{}: `{}` has no reason behind it (`# why`)", number + 1, name.trim()));
        }
        if has_word(value.split(" # ").next().unwrap_or(value), "git") {
            complaints.push(format!("{path}:{}: `{}` comes from git, not from a registry", number + 1, name.trim()));
        }
    }
    complaints
}

// -- reading the repository -------------------------------------------------------------------------------------------------

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file of the repository. Files that a `#[cfg(test)] mod name;` brings in are tests from end to end.
fn repository() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "bin", "tests", "benches", "bench-harness", "examples"] {
        collect(&root().join(folder), &mut files);
    }
    files.sort();
    let relative = |file: &PathBuf| file.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
    let mut sources: Vec<Source> = files.iter().map(relative).map(|path| Source::new(&path, &read(&path))).collect();
    let tests: BTreeSet<String> = sources.iter().flat_map(test_files).collect();
    for source in sources.iter_mut().filter(|source| tests.contains(&source.path)) {
        source.test.fill(true);
    }
    assert!(sources.len() > 40, "the sources are where they were");
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder of sources can be read").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn test_files(source: &Source) -> Vec<String> {
    let folder = source.path.strip_suffix("/mod.rs").or(source.path.strip_suffix("/lib.rs"));
    let folder = folder.unwrap_or(source.path.trim_end_matches(".rs"));
    let mut files = Vec::new();
    for (at, attribute) in source.code.match_indices("#[cfg(test)]") {
        let item = source.code[at + attribute.len()..].trim_start();
        let Some((head, _)) = item.split_once([';', '{']) else { continue };
        if let Some((_, name)) = head.split_once("mod ").filter(|_| item.as_bytes()[head.len()] == b';') {
            files.push(format!("{folder}/{}.rs", name.trim()));
        }
    }
    files
}

fn expect_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n  {}", complaints.len(), complaints.join("\n  "));
}

/// One planted file must be complained of so often.
fn expect_found(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str, times: usize) {
    let complaints = rule(&[Source::new(path, text)]);
    assert_eq!(complaints.len(), times, "{path}: {text:?}: {complaints:?}");
}

// -- the tests ------------------------------------------------------------------------------------------------------------

#[test]
fn a_module_uses_lower_layers_only() {
    expect_none(layers(&repository()));
}

#[test]
fn an_upward_import_is_found_however_it_is_written() {
    expect_found(layers, "src/log/walk.rs", "use crate::topic::index::Index;", 1);
    expect_found(layers, "src/log/walk.rs", "use crate::{ids::Epoch, topic::{index, reader}};", 2);
    expect_found(layers, "src/log/walk.rs", "fn f() { super::super::engine::open() }", 1);
    expect_found(layers, "src/log/mod.rs", "fn f() { super::engine::open() }", 1);
    expect_found(layers, "src/log/walk.rs", "mod tests { use super::super::super::commit::queue; }", 1);
    expect_found(layers, "src/log/walk.rs", "mod tests { use super::super::segment; use super::*; }", 0);
    expect_found(layers, "src/leader/mod.rs", "use crate::follower::apply;", 1);
    expect_found(layers, "src/client/mod.rs", "use crate::engine::Engine;", 1);
    expect_found(layers, "src/format/block.rs", "use crate::storage::Disk;", 1);
    expect_found(layers, "src/log/walk.rs", "// use crate::topic\nconst S: &str = \"crate::topic::x\";", 0);
    expect_found(layers, "src/surprise.rs", "", 1);
}

#[test]
fn format_and_wire_name_no_clock_no_file_no_thread_and_no_socket() {
    expect_none(purity(&repository()));
}

#[test]
fn an_impure_call_is_found() {
    expect_found(purity, "src/format/block.rs", "fn f() { std::fs::read(p) }", 1);
    expect_found(purity, "src/wire/frame.rs", "use std::{fmt, io::Read, time::Duration};", 1);
    expect_found(purity, "src/wire/leader.rs", "let now = Instant::now();", 1);
    expect_found(purity, "src/wire/leader.rs", "use std::time::{Duration, SystemTime};", 1);
    expect_found(purity, "src/wire/leader.rs", "use std::time::{Duration, Instant}; fn f(now: Instant) {}", 0);
    expect_found(purity, "src/wire/leader.rs", "tokio::spawn(x); rustix::fs::stat(p);", 2);
    expect_found(purity, "src/format/block.rs", "#[cfg(test)]\nmod tests { use std::fs::read; }", 0);
    expect_found(purity, "src/storage/dir.rs", "use std::fs::File;", 0);
}

#[test]
fn below_net_nobody_looks_at_a_clock_but_those_on_the_list() {
    expect_none(clocks(&repository()));
}

#[test]
fn a_clock_below_net_is_found() {
    expect_found(clocks, "src/commit/plan.rs", "let t = std::time::Instant::now();", 1);
    expect_found(clocks, "src/log/open.rs", "std::thread::sleep(d);", 1);
    expect_found(clocks, "src/topic/index.rs", "c.wait_timeout(g, d);", 1);
    expect_found(clocks, "src/node/mod.rs", "let t = Instant::now();", 0);
    expect_found(clocks, "src/log/keeper/mod.rs", "fn f() {}", 1); // a grant that nobody needs
}

#[test]
fn unsafe_stands_in_the_files_on_the_list_and_says_why_each_time() {
    expect_none(unsafe_code(&repository()));
}

#[test]
fn unsafe_elsewhere_or_without_its_reason_is_found() {
    expect_found(unsafe_code, "src/log/walk.rs", "fn f() { unsafe { x() } }", 1);
    expect_found(unsafe_code, "bin/main.rs", "unsafe fn f() {}", 1);
    expect_found(unsafe_code, "src/storage/uring.rs", "fn f() {\n    unsafe { x() }\n}", 1);
    expect_found(
        unsafe_code,
        "src/storage/uring.rs",
        "fn f() {\n    // SAFETY: it is\n    // ours.\n    unsafe { x() }\n}",
        0,
    );
    expect_found(unsafe_code, "src/storage/uring.rs", "// SAFETY: one\nlet a = y();\nunsafe { x() }", 1);
    expect_found(unsafe_code, "src/log/walk.rs", "// unsafe\nconst S: &str = \"unsafe\"; let not_unsafe = 1;", 0);
}

#[test]
fn the_program_has_no_hook_for_tests_but_the_simulated_disk() {
    expect_none(hooks(&repository()));
}

#[test]
fn a_hook_is_found() {
    expect_found(hooks, "src/log/open.rs", "#[cfg(test)]\nfn for_tests() {}", 1);
    expect_found(hooks, "src/log/open.rs", "#[cfg(not(test))]\nfn f() {}", 1);
    expect_found(hooks, "src/log/open.rs", "#[cfg(test)]\npub(crate) const ALL: &[u8] = &[1];", 0);
    expect_found(hooks, "src/log/open.rs", "if cfg!(test) { return; }", 1);
    expect_found(hooks, "src/log/open.rs", "#[cfg(any(test, feature = \"x\"))]\nfn f() {}", 1);
    expect_found(hooks, "src/log/open.rs", "fail_point!(\"before\");", 1);
    expect_found(hooks, "src/log/open.rs", "#[cfg(feature = \"sim\")]\nfn f() {}", 1);
    expect_found(hooks, "src/log/open.rs", "fn f(disk: &SimDisk) {}", 1);
    expect_found(hooks, "src/log/open.rs", "use crate::storage::sim::Fault;", 1);
    expect_found(hooks, "src/storage/sim.rs", "#[cfg(feature = \"sim\")]\nfn f(disk: &SimDisk) {}", 0);
    expect_found(hooks, "src/log/open.rs", "#[cfg(test)]\nmod tests {\n    use crate::storage::sim::SimDisk;\n}", 0);
    expect_found(hooks, "src/log/open.rs", "#[cfg_attr(not(test), expect(dead_code))]\nfn simple() {}", 0);
}

#[test]
fn no_line_has_more_than_140_columns() {
    expect_none(columns(&repository()));
}

#[test]
fn a_long_line_is_found() {
    expect_found(columns, "src/log/open.rs", &format!("// {}\n", "ä".repeat(138)), 1);
    expect_found(columns, "src/log/open.rs", &format!("// {}\n", "ä".repeat(137)), 0);
}

#[test]
fn no_function_of_the_program_has_more_than_100_lines() {
    expect_none(function_sizes(&repository()));
}

#[test]
fn a_long_function_is_found() {
    let long = format!("fn long(x: u8) -> u8 {{\n{}}}\nfn short() {{}}\n", "    let x = 1; // }\n".repeat(100));
    expect_found(function_sizes, "src/log/open.rs", &long, 1);
    expect_found(function_sizes, "src/log/open.rs", &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n"), 0);
    expect_found(function_sizes, "tests/it/main.rs", &long, 0);
    let just_right = format!("fn f() {{\n{}}}\n", "    x();\n".repeat(98));
    expect_found(function_sizes, "src/log/open.rs", &just_right, 0);
}

#[test]
fn nothing_is_left_to_do_later() {
    expect_none(unfinished(&repository()));
}

#[test]
fn unfinished_code_is_found() {
    expect_found(unfinished, "src/log/open.rs", "fn f() { todo!() }\nfn g() { unimplemented!(\"later\") }", 2);
    expect_found(unfinished, "src/log/open.rs", "// todo!()\nconst S: &str = r#\"todo!()\"#;", 0);
}

/// Guarantees whose row names no test, or one that is none: a function of that name right under a test's attribute.
fn guarantees(page: &str, sources: &[Source]) -> Vec<String> {
    let is_test = |name: &str| {
        sources.iter().any(|source| {
            source.code.match_indices(&format!("fn {name}(")).any(|(at, _)| {
                let above = source.code[..at].trim_end_matches("async ").trim_end();
                let attribute = above.lines().next_back().unwrap_or_default().trim();
                attribute == "#[test]" || attribute.starts_with("#[tokio::test")
            })
        })
    };
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit());
    let mut complaints = Vec::new();
    for row in rows {
        let (promise, proof) = row.trim_end_matches(" |").rsplit_once(" | ").unwrap_or((row, ""));
        let names: Vec<_> = proof.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            complaints.push(format!("{promise}: names no test"));
        }
        complaints.extend(names.iter().filter(|name| !is_test(name)).map(|name| format!("`{name}` is no test")));
    }
    complaints
}

#[test]
fn every_guarantee_names_tests_that_exist() {
    let page = read("docs/GUARANTEES.md");
    assert!(page.matches("\n| 1").count() > 5, "the table is there");
    expect_none(guarantees(&page, &repository()));
}

#[test]
fn a_guarantee_without_a_test_and_one_with_a_test_that_is_none_are_found() {
    let sources =
        [Source::new("tests/a.rs", "#[test]\nfn is_one() {}\n#[tokio::test]\nasync fn too() {}\nfn helper() {}\n")];
    let count = |proof: &str| guarantees(&format!("| | promise | proof |\n| 1 | Words | {proof} |\n"), &sources).len();
    assert_eq!(count("`is_one`, `too`"), 0);
    assert_eq!(count("trust us"), 1);
    assert_eq!(count("`is_one`, `helper`, `is_gone`"), 2);
}

#[test]
fn every_section_of_the_drawn_pages_is_cited_and_every_citation_has_its_section() {
    let sources = repository();
    for page in PAGES.iter().filter(|page| root().join(page).exists()) {
        expect_none(citations(page, &read(page), &sources));
    }
    assert!(root().join(PAGES[0]).exists());
}

#[test]
fn a_section_without_citation_and_a_citation_without_section_are_found() {
    let page = "# Title\n\n## Torn or damaged\n\n```\n## not a section\n```\n### Hint, and `clean`\n";
    let cites = |text| citations("docs/X.md", page, &[Source::new("src/log/open.rs", text)]).len();
    assert_eq!(anchors(page), ["torn-or-damaged", "hint-and-clean"]);
    assert_eq!(cites("// docs/X.md#torn-or-damaged, docs/X.md#hint-and-clean."), 0);
    assert_eq!(cites("// docs/X.md#torn-or-damaged"), 1);
    assert_eq!(cites("// docs/X.md#torn-or-damaged docs/X.md#hint-and-clean docs/X.md#torn"), 1);
}

#[test]
fn every_dependency_has_its_reason_and_comes_from_a_registry() {
    for path in ["Cargo.toml", "bench-harness/Cargo.toml"] {
        expect_none(dependencies(path, &read(path)));
    }
    assert!(!read("Cargo.lock").contains("source = \"git+"), "Cargo.lock names a git repository");
}

#[test]
fn a_dependency_without_reason_or_from_git_is_found() {
    let complaints =
        |line: &str| dependencies("Cargo.toml", &format!("[dependencies]\n{line}\n[lints.rust]\na = 1\n")).len();
    assert_eq!(complaints("bytes = \"1\"  # shared slices"), 0);
    assert_eq!(complaints("bytes = \"1\""), 1);
    assert_eq!(complaints("bytes = { version = \"1\", features = [\"#\"] }"), 1);
    assert_eq!(complaints("bytes = { git = \"https://x\" }  # the newest"), 1);
    assert_eq!(dependencies("Cargo.toml", "[dependencies.bytes]\nversion = \"1\"\n").len(), 1);
}
