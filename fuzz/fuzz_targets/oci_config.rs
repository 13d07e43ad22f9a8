//! `config.json` of an OCI bundle, up to a plan that the engine accepts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_runtime::config::{Config, Users};
use std::path::Path;

/// Whether a path is absolute and has no `..`.
fn plain(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|part| part == "..")
}

fuzz_target!(|data: &[u8]| {
    let Ok(config) = Config::parse(data, Path::new("/bundle")) else { return };
    // The engine must accept every configuration that was parsed.
    oci_runtime::check(&config).expect("a plan");
    assert!(config.root.to_str().is_some_and(plain));
    for mount in &config.mounts {
        assert!(plain(&mount.target));
        let first = mount.target.split('/').find(|part| !part.is_empty());
        assert!(!matches!(first, None | Some("proc" | "sys")));
        assert!(first != Some("dev") || mount.target.starts_with("/dev/shm"));
    }
    assert!(config.masked.iter().chain(&config.read_only_paths).all(|path| plain(path)));
    assert!(config.devices.iter().all(|device| device.path.starts_with("/dev/")));
    let process = &config.program.process;
    assert!(!process.argv.is_empty());
    assert!(process.argv.iter().chain(&process.env).all(|text| !text.contains('\0')));
    assert!(process.groups.iter().flatten().all(|id| *id != u32::MAX));
    if let Users::New(range) = &config.users {
        let last = range.host_id(range.count - 1).expect("the last id is one");
        // -1 would mean "unchanged" to the kernel.
        assert!(last != u32::MAX);
    }
    for setting in &config.settings {
        assert!(!setting.file.starts_with("cgroup.") && !setting.file.contains('/'));
        assert!(!setting.value.trim_end().contains('\n'));
    }
    if let Some(path) = &config.cgroup {
        assert!(
            path.is_relative()
                && path
                    .to_str()
                    .is_some_and(|path| !path.contains("..") || plain(&format!("/{path}")))
        );
    }
    for hook in
        config.hooks.create.iter().chain(&config.hooks.poststart).chain(&config.hooks.poststop)
    {
        assert!(hook.path.is_absolute());
    }
});
