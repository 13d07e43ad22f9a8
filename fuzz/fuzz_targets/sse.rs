//! Server-sent events: the result must not depend on the chunks, and events written by a host round-trip.
#![no_main]

use client::sse::{Parser, SseEvent};
use fuzz::{pieces, steer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (cut, bytes) = steer(data);
    let whole = read(std::iter::once(bytes));
    assert_eq!(read(pieces(bytes, cut)), whole);
    assert!(whole.len() <= bytes.len());
    for event in &whole {
        assert!(!event.kind.contains(['\n', '\r']) && !event.id.contains(['\n', '\r']));
        let id = event.id.parse().ok();
        let json = serde_json::to_vec(&event.data).expect("a text can be JSON");
        let mut wire = Vec::new();
        api::sse::push(&mut wire, id, &event.kind, &json);
        let again = read(std::iter::once(wire.as_slice()));
        let [again] = again.as_slice() else { panic!("one event became {}", again.len()) };
        assert_eq!(again.data.as_bytes(), json);
        assert_eq!(again.id, id.map_or_else(String::new, |id: u64| id.to_string()));
    }
});

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<SseEvent> {
    let mut parser = Parser::default();
    pieces.flat_map(|piece| parser.push(piece).expect("far shorter than the limit")).collect()
}
