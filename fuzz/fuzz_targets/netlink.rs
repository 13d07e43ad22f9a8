//! Messages from the kernel: netlink and device events.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netsetup::links::Link;
use netsetup::netlink::{messages, outcome};
use netsetup::{addresses, routes};

fuzz_target!(|data: &[u8]| {
    let mut bytes = 0;
    for message in messages(data) {
        bytes += 16 + message.body.len();
        let _ = outcome(&message);
        let _ = Link::parse(message.body);
        if let Some(assigned) = addresses::parse(message.body) {
            let _ = routes::network(assigned.net);
        }
        if let Some(route) = routes::parse(message.body) {
            let _ = (routes::network(route.to), route.describe());
        }
    }
    assert!(bytes <= data.len());
    let event = init::devices::uevents::parse(data);
    assert!(event.action.len() + event.subsystem.len() <= data.len());
});
