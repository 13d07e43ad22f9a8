//! Exchanges with a simulated server, and generated sequences of events, on a virtual clock.

use super::*;
use crate::dhcp::lease;
use proptest::prelude::*;

const MAC: Mac = [2, 0, 0, 0, 0, 7];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 17);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn config() -> Config {
    Config { mac: MAC, hostname: "host".into(), seed: 1 }
}

/// A server's response to a message.
fn answer(request: &Packet, kind: Kind, server: Ipv4Addr, seconds: u32) -> Packet {
    let mut packet = Packet::request(kind, request.xid, 0, request.chaddr)
        .with(code::SERVER, server.octets())
        .with(code::SUBNET_MASK, [255, 255, 255, 0])
        .with(code::ROUTERS, server.octets())
        .with(code::LEASE_TIME, seconds.to_be_bytes());
    packet.reply = true;
    packet.yiaddr = ADDRESS;
    packet
}

/// A client, its clock, and its recorded actions.
struct World {
    client: Client,
    now: Duration,
    held: Option<Held>,
    sent: Vec<(Duration, Packet, To)>,
    released: Vec<Lost>,
}

impl World {
    fn new(now: Duration) -> World {
        World::of(Client::new(config(), true, now), now)
    }

    fn of(client: Client, now: Duration) -> World {
        World { client, now, held: None, sent: Vec::new(), released: Vec::new() }
    }

    fn event(&mut self, event: Event<'_>) {
        let actions = self.client.step(self.now, event);
        self.take(actions);
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(bytes, to) => {
                    let packet = Packet::parse(&bytes).expect("a sent message can be parsed");
                    self.check_sent(&packet, to);
                    self.sent.push((self.now, packet, to));
                }
                Action::Hold(held) => self.held = Some(held),
                Action::Release(why) => {
                    assert!(self.held.take().is_some(), "released a lease that was not held");
                    self.released.push(why);
                }
            }
        }
        assert_eq!(self.client.held(), self.held.as_ref());
        let ends = self.held.as_ref().and_then(Held::ends);
        assert!(ends.is_none_or(|end| self.now < end), "held beyond its end");
        assert!(self.client.deadline().is_none_or(|at| self.now < at), "still due");
    }

    /// RFC 2131 table 5.
    fn check_sent(&self, packet: &Packet, to: To) {
        let has = |code| packet.options.contains_key(&code);
        assert_eq!((packet.reply, packet.chaddr), (false, MAC));
        assert_eq!(packet.options[&code::CLIENT_ID], [1, 2, 0, 0, 0, 0, 7]);
        let server = has(code::SERVER);
        let requested = has(code::REQUESTED_ADDRESS);
        let named = !packet.ciaddr.is_unspecified();
        let expected = match (packet.kind, self.client.state()) {
            (Kind::Discover, State::Selecting) => (false, false, false, To::Link),
            (Kind::Request, State::Requesting(_)) => (true, true, false, To::Link),
            (Kind::Request, State::Rebooting) => (false, true, false, To::Link),
            (Kind::Request, State::Renewing) => (false, false, true, To::Server(SERVER)),
            (Kind::Request, State::Rebinding) => (false, false, true, To::Broadcast),
            other => panic!("sent in {other:?}"),
        };
        assert_eq!((server, requested, named, to), expected);
    }

    /// Moves the clock to the next deadline, which must come before `limit`.
    fn next(&mut self, limit: Duration) {
        let at = self.client.deadline().expect("a deadline");
        assert!(at < limit, "nothing due before {limit:?}");
        self.now = at;
        self.event(Event::Timer);
    }

    fn last(&self) -> Packet {
        self.sent.last().expect("something was sent").1.clone()
    }

    fn reply(&mut self, kind: Kind, server: Ipv4Addr, seconds: u32) {
        let bytes = answer(&self.last(), kind, server, seconds).encode();
        self.event(Event::Packet(&bytes));
    }

    /// A client with a lease of this length.
    fn bound(seconds: u32) -> World {
        let mut world = World::new(s(1000));
        world.event(Event::Timer);
        world.reply(Kind::Offer, SERVER, seconds);
        world.reply(Kind::Ack, SERVER, seconds);
        assert_eq!(world.client.state(), &State::Bound);
        world
    }
}

#[test]
fn discover_offer_request_ack() {
    let world = World::bound(3600);
    let held = world.held.unwrap();
    assert_eq!((held.lease.address, held.lease.prefix, held.lease.server), (ADDRESS, 24, SERVER));
    assert_eq!(held.lease.gateway(), Some(SERVER));
    assert_eq!(held.ends(), Some(s(1000 + 3600)));
    assert_eq!(world.client.deadline(), Some(s(1000 + 1800)));
    let kinds: Vec<_> = world.sent.iter().map(|(_, packet, _)| packet.kind).collect();
    assert_eq!(kinds, [Kind::Discover, Kind::Request]);
}

#[test]
fn discover_is_repeated_with_the_backoff_of_rfc_2131_indefinitely() {
    let mut world = World::new(s(0));
    world.event(Event::Timer);
    for _ in 0..20 {
        world.next(s(100_000));
    }
    let times: Vec<f64> = world.sent.iter().map(|(at, ..)| at.as_secs_f64()).collect();
    for (index, pair) in times.windows(2).enumerate() {
        let expected = f64::from(4u32 << index.min(4));
        assert!((pair[1] - pair[0] - expected).abs() <= 1.0, "{times:?}");
    }
    let (_, first, _) = &world.sent[0];
    let (_, last, _) = &world.sent[20];
    assert_eq!(first.xid, last.xid);
    assert!(last.secs > first.secs);
}

#[test]
fn an_offer_that_is_never_acknowledged_is_abandoned() {
    let mut world = World::new(s(0));
    world.event(Event::Timer);
    world.reply(Kind::Offer, SERVER, 3600);
    let xid = world.last().xid;
    for _ in 0..4 {
        world.next(s(100));
    }
    assert_eq!(world.client.state(), &State::Selecting);
    assert_ne!(world.last().xid, xid);
}

#[test]
fn renew_extends_the_lease_from_the_request_on() {
    let mut world = World::bound(3600);
    world.next(s(2801));
    assert_eq!(world.client.state(), &State::Renewing);
    world.now += s(5);
    world.reply(Kind::Ack, SERVER, 3600);
    assert_eq!(world.client.state(), &State::Bound);
    assert_eq!(world.held.as_ref().unwrap().ends(), Some(s(2800 + 3600)));
    assert_eq!(world.released, []);
}

#[test]
fn rebind_accepts_another_server() {
    let mut world = World::bound(3600);
    while world.client.state() != &State::Rebinding {
        world.next(s(1000 + 3600));
    }
    assert_eq!(world.now, s(1000 + 3150));
    world.reply(Kind::Ack, OTHER_SERVER, 7200);
    assert_eq!(world.client.state(), &State::Bound);
    assert_eq!(world.held.as_ref().unwrap().lease.server, OTHER_SERVER);
    assert_eq!(world.released, []);
}

#[test]
fn the_end_of_a_lease_removes_the_address_and_starts_over() {
    let mut world = World::bound(3600);
    while world.released.is_empty() {
        world.next(s(1000 + 3601));
    }
    assert_eq!((world.now, &world.released[..]), (s(1000 + 3600), &[Lost::Expired][..]));
    assert_eq!(world.last().kind, Kind::Discover);
    // A few attempts to extend it, no storm.
    assert!(world.sent.len() < 20, "{}", world.sent.len());
}

#[test]
fn a_suspend_past_the_end_of_the_lease_is_noticed_immediately() {
    let mut world = World::bound(3600);
    world.now += s(1_000_000);
    world.event(Event::Carrier(true));
    assert_eq!(world.released, [Lost::Expired]);
    assert_eq!(world.last().kind, Kind::Discover);
}

#[test]
fn a_refusal_removes_the_address_in_every_requesting_state() {
    for target in [State::Renewing, State::Rebinding] {
        let mut world = World::bound(3600);
        while world.client.state() != &target {
            world.next(s(1000 + 3600));
        }
        world.reply(Kind::Nak, SERVER, 0);
        assert_eq!(world.released, [Lost::Refused]);
        assert_eq!(world.last().kind, Kind::Discover);
    }
    let mut world = World::bound(3600);
    world.event(Event::Carrier(false));
    world.event(Event::Carrier(true));
    assert_eq!(world.client.state(), &State::Rebooting);
    world.reply(Kind::Nak, OTHER_SERVER, 0);
    assert_eq!(world.released, [Lost::Refused]);
}

#[test]
fn a_server_that_offers_and_refuses_causes_no_storm() {
    let mut world = World::new(s(0));
    world.event(Event::Timer);
    while world.now < s(600) {
        match world.client.state() {
            State::Selecting => world.reply(Kind::Offer, SERVER, 3600),
            State::Requesting(_) => world.reply(Kind::Nak, SERVER, 0),
            _ => world.next(s(10_000)),
        }
    }
    assert!(world.sent.len() < 40, "{}", world.sent.len());
    assert!(world.client.refused());
}

#[test]
fn an_infinite_lease_is_never_renewed() {
    let world = World::bound(lease::FOREVER);
    assert_eq!(world.client.deadline(), None);
}

#[test]
fn a_lost_carrier_keeps_the_address_and_its_return_confirms_it() {
    let mut world = World::bound(3600);
    world.event(Event::Carrier(false));
    assert!(world.held.is_some());
    world.now += s(10);
    world.event(Event::Carrier(true));
    assert_eq!(world.client.state(), &State::Rebooting);
    world.reply(Kind::Ack, SERVER, 3600);
    assert_eq!(world.client.state(), &State::Bound);
    assert_eq!(world.held.as_ref().unwrap().since, s(1010));
}

#[test]
fn a_restart_continues_with_the_lease_even_without_a_server() {
    let held = World::bound(3600).held.unwrap();
    let now = s(1100);
    let (client, actions) = Client::resume(config(), held.clone(), true, now);
    let mut world = World::of(client, now);
    world.take(actions);
    assert_eq!((world.client.state(), world.held.as_ref()), (&State::Rebooting, Some(&held)));
    world.next(s(2000));
    world.next(s(2000));
    assert_eq!(world.client.state(), &State::Bound);
    assert_eq!(world.client.deadline(), Some(s(1000 + 1800)));
}

#[test]
fn an_expired_lease_or_one_from_another_boot_is_not_resumed() {
    let held = World::bound(3600).held.unwrap();
    for now in [s(1000 + 3600), s(999)] {
        let (client, actions) = Client::resume(config(), held.clone(), true, now);
        assert_eq!((actions, client.held()), (vec![], None));
    }
}

#[test]
fn without_a_carrier_nothing_is_sent() {
    let mut client = Client::new(config(), false, s(0));
    assert_eq!(client.deadline(), None);
    assert_eq!(client.step(s(50), Event::Timer), []);
    let actions = client.step(s(60), Event::Carrier(true));
    assert!(matches!(&actions[..], [Action::Send(_, To::Link)]));
    assert_eq!(client.searching_since(), Some(s(60)));
}

/// How a server's response differs from a valid one.
#[derive(Debug, Clone)]
enum Flaw {
    Xid,
    Mac,
    NotAReply,
    NoServer,
    Address(u32),
    Time(u32),
    Cut(usize),
    Garbage(Vec<u8>),
}

fn flaw() -> impl Strategy<Value = Flaw> {
    let bad_address = prop_oneof![
        Just(0u32),
        Just(u32::MAX),
        Just(0x7f00_0001),
        0xe000_0000u32..=u32::MAX,
        0u32..0x0100_0000,
    ];
    prop_oneof![
        Just(Flaw::Xid),
        Just(Flaw::Mac),
        Just(Flaw::NotAReply),
        Just(Flaw::NoServer),
        bad_address.prop_map(Flaw::Address),
        (0u32..lease::MIN_SECONDS).prop_map(Flaw::Time),
        (0usize..250).prop_map(Flaw::Cut),
        proptest::collection::vec(any::<u8>(), 0..400).prop_map(Flaw::Garbage),
    ]
}

fn spoil(mut packet: Packet, flaw: &Flaw) -> Vec<u8> {
    match flaw {
        Flaw::Xid => packet.xid ^= 1,
        Flaw::Mac => packet.chaddr[5] ^= 1,
        Flaw::NotAReply => packet.reply = false,
        Flaw::NoServer => drop(packet.options.remove(&code::SERVER)),
        Flaw::Address(address) => packet.yiaddr = Ipv4Addr::from_bits(*address),
        Flaw::Time(seconds) => packet = packet.with(code::LEASE_TIME, seconds.to_be_bytes()),
        Flaw::Cut(at) => {
            let mut bytes = packet.encode();
            bytes.truncate(*at);
            return bytes;
        }
        Flaw::Garbage(bytes) => return bytes.clone(),
    }
    packet.encode()
}

#[derive(Debug, Clone)]
enum Step {
    /// Time passes to the next deadline.
    Deadline,
    /// Some time passes, the timer is late or early.
    Pass(u64),
    Reply(Kind, bool, u32),
    Flawed(Kind, Flaw),
    Carrier(bool),
    /// The process is killed and continues with the saved lease.
    Restart,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Offer), Just(Kind::Ack), Just(Kind::Nak)]
}

fn step() -> impl Strategy<Value = Step> {
    let seconds = prop_oneof![Just(lease::FOREVER), Just(lease::FOREVER - 1), 0u32..100_000];
    prop_oneof![
        4 => Just(Step::Deadline),
        2 => (0u64..200_000).prop_map(Step::Pass),
        6 => (kind(), any::<bool>(), seconds).prop_map(|(k, o, t)| Step::Reply(k, o, t)),
        2 => (kind(), flaw()).prop_map(|(k, f)| Step::Flawed(k, f)),
        1 => any::<bool>().prop_map(Step::Carrier),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    /// `World` checks after every step that no lease is held beyond its end, that `Hold` and
    /// `Release` are consistent, that nothing due is missed and that messages conform to table 5.
    #[test]
    fn any_order_of_events_keeps_the_invariants(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new(s(5000));
        world.event(Event::Timer);
        let mut carrier = true;
        for step in steps {
            let before = world.sent.len();
            match step {
                Step::Deadline => {
                    if let Some(at) = world.client.deadline() {
                        world.now = at;
                        world.event(Event::Timer);
                    }
                }
                Step::Pass(seconds) => {
                    world.now += s(seconds);
                    world.event(Event::Timer);
                }
                Step::Reply(kind, other, seconds) => {
                    // Renewals are checked against SERVER, so only it grants leases.
                    let other = other && kind != Kind::Ack && kind != Kind::Offer;
                    world.reply(kind, if other { OTHER_SERVER } else { SERVER }, seconds);
                }
                Step::Flawed(kind, flaw) => {
                    let state = world.client.state().clone();
                    let bytes = spoil(answer(&world.last(), kind, SERVER, 3600), &flaw);
                    // A refusal has neither an address nor a time that could be wrong.
                    let harmless = kind == Kind::Nak
                        && matches!(flaw, Flaw::Address(_) | Flaw::Time(_));
                    if !harmless {
                        world.event(Event::Packet(&bytes));
                        prop_assert_eq!(world.client.state(), &state);
                        prop_assert_eq!(world.sent.len(), before);
                    }
                }
                Step::Carrier(new) => {
                    carrier = new;
                    world.event(Event::Carrier(new));
                }
                Step::Restart => {
                    let kept = world.held.take();
                    let (client, actions) = match kept {
                        Some(held) => Client::resume(config(), held, carrier, world.now),
                        None => (Client::new(config(), carrier, world.now), vec![]),
                    };
                    world.client = client;
                    world.take_started(actions);
                }
            }
            // An event causes at most the messages of a late timer and its own.
            prop_assert!(world.sent.len() - before <= 3);
        }
    }
}

impl World {
    /// Like `take`, for a client that has just started: its first timer may be due immediately.
    fn take_started(&mut self, actions: Vec<Action>) {
        for action in &actions {
            if let Action::Hold(held) = action {
                self.held = Some(held.clone());
            }
        }
        let sends = actions.into_iter().filter(|action| matches!(action, Action::Send(..)));
        let sends: Vec<Action> = sends.collect();
        if sends.is_empty() {
            self.event(Event::Timer);
        } else {
            self.take(sends);
        }
    }
}
