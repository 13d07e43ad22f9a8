//! Events.

use crate::app::App;
use crate::body::Sink;
use crate::error::Error;
use crate::handlers::logs::last_event_id;
use crate::query::MAX_NUMBER;
use crate::response::{IntoAnswer, JsonList, Raw};
use crate::router::Call;
use crate::sse::{self, StreamEvent};
use api_types::Event;
use ipc::api::ApiRequest;
use std::io;
use std::rc::Rc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

/// The events of the host, from now on or after a known event.
#[utoipa::path(get, path = "/v1/events", tag = "host", params(
    ("after" = Option<u64>, Query, description = "those after this one"),
    ("Last-Event-ID" = Option<u64>, Header, nullable = false, description = "as `after`, and before it"),
    ("follow" = Option<bool>, Query, description = "`false`: only those so far (all, \
        without `after`), as JSON")),
    responses((status = 200, content(
            (StreamEvent = "text/event-stream"), (Vec<Event> = "application/json")))))]
pub async fn events(call: Call) -> Result<Raw, Error> {
    call.query.only(&["after", "follow"])?;
    let after = call.query.number("after", "the number of an event", MAX_NUMBER)?;
    let after = last_event_id(&call.parts.headers)?.or(after);
    let follow = call.query.read::<bool>("follow", "true or false")?.unwrap_or(true);
    let Call { app, key, .. } = call;
    if !follow {
        let request = ApiRequest::Events { after: after.unwrap_or(0) };
        let events: Vec<Event> = app.ask(&key, request).await?;
        return JsonList(events).into_answer().map(Raw);
    }
    // Before the earlier ones are requested, so that none is lost in between.
    let news = app.events.subscribe();
    let (mut begin, mut last) = (Vec::new(), None);
    match after {
        Some(after) => last = Some(catch_up(&app, &key, after, &mut begin).await?),
        // There are none after this number; but the supervisor decides whether this client may ask.
        None => {
            let _: Vec<Event> = app.ask(&key, ApiRequest::Events { after: u64::MAX }).await?;
        }
    }
    Ok(sse::stream(move |sink| follow_events(sink, app, key, news, begin, last)))
}

/// Appends the kept events after number `after`, and before them whether some are missing. Gives
/// the number of the last one. A number beyond the newest is from before a reboot: then all are new.
async fn catch_up(app: &App, key: &str, after: u64, out: &mut Vec<u8>) -> Result<u64, Error> {
    // All of them: earlier ones show whether any are missing (the numbers themselves do not, as they do
    // not always rise by one), and the newest shows whether `after` is of this boot.
    let request = ApiRequest::Events { after: 0 };
    let kept: Vec<Event> = app.ask(key, request).await?;
    let newest = kept.last().map_or(0, |event| event.seq);
    let after = if after > newest { 0 } else { after };
    let mut last = after;
    if let Some(first) = kept.first().filter(|_| after > 0) {
        let missed = first.seq.saturating_sub(after.saturating_add(1));
        if first.seq > after && missed > 0 {
            sse::push_gap(out, missed);
        }
    }
    for event in kept.iter().filter(|event| event.seq > after) {
        push(out, event);
        last = event.seq;
    }
    Ok(last)
}

fn push(out: &mut Vec<u8>, event: &Event) {
    sse::push(out, Some(event.seq), event.kind.name(), &sse::to_json(event));
}

async fn follow_events(
    sink: Sink,
    app: Rc<App>,
    key: Rc<str>,
    mut news: Receiver<Rc<Event>>,
    begin: Vec<u8>,
    mut last: Option<u64>,
) -> io::Result<()> {
    if !begin.is_empty() {
        sink.send(begin).await?;
    }
    loop {
        let mut out = Vec::new();
        match timeout(app.limits.keep_alive, news.recv()).await {
            Err(_) => out.extend_from_slice(sse::KEEP_ALIVE.as_bytes()),
            Ok(Ok(event)) if last.is_none_or(|last| event.seq > last) => {
                push(&mut out, &event);
                last = Some(event.seq);
            }
            Ok(Ok(_)) => continue,
            Ok(Err(RecvError::Closed)) => return Ok(()),
            // Further behind than what is kept here; the supervisor keeps more.
            Ok(Err(RecvError::Lagged(missed))) => match last {
                None => sse::push_gap(&mut out, missed),
                Some(known) => match catch_up(&app, &key, known, &mut out).await {
                    Ok(newest) => last = Some(newest),
                    Err(_) => sse::push_gap(&mut out, missed),
                },
            },
        }
        if !out.is_empty() {
            sink.send(out).await?;
        }
    }
}
