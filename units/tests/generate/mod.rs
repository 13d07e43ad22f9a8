//! Random units, and how they are written as TOML.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;
use units::model::*;
use units::scalar::{format_duration, format_size};

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', ""))
}

fn millis(from: u64, to: u64) -> impl Strategy<Value = Duration> {
    (from..to).prop_map(Duration::from_millis)
}

fn timeout() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of(millis(1, 10_000_000))
}

fn restart(kind: Kind) -> impl Strategy<Value = Restart> {
    let policies = match kind {
        Kind::Service => {
            vec![RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never]
        }
        Kind::Oneshot => vec![RestartPolicy::OnFailure, RestartPolicy::Never],
    };
    let delays = (millis(10, 10_000), millis(0, 100_000), prop::option::of(1u32..100));
    (prop::sample::select(policies), delays, timeout()).prop_map(
        |(policy, (delay, more, max_attempts), window)| Restart {
            policy,
            delay,
            max_delay: delay + more,
            max_attempts,
            window,
        },
    )
}

fn path() -> impl Strategy<Value = String> {
    "(/[a-z0-9._-]{0,6}[a-z]){1,3}"
}

/// Ports, volumes and the like include their index in the list, so that there are no duplicates.
fn container() -> impl Strategy<Value = Container> {
    let words = || prop::option::of(prop::collection::vec(text(), 0..3));
    let sources = prop_oneof![
        "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,8}".prop_map(VolumeSource::Named),
        path().prop_map(VolumeSource::HostPath),
    ];
    let process = (
        words(),
        words(),
        prop::collection::btree_map("[^=\0]{1,8}", text(), 0..3),
        prop::option::of("([a-z_][a-z0-9_.-]{0,8}|[0-9]{1,9})(:([a-z]{1,8}|[0-9]{1,9}))?"),
        prop::option::of(path()),
        prop::option::of("[a-z0-9]{1,9}(\\.[a-z0-9]{1,9})?"),
    );
    let mounts = (
        prop::collection::vec((sources, any::<bool>()), 0..3),
        prop::collection::vec((prop::option::of(1u64..1 << 40), 0u32..=0o7777), 0..3),
    );
    let ports =
        prop::collection::vec((prop::option::of(1u32..u32::MAX), 1u16.., any::<bool>()), 0..3);
    let caps = |from: &'static [&'static str]| prop::sample::subsequence(from, 0..=from.len());
    let rest = (
        any::<bool>(),
        any::<bool>(),
        prop::collection::btree_map("(net|fs\\.mqueue)\\.[a-z]{1,8}", "[0-9]{1,5}", 0..2),
        (
            caps(&["NET_ADMIN", "SYS_TIME"]),
            caps(&["/proc/acpi", "/proc/keys", "/proc/sys", "/sys/firmware"]),
        ),
        caps(&["ALL", "CHOWN", "KILL"]),
        prop::collection::vec("(/[a-z]{1,6}){1,2}", 0..2),
        prop_oneof![
            Just(Seccomp::Default),
            Just(Seccomp::Unconfined),
            "\\./[a-z]{1,8}(/[a-z]{1,4}\\.json)?".prop_map(Seccomp::Profile),
        ],
    );
    let network =
        prop::sample::select(vec![NetworkMode::Bridge, NetworkMode::Host, NetworkMode::None]);
    ("\\./[a-z]{1,8}(\\.tar)?", process, mounts, ports, rest, network).prop_map(
        |(
            image,
            process,
            (volumes, tmpfs),
            ports,
            (read_only, own, sysctls, (cap_add, unmask), cap_drop, devices, seccomp),
            network,
        )| {
            let (entrypoint, command, environment, user, working_dir, hostname) = process;
            let strings = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
            let volumes = volumes.into_iter().enumerate().map(|(n, (source, read_only))| Volume {
                source,
                target: format!("/v{n}"),
                read_only,
            });
            let tmpfs = tmpfs.into_iter().enumerate().map(|(n, (size, mode))| Tmpfs {
                target: format!("/t{n}"),
                size,
                mode,
            });
            let ports = ports.into_iter().enumerate().map(|(n, (address, container, udp))| Port {
                address: address.map(Ipv4Addr::from),
                host: 1000 + n as u16,
                container,
                protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
            });
            let ports = ports.filter(|_| network == NetworkMode::Bridge).collect();
            let devices = devices.into_iter().enumerate().map(|(n, path)| Device {
                source: format!("/dev{path}"),
                target: format!("/dev/d{n}"),
            });
            let id = |id: &str| id.parse::<u32>().unwrap_or(0);
            let far = user.iter().any(|user| user.split(':').any(|part| id(part) > 65_535));
            Container {
                image,
                entrypoint,
                command,
                environment,
                user,
                working_dir,
                hostname,
                volumes: volumes.collect(),
                tmpfs: tmpfs.collect(),
                ports,
                network,
                read_only,
                cap_add: strings(cap_add),
                cap_drop: strings(cap_drop),
                userns: if own && !far { UserNamespace::Auto } else { UserNamespace::Host },
                no_new_privileges: own,
                sysctls: if network == NetworkMode::Host { BTreeMap::new() } else { sysctls },
                unmask: strings(unmask),
                devices: devices.collect(),
                seccomp,
            }
        },
    )
}

fn healthcheck() -> impl Strategy<Value = Healthcheck> {
    let program = "[a-z/]{1,9}".prop_filter("compose syntax", |word| word != "CMD");
    let probe = prop_oneof![
        (1u16.., "/[!-~]{0,12}").prop_map(|(port, path)| Probe::Http { port, path }),
        (1u16..).prop_map(|port| Probe::Tcp { port }),
        (program, text()).prop_map(|(program, arg)| Probe::Command(vec![program, arg])),
    ];
    (probe, millis(100, 100_000), millis(10, 100_000), 1u32..=1000, millis(0, 100_000)).prop_map(
        |(probe, interval, timeout, retries, start_period)| Healthcheck {
            probe,
            interval,
            timeout,
            retries,
            start_period,
        },
    )
}

fn links() -> impl Strategy<Value = Vec<String>> {
    prop::sample::subsequence(vec!["dep-a".to_owned(), "dep-b".to_owned()], 0..=2)
}

/// Any unit that a file can describe, with references to the units `dep-a` and `dep-b` only.
pub fn any_unit() -> impl Strategy<Value = Unit> {
    let kind = prop::sample::select(vec![Kind::Service, Kind::Oneshot]);
    let conditions = vec![
        Condition::NetAddr,
        Condition::NetRoute,
        Condition::Dns,
        Condition::Clock,
        Condition::Volume("data".to_owned()),
    ];
    let ready = prop::sample::select(vec![Ready::Started, Ready::Notify, Ready::Healthy]);
    let limits = (
        (
            prop::option::of(1u64 << 20..1 << 50),
            prop::option::of(1u64 << 20..1 << 50),
            prop::option::of(0u64..1 << 50),
        ),
        (prop::option::of(10u64..1_024_000), prop::option::of(1u64..=10_000)),
        (prop::option::of(4096u64..1 << 50), prop::option::of(4096u64..1 << 50)),
        prop::option::of(1u64..=1 << 22),
        prop::option::of(1u64..=1 << 20),
    );
    let failure =
        prop::sample::select(vec![OnFailure::Continue, OnFailure::Reboot, OnFailure::Poweroff]);
    kind.prop_flat_map(move |kind| {
        let top = (
            "u[a-z0-9-]{0,20}[a-z0-9]",
            text(),
            (links(), links(), links()),
            prop::sample::subsequence(conditions.clone(), 0..=5),
            (timeout(), timeout(), millis(0, 1_000_000)),
            (prop::option::of(1i32..=15), any::<bool>(), failure.clone()),
        );
        let log = (64u64 << 10..1 << 40, 1u32..=1000);
        let rest = (
            restart(kind),
            container(),
            prop::option::of(healthcheck()),
            ready.clone(),
            limits.clone(),
            log,
        );
        (top, rest).prop_map(move |(top, rest)| {
            let (name, description, (after, requires, wants), wait_for, timeouts, end) = top;
            let (restart, container, health, ready, limits, (max_size, max_files)) = rest;
            let service = kind == Kind::Service;
            let healthcheck = health.filter(|_| service);
            let unready = !service || (ready == Ready::Healthy && healthcheck.is_none());
            let ((memory, memory_high, swap), (cpu_millis, cpu_weight), io, pids, nofile) = limits;
            Unit {
                name,
                description,
                after,
                requires,
                wants,
                wait_for,
                wait_timeout: timeouts.0,
                kind,
                ready: if unready { Ready::Started } else { ready },
                start_timeout: timeouts.1,
                restart,
                stop_signal: end.0,
                stop_timeout: timeouts.2,
                on_failure: end.2,
                enabled: end.1,
                container,
                healthcheck,
                limits: Limits {
                    memory,
                    memory_high: memory_high.filter(|high| memory.is_none_or(|max| *high <= max)),
                    swap,
                    cpu_millis,
                    cpu_weight,
                    io_read: io.0,
                    io_write: io.1,
                    pids: pids.or(Some(2048)),
                    nofile,
                },
                log: LogPolicy { max_size, max_files },
            }
        })
    })
}

/// A TOML basic string.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => write!(out, "\\U{:08X}", u32::from(c)).unwrap(),
            c => out.push(c),
        }
    }
    out + "\""
}

fn list<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quote(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

fn span(duration: Option<Duration>) -> String {
    quote(&duration.map_or("never".to_owned(), format_duration))
}

/// The file of a unit.
pub fn write_unit(unit: &Unit) -> String {
    let mut lines = Vec::new();
    let mut set = |key: &str, value: String| lines.push(format!("{key} = {value}"));
    let word = |debug: String| quote(&debug.to_lowercase());
    let policy = |policy| match policy {
        RestartPolicy::Always => "\"always\"",
        RestartPolicy::OnFailure => "\"on-failure\"",
        RestartPolicy::Never => "\"never\"",
    };
    set("description", quote(&unit.description));
    set("after", list(&unit.after));
    set("requires", list(&unit.requires));
    set("wants", list(&unit.wants));
    let wait_for = unit.wait_for.iter().map(|condition| match condition {
        Condition::NetAddr => "net.addr".to_owned(),
        Condition::NetRoute => "net.route".to_owned(),
        Condition::Dns => "dns".to_owned(),
        Condition::Clock => "clock".to_owned(),
        Condition::Volume(name) => format!("volume:{name}"),
    });
    set("wait_for", list(wait_for));
    set("wait_timeout", span(unit.wait_timeout));
    set("type", word(format!("{:?}", unit.kind)));
    set("ready", word(format!("{:?}", unit.ready)));
    set("start_timeout", span(unit.start_timeout));
    set("restart.policy", policy(unit.restart.policy).to_owned());
    set("restart.delay", span(Some(unit.restart.delay)));
    set("restart.max_delay", span(Some(unit.restart.max_delay)));
    unit.restart.max_attempts.iter().for_each(|n| set("restart.max_attempts", n.to_string()));
    unit.restart.window.iter().for_each(|window| set("restart.window", span(Some(*window))));
    unit.stop_signal.iter().for_each(|signal| set("stop_signal", signal.to_string()));
    set("stop_timeout", span(Some(unit.stop_timeout)));
    set("on_failure", word(format!("{:?}", unit.on_failure)));
    set("enabled", unit.enabled.to_string());
    let container = &unit.container;
    set("container.image", quote(&container.image));
    container.entrypoint.iter().for_each(|words| set("container.entrypoint", list(words)));
    container.command.iter().for_each(|words| set("container.command", list(words)));
    for (name, value) in &container.environment {
        set(&format!("container.environment.{}", quote(name)), quote(value));
    }
    container.user.iter().for_each(|user| set("container.user", quote(user)));
    container.working_dir.iter().for_each(|path| set("container.working_dir", quote(path)));
    container.hostname.iter().for_each(|name| set("container.hostname", quote(name)));
    let volumes = container.volumes.iter().map(|volume| {
        let (VolumeSource::Named(source) | VolumeSource::HostPath(source)) = &volume.source;
        format!("{source}:{}{}", volume.target, if volume.read_only { ":ro" } else { "" })
    });
    set("container.volumes", list(volumes));
    let tmpfs = container.tmpfs.iter().map(|tmpfs| {
        let size = tmpfs.size.map_or(String::new(), |size| format!("size={},", format_size(size)));
        format!("{}:{size}mode={:o}", tmpfs.target, tmpfs.mode)
    });
    set("container.tmpfs", list(tmpfs));
    let ports = container.ports.iter().map(|port| {
        let address = port.address.map_or(String::new(), |address| format!("{address}:"));
        let protocol = if port.protocol == Protocol::Udp { "/udp" } else { "" };
        format!("{address}{}:{}{protocol}", port.host, port.container)
    });
    set("container.ports", list(ports));
    set("container.network", word(format!("{:?}", container.network)));
    set("container.read_only", container.read_only.to_string());
    set("container.cap_add", list(&container.cap_add));
    set("container.cap_drop", list(&container.cap_drop));
    set("container.unmask", list(&container.unmask));
    set("container.userns", word(format!("{:?}", container.userns)));
    set("container.no_new_privileges", container.no_new_privileges.to_string());
    for (name, value) in &container.sysctls {
        set(&format!("container.sysctls.{}", quote(name)), quote(value));
    }
    let devices =
        container.devices.iter().map(|device| format!("{}:{}", device.source, device.target));
    set("container.devices", list(devices));
    let seccomp = match &container.seccomp {
        Seccomp::Default => "default",
        Seccomp::Unconfined => "unconfined",
        Seccomp::Profile(path) => path,
    };
    set("container.seccomp", quote(seccomp));
    if let Some(health) = &unit.healthcheck {
        match &health.probe {
            Probe::Http { port, path } => set("healthcheck.http", quote(&format!(":{port}{path}"))),
            Probe::Tcp { port } => set("healthcheck.tcp", quote(&format!(":{port}"))),
            Probe::Command(words) => set("healthcheck.command", list(words)),
        }
        set("healthcheck.interval", span(Some(health.interval)));
        set("healthcheck.timeout", span(Some(health.timeout)));
        set("healthcheck.retries", health.retries.to_string());
        set("healthcheck.start_period", span(Some(health.start_period)));
    }
    let limits = &unit.limits;
    limits.memory.iter().for_each(|size| set("limits.memory", quote(&format_size(*size))));
    limits.memory_high.iter().for_each(|n| set("limits.memory_high", n.to_string()));
    limits.swap.iter().for_each(|n| set("limits.swap", n.to_string()));
    limits.cpu_weight.iter().for_each(|n| set("limits.cpu_weight", n.to_string()));
    limits.io_read.iter().for_each(|n| set("limits.io_read", n.to_string()));
    limits.io_write.iter().for_each(|n| set("limits.io_write", n.to_string()));
    limits.cpu_millis.iter().for_each(|n| set("limits.cpus", format!("{:.3}", *n as f64 / 1000.0)));
    limits.pids.iter().for_each(|n| set("limits.pids", n.to_string()));
    limits.nofile.iter().for_each(|n| set("limits.nofile", n.to_string()));
    set("log.max_size", unit.log.max_size.to_string());
    set("log.max_files", unit.log.max_files.to_string());
    lines.join("\n") + "\n"
}
