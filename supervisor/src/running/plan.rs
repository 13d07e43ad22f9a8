//! From a unit and its image to a container: which value takes precedence, what is mounted where.

use crate::config::address;
use crate::kernel::{CallError, Kernel};
use crate::running::notify;
use container::{
    CapSet, CopyUp, Device, InlineFile, Limits, Mount, MountSource, Process, Resource, Rlimit,
};
use layout::images::{Image, ImageConfig};
use layout::paths;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use units::model::{NetworkMode, Ready, Unit, VolumeSource};
use units::process::parse_signal;

/// Why a unit cannot be turned into a container.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Neither the unit nor the image names a program.
    #[error("nothing to run: neither the unit nor its image has an entrypoint or a command")]
    NoProgram,
    /// An unknown name in `cap_add` or `cap_drop`.
    #[error("unknown capability {0}")]
    Capability(String),
    /// A volume's directory cannot be created.
    #[error("volume {name}: {source}")]
    Volume {
        /// The volume.
        name: String,
        /// Its directory, and why.
        source: CallError,
    },
}

/// The program: the unit's values take precedence over the image's, as in compose and podman.
///
/// # Errors
/// There is nothing to run, or a capability is unknown.
pub fn process(unit: &Unit, image: &Image) -> Result<Process, PlanError> {
    let container = &unit.container;
    let config = &image.config;
    let caps = CapSet::from_names(&container.cap_add, &container.cap_drop)
        .map_err(PlanError::Capability)?;
    let nofile = unit.limits.nofile.map(|limit| Rlimit {
        resource: Resource::NoFile,
        soft: limit,
        hard: limit,
    });
    let mut env = environment(&container.environment, config);
    if unit.ready == Ready::Notify {
        env.push(format!("NOTIFY_SOCKET={}", notify::INSIDE));
    }
    Ok(Process {
        argv: argv(unit, config)?,
        env,
        cwd: container.working_dir.clone().unwrap_or_else(|| config.working_dir.clone()),
        user: container.user.clone().unwrap_or_else(|| config.user.clone()),
        groups: None,
        umask: Process::UMASK,
        caps,
        inheritable: CapSet::EMPTY,
        ambient: CapSet::EMPTY,
        no_new_privs: container.no_new_privileges,
        rlimits: nofile.into_iter().collect(),
        oom_score_adj: 0,
    })
}

/// An entrypoint of the unit's own also drops the image's command, which was meant for the image's
/// entrypoint.
fn argv(unit: &Unit, config: &ImageConfig) -> Result<Vec<String>, PlanError> {
    let container = &unit.container;
    let (mut argv, command) = match (&container.entrypoint, &container.command) {
        (Some(entrypoint), command) => (entrypoint.clone(), command.clone().unwrap_or_default()),
        (None, Some(command)) => (config.entrypoint.clone(), command.clone()),
        (None, None) => (config.entrypoint.clone(), config.cmd.clone()),
    };
    argv.extend(command);
    if argv.is_empty() { Err(PlanError::NoProgram) } else { Ok(argv) }
}

/// The image's variables, each replaced where the unit names it too.
fn environment(unit: &BTreeMap<String, String>, config: &ImageConfig) -> Vec<String> {
    let name = |variable: &str| variable.split_once('=').map(|(name, _)| name.to_owned());
    let kept = config
        .env
        .iter()
        .filter(|variable| name(variable).is_some_and(|name| !unit.contains_key(&name)));
    kept.cloned().chain(unit.iter().map(|(name, value)| format!("{name}={value}"))).collect()
}

/// The signal that asks the main process to stop, if the unit does not name one.
pub fn image_stop_signal(image: Option<&Image>) -> i32 {
    let declared = image.and_then(|image| parse_signal(&image.config.stop_signal).ok());
    declared.unwrap_or(libc::SIGTERM)
}

/// The unit's limits as the cgroup takes them.
pub fn limits(unit: &Unit) -> Limits {
    Limits {
        memory: unit.limits.memory,
        memory_high: unit.limits.memory_high,
        swap: unit.limits.swap,
        cpu_weight: unit.limits.cpu_weight,
        cpu_millis: unit.limits.cpu_millis,
        pids: unit.limits.pids,
    }
}

/// Volumes, tmpfs, and the files that the host provides to every container. Creates the directories
/// of named volumes below `volumes`.
///
/// # Errors
/// A volume's directory.
pub fn mounts(
    kernel: &impl Kernel,
    unit: &Unit,
    image: &Image,
    volumes: &Path,
) -> Result<Vec<Mount>, PlanError> {
    let container = &unit.container;
    let mut mounts = image_volumes(kernel, unit, &image.config)?;
    for volume in &container.volumes {
        let source = match &volume.source {
            VolumeSource::HostPath(path) => {
                MountSource::Bind { path: PathBuf::from(path), recursive: true, copy_up: None }
            }
            VolumeSource::Named(name) => kept_directory(kernel, &volumes.join(name))
                .map_err(|source| PlanError::Volume { name: name.clone(), source })?,
        };
        mounts.push(Mount {
            target: volume.target.clone(),
            read_only: volume.read_only,
            no_exec: false,
            source,
        });
    }
    for tmpfs in &container.tmpfs {
        let source = MountSource::Tmpfs { size: tmpfs.size, mode: tmpfs.mode };
        mounts.push(Mount {
            target: tmpfs.target.clone(),
            read_only: false,
            no_exec: false,
            source,
        });
    }
    if container.network != NetworkMode::None {
        // The file itself, not a copy: netsetup writes to it when name servers become known later. Its
        // directory belongs to netsetup, which must not be able to make other files visible.
        mounts.push(Mount {
            target: "/etc/resolv.conf".to_owned(),
            read_only: true,
            no_exec: false,
            source: MountSource::RegularFile { path: PathBuf::from(paths::RUN_RESOLV) },
        });
    }
    if unit.ready == Ready::Notify {
        mounts.push(Mount {
            target: notify::INSIDE.to_owned(),
            read_only: false,
            no_exec: false,
            source: MountSource::Bind {
                path: notify::path(&unit.name),
                recursive: false,
                copy_up: None,
            },
        });
    }
    Ok(mounts)
}

/// The paths that the image declares as volumes and on which the unit mounts nothing. Each is a
/// directory of the unit that outlives its runs but not the boot: data that must last longer needs a
/// named volume. It is writable even where the root is read-only.
fn image_volumes(
    kernel: &impl Kernel,
    unit: &Unit,
    config: &ImageConfig,
) -> Result<Vec<Mount>, PlanError> {
    let container = &unit.container;
    let plain = |path: &str| path.trim_end_matches('/').to_owned();
    let taken: BTreeSet<String> = container
        .volumes
        .iter()
        .map(|volume| plain(&volume.target))
        .chain(container.tmpfs.iter().map(|tmpfs| plain(&tmpfs.target)))
        .collect();
    let mut mounts = Vec::new();
    for (number, path) in config.volumes.iter().enumerate() {
        let target = plain(path);
        if target.is_empty() || taken.contains(&target) {
            continue;
        }
        // Names of volumes cannot contain this character.
        let unit_dir = Path::new(paths::RUN_VOLUMES).join(format!("@{}", unit.name));
        let source = kernel
            .make_dir(&unit_dir, 0o700)
            .and_then(|()| kept_directory(kernel, &unit_dir.join(number.to_string())))
            .map_err(|source| PlanError::Volume { name: target.clone(), source })?;
        mounts.push(Mount { target, read_only: false, no_exec: false, source });
    }
    Ok(mounts)
}

/// A directory that outlives the runs, filled from the image at its first use.
fn kept_directory(kernel: &impl Kernel, dir: &Path) -> Result<MountSource, CallError> {
    let path = dir.join("_data");
    kernel.make_dir(dir, 0o700)?;
    kernel.make_dir(&path, 0o755)?;
    let copy_up = Some(CopyUp { marker: dir.join("initialized") });
    Ok(MountSource::Bind { path, recursive: false, copy_up })
}

/// `/etc/hostname` and `/etc/hosts`.
pub fn files(
    unit: &Unit,
    addresses: &BTreeMap<String, Ipv4Addr>,
    gateway: Ipv4Addr,
) -> Vec<InlineFile> {
    let hostname = hostname(unit);
    let file = |path: &str, text: String| InlineFile {
        path: path.to_owned(),
        content: text.into_bytes(),
        mode: 0o644,
    };
    vec![
        file("/etc/hosts", address::hosts_file(&hostname, addresses, gateway)),
        file("/etc/hostname", format!("{hostname}\n")),
    ]
}

/// The host name inside.
pub fn hostname(unit: &Unit) -> String {
    unit.container.hostname.clone().unwrap_or_else(|| unit.name.clone())
}

/// Device nodes besides the usual ones.
pub fn devices(unit: &Unit) -> Vec<Device> {
    let devices = unit.container.devices.iter();
    devices
        .map(|device| Device {
            source: PathBuf::from(&device.source),
            target: device.target.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_of_images_are_understood() {
        let of = |declared: &str| {
            let config = ImageConfig { stop_signal: declared.to_owned(), ..ImageConfig::default() };
            let image = Image { digest: String::new(), layers: Vec::new(), config };
            image_stop_signal(Some(&image))
        };
        assert_eq!(["SIGQUIT", "quit", "3", "SIGRTMIN+3"].map(of), [3, 3, 3, 37]);
        // An invalid signal, or one that does not end a process, leaves the default.
        assert_eq!(["", "SIGRTMIN+99", "65", "SIGCONT"].map(of), [15; 4]);
        assert_eq!(image_stop_signal(None), 15);
    }

    #[test]
    fn a_unit_overrides_the_variables_of_its_image() {
        let config = ImageConfig {
            env: vec!["A=1".into(), "B=2".into(), "broken".into()],
            ..ImageConfig::default()
        };
        let unit = BTreeMap::from([("B".to_owned(), "3".to_owned())]);
        assert_eq!(environment(&unit, &config), ["A=1", "B=3"]);
    }
}
