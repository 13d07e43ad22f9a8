//! Diagnostics: what is wrong with a text, and where.

use crate::render::{clean, position};
use std::fmt;
use std::ops::Range;

/// How much a diagnostic matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The unit is left out, or the value of `host.toml` is replaced by its default.
    Error,
    /// Allowed, but probably not what was meant.
    Warning,
    /// Information only.
    Note,
}

impl Severity {
    /// `error`, `warning` or `note`.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// Another place that belongs to a diagnostic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// The file, by the path under which it was given.
    pub file: String,
    /// Line, starting at 1.
    pub line: usize,
    /// Column in characters, starting at 1.
    pub column: usize,
    /// What is there.
    pub message: String,
}

/// One error, warning or note about one place in one file.
///
/// `Display` gives one line for a console or a log; [`Diagnostic::render`] shows the source too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error, warning or note.
    pub severity: Severity,
    /// The file, by the path under which it was given.
    pub file: String,
    /// Byte range in the file's text. Not meaningful when `line` is 0.
    pub span: Range<usize>,
    /// Line of the span's start, starting at 1; 0 when the diagnostic is about the whole file.
    pub line: usize,
    /// Column of the span's start in characters, starting at 1; 0 when it is about the whole file.
    pub column: usize,
    /// What is wrong, on one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that are involved.
    pub related: Vec<Related>,
}

impl Diagnostic {
    /// A diagnostic about the bytes `span` of `text`, which is the content of `file`. A span
    /// outside the text is moved to its end.
    pub fn new(
        severity: Severity,
        file: &str,
        text: &str,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> Self {
        let (line, column) = position(text, span.start);
        Diagnostic {
            severity,
            file: file.to_owned(),
            span,
            line,
            column,
            message: message.into(),
            hint: None,
            related: Vec::new(),
        }
    }

    /// A diagnostic about a whole file, or about a missing file.
    pub fn whole_file(severity: Severity, file: &str, message: impl Into<String>) -> Self {
        Diagnostic {
            severity,
            file: file.to_owned(),
            span: 0..0,
            line: 0,
            column: 0,
            message: message.into(),
            hint: None,
            related: Vec::new(),
        }
    }

    /// The same diagnostic with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", clean(&self.file))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: {}", self.severity.word(), clean(&self.message))?;
        if let Some(hint) = &self.hint {
            write!(f, " ({})", clean(hint))?;
        }
        Ok(())
    }
}

/// An error in one string value: what a parser such as [`crate::entry::parse_port`] reports about its
/// input, before the position of the value in a file is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// The byte range of the value that is wrong.
    pub at: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl ParseError {
    /// An error in the bytes `at` of a value.
    pub(crate) fn new(at: Range<usize>, message: impl Into<String>) -> Self {
        ParseError { at, message: message.into(), hint: None }
    }

    /// An error about the whole `value`.
    pub(crate) fn whole(value: &str, message: impl Into<String>) -> Self {
        ParseError::new(0..value.len(), message)
    }

    /// The same error with a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, for a value that begins `by` bytes later.
    pub(crate) fn shifted(mut self, by: usize) -> Self {
        self.at = self.at.start + by..self.at.end + by;
        self
    }
}

/// Text from a file as it is quoted in a message: in backquotes, cut when long.
pub(crate) fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("`{}…`", text.get(..end).unwrap_or_default()),
        None => format!("`{text}`"),
    }
}
