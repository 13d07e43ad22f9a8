//! Short texts: readiness notifications, the response to a probe, the kernel command line.
#![no_main]

use api_types::Client;
use layout::Cmdline;
use libfuzzer_sys::fuzz_target;
use policy::Notice;
use supervisor::health::probe::judge;
use supervisor::running::notify;

fuzz_target!(|data: &[u8]| {
    let notices = notify::parse(data);
    assert!(notices.len() <= data.len());
    for notice in notices {
        if let Notice::Status(status) = notice {
            assert!(status.chars().count() <= 200 && !status.contains(char::is_control));
        }
    }
    if judge(data).is_ok() {
        assert!(data.starts_with(b"HTTP/1."));
    }
    let text = String::from_utf8_lossy(data);
    let line = Cmdline::parse(&text);
    for word in line.clients.iter().map(String::as_str).chain([text.as_ref()]) {
        if let Ok(client) = word.parse::<Client>() {
            let role = client.role.to_string();
            assert_eq!(word, format!("{}:{role}:{}", client.name, client.key));
        }
    }
});
