//! The default profile.
//!
//! It allows what the profiles of docker and podman allow, because programs are written and tested
//! under those, with these differences: calls of 32-bit programs are forbidden, and so are
//! io_uring, whose operations a filter cannot see, userfaultfd, TIOCSTI, and sockets of AF_ALG and
//! of obsolete families. All of them have been used in container escapes, and programs work without
//! them.

use super::names;
use super::profile::{Action, Compare, Condition, Profile, Rule};
use crate::caps::{CapSet, Capability};

/// Always allowed, whatever the arguments.
#[rustfmt::skip]
const ALLOWED: &[&str] = &[
    // Files and directories.
    "access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup",
    "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod",
    "fchmodat", "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync", "file_getattr",
    "file_setattr", "flock", "fstat", "fstatfs", "fsync", "ftruncate", "futimesat", "getcwd",
    "getdents", "getdents64", "lchown", "link", "linkat", "lseek", "lstat", "mkdir", "mkdirat",
    "mknod", "mknodat", "name_to_handle_at", "newfstatat", "open", "openat", "openat2", "readlink",
    "readlinkat", "rename", "renameat", "renameat2", "rmdir", "stat", "statfs", "statx", "symlink",
    "symlinkat", "sync", "sync_file_range", "syncfs", "truncate", "umask", "unlink", "unlinkat",
    "utime", "utimensat", "utimes",
    "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "getxattr", "getxattrat", "lgetxattr",
    "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lsetxattr", "removexattr",
    "removexattrat", "setxattr", "setxattrat",
    "fanotify_mark", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch",
    "listmount", "statmount",
    // Reading, writing, waiting.
    "cachestat", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "io_cancel", "io_destroy",
    "io_getevents", "io_pgetevents", "io_setup", "io_submit", "pipe", "pipe2", "poll", "ppoll",
    "pread64", "preadv", "preadv2", "pselect6", "pwrite64", "pwritev", "pwritev2", "read",
    "readahead", "readv", "select", "sendfile", "signalfd", "signalfd4", "splice", "tee",
    "timerfd_create", "timerfd_gettime", "timerfd_settime", "vmsplice", "write", "writev",
    // Sockets; socket itself is below.
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
    "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    "socketpair",
    // Shared messages, semaphores and memory.
    "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink",
    "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat",
    "shmctl", "shmdt", "shmget",
    // Memory.
    "brk", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore",
    "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mremap", "mseal", "msync", "munlock",
    "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "remap_file_pages",
    // Processes and threads; clone is below. ptrace cannot be used to bypass the filter: since
    // Linux 4.8 the kernel runs the filter after the tracer has changed the call.
    "arch_prctl", "execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_requeue",
    "futex_wait", "futex_waitv", "futex_wake", "get_robust_list", "get_thread_area", "getcpu",
    "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrlimit", "getrusage", "getsid",
    "gettid", "ioprio_get", "ioprio_set", "modify_ldt", "pause", "pidfd_open", "prctl", "prlimit64",
    "process_mrelease", "process_vm_readv", "process_vm_writev", "ptrace", "restart_syscall", "rseq",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
    "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity",
    "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "set_robust_list",
    "set_thread_area", "set_tid_address", "setpgid", "setpriority", "setrlimit", "setsid", "uprobe",
    "uretprobe", "vfork", "wait4", "waitid",
    // Signals and time.
    "adjtimex", "alarm", "clock_adjtime", "clock_getres", "clock_gettime", "clock_nanosleep",
    "getitimer", "gettimeofday", "kill", "nanosleep", "pidfd_send_signal", "rt_sigaction",
    "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_tgsigqueueinfo", "setitimer", "sigaltstack", "tgkill", "time",
    "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "times",
    "tkill",
    // Credentials, and dropping privileges.
    "capget", "capset", "getegid", "geteuid", "getgid", "getgroups", "getresgid", "getresuid",
    "getuid", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp",
    "setfsgid", "setfsuid", "setgid", "setgroups", "setregid", "setresgid", "setresuid", "setreuid",
    "setuid",
    // The rest.
    "getrandom", "sysinfo", "uname",
];

/// Allowed with one of the capabilities, which the kernel itself requires only later in the call.
#[rustfmt::skip]
const WITH_CAPABILITY: &[(&[&str], &[&str])] = &[
    (&["SYS_ADMIN"], &[
        "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick",
        "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount",
        "mount_setattr", "move_mount", "open_tree", "open_tree_attr", "pivot_root", "quotactl",
        "quotactl_fd", "setdomainname", "sethostname", "setns", "umount2", "unshare",
    ]),
    (&["SYS_ADMIN", "BPF"], &["bpf"]),
    (&["SYS_ADMIN", "PERFMON"], &["perf_event_open"]),
    (&["SYS_ADMIN", "SYSLOG"], &["syslog"]),
    (&["DAC_READ_SEARCH"], &["open_by_handle_at"]),
    (&["SYS_BOOT"], &["reboot"]),
    (&["SYS_CHROOT"], &["chroot"]),
    (&["SYS_MODULE"], &["delete_module", "finit_module", "init_module"]),
    (&["SYS_NICE"], &[
        "get_mempolicy", "mbind", "migrate_pages", "move_pages", "set_mempolicy",
        "set_mempolicy_home_node",
    ]),
    (&["SYS_PACCT"], &["acct"]),
    (&["SYS_PTRACE"], &["kcmp", "pidfd_getfd", "process_madvise"]),
    (&["SYS_RAWIO"], &["ioperm", "iopl"]),
    (&["SYS_TIME"], &["clock_settime", "settimeofday"]),
    (&["SYS_TTY_CONFIG"], &["vhangup"]),
];

/// Always forbidden. The default action forbids them anyway; the list exists so that a test can
/// check that each call of the table is on exactly one list.
#[cfg(test)]
#[rustfmt::skip]
const FORBIDDEN: &[&str] = &[
    // Keys are not fully namespaced: names and quotas are shared by all processes of a user id.
    "add_key", "keyctl", "request_key",
    // Operations in a ring in shared memory, which a filter cannot see.
    "io_uring_enter", "io_uring_register", "io_uring_setup",
    // Lets an attacker suspend the kernel in the middle of a copy from user memory.
    "userfaultfd",
    // These affect the whole host.
    "kexec_file_load", "kexec_load", "nfsservctl", "swapoff", "swapon",
    // Removed from the kernel, or never implemented.
    "_sysctl", "afs_syscall", "create_module", "get_kernel_syms", "getpmsg", "putpmsg",
    "query_module", "security", "sysfs", "tuxcall", "uselib", "ustat", "vserver",
];

/// Every `CLONE_NEW*` flag of clone(2). CLONE_NEWTIME is missing: it would be in the lowest byte,
/// which holds the signal, and exists only for clone3 and unshare.
const NAMESPACES: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS) as u32 as u64;

/// `TIOCSTI` injects input into the user's terminal (CVE-2017-5226), `TIOCLINUX` pastes into a
/// console (asm-generic/ioctls.h).
const TERMINAL_REQUESTS: [u32; 2] = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

/// Socket address families that are refused: AF_VSOCK is not namespaced and reaches the hypervisor;
/// AF_ALG (CVE-2026-31431) lets any process pass memory to the kernel's ciphers. The others are
/// DECnet, Econet, ATM SVC, IrDA, WAN pipe, IUCV and CAIF.
const FAMILIES: [u32; 9] = [12, 19, 20, 23, 25, 34, 37, 38, 40];

/// Execution domains (linux/personality.h) that only change what uname(2) reports: none,
/// PER_LINUX32, UNAME26, both, and the query for the current one.
const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, u32::MAX];

fn numbers(calls: &[&str]) -> Vec<u32> {
    calls.iter().filter_map(|call| names::number(call)).collect()
}

fn rule(calls: &[&str], action: Action, conditions: Vec<Condition>) -> Rule {
    Rule { calls: numbers(calls), action, conditions }
}

impl Profile {
    /// The default profile of a container with these capabilities.
    pub fn default_for(caps: CapSet) -> Profile {
        let has = |name: &&str| Capability::from_name(name).is_some_and(|cap| caps.contains(cap));
        let mut rules = vec![rule(ALLOWED, Action::Allow, vec![])];
        for (capabilities, calls) in WITH_CAPABILITY {
            if capabilities.iter().any(has) {
                rules.push(rule(calls, Action::Allow, vec![]));
            }
        }
        let no_namespace =
            Condition { argument: 0, compare: Compare::MaskedEq(NAMESPACES), value: 0 };
        rules.push(rule(&["clone"], Action::Allow, vec![no_namespace]));
        // Its flags are in memory, which a filter cannot read. After ENOSYS, C libraries fall back
        // to clone.
        rules.push(rule(&["clone3"], Action::UNKNOWN, vec![]));
        for request in TERMINAL_REQUESTS {
            let condition = Condition::lower_half(1, request);
            rules.push(rule(&["ioctl"], Action::DENY, vec![condition]));
        }
        rules.push(rule(&["ioctl"], Action::Allow, vec![]));
        for family in FAMILIES {
            let condition = Condition::lower_half(0, family);
            // The error of a kernel without the family, which programs that probe for it handle.
            let action = Action::Errno(libc::EAFNOSUPPORT as u16);
            rules.push(rule(&["socket"], action, vec![condition]));
        }
        rules.push(rule(&["socket"], Action::Allow, vec![]));
        for personality in PERSONALITIES {
            let condition = Condition::lower_half(0, personality);
            rules.push(rule(&["personality"], Action::Allow, vec![condition]));
        }
        Profile { default: Action::DENY, newest: Some(names::NEWEST), rules, flags: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::Filter;
    use std::collections::BTreeSet;

    fn evaluate(caps: &[&str], call: &str, arguments: &[u64]) -> Action {
        let caps = CapSet::from_names(caps, &[]).unwrap();
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        Profile::default_for(caps).evaluate(names::number(call).unwrap(), &all)
    }

    #[test]
    fn each_call_is_on_one_list() {
        let mut seen = BTreeSet::new();
        let special = ["clone", "clone3", "ioctl", "personality", "socket"];
        let with = WITH_CAPABILITY.iter().flat_map(|(_, calls)| calls.iter());
        for call in ALLOWED.iter().chain(with).chain(FORBIDDEN).chain(&special[2..]) {
            assert!(names::number(call).is_some(), "unknown call {call}");
            assert!(seen.insert(*call), "{call} is on two lists");
        }
        for (_, name) in names::all() {
            assert!(seen.contains(name), "{name} is on no list");
        }
        for (caps, _) in WITH_CAPABILITY {
            caps.iter().for_each(|cap| assert!(Capability::from_name(cap).is_some(), "{cap}"));
        }
    }

    #[test]
    fn upper_halves_of_32_bit_arguments_do_not_bypass_the_filter() {
        let upper = 1 << 32;
        let refused = Action::Errno(libc::EAFNOSUPPORT as u16);
        for high in [0, upper, u64::MAX << 32] {
            assert_eq!(evaluate(&[], "socket", &[high | 38]), refused);
            assert_eq!(evaluate(&[], "socket", &[high | 40]), refused);
            assert_eq!(evaluate(&[], "ioctl", &[0, high | 0x5412]), Action::DENY);
            assert_eq!(evaluate(&[], "clone", &[high | 0x1000_0000]), Action::DENY);
            assert_eq!(evaluate(&[], "personality", &[high | 0x40_0000]), Action::DENY);
            assert_eq!(evaluate(&[], "personality", &[high | 0x2_0008]), Action::Allow);
            assert_eq!(evaluate(&[], "socket", &[high | 2]), Action::Allow);
        }
    }

    #[test]
    fn threads_and_processes_can_be_created_but_not_namespaces() {
        // The flags of pthread_create(3), fork(3) and posix_spawn(3) in glibc.
        for flags in [0x3d_0f00, 0x0120_0011, 0x4111] {
            assert_eq!(evaluate(&[], "clone", &[flags]), Action::Allow);
        }
        for bit in [
            0x0002_0000,
            0x0200_0000,
            0x0400_0000,
            0x0800_0000,
            0x1000_0000,
            0x2000_0000,
            0x4000_0000,
        ] {
            assert_eq!(evaluate(&[], "clone", &[bit | 0x11]), Action::DENY);
            assert_eq!(evaluate(&["SYS_ADMIN"], "clone", &[bit | 0x11]), Action::Allow);
        }
        assert_eq!(evaluate(&[], "clone3", &[]), Action::UNKNOWN);
        assert_eq!(evaluate(&["SYS_ADMIN"], "clone3", &[]), Action::Allow);
    }

    #[test]
    fn a_capability_allows_its_calls() {
        for (cap, call) in [
            ("BPF", "bpf"),
            ("SYS_ADMIN", "bpf"),
            ("SYSLOG", "syslog"),
            ("SYS_ADMIN", "mount"),
            ("SYS_TIME", "settimeofday"),
            ("DAC_READ_SEARCH", "open_by_handle_at"),
        ] {
            assert_eq!(evaluate(&[], call, &[]), Action::DENY);
            assert_eq!(evaluate(&[cap], call, &[]), Action::Allow);
        }
        assert_eq!(evaluate(&[], "chroot", &[]), Action::Allow);
        let none = Profile::default_for(CapSet::EMPTY);
        assert_eq!(none.evaluate(names::number("chroot").unwrap(), &[0; 6]), Action::DENY);
        for call in FORBIDDEN {
            let all = Profile::default_for(CapSet::ALL);
            assert_eq!(all.evaluate(names::number(call).unwrap(), &[0; 6]), Action::DENY);
        }
    }

    #[test]
    fn the_program_is_short_for_any_set_of_capabilities() {
        for caps in [CapSet::EMPTY, CapSet::DEFAULT, CapSet::ALL] {
            let length = Filter::default_for(caps).unwrap().instructions();
            assert!(length < 300, "{length}");
        }
    }
}
