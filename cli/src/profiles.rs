//! Checks the seccomp profiles of units in the same way as the host.

use container::CapSet;
use container::seccomp::{Document, Filter, Kernel, MAX_SIZE};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use units::{Diagnostic, Loaded, Severity};

/// The oldest supported kernel of a host; rules for newer kernels may apply or not.
const KERNEL: Kernel = Kernel(6, 12);

/// Errors and warnings about the profiles, at the keys that refer to them.
pub fn check(dir: &Path, loaded: &Loaded) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for reference in &loaded.profiles {
        let path = dir.join(reference.profile.trim_start_matches("./"));
        let mut report = |severity, text: &str| {
            let message = format!("seccomp profile `{}`: {text}", reference.profile);
            found.push(reference.diagnostic(severity, message));
        };
        // A unit with errors may have no valid capabilities; its profile is checked anyway.
        let unit = loaded.config.units.get(&reference.unit);
        let caps = unit.and_then(|unit| {
            CapSet::from_names(&unit.container.cap_add, &unit.container.cap_drop).ok()
        });
        match check_file(&path, caps.unwrap_or(CapSet::DEFAULT)) {
            Ok(warnings) => warnings.iter().for_each(|text| report(Severity::Warning, text)),
            Err(error) => report(Severity::Error, &error),
        }
    }
    found
}

fn check_file(path: &Path, caps: CapSet) -> Result<Vec<String>, String> {
    let document = Document::parse(&read(path)?).map_err(|error| error.to_string())?;
    let (profile, no_effect) = document.profile(caps, KERNEL);
    Filter::new(&profile).map_err(|error| error.to_string())?;
    Ok(document.warnings().iter().cloned().chain(no_effect).collect())
}

/// Reads the file, up to one byte more than the maximum size of a profile.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SIZE as u64 + 1).read_to_end(&mut text))
        .map_err(|error| error.to_string())?;
    match std::str::from_utf8(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(format!("not UTF-8 text: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use units::SourceFile;

    /// The diagnostics of a unit whose profile has this text.
    fn diagnostics(name: &str, text: Option<&[u8]>) -> Vec<String> {
        let dir = std::env::temp_dir().join(format!("keel-profiles-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        if let Some(text) = text {
            fs::write(dir.join("p.json"), text).unwrap();
        }
        let unit = "[container]\nimage = './w'\nseccomp = './p.json'\ncap_add = ['SYS_TIME']\n";
        let file = SourceFile { path: "units/web.toml".to_owned(), text: unit.to_owned() };
        let found = check(&dir, &units::load(None, vec![file]));
        fs::remove_dir_all(&dir).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_error_names_unit_file_rule_and_reason() {
        let at = "units/web.toml:3:11";
        let error = |reason: &str| [format!("{at}: error: seccomp profile `./p.json`: {reason}")];
        assert_eq!(diagnostics("none", None), error("No such file or directory (os error 2)"));
        assert_eq!(diagnostics("binary", Some(b"\"\xff\"")).len(), 1);
        let unknown = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"]}]}"#;
        let reason = "syscalls[0]: missing key `action`";
        assert_eq!(diagnostics("action", Some(unknown)), error(reason));
        let deny = br#"{"defaultAction":"SCMP_ACT_ERRNO"}"#;
        let reason = "forbids execve, which is needed to start the program";
        assert_eq!(diagnostics("deny", Some(deny)), error(reason));
        let large = vec![b' '; MAX_SIZE + 7];
        let reason = format!("larger than {MAX_SIZE} bytes");
        assert_eq!(diagnostics("large", Some(&large)), error(&reason));
    }

    #[test]
    fn a_profile_is_checked_with_the_capabilities_of_its_unit() {
        let text = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["execve"],"action":"SCMP_ACT_ERRNO","includes":{"caps":["CAP_SYS_TIME"]}}]}"#;
        assert_eq!(diagnostics("caps", Some(text)).len(), 1);
        let text = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["mkidr"],"action":"SCMP_ACT_ERRNO"}]}"#;
        let found = diagnostics("slip", Some(text));
        assert!(found[0].contains("warning") && found[0].contains("\"mkidr\""), "{found:?}");
        let text = br#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
        assert_eq!(diagnostics("good", Some(text)), [""; 0]);
    }
}
