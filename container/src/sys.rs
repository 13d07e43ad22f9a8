//! System calls that `nix` and `libc` do not wrap, one small function each.
//!
//! Numbers and structures: `include/uapi/linux/{sched,mount,openat2}.h` of Linux 6.12.

use nix::errno::Errno;
use std::ffi::CStr;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A result with the error number.
pub type Result<T> = std::result::Result<T, Errno>;

/// `CLONE_INTO_CGROUP` (libc's constant of this name overflows to 0).
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// `CLONE_CLEAR_SIGHAND` (libc's constant overflows, too).
pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const AT_EMPTY_PATH: libc::c_uint = libc::AT_EMPTY_PATH as libc::c_uint;
const AT_RECURSIVE: libc::c_uint = libc::AT_RECURSIVE as libc::c_uint;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// `MOUNT_ATTR_RDONLY`.
pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID`.
pub const MOUNT_ATTR_NOSUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`.
pub const MOUNT_ATTR_NODEV: u64 = 0x4;
/// `MOUNT_ATTR_NOEXEC`.
pub const MOUNT_ATTR_NOEXEC: u64 = 0x8;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// The error number of a standard library error.
pub fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
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

/// `clone3(2)` with `CLONE_VM | CLONE_VFORK | CLONE_FILES`: the child executes `run` on the caller's
/// own memory and descriptors, and the caller is suspended until the child has ended. Returns its
/// process id, which must be passed to [`wait`].
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
    // requires before a call, and never returns from `run`; so nothing on the caller's stack changes
    // except what `shared` points to. Structure and stack live until the child has ended, because the
    // kernel suspends the caller until then (CLONE_VFORK). No signal handler runs in the child.
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
    path: &CStr,
    flags: libc::c_int,
    mode: u32,
    resolve: u64,
) -> Result<OwnedFd> {
    // SAFETY: open_how is plain data for which all zeroes are a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = u64::from(mode);
    how.resolve = resolve;
    loop {
        // SAFETY: path and structure outlive the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_fd().as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of_val(&how),
            )
        };
        // EAGAIN: a rename or mount somewhere on the system raced with the scoped lookup.
        match owned(fd) {
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            done => return done,
        }
    }
}

/// `open_tree(OPEN_TREE_CLONE)`: a detached copy of the mount at `path` (relative to `dir`; an empty
/// path means `dir` itself), with all mounts below it if `recursive`.
pub fn open_tree(dir: impl AsFd, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: the path outlives the call.
    owned(unsafe {
        libc::syscall(libc::SYS_open_tree, dir.as_fd().as_raw_fd(), path.as_ptr(), flags)
    })
}

/// `move_mount(2)`: attaches the detached mount `mount` on the file or directory `target`.
pub fn move_mount(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    // SAFETY: both paths are static.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    Errno::result(done).map(drop)
}

/// `mount_setattr(2)`: sets attributes of a mount, and of those below it if `recursive`.
pub fn mount_setattr(mount: impl AsFd, set: u64, recursive: bool) -> Result<()> {
    set_attributes(mount, MountAttr { set, ..MountAttr::default() }, recursive)
}

/// Makes a detached mount (and, if `recursive`, those below it) id-mapped: files of id 0 in the file
/// system belong to the root of the user namespace. `EINVAL`: the file system does not support it.
pub fn map_ids(mount: impl AsFd, userns: impl AsFd, recursive: bool) -> Result<()> {
    let userns_fd = userns.as_fd().as_raw_fd() as u64;
    let attr = MountAttr { set: MOUNT_ATTR_IDMAP, userns_fd, ..MountAttr::default() };
    set_attributes(mount, attr, recursive)
}

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn set_attributes(mount: impl AsFd, attr: MountAttr, recursive: bool) -> Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
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
    pub fn open(kind: &CStr) -> Result<FsContext> {
        // SAFETY: the name outlives the call.
        owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })
            .map(FsContext)
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: Option<&CStr>,
        value: Option<&CStr>,
    ) -> Result<()> {
        // SAFETY: key and value outlive the call; the commands used here take no descriptor.
        let done = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                key.map_or(std::ptr::null(), CStr::as_ptr),
                value.map_or(std::ptr::null(), CStr::as_ptr),
                0,
            )
        };
        Errno::result(done).map(drop)
    }

    /// Sets `key=value`.
    pub fn set(&self, key: &CStr, value: &CStr) -> Result<()> {
        self.config(FSCONFIG_SET_STRING, Some(key), Some(value))
    }

    /// Sets the option `key`.
    pub fn flag(&self, key: &CStr) -> Result<()> {
        self.config(FSCONFIG_SET_FLAG, Some(key), None)
    }

    /// Creates the file system.
    pub fn create(&self) -> Result<()> {
        self.config(FSCONFIG_CMD_CREATE, None, None)
    }

    /// A detached mount of the created file system with these `MOUNT_ATTR_*`.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        // SAFETY: no pointer is passed.
        owned(unsafe {
            libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attributes)
        })
    }

    /// The kernel's message about the last failure ("overlay: ..."), if any. The kernel queues them on
    /// the context as lines `<level> <text>`.
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

/// `pidfd_send_signal(2)`: sends a signal to the process of a pidfd.
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
