//! Just enough of the redis protocol (RESP2, https://redis.io/docs/latest/develop/reference/protocol-spec/)
//! to count.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::net;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The connection failed, or closed in the middle of a reply.
    #[error("redis: {0}")]
    Io(#[from] io::Error),
    /// Redis reported an error: its message.
    #[error("redis refused: {0}")]
    Refused(String),
    /// The reply has an unexpected type.
    #[error("redis: unexpected answer {0:?}")]
    Unexpected(Reply),
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Status(String),
    /// `-ERR …`
    Error(String),
    /// `:42`
    Integer(i64),
    /// `$5` and five bytes; `None` is the null string `$-1`.
    Bulk(Option<Vec<u8>>),
}

/// The longest string accepted from redis. The limit of the protocol is 512 MB; this program only
/// reads numbers.
const LONGEST: usize = 64 << 10;

/// A connection to redis.
pub struct Redis(BufReader<TcpStream>);

impl Redis {
    /// Connects to `HOST:PORT`.
    ///
    /// # Errors
    /// [`RedisError::Io`] if [`net::connect`] fails or times out.
    pub fn connect(address: &str) -> Result<Self, RedisError> {
        Ok(Self(BufReader::new(net::connect(address)?)))
    }

    /// Increments a counter and returns its new value.
    ///
    /// # Errors
    /// [`RedisError`] if the connection fails or the key is not a counter.
    pub fn increment(&mut self, key: &str) -> Result<i64, RedisError> {
        match self.command(&["INCR", key])? {
            Reply::Integer(value) => Ok(value),
            other => Err(RedisError::Unexpected(other)),
        }
    }

    /// Returns the value of a key, if it exists.
    ///
    /// # Errors
    /// [`RedisError`] if the connection fails or the key does not hold a string.
    pub fn get(&mut self, key: &str) -> Result<Option<String>, RedisError> {
        match self.command(&["GET", key])? {
            Reply::Bulk(value) => {
                Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
            }
            other => Err(RedisError::Unexpected(other)),
        }
    }

    fn command(&mut self, words: &[&str]) -> Result<Reply, RedisError> {
        self.0.get_mut().write_all(&encode(words))?;
        match read_reply(&mut self.0)? {
            Reply::Error(text) => Err(RedisError::Refused(text)),
            reply => Ok(reply),
        }
    }
}

/// Encodes a command: an array of bulk strings.
fn encode(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    out
}

/// Reads one reply. Arrays are an error: no command here returns one.
fn read_reply(input: &mut impl BufRead) -> io::Result<Reply> {
    let line = read_line(input)?;
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| invalid("an empty line"))?;
    match kind {
        "+" => Ok(Reply::Status(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        ":" => rest.parse().map(Reply::Integer).map_err(|_| invalid("not an integer")),
        "$" if rest == "-1" => Ok(Reply::Bulk(None)),
        "$" => {
            let length: usize = rest.parse().map_err(|_| invalid("not a length"))?;
            if length > LONGEST {
                return Err(invalid("a string that is too long"));
            }
            let mut bytes = vec![0; length + 2];
            input.read_exact(&mut bytes)?;
            if !bytes.ends_with(b"\r\n") {
                return Err(invalid("a string without its end"));
            }
            bytes.truncate(length);
            Ok(Reply::Bulk(Some(bytes)))
        }
        _ => Err(invalid("an unknown kind of answer")),
    }
}

fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.take(LONGEST as u64).read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(text) => Ok(text.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
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
        fn strings_survive_the_way_there_and_back(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut wire = format!("${}\r\n", bytes.len()).into_bytes();
            wire.extend_from_slice(&bytes);
            wire.extend_from_slice(b"\r\n");
            prop_assert_eq!(read_reply(&mut wire.as_slice()).unwrap(), Reply::Bulk(Some(bytes)));
        }

        #[test]
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_reply(&mut bytes.as_slice());
        }

        #[test]
        fn integers_are_read(value: i64) {
            let wire = format!(":{value}\r\n");
            prop_assert_eq!(read_reply(&mut wire.as_bytes()).unwrap(), Reply::Integer(value));
        }
    }

    #[test]
    fn a_command_is_an_array_of_strings_with_their_lengths() {
        assert_eq!(encode(&["GET", "é"]), "*2\r\n$3\r\nGET\r\n$2\r\né\r\n".as_bytes());
    }
}
