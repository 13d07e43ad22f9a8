//! The front page, as HTML.

/// The data that the page shows.
pub struct Page {
    /// Total number of visits (redis).
    pub visits: i64,
    /// Total number of ticks of the worker, over all its runs (redis).
    pub ticks: String,
    /// Number of starts of the worker (redis).
    pub lives: String,
    /// The newest entries of the guest book: time, name, text (PostgreSQL).
    pub entries: Vec<[String; 3]>,
}

const STYLE: &str = "\
:root{color-scheme:light dark}body{max-width:40rem;margin:3rem auto;padding:0 1rem;\
font:1.05rem/1.6 system-ui,sans-serif}h1{font-size:2.4rem;margin:0}\
table{border-collapse:collapse;width:100%;margin:1rem 0}\
td{padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884}td:first-child{white-space:nowrap;\
opacity:.7}input,button{font:inherit;padding:.3rem .6rem}.by{opacity:.7;font-size:.9rem}";

impl Page {
    /// Renders the document.
    pub fn html(&self) -> String {
        let Self { visits, ticks, lives, entries } = self;
        let rows: String = entries
            .iter()
            .map(|[time, name, words]| {
                let [time, name, words] = [time, name, words].map(|text| escape(text));
                format!("<tr><td>{time}<td><b>{name}</b><td>{words}</tr>\n")
            })
            .collect();
        format!(
            "<!doctype html>\n<html lang=en><meta charset=utf-8><title>the stack</title>\n\
             <style>{STYLE}</style>\n<h1>Visit number {visits}</h1>\n\
             <p class=by>nginx asked app, app asked redis and PostgreSQL.</p>\n\
             <p>The worker has ticked {} times in {} runs. It crashes on purpose now and then.</p>\n\
             <form method=post action=/sign><input name=name placeholder=name maxlength=40 required>\n\
             <input name=words placeholder=\"a few words\" maxlength=200 required>\n\
             <button>sign</button></form>\n<table>\n{rows}</table>\n</html>\n",
            escape(ticks),
            escape(lives),
        )
    }
}

/// Escapes text for HTML content and attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_that_visitors_write_is_markup(text in ".*") {
            let safe = escape(&text);
            prop_assert!(!safe.contains(['<', '>', '"', '\'']));
        }
    }
}
