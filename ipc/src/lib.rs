//! The messages between the host's own processes, and the links that carry them.
//!
//! Every link is a `SOCK_SEQPACKET` socket pair made by PID 1. A message is one packet: JSON
//! (small, readable in strace) and, for some, file descriptors. A process that dies closes its link
//! to PID 1. PID 1 then reads the messages that are still queued, gives the successor a new link,
//! and sends again what is still valid (stored descriptors, unacknowledged exits, the data disk, a
//! shutdown in progress). PID 1 keeps the link between supervisor and netsetup open when either of
//! them dies, and the link between supervisor and api when the supervisor dies. Each api gets a new
//! link, so that an api under an attacker's control cannot break it permanently.
//!
//! The links (the left side sends the first message):
//! - supervisor ↔ init: [`ToInit`] / [`FromInit`]
//! - logger, netsetup, devices ↔ init: [`ToInit`] / [`FromInit`]
//! - supervisor ↔ netsetup: [`ToNet`] / [`FromNet`]
//! - api ↔ supervisor: [`api::FromApi`] / [`api::ToApi`]

mod answer;
pub mod api;
pub mod channel;
pub mod clock;
pub mod control;
pub mod fds;
pub mod link;
pub mod messages;
pub mod outbox;

pub use answer::{Answer, OpenedFile, Reply, UnexpectedReply};
pub use api_types::{BootReport, DataDisk, ExitStatus, Network, Phase, ShutdownKind};
pub use channel::{Channel, ChannelError, Received};
pub use link::Link;
pub use messages::{
    API_LINK, FromInit, FromNet, NetRequest, PublishedPort, Service, ToInit, ToNet,
};
pub use outbox::Outbox;
