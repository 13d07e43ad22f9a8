//! DHCPv4 (RFC 2131, RFC 2132, RFC 3396, RFC 3442).
//!
//! - [`packet`]: encoding and parsing messages;
//! - [`lease`]: validating acknowledgements;
//! - `request`: the message of the client in each state;
//! - [`client`]: the state machine, without sockets, clock or randomness of its own;
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
