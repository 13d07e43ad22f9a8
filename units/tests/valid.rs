//! Valid folders: every key once, and every default once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use units::model::*;
use units::{Loaded, Severity, SourceFile, StartOrder, load, named_volumes, relaxed_settings};

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.to_owned(), text: text.to_owned() }
}

fn load_units(units: &[(&str, &str)]) -> Loaded {
    let units = units.iter().map(|(name, text)| file(&format!("units/{name}.toml"), text));
    load(Some(file("host.toml", "")), units.collect())
}

fn good(text: &str) -> Unit {
    let loaded = load_units(&[("web", text)]);
    assert_eq!(loaded.diagnostics, []);
    loaded.config.units["web"].clone()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn defaults() {
    let unit = good("container.image = './images/web'");
    let expected = Unit {
        name: "web".to_owned(),
        description: String::new(),
        after: vec![],
        requires: vec![],
        wants: vec![],
        wait_for: vec![],
        wait_timeout: Some(90 * SECOND),
        kind: Kind::Service,
        ready: Ready::Started,
        start_timeout: Some(90 * SECOND),
        restart: Restart {
            policy: RestartPolicy::Always,
            delay: Duration::from_millis(100),
            max_delay: 60 * SECOND,
            max_attempts: None,
            window: None,
        },
        stop_signal: None,
        stop_timeout: 10 * SECOND,
        on_failure: OnFailure::Continue,
        enabled: true,
        container: Container {
            image: "./images/web".to_owned(),
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            user: None,
            working_dir: None,
            hostname: None,
            volumes: vec![],
            tmpfs: vec![],
            ports: vec![],
            network: NetworkMode::Bridge,
            read_only: false,
            cap_add: vec![],
            cap_drop: vec![],
            userns: UserNamespace::Auto,
            no_new_privileges: true,
            sysctls: BTreeMap::new(),
            unmask: vec![],
            devices: vec![],
            seccomp: Seccomp::Default,
        },
        healthcheck: None,
        limits: Limits { pids: Some(2048), ..Limits::default() },
        log: LogPolicy { max_size: 10 << 20, max_files: 3 },
    };
    assert_eq!(unit, expected);
}

#[test]
fn defaults_of_oneshots() {
    let unit = good("type = 'oneshot'\ncontainer.image = './images/web'");
    assert_eq!(unit.start_timeout, None);
    assert_eq!(unit.restart.policy, RestartPolicy::Never);
}

#[test]
fn every_key() {
    let text = r#"
        description = "front end"
        after = []
        requires = []
        wants = []
        wait_for = ["net.addr", "net.route", "dns", "clock", "volume:data"]
        wait_timeout = "never"
        type = "service"
        ready = "healthy"
        start_timeout = "2m30s"
        restart = { policy = "on-failure", delay = "1s", max_delay = "1h", max_attempts = 5, window = "10m" }
        stop_signal = "SIGQUIT"
        stop_timeout = "0"
        on_failure = "reboot"
        enabled = false
        [container]
        image = "./images/web.tar"
        entrypoint = ["/bin/web"]
        command = ["--port", "80"]
        environment = { LEVEL = "info", EMPTY = "" }
        user = "1000:web"
        working_dir = "/srv//www/"
        hostname = "www.example"
        volumes = ["data:/var/lib/web", "/etc/ssl:/etc/ssl:ro"]
        tmpfs = ["/tmp:size=64M,mode=755", "/run"]
        ports = ["8080:80", "127.0.0.1:5353:53/udp", "0.0.0.0:443:443/tcp"]
        network = "bridge"
        read_only = true
        cap_add = ["CAP_NET_ADMIN", "net_raw"]
        cap_drop = ["ALL"]
        userns = "host"
        no_new_privileges = false
        sysctls = { "net.core.somaxconn" = "1024" }
        unmask = ["/proc/keys", "/proc/irq/"]
        devices = ["/dev/ttyS0", "/dev/net/tun:/dev/tun"]
        seccomp = "./profiles/web.json"
        [healthcheck]
        http = ":80/healthz"
        interval = "5s"
        timeout = "1s"
        retries = 2
        start_period = "10s"
        [limits]
        memory = "1.5G"
        cpus = 0.5
        pids = 128
        memory_high = "1G"
        swap = "64M"
        cpu_weight = 50
        io_read = "10M"
        io_write = "5M"
        nofile = 65536
        [log]
        max_size = 1_000_000
        max_files = 1
    "#;
    let unit = good(text);
    assert_eq!(
        unit.wait_for,
        [
            Condition::NetAddr,
            Condition::NetRoute,
            Condition::Dns,
            Condition::Clock,
            Condition::Volume("data".to_owned())
        ]
    );
    assert_eq!(unit.wait_timeout, None);
    assert_eq!(unit.start_timeout, Some(150 * SECOND));
    assert_eq!(
        unit.restart,
        Restart {
            policy: RestartPolicy::OnFailure,
            delay: SECOND,
            max_delay: 3600 * SECOND,
            max_attempts: Some(5),
            window: Some(600 * SECOND),
        }
    );
    assert_eq!(unit.stop_signal, Some(3));
    assert_eq!(unit.stop_timeout, Duration::ZERO);
    assert_eq!((unit.on_failure, unit.enabled), (OnFailure::Reboot, false));
    let container = &unit.container;
    assert_eq!(container.working_dir.as_deref(), Some("/srv/www"));
    assert_eq!(container.environment["LEVEL"], "info");
    assert_eq!(
        container.volumes,
        [
            Volume {
                source: VolumeSource::Named("data".to_owned()),
                target: "/var/lib/web".to_owned(),
                read_only: false
            },
            Volume {
                source: VolumeSource::HostPath("/etc/ssl".to_owned()),
                target: "/etc/ssl".to_owned(),
                read_only: true
            },
        ]
    );
    assert_eq!(
        container.tmpfs,
        [
            Tmpfs { target: "/tmp".to_owned(), size: Some(64 << 20), mode: 0o755 },
            Tmpfs { target: "/run".to_owned(), size: None, mode: 0o1777 },
        ]
    );
    let port = |address, host, container, protocol| Port { address, host, container, protocol };
    assert_eq!(
        container.ports,
        [
            port(None, 8080, 80, Protocol::Tcp),
            port(Some(Ipv4Addr::LOCALHOST), 5353, 53, Protocol::Udp),
            port(None, 443, 443, Protocol::Tcp),
        ]
    );
    assert_eq!(container.cap_add, ["NET_ADMIN", "NET_RAW"]);
    assert_eq!(container.devices[1].target, "/dev/tun");
    let health = unit.healthcheck.clone().unwrap();
    assert_eq!(health.probe, Probe::Http { port: 80, path: "/healthz".to_owned() });
    assert_eq!((health.interval, health.retries), (5 * SECOND, 2));
    assert_eq!(
        unit.limits,
        Limits {
            memory: Some(3 << 29),
            cpu_millis: Some(500),
            pids: Some(128),
            nofile: Some(65_536),
            memory_high: Some(1 << 30),
            swap: Some(64 << 20),
            cpu_weight: Some(50),
            io_read: Some(10 << 20),
            io_write: Some(5 << 20),
        }
    );
    assert_eq!(unit.log, LogPolicy { max_size: 1_000_000, max_files: 1 });
    assert_eq!(
        relaxed_settings(&unit),
        [
            "root inside is the host's root",
            "its programs may gain privileges",
            "reads the host's /etc/ssl",
            "has added capabilities: NET_ADMIN, NET_RAW",
            "sees and writes kernel files: /proc/irq, /proc/keys",
            "uses the host's device /dev/ttyS0",
            "uses the host's device /dev/net/tun",
            "uses its own seccomp profile ./profiles/web.json",
        ]
    );
}

#[test]
fn only_capabilities_outside_the_default_set_are_relaxed_settings() {
    let relaxed = |more: &str| {
        relaxed_settings(&good(&format!("[container]\nimage = \"./images/a\"\n{more}\n")))
    };
    assert_eq!(relaxed("cap_drop = [\"ALL\"]\ncap_add = [\"NET_BIND_SERVICE\"]"), [""; 0]);
    assert_eq!(relaxed("cap_add = [\"CHOWN\", \"NET_RAW\"]"), ["has added capabilities: NET_RAW"]);
    assert_eq!(relaxed("network = \"host\""), ["shares the host's network"]);
    assert_eq!(relaxed("volumes = [\"/srv:/srv\"]"), ["reads and writes the host's /srv"]);
}

#[test]
fn control_of_the_host_is_reported() {
    let relaxed = |more: &str| {
        let text = format!("[container]\nimage = \"./images/a\"\n{more}\n");
        let loaded = load_units(&[("a", text.as_str())]);
        assert!(loaded.diagnostics.iter().all(|d| d.severity == Severity::Warning));
        (loaded.diagnostics.len(), relaxed_settings(&loaded.config.units["a"]).join("; "))
    };
    let opened = "sees and writes kernel files: /proc/sys";
    assert_eq!(relaxed("unmask = [\"/proc/sys\"]"), (0, opened.to_owned()));
    let all = "root inside is the host's root; controls the host's kernel through its files; ";
    assert_eq!(
        relaxed("userns = \"host\"\nunmask = [\"/proc/sys\"]"),
        (1, format!("{all}{opened}"))
    );
    assert_eq!(
        relaxed("userns = \"host\"\nunmask = [\"all\"]"),
        (1, format!("{all}sees and writes all kernel files"))
    );
}

#[test]
fn tables_may_be_written_as_headers() {
    let unit = good(
        "[restart]\npolicy = 'never'\n[container]\nimage = './w'\n[container.environment]\nA = 'b'\n",
    );
    assert_eq!(unit.restart.policy, RestartPolicy::Never);
    assert_eq!(unit.container.environment["A"], "b");
}

#[test]
fn a_delay_above_the_default_bound_raises_it() {
    let unit = good("restart = { delay = '5m' }\ncontainer.image = './w'");
    assert_eq!(unit.restart.max_delay, 300 * SECOND);
}

#[test]
fn a_host() {
    let text = r#"
        hostname = "edge-1.example"
        [network]
        bridge = "172.31.0.1/24"
        dns = ["9.9.9.9", "2620:fe::fe"]
        [network.interface.eth0]
        address = ["10.0.0.2/24", "2001:db8::2/64"]
        gateway = ["10.0.0.1", "fe80::1"]
        mtu = 1400
        [network.interface.eth1]
        [storage]
        data = "required"
        [api.client.anna]
        key = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
        role = "admin"
        [api.client.monitoring]
        key = "SHA256:5uZ9wpUPPmdBh1yQmtsCNUVSKAvfTwxrWMwZyQYmmmI"
    "#;
    let loaded = load(Some(file("host.toml", text)), vec![]);
    assert_eq!(loaded.diagnostics, []);
    let host = loaded.config.host;
    assert_eq!(host.hostname, "edge-1.example");
    assert_eq!(host.network.bridge.prefix, 24);
    assert_eq!(host.network.dns.len(), 2);
    let eth0 = &host.network.interfaces["eth0"];
    assert!(!eth0.dhcp);
    assert_eq!(eth0.gateway[0], IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(eth0.mtu, Some(1400));
    assert!(host.network.interfaces["eth1"].dhcp);
    assert_eq!(host.storage.data, DataDisk::Required);
    assert_eq!(host.api.clients["anna"].role, Role::Admin);
    assert_eq!(host.api.clients["monitoring"].role, Role::Reader);
    assert_eq!(host.api.enabled, None);
}

#[test]
fn a_host_without_a_file_has_defaults_and_a_note() {
    let loaded = load(None, vec![]);
    assert_eq!(loaded.config.host.hostname, "keel");
    assert_eq!(loaded.diagnostics.len(), 1);
    assert_eq!(loaded.diagnostics[0].severity, Severity::Note);
    assert!(!loaded.has_errors());
}

const IMAGE: &str = "container.image = './w'\n";

#[test]
fn stages_of_the_start_order() {
    let with = |text: &str| format!("{text}\n{IMAGE}");
    let loaded = load_units(&[
        ("a", &with("after = ['b', 'c']")),
        ("b", &with("requires = ['d']")),
        ("c", IMAGE),
        ("d", IMAGE),
        ("e", &with("wants = ['a']")),
    ]);
    assert_eq!(loaded.diagnostics, []);
    let stages: Vec<Vec<&str>> =
        loaded.order.0.iter().map(|stage| stage.iter().map(String::as_str).collect()).collect();
    assert_eq!(stages, [vec!["c", "d", "e"], vec!["b"], vec!["a"]]);
}

#[test]
fn the_start_order_contains_units_in_a_cycle() {
    let mut units = BTreeMap::new();
    for (name, needs) in [("a", "b"), ("b", "a"), ("c", "a")] {
        let mut unit = good(IMAGE);
        unit.name = name.to_owned();
        unit.after = vec![needs.to_owned()];
        units.insert(name.to_owned(), unit);
    }
    assert_eq!(StartOrder::of(&units).0, [["a", "b", "c"]]);
}

#[test]
fn a_unit_with_errors_does_not_affect_the_others() {
    let loaded = load_units(&[
        ("bad", "restart = 'sometimes'\ncontainer.image = './w'"),
        ("good", IMAGE),
        ("needs-bad", "requires = ['bad']\ncontainer.image = './w'"),
        ("worse", "= = ="),
    ]);
    let names: Vec<&str> = loaded.config.units.keys().map(String::as_str).collect();
    assert_eq!(names, ["good", "needs-bad"]);
    assert_eq!(loaded.left_out.iter().collect::<Vec<_>>(), ["bad", "worse"]);
    assert_eq!(loaded.order.0, [["good", "needs-bad"]]);
    let note = loaded.diagnostics.iter().find(|found| found.severity == Severity::Note).unwrap();
    assert_eq!(note.message, "`needs-bad` cannot start: it requires `bad`, which has errors");
    let images: Vec<_> = units::image_references(&loaded).map(|image| &image.unit).collect();
    assert_eq!(images, ["bad", "good", "needs-bad"]);
    let with_profile = "container = { image = './w', seccomp = './p.json' }\nafter = ['ghost']";
    let loaded = load_units(&[("bad", with_profile)]);
    let found = loaded.profiles[0].diagnostic(Severity::Error, "not found");
    assert_eq!(found.to_string(), "units/bad.toml:1:40: error: not found");
}

#[test]
fn a_host_file_with_errors_keeps_its_valid_keys() {
    let text = "hostname = 'edge'\nnetwork.bridge = 'no'\nstorage.data = 'memory'";
    let loaded = load(Some(file("host.toml", text)), vec![]);
    assert!(loaded.has_errors());
    assert_eq!(loaded.config.host.hostname, "edge");
    assert_eq!(loaded.config.host.network.bridge.prefix, 16);
    assert_eq!(loaded.config.host.storage.data, DataDisk::Memory);
}

#[test]
fn of_two_units_with_the_same_port_the_first_still_runs() {
    let with = |port: &str| format!("[container]\nimage = './w'\nports = ['{port}']\n");
    let loaded = load_units(&[
        ("a", &with("80:80")),
        ("b", &with("127.0.0.1:80:80")),
        ("c", &with("80:80/udp")),
        ("d", &with("81:80")),
    ]);
    assert_eq!(loaded.left_out.iter().collect::<Vec<_>>(), ["b"]);
    // With the host's network nothing is published, so there is no conflict.
    let host = format!("{}network = 'host'\n", with("80:80"));
    let loaded = load_units(&[("a", &with("80:80")), ("b", &host)]);
    assert!(loaded.left_out.is_empty());
    // If one of two units is disabled, they may be alternatives.
    let off = format!("enabled = false\n{}", with("80:80"));
    let loaded = load_units(&[("a", &with("80:80")), ("b", &off)]);
    assert!(loaded.left_out.is_empty());
    assert_eq!(loaded.diagnostics[0].severity, Severity::Warning);
}

#[test]
fn units_within_the_limit_of_published_ports_still_run() {
    let text = |first: u32, count: u32| {
        let ports: Vec<String> = (0..count).map(|n| format!("'{}:80'", first + n)).collect();
        format!("[container]\nimage = './a'\nports = [{}]\n", ports.join(", "))
    };
    let (a, b, c) = (text(1000, 600), text(2000, 401), text(3000, 400));
    let host = "[container]\nimage = './a'\nports = ['5000:80']\nnetwork = 'host'\n";
    let loaded = load_units(&[("a", &a), ("b", &b), ("c", &c), ("d", host)]);
    assert_eq!(loaded.left_out.iter().collect::<Vec<_>>(), ["b"], "c fits without b");
    let error = loaded.diagnostics.iter().find(|found| found.is_error()).unwrap();
    assert_eq!(b.get(error.span.clone()), Some("'2400:80'"), "the first port above the limit");
    assert_eq!(error.message, "too many published ports: the limit is 1000 over all units");
}

#[test]
fn units_within_the_bridge_subnet_still_run() {
    let bridged = |name: &str| file(&format!("{name}.toml"), "[container]\nimage = './a'\n");
    let host = || Some(file("host.toml", "network.bridge = '10.1.0.1/29'"));
    let alone = file("alone.toml", "[container]\nimage = './a'\nnetwork = 'none'\n");
    let broken = file("bad.toml", "[container]\n");
    let mut units: Vec<SourceFile> = ["f", "e", "d", "c", "b"].map(bridged).into();
    units.extend([alone, broken]);
    let loaded = load(host(), units.clone());
    assert_eq!(
        loaded.left_out.iter().collect::<Vec<_>>(),
        ["bad"],
        "a /29 has addresses for five units"
    );
    units.push(bridged("a"));
    let loaded = load(host(), units);
    assert_eq!(loaded.left_out.iter().collect::<Vec<_>>(), ["bad", "f"]);
    let error = loaded.diagnostics.iter().find(|found| found.file == "f.toml").unwrap();
    assert_eq!(
        error.to_string(),
        "f.toml: error: no bridge address left for `f`: 10.1.0.1/29 has addresses for 5 units \
         (use a larger subnet in host.toml: `bridge = \"10.1.0.1/28\"` in `[network]`)"
    );
}

#[test]
fn volumes_and_their_users() {
    let with = |volumes: &str| format!("[container]\nimage = './w'\nvolumes = [{volumes}]\n");
    let loaded =
        load_units(&[("a", &with("'x:/x', 'x:/z', 'y:/y'")), ("b", &with("'x:/x', '/h:/h'"))]);
    let volumes = named_volumes(&loaded.config);
    assert_eq!(volumes["x"], ["a", "b"]);
    assert_eq!(volumes["y"], ["a"]);
    assert_eq!(volumes.len(), 2);
}

#[test]
fn an_image_diagnostic_points_at_the_image() {
    let loaded = load_units(&[("web", "\n[container]\nimage = './w'\n")]);
    let image = units::image_references(&loaded).next().unwrap();
    let found = image.diagnostic(Severity::Error, "image `./w` not found");
    assert_eq!(
        found.render("\n[container]\nimage = './w'\n", false),
        "error: image `./w` not found\n \
          --> units/web.toml:3:9\n  \
           |\n\
         3 | image = './w'\n  \
           |         ^^^^^\n"
    );
}

#[test]
fn cpus_in_thousandths() {
    for (written, millis) in
        [("0.5", 500), ("2", 2000), ("0.01", 10), ("+1.2345", 1235), ("1_0.5", 10_500)]
    {
        let unit = good(&format!("limits.cpus = {written}\ncontainer.image = './w'"));
        assert_eq!(unit.limits.cpu_millis, Some(millis), "{written}");
    }
}
