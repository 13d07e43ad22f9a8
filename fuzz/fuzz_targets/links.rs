//! The links between Keelhost's own processes. PID 1 receives messages from all of them, and must reject
//! every message that a process is not allowed to send.
#![no_main]

use fuzz::{reads_back, steer};
use init::exits::Exits;
use init::fdstore::FdStore;
use init::pid1::may_send;
use ipc::api::ToApi;
use ipc::{ExitStatus, FromInit, FromNet, NetRequest, Service, ToInit, ToNet};
use layout::images::Images;
use libfuzzer_sys::fuzz_target;
use netsetup::nft;
use policy::SavedState;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

fuzz_target!(|data: &[u8]| {
    let (kind, bytes) = steer(data);
    match kind % 7 {
        0 => drop(reads_back::<FromInit>(bytes)),
        1 => drop(reads_back::<FromNet>(bytes)),
        2 => {
            if let Some(ToNet::Ports { units }) = reads_back::<ToNet>(bytes) {
                publish(&units);
            }
        }
        3 => {
            // An event of an unknown kind is the one thing that is read and never written.
            if let Ok(message) = serde_json::from_slice::<ToApi>(bytes)
                && let Ok(written) = serde_json::to_vec(&message)
            {
                let again = serde_json::from_slice::<ToApi>(&written);
                assert_eq!(again.expect("what is written can be read"), message);
            }
        }
        4 => drop(reads_back::<Images>(bytes)),
        5 => {
            if let Ok(text) = std::str::from_utf8(bytes)
                && let Ok(saved) = SavedState::from_json(text)
            {
                let written = saved.to_json().expect("what was read can be written");
                let again = SavedState::from_json(&written).expect("what is written can be read");
                assert_eq!(again, saved);
            }
        }
        _ => init_hears(bytes),
    }
});

/// Each port becomes a rule, and each rule a netlink message.
fn publish(units: &[NetRequest]) {
    let bridge = units::model::Ipv4Net { addr: Ipv4Addr::new(172, 30, 0, 1), prefix: 24 };
    let chains = nft::chains("keel0", bridge, units);
    let rules: usize = chains.iter().map(|chain| chain.rules.len()).sum();
    let ports: usize = units.iter().map(|unit| unit.ports.len()).sum();
    assert!(rules >= ports);
    assert!(nft::transaction(&chains).len() >= rules + chains.len());
}

fn init_hears(bytes: &[u8]) {
    let mut store: FdStore<OwnedFd> = FdStore::default();
    let mut exits = Exits::default();
    let mut keys = BTreeSet::new();
    for pid in 1..=8 {
        exits.add(pid, ExitStatus::Code(0), 0);
    }
    // One message per line; the senders alternate.
    for (line, from) in bytes.split(|byte| *byte == b'\n').zip(Service::ALL.into_iter().cycle()) {
        let Some(message) = reads_back::<ToInit>(line) else { continue };
        let trusted = from == Service::Supervisor;
        if !may_send(from, &message) {
            assert!(!trusted || matches!(message, ToInit::DataDisk(_)));
            continue;
        }
        match message {
            ToInit::Store { key, holder } => {
                assert!(trusted);
                assert!(store.store(key.clone(), holder, Vec::new()).is_ok());
                keys.retain(|(known, _)| *known != key);
                keys.insert((key, holder));
            }
            ToInit::Drop { key } => {
                store.remove(&key, from);
                keys.retain(|(known, holder)| *known != key || !(trusted || *holder == from));
            }
            ToInit::AckExits { seq } => {
                exits.acknowledge(seq);
                assert!(exits.pending().all(|exit| exit.seq > seq));
            }
            _ => {}
        }
    }
    for service in Service::ALL {
        let kept: Vec<&String> = store.of(service).map(|(key, _)| key).collect();
        let wanted: Vec<&String> =
            keys.iter().filter(|(_, holder)| *holder == service).map(|(key, _)| key).collect();
        assert_eq!(kept, wanted);
    }
}
