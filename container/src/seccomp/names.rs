//! System calls of x86-64 by name and number (kernel `arch/x86/entry/syscalls/syscall_64.tbl`).

/// Number of the first call of [`RECENT`]. From here on all architectures use the same numbers;
/// those between the end of [`EARLY`] and this one are unused.
const FIRST_RECENT: u32 = 424;

/// The newest call in this table (Linux 6.17).
pub const NEWEST: u32 = FIRST_RECENT + RECENT.len() as u32 - 1;

/// Calls 0 and up.
#[rustfmt::skip]
const EARLY: [&str; 337] = [
    "read", "write", "open", "close", "stat", "fstat", "lstat", "poll", "lseek", "mmap", "mprotect",
    "munmap", "brk", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "ioctl", "pread64",
    "pwrite64", "readv", "writev", "access", "pipe", "select", "sched_yield", "mremap", "msync",
    "mincore", "madvise", "shmget", "shmat", "shmctl", "dup", "dup2", "pause", "nanosleep",
    "getitimer", "alarm", "setitimer", "getpid", "sendfile", "socket", "connect", "accept",
    "sendto", "recvfrom", "sendmsg", "recvmsg", "shutdown", "bind", "listen", "getsockname",
    "getpeername", "socketpair", "setsockopt", "getsockopt", "clone", "fork", "vfork", "execve",
    "exit", "wait4", "kill", "uname", "semget", "semop", "semctl", "shmdt", "msgget", "msgsnd",
    "msgrcv", "msgctl", "fcntl", "flock", "fsync", "fdatasync", "truncate", "ftruncate", "getdents",
    "getcwd", "chdir", "fchdir", "rename", "mkdir", "rmdir", "creat", "link", "unlink", "symlink",
    "readlink", "chmod", "fchmod", "chown", "fchown", "lchown", "umask", "gettimeofday",
    "getrlimit", "getrusage", "sysinfo", "times", "ptrace", "getuid", "syslog", "getgid", "setuid",
    "setgid", "geteuid", "getegid", "setpgid", "getppid", "getpgrp", "setsid", "setreuid",
    "setregid", "getgroups", "setgroups", "setresuid", "getresuid", "setresgid", "getresgid",
    "getpgid", "setfsuid", "setfsgid", "getsid", "capget", "capset", "rt_sigpending",
    "rt_sigtimedwait", "rt_sigqueueinfo", "rt_sigsuspend", "sigaltstack", "utime", "mknod",
    "uselib", "personality", "ustat", "statfs", "fstatfs", "sysfs", "getpriority", "setpriority",
    "sched_setparam", "sched_getparam", "sched_setscheduler", "sched_getscheduler",
    "sched_get_priority_max", "sched_get_priority_min", "sched_rr_get_interval", "mlock", "munlock",
    "mlockall", "munlockall", "vhangup", "modify_ldt", "pivot_root", "_sysctl", "prctl",
    "arch_prctl", "adjtimex", "setrlimit", "chroot", "sync", "acct", "settimeofday", "mount",
    "umount2", "swapon", "swapoff", "reboot", "sethostname", "setdomainname", "iopl", "ioperm",
    "create_module", "init_module", "delete_module", "get_kernel_syms", "query_module", "quotactl",
    "nfsservctl", "getpmsg", "putpmsg", "afs_syscall", "tuxcall", "security", "gettid", "readahead",
    "setxattr", "lsetxattr", "fsetxattr", "getxattr", "lgetxattr", "fgetxattr", "listxattr",
    "llistxattr", "flistxattr", "removexattr", "lremovexattr", "fremovexattr", "tkill", "time",
    "futex", "sched_setaffinity", "sched_getaffinity", "set_thread_area", "io_setup", "io_destroy",
    "io_getevents", "io_submit", "io_cancel", "get_thread_area", "lookup_dcookie", "epoll_create",
    "epoll_ctl_old", "epoll_wait_old", "remap_file_pages", "getdents64", "set_tid_address",
    "restart_syscall", "semtimedop", "fadvise64", "timer_create", "timer_settime", "timer_gettime",
    "timer_getoverrun", "timer_delete", "clock_settime", "clock_gettime", "clock_getres",
    "clock_nanosleep", "exit_group", "epoll_wait", "epoll_ctl", "tgkill", "utimes", "vserver",
    "mbind", "set_mempolicy", "get_mempolicy", "mq_open", "mq_unlink", "mq_timedsend",
    "mq_timedreceive", "mq_notify", "mq_getsetattr", "kexec_load", "waitid", "add_key",
    "request_key", "keyctl", "ioprio_set", "ioprio_get", "inotify_init", "inotify_add_watch",
    "inotify_rm_watch", "migrate_pages", "openat", "mkdirat", "mknodat", "fchownat", "futimesat",
    "newfstatat", "unlinkat", "renameat", "linkat", "symlinkat", "readlinkat", "fchmodat",
    "faccessat", "pselect6", "ppoll", "unshare", "set_robust_list", "get_robust_list", "splice",
    "tee", "sync_file_range", "vmsplice", "move_pages", "utimensat", "epoll_pwait", "signalfd",
    "timerfd_create", "eventfd", "fallocate", "timerfd_settime", "timerfd_gettime", "accept4",
    "signalfd4", "eventfd2", "epoll_create1", "dup3", "pipe2", "inotify_init1", "preadv", "pwritev",
    "rt_tgsigqueueinfo", "perf_event_open", "recvmmsg", "fanotify_init", "fanotify_mark",
    "prlimit64", "name_to_handle_at", "open_by_handle_at", "clock_adjtime", "syncfs", "sendmmsg",
    "setns", "getcpu", "process_vm_readv", "process_vm_writev", "kcmp", "finit_module",
    "sched_setattr", "sched_getattr", "renameat2", "seccomp", "getrandom", "memfd_create",
    "kexec_file_load", "bpf", "execveat", "userfaultfd", "membarrier", "mlock2", "copy_file_range",
    "preadv2", "pwritev2", "pkey_mprotect", "pkey_alloc", "pkey_free", "statx", "io_pgetevents",
    "rseq",
    "uretprobe", "uprobe",
];

/// Calls [`FIRST_RECENT`] and up.
#[rustfmt::skip]
const RECENT: [&str; 46] = [
    "pidfd_send_signal", "io_uring_setup", "io_uring_enter", "io_uring_register", "open_tree",
    "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "pidfd_open", "clone3", "close_range",
    "openat2", "pidfd_getfd", "faccessat2", "process_madvise", "epoll_pwait2", "mount_setattr",
    "quotactl_fd", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
    "memfd_secret", "process_mrelease", "futex_waitv", "set_mempolicy_home_node", "cachestat",
    "fchmodat2", "map_shadow_stack", "futex_wake", "futex_wait", "futex_requeue", "statmount",
    "listmount", "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules", "mseal",
    "setxattrat", "getxattrat", "listxattrat", "removexattrat", "open_tree_attr", "file_getattr",
    "file_setattr",
];

const COUNT: usize = EARLY.len() + RECENT.len();

/// The numbers of all calls, sorted by name. Computed at compile time, because profiles are parsed
/// when a host boots.
static BY_NAME: [u16; COUNT] = sort();

const fn text(number: u16) -> &'static str {
    if (number as usize) < EARLY.len() {
        EARLY[number as usize]
    } else {
        RECENT[number as usize - FIRST_RECENT as usize]
    }
}

const fn is_less(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() {
        if a[at] != b[at] {
            return a[at] < b[at];
        }
        at += 1;
    }
    a.len() < b.len()
}

const fn sort() -> [u16; COUNT] {
    let mut sorted = [0u16; COUNT];
    let mut count = 0;
    while count < COUNT {
        let number = if count < EARLY.len() {
            count as u16
        } else {
            (count - EARLY.len()) as u16 + FIRST_RECENT as u16
        };
        let mut at = count;
        while at > 0 && is_less(text(number), text(sorted[at - 1])) {
            sorted[at] = sorted[at - 1];
            at -= 1;
        }
        sorted[at] = number;
        count += 1;
    }
    sorted
}

/// The number of a call.
pub fn number(name: &str) -> Option<u32> {
    let found = BY_NAME.binary_search_by(|number| text(*number).cmp(name)).ok()?;
    BY_NAME.get(found).map(|number| u32::from(*number))
}

/// The name of a call.
pub fn name(number: u32) -> Option<&'static str> {
    match number.checked_sub(FIRST_RECENT) {
        Some(recent) => RECENT.get(recent as usize).copied(),
        None => EARLY.get(number as usize).copied(),
    }
}

/// Every call, by number.
pub fn all() -> impl Iterator<Item = (u32, &'static str)> {
    (0..=NEWEST).filter_map(|number| Some((number, name(number)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_maps_to_its_number() {
        let mut count = 0;
        for (at, name) in all() {
            assert_eq!(number(name), Some(at), "{name}");
            count += 1;
        }
        assert_eq!(count, COUNT);
        assert_eq!((number("chown32"), number(""), number("READ")), (None, None, None));
        assert_eq!(
            (name(400), name(337), name(u32::MAX), name(NEWEST + 1)),
            (None, None, None, None)
        );
    }

    #[test]
    fn the_numbers_agree_with_libc() {
        macro_rules! agree {
            ($($name:ident = $number:ident,)*) => {
                $(assert_eq!(number(stringify!($name)).map(i64::from), Some(libc::$number));)*
            };
        }
        agree! {
            read = SYS_read, mmap = SYS_mmap, ioctl = SYS_ioctl, clone = SYS_clone,
            execve = SYS_execve, ptrace = SYS_ptrace, personality = SYS_personality,
            pivot_root = SYS_pivot_root, gettid = SYS_gettid, tkill = SYS_tkill,
            add_key = SYS_add_key, openat = SYS_openat, unshare = SYS_unshare, setns = SYS_setns,
            userfaultfd = SYS_userfaultfd, statx = SYS_statx, rseq = SYS_rseq,
            pidfd_send_signal = SYS_pidfd_send_signal, io_uring_setup = SYS_io_uring_setup,
            clone3 = SYS_clone3, close_range = SYS_close_range, futex_waitv = SYS_futex_waitv,
            fchmodat2 = SYS_fchmodat2, mseal = SYS_mseal,
        }
    }
}
