//! Writing to the console without blocking.
//!
//! A serial line that nobody reads, or that has flow control enabled, must not block PID 1 (it has
//! blocked systemd: #29095, #30420). The descriptor is non-blocking; output that does not fit is
//! kept in a bounded queue, and lines that do not fit there are counted and reported as lost.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Size of the queue for a slow console, in bytes.
const QUEUE: usize = 64 * 1024;

/// A process's connection to the console.
pub struct Console {
    file: Option<File>,
    queue: VecDeque<u8>,
    lost: u64,
}

impl Console {
    /// Opens `/dev/console`. If there is none, all output is discarded.
    pub fn open() -> Console {
        let file = File::options()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open("/dev/console")
            .ok();
        Console { file, queue: VecDeque::new(), lost: 0 }
    }

    /// A console on any writable file, for tests.
    pub fn on(file: File) -> Console {
        Console { file: Some(file), queue: VecDeque::new(), lost: 0 }
    }

    /// Prints one line (the line ending is added), now or as soon as the console accepts it. If the
    /// queue is full, the whole line is dropped and counted.
    pub fn line(&mut self, text: &str) {
        if self.file.is_none() {
            return;
        }
        if self.queue.len() + text.len() + 64 > QUEUE {
            self.lost += 1;
        } else {
            if self.lost > 0 {
                let note = format!("  ({} lines lost: the console is slow)\r\n", self.lost);
                self.queue.extend(note.as_bytes());
                self.lost = 0;
            }
            self.queue.extend(text.as_bytes());
            self.queue.extend(b"\r\n");
        }
        self.flush();
    }

    /// Writes as much as the console accepts now.
    pub fn flush(&mut self) {
        let Some(file) = &mut self.file else { return };
        while !self.queue.is_empty() {
            let (front, _) = self.queue.as_slices();
            match file.write(front) {
                Ok(0) => return,
                Ok(written) => drop(self.queue.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    // The terminal has hung up: nothing in the queue can be shown.
                    self.queue.clear();
                    return;
                }
            }
        }
    }

    /// The descriptor to poll for `POLLOUT` while output is queued.
    pub fn waiting(&self) -> Option<BorrowedFd<'_>> {
        if self.queue.is_empty() { None } else { self.file.as_ref().map(AsFd::as_fd) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    #[test]
    fn a_console_that_nobody_reads_never_blocks_and_reports_lost_lines() {
        let mut fds = [0; 2];
        // SAFETY: `fds` has space for the two descriptors that pipe2 writes.
        assert_eq!(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) }, 0);
        use std::os::fd::FromRawFd;
        // SAFETY: pipe2 has just created both, and nothing else owns them.
        let [read, write] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let mut console = Console::on(File::from(write));
        for number in 0..20_000 {
            console.line(&format!("line {number}"));
        }
        assert!(console.lost > 0);
        let mut read = File::from(read);
        let mut seen = Vec::new();
        let mut chunk = vec![0; 65536];
        while console.waiting().is_some() {
            let got = read.read(&mut chunk).unwrap();
            seen.extend_from_slice(&chunk[..got]);
            console.flush();
        }
        console.line("after");
        let got = read.read(&mut chunk).unwrap();
        seen.extend_from_slice(&chunk[..got]);
        let text = String::from_utf8(seen).unwrap();
        let lost: u64 = text
            .lines()
            .find_map(|l| l.trim().strip_prefix('(')?.split(' ').next()?.parse().ok())
            .unwrap();
        assert_eq!(text.lines().filter(|l| l.starts_with("line ")).count() as u64 + lost, 20_000);
        assert!(text.ends_with("after\r\n"));
    }
}
