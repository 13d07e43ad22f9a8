//! Files of running containers. The supervisor opens them, as the container sees its paths; this
//! process only copies.

use crate::body::{Body, Sink};
use crate::error::Error;
use crate::handlers::units::UnitName;
use crate::response::{Json, Raw, with_type};
use crate::router::Call;
use api_types::{MODE_HEADER, Outcome};
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use ipc::OpenedFile;
use ipc::api::ApiRequest;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Bytes read at a time.
const PIECE: usize = 32 * 1024;
/// Permissions of a file that is created, by default.
const MODE: u32 = 0o644;

/// Longest path, as Linux has it (`PATH_MAX` with the NUL at its end).
const MAX_PATH: usize = 4095;

/// The file; its path has at most `MAX_PATH` bytes.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FilePath {
    /// absolute, in the container
    #[param(pattern = "^/[^\\x00]*$", max_length = 4095)]
    pub path: String,
}

/// Bytes as they are.
#[derive(Debug, utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Content(pub Vec<u8>);

/// The content of a regular file of a running container; its permission bits are in the header
/// `X-Keel-Mode`.
#[utoipa::path(get, path = "/v1/units/{name}/files", operation_id = "read_file", tag = "units", params(
    UnitName, FilePath),
    responses((status = 200, body = Content, content_type = "application/octet-stream")))]
pub async fn get(call: Call) -> Result<Raw, Error> {
    call.query.only(&["path"])?;
    let (opened, file) = open(&call, false, 0).await?;
    let mut response =
        with_type("application/octet-stream", Body::stream(move |sink| send(sink, file)));
    let mode = HeaderValue::from_str(&format!("{:04o}", opened.mode & 0o7777));
    if let Ok(mode) = mode {
        response.headers_mut().insert(HeaderName::from_static(MODE_HEADER), mode);
    }
    Ok(Raw(response))
}

/// Writes a file of a running container, which is created or truncated first.
#[utoipa::path(put, path = "/v1/units/{name}/files", operation_id = "write_file", tag = "units", params(
    UnitName, FilePath,
    ("mode" = Option<String>, Query, pattern = "^0*[0-7]{1,4}$", description = "permissions of a file that is created, octal")),
    request_body(content = Content, content_type = "application/octet-stream"))]
pub async fn put(mut call: Call) -> Result<Json<Outcome>, Error> {
    call.query.only(&["path", "mode"])?;
    let mode = match call.query.get("mode") {
        None => MODE,
        Some(text) => u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or_else(|| {
                Error::invalid("invalid `mode`: expected octal permissions such as 0644")
            })?,
    };
    let (_, file) = open(&call, true, mode).await?;
    let file = Arc::new(file);
    let mut size: u64 = 0;
    // Each piece is written before the next one is read: a slow disk slows the client down.
    while let Some(piece) = call.piece().await? {
        size = size.saturating_add(piece.len() as u64);
        let file = file.clone();
        spawn_blocking(move || (&*file).write_all(&piece))
            .await
            .map_err(|error| Error::failed(error.to_string()))?
            .map_err(|error| Error::failed(format!("write: {error}")))?;
    }
    let path = call.query.get("path").unwrap_or_default();
    let message = format!("wrote {size} bytes to {path} of {}", call.unit);
    Ok(Json(Outcome { message, unit: None }))
}

async fn open(call: &Call, write: bool, mode: u32) -> Result<(OpenedFile, File), Error> {
    let path = call.query.get("path").unwrap_or_default();
    if !path.starts_with('/') {
        return Err(Error::invalid("invalid `path`: expected an absolute path in the container"));
    }
    if path.len() > MAX_PATH {
        return Err(Error::invalid(format!(
            "`path` is too long; at most {MAX_PATH} bytes are allowed"
        )));
    }
    let (name, path) = (call.unit.clone(), path.to_owned());
    let request = ApiRequest::OpenFile { name, path, write, mode };
    let (opened, fds) = call.app.ask_with_fds::<OpenedFile>(&call.key, request).await?;
    let fd = fds.into_iter().next();
    let fd = fd.ok_or_else(|| Error::failed("the supervisor sent no file descriptor"))?;
    Ok((opened, File::from(fd)))
}

async fn send(sink: Sink, file: File) -> io::Result<()> {
    let file = Arc::new(file);
    loop {
        let file = file.clone();
        let read = move || {
            let mut piece = vec![0; PIECE];
            let len = (&*file).read(&mut piece)?;
            piece.truncate(len);
            Ok::<_, io::Error>(piece)
        };
        let piece = spawn_blocking(read).await.map_err(io::Error::other)??;
        if piece.is_empty() {
            return Ok(());
        }
        sink.send(Bytes::from(piece)).await?;
    }
}
