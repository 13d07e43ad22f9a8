//! System calls that neither `nix` nor `libc` wraps, each as one small function.
//!
//! Numbers and structures: `include/uapi/linux/{sched,mount,openat2}.h` of Linux 6.12.

use nix::errno::Errno;
use std::ffi::CStr;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Result with the plain error number.
pub type Result<T> = std::result::Result<T, Errno>;

/// `CLONE_INTO_CGROUP` (libc's constant of this name overflows to 0).
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// `CLONE_CLEAR_SIGHAND` (the same).
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

/// The standard library's error as a plain number.
pub fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Writes an existing file of the kernel's, in one write(2) as those want it.
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

/// Which side of [`clone3`] this is.
pub enum Fork {
    /// The caller, with the child's process id (in the caller's pid namespace) and its pidfd.
    Parent { pid: i32, pidfd: OwnedFd },
    /// The child.
    Child,
}

/// `clone3(2)` as a fork: without shared memory, with a pidfd and `exit_signal` 0 (which is what
/// `CLONE_PARENT` demands). `cgroup` is where the child is born (`None`: the caller's own).
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
    // SAFETY: the structure and the pidfd's place live over the call. Without CLONE_VM and with a
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

/// Takes ownership of a descriptor as the kernel itself tells it: a negative number is an error's.
///
/// # Safety
/// A number that is not negative must be a descriptor that nobody else owns.
pub unsafe fn owned_raw(told: i64) -> Result<OwnedFd> {
    let fd = RawFd::try_from(told).map_err(|_| Errno::EBADF)?;
    if fd < 0 {
        return Err(Errno::from_raw(fd.saturating_neg()));
    }
    // SAFETY: as the caller has vouched.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Room for the few calls of a child that shares memory.
#[repr(C, align(16))]
struct Stack(MaybeUninit<[u8; 8192]>);

/// `clone3(2)` with `CLONE_VM | CLONE_VFORK | CLONE_FILES`: a child that does `run` on the caller's own
/// memory and descriptors, while the caller stands still until the child has ended. Its process id,
/// which is to be given to [`wait`].
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
    // SAFETY: the child begins at the end of a stack of its own, which is aligned to 16 as the ABI
    // has it before a call, and never comes back from `run`; so nothing that the caller has on its
    // stack changes, but what `shared` points to. Structure and stack live until the child has ended,
    // which the kernel waits for (CLONE_VFORK). Signal handlers are not inherited, so none runs in it.
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

/// Waits for a child whose end is announced by no signal, as of those of [`clone3`] and
/// [`clone_and_wait`] (`__WALL`, waitpid(2)). What it ended with is of no interest.
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
        // SAFETY: path and structure live over the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_fd().as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of_val(&how),
            )
        };
        // EAGAIN: a rename or mount somewhere on the system raced with the scoped walk.
        match owned(fd) {
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            done => return done,
        }
    }
}

/// `open_tree(OPEN_TREE_CLONE)`: a detached copy of the mount at `path` (below `dir`; an empty path
/// is `dir` itself), with what is mounted below it if `recursive`.
pub fn open_tree(dir: impl AsFd, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    // SAFETY: the path lives over the call.
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

/// Gives a detached mount (and those below it) the mapping of a user namespace: what belongs to 0 in
/// the file system belongs to the namespace's root. `EINVAL`: the file system cannot do that.
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
    // SAFETY: the structure lives over the call and has the layout of struct mount_attr.
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
        // SAFETY: the name lives over the call.
        owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })
            .map(FsContext)
    }

    fn config(
        &self,
        command: libc::c_uint,
        key: Option<&CStr>,
        value: Option<&CStr>,
    ) -> Result<()> {
        // SAFETY: key and value live over the call; the commands used here take no descriptor.
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

    /// Makes the file system.
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

    /// The kernel's own words about the last failure ("overlay: ..."), if it left any. They wait on
    /// the context as lines `<level> <text>`.
    pub fn complaint(&self) -> Option<String> {
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

/// `pidfd_send_signal(2)`: a signal for the process that a pidfd holds.
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

/// `close_range(2)` over `first..=last`; with `cloexec` the descriptors are only marked.
pub fn close_range(first: u32, last: u32, cloexec: bool) -> Result<()> {
    let flags = if cloexec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: closing descriptors is memory-safe. Only a child that owns its whole descriptor
    // table calls this, and it names the ones it still uses.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    Errno::result(done).map(drop)
}

/// `_exit(2)` of the child: no destructors, no buffers of the caller written twice.
pub fn exit(code: i32) -> ! {
    // SAFETY: always safe.
    unsafe { libc::_exit(code) }
}
