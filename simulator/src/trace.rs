//! What happened, for people: one line an event, with the simulated time and who did it.

use std::cell::RefCell;
use std::fmt::Write as _;

/// The lines of a schedule. Nothing is formatted when nobody asked for it.
#[derive(Debug, Default)]
pub struct Trace {
    wanted: bool,
    lines: Vec<String>,
}

impl Trace {
    /// A trace that records, or one that does not.
    pub fn new(wanted: bool) -> Trace {
        Trace { wanted, lines: Vec::new() }
    }

    /// Adds a line.
    pub fn add(&mut self, now_us: u64, actor: &str, text: impl FnOnce() -> String) {
        if self.wanted {
            let (seconds, micros) = (now_us / 1_000_000, now_us % 1_000_000);
            self.lines.push(format!("{seconds:>5}.{micros:06} {actor:<10} {}", text()));
        }
    }

    /// The lines, with those that the log has received in between.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// Whether lines are recorded.
    pub fn wanted(&self) -> bool {
        self.wanted
    }
}

thread_local! {
    static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Capture;

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut line = String::new();
        let _ = write!(line, "{} {}", record.level().as_str().to_lowercase(), record.args());
        LOGGED.with(|logged| logged.borrow_mut().push(line));
    }

    fn flush(&self) {}
}

/// Makes what the simulated processes log part of the trace of this thread.
pub fn capture_log() {
    static LOGGER: Capture = Capture;
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(log::LevelFilter::Off);
    }
}

/// Whether what is logged is wanted at all.
pub fn listen(wanted: bool) {
    let level = if wanted { log::LevelFilter::Debug } else { log::LevelFilter::Off };
    log::set_max_level(level);
    drop(logged());
}

/// What has been logged on this thread since the last call.
pub fn logged() -> Vec<String> {
    LOGGED.with(|logged| std::mem::take(&mut *logged.borrow_mut()))
}
