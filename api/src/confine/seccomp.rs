//! A list of the system calls that serving needs; every other one fails with EPERM instead of killing
//! the process, as libraries may have a fallback.

use libc::sock_filter;
use std::io;
use std::mem::offset_of;

/// Allowed whatever their arguments, the frequent ones first. None of them opens anything, starts a
/// program, reaches another process or passes a descriptor on (sendmsg(2) is missing): a process that
/// closes the last copy of a socket with SO_LINGER sleeps.
#[rustfmt::skip]
const ALLOWED: &[i64] = &[
    // Waiting, reading, writing.
    libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_epoll_ctl,
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64,
    libc::SYS_recvfrom, libc::SYS_sendto, libc::SYS_recvmsg, libc::SYS_poll,
    // Connections and files that are handed in.
    libc::SYS_accept4, libc::SYS_shutdown, libc::SYS_close, libc::SYS_getsockopt,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_fcntl,
    libc::SYS_fstat, libc::SYS_lseek,
    // Memory and time.
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_brk, libc::SYS_getrandom,
    libc::SYS_clock_gettime, libc::SYS_gettimeofday, libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    // Threads, and the end.
    libc::SYS_futex, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigaction, libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_restart_syscall,
    libc::SYS_exit, libc::SYS_exit_group,
];

/// Take a path, which fstat(3) of newer C libraries leaves empty. Landlock restricts the path.
const STAT: &[i64] = &[libc::SYS_newfstatat, libc::SYS_statx];

const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
/// glibc then starts threads by clone(2), whose flags can be seen, unlike those of clone3(2).
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ANY_OF: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Skips this many steps if the condition does not hold.
fn unless(code: u16, k: u32, skip: u8) -> sock_filter {
    sock_filter { code, jt: 0, jf: skip, k }
}

/// The lower half of an argument: every flag that matters is there (both architectures are
/// little-endian).
fn argument(number: usize) -> u32 {
    (offset_of!(libc::seccomp_data, args) + number * 8) as u32
}

/// `call` is allowed if its argument passes the test `code`, `k`.
fn if_argument(call: i64, number: usize, code: u16, k: u32) -> [sock_filter; 5] {
    [
        unless(EQUAL, call as u32, 4),
        step(LOAD, argument(number)),
        unless(code, k, 1),
        step(RETURN, ALLOW),
        step(RETURN, DENY),
    ]
}

/// `call` is allowed unless its argument passes the test `code`, `k`.
fn unless_argument(call: i64, number: usize, code: u16, k: u32) -> [sock_filter; 5] {
    let [call, load, test, allow, deny] = if_argument(call, number, code, k);
    [call, load, test, deny, allow]
}

fn program() -> Vec<sock_filter> {
    let mut steps = vec![
        step(LOAD, offset_of!(libc::seccomp_data, arch) as u32),
        // Another architecture's numbers mean other calls.
        sock_filter { code: EQUAL, jt: 1, jf: 0, k: ARCHITECTURE },
        step(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        step(LOAD, offset_of!(libc::seccomp_data, nr) as u32),
    ];
    for call in ALLOWED.iter().chain(STAT) {
        steps.push(unless(EQUAL, *call as u32, 1));
        steps.push(step(RETURN, ALLOW));
    }
    steps.extend(unless_argument(libc::SYS_mmap, 2, ANY_OF, libc::PROT_EXEC as u32));
    steps.extend(unless_argument(libc::SYS_mprotect, 2, ANY_OF, libc::PROT_EXEC as u32));
    steps.extend(unless_argument(libc::SYS_setsockopt, 2, EQUAL, libc::SO_LINGER as u32));
    // Threads, no processes.
    steps.extend(if_argument(libc::SYS_clone, 0, ANY_OF, libc::CLONE_THREAD as u32));
    steps.extend(if_argument(libc::SYS_prctl, 0, EQUAL, libc::PR_SET_NAME as u32));
    // abort(3) of this process; another's number is not known here, and another's user forbids it.
    steps.extend(if_argument(libc::SYS_tgkill, 2, EQUAL, libc::SIGABRT as u32));
    steps.extend([unless(EQUAL, libc::SYS_clone3 as u32, 1), step(RETURN, UNKNOWN)]);
    steps.push(step(RETURN, DENY));
    steps
}

/// Installs the filter for all threads.
pub fn install() -> io::Result<()> {
    let mut steps = program();
    let len = u16::try_from(steps.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: steps.as_mut_ptr() };
    // SAFETY: the program points to `len` steps that live through the call; the kernel copies and
    // checks them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    match done {
        0 => Ok(()),
        ..0 => Err(io::Error::last_os_error()),
        thread => Err(io::Error::other(format!("thread {thread} has a filter of its own"))),
    }
}
