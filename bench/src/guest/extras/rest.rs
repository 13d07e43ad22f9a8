//! What a running container costs besides its own program.

use crate::competitors::Competitor;
use crate::engine;
use crate::engines::Engine;
use crate::processes::{self, Process};
use crate::report::Report;
use engine_bench::Failure;
use engine_bench::line::Line;
use std::collections::BTreeSet;
use std::time::Duration;

/// Long enough for the processes that started a container to exit or become idle.
const SETTLE: Duration = Duration::from_secs(2);

/// With each competitor, starts one container that waits forever, and reports the processes that were
/// not there before.
pub fn measure(competitors: &mut [Competitor], report: &mut Report) -> Result<(), Failure> {
    for engine in competitors.iter().filter_map(Competitor::as_engine) {
        daemons(engine, report)?;
    }
    let before = processes::all();
    let resting = engine::Resting::start()?;
    std::thread::sleep(SETTLE);
    say("engine", &before, report)?;
    resting.stop()?;
    for engine in competitors.iter().filter_map(Competitor::as_engine) {
        let before = processes::all();
        engine.start_resting()?;
        std::thread::sleep(SETTLE);
        say(engine.program(), &before, report)?;
        engine.stop_resting()?;
    }
    Ok(())
}

fn daemons(engine: &Engine, report: &mut Report) -> Result<(), Failure> {
    let pids = engine.daemons();
    if pids.is_empty() {
        return Ok(());
    }
    let pss_kib = pids.into_iter().map(processes::pss_kib).sum();
    report.say(&Line::Daemons { who: engine.program().to_owned(), pss_kib })
}

fn say(who: &str, before: &BTreeSet<Process>, report: &mut Report) -> Result<(), Failure> {
    let mut pss_kib = 0;
    let mut names = Vec::new();
    for process in processes::all().difference(before).filter(|process| process.name != "payload") {
        pss_kib += processes::pss_kib(process.pid);
        names.push(process.name.clone());
    }
    report.say(&Line::Rest { who: who.to_owned(), processes: names, pss_kib })
}
