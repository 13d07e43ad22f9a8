//! One container: from a fully resolved [`Plan`] to a running process. A library without policy.
//!
//! The caller is a single-threaded process that runs as root in the host's initial namespaces and
//! is a child of PID 1. [`spawn`] calls `clone3(2)` once; the child is an ordinary copy of the
//! caller (no shared memory), so it can run ordinary Rust until it executes the container's
//! program. Its parent is PID 1 (`CLONE_PARENT`), which therefore is the only process that ever
//! waits for it, even after the caller has been restarted.
//!
//! [`child`] lists what the child does: named steps, in order. A step that fails is reported as a
//! [`SetupError`] (step, errno, detail) on a close-on-exec pipe; end of file without a message
//! means that the program is running ([`read_status`]).
//!
//! All mounts are made in the container's own mount namespace and disappear with it. The host's
//! mount table never changes, and a caller that is killed leaves nothing behind.

pub mod caps;
pub mod cgroup;
mod child;
pub mod device_filter;
pub mod exec;
pub mod file_caps;
pub mod inside;
pub mod layers;
pub mod netns;
pub mod plan;
pub mod rlimit;
pub mod seccomp;
pub mod spawn;
pub mod status;
mod sys;
pub mod user;
pub mod userns;

pub use caps::{CapSet, Capability};
pub use cgroup::{Cgroup, CgroupError, Limits, Stats};
pub use child::SETUP_FAILED;
#[cfg(feature = "trace-steps")]
pub use child::STEP_ENDED;
pub use child::explain_format;
pub use device_filter::{DeviceAccess, DeviceFilter, DeviceFilterError, DeviceKind, DeviceRule};
pub use exec::{ExecError, Executed, Execution, exec};
pub use file_caps::FileCaps;
pub use inside::{Access, InsideError, open_file, open_terminal, resize_terminal, send_terminal};
pub use layers::{LayerError, mount_layer, unmount_layer};
pub use netns::{NetNs, NetNsError, create_netns, create_userns_and_netns};
pub use plan::{
    CopyUp, Device, Handover, InlineFile, Mount, MountSource, Plan, PlanError, Process, Root,
    Terminal,
};
pub use rlimit::{Resource, Rlimit};
pub use spawn::{SpawnError, Spawned, spawn};
pub use status::{Setup, SetupError, Step, decode_status, read_status};
pub use sys::send_signal;
pub use userns::{IdRange, UserNs, UserNsError, create_userns, join_userns};
