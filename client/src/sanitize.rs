//! Makes untrusted text from hosts safe to print on a terminal.

/// Replaces control characters and characters that change the text direction, so that a host's text cannot
/// control the terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// The same for a line of a log, where tabs and colour sequences are kept.
pub fn clean_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        if let Some(length) = color_sequence(rest) {
            let (sequence, after) = rest.split_at(length);
            out.push_str(sequence);
            rest = after;
            continue;
        }
        out.push(if c != '\t' && is_unsafe(c) { '\u{fffd}' } else { c });
        rest = after;
    }
    // A line must not change the colour of the following ones.
    if out.contains('\x1b') {
        out.push_str("\x1b[0m");
    }
    out
}

/// Length of the colour sequence (such as `ESC [ 1 ; 31 m`) at the beginning of the text, if there is one.
fn color_sequence(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("\x1b[")?;
    let end = inner.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
    inner.get(end..)?.starts_with('m').then_some(2 + end + 1)
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_control_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\r\u{202e}"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}");
        assert_eq!(
            clean_line("\x1b[1;31mred\x1b[0m\t\x07"),
            "\x1b[1;31mred\x1b[0m\t\u{fffd}\x1b[0m"
        );
        assert_eq!(clean_line("\x1b[2Jx"), "\u{fffd}[2Jx");
    }
}
