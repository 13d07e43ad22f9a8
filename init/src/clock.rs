//! The clock and the random number generator at boot: a lower bound for the one, a seed for the other.

pub use ipc::clock::{monotonic_ms, monotonic_ns};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use std::fs;
use std::os::fd::AsRawFd;

/// Where the image builder wrote the newest change among its inputs, in seconds since 1970.
const FLOOR: &str = "/keel/epoch";

/// Bytes of randomness kept from one boot to the next.
const SEED_BYTES: usize = 256;

/// The state of the clock.
#[derive(Debug, PartialEq, Eq)]
pub enum Clock {
    /// It was already past the floor.
    Plausible,
    /// It was earlier than the image was built, which is impossible, and was set to that time.
    Raised {
        /// Its value before, seconds since 1970.
        from: i64,
    },
}

/// Sets the wall clock to the time at which the image was built if it is earlier (a machine without a
/// battery starts in 1970, when no certificate is valid yet).
///
/// # Errors
/// The clock cannot be set, or the image does not say when it was built.
pub fn raise_to_floor() -> Result<Clock, String> {
    let text = fs::read_to_string(FLOOR).map_err(|error| format!("{FLOOR}: {error}"))?;
    let floor: i64 =
        text.trim().parse().map_err(|_| format!("{FLOOR}: not a number of seconds"))?;
    let now = clock_gettime(ClockId::CLOCK_REALTIME)
        .map_err(|errno| format!("clock_gettime: {errno}"))?;
    if now.tv_sec() >= floor {
        return Ok(Clock::Plausible);
    }
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(floor, 0))
        .map_err(|errno| format!("clock_settime: {errno}"))?;
    Ok(Clock::Raised { from: now.tv_sec() })
}

/// Feeds the seed that the last boot left in `dir` to the kernel, credited as entropy
/// (RNDADDENTROPY, random(4)), and replaces it at once, so that no seed is ever used twice.
///
/// # Errors
/// The file that failed, and why. A host works without a seed: the kernel gathers its own entropy.
pub fn renew_seed(dir: &str) -> Result<(), String> {
    let path = format!("{dir}/random-seed");
    let random = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/urandom")
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    let old = fs::read(&path).unwrap_or_default();
    let credit = old.len() == SEED_BYTES;
    // The kernel wants { int entropy_count (bits); int buf_size; u32 buf[] }.
    if credit {
        let mut info = Vec::with_capacity(8 + SEED_BYTES);
        info.extend_from_slice(&((SEED_BYTES * 8) as i32).to_ne_bytes());
        info.extend_from_slice(&(SEED_BYTES as i32).to_ne_bytes());
        info.extend_from_slice(&old);
        const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
        // SAFETY: `info` is a whole rand_pool_info with `buf_size` bytes behind its header, and
        // the kernel only reads it.
        let done = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, info.as_ptr()) };
        nix::errno::Errno::result(done).map_err(|errno| format!("RNDADDENTROPY: {errno}"))?;
    }
    let mut new = vec![0u8; SEED_BYTES];
    std::io::Read::read_exact(&mut &random, &mut new)
        .map_err(|error| format!("/dev/urandom: {error}"))?;
    let fresh = format!("{path}.new");
    let write = || {
        use std::os::unix::fs::OpenOptionsExt;
        let mut file =
            fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        std::io::Write::write_all(&mut file, &new)?;
        file.sync_all()?;
        fs::rename(&fresh, &path)
    };
    write().map_err(|error| format!("{path}: {error}"))
}
