//! The support bundle: everything a host can report, in one file. It is written while it is sent, one
//! part after the other.

use crate::app::App;
use crate::body::{Body, Sink};
use crate::error::Error;
use crate::handlers::files::Content;
use crate::handlers::logs;
use crate::response::{Raw, with_type};
use crate::router::Call;
use api_types::{Client, ConfigValue, ErrorCode, Event, Host, Process, Role, Unit};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{CONTENT_DISPOSITION, HeaderValue};
use ipc::Reply;
use ipc::api::ApiRequest;
use ipc::control::Request;
use logger::{Reader, rfc3339, unix_us};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::rc::Rc;

/// Lines read at a time.
const BATCH: usize = 64;

/// A gzipped tar with what the host reports: units, host, configuration, processes, events, the
/// kernel's log and the units' logs.
#[utoipa::path(get, path = "/v1/host/bundle", tag = "host", responses(
    (status = 200, body = Content, content_type = "application/gzip")))]
pub async fn bundle(call: Call) -> Result<Raw, Error> {
    call.query.only(&[])?;
    let Call { app, key, .. } = call;
    let Client { name, role, .. } = app.ask(&key, ApiRequest::Whoami).await?;
    // Readers may request each part. All parts together require an admin, because a bundle is meant to
    // be passed on.
    if role < Role::Admin {
        let message = format!("{name} has role {role}; this request requires {}", Role::Admin);
        return Err(Error::new(ErrorCode::Forbidden, message));
    }
    let units: Vec<Unit> = app.ask(&key, Request::Units).await?;
    let mut response =
        with_type("application/gzip", Body::stream(move |sink| write(sink, app, key, units)));
    let name = HeaderValue::from_static("attachment; filename=\"keel-bundle.tar.gz\"");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    Ok(Raw(response))
}

/// A tar that is sent as it grows.
struct Archive {
    tar: tar::Builder<GzEncoder<Vec<u8>>>,
    now: u64,
}

impl Archive {
    fn new() -> Archive {
        Archive {
            tar: tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast())),
            now: unix_us().unsigned_abs() / 1_000_000,
        }
    }

    async fn add(&mut self, sink: &Sink, path: &str, content: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.now);
        self.tar.append_data(&mut header, format!("keel-bundle/{path}"), content)?;
        let gzip = self.tar.get_mut();
        gzip.flush()?;
        sink.send(std::mem::take(gzip.get_mut())).await
    }

    async fn finish(self, sink: &Sink) -> io::Result<()> {
        sink.send(self.tar.into_inner()?.finish()?).await
    }
}

async fn write(sink: Sink, app: Rc<App>, key: Rc<str>, units: Vec<Unit>) -> io::Result<()> {
    let mut archive = Archive::new();
    archive.add(&sink, "units.json", &pretty(&units)).await?;
    let host = part::<Host>(&app, &key, Request::Host).await;
    archive.add(&sink, "host.json", &host).await?;
    let config = part::<Vec<ConfigValue>>(&app, &key, ApiRequest::Config).await;
    archive.add(&sink, "config.json", &config).await?;
    let processes = part::<Vec<Process>>(&app, &key, ApiRequest::Processes).await;
    archive.add(&sink, "processes.json", &processes).await?;
    let events = part::<Vec<Event>>(&app, &key, ApiRequest::Events { after: 0 }).await;
    archive.add(&sink, "events.json", &events).await?;
    let dmesg = app.ask::<String>(&key, Request::Dmesg).await;
    archive.add(&sink, "dmesg.txt", &dmesg.map_or_else(Error::json, String::into_bytes)).await?;
    for Unit { name, .. } in &units {
        let text = log_text(&app, &key, name).await;
        archive.add(&sink, &format!("logs/{name}.txt"), text.as_bytes()).await?;
    }
    archive.finish(&sink).await
}

/// A part as JSON. If it is not available, the error takes its place: bundles are made on hosts on
/// which something is wrong.
async fn part<T: TryFrom<Reply> + Serialize>(
    app: &App,
    key: &str,
    request: impl Into<ApiRequest>,
) -> Vec<u8> {
    app.ask::<T>(key, request).await.map_or_else(Error::json, |part| pretty(&part))
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

/// A unit's log as text; the ring bounds its size.
async fn log_text(app: &App, key: &str, unit: &str) -> String {
    let file = match logs::open(app, key, unit).await {
        Ok(Some(file)) => file,
        Ok(None) => return String::new(),
        Err(error) => return String::from_utf8_lossy(&error.json()).into_owned(),
    };
    let mut text = String::new();
    if let Err(error) = append_log(&mut text, &Reader::from_file(file)) {
        let _ = writeln!(text, "({error})");
    }
    text
}

fn append_log(text: &mut String, reader: &Reader) -> Result<(), logger::RingError> {
    let counters = reader.counters()?;
    let mut position = counters.evicted;
    while position < counters.lines {
        let batch = reader.since(position, BATCH)?;
        let Some(last) = batch.last() else { break };
        position = last.seq;
        for line in &batch {
            let (time, stream) = (rfc3339(line.unix_us), line.stream.name());
            let _ = writeln!(text, "{time} {stream} {}", String::from_utf8_lossy(&line.text));
        }
    }
    Ok(())
}
