//! One command for several hosts at once, and one output of it.

use super::output::print;
use super::report::{exit_status, report};
use super::show;
use super::table::{Cell, Row, Tint, render};
use client::Client;
use client::Error;
use client::target::Target;
use serde_json::{Map, Value};

/// The hosts of a command, and how to show what they say.
pub struct Fleet {
    /// At least one.
    pub targets: Vec<Target>,
    /// As JSON.
    pub json: bool,
    /// In colours.
    pub color: bool,
}

/// What one host said.
pub struct Answer {
    /// For programs.
    pub json: Value,
    /// For people.
    pub body: Body,
    /// What did not work, beside what did.
    pub errors: Vec<Error>,
}

/// See [`Answer::body`].
pub enum Body {
    /// Of a table.
    Rows(Vec<Row>),
    /// Text.
    Lines(Vec<String>),
}

impl Answer {
    /// All well.
    pub fn new(json: Value, body: Body) -> Answer {
        Answer { json, body, errors: Vec::new() }
    }
}

impl Fleet {
    /// Whether the output says which host said what.
    pub fn several(&self) -> bool {
        self.targets.len() > 1
    }

    /// The host, for a command that makes no sense for several.
    pub fn only(&self, command: &str) -> Result<&Target, Error> {
        match self.targets.as_slice() {
            [target] => Ok(target),
            several => Err(Error::usage(format!(
                "`keel {command}` is for one host, not for {}",
                several.len()
            ))),
        }
    }

    /// One for each host, not connected yet.
    pub fn clients(&self) -> Vec<Client> {
        self.targets.iter().cloned().map(Client::new).collect()
    }

    /// Does something on every host; see [`each_of`].
    pub fn each<T: Send>(
        &self,
        work: impl Fn(&mut Client) -> Result<T, Error> + Sync,
    ) -> Vec<(String, Result<T, Error>)> {
        each_of(&mut self.clients(), work)
    }

    /// Shows the answers; gives the exit code: the largest.
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
                // With several hosts it is in the table, as far as it fits there.
                Err(error) if !self.several() || !error.details().is_empty() => report(error, host),
                Err(_) => {}
                Ok(answer) => answer.errors.iter().for_each(|error| report(error, host)),
            }
        }
        Ok(code)
    }

    /// One host's answer as it is; those of several by their names.
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

/// Does something with every client, all at the same time. The answers are in their order.
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
                let mistake = |_| Err(Error::local("a mistake in keel itself".to_owned()));
                (label, thread.join().unwrap_or_else(mistake))
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
