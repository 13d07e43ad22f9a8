//! `bench_payload`: the program inside every container of the engine's benchmark.
//!
//! Its own cost must be negligible, so that the measurements are the runtime's: no libc, no standard
//! library, no allocation, a few kilobytes of code.
//!
//! - `bench_payload` exits with 0 at once.
//! - `bench_payload pause` waits forever.
//! - `bench_payload calls COUNT` makes COUNT calls of getppid(2), which every filter allows, then
//!   COUNT of kexec_file_load(2), which every filter denies (and the kernel too, without
//!   CAP_SYS_BOOT). It writes `ALLOWED DENIED`: the nanoseconds that each loop took.
#![no_main]
#![cfg_attr(panic = "abort", no_std)]
// A build with unwinding panics needs the standard library's panic runtime. It is never called, and
// the linker's garbage collection removes it.

use guest_tools::{Arguments, exit, now, say, syscall};

guest_tools::entry!(main);

const SYS_PAUSE: usize = 34;
const SYS_GETPPID: usize = 110;
const SYS_KEXEC_FILE_LOAD: usize = 320;

fn main(arguments: Arguments) -> ! {
    let Some(command) = arguments.get(1) else { exit(0) };
    // The first letter identifies the command.
    match (command.first(), arguments.get(2)) {
        (b'p', _) => loop {
            // SAFETY: no pointers.
            unsafe { syscall(SYS_PAUSE, 0, 0, 0, 0) };
        },
        (b'c', Some(count)) => {
            let count = count.number();
            say(b"", time(count, SYS_GETPPID), b' ');
            // Invalid descriptors, so that the kernel does no work if the filter allows the call.
            say(b"", time(count, SYS_KEXEC_FILE_LOAD), b'\n');
            exit(0)
        }
        _ => exit(64),
    }
}

/// Nanoseconds for `count` calls of `number`.
fn time(count: u64, number: usize) -> u64 {
    let start = now();
    for _ in 0..count {
        // SAFETY: with these arguments, neither of the two system calls reads or writes memory.
        unsafe { syscall(number, usize::MAX, usize::MAX, 0, 0) };
    }
    now() - start
}
