//! Aligned tables.

use super::show::clean;
use std::fmt::Write as _;

/// Spaces between columns.
const GAP: usize = 3;

/// Maximum width of a column; longer cells overflow.
const MAX_WIDTH: usize = 48;

/// The colour of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tint {
    /// No colour.
    #[default]
    Plain,
    /// Normal operation.
    Good,
    /// A transition.
    Busy,
    /// A problem that may be temporary.
    Warn,
    /// A problem.
    Bad,
    /// Of little importance.
    Dim,
}

impl Tint {
    /// The escape sequence that begins it.
    pub fn start(self) -> &'static str {
        match self {
            Tint::Plain => "",
            Tint::Good => "\x1b[32m",
            Tint::Busy => "\x1b[36m",
            Tint::Warn => "\x1b[33m",
            Tint::Bad => "\x1b[31m",
            Tint::Dim => "\x1b[2m",
        }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tint: Tint,
}

impl Cell {
    /// A cell with a colour.
    pub fn tinted(text: impl AsRef<str>, tint: Tint) -> Cell {
        Cell { text: clean(text.as_ref()), tint }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::tinted(text, Tint::Plain)
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// One cell per column.
    Cells(Vec<Cell>),
    /// One cell, and a text that spans the other columns.
    Across(Cell, Cell),
}

/// The table as text; without rows, only the headings.
pub fn render(head: &[&str], rows: &[Row], color: bool) -> String {
    let mut widths: Vec<usize> = head.iter().map(|title| title.len()).collect();
    for row in rows {
        let cells = match row {
            Row::Cells(cells) => cells.as_slice(),
            Row::Across(first, _) => std::slice::from_ref(first),
        };
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.text.chars().count().min(MAX_WIDTH));
        }
    }
    let mut out = String::new();
    let titles: Vec<Cell> = head.iter().map(Cell::from).collect();
    line(&mut out, &titles, &widths, color);
    for row in rows {
        match row {
            Row::Cells(cells) => line(&mut out, cells, &widths, color),
            Row::Across(first, text) => {
                line(&mut out, &[first.clone(), text.clone()], &widths, color);
            }
        }
    }
    out
}

fn line(out: &mut String, cells: &[Cell], widths: &[usize], color: bool) {
    for (at, cell) in cells.iter().enumerate() {
        let text = if cell.text.is_empty() { "-" } else { &cell.text };
        let paint = color && cell.tint != Tint::Plain;
        // Writing to a String cannot fail.
        let _ = match paint {
            true => write!(out, "{}{text}\x1b[0m", cell.tint.start()),
            false => write!(out, "{text}"),
        };
        if at + 1 < cells.len() {
            let width = widths.get(at).copied().unwrap_or(0);
            let pad = width.saturating_sub(text.chars().count()) + GAP;
            out.push_str(&" ".repeat(pad));
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_trailing_spaces() {
        let rows = [
            Row::Cells(vec!["web".into(), Cell::tinted("running", Tint::Good), "".into()]),
            Row::Across("edge-long-name".into(), "error: away".into()),
        ];
        let text = render(&["NAME", "STATE", "PORTS"], &rows, false);
        assert_eq!(
            text,
            "NAME             STATE     PORTS\n\
             web              running   -\n\
             edge-long-name   error: away\n"
        );
        assert!(render(&["A", "B"], &rows, true).contains("\x1b[32mrunning\x1b[0m   -"));
    }
}
