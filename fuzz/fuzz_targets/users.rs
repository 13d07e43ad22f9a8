//! A unit's user with the /etc/passwd and /etc/group of an image: three parts, each terminated by a NUL.
#![no_main]

use container::user::{Id, parse, resolve};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let (passwd, group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(spec) = parse(&text) else { return };
    let Ok(identity) = resolve(&spec, passwd, group) else { return };
    // -1 would mean "unchanged" to the kernel, which would be root.
    assert!(identity.uid != u32::MAX && !identity.groups.contains(&u32::MAX));
    assert_eq!(identity.groups.first(), Some(&identity.gid));
    assert!(identity.home.starts_with('/'));
    if let Id::Number(uid) = spec.user {
        assert_eq!(identity.uid, uid);
    }
    if let Some(Id::Number(gid)) = spec.group {
        assert_eq!((identity.gid, identity.groups.len()), (gid, 1));
    }
    let mut sorted = identity.groups.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), identity.groups.len());
});
