//! The network of units: published ports, names, outgoing connections, static addresses, and hosts with a
//! missing or silent network.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use ipc::Reply;
use qemu_tests::{Folder, Guest, Options};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

/// A server on this machine's loopback address, which guests reach as 10.0.2.2 through QEMU's network. It
/// answers each connection with one line.
fn outside_server() -> u16 {
    let bound = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
    let (port, listener) = match bound {
        Ok(bound) => bound,
        Err(error) => panic!("a port of this machine: {error}"),
    };
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0u8; 512];
            let _ = stream.read(&mut request);
            let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\nthe outside\n");
        }
    });
    port
}

/// A shell script that runs a list of commands and prints the result of each: `LABEL: ANSWER`.
fn questions(list: &[(&str, &str)]) -> String {
    let asks: Vec<String> = list
        .iter()
        .map(|(label, command)| format!("echo \"{label}: $({command} 2>&1 | tr '\\n' ' ')\""))
        .collect();
    format!("{}; echo asked", asks.join("; "))
}

/// A command that fetches a page. (wget's own timeout is not used: it crashes in busybox-static.)
fn fetch(url: &str) -> String {
    format!("busybox timeout 8 wget -q -O - http://{url}")
}

fn shell(extra: &str, script: &str) -> String {
    format!(
        "type = \"oneshot\"\n{extra}\n[container]\nimage = \"./images/busybox\"\n\
         command = [\"-c\", '''{script}''']\n"
    )
}

/// The answer for `label` in the output of a unit's script.
fn answer(guest: &Guest, unit: &str, label: &str) -> String {
    let lines = guest.logs(unit, 1000);
    let found = lines.iter().find_map(|line| line.text.strip_prefix(&format!("{label}: ")));
    match found {
        Some(text) => text.trim_end().to_owned(),
        None => guest.fail(&format!("{unit} says nothing about {label}: {lines:#?}")),
    }
}

/// The host's links with their indices, which change when a link is created again.
fn host_links(guest: &Guest) -> Vec<String> {
    let names: Vec<String> =
        guest.ask(&ipc::control::Request::List { path: "/sys/class/net".to_owned() });
    let number = |name| guest.read(&format!("/sys/class/net/{name}/ifindex"));
    names.iter().map(|name| format!("{name} {}", number(name))).collect()
}

#[test]
fn containers_publish_ports_and_connect() {
    let outside = outside_server();
    let inside = questions(&[
        ("by name", &fetch("web:8000/name")),
        ("by the host's address", &fetch("10.0.2.15:8080/")),
        ("by the bridge's address", &fetch("host.keel.internal:8080/")),
        ("published for loopback", &fetch("10.0.2.15:8081/")),
        (
            "through its own port",
            &format!("httpd -p 80 -h /etc && {}", fetch("10.0.2.15:8090/hostname")),
        ),
        ("outside", &fetch(&format!("10.0.2.2:{outside}/"))),
        ("resolv", "cat /etc/resolv.conf"),
        ("hosts", "cat /etc/hosts"),
        ("route", "ip route"),
        ("links", "ls /sys/class/net"),
    ]);
    let host = questions(&[
        ("published for loopback", &fetch("127.0.0.1:8081/")),
        ("a published port on loopback", &fetch("127.0.0.1:8080/")),
        ("unpublished on loopback", &fetch("127.0.0.1:8000/")),
        ("links", "ls /sys/class/net"),
    ]);
    let alone = questions(&[("outside", &fetch("10.0.2.2/")), ("links", "ls /sys/class/net")]);
    let after = "requires = [\"web\"]\nwait_for = [\"net.route\"]";
    let client = shell(after, &inside) + "ports = [\"8090:80\"]\n";
    let on_host = shell(after, &host) + "network = \"host\"\n";
    let alone = shell("", &alone) + "network = \"none\"\n";
    // Starts immediately, long before the DHCP answer, and keeps trying.
    let resolver = "[container]\nimage = \"./images/busybox\"\ncommand = [\"-c\", '''\
                    until grep nameserver /etc/resolv.conf; do sleep 1; done; \
                    echo found; exec sleep 100000''']\n";
    let folder = Folder::host(
        "hostname = \"net\"\n",
        &[
            (
                "web",
                "ready = \"healthy\"\n[container]\nimage = \"./images/probe\"\n\
                 command = [\"http\", \"8000\"]\nports = [\"8080:8000\", \"127.0.0.1:8081:8000\"]\n\
                 [healthcheck]\ntcp = \":8000\"\n",
            ),
            (
                "datagrams",
                "[container]\nimage = \"./images/probe\"\ncommand = [\"udp-echo\", \"7000\"]\n\
                 ports = [\"5300:7000/udp\"]\n",
            ),
            ("client", &client),
            ("on-host", &on_host),
            ("alone", &alone),
            ("resolver", resolver),
        ],
    );
    let options =
        Options { publish: vec![8080, 8081, 8000], publish_udp: vec![5300], ..Options::default() };
    let mut guest = Guest::up(folder.path(), &options);
    for unit in ["client", "on-host", "alone"] {
        guest.wait_log(unit, "asked");
        for line in guest.logs(unit, 100) {
            // Shown if the test fails.
            println!("{unit}: {}", line.text);
        }
    }

    // From this machine: the container sees the client's address (QEMU's gateway), not the host's.
    let body = guest.get(8080, "/from-outside").expect("the published port");
    assert_eq!(body, "GET /from-outside HTTP/1.1 from ::ffff:10.0.2.2\n");
    // Ports that are unpublished or published on the host's loopback do not answer from outside.
    for closed in [8081, 8000] {
        let answer = guest.get(closed, "/");
        assert!(answer.is_err(), "port {closed} answers from outside: {answer:?}");
    }
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a time-out");
    socket.connect(("127.0.0.1", guest.udp_port(5300))).expect("connect");
    guest.wait_for("a datagram to be returned", |_| {
        socket.send(b"there and back").ok()?;
        let mut buffer = [0u8; 100];
        let size = socket.recv(&mut buffer).ok()?;
        (buffer.get(..size) == Some(b"there and back")).then_some(())
    });

    // From one container to another.
    let says = |label| answer(&guest, "client", label);
    let own = guest.unit("client").address.expect("a bridged unit has an address");
    let web = guest.unit("web").address.expect("a bridged unit has an address");
    assert!(says("by name").ends_with(&format!("from ::ffff:{own}")), "{}", says("by name"));
    assert!(says("by the host's address").contains("GET / HTTP/1.1 from"));
    assert!(says("by the bridge's address").contains("GET / HTTP/1.1 from"));
    assert!(!says("published for loopback").contains("GET /"));
    assert_eq!(says("through its own port"), "client");
    assert_eq!(says("outside"), "the outside");
    assert_eq!(says("resolv"), "nameserver 10.0.2.3");
    assert!(says("hosts").contains(&format!("{web}\tweb")), "{}", says("hosts"));
    assert!(says("route").contains("default via 10.88.0.1 dev eth0"), "{}", says("route"));
    assert_eq!(says("links"), "eth0 lo");

    // With the host's network, and without a network.
    assert!(answer(&guest, "on-host", "published for loopback").contains("GET / HTTP/1.1"));
    assert!(answer(&guest, "on-host", "a published port on loopback").contains("GET / HTTP/1.1"));
    assert!(!answer(&guest, "on-host", "unpublished on loopback").contains("GET /"));
    let links = answer(&guest, "on-host", "links");
    assert!(links.contains("keel0") && links.contains("eth0"), "{links}");
    assert_eq!(answer(&guest, "alone", "links"), "lo");
    assert!(!answer(&guest, "alone", "outside").contains("the outside"));

    // Name servers that became known while the unit was running.
    guest.wait_log("resolver", "found");
    assert_eq!(guest.field("resolver", "generation"), "1");

    // A restart keeps the namespace and all its links.
    let before = host_links(&guest);
    let _: Reply = guest.ask(&ipc::control::Request::Restart { name: "web".to_owned() });
    guest.wait_for("the port to answer again", |guest| {
        (guest.field("web", "generation") == "2").then_some(())?;
        guest.get(8080, "/again").ok()
    });
    assert_eq!(guest.unit("web").address.as_deref(), Some(web.as_str()));
    assert_eq!(host_links(&guest), before);

    // netsetup is killed: ports and addresses are kept, and its successor takes over.
    let pid = guest.service_pid(ipc::Service::Netsetup);
    guest.signal_service(ipc::Service::Netsetup, libc::SIGKILL);
    guest.get(8080, "/").expect("the published port while netsetup is not running");
    guest.wait_for("netsetup to come back", |guest| {
        guest.service_pid(ipc::Service::Netsetup).filter(|now| Some(*now) != pid)
    });
    guest.wait_for("the state of the network", |guest| {
        guest.host().net.addresses.contains(&("eth0".into(), "10.0.2.15/24".into())).then_some(())
    });
    guest.get(8080, "/").expect("the published port with the new netsetup");
    assert_eq!(host_links(&guest), before);

    // Addresses depend only on the units' names.
    assert!(web.starts_with("10.88."), "{web}");
    assert!(guest.power_off().success());
}

#[test]
fn a_static_address_needs_no_dhcp_server() {
    let outside = outside_server();
    let script = questions(&[
        ("outside", &fetch(&format!("10.0.2.2:{outside}/"))),
        ("resolv", "cat /etc/resolv.conf"),
    ]);
    let client = shell("wait_for = [\"net.addr\", \"net.route\", \"dns\"]", &script);
    let folder = Folder::host(
        "hostname = \"fixed\"\n[network]\nbridge = \"172.30.5.1/24\"\ndns = [\"192.0.2.53\"]\n\
         [network.interface.eth0]\naddress = [\"10.0.2.15/24\", \"2001:db8::15/64\"]\n\
         gateway = \"10.0.2.2\"\nmtu = 1400\n",
        &[
            ("client", &client),
            (
                "web",
                "[container]\nimage = \"./images/probe\"\ncommand = [\"http\", \"80\"]\n\
                 ports = [\"80:80\"]\n",
            ),
        ],
    );
    let options = Options { publish: vec![80], ..Options::default() };
    let mut guest = Guest::up(folder.path(), &options);
    guest.wait_log("client", "asked");
    assert_eq!(answer(&guest, "client", "outside"), "the outside");
    assert_eq!(answer(&guest, "client", "resolv"), "nameserver 192.0.2.53");
    let net = guest.host().net;
    let address = |text: &str| ("eth0".to_owned(), text.to_owned());
    assert_eq!(net.addresses, [address("10.0.2.15/24"), address("2001:db8::15/64")]);
    assert_eq!(net.gateway.map(|gateway| gateway.to_string()).as_deref(), Some("10.0.2.2"));
    assert_eq!(net.waiting, [""; 0]);
    assert_eq!(guest.read("/sys/class/net/eth0/mtu").trim(), "1400");
    // No lease was requested.
    let files: Vec<String> =
        guest.ask(&ipc::control::Request::List { path: "/run/keel/net".to_owned() });
    assert_eq!(files, ["resolv.conf"]);
    let web = guest.unit("web").address.expect("an address");
    assert!(web.starts_with("172.30.5."), "{web}");
    guest.get(80, "/").expect("the published port");
    assert!(guest.power_off().success());
}

/// A unit without network, a bridged one, and one that waits for an address.
fn without_a_net() -> Folder {
    let quiet = "[container]\nimage = \"./images/probe\"\ncommand = [\"wait\"]\n";
    Folder::host(
        "hostname = \"remote\"\n",
        &[
            ("alone", &format!("{quiet}network = \"none\"\n")),
            ("bridged", quiet),
            ("needs-net", &format!("wait_for = [\"net.addr\"]\n{quiet}")),
        ],
    )
}

#[test]
fn a_missing_network_card_delays_only_units_that_need_it() {
    let folder = without_a_net();
    let mut guest = Guest::up(folder.path(), &Options { nic: "none", ..Options::default() });
    guest.wait_state("alone", "running");
    guest.wait_state("bridged", "running");
    assert_eq!(guest.field("needs-net", "state"), "waiting");
    let why = guest.explain("needs-net").join("\n");
    assert!(why.contains("net.addr") && why.contains("no Ethernet interface found"), "{why}");
    guest.wait_console("no Ethernet interface found");
    assert!(guest.power_off().success());
}

#[test]
fn a_silent_dhcp_server_delays_only_units_that_need_it() {
    let folder = without_a_net();
    let mut guest = Guest::up(folder.path(), &Options { nic: "silent", ..Options::default() });
    guest.wait_state("alone", "running");
    guest.wait_state("bridged", "running");
    assert_eq!(guest.field("needs-net", "state"), "waiting");
    guest.wait_console("eth0: no answer to DHCP");
    let why = guest.explain("needs-net").join("\n");
    assert!(why.contains("net.addr") && why.contains("eth0: no answer to DHCP"), "{why}");
    assert!(guest.power_off().success());
}
