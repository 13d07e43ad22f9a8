//! A log ring: a file that another process writes while this one reads.
#![no_main]

use fuzz::file;
use libfuzzer_sys::fuzz_target;
use logger::ring::{MIN_CAPACITY, seal};
use logger::{MAX_TEXT, Reader};

const HEADER: u64 = 4096;
const SLOT: usize = 1024;
/// Length of the slot header in the input; the rest are records.
const STATE: usize = 14 * 8 + 2 * 24;

fuzz_target!(|data: &[u8]| {
    let (state, records) = data.split_at(STATE.min(data.len()));
    let mut slot = state.to_vec();
    slot.resize(SLOT, 0);
    seal(&mut slot);
    let magic = [b"keelrng1".as_slice(), &MIN_CAPACITY.to_le_bytes()].concat();
    // Records begin at the tail, at any position in the ring.
    let tail =
        state.get(16..24).and_then(|tail| tail.try_into().ok()).map_or(0, u64::from_le_bytes);
    let at = tail % MIN_CAPACITY;
    let room = usize::try_from(MIN_CAPACITY - at).unwrap_or(usize::MAX).min(records.len());
    let (first, wrapped) = records.split_at(room);
    let parts = [(0, magic.as_slice()), (1024, &slot), (HEADER + at, first), (HEADER, wrapped)];
    let reader = Reader::from_file(file(HEADER + MIN_CAPACITY, &parts));
    let Ok(counters) = reader.counters() else { return };
    let tails = [reader.tail(5), reader.tail(usize::MAX)];
    let sinces = [reader.since(0, 100), reader.since(counters.lines / 2, 3)];
    for (lines, most) in tails.into_iter().chain(sinces).zip([5, usize::MAX, 100, 3]) {
        let Ok(lines) = lines else { continue };
        assert!(lines.len() <= most && lines.len() as u64 <= MIN_CAPACITY / 40);
        assert!(lines.is_sorted_by(|a, b| a.seq.checked_add(1) == Some(b.seq)));
        for line in &lines {
            assert!(line.text.len() <= MAX_TEXT && line.seq > counters.evicted);
            assert!(line.seq <= counters.lines);
        }
    }
});
