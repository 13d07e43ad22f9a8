//! Kernel settings that a unit may choose: those of its own namespaces, and no other
//! (CVE-2022-0811: a setting that a runtime passed on changed the host).

use crate::diagnostic::Mistake;

/// Settings of the IPC namespace below `kernel.` (sysctl(5), `Documentation/admin-guide/sysctl`).
const KERNEL: [&str; 8] =
    ["shm_rmid_forced", "shmall", "shmmax", "shmmni", "msgmax", "msgmnb", "msgmni", "sem"];

/// Most bytes of a value; the longest of these settings are a handful of numbers.
const LONGEST: usize = 256;

const HINT: &str = "those of the container's own namespaces are `net.*`, `kernel.msg*`, `kernel.sem`, `kernel.shm*` and `fs.mqueue.*`";

/// Checks a name such as `net.core.somaxconn`. Without a network of its own (`own_network`) a
/// container has no `net.*`.
///
/// # Errors
/// What is wrong with it.
pub fn check_sysctl(name: &str, own_network: bool) -> Result<(), Mistake> {
    let mistake = |message: String| Mistake::whole(name, message).hint(HINT);
    let plain = |part: &str| {
        let sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        !part.is_empty() && part.chars().all(sign)
    };
    if !name.split('.').all(plain) {
        return Err(mistake(format!(
            "{} is not the name of a setting",
            crate::diagnostic::quoted(name)
        )));
    }
    match name.split_once('.') {
        Some(("net", _)) if own_network => Ok(()),
        Some(("net", _)) => Err(Mistake::whole(name, format!("`{name}` is the host's"))
            .hint("with `network = \"host\"` the container has no network settings of its own")),
        Some(("kernel", rest)) if KERNEL.contains(&rest) => Ok(()),
        Some(("fs", rest)) if rest.starts_with("mqueue.") => Ok(()),
        _ => Err(mistake(format!("`{name}` would change the host"))),
    }
}

/// Checks a value: numbers and words on one line.
///
/// # Errors
/// What is wrong with it.
pub fn check_sysctl_value(value: &str) -> Result<(), Mistake> {
    if value.is_empty() || value.len() > LONGEST {
        return Err(Mistake::whole(value, format!("a setting has 1 to {LONGEST} bytes")));
    }
    match value.char_indices().find(|(_, c)| c.is_control() && *c != '\t') {
        Some((at, c)) => Err(Mistake::new(at..at + c.len_utf8(), "a setting is one line")),
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
    fn cve_2022_0811_settings_of_the_host_are_refused() {
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
        fn what_is_accepted_stays_below_its_directory(name in "(net|kernel|fs)\\.[a-z0-9_./+-]{0,30}") {
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
