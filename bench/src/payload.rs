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
const SYS_PAUSE: usize = 34;
const SYS_GETPPID: usize = 110;
const SYS_CLOCK_GETTIME: usize = 228;
const SYS_EXIT_GROUP: usize = 231;
const SYS_KEXEC_FILE_LOAD: usize = 320;

const CLOCK_MONOTONIC: usize = 1;

/// The kernel's `struct __kernel_timespec`.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

/// # Safety
/// Pointers among the arguments must be valid for what this system call does with them.
unsafe fn syscall(number: usize, a: usize, b: usize, c: usize) -> isize {
    let result: isize;
    // SAFETY: the kernel clobbers rcx and r11 only, and touches memory as the caller has vouched.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") 0, in("r8") 0,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: no pointers.
        unsafe { syscall(SYS_EXIT_GROUP, code, 0, 0) };
    }
}

/// # Safety
/// `stack` must be the stack pointer with which the kernel entered the program.
unsafe extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc there, then argc pointers to C strings (argv).
    let (argc, arguments) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    if argc < 2 {
        exit(0);
    }
    // The first letter tells the commands apart.
    // SAFETY: argv[1] exists; a C string has at least its final zero.
    match unsafe { **arguments.add(1) } {
        b'p' => loop {
            // SAFETY: no pointers.
            unsafe { syscall(SYS_PAUSE, 0, 0, 0) };
        },
        b'c' if argc >= 3 => {
            // SAFETY: argv[2] exists and is a C string.
            let count = unsafe { parse(*arguments.add(2)) };
            say(time(count, SYS_GETPPID), b' ');
            // Descriptors that nobody has: the kernel has no work with it either.
            say(time(count, SYS_KEXEC_FILE_LOAD), b'\n');
            exit(0);
        }
        _ => exit(64),
    }
}

fn now() -> u64 {
    let mut now = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `now` is a timespec that lives through the call.
    unsafe { syscall(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, &raw mut now as usize, 0) };
    now.seconds as u64 * 1_000_000_000 + now.nanoseconds as u64
}

/// Nanoseconds for `count` calls of `number`.
fn time(count: u64, number: usize) -> u64 {
    let start = now();
    for _ in 0..count {
        // SAFETY: neither call of `main` takes a pointer with these arguments.
        unsafe { syscall(number, usize::MAX, usize::MAX, 0) };
    }
    now() - start
}

/// Writes the number and `end` in one call.
fn say(mut value: u64, end_byte: u8) {
    // The text is built from its end. It is neither cleared first nor stored but by volatile
    // writes, lest the compiler call memset or memcpy: libc's choose their code at start-up, by
    // relocations that nobody applies here.
    let mut text = MaybeUninit::<[u8; 32]>::uninit();
    let end = text.as_mut_ptr().cast::<u8>().wrapping_add(32);
    let mut at = end;
    let mut put = |byte: u8| {
        at = at.wrapping_sub(1);
        // SAFETY: 20 digits and the last byte are 21 bytes at most, within the 32.
        unsafe { at.write_volatile(byte) };
    };
    put(end_byte);
    loop {
        put(b'0' + (value % 10) as u8);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    // SAFETY: `at` to `end` are bytes of `text` that have been written.
    unsafe { syscall(SYS_WRITE, 1, at as usize, end as usize - at as usize) };
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
