//! The whole measurement.

use crate::competitors::Competitor;
use crate::engines::Engine;
use crate::report::Report;
use crate::{command, controllers, extras, rounds};
use engine_bench::line::{Line, Mode};
use engine_bench::{Failure, Naming, places};
use std::fs;
use std::path::Path;

/// Measures all competitors; `engines` lists which of podman and docker to include.
pub fn main(report: &str, engines: &[&str]) -> Result<(), Failure> {
    let mut report = Report::open(Path::new(report))?;
    let done = measure(engines, &mut report);
    match &done {
        Ok(()) => report.say(&Line::Done)?,
        Err(error) => report.say(&Line::Failed(error.to_string()))?,
    }
    done
}

fn measure(engines: &[&str], report: &mut Report) -> Result<(), Failure> {
    prepare()?;
    let mut competitors = vec![
        Competitor::floor(&[])?,
        Competitor::ours("engine", &[])?,
        Competitor::ours("engine-userns", &["userns"])?,
        Competitor::ours("engine-restart", &["restart", "userns"])?,
        Competitor::runtime("crun")?,
        Competitor::runtime("runc")?,
    ];
    for engine in engines {
        report.say(&Line::Progress(format!("setting up {engine}")))?;
        competitors.push(Competitor::engine(match *engine {
            "podman" => Engine::podman()?,
            _ => Engine::docker()?,
        }));
    }
    for program in ["crun", "runc"].iter().chain(engines) {
        let text = command::output(program, &["--version"])?;
        let text = text.lines().next().unwrap_or_default().to_owned();
        report.say(&Line::Version { who: (*program).to_owned(), text })?;
    }
    for text in competitors.iter().filter_map(Competitor::handicap) {
        report.say(&Line::Note(text))?;
    }
    for mode in [Mode::Hot, Mode::Gaps] {
        rounds::run(mode, &mut competitors, report)?;
    }
    extras::measure(&mut competitors, report)
}

/// Prepares the directories, the layer and the control groups.
fn prepare() -> Result<(), Failure> {
    for dir in [places::RUN, places::LAYER, places::STAGING] {
        fs::create_dir_all(dir).naming(dir)?;
    }
    let layer = Path::new(places::LAYER);
    if container::mount_layer(Path::new(places::LAYER_FILE), layer).is_err() {
        // The kernel has no EROFS, or cannot mount it from a file.
        nix::mount::mount(
            Some(places::LAYER_DIR),
            layer,
            None::<&str>,
            nix::mount::MsFlags::MS_BIND,
            None::<&str>,
        )
        .naming("the layer")?;
    }
    controllers::set_up()
}
