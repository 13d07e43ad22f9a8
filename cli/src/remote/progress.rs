//! One line on standard error that shows that something goes on, if that is a terminal.

use super::show;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Before this nothing is shown: what is quick needs no line.
const QUIET: Duration = Duration::from_millis(400);

/// Between two changes of the line.
const STEP: Duration = Duration::from_millis(200);

/// The line; it goes when this is dropped.
pub struct Progress {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    text: String,
    bytes: AtomicU64,
    end: AtomicBool,
}

impl Progress {
    /// Shows `text` and for how long it has been going on.
    pub fn start(text: impl Into<String>) -> Progress {
        let shared = Arc::new(Shared {
            text: text.into(),
            bytes: AtomicU64::new(0),
            end: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let visible = std::io::stderr().is_terminal();
        let thread = visible.then(|| std::thread::spawn(move || draw(&for_thread)));
        Progress { shared, thread }
    }

    /// Counts bytes, which are then shown too.
    pub fn add(&self, bytes: usize) {
        self.shared.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

fn draw(shared: &Shared) {
    let begun = Instant::now();
    let mut drawn = false;
    loop {
        std::thread::park_timeout(STEP);
        if shared.end.load(Ordering::Acquire) {
            break;
        }
        if begun.elapsed() < QUIET {
            continue;
        }
        let bytes = match shared.bytes.load(Ordering::Relaxed) {
            0 => String::new(),
            bytes => format!(" {}", show::bytes(bytes)),
        };
        let text = show::clean(&shared.text);
        // A terminal that is gone shows nothing; that is no reason to stop.
        let _ = write!(std::io::stderr(), "\r\x1b[K{text} …{bytes} {}s", begun.elapsed().as_secs());
        drawn = true;
    }
    if drawn {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It only draws; if it has died, there is nothing to clear.
            let _ = thread.join();
        }
    }
}
