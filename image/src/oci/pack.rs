//! Writes layers as file system images, each once and shared between images.

use super::error::AtPath;
use super::layer::temporary_name;
use super::{Digest, ImageError, ImageSource, Layer, Problem, lower, open};
use crate::erofs::{self, Options, write_image};
use crate::tree::{Limits, Tree, read_layer};
use layout::images::Image;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Volume name of a layer that can be used above any other layers. The number increases when the output
/// of the writer changes, so that images of an older writer are replaced.
const COMPLETE: &[u8; 16] = b"keel-layer-1\0\0\0\0";
/// Volume name of a layer with implied directories: it can only be used as the lowest layer.
const LOWEST: &[u8; 16] = b"keel-base-1\0\0\0\0\0";
/// Size limit of the headers in a tar stream, in addition to [`Limits::bytes`] of content.
const HEADERS: u64 = 2 << 30;

/// Writes the layers of the image at `path` as file system images into the directory `out_layers`
/// (created if missing), and describes the image.
///
/// The file of a layer is `<digest of the uncompressed layer>.erofs`. If it depends on the layers below
/// it (see `lower`), the chain id of the OCI image specification replaces the digest. Existing files are
/// kept, so images share layers and a second build is fast. A file gets its final name when it is
/// complete; the same layer gives the same bytes.
///
/// If an image has a layer twice, only the upper one is used: overlayfs rejects duplicates, and the upper
/// one hides the lower.
///
/// # Errors
/// As [`open`], and invalid content of a layer; the message names the layer and the entry.
pub fn pack_image(path: &Path, out_layers: &Path) -> Result<Image, ImageError> {
    let source = open(path)?;
    pack(&source, out_layers).at(path)
}

fn pack(source: &ImageSource, dir: &Path) -> Result<Image, Problem> {
    std::fs::create_dir_all(dir).map_err(Problem::io(dir.display().to_string()))?;
    let mut names: Vec<String> = Vec::new();
    let mut chain: Option<Digest> = None;
    for (number, layer) in source.layers.iter().enumerate() {
        let id = match &chain {
            None => layer.diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {}", layer.diff_id).as_bytes()),
        };
        let name = pack_layer(source, number, layer, &id, dir)?;
        names.retain(|other| *other != name);
        names.push(name);
        chain = Some(id);
    }
    let digest = source.digest.to_string();
    Ok(Image { digest, layers: names, config: source.config.clone() })
}

/// Writes one layer unless its file exists; returns the name of its file without the suffix.
fn pack_layer(
    source: &ImageSource,
    number: usize,
    layer: &Layer,
    chain: &Digest,
    dir: &Path,
) -> Result<String, Problem> {
    let file = |digest: &Digest| dir.join(format!("{}.erofs", digest.hex()));
    match existing(&file(&layer.diff_id)) {
        Some(COMPLETE) => return Ok(layer.diff_id.hex().to_string()),
        Some(LOWEST) if number == 0 => return Ok(layer.diff_id.hex().to_string()),
        _ => {}
    }
    if existing(&file(chain)) == Some(COMPLETE) {
        return Ok(chain.hex().to_string());
    }
    let mut tree = read(layer, dir)?;
    let implied = lower::implied(&tree);
    let (digest, name) = match (implied.is_empty(), number) {
        (true, _) => (&layer.diff_id, COMPLETE),
        (false, 0) => (&layer.diff_id, LOWEST),
        (false, _) => {
            let below = source.layers.iter().take(number).rev();
            let below = below.map(|layer| read(layer, dir)).collect::<Result<Vec<_>, _>>()?;
            for (path, id) in implied {
                if let Some(meta) = lower::attributes(&path, below.iter()) {
                    lower::describe(&mut tree, id, meta);
                }
            }
            (chain, COMPLETE)
        }
    };
    write(&tree, layer, digest, *name, dir, &file(digest))?;
    Ok(digest.hex().to_string())
}

fn read(layer: &Layer, dir: &Path) -> Result<Tree, Problem> {
    let limits = Limits::default();
    let stream = layer.unpack(dir, limits.bytes.saturating_add(HEADERS))?;
    read_layer(&stream, &limits)
        .map_err(|source| Problem::Layer { layer: layer.blob.name.clone(), source })
}

/// The volume name of an existing layer file, if it is complete.
fn existing(path: &Path) -> Option<&'static [u8; 16]> {
    let mut file = File::open(path).ok()?;
    let (name, size) = erofs::identify(&mut file)?;
    let complete = file.metadata().ok()?.len() == size;
    [COMPLETE, LOWEST].into_iter().find(|mark| complete && **mark == name)
}

fn write(
    tree: &Tree,
    layer: &Layer,
    digest: &Digest,
    name: [u8; 16],
    dir: &Path,
    to: &Path,
) -> Result<(), Problem> {
    let temporary = Temporary(dir.join(temporary_name(digest.hex())));
    let what = || to.display().to_string();
    let file = File::create_new(&temporary.0).map_err(Problem::io(what()))?;
    let options = Options { uuid: uuid(digest), name, uncompressed: false };
    write_image(tree, &options, &file)
        .map_err(|source| Problem::Erofs { layer: layer.blob.name.clone(), source })?;
    // Without this a power failure could leave an empty file under the final name.
    file.sync_data().map_err(Problem::io(what()))?;
    std::fs::rename(&temporary.0, to).map_err(Problem::io(what()))
}

/// A version 8 UUID (RFC 9562), which has 122 custom bits.
fn uuid(digest: &Digest) -> [u8; 16] {
    let mut uuid = digest.prefix();
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut uuid;
    *version = *version & 0x0f | 0x80;
    *variant = *variant & 0x3f | 0x80;
    uuid
}

/// Removes the file when dropped, if it still has this name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
