//! How the child reports on its setup: the list of steps, and the error message on the status pipe.

use nix::errno::Errno;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

/// Longest detail text in a [`SetupError`], in bytes.
pub const MAX_DETAIL: usize = 512;

/// The message that a setup with a [`crate::Handover`] has reached [`Step::Go`]; no step has this
/// number.
pub(crate) const PREPARED: u8 = 0xff;

/// Bytes before the detail text: the step's number and the errno (little endian).
const HEADER: usize = 5;

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A step of a container's setup, in the order of execution.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Step { $($(#[$doc])* $name,)* }

        impl Step {
            /// Every step, in order.
            pub const ALL: &'static [Step] = &[$(Step::$name,)*];

            /// What the step does, as a phrase ("mount /proc").
            pub const fn name(self) -> &'static str {
                match self { $(Step::$name => $text,)* }
            }
        }
    };
}

steps! {
    /// Keep only the descriptors that setup needs, above 2.
    Descriptors = "close inherited descriptors",
    /// Join a running container's namespaces (only for [`crate::exec`]).
    Join = "enter the container's namespaces",
    /// `setsid(2)`, umask 0 during setup, not dumpable, default signal dispositions.
    Session = "start a new session",
    /// `setns(2)` to the unit's network namespace.
    Network = "enter the network namespace",
    /// `sethostname(2)`.
    Hostname = "set the host name",
    /// No mount from here on propagates to the host.
    PrivateMounts = "make the mounts private",
    /// Open volumes, host paths and devices while the host's files are still reachable.
    Sources = "open a mount source",
    /// The tmpfs that holds the container's writes.
    WritableLayer = "mount tmpfs for the writable layer",
    /// The image's layers and the writable layer as one tree.
    OverlayRoot = "mount the overlay root",
    /// A directory of the host as the root.
    DirectoryRoot = "mount the root directory",
    /// `pivot_root(2)`; the host's files are gone.
    PivotRoot = "enter the new root",
    /// procfs.
    Proc = "mount /proc",
    /// sysfs, read-only.
    Sys = "mount /sys",
    /// cgroup2, read-only.
    CgroupFs = "mount /sys/fs/cgroup",
    /// The device nodes, devpts, shm and mqueue.
    Dev = "set up /dev",
    /// Sysctls of the container's own namespaces.
    Sysctls = "set a sysctl",
    /// `oom_score_adj`.
    OomScore = "set the OOM score adjustment",
    /// Kernel files that reveal too much about the host.
    Mask = "mask kernel files",
    /// Kernel files through which the host could be changed.
    ReadOnlyPaths = "make kernel files read-only",
    /// Volumes, host paths and tmpfs.
    Mounts = "mount a volume",
    /// The plan's own masked and read-only paths.
    MorePaths = "protect a path",
    /// `/etc/hosts` and the like.
    Files = "write a file",
    /// The program's user, from the image's `/etc/passwd` and `/etc/group`.
    ResolveUser = "look up the user",
    /// The working directory, created if missing.
    WorkingDir = "enter the working directory",
    /// Read-only root, if requested.
    ReadOnlyRoot = "make the root read-only",
    /// A terminal, if requested.
    Terminal = "create a terminal",
    /// `/dev/null`, and the two output descriptors.
    Stdio = "set up standard input and output",
    /// `prlimit(2)`.
    Rlimits = "set resource limits",
    /// `setns(2)` to the unit's user namespace.
    UserNamespace = "enter the user namespace",
    /// `keyctl(KEYCTL_JOIN_SESSION_KEYRING)`.
    Keyring = "join a new session keyring",
    /// The bounding set.
    BoundingSet = "limit the capability bounding set",
    /// Supplementary groups, group and user.
    SetUser = "set the user",
    /// The other capability sets.
    Capabilities = "set capabilities",
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivs = "set no_new_privs",
    /// The caller's signal that the network is attached.
    Go = "wait for the network",
    /// umask, signal mask, close-on-exec on all remaining descriptors.
    Final = "prepare for exec",
    /// `seccomp(2)`; every profile must allow the system calls that follow.
    Seccomp = "load the seccomp filter",
    /// `execve(2)`.
    Exec = "exec",
    /// A panic in the child, or an invalid message.
    Internal = "internal error",
}

impl Step {
    fn from_number(number: u8) -> Step {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Step::Internal)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a container's setup failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupError {
    /// The step that failed.
    pub step: Step,
    /// The system call's error.
    pub errno: Errno,
    /// The path or system call concerned, or the whole reason as a sentence; may be empty. At most
    /// [`MAX_DETAIL`] bytes.
    pub detail: String,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A detail with a space is a sentence that gives the reason; one without is a path or a
        // call.
        match (self.detail.is_empty(), self.detail.contains(' ')) {
            (true, _) => write!(f, "{}: {}", self.step, self.errno.desc()),
            (false, true) => write!(f, "{}: {}", self.step, self.detail),
            (false, false) => write!(f, "{}: {}: {}", self.step, self.detail, self.errno.desc()),
        }
    }
}

impl std::error::Error for SetupError {}

impl SetupError {
    /// The message on the pipe: step, errno, detail. Always shorter than `PIPE_BUF`, so that one
    /// `write(2)` is one message (pipe(7)).
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut end = self.detail.len().min(MAX_DETAIL);
        while !self.detail.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = Vec::with_capacity(HEADER + end);
        bytes.push(self.step as u8);
        bytes.extend_from_slice(&(self.errno as i32).to_le_bytes());
        bytes.extend_from_slice(self.detail.get(..end).unwrap_or_default().as_bytes());
        bytes
    }
}

/// Decodes a message from the status pipe. Invalid bytes become [`Step::Internal`].
pub fn decode_status(bytes: &[u8]) -> SetupError {
    match bytes {
        [step, e0, e1, e2, e3, detail @ ..] => SetupError {
            step: Step::from_number(*step),
            errno: Errno::from_raw(i32::from_le_bytes([*e0, *e1, *e2, *e3])),
            detail: String::from_utf8_lossy(detail.get(..MAX_DETAIL).unwrap_or(detail))
                .into_owned(),
        },
        _ => SetupError {
            step: Step::Internal,
            errno: Errno::EBADMSG,
            detail: "the status message is truncated".into(),
        },
    }
}

/// The state of a setup, as read from the status pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// Still in progress.
    Pending,
    /// It has reached [`Step::Go`]. Reported once, and only with a [`crate::Handover`]; one of the
    /// other states follows.
    Prepared,
    /// Setup is complete and the program was executed. A child that was killed during setup looks
    /// the same; its exit status (by a signal) shows the difference.
    Done,
    /// It failed; the child is exiting with code 125.
    Failed(SetupError),
}

/// Reads the status pipe (non-blocking, as returned by [`crate::spawn()`]).
///
/// # Errors
/// Those of `read(2)` except `EINTR` and `EAGAIN`.
pub fn read_status(status: impl AsFd) -> Result<Setup, Errno> {
    let mut buffer = [0u8; 1 + HEADER + MAX_DETAIL];
    loop {
        // SAFETY: the buffer is valid for writes of its length.
        let got = unsafe {
            libc::read(status.as_fd().as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len())
        };
        return match Errno::result(got) {
            Ok(0) => Ok(Setup::Done),
            Ok(n) => {
                let bytes = usize::try_from(n).ok().and_then(|n| buffer.get(..n));
                Ok(match bytes.unwrap_or_default() {
                    [PREPARED] => Setup::Prepared,
                    // A later message had already arrived.
                    [PREPARED, error @ ..] | error => Setup::Failed(decode_status(error)),
                })
            }
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => Ok(Setup::Pending),
            Err(errno) => Err(errno),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_message_survives_the_pipe(
            number in 0..Step::ALL.len(),
            errno in 1i32..130,
            detail in ".{0,600}",
        ) {
            let error = SetupError {
                step: Step::ALL[number],
                errno: Errno::from_raw(errno),
                detail,
            };
            let read = decode_status(&error.encode());
            prop_assert_eq!(read.step, error.step);
            prop_assert_eq!(read.errno, error.errno);
            prop_assert!(error.detail.starts_with(&read.detail));
            prop_assert!(read.detail.len() <= MAX_DETAIL);
            prop_assert!(error.detail.len() > MAX_DETAIL || read.detail == error.detail);
        }

        #[test]
        fn any_bytes_are_an_error_not_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = decode_status(&bytes).to_string();
        }
    }

    #[test]
    fn every_step_is_found_by_its_number() {
        for (number, step) in Step::ALL.iter().enumerate() {
            assert_eq!(Step::from_number(number as u8), *step);
        }
    }
}
