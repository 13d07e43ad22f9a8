//! Reads container images from a path: an OCI layout (a directory or a tar archive of one) or an archive
//! from `docker save`.
//!
//! Images are untrusted. Documents have a size limit and must have the declared type, blobs must have
//! the digest and size of their descriptor, uncompressed layers must have the digest in the config, and
//! files are opened only inside the image.
//!
//! - [`probe`] describes the image at a path without reading layers.
//! - [`open`] does the same and makes the layers readable.
//! - [`pack_image`] writes the layers as file system images, each once.

mod config;
mod digest;
mod docker;
mod error;
mod layer;
mod layout;
mod lower;
mod pack;
mod store;

pub use digest::Digest;
pub use error::{ImageError, Problem};
pub use layer::Layer;
pub use pack::pack_image;

use ::layout::images::{Image, ImageConfig};
use error::AtPath;
use std::path::Path;
use store::Store;

/// Maximum number of layers of an image, as in docker. (The kernel's overlayfs accepts 500.)
const MAX_LAYERS: usize = 128;

/// An image that is valid as far as that can be checked without reading its layers.
#[derive(Debug)]
pub struct ImageSource {
    /// Digest of the config, which identifies the image.
    pub digest: Digest,
    /// The run-time configuration.
    pub config: ImageConfig,
    /// Lowest first.
    pub layers: Vec<Layer>,
}

/// Opens the image at `path`: a directory with an OCI layout, or a tar archive of one or from
/// `docker save`. (Newer archives of docker are both; the OCI part is used if it is complete.) From an
/// index, the image for linux/amd64 is chosen.
///
/// # Errors
/// An [`ImageError`] with `path`: the path does not exist or is not an image, a document or blob is
/// missing, too large or does not match its digest, there is no image for linux/amd64 or more than one,
/// or a value of the config is out of range.
pub fn open(path: &Path) -> Result<ImageSource, ImageError> {
    open_parts(path).at(path)
}

/// Describes the image at `path`. Reads the documents but no layer, so it is fast.
///
/// `layers` of the result are the digests of the uncompressed layers from the config.
///
/// # Errors
/// As [`open`].
pub fn probe(path: &Path) -> Result<Image, ImageError> {
    let source = open(path)?;
    Ok(Image {
        digest: source.digest.to_string(),
        layers: source.layers.iter().map(|layer| layer.diff_id.hex().to_string()).collect(),
        config: source.config,
    })
}

fn open_parts(path: &Path) -> Result<ImageSource, Problem> {
    let store = Store::open(path)?;
    let has_oci = store.has("oci-layout") || store.has("index.json");
    let has_docker = store.has("manifest.json");
    match (has_oci, has_docker) {
        (true, true) => layout::resolve(&store).or_else(|_| docker::resolve(&store)),
        (true, false) => layout::resolve(&store),
        (false, true) => docker::resolve(&store),
        (false, false) => Err(Problem::NotAnImage(
            "neither index.json (OCI) nor manifest.json (docker save) found".to_string(),
        )),
    }
}

/// Combines a config with the blobs of its layers.
fn assemble(
    digest: Digest,
    config: &[u8],
    blobs: Vec<layer::Blob>,
) -> Result<ImageSource, Problem> {
    let (config, diff_ids) = config::parse(config)?;
    if diff_ids.len() != blobs.len() {
        return Err(Problem::Document {
            document: "the config".to_string(),
            reason: format!(
                "rootfs.diff_ids has {} entries, but the manifest has {} layers",
                diff_ids.len(),
                blobs.len()
            ),
        });
    }
    if blobs.len() > MAX_LAYERS {
        let (what, limit) = ("the number of layers".to_string(), MAX_LAYERS as u64);
        return Err(Problem::TooLarge { what, size: blobs.len() as u64, limit });
    }
    let layers = diff_ids.into_iter().zip(blobs);
    let layers = layers.map(|(diff_id, blob)| Layer { diff_id, blob }).collect();
    Ok(ImageSource { digest, config, layers })
}
