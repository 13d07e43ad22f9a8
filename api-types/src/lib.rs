//! What travels over the host's REST API: the JSON of both sides, and the frames of `exec`.
//!
//! The server passes much of this through from the supervisor without reading it; whoever reads it
//! here ignores fields that it does not know, and does without those that may be missing, so that a
//! client and a host of neighbouring versions understand each other.

mod error;
mod exec;
mod host;
mod log;
mod process;
mod unit;

pub use error::{ErrorBody, ErrorCode, Problem};
pub use exec::{
    Decoder, ExecRequest, FRAME_HEADER, Frame, FrameError, FrameKind, MAX_FRAME, Resize,
};
pub use host::{
    Boot, Clock, ConfigValue, DataDisk, Disk, Host, Link, Memory, Network, Phase, Process, Role,
    Whoami,
};
pub use log::{Event, Gap, LogLine};
pub use process::{ExitStatus, ShutdownKind};
pub use unit::{
    By, Did, Explanation, Health, LastExit, LastExitDetail, LogCounters, Pressure, SignalRequest,
    Stall, State, Timeline, Unit,
};

/// The port on which a host listens.
pub const PORT: u16 = 7443;

/// The protocol's name in the `Upgrade` header of an exec.
pub const EXEC_PROTOCOL: &str = "keel-exec";

/// The header of an exec: base64 of the JSON of an [`ExecRequest`].
pub const EXEC_HEADER: &str = "x-keel-exec";

/// The header with a file's permission bits, in octal.
pub const MODE_HEADER: &str = "x-keel-mode";
