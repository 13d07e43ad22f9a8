//! `first` reports the time of its first instruction and then waits for a stop signal.
//!
//! The benchmarks need a program whose own start takes no time: no libc, no standard library, no allocation, a
//! few kilobytes of code. First it reads `CLOCK_MONOTONIC` (time namespaces are not used, so this is the host's
//! clock), then it writes one line, `first NANOSECONDS`.
//!
//! - `first` waits for SIGTERM, SIGINT or SIGQUIT and exits with 0.
//! - `first exit MS` exits with 7 after that many milliseconds.
#![no_main]
#![cfg_attr(panic = "abort", no_std)]
// A build with unwinding panics needs the standard library's panic runtime. It is linked, never called, and
// removed by the linker's garbage collection.

use guest_tools::{Arguments, Timespec, exit, now, say, syscall};

guest_tools::entry!(main);

const SYS_RT_SIGPROCMASK: usize = 14;
const SYS_NANOSLEEP: usize = 35;
const SYS_RT_SIGTIMEDWAIT: usize = 128;

const SIG_SETMASK: usize = 2;
/// SIGINT (2), SIGQUIT (3) and SIGTERM (15) as the kernel's signal mask: bit n - 1 for signal n.
const STOP_SIGNALS: u64 = (1 << 1) | (1 << 2) | (1 << 14);
/// All signals; the kernel ignores SIGKILL and SIGSTOP in a mask.
const ALL_SIGNALS: u64 = u64::MAX;

fn main(arguments: Arguments) -> ! {
    say(b"first ", now(), b'\n');
    // The first letter identifies `exit`.
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

/// Blocks all signals and waits for a stop signal. There are no default actions for PID 1 of a namespace, so
/// pause(2) alone would ignore SIGTERM.
fn wait_for_stop() -> ! {
    let (all, stop) = (ALL_SIGNALS, STOP_SIGNALS);
    // SAFETY: `all` is a signal set of 8 bytes; the old set is not requested.
    unsafe { syscall(SYS_RT_SIGPROCMASK, SIG_SETMASK, &raw const all as usize, 0, 8) };
    loop {
        // SAFETY: `stop` is a signal set of 8 bytes; information and timeout may be null.
        let signal = unsafe { syscall(SYS_RT_SIGTIMEDWAIT, &raw const stop as usize, 0, 0, 8) };
        if signal > 0 {
            exit(0);
        }
    }
}
