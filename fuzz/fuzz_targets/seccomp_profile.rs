//! A seccomp profile in the JSON format of docker and podman, parsed and compiled.
#![no_main]

use container::seccomp::{Document, Filter, Kernel, names};
use container::{CapSet, seccomp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let document = match Document::parse(data) {
        Ok(document) => document,
        Err(error) => {
            // The message is shown on a terminal, so text from the file must be truncated and escaped.
            let text = error.to_string();
            assert!(text.len() < 1000 && !text.contains('\u{1b}'), "{text:?}");
            return;
        }
    };
    for caps in [CapSet::EMPTY, CapSet::DEFAULT, CapSet::ALL] {
        let (profile, _) = document.profile(caps, Kernel(6, 12));
        let Ok(filter) = Filter::new(&profile) else { continue };
        assert!((1..=4096).contains(&filter.instructions()));
        // A profile that passed the check must allow starting a program.
        for call in ["execve", "write", "exit_group"] {
            assert!(names::number(call).is_some_and(|call| profile.may_allow(call)));
        }
        let x32 = profile.evaluate(0x4000_0000, &[0; 6]);
        assert_eq!(x32, seccomp::Action::UNKNOWN);
    }
});
