//! The nodes of a demo: children of this program, each `walrus-node serve`.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use walrus_node::{Client, IoMode};

use crate::fail::{Exit, Failure};

/// How long a node may take to listen. A folder is let go up to two seconds after its process was killed.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// How long a node may take to stop in order: it ships what is durable first.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// Log lines that are kept, for the message when a node fails.
const LOG_LINES_MAX: usize = 20;

/// Where the nodes live.
pub(super) struct Nodes {
    pub(super) folder: PathBuf,
    pub(super) io: IoMode,
}

/// How a node is started.
pub(super) struct Plan {
    name: &'static str,
    data: PathBuf,
    tls: PathBuf,
    listen: String,
    follow: Option<String>,
    io: IoMode,
}

impl Nodes {
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn plan(&self, name: &'static str, follow: Option<String>) -> Plan {
        let (data, tls) = (self.data(name), self.folder.join("pki").join(name));
        // Any free port; a node that comes back is told the one it had.
        Plan { name, data, tls, listen: "127.0.0.1:0".to_owned(), follow, io: self.io }
    }

    pub(super) fn leader(&self) -> Plan {
        self.plan("leader", None)
    }

    pub(super) fn follower(&self, leader: &str) -> Plan {
        self.plan("follower", Some(leader.to_owned()))
    }

    /// A connection to one of them.
    pub(super) async fn connect(&self, address: &str) -> Result<Client, Failure> {
        let tls = self.folder.join("pki").join("me");
        Client::connect(address, &tls).await.map_err(|error| super::load::failed(&error))
    }
}

impl Plan {
    /// At this address, the one it had.
    pub(super) fn at(self, listen: &str) -> Plan {
        Plan { listen: listen.to_owned(), ..self }
    }

    fn command(&self) -> std::io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--io").arg(self.io.to_string()).arg("serve");
        command.arg("--data").arg(&self.data).arg("--tls").arg(&self.tls);
        command.args(["--listen", &self.listen, "--admin", "127.0.0.1:0"]);
        if let Some(leader) = &self.follow {
            command.args(["--follow", leader]);
        }
        // What a user has set for nodes of their own is not meant for these.
        for name in ["WALRUS_FOLLOW", "WALRUS_SLOT", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        // The address is told in a log line. Ctrl-C is ours: a group of their own keeps it from them.
        command.env("RUST_LOG", "info").env("NO_COLOR", "1").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(command)
    }
}

/// A node that runs. It is killed when this goes.
pub(super) struct Running {
    name: &'static str,
    child: Child,
    address: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Running {
    /// Starts a node and waits until it listens.
    pub(super) async fn start(plan: &Plan) -> Result<Running, Failure> {
        let cannot = |error| Failure::new(Exit::Failed, format!("cannot start the {}: {error}", plan.name));
        let mut child = plan.command().and_then(|mut command| command.spawn()).map_err(cannot)?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let listening = follow_log(&mut child, Arc::clone(&log));
        let mut node = Running { name: plan.name, child, address: String::new(), log };
        match tokio::time::timeout(START_PATIENCE, listening).await {
            Ok(Ok(address)) => node.address = address,
            Ok(Err(_)) => return Err(node.failed("ended before it listened")),
            Err(_) => return Err(node.failed("does not listen")),
        }
        Ok(node)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// SIGKILL.
    pub(super) fn kill(mut self) -> Result<(), Failure> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(|_| ()).map_err(|error| self.failed(&format!("cannot be killed: {error}")))
    }

    /// SIGTERM, and the end in good order that must follow.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        let pid = rustix::process::Pid::from_child(&self.child);
        let sent = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        sent.map_err(|error| self.failed(&format!("cannot be stopped: {error}")))?;
        let started = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.failed(&format!("did not stop in order ({status})"))),
                Err(error) => return Err(self.failed(&error.to_string())),
                Ok(None) if started.elapsed() > STOP_PATIENCE => return Err(self.failed("does not stop")),
                Ok(None) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    fn failed(&self, what: &str) -> Failure {
        let log = self.log.lock().expect("no holder of this lock panics").join("\n  ");
        Failure::new(Exit::Failed, format!("the {} {what}; its last words:\n  {log}", self.name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A child that is gone already is no error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps the last log lines of a node, and tells its address once it says so.
fn follow_log(child: &mut Child, log: Arc<Mutex<Vec<String>>>) -> oneshot::Receiver<String> {
    let (sender, listening) = oneshot::channel();
    let stderr = child.stderr.take().expect("stderr is piped");
    thread::spawn(move || {
        let mut sender = Some(sender);
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let address = line.split_once("listening on ").map(|(_, address)| address.trim().to_owned());
            if let (Some(address), Some(sender)) = (address, sender.take_if(|_| line.contains("listening on "))) {
                let _ = sender.send(address);
            }
            let mut log = log.lock().expect("no holder of this lock panics");
            if log.len() == LOG_LINES_MAX {
                log.remove(0);
            }
            log.push(line);
        }
    });
    listening
}
