//! The names that a host folder gives: units, volumes, machines, links.

use crate::diagnostic::{Mistake, quoted};
use crate::model::Condition;
use crate::suggest::closest;

/// Checks a unit's name: a host name label in lower case, since it is one inside containers
/// (RFC 1123, section 2.1).
///
/// # Errors
/// What the name may hold.
pub fn check_unit_name(name: &str) -> Result<(), Mistake> {
    let rule = "a unit's name is 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end";
    if name == "localhost" {
        return Err(Mistake::whole(name, "`localhost` cannot be a unit's name")
            .hint("names of units are host names inside containers, where this one is taken"));
    }
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty()
        || name.len() > 63
        || name.starts_with('-')
        || name.ends_with('-')
        || !name.chars().all(inner)
    {
        let message = format!("{} cannot be a unit's name", quoted(name));
        return Err(Mistake::whole(name, message).hint(rule));
    }
    Ok(())
}

/// Checks a volume's name: it is a directory's name on the data disk.
///
/// # Errors
/// What the name may hold.
pub fn check_volume_name(name: &str) -> Result<(), Mistake> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if !first || name.len() > 63 || !name.chars().all(inner) {
        let message = if name.is_empty() {
            "an empty volume name".to_owned()
        } else {
            format!("{} cannot be a volume's name", quoted(name))
        };
        return Err(Mistake::whole(name, message).hint(
            "a volume's name is 1 to 63 of a-z, A-Z, 0-9, `-`, `_` and `.`, with a letter or \
             digit first; a path of the host begins with `/`",
        ));
    }
    Ok(())
}

/// Checks a host name: labels of letters, digits and inner hyphens (RFC 1123, section 2.1), at
/// most 64 bytes in all, as sethostname(2) takes.
///
/// # Errors
/// What the name may hold.
pub fn check_hostname(name: &str) -> Result<(), Mistake> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if name.len() > 64 || !name.split('.').all(label) {
        let message = format!("{} cannot be a host name", quoted(name));
        return Err(Mistake::whole(name, message).hint(
            "a host name is at most 64 letters, digits, `-` and `.`, with no `-` at either end \
             of a part",
        ));
    }
    Ok(())
}

/// Checks the name of a network link, as the kernel's `dev_valid_name` does, and in printable
/// ASCII.
///
/// # Errors
/// What the name may hold.
pub fn check_link_name(name: &str) -> Result<(), Mistake> {
    let inner = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || !name.chars().all(inner)
    {
        let message = format!("{} cannot be a network link's name", quoted(name));
        return Err(Mistake::whole(name, message)
            .hint("the kernel's names are 1 to 15 characters without `/`, `:` and spaces"));
    }
    if name == "lo" {
        return Err(Mistake::whole(name, "`lo` is set up by the host itself"));
    }
    Ok(())
}

/// Checks the name of an environment variable: anything without `=` (NUL has been refused).
///
/// # Errors
/// What is wrong with it.
pub fn check_variable_name(name: &str) -> Result<(), Mistake> {
    if name.is_empty() || name.contains('=') {
        let message = format!("{} cannot be a variable's name", quoted(name));
        return Err(Mistake::whole(name, message));
    }
    Ok(())
}

/// Reads one entry of `wait_for`: `net.addr`, `net.route`, `dns`, `clock` or `volume:NAME`.
///
/// # Errors
/// A [`Mistake`] with the nearest condition.
pub fn parse_condition(text: &str) -> Result<Condition, Mistake> {
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
                    Err(mistake) => Err(mistake.moved(prefix)),
                };
            }
            let known = ["net.addr", "net.route", "dns", "clock", "volume:NAME"];
            let foreign = FOREIGN.iter().find(|(name, _)| *name == text).map(|(_, here)| *here);
            let hint = match foreign.or_else(|| closest(text, known)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("one of `{}`; for another unit use `requires`", known.join("`, `")),
            };
            let message = format!("{} is no condition of the host", quoted(text));
            Err(Mistake::whole(text, message).hint(hint))
        }
    }
}
