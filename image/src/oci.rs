//! Container images from a path: an OCI layout (a directory or a tar of one) or what
//! `docker save` writes.
//!
//! Nothing in an image is believed: documents have size caps and must be of the type they are
//! said to be, blobs must have the digest and size by which they are named, uncompressed layers
//! the digest that the config gives them, and files are only ever opened inside the image.
//!
//! - [`probe`]: what is at a path, without reading layers.
//! - [`open`]: the same, with the layers ready to be read.
//! - [`pack_image`]: the layers as file system images, each made once.

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

/// Most layers of an image: docker's limit. (The kernel's overlayfs takes 500.)
const MAX_LAYERS: usize = 128;

/// An image that has been found right as far as that is possible without reading its layers.
#[derive(Debug)]
pub struct ImageSource {
    /// Digest of the config: the image's identity.
    pub digest: Digest,
    /// What matters at run time.
    pub config: ImageConfig,
    /// Lowest first.
    pub layers: Vec<Layer>,
}

/// Opens the image at `path`: a directory with an OCI layout, or a tar archive of one or from
/// `docker save`. (Docker's newer archives are both; the OCI part is taken if it is whole.)
/// An index leads to the image for linux/amd64.
///
/// # Errors
/// [`ImageError`], which names `path`: there is nothing (with what lies beside it), it is no image,
/// a document or blob is missing, too large or not what its digest says, there is no image for
/// linux/amd64 or more than one, or a value of the config is out of bounds.
pub fn open(path: &Path) -> Result<ImageSource, ImageError> {
    open_parts(path).at(path)
}

/// What is at `path`. Reads the documents but no layer: fast enough for a check.
///
/// The result's `layers` are the digests of the uncompressed layers, as the config gives them.
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
            "it has neither index.json (OCI) nor manifest.json (docker save)".to_string(),
        )),
    }
}

/// Puts a config and its layers' blobs together.
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
