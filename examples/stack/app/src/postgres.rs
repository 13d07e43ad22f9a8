//! Just enough of the PostgreSQL protocol 3.0 to run a statement with parameters.
//!
//! <https://www.postgresql.org/docs/15/protocol.html>: start-up without a password (the server trusts
//! its bridge, see `pg_hba.conf`), then the extended query protocol with all values as text.
//! Parameters are sent separately from the statement, so no quoting is needed and SQL injection is
//! not possible.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;

use crate::net;

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The connection failed, or closed in the middle of a response.
    #[error("PostgreSQL: {0}")]
    Io(#[from] io::Error),
    /// The server reported an error: its severity and message.
    #[error("PostgreSQL refused: {0}")]
    Refused(String),
    /// The server requires a password, which this program does not support.
    #[error("PostgreSQL asks for authentication of kind {0}; it should trust this network")]
    Authentication(u32),
}

/// A row: the columns as text, `None` for NULL.
pub type Row = Vec<Option<String>>;

/// Protocol version 3.0, as encoded in the start-up message.
const PROTOCOL: u32 = 3 << 16;

/// The largest message accepted from the server; rows here are a few hundred bytes.
const LONGEST: usize = 1 << 20;

/// A connection to one database.
pub struct Postgres(BufReader<TcpStream>);

impl Postgres {
    /// Connects to `HOST:PORT` and logs in.
    ///
    /// # Errors
    /// [`PostgresError`] if the connection or the login fails.
    pub fn connect(address: &str, user: &str, database: &str) -> Result<Self, PostgresError> {
        let mut connection = Self(BufReader::new(net::connect(address)?));
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        for word in ["user", user, "database", database, "application_name", "stack-app", ""] {
            text(&mut body, word);
        }
        // The only message without a type byte.
        connection.0.get_mut().write_all(&with_length(&body))?;
        connection.until_ready()?;
        Ok(connection)
    }

    /// Runs one statement, in which `$1`, `$2`, … are the parameters, and returns the rows.
    ///
    /// # Errors
    /// [`PostgresError::Refused`] if the statement failed (the connection can still be used), another
    /// one if the connection failed.
    pub fn run(&mut self, statement: &str, parameters: &[&str]) -> Result<Vec<Row>, PostgresError> {
        let message = encode(statement, parameters);
        self.0.get_mut().write_all(&message)?;
        self.until_ready()
    }

    /// Reads messages up to ReadyForQuery, which the server sends at the end of every statement,
    /// successful or not. Skips everything but rows, errors and authentication.
    fn until_ready(&mut self) -> Result<Vec<Row>, PostgresError> {
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            let (kind, body) = read_message(&mut self.0)?;
            match kind {
                b'Z' => break,
                b'D' => rows.push(parse_row(&body)?),
                b'E' => {
                    let text = error_text(&body);
                    // A fatal error closes the connection without ReadyForQuery.
                    if text.starts_with("FATAL") {
                        return Err(PostgresError::Refused(text));
                    }
                    refused = Some(text);
                }
                b'R' => match Reader(&body).u32()? {
                    0 => {}
                    kind => return Err(PostgresError::Authentication(kind)),
                },
                _ => {}
            }
        }
        refused.map_or(Ok(rows), |text| Err(PostgresError::Refused(text)))
    }
}

/// Encodes Parse, Bind, Execute and Sync for one statement, to be sent in one write.
fn encode(statement: &str, parameters: &[&str]) -> Vec<u8> {
    let count = (parameters.len() as u16).to_be_bytes();
    let mut parse = Vec::new();
    text(&mut parse, "");
    text(&mut parse, statement);
    // No parameter types: the server infers them.
    parse.extend_from_slice(&[0, 0]);

    let mut bind = Vec::new();
    text(&mut bind, "");
    text(&mut bind, "");
    bind.extend_from_slice(&[0, 0]);
    bind.extend_from_slice(&count);
    for parameter in parameters {
        bind.extend_from_slice(&(parameter.len() as u32).to_be_bytes());
        bind.extend_from_slice(parameter.as_bytes());
    }
    bind.extend_from_slice(&[0, 0]);

    // The unnamed portal, without a row limit.
    let execute = [0, 0, 0, 0, 0];
    let mut out = Vec::new();
    for (kind, body) in [(b'P', &parse[..]), (b'B', &bind), (b'E', &execute), (b'S', &[])] {
        out.push(kind);
        out.extend_from_slice(&with_length(body));
    }
    out
}

/// Encodes a zero-terminated string; text after an embedded zero byte is cut off.
fn text(out: &mut Vec<u8>, value: &str) {
    out.extend(value.bytes().take_while(|&byte| byte != 0));
    out.push(0);
}

/// Prefixes the body with its length, which includes the length field.
fn with_length(body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32 + 4).to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

fn read_message(input: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut kind = [0];
    let mut length = [0; 4];
    input.read_exact(&mut kind)?;
    input.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    match length.checked_sub(4) {
        Some(length) if length <= LONGEST => {
            let mut body = vec![0; length];
            input.read_exact(&mut body)?;
            Ok((kind[0], body))
        }
        _ => Err(invalid("a message of impossible length")),
    }
}

/// Decodes a DataRow: the number of columns, then the length (-1 for NULL) and bytes of each.
fn parse_row(body: &[u8]) -> io::Result<Row> {
    let mut reader = Reader(body);
    let columns = reader.u16()?;
    (0..columns)
        .map(|_| match reader.u32()? {
            u32::MAX => Ok(None),
            length => {
                let bytes = reader.bytes(length as usize)?;
                Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
            }
        })
        .collect()
}

/// Formats an ErrorResponse as `SEVERITY: message`. Each field is a letter and a string.
fn error_text(body: &[u8]) -> String {
    let field = |letter: u8| {
        body.split(|&byte| byte == 0)
            .find(|field| field.first() == Some(&letter))
            .map(|field| String::from_utf8_lossy(field.get(1..).unwrap_or_default()).into_owned())
            .unwrap_or_default()
    };
    // `V` is the severity that is never localised.
    format!("{}: {}", field(b'V'), field(b'M'))
}

/// Reads numbers and bytes from the front of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (head, tail) =
            self.0.split_at_checked(count).ok_or_else(|| invalid("a message that ends early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn u16(&mut self) -> io::Result<u16> {
        self.bytes(2).map(|bytes| bytes.iter().fold(0, |value, &byte| value << 8 | u16::from(byte)))
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.bytes(4).map(|bytes| bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_survive_the_way_there_and_back(
            row in proptest::collection::vec(proptest::option::of(".{0,40}"), 0..8)
        ) {
            let mut body = (row.len() as u16).to_be_bytes().to_vec();
            for column in &row {
                match column {
                    None => body.extend_from_slice(&u32::MAX.to_be_bytes()),
                    Some(value) => {
                        body.extend_from_slice(&(value.len() as u32).to_be_bytes());
                        body.extend_from_slice(value.as_bytes());
                    }
                }
            }
            prop_assert_eq!(parse_row(&body).unwrap(), row);
        }

        #[test]
        fn no_message_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_row(&bytes);
            let _ = error_text(&bytes);
            let _ = read_message(&mut bytes.as_slice());
        }

        #[test]
        fn what_is_sent_can_be_taken_apart_by_its_lengths(
            statement in ".{0,60}", parameter in ".{0,60}"
        ) {
            let wire = encode(&statement, &[&parameter]);
            let mut rest = wire.as_slice();
            let kinds: Vec<u8> = std::iter::from_fn(|| {
                (!rest.is_empty()).then(|| read_message(&mut rest).unwrap().0)
            })
            .collect();
            prop_assert_eq!(kinds, b"PBES");
        }
    }

    #[test]
    fn an_error_is_told_in_the_servers_words() {
        let body = b"SFATAL\0VFATAL\0C28000\0Mno pg_hba.conf entry\0\0";
        assert_eq!(error_text(body), "FATAL: no pg_hba.conf entry");
    }
}
