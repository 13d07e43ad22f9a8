//! All there is to know about a host, in one file to send to somebody. It is made while it is sent,
//! one piece after the other.

use crate::app::App;
use crate::body::{Body, Sink};
use crate::error::Error;
use crate::handlers::files::Content;
use crate::handlers::logs;
use crate::router::{Answer, Call, with_type};
use api_types::ErrorBody;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{CONTENT_DISPOSITION, HeaderValue};
use ipc::api::ApiRequest;
use ipc::control::Request;
use logger::{Reader, rfc3339, unix_us};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::rc::Rc;

/// Lines read at a time.
const BATCH: usize = 64;

/// A gzipped tar with what the host knows: units, host, configuration, processes, events, the
/// kernel's log and the units' logs.
#[utoipa::path(get, path = "/v1/host/bundle", tag = "host", responses(
    (status = 200, body = Content, content_type = "application/gzip"),
    (status = "default", body = ErrorBody)))]
pub async fn bundle(call: Call) -> Answer {
    call.query.only(&[])?;
    let Call { app, key, .. } = call;
    let (who, _) = app.typed::<ipc::api::Client>(&key, ApiRequest::Whoami).await?;
    // Each part alone is for readers. All of them are for whoever is trusted with everything, since
    // a bundle is made to be passed on.
    if who.role < ipc::api::Role::Admin {
        let message = format!("{} is {}; this is for admins", who.name, who.role);
        return Err(Error::new(api_types::ErrorCode::Forbidden, message));
    }
    let units = app.plain(&key, Request::Units).await?;
    let mut response =
        with_type("application/gzip", Body::stream(move |sink| write(sink, app, key, units)));
    let name = HeaderValue::from_static("attachment; filename=\"keel-bundle.tar.gz\"");
    response.headers_mut().insert(CONTENT_DISPOSITION, name);
    Ok(response)
}

/// A tar that is taken away as it grows.
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

async fn write(sink: Sink, app: Rc<App>, key: Rc<str>, units: Value) -> io::Result<()> {
    let mut archive = Archive::new();
    archive.add(&sink, "units.json", &pretty(&units)).await?;
    let plain = |request| ApiRequest::Plain { request };
    for (path, request) in [
        ("host.json", plain(Request::Host)),
        ("config.json", ApiRequest::Config),
        ("processes.json", ApiRequest::Processes),
        ("events.json", ApiRequest::Events { after: 0 }),
        ("dmesg.txt", plain(Request::Dmesg)),
    ] {
        // What cannot be had is said in its place: a bundle is for hosts on which something is wrong.
        let content = match app.link.ask(&key, request).await {
            Ok(reply) => match reply.value {
                Value::String(text) => text.into_bytes(),
                value => pretty(&value),
            },
            Err(error) => error.json(),
        };
        archive.add(&sink, path, &content).await?;
    }
    let names = units.as_array().into_iter().flatten();
    for name in names.filter_map(|unit| unit.get("name")?.as_str()) {
        let text = log_text(&app, &key, name).await;
        archive.add(&sink, &format!("logs/{name}.txt"), text.as_bytes()).await?;
    }
    archive.finish(&sink).await
}

fn pretty(value: &Value) -> Vec<u8> {
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
