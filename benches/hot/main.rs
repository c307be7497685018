//! What every entry goes through, one thing at a time: timed for people, and counted in instructions for the gate.
//!
//! ```text
//!   cargo bench                                                              times, with divan
//!   cargo bench --no-default-features --bench hot -- --count                 instructions against benches/instructions.txt
//!   cargo bench --no-default-features --bench hot -- --count --update        the same, and writes that file anew
//! ```
//!
//! Times move with the machine and with whoever shares it. Instructions do not, so a change of two per cent is one of the program.
//!
//! The pure modules are private, and the program has no hook for tests. So they are compiled here once more, from the same files; what
//! needs the rest of the engine goes through its public interface (`subjects`).

mod callgrind;
mod kept;
mod subjects;

// The engine's own files, those without I/O, in their own tree: `crate::format` is the same module here as there.
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the engine uses the rest")]
#[path = "../../src/format/mod.rs"]
mod format;
#[allow(dead_code, unreachable_pub, reason = "the engine uses the rest")]
#[path = "../../src/ids.rs"]
mod ids;
#[allow(dead_code, unreachable_pub, reason = "the engine uses the rest")]
#[path = "../../src/limits.rs"]
mod limits;
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the engine uses the rest")]
#[path = "../../src/lsn.rs"]
mod lsn;

/// From a submission to the shape of its group.
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the engine uses the rest")]
#[path = "../../src/commit"]
mod commit {
    pub(crate) mod early_block;
    pub(crate) mod error;
    pub(crate) mod plan;
    pub(crate) mod staging;
    pub(crate) mod submission;
    pub(crate) mod ticket;
}

/// What a sink is.
#[allow(dead_code, unused_imports, reason = "the engine uses the rest")]
#[path = "../../src/log"]
mod log {
    pub(crate) mod meta;
}

/// Where the entries of a topic lie.
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the engine uses the rest")]
#[path = "../../src/topic"]
mod topic {
    pub(crate) mod index;
}

use std::process::ExitCode;

use self::subjects::{SUBJECTS, Subject};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--count"] => gate(false),
        ["--count", "--update"] => gate(true),
        [callgrind::ONE, name] => callgrind::run_one(find(name)),
        _ => {
            divan::main();
            ExitCode::SUCCESS
        }
    }
}

fn find(name: &str) -> &'static Subject {
    SUBJECTS.iter().find(|subject| subject.name == name).expect("the name comes from the same table")
}

#[divan::bench(args = SUBJECTS.iter().map(|subject| subject.name))]
fn hot(bencher: divan::Bencher<'_, '_>, name: &str) {
    bencher.bench_local((find(name).prepare)());
}

/// Counts every subject, and holds the counts against those that are kept, or keeps them.
fn gate(update: bool) -> ExitCode {
    match count_and_compare(update) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn count_and_compare(update: bool) -> Result<bool, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
    let with = callgrind::tools()?;
    let counts = SUBJECTS.iter().map(|subject| Ok((subject.name.to_owned(), callgrind::count(subject)?)));
    let now = kept::Counts { with, counts: counts.collect::<Result<_, String>>()? };
    let before = match std::fs::read_to_string(path) {
        Ok(text) => kept::Counts::parse(&text).map_err(|wrong| format!("{path}: {wrong}"))?,
        Err(_) if update => kept::Counts::default(),
        Err(error) => return Err(format!("{path} cannot be read: {error}; `--count --update` writes it")),
    };
    let comparison = kept::compare(&before, &now);
    print!("{comparison}");
    if update {
        std::fs::write(path, now.to_string()).map_err(|error| format!("{path} cannot be written: {error}"))?;
        println!("written: {path}");
    }
    Ok(update || comparison.is_same())
}
