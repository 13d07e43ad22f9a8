//! Communication with PID 1.

use super::filing::Disk;
use super::{Daemon, LoggerError, PAUSE};
use crate::unit::Pipes;
use ipc::{ChannelError, FromInit, ToInit};
use nix::errno::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

/// Maximum number of messages handled in one iteration of the loop.
const MESSAGES: usize = 64;

impl Daemon {
    /// Sends queued messages to PID 1 until the link would block.
    pub(super) fn send(&mut self) -> Result<(), LoggerError> {
        while let Some(message) = self.outbox.front() {
            match self.config.link.send(message, &[]) {
                Ok(()) => {}
                Err(ChannelError::WouldBlock) => return Ok(()),
                Err(_) if self.link_closed => {}
                Err(ChannelError::Sys { errno: Errno::EPIPE | Errno::ECONNRESET, .. }) => {}
                Err(error) => return Err(error.into()),
            }
            self.outbox.pop_front();
        }
        Ok(())
    }

    /// Receives messages from PID 1.
    pub(super) fn receive(&mut self, now: Instant) -> Result<(), LoggerError> {
        for _ in 0..MESSAGES {
            match self.config.link.recv::<FromInit>() {
                Ok(Some(received)) => self.handle(received.message, received.fds, now),
                Ok(None) => return Ok(()),
                // An empty packet means that the link is closed.
                Err(ChannelError::Decode { size: 0, .. })
                | Err(ChannelError::Sys { errno: Errno::ECONNRESET, .. }) => {
                    self.link_closed = true;
                    self.end(now);
                    return Ok(());
                }
                Err(error @ ChannelError::Sys { .. }) => return Err(error.into()),
                Err(error) => log::error!("message from PID 1: {error}"),
            }
        }
        Ok(())
    }

    fn handle(&mut self, message: FromInit, fds: Vec<OwnedFd>, now: Instant) {
        match message {
            FromInit::Stored { key } => match (parse_key(&key), <[OwnedFd; 2]>::try_from(fds)) {
                (Some((unit, generation)), Ok(pipes)) => {
                    self.add_run(unit, generation, Some(pipes), now);
                }
                _ => log::error!("message from PID 1: `{key}` is not the pair of pipes of a run"),
            },
            FromInit::StoredEnd => {
                for (name, unit) in &mut self.units {
                    if let Err(error) = unit.add_orphans() {
                        log::error!("unit {name}: cannot search for old spools: {error}");
                    }
                }
                self.outbox.push_back(ToInit::Ready);
            }
            FromInit::DataDisk(disk) => {
                let disk = match disk.path {
                    Some(path) => Disk::At(crate::files_path(Path::new(&path))),
                    None => Disk::None { pending: disk.pending },
                };
                self.set_disk(disk, now);
            }
            FromInit::Exited { .. } | FromInit::StopUnits { .. } => {}
        }
    }

    pub(super) fn add_run(&mut self, unit: &str, generation: u64, pipes: Pipes, now: Instant) {
        match self.unit(unit, now) {
            Some(open) => open.add_run(generation, pipes),
            None => {
                self.unopened.push((unit.to_owned(), generation, pipes));
                self.reopen_at = Some(now + PAUSE);
            }
        }
    }
}

/// The key under which PID 1 keeps the pipes of a run.
pub(super) fn log_key(unit: &str, generation: u64) -> String {
    format!("log/{unit}/{generation}")
}

/// The unit and generation of a key.
fn parse_key(key: &str) -> Option<(&str, u64)> {
    let (unit, generation) = key.strip_prefix("log/")?.split_once('/')?;
    Some((unit, generation.parse().ok()?)).filter(|_| is_unit(unit))
}

/// Whether a name is valid for a unit; it becomes the name of a directory.
pub(super) fn is_unit(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_parsed_key_has_a_name_that_is_safe_as_a_directory(key in "(log/)?[a-z./-]{0,9}(/[0-9]{0,21})?") {
            if let Some((unit, generation)) = parse_key(&key) {
                prop_assert!(!unit.contains(['/', '.']) && !unit.is_empty());
                let back = log_key(unit, generation);
                prop_assert_eq!(parse_key(&back), Some((unit, generation)));
            }
        }
    }

    #[test]
    fn the_key_of_a_run_is_parsed_back() {
        assert_eq!(parse_key(&log_key("web-1", 17)), Some(("web-1", 17)));
        assert_eq!(parse_key("log/../17"), None);
        assert_eq!(parse_key("log/web/x"), None);
    }
}
