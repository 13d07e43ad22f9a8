//! Images: archives of OCI layouts and of `docker save`, their documents and compressed layers.
//! `--- NAME` begins a file of the archive; see `documents` for how to refer to the digest of another file.
#![no_main]

use fuzz::{file, folder::documents, tar};
use image::oci::open;
use libfuzzer_sys::fuzz_target;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const LIMIT: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut archive = Vec::new();
    for (name, content) in documents(data) {
        archive.extend(tar::member(&name, &content));
    }
    tar::seal(&mut archive);
    let archive = file(archive.len() as u64, &[(0, &archive)]);
    let path = PathBuf::from(format!("/proc/self/fd/{}", archive.as_raw_fd()));
    let Ok(source) = open(&path) else { return };
    assert!(source.layers.len() <= 128);
    let config = &source.config;
    let strings = config.entrypoint.iter().chain(&config.cmd).chain(&config.env);
    for text in strings.chain(&config.volumes).chain([&config.user, &config.working_dir]) {
        assert!(!text.contains('\0'));
    }
    assert!(config.volumes.iter().all(|path| path.starts_with('/')));
    assert!(config.env.iter().all(|entry| entry.find('=').is_some_and(|at| at > 0)));
    for layer in &source.layers {
        if let Ok(stream) = layer.unpack(Path::new("/dev/shm"), LIMIT) {
            assert!(stream.len() <= LIMIT);
            let _ = image::tree::read_layer(&stream, &image::tree::Limits::default());
        }
    }
});
