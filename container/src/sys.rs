//! System calls that `nix` does not wrap, one small function each: the mount API and openat2
//! through `rustix`, the others as raw calls.
//!
//! Structures: `include/uapi/linux/{sched,mount}.h` of Linux 6.12.

use nix::errno::Errno;
use nix::fcntl::OFlag;
pub use rustix::fs::ResolveFlags;
use rustix::fs::{Mode, OFlags};
pub use rustix::mount::MountAttrFlags;
use rustix::mount::{FsMountFlags, FsOpenFlags, MoveMountFlags, OpenTreeFlags};
use rustix::path::Arg;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A result with the error number.
pub type Result<T> = std::result::Result<T, Errno>;

/// `CLONE_INTO_CGROUP` (libc's constant of this name overflows to 0).
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// `CLONE_CLEAR_SIGHAND` (libc's constant overflows, too).
pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// The error number of a standard library error.
pub fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// The error number of a rustix error.
fn errno_of_rustix(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// Writes an existing kernel file in one write(2), as the kernel requires.
pub fn write_kernel_file(path: &str, text: &str) -> Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| errno_of(&error))
}

/// Takes ownership of a descriptor that a system call has just returned.
fn owned(fd: libc::c_long) -> Result<OwnedFd> {
    let fd = Errno::result(fd)?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just installed this descriptor for this call; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The side of [`clone3`] that returned.
pub enum Fork {
    /// The caller, with the child's process id (in the caller's pid namespace) and its pidfd.
    Parent { pid: i32, pidfd: OwnedFd },
    /// The child.
    Child,
}

/// `clone3(2)` as a fork: without shared memory, with a pidfd and `exit_signal` 0 (which
/// `CLONE_PARENT` requires). The child is created in `cgroup` (`None`: the caller's own).
pub fn clone3(flags: u64, cgroup: Option<impl AsFd>) -> Result<Fork> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain data for which all zeroes are a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    if let Some(cgroup) = &cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_fd().as_raw_fd() as u64;
    }
    // SAFETY: the structure and the pidfd's place outlive the call. Without CLONE_VM and with a
    // null stack the child continues here on a copy of this stack, like fork(2).
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    match Errno::result(pid)? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent {
            pid: i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?,
            pidfd: owned(libc::c_long::from(pidfd))?,
        }),
    }
}

/// Takes ownership of a descriptor returned by a raw system call; a negative value is an error.
///
/// # Safety
/// A number that is not negative must be a descriptor that nobody else owns.
pub unsafe fn owned_raw(result: i64) -> Result<OwnedFd> {
    let fd = RawFd::try_from(result).map_err(|_| Errno::EBADF)?;
    if fd < 0 {
        return Err(Errno::from_raw(fd.saturating_neg()));
    }
    // SAFETY: guaranteed by the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The stack of a child that shares memory and makes only a few calls.
#[repr(C, align(16))]
struct Stack(MaybeUninit<[u8; 8192]>);

/// `clone3(2)` with `CLONE_VM | CLONE_VFORK | CLONE_FILES`: the child executes `run` on the
/// caller's own memory and descriptors, and the caller is suspended until the child has ended.
/// Returns its process id, which must be passed to [`wait`].
///
/// # Safety
/// `run` must make system calls only and end the child with [`exit`]: no lock, no allocation, no
/// unwinding. The child may be killed between any two instructions, so `shared` must be a valid `T`
/// after each of them. The caller must be single-threaded.
pub unsafe fn clone_and_wait<T>(
    flags: u64,
    run: unsafe extern "C" fn(&mut T) -> !,
    shared: &mut T,
) -> Result<i32> {
    let mut stack = Stack(MaybeUninit::uninit());
    // SAFETY: clone_args is plain data for which all zeroes are a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags
        | (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES) as u64
        | CLONE_CLEAR_SIGHAND;
    args.stack = stack.0.as_mut_ptr() as u64;
    args.stack_size = size_of_val(&stack.0) as u64;
    let result: libc::c_long;
    // SAFETY: the child begins at the end of its own stack, which is aligned to 16 as the ABI
    // requires before a call, and never returns from `run`; so nothing on the caller's stack
    // changes except what `shared` points to. Structure and stack live until the child has ended,
    // because the kernel suspends the caller until then (CLONE_VFORK). No signal handler runs in
    // the child.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") &raw const args,
            in("rsi") size_of_val(&args),
            in("r12") shared as *mut T,
            in("r13") run,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    match i32::try_from(result) {
        Ok(pid) if pid > 0 => Ok(pid),
        Ok(errno) => Err(Errno::from_raw(errno.saturating_neg())),
        Err(_) => Err(Errno::EOVERFLOW),
    }
}

/// Waits for a child of [`clone3`] or [`clone_and_wait`], which sends no signal when it ends
/// (`__WALL`, waitpid(2)). The exit status is discarded.
pub fn wait(pid: i32) {
    loop {
        // SAFETY: a null status is allowed.
        let done = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        if Errno::result(done) != Err(Errno::EINTR) {
            return;
        }
    }
}

/// `openat2(2)` with `O_CLOEXEC`.
pub fn openat2(
    dir: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlag,
    mode: u32,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    let flags = OFlags::from_bits_retain((flags | OFlag::O_CLOEXEC).bits().cast_unsigned());
    let mode = Mode::from_raw_mode(mode);
    loop {
        match rustix::fs::openat2(&dir, path, flags, mode, resolve) {
            // AGAIN: a rename or mount somewhere on the system raced with the scoped lookup.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
            done => return done.map_err(errno_of_rustix),
        }
    }
}

/// `open_tree(OPEN_TREE_CLONE)`: a detached copy of the mount at the file or directory `at`, with
/// all mounts below it if `recursive`.
pub fn open_tree(at: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    rustix::mount::open_tree(at, c"", flags).map_err(errno_of_rustix)
}

/// `move_mount(2)`: attaches the detached mount `mount` on the file or directory `target`.
pub fn move_mount(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", target, c"", flags).map_err(errno_of_rustix)
}

/// `mount_setattr(2)`: sets attributes of a mount, and of those below it if `recursive`.
pub fn mount_setattr(mount: impl AsFd, set: MountAttrFlags, recursive: bool) -> Result<()> {
    let set = u64::from(set.bits());
    set_attributes(mount, MountAttr { set, ..MountAttr::default() }, recursive)
}

/// Makes a detached mount (and, if `recursive`, those below it) id-mapped: files of id 0 in the
/// file system belong to the root of the user namespace. `EINVAL`: the file system does not support
/// it.
pub fn map_ids(mount: impl AsFd, userns: impl AsFd, recursive: bool) -> Result<()> {
    let userns_fd = userns.as_fd().as_raw_fd() as u64;
    let set = u64::from(MountAttrFlags::MOUNT_ATTR_IDMAP.bits());
    let attr = MountAttr { set, userns_fd, ..MountAttr::default() };
    set_attributes(mount, attr, recursive)
}

/// `struct mount_attr`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// rustix does not have `mount_setattr(2)`.
fn set_attributes(mount: impl AsFd, attr: MountAttr, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure outlives the call and has the layout of struct mount_attr.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    Errno::result(done).map(drop)
}

/// A file system that is being configured (`fsopen(2)`).
pub struct FsContext(OwnedFd);

impl FsContext {
    /// `fsopen(2)`.
    pub fn open(kind: &str) -> Result<FsContext> {
        rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
            .map(FsContext)
            .map_err(errno_of_rustix)
    }

    /// Sets `key=value`.
    pub fn set(&self, key: &str, value: impl Arg) -> Result<()> {
        rustix::mount::fsconfig_set_string(&self.0, key, value).map_err(errno_of_rustix)
    }

    /// Sets the option `key`.
    pub fn flag(&self, key: &str) -> Result<()> {
        rustix::mount::fsconfig_set_flag(&self.0, key).map_err(errno_of_rustix)
    }

    /// Creates the file system.
    pub fn create(&self) -> Result<()> {
        rustix::mount::fsconfig_create(&self.0).map_err(errno_of_rustix)
    }

    /// A detached mount of the created file system with these attributes.
    pub fn mount(&self, attributes: MountAttrFlags) -> Result<OwnedFd> {
        rustix::mount::fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(errno_of_rustix)
    }

    /// The kernel's message about the last failure ("overlay: ..."), if any. The kernel queues them
    /// on the context as lines `<level> <text>`.
    pub fn error_message(&self) -> Option<String> {
        let mut buffer = [0u8; 256];
        // SAFETY: the buffer is valid for writes of its length.
        let got =
            unsafe { libc::read(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        let text = buffer.get(..usize::try_from(got).ok()?)?;
        let text = String::from_utf8_lossy(text);
        let text = text.trim_end();
        Some(text.strip_prefix("e ").unwrap_or(text).to_owned())
    }
}

/// `pidfd_send_signal(2)`: sends a signal to the process of a pidfd. A raw call, because the signal
/// type of rustix excludes real-time signals, which are valid stop signals.
///
/// # Errors
/// `ESRCH`: it has ended.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    // SAFETY: the descriptor is open, and no siginfo is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(done).map(drop)
}

/// `close_range(2)` over `first..=last`; with `cloexec` the descriptors are only marked
/// close-on-exec.
pub fn close_range(first: u32, last: u32, cloexec: bool) -> Result<()> {
    let flags = if cloexec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: closing descriptors is memory-safe. Only a child that owns its whole descriptor
    // table calls this, and it names the ones it still uses.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    Errno::result(done).map(drop)
}

/// `_exit(2)` of the child: runs no destructors and does not flush the caller's buffers twice.
pub fn exit(code: i32) -> ! {
    // SAFETY: always safe.
    unsafe { libc::_exit(code) }
}
