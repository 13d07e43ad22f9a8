//! Addresses of hosts.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The address of a host's API.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A host name or an IP address; IPv6 without brackets.
    pub name: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAddress(String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Address, BadAddress> {
        let bad = |why: &str| BadAddress(format!("invalid address `{text}`: {why}"));
        let port = |port: &str| match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(bad("the port must be a number from 1 to 65535")),
        };
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Address { name: text.to_owned(), port: api_types::PORT });
        }
        if let Some(inner) = text.strip_prefix('[') {
            let (name, after) = inner.split_once(']').ok_or_else(|| bad("`]` is missing"))?;
            name.parse::<Ipv6Addr>().map_err(|_| bad("brackets are for IPv6 addresses"))?;
            let port = match after.strip_prefix(':') {
                Some(digits) => port(digits)?,
                None if after.is_empty() => api_types::PORT,
                None => return Err(bad("only `:PORT` may follow `]`")),
            };
            return Ok(Address { name: name.to_owned(), port });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, digits)) => (name, port(digits)?),
            None => (text, api_types::PORT),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || !name.chars().all(fits) || name.starts_with('-') {
            return Err(bad("expected ADDRESS or ADDRESS:PORT, with an IPv6 address in brackets"));
        }
        Ok(Address { name: name.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_notations_are_parsed() {
        let address = |name: &str, port| Ok(Address { name: name.to_owned(), port });
        assert_eq!("10.0.0.7".parse(), address("10.0.0.7", 7443));
        assert_eq!("edge.example:1".parse(), address("edge.example", 1));
        assert_eq!("fd00::7".parse(), address("fd00::7", 7443));
        assert_eq!("[fd00::7]".parse(), address("fd00::7", 7443));
        assert_eq!("[fd00::7]:80".parse(), address("fd00::7", 80));
        let bad = ["", ":7443", "a:0", "a:b", "[fd00::7", "[a]:1", "[::1]7", "a b", "-x", "a/b"];
        for bad in bad {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn display_and_parse_round_trip() {
        for text in ["10.0.0.7:7443", "[fd00::7]:80", "edge:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }
}
