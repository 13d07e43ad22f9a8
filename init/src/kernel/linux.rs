//! The real kernel.

use crate::clock::monotonic_ns;
use crate::kernel::{Kernel, StartError, Watch, machine, start};
use ipc::{BootReport, Channel, ChannelError, ExitStatus, Service, ShutdownKind};
use kmsg::console::Console;
use layout::paths;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, OwnedFd};

/// PID 1's way to the kernel: its signals, its console, and system calls.
pub struct LinuxKernel {
    signals: SignalFd,
    console: Console,
}

impl LinuxKernel {
    /// Blocks the signals, to read them from a descriptor instead, takes Ctrl-Alt-Del over from the
    /// kernel and opens the console.
    ///
    /// # Errors
    /// The call that failed.
    pub fn open() -> Result<LinuxKernel, String> {
        let mut mask = SigSet::all();
        // A fault in PID 1 itself must stay fatal: the kernel then panics and reboots the machine.
        for signal in
            [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT]
        {
            mask.remove(signal);
        }
        mask.thread_block().map_err(|errno| format!("sigprocmask: {errno}"))?;
        if let Err(errno) = nix::sys::reboot::set_cad_enabled(false) {
            log::warn!("Ctrl-Alt-Del stays with the kernel: {errno}");
        }
        LinuxKernel::new(&mask, Console::open())
    }

    /// Reads the signals in `mask`, which are blocked already.
    pub(crate) fn new(mask: &SigSet, console: Console) -> Result<LinuxKernel, String> {
        let signals = SignalFd::with_flags(mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|errno| format!("signalfd: {errno}"))?;
        Ok(LinuxKernel { signals, console })
    }
}

impl Kernel for LinuxKernel {
    type Fd = OwnedFd;
    type Link = Channel;

    fn now_us(&self) -> u64 {
        monotonic_ns() / 1000
    }

    fn wait(
        &mut self,
        links: &[Watch<'_, Channel>],
        timeout_ms: Option<u64>,
    ) -> Option<Vec<usize>> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(links.iter().map(|watch| {
            let out = if watch.write { PollFlags::POLLOUT } else { PollFlags::empty() };
            PollFd::new(watch.link.as_fd(), PollFlags::POLLIN | out)
        }));
        if let Some(console) = self.console.waiting() {
            fds.push(PollFd::new(console, PollFlags::POLLOUT));
        }
        let timeout = timeout_ms.map_or(PollTimeout::NONE, |ms| {
            PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX))
                .unwrap_or(PollTimeout::ZERO)
        });
        poll(&mut fds, timeout).ok()?;
        let ready = fds.iter().skip(1).take(links.len()).enumerate();
        Some(
            ready
                .filter(|(_, fd)| fd.any().unwrap_or(true))
                .map(|(position, _)| position)
                .collect(),
        )
    }

    fn next_signal(&mut self) -> Option<Signal> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            // A real-time signal has no name here, and no meaning.
            let number = i32::try_from(info.ssi_signo).ok();
            if let Some(signal) = number.and_then(|number| Signal::try_from(number).ok()) {
                return Some(signal);
            }
        }
        None
    }

    /// libc's call rather than nix's: nix has no name for real-time signals and answers EINVAL for
    /// a child that one of them killed, when the kernel has already forgotten it.
    fn reap(&mut self) -> Option<(i32, ExitStatus)> {
        loop {
            let mut status = 0;
            // SAFETY: waitpid writes one int, to `status`.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
            match pid {
                0 => return None,
                -1 => match Errno::last() {
                    Errno::EINTR => {}
                    Errno::ECHILD => return None,
                    errno => {
                        log::error!("waitpid: {errno}");
                        return None;
                    }
                },
                pid if libc::WIFEXITED(status) => {
                    return Some((pid, ExitStatus::Code(libc::WEXITSTATUS(status))));
                }
                pid if libc::WIFSIGNALED(status) => {
                    return Some((pid, ExitStatus::Signal(libc::WTERMSIG(status))));
                }
                // Stopped or continued: not an exit.
                _ => {}
            }
        }
    }

    fn link_pair(&mut self) -> Result<(Channel, Channel), ChannelError> {
        Channel::pair()
    }

    fn start(
        &mut self,
        service: Service,
        link: &Channel,
        partners: &[&Channel],
    ) -> Result<i32, StartError> {
        start::start(service, link, partners)
    }

    fn kill(&mut self, pid: i32, signal: Signal) {
        // SAFETY: the process is our child and not reaped yet, so the number is its.
        unsafe { libc::kill(pid, signal as i32) };
    }

    fn print(&mut self, line: &str) {
        self.console.line(line);
    }

    fn flush_console(&mut self) {
        self.console.flush();
    }

    fn write_boot_report(&mut self, report: &BootReport) -> std::io::Result<()> {
        let text = serde_json::to_vec(report)?;
        let fresh = format!("{}.new", paths::RUN_BOOT);
        std::fs::write(&fresh, text)?;
        std::fs::rename(&fresh, paths::RUN_BOOT)
    }

    fn kill_everything(&mut self) {
        machine::kill_everything();
    }

    fn nothing_left(&mut self) -> bool {
        machine::nothing_left()
    }

    fn start_unmounting(&mut self) -> Result<i32, Errno> {
        machine::start_unmounting()
    }

    fn finish(&mut self, kind: ShutdownKind) {
        machine::finish(kind);
    }
}
