//! Following rings: however many clients follow a unit, its ring is watched once, and new lines are
//! read and encoded as JSON once. Each follower has its own position, so that a slow one does not
//! delay the others.

use crate::lines::{EncodedLine, encode_batch};
use logger::{Reader, RingError};
use nix::sys::stat::fstat;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// How often a ring is checked while it is followed.
const PAUSE: Duration = Duration::from_millis(100);
/// Lines read at a time; one may have 16 KiB.
pub const BATCH: usize = 32;

/// Most bytes of JSON sent at a time, but at least one line: this is what a client that does not read
/// costs, and there may be a thousand.
pub const MAX_BATCH_BYTES: usize = 32 * 1024;

/// The rings that are being followed, by unit.
#[derive(Debug, Default)]
pub struct Rings(RefCell<HashMap<String, Weak<Ring>>>);

/// A ring that is being followed.
#[derive(Debug)]
pub struct Ring {
    reader: Reader,
    /// Device and inode: another file under the same name is another ring.
    identity: (u64, u64),
    /// Lines written so far.
    written: watch::Sender<u64>,
    /// The last batch that was read, with the line after which it begins: most followers are at the
    /// same position.
    last: RefCell<(u64, Rc<[EncodedLine]>)>,
}

impl Rings {
    /// The ring in this file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn follow(&self, unit: &str, file: File) -> Result<Rc<Ring>, RingError> {
        let identity = fstat(&file).map(|stat| (stat.st_dev, stat.st_ino)).unwrap_or_default();
        let mut rings = self.0.borrow_mut();
        rings.retain(|_, ring| ring.strong_count() > 0);
        if let Some(ring) = rings.get(unit).and_then(Weak::upgrade)
            && ring.identity == identity
        {
            return Ok(ring);
        }
        let reader = Reader::from_file(file);
        let written = watch::Sender::new(reader.counters()?.lines);
        let last = RefCell::new((0, Rc::from([])));
        let ring = Rc::new(Ring { reader, identity, written, last });
        rings.insert(unit.to_owned(), Rc::downgrade(&ring));
        tokio::task::spawn_local(watch_ring(Rc::downgrade(&ring)));
        Ok(ring)
    }
}

/// Notifies the followers of new lines, as long as there are followers.
async fn watch_ring(ring: Weak<Ring>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let Some(ring) = ring.upgrade() else { return };
        // The followers meet the same error and report it to their clients.
        if let Ok(counters) = ring.reader.counters() {
            ring.written.send_if_modified(|lines| {
                std::mem::replace(lines, counters.lines) != counters.lines
            });
        }
    }
}

impl Ring {
    /// Changes when there are new lines.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// The reader itself.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Some of the lines after line `seq`; none when there are none yet.
    ///
    /// # Errors
    /// The ring cannot be read.
    pub fn after(&self, seq: u64) -> Result<Rc<[EncodedLine]>, RingError> {
        let (begin, batch) = self.last.borrow().clone();
        if begin == seq && !batch.is_empty() {
            return Ok(batch);
        }
        let batch: Rc<[EncodedLine]> = encode_batch(&self.reader.since(seq, BATCH)?).into();
        *self.last.borrow_mut() = (seq, batch.clone());
        Ok(batch)
    }
}
