//! A log as a SIGKILL under load leaves it: a child process of this program fills it, says how much was acknowledged, goes on, and is
//! killed.
//!
//! ```text
//!   parent --spawn--> child: open, append ... "filled 4000000" --stdout--> parent --SIGKILL--> child, still appending
//! ```
//!
//! Knows targets by their contract.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;

use crate::device::Device;
use crate::load::Next;
use crate::plan::{CasePlan, FLOOR_TIME, Plan};
use crate::round::Bench;
use crate::target::{self, Kind};

/// The word before the count, on the child's stdout.
const FILLED: &str = "filled";

/// Fill a log and go on until killed
#[derive(Args)]
pub(crate) struct FillArgs {
    #[arg(long)]
    target: String,
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    seed: u64,
}

/// Fills a log in `folder` with what the case asks for, and kills the process that did. Returns the entries that were acknowledged.
pub(crate) fn by_a_child_that_is_killed(target: &str, case: &CasePlan, folder: &Path, seed: u64) -> Result<u64> {
    let program = std::env::current_exe().context("the path of this program")?;
    let mut child = Command::new(program)
        .args(["fill", "--target", target, "--seed", &seed.to_string(), "--folder"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the process that fills the log")?;
    let filled = tell_and_hear(&mut child, case);
    // Whatever it said: it is killed, and under load if it did well.
    child.kill().context("killing the process that fills the log")?;
    let status = child.wait()?;
    filled.with_context(|| format!("the process that fills the log ended with {status}"))
}

fn tell_and_hear(child: &mut std::process::Child, case: &CasePlan) -> Result<u64> {
    let mut stdin = child.stdin.take().expect("it is piped");
    let stdout = child.stdout.take().expect("it is piped");
    let plan = Plan { floor_time: FLOOR_TIME, cases: vec![case.clone()] }.echo();
    writeln!(stdin, "{plan}{END}")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    drop(stdin);
    let count = line.trim_end().strip_prefix(FILLED).map(str::trim);
    count.and_then(|count| count.parse().ok()).ok_or_else(|| anyhow!("it said {line:?} and no count"))
}

/// The line behind the plan on stdin, which stays open as long as the parent lives.
const END: &str = "# end";

/// The child: reads its case from stdin, fills, says so, and goes on for ever.
pub(crate) fn run(args: &FillArgs) -> Result<()> {
    let case = read_case()?;
    // Without a parent nobody would kill it.
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let kinds = target::all(false);
    let kind = kinds.iter().find(|kind| kind.name() == args.target && kind.refuses(&case.spec).is_none());
    let kind: &dyn Kind = &**kind.with_context(|| format!("no target {:?} does this case", args.target))?;
    let device = Device::under(&args.folder, None);
    let bench = Bench { device: &device, counts_flushes: false, seed: args.seed };
    let target = kind.open(&args.folder, &case.spec)?;
    bench.fill_and(&*target, &case, &|entries| {
        println!("{FILLED} {entries}");
        Next::GoOn
    })?;
    bail!("nobody killed the process that fills the log")
}

fn read_case() -> Result<CasePlan> {
    let lines = std::io::stdin().lines().take_while(|line| line.as_ref().is_ok_and(|line| line != END));
    let text: String = lines.map(|line| line.map(|line| line + "\n")).collect::<std::io::Result<_>>()?;
    let mut plan = Plan::parse(&text)?;
    ensure!(plan.cases.len() == 1, "one case is to be filled, {} came", plan.cases.len());
    Ok(plan.cases.remove(0))
}
