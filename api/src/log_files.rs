//! Lines that are only in the log files on the data disk: newer ones have replaced them in the ring,
//! or they are of an earlier boot. The supervisor opens the files; here they are read, on threads that
//! may wait for a disk.

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

/// Most readers at the same time: each may have [`logger::history::MAX_FILES`] files open.
pub const MAX_READERS: usize = 256;

/// A part of a unit's log files, read from its beginning.
#[derive(Debug)]
pub struct LogFiles {
    history: Arc<History>,
    part: Part,
    _permit: OwnedSemaphorePermit,
}

/// Finds the last `lacking` of the wanted lines that are not in the ring.
///
/// # Errors
/// The supervisor refuses, the ring or a file cannot be read, or there are too many readers.
pub async fn find(
    app: &App,
    key: &str,
    unit: &str,
    ring: Option<&Reader>,
    wanted: &Wanted,
    lacking: usize,
) -> Result<LogFiles, Error> {
    let permit = timeout(app.limits.answer, app.log_file_readers.clone().acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        return Err(Error::new(ErrorCode::Busy, "too many clients are reading log files"));
    };
    let request = ApiRequest::LogFiles { name: unit.to_owned() };
    let ((), files) = app.ask_with_fds(key, request).await?;
    let unread = |error: &dyn std::fmt::Display| Error::failed(format!("log files: {error}"));
    let history = History::new(files).map_err(|error| unread(&error))?;
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
    Ok(LogFiles { history, part, _permit: permit })
}

impl LogFiles {
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
