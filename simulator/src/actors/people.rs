//! People at the control socket: they start, stop and restart units and shut the host down, at times
//! that the seed determines. They remember the answers.

use crate::machine::Machine;
use crate::machine::agenda::Event;
use ipc::Answer;
use ipc::ShutdownKind;
use ipc::control::{Numbered, Request};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What people want and have been told.
#[derive(Debug, Default)]
pub struct People {
    /// What they will ask for, and when.
    pub plan: VecDeque<(u64, Request)>,
    /// The request that has been sent.
    pub(crate) asked: Option<(u64, u64, Request)>,
    pub(crate) last: u64,
    /// Units that were stopped by hand and that nobody has asked to start since.
    pub stopped: BTreeSet<String>,
    /// Units that were started by hand, and not stopped since.
    pub started: BTreeSet<String>,
    /// When somebody last asked about a unit: requests that may take effect at any time since.
    pub touched: BTreeMap<String, u64>,
    /// Somebody has asked for a shutdown.
    pub shutdown_requested: bool,
    /// What each unit requires, directly.
    pub requires: BTreeMap<String, Vec<String>>,
    /// What each unit requires or wants, directly.
    pub pulls: BTreeMap<String, Vec<String>>,
}

impl People {
    /// A unit and everything that its start pulls up by this relation.
    fn closure(of: &BTreeMap<String, Vec<String>>, unit: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::from([unit.to_owned()]);
        let mut open = vec![unit.to_owned()];
        while let Some(next) = open.pop() {
            for other in of.get(&next).into_iter().flatten() {
                if found.insert(other.clone()) {
                    open.push(other.clone());
                }
            }
        }
        found
    }

    /// A request is on its way: from here on it may take effect.
    fn sent(&mut self, now_us: u64, request: &Request) {
        match request {
            Request::Start { name } | Request::Restart { name } => {
                for unit in Self::closure(&self.pulls, name) {
                    self.touched.insert(unit, now_us);
                }
                for unit in Self::closure(&self.requires, name) {
                    self.stopped.remove(&unit);
                }
            }
            Request::Stop { name } => {
                self.touched.insert(name.clone(), now_us);
                self.started.remove(name);
            }
            Request::Shutdown { .. } => self.shutdown_requested = true,
            _ => {}
        }
    }

    /// A request has been carried out, as the answer says.
    fn done(&mut self, request: &Request) {
        match request {
            Request::Stop { name } => drop(self.stopped.insert(name.clone())),
            Request::Start { name } | Request::Restart { name } => {
                self.started.insert(name.clone());
            }
            _ => {}
        }
    }
}

impl Machine {
    /// A person acts: asks what is due, or reads an answer.
    pub fn person_step(&mut self) {
        if let Some((connection, id, request)) = self.people.asked.clone() {
            let Some(state) = self.connections.get_mut(&connection) else { return };
            if let Some(at) = state.to_client.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = state.to_client.drain(..=at).collect();
                self.answered(id, &request, &line);
            } else if !state.server_closed {
                return;
            } else {
                self.note("person", || "no answer: the connection is closed".to_owned());
            }
            self.client_closes(connection);
            self.people.asked = None;
        }
        let Some((at, _)) = self.people.plan.front() else { return };
        if *at > self.now_us {
            let delay = at - self.now_us;
            return self.after(delay, Event::Person);
        }
        if self.calm {
            return self.people.plan.clear();
        }
        let Some(connection) = self.connect() else {
            // Nobody listens: again later.
            let delay = self.rng.latency(2_000, 200_000);
            return self.after(delay, Event::Person);
        };
        let Some((_, request)) = self.people.plan.pop_front() else { return };
        self.people.last += 1;
        let id = self.people.last;
        let numbered = Numbered { id, body: request.clone() };
        let Ok(mut line) = serde_json::to_vec(&numbered) else { return };
        line.push(b'\n');
        self.note("person", || format!("asks {request:?}"));
        let now = self.now_us;
        self.people.sent(now, &request);
        self.client_sends(connection, &line);
        self.people.asked = Some((connection, id, request));
    }

    fn answered(&mut self, id: u64, request: &Request, line: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Numbered<Answer>>(line) else {
            return self.violated(format!("answer {:?}", String::from_utf8_lossy(line)));
        };
        self.note("person", || format!("is answered {:?}", answer.body));
        if answer.id != id {
            self.violated(format!("the answer to request {id} has number {}", answer.id));
        }
        if matches!(answer.body, Answer::Ok(_)) {
            self.people.done(request);
        }
    }

    /// A shutdown that the schedule wants.
    pub fn plan_shutdown(&mut self, at_us: u64, kind: ShutdownKind) {
        self.people.plan.push_back((at_us, Request::Shutdown { kind }));
    }
}
