//! Untrusted input to the DHCP client: single packets, and a whole conversation.
#![no_main]

use fuzz::steer;
use libfuzzer_sys::fuzz_target;
use netsetup::dhcp::client::{Action, Client, Config, Event};
use netsetup::dhcp::frame;
use netsetup::dhcp::lease::{Lease, MIN_SECONDS};
use netsetup::dhcp::packet::{Packet, code};
use std::time::Duration;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fuzz_target!(|data: &[u8]| {
    let (kind, bytes) = steer(data);
    match kind % 3 {
        0 => one(bytes),
        1 => {
            let strict = frame::payload(bytes, true);
            let loose = frame::payload(bytes, false);
            assert!(strict.is_none() || strict == loose);
            assert!(loose.is_none_or(|payload| payload.len() + 28 <= bytes.len()));
        }
        _ => conversation(bytes),
    }
});

fn one(bytes: &[u8]) {
    let Ok(packet) = Packet::parse(bytes) else { return };
    let mut plain = packet.clone();
    // This option says that two other fields contain options, which `encode` never does.
    plain.options.remove(&code::OVERLOAD);
    assert_eq!(Packet::parse(&plain.encode()).as_ref(), Ok(&plain));
    if let Ok(lease) = Lease::read(&packet, None) {
        check(&lease);
    }
}

fn check(lease: &Lease) {
    assert!((1..=32).contains(&lease.prefix));
    assert!(lease.seconds >= MIN_SECONDS && lease.t1 <= lease.t2 && lease.t2 <= lease.seconds);
    assert!(lease.dns.len() <= 3 && lease.routes.len() <= 64);
    assert!(!lease.address.is_multicast() && !lease.address.is_loopback());
    for route in &lease.routes {
        let hosts = u32::MAX.checked_shr(u32::from(route.prefix)).unwrap_or(0);
        assert!(route.prefix <= 32 && route.to.to_bits() & hosts == 0, "{route:?}");
    }
    let resolv = netsetup::resolv::text(&[], lease.domain.as_deref());
    assert!(resolv.lines().count() <= 1 && resolv.is_ascii());
}

/// Messages, each with a length of two bytes. Some get the client's latest transaction id, because a
/// fuzzer cannot guess 32 bits.
fn conversation(mut bytes: &[u8]) {
    let config = Config { mac: MAC, hostname: "host".into(), seed: 7 };
    let mut now = Duration::from_secs(5);
    let mut client = Client::new(config, true, now);
    let mut xid = 0;
    for _ in 0..12 {
        let Some(([high, low], rest)) = bytes.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_be_bytes([*high & 3, *low])).min(rest.len());
        let (message, after) = rest.split_at(length);
        bytes = after;
        let deadline = client.deadline().unwrap_or(now);
        now = now.max(deadline.min(now + Duration::from_secs(3600)));
        let answer = Packet::parse(message).map(|packet| Packet { xid, chaddr: MAC, ..packet });
        let answer = answer.map(|packet| packet.encode());
        let event = match high >> 6 {
            0 => Event::Timer,
            1 => Event::Carrier(high & 4 == 0),
            2 => Event::Packet(answer.as_deref().unwrap_or(message)),
            _ => Event::Packet(message),
        };
        for event in [event, Event::Timer] {
            for action in client.step(now, event) {
                match action {
                    Action::Send(bytes, _) => {
                        let sent = Packet::parse(&bytes).expect("our own message");
                        assert!(!sent.reply);
                        xid = sent.xid;
                    }
                    Action::Hold(held) => check(&held.lease),
                    Action::Release(_) => assert!(client.held().is_none()),
                }
            }
        }
        assert!(client.held().is_none_or(|held| held.ends().is_none_or(|ends| ends > now)));
    }
}
