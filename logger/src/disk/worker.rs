//! The disk thread, which does all disk I/O so that the main loop never waits for it.

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

/// Stack size of the thread; it has no buffers on its stack.
const STACK: usize = 128 * 1024;

/// Work for the thread. Each unit has at most one job at a time.
#[derive(Debug)]
pub(crate) enum Job {
    /// Open a unit's files below `dir`: see [`Files::open`].
    Open { unit: String, dir: PathBuf, mark: DiskMark, newest: u64 },
    /// Append lines: see [`Files::append`].
    Append { unit: String, bytes: Vec<u8>, policy: LogPolicy },
    /// Sync all files.
    Sync,
}

/// The result of a job.
#[derive(Debug)]
pub(crate) enum JobResult {
    /// The files are open and end at this mark.
    Opened { unit: String, result: io::Result<DiskMark> },
    /// Inode and size of the current file. After an error the files must be opened again.
    Appended { unit: String, result: io::Result<(u64, u64)> },
    /// All files have been synced.
    Synced { result: io::Result<()> },
}

#[derive(Debug)]
struct Slot {
    files: Option<Files>,
    /// See [`Files::append`]; kept across a failed write.
    may_delete: bool,
}

/// The handle of the thread, which ends when this is dropped and its work is done.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: Sender<Job>,
    results: Receiver<JobResult>,
    wake: Arc<EventFd>,
}

impl Worker {
    /// Starts the thread.
    pub fn start() -> io::Result<Worker> {
        let (jobs, job_receiver) = channel();
        let (result_sender, results) = channel();
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags)?);
        let waker = Arc::clone(&wake);
        let work = move || {
            let mut slots = BTreeMap::new();
            while let Ok(job) = job_receiver.recv() {
                if result_sender.send(run(job, &mut slots)).is_err() {
                    return;
                }
                // This can only fail if the counter overflows, after 2^64 unread wakeups.
                let _ = waker.write(1);
            }
        };
        std::thread::Builder::new().name("disk".into()).stack_size(STACK).spawn(work)?;
        Ok(Worker { jobs, results, wake })
    }

    /// Sends a job. False if the thread has ended, which means that it panicked.
    #[must_use]
    pub fn send(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }

    /// The next result, if there is one.
    pub fn next(&self) -> Option<JobResult> {
        self.results.try_recv().ok()
    }

    /// Makes the descriptor of [`AsFd`] unreadable again; call it before [`Worker::next`].
    pub fn clear_wakeup(&self) {
        let _ = self.wake.read();
    }
}

impl AsFd for Worker {
    /// Readable when there are results.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

fn run(job: Job, slots: &mut BTreeMap<String, Slot>) -> JobResult {
    match job {
        Job::Open { unit, dir, mark, newest } => {
            let slot = slots.entry(unit.clone());
            let slot = slot.or_insert(Slot { files: None, may_delete: true });
            slot.files = None;
            let result = Files::open(&dir, mark, newest).map(|(files, mark)| {
                slot.files = Some(files);
                mark
            });
            JobResult::Opened { unit, result }
        }
        Job::Append { unit, bytes, policy } => {
            let result = match slots.get_mut(&unit) {
                Some(Slot { files: Some(files), may_delete }) => {
                    files.append(&bytes, &policy, may_delete).map(|()| files.place())
                }
                _ => Err(io::ErrorKind::NotConnected.into()),
            };
            JobResult::Appended { unit, result }
        }
        Job::Sync => {
            let mut result = Ok(());
            for files in slots.values_mut().filter_map(|slot| slot.files.as_mut()) {
                // An error of one file must not prevent the sync of the others.
                result = result.and(files.sync());
            }
            JobResult::Synced { result }
        }
    }
}
