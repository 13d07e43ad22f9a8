//! What a unit wrote: up to now, or from now on. The supervisor hands out the ring, opened, and where
//! that is not enough the log files; from then on it has no part in it.

use crate::app::App;
use crate::body::{Body, Sink};
use crate::error::Error;
use crate::follow::{BATCH, Ring};
use crate::handlers::units::UnitName;
use crate::lines::{Start, Wanted, piece, pieces};
use crate::past::{self, Past};
use crate::query::{MAX_NUMBER, Query, number};
use crate::router::{Answer, Call, with_type};
use crate::sse::{self, StreamEvent};
use api_types::{ErrorBody, ErrorCode, LogLine};
use hyper::HeaderMap;
use ipc::api::{ApiRequest, LogRing};
use logger::{Line, Reader, Stream, parse_rfc3339, unix_us};
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Lines given when nobody says how many.
const TAIL: usize = 100;
/// How often the supervisor is asked for a log that does not exist yet.
const RETRY: Duration = Duration::from_millis(500);

/// What a unit wrote.
#[utoipa::path(get, path = "/v1/units/{name}/logs", tag = "units", params(
    UnitName,
    ("tail" = Option<String>, Query, pattern = "^([0-9]{1,18}|all)$", description = "the last so many lines, or `all`; without it \
        100, or all after `since` or `since_time`"),
    ("since" = Option<u64>, Query, description = "those after this line"),
    ("since_time" = Option<String>, Query, format = DateTime, description = "from this moment (RFC 3339)"),
    ("ago" = Option<u64>, Query, description = "from so many seconds ago, by the host's clock"),
    ("stream" = Option<String>, Query, pattern = "^(stdout|stderr|system)$", description = "`stdout`, `stderr` or `system` alone"),
    ("follow" = Option<bool>, Query, description = "go on, as `text/event-stream`: `id` is the \
        line's number, `event` is `line` or, when lines were overwritten before they could be \
        sent, `gap`"),
    ("Last-Event-ID" = Option<u64>, Header, nullable = false, description = "when following: as `since`, and before \
        it")),
    responses((status = 200, content(
            (Vec<LogLine> = "application/json"), (StreamEvent = "text/event-stream"))),
        (status = "default", body = ErrorBody)))]
pub async fn logs(call: Call) -> Answer {
    call.query.only(&["tail", "since", "since_time", "ago", "stream", "follow"])?;
    let mut wanted = wanted(&call.query)?;
    let follow = call.query.read::<bool>("follow", "true or false")?.unwrap_or(false);
    let Call { app, key, unit, parts, .. } = call;
    let last = last_event_id(&parts.headers)?;
    if follow && let Some(last) = last {
        wanted = Wanted { since: Some(last), since_time: None, tail: None, ..wanted };
    }
    // All of this before anything is sent, so that a damaged ring is an error and not half an answer.
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
    let mut past = None;
    if start.lacking > 0 {
        past = Some(past::find(&app, &key, &unit, reader.as_ref(), &wanted, start.lacking).await?);
    }
    if follow {
        let from = From { past, after: start.after };
        return Ok(sse::stream(move |sink| follow_unit(sink, app, key, unit, file, wanted, from)));
    }
    let body = Body::stream(move |sink| all(sink, past, reader, wanted, start.after, end));
    Ok(with_type("application/json", body))
}

/// The number of the last event that a client has got, if it comes back.
///
/// # Errors
/// It is no number.
pub fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    match value.to_str() {
        // A client that has got nothing yet.
        Ok("") => Ok(None),
        Ok(text) => number("Last-Event-ID", text, "the number of an event", MAX_NUMBER).map(Some),
        Err(_) => Err(Error::invalid("`Last-Event-ID` is the number of an event")),
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
            Error::invalid("`since_time` is a moment such as 2026-01-31T12:00:00Z")
        })?),
    };
    let ago = query.number("ago", "a number of seconds", MAX_NUMBER)?.map(ago);
    // Both are meant.
    let since_time = since_time.max(ago);
    let tail = match query.get("tail") {
        None if since.is_some() || since_time.is_some() => None,
        None => Some(TAIL),
        Some("all") => None,
        Some(_) => query.read("tail", "a number of lines or `all`")?,
    };
    let stream = match query.get("stream") {
        None => None,
        Some("stdout") => Some(Stream::Stdout),
        Some("stderr") => Some(Stream::Stderr),
        Some("system") => Some(Stream::System),
        Some(_) => return Err(Error::invalid("`stream` is `stdout`, `stderr` or `system`")),
    };
    Ok(Wanted { tail, since, since_time, stream })
}

/// The moment so many seconds ago, by this host's clock; microseconds since 1970.
fn ago(seconds: u64) -> i64 {
    let us = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    unix_us().saturating_sub(us).max(0)
}

/// A unit's ring; `None` while it has written nothing.
///
/// # Errors
/// The supervisor refuses.
pub async fn open(app: &App, key: &str, unit: &str) -> Result<Option<File>, Error> {
    let request = ApiRequest::Log { name: unit.to_owned() };
    let (files, reply) = app.typed::<LogRing>(key, request).await?;
    match reply.fds.into_iter().next() {
        _ if files.empty => Ok(None),
        Some(fd) => Ok(Some(File::from(fd))),
        None => Err(Error::failed("the supervisor opened no log")),
    }
}

fn failed(error: impl Display) -> Error {
    Error::failed(error.to_string())
}

/// A JSON array of lines: those of the files, and those of the ring from `start` to `end`.
async fn all(
    sink: Sink,
    mut past: Option<Past>,
    ring: Option<Reader>,
    wanted: Wanted,
    start: u64,
    end: u64,
) -> io::Result<()> {
    let (mut position, mut separator) = (start, b'[');
    loop {
        let batch = match (&mut past, &ring) {
            (Some(files), _) => {
                let lines = files.next().await?;
                position = last_of_this_boot(&lines).unwrap_or(position);
                lines.iter().map(|(boot, line)| piece(line, *boot)).collect()
            }
            (None, Some(ring)) if position < end => {
                let batch = pieces(&ring.since(position, BATCH).map_err(io::Error::other)?);
                batch.into_iter().filter(|piece| piece.seq <= end).collect()
            }
            (None, _) => Vec::new(),
        };
        match batch.last() {
            // Whoever has no more to read there gives the place to another.
            None if past.take().is_some() => continue,
            None => break,
            Some(last) if past.is_none() => position = last.seq,
            Some(_) => {}
        }
        let mut out = Vec::new();
        for piece in batch.iter().filter(|piece| wanted.takes(piece.stream)) {
            out.push(std::mem::replace(&mut separator, b','));
            out.extend_from_slice(&piece.json);
        }
        if out.is_empty() {
            tokio::task::yield_now().await;
        } else {
            sink.send(out).await?;
        }
    }
    sink.send(if separator == b'[' { "[]" } else { "]" }).await
}

/// After which line of this boot the ring goes on.
fn last_of_this_boot(lines: &[(u64, Line)]) -> Option<u64> {
    lines.iter().rev().find(|(boot, _)| *boot == 0).map(|(_, line)| line.seq)
}

/// Where following begins.
struct From {
    /// What comes before the ring.
    past: Option<Past>,
    /// The line of the ring after which it goes on.
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
    if let Some(mut past) = from.past {
        loop {
            let batch = past.next().await?;
            if batch.is_empty() {
                break;
            }
            after = last_of_this_boot(&batch).unwrap_or(after);
            let mut out = Vec::new();
            for (boot, line) in batch.iter().filter(|(_, line)| wanted.takes(line.stream)) {
                // Whoever comes back asks for what comes after a line of this boot.
                let id = (*boot == 0).then_some(line.seq);
                sse::push(&mut out, id, "line", &piece(line, *boot).json);
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
            // The supervisor may be away; the client has been told nothing wrong yet.
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
        // Before the ring is read: what is written from here on counts as news.
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
        for piece in batch.iter() {
            let missed = piece.seq.saturating_sub(position.saturating_add(1));
            if missed > 0 {
                sse::push_gap(&mut out, missed);
            }
            position = piece.seq;
            if wanted.takes(piece.stream) {
                sse::push(&mut out, Some(piece.seq), "line", &piece.json);
            }
        }
        if out.is_empty() {
            tokio::task::yield_now().await;
        } else {
            sink.send(out).await?;
        }
    }
}
