//! Names in a host folder: units, volumes, hosts, links, environment variables, conditions.

use crate::diagnostic::{ParseError, quoted};
use crate::model::Condition;
use crate::suggest::closest;

/// Checks a unit name: a host name label in lower case, since units are host names inside containers
/// (RFC 1123, section 2.1).
///
/// # Errors
/// A [`ParseError`] that says which names are valid.
pub fn check_unit_name(name: &str) -> Result<(), ParseError> {
    let rule = "a unit name is 1 to 63 characters of a-z, 0-9 and `-`, without `-` at either end";
    if name == "localhost" {
        return Err(ParseError::whole(name, "invalid unit name `localhost`")
            .hint("unit names are host names inside containers, where `localhost` is reserved"));
    }
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty()
        || name.len() > 63
        || name.starts_with('-')
        || name.ends_with('-')
        || !name.chars().all(inner)
    {
        let message = format!("invalid unit name {}", quoted(name));
        return Err(ParseError::whole(name, message).hint(rule));
    }
    Ok(())
}

/// Checks a volume name: it is the name of a directory on the data disk.
///
/// # Errors
/// A [`ParseError`] that says which names are valid.
pub fn check_volume_name(name: &str) -> Result<(), ParseError> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if !first || name.len() > 63 || !name.chars().all(inner) {
        let message = if name.is_empty() {
            "empty volume name".to_owned()
        } else {
            format!("invalid volume name {}", quoted(name))
        };
        return Err(ParseError::whole(name, message).hint(
            "a volume name is 1 to 63 characters of a-z, A-Z, 0-9, `-`, `_` and `.`, and begins with a \
             letter or digit; a path of the host begins with `/`",
        ));
    }
    Ok(())
}

/// Checks a host name: labels of letters, digits and inner hyphens (RFC 1123, section 2.1), at
/// most 64 bytes in all, as sethostname(2) takes.
///
/// # Errors
/// A [`ParseError`] that says which names are valid.
pub fn check_hostname(name: &str) -> Result<(), ParseError> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if name.len() > 64 || !name.split('.').all(label) {
        let message = format!("invalid host name {}", quoted(name));
        return Err(ParseError::whole(name, message).hint(
            "a host name is at most 64 letters, digits, `-` and `.`, without `-` at either end of \
             a label",
        ));
    }
    Ok(())
}

/// Checks the name of a network link, as the kernel's `dev_valid_name` does, and in printable
/// ASCII.
///
/// # Errors
/// A [`ParseError`] that says which names are valid.
pub fn check_link_name(name: &str) -> Result<(), ParseError> {
    let inner = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || !name.chars().all(inner)
    {
        let message = format!("invalid link name {}", quoted(name));
        return Err(ParseError::whole(name, message)
            .hint("a link name is 1 to 15 characters without `/`, `:` and spaces"));
    }
    if name == "lo" {
        return Err(ParseError::whole(
            name,
            "link `lo` cannot be configured; the host sets it up itself",
        ));
    }
    Ok(())
}

/// Checks the name of an environment variable: not empty, and without `=`. (The caller rejects NUL.)
///
/// # Errors
/// A [`ParseError`] that says which names are valid.
pub fn check_variable_name(name: &str) -> Result<(), ParseError> {
    if name.is_empty() || name.contains('=') {
        let message = format!("invalid environment variable name {}", quoted(name));
        return Err(
            ParseError::whole(name, message).hint("a name is not empty and contains no `=`")
        );
    }
    Ok(())
}

/// Reads one entry of `wait_for`: `net.addr`, `net.route`, `dns`, `clock` or `volume:NAME`.
///
/// # Errors
/// A [`ParseError`] that suggests the nearest condition.
pub fn parse_condition(text: &str) -> Result<Condition, ParseError> {
    const FOREIGN: [(&str, &str); 8] = [
        ("network", "net.route"),
        ("net", "net.route"),
        ("network-online.target", "net.route"),
        ("network.target", "net.addr"),
        ("time-sync.target", "clock"),
        ("time", "clock"),
        ("ntp", "clock"),
        ("nss-lookup.target", "dns"),
    ];
    match text {
        "net.addr" => Ok(Condition::NetAddr),
        "net.route" => Ok(Condition::NetRoute),
        "dns" => Ok(Condition::Dns),
        "clock" => Ok(Condition::Clock),
        _ => {
            if let Some(name) = text.strip_prefix("volume:") {
                let prefix = "volume:".len();
                return match check_volume_name(name) {
                    Ok(()) => Ok(Condition::Volume(name.to_owned())),
                    Err(error) => Err(error.shifted(prefix)),
                };
            }
            let known = ["net.addr", "net.route", "dns", "clock", "volume:NAME"];
            let foreign = FOREIGN.iter().find(|(name, _)| *name == text).map(|(_, here)| *here);
            let hint = match foreign.or_else(|| closest(text, known)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "expected one of `{}`; to wait for a unit, use `requires`",
                    known.join("`, `")
                ),
            };
            let message = format!("unknown condition {}", quoted(text));
            Err(ParseError::whole(text, message).hint(hint))
        }
    }
}
