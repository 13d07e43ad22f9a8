//! What leaves a host over its REST API: the JSON of both sides, and the frames of `exec`.
//!
//! These types are the only definition. The policy speaks of units, exits and events in them, the
//! supervisor and the API server exchange them, the OpenAPI document is derived from them, and
//! clients read them.
//!
//! A client and a host of neighbouring versions understand each other: readers ignore fields that
//! they do not know, do without those that may be missing, and accept events of an unknown kind
//! ([`EventKind::Unknown`]).

mod client;
mod error;
mod event;
mod exec;
mod exit;
mod host;
mod log;
mod process;
mod signal;
mod time;
mod unit;
mod wait;

pub use client::{Client, ClientError, Role};
pub use error::{ErrorBody, ErrorCode, Problem};
pub use event::{Action, Event, EventKind, Gap, unstable_runs};
pub use exec::{
    Decoder, ExecRequest, FRAME_HEADER, Frame, FrameError, FrameKind, MAX_FRAME, Resize,
};
pub use exit::{ExitCause, ExitStatus, Failure, LastExit};
pub use host::{
    BootReport, Clock, ConfigValue, DataDisk, Disk, Host, Link, Memory, Network, Phase,
    ShutdownKind,
};
pub use log::{LogLine, Stream};
pub use process::Process;
pub use signal::{SIGNALS, signal_name};
pub use time::human;
pub use unit::{
    By, Desired, Explanation, Health, HealthState, LogCounters, Outcome, Pressure, SignalRequest,
    Stall, State, Timeline, Unit,
};
pub use wait::{Unmet, WaitReason};

/// The port on which a host listens.
pub const PORT: u16 = 7443;

/// The protocol's name in the `Upgrade` header of an exec.
pub const EXEC_PROTOCOL: &str = "keel-exec";

/// The header of an exec: base64 of the JSON of an [`ExecRequest`].
pub const EXEC_HEADER: &str = "x-keel-exec";

/// The header with a file's permission bits, in octal.
pub const MODE_HEADER: &str = "x-keel-mode";
