//! The frames of an exec in both directions: the result must not depend on the chunks.
#![no_main]

use api_types::{Decoder, ExitStatus, Frame, FrameError, FrameKind, Resize};
use fuzz::{pieces, steer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (cut, bytes) = steer(data);
    let (whole, end) = decode(std::iter::once(bytes));
    assert_eq!(decode(pieces(bytes, cut)), (whole.clone(), end));
    let mut back = Vec::new();
    for frame in &whole {
        frame.encode(&mut back).expect("a frame that was read can be written");
        match frame.kind {
            FrameKind::Resize => {
                if let Ok(size) = Resize::decode(&frame.payload) {
                    assert_eq!(size.encode().as_slice(), frame.payload);
                }
            }
            FrameKind::Exit => drop(fuzz::reads_back::<ExitStatus>(&frame.payload)),
            _ => {}
        }
    }
    assert!(bytes.starts_with(&back));
});

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}
