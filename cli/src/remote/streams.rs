//! `keel logs` and `keel events`.

use super::args::LogsArgs;
use super::fleet::Fleet;
use super::report::{exit_status, report};
use super::show;
use super::table::Tint;
use api_types::{Event, Gap, Host, LogLine};
use client::Error;
use client::client::{Client, from_json};
use client::http::url;
use client::since::Since;
use client::sse::SseEvent;
use serde_json::Value;
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a lost connection is retried, once per second: long enough for a reboot.
const ATTEMPTS: u32 = 60;

/// Prints the lines of a stream.
struct Printer<'a> {
    fleet: &'a Fleet,
    /// Printed before each line if there are several hosts.
    prefix: String,
    label: String,
    timestamps: bool,
    terminal: bool,
    /// The boot of the previous line.
    boot: Cell<u64>,
}

impl Printer<'_> {
    fn new<'a>(fleet: &'a Fleet, client: &Client, timestamps: bool) -> Printer<'a> {
        let label = client.target().label.clone();
        let width = fleet.targets.iter().map(|target| target.label.len()).max().unwrap_or(0);
        let prefix = if fleet.several() {
            format!("{:width$} | ", show::clean(&label))
        } else {
            String::new()
        };
        let terminal = std::io::stdout().is_terminal();
        Printer { fleet, prefix, label, timestamps, terminal, boot: Cell::new(0) }
    }

    /// Prints one JSON object; with several hosts it contains the host's name.
    fn json(&self, mut value: Value) -> Result<(), Error> {
        if let (true, Value::Object(fields)) = (self.fleet.several(), &mut value) {
            fields.insert("host".to_owned(), Value::String(self.label.clone()));
        }
        self.line(&value.to_string())
    }

    fn line(&self, text: &str) -> Result<(), Error> {
        writeln!(std::io::stdout().lock(), "{text}").map_err(Error::output)
    }

    fn log(&self, value: Value) -> Result<(), Error> {
        if self.fleet.json {
            return self.json(value);
        }
        let line: LogLine = from_json(value)?;
        if line.boot < self.boot.replace(line.boot) {
            self.line(&format!("{}-- reboot --", self.prefix))?;
        }
        let time = if self.timestamps { show::time(line.time_us) + " " } else { String::new() };
        let text = if self.terminal { show::clean_line(&line.text) } else { line.text };
        // Messages of the host itself are distinguished from the program's lines.
        let (mark, end) = match line.stream == api_types::Stream::System {
            true if self.fleet.color => (Tint::Dim.start(), "\x1b[0m"),
            _ => ("", ""),
        };
        self.line(&format!("{}{time}{mark}{text}{end}", self.prefix))
    }

    fn event(&self, value: Value) -> Result<(), Error> {
        if self.fleet.json {
            return self.json(value);
        }
        let event: Event = from_json(value)?;
        let unit = show::clean(event.unit.as_deref().unwrap_or("-"));
        let (kind, text) = (show::clean(event.kind.name()), show::clean(&event.text));
        let time = show::time(event.time_us);
        self.line(&format!("{}{time}  {unit:<16} {kind:<14} {text}", self.prefix))
    }

    /// Reports that lines or events are missing here.
    fn gap(&self, data: &str, what: &str) {
        let missed = serde_json::from_str::<Gap>(data).map(|gap| gap.missed).unwrap_or(0);
        eprintln!("keel: {}{missed} {what} are no longer available", self.prefix);
    }
}

/// `keel logs`.
pub fn logs(fleet: &Fleet, args: &LogsArgs) -> Result<u8, Error> {
    for_each_host(fleet, |client| {
        let printer = Printer::new(fleet, client, args.timestamps);
        let mut query = Vec::new();
        let tail = match (&args.tail, &args.since) {
            (Some(tail), _) => tail.clone(),
            (None, Some(_)) => "all".to_owned(),
            (None, None) => "100".to_owned(),
        };
        query.push(("tail", tail));
        query.extend(args.since.as_ref().map(|since| match since {
            Since::At(text) => ("since_time", text.replace(' ', "T")),
            // Relative to the host's clock, which may differ from this machine's.
            Since::Ago(seconds) => ("ago", seconds.to_string()),
        }));
        query.extend(args.stream.map(|stream| ("stream", stream.name().to_owned())));
        let segments = ["v1", "units", &args.unit, "logs"];
        if !args.follow {
            let Value::Array(lines) = client.get(&url(&segments, &query))? else {
                return Err(Error::garbled("the lines are not a list"));
            };
            return lines.into_iter().try_for_each(|line| printer.log(line));
        }
        let mut follow = Follow::default();
        follow.run(
            client,
            |last| {
                let mut query = query.clone();
                query.push(("follow", "true".to_owned()));
                if let Some(last) = last {
                    // After a lost connection: all lines since then.
                    query.retain(|(name, _)| !matches!(*name, "tail" | "since_time" | "ago"));
                    query.extend([("tail", "all".to_owned()), ("since", last.to_string())]);
                }
                url(&segments, &query)
            },
            |event| match event.kind.as_str() {
                "gap" => {
                    printer.gap(&event.data, "lines");
                    Ok(())
                }
                "" | "line" | "message" => printer.log(parse(&event.data)?),
                // Unknown events of a newer host.
                _ => Ok(()),
            },
        )
    })
}

/// `keel events`.
pub fn events(fleet: &Fleet, follow: bool, after: Option<u64>) -> Result<u8, Error> {
    for_each_host(fleet, |client| {
        let printer = Printer::new(fleet, client, true);
        if !follow {
            let query = [("follow", "false".to_owned()), ("after", after.unwrap_or(0).to_string())];
            let Value::Array(events) = client.get(&url(&["v1", "events"], &query))? else {
                return Err(Error::garbled("the events are not a list"));
            };
            return events.into_iter().try_for_each(|event| printer.event(event));
        }
        let mut state = Follow::default();
        // Read first, so that no event is missed if the connection is lost before the first one.
        let after = match after {
            Some(after) => after,
            None => newest(client)?,
        };
        state.run(
            client,
            |last| url(&["v1", "events"], &[("after", last.unwrap_or(after).to_string())]),
            |event| match event.kind.as_str() {
                "gap" => {
                    printer.gap(&event.data, "events");
                    Ok(())
                }
                _ => printer.event(parse(&event.data)?),
            },
        )
    })
}

/// The sequence number of the latest event.
fn newest(client: &mut Client) -> Result<u64, Error> {
    let events: Vec<Event> =
        client.get_as(&url(&["v1", "events"], &[("follow", "false".to_owned())]))?;
    Ok(events.last().map_or(0, |event| event.seq))
}

fn parse(data: &str) -> Result<Value, Error> {
    serde_json::from_str(data).map_err(Error::garbled)
}

/// Runs `work` for every host. An error is reported immediately, and the other hosts continue.
fn for_each_host(
    fleet: &Fleet,
    work: impl Fn(&mut Client) -> Result<(), Error> + Sync,
) -> Result<u8, Error> {
    let results = fleet.each(|client| {
        work(client).inspect_err(|error| {
            report(error, fleet.several().then_some(client.target().label.as_str()));
        })
    });
    let code = |(_, result): &(String, Result<(), Error>)| match result {
        Ok(()) => 0,
        Err(error) => exit_status(error.code()),
    };
    Ok(results.iter().map(code).max().unwrap_or(0))
}

/// A stream that is resumed after a lost connection, for example when the host restarts its API process or
/// reboots.
#[derive(Default)]
struct Follow {
    /// Sequence number of the last line or event; the next connection continues after it.
    last: Option<u64>,
    /// The host's uptime at the last connection; after a reboot the sequence numbers start again.
    uptime: Option<Uptime>,
}

/// A host's uptime, and when it was measured by our clock.
///
/// A host has rebooted if its uptime is less than the earlier uptime plus the time since. Comparing the two
/// uptimes is not enough: a host that is first asked 3 s after its boot, reboots an hour later and is asked
/// again 4 s after that boot has a greater uptime than before.
#[derive(Debug, Clone, Copy)]
struct Uptime {
    uptime: Duration,
    at: Instant,
}

impl Uptime {
    /// Tolerance for delayed answers; a reboot within this time after the boot is not noticed.
    const SLACK: Duration = Duration::from_secs(5);

    /// Tolerance for clock drift: 1/1000 of the time. Uncorrected quartz clocks are ten times better.
    const DRIFT: u32 = 1000;

    /// Asks the host. Returns its uptime and whether it has rebooted since `before`.
    fn ask(client: &mut Client, before: Option<Uptime>) -> Result<(Uptime, bool), Error> {
        let begun = Instant::now();
        let uptime = Duration::from_millis(client.get_as::<Host>("/v1/host")?.uptime_ms);
        // Measured from the end of one request to the beginning of the next, which is never more than the
        // time that has passed on the host: a slow answer does not look like a reboot.
        let rebooted = before.is_some_and(|before| before.rebooted(uptime, begun));
        Ok((Uptime { uptime, at: Instant::now() }, rebooted))
    }

    /// Whether a host with this `uptime` at `now` has rebooted since.
    fn rebooted(self, uptime: Duration, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at);
        let slack = Uptime::SLACK + passed / Uptime::DRIFT;
        uptime < self.uptime || uptime < (self.uptime + passed).saturating_sub(slack)
    }
}

impl Follow {
    fn run(
        &mut self,
        client: &mut Client,
        path: impl Fn(Option<u64>) -> String,
        mut show: impl FnMut(&SseEvent) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.uptime = Some(Uptime::ask(client, None)?.0);
        let mut lost = 0;
        loop {
            let end = self.follow(client, &path(self.last), &mut show, &mut lost);
            let retry = match &end {
                // The host has ended the stream.
                Ok(()) => true,
                Err(error) => error.is_transient(),
            };
            if !retry {
                return end;
            }
            if lost == 0 {
                eprintln!("keel: {}: connection lost, reconnecting", client.target().label);
            }
            lost += 1;
            if lost > ATTEMPTS {
                let why = "the host closes every stream at once";
                return end.and(Err(Error::unreachable(&client.target().address, &why)));
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn follow(
        &mut self,
        client: &mut Client,
        path: &str,
        show: &mut impl FnMut(&SseEvent) -> Result<(), Error>,
        lost: &mut u32,
    ) -> Result<(), Error> {
        let again = *lost > 0;
        if again {
            let (uptime, has_rebooted) = Uptime::ask(client, self.uptime)?;
            self.uptime = Some(uptime);
            if has_rebooted {
                self.last = Some(0);
                // The path refers to the previous boot.
                return Err(rebooted(client));
            }
        }
        let mut stream = client.stream(path)?;
        while let Some(event) = stream.next_event()? {
            *lost = 0;
            if let Ok(seq) = event.id.parse() {
                self.last = Some(seq);
            }
            show(&event)?;
        }
        Ok(())
    }
}

fn rebooted(client: &Client) -> Error {
    Error::unreachable(&client.target().address, &"the host has rebooted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reboot_is_noticed_even_if_the_uptime_has_increased() {
        let at = Instant::now();
        let second = Duration::from_secs;
        let rebooted = |then, passed, now| {
            Uptime { uptime: second(then), at }.rebooted(second(now), at + second(passed))
        };
        // Asked at 3 s, rebooted an hour later, asked again at 4 s.
        assert!(rebooted(3, 3600, 4));
        assert!(rebooted(500, 1, 4));
        assert!(rebooted(0, 60, 40));
        // The same boot, with a delayed answer and a slow or fast clock.
        for now in [3598, 3603, 3700] {
            assert!(!rebooted(3, 3600, now), "{now}");
        }
        let month = 30 * 86_400;
        assert!(!rebooted(3, month, month - 120));
        assert!(rebooted(3, month, month - 3600));
    }
}
