//! The entries of `ports`, `volumes`, `tmpfs` and `devices`: short forms with colons, as in compose
//! and podman.

use crate::diagnostic::{ParseError, quoted};
use crate::model::{Device, Port, Protocol, Tmpfs, Volume, VolumeSource};
use crate::names::check_volume_name;
use crate::paths::{absolute_path, mount_target};
use crate::scalar::parse_size;
use std::net::Ipv4Addr;
use std::ops::Range;

/// The parts of `text` between colons, each with its byte range.
fn parts(text: &str) -> Vec<(&str, Range<usize>)> {
    split_with_spans(text, ':', 0)
}

fn split_with_spans(text: &str, separator: char, offset: usize) -> Vec<(&str, Range<usize>)> {
    let mut at = offset;
    text.split(separator)
        .map(|part| {
            let span = at..at + part.len();
            at = span.end + 1;
            (part, span)
        })
        .collect()
}

/// Reads a port number, 1 to 65535.
pub(crate) fn parse_port_number(text: &str, at: Range<usize>) -> Result<u16, ParseError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ if text
            .split_once('-')
            .is_some_and(|(a, b)| a.parse::<u16>().is_ok() && b.parse::<u16>().is_ok()) =>
        {
            Err(ParseError::new(
                at,
                format!("port ranges such as {} are not supported", quoted(text)),
            )
            .hint("write one entry per port"))
        }
        _ => {
            let message = format!("invalid port number {}", quoted(text));
            Err(ParseError::new(at, message).hint("the range is 1 to 65535"))
        }
    }
}

/// Reads one entry of `ports`: `[ADDR:]HOST:CONTAINER[/tcp|/udp]`.
///
/// # Errors
/// A [`ParseError`] that points at the part that is wrong.
pub fn parse_port(text: &str) -> Result<Port, ParseError> {
    if text.starts_with('[') {
        return Err(ParseError::whole(text, "ports can be published on IPv4 addresses only")
            .hint("remove the address or use an IPv4 one: `127.0.0.1:8080:80`"));
    }
    let (numbers, protocol) = match text.split_once('/') {
        None => (text, Protocol::Tcp),
        Some((numbers, "tcp")) => (numbers, Protocol::Tcp),
        Some((numbers, "udp")) => (numbers, Protocol::Udp),
        Some((numbers, other)) => {
            let message = format!("unknown protocol {}", quoted(other));
            return Err(ParseError::new(numbers.len() + 1..text.len(), message)
                .hint("use `/tcp` (the default) or `/udp`"));
        }
    };
    let parts = parts(numbers);
    let (address, host, container) = match parts.as_slice() {
        [host, container] => (None, host, container),
        [(address, at), host, container] => {
            let Ok(address) = address.parse::<Ipv4Addr>() else {
                let message = format!("{} is not an IPv4 address", quoted(address));
                return Err(
                    ParseError::new(at.clone(), message).hint("write `ADDR:HOST:CONTAINER`")
                );
            };
            (Some(address).filter(|address| !address.is_unspecified()), host, container)
        }
        [(one, at)] => {
            let port = parse_port_number(one, at.clone())?;
            let message = format!("{} does not name both ports", quoted(text));
            return Err(ParseError::whole(text, message)
                .hint(format!("write `HOST:CONTAINER`, such as `{port}:{port}`")));
        }
        _ => {
            let message = format!("invalid port {}", quoted(text));
            return Err(
                ParseError::whole(text, message).hint("write `[ADDR:]HOST:CONTAINER[/udp]`")
            );
        }
    };
    let host = parse_port_number(host.0, host.1.clone())?;
    let container = parse_port_number(container.0, container.1.clone())?;
    Ok(Port { address, host, container, protocol })
}

/// Reads one entry of `volumes`: `NAME:/path[:ro]` or `/host/path:/path[:ro]`.
///
/// # Errors
/// A [`ParseError`] that points at the part that is wrong.
pub fn parse_volume(text: &str) -> Result<Volume, ParseError> {
    const FORM: &str = "write `NAME:/path` or `/host/path:/path`, with `:ro` for read-only";
    let parts = parts(text);
    let (source, target, option) = match parts.as_slice() {
        [source, target] => (source, target, None),
        [source, target, option] => (source, target, Some(option)),
        [(one, _)] if one.starts_with('/') => {
            let name = one.rsplit('/').find(|part| !part.is_empty()).unwrap_or("data");
            return Err(ParseError::whole(text, format!("volume {} has no name", quoted(text)))
                .hint(format!("name it: `{name}:{one}`")));
        }
        _ => {
            let message = format!("invalid volume {}", quoted(text));
            return Err(ParseError::whole(text, message).hint(FORM));
        }
    };
    let read_only = match option {
        None => false,
        Some((option, at)) => match *option {
            "ro" => true,
            "rw" => false,
            other => {
                let message = format!("unknown volume option {}", quoted(other));
                return Err(ParseError::new(at.clone(), message)
                    .hint("use `ro` for read-only; `rw` is the default"));
            }
        },
    };
    let (name, at) = source;
    let source = if name.starts_with('/') {
        VolumeSource::HostPath(absolute_path(name).map_err(|error| error.shifted(at.start))?)
    } else if name.starts_with('.') || name.starts_with('~') {
        return Err(ParseError::new(
            at.clone(),
            format!("volume source {} is a relative path", quoted(name)),
        )
        .hint("use `NAME:/path` for a named volume, or an absolute path of the host"));
    } else {
        check_volume_name(name).map_err(|error| error.shifted(at.start))?;
        VolumeSource::Named((*name).to_owned())
    };
    let target = mount_target(target.0).map_err(|error| error.shifted(target.1.start))?;
    Ok(Volume { source, target, read_only })
}

/// Reads one entry of `tmpfs`: `/path[:size=64M][,mode=1777]`.
///
/// # Errors
/// A [`ParseError`] that points at the part that is wrong.
pub fn parse_tmpfs(text: &str) -> Result<Tmpfs, ParseError> {
    let (path, options) = match text.split_once(':') {
        Some((path, options)) => (path, Some(options)),
        None => (text, None),
    };
    let mut tmpfs = Tmpfs { target: mount_target(path)?, size: None, mode: 0o1777 };
    let Some(options) = options else { return Ok(tmpfs) };
    for (option, at) in split_with_spans(options, ',', path.len() + 1) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value_at = at.start + name.len() + 1;
        match name {
            "size" => {
                let size = parse_size(value).map_err(|error| error.shifted(value_at))?;
                if size == 0 {
                    let message = "a tmpfs with size 0 has no size limit";
                    return Err(ParseError::new(at, message).hint("use a size such as `64M`"));
                }
                tmpfs.size = Some(size);
            }
            "mode" => match u32::from_str_radix(value, 8) {
                Ok(mode) if mode <= 0o7777 && !value.starts_with('+') => tmpfs.mode = mode,
                _ => {
                    let message = format!("invalid mode {}", quoted(value));
                    return Err(ParseError::new(at, message)
                        .hint("use up to four octal digits: `mode=1777`"));
                }
            },
            _ => {
                let message = format!("unknown tmpfs option {}", quoted(option));
                return Err(ParseError::new(at, message)
                    .hint("the options are `size` and `mode`: `/tmp:size=64M,mode=1777`"));
            }
        }
    }
    Ok(tmpfs)
}

/// Reads one entry of `devices`: `/dev/X[:/dev/Y]`.
///
/// # Errors
/// A [`ParseError`] that points at the part that is wrong.
pub fn parse_device(text: &str) -> Result<Device, ParseError> {
    let parts = parts(text);
    let (source, target) = match parts.as_slice() {
        [source] => (source, source),
        [source, target] => (source, target),
        [_, _, (_, at)] => {
            return Err(ParseError::new(at.clone(), "device options are not supported").hint(
                "the container can read and write the device but not create nodes; write `/dev/X` or `/dev/X:/dev/Y`",
            ));
        }
        _ => {
            let message = format!("invalid device {}", quoted(text));
            return Err(ParseError::whole(text, message).hint("write `/dev/X` or `/dev/X:/dev/Y`"));
        }
    };
    let below_dev = |(path, at): &(&str, Range<usize>)| {
        let path = absolute_path(path).map_err(|error| error.shifted(at.start))?;
        if path.strip_prefix("/dev/").is_none() {
            let message = format!("device path {} is not below /dev", quoted(&path));
            return Err(ParseError::new(at.clone(), message));
        }
        Ok(path)
    };
    Ok(Device { source: below_dev(source)?, target: below_dev(target)? })
}
