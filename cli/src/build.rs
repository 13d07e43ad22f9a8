//! `keel build` and `keel kit`.

use crate::folder::Folder;
use crate::{Failure, places};
use image::build::{Sizes, build};
use image::kit::Kit;
use std::path::Path;
use std::process::ExitCode;

/// Builds a folder and prints the sizes of the result.
pub fn command(dir: &Path, out: &Path, allow_broken: bool) -> Result<ExitCode, Failure> {
    let kit = places::open_kit()?;
    let sizes = build_folder(dir, out, allow_broken, &kit)?;
    println!("{}", out.join("vmlinuz").display());
    println!("{}", out.join("initrd").display());
    println!(
        "kernel {}, host {} (programs {}, modules {}, {} layers {})",
        mib(sizes.kernel),
        mib(sizes.initrd),
        mib(kit.info.program_packed_bytes),
        mib(kit.info.base_bytes.saturating_sub(kit.info.program_packed_bytes)),
        sizes.layer_count,
        mib(sizes.layers),
    );
    Ok(ExitCode::SUCCESS)
}

/// Prints the diagnostics of a folder and builds it.
pub fn build_folder(
    dir: &Path,
    out: &Path,
    allow_broken: bool,
    kit: &Kit,
) -> Result<Sizes, Failure> {
    let folder = Folder::read(dir)?;
    folder.show();
    if folder.has_errors() && !allow_broken {
        return Err(Failure(format!(
            "{}: not built because of the errors above (--allow-broken-units builds the rest)",
            dir.display()
        )));
    }
    Ok(build(dir, &folder.files, &folder.loaded, kit, &places::layers(), out, allow_broken)?)
}

/// Makes the kit.
pub fn kit(kernel: &Path, program: &Path, out: &Path) -> Result<ExitCode, Failure> {
    let kit = Kit::make(kernel, program, out)?;
    let info = &kit.info;
    println!(
        "kit: Linux {}, program {} ({} packed), {} modules, base {}",
        info.kernel,
        mib(info.program_bytes),
        mib(info.program_packed_bytes),
        info.modules,
        mib(info.base_bytes)
    );
    Ok(ExitCode::SUCCESS)
}

/// A size in MiB.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}
