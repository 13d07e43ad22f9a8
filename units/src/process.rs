//! What the main process is: its user, the signal that stops it, its capabilities; and how its
//! health is asked.

use crate::capability;
use crate::diagnostic::{Mistake, quoted};
use crate::entry::parse_port_number;
use crate::model::Probe;
use crate::suggest::closest;
use api_types::SIGNALS;

/// The first real-time signal that glibc leaves to programs, and the last one (signal(7)).
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Reads a signal: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
///
/// # Errors
/// A [`Mistake`] with the nearest name.
pub fn parse_signal(text: &str) -> Result<i32, Mistake> {
    let number = text.parse::<i32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    if let Some(number) = number {
        return signal_number(i128::from(number)).map_err(|message| Mistake::whole(text, message));
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
            signal_number(i128::from(*number)).map_err(|message| Mistake::whole(text, message))
        }
        None => {
            let mistake = Mistake::whole(text, format!("{} is no signal", quoted(text)));
            Err(match closest(name, SIGNALS.iter().map(|(known, _)| *known)) {
                Some(near) => mistake.hint(format!("did you mean `SIG{near}`?")),
                None => mistake.hint("write its name (`SIGTERM`) or its number (`15`)"),
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

/// Checks the number of a signal that is to stop a process.
///
/// # Errors
/// Why it cannot.
pub(crate) fn signal_number(number: i128) -> Result<i32, String> {
    match i32::try_from(number) {
        Ok(18..=22) => Err(format!("signal {number} does not end a process")),
        Ok(number @ (1..=31 | 34..=64)) => Ok(number),
        Ok(32 | 33) => Err(format!("signal {number} belongs to the C library")),
        _ => Err(format!("{number} is no signal: they are 1 to 64")),
    }
}

/// Reads a capability's name, with or without `CAP_`, in any case; gives it without, in upper case.
///
/// # Errors
/// A [`Mistake`] with the nearest name.
pub fn parse_capability(text: &str) -> Result<String, Mistake> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if capability::NAMES.contains(&name) {
        return Ok(name.to_owned());
    }
    let mistake = Mistake::whole(text, format!("{} is no capability", quoted(text)));
    Err(match closest(name, capability::NAMES) {
        Some(near) => mistake.hint(format!("did you mean `{near}`?")),
        None => mistake.hint("capabilities(7) lists them, such as `NET_BIND_SERVICE`"),
    })
}

/// Checks `user`: `uid`, `uid:gid`, `name` or `name:group`. A number stays a number, never a name
/// that is looked up, and fits in 32 bits (CVE-2024-40635: one that does not became root).
///
/// # Errors
/// A [`Mistake`] that points at the part that is wrong.
pub fn check_user(text: &str) -> Result<(), Mistake> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    check_id(user, 0)?;
    group.map_or(Ok(()), |group| check_id(group, user.len() + 1))
}

fn check_id(id: &str, offset: usize) -> Result<(), Mistake> {
    let at = offset..offset + id.len();
    if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
        // The highest number, -1 as 32 bits, means "unchanged" in setresuid(2).
        return match id.parse::<u32>() {
            Ok(number) if number != u32::MAX => Ok(()),
            _ => Err(Mistake::new(at, format!("{} is too large for an id", quoted(id)))
                .hint("ids are 0 to 4294967294")),
        };
    }
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = id.strip_suffix('$').unwrap_or(id);
    if !name.starts_with(first) || !name.chars().all(inner) || name.len() > 32 {
        let message = if id.is_empty() {
            "an empty user or group".to_owned()
        } else {
            format!("{} is neither an id nor a name", quoted(id))
        };
        return Err(Mistake::new(at, message).hint("write `1000`, `1000:1000`, `web` or `web:web`"));
    }
    Ok(())
}

/// Reads an HTTP probe: `:80/healthz`. Without a path, `/` is asked for.
///
/// # Errors
/// A [`Mistake`] that points at the part that is wrong.
pub fn parse_http_probe(text: &str) -> Result<Probe, Mistake> {
    const FORM: &str = "write port and path: `:80/healthz`";
    let Some(rest) = text.strip_prefix(':') else {
        let plain = text.strip_prefix("http://").unwrap_or(text);
        let tail = plain.find([':', '/']).and_then(|at| plain.get(at..)).unwrap_or_default();
        let mistake =
            Mistake::whole(text, format!("{} names more than port and path", quoted(text)));
        let local = if tail.starts_with(':') { tail.to_owned() } else { format!(":80{tail}") };
        return Err(match text {
            _ if text.starts_with("https://") => {
                Mistake::whole(text, "probes speak plain HTTP only")
                    .hint("use `tcp`, or `command` with a client from the image")
            }
            _ if text.starts_with("http://") => {
                mistake.hint(format!("the container itself is asked, on loopback: `{local}`"))
            }
            _ => Mistake::whole(text, format!("{} is not an HTTP probe", quoted(text))).hint(FORM),
        });
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (port, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let port = parse_port_number(port, 1..1 + end).map_err(|mistake| mistake.hint(FORM))?;
    // The path goes into a request line as it is: a space or a line end would make another one.
    if !path.chars().all(|c| c.is_ascii_graphic()) {
        let message = format!("{} cannot stand in a request", quoted(path));
        return Err(Mistake::new(1 + end..text.len(), message)
            .hint("percent-encode spaces and anything beyond ASCII"));
    }
    let path = if path.is_empty() { "/" } else { path };
    Ok(Probe::Http { port, path: path.to_owned() })
}

/// Reads a TCP probe: `:6379`.
///
/// # Errors
/// A [`Mistake`] that points at the part that is wrong.
pub fn parse_tcp_probe(text: &str) -> Result<Probe, Mistake> {
    const FORM: &str = "write the container's port: `:6379`";
    let Some(port) = text.strip_prefix(':') else {
        return Err(Mistake::whole(text, format!("{} is not a TCP probe", quoted(text))).hint(FORM));
    };
    let port = parse_port_number(port, 1..text.len()).map_err(|mistake| mistake.hint(FORM))?;
    Ok(Probe::Tcp { port })
}
