//! How far a demo is: a bar on a terminal, a line a second elsewhere; both on stderr.

use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Calls of [`Progress::step`] in a demo.
const STEPS: u64 = 12;

/// Shows which step is under way.
pub(super) enum Progress {
    Bar(ProgressBar),
    Lines(Lines),
}

/// A thread says every second what is being done.
pub(super) struct Lines {
    doing: Arc<Mutex<&'static str>>,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    pub(super) fn start() -> Progress {
        if stderr().is_terminal() { Progress::bar() } else { Progress::Lines(Lines::start()) }
    }

    fn bar() -> Progress {
        let bar = ProgressBar::new(STEPS);
        let style = ProgressStyle::with_template("{bar:24} {pos:>2}/{len} {msg}").expect("the template is right");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress::Bar(bar)
    }

    /// The next step begins.
    pub(super) fn step(&self, doing: &'static str) {
        match self {
            Progress::Bar(bar) => {
                bar.inc(1);
                bar.set_message(doing);
            }
            Progress::Lines(lines) => *lines.doing.lock().expect("no holder of this lock panics") = doing,
        }
    }

    /// The last step is over.
    pub(super) fn finish(self) {}
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Progress::Bar(bar) = self {
            // Errors and results are printed where the bar was.
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    fn start() -> Lines {
        let doing = Arc::new(Mutex::new("starting"));
        let (stop, stopped) = channel::<()>();
        let (said, started) = (Arc::clone(&doing), Instant::now());
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                let doing = *said.lock().expect("no holder of this lock panics");
                eprintln!("{:>3} s  {doing}", started.elapsed().as_secs());
            }
        });
        Lines { doing, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
