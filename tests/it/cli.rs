//! Running the command as people and scripts do: arguments and stdin in; stdout, stderr and exit code out.
//!
//! Nothing here sleeps to prove something: every wait has a condition, and a deadline that fails the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use walrus_node::certs::{self, Request, Role};

/// No command of these tests takes as long, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("stdout is UTF-8")
    }

    /// One JSON value a line.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }

    /// Ended with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Done {
        self.with(0)
    }

    /// Ended with that code, and, unless it is 0, with an error that says what to do next.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Done {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", String::from_utf8_lossy(&self.out), self.err);
        self
    }

    /// The line of stderr that says what failed.
    #[track_caller]
    pub(crate) fn error(&self) -> &str {
        let line = self.err.lines().find_map(|line| line.strip_prefix("error: "));
        line.unwrap_or_else(|| panic!("no error is told: {}", self.err))
    }

    /// The next command to type.
    #[track_caller]
    pub(crate) fn hint(&self) -> &str {
        let line = self.err.lines().find_map(|line| line.strip_prefix("hint: "));
        line.unwrap_or_else(|| panic!("no hint is given: {}", self.err))
    }
}

/// A command that is not started yet. Of the environment only `WALRUS_IO` reaches it: what is set here must not change a test.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walrus-node"));
    let ours = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("WALRUS_") && name != "WALRUS_IO");
    ours.for_each(|name| {
        command.env_remove(name);
    });
    command.env_remove("RUST_LOG").args(args);
    command
}

/// Runs a command with nothing on stdin.
pub(crate) fn walrus(args: &[&str]) -> Done {
    walrus_fed(args, b"")
}

/// Runs a command with `input` on stdin.
pub(crate) fn walrus_fed(args: &[&str], input: &[u8]) -> Done {
    run(&mut command(args), input)
}

/// Runs a command that was made ready.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Done {
    let mut running = Running::start(command);
    let (mut stdin, input) = (running.stdin.take().unwrap(), input.to_vec());
    // A command that ends before it has read everything closes the pipe: that is its right.
    thread::spawn(move || stdin.write_all(&input));
    running.end()
}

/// A command that runs. It is killed with the value.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    err: Option<JoinHandle<String>>,
    err_lines: Receiver<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let (err, err_lines) = follow(child.stderr.take().unwrap());
        let stdout = Some(BufReader::new(child.stdout.take().unwrap()));
        Running { stdin: child.stdin.take(), child, stdout, err: Some(err), err_lines }
    }

    /// Writes to its stdin and leaves that open.
    pub(crate) fn feed(&mut self, input: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is still open");
        stdin.write_all(input.as_bytes()).expect("the command reads");
    }

    /// Its stdin, to feed from another thread.
    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("stdin is still open")
    }

    /// The next line of its stdout; a test that waits in vain is ended by the deadline.
    pub(crate) fn line(&mut self) -> String {
        let pid = self.child.id();
        let (done, waits) = channel::<()>();
        let watchdog = thread::spawn(move || {
            if waits.recv_timeout(DEADLINE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                kill(pid, "KILL");
            }
        });
        let mut line = String::new();
        self.stdout.as_mut().expect("stdout is still ours").read_line(&mut line).expect("stdout can be read");
        drop(done);
        watchdog.join().unwrap();
        assert!(line.ends_with('\n'), "the command printed no line before its end or the deadline: {line:?}");
        line.trim_end_matches('\n').to_owned()
    }

    /// Waits for a line of its stderr that has `part` in it.
    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.err_lines.recv_timeout(left) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("{part:?} was not said: {seen:#?}"),
            }
        }
    }

    /// Closes its stdout at our end.
    pub(crate) fn stop_listening(&mut self) {
        self.stdout = None;
    }

    pub(crate) fn kill(&self, signal: &str) {
        kill(self.child.id(), signal);
    }

    /// Closes stdin, takes what comes, and waits for the end.
    pub(crate) fn end(mut self) -> Done {
        self.stdin = None;
        let stdout = self.stdout.take();
        let reading = thread::spawn(move || {
            let mut out = Vec::new();
            if let Some(mut stdout) = stdout {
                stdout.read_to_end(&mut out).expect("stdout can be read");
            }
            out
        });
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                break status;
            }
            assert!(Instant::now() < deadline, "the command does not end");
            thread::sleep(Duration::from_millis(2));
        };
        let err = self.err.take().unwrap().join().unwrap();
        Done { code: status.code().unwrap_or(-1), out: reading.join().unwrap(), err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(stderr: ChildStderr) -> (JoinHandle<String>, Receiver<String>) {
    let (sender, lines) = channel();
    let all = thread::spawn(move || {
        let mut all = String::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            all.push_str(&line);
            all.push('\n');
            let _ = sender.send(line);
        }
        all
    });
    (all, lines)
}

fn kill(pid: u32, signal: &str) {
    let killed = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(killed.expect("there is a kill command").success());
}

/// Tries until it holds.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A path as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().expect("a path of these tests is UTF-8")
}

/// A CA in a folder, and certificates of it.
pub(crate) struct Pki {
    dir: PathBuf,
}

impl Pki {
    pub(crate) fn new(dir: &Path) -> Pki {
        let dir = dir.join("pki");
        certs::init(&dir, "test").unwrap();
        Pki { dir }
    }

    /// The folder with a certificate of that name.
    pub(crate) fn issue(&self, name: &str, role: Role) -> PathBuf {
        let request = Request { name: name.into(), role, topics: Vec::new(), hosts: Vec::new() };
        certs::issue(&self.dir, &request).unwrap()
    }
}

/// A node that listens.
pub(crate) struct Node {
    pub(crate) process: Running,
    pub(crate) address: String,
}

impl Node {
    /// Starts `serve` on a folder, with a free port or the one that it had, and waits until it listens.
    pub(crate) fn start(data: &Path, tls: &Path, listen: &str, follow: Option<&str>) -> Node {
        let mut args =
            vec!["serve", "--data", arg(data), "--tls", arg(tls), "--listen", listen, "--admin", "127.0.0.1:0"];
        args.extend(follow.iter().flat_map(|leader| ["--follow", leader]));
        let process = Running::start(&mut command(&args));
        let line = process.wait_for_log("listening on ");
        let address = line.split("listening on ").nth(1).unwrap().trim().to_owned();
        Node { process, address }
    }

    /// SIGTERM, and an end in good order.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.process.kill("TERM");
        self.process.end().ok();
    }
}
