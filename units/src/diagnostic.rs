//! What is wrong with a text, and where.

use crate::render::{clean, position};
use std::fmt;
use std::ops::Range;

/// How much a diagnostic matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A mistake: the unit is left out, or the value of `host.toml` is replaced by its default.
    Error,
    /// Allowed, but surely or probably not what was meant.
    Warning,
    /// Worth knowing.
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

/// Another place that a diagnostic speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// The file, as its path was given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is there.
    pub message: String,
}

/// One mistake, warning or note about one place of one file.
///
/// `Display` gives one line for a console or a log; [`Diagnostic::render`] shows the source too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// The file, as its path was given.
    pub file: String,
    /// Bytes of the file's text. Meaningless when `line` is 0.
    pub span: Range<usize>,
    /// Line of the span's start, from 1; 0 when the diagnostic is about the whole file.
    pub line: usize,
    /// Column of the span's start in characters, from 1; 0 when it is about the whole file.
    pub column: usize,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that take part in it.
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

    /// A diagnostic about a file as a whole, or about a file that is not there.
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

    /// The same with a hint.
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

/// A mistake within one string value: what a scalar parser ([`crate::entry`], [`crate::scalar`])
/// says about its input, before it is known where in a file that stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Mistake {
    /// The bytes of the value that are wrong.
    pub at: Range<usize>,
    /// What is wrong with them.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Mistake {
    /// A mistake in the bytes `at` of a value.
    pub(crate) fn new(at: Range<usize>, message: impl Into<String>) -> Self {
        Mistake { at, message: message.into(), hint: None }
    }

    /// A mistake of the whole of `value`.
    pub(crate) fn whole(value: &str, message: impl Into<String>) -> Self {
        Mistake::new(0..value.len(), message)
    }

    /// The same with a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, for a value that begins `by` bytes further on.
    pub(crate) fn moved(mut self, by: usize) -> Self {
        self.at = self.at.start + by..self.at.end + by;
        self
    }
}

/// A piece of somebody's text as it is put into a message: in backquotes, cut when long.
pub(crate) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("`{}…`", text.get(..end).unwrap_or_default()),
        None => format!("`{text}`"),
    }
}
