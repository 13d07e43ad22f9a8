//! A deterministic simulator of a host. The real PID 1, the real supervisor and the real policy run on
//! a simulated kernel, in one thread and in simulated time. The seed determines everything: the same
//! seed gives the same schedule, call by call.
//!
//! # What is real
//!
//! [`init::pid1::Pid1`] with its descriptor store, the exits it keeps and the stages of a shutdown;
//! [`supervisor::shell::Shell`] with everything behind it (starts, takeover, health checks, the control
//! socket, messages); and [`policy::Core`]. They run on implementations of [`init::kernel::Kernel`] and
//! [`supervisor::kernel::Kernel`] that act on a [`machine`].
//!
//! # What is simulated
//!
//! | | how |
//! |---|---|
//! | processes | parents, zombies, reaping, pidfds; death in steps, as in the kernel; process IDs can be reused |
//! | containers | scripts drawn at the start: setup, setup failure, exec, `READY=1`, forks, exit, OOM kill, ignored stop signal, uninterruptible sleep |
//! | cgroups | `populated`, throttled and merged notices, `oom_kill`, notes, `cgroup.kill` |
//! | links | bounded queues of packets with descriptors; `ECONNRESET`, `EPIPE` and the end of a link as in unix(7) |
//! | descriptors | references to objects; those of a killed process are closed; an epoll watch outlives a descriptor that has a duplicate |
//! | pipes, notify sockets, the control socket, TCP connections of health checks | as far as PID 1 and the supervisor use them |
//! | netsetup, logger, devices | scripted peers ([`actors`]); they are slow, killed and restarted; netsetup also hangs and fails |
//! | people | start, stop, restart and shutdown through the control socket; Ctrl-Alt-Del |
//! | files | the units' state files and the boot report |
//!
//! Not simulated: the inside of a container, resource usage, the API process, disks and volumes,
//! programs that people run in containers, and the code behind the two traits
//! (`init::kernel::LinuxKernel`, `supervisor::kernel::linux`), which is tested in guests.
//!
//! # What can happen when
//!
//! Before every call of the supervisor some time passes, and every event that is due by then happens.
//! Everything that is delayed on a real machine is delayed here, by a time drawn anew for each event:
//! mostly short, sometimes long. So messages on different links, cgroup notices, deaths and exits
//! arrive in any order that the real kernel allows, and PID 1 and the supervisor can be delayed at any
//! point. In addition, as the seed determines:
//! - the supervisor is killed before or after any call, or while it waits;
//! - any call fails with any error that its documentation lists;
//! - netsetup, logger and devices are killed; netsetup fails to attach a namespace, or hangs;
//! - queues are short, and process IDs few.
//!
//! A turn of PID 1's loop is atomic: nothing happens between two of its calls. PID 1 is never killed.
//!
//! # What is checked
//!
//! The [`check`] module compares what the supervisor writes and does with what really happened on the
//! machine. After the chaotic part of a schedule nothing fails any more; at the end of this calm part
//! every unit must be where it should be. A supervisor or a PID 1 that waits for an event that never
//! comes is found then, because nothing else wakes it up.

pub mod actors;
pub mod check;
pub mod kernel;
pub mod machine;
pub mod rng;
pub mod scenario;
pub mod trace;
pub mod world;

pub use scenario::{Crash, Options, Scenario};
pub use world::{Outcome, World};
