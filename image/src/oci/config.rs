//! The image config: the run-time part, with limits.

use super::layout::json;
use super::{Digest, Problem};
use layout::images::ImageConfig;
use serde::Deserialize;
use serde_json::Value;
use units::json::{JsonError, Node};

/// Maximum number of entries of a list, far above real images. execve(2) limits the sum of all strings
/// (ARG_MAX is 2 MiB).
const MAX_ENTRIES: usize = 1024;
/// Longest string in bytes. An argument of execve(2) can have 128 KiB, a path 4 KiB.
const MAX_STRING: usize = 32 << 10;
/// Limit for all strings of a config together: the supervisor reads the configs of all images from one
/// document.
const MAX_TOTAL: usize = 256 << 10;

#[derive(Deserialize)]
struct ConfigFile {
    architecture: String,
    os: String,
    #[serde(default)]
    config: Value,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<String>,
}

/// Parses a config: its run-time part and the digests of the uncompressed layers, lowest first.
pub(super) fn parse(bytes: &[u8]) -> Result<(ImageConfig, Vec<Digest>), Problem> {
    let file: ConfigFile = json("the config", bytes)?;
    if file.os != "linux" || file.architecture != "amd64" {
        return Err(Problem::Platform(vec![format!("{}/{}", file.os, file.architecture)]));
    }
    let invalid = |key: &str, reason: String| Problem::Config { key: key.to_string(), reason };
    if file.rootfs.kind != "layers" {
        return Err(invalid("rootfs.type", format!("{:?} is not \"layers\"", file.rootfs.kind)));
    }
    let diff_ids = file.rootfs.diff_ids.iter().map(|text| {
        let reason = || format!("invalid digest {text:?} (expected sha256: and 64 hex digits)");
        Digest::parse(text).ok_or_else(|| invalid("rootfs.diff_ids", reason()))
    });
    let diff_ids = diff_ids.collect::<Result<Vec<_>, _>>()?;
    let config = execution(&file.config).map_err(|error| match error {
        JsonError::Value { place, reason } => invalid(&place, reason),
        other => {
            Problem::Document { document: "the config".to_string(), reason: other.to_string() }
        }
    })?;
    check(&config)?;
    Ok((config, diff_ids))
}

/// The run-time part of a config. Docker writes `null` for what is not set.
fn execution(value: &Value) -> Result<ImageConfig, JsonError> {
    if value.is_null() {
        return Ok(ImageConfig::default());
    }
    let config = Node::root(value, "config");
    let texts = |key| config.get(key)?.map_or(Ok(Vec::new()), |node| node.texts());
    let text = |key| Ok(config.get(key)?.map_or(Ok(""), |node| node.text())?.to_owned());
    Ok(ImageConfig {
        entrypoint: texts("Entrypoint")?,
        cmd: texts("Cmd")?,
        env: texts("Env")?,
        user: text("User")?,
        working_dir: text("WorkingDir")?,
        volumes: config.get("Volumes")?.map_or(Ok(Vec::new()), |node| node.names())?,
        stop_signal: text("StopSignal")?,
    })
}

fn check(config: &ImageConfig) -> Result<(), Problem> {
    let invalid = |key: &str, reason: String| Err(Problem::Config { key: key.to_string(), reason });
    let lists = [
        ("Entrypoint", &config.entrypoint),
        ("Cmd", &config.cmd),
        ("Env", &config.env),
        ("Volumes", &config.volumes),
    ];
    let strings = [
        ("User", &config.user),
        ("WorkingDir", &config.working_dir),
        ("StopSignal", &config.stop_signal),
    ];
    for (key, list) in lists {
        if list.len() > MAX_ENTRIES {
            return invalid(key, format!("{} entries (at most {MAX_ENTRIES})", list.len()));
        }
    }
    let listed = lists.iter().flat_map(|(key, list)| list.iter().map(move |text| (*key, text)));
    let mut total = 0;
    for (key, text) in listed.chain(strings) {
        total += text.len();
        if text.len() > MAX_STRING {
            return invalid(
                key,
                format!("a string of {} bytes (at most {MAX_STRING})", text.len()),
            );
        }
        if text.contains('\0') {
            return invalid(key, "a string contains a NUL byte".to_string());
        }
    }
    if total > MAX_TOTAL {
        return invalid("config", format!("{total} bytes of strings (at most {MAX_TOTAL})"));
    }
    if let Some(entry) = config.env.iter().find(|entry| entry.find('=').is_none_or(|at| at == 0)) {
        return invalid("Env", format!("{entry:?} is not NAME=value"));
    }
    let dir =
        Some(&config.working_dir).filter(|dir| !dir.is_empty()).map(|dir| ("WorkingDir", dir));
    let volumes = config.volumes.iter().map(|path| ("Volumes", path));
    for (key, path) in dir.into_iter().chain(volumes) {
        if !path.starts_with('/') {
            return invalid(key, format!("{path:?} is not absolute"));
        }
        // The target of such a path depends on the program that resolves it (CVE-2022-23648,
        // CVE-2026-55686).
        if path.split('/').any(|part| part == "..") {
            return invalid(key, format!("{path:?} contains \"..\""));
        }
    }
    match user_error(&config.user) {
        Some(reason) => invalid("User", format!("{:?}: {reason}", config.user)),
        None => Ok(()),
    }
}

/// Why a text is not a valid `user` or `user:group`. Whether the name exists is checked when the container
/// starts. A number that is too large must not be truncated to 32 bits, which could be root
/// (CVE-2024-40635).
fn user_error(text: &str) -> Option<&'static str> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let part = |id: &str| {
        let digits = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        match id {
            "" => Some("the user or group is empty"),
            // The highest number, -1 as 32 bits, means "unchanged" to setresuid(2).
            _ if digits && !id.parse().is_ok_and(|id: u32| id != u32::MAX) => {
                Some("an id must be 0 to 4294967294")
            }
            _ if id.starts_with(['-', '+']) => Some("an id must not have a sign"),
            _ if id.contains(':') => Some("expected user or user:group"),
            _ if id.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                Some("a name must not contain whitespace or control characters")
            }
            _ => None,
        }
    };
    if text.is_empty() { None } else { part(user).or_else(|| group.and_then(part)) }
}
