//! HTTP requests after hyper has parsed them: path, query, headers. The first line is the path with the
//! query, the following lines are header values.
#![no_main]

use api::handlers::{exec, logs};
use api::query::{Query, decode};
use api::router::unit_in;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::{Method, Uri};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    if let Ok(uri) = Uri::try_from(first) {
        for method in [Method::GET, Method::POST, Method::PUT] {
            if let Ok(unit) = unit_in(&method, uri.path()) {
                assert!(unit.is_empty() || units::names::check_unit_name(&unit).is_ok());
            }
        }
        if let Ok(query) = Query::parse(uri.query().unwrap_or_default()) {
            let _ = logs::wanted(&query);
            let _ = query.read::<u64>("after", "a number");
        }
    }
    if let Ok(text) = std::str::from_utf8(first) {
        for query in [false, true] {
            if let Ok(plain) = decode(text, query) {
                assert!(plain.len() <= text.len() && !plain.contains('\0'));
                let encoded: String = plain.bytes().map(|byte| format!("%{byte:02X}")).collect();
                assert_eq!(decode(&encoded, query).ok(), Some(plain));
            }
        }
        moment(text);
    }
    for line in lines.take(3) {
        let Ok(value) = HeaderValue::from_bytes(line) else { continue };
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", value.clone());
        headers.insert(api_types::EXEC_HEADER, value);
        headers.insert(UPGRADE, HeaderValue::from_static(api_types::EXEC_PROTOCOL));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let _ = logs::last_event_id(&headers);
        if let Ok(request) = exec::request(&headers) {
            assert!(request.command.first().is_some_and(|program| !program.is_empty()));
        }
        // The same after base64 decoding, which a fuzzer cannot produce by itself.
        drop(fuzz::reads_back::<api_types::ExecRequest>(line));
    }
});

fn moment(text: &str) {
    let Some(micros) = logger::parse_rfc3339(text) else { return };
    // Years that RFC 3339 cannot represent can only result from offsets.
    if (0..=253_402_300_799_999_999).contains(&micros) {
        assert_eq!(logger::parse_rfc3339(&logger::rfc3339(micros)), Some(micros), "{text}");
    }
    // The command line accepts everything that the host accepts.
    assert!(text.parse::<client::since::Since>().is_ok(), "{text}");
}
