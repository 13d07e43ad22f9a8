//! Reads a TOML table key by key. Every value comes with its span, and reading continues after every
//! error, so that one run reports all of them.

use crate::diagnostic::{Diagnostic, Severity, quoted};
use crate::foreign;
use crate::schema::Table;
use crate::suggest::closest;
use crate::value::{Value, entries, find};
use std::cell::RefCell;
use std::ops::Range;
use toml::de::DeTable;

/// One file: its text, and the diagnostics found so far.
pub(crate) struct Source<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
    found: RefCell<Vec<Diagnostic>>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Source { file, text, found: RefCell::new(Vec::new()) }
    }

    pub(crate) fn push(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    pub(crate) fn report(
        &self,
        severity: Severity,
        at: &Range<usize>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let mut found = Diagnostic::new(severity, self.file, self.text, at.clone(), message);
        found.hint = hint;
        self.push(found);
    }

    pub(crate) fn error(&self, at: &Range<usize>, message: impl Into<String>, hint: &str) {
        self.report(Severity::Error, at, message, Some(hint.to_owned()).filter(|h| !h.is_empty()));
    }

    pub(crate) fn warning(&self, at: &Range<usize>, message: impl Into<String>, hint: &str) {
        let hint = Some(hint.to_owned()).filter(|h| !h.is_empty());
        self.report(Severity::Warning, at, message, hint);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.borrow().iter().any(Diagnostic::is_error)
    }

    pub(crate) fn into_found(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }
}

/// A table with a schema.
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    schema: &'static Table,
    /// Span of the table's name; empty, at the start, for the file itself.
    pub(crate) span: Range<usize>,
}

impl<'a> Reader<'a> {
    /// Takes a table and reports every key that is not in `schema`. `all` are the tables of the same
    /// file, to find where the key belongs.
    pub(crate) fn new(
        source: &'a Source<'a>,
        table: &'a DeTable<'a>,
        schema: &'static Table,
        all: &[&'static Table],
        span: Range<usize>,
    ) -> Self {
        for entry in entries(source, table) {
            if !schema.has(entry.key()) {
                let message = match schema.path {
                    "" => format!("unknown key {}", quoted(entry.key())),
                    path => format!("unknown key {} in `[{path}]`", quoted(entry.key())),
                };
                let hint = unknown_key_hint(entry.key(), schema, all);
                source.error(&entry.key_span, message, &hint);
            }
        }
        Reader { source, table, schema, span }
    }

    /// The value of a key of the schema, if it is present.
    pub(crate) fn get(&self, key: &str) -> Option<Value<'a>> {
        debug_assert!(self.schema.has(key), "`{key}` is not in the schema");
        find(self.source, self.table, key)
    }
}

/// What to write instead of an unknown key: the table where it belongs, its replacement if it is a
/// foreign name, or the key that it probably misspells.
fn unknown_key_hint(key: &str, schema: &Table, all: &[&'static Table]) -> String {
    if let Some(table) = all.iter().find(|table| table.has(key)) {
        return match table.path {
            "" => format!("`{key}` belongs at the top of the file, before the first table"),
            path => format!("`{key}` belongs in `[{path}]`"),
        };
    }
    // An exact foreign name takes precedence over a similar key.
    if let Some(foreign) = foreign::find(key) {
        return foreign.hint();
    }
    if let Some(near) = closest(key, schema.keys.iter().map(|known| known.name)) {
        return format!("did you mean `{near}`?");
    }
    for table in all {
        if let Some(near) = closest(key, table.keys.iter().map(|known| known.name)) {
            return match table.path {
                "" => format!("did you mean `{near}`, at the top of the file?"),
                path => format!("did you mean `{near}` in `[{path}]`?"),
            };
        }
    }
    let known: Vec<String> = schema.keys.iter().map(|known| format!("`{}`", known.name)).collect();
    format!("known keys: {}", known.join(", "))
}
