//! DHCPv4 (RFC 2131, RFC 2132, RFC 3396, RFC 3442).
//!
//! - [`packet`]: messages as bytes and back;
//! - [`lease`]: what an acknowledgement means, checked;
//! - `request`: what the client says in which state;
//! - [`client`]: the state machine: no socket, no clock, no randomness of its own;
//! - [`frame`]: IP and UDP headers for the time before there is an address;
//! - [`socket`]: the sockets.

pub mod client;
pub mod frame;
pub mod lease;
pub mod packet;
mod request;
pub mod socket;

/// UDP port of servers.
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;
