//! What the processes of the host say to each other, and how.
//!
//! Every link is a `SOCK_SEQPACKET` socket pair made by PID 1, which keeps both ends: a process
//! that dies leaves its queue behind for its successor, so no message is lost with a process.
//! A message is one packet: JSON (small, readable in strace) and, for some, file descriptors.
//!
//! The links (the left side speaks first):
//! - supervisor ↔ init: [`ToInit`] / [`FromInit`]
//! - logger ↔ init: [`ToInit`] / [`FromInit`]
//! - netsetup ↔ init: [`ToInit`] / [`FromInit`]
//! - supervisor ↔ netsetup: [`ToNet`] / [`FromNet`]

pub mod channel;
pub mod control;
pub mod images;
pub mod messages;
pub mod paths;

pub use channel::{Channel, ChannelError, Received};
pub use messages::{
    ExitStatus, FromInit, FromNet, NetRequest, PublishedPort, ShutdownKind, ToInit, ToNet,
};
