//! Everything that PID 1's loop asks of the kernel, behind one trait.
//!
//! [`LinuxKernel`] makes the real calls. A simulator implements the same trait over simulated
//! processes and simulated time, and so runs the loop of [`crate::pid1`] as it is. What happens
//! before the loop ([`crate::boot`]) and at its violent end ([`crate::fatal`]) is not behind it.

mod linux;
mod machine;
mod start;

pub use linux::LinuxKernel;

use ipc::{BootReport, ChannelError, ExitStatus, Link, Service, ShutdownKind};
use nix::errno::Errno;
use nix::sys::signal::Signal;

/// The kernel as PID 1's loop sees it. No call blocks except [`Kernel::wait`].
pub trait Kernel {
    /// A file descriptor; dropping it closes it.
    type Fd;
    /// One end of a link; dropping it closes it.
    type Link: Link<Fd = Self::Fd> + Into<Self::Fd>;

    /// `CLOCK_MONOTONIC` in microseconds.
    fn now_us(&self) -> u64;

    /// Waits until a link can be used, a signal is pending, the console takes waiting output, or
    /// `timeout_ms` is over (`None`: no limit). Returns the positions in `links` of those that can
    /// be used.
    ///
    /// `None` when the wait was interrupted: the caller knows nothing then and asks again.
    fn wait(
        &mut self,
        links: &[Watch<'_, Self::Link>],
        timeout_ms: Option<u64>,
    ) -> Option<Vec<usize>>;

    /// The next pending signal, or `None` when there is none. SIGCHLD is one of them.
    fn next_signal(&mut self) -> Option<Signal>;

    /// Reaps the next child that has ended, or `None` when there is none. Signals coalesce: one
    /// SIGCHLD can stand for any number of children, so the caller asks until there is none.
    fn reap(&mut self) -> Option<(i32, ExitStatus)>;

    /// A new link: both ends.
    ///
    /// # Errors
    /// socketpair(2) fails.
    fn link_pair(&mut self) -> Result<(Self::Link, Self::Link), ChannelError>;

    /// Starts one of Keelhost's processes with its end of its link to PID 1 and its links to
    /// partners; returns its process ID.
    ///
    /// # Errors
    /// Its cgroup, or clone3(2). What fails after that ends the process with code 127.
    fn start(
        &mut self,
        service: Service,
        link: &Self::Link,
        partners: &[&Self::Link],
    ) -> Result<i32, StartError>;

    /// Sends a signal to a child that has not been reaped.
    fn kill(&mut self, pid: i32, signal: Signal);

    /// Prints a line on the console, now or when the console takes it.
    fn print(&mut self, line: &str);

    /// Writes the output that waits, as far as the console takes it.
    fn flush_console(&mut self);

    /// Replaces the file with the phases of the boot.
    ///
    /// # Errors
    /// As for writing and renaming a file.
    fn write_boot_report(&mut self, report: &BootReport) -> std::io::Result<()>;

    /// Sends SIGKILL to every process but PID 1, containers first.
    fn kill_everything(&mut self);

    /// Whether PID 1 has no children left, running or zombie. After [`Kernel::kill_everything`] this
    /// means that nothing runs, because every orphan is a child of PID 1.
    fn nothing_left(&mut self) -> bool;

    /// Starts the child that syncs and unmounts. Unmounting can block on a dead disk, so PID 1 does
    /// not do it itself.
    ///
    /// # Errors
    /// fork(2) fails.
    fn start_unmounting(&mut self) -> Result<i32, Errno>;

    /// Powers off, reboots or halts the machine. Returns only if the kernel refuses.
    fn finish(&mut self, kind: ShutdownKind);
}

/// A link to wait for: always until it has something to read or its other end is closed.
pub struct Watch<'a, L> {
    /// The link.
    pub link: &'a L,
    /// Also until it takes another message.
    pub write: bool,
}

/// A step of a start that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {applet}: {step}: {errno}")]
pub struct StartError {
    /// The process's name.
    pub applet: &'static str,
    /// What failed, e.g. a system call.
    pub step: &'static str,
    /// Its error.
    pub errno: Errno,
}
