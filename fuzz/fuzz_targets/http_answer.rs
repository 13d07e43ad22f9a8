//! HTTP responses of a host, as the command line reads them: the result must not depend on the chunks.
#![no_main]

use client::http::{Head, Http, Payload, Request};
use fuzz::{pieces, steer};
use libfuzzer_sys::fuzz_target;
use std::collections::VecDeque;
use std::io::{self, Read, Write};

const MOST: usize = 1 << 20;

/// A connection that delivers these bytes and discards what is sent.
struct Wire<'a>(VecDeque<&'a [u8]>);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(first) = self.0.pop_front() else { return Ok(0) };
        let take = first.len().min(buffer.len());
        let (now, later) = first.split_at(take);
        buffer[..take].copy_from_slice(now);
        if !later.is_empty() {
            self.0.push_front(later);
        }
        Ok(take)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let (cut, bytes) = steer(data);
    let whole = answers(Wire([bytes].into()));
    assert_eq!(answers(Wire(pieces(bytes, cut).collect())), whole);
    let bodies: usize = whole.iter().filter_map(|(_, body)| body.as_ref().map(Vec::len)).sum();
    assert!(bodies <= bytes.len());
});

/// Status and body of up to three responses on one connection; `None`: incomplete.
fn answers(wire: Wire<'_>) -> Vec<(u16, Option<Vec<u8>>)> {
    let (mut http, mut found) = (Http::new(wire), Vec::new());
    let request = Request { method: "GET", path: "/", headers: &[] };
    for _ in 0..3 {
        let asked = http.send("host", &request, Payload::None);
        let Ok(head @ Head { status, .. }) = asked else { break };
        let _ = head.header("content-type");
        let body = http.read_all(MOST).ok();
        found.push((status, body));
        if status == 101 || !http.reusable() {
            break;
        }
    }
    found
}
