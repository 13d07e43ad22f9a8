//! `mounts`: those that every container has, and additional ones.

use super::node::{ConfigError, Node, quote};
use super::{host_path, inner_path};
use container::{Mount, MountSource};
use std::path::Path;

/// Options without effect: set-user-ID bits and devices are always disabled, and mounts are always
/// private.
const HARMLESS: [&str; 10] = [
    "rw", "nosuid", "nodev", "exec", "private", "rprivate", "async", "relatime", "defaults",
    "rexec",
];

/// A file system that every container has.
struct Usual {
    target: &'static str,
    kinds: &'static [&'static str],
    /// Accepted options besides the harmless ones; one that ends in `=` may have any value.
    options: &'static [&'static str],
    /// It is always read-only: warn if the file does not ask for that.
    read_only: bool,
}

const USUAL: [Usual; 7] = [
    Usual { target: "/proc", kinds: &["proc"], options: &["noexec"], read_only: false },
    Usual {
        target: "/dev",
        kinds: &["tmpfs"],
        options: &["strictatime", "noexec", "mode=755", "mode=0755", "size="],
        read_only: false,
    },
    Usual {
        target: "/dev/pts",
        kinds: &["devpts"],
        options: &[
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "ptmxmode=666",
            "mode=0620",
            "mode=620",
            "gid=5",
        ],
        read_only: false,
    },
    Usual { target: "/dev/mqueue", kinds: &["mqueue"], options: &["noexec"], read_only: false },
    Usual { target: "/sys", kinds: &["sysfs"], options: &["noexec", "ro"], read_only: true },
    Usual {
        target: "/sys/fs/cgroup",
        kinds: &["cgroup", "cgroup2"],
        options: &["noexec", "ro"],
        read_only: true,
    },
    Usual {
        target: "/dev/shm",
        kinds: &["tmpfs", "shm"],
        options: &["noexec", "mode=1777", "mode=01777", "size=65536k", "size=67108864", "size=64m"],
        read_only: false,
    },
];

/// A path without `.` and repeated slashes, for comparisons.
fn plain(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.fold(String::new(), |path, part| path + "/" + part)
}

/// Reads the list.
pub(super) fn read(
    list: &Node<'_>,
    bundle: &Path,
    warnings: &mut Vec<String>,
) -> Result<Vec<Mount>, ConfigError> {
    let mut mounts = Vec::new();
    let mut targets: Vec<String> = Vec::new();
    for node in list.list()? {
        let destination = node.need("destination")?;
        let target = plain(&inner_path(&destination)?);
        // The engine mounts parents first. In the order of the list, this mount would cover the
        // other one.
        if let Some(covered) = targets.iter().find(|earlier| is_below(earlier, &target)) {
            return Err(destination.bad(format!("would cover the mount at {}", quote(covered))));
        }
        node.refuse(
            &["uidMappings", "gidMappings"],
            "not supported; mounts have the id mapping of the container",
        )?;
        let kind = node.get("type")?.map_or(Ok(""), |node| node.text())?;
        let options = match node.get("options")? {
            Some(list) => list.texts()?,
            None => Vec::new(),
        };
        targets.push(target.clone());
        if let Some(usual) = USUAL.iter().find(|usual| usual.is(&target, kind)) {
            if usual.accepts(&options) {
                if usual.read_only && !options.iter().any(|option| option == "ro") {
                    warnings.push(format!("mounts: {target} is read-only in every container"));
                }
                continue;
            }
            if target != "/dev/shm" {
                let unsupported = options.iter().find(|option| !usual.accepts_one(option));
                let unsupported = unsupported.map(|option| quote(option)).unwrap_or_default();
                return Err(node.bad(format!(
                    "{target} is the same in every container; option {unsupported} is not supported"
                )));
            }
        }
        let kernels = ["/proc", "/sys", "/dev"].iter().any(|path| is_below(&target, path));
        if target.is_empty() || (kernels && !is_below(&target, "/dev/shm")) {
            let text = "must not be /, /proc, /sys, /dev or below these, except /dev/shm";
            return Err(destination.bad(text));
        }
        mounts.push(one(&node, target, kind, &options, bundle)?);
    }
    Ok(mounts)
}

/// Whether `path` is `parent` or below it; both as [`plain`] returns them.
fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Usual {
    fn is(&self, target: &str, kind: &str) -> bool {
        self.target == target && self.kinds.contains(&kind)
    }

    fn accepts(&self, options: &[String]) -> bool {
        options.iter().all(|option| self.accepts_one(option))
    }

    fn accepts_one(&self, option: &str) -> bool {
        let known = |known: &str| match known.strip_suffix('=') {
            Some(name) => option.split_once('=').is_some_and(|(key, _)| key == name),
            None => option == known,
        };
        HARMLESS.contains(&option) || self.options.iter().any(|name| known(name))
    }
}

fn one(
    node: &Node<'_>,
    target: String,
    kind: &str,
    options: &[String],
    bundle: &Path,
) -> Result<Mount, ConfigError> {
    let bind = kind == "bind" || options.iter().any(|option| option == "bind" || option == "rbind");
    let mut mount = Mount {
        target,
        read_only: false,
        no_exec: false,
        source: MountSource::Tmpfs { size: None, mode: 0o1777 },
    };
    if bind {
        let path = host_path(&node.need("source")?, bundle)?;
        let recursive = options.iter().any(|option| option == "rbind");
        mount.source = MountSource::Bind { path, recursive, copy_up: None };
    } else if kind != "tmpfs" {
        let text = format!("type {} is not supported; use bind or tmpfs", quote(kind));
        return Err(node.bad(text));
    }
    for option in options {
        let done = match option.as_str() {
            "ro" | "rro" => {
                mount.read_only = true;
                true
            }
            "rw" => {
                mount.read_only = false;
                true
            }
            "noexec" | "rnoexec" => {
                mount.no_exec = true;
                true
            }
            "exec" | "rexec" => {
                mount.no_exec = false;
                true
            }
            "bind" | "rbind" | "rnosuid" | "rnodev" => bind,
            known if HARMLESS.contains(&known) => true,
            other => tmpfs_option(&mut mount.source, other).is_some(),
        };
        if !done {
            return Err(node.bad(format!("option {} is not supported", quote(option))));
        }
    }
    Ok(mount)
}

/// `size=` and `mode=` of a tmpfs (tmpfs(5)).
fn tmpfs_option(source: &mut MountSource, option: &str) -> Option<()> {
    let MountSource::Tmpfs { size, mode } = source else { return None };
    match option.split_once('=')? {
        ("size", text) => *size = Some(bytes(text)?),
        ("mode", text) => {
            *mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)?;
        }
        ("uid" | "gid", "0") => {}
        _ => return None,
    }
    Some(())
}

/// A number of bytes, with an optional suffix k, m or g.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|number| plain && *number > 0)?;
    number.checked_mul(1 << shift)
}
