//! The messages between the host's own processes, and the links that carry them.
//!
//! Every link is a `SOCK_SEQPACKET` socket pair made by PID 1. A message is one packet: JSON (small,
//! readable in strace) and, for some, file descriptors. A process that dies closes its link to
//! PID 1: PID 1 reads what it had sent, gives its successor a new link, and repeats all that still
//! holds (stored descriptors, exits not yet acknowledged, the data disk, a shutdown in progress). The link between supervisor and netsetup is kept by PID 1 over the deaths of both ends; that
//! between supervisor and api over the death of the supervisor. Each api gets a new one: an api that
//! an attacker controls must not break it for good.
//!
//! The links (the left side speaks first):
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
