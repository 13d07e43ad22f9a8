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

/// Where the parts of a container stand that are checked against other units or the file system.
#[derive(Default)]
pub(crate) struct Places {
    pub(crate) image: Option<Range<usize>>,
    pub(crate) ports: Vec<(Port, Range<usize>)>,
    pub(crate) seccomp: Option<Range<usize>>,
}

/// A container of which nothing has been said.
pub(crate) fn blank() -> Container {
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
pub(crate) fn read(value: &Value<'_>, container: &mut Container, places: &mut Places) {
    let Some(table) = value.reader(&schema::CONTAINER, &schema::UNIT_TABLES) else { return };
    let string = |key: &str| table.get(key).and_then(|value| value.text("a string"));
    match table.get("image") {
        None => {
            let hint = "add `image = \"./images/NAME\"`";
            table.source.error(&table.place, "`[container]` names no `image`", hint);
        }
        Some(value) => {
            let text = value.text("a path such as \"./images/web\"");
            if let Some(text) = text
                && let Some(image) = text.checked(check_image)
            {
                container.image = image;
                places.image = Some(text.span);
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
    read_ports(&table, container, places);
    read_capabilities(&table, container);
    read_privileges(&table, container);
    read_sysctls(&table, container);
    read_unmask(&table, container);
    read_seccomp(&table, container, places);
    for text in texts(&table, "devices") {
        let Some(device) = text.read(parse_device) else { continue };
        if container.devices.iter().any(|other| other.target == device.target) {
            let message = format!("{} is there twice", quoted(&device.target));
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
        None => source.error(&value.span, "an empty command", "name a program"),
        Some((first, rest)) if first == "CMD" || first == "CMD-SHELL" => {
            let rest: Vec<String> = if first == "CMD" {
                rest.to_vec()
            } else {
                let shell = ["/bin/sh".to_owned(), "-c".to_owned()];
                shell.into_iter().chain(rest.iter().cloned()).collect()
            };
            let rest: Vec<String> = rest.iter().map(|word| format!("{word:?}")).collect();
            let hint = format!("write `command = [{}]`", rest.join(", "));
            source.error(&value.span, format!("`{first}` is compose's"), &hint);
        }
        Some((first, _)) if first.is_empty() => {
            source.error(&value.span, "an empty program name", "");
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
        if let Err(mistake) = check_variable_name(entry.key()) {
            table.source.error(&entry.key_span, mistake.message, "");
        } else if entry.key().contains('\0') {
            table.source.error(&entry.key_span, "a variable's name holds a NUL character", "");
        } else if let Some(text) = entry.text("a string") {
            container.environment.insert(entry.key().to_owned(), text.value.to_owned());
        }
    }
}

fn read_mounts(table: &Reader<'_>, container: &mut Container) {
    let mut taken: Vec<String> = Vec::new();
    let mut free = |target: &str, text: &Text<'_>| {
        if taken.iter().any(|other| other == target) {
            let message = format!("two mounts at {}", quoted(target));
            table.source.error(&text.span, message, "");
            return false;
        }
        taken.push(target.to_owned());
        true
    };
    for text in texts(table, "volumes") {
        let Some(volume) = text.read(parse_volume) else { continue };
        if let VolumeSource::HostPath(path) = &volume.source
            && holds_the_hosts_state(path)
        {
            let message = format!("{} holds what the host is ruled by", quoted(path));
            let hint = "its sockets, keys and units: mount what the program needs and no more";
            table.source.warning(&text.span, message, hint);
        }
        if free(&volume.target, &text) {
            container.volumes.push(volume);
        }
    }
    for text in texts(table, "tmpfs") {
        let Some(tmpfs) = text.read(parse_tmpfs) else { continue };
        if free(&tmpfs.target, &text) {
            container.tmpfs.push(tmpfs);
        }
    }
}

/// Whether the host's own sockets, keys or units are in this directory of the host, or this in theirs
/// (docs/operating.md, "Where things are").
fn holds_the_hosts_state(path: &str) -> bool {
    const STATES: [&str; 4] = ["/run/keel", "/data/keel", "/data/keel-api", "/keel"];
    let below = |path: &str, of: &str| {
        path.strip_prefix(of.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    STATES.iter().any(|state| below(path, state) || below(state, path))
}

fn read_ports(table: &Reader<'_>, container: &mut Container, places: &mut Places) {
    let Some(value) = table.get("ports") else { return };
    for text in value.texts().unwrap_or_default() {
        let Some(port) = text.read(parse_port) else { continue };
        if let Some(other) = container.ports.iter().find(|other| clash(other, &port)) {
            let message = format!("port {} of the host is published twice", other.host);
            table.source.error(&text.span, message, "");
            continue;
        }
        container.ports.push(port);
        places.ports.push((port, text.span));
    }
    match container.network {
        NetworkMode::Host if !container.ports.is_empty() => {
            // They would look like open or closed doors where there are none.
            places.ports.clear();
            table.source.warning(
                &value.key_span,
                "`ports` has no effect with `network = \"host\"`",
                "the container listens on the host itself; leave `ports` out",
            );
        }
        NetworkMode::None if !container.ports.is_empty() => table.source.error(
            &value.key_span,
            "ports cannot be published with `network = \"none\"`",
            "use `network = \"bridge\"` or leave `ports` out",
        ),
        _ => {}
    }
}

/// Whether two published ports take the same port of the same address of the host.
pub(crate) fn clash(a: &Port, b: &Port) -> bool {
    let meet = match (a.address, b.address) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    a.host == b.host && a.protocol == b.protocol && meet
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
            let message = "`ALL` capabilities cannot be added";
            table.source.error(&text.span, message, "name those that it needs");
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
        && let Some(id) = text.value.split(':').find(|id| beyond(id))
    {
        let message = format!("{} is beyond the 65536 ids of the container", quoted(id));
        table.source.error(&text.span, message, "a smaller id, or `userns = \"host\"`");
    }
}

/// Whether this is a number that a container with users of its own does not have.
fn beyond(id: &str) -> bool {
    id.parse::<u32>().is_ok_and(|id| id > 65_535)
}

fn read_sysctls(table: &Reader<'_>, container: &mut Container) {
    let Some(value) = table.get("sysctls") else { return };
    let hint = if value.is_array() { "write `sysctls = { \"NAME\" = \"value\" }`" } else { "" };
    let Some(settings) = value.table("a table of strings", hint) else { return };
    for entry in value.entries(settings) {
        let own_network = container.network != NetworkMode::Host;
        match check_sysctl(entry.key(), own_network) {
            Err(mistake) => {
                table.source.error(
                    &entry.key_span,
                    mistake.message,
                    mistake.hint.as_deref().unwrap_or_default(),
                );
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
        if container.userns == UserNamespace::Host && paths.iter().any(|path| rules_the_host(path))
        {
            let message = format!("{} gives the unit the whole host", quoted(text.value));
            let hint = "with `userns = \"host\"` the kernel asks for nothing more: no capability, no other key";
            table.source.warning(&text.span, message, hint);
        }
        container.unmask.extend(paths);
    }
    container.unmask.sort();
    container.unmask.dedup();
}

/// Whether to write there takes no capability but the host's root (proc_sysctl.c, `test_perm`;
/// sysrq.c, `write_sysrq_trigger`).
fn rules_the_host(path: &str) -> bool {
    ["/proc/sys", "/proc/sysrq-trigger"].contains(&path)
}

fn read_seccomp(table: &Reader<'_>, container: &mut Container, places: &mut Places) {
    let Some(text) = table.get("seccomp").and_then(|value| value.text("a string")) else { return };
    let Some(seccomp) = text.read(parse_seccomp) else { return };
    if matches!(seccomp, Seccomp::Profile(_)) {
        places.seccomp = Some(text.span);
    }
    container.seccomp = seccomp;
}

/// What weakens the walls between a unit and the host: short phrases for people, empty for a unit
/// that has all of them.
pub fn weakenings(unit: &crate::model::Unit) -> Vec<String> {
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
        && container.unmask.iter().any(|path| rules_the_host(path))
    {
        out.push("rules the host's kernel by its files".to_owned());
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
