//! Resource limits of a process (getrlimit(2)).

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident = $number:ident, $text:literal;)*) => {
        /// A resource with a per-process limit (getrlimit(2)).
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Resource { $($(#[$doc])* $name,)* }

        impl Resource {
            /// Every resource.
            pub const ALL: &'static [Resource] = &[$(Resource::$name,)*];

            /// Its name in lower case, without `RLIMIT_`.
            pub const fn name(self) -> &'static str {
                match self { $(Resource::$name => $text,)* }
            }

            /// The kernel's number for it.
            pub(crate) const fn number(self) -> libc::__rlimit_resource_t {
                match self { $(Resource::$name => libc::$number,)* }
            }
        }
    };
}

resources! {
    /// Address space, bytes.
    AddressSpace = RLIMIT_AS, "as";
    /// Size of core files, bytes.
    Core = RLIMIT_CORE, "core";
    /// CPU time, seconds.
    Cpu = RLIMIT_CPU, "cpu";
    /// Size of the data segment, bytes.
    Data = RLIMIT_DATA, "data";
    /// Size of files written, bytes.
    FileSize = RLIMIT_FSIZE, "fsize";
    /// File locks; no effect on Linux.
    Locks = RLIMIT_LOCKS, "locks";
    /// Locked memory, bytes.
    MemLock = RLIMIT_MEMLOCK, "memlock";
    /// POSIX message queues, bytes.
    MsgQueue = RLIMIT_MSGQUEUE, "msgqueue";
    /// Highest priority, 20 minus the nice value.
    Nice = RLIMIT_NICE, "nice";
    /// Open files.
    NoFile = RLIMIT_NOFILE, "nofile";
    /// Processes of the user.
    NProc = RLIMIT_NPROC, "nproc";
    /// Resident memory; no effect on Linux.
    ResidentSet = RLIMIT_RSS, "rss";
    /// Highest real-time priority.
    RtPriority = RLIMIT_RTPRIO, "rtprio";
    /// Real-time CPU time without a blocking call, microseconds.
    RtTime = RLIMIT_RTTIME, "rttime";
    /// Pending signals.
    SigPending = RLIMIT_SIGPENDING, "sigpending";
    /// Stack size, bytes.
    Stack = RLIMIT_STACK, "stack";
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// The resource.
    pub resource: Resource,
    /// The limit in force.
    pub soft: u64,
    /// How far the program may raise it.
    pub hard: u64,
}

impl Rlimit {
    /// Default limit of open files: the kernel's default of `fs.nr_open`, as in podman.
    pub const NOFILE: u64 = 1_048_576;
}
