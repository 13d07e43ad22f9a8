//! The address of each bridged unit, which depends only on the unit's name (except for collisions).
//!
//! The address comes from a hash of the unit's name, so adding a unit does not change the addresses
//! of others. In the rare case that two names have the same hash, the alphabetically later one gets
//! the next free address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use units::model::Ipv4Net;

/// Addresses for all `names` inside the bridge's subnet: never the network address, the broadcast
/// address or the bridge's. If the subnet is full, the remaining names are missing from the result.
pub fn assign<'a>(
    bridge: Ipv4Net,
    names: impl Iterator<Item = &'a str>,
) -> BTreeMap<String, Ipv4Addr> {
    let bits = 32 - u32::from(bridge.prefix.min(32));
    let mask = u32::MAX.checked_shl(bits).unwrap_or(0);
    let network = bridge.addr.to_bits() & mask;
    let broadcast = network | !mask;
    let size = u64::from(broadcast - network) + 1;
    let mut taken = BTreeSet::from([network, broadcast, bridge.addr.to_bits()]);
    let names: BTreeSet<&str> = names.collect();
    let mut found = BTreeMap::new();
    for name in names {
        let start = units::hash::fnv1a(name.as_bytes()) % size;
        let free = (0..size)
            .map(|step| network + ((start + step) % size) as u32)
            .find(|address| !taken.contains(address));
        if let Some(address) = free {
            taken.insert(address);
            found.insert(name.to_owned(), Ipv4Addr::from_bits(address));
        }
    }
    found
}

/// `/etc/hosts` of every bridged container: loopback, itself, all other units by name.
pub fn hosts_file(own_name: &str, all: &BTreeMap<String, Ipv4Addr>, gateway: Ipv4Addr) -> String {
    let mut text =
        String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    text.push_str(&format!("{gateway}\thost.keel.internal\n"));
    for (name, address) in all {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    if !all.contains_key(own_name) {
        text.push_str(&format!("127.0.0.1\t{own_name}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn addresses_are_distinct_inside_and_stable(
            prefix in 8u8..=30,
            base in any::<u32>(),
            names in prop::collection::btree_set("[a-z]{1,8}", 0..40),
        ) {
            let bridge = Ipv4Net { addr: Ipv4Addr::from_bits(base), prefix };
            let found = assign(bridge, names.iter().map(String::as_str));
            let mask = u32::MAX << (32 - prefix);
            let distinct: BTreeSet<_> = found.values().collect();
            prop_assert_eq!(distinct.len(), found.len());
            let capacity = (1u64 << (32 - prefix)) - 3;
            prop_assert!(found.len() as u64 >= (names.len() as u64).min(capacity));
            for address in found.values() {
                prop_assert_eq!(address.to_bits() & mask, base & mask);
                prop_assert!(address.to_bits() & !mask != 0 && address.to_bits() | mask != u32::MAX);
                prop_assert!(address.to_bits() != base);
            }
            prop_assert_eq!(assign(bridge, names.iter().map(String::as_str)), found);
        }
    }

    #[test]
    fn a_new_unit_moves_no_other() {
        let bridge = Ipv4Net { addr: Ipv4Addr::new(10, 88, 0, 1), prefix: 16 };
        let before = assign(bridge, ["web", "db"].into_iter());
        let after = assign(bridge, ["web", "cache", "db"].into_iter());
        assert_eq!(before["web"], after["web"]);
        assert_eq!(before["db"], after["db"]);
    }
}
