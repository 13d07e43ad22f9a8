//! Paths: inside a container, on the host, below the host folder.

use crate::diagnostic::{ParseError, quoted};
use crate::model::Seccomp;

/// Reads an absolute path without `..`; doubled and trailing slashes and `.` are dropped.
///
/// # Errors
/// A [`ParseError`] for a relative path or one with `..`.
pub fn absolute_path(text: &str) -> Result<String, ParseError> {
    if !text.starts_with('/') {
        let message = format!("{} is not an absolute path", quoted(text));
        let error = ParseError::whole(text, message);
        return Err(if text.is_empty() { error } else { error.hint("begin it with `/`") });
    }
    if text.len() >= 4096 {
        return Err(ParseError::whole(text, "path is longer than 4095 bytes"));
    }
    let mut path = String::with_capacity(text.len());
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let message = format!("path {} contains `..`", quoted(text));
                return Err(ParseError::whole(text, message).hint("write the resulting path"));
            }
            part => {
                path.push('/');
                path.push_str(part);
            }
        }
    }
    Ok(if path.is_empty() { "/".to_owned() } else { path })
}

/// Reads a mount point inside a container: absolute, and not one of the directories that the host
/// provides. (With a volume over `/proc` a container could deceive the host about its own processes:
/// CVE-2019-16884.)
///
/// # Errors
/// A [`ParseError`] that names the reserved directory.
pub fn mount_target(text: &str) -> Result<String, ParseError> {
    let path = absolute_path(text)?;
    if path == "/" {
        return Err(ParseError::whole(text, "cannot mount at `/`")
            .hint("the root is the image; mount below it"));
    }
    let below =
        |top: &str| path.strip_prefix(top).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    if below("/proc") || below("/sys") || path == "/dev" {
        let message = format!("cannot mount at {}", quoted(text));
        return Err(ParseError::whole(text, message)
            .hint("the host provides /proc, /sys and /dev in every container"));
    }
    Ok(path)
}

/// Checks the path of an image: below the host folder, beginning with `./`. It is kept as written,
/// since it is the key under which the built host finds the image.
///
/// # Errors
/// A [`ParseError`] for registry references, absolute paths and paths outside the host folder.
pub fn check_image(text: &str) -> Result<(), ParseError> {
    if let Some(path) = text.strip_prefix("./") {
        let mut parts = path.split('/').filter(|part| !matches!(*part, "" | ".")).peekable();
        if parts.peek().is_none() {
            return Err(ParseError::whole(text, "the host folder itself is not an image")
                .hint("use the path of an OCI layout or archive below it: `./images/web`"));
        }
        if parts.any(|part| part == "..") {
            return Err(outside(text));
        }
        return Ok(());
    }
    if text.is_empty() {
        return Err(ParseError::whole(text, "empty image path").hint(IMAGE_HINT));
    }
    if text.starts_with('/') || text == ".." || text.starts_with("../") {
        return Err(outside(text));
    }
    let archive = [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| text.ends_with(end));
    let folder = text.split('/').next().is_some_and(|first| first == "images");
    if (archive || folder) && !text.contains(':') {
        return Err(ParseError::whole(text, "an image path must begin with `./`")
            .hint(format!("write `./{text}`")));
    }
    let message = format!("registry references such as {} are not supported yet", quoted(text));
    Err(ParseError::whole(text, message).hint(IMAGE_HINT))
}

/// Reads the value of `seccomp`: `default`, `unconfined`, or the path of a profile below the host
/// folder.
///
/// # Errors
/// A [`ParseError`] for other words, and for paths outside the host folder.
pub fn parse_seccomp(text: &str) -> Result<Seccomp, ParseError> {
    match text {
        "default" => return Ok(Seccomp::Default),
        "unconfined" => return Ok(Seccomp::Unconfined),
        _ => {}
    }
    let error = |message: String| ParseError::whole(text, message).hint(PROFILE_HINT);
    let Some(path) = text.strip_prefix("./") else {
        return Err(match text {
            "" => error("empty seccomp profile".to_owned()),
            _ if text.starts_with('/') || text == ".." || text.starts_with("../") => {
                error(format!("{} is not below the host folder", quoted(text)))
            }
            _ if text.contains('/') || text.ends_with(".json") => {
                ParseError::whole(text, "a profile path must begin with `./`")
                    .hint(format!("write `./{text}`"))
            }
            _ => error(format!("invalid seccomp profile {}", quoted(text))),
        });
    };
    let mut parts = path.split('/').filter(|part| !matches!(*part, "" | ".")).peekable();
    if parts.peek().is_none() {
        return Err(error("the host folder itself is not a profile".to_owned()));
    }
    if parts.any(|part| part == "..") {
        return Err(error(format!("{} is not below the host folder", quoted(text))));
    }
    Ok(Seccomp::Profile(text.to_owned()))
}

const PROFILE_HINT: &str = "use `default`, `unconfined`, or the path of a profile in the format of docker and \
                       podman below the host folder: `./profiles/web.json`";

const IMAGE_HINT: &str = "put an OCI layout or an OCI or docker archive below the host folder and \
                     use its path: `./images/web` or `./images/web.tar`";

fn outside(text: &str) -> ParseError {
    ParseError::whole(text, format!("{} is not below the host folder", quoted(text)))
        .hint(IMAGE_HINT)
}
