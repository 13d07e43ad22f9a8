//! Selects the kernel modules of an image and writes the index by which the host finds them.
//!
//! All data comes from the modules themselves (the `.modinfo` section: `alias=`, `depends=`), so depmod
//! is not needed. The format of the index is described in `init::devices::modules`, which reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The modules that containers and their network need, loaded at every boot in this order, after their
/// dependencies.
#[rustfmt::skip]
pub const BOOT: &[&str] = &[
    // Image layers and the writable layer above them.
    "erofs", "overlay",
    // The bridge, and a virtual Ethernet pair for each container.
    "bridge", "veth",
    // Published ports and masquerading.
    "nfnetlink", "nf_tables", "nft_ct", "nft_chain_nat", "nft_nat", "nft_masq", "nft_fib", "nft_fib_ipv4",
];

/// Drivers that nearly every virtual machine needs; stored uncompressed, as [`BOOT`].
const COMMON: &[&str] = &["virtio_net", "virtio_blk", "virtio_rng", "button", "evdev"];

/// Drivers that are included if the kernel package has them; loaded when their hardware is found.
#[rustfmt::skip]
pub const HARDWARE: &[&str] = &[
    // Virtual machines: KVM and QEMU, VMware, Hyper-V, Xen, clouds.
    "virtio_net", "virtio_blk", "virtio_scsi", "virtio_rng", "virtio_balloon", "virtio_mmio", "virtio_input",
    "vmxnet3", "vmw_pvscsi", "hv_netvsc", "hv_storvsc", "hv_utils", "hv_balloon", "xen_netfront", "xen_blkfront",
    "ena", "gve", "mana",
    // Physical machines, and the devices that hypervisors emulate.
    "e1000", "e1000e", "igb", "igbvf", "igc", "ixgbe", "ixgbevf", "i40e", "iavf", "ice", "8139cp", "8139too", "r8169", "tg3", "bnxt_en",
    "mlx4_core", "mlx4_en", "mlx5_core",
    "ahci", "ata_piix", "sd_mod", "nvme", "mptspi", "megaraid_sas", "mpt3sas",
    // The power button; a watchdog.
    "button", "evdev", "i6300esb",
    // For features that units can use.
    "loop", "squashfs", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "fuse", "tun", "dm_mod", "dm_verity", "xfs", "btrfs",
];

/// Why the kernel modules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The kernel does not have a module that containers require.
    #[error("{dir}: kernel module {name} not found; containers cannot run without it")]
    Missing {
        /// The module.
        name: String,
        /// The directory that was searched.
        dir: PathBuf,
    },
    /// A file that is not a kernel module.
    #[error("{path}: not a kernel module: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// A module selected for an image.
#[derive(Debug)]
pub struct Module {
    /// File name in the image.
    pub file: String,
    /// Its content in the image.
    pub content: Vec<u8>,
    /// The signature that was appended to the content; stored in `FILE.sig`.
    pub signature: Option<Vec<u8>>,
}

/// The modules selected for one image.
#[derive(Debug)]
pub struct Selection {
    /// The modules, by name.
    pub modules: BTreeMap<String, Module>,
    /// The text of the index.
    pub index: String,
}

/// Reads the modules below `dir` (a kernel's `lib/modules/VERSION`) and selects [`BOOT`], [`HARDWARE`] and
/// their dependencies. Modules that are loaded at every boot are stored uncompressed and with their
/// signature in a separate file, because decompressing and verifying takes most of the time of loading
/// (`init::insert`). The others are stored unchanged, because most are never used.
///
/// # Errors
/// A directory that cannot be read, a damaged module, or a module of [`BOOT`] that is neither present nor
/// built in.
pub fn select(dir: &Path) -> Result<Selection, ModulesError> {
    let mut files = BTreeMap::new();
    find(dir, &mut files)?;
    let built_in = built_in(dir);
    let mut selected: BTreeMap<String, Info> = BTreeMap::new();
    for (names, needed, ready) in
        [(BOOT, true, true), (COMMON, false, true), (HARDWARE, false, false)]
    {
        for name in names {
            if !files.contains_key(*name) && needed && !built_in.contains(*name) {
                return Err(ModulesError::Missing {
                    name: (*name).to_owned(),
                    dir: dir.to_owned(),
                });
            }
            add(name, ready, &files, &mut selected)?;
        }
    }
    let mut index = String::new();
    let mut modules = BTreeMap::new();
    for (name, info) in &selected {
        let file =
            if info.ready { format!("{name}.ko") } else { format!("{name}.{}", info.extension) };
        index.push_str(&format!("m {name} {file}"));
        for dependency in &info.depends {
            index.push(' ');
            index.push_str(dependency);
        }
        index.push('\n');
        let module = if info.ready {
            let (content, signature) = split_signature(&info.unpacked);
            Module { file, content: content.to_vec(), signature: signature.map(<[u8]>::to_vec) }
        } else {
            Module { file, content: read(&info.path)?, signature: None }
        };
        modules.insert(name.clone(), module);
    }
    for name in BOOT.iter().filter(|name| selected.contains_key(**name)) {
        index.push_str(&format!("b {name}\n"));
    }
    for (name, info) in &selected {
        for alias in &info.aliases {
            index.push_str(&format!("a {alias} {name}\n"));
        }
    }
    Ok(Selection { modules, index })
}

struct Info {
    path: PathBuf,
    extension: String,
    unpacked: Vec<u8>,
    depends: Vec<String>,
    aliases: Vec<String>,
    ready: bool,
}

fn add(
    name: &str,
    ready: bool,
    files: &BTreeMap<String, PathBuf>,
    selected: &mut BTreeMap<String, Info>,
) -> Result<(), ModulesError> {
    // Without a file the module is built in, or this kernel does not have it.
    let Some(path) = files.get(name) else { return Ok(()) };
    if selected.contains_key(name) {
        return Ok(());
    }
    let unpacked = unpack(path, read(path)?)?;
    let info =
        modinfo(&unpacked).map_err(|why| ModulesError::Damaged { path: path.clone(), why })?;
    let values = |key: &str| -> Vec<String> {
        info.iter()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(str::to_owned)
            .collect()
    };
    let depends: Vec<String> = values("depends")
        .iter()
        .flat_map(|list| list.split(','))
        .filter(|dependency| !dependency.is_empty())
        .map(|dependency| dependency.replace('-', "_"))
        .filter(|dependency| files.contains_key(dependency))
        .collect();
    // softdep "pre:" names modules to load first; "post:" modules are not needed here.
    let extension =
        if path.extension().is_some_and(|e| e == "xz") { "ko.xz" } else { "ko" }.to_owned();
    // An alias with whitespace would break the index; the kernel has none.
    let aliases =
        values("alias").into_iter().filter(|alias| !alias.contains(char::is_whitespace)).collect();
    selected.insert(
        name.to_owned(),
        Info { path: path.clone(), extension, unpacked, depends: depends.clone(), aliases, ready },
    );
    for dependency in &depends {
        add(dependency, ready, files, selected)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, ModulesError> {
    fs::read(path).map_err(|source| ModulesError::Io { path: path.to_owned(), source })
}

fn unpack(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, ModulesError> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    liblzma::read::XzDecoder::new(bytes.as_slice())
        .read_to_end(&mut unpacked)
        .map_err(|source| ModulesError::Io { path: path.to_owned(), source })?;
    Ok(unpacked)
}

/// The marker at the end of a signed module (include/linux/module_signature.h).
const SIGNATURE_MAGIC: &[u8] = b"~Module signature appended~\n";

/// Size of `struct module_signature`, whose last four bytes are the length of the signature, big endian.
const SIGNATURE_INFO: usize = 12;

/// Splits a module from its appended signature, if it has one.
fn split_signature(module: &[u8]) -> (&[u8], Option<&[u8]>) {
    let split = || {
        let info_end = module.strip_suffix(SIGNATURE_MAGIC)?.len();
        let length = module.get(info_end.checked_sub(4)?..info_end)?;
        let length = length.iter().fold(0usize, |value, byte| (value << 8) | usize::from(*byte));
        module.split_at_checked(info_end.checked_sub(SIGNATURE_INFO)?.checked_sub(length)?)
    };
    split().map_or((module, None), |(content, signature)| (content, Some(signature)))
}

/// All module files below a directory, by module name.
fn find(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), ModulesError> {
    let failed = |source| ModulesError::Io { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            find(&entry.path(), files)?;
        } else if let Some(name) = entry.file_name().to_str().and_then(module_name) {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}

fn module_name(file: &str) -> Option<String> {
    let stem = file.strip_suffix(".ko").or_else(|| file.strip_suffix(".ko.xz"))?;
    Some(stem.replace('-', "_"))
}

fn built_in(dir: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(dir.join("modules.builtin")).unwrap_or_default();
    text.lines().filter_map(|line| module_name(line.rsplit('/').next()?)).collect()
}

/// The strings of the `.modinfo` section of a 64-bit little-endian ELF file (elf(5)).
pub fn modinfo(elf: &[u8]) -> Result<Vec<&str>, &'static str> {
    let number = |at: usize, size: usize| -> Result<u64, &'static str> {
        let bytes = elf.get(at..at.saturating_add(size)).ok_or("the file is truncated")?;
        Ok(bytes.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    };
    if elf.get(..6) != Some(&[0x7f, b'E', b'L', b'F', 2, 1]) {
        return Err("not a 64-bit little-endian ELF file");
    }
    let (table, entry_size) = (number(0x28, 8)?, number(0x3a, 2)?);
    let (count, names) = (number(0x3c, 2)?, number(0x3e, 2)?);
    let section = |index: u64| -> Result<(u64, &[u8]), &'static str> {
        let at = index
            .checked_mul(entry_size)
            .and_then(|offset| offset.checked_add(table))
            .ok_or("invalid offset")?;
        let at = usize::try_from(at).map_err(|_| "invalid offset")?;
        let (offset, size) =
            (number(at.saturating_add(0x18), 8)?, number(at.saturating_add(0x20), 8)?);
        let end = offset.checked_add(size).ok_or("invalid offset")?;
        let range = usize::try_from(offset).map_err(|_| "invalid offset")?
            ..usize::try_from(end).map_err(|_| "invalid offset")?;
        // A section without bytes in the file (.bss) is irrelevant here.
        Ok((number(at, 4)?, elf.get(range).unwrap_or_default()))
    };
    let (_, names) = section(names)?;
    for index in 0..count {
        let (name, bytes) = section(index)?;
        let name = usize::try_from(name).ok().and_then(|at| names.get(at..)).unwrap_or_default();
        if name.starts_with(b".modinfo\0") {
            return Ok(bytes
                .split(|byte| *byte == 0)
                .filter_map(|line| std::str::from_utf8(line).ok())
                .collect());
        }
    }
    Err("no .modinfo section")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn modules_that_netsetup_waits_for_are_loaded_at_boot() {
        for name in [netsetup::modules::BRIDGING, netsetup::modules::FIREWALL].concat() {
            assert!(BOOT.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_signature_can_be_split_off_and_appended_again() {
        let mut signed = b"content".to_vec();
        signed.extend([9; 5]);
        signed.extend([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
        signed.extend(SIGNATURE_MAGIC);
        let (content, signature) = split_signature(&signed);
        assert_eq!(content, b"content");
        assert_eq!([content, signature.unwrap()].concat(), signed);
        assert_eq!(split_signature(b"content"), (&b"content"[..], None));
    }

    proptest! {
        #[test]
        fn splitting_a_signature_loses_no_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            bytes.extend(SIGNATURE_MAGIC);
            let (content, signature) = split_signature(&bytes);
            prop_assert_eq!([content, signature.unwrap_or_default()].concat(), bytes);
        }

        #[test]
        fn modinfo_handles_any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 64..400), elf in any::<bool>()) {
            if elf {
                bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
                bytes[0x28..0x30].copy_from_slice(&[64, 0, 0, 0, 0, 0, 0, 0]);
                bytes[0x3a..0x3c].copy_from_slice(&[64, 0]);
                bytes[0x3c..0x3e].copy_from_slice(&[4, 0]);
            }
            let _ = modinfo(&bytes);
        }
    }
}
