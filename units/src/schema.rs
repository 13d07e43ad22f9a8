//! Every key of the configuration files, with its type, default and meaning.
//!
//! The parser takes its list of known keys from this module, and `docs/units.md` is generated from it,
//! so that the two always agree.

/// One key of a table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// Its type, as text.
    pub kind: &'static str,
    /// Its default, as text; `required` if the key must be present.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// One table of a file.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Dotted name; empty for the top-level keys. `NAME` stands for any name.
    pub path: &'static str,
    /// What it configures.
    pub meaning: &'static str,
    /// Its keys in the order of the documentation, including tables within it.
    pub keys: &'static [Key],
}

impl Table {
    /// Whether this table has a key `name`.
    pub fn has(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name == name)
    }
}

const fn key(
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { name, kind, default, meaning }
}

/// The top-level keys of a unit file.
pub const UNIT: Table = Table {
    path: "",
    meaning: "What the unit is, what it depends on, and what happens when it exits.",
    keys: &[
        key("description", "string", "`\"\"`", "Free text for people."),
        key(
            "after",
            "list of units",
            "`[]`",
            "Ordering only: starts after these units are ready (one-shots: done), stops before them.",
        ),
        key(
            "requires",
            "list of units",
            "`[]`",
            "Requirement: these units are started too and must be ready first. Implies `after`.",
        ),
        key(
            "wants",
            "list of units",
            "`[]`",
            "Weak dependency: these units are started too, but their failure has no effect. Implies no order.",
        ),
        key(
            "wait_for",
            "list of conditions",
            "`[]`",
            "Conditions of the host to wait for before each start: `net.addr`, `net.route`, `dns`, `clock`, `volume:NAME`.",
        ),
        key(
            "wait_timeout",
            "duration or `\"never\"`",
            "`\"90s\"`",
            "How long to wait for `wait_for` and for dependencies before the start counts as failed.",
        ),
        key(
            "type",
            "`service` or `oneshot`",
            "`\"service\"`",
            "Long-running, or run once: exit code 0 is success, and units after it can then start.",
        ),
        key(
            "ready",
            "`started`, `notify` or `healthy`",
            "`\"started\"`",
            "When a service counts as ready: its program runs; it has sent `READY=1` to `$NOTIFY_SOCKET`; or its first health check has passed.",
        ),
        key(
            "start_timeout",
            "duration or `\"never\"`",
            "`\"90s\"`; one-shots `\"never\"`",
            "How long a unit may take to become ready (one-shots: to exit) before the start counts as failed.",
        ),
        key(
            "restart",
            "`always`, `on-failure`, `never`, or a table",
            "`\"always\"`; one-shots `\"never\"`",
            "When an exited container is restarted. The table form also sets the delays, see `[restart]`.",
        ),
        key(
            "stop_signal",
            "signal name or number",
            "the image's, else `\"SIGTERM\"`",
            "The signal that asks the main process to stop.",
        ),
        key(
            "stop_timeout",
            "duration",
            "`\"10s\"`",
            "Time between the stop signal and killing all processes of the container. `\"0\"` kills immediately.",
        ),
        key(
            "on_failure",
            "`continue`, `reboot` or `poweroff`",
            "`\"continue\"`",
            "What the host does when the unit has failed permanently.",
        ),
        key(
            "enabled",
            "boolean",
            "`true`",
            "Whether the unit is started at boot. `false`: only manually or as a dependency.",
        ),
        key("container", "table", "required", "See `[container]`."),
        key("healthcheck", "table", "none", "See `[healthcheck]`."),
        key("limits", "table", "none", "See `[limits]`."),
        key("log", "table", "none", "See `[log]`."),
    ],
};

/// The table form of `restart`.
pub const RESTART: Table = Table {
    path: "restart",
    meaning: "The table form of `restart`. A container that ran for at least 10 s is restarted immediately. After shorter runs the delay applies and doubles with each one; a run of 10 s resets it.",
    keys: &[
        key(
            "policy",
            "`always`, `on-failure` or `never`",
            "as `restart`",
            "When to restart. A manual stop overrides every policy.",
        ),
        key(
            "delay",
            "duration, at least `10ms`",
            "`\"100ms\"`",
            "Delay after the first short run, doubled after each further one.",
        ),
        key("max_delay", "duration", "`\"60s\"`", "Upper bound of the delay."),
        key(
            "max_attempts",
            "integer from 1",
            "none",
            "After this many failed starts within `window` the unit is `failed` and is not restarted. Without it the unit is restarted without limit.",
        ),
        key(
            "window",
            "duration",
            "since the last stable run",
            "The period in which failed starts are counted.",
        ),
    ],
};

/// The `[container]` table.
pub const CONTAINER: Table = Table {
    path: "container",
    meaning: "The container. The image provides the defaults.",
    keys: &[
        key(
            "image",
            "path beginning with `./`",
            "required",
            "An OCI layout directory, or an OCI or docker archive, below the host folder.",
        ),
        key(
            "entrypoint",
            "list of strings",
            "the image's",
            "Replaces the image's entrypoint and discards its command.",
        ),
        key("command", "list of strings", "the image's", "Replaces the image's command."),
        key(
            "environment",
            "table of strings",
            "`{}`",
            "Environment variables; they override those of the image.",
        ),
        key(
            "user",
            "`uid`, `uid:gid`, `name` or `name:group`",
            "the image's",
            "The user of the main process. Names are looked up in the image, numbers are not.",
        ),
        key(
            "working_dir",
            "absolute path",
            "the image's",
            "Working directory of the main process.",
        ),
        key("hostname", "host name", "the unit's name", "Host name inside the container."),
        key(
            "volumes",
            "list of `NAME:/path[:ro]` or `/host:/path[:ro]`",
            "`[]`",
            "Named volumes are kept on the data disk, or in memory if there is none. A path of the host relaxes the container's isolation. A volume that the image declares, if nothing is mounted there, is kept in memory across restarts until the host reboots.",
        ),
        key(
            "tmpfs",
            "list of `/path[:size=64M][,mode=1777]`",
            "`[]`",
            "File systems in memory, empty at each start.",
        ),
        key(
            "ports",
            "list of `[ADDR:]HOST:CONTAINER[/udp]`",
            "`[]`",
            "Published ports. Without an address: on every IPv4 address of the host. The limit is 1000 over all units.",
        ),
        key(
            "network",
            "`bridge`, `host` or `none`",
            "`\"bridge\"`",
            "Its own network namespace on the host's bridge, the host's network, or loopback only.",
        ),
        key("read_only", "boolean", "`false`", "Whether the root file system is read-only."),
        key(
            "cap_add",
            "list of capabilities",
            "`[]`",
            "Capabilities added to the default set, with or without `CAP_`.",
        ),
        key(
            "cap_drop",
            "list of capabilities or `\"ALL\"`",
            "`[]`",
            "Capabilities removed from the default set, before `cap_add` applies.",
        ),
        key(
            "userns",
            "`auto` or `host`",
            "`\"auto\"`",
            "`auto`: the container has its own user namespace with 65536 ids, and its root is unprivileged on the host. `host`: its root is the host's root.",
        ),
        key(
            "no_new_privileges",
            "boolean",
            "`true`",
            "Whether set-user-ID bits and file capabilities are ignored. Use `false` for images that need `su` or `sudo`.",
        ),
        key(
            "sysctls",
            "table of strings",
            "`{}`",
            "Kernel settings of the container's own namespaces: `net.*`, `kernel.msg*`, `kernel.sem`, `kernel.shm*`, `fs.mqueue.*`.",
        ),
        key(
            "unmask",
            "list of paths or `\"ALL\"`",
            "`[]`",
            "Kernel files to leave unmasked and writable that are masked or read-only by default (`/proc/interrupts`, `/proc/sys`; the list is in docs/security.md).",
        ),
        key(
            "devices",
            "list of `/dev/X[:/dev/Y]`",
            "`[]`",
            "Device nodes of the host that the container can read and write.",
        ),
        key(
            "seccomp",
            "`default`, `unconfined` or a path beginning with `./`",
            "`\"default\"`",
            "The seccomp filter: the default one, which depends on the capabilities; none; or a profile below the host folder, in the JSON format of docker and podman.",
        ),
    ],
};

/// The `[healthcheck]` table.
pub const HEALTHCHECK: Table = Table {
    path: "healthcheck",
    meaning: "The health check: exactly one of `http`, `tcp` and `command`. Probes run in the container's network namespace, against loopback.",
    keys: &[
        key(
            "http",
            "`:PORT/path`",
            "none",
            "An HTTP GET request; healthy if the status is 200 to 399.",
        ),
        key("tcp", "`:PORT`", "none", "A TCP connection; healthy if it is accepted."),
        key(
            "command",
            "list of strings",
            "none",
            "A command in the container; healthy if it exits with 0.",
        ),
        key(
            "interval",
            "duration, at least `100ms`",
            "`\"10s\"`",
            "Time between the end of a probe and the start of the next one.",
        ),
        key(
            "timeout",
            "duration, at least `10ms`",
            "`\"3s\"`",
            "A probe that takes longer counts as failed.",
        ),
        key(
            "retries",
            "integer, 1 to 1000",
            "`3`",
            "After this many consecutive failures the unit is unhealthy and is restarted.",
        ),
        key(
            "start_period",
            "duration",
            "`\"0\"`",
            "Failures in this period after the start are ignored; a success counts.",
        ),
    ],
};

/// The `[limits]` table.
pub const LIMITS: Table = Table {
    path: "limits",
    meaning: "Resource limits of the container.",
    keys: &[
        key(
            "memory",
            "size, at least `1M`",
            "none",
            "Memory of all its processes, including page cache; above it the kernel kills the container.",
        ),
        key(
            "memory_high",
            "size, at least `1M`",
            "none",
            "Memory above which the container is throttled and its memory reclaimed, before `memory` applies.",
        ),
        key("swap", "size", "none", "Swap, if the host has any. With `memory` it is 0 unless set."),
        key("cpus", "number, 0.01 to 1024", "none", "CPU time in CPUs; `0.5` is half a CPU."),
        key(
            "cpu_weight",
            "integer, 1 to 10000",
            "the kernel's, 100",
            "Relative share of CPU time when units compete for it.",
        ),
        key("io_read", "size, at least `4K`", "none", "Bytes read from the data disk per second."),
        key(
            "io_write",
            "size, at least `4K`",
            "none",
            "Bytes written to the data disk per second.",
        ),
        key("pids", "integer, 1 to 4194304", "`2048`", "Number of processes and threads."),
        key("nofile", "integer, 1 to 1048576", "the host's, 1048576", "Open files per process."),
    ],
};

/// The `[log]` table.
pub const LOG: Table = Table {
    path: "log",
    meaning: "How much of the container's output is kept.",
    keys: &[
        key(
            "max_size",
            "size, at least `64K`",
            "`\"10M\"`",
            "Size at which a log file is rotated.",
        ),
        key(
            "max_files",
            "integer, 1 to 1000",
            "`3`",
            "Number of files kept, including the current one.",
        ),
    ],
};

/// All tables of a unit file.
pub const UNIT_TABLES: [&Table; 6] = [&UNIT, &RESTART, &CONTAINER, &HEALTHCHECK, &LIMITS, &LOG];

/// The top-level keys of `host.toml`.
pub const HOST: Table = Table {
    path: "",
    meaning: "The host. The file is optional.",
    keys: &[
        key("hostname", "host name", "`\"keel\"`", "The host name."),
        key("network", "table", "none", "See `[network]`."),
        key("storage", "table", "none", "See `[storage]`."),
        key("api", "table", "none", "See `[api]`."),
    ],
};

/// The `[network]` table.
pub const NETWORK: Table = Table {
    path: "network",
    meaning: "The container bridge and the host's network links.",
    keys: &[
        key(
            "bridge",
            "IPv4 address with prefix",
            "`\"10.88.0.1/16\"`",
            "The host's address on the container bridge, and the subnet of the containers.",
        ),
        key("dns", "list of addresses", "`[]`", "Name servers. Empty: those from DHCP."),
        key(
            "interface",
            "table of tables",
            "DHCP on every Ethernet link",
            "See `[network.interface.NAME]`.",
        ),
    ],
};

/// A `[network.interface.NAME]` table.
pub const INTERFACE: Table = Table {
    path: "network.interface.NAME",
    meaning: "One link, by the kernel's name (`eth0`). If there is any such table, links without one are not configured.",
    keys: &[
        key(
            "dhcp",
            "boolean",
            "`true` unless there is an `address`",
            "Whether to get an IPv4 address by DHCP.",
        ),
        key(
            "address",
            "address with prefix, or a list",
            "`[]`",
            "Static addresses, IPv4 and IPv6.",
        ),
        key(
            "gateway",
            "address, or a list",
            "`[]`",
            "Static default gateways, at most one per address family.",
        ),
        key(
            "mtu",
            "integer, 576 to 65535",
            "the link's own",
            "Size of the largest packet in bytes.",
        ),
    ],
};

/// The `[storage]` table.
pub const STORAGE: Table = Table {
    path: "storage",
    meaning: "The data disk: the ext4 file system labelled `KEEL-DATA`.",
    keys: &[key(
        "data",
        "`auto`, `memory` or `required`",
        "`\"auto\"`",
        "`auto`: use it if it is present at boot, otherwise keep volumes in memory. `memory`: never use one. `required`: units with named volumes wait for it.",
    )],
};

/// The `[api]` table.
pub const API: Table = Table {
    path: "api",
    meaning: "Remote control over HTTPS on port 7443. Only clients whose keys are listed can connect.",
    keys: &[
        key(
            "enabled",
            "boolean",
            "`true` if there is a client",
            "Whether the host can be controlled over the network.",
        ),
        key("client", "table of tables", "none", "The clients: `[api.client.NAME]`, see below."),
    ],
};

/// An `[api.client.NAME]` table.
pub const CLIENT: Table = Table {
    path: "api.client.NAME",
    meaning: "One client, with a name of your choice. A client is identified by its key alone.",
    keys: &[
        key(
            "key",
            "fingerprint (required)",
            "none",
            "The client's public key, as `keel keygen` prints it: `SHA256:` and 43 characters.",
        ),
        key(
            "role",
            "`reader`, `operator` or `admin`",
            "`\"reader\"`",
            "A reader can read state, logs and events. An operator can also start, stop, restart and signal units. An admin can do everything.",
        ),
    ],
};

/// All tables of `host.toml`.
pub const HOST_TABLES: [&Table; 6] = [&HOST, &NETWORK, &INTERFACE, &STORAGE, &API, &CLIENT];
