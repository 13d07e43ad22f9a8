//! OCI layouts: finds the manifest from the index, and the config and layers from the manifest
//! (<https://github.com/opencontainers/image-spec>).

use super::layer::{Blob, check_layer_type};
use super::store::Store;
use super::{Digest, ImageSource, Problem, assemble};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Maximum nesting of indexes. Builders nest them once.
const MAX_DEPTH: usize = 4;

const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
struct LayoutFile {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// An index or a manifest. Both are parsed with the same type, to detect documents that are both.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

/// The image of a layout.
pub(super) fn resolve(store: &Store) -> Result<ImageSource, Problem> {
    let layout: LayoutFile = json("oci-layout", &store.document("oci-layout")?)?;
    if layout.version != "1.0.0" {
        let reason = format!("unknown version {:?}", layout.version);
        return Err(Problem::Document { document: "oci-layout".to_string(), reason });
    }
    let index = store.document("index.json")?;
    let mut gathered = Gathered::default();
    gather(store, "index.json", &index, None, 0, &mut gathered)?;
    let Gathered { found, others, .. } = gathered;
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some((digest, (manifest, _))), None) => image(store, &digest, &manifest),
        (None, _) => Err(Problem::Platform(others.into_iter().collect())),
        (Some(first), Some(second)) => {
            let all = [first, second].into_iter().chain(found);
            Err(Problem::Ambiguous(all.map(|(_, (_, name))| name).collect()))
        }
    }
}

/// The result of following an index.
#[derive(Default)]
struct Gathered {
    /// Manifests for linux/amd64 (or without a platform), with their names.
    found: BTreeMap<Digest, (Descriptor, String)>,
    /// Other platforms and media types, for the error message.
    others: BTreeSet<String>,
    /// Indexes that have been read, with the media type of their descriptor. Each is followed once: nested
    /// indexes with thousands of repeated entries have an exponential number of paths.
    seen: BTreeSet<(String, String)>,
}

/// Collects all manifests for linux/amd64 (or without a platform) that are reachable from an index.
fn gather(
    store: &Store,
    name: &str,
    bytes: &[u8],
    media_type: Option<&str>,
    depth: usize,
    gathered: &mut Gathered,
) -> Result<(), Problem> {
    let invalid =
        |reason: &str| Problem::Document { document: name.to_string(), reason: reason.to_string() };
    let index: Document = json(name, bytes)?;
    check_type(name, &index, media_type.unwrap_or(INDEX_TYPES[0]), &INDEX_TYPES)?;
    let Some(manifests) = index.manifests else {
        return Err(invalid("not an index: `manifests` is missing"));
    };
    if index.config.is_some() || index.layers.is_some() {
        return Err(invalid("the document is both an index and a manifest"));
    }
    if depth >= MAX_DEPTH {
        return Err(invalid("indexes are nested too deeply"));
    }
    for descriptor in manifests {
        if INDEX_TYPES.contains(&descriptor.media_type.as_str()) {
            let Descriptor { digest, media_type, .. } = &descriptor;
            if gathered.seen.insert((digest.clone(), media_type.clone())) {
                let (name, bytes) = blob(&descriptor, |name| store.document(name))?;
                gather(store, &name, &bytes, Some(media_type), depth + 1, gathered)?;
            }
            continue;
        }
        if !MANIFEST_TYPES.contains(&descriptor.media_type.as_str()) {
            gathered.others.insert(descriptor.media_type);
            continue;
        }
        if let Some(platform) = &descriptor.platform
            && (platform.os != "linux" || platform.architecture != "amd64")
        {
            gathered.others.insert(format!("{}/{}", platform.os, platform.architecture));
            continue;
        }
        let digest = digest(&descriptor)?;
        let name = descriptor.annotations.as_ref().and_then(|all| all.get(REF_NAME)).cloned();
        let name = name.unwrap_or_else(|| digest.to_string());
        gathered.found.insert(digest, (descriptor, name));
    }
    Ok(())
}

/// The image of a manifest.
fn image(store: &Store, digest: &Digest, descriptor: &Descriptor) -> Result<ImageSource, Problem> {
    let (name, bytes) = blob(descriptor, |name| store.document(name))?;
    let invalid = |reason: &str| Problem::Document {
        document: format!("manifest {digest}"),
        reason: reason.to_string(),
    };
    let manifest: Document = json(&name, &bytes)?;
    check_type(&name, &manifest, &descriptor.media_type, &MANIFEST_TYPES)?;
    if manifest.manifests.is_some() {
        return Err(invalid("the document is both an index and a manifest"));
    }
    let config = manifest.config.ok_or_else(|| invalid("`config` is missing"))?;
    let layers = manifest.layers.ok_or_else(|| invalid("`layers` is missing"))?;
    if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
        let reason =
            format!("not a container image: its config has media type {:?}", config.media_type);
        return Err(invalid(&reason));
    }
    let config_digest = self::digest(&config)?;
    let (_, config) = blob(&config, |name| store.config(name))?;
    let mut blobs = Vec::new();
    for layer in layers {
        check_layer_type(&layer.media_type).map_err(|reason| invalid(&reason))?;
        let digest = self::digest(&layer)?;
        let name = blob_name(&digest);
        let content = store.file(&name)?;
        check_size(&name, layer.size, content.len())?;
        blobs.push(Blob { name, digest: Some(digest), content });
    }
    assemble(config_digest, &config, blobs)
}

/// Checks that a document has the media type of its descriptor (CVE-2021-41190: a document that some
/// readers interpret as an index and others as a manifest).
fn check_type(
    name: &str,
    document: &Document,
    expected: &str,
    allowed: &[&str],
) -> Result<(), Problem> {
    let invalid = |reason: String| Err(Problem::Document { document: name.to_string(), reason });
    if document.schema_version != 2 {
        return invalid(format!("schemaVersion is {}, expected 2", document.schema_version));
    }
    match document.media_type.as_deref() {
        // index.json has no descriptor.
        Some(stated) if name == "index.json" && allowed.contains(&stated) => Ok(()),
        Some(stated) if stated != expected => {
            invalid(format!("mediaType is {stated:?}, expected {expected:?}"))
        }
        _ => Ok(()),
    }
}

fn digest(descriptor: &Descriptor) -> Result<Digest, Problem> {
    Digest::parse(&descriptor.digest).ok_or_else(|| Problem::Document {
        document: "a descriptor".to_string(),
        reason: format!(
            "invalid digest {:?} (expected sha256: and 64 hex digits)",
            descriptor.digest
        ),
    })
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn check_size(name: &str, expected: u64, found: u64) -> Result<(), Problem> {
    match expected == found {
        true => Ok(()),
        false => Err(Problem::Size { what: name.to_string(), expected, found }),
    }
}

/// Reads a document by its descriptor with `read`, and returns its name and content.
fn blob(
    descriptor: &Descriptor,
    read: impl FnOnce(&str) -> Result<Vec<u8>, Problem>,
) -> Result<(String, Vec<u8>), Problem> {
    let expected = digest(descriptor)?;
    let name = blob_name(&expected);
    let bytes = read(&name)?;
    check_size(&name, descriptor.size, bytes.len() as u64)?;
    let found = Digest::of(&bytes);
    match found == expected {
        true => Ok((name, bytes)),
        false => Err(Problem::Digest { what: name, expected, found }),
    }
}

/// Parses a document.
pub(super) fn json<'a, T: Deserialize<'a>>(name: &str, bytes: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|source| Problem::Json { document: name.to_string(), source })
}
