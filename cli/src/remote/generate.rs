//! `keel completions` and `keel man`.

use super::output::print;
use clap::Command;
use clap_complete::Shell;
use client::Error;
use std::path::Path;

/// Prints a shell completion script.
pub fn completions(mut command: Command, shell: Shell) -> Result<u8, Error> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "keel", &mut text);
    print(&text)?;
    Ok(0)
}

/// Writes manual pages: keel(1), and one for each command.
pub fn man(command: Command, dir: Option<&Path>) -> Result<u8, Error> {
    match dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)
                .and_then(|()| clap_mangen::generate_to(command, dir))
                .map_err(|error| Error::file(dir, &error))?;
        }
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(command).render(&mut text).map_err(Error::output)?;
            print(&text)?;
        }
    }
    Ok(0)
}
