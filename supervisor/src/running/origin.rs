//! The key of the value that made a container's setup fail.

use container::{SetupError, Step};
use layout::images::ImageConfig;
use units::model::Unit;

/// Why a setup failed, with the key that caused it where both the unit and its image can have that
/// key: `exec: /srv: is a directory (the image's Entrypoint)`.
pub fn reason(error: &SetupError, unit: &Unit, image: &ImageConfig) -> String {
    let container = &unit.container;
    let either = |own: bool, inherited: bool, unit, image| match (own, inherited) {
        (true, _) => Some(unit),
        (false, true) => Some(image),
        (false, false) => None,
    };
    let key = match error.step {
        Step::Exec => program(unit, image),
        Step::ResolveUser => either(
            container.user.is_some(),
            !image.user.is_empty(),
            "the unit's user",
            "the image's User",
        ),
        Step::WorkingDir => either(
            container.working_dir.is_some(),
            !image.working_dir.is_empty(),
            "the unit's working_dir",
            "the image's WorkingDir",
        ),
        _ => None,
    };
    key.map_or_else(|| error.to_string(), |key| format!("{error} ({key})"))
}

/// What the program's name was taken from: see [`crate::running::plan::process`].
fn program(unit: &Unit, image: &ImageConfig) -> Option<&'static str> {
    let some = |words: &Option<Vec<String>>| words.as_ref().is_some_and(|words| !words.is_empty());
    let container = &unit.container;
    if some(&container.entrypoint) {
        Some("the unit's entrypoint")
    } else if container.entrypoint.is_none() && !image.entrypoint.is_empty() {
        Some("the image's Entrypoint")
    } else if some(&container.command) {
        Some("the unit's command")
    } else {
        Some("the image's Cmd")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    fn unit(container: &str) -> Unit {
        let text = format!("[container]\nimage = \"./images/x\"\n{container}\n");
        let file = units::SourceFile { path: "units/web.toml".into(), text };
        let loaded = units::load(None, vec![file]);
        loaded.config.units.get("web").cloned().unwrap()
    }

    fn said(step: Step, container: &str, image: &ImageConfig) -> String {
        let error = SetupError { step, errno: Errno::EACCES, detail: "x".into() };
        let text = reason(&error, &unit(container), image);
        text.rsplit_once(" (").map_or_else(String::new, |(_, key)| key.to_owned())
    }

    #[test]
    fn the_key_that_won_is_named() {
        let none = ImageConfig::default();
        let image = ImageConfig {
            entrypoint: vec!["a".into()],
            cmd: vec!["b".into()],
            user: "c".into(),
            working_dir: "/d".into(),
            ..ImageConfig::default()
        };
        let own = "entrypoint = [\"a\"]\ncommand = [\"b\"]\nuser = \"c\"\nworking_dir = \"/d\"";
        for (step, unit, inherited, neither) in [
            (Step::Exec, "the unit's entrypoint)", "the image's Entrypoint)", "the image's Cmd)"),
            (Step::ResolveUser, "the unit's user)", "the image's User)", ""),
            (Step::WorkingDir, "the unit's working_dir)", "the image's WorkingDir)", ""),
            (Step::Dev, "", "", ""),
        ] {
            assert_eq!(said(step, own, &image), unit);
            assert_eq!(said(step, "", &image), inherited);
            assert_eq!(said(step, "", &none), neither);
        }
        let command = "command = [\"b\"]";
        assert_eq!(said(Step::Exec, command, &image), "the image's Entrypoint)");
        assert_eq!(said(Step::Exec, command, &none), "the unit's command)");
        let without = "entrypoint = []\ncommand = [\"b\"]";
        assert_eq!(said(Step::Exec, without, &image), "the unit's command)");
    }
}
