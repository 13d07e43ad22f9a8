//! `first`: says when its first instruction ran, and then waits to be told to stop.
//!
//! The bench needs a program whose own start costs nothing, so that the figure is the host's and
//! not the program's: no libc, no standard library, no allocation, a few kilobytes of text. Before
//! anything else it reads `CLOCK_MONOTONIC` (a time namespace is never used, so the value is the
//! host's own), then it writes one line, `first NANOSECONDS`.
//!
//! - `first` waits for SIGTERM, SIGINT or SIGQUIT and exits with 0.
//! - `first exit MS` exits with 7 after that many milliseconds.
//!
//! System call numbers are those of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
#![no_main]
#![cfg_attr(panic = "abort", no_std)]
// A build with unwinding panics needs the standard library's panic runtime. It is linked, never
// called, and thrown away by the linker's garbage collection.

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;

#[cfg(panic = "abort")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(101)
}

// The kernel enters with argc at the top of an aligned stack and no return address (System V ABI
// for x86-64, section 3.4.1). A Rust function cannot be entered that way, so this hands it the
// stack pointer as its first argument.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym main,
);

const SYS_WRITE: usize = 1;
const SYS_RT_SIGPROCMASK: usize = 14;
const SYS_NANOSLEEP: usize = 35;
const SYS_RT_SIGTIMEDWAIT: usize = 128;
const SYS_CLOCK_GETTIME: usize = 228;
const SYS_EXIT_GROUP: usize = 231;

const CLOCK_MONOTONIC: usize = 1;
const SIG_SETMASK: usize = 2;
/// SIGINT (2), SIGQUIT (3) and SIGTERM (15) as the kernel's signal mask: bit n - 1 for signal n.
const STOP_SIGNALS: u64 = (1 << 1) | (1 << 2) | (1 << 14);
/// Every signal there is; SIGKILL and SIGSTOP are left out by the kernel itself.
const ALL_SIGNALS: u64 = u64::MAX;

/// The kernel's `struct __kernel_timespec`.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

/// # Safety
/// Pointers among the arguments must be valid for what this system call does with them.
unsafe fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: the kernel clobbers rcx and r11 only, and touches memory as the caller has vouched.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: no pointers.
        unsafe { syscall(SYS_EXIT_GROUP, code, 0, 0, 0) };
    }
}

/// # Safety
/// `stack` must be the stack pointer with which the kernel entered the program.
unsafe extern "C" fn main(stack: *const usize) -> ! {
    let mut now = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `now` is a timespec that lives through the call.
    unsafe { syscall(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, &raw mut now as usize, 0, 0) };
    say(now.seconds as u64 * 1_000_000_000 + now.nanoseconds as u64);

    // SAFETY: the kernel puts argc there, then argc pointers to C strings (argv).
    let (argc, arguments) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    if argc >= 3 {
        // SAFETY: argv[1] and argv[2] exist and are C strings.
        let (command, number) = unsafe { (*arguments.add(1), *arguments.add(2)) };
        // SAFETY: as above.
        if unsafe { equals(command, b"exit\0") } {
            // SAFETY: as above.
            sleep(unsafe { parse(number) });
            exit(7);
        }
    }
    wait_for_stop()
}

/// Writes `first VALUE\n` in one call, so that the line cannot be torn.
fn say(mut value: u64) {
    // The line is built from its end. It is neither cleared first nor stored but by volatile
    // writes, lest the compiler call memset or memcpy: libc's choose their code at start-up, by
    // relocations that nobody applies here.
    let mut line = MaybeUninit::<[u8; 32]>::uninit();
    let end = line.as_mut_ptr().cast::<u8>().wrapping_add(32);
    let mut at = end;
    let mut put = |byte: u8| {
        at = at.wrapping_sub(1);
        // SAFETY: 20 digits, the word and the newline are 27 bytes at most, within the 32.
        unsafe { at.write_volatile(byte) };
    };
    put(b'\n');
    loop {
        put(b'0' + (value % 10) as u8);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    for &byte in b" tsrif" {
        put(byte);
    }
    // SAFETY: `at` to `end` are bytes of `line` that have been written.
    unsafe { syscall(SYS_WRITE, 1, at as usize, end as usize - at as usize, 0) };
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

/// # Safety
/// `text` must be a C string and `word` must end with a zero byte.
unsafe fn equals(text: *const u8, word: &[u8]) -> bool {
    for (index, &byte) in word.iter().enumerate() {
        // SAFETY: all bytes before this one were equal and not zero, so `text` goes on.
        if unsafe { text.add(index).read_volatile() } != byte {
            return false;
        }
    }
    true
}

/// The decimal number at the start of the text; 0 if there is none.
///
/// # Safety
/// `text` must be a C string.
unsafe fn parse(mut text: *const u8) -> u64 {
    let mut value = 0u64;
    loop {
        // SAFETY: only digits have been passed, so the terminating zero is not behind us.
        let digit = unsafe { *text }.wrapping_sub(b'0');
        if digit > 9 {
            return value;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        text = text.wrapping_add(1);
    }
}
