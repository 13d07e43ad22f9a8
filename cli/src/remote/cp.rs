//! `keel cp`.

use super::fleet::{Answer, Body, Fleet};
use super::progress::Progress;
use super::show;
use api_types::{MODE_HEADER, Outcome};
use client::client::{Client, from_json};
use client::http::{Payload, Request, url};
use client::paths;
use client::tls::TIMEOUT;
use client::{Error, LocalCode};
use serde_json::json;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The source or the destination of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    /// A file in a container.
    Unit { unit: String, path: String },
    /// A file on this machine.
    Local(PathBuf),
    /// Standard input or output.
    Standard,
}

impl Side {
    /// `UNIT:/PATH` is in a container. A local file with such a name needs a folder in front of it (`./a:/b`).
    fn parse(text: &str) -> Side {
        match text.split_once(":/") {
            Some((unit, path)) if !unit.is_empty() && !unit.contains('/') => {
                Side::Unit { unit: unit.to_owned(), path: format!("/{path}") }
            }
            _ if text == "-" => Side::Standard,
            _ => Side::Local(PathBuf::from(text)),
        }
    }
}

/// Copies one file.
pub fn cp(fleet: &Fleet, from: &str, to: &str, mode: Option<u32>) -> Result<u8, Error> {
    match (Side::parse(from), Side::parse(to)) {
        (Side::Unit { .. }, Side::Unit { .. }) => Err(Error::usage(
            "both files are in containers; use a local file, or `keel cp A:/x - | keel cp - B:/x`"
                .to_owned(),
        )),
        (Side::Unit { unit, path }, to) => {
            fleet.only("cp UNIT:/PATH FILE")?;
            if mode.is_some() {
                return Err(Error::usage(
                    "--mode applies only to copies into a container".to_owned(),
                ));
            }
            download(fleet, &unit, &path, &to)
        }
        (from, Side::Unit { unit, path }) => {
            if from == Side::Standard {
                fleet.only("cp - UNIT:/PATH")?;
            }
            upload(fleet, &from, &unit, &path, mode)
        }
        _ => Err(Error::usage(
            "neither file is in a container: expected UNIT:/PATH, with an absolute path".to_owned(),
        )),
    }
}

fn download(fleet: &Fleet, unit: &str, path: &str, to: &Side) -> Result<u8, Error> {
    let progress = Progress::start(format!("copying {unit}:{path}"));
    let mut written = None;
    let answers = fleet.each(|client| {
        let url = url(&["v1", "units", unit, "files"], &[("path", path.to_owned())]);
        let request = Request { method: "GET", path: &url, headers: &[] };
        let head = client.send(&request, Payload::None, TIMEOUT)?;
        let mode = head.header(MODE_HEADER).and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let place = match to {
            Side::Local(local) if local.is_dir() => local.join(last_name(path)?),
            Side::Local(local) => local.clone(),
            _ => {
                let bytes = receive(client, &mut io::stdout().lock(), &progress)?;
                return Ok((None, bytes));
            }
        };
        let bytes = receive_file(client, &place, mode.unwrap_or(0o644), &progress)?;
        Ok((Some(place), bytes))
    });
    drop(progress);
    let answers = answers
        .into_iter()
        .map(|(label, result)| {
            let answer = result.map(|(place, bytes)| {
                let line = place
                    .as_ref()
                    .map(|place| format!("{} ({})", place.display(), show::bytes(bytes)));
                written = place.clone();
                let json = json!({"file": place, "bytes": bytes});
                Answer::new(json, Body::Lines(line.into_iter().collect()))
            });
            (label, answer)
        })
        .collect::<Vec<_>>();
    // Standard output is the file itself.
    if written.is_none() && answers.iter().all(|(_, answer)| answer.is_ok()) {
        return Ok(0);
    }
    fleet.show(&[], answers)
}

/// Receives into a temporary file and renames it, so that the old or the new file is visible at any time.
/// Devices and pipes are written to directly.
fn receive_file(
    client: &mut Client,
    place: &Path,
    mode: u32,
    progress: &Progress,
) -> Result<u64, Error> {
    let failed = |error: io::Error| Error::file(place, &error);
    // An error of the connection does not name the file.
    let named = |error: Error| {
        if error.is(LocalCode::Machine) { error.at(&place.display()) } else { error }
    };
    let Some(place) = replaceable(place).map_err(failed)? else {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(place)
            .map_err(failed)?;
        return receive(client, &mut file, progress).map_err(named);
    };
    let part = paths::temporary_sibling(&place);
    remove_on_signal(&part).map_err(failed)?;
    let mut file = paths::create(&part).map_err(failed)?;
    let done = receive(client, &mut file, progress).map_err(named).and_then(|bytes| {
        // Set-user-ID and similar bits are dropped: on this machine they could be a security problem.
        file.set_permissions(fs::Permissions::from_mode(mode & 0o777))
            .and_then(|()| fs::rename(&part, &place))
            .map_err(failed)?;
        Ok(bytes)
    });
    if done.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&part);
    }
    done
}

/// The path that a new file can be renamed to, symbolic links resolved; `None` for a device or a pipe.
fn replaceable(place: &Path) -> io::Result<Option<PathBuf>> {
    match fs::metadata(place) {
        Ok(meta) if meta.is_file() => fs::canonicalize(place).map(Some),
        Ok(_) => Ok(None),
        // Like cp(1): a dangling link is probably a mistake.
        Err(error) if error.kind() == io::ErrorKind::NotFound && place.is_symlink() => {
            Err(io::Error::new(error.kind(), "dangling symbolic link"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(place.to_owned())),
        Err(error) => Err(error),
    }
}

/// Removes the incomplete file when a signal ends the command.
fn remove_on_signal(part: &Path) -> io::Result<()> {
    let name = Arc::new(CString::new(part.as_os_str().as_bytes())?);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // For example under nohup(1), or in the background of a script.
        if is_ignored(signal)? {
            continue;
        }
        let name = Arc::clone(&name);
        // SAFETY: unlink(2) and emulate_default_handler are async-signal-safe; the name is only read and lives
        // as long as the handler.
        unsafe {
            signal_hook::low_level::register(signal, move || {
                libc::unlink(name.as_ptr());
                // If this fails, the next signal tries again.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            })
        }?;
    }
    Ok(())
}

fn is_ignored(signal: i32) -> io::Result<bool> {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: without a new action, sigaction only writes the current one, to memory of its size.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded and written it.
    Ok(unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

fn receive(client: &mut Client, out: &mut dyn Write, progress: &Progress) -> Result<u64, Error> {
    let mut bytes = 0;
    loop {
        let chunk = client.read_chunk()?;
        if chunk.is_empty() {
            out.flush().map_err(Error::output)?;
            return Ok(bytes);
        }
        out.write_all(&chunk).map_err(Error::output)?;
        progress.add(chunk.len());
        bytes += chunk.len() as u64;
    }
}

fn upload(
    fleet: &Fleet,
    from: &Side,
    unit: &str,
    path: &str,
    mode: Option<u32>,
) -> Result<u8, Error> {
    let path = match from {
        Side::Local(local) if path.ends_with('/') => {
            let name = local.file_name().unwrap_or_default().to_string_lossy();
            format!("{path}{name}")
        }
        _ => path.to_owned(),
    };
    let progress = Progress::start(format!("copying to {unit}:{path}"));
    let answers = fleet.each(|client| {
        let (mut source, length, own): (Box<dyn Read>, _, _) = match from {
            Side::Local(local) => {
                let failed = |error: io::Error| Error::file(local, &error);
                let file = fs::File::open(local).map_err(failed)?;
                let meta = file.metadata().map_err(failed)?;
                if meta.is_dir() {
                    let message = "is a folder; keel cp copies single files (for folders: `tar c … | keel exec -i UNIT tar x`)";
                    return Err(Error::file(local, &message));
                }
                // The length of a pipe or a device is not known.
                let length = meta.is_file().then_some(meta.len());
                (Box::new(file), length, meta.permissions().mode() & 0o777)
            }
            _ => (Box::new(io::stdin().lock()), None, 0o644),
        };
        let mode = format!("{:04o}", mode.unwrap_or(own));
        let query = [("path", path.clone()), ("mode", mode)];
        let url = url(&["v1", "units", unit, "files"], &query);
        let headers = [("Content-Type", "application/octet-stream")];
        let request = Request { method: "PUT", path: &url, headers: &headers };
        let mut counted = Counted { inner: &mut *source, progress: &progress };
        client.send(&request, Payload::Stream(&mut counted, length), TIMEOUT)?;
        let bytes = client.read_all()?;
        let json: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(Error::garbled)?;
        let outcome: Outcome = from_json(json.clone())?;
        Ok(Answer::new(json, Body::Lines(vec![show::clean(&outcome.message)])))
    });
    drop(progress);
    fleet.show(&[], answers)
}

/// A reader that counts bytes for the progress line.
struct Counted<'a> {
    inner: &'a mut dyn Read,
    progress: &'a Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.progress.add(got);
        Ok(got)
    }
}

fn last_name(path: &str) -> Result<&str, Error> {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name {
        // These would lead out of the destination folder.
        "" | "." | ".." => Err(Error::usage(format!("`{path}` does not name a file"))),
        name => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_containers_and_local_files_are_distinguished() {
        let unit =
            |unit: &str, path: &str| Side::Unit { unit: unit.to_owned(), path: path.to_owned() };
        assert_eq!(Side::parse("web:/etc/x"), unit("web", "/etc/x"));
        assert_eq!(Side::parse("web:/a:/b"), unit("web", "/a:/b"));
        for local in ["./web:/x", "/web:/x", "web:x", "x", ":/x"] {
            assert_eq!(Side::parse(local), Side::Local(local.into()), "{local}");
        }
        assert_eq!(Side::parse("-"), Side::Standard);
        assert!(last_name("/a/..").is_err() && last_name("/a/").is_err());
        assert_eq!(last_name("/a/b").unwrap(), "b");
    }
}
