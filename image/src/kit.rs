//! The kit: what all images of this version of Keelhost have in common, namely the kernel, its modules
//! and the boot program. `keel` looks for it in a folder next to itself; `make build` creates it.
//!
//! ```text
//! keel-kit/
//!   vmlinuz     the kernel, unchanged from its package
//!   base.img    the common part of the initrd: modules and program in one zstd-compressed archive
//!   kit.json    sizes and versions, for people and for benchmarks
//! ```

use crate::cpio::Cpio;
use crate::modules;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name of the folder next to the `keel` program.
pub const FOLDER: &str = "keel-kit";

/// Compression level: the kernel decompresses all levels at the same speed.
const ZSTD_LEVEL: i32 = 19;

/// Versions and sizes of a kit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KitInfo {
    /// Version of Keelhost.
    pub version: String,
    /// Kernel release, such as `6.12.1-amd64`.
    pub kernel: String,
    /// Size of the boot program in bytes, uncompressed.
    pub program_bytes: u64,
    /// Size of the boot program in bytes, compressed.
    pub program_packed_bytes: u64,
    /// Number of kernel modules.
    pub modules: usize,
    /// Size of the modules in bytes.
    pub modules_bytes: u64,
    /// Size of `base.img` in bytes.
    pub base_bytes: u64,
    /// Size of `vmlinuz` in bytes.
    pub kernel_bytes: u64,
}

/// A kit that is ready for use.
#[derive(Debug, Clone)]
pub struct Kit {
    dir: PathBuf,
    /// Its versions and sizes.
    pub info: KitInfo,
}

/// Why a kit cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The kernel modules cannot be used.
    #[error(transparent)]
    Modules(#[from] modules::ModulesError),
    /// The kernel package is incomplete.
    #[error("{dir}: {why}")]
    Kernel {
        /// Directory of the unpacked package.
        dir: PathBuf,
        /// What is missing.
        why: String,
    },
    /// `kit.json` cannot be read or written as JSON.
    #[error("{path}: {source}")]
    Info {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> KitError {
    let path = path.to_owned();
    move |source| KitError::Io { path, source }
}

impl Kit {
    /// Opens the kit in `dir`.
    ///
    /// # Errors
    /// `kit.json` does not exist or is damaged.
    pub fn open(dir: &Path) -> Result<Kit, KitError> {
        let path = dir.join("kit.json");
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        let info =
            serde_json::from_slice(&bytes).map_err(|source| KitError::Info { path, source })?;
        Ok(Kit { dir: dir.to_owned(), info })
    }

    /// The kernel.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// The common part of the initrd.
    pub fn base(&self) -> PathBuf {
        self.dir.join("base.img")
    }

    /// Makes a kit in `out` from a kernel package unpacked in `kernel` (with `boot/vmlinuz-*` and
    /// `lib/modules/*` or `usr/lib/modules/*`) and the boot program.
    ///
    /// # Errors
    /// A file is missing or cannot be written. Files in `out` that had already been replaced stay
    /// replaced.
    pub fn make(kernel: &Path, program: &Path, out: &Path) -> Result<Kit, KitError> {
        let (vmlinuz, release) = find_kernel(kernel)?;
        let modules_dir = ["lib/modules", "usr/lib/modules"]
            .map(|dir| kernel.join(dir).join(&release))
            .into_iter()
            .find(|dir| dir.is_dir())
            .ok_or_else(|| missing(kernel, format!("no modules found for kernel {release}")))?;
        let selection = modules::select(&modules_dir)?;
        let program_bytes = fs::read(program).map_err(io_error(program))?;
        let archive =
            base_archive(&selection, &program_bytes).map_err(io_error(&out.join("base.img")))?;
        let base = zstd(&archive).map_err(io_error(&out.join("base.img")))?;
        let packed = zstd(&program_bytes).map_err(io_error(program))?;
        let kernel_image = fs::read(&vmlinuz).map_err(io_error(&vmlinuz))?;
        let info = KitInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: release,
            program_bytes: program_bytes.len() as u64,
            program_packed_bytes: packed.len() as u64,
            modules: selection.modules.len(),
            modules_bytes: selection
                .modules
                .values()
                .map(|module| module.content.len() as u64)
                .sum(),
            base_bytes: base.len() as u64,
            kernel_bytes: kernel_image.len() as u64,
        };
        fs::create_dir_all(out).map_err(io_error(out))?;
        write(&out.join("vmlinuz"), &kernel_image)?;
        write(&out.join("base.img"), &base)?;
        let text = serde_json::to_vec_pretty(&info)
            .map_err(|source| KitError::Info { path: out.join("kit.json"), source })?;
        write(&out.join("kit.json"), &text)?;
        Ok(Kit { dir: out.to_owned(), info })
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), KitError> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path)).map_err(io_error(path))
}

fn missing(dir: &Path, why: String) -> KitError {
    KitError::Kernel { dir: dir.to_owned(), why }
}

/// The kernel image and its release.
fn find_kernel(dir: &Path) -> Result<(PathBuf, String), KitError> {
    let boot = dir.join("boot");
    let entries = fs::read_dir(&boot).map_err(io_error(&boot))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("vmlinuz-").map(str::to_owned))
        .collect();
    names.sort();
    let release = names.pop().ok_or_else(|| missing(dir, "boot/vmlinuz-* not found".to_owned()))?;
    Ok((boot.join(format!("vmlinuz-{release}")), release))
}

/// Directories of the running system: mount points and data.
const FOLDERS: &[(&str, u32)] = &[
    ("data", 0o700),
    ("dev", 0o755),
    ("keel", 0o755),
    ("keel/layers", 0o755),
    ("keel/modules", 0o755),
    ("keel/units", 0o755),
    ("proc", 0o555),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o555),
];

fn base_archive(selection: &modules::Selection, program: &[u8]) -> io::Result<Vec<u8>> {
    let mut cpio = Cpio::new(Vec::new());
    for (path, mode) in FOLDERS {
        cpio.directory(path, *mode)?;
    }
    cpio.file("init", 0o755, program.len() as u64, &mut &*program)?;
    // The kernel runs this to request modules.
    cpio.symlink("sbin/modprobe", "../init")?;
    let index = selection.index.as_bytes();
    cpio.file("keel/modules/index", 0o644, index.len() as u64, &mut &*index)?;
    for module in selection.modules.values() {
        let path = format!("keel/modules/{}", module.file);
        cpio.file(&path, 0o644, module.content.len() as u64, &mut module.content.as_slice())?;
        if let Some(signature) = &module.signature {
            let path = format!("{path}.sig");
            cpio.file(&path, 0o644, signature.len() as u64, &mut signature.as_slice())?;
        }
    }
    cpio.finish()
}

/// Compresses into one zstd frame with a window that the kernel accepts (lib/decompress_unzstd.c takes up
/// to 128 MiB; level 19 uses 8 MiB).
fn zstd(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
    encoder.include_checksum(false)?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Appends a file to a writer.
pub(crate) fn append(path: &Path, out: &mut impl Write) -> io::Result<u64> {
    io::copy(&mut File::open(path)?, out)
}
