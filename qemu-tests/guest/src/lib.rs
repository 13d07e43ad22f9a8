//! The base of programs without libc and standard library: entry point, system calls, and numbers as
//! text. Such a program names its `fn(Arguments) -> !` with [`entry!`] and is linked with
//! `-nostartfiles`.
//!
//! System call numbers are those of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
#![no_std]

use core::arch::asm;
use core::mem::MaybeUninit;

/// Defines `_start`, which calls a function of type `fn(Arguments) -> !`, and the panic handler.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cfg(panic = "abort")]
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            $crate::exit(101)
        }

        // The kernel enters with argc at the top of an aligned stack and no return address (System V
        // ABI for x86-64, section 3.4.1). A Rust function cannot be entered that way, so this passes
        // the stack pointer as its first argument.
        core::arch::global_asm!(
            ".globl _start",
            "_start:",
            "xor ebp, ebp",
            "mov rdi, rsp",
            "and rsp, -16",
            "call {enter}",
            "ud2",
            enter = sym enter,
        );

        /// # Safety
        /// `stack` must be the stack pointer with which the kernel entered the program.
        unsafe extern "C" fn enter(stack: *const usize) -> ! {
            // SAFETY: `_start` passes the stack pointer as the kernel has set it.
            $main(unsafe { $crate::Arguments::new(stack) })
        }
    };
}

const SYS_WRITE: usize = 1;
const SYS_CLOCK_GETTIME: usize = 228;
const SYS_EXIT_GROUP: usize = 231;

const CLOCK_MONOTONIC: usize = 1;

/// The kernel's `struct __kernel_timespec`.
#[repr(C)]
pub struct Timespec {
    /// Whole seconds.
    pub seconds: i64,
    /// The rest, below 1,000,000,000.
    pub nanoseconds: i64,
}

/// The arguments of the program.
pub struct Arguments(*const usize);

impl Arguments {
    /// # Safety
    /// `stack` must be the stack pointer with which the kernel entered the program.
    pub unsafe fn new(stack: *const usize) -> Arguments {
        Arguments(stack)
    }

    /// The argument at `index`; 0 is the program's name.
    pub fn get(&self, index: usize) -> Option<Word> {
        // SAFETY: by `new`'s contract; the kernel puts argc there, then argc pointers to C strings
        // (argv).
        unsafe {
            let argv = self.0.add(1).cast::<*const u8>();
            (index < *self.0).then(|| Word(*argv.add(index)))
        }
    }
}

/// An argument, a C string.
pub struct Word(*const u8);

impl Word {
    /// Its first byte; 0 if it is empty.
    pub fn first(&self) -> u8 {
        // SAFETY: a C string has at least its final zero.
        unsafe { *self.0 }
    }

    /// The decimal number at its start; 0 if there is none.
    pub fn number(&self) -> u64 {
        let mut text = self.0;
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
}

/// Makes a system call with up to four arguments. Returns its result, or a negated errno.
///
/// # Safety
/// Pointers among the arguments must be valid for what this system call does with them.
pub unsafe fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result: isize;
    // SAFETY: the kernel clobbers rcx and r11 only, and touches memory as the caller guarantees.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") 0,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Ends the process with this exit code.
pub fn exit(code: usize) -> ! {
    loop {
        // SAFETY: no pointers.
        unsafe { syscall(SYS_EXIT_GROUP, code, 0, 0, 0) };
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub fn now() -> u64 {
    let mut now = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `now` is a timespec that lives through the call.
    unsafe { syscall(SYS_CLOCK_GETTIME, CLOCK_MONOTONIC, &raw mut now as usize, 0, 0) };
    now.seconds as u64 * 1_000_000_000 + now.nanoseconds as u64
}

/// Writes the first eight bytes of `before`, the number and `end_byte` to standard output with one call, so
/// that the line is not split.
pub fn say(before: &[u8], mut value: u64, end_byte: u8) {
    // The line is built from its end. It is not cleared first, and only volatile writes store to it, so
    // that the compiler does not call memset or memcpy: libc's versions are selected at start-up by
    // relocations, which nothing applies here.
    let mut line = MaybeUninit::<[u8; 32]>::uninit();
    let end = line.as_mut_ptr().cast::<u8>().wrapping_add(32);
    let mut at = end;
    let mut put = |byte: u8| {
        at = at.wrapping_sub(1);
        // SAFETY: 20 digits, the last byte and 8 of `before` are 29 bytes at most, within the 32.
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
    for &byte in before.iter().take(8).rev() {
        put(byte);
    }
    // SAFETY: `at` to `end` are bytes of `line` that have been written.
    unsafe { syscall(SYS_WRITE, 1, at as usize, end as usize - at as usize, 0) };
}
