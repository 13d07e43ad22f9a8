//! Start-up: everything that needs a file or a name.

use crate::confine::confine;
use crate::key::{HostKey, KeyError};
use crate::listen;
use crate::server::{Config, Limits, ServeError, serve};
use ipc::api::FromApi;
use ipc::{Channel, ChannelError, DataDisk, FromInit};
use layout::paths;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::convert::Infallible;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long to wait for PID 1's message about the data disk.
const DATA_DISK_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A link.
    #[error("link to {0}: {1}")]
    Link(&'static str, ChannelError),
    /// The host's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The port.
    #[error("listen on port {0}: {1}")]
    Listen(u16, nix::errno::Errno),
    /// After the start.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// The port and the directories.
#[derive(Debug, Clone)]
pub struct Place {
    /// The port.
    pub port: u16,
    /// For the key, on the data disk; created by PID 1, owned by this process's user.
    pub data: PathBuf,
    /// The same for a host without a data disk.
    pub run: PathBuf,
}

/// The applet `keel-api`. Ends only when it cannot continue; PID 1 starts it again.
pub fn main() -> ExitCode {
    let place =
        Place { port: api_types::PORT, data: paths::DATA_API.into(), run: paths::RUN_API.into() };
    let error = match run(&place) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    log::error!("{error}");
    ExitCode::FAILURE
}

/// Starts and serves, with the links at the numbers that PID 1 gives them ([`ipc::fds`]).
///
/// # Errors
/// Always; see [`StartError`].
pub fn run(place: &Place) -> Result<Infallible, StartError> {
    let link =
        |number, peer| Channel::inherited(number).map_err(|error| StartError::Link(peer, error));
    let init = link(ipc::fds::INIT, "PID 1")?;
    let supervisor = link(ipc::fds::PARTNERS, "the supervisor")?;
    tune_resources();
    let data = data_disk(&init)?.then_some(place.data.as_path());
    let key = HostKey::obtain(data, &place.run)?;
    let listener = match listen::on(place.port) {
        Ok(listener) => listener,
        Err(errno) => {
            let error = StartError::Listen(place.port, errno);
            // Shown on the console: otherwise people look for the cause in the client.
            let listens = format!("not listening: {error}");
            let hello = FromApi::Hello { host_key: key.fingerprint(), listens };
            if let Err(error) = supervisor.send(&hello, &[]) {
                log::error!("{error}");
            }
            return Err(error);
        }
    };
    let limits = Limits::default();
    Ok(serve(Config { listener, key, supervisor, init, limits, confine })?)
}

/// Raises the limit of descriptors, one for each connection; one allocator arena, as there is one
/// thread.
fn tune_resources() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number inside the allocator; there is no other thread yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Waits for the first message about the data disk: whether it is mounted. If it is mounted later, this
/// process restarts ([`ServeError::DataDisk`]): the API of a host with a broken disk must not wait for
/// it.
fn data_disk(init: &Channel) -> Result<bool, StartError> {
    let failed = |error| StartError::Link("PID 1", error);
    let begun = Instant::now();
    loop {
        match init.recv::<FromInit>() {
            Ok(Some(received)) => {
                if let FromInit::DataDisk(DataDisk { path, .. }) = received.message {
                    return Ok(path.is_some());
                }
                continue;
            }
            Ok(None) => {}
            // A closed link reads as an empty message.
            Err(error @ (ChannelError::Sys { .. } | ChannelError::Decode { size: 0, .. })) => {
                return Err(failed(error));
            }
            Err(error) => log::error!("a message from PID 1 is lost: {error}"),
        }
        let Some(left) = DATA_DISK_TIMEOUT.checked_sub(begun.elapsed()) else {
            log::warn!("no message about the data disk; the host's key may be a new one");
            return Ok(false);
        };
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        // Interrupted or not, the next turn checks again.
        let _ = poll(&mut [PollFd::new(init.as_fd(), PollFlags::POLLIN)], timeout);
    }
}
