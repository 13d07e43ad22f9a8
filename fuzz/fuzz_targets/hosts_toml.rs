//! hosts.toml, command-line arguments for hosts and times, and the display of texts from a host.
#![no_main]

use client::address::Address;
use client::fingerprint::Fingerprint;
use client::hosts::Hosts;
use client::sanitize::{clean, clean_line};
use client::since::Since;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    match Hosts::parse(Path::new("/etc/keel/hosts.toml"), &text) {
        Ok(hosts) => {
            assert!(hosts.groups.values().flatten().all(|name| hosts.hosts.contains_key(name)));
            assert!(hosts.groups.keys().all(|name| !hosts.hosts.contains_key(name)));
            for host in hosts.hosts.values() {
                assert_eq!(host.address.to_string().parse().as_ref(), Ok(&host.address));
            }
        }
        Err(error) => assert!(!error.to_string().contains('\u{1b}')),
    }
    for word in text.split(['"', '\n']) {
        if let Ok(address) = word.parse::<Address>() {
            assert_eq!(address.to_string().parse().as_ref(), Ok(&address));
        }
        if let Ok(key) = word.parse::<Fingerprint>() {
            assert_eq!(key.to_string(), word);
        }
        let _ = word.parse::<Since>();
        assert!(!clean(word).contains(char::is_control));
        let shown = clean_line(word);
        let plain = shown.replace("\x1b[", "");
        assert!(!plain.contains(|c: char| c.is_control() && c != '\t'), "{shown:?}");
    }
});
