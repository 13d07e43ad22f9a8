//! Clients of the API and their roles.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a client may do; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Reader,
    /// Also starts, stops, restarts and signals units.
    Operator,
    /// Also downloads the support bundle, reboots, powers off, and runs commands and copies files
    /// in containers.
    Admin,
}

impl Role {
    /// All roles, from the lowest to the highest.
    pub const ALL: [Role; 3] = [Role::Reader, Role::Operator, Role::Admin];

    /// As in JSON and in `host.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A client that may call the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Client {
    /// The name that the host's `host.toml` gives the key.
    pub name: String,
    /// Fingerprint of the client's public key: `SHA256:` and the unpadded base64 of the SHA-256 of
    /// its SubjectPublicKeyInfo (DER).
    pub key: String,
    /// What it may do.
    pub role: Role,
}

/// Text that does not describe a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientError;

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected NAME:ROLE:SHA256:…")
    }
}

impl std::error::Error for ClientError {}

/// Reads `NAME:ROLE:KEY`, the form of a client on the kernel's command line.
impl FromStr for Client {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Client, ClientError> {
        let mut parts = text.splitn(3, ':');
        let (Some(name), Some(role), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ClientError);
        };
        let role = Role::ALL.into_iter().find(|known| known.name() == role).ok_or(ClientError)?;
        if name.is_empty() || !key.starts_with("SHA256:") {
            return Err(ClientError);
        }
        Ok(Client { name: name.to_owned(), key: key.to_owned(), role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_clients_on_the_command_line_are_errors() {
        let client: Client = "me:admin:SHA256:abc".parse().unwrap();
        assert_eq!((client.name.as_str(), client.role), ("me", Role::Admin));
        assert_eq!(client.key, "SHA256:abc");
        for text in
            ["", "me", "me:admin", "me:root:SHA256:abc", ":admin:SHA256:abc", "me:admin:abc"]
        {
            assert_eq!(text.parse::<Client>(), Err(ClientError), "{text}");
        }
    }
}
