//! Tests of the ring against a model, with damage, and with a reader in another thread.

use super::state::{SLOT, State};
use super::writer::SLOTS;
use super::*;
use crate::line::{Flags, Line, Stream};
use crate::testdir::Dir;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::os::unix::fs::FileExt;

fn mark(offset: u64) -> StreamMark {
    StreamMark { generation: 1, stream: Stream::Stdout, in_line: false, offset }
}

/// Appends texts as one batch; returns how many fit.
fn append(writer: &mut Writer, texts: &[Vec<u8>], at: u64) -> usize {
    let mut batch = Batch::default();
    writer.begin(&mut batch, at as i64, at);
    let stream = if at.is_multiple_of(2) { Stream::Stdout } else { Stream::Stderr };
    let taken = texts.iter().take_while(|text| batch.push(at, stream, Flags::NONE, text)).count();
    let room = writer.room(&batch);
    writer.append(&batch, room, mark(at)).unwrap();
    taken
}

/// Reads all records of a ring through its reader.
fn all(path: &std::path::Path) -> Vec<Line> {
    Reader::open(path).unwrap().since(0, usize::MAX).unwrap()
}

/// Texts that fill a small ring several times, up to the maximum length.
fn batches() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let text = (prop_oneof![4 => 0usize..200, 1 => 0..crate::MAX_TEXT + 1], any::<u8>())
        .prop_map(|(len, byte)| vec![byte; len]);
    prop::collection::vec(prop::collection::vec(text, 0..40), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_ring_is_a_queue_that_evicts_the_oldest(batches in batches(), reopen in any::<u32>()) {
        let dir = Dir::new();
        let path = dir.0.join("ring");
        let mut writer = Writer::open(&path, MIN_CAPACITY).unwrap();
        let mut model: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
        let (mut seq, mut bytes) = (0u64, 0u64);
        for (index, texts) in batches.iter().enumerate() {
            let taken = append(&mut writer, texts, index as u64);
            for text in &texts[..taken] {
                seq += 1;
                bytes += text.len() as u64;
                model.push_back((seq, text.clone()));
            }
            let size = |entry: &(u64, Vec<u8>)| record::encoded_len(entry.1.len());
            while model.iter().map(size).sum::<u64>() > MIN_CAPACITY {
                model.pop_front();
            }
            if reopen >> (index % 32) & 1 == 1 {
                writer = Writer::open(&path, MIN_CAPACITY).unwrap();
                prop_assert_eq!(
                    writer.mark(1, Stream::Stdout).unwrap().offset, index as u64
                );
            }
            let counts = writer.counters();
            prop_assert_eq!(counts.lines, seq);
            prop_assert_eq!(counts.bytes, bytes);
            prop_assert_eq!(counts.lines - counts.evicted, model.len() as u64);
            let read = all(&path);
            let got: Vec<_> = read.iter().map(|line| (line.seq, line.text.clone())).collect();
            prop_assert_eq!(&got, &Vec::from(model.clone()));
            let reader = Reader::open(&path).unwrap();
            for n in [1, 2, model.len() / 2, model.len(), model.len() + 5] {
                let want = &read[read.len() - n.min(read.len())..];
                prop_assert_eq!(&reader.tail(n).unwrap()[..], want);
            }
            if let Some(middle) = read.get(read.len() / 2) {
                let after = reader.since(middle.seq, 7).unwrap();
                let want = &read[read.len() / 2 + 1..];
                prop_assert_eq!(&after[..], &want[..want.len().min(7)]);
            }
        }
    }

    /// A kill between any two writes leaves the newest slot either old or torn. Both must result in
    /// the previous state, with all records except evicted ones.
    #[test]
    fn a_torn_commit_leaves_the_previous_commit(batches in batches(), torn in 0..SLOT) {
        let dir = Dir::new();
        let path = dir.0.join("ring");
        let mut writer = Writer::open(&path, MIN_CAPACITY).unwrap();
        for (index, texts) in batches.iter().enumerate() {
            let before = all(&path);
            append(&mut writer, texts, index as u64);
            let first = writer.counters().evicted + 1;
            let copy = dir.0.join("copy");
            std::fs::copy(&path, &copy).unwrap();
            let file = std::fs::File::options().read(true).write(true).open(&copy).unwrap();
            let state = reader::load(&file).unwrap().1;
            let at = SLOTS[state.commit as usize % 2];
            let mut byte = [0];
            file.read_exact_at(&mut byte, at + torn as u64).unwrap();
            file.write_all_at(&[byte[0] ^ 0x55], at + torn as u64).unwrap();
            let kept: Vec<Line> = before.into_iter().filter(|line| line.seq >= first).collect();
            prop_assert_eq!(all(&copy), kept.clone());
            // The next writer continues from there.
            let mut next = Writer::open(&copy, MIN_CAPACITY).unwrap();
            append(&mut next, &[b"next".to_vec()], 9);
            prop_assert!(all(&copy).last().unwrap().text == b"next");
        }
    }

    #[test]
    fn a_reader_of_random_bytes_never_panics(
        header in prop::collection::vec(any::<u8>(), 0..5000),
        real_start in any::<bool>(),
    ) {
        let dir = Dir::new();
        let path = dir.0.join("ring");
        let mut bytes = header;
        if real_start {
            let start = writer::MAGIC.into_iter().chain(MIN_CAPACITY.to_le_bytes());
            bytes.iter_mut().zip(start).for_each(|(to, from)| *to = from);
        }
        std::fs::write(&path, &bytes).unwrap();
        let reader = Reader::open(&path).unwrap();
        prop_assert!(reader.tail(10).is_err());
        prop_assert!(reader.counters().is_err());
    }

    /// Random bytes with correct checksums reach the code behind the check.
    #[test]
    fn damage_with_a_correct_checksum_never_panics(
        batches in batches(),
        state in prop::collection::vec((0usize..14, any::<u64>(), any::<bool>()), 0..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..200),
        n in 0usize..5000,
        seq in any::<u16>(),
    ) {
        let dir = Dir::new();
        let path = dir.0.join("ring");
        let mut writer = Writer::open(&path, MIN_CAPACITY).unwrap();
        for (index, texts) in batches.iter().enumerate() {
            append(&mut writer, texts, index as u64);
        }
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let used = (MIN_CAPACITY as usize).min(batches.len() * 4000);
        for (index, byte) in damage {
            file.write_all_at(&[byte], HEADER + index.index(used) as u64).unwrap();
        }
        let (capacity, good) = reader::load(&file).unwrap();
        let mut slot = good.encode();
        for (field, value, near) in state {
            let range = field * 8..field * 8 + 8;
            let old = u64::from_le_bytes(slot[range.clone()].try_into().unwrap());
            let value = if near { old.wrapping_add(value % 4096).wrapping_sub(2048) } else { value };
            slot[range].copy_from_slice(&value.to_le_bytes());
        }
        state::seal(&mut slot);
        for at in SLOTS {
            file.write_all_at(&slot, at).unwrap();
        }
        let reader = Reader::open(&path).unwrap();
        let _ = reader.tail(n);
        let _ = reader.since(u64::from(seq), n);
        let _ = reader.counters();
        // The writer continues with it or starts with an empty ring; it stores the next line
        // anyway.
        drop(writer);
        let mut writer = Writer::open(&path, MIN_CAPACITY).unwrap();
        append(&mut writer, &[b"next".to_vec()], 2);
        if State::decode(&slot, capacity).is_none() {
            prop_assert!(all(&path).last().unwrap().text == b"next");
        }
        let _ = writer.after_disk(None).map(|walk| walk.seq);
        writer.evict_all().unwrap();
        append(&mut writer, &[b"after".to_vec()], 2);
        prop_assert!(all(&path).last().unwrap().text == b"after");
    }
}

#[test]
fn a_reader_during_concurrent_writes_sees_only_whole_lines_in_order() {
    let dir = Dir::new();
    let path = dir.0.join("ring");
    let mut writer = Writer::open(&path, MIN_CAPACITY).unwrap();
    let total = 40_000u64;
    let text = |seq: u64| format!("{seq} ").repeat(1 + seq as usize % 40).into_bytes();
    let check = |lines: &[Line]| {
        for pair in lines.windows(2) {
            assert_eq!(pair[0].seq + 1, pair[1].seq);
        }
        for line in lines {
            assert_eq!(line.text, text(line.seq));
        }
    };
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let (mut last, mut passes) = (0, 0u64);
            while last < total {
                let reader = Reader::open(&path).unwrap();
                let lines = if passes.is_multiple_of(2) {
                    reader.tail(200).unwrap()
                } else {
                    reader.since(last, 500).unwrap()
                };
                check(&lines);
                let counts = reader.counters().unwrap();
                assert!(counts.lines >= counts.evicted);
                last = lines.last().map_or(last, |line| line.seq.max(last));
                passes += 1;
            }
        });
        let mut seq = 0;
        while seq < total {
            let texts: Vec<_> = (seq + 1..=(seq + 30).min(total)).map(text).collect();
            seq += append(&mut writer, &texts, 2) as u64;
        }
        reading.join().unwrap();
    });
    check(&all(&path));
}

#[test]
fn evicted_lines_count_as_lost_until_found_on_disk() {
    let dir = Dir::new();
    let mut writer = Writer::open(&dir.0.join("ring"), MIN_CAPACITY).unwrap();
    let text = vec![b'x'; 16_000];
    for _ in 0..20 {
        append(&mut writer, std::slice::from_ref(&text), 2);
    }
    let evicted = writer.counters().evicted;
    assert!(evicted > 0);
    assert_eq!(writer.counters().lost, 0, "a host without a disk loses nothing");
    writer.set_disk_wanted(true).unwrap();
    assert_eq!(writer.counters().lost, evicted);
    writer.set_disk(DiskMark { inode: 1, size: 1, seq: evicted - 2 }).unwrap();
    assert_eq!(writer.counters().lost, 2);
    assert_eq!(writer.disk().seq, evicted);
    assert_eq!(writer.after_disk(None).unwrap().seq, evicted + 1);
}
