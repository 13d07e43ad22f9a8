//! Builds a kernel and an initrd from a host folder.
//!
//! The initrd is a concatenation of two archives, which the kernel unpacks in order: the kit's archive,
//! compressed and the same for every host; and the host's own, uncompressed, because most of it are
//! layers that are compressed already. Building an image is therefore little more than copying.

use crate::cpio::Cpio;
use crate::kit::{self, Kit, KitError};
use crate::oci;
use layout::folder::{self, HostFolder};
use layout::images::Images;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use units::Loaded;
use units::model::Seccomp;

/// The earliest possible build time, in seconds since 1970: the lower bound for the clock of a host whose
/// own clock is wrong. It is the day of the release rather than of the build, so that a build of the same
/// folder gives the same bytes on any day; `SOURCE_DATE_EPOCH` raises it.
pub const RELEASE_EPOCH: u64 = 1_795_305_600;

/// Sizes of the parts of a build, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// `vmlinuz`.
    pub kernel: u64,
    /// `initrd`.
    pub initrd: u64,
    /// All layers of all images, each counted once.
    pub layers: u64,
    /// Number of layers.
    pub layer_count: usize,
}

/// Why a build failed. Nothing was written except possibly cached layers.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The kit cannot be used.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// A container image cannot be used.
    #[error("unit {unit}: image {image}: {source}")]
    Image {
        /// The unit that names it.
        unit: String,
        /// The image, as written in the unit.
        image: String,
        /// What is wrong with it.
        source: oci::ImageError,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::Io { path, source }
}

/// Builds `out/vmlinuz` and `out/initrd` from the host folder `dir`, whose texts are `folder`, loaded into
/// `loaded`. Packed layers are kept in `cache` for the next build.
///
/// With `skip_bad_images` an image that cannot be used is left out instead of being an error; its units
/// report it at boot.
///
/// # Errors
/// The first failure. Both files are replaced at the end of a successful build only.
pub fn build(
    dir: &Path,
    folder: &HostFolder,
    loaded: &Loaded,
    kit: &Kit,
    cache: &Path,
    out: &Path,
    skip_bad_images: bool,
) -> Result<Sizes, BuildError> {
    fs::create_dir_all(cache).map_err(io_error(cache))?;
    fs::create_dir_all(out).map_err(io_error(out))?;
    let images = pack_images(dir, loaded, cache, skip_bad_images)?;
    let profiles = profiles(dir, loaded, skip_bad_images)?;
    let initrd = out.join("initrd.new");
    let sizes = write_initrd(folder, &images, &profiles, kit, cache, &initrd)?;
    let kernel = out.join("vmlinuz.new");
    let kernel_size = fs::copy(kit.kernel(), &kernel).map_err(io_error(&kernel))?;
    for (from, to) in [(&initrd, "initrd"), (&kernel, "vmlinuz")] {
        fs::rename(from, out.join(to)).map_err(io_error(&out.join(to)))?;
    }
    Ok(Sizes { kernel: kernel_size, ..sizes })
}

/// Packs the images of all units, each once.
fn pack_images(
    dir: &Path,
    loaded: &Loaded,
    cache: &Path,
    skip_bad: bool,
) -> Result<Images, BuildError> {
    let mut images = BTreeMap::new();
    for unit in loaded.config.units.values() {
        let reference = &unit.container.image;
        if images.contains_key(reference) {
            continue;
        }
        match oci::pack_image(&dir.join(reference.trim_start_matches("./")), cache) {
            Ok(packed) => drop(images.insert(reference.clone(), packed)),
            Err(_) if skip_bad => {}
            Err(source) => {
                let (unit, image) = (unit.name.clone(), reference.clone());
                return Err(BuildError::Image { unit, image, source });
            }
        }
    }
    Ok(Images { images })
}

fn write_initrd(
    folder: &HostFolder,
    images: &Images,
    profiles: &BTreeMap<String, String>,
    kit: &Kit,
    cache: &Path,
    path: &Path,
) -> Result<Sizes, BuildError> {
    let file = File::create(path).map_err(io_error(path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = kit::append(&kit.base(), &mut out).map_err(io_error(path))?;
    // The kernel skips zero bytes between archives; the second must begin at a multiple of four.
    let padding = written.next_multiple_of(4) - written;
    out.write_all(&[0u8; 4][..padding as usize]).map_err(io_error(path))?;
    let mut cpio = Cpio::new(out);
    for (name, text) in host_files(folder) {
        cpio.file(&name, 0o644, text.len() as u64, &mut text.as_bytes()).map_err(io_error(path))?;
    }
    let index =
        serde_json::to_vec(images).map_err(|error| io_error(path)(io::Error::other(error)))?;
    for (name, text) in [
        (format!("keel/{}", folder::IMAGES), index),
        ("keel/epoch".to_owned(), epoch().to_string().into_bytes()),
    ] {
        cpio.file(&name, 0o644, text.len() as u64, &mut text.as_slice()).map_err(io_error(path))?;
    }
    if !profiles.is_empty() {
        let text = serde_json::to_vec(profiles)
            .map_err(|error| io_error(path)(io::Error::other(error)))?;
        let name = format!("keel/{}", folder::SECCOMP);
        cpio.file(&name, 0o644, text.len() as u64, &mut text.as_slice()).map_err(io_error(path))?;
    }
    let layers: BTreeSet<&String> =
        images.images.values().flat_map(|image| &image.layers).collect();
    let mut sizes = Sizes { layer_count: layers.len(), ..Sizes::default() };
    for layer in layers {
        let source = cache.join(format!("{layer}.erofs"));
        let mut file = File::open(&source).map_err(io_error(&source))?;
        let size = file.metadata().map_err(io_error(&source))?.len();
        cpio.file(&format!("keel/layers/{layer}.erofs"), 0o644, size, &mut file)
            .map_err(io_error(path))?;
        sizes.layers += size;
    }
    let out = cpio.finish().map_err(io_error(path))?;
    let file = out.into_inner().map_err(|error| io_error(path)(error.into_error()))?;
    sizes.initrd = file.metadata().map_err(io_error(path))?.len();
    Ok(sizes)
}

/// The seccomp profiles of the units, unchanged. With `skip_bad` a profile that cannot be read is left
/// out; its units report it at boot.
fn profiles(
    dir: &Path,
    loaded: &Loaded,
    skip_bad: bool,
) -> Result<BTreeMap<String, String>, BuildError> {
    let mut found = BTreeMap::new();
    for unit in loaded.config.units.values() {
        let Seccomp::Profile(name) = &unit.container.seccomp else { continue };
        let path = dir.join(name.trim_start_matches("./"));
        match fs::read_to_string(&path) {
            Ok(text) => drop(found.insert(name.clone(), text)),
            Err(_) if skip_bad => {}
            Err(error) => return Err(io_error(&path)(error)),
        }
    }
    Ok(found)
}

/// `host.toml` and `units/*.toml` as they are: the host reads the same text as `keel check`.
fn host_files(folder: &HostFolder) -> BTreeMap<String, &str> {
    let units = folder.units.iter().filter_map(|file| {
        let name = file.path.rsplit('/').next()?;
        Some((format!("keel/{}/{name}", folder::UNITS), file.text.as_str()))
    });
    let host = folder.host.iter();
    host.map(|file| (format!("keel/{}", folder::HOST), file.text.as_str())).chain(units).collect()
}

fn epoch() -> u64 {
    let requested = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    requested.unwrap_or(0).max(RELEASE_EPOCH)
}
