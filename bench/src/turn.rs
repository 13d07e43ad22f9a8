//! One start at a time: the protocol between the measuring process and the starter (the process that
//! starts containers), and how the starter learns that its containers have ended.
//!
//! ```text
//! measuring process ── byte ──> starter     (its parent is the reaper, as PID 1 is the supervisor's)
//!                   <── Reply ──   │ clone3(CLONE_PARENT)
//!                               reaper ── Ended ──> starter
//! ```
//! The records are fixed-size arrays of little-endian numbers, so that reading one takes one system
//! call.

use crate::{Failure, Naming};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{FromRawFd, RawFd};

/// The descriptor from which a starter reads [`Ended`].
pub const ENDED_FD: RawFd = 3;

/// The byte that requests one start.
pub const START: u8 = b's';

/// A child that the reaper has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its process id.
    pub pid: i32,
    /// The wait status (wait(2)); 0 is exit code 0.
    pub status: i32,
    /// Its largest resident set, including the time before its exec, KiB (getrusage(2)).
    pub max_rss_kib: u64,
}

impl Ended {
    /// Encodes it for the pipe.
    pub fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (ids, rss) = bytes.split_at_mut(8);
        let (pid, status) = ids.split_at_mut(4);
        pid.copy_from_slice(&self.pid.to_le_bytes());
        status.copy_from_slice(&self.status.to_le_bytes());
        rss.copy_from_slice(&self.max_rss_kib.to_le_bytes());
        bytes
    }

    /// Decodes it from the pipe's bytes.
    pub fn decode(bytes: [u8; 16]) -> Ended {
        let [a, b, c, d, e, f, g, h, rss @ ..] = bytes;
        Ended {
            pid: i32::from_le_bytes([a, b, c, d]),
            status: i32::from_le_bytes([e, f, g, h]),
            max_rss_kib: u64::from_le_bytes(rss),
        }
    }
}

/// The measurement of one start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Nanoseconds from before the first system call to after the last one of the clean-up.
    pub ns: u64,
    /// The largest resident set of the container's first process.
    pub max_rss_kib: u64,
}

impl Reply {
    /// Encodes it.
    pub fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (ns, rss) = bytes.split_at_mut(8);
        ns.copy_from_slice(&self.ns.to_le_bytes());
        rss.copy_from_slice(&self.max_rss_kib.to_le_bytes());
        bytes
    }

    /// Decodes it.
    pub fn decode(bytes: [u8; 16]) -> Reply {
        let [a, b, c, d, e, f, g, h, rss @ ..] = bytes;
        Reply {
            ns: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            max_rss_kib: u64::from_le_bytes(rss),
        }
    }
}

/// A starter's main loop: one call of `start` for each byte, until end of file.
///
/// # Errors
/// A start fails, or the pipe is broken.
pub fn serve(mut start: impl FnMut(&mut Ends) -> Result<Reply, Failure>) -> Result<(), Failure> {
    // SAFETY: the reaper has opened the pipe as this descriptor, and nothing else in this process
    // uses it.
    let mut ends = Ends(unsafe { File::from_raw_fd(ENDED_FD) });
    let mut byte = [0];
    loop {
        match std::io::stdin().read(&mut byte) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).naming("the order to start"),
        }
        let reply = start(&mut ends)?;
        let mut out = std::io::stdout();
        out.write_all(&reply.encode()).and_then(|()| out.flush()).naming("the reply")?;
    }
}

/// The exits of children, as the reaper reports them.
pub struct Ends(File);

impl Ends {
    /// Waits for the next one. It must be that of `pid`, with exit code 0.
    ///
    /// # Errors
    /// Another process ended, the status is not 0, or the reaper has ended.
    pub fn expect(&mut self, pid: i32) -> Result<Ended, Failure> {
        let mut bytes = [0; 16];
        self.0.read_exact(&mut bytes).naming("the reaper")?;
        let ended = Ended::decode(bytes);
        if ended.pid != pid || ended.status != 0 {
            return Err(Failure(format!("expected the end of {pid} with 0, got {ended:?}")));
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_pipe() {
        let ended = Ended { pid: 0x0102_0304, status: -2, max_rss_kib: u64::MAX - 5 };
        assert_eq!(Ended::decode(ended.encode()), ended);
        let reply = Reply { ns: 1 << 40 | 7, max_rss_kib: 1234 };
        assert_eq!(Reply::decode(reply.encode()), reply);
    }
}
