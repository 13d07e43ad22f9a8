//! Paths: inside a container, on the host, below the host folder.

use crate::diagnostic::{Mistake, quoted};
use crate::model::Seccomp;

/// Reads an absolute path without `..`; doubled and trailing slashes and `.` are dropped.
///
/// # Errors
/// A relative path, or one that climbs.
pub fn absolute_path(text: &str) -> Result<String, Mistake> {
    if !text.starts_with('/') {
        let message = format!("{} is not an absolute path", quoted(text));
        let mistake = Mistake::whole(text, message);
        return Err(if text.is_empty() { mistake } else { mistake.hint("begin it with `/`") });
    }
    if text.len() >= 4096 {
        return Err(Mistake::whole(text, "a path of more than 4095 bytes"));
    }
    let mut path = String::with_capacity(text.len());
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let message = format!("`..` in {}", quoted(text));
                return Err(Mistake::whole(text, message).hint("write the path it leads to"));
            }
            part => {
                path.push('/');
                path.push_str(part);
            }
        }
    }
    Ok(if path.is_empty() { "/".to_owned() } else { path })
}

/// Reads a path at which something is mounted inside a container: absolute, and none of those
/// whose content the host itself makes. (A volume over `/proc` is how a container would lie to
/// the host about its own processes: CVE-2019-16884.)
///
/// # Errors
/// A [`Mistake`] that says which place is taken.
pub fn mount_target(text: &str) -> Result<String, Mistake> {
    let path = absolute_path(text)?;
    if path == "/" {
        return Err(Mistake::whole(text, "nothing can be mounted at `/`")
            .hint("the root is the image's; mount below it"));
    }
    let below =
        |top: &str| path.strip_prefix(top).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    if below("/proc") || below("/sys") || path == "/dev" {
        let message = format!("nothing can be mounted at {}", quoted(text));
        return Err(Mistake::whole(text, message)
            .hint("the host makes /proc, /sys and /dev for every container"));
    }
    Ok(path)
}

/// Checks where an image lies: a path below the host folder that begins with `./`. It is kept as
/// written, since it is the key under which the built host finds the image.
///
/// # Errors
/// Registry references, absolute paths and paths that leave the host folder.
pub fn check_image(text: &str) -> Result<(), Mistake> {
    if let Some(path) = text.strip_prefix("./") {
        let mut parts = path.split('/').filter(|part| !matches!(*part, "" | ".")).peekable();
        if parts.peek().is_none() {
            return Err(Mistake::whole(text, "the host folder itself is no image")
                .hint("name an OCI layout or archive below it: `./images/web`"));
        }
        if parts.any(|part| part == "..") {
            return Err(outside(text));
        }
        return Ok(());
    }
    if text.is_empty() {
        return Err(Mistake::whole(text, "an empty image").hint(WHERE));
    }
    if text.starts_with('/') || text == ".." || text.starts_with("../") {
        return Err(outside(text));
    }
    let archive = [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| text.ends_with(end));
    let folder = text.split('/').next().is_some_and(|first| first == "images");
    if (archive || folder) && !text.contains(':') {
        return Err(Mistake::whole(text, "the path of an image begins with `./`")
            .hint(format!("write `./{text}`")));
    }
    let message = format!("{} is a registry reference, which comes later", quoted(text));
    Err(Mistake::whole(text, message).hint(WHERE))
}

/// Reads which system calls a container may make: a word, or where a profile lies below the host
/// folder.
///
/// # Errors
/// Other words, and paths that are not below the host folder.
pub fn parse_seccomp(text: &str) -> Result<Seccomp, Mistake> {
    match text {
        "default" => return Ok(Seccomp::Default),
        "unconfined" => return Ok(Seccomp::Unconfined),
        _ => {}
    }
    let mistake = |message: String| Mistake::whole(text, message).hint(PROFILE);
    let Some(path) = text.strip_prefix("./") else {
        return Err(match text {
            "" => mistake("an empty profile".to_owned()),
            _ if text.starts_with('/') || text == ".." || text.starts_with("../") => {
                mistake(format!("{} is not below the host folder", quoted(text)))
            }
            _ if text.contains('/') || text.ends_with(".json") => {
                Mistake::whole(text, "the path of a profile begins with `./`")
                    .hint(format!("write `./{text}`"))
            }
            _ => mistake(format!("{} is neither a word nor a path", quoted(text))),
        });
    };
    let mut parts = path.split('/').filter(|part| !matches!(*part, "" | ".")).peekable();
    if parts.peek().is_none() {
        return Err(mistake("the host folder itself is no profile".to_owned()));
    }
    if parts.any(|part| part == "..") {
        return Err(mistake(format!("{} is not below the host folder", quoted(text))));
    }
    Ok(Seccomp::Profile(text.to_owned()))
}

const PROFILE: &str = "`default`, `unconfined`, or a profile as docker and podman have it, below the \
                       host folder: `./profiles/web.json`";

const WHERE: &str = "put an OCI layout or an OCI or docker archive below the host folder and \
                     name it: `./images/web` or `./images/web.tar`";

fn outside(text: &str) -> Mistake {
    Mistake::whole(text, format!("{} is not below the host folder", quoted(text))).hint(WHERE)
}
