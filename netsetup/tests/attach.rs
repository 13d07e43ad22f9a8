//! The bridge and attachments, in network namespaces of the kernel that runs the tests.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::Ipv4Addr;

use common::{BRIDGE, NET, Namespace, tcp};
use netsetup::attach::{self, Place};
use netsetup::bridge::{self, Bridge};
use netsetup::netlink::Netlink;
use netsetup::{addresses, links, routes};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const DB: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 3);

struct Host {
    namespace: Namespace,
    netlink: Netlink,
    bridge: Bridge,
}

impl Host {
    fn new() -> Host {
        let namespace = Namespace::new();
        let mut netlink = namespace.netlink();
        let bridge = bridge::ensure(&mut netlink, BRIDGE, NET).unwrap();
        namespace.sh("ip link set lo up");
        Host { namespace, netlink, bridge }
    }

    fn attach(&mut self, unit: &str, address: Ipv4Addr, inside: &Namespace) {
        let place = Place { unit, address, bridge: self.bridge, namespace: inside.fd() };
        attach::attach(&mut self.netlink, &mut inside.netlink(), &place).unwrap();
    }

    /// All links, addresses and routes of both sides, for comparison.
    fn snapshot(&mut self, inside: &Namespace) -> String {
        let of = |netlink: &mut Netlink| {
            let mut links = links::list(netlink).unwrap();
            for link in &mut links {
                // The carrier appears a moment later.
                link.flags = u32::from(link.up());
            }
            (links, addresses::list(netlink).unwrap(), routes::list(netlink).unwrap())
        };
        let keep = |(links, mut addresses, routes): (_, Vec<addresses::Assigned>, _)| {
            addresses.retain(|assigned| !assigned.link_local);
            format!("{links:#?}{addresses:#?}{routes:#?}")
        };
        keep(of(&mut self.netlink)) + &keep(of(&mut inside.netlink()))
    }
}

#[test]
fn an_attached_container_reaches_the_host_and_another_container() {
    let mut host = Host::new();
    let (web, db) = (Namespace::new(), Namespace::new());
    host.attach("web", WEB, &web);
    host.attach("db", DB, &db);
    assert_eq!(tcp(&web, &host.namespace, 80, (NET.addr, 80)), Some(WEB.into()));
    assert_eq!(tcp(&web, &db, 80, (DB, 80)), Some(WEB.into()));
    assert_eq!(tcp(&web, &web, 80, (Ipv4Addr::LOCALHOST, 80)), Some(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(tcp(&host.namespace, &db, 80, (DB, 80)), Some(NET.addr.into()));
    assert!(web.sh("ip route").contains("default via 10.88.0.1 dev eth0"));
}

#[test]
fn attaching_twice_changes_nothing() {
    let mut host = Host::new();
    let web = Namespace::new();
    host.attach("web", WEB, &web);
    let before = host.snapshot(&web);
    host.attach("web", WEB, &web);
    assert_eq!(host.snapshot(&web), before);
    bridge::ensure(&mut host.netlink, BRIDGE, NET).unwrap();
    assert_eq!(host.snapshot(&web), before);
}

#[test]
fn an_interrupted_attachment_is_completed() {
    let mut host = Host::new();
    let web = Namespace::new();
    host.attach("web", WEB, &web);
    let before = host.snapshot(&web);
    web.sh("ip addr flush dev eth0; ip link set eth0 down");
    host.namespace.sh("ip link set v-web nomaster down");
    host.attach("web", WEB, &web);
    assert_eq!(host.snapshot(&web), before);
    assert!(tcp(&web, &host.namespace, 80, (NET.addr, 80)).is_some());
}

#[test]
fn a_stale_pair_of_an_earlier_namespace_is_replaced() {
    let mut host = Host::new();
    let (old, new) = (Namespace::new(), Namespace::new());
    host.attach("web", WEB, &old);
    host.attach("web", WEB, &new);
    assert!(tcp(&new, &host.namespace, 80, (NET.addr, 80)).is_some());
    assert!(!old.try_sh("ip link show eth0").status.success());
    // The same with another address.
    host.attach("web", DB, &new);
    let addresses = new.sh("ip -4 -o addr show eth0");
    assert!(addresses.contains("10.88.0.3/16") && !addresses.contains("10.88.0.2/"));
    assert!(tcp(&new, &host.namespace, 80, (NET.addr, 80)).is_some());
}

#[test]
fn a_foreign_link_of_the_same_name_inside_is_a_clear_error() {
    let mut host = Host::new();
    let web = Namespace::new();
    web.sh("ip link add eth0 type bridge");
    let place = Place { unit: "web", address: WEB, bridge: host.bridge, namespace: web.fd() };
    let error = attach::attach(&mut host.netlink, &mut web.netlink(), &place).unwrap_err();
    assert!(error.to_string().starts_with("create the veth pair v-web: "), "{error}");
}

#[test]
fn a_long_unit_name_is_attached_too() {
    let mut host = Host::new();
    let inside = Namespace::new();
    host.attach("a-unit-with-quite-a-long-name", WEB, &inside);
    assert!(tcp(&inside, &host.namespace, 80, (NET.addr, 80)).is_some());
}

#[test]
fn the_kernels_message_is_in_the_error() {
    let mut host = Host::new();
    let mut batch = netsetup::netlink::Batch::new();
    let change = links::Change { mtu: Some(7), ..links::Change::default() };
    links::set(&mut batch, host.bridge.index, change, "set the MTU");
    let error = host.netlink.run(batch, |_, _| {}).unwrap_err().to_string();
    assert_eq!(error, "set the MTU: Invalid argument (mtu less than device minimum)");
}
