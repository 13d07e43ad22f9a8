//! `logs` and `events`: what has happened, and what goes on.

use super::args::LogsArgs;
use super::client::{Client, typed};
use super::error::Error;
use super::fleet::Fleet;
use super::http::url;
use super::show;
use super::since::Since;
use super::sse::SseEvent;
use super::table::Tint;
use api_types::{Event, Gap, Host, LogLine};
use serde_json::Value;
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a lost connection is made again before it is an error: every second, the time a host takes
/// for a reboot.
const ATTEMPTS: u32 = 60;

/// How a line of a stream is printed.
struct Printer<'a> {
    fleet: &'a Fleet,
    /// Before each line, if there are several hosts.
    prefix: String,
    label: String,
    timestamps: bool,
    terminal: bool,
    /// The boot of the line before.
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

    /// As NDJSON; with several hosts each object says of which it is.
    fn json(&self, mut value: Value) -> Result<(), Error> {
        if let (true, Value::Object(fields)) = (self.fleet.several(), &mut value) {
            fields.insert("host".to_owned(), Value::String(self.label.clone()));
        }
        self.line(&value.to_string())
    }

    fn line(&self, text: &str) -> Result<(), Error> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(())
    }

    fn log(&self, value: Value) -> Result<(), Error> {
        if self.fleet.json {
            return self.json(value);
        }
        let line: LogLine = typed(value)?;
        if line.boot < self.boot.replace(line.boot) {
            self.line(&format!("{}-- reboot --", self.prefix))?;
        }
        let time = if self.timestamps { show::time(line.time_us) + " " } else { String::new() };
        let text = if self.terminal { show::clean_line(&line.text) } else { line.text };
        // What the host itself says among the program's lines is told apart.
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
        let event: Event = typed(value)?;
        let unit = show::clean(event.unit.as_deref().unwrap_or("-"));
        let (kind, text) = (show::clean(event.kind.name()), show::clean(&event.text));
        let time = show::time(event.time_us);
        self.line(&format!("{}{time}  {unit:<16} {kind:<14} {text}", self.prefix))
    }

    /// Something is missing here.
    fn gap(&self, data: &str, what: &str) {
        let missed = serde_json::from_str::<Gap>(data).map(|gap| gap.missed).unwrap_or(0);
        eprintln!("keel: {}{missed} {what} are no longer kept", self.prefix);
    }
}

/// `keel logs`.
pub fn logs(fleet: &Fleet, args: &LogsArgs) -> Result<u8, Error> {
    each_to_its_end(fleet, |client| {
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
            // By the host's clock, which need not be this one's.
            Since::Ago(seconds) => ("ago", seconds.to_string()),
        }));
        query.extend(args.stream.map(|stream| ("stream", stream.name().to_owned())));
        let segments = ["v1", "units", &args.unit, "logs"];
        if !args.follow {
            let Value::Array(lines) = client.get(&url(&segments, &query))? else {
                return Err(Error::garbled("the lines are no list"));
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
                    // After a lost connection: all that has come since.
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
                // What a newer host may say.
                _ => Ok(()),
            },
        )
    })
}

/// `keel events`.
pub fn events(fleet: &Fleet, follow: bool, after: Option<u64>) -> Result<u8, Error> {
    each_to_its_end(fleet, |client| {
        let printer = Printer::new(fleet, client, true);
        if !follow {
            let query = [("follow", "false".to_owned()), ("after", after.unwrap_or(0).to_string())];
            let Value::Array(events) = client.get(&url(&["v1", "events"], &query))? else {
                return Err(Error::garbled("the events are no list"));
            };
            return events.into_iter().try_for_each(|event| printer.event(event));
        }
        let mut state = Follow::default();
        // Known from the start, so that nothing is lost if the connection is before the first event.
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

/// Number of the last event so far.
fn newest(client: &mut Client) -> Result<u64, Error> {
    let events: Vec<Event> =
        client.read(&url(&["v1", "events"], &[("follow", "false".to_owned())]))?;
    Ok(events.last().map_or(0, |event| event.seq))
}

fn parse(data: &str) -> Result<Value, Error> {
    serde_json::from_str(data).map_err(|error| Error::garbled(error.to_string()))
}

/// Runs on every host; a host that fails says so on standard error, at once, and the others go on.
fn each_to_its_end(
    fleet: &Fleet,
    work: impl Fn(&mut Client) -> Result<(), Error> + Sync,
) -> Result<u8, Error> {
    let results = fleet.each(|client| {
        work(client).inspect_err(|error| {
            error.show(fleet.several().then_some(client.target().label.as_str()));
        })
    });
    let code = |(_, result): &(String, Result<(), Error>)| match result {
        Ok(()) => 0,
        Err(error) => error.exit_code(),
    };
    Ok(results.iter().map(code).max().unwrap_or(0))
}

/// A stream that goes on over lost connections: a host restarts its API process without anybody's
/// losing anything, and a reboot is nothing that whoever watches should have to notice by silence.
#[derive(Default)]
struct Follow {
    /// Number of the last line or event, which the next connection goes on after.
    last: Option<u64>,
    /// When the host was asked last; after a reboot numbers begin anew.
    asked: Option<Asked>,
}

/// How long a host had been up, and when by our own clock.
///
/// A host that is up for less than it was has rebooted, but so has one that is up for less than it was and
/// the time since: a host that is followed from its third second on, reboots an hour later and is reached
/// again in its fourth has never gone back.
#[derive(Debug, Clone, Copy)]
struct Asked {
    uptime: Duration,
    at: Instant,
}

impl Asked {
    /// What the answer may be late by; a boot that was this short is not noticed.
    const SLACK: Duration = Duration::from_secs(5);

    /// What two clocks may differ by: one part of this many. Quartz that nobody corrects is ten times better.
    const DRIFT: u32 = 1000;

    /// Asks now. Gives the answer and whether the host has rebooted since `before`.
    fn ask(client: &mut Client, before: Option<Asked>) -> Result<(Asked, bool), Error> {
        let begun = Instant::now();
        let uptime = Duration::from_millis(client.read::<Host>("/v1/host")?.uptime_ms);
        // From the end of one question to the beginning of the next: never more than has passed there, so
        // that a slow answer is no reboot.
        let rebooted = before.is_some_and(|before| before.rebooted(uptime, begun));
        Ok((Asked { uptime, at: Instant::now() }, rebooted))
    }

    /// Whether a host that is up for `uptime` at `now` has rebooted since.
    fn rebooted(self, uptime: Duration, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at);
        let slack = Asked::SLACK + passed / Asked::DRIFT;
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
        self.asked = Some(Asked::ask(client, None)?.0);
        let mut lost = 0;
        loop {
            let end = self.follow(client, &path(self.last), &mut show, &mut lost);
            let passes = match &end {
                // The host ended the stream, or the connection broke.
                Ok(()) | Err(Error::Unreachable { .. }) => true,
                Err(Error::Failed { code, .. }) => code == "unavailable",
                Err(_) => false,
            };
            if !passes {
                return end;
            }
            if lost == 0 {
                eprintln!("keel: {}: the connection is lost; trying again", client.target().label);
            }
            lost += 1;
            if lost > ATTEMPTS {
                return end.and(Err(Error::Unreachable {
                    at: client.target().address.to_string(),
                    why: "it ends every stream at once".to_owned(),
                }));
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
            let (asked, rebooted) = Asked::ask(client, self.asked)?;
            self.asked = Some(asked);
            if rebooted {
                self.last = Some(0);
                // The path was made for the boot before.
                return Err(unreachable_again(client));
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

fn unreachable_again(client: &Client) -> Error {
    let at = client.target().address.to_string();
    Error::Unreachable { at, why: "it has rebooted".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reboot_is_noticed_although_the_uptime_has_not_gone_back() {
        let at = Instant::now();
        let second = Duration::from_secs;
        let rebooted = |then, passed, now| {
            Asked { uptime: second(then), at }.rebooted(second(now), at + second(passed))
        };
        // Followed from 3 s on, rebooted an hour later, reached again at 4 s.
        assert!(rebooted(3, 3600, 4));
        assert!(rebooted(500, 1, 4));
        assert!(rebooted(0, 60, 40));
        // The same boot, its answer late, its clock slow or fast.
        for now in [3598, 3603, 3700] {
            assert!(!rebooted(3, 3600, now), "{now}");
        }
        let month = 30 * 86_400;
        assert!(!rebooted(3, month, month - 120));
        assert!(rebooted(3, month, month - 3600));
    }
}
