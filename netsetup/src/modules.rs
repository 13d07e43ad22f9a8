//! Kernel modules that another process is loading.
//!
//! The `devices` process loads the modules for networking at every boot. Using a module before it
//! is loaded makes the kernel run `/sbin/modprobe`, which is slower than waiting for it.

use std::path::Path;

/// The modules for bridging.
pub const BRIDGING: &[&str] = &["bridge", "veth"];

/// The modules for the firewall; they are loaded last.
pub const FIREWALL: &[&str] = &["nf_tables", "nft_ct", "nft_nat", "nft_masq", "nft_fib_ipv4"];

/// The first of `names` that is a module in the image and is not loaded yet.
pub fn not_yet_loaded<'a>(names: &[&'a str]) -> Option<&'a str> {
    let in_image =
        |name: &str| Path::new(layout::paths::MODULES).join(format!("{name}.ko")).exists();
    let live = |name: &str| {
        std::fs::read_to_string(format!("/sys/module/{name}/initstate"))
            .is_ok_and(|state| state.trim_end() == "live")
    };
    names.iter().copied().find(|name| in_image(name) && !live(name))
}
