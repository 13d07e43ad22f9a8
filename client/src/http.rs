//! The part of HTTP/1.1 that the API needs, on any stream.

use crate::chunked::Chunked;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use std::io::{self, Read, Write};

/// Longest head of a response.
const MAX_HEAD: usize = 64 * 1024;

/// Size of one read.
const CHUNK: usize = 16 * 1024;

/// The head of a request.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method, such as `GET`.
    pub method: &'a str,
    /// Path and query, percent-encoded.
    pub path: &'a str,
    /// Names and values, without line breaks.
    pub headers: &'a [(&'a str, &'a str)],
}

/// The body of a request.
pub enum Payload<'a> {
    /// No body.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// Read from there; with its length, if known, else chunked.
    Stream(&'a mut dyn Read, Option<u64>),
}

/// The head of a response.
#[derive(Debug, Clone)]
pub struct Head {
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header; its name is case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.header(name)
            .is_some_and(|value| value.split(',').any(|v| v.trim().eq_ignore_ascii_case(token)))
    }
}

/// How the end of a body is found.
#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked(Chunked),
    Close,
}

/// A connection for one request after the other.
#[derive(Debug)]
pub struct Http<S> {
    stream: S,
    /// Read, and not consumed yet.
    ahead: Vec<u8>,
    body: Body,
    /// The server closes the connection after this response.
    last: bool,
}

impl<S: Read + Write> Http<S> {
    /// On a new connection.
    pub fn new(stream: S) -> Http<S> {
        Http { stream, ahead: Vec::new(), body: Body::Length(0), last: false }
    }

    /// Whether another request can follow: the last response has been read to its end.
    pub fn reusable(&self) -> bool {
        !self.last && self.body_done()
    }

    /// The underlying stream, to set its timeouts.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The underlying stream and what has been read from it already, after an upgrade.
    pub fn into_inner(self) -> (S, Vec<u8>) {
        (self.stream, self.ahead)
    }

    /// Sends a request and reads the head of the response.
    ///
    /// # Errors
    /// The connection fails, or the response is not HTTP.
    pub fn send(
        &mut self,
        host: &str,
        request: &Request<'_>,
        payload: Payload<'_>,
    ) -> io::Result<Head> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", request.method, request.path);
        for (name, value) in request.headers {
            if value.contains(['\r', '\n']) {
                return Err(io::Error::other("line break in a header"));
            }
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let sent = self.write_request(head, payload);
        match sent {
            // A server that rejects a large body responds before it has read all of it, and closes. Its
            // response says more than a broken pipe.
            Err(error) if is_hangup(&error) => self.head().map_err(|_| error),
            Err(error) => Err(error),
            Ok(()) => self.head(),
        }
    }

    fn write_request(&mut self, mut head: String, payload: Payload<'_>) -> io::Result<()> {
        match payload {
            Payload::None => {
                head.push_str("\r\n");
                self.stream.write_all(head.as_bytes())?;
            }
            Payload::Bytes(bytes) => {
                head.push_str(&format!("Content-Length: {}\r\n\r\n", bytes.len()));
                self.stream.write_all(head.as_bytes())?;
                self.stream.write_all(bytes)?;
            }
            Payload::Stream(from, Some(length)) => {
                head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
                self.stream.write_all(head.as_bytes())?;
                let sent = io::copy(&mut from.take(length), &mut self.stream)?;
                if sent != length {
                    return Err(io::Error::other("the file was truncated while it was sent"));
                }
            }
            Payload::Stream(from, None) => {
                head.push_str("Transfer-Encoding: chunked\r\n\r\n");
                self.stream.write_all(head.as_bytes())?;
                let mut chunk = vec![0; CHUNK];
                loop {
                    let got = from.read(&mut chunk)?;
                    let data = chunk.get(..got).unwrap_or_default();
                    write!(self.stream, "{got:x}\r\n")?;
                    self.stream.write_all(data)?;
                    self.stream.write_all(b"\r\n")?;
                    if got == 0 {
                        break;
                    }
                }
            }
        }
        self.stream.flush()
    }

    fn head(&mut self) -> io::Result<Head> {
        loop {
            let head = self.one_head()?;
            // Informational responses such as 100 Continue come before the final one.
            if head.status >= 200 || head.status == 101 {
                self.last = head.has_token("connection", "close");
                self.body = body_of(&head)?;
                return Ok(head);
            }
        }
    }

    fn one_head(&mut self) -> io::Result<Head> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut response = httparse::Response::new(&mut headers);
            match response.parse(&self.ahead) {
                Ok(httparse::Status::Complete(length)) => {
                    let headers = response.headers.iter().map(|header| {
                        let value = String::from_utf8_lossy(header.value).trim().to_owned();
                        (header.name.to_owned(), value)
                    });
                    let head =
                        Head { status: response.code.unwrap_or(0), headers: headers.collect() };
                    self.ahead.drain(..length);
                    return Ok(head);
                }
                Ok(httparse::Status::Partial) => {}
                Err(error) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string()));
                }
            }
            if self.ahead.len() > MAX_HEAD {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "response head too large"));
            }
            if self.read_more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut chunk = [0; CHUNK];
        let got = loop {
            match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.ahead.extend_from_slice(chunk.get(..got).unwrap_or_default());
        Ok(got)
    }

    fn body_done(&self) -> bool {
        match &self.body {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunked) => chunked.done(),
            Body::Close => false,
        }
    }

    /// The next bytes of the body; empty at its end.
    ///
    /// # Errors
    /// The connection ends before the body does.
    pub fn read_chunk(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if self.body_done() {
                return Ok(Vec::new());
            }
            let mut out = Vec::new();
            match &mut self.body {
                Body::Length(left) => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(self.ahead.len());
                    out.extend(self.ahead.drain(..take));
                    *left -= take as u64;
                }
                Body::Chunked(chunked) => {
                    let taken = chunked.decode(&self.ahead, &mut out).map_err(|error| {
                        io::Error::new(io::ErrorKind::InvalidData, error.to_string())
                    })?;
                    self.ahead.drain(..taken);
                }
                Body::Close => out.append(&mut self.ahead),
            }
            if !out.is_empty() {
                return Ok(out);
            }
            if !self.body_done() && self.read_more()? == 0 {
                return match &self.body {
                    Body::Close => {
                        self.body = Body::Length(0);
                        self.last = true;
                        Ok(Vec::new())
                    }
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// The rest of the body, up to `max` bytes.
    ///
    /// # Errors
    /// The connection ends before the body does, or the body is longer.
    pub fn read_all(&mut self, max: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let chunk = self.read_chunk()?;
            if chunk.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&chunk);
            if all.len() > max {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "response body too large"));
            }
        }
    }
}

/// Whether the server has closed the connection while the request was written.
fn is_hangup(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::WriteZero
    )
}

fn body_of(head: &Head) -> io::Result<Body> {
    if matches!(head.status, 101 | 204 | 304) {
        return Ok(Body::Length(0));
    }
    if head.has_token("transfer-encoding", "chunked") {
        return Ok(Body::Chunked(Chunked::default()));
    }
    match head.header("content-length") {
        Some(length) => length
            .parse()
            .map(Body::Length)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "invalid Content-Length")),
        None => Ok(Body::Close),
    }
}

/// Not encoded: the unreserved characters of RFC 3986, section 2.3.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes everything but unreserved characters.
fn encode(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, UNRESERVED)
}

/// The path of these segments with this query, percent-encoded: `/a/b?c=d`.
pub fn url(segments: &[&str], query: &[(&str, String)]) -> String {
    let mut out = String::new();
    for segment in segments {
        out.push('/');
        // `.` and `..` would be resolved as relative path segments.
        match *segment {
            "." => out.push_str("%2E"),
            ".." => out.push_str("%2E%2E"),
            segment => out.extend(encode(segment)),
        }
    }
    for (at, (name, value)) in query.iter().enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        out.push_str(&format!("{name}={}", encode(value)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server in memory, read a few bytes at a time.
    struct Canned {
        answer: io::Cursor<Vec<u8>>,
        step: usize,
        sent: Vec<u8>,
    }

    impl Read for Canned {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let step = self.step.min(buffer.len());
            self.answer.read(&mut buffer[..step])
        }
    }

    impl Write for Canned {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.sent.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn http(answer: &str, step: usize) -> Http<Canned> {
        let answer = io::Cursor::new(answer.as_bytes().to_vec());
        Http::new(Canned { answer, step, sent: Vec::new() })
    }

    const GET: Request<'_> = Request { method: "GET", path: "/x", headers: &[] };

    #[test]
    fn bodies_of_every_kind_in_any_pieces() {
        for step in [1, 2, 3, 7, 1000] {
            let mut http = http(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
                 HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n\
                 HTTP/1.1 404 Not Found\r\n\r\nhello",
                step,
            );
            for (status, reusable) in [(200, true), (200, true), (404, false)] {
                let head = http.send("h", &GET, Payload::None).unwrap();
                assert_eq!(head.status, status);
                assert_eq!(http.read_all(100).unwrap(), b"hello");
                assert_eq!(http.reusable(), reusable, "{status}");
            }
        }
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error() {
        for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "HTTP/1.1 200 OK\r\n"] {
            let mut http = http(answer, 4);
            let body = http.send("h", &GET, Payload::None).and_then(|_| http.read_all(100));
            assert_eq!(body.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn an_upgrade_keeps_what_has_come_after_it() {
        let mut http = http("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nframe", 1000);
        assert_eq!(http.send("h", &GET, Payload::None).unwrap().status, 101);
        assert_eq!(http.into_inner().1, b"frame");
    }

    #[test]
    fn requests_as_they_are_sent() {
        let mut plain = http("HTTP/1.1 204 None\r\n\r\n", 9);
        let request = Request { method: "PUT", path: "/a", headers: &[("X-A", "b")] };
        plain.send("h:1", &request, Payload::Bytes(b"yes")).unwrap();
        let sent = String::from_utf8(plain.into_inner().0.sent).unwrap();
        assert_eq!(sent, "PUT /a HTTP/1.1\r\nHost: h:1\r\nX-A: b\r\nContent-Length: 3\r\n\r\nyes");
        let mut stream = http("HTTP/1.1 204 None\r\n\r\n", 9);
        stream.send("h", &GET, Payload::Stream(&mut &b"yes"[..], None)).unwrap();
        let sent = String::from_utf8(stream.into_inner().0.sent).unwrap();
        assert!(sent.ends_with("chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n"), "{sent}");
        let smuggled = Request { method: "GET", path: "/", headers: &[("a", "b\r\nc: d")] };
        assert!(http("", 1).send("h", &smuggled, Payload::None).is_err());
    }

    #[test]
    fn names_are_encoded() {
        let query = [("path", "/a b&c".to_owned())];
        assert_eq!(
            url(&["v1", "units", "a/b é"], &query),
            "/v1/units/a%2Fb%20%C3%A9?path=%2Fa%20b%26c"
        );
        assert_eq!(url(&["v1", ".."], &[]), "/v1/%2E%2E");
    }
}
