//! The log of a unit: up to now, or from now on. The supervisor sends the ring, opened, and where that
//! is not enough the log files; it takes no further part.

use crate::app::App;
use crate::body::{Body, Sink};
use crate::error::Error;
use crate::follow::{BATCH, Ring};
use crate::handlers::units::UnitName;
use crate::lines::{EncodedLine, Start, Wanted, encode, encode_batch};
use crate::log_files::{self, LogFiles};
use crate::query::{MAX_NUMBER, Query, number};
use crate::response::{Raw, with_type};
use crate::router::Call;
use crate::sse::{self, StreamEvent};
use api_types::{ErrorCode, LogLine};
use hyper::HeaderMap;
use ipc::api::ApiRequest;
use logger::{Line, Reader, Stream, parse_rfc3339, unix_us};
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Lines by default.
const TAIL: usize = 100;
/// The interval between requests to the supervisor for a log that does not exist yet.
const RETRY: Duration = Duration::from_millis(500);

/// The log of a unit.
#[utoipa::path(get, path = "/v1/units/{name}/logs", tag = "units", params(
    UnitName,
    ("tail" = Option<String>, Query, pattern = "^([0-9]{1,18}|all)$", description = "the last this many lines, or `all`; without it \
        100, or all after `since` or `since_time`"),
    ("since" = Option<u64>, Query, description = "lines after this one"),
    ("since_time" = Option<String>, Query, format = DateTime, description = "from this moment (RFC 3339)"),
    ("ago" = Option<u64>, Query, description = "from this many seconds ago, by the host's clock"),
    ("stream" = Option<String>, Query, pattern = "^(stdout|stderr|system)$", description = "`stdout`, `stderr` or `system` only"),
    ("follow" = Option<bool>, Query, description = "follow the log, as `text/event-stream`: `id` is the \
        line's number, `event` is `line` or, when lines were overwritten before they could be \
        sent, `gap`"),
    ("Last-Event-ID" = Option<u64>, Header, nullable = false, description = "when following: as `since`, and before \
        it")),
    responses((status = 200, content(
            (Vec<LogLine> = "application/json"), (StreamEvent = "text/event-stream")))))]
pub async fn logs(call: Call) -> Result<Raw, Error> {
    call.query.only(&["tail", "since", "since_time", "ago", "stream", "follow"])?;
    let mut wanted = wanted(&call.query)?;
    let follow = call.query.read::<bool>("follow", "true or false")?.unwrap_or(false);
    let Call { app, key, unit, parts, .. } = call;
    let last = last_event_id(&parts.headers)?;
    if follow && let Some(last) = last {
        wanted = Wanted { since: Some(last), since_time: None, tail: None, ..wanted };
    }
    // Before anything is sent, so that a damaged ring is an error and not half an answer.
    let file = open(&app, &key, &unit).await?;
    let reader = match &file {
        Some(file) => Some(Reader::from_file(file.try_clone().map_err(failed)?)),
        None => None,
    };
    let mut start = Start { after: 0, lacking: wanted.without_ring() };
    let mut end = 0;
    if let Some(reader) = &reader {
        start = wanted.start(reader).map_err(failed)?;
        end = reader.counters().map_err(failed)?.lines;
    }
    let mut files = None;
    if start.lacking > 0 {
        let found =
            log_files::find(&app, &key, &unit, reader.as_ref(), &wanted, start.lacking).await?;
        files = Some(found);
    }
    if follow {
        let from = From { files, after: start.after };
        return Ok(sse::stream(move |sink| follow_unit(sink, app, key, unit, file, wanted, from)));
    }
    let body = Body::stream(move |sink| all(sink, files, reader, wanted, start.after, end));
    Ok(Raw(with_type("application/json", body)))
}

/// The number of the last event that a returning client has received.
///
/// # Errors
/// It is not a number.
pub fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    match value.to_str() {
        // A client that has received nothing yet.
        Ok("") => Ok(None),
        Ok(text) => number("Last-Event-ID", text, "the number of an event", MAX_NUMBER).map(Some),
        Err(_) => Err(Error::invalid("invalid `Last-Event-ID`: expected the number of an event")),
    }
}

/// Which lines a request wants.
///
/// # Errors
/// A parameter cannot be read.
pub fn wanted(query: &Query) -> Result<Wanted, Error> {
    let since = query.number("since", "the number of a line", MAX_NUMBER)?;
    let since_time = match query.get("since_time") {
        None => None,
        Some(text) => Some(parse_rfc3339(text).ok_or_else(|| {
            Error::invalid("invalid `since_time`: expected a time such as 2026-01-31T12:00:00Z")
        })?),
    };
    let ago = query.number("ago", "a number of seconds", MAX_NUMBER)?.map(ago);
    // If both are given, both apply.
    let since_time = since_time.max(ago);
    let tail = match query.get("tail") {
        None if since.is_some() || since_time.is_some() => None,
        None => Some(TAIL),
        Some("all") => None,
        Some(_) => query.read("tail", "a number of lines or `all`")?,
    };
    let stream = match query.get("stream") {
        None => None,
        Some(name) => Some(Stream::from_name(name).ok_or_else(|| {
            Error::invalid("invalid `stream`: expected `stdout`, `stderr` or `system`")
        })?),
    };
    Ok(Wanted { tail, since, since_time, stream })
}

/// The moment this many seconds ago, by the host's clock; microseconds since 1970.
fn ago(seconds: u64) -> i64 {
    let us = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    unix_us().saturating_sub(us).max(0)
}

/// A unit's ring; `None` if it has written nothing in this boot.
///
/// # Errors
/// The supervisor refuses.
pub async fn open(app: &App, key: &str, unit: &str) -> Result<Option<File>, Error> {
    let request = ApiRequest::Log { name: unit.to_owned() };
    let ((), ring) = app.ask_with_fds(key, request).await?;
    Ok(ring.into_iter().next().map(File::from))
}

fn failed(error: impl Display) -> Error {
    Error::failed(error.to_string())
}

/// A JSON array of lines: those of the files, and those of the ring from `start` to `end`.
async fn all(
    sink: Sink,
    mut files: Option<LogFiles>,
    ring: Option<Reader>,
    wanted: Wanted,
    start: u64,
    end: u64,
) -> io::Result<()> {
    let (mut position, mut separator) = (start, b'[');
    loop {
        let batch: Vec<EncodedLine> = match (&mut files, &ring) {
            (Some(files), _) => {
                let lines = files.next().await?;
                position = last_of_this_boot(&lines).unwrap_or(position);
                lines.iter().map(|(boot, line)| encode(line, *boot)).collect()
            }
            (None, Some(ring)) if position < end => {
                let batch = encode_batch(&ring.since(position, BATCH).map_err(io::Error::other)?);
                batch.into_iter().filter(|line| line.seq <= end).collect()
            }
            (None, _) => Vec::new(),
        };
        match batch.last() {
            // At the end of the files their permit goes to the next reader.
            None if files.take().is_some() => continue,
            None => break,
            Some(last) if files.is_none() => position = last.seq,
            Some(_) => {}
        }
        let mut out = Vec::new();
        for line in batch.iter().filter(|line| wanted.takes(line.stream)) {
            out.push(std::mem::replace(&mut separator, b','));
            out.extend_from_slice(&line.json);
        }
        if out.is_empty() {
            tokio::task::yield_now().await;
        } else {
            sink.send(out).await?;
        }
    }
    sink.send(if separator == b'[' { "[]" } else { "]" }).await
}

/// The line of this boot after which the ring continues.
fn last_of_this_boot(lines: &[(u64, Line)]) -> Option<u64> {
    lines.iter().rev().find(|(boot, _)| *boot == 0).map(|(_, line)| line.seq)
}

/// Where following begins.
struct From {
    /// What precedes the ring.
    files: Option<LogFiles>,
    /// The line of the ring after which to continue.
    after: u64,
}

async fn follow_unit(
    sink: Sink,
    app: Rc<App>,
    key: Rc<str>,
    unit: String,
    file: Option<File>,
    wanted: Wanted,
    from: From,
) -> io::Result<()> {
    let pause = app.limits.keep_alive;
    let mut after = from.after;
    if let Some(mut files) = from.files {
        loop {
            let batch = files.next().await?;
            if batch.is_empty() {
                break;
            }
            after = last_of_this_boot(&batch).unwrap_or(after);
            let mut out = Vec::new();
            for (boot, line) in batch.iter().filter(|(_, line)| wanted.takes(line.stream)) {
                // A returning client names the last line of this boot that it has received.
                let id = (*boot == 0).then_some(line.seq);
                sse::push(&mut out, id, "line", &encode(line, *boot).json);
            }
            // An empty piece would be the end.
            if !out.is_empty() {
                sink.send(out).await?;
            }
        }
    }
    let file = match file {
        Some(file) => file,
        None => first_line(&sink, &app, &key, &unit).await?,
    };
    let ring = app.rings.follow(&unit, file).map_err(io::Error::other)?;
    follow_ring(&sink, &ring, &wanted, after, pause).await
}

/// Waits until a unit has written something.
async fn first_line(sink: &Sink, app: &App, key: &str, unit: &str) -> io::Result<File> {
    let mut said = Instant::now();
    loop {
        sleep(RETRY).await;
        if said.elapsed() >= app.limits.keep_alive {
            sink.send(sse::KEEP_ALIVE).await?;
            said = Instant::now();
        }
        match open(app, key, unit).await {
            Ok(Some(file)) => return Ok(file),
            Ok(None) => {}
            // The supervisor may be restarting; the stream is still correct.
            Err(error)
                if matches!(
                    error.code(),
                    ErrorCode::Unavailable | ErrorCode::Timeout | ErrorCode::Busy
                ) => {}
            Err(_) => return Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

async fn follow_ring(
    sink: &Sink,
    ring: &Ring,
    wanted: &Wanted,
    after: u64,
    pause: Duration,
) -> io::Result<()> {
    let mut news = ring.news();
    let mut position = after;
    loop {
        // Before the ring is read: what is written from here on counts as new.
        news.borrow_and_update();
        let batch = ring.after(position).map_err(io::Error::other)?;
        if batch.is_empty() {
            match timeout(pause, news.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(_) => sink.send(sse::KEEP_ALIVE).await?,
            }
            continue;
        }
        let mut out = Vec::new();
        for line in batch.iter() {
            let missed = line.seq.saturating_sub(position.saturating_add(1));
            if missed > 0 {
                sse::push_gap(&mut out, missed);
            }
            position = line.seq;
            if wanted.takes(line.stream) {
                sse::push(&mut out, Some(line.seq), "line", &line.json);
            }
        }
        if out.is_empty() {
            tokio::task::yield_now().await;
        } else {
            sink.send(out).await?;
        }
    }
}
