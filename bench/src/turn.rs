//! One start at a time: how the measuring process talks to the process that makes starts, and how
//! that one learns of the ends of its containers.
//!
//! ```text
//! measuring process ── byte ──> starter     (its parent is the reaper, as PID 1 is the supervisor's)
//!                   <── Reply ──   │ clone3(CLONE_PARENT)
//!                               reaper ── Ended ──> starter
//! ```
//! The records are fixed arrays of little-endian numbers, so that reading one costs one system call.

use crate::{Failure, Naming};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{FromRawFd, RawFd};

/// Where a starter finds the pipe of [`Ended`].
pub const ENDED_FD: RawFd = 3;

/// What a starter is told: make one start.
pub const START: u8 = b's';

/// A child that the reaper has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its process id.
    pub pid: i32,
    /// As wait(2) has it; 0 is an exit with 0.
    pub status: i32,
    /// Its largest resident set, the time before its exec included, KiB (getrusage(2)).
    pub max_rss_kib: u64,
}

impl Ended {
    /// As bytes on the pipe.
    pub fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (ids, rss) = bytes.split_at_mut(8);
        let (pid, status) = ids.split_at_mut(4);
        pid.copy_from_slice(&self.pid.to_le_bytes());
        status.copy_from_slice(&self.status.to_le_bytes());
        rss.copy_from_slice(&self.max_rss_kib.to_le_bytes());
        bytes
    }

    /// From bytes on the pipe.
    pub fn decode(bytes: [u8; 16]) -> Ended {
        let [a, b, c, d, e, f, g, h, rss @ ..] = bytes;
        Ended {
            pid: i32::from_le_bytes([a, b, c, d]),
            status: i32::from_le_bytes([e, f, g, h]),
            max_rss_kib: u64::from_le_bytes(rss),
        }
    }
}

/// How a start went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// From before the first system call to after the last one of the clean-up.
    pub ns: u64,
    /// The largest resident set of the container's first process.
    pub max_rss_kib: u64,
}

impl Reply {
    /// As bytes.
    pub fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (ns, rss) = bytes.split_at_mut(8);
        ns.copy_from_slice(&self.ns.to_le_bytes());
        rss.copy_from_slice(&self.max_rss_kib.to_le_bytes());
        bytes
    }

    /// From bytes.
    pub fn decode(bytes: [u8; 16]) -> Reply {
        let [a, b, c, d, e, f, g, h, rss @ ..] = bytes;
        Reply {
            ns: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            max_rss_kib: u64::from_le_bytes(rss),
        }
    }
}

/// A starter's main loop: one call of `start` for each byte, until there are no more.
///
/// # Errors
/// The first start that fails, or a broken pipe.
pub fn serve(mut start: impl FnMut(&mut Ends) -> Result<Reply, Failure>) -> Result<(), Failure> {
    // SAFETY: the reaper has put the pipe there, and nothing else in this process knows the number.
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

/// The ends of children.
pub struct Ends(File);

impl Ends {
    /// Waits for the next one; fails unless it is `pid` and exited with 0.
    ///
    /// # Errors
    /// Another process, another exit status, or the reaper is gone.
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
