//! `keel trust` and `keel keygen`.

use super::machine::confirm;
use super::report::{exit_status, report};
use client::Error;
use client::client::other_key;
use client::fingerprint::Fingerprint;
use client::identity::Identity;
use client::paths;
use client::pins::{self, RunHost};
use client::target::{Pin, Target, select};
use client::tls;
use serde_json::json;
use std::path::Path;

/// `keel keygen`.
pub fn keygen(output: Option<&Path>, force: bool, json: bool) -> Result<u8, Error> {
    let path = match output {
        Some(path) => path.to_owned(),
        None => paths::identity()?,
    };
    // A dangling symbolic link counts as existing, too.
    if !force && path.symlink_metadata().is_ok() {
        return Err(Error::usage(format!(
            "{} exists; hosts that list this key would no longer admit you. Replace it with --force",
            path.display()
        )));
    }
    let key = Identity::make(&path)?.fingerprint()?;
    if json {
        println!("{}", json!({"file": path, "key": key.to_string()}));
        return Ok(0);
    }
    println!("{}", path.display());
    println!("{key}");
    println!();
    println!("Add this to host.toml of each host (role: reader, operator or admin):");
    println!();
    println!("[api.client.{}]", client_name());
    println!("key  = \"{key}\"");
    println!("role = \"admin\"");
    Ok(0)
}

/// The user's name, reduced to the characters that are allowed in the name of a client.
fn client_name() -> String {
    let user = std::env::var("USER").unwrap_or_default().to_ascii_lowercase();
    let kept: String =
        user.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(63).collect();
    let name = kept.trim_matches('-');
    if name.is_empty() { "me".to_owned() } else { name.to_owned() }
}

/// `keel trust`.
pub fn trust(host: &str, yes: bool, repin: bool, json: bool) -> Result<u8, Error> {
    let mut code = 0;
    for target in select(Some(host))? {
        if let Err(error) = trust_one(&target, yes, repin, json) {
            report(&error, None);
            code = code.max(exit_status(error.code()));
        }
    }
    Ok(code)
}

fn trust_one(target: &Target, yes: bool, repin: bool, json: bool) -> Result<(), Error> {
    let (_, shown) = tls::connect_unpinned(&target.address, None)?;
    let label = &target.label;
    let say = |what: &str| {
        if json {
            println!("{}", json!({"host": label, "key": shown.to_string(), "pinned": true}));
        } else {
            println!("{what}");
        }
    };
    match target.pin.key() {
        Some(pinned) if pinned == shown => {
            say(&format!("{label} has the pinned key: {shown}"));
            return Ok(());
        }
        // hosts.toml is only changed by the user.
        Some(_) if !repin || matches!(target.pin, Pin::Named(..)) => {
            return Err(other_key(target, shown));
        }
        _ => {}
    }
    if !yes {
        eprintln!("The fingerprint of {label} ({}) is", target.address);
        eprintln!("  {shown}");
        eprintln!(
            "The host prints its fingerprint on the console when it boots; both must be the same."
        );
        if !confirm("Pin it?")? {
            return Err(Error::local("aborted; no key was pinned"));
        }
    }
    let place = pin(target, shown)?;
    say(&format!("pinned {shown} for {} in {place}", target.address));
    Ok(())
}

fn pin(target: &Target, shown: Fingerprint) -> Result<String, Error> {
    if let Pin::Run(_, host) = &target.pin {
        RunHost { key: Some(shown.to_string()), ..(**host).clone() }.store()?;
        return Ok(paths::run_hosts().display().to_string());
    }
    Ok(pins::pin(&target.address, shown)?.display().to_string())
}
