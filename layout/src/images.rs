//! `images.json`: what the image builder resolved, read by the supervisor at boot.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All images of a host, by the text of the units' `image` key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// Image reference as written in the unit → image.
    pub images: BTreeMap<String, Image>,
}

/// One image, ready to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Digest of the image's config, `sha256:<hex>`: the image's identity.
    pub digest: String,
    /// Layers, lowest first: the hex names of the files in `/keel/layers`.
    pub layers: Vec<String>,
    /// The OCI config's run-time fields.
    pub config: ImageConfig,
}

/// The run-time part of an OCI image config
/// (<https://github.com/opencontainers/image-spec/blob/main/config.md>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Env`, `NAME=value`.
    pub env: Vec<String>,
    /// `User`, as written.
    pub user: String,
    /// `WorkingDir`.
    pub working_dir: String,
    /// Keys of `Volumes`.
    pub volumes: Vec<String>,
    /// `StopSignal`, as written (`SIGQUIT`, `3`).
    pub stop_signal: String,
}
