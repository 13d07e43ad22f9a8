//! The message of the client in each state (RFC 2131 table 5).

use std::time::Duration;

use super::client::{Config, Exchange, State, To};
use super::lease::Lease;
use super::packet::{Kind, Packet, code};

/// The requested options. Option 121 must come before option 3 (RFC 3442).
const PARAMETERS: [u8; 10] = [
    code::SUBNET_MASK,
    code::CLASSLESS_ROUTES,
    code::ROUTERS,
    code::DNS,
    code::DOMAIN,
    code::MTU,
    code::LEASE_TIME,
    code::SERVER,
    code::T1,
    code::T2,
];

/// Maximum message size that the client accepts: the payload of an Ethernet frame without IP and
/// UDP headers.
const MAX_SIZE: u16 = 1472;

/// Hardware type Ethernet, in the client identifier.
const ETHERNET: u8 = 1;

/// The message of a state and its destination; `None` for states in which nothing is sent. `held`
/// is the lease in use.
pub(super) fn of(
    state: &State,
    exchange: &Exchange,
    config: &Config,
    held: Option<&Lease>,
    now: Duration,
) -> Option<(Packet, To)> {
    let secs = now.saturating_sub(exchange.began).as_secs();
    let secs = u16::try_from(secs).unwrap_or(u16::MAX);
    let packet = |kind| {
        let id: Vec<u8> = [ETHERNET].into_iter().chain(config.mac).collect();
        let packet = Packet::request(kind, exchange.xid, secs, config.mac)
            .with(code::CLIENT_ID, id)
            .with(code::MAX_SIZE, MAX_SIZE.to_be_bytes())
            .with(code::PARAMETERS, PARAMETERS);
        match config.hostname.as_str() {
            "" => packet,
            name => packet.with(code::HOST_NAME, name),
        }
    };
    match state {
        State::Down | State::Init { .. } | State::Bound => None,
        State::Selecting => Some((packet(Kind::Discover), To::Link)),
        State::Requesting(offer) => {
            let packet = packet(Kind::Request)
                .with(code::REQUESTED_ADDRESS, offer.address.octets())
                .with(code::SERVER, offer.server.octets());
            Some((packet, To::Link))
        }
        State::Rebooting => {
            let address = held?.address.octets();
            Some((packet(Kind::Request).with(code::REQUESTED_ADDRESS, address), To::Link))
        }
        State::Renewing | State::Rebinding => {
            let lease = held?;
            let mut packet = packet(Kind::Request);
            packet.ciaddr = lease.address;
            let renewing = *state == State::Renewing;
            Some((packet, if renewing { To::Server(lease.server) } else { To::Broadcast }))
        }
    }
}
