//! A progress line on standard error, if that is a terminal.

use super::show;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The line appears after this time, so not for short operations.
const DELAY: Duration = Duration::from_millis(400);

/// Time between updates of the line.
const INTERVAL: Duration = Duration::from_millis(200);

/// The line, which is removed when this is dropped.
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
    /// Shows `text` and the elapsed time.
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

    /// Adds to the number of bytes, which is shown, too.
    pub fn add(&self, bytes: usize) {
        self.shared.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

fn draw(shared: &Shared) {
    let begun = Instant::now();
    let mut drawn = false;
    loop {
        std::thread::park_timeout(INTERVAL);
        if shared.end.load(Ordering::Acquire) {
            break;
        }
        if begun.elapsed() < DELAY {
            continue;
        }
        let bytes = match shared.bytes.load(Ordering::Relaxed) {
            0 => String::new(),
            bytes => format!(" {}", show::bytes(bytes)),
        };
        let text = show::clean(&shared.text);
        // If the terminal is gone, the operation continues without the line.
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
            // If the thread has panicked, nothing needs to be cleared.
            let _ = thread.join();
        }
    }
}
