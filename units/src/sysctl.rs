//! Kernel settings that a unit can set: only those of its own namespaces (CVE-2022-0811: a runtime
//! applied a setting that changed the host).

use crate::diagnostic::ParseError;

/// Settings of the IPC namespace below `kernel.` (sysctl(5), `Documentation/admin-guide/sysctl`).
const KERNEL: [&str; 8] =
    ["shm_rmid_forced", "shmall", "shmmax", "shmmni", "msgmax", "msgmnb", "msgmni", "sem"];

/// Longest value in bytes; the longest of these settings are a few numbers.
const MAX_LEN: usize = 256;

const HINT: &str =
    "the allowed names are `net.*`, `kernel.msg*`, `kernel.sem`, `kernel.shm*` and `fs.mqueue.*`";

/// Checks a name such as `net.core.somaxconn`. `net.*` requires a network namespace of the container
/// (`own_network`).
///
/// # Errors
/// A [`ParseError`] for an invalid name, or a setting that is not part of the container's namespaces.
pub fn check_sysctl(name: &str, own_network: bool) -> Result<(), ParseError> {
    let error = |message: String| ParseError::whole(name, message).hint(HINT);
    let plain = |part: &str| {
        let sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        !part.is_empty() && part.chars().all(sign)
    };
    if !name.split('.').all(plain) {
        return Err(error(format!("invalid sysctl name {}", crate::diagnostic::quoted(name))));
    }
    match name.split_once('.') {
        Some(("net", _)) if own_network => Ok(()),
        Some(("net", _)) => {
            Err(ParseError::whole(name, format!("sysctl `{name}` would change the host"))
                .hint("with `network = \"host\"` the container has no `net.*` settings of its own"))
        }
        Some(("kernel", rest)) if KERNEL.contains(&rest) => Ok(()),
        Some(("fs", rest)) if rest.starts_with("mqueue.") => Ok(()),
        _ => Err(error(format!("sysctl `{name}` would change the host"))),
    }
}

/// Checks a value: numbers and words on one line.
///
/// # Errors
/// A [`ParseError`] for a value that is empty, too long, or not on one line.
pub fn check_sysctl_value(value: &str) -> Result<(), ParseError> {
    if value.is_empty() || value.len() > MAX_LEN {
        return Err(ParseError::whole(
            value,
            format!("a sysctl value must have 1 to {MAX_LEN} bytes"),
        ));
    }
    match value.char_indices().find(|(_, c)| c.is_control() && *c != '\t') {
        Some((at, c)) => {
            Err(ParseError::new(at..at + c.len_utf8(), "a sysctl value must be on one line"))
        }
        None => Ok(()),
    }
}

/// The file of a setting below `/proc/sys` (proc_sys(5)).
pub fn sysctl_file(name: &str) -> String {
    name.replace('.', "/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cve_2022_0811_settings_of_the_host_are_rejected() {
        for name in [
            "kernel.core_pattern",
            "kernel.shm_rmid_forced+kernel.core_pattern",
            "kernel.shm_rmid_forced/../core_pattern",
            "vm.swappiness",
            "net",
            "net..core",
            "net.",
            "net.ipv4/../../kernel/core_pattern",
            "fs.file-max",
            "fs.mqueue",
            "",
            "user.max_user_namespaces",
        ] {
            assert!(check_sysctl(name, true).is_err(), "{name}");
        }
        for name in ["net.core.somaxconn", "net.ipv4.conf.eth0.rp_filter", "kernel.sem"] {
            assert!(check_sysctl(name, true).is_ok(), "{name}");
        }
        assert!(check_sysctl("net.core.somaxconn", false).is_err());
    }

    proptest! {
        #[test]
        fn accepted_names_stay_below_their_directory(name in "(net|kernel|fs)\\.[a-z0-9_./+-]{0,30}") {
            if check_sysctl(&name, true).is_ok() {
                let file = sysctl_file(&name);
                prop_assert!(!file.contains("..") && !file.contains("//"));
                let top = file.split('/').next().unwrap_or_default().to_owned();
                let kernel = KERNEL.iter().any(|rest| file == format!("kernel/{rest}"));
                prop_assert!(top == "net" || file.starts_with("fs/mqueue/") || kernel);
            }
        }
    }
}
