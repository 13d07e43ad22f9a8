//! Invalid files, each with the key that the error must name.

use super::*;
use container::{DeviceAccess, DeviceRule, MountSource};
use proptest::prelude::*;
use serde_json::json;

fn base() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": { "path": "rootfs" },
        "process": { "args": ["sh"], "cwd": "/" },
        "linux": { "namespaces": [
            { "type": "pid" }, { "type": "mount" }, { "type": "uts" }, { "type": "ipc" },
            { "type": "cgroup" }, { "type": "network" }
        ] }
    })
}

fn parse(value: &Value) -> Result<Config, ConfigError> {
    Config::parse(value.to_string().as_bytes(), Path::new("/bundle"))
}

fn with(pointer: &str, value: Value) -> Value {
    let mut config = base();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let mut at = &mut config;
    for part in parent.split('/').skip(1) {
        at = &mut at[part];
    }
    match name.parse::<usize>() {
        Ok(number) => at[number] = value,
        Err(_) => at[name] = value,
    }
    config
}

#[test]
fn a_minimal_file() {
    let config = parse(&base()).unwrap();
    assert_eq!(config.root, Path::new("/bundle/rootfs"));
    assert_eq!(config.network, Network::New);
    assert_eq!(config.users, Users::Host);
    assert_eq!(config.program.process.user, "0:0");
    assert_eq!(config.program.process.groups, Some(vec![]));
    assert_eq!(config.program.process.caps, CapSet::EMPTY);
    assert_eq!(config.warnings, [] as [&str; 0]);
    assert_eq!(config.hostname, None);
}

#[test]
fn null_is_treated_as_absent() {
    let mut config = with("/linux/resources", json!({ "memory": null, "devices": null }));
    config["hooks"] = Value::Null;
    config["mounts"] = Value::Null;
    config["process"]["env"] = Value::Null;
    parse(&config).unwrap();
}

#[test]
fn errors_name_the_invalid_or_unsupported_key() {
    let two_pids = json!([{ "type": "pid" }, { "type": "pid" }]);
    let map = |inside: u32, size: u64| {
        json!({ "namespaces": base()["linux"]["namespaces"].as_array().unwrap().iter().cloned()
                .chain([json!({ "type": "user" })]).collect::<Vec<_>>(),
            "uidMappings": [{ "containerID": inside, "hostID": 1000, "size": size }],
            "gidMappings": [{ "containerID": 0, "hostID": 1000, "size": 5 }] })
    };
    let table: Vec<(&str, Value, &str)> = vec![
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!("1.0"), "ociVersion"),
        ("/ociVersion", Value::Null, "missing key `ociVersion`"),
        ("/domainname", json!("x"), "domainname"),
        ("/vm", json!({ "kernel": {} , "x": 1}), "vm"),
        ("/root", Value::Null, "missing key `root`"),
        ("/root/path", json!("../other"), "root.path: must not contain '..'"),
        ("/root/path", json!(""), "root.path"),
        ("/root/path", json!("a\0b"), "root.path: must not contain a NUL"),
        ("/process", Value::Null, "missing key `process`"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", Value::Null, "process: missing key `args`"),
        ("/process/args", json!(["a", 5]), "process.args[1]"),
        ("/process/args", json!(["a", "b\0"]), "process.args[1]"),
        ("/process/cwd", json!("tmp"), "process.cwd: must be an absolute"),
        ("/process/cwd", json!("/a/../b"), "process.cwd"),
        ("/process/env", json!(["A=1", "B"]), "process.env: entry 1, \"B\""),
        ("/process/env", json!(["=1"]), "process.env"),
        ("/process/user", json!({ "uid": -1 }), "process.user.uid"),
        ("/process/user", json!({ "uid": 4294967295u64 }), "process.user.uid"),
        ("/process/user", json!({ "gid": 4294967296u64 }), "process.user.gid"),
        ("/process/user", json!({ "uid": 1.5 }), "process.user.uid"),
        ("/process/user", json!({ "additionalGids": [1, -2] }), "process.user.additionalGids[1]"),
        ("/process/user", json!({ "umask": 512 }), "process.user.umask"),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_X", "soft": 1, "hard": 1 }]),
            "rlimits[0].type",
        ),
        ("/process/rlimits", json!([{ "type": "RLIMIT_AS", "soft": 2, "hard": 1 }]), "rlimits[0]"),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj"),
        ("/process/apparmorProfile", json!("x"), "process.apparmorProfile"),
        ("/process/selinuxLabel", json!("x"), "process.selinuxLabel"),
        ("/process/scheduler", json!({ "policy": "SCHED_OTHER" }), "process.scheduler"),
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE" }), "process.ioPriority"),
        ("/process/capabilities", json!({ "effective": ["CAP_KILL"] }), "process.capabilities"),
        ("/hostname", json!("x".repeat(65)), "hostname"),
        ("/hooks", json!({ "startContainer": [{ "path": "/x" }] }), "hooks.startContainer"),
        ("/hooks", json!({ "poststop": [{ "path": "x" }] }), "hooks.poststop[0].path"),
        ("/hooks", json!({ "prestart": [{ "path": "/x", "timeout": 0 }] }), "prestart[0].timeout"),
        ("/annotations", json!({ "a": 1 }), "annotations.a"),
        ("/linux", Value::Null, "missing key `linux`"),
        ("/linux/namespaces", json!([]), "linux.namespaces: pid is missing"),
        ("/linux/namespaces", two_pids, "linux.namespaces[1].type"),
        ("/linux/namespaces/0", json!({ "type": "pid", "path": "/p" }), "namespaces[0].path"),
        ("/linux/namespaces/0", json!({ "type": "time" }), "namespaces[0].type"),
        ("/linux/namespaces/5", json!({ "type": "network", "path": "n" }), "namespaces[5].path"),
        ("/linux/uidMappings", json!([{}]), "linux.uidMappings"),
        ("/linux", map(1, 5), "linux.uidMappings[0]: containerID"),
        ("/linux", map(0, 4), "linux.gidMappings: must be the same"),
        ("/linux", map(0, 0), "linux.uidMappings[0]: hostID and size"),
        ("/linux", map(0, 4294967295), "linux.uidMappings[0]: hostID and size"),
        ("/linux/rootfsPropagation", json!("shared"), "linux.rootfsPropagation"),
        ("/linux/intelRdt", json!({ "closID": "x" }), "linux.intelRdt"),
        ("/linux/mountLabel", json!("x"), "linux.mountLabel"),
        (
            "/linux/sysctl",
            json!({ "kernel.core_pattern": "|/x" }),
            "linux.sysctl.kernel.core_pattern",
        ),
        ("/linux/sysctl", json!({ "net.x": "a\nb" }), "linux.sysctl.net.x"),
        ("/linux/maskedPaths", json!(["x"]), "linux.maskedPaths[0]"),
        ("/linux/readonlyPaths", json!(["/a/../b"]), "linux.readonlyPaths[0]"),
        ("/linux/cgroupsPath", json!("/../x"), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", json!("system.slice:a:b"), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", json!("/"), "linux.cgroupsPath"),
        ("/linux/devices", json!([{ "path": "/x", "type": "c" }]), "linux.devices[0].path"),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "p" }]), "linux.devices[0]"),
        ("/linux/seccomp", json!({ "defaultAction": "X" }), "linux.seccomp"),
        ("/linux/resources", json!({ "network": { "classID": 1 } }), "linux.resources.network"),
        ("/linux/resources", json!({ "memory": { "limit": -2 } }), "resources.memory.limit"),
        ("/linux/resources", json!({ "memory": { "swap": 5 } }), "resources.memory.swap"),
        ("/linux/resources", json!({ "memory": { "limit": 9, "swap": 5 } }), "memory.swap"),
        ("/linux/resources", json!({ "memory": { "swappiness": 5 } }), "memory.swappiness"),
        ("/linux/resources", json!({ "cpu": { "realtimePeriod": 5 } }), "cpu.realtimePeriod"),
        ("/linux/resources", json!({ "cpu": { "cpus": "0\n1" } }), "cpu.cpus"),
        ("/linux/resources", json!({ "unified": { "cgroup.procs": "1" } }), "unified.cgroup.procs"),
        ("/linux/resources", json!({ "unified": { "a/../b.c": "1" } }), "unified"),
        ("/linux/resources", json!({ "blockIO": { "weight": 10 } }), "blockIO.weight"),
        (
            "/linux/resources",
            json!({ "hugepageLimits": [{ "pageSize": "../x", "limit": 1 }] }),
            "hugepageLimits[0].pageSize",
        ),
        ("/linux/resources", json!({ "devices": [{ "allow": true, "type": "c" }] }), "devices[0]"),
        (
            "/linux/resources",
            json!({ "devices": [{ "allow": false, "type": "c", "major": 1 }] }),
            "devices[0]",
        ),
    ];
    for (pointer, value, expected) in table {
        let error = parse(&with(pointer, value)).expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

fn mount(mount: Value) -> Result<Config, ConfigError> {
    parse(&with("/mounts", json!([mount])))
}

#[test]
fn errors_name_the_invalid_or_unsupported_mount() {
    for (value, expected) in [
        (json!({ "type": "tmpfs" }), "mounts[0]: missing key `destination`"),
        (json!({ "destination": "a", "type": "tmpfs" }), "must be an absolute"),
        (json!({ "destination": "/a/../b", "type": "tmpfs" }), "mounts[0].destination"),
        (json!({ "destination": "/proc/x", "type": "tmpfs" }), "mounts[0].destination"),
        (
            json!({ "destination": "/./proc", "type": "bind", "source": "/" }),
            "mounts[0].destination",
        ),
        (json!({ "destination": "/dev/pts", "type": "bind", "source": "/" }), "mounts[0]"),
        (json!({ "destination": "/", "type": "tmpfs" }), "mounts[0].destination"),
        (json!({ "destination": "/proc", "type": "proc", "options": ["hidepid=2"] }), "hidepid=2"),
        (json!({ "destination": "/a", "type": "nfs" }), "type \"nfs\""),
        (json!({ "destination": "/a", "type": "bind" }), "mounts[0]: missing key `source`"),
        (json!({ "destination": "/a", "type": "bind", "source": "../x" }), "mounts[0].source"),
        (
            json!({ "destination": "/a", "type": "bind", "source": "x", "options": ["rshared"] }),
            "rshared",
        ),
        (
            json!({ "destination": "/a", "type": "bind", "source": "x", "options": ["suid"] }),
            "\"suid\"",
        ),
        (
            json!({ "destination": "/a", "type": "bind", "source": "x", "options": ["size=1"] }),
            "size=1",
        ),
        (json!({ "destination": "/a", "type": "tmpfs", "options": ["size=0"] }), "size=0"),
        (json!({ "destination": "/a", "type": "tmpfs", "options": ["mode=9"] }), "mode=9"),
        (json!({ "destination": "/a", "type": "tmpfs", "options": ["tmpcopyup"] }), "tmpcopyup"),
        (
            json!({ "destination": "/a", "type": "tmpfs", "uidMappings": [{ "size": 1 }] }),
            "uidMappings",
        ),
    ] {
        let error = mount(value).expect_err(expected).to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let tmpfs = |path: &str| json!({ "destination": path, "type": "tmpfs" });
    for (first, second) in [("/a", "/a/"), ("/a/b", "/a"), ("/a", "/./a")] {
        let error = parse(&with("/mounts", json!([tmpfs(first), tmpfs(second)]))).unwrap_err();
        assert!(error.to_string().contains("mounts[1].destination: would cover"), "{error}");
    }
}

#[test]
fn mounts_of_each_kind() {
    let list = json!([
        { "destination": "/sys", "type": "sysfs", "options": ["nosuid"] },
        { "destination": "/a", "type": "none", "source": "data", "options": ["rbind", "ro", "noexec"] },
        { "destination": "/b", "type": "tmpfs", "options": ["size=3k", "mode=700"] },
        { "destination": "/dev/shm", "type": "tmpfs", "options": ["size=4096"] },
    ]);
    let config = parse(&with("/mounts", list)).unwrap();
    assert!(config.warnings.iter().any(|text| text.contains("/sys is read-only")));
    let [a, b, shm] = config.mounts.as_slice() else { panic!("{:?}", config.mounts) };
    let path = PathBuf::from("/bundle/data");
    assert_eq!(a.source, MountSource::Bind { path, recursive: true, copy_up: None });
    assert!(a.read_only && a.no_exec && !b.read_only && !b.no_exec);
    assert_eq!(b.source, MountSource::Tmpfs { size: Some(3072), mode: 0o700 });
    assert_eq!(shm.source, MountSource::Tmpfs { size: Some(4096), mode: 0o1777 });
}

#[test]
fn limits_are_converted() {
    let resources = json!({
        "memory": { "limit": 100, "swap": 150, "reservation": 50 },
        "cpu": { "shares": 1024, "quota": 5000, "cpus": "0-1", "idle": 1, "burst": 10 },
        "pids": { "limit": 7 },
        "blockIO": { "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 9 }] },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4096 }],
        "unified": { "memory.high": "90" },
        "devices": [
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "access": "m" },
            { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }
        ]
    });
    let config = parse(&with("/linux/resources", resources)).unwrap();
    let lines: Vec<String> = config
        .settings
        .iter()
        .map(|setting| format!("{} {}", setting.file, setting.value))
        .collect();
    assert_eq!(
        lines,
        [
            "memory.max 100",
            "memory.low 50",
            "memory.swap.max 50",
            "cpu.weight 39",
            "cpu.max 5000 100000",
            "cpu.max.burst 10",
            "cpu.idle 1",
            "cpuset.cpus 0-1",
            "pids.max 7",
            "io.max 8:0 rbps=9",
            "hugetlb.2MB.max 4096",
            "memory.high 90",
        ]
    );
    let rule = DeviceRule {
        kind: DeviceKind::Char,
        major: 10,
        minor: Some(229),
        access: DeviceAccess::READ_WRITE,
    };
    assert_eq!(config.device_access, Devices::Only(vec![rule]));
    let none = json!({ "memory": { "limit": -1, "swap": -1 }, "pids": { "limit": -1 } });
    let config = parse(&with("/linux/resources", none)).unwrap();
    assert!(config.settings.iter().all(|setting| setting.value == "max"));
}

/// Arbitrary JSON, made of keys and values that are valid somewhere.
fn any_value() -> impl Strategy<Value = Value> {
    let word = proptest::sample::select(vec![
        "",
        "/",
        "/a",
        "..",
        "pid",
        "user",
        "tmpfs",
        "bind",
        "c",
        "rwm",
        "A=1",
        "RLIMIT_AS",
        "ro",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    let key = proptest::sample::select(vec![
        "path",
        "type",
        "args",
        "cwd",
        "uid",
        "options",
        "destination",
        "source",
        "namespaces",
        "allow",
        "major",
        "limit",
        "memory",
        "devices",
        "resources",
        "user",
        "soft",
        "hard",
        "env",
    ]);
    leaf.prop_recursive(3, 24, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..5).prop_map(|members| {
                Value::Object(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_in_any_place_is_accepted_or_an_error(
        value in any_value(),
        pointer in proptest::sample::select(vec![
            "/ociVersion", "/root", "/root/path", "/process", "/process/args", "/process/env",
            "/process/user", "/process/rlimits", "/process/capabilities", "/process/oomScoreAdj",
            "/mounts", "/hooks", "/annotations", "/hostname", "/linux", "/linux/namespaces",
            "/linux/uidMappings", "/linux/devices", "/linux/resources", "/linux/sysctl",
            "/linux/maskedPaths", "/linux/cgroupsPath", "/linux/seccomp",
        ]),
    ) {
        match parse(&with(pointer, value)) {
            Ok(config) => prop_assert!(crate::check(&config).is_ok()),
            Err(ConfigError::Value { place, .. } | ConfigError::Missing { place, .. }) => prop_assert!(!place.is_empty()),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
