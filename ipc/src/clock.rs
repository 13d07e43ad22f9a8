//! The clock of all times in messages: `CLOCK_MONOTONIC`, which counts from the boot and never goes
//! back.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds; 0 if the clock cannot be read, which Linux rules out.
pub fn monotonic_ns() -> u64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return 0 };
    u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(now.tv_nsec()).unwrap_or(0)
}

/// Microseconds.
pub fn monotonic_us() -> u64 {
    monotonic_ns() / 1000
}

/// Milliseconds.
pub fn monotonic_ms() -> u64 {
    monotonic_ns() / 1_000_000
}
