//! The profile of a container that asks for no other one.
//!
//! It allows what docker's and podman's allow, for programs are written and tested under those, with
//! these differences: calls of 32-bit programs are not let through; io_uring, whose operations no
//! filter sees, userfaultfd, TIOCSTI and sockets of AF_ALG and of families that nobody uses any
//! more are forbidden. All of them have been the way out of many a container, and programs live
//! without them.

use super::names;
use super::profile::{Action, Compare, Condition, Profile, Rule};
use crate::caps::{CapSet, Capability};

/// Allowed to everybody, whatever the arguments.
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
    // Messages, semaphores and memory that are shared.
    "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink",
    "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat",
    "shmctl", "shmdt", "shmget",
    // Memory.
    "brk", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore",
    "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mremap", "mseal", "msync", "munlock",
    "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "remap_file_pages",
    // Processes and threads; clone is below. The kernel checks a traced process's filter only after
    // its tracer has had its say since 4.8, so that ptrace is no way round this one.
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
    // Who one is, and giving up rights.
    "capget", "capset", "getegid", "geteuid", "getgid", "getgroups", "getresgid", "getresuid",
    "getuid", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp",
    "setfsgid", "setfsuid", "setgid", "setgroups", "setregid", "setresgid", "setresuid", "setreuid",
    "setuid",
    // The rest.
    "getrandom", "sysinfo", "uname",
];

/// Allowed to those who have one of the capabilities: the kernel wants it too, and checks it only in
/// the course of the call.
#[rustfmt::skip]
const WITH: &[(&[&str], &[&str])] = &[
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

/// Forbidden to everybody. The list is there so that each call of the table is on one list: the
/// default forbids them as well.
#[cfg(test)]
#[rustfmt::skip]
const FORBIDDEN: &[&str] = &[
    // Keys are not namespaced well: names and quotas are shared by all of one user number.
    "add_key", "keyctl", "request_key",
    // Operations in a ring in shared memory: no filter sees them.
    "io_uring_enter", "io_uring_register", "io_uring_setup",
    // Stops the kernel in the middle of a copy from user memory, for as long as an attacker wants.
    "userfaultfd",
    // The whole host's.
    "kexec_file_load", "kexec_load", "nfsservctl", "swapoff", "swapon",
    // Long gone, or never there.
    "_sysctl", "afs_syscall", "create_module", "get_kernel_syms", "getpmsg", "putpmsg",
    "query_module", "security", "sysfs", "tuxcall", "uselib", "ustat", "vserver",
];

/// Every `CLONE_NEW*` that clone(2) takes; its lowest byte is a signal, where CLONE_NEWTIME (only of
/// clone3 and unshare) would stand.
const NAMESPACES: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS) as u32 as u64;

/// `TIOCSTI` types into the terminal of whoever looks on (CVE-2017-5226), `TIOCLINUX` pastes into a
/// console (asm-generic/ioctls.h).
const TERMINAL_REQUESTS: [u32; 2] = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

/// Address families of sockets that are refused: AF_VSOCK is not namespaced and leads to the
/// machine that this one runs in; AF_ALG (CVE-2026-31431) lets anybody hand memory to the
/// kernel's ciphers. The others are DECnet, Econet, ATM SVC, IrDA, WAN pipe, IUCV and CAIF.
const FAMILIES: [u32; 9] = [12, 19, 20, 23, 25, 34, 37, 38, 40];

/// Execution domains (linux/personality.h) that change what is reported and nothing else: none,
/// PER_LINUX32, UNAME26, both, and the question which one holds.
const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, u32::MAX];

fn numbers(calls: &[&str]) -> Vec<u32> {
    calls.iter().filter_map(|call| names::number(call)).collect()
}

fn rule(calls: &[&str], action: Action, conditions: Vec<Condition>) -> Rule {
    Rule { calls: numbers(calls), action, conditions }
}

impl Profile {
    /// The profile of a container that has these capabilities and asks for no other one.
    pub fn default_for(caps: CapSet) -> Profile {
        let has = |name: &&str| Capability::from_name(name).is_some_and(|cap| caps.contains(cap));
        let mut rules = vec![rule(ALLOWED, Action::Allow, vec![])];
        for (capabilities, calls) in WITH {
            if capabilities.iter().any(has) {
                rules.push(rule(calls, Action::Allow, vec![]));
            }
        }
        let no_namespace =
            Condition { argument: 0, compare: Compare::MaskedEq(NAMESPACES), value: 0 };
        rules.push(rule(&["clone"], Action::Allow, vec![no_namespace]));
        // Its flags are in memory, where no filter looks. Told that there is no such call, C
        // libraries use clone.
        rules.push(rule(&["clone3"], Action::UNKNOWN, vec![]));
        for request in TERMINAL_REQUESTS {
            let condition = Condition::lower_half(1, request);
            rules.push(rule(&["ioctl"], Action::DENY, vec![condition]));
        }
        rules.push(rule(&["ioctl"], Action::Allow, vec![]));
        for family in FAMILIES {
            let condition = Condition::lower_half(0, family);
            // What a kernel without the family answers; programs that look for one know it.
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

    fn judge(caps: &[&str], call: &str, arguments: &[u64]) -> Action {
        let caps = CapSet::from_names(caps, &[]).unwrap();
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        Profile::default_for(caps).judge(names::number(call).unwrap(), &all)
    }

    #[test]
    fn each_call_is_on_one_list() {
        let mut seen = BTreeSet::new();
        let special = ["clone", "clone3", "ioctl", "personality", "socket"];
        let with = WITH.iter().flat_map(|(_, calls)| calls.iter());
        for call in ALLOWED.iter().chain(with).chain(FORBIDDEN).chain(&special[2..]) {
            assert!(names::number(call).is_some(), "{call} is no call");
            assert!(seen.insert(*call), "{call} is on two lists");
        }
        for (_, name) in names::all() {
            assert!(seen.contains(name), "{name} is on no list");
        }
        for (caps, _) in WITH {
            caps.iter().for_each(|cap| assert!(Capability::from_name(cap).is_some(), "{cap}"));
        }
    }

    #[test]
    fn upper_halves_of_small_arguments_are_no_way_round() {
        let upper = 1 << 32;
        let refused = Action::Errno(libc::EAFNOSUPPORT as u16);
        for high in [0, upper, u64::MAX << 32] {
            assert_eq!(judge(&[], "socket", &[high | 38]), refused);
            assert_eq!(judge(&[], "socket", &[high | 40]), refused);
            assert_eq!(judge(&[], "ioctl", &[0, high | 0x5412]), Action::DENY);
            assert_eq!(judge(&[], "clone", &[high | 0x1000_0000]), Action::DENY);
            assert_eq!(judge(&[], "personality", &[high | 0x40_0000]), Action::DENY);
            assert_eq!(judge(&[], "personality", &[high | 0x2_0008]), Action::Allow);
            assert_eq!(judge(&[], "socket", &[high | 2]), Action::Allow);
        }
    }

    #[test]
    fn threads_and_processes_can_be_made_and_namespaces_cannot() {
        // What pthread_create(3), fork(3) and posix_spawn(3) of glibc ask for.
        for flags in [0x3d_0f00, 0x0120_0011, 0x4111] {
            assert_eq!(judge(&[], "clone", &[flags]), Action::Allow);
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
            assert_eq!(judge(&[], "clone", &[bit | 0x11]), Action::DENY);
            assert_eq!(judge(&["SYS_ADMIN"], "clone", &[bit | 0x11]), Action::Allow);
        }
        assert_eq!(judge(&[], "clone3", &[]), Action::UNKNOWN);
        assert_eq!(judge(&["SYS_ADMIN"], "clone3", &[]), Action::Allow);
    }

    #[test]
    fn capabilities_open_their_calls() {
        for (cap, call) in [
            ("BPF", "bpf"),
            ("SYS_ADMIN", "bpf"),
            ("SYSLOG", "syslog"),
            ("SYS_ADMIN", "mount"),
            ("SYS_TIME", "settimeofday"),
            ("DAC_READ_SEARCH", "open_by_handle_at"),
        ] {
            assert_eq!(judge(&[], call, &[]), Action::DENY);
            assert_eq!(judge(&[cap], call, &[]), Action::Allow);
        }
        assert_eq!(judge(&[], "chroot", &[]), Action::Allow);
        let none = Profile::default_for(CapSet::EMPTY);
        assert_eq!(none.judge(names::number("chroot").unwrap(), &[0; 6]), Action::DENY);
        for call in FORBIDDEN {
            let all = Profile::default_for(CapSet::ALL);
            assert_eq!(all.judge(names::number(call).unwrap(), &[0; 6]), Action::DENY);
        }
    }

    #[test]
    fn it_is_short_enough_for_every_set_of_capabilities() {
        for caps in [CapSet::EMPTY, CapSet::DEFAULT, CapSet::ALL] {
            let length = Filter::default_for(caps).unwrap().instructions();
            assert!(length < 300, "{length}");
        }
    }
}
