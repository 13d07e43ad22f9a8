//! Every key that can be written, with its type, default and meaning.
//!
//! The parser takes its lists of known keys from here and `docs/units.md` is made from here, so
//! that neither can know a key that the other does not.

/// One key of a table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As written.
    pub name: &'static str,
    /// Its type, for people.
    pub kind: &'static str,
    /// What holds when it is absent, for people; `required` if it must be there.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// One table of a file.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Dotted name; empty for the keys before the first table. `NAME` stands for any name.
    pub path: &'static str,
    /// What it is about.
    pub meaning: &'static str,
    /// Its keys, in the order of the documentation. Tables within it are keys, too.
    pub keys: &'static [Key],
}

impl Table {
    /// Whether `name` can be written in this table.
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

/// The keys of a unit file before its first table.
pub const UNIT: Table = Table {
    path: "",
    meaning: "What the unit is, what it needs, and what happens when it ends.",
    keys: &[
        key("description", "string", "`\"\"`", "Free text for people."),
        key(
            "after",
            "list of units",
            "`[]`",
            "Order only: starts after these are ready (one-shots: done), stops before them.",
        ),
        key(
            "requires",
            "list of units",
            "`[]`",
            "Need: these are started too and must be ready first. Implies `after`.",
        ),
        key(
            "wants",
            "list of units",
            "`[]`",
            "Would like: these are started too; their failure changes nothing, and no order is implied.",
        ),
        key(
            "wait_for",
            "list of conditions",
            "`[]`",
            "Facts of the host to wait for before each start: `net.addr`, `net.route`, `dns`, `clock`, `volume:NAME`.",
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
            "Long-running, or run once: exit code 0 is success and makes those that come after it start.",
        ),
        key(
            "ready",
            "`started`, `notify` or `healthy`",
            "`\"started\"`",
            "When a service counts as ready: its program runs; it sent `READY=1` to `$NOTIFY_SOCKET`; its first health check passed.",
        ),
        key(
            "start_timeout",
            "duration or `\"never\"`",
            "`\"90s\"`; one-shots `\"never\"`",
            "How long a start may take to become ready (one-shots: to end) before it counts as failed.",
        ),
        key(
            "restart",
            "`always`, `on-failure`, `never`, or a table",
            "`\"always\"`; one-shots `\"never\"`",
            "When an ended container is started again; the table form also sets the pace, see `[restart]`.",
        ),
        key(
            "stop_signal",
            "signal name or number",
            "the image's, else `\"SIGTERM\"`",
            "What asks the main process to stop.",
        ),
        key(
            "stop_timeout",
            "duration",
            "`\"10s\"`",
            "Grace between the stop signal and killing everything in the container. `\"0\"` kills at once.",
        ),
        key(
            "on_failure",
            "`continue`, `reboot` or `poweroff`",
            "`\"continue\"`",
            "What happens to the host when the unit has failed for good.",
        ),
        key(
            "enabled",
            "boolean",
            "`true`",
            "Started at boot; `false`: only by hand or because another unit needs it.",
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
    meaning: "The table form of `restart`. The first end of a run that lasted 10 s is followed by a start at once; after that the delay doubles with each short run, and a run of 10 s resets it.",
    keys: &[
        key(
            "policy",
            "`always`, `on-failure` or `never`",
            "as `restart`",
            "When to start again. A stop by hand wins over all of them.",
        ),
        key(
            "delay",
            "duration, at least `10ms`",
            "`\"100ms\"`",
            "First delay after a short run, doubled for each further one.",
        ),
        key("max_delay", "duration", "`\"60s\"`", "Upper bound of the delay."),
        key(
            "max_attempts",
            "integer from 1",
            "none",
            "After this many failed starts within `window` the unit is `failed` and stays down. Without it the host never gives up.",
        ),
        key(
            "window",
            "duration",
            "since the last stable run",
            "The span in which `max_attempts` counts.",
        ),
    ],
};

/// The `[container]` table.
pub const CONTAINER: Table = Table {
    path: "container",
    meaning: "The container itself. What is absent is as the image says.",
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
            "Replaces the image's entrypoint and drops its command.",
        ),
        key("command", "list of strings", "the image's", "Replaces the image's command."),
        key(
            "environment",
            "table of strings",
            "`{}`",
            "Added to the image's environment, which it overrides.",
        ),
        key(
            "user",
            "`uid`, `uid:gid`, `name` or `name:group`",
            "the image's",
            "Who runs the main process. Names are looked up in the image; numbers never are.",
        ),
        key("working_dir", "absolute path", "the image's", "Where the main process starts."),
        key("hostname", "host name", "the unit's name", "Host name inside."),
        key(
            "volumes",
            "list of `NAME:/path[:ro]` or `/host:/path[:ro]`",
            "`[]`",
            "Named volumes live on the data disk (or in memory where there is none). A path of the host weakens the container's walls. A path that the image itself declares as a volume, and nothing is mounted on, is kept in memory over restarts, for this boot.",
        ),
        key(
            "tmpfs",
            "list of `/path[:size=64M][,mode=1777]`",
            "`[]`",
            "Fresh file systems in memory.",
        ),
        key(
            "ports",
            "list of `[ADDR:]HOST:CONTAINER[/udp]`",
            "`[]`",
            "Published ports. Without an address: on every IPv4 address of the host. All units together: 1000 at most.",
        ),
        key(
            "network",
            "`bridge`, `host` or `none`",
            "`\"bridge\"`",
            "Its own network on the host's bridge, the host's network, or loopback only.",
        ),
        key("read_only", "boolean", "`false`", "The root cannot be written to."),
        key(
            "cap_add",
            "list of capabilities",
            "`[]`",
            "Added to the default set. With or without `CAP_`.",
        ),
        key(
            "cap_drop",
            "list of capabilities or `\"ALL\"`",
            "`[]`",
            "Taken from the default set, before `cap_add`.",
        ),
        key(
            "userns",
            "`auto` or `host`",
            "`\"auto\"`",
            "`auto`: the container has 65536 users of its own, and its root is nobody on the host. `host`: its root is the host's.",
        ),
        key(
            "no_new_privileges",
            "boolean",
            "`true`",
            "Set-user-id programs and file capabilities give nothing. `false` for images that need `su` or `sudo`.",
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
            "Kernel files that are otherwise hidden or read-only (`/proc/interrupts`, `/proc/sys`; docs/security.md has the list) as the kernel shows them.",
        ),
        key(
            "devices",
            "list of `/dev/X[:/dev/Y]`",
            "`[]`",
            "Device nodes of the host to read and write.",
        ),
        key(
            "seccomp",
            "`default`, `unconfined` or a path beginning with `./`",
            "`\"default\"`",
            "Which system calls it may make: the host's own list, which fits its capabilities; all of them; or a profile below the host folder, in the JSON of docker and podman.",
        ),
    ],
};

/// The `[healthcheck]` table.
pub const HEALTHCHECK: Table = Table {
    path: "healthcheck",
    meaning: "How its health is asked: exactly one of `http`, `tcp` and `command`. Probes run in the container's own network, against loopback.",
    keys: &[
        key("http", "`:PORT/path`", "none", "GET; healthy when the status is 200 to 399."),
        key("tcp", "`:PORT`", "none", "A connection is accepted."),
        key("command", "list of strings", "none", "A command inside the container exits with 0."),
        key(
            "interval",
            "duration, at least `100ms`",
            "`\"10s\"`",
            "Time between the end of one probe and the start of the next.",
        ),
        key(
            "timeout",
            "duration, at least `10ms`",
            "`\"3s\"`",
            "A probe that takes longer has failed.",
        ),
        key(
            "retries",
            "integer, 1 to 1000",
            "`3`",
            "So many failures in a row make the unit unhealthy, which restarts it.",
        ),
        key(
            "start_period",
            "duration",
            "`\"0\"`",
            "Failures in this span after the start do not count; a success does.",
        ),
    ],
};

/// The `[limits]` table.
pub const LIMITS: Table = Table {
    path: "limits",
    meaning: "What the container may use at most.",
    keys: &[
        key(
            "memory",
            "size, at least `1M`",
            "none",
            "Memory of all its processes, page cache included; beyond it the kernel kills.",
        ),
        key(
            "memory_high",
            "size, at least `1M`",
            "none",
            "From here on it is slowed down and gives memory back, before `memory` kills.",
        ),
        key(
            "swap",
            "size",
            "none",
            "Swap, where the host has some. With `memory` it is 0 unless it is said.",
        ),
        key("cpus", "number, 0.01 to 1024", "none", "CPUs; `0.5` is half of one."),
        key(
            "cpu_weight",
            "integer, 1 to 10000",
            "the kernel's, 100",
            "Its share of the CPUs where units compete for them.",
        ),
        key("io_read", "size, at least `4K`", "none", "Bytes a second from the data disk."),
        key("io_write", "size, at least `4K`", "none", "Bytes a second to the data disk."),
        key("pids", "integer, 1 to 4194304", "`2048`", "Processes and threads."),
        key(
            "nofile",
            "integer, 1 to 1048576",
            "the host's, 1048576",
            "Open files of each process.",
        ),
    ],
};

/// The `[log]` table.
pub const LOG: Table = Table {
    path: "log",
    meaning: "How much of its output is kept.",
    keys: &[
        key("max_size", "size, at least `64K`", "`\"10M\"`", "A log file of this size is rotated."),
        key("max_files", "integer, 1 to 1000", "`3`", "Files kept, the current one included."),
    ],
};

/// All tables of a unit file.
pub const UNIT_TABLES: [&Table; 6] = [&UNIT, &RESTART, &CONTAINER, &HEALTHCHECK, &LIMITS, &LOG];

/// The keys of `host.toml` before its first table.
pub const HOST: Table = Table {
    path: "",
    meaning: "The machine. The whole file may be absent.",
    keys: &[
        key("hostname", "host name", "`\"keel\"`", "The machine's name."),
        key("network", "table", "none", "See `[network]`."),
        key("storage", "table", "none", "See `[storage]`."),
        key("api", "table", "none", "See `[api]`."),
    ],
};

/// The `[network]` table.
pub const NETWORK: Table = Table {
    path: "network",
    meaning: "The containers' bridge and the machine's own links.",
    keys: &[
        key(
            "bridge",
            "IPv4 address with prefix",
            "`\"10.88.0.1/16\"`",
            "Address of the host on the containers' bridge, and their subnet.",
        ),
        key("dns", "list of addresses", "`[]`", "Name servers. Empty: those that DHCP gives."),
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
    meaning: "One link, by the kernel's name (`eth0`). Once there is one such table, links without one are left alone.",
    keys: &[
        key(
            "dhcp",
            "boolean",
            "`true` unless there is an `address`",
            "Ask for an IPv4 address by DHCP.",
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
            "Static default gateways, at most one of each family.",
        ),
        key("mtu", "integer, 576 to 65535", "the link's own", "Largest packet in bytes."),
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
        "Use it if it is there at boot, else keep volumes in memory; never look for one; or hold back units with named volumes until it is there.",
    )],
};

/// The `[api]` table.
pub const API: Table = Table {
    path: "api",
    meaning: "Remote control over HTTPS on port 7443. Who has no key in the list is not listened to.",
    keys: &[
        key(
            "enabled",
            "boolean",
            "`true` if there is a client",
            "Whether the host can be controlled over the network.",
        ),
        key("client", "table of tables", "none", "Who may call: `[api.client.NAME]`, see below."),
    ],
};

/// An `[api.client.NAME]` table.
pub const CLIENT: Table = Table {
    path: "api.client.NAME",
    meaning: "One client, by a name of your choice. The key alone says who somebody is.",
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
            "A reader sees; an operator also starts, stops, restarts and signals units; an admin may do everything.",
        ),
    ],
};

/// All tables of `host.toml`.
pub const HOST_TABLES: [&Table; 6] = [&HOST, &NETWORK, &INTERFACE, &STORAGE, &API, &CLIENT];
