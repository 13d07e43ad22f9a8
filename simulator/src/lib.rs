//! A deterministic simulator of a host: the real PID 1, the real supervisor and the real policy run
//! on a simulated kernel, in one thread, on simulated time. A seed says everything that happens; the
//! same seed gives the same schedule, call by call.
//!
//! # What is real
//!
//! [`init::pid1::Pid1`] with its store of descriptors, its exits and its stages of a shutdown;
//! [`supervisor::shell::Shell`] with everything behind it (starts, taking over, health checks, the
//! control socket, messages) and [`policy::Core`]. They run on implementations of
//! [`init::kernel::Kernel`] and [`supervisor::kernel::Kernel`] that lead to the [`machine`].
//!
//! # What is simulated
//!
//! | | how |
//! |---|---|
//! | processes | parents, zombies, reaping, pidfds; a death in steps, as in the kernel; numbers come back after a while |
//! | containers | scripts drawn at the start: set-up, its failure, exec, READY=1, forks, exit, OOM, deaf to the stop signal, stuck in the kernel |
//! | cgroups | `populated`, throttled and merged notices, `oom_kill`, notes, `cgroup.kill` |
//! | links | bounded queues of packets with descriptors; ECONNRESET, EPIPE and the end as unix(7) has them |
//! | descriptors | references to objects; a killed process closes its own; epoll's watches outlive a descriptor that has a duplicate |
//! | pipes, notify sockets, control socket, TCP of health checks | as far as the two use them |
//! | netsetup, logger, devices | [`actors`] that talk as the real ones do; slow, killed and restarted, netsetup also silent |
//! | people | start, stop, restart, shutdown through the control socket; Ctrl-Alt-Del |
//! | files | the units' state files and the report of the boot |
//!
//! Not simulated: what is inside a container, what anything costs, the API process, disks and
//! volumes, programs that people run in containers, and the code behind the two traits
//! (`init::kernel::LinuxKernel`, `supervisor::kernel::linux`), which tests in guests run.
//!
//! # What may happen when
//!
//! Before every call of the supervisor time passes, and what is due by then happens. Whatever has a
//! delay on a real machine has one here, drawn anew each time: mostly short, sometimes long. So
//! messages on different links, notices, deaths and exits come in any order that the real kernel
//! allows, and PID 1 and the supervisor can be held up at any point. In addition, as the seed says:
//! - the supervisor is killed before or after any call, or while it waits;
//! - any call fails with any error that its documentation names;
//! - netsetup, logger and devices are killed; netsetup refuses to attach a namespace or hangs;
//! - queues are short, process numbers few.
//!
//! PID 1 makes its turns whole: nothing happens between two of its calls. It is never killed.
//!
//! # What is checked
//!
//! The [`check`] module compares what the supervisor writes and does with what really happened. After
//! a time of trouble comes a calm one; at its end every unit must be where it should be. A supervisor
//! or a PID 1 that waits for something that never comes is found then, because nothing else wakes
//! it up.

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
