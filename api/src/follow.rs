//! Following rings: however many follow a unit, its ring is watched once and new lines are read
//! and written as JSON once. Each follower keeps its own position, so that a slow one costs nobody
//! anything.

use crate::lines::{Piece, pieces};
use logger::{Reader, RingError};
use nix::sys::stat::fstat;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// How often a ring is looked at while somebody follows it.
const PAUSE: Duration = Duration::from_millis(100);
/// Lines read at a time: one may have 16 KiB.
pub const BATCH: usize = 32;

/// Of these, as many are sent at a time as make so many bytes of JSON, but at least one: a client that
/// does not take them costs this, and there may be a thousand.
pub const MAX_PIECE: usize = 32 * 1024;

/// The rings that are being followed, by unit.
#[derive(Debug, Default)]
pub struct Rings(RefCell<HashMap<String, Weak<Ring>>>);

/// A ring that is being followed.
#[derive(Debug)]
pub struct Ring {
    reader: Reader,
    /// Of the file: another one under the same name is another ring.
    identity: (u64, u64),
    /// Lines ever written.
    written: watch::Sender<u64>,
    /// The last batch that somebody wanted, with the line after which it begins: most of those who
    /// follow are equally far.
    last: RefCell<(u64, Rc<[Piece]>)>,
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
        tokio::task::spawn_local(look(Rc::downgrade(&ring)));
        Ok(ring)
    }
}

/// Tells the followers when there is something new, as long as there are any.
async fn look(ring: Weak<Ring>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let Some(ring) = ring.upgrade() else { return };
        // An error is met again by the followers, who can tell their clients.
        if let Ok(counters) = ring.reader.counters() {
            ring.written.send_if_modified(|lines| {
                std::mem::replace(lines, counters.lines) != counters.lines
            });
        }
    }
}

impl Ring {
    /// To see when there is something new.
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
    pub fn after(&self, seq: u64) -> Result<Rc<[Piece]>, RingError> {
        let (begin, batch) = self.last.borrow().clone();
        if begin == seq && !batch.is_empty() {
            return Ok(batch);
        }
        let batch: Rc<[Piece]> = pieces(&self.reader.since(seq, BATCH)?).into();
        *self.last.borrow_mut() = (seq, batch.clone());
        Ok(batch)
    }
}
