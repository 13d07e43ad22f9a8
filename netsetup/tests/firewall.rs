//! The firewall, in network namespaces of the kernel that runs the tests: a neighbour on the
//! uplink, the host, and two containers.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::{BRIDGE, NET, Namespace, tcp, udp};
use ipc::{NetRequest, PublishedPort};
use netsetup::attach::{self, Place};
use netsetup::bridge;
use netsetup::firewall::Firewall;
use netsetup::links;
use netsetup::netlink::Batch;

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const WEB: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
const DB: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 3);

struct World {
    neighbour: Namespace,
    host: Namespace,
    web: Namespace,
    db: Namespace,
    firewall: Firewall,
}

fn port(host_address: Option<Ipv4Addr>, host: u16, container: u16, udp: bool) -> PublishedPort {
    PublishedPort { host_address, host, container, udp }
}

fn unit(name: &str, address: Ipv4Addr, ports: Vec<PublishedPort>) -> NetRequest {
    NetRequest { unit: name.into(), address, ports }
}

fn published() -> Vec<NetRequest> {
    let web = vec![
        port(None, 8080, 80, false),
        port(Some(LOOPBACK), 9090, 80, false),
        port(None, 5353, 53, true),
    ];
    vec![unit("web", WEB, web), unit("db", DB, vec![port(None, 5432, 5432, false)])]
}

impl World {
    fn new() -> World {
        let [neighbour, host, web, db] = std::array::from_fn(|_| Namespace::new());
        host.sh("ip link set lo up; ip link add up0 type veth peer name n0");
        // The namespaces have no names, so the other end is moved by a process inside.
        neighbour.run(|| {
            let pid = nix::unistd::gettid();
            host.sh(&format!("ip link set n0 netns {pid}"));
        });
        host.sh(&format!("ip addr add {HOST}/24 dev up0; ip link set up0 up"));
        neighbour.sh(&format!(
            "ip link set lo up; ip addr add {NEIGHBOUR}/24 dev n0; ip link set n0 up"
        ));
        // A hostile neighbour: it routes everything to the host.
        neighbour.sh(&format!("ip route add default via {HOST}"));
        let mut netlink = host.netlink();
        let bridge = bridge::ensure(&mut netlink, BRIDGE, NET).unwrap();
        for (unit, address, inside) in [("web", WEB, &web), ("db", DB, &db)] {
            let place = Place { unit, address, bridge, namespace: inside.fd() };
            attach::attach(&mut netlink, &mut inside.netlink(), &place).unwrap();
        }
        let mut world = World { neighbour, host, web, db, firewall: Firewall::new(BRIDGE, NET) };
        world.publish(published());
        world
    }

    fn publish(&mut self, units: Vec<NetRequest>) {
        let World { host, firewall, .. } = self;
        firewall.want(units);
        let failure = host.run(|| firewall.turn(Duration::ZERO));
        assert!(failure.is_none(), "{failure:?}");
        assert_eq!(firewall.deadline(), None, "installed at the first attempt");
    }
}

#[test]
fn a_published_port_can_be_reached_from_everywhere() {
    let world = World::new();
    let World { neighbour, host, web, db, .. } = &world;
    // From outside, with the neighbour's own address.
    assert_eq!(tcp(neighbour, web, 80, (HOST, 8080)), Some(NEIGHBOUR.into()));
    assert_eq!(udp(neighbour, web, 53, (HOST, 5353)), Some(NEIGHBOUR.into()));
    // From the host, by any of its addresses.
    assert_eq!(tcp(host, web, 80, (HOST, 8080)), Some(HOST.into()));
    assert_eq!(tcp(host, web, 80, (NET.addr, 8080)), Some(NET.addr.into()));
    assert_eq!(tcp(host, web, 80, (LOOPBACK, 8080)), Some(NET.addr.into()));
    assert_eq!(udp(host, web, 53, (LOOPBACK, 5353)), Some(NET.addr.into()));
    // From another container, and from the very same one.
    assert_eq!(tcp(db, web, 80, (HOST, 8080)), Some(NET.addr.into()));
    assert_eq!(tcp(web, web, 80, (HOST, 8080)), Some(NET.addr.into()));
    assert_eq!(tcp(web, web, 80, (NET.addr, 8080)), Some(NET.addr.into()));
}

#[test]
fn containers_reach_each_other_and_the_outside_as_the_host() {
    let World { neighbour, web, db, .. } = &World::new();
    assert_eq!(tcp(web, db, 7000, (DB, 7000)), Some(WEB.into()));
    let seen: Option<IpAddr> = tcp(web, neighbour, 7000, (NEIGHBOUR, 7000));
    assert_eq!(seen, Some(HOST.into()));
    assert_eq!(udp(web, neighbour, 7000, (NEIGHBOUR, 7000)), Some(HOST.into()));
}

#[test]
fn only_published_ports_can_be_reached_from_outside() {
    let World { neighbour, web, .. } = &World::new();
    assert_eq!(tcp(neighbour, web, 80, (WEB, 80)), None, "by its own address");
    assert_eq!(tcp(neighbour, web, 81, (HOST, 81)), None, "by a port that is not published");
}

#[test]
fn a_port_published_on_loopback_can_be_reached_only_there() {
    let World { neighbour, host, web, db, .. } = &World::new();
    assert_eq!(tcp(host, web, 80, (LOOPBACK, 9090)), Some(NET.addr.into()));
    assert_eq!(tcp(host, web, 80, (HOST, 9090)), None);
    assert_eq!(tcp(neighbour, web, 80, (HOST, 9090)), None);
    assert_eq!(tcp(db, web, 80, (HOST, 9090)), None);
}

/// CVE-2020-8558: with `route_localnet`, packets from the network to 127.0.0.1 would be delivered.
#[test]
fn packets_to_127_0_0_1_from_outside_the_host_are_dropped() {
    let World { neighbour, host, web, db, .. } = &World::new();
    for (attacker, link, gateway) in [(neighbour, "n0", HOST), (db, "eth0", NET.addr)] {
        // Configure the attacker's kernel to send 127.0.0.0/8 to the network and to accept replies.
        attacker.sh(&format!(
            "echo 1 > /proc/sys/net/ipv4/conf/{link}/route_localnet
             ip route add 127.0.0.0/8 via {gateway} dev {link} table 99
             ip rule add pref 1 lookup 99; ip rule add pref 2 lookup local; ip rule del pref 0"
        ));
        assert_eq!(tcp(attacker, host, 6000, (LOOPBACK, 6000)), None, "a service of the host");
        assert_eq!(tcp(attacker, web, 80, (LOOPBACK, 9090)), None, "a port published on loopback");
    }
}

#[test]
fn removed_ports_are_closed_and_the_others_stay() {
    let mut world = World::new();
    world.publish(vec![unit("db", DB, vec![port(None, 5432, 5432, false)])]);
    assert_eq!(tcp(&world.neighbour, &world.web, 80, (HOST, 8080)), None);
    assert!(tcp(&world.neighbour, &world.db, 5432, (HOST, 5432)).is_some());
    // A restarted process replaces the old rules as well.
    world.firewall = Firewall::new(BRIDGE, NET);
    world.publish(published());
    assert!(tcp(&world.neighbour, &world.web, 80, (HOST, 8080)).is_some());
}

#[test]
fn the_kernel_lists_the_rules_as_intended() {
    let World { host, .. } = &World::new();
    let listed = host.sh("nft list ruleset");
    let expected = r#"table ip keel {
	chain guard {
		type filter hook prerouting priority raw; policy accept;
		iifname != "lo" ip daddr 127.0.0.0/8 drop
	}

	chain publish {
		type nat hook prerouting priority dstnat; policy accept;
		tcp dport 8080 fib daddr type local dnat to 10.88.0.2:80
		tcp dport 9090 ip daddr 127.0.0.1 fib daddr type local dnat to 10.88.0.2:80
		udp dport 5353 fib daddr type local dnat to 10.88.0.2:53
		tcp dport 5432 fib daddr type local dnat to 10.88.0.3:5432
	}

	chain publish-local {
		type nat hook output priority -100; policy accept;
		tcp dport 8080 fib daddr type local dnat to 10.88.0.2:80
		tcp dport 9090 ip daddr 127.0.0.1 fib daddr type local dnat to 10.88.0.2:80
		udp dport 5353 fib daddr type local dnat to 10.88.0.2:53
		tcp dport 5432 fib daddr type local dnat to 10.88.0.3:5432
	}

	chain masquerade {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.88.0.0/16 oifname != "keel0" masquerade
		ip saddr 10.88.0.0/16 oifname "keel0" ct status dnat masquerade
		ip saddr 127.0.0.0/8 oifname "keel0" masquerade
	}

	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname "keel0" accept
		oifname "keel0" ct status dnat accept
	}
}
"#;
    assert_eq!(listed, expected);
}

/// 600 ports need about 500 KiB of rules in one message; the kernel's default limit is 208 KiB.
#[test]
fn six_hundred_ports_can_be_published() {
    let mut world = World::new();
    let many = |first: u16| (0..300).map(|n| port(None, first + n, 80, false)).collect();
    world.publish(vec![unit("web", WEB, many(20_000)), unit("db", DB, many(30_000))]);
    let World { neighbour, host, web, db, .. } = &world;
    assert_eq!(tcp(neighbour, web, 80, (HOST, 20_000)), Some(NEIGHBOUR.into()));
    assert_eq!(tcp(neighbour, db, 80, (HOST, 30_299)), Some(NEIGHBOUR.into()));
    assert_eq!(tcp(neighbour, db, 80, (HOST, 30_300)), None);
    assert_eq!(host.sh("nft list chain ip keel publish | grep -c dport").trim(), "600");
}

/// Each refused request has a response, and 4,000 responses do not fit in the socket's queue.
#[test]
fn if_refusals_overflow_the_queue_the_first_is_reported() {
    let host = Namespace::new();
    let mut netlink = host.netlink();
    let mut batch = Batch::new();
    for n in 0..4000 {
        links::delete(&mut batch, &format!("none{n}"));
    }
    let error = netlink.run(batch, |_, _| {}).unwrap_err();
    assert_eq!(error.to_string(), "delete none0: No such device");
    // The socket still works.
    assert!(links::list(&mut netlink).unwrap().iter().any(|link| link.name == "lo"));
}
