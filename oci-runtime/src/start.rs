//! `start`: sends the byte that a created container waits for.

use crate::config::Config;
use crate::create::read;
use crate::delete::wrong_state;
use crate::error::{About, Error, sys};
use crate::hooks;
use crate::report::Report;
use crate::status::{self, Status};
use crate::store::{Entry, State, Store};
use crate::wait;
use container::Setup;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::OwnedFd;

/// Starts the program of a created container and waits until it runs or has failed.
pub(crate) fn start(store: &Store, id: &str, report: &Report) -> Result<(State, OwnedFd), Error> {
    let entry = store.open(id)?;
    let _lock = entry.lock()?;
    let state = entry.load()?.ok_or_else(|| Error::NoContainer(id.to_owned()))?;
    let (status, pidfd) = status::of(&entry, &state)?;
    let (Status::Created, Some(pidfd)) = (status, pidfd) else {
        return Err(wrong_state(id, status, "it must be created and not yet started"));
    };
    let path = entry.path("status");
    // Opened before the byte is written, because the answer needs a reader.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let answer = open(&path, flags, Mode::empty()).about("open", &path)?;
    let Some(go) = status::go(&entry)? else { return Err(Error::Ended) };
    nix::unistd::write(&go, b"!").map_err(sys("write"))?;
    drop(go);
    match wait::set_up(&answer, &pidfd)? {
        Setup::Failed(error) => return Err(error.into()),
        Setup::Done | Setup::Prepared | Setup::Pending => {}
    }
    hooks::run_all(&config(&entry, &state)?.hooks.poststart, &state, Status::Running, report);
    Ok((state, pidfd))
}

/// The configuration as it was at `create`.
pub(crate) fn config(entry: &Entry, state: &State) -> Result<Config, Error> {
    Ok(Config::parse(&read(&entry.path("config.json"))?, &state.bundle)?)
}
