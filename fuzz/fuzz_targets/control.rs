//! The control socket: lines in arbitrary chunks, a request in each, and the paths that can be read.
#![no_main]

use fuzz::{pieces, reads_back, steer};
use ipc::Answer;
use ipc::control::{MAX_REQUEST, Numbered, Request};
use libfuzzer_sys::fuzz_target;
use std::path::{Component, Path};
use supervisor::requests::control::take_lines;
use supervisor::requests::queries::allowed;

fuzz_target!(|data: &[u8]| {
    let (cut, bytes) = steer(data);
    let whole = take_lines(&mut bytes.to_vec());
    let (mut incoming, mut found) = (Vec::new(), Vec::new());
    for piece in pieces(bytes, cut) {
        incoming.extend_from_slice(piece);
        found.extend(take_lines(&mut incoming));
    }
    assert_eq!(found, whole);
    assert!(!incoming.contains(&b'\n'));
    for line in whole {
        assert!(line.len() <= 3 * MAX_REQUEST && !line.trim().is_empty());
        if let Some(request) = reads_back::<Numbered<Request>>(line.as_bytes())
            && let Request::Read { path } | Request::List { path } = &request.body
        {
            judge(path);
        }
        // What the other side reads. An event of an unknown kind is the one thing that is read and
        // never written.
        if let Ok(answer) = serde_json::from_str::<Numbered<Answer>>(&line)
            && let Ok(written) = serde_json::to_string(&answer)
        {
            let again = serde_json::from_str::<Numbered<Answer>>(&written);
            assert_eq!(again.expect("what is written can be read"), answer);
        }
    }
});

fn judge(path: &str) {
    let Ok(allowed) = allowed(path) else { return };
    assert!(allowed.components().all(|part| part != Component::ParentDir), "{path}");
    let below =
        ["/proc", "/sys", "/run/keel", "/data"].iter().any(|root| allowed.starts_with(root));
    assert!(below && allowed != Path::new("/proc/kmsg"), "{path}");
}
