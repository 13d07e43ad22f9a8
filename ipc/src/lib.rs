//! What the processes of the host say to each other, and how.
//!
//! Every link is a `SOCK_SEQPACKET` socket pair made by PID 1. A message is one packet: JSON (small,
//! readable in strace) and, for some, file descriptors. A process that dies takes its link to PID 1
//! with it: PID 1 reads what it had sent, gives its successor a new link, and says again all that
//! still holds (stored descriptors, exits not yet acknowledged, the data disk, a shutdown under
//! way). The link between supervisor and netsetup is kept by PID 1 over the deaths of both ends; that
//! between supervisor and api over the death of the supervisor, and each api gets a new one: what
//! strangers may have taken over must not break it for good.
//!
//! The links (the left side speaks first):
//! - supervisor ↔ init: [`ToInit`] / [`FromInit`]
//! - logger, netsetup, devices ↔ init: [`ToInit`] / [`FromInit`]
//! - supervisor ↔ netsetup: [`ToNet`] / [`FromNet`]
//! - api ↔ supervisor: [`api::FromApi`] / [`api::ToApi`]

pub mod api;
pub mod channel;
pub mod clock;
pub mod control;
pub mod fds;
pub mod link;
pub mod messages;
pub mod outbox;

pub use api_types::{ExitStatus, ShutdownKind};
pub use channel::{Channel, ChannelError, Received};
pub use link::Link;
pub use messages::{
    API_LINK, BootReport, DataDisk, FromInit, FromNet, NetRequest, NetState, Phase, PublishedPort,
    Service, ToInit, ToNet,
};
pub use outbox::Outbox;
