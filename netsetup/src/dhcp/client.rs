//! The DHCP client as a pure state machine: `(state, now, event) -> (state, actions)`.
//!
//! The state has two independent parts. The *held lease*: one or none; the host uses its address
//! for exactly as long as it is held. The *exchange* with the servers ([`State`]). Figure 5 of RFC
//! 2131 is the product of the two:
//!
//! | state | lease held | waiting for |
//! |---|---|---|
//! | `Down` | no | a carrier |
//! | `Init` | no | the time to send (immediately, or after a pause following refusals) |
//! | `Selecting` | no | an offer in response to DHCPDISCOVER, which is repeated |
//! | `Requesting` | no | the acknowledgement of an offer; then `Init` |
//! | `Rebooting` | yes | a confirmation after a restart or a new carrier; without one, `Bound` |
//! | `Bound` | yes | T1 |
//! | `Renewing` | yes | an extension by the same server; T2 |
//! | `Rebinding` | yes | an extension by any server; the end of the lease |
//!
//! A refusal (DHCPNAK) and the end of the lease lead to `Init` without a lease, from any state.
//! Times are durations since boot, including suspend; the wall clock is not used.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::lease::{FOREVER, Lease};
use super::packet::{Kind, Packet, code};
use super::request;
use crate::links::Mac;

/// Unanswered requests for an offer before the client starts over (4 + 8 + 16 + 32 s).
const REQUEST_TRIES: u32 = 4;
/// Unanswered requests to confirm a lease before it is used without confirmation (4 + 8 s).
const REBOOT_TRIES: u32 = 2;
/// Minimum time between two attempts to extend a lease (RFC 2131 section 4.4.5).
const RENEW_PAUSE: Duration = Duration::from_secs(60);
/// Maximum pause after consecutive refusals, as a power of two in seconds.
const MAX_REFUSAL_PAUSE: u32 = 6;

/// The configuration of the state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The link's hardware address.
    pub mac: Mac,
    /// The host's name, sent to the server.
    pub hostname: String,
    /// Seed of transaction ids and jitter; preferably from the kernel's entropy.
    pub seed: u64,
}

/// A lease and its start time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The lease.
    pub lease: Lease,
    /// When the granted request was first sent: the lease starts then.
    pub since: Duration,
}

impl Held {
    fn after(&self, seconds: u32) -> Option<Duration> {
        (self.lease.seconds != FOREVER).then(|| self.since + Duration::from_secs(seconds.into()))
    }

    /// When the lease ends; `None`: never.
    pub fn ends(&self) -> Option<Duration> {
        self.after(self.lease.seconds)
    }

    fn t1(&self) -> Option<Duration> {
        self.after(self.lease.t1)
    }

    fn t2(&self) -> Option<Duration> {
        self.after(self.lease.t2)
    }
}

/// An input of the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Time has passed; see [`Client::deadline`].
    Timer,
    /// A UDP payload for the client's port was received on the link.
    Packet(&'a [u8]),
    /// The carrier of the link has appeared or disappeared.
    Carrier(bool),
}

/// The destination of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Broadcast from 0.0.0.0, whatever addresses the link has.
    Link,
    /// Broadcast from the held address.
    Broadcast,
    /// Unicast from the held address to a server.
    Server(Ipv4Addr),
}

/// Why a lease is no longer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It expired without being extended.
    Expired,
    /// A server refused it (DHCPNAK).
    Refused,
}

/// An output of the state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this payload. A failure to send is treated like a loss on the network.
    Send(Vec<u8>, To),
    /// Hold this lease from now on: set address and routes, replacing those of the previous lease.
    Hold(Held),
    /// Remove address and routes.
    Release(Lost),
}

/// The state of the exchange with the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No carrier and no lease.
    Down,
    /// About to send DHCPDISCOVER.
    Init {
        /// When to send it.
        at: Duration,
    },
    /// DHCPDISCOVER has been sent.
    Selecting,
    /// DHCPREQUEST for this offer has been sent.
    Requesting(Lease),
    /// DHCPREQUEST for the held lease has been sent.
    Rebooting,
    /// No exchange in progress.
    Bound,
    /// DHCPREQUEST to the server of the lease has been sent.
    Renewing,
    /// DHCPREQUEST to any server has been sent.
    Rebinding,
}

/// The exchange in progress.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) xid: u32,
    pub(super) began: Duration,
    /// When the request was first sent that an acknowledgement grants.
    requested: Duration,
    tries: u32,
    next: Duration,
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Client {
    config: Config,
    state: State,
    held: Option<Held>,
    exchange: Exchange,
    carrier: bool,
    /// Refusals since the last acknowledgement.
    refusals: u32,
    /// Since when there has been a carrier but no lease.
    searching: Duration,
    random: u64,
}

impl Client {
    /// A client without a lease.
    pub fn new(config: Config, carrier: bool, now: Duration) -> Client {
        let random = config.seed;
        let state = if carrier { State::Init { at: now } } else { State::Down };
        let exchange = Exchange::default();
        let (held, refusals, searching) = (None, 0, now);
        Client { config, state, held, exchange, carrier, refusals, searching, random }
    }

    /// A client that continues with a saved lease, which it confirms. The caller carries out the
    /// actions. An expired lease is ignored.
    pub fn resume(
        config: Config,
        held: Held,
        carrier: bool,
        now: Duration,
    ) -> (Client, Vec<Action>) {
        let mut client = Client::new(config, carrier, now);
        let mut actions = Vec::new();
        // A lease that starts in the future is from another boot.
        if held.since <= now && held.ends().is_none_or(|end| now < end) {
            actions.push(Action::Hold(held.clone()));
            client.held = Some(held);
            client.confirm(now, &mut actions);
        }
        (client, actions)
    }

    /// The state of the exchange.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The held lease.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Since when a lease has been requested; `None` if one is held or there is no carrier.
    pub fn searching_since(&self) -> Option<Duration> {
        (self.held.is_none() && self.carrier).then_some(self.searching)
    }

    /// True if the last response of a server was a refusal.
    pub fn refused(&self) -> bool {
        self.refusals > 0
    }

    /// True while responses may be sent to an address that the host does not have (yet).
    pub fn needs_raw_socket(&self) -> bool {
        matches!(self.state, State::Selecting | State::Requesting(_) | State::Rebooting)
    }

    /// When [`Event::Timer`] is due; `None`: not before another event.
    pub fn deadline(&self) -> Option<Duration> {
        let held = self.held.as_ref();
        let own = match self.state {
            State::Down => None,
            State::Init { at } => Some(at),
            State::Selecting | State::Requesting(_) | State::Rebooting => Some(self.exchange.next),
            State::Bound => held.and_then(Held::t1),
            State::Renewing => earliest(Some(self.exchange.next), held.and_then(Held::t2)),
            State::Rebinding => Some(self.exchange.next),
        };
        earliest(own, held.and_then(Held::ends))
    }

    /// Handles an event, after everything that is due by `now`.
    pub fn step(&mut self, now: Duration, event: Event<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.catch_up(now, &mut actions);
        match event {
            Event::Timer => {}
            Event::Packet(bytes) => {
                if let Ok(packet) = Packet::parse(bytes) {
                    self.receive(now, &packet, &mut actions);
                }
            }
            Event::Carrier(carrier) => self.carrier(now, carrier, &mut actions),
        }
        actions
    }

    /// Does everything that is due. One step may make the next one due (a lease that expired during
    /// suspend).
    fn catch_up(&mut self, now: Duration, actions: &mut Vec<Action>) {
        // Each iteration follows a transition of the table above; no chain of transitions that are
        // due at the same time is longer.
        for _ in 0..6 {
            if self.deadline().is_none_or(|deadline| now < deadline) {
                return;
            }
            self.due(now, actions);
        }
    }

    fn due(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let reached = |time: Option<Duration>| time.is_some_and(|time| time <= now);
        if reached(self.held.as_ref().and_then(Held::ends)) {
            self.lose(now, Lost::Expired, actions);
            return;
        }
        let past_t2 = reached(self.held.as_ref().and_then(Held::t2));
        match &self.state {
            State::Down => {}
            State::Init { .. } => {
                self.begin(now);
                self.transmit(State::Selecting, now, actions);
            }
            State::Requesting(_) if self.exchange.tries >= REQUEST_TRIES => {
                self.state = State::Init { at: now };
            }
            State::Rebooting if self.exchange.tries >= REBOOT_TRIES => self.state = State::Bound,
            State::Bound | State::Renewing if past_t2 => {
                self.begin(now);
                self.transmit(State::Rebinding, now, actions);
            }
            State::Bound => {
                self.begin(now);
                self.transmit(State::Renewing, now, actions);
            }
            same => self.transmit(same.clone(), now, actions),
        }
    }

    /// Begins a new exchange with a new id, so that late responses to an earlier one are ignored.
    fn begin(&mut self, now: Duration) {
        let xid = u32::try_from(self.random() >> 32).unwrap_or(0);
        self.exchange = Exchange { xid, began: now, requested: now, tries: 0, next: now };
    }

    /// Enters a state and sends its message, or sends the message again.
    fn transmit(&mut self, state: State, now: Duration, actions: &mut Vec<Action>) {
        self.state = state;
        let held = self.held.as_ref().map(|held| &held.lease);
        let message = request::of(&self.state, &self.exchange, &self.config, held, now);
        actions.extend(message.map(|(packet, to)| Action::Send(packet.encode(), to)));
        let pause = match &self.held {
            Some(held) if matches!(self.state, State::Renewing | State::Rebinding) => {
                let end = if self.state == State::Renewing { held.t2() } else { held.ends() };
                let left = end.map(|end| end.saturating_sub(now)).unwrap_or_default();
                (left / 2).max(RENEW_PAUSE)
            }
            _ => self.backoff(),
        };
        self.exchange.tries = self.exchange.tries.saturating_add(1);
        self.exchange.next = now + pause;
    }

    /// 4, 8, 16, 32, 64, 64 … seconds, each plus or minus up to a second (RFC 2131 section 4.1).
    fn backoff(&mut self) -> Duration {
        let base = 4u64 << self.exchange.tries.min(4);
        let jitter = self.random() % 2001;
        Duration::from_millis(base * 1000 - 1000 + jitter)
    }

    fn receive(&mut self, now: Duration, packet: &Packet, actions: &mut Vec<Action>) {
        let ours =
            packet.reply && packet.xid == self.exchange.xid && packet.chaddr == self.config.mac;
        if !ours {
            return;
        }
        let server = packet.address(code::SERVER);
        // The server whose response counts; `None`: any.
        let awaited = match &self.state {
            State::Down | State::Init { .. } | State::Bound => return,
            State::Selecting | State::Rebooting | State::Rebinding => None,
            State::Requesting(offer) => Some(offer.server),
            State::Renewing => self.held.as_ref().map(|held| held.lease.server),
        };
        let selecting = self.state == State::Selecting;
        if server.is_none() || awaited.is_some_and(|awaited| server != Some(awaited)) {
            return;
        }
        match packet.kind {
            Kind::Offer if selecting => {
                if let Ok(offer) = Lease::read(packet, None) {
                    // The request continues the exchange of the discovery, but with its own
                    // backoff.
                    self.exchange.tries = 0;
                    self.exchange.requested = now;
                    self.transmit(State::Requesting(offer), now, actions);
                }
            }
            Kind::Ack if !selecting => {
                self.acknowledged(now, packet, actions);
                // After a late acknowledgement the renewal may be due already.
                self.catch_up(now, actions);
            }
            Kind::Nak if !selecting => self.not_ours(now, actions),
            _ => {}
        }
    }

    fn acknowledged(&mut self, now: Duration, packet: &Packet, actions: &mut Vec<Action>) {
        let held = self.held.as_ref().map(|held| &held.lease);
        let asked = match &self.state {
            State::Requesting(offer) => Some(offer),
            _ => held,
        };
        let Some(asked) = asked else { return };
        let Ok(lease) = Lease::read(packet, Some(asked.prefix)) else { return };
        // An acknowledgement of another address is not for us.
        if lease.address != asked.address {
            return;
        }
        let held = Held { lease, since: self.exchange.requested };
        // The acknowledgement is so late that the lease has expired.
        if held.ends().is_some_and(|end| end <= now) {
            return;
        }
        self.state = State::Bound;
        self.refusals = 0;
        self.held = Some(held.clone());
        actions.push(Action::Hold(held));
    }

    fn not_ours(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.lose(now, Lost::Refused, actions);
        // A server that repeatedly offers and then refuses must not cause a storm of messages.
        let pause = match self.refusals {
            0 => Duration::ZERO,
            n => Duration::from_secs(1 << n.min(MAX_REFUSAL_PAUSE)),
        };
        self.refusals = self.refusals.saturating_add(1);
        if let State::Init { at } = &mut self.state {
            *at = now + pause;
        }
        self.catch_up(now, actions);
    }

    /// Releases the lease, if any, and starts over.
    fn lose(&mut self, now: Duration, why: Lost, actions: &mut Vec<Action>) {
        if self.held.take().is_some() {
            self.searching = now;
            actions.push(Action::Release(why));
        }
        self.state = if self.carrier { State::Init { at: now } } else { State::Down };
    }

    /// A link without a carrier keeps its address: usually the same network comes back. As it may
    /// be another one, the lease is then confirmed.
    fn carrier(&mut self, now: Duration, carrier: bool, actions: &mut Vec<Action>) {
        if carrier == self.carrier {
            return;
        }
        self.carrier = carrier;
        match (carrier, self.held.is_some()) {
            (true, true) => self.confirm(now, actions),
            (true, false) => {
                self.searching = now;
                self.state = State::Init { at: now };
                self.catch_up(now, actions);
            }
            (false, true) => {}
            (false, false) => self.state = State::Down,
        }
    }

    fn confirm(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.carrier {
            self.begin(now);
            self.transmit(State::Rebooting, now, actions);
        } else {
            self.state = State::Bound;
        }
    }

    /// SplitMix64: ids and jitter must differ, but need not be secret.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn earliest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
