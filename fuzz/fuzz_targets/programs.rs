//! ELF files: a program that does not start, a kernel module, reports of a starting container; and file
//! capabilities.
#![no_main]

use container::status::MAX_DETAIL;
use container::{CapSet, FileCaps, decode_status, explain_format};
use image::modules::modinfo;
use libfuzzer_sys::fuzz_target;
use nix::errno::Errno;

fuzz_target!(|data: &[u8]| {
    for errno in [Errno::ENOENT, Errno::ENOEXEC] {
        assert!(!explain_format(data, errno).is_empty());
    }
    if let Some(caps) = FileCaps::parse(data) {
        assert!(caps.refusal(CapSet::ALL).is_none());
    }
    if let Ok(lines) = modinfo(data) {
        assert!(lines.iter().map(|line| line.len()).sum::<usize>() <= data.len());
    }
    let error = decode_status(data);
    // A byte that is not valid UTF-8 becomes a character of three bytes.
    assert!(error.detail.len() <= 3 * MAX_DETAIL && !error.to_string().is_empty());
});
