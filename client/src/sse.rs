//! Parser of server-sent events, as the HTML standard defines them.

/// Longest line, and longest data of an event.
const MAX: usize = 4 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The most recent `id:` field of the stream; may be empty.
    pub id: String,
    /// The `event:` field; empty if there was none.
    pub kind: String,
    /// The `data:` fields, joined by line feeds.
    pub data: String,
}

/// A line or an event exceeds the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("event too long")]
pub struct TooLong;

/// An incremental parser.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The previous byte was a CR, so that an LF now belongs to the same line break.
    after_cr: bool,
    /// The first line has ended; only that one may begin with a byte order mark.
    begun: bool,
    id: String,
    kind: String,
    data: Option<String>,
}

impl Parser {
    /// Parses the next bytes and returns the events that they complete.
    ///
    /// # Errors
    /// A line or an event is too long. The parser cannot be used any more.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, TooLong> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\r' | b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_of_line(&line)?);
                }
                _ if self.line.len() >= MAX => return Err(TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self, line: &[u8]) -> Result<Option<SseEvent>, TooLong> {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if !self.begun => rest,
            _ => line,
        };
        self.begun = true;
        if line.is_empty() {
            let kind = std::mem::take(&mut self.kind);
            return Ok(self.data.take().map(|data| SseEvent { id: self.id.clone(), kind, data }));
        }
        let text = String::from_utf8_lossy(line);
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                let data = match self.data.take() {
                    Some(before) => before + "\n" + value,
                    None => value.to_owned(),
                };
                if data.len() > MAX {
                    return Err(TooLong);
                }
                self.data = Some(data);
            }
            "event" => self.kind = value.to_owned(),
            "id" if !value.contains('\0') => self.id = value.to_owned(),
            // A comment (an empty name) or an unknown field: ignored.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(text: &str) -> Vec<SseEvent> {
        Parser::default().push(text.as_bytes()).unwrap()
    }

    fn event(id: &str, kind: &str, data: &str) -> SseEvent {
        SseEvent { id: id.to_owned(), kind: kind.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn fields_are_parsed() {
        let text = ": keep-alive\n\nid: 7\nevent: line\ndata: {}\n\ndata:a\ndata: b\nretry: 5\n\n";
        assert_eq!(events(text), [event("7", "line", "{}"), event("7", "", "a\nb")]);
        assert_eq!(
            events("\u{feff}data\r\rdata: x\r\n\r\nid\ndata: y\n\ndata: lost"),
            [event("", "", ""), event("", "", "x"), event("", "", "y")]
        );
        assert_eq!(events("event: x\n\nid: 1\n\n"), []);
    }

    proptest! {
        #[test]
        fn chunk_boundaries_do_not_matter(
            lines in proptest::collection::vec(
                ("(id|event|data|retry|)(: ?)?[a-zé{}\"\u{feff}]{0,9}", "\n|\r|\r\n|\n\n|\r\n\r\n"), 0..20),
            cuts in proptest::collection::vec(1usize..7, 1..9),
        ) {
            let text: String = lines.iter().map(|(line, end)| format!("{line}{end}")).collect();
            let whole = events(&text);
            let (mut parser, mut found, mut rest) = (Parser::default(), Vec::new(), text.as_bytes());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                found.extend(parser.push(piece).unwrap());
                rest = after;
            }
            prop_assert_eq!(found, whole);
        }
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; MAX + 1]), Err(TooLong));
    }
}
