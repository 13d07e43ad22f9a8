//! The `[container]` table.

use crate::capability;
use crate::diagnostic::quoted;
use crate::entry::{parse_device, parse_port, parse_tmpfs, parse_volume};
use crate::kernel_files::parse_unmask;
use crate::model::{Container, NetworkMode, Port, Seccomp, UserNamespace, VolumeSource};
use crate::names::{check_hostname, check_variable_name};
use crate::paths::{absolute_path, check_image, parse_seccomp};
use crate::process::{check_user, parse_capability};
use crate::reader::{Reader, Source};
use crate::schema;
use crate::sysctl::{check_sysctl, check_sysctl_value};
use crate::value::{Text, Value};
use std::ops::Range;

/// Spans of the values that are checked later, against other units or the file system.
#[derive(Default)]
pub(crate) struct Spans {
    pub(crate) image: Option<Range<usize>>,
    pub(crate) ports: Vec<(Port, Range<usize>)>,
    pub(crate) seccomp: Option<Range<usize>>,
}

/// A container with the default of every key.
pub(crate) fn defaults() -> Container {
    Container {
        image: String::new(),
        entrypoint: None,
        command: None,
        environment: std::collections::BTreeMap::new(),
        user: None,
        working_dir: None,
        hostname: None,
        volumes: Vec::new(),
        tmpfs: Vec::new(),
        ports: Vec::new(),
        network: NetworkMode::Bridge,
        read_only: false,
        cap_add: Vec::new(),
        cap_drop: Vec::new(),
        userns: UserNamespace::Auto,
        no_new_privileges: true,
        sysctls: std::collections::BTreeMap::new(),
        unmask: Vec::new(),
        devices: Vec::new(),
        seccomp: Seccomp::Default,
    }
}

/// Reads the table into `container`.
pub(crate) fn read(value: &Value<'_>, container: &mut Container, spans: &mut Spans) {
    let Some(table) = value.reader(&schema::CONTAINER, &schema::UNIT_TABLES) else { return };
    let string = |key: &str| table.get(key).and_then(|value| value.text("a string"));
    match table.get("image") {
        None => {
            let hint = "add `image = \"./images/NAME\"`";
            table.source.error(&table.span, "missing key `image` in `[container]`", hint);
        }
        Some(value) => {
            let text = value.text("a path such as \"./images/web\"");
            if let Some(text) = text
                && let Some(image) = text.checked(check_image)
            {
                container.image = image;
                spans.image = Some(text.span);
            }
        }
    }
    container.entrypoint = table.get("entrypoint").and_then(|value| value.command_line());
    container.command = table.get("command").and_then(|value| value.command_line());
    read_environment(&table, container);
    container.user = string("user").and_then(|text| text.checked(check_user));
    container.working_dir = string("working_dir").and_then(|text| text.read(absolute_path));
    container.hostname = string("hostname").and_then(|text| text.checked(check_hostname));
    let networks =
        [("bridge", NetworkMode::Bridge), ("host", NetworkMode::Host), ("none", NetworkMode::None)];
    if let Some(network) = table.get("network").and_then(|value| value.word(&networks)) {
        container.network = network;
    }
    if let Some(read_only) = table.get("read_only").and_then(|value| value.boolean()) {
        container.read_only = read_only;
    }
    read_mounts(&table, container);
    read_ports(&table, container, spans);
    read_capabilities(&table, container);
    read_privileges(&table, container);
    read_sysctls(&table, container);
    read_unmask(&table, container);
    read_seccomp(&table, container, spans);
    for text in texts(&table, "devices") {
        let Some(device) = text.read(parse_device) else { continue };
        if container.devices.iter().any(|other| other.target == device.target) {
            let message = format!("duplicate device {}", quoted(&device.target));
            table.source.error(&text.span, message, "");
        } else {
            container.devices.push(device);
        }
    }
}

/// Reads a command line that cannot be empty.
pub(crate) fn command(source: &Source<'_>, value: &Value<'_>) -> Option<Vec<String>> {
    let words = value.command_line()?;
    match words.split_first() {
        None => source.error(&value.span, "empty command", "name a program"),
        Some((first, rest)) if first == "CMD" || first == "CMD-SHELL" => {
            let rest: Vec<String> = if first == "CMD" {
                rest.to_vec()
            } else {
                let shell = ["/bin/sh".to_owned(), "-c".to_owned()];
                shell.into_iter().chain(rest.iter().cloned()).collect()
            };
            let rest: Vec<String> = rest.iter().map(|word| format!("{word:?}")).collect();
            let hint = format!("write `command = [{}]`", rest.join(", "));
            source.error(&value.span, format!("`{first}` is compose syntax"), &hint);
        }
        Some((first, _)) if first.is_empty() => {
            source.error(&value.span, "empty program name", "");
        }
        Some(_) => return Some(words),
    }
    None
}

fn texts<'a>(table: &Reader<'a>, key: &str) -> Vec<Text<'a>> {
    table.get(key).and_then(|value| value.texts()).unwrap_or_default()
}

fn read_environment(table: &Reader<'_>, container: &mut Container) {
    let Some(value) = table.get("environment") else { return };
    let hint = if value.is_array() { "write `environment = { NAME = \"value\" }`" } else { "" };
    let Some(variables) = value.table("a table of strings", hint) else { return };
    for entry in value.entries(variables) {
        if let Err(error) = check_variable_name(entry.key()) {
            let hint = error.hint.unwrap_or_default();
            table.source.error(&entry.key_span, error.message, &hint);
        } else if entry.key().contains('\0') {
            table.source.error(
                &entry.key_span,
                "environment variable name contains a NUL character",
                "",
            );
        } else if let Some(text) = entry.text("a string") {
            container.environment.insert(entry.key().to_owned(), text.value.to_owned());
        }
    }
}

fn read_mounts(table: &Reader<'_>, container: &mut Container) {
    let mut targets: Vec<String> = Vec::new();
    let mut is_unique = |target: &str, text: &Text<'_>| {
        if targets.iter().any(|other| other == target) {
            let message = format!("duplicate mount point {}", quoted(target));
            table.source.error(&text.span, message, "");
            return false;
        }
        targets.push(target.to_owned());
        true
    };
    for text in texts(table, "volumes") {
        let Some(volume) = text.read(parse_volume) else { continue };
        if let VolumeSource::HostPath(path) = &volume.source
            && overlaps_host_state(path)
        {
            let message = format!("{} exposes the control state of the host", quoted(path));
            let hint =
                "it contains sockets, keys or units of the host; mount only what the program needs";
            table.source.warning(&text.span, message, hint);
        }
        if is_unique(&volume.target, &text) {
            container.volumes.push(volume);
        }
    }
    for text in texts(table, "tmpfs") {
        let Some(tmpfs) = text.read(parse_tmpfs) else { continue };
        if is_unique(&tmpfs.target, &text) {
            container.tmpfs.push(tmpfs);
        }
    }
}

/// Whether this host path is above or below a directory with the host's own sockets, keys or units
/// (docs/operating.md, "Where things are").
fn overlaps_host_state(path: &str) -> bool {
    const STATE_DIRS: [&str; 4] = ["/run/keel", "/data/keel", "/data/keel-api", "/keel"];
    let below = |path: &str, of: &str| {
        path.strip_prefix(of.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    STATE_DIRS.iter().any(|dir| below(path, dir) || below(dir, path))
}

fn read_ports(table: &Reader<'_>, container: &mut Container, spans: &mut Spans) {
    let Some(value) = table.get("ports") else { return };
    for text in value.texts().unwrap_or_default() {
        let Some(port) = text.read(parse_port) else { continue };
        if let Some(other) = container.ports.iter().find(|other| conflicts(other, &port)) {
            let message = format!("host port {} is published twice", other.host);
            table.source.error(&text.span, message, "");
            continue;
        }
        container.ports.push(port);
        spans.ports.push((port, text.span));
    }
    match container.network {
        NetworkMode::Host if !container.ports.is_empty() => {
            // They must not conflict with the ports of other units: nothing is published.
            spans.ports.clear();
            table.source.warning(
                &value.key_span,
                "`ports` has no effect with `network = \"host\"`",
                "the container listens on the host directly; remove `ports`",
            );
        }
        NetworkMode::None if !container.ports.is_empty() => table.source.error(
            &value.key_span,
            "ports cannot be published with `network = \"none\"`",
            "use `network = \"bridge\"` or remove `ports`",
        ),
        _ => {}
    }
}

/// Whether two published ports use the same host port on the same host address.
pub(crate) fn conflicts(a: &Port, b: &Port) -> bool {
    let same_address = match (a.address, b.address) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    a.host == b.host && a.protocol == b.protocol && same_address
}

fn read_capabilities(table: &Reader<'_>, container: &mut Container) {
    let all = |text: &Text<'_>| text.value.eq_ignore_ascii_case("all");
    for text in texts(table, "cap_drop") {
        if all(&text) {
            container.cap_drop.push("ALL".to_owned());
        } else if let Some(name) = text.read(parse_capability) {
            container.cap_drop.push(name);
        }
    }
    for text in texts(table, "cap_add") {
        if all(&text) {
            let message = "`cap_add` does not accept `ALL`";
            table.source.error(&text.span, message, "list the capabilities that the program needs");
        } else if let Some(name) = text.read(parse_capability) {
            if container.cap_drop.contains(&name) {
                let message = format!("`{name}` is both added and dropped");
                table.source.error(&text.span, message, "");
            }
            container.cap_add.push(name);
        }
    }
    for list in [&mut container.cap_add, &mut container.cap_drop] {
        list.sort();
        list.dedup();
    }
}

fn read_privileges(table: &Reader<'_>, container: &mut Container) {
    let namespaces = [("auto", UserNamespace::Auto), ("host", UserNamespace::Host)];
    if let Some(userns) = table.get("userns").and_then(|value| value.word(&namespaces)) {
        container.userns = userns;
    }
    if let Some(on) = table.get("no_new_privileges").and_then(|value| value.boolean()) {
        container.no_new_privileges = on;
    }
    if container.userns == UserNamespace::Auto
        && let Some(value) = table.get("user").filter(Value::is_string)
        && let Some(text) = value.text("a string")
        && let Some(id) = text.value.split(':').find(|id| is_outside_range(id))
    {
        let message = format!("id {} is outside the container's range of 65536 ids", quoted(id));
        table.source.error(&text.span, message, "use an id up to 65535, or `userns = \"host\"`");
    }
}

/// Whether this is a numeric id that is not mapped in a container with its own user namespace.
fn is_outside_range(id: &str) -> bool {
    id.parse::<u32>().is_ok_and(|id| id > 65_535)
}

fn read_sysctls(table: &Reader<'_>, container: &mut Container) {
    let Some(value) = table.get("sysctls") else { return };
    let hint = if value.is_array() { "write `sysctls = { \"NAME\" = \"value\" }`" } else { "" };
    let Some(settings) = value.table("a table of strings", hint) else { return };
    for entry in value.entries(settings) {
        let own_network = container.network != NetworkMode::Host;
        match check_sysctl(entry.key(), own_network) {
            Err(error) => {
                let hint = error.hint.unwrap_or_default();
                table.source.error(&entry.key_span, error.message, &hint);
            }
            Ok(()) => {
                if let Some(text) = entry.text("a string such as \"1024\"")
                    && let Some(setting) = text.checked(check_sysctl_value)
                {
                    container.sysctls.insert(entry.key().to_owned(), setting);
                }
            }
        }
    }
}

fn read_unmask(table: &Reader<'_>, container: &mut Container) {
    for text in texts(table, "unmask") {
        let Some(paths) = text.read(parse_unmask) else { continue };
        if container.userns == UserNamespace::Host && paths.iter().any(|path| controls_host(path)) {
            let message =
                format!("unmasking {} gives the unit full control of the host", quoted(text.value));
            let hint = "with `userns = \"host\"` the kernel requires no capability to write there";
            table.source.warning(&text.span, message, hint);
        }
        container.unmask.extend(paths);
    }
    container.unmask.sort();
    container.unmask.dedup();
}

/// Whether the host's root can write there without any capability (proc_sysctl.c, `test_perm`;
/// sysrq.c, `write_sysrq_trigger`).
fn controls_host(path: &str) -> bool {
    ["/proc/sys", "/proc/sysrq-trigger"].contains(&path)
}

fn read_seccomp(table: &Reader<'_>, container: &mut Container, spans: &mut Spans) {
    let Some(text) = table.get("seccomp").and_then(|value| value.text("a string")) else { return };
    let Some(seccomp) = text.read(parse_seccomp) else { return };
    if matches!(seccomp, Seccomp::Profile(_)) {
        spans.seccomp = Some(text.span);
    }
    container.seccomp = seccomp;
}

/// The settings with which a unit relaxes its isolation from the host, as short phrases for people.
/// Empty for a unit with the default isolation.
pub fn relaxed_settings(unit: &crate::model::Unit) -> Vec<String> {
    let container = &unit.container;
    let mut out = Vec::new();
    if container.userns == UserNamespace::Host {
        out.push("root inside is the host's root".to_owned());
    }
    if !container.no_new_privileges {
        out.push("its programs may gain privileges".to_owned());
    }
    if container.network == NetworkMode::Host {
        out.push("shares the host's network".to_owned());
    }
    for volume in &container.volumes {
        if let VolumeSource::HostPath(path) = &volume.source {
            let how = if volume.read_only { "reads" } else { "reads and writes" };
            out.push(format!("{how} the host's {path}"));
        }
    }
    let added = container.cap_add.iter().map(String::as_str);
    let beyond: Vec<&str> = added.filter(|name| !capability::DEFAULT.contains(name)).collect();
    if !beyond.is_empty() {
        out.push(format!("has added capabilities: {}", beyond.join(", ")));
    }
    if container.userns == UserNamespace::Host
        && container.unmask.iter().any(|path| controls_host(path))
    {
        out.push("controls the host's kernel through its files".to_owned());
    }
    if container.unmask.len() == crate::kernel_files::all().count() {
        out.push("sees and writes all kernel files".to_owned());
    } else if !container.unmask.is_empty() {
        out.push(format!("sees and writes kernel files: {}", container.unmask.join(", ")));
    }
    for device in &container.devices {
        out.push(format!("uses the host's device {}", device.source));
    }
    match &container.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => out.push("has no seccomp filter".to_owned()),
        Seccomp::Profile(path) => out.push(format!("uses its own seccomp profile {path}")),
    }
    out
}
