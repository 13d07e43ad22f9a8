//! One value of a file with its span, and how it is read as the expected type.

use crate::diagnostic::{ParseError, Severity, quoted};
use crate::reader::{Reader, Source};
use crate::schema::Table;
use crate::suggest::closest;
use crate::{foreign, scalar};
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// A value and its span.
#[derive(Clone)]
pub(crate) struct Value<'a> {
    source: &'a Source<'a>,
    /// The key, for messages.
    key: &'a str,
    /// Span of the key.
    pub(crate) key_span: Range<usize>,
    value: &'a DeValue<'a>,
    pub(crate) span: Range<usize>,
}

/// A string value and its span.
#[derive(Clone)]
pub(crate) struct Text<'a> {
    source: &'a Source<'a>,
    pub(crate) value: &'a str,
    pub(crate) span: Range<usize>,
}

impl<'a> Text<'a> {
    /// Span of some bytes of the value: exact if the value is written without escapes, else the whole
    /// string.
    fn part(&self, at: &Range<usize>) -> Range<usize> {
        let inner = self.span.start + 1..self.span.end.saturating_sub(1);
        let exact = self.source.text.get(inner.clone()) == Some(self.value);
        let whole = at.start == 0 && at.end >= self.value.len();
        if !exact || whole || at.end > self.value.len() {
            return self.span.clone();
        }
        inner.start + at.start..inner.start + at.end
    }

    fn report(&self, error: ParseError) {
        let at = self.part(&error.at);
        self.source.report(Severity::Error, &at, error.message, error.hint);
    }

    /// The value as `parse` reads it; an error becomes a diagnostic.
    pub(crate) fn read<T>(&self, parse: impl FnOnce(&str) -> Result<T, ParseError>) -> Option<T> {
        parse(self.value).map_err(|error| self.report(error)).ok()
    }

    /// The value as it is, if `check` accepts it.
    pub(crate) fn checked(
        &self,
        check: impl FnOnce(&str) -> Result<(), ParseError>,
    ) -> Option<String> {
        self.read(check).map(|()| self.value.to_owned())
    }
}

impl<'a> Value<'a> {
    /// The key of the value.
    pub(crate) fn key(&self) -> &'a str {
        self.key
    }

    /// Reports that the value has the wrong type.
    pub(crate) fn expected(&self, what: &str, hint: &str) {
        let found = type_name(self.value);
        let message = format!("`{}`: expected {what}, found {found}", self.key);
        self.source.error(&self.span, message, hint);
    }

    /// The value as written in the file, if it is short and on one line.
    fn raw(&self) -> Option<&'a str> {
        self.source.text.get(self.span.clone()).filter(|t| t.len() <= 40 && !t.contains('\n'))
    }

    pub(crate) fn is_string(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    pub(crate) fn is_integer(&self) -> bool {
        matches!(self.value, DeValue::Integer(_))
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub(crate) fn is_array(&self) -> bool {
        matches!(self.value, DeValue::Array(_))
    }

    /// The value as a string; `what` names what is expected.
    pub(crate) fn text(&self, what: &str) -> Option<Text<'a>> {
        let DeValue::String(value) = self.value else {
            match self.raw().filter(|_| self.is_integer()) {
                Some(raw) => self.expected(what, &format!("put it in quotes: `\"{raw}\"`")),
                None => self.expected(what, ""),
            }
            return None;
        };
        // Strings become C strings, which end at the first NUL.
        if value.contains('\0') {
            self.source.error(&self.span, format!("`{}` contains a NUL character", self.key), "");
            return None;
        }
        Some(Text { source: self.source, value, span: self.span.clone() })
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            DeValue::String(text) => {
                let is_true =
                    ["true", "yes", "on", "1"].iter().any(|w| text.eq_ignore_ascii_case(w));
                let hint = format!("write `{} = {is_true}`", self.key);
                self.expected("a boolean", &hint);
                None
            }
            _ => {
                self.expected("a boolean", "use `true` or `false`");
                None
            }
        }
    }

    /// The value as an integer; one that does not fit in 128 bits saturates, out of any range.
    pub(crate) fn integer(&self, what: &str) -> Option<i128> {
        match self.value {
            DeValue::Integer(value) => {
                Some(i128::from_str_radix(value.as_str(), value.radix()).unwrap_or(i128::MAX))
            }
            DeValue::String(text) if text.parse::<u64>().is_ok() => {
                self.expected(what, &format!("remove the quotes: `{} = {text}`", self.key));
                None
            }
            _ => {
                self.expected(what, "");
                None
            }
        }
    }

    /// The value as an integer between bounds.
    pub(crate) fn integer_in(&self, min: u64, max: u64) -> Option<u64> {
        let value = self.integer("an integer")?;
        let in_range = u64::try_from(value).ok().filter(|value| (min..=max).contains(value));
        if in_range.is_none() {
            let message = format!("`{}` is out of range", self.key);
            self.source.error(&self.span, message, &format!("the range is {min} to {max}"));
        }
        in_range
    }

    /// The value as a number in thousandths. Negative numbers become 0, which is out of any range.
    pub(crate) fn thousandths(&self) -> Option<u64> {
        let text = match self.value {
            DeValue::Integer(_) => self.integer("a number")?.to_string(),
            DeValue::Float(value) => value.as_str().to_owned(),
            DeValue::String(text) if scalar::parse_thousandths(text).is_some() => {
                let hint = format!("remove the quotes: `{} = {text}`", self.key);
                self.expected("a number", &hint);
                return None;
            }
            _ => {
                self.expected("a number", "");
                return None;
            }
        };
        let value = match text.strip_prefix('-') {
            Some(positive) => scalar::parse_thousandths(positive).map(|_| 0),
            None => scalar::parse_thousandths(text.strip_prefix('+').unwrap_or(&text)),
        };
        if value.is_none() {
            let message = format!("`{}` is not a plain number", self.key);
            self.source.error(&self.span, message, "write it like `2` or `0.5`");
        }
        value
    }

    /// The value as a duration.
    pub(crate) fn duration(&self) -> Option<Duration> {
        const WHAT: &str = "a duration such as \"90s\"";
        if let (true, Some(raw)) = (self.is_integer(), self.raw()) {
            let hint = if raw == "0" {
                format!("write `{} = \"0\"`", self.key)
            } else {
                format!("write `{} = \"{raw}s\"` for seconds", self.key)
            };
            self.expected(WHAT, &hint);
            return None;
        }
        self.text(WHAT)?.read(scalar::parse_duration)
    }

    /// The value as a duration of at least `min`.
    pub(crate) fn duration_from(&self, min: Duration) -> Option<Duration> {
        let value = self.duration()?;
        if value < min {
            let message = format!("`{}` is too short", self.key);
            let hint = format!("the minimum is `{}`", scalar::format_duration(min));
            self.source.error(&self.span, message, &hint);
            return None;
        }
        Some(value)
    }

    /// The value as a duration or as `"never"` (`"0"`), which is `None`.
    pub(crate) fn timeout(&self) -> Option<Option<Duration>> {
        if let DeValue::String(text) = self.value {
            match text.as_ref() {
                "never" | "0" => return Some(None),
                "infinity" | "infinite" | "none" | "forever" | "inf" => {
                    let message = format!("invalid duration {}", quoted(text));
                    self.source.error(&self.span, message, "write `never` for no limit");
                    return None;
                }
                _ => {}
            }
        }
        self.duration().map(|value| Some(value).filter(|value| !value.is_zero()))
    }

    /// The value as a size of at least `min` bytes.
    pub(crate) fn size_from(&self, min: u64) -> Option<u64> {
        let bytes = if self.is_integer() {
            let value = self.integer("a size")?;
            if value < 0 {
                self.source.error(&self.span, format!("`{}` is negative", self.key), "");
                return None;
            }
            // A value beyond 64 bits fails the check below.
            u64::try_from(value).unwrap_or(u64::MAX)
        } else {
            self.text("a size such as \"256M\"")?.read(scalar::parse_size)?
        };
        if bytes > i64::MAX.unsigned_abs() {
            self.source.error(&self.span, format!("`{}` is too large", self.key), "");
            return None;
        }
        if bytes < min {
            let plural = if bytes == 1 { "" } else { "s" };
            let message = format!("`{}` is too small: {bytes} byte{plural}", self.key);
            let hint = match self.raw().filter(|_| self.is_integer() && bytes > 0) {
                Some(raw) => format!("did you mean `\"{raw}M\"`?"),
                None => format!("the minimum is `{}`", scalar::format_size(min)),
            };
            self.source.error(&self.span, message, &hint);
            return None;
        }
        Some(bytes)
    }

    /// The value as one of the given words.
    pub(crate) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let known = || words.iter().map(|(word, _)| *word);
        let list = known().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        if !self.is_string() {
            self.expected(&format!("one of {list}"), "");
            return None;
        }
        let text = self.text("a word")?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let translated = foreign::value(text.value)
            .filter(|replacement| known().any(|word| word == *replacement));
        let hint = match translated.or_else(|| closest(text.value, known())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected one of {list}"),
        };
        let message = format!("invalid value {} for `{}`", quoted(text.value), self.key);
        self.source.error(&self.span, message, &hint);
        None
    }

    /// The elements of an array.
    fn elements(&self, what: &str, hint: &str) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(array) = self.value else {
            self.expected(what, hint);
            return None;
        };
        Some(array.iter().map(|element| self.element(element)).collect())
    }

    fn element(&self, element: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        Value {
            source: self.source,
            key: self.key,
            key_span: self.key_span.clone(),
            value: element.get_ref(),
            span: element.span(),
        }
    }

    /// The value as a list of strings. Elements of another type are reported and left out.
    pub(crate) fn texts(&self) -> Option<Vec<Text<'a>>> {
        let hint = match self.value {
            DeValue::String(text) => {
                format!("put it in brackets: `{} = [\"{}\"]`", self.key, text.escape_debug())
            }
            _ => String::new(),
        };
        let elements = self.elements("a list of strings", &hint)?;
        Some(elements.iter().filter_map(|element| element.text("a string")).collect())
    }

    /// The value as a string or a list of strings.
    pub(crate) fn one_or_more(&self) -> Option<Vec<Text<'a>>> {
        if self.is_array() {
            return self.texts();
        }
        self.text("a string or a list of strings").map(|text| vec![text])
    }

    /// The value as the words of a command line. `None` if any element is invalid: a command with a missing
    /// word must not run.
    pub(crate) fn command_line(&self) -> Option<Vec<String>> {
        let hint = match self.value {
            DeValue::String(text) if !text.contains(['"', '\'', '\\']) => {
                let words: Vec<String> =
                    text.split_whitespace().map(|word| format!("\"{word}\"")).collect();
                format!("write one string per word: `{} = [{}]`", self.key, words.join(", "))
            }
            DeValue::String(_) => "write one string per word; no shell is used".to_owned(),
            _ => String::new(),
        };
        let elements = self.elements("a list of strings", &hint)?;
        let texts: Vec<Option<String>> = elements
            .iter()
            .map(|element| element.text("a string").map(|text| text.value.to_owned()))
            .collect();
        texts.into_iter().collect()
    }

    /// The value as a table.
    pub(crate) fn table(&self, what: &str, hint: &str) -> Option<&'a DeTable<'a>> {
        match self.value {
            DeValue::Table(table) => Some(table),
            _ => {
                self.expected(what, hint);
                None
            }
        }
    }

    /// The value as a table with a schema.
    pub(crate) fn reader(
        &self,
        schema: &'static Table,
        all: &[&'static Table],
    ) -> Option<Reader<'a>> {
        let table = self.table("a table", "")?;
        Some(Reader::new(self.source, table, schema, all, self.key_span.clone()))
    }

    /// The table's entries in the order of the file.
    pub(crate) fn entries(&self, table: &'a DeTable<'a>) -> Vec<Value<'a>> {
        entries(self.source, table)
    }
}

/// The value of a key, if it is present.
pub(crate) fn find<'a>(
    source: &'a Source<'a>,
    table: &'a DeTable<'a>,
    key: &str,
) -> Option<Value<'a>> {
    table.get_key_value(key).map(|(key, value)| entry(source, key, value))
}

/// All values of a table, in the order of the file.
pub(crate) fn entries<'a>(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Vec<Value<'a>> {
    let mut entries: Vec<Value<'a>> =
        table.iter().map(|(key, value)| entry(source, key, value)).collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    entries
}

fn entry<'a>(
    source: &'a Source<'a>,
    key: &'a Spanned<DeString<'a>>,
    value: &'a Spanned<DeValue<'a>>,
) -> Value<'a> {
    Value {
        source,
        key: key.get_ref(),
        key_span: key.span(),
        value: value.get_ref(),
        span: value.span(),
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date-time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
