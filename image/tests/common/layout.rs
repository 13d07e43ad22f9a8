//! OCI layouts as directories and archives, built by hand.

use super::Scratch;
use super::tarball::Tarball;
use image::oci::{Digest, pack_image};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The files of a layout, by name.
#[derive(Default, Clone)]
pub struct Layout {
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Layout {
    pub fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = Digest::of(&bytes);
        let descriptor =
            json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()});
        self.files.insert(format!("blobs/sha256/{}", digest.hex()), bytes);
        descriptor
    }

    pub fn document(&mut self, media_type: &str, value: &Value) -> Value {
        self.blob(media_type, value.to_string().into_bytes())
    }

    pub fn index(&mut self, manifests: Value) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.files.insert("index.json".into(), index.to_string().into_bytes());
        let layout = json!({"imageLayoutVersion": "1.0.0"});
        self.files.insert("oci-layout".into(), layout.to_string().into_bytes());
    }

    /// A manifest of these layers, each uncompressed and as stored.
    pub fn image(&mut self, layers: &[(Vec<u8>, Vec<u8>, &str)], config: &Value) -> Value {
        let diff_ids: Vec<_> = layers.iter().map(|(tar, ..)| Digest::of(tar).to_string()).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.document(CONFIG, &config);
        let layers: Vec<_> =
            layers.iter().map(|(_, blob, kind)| self.blob(kind, blob.clone())).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        self.document(MANIFEST, &manifest)
    }

    pub fn dir(&self, scratch: &Scratch) -> PathBuf {
        let path = scratch.path("image");
        for (name, bytes) in &self.files {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }
        path
    }

    pub fn archive(&self, scratch: &Scratch) -> PathBuf {
        let path = scratch.path("image.tar");
        let mut tar = Tarball::new();
        for (name, content) in &self.files {
            tar = tar.file(name, content);
        }
        std::fs::write(&path, tar.end()).unwrap();
        path
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // Two members, as written by pigz and stargz.
    for half in [&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]] {
        let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
        encoder.write_all(half).unwrap();
        out = encoder.finish().unwrap();
    }
    out
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let half = bytes.len() / 2;
    [
        compress_to_vec(&bytes[..half], CompressionLevel::Fastest).as_slice(),
        &skippable,
        &compress_to_vec(&bytes[half..], CompressionLevel::Fastest),
    ]
    .concat()
}

pub fn base() -> Vec<u8> {
    Tarball::new().dir("bin", 0o755).file("bin/sh", b"#!").dir("tmp", 0o1777).end()
}

pub fn upper() -> Vec<u8> {
    Tarball::new().dir("bin", 0o755).file("bin/.wh.sh", b"").file("bin/app", b"app").end()
}

pub fn simple() -> Layout {
    let mut layout = Layout::default();
    let config = json!({
        "Entrypoint": ["/bin/app"], "Cmd": null, "Env": ["A=b"], "User": "1000",
        "WorkingDir": "/srv", "Volumes": {"/data": {}}, "StopSignal": "SIGQUIT",
    });
    let layers = [
        (base(), gzip(&base()), "application/vnd.oci.image.layer.v1.tar+gzip"),
        (upper(), zstd(&upper()), "application/vnd.oci.image.layer.v1.tar+zstd"),
        (Tarball::new().end(), Tarball::new().end(), LAYER),
    ];
    let manifest = layout.image(&layers, &config);
    layout.index(json!([manifest]));
    layout
}

pub fn layers_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The error for a layout that must be rejected.
pub fn refusal(layout: &Layout) -> String {
    let scratch = Scratch::new();
    let path = layout.dir(&scratch);
    let error = pack_image(&path, &scratch.path("layers")).unwrap_err().to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
    if scratch.path("layers").exists() {
        let left = layers_in(&scratch.path("layers"));
        assert!(left.iter().all(|name| name.ends_with(".erofs") && !name.starts_with('.')));
    }
    error
}
