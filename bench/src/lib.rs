//! `make bench-engine`: what it costs to create, start, end and clean up a container whose program
//! does nothing, against a floor program that makes the same system calls with nothing around them,
//! and against crun, runc, podman and docker as Debian ships them.
//!
//! - `bench_engine`, on this machine, boots a VM (or, natively, enters the tree of Debian packages),
//!   collects what the guest reports and prints the tables.
//! - `bench_guest` is PID 1 of the VM, and the measuring process ([`line`] defines its reports).
//! - Our engine and the floor program each run in a separate small process. It is the child of a
//!   reaper, as the supervisor is the child of PID 1, and makes one start for each byte that it
//!   receives ([`turn`]).
//! - `bench_payload` is the program inside every container.

pub mod failure;
pub mod line;
pub mod marks;
pub mod turn;

pub use failure::{Failure, Naming};

/// Paths in the VM's file system, which the native variant enters too.
pub mod places {
    /// Our own programs and the payload's layer.
    pub const PROGRAMS: &str = "/bench";
    /// The image layer with the payload, an EROFS file.
    pub const LAYER_FILE: &str = "/bench/layer.erofs";
    /// The same as a directory, for kernels without EROFS.
    pub const LAYER_DIR: &str = "/bench/layer";
    /// The payload in the layer.
    pub const PAYLOAD: &str = "/payload";
    /// The parent of the control groups that we create; also in the `cgroupsPath` of the other runtimes.
    pub const CGROUP: &str = "/sys/fs/cgroup/keel-bench";
    /// The temporary files of a run.
    pub const RUN: &str = "/run/bench";
    /// Where the layer is mounted.
    pub const LAYER: &str = "/run/bench/layer";
    /// The engine's staging directory.
    pub const STAGING: &str = "/run/bench/staging";
}

/// The limits of every container, whichever runtime starts it.
pub mod limits {
    /// Bytes. Enough for the start-up of runc's own process, which is charged to the container.
    pub const MEMORY: u64 = 128 << 20;
    /// Thousandths of a CPU. One whole CPU, so that no container is throttled.
    pub const CPU_MILLIS: u64 = 1000;
    /// Tasks. runc's start-up has several threads.
    pub const PIDS: u64 = 64;
}
