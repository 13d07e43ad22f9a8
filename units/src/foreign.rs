//! Key names from systemd, compose, Kubernetes and podman, and the keys that replace them.

use crate::suggest::folded;

/// One key of another system.
#[derive(Debug, Clone, Copy)]
pub struct Foreign {
    /// The name in that system.
    pub name: &'static str,
    /// The system.
    pub system: &'static str,
    /// The dotted key of a unit file; empty when there is none.
    pub key: &'static str,
    /// How to write it, or why there is no such key.
    pub note: &'static str,
}

impl Foreign {
    /// The hint that is given for this name.
    pub fn hint(&self) -> String {
        if self.key.is_empty() {
            format!("{} `{}`: {}", possessive(self.system), self.name, self.note)
        } else {
            let Foreign { system, name, key, note } = self;
            format!("{} `{name}` is `{key}` here: {note}", possessive(system))
        }
    }
}

fn possessive(name: &str) -> String {
    if name.ends_with('s') { format!("{name}'") } else { format!("{name}'s") }
}

/// Looks up a foreign name, ignoring case, hyphens and underscores.
pub(crate) fn find(key: &str) -> Option<&'static Foreign> {
    let plain = folded(key);
    let exact = FOREIGN.iter().find(|foreign| foreign.name == key);
    exact.or_else(|| FOREIGN.iter().find(|foreign| folded(foreign.name) == plain))
}

/// The value that replaces a foreign one.
pub(crate) fn value(word: &str) -> Option<&'static str> {
    const VALUES: [(&str, &str); 16] = [
        ("no", "never"),
        ("none", "never"),
        ("unless-stopped", "always"),
        ("on-abnormal", "on-failure"),
        ("on-abort", "on-failure"),
        ("on-watchdog", "on-failure"),
        ("OnFailure", "on-failure"),
        ("any", "always"),
        ("simple", "service"),
        ("exec", "service"),
        ("notify", "service"),
        ("forking", "service"),
        ("job", "oneshot"),
        ("service_healthy", "healthy"),
        ("service_started", "started"),
        ("default", "bridge"),
    ];
    let word = folded(word);
    VALUES.iter().find(|(foreign, _)| folded(foreign) == word).map(|(_, value)| *value)
}

const fn entry(
    name: &'static str,
    system: &'static str,
    key: &'static str,
    note: &'static str,
) -> Foreign {
    Foreign { name, system, key, note }
}

const SYSTEMD: &str = "systemd";
const COMPOSE: &str = "compose";
const KUBERNETES: &str = "Kubernetes";
const QUADLET: &str = "quadlet";
const PODMAN: &str = "podman";

/// The table, by system. It includes names that differ from a unit's key only in case or hyphens:
/// they mean the same, but lists and durations are written differently.
pub const FOREIGN: &[Foreign] = &[
    entry("Unit", SYSTEMD, "", "there is no such section; write the keys at the top of the file"),
    entry(
        "Service",
        SYSTEMD,
        "",
        "write its keys at the top of the file, and the settings of the process in `[container]`",
    ),
    entry(
        "Install",
        SYSTEMD,
        "enabled",
        "a unit in the folder is started at boot unless `enabled = false`",
    ),
    entry("Requires", SYSTEMD, "requires", "`requires = [\"db\"]` (it implies `after`)"),
    entry("BindsTo", SYSTEMD, "requires", "`requires = [\"db\"]`"),
    entry("Requisite", SYSTEMD, "requires", "`requires = [\"db\"]`"),
    entry("After", SYSTEMD, "after", "`after = [\"db\"]`"),
    entry("Before", SYSTEMD, "after", "write `after` in the other unit"),
    entry(
        "WantedBy",
        SYSTEMD,
        "enabled",
        "a unit in the folder is started at boot unless `enabled = false`",
    ),
    entry("RequiredBy", SYSTEMD, "requires", "write `requires` in the other unit"),
    entry("OnFailure", SYSTEMD, "on_failure", "`on_failure = \"reboot\"`; it starts no other unit"),
    entry("FailureAction", SYSTEMD, "on_failure", "`on_failure = \"reboot\"`"),
    entry(
        "ExecStart",
        SYSTEMD,
        "container.command",
        "`command = [\"/bin/web\", \"--port\", \"80\"]` in `[container]`",
    ),
    entry(
        "ExecStartPre",
        SYSTEMD,
        "",
        "make it a unit with `type = \"oneshot\"` and list it in `requires`",
    ),
    entry(
        "ExecStop",
        SYSTEMD,
        "stop_signal",
        "`stop_signal = \"SIGQUIT\"`; no command is run to stop a unit",
    ),
    entry("ExecReload", SYSTEMD, "", "units cannot be reloaded; restart the unit"),
    entry(
        "RestartSec",
        SYSTEMD,
        "restart.delay",
        "`restart = { policy = \"always\", delay = \"5s\" }`",
    ),
    entry(
        "RestartMaxDelaySec",
        SYSTEMD,
        "restart.max_delay",
        "`restart = { max_delay = \"60s\" }`",
    ),
    entry(
        "StartLimitBurst",
        SYSTEMD,
        "restart.max_attempts",
        "`restart = { max_attempts = 5, window = \"10m\" }`",
    ),
    entry(
        "StartLimitIntervalSec",
        SYSTEMD,
        "restart.window",
        "`restart = { max_attempts = 5, window = \"10m\" }`",
    ),
    entry("TimeoutStartSec", SYSTEMD, "start_timeout", "`start_timeout = \"90s\"`"),
    entry("TimeoutStopSec", SYSTEMD, "stop_timeout", "`stop_timeout = \"10s\"`"),
    entry(
        "TimeoutSec",
        SYSTEMD,
        "stop_timeout",
        "`start_timeout = \"90s\"` and `stop_timeout = \"10s\"`",
    ),
    entry("KillSignal", SYSTEMD, "stop_signal", "`stop_signal = \"SIGTERM\"`"),
    entry(
        "KillMode",
        SYSTEMD,
        "",
        "the signal goes to the main process, and after `stop_timeout` the whole container is killed",
    ),
    entry("WatchdogSec", SYSTEMD, "healthcheck", "write a `[healthcheck]`"),
    entry(
        "Environment",
        SYSTEMD,
        "container.environment",
        "`environment = { LEVEL = \"info\" }` in `[container]`",
    ),
    entry(
        "EnvironmentFile",
        SYSTEMD,
        "container.environment",
        "environment files are not supported; write `environment = { LEVEL = \"info\" }` in `[container]`",
    ),
    entry("User", SYSTEMD, "container.user", "`user = \"1000:1000\"` in `[container]`"),
    entry("Group", SYSTEMD, "container.user", "`user = \"1000:1000\"` in `[container]`"),
    entry(
        "WorkingDirectory",
        SYSTEMD,
        "container.working_dir",
        "`working_dir = \"/srv\"` in `[container]`",
    ),
    entry("MemoryMax", SYSTEMD, "limits.memory", "`memory = \"256M\"` in `[limits]`"),
    entry("CPUQuota", SYSTEMD, "limits.cpus", "`cpus = 0.5` in `[limits]` is 50 %"),
    entry("TasksMax", SYSTEMD, "limits.pids", "`pids = 128` in `[limits]`"),
    entry("LimitNOFILE", SYSTEMD, "limits.nofile", "`nofile = 65536` in `[limits]`"),
    entry(
        "AmbientCapabilities",
        SYSTEMD,
        "container.cap_add",
        "`cap_add = [\"NET_BIND_SERVICE\"]` in `[container]`",
    ),
    entry(
        "SystemCallFilter",
        SYSTEMD,
        "container.seccomp",
        "`seccomp = \"./profiles/web.json\"` in `[container]`",
    ),
    entry(
        "CapabilityBoundingSet",
        SYSTEMD,
        "container.cap_drop",
        "`cap_drop = [\"ALL\"]` and `cap_add = [\"NET_BIND_SERVICE\"]` in `[container]`",
    ),
    entry("ProtectSystem", SYSTEMD, "container.read_only", "`read_only = true` in `[container]`"),
    entry(
        "services",
        COMPOSE,
        "",
        "write one file per service, `units/web.toml`; the file name is the service name",
    ),
    entry(
        "depends_on",
        COMPOSE,
        "requires",
        "`requires = [\"db\"]`; for `service_healthy` write `ready = \"healthy\"` in the other unit",
    ),
    entry("container_name", COMPOSE, "", "the file name is the unit's name"),
    entry(
        "restart_policy",
        COMPOSE,
        "restart",
        "`restart = { policy = \"on-failure\", delay = \"1s\", max_attempts = 5 }`",
    ),
    entry(
        "max_retries",
        COMPOSE,
        "restart.max_attempts",
        "`restart = { max_attempts = 5, window = \"10m\" }`",
    ),
    entry("stop_grace_period", COMPOSE, "stop_timeout", "`stop_timeout = \"10s\"`"),
    entry(
        "env",
        KUBERNETES,
        "container.environment",
        "`environment = { LEVEL = \"info\" }` in `[container]`",
    ),
    entry(
        "env_file",
        COMPOSE,
        "container.environment",
        "environment files are not supported; write `environment = { LEVEL = \"info\" }` in `[container]`",
    ),
    entry(
        "privileged",
        COMPOSE,
        "",
        "privileged containers are not supported; list what the container needs in `cap_add` and `devices`",
    ),
    entry("network_mode", COMPOSE, "container.network", "`network = \"host\"` in `[container]`"),
    entry(
        "networks",
        COMPOSE,
        "container.network",
        "there is one bridge, on which units reach each other by name: `network = \"bridge\"`",
    ),
    entry("expose", COMPOSE, "", "not needed: units on the bridge reach each other's ports"),
    entry("links", COMPOSE, "", "not needed: units on the bridge reach each other by name"),
    entry("deploy", COMPOSE, "limits", "write `[limits]` and `restart`"),
    entry("mem_limit", COMPOSE, "limits.memory", "`memory = \"256M\"` in `[limits]`"),
    entry("cpu_count", COMPOSE, "limits.cpus", "`cpus = 2` in `[limits]`"),
    entry("pids_limit", COMPOSE, "limits.pids", "`pids = 128` in `[limits]`"),
    entry("ulimits", COMPOSE, "limits.nofile", "`nofile = 65536` in `[limits]`"),
    entry("logging", COMPOSE, "log", "`[log]` with `max_size` and `max_files`"),
    entry(
        "build",
        COMPOSE,
        "container.image",
        "build the image elsewhere and put its archive below the host folder: `image = \"./images/web.tar\"`",
    ),
    entry("secrets", COMPOSE, "", "secrets are not supported yet"),
    entry("configs", COMPOSE, "", "put files into the image, or use `environment`"),
    entry("labels", COMPOSE, "", "labels are not supported; a unit has a `description`"),
    entry(
        "security_opt",
        COMPOSE,
        "container.seccomp",
        "`seccomp = \"./profiles/web.json\"` or `no_new_privileges = false` in `[container]`",
    ),
    entry("userns_mode", COMPOSE, "container.userns", "`userns = \"host\"` in `[container]`"),
    entry(
        "mem_reservation",
        COMPOSE,
        "limits.memory_high",
        "`memory_high = \"200M\"` in `[limits]`",
    ),
    entry(
        "memswap_limit",
        COMPOSE,
        "limits.swap",
        "`swap = \"64M\"` in `[limits]`; it does not include memory",
    ),
    entry(
        "cpu_shares",
        COMPOSE,
        "limits.cpu_weight",
        "`cpu_weight = 100` in `[limits]`; 100 corresponds to 1024 shares",
    ),
    entry(
        "init",
        COMPOSE,
        "",
        "add an init such as tini to the image as its entrypoint; when the first process exits, all others are killed",
    ),
    entry(
        "test",
        COMPOSE,
        "healthcheck.command",
        "`command = [\"pg_isready\"]` in `[healthcheck]`, without `CMD`",
    ),
    entry(
        "start_interval",
        COMPOSE,
        "healthcheck.interval",
        "`interval = \"1s\"` in `[healthcheck]`",
    ),
    entry("apiVersion", KUBERNETES, "", "a unit is one flat file; see docs/units.md"),
    entry("metadata", KUBERNETES, "", "the file name is the unit's name"),
    entry("spec", KUBERNETES, "", "a unit is one flat file; see docs/units.md"),
    entry("containers", KUBERNETES, "container", "a unit has one container: `[container]`"),
    entry(
        "initContainers",
        KUBERNETES,
        "",
        "make each a unit with `type = \"oneshot\"` and list it in `requires`",
    ),
    entry(
        "args",
        KUBERNETES,
        "container.command",
        "`command = [\"--port\", \"80\"]` in `[container]`",
    ),
    entry(
        "livenessProbe",
        KUBERNETES,
        "healthcheck",
        "`[healthcheck]` with `http = \":80/healthz\"`; the unit is restarted when it fails",
    ),
    entry(
        "readinessProbe",
        KUBERNETES,
        "healthcheck",
        "`[healthcheck]`, and `ready = \"healthy\"` at the top",
    ),
    entry(
        "startupProbe",
        KUBERNETES,
        "healthcheck.start_period",
        "`start_period = \"10s\"` in `[healthcheck]`",
    ),
    entry("httpGet", KUBERNETES, "healthcheck.http", "`http = \":80/healthz\"` in `[healthcheck]`"),
    entry("tcpSocket", KUBERNETES, "healthcheck.tcp", "`tcp = \":6379\"` in `[healthcheck]`"),
    entry(
        "periodSeconds",
        KUBERNETES,
        "healthcheck.interval",
        "`interval = \"10s\"` in `[healthcheck]`",
    ),
    entry(
        "timeoutSeconds",
        KUBERNETES,
        "healthcheck.timeout",
        "`timeout = \"3s\"` in `[healthcheck]`",
    ),
    entry(
        "failureThreshold",
        KUBERNETES,
        "healthcheck.retries",
        "`retries = 3` in `[healthcheck]`",
    ),
    entry(
        "initialDelaySeconds",
        KUBERNETES,
        "healthcheck.start_period",
        "`start_period = \"10s\"` in `[healthcheck]`",
    ),
    entry(
        "resources",
        KUBERNETES,
        "limits",
        "`[limits]` with `memory = \"256M\"` and `cpus = 0.5`",
    ),
    entry("restartPolicy", KUBERNETES, "restart", "`restart = \"on-failure\"`"),
    entry("terminationGracePeriodSeconds", KUBERNETES, "stop_timeout", "`stop_timeout = \"10s\"`"),
    entry(
        "volumeMounts",
        KUBERNETES,
        "container.volumes",
        "`volumes = [\"data:/var/lib/web\"]` in `[container]`",
    ),
    entry("hostNetwork", KUBERNETES, "container.network", "`network = \"host\"` in `[container]`"),
    entry(
        "seccompProfile",
        KUBERNETES,
        "container.seccomp",
        "`seccomp = \"./profiles/web.json\"` in `[container]`",
    ),
    entry(
        "securityContext",
        KUBERNETES,
        "container.user",
        "`user`, `cap_add`, `cap_drop` and `read_only` in `[container]`",
    ),
    entry("replicas", KUBERNETES, "", "a unit has one container"),
    entry(
        "Exec",
        QUADLET,
        "container.command",
        "`command = [\"--port\", \"80\"]` in `[container]`",
    ),
    entry("PublishPort", QUADLET, "container.ports", "`ports = [\"8080:80\"]` in `[container]`"),
    entry(
        "AddCapability",
        QUADLET,
        "container.cap_add",
        "`cap_add = [\"NET_ADMIN\"]` in `[container]`",
    ),
    entry(
        "DropCapability",
        QUADLET,
        "container.cap_drop",
        "`cap_drop = [\"ALL\"]` in `[container]`",
    ),
    entry(
        "SeccompProfile",
        QUADLET,
        "container.seccomp",
        "`seccomp = \"./profiles/web.json\"` in `[container]`",
    ),
    entry(
        "AddDevice",
        QUADLET,
        "container.devices",
        "`devices = [\"/dev/ttyS0\"]` in `[container]`",
    ),
    entry(
        "HealthCmd",
        QUADLET,
        "healthcheck.command",
        "`command = [\"pg_isready\"]` in `[healthcheck]`",
    ),
    entry("Notify", QUADLET, "ready", "`ready = \"notify\"` at the top"),
    entry("publish", PODMAN, "container.ports", "`ports = [\"8080:80\"]` in `[container]`"),
    entry(
        "volume",
        PODMAN,
        "container.volumes",
        "`volumes = [\"data:/var/lib/web\"]` in `[container]`",
    ),
    entry(
        "mount",
        PODMAN,
        "container.volumes",
        "`volumes = [\"data:/var/lib/web\"]` in `[container]`",
    ),
    entry("cap-add", PODMAN, "container.cap_add", "`cap_add = [\"NET_ADMIN\"]` in `[container]`"),
    entry("cap-drop", PODMAN, "container.cap_drop", "`cap_drop = [\"ALL\"]` in `[container]`"),
    entry("workdir", PODMAN, "container.working_dir", "`working_dir = \"/srv\"` in `[container]`"),
    entry(
        "health-cmd",
        PODMAN,
        "healthcheck.command",
        "`command = [\"pg_isready\"]` in `[healthcheck]`",
    ),
];
