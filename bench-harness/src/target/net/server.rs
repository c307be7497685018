//! Somebody else's server: a process that is started for a case, and gone with it, whatever happens.
//!
//! ```text
//!   start --port is free--> process --takes connections--> Server { cpu_time } --stop: SIGTERM, and SIGKILL if that is not heard
//! ```
//!
//! Knows nothing of what is said to it.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take until it takes connections, and until it has stopped.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// So much of what it said last stands in the message of its failure.
const LAST_WORDS_BYTES: usize = 600;

/// Those that run: a signal that ends this process ends them, too.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Kills every server that this process has started. For whoever ends the process without unwinding.
pub(crate) fn kill_all() {
    for pid in RUNNING.lock().expect("no holder of this lock panics").drain(..) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// What `program --version` says; `None` where there is no such program.
pub(super) fn version(program: &str) -> Option<String> {
    let said = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&said.stdout).trim().to_owned()).filter(|said| !said.is_empty())
}

/// A port that nobody listens on at this moment.
pub(super) fn free_port() -> Result<u16> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port on loopback")?;
    Ok(bound.local_addr()?.port())
}

/// A server that runs.
pub(super) struct Server {
    program: &'static str,
    child: Child,
    pid: Pid,
    address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts it in `folder`, and waits until it takes connections on `port`.
    pub(super) fn start(program: &'static str, args: &[String], folder: &Path, port: u16) -> Result<Server> {
        let log = folder.join(format!("{program}.log"));
        let said = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let mut command = Command::new(program);
        command.args(args).current_dir(folder).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child = command.spawn().with_context(|| format!("starting {program}"))?;
        let pid = Pid::from_child(&child);
        RUNNING.lock().expect("no holder of this lock panics").push(pid);
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let mut server = Server { program, child, pid, address, log };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let started = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once ({status}); it said:\n{}", self.program, self.last_words());
            }
            if started.elapsed() > PATIENCE {
                bail!(
                    "{} takes no connections on {} within {PATIENCE:?}; it said:\n{}",
                    self.program,
                    self.address,
                    self.last_words()
                );
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// A connection of which every write goes out at once.
    pub(super) fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address)
            .with_context(|| format!("connecting to {} on {}", self.program, self.address))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Processor time of all its threads so far, in the kernel's ticks.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let ticks = cpu_ticks(&stat)?;
        Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// Ends it in order.
    pub(super) fn stop(mut self) -> Result<()> {
        kill_process(self.pid, Signal::TERM).with_context(|| format!("telling {} to stop", self.program))?;
        let told = Instant::now();
        while self.child.try_wait()?.is_none() {
            if told.elapsed() > PATIENCE {
                bail!("{} does not stop; it said:\n{}", self.program, self.last_words());
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let from = said.len().saturating_sub(LAST_WORDS_BYTES);
        let from = (from..said.len()).find(|at| said.is_char_boundary(*at)).unwrap_or(said.len());
        said[from..].trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Off the list first: a number that is free again may be somebody else's.
        RUNNING.lock().expect("no holder of this lock panics").retain(|pid| *pid != self.pid);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The 14th and 15th field: user and system. The name before them is in brackets and may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_the_name) = stat.rsplit_once(')')?;
    let mut fields = behind_the_name.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_process_is_found_behind_whatever_its_name_is() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 41 27 0 0 20 0 1 0 5 1000 10";
        assert_eq!(cpu_ticks(stat), Some(68));
        assert_eq!(cpu_ticks("7 (short) S 1"), None);
    }

    #[test]
    fn a_server_that_ends_at_once_is_told_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let args = ["-c".into(), "echo no such luck; exit 3".into()];
        let error = Server::start("sh", &args, dir.path(), free_port().unwrap()).err().unwrap().to_string();
        assert!(error.contains("sh ended at once") && error.contains("no such luck"), "{error}");
        assert!(version("no-such-program-here").is_none());
    }
}
