//! Archives from `docker save`: `manifest.json` names the config and the layers by path
//! (<https://github.com/moby/docker-image-spec/blob/main/spec.md>).

use super::layer::Blob;
use super::layout::json;
use super::store::Store;
use super::{Digest, ImageSource, Problem, assemble};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The image of an archive.
pub(super) fn resolve(store: &Store) -> Result<ImageSource, Problem> {
    let manifests: Vec<Manifest> = json("manifest.json", &store.document("manifest.json")?)?;
    let manifest = match manifests.as_slice() {
        [manifest] => manifest,
        [] => {
            let document = "manifest.json".to_string();
            return Err(Problem::Document { document, reason: "contains no image".to_string() });
        }
        several => return Err(Problem::Ambiguous(several.iter().map(name).collect())),
    };
    let config = store.config(&manifest.config)?;
    let digest = Digest::of(&config);
    // Docker chooses the paths, but a path that is a digest must be correct.
    if let Some(expected) = digest_in(&manifest.config).filter(|expected| *expected != digest) {
        return Err(Problem::Digest { what: manifest.config.clone(), expected, found: digest });
    }
    let mut blobs = Vec::new();
    for name in &manifest.layers {
        // The digest of the blob is unknown here; the digest of the unpacked layer is verified.
        blobs.push(Blob { name: name.clone(), digest: None, content: store.file(name)? });
    }
    assemble(digest, &config, blobs)
}

fn name(manifest: &Manifest) -> String {
    let tags = manifest.repo_tags.as_deref().unwrap_or_default();
    tags.first().cloned().unwrap_or_else(|| manifest.config.clone())
}

/// The digest in `DIGEST.json` or `blobs/sha256/DIGEST`.
fn digest_in(path: &str) -> Option<Digest> {
    let file = path.rsplit('/').next()?;
    Digest::from_hex(file.strip_suffix(".json").unwrap_or(file))
}
