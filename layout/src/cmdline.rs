//! The kernel command line, as far as it speaks to Keelhost: `keel.KEY=VALUE`.

/// What the command line says to us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// `keel.debug`: log everything, keep the kernel's messages on the console.
    pub debug: bool,
    /// `keel.data=auto|memory|required`: overrides `storage.data` of host.toml.
    pub data: Option<String>,
    /// `keel.control=NAME`: serve the control protocol on the virtio port of this name. Whoever can
    /// add such a port owns the machine anyway; without the word the host does not look for one.
    pub control: Option<String>,
    /// `keel.client=NAME:ROLE:KEY`, once or more: clients of the API for this boot, beside those of
    /// host.toml, as [`crate::api::Client::from_word`] reads them.
    pub clients: Vec<String>,
    /// `keel.fault=WHAT`: make something fail on purpose, for tests of the failure paths:
    /// `panic`, or the name of a boot phase.
    pub fault: Option<String>,
}

impl Cmdline {
    /// Reads `/proc/cmdline`; an unreadable one is an empty one.
    pub fn read() -> Cmdline {
        Cmdline::parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }

    /// Picks our words out of a command line. Of a word given twice the last one counts, as in the
    /// kernel. Words of others are passed over; so are unknown `keel.` words (an older host must boot
    /// with a newer boot loader entry).
    pub fn parse(text: &str) -> Cmdline {
        let mut found = Cmdline::default();
        for word in text.split_ascii_whitespace() {
            let Some(word) = word.strip_prefix("keel.") else { continue };
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "debug" => found.debug = !matches!(value, "0" | "no" | "false"),
                "data" => found.data = Some(value.to_owned()),
                "control" => found.control = Some(value.to_owned()),
                "client" => found.clients.push(value.to_owned()),
                "fault" => found.fault = Some(value.to_owned()),
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn our_words_are_found_among_others() {
        let line = Cmdline::parse(
            "console=ttyS0 quiet keel.debug keel.data=memory keel.data=required keel.new=1\n",
        );
        assert_eq!(
            line,
            Cmdline { debug: true, data: Some("required".into()), ..Cmdline::default() }
        );
    }

    proptest! {
        #[test]
        fn any_command_line_is_read(text in "\\PC*") {
            Cmdline::parse(&text);
        }
    }
}
