//! `config.json` (runtime-spec `config.md`, `config-linux.md`): parsed, checked, and converted for
//! the engine's plan. Pure: does not access the host.
//!
//! A request that is not supported is an error that names its key. What the engine gives to every
//! container (its /dev, masked paths, `nosuid` on volumes) cannot be removed; a file that asks for
//! less causes a warning. Keys that are not in the specification are ignored, as it requires.

mod linux;
mod mounts;
mod node;
mod process;
mod resources;

use container::seccomp::{Document, Filter, Kernel};
use container::{CapSet, DeviceKind, IdRange, Mount, Process};
pub use node::{ConfigError, MAX_SIZE};
use node::{DOCUMENT, Node, parse, quote};
pub use resources::{Devices, Setting};
use serde_json::{Map, Value};
use std::path::{Component, Path, PathBuf};

/// A container's `config.json`.
#[derive(Debug, Clone)]
pub struct Config {
    /// `ociVersion`.
    pub version: String,
    /// `hostname`; `None`: the host's.
    pub hostname: Option<String>,
    /// `annotations`, which have no effect.
    pub annotations: Map<String, Value>,
    /// Absolute path of the root file system.
    pub root: PathBuf,
    /// `root.readonly`.
    pub read_only: bool,
    /// The program.
    pub program: Program,
    /// Mounts in addition to those that every container has.
    pub mounts: Vec<Mount>,
    /// `linux.maskedPaths`.
    pub masked: Vec<String>,
    /// `linux.readonlyPaths`.
    pub read_only_paths: Vec<String>,
    /// `linux.sysctl`.
    pub sysctls: Vec<(String, String)>,
    /// `linux.devices`.
    pub devices: Vec<DeviceNode>,
    /// `linux.resources.devices`.
    pub device_access: Devices,
    /// The container's user and group ids.
    pub users: Users,
    /// The container's network.
    pub network: Network,
    /// `linux.cgroupsPath`: names below the root of the cgroup file system. `None`: not given.
    pub cgroup: Option<PathBuf>,
    /// Values for the cgroup's files, in order.
    pub settings: Vec<Setting>,
    /// `linux.seccomp`.
    pub seccomp: Option<Filter>,
    /// `hooks`.
    pub hooks: Hooks,
    /// What is not exactly as asked.
    pub warnings: Vec<String>,
}

/// `process`: the engine's form, and the keys that have no place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program and its user.
    pub process: Process,
    /// `oomScoreAdj` was given; otherwise the caller's value is inherited.
    pub oom_score_given: bool,
    /// `terminal`, and its rows and columns.
    pub terminal: Option<Option<(u16, u16)>>,
    /// What is not exactly as asked.
    pub warnings: Vec<String>,
}

/// The user and group ids of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// The host's.
    Host,
    /// Its own, in a new namespace.
    New(IdRange),
    /// Those of the namespace at this path.
    Path(PathBuf),
}

/// A device node (mknod(2)). It must match the host's node at the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Absolute path, below /dev.
    pub path: String,
    /// Its kind.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permissions, if given.
    pub mode: Option<u32>,
    /// Owner, if given.
    pub uid: Option<u32>,
    /// Group, if given.
    pub gid: Option<u32>,
}

/// The network of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The host's.
    Host,
    /// Its own: a new namespace with only a loopback link.
    New,
    /// That of the namespace at this path.
    Path(PathBuf),
}

/// Programs of the host that run at defined points of the lifecycle (runtime-spec `config.md`,
/// "POSIX-platform Hooks").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// `prestart`, then `createRuntime`: after the setup.
    pub create: Vec<Hook>,
    /// After the program was started.
    pub poststart: Vec<Hook>,
    /// After the container was deleted.
    pub poststop: Vec<Hook>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Its arguments, its name first; empty: only its name.
    pub args: Vec<String>,
    /// Its complete environment.
    pub env: Vec<String>,
    /// Seconds after which it is killed.
    pub timeout: Option<u32>,
}

impl Config {
    /// Parses a `config.json`; relative paths in it are relative to the absolute path `bundle`.
    ///
    /// # Errors
    /// The first invalid or unsupported key.
    pub fn parse(text: &[u8], bundle: &Path) -> Result<Config, ConfigError> {
        let value = parse(text, MAX_SIZE)?;
        let top = Node::root(&value, DOCUMENT);
        let version = version(&top)?;
        top.refuse(&["domainname"], "not supported; remove it")?;
        top.refuse(&["solaris", "windows", "vm", "zos", "freebsd"], "is for another platform")?;
        let root = top.need("root")?;
        let path = root.need("path")?;
        let read_only = root.get("readonly")?.map_or(Ok(false), |node| node.boolean())?;
        let program = Program::read(&top.need("process")?)?;
        let mut warnings = program.warnings.clone();
        let mounts = match top.get("mounts")? {
            Some(list) => mounts::read(&list, bundle, &mut warnings)?,
            None => Vec::new(),
        };
        let linux = linux::read(&top.need("linux")?, &mut warnings)?;
        let seccomp = match &linux.seccomp {
            Some(node) => Some(seccomp(node, program.process.caps, &mut warnings)?),
            None => None,
        };
        let hooks = top.get("hooks")?.map_or(Ok(Hooks::default()), |node| hooks(&node))?;
        let annotations = match top.get("annotations")? {
            None => Map::new(),
            Some(node) => annotations(&node)?,
        };
        Ok(Config {
            version,
            hostname: hostname(&top)?,
            annotations,
            root: host_path(&path, bundle)?,
            read_only,
            mounts,
            masked: linux.masked,
            read_only_paths: linux.read_only_paths,
            sysctls: linux.sysctls,
            devices: linux.devices,
            device_access: linux.resources.devices,
            users: linux.users,
            network: linux.network,
            cgroup: linux.cgroup,
            settings: linux.resources.settings,
            seccomp,
            hooks,
            warnings,
            program,
        })
    }
}

/// `ociVersion`: any 1.x.y, because later versions only add keys.
fn version(top: &Node<'_>) -> Result<String, ConfigError> {
    let node = top.need("ociVersion")?;
    let text = node.text()?;
    let plain = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = plain.split('.').collect();
    let number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match numbers.as_slice() {
        [major, _, _] if *major == "1" && numbers.iter().all(number) => Ok(text.to_owned()),
        _ => Err(node.bad(format!("unsupported version {}; must be 1.x.y", quote(text)))),
    }
}

fn hostname(top: &Node<'_>) -> Result<Option<String>, ConfigError> {
    let Some(node) = top.get("hostname")?.filter(|node| !node.is_empty()) else { return Ok(None) };
    let name = node.text()?;
    match name.len() <= 64 {
        true => Ok(Some(name.to_owned())),
        false => Err(node.bad("must have 1 to 64 bytes")),
    }
}

/// A path on the host; relative to the bundle unless absolute.
fn host_path(node: &Node<'_>, bundle: &Path) -> Result<PathBuf, ConfigError> {
    let text = node.text()?;
    if text.is_empty() {
        return Err(node.bad("must not be empty"));
    }
    let path = Path::new(text);
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(node.bad("must not contain '..'"));
    }
    if text.len() >= libc::PATH_MAX as usize {
        return Err(node.bad("is too long"));
    }
    Ok(bundle.join(path))
}

/// A path on the host that must be absolute.
fn absolute(node: &Node<'_>) -> Result<PathBuf, ConfigError> {
    match node.text()?.starts_with('/') {
        true => host_path(node, Path::new("/")),
        false => Err(node.bad("must be an absolute path")),
    }
}

/// A path inside the container.
fn inner_path(node: &Node<'_>) -> Result<String, ConfigError> {
    absolute(node)?;
    node.text().map(str::to_owned)
}

fn annotations(node: &Node<'_>) -> Result<Map<String, Value>, ConfigError> {
    let members = node.members()?;
    members
        .into_iter()
        .map(|(name, node)| Ok((name.to_owned(), Value::from(node.text()?))))
        .collect()
}

fn seccomp(
    node: &Node<'_>,
    caps: CapSet,
    warnings: &mut Vec<String>,
) -> Result<Filter, ConfigError> {
    let document =
        Document::from_value(node.value()).map_err(|error| node.bad(error.to_string()))?;
    let (profile, more) = document.profile(caps, Kernel::running());
    let all = document.warnings().iter().chain(&more);
    warnings.extend(all.map(|text| format!("linux.seccomp: {text}")));
    Filter::new(&profile).map_err(|error| node.bad(error.to_string()))
}

fn hooks(node: &Node<'_>) -> Result<Hooks, ConfigError> {
    node.refuse(
        &["createContainer", "startContainer"],
        "not supported; hooks run on the host only: prestart, createRuntime, poststart and poststop",
    )?;
    let list = |name| match node.get(name)? {
        Some(list) => list.list()?.iter().map(hook).collect::<Result<Vec<Hook>, _>>(),
        None => Ok(Vec::new()),
    };
    let mut create = list("prestart")?;
    create.extend(list("createRuntime")?);
    Ok(Hooks { create, poststart: list("poststart")?, poststop: list("poststop")? })
}

fn hook(node: &Node<'_>) -> Result<Hook, ConfigError> {
    let texts = |name| node.get(name)?.map_or(Ok(Vec::new()), |list| list.texts());
    let timeout = match node.get("timeout")? {
        Some(node) => match node.number(i32::MAX as u32)? {
            0 => return Err(node.bad("must be greater than 0")),
            seconds => Some(seconds),
        },
        None => None,
    };
    Ok(Hook {
        path: absolute(&node.need("path")?)?,
        args: texts("args")?,
        env: texts("env")?,
        timeout,
    })
}

#[cfg(test)]
mod tests;
