//! Keelhost's parameters on the kernel command line: `keel.KEY=VALUE`.

/// Keelhost's parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// `keel.debug`: log everything, and keep kernel messages on the console.
    pub debug: bool,
    /// `keel.data=auto|memory|required`: overrides `storage.data` of host.toml.
    pub data: Option<String>,
    /// `keel.control=NAME`: serve the control protocol on the virtio port of this name. Adding
    /// such a port requires control of the machine anyway; without this parameter no port is used.
    pub control: Option<String>,
    /// `keel.client=NAME:ROLE:KEY`, repeatable: clients of the API for this boot in addition to
    /// those of host.toml. Not parsed here.
    pub clients: Vec<String>,
    /// `keel.fault=WHAT`: make something fail on purpose, for tests of the failure paths:
    /// `panic`, or the name of a boot phase.
    pub fault: Option<String>,
}

impl Cmdline {
    /// Reads `/proc/cmdline`; if that fails, no parameter is set.
    pub fn read() -> Cmdline {
        Cmdline::parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }

    /// Extracts Keelhost's parameters. If one is repeated, the last value counts, as for the
    /// kernel's own. Other parameters are ignored, including unknown `keel.` ones: an older host
    /// must boot with a newer boot loader entry.
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
