//! `first`: says when its first instruction ran, and then waits to be told to stop.
//!
//! The bench needs a program whose own start costs nothing, so that the figure is the host's and
//! not the program's: no libc, no standard library, no allocation, a few kilobytes of text. Before
//! anything else it reads `CLOCK_MONOTONIC` (a time namespace is never used, so the value is the
//! host's own), then it writes one line, `first NANOSECONDS`.
//!
//! - `first` waits for SIGTERM, SIGINT or SIGQUIT and exits with 0.
//! - `first exit MS` exits with 7 after that many milliseconds.
#![no_main]
#![cfg_attr(panic = "abort", no_std)]
// A build with unwinding panics needs the standard library's panic runtime. It is linked, never
// called, and thrown away by the linker's garbage collection.

use guest_tools::{Arguments, Timespec, exit, now, say, syscall};

guest_tools::entry!(main);

const SYS_RT_SIGPROCMASK: usize = 14;
const SYS_NANOSLEEP: usize = 35;
const SYS_RT_SIGTIMEDWAIT: usize = 128;

const SIG_SETMASK: usize = 2;
/// SIGINT (2), SIGQUIT (3) and SIGTERM (15) as the kernel's signal mask: bit n - 1 for signal n.
const STOP_SIGNALS: u64 = (1 << 1) | (1 << 2) | (1 << 14);
/// Every signal there is; SIGKILL and SIGSTOP are left out by the kernel itself.
const ALL_SIGNALS: u64 = u64::MAX;

fn main(arguments: Arguments) -> ! {
    say(b"first ", now(), b'\n');
    // The first letter tells that it is `exit`.
    match (arguments.get(1), arguments.get(2)) {
        (Some(command), Some(time)) if command.first() == b'e' => {
            sleep(time.number());
            exit(7)
        }
        _ => wait_for_stop(),
    }
}

/// Sleeps for that many milliseconds.
fn sleep(milliseconds: u64) {
    let span = Timespec {
        seconds: (milliseconds / 1000) as i64,
        nanoseconds: (milliseconds % 1000 * 1_000_000) as i64,
    };
    // SAFETY: `span` lives through the call; the second pointer may be null.
    unsafe { syscall(SYS_NANOSLEEP, &raw const span as usize, 0, 0, 0) };
}

/// Blocks everything and takes the stop signals from the queue. A process that is PID 1 of its
/// namespace never gets a signal's default action, so merely pausing would ignore SIGTERM.
fn wait_for_stop() -> ! {
    let (all, stop) = (ALL_SIGNALS, STOP_SIGNALS);
    // SAFETY: `all` is a signal set of 8 bytes; the old set is not asked for.
    unsafe { syscall(SYS_RT_SIGPROCMASK, SIG_SETMASK, &raw const all as usize, 0, 8) };
    loop {
        // SAFETY: `stop` is a signal set of 8 bytes; information and time-out may be null.
        let signal = unsafe { syscall(SYS_RT_SIGTIMEDWAIT, &raw const stop as usize, 0, 0, 8) };
        if signal > 0 {
            exit(0);
        }
    }
}
