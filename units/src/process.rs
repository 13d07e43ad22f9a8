//! Settings of the main process: user, stop signal, capabilities; and health probes.

use crate::capability;
use crate::diagnostic::{ParseError, quoted};
use crate::entry::parse_port_number;
use crate::model::Probe;
use crate::suggest::closest;
use api_types::SIGNALS;

/// The real-time signals that the C library leaves to programs (signal(7)).
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Reads a signal: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
///
/// # Errors
/// A [`ParseError`] that suggests the nearest name.
pub fn parse_signal(text: &str) -> Result<i32, ParseError> {
    let number = text.parse::<i32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    if let Some(number) = number {
        return signal_number(i128::from(number))
            .map_err(|message| ParseError::whole(text, message));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = if let Some(rest) = name.strip_prefix("RTMIN") {
        offset(rest, '+').and_then(|offset| REAL_TIME.start().checked_add(offset))
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        offset(rest, '-').and_then(|offset| REAL_TIME.end().checked_sub(offset))
    } else {
        None
    };
    if let Some(number) = real_time.filter(|number| REAL_TIME.contains(number)) {
        return Ok(number);
    }
    match SIGNALS.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => {
            signal_number(i128::from(*number)).map_err(|message| ParseError::whole(text, message))
        }
        None => {
            let error = ParseError::whole(text, format!("unknown signal {}", quoted(text)));
            Err(match closest(name, SIGNALS.iter().map(|(known, _)| *known)) {
                Some(near) => error.hint(format!("did you mean `SIG{near}`?")),
                None => error.hint("use a name (`SIGTERM`) or a number (`15`)"),
            })
        }
    }
}

fn offset(rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(sign)?;
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Checks the number of a stop signal.
///
/// # Errors
/// Why the signal cannot stop a process.
pub(crate) fn signal_number(number: i128) -> Result<i32, String> {
    match i32::try_from(number) {
        Ok(18..=22) => Err(format!("signal {number} does not terminate a process")),
        Ok(number @ (1..=31 | 34..=64)) => Ok(number),
        Ok(32 | 33) => Err(format!("signal {number} is reserved by the C library")),
        _ => Err(format!("invalid signal number {number}: the range is 1 to 64")),
    }
}

/// Reads the name of a capability, with or without `CAP_`, in any case. Returns it in upper case and
/// without the prefix.
///
/// # Errors
/// A [`ParseError`] that suggests the nearest name.
pub fn parse_capability(text: &str) -> Result<String, ParseError> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if capability::NAMES.contains(&name) {
        return Ok(name.to_owned());
    }
    let error = ParseError::whole(text, format!("unknown capability {}", quoted(text)));
    Err(match closest(name, capability::NAMES) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("see capabilities(7) for the list; an example is `NET_BIND_SERVICE`"),
    })
}

/// Checks `user`: `uid`, `uid:gid`, `name` or `name:group`. A number is never looked up as a name, and
/// must fit in 32 bits (CVE-2024-40635: a larger one became root).
///
/// # Errors
/// A [`ParseError`] that points at the part that is wrong.
pub fn check_user(text: &str) -> Result<(), ParseError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    check_id(user, 0)?;
    group.map_or(Ok(()), |group| check_id(group, user.len() + 1))
}

fn check_id(id: &str, offset: usize) -> Result<(), ParseError> {
    let at = offset..offset + id.len();
    if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
        // The highest number, -1 as 32 bits, means "unchanged" in setresuid(2).
        return match id.parse::<u32>() {
            Ok(number) if number != u32::MAX => Ok(()),
            _ => Err(ParseError::new(at, format!("id {} is too large", quoted(id)))
                .hint("the range is 0 to 4294967294")),
        };
    }
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = id.strip_suffix('$').unwrap_or(id);
    if !name.starts_with(first) || !name.chars().all(inner) || name.len() > 32 {
        let message = if id.is_empty() {
            "empty user or group".to_owned()
        } else {
            format!("invalid user or group {}", quoted(id))
        };
        return Err(
            ParseError::new(at, message).hint("use `1000`, `1000:1000`, `web` or `web:web`")
        );
    }
    Ok(())
}

/// Reads an HTTP probe: `:80/healthz`. The default path is `/`.
///
/// # Errors
/// A [`ParseError`] that points at the part that is wrong.
pub fn parse_http_probe(text: &str) -> Result<Probe, ParseError> {
    const FORM: &str = "write the port and the path: `:80/healthz`";
    let Some(rest) = text.strip_prefix(':') else {
        let plain = text.strip_prefix("http://").unwrap_or(text);
        let tail = plain.find([':', '/']).and_then(|at| plain.get(at..)).unwrap_or_default();
        let url = "an HTTP probe takes only a port and a path, not a URL";
        let local = if tail.starts_with(':') { tail.to_owned() } else { format!(":80{tail}") };
        return Err(match text {
            _ if text.starts_with("https://") => {
                ParseError::whole(text, "HTTPS probes are not supported")
                    .hint("use `tcp`, or `command` with a client from the image")
            }
            _ if text.starts_with("http://") => ParseError::whole(text, url)
                .hint(format!("the probe connects to the container's loopback: write `{local}`")),
            _ => ParseError::whole(text, format!("invalid HTTP probe {}", quoted(text))).hint(FORM),
        });
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (port, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let port = parse_port_number(port, 1..1 + end).map_err(|error| error.hint(FORM))?;
    // The path is copied into the request line: a space or a line end would change the request.
    if !path.chars().all(|c| c.is_ascii_graphic()) {
        let message = format!("invalid request path {}", quoted(path));
        return Err(ParseError::new(1 + end..text.len(), message)
            .hint("percent-encode spaces and non-ASCII characters"));
    }
    let path = if path.is_empty() { "/" } else { path };
    Ok(Probe::Http { port, path: path.to_owned() })
}

/// Reads a TCP probe: `:6379`.
///
/// # Errors
/// A [`ParseError`] that points at the part that is wrong.
pub fn parse_tcp_probe(text: &str) -> Result<Probe, ParseError> {
    const FORM: &str = "write the container's port: `:6379`";
    let Some(port) = text.strip_prefix(':') else {
        return Err(
            ParseError::whole(text, format!("invalid TCP probe {}", quoted(text))).hint(FORM)
        );
    };
    let port = parse_port_number(port, 1..text.len()).map_err(|error| error.hint(FORM))?;
    Ok(Probe::Tcp { port })
}
