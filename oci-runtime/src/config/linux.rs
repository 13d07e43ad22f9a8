//! `linux`: namespaces, kernel settings, paths to protect, device nodes.

use super::node::{ConfigError, Node, quote};
use super::resources::{self, Resources};
use super::{DeviceNode, Network, Users, absolute, inner_path};
use container::{DeviceKind, IdRange};
use std::path::{Path, PathBuf};
use units::sysctl::{check_sysctl, check_sysctl_value};

/// The parsed object.
pub(super) struct Linux<'v> {
    pub(super) users: Users,
    pub(super) network: Network,
    pub(super) masked: Vec<String>,
    pub(super) read_only_paths: Vec<String>,
    pub(super) sysctls: Vec<(String, String)>,
    pub(super) devices: Vec<DeviceNode>,
    pub(super) cgroup: Option<PathBuf>,
    pub(super) resources: Resources,
    pub(super) seccomp: Option<Node<'v>>,
}

pub(super) fn read<'v>(
    node: &Node<'v>,
    warnings: &mut Vec<String>,
) -> Result<Linux<'v>, ConfigError> {
    node.refuse(&["intelRdt", "timeOffsets", "memoryPolicy", "netDevices"], "not supported")?;
    node.refuse(&["mountLabel"], "SELinux is not supported; remove it or leave it empty")?;
    if let Some(personality) = node.get("personality")? {
        personality.refuse(&["flags"], "not supported")?;
        if personality.need("domain")?.text()? != "LINUX" {
            return Err(personality.bad("domain must be LINUX"));
        }
    }
    if let Some(propagation) = node.get("rootfsPropagation")?
        && !matches!(propagation.text()?, "" | "private" | "rprivate")
    {
        let text = "mounts of a container are never propagated; must be private or rprivate";
        return Err(propagation.bad(text));
    }
    let (users, network) = namespaces(node, warnings)?;
    let paths = |name| match node.get(name)? {
        Some(list) => list.list()?.iter().map(inner_path).collect::<Result<Vec<_>, _>>(),
        None => Ok(Vec::new()),
    };
    let resources = match node.get("resources")? {
        Some(node) => resources::read(&node)?,
        None => Resources::default(),
    };
    Ok(Linux {
        masked: paths("maskedPaths")?,
        read_only_paths: paths("readonlyPaths")?,
        sysctls: sysctls(node, &network)?,
        devices: devices(node)?,
        cgroup: cgroup(node)?,
        users,
        network,
        resources,
        seccomp: node.get("seccomp")?,
    })
}

fn namespaces(
    node: &Node<'_>,
    warnings: &mut Vec<String>,
) -> Result<(Users, Network), ConfigError> {
    let list = node.need("namespaces")?;
    let mut seen: Vec<&str> = Vec::new();
    let (mut users, mut network) = (Users::Host, Network::Host);
    for one in list.list()? {
        let kind = one.need("type")?;
        let name = kind.text()?;
        if seen.contains(&name) {
            return Err(kind.bad(format!("duplicate namespace {}", quote(name))));
        }
        seen.push(name);
        let path = one.get("path")?.filter(|path| !path.is_empty());
        match (name, path) {
            ("pid" | "mount" | "uts" | "ipc" | "cgroup", None) => {}
            ("pid" | "mount" | "uts" | "ipc" | "cgroup", Some(path)) => {
                let text = format!("not supported; every container has its own {name} namespace");
                return Err(path.bad(text));
            }
            ("network", None) => network = Network::New,
            ("network", Some(path)) => network = Network::Path(absolute(&path)?),
            ("user", None) => users = Users::New(mapping(node)?),
            ("user", Some(path)) => users = Users::Path(absolute(&path)?),
            _ => return Err(kind.bad(format!("namespace {} is not supported", quote(name)))),
        }
    }
    if let Some(missing) = ["pid", "mount", "uts", "ipc"].iter().find(|kind| !seen.contains(kind)) {
        let text = format!("{missing} is missing; every container has its own {missing} namespace");
        return Err(list.bad(text));
    }
    if !seen.contains(&"cgroup") {
        let text =
            "linux.namespaces: the container has its own cgroup namespace, although not listed";
        warnings.push(text.to_owned());
    }
    if !matches!(users, Users::New(_)) {
        let text = "requires a new user namespace in linux.namespaces";
        node.refuse(&["uidMappings", "gidMappings"], text)?;
    }
    Ok((users, network))
}

/// The single id mapping of a container: the same for users and groups, starting at 0.
fn mapping(node: &Node<'_>) -> Result<IdRange, ConfigError> {
    let one = |name| {
        let list = node.need(name)?;
        let entries = list.list()?;
        let [entry] = entries.as_slice() else {
            return Err(list.bad("must have exactly one entry"));
        };
        let number = |key| entry.need(key)?.number(u32::MAX);
        let inside = number("containerID")?;
        let range = IdRange { first: number("hostID")?, count: number("size")? };
        let last = range.count.checked_sub(1).and_then(|last| range.first.checked_add(last));
        match last {
            _ if inside != 0 => Err(entry.bad("containerID must be 0")),
            None | Some(u32::MAX) => {
                Err(entry.bad("hostID and size exceed the range of valid ids, or size is 0"))
            }
            Some(_) => Ok((range, list)),
        }
    };
    let ((users, _), (groups, list)) = (one("uidMappings")?, one("gidMappings")?);
    match users == groups {
        true => Ok(users),
        false => Err(list.bad("must be the same as uidMappings")),
    }
}

fn sysctls(node: &Node<'_>, network: &Network) -> Result<Vec<(String, String)>, ConfigError> {
    let Some(table) = node.get("sysctl")? else { return Ok(Vec::new()) };
    let own_network = *network != Network::Host;
    let one = |(name, node): (&str, Node<'_>)| {
        let value = node.text()?;
        check_sysctl(name, own_network)
            .and_then(|()| check_sysctl_value(value))
            .map_err(|error| node.bad(error.message.clone()))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    table.members()?.into_iter().map(one).collect()
}

/// Device nodes. Each must match the host's node at the same path.
fn devices(node: &Node<'_>) -> Result<Vec<DeviceNode>, ConfigError> {
    let Some(list) = node.get("devices")? else { return Ok(Vec::new()) };
    let one = |node: &Node<'_>| {
        let path = node.need("path")?;
        let target = inner_path(&path)?;
        if !target.starts_with("/dev/") {
            return Err(path.bad("must be below /dev"));
        }
        let kind = match node.need("type")?.text()? {
            "c" | "u" => DeviceKind::Char,
            "b" => DeviceKind::Block,
            other => return Err(node.bad(format!("type {} is not supported", quote(other)))),
        };
        let number = |name| node.need(name)?.number(i32::MAX as u32);
        let optional = |name, most| node.get(name)?.map(|node| node.number(most)).transpose();
        Ok(DeviceNode {
            path: target,
            kind,
            major: number("major")?,
            minor: number("minor")?,
            mode: optional("fileMode", 0o777)?,
            uid: optional("uid", u32::MAX - 1)?,
            gid: optional("gid", u32::MAX - 1)?,
        })
    };
    list.list()?.iter().map(one).collect()
}

/// A path below the root of the cgroup file system, without a leading slash.
fn cgroup(node: &Node<'_>) -> Result<Option<PathBuf>, ConfigError> {
    let Some(path) = node.get("cgroupsPath")?.filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let text = path.text()?;
    if text.contains(':') {
        return Err(path.bad("the form slice:prefix:name requires systemd, which is not supported"));
    }
    let parts: Vec<&str> =
        text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(path.bad("must not contain '..'"));
    }
    if parts.is_empty() || text.len() >= libc::PATH_MAX as usize {
        return Err(path.bad("is not a valid cgroup name"));
    }
    Ok(Some(parts.iter().fold(PathBuf::new(), |path, part| path.join(Path::new(part)))))
}
