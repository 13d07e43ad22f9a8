//! The competitors that are measured, and how each of them makes one start.

use crate::bundle::Bundle;
use crate::command::{Run, run};
use crate::engines::Engine;
use engine_bench::turn::{Reply, START};
use engine_bench::{Failure, Naming, places};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A runtime, an engine or the floor program.
pub struct Competitor {
    /// Its name in the report.
    pub who: &'static str,
    how: How,
}

enum How {
    Starter(Starter),
    Bundle(Bundle),
    Engine(Engine),
}

/// A process that makes starts, the child of a reaper.
struct Starter {
    reaper: Child,
}

impl Competitor {
    /// Our engine, in its own process; `words` select the variant.
    pub fn ours(who: &'static str, words: &[&str]) -> Result<Competitor, Failure> {
        let program = format!("{}/bench_guest", places::PROGRAMS);
        let words = [&[program.as_str(), "engine"], words].concat();
        Ok(Competitor { who, how: How::Starter(Starter::begin(&words)?) })
    }

    /// The floor program.
    pub fn floor(words: &[&str]) -> Result<Competitor, Failure> {
        let program = format!("{}/bench_floor", places::PROGRAMS);
        let words = [&[program.as_str()], words].concat();
        Ok(Competitor { who: "floor", how: How::Starter(Starter::begin(&words)?) })
    }

    /// A runtime that takes a bundle.
    pub fn runtime(program: &'static str) -> Result<Competitor, Failure> {
        let bundle = Bundle::make(program, &[places::PAYLOAD])?;
        Ok(Competitor { who: program, how: How::Bundle(bundle) })
    }

    /// A container engine that takes images.
    pub fn engine(engine: Engine) -> Competitor {
        Competitor { who: engine.program(), how: How::Engine(engine) }
    }

    /// podman or docker.
    pub fn as_engine(&self) -> Option<&Engine> {
        match &self.how {
            How::Engine(engine) => Some(engine),
            _ => None,
        }
    }

    /// Moves its processes to this control group, a child of the containers' parent group; later
    /// commands run there too.
    pub fn work_in(&mut self, group: &Path) -> Result<(), Failure> {
        let pids = match &mut self.how {
            How::Starter(starter) => starter.pids(),
            How::Bundle(bundle) => {
                bundle.group = Some(group.to_owned());
                Vec::new()
            }
            How::Engine(engine) => {
                engine.group = Some(group.to_owned());
                engine.daemons()
            }
        };
        let file = group.join("cgroup.procs");
        for pid in pids {
            fs::write(&file, pid.to_string()).naming(file.display())?;
        }
        Ok(())
    }

    /// What it does not do on this machine, which is in its favour.
    pub fn handicap(&self) -> Option<String> {
        match &self.how {
            How::Bundle(bundle) => bundle.handicap(),
            _ => None,
        }
    }

    /// Whether it is so slow that fewer starts are made.
    pub fn is_slow(&self) -> bool {
        matches!(self.how, How::Engine(_))
    }

    /// Creates a container, waits until it exits, and cleans up.
    pub fn start(&mut self) -> Result<Run, Failure> {
        match &mut self.how {
            How::Starter(starter) => starter.start(),
            How::Bundle(bundle) => bundle.start(),
            How::Engine(engine) => {
                let done = run(&mut engine.command(&[]), engine.group.as_deref())?;
                // Outside the measured time, which is in the engine's favour: what continues after
                // its command has ended.
                engine.settle()?;
                Ok(done)
            }
        }
        .naming(self.who)
    }
}

impl Starter {
    /// The reaper and the starter, its only child between two starts.
    fn pids(&self) -> Vec<u32> {
        let reaper = self.reaper.id();
        let path = format!("/proc/{reaper}/task/{reaper}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(reaper).chain(children).collect()
    }

    fn begin(words: &[&str]) -> Result<Starter, Failure> {
        let program = format!("{}/bench_guest", places::PROGRAMS);
        let reaper = Command::new(&program)
            .arg("reaper")
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .naming(program)?;
        Ok(Starter { reaper })
    }

    fn start(&mut self) -> Result<Run, Failure> {
        let (Some(to), Some(from)) = (&mut self.reaper.stdin, &mut self.reaper.stdout) else {
            return Err(Failure("the starter has no pipes".to_owned()));
        };
        let mut bytes = [0; 16];
        to.write_all(&[START]).and_then(|()| from.read_exact(&mut bytes)).naming("the starter")?;
        let Reply { ns, max_rss_kib } = Reply::decode(bytes);
        Ok(Run { ns, max_rss_kib })
    }
}

impl Drop for Starter {
    /// End of file on its input ends the starter, and the reaper ends with the starter.
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        let _ = self.reaper.wait();
    }
}
