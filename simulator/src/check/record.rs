//! A state file, as an outsider reads it.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The part of a unit's record that the rules are about.
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    wanted: Value,
    phase: Value,
    /// Starts that were ordered.
    pub generation: u64,
    /// Failed attempts.
    pub failures: u64,
    /// The last end.
    pub last_exit: Option<Exit>,
    /// How often runs and attempts have ended, by reason.
    #[serde(default)]
    pub exits: BTreeMap<String, u64>,
}

/// The end of a run or an attempt.
#[derive(Debug, Clone, Deserialize)]
pub struct Exit {
    /// In one word.
    pub cause: String,
    /// A number or a text.
    #[serde(default)]
    pub detail: Value,
    /// Somebody had asked for it.
    pub asked: bool,
}

impl Record {
    /// Reads a state file.
    ///
    /// # Errors
    /// The text is not one.
    pub fn parse(text: &str) -> Result<Record, serde_json::Error> {
        #[derive(Deserialize)]
        struct File {
            record: Record,
        }
        Ok(serde_json::from_str::<File>(text)?.record)
    }

    /// Where the unit is: `waiting`, `backoff`, `rest/done`, `run/up` …
    pub fn phase(&self) -> String {
        let (name, inner) = variant(&self.phase);
        match name {
            "rest" => format!("rest/{}", variant(inner).0),
            "run" => format!("run/{}", variant(inner.get("stage").unwrap_or(&Value::Null)).0),
            other => other.to_owned(),
        }
    }

    /// The main process that the record names.
    pub fn pid(&self) -> Option<i64> {
        let stage = variant(&self.phase).1.get("stage")?;
        variant(stage).1.get("pid")?.as_i64()
    }

    /// When the run became ready.
    pub fn is_ready(&self) -> bool {
        variant(&self.phase).1.get("ready_at").is_some_and(|at| !at.is_null())
    }

    /// Whether somebody wants the unit up.
    pub fn wanted_up(&self) -> bool {
        self.wanted.get("desired").and_then(Value::as_str) == Some("up")
    }

    /// Whether the unit is down because a person said so.
    pub fn stopped_by_hand(&self) -> bool {
        !self.wanted_up() && self.wanted.get("by").and_then(Value::as_str) == Some("person")
    }

    /// Runs whose end has been counted. Attempts that did not get as far as a run have reasons of
    /// their own.
    pub fn ends(&self) -> u64 {
        let attempts = self.exits.get("wait_timeout").copied().unwrap_or(0);
        self.exits.values().sum::<u64>() - attempts
    }

    /// Runs whose end must have been counted: all but the one that has not ended yet.
    pub fn ends_due(&self) -> u64 {
        let open = [
            "run/launching",
            "run/setup",
            "run/up",
            "run/terminating",
            "run/killing",
            "run/unreported",
        ];
        self.generation - u64::from(open.contains(&self.phase().as_str()))
    }

    /// Ends that count as failures.
    pub fn failures_due(&self) -> u64 {
        let of = |reason: &str| self.exits.get(reason).copied().unwrap_or(0);
        self.exits.values().sum::<u64>() - of("success") - of("asked") - of("interrupted")
    }
}

/// A value of an enum: its variant's name, and what is in it.
fn variant(value: &Value) -> (&str, &Value) {
    match value {
        Value::String(name) => (name, &Value::Null),
        Value::Object(map) => match map.iter().next() {
            Some((name, inner)) => (name, inner),
            None => ("", &Value::Null),
        },
        _ => ("", &Value::Null),
    }
}
