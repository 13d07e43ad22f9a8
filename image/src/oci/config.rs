//! The image config: what matters at run time, within bounds.

use super::layout::json;
use super::{Digest, Problem};
use ipc::images::ImageConfig;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// Most entries of a list. Far above real images; the sum of all strings is what execve(2) must
/// take (ARG_MAX is 2 MiB in all).
const MAX_ENTRIES: usize = 1024;
/// Longest string: a single argument of execve(2) may have 128 KiB, a path 4 KiB.
const MAX_STRING: usize = 32 << 10;
/// All strings of a config: they travel to the supervisor in one document per host.
const MAX_TOTAL: usize = 256 << 10;

#[derive(Deserialize)]
struct ConfigFile {
    architecture: String,
    os: String,
    #[serde(default)]
    config: Option<Execution>,
    rootfs: RootFs,
}

/// Docker writes `null` for what is not set.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<String>,
}

/// Reads a config: its run-time part and the digests of the uncompressed layers, lowest first.
pub(super) fn parse(bytes: &[u8]) -> Result<(ImageConfig, Vec<Digest>), Problem> {
    let file: ConfigFile = json("the config", bytes)?;
    if file.os != "linux" || file.architecture != "amd64" {
        return Err(Problem::Platform(vec![format!("{}/{}", file.os, file.architecture)]));
    }
    let wrong = |key: &str, reason: String| Problem::Config { key: key.to_string(), reason };
    if file.rootfs.kind != "layers" {
        return Err(wrong("rootfs.type", format!("{:?} is not \"layers\"", file.rootfs.kind)));
    }
    let diff_ids = file.rootfs.diff_ids.iter().map(|text| {
        let reason = || format!("{text:?} is no digest (sha256: and 64 hex digits)");
        Digest::parse(text).ok_or_else(|| wrong("rootfs.diff_ids", reason()))
    });
    let diff_ids = diff_ids.collect::<Result<Vec<_>, _>>()?;
    let config = file.config.unwrap_or_default();
    let config = ImageConfig {
        entrypoint: config.entrypoint.unwrap_or_default(),
        cmd: config.cmd.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        volumes: config.volumes.unwrap_or_default().into_keys().collect(),
        stop_signal: config.stop_signal.unwrap_or_default(),
    };
    check(&config)?;
    Ok((config, diff_ids))
}

fn check(config: &ImageConfig) -> Result<(), Problem> {
    let wrong = |key: &str, reason: String| Err(Problem::Config { key: key.to_string(), reason });
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
            return wrong(key, format!("{} entries (at most {MAX_ENTRIES})", list.len()));
        }
    }
    let listed = lists.iter().flat_map(|(key, list)| list.iter().map(move |text| (*key, text)));
    let mut total = 0;
    for (key, text) in listed.chain(strings) {
        total += text.len();
        if text.len() > MAX_STRING {
            return wrong(key, format!("a string of {} bytes (at most {MAX_STRING})", text.len()));
        }
        if text.contains('\0') {
            return wrong(key, "a NUL byte in a string".to_string());
        }
    }
    if total > MAX_TOTAL {
        return wrong("config", format!("{total} bytes of strings (at most {MAX_TOTAL})"));
    }
    if let Some(entry) = config.env.iter().find(|entry| entry.find('=').is_none_or(|at| at == 0)) {
        return wrong("Env", format!("{entry:?} is not NAME=value"));
    }
    let dir = &config.working_dir;
    if !dir.is_empty() && !dir.starts_with('/') {
        return wrong("WorkingDir", format!("{dir:?} is not absolute"));
    }
    if let Some(path) = config.volumes.iter().find(|path| !path.starts_with('/')) {
        return wrong("Volumes", format!("{path:?} is not absolute"));
    }
    Ok(())
}
