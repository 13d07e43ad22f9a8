//! Renders diagnostics for people: position, source line, caret and help.
//!
//! The source is untrusted: control characters and bidirectional formatting characters are replaced,
//! so that a unit file cannot control the terminal of the user who checks it.

use crate::diagnostic::{Diagnostic, Severity};
use std::fmt::Write as _;
use std::ops::Range;

/// Columns between tab stops.
const TAB: usize = 4;
/// Longest part of a source line that is shown, in columns.
const WINDOW: usize = 140;
/// Columns kept before the caret when a line is longer than that.
const BEFORE: usize = 40;

impl Diagnostic {
    /// The diagnostic with its source line, as several lines that end with a newline.
    ///
    /// `source` is the text of [`Diagnostic::file`]. If it does not have the line, as an empty text, only
    /// the position is shown. `color` adds ANSI escape sequences.
    pub fn render(&self, source: &str, color: bool) -> String {
        let style = Style { color };
        let mut out = String::new();
        let (name, tint) = match self.severity {
            Severity::Error => ("error", "\x1b[1;31m"),
            Severity::Warning => ("warning", "\x1b[1;33m"),
            Severity::Note => ("note", "\x1b[1;32m"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{}{}",
            style.paint(tint, name),
            style.paint("\x1b[1m", &format!(": {}", clean(&self.message)))
        );
        let line = if self.line == 0 { None } else { source.split('\n').nth(self.line - 1) };
        let gutter = self.line.to_string().len();
        let blue = "\x1b[1;34m";
        let arrow = style.paint(blue, &format!("{:gutter$}-->", ""));
        let bar = style.paint(blue, &format!("{:gutter$} |", ""));
        let _ = write!(out, "{arrow} {}", clean(&self.file));
        if self.line > 0 {
            let _ = write!(out, ":{}:{}", self.line, self.column);
        }
        out.push('\n');
        if let Some(line) = line {
            let start = line_start(source, self.line);
            let span = self.span.start.saturating_sub(start)..self.span.end.saturating_sub(start);
            let shown = show_line(line.strip_suffix('\r').unwrap_or(line), span);
            let number = style.paint(blue, &format!("{:>gutter$} |", self.line));
            let carets = style.paint(tint, &"^".repeat(shown.width));
            let _ = writeln!(out, "{bar}");
            let _ = writeln!(out, "{}", format!("{number} {}", shown.text).trim_end());
            let _ = writeln!(out, "{bar} {:1$}{carets}", "", shown.column);
        }
        if line.is_some() && (!self.related.is_empty() || self.hint.is_some()) {
            let _ = writeln!(out, "{bar}");
        }
        let equals = style.paint(blue, &format!("{:gutter$} =", ""));
        for related in &self.related {
            let _ = writeln!(
                out,
                "{equals} {}:{}:{}: {}",
                clean(&related.file),
                related.line,
                related.column,
                clean(&related.message)
            );
        }
        if let Some(hint) = &self.hint {
            let help = style.paint("\x1b[1m", "help:");
            let _ = writeln!(out, "{equals} {help} {}", clean(hint));
        }
        out
    }
}

/// Whether to use colour.
struct Style {
    color: bool,
}

impl Style {
    fn paint(&self, tint: &str, text: &str) -> String {
        if self.color { format!("{tint}{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A line as it is shown, with the start and the length of its carets in columns.
struct ShownLine {
    text: String,
    column: usize,
    width: usize,
}

/// Lays out one line (without its end) for a terminal; `span` is in bytes of the line.
fn show_line(line: &str, span: Range<usize>) -> ShownLine {
    let mut cells: Vec<(char, usize, usize)> = Vec::new();
    let (mut column, mut from, mut to) = (0, None, None);
    for (at, c) in line.char_indices() {
        if from.is_none() && at + c.len_utf8() > span.start {
            from = Some(column);
        }
        if to.is_none() && at >= span.end {
            to = Some(column);
        }
        let (shown, width) = match c {
            '\t' => (' ', TAB - column % TAB),
            c => (safe(c), char_width(c)),
        };
        cells.push((shown, column, width));
        column += width;
    }
    let from = from.unwrap_or(column);
    // At least one caret, even for an empty span, a zero-width character or the end of the line.
    let to = to.unwrap_or(column).max(from + 1);

    let cut = if column <= WINDOW { 0 } else { from.saturating_sub(BEFORE) };
    let mut text = String::new();
    if cut > 0 {
        text.push('…');
    }
    let lead = usize::from(cut > 0);
    let mut skipped = None;
    for (shown, at, width) in cells {
        if at < cut {
            continue;
        }
        // A wide character or tab may cross the cut, so the offset is that of the first character kept.
        let skipped = *skipped.get_or_insert(at);
        if at - skipped >= WINDOW {
            text.push('…');
            break;
        }
        match (shown, width) {
            (' ', width) => text.extend(std::iter::repeat_n(' ', width)),
            (shown, _) => text.push(shown),
        }
    }
    let skipped = skipped.unwrap_or(0);
    let shown_to = to.min(skipped + WINDOW + 1).max(from + 1);
    ShownLine { text, column: (from - skipped.min(from)) + lead, width: shown_to - from }
}

/// Byte offset of the start of line `line` (starting at 1).
fn line_start(text: &str, line: usize) -> usize {
    text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum()
}

/// Line and column (in characters) of a byte offset, both starting at 1. An offset inside a character
/// counts as its start, an offset beyond the end as the end.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = text.get(..offset).unwrap_or_default();
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The text with every character replaced that could control a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(safe).collect()
}

/// `c`, or a replacement character if it could move the cursor or change the text direction.
fn safe(c: char) -> char {
    match c {
        c if c.is_control() => '\u{fffd}',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        '\u{2028}' | '\u{2029}' => '\u{fffd}',
        c => c,
    }
}

/// Columns of a character in a terminal, from the wide blocks of Unicode's EastAsianWidth.txt and the
/// combining blocks of UnicodeData.txt. Approximate (whole blocks), but sufficient for a caret.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f
        | 0x0483..=0x0489
        | 0x0591..=0x05bd
        | 0x064b..=0x065f
        | 0x1ab0..=0x1aff
        | 0x1dc0..=0x1dff
        | 0x200b..=0x200d
        | 0x2060..=0x2064
        | 0x20d0..=0x20ff
        | 0xfe00..=0xfe0f
        | 0xfe20..=0xfe2f
        | 0xfeff
        | 0xe0100..=0xe01ef => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xa960..=0xa97f
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}
