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

/// What came of a child that was to make a process.
pub(crate) enum Outcome {
    /// The process is a child of this one now.
    Runs { pid: i32, pidfd: OwnedFd, kept: SigSet },
    /// It could not, and has said why.
    Failed,
}

/// Does something in a short-lived child, so that processes that the engine makes there become
/// children of this process. `first` returns the number of the one to wait for.
pub(crate) fn with_child(first: impl FnOnce() -> Result<i32, Error>) -> Result<Outcome, Error> {
    let kept = wait::keep_signals()?;
    let (read, write) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(sys("pipe2"))?;
    // SAFETY: this program has one thread; the child goes on as it would.
    match unsafe { fork() }.map_err(sys("fork"))? {
        ForkResult::Child => {
            drop(read);
            let code = match first() {
                Ok(pid) => {
                    // Who waits for it is there for as long as this process is.
                    let _ = File::from(write).write_all(&pid.to_le_bytes());
                    0
                }
                Err(error) => {
                    drop(write);
                    // The words go where those of the command itself would have gone.
                    crate::commands::last_words(&error);
                    1
                }
            };
            std::process::exit(code)
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut word = [0; 4];
            let told = File::from(read).read_exact(&mut word);
            if !wait::child(child)? || told.is_err() {
                return Ok(Outcome::Failed);
            }
            let pid = i32::from_le_bytes(word);
            // It is not reaped before this process does so: the number is its own.
            let start_time = start_time(pid).ok_or(Error::Ended)?;
            match hold(Identity { pid, start_time })? {
                Some(pidfd) => Ok(Outcome::Runs { pid, pidfd, kept }),
                // It has ended already, and is still to be waited for.
                None => {
                    let null = File::open("/dev/null").map(OwnedFd::from);
                    let pidfd = null.map_err(|_| Error::Ended)?;
                    Ok(Outcome::Runs { pid, pidfd, kept })
                }
            }
        }
    }
}

/// Runs a container to its end, or with `detach` until its program runs.
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
    let Outcome::Runs { pid, kept, .. } = made else { return Ok(1) };
    let done =
        start(store, &wanted.id, report).and_then(|(_, pidfd)| wait::program(&kept, pid, &pidfd));
    if !keep || done.is_err() {
        delete(store, &wanted.id, true, report)?;
    }
    done
}
