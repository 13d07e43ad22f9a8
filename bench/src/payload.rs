//! `bench_payload`: the program inside every container of the engine's benchmark.
//!
//! It must cost nothing itself, so that the figures are the runtime's: no libc, no standard library,
//! no allocation, a few kilobytes of text.
//!
//! - `bench_payload` exits with 0 at once.
//! - `bench_payload pause` waits for ever.
//! - `bench_payload calls COUNT` makes COUNT calls of getppid(2), which every filter allows, then
//!   COUNT of kexec_file_load(2), which every filter denies (and the kernel too, without
//!   CAP_SYS_BOOT), and writes `ALLOWED DENIED`: the nanoseconds that each loop took.
#![no_main]
#![cfg_attr(panic = "abort", no_std)]
// A build with unwinding panics needs the standard library's panic runtime. It is linked, never
// called, and thrown away by the linker's garbage collection.

use guest_tools::{Arguments, exit, now, say, syscall};

guest_tools::entry!(main);

const SYS_PAUSE: usize = 34;
const SYS_GETPPID: usize = 110;
const SYS_KEXEC_FILE_LOAD: usize = 320;

fn main(arguments: Arguments) -> ! {
    let Some(command) = arguments.get(1) else { exit(0) };
    // The first letter tells the commands apart.
    match (command.first(), arguments.get(2)) {
        (b'p', _) => loop {
            // SAFETY: no pointers.
            unsafe { syscall(SYS_PAUSE, 0, 0, 0, 0) };
        },
        (b'c', Some(count)) => {
            let count = count.number();
            say(b"", time(count, SYS_GETPPID), b' ');
            // Descriptors that nobody has: the kernel has no work with it either.
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
        // SAFETY: neither call of `main` takes a pointer with these arguments.
        unsafe { syscall(number, usize::MAX, usize::MAX, 0, 0) };
    }
    now() - start
}
