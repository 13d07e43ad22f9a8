//! Lines that are only in the log files on the data disk: the ring has lost them, or they are of an
//! earlier boot. The supervisor opens the files; here they are read, on threads that may wait for a
//! disk.

use crate::app::App;
use crate::error::Error;
use crate::lines::Wanted;
use api_types::ErrorCode;
use ipc::api::ApiRequest;
use logger::history::{History, InRing, Part, Search};
use logger::{Line, Reader};
use std::io;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Readers at a time: each may have [`logger::history::MAX_FILES`] files open.
pub const MAX_READERS: usize = 256;

/// A part of a unit's log files.
#[derive(Debug)]
pub struct Past {
    history: Arc<History>,
    part: Part,
    _place: OwnedSemaphorePermit,
}

/// Finds the last `lacking` of the lines that are wanted and that are not in the ring.
///
/// # Errors
/// The supervisor refuses, the ring or a file cannot be read, or too many others read.
pub async fn find(
    app: &App,
    key: &str,
    unit: &str,
    ring: Option<&Reader>,
    wanted: &Wanted,
    lacking: usize,
) -> Result<Past, Error> {
    let place = timeout(app.limits.answer, app.pasts.clone().acquire_owned()).await;
    let Ok(Ok(place)) = place else {
        return Err(Error::new(ErrorCode::Busy, "too many others read log files"));
    };
    let reply = app.link.ask(key, ApiRequest::LogFiles { name: unit.to_owned() }).await?;
    let unread = |error: &dyn std::fmt::Display| Error::failed(format!("log files: {error}"));
    let history = History::new(reply.fds).map_err(|error| unread(&error))?;
    let (mut in_ring, mut after) = (InRing::default(), wanted.since);
    if let Some(ring) = ring {
        in_ring = InRing::of(ring).map_err(|error| unread(&error))?;
        after = wanted.after(&ring.counters().map_err(|error| unread(&error))?);
    }
    let search =
        Search { take: lacking, after, since_us: wanted.since_time, stream: wanted.stream };
    let history = Arc::new(history);
    let searched = Arc::clone(&history);
    let part = spawn_blocking(move || searched.find(&in_ring, &search)).await;
    let part = part.map_err(|error| unread(&error))?.map_err(|error| unread(&error))?;
    Ok(Past { history, part, _place: place })
}

impl Past {
    /// The next lines, each with its boot ([`api_types::LogLine::boot`]); none at the end.
    ///
    /// # Errors
    /// A file cannot be read.
    pub async fn next(&mut self) -> io::Result<Vec<(u64, Line)>> {
        let (history, mut part) = (Arc::clone(&self.history), self.part.clone());
        let read = move || history.read(&mut part).map(|lines| (lines, part));
        let (lines, part) = spawn_blocking(read).await.map_err(io::Error::other)??;
        self.part = part;
        Ok(lines)
    }
}
