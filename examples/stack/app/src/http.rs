//! Just enough HTTP/1.1 (RFC 9112) for a program behind nginx: one request and one response per
//! connection, one thread each.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Size limits: request line with headers, and form body.
const HEAD: u64 = 16 << 10;
const FORM: usize = 8 << 10;

/// A request.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// The body, at most [`FORM`] bytes.
    pub body: Vec<u8>,
}

/// A response.
pub struct Response {
    /// Status code and reason: `200 OK`.
    pub status: &'static str,
    /// Media type; for a redirect, the target.
    pub kind: &'static str,
    /// The body.
    pub body: String,
}

impl Response {
    /// An HTML page.
    pub fn html(body: String) -> Self {
        Self { status: "200 OK", kind: "text/html; charset=utf-8", body }
    }

    /// A plain-text response with any status.
    pub fn text(status: &'static str, body: String) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body }
    }

    /// Redirects to `/` after a POST (303, RFC 9110 section 15.4.4).
    pub fn see_front_page() -> Self {
        Self { status: "303 See Other\r\nLocation: /", kind: "text/plain", body: String::new() }
    }
}

/// Reads one request, answers it with `handle`, and closes the connection.
///
/// # Errors
/// An I/O error of the connection; the caller can ignore it.
pub fn serve(stream: &TcpStream, handle: impl Fn(&Request) -> Response) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let response = match read_request(&mut BufReader::new(stream)) {
        Ok(request) => handle(&request),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Response::text("400 Bad Request", format!("{error}\n"))
        }
        Err(error) => return Err(error),
    };
    let Response { status, kind, body } = response;
    let length = body.len();
    let mut out = stream;
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

fn read_request(input: &mut impl BufRead) -> io::Result<Request> {
    let mut head = input.take(HEAD);
    let line = read_line(&mut head)?;
    let mut words = line.split(' ');
    let (Some(method), Some(path), Some(_version)) = (words.next(), words.next(), words.next())
    else {
        return Err(invalid("not an HTTP request"));
    };
    let mut length = 0;
    loop {
        let header = read_line(&mut head)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(|| invalid("not a header"))?;
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| invalid("not a length"))?;
        }
    }
    if length > FORM {
        return Err(invalid("too long a body"));
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Ok(Request { method: method.to_owned(), path: path.to_owned(), body })
}

fn read_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(text) => Ok(text.trim_end_matches('\r').to_owned()),
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Err(invalid("too long a head")),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// The value of a field of a form (application/x-www-form-urlencoded, WHATWG URL section 5.1).
pub fn form_value(body: &[u8], name: &str) -> Option<String> {
    body.split(|&byte| byte == b'&').find_map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        let (key, value) = pair.split_at_checked(equals)?;
        (key == name.as_bytes()).then(|| decode(value.get(1..).unwrap_or_default()))
    })
}

fn decode(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => out.push(b' '),
            b'%' => match tail.split_at_checked(2).and_then(|(hex, after)| {
                let hex = std::str::from_utf8(hex).ok()?;
                Some((u8::from_str_radix(hex, 16).ok()?, after))
            }) {
                Some((value, after)) => {
                    out.push(value);
                    rest = after;
                }
                None => out.push(b'%'),
            },
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_form_gives_back_what_was_typed(words in ".{0,60}") {
            let encoded: String = words.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let body = format!("name=a+b&words={encoded}");
            prop_assert_eq!(form_value(body.as_bytes(), "words"), Some(words));
            prop_assert_eq!(form_value(body.as_bytes(), "name"), Some("a b".to_owned()));
        }

        #[test]
        fn no_request_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_request(&mut bytes.as_slice());
            let _ = form_value(&bytes, "name");
        }
    }

    #[test]
    fn a_posted_form_is_read_to_its_length() {
        let mut wire =
            &b"POST /sign HTTP/1.1\r\nHost: x\r\ncontent-length: 6\r\n\r\nname=ztoo much"[..];
        let request = read_request(&mut wire).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/sign"));
        assert_eq!(request.body, b"name=z");
    }
}
