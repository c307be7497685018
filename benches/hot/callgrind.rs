//! How many instructions one call of a subject takes, by valgrind's callgrind.
//!
//! ```text
//!   this program --valgrind--> this program, one subject:   prepare | counted( call call call ... ) | counted( ... ) | ...
//!                                                            nothing   a part of the profile each: their median / calls
//! ```
//!
//! Callgrind collects inside [`walrus_counted`] only, and only in the thread that is in it: what is prepared, and what the log's own
//! threads do beside it, is not in the count. Nor is the kernel.
//!
//! The C library chooses how it copies and fills by the processor, and where it repeats one instruction for every byte, callgrind counts
//! each byte. So it is told of a plain processor: the counts are then those of any machine of the architecture.
//!
//! The median of several parts, since the log's own threads may hold a lock just then; what is pure gives the same number each time.
//!
//! Knows nothing of what is counted, nor of what the counts are held against.

use std::process::{Command, ExitCode, Stdio};

use crate::subjects::Subject;

/// The word that asks this program to do one subject: within valgrind.
pub(crate) const ONE: &str = "--one";

/// Parts of the profile: an odd number, for the median.
const PARTS: usize = 5;

/// What the C library is to leave alone of the processor.
const PLAIN_PROCESSOR: &str = "glibc.cpu.hwcaps=-ERMS,-FSRM,-AVX2,-AVX_Fast_Unaligned_Load,-AVX512F,-AVX512VL";

/// The name of [`walrus_counted`] for callgrind; spelled out, since a pattern does not work for both of its options.
const COUNTED: &str = concat!(module_path!(), "::walrus_counted");

/// Does `calls` calls: callgrind collects from its beginning to its end.
#[inline(never)]
fn walrus_counted(work: &mut dyn FnMut(), calls: u32) {
    for _ in 0..calls {
        work();
    }
}

/// Within valgrind: does what is counted.
pub(crate) fn run_one(subject: &Subject) -> ExitCode {
    let mut work = (subject.prepare)();
    // Once for what only the first call has to do: tables that are filled on demand, memory that is kept for the next.
    work();
    for _ in 0..PARTS {
        walrus_counted(&mut *work, subject.calls);
    }
    ExitCode::SUCCESS
}

/// Instructions of one call.
pub(crate) fn count(subject: &Subject) -> Result<u64, String> {
    let name = subject.name;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|error| format!("no folder: {error}"))?;
    let program = std::env::current_exe().map_err(|error| format!("this program has no path: {error}"))?;
    let run = valgrind()
        .env("GLIBC_TUNABLES", PLAIN_PROCESSOR)
        .arg("--tool=callgrind")
        .args([format!("--toggle-collect={COUNTED}"), format!("--dump-after={COUNTED}")])
        .arg(format!("--callgrind-out-file={}", folder.path().join("out").display()))
        .arg(program)
        .args([ONE, name])
        .stdin(Stdio::null())
        .output()
        .map_err(not_started)?;
    if !run.status.success() {
        return Err(format!("{name}: valgrind ended with {}:\n{}", run.status, String::from_utf8_lossy(&run.stderr)));
    }
    let mut parts = Vec::new();
    for entry in folder.path().read_dir().map_err(|error| format!("{name}: no profile: {error}"))? {
        let path = entry.map_err(|error| format!("{name}: no profile: {error}"))?.path();
        let profile = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        parts.extend(part(&profile));
    }
    if parts.len() != PARTS {
        return Err(format!("{name}: {} parts with instructions in them, not {PARTS}: {parts:?}", parts.len()));
    }
    parts.sort_unstable();
    Ok(parts[PARTS / 2] / u64::from(subject.calls))
}

/// The instructions of a part of a profile; none in the last one, which was written when the program ended.
fn part(profile: &str) -> Option<u64> {
    let line = profile.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok().filter(|instructions| *instructions > 0)
}

/// What the counts depend on beside the program.
pub(crate) fn tools() -> Result<String, String> {
    let version = |mut command: Command| {
        let output = command.arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let valgrind = version(valgrind()).ok_or("valgrind is not there; hint: apt-get install valgrind")?;
    let rustc = version(Command::new("rustc")).unwrap_or_else(|| "rustc".to_owned());
    let rustc: Vec<_> = rustc.split_whitespace().take(2).collect();
    Ok(format!("{}, {valgrind}, {}", rustc.join(" "), cpu()))
}

/// XXH3 takes what the CPU has.
fn cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    let has_avx2 = std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let has_avx2 = false;
    format!("{}{}", std::env::consts::ARCH, if has_avx2 { " with avx2" } else { "" })
}

fn valgrind() -> Command {
    Command::new("valgrind")
}

fn not_started(error: std::io::Error) -> String {
    format!("valgrind cannot be started: {error}; hint: apt-get install valgrind")
}
