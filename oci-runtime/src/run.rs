//! `run`: create, start, wait and delete.

use crate::arguments;
use crate::create::create;
use crate::delete::delete;
use crate::error::{Error, sys};
use crate::report::Report;
use crate::start::start;
use crate::status::{hold, start_time};
use crate::store::{Identity, Store};
use crate::wait;
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, fork, pipe2};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

/// The result of [`with_child`].
pub(crate) enum Outcome {
    /// The process runs and is now a child of this one.
    Runs { pid: i32, pidfd: OwnedFd, blocked: SigSet },
    /// It could not be created; the reason has been reported.
    Failed,
}

/// Calls `first` in a short-lived child, so that processes that the engine creates there become
/// children of this process. `first` returns the ID of the process to wait for.
pub(crate) fn with_child(first: impl FnOnce() -> Result<i32, Error>) -> Result<Outcome, Error> {
    let blocked = wait::block_signals()?;
    let (read, write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(sys("pipe2"))?;
    // SAFETY: this program has a single thread, so the child can continue like the parent.
    match unsafe { fork() }.map_err(sys("fork"))? {
        ForkResult::Child => {
            drop(read);
            let code = match first() {
                Ok(pid) => {
                    // The reader is this child's parent, which waits for it.
                    let _ = File::from(write).write_all(&pid.to_le_bytes());
                    0
                }
                Err(error) => {
                    drop(write);
                    // Reported where the command itself would report it.
                    crate::commands::report_error(&error);
                    1
                }
            };
            std::process::exit(code)
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut word = [0; 4];
            let received = File::from(read).read_exact(&mut word);
            if !wait::child(child)? || received.is_err() {
                return Ok(Outcome::Failed);
            }
            let pid = i32::from_le_bytes(word);
            // Only this process can reap it, so its ID cannot have been reused.
            let start_time = start_time(pid).ok_or(Error::Ended)?;
            match hold(Identity { pid, start_time })? {
                Some(pidfd) => Ok(Outcome::Runs { pid, pidfd, blocked }),
                // It has already ended but must still be waited for.
                None => {
                    let null = File::open("/dev/null").map(OwnedFd::from);
                    let pidfd = null.map_err(|_| Error::Ended)?;
                    Ok(Outcome::Runs { pid, pidfd, blocked })
                }
            }
        }
    }
}

/// Runs a container until it ends, or with `detach` until its program runs.
pub(crate) fn run(
    store: &Store,
    wanted: &arguments::Create,
    detach: bool,
    keep: bool,
    report: &Report,
) -> Result<u8, Error> {
    if detach {
        create(store, wanted, report)?;
        return match start(store, &wanted.id, report) {
            Ok(_) => Ok(0),
            Err(error) => {
                delete(store, &wanted.id, true, report)?;
                Err(error)
            }
        };
    }
    let made = with_child(|| {
        create(store, wanted, report)?;
        let state = store.open(&wanted.id)?.load()?;
        state.and_then(|state| state.process).map(|process| process.pid).ok_or(Error::Ended)
    })?;
    let Outcome::Runs { pid, blocked, .. } = made else { return Ok(1) };
    let done = start(store, &wanted.id, report)
        .and_then(|(_, pidfd)| wait::program(&blocked, pid, &pidfd));
    if !keep || done.is_err() {
        delete(store, &wanted.id, true, report)?;
    }
    done
}
