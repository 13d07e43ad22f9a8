//! The child's side: from the clone to the exec, in the order of the engine's steps.

use crate::sys::{at, call, failed, to, tried};
use container::Step;
use container::seccomp::Filter;
use engine_bench::marks::mark;
use engine_bench::places;
use std::ffi::{CStr, CString};

/// What the parent has opened.
pub struct Given<'f> {
    /// The network namespace.
    pub net: i32,
    /// The status pipe.
    pub status: i32,
    /// Standard output.
    pub out: i32,
    /// Standard error.
    pub err: i32,
    /// Which system calls the program may make.
    pub calls: &'f Filter,
}

const CLOEXEC: i32 = libc::O_CLOEXEC;
const PATH_DIR: i32 = libc::O_PATH | libc::O_DIRECTORY | CLOEXEC;
const NOSUID: u64 = libc::MS_NOSUID;
const NODEV: u64 = libc::MS_NODEV;
const NOEXEC: u64 = libc::MS_NOEXEC;
const RDONLY: u64 = libc::MS_RDONLY;
const BIND: u64 = libc::MS_BIND;
const BENEATH: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;

const NODES: [(&CStr, u64); 6] = [
    (c"null", 0x103),
    (c"zero", 0x105),
    (c"full", 0x107),
    (c"random", 0x108),
    (c"urandom", 0x109),
    (c"tty", 0x500),
];
const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];
const MASKED: [&CStr; 14] = [
    c"/proc/acpi",
    c"/proc/asound",
    c"/proc/interrupts",
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/latency_stats",
    c"/proc/timer_list",
    c"/proc/timer_stats",
    c"/proc/sched_debug",
    c"/proc/scsi",
    c"/sys/firmware",
    c"/sys/devices/virtual/powercap",
    c"/sys/fs/selinux",
    c"/sys/devices/system/cpu/cpu0/thermal_throttle",
];
const READ_ONLY: [&CStr; 5] =
    [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];
/// The default capabilities, as bits.
const CAPS: u64 = 0x8004_05fb;

/// Runs up to the exec; a failure ends the process.
pub fn run(given: &Given<'_>) -> ! {
    let Given { net, status, out, err, calls } = *given;
    descriptors([net, status, out, err]);
    mark(Step::Descriptors.name());
    session();
    mark(Step::Session.name());
    call!(SYS_setns, net, libc::CLONE_NEWNET);
    mark(Step::Network.name());
    call!(SYS_sethostname, c"bench", 5);
    mark(Step::Hostname.name());

    let none = 0usize;
    call!(SYS_mount, none, c"/", none, libc::MS_REC | libc::MS_PRIVATE, none);
    mark(Step::PrivateMounts.name());
    let mut sets = [0u32; 6];
    let header = [0x2008_0522u32, 0];
    call!(SYS_capget, at(&header), to(&mut sets));
    root();
    let root = kernel_files();
    device_files(root);
    mark(Step::Dev.name());
    oom_score(root);
    mark(Step::OomScore.name());
    let null = masks(root);
    mark(Step::Mask.name());
    read_only();
    call!(SYS_close, null);
    mark(Step::ReadOnlyPaths.name());
    files(root);
    mark(Step::Files.name());
    user_and_directory(root);
    mark(Step::WorkingDir.name());
    stdio(root, out, err);
    mark(Step::Stdio.name());

    let files = libc::RLIMIT_NOFILE as i32;
    let mut limit = [1_048_576u64; 2];
    if tried!(SYS_prlimit64, 0, files, at(&limit), none) < 0 {
        // fs.nr_open is lower here.
        call!(SYS_prlimit64, 0, files, none, to(&mut limit));
        let [_, hard] = limit;
        call!(SYS_prlimit64, 0, files, at(&[hard, hard]), none);
    }
    mark(Step::Rlimits.name());
    call!(SYS_keyctl, 1, none);
    mark(Step::Keyring.name());
    for number in 0..64u64 {
        if CAPS & 1 << number == 0 && tried!(SYS_prctl, libc::PR_CAPBSET_DROP, number) < 0 {
            break;
        }
    }
    mark(Step::BoundingSet.name());
    let groups = [0u32];
    call!(SYS_setgroups, 0, at(&groups));
    call!(SYS_setresgid, 0, 0, 0);
    call!(SYS_setresuid, 0, 0, 0);
    mark(Step::SetUser.name());
    call!(SYS_capget, at(&header), to(&mut sets));
    call!(SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL);
    let low = (CAPS & u64::from(u32::MAX)) as u32;
    let sets = [low, low, 0, 0, 0, 0];
    call!(SYS_capset, at(&header), at(&sets));
    mark(Step::Capabilities.name());
    call!(SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1);
    mark(Step::NoNewPrivs.name());

    call!(SYS_umask, 0o022);
    let mask = 0u64;
    call!(SYS_rt_sigprocmask, libc::SIG_SETMASK, at(&mask), none, 8);
    call!(SYS_close_range, 3, u32::MAX as usize, 4);
    mark(Step::Final.name());
    if calls.load().is_err() {
        failed("SYS_seccomp", -libc::EINVAL);
    }
    mark(Step::Seccomp.name());
    let program = CString::new(places::PAYLOAD).unwrap_or_default();
    let path = c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let argv = [program.as_ptr() as usize, 0];
    let env = [path.as_ptr() as usize, c"HOME=/".as_ptr() as usize, 0];
    failed("execve", tried!(SYS_execve, program.as_c_str(), at(&argv), at(&env)))
}

/// Closes all descriptors except these and 0 to 2.
fn descriptors(mut keep: [i32; 4]) {
    keep.sort_unstable();
    let mut next = 3;
    for fd in keep {
        if next < fd {
            call!(SYS_close_range, next, fd - 1, 0);
        }
        next = fd + 1;
    }
    call!(SYS_close_range, next, u32::MAX as usize, 0);
}

fn session() {
    call!(SYS_setsid);
    call!(SYS_umask, 0);
    call!(SYS_prctl, libc::PR_SET_DUMPABLE, 0);
    let default = [0u64; 4];
    for signal in 1..=64 {
        let _ = tried!(SYS_rt_sigaction, signal, at(&default), 0, 8);
    }
}

/// Mounts the writable layer and the overlay, and makes the overlay the root.
fn root() {
    let staging = CString::new(places::STAGING).unwrap_or_default();
    let layer = CString::new(places::LAYER).unwrap_or_default();
    let none = 0usize;
    let flags = NODEV | libc::MS_NOATIME;
    call!(SYS_mount, c"tmpfs", staging.as_c_str(), c"tmpfs", flags, c"mode=0755");
    call!(SYS_chdir, staging.as_c_str());
    call!(SYS_mkdir, c"upper", 0o755);
    call!(SYS_mkdir, c"work", 0o755);
    mark(Step::WritableLayer.name());
    let overlay = call!(SYS_fsopen, c"overlay", 1);
    call!(SYS_fsconfig, overlay, 1, c"source", c"overlay", 0);
    call!(SYS_fsconfig, overlay, 1, c"lowerdir+", layer.as_c_str(), 0);
    call!(SYS_fsconfig, overlay, 1, c"upperdir", c"upper", 0);
    call!(SYS_fsconfig, overlay, 1, c"workdir", c"work", 0);
    call!(SYS_fsconfig, overlay, 0, c"volatile", none, 0);
    call!(SYS_fsconfig, overlay, 6, none, none, 0);
    // MOUNT_ATTR_NODEV
    let joined = call!(SYS_fsmount, overlay, 1, 4);
    let here = call!(SYS_openat, libc::AT_FDCWD, c".", libc::O_PATH | CLOEXEC, 0);
    call!(SYS_move_mount, joined, c"", here, c"", 0x44);
    call!(SYS_fchdir, joined);
    for fd in [here, joined, overlay] {
        call!(SYS_close, fd);
    }
    mark(Step::OverlayRoot.name());
    call!(SYS_pivot_root, c".", c".");
    call!(SYS_umount2, c".", libc::MNT_DETACH);
    call!(SYS_chdir, c"/");
    mark(Step::PivotRoot.name());
}

/// `openat2(2)`: flags, mode, resolve.
fn open(dir: i32, path: &CStr, flags: i32, mode: u64, resolve: u64) -> i32 {
    let how = [(flags | CLOEXEC) as u64, mode, resolve];
    tried!(SYS_openat2, dir, path, at(&how), size_of_val(&how))
}

fn opened(dir: i32, path: &CStr, flags: i32, mode: u64, resolve: u64) -> i32 {
    let fd = open(dir, path, flags, mode, resolve);
    if fd < 0 {
        failed("openat2", fd);
    }
    fd
}

/// Mounts a kernel file system on a directory that the runtime created.
fn kernel(root: i32, path: &CStr, kind: &CStr, flags: u64, options: Option<&CStr>) {
    let dir = opened(root, path, PATH_DIR, 0, BENEATH);
    call!(SYS_fchdir, dir);
    let options = options.map_or(0, |options| options.as_ptr() as usize);
    call!(SYS_mount, kind, c".", kind, flags, options);
    call!(SYS_close, dir);
}

/// Mounts /proc, /sys and the cgroup file system. Returns the root directory.
fn kernel_files() -> i32 {
    let root = call!(SYS_openat, libc::AT_FDCWD, c"/", PATH_DIR, 0);
    let all = NOSUID | NODEV | NOEXEC;
    kernel(root, c"proc", c"proc", all, None);
    mark(Step::Proc.name());
    kernel(root, c"sys", c"sysfs", all | RDONLY, None);
    mark(Step::Sys.name());
    kernel(root, c"sys/fs/cgroup", c"cgroup2", all | RDONLY, None);
    mark(Step::CgroupFs.name());
    root
}

fn device_files(root: i32) {
    kernel(root, c"dev", c"tmpfs", NOSUID, Some(c"mode=0755,size=65536k"));
    let dev = opened(root, c"dev", PATH_DIR, 0, BENEATH);
    for (name, number) in NODES {
        call!(SYS_mknodat, dev, name, (libc::S_IFCHR | 0o666) as u64, number);
    }
    for (name, target) in LINKS {
        call!(SYS_symlinkat, target, dev, name);
    }
    for name in [c"pts", c"shm", c"mqueue"] {
        call!(SYS_mkdirat, dev, name, 0o755);
    }
    let devpts = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    let shm = c"mode=1777,size=65536k";
    call!(SYS_mount, c"devpts", c"/dev/pts", c"devpts", NOSUID | NOEXEC, devpts);
    call!(SYS_mount, c"tmpfs", c"/dev/shm", c"tmpfs", NOSUID | NOEXEC | NODEV, shm);
    let all = NOSUID | NOEXEC | NODEV;
    call!(SYS_mount, c"mqueue", c"/dev/mqueue", c"mqueue", all, 0usize);
    call!(SYS_close, dev);
}

fn oom_score(root: i32) {
    let path = c"/proc/self/oom_score_adj";
    let file = opened(root, path, libc::O_WRONLY, 0, IN_ROOT);
    // SAFETY: plain data for which all zeroes are a valid value.
    let mut kind: libc::statfs = unsafe { std::mem::zeroed() };
    call!(SYS_fstatfs, file, to(&mut kind));
    call!(SYS_write, file, c"0", 1);
    call!(SYS_close, file);
}

fn open_null(root: i32) -> i32 {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK;
    let null = opened(root, c"dev/null", flags, 0, BENEATH);
    stat_fd(null);
    null
}

fn stat_fd(fd: i32) -> u32 {
    // SAFETY: plain data for which all zeroes are a valid value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    call!(SYS_fstat, fd, to(&mut stat));
    stat.st_mode
}

/// Masks files with the null device and directories with one empty tmpfs.
fn masks(root: i32) -> i32 {
    let null = open_null(root);
    let source = CString::new(format!("/proc/self/fd/{null}")).unwrap_or_default();
    let none = 0usize;
    let mut empty: Option<&CStr> = None;
    for path in MASKED {
        // SAFETY: plain data for which all zeroes are a valid value.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        if tried!(SYS_newfstatat, libc::AT_FDCWD, path, to(&mut stat), 0) < 0 {
            continue;
        }
        if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
            call!(SYS_mount, source.as_c_str(), path, none, BIND, none);
        } else if let Some(empty) = empty {
            call!(SYS_mount, empty, path, none, BIND, none);
        } else {
            let flags = RDONLY | NOSUID | NODEV | NOEXEC;
            call!(SYS_mount, c"tmpfs", path, c"tmpfs", flags, c"mode=0555,nr_inodes=1");
            empty = Some(path);
        }
    }
    null
}

fn read_only() {
    let none = 0usize;
    let flags = RDONLY | NOSUID | NODEV | NOEXEC | BIND | libc::MS_REMOUNT;
    for path in READ_ONLY {
        if tried!(SYS_mount, path, path, none, BIND | libc::MS_REC, none) >= 0 {
            call!(SYS_mount, none, path, none, flags, none);
        }
    }
}

/// /etc/hosts and /etc/hostname.
fn files(root: i32) {
    stat_fd(root);
    for name in [c"hosts", c"hostname"] {
        let dir = opened(root, c"/etc", libc::O_PATH | libc::O_DIRECTORY, 0, IN_ROOT);
        stat_fd(dir);
        let _ = tried!(SYS_unlinkat, dir, name, 0);
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY;
        let file = opened(dir, name, flags, 0o644, libc::RESOLVE_BENEATH);
        call!(SYS_write, file, c"bench\n", 6);
        call!(SYS_close, file);
        call!(SYS_close, dir);
    }
}

/// The user is root and the image has no user database; the working directory is `/`.
fn user_and_directory(root: i32) {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let _ = open(root, c"/etc/passwd", flags, 0, IN_ROOT);
    let _ = open(root, c"/etc/group", flags, 0, IN_ROOT);
    let dir = opened(root, c"/", libc::O_PATH | libc::O_DIRECTORY, 0, IN_ROOT);
    call!(SYS_fchdir, dir);
    let mut path = [0u8; 512];
    call!(SYS_getcwd, to(&mut path), path.len());
    call!(SYS_close, dir);
}

fn stdio(root: i32, out: i32, err: i32) {
    let null = open_null(root);
    // isatty(3)
    let mut settings = [0u8; 64];
    let _ = tried!(SYS_ioctl, out, libc::TCGETS, to(&mut settings));
    call!(SYS_dup2, null, 0);
    call!(SYS_dup2, out, 1);
    call!(SYS_dup2, err, 2);
    call!(SYS_fcntl, 0, libc::F_SETFL, 0);
    call!(SYS_close, null);
}
