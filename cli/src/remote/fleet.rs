//! Runs a command on several hosts at once and prints one result.

use super::output::print;
use super::report::{exit_status, report};
use super::show;
use super::table::{Cell, Row, Tint, render};
use client::Client;
use client::Error;
use client::target::Target;
use serde_json::{Map, Value};

/// The hosts of a command, and how to print the answers.
pub struct Fleet {
    /// At least one host.
    pub targets: Vec<Target>,
    /// Print JSON.
    pub json: bool,
    /// Use colours.
    pub color: bool,
}

/// The answer of one host.
pub struct Answer {
    /// The answer for `--json`.
    pub json: Value,
    /// The answer as text.
    pub body: Body,
    /// Errors of parts of the request.
    pub errors: Vec<Error>,
}

/// The text of an answer.
pub enum Body {
    /// Rows of a table.
    Rows(Vec<Row>),
    /// Lines.
    Lines(Vec<String>),
}

impl Answer {
    /// An answer without errors.
    pub fn new(json: Value, body: Body) -> Answer {
        Answer { json, body, errors: Vec::new() }
    }
}

impl Fleet {
    /// Whether there are several hosts, so that the output names them.
    pub fn several(&self) -> bool {
        self.targets.len() > 1
    }

    /// The host, for commands that accept only one.
    pub fn only(&self, command: &str) -> Result<&Target, Error> {
        match self.targets.as_slice() {
            [target] => Ok(target),
            several => Err(Error::usage(format!(
                "`keel {command}` accepts one host, not {}",
                several.len()
            ))),
        }
    }

    /// A client for each host, not connected yet.
    pub fn clients(&self) -> Vec<Client> {
        self.targets.iter().cloned().map(Client::new).collect()
    }

    /// Runs `work` for every host; see [`each_of`].
    pub fn each<T: Send>(
        &self,
        work: impl Fn(&mut Client) -> Result<T, Error> + Sync,
    ) -> Vec<(String, Result<T, Error>)> {
        each_of(&mut self.clients(), work)
    }

    /// Prints the answers and returns the exit code, the largest of all hosts.
    pub fn show(
        &self,
        head: &[&str],
        answers: Vec<(String, Result<Answer, Error>)>,
    ) -> Result<u8, Error> {
        let code = answers.iter().map(|(_, answer)| answer_code(answer)).max().unwrap_or(0);
        let text = if self.json {
            format!("{:#}\n", self.to_json(&answers))
        } else {
            self.to_text(head, &answers)
        };
        print(text.as_bytes())?;
        for (label, answer) in &answers {
            let host = self.several().then_some(label.as_str());
            match answer {
                // With several hosts the message is in the table, but not its details.
                Err(error) if !self.several() || !error.details().is_empty() => report(error, host),
                Err(_) => {}
                Ok(answer) => answer.errors.iter().for_each(|error| report(error, host)),
            }
        }
        Ok(code)
    }

    /// The answer of one host as it is; those of several hosts by host name.
    fn to_json(&self, answers: &[(String, Result<Answer, Error>)]) -> Value {
        let value = |answer: &Result<Answer, Error>| match answer {
            Ok(answer) => answer.json.clone(),
            Err(error) => error.to_json(),
        };
        match answers {
            [(_, answer)] => value(answer),
            several => {
                let named = several.iter().map(|(label, answer)| (label.clone(), value(answer)));
                Value::Object(named.collect::<Map<_, _>>())
            }
        }
    }

    fn to_text(&self, head: &[&str], answers: &[(String, Result<Answer, Error>)]) -> String {
        let mut rows = Vec::new();
        let mut text = String::new();
        for (label, answer) in answers {
            match answer {
                Ok(Answer { body: Body::Rows(found), .. }) => {
                    rows.extend(found.iter().map(|row| self.with_host(label, row)));
                }
                Ok(Answer { body: Body::Lines(lines), .. }) => {
                    for line in lines {
                        if self.several() {
                            text.push_str(&format!("{}  ", show::clean(label)));
                        }
                        text.push_str(line);
                        text.push('\n');
                    }
                }
                Err(_) if !self.several() => {}
                Err(error) => {
                    let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                    let cell = Cell::tinted(format!("error: {first}"), Tint::Bad);
                    if head.is_empty() {
                        text.push_str(&format!("{label}  error: {}\n", show::clean(&first)));
                    } else {
                        rows.push(Row::Across(Cell::from(label), cell));
                    }
                }
            }
        }
        let failed = answers.iter().all(|(_, answer)| answer.is_err()) && !self.several();
        if !head.is_empty() && !failed {
            let mut titles = if self.several() { vec!["HOST"] } else { Vec::new() };
            titles.extend(head);
            text.push_str(&render(&titles, &rows, self.color));
        }
        text
    }

    fn with_host(&self, label: &str, row: &Row) -> Row {
        match row {
            Row::Cells(cells) if self.several() => {
                Row::Cells([Cell::from(label)].into_iter().chain(cells.iter().cloned()).collect())
            }
            row => row.clone(),
        }
    }
}

/// Runs `work` for every client in parallel. The results are in the order of the clients.
pub fn each_of<T: Send>(
    clients: &mut [Client],
    work: impl Fn(&mut Client) -> Result<T, Error> + Sync,
) -> Vec<(String, Result<T, Error>)> {
    let label = |client: &Client| client.target().label.clone();
    if let [client] = clients {
        return vec![(label(client), work(client))];
    }
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| (label(client), scope.spawn(move || work(client))))
            .collect();
        threads
            .into_iter()
            .map(|(label, thread)| {
                let bug = |_| Err(Error::local("internal error: a thread has panicked"));
                (label, thread.join().unwrap_or_else(bug))
            })
            .collect()
    })
}

fn answer_code(answer: &Result<Answer, Error>) -> u8 {
    match answer {
        Ok(answer) => {
            answer.errors.iter().map(|error| exit_status(error.code())).max().unwrap_or(0)
        }
        Err(error) => exit_status(error.code()),
    }
}
