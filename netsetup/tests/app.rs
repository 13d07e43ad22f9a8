//! The whole application on a thread, with dnsmasq as the DHCP server, in network namespaces.
//! Needs root and dnsmasq (Debian package dnsmasq-base).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use common::{BRIDGE, NET, Namespace, tcp};
use ipc::{Channel, FromNet, NetRequest, Network, PublishedPort, ToInit, ToNet};
use netsetup::app::{App, Settings};
use units::model::{Host, Interface, IpNet};

/// Time limit of each wait; nothing takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A temporary directory for the test, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("netsetup-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A DHCP server on the other end of the host's uplink.
struct Server {
    namespace: Namespace,
    process: Option<Child>,
    directory: Directory,
}

impl Server {
    /// Connects `eth0` of `host` to a namespace without a running server.
    fn wired_to(host: &Namespace) -> Server {
        let namespace = Namespace::new();
        host.sh("ip link set lo up; ip link add eth0 type veth peer name s0");
        namespace.run(|| host.sh(&format!("ip link set s0 netns {}", nix::unistd::gettid())));
        namespace.sh("ip link set lo up; ip addr add 10.9.0.1/24 dev s0; ip link set s0 up");
        Server { namespace, process: None, directory: Directory::new() }
    }

    fn start(&mut self, range: &str) {
        self.stop();
        let leases = self.directory.0.join("leases");
        let process = self.namespace.run(|| {
            Command::new("dnsmasq")
                .args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root"])
                .args(["--port=0", "--interface=s0", "--bind-interfaces", "--no-ping"])
                .args(["--dhcp-authoritative", "--pid-file=", "--log-facility=-"])
                .arg(format!("--dhcp-range={range},255.255.255.0,2m"))
                .args(["--dhcp-option=6,10.9.0.53", "--dhcp-option=15,example.org"])
                .arg("--dhcp-option-force=26,1400")
                .arg(format!("--dhcp-leasefile={}", leases.display()))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("dnsmasq, of the Debian package dnsmasq-base")
        });
        self.process = Some(process);
        let until = Instant::now() + PATIENCE;
        let ports = || std::fs::read_to_string("/proc/thread-self/net/udp").unwrap();
        while !self.namespace.run(ports).contains(":0043 ") {
            assert!(Instant::now() < until, "dnsmasq does not listen on port 67");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Added to the clock, so that tests need not wait for T1.
static SKEW: AtomicU64 = AtomicU64::new(0);

fn skewed() -> Duration {
    netsetup::since_boot() + Duration::from_secs(SKEW.load(Ordering::Relaxed))
}

/// The process on a thread in the host's namespace, and the other ends of its links.
struct Netsetup<'a> {
    stop: Sender<()>,
    thread: Option<std::thread::ScopedJoinHandle<'a, ()>>,
    supervisor: Channel,
    init: Channel,
    state: Network,
}

impl<'a> Netsetup<'a> {
    fn start<'e>(
        scope: &'a std::thread::Scope<'a, 'e>,
        host: &'a Namespace,
        directory: &Path,
        interfaces: BTreeMap<String, Interface>,
        now: fn() -> Duration,
    ) -> Netsetup<'a> {
        let (supervisor, theirs) = Channel::pair().unwrap();
        let (init, theirs_init) = Channel::pair().unwrap();
        let mut config = Host { hostname: "testhost".into(), ..Host::default() };
        config.network.bridge = NET;
        config.network.interfaces = interfaces;
        let settings =
            Settings { host: config, bridge: BRIDGE.into(), directory: directory.into() };
        let (stop, stopped): (Sender<()>, Receiver<()>) = channel();
        let thread = scope.spawn(move || {
            host.run(move || {
                common::keep_capabilities_of_netsetup();
                let mut app = App::start(settings, theirs, theirs_init, now).unwrap();
                while stopped.try_recv().is_err() {
                    app.turn(Some(Duration::from_millis(20))).unwrap();
                }
            });
        });
        let state = Network::default();
        Netsetup { stop, thread: Some(thread), supervisor, init, state }
    }

    /// Ends it as SIGKILL would: nothing is cleaned up, and the kernel keeps its configuration.
    fn kill(self) {}

    fn next(&mut self) -> FromNet {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(received) = self.supervisor.recv::<FromNet>().unwrap() {
                if let FromNet::State(state) = &received.message {
                    self.state = state.clone();
                }
                return received.message;
            }
            assert!(Instant::now() < until, "no message; last state {:?}", self.state);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn until_state(&mut self, what: impl Fn(&Network) -> bool) -> Network {
        while !what(&self.state) {
            self.next();
        }
        self.state.clone()
    }

    fn until_address(&mut self) -> String {
        let state = self.until_state(|state| !state.addresses.is_empty());
        state.addresses[0].1.clone()
    }
}

impl Drop for Netsetup<'_> {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        // A panic in the thread is propagated by the scope.
        let _ = self.thread.take().unwrap().join();
    }
}

fn dhcp() -> BTreeMap<String, Interface> {
    let interface = Interface { dhcp: true, address: vec![], gateway: vec![], mtu: None };
    BTreeMap::from([("eth0".into(), interface)])
}

#[test]
fn dhcp_gives_address_route_and_name_servers() {
    let (host, directory) = (Namespace::new(), Directory::new());
    let mut server = Server::wired_to(&host);
    server.start("10.9.0.50,10.9.0.59");
    std::thread::scope(|scope| {
        let mut net = Netsetup::start(scope, &host, &directory.0, dhcp(), netsetup::since_boot);
        assert_eq!(net.next(), FromNet::Hello);
        let address = net.until_address();
        assert!(address.starts_with("10.9.0.5") && address.ends_with("/24"), "{address}");
        assert_eq!(net.state.gateway, Some(Ipv4Addr::new(10, 9, 0, 1).into()));
        assert_eq!(net.state.waiting, [""; 0]);
        assert_eq!(net.init.recv::<ToInit>().unwrap().unwrap().message, ToInit::Ready);
        let listed = host.sh("ip -4 addr show dev eth0; ip route");
        assert!(listed.contains(&format!("inet {address} brd 10.9.0.255")), "{listed}");
        assert!(listed.contains("default via 10.9.0.1 dev eth0 proto dhcp"), "{listed}");
        assert!(!listed.contains("valid_lft forever"), "the kernel has the lifetime: {listed}");
        assert!(listed.contains("mtu 1400"), "{listed}");
        let expected = "search example.org\nnameserver 10.9.0.53\n";
        assert_eq!(directory.read("resolv.conf"), expected);
        let leases = server.directory.read("leases");
        assert!(leases.contains("testhost"), "the server has the host name: {leases}");
    });
}

/// Some servers send an MTU for jumbo frames to network cards that do not support them. (A veth
/// accepts 65535, the maximum that a server can send, so the test sets a larger one in host.toml.)
#[test]
fn an_unsupported_mtu_does_not_prevent_the_address() {
    let (host, directory) = (Namespace::new(), Directory::new());
    let mut server = Server::wired_to(&host);
    server.start("10.9.0.50,10.9.0.59");
    let mut interfaces = dhcp();
    interfaces.values_mut().for_each(|interface| interface.mtu = Some(70_000));
    std::thread::scope(|scope| {
        let mut net = Netsetup::start(scope, &host, &directory.0, interfaces, netsetup::since_boot);
        net.until_address();
        assert_eq!(net.state.waiting, [""; 0]);
        let listed = host.sh("ip -4 addr show dev eth0; ip route");
        assert!(listed.contains("mtu 1500") && listed.contains("inet 10.9.0.5"), "{listed}");
        assert!(listed.contains("default via 10.9.0.1"), "{listed}");
    });
}

#[test]
fn a_restarted_netsetup_continues_with_its_lease_and_the_address_stays() {
    let (host, directory) = (Namespace::new(), Directory::new());
    let mut server = Server::wired_to(&host);
    server.start("10.9.0.50,10.9.0.59");
    std::thread::scope(|scope| {
        let mut net = Netsetup::start(scope, &host, &directory.0, dhcp(), netsetup::since_boot);
        let address = net.until_address();
        net.kill();
        // Also without a server: the lease is still valid.
        server.stop();
        let watch = host.run(|| {
            Command::new("ip").args(["monitor", "address"]).stdout(Stdio::piped()).spawn().unwrap()
        });
        let mut net = Netsetup::start(scope, &host, &directory.0, dhcp(), netsetup::since_boot);
        assert_eq!(net.until_address(), address);
        net.kill();
        let mut watch = watch;
        watch.kill().unwrap();
        let seen = String::from_utf8(watch.wait_with_output().unwrap().stdout).unwrap();
        assert!(!seen.contains("Deleted"), "{seen}");
    });
}

#[test]
fn a_lease_is_renewed_and_a_refused_one_is_replaced() {
    let (host, directory) = (Namespace::new(), Directory::new());
    let mut server = Server::wired_to(&host);
    server.start("10.9.0.50,10.9.0.50");
    let expiry = |server: &Server| -> u64 {
        let leases = server.directory.read("leases");
        leases.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    std::thread::scope(|scope| {
        let mut net = Netsetup::start(scope, &host, &directory.0, dhcp(), skewed);
        assert_eq!(net.until_address(), "10.9.0.50/24");
        let first = expiry(&server);
        // The server counts whole seconds of the wall clock.
        std::thread::sleep(Duration::from_millis(1100));
        SKEW.fetch_add(61, Ordering::Relaxed);
        let until = Instant::now() + PATIENCE;
        while expiry(&server) == first {
            assert!(Instant::now() < until, "not renewed");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(net.state.addresses[0].1, "10.9.0.50/24");
        // The server changes to other addresses and refuses the old one at the next renewal.
        server.stop();
        std::fs::remove_file(server.directory.0.join("leases")).unwrap();
        server.start("10.9.0.70,10.9.0.70");
        SKEW.fetch_add(61, Ordering::Relaxed);
        net.until_state(|state| state.addresses.iter().any(|(_, net)| net == "10.9.0.70/24"));
        let listed = host.sh("ip -4 addr show dev eth0; ip route");
        assert!(!listed.contains("10.9.0.50"), "{listed}");
    });
}

#[test]
fn a_silent_server_and_a_missing_interface_are_reported_and_block_nothing() {
    let (host, directory) = (Namespace::new(), Directory::new());
    let mut server = Server::wired_to(&host);
    let mut interfaces = dhcp();
    let fixed = IpNet { addr: [192, 0, 2, 7].into(), prefix: 24 };
    interfaces.insert(
        "late0".into(),
        Interface {
            dhcp: false,
            address: vec![fixed],
            gateway: vec![[192, 0, 2, 1].into()],
            mtu: Some(1400),
        },
    );
    std::thread::scope(|scope| {
        let mut net = Netsetup::start(scope, &host, &directory.0, interfaces, netsetup::since_boot);
        assert_eq!(net.next(), FromNet::Hello);
        net.until_state(|state| {
            state.waiting
                == [
                    "eth0: requesting an address by DHCP",
                    "late0: network interface not found (declared in host.toml)",
                ]
        });
        // The interface appears later.
        host.sh("ip link add late0 type veth peer name far0; ip link set far0 up");
        let state = net.until_state(|state| !state.addresses.is_empty());
        assert_eq!(state.addresses, [("late0".to_string(), "192.0.2.7/24".to_string())]);
        assert_eq!(state.gateway, Some(Ipv4Addr::new(192, 0, 2, 1).into()));
        let listed = host.sh("ip addr show dev late0; ip route");
        assert!(listed.contains("mtu 1400") && listed.contains("192.0.2.7/24"), "{listed}");
        assert!(listed.contains("default via 192.0.2.1 dev late0 proto static"), "{listed}");
        // It is removed again.
        host.sh("ip link del late0");
        net.until_state(|state| state.addresses.is_empty());
        // The server is started between two attempts.
        server.start("10.9.0.50,10.9.0.59");
        net.until_state(|state| !state.addresses.is_empty());
    });
}

#[test]
fn a_unit_is_attached_and_published_through_messages() {
    let (host, directory, web) = (Namespace::new(), Directory::new(), Namespace::new());
    let address = Ipv4Addr::new(10, 88, 0, 2);
    let port = PublishedPort { host_address: None, host: 8080, container: 80, udp: false };
    let unit = NetRequest { unit: "web".into(), address, ports: vec![port] };
    host.sh("ip link set lo up");
    std::thread::scope(|scope| {
        // Twice: the second process finds everything configured.
        for _ in 0..2 {
            let mut net =
                Netsetup::start(scope, &host, &directory.0, BTreeMap::new(), netsetup::since_boot);
            assert_eq!(net.next(), FromNet::Hello);
            let (namespace, socket) = (web.dup(), web.socket());
            let attach = ToNet::Attach { unit: unit.clone(), request: 7 };
            net.supervisor.send(&attach, &[namespace.as_fd(), socket.as_fd()]).unwrap();
            net.supervisor.send(&attach, &[namespace.as_fd()]).unwrap();
            net.supervisor.send(&ToNet::Ports { units: vec![unit.clone()] }, &[]).unwrap();
            let mut answers = Vec::new();
            while answers.len() < 2 {
                match net.next() {
                    FromNet::State(state) => {
                        assert_eq!(state.waiting, ["no Ethernet interface found"]);
                    }
                    other => answers.push(other),
                }
            }
            // The first waits while modules are being loaded, the second is invalid.
            let failed = |answer: &FromNet| matches!(answer, FromNet::AttachFailed { .. });
            assert!(
                answers.contains(&FromNet::Attached { unit: "web".into(), request: 7 }),
                "{answers:?}"
            );
            assert!(answers.iter().any(failed), "{answers:?}");
            let until = Instant::now() + PATIENCE;
            while tcp(&host, &web, 80, (Ipv4Addr::LOCALHOST, 8080)).is_none() {
                assert!(Instant::now() < until, "not published");
            }
            // The firewall is installed first, then forwarding is enabled.
            while host.sh("cat /proc/sys/net/ipv4/ip_forward").trim() != "1" {
                assert!(Instant::now() < until, "no router");
            }
            net.kill();
        }
    });
}

/// The link outlives the supervisor, so netsetup does not notice its death; without the state a new
/// supervisor would never start units with `wait_for = ["net.addr"]`.
#[test]
fn a_new_supervisor_on_the_same_link_receives_the_unchanged_state() {
    let (host, directory) = (Namespace::new(), Directory::new());
    host.sh("ip link set lo up; ip link add eth0 type veth peer name s0; ip link set s0 up");
    let fixed = IpNet { addr: [192, 0, 2, 7].into(), prefix: 24 };
    let interface = Interface { dhcp: false, address: vec![fixed], gateway: vec![], mtu: None };
    let interfaces = BTreeMap::from([("eth0".into(), interface)]);
    std::thread::scope(|scope| {
        let mut net = Netsetup::start(scope, &host, &directory.0, interfaces, netsetup::since_boot);
        assert_eq!(net.until_address(), "192.0.2.7/24");
        // The first message of every supervisor; it does not know the state sent to the previous
        // one.
        for _ in 0..2 {
            net.state = Network::default();
            net.supervisor.send(&ToNet::Ports { units: vec![] }, &[]).unwrap();
            assert_eq!(net.until_address(), "192.0.2.7/24");
        }
    });
}
