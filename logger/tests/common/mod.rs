//! The role of PID 1 for a logger under test.

// Each test file uses only a part of it.
#![allow(dead_code)]

use ipc::DataDisk;
use ipc::{Channel, FromInit, ToInit};
use logger::{Config, Line, Reader};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use units::model::LogPolicy;

/// Longer than any test takes.
pub const NEVER: Duration = Duration::from_secs(3600);

/// A temporary directory for a test, removed when dropped. `run` is the logger's directory in
/// memory, `data` the data disk.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("logger-it-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(path.join("data")).unwrap();
        Dir(path)
    }

    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    pub fn reader(&self, unit: &str) -> Reader {
        Reader::open(&self.run().join(unit).join("ring")).unwrap()
    }

    /// Everything in the ring.
    pub fn ring(&self, unit: &str) -> Vec<Line> {
        self.reader(unit).since(0, usize::MAX).unwrap()
    }

    /// The lines of all log files, oldest first, while the logger is not writing.
    pub fn files(&self, unit: &str) -> Vec<FileLine> {
        let lines = self.read_files(unit);
        for line in &lines {
            assert!(line.ends_with(b"\n"), "every file ends with a line");
        }
        lines.iter().map(|line| FileLine::parse(line)).collect()
    }

    /// The same while the logger is writing: an incomplete line is ignored. (On a full disk, a part
    /// of a line is written and later removed.)
    pub fn files_so_far(&self, unit: &str) -> Vec<FileLine> {
        let lines = self.read_files(unit);
        let whole = lines.iter().filter(|line| line.ends_with(b"\n"));
        whole.map(|line| FileLine::parse(line)).collect()
    }

    fn read_files(&self, unit: &str) -> Vec<Vec<u8>> {
        let dir = self.data().join("logs").join(unit);
        let mut names: Vec<(u64, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if stem != "next" {
                names.push((stem.parse().unwrap_or(0), path));
            }
        }
        names.sort();
        let mut lines = Vec::new();
        for (_, path) in names.into_iter().rev() {
            let bytes = std::fs::read(&path).unwrap();
            lines.extend(bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        }
        lines
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // Some tests mount file systems here, which keep the directory from being removed.
        for mounted in [self.run(), self.data()] {
            let _ = nix::mount::umount2(&mounted, nix::mount::MntFlags::MNT_DETACH);
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLine {
    pub stream: String,
    pub tag: String,
    pub generation: u64,
    pub seq: u64,
    pub text: Vec<u8>,
}

impl FileLine {
    fn parse(line: &[u8]) -> FileLine {
        let line = line.strip_suffix(b"\n").unwrap();
        let words: Vec<&[u8]> = line.splitn(6, |byte| *byte == b' ').collect();
        let word = |index: usize| String::from_utf8(words[index].to_vec()).unwrap();
        FileLine {
            stream: word(1),
            tag: word(2),
            generation: word(3).parse().unwrap(),
            seq: word(4).parse().unwrap(),
            text: words[5].to_vec(),
        }
    }
}

/// The state that PID 1 keeps for a logger.
pub struct Init {
    pub link: Channel,
    pub kept: Vec<(String, [OwnedFd; 2])>,
    pub data: Option<PathBuf>,
    pub ready: u64,
}

impl Init {
    /// PID 1's end and the logger's.
    pub fn new(data: Option<PathBuf>) -> (Init, Channel) {
        let (link, other) = Channel::pair().unwrap();
        (Init { link, kept: Vec::new(), data, ready: 0 }, other)
    }

    /// Stores the pipes of a new run and passes copies to the logger.
    pub fn store(&mut self, unit: &str, generation: u64, pipes: [OwnedFd; 2]) {
        let key = format!("log/{unit}/{generation}");
        self.hand_over(&key, &pipes);
        self.kept.push((key, pipes));
    }

    fn hand_over(&self, key: &str, pipes: &[OwnedFd; 2]) {
        let [out, err] = pipes;
        let message = FromInit::Stored { key: key.into() };
        while let Err(error) = self.link.send(&message, &[out.as_fd(), err.as_fd()]) {
            assert!(matches!(error, ipc::ChannelError::WouldBlock), "{error}");
            let mut fds = [PollFd::new(self.link.as_fd(), PollFlags::POLLOUT)];
            poll(&mut fds, PollTimeout::NONE).unwrap();
        }
    }

    /// Sends the messages that a logger receives when it starts. The data disk comes first: a logger
    /// that does not know it yet lets a small ring evict lines, which then count as lost.
    pub fn greet(&self) {
        self.data_disk(self.data.as_deref());
        for (key, pipes) in &self.kept {
            self.hand_over(key, pipes);
        }
        self.link.send(&FromInit::StoredEnd, &[]).unwrap();
    }

    pub fn data_disk(&self, path: Option<&Path>) {
        let path = path.map(|path| path.to_str().unwrap().to_owned());
        let disk = DataDisk { path, reason: String::new(), pending: false };
        self.link.send(&FromInit::DataDisk(disk), &[]).unwrap();
    }

    /// Receives messages from the logger.
    pub fn listen(&mut self) {
        while let Some(received) = self.link.recv::<ToInit>().unwrap() {
            match received.message {
                ToInit::Drop { key } => self.kept.retain(|(kept, _)| *kept != key),
                ToInit::Ready => self.ready += 1,
                other => panic!("unexpected message from the logger: {other:?}"),
            }
        }
    }

    /// Waits for messages from the logger and receives them.
    pub fn wait(&mut self) {
        let mut fds = [PollFd::new(self.link.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).unwrap();
        self.listen();
    }
}

/// The configuration of a logger; independent of time.
pub fn config(dir: &Dir, link: Channel, capacity: u64, policy: LogPolicy) -> Config {
    Config {
        run_dir: dir.run(),
        link,
        stop: None,
        capacity,
        policy: Box::new(move |_| policy.clone()),
        stall: NEVER,
        retry: NEVER,
        sync: NEVER,
        stop_within: NEVER,
    }
}

/// Two pipes: the ends that PID 1 keeps, and those that the container writes to.
pub fn pipes() -> ([OwnedFd; 2], [std::io::PipeWriter; 2]) {
    let (out, out_writer) = std::io::pipe().unwrap();
    let (err, err_writer) = std::io::pipe().unwrap();
    ([out.into(), err.into()], [out_writer, err_writer])
}
