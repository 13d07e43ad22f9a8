//! The thread that touches the disk, so that the loop that reads the pipes never waits for it.

use super::files::Files;
use crate::ring::DiskMark;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use units::model::LogPolicy;

/// Stack of the thread. It holds no buffers.
const STACK: usize = 128 * 1024;

/// Work for the thread. A unit has at most one piece of work at a time.
#[derive(Debug)]
pub(crate) enum Job {
    /// Open a unit's files below `dir`: see [`Files::open`].
    Open { unit: String, dir: PathBuf, mark: DiskMark, newest: u64 },
    /// Append lines: see [`Files::append`].
    Append { unit: String, bytes: Vec<u8>, policy: LogPolicy },
    /// Bring everything to the disk.
    Sync,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Done {
    /// The files are open and end with this line.
    Opened { unit: String, result: io::Result<DiskMark> },
    /// Inode and size of the current file. After an error the files must be opened again.
    Appended { unit: String, result: io::Result<(u64, u64)> },
    /// All files have been synced.
    Synced { result: io::Result<()> },
}

#[derive(Debug)]
struct Slot {
    files: Option<Files>,
    /// See [`Files::append`]; it must outlive a failed write.
    may_delete: bool,
}

/// The thread's handle. The thread ends when this is dropped and its work is done.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: Sender<Job>,
    done: Receiver<Done>,
    wake: Arc<EventFd>,
}

impl Worker {
    /// Starts the thread.
    pub fn start() -> io::Result<Worker> {
        let (jobs, todo) = channel();
        let (answers, done) = channel();
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags)?);
        let bell = Arc::clone(&wake);
        let work = move || {
            let mut slots = BTreeMap::new();
            while let Ok(job) = todo.recv() {
                if answers.send(run(job, &mut slots)).is_err() {
                    return;
                }
                // It can only fail when it has rung 2^64 times unheard.
                let _ = bell.write(1);
            }
        };
        std::thread::Builder::new().name("disk".into()).stack_size(STACK).spawn(work)?;
        Ok(Worker { jobs, done, wake })
    }

    /// Hands work over. False when the thread is gone, which it never should be.
    #[must_use]
    pub fn send(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }

    /// The next answer, if there is one.
    pub fn next(&self) -> Option<Done> {
        self.done.try_recv().ok()
    }

    /// Clears what made [`AsFd`]'s descriptor readable; call it before [`Worker::next`].
    pub fn heard(&self) {
        let _ = self.wake.read();
    }
}

impl AsFd for Worker {
    /// Readable when there are answers.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

fn run(job: Job, slots: &mut BTreeMap<String, Slot>) -> Done {
    match job {
        Job::Open { unit, dir, mark, newest } => {
            let slot = slots.entry(unit.clone());
            let slot = slot.or_insert(Slot { files: None, may_delete: true });
            slot.files = None;
            let result = Files::open(&dir, mark, newest).map(|(files, mark)| {
                slot.files = Some(files);
                mark
            });
            Done::Opened { unit, result }
        }
        Job::Append { unit, bytes, policy } => {
            let result = match slots.get_mut(&unit) {
                Some(Slot { files: Some(files), may_delete }) => {
                    files.append(&bytes, &policy, may_delete).map(|()| files.place())
                }
                _ => Err(io::ErrorKind::NotConnected.into()),
            };
            Done::Appended { unit, result }
        }
        Job::Sync => {
            let mut result = Ok(());
            for files in slots.values_mut().filter_map(|slot| slot.files.as_mut()) {
                // One file's error must not keep the others from the disk.
                result = result.and(files.sync());
            }
            Done::Synced { result }
        }
    }
}
