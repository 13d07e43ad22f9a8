use super::*;
use crate::disk::{Files, format_line};
use crate::line::Flags;
use crate::ring::{DiskMark, Head};
use crate::testdir::Dir;
use proptest::prelude::*;
use std::os::unix::fs::symlink;
use units::model::LogPolicy;

fn line(boot: u64, seq: u64, unix_us: i64, stream: Stream, long: bool) -> Line {
    let text = format!("{seq} of boot {boot} {}", "x".repeat(if long { 15_000 } else { 0 }));
    let flags = Flags::NONE;
    Line { seq, unix_us, mono_ms: 0, generation: 1 + seq / 5, stream, flags, text: text.into() }
}

/// Writes lines like the logger, in files of at most `max_size` bytes.
fn write(dir: &Path, lines: &[(u64, Line)], max_size: u64) {
    let policy = LogPolicy { max_size, max_files: 1000 };
    for (_, line) in lines {
        let mut bytes = Vec::new();
        let head = Head {
            text_len: line.text.len(),
            stream: line.stream,
            flags: line.flags,
            previous: 0,
            generation: line.generation,
            seq: line.seq,
            unix_us: line.unix_us,
            mono_ms: 0,
        };
        format_line(&head, &line.text, &mut bytes);
        let (mut files, _) = Files::open(dir, DiskMark::default(), 0).unwrap();
        files.append(&bytes, &policy, &mut true).unwrap();
    }
}

fn all(history: &History, mut part: Part) -> Vec<(u64, Line)> {
    let mut lines = Vec::new();
    loop {
        let some = history.read(&mut part).unwrap();
        if some.is_empty() {
            return lines;
        }
        lines.extend(some);
    }
}

fn stream(number: u64) -> Stream {
    if number.is_multiple_of(3) { Stream::Stderr } else { Stream::Stdout }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Earlier boots, and of this one `filed` lines of which the ring has lost `lost`.
    #[test]
    fn lines_evicted_from_the_ring_are_found_in_the_files(
        boots in prop::collection::vec((1u64..30, any::<bool>()), 0..4),
        (filed, lost, unfiled) in (0u64..30, 0u64..40, 0u64..10),
        max_size in 300u64..40_000,
        take in prop_oneof![Just(usize::MAX), 0usize..60],
        after in prop::option::of(0u64..40),
        since_us in prop::option::of(0i64..120),
        only in prop::option::of(prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)]),
    ) {
        let dir = Dir::new();
        let mut lines: Vec<(u64, Line)> = Vec::new();
        let count = boots.len() as u64;
        for (index, (length, long)) in boots.into_iter().enumerate() {
            let boot = count - index as u64;
            for seq in 1..=length {
                let now = lines.len() as i64;
                lines.push((boot, line(boot, seq, now, stream(seq), long && seq % 7 == 0)));
            }
        }
        let mut times = Vec::new();
        let mut in_files = lines.clone();
        let lost = lost.min(filed + unfiled);
        for seq in 1..=filed + unfiled {
            let now = lines.len() as i64;
            let one = line(0, seq, now, stream(seq), false);
            lines.push((0, one.clone()));
            if seq <= filed {
                in_files.push((0, one));
            }
            if seq > lost {
                times.push(now);
            }
        }
        write(&dir.0.join("unit"), &in_files, max_size);
        let ring = InRing { first: lost + 1, times, filed: filed > 0 };
        let search = Search { take, after, since_us, stream: only };

        let mut want: Vec<(u64, Line)> = in_files
            .into_iter()
            .filter(|(boot, line)| {
                (*boot > 0 || line.seq <= lost)
                    && after.is_none_or(|after| *boot == 0 && line.seq > after)
                    && since_us.is_none_or(|since| line.unix_us >= since)
                    && only.is_none_or(|only| only == line.stream)
            })
            .collect();
        want.drain(..want.len().saturating_sub(take));

        let history = History::new(open(&dir.0, "unit").unwrap()).unwrap();
        let part = history.find(&ring, &search).unwrap();
        let mut got = all(&history, part);
        got.retain(|(_, line)| only.is_none_or(|only| only == line.stream));
        prop_assert_eq!(got, want);
    }

    /// With any content of the files, reading terminates and needs little memory.
    #[test]
    fn lines_not_written_by_the_logger_are_skipped(
        pieces in prop::collection::vec((0usize..90_000, any::<u8>(), any::<bool>()), 0..6),
    ) {
        let dir = Dir::new();
        let folder = dir.0.join("unit");
        std::fs::create_dir(&folder).unwrap();
        let mut bytes = Vec::new();
        let mut ours = 0u64;
        for (length, byte, own) in pieces {
            bytes.extend(std::iter::repeat_n(byte, length));
            if own {
                ours += 1;
                bytes.push(b'\n');
                bytes.extend(line(0, ours, 0, Stream::Stdout, false).format());
                bytes.push(b'\n');
            }
        }
        std::fs::write(folder.join("current.log"), &bytes).unwrap();
        let history = History::new(open(&dir.0, "unit").unwrap()).unwrap();
        let search = Search { take: usize::MAX, ..Search::default() };
        let part = history.find(&InRing::default(), &search).unwrap();
        let seqs: Vec<u64> = all(&history, part).iter().map(|(_, line)| line.seq).collect();
        prop_assert_eq!(seqs, (1..=ours).collect::<Vec<_>>());
    }
}

#[test]
fn in_ring_has_exactly_the_lines_of_the_ring() {
    use crate::ring::{Batch, DEFAULT_CAPACITY, StreamMark, Writer};
    let dir = Dir::new();
    let mut writer = Writer::open(&dir.0.join("ring"), DEFAULT_CAPACITY).unwrap();
    let reader = Reader::open(&dir.0.join("ring")).unwrap();
    let empty = InRing::of(&reader).unwrap();
    assert_eq!((empty.first, empty.times.len(), empty.filed), (1, 0, false));
    for round in 0..2000 {
        let mut batch = Batch::default();
        writer.begin(&mut batch, round, 0);
        assert!(batch.push(1, Stream::Stdout, Flags::NONE, &[b'x'; 1000]));
        let room = writer.room(&batch);
        let (stream, offset) = (Stream::Stdout, round as u64);
        let mark = StreamMark { generation: 1, stream, in_line: false, offset };
        writer.append(&batch, room, mark).unwrap();
    }
    let ring = InRing::of(&reader).unwrap();
    let counters = reader.counters().unwrap();
    assert!(counters.evicted > 1000);
    assert_eq!(ring.first, counters.evicted + 1);
    assert_eq!(ring.times.len() as u64, 2000 - counters.evicted);
    assert_eq!(ring.times.last(), Some(&1999));
}

#[test]
fn links_out_of_the_loggers_directory_are_not_followed() {
    let dir = Dir::new();
    let (logs, outside) = (dir.0.join("logs"), dir.0.join("outside"));
    for folder in [&logs, &outside, &logs.join("file")] {
        std::fs::create_dir(folder).unwrap();
    }
    std::fs::write(outside.join("current.log"), "secret").unwrap();
    symlink(&outside, logs.join("folder")).unwrap();
    symlink(outside.join("current.log"), logs.join("file/current.log")).unwrap();
    std::fs::create_dir(logs.join("fifo")).unwrap();
    nix::unistd::mkfifo(&logs.join("fifo/current.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for unit in ["folder", "file", "../outside"] {
        assert!(open(&logs, unit).is_err(), "{unit}");
    }
    assert!(open(&logs, "fifo").unwrap().is_empty());
    assert!(open(&logs, "none").unwrap().is_empty());
    assert!(open(&dir.0.join("none"), "none").unwrap().is_empty());
}
