//! The system calls that the server needs. All others fail with EPERM and do not kill the process,
//! because libraries may have a fallback.

use bpf::{ANY_OF, EQUAL, Program};
use libc::sock_filter;
use std::io;
use std::mem::offset_of;

/// Allowed with any arguments, frequent ones first. None of them opens a file, starts a program,
/// affects another process or sends a descriptor. (sendmsg(2) is missing, because the last copy of a
/// socket with SO_LINGER could block the process that closes it.)
#[rustfmt::skip]
const ALLOWED: &[i64] = &[
    // Waiting, reading, writing.
    libc::SYS_epoll_wait, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_epoll_ctl,
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64,
    libc::SYS_recvfrom, libc::SYS_sendto, libc::SYS_recvmsg, libc::SYS_poll,
    // Connections and received files.
    libc::SYS_accept4, libc::SYS_shutdown, libc::SYS_close, libc::SYS_getsockopt,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_fcntl,
    libc::SYS_fstat, libc::SYS_lseek,
    // Memory and time.
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_brk, libc::SYS_getrandom,
    libc::SYS_clock_gettime, libc::SYS_gettimeofday, libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    // Threads, signals, exit.
    libc::SYS_futex, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigaction, libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_restart_syscall,
    libc::SYS_exit, libc::SYS_exit_group,
];

/// They take a path, which is empty when newer C libraries use them for fstat(3). Landlock
/// restricts other paths.
const STAT: &[i64] = &[libc::SYS_newfstatat, libc::SYS_statx];

const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
/// After ENOSYS, glibc starts threads with clone(2), whose flags a filter can check, unlike those
/// of clone3(2).
const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Offset of the lower half of an argument, which contains all flags that matter (both
/// architectures are little-endian).
const fn argument(number: usize) -> u32 {
    (offset_of!(libc::seccomp_data, args) + number * 8) as u32
}

/// Calls that are allowed depending on an argument: the call, the argument, the test, its operand,
/// and the results if the test holds and if it does not.
const CONDITIONAL: &[(i64, usize, u16, u32, u32, u32)] = &[
    (libc::SYS_mmap, 2, ANY_OF, libc::PROT_EXEC as u32, DENY, ALLOW),
    (libc::SYS_mprotect, 2, ANY_OF, libc::PROT_EXEC as u32, DENY, ALLOW),
    (libc::SYS_setsockopt, 2, EQUAL, libc::SO_LINGER as u32, DENY, ALLOW),
    // Threads but not processes.
    (libc::SYS_clone, 0, ANY_OF, libc::CLONE_THREAD as u32, ALLOW, DENY),
    (libc::SYS_prctl, 0, EQUAL, libc::PR_SET_NAME as u32, ALLOW, DENY),
    // abort(3) of this process. Other processes run as other users, and their IDs are not known
    // here.
    (libc::SYS_tgkill, 2, EQUAL, libc::SIGABRT as u32, ALLOW, DENY),
];

/// Tests the frequent calls first. The assembler works backwards, so they are added last.
fn program() -> Vec<sock_filter> {
    let mut program = Program::default();
    let mut next = program.ret(DENY);
    let unknown = program.ret(UNKNOWN);
    next = program.branch(EQUAL, libc::SYS_clone3 as u32, unknown, next);
    for &(call, number, test, operand, then, otherwise) in CONDITIONAL.iter().rev() {
        let (then, otherwise) = (program.ret(then), program.ret(otherwise));
        let tested = program.branch(test, operand, then, otherwise);
        let loaded = program.load(argument(number), tested);
        next = program.branch(EQUAL, call as u32, loaded, next);
    }
    for call in ALLOWED.iter().chain(STAT).rev() {
        let allow = program.ret(ALLOW);
        next = program.branch(EQUAL, *call as u32, allow, next);
    }
    let ours = program.load(offset_of!(libc::seccomp_data, nr) as u32, next);
    // Other architectures have different call numbers.
    let others = program.ret(libc::SECCOMP_RET_KILL_PROCESS);
    let begin = program.branch(EQUAL, ARCHITECTURE, ours, others);
    let begin = program.load(offset_of!(libc::seccomp_data, arch) as u32, begin);
    program.finish(begin)
}

/// Installs the filter for all threads.
pub fn install() -> io::Result<()> {
    let mut steps = program();
    let len = u16::try_from(steps.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len, filter: steps.as_mut_ptr() };
    // SAFETY: the program points to `len` instructions that live through the call; the kernel
    // copies and checks them.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The result for a call with this value in every argument.
    fn result(program: &[sock_filter], call: i64, arch: u32, argument: u64) -> u32 {
        let data = libc::seccomp_data {
            nr: call as i32,
            arch,
            instruction_pointer: 0,
            args: [argument; 6],
        };
        // SAFETY: the structure is plain data without padding.
        let bytes: [u8; 64] = unsafe { std::mem::transmute(data) };
        bpf::run(program, &bytes).unwrap()
    }

    #[test]
    fn exactly_the_listed_calls_are_allowed() {
        let program = program();
        let upper = u64::from(u32::MAX) << 32;
        for call in (0..600).chain([-1, 0x4000_0000, i64::from(i32::MAX)]) {
            for argument in [0u64, 1, 4, 6, 13, 15, 0x1_0000, u64::from(u32::MAX)] {
                let listed = ALLOWED.iter().chain(STAT).any(|listed| *listed == call);
                let conditional = CONDITIONAL.iter().find(|(of, ..)| *of == call);
                let expected = match conditional {
                    _ if listed => ALLOW,
                    _ if call == libc::SYS_clone3 => UNKNOWN,
                    None => DENY,
                    Some((_, _, test, operand, then, otherwise)) => {
                        let holds = match *test {
                            EQUAL => argument as u32 == *operand,
                            _ => argument as u32 & *operand != 0,
                        };
                        if holds { *then } else { *otherwise }
                    }
                };
                for argument in [argument, argument | upper] {
                    let got = result(&program, call, ARCHITECTURE, argument);
                    assert_eq!(got, expected, "call {call} with {argument:#x}");
                }
                let got = result(&program, call, ARCHITECTURE ^ 1, argument);
                assert_eq!(got, libc::SECCOMP_RET_KILL_PROCESS, "call {call}");
            }
        }
    }
}
